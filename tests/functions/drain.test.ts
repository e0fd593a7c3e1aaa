import { describe, expect, test } from 'vitest';
import {
  createDrain,
  type DrainOptions,
  eachInPool,
  type JobHandler,
} from '../../functions/_shared/drain.ts';
import { type Batch, EngineError, type TenantWork } from '../../functions/_shared/engine.ts';
import { createMeter } from '../../functions/_shared/meter.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import {
  batch,
  databaseNow,
  drainId,
  engine,
  item,
  memoryLog,
  metaCredential,
  nowMs,
  work,
} from './fakes.ts';

const tenant = (slug: string, ...ids: number[]): TenantWork =>
  work(
    ids.map((id) => item(id)),
    metaCredential,
    slug,
  );
const done = (itemId: number): ItemOutcome => ({ item_id: itemId, outcome: 'done', result: {} });
const allDone: JobHandler = async ({ items }, context) =>
  context.report(...items.map((each) => done(each.item_id)));
const trouble = () => new EngineError('close_batch', 'connection', true, 'gone');

/** A drain over prepared batches, with a clock that the test moves. */
function draining(batches: (Batch | null)[], handler: JobHandler, changes: Partial<DrainOptions> = {}) {
  const calls: string[] = [];
  const closed: ItemOutcome[] = [];
  const { log, entries, lines } = memoryLog();
  const clock = { ms: nowMs };
  const queue = [...batches];
  const fake = engine({
    async nextBatch() {
      calls.push('next');
      return queue.shift() ?? null;
    },
    async closeBatch(batchId, outcomes, next) {
      calls.push(
        `close ${batchId} ${outcomes.map((outcome) => outcome.item_id).join(',')}${next ? ' next' : ''}`,
      );
      closed.push(...outcomes);
      return { closed: outcomes.length, stale: 0, next: next ? (queue.shift() ?? null) : null };
    },
    async extendBatch() {
      calls.push('extend');
      return true;
    },
    async beginEffects(_batchId, ids) {
      return [...ids];
    },
    async endDrain(_id, error) {
      calls.push(`end ${error ?? 'well'}`);
    },
    async takeRequest() {
      return { allowed: true, reason: null, retry_after_seconds: null };
    },
    async kindOf() {
      return null;
    },
    ...changes.engine,
  });
  const drain = createDrain({
    handlers: { 'verify-social-tasks': handler },
    now: () => clock.ms,
    log,
    flushMs: 5,
    ...changes,
    engine: fake,
  });
  return {
    calls,
    closed,
    clock,
    entries,
    lines,
    run: (job = 'verify-social-tasks', runId: number | null = 5) => drain({ drainId, job, runId }),
  };
}
const partial = (changes: Partial<DrainOptions['engine']>) => ({ engine: changes as DrainOptions['engine'] });

describe('drain', () => {
  test('takes batch after batch, closing one and taking the next in one call, until nothing is awake', async () => {
    const { run, calls } = draining([batch(1, [tenant('a', 1, 2)]), batch(2, [tenant('b', 3)])], allDone);
    expect(await run()).toEqual({ end: 'nothing_awake', batches: 2, items: 3, closed: 3, stale: 0 });
    expect(calls).toEqual(['next', 'close 1 1,2 next', 'close 2 3 next', 'end well']);
  });

  test('with nothing awake it only ends', async () => {
    const { run, calls } = draining([], allDone);
    expect(await run()).toMatchObject({ end: 'nothing_awake', batches: 0 });
    expect(calls).toEqual(['next', 'end well']);
  });

  test('it waits for a lane that wakes in a moment, as long as its time lasts, and for no other', async () => {
    const waits = [250, 1_900, 2_100];
    const paused: number[] = [];
    const later = [batch(2, [tenant('b', 2)]), null];
    const changes = {
      pause: async (ms: number) => void paused.push(ms),
      ...partial({ nextWake: async () => waits.shift() ?? null }),
    };
    const { run, calls } = draining([batch(1, [tenant('a', 1)]), null, ...later], allDone, changes);
    expect(await run()).toMatchObject({ end: 'nothing_awake', batches: 2, closed: 2 });
    expect(paused).toEqual([250, 1_900]);
    expect(calls).toEqual(['next', 'close 1 1 next', 'next', 'close 2 2 next', 'next', 'end well']);
    expect(waits).toEqual([]);
  });

  test('whoever is stopped while it waits takes no more', async () => {
    const stop = new AbortController();
    const changes = { stop: stop.signal, ...partial({ nextWake: async () => 1_500 }) };
    const { run, calls } = draining([], allDone, changes);
    setTimeout(() => stop.abort(), 20);
    expect(await run()).toMatchObject({ end: 'stopped', batches: 0 });
    expect(calls).toEqual(['next', 'end well']);
  });

  test('a job that this worker does not know ends at once and says so', async () => {
    for (const job of ['from-tomorrow', 'constructor']) {
      const { run, calls } = draining([batch(1, [])], allDone);
      expect(await run(job)).toMatchObject({ end: 'unknown_job' });
      expect(calls).toEqual([expect.stringMatching(/^end This worker does not know the job .*Deploy/)]);
    }
  });

  test('a raw job of any name goes to the handler for raw jobs, because its definition says so', async () => {
    const nameOf = (given: TenantWork) => given.items.map((each) => each.item_id);
    const seen: number[][] = [];
    const rawHandler: JobHandler = async (given, context) => {
      seen.push(nameOf(given));
      await allDone(given, context);
    };
    const changes = { rawHandler, ...partial({ kindOf: async () => 'raw' }) };
    const { run, calls } = draining([batch(1, [tenant('a', 1)])], allDone, changes);
    expect(await run('vacuum-items')).toMatchObject({ end: 'nothing_awake', closed: 1 });
    expect(seen).toEqual([[1]]);
    expect(calls.at(-1)).toBe('end well');
  });

  test('an unknown edge job is not run as a command, however its data look', async () => {
    const given = work([item(1, { command: 'drop schema public cascade' })], null);
    const rawHandler: JobHandler = async () => expect.unreachable('a payload became a command');
    const changes = { rawHandler, ...partial({ kindOf: async () => 'edge' }) };
    const { run, closed } = draining([batch(1, [given])], allDone, changes);
    expect(await run('from-tomorrow')).toMatchObject({ end: 'unknown_job', batches: 0 });
    expect(closed).toEqual([]);
  });

  test('a job of one’s own handler is not looked up, and a lookup that fails ends the drain', async () => {
    const kindOf = async () => {
      throw trouble();
    };
    const changes = partial({ kindOf });
    expect(await draining([], allDone, changes).run()).toMatchObject({ end: 'nothing_awake' });
    expect(await draining([], allDone, changes).run('from-tomorrow')).toMatchObject({ end: 'error' });
  });

  test('what may still run ends with the lease or the instance, whichever comes first', async () => {
    const left: number[] = [];
    const look: JobHandler = async (given, context) => {
      left.push(context.leftMs());
      await allDone(given, context);
    };
    await draining([batch(1, [tenant('a', 1)])], look).run();
    await draining([batch(1, [tenant('a', 1)])], look, { budgetMs: 5_000, graceMs: 1_000 }).run();
    await draining([batch(1, [tenant('a', 1)], { lease_until: databaseNow })], look).run();
    expect(left).toEqual([60_000, 6_000]);
  });

  test('an answer without tenants is no batch: the drain asks again, as long as it may', async () => {
    const { run, calls, entries } = draining(
      [batch(1, []), batch(2, []), batch(3, [tenant('a', 1)]), batch(4, [])],
      allDone,
    );
    expect(await run()).toMatchObject({ end: 'nothing_awake', batches: 1, items: 1 });
    expect(calls).toEqual(['next', 'next', 'next', 'close 3 1 next', 'next', 'end well']);
    expect(entries().filter((entry) => entry.event === 'batch closed')).toHaveLength(1);
    const late = draining([batch(1, []), batch(2, [])], allDone, { budgetMs: 0 });
    expect(await late.run()).toMatchObject({ end: 'time', batches: 0 });
    expect(late.calls).toEqual(['next', 'end well']);
  });

  test('after its budget it takes no new batch', async () => {
    const { run, calls, clock } = draining(
      [batch(1, [tenant('a', 1)]), batch(2, [tenant('a', 2)]), batch(3, [tenant('a', 3)])],
      async (given, context) => {
        clock.ms += 60_000;
        await allDone(given, context);
      },
      { budgetMs: 100_000, graceMs: 100_000 },
    );
    expect(await run()).toMatchObject({ end: 'time', batches: 2 });
    expect(calls).toEqual(['next', 'close 1 1 next', 'close 2 2', 'end well']);
  });

  test('after its grace it starts no tenant, and hands the items back without an attempt', async () => {
    const seen: string[] = [];
    const { run, closed, clock } = draining(
      [
        batch(1, [tenant('a', 1), tenant('b', 2, 3)], {
          lease_seconds: 600,
          lease_until: '2026-11-22T12:10:00Z',
        }),
      ],
      async (given, context) => {
        seen.push(String(given.slug));
        clock.ms += 120_000;
        await allDone(given, context);
      },
      { tenantConcurrency: 1 },
    );
    expect(await run()).toMatchObject({ end: 'time' });
    expect(seen).toEqual(['a']);
    expect(closed).toMatchObject([
      { item_id: 1, outcome: 'done' },
      { item_id: 2, outcome: 'snooze' },
      { item_id: 3, outcome: 'snooze' },
    ]);
  });

  test('when the platform ends the instance no new batch is taken', async () => {
    const stop = new AbortController();
    const { run, calls } = draining(
      [batch(1, [tenant('a', 1)]), batch(2, [tenant('a', 2)])],
      async (given, context) => {
        stop.abort();
        await allDone(given, context);
      },
      { stop: stop.signal },
    );
    expect(await run()).toMatchObject({ end: 'stopped', batches: 1 });
    expect(calls).toEqual(['next', 'close 1 1', 'end well']);
  });

  test('one tenant’s failure never stops another’s', async () => {
    for (const thrown of [new Error('boom'), 'a string', undefined]) {
      const { run, closed } = draining(
        [batch(1, [tenant('a', 1), tenant('b', 2), tenant('c', 3)])],
        async (given, context) => {
          if (given.slug === 'b') throw thrown;
          await allDone(given, context);
        },
      );
      expect(await run()).toMatchObject({ end: 'nothing_awake' });
      const outcomes = new Map(closed.map((outcome) => [outcome.item_id, outcome.outcome]));
      expect(outcomes).toEqual(
        new Map([
          [1, 'done'],
          [3, 'done'],
          [2, 'retry'],
        ]),
      );
    }
  });

  test('what failed after its effect had begun is left to the engine', async () => {
    const { run, closed } = draining([batch(1, [tenant('a', 1, 2, 3)])], async (_given, context) => {
      context.report(done(1));
      await context.beginEffects([2]);
      throw new Error('boom');
    });
    await run();
    expect(closed).toMatchObject([
      { item_id: 1, outcome: 'done' },
      { item_id: 3, outcome: 'retry' },
    ]);
  });

  test('without the database a tenant’s items are left to their lease', async () => {
    const { run, closed } = draining(
      [batch(1, [tenant('a', 1)])],
      async (_given, context) => {
        await context.beginEffects([1]);
      },
      partial({ beginEffects: () => Promise.reject(trouble()) }),
    );
    await run();
    expect(closed).toEqual([]);
  });

  test.each([
    ['calls', { 1: 3, 2: 1, 3: 1, 4: 1 }],
    ['milliseconds', { 1: 30, 2: 10, 3: 10, 4: 10 }],
    ['items', {}],
  ] as const)('a job that is charged by %s is told what each tenant took', async (cost_unit, costs) => {
    const clock = { ms: nowMs };
    const meter = createMeter(() => clock.ms);
    const call = meter.counted(async () => ({ kind: 'failure', reason: 'timeout', sent: 'no' }));
    const look = async () => {
      clock.ms += 10;
      await call({ method: 'GET', url: 'https://provider.example' });
    };
    const looking: JobHandler = async ({ items }, context) => {
      const [first, ...others] = items.map((each) => each.item_id);
      for (let n = 0; n < 3; n += 1) await look();
      context.report(done(first ?? 0));
      // One call for two of them; the last one fails with what it took.
      await look();
      await look();
      context.report(...others.slice(0, 2).map(done));
      await look();
      throw new Error('boom');
    };
    const { run, closed } = draining([batch(1, [tenant('a', 1, 2, 3, 4)], { cost_unit })], looking, {
      meter,
      tenantConcurrency: 1,
    });
    await call({ method: 'GET', url: 'https://provider.example' });
    await run();
    const told = closed.flatMap(({ item_id, cost }) => (cost === undefined ? [] : [[item_id, cost]]));
    expect(closed).toHaveLength(4);
    expect(Object.fromEntries(told)).toEqual(costs);
  });

  test('what was read is told for the tenant and the batch, and failing at that costs no outcome', async () => {
    const told: unknown[] = [];
    const post = { surface: 'facebook' as const, post_id: '1_2', comments: [], newest: null, complete: true };
    const telling: JobHandler = async (given, context) => {
      await context.recordComments(post);
      await allDone(given, context);
    };
    const recordComments = async (...args: unknown[]) => {
      told.push(args);
      throw trouble();
    };
    const { run, closed, entries } = draining(
      [batch(7, [tenant('a', 1)])],
      telling,
      partial({ recordComments }),
    );
    expect(await run()).toMatchObject({ end: 'nothing_awake', closed: 1 });
    expect(told).toEqual([[7, tenant('a', 1).tenant_id, post]]);
    expect(closed).toMatchObject([{ outcome: 'done' }]);
    expect(entries().map((entry) => entry.event)).toContain('record_comments failed');
  });

  test('every line leads to the run, the batch and the tenant that it is about', async () => {
    const telling: JobHandler = async (given, context) => {
      context.log.info('looked', { item: given.items[0]?.item_id });
      await allDone(given, context);
    };
    const { run, entries } = draining([batch(7, [tenant('a', 1)])], telling);
    await run();
    const ids = { job: 'verify-social-tasks', run: 5, drain_id: drainId };
    expect(entries()).toMatchObject([
      { event: 'looked', ...ids, batch: 7, tenant: 'a', item: 1 },
      { event: 'batch closed', ...ids, batch: 7 },
      { event: 'drain ended', ...ids },
    ]);
    const { run: other, entries: without } = draining([], allDone);
    await other(undefined, null);
    expect(without()[0]).not.toHaveProperty('run');
  });

  test('a secret in an error reaches no log and no outcome', async () => {
    const { run, closed, lines } = draining([batch(1, [tenant('a', 1)])], async (given) => {
      throw new Error(
        `https://x.test/?t=${encodeURIComponent(String(given.credential?.secret.access_token))}`,
      );
    });
    await run();
    expect(lines.join('\n')).toContain('[redacted]');
    expect(`${lines.join('\n')}${JSON.stringify(closed)}`).not.toContain('canary');
  });

  test('an error of next_batch ends the drain and says so', async () => {
    const { run, calls } = draining([], allDone, partial({ nextBatch: () => Promise.reject(trouble()) }));
    expect(await run()).toMatchObject({ end: 'error' });
    expect(calls).toEqual(['end The drain ended: a call to the database failed (connection).']);
  });

  test('a close that is lost is repeated with the same outcomes', async () => {
    const parts: number[][] = [];
    const { run } = draining(
      [batch(1, [tenant('a', 1, 2)])],
      async (given, context) => {
        await allDone(given, context);
        await new Promise((resolve) => setTimeout(resolve, 20));
      },
      partial({
        async closeBatch(_id, outcomes) {
          parts.push(outcomes.map((outcome) => outcome.item_id));
          if (parts.length === 1) throw trouble();
          return { closed: outcomes.length, stale: 0, next: null };
        },
      }),
    );
    expect(await run()).toMatchObject({ end: 'nothing_awake', closed: 2 });
    expect(parts).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });

  test('when nothing can be closed the drain ends instead of taking more', async () => {
    const { run, calls } = draining(
      [batch(1, [tenant('a', 1)]), batch(2, [tenant('a', 2)])],
      allDone,
      partial({ closeBatch: () => Promise.reject(trouble()) }),
    );
    expect(await run()).toMatchObject({ end: 'error', batches: 1, closed: 0 });
    expect(calls.at(-1)).toMatch(/^end The drain ended/);
  });

  test('end_drain that fails is logged and does not throw', async () => {
    const { run, entries } = draining([], allDone, partial({ endDrain: () => Promise.reject(trouble()) }));
    expect(await run()).toMatchObject({ end: 'nothing_awake' });
    expect(entries()).toContainEqual(
      expect.objectContaining({ event: 'end_drain failed', code: 'connection' }),
    );
  });

  test('outcomes that came too late are counted, not repeated', async () => {
    let closes = 0;
    const { run, entries } = draining(
      [batch(1, [tenant('a', 1)])],
      allDone,
      partial({
        async closeBatch() {
          closes += 1;
          return { closed: 0, stale: 1, next: null };
        },
      }),
    );
    expect(await run()).toMatchObject({ closed: 0, stale: 1 });
    expect(closes).toBe(1);
    expect(entries().some((entry) => entry.event === 'outcomes came too late')).toBe(true);
  });

  test('after a close that came too late the next batch is asked for', async () => {
    const { run, calls } = draining(
      [batch(1, [tenant('a', 1)]), batch(2, [tenant('a', 2)])],
      allDone,
      partial({
        closeBatch: async (batchId) =>
          batchId === 1 ? { closed: 0, stale: 1, next: null } : { closed: 1, stale: 0, next: null },
      }),
    );
    expect(await run()).toMatchObject({ batches: 2, closed: 1, stale: 1 });
    expect(calls).toEqual(['next', 'next', 'end well']);
  });

  test('an outcome for a foreign or an already reported item never reaches the engine', async () => {
    const { run, closed } = draining([batch(1, [tenant('a', 1)])], async (_given, context) => {
      context.report(done(1), done(99), { item_id: 1, outcome: 'refused', error: 'second thoughts' });
    });
    await run();
    expect(closed).toEqual([done(1)]);
  });

  test('outcomes are handed in while the batch is still at work', async () => {
    let release: () => void = () => {};
    const slow = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { run, calls } = draining(
      [batch(1, [tenant('a', 1), tenant('b', 2)])],
      async (given, context) => {
        if (given.slug === 'b') await slow;
        await allDone(given, context);
      },
      partial({}),
    );
    const running = run();
    while (!calls.includes('close 1 1')) await new Promise((resolve) => setTimeout(resolve, 2));
    release();
    await running;
    expect(calls).toEqual(['next', 'close 1 1', 'close 1 2 next', 'end well']);
  });

  test('many outcomes are handed in at once when there are enough', async () => {
    const ids = Array.from({ length: 25 }, (_, index) => index + 1);
    const { run, calls } = draining(
      [batch(1, [tenant('a', ...ids)])],
      async ({ items }, context) => {
        for (const each of items) {
          context.report(done(each.item_id));
          await new Promise((resolve) => setImmediate(resolve));
        }
      },
      { flushCount: 10, flushMs: 60_000 },
    );
    await run();
    expect(calls.filter((call) => call.startsWith('close'))).toHaveLength(3);
  });

  test('long batches are extended, and the handler sees it when the lease is lost', async () => {
    const seen: boolean[] = [];
    let extended = 0;
    const { run } = draining(
      [batch(1, [tenant('a', 1)], { lease_seconds: 0.03, lease_until: '2026-11-22T12:00:00.030Z' })],
      async (given, context) => {
        while (!context.leaseIsLost()) await new Promise((resolve) => setTimeout(resolve, 2));
        seen.push(context.leaseIsLost());
        context.report(...given.items.map((each) => done(each.item_id)));
      },
      partial({ extendBatch: async () => ++extended < 3 }),
    );
    await run();
    expect(extended).toBe(3);
    expect(seen).toEqual([true]);
  });

  test('a lease that could not be extended in time counts as lost', async () => {
    const { run, clock, entries } = draining([batch(1, [tenant('a', 1)])], async (_given, context) => {
      expect(context.leaseIsLost()).toBe(false);
      clock.ms += 59_999;
      expect(context.leaseIsLost()).toBe(false);
      clock.ms += 1;
      expect(context.leaseIsLost()).toBe(true);
    });
    await run();
    expect(entries()).toContainEqual(
      expect.objectContaining({ event: 'lease lost', why: 'no extension in time' }),
    );
  });

  test('the job sees the database’s time, however wrong the worker’s clock is', async () => {
    for (const wrong of [-600_000, 0, 600_000]) {
      const times: string[] = [];
      const { run, clock } = draining([batch(1, [tenant('a', 1)])], async (_given, context) => {
        clock.ms += 1_000;
        times.push(context.now().toISOString());
      });
      clock.ms = nowMs + wrong;
      await run();
      expect(times).toEqual([new Date(Date.parse(databaseNow) + 1_000).toISOString()]);
    }
  });

  test('tenants are worked on side by side, up to the limit', async () => {
    let running = 0;
    let most = 0;
    const tenants = Array.from({ length: 20 }, (_, index) => tenant(`t${index}`, index));
    const { run } = draining(
      [batch(1, tenants)],
      async (given, context) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running -= 1;
        await allDone(given, context);
      },
      { tenantConcurrency: 8 },
    );
    expect(await run()).toMatchObject({ items: 20, closed: 20 });
    expect(most).toBe(8);
  });
});

test('a pool works on every item once, also when there are fewer items than runners', async () => {
  const seen: number[] = [];
  await eachInPool([1, 2, 3], 10, async (each) => {
    seen.push(each);
  });
  await eachInPool([], 10, async () => {
    throw new Error('nothing to do');
  });
  expect(seen).toEqual([1, 2, 3]);
});
