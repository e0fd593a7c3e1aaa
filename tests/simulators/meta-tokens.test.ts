import { createHmac } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { as, call, useSimulators } from './helpers.ts';

const bench = useSimulators();
const pizza = demo['pizza-shop'].meta;
const gym = demo.gym.meta;
const get = (path: string, token: string) => call(`${bench.url('meta')}/${path}`, as(token));
const facebook = 'graph.facebook.com/v26.0';
const instagram = 'graph.instagram.com/v26.0';

beforeAll(() =>
  bench.world('meta', {
    posts: [
      { id: '1', account_id: pizza.ig_user_id },
      { id: '2', account_id: gym.ig_user_id },
      { id: '3', account_id: demo.salon.meta.ig_user_id },
    ],
  }),
);

test('each tenant reads its own posts; the platform reads all of them', async () => {
  const read = async (host: string, id: string, token: string) =>
    (await get(`${host}/${id}/comments`, token)).status;
  expect(await read(facebook, '1', pizza.access_token)).toBe(200);
  expect(await read(instagram, '2', gym.access_token)).toBe(200);
  for (const id of ['1', '2', '3'])
    expect(await read(facebook, id, demo.platform.meta.access_token)).toBe(200);
});

test("another tenant's post, and one that does not exist, are the same error 100/33", async () => {
  const foreign = await get(`${facebook}/2/comments`, pizza.access_token);
  const absent = await get(`${facebook}/999/comments`, pizza.access_token);
  for (const reply of [foreign, absent]) {
    expect(reply.status).toBe(400);
    expect(reply.json.error).toMatchObject({ type: 'GraphMethodException', code: 100, error_subcode: 33 });
  }
  expect(foreign.json.error.message.replace("'2'", "'999'")).toBe(absent.json.error.message);
});

test('a token of one login is unknown at the other host', async () => {
  expect((await get(`${facebook}/2/comments`, gym.access_token)).json.error.code).toBe(190);
  expect((await get(`${instagram}/1/comments`, pizza.access_token)).json.error.code).toBe(190);
  // Without a host in the path both are taken.
  expect((await get('v26.0/2/comments', gym.access_token)).status).toBe(200);
  expect((await get('v26.0/1/comments', pizza.access_token)).status).toBe(200);
});

test('the token is taken from the header or from access_token', async () => {
  const url = `${bench.url('meta')}/${facebook}/1/comments`;
  expect((await call(`${url}?access_token=${pizza.access_token}`)).status).toBe(200);
  expect((await call(url)).json.error.code).toBe(104);
  expect((await get(`${facebook}/1/comments`, 'nobody')).json.error).toMatchObject({
    code: 190,
    type: 'OAuthException',
  });
});

test.each([458, 459, 460, 463, 464, 467, 492])(
  'a token broken with subcode %i answers 190 with it',
  async (subcode) => {
    const token = `broken-${subcode}`;
    await bench.world('meta', { tokens: [{ token, tenant: 'x', kind: 'page', broken: { subcode } }] });
    const { json } = await get(`${facebook}/1`, token);
    expect(json.error).toMatchObject({ code: 190, error_subcode: subcode });
    expect(json.error.message).toMatch(/^Error validating access token/);
  },
);

test('an expired token answers 190/463, and debug_token says so', async () => {
  await bench.world('meta', {
    tokens: [
      {
        token: 'old',
        tenant: 'x',
        kind: 'page',
        expires_at: '2020-01-01T00:00:00Z',
        app_id: '5',
        scopes: ['pages_show_list'],
      },
    ],
    apps: [{ app_id: '5', app_secret: 'secret-of-5' }],
  });
  expect((await get(`${facebook}/1`, 'old')).json.error.error_subcode).toBe(463);
  const debug = await call(
    `${bench.url('meta')}/${facebook}/debug_token?input_token=old&access_token=5%7Csecret-of-5`,
  );
  expect(debug.json.data).toMatchObject({
    app_id: '5',
    is_valid: false,
    scopes: ['pages_show_list'],
    error: { subcode: 463 },
  });
  const wrong = await call(
    `${bench.url('meta')}/${facebook}/debug_token?input_token=old&access_token=5%7Cguess`,
  );
  expect(wrong.json.error.code).toBe(190);
});

test('me tells who the token is', async () => {
  expect((await get(`${instagram}/me?fields=user_id,username`, gym.access_token)).json).toMatchObject({
    user_id: gym.ig_user_id,
    username: 'the.gym',
  });
  expect((await get(`${facebook}/me`, pizza.access_token)).json).toEqual({
    name: 'Pizza Shop',
    id: pizza.page_id,
  });
});

describe('versions', () => {
  test.each([
    ['v26.0', 'v26.0'],
    ['v22.0', 'v22.0'],
    ['v15.0', 'v21.0'],
  ])('%s is served as %s', async (asked, served) => {
    const reply = await get(`graph.facebook.com/${asked}/1`, pizza.access_token);
    expect(reply.headers.get('facebook-api-version')).toBe(served);
  });

  test('a version that does not exist yet is an unknown path', async () => {
    expect((await get('graph.facebook.com/v99.0/1', pizza.access_token)).json.error.code).toBe(2500);
  });
});

describe('appsecret_proof', () => {
  const secret = 'the-app-secret';
  const sign = (text: string) => createHmac('sha256', secret).update(text).digest('hex');
  const now = () => Math.floor(Date.now() / 1000);
  beforeAll(() =>
    bench.world('meta', {
      apps: [{ app_id: '7', app_secret: secret, require_proof: true }],
      tokens: [{ token: 'proven', tenant: 'x', kind: 'page', accounts: '*', app_id: '7' }],
    }),
  );
  const proofs: [string, () => string, number][] = [
    ['with time', () => `appsecret_proof=${sign(`proven|${now()}`)}&appsecret_time=${now()}`, 200],
    ['without time', () => `appsecret_proof=${sign('proven')}`, 200],
    ['too old', () => `appsecret_proof=${sign(`proven|${now() - 400}`)}&appsecret_time=${now() - 400}`, 400],
    ['of another token', () => `appsecret_proof=${sign('other')}`, 400],
    ['missing', () => '', 400],
  ];
  test.each(proofs)('a proof %s', async (_, query, status) => {
    const reply = await get(`${facebook}/1?${query()}`, 'proven');
    expect(reply.status).toBe(status);
    if (status === 400) expect(reply.json.error).toMatchObject({ code: 100, type: 'GraphMethodException' });
  });
});

test('an Instagram token can be refreshed when it is a day old, not before', async () => {
  const day = 24 * 3600 * 1000;
  const token = (name: string, age: number) => ({
    token: name,
    tenant: 'gym',
    kind: 'instagram',
    accounts: [gym.ig_user_id],
    issued_at: new Date(Date.now() - age).toISOString(),
    expires_at: new Date(Date.now() + day).toISOString(),
  });
  await bench.world('meta', { tokens: [token('young', day / 2), token('ripe', day * 2)] });
  const refresh = (name: string) =>
    call(
      `${bench.url('meta')}/graph.instagram.com/refresh_access_token?grant_type=ig_refresh_token&access_token=${name}`,
    );
  expect((await refresh('young')).status).toBe(400);
  const { json } = await refresh('ripe');
  expect(json).toMatchObject({ token_type: 'bearer', expires_in: 5_184_000 });
  expect((await get(`${instagram}/2/comments`, json.access_token)).status).toBe(200);
});

test('a profile is readable only after the person wrote to the business', async () => {
  const person = { igsid: '555', username: 'jane', name: 'Jane', follows: [gym.ig_user_id] };
  await bench.world('meta', { people: [person] });
  const read = () => get(`${instagram}/555?fields=username,is_user_follow_business`, gym.access_token);
  expect((await read()).json.error.code).toBe(230);
  await bench.world('meta', { people: [{ ...person, consented_to: [gym.ig_user_id] }] });
  expect((await read()).json).toEqual({ username: 'jane', is_user_follow_business: true, id: '555' });
  await bench.world('meta', {
    people: [{ ...person, consented_to: [gym.ig_user_id], blocks: [gym.ig_user_id] }],
  });
  expect((await read()).json.error.error_subcode).toBe(33);
});

describe('exchanges', () => {
  const secret = 'secret-of-8';
  beforeAll(() =>
    bench.world('meta', {
      apps: [{ app_id: '8', app_secret: secret }],
      tokens: [
        { token: 'short-fb', tenant: 'x', kind: 'user', accounts: [pizza.page_id], app_id: '8' },
        { token: 'short-ig', tenant: 'x', kind: 'instagram', accounts: [gym.ig_user_id], app_id: '8' },
      ],
    }),
  );
  const fb = (id: string, given: string, token = 'short-fb') =>
    call(
      `${bench.url('meta')}/${facebook}/oauth/access_token?grant_type=fb_exchange_token&client_id=${id}&client_secret=${given}&fb_exchange_token=${token}`,
    );
  const ig = (given: string, host = 'graph.instagram.com') =>
    call(
      `${bench.url('meta')}/${host}/access_token?grant_type=ig_exchange_token&client_secret=${given}&access_token=short-ig`,
    );

  test('a Facebook token becomes one of 60 days, for the app’s own id and secret only', async () => {
    const { json } = await fb('8', secret);
    expect(json).toMatchObject({ token_type: 'bearer', expires_in: 5_184_000 });
    const debug = await call(
      `${bench.url('meta')}/${facebook}/debug_token?input_token=${json.access_token}&access_token=8%7C${secret}`,
    );
    expect(debug.json.data).toMatchObject({ is_valid: true, type: 'USER', app_id: '8' });
    expect(debug.json.data.expires_at).toBeGreaterThan(Date.now() / 1000 + 59 * 24 * 3600);
    expect((await fb('8', 'guess')).json.error.code).toBe(1);
    expect((await fb('9', secret)).json.error.code).toBe(101);
    expect((await fb('8', secret, 'nobody')).json.error.code).toBe(190);
  });

  test('an Instagram token is exchanged at Instagram’s host', async () => {
    const { json } = await ig(secret);
    expect((await get(`${instagram}/2/comments`, json.access_token)).status).toBe(200);
    expect((await ig(secret, 'graph.facebook.com')).json.error.code).toBe(100);
    expect((await ig('guess')).status).toBe(400);
  });
});

test('a batch takes one proof for all its parts', async () => {
  const secret = 'secret-of-11';
  await bench.world('meta', {
    apps: [{ app_id: '11', app_secret: secret, require_proof: true }],
    tokens: [{ token: 'batched', tenant: 'x', kind: 'page', accounts: '*', app_id: '11' }],
  });
  const send = (proof: Record<string, string>) =>
    call(`${bench.url('meta')}/${facebook}/`, {
      method: 'POST',
      body: new URLSearchParams({
        access_token: 'batched',
        batch: JSON.stringify([{ method: 'GET', relative_url: '1/comments' }]),
        ...proof,
      }),
    });
  const time = String(Math.floor(Date.now() / 1000));
  const hmac = (text: string) => createHmac('sha256', secret).update(text).digest('hex');
  const timed = { appsecret_proof: hmac(`batched|${time}`), appsecret_time: time };
  expect((await send(timed)).json[0].code).toBe(200);
  expect((await send({ appsecret_proof: hmac('batched') })).json[0].code).toBe(200);
  expect((await send({})).json.error.code).toBe(100);
});
