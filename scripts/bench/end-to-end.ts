/**
 * The whole way: claimed completions, the tick of pg_cron, doorbells through pg_net, the worker in Deno, the provider's API with
 * its latency, and the close that verifies and credits. Beside it the usual way on a sample of the same data: one handler that
 * loops over the pending rows, one call after the other.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { startStack } from '../local/stack.ts';
import { type Bench, round, thousands } from './bench.ts';
import { connect, type Sql } from './server.ts';

const claimsPerTenant = 10;
/** Beside them some whose one post has many claims: one reading answers all of them. */
const claimsOfCrowd = 50;
const latencyMs = 100;

const pageOf = (tenant: number): string => String(200_000_000_000_000 + tenant);
const postOf = (tenant: number): string => `${pageOf(tenant)}_1`;
const tokenOf = (tenant: number): string => `bench-meta-${tenant}`;
const codeOf = (tenant: number, claim: number): string =>
  `OC-${String(tenant).padStart(5, '0')}X${String(claim).padStart(2, '0')}`;

async function control(url: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(`${url}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    headers: { 'content-type': 'application/json' },
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return await response.json();
}

/** Each tenant has a page, a token that sees it and nothing else, one post, and a comment with the code of each claim. */
async function makeWorld(meta: string, first: number, last: number, claims: number): Promise<void> {
  const chunk = 250;
  await control(meta, '/_world', { latency_ms: 0 });
  for (let from = first; from <= last; from += chunk) {
    const some = Array.from({ length: Math.min(chunk, last - from + 1) }, (_, n) => from + n);
    await control(meta, '/_world', {
      tokens: some.map((n) => ({
        token: tokenOf(n),
        tenant: `bench-${n}`,
        kind: 'page',
        accounts: [pageOf(n)],
      })),
      accounts: some.map((n) => ({ id: pageOf(n), kind: 'page', tenant: `bench-${n}`, name: `Page ${n}` })),
      posts: some.map((n) => ({ id: postOf(n), account_id: pageOf(n), caption: 'Tell us' })),
      comments: some.flatMap((n) =>
        Array.from({ length: claims }, (_, claim) => ({
          post_id: postOf(n),
          text: `My code is ${codeOf(n, claim)}`,
          from: { id: `${n}${claim}000`, name: `Person ${claim}` },
        })),
      ),
    });
  }
  await control(meta, '/_world', { latency_ms: latencyMs });
}

/** Tenants with a credential of their own, a campaign, a task and claims that wait. */
async function makeTenants(sql: Sql, first: number, last: number, claims: number): Promise<void> {
  await sql`
    insert into public.tenants (slug, name, plan_id)
    select 'bench-' || n, 'Tenant ' || n, 'enterprise' from generate_series(${first}::int, ${last}::int) n`;
  await sql`drop table if exists bench`;
  await sql`create temporary table bench as
    select t.id as tenant_id, substring(t.slug from 7)::int as n from public.tenants t
    where t.slug ~ '^bench-[0-9]+$' and substring(t.slug from 7)::int between ${first} and ${last}`;
  await sql`
    select count(private.set_credential(b.tenant_id, 'meta', 'facebook_login',
      jsonb_build_object('access_token', 'bench-meta-' || b.n), jsonb_build_object('page_id', (200000000000000 + b.n)::text)))
    from bench b`;
  await sql`
    insert into public.campaigns (tenant_id, name, status, notifications_enabled)
    select tenant_id, 'Bench', 'active', false from bench`;
  await sql`
    insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id, created_at)
    select b.tenant_id, c.id, 'facebook_comment', 'Comment', (200000000000000 + b.n) || '_1', now() - interval '1 day'
    from bench b join public.campaigns c on c.tenant_id = b.tenant_id`;
  await sql`
    insert into public.participants (tenant_id, display_name)
    select b.tenant_id, 'Person ' || k from bench b cross join generate_series(0, ${claims - 1}::int) k`;
  await sql`
    insert into public.completions (tenant_id, task_id, participant_id, code, claimed_at, deadline)
    select b.tenant_id, t.id, p.id, 'OC-' || lpad(b.n::text, 5, '0') || 'X' || lpad(substring(p.display_name from 8), 2, '0'), now() - interval '10 minutes', now() + interval '1 day'
    from bench b
    join public.social_tasks t on t.tenant_id = b.tenant_id
    join public.participants p on p.tenant_id = b.tenant_id`;
}

/** Queues all claims at once and waits until they are verified. */
async function verifyAll(sql: Sql, items: number, limitMs: number) {
  const began = performance.now();
  await sql`
    select jobs.enqueue_many('verify-social-tasks', array_agg(c.tenant_id order by c.id), array_agg(c.id order by c.id), now())
    from public.completions c join bench b on b.tenant_id = c.tenant_id`;
  let verified = 0;
  let lastAt = began;
  let firstAt = Number.NaN;
  while (verified < items && performance.now() - began < limitMs) {
    await delay(250);
    const [row] = await sql<{ verified: number }[]>`
      select count(*)::int as verified from public.completions c join bench b on b.tenant_id = c.tenant_id where c.status = 'verified'`;
    const now = performance.now();
    if ((row?.verified ?? 0) > verified) lastAt = now;
    verified = row?.verified ?? 0;
    if (verified > 0 && Number.isNaN(firstAt)) firstAt = (now - began) / 1000;
  }
  return { verified, seconds: (lastAt - began) / 1000, firstAt };
}

const countSchema = z.object({ last_seq: z.number() });
const entriesSchema = z.object({ entries: z.array(z.object({ provider: z.string() })) });

/** What everybody writes first: for each pending row ask the provider, then update the row. */
async function usualWay(sql: Sql, meta: string, sample: number): Promise<number> {
  const rows = await sql<{ tenant_id: string; id: string; code: string; post_id: string; n: number }[]>`
    select c.tenant_id, c.id, c.code, t.post_id, b.n
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    join bench b on b.tenant_id = c.tenant_id
    order by c.id limit ${sample}`;
  const answer = z.object({ data: z.array(z.object({ message: z.string() })) });
  const began = performance.now();
  for (const row of rows) {
    const response = await fetch(
      `${meta}/graph.facebook.com/v26.0/${row.post_id}/comments?fields=message&limit=100`,
      {
        headers: { authorization: `Bearer ${tokenOf(row.n)}` },
      },
    );
    const { data } = answer.parse(await response.json());
    if (!data.some((comment) => comment.message.includes(row.code)))
      throw new Error('the sample has no comment');
    await sql`update public.completions set reason = 'seen' where tenant_id = ${row.tenant_id} and id = ${row.id}`;
  }
  return (rows.length / (performance.now() - began)) * 1000;
}

export const bench: Bench = async ({ quick, log }) => {
  const tenants = quick ? 500 : 10_000;
  const items = tenants * claimsPerTenant;
  const limitMs = quick ? 60_000 : 600_000;
  const dataDir = mkdtempSync(join(tmpdir(), 'onecron-bench-'));
  log('starting the stack …');
  const stack = await startStack({ dataDir });
  const sql = connect(stack.info.db_url, 1);
  try {
    const { meta } = stack.info.simulators;
    if (meta === undefined) throw new Error('the simulators are not running');
    log(`${thousands(tenants)} tenants with ${claimsPerTenant} claims each …`);
    await makeTenants(sql, 1, tenants, claimsPerTenant);
    await makeWorld(meta, 1, tenants, claimsPerTenant);
    await sql`analyze`;
    const before = countSchema.parse(await control(meta, '/_log?limit=1')).last_seq;

    log('the usual way, on a sample …');
    const loopPerSecond = await usualWay(sql, meta, quick ? 30 : 100);
    const between = countSchema.parse(await control(meta, '/_log?limit=1')).last_seq;

    log('Onecron …');
    const { verified, seconds, firstAt } = await verifyAll(sql, items, limitMs);
    const perSecond = verified / seconds;
    const calls = entriesSchema.parse(await control(meta, `/_log?since=${between}`)).entries.length;
    const [credited] = await sql<{ spins: number; twice: number }[]>`
      select count(*)::int as spins, (count(*) - count(distinct l.completion_id))::int as twice
      from public.spin_ledger l join bench b on b.tenant_id = l.tenant_id`;

    const crowds = quick ? 20 : 200;
    log(`${thousands(crowds)} tenants with ${claimsOfCrowd} claims on one post each …`);
    await makeTenants(sql, tenants + 1, tenants + crowds, claimsOfCrowd);
    await makeWorld(meta, tenants + 1, tenants + crowds, claimsOfCrowd);
    const afterwards = countSchema.parse(await control(meta, '/_log?limit=1')).last_seq;
    const crowd = await verifyAll(sql, crowds * claimsOfCrowd, limitMs);
    const crowdCalls = entriesSchema.parse(await control(meta, `/_log?since=${afterwards}`)).entries.length;
    return {
      rows: [
        {
          way: 'one handler, one call after the other',
          claims: between - before,
          seconds: round((between - before) / loopPerSecond, 1),
          'verified/s': round(loopPerSecond, 1),
          'calls per claim': 1,
        },
        {
          way: 'Onecron: tick, pg_net, Deno worker, close',
          claims: thousands(verified),
          seconds: round(seconds, 1),
          'verified/s': thousands(perSecond),
          'calls per claim': round(calls / Math.max(1, verified), 3),
        },
      ],
      numbers: {
        tenants,
        items,
        verified,
        seconds: round(seconds, 1),
        first_verified_after_s: round(firstAt, 1),
        verified_per_s: Math.round(perSecond),
        provider_calls_per_item: round(calls / Math.max(1, verified), 3),
        provider_calls_per_item_at_50_a_post: round(crowdCalls / Math.max(1, crowd.verified), 3),
        loop_per_s: round(loopPerSecond, 1),
        ratio_to_loop: round(perSecond / loopPerSecond, 1),
        credited: credited?.spins ?? null,
        credited_twice: credited?.twice ?? null,
      },
      reach: {
        verified_per_s: { atLeast: 1000 },
        ratio_to_loop: { atLeast: 100 },
        provider_calls_per_item_at_50_a_post: { atMost: 0.05 },
      },
      notes: [
        `From the commit of the claims to the last verification, waiting for the tick included. The provider answers after ${latencyMs} ms.`,
        verified < items
          ? `${thousands(items - verified)} claims were not verified within ${limitMs / 1000} s.`
          : '',
      ].filter((note) => note !== ''),
    };
  } finally {
    await sql.end();
    await stack.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
};
