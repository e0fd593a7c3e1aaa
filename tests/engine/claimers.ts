/** Starts workers as processes and reads what they wrote. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClaimerRecord, type ClaimerSettings, recordSchema } from './claimer.ts';
import { here } from './support.ts';

export interface Claimers {
  processes: ChildProcess[];
  records(): ClaimerRecord[][];
  /** Lets each finish what it holds. */
  stop(): Promise<void>;
  /** SIGKILL, at once. */
  kill(index: number): Promise<void>;
  start(settings: Partial<ClaimerSettings> & Pick<ClaimerSettings, 'url' | 'job' | 'drainId' | 'seed'>): void;
  remove(): Promise<void>;
}

export function claimers(): Claimers {
  const folder = mkdtempSync(join(tmpdir(), 'onecron-claimers-'));
  const logs: string[] = [];
  const processes: ChildProcess[] = [];
  const gone = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;
  return {
    processes,
    start(settings) {
      const log = join(folder, `${logs.length}.jsonl`);
      logs.push(log);
      const all: ClaimerSettings = {
        batchSize: null,
        holdMs: 0,
        retryShare: 0,
        chain: true,
        session: {},
        log,
        ...settings,
      };
      processes.push(
        fork(here('claimer.ts'), [JSON.stringify(all)], {
          stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
          execArgv: [],
        }),
      );
    },
    // The last line of a killed process may be half a line.
    records: () =>
      logs.map((log) =>
        (existsSync(log) ? readFileSync(log, 'utf8') : '')
          .split('\n')
          .slice(0, -1)
          .map((line) => recordSchema.parse(JSON.parse(line))),
      ),
    async stop() {
      await Promise.all(
        processes
          .filter((child) => !gone(child))
          .map(async (child) => {
            const exit = once(child, 'exit');
            child.send('stop', () => {});
            await exit;
          }),
      );
    },
    async kill(index) {
      const child = processes[index];
      if (!child || gone(child)) return;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
    async remove() {
      for (let index = 0; index < processes.length; index++) await this.kill(index);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

// What the logs prove -------------------------------------------------------------------------------------------------

interface Interval {
  from: number;
  to: number;
  id: number;
  tenant: string;
}

/**
 * From the workers' side: each item was held at least from the answer of its claim to the call that closed it. Within these
 * intervals, which lie inside the true ones, no cap may be exceeded and no item may be held twice.
 */
export function held(records: readonly ClaimerRecord[][]): Interval[] {
  const intervals: Interval[] = [];
  for (const log of records) {
    let open: ClaimerRecord | undefined;
    for (const record of log) {
      if (record.what === 'claimed') open = record;
      if (record.what === 'closing' && open && open.batch === record.batch) {
        const from = open.at;
        intervals.push(...(open.items ?? []).map(({ id, tenant }) => ({ from, to: record.at, id, tenant })));
        open = undefined;
      }
    }
  }
  return intervals;
}

/** The most that was held at one instant, by the key of an interval. */
export function mostAtOnce(
  intervals: readonly Interval[],
  key: (interval: Interval) => string,
): Map<string, number> {
  const events = intervals
    .flatMap((interval) => [
      { at: interval.from, change: 1, key: key(interval) },
      { at: interval.to, change: -1, key: key(interval) },
    ])
    // What ends at an instant has ended before what begins at it.
    .sort((a, b) => a.at - b.at || a.change - b.change);
  const now = new Map<string, number>();
  const most = new Map<string, number>();
  for (const event of events) {
    const count = (now.get(event.key) ?? 0) + event.change;
    now.set(event.key, count);
    most.set(event.key, Math.max(most.get(event.key) ?? 0, count));
  }
  return most;
}

export const highest = (most: ReadonlyMap<string, number>): number => Math.max(0, ...most.values());
