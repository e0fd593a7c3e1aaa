/** What a tick costs when there is nothing to do but 100,000 lanes that sleep. */
import { type Bench, median, quantile, round, thousands } from './bench.ts';
import { connect, settle, startServer } from './server.ts';

export const bench: Bench = async ({ quick }) => {
  const lanes = quick ? 20_000 : 100_000;
  await using server = await startServer();
  const { url, adminUrl } = await server.engine('idle');
  const sql = connect(url, 1);
  try {
    // All jobs that tenants have lanes of, asleep for the reasons for which lanes sleep; none is due within the hour.
    await sql`
      insert into jobs.lane_keys (tenant_id, job)
      select gen_random_uuid(), d.jobs[1 + n % cardinality(d.jobs)]
      from generate_series(1, ${lanes}::int) n
      cross join (select array_agg(job order by job) as jobs from jobs.definitions where scope = 'tenant') d`;
    await sql`
      insert into jobs.lanes (tenant_id, job, reason, wake_at)
      select k.tenant_id, k.job, r.reason,
        case when r.reason = 'idle' then null else now() + interval '1 hour' + k.n * interval '1 millisecond' end
      from (select *, row_number() over () as n from jobs.lane_keys) k
      cross join lateral (select (array['idle', 'idle', 'cadence', 'backoff', 'delay'])[1 + k.n % 5] as reason) r`;
    await settle(adminUrl);
    const times: number[] = [];
    for (let n = -5; n < (quick ? 51 : 201); n++) {
      const began = performance.now();
      await sql`select jobs.tick()`;
      if (n >= 0) times.push(performance.now() - began);
    }
    return {
      rows: [
        {
          'sleeping lanes': thousands(lanes),
          'tick median ms': round(median(times)),
          'p99 ms': round(quantile(times, 0.99)),
        },
      ],
      numbers: { lanes, tick_ms: round(median(times)), tick_p99_ms: round(quantile(times, 0.99)) },
      reach: { tick_ms: { atMost: 3 } },
      notes: ['From the call to the answer, all phases and the commit.'],
    };
  } finally {
    await sql.end();
  }
};
