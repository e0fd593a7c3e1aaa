// Sends messages through the tenant's own WhatsApp account, or the platform's. WhatsApp has no idempotency key:
// the engine notes that a send begins before it begins, and what may have been sent is never sent again.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import type { Credential, Item } from '../../_shared/engine.ts';
import { cut, type ItemOutcome, outcomeOf, type ProviderOutcome } from '../../_shared/outcome.ts';
import type { MessageSender, Sent } from '../../_shared/providers/messages.ts';

/** WhatsApp's limit for the body of a text message. */
const longestText = 4096;

const messageSchema = z.object({
  outbox_id: z.union([z.string().min(1), z.number().int().transform(String)]),
  to: z.string().regex(/^\+[1-9]\d{6,14}$/),
  text: z.string().refine((text) => text.trim() !== '' && Array.from(text).length <= longestText),
  send_before: z.iso.datetime({ offset: true }).nullish(),
});

interface Message extends z.infer<typeof messageSchema> {
  item: Item;
}

export interface SendOptions {
  /** The client for each kind of credential: `whatsapp_cloud`, `waapi`. */
  senders: Readonly<Record<string, MessageSender>>;
  /** Messages of one tenant on their way at the same time: what a crash can leave unknown. */
  concurrency?: number;
}

/** A message that missed its hours waits this long, then SQL looks for the next window. */
const missedSeconds = 60;
const missingSeconds = 60;

export function createSendNotifications(options: SendOptions): JobHandler {
  const concurrency = options.concurrency ?? 4;

  return async (work, context) => {
    const messages: Message[] = [];
    for (const item of work.items) {
      const parsed = messageSchema.safeParse(item.data);
      if (parsed.success) messages.push({ ...parsed.data, item });
      else {
        const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
        context.report({
          item_id: item.item_id,
          outcome: 'refused',
          error: `The message is not valid: ${cut(fields, 200)}.`,
        });
      }
    }

    const { credential } = work;
    if (credential === null) {
      // It went away after the claim: the next claim sees that and puts the lane to sleep.
      const waiting = messages.map(({ item }) => item);
      context.report(...handBack(waiting, 'there is no WhatsApp account', missingSeconds));
      return;
    }
    const sender = Object.hasOwn(options.senders, credential.kind)
      ? options.senders[credential.kind]
      : undefined;
    if (sender === undefined) {
      const kind = cut(credential.kind, 50);
      const error = `A WhatsApp credential of the kind ${kind} is not known. Connect the account again.`;
      context.report(
        ...messages.map(({ item }) => outcomeOf(item.item_id, { kind: 'credentialBroken', error })),
      );
      return;
    }

    let stop: ((itemId: number) => ItemOutcome) | undefined;
    for (let start = 0; start < messages.length; start += concurrency) {
      const group = messages.slice(start, start + concurrency);
      if (context.leaseIsLost()) return;
      if (stop !== undefined) {
        const stopped = stop;
        context.report(...group.map((message) => stopped(message.item.item_id)));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(
          ...handBack(
            group.map((message) => message.item),
            'the drain’s time was up',
          ),
        );
        continue;
      }
      const due = group.filter((message) => !missed(message));
      if (due.length === 0) continue;

      // Ids that don't come back were begun before or belong to somebody else by now: no word about them.
      const granted = new Set(await context.beginEffects(due.map((message) => message.item.item_id)));
      await Promise.all(
        due
          .filter((message) => granted.has(message.item.item_id))
          .map(async (message) => {
            if (missed(message)) return; // the answer of the engine may have taken its time
            const outcome = await send(sender, credential, message);
            const log = {
              item: message.item.item_id,
              trace_id: message.item.trace_id,
              outcome: outcome.kind,
            };
            if (outcome.kind === 'ok') context.log.info('message accepted', log);
            else context.log.warn('message not accepted', { ...log, error: errorOf(outcome) });
            context.report(toItemOutcome(message.item.item_id, outcome));
            if (outcome.kind === 'throttled' || outcome.kind === 'credentialBroken') {
              stop = (itemId) => outcomeOf(itemId, outcome);
            }
          }),
      );
    }

    /** True, and snoozed, when it is too late for this message by the database's time. */
    function missed(message: Message): boolean {
      if (!message.send_before || context.now().getTime() < Date.parse(message.send_before)) return false;
      const reason = 'the hours for messages are over';
      context.report({ item_id: message.item.item_id, outcome: 'snooze', seconds: missedSeconds, reason });
      return true;
    }

    async function send(
      via: MessageSender,
      own: Credential,
      message: Message,
    ): Promise<ProviderOutcome<Sent>> {
      try {
        const text = { to: message.to, text: message.text, outboxId: message.outbox_id };
        return await context.within([message.item], () =>
          via.sendText(own, text, { nowMs: context.now().getTime() }),
        );
      } catch {
        // A client that throws has broken its promise; the message may be out.
        return { kind: 'unknown', reason: 'the worker failed while the message was being sent' };
      }
    }
  };
}

function errorOf(outcome: Exclude<ProviderOutcome<Sent>, { kind: 'ok' }>): string {
  return outcome.kind === 'unknown' ? outcome.reason : outcome.error;
}

function toItemOutcome(itemId: number, outcome: ProviderOutcome<Sent>): ItemOutcome {
  switch (outcome.kind) {
    case 'ok':
      return {
        item_id: itemId,
        outcome: 'done',
        result: { status: 'sent', provider_message_id: outcome.value.messageId },
      };
    case 'unknown':
      return {
        item_id: itemId,
        outcome: 'done',
        result: { status: 'unknown', reason: cut(outcome.reason, 300) },
      };
    case 'refused':
      return { item_id: itemId, outcome: 'refused', error: cut(outcome.error) };
    default:
      return outcomeOf(itemId, outcome);
  }
}
