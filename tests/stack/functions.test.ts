import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { alive, client, fixture, until } from './support.ts';

let stack: Stack;
let workdir: string;

beforeAll(async () => {
  workdir = mkdtempSync(join(tmpdir(), 'onecron-fixture-'));
  cpSync(fixture, workdir, { recursive: true });
  stack = await startStack({ dataDir: 'temporary', workdir, simulators: false, cron: false, watch: true });
});
afterAll(async () => {
  await stack?.stop();
  rmSync(workdir, { recursive: true, force: true });
});

const call = (path: string, init?: RequestInit) => fetch(`${stack.info.functions_url}${path}`, init);
const version = async () => {
  const response = await call('/echo');
  return response.ok ? (await response.json()).version : response.status;
};

test('a function gets method, path, query, headers and the exact bytes of the body', async () => {
  const bytes = Buffer.from([0x7b, 0x22, 0x00, 0xff, 0x0a, 0x0d, 0x7d]);
  const response = await call('/echo/a%2Fb?x=1&y=%20', {
    method: 'POST',
    body: bytes,
    headers: { 'x-onecron-signature': 't=1,v1=ab', 'x-answer-with': '418' },
  });
  expect(response.status).toBe(418);
  expect(response.headers.get('x-from')).toBe('echo');
  const seen = await response.json();
  expect(seen).toMatchObject({ method: 'POST', path: '/echo/a%2Fb?x=1&y=%20', body: bytes.toString('hex') });
  expect(seen.headers).toMatchObject({ 'x-onecron-signature': 't=1,v1=ab', 'content-length': '7' });
});

test('a body that comes in pieces arrives whole', async () => {
  const body = new ReadableStream({
    start(controller) {
      for (const piece of ['a', 'b', 'c']) controller.enqueue(new TextEncoder().encode(piece));
      controller.close();
    },
  });
  const response = await call('/echo', { method: 'POST', body, duplex: 'half' } as RequestInit);
  expect((await response.json()).body).toBe('616263');
});

test('supabase-js invokes functions, and a browser may ask first', async () => {
  const { data, error } = await client(stack.info).functions.invoke('echo/deep', { body: { a: 1 } });
  expect(error).toBeNull();
  expect(data).toMatchObject({ method: 'POST', path: '/echo/deep' });
  const preflight = await call('/echo', { method: 'OPTIONS', headers: { origin: 'http://localhost:3000' } });
  expect(preflight.headers.get('access-control-allow-headers')).toContain('apikey');
});

test('an unknown function is 404', async () => {
  const response = await call('/nobody');
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ code: 'NOT_FOUND' });
  expect((await call('/..%2Fecho')).status).toBe(404);
});

test('a function may reach the API, and neither the database nor the world', async () => {
  const reach = async (url: string) =>
    (await call(`/echo/reach?url=${encodeURIComponent(url)}`)).json() as Promise<unknown>;
  expect(await reach(`${stack.info.api_url}/rest/v1/`)).toBe(401);
  expect(await reach(`http://127.0.0.1:${new URL(stack.info.db_url).port}/`)).toBe('NotCapable');
  expect(await reach('http://169.254.169.254/')).toBe('NotCapable');
});

test('a function may read its own variables, and no file', async () => {
  const environment = async (name: string) => (await call(`/echo/environment?name=${name}`)).json();
  expect(await environment('SUPABASE_URL')).toBe(stack.info.api_url);
  expect(JSON.parse(await environment('SUPABASE_SECRET_KEYS'))).toEqual({ default: stack.info.secret_key });
  expect(await environment('HOME')).toBe('NotCapable');
  expect(await (await call('/echo/read')).json()).toBe('NotCapable');
});

test('a killed function comes back, and the others never notice', async () => {
  const [echo, idle] = [stack.functions.pid('echo'), stack.functions.pid('idle')];
  stack.functions.kill('echo');
  await until(() => stack.functions.pid('echo') !== undefined && stack.functions.pid('echo') !== echo);
  expect(await version()).toBe(1);
  expect(stack.functions.pid('idle')).toBe(idle);
});

test('a restart answers throughout', async () => {
  const before = stack.functions.pid('echo');
  let over = false;
  const restarted = stack.functions.restart('echo').then(() => {
    over = true;
  });
  const answers: unknown[] = [];
  while (!over) answers.push(await version());
  await restarted;
  expect(new Set(answers)).toEqual(new Set([1]));
  expect(stack.functions.pid('echo')).not.toBe(before);
  await until(() => before !== undefined && !alive(before));
});

test('a change of a file that a function imports is loaded; one that breaks it is not', async () => {
  const file = join(workdir, 'functions', 'echo', 'version.js');
  writeFileSync(file, 'export const version = 2;\n');
  await until(async () => (await version()) === 2);
  writeFileSync(file, 'export const version = ;\n');
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(await version()).toBe(2);
  writeFileSync(file, 'export const version = 3;\n');
  await until(async () => (await version()) === 3);
});

test('the dashboard is served, and nothing beside it', async () => {
  const page = await fetch(stack.info.dashboard_url);
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  expect(await page.text()).toContain('<title>Fixture</title>');
  for (const path of ['/dashboard/nope.js', '/dashboard/..%2fsupabase%2fconfig.toml', '/elsewhere']) {
    expect((await fetch(`${stack.info.api_url}${path}`)).status).toBe(404);
  }
});
