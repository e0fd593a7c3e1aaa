// The real clients and jobs against the simulators: what the fakes of the other tests assume is true on the wire.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Credential } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import { createJobHandlers } from '../../functions/_shared/wiring.ts';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { item, jobContext, work } from './fakes.ts';

let simulators: Simulators;
let handlers: ReturnType<typeof createJobHandlers>;
const start = Date.now();
const ago = (minutes: number) => new Date(start - minutes * 60_000).toISOString();

const pizza: Credential = {
  credential_id: '1',
  provider: 'meta',
  kind: 'facebook_login',
  source: 'tenant',
  account: { page_id: demo['pizza-shop'].meta.page_id, ig_user_id: demo['pizza-shop'].meta.ig_user_id },
  secret: { access_token: demo['pizza-shop'].meta.access_token },
};
const gym: Credential = {
  ...pizza,
  kind: 'instagram_login',
  account: { ig_user_id: demo.gym.meta.ig_user_id },
  secret: { access_token: demo.gym.meta.access_token },
};
const platform: Credential = {
  ...pizza,
  source: 'platform',
  account: { page_id: demo.salon.meta.page_id, ig_user_id: demo.salon.meta.ig_user_id },
  secret: { access_token: demo.platform.meta.access_token },
};
const cloud: Credential = {
  credential_id: '2',
  provider: 'whatsapp',
  kind: 'whatsapp_cloud',
  source: 'platform',
  account: { phone_number_id: demo.platform.whatsapp.phone_number_id },
  secret: { access_token: demo.platform.whatsapp.access_token },
};
const gateway: Credential = {
  ...cloud,
  kind: 'waapi',
  source: 'tenant',
  account: { instance_id: demo['pizza-shop'].waapi.instance_id },
  secret: { token: demo['pizza-shop'].waapi.token },
};

async function control(method: string, url: string, body?: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  return await response.json();
}
const script = (provider: 'meta' | 'whatsapp' | 'waapi' | 'resend', behaviour: unknown) =>
  control('POST', `${simulators.urls[provider]}/_script`, behaviour);
const world = (provider: 'meta' | 'whatsapp' | 'waapi' | 'resend', change: unknown) =>
  control('POST', `${simulators.urls[provider]}/_world`, change);

beforeAll(async () => {
  simulators = await startSimulators({ only: ['meta', 'whatsapp', 'waapi', 'resend'] });
  const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 400 });
  handlers = createJobHandlers({
    http,
    urls: {
      metaGraph: simulators.env.META_GRAPH_URL,
      metaInstagram: simulators.env.META_INSTAGRAM_URL,
      whatsapp: simulators.env.WHATSAPP_URL,
      waapi: simulators.env.WAAPI_URL,
      resend: simulators.env.RESEND_URL,
    },
    outboundHosts: [new URL(simulators.urls.waapi ?? '').host],
    pinned: () => http,
    resolve: async () => null,
  });
});
afterEach(async () => {
  for (const name of ['meta', 'whatsapp', 'waapi', 'resend'] as const)
    await control('DELETE', `${simulators.urls[name]}/_script`);
  simulators.requests.clear();
});
afterAll(async () => {
  await simulators.stop();
});

async function run(job: string, items: ReturnType<typeof item>[], credential: Credential) {
  const handler = handlers[job];
  if (handler === undefined) throw new Error(`no handler of ${job}`);
  const context = jobContext({ now: () => new Date() });
  await handler(work(items, credential), context);
  return context.outcomes;
}
const claim = (itemId: number, postId: string, changes: Record<string, unknown> = {}) =>
  item(itemId, {
    completion_id: `c${itemId}`,
    kind: 'instagram_comment',
    post_id: postId,
    code: `CODE-${itemId}Q`,
    instagram_username: null,
    facebook_user_id: null,
    since: ago(60),
    deadline: ago(-60),
    recheck_seconds: 300,
    ...changes,
  });
const message = (itemId: number, to = '+4915112345678') =>
  item(itemId, { outbox_id: `outbox-${itemId}`, to, text: `Congratulations ${itemId}`, send_before: null });

/** A post with one comment of each participant, oldest first, a second apart. */
async function post(
  accountId: string,
  id: string,
  comments: { text: string; by: string }[],
): Promise<string> {
  await world('meta', {
    posts: [{ id, account_id: accountId, at: ago(120) }],
    comments: comments.map(({ text, by }, index) => ({
      post_id: id,
      text,
      from: { id: `90${by.length}${index}`, username: by, name: by },
      at: new Date(start - 1_800_000 + index * 1_000).toISOString(),
    })),
  });
  return id;
}

test('Instagram with a Facebook login: found over three pages by code and by name, the rest is not found', async () => {
  const crowd = Array.from({ length: 120 }, (_, index) => ({ text: 'nice', by: `person.${index}` }));
  const id = await post(demo['pizza-shop'].meta.ig_user_id, '17890000000000001', [
    { text: 'first! code-1q', by: 'first' },
    ...crowd,
  ]);
  const outcomes = await run(
    'verify-social-tasks',
    [
      claim(1, id),
      claim(2, id, { instagram_username: '@Person.7' }),
      claim(3, id),
      claim(4, id, { deadline: ago(1) }),
    ],
    pizza,
  );
  expect(new Map(outcomes.map((outcome) => [outcome.item_id, outcome]))).toMatchObject(
    new Map<number, object>([
      [1, { outcome: 'done', result: { verdict: 'verified' } }],
      [2, { outcome: 'done', result: { verdict: 'verified' } }],
      [3, { outcome: 'snooze', seconds: 300, reason: 'not found yet' }],
      [4, { outcome: 'done', result: { verdict: 'failed', reason: 'not_found' } }],
    ]),
  );
  const requests = simulators.requests.list({ provider: 'meta' });
  expect(requests).toHaveLength(3);
  expect(requests.every((request) => request.tenant === 'pizza-shop')).toBe(true);
  expect(JSON.stringify(requests)).not.toContain(demo['pizza-shop'].meta.access_token);
});

test('Instagram with an Instagram login, and a Page post through the platform', async () => {
  const media = await post(demo.gym.meta.ig_user_id, '17890000000000002', [{ text: 'CODE-1Q', by: 'a' }]);
  const pagePost = await post(demo.salon.meta.page_id, `${demo.salon.meta.page_id}_2`, [
    { text: 'code-2q!', by: 'b' },
  ]);
  const verified = [{ outcome: 'done', result: { verdict: 'verified' } }];
  expect(await run('verify-social-tasks', [claim(1, media)], gym)).toMatchObject(verified);
  const facebook = { kind: 'facebook_comment' };
  expect(await run('verify-social-tasks', [claim(2, pagePost, facebook)], platform)).toMatchObject(verified);
});

test('a Page post without comments: failed for the Page’s own token, unknown for a user’s', async () => {
  const id = await post(demo['pizza-shop'].meta.page_id, `${demo['pizza-shop'].meta.page_id}_3`, []);
  const items = [claim(1, id, { kind: 'facebook_comment', deadline: ago(1) })];
  expect(await run('verify-social-tasks', items, pizza)).toMatchObject([{ result: { verdict: 'failed' } }]);
  await world('meta', {
    tokens: [
      {
        token: 'user-token',
        tenant: 'pizza-shop',
        kind: 'user',
        accounts: [demo['pizza-shop'].meta.page_id],
      },
    ],
  });
  const asUser = { ...pizza, secret: { access_token: 'user-token' } };
  expect(await run('verify-social-tasks', items, asUser)).toMatchObject([{ result: { verdict: 'unknown' } }]);
});

test('a Page comment whose author is withheld is found by its code', async () => {
  const id = await post(demo['pizza-shop'].meta.page_id, `${demo['pizza-shop'].meta.page_id}_4`, []);
  await world('meta', {
    comments: [
      { post_id: id, text: 'CODE-1Q', from: { id: '1', name: 'x' }, at: ago(5), from_withheld: true },
    ],
  });
  const outcomes = await run('verify-social-tasks', [claim(1, id, { kind: 'facebook_comment' })], pizza);
  expect(outcomes).toMatchObject([{ result: { verdict: 'verified', evidence: { author_id: null } } }]);
});

test('an app that requires the proof accepts ours', async () => {
  await world('meta', {
    apps: [{ app_id: '555', app_secret: 'app-secret-of-555', require_proof: true }],
    tokens: [
      {
        token: 'proof-token',
        tenant: 'gym',
        kind: 'instagram',
        accounts: [demo.gym.meta.ig_user_id],
        app_id: '555',
      },
    ],
  });
  const id = await post(demo.gym.meta.ig_user_id, '17890000000000005', [{ text: 'CODE-1Q', by: 'a' }]);
  const secret = { access_token: 'proof-token', app_secret: 'app-secret-of-555' };
  expect(await run('verify-social-tasks', [claim(1, id)], { ...gym, secret })).toMatchObject([
    { result: { verdict: 'verified' } },
  ]);
  const without = { ...gym, secret: { access_token: 'proof-token' } };
  expect(await run('verify-social-tasks', [claim(1, id)], without)).toMatchObject([
    { outcome: 'snooze', reason: expect.stringContaining('Meta 100') },
  ]);
});

test.each([
  [{ error: { code: 190, subcode: 460 } }, 'credential_broken'],
  [{ error: { code: 80002 } }, 'throttled'],
  [{ error: { code: 4 }, retry_after: 11 }, 'throttled'],
  [{ error: { code: 2 } }, 'retry'],
  [{ error: { code: 100, subcode: 33 } }, 'snooze'],
  [{ html: '<html>', status: 502 }, 'retry'],
  [{ html: '<html>log in</html>', status: 200 }, 'retry'],
  [{ redirect: 'https://evil.test/' }, 'retry'],
  [{ never: true }, 'retry'],
  [{ reset: 'before' }, 'retry'],
  [{ reset: 'half-body' }, 'retry'],
])('Meta that answers %j is %s', async (behaviour, outcome) => {
  const id = await post(demo['pizza-shop'].meta.ig_user_id, '17890000000000006', []);
  await script('meta', { times: 'always', do: behaviour });
  expect(await run('verify-social-tasks', [claim(1, id)], pizza)).toMatchObject([{ outcome }]);
});

test('a foreign post is unknown, not failed', async () => {
  const id = await post(demo.gym.meta.ig_user_id, '17890000000000007', [{ text: 'CODE-1Q', by: 'a' }]);
  expect(await run('verify-social-tasks', [claim(1, id, { deadline: ago(1) })], pizza)).toMatchObject([
    { outcome: 'done', result: { verdict: 'unknown', reason: expect.stringContaining('100/33') } },
  ]);
});

test('near the limit the engine is told', async () => {
  const id = await post(demo.gym.meta.ig_user_id, '17890000000000008', [{ text: 'CODE-1Q', by: 'a' }]);
  await world('meta', { usage: [{ token: demo.gym.meta.access_token, percent: 97 }] });
  const outcomes = await run('verify-social-tasks', [claim(1, id), claim(2, id)], gym);
  await world('meta', { usage: [{ token: demo.gym.meta.access_token, percent: 0 }] });
  const hint = { seconds: 60, reason: 'Meta reports 97 % of a call limit used' };
  expect(outcomes).toMatchObject([{ outcome: 'done' }, { outcome: 'snooze', hint }]);
});

test('WhatsApp and the gateway accept our messages, each once', async () => {
  for (const [name, credential] of [
    ['whatsapp', cloud],
    ['waapi', gateway],
  ] as const) {
    const outcomes = await run('send-notifications', [message(1), message(2, '+4915112345679')], credential);
    const requests = simulators.requests.list({ provider: name });
    expect(requests, name).toHaveLength(2);
    expect(outcomes, name).toMatchObject([
      { outcome: 'done', result: { status: 'sent', provider_message_id: expect.any(String) } },
      { outcome: 'done', result: { status: 'sent', provider_message_id: expect.any(String) } },
    ]);
  }
});

test.each([
  [{ error: { code: 131047 } }, { outcome: 'refused' }],
  [{ error: { code: 130429 } }, { outcome: 'throttled' }],
  [{ error: { code: 190 } }, { outcome: 'credential_broken' }],
  [{ error: { code: 131000 } }, { outcome: 'retry' }],
  [
    { never: true, effect: true },
    { outcome: 'done', result: { status: 'unknown' } },
  ],
  [{ reset: 'after' }, { outcome: 'done', result: { status: 'unknown' } }],
  [
    { html: 'x', status: 502 },
    { outcome: 'done', result: { status: 'unknown' } },
  ],
])('WhatsApp that answers %j', async (behaviour, outcome) => {
  await script('whatsapp', { do: behaviour });
  expect(await run('send-notifications', [message(1)], cloud)).toMatchObject([outcome]);
  expect(simulators.requests.list({ provider: 'whatsapp' })).toHaveLength(1);
});

test.each([
  [{ error: { envelope: 'inner', message: 'incorrect chatId format.' } }, { outcome: 'refused' }],
  [{ error: { envelope: 'outer', message: 'instance not ready' } }, { outcome: 'retry', after_seconds: 60 }],
  [{ status: 401 }, { outcome: 'credential_broken' }],
  [
    { status: 429, retry_after: 9 },
    { outcome: 'throttled', seconds: 9 },
  ],
  [{ status: 422 }, { outcome: 'refused' }],
  [
    { html: '<html>', status: 502 },
    { outcome: 'done', result: { status: 'unknown' } },
  ],
  [
    { never: true, effect: true },
    { outcome: 'done', result: { status: 'unknown' } },
  ],
])('a gateway that answers %j', async (behaviour, outcome) => {
  await script('waapi', { do: behaviour });
  expect(await run('send-notifications', [message(1)], gateway)).toMatchObject([outcome]);
  expect(simulators.requests.list({ provider: 'waapi' })).toHaveLength(1);
});

const email: Credential = {
  credential_id: null,
  provider: 'email',
  kind: 'resend',
  source: 'platform',
  account: { from: 'Onecron <alerts@example.com>' },
  secret: { api_key: demo.platform.resend.api_key },
};
const mail = (id: number) =>
  item(id, {
    ...{ to: ['owner@example.com'], subject: 'opened', text: 'Something broke.' },
    idempotency_key: `alert-${id}-opened`,
  });
const mailsSent = async () =>
  ((await control('GET', `${simulators.urls.resend}/_messages`)) as { messages: unknown[] }).messages.length;

test('Resend accepts a mail, and a second try of the same one sends nothing more', async () => {
  await world('resend', {
    accounts: [
      { ...{ api_key: demo.platform.resend.api_key, tenant: 'platform' }, requests_per_second: null },
    ],
  });
  const before = await mailsSent();
  const [first] = await run('alert-email', [mail(101)], email);
  const [second] = await run('alert-email', [mail(101)], email);
  expect(first).toMatchObject({ outcome: 'done', result: { provider_message_id: expect.any(String) } });
  expect(second).toEqual(first);
  expect(await mailsSent()).toBe(before + 1);
});

test('a mail whose answer was lost is sent once, by its key', async () => {
  const before = await mailsSent();
  await script('resend', { do: { reset: 'after' } });
  expect(await run('alert-email', [mail(102)], email)).toMatchObject([{ outcome: 'retry' }]);
  await control('DELETE', `${simulators.urls.resend}/_script`);
  expect(await run('alert-email', [mail(102)], email)).toMatchObject([{ outcome: 'done' }]);
  expect(await mailsSent()).toBe(before + 1);
});

test.each([
  [{ error: { name: 'invalid_api_key' } }, { outcome: 'credential_broken' }],
  [{ error: { name: 'validation_error' } }, { outcome: 'refused' }],
  [{ error: { name: 'daily_quota_exceeded' } }, { outcome: 'throttled' }],
  [
    { status: 429, retry_after: 30 },
    { outcome: 'throttled', seconds: 30 },
  ],
  [{ status: 500 }, { outcome: 'retry' }],
  [{ html: '<html>', status: 502 }, { outcome: 'retry' }],
])('Resend that answers %j', async (behaviour, outcome) => {
  await script('resend', { do: behaviour });
  expect(await run('alert-email', [mail(103)], email)).toMatchObject([outcome]);
});
