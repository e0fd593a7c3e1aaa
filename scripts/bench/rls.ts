/**
 * What row-level security costs: a member of three tenants among a thousand asks for what a dashboard shows, under the
 * policies, and the owner of the tables asks the same with the three tenants written into the query.
 */
import type postgres from 'postgres';
import { type Bench, median, round, thousands } from './bench.ts';
import { connect, type Sql, startServer } from './server.ts';

interface Question {
  name: string;
  /** Told, but not part of `worst_ratio`. */
  aside?: true;
  /** As the app asks: the policies add the rest. */
  underRls: string;
  asOwner: string;
}

/** A plan's nodes, as far as they tell how rows are found. */
interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  Plans?: PlanNode[];
}

export const bench: Bench = async ({ quick, log }) => {
  const tenants = quick ? 200 : 1_000;
  const completions = tenants * 1_000;
  await using server = await startServer();
  const { url, adminUrl } = await server.engine('rls');
  log(`making ${thousands(completions)} completions of ${thousands(tenants)} tenants`);
  const scene = await makeScene(adminUrl, tenants);
  const sql = connect(url, 1);
  try {
    const mine = scene.tenants.map((id) => `'${id}'`).join(', ');
    const questions: Question[] = [
      {
        name: 'the 20 newest',
        underRls: 'select id, status, claimed_at from public.completions order by claimed_at desc limit 20',
        asOwner: `select id, status, claimed_at from public.completions where tenant_id in (${mine}) order by claimed_at desc limit 20`,
      },
      {
        // The planner takes the app's condition and the policy's for independent and expects next to no rows: it sorts what an
        // index has in order. An app that shows one tenant pays for the rows of that tenant.
        name: 'the 20 newest of one tenant',
        aside: true,
        underRls: `select id, status, claimed_at from public.completions where tenant_id = '${scene.tenants[0]}' order by claimed_at desc limit 20`,
        asOwner: `select id, status, claimed_at from public.completions where tenant_id = '${scene.tenants[0]}' order by claimed_at desc limit 20`,
      },
      {
        name: 'count',
        underRls: 'select count(*) from public.completions',
        asOwner: `select count(*) from public.completions where tenant_id in (${mine})`,
      },
      {
        name: 'one by id',
        underRls: `select * from public.completions where tenant_id = '${scene.tenants[0]}' and id = '${scene.completion}'`,
        asOwner: `select * from public.completions where tenant_id = '${scene.tenants[0]}' and id = '${scene.completion}'`,
      },
    ];
    const rows: Record<string, string | number>[] = [];
    let worst = 0;
    let indexed = true;
    for (const question of questions) {
      const times = await race(sql, scene.user, question, quick ? 40 : 200);
      const index = await indexOf(sql, scene.user, question.underRls);
      indexed &&= index !== undefined;
      const ratio = times.rls / times.owner;
      if (!question.aside) worst = Math.max(worst, ratio);
      rows.push({
        question: question.name,
        'under RLS ms': round(times.rls, 3),
        'as owner ms': round(times.owner, 3),
        ratio: round(ratio),
        'found by': index ?? 'reading all rows',
      });
    }
    return {
      rows,
      numbers: {
        tenants,
        completions,
        worst_ratio: round(worst),
        every_plan_uses_a_tenant_index: indexed,
        ...Object.fromEntries(
          rows.map((row) => [`ratio ${row.question}`.replaceAll(' ', '_'), row.ratio ?? 0]),
        ),
      },
      reach: { worst_ratio: { atMost: 1.5 } },
      notes: [
        'A request as the Data API makes it, begin, role and claims, the query, commit; medians of turns taken one after the other.',
        'The 20 newest of one tenant are told, and are not part of worst_ratio.',
        ...(indexed ? [] : ['A plan reads all rows: MISSED']),
      ],
    };
  } finally {
    await sql.end();
  }
};

/** Every tenant has 10 tasks, 100 participants and each task claimed by each; one user works for three of them. */
async function makeScene(
  adminUrl: string,
  tenants: number,
): Promise<{ user: string; tenants: string[]; completion: string }> {
  const sql = connect(adminUrl, 1);
  try {
    // Without triggers and foreign keys: the rows are right, and they are many.
    await sql`set session_replication_role = replica`;
    await sql`create temp table t as select gen_random_uuid() as id, n from generate_series(1, ${tenants}::int) n`;
    await sql`insert into public.tenants (id, slug, name, plan_id) select id, 'rls-' || n, 'Tenant ' || n, 'pro' from t`;
    await sql`insert into public.campaigns (tenant_id, id, name, status) select id, id, 'campaign', 'active' from t`;
    await sql`
      insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id)
      select t.id, t.id, 'facebook_comment', 'task ' || k, '1_' || k from t, generate_series(1, 10) k`;
    await sql`
      insert into public.participants (tenant_id, display_name) select t.id, 'person ' || k from t, generate_series(1, 100) k`;
    await sql`
      insert into public.completions (tenant_id, task_id, participant_id, status, code, claimed_at, deadline, verified_at)
      select s.tenant_id, s.id, p.id, 'verified', 'OC-' || upper(lpad(to_hex(row_number() over ()), 8, '0')), c.at, c.at + interval '1 day', c.at
      from public.social_tasks s join public.participants p on p.tenant_id = s.tenant_id
      cross join lateral (select now() - random() * interval '90 days' + (s.id is null)::int * interval '1 s' as at) c`;
    await sql`
      insert into auth.users (id, email, aud, role)
      select gen_random_uuid(), 'member-' || k || '@example.test', 'authenticated', 'authenticated'
      from generate_series(1, ${tenants}::int) k`;
    // Everybody works for three tenants.
    await sql`
      insert into public.memberships (tenant_id, user_id, role)
      select t.id, u.id, 'member'
      from (select id, row_number() over () as n from auth.users) u
      cross join generate_series(0, 2) k
      join t on t.n = 1 + (u.n * 7 + k * 331) % ${tenants}::int
      on conflict do nothing`;
    await sql`set session_replication_role = origin`;
    await sql`vacuum (analyze) public.completions`;
    await sql`analyze`;
    const [member] = await sql<{ user_id: string; tenants: string[] }[]>`
      select m.user_id, array_agg(m.tenant_id) as tenants from public.memberships m group by m.user_id having count(*) = 3 limit 1`;
    const mine = member?.tenants ?? [];
    const [row] = await sql<{ id: string }[]>`
      select id from public.completions where tenant_id = ${mine[0] ?? ''} limit 1`;
    if (!member || !row) throw new Error('the scene lacks its member');
    return { user: member.user_id, tenants: mine, completion: row.id };
  } finally {
    await sql.end();
  }
}

/** A request as the Data API makes it. */
async function request(
  sql: Sql,
  user: string,
  role: 'authenticated' | 'postgres',
  query: string,
): Promise<void> {
  await sql.begin(async (transaction) => {
    await enter(transaction, user, role);
    await transaction.unsafe(query);
  });
}

async function enter(sql: postgres.TransactionSql, user: string, role: string): Promise<void> {
  const claims = JSON.stringify({ sub: user, role: 'authenticated', aud: 'authenticated' });
  await sql`select set_config('role', ${role}, true), set_config('request.jwt.claims', ${claims}, true)`;
}

/** Both in turns, so that whatever disturbs the machine disturbs both. */
async function race(
  sql: Sql,
  user: string,
  { underRls, asOwner }: Question,
  turns: number,
): Promise<{ rls: number; owner: number }> {
  const rls: number[] = [];
  const owner: number[] = [];
  for (let turn = -10; turn < turns; turn += 1) {
    for (const [times, role, query] of [
      [rls, 'authenticated', underRls],
      [owner, 'postgres', asOwner],
    ] as const) {
      const began = performance.now();
      await request(sql, user, role, query);
      if (turn >= 0) times.push(performance.now() - began);
    }
  }
  return { rls: median(rls), owner: median(owner) };
}

/** The index that finds the completions, when its first column is the tenant; undefined when all rows are read. */
async function indexOf(sql: Sql, user: string, query: string): Promise<string | undefined> {
  const nodes: PlanNode[] = [];
  const walk = (node: PlanNode | undefined): void => {
    if (!node) return;
    nodes.push(node);
    for (const child of node.Plans ?? []) walk(child);
  };
  await sql.begin(async (transaction) => {
    await enter(transaction, user, 'authenticated');
    const [row] = await transaction.unsafe<{ 'QUERY PLAN': { Plan: PlanNode }[] }[]>(
      `explain (format json, costs off) ${query}`,
    );
    walk(row?.['QUERY PLAN'][0]?.Plan);
  });
  const readsAll = nodes.some(
    (node) => node['Node Type'] === 'Seq Scan' && node['Relation Name'] === 'completions',
  );
  const used = nodes.flatMap((node) => node['Index Name'] ?? []);
  const byTenant = await sql<{ name: string }[]>`
    select c.relname as name from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.completions'::regclass and a.attname = 'tenant_id'`;
  return readsAll ? undefined : used.find((name) => byTenant.some((each) => each.name === name));
}
