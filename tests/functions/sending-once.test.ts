// A request with a body leaves once, in Deno itself: its fetch sends one again when a connection that was kept open breaks.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sendingOnce } from '../../functions/_shared/http.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const seen: string[] = [];
const server = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  seen.push(`${request.url} ${text}`);
  if (request.url?.startsWith('/breaks')) request.socket.resetAndDestroy();
  else response.end('ok');
});
let url: string;

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

/** Runs a program in Deno that knows `url` and `once`. */
async function deno(program: string): Promise<string> {
  const http = new URL('../../functions/_shared/http.ts', import.meta.url).href;
  const code = `import { sendingOnce } from '${http}'; const url = '${url}'; const once = sendingOnce((to, init) => fetch(to, init)); ${program}`;
  const child = spawn(`${root}node_modules/.bin/deno`, [
    'eval',
    '--no-lock',
    '--config',
    `${root}functions/deno.json`,
    code,
  ]);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += String(text)));
  await once(child, 'close');
  return output.trim();
}

describe('a body that was sent over a connection that breaks', () => {
  test('is sent once, and whole', async () => {
    const post = (path: string) => `once(url + '${path}', { method: 'POST', body: 'to you, 🍕' })`;
    const said = await deno(
      `await (await ${post('/works')}).text(); await ${post('/breaks')}.then(() => console.log('answered'), () => console.log('broken'));`,
    );
    expect(said).toBe('broken');
    expect(seen).toEqual(['/works to you, 🍕', '/breaks to you, 🍕']);
  });

  test('what has no body, or not one of text, is left as it is', async () => {
    const given: RequestInit[] = [];
    const send = sendingOnce(async (_, init) => {
      given.push(init);
      return new Response();
    });
    const [get, bytes] = [{ method: 'GET' }, { method: 'POST', body: new Uint8Array([1]) }];
    await send(url, get);
    await send(url, bytes);
    await send(url, { method: 'POST', headers: { a: 'b' }, body: 'x' });
    expect(given[0]).toBe(get);
    expect(given[1]).toBe(bytes);
    expect(given[2]).toMatchObject({ method: 'POST', headers: { a: 'b' }, body: expect.any(ReadableStream) });
  });
});
