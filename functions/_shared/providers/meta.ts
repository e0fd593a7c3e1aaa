// Meta Graph API: the comments of an Instagram medium and of a Facebook Page post, one page at a time.
// https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-media/comments
// https://developers.facebook.com/docs/graph-api/reference/object/comments
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { describeFailure, type Http, parseJson, retryAfterSeconds } from '../http.ts';
import type { Failure, ProviderOutcome, ThrottleHint } from '../outcome.ts';
import { createRedactor, oneLine, type Redact } from '../redact.ts';
import { hmacHex } from '../signature.ts';
import { type CodeRow, describeGraphError, graphErrorIn, graphVersion, rowFor } from './graph.ts';

export interface Comment {
  id: string;
  text: string;
  /** Milliseconds since the epoch, to the second; null when Meta did not say. */
  at: number | null;
  /** Instagram- or page-scoped id; null when Meta withholds the author. */
  authorId: string | null;
  /** Instagram only. */
  username: string | null;
}

export interface CommentPage {
  comments: Comment[];
  /** Cursor of the next page; null on the last one. */
  after: string | null;
}

export type Surface = 'instagram' | 'facebook';

export interface Meta {
  /** Newest comments first; replies are included. */
  commentPage(
    credential: Credential,
    request: { surface: Surface; postId: string; after: string | null; nowMs: number },
  ): Promise<ProviderOutcome<CommentPage>>;
  /** The id of the account that the token stands for. A Page token answers the page's id. */
  whoAmI(credential: Credential, request: { nowMs: number }): Promise<ProviderOutcome<{ id: string }>>;
}

/**
 * What an error code means for us. `absent`: this object can't be read; that proves nothing about its comments.
 * `permission`: this credential may not read this account. A tenant's own is then broken; the platform's is only not
 * allowed in here, and goes on working for all the others.
 */
type MetaClass = 'retry' | 'throttled' | 'credentialBroken' | 'permission' | 'absent';

/** https://developers.facebook.com/docs/graph-api/guides/error-handling and …/overview/rate-limiting */
export const metaErrors: readonly CodeRow<MetaClass>[] = [
  { code: 1, class: 'retry', says: 'an unknown error at Meta' },
  { code: 2, class: 'retry', says: 'the service is down for the moment' },
  { code: 3, class: 'credentialBroken', says: 'the app lacks this capability; change it in the Meta app' },
  { code: 4, class: 'throttled', says: 'the app’s call limit is reached', seconds: 300 },
  {
    code: 10,
    class: 'permission',
    says: 'the permission is missing or was removed; reconnect the account',
  },
  { code: 17, class: 'throttled', says: 'the user’s call limit is reached', seconds: 300 },
  { code: 32, class: 'throttled', says: 'the page’s call limit is reached', seconds: 300 },
  { code: 100, class: 'absent', says: 'Meta did not accept a parameter of the request' },
  { code: 100, subcode: 33, class: 'absent', says: 'the post does not exist or this account may not see it' },
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
    class: 'permission',
    says: 'the user lost the role on the page; restore the role',
  },
  { code: [200, 299], class: 'permission', says: 'a permission is missing; reconnect the account' },
  { code: 230, class: 'absent', says: 'the person has not consented to share the profile' },
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

const credentialParts = z.object({
  kind: z.enum(['facebook_login', 'instagram_login']),
  secret: z.object({
    access_token: z
      .string()
      .min(1)
      .regex(/^[\x21-\x7e]+$/),
    app_secret: z.string().min(1).nullish(),
  }),
});

/** Usage of a limit, in percent, from which on we stop by ourselves. At 100 Meta stops us, and for longer. */
const usageCeiling = 95;
const usagePause = 60;
const longestPause = 86_400;

const usage = z.looseObject({
  call_count: z.number().optional(),
  total_time: z.number().optional(),
  total_cputime: z.number().optional(),
  estimated_time_to_regain_access: z.number().optional(),
});
const businessUsage = z.record(z.string(), z.array(usage));

/** Reads `X-App-Usage` and `X-Business-Use-Case-Usage`; the time to regain access is given in minutes. */
export function usageHint(headers: Headers): ThrottleHint | undefined {
  const app = usage.safeParse(parseJson(headers.get('x-app-usage') ?? ''));
  const business = businessUsage.safeParse(parseJson(headers.get('x-business-use-case-usage') ?? ''));
  const all = [
    ...(app.success ? [app.data] : []),
    ...(business.success ? Object.values(business.data).flat() : []),
  ];
  let hint: ThrottleHint | undefined;
  for (const one of all) {
    const percent = Math.max(one.call_count ?? 0, one.total_time ?? 0, one.total_cputime ?? 0);
    const regainSeconds = (one.estimated_time_to_regain_access ?? 0) * 60;
    if (percent < usageCeiling && regainSeconds <= 0) continue;
    const seconds = Math.min(
      longestPause,
      Math.max(1, Math.ceil(regainSeconds > 0 ? regainSeconds : usagePause)),
    );
    if (hint === undefined || seconds > hint.seconds) {
      hint = { seconds, reason: `Meta reports ${percent} % of a call limit used` };
    }
  }
  return hint;
}

// "2026-11-20T18:10:30+0000": not the form that Date.parse is bound to read.
const metaTime = z.string().transform((value) => {
  const at = Date.parse(value.replace(/([+-]\d{2})(\d{2})$/, '$1:$2'));
  return Number.isNaN(at) ? null : at;
});
const idText = z.union([z.string().min(1), z.number().int().transform(String)]);

const instagramComment = z.object({
  id: idText,
  text: z.string().nullish(),
  timestamp: metaTime.nullish(),
  username: z.string().nullish(),
  from: z.object({ id: idText.nullish(), username: z.string().nullish() }).nullish(),
});
const facebookComment = z.object({
  id: idText,
  message: z.string().nullish(),
  created_time: metaTime.nullish(),
  from: z.object({ id: idText.nullish() }).nullish(),
});
const paging = z.object({
  cursors: z.object({ after: z.string().nullish() }).nullish(),
  next: z.string().nullish(),
});
const instagramPage = z.object({
  data: z.array(
    instagramComment.extend({ replies: z.object({ data: z.array(instagramComment) }).nullish() }),
  ),
  paging: paging.nullish(),
});
const facebookPage = z.object({ data: z.array(facebookComment), paging: paging.nullish() });

const instagramFields =
  'id,text,timestamp,username,from{id,username},replies{id,text,timestamp,username,from}';
const facebookFields = 'id,message,created_time,from{id,name}';

function toComment(comment: z.infer<typeof instagramComment>): Comment {
  return {
    id: comment.id,
    text: comment.text ?? '',
    at: comment.timestamp ?? null,
    authorId: comment.from?.id ?? null,
    username: comment.username ?? comment.from?.username ?? null,
  };
}

function parsePage(surface: Surface, text: string): CommentPage | null {
  const body = parseJson(text);
  const page = (surface === 'instagram' ? instagramPage : facebookPage).safeParse(body);
  if (!page.success) return null;
  // `next` says that there is more; its URL is never followed, the cursor is taken and the URL rebuilt.
  const more = typeof page.data.paging?.next === 'string';
  const after = page.data.paging?.cursors?.after ?? null;
  if (more && (after === null || after === '')) return null;
  let comments: Comment[];
  if (surface === 'instagram') {
    const data = instagramPage.parse(body).data;
    comments = data.flatMap((comment) => [
      toComment(comment),
      ...(comment.replies?.data ?? []).map(toComment),
    ]);
  } else {
    comments = facebookPage.parse(body).data.map((comment) => ({
      id: comment.id,
      text: comment.message ?? '',
      at: comment.created_time ?? null,
      authorId: comment.from?.id ?? null,
      username: null,
    }));
  }
  return { comments, after: more ? after : null };
}

export function createMeta(options: { http: Http; graphUrl: string; instagramUrl: string }): Meta {
  function failureOf(
    source: Credential['source'],
    status: number,
    headers: Headers,
    text: string,
    redact: Redact,
    nowMs: number,
  ): Failure {
    const hint = usageHint(headers);
    const pause = (fallback: number) =>
      Math.max(retryAfterSeconds(headers.get('retry-after'), nowMs, { fallback }), hint?.seconds ?? 0);
    const error = graphErrorIn(text);
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
      oneLine(error.message, redact, 200),
    );
    switch (row?.class) {
      case 'throttled':
        return { kind: 'throttled', seconds: pause(row.seconds ?? 300), error: words };
      case 'credentialBroken':
        return { kind: 'credentialBroken', error: words };
      case 'permission':
        return { kind: source === 'platform' ? 'refused' : 'credentialBroken', error: words };
      case 'absent':
        return { kind: 'refused', error: words };
      case 'retry':
        return { kind: 'retry', error: words };
      case undefined:
        return status === 429
          ? { kind: 'throttled', seconds: pause(60), error: words }
          : { kind: 'retry', error: words };
    }
  }

  async function get<T>(
    credential: Credential,
    path: string,
    query: Record<string, string>,
    nowMs: number,
    parse: (text: string) => T | null,
  ): Promise<ProviderOutcome<T>> {
    const parts = credentialParts.safeParse({ kind: credential.kind, secret: credential.secret });
    if (!parts.success) {
      const fields = parts.error.issues.map((issue) => issue.path.join('.')).join(', ');
      return { kind: 'credentialBroken', error: `The Meta credential is incomplete: check ${fields}.` };
    }
    const { access_token: token, app_secret: appSecret } = parts.data.secret;
    const secrets = [token];
    const params = new URLSearchParams(query);
    if (appSecret) {
      // https://developers.facebook.com/docs/graph-api/guides/secure-requests: valid for five minutes.
      const time = String(Math.trunc(nowMs / 1000));
      const proof = await hmacHex(appSecret, `${token}|${time}`);
      params.set('appsecret_proof', proof);
      params.set('appsecret_time', time);
      secrets.push(appSecret, proof);
    }
    const redact = createRedactor(secrets);
    const host = parts.data.kind === 'instagram_login' ? options.instagramUrl : options.graphUrl;
    const result = await options.http({
      method: 'GET',
      url: `${host}/${graphVersion}/${path}?${params}`,
      headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
    });
    if (result.kind === 'failure') return { kind: 'retry', error: describeFailure('Meta', result.reason) };
    if (result.status < 200 || result.status >= 300 || graphErrorIn(result.text) !== null) {
      return failureOf(credential.source, result.status, result.headers, result.text, redact, nowMs);
    }
    const value = parse(result.text);
    if (value === null)
      return { kind: 'retry', error: `Meta answered ${result.status} with a body that is not understood` };
    const hint = usageHint(result.headers);
    return hint === undefined ? { kind: 'ok', value } : { kind: 'ok', value, hint };
  }

  return {
    async commentPage(credential, { surface, postId, after, nowMs }) {
      // A tenant gives ids, never paths.
      if (!/^[A-Za-z0-9_-]{1,100}$/.test(postId)) {
        return { kind: 'refused', error: 'The post’s id is not a Meta id. Correct it in the task.' };
      }
      if (surface === 'facebook' && credential.kind === 'instagram_login') {
        return {
          kind: 'refused',
          error: 'The credential is an Instagram login; it can’t read Facebook. Connect a Page.',
        };
      }
      const query: Record<string, string> =
        surface === 'instagram'
          ? { fields: instagramFields, limit: '50' }
          : { fields: facebookFields, filter: 'stream', order: 'reverse_chronological', limit: '100' };
      if (after !== null) query.after = after;
      return await get(credential, `${postId}/comments`, query, nowMs, (text) => parsePage(surface, text));
    },
    async whoAmI(credential, { nowMs }) {
      return await get(credential, 'me', { fields: 'id' }, nowMs, (text) => {
        const parsed = z.object({ id: idText }).safeParse(parseJson(text));
        return parsed.success ? parsed.data : null;
      });
    },
  };
}
