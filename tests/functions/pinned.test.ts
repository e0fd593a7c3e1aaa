import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect as connectTcp } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createHttp, type Http } from '../../functions/_shared/http.ts';
import { type ConnectTls, createPinnedFetch } from '../../functions/_shared/pinned.ts';
import { certificatesFor } from './certificates.ts';

const host = 'gateway.example.com';
const certificates = certificatesFor(host);
let server: Server;
let port: number;
let dialled: string[] = [];
let received: {
  method?: string | undefined;
  url?: string | undefined;
  headers: NodeJS.Dict<string | string[]>;
  body: string;
}[] = [];
/** What the server says next, byte by byte; null: an ordinary answer. */
let raw: ((socket: Socket) => void) | null = null;

beforeAll(async () => {
  server = createServer({ key: certificates.key, cert: certificates.cert }, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    received.push({ method: request.method, url: request.url, headers: request.headers, body });
    if (raw !== null) {
      raw(response.socket as Socket);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ status: true }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  dialled = [];
  received = [];
  raw = null;
});

/** Like the runtime's, with the test's authority; all addresses are this machine. */
const connectTls: ConnectTls = async ({ address, host: name }) => {
  dialled.push(address);
  if (address === '192.0.2.1') throw new Error('no route');
  const socket = connectTcp({ host: '127.0.0.1', port, servername: name, ca: certificates.ca });
  await once(socket, 'secureConnect');
  const { readable, writable } = Duplex.toWeb(socket);
  return {
    readable: readable as ReadableStream<Uint8Array>,
    writable: writable as WritableStream<Uint8Array>,
    close: () => socket.destroy(),
  };
};
const pinned = (addresses: string[] = ['93.184.216.34'], timeoutMs = 2_000): Http =>
  createHttp({ fetch: createPinnedFetch(connectTls, addresses), timeoutMs, maxBytes: 5_000 });
const url = `https://${host}/send?x=1`;
const says = (text: string, end = true) => {
  raw = (socket) => {
    socket.write(text);
    if (end) socket.end();
  };
};

describe('a request to a checked address', () => {
  test('goes there with the name in the certificate and in the host header', async () => {
    const result = await pinned()({ method: 'POST', url, headers: { 'x-a': 'b' }, body: 'grüße' });
    expect(result).toMatchObject({ kind: 'answer', status: 200, text: '{"status":true}' });
    expect(dialled).toEqual(['93.184.216.34']);
    expect(received).toEqual([expect.objectContaining({ method: 'POST', url: '/send?x=1', body: 'grüße' })]);
    expect(received[0]?.headers).toMatchObject({
      host,
      'x-a': 'b',
      'content-length': '7',
      connection: 'close',
    });
  });

  test('headers that say how the message is carried are not the caller’s', async () => {
    const headers = {
      Host: 'evil.example',
      'Transfer-Encoding': 'chunked',
      'content-length': '1',
      Connection: 'keep-alive',
    };
    await pinned()({ method: 'POST', url, headers, body: 'body' });
    expect(received[0]).toMatchObject({
      body: 'body',
      headers: { host, 'content-length': '4', connection: 'close' },
    });
    expect(received[0]?.headers['transfer-encoding']).toBeUndefined();
  });

  test('a certificate for another name is refused before the request leaves', async () => {
    const result = await pinned()({ method: 'POST', url: 'https://other.example.com/', body: 'secret' });
    expect(result).toEqual({ kind: 'failure', reason: 'unreachable', sent: 'no' });
    expect(received).toEqual([]);
  });

  test('the next address is tried when one does not answer, IPv4 first', async () => {
    expect(
      await pinned(['2606:2800::1', '192.0.2.1', '93.184.216.34'])({ method: 'GET', url }),
    ).toMatchObject({ kind: 'answer' });
    expect(dialled).toEqual(['192.0.2.1', '93.184.216.34']);
  });

  test('without a connection nothing was sent', async () => {
    expect(await pinned(['192.0.2.1'])({ method: 'GET', url })).toEqual({
      kind: 'failure',
      reason: 'unreachable',
      sent: 'no',
    });
  });

  test('a header that can’t be sent is an error before the request leaves', async () => {
    const result = await pinned()({ method: 'POST', url, headers: { 'x-a': 'ü' }, body: '' });
    expect(result).toMatchObject({ kind: 'failure', sent: 'no' });
    expect(received).toEqual([]);
  });
});

describe('an answer', () => {
  test.each([
    ['with its length', 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more', 200, 'hello'],
    ['to the end of the connection', 'HTTP/1.0 201 Created\r\n\r\nhello', 201, 'hello'],
    [
      'in chunks',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n',
      200,
      'hello',
    ],
    [
      'after one that only says "go on"',
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok',
      200,
      'ok',
    ],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', 204, ''],
    ['with an error', 'HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 7\r\n\r\n', 503, ''],
  ])('%s is read', async (_name, text, status, body) => {
    says(text);
    expect(await pinned()({ method: 'GET', url })).toMatchObject({ kind: 'answer', status, text: body });
  });

  test.each([
    ['that is not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['cut off within its head', 'HTTP/1.1 200 OK\r\ncontent-le'],
    ['cut off within its body', 'HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello'],
    ['cut off within a chunk', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\nhello'],
    ['with a chunk that is none', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello'],
    ['with a length that is none', 'HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello'],
    [
      'with a coding nobody asked for',
      'HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx',
    ],
    ['with a header that is none', 'HTTP/1.1 200 OK\r\nno colon here\r\n\r\n'],
    ['with endless headers', `HTTP/1.1 200 OK\r\n${'x: yyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n'.repeat(2_000)}`],
    ['that switches the protocol', 'HTTP/1.1 101 Switching\r\n\r\n'],
  ])('%s leaves it open what happened', async (_name, text) => {
    says(text);
    expect(await pinned()({ method: 'POST', url, body: 'x' })).toEqual({
      kind: 'failure',
      reason: 'interrupted',
      sent: 'maybe',
    });
  });

  test('that is too large is not read to its end', async () => {
    says(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(20_000)}`, false);
    expect(await pinned()({ method: 'GET', url })).toMatchObject({ kind: 'failure', reason: 'too_large' });
  });

  test('that drips is cut off by the deadline', async () => {
    raw = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      const timer = setInterval(() => socket.write('x'), 20);
      socket.on('close', () => clearInterval(timer));
      socket.on('error', () => clearInterval(timer));
    };
    expect(await pinned(undefined, 200)({ method: 'GET', url })).toMatchObject({
      kind: 'failure',
      reason: 'timeout',
    });
  });

  test.each([301, 302, 303, 307, 308])('a redirect with %i is never followed', async (status) => {
    says(`HTTP/1.1 ${status} Elsewhere\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n`);
    expect(await pinned()({ method: 'POST', url, body: 'x' })).toMatchObject({
      kind: 'failure',
      reason: 'redirect',
    });
    expect(received).toHaveLength(1);
    expect(dialled).toHaveLength(1);
  });
});

test('in Deno the connection goes to the address though the name means nothing there, and only with the right certificate', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'onecron-pinned-'));
  const root = fileURLToPath(new URL('../../functions/_shared', import.meta.url));
  await writeFile(join(folder, 'ca.pem'), certificates.ca);
  const program = `
    import { createHttp } from '${root}/http.ts';
    import { createPinnedFetch } from '${root}/pinned.ts';
    import { createConnectTls } from '${root}/runtime.ts';
    const http = createHttp({ fetch: createPinnedFetch(createConnectTls(), ['127.0.0.1']), timeoutMs: 5000 });
    for (const host of ['${host}', 'other.example.com']) {
      const result = await http({ method: 'POST', url: 'https://' + host + ':${port}/deno', body: 'hello' });
      console.log(JSON.stringify(result.kind === 'answer' ? [result.status, result.text] : result));
    }`;
  await writeFile(join(folder, 'main.ts'), program);
  const deno = fileURLToPath(new URL('../../node_modules/.bin/deno', import.meta.url));
  const { stdout } = await promisify(execFile)(
    deno,
    [
      'run',
      '--no-config',
      '--no-check',
      '--no-remote',
      `--allow-net=127.0.0.1:${port}`,
      join(folder, 'main.ts'),
    ],
    { env: { ...process.env, DENO_CERT: join(folder, 'ca.pem'), NO_COLOR: '1' } },
  );
  expect(stdout.trim().split('\n')).toEqual([
    JSON.stringify([200, '{"status":true}']),
    JSON.stringify({ kind: 'failure', reason: 'unreachable', sent: 'no' }),
  ]);
  expect(received).toEqual([expect.objectContaining({ url: '/deno', body: 'hello' })]);
});
