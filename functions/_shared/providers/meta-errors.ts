// What Meta's error codes and usage headers mean for us.
import { z } from 'zod';
import { parseJson, retryAfterSeconds } from '../http.ts';
import type { Failure, ThrottleHint } from '../outcome.ts';
import { oneLine, type Redact } from '../redact.ts';
import { type CodeRow, describeGraphError, graphErrorIn, rowFor } from './graph.ts';

/**
 * What an error code means for us. `absent`: this object can't be read; that proves nothing about what is in it.
 * `permission`: this credential may not do this. A tenant's own is then broken, unless the read is one that nothing
 * else depends on; the platform's is only not allowed in here, and goes on working for all the others. `capability`:
 * the app as a whole lacks it. `role`: the person behind the token lost the account. `consent`: the person asked about
 * has never written to the business.
 */
export type MetaClass =
  | 'retry'
  | 'throttled'
  | 'credentialBroken'
  | 'capability'
  | 'permission'
  | 'role'
  | 'consent'
  | 'absent';

/** https://developers.facebook.com/docs/graph-api/guides/error-handling and …/overview/rate-limiting */
export const metaErrors: readonly CodeRow<MetaClass>[] = [
  { code: 1, class: 'retry', says: 'an unknown error at Meta' },
  { code: 2, class: 'retry', says: 'the service is down for the moment' },
  { code: 3, class: 'capability', says: 'the app lacks this capability; change it in the Meta app' },
  { code: 4, class: 'throttled', says: 'the app’s call limit is reached', seconds: 300 },
  {
    code: 10,
    class: 'permission',
    says: 'the permission is missing or was removed; reconnect the account',
  },
  { code: 17, class: 'throttled', says: 'the user’s call limit is reached', seconds: 300 },
  { code: 32, class: 'throttled', says: 'the page’s call limit is reached', seconds: 300 },
  {
    code: 100,
    class: 'absent',
    says: 'Meta did not accept a parameter; an app that requires the secret’s proof needs its app secret here',
  },
  { code: 100, subcode: 33, class: 'absent', says: 'it does not exist or this account may not see it' },
  { code: 102, class: 'credentialBroken', says: 'the session ended; reconnect the account' },
  { code: 190, class: 'credentialBroken', says: 'the token expired or is not valid; reconnect the account' },
  { code: 190, subcode: 458, class: 'credentialBroken', says: 'the app was removed; reconnect the account' },
  {
    code: 190,
    subcode: 459,
    class: 'credentialBroken',
    says: 'the user must log in at facebook.com and pass a check',
  },
  {
    code: 190,
    subcode: 460,
    class: 'credentialBroken',
    says: 'the password was changed; reconnect the account',
  },
  { code: 190, subcode: 463, class: 'credentialBroken', says: 'the token expired; reconnect the account' },
  {
    code: 190,
    subcode: 464,
    class: 'credentialBroken',
    says: 'the user is not confirmed; confirm it at facebook.com',
  },
  {
    code: 190,
    subcode: 467,
    class: 'credentialBroken',
    says: 'the token is not valid; reconnect the account',
  },
  {
    code: 190,
    subcode: 492,
    class: 'role',
    says: 'the user lost the role on the page; restore the role',
  },
  { code: [200, 299], class: 'permission', says: 'a permission is missing; reconnect the account' },
  { code: 230, class: 'consent', says: 'the person has not consented to share the profile' },
  { code: 341, class: 'throttled', says: 'the application’s limit is reached', seconds: 300 },
  {
    code: 368,
    class: 'credentialBroken',
    says: 'blocked for a policy violation; see the account’s status at Meta',
  },
  { code: 613, class: 'throttled', says: 'a custom call limit is reached', seconds: 300 },
  { code: 613, subcode: 1996, class: 'throttled', says: 'the call volume is inconsistent', seconds: 300 },
  { code: 1705, class: 'absent', says: 'called as a person, not as the Page; connect a Page token' },
  { code: 80000, class: 'throttled', says: 'the ads insights limit is reached', seconds: 300 },
  { code: 80001, class: 'throttled', says: 'too many calls to this Page', seconds: 300 },
  { code: 80002, class: 'throttled', says: 'too many calls to this Instagram account', seconds: 300 },
  { code: 80003, class: 'throttled', says: 'the custom audience limit is reached', seconds: 300 },
  { code: 80004, class: 'throttled', says: 'the ads management limit is reached', seconds: 300 },
  {
    code: 80004,
    subcode: 2446079,
    class: 'throttled',
    says: 'the ads management limit is reached',
    seconds: 300,
  },
  { code: 80005, class: 'throttled', says: 'the lead limit is reached', seconds: 300 },
  { code: 80006, class: 'throttled', says: 'the Messenger limit is reached', seconds: 300 },
  { code: 80007, class: 'throttled', says: 'the WhatsApp account’s limit is reached', seconds: 300 },
  { code: 80008, class: 'throttled', says: 'the WhatsApp management limit is reached', seconds: 300 },
];

/** Usage of a limit, in percent, from which on we stop by ourselves. At 100 Meta stops us, and for longer. */
const usageCeiling = 95;
const usagePause = 60;
const longestPause = 86_400;

const usage = z.looseObject({
  type: z.string().optional(),
  call_count: z.number().optional(),
  total_time: z.number().optional(),
  total_cputime: z.number().optional(),
  estimated_time_to_regain_access: z.number().optional(),
});
const businessUsage = z.record(z.string(), z.array(usage));

/** Limits of a business use case are those of one Page, Instagram or WhatsApp account; all others are the app's or the token's. */
const isAccountLimit = (code: number) => code >= 80_000 && code < 81_000;

/** Limits of things that are not done here; the header tells of them, too. */
const foreignLimits = /^(ads_|custom_audience|leadgen)/;

/** Reads `X-App-Usage` and `X-Business-Use-Case-Usage`; the time to regain access is given in minutes. */
export function usageHint(headers: Headers): ThrottleHint | undefined {
  const app = usage.safeParse(parseJson(headers.get('x-app-usage') ?? ''));
  const business = businessUsage.safeParse(parseJson(headers.get('x-business-use-case-usage') ?? ''));
  const ofAccounts = business.success ? Object.values(business.data).flat() : [];
  const all = [...(app.success ? [app.data] : []), ...ofAccounts];
  let hint: ThrottleHint | undefined;
  for (const one of all) {
    if (foreignLimits.test(one.type ?? '')) continue;
    const percent = Math.max(one.call_count ?? 0, one.total_time ?? 0, one.total_cputime ?? 0);
    const regainSeconds = (one.estimated_time_to_regain_access ?? 0) * 60;
    if (percent < usageCeiling && regainSeconds <= 0) continue;
    const seconds = Math.min(
      longestPause,
      Math.max(1, Math.ceil(regainSeconds > 0 ? regainSeconds : usagePause)),
    );
    if (hint === undefined || seconds > hint.seconds) {
      hint = { seconds, reason: `Meta reports ${percent} % of a call limit used` };
      if (ofAccounts.includes(one)) hint.scope = 'account';
    }
  }
  return hint;
}

/** What is known about the request that failed. */
export interface FailedRequest {
  /** `platform`: what it may not read here does not break it for the others. */
  source: 'tenant' | 'platform';
  /**
   * True for a read whose permission is not needed for anything else: without it this one kind of task can't be
   * checked, and the credential goes on working.
   */
  optional: boolean;
  status: number;
  headers: Headers;
  text: string;
  redact: Redact;
  nowMs: number;
}

/** The class of an answer that is an error, by its code and subcode. */
export function failureOf(request: FailedRequest): Failure {
  const { status, headers, nowMs } = request;
  const pause = (fallback: number) =>
    Math.max(
      retryAfterSeconds(headers.get('retry-after'), nowMs, { fallback }),
      usageHint(headers)?.seconds ?? 0,
    );
  const error = graphErrorIn(request.text);
  if (error === null) {
    // Not the Graph API that speaks: a proxy, a login page, a cut body. It proves nothing.
    const said = `Meta answered ${status} without an error that can be read`;
    if (status === 429) return { kind: 'throttled', seconds: pause(60), error: said };
    if (status === 401) return { kind: 'credentialBroken', error: `${said}; reconnect the account` };
    return { kind: 'retry', error: said };
  }
  const row = rowFor(metaErrors, error);
  const words = describeGraphError(
    'Meta',
    error,
    row?.says ?? 'a code that is not known here',
    oneLine(error.message, request.redact, 200),
  );
  switch (row?.class) {
    case 'throttled':
      return {
        ...{ kind: 'throttled', seconds: pause(row.seconds ?? 300), error: words },
        ...(isAccountLimit(error.code) && { scope: 'account' }),
      };
    case 'credentialBroken':
      return { kind: 'credentialBroken', error: words };
    case 'capability':
      return { kind: request.optional ? 'refused' : 'credentialBroken', error: words };
    case 'permission':
      return {
        kind: request.optional || request.source === 'platform' ? 'refused' : 'credentialBroken',
        error: words,
      };
    case 'role':
      return { kind: request.source === 'platform' ? 'refused' : 'credentialBroken', error: words };
    case 'absent':
    case 'consent':
      return { kind: 'refused', error: words };
    case 'retry':
      return { kind: 'retry', error: words };
    case undefined:
      return status === 429
        ? { kind: 'throttled', seconds: pause(60), error: words }
        : { kind: 'retry', error: words };
  }
}

/** Whether the person never wrote to the business, so that the profile is closed until that happens. */
export function isConsentMissing(text: string): boolean {
  const error = graphErrorIn(text);
  return error !== null && rowFor(metaErrors, error)?.class === 'consent';
}
