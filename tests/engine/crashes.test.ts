import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startCluster } from '../../scripts/local/cluster.ts';
import { type Database, prepare } from '../../scripts/local/database.ts';
import { makeDataDir, readKeys } from '../../scripts/local/env.ts';
import { startGuard } from '../../scripts/local/guard.ts';
import { type Claimers, claimers } from './claimers.ts';
import { type DatabaseProxy, startProxy } from './proxy.ts';
import {
  allDone,
  brokenRules,
  claim,
  close,
  countsOf,
  type EngineServer,
  effort,
  engineOn,
  enqueue,
  itemsOf,
  makeJob,
  makeTenants,
  numberOf,
  openDrain,
  randomOf,
  type Scratch,
  type Sql,
  setPlan,
  startEngine,
  until,
  violations,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

let scratch: Scratch | undefined;
let running: Claimers | undefined;
let proxy: DatabaseProxy | undefined;
afterEach(async () => {
  await running?.remove();
  await proxy?.stop();
  await scratch?.drop();
  running = undefined;
  proxy = undefined;
  scratch = undefined;
});

async function sceneOf(
  at: Scratch,
  leaseSeconds = 60,
): Promise<{ sql: Sql; job: string; tenants: string[] }> {
  await setPlan(at.sql, 'enterprise', { cap: 50 });
  const job = await makeJob(at.sql, {
    job: 'proof',
    leaseSeconds,
    maxAttempts: 100,
    quantum: 5,
    batchSize: 25,
  });
  return { sql: at.sql, job, tenants: await makeTenants(at.sql, 20) };
}

/** Lets every open lease run out now, as if the time had passed, and takes it back as the tick does. */
async function reapNow(sql: Sql, job: string): Promise<void> {
  await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where job = ${job}`;
  for (;;) {
    const [row] = await sql<{ reaped: number }[]>`select jobs.reap(clock_timestamp(), 500) as reaped`;
    if (!row?.reaped) return;
  }
}

/** What the workers say they did against what was enqueued: everything at least once, nothing from nowhere. */
function compare(journal: ReadonlySet<number>, maybe: ReadonlySet<number>, team: Claimers) {
  const seen = new Set<number>();
  for (const record of team.records().flat()) {
    if (record.what === 'claimed') for (const item of record.items ?? []) seen.add(item.n);
  }
  return {
    neverSeen: [...journal].filter((n) => !seen.has(n)),
    fromNowhere: [...seen].filter((n) => !journal.has(n) && !maybe.has(n)),
  };
}

/** After a crash, all that is left is worked on; then the books must balance to the item. */
async function settleUp(
  sql: Sql,
  job: string,
  team: Claimers,
  maybe: ReadonlySet<number>,
  journal: ReadonlySet<number>,
) {
  await until(
    'everything to end',
    async () => {
      const counts = await countsOf(sql, job);
      return counts.waiting + counts.leased === 0;
    },
    90_000,
  );
  await team.stop();
  const counts = await countsOf(sql, job);
  expect(compare(journal, maybe, team)).toEqual({ neverSeen: [], fromNowhere: [] });
  expect(counts.dead).toBe(0);
  // An enqueue whose answer was lost may have happened or not: that is all the difference there may be.
  expect(counts.done).toBeGreaterThanOrEqual(journal.size);
  expect(counts.done).toBeLessThanOrEqual(journal.size + maybe.size);
  expect(await violations(sql, job)).toEqual([]);
}

test('backends that are terminated in the middle of claims and closes lose nothing and do nothing twice', async () => {
  const random = randomOf('terminated backends');
  scratch = await engine.scratch();
  const { sql, job, tenants } = await sceneOf(scratch, 5);
  const items = 4000 * effort;
  const journal = new Set<number>();
  for (let n = 0; n < items; n++) journal.add(n);
  await enqueue(
    sql,
    job,
    [...journal].map((n) => ({ tenant: random.pick(tenants), n })),
  );
  running = claimers();
  for (let index = 0; index < 4; index++) {
    running.start({
      url: scratch.url,
      job,
      drainId: await openDrain(sql, job),
      seed: random.seed + index,
      retryShare: 0.05,
      holdMs: 3,
      chain: index % 2 === 0,
    });
  }
  const team = running;
  await until('all to be at work', async () => team.records().every((log) => log.length > 0));
  // Blows at random moments, first at those who are in the middle of a call.
  const admin = scratch.connect({ url: scratch.adminUrl });
  let terminated = 0;
  let inTheMiddle = 0;
  for (let blow = 0; blow < 24 * effort; blow++) {
    await delay(20 + random.below(60));
    const rows = await admin<{ state: string; gone: boolean }[]>`
      select a.state, pg_terminate_backend(a.pid) as gone from (
        select s.pid, s.state from pg_stat_activity s
        where s.datname = ${scratch.name} and s.pid <> pg_backend_pid() and s.usename = 'postgres'
          and (s.query like '%next_batch%' or s.query like '%close_batch%')
        order by (s.state = 'active') desc, random() limit 1) a`;
    terminated += rows.length;
    inTheMiddle += rows.filter((row) => row.state === 'active').length;
    // What workers dropped comes back by its lease; the test does not wait five seconds for each.
    if (blow % 6 === 5) await reapNow(sql, job);
  }
  expect(terminated).toBeGreaterThan(10);
  expect(inTheMiddle).toBeGreaterThan(0);
  const sweeper = setInterval(() => {
    sql`select jobs.reap(clock_timestamp(), 500)`.catch(() => {});
  }, 250);
  try {
    await settleUp(sql, job, running, new Set(), journal);
  } finally {
    clearInterval(sweeper);
  }
});

describe('a server that is stopped at once, under load', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'onecron-test-'));
    makeDataDir(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('what was accepted before the crash is worked on after it', async () => {
    const random = randomOf('immediate restart');
    const keys = readKeys(folder);
    const guard = startGuard();
    const start = (preferredPort?: number) =>
      // Durable: a server that may lose its last commits proves nothing here.
      startCluster({
        dataDir: folder,
        password: keys.databasePassword,
        preferredPort,
        durable: true,
        guard,
        log: () => {},
      });
    let cluster = await start();
    try {
      const adminUrl = `postgresql://supabase_admin:${keys.databasePassword}@127.0.0.1:${cluster.port}/postgres`;
      const prepared = await prepare(adminUrl, { keys, extensionDir: cluster.extensionDir });
      const database: Database = { ...prepared, stop: async () => {} };
      const own = await engineOn(database, async () => {});
      const at = await own.scratch();
      const { sql, job, tenants } = await sceneOf(at, 5);
      running = claimers();
      for (let index = 0; index < 3; index++) {
        running.start({
          url: at.url,
          job,
          drainId: await openDrain(sql, job),
          seed: random.seed + index,
          holdMs: 5,
          chain: index % 2 === 0,
        });
      }
      const journal = new Set<number>();
      const maybe = new Set<number>();
      let n = 0;
      let feeding = true;
      const feed = (async () => {
        while (feeding) {
          const work = Array.from({ length: 5 }, () => ({ tenant: random.pick(tenants), n: ++n }));
          try {
            await enqueue(sql, job, work);
            for (const each of work) journal.add(each.n);
          } catch {
            // The answer was lost with the server: it may have been committed or not. A new number each time.
            for (const each of work) maybe.add(each.n);
            await delay(20);
          }
        }
      })();
      for (let crash = 0; crash < 2 * effort; crash++) {
        await delay(600 + random.below(400));
        process.kill(cluster.pid, 'SIGQUIT');
        await cluster.stop();
        cluster = await start(cluster.port);
      }
      await delay(300);
      feeding = false;
      await feed;
      expect(maybe.size).toBeGreaterThan(0);
      expect(journal.size).toBeGreaterThan(100);
      // All batches that were out when the server fell are still there, and come back by their leases.
      const sweeper = setInterval(() => {
        sql`select jobs.reap(clock_timestamp(), 500)`.catch(() => {});
      }, 250);
      try {
        await settleUp(sql, job, running, maybe, journal);
      } finally {
        clearInterval(sweeper);
      }
      expect(
        running
          .records()
          .flat()
          .filter((record) => record.what === 'error').length,
      ).toBeGreaterThan(0);
      await at.drop();
    } finally {
      await running?.remove();
      await cluster.stop();
      guard.close();
    }
  });
});

describe('the answer to a call is lost, although it happened', () => {
  test('a close that is repeated changes nothing the second time', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    proxy = await startProxy(scratch.url);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    const worker = scratch.connect({ url: proxy.url });
    const batch = await claim(worker, drain, job);
    if (!batch) throw new Error('nothing to claim');

    proxy.cutBefore('SELECT 1');
    await expect(close(worker, batch.batch_id, allDone(batch))).rejects.toThrow();
    expect(proxy.cuts()).toBe(1);
    // It did happen: the worker cannot know, so it asks again, and again.
    const first = await countsOf(sql, job);
    expect(first).toEqual({ waiting: 0, leased: 0, done: tenants.length, dead: 0 });
    expect(await close(worker, batch.batch_id, allDone(batch))).toEqual({
      closed: 0,
      stale: tenants.length,
      next: null,
    });
    expect(await close(worker, batch.batch_id, allDone(batch), true)).toMatchObject({
      closed: 0,
      next: null,
    });
    expect(await countsOf(sql, job)).toEqual(first);
    expect(await violations(sql, job)).toEqual([]);
  });

  test('a COMMIT whose answer is lost is repeated without harm when the item has a dedupe key', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    proxy = await startProxy(scratch.url);
    const client = scratch.connect({ url: proxy.url });
    const add = () =>
      client.begin(async (transaction) => {
        const [row] = await transaction<{ added: number }[]>`
          select jobs.enqueue(${job}, ${tenants[0] ?? ''}::uuid, dedupe_key => 'order 7', payload => '{"n": 7}') as added`;
        return row?.added;
      });
    proxy.cutBefore('COMMIT');
    await expect(add()).rejects.toThrow();
    expect(proxy.cuts()).toBe(1);
    expect((await countsOf(sql, job)).waiting).toBe(1);
    expect(await add()).toBe(0);
    expect((await countsOf(sql, job)).waiting).toBe(1);
    // The twin: without the fault, one call is one item.
    const [other] = await sql<{ added: number }[]>`
      select jobs.enqueue(${job}, ${tenants[1] ?? ''}::uuid, dedupe_key => 'order 7', payload => '{"n": 8}') as added`;
    expect(other?.added).toBe(1);
    expect(await violations(sql, job)).toEqual([]);
  });

  test('a claim that is repeated with its own id gets the batch of the answer that was lost', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    proxy = await startProxy(scratch.url);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    const worker = scratch.connect({ url: proxy.url });
    const request = randomUUID();
    const next = async () =>
      (
        await worker<{ batch: { batch_id: number } | null }[]>`
          select jobs.next_batch(${drain}, ${job}, request => ${request}) as batch`
      )[0]?.batch?.batch_id;
    proxy.cutBefore('SELECT 1');
    await expect(next()).rejects.toThrow();
    expect(proxy.cuts()).toBe(1);
    const [lost] = await sql<
      { batch_id: number }[]
    >`select batch_id::int from jobs.batches where job = ${job}`;
    // At once, without a lease that runs out: the same batch, and everything is in it.
    expect(await next()).toBe(lost?.batch_id);
    expect((await countsOf(sql, job)).leased).toBe(tenants.length);
    const [held] = await sql<{ items: number[] }[]>`
      select array_agg(item_id::int order by item_id) as items from jobs.leased_items where batch_id = ${lost?.batch_id ?? 0}`;

    // So do effects that begin, and a close that takes the next batch along.
    const effects = randomUUID();
    const begin = async (id: string) =>
      (
        await worker<{ begun: number[] }[]>`
          select array(select unnest(jobs.begin_effects(${lost?.batch_id ?? 0}, ${held?.items ?? []}::bigint[], ${id}))::int order by 1) as begun`
      )[0]?.begun;
    proxy.cutBefore('SELECT 1');
    await expect(begin(effects)).rejects.toThrow();
    expect(await begin(effects)).toEqual(held?.items);
    expect(await begin(randomUUID())).toEqual([]);
    expect(await brokenRules(sql, job)).toEqual([]);
  });

  test('a claim whose answer is lost comes back by its lease, and burns one attempt', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    proxy = await startProxy(scratch.url);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    const worker = scratch.connect({ url: proxy.url });
    proxy.cutBefore('SELECT 1');
    await expect(claim(worker, drain, job)).rejects.toThrow();
    expect((await countsOf(sql, job)).leased).toBe(tenants.length);
    await reapNow(sql, job);
    expect(await countsOf(sql, job)).toEqual({ waiting: tenants.length, leased: 0, done: 0, dead: 0 });
    const batch = await until(
      'the items to come back',
      async () => (await claim(worker, drain, job)) ?? undefined,
    );
    expect(new Set(batch.tenants.flatMap((work) => work.items.map((item) => item.attempt)))).toEqual(
      new Set([2]),
    );
    expect(await violations(sql, job)).toEqual([]);
  });
});

describe('a worker that comes back after its lease', () => {
  test('a process that was stopped meanwhile changes nothing, and its successor is not disturbed', async () => {
    const random = randomOf('zombie');
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    running = claimers();
    running.start({
      url: scratch.url,
      job,
      drainId: await openDrain(sql, job),
      seed: random.seed,
      holdMs: 400,
      chain: false,
    });
    const zombie = running.processes[0];
    await until('the first claim', async () =>
      running?.records()[0]?.some((record) => record.what === 'claimed'),
    );
    zombie?.kill('SIGSTOP');
    await reapNow(sql, job);
    const drain = await openDrain(sql, job);
    const mine = await until(
      'the items to come back',
      async () => (await claim(sql, drain, job)) ?? undefined,
    );
    expect(itemsOf(mine)).toHaveLength(tenants.length);
    const before = await sql`select * from jobs.leased_items where job = ${job} order by item_id`;
    zombie?.kill('SIGCONT');
    const closed = await until('the zombie to close', async () =>
      running?.records()[0]?.find((record) => record.what === 'closed'),
    );
    expect(closed).toMatchObject({ closed: 0, stale: tenants.length });
    // To the byte: nothing of what the successor holds has changed.
    expect(await sql`select * from jobs.leased_items where job = ${job} order by item_id`).toEqual(before);
    expect(await close(sql, mine.batch_id, allDone(mine))).toMatchObject({
      closed: tenants.length,
      stale: 0,
    });
    expect(mine.tenants.flatMap((work) => work.items.map(numberOf)).sort((a, b) => a - b)).toEqual(
      tenants.map((_, n) => n),
    );
    await running.stop();
    expect(await violations(sql, job)).toEqual([]);
  });

  test('control: within its lease the same worker closes everything', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const drain = await openDrain(sql, job);
    const batch = await claim(sql, drain, job);
    if (!batch) throw new Error('nothing to claim');
    expect(await close(sql, batch.batch_id, allDone(batch))).toMatchObject({
      closed: tenants.length,
      stale: 0,
    });
    expect(await brokenRules(sql, job)).toEqual([]);
  });

  test('an extension after the lease is refused, one within it is granted', async () => {
    scratch = await engine.scratch();
    const { sql, job, tenants } = await sceneOf(scratch);
    await enqueue(
      sql,
      job,
      tenants.map((tenant, n) => ({ tenant, n })),
    );
    const batch = await claim(sql, await openDrain(sql, job), job);
    const id = batch?.batch_id ?? 0;
    expect((await sql`select jobs.extend_batch(${id}) as held`)[0]).toEqual({ held: true });
    await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where batch_id = ${id}`;
    expect((await sql`select jobs.extend_batch(${id}) as held`)[0]).toEqual({ held: false });
    expect(
      (
        await sql`select jobs.begin_effects(${id}, ${itemsOf(batch ?? { batch_id: 0, tenants: [] })}::bigint[]) as begun`
      )[0],
    ).toEqual({
      begun: [],
    });
  });
});
