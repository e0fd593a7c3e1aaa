// Sends messages through the tenant's own WhatsApp account, or the platform's. WhatsApp has no idempotency key:
// the engine notes that a send begins before it begins, and what may have been sent is never sent again.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import type { Credential, Item } from '../../_shared/engine.ts';
import { cut, type ItemOutcome, outcomeOf } from '../../_shared/outcome.ts';
import {
  isNumber,
  isUserId,
  type MessageSender,
  type SendOutcome,
} from '../../_shared/providers/messages.ts';

/** WhatsApp's limit for the body of a text message. */
const longestText = 4096;

const templateSchema = z.object({
  name: z.string().regex(/^[a-z0-9_]{1,512}$/),
  language: z.string().regex(/^[A-Za-z]{2,3}(_[A-Za-z]{2,4})?$/),
  parameters: z
    .array(z.object({ name: z.string().min(1).max(100).nullish(), text: z.string() }))
    .max(100)
    .nullish()
    .transform((parameters) => parameters ?? []),
});

const messageSchema = z.object({
  outbox_id: z.union([z.string().min(1), z.number().int().transform(String)]),
  to: z.string().refine((to) => isNumber(to) || isUserId(to)),
  text: z.string().refine((text) => text.trim() !== '' && Array.from(text).length <= longestText),
  send_before: z.iso.datetime({ offset: true }).nullish(),
  /** What the status webhooks bring back. */
  callback: z.string().min(1).max(512).nullish(),
  /** What is known about the 24 hours in which a person who wrote may be answered with a text. */
  window: z.enum(['open', 'closed', 'not_known']).nullish(),
  window_open_until: z.iso.datetime({ offset: true }).nullish(),
  template: templateSchema.nullish(),
});

interface Message extends z.infer<typeof messageSchema> {
  item: Item;
}

export interface SendOptions {
  /** The client for each kind of credential: `whatsapp_cloud`, `waapi`, `gateway`. */
  senders: Readonly<Record<string, MessageSender>>;
  /** Messages of one tenant on their way at the same time: what a crash can leave unknown. */
  concurrency?: number;
}

type Form = 'text' | 'template';

/** What became of one message, and in which form it went out last. */
interface Attempt {
  as: Form;
  outcome: SendOutcome;
}

/** A message that missed its hours waits this long, then SQL looks for the next window. */
const missedSeconds = 60;
const missingSeconds = 60;
/** How long the rest waits after a refusal that stops the sender or the template: by then SQL holds it. */
const stoppedSeconds = 60;
/** One message in six seconds to one recipient, says WhatsApp; and 4^X seconds where that was not enough. */
const pairSeconds = 6;
const longestPairSeconds = 3600;
const needsTemplate = 'outside the 24-hour window and no approved template for it';

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
    const unfitTemplates = new Set<string>();
    const busyRecipients = new Set<string>();
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
      const due = group.filter((message) => !missed(message) && !waits(message) && !outsideWindow(message));
      if (due.length === 0) continue;

      // Ids that don't come back were begun before or belong to somebody else by now: no word about them.
      const granted = new Set(await context.beginEffects(due.map((message) => message.item.item_id)));
      await Promise.all(
        due
          .filter((message) => granted.has(message.item.item_id))
          .map(async (message) => {
            if (missed(message)) return; // the answer of the engine may have taken its time
            const attempt = await send(sender, credential, message);
            if (attempt === null) return;
            const { as, outcome } = attempt;
            const log = {
              item: message.item.item_id,
              trace_id: message.item.trace_id,
              outcome: outcome.kind,
              as,
            };
            if (outcome.kind === 'ok') context.log.info('message accepted', log);
            else context.log.warn('message not accepted', { ...log, error: errorOf(outcome) });
            context.report(toItemOutcome(message.item, attempt));
            heed(message, outcome);
          }),
      );
    }

    /** What one answer means for the messages after it. */
    function heed(message: Message, outcome: SendOutcome): void {
      if (outcome.kind === 'throttled' || outcome.kind === 'credentialBroken') {
        stop = (itemId) => outcomeOf(itemId, outcome);
      } else if (outcome.kind === 'recipientBusy') {
        busyRecipients.add(message.to);
      } else if (outcome.kind === 'failed' && outcome.stops === 'sender') {
        const reason = cut(`sending has stopped: ${outcome.error}`, 200);
        stop ??= (itemId) => ({ item_id: itemId, outcome: 'snooze', seconds: stoppedSeconds, reason });
      } else if (outcome.kind === 'failed' && outcome.stops === 'template' && message.template) {
        unfitTemplates.add(nameOf(message.template));
      }
    }

    /** True, and snoozed, when it is too late for this message by the database's time. */
    function missed(message: Message): boolean {
      if (!message.send_before || context.now().getTime() < Date.parse(message.send_before)) return false;
      const reason = 'the hours for messages are over';
      context.report({ item_id: message.item.item_id, outcome: 'snooze', seconds: missedSeconds, reason });
      return true;
    }

    /** True, and snoozed, when a message before it in this batch has shown that this one must wait. */
    function waits(message: Message): boolean {
      const { item, to, template } = message;
      if (busyRecipients.has(to)) {
        const reason = 'too many messages to this recipient in a short time';
        context.report({ item_id: item.item_id, outcome: 'snooze', seconds: pairSeconds, reason });
        return true;
      }
      if (firstForm(message) === 'template' && template && unfitTemplates.has(nameOf(template))) {
        const reason = `WhatsApp refused the template ${cut(template.name, 100)}`;
        context.report({ item_id: item.item_id, outcome: 'snooze', seconds: stoppedSeconds, reason });
        return true;
      }
      return false;
    }

    /** True, and refused without a call, when nothing that we have may be sent to this recipient. */
    function outsideWindow(message: Message): boolean {
      const { item, to } = message;
      if (sender?.sendTemplate === undefined && !isNumber(to)) {
        const error = 'The gateway reaches numbers only; this person’s number is not known.';
        context.report({ item_id: item.item_id, outcome: 'refused', error });
        return true;
      }
      if (firstForm(message) === 'text' || message.template) return false;
      context.report({ item_id: item.item_id, outcome: 'refused', error: needsTemplate });
      return true;
    }

    /** A text is tried where the window is open or nothing is known about it; a gateway has no windows. */
    function firstForm({ window, window_open_until: until }: Message): Form {
      if (sender?.sendTemplate === undefined) return 'text';
      if (window === 'closed') return 'template';
      const over = until != null && context.now().getTime() >= Date.parse(until);
      return window === 'open' && over ? 'template' : 'text';
    }

    /** Null: it was handed back, or the lease is gone and nothing may be said. */
    async function send(via: MessageSender, own: Credential, message: Message): Promise<Attempt | null> {
      let as = firstForm(message);
      try {
        if (as === 'text') {
          const outcome = await call('text', via, own, message);
          if (outcome.kind !== 'windowClosed' || !via.sendTemplate || !message.template) {
            return { as, outcome };
          }
          // The refusal is certain, so the same permission to send covers the template.
          if (context.leaseIsLost() || missed(message)) return null;
        }
        as = 'template';
        return { as, outcome: await call('template', via, own, message) };
      } catch {
        // A client that throws has broken its promise; the message may be out.
        const reason = 'the worker failed while the message was being sent';
        return { as, outcome: { kind: 'unknown', reason } };
      }
    }

    async function call(
      form: Form,
      via: MessageSender,
      own: Credential,
      message: Message,
    ): Promise<SendOutcome> {
      const { to, text, outbox_id: outboxId, template } = message;
      const recipient = { to, outboxId, ...(message.callback ? { callback: message.callback } : {}) };
      const request = { nowMs: context.now().getTime() };
      return await context.within([message.item], async () => {
        if (form === 'text') return await via.sendText(own, { ...recipient, text }, request);
        if (!via.sendTemplate || !template) return { kind: 'windowClosed', error: needsTemplate };
        const parameters = template.parameters.map(({ name, text: value }) => ({
          ...(name == null ? {} : { name }),
          text: value,
        }));
        return await via.sendTemplate(own, { ...recipient, template: { ...template, parameters } }, request);
      });
    }
  };
}

function nameOf(template: { name: string; language: string }): string {
  return `${template.name}:${template.language}`;
}

function errorOf(outcome: Exclude<SendOutcome, { kind: 'ok' }>): string {
  return outcome.kind === 'unknown' ? outcome.reason : outcome.error;
}

/** 4^X seconds for the Xth try, at least six and at most an hour. */
function pairPause(tries: number): number {
  return Math.min(longestPairSeconds, Math.max(pairSeconds, 4 ** Math.min(Math.max(tries, 1), 10)));
}

function toItemOutcome(item: Item, { as, outcome }: Attempt): ItemOutcome {
  const itemId = item.item_id;
  const done = (result: Record<string, unknown>): ItemOutcome => ({
    item_id: itemId,
    outcome: 'done',
    result: { ...result, as },
  });
  switch (outcome.kind) {
    case 'ok': {
      const { messageId, held } = outcome.value;
      return done({ status: 'sent', provider_message_id: messageId, ...(held ? { held } : {}) });
    }
    case 'unknown':
      return done({ status: 'unknown', reason: cut(outcome.reason, 300) });
    case 'failed':
      return done({ status: 'failed', code: outcome.code, reason: cut(outcome.error, 300) });
    case 'windowClosed': {
      const error = as === 'template' ? outcome.error : `${needsTemplate} (${outcome.error})`;
      return { item_id: itemId, outcome: 'refused', error: cut(error) };
    }
    case 'recipientBusy': {
      const reason = cut(outcome.error, 200);
      return { item_id: itemId, outcome: 'snooze', seconds: pairPause(item.attempt), reason };
    }
    case 'refused':
      return { item_id: itemId, outcome: 'refused', error: cut(outcome.error) };
    default:
      return outcomeOf(itemId, outcome);
  }
}
