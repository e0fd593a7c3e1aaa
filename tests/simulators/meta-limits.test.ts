import { beforeAll, describe, expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { as, call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const pizza = demo['pizza-shop'].meta;
const get = (path: string, token: string) =>
  call(`${bench.url('meta')}/graph.facebook.com/v26.0/${path}`, as(token));
const pagePost = `${pizza.page_id}_1`;
const token = (name: string, more: object = {}) => ({
  token: name,
  tenant: 'pizza-shop',
  kind: 'page',
  accounts: '*',
  ...more,
});

beforeAll(() =>
  bench.world('meta', {
    posts: [
      { id: '1', account_id: pizza.ig_user_id },
      { id: pagePost, account_id: pizza.page_id },
    ],
  }),
);

describe('the budget of a token', () => {
  test.each([
    ['Instagram', '1', pizza.ig_user_id, 'instagram', 80002],
    ['Page', pagePost, pizza.page_id, 'pages', 80001],
  ])(
    '%s: usage climbs with the calls, and the call after the last is throttled',
    async (_, id, account, type, code) => {
      await bench.world('meta', { tokens: [token(`few-${type}`, { budget: 4 })] });
      const usages: number[] = [];
      for (let n = 0; n < 4; n += 1) {
        const reply = await get(`${id}/comments`, `few-${type}`);
        expect(reply.status).toBe(200);
        const usage = JSON.parse(reply.headers.get('x-business-use-case-usage') ?? '{}');
        expect(usage[account][0].type).toBe(type);
        usages.push(usage[account][0].call_count);
      }
      expect(usages).toEqual([25, 50, 75, 100]);
      const throttled = await get(`${id}/comments`, `few-${type}`);
      expect(throttled.json.error.code).toBe(code);
      const usage = JSON.parse(throttled.headers.get('x-business-use-case-usage') ?? '{}');
      expect(usage[account][0].estimated_time_to_regain_access).toBeGreaterThanOrEqual(60);
      expect((await bench.log('meta')).at(-1)?.answer).toMatchObject({
        kind: 'throttled',
        code: String(code),
      });
    },
  );

  test('another token is not affected, and a new window lets the token in again', async () => {
    await bench.world('meta', { tokens: [token('short', { budget: 1 }), token('other')] });
    expect((await get('1/comments', 'short')).status).toBe(200);
    expect((await get('1/comments', 'short')).json.error.code).toBe(80002);
    expect((await get('1/comments', 'other')).status).toBe(200);
    await bench.world('meta', { usage: [{ token: 'short', calls: 0 }] });
    expect((await get('1/comments', 'short')).status).toBe(200);
  });

  test('usage can be advanced to a percentage', async () => {
    await bench.world('meta', {
      tokens: [token('nearly', { budget: 1000 })],
      usage: [{ token: 'nearly', percent: 95 }],
    });
    const reply = await get('1/comments', 'nearly');
    const usage = JSON.parse(reply.headers.get('x-business-use-case-usage') ?? '{}');
    expect(usage[pizza.ig_user_id][0].call_count).toBe(95);
  });
});

test('the budget of an app is shared by its tokens and throttles with code 4', async () => {
  await bench.world('meta', {
    apps: [{ app_id: '60', budget: 2 }],
    tokens: [token('first', { app_id: '60' }), token('second', { app_id: '60' })],
  });
  const first = await get('1/comments', 'first');
  expect(JSON.parse(first.headers.get('x-app-usage') ?? '{}').call_count).toBe(50);
  await get('1/comments', 'second');
  const over = await get('1/comments', 'first');
  expect(over).toMatchObject({ status: 403, json: { error: { code: 4 } } });
});

describe('batch', () => {
  const batch = (calls: unknown[], name: string = pizza.access_token) =>
    post(`${bench.url('meta')}/graph.facebook.com/v26.0/`, name, { batch: calls, include_headers: false });

  test('answers in order, with bodies as strings; each call is logged and counted', async () => {
    await bench.world('meta', { tokens: [token('batching', { budget: 10 })] });
    const { json } = await batch(
      [
        { method: 'GET', relative_url: '1/comments?fields=id' },
        { method: 'GET', relative_url: '404' },
        { method: 'GET', relative_url: `${pagePost}/comments?access_token=nobody` },
      ],
      'batching',
    );
    expect(json.map((entry: { code: number }) => entry.code)).toEqual([200, 400, 400]);
    expect(JSON.parse(json[0].body)).toEqual({ data: [] });
    expect(JSON.parse(json[2].body).error.code).toBe(190);
    const log = await bench.log('meta');
    const outer = log.find((entry) => entry.answer?.kind === 'batch');
    expect(log.filter((entry) => entry.batch === outer?.seq)).toHaveLength(3);
    const usage = await get('1/comments', 'batching');
    expect(
      JSON.parse(usage.headers.get('x-business-use-case-usage') ?? '{}')[pizza.ig_user_id][0].call_count,
    ).toBe(20);
  });

  test('a call that timed out is null', async () => {
    await bench.script('meta', { match: { path: '/slow' }, do: { never: true } });
    const { json } = await batch([{ relative_url: 'slow' }, { relative_url: '1/comments' }]);
    expect(json[0]).toBeNull();
    expect(json[1].code).toBe(200);
  });

  test('50 calls are taken, 51 are not', async () => {
    const calls = Array.from({ length: 51 }, () => ({ method: 'GET', relative_url: '1' }));
    expect((await batch(calls.slice(1))).json).toHaveLength(50);
    expect((await batch(calls)).json.error.code).toBe(3);
  });
});

describe('errors by script', () => {
  const codes: [number, number?][] = [
    ...[1, 2, 3, 4, 10, 17, 32, 100, 102, 190, 200, 210, 230, 299, 341, 368, 613, 1705].map(
      (code): [number] => [code],
    ),
    ...[80000, 80001, 80002, 80003, 80004, 80005, 80006, 80007, 80008].map((code): [number] => [code]),
    ...[458, 459, 460, 463, 464, 467, 492].map((subcode): [number, number] => [190, subcode]),
    [100, 33],
    [613, 1996],
    [80004, 2446079],
  ];
  test.each(codes)('code %i (%s) in a call of its own and in a part of a batch', async (code, subcode) => {
    const error = { code, ...(subcode === undefined ? {} : { subcode }) };
    await bench.script('meta', { match: { path: '/scripted' }, times: 2, do: { error } });
    const alone = await get('scripted/comments', pizza.access_token);
    const { json } = await post(`${bench.url('meta')}/graph.facebook.com/v26.0/`, pizza.access_token, {
      batch: [{ relative_url: '1/comments' }, { relative_url: 'scripted/comments' }],
    });
    for (const body of [alone.json, JSON.parse(json[1].body)]) {
      expect(body.error).toMatchObject({ code, message: expect.any(String), fbtrace_id: expect.any(String) });
      expect(body.error.error_subcode).toBe(subcode);
    }
    expect([alone.status, json[0].code]).toEqual([json[1].code, 200]);
  });
});

test('the parts of a batch tell the usage that their calls make', async () => {
  await bench.world('meta', { tokens: [token('parts', { budget: 10 })] });
  const { json } = await post(`${bench.url('meta')}/graph.facebook.com/v26.0/`, 'parts', {
    batch: [{ relative_url: '1/comments' }, { relative_url: '1/comments' }],
  });
  const used = json.map((part: { headers: { name: string; value: string }[] }) => {
    const header = part.headers.find(({ name }) => name === 'x-business-use-case-usage');
    return JSON.parse(header?.value ?? '{}')[pizza.ig_user_id][0].call_count;
  });
  expect(used).toEqual([10, 20]);
});
