// Did this person react to the Page post? Meta withholds who reacted unless it pleases: being listed proves it, not
// being listed proves nothing.
import type { ThrottleHint } from '../../_shared/outcome.ts';
import {
  allAre,
  type Claim,
  findingOf,
  groupBy,
  isoOf,
  nowMsOf,
  type Round,
  type Step,
  type StepEnd,
  verified,
} from './claims.ts';

export function reactionSteps(round: Round, claims: readonly Claim[]): Step[] {
  return [...groupBy(claims, (claim) => claim.postId)].map(([postId, ofPost]) => ({
    about: `reactions of ${postId}`,
    claims: ofPost,
    run: () => readReactions(round, postId, ofPost),
  }));
}

async function readReactions(
  round: Round,
  postId: string,
  claims: readonly Claim[],
): Promise<StepEnd | null> {
  const { meta, credential, context } = round;
  const unlinked = claims.filter((claim) => claim.facebookId === null);
  const noLink = 'no Facebook account is linked to this person';
  const findings = allAre(unlinked, { kind: 'unknown', reason: noLink });
  const open = new Set(claims.filter((claim) => claim.facebookId !== null));
  if (open.size === 0) return { findings };

  const end = (finding: Parameters<typeof allAre>[1]): StepEnd => ({
    findings: new Map([...findings, ...allAre(open, finding)]),
    hint,
  });
  const cursors = new Set<string>();
  let listed = 0;
  let total: number | null = null;
  let hint: ThrottleHint | undefined;
  let after: string | null = null;
  for (let page = 1; page <= round.maximumPages; page++) {
    const nowMs = nowMsOf(round);
    const outcome = await meta.reactionPage(credential, { postId, after, nowMs });
    if (outcome.kind !== 'ok') return end(findingOf(outcome));
    hint = outcome.hint ?? hint;
    const { reactions } = outcome.value;
    listed += reactions.length;
    total = outcome.value.total ?? total;
    for (const { authorId, type } of reactions) {
      for (const claim of open) {
        if (claim.facebookId !== authorId) continue;
        open.delete(claim);
        const evidence = { post_id: postId, reaction: type, author_id: authorId, at: isoOf(nowMs) };
        context.report(verified(claim, evidence));
      }
    }
    after = outcome.value.after;
    if (open.size === 0) return { findings, hint };
    if (after === null) break;
    if (cursors.has(after)) return end({ kind: 'unknown', reason: 'Meta’s pages go in a circle' });
    cursors.add(after);
    if (context.leaseIsLost()) return null;
    if (hint !== undefined) return end({ kind: 'unknown', reason: hint.reason });
    if (context.timeIsUp()) return end({ kind: 'unknown', reason: 'the drain’s time was up' });
  }
  if (after !== null) {
    return end({ kind: 'unknown', reason: `more than ${round.maximumPages} pages of reactions` });
  }
  const reason =
    listed === 0 && (total ?? 0) > 0
      ? 'Meta tells how many reacted, but not who'
      : 'Meta does not list this person among those who reacted, which proves nothing';
  return end({ kind: 'unknown', reason });
}
