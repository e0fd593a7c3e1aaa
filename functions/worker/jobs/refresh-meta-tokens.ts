// Renews Meta's 60-day tokens. The new token goes straight back into Vault, through a function that asks for the lease:
// it is in no outcome, no log line and no error. Until it is stored the old one works.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import { cut, outcomeOf } from '../../_shared/outcome.ts';
import type { Tokens } from '../../_shared/providers/tokens.ts';

const refreshSchema = z.object({ fingerprint: z.string().regex(/^[0-9a-f]{4,64}$/) });
const missingSeconds = 60;

export function createRefreshMetaTokens(options: { tokens: Tokens }): JobHandler {
  return async (work, context) => {
    const { credential } = work;
    for (const item of work.items) {
      if (context.leaseIsLost()) return;
      if (credential === null || credential.source !== 'tenant') {
        context.report(...handBack([item], 'there is no credential', missingSeconds));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(...handBack([item], 'the drain’s time was up'));
        continue;
      }
      const parsed = refreshSchema.safeParse(item.data);
      if (!parsed.success) {
        const error = 'The item is not understood: fingerprint.';
        context.report({ item_id: item.item_id, outcome: 'refused', error });
        continue;
      }
      const outcome = await context.within([item], () =>
        options.tokens.renew(credential, { nowMs: context.now().getTime() }),
      );
      const about = { item: item.item_id, trace_id: item.trace_id, outcome: outcome.kind };
      const result = { provider: credential.provider, fingerprint: parsed.data.fingerprint };
      const done = (verdict: string, error?: string) =>
        context.report({
          item_id: item.item_id,
          outcome: 'done',
          result: { ...result, verdict, ...(error !== undefined && { error }) },
        });
      switch (outcome.kind) {
        case 'ok': {
          const { accessToken, expiresAt } = outcome.value;
          const kept = await context.keepToken(item.item_id, accessToken, expiresAt);
          context.log.info(kept ? 'token renewed' : 'renewed token came too late', about);
          done(kept ? 'renewed' : 'changed_meanwhile');
          break;
        }
        case 'credentialBroken':
          context.log.warn('credential broken', { ...about, error: cut(outcome.error) });
          done('broken', cut(outcome.error));
          break;
        case 'refused':
        case 'unknown': {
          const error = cut(outcome.kind === 'unknown' ? outcome.reason : outcome.error);
          context.log.warn('token not renewed', { ...about, error });
          done('not_renewed', error);
          break;
        }
        default:
          context.log.warn('token not renewed', { ...about, error: outcome.error });
          context.report(outcomeOf(item.item_id, outcome));
      }
    }
  };
}
