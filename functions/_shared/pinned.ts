// HTTPS to an address that was checked before: the connection goes to the address, the certificate is checked against
// the host's name. `fetch` would look the name up once more. One request a connection, HTTP/1.1, nothing followed.
import { type Fetch, NeverSentError, withDeadline } from './http.ts';

/** A connection with TLS established. */
export interface Connection {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
  close(): void;
}

/** Connects to `address` and checks the certificate for `host`; rejects when either fails. */
export type ConnectTls = (target: { address: string; port: number; host: string }) => Promise<Connection>;

const connectMs = 5_000;
/** Addresses that are tried, one after another, when a connection fails. */
const mostAddresses = 3;
const largestHead = 32_768;
/** Headers that say how the message is carried: not the caller's to set. */
const ownHeaders = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'accept-encoding',
  'expect',
  'upgrade',
  'te',
  'trailer',
]);

export function createPinnedFetch(connect: ConnectTls, addresses: readonly string[]): Fetch {
  return async (text, init) => {
    const url = new URL(text);
    const body = typeof init.body === 'string' ? new TextEncoder().encode(init.body) : null;
    const head = requestHead(url, init, body);
    const connection = await connectToOne(url);
    const stop = () => connection.close();
    if (init.signal?.aborted) {
      stop();
      throw new NeverSentError('aborted');
    }
    init.signal?.addEventListener('abort', stop, { once: true });
    try {
      const writer = connection.writable.getWriter();
      await writer.write(head);
      if (body !== null) await writer.write(body);
      writer.releaseLock();
      return await readResponse(new Incoming(connection), stop);
    } catch (thrown) {
      stop();
      throw thrown;
    }
  };

  async function connectToOne(url: URL): Promise<Connection> {
    const port = Number(url.port || 443);
    // IPv4 first: not every network has the other.
    const ordered = [...addresses].sort((a, b) => Number(a.includes(':')) - Number(b.includes(':')));
    for (const address of ordered.slice(0, mostAddresses)) {
      const connecting = connect({ address, port, host: url.hostname });
      try {
        return await withDeadline(connectMs, () => connecting);
      } catch {
        connecting.then((late) => late.close()).catch(() => {});
      }
    }
    throw new NeverSentError('no connection');
  }
}

function requestHead(url: URL, init: RequestInit, body: Uint8Array | null): Uint8Array {
  const headers = new Headers(init.headers);
  for (const name of ownHeaders) headers.delete(name);
  const lines = [
    `${init.method ?? 'GET'} ${url.pathname}${url.search} HTTP/1.1`,
    `host: ${url.host}`,
    'connection: close',
    'accept-encoding: identity',
    ...(body === null ? [] : [`content-length: ${body.byteLength}`]),
  ];
  // `Headers` takes no line break, but a byte beyond ASCII would not be the one that was meant.
  headers.forEach((value, name) => {
    if (!/^[\x20-\x7e\t]*$/.test(value)) throw new NeverSentError('a header that can’t be sent');
    lines.push(`${name}: ${value}`);
  });
  return new TextEncoder().encode(`${lines.join('\r\n')}\r\n\r\n`);
}

/** The bytes that come in, line by line or so many at a time. */
class Incoming {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #held: Uint8Array = new Uint8Array();

  constructor(connection: Connection) {
    this.#reader = connection.readable.getReader();
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    if (done) return false;
    const joined = new Uint8Array(this.#held.byteLength + value.byteLength);
    joined.set(this.#held);
    joined.set(value, this.#held.byteLength);
    this.#held = joined;
    return true;
  }

  /** One line without its end. */
  async line(): Promise<string> {
    while (true) {
      const end = this.#held.indexOf(10);
      if (end >= 0) {
        const text = new TextDecoder('latin1').decode(this.#held.subarray(0, end));
        this.#held = this.#held.subarray(end + 1);
        return text.replace(/\r$/, '');
      }
      if (this.#held.byteLength > largestHead) throw new TypeError('a line that does not end');
      if (!(await this.#more())) throw new TypeError('the connection ended within a line');
    }
  }

  /** At most `limit` bytes, as soon as there are some; null at the end. */
  async some(limit: number): Promise<Uint8Array | null> {
    if (this.#held.byteLength === 0 && !(await this.#more())) return null;
    const part = this.#held.subarray(0, limit);
    this.#held = this.#held.subarray(part.byteLength);
    return part;
  }
}

async function readHead(incoming: Incoming): Promise<{ status: number; headers: Headers }> {
  const [, code] = /^HTTP\/1\.[01] (\d{3})(?: .*)?$/.exec(await incoming.line()) ?? [];
  if (code === undefined) throw new TypeError('this is not HTTP');
  const headers = new Headers();
  let size = 0;
  while (true) {
    const line = await incoming.line();
    if (line === '') return { status: Number(code), headers };
    size += line.length;
    if (size > largestHead) throw new TypeError('too many headers');
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new TypeError('a header that is none');
    headers.append(name, value);
  }
}

async function readResponse(incoming: Incoming, close: () => void): Promise<Response> {
  let head = await readHead(incoming);
  for (let more = 0; head.status < 200; more++) {
    if (head.status === 101 || more >= 5) throw new TypeError('an answer that was not asked for');
    head = await readHead(incoming);
  }
  const { status, headers } = head;
  if (status === 204 || status === 304 || status > 599) {
    close();
    return new Response(null, { status: status > 599 ? 502 : status, headers });
  }
  const parts = partsOf(incoming, headers);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await parts.next();
        if (!done) {
          controller.enqueue(value);
          return;
        }
        controller.close();
      } catch (thrown) {
        controller.error(thrown);
      }
      close();
    },
    cancel: close,
  });
  return new Response(body, { status, headers });
}

/** The body in parts: by chunks, by its length, or to the end of the connection. What is cut short is an error. */
async function* partsOf(incoming: Incoming, headers: Headers): AsyncGenerator<Uint8Array> {
  const coding = headers.get('content-encoding')?.toLowerCase() ?? 'identity';
  if (coding !== 'identity') throw new TypeError('a coding that was not asked for');
  const transfer = headers.get('transfer-encoding')?.toLowerCase();
  if (transfer !== undefined) {
    if (transfer !== 'chunked') throw new TypeError('a transfer coding that is not known');
    while (true) {
      const [, hex] = /^([0-9a-f]{1,8})(?:;.*)?$/i.exec((await incoming.line()).trim()) ?? [];
      if (hex === undefined) throw new TypeError('a chunk that is none');
      const size = Number.parseInt(hex, 16);
      if (size === 0) return;
      yield* exactly(incoming, size);
      if ((await incoming.line()) !== '') throw new TypeError('a chunk that does not end');
    }
  }
  const length = headers.get('content-length');
  if (length !== null) {
    if (!/^\d{1,15}$/.test(length)) throw new TypeError('a length that is none');
    yield* exactly(incoming, Number(length));
    return;
  }
  for (let part = await incoming.some(65_536); part !== null; part = await incoming.some(65_536)) yield part;
}

async function* exactly(incoming: Incoming, size: number): AsyncGenerator<Uint8Array> {
  for (let left = size; left > 0; ) {
    const part = await incoming.some(left);
    if (part === null) throw new TypeError('the connection ended within the body');
    left -= part.byteLength;
    yield part;
  }
}
