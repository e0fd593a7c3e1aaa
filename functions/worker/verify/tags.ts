// Is the account tagged in a photo of this person? One reading of the account's tags answers all its claims.
import type { ThrottleHint } from '../../_shared/outcome.ts';
import {
  allAre,
  type Claim,
  findingOf,
  instagramAccountOf,
  isFromBefore,
  isoOf,
  nowMsOf,
  type Round,
  type Step,
  type StepEnd,
  verified,
  wholeSecond,
} from './claims.ts';
import { learnNames } from './names.ts';
import { plainUsername } from './text.ts';

export function tagSteps(round: Round, claims: readonly Claim[]): Step[] {
  if (claims.length === 0) return [];
  return [{ about: 'photo tags', claims, run: () => readTags(round, claims) }];
}

async function readTags(round: Round, claims: readonly Claim[]): Promise<StepEnd | null> {
  const { meta, credential, context } = round;
  const account = instagramAccountOf(credential);
  if ('missing' in account) {
    return { findings: allAre(claims, { kind: 'unknown', reason: account.missing }) };
  }
  const trouble = await learnNames(round, claims);
  if (trouble !== null) return { findings: allAre(claims, trouble) };
  const nameless = claims.filter((claim) => claim.username === null);
  const reason = 'tags tell user names only, and this person’s is not known';
  const findings = allAre(nameless, { kind: 'unknown', reason });
  const open = new Set(claims.filter((claim) => claim.username !== null));
  if (open.size === 0) return { findings };

  const end = (finding: Parameters<typeof allAre>[1]): StepEnd => ({
    findings: new Map([...findings, ...allAre(open, finding)]),
    hint,
  });
  const oldest = wholeSecond(Math.min(...[...open].map((claim) => claim.sinceMs)));
  const late = [...open].some((claim) => claim.isLate);
  const cursors = new Set<string>();
  let hint: ThrottleHint | undefined;
  let after: string | null = null;
  for (let page = 1; page <= round.maximumPages; page++) {
    const nowMs = nowMsOf(round);
    const outcome = await meta.tagPage(credential, { accountId: account.id, after, nowMs });
    if (outcome.kind !== 'ok') return end(findingOf(outcome));
    hint = outcome.hint ?? hint;
    const { media } = outcome.value;
    for (const one of media) {
      const name = one.username === null ? null : plainUsername(one.username);
      for (const claim of open) {
        if (name !== claim.username || isFromBefore(one.at, claim)) continue;
        open.delete(claim);
        context.report(
          verified(claim, { media_id: one.id, author_username: one.username, at: isoOf(one.at) }),
        );
      }
    }
    after = outcome.value.after;
    if (open.size === 0) return { findings, hint };
    if (after === null) return end({ kind: 'absent', reason: 'not_found' });
    // The order of tags is not documented: age may end a look, but never decide a claim.
    const allOlder = media.every(({ at }) => at !== null && at < oldest);
    if (allOlder && !late) return end({ kind: 'absent', reason: 'not_found' });
    if (cursors.has(after)) return end({ kind: 'unknown', reason: 'Meta’s pages go in a circle' });
    cursors.add(after);
    if (context.leaseIsLost()) return null;
    if (hint !== undefined) return end({ kind: 'unknown', reason: hint.reason });
    if (context.timeIsUp()) return end({ kind: 'unknown', reason: 'the drain’s time was up' });
  }
  return end({ kind: 'unknown', reason: `more than ${round.maximumPages} pages of tags` });
}
