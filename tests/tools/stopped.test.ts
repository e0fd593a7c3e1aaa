/** `npm test` that is told to end, during the SQL tests: it ends, begins nothing new and leaves no process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { root } from '../../scripts/local/config.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'onecron-stopped-'));
  // As root the database server runs as somebody else.
  chmodSync(folder, 0o755);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Processes whose command or environment names the folder: all that the run has started. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8').replaceAll('\0', ' ');
        return read('environ').includes(folder) || read('cmdline').includes(folder) ? [read('cmdline')] : [];
      } catch {
        return [];
      }
    });
}

test.each([
  ['SIGTERM', 'the launcher'],
  ['SIGINT', 'everybody in the terminal'],
] as const)(
  '%s to %s during the SQL tests ends the run',
  async (signal, whom) => {
    // Both kinds of tests, and enough SQL for the signal to come in between.
    const child = spawn('node', ['scripts/run.mjs', 'test', 'tests/sql/tenancy', 'tests/tools/tally'], {
      cwd: root,
      env: { ...process.env, TMPDIR: folder, DATABASE_URL: undefined },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    const first = new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          output += text;
          if (output.includes('ok     tests/sql')) resolve();
        });
      }
      child.once('exit', () => reject(new Error(`it ended by itself: ${output}`)));
    });
    await first;
    expect(processes().length).toBeGreaterThan(1);
    const ended = once(child, 'exit');
    process.kill(whom === 'the launcher' ? (child.pid ?? 0) : -(child.pid ?? 0), signal);
    expect((await ended)[0]).toBe(130);
    expect(output).toContain(`Stopped (${signal}).`);
    expect(output).not.toContain('TypeScript tests');
    expect(output).not.toContain('passed, 0 failed');
    // The guard of the database goes a moment after it.
    await expect.poll(processes, { timeout: 10_000 }).toEqual([]);
    expect(readdirSync(folder).filter((name) => name.startsWith('onecron-'))).toEqual([]);
  },
  90_000,
);
