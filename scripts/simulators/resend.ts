// Resend's e-mail API: one mail, a batch, idempotency keys that are kept for 24 hours, rate headers.
import { hash, randomUUID } from 'node:crypto';
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

const accountInput = z.strictObject({
  api_key: z.string().min(1),
  tenant: z.string().min(1),
  /** null: no limit. */
  requests_per_second: z.int().min(1).nullable().default(2),
  /** Mails until `daily_quota_exceeded`; null: no limit. */
  daily_quota: z.int().min(0).nullable().default(null),
  /** Mails until `monthly_quota_exceeded`; null: no limit. */
  monthly_quota: z.int().min(0).nullable().default(null),
  /** The key may not send: 401 `restricted_api_key`. */
  restricted: z.boolean().default(false),
  /** Domains that it may send from, or `*`. */
  domains: z.union([z.literal('*'), z.array(z.string())]).default('*'),
});

const worldSchema = z.strictObject({
  accounts: z.array(accountInput).default([]),
  /** Makes everything that is remembered about idempotency keys this much older. */
  age_keys_seconds: z.int().min(0).default(0),
  remove: z.strictObject({ accounts: z.array(z.string()).default([]) }).optional(),
});
export type ResendWorldInput = z.input<typeof worldSchema>;

interface Kept {
  at: number;
  body: string;
  /** null: the first request is still being answered. */
  answer: Answer | null;
}
type Account = z.output<typeof accountInput> & {
  windowAt: number;
  requests: number;
  sentToday: number;
  sentThisMonth: number;
  keys: Map<string, Kept>;
};

export interface ResendEmail {
  id: string;
  at: string;
  tenant: string;
  from: string;
  to: string[];
  subject: string;
  text: string | null;
  html: string | null;
  idempotency_key: string | null;
}

const keyLifeMs = 24 * 3600 * 1000;
const maxBatch = 100;
const maxRecipients = 50;

const names: Record<number, string> = {
  400: 'validation_error',
  401: 'missing_api_key',
  403: 'invalid_api_key',
  404: 'not_found',
  405: 'method_not_allowed',
  409: 'concurrent_idempotent_requests',
  422: 'validation_error',
  429: 'rate_limit_exceeded',
  451: 'security_error',
  500: 'application_error',
};
const statuses: Record<string, number> = {
  invalid_idempotency_key: 400,
  validation_error: 422,
  missing_api_key: 401,
  restricted_api_key: 401,
  invalid_api_key: 403,
  not_found: 404,
  method_not_allowed: 405,
  invalid_idempotent_request: 409,
  concurrent_idempotent_requests: 409,
  invalid_attachment: 422,
  invalid_from_address: 422,
  invalid_access: 422,
  invalid_parameter: 422,
  invalid_region: 422,
  missing_required_field: 422,
  rate_limit_exceeded: 429,
  daily_quota_exceeded: 429,
  monthly_quota_exceeded: 429,
  security_error: 451,
  application_error: 500,
  internal_server_error: 500,
};

const scriptedError = z.strictObject({ name: z.string(), message: z.string().optional() });

function failed(name: string, message: string, status = statuses[name] ?? 500): Answer {
  const body = { statusCode: status, name, message };
  return { status, body, kind: status === 429 ? 'throttled' : 'error', code: name };
}

const addressOf = (text: string): string | null =>
  /^[^<>]*<([^<>@\s]+@[^<>@\s]+\.[^<>@\s]+)>$/.exec(text)?.[1] ??
  /^[^<>@\s]+@[^<>@\s]+\.[^<>@\s]+$/.exec(text)?.[0] ??
  null;

export function createResend(content: 'demo' | 'empty'): Provider {
  const accounts = new Map<string, Account>();
  let emails: ResendEmail[] = [];

  function apply(change: unknown): { accounts: number } {
    const input = worldSchema.parse(change);
    for (const account of input.accounts) {
      const keys = accounts.get(account.api_key)?.keys ?? new Map<string, Kept>();
      accounts.set(account.api_key, {
        ...account,
        windowAt: 0,
        requests: 0,
        sentToday: 0,
        sentThisMonth: 0,
        keys,
      });
    }
    for (const account of accounts.values()) {
      for (const kept of account.keys.values()) kept.at -= input.age_keys_seconds * 1000;
    }
    for (const key of input.remove?.accounts ?? []) accounts.delete(key);
    return { accounts: input.accounts.length };
  }

  if (content === 'demo')
    apply({ accounts: [{ api_key: demo.platform.resend.api_key, tenant: 'platform' }] });

  function read(request: SimulatedRequest): Reading {
    const body = parseBody(request);
    const about: Record<string, unknown> = {};
    const key = request.headers['idempotency-key'];
    if (typeof key === 'string') about.idempotency_key = key;
    if (Array.isArray(body)) {
      about.emails = body.length;
      about.to = body.map((email) => (isRecord(email) ? email.to : null));
      about.subject = body.map((email) => (isRecord(email) ? email.subject : null));
    } else if (isRecord(body) && body.to !== undefined) {
      about.to = body.to;
      about.subject = body.subject ?? null;
      about.from = body.from ?? null;
    }
    return { token: bearer(request.headers), about };
  }

  /** What is wrong with one mail, if anything is. */
  function trouble(account: Account, email: unknown, inBatch: boolean): Answer | null {
    if (!isRecord(email)) return failed('validation_error', 'The email must be an object.');
    const templated = isRecord(email.template);
    for (const name of templated ? ['to'] : ['from', 'to', 'subject']) {
      if (email[name] === undefined || email[name] === '') {
        return failed('missing_required_field', `Missing \`${name}\` field.`);
      }
    }
    const from = typeof email.from === 'string' ? addressOf(email.from) : null;
    if (email.from !== undefined && from === null) {
      const message =
        'Invalid `from` field. The email address needs to follow the `email@example.com` or `Name <email@example.com>` format.';
      return failed('validation_error', message);
    }
    const domain = from?.split('@')[1] ?? '';
    if (account.domains !== '*' && from !== null && !account.domains.includes(domain)) {
      return failed('validation_error', `The ${domain} domain is not verified.`, 403);
    }
    const to = Array.isArray(email.to) ? email.to : [email.to];
    // Such a line would end a header and begin another one.
    if ([email.from, email.subject, ...to].some((line) => typeof line === 'string' && /[\r\n]/.test(line))) {
      return failed('validation_error', 'A header must not contain line breaks.');
    }
    if (
      to.length === 0 ||
      to.length > maxRecipients ||
      !to.every((one) => typeof one === 'string' && addressOf(one))
    ) {
      return failed('validation_error', 'Invalid `to` field.');
    }
    if (!templated && email.html === undefined && email.text === undefined) {
      return failed('missing_required_field', 'Missing `html` or `text` field.');
    }
    if (inBatch && email.attachments !== undefined) {
      return failed('validation_error', 'Attachments are not supported in a batch.');
    }
    return null;
  }

  function deliver(
    account: Account,
    email: Record<string, unknown>,
    key: string | null,
    now: number,
  ): ResendEmail {
    const sent: ResendEmail = {
      id: randomUUID(),
      at: new Date(now).toISOString(),
      tenant: account.tenant,
      from: String(email.from ?? ''),
      to: (Array.isArray(email.to) ? email.to : [email.to]).map(String),
      subject: String(email.subject ?? ''),
      text: typeof email.text === 'string' ? email.text : null,
      html: typeof email.html === 'string' ? email.html : null,
      idempotency_key: key,
    };
    emails.push(sent);
    if (emails.length > 110_000) emails = emails.slice(-100_000);
    account.sentToday += 1;
    account.sentThisMonth += 1;
    return sent;
  }

  function post(account: Account, request: SimulatedRequest, key: string | null, now: number): Answer {
    const body = parseBody(request);
    const batch = request.path === '/emails/batch';
    if (body === null) return failed('validation_error', 'The body is not JSON.', 400);
    const list: unknown[] = batch ? (Array.isArray(body) ? body : []) : [body];
    if (list.length === 0 || list.length > maxBatch) {
      return failed('validation_error', `A batch is an array of 1 to ${maxBatch} emails.`);
    }
    if (account.daily_quota !== null && account.sentToday + list.length > account.daily_quota) {
      return failed('daily_quota_exceeded', 'You have reached your daily email sending quota.');
    }
    if (account.monthly_quota !== null && account.sentThisMonth + list.length > account.monthly_quota) {
      return failed('monthly_quota_exceeded', 'You have reached your monthly email sending quota.');
    }
    const permissive = batch && request.headers['x-batch-validation'] === 'permissive';
    const errors: { index: number; message: string }[] = [];
    const good: Record<string, unknown>[] = [];
    for (const [index, email] of list.entries()) {
      const wrong = trouble(account, email, batch);
      if (wrong === null) good.push(email as Record<string, unknown>);
      else if (!permissive) return wrong;
      else errors.push({ index, message: String((wrong.body as { message: string }).message) });
    }
    const sent = good.map((email) => deliver(account, email, key, now));
    const ids = sent.map(({ id }) => ({ id }));
    return {
      status: 200,
      body: batch ? { data: ids, ...(permissive ? { errors } : {}) } : ids[0],
      kind: 'ok',
      effects: sent.map(({ id, to }) => ({ kind: 'email', id, to: to.join(','), delivered: true })),
    };
  }

  function rateHeaders(account: Account, now: number): Record<string, string> {
    if (account.requests_per_second === null) return {};
    return {
      'ratelimit-limit': String(account.requests_per_second),
      'ratelimit-remaining': String(Math.max(0, account.requests_per_second - account.requests)),
      'ratelimit-reset': String(Math.max(1, Math.ceil((account.windowAt + 1000 - now) / 1000))),
    };
  }

  function handle(request: SimulatedRequest, reading: Reading, context: Context): Answer {
    const { now } = context;
    if (reading.token === null)
      return failed('missing_api_key', 'Missing API key in the authorization header');
    const account = accounts.get(reading.token);
    if (!account) return failed('invalid_api_key', 'API key is invalid');
    if (account.restricted) {
      return failed('restricted_api_key', 'This API key is restricted to other actions.');
    }
    if (now - account.windowAt >= 1000) {
      account.windowAt = now;
      account.requests = 0;
    }
    account.requests += 1;
    const limit = account.requests_per_second;
    const headers = rateHeaders(account, now);
    const finish = (answer: Answer): Answer => ({ ...answer, headers: { ...headers, ...answer.headers } });
    if (limit !== null && account.requests > limit) {
      const message = `Too many requests. You can only make ${limit} requests per second.`;
      return { ...failed('rate_limit_exceeded', message), headers: { ...headers, 'retry-after': '1' } };
    }
    const one = /^\/emails\/([0-9a-f-]{36})$/.exec(request.path)?.[1];
    if (request.method === 'GET' && one !== undefined) {
      const email = emails.find((other) => other.id === one && other.tenant === account.tenant);
      if (!email) return finish(failed('not_found', 'Email not found'));
      const { id, at, from, to, subject } = email;
      const body = { object: 'email', id, to, from, created_at: at, subject, last_event: 'delivered' };
      return finish({ status: 200, body, kind: 'ok' });
    }
    if (request.path !== '/emails' && request.path !== '/emails/batch') {
      return finish(failed('not_found', 'The requested endpoint does not exist.'));
    }
    if (request.method !== 'POST') return finish(failed('method_not_allowed', 'Method is not allowed.'));
    const header = request.headers['idempotency-key'];
    if (header === undefined) return finish(post(account, request, null, now));
    const key = String(header);
    if (key.length < 1 || key.length > 256) {
      return finish(
        failed('invalid_idempotency_key', 'The idempotency key must be 1 to 256 characters long.'),
      );
    }
    // Both endpoints have their own keys; the same key with another body is refused for good.
    const name = `${request.path} ${key}`;
    const bodyHash = hash('sha256', request.raw, 'hex');
    const kept = account.keys.get(name);
    if (kept && now - kept.at < keyLifeMs) {
      if (kept.body !== bodyHash) {
        const message = 'This idempotency key has been used with a different request body.';
        return finish(failed('invalid_idempotent_request', message));
      }
      if (kept.answer === null) {
        const message = 'A request with this idempotency key is being processed.';
        return finish(failed('concurrent_idempotent_requests', message));
      }
      return finish({ ...kept.answer, kind: 'replayed', effects: [] });
    }
    const answer = post(account, request, key, now);
    if (answer.status !== 200) return finish(answer);
    const entry: Kept = { at: now, body: bodyHash, answer: null };
    account.keys.set(name, entry);
    const settle = () => {
      entry.answer = answer;
    };
    return finish({ ...answer, settle });
  }

  return {
    name: 'resend',
    read,
    tenantOf: (token) => accounts.get(token)?.tenant ?? null,
    handle,
    scriptedErrors: scriptedError,
    error(error, status, retryAfter) {
      const given = error as z.output<typeof scriptedError> | undefined;
      const code = status ?? (given ? (statuses[given.name] ?? 500) : retryAfter === undefined ? 500 : 429);
      const name = given?.name ?? names[code] ?? 'application_error';
      return failed(name, given?.message ?? 'Scripted error', code);
    },
    apply,
    show: () => ({
      accounts: [...accounts.values()].map(({ api_key, keys, windowAt, requests, ...rest }) => ({
        api_key: fingerprint(api_key),
        ...rest,
        idempotency_keys: keys.size,
      })),
      messages: emails.length,
    }),
    messages: () => emails,
  };
}
