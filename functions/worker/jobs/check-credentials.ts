// Asks Meta and WhatsApp about the tokens that tenants gave: whether they work, until when, and what they may do.
import { z } from 'zod';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import { cut, outcomeOf } from '../../_shared/outcome.ts';
import type { Tokens } from '../../_shared/providers/tokens.ts';

const checkSchema = z.object({ fingerprint: z.string().regex(/^[0-9a-f]{4,64}$/) });
const missingSeconds = 60;

export function createCheckCredentials(options: { tokens: Tokens }): JobHandler {
  return async (work, context) => {
    const { credential } = work;
    for (const item of work.items) {
      if (context.leaseIsLost()) return;
      if (credential === null) {
        context.report(...handBack([item], 'there is no credential', missingSeconds));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(...handBack([item], 'the drain’s time was up'));
        continue;
      }
      const parsed = checkSchema.safeParse(item.data);
      if (!parsed.success) {
        const error = 'The item is not understood: fingerprint.';
        context.report({ item_id: item.item_id, outcome: 'refused', error });
        continue;
      }
      const outcome = await context.within([item], () =>
        options.tokens.check(credential, { nowMs: context.now().getTime() }),
      );
      const about = { item: item.item_id, trace_id: item.trace_id, outcome: outcome.kind };
      const result = { provider: credential.provider, fingerprint: parsed.data.fingerprint };
      switch (outcome.kind) {
        case 'ok': {
          const { expiresAt, scopes } = outcome.value;
          const facts = {
            ...(expiresAt !== undefined && { expires_at: expiresAt }),
            ...(scopes !== undefined && { scopes: scopes.map((scope) => cut(scope, 100)) }),
          };
          context.log.info('credential checked', about);
          context.report({
            item_id: item.item_id,
            outcome: 'done',
            result: { ...result, verdict: 'healthy', ...facts },
          });
          break;
        }
        case 'credentialBroken': {
          // The item is done: it is the credential that waits for somebody, and SQL parks its work.
          const error = cut(outcome.error);
          context.log.warn('credential broken', { ...about, error });
          context.report({
            item_id: item.item_id,
            outcome: 'done',
            result: { ...result, verdict: 'broken', error },
          });
          break;
        }
        case 'refused':
        case 'unknown': {
          const error = cut(outcome.kind === 'unknown' ? outcome.reason : outcome.error);
          context.log.warn('credential not checked', { ...about, error });
          context.report({
            item_id: item.item_id,
            outcome: 'done',
            result: { ...result, verdict: 'unknown', error },
          });
          break;
        }
        default:
          context.log.warn('credential not checked', { ...about, error: outcome.error });
          context.report(outcomeOf(item.item_id, outcome));
      }
    }
  };
}
