import { connect, startStack } from '../../scripts/local/stack.ts';
const stack = await startStack({ dataDir: 'temporary', log: (l) => { if (/slow|error|worker\]/.test(l)) console.log(l.slice(0, 300)); } });
const sql = connect(stack.adminUrl);
await sql`insert into jobs.definitions (job, kind, scope, meaning, command, batch_size, quantum, max_drains, lease_seconds)
    values ('slow-command', 'raw', 'platform', 'Takes long.', 'select pg_sleep(60)', 1, 1, 1, ${Number(process.argv[2] ?? 5)})`;
await sql`insert into jobs.clocks (job) values ('slow-command')`;
await sql`select jobs.start_tick(1)`;
await sql`select jobs.enqueue('slow-command', jobs.platform_id())`;
for (;;) {
  const rows = await sql`select pid, query from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'`;
  if (rows.length > 0) break;
  await new Promise((r) => setTimeout(r, 50));
}
console.log('sleeping now; stopping');
const t = Date.now();
await sql.end();
console.log('sql ended', Date.now() - t);
const timer = setInterval(() => console.log('still stopping', Date.now() - t, process.getActiveResourcesInfo().join(',')), 5000);
await stack.stop();
clearInterval(timer);
console.log('stopped', Date.now() - t);
