// Is there a comment of this person, or one with this code, under this post? One reading of a post answers all its
// claims, newest comments first.
import type { PostReading } from '../../_shared/engine.ts';
import type { ThrottleHint } from '../../_shared/outcome.ts';
import type { Comment, Surface } from '../../_shared/providers/meta.ts';
import {
  allAre,
  type Claim,
  type Evidence,
  type Finding,
  findingOf,
  groupBy,
  isFromBefore,
  isoOf,
  nowMsOf,
  type Round,
  type Step,
  type StepEnd,
  verified,
  wholeSecond,
} from './claims.ts';
import { codesIn, hasToken, plain, plainUsername } from './text.ts';

export function commentSteps(round: Round, claims: readonly Claim[]): Step[] {
  return [...groupBy(claims, (claim) => `${claim.kind} ${claim.postId}`).values()].map((ofPost) => {
    const postId = ofPost[0]?.postId ?? '';
    const surface: Surface = ofPost[0]?.kind === 'facebook_comment' ? 'facebook' : 'instagram';
    return {
      about: `comments of ${postId}`,
      claims: ofPost,
      run: () => readPost(round, surface, postId, ofPost),
    };
  });
}

/** The claimed author, in the forms in which comments of this surface may name theirs; empty when nobody was named. */
function authorsOf(surface: Surface, claim: Claim): string[] {
  const named = surface === 'instagram' ? [claim.instagramId, claim.username] : [claim.facebookId];
  return named.filter((name) => name !== null);
}

function namesIn(surface: Surface, comment: Comment): string[] {
  const username =
    surface === 'instagram' && comment.username !== null ? plainUsername(comment.username) : null;
  return [comment.authorId, username].filter((name) => name !== null && name !== '').map(String);
}

/** Whether some comment came without what this claim's author is known by, so that it may have been theirs. */
function cannotTell(
  surface: Surface,
  claim: Claim,
  withheld: { id: boolean; username: boolean; both: boolean },
): boolean {
  if (surface === 'facebook') return claim.facebookId !== null && withheld.id;
  if (claim.instagramId === null) return claim.username !== null && withheld.username;
  return claim.username === null ? withheld.id : withheld.both;
}

/** A comment with what is compared of it, made plain once. */
interface Seen {
  comment: Comment;
  text: string;
  names: readonly string[];
}

function matches(seen: Seen, claim: Claim, authors: readonly string[]): boolean {
  if (isFromBefore(seen.comment.at, claim)) return false;
  return hasToken(seen.text, claim.code) || authors.some((author) => seen.names.includes(author));
}

/** Where the last complete reading began: what is older is stored. */
function markOf(claims: readonly Claim[]): Claim['mark'] {
  return claims.reduce<Claim['mark']>((oldest, { mark }) => {
    if (mark === null || oldest === null) return mark ?? oldest;
    return (mark.atMs ?? 0) < (oldest.atMs ?? 0) ? mark : oldest;
  }, null);
}

/** A Page's comment comes with the id of its post before its own, or without. */
function shortId(commentId: string): string {
  return commentId.slice(commentId.lastIndexOf('_') + 1);
}

/** Whether this page goes down to the mark. A comment that was deleted is passed by its time, a whole page at once. */
function reaches(mark: Claim['mark'], comments: readonly Comment[]): boolean {
  const inOrder = comments.filter((comment) => !comment.nested);
  if (mark === null || inOrder.length === 0) return false;
  if (inOrder.some((comment) => shortId(comment.id) === shortId(mark.id))) return true;
  const { atMs } = mark;
  return atMs !== null && inOrder.every((comment) => comment.at !== null && comment.at < wholeSecond(atMs));
}

/** Reads pages until every claim is found, the rest is older than all claims or is known, or there are no more. */
async function readPost(
  round: Round,
  surface: Surface,
  postId: string,
  claims: readonly Claim[],
): Promise<StepEnd | null> {
  const { meta, credential, context } = round;
  const authors = new Map(claims.map((claim) => [claim, authorsOf(surface, claim)]));
  const open = new Set(claims);
  const oldest = wholeSecond(Math.min(...claims.map((claim) => claim.sinceMs)));
  // The Page's id stands before its post's, so that it is known with the platform's credential, too.
  const owner = surface === 'facebook' ? postId.split('_')[0] : null;
  const own = [credential.account.ig_user_id, credential.account.page_id, owner].map(String);
  const mark = markOf(claims);
  // The mark makes looking cheap. Only a reading of our own, down to where the claims begin, may say no.
  const mayStopAtMark = claims.every((claim) => claim.mark !== null && !claim.isLate);
  const seen: Seen[] = [];
  const found: { claim: Claim; comment: Comment }[] = [];
  const cursors = new Set<string>();
  let newest: Comment | null = null;
  let after: string | null = null;
  let hint: ThrottleHint | undefined;
  const withheld = { id: false, username: false, both: false };
  let isCut = false;
  let count = 0;

  /** Why the reading ended before its end; null: it did not. */
  let cutShort: string | null = null;
  /** Whether the mark was passed, so that between it and the newest comment there is no gap. */
  let passedMark = mark === null;
  for (let page = 1; ; page++) {
    const nowMs = nowMsOf(round);
    const outcome = await meta.commentPage(credential, { surface, postId, after, nowMs });
    if (outcome.kind !== 'ok') {
      hand(await tell(false));
      return { findings: allAre(open, findingOf(outcome)), hint };
    }
    hint = outcome.hint ?? hint;
    const { comments } = outcome.value;
    isCut ||= outcome.value.isCut;
    newest ??= comments.find((comment) => !comment.nested) ?? null;
    for (const comment of comments) {
      count += 1;
      // The business answers with the code it read; that is no participant's comment.
      if (comment.authorId !== null && own.includes(comment.authorId)) continue;
      const one: Seen = { comment, text: plain(comment.text).trim(), names: namesIn(surface, comment) };
      seen.push(one);
      withheld.id ||= comment.authorId === null;
      withheld.username ||= comment.username === null;
      withheld.both ||= comment.authorId === null && comment.username === null;
      for (const claim of open) {
        if (!matches(one, claim, authors.get(claim) ?? [])) continue;
        open.delete(claim);
        found.push({ claim, comment });
      }
    }

    const allOlder = comments.length > 0 && comments.every(({ at }) => at !== null && at < oldest);
    after = outcome.value.after;
    passedMark ||= after === null || reaches(mark, comments);
    const isComplete = allOlder || after === null || (mayStopAtMark && passedMark && mark !== null);
    const isLast = isComplete || open.size === 0;
    if (!isLast) {
      if (after !== null && cursors.has(after)) cutShort = 'Meta’s pages go in a circle';
      else if (hint !== undefined) cutShort = hint.reason;
      else if (context.timeIsUp()) cutShort = 'the drain’s time was up';
      else if (page >= round.maximumPages) cutShort = `more than ${round.maximumPages} pages of comments`;
      if (after !== null) cursors.add(after);
    }
    const isOver = isLast || cutShort !== null;
    // The database is told before any outcome: it only listens while an item of this post is at work, a claim that is
    // decided links no account any more, and of two comments with the same code the first one counts, not the newest.
    if (isOver) {
      hand(await tell(isComplete && passedMark));
      break;
    }
    if (context.leaseIsLost()) return null;
  }
  if (open.size === 0) return { findings: new Map(), hint };
  if (cutShort !== null) return { findings: allAre(open, { kind: 'unknown', reason: cutShort }), hint };

  const late = [...open].some((claim) => claim.isLate);
  if (surface === 'facebook' && count === 0 && late) {
    // Read with a user's token, a Page post answers 200 with no comments at all.
    const who = await meta.whoAmI(credential, { nowMs: nowMsOf(round) });
    const isPage =
      who.kind === 'ok' &&
      (postId.startsWith(`${who.value.id}_`) || who.value.id === credential.account.page_id);
    if (!isPage) {
      const reason = 'Meta shows no comments at all, and the token is not shown to be the Page’s';
      return { findings: allAre(open, { kind: 'unknown', reason }), hint };
    }
  }
  const nameless = 'some comments came without an author, so this person’s can’t be ruled out';
  const unlisted = 'a comment has more answers than Meta lists with it, so this person’s can’t be ruled out';
  const findings = new Map(
    Array.from(open, (claim): [Claim, Finding] => {
      if (isCut) return [claim, { kind: 'unknown', reason: unlisted }];
      return [
        claim,
        cannotTell(surface, claim, withheld)
          ? { kind: 'unknown', reason: nameless }
          : { kind: 'absent', reason: 'not_found' },
      ];
    }),
  );
  return { findings, hint };

  /** Hands in what was proven. An account that sent a code is named, unless the database has been told of it already. */
  function hand(isTold: boolean): void {
    const outcomes = found.map(({ claim, comment }) => {
      const sentCode = comment.authorId !== null && codesIn(comment.text).some((code) => isOf(claim, code));
      const account = { platform: surface, username: comment.username };
      return verified(claim, evidenceOf(comment), !isTold && sentCode ? account : undefined);
    });
    context.report(...outcomes);
  }

  /**
   * Stores what was read, and links the accounts that sent a code: of several the one that sent it first. Not when every
   * comment has proven a claim and has no other claim's code: then the outcomes say all of it, and a call costs more
   * (measured: 5,000 claims with codes, ten a post, took 4 s without these calls and 13 s with them). Answers whether it
   * was told.
   */
  async function tell(isComplete: boolean): Promise<boolean> {
    const comments = seen.map(({ comment }) => ({
      id: comment.id,
      at: isoOf(comment.at),
      author_id: comment.authorId,
      username: comment.username,
      codes: codesIn(comment.text),
    }));
    const proven = new Map<Comment, Claim[]>();
    for (const { claim, comment } of found) {
      proven.set(comment, [...(proven.get(comment) ?? []), claim]);
    }
    const saysAll = seen.every(({ comment }, index) => {
      const of = proven.get(comment);
      return of && comments[index]?.codes.every((code) => of.some((claim) => isOf(claim, code)));
    });
    if (saysAll) return false;
    const post: PostReading = {
      surface,
      post_id: postId,
      comments,
      newest: newest === null ? null : { id: newest.id, at: isoOf(newest.at) },
      complete: isComplete,
    };
    await context.recordComments(post);
    return true;
  }
}

function isOf(claim: Claim, code: string): boolean {
  return plain(code) === claim.code;
}

function evidenceOf(comment: Comment): Evidence {
  const { id, authorId, username } = comment;
  // A name where there is no id: one of them is needed to see that a person proves a task once.
  const named: Evidence = authorId === null && username !== null ? { author_username: username } : {};
  return { comment_id: id, author_id: authorId, ...named, commented_at: isoOf(comment.at) };
}
