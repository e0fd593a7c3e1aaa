import { describe, expect, test } from 'vitest';
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
    credentialBroken: [0, 190, 3, 10, 200, 299, 131005, 368, 131031, 131042, 133010],
    throttled: [4, 80007, 130429, 131048, 131057],
    retry: [1, 2, 131000, 131016, 133004, 131056, 999999],
    refused: [
      100, 131026, 131047, 131049, 131050, 130472, 131030, 131008, 131009, 131051, 132000, 132001, 132005,
      132007, 132012, 132015, 132016, 137000,
    ],
  };
  test.each(Object.entries(expected).flatMap(([kind, codes]) => codes.map((code) => [code, kind] as const)))(
    'code %i is %s, whatever the HTTP status',
    async (code, kind) => {
      for (const status of [200, 400, 403]) {
        const { outcome } = await send(() => json(status, error(code)));
        expect(outcome.kind).toBe(kind);
        expect(JSON.stringify(outcome)).toContain(`WhatsApp ${code}:`);
      }
    },
  );

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
    expect((await send(() => json(400, error(131048)))).outcome).toMatchObject({ seconds: 3600 });
    expect((await send(() => json(400, error(131056)))).outcome).toMatchObject({
      kind: 'retry',
      afterSeconds: 60,
    });
    expect((await send(() => new Response('', { status: 429 }))).outcome).toMatchObject({
      kind: 'throttled',
      seconds: 60,
    });
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
});
