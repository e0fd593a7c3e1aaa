/** A few attacks of each kind, with every `npm test`; all of them: `npm run attacks`. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runAttacks } from './harness.ts';
import { groups } from './list.ts';
import { type RunningServer, startServer } from './server.ts';
import { buildScene, World } from './world.ts';

const chosen = [
  '1',
  '6',
  '13',
  '20',
  '23b',
  '24',
  '32',
  '45',
  '47b',
  '49',
  '54',
  '63',
  '71',
  '78',
  '81',
  '103',
  '105',
  '117',
  '130',
];

let server: RunningServer;
let world: World;

beforeAll(async () => {
  server = await startServer({ functions: false });
  world = await World.open(server, await buildScene(server));
});

afterAll(async () => {
  await world?.close();
  await server?.stop();
});

const attacks = groups.flatMap((group) => group.attacks).filter((each) => chosen.includes(each.number));

test.each(attacks.map((each) => [each.number, each.title]))('attack %s is repelled: %s', async (number) => {
  const [result] = await runAttacks(world, groups, { only: [number] });
  expect(result?.findings).toEqual([]);
  expect(result?.outcome).toBe('passed');
});

test('the sample names attacks that exist', () => {
  expect(attacks.map((each) => each.number).sort()).toEqual([...chosen].sort());
});
