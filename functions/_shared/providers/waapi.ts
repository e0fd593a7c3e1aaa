// WaAPI-style gateway: WhatsApp Web behind HTTP. Its answer has two envelopes: the outer one says that the request
// reached the instance, the inner one that the message was sent. Only the inner one counts; 200 alone says nothing.
import { z } from 'zod';
import { type Http, parseJson, retryAfterSeconds } from '../http.ts';
import { brokenCredential, type ProviderOutcome } from '../outcome.ts';
import { createRedactor, oneLine, stringsIn } from '../redact.ts';
import { failedSend, isNumber, type MessageSender, type Sent } from './messages.ts';

type WaapiClass = 'retry' | 'throttled' | 'credentialBroken' | 'refused' | 'unknown';

interface StatusRow {
  status: number;
  class: WaapiClass;
  says: string;
  seconds?: number;
}

/** The gateway has no error codes: what an HTTP status means. Every other status leaves it open what happened. */
export const waapiStatuses: readonly StatusRow[] = [
  { status: 400, class: 'refused', says: 'the gateway rejected the action' },
  { status: 401, class: 'credentialBroken', says: 'the token is not valid; renew it' },
  { status: 403, class: 'credentialBroken', says: 'the token may not use this instance; check it' },
  { status: 404, class: 'credentialBroken', says: 'there is no such instance; check its id' },
  { status: 409, class: 'retry', says: 'the instance is busy', seconds: 30 },
  { status: 422, class: 'refused', says: 'the gateway found the message not valid' },
  { status: 429, class: 'throttled', says: 'too many requests', seconds: 60 },
];

const credentialParts = z.object({
  account: z.object({
    instance_id: z.union([z.string().regex(/^[A-Za-z0-9-]{1,64}$/), z.number().int().transform(String)]),
  }),
  secret: z.object({ token: z.string().regex(/^[\x21-\x7e]+$/) }),
});

const reason = z.looseObject({
  message: z.unknown().optional(),
  explanation: z.unknown().optional(),
  errors: z.unknown().optional(),
});
const envelope = z.looseObject({
  status: z.string(),
  data: z
    .looseObject({ status: z.string(), instanceId: z.union([z.string(), z.number()]).nullish() })
    .nullish()
    // PHP writes nothing as [].
    .catch(null),
});

function textsOf(value: unknown): string {
  const parsed = reason.safeParse(value);
  if (!parsed.success) return '';
  const { message, explanation, errors } = parsed.data;
  return [...stringsIn(message), ...stringsIn(explanation), ...stringsIn(errors)].join(' ');
}

/** The message's id: the depth of `_serialized` varies between versions of the gateway. */
function serializedIdIn(value: unknown, depth = 0): string | null {
  if (typeof value !== 'object' || value === null || depth > 8) return null;
  for (const [key, inner] of Object.entries(value)) {
    if (key === '_serialized' && typeof inner === 'string' && inner !== '') return inner;
  }
  // Under `id` first: `from`, `to` and `remote` carry a `_serialized` of a person.
  const entries = Object.entries(value).filter(([key]) => !['from', 'to', 'remote', 'author'].includes(key));
  entries.sort(([a], [b]) => Number(b === 'id') - Number(a === 'id'));
  for (const [, inner] of entries) {
    const found = serializedIdIn(inner, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

export function createWaapi(options: { http: Http; url: string }): MessageSender {
  return {
    async sendText(credential, message, { nowMs }): Promise<ProviderOutcome<Sent>> {
      const parts = credentialParts.safeParse(credential);
      if (!parts.success) {
        return brokenCredential('gateway', credential, parts.error.issues);
      }
      if (!isNumber(message.to)) {
        return { kind: 'refused', error: 'The gateway reaches numbers with plus and country code only.' };
      }
      const instanceId = parts.data.account.instance_id;
      const token = parts.data.secret.token;
      const redact = createRedactor(stringsIn(credential.secret));
      const say = (words: string, theirs: string) => {
        const line = oneLine(theirs, redact, 200);
        return line === '' ? `The gateway: ${words}` : `The gateway: ${words} (${line})`;
      };

      const result = await options.http({
        method: 'POST',
        url: `${options.url}/api/v1/instances/${instanceId}/client/action/send-message`,
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json',
        },
        // A wrong suffix is accepted and delivers nothing: a person is always `<digits>@c.us`.
        body: JSON.stringify({
          chatId: `${message.to.replace(/\D/g, '')}@c.us`,
          message: message.text,
          previewLink: true,
        }),
      });
      if (result.kind === 'failure') return failedSend('The gateway', result.reason, result.sent);

      const body = parseJson(result.text);
      if (result.status !== 200) {
        const row = waapiStatuses.find((each) => each.status === result.status);
        const words = say(row?.says ?? `it answered ${result.status}`, textsOf(body));
        const pause = (fallback: number) =>
          retryAfterSeconds(result.headers.get('retry-after'), nowMs, { fallback });
        switch (row?.class) {
          case 'throttled': {
            return { kind: 'throttled', seconds: pause(row.seconds ?? 60), error: words };
          }
          case 'credentialBroken':
            return { kind: 'credentialBroken', error: words };
          case 'refused':
            return { kind: 'refused', error: words };
          case 'retry':
            return { kind: 'retry', error: words, afterSeconds: pause(row.seconds ?? 30) };
          default:
            return { kind: 'unknown', reason: words };
        }
      }

      const outer = envelope.safeParse(body);
      if (!outer.success)
        return { kind: 'unknown', reason: 'The gateway answered 200 with a body that is not understood' };
      if (outer.data.status === 'error' && outer.data.data?.status === 'success') {
        return { kind: 'unknown', reason: 'The gateway’s two envelopes contradict each other' };
      }
      if (outer.data.status === 'error') {
        // The request did not reach WhatsApp: usually the instance is starting or its phone is offline.
        return {
          kind: 'retry',
          error: say('the instance could not take the message', textsOf(body)),
          afterSeconds: 60,
        };
      }
      const inner = outer.data.data;
      if (outer.data.status !== 'success' || !inner) {
        return {
          kind: 'unknown',
          reason: 'The gateway answered 200 without saying whether the message was sent',
        };
      }
      if (inner.status === 'error') {
        return { kind: 'refused', error: say('the message was not sent', textsOf(inner)) };
      }
      if (inner.status !== 'success') {
        return {
          kind: 'unknown',
          reason: 'The gateway answered 200 without saying whether the message was sent',
        };
      }
      if (inner.instanceId != null && String(inner.instanceId) !== instanceId) {
        return { kind: 'unknown', reason: 'The gateway’s answer names another instance' };
      }
      return { kind: 'ok', value: { messageId: serializedIdIn(inner) } };
    },
  };
}
