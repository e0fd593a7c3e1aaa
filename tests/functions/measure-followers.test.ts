import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Credential } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import { createMeta } from '../../functions/_shared/providers/meta.ts';
import { createMeasureFollowers } from '../../functions/worker/jobs/measure-followers.ts';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import {
  connectionReset,
  item,
  jobContext,
  json,
  memoryLog,
  metaCredential,
  network,
  type SentRequest,
  work,
} from './fakes.ts';

const fingerprint = '0123456789ab';
const instagram = { platform: 'instagram', account_id: '17841400000000001' };
const page = { platform: 'facebook', account_id: '100000000000001' };
const instagramLogin: Credential = { ...metaCredential, kind: 'instagram_login' };

type Answer = (request: SentRequest, count: number) => Response | Promise<Response>;
const followers = (id: string, followers_count?: unknown, headers: Record<string, string> = {}) =>
  json(200, { id, followers_count }, headers);
const graph = (code: number, subcode?: number) =>
  json(400, { error: { message: 'about EAAcanary-meta-token+/=0123456789', code, error_subcode: subcode } });
/** A Page that is told and an Instagram account that is not, or the other way round. */
const onlyOf = (account: { account_id: string }, good: number, bad: () => Response) => (sent: SentRequest) =>
  sent.url.includes(account.account_id) ? followers(account.account_id, good) : bad();

async function measure(
  answer: Answer,
  options: {
    credential?: Credential | null;
    accounts?: unknown;
    attempt?: number;
    context?: Parameters<typeof jobContext>[0];
  } = {},
) {
  const { http, requests } = network(answer);
  const urls = { graphUrl: 'https://graph.facebook.com', instagramUrl: 'https://graph.instagram.com' };
  const { log, lines } = memoryLog();
  const context = jobContext({ log, ...options.context });
  const { credential = metaCredential, accounts = [instagram, page], attempt = 1 } = options;
  const given = { ...item(1, { fingerprint, accounts }), attempt };
  await createMeasureFollowers({ meta: createMeta({ http, ...urls }) })(work([given], credential), context);
  expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toMatch(/canary/);
  return { outcomes: context.outcomes, requests, lines };
}
const done = (counts: unknown[], unread: unknown[] = []) => [
  { item_id: 1, outcome: 'done', result: { fingerprint, counts, unread } },
];

describe('what is asked', () => {
  test('each account for its followers, with the tenant’s token, at the host of its login', async () => {
    const { outcomes, requests } = await measure((_sent, count) => followers('1', count * 100));
    expect(outcomes).toEqual(
      done([
        { ...instagram, followers: 100 },
        { ...page, followers: 200 },
      ]),
    );
    const urls = requests.map(({ url }) => url);
    expect(urls).toEqual([
      `https://graph.facebook.com/v26.0/${instagram.account_id}?fields=followers_count`,
      `https://graph.facebook.com/v26.0/${page.account_id}?fields=followers_count`,
    ]);
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${metaCredential.secret.access_token}`);
    const login = await measure(() => followers('1', 0), {
      credential: instagramLogin,
      accounts: [instagram],
    });
    expect(login.requests.map(({ url }) => url)).toEqual([
      `https://graph.instagram.com/v26.0/${instagram.account_id}?fields=followers_count`,
    ]);
    expect(login.outcomes).toEqual(done([{ ...instagram, followers: 0 }]));
  });

  test('an Instagram login is never tried on a Page', async () => {
    const { outcomes, requests } = await measure(() => followers('1', 5), { credential: instagramLogin });
    expect(requests).toHaveLength(1);
    const reason = expect.stringContaining('can’t read Facebook');
    expect(outcomes).toEqual(done([{ ...instagram, followers: 5 }], [{ ...page, reason }]));
  });

  test.each([
    ['without a credential', { credential: null }, ['snooze']],
    ['with the platform’s', { credential: { ...metaCredential, source: 'platform' as const } }, ['snooze']],
    ['without time', { context: { timeIsUp: () => true } }, ['snooze']],
    ['without the lease', { context: { leaseIsLost: () => true } }, []],
  ])('%s nothing is', async (_name, options, expected) => {
    const { outcomes, requests } = await measure(() => followers('1', 1), options);
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(expected);
    expect(requests).toEqual([]);
  });

  test.each([[[]], [null], [[{ platform: 'x', account_id: '1' }]], [[{ platform: 'instagram' }]]])(
    'accounts %j are refused',
    async (accounts) => {
      const { outcomes, requests } = await measure(() => followers('1', 1), { accounts });
      expect(outcomes).toMatchObject([{ outcome: 'refused', error: expect.stringContaining('accounts') }]);
      expect(requests).toEqual([]);
    },
  );

  test('what is no id is not asked for', async () => {
    const odd = { platform: 'instagram', account_id: '../me' };
    const { outcomes, requests } = await measure(() => followers('1', 1), { accounts: [odd] });
    expect(outcomes).toEqual(done([], [{ ...odd, reason: expect.stringContaining('credential') }]));
    expect(requests).toEqual([]);
  });
});

describe('what is answered', () => {
  test.each<[string, () => Response]>([
    ['a permission that is missing', () => graph(10)],
    ['a capability that is missing', () => graph(3)],
    ['an account that is not there', () => graph(100, 33)],
    ['a number that is left out', () => followers('1')],
  ])('%s leaves that account out and does not break the credential', async (_name, bad) => {
    const one = await measure(onlyOf(page, 9, bad));
    const reason = expect.any(String);
    expect(one.outcomes).toEqual(done([{ ...page, followers: 9 }], [{ ...instagram, reason }]));
    const other = await measure(onlyOf(instagram, 8, bad));
    expect(other.outcomes).toEqual(done([{ ...instagram, followers: 8 }], [{ ...page, reason }]));
    expect(other.lines.join('\n')).toContain('followers not measured');
  });

  test.each<[string, Answer, Record<string, unknown>]>([
    ['an expired token', () => graph(190, 463), { outcome: 'credential_broken' }],
    ['a limit', () => graph(80_002), { outcome: 'throttled', seconds: 300 }],
    ['trouble at Meta', () => graph(2), { outcome: 'retry' }],
    ['a broken connection', () => Promise.reject(connectionReset()), { outcome: 'retry' }],
    ['a number that is none', () => followers('1', 'many'), { outcome: 'retry' }],
    ['a negative number', () => followers('1', -1), { outcome: 'retry' }],
    ['a proxy’s page', () => new Response('<html>', { status: 502 }), { outcome: 'retry' }],
  ])('%s is the engine’s to wait for, and nothing more is asked', async (_name, answer, expected) => {
    const { outcomes, requests } = await measure(answer);
    expect(outcomes).toMatchObject([expected]);
    expect(requests).toHaveLength(1);
  });

  test('what is read near the limit is kept only if nothing is left to ask', async () => {
    const near = { 'x-app-usage': '{"call_count":97}' };
    const both = await measure(() => followers('1', 5, near));
    expect(both.outcomes).toMatchObject([{ outcome: 'throttled', seconds: 60 }]);
    expect(both.requests).toHaveLength(1);
    const last = await measure(() => followers('1', 5, near), { accounts: [page] });
    const [told] = done([{ ...page, followers: 5 }]);
    const hint = { seconds: 60, reason: 'Meta reports 97 % of a call limit used' };
    expect(last.outcomes).toEqual([{ ...told, hint }]);
  });

  test('one account that answers never waits for good for one that does not', async () => {
    const down = onlyOf(instagram, 8, () => graph(2));
    expect((await measure(down)).outcomes).toMatchObject([{ outcome: 'retry' }]);
    expect((await measure(down, { attempt: 3 })).outcomes).toEqual(
      done([{ ...instagram, followers: 8 }], [{ ...page, reason: expect.any(String) }]),
    );
    const nothing = await measure(() => graph(2), { attempt: 3 });
    expect(nothing.outcomes).toMatchObject([{ outcome: 'retry' }]);
  });
});

describe('on the wire', () => {
  let simulators: Simulators;
  beforeAll(async () => {
    simulators = await startSimulators({ only: ['meta'] });
  });
  afterAll(() => simulators.stop());

  test('a Page login counts both, an Instagram login its account; a lost permission leaves one out', async () => {
    const pizza = demo['pizza-shop'].meta;
    const gym = demo.gym.meta;
    const world = (change: unknown) =>
      fetch(`${simulators.urls.meta}/_world`, { method: 'POST', body: JSON.stringify(change) });
    await world({
      followers: [
        { account_id: pizza.ig_user_id, count: 1200 },
        { account_id: pizza.page_id, count: 340 },
        { account_id: gym.ig_user_id, count: 17 },
      ],
    });
    const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 2_000 });
    const { META_GRAPH_URL: graphUrl, META_INSTAGRAM_URL: instagramUrl } = simulators.env;
    const job = createMeasureFollowers({ meta: createMeta({ http, graphUrl, instagramUrl }) });
    const run = async (credential: Credential, accounts: unknown[]) => {
      const context = jobContext({ now: () => new Date() });
      await job(work([item(1, { fingerprint, accounts })], credential), context);
      return context.outcomes;
    };
    const ownOf = (kind: string, access_token: string): Credential => ({
      ...{
        credential_id: 'c',
        provider: 'meta',
        kind,
        source: 'tenant',
        account: {},
        secret: { access_token },
      },
    });
    const pizzaAccounts = [
      { platform: 'instagram', account_id: pizza.ig_user_id },
      { platform: 'facebook', account_id: pizza.page_id },
    ];
    expect(await run(ownOf(pizza.kind, pizza.access_token), pizzaAccounts)).toEqual(
      done([
        { ...pizzaAccounts[0], followers: 1200 },
        { ...pizzaAccounts[1], followers: 340 },
      ]),
    );
    const gymAccount = { platform: 'instagram', account_id: gym.ig_user_id };
    expect(await run(ownOf(gym.kind, gym.access_token), [gymAccount])).toEqual(
      done([{ ...gymAccount, followers: 17 }]),
    );
    await world({
      tokens: [
        {
          ...{ token: 'limited', tenant: 'pizza-shop', kind: 'page', scopes: ['instagram_basic'] },
          accounts: [pizza.page_id, pizza.ig_user_id],
        },
      ],
    });
    expect(await run(ownOf(pizza.kind, 'limited'), pizzaAccounts)).toEqual(
      done(
        [{ ...pizzaAccounts[0], followers: 1200 }],
        [{ ...pizzaAccounts[1], reason: expect.stringContaining('Meta 10') }],
      ),
    );
  });
});
