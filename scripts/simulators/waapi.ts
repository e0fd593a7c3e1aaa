// A WaAPI-style gateway: HTTP 200 carries two envelopes. The outer one says that the request reached the instance,
// only the inner one says whether anything was sent.
import { z } from 'zod';
import { fingerprint } from './log.ts';
import {
  type Answer,
  bearer,
  type Context,
  isRecord,
  type Provider,
  parseBody,
  type Reading,
  type SimulatedRequest,
} from './server.ts';
import { demo } from './world.ts';

const instanceInput = z.strictObject({
  instance_id: z.string().min(1),
  tenant: z.string().min(1),
  token: z.string().min(1),
  /** false: the outer envelope says error, and nothing is sent. */
  ready: z.boolean().default(true),
  /** true: 409, the instance has another action under way, and nothing is sent. */
  busy: z.boolean().default(false),
  /** How deep `_serialized` lies in the answer: it varies between versions of the gateway. */
  id_depth: z.int().min(0).max(6).default(0),
  /** Requests per minute before 429; null: no limit. */
  requests_per_minute: z.int().min(1).nullable().default(null),
});

const worldSchema = z.strictObject({
  instances: z.array(instanceInput).default([]),
  /** Numbers (digits) that have no WhatsApp: accepted, never delivered, not found by `get-number-id`. */
  not_on_whatsapp: z.array(z.string().regex(/^\d+$/)).default([]),
  remove: z.strictObject({ instances: z.array(z.string()).default([]) }).optional(),
});
export type WaapiWorldInput = z.input<typeof worldSchema>;

type Instance = z.output<typeof instanceInput> & { windowAt: number; requests: number };

export interface WaapiMessage {
  id: string;
  at: string;
  instance_id: string;
  tenant: string;
  chat_id: string;
  text: string;
  delivered: boolean;
  /** Why nobody will receive it. */
  reason: string | null;
}

const scriptedError = z.strictObject({
  /** `inner`: the action was refused; `outer`: the instance was not reached. Both are HTTP 200. */
  envelope: z.enum(['inner', 'outer']).optional(),
  message: z.string(),
  explanation: z.string().optional(),
});

const statusWords: Record<number, string> = {
  400: 'The action was rejected.',
  401: 'Unauthenticated.',
  403: 'This action is unauthorized.',
  404: 'Not Found',
  409: 'Another action is running on this instance.',
  422: 'The given data was invalid.',
  429: 'Too Many Attempts.',
};

const suffixes = ['c.us', 'lid', 'g.us', 'newsletter'];

export function createWaapi(content: 'demo' | 'empty'): Provider {
  const instances = new Map<string, Instance>();
  const strangers = new Set<string>();
  let messages: WaapiMessage[] = [];
  let count = 0;

  function apply(change: unknown): { instances: string[] } {
    const input = worldSchema.parse(change);
    for (const instance of input.instances) {
      instances.set(instance.instance_id, { ...instance, windowAt: 0, requests: 0 });
    }
    for (const number of input.not_on_whatsapp) strangers.add(number);
    for (const id of input.remove?.instances ?? []) instances.delete(id);
    return { instances: input.instances.map((instance) => instance.instance_id) };
  }

  if (content === 'demo') apply({ instances: [{ ...demo['pizza-shop'].waapi, tenant: 'pizza-shop' }] });

  const ownerOf = (token: string): Instance | undefined =>
    [...instances.values()].find((instance) => instance.token === token);

  const routeOf = (path: string) => {
    const found =
      /^(?:\/api\/v1)?\/instances(?:\/([^/]+)(?:\/client\/(?:action\/([^/]+)|(status)))?)?\/?$/.exec(path);
    return found ? { instanceId: found[1], action: found[2] ?? found[3] } : null;
  };

  function read(request: SimulatedRequest): Reading {
    const body = parseBody(request);
    const way = routeOf(request.path);
    const about: Record<string, unknown> = {};
    if (way?.instanceId !== undefined) {
      about.instance_id = way.instanceId;
      about.target_tenant = instances.get(way.instanceId)?.tenant ?? null;
    }
    if (way?.action !== undefined) about.action = way.action;
    if (isRecord(body)) {
      if (way === null && body.number !== undefined) about.to = body.number;
      if (body.chatId !== undefined) about.to = body.chatId;
      if (body.message !== undefined) about.text = body.message;
    }
    // Other gateways take the key in the body.
    const key = way === null && isRecord(body) && typeof body.api_key === 'string' ? body.api_key : null;
    return { token: bearer(request.headers) ?? key, about };
  }

  const failed = (status: number, message: string, headers: Record<string, string> = {}): Answer => ({
    status,
    headers,
    body: { message },
    kind: status === 429 ? 'throttled' : 'error',
    code: String(status),
  });

  const refused = (message: string, explanation?: string): Answer => ({
    status: 200,
    body: {
      status: 'success',
      data: { status: 'error', message, ...(explanation === undefined ? {} : { explanation }) },
    },
    kind: 'refused',
    code: 'inner',
  });

  const notReady = (message: string): Answer => ({
    status: 200,
    body: { status: 'error', message },
    kind: 'refused',
    code: 'outer',
  });

  const done = (instanceId: string, data: unknown): Answer => ({
    status: 200,
    body: { status: 'success', data: { status: 'success', instanceId, data } },
    kind: 'ok',
  });

  function unprocessable(names: string[]): Answer {
    const errors = Object.fromEntries(names.map((name) => [name, ['required']]));
    return {
      status: 422,
      body: { message: 'The given data was invalid.', errors },
      kind: 'error',
      code: '422',
    };
  }

  function sendMessage(instance: Instance, body: Record<string, unknown>, context: Context): Answer {
    const { chatId, message } = body;
    const absent = Object.entries({ chatId, message }).filter(
      ([, value]) => typeof value !== 'string' || value === '',
    );
    if (absent.length > 0) return unprocessable(absent.map(([name]) => name));
    const to = String(chatId);
    const [number = '', suffix] = to.split('@');
    if (suffix === undefined) {
      const explanation = `"${to}" is missing a domain, expected <id>@c.us.`;
      return refused('incorrect chatId format.', explanation);
    }
    // A wrong suffix is accepted like any other, and nobody ever receives the message.
    const reason = !suffixes.includes(suffix)
      ? `unknown suffix @${suffix}`
      : suffix === 'c.us' && !/^\d{7,15}$/.test(number)
        ? 'not a number with country code'
        : strangers.has(number)
          ? 'not on WhatsApp'
          : null;
    count += 1;
    const id = `true_${to}_${String(context.seq).padStart(8, '0')}${String(count).padStart(8, '0')}`;
    messages.push({
      id,
      at: new Date(context.now).toISOString(),
      instance_id: instance.instance_id,
      tenant: instance.tenant,
      chat_id: to,
      text: String(message),
      delivered: reason === null,
      reason,
    });
    if (messages.length > 110_000) messages = messages.slice(-100_000);
    let data: Record<string, unknown> = { _data: { id: { fromMe: true, remote: to, _serialized: id } } };
    for (let depth = 0; depth < instance.id_depth; depth += 1) {
      data = { from: { _serialized: 'the.sender@c.us' }, message: data };
    }
    const answer = done(instance.instance_id, data);
    return { ...answer, effects: [{ kind: 'message', id, to, delivered: reason === null }] };
  }

  /** What many small gateways have in common: `POST /send-message`, and a status that is true or false. */
  function sendPlain(owner: Instance, request: SimulatedRequest, context: Context): Answer {
    if (request.method !== 'POST' && request.method !== 'PUT') return failed(405, 'Method Not Allowed');
    const body = parseBody(request);
    const told = (msg: string): Answer => ({
      ...{ status: 200, body: { status: false, msg }, kind: 'refused', code: 'false' },
    });
    if (!isRecord(body)) return told('The body is not a JSON object.');
    for (const name of ['number', 'message', 'sender']) {
      if (typeof body[name] !== 'string' || body[name] === '') return told(`The ${name} field is required.`);
    }
    if (!owner.ready) return told('The device is not connected.');
    const sent = sendMessage(owner, { chatId: `${body.number}@c.us`, message: body.message }, context);
    const data = { id: messages.at(-1)?.id };
    return { ...sent, body: { status: true, msg: 'Message sent successfully!', data } };
  }

  function handle(request: SimulatedRequest, reading: Reading, context: Context): Answer {
    const owner = reading.token === null ? undefined : ownerOf(reading.token);
    if (!owner) return failed(401, 'Unauthenticated.');
    if (request.path === '/send-message') return sendPlain(owner, request, context);
    const way = routeOf(request.path);
    if (!way) return failed(404, 'Not Found');
    if (way.instanceId === undefined) {
      const own = [...instances.values()].filter((instance) => instance.token === owner.token);
      const body = {
        instances: own.map((instance) => ({ id: Number(instance.instance_id), owner: owner.tenant })),
      };
      return { status: 200, body, kind: 'ok' };
    }
    const instance = instances.get(way.instanceId);
    if (!instance) return failed(404, `No instance ${way.instanceId}`);
    if (instance.token !== owner.token) return failed(403, 'This action is unauthorized.');
    if (context.now - instance.windowAt >= 60_000) {
      instance.windowAt = context.now;
      instance.requests = 0;
    }
    instance.requests += 1;
    if (instance.requests_per_minute !== null && instance.requests > instance.requests_per_minute) {
      const seconds = Math.max(1, Math.ceil((instance.windowAt + 60_000 - context.now) / 1000));
      return failed(429, 'Too Many Attempts.', { 'retry-after': String(seconds) });
    }
    if (way.action === 'status') {
      return done(way.instanceId, { instanceStatus: instance.ready ? 'ready' : 'qr' });
    }
    if (way.action === undefined || request.method !== 'POST') return failed(405, 'Method Not Allowed');
    const body = parseBody(request);
    if (!isRecord(body)) return failed(400, 'The body is not a JSON object.');
    if (!instance.ready) return notReady('instance not ready');
    if (instance.busy) return failed(409, 'Another action is running on this instance.');
    if (way.action === 'send-message') return sendMessage(instance, body, context);
    if (way.action === 'get-number-id') {
      if (typeof body.number !== 'string' && typeof body.number !== 'number')
        return unprocessable(['number']);
      const digits = String(body.number).replace(/\D/g, '');
      const known = /^\d{7,15}$/.test(digits) && !strangers.has(digits);
      return done(instance.instance_id, {
        numberId: known ? { server: 'c.us', user: digits, _serialized: `${digits}@c.us` } : null,
      });
    }
    return failed(400, `The action ${way.action} is not simulated.`);
  }

  return {
    name: 'waapi',
    read,
    tenantOf: (token) => ownerOf(token)?.tenant ?? null,
    handle,
    scriptedErrors: scriptedError,
    error(error, status, retryAfter) {
      const given = error as z.output<typeof scriptedError> | undefined;
      if (given && status === undefined && retryAfter === undefined) {
        return given.envelope === 'outer'
          ? notReady(given.message)
          : refused(given.message, given.explanation);
      }
      return failed(status ?? 429, given?.message ?? statusWords[status ?? 429] ?? 'Server Error');
    },
    apply,
    show: () => ({
      instances: [...instances.values()].map(({ token, windowAt, requests, ...rest }) => ({
        token: fingerprint(token),
        ...rest,
      })),
      not_on_whatsapp: [...strangers],
      messages: messages.length,
    }),
    messages: () => messages,
  };
}
