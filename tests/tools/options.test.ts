import { expect, test } from 'vitest';
import { root, runCommand } from '../../scripts/dev/command.ts';

const tools = [
  'attacks',
  'bench',
  'check',
  'db-diff',
  'demo',
  'faults',
  'security-surface',
  'start',
  'test',
  'types',
];

const run = (tool: string, ...args: string[]) =>
  runCommand(process.execPath, [`${root}/scripts/${tool}.ts`, ...args]);

test.each(tools)('%s says which option it does not know, and which ones it does', async (tool) => {
  const { code, stderr, stdout } = await run(tool, '--sparkle');
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^Unknown option '--sparkle'\.\nUsage: npm /);
  expect(stderr).not.toContain('    at ');
});

test.each(tools)('%s --help prints its usage and does nothing', async (tool) => {
  const { code, stderr, stdout } = await run(tool, '--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^Usage: npm /);
});
