// What the WhatsApp clients have in common: one message out, one typed outcome back.
import type { Credential } from '../engine.ts';
import { describeFailure, type FailureReason } from '../http.ts';
import type { ProviderOutcome } from '../outcome.ts';

export interface Recipient {
  /** E.164 (a plus and 7 to 15 digits), or a user id as in `isUserId`. */
  to: string;
  /** Our outbox id. */
  outboxId: string;
  /** What the provider's status webhooks echo, where it can; the outbox id when left out. */
  callback?: string;
}

export interface TextMessage extends Recipient {
  text: string;
}

export interface Template {
  name: string;
  /** As it was approved: `en_US`, `de`. */
  language: string;
  /** Of the body, in order; all of them with a name or none. */
  parameters: readonly { name?: string | undefined; text: string }[];
}

export interface TemplateMessage extends Recipient {
  template: Template;
}

export interface Sent {
  /** Null when the provider confirmed the message without naming it. */
  messageId: string | null;
  /** Accepted, but kept back until the provider has looked at the template's quality. */
  held?: true;
}

/** Beside what every provider answers: refusals of a message that somebody else has to act upon. Nothing was sent. */
export type SendOutcome =
  | ProviderOutcome<Sent>
  /** `stops`: what it makes no sense to go on with. The code says what to do about it. */
  | { kind: 'failed'; code: number; error: string; stops: 'nothing' | 'template' | 'sender' }
  /** Only a template may be sent to this person now. */
  | { kind: 'windowClosed'; error: string }
  /** Too many messages to this person in a short time; the others are not concerned. */
  | { kind: 'recipientBusy'; error: string };

export interface MessageSender {
  sendText(credential: Credential, message: TextMessage, request: { nowMs: number }): Promise<SendOutcome>;
  /** Only where the provider has a 24-hour window, outside of which it takes nothing but templates. */
  sendTemplate?(
    credential: Credential,
    message: TemplateMessage,
    request: { nowMs: number },
  ): Promise<SendOutcome>;
}

/** True for the id of a person whose number is not known to us: `US.13491208655302741918`. */
export function isUserId(to: string): boolean {
  return /^[A-Z]{2}\.[A-Za-z0-9]{1,128}$/.test(to);
}

/** True for a number in E.164. */
export function isNumber(to: string): boolean {
  return /^\+[1-9]\d{6,14}$/.test(to);
}

/** A send without an answer: safe to repeat only when the request can't have arrived. */
export function failedSend(who: string, reason: FailureReason, sent: 'no' | 'maybe'): ProviderOutcome<Sent> {
  const words = describeFailure(who, reason);
  return sent === 'no' ? { kind: 'retry', error: words } : { kind: 'unknown', reason: words };
}
