import { describe, expect, test } from 'vitest';
import { createWaapi, waapiStatuses } from '../../functions/_shared/providers/waapi.ts';
import { connectionRefused, connectionReset, json, network, never, nowMs, waapiCredential } from './fakes.ts';

const message = { to: '+4915112345678', text: 'hi', outboxId: 'outbox-1' };
const success = (data: unknown = { _data: { id: { _serialized: 'true_x_y' } } }) => ({
  status: 'success',
  data: { status: 'success', instanceId: '1001', data },
});

async function send(answer: Parameters<typeof network>[0], credential = waapiCredential) {
  const { http, requests } = network(answer);
  const outcome = await createWaapi({ http, url: 'https://waapi.app' }).sendText(credential, message, {
    nowMs,
  });
  return { outcome, requests };
}

describe('WaAPI gateway', () => {
  test('a person is addressed as digits@c.us', async () => {
    const { outcome, requests } = await send(() => json(200, success()));
    expect(outcome).toEqual({ kind: 'ok', value: { messageId: 'true_x_y' } });
    expect(requests[0]?.url).toBe('https://waapi.app/api/v1/instances/1001/client/action/send-message');
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${waapiCredential.secret.token}`);
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({
      chatId: '4915112345678@c.us',
      message: 'hi',
      previewLink: true,
    });
  });

  test.each([
    [{ id: { _serialized: 'a' } }, 'a'],
    [{ message: { _data: { from: { _serialized: 'person' }, id: { _serialized: 'b' } } } }, 'b'],
    [{ to: { _serialized: 'person' } }, null],
    [null, null],
  ])('the id of the message is found in %j', async (data, messageId) => {
    expect((await send(() => json(200, success(data)))).outcome).toEqual({
      kind: 'ok',
      value: { messageId },
    });
  });

  test('the inner envelope decides: 200 with an inner error sent nothing and never will', async () => {
    const inner = { status: 'error', message: 'incorrect chatId format.', explanation: 'missing a domain' };
    const { outcome } = await send(() => json(200, { status: 'success', data: inner }));
    expect(outcome).toMatchObject({
      kind: 'refused',
      error: expect.stringContaining('incorrect chatId format. missing a domain'),
    });
  });

  test('an outer error never reached the instance: later', async () => {
    const { outcome } = await send(() => json(200, { status: 'error', message: 'instance not ready' }));
    expect(outcome).toMatchObject({
      kind: 'retry',
      afterSeconds: 60,
      error: expect.stringContaining('instance not ready'),
    });
  });

  test.each([
    [{ status: 'error', message: 'instance not ready', data: [] }],
    [{ status: 'error', message: 'instance not ready', data: null }],
    [{ status: 'error', message: 'instance not ready', data: { status: 'error', message: 'x' } }],
    [{ status: 'error', message: { text: 'instance not ready' } }],
  ])('an outer error counts in every shape: %j', async (body) => {
    expect((await send(() => json(200, body))).outcome).toMatchObject({
      kind: 'retry',
      error: expect.stringContaining('instance not ready'),
    });
  });

  test.each([
    ['no inner envelope', () => json(200, { status: 'success' })],
    ['an inner envelope of null', () => json(200, { status: 'success', data: null })],
    ['an inner status of another word', () => json(200, { status: 'success', data: { status: 'pending' } })],
    ['an outer status of another word', () => json(200, { status: 'ok', data: { status: 'success' } })],
    [
      'another instance',
      () => json(200, { status: 'success', data: { status: 'success', instanceId: '7' } }),
    ],
    ['HTML', () => new Response('<html>', { status: 200 })],
    ['a list', () => json(200, [])],
    ['an inner envelope that is PHP’s nothing', () => json(200, { status: 'success', data: [] })],
    [
      'an outer error around an inner success',
      () => json(200, { status: 'error', data: { status: 'success' } }),
    ],
    ['half an answer', () => new Response('{"status":"success","data":{"sta')],
    ['numbers for words', () => json(200, { status: 1, data: { status: 1 } })],
    ['a 201', () => json(201, success())],
    ['an HTML 502', () => new Response('<html>Bad Gateway</html>', { status: 502 })],
    ['a 500', () => json(500, { message: 'oops' })],
    ['a 418', () => json(418, {})],
    ['silence', () => never<Response>()],
    ['a reset', () => Promise.reject(connectionReset())],
  ])('%s is unknown: never sent again blindly', async (_name, answer) => {
    const { outcome, requests } = await send(answer);
    expect(outcome.kind).toBe('unknown');
    expect(requests).toHaveLength(1);
  });

  test('what can’t have arrived may be sent again', async () => {
    expect((await send(() => Promise.reject(connectionRefused()))).outcome.kind).toBe('retry');
  });

  const expected: [number, string][] = [
    [400, 'refused'],
    [401, 'credentialBroken'],
    [403, 'credentialBroken'],
    [404, 'credentialBroken'],
    [409, 'retry'],
    [422, 'refused'],
    [429, 'throttled'],
  ];
  test.each(expected)('status %i is %s', async (status, kind) => {
    expect(
      (await send(() => json(status, { message: 'x', errors: { chatId: ['required'] } }))).outcome.kind,
    ).toBe(kind);
  });

  test('every row of the table is covered here', () => {
    expect(waapiStatuses.map((row) => row.status)).toEqual(expected.map(([status]) => status));
  });

  test.each([
    ['12', 12],
    ['garbage', 60],
    ['99999999', 3600],
  ])('429 with retry-after %s pauses %i s', async (header, seconds) => {
    expect((await send(() => json(429, {}, { 'retry-after': header }))).outcome).toMatchObject({
      kind: 'throttled',
      seconds,
    });
  });

  test('a busy instance is left alone for as long as it asks', async () => {
    const busy = async (headers?: Record<string, string>) =>
      (await send(() => json(409, { message: 'busy' }, headers))).outcome;
    expect(await busy()).toMatchObject({ kind: 'retry', afterSeconds: 30 });
    expect(await busy({ 'retry-after': '5' })).toMatchObject({ kind: 'retry', afterSeconds: 5 });
  });

  test('what the gateway found wrong is told', async () => {
    const errors = { chatId: ['required'], message: ['too long'] };
    expect((await send(() => json(422, { message: 'invalid', errors }))).outcome).toMatchObject({
      kind: 'refused',
      error: expect.stringContaining('invalid required too long'),
    });
  });

  test('a person without a number can’t be reached, and leaves no request', async () => {
    const { http, requests } = network(() => json(200, success()));
    const gateway = createWaapi({ http, url: 'https://waapi.app' });
    const outcome = await gateway.sendText(waapiCredential, { ...message, to: 'US.123456789' }, { nowMs });
    expect(outcome.kind).toBe('refused');
    expect(requests).toHaveLength(0);
  });

  test('an echoed token does not get out', async () => {
    const { outcome } = await send(() => json(401, { message: `bad ${waapiCredential.secret.token}` }));
    expect(JSON.stringify(outcome)).toContain('[redacted]');
    expect(JSON.stringify(outcome)).not.toContain('canary');
  });

  test.each(['../1', '', 'a/b', 'a?b'])('the instance "%s" leaves no request', async (instanceId) => {
    const { outcome, requests } = await send(() => json(200, success()), {
      ...waapiCredential,
      account: { instance_id: instanceId },
    });
    expect(outcome.kind).toBe('credentialBroken');
    expect(requests).toHaveLength(0);
  });
});
