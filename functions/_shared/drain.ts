// The drain: batch after batch of one job, until nothing is awake or its time is up.
import type {
  Batch,
  Bundle,
  BundleEnd,
  Engine,
  Item,
  PostReading,
  SettledBundle,
  TenantWork,
} from './engine.ts';
import { EngineError } from './engine.ts';
import { describeError, nameOfError } from './errors.ts';
import type { Log } from './log.ts';
import { createMeter, type Meter } from './meter.ts';
import { cut, type ItemOutcome } from './outcome.ts';
import { stringsIn } from './redact.ts';
import { type BatchTelemetry, type DrainTelemetry, silentTelemetry, type Telemetry } from './telemetry.ts';

export interface JobContext {
  /** The database's time. The worker's own clock is never compared with a deadline. */
  now(): Date;
  /** True when the lease is lost: start nothing more for this batch. */
  leaseIsLost(): boolean;
  /** True when the drain's time is up: start nothing more, hand the rest back. */
  timeIsUp(): boolean;
  /** For how many milliseconds something may run that starts now: until the lease or the instance could end. */
  leftMs(): number;
  /** Stores a renewed token of the item's tenant. False: the lease is over, or the credential was changed meanwhile. */
  keepToken(itemId: number, token: string, expiresAt: string | null): Promise<boolean>;
  /** Provider calls made inside `work` are made for these items: they belong to the items' traces. */
  within<T>(items: readonly Item[], work: () => Promise<T>): Promise<T>;
  /** Before a call to a provider without idempotency key: which of the items may be sent now. */
  beginEffects(itemIds: readonly number[]): Promise<number[]>;
  /** Before several e-mails leave in one call: what it consists of. Null: the lease is lost. */
  bundleEmails(itemIds: readonly number[], sender: string): Promise<Bundle | null>;
  /** After it: what became of it. */
  settleEmails(
    bundle: { bundle_id: string; call: number; version: number },
    end: BundleEnd,
  ): Promise<SettledBundle>;
  /**
   * Tells the database what was read of a post, before the outcomes of its claims: accounts that sent a code are linked,
   * and nothing is read twice. Best effort: no outcome depends on it.
   */
  recordComments(post: PostReading): Promise<void>;
  /** Hands in outcomes as soon as they are known: what a crash must not lose. */
  report(...outcomes: ItemOutcome[]): void;
  log: Log;
}

/** Works on one tenant's items of a batch. Items without an outcome return when the lease expires. */
export type JobHandler = (work: TenantWork, context: JobContext) => Promise<void>;

export interface DrainOrder {
  drainId: string;
  job: string;
  /** The run that this is part of, for the log. */
  runId?: number | null;
  /** After this, no new batch is taken. */
  budgetMs?: number;
}

export type DrainEnd = 'nothing_awake' | 'time' | 'stopped' | 'error' | 'unknown_job';

export interface DrainReport {
  end: DrainEnd;
  batches: number;
  items: number;
  /** Outcomes that the engine accepted, and those that came too late. */
  closed: number;
  stale: number;
}

export type Drain = (order: DrainOrder) => Promise<DrainReport>;

export interface DrainOptions {
  engine: Engine;
  /** By the job's name. */
  handlers: Readonly<Record<string, JobHandler>>;
  /** For every job of the kind `raw`, whatever its name. */
  rawHandler?: JobHandler;
  telemetry?: Telemetry;
  /** Counts provider calls, for jobs that are charged by them. */
  meter?: Meter;
  now: () => number;
  log: Log;
  /** 100 s by default: a hosted function lives 150 s on the free plan. */
  budgetMs?: number;
  /** How long after the budget a batch at work may still start something. */
  graceMs?: number;
  /** Tenants of a batch that are worked on at the same time. */
  tenantConcurrency?: number;
  /** For how long a drain waits at most for a lane that wakes. */
  restMs?: number;
  pause?: (ms: number, stop?: AbortSignal) => Promise<void>;
  /** Outcomes are handed in after this time, or when there are `flushCount` of them. */
  flushMs?: number;
  flushCount?: number;
  /** The platform is about to end this instance. */
  stop?: AbortSignal;
}

/** Runs `work` over all items, at most `limit` at a time. `work` must not throw. */
export async function eachInPool<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const runners = Array.from({ length: Math.max(1, Math.min(limit, items.length)) }, async () => {
    for (const item of queue) await work(item);
  });
  await Promise.all(runners);
}

function pauseFor(ms: number, stop?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      stop?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    stop?.addEventListener('abort', done);
    if (stop?.aborted) done();
  });
}

export function createDrain(options: DrainOptions): Drain {
  const { engine, now } = options;
  const telemetry = options.telemetry ?? silentTelemetry;
  const meter = options.meter ?? createMeter(now);
  const budgetMs = options.budgetMs ?? 100_000;
  const graceMs = options.graceMs ?? 20_000;
  const tenantConcurrency = options.tenantConcurrency ?? 8;
  const restMs = options.restMs ?? 2_000;
  const pause = options.pause ?? pauseFor;
  const flushMs = options.flushMs ?? 1_000;
  const flushCount = options.flushCount ?? 100;

  return async (order) => {
    const started = now();
    const budget = order.budgetMs ?? budgetMs;
    const stopped = () => options.stop?.aborted === true;
    const mayTakeMore = () => !stopped() && now() - started < budget;
    const timeIsUp = () => stopped() || now() - started >= budget + graceMs;
    const leftMs = () => (stopped() ? 0 : started + budget + graceMs - now());
    const log = options.log.with({ job: order.job, drain_id: order.drainId, run: order.runId ?? undefined });
    const trace = telemetry.startDrain(order);
    const report: DrainReport = { end: 'nothing_awake', batches: 0, items: 0, closed: 0, stale: 0 };
    let failure: string | null = null;

    try {
      const handler = await handlerFor(order.job);
      if (handler === undefined) {
        report.end = 'unknown_job';
        failure = `This worker does not know the job ${cut(order.job, 100)}. Deploy the functions again.`;
        log.error('unknown job');
      } else {
        let batch = await engine.nextBatch(order.drainId, order.job);
        for (;;) {
          while (batch !== null) {
            batch = await workOn(batch, handler, {
              order,
              log,
              trace,
              report,
              mayTakeMore,
              timeIsUp,
              leftMs,
            });
          }
          // What is paced (so many messages a second by one number) is due in a moment, and the next doorbell comes with a tick.
          const wakesInMs = mayTakeMore() ? await engine.nextWake(order.job) : null;
          if (wakesInMs === null || wakesInMs > restMs) break;
          await pause(wakesInMs, options.stop);
          if (!mayTakeMore()) break;
          batch = await engine.nextBatch(order.drainId, order.job);
        }
        if (stopped()) report.end = 'stopped';
        else if (!mayTakeMore()) report.end = 'time';
      }
    } catch (thrown) {
      report.end = 'error';
      failure =
        thrown instanceof EngineError
          ? `The drain ended: a call to the database failed (${thrown.code}).`
          : `The drain ended: ${nameOfError(thrown)}.`;
      log.error('drain failed', describeError(thrown));
    }
    try {
      await engine.endDrain(order.drainId, failure);
    } catch (thrown) {
      // The tick ends a drain that does not report.
      log.error('end_drain failed', describeError(thrown));
    }
    log.info('drain ended', { ...report, ms: now() - started });
    trace.end({ end: report.end, failed: failure !== null });
    return report;
  };

  async function handlerFor(job: string): Promise<JobHandler | undefined> {
    if (Object.hasOwn(options.handlers, job)) return options.handlers[job];
    // The kind is the definition's word. What an item's data look like must never make a command of them.
    return (await engine.kindOf(job)) === 'raw' ? options.rawHandler : undefined;
  }

  interface Around {
    order: DrainOrder;
    log: Log;
    trace: DrainTelemetry;
    report: DrainReport;
    mayTakeMore: () => boolean;
    timeIsUp: () => boolean;
    leftMs: () => number;
  }

  /** Works on one batch and answers the next one, or null when the drain is over. */
  async function workOn(batch: Batch, handler: JobHandler, around: Around): Promise<Batch | null> {
    // No batch: all that the claim came upon must wait, and there is more to look at.
    if (batch.tenants.length === 0) {
      return around.mayTakeMore() ? await engine.nextBatch(around.order.drainId, around.order.job) : null;
    }
    const receivedAt = now();
    const databaseAhead = Date.parse(batch.now) - receivedAt;
    const log = around.log.with({ batch: batch.batch_id });
    const trace = around.trace.startBatch(batch);
    const sink = createSink(batch, log, around.report, trace);
    const heartbeat = startHeartbeat(batch, log);
    around.report.batches += 1;

    try {
      await eachInPool(batch.tenants, tenantConcurrency, async (work) => {
        const secrets = stringsIn(work.credential?.secret);
        const tenantLog = log.with({ tenant: work.slug, tenant_id: work.tenant_id }, secrets);
        const begun = new Set<number>();
        around.report.items += work.items.length;
        if (heartbeat.isLost()) return;
        if (around.timeIsUp()) {
          sink.report(handBack(work.items, 'the drain’s time was up'));
          return;
        }
        await meter.charging(batch.cost_unit, async (charge) => {
          try {
            await handler(work, {
              now: () => new Date(now() + databaseAhead),
              leaseIsLost: heartbeat.isLost,
              timeIsUp: around.timeIsUp,
              leftMs: () => Math.min(around.leftMs(), heartbeat.leftMs()),
              keepToken: (itemId, token, expiresAt) =>
                engine.keepRefreshedToken(batch.batch_id, itemId, token, expiresAt),
              within: trace.within,
              beginEffects: (itemIds) => {
                for (const itemId of itemIds) begun.add(itemId);
                return engine.beginEffects(batch.batch_id, itemIds);
              },
              bundleEmails: (itemIds, sender) => engine.bundleEmails(batch.batch_id, itemIds, sender),
              settleEmails: (bundle, end) => engine.settleEmails(work.tenant_id, bundle, end),
              recordComments: async (post) => {
                try {
                  await engine.recordComments(batch.batch_id, work.tenant_id, post);
                } catch (thrown) {
                  tenantLog.warn('record_comments failed', describeError(thrown));
                }
              },
              report: (...outcomes) => sink.report(charge(outcomes)),
              log: tenantLog,
            });
          } catch (thrown) {
            tenantLog.error('tenant failed', describeError(thrown));
            // Without the database nothing is known for sure: the lease brings the items back.
            if (thrown instanceof EngineError) return;
            // Where an effect may have begun, only the engine may say how it ended.
            const untouched = work.items.filter(
              (item) => !sink.has(item.item_id) && !begun.has(item.item_id),
            );
            const error = `The worker failed on this item: ${nameOfError(thrown)}.`;
            sink.report(
              charge(untouched.map((item) => ({ item_id: item.item_id, outcome: 'retry', error }))),
            );
          }
        });
      });
    } finally {
      heartbeat.stop();
    }

    const wantNext = around.mayTakeMore();
    const next = await sink.finish(wantNext);
    trace.end({ leaseLost: heartbeat.isLost() });
    log.info('batch closed', {
      tenants: batch.tenants.length,
      items: batch.tenants.reduce((sum, work) => sum + work.items.length, 0),
      outcomes: sink.counts(),
      lease_lost: heartbeat.isLost(),
      ms: now() - receivedAt,
    });
    if (!wantNext) return null;
    return next === 'ask' ? await engine.nextBatch(around.order.drainId, around.order.job) : next;
  }

  /** Extends the lease at every third of it. Any doubt about the lease counts as lost. */
  function startHeartbeat(batch: Batch, log: Log) {
    const leaseMs = batch.lease_seconds * 1000;
    let heldUntil = now() + Math.min(leaseMs, Date.parse(batch.lease_until) - Date.parse(batch.now));
    let lost = false;
    let beating = false;
    const lose = (why: string) => {
      if (lost) return;
      lost = true;
      log.warn('lease lost', { why });
    };
    const isLost = () => {
      if (!lost && now() >= heldUntil) lose('no extension in time');
      return lost;
    };
    const timer = setInterval(async () => {
      if (lost || beating) return;
      beating = true;
      const asked = now();
      try {
        if (await engine.extendBatch(batch.batch_id)) heldUntil = asked + leaseMs;
        else lose('the engine said so');
      } catch (thrown) {
        log.warn('extend_batch failed', describeError(thrown));
      } finally {
        beating = false;
      }
    }, leaseMs / 3);
    const leftMs = () => (isLost() ? 0 : heldUntil - now());
    return { isLost, leftMs, stop: () => clearInterval(timer) };
  }

  /** Collects outcomes and hands them in, in parts, one call at a time. */
  function createSink(batch: Batch, log: Log, report: DrainReport, trace: BatchTelemetry) {
    const expected = new Map(
      batch.tenants.flatMap((work) => work.items.map((item) => [item.item_id, item.trace_id])),
    );
    const reported = new Set<number>();
    const counts: Record<string, number> = {};
    let waiting: ItemOutcome[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let chain: Promise<unknown> = Promise.resolve();

    /** Hands in what waits; after an error it waits again for the next call. */
    const flush = (next: boolean): Promise<Batch | null> => {
      clearTimeout(timer);
      timer = undefined;
      const run = chain.then(async () => {
        const part = waiting;
        waiting = [];
        if (part.length === 0) return null;
        try {
          const closed = await engine.closeBatch(batch.batch_id, part, next);
          report.closed += closed.closed;
          report.stale += closed.stale;
          if (closed.stale > 0) log.warn('outcomes came too late', { stale: closed.stale });
          return closed.next;
        } catch (thrown) {
          waiting = [...part, ...waiting];
          throw thrown;
        }
      });
      chain = run.catch((thrown) => log.warn('close_batch failed', describeError(thrown)));
      return run;
    };

    return {
      has: (itemId: number) => reported.has(itemId),
      counts: () => counts,
      report(outcomes: readonly ItemOutcome[]) {
        for (const outcome of outcomes) {
          if (!expected.has(outcome.item_id) || reported.has(outcome.item_id)) {
            const about = { item: outcome.item_id, trace_id: expected.get(outcome.item_id) };
            log.error('outcome ignored: not an open item of this batch', about);
            continue;
          }
          reported.add(outcome.item_id);
          counts[outcome.outcome] = (counts[outcome.outcome] ?? 0) + 1;
          waiting.push(outcome);
          trace.itemEnded(outcome);
        }
        if (waiting.length >= flushCount) flush(false).catch(() => {});
        else if (waiting.length > 0) timer ??= setTimeout(() => flush(false).catch(() => {}), flushMs);
      },
      /** Hands in the rest. 'ask': the answer says nothing about the next batch, so it must be asked for. */
      async finish(next: boolean): Promise<Batch | null | 'ask'> {
        clearTimeout(timer);
        timer = undefined;
        await chain;
        if (waiting.length === 0) return 'ask';
        const staleBefore = report.stale;
        const following = await flush(next);
        // A batch that is gone (its lease is over, or a repeated call closed it) brings no next one with it.
        return following === null && report.stale > staleBefore ? 'ask' : following;
      },
    };
  }
}

/** Gives items back that were not started: no attempt is burnt. */
export function handBack(items: readonly Item[], reason: string, seconds = 1): ItemOutcome[] {
  return items.map((item) => ({ item_id: item.item_id, outcome: 'snooze', seconds, reason }));
}
