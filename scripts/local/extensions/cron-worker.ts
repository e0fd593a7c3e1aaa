/**
 * The scheduler of the pg_cron stand-in. One connection holds its lock and listens for changed jobs; each run gets a
 * connection of its own, as the job's user, and its command goes through the simple query protocol: several
 * statements are one transaction, and a top-level `call` may commit.
 */
import { connectForJob, errorText, type JobConnection } from './cron-connection.ts';
import {
  createAlarm,
  messageOf,
  openSession,
  runAsProgram,
  type Session,
  type Worker,
  type WorkerOptions,
} from './session.ts';

export interface CronWorkerOptions extends WorkerOptions {
  /** Unix time in milliseconds; tests put another clock in. Default: the server's clock. */
  clock?: () => number;
}

interface Plan {
  seconds?: number;
  reboot?: boolean;
  minutes?: number[];
  hours?: number[];
  days?: number[];
  months?: number[];
  weekdays?: number[];
  wild_time?: boolean;
  wild_day?: boolean;
  last_day?: boolean;
}

interface Job {
  jobid: string;
  command: string;
  database: string;
  username: string;
  active: boolean;
  plan: Plan | null;
}

interface Task {
  job: Job;
  active: boolean;
  pendingRuns: number;
  /** Milliseconds; an interval counts from here. Begins as the time when the job became known. */
  lastStart: number;
  run?: { connection?: JobConnection; canceled: boolean; pid?: number };
}

const minute = 60_000;
/** pg_cron looks at the world at least once a second. */
const longestSleep = 1_000;
const lock = 7_263_001_001n;

export async function startCronWorker(options: CronWorkerOptions): Promise<Worker> {
  const { adminUrl, log } = options;
  const alarm = createAlarm();
  const tasks = new Map<string, Task>();
  const runs = new Set<Promise<void>>();
  let session: Session | null = null;
  let stopping = false;
  let jobsChanged = true;
  let rebootDone = false;
  let lastMinute = 0;
  let clockOffset = 0;
  let maxRuns = 32;
  let waitingForLock = false;
  const now = () => (options.clock ? options.clock() : Date.now() + clockOffset);

  async function connect(): Promise<void> {
    session = await openSession({
      adminUrl,
      log,
      applicationName: 'pg_cron scheduler',
      lock,
      channel: 'pg_cron',
      onNotify: () => {
        jobsChanged = true;
        alarm.wake();
      },
      onLost: () => alarm.wake(),
    });
    if (!session) {
      if (!waitingForLock) log('pg_cron: another scheduler works on this database; waiting');
      waitingForLock = true;
      return;
    }
    waitingForLock = false;
    jobsChanged = true;
    const [server] = await session.sql<[{ now: string; limit: number }]>`
      select
        extract(epoch from clock_timestamp()) * 1000 as now,
        least(
          coalesce(nullif(current_setting('cron.max_running_jobs', true), '')::int, 32),
          current_setting('max_connections')::int
        ) as limit`;
    clockOffset = Number(server.now) - Date.now();
    maxRuns = server.limit;
    log('pg_cron scheduler started');
  }

  /** The backends of our own runs, as an array literal. */
  function runningPids(): string {
    return `{${[...tasks.values()].flatMap((task) => (task.run?.pid ? [task.run.pid] : [])).join(',')}}`;
  }

  /** What was running when the scheduler died is over: its backends are ended, its rows are closed. */
  async function closeOldRuns({ sql }: Session): Promise<void> {
    const mine = runningPids();
    await sql`
      select pg_terminate_backend(a.pid)
      from cron.job_run_details d
      join pg_stat_activity a on a.pid = d.job_pid and a.application_name = 'pg_cron'
      where d.status in ('starting', 'running') and a.pid <> all (${mine}::int[])`;
    await sql`
      update cron.job_run_details
      set status = 'failed', return_message = 'server restarted'
      where status in ('starting', 'running') and coalesce(job_pid, 0) <> all (${mine}::int[])`;
  }

  let opened: Session | undefined;
  async function loadJobs(current: Session): Promise<void> {
    jobsChanged = false;
    const [there] = await current.sql<[{ there: boolean }]>`
      select to_regprocedure('cron._parse_schedule(text)') is not null as there`;
    if (!there.there) {
      // not created yet, or the real extension, which has its own scheduler
      for (const task of tasks.values()) task.active = false;
      return;
    }
    if (opened !== current) {
      await closeOldRuns(current);
      opened = current;
    }
    const jobs = await current.sql<Array<Job & { role_exists: boolean }>>`
      select
        j.jobid, j.command, j.database, j.username, j.active, cron._parse_schedule(j.schedule) as plan,
        exists (select from pg_roles r where r.rolname = j.username) as role_exists
      from cron.job j
      order by j.jobid`;
    const orphan = jobs.find((job) => !job.role_exists);
    if (orphan) {
      // a dropped role that still owns a job keeps the real launcher from starting anything, too
      throw new Error(`role "${orphan.username}" does not exist`);
    }
    for (const task of tasks.values()) task.active = false;
    for (const job of jobs) {
      const task = tasks.get(job.jobid);
      if (task) Object.assign(task, { job, active: job.active });
      else tasks.set(job.jobid, { job, active: job.active, pendingRuns: 0, lastStart: now() });
    }
    for (const [id, task] of tasks) {
      if (task.active) continue;
      if (task.run) cancel(task);
      else tasks.delete(id);
    }
  }

  function cancel(task: Task): void {
    if (!task.run || task.run.canceled) return;
    task.run.canceled = true;
    void task.run.connection?.end();
  }

  /** Counts what is due. Vixie cron's rules for gaps: up to 5 minutes every minute counts, up to 3 hours jobs with a
   * fixed time are caught up and wildcard jobs run once, beyond that the gap is skipped. */
  function countDueRuns(time: number): void {
    if (!rebootDone) {
      for (const task of tasks.values()) if (task.active && task.job.plan?.reboot) task.pendingRuns += 1;
      rebootDone = true;
    }
    for (const task of tasks.values()) {
      const seconds = task.job.plan?.seconds;
      if (seconds && task.active && task.pendingRuns === 0 && time - task.lastStart >= seconds * 1000) {
        task.pendingRuns = 1;
      }
    }

    const thisMinute = Math.floor(time / minute) * minute;
    if (lastMinute === 0) lastMinute = thisMinute;
    const passed = Math.floor((time - lastMinute) / minute);
    if (passed <= 0) return;
    for (const task of tasks.values()) {
      if (task.active && task.job.plan) task.pendingRuns += runsDue(task.job.plan, lastMinute, thisMinute);
    }
    lastMinute = thisMinute;
  }

  /** Whether a run might begin now. Then the jobs are read again: a notification may be on its way for a few
   * milliseconds, but a job that was unscheduled must not run once more. */
  function mayStart(time: number): boolean {
    if (time - lastMinute >= minute) return true;
    if (runs.size >= maxRuns) return false;
    return [...tasks.values()].some(({ job, run, pendingRuns, lastStart }) => {
      const seconds = job.plan?.seconds;
      return !run && (pendingRuns > 0 || (seconds !== undefined && time - lastStart >= seconds * 1000));
    });
  }

  function start(task: Task, time: number): void {
    task.pendingRuns -= 1;
    task.lastStart = time;
    task.run = { canceled: false };
    const run = runJob(task)
      .catch((error: unknown) => log(`pg_cron: job ${task.job.jobid}: ${messageOf(error)}`))
      .finally(() => {
        task.run = undefined;
        runs.delete(run);
        alarm.wake();
      });
    runs.add(run);
  }

  async function runJob(task: Task): Promise<void> {
    const { job, run } = task;
    const current = session;
    if (!current || !run) return;
    const record = current.sql;
    const [row] = await record<[{ runid: string }]>`
      insert into cron.job_run_details (jobid, database, username, command, status)
      values (${job.jobid}, ${job.database}, ${job.username}, ${job.command}, 'starting')
      returning runid`;
    const fail = async (message: string) => {
      if (stopping || current.lost()) return; // the next scheduler writes 'server restarted'
      log(`pg_cron: job ${job.jobid} failed: ${message.trimEnd()}`);
      await record`
        update cron.job_run_details
        set status = 'failed', return_message = ${message}, end_time = clock_timestamp(),
          start_time = coalesce(start_time, clock_timestamp())
        where runid = ${row.runid}`;
    };

    const connection = connectForJob(adminUrl, job.database);
    run.connection = connection;
    try {
      run.pid = await connection.becomeUser(job.username);
    } catch (error) {
      await connection.end();
      log(`pg_cron: job ${job.jobid}: ${messageOf(error)}`);
      return fail(run.canceled ? 'job canceled' : 'connection failed');
    }
    try {
      await record`
        update cron.job_run_details
        set job_pid = ${run.pid}, status = 'running', start_time = clock_timestamp()
        where runid = ${row.runid}`;
      if (run.canceled) return await fail('job canceled');
      task.lastStart = now();
      const feedback = await connection.run(job.command);
      await record`
        update cron.job_run_details
        set status = 'succeeded', return_message = ${feedback}, end_time = clock_timestamp()
        where runid = ${row.runid}`;
    } catch (error) {
      await fail(run.canceled ? 'job canceled' : errorText(error, job.command));
    } finally {
      await connection.end();
    }
  }

  async function loop(): Promise<void> {
    while (!stopping) {
      let pause = longestSleep;
      try {
        if (session?.lost()) {
          log('pg_cron: connection lost');
          await session.end();
          session = null;
          for (const task of tasks.values()) cancel(task);
          await Promise.allSettled(runs);
          // the next scheduler knows nothing of this one, like a launcher that the postmaster starts again
          tasks.clear();
          lastMinute = 0;
          rebootDone = false;
        }
        if (!session) await connect();
        const current = session as Session | null;
        if (current) {
          const time = now();
          if (jobsChanged || opened !== current || mayStart(time)) await loadJobs(current);
          countDueRuns(time);
          for (const [id, task] of tasks) {
            if (task.run) continue;
            if (!task.active) tasks.delete(id);
            else if (task.pendingRuns > 0 && runs.size < maxRuns) start(task, time);
          }
          pause = untilNextEvent();
        }
      } catch (error) {
        jobsChanged = true;
        if (!stopping) log(`pg_cron: ${messageOf(error)}`);
      }
      if (!stopping) await alarm.sleep(pause);
    }
  }

  function untilNextEvent(): number {
    const time = now();
    let next = Math.floor(time / minute) * minute + minute;
    for (const task of tasks.values()) {
      const seconds = task.job.plan?.seconds;
      // at the limit of runs it is the end of one that matters, and that wakes us
      if (seconds && task.active && !task.run && runs.size < maxRuns)
        next = Math.min(next, task.lastStart + seconds * 1000);
    }
    return Math.min(longestSleep, Math.max(1, next - time));
  }

  await connect();
  const looping = loop();

  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= (async () => {
      stopping = true;
      alarm.wake();
      await looping;
      const pids = runningPids();
      const current = session;
      if (current && !current.lost() && pids !== '{}') {
        await current.sql`select pg_terminate_backend(pid) from unnest(${pids}::int[]) as pid`.catch(
          () => {},
        );
      }
      for (const task of tasks.values()) cancel(task);
      await Promise.allSettled(runs);
      await current?.end();
    })();
    return stopped;
  };
  options.signal?.addEventListener('abort', () => void stop(), { once: true });
  return { stop };
}

/** How many runs of a minute job fall due when the clock moves from one full minute to a later one. */
export function runsDue(plan: Plan, lastMinute: number, thisMinute: number): number {
  const passed = (thisMinute - lastMinute) / minute;
  const wild = plan.wild_time === true;
  if (passed > 3 * 60) return isDue(plan, thisMinute) ? 1 : 0;
  if (passed > 5 && wild) return isDue(plan, thisMinute) ? 1 : 0;
  let due = 0;
  for (let at = lastMinute + minute; at <= thisMinute; at += minute) if (isDue(plan, at)) due += 1;
  return due;
}

/** Whether a schedule names this minute, in GMT. */
export function isDue(plan: Plan, at: number): boolean {
  const time = new Date(at);
  const lastDay = new Date(at + 24 * 60 * minute).getUTCDate() === 1;
  const dayFits = plan.days?.includes(time.getUTCDate()) || (lastDay && plan.last_day === true);
  const weekdayFits = plan.weekdays?.includes(time.getUTCDay()) === true;
  return (
    plan.minutes?.includes(time.getUTCMinutes()) === true &&
    plan.hours?.includes(time.getUTCHours()) === true &&
    plan.months?.includes(time.getUTCMonth() + 1) === true &&
    // Vixie cron: both day fields must fit when one of them is a star, else one is enough
    (plan.wild_day ? dayFits && weekdayFits : dayFits || weekdayFits)
  );
}

if (import.meta.main) await runAsProgram(startCronWorker);
