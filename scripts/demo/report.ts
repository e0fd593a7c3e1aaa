// The result: counted in the simulators' log and in the database, never in what this program believes it did.
import type postgres from 'postgres';
import { z } from 'zod';
import { people, type Slug, slugs, tenants } from './cast.ts';
import { table } from './print.ts';
import type { LogEntry } from './social.ts';
import { type Claim, deliveriesIn, digitsOf } from './watch.ts';

export interface TenantResult {
  slug: Slug;
  claimed: number;
  verified: number;
  failed: number;
  waiting: number;
  /** Requests to providers on behalf of this tenant, by the owner of the token that they came with. */
  credential_sources: { tenant: number; platform: number };
  messages: { sent: number; held: number; disabled: number };
}

/** The last line of `npm run demo -- --json`. */
export interface Result {
  tenants: TenantResult[];
  cron_entries: number;
  wrong_credential_uses: number;
  duplicate_messages: number;
  lost_items: number;
  seconds: number;
}

const factsSchema = z.object({
  cron_entries: z.number(),
  lost_items: z.number(),
  decided_twice: z.number(),
  wrong_rewards: z.number(),
  sent: z.number(),
  credentials: z.array(z.string()),
});

/** What only the database knows. */
async function readFacts(sql: postgres.Sql): Promise<z.infer<typeof factsSchema>> {
  const [row] = await sql`
    with accepted as (
      -- Every claim enqueues one item, and so does every message that is to be sent.
      select 'verify-social-tasks' as job, c.tenant_id, c.id as subject_id, c.status <> 'pending' as decided
      from public.completions c
      union all
      select 'send-notifications', m.tenant_id, m.id, m.status <> 'queued'
      from public.notification_outbox m
      where m.status not in ('disabled', 'no_consent')
    ),
    ended as (
      select a.job, a.tenant_id, a.subject_id, count(*) as times
      from jobs.attempts a
      where a.outcome in ('done', 'unknown', 'cancelled')
      group by a.job, a.tenant_id, a.subject_id
    )
    select
      (select count(*)::integer from cron.job) as cron_entries,
      -- An item is either still there, or dead, or it ended and its subject says so. Any other is lost.
      (select count(*)::integer from accepted x
        where not exists (
            select from jobs.items i where i.job = x.job and i.tenant_id = x.tenant_id and i.subject_id = x.subject_id)
          and not exists (
            select from jobs.dead_items d where d.job = x.job and d.tenant_id = x.tenant_id and d.subject_id = x.subject_id)
          and not (x.decided and exists (
            select from ended e where e.job = x.job and e.tenant_id = x.tenant_id and e.subject_id = x.subject_id))
      ) as lost_items,
      (select count(*)::integer from ended e where e.times > 1) as decided_twice,
      (select count(*)::integer
        from public.completions c
        join public.social_tasks s on s.tenant_id = c.tenant_id and s.id = c.task_id
        cross join lateral (
          select coalesce(sum(l.spins), 0) as spins from public.spin_ledger l
          where l.tenant_id = c.tenant_id and l.completion_id = c.id
        ) earned
        where earned.spins <> case when c.status = 'verified' then s.reward_spins else 0 end) as wrong_rewards,
      (select count(*)::integer from public.notification_outbox m where m.sent) as sent,
      array(
        select t.slug || ' ' || c.provider from public.credentials c join public.tenants t on t.id = c.tenant_id
      ) as credentials`;
  return factsSchema.parse(row);
}

/** Requests to providers, with the tenant on whose behalf they came: owner of the post, or of the recipient. */
function usesIn(entries: readonly LogEntry[], claims: readonly Claim[], credentials: readonly string[]) {
  const tenantOf = new Map(claims.map((claim) => [digitsOf(claim.phone), claim.tenant]));
  return entries.map((entry) => {
    const provider = entry.provider === 'waapi' ? 'whatsapp' : entry.provider;
    const owner =
      provider === 'meta' ? entry.about.target_tenant : tenantOf.get(digitsOf(entry.about.to ?? ''));
    const own = credentials.includes(`${owner} ${provider}`);
    const right = owner !== undefined && owner !== null && entry.tenant === (own ? owner : 'platform');
    return { owner, provider, source: entry.tenant === 'platform' ? 'platform' : 'tenant', right } as const;
  });
}

export interface Report {
  result: Result;
  /** What a person reads. */
  lines: string[];
  /** Promises that were broken, in words. */
  broken: string[];
}

export async function report(
  sql: postgres.Sql,
  claims: readonly Claim[],
  entries: readonly LogEntry[],
): Promise<Report> {
  const facts = await readFacts(sql);
  const uses = usesIn(entries, claims, facts.credentials);
  const deliveries = deliveriesIn(entries);
  const different = new Set(deliveries.map(({ to, text }) => `${to} ${text}`));

  const rows = slugs.map((slug): TenantResult => {
    const own = claims.filter((claim) => claim.tenant === slug);
    const count = (test: (claim: Claim) => boolean) => own.filter(test).length;
    const sources = uses.filter((use) => use.owner === slug);
    const phones = new Set(own.map((claim) => digitsOf(claim.phone)));
    return {
      slug,
      claimed: own.length,
      verified: count((claim) => claim.status === 'verified'),
      failed: count((claim) => claim.status === 'failed'),
      waiting: count((claim) => claim.status === 'pending'),
      credential_sources: {
        tenant: sources.filter((use) => use.source === 'tenant').length,
        platform: sources.filter((use) => use.source === 'platform').length,
      },
      messages: {
        sent: deliveries.filter((delivery) => phones.has(delivery.to)).length,
        held: count((claim) => claim.message === 'queued' && claim.heldUntil !== null),
        disabled: count((claim) => claim.message === 'disabled'),
      },
    };
  });
  const result: Result = {
    tenants: rows,
    cron_entries: facts.cron_entries,
    wrong_credential_uses: uses.filter((use) => !use.right).length,
    duplicate_messages: deliveries.length - different.size,
    lost_items: facts.lost_items,
    seconds: Math.round(performance.now() / 100) / 10,
  };

  const checks: [boolean, string][] = [
    [result.cron_entries === 1, `There are ${result.cron_entries} pg_cron entries instead of one.`],
    [
      result.wrong_credential_uses === 0,
      `${result.wrong_credential_uses} requests came with a wrong credential.`,
    ],
    [result.duplicate_messages === 0, `${result.duplicate_messages} messages arrived twice.`],
    [result.lost_items === 0, `${result.lost_items} items are lost.`],
    [facts.decided_twice === 0, `${facts.decided_twice} items ended twice.`],
    [facts.wrong_rewards === 0, `${facts.wrong_rewards} claims did not earn what they should.`],
    [
      facts.sent === deliveries.length,
      `${deliveries.length} messages were delivered, ${facts.sent} are noted as sent.`,
    ],
  ];
  for (const { name, claims: wanted } of people) {
    for (const { task, deed } of wanted) {
      const status = claims.find((claim) => claim.person === name && claim.title === task.title)?.status;
      const right = deed !== 'never' ? 'verified' : 'verifyWithinSeconds' in task ? 'failed' : 'pending';
      checks.push([
        status === right,
        `${name}, "${task.title}": ${status ?? 'never claimed'} instead of ${right}.`,
      ]);
    }
  }
  return {
    result,
    lines: [...tableOf(rows, uses, claims), '', ...summaryOf(result)],
    broken: checks.filter(([kept]) => !kept).map(([, text]) => text),
  };
}

function tableOf(
  rows: readonly TenantResult[],
  uses: ReturnType<typeof usesIn>,
  claims: readonly Claim[],
): string[] {
  const credentials = (slug: string) =>
    [
      ['meta', 'Meta'],
      ['whatsapp', 'WhatsApp'],
    ]
      .flatMap(([provider, name]) => {
        const sources = new Set(
          uses.filter((use) => use.owner === slug && use.provider === provider).map((use) => use.source),
        );
        return [...sources].map((source) => `${source === 'tenant' ? 'own' : "platform's"} ${name}`);
      })
      .join(', ');
  const heldBack = (slug: string) => {
    const reasons = claims
      .filter((claim) => claim.tenant === slug)
      .flatMap((claim) => {
        if (claim.message === 'disabled') return ['switched off in the campaign'];
        if (claim.message === 'queued' && claim.heldUntil) return [`quiet hours until ${claim.heldUntil}`];
        return claim.message === null || claim.message === 'sent' ? [] : [claim.message];
      });
    return (
      [...new Set(reasons)]
        .map((reason) => `${reasons.filter((each) => each === reason).length} ${reason}`)
        .join(', ') || 'none'
    );
  };
  const cells = rows.map((row) => [
    tenants[row.slug].name,
    String(row.claimed),
    String(row.verified),
    String(row.failed),
    String(row.waiting),
    credentials(row.slug),
    String(row.messages.sent),
    heldBack(row.slug),
  ]);
  const head = [
    '',
    'claimed',
    'verified',
    'failed',
    'waiting',
    'credentials used',
    'sent',
    'messages held back',
  ];
  return table([head, ...cells], [1, 2, 3, 4, 6]);
}

function summaryOf(result: Result): string[] {
  const asked = result.tenants.reduce(
    (sum, { credential_sources: { tenant, platform } }) => sum + tenant + platform,
    0,
  );
  const sent = result.tenants.reduce((sum, row) => sum + row.messages.sent, 0);
  return [
    `pg_cron entries: ${result.cron_entries}, for all tenants together`,
    `${asked} requests to providers, ${result.wrong_credential_uses} with a wrong credential`,
    `${sent} messages delivered, ${result.duplicate_messages} of them twice`,
    `${result.lost_items} items lost`,
  ];
}
