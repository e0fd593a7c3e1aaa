import { describe, expect, test } from 'vitest';
import type { JobContext } from '../../functions/_shared/drain.ts';
import type { Credential, Item } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import { createResend, resendErrors } from '../../functions/_shared/providers/resend.ts';
import { createSendEmails } from '../../functions/worker/jobs/send-emails.ts';
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

const key = 're_canary_key_0123456789';
const credential: Credential = {
  credential_id: 'c5',
  provider: 'email',
  kind: 'resend',
  source: 'tenant',
  account: { from: 'Pizza Shop <hi@pizza.example>' },
  secret: { api_key: key },
};
const mail = {
  outbox_id: 'o1',
  to: 'ana@example.com',
  subject: 'Well done',
  text: 'Your task is verified.',
  html: null,
  idempotency_key: 'o1',
  send_before: null,
};
const mails = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    item(index + 1, { ...mail, outbox_id: `o${index + 1}`, idempotency_key: `o${index + 1}` }),
  );

async function send(
  answer: (request: SentRequest, count: number) => Response | Promise<Response>,
  items: Item[] = [item(1, mail)],
  given: Credential | null = credential,
  changes: Partial<JobContext> = {},
) {
  const { http, requests } = network(answer);
  const { log, lines, entries } = memoryLog();
  const context = jobContext({ log, ...changes });
  const slept: number[] = [];
  const resend = createResend({ http, url: 'https://api.resend.test' });
  const sleep = async (ms: number) => {
    slept.push(ms);
  };
  await createSendEmails({ senders: { resend }, sleep })(work(items, given), context);
  expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toContain(key);
  return { outcomes: context.outcomes, requests, entries, slept };
}
const accepted = () => json(200, { id: '49a3999c-0ce1-4ea6-ab68-afcd6dc2e794' });
const error = (statusCode: number, name: string, headers: Record<string, string> = {}) =>
  json(statusCode, { statusCode, name, message: `no: ${key}` }, headers);
const limited = (headers: Record<string, string> = { 'retry-after': '1' }) =>
  error(429, 'rate_limit_exceeded', headers);

describe('send-emails', () => {
  test('a mail goes out once, with the outbox id as its key, and is done with Resend’s id', async () => {
    const { outcomes, requests } = await send(accepted, [item(1, { ...mail, html: '<p>Well done</p>' })]);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'done',
        result: { status: 'sent', provider_message_id: '49a3999c-0ce1-4ea6-ab68-afcd6dc2e794' },
      },
    ]);
    expect(requests).toHaveLength(1);
    expect(requests[0]?.url).toBe('https://api.resend.test/emails');
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${key}`);
    expect(requests[0]?.headers.get('idempotency-key')).toBe('o1');
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({
      from: 'Pizza Shop <hi@pizza.example>',
      to: ['ana@example.com'],
      subject: 'Well done',
      text: 'Your task is verified.',
      html: '<p>Well done</p>',
    });
  });

  test('every try of a mail has the same bytes: the key is bound to them', async () => {
    const bodies = [];
    for (let tries = 0; tries < 3; tries += 1) bodies.push((await send(accepted)).requests[0]?.body);
    expect(new Set(bodies).size).toBe(1);
  });

  test('the platform’s sender stands in where the credential names none', async () => {
    const nameless = { ...credential, account: {} };
    const { requests } = await send(
      accepted,
      [item(1, { ...mail, from: 'Onecron <hi@onecron.example>' })],
      nameless,
    );
    expect(JSON.parse(requests[0]?.body ?? '').from).toBe('Onecron <hi@onecron.example>');
    const own = await send(accepted, [item(1, { ...mail, from: 'Onecron <hi@onecron.example>' })]);
    expect(JSON.parse(own.requests[0]?.body ?? '').from).toBe('Pizza Shop <hi@pizza.example>');
    const none = await send(accepted, [item(1, mail)], nameless);
    expect(none.outcomes).toMatchObject([
      { outcome: 'credential_broken', error: expect.stringContaining('from') },
    ]);
    expect(none.requests).toHaveLength(0);
  });

  // Written down a second time, from Resend's page, so that a slip in the table shows.
  const expected: [number, string, string][] = [
    [400, 'invalid_idempotency_key', 'refused'],
    [400, 'validation_error', 'refused'],
    [403, 'validation_error', 'credential_broken'],
    [422, 'validation_error', 'refused'],
    [401, 'missing_api_key', 'credential_broken'],
    [401, 'restricted_api_key', 'credential_broken'],
    [403, 'invalid_api_key', 'credential_broken'],
    [404, 'not_found', 'refused'],
    [405, 'method_not_allowed', 'refused'],
    [409, 'invalid_idempotent_request', 'refused'],
    [409, 'concurrent_idempotent_requests', 'retry'],
    [422, 'invalid_attachment', 'refused'],
    [422, 'invalid_from_address', 'credential_broken'],
    [422, 'invalid_access', 'refused'],
    [422, 'invalid_parameter', 'refused'],
    [422, 'invalid_region', 'refused'],
    [422, 'missing_required_field', 'refused'],
    [429, 'rate_limit_exceeded', 'throttled'],
    [429, 'daily_quota_exceeded', 'throttled'],
    [429, 'monthly_quota_exceeded', 'throttled'],
    [451, 'security_error', 'refused'],
    [500, 'application_error', 'retry'],
    [500, 'internal_server_error', 'retry'],
  ];
  test.each(expected)('%i %s is %s', async (status, name, outcome) => {
    const { outcomes } = await send(() => error(status, name));
    expect(outcomes).toMatchObject([
      { outcome, error: expect.stringContaining(`Resend ${status} ${name}: `) },
    ]);
  });

  test('every row of the table is covered here', () => {
    const covered = new Set(expected.map(([, name]) => name));
    for (const row of resendErrors) expect(covered).toContain(row.name);
  });

  test.each([
    ['refuses the connection', () => Promise.reject(connectionRefused())],
    ['hangs up', () => Promise.reject(connectionReset())],
    ['does not answer', () => never<Response>()],
    ['answers 200 with something else', () => new Response('<html>log in</html>')],
    ['answers 200 with half a body', () => new Response('{"id":"49a3')],
    ['answers 200 with null for an id', () => json(200, { id: null })],
    ['answers 502 in HTML', () => new Response('<html>Bad Gateway</html>', { status: 502 })],
    ['answers with a redirect', () => new Response(null, { status: 302 })],
  ])('when Resend %s the same mail is sent again: its key makes that safe', async (_name, answer) => {
    expect((await send(answer)).outcomes).toMatchObject([{ outcome: 'retry' }]);
  });

  describe('the rate limit', () => {
    test('is kept as the headers tell it, on the spot where it is short', async () => {
      const one = { 'ratelimit-limit': '2', 'ratelimit-remaining': '0', 'ratelimit-reset': '1' };
      const { outcomes, slept } = await send(() => json(200, { id: 'm' }, one), mails(3));
      expect(outcomes.map((each) => each.outcome)).toEqual(['done', 'done', 'done']);
      expect(slept).toEqual([1000, 1000]);
    });

    test('puts the lane to sleep where it is long, and the rest burns no attempt', async () => {
      const long = { 'ratelimit-remaining': '0', 'ratelimit-reset': '40' };
      const { outcomes, requests, slept } = await send(() => json(200, { id: 'm' }, long), mails(3));
      expect(outcomes).toMatchObject([
        { outcome: 'done' },
        { outcome: 'throttled', seconds: 40 },
        { outcome: 'throttled', seconds: 40 },
      ]);
      expect(requests).toHaveLength(1);
      expect(slept).toEqual([]);
    });

    test('is not waited for when the lease would end meanwhile', async () => {
      const { outcomes, slept } = await send(() => limited(), mails(1), credential, { leftMs: () => 5_000 });
      expect(outcomes).toMatchObject([{ outcome: 'throttled', seconds: 1 }]);
      expect(slept).toEqual([]);
    });

    test('that others used up is tried five times, not for ever', async () => {
      const won = await send((_request, count) => (count < 3 ? limited() : accepted()), mails(1));
      expect(won.outcomes).toMatchObject([{ outcome: 'done' }]);
      expect(won.requests).toHaveLength(3);
      expect(new Set(won.requests.map(({ headers }) => headers.get('idempotency-key'))).size).toBe(1);
      const lost = await send(() => limited(), mails(2));
      expect(lost.requests).toHaveLength(5);
      expect(lost.outcomes.map((each) => each.outcome)).toEqual(['throttled', 'throttled']);
    });

    test.each([
      ['3', 3],
      ['0', 1],
      ['-7', 1],
      ['garbage', 1],
      ['120s', 1],
      ['999999', 3600],
      [new Date(nowMs + 30_000).toUTCString(), 30],
    ])('with retry-after "%s" pauses for %i s', async (header, seconds) => {
      const answer = () => limited({ 'retry-after': header });
      const { outcomes } = await send(answer, mails(1), credential, { leftMs: () => 0 });
      expect(outcomes).toMatchObject([{ outcome: 'throttled', seconds }]);
    });

    test.each([
      ['daily_quota_exceeded', '2026-11-22T12:00:00Z', 12 * 3600],
      ['daily_quota_exceeded', '2026-12-31T23:59:00Z', 60],
      ['monthly_quota_exceeded', '2026-11-30T18:00:00Z', 6 * 3600],
      // A larger plan may be bought meanwhile: looked at once a day.
      ['monthly_quota_exceeded', '2026-11-02T12:00:00Z', 86_400],
    ])('%s at %s: not before %i s later, whatever the headers say', async (name, at, seconds) => {
      const answer = () => error(429, name, { 'retry-after': '1', 'ratelimit-reset': '1' });
      const { outcomes, requests } = await send(answer, mails(2), credential, { now: () => new Date(at) });
      expect(outcomes).toMatchObject([
        { outcome: 'throttled', seconds },
        { outcome: 'throttled', seconds },
      ]);
      expect(requests).toHaveLength(1);
    });
  });

  describe('tenants at the same time', () => {
    const other = '55555555-5555-4555-8555-555555555555';

    /** Two tenants through one worker; the answer to a mail is given by hand. */
    function together(source: Credential['source']) {
      const calls: { to: string; answer: (response: Response) => void }[] = [];
      const http = createHttp({
        fetch: (_url, init) =>
          new Promise((answer) => {
            calls.push({ to: String(JSON.parse(String(init.body)).to), answer });
          }),
        timeoutMs: 20_000,
      });
      const resend = createResend({ http, url: 'https://api.resend.test' });
      const handler = createSendEmails({ senders: { resend }, sleep: async () => {} });
      const own = { ...credential, source };
      const first = { ...work([item(1, { ...mail, to: 'first@example.com' })], own) };
      const second = { ...work([item(2, { ...mail, to: 'second@example.com' })], own), tenant_id: other };
      const contexts = [jobContext(), jobContext()];
      const done = [first, second].map((each, index) => handler(each, contexts[index] ?? jobContext()));
      return { calls, done };
    }

    test('with accounts of their own don’t wait for each other', async () => {
      const { calls, done } = together('tenant');
      await expect.poll(() => calls.length).toBe(2);
      for (const { answer } of calls) answer(accepted());
      await Promise.all(done);
    });

    test('on the platform’s account take turns: they share its limit', async () => {
      const { calls, done } = together('platform');
      await expect.poll(() => calls.length).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      expect(calls.map(({ to }) => to)).toEqual(['first@example.com']);
      calls[0]?.answer(accepted());
      await expect.poll(() => calls.length).toBe(2);
      calls[1]?.answer(accepted());
      await Promise.all(done);
    });
  });

  test('a service that is down is left alone for as long as it asks', async () => {
    const { outcomes } = await send(() => error(500, 'application_error', { 'retry-after': '20' }));
    expect(outcomes).toMatchObject([{ outcome: 'retry', after_seconds: 20 }]);
  });

  test('one mail that is refused does not keep the others', async () => {
    const { outcomes } = await send(
      (_request, count) => (count === 2 ? error(422, 'validation_error') : accepted()),
      mails(3),
    );
    expect(outcomes.map((each) => each.outcome)).toEqual(['done', 'refused', 'done']);
  });

  test('a broken key stops the tenant: no further call, no attempt burnt', async () => {
    const { outcomes, requests } = await send(() => error(403, 'invalid_api_key'), mails(3));
    expect(outcomes.map((each) => each.outcome)).toEqual(Array(3).fill('credential_broken'));
    expect(requests).toHaveLength(1);
  });

  test('after send_before by the database’s clock nothing is sent, not even after a wait', async () => {
    const data = { ...mail, send_before: new Date(nowMs).toISOString() };
    const late = await send(accepted, [item(1, data)]);
    expect(late.requests).toHaveLength(0);
    expect(late.outcomes).toMatchObject([{ outcome: 'snooze', seconds: 60 }]);
    let now = nowMs;
    const waited = await send(
      () => {
        now += 2_000;
        return limited();
      },
      [item(1, { ...data, send_before: new Date(nowMs + 1_000).toISOString() })],
      credential,
      { now: () => new Date(now) },
    );
    expect(waited.requests).toHaveLength(1);
    expect(waited.outcomes).toMatchObject([{ outcome: 'snooze' }]);
  });

  test('a lost lease stops everything without a word', async () => {
    let lost = false;
    const { outcomes } = await send(
      () => {
        lost = true;
        return accepted();
      },
      mails(3),
      credential,
      { leaseIsLost: () => lost },
    );
    expect(outcomes.map((each) => each.item_id)).toEqual([1]);
  });

  test('when the time is up the rest goes back without an attempt', async () => {
    const { outcomes, requests } = await send(accepted, mails(2), credential, { timeIsUp: () => true });
    expect(requests).toHaveLength(0);
    expect(outcomes).toMatchObject([{ outcome: 'snooze' }, { outcome: 'snooze' }]);
  });

  test.each([
    ['two recipients in one', { to: 'a@b.example, c@d.example' }],
    ['a name with the recipient', { to: 'Ana <ana@example.com>' }],
    ['a recipient with another header', { to: 'ana@example.com\r\nBcc: x@example.com' }],
    ['a recipient with a null byte', { to: 'ana@example.com\u0000' }],
    ['a key with another header', { idempotency_key: 'o1\r\nX-Evil: 1' }],
    ['a key that is too long', { idempotency_key: 'x'.repeat(257) }],
    ['no subject', { subject: ' ' }],
    ['no text', { text: '' }],
    ['a list for HTML', { html: [] }],
    ['a send_before that is no time', { send_before: 'soon' }],
  ])('a mail with %s is refused without a call', async (_name, changes) => {
    const { outcomes, requests } = await send(accepted, [item(1, { ...mail, ...changes })]);
    expect(outcomes).toMatchObject([{ outcome: 'refused' }]);
    expect(requests).toHaveLength(0);
  });

  test.each([
    'a\r\nBcc: x@example.com',
    'a\nBcc: x@example.com',
    'a\u2028Bcc: x@example.com',
    'a\u0000Bcc: x@example.com',
  ])('the subject %j stays one line', async (subject) => {
    const { requests } = await send(accepted, [item(1, { ...mail, subject })]);
    expect(JSON.parse(requests[0]?.body ?? '').subject).toBe('a Bcc: x@example.com');
  });

  test.each([
    ['with two lines as sender', { ...credential, account: { from: 'a\r\nBcc: x <a@example.com>' } }],
    [
      'with a control character in the sender',
      { ...credential, account: { from: 'a\u0000 <a@example.com>' } },
    ],
    ['with a sender that is no address', { ...credential, account: { from: 'Onecron' } }],
    ['without a key', { ...credential, secret: {} }],
    ['with two lines as key', { ...credential, secret: { api_key: 'a\r\nb' } }],
    ['of another kind', { ...credential, kind: 'smtp' }],
    ['of a kind that every object has', { ...credential, kind: 'constructor' }],
  ])('a credential %s is broken, and nothing is sent', async (_name, given) => {
    const { outcomes, requests } = await send(accepted, undefined, given);
    expect(outcomes).toMatchObject([{ outcome: 'credential_broken' }]);
    expect(requests).toHaveLength(0);
  });

  test('without a credential the mail waits', async () => {
    expect((await send(accepted, undefined, null)).outcomes).toMatchObject([{ outcome: 'snooze' }]);
  });
});
