// Alerts, raw jobs and tracing on a whole stack: the tick, the doorbell, the worker in Deno, and the receivers.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Sql } from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { connect, type Stack, startStack } from '../../scripts/local/stack.ts';
import { demo } from '../../scripts/simulators/index.ts';

interface Received {
  path: string;
  headers: Record<string, unknown>;
  body: unknown;
}

/** A server that accepts every POST and remembers it. */
async function receiver(): Promise<{ url: string; host: string; received: Received[]; server: Server }> {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    received.push({ path: request.url ?? '', headers: request.headers, body: JSON.parse(text) });
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url: `http://${host}`, host, received, server };
}

const pizzaShop = '10000000-0000-4000-8000-000000000001';
const lines: string[] = [];
let webhook: Awaited<ReturnType<typeof receiver>>;
let collector: Awaited<ReturnType<typeof receiver>>;
let stack: Stack;
let sql: Sql;

beforeAll(async () => {
  [webhook, collector] = await Promise.all([receiver(), receiver()]);
  stack = await startStack({
    dataDir: 'temporary',
    env: {
      ALERT_WEBHOOK_HOSTS: webhook.host,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20canary-of-the-collector',
    },
    log: (line) => lines.push(line),
  });
  sql = connect(stack.adminUrl);
  const owner = randomUUID();
  await sql`insert into auth.users (id, email, aud, role)
    values (${owner}, 'owner@pizza.example', 'authenticated', 'authenticated')`;
  await sql`insert into public.memberships (tenant_id, user_id, role) values (${pizzaShop}, ${owner}, 'owner')`;
  await sql`select vault.create_secret(${`${webhook.url}/services/canary-webhook`}, 'alert_webhook_url')`;
  const [secret, account] = [
    { api_key: demo.platform.resend.api_key },
    { from: 'Onecron <alerts@example.com>' },
  ];
  await sql`select jobs.set_platform_credential('email', 'resend', ${sql.json(secret)}, ${sql.json(account)})`;
  await sql`select jobs.start_tick(1)`;
});

afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  webhook?.server.close();
  collector?.server.close();
});

const posted = () => webhook.received.map(({ body }) => (body as { text: string }).text);

async function mails(): Promise<{ to: string[]; subject: string; idempotency_key: string }[]> {
  const response = await fetch(`${stack.info.simulators.resend}/_messages`);
  const mail = z.object({ to: z.array(z.string()), subject: z.string(), idempotency_key: z.string() });
  return z.object({ messages: z.array(mail) }).parse(await response.json()).messages;
}

/** Waits until nothing is left of these jobs: whatever was to be sent is sent. */
async function settled(...jobs: string[]): Promise<void> {
  const left = () =>
    sql`select job from jobs.items where job = any (${jobs}) union all select job from jobs.leases where job = any (${jobs})`.then(
      (rows) => rows.length,
    );
  await expect.poll(left, { timeout: 30_000 }).toBe(0);
}

const spansSent = () => {
  const schema = z.object({
    resourceSpans: z.array(
      z.object({
        scopeSpans: z.array(
          z.object({ spans: z.array(z.looseObject({ name: z.string(), traceId: z.string() })) }),
        ),
      }),
    ),
  });
  return collector.received
    .filter(({ path }) => path === '/v1/traces')
    .flatMap(({ body }) => schema.parse(body).resourceSpans)
    .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
};

test('an alert is told once when it opens and once when it is over, by webhook and to the owner', async () => {
  await sql`select jobs.open_alert(${pizzaShop}, 'credential meta', 'The meta credential does not work.')`;
  await sql`select jobs.open_alert(${pizzaShop}, 'credential meta', 'The same incident, seen again.')`;
  await expect
    .poll(async () => [posted().length, (await mails()).length], { timeout: 30_000 })
    .toEqual([1, 1]);
  await settled('alert-webhook', 'alert-email');
  expect(posted()).toEqual(['Pizza Shop: The meta credential does not work.']);
  expect(await mails()).toMatchObject([
    { to: ['owner@pizza.example'], subject: '[Onecron] opened: credential meta' },
  ]);

  await sql`select jobs.close_alert(${pizzaShop}, 'credential meta')`;
  await expect
    .poll(async () => [posted().length, (await mails()).length], { timeout: 30_000 })
    .toEqual([2, 2]);
  await settled('alert-webhook', 'alert-email');
  expect(posted()[1]).toMatch(/^Over: The meta credential does not work\./);
  expect((await mails())[1]).toMatchObject({
    to: ['owner@pizza.example'],
    idempotency_key: expect.stringMatching(/^alert-\d+-closed$/),
  });
  expect(webhook.received.map(({ path }) => path)).toEqual(Array(2).fill('/services/canary-webhook'));
});

test('a raw job runs its command outside of a transaction, from the tick to the worker', async () => {
  await sql`insert into jobs.definitions (job, kind, scope, meaning, command, batch_size, quantum, max_drains)
    values ('vacuum-items', 'raw', 'platform', 'Cleans the queue.', 'vacuum (analyze) jobs.items', 1, 1, 1),
      ('vacuum-nothing', 'raw', 'platform', 'Fails.', 'vacuum public.there_is_no_such_table', 1, 1, 1)`;
  const vacuums = async () => {
    const [row] = await sql<{ count: number }[]>`
      select vacuum_count::int as count from pg_stat_user_tables where relid = 'jobs.items'::regclass`;
    return row?.count ?? 0;
  };
  const before = await vacuums();
  await sql`select jobs.enqueue(job, jobs.platform_id()) from unnest(array['vacuum-items', 'vacuum-nothing']) job`;
  await settled('vacuum-items');
  const attempts = (job: string) =>
    sql<{ outcome: string; error: string | null }[]>`
      select outcome, error from jobs.attempts where job = ${job} order by finished_at limit 1`;
  expect(await attempts('vacuum-items')).toEqual([{ outcome: 'done', error: null }]);
  await expect.poll(vacuums).toBe(before + 1);

  await expect.poll(() => attempts('vacuum-nothing'), { timeout: 30_000 }).toHaveLength(1);
  expect(await attempts('vacuum-nothing')).toEqual([
    { outcome: 'retry', error: '42P01: relation "public.there_is_no_such_table" does not exist' },
  ]);
});

test('a command ends before its lease does, and says which numbers decide that', async () => {
  await sql`insert into jobs.definitions (job, kind, scope, meaning, command, batch_size, quantum, max_drains, lease_seconds)
    values ('slow-command', 'raw', 'platform', 'Takes long.', 'select pg_sleep(60)', 1, 1, 1, 5)`;
  await sql`select jobs.enqueue('slow-command', jobs.platform_id())`;
  const attempts = () =>
    sql<{ outcome: string; error: string; seconds: number }[]>`
      select outcome, error, extract(epoch from finished_at - started_at)::float as seconds
      from jobs.attempts where job = 'slow-command' order by finished_at limit 1`;
  await expect.poll(attempts, { timeout: 30_000 }).toHaveLength(1);
  const [attempt] = await attempts();
  expect(attempt).toMatchObject({
    outcome: 'retry',
    error: expect.stringMatching(/^57014: .*lease_seconds/),
  });
  expect(attempt?.seconds).toBeGreaterThan(1);
  expect(attempt?.seconds).toBeLessThan(5);
});

test('a raw job that is run by hand answers in the one shape', async () => {
  // Without the tick: nobody else may take the item.
  const owner = connect(stack.info.db_url);
  await owner`select cron.unschedule('onecron')`;
  await owner.end();
  await settled('vacuum-items');
  await sql`select jobs.enqueue('vacuum-items', jobs.platform_id())`;
  const response = await fetch(`${stack.info.functions_url}/jobs/vacuum-items`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.info.cron_secret}` },
  });
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ results: { processed: 1, errors: [] } });
  await settled('vacuum-items');
});

test('the collector gets spans in the traces of the items, and what was measured', async () => {
  const traces = await sql<{ trace_id: string; job: string }[]>`
    select distinct replace(trace_id::text, '-', '') as trace_id, job
    from jobs.attempts where job in ('alert-webhook', 'alert-email', 'vacuum-items') and outcome = 'done'`;
  expect(traces.length).toBeGreaterThanOrEqual(5);
  for (const { trace_id, job } of traces) {
    const names = () => spansSent().flatMap((span) => (span.traceId === trace_id ? span.name : []));
    await expect.poll(names, { timeout: 10_000 }).toContain(`item ${job}`);
    if (job === 'alert-webhook') expect(names()).toContain('POST alert webhook');
    if (job === 'alert-email') expect(names()).toContain('POST resend');
  }
  const metrics = JSON.stringify(collector.received.filter(({ path }) => path === '/v1/metrics'));
  for (const name of ['onecron.items', 'onecron.batch.duration', 'onecron.provider.call.duration']) {
    expect(metrics).toContain(name);
  }
  expect(collector.received[0]?.headers.authorization).toBe('Bearer canary-of-the-collector');
});

test('log lines of items carry the trace id, and no secret is in a log, a span or a row', async () => {
  const entries = lines.flatMap((line) => {
    const text = /^\[(?:worker|jobs)\] (\{.*\})$/.exec(line)?.[1];
    return text === undefined ? [] : [JSON.parse(text) as Record<string, unknown>];
  });
  const about = entries.filter((entry) => entry.item !== undefined);
  expect(about.length).toBeGreaterThanOrEqual(5);
  for (const entry of about) {
    expect(entry).toMatchObject({
      run: expect.any(Number),
      batch: expect.any(Number),
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
  }

  const password = new URL(stack.info.db_url).password;
  const hidden = ['canary-webhook', 'canary-of-the-collector', demo.platform.resend.api_key, password];
  const bodies = collector.received.map(({ body }) => body);
  const rows =
    await sql`select to_jsonb(a) from jobs.attempts a union all select to_jsonb(d) from jobs.drains d`;
  const everything = [...lines, JSON.stringify(bodies), JSON.stringify(rows)].join('\n');
  expect(everything).toContain('alert posted');
  for (const secret of hidden) expect(everything.includes(secret), secret).toBe(false);
});
