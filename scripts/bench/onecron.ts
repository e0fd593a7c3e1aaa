/** Workers of the engine without a provider: what they hand in is done at once. */
import { z } from 'zod';
import { openDrain, type Sql } from './server.ts';

/** Where a bench says when an item was enqueued. */
const dataSchema = z.object({ at: z.number().optional() }).nullish();
const batchSchema = z.object({
  batch_id: z.number(),
  tenants: z.array(
    z.object({
      tenant_id: z.string(),
      items: z.array(z.object({ item_id: z.number(), data: dataSchema })),
    }),
  ),
});
export type Batch = z.infer<typeof batchSchema>;

/** The answers are ours: the shape of the first is checked, the others are trusted. */
export const parseBatch = (value: unknown): Batch | null => batchSchema.nullable().parse(value);

/** Without a size: the job's own. */
export async function claim(
  sql: Sql,
  drainId: string,
  job: string,
  size: number | null = null,
): Promise<Batch | null> {
  const [row] = await sql<
    { batch: Batch | null }[]
  >`select jobs.next_batch(${drainId}, ${job}, ${size}) as batch`;
  return row?.batch ?? null;
}

export async function close(sql: Sql, batch: Batch, next: boolean): Promise<Batch | null> {
  const outcomes = batch.tenants.flatMap((work) =>
    work.items.map((item) => ({ item_id: item.item_id, outcome: 'done', result: {} })),
  );
  const [row] = await sql<{ closed: { next: Batch | null } }[]>`
    select jobs.close_batch(${batch.batch_id}, ${sql.json(outcomes)}, ${next}) as closed`;
  return row?.closed.next ?? null;
}

export const sizeOf = (batch: Batch): number =>
  batch.tenants.reduce((sum, work) => sum + work.items.length, 0);

/** Drains a job with one worker per connection until nothing is left or the time is up. Returns how many were done. */
export async function drain(workers: readonly Sql[], job: string, deadline: number): Promise<number> {
  let done = 0;
  await Promise.all(
    workers.map(async (sql) => {
      const drainId = await openDrain(sql, job);
      let batch = parseBatch(await claim(sql, drainId, job));
      while (batch) {
        const size = sizeOf(batch);
        const next = await close(sql, batch, performance.now() < deadline);
        done += size;
        // An answer without items means: ask again.
        batch = size > 0 ? next : await claim(sql, drainId, job);
      }
    }),
  );
  return done;
}
