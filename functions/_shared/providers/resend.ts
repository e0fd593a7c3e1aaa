// Resend: sending one e-mail. The idempotency key is kept for 24 hours, so what may have been carried out is sent
// again with the same key; a job whose retries took longer than that could send twice, none of ours does.
// https://resend.com/docs/api-reference/emails/send-email, https://resend.com/docs/api-reference/errors
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { describeFailure, type Http, parseJson, retryAfterSeconds } from '../http.ts';
import { cut, type Failure, type ProviderOutcome, type ThrottleHint } from '../outcome.ts';
import { createRedactor, oneLine, type Redact, stringsIn } from '../redact.ts';

export interface Email {
  /** 1 to 50 addresses. */
  to: readonly string[];
  /** Line breaks become spaces. */
  subject: string;
  text: string;
  html?: string;
  /** The sender where the credential names none. */
  from?: string;
  /** 1 to 256 characters; the same for every try of the same mail. */
  idempotencyKey: string;
}

export interface EmailSender {
  sendEmail(
    credential: Credential,
    email: Email,
    request: { nowMs: number },
  ): Promise<ProviderOutcome<{ messageId: string }>>;
}

export interface ResendRow {
  name: string;
  /** Only with this status; a name may mean different things. */
  status?: number;
  class: 'retry' | 'throttled' | 'credentialBroken' | 'refused';
  /** In words for the person who has to do something. */
  says: string;
  /** How long to leave it alone: what Resend says comes first, except for a quota, which outlasts its headers. */
  seconds?: number | 'next day' | 'next month';
}

export const resendErrors: readonly ResendRow[] = [
  {
    name: 'invalid_idempotency_key',
    class: 'refused',
    says: 'the idempotency key is not 1 to 256 characters',
  },
  // With 403 it is about the sender: a domain that is not verified, or an account that may only mail itself.
  {
    name: 'validation_error',
    status: 403,
    class: 'credentialBroken',
    says: 'the sender’s domain is not verified; verify it or change "from"',
  },
  { name: 'validation_error', class: 'refused', says: 'a field is not valid' },
  { name: 'missing_api_key', class: 'credentialBroken', says: 'there is no API key; set it again' },
  {
    name: 'restricted_api_key',
    class: 'credentialBroken',
    says: 'the API key may not send; set another one',
  },
  { name: 'invalid_api_key', class: 'credentialBroken', says: 'the API key is not valid; set it again' },
  { name: 'not_found', class: 'refused', says: 'there is nothing at this address; check RESEND_URL' },
  { name: 'method_not_allowed', class: 'refused', says: 'the method is not allowed; check RESEND_URL' },
  {
    name: 'invalid_idempotent_request',
    class: 'refused',
    says: 'a mail with this key and another content was accepted before',
  },
  {
    name: 'concurrent_idempotent_requests',
    class: 'retry',
    says: 'the same mail is being sent at this moment',
    seconds: 5,
  },
  { name: 'invalid_attachment', class: 'refused', says: 'an attachment is not valid' },
  {
    name: 'invalid_from_address',
    class: 'credentialBroken',
    says: 'the sender’s address is not valid; change "from"',
  },
  { name: 'invalid_access', class: 'refused', says: 'the access level is not valid' },
  { name: 'invalid_parameter', class: 'refused', says: 'a parameter is not valid' },
  { name: 'invalid_region', class: 'refused', says: 'the region is not valid' },
  { name: 'missing_required_field', class: 'refused', says: 'a field is missing' },
  { name: 'rate_limit_exceeded', class: 'throttled', says: 'too many requests in a second', seconds: 1 },
  {
    name: 'daily_quota_exceeded',
    class: 'throttled',
    says: 'the quota of the day is used up',
    seconds: 'next day',
  },
  {
    name: 'monthly_quota_exceeded',
    class: 'throttled',
    says: 'the quota of the month is used up',
    seconds: 'next month',
  },
  { name: 'security_error', class: 'refused', says: 'Resend found a security problem in the mail' },
  { name: 'application_error', class: 'retry', says: 'an error at Resend' },
  { name: 'internal_server_error', class: 'retry', says: 'an error at Resend' },
];

// Whether an address exists is Resend's business; what can't be one is sorted out here.
// A control character anywhere could begin another header.
const fromPattern =
  /^[^<>@\s\p{Cc}]+@[^<>@\s\p{Cc}]+\.[^<>@\s\p{Cc}]+$|^[^<>\p{Cc}\p{Zl}\p{Zp}]{1,200}<[^<>@\s\p{Cc}]+@[^<>@\s\p{Cc}]+\.[^<>@\s\p{Cc}]+>$/u;
const toPattern = /^[^<>@\s,;\p{Cc}]+@[^<>@\s,;\p{Cc}]+$/u;

const fromSchema = z.string().max(320).regex(fromPattern);
/** One address without a name. */
export const addressSchema = z.string().max(320).regex(toPattern);
/** Printable, since it travels as a header. */
export const idempotencyKeySchema = z.string().regex(/^[\x21-\x7e]{1,256}$/);

const credentialParts = z.object({
  account: z.object({ from: fromSchema.nullish() }),
  secret: z.object({ api_key: z.string().regex(/^[\x21-\x7e]+$/) }),
});
const errorSchema = z.object({ name: z.string(), message: z.string().catch('') });
const acceptedSchema = z.object({ id: z.string().min(1) });

export function createResend(options: { http: Http; url: string }): EmailSender {
  function failureOf(status: number, headers: Headers, text: string, redact: Redact, nowMs: number): Failure {
    const pause = (fallback: number) =>
      retryAfterSeconds(headers.get('retry-after') ?? headers.get('ratelimit-reset'), nowMs, { fallback });
    const parsed = errorSchema.safeParse(parseJson(text));
    const row = parsed.success
      ? (resendErrors.find((each) => each.name === parsed.data.name && each.status === status) ??
        resendErrors.find((each) => each.name === parsed.data.name && each.status === undefined))
      : undefined;
    if (!parsed.success || row === undefined) {
      const error = `Resend answered ${status} with an error that is not known here`;
      if (status === 429) return { kind: 'throttled', seconds: pause(60), error };
      if (status === 401 || status === 403) {
        return { kind: 'credentialBroken', error: `${error}; check the API key` };
      }
      if (status >= 500 || status === 408) return { kind: 'retry', error };
      return { kind: 'refused', error };
    }
    const theirs = oneLine(parsed.data.message, redact, 200);
    const error = cut(`Resend ${status} ${row.name}: ${row.says}${theirs === '' ? '' : ` (${theirs})`}`);
    switch (row.class) {
      case 'throttled': {
        const own = row.seconds ?? 60;
        return {
          kind: 'throttled',
          seconds: typeof own === 'number' ? pause(own) : untilNext(own, nowMs),
          error,
        };
      }
      case 'retry': {
        const own = typeof row.seconds === 'number' ? row.seconds : undefined;
        if (headers.get('retry-after') !== null)
          return { kind: 'retry', error, afterSeconds: pause(own ?? 1) };
        return own === undefined ? { kind: 'retry', error } : { kind: 'retry', error, afterSeconds: own };
      }
      default:
        return { kind: row.class, error };
    }
  }

  return {
    async sendEmail(credential, email, { nowMs }) {
      const parts = credentialParts.safeParse(credential);
      if (!parts.success) {
        const fields = parts.error.issues.map((issue) => issue.path.join('.')).join(', ');
        return { kind: 'credentialBroken', error: `The e-mail credential is incomplete: check ${fields}.` };
      }
      const from = parts.data.account.from ?? email.from;
      if (from == null || !fromSchema.safeParse(from).success) {
        return {
          kind: 'credentialBroken',
          error: 'The e-mail credential names no sender: set account.from.',
        };
      }
      if (!idempotencyKeySchema.safeParse(email.idempotencyKey).success) {
        return { kind: 'refused', error: 'The idempotency key is not 1 to 256 printable characters.' };
      }
      if (!z.array(addressSchema).min(1).max(50).safeParse(email.to).success) {
        return { kind: 'refused', error: 'A recipient is not an e-mail address.' };
      }
      const key = parts.data.secret.api_key;
      const result = await options.http({
        method: 'POST',
        url: `${options.url}/emails`,
        headers: {
          authorization: `Bearer ${key}`,
          'content-type': 'application/json',
          'idempotency-key': email.idempotencyKey,
          // Requests without one are refused.
          'user-agent': 'Onecron',
        },
        // Always the same fields in the same order: a key is bound to the bytes of its body.
        body: JSON.stringify({
          from,
          to: email.to,
          subject: oneLineOf(email.subject),
          text: email.text,
          ...(email.html === undefined ? {} : { html: email.html }),
        }),
      });
      if (result.kind === 'failure') {
        return { kind: 'retry', error: describeFailure('Resend', result.reason) };
      }
      if (result.status < 200 || result.status >= 300) {
        return failureOf(
          result.status,
          result.headers,
          result.text,
          createRedactor(stringsIn(credential.secret)),
          nowMs,
        );
      }
      const accepted = acceptedSchema.safeParse(parseJson(result.text));
      if (!accepted.success) {
        // The key makes a second try harmless.
        return {
          kind: 'retry',
          error: `Resend answered ${result.status} with a body that is not understood`,
        };
      }
      const hint = hintIn(result.headers, nowMs);
      return { kind: 'ok', value: { messageId: accepted.data.id }, ...(hint && { hint }) };
    },
  };
}

/** A subject is one line. */
function oneLineOf(subject: string): string {
  return subject.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** Seconds until the quota is new, in UTC. A month is looked at once a day: a larger plan may have been bought. */
function untilNext(unit: 'next day' | 'next month', nowMs: number): number {
  const now = new Date(nowMs);
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const at = unit === 'next day' ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1, 1);
  return Math.min(86_400, Math.max(1, Math.ceil((at - nowMs) / 1000)));
}

/** The next call would be one too many. */
function hintIn(headers: Headers, nowMs: number): ThrottleHint | undefined {
  if (headers.get('ratelimit-remaining')?.trim() !== '0') return undefined;
  const seconds = retryAfterSeconds(headers.get('ratelimit-reset'), nowMs, { fallback: 1 });
  return { seconds, reason: 'Resend’s rate limit is reached' };
}
