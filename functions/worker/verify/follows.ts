// Does this person follow the account? Instagram has no list of followers: it tells only about a person who has
// written to the business, one by one.

import type { ProviderOutcome } from '../../_shared/outcome.ts';
import { batchSizeOf, type Profile } from '../../_shared/providers/meta.ts';
import {
  allAre,
  type Claim,
  chunksOf,
  type Finding,
  findingOf,
  groupBy,
  isoOf,
  nowMsOf,
  type Round,
  type Step,
  type StepEnd,
  verified,
} from './claims.ts';

const writeFirst: Finding = {
  kind: 'needs_user_action',
  reason:
    'Instagram tells only of people who have written to the account: open the link and send the message',
};

/** Nobody is asked about people who are not linked. */
export function unlinkedSteps(claims: readonly Claim[]): Step[] {
  const unlinked = claims.filter((claim) => claim.instagramId === null);
  if (unlinked.length === 0) return [];
  const run = async (): Promise<StepEnd> => ({ findings: allAre(unlinked, writeFirst) });
  return [{ about: 'people without a link', claims: unlinked, isSilent: true, run }];
}

/** As many people in one call as Meta takes. */
export function profileSteps(round: Round, claims: readonly Claim[]): Step[] {
  const linked = claims.filter((claim) => claim.instagramId !== null);
  const people = [...groupBy(linked, (claim) => claim.instagramId ?? '')];
  return chunksOf(people, batchSizeOf(round.credential)).map((chunk) => ({
    about: 'profiles',
    claims: chunk.flatMap(([, ofPerson]) => ofPerson),
    run: () => readProfiles(round, chunk),
  }));
}

async function readProfiles(round: Round, people: readonly (readonly [string, Claim[]])[]): Promise<StepEnd> {
  const { meta, credential, context } = round;
  const nowMs = nowMsOf(round);
  const outcome = await meta.profiles(credential, { ids: people.map(([id]) => id), nowMs });
  const findings = new Map<Claim, Finding>();
  people.forEach(([id, claims], index) => {
    const part = outcome.kind === 'ok' ? outcome.value[index] : outcome;
    for (const claim of claims) {
      const finding = findingFor(part);
      if (finding === null) context.report(verified(claim, { author_id: id, at: isoOf(nowMs) }));
      else findings.set(claim, finding);
    }
  });
  return { findings, hint: outcome.kind === 'ok' ? outcome.hint : undefined };
}

/** Null: the person follows. */
function findingFor(part: ProviderOutcome<Profile> | undefined): Finding | null {
  if (part === undefined) return { kind: 'retry', error: 'Meta did not answer for this person' };
  if (part.kind !== 'ok') return findingOf(part);
  if (!part.value.consent) return writeFirst;
  if (part.value.follows === null) {
    return { kind: 'unknown', reason: 'Meta did not say whether the person follows' };
  }
  return part.value.follows ? null : { kind: 'absent', reason: 'not_following' };
}
