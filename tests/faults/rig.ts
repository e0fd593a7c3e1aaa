/**
 * What a fault is done to: a database with the engine, the real worker in Deno, a Data API in front of the database that sees every
 * call before and after it happens, pg_net's part played by hand (so that it can lose, repeat and alter), and WhatsApp's simulator.
 * A failpoint is a call that this Data API or the simulator sees: the worker has no hook of its own that could be left in.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { z } from 'zod';
import { environmentNames } from '../../functions/_shared/env.ts';
import { root } from '../../scripts/local/config.ts';
import { setVaultSecrets } from '../../scripts/local/database.ts';
import type { LogEntry, Simulators } from '../../scripts/simulators/index.ts';
import { type DatabaseProxy, startProxy } from '../engine/proxy.ts';
import { type EngineServer, makeTenants, type Scratch, type Sql, setPlan, until } from '../engine/support.ts';

export const job = 'send-notifications';
export const cronSecret = 'k3Yq8Zt1Wm5Rv7Xb2Nc4Pd6Sf9Hg0Jl-faults';
const secretKey = 'sb_secret_canary_of_the_faults';

export interface RigOptions {
  tenants?: number;
  /** Items in flight per tenant. */
  cap?: number;
  ratePerMinute?: number;
  batchSize?: number;
  maxAttempts?: number;
  maxDrains?: number;
  /** The Data API reaches the database by way of a proxy. */
  proxied?: boolean;
}

export interface RigTenant {
  id: string;
  slug: string;
  token: string;
}

/** A call of the worker that the Data API saw. */
export interface Call {
  name: string;
  /** The how manieth of this name. */
  nth: number;
  args: Record<string, unknown>;
}

/** `drop`: what was seen goes no further (before: it is not done; after: it is done, and nobody hears of it). */
export type Seen = (call: Call) => Promise<undefined | 'drop' | { status: number; code: string }> | undefined;

export interface Doorbell {
  url: string;
  headers: Record<string, string>;
  body: string;
}

const logLine = z.looseObject({ event: z.string().optional(), item: z.number().optional() });

export class Rig {
  readonly scratch: Scratch;
  readonly sql: Sql;
  readonly admin: Sql;
  readonly tenants: RigTenant[];
  readonly options: RigOptions;
  readonly simulators: Simulators;
  readonly calls: Call[] = [];
  /** All lines of all workers that ran: the process log. */
  readonly lines: string[] = [];
  /** What was accepted: an enqueue of these numbers was answered. */
  readonly accepted = new Set<number>();
  /** What may have been accepted: its answer was lost. */
  readonly maybe = new Set<number>();
  readonly proxy: DatabaseProxy | undefined;
  before: Seen = () => undefined;
  after: Seen = () => undefined;
  /** What the worker is started with instead of the usual. */
  environment: Record<string, string> = {};
  #server: Server;
  #api: Sql;
  #worker: ChildProcess | undefined;
  #port: number;
  #since: number;
  #counts = new Map<string, number>();
  #next = 0;

  private constructor(parts: {
    scratch: Scratch;
    tenants: RigTenant[];
    options: RigOptions;
    simulators: Simulators;
    proxy: DatabaseProxy | undefined;
    server: Server;
    port: number;
  }) {
    this.scratch = parts.scratch;
    this.sql = parts.scratch.sql;
    this.admin = parts.scratch.connect({ url: parts.scratch.adminUrl, max: 2 });
    this.tenants = parts.tenants;
    this.options = parts.options;
    this.simulators = parts.simulators;
    this.proxy = parts.proxy;
    this.#server = parts.server;
    this.#port = parts.port;
    this.#since = parts.simulators.requests.lastSeq();
    this.#api = postgres(parts.proxy?.url ?? parts.scratch.url, {
      max: 6,
      onnotice: () => {},
      connect_timeout: 5,
      // As PostgREST: what the worker may do is what service_role may.
      connection: { role: 'service_role' },
    });
    this.#server.on('request', (request, response) => {
      void (async () => {
        let text = '';
        for await (const chunk of request) text += String(chunk);
        const answer = await this.#answer(request.url ?? '', request.headers, text);
        if (answer === undefined) request.socket.destroy();
        else
          response
            .writeHead(answer.status, { 'content-type': 'application/json' })
            .end(JSON.stringify(answer.body ?? null));
      })().catch(() => request.socket.destroy());
    });
  }

  static async open(
    engine: EngineServer,
    simulators: Simulators,
    name: string,
    options: RigOptions = {},
  ): Promise<Rig> {
    const scratch = await engine.scratch();
    const { sql } = scratch;
    await setPlan(sql, 'enterprise', { cap: options.cap ?? 50 });
    if (options.ratePerMinute !== undefined)
      await sql`update public.plans set rate_per_minute = ${options.ratePerMinute} where plan_id = 'enterprise'`;
    // The job as it is shipped, with its worker; only what it says comes from the payload.
    await sql.unsafe(`
      create table public.told (n int not null, outcome text not null, status text, message_id text);
      create function public.load_told(t uuid[], i bigint[], s uuid[], p jsonb[]) returns setof jobs.loaded
      language sql stable set search_path = '' as $$
        select u.item_id, jsonb_build_object('outbox_id', u.payload ->> 'n', 'to', '+49151' || lpad(u.payload ->> 'n', 8, '0'),
          'text', format('%s #%s', x.slug, u.payload ->> 'n')) || (u.payload - 'n'), null::timestamptz, null::text, false
        from unnest(t, i, p) as u (tenant_id, item_id, payload) join public.tenants x on x.id = u.tenant_id
      $$;
      create function public.apply_told(ended jobs.ended[]) returns void language sql set search_path = '' as $$
        insert into public.told
        select right(e.subject_id::text, 12)::int, e.outcome, e.result ->> 'status', e.result ->> 'provider_message_id'
        from unnest(ended) e
      $$`);
    await sql`
      update jobs.definitions
      set load_function = 'public.load_told', apply_function = 'public.apply_told', lease_seconds = 30, max_attempts = ${options.maxAttempts ?? 50},
        backoff_seconds = 0.001, backoff_limit_seconds = 0.01, batch_size = ${options.batchSize ?? 8}, quantum = 4,
        max_drains = ${options.maxDrains ?? 2}, breaker_after = 1000
      where job = ${job}`;
    const ids = await makeTenants(sql, options.tenants ?? 3);
    const rows = await sql<{ id: string; slug: string }[]>`
      select id, slug from public.tenants where id = any (${ids}) order by slug`;
    const mark = scratch.name.replaceAll(/[^0-9]/g, '');
    const tenants = rows.map(({ id, slug }, index) => ({
      id,
      slug: `${slug}-${mark}`,
      token: `canary-token-${name}-${mark}-${index}`,
    }));
    for (const [index, tenant] of tenants.entries()) {
      await sql`update public.tenants set slug = ${tenant.slug} where id = ${tenant.id}`;
      const phone = `${mark}${String(index).padStart(3, '0')}`;
      await sql`select private.set_credential(${tenant.id}, 'whatsapp', 'whatsapp_cloud',
        ${sql.json({ access_token: tenant.token })}, ${sql.json({ phone_number_id: phone })})`;
      await control(simulators, '/_world', {
        numbers: [{ phone_number_id: phone, tenant: tenant.slug, messages_per_second: null, pair: null }],
        tokens: [{ token: tenant.token, tenant: tenant.slug, numbers: [phone] }],
      });
    }
    const proxy = options.proxied ? await startProxy(scratch.url) : undefined;
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const rig = new Rig({
      scratch,
      tenants,
      options,
      simulators,
      proxy,
      server,
      port: await freePort(),
    });
    await setVaultSecrets(scratch.adminUrl, { project_url: rig.workerUrl, cron_secret: cronSecret });
    await sql`update jobs.platform set last_tick_at = clock_timestamp()`;
    return rig;
  }

  // The worker ---------------------------------------------------------------------------------------------------------

  get workerUrl(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get isRunning(): boolean {
    const child = this.#worker;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  async start(): Promise<void> {
    if (this.isRunning) return;
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the Data API has no port');
    const { WHATSAPP_URL, RESEND_URL } = this.simulators.env;
    const providers = [WHATSAPP_URL, RESEND_URL].filter((url) => url !== '').map((url) => new URL(url).host);
    const hosts = [`127.0.0.1:${this.#port}`, `127.0.0.1:${address.port}`, ...providers];
    const child = spawn(
      `${root}/node_modules/.bin/deno`,
      [
        'run',
        '--no-prompt',
        '--config=functions/deno.json',
        '--node-modules-dir=manual',
        `--allow-env=${environmentNames.join(',')}`,
        `--allow-net=${hosts.join(',')}`,
        'functions/worker/index.ts',
      ],
      {
        cwd: root,
        env: {
          PATH: process.env.PATH,
          HOME: process.env.HOME,
          NO_COLOR: '1',
          DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${this.#port}`,
          SUPABASE_URL: `http://127.0.0.1:${address.port}`,
          SUPABASE_SECRET_KEYS: JSON.stringify({ default: secretKey }),
          CRON_SECRET: cronSecret,
          WHATSAPP_URL,
          ...(RESEND_URL === '' ? {} : { RESEND_URL }),
          PROVIDER_TIMEOUT_MS: '4000',
          ...this.environment,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
        // A group of its own: what npm puts before the program goes with it.
        detached: true,
      },
    );
    this.#worker = child;
    await new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.lines.push(line);
          if (line.startsWith('Listening')) resolve();
        });
      }
      child.once('exit', (code) => reject(new Error(`deno ended with ${code}: ${this.lines.join('\n')}`)));
    });
  }

  signal(name: NodeJS.Signals): void {
    const pid = this.#worker?.pid;
    if (this.isRunning && pid !== undefined) process.kill(-pid, name);
  }

  /** kill -9, at once. */
  async kill(): Promise<void> {
    const child = this.#worker;
    if (!child || !this.isRunning) return;
    child.removeAllListeners('exit');
    const gone = once(child, 'exit');
    this.signal('SIGKILL');
    await gone;
  }

  // The Data API -------------------------------------------------------------------------------------------------------

  async #answer(
    url: string,
    headers: IncomingHttpHeaders,
    text: string,
  ): Promise<{ status: number; body: unknown } | undefined> {
    const name = /^\/rest\/v1\/rpc\/(\w+)$/.exec(url)?.[1];
    if (name === undefined) return { status: 404, body: { code: 'PGRST202', message: url } };
    if (headers.apikey !== secretKey) return { status: 401, body: { code: 'PGRST301', message: 'no key' } };
    const args = z.record(z.string(), z.unknown()).parse(JSON.parse(text || '{}'));
    const nth = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, nth);
    const call = { name, nth, args };
    this.calls.push(call);
    const early = await this.before(call);
    if (early === 'drop') return undefined;
    if (early) return { status: early.status, body: { code: early.code, message: 'as the fault says' } };
    const words = Object.keys(args);
    const invoked = `jobs.${name}(${words.map((word, index) => `${word} => $${index + 1}`).join(', ')})`;
    let body: unknown;
    try {
      const [row] = await this.#api.unsafe<{ answer: unknown }[]>(
        name === 'end_drain' ? `select null as answer, ${invoked}` : `select to_jsonb(${invoked}) as answer`,
        words.map((word) => args[word] as postgres.ParameterOrJSON<never>),
      );
      body = row?.answer;
    } catch (error) {
      const code = error instanceof postgres.PostgresError ? error.code : 'PGRST001';
      const message = error instanceof Error ? error.message : String(error);
      return { status: /^(PGRST|08|53|57)/.test(code) ? 503 : 400, body: { code, message } };
    }
    const late = await this.after(call);
    if (late === 'drop') return undefined;
    if (late) return { status: late.status, body: { code: late.code, message: 'as the fault says' } };
    return { status: 200, body };
  }

  // Work and its ways --------------------------------------------------------------------------------------------------

  /** Enqueues messages, spread over the tenants unless one is named; returns their numbers. */
  async enqueue(
    count: number,
    options: { tenant?: number; data?: Record<string, unknown> } = {},
  ): Promise<number[]> {
    const numbers = Array.from({ length: count }, () => ++this.#next);
    const of = (n: number) => this.tenants[options.tenant ?? n % this.tenants.length]?.id ?? '';
    await this.sql`
      select jobs.enqueue_many(${job}, ${numbers.map(of)}::uuid[], ${numbers.map(subjectOf)}::uuid[],
        payloads => ${numbers.map((n) => JSON.stringify({ n, ...options.data }))}::text[]::jsonb[])`;
    for (const n of numbers) this.accepted.add(n);
    return numbers;
  }

  /** A number for an enqueue that the fault makes itself. */
  number(): number {
    return ++this.#next;
  }

  /** A tick as it comes: it leaves at once when another one, or the end of a drain, is under way. */
  async tickOnce(): Promise<Record<string, unknown>> {
    const [row] = await this.sql<{ tick: Record<string, unknown> }[]>`select jobs.tick() as tick`;
    return row?.tick ?? {};
  }

  /** A tick that works. */
  async tick(): Promise<Record<string, unknown>> {
    for (;;) {
      const answer = await this.tickOnce();
      if (!('skipped' in answer)) return answer;
      await delay(10);
    }
  }

  /** Takes what pg_net would send. It is gone from its queue, as after a batch. */
  async doorbells(): Promise<Doorbell[]> {
    const rows = await this.admin<{ url: string; headers: Record<string, string>; body: string }[]>`
      delete from net.http_request_queue returning url, headers, convert_from(body, 'UTF8') as body`;
    return [...rows];
  }

  /** Rings one; the status of the answer, 0 for none. */
  async ring(doorbell: Doorbell): Promise<number> {
    try {
      const response = await fetch(doorbell.url, {
        method: 'POST',
        headers: doorbell.headers,
        body: doorbell.body,
        signal: AbortSignal.timeout(2_000),
      });
      await response.text();
      return response.status;
    } catch {
      return 0;
    }
  }

  /** A tick, and all doorbells as they should be rung. */
  async turn(): Promise<number[]> {
    await this.tick();
    return await Promise.all((await this.doorbells()).map((each) => this.ring(each)));
  }

  /** Time passes: leases run out, drains fall silent, breakers and pauses are over. Only right while no worker is at work. */
  async pass(): Promise<void> {
    await this.sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
    await this.sql`
      update jobs.drains set rung_at = rung_at - interval '1 hour', answered_at = answered_at - interval '1 hour',
        seen_at = seen_at - interval '1 hour'
      where ended_at is null`;
    await this.sql`update jobs.breakers set open_until = clock_timestamp() where state = 'open'`;
    await this.sql`delete from jobs.throttles`;
    await this.sql`
      update jobs.lanes set wake_at = least(wake_at, clock_timestamp()), not_before = '-infinity' where wake_at is not null`;
  }

  async left(): Promise<number> {
    const [row] = await this.sql<
      { left: number }[]
    >`select ((select count(*) from jobs.items where job = ${job}) + (select count(*) from jobs.leased_items where job = ${job}))::int as left`;
    return row?.left ?? 0;
  }

  /** Ticks and rings until everything has ended and every drain is over. A worker that is gone is started, after its leases. */
  async settle(patienceMs = 60_000): Promise<void> {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      if (!this.isRunning) {
        await this.pass();
        await this.start();
      }
      await this.turn();
      const [row] = await this.sql<{ items: number; drains: number }[]>`
        select ((select count(*) from jobs.items) + (select count(*) from jobs.leased_items))::int as items,
          (select count(*)::int from jobs.drains where ended_at is null) as drains`;
      if (row?.items === 0 && row.drains === 0) break;
      if (Date.now() > deadline)
        throw new Error(`${row?.items} items, ${row?.drains} drains after ${patienceMs} ms`);
      await delay(40);
    }
    await this.doorbells();
  }

  /** Waits until the provider has seen so many messages of this rig. */
  async messages(count: number): Promise<void> {
    await until(`${count} messages at the provider`, async () => this.received().length >= count);
  }

  /** The provider's own record: every request of this rig's tenants, also those with a wrong token. */
  received(): LogEntry[] {
    const own = new Set(this.tenants.map((tenant) => tenant.slug));
    return this.simulators.requests
      .list({ provider: 'whatsapp', since: this.#since })
      .filter(
        (entry) => own.has(entry.tenant ?? '') || own.has(String(entry.about.text).split(' #')[0] ?? ''),
      );
  }

  /** The process log, as far as it is about items. */
  events(): { event: string; item: number }[] {
    return this.lines.flatMap((line) => {
      if (!line.startsWith('{')) return [];
      const parsed = logLine.safeParse(JSON.parse(line));
      return parsed.success && parsed.data.event !== undefined && parsed.data.item !== undefined
        ? [{ event: parsed.data.event, item: parsed.data.item }]
        : [];
    });
  }

  get canaries(): string[] {
    return [secretKey, cronSecret, ...this.tenants.map((tenant) => tenant.token)];
  }

  async simulatorLog(): Promise<string> {
    await this.simulators.requests.flush();
    return readFileSync(this.simulators.logFile, 'utf8');
  }

  async close(): Promise<void> {
    this.signal('SIGCONT');
    await this.kill();
    await this.#api.end({ timeout: 1 });
    this.#server.closeAllConnections();
    this.#server.close();
    await this.proxy?.stop();
    await control(this.simulators, '/_script', undefined, 'DELETE');
    await this.scratch.drop();
  }
}

/** The id that a message's number is known by in the database. */
export const subjectOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

/** Tells WhatsApp's simulator what to do. */
export async function control(
  simulators: Simulators,
  path: string,
  body?: unknown,
  method = 'POST',
): Promise<void> {
  const response = await fetch(`${simulators.urls.whatsapp}${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`the simulator refused ${path}: ${await response.text()}`);
}

async function freePort(): Promise<number> {
  const server = createSocket().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
