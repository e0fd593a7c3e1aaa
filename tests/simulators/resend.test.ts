import { beforeEach, describe, expect, test, vi } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const key = demo.platform.resend.api_key;
const mail = { from: 'Onecron <hi@example.com>', to: ['ana@example.com'], subject: 'hello', text: 'hi' };
const send = (body: unknown = mail, headers: Record<string, string> = {}, token: string = key) =>
  post(`${bench.url('resend')}/emails`, token, body, headers);
const batch = (body: unknown, headers: Record<string, string> = {}) =>
  post(`${bench.url('resend')}/emails/batch`, key, body, headers);
const mails = async () => (await call(`${bench.url('resend')}/_messages`)).json.messages.length;
const account = (more: object) =>
  bench.world('resend', { accounts: [{ api_key: key, tenant: 'platform', ...more }] });

beforeEach(() => account({ requests_per_second: null }));

test('a mail is accepted with an id, and can be read back', async () => {
  const reply = await send();
  expect(reply).toMatchObject({ status: 200, json: { id: expect.stringMatching(/^[0-9a-f-]{36}$/) } });
  const read = await call(`${bench.url('resend')}/emails/${reply.json.id}`, {
    headers: { authorization: `Bearer ${key}` },
  });
  expect(read.json).toMatchObject({ object: 'email', subject: 'hello' });
});

describe('idempotency keys', () => {
  test('the same key and body give the same answer and no second mail', async () => {
    const before = await mails();
    const once = await send(mail, { 'idempotency-key': 'a' });
    const again = await send(mail, { 'idempotency-key': 'a' });
    expect(again.json).toEqual(once.json);
    expect(await mails()).toBe(before + 1);
  });

  test('the same key with another body is 409 invalid_idempotent_request', async () => {
    await send(mail, { 'idempotency-key': 'b' });
    const other = await send({ ...mail, subject: 'other' }, { 'idempotency-key': 'b' });
    expect(other).toMatchObject({
      status: 409,
      json: { statusCode: 409, name: 'invalid_idempotent_request' },
    });
  });

  test('the same key while the first request is under way is 409 concurrent_idempotent_requests', async () => {
    await bench.script('resend', { do: { delay_ms: 400 } });
    const first = send(mail, { 'idempotency-key': 'c' });
    await vi.waitFor(async () => expect((await bench.log('resend')).at(-1)?.answer).toBeNull());
    const second = await send(mail, { 'idempotency-key': 'c' });
    expect(second).toMatchObject({ status: 409, json: { name: 'concurrent_idempotent_requests' } });
    expect((await first).status).toBe(200);
    expect((await send(mail, { 'idempotency-key': 'c' })).json).toEqual((await first).json);
  });

  test('a key is forgotten after 24 hours, not before', async () => {
    const first = await send(mail, { 'idempotency-key': 'd' });
    await bench.world('resend', { age_keys_seconds: 24 * 3600 - 60 });
    expect((await send(mail, { 'idempotency-key': 'd' })).json).toEqual(first.json);
    await bench.world('resend', { age_keys_seconds: 120 });
    expect((await send(mail, { 'idempotency-key': 'd' })).json).not.toEqual(first.json);
  });

  test('a key that is too long is refused', async () => {
    expect((await send(mail, { 'idempotency-key': 'x'.repeat(257) })).json.name).toBe(
      'invalid_idempotency_key',
    );
  });
});

test('a strict batch is all or nothing, a permissive one sends the good ones', async () => {
  const bad = { ...mail, to: 'nobody' };
  const before = await mails();
  expect((await batch([mail, bad])).status).toBe(422);
  expect(await mails()).toBe(before);
  const reply = await batch([mail, bad], { 'x-batch-validation': 'permissive' });
  expect(reply.json).toEqual({
    data: [{ id: expect.any(String) }],
    errors: [{ index: 1, message: expect.any(String) }],
  });
  expect(await mails()).toBe(before + 1);
  expect((await batch(Array.from({ length: 101 }, () => mail))).status).toBe(422);
  expect((await batch(Array.from({ length: 100 }, () => mail))).json.data).toHaveLength(100);
});

test('the rate is told in headers, and more is 429 with retry-after', async () => {
  await account({ requests_per_second: 2 });
  const replies = [];
  for (let n = 0; n < 5; n += 1) replies.push(await send());
  expect(replies[0]?.headers.get('ratelimit-limit')).toBe('2');
  expect(replies[0]?.headers.get('ratelimit-remaining')).toBe('1');
  const limited = replies.find((reply) => reply.status === 429);
  expect(limited?.json.name).toBe('rate_limit_exceeded');
  expect(limited?.headers.get('retry-after')).toBe('1');
});

test.each([
  ['no key', () => call(`${bench.url('resend')}/emails`, { method: 'POST' }), 401, 'missing_api_key'],
  ['a wrong key', () => send(mail, {}, 're_wrong'), 403, 'invalid_api_key'],
  ['no recipient', () => send({ ...mail, to: undefined }), 422, 'missing_required_field'],
  ['a bad sender', () => send({ ...mail, from: 'me' }), 422, 'validation_error'],
  ['an unknown path', () => post(`${bench.url('resend')}/mails`, key, mail), 404, 'not_found'],
])('%s', async (_, act, status, name) => {
  expect(await act()).toMatchObject({ status, json: { statusCode: status, name } });
});

test('the daily quota can run out', async () => {
  await account({ requests_per_second: null, daily_quota: 1 });
  expect((await send()).status).toBe(200);
  expect((await send()).json.name).toBe('daily_quota_exceeded');
});

test('the quota of the month can run out', async () => {
  await account({ requests_per_second: null, monthly_quota: 1 });
  expect((await send()).status).toBe(200);
  expect(await send()).toMatchObject({ status: 429, json: { name: 'monthly_quota_exceeded' } });
});

test('a key that may not send is 401 restricted_api_key', async () => {
  await account({ restricted: true });
  expect(await send()).toMatchObject({ status: 401, json: { name: 'restricted_api_key' } });
});

test.each([
  ['sender', { from: 'a\r\nBcc: x@example.com <a@example.com>' }],
  ['subject', { subject: 'a\nBcc: x@example.com' }],
  ['recipient', { to: ['ana@example.com\nBcc: x@example.com'] }],
])('a %s with a line break is refused', async (_, changes) => {
  expect(await send({ ...mail, ...changes })).toMatchObject({
    status: 422,
    json: { name: 'validation_error' },
  });
});

test('a batch has an idempotency key of its own', async () => {
  const before = await mails();
  const once = await batch([mail, mail], { 'idempotency-key': 'batch-1' });
  expect((await batch([mail, mail], { 'idempotency-key': 'batch-1' })).json).toEqual(once.json);
  expect(await mails()).toBe(before + 2);
  const turned = await batch([mail], { 'idempotency-key': 'batch-1' });
  expect(turned).toMatchObject({ status: 409, json: { name: 'invalid_idempotent_request' } });
  expect((await send(mail, { 'idempotency-key': 'batch-1' })).status).toBe(200);
});

test('a batch whose answer was lost is answered by its key, with the same ids; in another order it is another batch', async () => {
  const headers = { 'idempotency-key': 'batch-2' };
  const two = [mail, { ...mail, subject: 'other' }];
  const before = await mails();
  await bench.script('resend', { match: { path: '/emails/batch' }, do: { reset: 'after' } });
  await expect(batch(two, headers)).rejects.toThrow();
  const again = await batch(two, headers);
  expect(again).toMatchObject({ status: 200, json: { data: [{}, {}] } });
  expect(await mails()).toBe(before + 2);
  const sent = (await call(`${bench.url('resend')}/_messages`)).json.messages.slice(-2);
  expect(again.json.data.map(({ id }: { id: string }) => id)).toEqual(
    sent.map(({ id }: { id: string }) => id),
  );
  expect((await batch([...two].reverse(), headers)).json.name).toBe('invalid_idempotent_request');
  expect(await mails()).toBe(before + 2);
});

test('a batch that is being answered is 409 concurrent_idempotent_requests', async () => {
  const headers = { 'idempotency-key': 'batch-3' };
  await bench.script('resend', { do: { delay_ms: 400 } });
  const first = batch([mail], headers);
  await vi.waitFor(async () => expect((await bench.log('resend')).at(-1)?.answer).toBeNull());
  expect((await batch([mail], headers)).json.name).toBe('concurrent_idempotent_requests');
  expect((await first).status).toBe(200);
});

test('a batch that was refused sent nothing, and its key is free', async () => {
  const headers = { 'idempotency-key': 'batch-4' };
  const before = await mails();
  expect((await batch([mail, { ...mail, attachments: [] }], headers)).json.name).toBe('validation_error');
  expect((await batch([mail, { ...mail, to: undefined }], headers)).json.name).toBe('missing_required_field');
  expect((await batch([], headers)).status).toBe(422);
  expect((await batch(mail, headers)).status).toBe(422);
  await account({ requests_per_second: null, daily_quota: 1 });
  expect((await batch([mail, mail], headers)).json.name).toBe('daily_quota_exceeded');
  await account({ requests_per_second: 1 });
  expect((await batch([mail], headers)).status).toBe(200);
  expect((await batch([mail], headers)).json.name).toBe('rate_limit_exceeded');
  expect(await mails()).toBe(before + 1);
});

test('a mail whose answer was lost is not sent again by its key', async () => {
  const before = await mails();
  await bench.script('resend', { do: { status: 502, html: '<h1>Bad Gateway</h1>', effect: true } });
  const lost = await send(mail, { 'idempotency-key': 'lost' });
  expect(lost).toMatchObject({ status: 502, json: null });
  expect((await send(mail, { 'idempotency-key': 'lost' })).status).toBe(200);
  expect(await mails()).toBe(before + 1);
});

test('a mail that was refused may be corrected under its key', async () => {
  const headers = { 'idempotency-key': 'corrected' };
  expect((await send({ ...mail, to: ['nobody'] }, headers)).status).toBe(422);
  expect((await send(mail, headers)).status).toBe(200);
});

test('a mail can be looked at as it left', async () => {
  await send({ ...mail, html: '<b>hi</b>' });
  const { messages } = (await call(`${bench.url('resend')}/_messages`)).json;
  expect(messages.at(-1)).toMatchObject({ from: mail.from, to: mail.to, text: 'hi', html: '<b>hi</b>' });
});
