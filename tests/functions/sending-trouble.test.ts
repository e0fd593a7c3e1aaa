// What goes wrong between us and whoever carries the messages, by the numbers of the project's list of faults: the real
// jobs and clients against the simulators, each with the outcome that it must have and the messages that really left.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { JobHandler } from '../../functions/_shared/drain.ts';
import type { Credential, Item } from '../../functions/_shared/engine.ts';
import { createHttp, type Http } from '../../functions/_shared/http.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import { createResend } from '../../functions/_shared/providers/resend.ts';
import { createWaapi } from '../../functions/_shared/providers/waapi.ts';
import { createWhatsApp } from '../../functions/_shared/providers/whatsapp.ts';
import { createSendEmails } from '../../functions/worker/jobs/send-emails.ts';
import { createSendNotifications } from '../../functions/worker/jobs/send-notifications.ts';
import { type SimulatedEvent, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { item, jobContext, memoryLog, work } from './fakes.ts';

type Way = 'whatsapp' | 'waapi' | 'resend';

const phone = '200000000000001';
const tokens = { whatsapp: 'canary-whatsapp-token', waapi: 'canary-waapi-token', resend: 're_canary_key' };
/** Kept beside the token for webhooks; sending has no business with them. */
const kept = { app_secret: 'canary-app-secret', verify_token: 'canary-verify-token' };

const credentials: Record<Way, Credential> = {
  whatsapp: {
    credential_id: '1',
    provider: 'whatsapp',
    kind: 'whatsapp_cloud',
    source: 'tenant',
    account: { phone_number_id: phone },
    secret: { access_token: tokens.whatsapp, ...kept },
  },
  waapi: {
    credential_id: '2',
    provider: 'whatsapp',
    kind: 'waapi',
    source: 'tenant',
    account: { instance_id: '2001' },
    secret: { token: tokens.waapi },
  },
  resend: {
    credential_id: '3',
    provider: 'email',
    kind: 'resend',
    source: 'tenant',
    account: { from: 'Pizza Shop <hi@pizza.example>' },
    secret: { api_key: tokens.resend },
  },
};

let simulators: Simulators;
let events: SimulatedEvent[] = [];
/** Everything that the jobs logged and answered, and every request, in the whole file. */
const said: string[] = [];
const asked: { url: string; headers: Record<string, string>; body: string }[] = [];

const { log, lines } = memoryLog();

/** As they are wired. */
function handlersWith(http: Http, urls: Partial<Record<Way, string>> = {}): Record<string, JobHandler> {
  const own = { ...simulators.urls, ...urls };
  const whatsapp = createWhatsApp({ http, url: own.whatsapp });
  const waapi = createWaapi({ http, url: own.waapi });
  const resend = createResend({ http, url: own.resend });
  return {
    'send-notifications': createSendNotifications({ senders: { whatsapp_cloud: whatsapp, waapi } }),
    'send-emails': createSendEmails({ senders: { resend } }),
  };
}

async function control(method: string, url: string, body?: unknown): Promise<unknown> {
  const init = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  const response = await fetch(url, init);
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  return await response.json();
}
const script = (way: Way, behaviour: unknown) =>
  control('POST', `${simulators.urls[way]}/_script`, behaviour);
const messagesOf = async (way: Way) =>
  ((await control('GET', `${simulators.urls[way]}/_messages`)) as { messages: unknown[] }).messages.length;
const calls = (way: Way) => simulators.requests.list({ provider: way }).length;

/** The world as it is before each test: nobody is slow, limited or broken. */
async function worldAsItWas(): Promise<void> {
  await control('POST', `${simulators.urls.whatsapp}/_world`, {
    numbers: [{ phone_number_id: phone, tenant: 'pizza-shop', pair: null, messages_per_second: null }],
    tokens: [{ token: tokens.whatsapp, tenant: 'pizza-shop', numbers: [phone] }],
  });
  await control('POST', `${simulators.urls.waapi}/_world`, {
    instances: [{ instance_id: '2001', tenant: 'pizza-shop', token: tokens.waapi }],
  });
  await control('POST', `${simulators.urls.resend}/_world`, {
    accounts: [{ api_key: tokens.resend, tenant: 'pizza-shop', requests_per_second: null }],
  });
}

const spyingFor =
  (timeoutMs: number): Http =>
  (request) => {
    asked.push({ url: request.url, headers: request.headers ?? {}, body: request.body ?? '' });
    return createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs })(request);
  };
const spying = spyingFor(10_000);
/** Where silence is what the test is about. */
const impatient = spyingFor(400);
const httpFor = (behaviour: object) => ('never' in behaviour || 'delay_ms' in behaviour ? impatient : spying);

/** Another tenant's credential for the same service. */
async function neighbourOf(way: Way): Promise<Credential> {
  const token = `${way}-neighbour-token`;
  const { whatsapp, waapi, resend } = credentials;
  if (way === 'whatsapp') {
    await control('POST', `${simulators.urls.whatsapp}/_world`, {
      numbers: [{ phone_number_id: '200000000000002', tenant: 'gym', pair: null }],
      tokens: [{ token, tenant: 'gym', numbers: ['200000000000002'] }],
    });
    const account = { phone_number_id: '200000000000002' };
    return { ...whatsapp, account, secret: { access_token: token } };
  }
  if (way === 'waapi') {
    const instances = [{ instance_id: '2002', tenant: 'gym', token }];
    await control('POST', `${simulators.urls.waapi}/_world`, { instances });
    return { ...waapi, account: { instance_id: '2002' }, secret: { token } };
  }
  const accounts = [{ api_key: token, tenant: 'gym', requests_per_second: null }];
  await control('POST', `${simulators.urls.resend}/_world`, { accounts });
  return { ...resend, secret: { api_key: token } };
}

beforeAll(async () => {
  simulators = await startSimulators({
    only: ['whatsapp', 'waapi', 'resend'],
    world: 'empty',
    onEvent: (event) => events.push(event),
  });
});
beforeEach(worldAsItWas);
afterEach(async () => {
  for (const way of ['whatsapp', 'waapi', 'resend'] as const) {
    await control('DELETE', `${simulators.urls[way]}/_script`);
  }
  simulators.requests.clear();
  events = [];
});
afterAll(async () => {
  await simulators.stop();
});

let lastId = 0;
function messages(way: Way, count: number, changes: Record<string, unknown> = {}): Item[] {
  return Array.from({ length: count }, () => {
    lastId += 1;
    const data =
      way === 'resend'
        ? {
            outbox_id: `o${lastId}`,
            to: `person${lastId}@example.com`,
            subject: `Well done ${lastId}`,
            text: 'Your task is verified.',
            idempotency_key: `o${lastId}`,
          }
        : {
            outbox_id: `o${lastId}`,
            to: `+49151${String(lastId).padStart(8, '0')}`,
            text: `Well done ${lastId}`,
            callback: `tenant-1/o${lastId}`,
          };
    return item(lastId, { ...data, ...changes });
  });
}

async function run(
  way: Way,
  items: Item[],
  options: {
    credential?: Credential;
    http?: Http;
    urls?: Partial<Record<Way, string>>;
    /** 0: nothing is waited for on the spot. */
    leftMs?: number;
  } = {},
): Promise<ItemOutcome[]> {
  const job = way === 'resend' ? 'send-emails' : 'send-notifications';
  const handler = handlersWith(options.http ?? spying, options.urls)[job];
  if (handler === undefined) throw new Error(`no handler of ${job}`);
  const leftMs = () => options.leftMs ?? 60_000;
  const context = jobContext({ now: () => new Date(), log, leftMs });
  await handler(work(items, options.credential ?? credentials[way]), context);
  said.push(JSON.stringify(context.outcomes));
  return context.outcomes;
}
const unknown = { outcome: 'done', result: { status: 'unknown' } };
const sent = { outcome: 'done', result: { status: 'sent' } };
const retry = { outcome: 'retry' };

describe.each(['whatsapp', 'waapi'] as const)('%s has no idempotency key', (way) => {
  test.each([
    ['51 silence after the message left', { never: true, effect: true }, 1],
    ['51 silence, and it did not leave', { never: true }, 0],
    ['51 an answer that comes too late', { delay_ms: 3_000 }, 1],
    ['52 a reset before anything was done', { reset: 'before' }, 0],
    ['52 a reset after the message left', { reset: 'after' }, 1],
    ['52 an answer that breaks off', { reset: 'half-body' }, 1],
    ['59 an HTML page with 200, and it left', { html: '<html>log in</html>', status: 200, effect: true }, 1],
    ['59 an HTML page with 200, and it did not', { html: '<html>log in</html>', status: 200 }, 0],
    ['59 truncated JSON with 200', { body: '{"messages":[{"id":"wam', effect: true }, 1],
    ['59 an empty object with 200', { body: {}, effect: true }, 1],
    ['59 a list where an object belongs', { body: [], effect: true }, 1],
    ['59 null where an object belongs', { body: { messages: null, data: null, status: null } }, 0],
    ['52 a 502 of a proxy after the message left', { html: '<h1>Bad</h1>', status: 502, effect: true }, 1],
    ['52 a 502 of a proxy before it left', { html: '<h1>Bad</h1>', status: 502 }, 0],
    [
      '65 a redirect that may follow a finished send',
      { redirect: 'https://elsewhere.test/', status: 302 },
      0,
    ],
  ])('%s: unknown, and never called again', async (_name, behaviour, left) => {
    const before = await messagesOf(way);
    await script(way, { do: behaviour });
    expect(await run(way, messages(way, 1), { http: httpFor(behaviour) })).toMatchObject([unknown]);
    expect(calls(way)).toBe(1);
    expect(await messagesOf(way)).toBe(before + left);
  });

  test('65 a redirect that says "not here" may be tried again, and is not followed', async () => {
    await script(way, { do: { redirect: 'https://elsewhere.test/', status: 307 } });
    expect(await run(way, messages(way, 1))).toMatchObject([retry]);
    expect(calls(way)).toBe(1);
  });

  test('59 extra fields and an odd content type don’t make a success less of one', async () => {
    await script(way, {
      do: { headers: { 'content-type': 'text/plain', 'x-from': 'tomorrow' } },
    });
    expect(await run(way, messages(way, 1))).toMatchObject([sent]);
  });

  test('57 a service that fails every second time: nothing twice, nothing lost', async () => {
    const before = await messagesOf(way);
    const error =
      way === 'whatsapp' ? { code: 131016 } : { envelope: 'outer', message: 'instance not ready' };
    let waiting = messages(way, 24);
    for (const left of [12, 6, 3, 0]) {
      if (left > 0) {
        const failing = waiting.slice(0, left).map((each) => ({
          match: { contains: `"${String(each.data.text)}"` },
          do: { error },
        }));
        await script(way, failing);
      }
      const outcomes = await run(way, waiting);
      const back = new Set(outcomes.filter(({ outcome }) => outcome === 'retry').map((each) => each.item_id));
      expect(back.size).toBe(left);
      waiting = waiting.filter((each) => back.has(each.item_id));
    }
    expect(await messagesOf(way)).toBe(before + 24);
  });

  test('56 a slow service is asked once for each message, and no other message waits longer for it', async () => {
    await script(way, { times: 'always', do: { delay_ms: 3_000 } });
    const outcomes = await run(way, messages(way, 8), { http: impatient });
    expect(outcomes).toMatchObject(Array(8).fill(unknown));
    expect(calls(way)).toBe(8);
  });
});

describe('mail has an idempotency key', () => {
  test.each([
    ['51 silence after the mail left', { never: true, effect: true }],
    ['51 silence, and it did not leave', { never: true }],
    ['52 a reset before anything was done', { reset: 'before' }],
    ['52 a reset after the mail left', { reset: 'after' }],
    ['52 an answer that breaks off', { reset: 'half-body' }],
    ['57 a 502 of a proxy after the mail left', { html: '<h1>Bad</h1>', status: 502, effect: true }],
    ['57 a 502 of a proxy before it left', { html: '<h1>Bad</h1>', status: 502 }],
    ['59 an HTML page with 200', { html: '<html>log in</html>', status: 200, effect: true }],
    ['59 truncated JSON with 200', { body: '{"id":"49a', effect: true }],
    ['59 null where an id belongs', { body: { id: null }, effect: true }],
    ['65 a redirect', { redirect: 'https://elsewhere.test/' }],
  ])('%s: tried again under the same key, one mail in the end', async (_name, behaviour) => {
    const before = await messagesOf('resend');
    const one = messages('resend', 1);
    await script('resend', { do: behaviour });
    expect(await run('resend', one, { http: httpFor(behaviour) })).toMatchObject([retry]);
    expect(await run('resend', one)).toMatchObject([sent]);
    expect(await messagesOf('resend')).toBe(before + 1);
  });

  test('60 the same key with another content is refused for good, and is not sent', async () => {
    const [one] = messages('resend', 1);
    if (!one) throw new Error('no mail');
    expect(await run('resend', [one])).toMatchObject([sent]);
    const before = await messagesOf('resend');
    const other = { ...one, data: { ...one.data, text: 'Something else.' } };
    expect(await run('resend', [other])).toMatchObject([
      { outcome: 'refused', error: expect.stringContaining('invalid_idempotent_request') },
    ]);
    expect(await messagesOf('resend')).toBe(before);
  });

  test('51 the same mail while it is still under way comes back later, and is sent once', async () => {
    const before = await messagesOf('resend');
    const one = messages('resend', 1);
    await script('resend', { do: { delay_ms: 200 } });
    const first = run('resend', one);
    await expect.poll(() => calls('resend')).toBe(1);
    expect(await run('resend', one)).toMatchObject([{ outcome: 'retry', after_seconds: 5 }]);
    expect(await first).toMatchObject([sent]);
    expect(await messagesOf('resend')).toBe(before + 1);
  });

  test('63 a quota that runs out in the middle: the rest is put off to the next day, not failed', async () => {
    const accounts = [
      { api_key: tokens.resend, tenant: 'pizza-shop', requests_per_second: null, daily_quota: 2 },
    ];
    await control('POST', `${simulators.urls.resend}/_world`, { accounts });
    const outcomes = await run('resend', messages('resend', 5));
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(['done', 'done', ...Array(3).fill('throttled')]);
    expect(calls('resend')).toBe(3);
  });

  test('55 tenants that share the platform’s account keep its limit together', async () => {
    const accounts = [{ api_key: tokens.resend, tenant: 'platform', requests_per_second: 2 }];
    await control('POST', `${simulators.urls.resend}/_world`, { accounts });
    const handler = handlersWith(spying)['send-emails'];
    if (handler === undefined) throw new Error('no handler');
    const credential = { ...credentials.resend, source: 'platform' as const };
    const contexts = await Promise.all(
      ['1', '2', '3'].map(async (digit) => {
        const context = jobContext({ now: () => new Date(), log });
        const tenant_id = `66666666-6666-4666-8666-66666666666${digit}`;
        await handler({ ...work(messages('resend', 2), credential), tenant_id }, context);
        return context;
      }),
    );
    expect(contexts.flatMap(({ outcomes }) => outcomes)).toMatchObject(Array(6).fill(sent));
    const statuses = simulators.requests.list({ provider: 'resend' }).map(({ answer }) => answer?.status);
    expect(statuses).toEqual(Array(6).fill(200));
  });

  test('a limit of two mails a second is kept: nothing is refused, all are sent', async () => {
    const accounts = [{ api_key: tokens.resend, tenant: 'pizza-shop', requests_per_second: 2 }];
    await control('POST', `${simulators.urls.resend}/_world`, { accounts });
    const outcomes = await run('resend', messages('resend', 5));
    expect(outcomes).toMatchObject(Array(5).fill(sent));
    const refused = simulators.requests
      .list({ provider: 'resend' })
      .filter(({ answer }) => answer?.status === 429);
    expect(refused).toEqual([]);
  });
});

describe.each(['whatsapp', 'waapi', 'resend'] as const)('%s', (way) => {
  const throttled = (behaviour: object) =>
    way === 'whatsapp'
      ? { status: 429, error: { code: 130429 }, ...behaviour }
      : { status: 429, ...behaviour };
  const usual = { whatsapp: 30, waapi: 60, resend: 1 }[way];

  test.each([
    ['9', 9],
    ['0', 1],
    ['-5', 1],
    ['999999999', 3600],
    ['garbage', usual],
    ['120s', usual],
    ['', usual],
    [null, usual],
  ])('53 a 429 with retry-after %j waits %i s, and no attempt is burnt', async (header, seconds) => {
    const headers = header === null ? {} : { headers: { 'retry-after': header } };
    await script(way, { times: 'always', do: throttled(headers) });
    const outcomes = await run(way, messages(way, 1), { leftMs: 0 });
    expect(outcomes).toMatchObject([{ outcome: 'throttled', seconds }]);
  });

  test('53 a 429 with a date waits until then', async () => {
    const date = new Date(Date.now() + 90_000).toUTCString();
    await script(way, { do: throttled({ headers: { 'retry-after': date } }) });
    const [outcome] = await run(way, messages(way, 1));
    expect(outcome?.outcome).toBe('throttled');
    expect((outcome as { seconds: number }).seconds).toBeGreaterThan(85);
    expect((outcome as { seconds: number }).seconds).toBeLessThanOrEqual(90);
  });

  test('54 a storm of 429: one group of calls for a batch, the rest goes back untried', async () => {
    await script(way, { times: 'always', do: throttled({ headers: { 'retry-after': '600' } }) });
    const begun: number[] = [];
    for (let serving = 1; serving <= 5; serving += 1) {
      const outcomes = await run(way, messages(way, 20));
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(Array(20).fill('throttled'));
      begun.push(calls(way));
    }
    const most = way === 'resend' ? 1 : 4;
    expect(begun).toEqual([1, 2, 3, 4, 5].map((serving) => serving * most));
  });

  test.each([401, 403])(
    '58 a token that is revoked (%i) stops the tenant, not its neighbour',
    async (status) => {
      if (way === 'whatsapp' && status === 403) return; // there the code speaks, below
      const own = { token: tokens[way] };
      await script(way, { match: own, times: 'always', do: { status } });
      const outcomes = await run(way, messages(way, 9));
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(Array(9).fill('credential_broken'));
      expect(calls(way)).toBeLessThanOrEqual(4);
      const neighbour = await neighbourOf(way);
      expect(await run(way, messages(way, 1), { credential: neighbour })).toMatchObject([sent]);
    },
  );

  test.each([
    ['64 a name that does not exist', 'ENOTFOUND'],
    ['64 a name server that does not answer', 'EAI_AGAIN'],
    ['64 a connection that is refused', 'ECONNREFUSED'],
    ['64 a certificate that expired', 'CERT_HAS_EXPIRED'],
    ['64 a certificate of another host', 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['64 a certificate that nobody signed', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ])('%s: nothing left, so it is tried again', async (_name, code) => {
    const http = createHttp({
      fetch: () =>
        Promise.reject(new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code }) })),
      timeoutMs: 400,
    });
    expect(await run(way, messages(way, 1), { http })).toMatchObject([retry]);
  });

  test('64 a port where nobody listens, for real', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const urls = { [way]: `http://127.0.0.1:${port}` };
    expect(await run(way, messages(way, 1), { urls })).toMatchObject([retry]);
  });

  test('65 a redirect takes the secret nowhere', async () => {
    const visitors: string[] = [];
    const server = createServer((request, response) => {
      visitors.push(JSON.stringify(request.headers));
      response.end('{}');
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      for (const status of [301, 302, 303, 307, 308]) {
        await script(way, { do: { status, redirect: `http://127.0.0.1:${port}/` } });
        expect(await run(way, messages(way, 1))).not.toMatchObject([sent]);
      }
      expect(visitors).toEqual([]);
      // The server does see those who come.
      await fetch(`http://127.0.0.1:${port}/`);
      expect(visitors).toHaveLength(1);
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

describe('what is over, and what may go on', () => {
  test.each([
    [131026, { outcome: 'done', result: { status: 'failed', code: 131026 } }],
    [131049, { outcome: 'done', result: { status: 'failed', code: 131049 } }],
    [131050, { outcome: 'done', result: { status: 'failed', code: 131050 } }],
    [100, { outcome: 'refused' }],
    [131030, { outcome: 'refused' }],
  ])('62 WhatsApp %i ends one message at once, the others go on', async (code, expected) => {
    const items = messages('whatsapp', 3);
    await script('whatsapp', {
      match: { contains: `"${String(items[1]?.data.text)}"` },
      do: { error: { code } },
    });
    const outcomes = await run('whatsapp', items);
    expect(new Map(outcomes.map((each) => [each.item_id, each]))).toMatchObject(
      new Map([
        [items[0]?.item_id, sent],
        [items[1]?.item_id, expected],
        [items[2]?.item_id, sent],
      ]),
    );
    expect(calls('whatsapp')).toBe(3);
  });

  test('62 a number that the gateway knows to be wrong is refused, a mail with a bad field too', async () => {
    await script('waapi', { do: { error: { message: 'incorrect chatId format.' } } });
    expect(await run('waapi', messages('waapi', 1))).toMatchObject([{ outcome: 'refused' }]);
    await script('resend', { do: { error: { name: 'validation_error' } } });
    expect(await run('resend', messages('resend', 1))).toMatchObject([{ outcome: 'refused' }]);
  });

  test.each([190, 10, 131005, 133010])('58 WhatsApp %i stops the tenant: no further call', async (code) => {
    await script('whatsapp', { times: 'always', do: { error: { code } } });
    const outcomes = await run('whatsapp', messages('whatsapp', 9));
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(Array(9).fill('credential_broken'));
    expect(calls('whatsapp')).toBe(4);
  });

  test.each([131031, 368, 131042, 131048])(
    '62 an account stopped by %i: the rest goes back untried',
    async (code) => {
      const numbers = [{ phone_number_id: phone, tenant: 'pizza-shop', pair: null, refuses_with: code }];
      await control('POST', `${simulators.urls.whatsapp}/_world`, { numbers });
      const outcomes = await run('whatsapp', messages('whatsapp', 9));
      expect(outcomes.slice(0, 4)).toMatchObject(Array(4).fill({ result: { status: 'failed', code } }));
      expect(outcomes.slice(4)).toMatchObject(Array(5).fill({ outcome: 'snooze', seconds: 60 }));
      expect(calls('whatsapp')).toBe(4);
    },
  );

  test('60 an answer about somebody else is no success', async () => {
    const body = { contacts: [{ input: '+4915199999999' }], messages: [{ id: 'wamid.x' }] };
    await script('whatsapp', { do: { body, effect: true } });
    expect(await run('whatsapp', messages('whatsapp', 1))).toMatchObject([unknown]);
    const other = { status: 'success', data: { status: 'success', instanceId: '999', data: {} } };
    await script('waapi', { do: { body: other, effect: true } });
    expect(await run('waapi', messages('waapi', 1))).toMatchObject([unknown]);
  });

  test('61 what became of a message whose answer was lost still leads to it: by the callback data', async () => {
    const numbers = [{ phone_number_id: phone, tenant: 'pizza-shop', pair: null, callbacks: 'before' }];
    await control('POST', `${simulators.urls.whatsapp}/_world`, { numbers });
    await script('whatsapp', { do: { reset: 'after' } });
    const [one] = messages('whatsapp', 1);
    if (!one) throw new Error('no message');
    expect(await run('whatsapp', [one])).toMatchObject([unknown]);
    expect(events.flatMap(({ value }) => value.statuses)).toMatchObject([
      { status: 'sent', biz_opaque_callback_data: one.data.callback },
      { status: 'delivered', biz_opaque_callback_data: one.data.callback },
    ]);
  });

  test('the window closes, and the template goes out in its place, with one mark of what was begun', async () => {
    const numbers = [{ phone_number_id: phone, tenant: 'pizza-shop', pair: null, window: 'enforce' }];
    const templates = [{ name: 'task_approved', language: 'de', named: ['first'], body: 'Hi {{first}}' }];
    await control('POST', `${simulators.urls.whatsapp}/_world`, { numbers, templates });
    const parameters = [{ name: 'first', text: 'Ana' }];
    const template = { name: 'task_approved', language: 'de', parameters };
    const before = await messagesOf('whatsapp');
    expect(await run('whatsapp', messages('whatsapp', 1, { window: 'not_known', template }))).toMatchObject([
      { outcome: 'done', result: { status: 'sent', as: 'template' } },
    ]);
    expect(calls('whatsapp')).toBe(2);
    expect(await run('whatsapp', messages('whatsapp', 1, { window: 'closed', template }))).toMatchObject([
      { result: { as: 'template' } },
    ]);
    expect(calls('whatsapp')).toBe(3);
    expect(await messagesOf('whatsapp')).toBe(before + 2);
    const wrong = { ...template, parameters: [] };
    expect(
      await run('whatsapp', messages('whatsapp', 1, { window: 'closed', template: wrong })),
    ).toMatchObject([{ result: { status: 'failed', code: 132000, as: 'template' } }]);
  });

  test('one recipient too often: that one waits, the others go on', async () => {
    const pair = { every_ms: 60_000, burst: 1 };
    const numbers = [{ phone_number_id: phone, tenant: 'pizza-shop', pair }];
    await control('POST', `${simulators.urls.whatsapp}/_world`, { numbers });
    const to = '+4915112312312';
    const items = [
      ...messages('whatsapp', 1, { to }),
      ...messages('whatsapp', 1, { to }),
      ...messages('whatsapp', 1),
    ];
    const outcomes = await run('whatsapp', items);
    expect(outcomes.filter(({ outcome }) => outcome === 'done')).toHaveLength(2);
    expect(outcomes.filter(({ outcome }) => outcome === 'snooze')).toMatchObject([{ seconds: 6 }]);
  });
});

/** Runs last: over everything that was said and asked above. */
describe('secrets', () => {
  const secrets = [...Object.values(tokens), ...Object.values(kept)];

  test.each(['whatsapp', 'waapi', 'resend'] as const)(
    'an error of %s that echoes the whole credential gives nothing of it away',
    async (way) => {
      const own = Object.values(credentials[way].secret).map(String);
      const echo = [...own, ...own.map(encodeURIComponent), ...own.map(btoa)].join(' ').slice(0, 190);
      const errors = {
        whatsapp: [
          { code: 190, details: echo },
          { code: 131026, details: echo },
          { code: 131000, message: echo },
        ],
        waapi: [{ message: echo }, { message: 'x', explanation: echo }, { envelope: 'outer', message: echo }],
        resend: [
          { name: 'validation_error', message: echo },
          { name: 'invalid_api_key', message: echo },
        ],
      };
      for (const error of errors[way]) {
        await script(way, { do: { error } });
        const [outcome] = await run(way, messages(way, 1));
        expect(JSON.stringify(outcome)).toContain('[redacted]');
        expect(lines.at(-1)).toContain('[redacted]');
      }
    },
  );

  test('nothing that was logged or answered in this file holds a secret', () => {
    // The log of these tests hides nothing by itself: what is not in it, the jobs kept out of it.
    const all = [...lines, ...said];
    expect(lines.length).toBeGreaterThan(200);
    for (const secret of secrets) {
      for (const form of [secret, encodeURIComponent(secret), btoa(secret).replace(/=+$/, '')]) {
        expect(all.filter((line) => line.includes(form))).toEqual([]);
      }
    }
  });

  test('a token travels in one header to its own provider, an app secret not at all', () => {
    expect(asked.length).toBeGreaterThan(200);
    for (const { url, headers, body } of asked) {
      const { authorization = '', ...others } = headers;
      const elsewhere = `${url}${body}${JSON.stringify(others)}`;
      expect(secrets.filter((secret) => elsewhere.includes(secret))).toEqual([]);
      if (authorization.includes('neighbour')) continue;
      const way = (['whatsapp', 'waapi', 'resend'] as const).find((each) =>
        url.startsWith(simulators.urls[each]),
      );
      if (way !== undefined) expect(authorization).toBe(`Bearer ${tokens[way]}`);
    }
  });

  test('the simulators keep none either: not in their log, nor in their world', async () => {
    const shown = [JSON.stringify(events)];
    for (const way of ['whatsapp', 'waapi', 'resend'] as const) {
      for (const path of ['_log', '_world', '_messages', '_events', '_script']) {
        shown.push(JSON.stringify(await control('GET', `${simulators.urls[way]}/${path}`)));
      }
    }
    expect(secrets.filter((secret) => shown.join().includes(secret))).toEqual([]);
  });
});
