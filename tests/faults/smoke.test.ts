/** A short set of the faults with every `npm test`; all of them: `npm run faults`. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomOf, rewrite, until } from '../engine/support.ts';
import { restoreWhileMessagesLeave } from './backup.ts';
import { books, inject, openWorld, type World } from './harness.ts';
import { faults } from './list.ts';
import { Rig } from './rig.ts';

let world: World;
const { seed } = randomOf('faults');

beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world?.stop());

const quick = faults.filter((fault) => fault.quick && fault.run);

test.each(quick.map((fault) => [fault.number, fault.name] as const))(
  'fault %i: %s: the books balance',
  async (number) => {
    const fault = quick.find((each) => each.number === number);
    if (!fault) throw new Error(`there is no fault ${number}`);
    const result = await inject(world, fault, seed);
    expect(result.findings).toEqual([]);
  },
);

// Without these, books that always balance would prove nothing.
describe('control', () => {
  async function killedAfterSending(prepare: (rig: Rig) => Promise<void>): Promise<string[]> {
    const rig = await Rig.open(world.engine, world.simulators, 'control', { maxDrains: 1 });
    try {
      await prepare(rig);
      await rig.enqueue(6);
      await rig.start();
      let dead = false;
      // All has been sent, and the worker dies before it can say so.
      rig.before = (call) => {
        if (dead || call.name !== 'close_batch') return undefined;
        dead = true;
        return rig.kill().then(() => 'drop' as const);
      };
      await until('the worker to die', async () => {
        await rig.turn();
        return dead && !rig.isRunning;
      });
      await rig.settle();
      return await books(rig);
    } finally {
      await rig.close();
    }
  }

  test('a worker that is killed after it sent: the books balance', async () => {
    expect(await killedAfterSending(async () => {})).toEqual([]);
  });

  test('the same without the mark that a send had begun: the provider’s record shows that messages left twice', async () => {
    const found = await killedAfterSending(({ sql }) =>
      rewrite(sql, 'reap', 'v_definition.effects and exists', 'false and exists'),
    );
    expect(found.some((finding) => /^I3: message \d+ left 2 times$/.test(finding))).toBe(true);
  });

  test('a backup that is restored without a word: the provider’s record shows that messages left twice', async () => {
    const rig = await Rig.open(world.engine, world.simulators, 'control', {});
    try {
      await restoreWhileMessagesLeave(rig, false);
      expect((await books(rig)).some((finding) => /^I3: message \d+ left 2 times$/.test(finding))).toBe(true);
    } finally {
      await rig.close();
    }
  });

  test('an end that is told twice, an item that vanishes, a secret in a log: each is found', async () => {
    const rig = await Rig.open(world.engine, world.simulators, 'control', {});
    try {
      await rig.enqueue(6);
      await rig.start();
      await rig.settle();
      expect(await books(rig)).toEqual([]);
      await rig.sql`insert into public.told select n, outcome, status, message_id from public.told where n = 1`;
      await rig.sql`delete from jobs.attempts where right(subject_id::text, 12)::int = 2`;
      rig.lines.push(`the token is ${rig.tenants[0]?.token}`);
      const found = (await books(rig)).join('\n');
      expect(found).toContain('I2: the domain was told 2 times of 1');
      expect(found).toContain('I1: message 2 was accepted and never ended');
      expect(found).toContain('I15: a secret');
    } finally {
      await rig.close();
    }
  });
});

test('every fault from 1 to 50 is injected, found elsewhere, or explained', () => {
  expect(faults.map(({ number }) => number)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  for (const fault of faults)
    expect([fault.number, Boolean(fault.run ?? fault.elsewhere) !== Boolean(fault.because)]).toEqual([
      fault.number,
      true,
    ]);
});
