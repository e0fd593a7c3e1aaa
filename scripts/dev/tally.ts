/** Counts of tests, and the one line that says them. */
import { z } from 'zod';

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

export const add = (one: Tally, other: Tally): Tally => ({
  passed: one.passed + other.passed,
  failed: one.failed + other.failed,
  skipped: one.skipped + other.skipped,
});

/** The closing line, in the form that continuous integration reads. */
export const closingLine = ({ passed, failed, skipped }: Tally): string =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;

const vitestReport = z.object({
  testResults: z.array(
    z.object({
      status: z.string(),
      assertionResults: z.array(z.object({ status: z.string() })),
    }),
  ),
});

/** Counts a report of Vitest. A file that could not be loaded has no tests: it counts as one that failed. */
export function tallyOf(report: unknown): Tally {
  let tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const file of vitestReport.parse(report).testResults) {
    const count = (...statuses: string[]) =>
      file.assertionResults.filter((test) => statuses.includes(test.status)).length;
    const failed = count('failed');
    tally = add(tally, {
      passed: count('passed'),
      failed: file.status === 'failed' && failed === 0 ? 1 : failed,
      skipped: count('skipped', 'pending', 'todo', 'disabled'),
    });
  }
  return tally;
}
