// Posts alerts to a webhook that understands Slack's {"text"}. Its address is a secret: whoever has it can post. It
// is in no log line and no error. A webhook has no idempotency key, and an alert that comes twice is better than one
// that never comes: what may have arrived is sent again.
import { z } from 'zod';
import type { FetchChecked } from '../../_shared/addresses.ts';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import { describeFailure, retryAfterSeconds } from '../../_shared/http.ts';
import { cut, type ItemOutcome, outcomeOf, type ProviderOutcome } from '../../_shared/outcome.ts';

const alertSchema = z.object({ url: z.string().min(1), text: z.string().min(1) });

/** Slack cuts longer texts. https://docs.slack.dev/changelog/2018-truncating-really-long-messages */
const longestText = 40_000;

export interface AlertWebhookOptions {
  fetchChecked: FetchChecked;
}

export function createAlertWebhook(options: AlertWebhookOptions): JobHandler {
  async function post(url: string, text: string, nowMs: number): Promise<ProviderOutcome<number>> {
    const result = await options.fetchChecked({
      method: 'POST',
      url,
      headers: { 'content-type': 'application/json', 'user-agent': 'Onecron' },
      body: JSON.stringify({ text: cut(text, longestText) }),
    });
    if (result.kind === 'refused') {
      const error = `The alert webhook’s address ${result.problem}. Set alert_webhook_url in Vault.`;
      return { kind: result.transient ? 'retry' : 'refused', error };
    }
    if (result.kind === 'failure') {
      const error = describeFailure('The alert webhook', result.reason);
      return { kind: result.reason === 'redirect' ? 'refused' : 'retry', error };
    }
    const { status } = result;
    if (status >= 200 && status < 300) return { kind: 'ok', value: status };
    // What it says is not repeated: it may repeat its own address.
    const error = `The alert webhook answered ${status}`;
    const retryAfter = result.headers.get('retry-after');
    if (status === 429 || (status >= 500 && retryAfter !== null)) {
      return { kind: 'throttled', seconds: retryAfterSeconds(retryAfter, nowMs, { fallback: 60 }), error };
    }
    if (status >= 500 || status === 408 || status === 425) return { kind: 'retry', error };
    return { kind: 'refused', error: `${error}. Set alert_webhook_url in Vault to one that works.` };
  }

  return async (work, context) => {
    let stop: ((itemId: number) => ItemOutcome) | undefined;
    for (const item of work.items) {
      if (context.leaseIsLost()) return;
      if (stop !== undefined) {
        context.report(stop(item.item_id));
        continue;
      }
      if (context.timeIsUp()) {
        context.report(...handBack([item], 'the drain’s time was up'));
        continue;
      }
      const parsed = alertSchema.safeParse(item.data);
      if (!parsed.success) {
        const error = 'The alert is not valid: it needs a url and a text.';
        context.report({ item_id: item.item_id, outcome: 'refused', error });
        continue;
      }
      const { url, text } = parsed.data;
      const outcome = await context.within([item], () => post(url, text, context.now().getTime()));
      const log = context.log.with({ item: item.item_id, trace_id: item.trace_id }, [url]);
      switch (outcome.kind) {
        case 'ok':
          log.info('alert posted');
          context.report({ item_id: item.item_id, outcome: 'done', result: { status: outcome.value } });
          break;
        case 'throttled':
          stop = (itemId) => outcomeOf(itemId, outcome);
          log.warn('alert not posted', { error: outcome.error });
          context.report(stop(item.item_id));
          break;
        case 'retry':
          log.warn('alert not posted', { error: outcome.error });
          context.report(outcomeOf(item.item_id, outcome));
          break;
        default: {
          const error = cut(outcome.kind === 'unknown' ? outcome.reason : outcome.error);
          log.warn('alert not posted', { error });
          context.report({ item_id: item.item_id, outcome: 'refused', error });
        }
      }
    }
  };
}
