import { createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createHttp, retryAfterSeconds, wasNeverSent } from '../../functions/_shared/http.ts';
import { connectionRefused, connectionReset, json, network, never } from './fakes.ts';

const get = { url: 'https://provider.test/x', method: 'GET' } as const;

describe('http', () => {
  test('an answer comes with its status, headers and text', async () => {
    const { http } = network(() => json(418, { a: 1 }, { 'x-y': 'z' }));
    const result = await http(get);
    expect(result).toMatchObject({ kind: 'answer', status: 418, text: '{"a":1}' });
    expect(result.kind === 'answer' && result.headers.get('x-y')).toBe('z');
  });

  test('redirects are not asked for and not followed', async () => {
    for (const [status, sent] of [
      [301, 'no'],
      [302, 'maybe'],
      [303, 'maybe'],
      [307, 'no'],
      [308, 'no'],
    ] as const) {
      const { http, requests } = network(
        () => new Response(null, { status, headers: { location: 'https://evil.test' } }),
      );
      expect(await http(get)).toEqual({ kind: 'failure', reason: 'redirect', sent });
      expect(requests).toHaveLength(1);
    }
  });

  test('a provider that hangs is given up at the deadline, also in the middle of the body', async () => {
    const hanging = network(() => never<Response>());
    expect(await hanging.http(get)).toEqual({ kind: 'failure', reason: 'timeout', sent: 'maybe' });
    const slow = network(
      () => new Response(new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(3)) })),
    );
    expect(await slow.http(get)).toEqual({ kind: 'failure', reason: 'timeout', sent: 'maybe' });
  });

  test('a body over the limit is not read to its end', async () => {
    let chunks = 0;
    const { http } = network(
      () =>
        new Response(
          new ReadableStream({
            pull(controller) {
              chunks += 1;
              controller.enqueue(new Uint8Array(1_000));
            },
          }),
        ),
    );
    expect(await http(get)).toEqual({ kind: 'failure', reason: 'too_large', sent: 'maybe' });
    expect(chunks).toBeLessThan(20);
  });

  test('bytes that are not UTF-8 are refused, not replaced', async () => {
    const { http } = network(() => new Response(new Uint8Array([0xc0, 0xaf])));
    expect(await http(get)).toEqual({ kind: 'failure', reason: 'unreadable', sent: 'maybe' });
  });

  test('only what proves that nothing left is called never sent', () => {
    expect(wasNeverSent(connectionRefused())).toBe(true);
    expect(
      wasNeverSent(new TypeError('error sending request: client error (Connect): tcp connect error')),
    ).toBe(true);
    expect(wasNeverSent(Object.assign(new Error('Requires net access'), { name: 'NotCapable' }))).toBe(true);
    expect(wasNeverSent(connectionReset())).toBe(false);
    expect(wasNeverSent(new TypeError('fetch failed'))).toBe(false);
    expect(wasNeverSent('a string')).toBe(false);
    expect(wasNeverSent(new AggregateError([connectionRefused(), connectionReset()]))).toBe(false);
  });

  describe('over a real socket', () => {
    let close: (() => void) | undefined;
    afterEach(() => close?.());
    const serve = (onConnection: (socket: Socket) => void) =>
      new Promise<number>((resolve) => {
        const server = createServer(onConnection);
        close = () => server.close();
        server.listen(0, '127.0.0.1', () => {
          const address = server.address();
          resolve(typeof address === 'object' && address !== null ? address.port : 0);
        });
      });
    const real = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 2_000 });
    const post = (port: number) => real({ url: `http://127.0.0.1:${port}/`, method: 'POST', body: 'x' });

    test('a closed port: never sent', async () => {
      const port = await serve(() => {});
      close?.();
      expect(await post(port)).toEqual({ kind: 'failure', reason: 'unreachable', sent: 'no' });
    });

    test('a redirect is not followed: the second server never hears of the secret', async () => {
      const heard: string[] = [];
      const target = createServer((socket) => socket.on('data', (data) => heard.push(String(data))));
      await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
      const address = target.address();
      const targetPort = typeof address === 'object' && address !== null ? address.port : 0;
      const port = await serve((socket) =>
        socket.once('data', () =>
          socket.end(
            `HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:${targetPort}/\r\ncontent-length: 0\r\n\r\n`,
          ),
        ),
      );
      const headers = { authorization: 'Bearer canary' };
      const result = await real({ url: `http://127.0.0.1:${port}/`, method: 'POST', body: 'x', headers });
      target.close();
      expect(result).toEqual({ kind: 'failure', reason: 'redirect', sent: 'no' });
      expect(heard).toEqual([]);
    });

    test('a reset after the request: maybe sent', async () => {
      const port = await serve((socket) => socket.once('data', () => socket.resetAndDestroy()));
      expect(await post(port)).toEqual({ kind: 'failure', reason: 'interrupted', sent: 'maybe' });
    });

    test('a body that breaks off: maybe sent', async () => {
      const port = await serve((socket) =>
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"a')),
      );
      expect(await post(port)).toEqual({ kind: 'failure', reason: 'interrupted', sent: 'maybe' });
    });
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2026-11-22T12:00:00Z');
  test.each([
    ['30', 30],
    ['0', 1],
    ['-5', 1],
    ['1.5', 2],
    ['99999999999', 3600],
    ['Sun, 22 Nov 2026 12:00:45 GMT', 45],
    ['Sun, 22 Nov 2026 11:00:00 GMT', 1],
    ['Sun, 22 Nov 2099 12:00:00 GMT', 3600],
    [null, 60],
    ['', 60],
    ['120s', 60],
    ['5 minutes', 60],
    ['soon', 60],
    ['NaN', 60],
    ['Infinity', 60],
    ['1e9', 60],
    ['2026', 2026],
  ])('%s is %i seconds', (value, seconds) => {
    expect(retryAfterSeconds(value, now, { fallback: 60 })).toBe(seconds);
  });
});
