import { createHash, createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { EngineError, type RpcAnswer } from '../../functions/_shared/engine.ts';
import { createWebhooks } from '../../functions/webhooks/handler.ts';
import { createIntake, type Intake, type WebhookSecrets } from '../../functions/webhooks/intake.ts';
import { memoryLog } from './fakes.ts';

const pizza = '33333333-3333-4333-8333-333333333333';
const gym = '44444444-4444-4444-8444-444444444444';
const secrets: Record<string, WebhookSecrets> = {
  'meta/pizza-shop': { tenant_id: pizza, app_secrets: ['canary-app-pizza'], verify_token: 'canary-verify' },
  'whatsapp/pizza-shop': { tenant_id: pizza, app_secrets: ['canary-app-whatsapp'], verify_token: null },
  'meta/gym': { tenant_id: gym, app_secrets: ['canary-app-gym', 'canary-app-gym-2'], verify_token: 'gym' },
  'meta/no-secret': { tenant_id: gym, app_secrets: [], verify_token: 'only-a-token' },
  'meta/platform': {
    tenant_id: '00000000-0000-0000-0000-000000000000',
    app_secrets: ['canary-app-platform'],
    verify_token: null,
  },
};
const code = 'a'.repeat(32);

function webhooks(changes: Partial<Intake> = {}) {
  const calls: { name: string; args: unknown[] }[] = [];
  const note =
    <T>(name: string, result: T) =>
    async (...args: unknown[]) => {
      calls.push({ name, args });
      return result;
    };
  const { log, lines } = memoryLog();
  const intake: Intake = {
    secrets: async (tenant, source) => secrets[`${source}/${tenant}`] ?? null,
    receive: note('receive', { new: true, retry_after_seconds: null }),
    receiveDeletion: note('receiveDeletion', { code }),
    deletionStatus: async (asked) =>
      asked === code
        ? {
            status: 'completed',
            requested_at: '2026-11-20T10:00:00+00:00',
            completed_at: '2026-11-20T10:01:00+00:00',
          }
        : null,
    recordVisit: note('recordVisit', 'https://pizza.example/menu?a=1'),
    ...changes,
  };
  const handle = createWebhooks({ intake, log, publicUrl: 'https://x.test/functions/v1/webhooks' });
  const call = (method: string, path: string, init: { body?: BodyInit; headers?: HeadersInit } = {}) =>
    handle(
      new Request(`https://x.test/functions/v1/webhooks${path}`, { method, redirect: 'manual', ...init }),
    );
  const send = (path: string, body: string | Uint8Array<ArrayBuffer>, signature: string | null) =>
    call('POST', path, {
      body,
      headers: {
        'content-type': 'application/json',
        ...(signature === null ? {} : { 'x-hub-signature-256': signature }),
      },
    });
  return { call, send, calls, lines };
}

const sign = (secret: string, body: string | Uint8Array) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
// As Meta writes it: what is not ASCII is escaped, slashes are, too.
const body =
  '{"object":"instagram","entry":[{"id":"178","time":1760000000,"changes":[{"field":"comments","value":{"id":"c1","text":"caf\\u00e9 \\ud83c\\udf55 https:\\/\\/x"}}]}]}';

describe('the handshake', () => {
  const asked = 'hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=';

  test('who knows the verify token gets the challenge back, raw', async () => {
    const response = await webhooks().call('GET', `/meta/pizza-shop?${asked}canary-verify`);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe('1158201444');
    expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
  });

  test.each([
    ['a wrong token', `/meta/pizza-shop?${asked}wrong`],
    ['no token', '/meta/pizza-shop?hub.mode=subscribe&hub.challenge=1'],
    ['an empty token where none is set', `/whatsapp/pizza-shop?${asked}`],
    ['the token of another tenant', `/meta/gym?${asked}canary-verify`],
    ['the token with white space', `/meta/pizza-shop?${asked}canary-verify%20`],
    ['another mode', '/meta/pizza-shop?hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=canary-verify'],
    ['no challenge', '/meta/pizza-shop?hub.mode=subscribe&hub.verify_token=canary-verify'],
    [
      'a challenge that is a page',
      '/meta/pizza-shop?hub.mode=subscribe&hub.challenge=%3Cb%3E%20x&hub.verify_token=canary-verify',
    ],
    ['a tenant that does not exist', `/meta/nobody?${asked}canary-verify`],
    ['a name that no tenant has', `/meta/..%2fpizza-shop?${asked}canary-verify`],
  ])('%s is refused, all in the same words', async (_, path) => {
    const { call } = webhooks();
    const response = await call('GET', path);
    expect(response.status).toBe(403);
    expect(await response.text()).toBe(await (await call('GET', '/meta/nobody')).text());
  });
});

describe('a body', () => {
  test('that is signed by the tenant’s own app is stored and acknowledged', async () => {
    const { send, calls } = webhooks();
    const response = await send('/meta/pizza-shop', body, sign('canary-app-pizza', body));
    expect(response.status).toBe(200);
    expect(calls).toEqual([
      {
        name: 'receive',
        args: [pizza, 'meta', JSON.parse(body), createHash('sha256').update(body).digest('hex')],
      },
    ]);
    expect(JSON.stringify(calls)).toContain('café 🍕');
  });

  test('may be signed with the second of two secrets, while one replaces the other', async () => {
    const { send, calls } = webhooks();
    expect((await send('/meta/gym', body, sign('canary-app-gym-2', body))).status).toBe(200);
    expect(calls[0]?.args[0]).toBe(gym);
  });

  test.each<[string, string, string, string | null]>([
    ['without a signature', '/meta/pizza-shop', body, null],
    ['with an empty signature', '/meta/pizza-shop', body, ''],
    ['signed with another tenant’s secret', '/meta/pizza-shop', body, sign('canary-app-gym', body)],
    ['signed with the platform’s secret', '/meta/pizza-shop', body, sign('canary-app-platform', body)],
    [
      'signed with the secret of the tenant’s other provider',
      '/meta/pizza-shop',
      body,
      sign('canary-app-whatsapp', body),
    ],
    ['signed with the verify token', '/meta/pizza-shop', body, sign('canary-verify', body)],
    ['sent to another tenant’s address', '/meta/gym', body, sign('canary-app-pizza', body)],
    ['that was altered', '/meta/pizza-shop', body.replace('c1', 'c2'), sign('canary-app-pizza', body)],
    [
      'that was written anew with the same meaning',
      '/meta/pizza-shop',
      JSON.stringify(JSON.parse(body)),
      sign('canary-app-pizza', body),
    ],
    ['with a byte more', '/meta/pizza-shop', `${body}\n`, sign('canary-app-pizza', body)],
    ['with half a signature', '/meta/pizza-shop', body, sign('canary-app-pizza', body).slice(0, 40)],
    ['with the bare digest', '/meta/pizza-shop', body, sign('canary-app-pizza', body).slice(7)],
    [
      'with the old sha1',
      '/meta/pizza-shop',
      body,
      `sha1=${createHmac('sha1', 'canary-app-pizza').update(body).digest('hex')}`,
    ],
    [
      'with two signatures',
      '/meta/pizza-shop',
      body,
      `sha256=${'0'.repeat(64)}, ${sign('canary-app-pizza', body)}`,
    ],
    ['to a tenant that has no app secret, signed with nothing', '/meta/no-secret', body, sign('', body)],
    ['to a tenant that does not exist', '/meta/nobody', body, sign('canary-app-pizza', body)],
    ['to a name in other letters', '/meta/PIZZA-SHOP', body, sign('canary-app-pizza', body)],
    ['to a path that climbs', '/meta/x%2f..%2fpizza-shop', body, sign('canary-app-pizza', body)],
  ])('%s is refused like any other, and nothing is stored', async (_, path, sent, signature) => {
    const { send, calls } = webhooks();
    const response = await send(path, sent, signature);
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({
      error: { code: 'unauthorized', message: 'The signature does not belong to this body and address.' },
    });
    expect(calls).toEqual([]);
  });

  test.each([
    ['is not JSON', 'canary{', 400, 'invalid_json'],
    ['is no object', '[]', 400, 'wrong_object'],
    ['belongs to another provider', '{"object":"whatsapp_business_account","entry":[]}', 400, 'wrong_object'],
    ['has no entries', '{"object":"instagram"}', 400, 'wrong_object'],
    ['is too deep', `{"object":"page","entry":[${'['.repeat(100)}${']'.repeat(100)}]}`, 400, 'invalid_json'],
  ])('that is signed and %s is refused', async (_, sent, status, refusal) => {
    const { send, calls } = webhooks();
    const response = await send('/meta/pizza-shop', sent, sign('canary-app-pizza', sent));
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { code: refusal } });
    // Unsigned it is not even looked at.
    expect((await send('/meta/pizza-shop', sent, null)).status).toBe(401);
    expect(calls).toEqual([]);
  });

  test('that is no UTF-8 is refused, signed or not', async () => {
    const { send, calls } = webhooks();
    const sent = new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]);
    expect((await send('/meta/pizza-shop', sent, sign('canary-app-pizza', sent))).status).toBe(400);
    expect((await send('/meta/pizza-shop', sent, null)).status).toBe(401);
    expect(calls).toEqual([]);
  });

  test('of a thousand updates is taken, one above 3 MB is not read to its end', async () => {
    const { send, call, calls } = webhooks();
    const large = JSON.stringify({
      object: 'page',
      entry: [{ changes: Array(1_000).fill({ value: 'x'.repeat(2_000) }) }],
    });
    expect((await send('/meta/pizza-shop', large, sign('canary-app-pizza', large))).status).toBe(200);
    const huge = 'x'.repeat(3 * 1024 * 1024 + 1);
    expect((await send('/meta/pizza-shop', huge, sign('canary-app-pizza', huge))).status).toBe(413);
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(1024 * 1024));
      },
    });
    const init = { body: endless, duplex: 'half' };
    expect((await call('POST', '/meta/pizza-shop', init)).status).toBe(413);
    expect(pulled).toBeLessThan(10);
    expect(calls).toHaveLength(1);
  });

  test('with characters that the database does not have loses them, not its other updates', async () => {
    const { send, calls } = webhooks();
    const odd =
      '{"object":"page","entry":[{"text":"a\\u0000b\\ud800c","\\u0000":1,"__proto__":{"polluted":1}}]}';
    expect((await send('/meta/pizza-shop', odd, sign('canary-app-pizza', odd))).status).toBe(200);
    expect(JSON.stringify(calls[0]?.args[2])).toBe(
      '{"object":"page","entry":[{"text":"a\ufffdb\ufffdc","\ufffd":1,"__proto__":{"polluted":1}}]}',
    );
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test('is stored without the addresses of media; what people write stays', async () => {
    const { send, calls } = webhooks();
    const media = 'https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=1&signature=canary-media';
    const value = (text: string, url: string | null) => ({
      ...{ sender: { id: '5' }, timestamp: 1_760_000_000_000, postback: { payload: text } },
      message: {
        ...{ mid: 'm1', text, reply_to: { story: { id: 's1', url } } },
        attachments: [{ type: 'story_mention', payload: { url } }],
        photos: [url],
      },
    });
    const words = 'https://ig.me/m/pizza.shop?ref=OC-1A2B3C4D';
    const of = (url: string | null) => ({
      ...{ object: 'instagram', entry: [{ id: '178', messaging: [value(words, url)] }] },
    });
    const sent = JSON.stringify(of(media));
    expect((await send('/meta/pizza-shop', sent, sign('canary-app-pizza', sent))).status).toBe(200);
    expect(calls[0]?.args[2]).toEqual(of(null));
    expect(calls[0]?.args[3]).toBe(createHash('sha256').update(sent).digest('hex'));
  });

  test('of another object than the address’s is told apart: WhatsApp goes to WhatsApp', async () => {
    const { send, calls } = webhooks();
    const sent = '{"object":"whatsapp_business_account","entry":[]}';
    expect((await send('/whatsapp/pizza-shop', sent, sign('canary-app-whatsapp', sent))).status).toBe(200);
    expect(calls[0]?.args.slice(0, 2)).toEqual([pizza, 'whatsapp']);
  });

  test('again is acknowledged again: the database knows it', async () => {
    const { send, calls } = webhooks({
      receive: async () => ({ new: false, retry_after_seconds: null }),
    });
    expect((await send('/meta/pizza-shop', body, sign('canary-app-pizza', body))).status).toBe(200);
    expect(calls).toEqual([]);
  });

  test('beyond the rate is told when to come again', async () => {
    const { send } = webhooks({ receive: async () => ({ new: false, retry_after_seconds: 1.2 }) });
    const response = await send('/meta/pizza-shop', body, sign('canary-app-pizza', body));
    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('2');
  });

  test.each([
    ['the secrets cannot be read', 'secrets'],
    ['it cannot be stored', 'receive'],
  ] as const)('is not acknowledged when %s: the provider will come again', async (_, name) => {
    const away = async () => {
      throw new EngineError(name, 'connection', true, 'canary-detail');
    };
    const { send, lines } = webhooks({ [name]: away });
    const response = await send('/meta/pizza-shop', body, sign('canary-app-pizza', body));
    expect(response.status).toBe(503);
    expect(await response.text()).not.toContain('canary');
    expect(lines.join('\n')).not.toMatch(/canary-app|caf/);
  });

  test.each(['PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'])('by %s is refused', async (method) => {
    expect((await webhooks().call(method, '/meta/pizza-shop')).status).toBe(405);
  });

  test.each([
    '/',
    '/meta',
    '/stripe/pizza-shop',
    '/meta/pizza-shop/x',
    '/meta/pizza-shop/data-deletion/x',
    '/visit/a',
  ])('at %s finds nothing', async (path) => {
    expect((await webhooks().call('POST', path, { body })).status).toBe(404);
  });
});

describe('a request to be forgotten', () => {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  function signedRequest(secret: string, payload: unknown, encoded = encode(payload)) {
    const signature = createHmac('sha256', secret).update(encoded).digest('base64url');
    return `${signature}.${encoded}`;
  }
  const payload = { algorithm: 'HMAC-SHA256', expires: 1291840400, issued_at: 1291836800, user_id: '218471' };
  const form = (signed: string) => ({ body: new URLSearchParams({ signed_request: signed }) });

  test('gets an address to ask at and a code', async () => {
    const { call, calls } = webhooks();
    const signed = signedRequest('canary-app-pizza', payload);
    const response = await call('POST', '/meta/pizza-shop/data-deletion', form(signed));
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      url: `https://x.test/functions/v1/webhooks/deletions/${code}`,
      confirmation_code: code,
    });
    expect(calls).toEqual([
      { name: 'receiveDeletion', args: [pizza, '218471', createHash('sha256').update(signed).digest('hex')] },
    ]);
  });

  const other = signedRequest('canary-app-pizza', { ...payload, user_id: '1' });
  test.each([
    ['nothing', '/meta/pizza-shop', ''],
    ['no signature', '/meta/pizza-shop', `.${encode(payload)}`],
    ['the signature of another request', '/meta/pizza-shop', `${other.split('.')[0]}.${encode(payload)}`],
    ['another tenant’s secret', '/meta/pizza-shop', signedRequest('canary-app-gym', payload)],
    ['another tenant’s address', '/meta/gym', signedRequest('canary-app-pizza', payload)],
    ['no algorithm', '/meta/pizza-shop', signedRequest('canary-app-pizza', { user_id: '1' })],
    [
      'another algorithm',
      '/meta/pizza-shop',
      signedRequest('canary-app-pizza', { ...payload, algorithm: 'none' }),
    ],
    ['no person', '/meta/pizza-shop', signedRequest('canary-app-pizza', { algorithm: 'HMAC-SHA256' })],
    [
      'an id that is a pattern',
      '/meta/pizza-shop',
      signedRequest('canary-app-pizza', { ...payload, user_id: '%' }),
    ],
    ['a payload that is not JSON', '/meta/pizza-shop', signedRequest('canary-app-pizza', null, 'e30x')],
    ['a payload that is not base64', '/meta/pizza-shop', signedRequest('canary-app-pizza', null, '***')],
    ['a third part', '/meta/pizza-shop', `${signedRequest('canary-app-pizza', payload)}.x`],
    [
      'the platform’s app, which is no tenant’s',
      '/meta/platform',
      signedRequest('canary-app-platform', payload),
    ],
    ['a tenant that does not exist', '/meta/nobody', signedRequest('canary-app-pizza', payload)],
  ])('with %s is refused', async (_, path, signed) => {
    const { call, calls } = webhooks();
    const response = await call('POST', `${path}/data-deletion`, form(signed));
    expect(response.status).toBe(401);
    expect(calls).toEqual([]);
  });

  test('can be followed by whoever has the code, and by nobody else', async () => {
    const { call } = webhooks();
    const response = await call('GET', `/deletions/${code}`);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe(
      'Your data was deleted on 2026-11-20. The request came on 2026-11-20.\n',
    );
    for (const wrong of ['b'.repeat(32), '%', "a' or 'a", '']) {
      expect((await call('GET', `/deletions/${wrong}`)).status).toBe(404);
    }
  });
});

describe('a visit', () => {
  const browser = { 'user-agent': 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Instagram 350.0' };

  test('is recorded and sent on to the task’s own url', async () => {
    const { call, calls } = webhooks();
    const response = await call('GET', '/visit/pizza-shop/OC-ABCD2345', { headers: browser });
    expect(response.status).toBe(302);
    expect(response.headers.get('location')).toBe('https://pizza.example/menu?a=1');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(calls).toEqual([{ name: 'recordVisit', args: ['pizza-shop', 'OC-ABCD2345', true] }]);
  });

  test.each<[string, Record<string, string>]>([
    ['WhatsApp', { 'user-agent': 'WhatsApp/2.23.20.0' }],
    [
      'Facebook',
      { 'user-agent': 'facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)' },
    ],
    ['Telegram', { 'user-agent': 'TelegramBot (like TwitterBot)' }],
    ['nobody who says who it is', { 'user-agent': '' }],
    ['a browser that fetches ahead', { ...browser, 'sec-purpose': 'prefetch;prerender' }],
  ])('by the preview of %s is sent on and not recorded', async (_, headers) => {
    const { call, calls } = webhooks();
    expect((await call('GET', '/visit/pizza-shop/OC-ABCD2345', { headers })).status).toBe(302);
    expect(calls[0]?.args[2]).toBe(false);
  });

  test.each([
    'Mozilla/5.0 (Linux; Android 14; CUBOT NOTE 50) Chrome/120 Mobile',
    'Mozilla/5.0 (Linux; Android 14; Pixel 8) Telegram-Android/11.2 Chrome/120',
    'Mozilla/5.0 (iPhone) [Pinterest/iOS]',
  ])('from %s is a person’s', async (agent) => {
    const { call, calls } = webhooks();
    await call('GET', '/visit/pizza-shop/OC-ABCD2345', { headers: { 'user-agent': agent } });
    expect(calls[0]?.args[2]).toBe(true);
  });

  test.each(['HEAD', 'POST'])('by %s is none', async (method) => {
    const { call, calls } = webhooks();
    expect((await call(method, '/visit/pizza-shop/OC-ABCD2345')).status).toBe(405);
    expect(calls).toEqual([]);
  });

  test('goes nowhere without a claim, and nowhere else whatever the request says', async () => {
    const { call } = webhooks({ recordVisit: async () => null });
    expect((await call('GET', '/visit/pizza-shop/OC-ABCD2345?url=https://evil.example')).status).toBe(404);
    const odd = webhooks({ recordVisit: async () => 'javascript:alert(1)' });
    expect((await odd.call('GET', '/visit/pizza-shop/OC-ABCD2345')).status).toBe(404);
    const fine = webhooks();
    const response = await fine.call('GET', '/visit/pizza-shop/OC-ABCD2345?url=https://evil.example', {
      headers: { host: 'evil.example', 'x-forwarded-host': 'evil.example' },
    });
    expect(response.headers.get('location')).toBe('https://pizza.example/menu?a=1');
    const unasked = webhooks();
    expect((await unasked.call('GET', '/visit/pizza-shop/%2e%2e')).status).toBe(404);
    expect((await unasked.call('GET', "/visit/pizza-shop/OC-ABCD234'")).status).toBe(404);
    expect(unasked.calls).toEqual([]);
  });
});

describe('the calls of the database', () => {
  const found = { data: { new: true, retry_after_seconds: null }, error: null, status: 200 };
  const failed = (code: string, status: number): RpcAnswer => ({
    data: null,
    error: { code, message: 'no' },
    status,
  });
  function intake(answers: RpcAnswer[]) {
    let count = 0;
    const made = createIntake({
      timeoutMs: 50,
      rpc: async () => answers[count++] ?? failed('57P01', 500),
    });
    return { receive: () => made.receive(pizza, 'meta', {}, 'a'.repeat(64)), count: () => count };
  }

  test('are made twice when the first finds no database', async () => {
    const calls = intake([failed('57P01', 500), found]);
    expect(await calls.receive()).toEqual({ new: true, retry_after_seconds: null });
    expect(calls.count()).toBe(2);
  });

  test('and no more often than twice: the provider waits', async () => {
    const calls = intake([]);
    await expect(calls.receive()).rejects.toMatchObject({ transient: true });
    expect(calls.count()).toBe(2);
  });

  test('are not repeated when the database refuses the value', async () => {
    const calls = intake([failed('22P05', 400), found]);
    await expect(calls.receive()).rejects.toMatchObject({ transient: false });
    expect(calls.count()).toBe(1);
  });
});
