// Several mails in one call: every answer of Resend, and what the database is told of it.
import { describe, expect, test } from 'vitest';
import type { JobContext } from '../../functions/_shared/drain.ts';
import type { Bundle, BundleEnd, Credential, Item, SettledBundle } from '../../functions/_shared/engine.ts';
import { createResend } from '../../functions/_shared/providers/resend.ts';
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
const bundleId = '66666666-6666-4666-8666-666666666666';
const later = new Date(nowMs + 3_600_000).toISOString();

const mailOf = (id: string) => ({ to: `${id}@example.com`, subject: `To ${id}`, text: `Hello ${id}` });
const mail = (id: string, more: object = {}) => ({
  ...{ ...mailOf(id), outbox_id: id, idempotency_key: id, html: null },
  ...{ together: true, bundle_id: null, send_before: later, ...more },
});
const mails = (count: number, more: object = {}) =>
  Array.from({ length: count }, (_, index) => item(index + 1, mail(`m${index + 1}`, more)));

/** The database: what it answers to bundle_emails, and what it was told. */
function database(answers: { bundle?: (ids: string[]) => Bundle | null; settled?: SettledBundle } = {}) {
  const asked: { ids: string[]; sender: string }[] = [];
  const told: BundleEnd[] = [];
  const changes = (items: Item[]): Partial<JobContext> => ({
    bundleEmails: async (itemIds, sender) => {
      const ids = itemIds.map((itemId) => `${items.find((each) => each.item_id === itemId)?.data.outbox_id}`);
      asked.push({ ids, sender });
      return answers.bundle ? answers.bundle(ids) : open(ids, { sender });
    },
    settleEmails: async (_bundle, end) => {
      told.push(end);
      if (answers.settled !== undefined) return answers.settled;
      return end.outcome === 'accepted'
        ? { mails: end.mails.map(({ outbox_id }) => ({ outbox_id, status: 'sent' as const })) }
        : { dissolved: true };
    },
  });
  return { asked, told, changes };
}
const open = (ids: string[], more: object = {}): Bundle => ({
  ...{ bundle_id: bundleId, call: 1, version: 1, sender: 'Frozen <frozen@pizza.example>' },
  ...{
    send_before: later,
    alone: [],
    mails: ids.map((id) => ({ outbox_id: id, ...mailOf(id), html: null })),
  },
  ...more,
});

async function send(
  answer: (request: SentRequest, count: number) => Response | Promise<Response>,
  items: Item[] = mails(3),
  given = database(),
  more: Partial<JobContext> = {},
) {
  const { http, requests } = network(answer);
  const { log, lines } = memoryLog();
  const context = jobContext({ log, ...given.changes(items), ...more });
  const resend = createResend({ http, url: 'https://api.resend.test' });
  const slept: number[] = [];
  const sleep = async (ms: number) => {
    slept.push(ms);
  };
  await createSendEmails({ senders: { resend }, sleep })(work(items, credential), context);
  expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toContain(key);
  const paths = requests.map(({ url }) => new URL(url).pathname);
  return { outcomes: context.outcomes, requests, paths, slept, ...given };
}

const ids = (count: number) =>
  json(200, { data: Array.from({ length: count }, (_, n) => ({ id: `re_${n + 1}` })) });
/** Resend, as far as these tests need it. */
const accepts = (request: SentRequest) => {
  const body: unknown = JSON.parse(request.body);
  return Array.isArray(body)
    ? ids(body.length)
    : json(200, { id: `re_${request.headers.get('idempotency-key')}` });
};
const error = (statusCode: number, name: string, headers: Record<string, string> = {}) =>
  json(statusCode, { statusCode, name, message: `no: ${key}` }, headers);
const kinds = (outcomes: { outcome: string }[]) => outcomes.map(({ outcome }) => outcome);

describe('several mails', () => {
  test('leave in one call, with the key of their bundle, and each is done with its own id', async () => {
    const { outcomes, requests, told, asked } = await send(accepts);
    expect(requests).toHaveLength(1);
    expect(requests[0]?.url).toBe('https://api.resend.test/emails/batch');
    expect(requests[0]?.headers.get('idempotency-key')).toBe(bundleId);
    expect(requests[0]?.headers.get('x-batch-validation')).toBe('strict');
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual(
      ['m1', 'm2', 'm3'].map((id) => ({
        from: 'Pizza Shop <hi@pizza.example>',
        ...mailOf(id),
        to: [`${id}@example.com`],
      })),
    );
    expect(asked).toEqual([{ ids: ['m1', 'm2', 'm3'], sender: 'Pizza Shop <hi@pizza.example>' }]);
    const accepted = ['m1', 'm2', 'm3'].map((id, n) => ({ outbox_id: id, message_id: `re_${n + 1}` }));
    expect(told).toEqual([{ outcome: 'accepted', mails: accepted }]);
    expect(outcomes).toEqual(
      [1, 2, 3].map((n) => ({
        item_id: n,
        outcome: 'done',
        result: { status: 'sent', provider_message_id: `re_${n}` },
      })),
    );
  });

  test('are asked about before the call, and what became of them is told before the outcomes', async () => {
    const order: string[] = [];
    const given = database();
    const items = mails(2);
    const { bundleEmails, settleEmails } = given.changes(items);
    await send(
      (request) => {
        order.push('call');
        return accepts(request);
      },
      items,
      given,
      {
        bundleEmails: async (...args) => {
          order.push('noted');
          return (await bundleEmails?.(...args)) ?? null;
        },
        settleEmails: async (...args) => {
          order.push('settled');
          return (await settleEmails?.(...args)) ?? null;
        },
        report: () => order.push('reported'),
      },
    );
    expect(order).toEqual(['noted', 'call', 'settled', 'reported', 'reported']);
  });

  test('that were in a call before go in the same one: what the database says, not what was claimed', async () => {
    const all = ['m9', 'm1', 'm2'];
    const given = database({ bundle: () => open(all, { call: 2 }) });
    const claimed = mails(2, { together: false, bundle_id: bundleId });
    const { requests, outcomes, told } = await send(accepts, claimed, given);
    expect(JSON.parse(requests[0]?.body ?? '')).toMatchObject(
      all.map((id) => ({ from: 'Frozen <frozen@pizza.example>', to: [`${id}@example.com`] })),
    );
    expect(told).toMatchObject([{ mails: [{ outbox_id: 'm9' }, { outbox_id: 'm1' }, { outbox_id: 'm2' }] }]);
    expect(outcomes).toMatchObject([
      { item_id: 1, result: { provider_message_id: 're_2' } },
      { item_id: 2, result: { provider_message_id: 're_3' } },
    ]);
  });

  test('every call of a bundle has the same bytes: the key is bound to them', async () => {
    const bodies = [];
    for (let tries = 0; tries < 3; tries += 1) bodies.push((await send(accepts)).requests[0]?.body);
    expect(new Set(bodies).size).toBe(1);
  });

  test('of different bundles go in a call each; new ones at most 100 at once', async () => {
    const old = mails(3, { together: false, bundle_id: 'b1' });
    const other = item(4, mail('m4', { together: false, bundle_id: 'b2' }));
    const fresh = Array.from({ length: 101 }, (_, n) => item(n + 10, mail(`f${n + 10}`)));
    const { asked, paths } = await send(accepts, [...old, other, ...fresh]);
    expect(asked.map((each) => each.ids.length)).toEqual([3, 1, 100, 1]);
    expect(paths).toEqual(Array(4).fill('/emails/batch'));
  });

  test('that are large are divided', async () => {
    const large = mails(4).map((each) => ({ ...each, data: { ...each.data, html: 'x'.repeat(400_000) } }));
    const small = await send(accepts, large);
    expect(small.asked.map((each) => each.ids.length)).toEqual([4]);
    const twenty = Array.from({ length: 20 }, (_, n) =>
      item(n + 1, mail(`m${n + 1}`, { html: 'x'.repeat(400_000) })),
    );
    expect((await send(accepts, twenty)).asked.map((each) => each.ids.length)).toEqual([12, 8]);
  });

  test.each([
    ['is alone', { together: false }],
    ['is in no outbox, as an alert', { together: true, outbox_id: null }],
    ['comes from a database that does not know bundles', { together: undefined, bundle_id: undefined }],
  ])('a mail that %s goes by itself, with its own key', async (_name, more) => {
    const { paths, requests, asked } = await send(accepts, mails(2, more));
    expect(paths).toEqual(['/emails', '/emails']);
    expect(requests.map(({ headers }) => headers.get('idempotency-key'))).toEqual(['m1', 'm2']);
    expect(asked).toEqual([]);
  });

  test('a mail that is not valid is refused, and the others leave', async () => {
    const items = mails(3);
    items[1] = item(2, mail('m2', { to: 'no address' }));
    const { outcomes, asked } = await send(accepts, items);
    expect(asked[0]?.ids).toEqual(['m1', 'm3']);
    expect(outcomes.map(({ item_id, outcome }) => [item_id, outcome])).toEqual([
      [2, 'refused'],
      [1, 'done'],
      [3, 'done'],
    ]);
  });
});

describe('what the database says before the call', () => {
  test('the lease is lost: nothing leaves, no word about anything', async () => {
    const { requests, outcomes } = await send(accepts, mails(2), database({ bundle: () => null }));
    expect(requests).toEqual([]);
    expect(outcomes).toEqual([]);
  });

  test('the bundle is lost: its mails are unknown and nothing leaves', async () => {
    const given = database({ bundle: () => ({ lost: 'the e-mail account was changed' }) });
    const { requests, outcomes } = await send(accepts, mails(2, { bundle_id: bundleId }), given);
    expect(requests).toEqual([]);
    const reason = 'nobody knows whether it left: the e-mail account was changed';
    expect(outcomes).toMatchObject(
      [1, 2].map((n) => ({ item_id: n, result: { status: 'unknown', reason } })),
    );
  });

  test('some go alone, some not now: each finds its way', async () => {
    const given = database({ bundle: () => open(['m1'], { alone: ['m2'] }) });
    const { paths, outcomes } = await send(accepts, mails(3), given);
    expect(paths).toEqual(['/emails/batch', '/emails']);
    expect(outcomes).toMatchObject([
      { item_id: 1, outcome: 'done' },
      { item_id: 3, outcome: 'snooze' },
      { item_id: 2, outcome: 'done', result: { provider_message_id: 're_m2' } },
    ]);
  });

  test('nothing is to leave now: no call', async () => {
    const given = database({ bundle: () => ({ bundle_id: bundleId, mails: [], alone: [] }) });
    const { requests, outcomes } = await send(accepts, mails(2), given);
    expect(requests).toEqual([]);
    expect(kinds(outcomes)).toEqual(['snooze', 'snooze']);
  });

  test('it can’t be reached: the lease brings the mails back', async () => {
    const fails: Partial<JobContext> = {
      bundleEmails: () => Promise.reject(new Error('connection')),
    };
    await expect(send(accepts, mails(2), database(), fails)).rejects.toThrow('connection');
  });
});

describe('the answer', () => {
  // Written down by hand: what is told to the database, and what becomes of the items. `alone`: they go each by itself.
  const expected: [number, string, BundleEnd['outcome'] | 'nothing', string][] = [
    [400, 'validation_error', 'content refused', 'alone'],
    [422, 'validation_error', 'content refused', 'alone'],
    [422, 'missing_required_field', 'content refused', 'alone'],
    [422, 'invalid_parameter', 'content refused', 'alone'],
    [422, 'invalid_attachment', 'content refused', 'alone'],
    [400, 'invalid_idempotency_key', 'refused', 'alone'],
    [404, 'not_found', 'refused', 'alone'],
    [405, 'method_not_allowed', 'refused', 'alone'],
    [422, 'invalid_access', 'refused', 'alone'],
    [422, 'invalid_region', 'refused', 'alone'],
    [451, 'security_error', 'refused', 'alone'],
    [418, 'of_tomorrow', 'refused', 'alone'],
    [403, 'validation_error', 'not sent', 'credential_broken'],
    [422, 'invalid_from_address', 'not sent', 'credential_broken'],
    [401, 'missing_api_key', 'not sent', 'credential_broken'],
    [401, 'restricted_api_key', 'not sent', 'credential_broken'],
    [403, 'invalid_api_key', 'not sent', 'credential_broken'],
    [429, 'daily_quota_exceeded', 'not sent', 'throttled'],
    [429, 'monthly_quota_exceeded', 'not sent', 'throttled'],
    [429, 'rate_limit_exceeded', 'not sent', 'throttled'],
    [409, 'concurrent_idempotent_requests', 'nothing', 'retry'],
    [500, 'application_error', 'nothing', 'retry'],
    [500, 'internal_server_error', 'nothing', 'retry'],
    [503, 'of_tomorrow', 'nothing', 'retry'],
  ];
  test.each(expected)(
    '%i %s: the database is told "%s", the mails %s',
    async (status, name, end, outcome) => {
      const { outcomes, told, paths } = await send((request) =>
        request.url.endsWith('/batch') ? error(status, name, { 'retry-after': '60' }) : accepts(request),
      );
      expect(told.map((each) => each.outcome)).toEqual(end === 'nothing' ? [] : [end]);
      if (outcome === 'alone') {
        expect(paths).toEqual(['/emails/batch', '/emails', '/emails', '/emails']);
        expect(outcomes).toMatchObject(
          [1, 2, 3].map((n) => ({ result: { provider_message_id: `re_m${n}` } })),
        );
      } else {
        expect(paths).toEqual(['/emails/batch']);
        expect(kinds(outcomes)).toEqual([outcome, outcome, outcome]);
      }
    },
  );

  test.each([
    ['refuses the connection', () => Promise.reject(connectionRefused()), 'not sent'],
    ['hangs up', () => Promise.reject(connectionReset()), 'nothing'],
    ['does not answer', () => never<Response>(), 'nothing'],
    ['answers 200 with something else', () => new Response('<html>log in</html>'), 'nothing'],
    ['answers 200 with half a body', () => new Response('{"data":[{"id":"49a3'), 'nothing'],
    ['answers 200 with an id too few', () => ids(2), 'nothing'],
    ['answers 200 with null for an id', () => json(200, { data: [{ id: null }] }), 'nothing'],
    ['answers 502 in HTML', () => new Response('<html>Bad Gateway</html>', { status: 502 }), 'nothing'],
    ['answers with a redirect', () => new Response(null, { status: 302 }), 'nothing'],
  ])('when Resend %s the same call is made again', async (_name, answer, end) => {
    const { outcomes, told } = await send(answer);
    expect(kinds(outcomes)).toEqual(['retry', 'retry', 'retry']);
    expect(told.map((each) => each.outcome)).toEqual(end === 'nothing' ? [] : [end]);
  });

  test('another call with the key is being answered: 5 seconds later', async () => {
    const { outcomes } = await send(() => error(409, 'concurrent_idempotent_requests'));
    expect(outcomes).toMatchObject(Array(3).fill({ outcome: 'retry', after_seconds: 5 }));
  });

  test('one bad mail keeps nobody: each goes alone, and only that one is refused', async () => {
    const { outcomes } = await send((request) =>
      request.body.includes('m2@example.com') ? error(422, 'validation_error') : accepts(request),
    );
    expect(kinds(outcomes)).toEqual(['done', 'refused', 'done']);
  });

  test('but not while another call of the bundle may have been accepted', async () => {
    const given = database({ settled: { dissolved: false } });
    const { paths, outcomes } = await send(() => error(422, 'validation_error'), mails(2), given);
    expect(paths).toEqual(['/emails/batch']);
    expect(kinds(outcomes)).toEqual(['retry', 'retry']);
  });

  test('the key was used with another content: the database says what that means for each', async () => {
    const statuses = { m1: 'sent', m2: 'unknown', m3: 'free' } as const;
    const settled = { mails: Object.entries(statuses).map(([outbox_id, status]) => ({ outbox_id, status })) };
    const { outcomes, told, paths } = await send(
      () => error(409, 'invalid_idempotent_request'),
      mails(3, { bundle_id: bundleId }),
      database({ settled }),
    );
    expect(told).toEqual([{ outcome: 'accepted before' }]);
    expect(paths).toEqual(['/emails/batch']);
    expect(outcomes).toMatchObject([
      { outcome: 'done', result: { status: 'sent', provider_message_id: null } },
      { outcome: 'done', result: { status: 'unknown' } },
      { outcome: 'snooze' },
    ]);
  });

  test('was settled by somebody else before: what is known is said, the rest is looked at again', async () => {
    const given = () => database({ settled: null });
    expect(kinds((await send(accepts, mails(2), given())).outcomes)).toEqual(['done', 'done']);
    const before = await send(() => error(409, 'invalid_idempotent_request'), mails(2), given());
    expect(kinds(before.outcomes)).toEqual(['snooze', 'snooze']);
  });

  test('can’t be noted: no outcome is reported, and the same call is made again', async () => {
    const fails: Partial<JobContext> = { settleEmails: () => Promise.reject(new Error('connection')) };
    const outcomes: unknown[] = [];
    const report = (...more: unknown[]) => outcomes.push(...more);
    await expect(send(accepts, mails(2), database(), { ...fails, report })).rejects.toThrow('connection');
    expect(outcomes).toEqual([]);
  });

  test('a broken key stops the tenant: no further call', async () => {
    const items = [...mails(2), item(9, mail('m9', { together: false }))];
    const { paths, outcomes } = await send(() => error(403, 'invalid_api_key'), items);
    expect(paths).toEqual(['/emails/batch']);
    expect(kinds(outcomes)).toEqual(Array(3).fill('credential_broken'));
  });
});

describe('time', () => {
  test('a short rate limit is waited for, with the same key; nothing is told meanwhile', async () => {
    const { requests, slept, told, asked } = await send((request, count) =>
      count < 3 ? error(429, 'rate_limit_exceeded', { 'retry-after': '1' }) : accepts(request),
    );
    expect(requests).toHaveLength(3);
    expect(slept).toEqual([1000, 1000]);
    expect(asked).toHaveLength(1);
    expect(told.map(({ outcome }) => outcome)).toEqual(['accepted']);
  });

  test('the limit that the headers tell is kept between two bundles', async () => {
    const one = { 'ratelimit-remaining': '0', 'ratelimit-reset': '1' };
    const items = [...mails(2), item(3, mail('m3', { bundle_id: 'b1' }))];
    const { slept, outcomes } = await send(
      (request) => json(200, { data: (JSON.parse(request.body) as unknown[]).map(() => ({ id: 'm' })) }, one),
      items,
    );
    expect(slept).toEqual([1000]);
    expect(kinds(outcomes)).toEqual(['done', 'done', 'done']);
  });

  test('after send_before of any of them nothing leaves, not even after a wait', async () => {
    const late = database({ bundle: (all) => open(all, { send_before: new Date(nowMs).toISOString() }) });
    const none = await send(accepts, mails(2), late);
    expect(none.requests).toEqual([]);
    expect(none.told).toEqual([{ outcome: 'not sent' }]);
    expect(kinds(none.outcomes)).toEqual(['snooze', 'snooze']);

    let now = nowMs;
    const soon = database({
      bundle: (all) => open(all, { send_before: new Date(nowMs + 1_500).toISOString() }),
    });
    const waited = await send(
      () => {
        now += 2_000;
        return error(429, 'rate_limit_exceeded', { 'retry-after': '1' });
      },
      mails(2),
      soon,
      { now: () => new Date(now) },
    );
    expect(waited.requests).toHaveLength(1);
    expect(waited.told).toEqual([{ outcome: 'not sent' }]);
  });

  test('when the drain’s time is up nothing is noted and nothing leaves', async () => {
    const { requests, asked, outcomes } = await send(accepts, mails(2), database(), { timeIsUp: () => true });
    expect(requests).toEqual([]);
    expect(asked).toEqual([]);
    expect(kinds(outcomes)).toEqual(['snooze', 'snooze']);
  });

  test('a lease that is lost between the note and the call: nothing leaves', async () => {
    let lost = false;
    const given = database({
      bundle: (all) => {
        lost = true;
        return open(all);
      },
    });
    const { requests, outcomes } = await send(accepts, mails(2), given, { leaseIsLost: () => lost });
    expect(requests).toEqual([]);
    expect(outcomes).toEqual([]);
  });
});
