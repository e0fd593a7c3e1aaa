// OTLP over HTTP as JSON: spans and metrics in the shapes of opentelemetry-proto 1.x, and the queue that sends them.
// Written out here because it is the smaller thing to keep: the official exporters bring seven packages with a
// life cycle of their own (timers, a global registry, `process`), and an edge function ends when it has answered.
// https://opentelemetry.io/docs/specs/otlp/#otlphttp
import { describeFailure, type Http } from './http.ts';
import type { Log } from './log.ts';

export type Attributes = Record<string, string | number | boolean | null | undefined>;

export const spanKinds = { internal: 1, client: 3, consumer: 5 } as const;

export interface FinishedSpan {
  /** 32 hexadecimal characters. */
  traceId: string;
  /** 16 hexadecimal characters. */
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: keyof typeof spanKinds;
  /** Milliseconds since 1970. */
  startMs: number;
  endMs: number;
  attributes: Attributes;
  links?: readonly { traceId: string; spanId: string }[];
  failed: boolean;
}

export interface Metric {
  name: string;
  unit: string;
  description: string;
}

/** Where finished spans and measurements go. Nothing here waits, and nothing throws. */
export interface TelemetrySink {
  span(span: FinishedSpan): void;
  count(metric: Metric, attributes: Attributes, by?: number): void;
  /** One measured duration, for a histogram in seconds. */
  duration(metric: Metric, attributes: Attributes, ms: number): void;
  /** Sends what is waiting. Resolves when it is sent or given up; never rejects. */
  flush(): Promise<void>;
}

/** The bounds that the semantic conventions give for durations in seconds, and two for long batches. */
const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const delta = 1;
const nanos = (ms: number) => `${Math.trunc(ms)}${String(Math.trunc((ms % 1) * 1e6)).padStart(6, '0')}`;

function toAttributes(attributes: Attributes): unknown[] {
  return Object.entries(attributes).flatMap(([key, value]): unknown[] => {
    if (value === null || value === undefined) return [];
    if (typeof value === 'string') return [{ key, value: { stringValue: value } }];
    if (typeof value === 'boolean') return [{ key, value: { boolValue: value } }];
    return [{ key, value: Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value } }];
  });
}

function toSpan(span: FinishedSpan): unknown {
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    ...(span.parentSpanId !== undefined && { parentSpanId: span.parentSpanId }),
    name: span.name,
    kind: spanKinds[span.kind],
    startTimeUnixNano: nanos(span.startMs),
    endTimeUnixNano: nanos(Math.max(span.startMs, span.endMs)),
    attributes: toAttributes(span.attributes),
    ...(span.links && span.links.length > 0 && { links: span.links }),
    status: span.failed ? { code: 2 } : {},
  };
}

interface Sum {
  metric: Metric;
  attributes: Attributes;
  value: number;
}
interface Histogram {
  metric: Metric;
  attributes: Attributes;
  count: number;
  sum: number;
  min: number;
  max: number;
  buckets: number[];
}

export interface OtlpOptions {
  http: Http;
  /** The collector's base url; `/v1/traces` and `/v1/metrics` are added. */
  endpoint: string;
  headers: Record<string, string>;
  resource: Attributes;
  now: () => number;
  log: Log;
  /** Keeps the instance alive while something is sent between two flushes. */
  keepAlive: (work: Promise<unknown>) => void;
  /** Spans that may wait; more are dropped and counted. */
  queueLimit?: number;
  /** Spans in one request, and how many must wait until one is sent without a flush. */
  sendCount?: number;
}

/** Instances come and go, so sums are sent as what was added since the last time (delta). */
export function createOtlpSink(options: OtlpOptions): TelemetrySink {
  const queueLimit = options.queueLimit ?? 4_096;
  const sendCount = options.sendCount ?? 512;
  const scope = { name: 'onecron', version: '1' };
  const resource = { attributes: toAttributes(options.resource) };
  const queue: FinishedSpan[] = [];
  let lost = 0;
  let since = options.now();
  let sums = new Map<string, Sum>();
  let histograms = new Map<string, Histogram>();
  let sending: Promise<void> | undefined;

  async function post(path: string, body: unknown): Promise<string | null> {
    const result = await options.http({
      method: 'POST',
      url: `${options.endpoint}${path}`,
      headers: { ...options.headers, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (result.kind === 'failure') return describeFailure('the collector', result.reason);
    return result.status < 300 ? null : `the collector answered ${result.status}`;
  }

  async function sendSpans(): Promise<string | null> {
    while (queue.length > 0) {
      const part = queue.splice(0, sendCount);
      const spans = part.map(toSpan);
      const failure = await post('/v1/traces', {
        resourceSpans: [{ resource, scopeSpans: [{ scope, spans }] }],
      });
      if (failure !== null) {
        // Not kept for another try: a collector that is down must not cost memory.
        lost += part.length;
        return failure;
      }
    }
    return null;
  }

  async function sendMetrics(): Promise<string | null> {
    if (sums.size === 0 && histograms.size === 0) return null;
    const now = options.now();
    const times = { startTimeUnixNano: nanos(since), timeUnixNano: nanos(now) };
    const grouped = new Map<string, { metric: Metric; kind: 'sum' | 'histogram'; points: unknown[] }>();
    const add = (metric: Metric, kind: 'sum' | 'histogram', point: unknown) => {
      const group = grouped.get(metric.name) ?? { metric, kind, points: [] };
      group.points.push(point);
      grouped.set(metric.name, group);
    };
    for (const { metric, attributes, value } of sums.values()) {
      add(metric, 'sum', { attributes: toAttributes(attributes), ...times, asInt: String(value) });
    }
    for (const { metric, attributes, count, sum, min, max, buckets } of histograms.values()) {
      add(metric, 'histogram', {
        attributes: toAttributes(attributes),
        ...times,
        ...{ count: String(count), sum, min, max },
        bucketCounts: buckets.map(String),
        explicitBounds: bounds,
      });
    }
    since = now;
    sums = new Map();
    histograms = new Map();
    const metrics = [...grouped.values()].map(({ metric, kind, points }) => ({
      ...metric,
      ...(kind === 'sum'
        ? { sum: { aggregationTemporality: delta, isMonotonic: true, dataPoints: points } }
        : { histogram: { aggregationTemporality: delta, dataPoints: points } }),
    }));
    return await post('/v1/metrics', { resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }] });
  }

  /** One request at a time; whoever comes meanwhile waits for the same one. */
  function send(everything: boolean): Promise<void> {
    const run = async () => {
      await sending;
      const failures = [await sendSpans(), everything ? await sendMetrics() : null];
      const failure = failures.find((each) => each !== null);
      if (failure !== undefined && failure !== null) {
        options.log.warn('telemetry not sent', { why: failure, spans_lost: lost });
      } else if (lost > 0) options.log.warn('telemetry lost', { spans_lost: lost });
      lost = 0;
    };
    const done: Promise<void> = run()
      .catch(() => {})
      .finally(() => {
        if (sending === done) sending = undefined;
      });
    sending = done;
    return done;
  }

  const keyOf = (metric: Metric, attributes: Attributes) => `${metric.name} ${JSON.stringify(attributes)}`;

  return {
    span(span) {
      if (queue.length >= queueLimit) {
        lost += 1;
        return;
      }
      queue.push(span);
      if (queue.length >= sendCount && sending === undefined) options.keepAlive(send(false));
    },
    count(metric, attributes, by = 1) {
      const key = keyOf(metric, attributes);
      const sum = sums.get(key) ?? { metric, attributes, value: 0 };
      sum.value += by;
      sums.set(key, sum);
    },
    duration(metric, attributes, ms) {
      const seconds = Math.max(0, ms) / 1000;
      const key = keyOf(metric, attributes);
      const histogram = histograms.get(key) ?? {
        ...{ metric, attributes, count: 0, sum: 0, min: seconds, max: seconds },
        buckets: new Array<number>(bounds.length + 1).fill(0),
      };
      const bucket = bounds.findIndex((bound) => seconds <= bound);
      const index = bucket === -1 ? bounds.length : bucket;
      histogram.buckets[index] = (histogram.buckets[index] ?? 0) + 1;
      histogram.count += 1;
      histogram.sum += seconds;
      histogram.min = Math.min(histogram.min, seconds);
      histogram.max = Math.max(histogram.max, seconds);
      histograms.set(key, histogram);
    },
    flush: () => send(true),
  };
}
