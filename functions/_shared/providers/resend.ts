// Resend: sending one e-mail, or up to 100 in one call. The idempotency key is kept for 24 hours, so what may have been
// carried out is sent again with the same key; a job whose retries took longer than that could send twice, none of ours does.
// https://resend.com/docs/api-reference/emails/send-email, …/send-batch-emails, https://resend.com/docs/api-reference/errors
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { describeFailure, type Http, parseJson, retryAfterSeconds } from '../http.ts';
import { brokenCredential, cut, type Failure, type ProviderOutcome, type ThrottleHint } from '../outcome.ts';
import { createRedactor, oneLine, type Redact, stringsIn } from '../redact.ts';

export interface EmailContent {
  /** 1 to 50 addresses. */
  to: readonly string[];
  /** Line breaks become spaces. */
  subject: string;
  text: string;
  html?: string;
}

export interface Email extends EmailContent {
  /** The sender where the credential names none. */
  from?: string;
  /** 1 to 256 characters; the same for every try of the same mail. */
  idempotencyKey: string;
}

/** Mails that leave in one call: all or none of them. */
export interface EmailBundle {
  /** The sender of all of them, whatever the credential names by now. */
  from: string;
  /** 1 to 100. */
  emails: readonly EmailContent[];
  /** The same for every try with the same mails in the same order. */
  idempotencyKey: string;
}

/** What became of the call. All that is neither `ok`, `unknown` nor `acceptedBefore` says that this call sent nothing. */
export type BundleOutcome =
  /** In the order of the mails. */
  | { kind: 'ok'; value: { messageIds: string[] }; hint?: ThrottleHint }
  /** The key was used before with another content, and accepted. */
  | { kind: 'acceptedBefore'; error: string }
  | { kind: 'unknown'; reason: string; afterSeconds?: number }
  /** `forItsContent`: the same mails would be refused at any time. */
  | { kind: 'refused'; error: string; forItsContent: boolean }
  | Extract<Failure, { kind: 'throttled' | 'credentialBroken' | 'retry' }>;

export interface EmailSender {
  sendEmail(
    credential: Credential,
    email: Email,
    request: { nowMs: number },
  ): Promise<ProviderOutcome<{ messageId: string }>>;
  sendBundle(credential: Credential, bundle: EmailBundle, request: { nowMs: number }): Promise<BundleOutcome>;
}

/** Resend's limit for one call. */
export const mailsPerBundle = 100;

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
const bundleAcceptedSchema = z.object({ data: z.array(acceptedSchema) });

/** Errors about what a request says. The same bytes get the same answer whenever they are sent. */
const aboutContent = new Set([
  'validation_error',
  'missing_required_field',
  'invalid_parameter',
  'invalid_attachment',
]);

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

  /** The call, once it is sure that it can be made; the failure else. */
  async function post(
    credential: Credential,
    request: {
      path: 'emails' | 'emails/batch';
      /** The sender that stands in where the credential names none, or the only one. */
      from: { fallback: string | undefined } | { always: string };
      idempotencyKey: string;
      emails: readonly EmailContent[];
    },
  ): Promise<
    | { kind: 'result'; result: Awaited<ReturnType<Http>> }
    | Extract<Failure, { kind: 'credentialBroken' | 'refused' }>
  > {
    const parts = credentialParts.safeParse(credential);
    if (!parts.success) {
      return brokenCredential('e-mail', credential, parts.error.issues);
    }
    const from =
      'always' in request.from ? request.from.always : (parts.data.account.from ?? request.from.fallback);
    if (from == null || !fromSchema.safeParse(from).success) {
      return {
        kind: 'credentialBroken',
        error: 'The e-mail credential names no sender: set account.from.',
      };
    }
    if (!idempotencyKeySchema.safeParse(request.idempotencyKey).success) {
      return { kind: 'refused', error: 'The idempotency key is not 1 to 256 printable characters.' };
    }
    const areAddresses = z.array(addressSchema).min(1).max(50);
    if (!request.emails.every((email) => areAddresses.safeParse(email.to).success)) {
      return { kind: 'refused', error: 'A recipient is not an e-mail address.' };
    }
    // Always the same fields in the same order: a key is bound to the bytes of its body.
    const bodies = request.emails.map((email) => ({
      from,
      to: email.to,
      subject: oneLineOf(email.subject),
      text: email.text,
      ...(email.html === undefined ? {} : { html: email.html }),
    }));
    const result = await options.http({
      method: 'POST',
      url: `${options.url}/${request.path}`,
      headers: {
        authorization: `Bearer ${parts.data.secret.api_key}`,
        'content-type': 'application/json',
        'idempotency-key': request.idempotencyKey,
        // Requests without one are refused.
        'user-agent': 'Onecron',
        // All or none: which mails a call consists of must be sure.
        ...(request.path === 'emails' ? {} : { 'x-batch-validation': 'strict' }),
      },
      body: JSON.stringify(request.path === 'emails' ? bodies[0] : bodies),
    });
    return { kind: 'result', result };
  }

  return {
    async sendEmail(credential, email, { nowMs }) {
      const called = await post(credential, {
        path: 'emails',
        from: { fallback: email.from },
        idempotencyKey: email.idempotencyKey,
        emails: [email],
      });
      if (called.kind !== 'result') return called;
      const { result } = called;
      if (result.kind === 'failure') {
        return { kind: 'retry', error: describeFailure('Resend', result.reason) };
      }
      const redact = createRedactor(stringsIn(credential.secret));
      if (result.status < 200 || result.status >= 300) {
        return failureOf(result.status, result.headers, result.text, redact, nowMs);
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

    async sendBundle(credential, bundle, { nowMs }) {
      const count = bundle.emails.length;
      if (count < 1 || count > mailsPerBundle) {
        const error = `A call takes 1 to ${mailsPerBundle} mails, not ${count}.`;
        return { kind: 'refused', error, forItsContent: true };
      }
      const called = await post(credential, {
        path: 'emails/batch',
        from: { always: bundle.from },
        idempotencyKey: bundle.idempotencyKey,
        emails: bundle.emails,
      });
      if (called.kind === 'refused') return { ...called, forItsContent: true };
      if (called.kind !== 'result') return called;
      const { result } = called;
      if (result.kind === 'failure') {
        const words = describeFailure('Resend', result.reason);
        return result.sent === 'no' ? { kind: 'retry', error: words } : { kind: 'unknown', reason: words };
      }
      const redact = createRedactor(stringsIn(credential.secret));
      if (result.status < 200 || result.status >= 300) {
        const name = errorNameIn(result.text);
        const failure = failureOf(result.status, result.headers, result.text, redact, nowMs);
        switch (failure.kind) {
          case 'refused': {
            const { error } = failure;
            if (name === 'invalid_idempotent_request') return { kind: 'acceptedBefore', error };
            return { kind: 'refused', error, forItsContent: name !== null && aboutContent.has(name) };
          }
          // Of an error at Resend, or while it is busy with the same call, nobody knows what will have happened.
          case 'retry':
            return {
              kind: 'unknown',
              reason: failure.error,
              ...(failure.afterSeconds === undefined ? {} : { afterSeconds: failure.afterSeconds }),
            };
          case 'unknown':
            return { kind: 'unknown', reason: failure.reason };
          default:
            return failure;
        }
      }
      const accepted = bundleAcceptedSchema.safeParse(parseJson(result.text));
      if (!accepted.success || accepted.data.data.length !== count) {
        return {
          kind: 'unknown',
          reason: `Resend answered ${result.status} with a body that is not understood`,
        };
      }
      const hint = hintIn(result.headers, nowMs);
      const messageIds = accepted.data.data.map(({ id }) => id);
      return { kind: 'ok', value: { messageIds }, ...(hint && { hint }) };
    },
  };
}

function errorNameIn(text: string): string | null {
  const parsed = errorSchema.safeParse(parseJson(text));
  return parsed.success ? parsed.data.name : null;
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
