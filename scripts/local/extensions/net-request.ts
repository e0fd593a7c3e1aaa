/**
 * One HTTP request the way libcurl makes it for pg_net: http and https only, redirects followed, one deadline over
 * everything, and libcurl's words for what went wrong.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { performance } from 'node:perf_hooks';

export interface HttpRequest {
  id: string;
  method: string;
  url: string;
  /** `Name: value` */
  headers: string[];
  body: Buffer | null;
  timeoutMs: number;
}

export interface HttpAnswer {
  id: string;
  statusCode?: number;
  contentType?: string;
  headers?: Record<string, string>;
  content?: string;
  timedOut: boolean;
  error?: string;
  /** Milliseconds on a clock that only moves forward. */
  endedAt: number;
}

/** libcurl's limit since 8.3 */
const maxRedirects = 30;

const messages: Record<string, string> = {
  ECONNREFUSED: "Couldn't connect to server",
  EHOSTUNREACH: "Couldn't connect to server",
  ENETUNREACH: "Couldn't connect to server",
  EADDRNOTAVAIL: "Couldn't connect to server",
  ETIMEDOUT: "Couldn't connect to server",
  ENOTFOUND: "Couldn't resolve host name",
  EAI_AGAIN: "Couldn't resolve host name",
  ECONNRESET: 'Failure when receiving data from the peer',
  EPIPE: 'Failed sending data to the peer',
  EPROTO: 'SSL connect error',
};

interface Timing {
  started: number;
  resolved?: number;
  connected?: number;
  secured?: number;
  requested?: number;
}

class Failure extends Error {}

/**
 * Every outcome of the request is an answer. `timeoutMs` 0 means no deadline, as in libcurl.
 *
 * @throws only when `signal` is aborted
 */
export async function sendRequest(
  request: HttpRequest,
  userAgent: string,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const timing: Timing = { started: performance.now() };
  const deadline = new AbortController();
  const timer = request.timeoutMs > 0 ? setTimeout(() => deadline.abort(), request.timeoutMs) : undefined;
  const answer = (rest: Partial<HttpAnswer>): HttpAnswer => ({
    id: request.id,
    timedOut: false,
    endedAt: performance.now(),
    ...rest,
  });
  try {
    const { response, body, first } = await follow(
      request,
      userAgent,
      timing,
      AbortSignal.any([deadline.signal, signal]),
    );
    return answer({
      statusCode: response.statusCode,
      // pg_net asks libcurl for the headers of the first answer, which after a redirect is another one
      headers: headersOf(first),
      contentType: response.headers['content-type'],
      // libpq's text ends at the first zero byte, and an empty body is null
      content: (body.includes(0) ? body.subarray(0, body.indexOf(0)) : body).toString('utf8') || undefined,
    });
  } catch (error) {
    signal.throwIfAborted();
    const timedOut = deadline.signal.aborted;
    if (timedOut) return answer({ timedOut, error: timeoutText(request.timeoutMs, timing) });
    return answer({ error: errorText(error) });
  } finally {
    clearTimeout(timer);
  }
}

async function follow(request: HttpRequest, userAgent: string, timing: Timing, signal: AbortSignal) {
  let url = parse(request.url);
  let method = request.method.toUpperCase();
  let body = request.body && withoutZero(request.body);
  const first = url;
  let firstResponse: IncomingMessage | undefined;
  for (let redirects = 0; ; redirects += 1) {
    const answer = await exchange({ url, method, body, first }, request.headers, userAgent, timing, signal);
    firstResponse ??= answer.response;
    const status = answer.response.statusCode ?? 0;
    const location = answer.response.headers.location;
    if (status < 300 || status > 399 || !location) return { ...answer, first: firstResponse };
    if (redirects === maxRedirects) throw new Failure('Number of redirects hit maximum amount');
    url = parse(location, url);
    // unless the server insists (307, 308) the body is not sent again: a POST becomes a GET, a DELETE stays what it is
    if (status === 301 || status === 302 || status === 303) {
      if (method === 'POST') method = 'GET';
      body = null;
    }
  }
}

interface Exchange {
  url: URL;
  method: string;
  body: Buffer | null;
  /** Where the first request went: another host, port or scheme gets no credentials. */
  first: URL;
}

function exchange(
  { url, method, body, first }: Exchange,
  ownHeaders: string[],
  userAgent: string,
  timing: Timing,
  signal: AbortSignal,
): Promise<{ response: IncomingMessage; body: Buffer }> {
  const secret = url.origin === first.origin ? /^$/ : /^(authorization|cookie)$/i;
  const headers: Array<[string, string]> = [];
  const own = ownHeaders.flatMap((line): Array<[string, string]> => {
    const at = line.indexOf(':');
    const [name, value] = [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    const stays = !secret.test(name) && (name.toLowerCase() !== 'host' || url.hostname === first.hostname);
    return at > 0 && value !== '' && stays ? [[name, value]] : [];
  });
  const has = (name: string) => own.some(([key]) => key.toLowerCase() === name);
  if (!has('host')) headers.push(['Host', url.host]);
  if (url.username && url.origin === first.origin && !has('authorization')) {
    const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers.push(['Authorization', `Basic ${Buffer.from(credentials).toString('base64')}`]);
  }
  if (!has('accept')) headers.push(['Accept', '*/*']);
  headers.push(...own, ['User-Agent', userAgent]);
  if (body && !has('content-type')) headers.push(['Content-Type', 'application/x-www-form-urlencoded']);
  if (body || method === 'POST') headers.push(['Content-Length', String(body?.length ?? 0)]);

  return new Promise((resolve, reject) => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const outgoing = send(url, { method, headers: headers.flat(), agent: false, signal, auth: undefined });
    outgoing.once('socket', (socket) => {
      socket.once('lookup', () => {
        timing.resolved = performance.now();
      });
      socket.once('connect', () => {
        timing.connected = performance.now();
        timing.resolved ??= timing.connected;
        if (url.protocol === 'http:') timing.requested = timing.connected;
      });
      socket.once('secureConnect', () => {
        timing.secured = performance.now();
        timing.requested = timing.secured;
      });
    });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', (error) =>
        reject(signal.aborted || response.complete ? error : new Failure('Transferred a partial file')),
      );
      response.once('end', () => resolve({ response, body: Buffer.concat(chunks) }));
    });
    outgoing.end(body ?? undefined);
  });
}

function parse(url: string, base?: URL): URL {
  if (!URL.canParse(url, base)) throw new Failure('URL using bad/illegal format or missing URL');
  const parsed = new URL(url, base);
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') throw new Failure('Unsupported protocol');
  return parsed;
}

function withoutZero(body: Buffer): Buffer {
  const zero = body.indexOf(0);
  return zero < 0 ? body : body.subarray(0, zero);
}

/** Names as the server wrote them; of a repeated header the last value stays, as in a jsonb object. */
function headersOf(response: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let at = 0; at + 1 < response.rawHeaders.length; at += 2) {
    headers[response.rawHeaders[at] ?? ''] = response.rawHeaders[at + 1] ?? '';
  }
  return headers;
}

function errorText(error: unknown): string {
  if (error instanceof Failure) return error.message;
  if (!(error instanceof Error)) return String(error);
  const inner: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = inner instanceof Error && 'code' in inner ? String(inner.code) : '';
  if (error.message === 'socket hang up') return 'Server returned nothing (no headers, no data)';
  if (/^(CERT|DEPTH|SELF|UNABLE|ERR_TLS_CERT)/.test(code))
    return 'SSL peer certificate or SSH remote key was not OK';
  if (/^ERR_(SSL|TLS)/.test(code)) return 'SSL connect error';
  if (code.startsWith('HPE_')) return 'Weird server reply';
  if (code === 'ERR_INVALID_CHAR' || code === 'ERR_INVALID_HTTP_TOKEN') {
    return 'A libcurl function was given a bad argument';
  }
  return messages[code] ?? error.message;
}

/** pg_net's own message: it says in which step the time ran out. */
function timeoutText(timeoutMs: number, timing: Timing): string {
  const total = performance.now() - timing.started;
  const resolved = timing.resolved === undefined ? undefined : timing.resolved - timing.started;
  const requested = timing.requested === undefined ? undefined : timing.requested - timing.started;
  const [dns, handshake, http] =
    resolved === undefined
      ? [total, 0, 0]
      : requested === undefined
        ? [resolved, total - resolved, 0]
        : [resolved, requested - resolved, total - requested];
  const ms = (value: number) => `${value.toFixed(6)} ms`;
  return (
    `Timeout of ${timeoutMs} ms reached. Total time: ${ms(total)} (DNS time: ${ms(dns)}, ` +
    `TCP/SSL handshake time: ${ms(handshake)}, HTTP Request/Response time: ${ms(http)})`
  );
}
