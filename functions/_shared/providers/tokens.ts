// What Meta tells about a token, and a new one for an old one.
// https://developers.facebook.com/docs/graph-api/reference/debug_token
// https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived
// https://developers.facebook.com/docs/instagram-platform/reference/refresh_access_token
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { describeFailure, type Http, parseJson, retryAfterSeconds } from '../http.ts';
import { brokenCredential, type Failure, type ProviderOutcome } from '../outcome.ts';
import { createRedactor, oneLine, type Redact } from '../redact.ts';
import { hmacHex } from '../signature.ts';
import { describeGraphError, type GraphError, graphErrorIn, graphVersion, rowFor } from './graph.ts';
import { metaErrors } from './meta.ts';
import { whatsappErrors } from './whatsapp.ts';

export interface TokenFacts {
  /** ISO time; null: it has no end. Left out: nobody said. */
  expiresAt?: string | null;
  /** Names of permissions. */
  scopes?: string[];
}

export interface RenewedToken {
  accessToken: string;
  expiresAt: string | null;
}

export interface Tokens {
  /** `credentialBroken` when the token does not work any more. */
  check(credential: Credential, request: { nowMs: number }): Promise<ProviderOutcome<TokenFacts>>;
  /** A token with a new life. The old one goes on working. */
  renew(credential: Credential, request: { nowMs: number }): Promise<ProviderOutcome<RenewedToken>>;
}

const token = z.string().regex(/^[\x21-\x7e]+$/);
const credentialParts = z.object({
  kind: z.enum(['facebook_login', 'instagram_login', 'whatsapp_cloud']),
  account: z.object({
    app_id: z
      .union([z.string().regex(/^\d{1,40}$/), z.number().int().positive().transform(String)])
      .nullish(),
    phone_number_id: z
      .string()
      .regex(/^\d{1,40}$/)
      .nullish(),
  }),
  secret: z.object({ access_token: token, app_secret: token.nullish() }),
});
type Parts = z.infer<typeof credentialParts>;

const debugSchema = z.object({
  data: z.object({
    is_valid: z.boolean(),
    expires_at: z.number().int().nonnegative().nullish(),
    scopes: z.array(z.string()).nullish(),
    error: z
      .object({ code: z.number().nullish(), subcode: z.number().nullish(), message: z.string().nullish() })
      .nullish(),
  }),
});
const whoSchema = z.object({ id: z.union([z.string().min(1), z.number()]) });
const renewedSchema = z.object({ access_token: token, expires_in: z.number().positive().nullish() });

export interface TokensOptions {
  http: Http;
  graphUrl: string;
  instagramUrl: string;
  whatsappUrl: string;
}

export function createTokens(options: TokensOptions): Tokens {
  const hostOf = (kind: Parts['kind']) =>
    kind === 'instagram_login'
      ? options.instagramUrl
      : kind === 'whatsapp_cloud'
        ? options.whatsappUrl
        : options.graphUrl;
  const nameOf = (kind: Parts['kind']) => (kind === 'whatsapp_cloud' ? 'WhatsApp' : 'Meta');

  function words(kind: Parts['kind'], error: GraphError, redact: Redact): string {
    const row = rowFor<{
      code: number | readonly [number, number];
      subcode?: number;
      class: string;
      says: string;
    }>(kind === 'whatsapp_cloud' ? whatsappErrors : metaErrors, error);
    const says = row?.says ?? 'a code that is not known here';
    return describeGraphError(nameOf(kind), error, says, oneLine(error.message, redact, 200));
  }

  function failureOf(
    kind: Parts['kind'],
    answer: { status: number; headers: Headers; text: string },
    redact: Redact,
    nowMs: number,
  ): Failure {
    const pause = (fallback: number) =>
      retryAfterSeconds(answer.headers.get('retry-after'), nowMs, { fallback });
    const error = graphErrorIn(answer.text);
    if (error === null) {
      const said = `${nameOf(kind)} answered ${answer.status} without an error that can be read`;
      if (answer.status === 429) return { kind: 'throttled', seconds: pause(60), error: said };
      // Nobody's token is called broken for what a proxy says.
      return { kind: 'retry', error: said };
    }
    const said = words(kind, error, redact);
    if (isAboutToken(error.code)) return { kind: 'credentialBroken', error: said };
    if (throttles.has(error.code) || (error.code >= 80_000 && error.code <= 80_014)) {
      return { kind: 'throttled', seconds: pause(300), error: said };
    }
    if (passing.has(error.code) || answer.status >= 500) return { kind: 'retry', error: said };
    return { kind: 'refused', error: said };
  }

  async function get(
    parts: Parts,
    request: { path: string; query: Record<string, string>; bearer: string; versioned: boolean },
    nowMs: number,
  ): Promise<ProviderOutcome<string>> {
    const { kind, secret } = parts;
    const query = new URLSearchParams(request.query);
    const secrets = [secret.access_token, secret.app_secret ?? '', request.bearer];
    if (secret.app_secret && request.bearer === secret.access_token) {
      const time = String(Math.trunc(nowMs / 1000));
      const proof = await hmacHex(secret.app_secret, `${secret.access_token}|${time}`);
      query.set('appsecret_proof', proof);
      query.set('appsecret_time', time);
      secrets.push(proof);
    }
    const redact = createRedactor(secrets);
    const version = request.versioned ? `/${graphVersion}` : '';
    const result = await options.http({
      method: 'GET',
      url: `${hostOf(kind)}${version}/${request.path}?${query}`,
      headers: { authorization: `Bearer ${request.bearer}`, accept: 'application/json' },
    });
    if (result.kind === 'failure') {
      return { kind: 'retry', error: describeFailure(nameOf(kind), result.reason) };
    }
    if (result.status < 200 || result.status >= 300 || graphErrorIn(result.text) !== null) {
      return failureOf(kind, result, redact, nowMs);
    }
    return { kind: 'ok', value: result.text };
  }

  function partsOf(credential: Credential): Parts | Extract<Failure, { kind: 'credentialBroken' }> {
    const parts = credentialParts.safeParse(credential);
    if (parts.success) return parts.data;
    return brokenCredential('Meta', credential, parts.error.issues);
  }

  const notUnderstood = (kind: Parts['kind']): Failure => ({
    kind: 'retry',
    error: `${nameOf(kind)} answered with a body that is not understood`,
  });

  /** The smallest thing that the token must be able to read. */
  async function readSelf(parts: Parts, nowMs: number): Promise<ProviderOutcome<TokenFacts>> {
    const { kind, account, secret } = parts;
    const self = kind === 'whatsapp_cloud' ? (account.phone_number_id ?? 'me') : 'me';
    const fields = kind === 'instagram_login' ? 'user_id,username' : 'id';
    const request = { path: self, query: { fields }, bearer: secret.access_token, versioned: true };
    const answer = await get(parts, request, nowMs);
    // Nothing can be wrong with so small a question to Meta but who asks: the app's secret is missing or not the app's (100),
    // or the token is a person's (1705). All work would meet the same refusal. A WhatsApp token may send without reading.
    if (answer.kind === 'refused' && /^Meta (100|1705)\b/.test(answer.error)) {
      return { kind: 'credentialBroken', error: answer.error };
    }
    if (answer.kind !== 'ok') return answer;
    const body = parseJson(answer.value);
    const known =
      whoSchema.safeParse(body).success || z.object({ user_id: z.unknown() }).safeParse(body).success;
    return known ? { kind: 'ok', value: {} } : notUnderstood(kind);
  }

  return {
    async check(credential, { nowMs }) {
      const parts = partsOf(credential);
      if (parts.kind === 'credentialBroken') return parts;
      const { kind, account, secret } = parts;
      // An Instagram login's token is not known at the host that debugs tokens.
      if (kind === 'instagram_login' || !account.app_id || !secret.app_secret)
        return await readSelf(parts, nowMs);
      const answer = await get(
        parts,
        {
          path: 'debug_token',
          // The only place that the API has for it. No error and no log line holds a url.
          query: { input_token: secret.access_token },
          bearer: `${account.app_id}|${secret.app_secret}`,
          versioned: true,
        },
        nowMs,
      );
      // What the app may not do says nothing about the token: then the token speaks for itself.
      if (answer.kind === 'credentialBroken' || answer.kind === 'refused')
        return await readSelf(parts, nowMs);
      if (answer.kind !== 'ok') return answer;
      const parsed = debugSchema.safeParse(parseJson(answer.value));
      if (!parsed.success) return notUnderstood(kind);
      const { data } = parsed.data;
      if (!data.is_valid) {
        const subcode = data.error?.subcode ?? null;
        // Without a reason it may be the token of another app: that is no reason to stop its work.
        if (subcode === null) return await readSelf(parts, nowMs);
        const redact = createRedactor([secret.access_token, secret.app_secret]);
        const error = { code: data.error?.code ?? 190, subcode, message: data.error?.message ?? '' };
        return { kind: 'credentialBroken', error: words(kind, error, redact) };
      }
      const facts: TokenFacts = {};
      if (data.expires_at != null) facts.expiresAt = timeOf(data.expires_at);
      if (data.scopes != null) facts.scopes = data.scopes.slice(0, 100);
      return { kind: 'ok', value: facts };
    },

    async renew(credential, { nowMs }) {
      const parts = partsOf(credential);
      if (parts.kind === 'credentialBroken') return parts;
      const { kind, account, secret } = parts;
      let request: { path: string; query: Record<string, string>; bearer: string; versioned: boolean };
      if (kind === 'instagram_login') {
        const query = { grant_type: 'ig_refresh_token', access_token: secret.access_token };
        request = { path: 'refresh_access_token', query, bearer: secret.access_token, versioned: false };
      } else if (kind === 'facebook_login' && account.app_id && secret.app_secret) {
        const query = {
          grant_type: 'fb_exchange_token',
          client_id: account.app_id,
          client_secret: secret.app_secret,
          fb_exchange_token: secret.access_token,
        };
        request = {
          path: 'oauth/access_token',
          query,
          bearer: `${account.app_id}|${secret.app_secret}`,
          versioned: true,
        };
      } else {
        return {
          kind: 'refused',
          error: 'Only an app that gives its app_id and app_secret can renew this token.',
        };
      }
      const answer = await get(parts, request, nowMs);
      if (answer.kind !== 'ok') return answer;
      const parsed = renewedSchema.safeParse(parseJson(answer.value));
      if (!parsed.success) return notUnderstood(kind);
      const { access_token: accessToken, expires_in: seconds } = parsed.data;
      const expiresAt = seconds == null ? null : timeOf(Math.trunc(nowMs / 1000 + seconds));
      return { kind: 'ok', value: { accessToken, expiresAt } };
    },
  };
}

/** Seconds since the epoch; 0 means never. A time that no date can hold is none. */
function timeOf(seconds: number): string | null {
  return seconds === 0 || seconds > 253_402_300_799 ? null : new Date(seconds * 1000).toISOString();
}

const throttles = new Set([4, 17, 32, 341, 613]);
const passing = new Set([1, 2, 131_000, 131_016, 133_004]);

/** Codes that speak about the token or what it may do; nothing changes until somebody acts. */
function isAboutToken(code: number): boolean {
  return (
    [0, 3, 10, 102, 104, 190, 368, 131_005, 131_031, 133_010].includes(code) || (code >= 200 && code <= 299)
  );
}
