// Does this person's mention of the account exist? Mentions can't be listed: the webhook says where one is, and here
// it is read, as many at once as Meta takes.
import type { ProviderOutcome, ThrottleHint } from '../../_shared/outcome.ts';
import { batchSize, type Mention, type MentionPlace } from '../../_shared/providers/meta.ts';
import {
  allAre,
  type Claim,
  chunksOf,
  type Finding,
  findingOf,
  instagramAccountOf,
  isFromBefore,
  isoOf,
  nowMsOf,
  type Round,
  type Step,
  type StepEnd,
  verified,
} from './claims.ts';
import { learnNames } from './names.ts';
import { hasToken, plain, plainUsername } from './text.ts';

export function mentionSteps(round: Round, claims: readonly Claim[]): Step[] {
  if (claims.length === 0) return [];
  return [{ about: 'mentions', claims, run: () => readMentions(round, claims) }];
}

const keyOf = (place: MentionPlace): string => `${place.mediaId} ${place.commentId ?? ''}`;

const unseen: Finding = {
  kind: 'unseen',
  reason: 'no mention by this person was seen, and Meta does not list mentions',
};

async function readMentions(round: Round, claims: readonly Claim[]): Promise<StepEnd | null> {
  const { meta, credential, context } = round;
  const waiting = claims.filter((claim) => claim.mentions.length > 0);
  const account = instagramAccountOf(credential);
  if ('missing' in account) {
    return { findings: allAre(claims, { kind: 'unknown', reason: account.missing }) };
  }
  const findings = allAre(claims, unseen);
  if (waiting.length === 0) return { findings };
  const trouble = await learnNames(round, waiting);
  if (trouble !== null) return { findings: allAre(claims, trouble) };

  const places = new Map(waiting.flatMap((claim) => claim.mentions.map((place) => [keyOf(place), place])));
  const read = new Map<string, ProviderOutcome<Mention>>();
  let hint: ThrottleHint | undefined;
  for (const chunk of chunksOf([...places.values()], batchSize)) {
    if (context.leaseIsLost()) return null;
    if (hint !== undefined || context.timeIsUp()) {
      const reason = hint?.reason ?? 'the drain’s time was up';
      for (const place of chunk) read.set(keyOf(place), { kind: 'unknown', reason });
      continue;
    }
    const nowMs = nowMsOf(round);
    const outcome = await meta.mentions(credential, { accountId: account.id, places: chunk, nowMs });
    if (outcome.kind === 'ok') hint = outcome.hint ?? hint;
    chunk.forEach((place, index) => {
      const part = outcome.kind === 'ok' ? outcome.value[index] : outcome;
      if (part !== undefined) read.set(keyOf(place), part);
    });
    if (outcome.kind === 'throttled' || outcome.kind === 'credentialBroken') break;
  }

  for (const claim of waiting) {
    let finding: Finding = unseen;
    let isFound = false;
    for (const place of claim.mentions) {
      const outcome = read.get(keyOf(place));
      if (outcome === undefined) continue;
      if (outcome.kind !== 'ok') {
        // What can't be read proves nothing, and the other mentions still count; trouble with the call says more.
        const worse = findingOf(outcome);
        if (finding.kind === 'unseen' || worse.kind !== 'unknown') finding = worse;
        continue;
      }
      if (!isOf(outcome.value, claim)) continue;
      isFound = true;
      context.report(verified(claim, evidenceOf(place, outcome.value)));
      break;
    }
    if (isFound) findings.delete(claim);
    else findings.set(claim, finding);
  }
  return { findings, hint };
}

function isOf(mention: Mention, claim: Claim): boolean {
  if (isFromBefore(mention.at, claim)) return false;
  if (hasToken(plain(mention.text), claim.code)) return true;
  return (
    claim.username !== null && mention.username !== null && plainUsername(mention.username) === claim.username
  );
}

function evidenceOf(place: MentionPlace, mention: Mention) {
  return {
    media_id: place.mediaId,
    ...(place.commentId === null ? {} : { comment_id: place.commentId }),
    author_username: mention.username,
    at: isoOf(mention.at),
  };
}
