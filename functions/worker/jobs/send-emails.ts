// Mails of the outbox and of alerts, through the tenant's own e-mail account or the platform's. One call a mail, each with
// its own idempotency key: what may have been sent is safely sent again. A batch would have one key for all of its mails,
// and after a lost answer the same mails would have to come together again in the same order: they don't.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import type { Credential, Item } from '../../_shared/engine.ts';
import { cut, type ItemOutcome, outcomeOf, type ProviderOutcome } from '../../_shared/outcome.ts';
import { addressSchema, type EmailSender, idempotencyKeySchema } from '../../_shared/providers/resend.ts';

const mailSchema = z.object({
  to: z.union([addressSchema.transform((one) => [one]), z.array(addressSchema).min(1).max(50)]),
  subject: z.string().max(500).regex(/\S/),
  text: z.string().max(200_000).regex(/\S/),
  html: z.string().min(1).max(500_000).nullish(),
  /** The sender where the credential names none: the platform's. */
  from: z.string().nullish(),
  idempotency_key: idempotencyKeySchema,
  send_before: z.iso.datetime({ offset: true }).nullish(),
});
type Mail = z.infer<typeof mailSchema>;

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
      for (const item of work.items) {
        if (context.leaseIsLost()) return;
        if (stop !== undefined) {
          context.report(stop(item.item_id));
          continue;
        }
        const parsed = mailSchema.safeParse(item.data);
        if (!parsed.success) {
          const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
          const error = `The mail is not valid: ${cut(fields, 200)}.`;
          context.report({ item_id: item.item_id, outcome: 'refused', error });
          continue;
        }
        const data = parsed.data;
        const outcome = await inTurn(turns, () => send(via, own, turns, item, data));
        if (outcome === null) continue;
        if (outcome === 'lease lost') return;
        const log = { item: item.item_id, trace_id: item.trace_id, outcome: outcome.kind };
        if (outcome.kind === 'ok') context.log.info('mail accepted', log);
        else {
          const error = outcome.kind === 'unknown' ? outcome.reason : outcome.error;
          context.log.warn('mail not accepted', { ...log, error });
        }
        switch (outcome.kind) {
          case 'ok': {
            const result = { status: 'sent', provider_message_id: outcome.value.messageId };
            context.report({ item_id: item.item_id, outcome: 'done', result });
            break;
          }
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

    /** Null: handed back without a call. */
    async function send(
      via: EmailSender,
      own: Credential,
      turns: Turns,
      item: Item,
      mail: Mail,
    ): Promise<ProviderOutcome<{ messageId: string }> | 'lease lost' | null> {
      for (let calls = 1; ; calls += 1) {
        const wait = Math.ceil((turns.pausedUntil - context.now().getTime()) / 1000);
        if (wait > 0) {
          const error = 'The e-mail account’s rate limit is reached';
          if (!mayWait(wait)) return { kind: 'throttled', seconds: wait, error };
          await sleep(wait * 1000);
          turns.pausedUntil = 0;
        }
        if (context.leaseIsLost()) return 'lease lost';
        if (context.timeIsUp()) {
          context.report(...handBack([item], 'the drain’s time was up'));
          return null;
        }
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
        const seconds =
          outcome.kind === 'throttled' ? outcome.seconds : outcome.kind === 'ok' ? outcome.hint?.seconds : 0;
        if (seconds) turns.pausedUntil = context.now().getTime() + seconds * 1000;
        if (outcome.kind !== 'throttled' || calls >= callsPerMail || !mayWait(outcome.seconds))
          return outcome;
      }
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
