/** Ticks are seconds apart, a provider's pace is finer: one doorbell is enough for all that a limit allows within moments. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rewrite, until } from '../engine/support.ts';
import { openWorld, type World } from './harness.ts';
import { Rig } from './rig.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world?.stop());

/** One tenant with 30 messages: 24 may leave at once, then 3.6 a second. Rings once; how many had left when the drain ended. */
async function sentByOneDoorbell(prepare: (rig: Rig) => Promise<void>): Promise<number> {
  const rig = await Rig.open(world.engine, world.simulators, 'pacing', {
    tenants: 1,
    ratePerMinute: 240,
    maxDrains: 1,
  });
  try {
    await prepare(rig);
    await rig.enqueue(30);
    await rig.start();
    expect(await rig.turn()).toEqual([202]);
    await until('the drain to end', async () => {
      const [row] = await rig.sql<{ open: number }[]>`
        select count(*)::int as open from jobs.drains where ended_at is null and answered_at is not null`;
      return row?.open === 0 && rig.received().length > 0;
    });
    return rig.received().length;
  } finally {
    await rig.close();
  }
}

test('a drain waits for what a limit allows in a moment', async () => {
  expect(await sentByOneDoorbell(async () => {})).toBe(30);
});

test('control: one that does not leaves it to the next tick', async () => {
  const sent = await sentByOneDoorbell(({ sql }) =>
    rewrite(sql, 'next_wake', 'clock_timestamp())', "clock_timestamp() + interval '1 hour')"),
  );
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThan(30);
});
