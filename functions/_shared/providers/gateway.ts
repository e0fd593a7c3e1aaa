// A WhatsApp gateway that Onecron has no client for: its tenant says what the request looks like and what a success is.
// The url is somebody else's: it is checked before each request, and what it answers reaches people in one line at most.
import { z } from 'zod';
import type { FetchChecked } from '../addresses.ts';
import { parseJson, retryAfterSeconds } from '../http.ts';
import { brokenCredential, type ProviderOutcome } from '../outcome.ts';
import { createRedactor, oneLine, stringsIn } from '../redact.ts';
import { failedSend, type MessageSender, type Sent } from './messages.ts';

const path = z.string().regex(/^[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60}){0,9}$/);
const credentialParts = z.object({
  account: z.object({
    method: z.enum(['POST', 'PUT']),
    url: z.string().min(1).max(2_000),
    headers: z
      .record(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,60}$/), z.string().max(1_000))
      .default({}),
    body: z.union([z.string(), z.record(z.string(), z.unknown())]),
    success: z.object({ path, equals: z.union([z.string(), z.number(), z.boolean()]) }),
    message_id_path: path.nullish(),
    error_path: path.nullish(),
    sender: z.string().nullish(),
  }),
  secret: z.object({ api_key: z.string().regex(/^[\x21-\x7e]+$/) }),
});
type Parts = z.infer<typeof credentialParts>;

type Values = Record<'number' | 'message' | 'sender' | 'api_key', string>;

const placeholder = /\{\{(number|message|sender|api_key)\}\}/g;

function fill(template: string, values: Values, encode: (value: string) => string): string {
  return template.replace(placeholder, (_, name: keyof Values) => encode(values[name]));
}

function fillAll(template: unknown, values: Values): unknown {
  if (typeof template === 'string') return fill(template, values, (value) => value);
  if (Array.isArray(template)) return template.map((each) => fillAll(each, values));
  if (typeof template === 'object' && template !== null) {
    return Object.fromEntries(Object.entries(template).map(([key, each]) => [key, fillAll(each, values)]));
  }
  return template;
}

const inJson = (value: string) => JSON.stringify(value).slice(1, -1);
/** A line break in a form is CR LF, and a lone half of a character has no encoding. */
const inUrl = (value: string) => encodeURIComponent(value.toWellFormed());

function requestOf({ account, secret }: Parts, number: string, message: string) {
  const values: Values = { number, message, sender: account.sender ?? '', api_key: secret.api_key };
  const headers: Record<string, string> = { accept: 'application/json', 'user-agent': 'Onecron' };
  for (const [name, value] of Object.entries(account.headers)) {
    headers[name.toLowerCase()] = fill(value, { ...values, message: '' }, (filled) => filled);
  }
  headers['content-type'] ??= 'application/json';
  const isForm = /^application\/x-www-form-urlencoded\b/i.test(headers['content-type']);
  const body =
    typeof account.body === 'string'
      ? fill(account.body, values, isForm ? inUrl : inJson)
      : JSON.stringify(fillAll(account.body, values));
  return { method: account.method, url: fill(account.url, values, inUrl), headers, body };
}

function at(value: unknown, dotted: string): unknown {
  let found = value;
  for (const step of dotted.split('.')) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, step)) return undefined;
    found = (found as Record<string, unknown>)[step];
  }
  return found;
}

export function createGateway(options: { fetchChecked: FetchChecked }): MessageSender {
  return {
    async sendText(credential, message, { nowMs }): Promise<ProviderOutcome<Sent>> {
      const parts = credentialParts.safeParse(credential);
      if (!parts.success) {
        return brokenCredential('gateway', credential, parts.error.issues);
      }
      if (!/^\+[1-9]\d{6,14}$/.test(message.to)) {
        return {
          kind: 'refused',
          error: 'The gateway needs a phone number, and this person’s is not known.',
        };
      }
      const { account, secret } = parts.data;
      if (/\{\{\s*api_key\s*\}\}/i.test(account.url) || account.url.includes(secret.api_key)) {
        const error =
          'The gateway’s url has the api_key in it. Put it into a header and set the credential again.';
        return { kind: 'credentialBroken', error };
      }
      const request = requestOf(parts.data, message.to.slice(1), message.text);
      if (Object.values(request.headers).some((value) => !/^[\x20-\x7e]*$/.test(value))) {
        return {
          kind: 'credentialBroken',
          error: 'A header of the gateway is not printable. Set the credential again.',
        };
      }
      const redact = createRedactor([secret.api_key]);
      const result = await options.fetchChecked(request);
      if (result.kind === 'refused') {
        const error = `The gateway’s url ${result.problem}. Set the credential again.`;
        return result.transient ? { kind: 'retry', error } : { kind: 'credentialBroken', error };
      }
      if (result.kind === 'failure') return failedSend('The gateway', result.reason, result.sent);

      const body = parseJson(result.text);
      const theirs = account.error_path ? stringsIn(at(body, account.error_path)).join(' ') : '';
      const say = (words: string) => {
        const line = oneLine(theirs, redact, 200);
        return line === '' ? `The gateway: ${words}` : `The gateway: ${words} (${line})`;
      };
      const { status } = result;
      if (status === 429) {
        const seconds = retryAfterSeconds(result.headers.get('retry-after'), nowMs, { fallback: 60 });
        return { kind: 'throttled', seconds, error: say('too many requests') };
      }
      if (status === 401 || status === 403) {
        return { kind: 'credentialBroken', error: say('the api_key is not valid; renew it') };
      }
      if (status === 404 || status === 405 || status === 410) {
        return { kind: 'credentialBroken', error: say('its url takes no messages; check it') };
      }
      // 408 and 5xx say that something went wrong on the way: the message may be out.
      if (status >= 500 || status === 408) return { kind: 'unknown', reason: say(`it answered ${status}`) };
      if (status >= 400) return { kind: 'refused', error: say(`it answered ${status}`) };

      const told = at(body, account.success.path);
      if (told === account.success.equals) {
        const id = account.message_id_path ? at(body, account.message_id_path) : undefined;
        const messageId =
          typeof id === 'string' || typeof id === 'number' ? redact(String(id)).slice(0, 200) : '';
        return { kind: 'ok', value: { messageId: messageId === '' ? null : messageId } };
      }
      if (told === undefined || told === null) {
        return {
          kind: 'unknown',
          reason: say(`it answered ${status} without saying whether the message was sent`),
        };
      }
      return { kind: 'refused', error: say('the message was not sent') };
    },
  };
}
