/** What a worker says to the engine, and numbers that can be repeated. Light: every worker process loads it. */
import type postgres from 'postgres';
import { z } from 'zod';

export type Sql = postgres.Sql;

// Seeds ---------------------------------------------------------------------------------------------------------------

/** Small, fast, repeatable: the same seed gives the same test. Set ENGINE_SEED to repeat a run. */
export interface Random {
  seed: number;
  next(): number;
  below(limit: number): number;
  pick<T>(from: readonly T[]): T;
}

export function randomOf(title: string): Random {
  const seed = Number(process.env.ENGINE_SEED ?? Math.floor(Math.random() * 2 ** 31));
  process.stdout.write(`seed of "${title}": ${seed} (repeat it with ENGINE_SEED=${seed})\n`);
  return seeded(seed);
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return {
    seed,
    next,
    below,
    pick: (from) => {
      const value = from[below(from.length)];
      if (value === undefined) throw new Error('nothing to pick from');
      return value;
    },
  };
}

/** How much longer than in `npm test` the random tests run: `ENGINE_ROUNDS=20`. */
export const effort = Number(process.env.ENGINE_ROUNDS ?? 1);

// The worker's calls --------------------------------------------------------------------------------------------------

const itemSchema = z.object({
  item_id: z.number(),
  attempt: z.number(),
  subject_id: z.string().nullish(),
  data: z.unknown(),
});
const batchSchema = z.object({
  batch_id: z.number(),
  tenants: z.array(z.object({ tenant_id: z.string(), items: z.array(itemSchema) })),
});
const closedSchema = z.object({ closed: z.number(), stale: z.number(), next: batchSchema.nullable() });

export type Batch = z.infer<typeof batchSchema>;
export type Closed = z.infer<typeof closedSchema>;

export interface Outcome {
  item_id: number;
  outcome: string;
  [more: string]: postgres.JSONValue | undefined;
}

type Caller = Sql | postgres.TransactionSql | postgres.ReservedSql;

export async function claim(
  sql: Caller,
  drainId: string,
  job: string,
  size: number | null = null,
): Promise<Batch | null> {
  const [row] = await sql<{ batch: unknown }[]>`select jobs.next_batch(${drainId}, ${job}, ${size}) as batch`;
  return batchSchema.nullable().parse(row?.batch);
}

export async function close(
  sql: Caller,
  batchId: number,
  outcomes: readonly Outcome[],
  next = false,
): Promise<Closed> {
  const [row] = await sql<{ closed: unknown }[]>`
    select jobs.close_batch(${batchId}, ${sql.json(outcomes as postgres.JSONValue)}, ${next}) as closed`;
  return closedSchema.parse(row?.closed);
}

export const itemsOf = (batch: Batch): number[] =>
  batch.tenants.flatMap((work) => work.items.map((item) => item.item_id));

export const allDone = (batch: Batch): Outcome[] =>
  itemsOf(batch).map((item_id) => ({ item_id, outcome: 'done', result: {} }));

export const allRetry = (batch: Batch): Outcome[] =>
  itemsOf(batch).map((item_id) => ({ item_id, outcome: 'retry', error: 'not now' }));

/** Enqueues one item per element; `n` in its payload is how journals know it again. */
export async function enqueue(
  sql: Caller,
  job: string,
  work: readonly { tenant: string; n: number }[],
): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select jobs.enqueue_many(${job}, ${work.map((each) => each.tenant)}::uuid[],
      payloads => ${work.map((each) => JSON.stringify({ n: each.n }))}::text[]::jsonb[]) as count`;
  return row?.count ?? 0;
}

const payloadSchema = z.object({ n: z.number() });
export const numberOf = (item: { data: unknown }): number => payloadSchema.parse(item.data).n;
