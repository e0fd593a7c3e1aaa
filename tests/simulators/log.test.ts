import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { demo, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { as, call, post } from './helpers.ts';

const pizza = demo['pizza-shop'].meta;
let folder: string;
let simulators: Simulators;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'simulators-test-'));
  simulators = await startSimulators({ logDir: folder });
});
afterAll(async () => {
  await simulators.stop();
  await rm(folder, { recursive: true, force: true });
});

const log = async (query = '') => (await call(`${simulators.urls.meta}/_log${query}`)).json;

test('a request is in the log before it is answered; the answer is added afterwards', async () => {
  await call(`${simulators.urls.meta}/_script`, {
    method: 'POST',
    body: JSON.stringify({ do: { delay_ms: 300 } }),
  });
  const pending = call(`${simulators.urls.meta}/v26.0/me`, as(pizza.access_token));
  await vi.waitFor(async () =>
    expect((await log()).entries.at(-1)).toMatchObject({ tenant: 'pizza-shop', answer: null }),
  );
  await pending;
  const entry = (await log()).entries.at(-1);
  expect(entry.answer).toMatchObject({ status: 200, kind: 'ok', script: 1 });
  expect(entry.answer.elapsed_ms).toBeGreaterThanOrEqual(295);
});

test('seq rises by one over all providers, and since gives only what came after', async () => {
  await call(`${simulators.urls.meta}/v26.0/me`, as(pizza.access_token));
  const { last_seq: last } = await log();
  await call(`${simulators.urls.meta}/v26.0/me`, as(pizza.access_token));
  await call(`${simulators.urls.stripe}/v1/customers`, as(demo.platform.stripe.api_key));
  await call(`${simulators.urls.meta}/v26.0/me`, as('nobody'));
  const own = (await log(`?since=${last}`)).entries;
  expect(own.map((entry: { seq: number }) => entry.seq)).toEqual([last + 1, last + 3]);
  expect(own[1]).toMatchObject({ tenant: null, answer: { kind: 'error', code: '190' } });
  const all = (await log(`?since=${last}&provider=all`)).entries;
  expect(all.map((entry: { provider: string }) => entry.provider)).toEqual(['meta', 'stripe', 'meta']);
  expect((await log('?since=x')).error).toMatch(/since/);
});

test('the token that was used and the tenant whose object was asked for are both named', async () => {
  await call(`${simulators.urls.meta}/_world`, {
    method: 'POST',
    body: JSON.stringify({ posts: [{ id: 'salon-1', account_id: demo.salon.meta.ig_user_id }] }),
  });
  await call(`${simulators.urls.meta}/v26.0/salon-1/comments`, as(demo.platform.meta.access_token));
  expect((await log()).entries.at(-1)).toMatchObject({
    tenant: 'platform',
    about: { post_id: 'salon-1', target_tenant: 'salon', first_page: true },
  });
});

test('no token or secret is in the log, the file, the scripts or the world', async () => {
  const canaries = [
    'canary-in-header',
    'canary-in-query',
    'canary-in-form',
    'canary-input',
    'canary-secret',
    'canary-proof',
    'canary-batch',
    'canary-script',
    'canary-known',
  ];
  const { meta, whatsapp, waapi } = simulators.urls;
  await call(`${meta}/_world`, {
    method: 'POST',
    body: JSON.stringify({
      apps: [{ app_id: '3', app_secret: 'canary-secret' }],
      tokens: [{ token: 'canary-known', tenant: 'pizza-shop', kind: 'page', accounts: '*', app_id: '3' }],
    }),
  });
  await call(`${meta}/_script`, {
    method: 'POST',
    body: JSON.stringify({ match: { token: 'canary-script' }, do: { status: 500 } }),
  });
  await call(`${meta}/v26.0/me`, as('canary-in-header'));
  await call(`${meta}/v26.0/me`, as('canary-known'));
  await call(`${meta}/v26.0/me?access_token=canary-in-query&appsecret_proof=canary-proof`);
  await call(`${meta}/v26.0/debug_token?input_token=canary-input&access_token=3%7Ccanary-secret`);
  await call(
    `${meta}/oauth/access_token?grant_type=fb_exchange_token&client_secret=canary-secret&fb_exchange_token=canary-input`,
  );
  await call(`${meta}/v26.0/`, {
    method: 'POST',
    body: new URLSearchParams({
      access_token: 'canary-known',
      batch: '[{"relative_url":"me?access_token=canary-batch"}]',
    }),
  });
  await call(`${whatsapp}/v26.0/1/messages`, {
    method: 'POST',
    body: new URLSearchParams({ access_token: 'canary-in-form' }),
  });
  await post(
    `${waapi}/api/v1/instances/1/client/action/send-message?token=canary-in-query`,
    'canary-in-header',
    {},
  );
  await simulators.requests.flush();
  const places = [
    (await call(`${meta}/_log?provider=all`)).text,
    (await call(`${meta}/_script`)).text,
    (await call(`${meta}/_world`)).text,
    (await call(`${whatsapp}/_world`)).text,
    await readFile(simulators.logFile, 'utf8'),
  ];
  for (const place of places) {
    for (const canary of canaries) expect(place).not.toContain(canary);
    for (const known of [pizza.access_token, demo.platform.whatsapp.access_token])
      expect(place).not.toContain(known);
  }
  // The requests themselves are there.
  expect(places[0]).toContain('access_token=redacted');
  expect(places[0]).toContain('/oauth/access_token');
});

test('the file holds every request and, after it, its answer', async () => {
  await simulators.requests.flush();
  const lines = (await readFile(simulators.logFile, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines[0]).toHaveProperty('started');
  const asked = lines.filter((line) => line.provider !== undefined).map((line) => line.seq);
  expect(asked).toEqual(Array.from({ length: simulators.requests.lastSeq() }, (_, n) => n + 1));
  for (const seq of asked) {
    const places = lines.flatMap((line, index) => (line.seq === seq ? [index] : []));
    expect(places).toHaveLength(2);
    expect(lines[places[0] ?? 0].answer).toBeNull();
    expect(lines[places[1] ?? 0].answer.kind).toBeTypeOf('string');
  }
});

test('clearing the log empties it; seq goes on and the file keeps everything', async () => {
  const { last_seq: last } = await log();
  await call(`${simulators.urls.meta}/_log`, { method: 'DELETE' });
  expect((await log()).entries).toEqual([]);
  await call(`${simulators.urls.meta}/v26.0/me`, as(pizza.access_token));
  expect((await log()).entries.map((entry: { seq: number }) => entry.seq)).toEqual([last + 1]);
  await simulators.requests.flush();
  expect(await readFile(simulators.logFile, 'utf8')).toContain('"seq":1,');
});

test('a log that is full says up to where it has forgotten', async () => {
  const small = await startSimulators({ only: ['meta'], logLimit: 10 });
  for (let n = 0; n < 15; n += 1) await call(`${small.urls.meta}/v26.0/me`, as('nobody'));
  const { entries, dropped_until: dropped } = (await call(`${small.urls.meta}/_log`)).json;
  expect(entries[0].seq).toBe(dropped + 1);
  expect(entries.at(-1).seq).toBe(15);
  await small.stop();
});

describe('starting and stopping', () => {
  test('a port that is taken is an error, and nothing is left behind', async () => {
    const blocker = createServer();
    const port = await new Promise<number>((resolve) => {
      blocker.listen(0, '127.0.0.1', () => resolve((blocker.address() as { port: number }).port));
    });
    await expect(startSimulators({ ports: { resend: port } })).rejects.toThrow(/EADDRINUSE/);
    await new Promise((resolve) => blocker.close(resolve));
  });

  test('stopping ends requests under way, closes the ports, and removes the temporary folder', async () => {
    const own = await startSimulators({ only: ['meta'], latencyMs: 60_000 });
    const pending = call(`${own.urls.meta}/v26.0/me`, as(pizza.access_token));
    const outcome = expect(pending).rejects.toThrow();
    await vi.waitFor(() => expect(own.requests.lastSeq()).toBe(1));
    await own.stop();
    await outcome;
    await expect(call(`${own.urls.meta}/v26.0/me`)).rejects.toThrow();
    expect(existsSync(own.logFile)).toBe(false);
  });

  test('alone they print their addresses, answer, and stop on SIGTERM', async () => {
    const child = spawn('node_modules/.bin/node', ['scripts/simulators/index.ts', '--empty'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once('data', (chunk) => resolve(String(chunk)));
      child.once('exit', (code) => reject(new Error(`ended with ${code} before it was ready`)));
    });
    const urls = JSON.parse(line);
    expect((await call(`${urls.meta}/v26.0/me`, as(pizza.access_token))).json.error.code).toBe(190);
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });
});
