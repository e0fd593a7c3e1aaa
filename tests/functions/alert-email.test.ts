import { describe, expect, test } from 'vitest';
import type { Credential, Item } from '../../functions/_shared/engine.ts';
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
  type SentRequest,
  work,
} from './fakes.ts';

const key = 're_canary_key_0123456789';
const credential: Credential = {
  credential_id: null,
  provider: 'email',
  kind: 'resend',
  source: 'platform',
  account: { from: 'Onecron <alerts@example.com>' },
  secret: { api_key: key },
};
const mail = {
  to: ['owner@example.com'],
  subject: '[Onecron] opened: credential meta',
  text: 'Pizza Shop: The meta credential does not work.',
  idempotency_key: 'alert-5-opened',
};

async function send(
  answer: (request: SentRequest, count: number) => Response | Promise<Response>,
  items: Item[] = [item(1, mail)],
  given: Credential | null = credential,
) {
  const { http, requests } = network(answer);
  const { log, lines, entries } = memoryLog();
  const context = jobContext({ log });
  const resend = createResend({ http, url: 'https://api.resend.test' });
  await createSendEmails({ senders: { resend } })(work(items, given), context);
  expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toContain(key);
  return { outcomes: context.outcomes, requests, entries };
}
const accepted = () => json(200, { id: '49a3999c-0ce1-4ea6-ab68-afcd6dc2e794' });
const error = (statusCode: number, name: string, headers: Record<string, string> = {}) =>
  json(statusCode, { statusCode, name, message: `no: ${key}` }, headers);

describe('alert-email', () => {
  test('sends one mail with its idempotency key and says how it is called there', async () => {
    const { outcomes, requests, entries } = await send(accepted);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'done',
        result: { status: 'sent', provider_message_id: '49a3999c-0ce1-4ea6-ab68-afcd6dc2e794' },
      },
    ]);
    const [request] = requests;
    expect(requests).toHaveLength(1);
    expect(request).toMatchObject({ url: 'https://api.resend.test/emails', method: 'POST' });
    expect(JSON.parse(request?.body ?? '')).toEqual({
      from: 'Onecron <alerts@example.com>',
      to: mail.to,
      subject: mail.subject,
      text: mail.text,
    });
    expect(request?.headers.get('idempotency-key')).toBe('alert-5-opened');
    expect(request?.headers.get('authorization')).toBe(`Bearer ${key}`);
    expect(request?.headers.get('user-agent')).toBe('Onecron');
    expect(entries()).toEqual([
      expect.objectContaining({ event: 'mail accepted', item: 1, trace_id: item(1).trace_id }),
    ]);
  });

  test('every try of the same mail has the same bytes', async () => {
    const bodies = await Promise.all([send(accepted), send(accepted)]);
    expect(bodies[0]?.requests[0]?.body).toBe(bodies[1]?.requests[0]?.body);
  });

  // https://resend.com/docs/api-reference/errors
  test.each([
    [400, 'invalid_idempotency_key', 'refused'],
    [400, 'validation_error', 'refused'],
    [422, 'validation_error', 'refused'],
    [403, 'validation_error', 'credential_broken'],
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
  ])('%s %s: %s', async (code, name, outcome) => {
    expect(resendErrors.some((row) => row.name === name)).toBe(true);
    const { outcomes } = await send(() => error(code, name));
    expect(outcomes).toEqual([
      expect.objectContaining({ outcome, error: expect.stringContaining(`Resend ${code} ${name}: `) }),
    ]);
  });

  test.each([
    [401, 'credential_broken'],
    [403, 'credential_broken'],
    [418, 'refused'],
    [429, 'throttled'],
    [502, 'retry'],
  ])('an error that is not known, %s: %s', async (code, outcome) => {
    expect((await send(() => json(code, { name: 'from_tomorrow' }))).outcomes).toEqual([
      expect.objectContaining({ outcome }),
    ]);
    expect((await send(() => new Response('<html>', { status: code }))).outcomes).toEqual([
      expect.objectContaining({ outcome }),
    ]);
  });

  test('waits for as long as Resend says, and a used-up quota until the next day', async () => {
    const seconds = async (response: Response) => (await send(() => response)).outcomes[0];
    expect(await seconds(error(429, 'rate_limit_exceeded', { 'retry-after': '30' }))).toMatchObject({
      seconds: 30,
    });
    expect(await seconds(error(429, 'rate_limit_exceeded', { 'ratelimit-reset': '20' }))).toMatchObject({
      seconds: 20,
    });
    const quota = error(429, 'daily_quota_exceeded', { 'retry-after': '1' });
    expect(await seconds(quota)).toMatchObject({ seconds: 12 * 3600 });
  });

  test.each([
    ['refuses the connection', () => Promise.reject(connectionRefused())],
    ['hangs up', () => Promise.reject(connectionReset())],
    ['does not answer', () => never<Response>()],
    ['answers 200 with something else', () => new Response('ok')],
  ])('when Resend %s the same mail is sent again: its key makes that safe', async (_name, answer) => {
    expect((await send(answer)).outcomes).toEqual([expect.objectContaining({ outcome: 'retry' })]);
  });

  test('when the key is broken nothing more is sent', async () => {
    const items = [1, 2, 3].map((id) => item(id, { ...mail, idempotency_key: `alert-${id}-opened` }));
    const broken = await send(() => error(403, 'invalid_api_key'), items);
    expect(broken.outcomes.map((each) => each.outcome)).toEqual(Array(3).fill('credential_broken'));
    expect(broken.requests).toHaveLength(1);
    const all = await send(accepted, items);
    expect(all.requests.map(({ headers }) => headers.get('idempotency-key'))).toEqual([
      'alert-1-opened',
      'alert-2-opened',
      'alert-3-opened',
    ]);
  });

  test.each([
    { ...mail, to: [] },
    { ...mail, to: Array(51).fill('owner@example.com') },
    { ...mail, to: ['a@b.c, d@e.f'] },
    { ...mail, to: ['Owner <owner@example.com>'] },
    { ...mail, subject: '' },
    { ...mail, idempotency_key: 'x'.repeat(257) },
    {},
  ])('a mail that is not valid is refused without a call', async (data) => {
    const { outcomes, requests } = await send(accepted, [item(1, data)]);
    expect(outcomes).toEqual([expect.objectContaining({ outcome: 'refused' })]);
    expect(requests).toHaveLength(0);
  });

  test('a subject stays one line', async () => {
    const { requests } = await send(accepted, [item(1, { ...mail, subject: 'a\r\nBcc: x@example.com' })]);
    expect(JSON.parse(requests[0]?.body ?? '').subject).toBe('a Bcc: x@example.com');
  });

  test.each([
    ['without a sender', { ...credential, account: {} }],
    ['with a sender that is no address', { ...credential, account: { from: 'Onecron' } }],
    ['with two lines as sender', { ...credential, account: { from: 'a\r\nb <a@example.com>' } }],
    ['without a key', { ...credential, secret: {} }],
    ['of another kind', { ...credential, kind: 'smtp' }],
  ])('a credential %s is broken, and nothing is sent', async (_name, given) => {
    const { outcomes, requests } = await send(accepted, undefined, given);
    expect(outcomes).toEqual([expect.objectContaining({ outcome: 'credential_broken' })]);
    expect(requests).toHaveLength(0);
  });

  test('without a credential the mail waits', async () => {
    expect((await send(accepted, undefined, null)).outcomes).toEqual([
      expect.objectContaining({ outcome: 'snooze' }),
    ]);
  });
});
