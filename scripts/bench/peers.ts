/** The peers, each with the settings that its own documentation gives for throughput. */
import { randomUUID } from 'node:crypto';
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
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

export async function fillBoss(boss: PgBoss, owners: readonly string[], grouped: boolean): Promise<void> {
  for (let from = 0; from < owners.length; from += 5000) {
    await boss.insert(
      'bench',
      owners.slice(from, from + 5000).map((tenant) => ({
        id: randomUUID(),
        data: { tenant },
        ...(grouped ? { group: { id: tenant } } : {}),
      })),
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
    await fillBoss(boss, owners, false);
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
