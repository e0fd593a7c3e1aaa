// Meta Graph API, for what a claimed task can be proven with: comments, photo tags, mentions, profiles, reactions; and
// for how many follow an account.
// https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-media/comments
// https://developers.facebook.com/docs/graph-api/reference/object/comments
// https://developers.facebook.com/docs/messenger-platform/instagram/features/user-profile
// https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-user
// https://developers.facebook.com/docs/graph-api/reference/page
// https://developers.facebook.com/docs/graph-api/batch-requests
import { z } from 'zod';
import type { Credential } from '../engine.ts';
import { describeFailure, type Http, parseJson } from '../http.ts';
import { brokenCredential, type Failure, type ProviderOutcome, type ThrottleHint } from '../outcome.ts';
import { createRedactor, type Redact } from '../redact.ts';
import { hmacHex } from '../signature.ts';
import { graphErrorIn, graphVersion } from './graph.ts';
import { failureOf, isConsentMissing, usageHint } from './meta-errors.ts';

export { metaErrors, usageHint } from './meta-errors.ts';

export interface Comment {
  id: string;
  text: string;
  /** Milliseconds since the epoch, to the second; null when Meta did not say. */
  at: number | null;
  /** Instagram- or page-scoped id; null when Meta withholds the author. */
  authorId: string | null;
  /** Instagram only. */
  username: string | null;
  /** Listed under the comment that it answers, out of the order by time: replies on Instagram. */
  nested: boolean;
}

export interface CommentPage {
  comments: Comment[];
  /** Cursor of the next page; null on the last one. */
  after: string | null;
  /** Whether some comment has more answers than are listed here. */
  isCut: boolean;
}

export type Surface = 'instagram' | 'facebook';

/** A medium of somebody else that names the account. Instagram tells the name of its owner, never the id. */
export interface Media {
  id: string;
  username: string | null;
  at: number | null;
}

export interface TagPage {
  media: Media[];
  /** Cursor of the next page; this edge never says whether there is one: the last page is the empty one. */
  after: string | null;
}

/** Where the account was mentioned: in the caption of a medium, or in a comment under it. */
export interface MentionPlace {
  mediaId: string;
  commentId: string | null;
}

export interface Mention extends Media {
  text: string;
}

export type Profile =
  /** The person has never written to the business: nothing can be read until that happens. */
  | { consent: false }
  /** `follows` is null when Meta did not say. */
  | { consent: true; username: string | null; follows: boolean | null };

export interface ReactionPage {
  reactions: { authorId: string; type: string | null }[];
  /** How many there are in all; null when Meta did not say. */
  total: number | null;
  after: string | null;
}

/** One outcome for each part of a call, in the order of the parts. */
export type Parts<T> = ProviderOutcome<ProviderOutcome<T>[]>;

interface Asked {
  nowMs: number;
}

export interface Meta {
  /** Newest comments first; replies are included. */
  commentPage(
    credential: Credential,
    request: Asked & { surface: Surface; postId: string; after: string | null },
  ): Promise<ProviderOutcome<CommentPage>>;
  /** Public media in which the Instagram account is tagged. */
  tagPage(
    credential: Credential,
    request: Asked & { accountId: string; after: string | null },
  ): Promise<ProviderOutcome<TagPage>>;
  /** At most `batchSize` places. */
  mentions(
    credential: Credential,
    request: Asked & { accountId: string; places: readonly MentionPlace[] },
  ): Promise<Parts<Mention>>;
  /** Who these people (Instagram-scoped ids) are to the business; at most `batchSizeOf` of them. */
  profiles(credential: Credential, request: Asked & { ids: readonly string[] }): Promise<Parts<Profile>>;
  /** Who reacted to a Page post, as far as Meta tells. */
  reactionPage(
    credential: Credential,
    request: Asked & { postId: string; after: string | null },
  ): Promise<ProviderOutcome<ReactionPage>>;
  /** How many follow an Instagram account or a Page; null when Meta did not say. */
  followers(
    credential: Credential,
    request: Asked & { surface: Surface; accountId: string },
  ): Promise<ProviderOutcome<{ followers: number | null }>>;
  /** The id of the account that the token stands for. A Page token answers the page's id. */
  whoAmI(credential: Credential, request: Asked): Promise<ProviderOutcome<{ id: string }>>;
}

/** Meta takes at most 50 parts in a batch call. */
export const batchSize = 50;

/** How many profiles one call of `profiles` takes: batches are not documented for Instagram's own host. */
export function batchSizeOf(credential: Credential): number {
  return credential.kind === 'instagram_login' ? 5 : batchSize;
}

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
    instagramComment.extend({
      replies: z.object({ data: z.array(instagramComment), paging: paging.nullish() }).nullish(),
    }),
  ),
  paging: paging.nullish(),
});
const facebookPage = z.object({ data: z.array(facebookComment), paging: paging.nullish() });

const mediaSchema = z.object({ id: idText, username: z.string().nullish(), timestamp: metaTime.nullish() });
const tagsSchema = z.object({ data: z.array(mediaSchema), paging: paging.nullish() });
const mentionSchema = z.object({
  mentioned_media: mediaSchema.extend({ caption: z.string().nullish() }).nullish(),
  mentioned_comment: mediaSchema.extend({ text: z.string().nullish() }).nullish(),
});
const profileSchema = z.object({
  id: idText.nullish(),
  username: z.string().nullish(),
  is_user_follow_business: z.boolean().nullish(),
});
const reactionsSchema = z.object({
  data: z.array(z.object({ id: idText, type: z.string().nullish() })),
  paging: paging.nullish(),
  summary: z.object({ total_count: z.number().int().nullish() }).nullish(),
});
const followersSchema = z.object({ id: idText, followers_count: z.number().int().nonnegative().nullish() });
const partSchema = z.object({
  code: z.number().int(),
  headers: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
  body: z.string(),
});

const instagramFields =
  'id,text,timestamp,username,from{id,username},replies{id,text,timestamp,username,from}';
const facebookFields = 'id,message,created_time,from{id,name}';
const profileFields = 'username,is_user_follow_business';

function toComment(comment: z.infer<typeof instagramComment>, nested: boolean): Comment {
  return {
    id: comment.id,
    text: comment.text ?? '',
    at: comment.timestamp ?? null,
    authorId: comment.from?.id ?? null,
    username: comment.username ?? comment.from?.username ?? null,
    nested,
  };
}

/** Null: there is another page, but no way to it. `next` is never followed, the URL is rebuilt from the cursor. */
function nextOf(page: {
  paging?: z.infer<typeof paging> | null | undefined;
}): { after: string | null } | null {
  const after = page.paging?.cursors?.after ?? null;
  if (typeof page.paging?.next !== 'string') return { after: null };
  return after === null || after === '' ? null : { after };
}

function parsePage(surface: Surface, text: string): CommentPage | null {
  const body = parseJson(text);
  if (surface === 'instagram') {
    const page = instagramPage.safeParse(body);
    const next = page.success ? nextOf(page.data) : null;
    if (!page.success || next === null) return null;
    const comments = page.data.data.flatMap((comment) => [
      toComment(comment, false),
      ...(comment.replies?.data ?? []).map((reply) => toComment(reply, true)),
    ]);
    const isCut = page.data.data.some(({ replies }) => typeof replies?.paging?.next === 'string');
    return { comments, isCut, ...next };
  }
  const page = facebookPage.safeParse(body);
  const next = page.success ? nextOf(page.data) : null;
  if (!page.success || next === null) return null;
  const comments = page.data.data.map((comment) => ({
    id: comment.id,
    text: comment.message ?? '',
    at: comment.created_time ?? null,
    authorId: comment.from?.id ?? null,
    username: null,
    nested: false,
  }));
  return { comments, isCut: false, ...next };
}

function toMedia(media: z.infer<typeof mediaSchema>): Media {
  return { id: media.id, username: media.username ?? null, at: media.timestamp ?? null };
}

function parseTags(text: string): TagPage | null {
  const page = tagsSchema.safeParse(parseJson(text));
  if (!page.success) return null;
  const after = page.data.data.length === 0 ? null : page.data.paging?.cursors?.after || null;
  return { media: page.data.data.map(toMedia), after };
}

/** Null also for an answer about something else than what was asked for. */
function parseMention(text: string, asked: string): Mention | null {
  const parsed = mentionSchema.safeParse(parseJson(text));
  if (!parsed.success) return null;
  const { mentioned_comment: comment, mentioned_media: media } = parsed.data;
  if ((comment ?? media)?.id !== asked) return null;
  if (comment) return { ...toMedia(comment), text: comment.text ?? '' };
  return media ? { ...toMedia(media), text: media.caption ?? '' } : null;
}

/** Null also for an answer about somebody else than who was asked about. */
function parseProfile(text: string, asked: string): Profile | null {
  const parsed = profileSchema.safeParse(parseJson(text));
  if (!parsed.success) return null;
  const { id, username, is_user_follow_business: follows } = parsed.data;
  if (id != null && id !== asked) return null;
  return { consent: true, username: username ?? null, follows: follows ?? null };
}

function parseReactions(text: string): ReactionPage | null {
  const page = reactionsSchema.safeParse(parseJson(text));
  const next = page.success ? nextOf(page.data) : null;
  if (!page.success || next === null) return null;
  const reactions = page.data.data.map(({ id, type }) => ({ authorId: id, type: type ?? null }));
  return { reactions, total: page.data.summary?.total_count ?? null, ...next };
}

/** A tenant gives ids, never paths. */
const isMetaId = (id: string): boolean => /^[A-Za-z0-9_-]{1,100}$/.test(id);

function notAnId(what: string, where = 'task'): Failure {
  return { kind: 'refused', error: `${what} is not a Meta id. Correct it in the ${where}.` };
}

const onlyPages = 'The credential is an Instagram login; it can’t read Facebook. Connect a Page.';
const onlyFacebookLogin =
  'The credential is an Instagram login; connect the account through Facebook Login for this';

function longer(a: ThrottleHint | undefined, b: ThrottleHint | undefined): ThrottleHint | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a.seconds >= b.seconds ? a : b;
}

function withHint<T>(value: T, hint: ThrottleHint | undefined): ProviderOutcome<T> {
  return hint === undefined ? { kind: 'ok', value } : { kind: 'ok', value, hint };
}

/** Only those that are read here: a value that no header may have would make the whole batch unreadable. */
function headersOf(part: z.infer<typeof partSchema>): Headers {
  const headers = new Headers();
  for (const { name, value } of part.headers ?? []) {
    const known = /^(x-app-usage|x-business-use-case-usage|retry-after)$/i.test(name);
    if (known && /^[\x20-\x7e]*$/.test(value)) headers.set(name, value);
  }
  return headers;
}

/** One read, alone or as a part of a batch. */
interface Read<T> {
  path: string;
  query: Record<string, string>;
  /** See `FailedRequest.optional`. */
  optional?: boolean;
  parse: (text: string) => T | null;
  /** What an error means that is an answer here. */
  asAnswer?: (text: string) => T | null;
}

/** A credential made ready for one call. */
interface Access {
  source: Credential['source'];
  token: string;
  host: string;
  /** https://developers.facebook.com/docs/graph-api/guides/secure-requests: valid for five minutes. */
  proof: Record<string, string>;
  redact: Redact;
}

export function createMeta(options: { http: Http; graphUrl: string; instagramUrl: string }): Meta {
  async function accessOf(credential: Credential, nowMs: number): Promise<Access | Failure> {
    const parts = credentialParts.safeParse({ kind: credential.kind, secret: credential.secret });
    if (!parts.success) {
      return brokenCredential('Meta', credential, parts.error.issues);
    }
    const { access_token: token, app_secret: appSecret } = parts.data.secret;
    const secrets = [token];
    const proof: Record<string, string> = {};
    if (appSecret) {
      proof.appsecret_time = String(Math.trunc(nowMs / 1000));
      proof.appsecret_proof = await hmacHex(appSecret, `${token}|${proof.appsecret_time}`);
      secrets.push(appSecret, proof.appsecret_proof);
    }
    const host = parts.data.kind === 'instagram_login' ? options.instagramUrl : options.graphUrl;
    return { source: credential.source, token, host, proof, redact: createRedactor(secrets) };
  }

  function judge<T>(
    access: Access,
    read: Read<T>,
    answer: { status: number; headers: Headers; text: string },
    nowMs: number,
  ): ProviderOutcome<T> {
    const { status, headers, text } = answer;
    if (status < 200 || status >= 300 || graphErrorIn(text) !== null) {
      const meant = read.asAnswer?.(text) ?? null;
      if (meant !== null) return withHint(meant, usageHint(headers));
      const { source, redact } = access;
      return failureOf({ source, optional: read.optional === true, status, headers, text, redact, nowMs });
    }
    const value = read.parse(text);
    if (value === null)
      return { kind: 'retry', error: `Meta answered ${status} with a body that is not understood` };
    return withHint(value, usageHint(headers));
  }

  async function get<T>(credential: Credential, read: Read<T>, nowMs: number): Promise<ProviderOutcome<T>> {
    const access = await accessOf(credential, nowMs);
    if ('kind' in access) return access;
    const query = new URLSearchParams({ ...read.query, ...access.proof });
    const result = await options.http({
      method: 'GET',
      url: `${access.host}/${graphVersion}/${read.path}?${query}`,
      headers: { authorization: `Bearer ${access.token}`, accept: 'application/json' },
    });
    if (result.kind === 'failure') return { kind: 'retry', error: describeFailure('Meta', result.reason) };
    return judge(access, read, result, nowMs);
  }

  /** Several reads in one call. Each counts for the limits; what is saved is the way. */
  async function batch<T>(
    credential: Credential,
    reads: readonly Read<T>[],
    nowMs: number,
  ): Promise<Parts<T>> {
    const access = await accessOf(credential, nowMs);
    if ('kind' in access) return access;
    const parts = reads.map((read) => ({
      method: 'GET',
      relative_url: `${read.path}?${new URLSearchParams(read.query)}`,
    }));
    // Usage is told in the headers of the parts: they are asked for, by not switching them off.
    const form = { access_token: access.token, ...access.proof, batch: JSON.stringify(parts) };
    const result = await options.http({
      method: 'POST',
      url: `${access.host}/${graphVersion}/`,
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
      body: new URLSearchParams(form).toString(),
    });
    if (result.kind === 'failure') return { kind: 'retry', error: describeFailure('Meta', result.reason) };
    const answers = z.array(z.unknown()).safeParse(parseJson(result.text));
    if (result.status < 200 || result.status >= 300 || !answers.success) {
      const failed: Read<never> = { path: '', query: {}, parse: () => null };
      const failure = judge(access, failed, result, nowMs);
      // The parse above never has a value.
      return failure.kind === 'ok' ? { kind: 'retry', error: 'Meta answered without a list' } : failure;
    }
    let hint = usageHint(result.headers);
    const outcomes = reads.map((read, index): ProviderOutcome<T> => {
      const part = partSchema.safeParse(answers.data[index] ?? null);
      if (!part.success) return { kind: 'retry', error: 'Meta did not finish this part of the batch' };
      const headers = headersOf(part.data);
      hint = longer(hint, usageHint(headers));
      return judge(access, read, { status: part.data.code, headers, text: part.data.body }, nowMs);
    });
    return withHint(outcomes, hint);
  }

  /** The reads whose ids are none stay at home; the others go in one batch, or one by one where there are no batches. */
  async function many<T>(
    credential: Credential,
    reads: readonly (Read<T> | Failure)[],
    nowMs: number,
  ): Promise<Parts<T>> {
    const going = reads.filter((read): read is Read<T> => !('kind' in read));
    if (going.length === 0) {
      return { kind: 'ok', value: reads.filter((read): read is Failure => 'kind' in read) };
    }
    let answered: Parts<T>;
    if (credential.kind === 'instagram_login') {
      const outcomes = await Promise.all(going.map((read) => get(credential, read, nowMs)));
      const hint = outcomes.reduce<ThrottleHint | undefined>(
        (most, outcome) => longer(most, outcome.kind === 'ok' ? outcome.hint : undefined),
        undefined,
      );
      answered = withHint(outcomes, hint);
    } else {
      answered = await batch(credential, going, nowMs);
    }
    if (answered.kind !== 'ok') return answered;
    const next = answered.value.values();
    const lost: Failure = { kind: 'retry', error: 'Meta did not finish this part of the batch' };
    const value = reads.map((read) => ('kind' in read ? read : (next.next().value ?? lost)));
    return { ...answered, value };
  }

  return {
    async commentPage(credential, { surface, postId, after, nowMs }) {
      if (!isMetaId(postId)) return notAnId('The post’s id');
      if (surface === 'facebook' && credential.kind === 'instagram_login') {
        return { kind: 'refused', error: onlyPages };
      }
      const query: Record<string, string> =
        surface === 'instagram'
          ? { fields: instagramFields, limit: '50' }
          : { fields: facebookFields, filter: 'stream', order: 'reverse_chronological', limit: '100' };
      if (after !== null) query.after = after;
      const parse = (text: string) => parsePage(surface, text);
      return await get(credential, { path: `${postId}/comments`, query, parse }, nowMs);
    },
    async tagPage(credential, { accountId, after, nowMs }) {
      if (!isMetaId(accountId)) return notAnId('The Instagram account’s id');
      if (credential.kind === 'instagram_login') return { kind: 'refused', error: onlyFacebookLogin };
      const query: Record<string, string> = { fields: 'id,username,timestamp', limit: '100' };
      if (after !== null) query.after = after;
      const read = { path: `${accountId}/tags`, query, optional: true, parse: parseTags };
      return await get(credential, read, nowMs);
    },
    async mentions(credential, { accountId, places, nowMs }) {
      if (!isMetaId(accountId)) return notAnId('The Instagram account’s id');
      if (credential.kind === 'instagram_login') return { kind: 'refused', error: onlyFacebookLogin };
      const reads = places.map((place): Read<Mention> | Failure => {
        const { mediaId, commentId } = place;
        if (!isMetaId(commentId ?? mediaId)) return notAnId('What the mention names');
        const fields =
          commentId === null
            ? `mentioned_media.media_id(${mediaId}){id,username,timestamp,caption}`
            : `mentioned_comment.comment_id(${commentId}){id,username,timestamp,text}`;
        const parse = (text: string) => parseMention(text, commentId ?? mediaId);
        return { path: accountId, query: { fields }, optional: true, parse };
      });
      return await many(credential, reads, nowMs);
    },
    async profiles(credential, { ids, nowMs }) {
      const asAnswer = (text: string): Profile | null => (isConsentMissing(text) ? { consent: false } : null);
      const reads = ids.map((id): Read<Profile> | Failure => {
        if (!isMetaId(id)) return notAnId('The person’s id');
        const parse = (text: string) => parseProfile(text, id);
        return { path: id, query: { fields: profileFields }, optional: true, parse, asAnswer };
      });
      return await many(credential, reads, nowMs);
    },
    async reactionPage(credential, { postId, after, nowMs }) {
      if (!isMetaId(postId)) return notAnId('The post’s id');
      if (credential.kind === 'instagram_login') {
        return { kind: 'refused', error: onlyPages };
      }
      const query: Record<string, string> = { fields: 'id,type', summary: 'total_count', limit: '100' };
      if (after !== null) query.after = after;
      const read = { path: `${postId}/reactions`, query, optional: true, parse: parseReactions };
      return await get(credential, read, nowMs);
    },
    async followers(credential, { surface, accountId, nowMs }) {
      if (!isMetaId(accountId)) return notAnId('The account’s id', 'credential');
      if (surface === 'facebook' && credential.kind === 'instagram_login') {
        return { kind: 'refused', error: onlyPages };
      }
      const parse = (text: string) => {
        const parsed = followersSchema.safeParse(parseJson(text));
        return parsed.success ? { followers: parsed.data.followers_count ?? null } : null;
      };
      const query = { fields: 'followers_count' };
      return await get(credential, { path: accountId, query, optional: true, parse }, nowMs);
    },
    async whoAmI(credential, { nowMs }) {
      const parse = (text: string) => {
        const parsed = z.object({ id: idText }).safeParse(parseJson(text));
        return parsed.success ? parsed.data : null;
      };
      return await get(credential, { path: 'me', query: { fields: 'id' }, parse }, nowMs);
    },
  };
}
