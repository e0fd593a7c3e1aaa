import { expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const { instance_id: instance, token } = demo['pizza-shop'].waapi;
const send = (body: unknown, options: { token?: string; instance?: string } = {}) =>
  post(
    `${bench.url('waapi')}/api/v1/instances/${options.instance ?? instance}/client/action/send-message`,
    options.token ?? token,
    body,
  );
const messages = async () => (await call(`${bench.url('waapi')}/_messages`)).json.messages;
const message = { chatId: '4915112345678@c.us', message: 'well done' };

test('a message is sent when both envelopes say success', async () => {
  const reply = await send(message);
  expect(reply.status).toBe(200);
  expect(reply.json).toMatchObject({ status: 'success', data: { status: 'success', instanceId: instance } });
  const id = reply.json.data.data._data.id._serialized;
  expect((await messages()).at(-1)).toMatchObject({
    id,
    delivered: true,
    tenant: 'pizza-shop',
    text: 'well done',
  });
  expect((await bench.log('waapi')).at(-1)).toMatchObject({
    tenant: 'pizza-shop',
    about: { to: message.chatId, text: 'well done', instance_id: instance, target_tenant: 'pizza-shop' },
    answer: { effects: [{ id, to: message.chatId, delivered: true }] },
  });
});

test('the inner envelope refuses a chat id without a domain although the outer one says success', async () => {
  const before = (await messages()).length;
  const reply = await send({ chatId: 'bogus', message: 'x' });
  expect(reply.status).toBe(200);
  expect(reply.json).toEqual({
    status: 'success',
    data: {
      status: 'error',
      message: 'incorrect chatId format.',
      explanation: '"bogus" is missing a domain, expected <id>@c.us.',
    },
  });
  expect((await messages()).length).toBe(before);
});

test('the outer envelope says error when the instance is not ready', async () => {
  await bench.world('waapi', { instances: [{ instance_id: '8', tenant: 'x', token: 't8', ready: false }] });
  const reply = await send(message, { token: 't8', instance: '8' });
  expect(reply).toMatchObject({ status: 200, json: { status: 'error', message: 'instance not ready' } });
});

test('an unknown suffix is accepted and delivers nothing', async () => {
  const reply = await send({ chatId: '4915112345678@s.whatsapp.net', message: 'x' });
  expect(reply.json.data.status).toBe('success');
  expect((await messages()).at(-1)).toMatchObject({
    delivered: false,
    reason: 'unknown suffix @s.whatsapp.net',
  });
});

test('wrong token 401, foreign instance 403, no instance 404, missing fields 422', async () => {
  await bench.world('waapi', { instances: [{ instance_id: '9', tenant: 'y', token: 't9' }] });
  expect((await send(message, { token: 'nobody' })).status).toBe(401);
  expect((await send(message, { instance: '9' })).status).toBe(403);
  expect((await send(message, { instance: '404' })).status).toBe(404);
  expect(await send({ message: 'x' })).toMatchObject({
    status: 422,
    json: { errors: { chatId: ['required'] } },
  });
});

test('too many requests are 429 with retry-after', async () => {
  await bench.world('waapi', {
    instances: [{ instance_id: '10', tenant: 'z', token: 't10', requests_per_minute: 1 }],
  });
  expect((await send(message, { token: 't10', instance: '10' })).status).toBe(200);
  const over = await send(message, { token: 't10', instance: '10' });
  expect(over.status).toBe(429);
  expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(0);
});

test('form fields are taken like JSON', async () => {
  const reply = await call(`${bench.url('waapi')}/api/v1/instances/${instance}/client/action/send-message`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: new URLSearchParams(message),
  });
  expect(reply.json.data.status).toBe('success');
});

test('a script gives an HTML 502, with or without the message having left', async () => {
  const before = (await messages()).length;
  await bench.script('waapi', [
    { do: { status: 502, html: '<h1>Bad Gateway</h1>' } },
    { do: { status: 502, html: '<h1>Bad Gateway</h1>', effect: true } },
  ]);
  const lost = await send(message);
  expect(lost.status).toBe(502);
  expect(lost.headers.get('content-type')).toContain('text/html');
  expect((await messages()).length).toBe(before);
  expect((await send(message)).text).toBe('<h1>Bad Gateway</h1>');
  expect((await messages()).length).toBe(before + 1);
});

test('a script refuses in the inner or the outer envelope', async () => {
  await bench.script('waapi', [
    { do: { error: { message: 'not registered' } } },
    { do: { error: { envelope: 'outer', message: 'instance gone' } } },
  ]);
  expect((await send(message)).json).toEqual({
    status: 'success',
    data: { status: 'error', message: 'not registered' },
  });
  expect((await send(message)).json).toEqual({ status: 'error', message: 'instance gone' });
});

test('a busy instance is 409, and nothing is sent', async () => {
  await bench.world('waapi', { instances: [{ instance_id: '11', tenant: 'b', token: 't11', busy: true }] });
  const before = (await messages()).length;
  expect((await send(message, { token: 't11', instance: '11' })).status).toBe(409);
  expect((await messages()).length).toBe(before);
});

test('the id of a message may lie deeper, beside ids of people', async () => {
  await bench.world('waapi', { instances: [{ instance_id: '12', tenant: 'd', token: 't12', id_depth: 2 }] });
  const { data } = (await send(message, { token: 't12', instance: '12' })).json.data;
  expect(data.from._serialized).toBe('the.sender@c.us');
  expect(data.message.message._data.id._serialized).toBe((await messages()).at(-1).id);
});

test.each([
  [409, 'Another action is running on this instance.'],
  [422, 'The given data was invalid.'],
  [500, 'Server Error'],
])('a script that says only %i gets its usual words', async (status, words) => {
  await bench.script('waapi', { do: { status } });
  expect(await send(message)).toMatchObject({ status, json: { message: words } });
});

test.each([
  [{ status: 'error', data: { status: 'success' } }],
  [{ status: 'success', data: [] }],
  [{ status: 'success' }],
])('a script gives any combination of envelopes: %j', async (body) => {
  await bench.script('waapi', { do: { body } });
  expect((await send(message)).json).toEqual(body);
});
