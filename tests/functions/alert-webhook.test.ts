import { describe, expect, test } from 'vitest';
import { createFetchChecked } from '../../functions/_shared/addresses.ts';
import { createAlertWebhook } from '../../functions/worker/jobs/alert-webhook.ts';
import {
  connectionRefused,
  connectionReset,
  item,
  jobContext,
  memoryLog,
  network,
  never,
  type SentRequest,
  work,
} from './fakes.ts';

const url = 'https://hooks.example.com/services/T0/B0/canary-token';
const text = 'The last run of send-notifications failed: 0 done, 3 failed.';

async function post(
  answer: (request: SentRequest, count: number) => Response | Promise<Response>,
  items = [item(1, { url, text })],
  addresses: string[] | null = ['93.184.216.34'],
) {
  const { http, requests } = network(answer);
  const { log, lines } = memoryLog();
  const context = jobContext({ log });
  const handler = createAlertWebhook({
    fetchChecked: createFetchChecked({
      ...{ plain: http, pinned: () => http, allowedHosts: [], resolve: async () => addresses },
    }),
  });
  await handler(work(items, null), context);
  expect([...lines, JSON.stringify(context.outcomes)].join('\n')).not.toMatch(/canary-token|hooks\.example/);
  return { outcomes: context.outcomes, requests, entries: lines.map((line) => JSON.parse(line)) };
}
const status = (code: number, headers: Record<string, string> = {}) =>
  post(() => new Response('canary-token', { status: code, headers }));

describe('alert-webhook', () => {
  test('posts {"text"} once, and the log line leads to the item', async () => {
    const { outcomes, requests, entries } = await status(200);
    expect(outcomes).toEqual([{ item_id: 1, outcome: 'done', result: { status: 200 } }]);
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({ url, method: 'POST', body: JSON.stringify({ text }) });
    expect(requests[0]?.headers.get('content-type')).toBe('application/json');
    expect(entries).toEqual([
      expect.objectContaining({ event: 'alert posted', item: 1, trace_id: item(1).trace_id }),
    ]);
  });

  test.each([
    [400, {}, { outcome: 'refused' }],
    [403, {}, { outcome: 'refused' }],
    [404, {}, { outcome: 'refused' }],
    [410, {}, { outcome: 'refused' }],
    [302, { location: 'http://169.254.169.254/' }, { outcome: 'refused' }],
    [307, { location: 'https://elsewhere.example/' }, { outcome: 'refused' }],
    [408, {}, { outcome: 'retry' }],
    [429, { 'retry-after': '7' }, { outcome: 'throttled', seconds: 7 }],
    [429, {}, { outcome: 'throttled', seconds: 60 }],
    [500, {}, { outcome: 'retry' }],
    [503, {}, { outcome: 'retry' }],
    [503, { 'retry-after': '30' }, { outcome: 'throttled', seconds: 30 }],
  ])('an answer of %s with %o', async (code, headers, expected) => {
    const { outcomes, requests } = await status(code, headers);
    expect(outcomes).toEqual([
      expect.objectContaining({ item_id: 1, error: expect.any(String), ...expected }),
    ]);
    expect(requests).toHaveLength(1);
  });

  test.each([
    ['refuses the connection', () => Promise.reject(connectionRefused())],
    ['hangs up', () => Promise.reject(connectionReset())],
    ['does not answer', () => never<Response>()],
    ['throws an error with its url', () => Promise.reject(new Error(`fetch failed: ${url}`))],
  ])('a webhook that %s is tried again', async (_name, answer) => {
    expect((await post(answer)).outcomes).toEqual([
      { item_id: 1, outcome: 'retry', error: expect.stringMatching(/^The alert webhook/) },
    ]);
  });

  test('when it is throttled nothing more is sent', async () => {
    const items = [1, 2, 3].map((id) => item(id, { url, text }));
    const { outcomes, requests } = await post(
      (_request, count) =>
        count === 1 ? new Response('ok') : new Response('', { status: 429, headers: { 'retry-after': '5' } }),
      items,
    );
    expect(outcomes.map((each) => each.outcome)).toEqual(['done', 'throttled', 'throttled']);
    expect(requests).toHaveLength(2);
  });

  test('an address that is not public gets nothing', async () => {
    const { outcomes, requests } = await post(() => new Response('ok'), undefined, ['10.0.0.8']);
    expect(requests).toHaveLength(0);
    expect(outcomes).toEqual([
      { item_id: 1, outcome: 'refused', error: expect.stringMatching(/not public.*alert_webhook_url/) },
    ]);
  });

  test.each([{}, { url }, { text }, { url: 5, text }])(
    'data that are not an alert (%o) are refused',
    async (data) => {
      const { outcomes, requests } = await post(() => new Response('ok'), [item(1, data)]);
      expect(outcomes).toEqual([expect.objectContaining({ outcome: 'refused' })]);
      expect(requests).toHaveLength(0);
    },
  );

  test('without lease or time nothing is sent', async () => {
    const { http, requests } = network(() => new Response('ok'));
    const handler = createAlertWebhook({
      fetchChecked: createFetchChecked({
        ...{ plain: http, pinned: () => http, allowedHosts: [], resolve: async () => ['93.184.216.34'] },
      }),
    });
    const given = work([item(1, { url, text })], null);
    const lost = jobContext({ leaseIsLost: () => true });
    await handler(given, lost);
    const late = jobContext({ timeIsUp: () => true });
    await handler(given, late);
    expect(requests).toHaveLength(0);
    expect(lost.outcomes).toEqual([]);
    expect(late.outcomes).toEqual([expect.objectContaining({ outcome: 'snooze' })]);
  });
});
