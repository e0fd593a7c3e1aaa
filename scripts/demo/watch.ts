// An onlooker: reads how the claims stand and what left the providers, and says what is new. It changes nothing.
import type postgres from 'postgres';
import { z } from 'zod';
import { type Kind, kinds } from './cast.ts';
import type { Say } from './print.ts';
import type { LogEntry } from './social.ts';

const claimSchema = z.object({
  completionId: z.string(),
  tenant: z.string(),
  person: z.string(),
  phone: z.string(),
  kind: z.literal(Object.keys(kinds) as Kind[]),
  title: z.string(),
  spins: z.number(),
  status: z.enum(['pending', 'verified', 'failed', 'manual_review', 'needs_user_action']),
  reason: z.string().nullable(),
  method: z.string().nullable(),
  /** Whose credential read the proof. */
  source: z.string().nullable(),
  actionUrl: z.string().nullable(),
  /** How often it was handed out without an end. */
  tries: z.number(),
  message: z.string().nullable(),
  messageReason: z.string().nullable(),
  /** When the hours of its campaign open again, in the campaign's zone; null: its message does not wait for that. */
  heldUntil: z.string().nullable(),
});
export type Claim = z.infer<typeof claimSchema>;

const alertSchema = z.object({
  tenant: z.string(),
  incident: z.string(),
  isOpen: z.boolean(),
  /** How long it was, or has been, open. */
  seconds: z.number(),
});
export type Alert = z.infer<typeof alertSchema>;

/** What can be seen at one moment. */
export interface Scene {
  claims: Claim[];
  /** Alerts about credentials. */
  alerts: Alert[];
  entries: LogEntry[];
}

/** How every claim and every credential stands now. */
export async function readScene(sql: postgres.Sql): Promise<Omit<Scene, 'entries'>> {
  const claims = await sql`
    select c.id as "completionId", t.slug as tenant, p.display_name as person, p.phone, s.kind::text, s.title,
      s.reward_spins as spins, c.status, c.reason, c.method, c.credential_source as source, c.action_url as "actionUrl",
      coalesce(i.tries, 0) as tries, m.status as message, m.reason as "messageReason",
      case when m.reason = 'quiet hours' then to_char(m.held_until at time zone g.time_zone, 'HH24:MI') || ' (' || g.time_zone || ')' end
        as "heldUntil"
    from public.completions c
    join public.tenants t on t.id = c.tenant_id
    join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    join public.social_tasks s on s.tenant_id = c.tenant_id and s.id = c.task_id
    join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
    left join public.notification_outbox m on m.tenant_id = c.tenant_id and m.completion_id = c.id
    left join lateral (
      select max(x.tries) as tries
      from (select tenant_id, subject_id, tries from jobs.items union all select tenant_id, subject_id, tries from jobs.leased_items) x
      where x.tenant_id = c.tenant_id and x.subject_id = c.id
    ) i on true
    order by c.claimed_at, c.id`;
  const alerts = await sql`
    select t.slug as tenant, a.incident, a.closed_at is null as "isOpen",
      extract(epoch from coalesce(a.closed_at, now()) - a.opened_at)::float8 as seconds
    from jobs.alerts a
    join public.tenants t on t.id = a.tenant_id
    where a.incident like 'credential %'
    order by a.alert_id`;
  return { claims: z.array(claimSchema).parse(claims), alerts: z.array(alertSchema).parse(alerts) };
}

export const digitsOf = (address: string): string => address.replace(/\D/g, '');

/** Messages that left: recipient and text of every one that a provider delivered. */
export function deliveriesIn(entries: readonly LogEntry[]) {
  return entries.flatMap((entry) =>
    (entry.answer?.effects ?? [])
      .filter((effect) => effect.kind === 'message' && effect.delivered !== false)
      .map((effect) => ({
        seq: entry.seq,
        provider: entry.provider,
        to: digitsOf(effect.to ?? entry.about.to ?? ''),
        text: entry.about.text ?? '',
        sentBy: entry.tenant,
      })),
  );
}

/** What showed that a claim is true. */
function proofOf({ method, source }: Claim): string {
  if (method === 'manual') return 'approved';
  if (method === 'link') return 'verified, the link was opened';
  if (method === 'webhook') return 'verified, Instagram told of the message';
  return `verified with ${source === 'platform' ? "the platform's" : 'its own'} credential`;
}

interface Line {
  /** What it is about; said once. */
  key: string;
  text: string;
  tone: Parameters<Say>[2];
}

const isComment = ({ kind }: Claim): boolean => kind === 'facebook_comment' || kind === 'instagram_comment';

function statusOf(claim: Claim, recheckSeconds: number): Line | null {
  switch (claim.status) {
    case 'pending': {
      if (claim.tries === 0) return null;
      const seen = isComment(claim) ? 'no comment' : 'not seen';
      return { key: 'looked', text: `${seen} yet; looks again every ${recheckSeconds} s`, tone: 'dim' };
    }
    case 'needs_user_action':
      return { key: 'asked', text: `needs a message first: ${claim.actionUrl}`, tone: 'yellow' };
    case 'verified': {
      const reward = `+${claim.spins} ${claim.spins === 1 ? 'spin' : 'spins'}`;
      return { key: 'verified', text: `${proofOf(claim)}, ${reward}`, tone: 'green' };
    }
    case 'failed': {
      if (claim.method === 'manual') return { key: 'failed', text: `rejected: ${claim.reason}`, tone: 'red' };
      const why = isComment(claim) ? 'no comment by the deadline' : claim.reason;
      return { key: 'failed', text: `failed, ${why}`, tone: 'red' };
    }
    case 'manual_review':
      return { key: 'review', text: `to be reviewed, ${claim.reason}`, tone: 'yellow' };
  }
}

function messageOf({ message, messageReason: reason, heldUntil }: Claim): Line | null {
  if (message === 'disabled') return { key: 'disabled', text: `no message, ${reason}`, tone: 'yellow' };
  if (message === 'unknown' || message === 'failed')
    return { key: message, text: `message ${message}: ${reason}`, tone: 'red' };
  if (message !== 'queued') return null;
  if (heldUntil) return { key: 'held', text: `message held until ${heldUntil}, ${reason}`, tone: 'yellow' };
  return reason === null ? null : { key: 'waits', text: `message waits, ${reason}`, tone: 'dim' };
}

export interface Onlooker {
  /** Says what is new. True when something is. */
  tell(scene: Scene): boolean;
}

export function createOnlooker(say: Say, recheckSeconds: number): Onlooker {
  const told = new Set<string>();
  const once = (key: string, tenant: string, text: string, tone?: Parameters<Say>[2]) => {
    if (told.has(key)) return;
    told.add(key);
    say(tenant, text, tone);
  };
  return {
    tell({ claims, entries }) {
      const before = told.size;
      for (const claim of claims) {
        const { completionId: id, tenant, person, kind } = claim;
        const status = statusOf(claim, recheckSeconds);
        const whose = isComment(claim) ? person : `${person}'s ${kinds[kind]}`;
        if (status !== null) once(`${id} ${status.key}`, tenant, `${whose}: ${status.text}`, status.tone);
        const message = messageOf(claim);
        if (message !== null)
          once(`${id} ${message.key}`, tenant, `${person}: ${message.text}`, message.tone);
      }
      for (const delivery of deliveriesIn(entries)) {
        const claim = claims.find((each) => digitsOf(each.phone) === delivery.to);
        const via = delivery.sentBy === 'platform' ? "the platform's WhatsApp" : 'its own WhatsApp';
        once(
          `sent ${delivery.seq}`,
          claim?.tenant ?? '',
          `${claim?.person ?? delivery.to}: message sent through ${via}`,
          'cyan',
        );
      }
      return told.size > before;
    },
  };
}
