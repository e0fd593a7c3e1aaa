/**
 * The worker of the pg_net stand-in. It takes a batch out of the queue, sends all its requests, and commits when the
 * slowest has ended, in one transaction: until then no response is visible, and an error in between puts the whole
 * batch back, requests that were already sent included.
 */
import type postgres from 'postgres';
import { type HttpAnswer, type HttpRequest, sendRequest } from './net-request.ts';
import {
  createAlarm,
  messageOf,
  openSession,
  runAsProgram,
  type Session,
  type Worker,
  type WorkerOptions,
} from './session.ts';

const version = '0.20.4';
const lock = 7_263_001_002n;
/** pg_net rests this long after each batch, unless it is woken; it caps a long queue at about 200 requests a second. */
const restMs = 1_000;
/** The postmaster starts a worker that has left again after a second. */
const restartMs = 1_000;
/** How long `stop()` lets a batch go on. One that takes longer is rolled back: its requests stay in the queue. */
const graceMs = 2_000;

export async function startNetWorker(options: WorkerOptions): Promise<Worker> {
  const { adminUrl, log } = options;
  const alarm = createAlarm();
  let session: Session | null = null;
  let stopping = false;
  let restarting = false;
  let waitingForLock = false;
  // a fresh worker looks at once, for what a former one left
  let shouldWake = true;
  let batch = new AbortController();

  async function connect(): Promise<void> {
    session = await openSession({
      adminUrl,
      log,
      applicationName: `pg_net ${version}`,
      lock,
      channel: 'pg_net',
      onNotify: (payload) => {
        if (payload === 'restart') restarting = true;
        else shouldWake = true;
        alarm.wake();
      },
      onLost: () => {
        batch.abort();
        alarm.wake();
      },
    });
    if (!session) {
      if (!waitingForLock) log('pg_net: another worker works on this database; waiting');
      waitingForLock = true;
      return;
    }
    waitingForLock = false;
    shouldWake = true;
    log(`pg_net ${version} worker started`);
  }

  async function disconnect(): Promise<void> {
    await session?.end();
    session = null;
  }

  async function loop(): Promise<void> {
    while (!stopping) {
      try {
        if (session?.lost()) {
          log('pg_net: connection lost');
          await disconnect();
        }
        if (restarting) {
          restarting = false;
          await disconnect();
          log('pg_net: restarting');
          await alarm.sleep(restartMs);
        }
        if (!session) {
          await connect();
          if (!session) {
            await alarm.sleep(restartMs);
            continue;
          }
        }
        if (!shouldWake) {
          await alarm.sleep(Number.POSITIVE_INFINITY);
          continue;
        }
        shouldWake = false;
        await drain(session);
      } catch (error) {
        if (stopping) break;
        // the real worker dies of an error and is started again
        log(`pg_net: ${messageOf(error)}`);
        await disconnect();
        await alarm.sleep(restartMs);
      }
    }
  }

  async function drain(current: Session): Promise<void> {
    let worked = true;
    while (worked && !stopping && !restarting && !current.lost()) {
      batch = new AbortController();
      const { signal } = batch;
      try {
        worked = await current.transaction((sql) => runBatch(sql, signal));
      } finally {
        // what is still under way belongs to a batch that failed
        batch.abort();
      }
      if (worked) await alarm.sleep(restMs);
    }
  }

  await connect();
  const looping = loop();

  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= (async () => {
      stopping = true;
      alarm.wake();
      const impatience = setTimeout(() => batch.abort(), graceMs);
      await looping;
      clearTimeout(impatience);
      await disconnect();
    })();
    return stopped;
  };
  options.signal?.addEventListener('abort', () => void stop(), { once: true });
  return { stop };
}

/** One batch in one transaction. True when there was something to do. */
async function runBatch(sql: () => postgres.Sql, signal: AbortSignal): Promise<boolean> {
  const [ready] = await sql()<[{ ready: boolean }]>`
    select
      to_regclass('net.http_request_queue') is not null
      and to_regclass('net._http_response') is not null
      and to_regprocedure('net._worker_is_up()') is not null as ready`;
  if (!ready.ready) return false;
  const [settings] = await sql()<[{ ttl: string; batch_size: number }]>`
    select
      coalesce(nullif(current_setting('pg_net.ttl', true), ''), '6 hours') as ttl,
      coalesce(nullif(current_setting('pg_net.batch_size', true), '')::int, 200) as batch_size`;
  const expired = await sql()`
    with rows as (
      select ctid from net._http_response
      where created < now() - ${settings.ttl}::text::interval
      order by created
      limit ${settings.batch_size}
    )
    delete from net._http_response r using rows where r.ctid = rows.ctid`;
  const requests = await sql()<HttpRequest[]>`
    with rows as (
      select id from net.http_request_queue order by id limit ${settings.batch_size}
    )
    delete from net.http_request_queue q using rows where q.id = rows.id
    returning q.id, q.method, q.url, q.timeout_milliseconds as "timeoutMs", q.body,
      coalesce(
        (select json_agg(h.key || ': ' || h.value) from jsonb_each_text(q.headers) as h where h.value is not null), '[]'
      ) as headers`;

  const answers = await Promise.all(
    requests.map((request) => sendRequest(request, `pg_net/${version}`, signal)),
  );
  answers.sort((a, b) => a.endedAt - b.endedAt);
  if (answers.length > 0) await insertResponses(sql(), answers);
  return requests.length > 0 || expired.count > 0;
}

async function insertResponses(sql: postgres.Sql, answers: HttpAnswer[]): Promise<void> {
  const rows = JSON.stringify(
    answers.map((answer) => ({
      id: answer.id,
      status_code: answer.statusCode ?? null,
      content_type: answer.contentType ?? null,
      headers: answer.headers ?? null,
      content: answer.content ?? null,
      timed_out: answer.timedOut,
      error_msg: answer.error ?? null,
    })),
  );
  await sql`
    insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    select r.id, r.status_code, r.content_type, r.headers, r.content, r.timed_out, r.error_msg
    from json_to_recordset(${rows}::text::json) as r (
      id bigint, status_code int, content_type text, headers jsonb, content text, timed_out bool, error_msg text
    )`;
}

if (import.meta.main) await runAsProgram(startNetWorker);
