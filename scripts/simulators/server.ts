// The frame that all simulators share: read, log, script, answer, and the control paths (`/_log`, `/_script`,
// `/_world`, `/_messages`, `/_events`). A provider only says what a request means and what the real service would answer.
import { hash } from 'node:crypto';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';
import type { Effect, LogEntry, ProviderName, RequestLog } from './log.ts';
import { fingerprint } from './log.ts';
import { type Behaviour, createScripts, type MessageStatus, type Scripts } from './script.ts';

export interface SimulatedRequest {
  method: string;
  /** Without the query. */
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  raw: Buffer;
  /** What the caller addressed, e.g. `http://127.0.0.1:4010`. */
  origin: string;
  /** seq of the batch call that this call is part of. */
  batch?: number;
}

export interface Reading {
  token: string | null;
  /** The essentials for the log. Never a token. */
  about: Record<string, unknown>;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  /** A string is sent as it is, anything else as JSON. */
  body: unknown;
  kind: string;
  code?: string;
  effects?: Effect[];
  /** Called when the answer has left, or was thrown away. */
  settle?: () => void;
}

/** What the real service would push to a webhook: one change. `scripts/simulators` only says that it happened. */
export interface SimulatedEvent {
  provider: ProviderName;
  /** Owner of the account that it happened to. */
  tenant: string;
  /** The webhook's `object`, e.g. `whatsapp_business_account`. */
  object: string;
  /** `entry[].id`: the WhatsApp Business account, the Page, the Instagram account. */
  entryId: string;
  /** `entry[].changes[].field`. */
  field: string;
  /** `entry[].changes[].value`. */
  value: Record<string, unknown>;
}

/** Called at once; must not throw. Whoever takes the event decides whether, when and how often it is delivered. */
export type OnEvent = (event: SimulatedEvent) => void;

/** What a script asks of the provider's own logic. */
export interface Wanted {
  emptyPage: boolean;
  thenFail: number | null;
  /** The states of a message in the order in which they are told; null: the usual ones. */
  statuses: readonly MessageStatus[] | null;
}

export interface Context {
  /** Unix time in ms. */
  now: number;
  wanted: Wanted;
  seq: number;
  /** Receives, logs and answers a call inside a batch call; null: it timed out. */
  inner(request: SimulatedRequest): Answer | null;
}

export interface Provider {
  name: ProviderName;
  /** Parameters of the query that are replaced in the log. */
  secretParameters?: string[];
  read(request: SimulatedRequest): Reading;
  tenantOf(token: string): string | null;
  handle(request: SimulatedRequest, reading: Reading, context: Context): Answer;
  /** The shape of `do.error` in a script. */
  scriptedErrors: z.ZodType;
  /** An error in the provider's own words. `retryAfter`: seconds. */
  error(error: unknown, status: number | undefined, retryAfter: number | undefined): Answer;
  /** Changes the world; throws a ZodError that says what is wrong. */
  apply(change: unknown): unknown;
  /** The world as anyone may see it: tokens as fingerprints. */
  show(): unknown;
  /** What left through this provider, oldest first; empty for one that only reads. */
  messages(): unknown[];
  /** What it told `onEvent`, oldest first; left out by one that tells nothing. */
  events?(): SimulatedEvent[];
}

const latency = z.strictObject({ latency_ms: z.int().min(0).max(60_000) }).partial();
const maxBody = 45 * 1024 * 1024;
const jsonType = 'application/json; charset=utf-8';

function safePath(request: SimulatedRequest, secrets: string[]): string {
  const text = request.query.toString();
  if (text === '') return request.path;
  if (!secrets.some((name) => request.query.has(name))) return `${request.path}?${text}`;
  const query = new URLSearchParams(request.query);
  for (const name of secrets) if (query.has(name)) query.set(name, 'redacted');
  return `${request.path}?${query.toString()}`;
}

function bearer(headers: IncomingHttpHeaders): string | null {
  return /^bearer\s+(\S+)\s*$/i.exec(headers.authorization ?? '')?.[1] ?? null;
}

function readBody(message: IncomingMessage): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    message.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxBody) chunks.push(chunk);
    });
    message.on('end', () =>
      resolve(size > maxBody ? null : chunks.length === 1 ? (chunks[0] ?? null) : Buffer.concat(chunks)),
    );
    message.on('error', () => resolve(null));
    message.on('aborted', () => resolve(null));
  });
}

/** JSON or form body as a record; null when it is neither. */
export function parseBody(request: SimulatedRequest): Record<string, unknown> | unknown[] | null {
  if (request.raw.length === 0) return {};
  const type = request.headers['content-type'] ?? '';
  const text = request.raw.toString('utf8');
  if (type.includes('application/x-www-form-urlencoded'))
    return Object.fromEntries(new URLSearchParams(text));
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) || Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export { bearer };

export interface Simulator {
  provider: Provider;
  url: string;
  scripts: Scripts;
  stop(): Promise<void>;
}

export interface ServerOptions {
  log: RequestLog;
  /** 0: any free port. */
  port: number;
  latencyMs: number;
}

/** Starts one simulator on 127.0.0.1. */
export async function startServer(provider: Provider, options: ServerOptions): Promise<Simulator> {
  const { log } = options;
  const scripts = createScripts(provider.scriptedErrors);
  const secrets = ['access_token', 'token', 'api_key', ...(provider.secretParameters ?? [])];
  let latencyMs = options.latencyMs;
  const timers = new Set<NodeJS.Timeout>();

  function receive(request: SimulatedRequest): { reading: Reading; entry: LogEntry } {
    const reading = provider.read(request);
    const entry = log.receive({
      provider: provider.name,
      method: request.method,
      path: safePath(request, secrets),
      tenant: reading.token === null ? null : provider.tenantOf(reading.token),
      token: reading.token === null ? null : fingerprint(reading.token),
      body_sha256: request.raw.length === 0 ? null : hash('sha256', request.raw, 'hex'),
      about: reading.about,
      ...(request.batch === undefined ? {} : { batch: request.batch }),
    });
    return { reading, entry };
  }

  function context(seq: number, wanted: Behaviour | undefined): Context {
    return {
      now: Date.now(),
      seq,
      wanted: {
        emptyPage: wanted?.empty_page === true,
        thenFail: wanted?.then_fail ?? null,
        statuses: wanted?.statuses ?? null,
      },
      inner,
    };
  }

  /** The scripted answer, or null when the script leaves the answer to the provider. */
  function scriptedAnswer(wanted: Behaviour): Answer | null {
    const headers: Record<string, string> = { ...wanted.headers };
    if (wanted.retry_after !== undefined) headers['retry-after'] = String(wanted.retry_after);
    const finish = (answer: Answer): Answer => ({ ...answer, headers: { ...answer.headers, ...headers } });
    if (wanted.redirect !== undefined) {
      const status = wanted.status ?? 302;
      return finish({ status, headers: { location: wanted.redirect }, body: '', kind: 'redirect' });
    }
    if (wanted.html !== undefined) {
      const type = { 'content-type': 'text/html; charset=utf-8' };
      return finish({ status: wanted.status ?? 502, headers: type, body: wanted.html, kind: 'html' });
    }
    if (wanted.body !== undefined) {
      return finish({ status: wanted.status ?? 200, body: wanted.body, kind: 'scripted' });
    }
    if (wanted.error !== undefined || wanted.status !== undefined || wanted.retry_after !== undefined) {
      return finish(provider.error(wanted.error, wanted.status, wanted.retry_after));
    }
    return null;
  }

  /** Decides the answer and lets the effect happen; what is done with the answer is up to the caller. */
  function decide(
    request: SimulatedRequest,
    reading: Reading,
    seq: number,
    wanted: Behaviour | undefined,
  ): Answer {
    if (wanted === undefined) return provider.handle(request, reading, context(seq, undefined));
    const scripted = scriptedAnswer(wanted);
    const silent = wanted.never === true || wanted.reset === 'before';
    const effect = wanted.effect ?? (scripted === null && !silent);
    const real = effect ? provider.handle(request, reading, context(seq, wanted)) : null;
    if (scripted !== null) {
      return {
        ...scripted,
        ...(real?.effects ? { effects: real.effects } : {}),
        ...(real?.settle ? { settle: real.settle } : {}),
      };
    }
    if (real === null) return { status: 500, body: '', kind: 'none' };
    return wanted.headers ? { ...real, headers: { ...real.headers, ...wanted.headers } } : real;
  }

  function note(entry: LogEntry, answer: Answer, script: number | undefined, kind?: string): void {
    log.answered(entry, {
      status: kind === undefined ? answer.status : null,
      kind: kind ?? answer.kind,
      ...(answer.code === undefined ? {} : { code: answer.code }),
      ...(script === undefined ? {} : { script }),
      effects: answer.effects ?? [],
    });
    answer.settle?.();
  }

  function inner(request: SimulatedRequest): Answer | null {
    const { reading, entry } = receive(request);
    const script = scripts.take({ ...request, token: reading.token });
    const answer = decide(request, reading, entry.seq, script?.do);
    const silent = script?.do.never === true || script?.do.reset !== undefined;
    note(entry, answer, script?.id, silent ? 'never' : undefined);
    return silent ? null : answer;
  }

  function send(response: ServerResponse, answer: Answer): void {
    const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
    response.writeHead(answer.status, {
      'content-type': jsonType,
      'content-length': Buffer.byteLength(text),
      ...answer.headers,
    });
    response.end(text);
  }

  function sendHalf(response: ServerResponse, answer: Answer): void {
    const bytes = Buffer.from(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
    response.writeHead(answer.status, {
      'content-type': jsonType,
      'content-length': bytes.length,
      ...answer.headers,
    });
    // An orderly end of the connection in the middle of the body, so that the first half does arrive.
    response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => response.socket?.end());
  }

  function act(message: IncomingMessage, response: ServerResponse, request: SimulatedRequest): void {
    const { reading, entry } = receive(request);
    const script = scripts.take({ ...request, token: reading.token });
    const wanted = script?.do;
    const answer = decide(request, reading, entry.seq, wanted);

    const finish = () => {
      if (wanted?.never) return note(entry, answer, script?.id, 'never');
      if (wanted?.reset === 'before' || wanted?.reset === 'after') {
        note(entry, answer, script?.id, `reset ${wanted.reset}`);
        message.socket.resetAndDestroy();
        return;
      }
      if (wanted?.reset === 'half-body') {
        note(entry, answer, script?.id, 'half body');
        sendHalf(response, answer);
        return;
      }
      note(entry, answer, script?.id);
      if (!response.destroyed) send(response, answer);
    };
    const delay = wanted?.delay_ms ?? latencyMs;
    if (delay === 0) {
      finish();
      return;
    }
    const timer = setTimeout(() => {
      timers.delete(timer);
      finish();
    }, delay);
    timers.add(timer);
  }

  function parseJson(raw: Buffer): unknown {
    try {
      return JSON.parse(raw.toString('utf8'));
    } catch {
      throw new BadControl('the body is not JSON');
    }
  }

  function control(request: SimulatedRequest): unknown {
    const { method, path, query } = request;
    const integer = (name: string): number | undefined => {
      const text = query.get(name);
      if (text === null) return undefined;
      if (!/^\d{1,15}$/.test(text)) throw new BadControl(`${name} must be a whole number`);
      return Number(text);
    };
    if (path === '/_log' && method === 'GET') {
      const since = integer('since') ?? 0;
      const limit = integer('limit');
      const all = query.get('provider') === 'all';
      const entries = log.list({
        since,
        ...(limit === undefined ? {} : { limit }),
        ...(all ? {} : { provider: provider.name }),
      });
      return { entries, last_seq: log.lastSeq(), dropped_until: log.droppedUntil() };
    }
    if (path === '/_log' && method === 'DELETE') {
      log.clear(provider.name);
      return { cleared: true, last_seq: log.lastSeq() };
    }
    if (path === '/_script' && method === 'POST') return { scripts: scripts.add(parseJson(request.raw)) };
    if (path === '/_script' && method === 'GET') return { scripts: scripts.list() };
    if (path === '/_script' && method === 'DELETE') {
      scripts.clear();
      return { scripts: [] };
    }
    if (path === '/_world' && method === 'GET')
      return { latency_ms: latencyMs, ...(provider.show() as object) };
    if (path === '/_world' && method === 'POST') {
      const change = parseJson(request.raw);
      if (!isRecord(change)) throw new BadControl('the body must be an object');
      const { latency_ms, ...rest } = change;
      const wanted = latency.parse(latency_ms === undefined ? {} : { latency_ms });
      const created = provider.apply(rest);
      latencyMs = wanted.latency_ms ?? latencyMs;
      return { created };
    }
    if (path === '/_messages' && method === 'GET') return { messages: provider.messages() };
    if (path === '/_events' && method === 'GET') return { events: provider.events?.() ?? [] };
    return undefined;
  }

  function answerControl(response: ServerResponse, request: SimulatedRequest): void {
    try {
      const body = control(request);
      if (body === undefined) {
        const paths =
          'GET|DELETE /_log, GET|POST|DELETE /_script, GET|POST /_world, GET /_messages, GET /_events';
        send(response, {
          status: 404,
          body: { error: `no such control; there are ${paths}` },
          kind: 'control',
        });
      } else {
        send(response, { status: 200, body, kind: 'control' });
      }
    } catch (error) {
      if (error instanceof z.ZodError || error instanceof BadControl) {
        const text = error instanceof z.ZodError ? z.prettifyError(error) : error.message;
        send(response, { status: 400, body: { error: text }, kind: 'control' });
        return;
      }
      throw error;
    }
  }

  async function serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const origin = `http://${message.headers.host ?? '127.0.0.1'}`;
    const target = message.url ?? '/';
    const mark = target.indexOf('?');
    const raw = await readBody(message);
    if (raw === null) {
      if (!response.destroyed)
        send(response, { status: 413, body: { error: 'the body is too long' }, kind: 'error' });
      return;
    }
    const request: SimulatedRequest = {
      method: message.method ?? 'GET',
      path: mark < 0 ? target : target.slice(0, mark),
      query: new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1)),
      headers: message.headers,
      raw,
      origin,
    };
    if (request.path.startsWith('/_')) answerControl(response, request);
    else act(message, response, request);
  }

  const server: Server = createServer((message, response) => {
    serve(message, response).catch((error: unknown) => {
      // A simulator that fails must be told apart from a provider that was scripted to fail.
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stderr.write(`simulator ${provider.name} failed: ${text}\n`);
      if (!response.headersSent)
        send(response, { status: 599, body: { simulator_failed: text }, kind: 'error' });
      else response.destroy();
    });
  });
  server.keepAliveTimeout = 30_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port } = server.address() as AddressInfo;

  return {
    provider,
    url: `http://127.0.0.1:${port}`,
    scripts,
    async stop() {
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

class BadControl extends Error {}
