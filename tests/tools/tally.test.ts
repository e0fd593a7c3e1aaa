import { describe, expect, it } from 'vitest';
import { add, closingLine, tallyOf } from '../../scripts/dev/tally.ts';

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((each) => ({ status: each })),
});

describe('the count of tests', () => {
  it('adds up what passed, failed and was skipped in all files', () => {
    const report = {
      testResults: [file('passed', 'passed', 'skipped'), file('failed', 'failed', 'passed', 'todo')],
    };
    expect(tallyOf(report)).toEqual({ passed: 2, failed: 1, skipped: 2 });
  });

  it('a file that could not be loaded is one failure', () => {
    expect(tallyOf({ testResults: [file('failed'), file('passed', 'passed')] })).toEqual({
      ...{ passed: 1, failed: 1, skipped: 0 },
    });
  });

  it('a file whose hook failed after its tests passed is one failure', () => {
    expect(tallyOf({ testResults: [file('failed', 'passed', 'passed')] })).toEqual({
      ...{ passed: 2, failed: 1, skipped: 0 },
    });
  });

  it('closes with the one line, and names skipped tests only where there are some', () => {
    const tally = { passed: 3, failed: 0, skipped: 0 };
    expect(closingLine(tally)).toBe('3 passed, 0 failed');
    expect(closingLine(add(tally, { passed: 0, failed: 1, skipped: 2 }))).toBe(
      '3 passed, 1 failed, 2 skipped',
    );
  });
});
