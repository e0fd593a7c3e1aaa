import { describe, expect, test } from 'vitest';
import { type CommandResult, createRunCommand, type RunCommand } from '../../functions/_shared/commands.ts';
import { createRawCommand } from '../../functions/worker/jobs/raw-command.ts';
import { item, jobContext, memoryLog, work } from './fakes.ts';

const command = 'vacuum (analyze) jobs.items';

async function raw(run: RunCommand | null, items = [item(1, { command })], changes = {}) {
  const { log, entries } = memoryLog();
  const context = jobContext({ log, ...changes });
  await createRawCommand({ run })(work(items, null), context);
  return { outcomes: context.outcomes, entries };
}
const answering = (result: CommandResult) => {
  const commands: string[] = [];
  const run: RunCommand = async (text) => {
    commands.push(text);
    return result;
  };
  return { run, commands };
};

describe('raw jobs', () => {
  test('run the command of the definition, and the log line leads to the item', async () => {
    const { run, commands } = answering({ kind: 'done' });
    const { outcomes, entries } = await raw(run);
    expect(commands).toEqual([command]);
    expect(outcomes).toEqual([{ item_id: 1, outcome: 'done', result: {} }]);
    expect(entries()).toEqual([
      expect.objectContaining({ event: 'command done', item: 1, trace_id: item(1).trace_id }),
    ]);
  });

  test('a command that fails is tried again, with the database’s words', async () => {
    const { run } = answering({ kind: 'failed', sqlstate: '42P01', message: 'relation "x" does not exist' });
    expect((await raw(run)).outcomes).toEqual([
      { item_id: 1, outcome: 'retry', error: '42P01: relation "x" does not exist' },
    ]);
  });

  test('a command that took too long says which numbers decide that', async () => {
    const { run } = answering({ kind: 'failed', sqlstate: '57014', message: 'canceled' });
    expect((await raw(run)).outcomes).toEqual([
      expect.objectContaining({
        outcome: 'retry',
        error: expect.stringMatching(/lease_seconds and DRAIN_BUDGET/),
      }),
    ]);
  });

  test('without a connection string it is refused, and says which variable to set', async () => {
    expect((await raw(null)).outcomes).toEqual([
      { item_id: 1, outcome: 'refused', error: expect.stringContaining('SUPABASE_DB_URL is not set') },
    ]);
  });

  test('without a command it is refused', async () => {
    const { run, commands } = answering({ kind: 'done' });
    expect((await raw(run, [item(1, {})])).outcomes).toEqual([
      expect.objectContaining({ outcome: 'refused' }),
    ]);
    expect(commands).toEqual([]);
  });

  test('without lease or time no command is started', async () => {
    const { run, commands } = answering({ kind: 'done' });
    expect((await raw(run, undefined, { leaseIsLost: () => true })).outcomes).toEqual([]);
    const late = await raw(run, undefined, { timeIsUp: () => true });
    expect(late.outcomes).toEqual([expect.objectContaining({ outcome: 'snooze' })]);
    const { run: short } = answering({ kind: 'no_time' });
    expect((await raw(short)).outcomes).toEqual([expect.objectContaining({ outcome: 'snooze' })]);
    expect(commands).toEqual([]);
  });

  test('a database that is not there: the error holds no part of the connection string', async () => {
    const run = createRunCommand('postgresql://canaryuser:canary%2Fpass@127.0.0.1:1/canarydb');
    const { outcomes, entries } = await raw(run);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'retry',
        error: '08000: the connection of SUPABASE_DB_URL failed (ECONNREFUSED)',
      },
    ]);
    expect(JSON.stringify([outcomes, entries()])).not.toContain('canary');
  });
});
