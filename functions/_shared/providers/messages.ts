// What the two WhatsApp clients have in common: one text message out, one typed outcome back.
import type { Credential } from '../engine.ts';
import { describeFailure, type FailureReason } from '../http.ts';
import type { ProviderOutcome } from '../outcome.ts';

export interface TextMessage {
  /** E.164: a plus and 7 to 15 digits. */
  to: string;
  text: string;
  /** Our outbox id, which the provider's status webhooks echo where it can. */
  outboxId: string;
}

export interface Sent {
  /** Null when the provider confirmed the message without naming it. */
  messageId: string | null;
}

export interface MessageSender {
  sendText(
    credential: Credential,
    message: TextMessage,
    request: { nowMs: number },
  ): Promise<ProviderOutcome<Sent>>;
}

/** A send without an answer: safe to repeat only when the request can't have arrived. */
export function failedSend(who: string, reason: FailureReason, sent: 'no' | 'maybe'): ProviderOutcome<Sent> {
  const words = describeFailure(who, reason);
  return sent === 'no' ? { kind: 'retry', error: words } : { kind: 'unknown', reason: words };
}
