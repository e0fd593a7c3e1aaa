// WhatsApp Cloud API: sending a text or a template. It has no idempotency key; what may have been carried out is never
// repeated. 200 means accepted, not delivered: what became of a message comes as a webhook.
// https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { type Http, parseJson, retryAfterSeconds } from '../http.ts';
import { brokenCredential } from '../outcome.ts';
import { createRedactor, oneLine, type Redact, stringsIn } from '../redact.ts';
import { type CodeRow, describeGraphError, graphErrorIn, graphVersion, rowFor } from './graph.ts';
import {
  failedSend,
  isNumber,
  isUserId,
  type MessageSender,
  type Recipient,
  type SendOutcome,
  type Template,
} from './messages.ts';

/**
 * What an error code means for us; nothing was sent. `failed`: this message is over, and its code matters to whoever
 * decides about the next one. `template`: the same, and the template is not fit to be sent. `stopped`: the same, and the
 * whole account should rest. `window`: a template may be sent instead. `pair`: this recipient has to wait.
 */
type WhatsAppClass =
  | 'retry'
  | 'throttled'
  | 'credentialBroken'
  | 'refused'
  | 'failed'
  | 'template'
  | 'stopped'
  | 'window'
  | 'pair';

/**
 * https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. The HTTP status of a code changes from
 * one version of that page to the next; it is never looked at where there is a code.
 */
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
  { code: 368, class: 'stopped', says: 'blocked for a policy violation; see WhatsApp Manager' },
  { code: 80007, class: 'throttled', says: 'the WhatsApp account’s limit is reached', seconds: 300 },
  { code: 130429, class: 'throttled', says: 'the number’s throughput is reached', seconds: 30 },
  { code: 130472, class: 'failed', says: 'the recipient is part of an experiment of Meta' },
  { code: 131000, class: 'retry', says: 'something went wrong at WhatsApp' },
  { code: 131005, class: 'credentialBroken', says: 'access denied; check the permissions of the token' },
  { code: 131008, class: 'refused', says: 'a parameter is missing' },
  { code: 131009, class: 'refused', says: 'a parameter’s value is not valid' },
  { code: 131016, class: 'retry', says: 'the service is not available for the moment' },
  {
    code: 131026,
    class: 'failed',
    says: 'the message can’t be delivered: the number is not on WhatsApp, its app is too old, or it blocked us',
  },
  {
    code: 131030,
    class: 'refused',
    says: 'the recipient is not in the test number’s allowed list; add it there or use a real number',
  },
  { code: 131031, class: 'stopped', says: 'the account is locked; see WhatsApp Manager' },
  { code: 131042, class: 'stopped', says: 'a payment problem; settle it in WhatsApp Manager' },
  {
    code: 131047,
    class: 'window',
    says: 'more than 24 hours since the recipient wrote; only a template may be sent',
  },
  { code: 131048, class: 'stopped', says: 'too many messages were marked as spam; let the number rest' },
  {
    code: 131049,
    class: 'failed',
    says: 'not delivered, to keep the recipient from too much marketing; not again within 24 hours',
  },
  { code: 131050, class: 'failed', says: 'the recipient stopped marketing messages from this business' },
  { code: 131051, class: 'refused', says: 'the type of the message is not supported' },
  { code: 131056, class: 'pair', says: 'too many messages to this recipient in a short time' },
  { code: 131057, class: 'throttled', says: 'the number is in maintenance', seconds: 300 },
  { code: 132000, class: 'template', says: 'the number of the template’s parameters is wrong' },
  {
    code: 132001,
    class: 'template',
    says: 'the template does not exist in this language or is not approved',
  },
  { code: 132005, class: 'template', says: 'the template’s text is too long' },
  { code: 132007, class: 'template', says: 'the template violates a policy' },
  { code: 132012, class: 'template', says: 'a template parameter has the wrong format' },
  {
    code: 132015,
    class: 'template',
    says: 'the template is paused for its quality; edit it in WhatsApp Manager',
  },
  {
    code: 132016,
    class: 'template',
    says: 'the template was paused too often and is disabled; make a new one',
  },
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
  messages: z.array(z.object({ id: z.string().min(1), message_status: z.string().nullish() })).min(1),
});

/** WhatsApp's limit for `biz_opaque_callback_data`. */
const longestCallback = 512;

const digits = (value: string) => value.replace(/\D/g, '');

/** A parameter is one line without gaps: WhatsApp refuses line breaks, tabs, and more than four spaces in a row. */
const oneSpaced = (text: string) => text.replace(/\s+/g, ' ').trim();

function templateBody(template: Template): Record<string, unknown> {
  const parameters = template.parameters.map(({ name, text }) => ({
    type: 'text',
    ...(name === undefined ? {} : { parameter_name: name }),
    text: oneSpaced(text),
  }));
  return {
    name: template.name,
    language: { code: template.language },
    ...(parameters.length === 0 ? {} : { components: [{ type: 'body', parameters }] }),
  };
}

export function createWhatsApp(options: { http: Http; url: string }): Required<MessageSender> {
  function failureOf(
    status: number,
    headers: Headers,
    text: string,
    redact: Redact,
    nowMs: number,
  ): SendOutcome {
    const header = headers.get('retry-after');
    const pause = (fallback: number) => retryAfterSeconds(header, nowMs, { fallback });
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
    const retry = (): SendOutcome =>
      header === null
        ? { kind: 'retry', error: words }
        : { kind: 'retry', error: words, afterSeconds: pause(1) };
    switch (row?.class) {
      case 'throttled':
        return { kind: 'throttled', seconds: pause(row.seconds ?? 60), error: words };
      case 'credentialBroken':
        return { kind: 'credentialBroken', error: words };
      case 'refused':
        return { kind: 'refused', error: words };
      case 'failed':
        return { kind: 'failed', code: error.code, error: words, stops: 'nothing' };
      case 'template':
        return { kind: 'failed', code: error.code, error: words, stops: 'template' };
      case 'stopped':
        return { kind: 'failed', code: error.code, error: words, stops: 'sender' };
      case 'window':
        return { kind: 'windowClosed', error: words };
      case 'pair':
        return { kind: 'recipientBusy', error: words };
      case 'retry':
        return retry();
      case undefined:
        if (status === 429) return { kind: 'throttled', seconds: pause(60), error: words };
        // A readable refusal with a code of tomorrow: not sent below 500; above, nobody knows.
        return status < 500 ? retry() : { kind: 'unknown', reason: words };
    }
  }

  async function send(
    credential: Credential,
    { to, outboxId, callback = outboxId }: Recipient,
    content: Record<string, unknown>,
    nowMs: number,
  ): Promise<SendOutcome> {
    const parts = credentialParts.safeParse(credential);
    if (!parts.success) {
      return brokenCredential('WhatsApp', credential, parts.error.issues);
    }
    // Without plus and country code WhatsApp puts the business's own in front: a message to a stranger.
    if (!isNumber(to) && !isUserId(to)) {
      return {
        kind: 'refused',
        error: 'The recipient is neither a number with plus and country code nor a user id.',
      };
    }
    if (callback.length > longestCallback) {
      return { kind: 'refused', error: `The callback data has more than ${longestCallback} characters.` };
    }
    const token = parts.data.secret.access_token;
    const redact = createRedactor(stringsIn(credential.secret));
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
        ...(isUserId(to) ? { recipient: to } : { to }),
        ...content,
        biz_opaque_callback_data: callback,
      }),
    });
    if (result.kind === 'failure') return failedSend('WhatsApp', result.reason, result.sent);
    if (result.status < 200 || result.status >= 300 || graphErrorIn(result.text) !== null) {
      return failureOf(result.status, result.headers, result.text, redact, nowMs);
    }
    const accepted = acceptedSchema.safeParse(parseJson(result.text));
    const sent = accepted.success ? accepted.data.messages[0] : undefined;
    if (!accepted.success || sent === undefined) {
      return {
        kind: 'unknown',
        reason: `WhatsApp answered ${result.status} with a body that is not understood`,
      };
    }
    // `wa_id` may differ from what was asked for (Brazil, Mexico); `input` is our own word.
    const input = accepted.data.contacts?.[0]?.input;
    if (input && (isUserId(to) ? input !== to : digits(input) !== digits(to))) {
      return { kind: 'unknown', reason: 'WhatsApp’s answer names another recipient' };
    }
    return {
      kind: 'ok',
      value: {
        messageId: sent.id,
        ...(sent.message_status === 'held_for_quality_assessment' ? { held: true as const } : {}),
      },
    };
  }

  return {
    sendText: (credential, message, { nowMs }) =>
      send(credential, message, { type: 'text', text: { preview_url: true, body: message.text } }, nowMs),

    async sendTemplate(credential, message, { nowMs }) {
      const { parameters } = message.template;
      const named = parameters.filter(({ name }) => name !== undefined).length;
      if (named !== 0 && named !== parameters.length) {
        return { kind: 'refused', error: 'The template has parameters with and without a name.' };
      }
      if (parameters.some(({ text }) => oneSpaced(text) === '')) {
        return { kind: 'refused', error: 'A parameter of the template is empty.' };
      }
      return await send(
        credential,
        message,
        { type: 'template', template: templateBody(message.template) },
        nowMs,
      );
    },
  };
}
