/** What a claim of 100 costs as the backlog and the number of tenants grow. */
import { type Bench, type BenchResult, median, round, thousands } from './bench.ts';
import { claim, close, parseBatch, sizeOf } from './onecron.ts';
import { fetchTimes, graphileClaimTimes } from './peers.ts';
import { type BenchServer, connect, makeJob, makeTenants, openDrain, settle, startServer } from './server.ts';

const claims = 31;

/** The backlog as enqueue would leave it, written at once: it is the claim that is measured. Returns how to take one. */
async function onecron(
  server: BenchServer,
  backlog: number,
  tenantCount: number,
): Promise<{ claimOnce: () => Promise<number>; end: () => Promise<void> }> {
  const { url, adminUrl } = await server.engine(`growth_${backlog}_${tenantCount}`);
  const sql = connect(url, 1);
  await makeJob(sql, 'bench', { batchSize: 100, quantum: 10 });
  await makeTenants(sql, tenantCount);
  await sql`
    insert into jobs.lane_keys (tenant_id, job) select t.id, 'bench' from public.tenants t`;
  await sql`
    insert into jobs.lanes (tenant_id, job, wake_at, reason)
    select t.id, 'bench', now(), 'waiting' from public.tenants t`;
  // One tenant holds 90 %.
  await sql`
    insert into jobs.items (tenant_id, job, run_at)
    select t.ids[case when n % 10 < 9 or cardinality(t.ids) = 1 then 1 else 2 + (n / 10) % (cardinality(t.ids) - 1) end], 'bench', now()
    from generate_series(1, ${backlog}::int) n, (select array_agg(id order by slug) as ids from public.tenants) t`;
  await settle(adminUrl);
  const drainId = await openDrain(sql, 'bench');
  const claimOnce = async () => {
    const began = performance.now();
    const batch = parseBatch(await claim(sql, drainId, 'bench', 100));
    const ms = performance.now() - began;
    if (!batch) throw new Error('the backlog is empty');
    if (sizeOf(batch) !== 100) throw new Error(`a claim of ${sizeOf(batch)} instead of 100`);
    await close(sql, batch, false);
    return ms;
  };
  // The first claims wake the lanes and make the plans.
  for (let n = 0; n < Math.ceil(tenantCount / 500) + 5; n++) await claimOnce();
  return { claimOnce, end: () => sql.end() };
}

export const bench: Bench = async ({ quick, log }) => {
  const backlogs = quick ? [10_000, 100_000] : [10_000, 100_000, 1_000_000];
  const tenants = quick ? [10, 1000] : [10, 1000, 10_000];
  await using server = await startServer();
  const rows: BenchResult['rows'] = [];
  const atLargest: Record<string, number> = {};
  // Claim by claim in turn, so that whatever else the machine does meets every size alike.
  const cells: (Awaited<ReturnType<typeof onecron>> & { backlog: number; count: number; times: number[] })[] =
    [];
  for (const backlog of backlogs) {
    for (const count of tenants) {
      log(`Onecron: ${backlog} items, ${count} tenants …`);
      cells.push({ ...(await onecron(server, backlog, count)), backlog, count, times: [] });
    }
  }
  log(`Onecron: ${claims} claims of each …`);
  for (let n = 0; n < claims; n++) {
    for (const cell of cells) cell.times.push(await cell.claimOnce());
  }
  for (const { backlog, count, times, end } of cells) {
    await end();
    rows.push({
      engine: 'Onecron',
      backlog: thousands(backlog),
      tenants: thousands(count),
      'median ms': round(median(times)),
    });
  }
  const own = cells.map(({ times }) => median(times));
  atLargest.Onecron = Math.max(...own.slice(-tenants.length));
  for (const backlog of backlogs) {
    for (const [engine, times] of [
      ['graphile-worker', graphileClaimTimes],
      ['pg-boss', fetchTimes],
    ] as const) {
      log(`${engine}: ${backlog} jobs …`);
      const { url, adminUrl } = await server.empty(`growth_${engine.replace('-', '_')}_${backlog}`);
      const ms = median(await times(url, backlog, claims, () => settle(adminUrl)));
      atLargest[engine] = ms;
      rows.push({ engine, backlog: thousands(backlog), tenants: 'not known to it', 'median ms': round(ms) });
    }
  }
  const best = Math.min(atLargest['graphile-worker'] ?? 0, atLargest['pg-boss'] ?? 0);
  return {
    rows,
    numbers: {
      worst_over_best: round(Math.max(...own) / Math.min(...own)),
      onecron_ms_at_largest: round(atLargest.Onecron ?? Number.NaN),
      graphile_worker_ms_at_largest: round(atLargest['graphile-worker'] ?? Number.NaN),
      pg_boss_ms_at_largest: round(atLargest['pg-boss'] ?? Number.NaN),
      ratio_to_faster_peer_at_largest: round((atLargest.Onecron ?? Number.NaN) / best),
    },
    reach: { worst_over_best: { atMost: 3 }, ratio_to_faster_peer_at_largest: { atMost: 1 } },
    notes: [
      'Milliseconds from the call to the answer, items and all. Onecron picks fairly among tenants, which the peers do not.',
    ],
  };
};
