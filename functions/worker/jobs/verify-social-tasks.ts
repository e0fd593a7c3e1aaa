// Verifies claimed social tasks: is there a comment of this participant under this post? Three answers: yes, no, and
// "can't know". Only a complete reading without an error may say no.
import { z } from 'zod';
import type { JobContext, JobHandler } from '../../_shared/drain.ts';
import { handBack } from '../../_shared/drain.ts';
import type { Credential, Item, TenantWork } from '../../_shared/engine.ts';
import { cut, type Failure, type ItemOutcome, outcomeOf, type ThrottleHint } from '../../_shared/outcome.ts';
import type { Comment, Meta, Surface } from '../../_shared/providers/meta.ts';

const timestamp = z.iso.datetime({ offset: true });

const claimSchema = z.object({
  completion_id: z.string(),
  kind: z.enum(['instagram_comment', 'facebook_comment']),
  post_id: z.union([z.string(), z.number().int().transform(String)]),
  code: z.string().nullish(),
  instagram_username: z.string().nullish(),
  facebook_user_id: z.string().nullish(),
  since: timestamp,
  deadline: timestamp,
  recheck_seconds: z.number().int().positive(),
});

interface Claim extends z.infer<typeof claimSchema> {
  item: Item;
  sinceMs: number;
}

interface Post {
  surface: Surface;
  postId: string;
  claims: Claim[];
}

/** Case, width, dashes and invisible characters as keyboards change them: none of it makes another code. */
function plain(text: string): string {
  return text
    .normalize('NFKC')
    .replace(/[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu, '')
    .replace(/[\p{Pd}\u2212]/gu, '-')
    .toLowerCase();
}

/** The code as a token: no letter and no digit touches it. */
export function containsCode(text: string, code: string): boolean {
  return hasToken(plain(text), plain(code).trim());
}

const inWord = /[\p{L}\p{N}\p{M}]/u;

/** Both are plain. No expression is compiled per pair: a page of comments and its claims are thousands of pairs, and CPU time is scarce. */
function hasToken(text: string, token: string): boolean {
  if (token === '') return false;
  for (let at = text.indexOf(token); at >= 0; at = text.indexOf(token, at + 1)) {
    const before = Array.from(text.slice(Math.max(0, at - 2), at)).at(-1) ?? '';
    const after = String.fromCodePoint(text.codePointAt(at + token.length) ?? 0x20);
    if (!inWord.test(before) && !inWord.test(after)) return true;
  }
  return false;
}

/** What a comment says and what a claim asks for, made plain once each. */
const plained = new WeakMap<object, string>();
function plainOnce(owner: object, text: string): string {
  let known = plained.get(owner);
  if (known === undefined) {
    known = plain(text).trim();
    plained.set(owner, known);
  }
  return known;
}

/** An Instagram name as it is compared: lower-case, without @. */
export function plainUsername(username: string): string {
  return plain(username).trim().replace(/^@+/, '');
}

/** The claimed author, in the form in which comments of this surface name theirs; null when nobody was named. */
function authorOf(surface: Surface, claim: Claim): string | null {
  const named =
    surface === 'instagram' ? plainUsername(claim.instagram_username ?? '') : claim.facebook_user_id?.trim();
  return named || null;
}

function nameIn(surface: Surface, comment: Comment): string | null {
  if (surface === 'facebook') return comment.authorId;
  return comment.username === null ? null : plainUsername(comment.username);
}

function matches(surface: Surface, comment: Comment, claim: Claim): boolean {
  // Meta's times are whole seconds.
  if (comment.at !== null && comment.at < Math.floor(claim.sinceMs / 1000) * 1000) return false;
  if (hasToken(plainOnce(comment, comment.text), plainOnce(claim, claim.code ?? ''))) return true;
  const author = authorOf(surface, claim);
  return author !== null && nameIn(surface, comment) === author;
}

/** How the reading of one post ended. */
type Reading =
  | { end: 'complete'; comments: number; authorless: boolean; hint?: ThrottleHint }
  | { end: 'incomplete'; reason: string; hint?: ThrottleHint }
  | { end: 'failed'; failure: Failure }
  | { end: 'lease_lost' };

export interface VerifyOptions {
  meta: Meta;
  /** Pages read of one post before the answer is "can't know": 20 are 1,000 comments on Instagram, 2,000 on a Page. */
  maximumPages?: number;
}

/** After this many posts in a row without an answer, the provider is left alone for a while. */
const failuresInARow = 2;
const pauseAfterFailures = 30;
const missingSeconds = 60;

export function createVerifySocialTasks(options: VerifyOptions): JobHandler {
  const { meta } = options;
  const maximumPages = options.maximumPages ?? 20;

  return async (work, context) => {
    const claims = readClaims(work, context);
    const credential = work.credential;
    if (credential === null) {
      // It went away after the claim: the next claim sees that and puts the lane to sleep.
      context.report(
        ...handBack(
          claims.map((claim) => claim.item),
          'there is no Meta credential',
          missingSeconds,
        ),
      );
      return;
    }

    let stop: ((itemId: number) => ItemOutcome) | undefined;
    let failures = 0;
    for (const post of postsOf(claims)) {
      if (context.leaseIsLost()) return;
      if (stop !== undefined) {
        const stopped = stop;
        context.report(...post.claims.map((claim) => stopped(claim.item.item_id)));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(
          ...handBack(
            post.claims.map((claim) => claim.item),
            'the drain’s time was up',
          ),
        );
        continue;
      }

      const open = new Set(post.claims);
      const items = post.claims.map((claim) => claim.item);
      const reading = await context.within(items, () => read(post, credential, open, context));
      const settled = [...open];
      if (reading.end === 'lease_lost') return;
      if (
        reading.end === 'failed' &&
        reading.failure.kind !== 'refused' &&
        reading.failure.kind !== 'unknown'
      ) {
        const { failure } = reading;
        context.log.warn('post could not be read', {
          post: post.postId,
          items: settled.map((claim) => String(claim.item.item_id)),
          trace_ids: settled.map((claim) => claim.item.trace_id),
          outcome: failure.kind,
          error: failure.error,
        });
        context.report(...settled.map((claim) => outcomeOf(claim.item.item_id, failure)));
        if (failure.kind !== 'retry') stop = (itemId) => outcomeOf(itemId, failure);
        else if (++failures >= failuresInARow) {
          const reason = cut(`paused: ${failure.error}`);
          stop = (itemId) => ({ item_id: itemId, outcome: 'snooze', seconds: pauseAfterFailures, reason });
        }
        continue;
      }

      failures = 0;
      const hint = reading.end === 'failed' ? undefined : reading.hint;
      const proof = await context.within(items, () => judge(post, credential, reading, settled, context));
      context.report(...settled.map((claim) => verdictOn(claim, proof(claim), hint, context)));
      if (hint !== undefined) {
        stop = (itemId) =>
          outcomeOf(itemId, { kind: 'throttled', seconds: hint.seconds, error: hint.reason });
      }
    }
  };

  /** Reads pages until every claim is found, the comments are older than all claims, or there are no more. */
  async function read(
    post: Post,
    credential: Credential,
    open: Set<Claim>,
    context: JobContext,
  ): Promise<Reading> {
    const oldest = Math.floor(Math.min(...post.claims.map((claim) => claim.sinceMs)) / 1000) * 1000;
    const own = [credential.account.ig_user_id, credential.account.page_id];
    const cursors = new Set<string>();
    let after: string | null = null;
    let comments = 0;
    let authorless = false;
    let hint: ThrottleHint | undefined;
    const withHint = <R extends object>(reading: R) => (hint === undefined ? reading : { ...reading, hint });

    for (let page = 1; page <= maximumPages; page++) {
      const nowMs = context.now().getTime();
      const outcome = await meta.commentPage(credential, {
        surface: post.surface,
        postId: post.postId,
        after,
        nowMs,
      });
      if (outcome.kind !== 'ok') return { end: 'failed', failure: outcome };
      hint = outcome.hint ?? hint;

      for (const comment of outcome.value.comments) {
        comments += 1;
        // The business answers with the code it read; that is no participant's comment.
        if (comment.authorId !== null && own.includes(comment.authorId)) continue;
        if (nameIn(post.surface, comment) === null) authorless = true;
        for (const claim of open) {
          if (!matches(post.surface, comment, claim)) continue;
          open.delete(claim);
          context.report({
            item_id: claim.item.item_id,
            outcome: 'done',
            result: {
              verdict: 'verified',
              evidence: {
                comment_id: comment.id,
                author_id: comment.authorId,
                commented_at: comment.at === null ? null : new Date(comment.at).toISOString(),
              },
            },
          });
        }
      }

      const times = outcome.value.comments.map((comment) => comment.at);
      const allOlder = times.length > 0 && times.every((at) => at !== null && at < oldest);
      after = outcome.value.after;
      if (open.size === 0 || allOlder || after === null) {
        return withHint({ end: 'complete', comments, authorless } as const);
      }
      if (cursors.has(after)) {
        return withHint({ end: 'incomplete', reason: 'Meta’s pages go in a circle' } as const);
      }
      cursors.add(after);
      if (context.leaseIsLost()) return { end: 'lease_lost' };
      if (hint !== undefined) return withHint({ end: 'incomplete', reason: hint.reason } as const);
      if (context.timeIsUp()) return { end: 'incomplete', reason: 'the drain’s time was up' };
    }
    return withHint({ end: 'incomplete', reason: `more than ${maximumPages} pages of comments` } as const);
  }

  /** For each claim that was not found: null when that proves absence, else why it does not. */
  async function judge(
    post: Post,
    credential: Credential,
    reading: Exclude<Reading, { end: 'lease_lost' }>,
    settled: readonly Claim[],
    context: JobContext,
  ): Promise<(claim: Claim) => string | null> {
    if (reading.end === 'failed') {
      const reason = reading.failure.kind === 'unknown' ? reading.failure.reason : reading.failure.error;
      return () => reason;
    }
    if (reading.end === 'incomplete') return () => reading.reason;
    const late = settled.some((claim) => isLate(claim, context));
    if (post.surface === 'facebook' && reading.comments === 0 && late) {
      // Read with a user's token, a Page post answers 200 with no comments at all.
      const who = await meta.whoAmI(credential, { nowMs: context.now().getTime() });
      const isPage =
        who.kind === 'ok' &&
        (post.postId.startsWith(`${who.value.id}_`) || who.value.id === credential.account.page_id);
      if (!isPage) return () => 'Meta shows no comments at all, and the token is not shown to be the Page’s';
    }
    return (claim) =>
      reading.authorless && authorOf(post.surface, claim) !== null
        ? 'some comments came without an author, so this person’s can’t be ruled out'
        : null;
  }
}

function isLate(claim: Claim, context: JobContext): boolean {
  return context.now().getTime() >= Date.parse(claim.deadline);
}

/** The outcome for a claim that was not found. `doubt` is null when absence is proven. */
function verdictOn(
  claim: Claim,
  doubt: string | null,
  hint: ThrottleHint | undefined,
  context: JobContext,
): ItemOutcome {
  const item_id = claim.item.item_id;
  if (isLate(claim, context)) {
    const result =
      doubt === null
        ? { verdict: 'failed', reason: 'not_found' }
        : { verdict: 'unknown', reason: cut(doubt, 300) };
    return { item_id, outcome: 'done', result };
  }
  if (hint !== undefined) {
    const seconds = Math.max(hint.seconds, claim.recheck_seconds);
    return outcomeOf(item_id, { kind: 'throttled', seconds, error: hint.reason });
  }
  const reason = doubt === null ? 'not found yet' : cut(`unknown: ${doubt}`, 300);
  return { item_id, outcome: 'snooze', seconds: claim.recheck_seconds, reason };
}

function readClaims(work: TenantWork, context: JobContext): Claim[] {
  const claims: Claim[] = [];
  for (const item of work.items) {
    const parsed = claimSchema.safeParse(item.data);
    if (parsed.success) {
      claims.push({ ...parsed.data, item, sinceMs: Date.parse(parsed.data.since) });
      continue;
    }
    const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
    context.report({
      item_id: item.item_id,
      outcome: 'refused',
      error: cut(`The item is not understood: ${fields}.`),
    });
  }
  return claims;
}

function postsOf(claims: readonly Claim[]): Post[] {
  const posts = new Map<string, Post>();
  for (const claim of claims) {
    const surface = claim.kind === 'instagram_comment' ? 'instagram' : 'facebook';
    const key = `${surface} ${claim.post_id}`;
    const post = posts.get(key) ?? { surface, postId: claim.post_id, claims: [] };
    post.claims.push(claim);
    posts.set(key, post);
  }
  return [...posts.values()];
}
