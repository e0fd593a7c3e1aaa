// The little of Deno and of Supabase's Edge Runtime that the functions use, declared so that any checker accepts it.
import type { Resolve } from './addresses.ts';
import { refuse } from './answer.ts';
import { withDeadline } from './http.ts';
import { createLog } from './log.ts';
import type { Connection, ConnectTls } from './pinned.ts';

export interface Deno {
  env: { get(name: string): string | undefined };
  serve(handler: (request: Request) => Response | Promise<Response>): unknown;
}

interface NamesGlobal {
  Deno?: { resolveDns?: (host: string, type: 'A' | 'AAAA') => Promise<string[]> };
}

const resolveMs = 3_000;

/** What the machine itself makes of a name: for a runtime without a call of its own for name servers. */
async function systemLookup(host: string): Promise<string[]> {
  const { lookup } = await import('node:dns/promises');
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
    if (code === 'ENOTFOUND') return [];
    throw thrown;
  }
}

/** The addresses of a host, as far as the runtime lets functions ask for them. */
export function createResolve(
  scope: object = globalThis,
  lookup: (host: string) => Promise<string[]> = systemLookup,
): Resolve {
  return async (host) => {
    const ask = (scope as NamesGlobal).Deno?.resolveDns;
    if (ask === undefined) return await withDeadline(resolveMs, () => lookup(host));
    const one = async (type: 'A' | 'AAAA'): Promise<string[] | null> => {
      try {
        return await withDeadline(resolveMs, () => ask(host, type));
      } catch (thrown) {
        const name = thrown instanceof Error ? thrown.name : '';
        if (name === 'NotFound') return [];
        // Locally no name server may be called: there `--allow-net` says which hosts may be.
        if (/^(NotCapable|PermissionDenied|NotSupported)$/.test(name)) return null;
        throw thrown;
      }
    };
    const [four, six] = await Promise.all([one('A'), one('AAAA')]);
    return four === null || six === null ? null : [...four, ...six];
  };
}

interface Socket {
  close(): void;
}
interface TlsSocket extends Connection {
  handshake(): Promise<unknown>;
}
interface SocketsGlobal {
  Deno?: {
    connect?: (target: { hostname: string; port: number }) => Promise<Socket>;
    startTls?: (socket: Socket, options: { hostname: string }) => Promise<TlsSocket>;
  };
}

/** Connects to an address and speaks TLS for a name: both runtimes have the two calls that this takes. */
export function createConnectTls(scope: object = globalThis): ConnectTls {
  return async ({ address, port, host }) => {
    const { connect, startTls } = (scope as SocketsGlobal).Deno ?? {};
    if (connect === undefined || startTls === undefined) throw new Error('no sockets in this runtime');
    const socket = await connect({ hostname: address, port });
    try {
      const secure = await startTls(socket, { hostname: host });
      // The certificate is checked now, not with the first byte of the request.
      await secure.handshake();
      return {
        readable: secure.readable,
        writable: secure.writable,
        close: () => closeQuietly(secure),
      };
    } catch (thrown) {
      closeQuietly(socket);
      throw thrown;
    }
  };
}

function closeQuietly(socket: Socket): void {
  try {
    socket.close();
  } catch {
    // It is closed already.
  }
}

interface EdgeGlobal {
  EdgeRuntime?: { waitUntil(work: Promise<unknown>): void };
}

/** Keeps the instance alive until `work` settles: by the Edge Runtime where there is one, else by holding it. */
export function createKeepAlive(scope: object = globalThis): (work: Promise<unknown>) => void {
  const held = new Set<Promise<unknown>>();
  return (work) => {
    const { EdgeRuntime } = scope as EdgeGlobal;
    if (EdgeRuntime !== undefined) {
      EdgeRuntime.waitUntil(work);
      return;
    }
    held.add(work);
    const release = () => held.delete(work);
    work.then(release, release);
  };
}

/** Aborts when the Edge Runtime announces the end of this instance. */
export function endOfInstance(scope: EventTarget = globalThis as unknown as EventTarget): AbortSignal {
  const controller = new AbortController();
  scope.addEventListener('beforeunload', () => controller.abort());
  return controller.signal;
}

/** What a function does instead of its work while its configuration is wrong: 503, and the log says why. */
export function refuseAll(functionName: string, problems: readonly string[]): () => Response {
  const log = createLog({ write: (line) => console.error(line), now: () => Date.now() });
  log.error('not configured: the function refuses to work', { function: functionName, problems });
  return () =>
    refuse(503, 'not_configured', 'This function is not configured. Its log says which variable to set.');
}
