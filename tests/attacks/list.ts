/** All attacks, in the order of the list. */
import { catalog } from './a-catalog.ts';
import { surface } from './b-surface.ts';
import { reads } from './c-reads.ts';
import { writes } from './d-writes.ts';
import type { Group } from './harness.ts';

export const groups: Group[] = [catalog, surface, reads, writes];
