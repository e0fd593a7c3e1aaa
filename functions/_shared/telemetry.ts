// Tracing: every item carries a W3C trace id from enqueue to its last attempt; here it becomes spans and headers.
// A drain and its batches are one trace. An item's span is in the item's own trace and links to the batch that
// served it, because one batch serves many traces. A provider call belongs to the item that it is made for, or,
// when it serves several, to the batch, with a link to each.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Batch, Item } from './engine.ts';
import type { Http } from './http.ts';
import type { Attributes, Metric, TelemetrySink } from './otlp.ts';
import type { ItemOutcome } from './outcome.ts';

export interface Telemetry {
  startDrain(order: { drainId: string; job: string; runId?: number | null }): DrainTelemetry;
  /** The same way out, with a span, a duration and, where that is allowed, a `traceparent` header for each call. */
  observe(provider: string, http: Http): Http;
}

export interface DrainTelemetry {
  startBatch(batch: Batch): BatchTelemetry;
  /** Ends the drain's span and sends what is waiting, without anybody waiting for it. */
  end(result: { end: string; failed: boolean }): void;
}

export interface BatchTelemetry {
  itemEnded(outcome: ItemOutcome): void;
  /** Calls made inside `work` are made for these items. */
  within<T>(items: readonly Item[], work: () => Promise<T>): Promise<T>;
  end(result: { leaseLost: boolean }): void;
}

/** When nothing is exported and no header is sent. */
export const silentTelemetry: Telemetry = {
  startDrain: () => ({
    startBatch: () => ({ itemEnded: () => {}, within: (_items, work) => work(), end: () => {} }),
    end: () => {},
  }),
  observe: (_provider, http) => http,
};

const itemsMetric: Metric = {
  name: 'onecron.items',
  unit: '{item}',
  description: 'Items by job and by what became of them',
};
const batchMetric: Metric = {
  name: 'onecron.batch.duration',
  unit: 's',
  description: 'How long a batch was worked on',
};
const callMetric: Metric = {
  name: 'onecron.provider.call.duration',
  unit: 's',
  description: 'How long a provider took to answer',
};

/** Outcomes after which an item is not what was hoped for. */
const failures = new Set<ItemOutcome['outcome']>(['retry', 'refused', 'credential_broken']);

interface Place {
  traceId: string;
  spanId: string;
}
interface Scope extends Place {
  links?: readonly Place[];
}

const isTraceId = (text: string) => /^[0-9a-f]{32}$/.test(text) && !/^0+$/.test(text);

export interface TelemetryOptions {
  /** Null: nothing is exported. */
  sink: TelemetrySink | null;
  /** Whether providers get a `traceparent` header. What an id of ours tells them is little, but it is not theirs. */
  traceProviders: boolean;
  now: () => number;
  randomHex: (bytes: number) => string;
  keepAlive: (work: Promise<unknown>) => void;
}

export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { sink, now, randomHex } = options;
  if (sink === null && !options.traceProviders) return silentTelemetry;
  const current = new AsyncLocalStorage<Scope>();

  return {
    startDrain({ drainId, job, runId }) {
      const drain: Place = { traceId: randomHex(16), spanId: randomHex(8) };
      const startMs = now();
      return {
        startBatch: (batch) => startBatch(batch, drain),
        end({ end, failed }) {
          const attributes = {
            'onecron.job': job,
            'onecron.drain_id': drainId,
            'onecron.run_id': runId,
            'onecron.end': end,
          };
          const times = { startMs, endMs: now() };
          sink?.span({ ...drain, ...times, name: `drain ${job}`, kind: 'consumer', attributes, failed });
          if (sink !== null) options.keepAlive(sink.flush());
        },
      };
    },
    observe: (provider, http) => async (request) => {
      const scope = current.getStore();
      const place: Place = { traceId: scope?.traceId ?? randomHex(16), spanId: randomHex(8) };
      const headers = options.traceProviders
        ? { ...request.headers, traceparent: `00-${place.traceId}-${place.spanId}-01` }
        : request.headers;
      const startMs = now();
      const result = await http({ ...request, ...(headers && { headers }) });
      const endMs = now();
      // The answer in one word: a status, or why there was none. The url may hold an id or a secret: never here.
      const answer = result.kind === 'answer' ? String(result.status) : result.reason;
      const failed = result.kind === 'failure' || result.status >= 400;
      sink?.duration(callMetric, { 'onecron.provider': provider, 'onecron.answer': answer }, endMs - startMs);
      sink?.span({
        ...place,
        ...(scope && { parentSpanId: scope.spanId }),
        ...(scope?.links && { links: scope.links }),
        ...{ startMs, endMs, failed, name: `${request.method} ${provider}`, kind: 'client' },
        attributes: {
          'onecron.provider': provider,
          'http.request.method': request.method,
          'http.response.status_code': result.kind === 'answer' ? result.status : undefined,
          'error.type': failed ? answer : undefined,
        },
      });
      return result;
    },
  };

  function startBatch(batch: Batch, drain: Place): BatchTelemetry {
    const startMs = now();
    const own: Place = { traceId: drain.traceId, spanId: randomHex(8) };
    const items = new Map<number, { place: Place; attributes: Attributes }>();
    for (const work of batch.tenants) {
      for (const item of work.items) {
        if (!isTraceId(item.trace_id)) continue;
        items.set(item.item_id, {
          place: { traceId: item.trace_id, spanId: randomHex(8) },
          attributes: {
            'onecron.job': batch.job,
            'onecron.batch_id': batch.batch_id,
            'onecron.item_id': item.item_id,
            'onecron.attempt': item.attempt,
            'onecron.tenant_id': work.tenant_id,
          },
        });
      }
    }
    return {
      itemEnded(outcome) {
        const found = items.get(outcome.item_id);
        sink?.count(itemsMetric, { 'onecron.job': batch.job, 'onecron.outcome': outcome.outcome });
        if (found === undefined) return;
        sink?.span({
          ...found.place,
          ...{ startMs, endMs: now(), name: `item ${batch.job}`, kind: 'consumer', links: [own] },
          attributes: { ...found.attributes, 'onecron.outcome': outcome.outcome },
          failed: failures.has(outcome.outcome),
        });
      },
      within(these, work) {
        const places = these.flatMap((item) => items.get(item.item_id)?.place ?? []);
        const [only] = places;
        return current.run(
          places.length === 1 && only !== undefined ? only : { ...own, links: places },
          work,
        );
      },
      end({ leaseLost }) {
        const endMs = now();
        sink?.duration(batchMetric, { 'onecron.job': batch.job }, endMs - startMs);
        sink?.span({
          ...own,
          ...{ startMs, endMs, parentSpanId: drain.spanId, name: `batch ${batch.job}`, kind: 'internal' },
          attributes: {
            'onecron.job': batch.job,
            'onecron.batch_id': batch.batch_id,
            'onecron.items': batch.tenants.reduce((sum, work) => sum + work.items.length, 0),
            'onecron.tenants': batch.tenants.length,
            'onecron.lease_lost': leaseLost,
          },
          failed: leaseLost,
        });
      },
    };
  }
}
