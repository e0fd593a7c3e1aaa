import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFetchChecked, type FetchChecked } from '../../functions/_shared/addresses.ts';
import type { Credential } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import { createGateway } from '../../functions/_shared/providers/gateway.ts';
import { createSendNotifications } from '../../functions/worker/jobs/send-notifications.ts';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import {
  connectionRefused,
  connectionReset,
  item,
  jobContext,
  json,
  memoryLog,
  network,
  never,
  nowMs,
  type SentRequest,
  work,
} from './fakes.ts';

const key = 'canary-gateway-key+/=0123456789';
const account = {
  method: 'POST',
  url: 'https://api.gateway.example.com/send-message',
  headers: {},
  body: { number: '{{number}}', message: '{{message}}', sender: '{{sender}}', api_key: '{{api_key}}' },
  sender: '4930111111',
  success: { path: 'status', equals: true },
  message_id_path: 'data.id',
  error_path: 'msg',
};
const credential = (
  changes: Record<string, unknown> = {},
  secret: Record<string, unknown> = { api_key: key },
): Credential => ({
  ...{ credential_id: 'c9', provider: 'whatsapp', kind: 'gateway', source: 'tenant' },
  account: { ...account, ...changes },
  secret,
});
const text = 'Grüße "Ana"\\\n🎉 {{api_key}} & more';

async function send(
  answer: (request: SentRequest) => Response | Promise<Response>,
  given: Credential = credential(),
  addresses: string[] = ['93.184.216.34'],
  to = '+4915112345678',
) {
  const { http, requests } = network(answer);
  const fetchChecked = createFetchChecked({
    ...{ plain: http, pinned: () => http, allowedHosts: [], resolve: async () => addresses },
  });
  const outcome = await createGateway({ fetchChecked }).sendText(
    given,
    { to, text, outboxId: 'o1' },
    { nowMs },
  );
  expect(JSON.stringify(outcome)).not.toContain('canary');
  return { outcome, requests };
}
const sent = () => json(200, { status: true, msg: 'ok', data: { id: 'ABC' } });

describe('the request of a gateway', () => {
  test('is the template with its values, which stay what they are in JSON', async () => {
    const { outcome, requests } = await send(sent);
    expect(outcome).toEqual({ kind: 'ok', value: { messageId: 'ABC' } });
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({ method: 'POST', url: account.url });
    // What a message says is no template: {{api_key}} in it stays as it is.
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({
      number: '4915112345678',
      message: text,
      sender: '4930111111',
      api_key: key,
    });
    expect(requests[0]?.headers.get('content-type')).toBe('application/json');
  });

  test('may be a text of JSON', async () => {
    const body = '{"to": {{number}}, "text": "{{message}}", "nested": ["{{sender}}"]}';
    const { requests } = await send(
      sent,
      credential({ body, headers: { Authorization: 'Bearer {{api_key}}' }, method: 'PUT' }),
    );
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({ to: 4915112345678, text, nested: ['4930111111'] });
    expect(requests[0]?.method).toBe('PUT');
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${key}`);
  });

  test('may be a form, and have values in its url', async () => {
    const url = 'https://api.gateway.example.com/{{sender}}/send?to={{number}}';
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const { requests } = await send(
      sent,
      credential({ url, headers, body: 'text={{message}}&key={{api_key}}' }),
    );
    expect(requests[0]?.url).toBe('https://api.gateway.example.com/4930111111/send?to=4915112345678');
    expect(Object.fromEntries(new URLSearchParams(requests[0]?.body))).toEqual({ text, key });
  });

  test('values can’t leave their place in the url', async () => {
    const url = 'https://api.gateway.example.com/{{sender}}';
    const { requests } = await send(sent, credential({ url, sender: '../../x?y#z@evil.example' }));
    expect(requests[0]?.url).toBe('https://api.gateway.example.com/..%2F..%2Fx%3Fy%23z%40evil.example');
  });

  test.each([
    ['no url', credential({ url: undefined })],
    ['another method', credential({ method: 'GET' })],
    ['no success', credential({ success: undefined })],
    ['a path that is none', credential({ error_path: '__proto__[0]' })],
    ['no key', credential({}, {})],
    ['a key with a line break', credential({}, { api_key: 'canary\r\nx: y' })],
    ['the key in its url', credential({ url: 'https://api.gateway.example.com/?k={{api_key}}' })],
    ['the key itself in its url', credential({ url: `https://api.gateway.example.com/?k=${key}` })],
    ['a header that can’t be sent', credential({ headers: { 'x-sender': 'a\r\nx-injected: 1' } })],
  ])('with %s nothing is sent: the credential is broken', async (_name, given) => {
    const { outcome, requests } = await send(sent, given);
    expect(outcome).toMatchObject({ kind: 'credentialBroken' });
    expect(requests).toEqual([]);
  });

  test('a person without a number can’t be reached by it', async () => {
    const { outcome, requests } = await send(sent, credential(), undefined, 'US.13491208655302741918');
    expect(outcome).toMatchObject({ kind: 'refused' });
    expect(requests).toEqual([]);
  });

  test.each([
    ['a private address', ['10.0.0.8'], 'credentialBroken'],
    ['nothing', [], 'retry'],
  ])('a url that leads to %s gets nothing', async (_name, addresses, kind) => {
    const { outcome, requests } = await send(sent, credential(), addresses);
    expect(outcome).toMatchObject({ kind, error: expect.stringMatching(/^The gateway’s url/) });
    expect(requests).toEqual([]);
  });
});

describe('the answer of a gateway', () => {
  test.each<[string, () => Response | Promise<Response>, string]>([
    ['success without an id', () => json(200, { status: true }), 'ok'],
    ['success with 201', () => json(201, { status: true }), 'ok'],
    ['a refusal', () => json(200, { status: false, msg: `no device for ${key}` }), 'refused'],
    ['a text where true is meant', () => json(200, { status: 'true' }), 'refused'],
    ['200 without the word', () => json(200, { other: 1 }), 'unknown'],
    ['200 without JSON', () => new Response('<html>'), 'unknown'],
    ['200 without anything', () => new Response(''), 'unknown'],
    ['a prototype’s property', () => json(200, []), 'unknown'],
    ['400', () => json(400, { msg: 'bad number' }), 'refused'],
    ['401', () => json(401, { msg: key }), 'credentialBroken'],
    ['403', () => json(403, {}), 'credentialBroken'],
    ['404', () => json(404, {}), 'credentialBroken'],
    ['408', () => json(408, {}), 'unknown'],
    ['422', () => json(422, {}), 'refused'],
    ['429', () => json(429, {}, { 'retry-after': '7' }), 'throttled'],
    ['500', () => json(500, { status: true }), 'unknown'],
    ['503', () => new Response('busy', { status: 503 }), 'unknown'],
    [
      'a redirect that says "not here"',
      () => new Response(null, { status: 308, headers: { location: 'https://x.example.com/' } }),
      'retry',
    ],
    [
      'a redirect after a POST',
      () => new Response(null, { status: 302, headers: { location: 'https://x.example.com/' } }),
      'unknown',
    ],
    ['too much', () => new Response('x'.repeat(20_000)), 'unknown'],
    ['no connection', () => Promise.reject(connectionRefused()), 'retry'],
    ['a connection that breaks', () => Promise.reject(connectionReset()), 'unknown'],
    ['silence', () => never<Response>(), 'unknown'],
  ])('%s', async (_name, answer, kind) => {
    expect((await send(answer)).outcome).toMatchObject({ kind });
  });

  test('says how long to wait and why, in one line', async () => {
    const { outcome } = await send(() => json(429, { msg: 'slow\ndown' }, { 'retry-after': '7' }));
    expect(outcome).toEqual({
      kind: 'throttled',
      seconds: 7,
      error: 'The gateway: too many requests (slow down)',
    });
  });
});

test('a message that is sent, refused or lost leaves no secret and no text in the log', async () => {
  for (const answer of [
    sent,
    () => json(200, { status: false, msg: `no: ${key}` }),
    () => Promise.reject(new Error(`at ${key}`)),
  ]) {
    const { http } = network(answer);
    const fetchChecked = createFetchChecked({
      ...{ plain: http, pinned: () => http, allowedHosts: [], resolve: async () => ['93.184.216.34'] },
    });
    // No secret is named to this log: what is in no line needs no redaction.
    const { log, lines } = memoryLog();
    const context = jobContext({ log });
    const handler = createSendNotifications({ senders: { gateway: createGateway({ fetchChecked }) } });
    const data = { outbox_id: 'o1', to: '+4915112345678', text: 'canary-text', send_before: null };
    await handler(work([item(1, data)], credential()), context);
    expect(lines).toHaveLength(1);
    expect(context.outcomes).toHaveLength(1);
    expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toContain('canary');
  }
});

describe('on the wire', () => {
  let simulators: Simulators;
  let fetchChecked: FetchChecked;
  beforeAll(async () => {
    simulators = await startSimulators({ only: ['waapi'] });
    const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 2_000 });
    const allowedHosts = [new URL(simulators.urls.waapi ?? '').host];
    fetchChecked = createFetchChecked({
      ...{ plain: http, pinned: () => http, allowedHosts, resolve: async () => null },
    });
  });
  afterAll(() => simulators.stop());
  const local = (changes: Record<string, unknown> = {}) =>
    credential(
      { url: `${simulators.urls.waapi}/send-message`, ...changes },
      { api_key: demo['pizza-shop'].waapi.token },
    );
  const deliver = (given: Credential) =>
    createGateway({ fetchChecked }).sendText(
      given,
      { to: '+4915112345678', text: 'Ciao', outboxId: 'o1' },
      { nowMs },
    );

  test('the simulated gateway takes the message', async () => {
    expect(await deliver(local())).toEqual({
      kind: 'ok',
      value: { messageId: expect.stringMatching(/^true_4915112345678@c\.us_/) },
    });
    const messages = (await (await fetch(`${simulators.urls.waapi}/_messages`)).json()) as unknown;
    expect(JSON.stringify(messages)).toContain('Ciao');
  });

  test('and says what it misses', async () => {
    expect(
      await deliver(
        local({ body: { number: '{{number}}', message: '{{message}}', api_key: '{{api_key}}' } }),
      ),
    ).toEqual({
      ...{ kind: 'refused', error: 'The gateway: the message was not sent (The sender field is required.)' },
    });
    expect(await deliver({ ...local(), secret: { api_key: 'nobody' } })).toMatchObject({
      kind: 'credentialBroken',
    });
  });
});
