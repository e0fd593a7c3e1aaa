import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Credential } from '../../functions/_shared/engine.ts';
import { EngineError } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import { createTokens, type Tokens } from '../../functions/_shared/providers/tokens.ts';
import { createCheckCredentials } from '../../functions/worker/jobs/check-credentials.ts';
import { createRefreshMetaTokens } from '../../functions/worker/jobs/refresh-meta-tokens.ts';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import {
  connectionReset,
  item,
  jobContext,
  json,
  memoryLog,
  network,
  nowMs,
  type SentRequest,
  whatsappCredential,
  work,
} from './fakes.ts';

const token = 'EAAcanary-old-token+/=0123456789';
const renewed = 'EAAcanary-new-token+/=0123456789';
const appSecret = 'canary-app-secret-0123456789';
const facebook: Credential = {
  ...{ credential_id: 'c1', provider: 'meta', kind: 'facebook_login', source: 'tenant' },
  account: { app_id: '77', page_id: '1' },
  secret: { access_token: token, app_secret: appSecret },
};
const instagram: Credential = { ...facebook, kind: 'instagram_login', account: { ig_user_id: '5' } };
const pageOnly: Credential = { ...facebook, account: { page_id: '1' }, secret: { access_token: token } };
const fingerprint = '0123456789ab';

type Answer = (request: SentRequest, count: number) => Response | Promise<Response>;
const clientOf = (answer: Answer): { tokens: Tokens; requests: SentRequest[] } => {
  const { http, requests } = network(answer);
  const urls = {
    graphUrl: 'https://graph.example.com',
    instagramUrl: 'https://ig.example.com',
    whatsappUrl: 'https://wa.example.com',
  };
  return { tokens: createTokens({ http, ...urls }), requests };
};
const graph = (code: number, subcode?: number, status = 400) =>
  json(status, { error: { message: `about ${token}`, code, error_subcode: subcode } });
const debug = (data: Record<string, unknown>) =>
  json(200, { data: { app_id: '77', is_valid: true, ...data } });

async function check(answer: Answer, credential = facebook) {
  const { tokens, requests } = clientOf(answer);
  const outcome = await tokens.check(credential, { nowMs });
  expect(JSON.stringify(outcome)).not.toContain('canary');
  return { outcome, requests };
}
async function renew(answer: Answer, credential = instagram) {
  const { tokens, requests } = clientOf(answer);
  return { outcome: await tokens.renew(credential, { nowMs }), requests };
}

describe('checking a token', () => {
  test('the tenant’s own app is asked about it: its end and what it may do', async () => {
    const { outcome, requests } = await check(() =>
      debug({ expires_at: 1_795_000_000, scopes: ['pages_show_list', 'instagram_basic'] }),
    );
    expect(outcome).toEqual({
      kind: 'ok',
      value: {
        expiresAt: new Date(1_795_000_000_000).toISOString(),
        scopes: ['pages_show_list', 'instagram_basic'],
      },
    });
    expect(requests).toHaveLength(1);
    const url = new URL(requests[0]?.url ?? '');
    expect(`${url.origin}${url.pathname}`).toBe('https://graph.example.com/v26.0/debug_token');
    expect([...url.searchParams.keys()]).toEqual(['input_token']);
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer 77|${appSecret}`);
  });

  test('an end of 0 is none', async () => {
    expect((await check(() => debug({ expires_at: 0 }))).outcome).toEqual({
      kind: 'ok',
      value: { expiresAt: null },
    });
  });

  test.each([
    ['a Page’s token without an app', pageOnly, 'https://graph.example.com/v26.0/me'],
    ['an Instagram login', instagram, 'https://ig.example.com/v26.0/me'],
    ['WhatsApp without an app', whatsappCredential, 'https://wa.example.com/v26.0/106540000000000'],
  ])('%s is read with itself', async (_name, credential, expected) => {
    const { outcome, requests } = await check(() => json(200, { id: '1', user_id: '5' }), credential);
    expect(outcome).toEqual({ kind: 'ok', value: {} });
    const url = new URL(requests[0]?.url ?? '');
    expect(`${url.origin}${url.pathname}`).toBe(expected);
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${credential.secret.access_token}`);
    expect(requests[0]?.url).not.toContain('canary');
  });

  test('the app’s secret proves the call where there is one', async () => {
    const { requests } = await check(() => json(200, { id: '1' }), instagram);
    const query = new URL(requests[0]?.url ?? '').searchParams;
    expect(query.get('appsecret_proof')).toMatch(/^[0-9a-f]{64}$/);
    expect(query.get('appsecret_time')).toBe(String(nowMs / 1000));
  });

  test.each([458, 459, 460, 463, 464, 467, 492])(
    'a token that is not valid for 190/%i is broken, and says so',
    async (subcode) => {
      const { outcome } = await check(() =>
        debug({ is_valid: false, error: { code: 190, subcode, message: `see ${token}` } }),
      );
      expect(outcome).toEqual({
        kind: 'credentialBroken',
        error: expect.stringMatching(new RegExp(`^Meta 190/${subcode}: `)),
      });
    },
  );

  test.each<[string, () => Response]>([
    ['the app’s secret is wrong', () => graph(190)],
    ['the app may not ask', () => graph(100)],
    ['the token is another app’s', () => debug({ is_valid: false })],
  ])('when %s the token speaks for itself', async (_name, first) => {
    const good = await check((_request, count) => (count === 1 ? first() : json(200, { id: '1' })));
    expect(good.outcome).toEqual({ kind: 'ok', value: {} });
    expect(good.requests).toHaveLength(2);
    const bad = await check((_request, count) => (count === 1 ? first() : graph(190, 463)));
    expect(bad.outcome).toMatchObject({ kind: 'credentialBroken' });
  });

  test.each<[string, Answer, string]>([
    ['a limit', () => graph(4), 'throttled'],
    ['a limit of the Page', () => graph(80001), 'throttled'],
    ['429', () => new Response('', { status: 429 }), 'throttled'],
    ['an unknown error', () => graph(1), 'retry'],
    ['an error without a code', () => new Response('<html>', { status: 502 }), 'retry'],
    ['401 of a proxy', () => new Response('<html>', { status: 401 }), 'retry'],
    ['a body that is not understood', () => json(200, { id: null }), 'retry'],
    ['a broken connection', () => Promise.reject(connectionReset()), 'retry'],
    ['a missing permission', () => graph(10), 'credentialBroken'],
    ['a role that was lost', () => graph(190, 492), 'credentialBroken'],
    ['a missing or wrong secret of the app', () => graph(100), 'credentialBroken'],
    ['a person’s token in place of the Page’s', () => graph(1705), 'credentialBroken'],
    ['a code of tomorrow', () => graph(999_999), 'refused'],
  ])('%s has its class', async (_name, answer, kind) => {
    expect((await check(answer, pageOnly)).outcome).toMatchObject({ kind });
  });

  test('a WhatsApp token that may not read its number may still send', async () => {
    const refusal = json(400, {
      error: { message: 'Unsupported get request.', code: 100, error_subcode: 33 },
    });
    const { outcome } = await check(() => refusal, whatsappCredential);
    expect(outcome).toMatchObject({ kind: 'refused' });
  });

  test('a credential that is incomplete is broken without a call', async () => {
    const { outcome, requests } = await check(() => json(200, {}), { ...facebook, secret: {} });
    expect(outcome).toMatchObject({ kind: 'credentialBroken' });
    expect(requests).toEqual([]);
  });
});

describe('renewing a token', () => {
  const answered = (expires?: number) => () =>
    json(200, {
      access_token: renewed,
      token_type: 'bearer',
      ...(expires !== undefined && { expires_in: expires }),
    });

  test('Instagram’s is refreshed at its own host', async () => {
    const { outcome, requests } = await renew(answered(5_184_000));
    expect(outcome).toEqual({
      kind: 'ok',
      value: { accessToken: renewed, expiresAt: new Date(nowMs + 5_184_000_000).toISOString() },
    });
    const url = new URL(requests[0]?.url ?? '');
    expect(`${url.origin}${url.pathname}`).toBe('https://ig.example.com/refresh_access_token');
    expect(url.searchParams.get('grant_type')).toBe('ig_refresh_token');
  });

  test('Facebook’s is exchanged by its app', async () => {
    const { outcome, requests } = await renew(answered(), facebook);
    expect(outcome).toEqual({ kind: 'ok', value: { accessToken: renewed, expiresAt: null } });
    const url = new URL(requests[0]?.url ?? '');
    expect(`${url.origin}${url.pathname}`).toBe('https://graph.example.com/v26.0/oauth/access_token');
    expect(Object.fromEntries(url.searchParams)).toEqual({
      ...{
        grant_type: 'fb_exchange_token',
        client_id: '77',
        client_secret: appSecret,
        fb_exchange_token: token,
      },
    });
  });

  test('without an app there is nothing to ask', async () => {
    const { outcome, requests } = await renew(answered(), pageOnly);
    expect(outcome).toMatchObject({ kind: 'refused' });
    expect(requests).toEqual([]);
  });

  test.each<[string, Answer, string]>([
    ['a token that is expired', () => graph(190, 463), 'credentialBroken'],
    ['a token that is too young', () => graph(100), 'refused'],
    ['a limit', () => graph(4), 'throttled'],
    ['an error that passes', () => graph(2), 'retry'],
    ['an answer without a token', () => json(200, { token_type: 'bearer' }), 'retry'],
    ['a token with a line break', () => json(200, { access_token: 'canary\nx' }), 'retry'],
    [
      'silence on the line',
      () => Promise.reject(new Error(`fetch of https://x/?access_token=${token}`)),
      'retry',
    ],
  ])('%s has its class, in words without a secret', async (_name, answer, kind) => {
    const { outcome } = await renew(answer);
    expect(outcome).toMatchObject({ kind });
    expect(JSON.stringify(outcome)).not.toContain('canary');
  });
});

/** Whatever these jobs log or report: no secret, old or new, is in it. */
async function runJob(
  make: (options: { tokens: Tokens }) => ReturnType<typeof createCheckCredentials>,
  answer: Answer,
  credential: Credential | null = instagram,
  changes: Parameters<typeof jobContext>[0] = {},
  data: Record<string, unknown> = { fingerprint },
) {
  const { tokens, requests } = clientOf(answer);
  // No secret is named to this log: what is in no line needs no redaction.
  const { log, lines } = memoryLog();
  const context = jobContext({ log, ...changes });
  let thrown: unknown = null;
  await make({ tokens })(work([item(1, data)], credential), context).catch((error: unknown) => {
    thrown = error;
  });
  expect([...lines, JSON.stringify(context.outcomes), String(thrown)].join('\n')).not.toMatch(
    /canary|appsecret_proof|access_token=/,
  );
  return { outcomes: context.outcomes, requests, thrown, lines };
}

describe('check-credentials', () => {
  test.each<[string, Answer, Record<string, unknown>]>([
    [
      'works',
      () => debug({ expires_at: 1_795_000_000, scopes: ['a'] }),
      { verdict: 'healthy', expires_at: new Date(1_795_000_000_000).toISOString(), scopes: ['a'] },
    ],
    ['has no end', () => debug({ expires_at: 0 }), { verdict: 'healthy', expires_at: null }],
    [
      'is broken',
      () => debug({ is_valid: false, error: { code: 190, subcode: 460, message: `${token} ${appSecret}` } }),
      { verdict: 'broken', error: expect.stringMatching(/^Meta 190\/460: /) },
    ],
    ['can’t be checked', () => graph(999_999), { verdict: 'unknown', error: expect.any(String) }],
  ])('a token that %s', async (_name, answer, verdict) => {
    const { outcomes, lines } = await runJob(createCheckCredentials, answer, facebook);
    expect(outcomes).toEqual([
      { item_id: 1, outcome: 'done', result: { provider: 'meta', fingerprint, ...verdict } },
    ]);
    expect(lines).toHaveLength(1);
  });

  test.each<[string, Answer, Record<string, unknown>]>([
    ['a limit', () => graph(4), { outcome: 'throttled', seconds: 300 }],
    ['trouble', () => graph(2), { outcome: 'retry' }],
  ])('%s is the engine’s to wait for', async (_name, answer, expected) => {
    expect((await runJob(createCheckCredentials, answer, pageOnly)).outcomes).toEqual([
      expect.objectContaining(expected),
    ]);
  });

  test('without credential, lease or time nothing is asked', async () => {
    for (const [credential, changes, outcome] of [
      [null, {}, ['snooze']],
      [facebook, { leaseIsLost: () => true }, []],
      [facebook, { timeIsUp: () => true }, ['snooze']],
    ] as const) {
      const { outcomes, requests } = await runJob(
        createCheckCredentials,
        () => debug({}),
        credential,
        changes,
      );
      expect(outcomes.map((each) => each.outcome)).toEqual(outcome);
      expect(requests).toEqual([]);
    }
  });

  test('an item that is not understood is refused', async () => {
    const { outcomes } = await runJob(createCheckCredentials, () => debug({}), facebook, {}, {});
    expect(outcomes).toEqual([expect.objectContaining({ outcome: 'refused' })]);
  });
});

describe('refresh-meta-tokens', () => {
  const good: Answer = () =>
    json(200, { access_token: renewed, token_type: 'bearer', expires_in: 5_184_000 });

  test('the new token goes to the database and nowhere else', async () => {
    const kept: unknown[] = [];
    const { outcomes } = await runJob(createRefreshMetaTokens, good, instagram, {
      keepToken: async (...given) => {
        kept.push(given);
        return true;
      },
    });
    expect(kept).toEqual([[1, renewed, new Date(nowMs + 5_184_000_000).toISOString()]]);
    expect(outcomes).toEqual([
      { item_id: 1, outcome: 'done', result: { provider: 'meta', fingerprint, verdict: 'renewed' } },
    ]);
  });

  test('one that comes too late is dropped', async () => {
    const { outcomes } = await runJob(createRefreshMetaTokens, good, instagram, {
      keepToken: async () => false,
    });
    expect(outcomes).toEqual([
      expect.objectContaining({ result: expect.objectContaining({ verdict: 'changed_meanwhile' }) }),
    ]);
  });

  test('when it can’t be stored nothing is said: the lease brings the item back, and the old token works', async () => {
    const { outcomes, thrown } = await runJob(createRefreshMetaTokens, good, instagram, {
      keepToken: async () => {
        throw new EngineError('keep_refreshed_token', 'connection', true, 'no answer');
      },
    });
    expect(outcomes).toEqual([]);
    expect(thrown).toBeInstanceOf(EngineError);
  });

  test.each<[string, Answer, Record<string, unknown>]>([
    [
      'is broken',
      () => graph(190, 463),
      { outcome: 'done', result: expect.objectContaining({ verdict: 'broken' }) },
    ],
    [
      'is too young',
      () => graph(100),
      { outcome: 'done', result: expect.objectContaining({ verdict: 'not_renewed' }) },
    ],
    ['meets a limit', () => graph(4), { outcome: 'throttled' }],
    ['meets trouble', () => graph(2), { outcome: 'retry' }],
  ])('a token that %s stores nothing', async (_name, answer, expected) => {
    const { outcomes } = await runJob(createRefreshMetaTokens, answer, instagram, {
      keepToken: async () => {
        throw new Error('must not be called');
      },
    });
    expect(outcomes).toEqual([expect.objectContaining(expected)]);
  });

  test('the platform’s credential is nobody’s to renew here', async () => {
    const { outcomes, requests } = await runJob(createRefreshMetaTokens, good, {
      ...instagram,
      source: 'platform',
    });
    expect(outcomes).toEqual([expect.objectContaining({ outcome: 'snooze' })]);
    expect(requests).toEqual([]);
  });
});

describe('on the wire', () => {
  let simulators: Simulators;
  let tokens: Tokens;
  const days = 86_400_000;
  const iso = (ms: number) => new Date(Date.now() + ms).toISOString();
  beforeAll(async () => {
    simulators = await startSimulators({ only: ['meta', 'whatsapp'] });
    const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 2_000 });
    const {
      META_GRAPH_URL: graphUrl,
      META_INSTAGRAM_URL: instagramUrl,
      WHATSAPP_URL: whatsappUrl,
    } = simulators.env;
    tokens = createTokens({ http, graphUrl, instagramUrl, whatsappUrl });
    const change = {
      apps: [{ app_id: '77', app_secret: appSecret }],
      tokens: [
        {
          token: 'canary-fb',
          tenant: 'x',
          kind: 'user',
          accounts: '*',
          app_id: '77',
          issued_at: iso(-50 * days),
          expires_at: iso(10 * days),
          scopes: ['pages_show_list'],
        },
        {
          token: 'canary-fb-old',
          tenant: 'x',
          kind: 'user',
          accounts: '*',
          app_id: '77',
          expires_at: iso(-1 * days),
        },
        {
          token: 'canary-ig',
          tenant: 'x',
          kind: 'instagram',
          accounts: ['5'],
          app_id: '77',
          issued_at: iso(-50 * days),
          expires_at: iso(10 * days),
        },
        {
          token: 'canary-ig-young',
          tenant: 'x',
          kind: 'instagram',
          accounts: ['5'],
          app_id: '77',
          issued_at: iso(-3_600_000),
          expires_at: iso(59 * days),
        },
      ],
    };
    const answer = await fetch(`${simulators.urls.meta}/_world`, {
      method: 'POST',
      body: JSON.stringify(change),
    });
    if (!answer.ok) throw new Error(await answer.text());
  });
  afterAll(() => simulators.stop());
  const as = (credential: Credential, accessToken: string): Credential => ({
    ...credential,
    secret: { access_token: accessToken, app_secret: appSecret },
  });
  const now = () => ({ nowMs: Date.now() });

  test('Meta tells about a token, and exchanges it', async () => {
    expect(await tokens.check(as(facebook, 'canary-fb'), now())).toMatchObject({
      ...{ kind: 'ok', value: { expiresAt: expect.any(String), scopes: ['pages_show_list'] } },
    });
    expect(await tokens.check(as(facebook, 'canary-fb-old'), now())).toMatchObject({
      ...{ kind: 'credentialBroken', error: expect.stringMatching(/^Meta 190\/463: /) },
    });
    const exchanged = await tokens.renew(as(facebook, 'canary-fb'), now());
    expect(exchanged).toMatchObject({ kind: 'ok' });
    if (exchanged.kind !== 'ok') return;
    expect(await tokens.check(as(facebook, exchanged.value.accessToken), now())).toMatchObject({
      kind: 'ok',
    });
    // A worker that is lost with the new one has lost nothing.
    expect(await tokens.check(as(facebook, 'canary-fb'), now())).toMatchObject({ kind: 'ok' });
  });

  test('Instagram refreshes a token that is old enough', async () => {
    expect(await tokens.renew(as(instagram, 'canary-ig'), now())).toMatchObject({
      kind: 'ok',
      value: { expiresAt: expect.any(String) },
    });
    expect(await tokens.renew(as(instagram, 'canary-ig-young'), now())).toMatchObject({ kind: 'refused' });
  });

  test('WhatsApp’s own number can be read, with the right token', async () => {
    const own = {
      ...whatsappCredential,
      secret: { access_token: demo.platform.whatsapp.access_token },
      account: { phone_number_id: demo.platform.whatsapp.phone_number_id },
    };
    expect(await tokens.check(own, now())).toEqual({ kind: 'ok', value: {} });
    expect(await tokens.check({ ...own, secret: { access_token: 'canary-nobody' } }, now())).toMatchObject({
      kind: 'credentialBroken',
    });
  });

  test('WhatsApp tells about a system user’s token to its app', async () => {
    const expires = iso(10 * days);
    const answer = await fetch(`${simulators.urls.whatsapp}/_world`, {
      method: 'POST',
      body: JSON.stringify({
        numbers: [{ phone_number_id: '300', tenant: 'x' }],
        apps: [{ app_id: '77', app_secret: appSecret }],
        tokens: [
          { token: 'canary-wa', tenant: 'x', numbers: ['300'], app_id: '77' },
          { token: 'canary-wa-short', tenant: 'x', numbers: ['300'], app_id: '77', expires_at: expires },
          { token: 'canary-wa-old', tenant: 'x', numbers: ['300'], app_id: '77', expires_at: iso(-days) },
          { token: 'canary-wa-else', tenant: 'x', numbers: ['300'], app_id: '78' },
        ],
      }),
    });
    expect(answer.status).toBe(200);
    const own = { ...whatsappCredential, account: { phone_number_id: '300', app_id: '77' } };
    const scopes = ['whatsapp_business_management', 'whatsapp_business_messaging'];
    const check = (token: string) => tokens.check(as(own, token), now());
    expect(await check('canary-wa')).toEqual({ kind: 'ok', value: { expiresAt: null, scopes } });
    const until = new Date(Math.floor(Date.parse(expires) / 1000) * 1000).toISOString();
    expect(await check('canary-wa-short')).toEqual({ kind: 'ok', value: { expiresAt: until, scopes } });
    expect(await check('canary-wa-old')).toMatchObject({
      kind: 'credentialBroken',
      error: expect.stringMatching(/^WhatsApp 190\/463: /),
    });
    // The token of another app speaks for itself: it can read its number.
    expect(await check('canary-wa-else')).toEqual({ kind: 'ok', value: {} });
  });
});
