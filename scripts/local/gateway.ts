import { createReadStream, existsSync, statSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
  request as send,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

export interface Routes {
  rest: RequestListener;
  auth: RequestListener;
  /** Where a function listens, for one request; `down` while it does not, `unknown` when there is no such function. */
  enterFunction(name: string): { port: number; leave(): void } | 'down' | 'unknown';
  /** The directory of the admin page. */
  dashboardDir: string;
}

export interface Gateway {
  port: number;
  url: string;
  /** Until the routes are there every request is answered with 503. */
  open(routes: Routes): void;
  stop(): Promise<void>;
}

/** The largest body of a request. No app's is as large, and what is larger would be held in memory. */
export const largestBody = 10 * 1024 * 1024;

/** Listens on one port and hands requests on by path, as the platform's gateway does. */
export async function startGateway(preferredPort?: number): Promise<Gateway> {
  let routes: Routes | undefined;
  const server = createServer((request, response) => {
    response.once('finish', () => linger(request));
    if (Number(request.headers['content-length'] ?? 0) > largestBody) answer(response, 413, tooLarge);
    else if (routes) route(routes, request, response);
    else answer(response, 503, { code: 'STARTING', message: 'The stack is starting' });
  });
  // Slow bodies and long answers are the business of whoever answers.
  server.requestTimeout = 0;
  await listen(server, preferredPort);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    open: (given) => {
      routes = given;
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(
  server: ReturnType<typeof createServer>,
  preferredPort: number | undefined,
): Promise<void> {
  const attempt = (port: number) =>
    new Promise<boolean>((resolve) => {
      const refused = () => resolve(false);
      server.once('error', refused);
      server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
        server.off('error', refused);
        resolve(true);
      });
    });
  if (preferredPort !== undefined && (await attempt(preferredPort))) return;
  if (!(await attempt(0))) throw new Error('no free TCP port on 127.0.0.1');
}

function route(routes: Routes, request: IncomingMessage, response: ServerResponse): void {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
  const [, service, version, name = ''] = path.split('/');
  if (version === 'v1' && service === 'rest') void routes.rest(request, response);
  else if (version === 'v1' && service === 'auth') void routes.auth(request, response);
  else if (version === 'v1' && service === 'functions') {
    const entered = routes.enterFunction(name);
    if (entered === 'unknown') {
      answer(response, 404, { code: 'NOT_FOUND', message: 'Requested function was not found' });
    } else if (entered === 'down') answerDown(response);
    else {
      response.once('close', entered.leave);
      forward(entered.port, request, response);
    }
  } else if (service === 'dashboard')
    serveFile(routes.dashboardDir, path.slice('/dashboard'.length), response);
  else answer(response, 404, { message: 'no Route matched with those values' });
}

/** Of these the other end of a connection gets its own (RFC 9110, 7.6.1). */
const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/** A function sees its path without /functions/v1, and the body byte by byte: its signature covers it. */
function forward(port: number, request: IncomingMessage, response: ServerResponse): void {
  const headers = { ...request.headers };
  for (const name of hopByHop) delete headers[name];
  headers['x-forwarded-host'] = request.headers.host;
  headers['x-forwarded-proto'] = 'http';
  headers['x-forwarded-for'] = request.socket.remoteAddress;
  // As the hosted platform's edge: whatever the caller says, this is who it is.
  headers['cf-connecting-ip'] = request.socket.remoteAddress;
  // Without a body there is nothing to announce; with one of unknown length it is sent in chunks again.
  if (request.headers['transfer-encoding']) headers['transfer-encoding'] = 'chunked';
  const onward = send({
    host: '127.0.0.1',
    port,
    method: request.method,
    path: (request.url ?? '').slice('/functions/v1'.length),
    headers,
    agent: false,
  });
  onward.on('response', (upstream) => {
    const answered = { ...upstream.headers };
    for (const name of hopByHop) delete answered[name];
    response.writeHead(upstream.statusCode ?? 502, answered);
    upstream.on('error', () => response.destroy());
    upstream.pipe(response);
  });
  let refused = false;
  onward.on('error', () => {
    if (refused) return;
    if (response.headersSent) response.destroy();
    else answerDown(response);
  });
  response.on('close', () => onward.destroy());
  // A body of unknown length shows only on its way that it is too large.
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= largestBody || refused || response.headersSent) return;
    refused = true;
    request.unpipe(onward);
    answer(response, 413, tooLarge);
    onward.destroy();
  });
  request.pipe(onward);
}

/** Who was answered before the whole body was there may go on sending for a moment, or would miss the answer. */
function linger(request: IncomingMessage): void {
  if (request.complete) return;
  request.resume();
  const late = setTimeout(() => request.socket.destroy(), 5_000).unref();
  for (const end of ['end', 'close']) request.once(end, () => clearTimeout(late));
}

/** The body of an answer with status 413. */
export const tooLarge = {
  code: 'BODY_TOO_LARGE',
  message: `Send a body of at most ${largestBody} bytes.`,
};

function answerDown(response: ServerResponse): void {
  answer(response, 503, {
    code: 'BOOT_ERROR',
    message: 'Function is starting, or failed to (please check the log)',
  });
}

const contentTypes: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
};

function serveFile(dir: string, path: string, response: ServerResponse): void {
  if (path === '') {
    response.writeHead(302, { location: '/dashboard/' }).end();
    return;
  }
  let relative = '';
  try {
    relative = normalize(decodeURIComponent(path));
  } catch {
    // Not a path at all.
  }
  const file = join(dir, relative.endsWith('/') ? join(relative, 'index.html') : relative);
  if (!relative || !file.startsWith(join(dir, '/')) || !existsSync(file) || !statSync(file).isFile()) {
    answer(response, 404, { message: 'not found' });
    return;
  }
  response.writeHead(200, {
    'content-type': contentTypes[extname(file)] ?? 'application/octet-stream',
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
  });
  createReadStream(file).pipe(response);
}

function answer(response: ServerResponse, status: number, body: Record<string, string>): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    // So that a browser shows the error rather than a missing header.
    'access-control-allow-origin': '*',
  });
  response.end(text);
}
