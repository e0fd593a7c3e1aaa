// Raw jobs: the command of the definition, and nothing else. It comes with the batch from jobs.definitions, which only
// a deployment changes; the drain calls this handler for jobs of the kind `raw` only.
import { z } from 'zod';
import type { RunCommand } from '../../_shared/commands.ts';
import { handBack, type JobHandler } from '../../_shared/drain.ts';
import { cut, type ItemOutcome } from '../../_shared/outcome.ts';

const rawSchema = z.object({ command: z.string().min(1) });

const queryCanceled = '57014';

export interface RawCommandOptions {
  /** Null: SUPABASE_DB_URL is not set. */
  run: RunCommand | null;
}

export function createRawCommand(options: RawCommandOptions): JobHandler {
  return async (work, context) => {
    const { run } = options;
    for (const item of work.items) {
      if (context.leaseIsLost()) return;
      if (context.timeIsUp()) {
        context.report(...handBack([item], 'the drain’s time was up'));
        continue;
      }
      const parsed = rawSchema.safeParse(item.data);
      const refuse = (error: string): ItemOutcome => ({ item_id: item.item_id, outcome: 'refused', error });
      if (run === null) {
        context.report(refuse('A raw job needs a connection to the database: SUPABASE_DB_URL is not set.'));
        continue;
      }
      if (!parsed.success) {
        context.report(refuse('The definition of this job has no command.'));
        continue;
      }
      const log = { item: item.item_id, trace_id: item.trace_id };
      const result = await run(parsed.data.command, context.leftMs);
      switch (result.kind) {
        case 'done':
          context.log.info('command done', log);
          context.report({ item_id: item.item_id, outcome: 'done', result: {} });
          break;
        case 'no_time':
          context.report(...handBack([item], 'the drain’s time was up'));
          break;
        case 'failed': {
          const how =
            result.sqlstate === queryCanceled
              ? '. It may run for as long as the job’s lease_seconds and DRAIN_BUDGET_SECONDS allow.'
              : '';
          const error = cut(`${result.sqlstate}: ${result.message}${how}`);
          context.log.warn('command failed', { ...log, error });
          context.report({ item_id: item.item_id, outcome: 'retry', error });
        }
      }
    }
  };
}
