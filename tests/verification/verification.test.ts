// Verification for real: real users, the real worker, simulated providers. One stack for all parts, and at the end a look for secrets
// in everything that it has said, stored and logged.
import { afterAll, beforeAll } from 'vitest';
import { accounts } from './accounts.ts';
import { canaries } from './canaries.ts';
import { growth } from './growth.ts';
import { kinds } from './kinds.ts';
import { messages } from './messages.ts';
import { mixups } from './mixups.ts';
import { races } from './races.ts';
import { closeScene, openScene, type Scene } from './scene.ts';
import { trouble } from './trouble.ts';

let scene: Scene | undefined;
const given = (): Scene => {
  if (!scene) throw new Error('the stack did not start');
  return scene;
};

beforeAll(async () => {
  scene = await openScene();
}, 180_000);
afterAll(() => closeScene(scene));

kinds(given);
trouble(given);
growth(given);
accounts(given);
messages(given);
races(given);
mixups(given);
canaries(given);
