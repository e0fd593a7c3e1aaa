// A claim as the worker knows it, and what may be answered to it. Only a definite no after the deadline fails a claim;
// "can't know" never does.
import { z } from 'zod';
import type { JobContext } from '../../_shared/drain.ts';
import type { Credential, Item, TenantWork } from '../../_shared/engine.ts';
import { cut, type Failure, type ItemOutcome, outcomeOf, type ThrottleHint } from '../../_shared/outcome.ts';
import type { MentionPlace, Meta } from '../../_shared/providers/meta.ts';
import { plain, plainUsername } from './text.ts';

const timestamp = z.iso.datetime({ offset: true });
const id = z.union([z.string().min(1), z.number().int().transform(String)]);

export const kinds = [
  'instagram_comment',
  'facebook_comment',
  'instagram_photo_tag',
  'instagram_mention',
  'instagram_follow',
  'facebook_reaction',
] as const;
export type Kind = (typeof kinds)[number];

/** Kinds that are about one post of the tenant. */
const kindsWithPost: readonly Kind[] = ['instagram_comment', 'facebook_comment', 'facebook_reaction'];

const claimSchema = z
  .object({
    completion_id: z.string(),
    kind: z.enum(kinds),
    post_id: id.nullish(),
    code: z.string().nullish(),
    /** The accounts that are linked to the person; the user name also when the campaign believes it unlinked. */
    author: z
      .object({
        instagram_id: id.nullish(),
        instagram_username: z.string().nullish(),
        facebook_id: id.nullish(),
      })
      .nullish(),
    instagram_username: z.string().nullish(),
    facebook_user_id: id.or(z.literal('')).nullish(),
    since: timestamp,
    deadline: timestamp,
    recheck_seconds: z.number().int().positive(),
    /** What saves calls must not cost a claim when it is not understood: then it is read as if it were not there. */
    known: z
      .record(z.string(), z.union([z.string(), z.number(), z.null()]))
      .nullish()
      .catch(null),
    stop_at: z.object({ id, at: timestamp.nullish() }).nullish().catch(null),
    asked: z.boolean().nullish().catch(null),
    mentions: z
      .array(z.object({ media_id: id, comment_id: id.nullish() }))
      .nullish()
      .catch(null),
  })
  .refine((claim) => claim.post_id || !kindsWithPost.includes(claim.kind), {
    path: ['post_id'],
    message: 'is missing',
  });

/** Ids, names and times; never a text, never a medium. */
export type Evidence = Record<string, string | number | null>;

export interface Claim {
  item: Item;
  kind: Kind;
  /** Empty where the kind has none. */
  postId: string;
  /** Plain; empty when there is none. */
  code: string;
  instagramId: string | null;
  /** Plain. */
  username: string | null;
  facebookId: string | null;
  sinceMs: number;
  /** Whether the deadline is over, by the database's clock when the work began: it is the same for looking and for judging. */
  isLate: boolean;
  recheckSeconds: number;
  known: Evidence | null;
  /** The newest comment of the last complete reading of the post: what is older has been stored. */
  mark: { id: string; atMs: number | null } | null;
  mentions: MentionPlace[];
  /** The person was asked to write to the account; whether that was done is found out by asking again. */
  isAsked: boolean;
}

/** The claims of a tenant's items. What is not understood is refused here; the others go on. */
export function readClaims(work: TenantWork, context: JobContext): Claim[] {
  const claims: Claim[] = [];
  const nowMs = context.now().getTime();
  for (const item of work.items) {
    const parsed = claimSchema.safeParse(item.data);
    if (!parsed.success) {
      const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
      context.report({
        item_id: item.item_id,
        outcome: 'refused',
        error: cut(`The item is not understood: ${fields}.`),
      });
      continue;
    }
    const { data } = parsed;
    // The author who is named there, or none: a name that only stands beside it was not found worth believing.
    const author = data.author ?? {
      instagram_id: null,
      instagram_username: data.instagram_username,
      facebook_id: data.facebook_user_id,
    };
    claims.push({
      item,
      kind: data.kind,
      postId: data.post_id ?? '',
      code: plain(data.code ?? '').trim(),
      instagramId: author.instagram_id ?? null,
      username: plainUsername(author.instagram_username ?? '') || null,
      facebookId: author.facebook_id?.trim() || null,
      sinceMs: Date.parse(data.since),
      isLate: nowMs >= Date.parse(data.deadline),
      recheckSeconds: data.recheck_seconds,
      known: data.known ?? null,
      mark: data.stop_at
        ? { id: data.stop_at.id, atMs: data.stop_at.at ? Date.parse(data.stop_at.at) : null }
        : null,
      mentions: (data.mentions ?? []).map((mention) => ({
        mediaId: mention.media_id,
        commentId: mention.comment_id ?? null,
      })),
      isAsked: data.asked ?? false,
    });
  }
  return claims;
}

/** What a reading says about a claim that it did not prove. */
export type Finding =
  /** It was looked for everywhere where it had to be: not there. */
  | { kind: 'absent'; reason: string }
  /** Not seen yet, and never seeing it would prove nothing: what is told by a webhook can be lost. */
  | { kind: 'unseen'; reason: string }
  | { kind: 'unknown'; reason: string }
  /** The person has to do something first. */
  | { kind: 'needs_user_action'; reason: string }
  /** Trouble with the call, not with the claim. */
  | Extract<Failure, { kind: 'throttled' | 'credentialBroken' | 'retry' }>;

/** A provider's failure as a finding: what can't be read is unknown, and only calls in trouble are trouble. */
export function findingOf(failure: Failure): Finding {
  switch (failure.kind) {
    case 'refused':
      return { kind: 'unknown', reason: failure.error };
    case 'unknown':
      return { kind: 'unknown', reason: failure.reason };
    default:
      return failure;
  }
}

/** How a step of the work ended: proven claims are reported by then, the others have a finding. */
export interface StepEnd {
  findings: Map<Claim, Finding>;
  hint?: ThrottleHint | undefined;
}

/** The work for some claims that are answered together, by as few calls as it takes. */
export interface Step {
  /** What is read, for the log: an id, never a text. */
  about: string;
  claims: readonly Claim[];
  /** Nobody is asked: no limit stops it. */
  isSilent?: true;
  /** Null: the lease is lost, and nothing more may be said. */
  run(): Promise<StepEnd | null>;
}

/** What every step works with: one tenant, one credential, one batch. */
export interface Round {
  meta: Meta;
  credential: Credential;
  context: JobContext;
  maximumPages: number;
}

export function nowMsOf(round: Round): number {
  return round.context.now().getTime();
}

/** Meta's times are whole seconds. */
export function isFromBefore(atMs: number | null, claim: Claim): boolean {
  return atMs !== null && atMs < wholeSecond(claim.sinceMs);
}

export function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

export function isoOf(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString();
}

/** `account`: what else is known of the author, who has shown to be the participant by sending the code. */
export function verified(
  claim: Claim,
  evidence: Evidence,
  account?: { platform: string; username: string | null },
): ItemOutcome {
  const result = { verdict: 'verified', evidence, ...(account !== undefined && { account }) };
  return { item_id: claim.item.item_id, outcome: 'done', result };
}

/** The same finding for all. */
export function allAre(claims: Iterable<Claim>, finding: Finding): Map<Claim, Finding> {
  return new Map(Array.from(claims, (claim) => [claim, finding]));
}

/** How often it is asked whether a person has written: a webhook usually tells of it sooner. */
const askedAgainSeconds = 900;

/** The outcome for a claim that was not proven. */
export function outcomeFor(claim: Claim, finding: Finding): ItemOutcome {
  const item_id = claim.item.item_id;
  switch (finding.kind) {
    case 'throttled':
    case 'credentialBroken':
    case 'retry':
      return outcomeOf(item_id, finding);
    case 'needs_user_action':
      if (claim.isAsked && !claim.isLate) {
        const seconds = Math.max(askedAgainSeconds, claim.recheckSeconds);
        return { item_id, outcome: 'snooze', seconds, reason: 'waiting for the person' };
      }
      return {
        item_id,
        outcome: 'done',
        result: { verdict: 'needs_user_action', reason: cut(finding.reason, 300) },
      };
    case 'absent':
      // A no can be told only about somebody who has written: the step was taken.
      if (claim.isAsked && !claim.isLate) return { item_id, outcome: 'done', result: { verdict: 'acted' } };
  }
  if (claim.isLate) {
    const verdict = finding.kind === 'absent' ? 'failed' : 'unknown';
    return { item_id, outcome: 'done', result: { verdict, reason: cut(finding.reason, 300) } };
  }
  const reason = finding.kind === 'unknown' ? cut(`unknown: ${finding.reason}`, 300) : 'not found yet';
  return { item_id, outcome: 'snooze', seconds: claim.recheckSeconds, reason };
}

export function groupBy<T>(all: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(one);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

export function chunksOf<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.slice(n * size, (n + 1) * size));
}

/** The tenant's own Instagram account in the credential, or why tags and mentions can't be asked for. */
export function instagramAccountOf(credential: Credential): { id: string } | { missing: string } {
  if (credential.source === 'platform') {
    return { missing: 'the platform’s access does not stand for this tenant’s Instagram account' };
  }
  if (credential.kind !== 'facebook_login') {
    return {
      missing: 'only an account connected through Facebook Login can be asked for tags and mentions',
    };
  }
  const account = id.safeParse(credential.account.ig_user_id);
  if (account.success) return { id: account.data };
  return { missing: 'the credential does not name the Instagram account (ig_user_id)' };
}
