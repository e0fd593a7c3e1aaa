// Mails alerts through the platform's e-mail account.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import { cut, type ItemOutcome, outcomeOf } from '../../_shared/outcome.ts';
import type { EmailSender } from '../../_shared/providers/resend.ts';

const mailSchema = z.object({
  to: z
    .array(z.string().regex(/^[^<>@\s,;]+@[^<>@\s,;]+$/))
    .min(1)
    .max(50),
  subject: z.string().min(1).max(500),
  text: z.string().min(1),
  idempotency_key: z.string().min(1).max(256),
});

const missingSeconds = 60;

export interface AlertEmailOptions {
  /** The client for each kind of credential: `resend`. */
  senders: Readonly<Record<string, EmailSender>>;
}

export function createAlertEmail(options: AlertEmailOptions): JobHandler {
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

    let stop: ((itemId: number) => ItemOutcome) | undefined;
    for (const item of work.items) {
      if (context.leaseIsLost()) return;
      if (stop !== undefined) {
        context.report(stop(item.item_id));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(...handBack([item], 'the drain’s time was up'));
        continue;
      }
      const parsed = mailSchema.safeParse(item.data);
      if (!parsed.success) {
        const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
        const error = `The mail is not valid: ${cut(fields, 200)}.`;
        context.report({ item_id: item.item_id, outcome: 'refused', error });
        continue;
      }
      const { to, subject, text, idempotency_key } = parsed.data;
      const email = { to, subject: oneLineOf(subject), text, idempotencyKey: idempotency_key };
      const outcome = await context.within([item], () =>
        sender.sendEmail(credential, email, { nowMs: context.now().getTime() }),
      );
      const log = { item: item.item_id, trace_id: item.trace_id, outcome: outcome.kind };
      if (outcome.kind === 'ok') context.log.info('mail accepted', log);
      else {
        const error = outcome.kind === 'unknown' ? outcome.reason : outcome.error;
        context.log.warn('mail not accepted', { ...log, error });
      }
      switch (outcome.kind) {
        case 'ok': {
          const result = { provider_message_id: outcome.value.messageId };
          context.report({ item_id: item.item_id, outcome: 'done', result });
          const { hint } = outcome;
          if (hint !== undefined) {
            stop = (itemId) =>
              outcomeOf(itemId, { kind: 'throttled', seconds: hint.seconds, error: hint.reason });
          }
          break;
        }
        case 'refused':
          context.report({ item_id: item.item_id, outcome: 'refused', error: cut(outcome.error) });
          break;
        case 'unknown':
          context.report({ item_id: item.item_id, outcome: 'retry', error: cut(outcome.reason) });
          break;
        default:
          context.report(outcomeOf(item.item_id, outcome));
          if (outcome.kind !== 'retry') stop = (itemId) => outcomeOf(itemId, outcome);
      }
    }
  };
}

/** A subject is one line. */
function oneLineOf(subject: string): string {
  return subject.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ');
}
