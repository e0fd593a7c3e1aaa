// Fakes that the tests of the functions share.
import type { JobContext } from '../../functions/_shared/drain.ts';
import type { Batch, Credential, Engine, Item, TenantWork } from '../../functions/_shared/engine.ts';
import { createHttp, type Fetch, type Http } from '../../functions/_shared/http.ts';
import { createLog, type Log } from '../../functions/_shared/log.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import type { Meta } from '../../functions/_shared/providers/meta.ts';

export const databaseNow = '2026-11-22T12:00:00.000Z';
export const nowMs = Date.parse(databaseNow);
export const secret = 'k3Yq8Zt1Wm5Rv7Xb2Nc4Pd6Sf9Hg0Jl-test';
export const previousSecret = 'old-Qa8Zt1Wm5Rv7Xb2Nc4Pd6Sf9Hg0Jl-test';
export const drainId = '11111111-1111-4111-8111-111111111111';
export const ticket = '22222222-2222-4222-8222-222222222222';

export function memoryLog(secrets: readonly string[] = []): {
  log: Log;
  lines: string[];
  entries(): LogEntry[];
} {
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line), now: () => nowMs, secrets });
  return { log, lines, entries: () => lines.map((line) => JSON.parse(line) as LogEntry) };
}

export interface LogEntry {
  level: string;
  event: string;
  [field: string]: unknown;
}

export function item(itemId: number, data: Record<string, unknown> = {}): Item {
  return { item_id: itemId, attempt: 1, trace_id: String(itemId).padStart(32, '0'), data };
}

export const metaCredential: Credential = {
  credential_id: 'c1',
  provider: 'meta',
  kind: 'facebook_login',
  source: 'tenant',
  account: { page_id: '100000000000001', ig_user_id: '17841400000000001' },
  secret: { access_token: 'EAAcanary-meta-token+/=0123456789' },
};

export const whatsappCredential: Credential = {
  credential_id: null,
  provider: 'whatsapp',
  kind: 'whatsapp_cloud',
  source: 'platform',
  account: { phone_number_id: '106540000000000' },
  secret: { access_token: 'EAAcanary-whatsapp-token+/=0123456789' },
};

export const waapiCredential: Credential = {
  credential_id: 'c3',
  provider: 'whatsapp',
  kind: 'waapi',
  source: 'tenant',
  account: { instance_id: '1001' },
  secret: { token: 'canary-waapi-token+/=0123456789' },
};

export function work(items: Item[], credential: Credential | null, slug = 'pizza-shop'): TenantWork {
  return { tenant_id: '33333333-3333-4333-8333-333333333333', slug, credential, items };
}

export function batch(batchId: number, tenants: TenantWork[], changes: Partial<Batch> = {}): Batch {
  return {
    batch_id: batchId,
    job: 'verify-social-tasks',
    now: databaseNow,
    lease_until: '2026-11-22T12:01:00.000Z',
    lease_seconds: 60,
    cost_unit: 'items',
    tenants,
    ...changes,
  };
}

/** A context that remembers what was reported. */
export function jobContext(changes: Partial<JobContext> = {}): JobContext & { outcomes: ItemOutcome[] } {
  const outcomes: ItemOutcome[] = [];
  return {
    outcomes,
    now: () => new Date(nowMs),
    leaseIsLost: () => false,
    timeIsUp: () => false,
    leftMs: () => 60_000,
    keepToken: async () => true,
    within: (_items, work) => work(),
    beginEffects: async (itemIds) => [...itemIds],
    bundleEmails: async () => null,
    settleEmails: async () => null,
    recordComments: async () => {},
    report: (...reported) => outcomes.push(...reported),
    log: memoryLog().log,
    ...changes,
  };
}

/** A Meta client whose calls are all refused unless the test gives them. */
export function metaClient(changes: Partial<Meta> = {}): Meta {
  const unexpected = (name: string) => async (): Promise<never> => {
    throw new Error(`unexpected call of ${name}`);
  };
  return {
    commentPage: unexpected('commentPage'),
    tagPage: unexpected('tagPage'),
    mentions: unexpected('mentions'),
    profiles: unexpected('profiles'),
    reactionPage: unexpected('reactionPage'),
    followers: unexpected('followers'),
    whoAmI: unexpected('whoAmI'),
    ...changes,
  };
}

/** An engine whose calls are all refused unless the test gives them. */
export function engine(changes: Partial<Engine> = {}): Engine {
  const unexpected = (name: string) => async (): Promise<never> => {
    throw new Error(`unexpected call of ${name}`);
  };
  return {
    answerDoorbell: unexpected('answerDoorbell'),
    nextBatch: unexpected('nextBatch'),
    nextWake: async () => null,
    beginEffects: unexpected('beginEffects'),
    extendBatch: unexpected('extendBatch'),
    keepRefreshedToken: unexpected('keepRefreshedToken'),
    closeBatch: unexpected('closeBatch'),
    recordComments: unexpected('recordComments'),
    bundleEmails: unexpected('bundleEmails'),
    settleEmails: unexpected('settleEmails'),
    endDrain: unexpected('endDrain'),
    runNow: unexpected('runNow'),
    workBatch: unexpected('workBatch'),
    returnBatch: unexpected('returnBatch'),
    runResult: unexpected('runResult'),
    health: unexpected('health'),
    list: unexpected('list'),
    kindOf: unexpected('kindOf'),
    takeRequest: async () => ({ allowed: true, reason: null, retry_after_seconds: null }),
    ...changes,
  };
}

export interface SentRequest {
  url: string;
  method: string;
  headers: Headers;
  body: string;
}

/** The real HTTP layer over a fake network. */
export function network(answer: (request: SentRequest, count: number) => Response | Promise<Response>): {
  http: Http;
  requests: SentRequest[];
} {
  const requests: SentRequest[] = [];
  const fetch: Fetch = async (url, init) => {
    const body = typeof init.body === 'string' ? init.body : '';
    const request = { url, method: init.method ?? 'GET', headers: new Headers(init.headers), body };
    requests.push(request);
    return await answer(request, requests.length);
  };
  return { http: createHttp({ fetch, timeoutMs: 60, maxBytes: 10_000 }), requests };
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', ...headers },
  });
}

/** What Node's fetch throws when nothing listens. */
export function connectionRefused(): Error {
  return new TypeError('fetch failed', {
    cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }),
  });
}

/** What Node's fetch throws when the other side hangs up. */
export function connectionReset(): Error {
  return new TypeError('fetch failed', { cause: Object.assign(new Error('read'), { code: 'ECONNRESET' }) });
}

export const never = <T>() => new Promise<T>(() => {});
