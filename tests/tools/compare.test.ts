/** What db:diff and db:check stand on: two databases that differ in a known way, and what the comparison makes of it. */
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { applyFiles, contents, schemaDifference } from '../../scripts/dev/compare.ts';
import { differences, dropDatedPartitions } from '../../scripts/dev/databases.ts';
import { openScratch, type Scratch } from '../../scripts/dev/scratch.ts';

let scratch: Scratch;
let count = 0;

beforeAll(async () => {
  scratch = await openScratch();
});
afterAll(() => scratch?.[Symbol.asyncDispose]());

/** A database with what `sql` makes in it. */
async function database(...sql: string[]): Promise<string> {
  count += 1;
  const url = await scratch.create(`tools_${count}`);
  await applyFiles(
    url,
    sql.map((text, index) => ({ path: `${index}.sql`, text })),
  );
  return url;
}

const plans = `create table public.plans (
  plan_id text primary key,
  position int not null,
  made_at timestamptz not null default now(),
  token uuid not null default gen_random_uuid()
);
alter table public.plans enable row level security;
grant select on public.plans to authenticated;
grant all on public.plans to service_role;
create function public.plan_count() returns bigint language sql stable set search_path = '' as $$ select count(*) from public.plans $$;
revoke execute on function public.plan_count() from public;
grant execute on function public.plan_count() to authenticated;
create policy plans_select_all on public.plans for select to authenticated using (true);`;

describe('the comparison of two databases', () => {
  it('finds no difference between two that are made alike', async () => {
    expect(await differences(await database(plans), await database(plans))).toEqual([]);
  });

  it('gives the statements that lead from one to the other, and they do', async () => {
    const [actual, desired] = [await database(), await database(plans)];
    const { segments, losses } = await schemaDifference(actual, desired);
    expect(losses).toEqual([]);
    expect(segments.map(({ transactional }) => transactional)).toEqual([true]);
    const sql = segments.map((segment) => segment.sql).join('');
    await applyFiles(actual, [{ path: 'migration.sql', text: sql }]);
    expect(await differences(actual, desired)).toEqual([]);
    // Words that PostgreSQL 15 doesn't know, and grants that every owner has, stay out.
    expect(sql).not.toMatch(/maintain/i);
    expect(sql).not.toMatch(/to "postgres"/);
    expect(sql).toMatch(/grant all\s+on table "public"."plans"\s+to "service_role"/);
  });

  it('sees a grant on a function that one of them lacks', async () => {
    const open = `${plans} grant execute on function public.plan_count() to anon;`;
    expect(await differences(await database(plans), await database(open))).toContain(
      'grant execute on function "public"."plan_count"() to "anon";',
    );
  });

  it('sees a changed policy and a changed function body', async () => {
    const other = plans.replace('using (true)', 'using (position > 0)').replace('count(*)', 'count(*) + 0');
    const found = await differences(await database(plans), await database(other));
    expect(found.join('\n')).toMatch(/policy/);
    expect(found.join('\n')).toContain('count(*) + 0');
  });

  it('writes nothing that loses data unless it is told to', async () => {
    const less = plans.replace('position int not null,', '');
    const [actual, desired] = [await database(plans), await database(less)];
    const refused = await schemaDifference(actual, desired);
    expect(refused.losses).toHaveLength(1);
    expect(refused.losses[0]).toMatch(/drop column "position"/);
    expect(refused.segments).toEqual([]);
    const allowed = await schemaDifference(actual, desired, { allowDrops: true });
    expect(allowed.segments).toHaveLength(1);
  });

  it('drops a policy without being told to: no data is in it', async () => {
    const [actual, desired] = [await database(plans), await database(plans.replace(/create policy.*;/, ''))];
    const { losses, segments } = await schemaDifference(actual, desired);
    expect(losses).toEqual([]);
    expect(segments[0]?.sql).toMatch(/drop policy "plans_select_all"/);
  });

  it('compares rows by what they say, not by when they were written', async () => {
    const row = "insert into public.plans (plan_id, position) values ('free', 1);";
    const [one, same] = [await database(plans, row), await database(plans, row)];
    expect(await contents(one)).toEqual(['public.plans {"plan_id": "free", "position": 1}']);
    expect(await differences(one, same)).toEqual([]);
    const other = await database(plans, row.replace('1)', '2)'));
    expect(await differences(one, other)).toEqual([
      '- public.plans {"plan_id": "free", "position": 1}',
      '+ public.plans {"plan_id": "free", "position": 2}',
    ]);
  });

  it('compares cron entries by name, schedule and command', async () => {
    const cron = 'create extension pg_cron with schema pg_catalog;';
    const entry = "select cron.schedule('tick', '10 seconds', 'select 1');";
    const [none, one, same] = [
      await database(cron),
      await database(cron, entry),
      await database(cron, entry),
    ];
    expect(await differences(one, same)).toEqual([]);
    expect(await differences(none, one)).toEqual([
      '+ cron.job {"name": "tick", "active": true, "command": "select 1", "schedule": "10 seconds"}',
    ]);
  });

  it('leaves partitions of a day out, and keeps the default one in', async () => {
    const parent = `create table public.attempts (at timestamptz not null) partition by range (at);
      create table public.attempts_default partition of public.attempts default;`;
    const day = `create table public.attempts_20260102 partition of public.attempts
      for values from ('2026-01-02') to ('2026-01-03');`;
    const dated = await database(parent, day);
    await dropDatedPartitions(dated);
    expect(await differences(await database(parent), dated)).toEqual([]);
    const sql = postgres(dated, { max: 1 });
    expect(await sql`select to_regclass('public.attempts_default') is not null as there`).toEqual([
      { there: true },
    ]);
    await sql.end();
  });

  it('names the file, the line and the reason when a file is refused', async () => {
    const url = await database();
    await expect(applyFiles(url, [{ path: 'sql/x.sql', text: 'select 1;\nselect nope;\n' }])).rejects.toThrow(
      /^sql\/x\.sql:2: column "nope" does not exist \(42703\)/,
    );
  });
});
