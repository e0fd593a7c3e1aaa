// The one way out to a provider: a deadline over the whole exchange, a size limit, no redirects, no exceptions.

export interface HttpRequest {
  url: string;
  method: 'GET' | 'POST' | 'PUT';
  headers?: Record<string, string>;
  body?: string;
}

export type FailureReason =
  | 'timeout'
  | 'unreachable'
  | 'interrupted'
  | 'redirect'
  | 'too_large'
  | 'unreadable';

export type HttpResult =
  | { kind: 'answer'; status: number; headers: Headers; text: string }
  /** `sent: 'no'` is only said when the provider can't have seen the request. */
  | { kind: 'failure'; reason: FailureReason; sent: 'no' | 'maybe' };

export type Http = (request: HttpRequest) => Promise<HttpResult>;

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

const failureWords: Record<FailureReason, string> = {
  timeout: 'did not answer in time',
  unreachable: 'could not be reached',
  interrupted: 'broke the connection off',
  redirect: 'answered with a redirect, which is never followed',
  too_large: 'answered with too much data',
  unreadable: 'answered with bytes that are not text',
};

/** "<who> did not answer in time". */
export function describeFailure(who: string, reason: FailureReason): string {
  return `${who} ${failureWords[reason]}`;
}

// Error codes of Node's fetch that come before the first byte of the request has left.
const neverSentCodes = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_INVALID_URL',
]);

/** For those who speak to the network themselves: thrown before the first byte of the request has left. */
export class NeverSentError extends Error {}

/** True when the error proves that the request never left: name resolution, connect, TLS, a missing permission. */
export function wasNeverSent(thrown: unknown, depth = 0): boolean {
  if (!(thrown instanceof Error) || depth > 4) return false;
  if (thrown instanceof NeverSentError) return true;
  if (thrown.name === 'NotCapable' || thrown.name === 'PermissionDenied') return true;
  if ('code' in thrown && typeof thrown.code === 'string' && neverSentCodes.has(thrown.code)) return true;
  // Deno's fetch has no codes; hyper's phase is in the text.
  if (/client error \(Connect\)|dns error|Connection refused/.test(thrown.message)) return true;
  if (thrown instanceof AggregateError) {
    return thrown.errors.length > 0 && thrown.errors.every((each) => wasNeverSent(each, depth + 1));
  }
  return wasNeverSent(thrown.cause, depth + 1);
}

class DeadlineError extends Error {}

/** Rejects with DeadlineError after `timeoutMs`, also when `work` ignores its abort signal. */
export async function withDeadline<T>(
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new DeadlineError(`no answer within ${timeoutMs} ms`));
      controller.abort();
    }, timeoutMs);
  });
  const running = work(controller.signal);
  running.catch(() => {}); // it may reject after the deadline has
  try {
    return await Promise.race([running, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

export type BodyRead = { kind: 'text'; text: string } | { kind: 'too_large' } | { kind: 'unreadable' };

/** Reads a body up to `maxBytes` and decodes it strictly: bytes that are not UTF-8 are refused, not replaced. */
export async function readText(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<BodyRead> {
  if (body === null) return { kind: 'text', text: '' };
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > maxBytes) {
      reader.cancel().catch(() => {});
      return { kind: 'too_large' };
    }
    chunks.push(value);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  try {
    return { kind: 'text', text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { kind: 'unreadable' };
  }
}

/**
 * fetch that sends a body once. Deno's (seen with 2.9.6) sends a request again, unasked and POST or not, when a connection that it
 * had kept open breaks before the answer: a message would leave twice. A body that streams cannot be sent a second time.
 */
export function sendingOnce(fetch: Fetch): Fetch {
  return (url, init) => {
    if (typeof init.body !== 'string') return fetch(url, init);
    // The types of fetch do not have `duplex` everywhere; a body that streams needs it.
    const streaming: RequestInit & { duplex: 'half' } = {
      ...init,
      body: new Blob([init.body]).stream(),
      duplex: 'half',
    };
    return fetch(url, streaming);
  };
}

export function createHttp(options: { fetch: Fetch; timeoutMs: number; maxBytes?: number }): Http {
  const maxBytes = options.maxBytes ?? 1_000_000;

  async function exchange(request: HttpRequest, signal: AbortSignal): Promise<HttpResult> {
    const init: RequestInit = { method: request.method, redirect: 'manual', signal };
    if (request.headers) init.headers = request.headers;
    if (request.body !== undefined) init.body = request.body;
    const response = await options.fetch(request.url, init);

    if (response.type === 'opaqueredirect' || (response.status >= 300 && response.status < 400)) {
      response.body?.cancel().catch(() => {});
      // 301, 307 and 308 say "not here": nothing was done. 302 and 303 also follow a finished POST.
      const sent = [301, 307, 308].includes(response.status) ? 'no' : 'maybe';
      return { kind: 'failure', reason: 'redirect', sent };
    }
    const read = await readText(response.body, maxBytes);
    if (read.kind !== 'text') return { kind: 'failure', reason: read.kind, sent: 'maybe' };
    return { kind: 'answer', status: response.status, headers: response.headers, text: read.text };
  }

  return async (request) => {
    try {
      return await withDeadline(options.timeoutMs, (signal) => exchange(request, signal));
    } catch (thrown) {
      if (thrown instanceof DeadlineError) return { kind: 'failure', reason: 'timeout', sent: 'maybe' };
      if (wasNeverSent(thrown)) return { kind: 'failure', reason: 'unreachable', sent: 'no' };
      return { kind: 'failure', reason: 'interrupted', sent: 'maybe' };
    }
  };
}

/** JSON or undefined; never throws. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * The `Retry-After` header in whole seconds: a number or an HTTP date, at least 1 and at most `maximum`.
 * What is missing or can't be read gives the fallback.
 */
export function retryAfterSeconds(
  value: string | null,
  nowMs: number,
  { fallback, maximum = 3600 }: { fallback: number; maximum?: number },
): number {
  const bounded = (seconds: number) => Math.min(maximum, Math.max(1, Math.ceil(seconds)));
  const text = value?.trim() ?? '';
  if (/^-?\d+(\.\d+)?$/.test(text)) return bounded(Number(text));
  // Only the date form of the header: Date.parse alone would read "120s" or "5 minutes" as some year.
  if (/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(text)) {
    const at = Date.parse(text);
    if (!Number.isNaN(at)) return bounded((at - nowMs) / 1000);
  }
  return bounded(fallback);
}
