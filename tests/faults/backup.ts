/** A backup of all that the product keeps, and its restore: rows and sequences are as they were, and know of nothing that came after. */
import { until } from '../engine/support.ts';
import { control, type Rig } from './rig.ts';

/** Returns what restores it. What is in Vault, pg_net and pg_cron stays as it is. */
async function backUp(rig: Rig): Promise<() => Promise<void>> {
  const tables = await rig.admin<{ name: string; columns: string }[]>`
    select format('%I.%I', n.nspname, c.relname) as name,
      (select string_agg(format('%I', a.attname), ', ' order by a.attnum) from pg_attribute a
       where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('jobs', 'public', 'private') and c.relkind in ('r', 'p') and not c.relispartition`;
  const sequences = await rig.admin<{ name: string; value: string | null }[]>`
    select format('%I.%I', s.schemaname, s.sequencename) as name, s.last_value::text as value
    from pg_sequences s where s.schemaname in ('jobs', 'public', 'private')`;
  await rig.admin.begin('isolation level repeatable read', async (sql) => {
    await sql.unsafe('create schema backup');
    for (const [index, { name }] of tables.entries())
      await sql.unsafe(`create table backup.t${index} as select * from ${name}`);
  });
  return async () => {
    await rig.admin.begin(async (sql) => {
      // As a restore does: no trigger and no foreign key has a say.
      await sql.unsafe('set local session_replication_role = replica');
      await sql.unsafe(`truncate ${tables.map(({ name }) => name).join(', ')}`);
      for (const [index, { name, columns }] of tables.entries())
        await sql.unsafe(
          `insert into ${name} (${columns}) overriding system value select ${columns} from backup.t${index}`,
        );
      for (const { name, value } of sequences)
        await sql.unsafe(`select setval('${name}', ${value ?? 1}, ${value !== null})`);
    });
  };
}

/**
 * Messages are on their way when a backup is made; then the rest leaves; then the backup is restored. `recover`: with what is to be
 * done then, before work goes on.
 */
export async function restoreWhileMessagesLeave(rig: Rig, recover: boolean): Promise<void> {
  await rig.enqueue(24);
  await control(rig.simulators, '/_script', {
    match: { path: '/messages' },
    times: 24,
    do: { delay_ms: 150 },
  });
  await rig.start();
  await rig.turn();
  await until('a batch to be out', async () => (await rig.sql`select from jobs.leases`).length > 0);
  await rig.messages(2);
  const restore = await backUp(rig);
  await rig.settle();
  await restore();
  if (recover) {
    await rig.sql`select jobs.stop_all(true)`;
    await rig.sql`select jobs.recover_from_backup(dry_run => false)`;
    await rig.sql`select jobs.stop_all(false)`;
  }
  await rig.pass();
  await rig.settle();
}
