/** All attacks, in the order of the list. */
import { catalog } from './a-catalog.ts';
import { surface } from './b-surface.ts';
import { reads } from './c-reads.ts';
import { writes } from './d-writes.ts';
import { rpcs } from './e-calls.ts';
import { sessions } from './f-sessions.ts';
import { functions } from './g-functions.ts';
import { platform } from './h-platform.ts';
import type { Group } from './harness.ts';
import { campaigns } from './i-campaigns.ts';

export const groups: Group[] = [
  catalog,
  surface,
  reads,
  writes,
  rpcs,
  sessions,
  functions,
  campaigns,
  platform,
];
