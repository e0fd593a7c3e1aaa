import { describe, expect, test, vi } from 'vitest';
import { demo, startSimulators } from '../../scripts/simulators/index.ts';
import { waIdOf } from '../../scripts/simulators/whatsapp.ts';
import { call, post, type Reply, useSimulators } from './helpers.ts';

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

describe('templates in full', () => {
  const template = (name: string, parameters: object[], to = '+4915100000020') => ({
    messaging_product: 'whatsapp',
    to,
    type: 'template',
    template: { name, language: { code: 'de' }, components: [{ type: 'body', parameters }] },
  });
  const named = (parameter_name: string, value: string) => ({ type: 'text', parameter_name, text: value });
  const byPosition = (value: string) => ({ type: 'text', text: value });

  test.each([
    ['names that are its own', template('named', [named('first', 'Ana'), named('spins', '3')]), 0],
    ['a name that is not its own', template('named', [named('first', 'Ana'), named('x', '3')]), 132012],
    ['the same name twice', template('named', [named('first', 'Ana'), named('first', '3')]), 132012],
    ['no names where it has some', template('named', [byPosition('Ana'), byPosition('3')]), 132012],
    ['a name where it has none', template('plain', [named('first', 'Ana')]), 132012],
    ['a parameter that is no text', template('plain', [{ type: 'currency' }]), 132012],
    ['an empty parameter', template('plain', [byPosition('')]), 131008],
    ['a line break', template('plain', [byPosition('a\nb')]), 132007],
    ['five spaces', template('plain', [byPosition('a     b')]), 132007],
    ['a text that becomes too long', template('plain', [byPosition('x'.repeat(1024))]), 132005],
    ['a rejected one', template('rejected', []), 132001],
    ['one that waits for its review', template('pending', []), 132001],
    ['a disabled one', template('disabled', []), 132016],
  ])('%s', async (_, body, code) => {
    await bench.world('whatsapp', {
      templates: [
        { name: 'named', language: 'de', named: ['first', 'spins'], body: '{{first}} has {{spins}}' },
        { name: 'plain', language: 'de', parameters: 1, body: 'Hi {{1}}' },
        ...(['rejected', 'pending', 'disabled'] as const).map((status) => ({
          ...{ name: status, language: 'de' },
          status,
        })),
      ],
    });
    const reply = await send(body);
    if (code !== 0) expect(reply.json.error.code).toBe(code);
    else expect((await messages()).at(-1)).toMatchObject({ template: 'named', text: 'Ana has 3' });
  });

  test('one that is looked at for its quality is held', async () => {
    await bench.world('whatsapp', { templates: [{ name: 'held', language: 'de', held: true }] });
    const reply = await send(template('held', []));
    expect(reply.json.messages[0].message_status).toBe('held_for_quality_assessment');
  });

  test('a template leaves outside the window as well', async () => {
    await number({ window: 'enforce' });
    await bench.world('whatsapp', { templates: [{ name: 'late', language: 'de' }] });
    expect((await send(text('+4915100000021'))).json.error.code).toBe(131047);
    expect((await send(template('late', [], '+4915100000021'))).status).toBe(200);
    await number({});
  });

  test('marketing stops at the cap and at an opt-out, utility does not', async () => {
    const to = '+4915100000022';
    const state = async (reply: Reply) =>
      (await messages()).find((one: { id: string }) => one.id === reply.json.messages[0].id).statuses.at(-1);
    await number({ marketing_per_day: 1 });
    await bench.world('whatsapp', {
      templates: [
        { name: 'offer', language: 'de', category: 'marketing' },
        { name: 'notice', language: 'de' },
      ],
    });
    expect(await state(await send(template('offer', [], to)))).toMatchObject({ status: 'delivered' });
    expect(await state(await send(template('offer', [], to)))).toMatchObject({
      status: 'failed',
      code: 131049,
    });
    const stop = { phone_number_id: phone, wa_id: to.slice(1), value: 'stop' };
    await bench.world('whatsapp', { preferences: [stop] });
    expect(await state(await send(template('offer', [], to)))).toMatchObject({
      status: 'failed',
      code: 131050,
    });
    expect(await state(await send(template('notice', [], to)))).toMatchObject({ status: 'delivered' });
    await number({ marketing_answer: 'sync' });
    expect((await send(template('offer', [], to))).json.error.code).toBe(131050);
    await bench.world('whatsapp', { preferences: [{ ...stop, value: 'resume' }] });
    expect((await send(template('offer', [], to))).status).toBe(200);
    await number({});
  });
});

test.each([131031, 368, 131042, 131048, 131057, 133010])(
  'an account in trouble refuses every message with %i',
  async (code) => {
    await number({ refuses_with: code });
    expect((await send(text('+4915100000030'))).json.error.code).toBe(code);
    await number({});
    expect((await send(text('+4915100000030'))).status).toBe(200);
  },
);

test('a test number reaches its allowed list only', async () => {
  await number({ allowed: ['4915100000031'] });
  expect((await send(text('+4915100000031'))).status).toBe(200);
  expect((await send(text('+4915100000032'))).json.error.code).toBe(131030);
  await number({});
});

describe('what is told to a webhook', () => {
  type Told = { field: string; entryId: string; tenant: string; value: Record<string, unknown> };
  const events = async (): Promise<Told[]> => (await call(`${bench.url('whatsapp')}/_events`)).json.events;
  const statusesOf = async (id: string) =>
    (await events())
      .flatMap(({ value }) => (value.statuses ?? []) as { id: string; status: string; timestamp: string }[])
      .filter((status) => status.id === id);
  const idOf = (reply: Reply): string => reply.json.messages[0].id;

  test('the states of a message, with the callback data, as strings of seconds', async () => {
    const reply = await send(text('+4915100000040', { biz_opaque_callback_data: 'tenant/outbox' }));
    await vi.waitFor(async () => expect(await statusesOf(idOf(reply))).toHaveLength(2));
    const told = (await events()).filter(({ value }) => JSON.stringify(value).includes(idOf(reply)));
    expect(told[0]).toEqual({
      provider: 'whatsapp',
      tenant: 'platform',
      object: 'whatsapp_business_account',
      entryId: `9${phone}`,
      field: 'messages',
      value: {
        messaging_product: 'whatsapp',
        metadata: { display_phone_number: '4930000000', phone_number_id: phone },
        statuses: [
          {
            id: idOf(reply),
            status: 'sent',
            timestamp: expect.stringMatching(/^\d{10}$/),
            recipient_id: '4915100000040',
            biz_opaque_callback_data: 'tenant/outbox',
            pricing: { billable: true, pricing_model: 'PMP', type: 'regular', category: 'service' },
          },
        ],
      },
    });
    expect(told[1]?.value.statuses).toMatchObject([{ status: 'delivered' }]);
  });

  test.each([
    [['read']],
    [['read', 'sent', 'delivered']],
    [['sent', 'sent', 'delivered', 'delivered']],
    [['sent', 'delivered', 'read', 'played']],
  ])('states come in the order that is wanted: %j', async (statuses) => {
    const to = '4915100000041';
    await bench.world('whatsapp', { recipients: [{ wa_id: to, statuses }] });
    const reply = await send(text(`+${to}`));
    await vi.waitFor(async () =>
      expect((await statusesOf(idOf(reply))).map(({ status }) => status)).toEqual(statuses),
    );
    // The times are those at which the states happened, whatever the order.
    const times = new Map(
      (await statusesOf(idOf(reply))).map(({ status, timestamp }) => [status, timestamp]),
    );
    const [sent, read] = [times.get('sent'), times.get('read')];
    if (sent && read) expect(Number(read)).toBeGreaterThan(Number(sent));
    await bench.world('whatsapp', { recipients: [{ wa_id: to }] });
  });

  test('a script decides for one message; none at all are told when it says so', async () => {
    await bench.script('whatsapp', [{ do: { statuses: [] } }, { do: { statuses: ['delivered'] } }]);
    const silent = await send(text('+4915100000042'));
    const next = await send(text('+4915100000042'));
    await vi.waitFor(async () => expect(await statusesOf(idOf(next))).toHaveLength(1));
    expect(await statusesOf(idOf(silent))).toEqual([]);
  });

  test('a message that fails afterwards says why', async () => {
    await bench.script('whatsapp', { do: { then_fail: 131049 } });
    const reply = await send(text('+4915100000043'));
    await vi.waitFor(async () =>
      expect(await statusesOf(idOf(reply))).toMatchObject([
        { status: 'failed', errors: [{ code: 131049, error_data: { details: expect.any(String) } }] },
      ]),
    );
  });

  test('they may come before the answer, or never', async () => {
    await number({ callbacks: 'before' });
    await bench.script('whatsapp', { do: { never: true, effect: true } });
    const before = (await events()).length;
    const lost = AbortSignal.timeout(150);
    await expect(
      fetch(`${bench.url('whatsapp')}/v26.0/${phone}/messages`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(text('+4915100000044')),
        signal: lost,
      }),
    ).rejects.toThrow();
    expect((await events()).length).toBe(before + 2);
    await number({ callbacks: 'never' });
    const reply = await send(text('+4915100000044'));
    expect(await statusesOf(idOf(reply))).toEqual([]);
    expect((await messages()).at(-1).statuses.at(-1).status).toBe('delivered');
    await number({});
  });

  test('late, again, and of a message that nobody knows', async () => {
    const reply = await send(text('+4915100000045'));
    const at = new Date(Date.now() + 7 * 24 * 3600 * 1000).toISOString();
    await bench.world('whatsapp', {
      statuses: [
        { phone_number_id: phone, message_id: idOf(reply), status: 'read', at },
        { phone_number_id: phone, message_id: 'wamid.nobody', status: 'failed', code: 131026 },
      ],
    });
    expect((await events()).slice(-2).map(({ value }) => value.statuses)).toMatchObject([
      [{ id: idOf(reply), status: 'read', recipient_id: '4915100000045' }],
      [{ id: 'wamid.nobody', status: 'failed', errors: [{ code: 131026 }] }],
    ]);
  });

  test('a person writes, with a number or with a user id only, which opens the window', async () => {
    await number({ window: 'enforce' });
    const userId = 'US.13491208655302741918';
    const byUserId = { messaging_product: 'whatsapp', recipient: userId, type: 'text', text: { body: 'x' } };
    expect((await send(byUserId)).json.error.code).toBe(131047);
    const reply = await bench.world('whatsapp', {
      inbound: [
        { phone_number_id: phone, from: '4915100000046', text: 'OC-12345678', name: 'Ana' },
        { phone_number_id: phone, user_id: userId, text: 'STOP', id: 'wamid.twice' },
        { phone_number_id: phone, user_id: userId, text: 'STOP', id: 'wamid.twice' },
      ],
    });
    expect(reply.json.created.inbound).toEqual([expect.any(String), 'wamid.twice', 'wamid.twice']);
    const [first, second, third] = (await events()).slice(-3);
    expect(first?.value).toMatchObject({
      contacts: [{ profile: { name: 'Ana' }, wa_id: '4915100000046' }],
      messages: [{ from: '4915100000046', type: 'text', text: { body: 'OC-12345678' } }],
    });
    expect(second?.value.contacts).toEqual([{ profile: { name: 'Someone' }, user_id: userId }]);
    expect(second?.value.messages).toMatchObject([{ from_user_id: userId, id: 'wamid.twice' }]);
    expect(JSON.stringify(second)).not.toContain('"from":');
    expect(third).toEqual(second);
    const accepted = await send(byUserId);
    expect(accepted.json.contacts).toEqual([{ input: userId, user_id: userId }]);
    await vi.waitFor(async () =>
      expect(await statusesOf(idOf(accepted))).toMatchObject([
        { recipient_user_id: userId },
        { recipient_user_id: userId },
      ]),
    );
    await number({});
  });

  test('a person stops marketing messages', async () => {
    await bench.world('whatsapp', {
      preferences: [
        { phone_number_id: phone, wa_id: '4915100000047', value: 'stop', at: '2026-11-22T12:00:00Z' },
      ],
    });
    expect((await events()).at(-1)).toMatchObject({
      field: 'user_preferences',
      value: {
        user_preferences: [
          { wa_id: '4915100000047', category: 'marketing_messages', value: 'stop', timestamp: 1795348800 },
        ],
      },
    });
  });

  test('whoever started the simulators hears of each event', async () => {
    const heard: string[] = [];
    const own = await startSimulators({ only: ['whatsapp'], onEvent: ({ field }) => heard.push(field) });
    try {
      const reply = await post(`${own.urls.whatsapp}/v26.0/${phone}/messages`, token, text('+4915100000048'));
      expect(reply.status).toBe(200);
      await vi.waitFor(() => expect(heard).toEqual(['messages', 'messages']));
    } finally {
      await own.stop();
    }
  });

  test('what happens to a number that nobody has is refused', async () => {
    const change = { inbound: [{ phone_number_id: '0', from: '4915100000049' }] };
    await expect(bench.world('whatsapp', change)).rejects.toThrow(/there is no number 0/);
  });
});

describe('tokens', () => {
  const app = { app_id: '900', app_secret: 'app-secret-of-900' };
  const phone = '900000000000001';
  const debug = (caller: string, input: string) =>
    call(`${bench.url('whatsapp')}/v26.0/debug_token?input_token=${input}`, {
      headers: { authorization: `Bearer ${caller}` },
    });
  const owned = (token: string, more: object = {}) => ({
    ...{ token, tenant: 'gym', numbers: [phone], app_id: '900', ...more },
  });
  const world = (more: object = {}) =>
    bench.world('whatsapp', {
      numbers: [{ phone_number_id: phone, tenant: 'gym' }],
      apps: [app],
      tokens: [
        owned('system-token'),
        owned('expired-token', { expires_at: '2026-01-01T00:00:00Z' }),
        owned('broken-token', { broken: { subcode: 460 } }),
        owned('other-app-token', { app_id: '901' }),
      ],
      ...more,
    });

  test('an app asks about its tokens at /debug_token, and a token about those of the same app', async () => {
    await world();
    for (const caller of [`${app.app_id}|${app.app_secret}`, 'system-token']) {
      expect((await debug(caller, 'system-token')).json.data).toMatchObject({
        ...{ app_id: '900', type: 'SYSTEM_USER', is_valid: true, expires_at: 0 },
        scopes: ['whatsapp_business_management', 'whatsapp_business_messaging'],
      });
    }
    expect((await debug('900|app-secret-of-900', 'expired-token')).json.data).toMatchObject({
      ...{ is_valid: false, error: { code: 190, subcode: 463 } },
    });
    expect((await debug('900|app-secret-of-900', 'broken-token')).json.data).toMatchObject({
      ...{ is_valid: false, error: { code: 190, subcode: 460 } },
    });
  });

  test('nobody else is told anything about one', async () => {
    await world();
    const unknown = { is_valid: false, scopes: [], error: { code: 190 } };
    for (const input of ['other-app-token', 'nobody', demo.platform.whatsapp.access_token]) {
      expect((await debug('900|app-secret-of-900', input)).json.data).toMatchObject(unknown);
    }
    for (const caller of ['900|wrong', 'nobody', 'expired-token', '|']) {
      expect((await debug(caller, 'system-token')).json.error.code).toBe(190);
    }
    const asked = (await bench.log('whatsapp')).filter(({ path }) => path.includes('debug_token'));
    expect(asked.length).toBeGreaterThan(0);
    expect(JSON.stringify(asked)).not.toMatch(/system-token|app-secret-of-900|other-app-token/);
  });

  test('an expired token sends nothing; the secret’s proof is checked where it is given', async () => {
    await world();
    const self = `${bench.url('whatsapp')}/v26.0/${phone}`;
    const headers = { authorization: 'Bearer system-token' };
    expect((await call(self, { headers })).json.id).toBe(phone);
    expect((await call(`${self}?appsecret_proof=abc`, { headers })).json.error.message).toMatch(
      /Invalid appsecret_proof/,
    );
    const expired = await call(self, { headers: { authorization: 'Bearer expired-token' } });
    expect(expired).toMatchObject({ status: 401, json: { error: { code: 190, error_subcode: 463 } } });
  });

  test('an error of the account is told without any message', async () => {
    await world({ account_errors: [{ phone_number_id: phone, code: 131031, title: 'Account locked' }] });
    const { events } = (await call(`${bench.url('whatsapp')}/_events`)).json;
    expect(events.at(-1)).toMatchObject({
      ...{ field: 'messages', tenant: 'gym' },
      value: {
        metadata: { phone_number_id: phone },
        errors: [{ code: 131031, title: 'Account locked', error_data: { details: 'Account locked' } }],
      },
    });
  });
});
