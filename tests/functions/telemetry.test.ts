import { describe, expect, test } from 'vitest';
import { createDrain } from '../../functions/_shared/drain.ts';
import { createOtlpSink, type FinishedSpan, type TelemetrySink } from '../../functions/_shared/otlp.ts';
import { createTelemetry, silentTelemetry } from '../../functions/_shared/telemetry.ts';
import {
  batch,
  drainId,
  engine,
  item,
  json,
  memoryLog,
  metaCredential,
  network,
  nowMs,
  work,
} from './fakes.ts';

const counter = () => {
  let next = 0;
  return (bytes: number) => (++next).toString(16).padStart(bytes * 2, 'a');
};

function memorySink() {
  const spans: FinishedSpan[] = [];
  const measured: [string, unknown][] = [];
  let flushes = 0;
  const sink: TelemetrySink = {
    span: (span) => void spans.push(span),
    count: (metric, attributes) => void measured.push([metric.name, attributes]),
    duration: (metric, attributes) => void measured.push([metric.name, attributes]),
    flush: async () => void flushes++,
  };
  return { sink, spans, measured, flushes: () => flushes };
}

/** One drain with one batch of two items: a call for each, one for both, and one for nobody in particular. */
async function trace(traceProviders: boolean, withSink = true) {
  const { http, requests } = network(() => json(200, {}));
  const memory = memorySink();
  const telemetry = createTelemetry({
    ...{ sink: withSink ? memory.sink : null, traceProviders, randomHex: counter() },
    now: () => nowMs,
    keepAlive: () => {},
  });
  const seen = telemetry.observe('meta', http);
  const items = [item(1), item(2)];
  const call = (path: string) => () =>
    seen({ method: 'GET', url: `https://secret.example/${path}?token=canary` });
  const drain = createDrain({
    engine: engine({
      nextBatch: async () => batch(7, [work(items, metaCredential)]),
      closeBatch: async () => ({ closed: 2, stale: 0, next: null }),
      endDrain: async () => {},
    }),
    handlers: {
      'verify-social-tasks': async (given, context) => {
        const [first, second] = given.items;
        if (!first || !second) return;
        await Promise.all([
          context.within([first], call('1')),
          context.within([second], call('2')),
          context.within([first, second], call('both')),
          call('nobody')(),
        ]);
        context.report(
          { item_id: 1, outcome: 'done', result: { secret: 'canary' } },
          { item_id: 2, outcome: 'retry', error: 'canary' },
        );
      },
    },
    now: () => nowMs,
    log: memoryLog().log,
    telemetry,
  });
  await drain({ drainId, job: 'verify-social-tasks' });
  return { ...memory, requests };
}

describe('tracing', () => {
  test('an item’s span is in the trace that began when it was enqueued, and links to its batch', async () => {
    const { spans, flushes } = await trace(false);
    const named = (name: string) => spans.filter((span) => span.name === name);
    const [drain] = named('drain verify-social-tasks');
    const [served] = named('batch verify-social-tasks');
    expect(served).toMatchObject({ traceId: drain?.traceId, parentSpanId: drain?.spanId });
    expect(named('item verify-social-tasks')).toEqual([
      expect.objectContaining({
        traceId: item(1).trace_id,
        failed: false,
        links: [{ traceId: served?.traceId, spanId: served?.spanId }],
        attributes: expect.objectContaining({ 'onecron.item_id': 1, 'onecron.outcome': 'done' }),
      }),
      expect.objectContaining({ traceId: item(2).trace_id, failed: true }),
    ]);
    expect(flushes()).toBe(1);
  });

  test('a call belongs to the item that it is made for; one for several to the batch, with links', async () => {
    const { spans } = await trace(false);
    const [one, two] = spans.filter((span) => span.name === 'item verify-social-tasks');
    const [served] = spans.filter((span) => span.name === 'batch verify-social-tasks');
    const calls = spans.filter((span) => span.kind === 'client');
    expect(calls).toHaveLength(4);
    expect(calls[0]).toMatchObject({ traceId: one?.traceId, parentSpanId: one?.spanId });
    expect(calls[1]).toMatchObject({ traceId: two?.traceId, parentSpanId: two?.spanId });
    expect(calls.find((span) => span.links?.length === 2)).toMatchObject({
      traceId: served?.traceId,
      parentSpanId: served?.spanId,
      links: [one, two].map((span) => ({ traceId: span?.traceId, spanId: span?.spanId })),
    });
    expect(calls.filter((span) => span.parentSpanId === undefined)).toHaveLength(1);
  });

  test('what is measured: items by outcome, batches, calls by answer', async () => {
    const { measured } = await trace(false);
    expect(measured).toContainEqual([
      'onecron.items',
      { 'onecron.job': 'verify-social-tasks', 'onecron.outcome': 'done' },
    ]);
    expect(measured).toContainEqual(['onecron.batch.duration', { 'onecron.job': 'verify-social-tasks' }]);
    const answer = { 'onecron.provider': 'meta', 'onecron.answer': '200' };
    expect(measured.filter(([name]) => name === 'onecron.provider.call.duration')).toEqual(
      Array(4).fill(['onecron.provider.call.duration', answer]),
    );
  });

  test('nothing of a url, a result or an error is in it', async () => {
    const { spans, measured } = await trace(true);
    expect(JSON.stringify([spans, measured])).not.toMatch(/canary|secret\.example|EAAcanary/);
  });

  test('providers get no header of ours unless that is switched on', async () => {
    const { requests: silent } = await trace(false);
    expect(silent.map(({ headers }) => headers.get('traceparent'))).toEqual(Array(4).fill(null));
    for (const exported of [true, false]) {
      const { requests, spans } = await trace(true, exported);
      expect(requests[0]?.headers.get('traceparent')).toMatch(
        new RegExp(`^00-${item(1).trace_id}-[0-9a-f]{16}-01$`),
      );
      expect(spans.length > 0).toBe(exported);
    }
  });

  test('switched off, calls go out untouched', () => {
    const { http } = network(() => json(200, {}));
    const off = {
      sink: null,
      traceProviders: false,
      now: () => nowMs,
      randomHex: counter(),
      keepAlive: () => {},
    };
    expect(createTelemetry(off)).toBe(silentTelemetry);
    expect(createTelemetry(off).observe('meta', http)).toBe(http);
  });
});

function collector(answer: () => Response | Promise<Response> = () => json(200, {}), changes = {}) {
  const { http, requests } = network(answer);
  const { log, entries, lines } = memoryLog(['canary-header']);
  const kept: Promise<unknown>[] = [];
  const clock = { ms: nowMs };
  const sink = createOtlpSink({
    http,
    endpoint: 'https://otlp.test',
    headers: { authorization: 'canary-header' },
    resource: { 'service.name': 'onecron' },
    now: () => clock.ms,
    log,
    keepAlive: (work) => void kept.push(work),
    ...changes,
  });
  return { sink, requests, entries, lines, kept, clock };
}
const span = (changes: Partial<FinishedSpan> = {}): FinishedSpan => ({
  ...{ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), name: 'x', kind: 'internal', failed: false },
  ...{ startMs: nowMs, endMs: nowMs + 5, attributes: {}, ...changes },
});
const metric = { name: 'm', unit: 's', description: 'd' };

describe('OTLP', () => {
  test('spans as the protocol wants them: hex ids, nanoseconds as text, typed attributes', async () => {
    const { sink, requests } = collector();
    sink.span(
      span({
        ...{ parentSpanId: 'c'.repeat(16), kind: 'client', failed: true, startMs: 1_700_000_000_123.5 },
        endMs: 1_700_000_000_124,
        attributes: { text: 'a', whole: 3, part: 0.5, yes: true, none: undefined },
        links: [{ traceId: 'd'.repeat(32), spanId: 'e'.repeat(16) }],
      }),
    );
    await sink.flush();
    expect(requests.map(({ url }) => url)).toEqual(['https://otlp.test/v1/traces']);
    expect(requests[0]?.headers.get('authorization')).toBe('canary-header');
    expect(requests[0]?.headers.get('content-type')).toBe('application/json');
    expect(JSON.parse(requests[0]?.body ?? '')).toEqual({
      resourceSpans: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'onecron' } }] },
          scopeSpans: [
            {
              scope: { name: 'onecron', version: '1' },
              spans: [
                {
                  traceId: 'a'.repeat(32),
                  spanId: 'b'.repeat(16),
                  parentSpanId: 'c'.repeat(16),
                  name: 'x',
                  kind: 3,
                  startTimeUnixNano: '1700000000123500000',
                  endTimeUnixNano: '1700000000124000000',
                  attributes: [
                    { key: 'text', value: { stringValue: 'a' } },
                    { key: 'whole', value: { intValue: '3' } },
                    { key: 'part', value: { doubleValue: 0.5 } },
                    { key: 'yes', value: { boolValue: true } },
                  ],
                  links: [{ traceId: 'd'.repeat(32), spanId: 'e'.repeat(16) }],
                  status: { code: 2 },
                },
              ],
            },
          ],
        },
      ],
    });
  });

  test('sums and histograms are what was added since the last time', async () => {
    const { sink, requests, clock } = collector();
    sink.count(metric, { job: 'a' });
    sink.count(metric, { job: 'a' });
    sink.count(metric, { job: 'b' });
    sink.duration({ ...metric, name: 'h' }, {}, 20);
    sink.duration({ ...metric, name: 'h' }, {}, 100_000);
    clock.ms += 1_000;
    await sink.flush();
    await sink.flush();
    expect(requests).toHaveLength(1);
    const body = JSON.parse(requests[0]?.body ?? '');
    const [sum, histogram] = body.resourceMetrics[0].scopeMetrics[0].metrics;
    expect(sum).toMatchObject({ name: 'm', sum: { aggregationTemporality: 1, isMonotonic: true } });
    expect(sum.sum.dataPoints.map((point: { asInt: string }) => point.asInt)).toEqual(['2', '1']);
    const [point] = histogram.histogram.dataPoints;
    expect(point).toMatchObject({ count: '2', sum: 100.02, min: 0.02, max: 100 });
    expect(point.bucketCounts).toHaveLength(point.explicitBounds.length + 1);
    expect(point.bucketCounts[2]).toBe('1');
    expect(point.bucketCounts.at(-1)).toBe('1');
    expect(BigInt(point.timeUnixNano) - BigInt(point.startTimeUnixNano)).toBe(1_000_000_000n);
  });

  test('a full queue drops what comes, says so, and takes more afterwards', async () => {
    const { sink, requests, entries } = collector(undefined, { queueLimit: 3, sendCount: 100 });
    for (let n = 0; n < 5; n++) sink.span(span());
    await sink.flush();
    const sent = () =>
      requests.map(({ body }) => JSON.parse(body).resourceSpans[0].scopeSpans[0].spans.length);
    expect(sent()).toEqual([3]);
    expect(entries()).toEqual([expect.objectContaining({ event: 'telemetry lost', spans_lost: 2 })]);
    sink.span(span());
    await sink.flush();
    expect(sent()).toEqual([3, 1]);
  });

  test('many spans are sent in parts, without waiting for the end of the drain', async () => {
    const { sink, requests, kept } = collector(undefined, { sendCount: 2 });
    for (let n = 0; n < 5; n++) sink.span(span());
    expect(kept).toHaveLength(1);
    await Promise.all(kept);
    await sink.flush();
    const counts = requests.map(({ body }) => JSON.parse(body).resourceSpans[0].scopeSpans[0].spans.length);
    expect(counts.reduce((sum, each) => sum + each, 0)).toBe(5);
    expect(Math.max(...counts)).toBe(2);
  });

  test.each([
    ['refuses', () => json(401, { message: 'canary-header' })],
    ['is broken', () => json(500, {})],
    ['is not there', () => Promise.reject(new Error('canary-header'))],
    ['never answers', () => new Promise<Response>(() => {})],
  ])('a collector that %s costs a line in the log and nothing else', async (_name, answer) => {
    const { sink, entries, lines } = collector(answer);
    sink.span(span());
    sink.count(metric, {});
    await sink.flush();
    expect(entries()).toEqual([expect.objectContaining({ event: 'telemetry not sent', spans_lost: 1 })]);
    expect(lines.join('\n')).not.toContain('canary');
  });
});
