// Reads how many follow a tenant's own accounts, for campaigns that believe claims by the growth of that number. Numbers
// only: Meta tells nobody who follows.
import { z } from 'zod';
import { handBack, type JobContext, type JobHandler } from '../../_shared/drain.ts';
import type { Credential, Item } from '../../_shared/engine.ts';
import { cut, type ItemOutcome, outcomeOf, type ThrottleHint } from '../../_shared/outcome.ts';
import type { Meta } from '../../_shared/providers/meta.ts';

const measureSchema = z.object({
  fingerprint: z.string().regex(/^[0-9a-f]{4,64}$/),
  accounts: z
    .array(z.object({ platform: z.enum(['instagram', 'facebook']), account_id: z.string().min(1) }))
    .min(1),
});
const missingSeconds = 60;
/** From this try on, what could be read is kept, and the rest stays unknown for the day. */
const enoughTries = 3;

export function createMeasureFollowers(options: { meta: Meta }): JobHandler {
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
      context.report(
        await context.within([item], () => measure(options.meta, { item, credential, context })),
      );
    }
  };
}

interface Measuring {
  item: Item;
  credential: Credential;
  context: JobContext;
}

async function measure(meta: Meta, { item, credential, context }: Measuring): Promise<ItemOutcome> {
  const parsed = measureSchema.safeParse(item.data);
  if (!parsed.success) {
    const fields = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
    const error = cut(`The item is not understood: ${fields}.`);
    return { item_id: item.item_id, outcome: 'refused', error };
  }
  const { fingerprint, accounts } = parsed.data;
  const about = { item: item.item_id, trace_id: item.trace_id };
  const counts: Record<string, unknown>[] = [];
  const unread: Record<string, unknown>[] = [];
  let hint: ThrottleHint | undefined;
  for (const [index, account] of accounts.entries()) {
    const { platform, account_id: accountId } = account;
    const nowMs = context.now().getTime();
    const outcome = await meta.followers(credential, { surface: platform, accountId, nowMs });
    const leaveOut = (reason: string) => {
      context.log.warn('followers not measured', { ...about, platform, reason: cut(reason) });
      unread.push({ ...account, reason: cut(reason, 300) });
    };
    switch (outcome.kind) {
      case 'ok': {
        const { followers } = outcome.value;
        if (followers === null) leaveOut('Meta did not say how many follow');
        else counts.push({ ...account, followers });
        // Near the limit nothing more is asked; both are read again later.
        hint = outcome.hint;
        if (outcome.hint !== undefined && index < accounts.length - 1) {
          return outcomeOf(item.item_id, { ...outcome.hint, kind: 'throttled', error: outcome.hint.reason });
        }
        break;
      }
      case 'refused':
        leaveOut(outcome.error);
        break;
      case 'unknown':
        leaveOut(outcome.reason);
        break;
      case 'retry':
        if (counts.length > 0 && item.attempt >= enoughTries) {
          leaveOut(outcome.error);
          break;
        }
        context.log.warn('followers not measured', { ...about, platform, reason: cut(outcome.error) });
        return outcomeOf(item.item_id, outcome);
      default:
        context.log.warn('followers not measured', { ...about, platform, reason: cut(outcome.error) });
        return outcomeOf(item.item_id, outcome);
    }
  }
  context.log.info('followers measured', { ...about, accounts: counts.length });
  const result = { fingerprint, counts, unread };
  return { item_id: item.item_id, outcome: 'done', result, ...(hint && { hint }) };
}
