/**
 * A worker in a process of its own: claims, holds, closes, and writes each step to its log before and after it happens. The
 * log is a record that does not depend on the database. Started by `startClaimer`; ends when its parent says so.
 */
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { z } from 'zod';
import { type Batch, claim, close, itemsOf, numberOf, type Outcome, seeded } from './calls.ts';

export const settingsSchema = z.object({
  url: z.string(),
  job: z.string(),
  drainId: z.string(),
  log: z.string(),
  seed: z.number(),
  batchSize: z.number().nullable(),
  /** At most so long between claim and close. */
  holdMs: z.number(),
  /** Share of items that are not done but handed back for another try. */
  retryShare: z.number(),
  /** Whether it asks for the next batch in the same call as it closes the last. */
  chain: z.boolean(),
  /** Settings of the session, e.g. to mislead the planner. */
  session: z.record(z.string(), z.string()),
});
export type ClaimerSettings = z.infer<typeof settingsSchema>;

export const recordSchema = z.object({
  /** Microseconds of the machine's monotonic clock: comparable between processes. */
  at: z.number(),
  what: z.enum(['claimed', 'closing', 'closed', 'idle', 'error']),
  batch: z.number().optional(),
  items: z.array(z.object({ id: z.number(), tenant: z.string(), n: z.number() })).optional(),
  outcomes: z.array(z.object({ id: z.number(), outcome: z.string() })).optional(),
  closed: z.number().optional(),
  stale: z.number().optional(),
  error: z.string().optional(),
});
export type ClaimerRecord = z.infer<typeof recordSchema>;

async function work(settings: ClaimerSettings): Promise<void> {
  const random = seeded(settings.seed);
  const sql = postgres(settings.url, {
    max: 1,
    onnotice: () => {},
    connection: settings.session,
    connect_timeout: 5,
  });
  let stopping = false;
  process.on('message', (message) => {
    if (message === 'stop') stopping = true;
  });
  process.on('disconnect', () => process.exit(1));
  const write = (record: Omit<ClaimerRecord, 'at'>) =>
    appendFileSync(
      settings.log,
      `${JSON.stringify({ at: Number(process.hrtime.bigint() / 1000n), ...record })}\n`,
    );
  // A server that falls takes its connections along: that is what some of these tests are about.
  process.on('uncaughtException', (error) => write({ what: 'error', error: error.message }));
  const claimed = (batch: Batch) =>
    write({
      what: 'claimed',
      batch: batch.batch_id,
      items: batch.tenants.flatMap((each) =>
        each.items.map((item) => ({ id: item.item_id, tenant: each.tenant_id, n: numberOf(item) })),
      ),
    });

  let idle = false;
  let batch: Batch | null = null;
  while (!stopping || batch) {
    try {
      if (!batch) {
        batch = await claim(sql, settings.drainId, settings.job, settings.batchSize);
        if (!batch) {
          // Idle is worth a line once, not two hundred times a second.
          if (!idle) write({ what: 'idle' });
          idle = true;
          await delay(2 + random.below(6));
          continue;
        }
        idle = false;
        claimed(batch);
      }
      if (settings.holdMs > 0) await delay(random.next() * settings.holdMs);
      const outcomes: Outcome[] = itemsOf(batch).map((item_id) =>
        random.next() < settings.retryShare
          ? { item_id, outcome: 'retry', error: 'not now' }
          : { item_id, outcome: 'done', result: {} },
      );
      write({
        what: 'closing',
        batch: batch.batch_id,
        outcomes: outcomes.map(({ item_id, outcome }) => ({ id: item_id, outcome })),
      });
      const answer = await close(sql, batch.batch_id, outcomes, settings.chain && !stopping);
      write({ what: 'closed', batch: batch.batch_id, closed: answer.closed, stale: answer.stale });
      batch = answer.next;
      if (batch) claimed(batch);
    } catch (error) {
      // As a real worker: what it held is closed again or lost to the lease, and it goes on with a new connection.
      write({ what: 'error', error: error instanceof Error ? error.message : String(error) });
      if (stopping) break;
      if (batch === null || random.next() < 0.5) batch = null;
      await delay(random.next() * 50);
    }
  }
  await sql.end({ timeout: 1 });
  process.disconnect();
}

if (import.meta.main) await work(settingsSchema.parse(JSON.parse(process.argv[2] ?? '{}')));
