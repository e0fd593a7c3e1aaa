// An onlooker: reads how the claims stand and what left the providers, and says what is new. It changes nothing.
import type postgres from 'postgres';
import { z } from 'zod';
import type { Say } from './print.ts';
import type { LogEntry } from './social.ts';

const claimSchema = z.object({
  completionId: z.string(),
  tenant: z.string(),
  person: z.string(),
  phone: z.string(),
  title: z.string(),
  spins: z.number(),
  status: z.enum(['pending', 'verified', 'failed', 'manual_review']),
  reason: z.string().nullable(),
  source: z.string().nullable(),
  /** How often it was handed out without an end. */
  tries: z.number(),
  message: z.string().nullable(),
  messageReason: z.string().nullable(),
  /** When the hours of its campaign open again, in the campaign's zone. */
  heldUntil: z.string().nullable(),
});
export type Claim = z.infer<typeof claimSchema>;

/** How every claim stands now. */
export async function readClaims(sql: postgres.Sql): Promise<Claim[]> {
  const rows = await sql`
    select c.id as "completionId", t.slug as tenant, p.display_name as person, p.phone, s.title,
      s.reward_spins as spins, c.status, c.reason, c.credential_source as source, coalesce(i.tries, 0) as tries,
      m.status as message, m.reason as "messageReason",
      to_char(m.held_until at time zone g.time_zone, 'HH24:MI') || ' (' || g.time_zone || ')' as "heldUntil"
    from public.completions c
    join public.tenants t on t.id = c.tenant_id
    join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    join public.social_tasks s on s.tenant_id = c.tenant_id and s.id = c.task_id
    join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
    left join public.notification_outbox m on m.tenant_id = c.tenant_id and m.completion_id = c.id
    left join jobs.items i on i.tenant_id = c.tenant_id and i.subject_id = c.id
    order by c.claimed_at, c.id`;
  return z.array(claimSchema).parse(rows);
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

export interface Onlooker {
  /** Says what is new. True when something is. */
  tell(claims: readonly Claim[], entries: readonly LogEntry[]): boolean;
}

export function createOnlooker(say: Say, recheckSeconds: number): Onlooker {
  const told = new Set<string>();
  return {
    tell(claims, entries) {
      const before = told.size;
      const once = (key: string, tenant: string, text: string, tone?: Parameters<Say>[2]) => {
        if (told.has(key)) return;
        told.add(key);
        say(tenant, text, tone);
      };
      for (const claim of claims) {
        const { completionId: id, tenant, person } = claim;
        const whose = claim.source === 'platform' ? "the platform's credential" : 'its own credential';
        if (claim.status === 'pending' && claim.tries > 0) {
          once(
            `${id} looked`,
            tenant,
            `${person}: no comment yet; looks again every ${recheckSeconds} s`,
            'dim',
          );
        }
        if (claim.status === 'verified') {
          once(
            `${id} verified`,
            tenant,
            `${person}: verified with ${whose}, +${claim.spins} ${claim.spins === 1 ? 'spin' : 'spins'}`,
            'green',
          );
        } else if (claim.status === 'failed') {
          once(`${id} failed`, tenant, `${person}: failed, no comment by the deadline`, 'red');
        } else if (claim.status === 'manual_review') {
          once(`${id} review`, tenant, `${person}: to be reviewed by a person: ${claim.reason}`, 'yellow');
        }
        if (claim.message === 'disabled') {
          once(`${id} disabled`, tenant, `${person}: no message, ${claim.messageReason}`, 'yellow');
        } else if (claim.message === 'queued' && claim.heldUntil) {
          once(
            `${id} held`,
            tenant,
            `${person}: message held until ${claim.heldUntil}, ${claim.messageReason}`,
            'yellow',
          );
        } else if (claim.message === 'unknown' || claim.message === 'failed') {
          once(
            `${id} ${claim.message}`,
            tenant,
            `${person}: message ${claim.message}: ${claim.messageReason}`,
            'red',
          );
        }
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
