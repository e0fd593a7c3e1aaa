// The functions as they run: real Deno, no permission that is not listed here, a Data API that answers from a table,
// and the simulators as the providers.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { environmentNames } from '../../functions/_shared/env.ts';
import { sign } from '../../functions/_shared/signature.ts';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { batch, drainId, item, secret, ticket, whatsappCredential, work } from './fakes.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const result = {
  message: 'ok',
  results: { processed: 1, errors: [] },
  timestamp: '2026-11-22T12:00:00+00:00',
};

interface Call {
  name: string;
  args: Record<string, unknown>;
  key: string | undefined;
  schema: string | undefined;
}

/** A Data API with the engine's functions: one drain, one batch, one message. */
async function startDataApi(calls: Call[]): Promise<Server> {
  const credential = {
    ...whatsappCredential,
    secret: { access_token: demo.platform.whatsapp.access_token },
    account: { phone_number_id: demo.platform.whatsapp.phone_number_id },
  };
  const data = { outbox_id: 'o1', to: '+4915112345678', text: 'Congratulations', send_before: null };
  const answers: Record<string, (args: Record<string, unknown>) => unknown> = {
    answer_doorbell: () => ({ drain_id: drainId, job: 'send-notifications' }),
    next_batch: () => batch(1, [work([item(7, data)], credential)], { job: 'send-notifications' }),
    begin_effects: ({ items }) => items,
    extend_batch: () => true,
    close_batch: () => ({ closed: 1, stale: 0, next: null }),
    end_drain: () => null,
    run_now: () => ({ run_id: 3, drain_id: drainId, kind: 'edge' }),
    take_request: () => ({ allowed: true, reason: null, retry_after_seconds: null }),
    run_result: () => result,
    health: () => ({ healthy: true, reasons: [], checked_at: '2026-11-22T12:00:00.5+00:00' }),
    list: () => [{ name: 'send-notifications' }],
    webhook_secrets: ({ tenant }) =>
      tenant === 'pizza-shop'
        ? {
            tenant_id: '33333333-3333-4333-8333-333333333333',
            app_secrets: ['canary-app-secret'],
            verify_token: 'canary-verify',
          }
        : null,
    receive_webhook: () => ({ new: true, retry_after_seconds: null }),
  };
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const name = /^\/rest\/v1\/rpc\/(\w+)$/.exec(request.url ?? '')?.[1] ?? '';
    const args = JSON.parse(text || '{}') as Record<string, unknown>;
    const header = (key: string) => String(request.headers[key]);
    calls.push({ name, args, key: header('apikey'), schema: header('content-profile') });
    const answer = answers[name];
    response.writeHead(answer ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ? answer(args) : { code: 'PGRST202', message: name }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const running: ChildProcess[] = [];

async function startFunction(
  name: string,
  env: Record<string, string>,
  hosts: string[],
): Promise<{ url: string; lines: string[] }> {
  const port = await freePort();
  const child = spawn(
    `${root}/node_modules/.bin/deno`,
    [
      'run',
      '--no-prompt',
      '--config=functions/deno.json',
      '--node-modules-dir=manual',
      `--allow-env=${environmentNames.join(',')}`,
      `--allow-net=${[`127.0.0.1:${port}`, ...hosts].join(',')}`,
      `functions/${name}/index.ts`,
    ],
    {
      cwd: root,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        NO_COLOR: '1',
        DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}`,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  running.push(child);
  const lines: string[] = [];
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (line.startsWith('Listening')) resolve();
      });
    }
    child.once('exit', (code) => reject(new Error(`deno ended with ${code}: ${lines.join('\n')}`)));
  });
  return { url: `http://127.0.0.1:${port}`, lines };
}

let simulators: Simulators;
let api: Server;
const calls: Call[] = [];
let env: Record<string, string>;
let hosts: string[];

beforeAll(async () => {
  simulators = await startSimulators({ only: ['meta', 'whatsapp', 'waapi'] });
  api = await startDataApi(calls);
  const { port } = api.address() as AddressInfo;
  const { META_GRAPH_URL, META_INSTAGRAM_URL, WHATSAPP_URL, WAAPI_URL } = simulators.env;
  env = {
    SUPABASE_URL: `http://127.0.0.1:${port}`,
    SUPABASE_SECRET_KEYS: '{"default":"sb_secret_of_the_test"}',
    CRON_SECRET: secret,
    META_GRAPH_URL,
    META_INSTAGRAM_URL,
    WHATSAPP_URL,
    WAAPI_URL,
  };
  hosts = [`127.0.0.1:${port}`, new URL(WHATSAPP_URL).host];
});

afterAll(async () => {
  for (const child of running) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.removeAllListeners('exit');
    child.kill();
    await once(child, 'exit');
  }
  api.close();
  await simulators.stop();
});

describe('in Deno', () => {
  test('a doorbell that is rung becomes a message that is sent and closed', async () => {
    const worker = await startFunction('worker', env, hosts);
    const body = `{"ticket": "${ticket}"}`;
    const signature = await sign({ secret, timestamp: Date.now() / 1000, body });
    const response = await fetch(`${worker.url}/worker`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-onecron-signature': signature },
      body,
    });
    expect(response.status).toBe(202);
    await expect.poll(() => calls.map((call) => call.name).at(-1), { timeout: 10_000 }).toBe('end_drain');
    expect(calls.map((call) => call.name)).toEqual([
      'answer_doorbell',
      'next_batch',
      'begin_effects',
      'close_batch',
      'next_wake',
      'end_drain',
    ]);
    expect(calls[0]).toMatchObject({ key: 'sb_secret_of_the_test', schema: 'jobs', args: { ticket } });
    expect(calls[3]?.args).toMatchObject({
      batch_id: 1,
      outcomes: [
        { item_id: 7, outcome: 'done', result: { status: 'sent', provider_message_id: expect.any(String) } },
      ],
      next: true,
    });
    expect(simulators.requests.list({ provider: 'whatsapp' })).toHaveLength(1);
    const log = worker.lines.join('\n');
    expect(log).toContain('"trace_id"');
    for (const hidden of [secret, demo.platform.whatsapp.access_token, 'sb_secret_of_the_test']) {
      expect(log).not.toContain(hidden);
    }
  });

  test('a job that is run by hand answers in the one shape, and health answers without a secret', async () => {
    const jobs = await startFunction('jobs', env, hosts);
    const headers = { authorization: `Bearer ${secret}` };
    const response = await fetch(`${jobs.url}/jobs/send-notifications`, { method: 'POST', headers });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(result);
    expect((await fetch(`${jobs.url}/functions/v1/jobs/health`)).status).toBe(200);
    expect((await fetch(`${jobs.url}/jobs`)).status).toBe(401);
  });

  test('a webhook is stored when its tenant’s app has signed it, and not otherwise', async () => {
    const webhooks = await startFunction('webhooks', env, hosts);
    const url = `${webhooks.url}/webhooks/meta/pizza-shop`;
    const body = '{"object":"instagram","entry":[{"id":"1","text":"caf\\u00e9 \\ud83c\\udf55"}]}';
    const post = (key: string) =>
      fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-hub-signature-256': `sha256=${createHmac('sha256', key).update(body).digest('hex')}`,
        },
        body,
      });
    expect((await post('wrong')).status).toBe(401);
    expect(calls.filter(({ name }) => name === 'receive_webhook')).toEqual([]);
    expect((await post('canary-app-secret')).status).toBe(200);
    expect(calls.find(({ name }) => name === 'receive_webhook')).toMatchObject({
      schema: 'jobs',
      args: { source: 'meta', body: { entry: [{ text: 'café 🍕' }] } },
    });
    const asked = 'hub.mode=subscribe&hub.challenge=42&hub.verify_token=canary-verify';
    expect(await (await fetch(`${url}?${asked}`)).text()).toBe('42');
    expect(webhooks.lines.join('\n')).not.toContain('canary');
  });

  test('without a good cron secret nothing runs, and the log says why', async () => {
    const worker = await startFunction('worker', { ...env, CRON_SECRET: 'short' }, hosts);
    const response = await fetch(`${worker.url}/worker`, { method: 'POST', body: '{}' });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ error: { code: 'not_configured' } });
    expect(worker.lines.join('\n')).toMatch(/CRON_SECRET is shorter than 32 characters/);
  });
});
