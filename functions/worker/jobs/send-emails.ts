// Mails of the outbox and of alerts, through the tenant's own e-mail account or the platform's.
//
// Mails of one tenant that are claimed together leave in one call, as a *bundle*. It has one idempotency key for all of
// them, so what it consists of is noted in the database before the call: whoever claims any of these mails again makes
// the same call again, gets the same ids, and nothing leaves twice. What that means for a mail that was cancelled or has
// to wait meanwhile is said in sql/50_notifications/24_email_bundles.sql.
//
// By itself, with its own key, goes
// - a mail that is alone, and one that was ever tried alone: two keys could send it twice;
// - each mail of a bundle that was refused, when no call of it can have been accepted: one bad mail keeps nobody;
// - an alert: it is in no outbox.
// Mails of several tenants never share a call, not even on the platform's account. Attachments, which a call with
// several mails does not take, are not sent by anything here.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import type { Bundle, Credential, Item } from '../../_shared/engine.ts';
import {
  cut,
  type Failure,
  type ItemOutcome,
  outcomeOf,
  type ProviderOutcome,
} from '../../_shared/outcome.ts';
import {
  addressSchema,
  type BundleOutcome,
  type EmailSender,
  idempotencyKeySchema,
  mailsPerBundle,
} from '../../_shared/providers/resend.ts';

const mailSchema = z.object({
  to: z.union([addressSchema.transform((one) => [one]), z.array(addressSchema).min(1).max(50)]),
  subject: z.string().max(500).regex(/\S/),
  text: z.string().max(200_000).regex(/\S/),
  html: z.string().min(1).max(500_000).nullish(),
  /** The sender where the credential names none: the platform's. */
  from: z.string().nullish(),
  idempotency_key: idempotencyKeySchema,
  send_before: z.iso.datetime({ offset: true }).nullish(),
  /** Of the outbox; an alert has none. */
  outbox_id: z.string().nullish(),
  /** The bundle in which it may have left. */
  bundle_id: z.string().nullish(),
  /** It may leave with the others of its tenant that say so. */
  together: z.boolean().nullish(),
});
type Mail = z.infer<typeof mailSchema>;

interface Letter {
  item: Item;
  mail: Mail;
}
type OpenBundle = Extract<Bundle, { call: number }>;
type Throttled = Extract<Failure, { kind: 'throttled' }>;

export interface SendEmailsOptions {
  /** The client for each kind of credential: `resend`. */
  senders: Readonly<Record<string, EmailSender>>;
  sleep?: (ms: number) => Promise<void>;
}

const missingSeconds = 60;
const missedSeconds = 60;
/** A rate limit that is over within this time is waited for on the spot; a longer one puts the lane to sleep. */
const longestWaitSeconds = 5;
/** Calls for one mail while the limit, which other tenants may share, is used up by others. */
const callsPerMail = 5;
/** Time that has to be left for a call after a wait. */
const callMs = 10_000;
/** Characters of all the mails of a bundle. */
const longestBundle = 5_000_000;

/** Whose turn it is to call through one account, and until when nobody may (ms, the database's time). */
interface Turns {
  last: Promise<void>;
  pausedUntil: number;
  users: number;
}

export function createSendEmails(options: SendEmailsOptions): JobHandler {
  const sleep = options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  // Tenants that lean on the platform's account share its limit. Nothing but times is kept, and only while in use.
  const accounts = new Map<string, Turns>();

  return async (work, context) => {
    const { credential } = work;
    if (credential === null) {
      // It went away after the claim: the next claim sees that and puts the lane to sleep.
      context.report(...handBack(work.items, 'there is no e-mail account', missingSeconds));
      return;
    }
    const sender = Object.hasOwn(options.senders, credential.kind)
      ? options.senders[credential.kind]
      : undefined;
    if (sender === undefined) {
      const error = `An e-mail credential of the kind ${cut(credential.kind, 50)} is not known. Set it again.`;
      context.report(
        ...work.items.map((item) => outcomeOf(item.item_id, { kind: 'credentialBroken', error })),
      );
      return;
    }

    const account = credential.source === 'platform' ? 'platform' : work.tenant_id;
    const turns = accounts.get(account) ?? { last: Promise.resolve(), pausedUntil: 0, users: 0 };
    accounts.set(account, turns);
    turns.users += 1;
    try {
      await sendAll(sender, credential, turns);
    } finally {
      turns.users -= 1;
      if (turns.users === 0) accounts.delete(account);
    }

    async function sendAll(via: EmailSender, own: Credential, turns: Turns): Promise<void> {
      let stop: ((itemId: number) => ItemOutcome) | undefined;
      const letters: Letter[] = [];
      for (const item of work.items) {
        const parsed = mailSchema.safeParse(item.data);
        if (parsed.success) {
          letters.push({ item, mail: parsed.data });
          continue;
        }
        const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
        const error = `The mail is not valid: ${cut(fields, 200)}.`;
        context.report({ item_id: item.item_id, outcome: 'refused', error });
      }

      const { bundles, single } = sorted(letters);
      for (const bundle of bundles) {
        if (context.leaseIsLost()) return;
        if (stop !== undefined) {
          const stopped = stop;
          context.report(...bundle.map(({ item }) => stopped(item.item_id)));
          continue;
        }
        const end = await inTurn(turns, () => sendTogether(via, own, turns, bundle));
        if (end === 'lease lost') return;
        stop = end.stop;
        single.push(...end.alone);
      }
      for (const { item, mail } of single) {
        if (context.leaseIsLost()) return;
        if (stop !== undefined) {
          context.report(stop(item.item_id));
          continue;
        }
        const outcome = await inTurn(turns, () => send(via, own, turns, item, mail));
        if (outcome === null) continue;
        if (outcome === 'lease lost') return;
        const log = { item: item.item_id, trace_id: item.trace_id, outcome: outcome.kind };
        if (outcome.kind === 'ok') context.log.info('mail accepted', log);
        else {
          const error = outcome.kind === 'unknown' ? outcome.reason : outcome.error;
          context.log.warn('mail not accepted', { ...log, error });
        }
        switch (outcome.kind) {
          case 'ok':
            context.report(sent(item, outcome.value.messageId));
            break;
          case 'refused':
            context.report({ item_id: item.item_id, outcome: 'refused', error: cut(outcome.error) });
            break;
          case 'unknown':
            // The key makes a second try harmless.
            context.report({ item_id: item.item_id, outcome: 'retry', error: cut(outcome.reason) });
            break;
          default:
            context.report(outcomeOf(item.item_id, outcome));
            if (outcome.kind !== 'retry') stop = (itemId) => outcomeOf(itemId, outcome);
        }
      }
    }

    /** Which mails go in which call: those of a bundle that is in doubt, then new bundles, then each of the others. */
    function sorted(letters: readonly Letter[]): { bundles: Letter[][]; single: Letter[] } {
      const known = new Map<string, Letter[]>();
      const fresh: Letter[][] = [];
      const single: Letter[] = [];
      let size = 0;
      for (const letter of letters) {
        const { bundle_id: bundleId, together, outbox_id: outboxId, text, html, from } = letter.mail;
        const length = text.length + (html?.length ?? 0);
        const newest = fresh.at(-1);
        if (outboxId != null && bundleId != null) {
          known.set(bundleId, [...(known.get(bundleId) ?? []), letter]);
        } else if (outboxId == null || together !== true || senderOf(from) === null) {
          single.push(letter);
        } else if (newest && newest.length < mailsPerBundle && size + length <= longestBundle) {
          newest.push(letter);
          size += length;
        } else {
          fresh.push([letter]);
          size = length;
        }
      }
      return { bundles: [...known.values(), ...fresh], single };
    }

    function senderOf(fallback: string | null | undefined): string | null {
      const own = work.credential?.account.from;
      return typeof own === 'string' ? own : (fallback ?? null);
    }

    /** One call for all of these, and for those who were in it when it was made before. */
    async function sendTogether(
      via: EmailSender,
      own: Credential,
      turns: Turns,
      letters: readonly Letter[],
    ): Promise<'lease lost' | { alone: Letter[]; stop?: (itemId: number) => ItemOutcome }> {
      const items = letters.map(({ item }) => item);
      const before = await hindrance(turns);
      if (before === 'lease lost') return 'lease lost';
      if (before === 'time is up') {
        context.report(...handBack(items, 'the drain’s time was up'));
        return { alone: [] };
      }
      if (before !== null) {
        const stop = (itemId: number) => outcomeOf(itemId, before);
        context.report(...items.map((item) => stop(item.item_id)));
        return { alone: [], stop };
      }

      const ids = items.map((item) => item.item_id);
      const bundle = await context.bundleEmails(ids, senderOf(letters[0]?.mail.from) ?? '');
      if (bundle === null) return 'lease lost';
      if ('lost' in bundle) {
        const result = {
          status: 'unknown',
          reason: `nobody knows whether it left: ${cut(bundle.lost, 200)}`,
        };
        for (const item of items) context.report({ item_id: item.item_id, outcome: 'done', result });
        return { alone: [] };
      }
      const isIn = (list: readonly string[]) => (letter: Letter) =>
        list.includes(letter.mail.outbox_id ?? '');
      const inside = letters.filter(isIn(bundle.mails.map((mail) => mail.outbox_id)));
      const alone = letters.filter(isIn(bundle.alone));
      const others = letters.filter((letter) => !inside.includes(letter) && !alone.includes(letter));
      if (!('call' in bundle)) {
        context.report(
          ...handBack(
            others.map(({ item }) => item),
            'to be looked at again',
            missedSeconds,
          ),
        );
        return { alone };
      }

      const outcome = await callBundle(via, own, turns, inside, bundle);
      if (outcome === 'lease lost') return 'lease lost';
      const log = { bundle: bundle.bundle_id, mails: bundle.mails.length, claimed: inside.length };
      const waiting = () =>
        context.report(
          ...handBack(
            others.map(({ item }) => item),
            'its bundle left without it',
          ),
        );
      const report = (of: (item: Item) => ItemOutcome) =>
        context.report(...inside.map(({ item }) => of(item)));
      if (outcome === 'too late' || outcome === 'time is up') {
        await context.settleEmails(bundle, { outcome: 'not sent' });
        const late = outcome === 'too late';
        const reason = late ? 'the time for one of these mails is over' : 'the drain’s time was up';
        report((item) => ({ item_id: item.item_id, outcome: 'snooze', seconds: 1, reason }));
        waiting();
        return { alone };
      }
      if (outcome.kind === 'ok') context.log.info('bundle accepted', { ...log, outcome: outcome.kind });
      else {
        const error = outcome.kind === 'unknown' ? outcome.reason : outcome.error;
        context.log.warn('bundle not accepted', { ...log, outcome: outcome.kind, error });
      }
      switch (outcome.kind) {
        case 'ok':
        case 'acceptedBefore': {
          const mails =
            outcome.kind === 'ok'
              ? bundle.mails.map(({ outbox_id }, place) => ({
                  outbox_id,
                  message_id: outcome.value.messageIds[place] ?? '',
                }))
              : [];
          const messageIds = new Map(mails.map((mail) => [mail.outbox_id, mail.message_id]));
          const settled = await context.settleEmails(
            bundle,
            outcome.kind === 'ok' ? { outcome: 'accepted', mails } : { outcome: 'accepted before' },
          );
          const statuses = new Map(
            settled !== null && 'mails' in settled
              ? settled.mails.map((mail) => [mail.outbox_id, mail.status])
              : [],
          );
          for (const { item, mail } of [...inside, ...others]) {
            const outboxId = mail.outbox_id ?? '';
            const messageId = messageIds.get(outboxId) ?? null;
            const status = statuses.get(outboxId) ?? (messageId === null ? 'free' : 'sent');
            if (status === 'sent') context.report(sent(item, messageId));
            else if (status === 'unknown') {
              const reason = 'nobody knows which of the calls arrived that it was in';
              context.report({ item_id: item.item_id, outcome: 'done', result: { status, reason } });
            } else context.report(...handBack([item], 'to be looked at again'));
          }
          return { alone };
        }
        case 'unknown': {
          const failure = { ...outcome, kind: 'retry' as const, error: outcome.reason };
          report((item) => outcomeOf(item.item_id, failure));
          waiting();
          return { alone };
        }
        case 'refused': {
          const end = outcome.forItsContent ? 'content refused' : 'refused';
          const settled = await context.settleEmails(bundle, { outcome: end });
          waiting();
          if (settled !== null && 'dissolved' in settled && settled.dissolved) {
            return { alone: [...inside, ...alone] };
          }
          // An earlier call with these mails may have been accepted, or somebody else is at it.
          report((item) => ({ item_id: item.item_id, outcome: 'retry', error: cut(outcome.error) }));
          return { alone };
        }
        default: {
          await context.settleEmails(bundle, { outcome: 'not sent' });
          report((item) => outcomeOf(item.item_id, outcome));
          waiting();
          return outcome.kind === 'retry'
            ? { alone }
            : { alone, stop: (itemId) => outcomeOf(itemId, outcome) };
        }
      }
    }

    /** The call of a bundle. A rate limit that is over soon is waited for: until then nothing was sent. */
    async function callBundle(
      via: EmailSender,
      own: Credential,
      turns: Turns,
      inside: readonly Letter[],
      bundle: OpenBundle,
    ): Promise<BundleOutcome | 'lease lost' | 'time is up' | 'too late'> {
      const emails = bundle.mails.map((mail) => ({
        to: [mail.to],
        subject: mail.subject,
        text: mail.text,
        ...(mail.html == null ? {} : { html: mail.html }),
      }));
      const items = inside.map(({ item }) => item);
      for (let calls = 1; ; calls += 1) {
        const before = calls === 1 ? null : await hindrance(turns);
        if (before !== null) return before;
        if (context.leaseIsLost()) return 'lease lost';
        if (context.now().getTime() >= Date.parse(bundle.send_before)) return 'too late';
        const outcome = await context.within(items, () =>
          via.sendBundle(
            own,
            { from: bundle.sender, emails, idempotencyKey: bundle.bundle_id },
            { nowMs: context.now().getTime() },
          ),
        );
        pause(turns, outcome);
        if (outcome.kind !== 'throttled' || calls >= callsPerMail || !mayWait(outcome.seconds))
          return outcome;
      }
    }

    function sent(item: Item, messageId: string | null): ItemOutcome {
      const result = { status: 'sent', provider_message_id: messageId };
      return { item_id: item.item_id, outcome: 'done', result };
    }

    /** Null: handed back without a call. */
    async function send(
      via: EmailSender,
      own: Credential,
      turns: Turns,
      item: Item,
      mail: Mail,
    ): Promise<ProviderOutcome<{ messageId: string }> | 'lease lost' | null> {
      for (let calls = 1; ; calls += 1) {
        const before = await hindrance(turns);
        if (before === 'time is up') {
          context.report(...handBack([item], 'the drain’s time was up'));
          return null;
        }
        if (before !== null) return before;
        if (mail.send_before && context.now().getTime() >= Date.parse(mail.send_before)) {
          const reason = 'the time for this mail is over';
          context.report({ item_id: item.item_id, outcome: 'snooze', seconds: missedSeconds, reason });
          return null;
        }
        const outcome = await context.within([item], () =>
          via.sendEmail(
            own,
            {
              to: mail.to,
              subject: mail.subject,
              text: mail.text,
              ...(mail.html == null ? {} : { html: mail.html }),
              ...(mail.from == null ? {} : { from: mail.from }),
              idempotencyKey: mail.idempotency_key,
            },
            { nowMs: context.now().getTime() },
          ),
        );
        pause(turns, outcome);
        if (outcome.kind !== 'throttled' || calls >= callsPerMail || !mayWait(outcome.seconds))
          return outcome;
      }
    }

    /** Why no call may be made now, after a wait where that is enough; null: go ahead. */
    async function hindrance(turns: Turns): Promise<'lease lost' | 'time is up' | Throttled | null> {
      const wait = Math.ceil((turns.pausedUntil - context.now().getTime()) / 1000);
      if (wait > 0) {
        const error = 'The e-mail account’s rate limit is reached';
        if (!mayWait(wait)) return { kind: 'throttled', seconds: wait, error };
        await sleep(wait * 1000);
        turns.pausedUntil = 0;
      }
      if (context.leaseIsLost()) return 'lease lost';
      return context.timeIsUp() ? 'time is up' : null;
    }

    function pause(turns: Turns, outcome: ProviderOutcome<unknown> | BundleOutcome): void {
      const seconds =
        outcome.kind === 'throttled' ? outcome.seconds : outcome.kind === 'ok' ? outcome.hint?.seconds : 0;
      if (seconds) turns.pausedUntil = context.now().getTime() + seconds * 1000;
    }

    function mayWait(seconds: number): boolean {
      return seconds <= longestWaitSeconds && context.leftMs() >= seconds * 1000 + callMs;
    }
  };
}

/** One call after the other through one account. */
async function inTurn<T>(turns: Turns, call: () => Promise<T>): Promise<T> {
  const mine = turns.last.then(call);
  turns.last = mine.then(
    () => {},
    () => {},
  );
  return await mine;
}
