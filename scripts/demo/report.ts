// The result: counted in the simulators' log and in the database, never in what this program believes it did.
import type postgres from 'postgres';
import { z } from 'zod';
import { endOf, type Kind, kinds, latecomers, people, type Slug, slugs, tenants } from './cast.ts';
import { table } from './print.ts';
import { handles, type LogEntry } from './social.ts';
import { type Claim, deliveriesIn, digitsOf, type Scene } from './watch.ts';

interface Counts {
  claimed: number;
  verified: number;
  failed: number;
  /** Not decided yet. */
  waiting: number;
}

export interface TenantResult extends Counts {
  slug: Slug;
  /** Requests to providers on behalf of this tenant, by the owner of the token that they came with. */
  credential_sources: { tenant: number; platform: number };
  /** unknown: the worker was lost between the call and its answer; such a message is not sent again. */
  messages: { sent: number; held: number; disabled: number; unknown: number };
  /** Claims that a person decided. */
  reviews: { approved: number; rejected: number };
}

/** The last line of `npm run demo -- --json`. */
export interface Result {
  tenants: TenantResult[];
  kinds: (Counts & { kind: Kind })[];
  cron_entries: number;
  wrong_credential_uses: number;
  duplicate_messages: number;
  lost_items: number;
  /** Credentials that broke, those of them that work again, and the attempts that it cost their items. */
  credentials: { broken: number; healed: number; burnt_attempts: number };
  seconds: number;
}

const factsSchema = z.object({
  cron_entries: z.number(),
  lost_items: z.number(),
  dead_items: z.number(),
  decided_twice: z.number(),
  wrong_rewards: z.number(),
  burnt_attempts: z.number(),
  sent: z.number(),
  credentials: z.array(z.string()),
});
export type Facts = z.infer<typeof factsSchema>;

/** What only the database knows. */
async function readFacts(sql: postgres.Sql): Promise<Facts> {
  const [row] = await sql`
    with accepted as (
      -- Every claim that the worker proves enqueues an item, and so does every message that is to be sent, and every webhook.
      select 'verify-social-tasks' as job, c.tenant_id, c.id as subject_id, c.status <> 'pending' as decided
      from public.completions c
      where c.route = 'api'
      union all
      select 'send-notifications', m.tenant_id, m.id, m.status <> 'queued'
      from public.notification_outbox m
      where m.status not in ('disabled', 'no_consent')
      union all
      select 'process-webhooks', w.tenant_id, w.id, w.processed_at is not null
      from private.webhook_events w
    ),
    ended as (
      select a.job, a.tenant_id, a.subject_id, a.item_id, count(*) as times
      from jobs.attempts a
      where a.outcome in ('done', 'unknown', 'cancelled')
      group by a.job, a.tenant_id, a.subject_id, a.item_id
    )
    select
      (select count(*)::integer from cron.job) as cron_entries,
      -- An item either waits, or is out with a worker, or is dead, or it ended and its subject says so. Any other is lost.
      (select count(*)::integer from accepted x
        where not exists (
            select from jobs.items i where i.job = x.job and i.tenant_id = x.tenant_id and i.subject_id = x.subject_id)
          and not exists (
            select from jobs.leased_items i where i.job = x.job and i.tenant_id = x.tenant_id and i.subject_id = x.subject_id)
          and not exists (
            select from jobs.dead_items d where d.job = x.job and d.tenant_id = x.tenant_id and d.subject_id = x.subject_id)
          and not (x.decided and exists (
            select from ended e where e.job = x.job and e.tenant_id = x.tenant_id and e.subject_id = x.subject_id))
      ) as lost_items,
      (select count(*)::integer from jobs.dead_items) as dead_items,
      (select count(*)::integer from ended e where e.times > 1)
        + (select count(*)::integer from (
          select from public.completion_decisions d where d.to_status in ('verified', 'failed') group by d.tenant_id, d.completion_id having count(*) > 1
        ) twice) as decided_twice,
      (select count(*)::integer
        from public.completions c
        join public.social_tasks s on s.tenant_id = c.tenant_id and s.id = c.task_id
        cross join lateral (
          select coalesce(sum(l.spins), 0) as spins from public.spin_ledger l
          where l.tenant_id = c.tenant_id and l.completion_id = c.id
        ) earned
        where earned.spins <> case when c.status = 'verified' then s.reward_spins else 0 end) as wrong_rewards,
      -- Items that met a broken credential and had to be tried again for it.
      (select count(*)::integer from jobs.attempts a
        where a.outcome = 'retry' and exists (
          select from jobs.attempts b where b.tenant_id = a.tenant_id and b.item_id = a.item_id and b.outcome = 'credential broken')
      ) as burnt_attempts,
      (select count(*)::integer from public.notification_outbox m where m.sent) as sent,
      array(
        select t.slug || ' ' || c.provider from public.credentials c join public.tenants t on t.id = c.tenant_id
      ) as credentials`;
  return factsSchema.parse(row);
}

/** What a token is asked about itself, not about an account. */
const aboutItself = ['me', 'debug_token', 'refresh_access_token'];

/** Requests to providers, with the tenant on whose behalf they came: owner of the account, or of the person. */
function usesIn(entries: readonly LogEntry[], claims: readonly Claim[], credentials: readonly string[]) {
  const tenantOf = new Map(
    claims.flatMap(({ person, phone, tenant }) => [
      [digitsOf(phone), tenant],
      [handles({ name: person, phone }).instagramId, tenant],
    ]),
  );
  const ownerOf = ({ about, tenant }: LogEntry, provider: string) => {
    if (provider !== 'meta') return tenantOf.get(digitsOf(about.to ?? ''));
    const id = about.object_id ?? '';
    return about.target_tenant ?? tenantOf.get(id) ?? (aboutItself.includes(id) ? tenant : undefined);
  };
  return (
    entries
      // The envelope of a batch asks for nothing, each part of it is an entry of its own.
      .filter(({ provider, about }) => provider !== 'meta' || typeof about.object_id === 'string')
      .map((entry) => {
        const provider = entry.provider === 'waapi' ? 'whatsapp' : entry.provider;
        const owner = ownerOf(entry, provider);
        const own = credentials.includes(`${owner} ${provider}`);
        const right = owner !== undefined && owner !== null && entry.tenant === (own ? owner : 'platform');
        return {
          owner,
          provider,
          source: entry.tenant === 'platform' ? 'platform' : 'tenant',
          right,
        } as const;
      })
  );
}

export interface Report {
  result: Result;
  /** What a person reads. */
  lines: string[];
  /** Promises that were broken, in words. */
  broken: string[];
}

export async function report(sql: postgres.Sql, scene: Scene): Promise<Report> {
  return reportOf(scene, await readFacts(sql), Math.round(performance.now() / 100) / 10);
}

/** The report on what was seen at the end. */
export function reportOf({ claims, alerts, entries }: Scene, facts: Facts, seconds: number): Report {
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
      ...countsOf(own),
      credential_sources: {
        tenant: sources.filter((use) => use.source === 'tenant').length,
        platform: sources.filter((use) => use.source === 'platform').length,
      },
      messages: {
        sent: deliveries.filter((delivery) => phones.has(delivery.to)).length,
        held: count((claim) => claim.message === 'queued' && claim.heldUntil !== null),
        disabled: count((claim) => claim.message === 'disabled'),
        unknown: count((claim) => claim.message === 'unknown'),
      },
      reviews: {
        approved: count(({ method, status }) => method === 'manual' && status === 'verified'),
        rejected: count(({ method, status }) => method === 'manual' && status === 'failed'),
      },
    };
  });
  const result: Result = {
    tenants: rows,
    kinds: (Object.keys(kinds) as Kind[]).map((kind) => ({
      kind,
      ...countsOf(claims.filter((claim) => claim.kind === kind)),
    })),
    cron_entries: facts.cron_entries,
    wrong_credential_uses: uses.filter((use) => !use.right).length,
    duplicate_messages: deliveries.length - different.size,
    lost_items: facts.lost_items,
    credentials: {
      broken: alerts.length,
      healed: alerts.filter(({ isOpen }) => !isOpen).length,
      burnt_attempts: facts.burnt_attempts,
    },
    seconds,
  };
  return {
    result,
    lines: [
      ...tenantTable(rows, uses),
      '',
      ...kindTable(result, claims),
      '',
      ...summaryOf(result, uses.length, { claims, alerts, entries }),
    ],
    broken: brokenIn(result, facts, claims, deliveries.length),
  };
}

function countsOf(claims: readonly Claim[]): Counts {
  const count = (status: Claim['status']) => claims.filter((claim) => claim.status === status).length;
  const [verified, failed] = [count('verified'), count('failed')];
  return { claimed: claims.length, verified, failed, waiting: claims.length - verified - failed };
}

/** The promises that were not kept. */
function brokenIn(result: Result, facts: Facts, claims: readonly Claim[], delivered: number): string[] {
  const { broken, healed, burnt_attempts: burnt } = result.credentials;
  const unknown = claims.filter(({ message }) => message === 'unknown').length;
  const sourceOf = (slug: string) => (facts.credentials.includes(`${slug} meta`) ? 'tenant' : 'platform');
  const unsigned = claims.filter(
    ({ method, tenant, source }) => method === 'api' && source !== sourceOf(tenant),
  );
  const checks: [boolean, string][] = [
    [result.cron_entries === 1, `There are ${result.cron_entries} pg_cron entries instead of one.`],
    [
      result.wrong_credential_uses === 0,
      `${result.wrong_credential_uses} requests came with a wrong credential.`,
    ],
    [result.duplicate_messages === 0, `${result.duplicate_messages} messages arrived twice.`],
    [result.lost_items === 0, `${result.lost_items} items are lost.`],
    [facts.dead_items === 0, `${facts.dead_items} items died.`],
    [facts.decided_twice === 0, `${facts.decided_twice} items ended twice.`],
    [facts.wrong_rewards === 0, `${facts.wrong_rewards} claims did not earn what they should.`],
    [unsigned.length === 0, `${unsigned.length} claims do not say whose credential proved them.`],
    [
      // Whether an unknown one left, only the provider knows.
      delivered >= facts.sent && delivered <= facts.sent + unknown,
      `${delivered} messages were delivered, ${facts.sent} are noted as sent and ${unknown} as unknown.`,
    ],
    [broken === 1, `${broken} alerts about a credential instead of one.`],
    [healed === broken, `${broken - healed} broken credentials were not healed.`],
    [burnt === 0, `A broken credential cost ${burnt} attempts.`],
  ];
  for (const { name, claims: wanted } of [...people, ...latecomers]) {
    for (const { task, deed } of wanted) {
      const claim = claims.find(({ person, title }) => person === name && title === task.title);
      const right = endOf(task, deed);
      const stands = `${name}, "${task.title}": ${claim?.status ?? 'never claimed'}`;
      checks.push([claim?.status === right, `${stands} instead of ${right}.`]);
      const byPerson = task.kind === 'x_follow';
      checks.push([
        claim === undefined || right === 'pending' || (claim.method === 'manual') === byPerson,
        `${stands}, ${byPerson ? 'not ' : ''}by a person.`,
      ]);
    }
  }
  return checks.filter(([kept]) => !kept).map(([, text]) => text);
}

const numbersOf = ({ claimed, verified, failed, waiting }: Counts) =>
  [claimed, verified, failed, waiting].map(String);

function tenantTable(rows: readonly TenantResult[], uses: ReturnType<typeof usesIn>): string[] {
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
  const cells = rows.map(({ slug, messages, ...counts }) => [
    tenants[slug].name,
    ...numbersOf(counts),
    String(messages.sent),
    String(messages.held),
    String(messages.disabled),
    credentials(slug),
  ]);
  const head = [
    '',
    'claimed',
    'verified',
    'failed',
    'waiting',
    'messages sent',
    'held',
    'off',
    'credentials used',
  ];
  return table([head, ...cells], [1, 2, 3, 4, 5, 6, 7]);
}

/** How claims of a kind were decided. */
const methods: Record<string, string> = {
  api: 'asking Meta',
  webhook: 'a webhook',
  link: 'our own link',
  manual: 'a person',
};

function kindTable(result: Result, claims: readonly Claim[]): string[] {
  const cells = result.kinds.map(({ kind, ...counts }) => {
    const used = new Set(claims.filter((claim) => claim.kind === kind).map(({ method }) => method));
    const decidedBy = [...used].flatMap((method) => (method === null ? [] : [methods[method] ?? method]));
    return [kinds[kind], ...numbersOf(counts), decidedBy.join(', ')];
  });
  return table([['', 'claimed', 'verified', 'failed', 'waiting', 'decided by'], ...cells], [1, 2, 3, 4]);
}

function summaryOf(result: Result, requests: number, { claims, alerts }: Scene): string[] {
  const total = (numberOf: (row: TenantResult) => number) =>
    result.tenants.reduce((sum, row) => sum + numberOf(row), 0);
  const hours = [...new Set(claims.flatMap(({ heldUntil }) => heldUntil ?? []))].join(', ');
  const unknown = total(({ messages }) => messages.unknown);
  const { broken, healed, burnt_attempts } = result.credentials;
  const longest = Math.max(0, ...alerts.map(({ seconds }) => seconds)).toFixed(1);
  return [
    `pg_cron entries: ${result.cron_entries}, for all tenants together`,
    `${requests} requests to providers, ${result.wrong_credential_uses} with a wrong credential`,
    `${total(({ messages }) => messages.sent)} messages delivered, ${result.duplicate_messages} of them twice; ` +
      `${total(({ messages }) => messages.held)} held until ${hours}; ` +
      `${total(({ messages }) => messages.disabled)} switched off in the campaign` +
      (unknown > 0 ? `; ${unknown} unknown` : ''),
    `reviews by a person: ${total(({ reviews }) => reviews.approved)} approved, ${total(({ reviews }) => reviews.rejected)} rejected`,
    `broken credentials: ${broken}, healed: ${healed}; parked for ${longest} s, ${burnt_attempts} attempts burnt`,
    `${result.lost_items} items lost`,
  ];
}
