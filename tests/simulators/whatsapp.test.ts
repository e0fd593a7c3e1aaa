import { describe, expect, test, vi } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { waIdOf } from '../../scripts/simulators/whatsapp.ts';
import { call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const { phone_number_id: phone, access_token: token } = demo.platform.whatsapp;
const text = (to: string, more: object = {}) => ({
  messaging_product: 'whatsapp',
  to,
  type: 'text',
  text: { body: 'well done' },
  ...more,
});
const send = (body: unknown, options: { token?: string; phone?: string } = {}) =>
  post(`${bench.url('whatsapp')}/v26.0/${options.phone ?? phone}/messages`, options.token ?? token, body);
const number = (more: object) =>
  bench.world('whatsapp', { numbers: [{ phone_number_id: phone, tenant: 'platform', ...more }] });
const messages = async () => (await call(`${bench.url('whatsapp')}/_messages`)).json.messages;

test('a text is accepted, with the input and the WhatsApp id of the recipient', async () => {
  const reply = await send(text('+49 151 2345678', { biz_opaque_callback_data: 'outbox-1' }));
  expect(reply.status).toBe(200);
  expect(reply.json).toEqual({
    messaging_product: 'whatsapp',
    contacts: [{ input: '+49 151 2345678', wa_id: '491512345678' }],
    messages: [{ id: expect.stringMatching(/^wamid\./) }],
  });
  const [message] = await messages();
  expect(message).toMatchObject({
    id: reply.json.messages[0].id,
    tenant: 'platform',
    biz_opaque_callback_data: 'outbox-1',
  });
  expect(message.statuses.at(-1).status).toBe('delivered');
  expect((await bench.log('whatsapp')).at(-1)).toMatchObject({
    tenant: 'platform',
    about: { to: '+49 151 2345678', text: 'well done', phone_number_id: phone, callback_data: 'outbox-1' },
    answer: { kind: 'ok', effects: [{ kind: 'message', to: '491512345678', delivered: true }] },
  });
});

test.each([
  ['+4915112345678', '4915112345678'],
  ['015112345678', '4915112345678'],
  ['4915112345678', '4915112345678'],
  ['+5511987654321', '551187654321'],
  ['+5215512345678', '525512345678'],
  ['12', null],
  ['+49abc', null],
])('the number %s has the WhatsApp id %s', (input, waId) => {
  expect(waIdOf(input, '49')).toBe(waId);
});

test.each([
  ['without messaging_product', { to: '+4915100000001', text: { body: 'x' } }, 131008],
  ['without a recipient', text(''), 131008],
  ['without a text', text('+4915100000001', { text: {} }), 131008],
  ['with a text that is too long', text('+4915100000001', { text: { body: 'x'.repeat(4097) } }), 131009],
  ['with a recipient that is no number', text('jane'), 131009],
  ['of an unknown type', text('+4915100000001', { type: 'carrier_pigeon' }), 131051],
  ['that is not JSON', '{', 100],
])('a message %s is refused, and nothing is sent', async (_, body, code) => {
  const before = (await messages()).length;
  const reply = await send(body);
  expect(reply.status).toBe(400);
  expect(reply.json.error).toMatchObject({ code, error_data: { messaging_product: 'whatsapp' } });
  expect((await messages()).length).toBe(before);
});

test('an unknown token is 190, a wrong phone number id 100/33', async () => {
  expect(await send(text('+4915100000002'), { token: 'nobody' })).toMatchObject({
    status: 401,
    json: { error: { code: 190 } },
  });
  const wrong = await send(text('+4915100000002'), { phone: '42' });
  expect(wrong.json.error).toMatchObject({ code: 100, error_subcode: 33 });
  await bench.world('whatsapp', {
    numbers: [{ phone_number_id: '77', tenant: 'other' }],
    tokens: [{ token: 'other-token', tenant: 'other', numbers: ['77'] }],
  });
  expect((await send(text('+4915100000002'), { token: 'other-token' })).json.error.error_subcode).toBe(33);
  expect((await send(text('+4915100000002'), { token: 'other-token', phone: '77' })).status).toBe(200);
});

test('one recipient gets 45 messages at once, then 131056; another one is not affected', async () => {
  await number({ messages_per_second: null });
  for (let n = 0; n < 45; n += 1) expect((await send(text('+4915100000003'))).status).toBe(200);
  const over = await send(text('+4915100000003'));
  expect(over).toMatchObject({ status: 429, json: { error: { code: 131056 } } });
  expect((await send(text('+4915100000004'))).status).toBe(200);
});

test('the pair limit lets one more message through after its time', async () => {
  await number({ pair: { every_ms: 200, burst: 1 } });
  expect((await send(text('+4915100000005'))).status).toBe(200);
  expect((await send(text('+4915100000005'))).json.error.code).toBe(131056);
  await vi.waitFor(async () => expect((await send(text('+4915100000005'))).status).toBe(200), {
    interval: 20,
  });
});

test('the throughput limit of a number is 130429', async () => {
  await number({ messages_per_second: 1 });
  expect((await send(text('+4915100000006'))).status).toBe(200);
  expect((await send(text('+4915100000007'))).json.error.code).toBe(130429);
  await number({});
});

describe('the 24-hour window', () => {
  test('is open by default, and enforced when the world says so', async () => {
    await number({});
    expect((await send(text('+4915100000008'))).status).toBe(200);
    await number({ window: 'enforce' });
    expect((await send(text('+4915100000008'))).json.error.code).toBe(131047);
    const from = '4915100000008';
    const old = new Date(Date.now() - 25 * 3600 * 1000).toISOString();
    await bench.world('whatsapp', { inbound: [{ phone_number_id: phone, from, at: old }] });
    expect((await send(text('+4915100000008'))).json.error.code).toBe(131047);
    await bench.world('whatsapp', { inbound: [{ phone_number_id: phone, from }] });
    expect((await send(text('+4915100000008'))).status).toBe(200);
  });

  test('a violation can also show as accepted and then failed', async () => {
    await number({ window: 'enforce', window_answer: 'status' });
    const reply = await send(text('+4915100000009'));
    expect(reply.status).toBe(200);
    const message = (await messages()).find((one: { id: string }) => one.id === reply.json.messages[0].id);
    expect(message.statuses.at(-1)).toMatchObject({ status: 'failed', code: 131047 });
    await number({});
  });
});

test('200 is not delivered: a recipient or a script may let it fail afterwards', async () => {
  await bench.world('whatsapp', { recipients: [{ wa_id: '4915100000010', fails_with: 131026 }] });
  await bench.script('whatsapp', { match: { contains: '4915100000011' }, do: { then_fail: 131049 } });
  for (const [to, code] of [
    ['+4915100000010', 131026],
    ['+4915100000011', 131049],
  ] as const) {
    const reply = await send(text(to));
    expect(reply.status).toBe(200);
    const message = (await messages()).find((one: { id: string }) => one.id === reply.json.messages[0].id);
    expect(message.statuses.at(-1)).toMatchObject({ status: 'failed', code });
  }
  expect((await bench.log('whatsapp')).at(-1)?.answer?.effects[0]?.delivered).toBe(false);
});

describe('templates', () => {
  const template = (name: string, parameters: string[], code = 'en_US') => ({
    messaging_product: 'whatsapp',
    to: '+4915100000012',
    type: 'template',
    template: {
      name,
      language: { code },
      components: [{ type: 'body', parameters: parameters.map((value) => ({ type: 'text', text: value })) }],
    },
  });
  test.each([
    ['a known one with its parameters', template('verified', ['Ana', '3']), 0],
    ['an unknown one', template('nothing', []), 132001],
    ['another language', template('verified', ['Ana', '3'], 'de'), 132001],
    ['too few parameters', template('verified', ['Ana']), 132000],
    ['a paused one', template('paused', []), 132015],
  ])('%s', async (_, body, code) => {
    await bench.world('whatsapp', {
      templates: [
        { name: 'verified', language: 'en_US', parameters: 2 },
        { name: 'paused', language: 'en_US', status: 'paused' },
      ],
    });
    const reply = await send(body);
    if (code === 0) expect(reply.json.messages[0].message_status).toBe('accepted');
    else expect(reply.json.error.code).toBe(code);
  });
});
