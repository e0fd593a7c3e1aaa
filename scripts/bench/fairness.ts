/** Who is served while one tenant floods: the shares of equal tenants, and how long a quiet tenant waits. */
import { setTimeout as delay } from 'node:timers/promises';
import type { PgBoss } from 'pg-boss';
import { type Bench, type BenchResult, jain, quantile, round } from './bench.ts';
import { claim, close, parseBatch } from './onecron.ts';
import { fillBoss, startBoss } from './peers.ts';
import {
  type BenchServer,
  connect,
  enqueueMany,
  makeJob,
  makeTenants,
  openDrain,
  settle,
  startServer,
} from './server.ts';

interface Size {
  tenants: number;
  /** Items of each tenant but the first, which has nine times as much as all others together. */
  each: number;
  /** How long a quiet tenant is watched. */
  seconds: number;
}

/** What a batch costs a worker whatever its size, as a provider would, and how long a worker rests that got nothing. */
const holdMs = 20;
const restMs = 20;
const workers = 2;
const batchSize = 50;
const groupConcurrency = 10;

/** Hands out one piece of work to a worker and returns whose it was; undefined when there is nothing. */
interface Served {
  tenant: string;
  /** When it was enqueued, where that is asked for. */
  at?: number | undefined;
}
interface Engine {
  tenants: string[];
  enqueue(work: readonly Served[]): Promise<void>;
  settle(): Promise<void>;
  /** One worker's way to take work, hold it and hand it in. */
  worker(): Promise<(work: (served: Served[]) => Promise<void>) => Promise<boolean>>;
  stop(): Promise<void>;
}

async function onecron(server: BenchServer, name: string, size: Size): Promise<Engine> {
  const { url, adminUrl } = await server.engine(name);
  const sql = connect(url, 2);
  const connections = [sql];
  await makeJob(sql, 'bench', { batchSize, quantum: 10 });
  return {
    tenants: await makeTenants(sql, size.tenants),
    enqueue: async (work) => {
      if (work.every((each) => each.at === undefined)) {
        return await enqueueMany(
          sql,
          'bench',
          work.map((each) => each.tenant),
        );
      }
      for (const { tenant, at = 0 } of work) {
        await sql`select jobs.enqueue('bench', ${tenant}::uuid, payload => ${sql.json({ at })})`;
      }
    },
    settle: () => settle(adminUrl),
    worker: async () => {
      const own = connect(url, 1);
      connections.push(own);
      const drainId = await openDrain(own, 'bench');
      return async (work) => {
        const batch = parseBatch(await claim(own, drainId, 'bench'));
        if (!batch) return false;
        await work(
          batch.tenants.flatMap((each) =>
            each.items.map((item) => ({ tenant: each.tenant_id, at: item.data?.at })),
          ),
        );
        await close(own, batch, false);
        return true;
      };
    },
    stop: async () => {
      await Promise.all(connections.map((each) => each.end()));
    },
  };
}

async function pgBoss(server: BenchServer, name: string, size: Size): Promise<Engine> {
  const { url, adminUrl } = await server.empty(name);
  const boss: PgBoss = await startBoss(url);
  return {
    tenants: Array.from({ length: size.tenants }, (_, n) => `tenant-${n}`),
    enqueue: async (work) => {
      await fillBoss(
        boss,
        work.map(({ tenant, at }) => ({ tenant, at })),
        true,
      );
    },
    settle: () => settle(adminUrl),
    worker: async () => async (work) => {
      const jobs = await boss.fetch<Served>('bench', { batchSize, groupConcurrency });
      if (jobs.length === 0) return false;
      await work(jobs.map((job) => job.data));
      await boss.complete(
        'bench',
        jobs.map((job) => job.id),
      );
      return true;
    },
    stop: () => boss.stop({ graceful: false }),
  };
}

/** Items that each tenant got by the time at which, shared equally, half of what the small ones have is done. */
async function shares(engine: Engine, size: Size, limitMs: number): Promise<number[]> {
  const [flooder = '', ...others] = engine.tenants;
  await engine.enqueue(Array.from({ length: size.each * others.length * 9 }, () => ({ tenant: flooder })));
  await engine.enqueue(others.flatMap((tenant) => Array.from({ length: size.each }, () => ({ tenant }))));
  await engine.settle();
  const served = new Map(engine.tenants.map((tenant) => [tenant, 0]));
  let total = 0;
  const end = (size.each * size.tenants) / 2;
  const deadline = performance.now() + limitMs;
  const take = await engine.worker();
  while (total < end && performance.now() < deadline) {
    await take(async (work) => {
      for (const { tenant } of work) served.set(tenant, (served.get(tenant) ?? 0) + 1);
      total += work.length;
    });
  }
  return [...served.values()];
}

interface Waits {
  ms: number[];
  unserved: number;
}

/** One tenant brings an item from time to time; all others a little all the time; the first one a flood, or nothing. */
async function quietWaits(engine: Engine, size: Size, flood: boolean): Promise<Waits> {
  const [flooder = '', quiet = '', ...others] = engine.tenants;
  if (flood) {
    // More than the workers can do in the time.
    const most = (size.seconds * 1000 * workers * batchSize) / holdMs;
    await engine.enqueue(Array.from({ length: most }, () => ({ tenant: flooder })));
  }
  await engine.settle();
  const waiting = new Set<number>();
  const ms: number[] = [];
  let working = true;
  const work = Array.from({ length: workers }, async () => {
    const take = await engine.worker();
    while (working) {
      const got = await take(async (served) => {
        const now = performance.now();
        for (const { tenant, at } of served) {
          if (tenant === quiet && at !== undefined && waiting.delete(at)) ms.push(now - at);
        }
        await delay(holdMs);
      });
      if (!got) await delay(restMs);
    }
  });
  const end = performance.now() + size.seconds * 1000;
  for (let turn = 0; performance.now() < end; turn++) {
    await engine.enqueue(others.filter((_, n) => (n + turn) % 20 === 0).map((tenant) => ({ tenant })));
    const at = performance.now();
    waiting.add(at);
    await engine.enqueue([{ tenant: quiet, at }]);
    await delay(50);
  }
  working = false;
  await Promise.all(work);
  const over = performance.now();
  // What was not served waited at least until now.
  for (const at of waiting) ms.push(over - at);
  return { ms, unserved: waiting.size };
}

export const bench: Bench = async ({ quick, log }) => {
  const size: Size = quick
    ? { tenants: 20, each: 100, seconds: 4 }
    : { tenants: 100, each: 200, seconds: 30 };
  await using server = await startServer();
  const rows: BenchResult['rows'] = [];
  const numbers: Record<string, number> = {};
  for (const [engine, title, start] of [
    ['onecron', 'Onecron', onecron],
    ['pg_boss', `pg-boss, groupConcurrency ${groupConcurrency}`, pgBoss],
  ] as const) {
    const each = async <T>(name: string, work: (made: Engine) => Promise<T>): Promise<T> => {
      log(`${title}: ${name} …`);
      const made = await start(server, `fairness_${engine}_${name}`, size);
      try {
        return await work(made);
      } finally {
        await made.stop();
      }
    };
    const got = await each('shares', (made) => shares(made, size, quick ? 5_000 : 30_000));
    const calm = await each('calm', (made) => quietWaits(made, size, false));
    const flooded = await each('flood', (made) => quietWaits(made, size, true));
    const p99 = { calm: quantile(calm.ms, 0.99), flooded: quantile(flooded.ms, 0.99) };
    rows.push({
      engine: title,
      "Jain's index": round(jain(got), 4),
      'tenants served': `${got.filter((share) => share > 0).length} of ${size.tenants}`,
      'quiet p50 ms': `${round(quantile(calm.ms, 0.5), 1)} → ${round(quantile(flooded.ms, 0.5), 1)}`,
      'quiet p99 ms': `${round(p99.calm, 1)} → ${round(p99.flooded, 1)}`,
      'not served': flooded.unserved,
    });
    const prefix = engine === 'onecron' ? '' : 'pg_boss_';
    numbers[`${prefix}jain`] = round(jain(got), 4);
    numbers[`${prefix}quiet_p99_ratio`] = round(p99.flooded / p99.calm);
    numbers[`${prefix}quiet_unserved`] = flooded.unserved;
  }
  return {
    rows,
    numbers,
    reach: { jain: { atLeast: 0.99 }, quiet_p99_ratio: { atMost: 1.5 } },
    notes: [
      `${size.tenants} tenants of equal weight, one with 90 % of all work. Quiet: one item every 50 ms, without the flood → with it;`,
      `${workers} workers, batches of up to ${batchSize}, ${holdMs} ms for a batch.`,
    ],
  };
};
