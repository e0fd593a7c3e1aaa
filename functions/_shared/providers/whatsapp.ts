// WhatsApp Cloud API: sending a text. It has no idempotency key; what may have been carried out is never repeated.
// https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages
import { z } from 'zod';
import { type Http, parseJson, retryAfterSeconds } from '../http.ts';
import type { Failure } from '../outcome.ts';
import { createRedactor, oneLine, type Redact } from '../redact.ts';
import { type CodeRow, describeGraphError, graphErrorIn, graphVersion, rowFor } from './graph.ts';
import { failedSend, type MessageSender } from './messages.ts';

type WhatsAppClass = 'retry' | 'throttled' | 'credentialBroken' | 'refused';

/** https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes */
export const whatsappErrors: readonly CodeRow<WhatsAppClass>[] = [
  { code: 0, class: 'credentialBroken', says: 'the token could not be checked; reconnect the account' },
  { code: 1, class: 'retry', says: 'an unknown error at WhatsApp' },
  { code: 2, class: 'retry', says: 'the service is down for the moment' },
  { code: 3, class: 'credentialBroken', says: 'the app lacks a permission; reconnect the account' },
  { code: 4, class: 'throttled', says: 'the app’s call limit is reached', seconds: 300 },
  {
    code: 10,
    class: 'credentialBroken',
    says: 'the permission is missing or was removed; reconnect the account',
  },
  { code: 100, class: 'refused', says: 'a parameter is not valid' },
  { code: 190, class: 'credentialBroken', says: 'the token expired; reconnect the account' },
  { code: [200, 299], class: 'credentialBroken', says: 'a permission is missing; reconnect the account' },
  { code: 368, class: 'credentialBroken', says: 'blocked for a policy violation; see WhatsApp Manager' },
  { code: 80007, class: 'throttled', says: 'the WhatsApp account’s limit is reached', seconds: 300 },
  { code: 130429, class: 'throttled', says: 'the number’s throughput is reached', seconds: 30 },
  { code: 130472, class: 'refused', says: 'the recipient is part of an experiment of Meta' },
  { code: 131000, class: 'retry', says: 'something went wrong at WhatsApp' },
  { code: 131005, class: 'credentialBroken', says: 'access denied; check the permissions of the token' },
  { code: 131008, class: 'refused', says: 'a parameter is missing' },
  { code: 131009, class: 'refused', says: 'a parameter’s value is not valid' },
  { code: 131016, class: 'retry', says: 'the service is not available for the moment' },
  { code: 131026, class: 'refused', says: 'the message can’t be delivered to this number' },
  { code: 131030, class: 'refused', says: 'the recipient is not in the test number’s allowed list' },
  { code: 131031, class: 'credentialBroken', says: 'the account is locked; see WhatsApp Manager' },
  { code: 131042, class: 'credentialBroken', says: 'a payment problem; settle it in WhatsApp Manager' },
  {
    code: 131047,
    class: 'refused',
    says: 'more than 24 hours since the recipient wrote; only a template may be sent',
  },
  { code: 131048, class: 'throttled', says: 'too many messages were marked as spam', seconds: 3600 },
  { code: 131049, class: 'refused', says: 'not delivered, to keep the recipient from too much marketing' },
  { code: 131050, class: 'refused', says: 'the recipient stopped marketing messages from this business' },
  { code: 131051, class: 'refused', says: 'the type of the message is not supported' },
  { code: 131056, class: 'retry', says: 'too many messages to this recipient in a short time', seconds: 60 },
  { code: 131057, class: 'throttled', says: 'the number is in maintenance', seconds: 300 },
  { code: 132000, class: 'refused', says: 'the number of the template’s parameters is wrong' },
  { code: 132001, class: 'refused', says: 'the template does not exist in this language' },
  { code: 132005, class: 'refused', says: 'the template’s text is too long' },
  { code: 132007, class: 'refused', says: 'the template violates a policy' },
  { code: 132012, class: 'refused', says: 'a template parameter has the wrong format' },
  { code: 132015, class: 'refused', says: 'the template is paused' },
  { code: 132016, class: 'refused', says: 'the template is disabled' },
  { code: 133004, class: 'retry', says: 'the server is not available for the moment' },
  { code: 133010, class: 'credentialBroken', says: 'the sender’s number is not registered; register it' },
  { code: 137000, class: 'refused', says: 'the recipient’s identity has changed' },
];

const credentialParts = z.object({
  account: z.object({ phone_number_id: z.string().regex(/^\d{1,40}$/) }),
  secret: z.object({ access_token: z.string().regex(/^[\x21-\x7e]+$/) }),
});

const acceptedSchema = z.object({
  contacts: z.array(z.object({ input: z.string().nullish() })).nullish(),
  messages: z.array(z.object({ id: z.string().min(1) })).min(1),
});

const digits = (value: string) => value.replace(/\D/g, '');

export function createWhatsApp(options: { http: Http; url: string }): MessageSender {
  function failureOf(status: number, headers: Headers, text: string, redact: Redact, nowMs: number): Failure {
    const pause = (fallback: number) => retryAfterSeconds(headers.get('retry-after'), nowMs, { fallback });
    const error = graphErrorIn(text);
    if (error === null) {
      const said = `WhatsApp answered ${status} without an error that can be read`;
      if (status === 429) return { kind: 'throttled', seconds: pause(60), error: said };
      if (status === 401) return { kind: 'credentialBroken', error: `${said}; reconnect the account` };
      return { kind: 'unknown', reason: said };
    }
    const row = rowFor(whatsappErrors, error);
    const words = describeGraphError(
      'WhatsApp',
      error,
      row?.says ?? 'a code that is not known here',
      oneLine(error.message, redact, 200),
    );
    switch (row?.class) {
      case 'throttled':
        return { kind: 'throttled', seconds: pause(row.seconds ?? 60), error: words };
      case 'credentialBroken':
        return { kind: 'credentialBroken', error: words };
      case 'refused':
        return { kind: 'refused', error: words };
      case 'retry':
        return row.seconds === undefined
          ? { kind: 'retry', error: words }
          : { kind: 'retry', error: words, afterSeconds: row.seconds };
      case undefined:
        if (status === 429) return { kind: 'throttled', seconds: pause(60), error: words };
        // A readable refusal with a code of tomorrow: not sent below 500; above, nobody knows.
        return status < 500 ? { kind: 'retry', error: words } : { kind: 'unknown', reason: words };
    }
  }

  return {
    async sendText(credential, message, { nowMs }) {
      const parts = credentialParts.safeParse(credential);
      if (!parts.success) {
        const fields = parts.error.issues.map((issue) => issue.path.join('.')).join(', ');
        return { kind: 'credentialBroken', error: `The WhatsApp credential is incomplete: check ${fields}.` };
      }
      const token = parts.data.secret.access_token;
      const redact = createRedactor([token]);
      const result = await options.http({
        method: 'POST',
        url: `${options.url}/${graphVersion}/${parts.data.account.phone_number_id}/messages`,
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json',
        },
        body: JSON.stringify({
          messaging_product: 'whatsapp',
          recipient_type: 'individual',
          to: message.to,
          type: 'text',
          text: { preview_url: true, body: message.text },
          biz_opaque_callback_data: message.outboxId,
        }),
      });
      if (result.kind === 'failure') return failedSend('WhatsApp', result.reason, result.sent);
      if (result.status < 200 || result.status >= 300 || graphErrorIn(result.text) !== null) {
        return failureOf(result.status, result.headers, result.text, redact, nowMs);
      }
      const accepted = acceptedSchema.safeParse(parseJson(result.text));
      const messageId = accepted.success ? accepted.data.messages[0]?.id : undefined;
      if (!accepted.success || messageId === undefined) {
        return {
          kind: 'unknown',
          reason: `WhatsApp answered ${result.status} with a body that is not understood`,
        };
      }
      const input = accepted.data.contacts?.[0]?.input;
      if (input && digits(input) !== digits(message.to)) {
        return { kind: 'unknown', reason: 'WhatsApp’s answer names another recipient' };
      }
      return { kind: 'ok', value: { messageId } };
    },
  };
}
