/** With every `npm test`: the attacks that need no Edge Function. All of them: `npm run attacks`. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runAttacks } from './harness.ts';
import { groups } from './list.ts';
import { type RunningServer, startServer } from './server.ts';
import { buildScene, World } from './world.ts';

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

const attacks = groups.flatMap((group) => group.attacks).filter((each) => each.run && !each.needsFunctions);

test.each(attacks.map((each) => [each.number, each.title]))('attack %s is repelled: %s', async (number) => {
  const [result] = await runAttacks(world, groups, { only: [number] });
  expect(result?.findings).toEqual([]);
  expect(result?.outcome).toBe('passed');
});
