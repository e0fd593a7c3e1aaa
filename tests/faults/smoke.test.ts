/** A short set of the faults with every `npm test`; all of them: `npm run faults`. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { randomOf } from '../engine/support.ts';
import { inject, openWorld, type World } from './harness.ts';
import { faults } from './list.ts';

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

test('every fault from 1 to 50 is injected, found elsewhere, or explained', () => {
  expect(faults.map(({ number }) => number)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  for (const fault of faults)
    expect([fault.number, Boolean(fault.run ?? fault.elsewhere) !== Boolean(fault.because)]).toEqual([
      fault.number,
      true,
    ]);
});
