// Tags and mentions tell user names, linked accounts are ids: who is linked without a name is asked for it.
import { batchSizeOf } from '../../_shared/providers/meta.ts';
import { type Claim, chunksOf, type Finding, findingOf, nowMsOf, type Round } from './claims.ts';
import { plainUsername } from './text.ts';

/**
 * Fills in the user names of linked people where Meta tells them: who has none here, and, before a no is said, everybody,
 * since a name may have changed since the account was linked. Answers the trouble that concerns the whole tenant;
 * null when there is none. A name that can't be had stays unknown.
 */
export async function learnNames(round: Round, claims: readonly Claim[]): Promise<Finding | null> {
  const asked = claims.filter(
    (claim) => claim.instagramId !== null && (claim.username === null || claim.isLate),
  );
  const ids = [...new Set(asked.map((claim) => claim.instagramId ?? ''))];
  for (const chunk of chunksOf(ids, batchSizeOf(round.credential))) {
    const outcome = await round.meta.profiles(round.credential, { ids: chunk, nowMs: nowMsOf(round) });
    const parts = outcome.kind === 'ok' ? outcome.value : [outcome];
    for (const part of parts) {
      if (part.kind === 'throttled' || part.kind === 'credentialBroken') return findingOf(part);
    }
    if (outcome.kind !== 'ok') return null;
    outcome.value.forEach((part, index) => {
      if (part.kind !== 'ok' || !part.value.consent || part.value.username === null) return;
      const name = plainUsername(part.value.username);
      for (const claim of asked)
        if (claim.instagramId === chunk[index]) claim.username = name || claim.username;
    });
    if (outcome.hint !== undefined) return null;
  }
  return null;
}
