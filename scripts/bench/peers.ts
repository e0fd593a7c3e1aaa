/** The peers, each with the settings that its own documentation gives for throughput. */
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { Pool } from 'pg';
import { PgBoss } from 'pg-boss';

const logger = new Logger(() => () => {});

export interface PeerRun {
  done: number;
  ms: number;
}

/** Enqueues `owners.length` jobs and works on them until all are done or the time is up. */
export async function graphileWorker(
  url: string,
  owners: readonly string[],
  limitMs: number,
  ready: () => Promise<void>,
): Promise<PeerRun> {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  try {
    await utils.migrate();
    for (let from = 0; from < owners.length; from += 5000) {
      await utils.addJobs(
        owners.slice(from, from + 5000).map((tenant) => ({ identifier: 'noop', payload: { tenant } })),
      );
    }
  } finally {
    await utils.release();
  }
  await ready();
  let done = 0;
  let finished: (() => void) | undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const began = performance.now();
  const runner = await run({
    connectionString: url,
    maxPoolSize: 30,
    noHandleSignals: true,
    logger,
    // worker.graphile.org/docs/performance: a local queue and batched completions.
    preset: {
      worker: {
        concurrentJobs: 24,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        pollInterval: 1000,
      },
    },
    taskList: {
      noop: () => {
        if (++done === owners.length) finished?.();
      },
    },
  });
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    all,
    new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    }),
  ]);
  clearTimeout(timer);
  const counted = done;
  const ms = performance.now() - began;
  await runner.stop();
  return { done: counted, ms };
}

export interface BossOptions {
  batchSize: number;
  loops: number;
}

export async function startBoss(url: string): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false, max: 10 });
  boss.on('error', () => {});
  await boss.start();
  await boss.createQueue('bench');
  return boss;
}

export interface BossWork {
  tenant: string;
  at?: number | undefined;
}

export async function fillBoss(boss: PgBoss, work: readonly BossWork[], grouped: boolean): Promise<void> {
  for (let from = 0; from < work.length; from += 5000) {
    await boss.insert(
      'bench',
      work
        .slice(from, from + 5000)
        .map((data) => ({ data, ...(grouped ? { group: { id: data.tenant } } : {}) })),
    );
  }
}

/** Fetch and complete in batches, by several loops at once. */
export async function pgBoss(
  url: string,
  owners: readonly string[],
  limitMs: number,
  options: BossOptions,
  ready: () => Promise<void>,
): Promise<PeerRun> {
  const boss = await startBoss(url);
  try {
    await fillBoss(
      boss,
      owners.map((tenant) => ({ tenant })),
      false,
    );
    await ready();
    let done = 0;
    const began = performance.now();
    await Promise.all(
      Array.from({ length: options.loops }, async () => {
        while (performance.now() - began < limitMs) {
          const jobs = await boss.fetch('bench', { batchSize: options.batchSize });
          if (jobs.length === 0) return;
          await boss.complete(
            'bench',
            jobs.map((job) => job.id),
          );
          done += jobs.length;
        }
      }),
    );
    return { done, ms: performance.now() - began };
  } finally {
    await boss.stop({ graceful: false });
  }
}

/** Milliseconds of each of `claims` fetches of 100 from a backlog; what was fetched is completed. */
export async function fetchTimes(
  url: string,
  backlog: number,
  claims: number,
  ready: () => Promise<void>,
): Promise<number[]> {
  const boss = await startBoss(url);
  try {
    await fillBoss(
      boss,
      Array.from({ length: backlog }, (_, n) => ({ tenant: `tenant-${n % 1000}` })),
      false,
    );
    await ready();
    const times: number[] = [];
    for (let n = -5; n < claims; n++) {
      const began = performance.now();
      const jobs = await boss.fetch('bench', { batchSize: 100 });
      if (n >= 0) times.push(performance.now() - began);
      await boss.complete(
        'bench',
        jobs.map((job) => job.id),
      );
    }
    return times;
  } finally {
    await boss.stop({ graceful: false });
  }
}

/** The same for graphile-worker: the query with which its local queue takes 100 jobs, and the one that completes them. */
export async function graphileClaimTimes(
  url: string,
  backlog: number,
  claims: number,
  ready: () => Promise<void>,
): Promise<number[]> {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  try {
    await utils.migrate();
    for (let from = 0; from < backlog; from += 5000) {
      await utils.addJobs(
        Array.from({ length: Math.min(5000, backlog - from) }, (_, n) => ({
          identifier: 'noop',
          payload: { tenant: `tenant-${n % 1000}` },
        })),
      );
    }
  } finally {
    await utils.release();
  }
  await ready();
  const times: number[] = [];
  const pool = new Pool({ connectionString: url, max: 4 });
  let asked = 0;
  pool.on('connect', (client) => {
    const query = client.query.bind(client);
    // The library has no call for one claim: its own is timed on the way through.
    const timed = (...args: Parameters<typeof query>): unknown => {
      const [first] = args as unknown[];
      const text = typeof first === 'string' ? first : String((first as { text?: string }).text ?? '');
      const began = performance.now();
      const answer = Reflect.apply(query, client, args) as unknown;
      if (/for update.*skip locked/is.test(text) && answer instanceof Promise) {
        return answer.then((result) => {
          if (asked++ >= 5) times.push(performance.now() - began);
          return result;
        });
      }
      return answer;
    };
    Object.assign(client, { query: timed });
  });
  let finished: (() => void) | undefined;
  const enough = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const runner = await run({
    pgPool: pool,
    noHandleSignals: true,
    logger,
    preset: { worker: { concurrentJobs: 24, localQueue: { size: 100 }, completeJobBatchDelay: 0 } },
    taskList: {
      noop: () => {
        if (times.length >= claims) finished?.();
      },
    },
  });
  await enough;
  await runner.stop();
  await pool.end();
  return times.slice(0, claims);
}
