import { beforeAll, describe, expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { as, call, useSimulators } from './helpers.ts';

const bench = useSimulators();
const key = demo.platform.stripe.api_key;
const account = 'acct_demo_platform';
const get = (path: string, as_: string = key) => call(`${bench.url('stripe')}/v1/${path}`, as(as_));
const post = (path: string, form: Record<string, string>, headers: Record<string, string> = {}) =>
  call(`${bench.url('stripe')}/v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, ...headers },
    body: new URLSearchParams(form),
  });
const unlimited = { account, tenant: 'platform', keys: [{ key }], requests_per_second: null };

beforeAll(() =>
  bench.world('stripe', {
    accounts: [unlimited],
    customers: [{ account, id: 'cus_1', email: 'ana@example.com' }],
    subscriptions: [
      ...Array.from({ length: 12 }, (_, n) => ({
        account,
        id: `sub_${n}`,
        customer: 'cus_1',
        created: 1_700_000_000 + n,
      })),
      { account, id: 'sub_gone', customer: 'cus_1', status: 'canceled', created: 1_600_000_000 },
      {
        account,
        id: 'sub_two',
        customer: 'cus_1',
        status: 'past_due',
        created: 1_500_000_000,
        items: [{ current_period_end: 1_900_000_000 }, { current_period_end: 1_800_000_000 }],
      },
    ],
  }),
);

async function listAll(query: string): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const after = ids.length === 0 ? '' : `&starting_after=${ids.at(-1)}`;
    const { json } = await get(`subscriptions?${query}${after}`);
    ids.push(...json.data.map((one: { id: string }) => one.id));
    if (!json.has_more) return ids;
  }
}

test('subscriptions are listed newest first, and paging reads each exactly once', async () => {
  const ids = await listAll('status=all&limit=5');
  expect(ids).toEqual([...Array.from({ length: 12 }, (_, n) => `sub_${11 - n}`), 'sub_gone', 'sub_two']);
});

test('without status the canceled ones are left out; ended has only those', async () => {
  expect(await listAll('limit=100')).not.toContain('sub_gone');
  expect(await listAll('limit=100')).toContain('sub_two');
  expect(await listAll('status=ended')).toEqual(['sub_gone']);
  expect(await listAll('status=past_due')).toEqual(['sub_two']);
});

test('a cursor still works when its object has left the filter meanwhile', async () => {
  await bench.world('stripe', { statuses: [{ id: 'sub_10', status: 'canceled' }] });
  const { json } = await get('subscriptions?limit=2&starting_after=sub_10');
  expect(json.data.map((one: { id: string }) => one.id)).toEqual(['sub_9', 'sub_8']);
  await bench.world('stripe', { statuses: [{ id: 'sub_10', status: 'active' }] });
});

test('ending_before leads back', async () => {
  const { json } = await get('subscriptions?limit=2&ending_before=sub_8');
  expect(json.data.map((one: { id: string }) => one.id)).toEqual(['sub_10', 'sub_9']);
  expect(json.has_more).toBe(true);
});

test('periods are on the items only', async () => {
  const { json } = await get('subscriptions/sub_two?expand[0]=customer');
  expect(json.current_period_end).toBeUndefined();
  expect(json.items.data.map((item: { current_period_end: number }) => item.current_period_end)).toEqual([
    1_900_000_000, 1_800_000_000,
  ]);
  expect(json.customer).toMatchObject({ id: 'cus_1', object: 'customer' });
  expect(
    (
      await get(
        'subscriptions?status=all&current_period_end[lte]=1850000000&current_period_end[gte]=1750000000',
      )
    ).json.data[0].id,
  ).toBe('sub_two');
});

describe('errors', () => {
  test('no key and a wrong key are 401', async () => {
    expect((await call(`${bench.url('stripe')}/v1/customers`)).status).toBe(401);
    expect(await get('customers', 'sk_test_wrong_one')).toMatchObject({
      status: 401,
      json: { error: { type: 'invalid_request_error' } },
    });
  });

  test('an unknown object is resource_missing, with a request id', async () => {
    const reply = await get('subscriptions/sub_nope');
    expect(reply).toMatchObject({ status: 404, json: { error: { code: 'resource_missing' } } });
    expect(reply.headers.get('request-id')).toMatch(/^req_/);
  });

  test('a restricted key may do only what it was given', async () => {
    const restricted = demo['pizza-shop'].stripe.api_key;
    expect((await get('subscriptions', restricted)).status).toBe(200);
    const made = await call(`${bench.url('stripe')}/v1/customers`, { method: 'POST', ...as(restricted) });
    expect(made.status).toBe(403);
  });

  test('more requests than the account may make are 429 without retry-after', async () => {
    await bench.world('stripe', { accounts: [{ ...unlimited, requests_per_second: 1 }] });
    // Three requests touch two seconds at most, so that one of them is over the limit.
    const replies = [await get('customers'), await get('customers'), await get('customers')];
    const limited = replies.find((reply) => reply.status === 429);
    expect(limited?.json.error).toMatchObject({ type: 'invalid_request_error', code: 'rate_limit' });
    expect(limited?.headers.get('retry-after')).toBeNull();
    await bench.world('stripe', { accounts: [unlimited] });
  });
});

describe('idempotency keys', () => {
  test('the same request is answered again without a second customer', async () => {
    const once = await post('customers', { email: 'a@example.com' }, { 'idempotency-key': 'k1' });
    const again = await post('customers', { email: 'a@example.com' }, { 'idempotency-key': 'k1' });
    expect(again.json).toEqual(once.json);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect((await get('customers?email=a%40example.com')).json.data).toHaveLength(1);
  });

  test('other parameters under the same key are refused', async () => {
    await post('customers', { email: 'b@example.com' }, { 'idempotency-key': 'k2' });
    const other = await post('customers', { email: 'c@example.com' }, { 'idempotency-key': 'k2' });
    expect(other).toMatchObject({ status: 400, json: { error: { type: 'idempotency_error' } } });
  });

  test('without a key every request makes one', async () => {
    await post('customers', { email: 'd@example.com' });
    await post('customers', { email: 'd@example.com' });
    expect((await get('customers?email=d%40example.com')).json.data).toHaveLength(2);
  });
});
