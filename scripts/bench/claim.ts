/** How fast items are handed out and closed when there is nothing else to do, with one tenant holding 90 % of them. */
import { type Bench, type BenchResult, median, round, thousands } from './bench.ts';
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
  round: string,
): Promise<PeerRun> {
  const { url, adminUrl } = await server.engine(`onecron_${batchSize}_${workers}_${round}`);
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

  // In rounds, one engine after the other: whatever else the machine does meets them alike, and a ratio is taken within a round.
  const rounds = quick ? 1 : 3;
  const rates = new Map<string, { engine: string; how: string; items: number; perSecond: number[] }>();
  const measure = async (engine: string, how: string, work: () => Promise<PeerRun>) => {
    log(`${engine}, ${how} …`);
    const { done, ms } = await work();
    const perSecond = (done / ms) * 1000;
    const known = rates.get(`${engine} ${how}`) ?? { engine, how, items: done, perSecond: [] };
    known.perSecond.push(perSecond);
    rates.set(`${engine} ${how}`, known);
    return perSecond;
  };
  const best = (values: readonly number[]) => Math.max(...values);
  const peer = async (name: string) => {
    const { url, adminUrl } = await server.empty(name);
    return { url, ready: () => settle(adminUrl) };
  };

  const own: number[] = [];
  const graphile: number[] = [];
  const boss: number[] = [];
  for (let n = 1; n <= rounds; n++) {
    log(`Round ${n} of ${rounds}`);
    const ownOfRound: number[] = [];
    for (const workers of quick ? [2] : [2, 3]) {
      ownOfRound.push(
        await measure('Onecron', `batch 200, ${workers} workers, fair`, () =>
          onecron(server, size, 200, workers, `${n}`),
        ),
      );
    }
    own.push(best(ownOfRound));
    graphile.push(
      await measure('graphile-worker', 'localQueue 500, 24 at once', async () => {
        const { url, ready } = await peer(`graphile_${n}`);
        return await graphileWorker(url, owners, size.limitMs, ready);
      }),
    );
    const bossOfRound: number[] = [];
    for (const loops of quick ? [2] : [2, 4]) {
      bossOfRound.push(
        await measure('pg-boss', `batch 200, ${loops} loops`, async () => {
          const { url, ready } = await peer(`boss_200_${loops}_${n}`);
          return await pgBoss(url, owners, size.limitMs, { batchSize: 200, loops }, ready);
        }),
      );
    }
    boss.push(best(bossOfRound));
  }
  // Beyond the batch of this bench, to be open about it.
  const largeOnecron = await measure('Onecron', 'batch 1000, 2 workers, fair', () =>
    onecron(server, size, 1000, 2, 'large'),
  );
  const largeBoss = await measure('pg-boss', 'batch 1000, 2 loops', async () => {
    const { url, ready } = await peer('boss_1000');
    return await pgBoss(url, owners, size.limitMs, { batchSize: 1000, loops: 2 }, ready);
  });

  const rows: BenchResult['rows'] = [...rates.values()].map(({ engine, how, items, perSecond }) => ({
    engine,
    settings: how,
    items: thousands(items),
    'items/s (median)': thousands(median(perSecond)),
    'of rounds': perSecond.map(thousands).join(' · '),
  }));
  const ratios = own.map((rate, n) => rate / Math.max(graphile[n] ?? 0, boss[n] ?? 0));
  return {
    rows,
    numbers: {
      items: size.items,
      tenants: size.tenants,
      onecron_per_s: Math.round(median(own)),
      graphile_worker_per_s: Math.round(median(graphile)),
      pg_boss_per_s: Math.round(median(boss)),
      ratio_to_best_peer: round(median(ratios)),
      lowest_ratio_of_a_round: round(Math.min(...ratios)),
      onecron_batch_1000_per_s: Math.round(largeOnecron),
      pg_boss_batch_1000_per_s: Math.round(largeBoss),
      ratio_at_batch_1000: round(largeOnecron / Math.max(median(graphile), largeBoss)),
    },
    reach: { ratio_to_best_peer: { atLeast: 2 } },
    notes: [
      'One tenant holds 90 % of the items. Onecron serves all tenants in turn; the peers serve in order of arrival.',
      'The ratio is the median over the rounds of the best setting of each engine in that round.',
    ],
  };
};
