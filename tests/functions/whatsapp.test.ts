import { describe, expect, test } from 'vitest';
import type { Template } from '../../functions/_shared/providers/messages.ts';
import { createWhatsApp, whatsappErrors } from '../../functions/_shared/providers/whatsapp.ts';
import {
  connectionRefused,
  connectionReset,
  json,
  network,
  never,
  nowMs,
  whatsappCredential,
} from './fakes.ts';

const token = String(whatsappCredential.secret.access_token);
const message = { to: '+16505551234', text: 'Hi Ana 🎉', outboxId: 'outbox-1' };
const accepted = {
  messaging_product: 'whatsapp',
  contacts: [{ input: '+16505551234', wa_id: '16505551234' }],
  messages: [{ id: 'wamid.1' }],
};

async function send(answer: Parameters<typeof network>[0], credential = whatsappCredential) {
  const { http, requests } = network(answer);
  const outcome = await createWhatsApp({ http, url: 'https://graph.facebook.com' }).sendText(
    credential,
    message,
    { nowMs },
  );
  return { outcome, requests };
}
const error = (code: number, details = 'their words') => ({
  error: {
    message: `(#${code}) x`,
    type: 'OAuthException',
    code,
    error_data: { messaging_product: 'whatsapp', details },
    fbtrace_id: 'A',
  },
});

describe('WhatsApp Cloud API', () => {
  test('a text goes out with a link preview and our outbox id', async () => {
    const { outcome, requests } = await send(() => json(200, accepted));
    expect(outcome).toEqual({ kind: 'ok', value: { messageId: 'wamid.1' } });
    expect(requests).toHaveLength(1);
    expect(requests[0]?.url).toBe('https://graph.facebook.com/v26.0/106540000000000/messages');
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${token}`);
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({
      messaging_product: 'whatsapp',
      recipient_type: 'individual',
      to: '+16505551234',
      type: 'text',
      text: { preview_url: true, body: 'Hi Ana 🎉' },
      biz_opaque_callback_data: 'outbox-1',
    });
  });

  test.each([
    ['silence', () => never<Response>()],
    ['a reset', () => Promise.reject(connectionReset())],
    ['an unreadable 200', () => new Response('<html>', { status: 200 })],
    ['an empty 200', () => new Response('', { status: 200 })],
    ['a 200 that names no message', () => json(200, { messages: [] })],
    [
      'a 200 that names another recipient',
      () => json(200, { ...accepted, contacts: [{ input: '+4915112345678' }] }),
    ],
    ['a 502 of a proxy', () => new Response('<html>Bad Gateway</html>', { status: 502 })],
    ['a 500 without a body', () => new Response('', { status: 500 })],
    ['a 500 with a code of tomorrow', () => json(500, error(999999))],
    [
      'a see-other redirect',
      () => new Response(null, { status: 303, headers: { location: 'https://evil.test' } }),
    ],
    ['a body that is too large', () => new Response('x'.repeat(20_000))],
  ])('%s is unknown: never sent again blindly', async (_name, answer) => {
    const { outcome, requests } = await send(answer);
    expect(outcome.kind).toBe('unknown');
    expect(requests).toHaveLength(1);
  });

  test('what can’t have arrived may be sent again', async () => {
    expect((await send(() => Promise.reject(connectionRefused()))).outcome.kind).toBe('retry');
    expect((await send(() => new Response(null, { status: 308 }))).outcome.kind).toBe('retry');
  });

  // Written down a second time, from Meta's page, so that a slip in the table shows.
  const expected: Record<string, number[]> = {
    credentialBroken: [0, 190, 3, 10, 200, 299, 131005, 133010],
    throttled: [4, 80007, 130429, 131057],
    retry: [1, 2, 131000, 131016, 133004, 999999],
    recipientBusy: [131056],
    windowClosed: [131047],
    refused: [100, 131030, 131008, 131009, 131051, 137000],
    failed: [
      368, 131031, 131042, 131048, 131026, 130472, 131049, 131050, 132000, 132001, 132005, 132007, 132012,
      132015, 132016,
    ],
  };
  test.each(Object.entries(expected).flatMap(([kind, codes]) => codes.map((code) => [code, kind] as const)))(
    'code %i is %s, whatever the HTTP status',
    async (code, kind) => {
      for (const status of [200, 400, 403, 500]) {
        if (code === 999999 && status === 500) continue; // a code that is not known, see above
        const { outcome } = await send(() => json(status, error(code)));
        expect(outcome.kind).toBe(kind);
        expect(JSON.stringify(outcome)).toContain(`WhatsApp ${code}:`);
      }
    },
  );

  test.each([
    ['nothing', [131026, 130472, 131049, 131050]],
    ['template', [132000, 132001, 132005, 132007, 132012, 132015, 132016]],
    ['sender', [368, 131031, 131042, 131048]],
  ])('a failure that stops the %s says so, with its code', async (stops, codes) => {
    for (const code of codes) {
      expect((await send(() => json(400, error(code)))).outcome).toMatchObject({
        code,
        stops,
      });
    }
  });

  test('every row of the table is covered here', () => {
    const covered = Object.values(expected).flat();
    for (const row of whatsappErrors)
      expect(covered).toContain(typeof row.code === 'number' ? row.code : row.code[0]);
  });

  test('pauses: the provider’s own, else the table’s', async () => {
    expect((await send(() => json(429, error(130429), { 'retry-after': '7' }))).outcome).toMatchObject({
      seconds: 7,
    });
    expect((await send(() => json(400, error(130429)))).outcome).toMatchObject({ seconds: 30 });
    expect((await send(() => new Response('', { status: 429 }))).outcome).toMatchObject({
      kind: 'throttled',
      seconds: 60,
    });
  });

  test.each([
    ['7', 7],
    ['0', 1],
    ['-5', 1],
    ['99999999', 3600],
    ['garbage', 30],
    ['120s', 30],
    ['', 30],
    [new Date(nowMs + 90_000).toUTCString(), 90],
    [new Date(nowMs - 90_000).toUTCString(), 1],
  ])('a rate limit with retry-after "%s" pauses for %i s', async (header, seconds) => {
    const { outcome } = await send(() => json(429, error(130429), { 'retry-after': header }));
    expect(outcome).toMatchObject({ kind: 'throttled', seconds });
  });

  test('a service that is down is left alone for as long as it asks, up to an hour, else as the engine thinks', async () => {
    const down = async (headers?: Record<string, string>) =>
      (await send(() => json(503, error(131016), headers))).outcome;
    expect(await down({ 'retry-after': '20' })).toMatchObject({ kind: 'retry', afterSeconds: 20 });
    expect(await down({ 'retry-after': '99999' })).toMatchObject({ kind: 'retry', afterSeconds: 3600 });
    expect(await down()).not.toHaveProperty('afterSeconds');
  });

  test('an echoed token does not get out', async () => {
    const { outcome } = await send(() =>
      json(401, error(190, `token ${token} ${encodeURIComponent(token)}`)),
    );
    expect(outcome.kind).toBe('credentialBroken');
    expect(JSON.stringify(outcome)).not.toContain('canary');
  });

  test.each([
    [{ account: {} }],
    [{ account: { phone_number_id: '../1' } }],
    [{ secret: {} }],
    [{ secret: { access_token: 'a\nb' } }],
  ])('an incomplete credential %j is broken and leaves no request', async (changes) => {
    const { outcome, requests } = await send(() => json(200, accepted), {
      ...whatsappCredential,
      ...changes,
    });
    expect(outcome.kind).toBe('credentialBroken');
    expect(requests).toHaveLength(0);
  });

  describe('who it goes to, and what it carries', () => {
    async function sendText(changes: Record<string, unknown>, answer = () => json(200, accepted)) {
      const { http, requests } = network(answer);
      const whatsapp = createWhatsApp({ http, url: 'https://graph.facebook.com' });
      const outcome = await whatsapp.sendText(whatsappCredential, { ...message, ...changes }, { nowMs });
      return { outcome, requests, body: JSON.parse(requests[0]?.body || '{}') };
    }

    test('the callback data is what the status webhooks shall bring back', async () => {
      expect((await sendText({ callback: 'tenant/outbox-1' })).body.biz_opaque_callback_data).toBe(
        'tenant/outbox-1',
      );
      const { outcome, requests } = await sendText({ callback: 'x'.repeat(513) });
      expect(outcome.kind).toBe('refused');
      expect(requests).toHaveLength(0);
    });

    test('a person without a number is addressed by the user id', async () => {
      const to = 'US.13491208655302741918';
      const answer = { ...accepted, contacts: [{ input: to, user_id: to }] };
      const { outcome, body } = await sendText({ to }, () => json(200, answer));
      expect(outcome.kind).toBe('ok');
      expect(body.recipient).toBe(to);
      expect(body).not.toHaveProperty('to');
      const other = { ...accepted, contacts: [{ input: 'US.9' }] };
      expect((await sendText({ to }, () => json(200, other))).outcome.kind).toBe('unknown');
    });

    test.each(['015112345678', '4915112345678', '+0151', 'us.1', 'US.', `US.${'1'.repeat(129)}`, ''])(
      'the recipient "%s" leaves no request: WhatsApp would guess a country',
      async (to) => {
        const { outcome, requests } = await sendText({ to });
        expect(outcome.kind).toBe('refused');
        expect(requests).toHaveLength(0);
      },
    );

    test('a number that WhatsApp writes differently is still the one that was asked for', async () => {
      const to = '+5511987654321';
      const answer = { ...accepted, contacts: [{ input: to, wa_id: '551187654321' }] };
      expect((await sendText({ to }, () => json(200, answer))).outcome.kind).toBe('ok');
    });
  });

  describe('templates', () => {
    async function sendTemplate(template: Template, answer = () => json(200, accepted)) {
      const { http, requests } = network(answer);
      const whatsapp = createWhatsApp({ http, url: 'https://graph.facebook.com' });
      const { to, outboxId } = message;
      const outcome = await whatsapp.sendTemplate(
        whatsappCredential,
        { to, outboxId, callback: 't/o', template },
        { nowMs },
      );
      return { outcome, requests, body: JSON.parse(requests[0]?.body || '{}') };
    }
    const template = { name: 'task_approved', language: 'en_US', parameters: [] };

    test('named parameters go with their names, those by position without', async () => {
      const parameters = [
        { name: 'first_name', text: 'Ana' },
        { name: 'spins', text: '3' },
      ];
      expect((await sendTemplate({ ...template, parameters })).body).toEqual({
        messaging_product: 'whatsapp',
        recipient_type: 'individual',
        to: '+16505551234',
        type: 'template',
        template: {
          name: 'task_approved',
          language: { code: 'en_US' },
          components: [
            {
              type: 'body',
              parameters: [
                { type: 'text', parameter_name: 'first_name', text: 'Ana' },
                { type: 'text', parameter_name: 'spins', text: '3' },
              ],
            },
          ],
        },
        biz_opaque_callback_data: 't/o',
      });
      const byPosition = await sendTemplate({ ...template, parameters: [{ text: 'Ana' }] });
      expect(byPosition.body.template.components[0].parameters).toEqual([{ type: 'text', text: 'Ana' }]);
      expect((await sendTemplate(template)).body.template).not.toHaveProperty('components');
    });

    test('a parameter is one line: WhatsApp refuses line breaks, tabs and long gaps', async () => {
      const parameters = [{ text: ' Ana\n\tMaria      Silva ' }];
      const { body } = await sendTemplate({ ...template, parameters });
      expect(body.template.components[0].parameters[0].text).toBe('Ana Maria Silva');
    });

    test.each([
      ['an empty parameter', [{ text: ' \n' }]],
      ['names here and there', [{ name: 'a', text: 'x' }, { text: 'y' }]],
    ])('%s leaves no request', async (_name, parameters) => {
      const { outcome, requests } = await sendTemplate({ ...template, parameters });
      expect(outcome.kind).toBe('refused');
      expect(requests).toHaveLength(0);
    });

    test('one that is kept back for a look at its quality is accepted, and says so', async () => {
      const messages = (status: string) => ({
        ...accepted,
        messages: [{ id: 'wamid.1', message_status: status }],
      });
      expect(
        (await sendTemplate(template, () => json(200, messages('held_for_quality_assessment')))).outcome,
      ).toEqual({ kind: 'ok', value: { messageId: 'wamid.1', held: true } });
      expect((await sendTemplate(template, () => json(200, messages('accepted')))).outcome).toEqual({
        kind: 'ok',
        value: { messageId: 'wamid.1' },
      });
    });
  });
});
