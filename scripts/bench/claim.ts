/** How fast items are handed out and closed when there is nothing else to do, with one tenant holding 90 % of them. */
import { type Bench, type BenchResult, round, thousands } from './bench.ts';
import { drain } from './onecron.ts';
import { graphileWorker, type PeerRun, pgBoss } from './peers.ts';
import {
  type BenchServer,
  connect,
  enqueueMany,
  makeJob,
  makeTenants,
  ownerOf,
  settle,
  startServer,
} from './server.ts';

interface Size {
  items: number;
  tenants: number;
  limitMs: number;
}

/** The flooder comes in one piece, first, as floods do: those who serve in order of arrival serve nobody else before. */
function ownersOf(size: Size, names: readonly string[]): string[] {
  return Array.from({ length: size.items }, (_, n) => ownerOf(n, names.length, 0.9)).map(
    (owner) => names[owner] ?? '',
  );
}

async function onecron(
  server: BenchServer,
  size: Size,
  batchSize: number,
  workers: number,
): Promise<PeerRun> {
  const { url, adminUrl } = await server.engine(`onecron_${batchSize}_${workers}`);
  const sql = connect(url, 1);
  const own = Array.from({ length: workers }, () => connect(url, 1));
  try {
    await makeJob(sql, 'bench', { batchSize, quantum: 10 });
    const tenants = await makeTenants(sql, size.tenants);
    await enqueueMany(sql, 'bench', ownersOf(size, tenants));
    await settle(adminUrl);
    const began = performance.now();
    const done = await drain(own, 'bench', began + size.limitMs);
    return { done, ms: performance.now() - began };
  } finally {
    await Promise.all([sql, ...own].map((each) => each.end()));
  }
}

export const bench: Bench = async ({ quick, log }) => {
  const size: Size = quick
    ? { items: 30_000, tenants: 100, limitMs: 10_000 }
    : { items: 300_000, tenants: 1000, limitMs: 120_000 };
  const names = Array.from({ length: size.tenants }, (_, n) => `tenant-${n}`);
  const owners = ownersOf(size, names);
  await using server = await startServer();

  const rows: BenchResult['rows'] = [];
  const best: Record<string, number> = {};
  const measure = async (engine: string, how: string, work: () => Promise<PeerRun>, counts = true) => {
    log(`${engine}, ${how} …`);
    const { done, ms } = await work();
    const rate = (done / ms) * 1000;
    rows.push({
      engine,
      settings: how,
      items: thousands(done),
      seconds: round(ms / 1000, 1),
      'items/s': thousands(rate),
    });
    if (counts) best[engine] = Math.max(best[engine] ?? 0, rate);
    return rate;
  };

  for (const workers of quick ? [2] : [1, 2, 3]) {
    await measure('Onecron', `batch 200, ${workers} workers, fair`, () =>
      onecron(server, size, 200, workers),
    );
  }
  const peer = async (name: string) => {
    const { url, adminUrl } = await server.empty(name);
    return { url, ready: () => settle(adminUrl) };
  };
  await measure('graphile-worker', 'localQueue 500, 24 at once', async () => {
    const { url, ready } = await peer('graphile');
    return await graphileWorker(url, owners, size.limitMs, ready);
  });
  for (const loops of quick ? [2] : [2, 4]) {
    await measure('pg-boss', `batch 200, ${loops} loops`, async () => {
      const { url, ready } = await peer(`boss_200_${loops}`);
      return await pgBoss(url, owners, size.limitMs, { batchSize: 200, loops }, ready);
    });
  }
  // Beyond the batch of this bench, to be open about it.
  const largeOnecron = await measure(
    'Onecron',
    'batch 1000, 2 workers, fair',
    () => onecron(server, size, 1000, 2),
    false,
  );
  const largeBoss = await measure(
    'pg-boss',
    'batch 1000, 2 loops',
    async () => {
      const { url, ready } = await peer('boss_1000');
      return await pgBoss(url, owners, size.limitMs, { batchSize: 1000, loops: 2 }, ready);
    },
    false,
  );

  const own = best.Onecron ?? 0;
  const graphile = best['graphile-worker'] ?? 0;
  const boss = best['pg-boss'] ?? 0;
  return {
    rows,
    numbers: {
      items: size.items,
      tenants: size.tenants,
      onecron_per_s: Math.round(own),
      graphile_worker_per_s: Math.round(graphile),
      pg_boss_per_s: Math.round(boss),
      ratio_to_best_peer: round(own / Math.max(graphile, boss)),
      onecron_batch_1000_per_s: Math.round(largeOnecron),
      pg_boss_batch_1000_per_s: Math.round(largeBoss),
      ratio_at_batch_1000: round(largeOnecron / Math.max(graphile, largeBoss)),
    },
    reach: { ratio_to_best_peer: { atLeast: 2 } },
    notes: [
      'One tenant holds 90 % of the items. Onecron serves all tenants in turn; the peers serve in order of arrival.',
    ],
  };
};
