import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * One project per folder of tests/, so that `vitest --project api` runs one kind. The quick ones start nothing heavy; all the others start
 * databases or whole stacks, and their files run one after another: two stacks at once on a small machine make timings lie.
 */
const quick = ['functions', 'simulators', 'deploy', 'tools'];
const names = readdirSync(join(import.meta.dirname, 'tests'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'sql')
  .map((entry) => entry.name);
const ordered = [
  ...quick.filter((name) => names.includes(name)),
  ...names.filter((name) => !quick.includes(name)).sort(),
];

export default defineConfig({
  test: {
    projects: ordered.map((name, order) => ({
      test: {
        name,
        include: [`tests/${name}/**/*.test.ts`],
        environment: 'node',
        pool: 'forks' as const,
        fileParallelism: quick.includes(name),
        testTimeout: quick.includes(name) ? 30_000 : 120_000,
        hookTimeout: 120_000,
        // One project after the other.
        sequence: { groupOrder: order },
      },
    })),
    passWithNoTests: true,
  },
});
