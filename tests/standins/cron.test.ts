/**
 * pg_cron's behaviour in time. The first suite runs on the stand-in, whose clock the tests move, and also on a real
 * pg_cron when DATABASE_URL names a server that has one; there a tick is a real minute.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, startDatabase } from '../../scripts/local/database.ts';
import { isDue, runsDue, startCronWorker } from '../../scripts/local/extensions/cron-worker.ts';
import type { Worker } from '../../scripts/local/extensions/session.ts';
import { crashServer } from './crash.ts';
import { until } from './until.ts';

const user = 'standin_cron_user';
const minute = 60_000;
const options = { onnotice: () => {}, fetch_types: false, max: 3 } as const;

interface Run {
  runid: string;
  jobid: string;
  job_pid: number | null;
  database: string;
  username: string;
  command: string;
  status: string;
  return_message: string | null;
  start_time: Date | null;
  end_time: Date | null;
}

let database: Database;
/** A clock that stands still until a test moves it. */
let time = Date.parse('2030-01-30T10:00:30Z');
const log: string[] = [];

beforeAll(async () => {
  database = await startDatabase();
  const owner = postgres(database.url, options);
  await owner`create extension if not exists pg_cron schema pg_catalog`;
  await owner.end();
});
afterAll(() => database?.stop());

function runsOf(sql: postgres.Sql, jobid: string) {
  return sql<Run[]>`select * from cron.job_run_details where jobid = ${jobid} order by runid`;
}

async function finished(sql: postgres.Sql, jobid: string, count = 1, timeoutMs = 10_000): Promise<Run[]> {
  return until(
    `${count} finished runs of job ${jobid}`,
    async () => {
      const runs = await runsOf(sql, jobid);
      return (
        runs.filter((run) => run.status === 'succeeded' || run.status === 'failed').length >= count && runs
      );
    },
    timeoutMs,
  );
}

interface Subject {
  name: string;
  skip: boolean;
  /** A superuser's url. */
  url: () => string;
  start: () => Promise<Worker>;
  /** Lets one full minute begin. */
  tick: (sql: postgres.Sql) => Promise<void>;
  timeoutMs: number;
}

async function move(sql: postgres.Sql, ms: number): Promise<void> {
  time += ms;
  await sql`select pg_notify('pg_cron', '')`;
}

const realUrl = process.env.DATABASE_URL;
const hasReal = realUrl !== undefined && (await hasRealCron(realUrl));

/**
 * Whether it runs there, over connections of its own, as the stand-in does. As background workers its jobs word their messages
 * in another way, and in 1.4 one that waits for a lock holds up all the others.
 */
async function hasRealCron(url: string): Promise<boolean> {
  const sql = postgres(url, options);
  try {
    const [row] = await sql<[{ real: boolean }]>`
      select current_setting('shared_preload_libraries') like '%pg_cron%'
        and current_setting('cron.database_name', true) = current_database()
        and current_setting('cron.use_background_workers', true) is distinct from 'on' as real`;
    return row.real;
  } finally {
    await sql.end();
  }
}

const subjects: Subject[] = [
  {
    name: 'the stand-in',
    skip: false,
    url: () => database.adminUrl,
    start: () =>
      startCronWorker({ adminUrl: database.adminUrl, log: (line) => log.push(line), clock: () => time }),
    tick: (sql) => move(sql, minute),
    timeoutMs: 20_000,
  },
  {
    name: 'the real pg_cron',
    skip: !hasReal,
    url: () => realUrl ?? '',
    start: async () => ({ stop: async () => {} }),
    tick: () => sleep(minute - (Date.now() % minute) + 50),
    timeoutMs: 200_000,
  },
];

for (const subject of subjects) {
  describe.skipIf(subject.skip)(`pg_cron, ${subject.name}`, () => {
    let sql: postgres.Sql;
    let worker: Worker;
    /** Holds the lock that one of the jobs waits for. */
    let held: postgres.ReservedSql;
    const jobs: Record<string, string> = {};

    beforeAll(async () => {
      sql = postgres(subject.url(), options);
      await sql`create extension if not exists pg_cron`;
      await sql.unsafe(`
        drop schema if exists standin_cron cascade;
        drop role if exists ${user};
        create role ${user} login;
        grant usage on schema cron to ${user};
        create schema standin_cron authorization ${user};
        set session authorization ${user};
        create table standin_cron.notes (note text, who text default current_user || '/' || session_user);
        create procedure standin_cron.commits() language plpgsql as $$
        begin
          insert into standin_cron.notes values ('before the commit');
          commit;
          insert into standin_cron.notes values ('after the commit');
          raise exception 'too late to undo';
        end $$;
        reset session authorization;
      `);
      worker = await subject.start();
      const commands = {
        rows: 'select generate_series(1, 3)',
        insert: `insert into standin_cron.notes values ('insert')`,
        broken: `insert into standin_cron.notes values ('broken'); select 1 / 0`,
        several: `insert into standin_cron.notes values ('one'); insert into standin_cron.notes values ('two'), ('three')`,
        commits: 'call standin_cron.commits()',
        inactive: `insert into standin_cron.notes values ('inactive')`,
        locked: 'select pg_advisory_xact_lock(726301)',
      };
      held = await sql.reserve();
      await held`select pg_advisory_lock(726301)`;
      await sql.begin(async (tx) => {
        await tx.unsafe(`set local session authorization ${user}`);
        for (const [name, command] of Object.entries(commands)) {
          const [job] = await tx<
            [{ id: string }]
          >`select cron.schedule(${`standin ${name}`}, '* * * * *', ${command}) as id`;
          jobs[name] = job.id;
        }
      });
      await sql`select cron.alter_job(${jobs.inactive ?? ''}::bigint, active := false)`;
    }, subject.timeoutMs);

    afterAll(async () => {
      await sql?.unsafe(`
        select cron.unschedule(jobid) from cron.job where username = '${user}';
        delete from cron.job_run_details where username = '${user}';
        drop schema standin_cron cascade;
      `);
      await worker?.stop();
      held?.release();
      await sql?.unsafe(`drop owned by ${user}; drop role ${user}`);
      await sql?.end();
    });

    const notes = async () =>
      (await sql<{ note: string }[]>`select note from standin_cron.notes`).map((row) => row.note);

    it(
      'one instance of a job runs at a time, and the ticks that it missed follow one after another',
      async () => {
        await subject.tick(sql);
        const [first] = await until('the job runs', async () => {
          const runs = await runsOf(sql, jobs.locked ?? '');
          return runs[0]?.status === 'running' && runs;
        });
        expect(first?.job_pid).toBeGreaterThan(0);
        await finished(sql, jobs.rows ?? '', 1, subject.timeoutMs);
        await subject.tick(sql);
        await finished(sql, jobs.rows ?? '', 2, subject.timeoutMs);
        expect(await runsOf(sql, jobs.locked ?? '')).toHaveLength(1);
        await held`select pg_advisory_unlock(726301)`;
        const [earlier, later] = await finished(sql, jobs.locked ?? '', 2);
        expect(later?.start_time?.getTime()).toBeGreaterThanOrEqual(earlier?.end_time?.getTime() ?? Infinity);
      },
      subject.timeoutMs,
    );

    it('a run is recorded with its user, database, process and times', async () => {
      const [run] = await finished(sql, jobs.rows ?? '');
      const [{ current_database: current }] = await sql<
        [{ current_database: string }]
      >`select current_database()`;
      expect(run).toMatchObject({
        username: user,
        database: current,
        status: 'succeeded',
        return_message: '3 rows',
        command: 'select generate_series(1, 3)',
      });
      expect(run?.job_pid).toBeGreaterThan(0);
      expect(run?.end_time?.getTime()).toBeGreaterThanOrEqual(run?.start_time?.getTime() ?? Infinity);
    });

    it('a command is run as the user of the job, whose work is committed', async () => {
      const [run] = await finished(sql, jobs.insert ?? '');
      expect(run?.return_message).toBe('INSERT 0 1');
      const rows = await sql<
        { who: string }[]
      >`select distinct who from standin_cron.notes where note = 'insert'`;
      expect(rows.map((row) => row.who)).toEqual([`${user}/${user}`]);
    });

    it('several statements are one transaction: a late error undoes the early ones', async () => {
      const [run] = await finished(sql, jobs.broken ?? '');
      expect(run).toMatchObject({ status: 'failed', return_message: 'ERROR:  division by zero\n' });
      expect(await notes()).not.toContain('broken');
    });

    it('of several statements the last one gives the message', async () => {
      const [run] = await finished(sql, jobs.several ?? '');
      expect(run).toMatchObject({ status: 'succeeded', return_message: 'INSERT 0 2' });
      expect(await notes()).toEqual(expect.arrayContaining(['one', 'two', 'three']));
    });

    it('a procedure that is called alone may commit on its way', async () => {
      const [run] = await finished(sql, jobs.commits ?? '');
      expect(run?.status).toBe('failed');
      expect(run?.return_message).toMatch(
        /^ERROR: {2}too late to undo\nCONTEXT: {2}PL\/pgSQL function standin_cron\.commits\(\) line \d+ at RAISE\n$/,
      );
      expect(await notes()).toContain('before the commit');
      expect(await notes()).not.toContain('after the commit');
    });

    it('an inactive job does not run', async () => {
      await finished(sql, jobs.insert ?? '');
      expect(await runsOf(sql, jobs.inactive ?? '')).toHaveLength(0);
    });

    it(
      'a job that was unscheduled does not run again, and its history stays',
      async () => {
        const before = (await runsOf(sql, jobs.several ?? '')).length;
        const others = (await runsOf(sql, jobs.insert ?? '')).length;
        await sql`select cron.unschedule(${jobs.several ?? ''}::bigint)`;
        await subject.tick(sql);
        await finished(sql, jobs.insert ?? '', others + 1, subject.timeoutMs);
        expect(await runsOf(sql, jobs.several ?? '')).toHaveLength(before);
      },
      subject.timeoutMs,
    );
  });
}

describe('pg_cron stand-in', () => {
  let sql: postgres.Sql;
  let worker: Worker | undefined;
  let child: ChildProcess | undefined;
  const ids: string[] = [];

  beforeAll(() => {
    sql = postgres(database.adminUrl, options);
  });
  afterAll(() => sql?.end());
  beforeEach(async () => {
    worker = await startCronWorker({
      adminUrl: database.adminUrl,
      log: (line) => log.push(line),
      clock: () => time,
    });
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await worker?.stop();
    await sql`select cron.unschedule(jobid) from cron.job`;
    await sql`truncate cron.job_run_details`;
    ids.length = 0;
  });

  async function schedule(when: string, command: string): Promise<string> {
    const [job] = await sql<[{ id: string }]>`select cron.schedule(${when}, ${command}) as id`;
    return job.id;
  }
  /** What a scheduler has seen it has also counted from: so wait until it knows the job. */
  async function seen(): Promise<void> {
    const probe = await schedule('@reboot', 'select 1');
    await sql`select cron.unschedule(${probe}::bigint)`;
    await sleep(150);
  }

  it('an interval job runs after each interval and queues at most one catch-up run', async () => {
    const id = await schedule('10 seconds', 'select pg_advisory_xact_lock(726302)');
    await seen();
    const held = await sql.reserve();
    await held`select pg_advisory_lock(726302)`;
    await move(sql, 9_000);
    await sleep(100);
    expect(await runsOf(sql, id)).toHaveLength(0);
    await move(sql, 1_000);
    await until('the job runs', async () => (await runsOf(sql, id))[0]?.status === 'running');
    await move(sql, 55_000);
    await sleep(100);
    expect(await runsOf(sql, id)).toHaveLength(1);
    await held`select pg_advisory_unlock(726302)`;
    held.release();
    await finished(sql, id, 2);
    await sleep(200);
    expect(await runsOf(sql, id)).toHaveLength(2);
  });

  it('minutes that the scheduler missed are each counted', async () => {
    const id = await schedule('* * * * *', 'select 1');
    await seen();
    await move(sql, 4 * minute);
    await finished(sql, id, 4);
    await sleep(100);
    expect(await runsOf(sql, id)).toHaveLength(4);
  });

  it('a job that is unscheduled while it runs is canceled', async () => {
    const id = await schedule('* * * * *', 'select pg_sleep(30)');
    await seen();
    await move(sql, minute);
    const pid = await until('the job runs', async () => {
      const [run] = await runsOf(sql, id);
      return run?.status === 'running' && run.job_pid;
    });
    await sql`select cron.unschedule(${id}::bigint)`;
    const [run] = await finished(sql, id);
    expect(run).toMatchObject({ status: 'failed', return_message: 'job canceled' });
    await sql`select pg_terminate_backend(${pid})`;
  });

  it.each(['copy (select 1) to stdout', 'copy cron.job from stdin'])(
    'a copy with the client is refused: %s',
    async (command) => {
      const id = await schedule('* * * * *', command);
      await seen();
      await move(sql, minute);
      expect((await finished(sql, id))[0]).toMatchObject({
        status: 'failed',
        return_message: 'COPY not supported',
      });
    },
  );

  it('a syntax error is reported with its line and a caret', async () => {
    const id = await schedule('* * * * *', 'select 1;\nselekt 2');
    await seen();
    await move(sql, minute);
    const [run] = await finished(sql, id);
    expect(run?.return_message).toBe(
      'ERROR:  syntax error at or near "selekt"\nLINE 2: selekt 2\n        ^\n',
    );
  });

  it('settings of the role hold in its jobs, as after a login', async () => {
    await sql.unsafe(
      `create role standin_set login; alter role standin_set set statement_timeout = '1234ms'`,
    );
    const [job] = await sql<[{ id: string }]>`
      select cron.schedule_in_database(
        'standin set', '* * * * *', 'do $$ begin raise exception ''%'', current_setting(''statement_timeout''); end $$',
        current_database(), 'standin_set'
      ) as id`;
    await seen();
    await move(sql, minute);
    const [run] = await finished(sql, job.id);
    expect(run?.return_message).toMatch(/^ERROR: {2}1234ms\n/);
    await sql`select cron.unschedule(${job.id}::bigint)`;
    await sql`drop role standin_set`;
  });

  it('a scheduler that was killed leaves runs which the next one closes as failed', async () => {
    await worker?.stop();
    const id = await schedule('1 second', 'select pg_sleep(60)');
    const program = fileURLToPath(import.meta.resolve('../../scripts/local/extensions/cron-worker.ts'));
    child = spawn(process.execPath, [program, '--url', database.adminUrl], { stdio: 'ignore' });
    const pid = await until('the job runs', async () => {
      const [run] = await runsOf(sql, id);
      return run?.status === 'running' && run.job_pid;
    });
    child.kill('SIGKILL');
    await sql`select cron.alter_job(${id}::bigint, active := false)`;
    // the dead scheduler's connection keeps its lock until the server notices
    worker = await startCronWorker({
      adminUrl: database.adminUrl,
      log: (line) => log.push(line),
      clock: () => time,
    });
    const [run] = await finished(sql, id);
    expect(run).toMatchObject({ status: 'failed', return_message: 'server restarted' });
    await until('its backend has ended', async () => {
      const left = await sql`select from pg_stat_activity where pid = ${pid}`;
      return left.length === 0;
    });
  });

  it('a dropped role that still owns a job keeps every job from running', async () => {
    await sql`create role standin_gone login`;
    const [orphan] = await sql<[{ id: string }]>`
      select cron.schedule_in_database('standin orphan', '* * * * *', 'select 1', current_database(), 'standin_gone') as id`;
    const id = await schedule('* * * * *', 'select 1');
    await seen();
    await sql`drop role standin_gone`;
    log.length = 0;
    await move(sql, minute);
    await until('the scheduler complains', () => log.includes('pg_cron: role "standin_gone" does not exist'));
    await sleep(100);
    expect(await runsOf(sql, id)).toHaveLength(0);
    await sql`select cron.unschedule(${orphan.id}::bigint)`;
    await finished(sql, id);
  });

  it('a second scheduler on the same database waits', async () => {
    const second = await startCronWorker({
      adminUrl: database.adminUrl,
      log: (line) => log.push(line),
      clock: () => time,
    });
    const id = await schedule('* * * * *', 'select 1');
    await seen();
    await move(sql, minute);
    await finished(sql, id);
    await sleep(100);
    expect(await runsOf(sql, id)).toHaveLength(1);
    await second.stop();
  });

  it('a scheduler survives the crash of the server', async () => {
    const id = await schedule('* * * * *', 'select pg_sleep(60)');
    await seen();
    await move(sql, minute);
    await until('the job runs', async () => (await runsOf(sql, id))[0]?.status === 'running');
    await sql.end({ timeout: 1 });
    await crashServer(database.adminUrl);
    sql = postgres(database.adminUrl, options);
    const [run] = await finished(sql, id);
    expect(run).toMatchObject({ status: 'failed', return_message: 'server restarted' });
    const next = await schedule('* * * * *', 'select 2');
    await seen();
    await move(sql, minute);
    expect((await finished(sql, next))[0]?.status).toBe('succeeded');
  });
});

describe('the calendar of pg_cron', () => {
  let sql: postgres.Sql;
  beforeAll(() => {
    sql = postgres(database.adminUrl, options);
  });
  afterAll(() => sql?.end());

  async function plan(schedule: string): Promise<Parameters<typeof isDue>[0]> {
    const [row] = await sql<
      [{ plan: Parameters<typeof isDue>[0] | null }]
    >`select cron._parse_schedule(${schedule}) as plan`;
    if (!row.plan) throw new Error(`invalid schedule ${schedule}`);
    return row.plan;
  }
  const due = async (schedule: string, at: string) => isDue(await plan(schedule), Date.parse(`${at}Z`));

  it.each([
    ['* * * * *', '2030-05-05T12:34', true],
    ['*/30 * * * * *', '2030-05-05T12:30', true],
    ['*/30 * * * * *', '2030-05-05T12:31', false],
    ['0 12 $ * *', '2032-02-29T12:00', true],
    ['0 12 $ * *', '2032-02-28T12:00', false],
    ['0 0 * * 7', '2030-05-05T00:00', true],
    ['0 0 * * sun', '2030-05-05T00:00', true],
    ['0 0 * * 1', '2030-05-05T00:00', false],
    ['0 0 13 * fri', '2030-05-13T00:00', true],
    ['0 0 13 * fri', '2030-05-10T00:00', true],
    ['0 0 13 * *', '2030-05-10T00:00', false],
    ['0 22-2 * * *', '2030-05-10T01:00', true],
    ['0 22-2 * * *', '2030-05-10T12:00', false],
    ['@daily', '2030-05-10T00:00', true],
    ['@weekly', '2030-05-05T00:00', true],
    ['@weekly', '2030-05-06T00:00', false],
    ['@monthly', '2030-05-01T00:00', true],
    ['@hourly', '2030-05-01T07:00', true],
    ['@yearly', '2030-01-01T00:00', false],
  ])('%s at %s: %s', async (schedule, at, expected) => {
    expect(await due(schedule, at)).toBe(expected);
  });

  it.each([
    ['* * * * *', 1, 1],
    ['* * * * *', 5, 5],
    ['* * * * *', 6, 1],
    ['* * * * *', 179, 1],
    ['* * * * *', 181, 1],
    ['15,45 10,11 * * *', 5, 0],
    ['15,45 10,11 * * *', 120, 4],
    ['15,45 10,11 * * *', 181, 0],
  ])('%s: after a gap of %d minutes %d runs are due', async (schedule, minutes, expected) => {
    const from = Date.parse('2030-05-05T10:00Z');
    expect(runsDue(await plan(schedule), from, from + minutes * minute)).toBe(expected);
  });
});
