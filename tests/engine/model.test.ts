import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allRules,
  type Beginning,
  begin,
  explore,
  isLost,
  isStuck,
  type Lane,
  type Role,
  type Rules,
  step,
  type World,
} from './model.ts';
import { effort } from './support.ts';

const awake: Lane = { awake: true, wake: 'never', reason: null };
const asleep = (wake: Lane['wake'], reason: 'idle' | 'cap' = 'idle'): Lane => ({
  awake: false,
  wake,
  reason,
});

/** Only lanes that the engine can leave behind: none of these is a lost wake-up already. */
const beginnings: Beginning[] = [
  { lane: awake, items: [], cap: 2 },
  { lane: awake, items: ['ready'], cap: 2 },
  { lane: awake, items: ['ready', 'ready', 'ready'], cap: 2 },
  { lane: awake, items: ['later'], cap: 2 },
  { lane: awake, items: ['leased'], cap: 2 },
  { lane: awake, items: ['leased', 'ready'], cap: 1 },
  { lane: asleep('never'), items: [], cap: 2 },
  { lane: asleep('never'), items: ['leased'], cap: 2 },
  { lane: asleep('never', 'cap'), items: ['leased', 'ready'], cap: 1 },
  { lane: asleep('later'), items: ['later'], cap: 2 },
  { lane: asleep('now'), items: ['ready'], cap: 2 },
];

const enqueuers: Role[] = (['ready', 'later'] as const).flatMap((item) =>
  [false, true].flatMap((fixed) =>
    (['commit', 'rollback'] as const).map((end): Role => ({ role: 'enqueuer', item, fixed, end })),
  ),
);
const claimer: Role = { role: 'claimer' };
const closers: Role[] = [
  { role: 'closer', outcome: 'done' },
  { role: 'closer', outcome: 'retry' },
];

const teams: Role[][] = [
  ...enqueuers.map((enqueuer) => [enqueuer, claimer]),
  ...closers.map((closer) => [closer, claimer]),
  ...enqueuers.flatMap((enqueuer) => closers.map((closer) => [enqueuer, closer, claimer])),
  ...enqueuers.map((enqueuer) => [enqueuer, claimer, claimer]),
];

function exploreAll(rules: Rules): { states: number; ends: number; lost: string[]; stuck: number } {
  const total = { states: 0, ends: 0, lost: [] as string[], stuck: 0 };
  for (const beginning of beginnings) {
    for (const team of teams) {
      const explored = explore(begin(rules, beginning, team));
      total.states += explored.states;
      total.ends += explored.ends;
      total.stuck += explored.stuck.length;
      for (const path of explored.lost.slice(0, 1)) {
        total.lost.push(
          `${JSON.stringify(beginning)} ${team.map((role) => role.role).join('+')} ${path.join('')}`,
        );
      }
    }
  }
  return total;
}

describe('every order of the steps of two and three transactions', () => {
  test('with all rules no wake-up is lost and nobody waits for ever', () => {
    const all = exploreAll(allRules);
    process.stdout.write(`the model: ${all.states} states, ${all.ends} ends\n`);
    expect(all.lost).toEqual([]);
    expect(all.stuck).toBe(0);
    expect(all.states).toBeGreaterThan(10_000);
  });

  test.each(Object.keys(allRules) as (keyof Rules)[])(
    'control: without the rule %s a wake-up is lost',
    (rule) => {
      const without = exploreAll({ ...allRules, [rule]: false });
      expect(without.lost.length).toBeGreaterThan(0);
    },
  );

  test('the shortest loss without the lock is the race itself: enqueued while awake, put to sleep, committed', () => {
    const { lost } = explore(
      begin({ ...allRules, guards: false }, { lane: awake, items: [], cap: 2 }, [
        { role: 'enqueuer', item: 'ready', fixed: false, end: 'commit' },
        claimer,
      ]),
    );
    const [shortest = []] = lost;
    // The last step of all is the commit of one of the two, and the enqueuer looked before the claimer's commit.
    expect(shortest.filter((who) => who === 0)).toHaveLength(5);
    expect(shortest.indexOf(0)).toBeLessThan(shortest.lastIndexOf(1));
  });
});

// Larger crowds, by chance ----------------------------------------------------------------------------------------------

const role = fc.constantFrom<Role>(...enqueuers, claimer, claimer, claimer, ...closers);

/** Runs transactions in the order that the choices give until all are over. */
function run(start: World, choices: readonly number[]): World {
  let world = start;
  for (let turn = 0; ; turn++) {
    const nexts = world.transactions.flatMap((_, index) => step(world, index) ?? []);
    const next = nexts[(choices[turn % choices.length] ?? 0) % Math.max(1, nexts.length)];
    if (!next) return world;
    world = next;
  }
}

function crowds(rules: Rules, runs: number) {
  return fc.check(
    fc.property(
      fc.constantFrom(...beginnings),
      fc.array(role, { minLength: 2, maxLength: 6 }),
      fc.array(fc.nat({ max: 59 }), { minLength: 1, maxLength: 60 }),
      (beginning, team, choices) => {
        const end = run(begin(rules, beginning, team), choices);
        expect(isStuck(end)).toBe(false);
        expect(isLost(end)).toBe(false);
      },
    ),
    { numRuns: runs },
  );
}

describe('up to six transactions in any order', () => {
  test('with all rules no wake-up is lost', () => {
    const result = crowds(allRules, 4000 * effort);
    expect(result.failed, fc.defaultReportMessage(result)).toBe(false);
  });

  test('control: without the lock one is', () => {
    const result = crowds({ ...allRules, guards: false }, 20_000);
    expect(result.failed).toBe(true);
  });
});
