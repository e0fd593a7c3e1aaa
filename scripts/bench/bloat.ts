/** Claim latency before and while somebody keeps a snapshot open, under load: dead rows cannot be cleaned up meanwhile. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Bench, median, quantile, round, thousands } from './bench.ts';
import { claim, close, parseBatch, sizeOf } from './onecron.ts';
import { connect, enqueueMany, makeJob, makeTenants, openDrain, settle, startServer } from './server.ts';

const tenantCount = 200;
const backlog = 20_000;

export const bench: Bench = async ({ quick, log }) => {
  const beforeMs = quick ? 3_000 : 15_000;
  const pinnedMs = quick ? 8_000 : 60_000;
  await using server = await startServer();
  const { url, adminUrl } = await server.engine('bloat');
  const sql = connect(url, 2);
  const pin = connect(url, 1);
  try {
    await makeJob(sql, 'bench', { batchSize: 100, quantum: 10 });
    const tenants = await makeTenants(sql, tenantCount);
    // One tenant has 90 %: its lane is where the dead entries pile up.
    const some = (count: number) =>
      Array.from(
        { length: count },
        (_, n) => tenants[n % 10 ? 0 : 1 + (Math.floor(n / 10) % (tenantCount - 1))] ?? '',
      );
    await enqueueMany(sql, 'bench', some(backlog));
    await settle(adminUrl);

    let working = true;
    let done = 0;
    let missing = 0;
    const times: { at: number; ms: number }[] = [];
    const worker = (async () => {
      const own = connect(url, 1);
      const drainId = await openDrain(own, 'bench');
      while (working) {
        const began = performance.now();
        const batch = parseBatch(await claim(own, drainId, 'bench'));
        times.push({ at: began, ms: performance.now() - began });
        if (!batch) {
          await delay(5);
          continue;
        }
        await close(own, batch, false);
        done += sizeOf(batch);
        missing += sizeOf(batch);
      }
      await own.end();
    })();
    // The backlog stays as it is: what is done comes anew.
    const feeder = (async () => {
      while (working) {
        const count = missing;
        missing -= count;
        if (count > 0) await enqueueMany(sql, 'bench', some(count));
        await delay(20);
      }
    })();

    log('without a pinned snapshot …');
    await delay(beforeMs);
    const pinnedAt = performance.now();
    log(`with one, for ${pinnedMs / 1000} s …`);
    await pin.begin('isolation level repeatable read', async (transaction) => {
      await transaction`select count(*) from jobs.items`;
      await delay(pinnedMs);
    });
    const endedAt = performance.now();
    working = false;
    await Promise.all([worker, feeder]);

    // The first third is for warming up; of the pinned time the last quarter counts, when most is dead.
    const warm = times[0]?.at ?? 0;
    const before = times.filter(({ at }) => at > warm + beforeMs / 3 && at < pinnedAt).map(({ ms }) => ms);
    const after = times.filter(({ at }) => at > endedAt - pinnedMs / 4 && at < endedAt).map(({ ms }) => ms);
    const [dead] = await sql<{ dead: number }[]>`
      select n_dead_tup::int as dead from pg_stat_user_tables where schemaname = 'jobs' and relname = 'items'`;
    return {
      rows: [
        {
          snapshot: 'none',
          'claims of 100': thousands(before.length),
          'median ms': round(median(before)),
          'p99 ms': round(quantile(before, 0.99)),
        },
        {
          snapshot: `pinned for ${pinnedMs / 1000} s, last quarter`,
          'claims of 100': thousands(after.length),
          'median ms': round(median(after)),
          'p99 ms': round(quantile(after, 0.99)),
        },
      ],
      numbers: {
        after_over_before: round(median(after) / median(before)),
        p99_after_over_before: round(quantile(after, 0.99) / quantile(before, 0.99)),
        items_done: done,
        dead_rows: dead?.dead ?? null,
      },
      reach: { after_over_before: { atMost: 2 } },
      notes: [
        `A backlog of ${thousands(backlog)} that stays as it is, of ${tenantCount} tenants, one of which has 90 %.`,
      ],
    };
  } finally {
    await Promise.all([sql, pin].map((each) => each.end()));
  }
};
