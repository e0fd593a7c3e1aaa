/**
 * Runs actors with sessions of their own in a given order of their steps, as far as locks let them: a step that waits for
 * another session stays under way while the others go on, and its actor's later steps come after it.
 */
import type { ReservedSql } from 'postgres';
import { type Sql, until } from './support.ts';

export interface Actor {
  name: string;
  sql: ReservedSql;
  pid: number;
}

export type Step = (sql: ReservedSql) => Promise<unknown>;

export async function actor(sql: Sql, name: string): Promise<Actor> {
  const reserved = await sql.reserve();
  const [row] = await reserved<{ pid: number }[]>`select pg_backend_pid() as pid`;
  if (!row) throw new Error('no backend');
  return { name, sql: reserved, pid: row.pid };
}

export interface Happened {
  actor: string;
  error?: string;
}

/**
 * `order` names an actor by its index, once for each of its steps. What a step throws is kept and the actor's transaction
 * rolled back; its later steps are left out.
 */
export async function interleave(
  observer: Sql,
  actors: readonly Actor[],
  steps: readonly (readonly Step[])[],
  order: readonly number[],
): Promise<Happened[]> {
  const happened: Happened[] = [];
  const chains = actors.map(() => Promise.resolve());
  const pending = actors.map(() => 0);
  const failed = actors.map(() => false);
  const next = actors.map(() => 0);
  for (const index of order) {
    const who = actors[index];
    const step = steps[index]?.[next[index] ?? 0];
    if (!who || !step) throw new Error(`actor ${index} has no such step`);
    next[index] = (next[index] ?? 0) + 1;
    pending[index] = (pending[index] ?? 0) + 1;
    chains[index] = (chains[index] ?? Promise.resolve()).then(async () => {
      try {
        if (failed[index]) return;
        await step(who.sql);
        happened.push({ actor: who.name });
      } catch (error) {
        failed[index] = true;
        happened.push({ actor: who.name, error: error instanceof Error ? error.message : String(error) });
        await who.sql`rollback`.catch(() => {});
      } finally {
        pending[index] = (pending[index] ?? 1) - 1;
      }
    });
    // The step is over, or it waits for a lock that another session has.
    await until(`step of ${who.name}`, async () => {
      if (pending[index] === 0) return true;
      const [row] = await observer<{ waits: boolean }[]>`
        select coalesce(bool_or(wait_event_type = 'Lock'), false) as waits from pg_stat_activity where pid = ${who.pid}`;
      return row?.waits;
    });
  }
  await Promise.all(chains);
  return happened;
}

/** All orders of the steps of several actors: `[2, 1]` gives 001, 010, 100. */
export function orders(counts: readonly number[]): number[][] {
  if (counts.every((count) => count === 0)) return [[]];
  return counts.flatMap((count, index) =>
    count === 0
      ? []
      : orders(counts.map((other, at) => (at === index ? other - 1 : other))).map((rest) => [index, ...rest]),
  );
}
