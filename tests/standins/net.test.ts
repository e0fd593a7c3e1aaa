/**
 * pg_net's behaviour after the commit, with a real HTTP server at the other end. The first suite runs on the stand-in, and also
 * on a real pg_net when DATABASE_URL names a server that runs one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, startDatabase } from '../../scripts/local/database.ts';
import { startNetWorker } from '../../scripts/local/extensions/net-worker.ts';
import type { Worker } from '../../scripts/local/extensions/session.ts';
import { crashServer } from './crash.ts';
import { until } from './until.ts';

interface Seen {
  method: string;
  url: string;
  headers: Record<string, string | string[] | undefined>;
  /** Of the headers, one for each time that it came. */
  names: string[];
  body: string;
  at: number;
}

interface Answer {
  id: string;
  status_code: number | null;
  content_type: string | null;
  headers: Record<string, string> | null;
  content: string | null;
  timed_out: boolean;
  error_msg: string | null;
  created: Date;
}

let database: Database;
/** Of the subject that is under test. */
let sql: postgres.Sql;
let url: () => string;
let worker: Worker | undefined;
let child: ChildProcess | undefined;
let server: Server;
let elsewhere: Server;
const seen: Seen[] = [];
const log: string[] = [];

/** Path by path: `/slow/300` waits, `/status/404`, `/redirect/307`, `/hang`, `/cut`, `/drop`, `/zero`, `/twice`, `/zip`. */
async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const { method = '', url = '', headers } = request;
  const names = request.rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
  seen.push({ method, url, headers, names, body: Buffer.concat(chunks).toString(), at: performance.now() });
  const [, verb, value] = url.split(/[/?]/);
  switch (verb) {
    case 'slow':
      await sleep(Number(value));
      response.setHeader('X-Answer', 'slow').end('slow');
      return;
    case 'status':
      response.statusCode = Number(value);
      response.setHeader('Content-Type', 'text/html').end('<p>');
      return;
    case 'redirect':
      response
        .writeHead(Number(value), {
          Location: `http://localhost:${portOf(elsewhere)}/landed`,
          'X-Way': 'first',
          'Content-Type': 'text/plain',
        })
        .end('moved');
      return;
    case 'loop':
      response.writeHead(302, { Location: '/loop' }).end();
      return;
    case 'hang':
      return;
    case 'drop':
      request.socket.destroy();
      return;
    case 'cut':
      response.writeHead(200, { 'Content-Length': '100' });
      response.write('half');
      await sleep(20);
      request.socket.destroy();
      return;
    case 'zero':
      response.end('before\0after');
      return;
    case 'twice':
      response.setHeader('X-Answer', ['one', 'two']).end('{}');
      return;
    case 'zip':
      response.setHeader('Content-Encoding', 'gzip').end(gzipSync('packed'));
      return;
    case 'bare':
      response.end('bare');
      return;
    case 'empty':
      response.statusCode = 204;
      response.end();
      return;
    default:
      response.setHeader('Content-Type', 'application/json').end('{"ok": true}');
  }
}

function portOf(listening: Server): number {
  return (listening.address() as AddressInfo).port;
}
const connect = () => postgres(url(), { onnotice: () => {}, max: 3 });
const address = (path: string) => `http://127.0.0.1:${portOf(server)}${path}`;

async function listen(): Promise<Server> {
  const listening = createServer((request, response) => void handle(request, response).catch(() => {}));
  await new Promise<void>((resolve) => listening.listen(0, resolve));
  return listening;
}

beforeAll(async () => {
  [server, elsewhere] = await Promise.all([listen(), listen()]);
  database = await startDatabase();
  const owner = postgres(database.url, { onnotice: () => {} });
  await owner`create extension if not exists pg_net schema extensions`;
  await owner.end();
});
afterAll(async () => {
  await database?.stop();
  for (const listening of [server, elsewhere]) {
    listening?.closeAllConnections();
    listening?.close();
  }
});
interface Subject {
  name: string;
  skip: boolean;
  /** A superuser's url. */
  url: () => string;
  start: () => Promise<Worker>;
  /** Another value of one of pg_net's settings, or without a value the usual one again. A restart of the worker brings it in. */
  set: (name: string, value?: string) => Promise<unknown>;
}

const start = () => startNetWorker({ adminUrl: database.adminUrl, log: (line) => log.push(line) });

const standIn: Subject = {
  name: 'the stand-in',
  skip: false,
  url: () => database.adminUrl,
  start,
  set: (name, value) =>
    sql.unsafe(
      `alter database "${new URL(database.adminUrl).pathname.slice(1)}" ${value === undefined ? `reset ${name}` : `set ${name} = '${value}'`}`,
    ),
};

const realUrl = process.env.DATABASE_URL;
const real: Subject = {
  name: 'the real pg_net',
  skip: realUrl === undefined || !(await hasRealNet(realUrl)),
  url: () => realUrl ?? '',
  start: async () => ({ stop: async () => {} }),
  set: (name, value) =>
    sql.unsafe(`alter system ${value === undefined ? `reset ${name}` : `set ${name} = '${value}'`}`),
};

async function hasRealNet(of: string): Promise<boolean> {
  const probe = postgres(of, { onnotice: () => {}, max: 1 });
  try {
    const [row] = await probe<[{ real: boolean }]>`
      select current_setting('shared_preload_libraries') like '%pg_net%'
        and current_setting('pg_net.database_name', true) = current_database() as real`;
    return row.real;
  } finally {
    await probe.end();
  }
}

function use(subject: Subject): void {
  beforeAll(async () => {
    url = subject.url;
    sql = connect();
    await sql`create extension if not exists pg_net`;
  });
  afterAll(() => sql?.end({ timeout: 1 }));
  beforeEach(async () => {
    seen.length = 0;
    worker = await subject.start();
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await worker?.stop();
    await sql`truncate net.http_request_queue, net._http_response`;
  });
}

/** The process of the worker; null while there is none. */
async function workerPid(): Promise<number | null> {
  const [row] = await sql<{ pid: number }[]>`
    select pid from pg_stat_activity where application_name like 'pg_net %' and datname = current_database()`;
  return row?.pid ?? null;
}

async function get(path: string, timeoutMs = 5000): Promise<string> {
  const [row] = await sql<[{ id: string }]>`
    select net.http_get(${address(path)}, timeout_milliseconds := ${timeoutMs}) as id`;
  return row.id;
}
async function answerTo(id: string, timeoutMs = 10_000): Promise<Answer> {
  return until(
    `a response to request ${id}`,
    async () => (await sql<Answer[]>`select * from net._http_response where id = ${id}`)[0],
    timeoutMs,
  );
}
/** A worker that has rested answers at once; one that has just sent a batch does, too, when it is woken. */
const quiet = () => sleep(1_200);

for (const subject of [standIn, real]) {
  describe.skipIf(subject.skip)(`pg_net, ${subject.name}`, () => {
    use(subject);

    it('a request is sent after the commit, not before, and soon', async () => {
      await quiet();
      let committed = 0;
      await sql.begin(async (tx) => {
        await tx`select net.http_get(${address('/first')})`;
        await sleep(300);
        expect(seen).toHaveLength(0);
        committed = performance.now();
      });
      const [request] = await until('the request', () => seen.length > 0 && seen);
      const latencyMs = (request?.at ?? Infinity) - committed;
      // measured 2 to 9 ms; the bound leaves room for a busy machine
      expect(latencyMs).toBeLessThan(250);
    });

    it('a transaction that is rolled back sends nothing', async () => {
      await sql
        .begin(async (tx) => {
          await tx`select net.http_get(${address('/never')})`;
          throw new Error('undo');
        })
        .catch(() => {});
      await answerTo(await get('/after'));
      expect(seen.map((request) => request.url)).toEqual(['/after']);
    });

    it('headers, body and parameters arrive as given', async () => {
      const [row] = await sql<[{ id: string }]>`
        select net.http_post(
          ${address('/post?a=1')}, '{"b": "ä", "c": [1, 2]}', '{"q": "r s"}', '{"X-Own": "yes"}', 1000
        ) as id`;
      const answer = await answerTo(row.id);
      const [request] = seen;
      expect(request).toMatchObject({
        method: 'POST',
        url: '/post?a=1&q=r%20s',
        body: '{"b": "ä", "c": [1, 2]}',
      });
      expect(request?.headers).toMatchObject({
        'x-own': 'yes',
        'content-type': 'application/json',
        'content-length': '24',
        'user-agent': 'pg_net/0.20.4',
        accept: '*/*',
        host: `127.0.0.1:${portOf(server)}`,
      });
      expect(answer).toMatchObject({
        status_code: 200,
        content_type: 'application/json',
        content: '{"ok": true}',
        timed_out: false,
        error_msg: null,
      });
      expect(answer.headers).toMatchObject({ 'Content-Type': 'application/json' });
    });

    it('a GET has no body, a DELETE may have one', async () => {
      const [row] = await sql<[{ one: string; two: string }]>`
        select net.http_get(${address('/a')}) as one, net.http_delete(${address('/b')}, body := '{"x": 1}') as two`;
      await Promise.all([answerTo(row.one), answerTo(row.two)]);
      expect(seen.map(({ method, body }) => `${method} ${body}`).sort()).toEqual(['DELETE {"x": 1}', 'GET ']);
      expect(seen.find(({ method }) => method === 'GET')?.headers).not.toHaveProperty('content-length');
    });

    it('an error status is an answer, not an error', async () => {
      const answer = await answerTo(await get('/status/503'));
      expect(answer).toMatchObject({
        status_code: 503,
        content_type: 'text/html',
        content: '<p>',
        error_msg: null,
      });
    });

    it('an empty body is null, and a body ends at a zero byte', async () => {
      expect((await answerTo(await get('/empty'))).content).toBeNull();
      expect((await answerTo(await get('/zero'))).content).toBe('before');
    });

    it('one slow request holds its batch: no answer is seen, and nothing else is sent, until it has ended', async () => {
      await quiet();
      const [batch] = await sql<[{ slow: string; fast: string }]>`
        select net.http_get(${address('/slow/1500')}) as slow, net.http_get(${address('/fast')}) as fast`;
      await until('both are sent', () => seen.length === 2);
      const later = await get('/later');
      await sleep(700);
      expect(await sql`select from net._http_response`).toHaveLength(0);
      // positive control: the requests of the batch can still be read by everybody, secrets in their headers included
      expect(
        await sql`select from net.http_request_queue where id in (${batch.slow}, ${batch.fast})`,
      ).toHaveLength(2);
      expect(seen.map((request) => request.url)).not.toContain('/later');
      const [slow, fast] = await Promise.all([answerTo(batch.slow), answerTo(batch.fast)]);
      expect(fast.created).toEqual(slow.created);
      await answerTo(later);
      const at = (url: string) => seen.find((request) => request.url === url)?.at ?? 0;
      expect(at('/later') - at('/slow/1500')).toBeGreaterThan(1_450);
    });

    it('a request that takes too long says so, and where', async () => {
      const answer = await answerTo(await get('/hang', 200));
      expect(answer).toMatchObject({ status_code: null, timed_out: true, content: null, headers: null });
      expect(answer.error_msg).toMatch(
        /^Timeout of 200 ms reached\. Total time: 2\d\d\.\d{6} ms \(DNS time: \d+\.\d{6} ms, TCP\/SSL handshake time: -?\d+\.\d{6} ms, HTTP Request\/Response time: \d+\.\d{6} ms\)$/,
      );
    });

    it.each([
      ['nobody listens', () => 'http://127.0.0.1:9/', "Couldn't connect to server"],
      ['the host is unknown', () => 'http://no-such-host.invalid/', "Couldn't resolve host name"],
      [
        'the connection is closed without an answer',
        () => address('/drop'),
        'Server returned nothing (no headers, no data)',
      ],
      ['the body is cut', () => address('/cut'), 'Transferred a partial file'],
      ['the scheme is not http', () => 'ftp://127.0.0.1/', 'Unsupported protocol'],
    ])('%s: the answer has libcurl’s words', async (_, url, expected) => {
      const [row] = await sql<[{ id: string }]>`select net.http_get(${url()}) as id`;
      const answer = await answerTo(row.id);
      expect(answer).toMatchObject({ status_code: null, timed_out: false, error_msg: expected });
    });

    it.each([
      [302, 'GET', ''],
      [303, 'GET', ''],
      [307, 'POST', '{"a": 1}'],
      [308, 'POST', '{"a": 1}'],
    ])(
      'a redirect %d is followed with %s, to another host without Authorization but with own headers',
      async (status, method, body) => {
        const [row] = await sql<[{ id: string }]>`
        select net.http_post(
          ${address(`/redirect/${status}`)}, '{"a": 1}', headers := '{"Authorization": "Bearer x", "X-Secret": "y"}'
        ) as id`;
        expect(await answerTo(row.id)).toMatchObject({ status_code: 200, content: '{"ok": true}' });
        const landed = seen.find((request) => request.url === '/landed');
        expect(landed).toMatchObject({ method, body });
        expect(landed?.headers).toMatchObject({ 'x-secret': 'y' });
        expect(landed?.headers).not.toHaveProperty('authorization');
        expect(seen[0]?.headers).toMatchObject({ authorization: 'Bearer x' });
      },
    );

    it('a redirect that leads round in a circle ends without an answer', async () => {
      const { error_msg, status_code } = await answerTo(await get('/loop', 1_000));
      expect(status_code).toBeNull();
      // libcurl before 8.3 knew no limit but the time
      expect(error_msg).toMatch(
        subject === standIn
          ? /^Number of redirects hit maximum amount$/
          : /^(Number of redirects hit maximum amount$|Timeout of 1000 ms|Failure when receiving)/,
      );
    });

    it('after a redirect status, type and content are the last answer’s, and the headers the first one’s', async () => {
      const answer = await answerTo(await get('/redirect/302'));
      expect(answer).toMatchObject({
        status_code: 200,
        content_type: 'application/json',
        content: '{"ok": true}',
      });
      expect(answer.headers).toMatchObject({ 'X-Way': 'first', 'Content-Type': 'text/plain' });
    });

    it.each([
      [302, ''],
      [303, ''],
      [307, '{"a": 1}'],
    ])('a redirect %d of a DELETE is followed with a DELETE with the body "%s"', async (status, body) => {
      const [row] = await sql<[{ id: string }]>`
        select net.http_delete(${address(`/redirect/${status}`)}, body := '{"a": 1}') as id`;
      await answerTo(row.id);
      expect(seen.find((request) => request.url === '/landed')).toMatchObject({ method: 'DELETE', body });
    });

    it('headers of one’s own that say null or nothing are not sent, others as often as they are given', async () => {
      const [row] = await sql<[{ id: string }]>`
        select net.http_post(${address('/own')}, headers := '{"Host": "shop.example", "User-Agent": "mine", "X-Null": null,
          "X-Empty": "", "X-Number": 7, "X-Object": {"a": [1]}, "x-lower": "y"}') as id`;
      await answerTo(row.id);
      const [request] = seen;
      expect(request?.headers).toMatchObject({
        host: 'shop.example',
        'x-number': '7',
        'x-object': '{"a": [1]}',
        'x-lower': 'y',
      });
      expect(request?.names).not.toContain('x-null');
      expect(request?.names).not.toContain('x-empty');
      const times = (name: string) => request?.names.filter((each) => each === name).length;
      expect([times('host'), times('content-type'), times('user-agent')]).toEqual([1, 1, 2]);
    });

    it('nothing but POST sends a type of its own, and nobody asks for a compressed answer', async () => {
      const [row] = await sql<[{ one: string; two: string; three: string }]>`
        select net.http_get(${address('/a')}) as one, net.http_delete(${address('/b')}, body := '{"x": 1}') as two,
          net.http_post(${address('/c')}, headers := null) as three`;
      await Promise.all([row.one, row.two, row.three].map((id) => answerTo(id)));
      const of = (path: string) => seen.find((request) => request.url === path)?.headers;
      expect(of('/a')).not.toHaveProperty('content-type');
      expect(of('/b')?.['content-type']).toBe('application/x-www-form-urlencoded');
      expect(of('/c')?.['content-type']).toBe('application/x-www-form-urlencoded');
      expect(of('/a')).not.toHaveProperty('accept-encoding');
    });

    it('of an answer’s header that comes twice the last value stays, and what has no type is null', async () => {
      expect((await answerTo(await get('/twice'))).headers).toMatchObject({ 'X-Answer': 'two' });
      expect((await answerTo(await get('/bare'))).content_type).toBeNull();
    });

    it('credentials in a url arrive as basic authorization', async () => {
      await answerTo(await get('/x').then(() => get('/x')));
      const [row] = await sql<[{ id: string }]>`
        select net.http_get(${address('/login').replace('//', '//me:s%20x@')}) as id`;
      await answerTo(row.id);
      expect(seen.find(({ url }) => url === '/login')?.headers.authorization).toBe(
        `Basic ${Buffer.from('me:s x').toString('base64')}`,
      );
    });

    it('the answers of a batch are in the order in which they came', async () => {
      await quiet();
      const [row] = await sql<[{ slow: string; fast: string }]>`
        select net.http_get(${address('/slow/400')}) as slow, net.http_get(${address('/fast')}) as fast`;
      await answerTo(row.slow);
      const order = await sql<{ id: string }[]>`select id from net._http_response order by ctid`;
      expect(order.map(({ id }) => id)).toEqual([row.fast, row.slow]);
    });

    it('the worker that is told to leave comes back by itself and goes on', async () => {
      const before = await workerPid();
      expect(before).not.toBeNull();
      await sql`select net.worker_restart()`;
      const id = await get('/after-restart');
      expect((await answerTo(id)).status_code).toBe(200);
      await until('another worker runs', async () => ![null, before].includes(await workerPid()));
    });

    it('a worker whose backend is ended comes back by itself, and what waited is sent', async () => {
      const before = await workerPid();
      await sql`select pg_terminate_backend(${before})`;
      const id = await get('/after-termination');
      expect((await answerTo(id)).status_code).toBe(200);
    });

    it('a request that was put into the queue by hand waits for a wake-up', async () => {
      await quiet();
      await sql`insert into net.http_request_queue (method, url, timeout_milliseconds) values ('GET', ${address('/hand')}, 1000)`;
      await sleep(400);
      expect(seen).toHaveLength(0);
      await sql`select net.wake()`;
      await until('the request', () => seen.length === 1);
    });

    it('a batch has at most pg_net.batch_size requests, and old answers go when the worker works', async () => {
      const restart = async () => {
        const before = await workerPid();
        await sql`select net.worker_restart()`;
        await until('another worker runs', async () => ![null, before].includes(await workerPid()));
        await sql`select net.wait_until_running()`;
      };
      await subject.set('pg_net.batch_size', '2');
      await subject.set('pg_net.ttl', '1 hour');
      try {
        await restart();
        await sql`insert into net._http_response (id, created) values (-1, now() - interval '61 min'), (-2, now() - interval '59 min')`;
        await sql`select net.http_get(${address('/n')}) from generate_series(1, 5)`;
        await until(
          'all answers',
          async () => (await sql`select from net._http_response where id > 0`).length === 5,
        );
        const batches = await sql<{ n: number }[]>`
          select count(*)::int as n from net._http_response where id > 0 group by created order by created`;
        expect(batches.map((batch) => batch.n)).toEqual([2, 2, 1]);
        expect(await sql`select from net._http_response where id = -1`).toHaveLength(0);
        expect(await sql`select from net._http_response where id = -2`).toHaveLength(1);
      } finally {
        await subject.set('pg_net.batch_size');
        await subject.set('pg_net.ttl');
        await restart();
      }
    });

    it('a long queue is sent in batches of 200 with a rest of a second after each', async () => {
      const started = performance.now();
      await sql`select net.http_get(${address('/many')}) from generate_series(1, 600)`;
      await until(
        'all answers',
        async () => (await sql`select from net._http_response`).length === 600,
        20_000,
      );
      const seconds = (performance.now() - started) / 1000;
      expect(seconds).toBeGreaterThan(2);
      expect(seconds).toBeLessThan(8);
    });
  });
}

describe('pg_net stand-in', () => {
  use(standIn);

  it('the worker is seen while it runs, and missed when it does not', async () => {
    await sql`select net.check_worker_is_up()`;
    await worker?.stop();
    // a backend whose client has left needs a moment to leave, too
    const complaint = await until('the worker is missed', () =>
      sql`select net.check_worker_is_up()`.then(
        () => undefined,
        (error: unknown) => String(error),
      ),
    );
    expect(complaint).toContain('the pg_net background worker is not up');
  });

  it('requests that wait while no worker runs are sent by the next', async () => {
    await worker?.stop();
    const id = await get('/waiting');
    worker = await startNetWorker({ adminUrl: database.adminUrl, log: (line) => log.push(line) });
    expect((await answerTo(id)).status_code).toBe(200);
  });

  it('a worker that is stopped rolls back a batch that takes too long, and keeps its requests', async () => {
    const id = await get('/hang', 60_000);
    await until('it is sent', () => seen.length === 1);
    const started = performance.now();
    await worker?.stop();
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(await sql`select from net.http_request_queue where id = ${id}`).toHaveLength(1);
  });

  it('a worker that dies in a batch sends it again: each request arrives twice', async () => {
    await worker?.stop();
    const program = fileURLToPath(import.meta.resolve('../../scripts/local/extensions/net-worker.ts'));
    child = spawn(process.execPath, [program, '--url', database.adminUrl], { stdio: 'ignore' });
    await sql`select net.wait_until_running()`;
    const [row] = await sql<[{ fast: string; slow: string }]>`
      select net.http_get(${address('/again')}) as fast, net.http_get(${address('/slow/1000')}) as slow`;
    await until('both are sent', () => seen.length === 2);
    child.kill('SIGKILL');
    await until('its connections are gone', async () => {
      const left = await sql`select from pg_stat_activity where application_name like 'pg_net%'`;
      return left.length === 0;
    });
    expect(await sql`select from net.http_request_queue`).toHaveLength(2);
    worker = await startNetWorker({ adminUrl: database.adminUrl, log: (line) => log.push(line) });
    await Promise.all([answerTo(row.fast), answerTo(row.slow)]);
    expect(seen.map((request) => request.url).sort()).toEqual([
      '/again',
      '/again',
      '/slow/1000',
      '/slow/1000',
    ]);
  });

  it('a crash of the server loses queue and answers, ids begin again, and the worker goes on', async () => {
    await answerTo(await get('/before'));
    await get('/slow/60000', 60_000);
    await until('it is sent', () => seen.length === 2);
    await sql.end({ timeout: 1 });
    await crashServer(database.adminUrl);
    sql = connect();
    expect(await sql`select from net.http_request_queue`).toHaveLength(0);
    expect(await sql`select from net._http_response`).toHaveLength(0);
    const id = await get('/reborn');
    expect(id).toBe('1');
    expect((await answerTo(id)).status_code).toBe(200);
  });
});
