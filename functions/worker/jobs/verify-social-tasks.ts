// Verifies claimed social tasks. Four answers: yes, no, "can't know", and "the person has to do something first".
// Claims that one reading can answer are answered together; each kind of task has its file in ../verify.
import type { JobContext, JobHandler } from '../../_shared/drain.ts';
import { handBack } from '../../_shared/drain.ts';
import { cut, type ItemOutcome, outcomeOf } from '../../_shared/outcome.ts';
import type { Meta } from '../../_shared/providers/meta.ts';
import {
  type Claim,
  type Finding,
  type Kind,
  outcomeFor,
  type Round,
  readClaims,
  type Step,
  verified,
} from '../verify/claims.ts';
import { commentSteps } from '../verify/comments.ts';
import { profileSteps, unlinkedSteps } from '../verify/follows.ts';
import { mentionSteps } from '../verify/mentions.ts';
import { reactionSteps } from '../verify/reactions.ts';
import { tagSteps } from '../verify/tags.ts';

export interface VerifyOptions {
  meta: Meta;
  /** Pages read of one list before the answer is "can't know": 20 are 1,000 comments on Instagram, 2,000 on a Page. */
  maximumPages?: number;
}

/** After this many steps in a row without an answer, the provider is left alone for a while. */
const failuresInARow = 2;
const pauseAfterFailures = 30;
const missingSeconds = 60;

type Stop = (itemId: number) => ItemOutcome;

/** Not for longer: by then the platform may have another credential. */
const longestRestSeconds = 300;

export function createVerifySocialTasks(options: VerifyOptions): JobHandler {
  const { meta } = options;
  const maximumPages = options.maximumPages ?? 20;
  /**
   * Until when the platform's credential is left alone by this worker: each more call moves the end away. The engine hands out
   * nothing more that needs it; this is for what was handed out before.
   */
  let platformRests = { untilMs: 0, error: '' };

  return async (work, context) => {
    const all = readClaims(work, context);
    context.report(...all.flatMap((claim) => (claim.known === null ? [] : [verified(claim, claim.known)])));
    const claims = all.filter((claim) => claim.known === null);
    const { credential } = work;
    if (credential === null) {
      // It went away after the claim: the next claim sees that and puts the lane to sleep.
      context.report(...handBack(itemsOf(claims), 'there is no Meta credential', missingSeconds));
      return;
    }

    let stop: Stop | undefined;
    let failures = 0;
    for (const step of stepsFor({ meta, credential, context, maximumPages }, claims)) {
      if (context.leaseIsLost()) return;
      const restMs = credential.source === 'platform' ? platformRests.untilMs - context.now().getTime() : 0;
      if (restMs > 0 && !step.isSilent) {
        const { error } = platformRests;
        const seconds = Math.ceil(restMs / 1000);
        stop ??= (itemId) => outcomeOf(itemId, { kind: 'throttled', seconds, error });
      }
      if (stop !== undefined) {
        const stopped = stop;
        context.report(...step.claims.map((claim) => stopped(claim.item.item_id)));
        continue;
      }
      const items = itemsOf(step.claims);
      if (context.timeIsUp()) {
        context.report(...handBack(items, 'the drain’s time was up'));
        continue;
      }
      const end = await context.within(items, () => step.run());
      if (end === null) return;
      const { findings, hint } = end;
      logTrouble(step, findings, context);
      const told = Array.from(findings, ([claim, finding]) => outcomeFor(claim, finding));
      context.report(...told.map((outcome) => (hint === undefined ? outcome : { ...outcome, hint })));

      const kindsOfEnd = [...findings.values()];
      const blocked = kindsOfEnd.find(
        (finding) => finding.kind === 'credentialBroken' || finding.kind === 'throttled',
      );
      const isDown = kindsOfEnd.length > 0 && kindsOfEnd.every((finding) => finding.kind === 'retry');
      failures = isDown ? failures + 1 : 0;
      if (blocked?.kind === 'throttled' && credential.source === 'platform' && blocked.scope !== 'account') {
        platformRests = {
          untilMs: context.now().getTime() + Math.min(blocked.seconds, longestRestSeconds) * 1000,
          error: blocked.error,
        };
      }
      if (blocked?.kind === 'credentialBroken' || blocked?.kind === 'throttled') {
        stop = (itemId) => outcomeOf(itemId, blocked);
      } else if (hint !== undefined) {
        stop = (itemId) => outcomeOf(itemId, { ...hint, kind: 'throttled', error: hint.reason });
      } else if (failures >= failuresInARow) {
        const reason = cut(`paused: ${errorIn(kindsOfEnd[0])}`);
        stop = (itemId) => ({ item_id: itemId, outcome: 'snooze', seconds: pauseAfterFailures, reason });
      }
    }
  };
}

/** What a tenant's claims take, step by step. A step that asks nobody comes first: nothing may stop it. */
function stepsFor(round: Round, claims: readonly Claim[]): Step[] {
  const of = (...kinds: Kind[]) => claims.filter((claim) => kinds.includes(claim.kind));
  return [
    ...unlinkedSteps(of('instagram_follow')),
    ...commentSteps(round, of('instagram_comment', 'facebook_comment')),
    ...profileSteps(round, of('instagram_follow')),
    ...mentionSteps(round, of('instagram_mention')),
    ...tagSteps(round, of('instagram_photo_tag')),
    ...reactionSteps(round, of('facebook_reaction')),
  ];
}

function itemsOf(claims: readonly Claim[]): Claim['item'][] {
  return claims.map((claim) => claim.item);
}

function errorIn(finding: Finding | undefined): string {
  return finding !== undefined && 'error' in finding ? finding.error : 'no answer';
}

/** Trouble with calls, once per step and kind. Ids only. */
function logTrouble(step: Step, findings: ReadonlyMap<Claim, Finding>, context: JobContext): void {
  for (const kind of ['credentialBroken', 'throttled', 'retry'] as const) {
    const met = [...findings].filter(([, finding]) => finding.kind === kind);
    if (met.length === 0) continue;
    context.log.warn('could not be read', {
      what: step.about,
      items: met.map(([claim]) => String(claim.item.item_id)),
      trace_ids: met.map(([claim]) => claim.item.trace_id),
      outcome: kind,
      error: errorIn(met[0]?.[1]),
    });
  }
}
