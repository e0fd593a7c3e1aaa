import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { as, call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const pizza = demo['pizza-shop'].meta;
const whatsapp = demo.platform.whatsapp;
const read = (token: string = pizza.access_token) => call(`${bench.url('meta')}/v26.0/1/comments`, as(token));
const send = (to = '+4915112345678', signal?: AbortSignal) =>
  fetch(`${bench.url('whatsapp')}/v26.0/${whatsapp.phone_number_id}/messages`, {
    method: 'POST',
    headers: { authorization: `Bearer ${whatsapp.access_token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ messaging_product: 'whatsapp', to, type: 'text', text: { body: 'x' } }),
    ...(signal ? { signal } : {}),
  });
const sent = async () => (await call(`${bench.url('whatsapp')}/_messages`)).json.messages.length;
const lastAnswer = async () => (await bench.log('whatsapp')).at(-1)?.answer;

beforeAll(() => bench.world('meta', { posts: [{ id: '1', account_id: pizza.ig_user_id }] }));
afterEach(async () => {
  for (const name of ['meta', 'whatsapp'] as const)
    await call(`${bench.url(name)}/_script`, { method: 'DELETE' });
});

describe('matching', () => {
  test('a script meets the matching requests as often as it says, then the normal answer returns', async () => {
    await bench.script('meta', { match: { path: '/comments' }, times: 2, do: { error: { code: 2 } } });
    const statuses = [(await read()).status, (await read()).status, (await read()).status];
    expect(statuses).toEqual([503, 503, 200]);
    expect((await call(`${bench.url('meta')}/_script`)).json).toEqual({ scripts: [] });
  });

  test('a script for one token leaves the others alone, and does not show the token', async () => {
    await bench.script('meta', {
      match: { token: pizza.access_token },
      times: 'always',
      do: { error: { code: 190, subcode: 460 } },
    });
    expect((await read()).json.error).toMatchObject({ code: 190, error_subcode: 460 });
    expect((await read(demo.platform.meta.access_token)).status).toBe(200);
    const list = await call(`${bench.url('meta')}/_script`);
    expect(list.json.scripts).toHaveLength(1);
    expect(list.text).not.toContain(pizza.access_token);
  });

  test('nth begins with that request', async () => {
    await bench.script('meta', { match: { method: 'get', nth: 3 }, do: { status: 500 } });
    const statuses = [
      (await read()).status,
      (await read()).status,
      (await read()).status,
      (await read()).status,
    ];
    expect(statuses).toEqual([200, 200, 500, 200]);
  });

  test('contains looks into the body', async () => {
    await bench.script('whatsapp', {
      match: { contains: '4915100000001' },
      times: 'always',
      do: { status: 500 },
    });
    expect((await send('+4915100000002')).status).toBe(200);
    expect((await send('+4915100000001')).status).toBe(500);
  });

  test('deleting the scripts ends them', async () => {
    await bench.script('meta', { times: 'always', do: { status: 500 } });
    expect((await read()).status).toBe(500);
    await call(`${bench.url('meta')}/_script`, { method: 'DELETE' });
    expect((await read()).status).toBe(200);
  });
});

describe('trouble on the way', () => {
  test('reset before: nothing was sent', async () => {
    const before = await sent();
    await bench.script('whatsapp', { do: { reset: 'before' } });
    await expect(send()).rejects.toThrow();
    expect(await sent()).toBe(before);
    expect(await lastAnswer()).toMatchObject({ status: null, kind: 'reset before', effects: [] });
  });

  test('reset after: the message left, and the caller does not know', async () => {
    const before = await sent();
    await bench.script('whatsapp', { do: { reset: 'after' } });
    await expect(send()).rejects.toThrow();
    expect(await sent()).toBe(before + 1);
    expect(await lastAnswer()).toMatchObject({
      status: null,
      kind: 'reset after',
      effects: [{ kind: 'message' }],
    });
  });

  test('half a body: the message left, the answer breaks off', async () => {
    const before = await sent();
    await bench.script('whatsapp', { do: { reset: 'half-body' } });
    const response = await send();
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow();
    expect(await sent()).toBe(before + 1);
  });

  test('never: the caller waits until it gives up; with effect the message left', async () => {
    const before = await sent();
    await bench.script('whatsapp', [{ do: { never: true } }, { do: { never: true, effect: true } }]);
    await expect(send('+4915100000003', AbortSignal.timeout(150))).rejects.toThrow(/timeout|abort/i);
    expect(await sent()).toBe(before);
    await expect(send('+4915100000003', AbortSignal.timeout(150))).rejects.toThrow(/timeout|abort/i);
    expect(await sent()).toBe(before + 1);
  });

  test('a delayed answer comes late, its effect does not', async () => {
    const before = await sent();
    await bench.script('whatsapp', { do: { delay_ms: 300 } });
    const started = performance.now();
    const pending = send();
    await vi.waitFor(async () => expect(await sent()).toBe(before + 1));
    expect(performance.now() - started).toBeLessThan(280);
    expect((await pending).status).toBe(200);
    expect(performance.now() - started).toBeGreaterThanOrEqual(295);
  });

  test('an error of the server after the message left', async () => {
    const before = await sent();
    await bench.script('whatsapp', { do: { status: 500, effect: true } });
    expect((await send()).status).toBe(500);
    expect(await sent()).toBe(before + 1);
    await bench.script('whatsapp', { do: { status: 500 } });
    expect((await send()).status).toBe(500);
    expect(await sent()).toBe(before + 1);
  });

  test('headers, bodies, redirects and retry-after are sent as they were scripted', async () => {
    await bench.script('meta', [
      { do: { body: { data: 'not a list' } } },
      { do: { body: '{"cut', headers: { 'x-app-usage': '{"call_count":99}' } } },
      { do: { redirect: 'http://127.0.0.1:9/elsewhere' } },
      { do: { retry_after: 7 } },
      { do: { headers: { 'x-extra': 'yes' } } },
    ]);
    expect((await read()).json).toEqual({ data: 'not a list' });
    const cut = await read();
    expect([cut.text, cut.headers.get('x-app-usage')]).toEqual(['{"cut', '{"call_count":99}']);
    const moved = await read();
    expect([moved.status, moved.headers.get('location')]).toEqual([302, 'http://127.0.0.1:9/elsewhere']);
    const slower = await read();
    expect([slower.json.error.code, slower.headers.get('retry-after')]).toEqual([4, '7']);
    const extra = await read();
    expect([extra.json.data, extra.headers.get('x-extra')]).toEqual([[], 'yes']);
  });

  test('a latency of the world holds every answer back', async () => {
    await bench.world('meta', { latency_ms: 120 });
    const started = performance.now();
    await read();
    expect(performance.now() - started).toBeGreaterThanOrEqual(115);
    await bench.world('meta', { latency_ms: 0 });
  });
});

describe('bad controls are refused with a reason', () => {
  test.each([
    ['a misspelled key', { do: { stats: 500 } }, /stats/],
    ['a script that does nothing', { do: {} }, /does nothing/],
    ['two answers at once', { do: { html: 'a', body: 'b' } }, /ambiguous/],
    ['never with an answer', { do: { never: true, status: 500 } }, /never answers/],
    ['times that are no number', { times: 0, do: { status: 500 } }, /times/],
    ['an error without a code', { do: { error: { subcode: 1 } } }, /code/],
    ['one bad script among good ones', [{ do: { status: 500 } }, { do: { status: 99 } }], /status/],
  ])('%s', async (_, script, reason) => {
    const reply = await bench.script('meta', script);
    expect(reply.status).toBe(400);
    expect(reply.json.error).toMatch(reason);
    expect((await call(`${bench.url('meta')}/_script`)).json.scripts).toEqual([]);
  });

  test('a body that is not JSON, an unknown control path, an unknown key of the world', async () => {
    expect((await bench.script('meta', '{')).json.error).toBe('the body is not JSON');
    expect((await call(`${bench.url('meta')}/_nothing`)).status).toBe(404);
    const world = await call(`${bench.url('meta')}/_world`, { method: 'POST', body: '{"post":[]}' });
    expect([world.status, world.json.error]).toEqual([400, expect.stringMatching(/post/)]);
    const orphan = JSON.stringify({
      comments: [{ post_id: 'none', text: '', from: { id: '1', username: 'a' } }],
    });
    expect((await call(`${bench.url('meta')}/_world`, { method: 'POST', body: orphan })).json.error).toMatch(
      /no post none/,
    );
  });
});

test('scripts of one provider do not touch another', async () => {
  await bench.script('meta', { times: 'always', do: { status: 500 } });
  expect((await send()).status).toBe(200);
  const waapi = demo['pizza-shop'].waapi;
  const url = `${bench.url('waapi')}/api/v1/instances/${waapi.instance_id}/client/action/send-message`;
  expect((await post(url, waapi.token, { chatId: '4915112345678@c.us', message: 'x' })).status).toBe(200);
});

describe('what becomes of a message', () => {
  const statuses = async () =>
    (await call(`${bench.url('whatsapp')}/_messages`)).json.messages.at(-1).statuses;

  test('goes on although the answer never came', async () => {
    await bench.script('whatsapp', { do: { never: true, effect: true, statuses: ['read', 'read'] } });
    await expect(send('+4915100000009', AbortSignal.timeout(150))).rejects.toThrow(/timeout|abort/i);
    expect((await statuses()).map(({ status }: { status: string }) => status)).toEqual([
      'accepted',
      'read',
      'read',
    ]);
    await bench.script('whatsapp', { do: { reset: 'after', then_fail: 131026 } });
    await expect(send('+4915100000009')).rejects.toThrow();
    expect((await statuses()).at(-1)).toMatchObject({ status: 'failed', code: 131026 });
  });

  test.each([
    [{ never: true, statuses: ['read'] }, /none left/],
    [{ reset: 'before', statuses: ['read'] }, /resets before/],
    [{ statuses: ['eaten'] }, /statuses/],
  ])('%j is refused', async (behaviour, reason) => {
    const reply = await bench.script('whatsapp', { do: behaviour });
    expect(reply.status).toBe(400);
    expect(reply.json.error).toMatch(reason);
  });
});
