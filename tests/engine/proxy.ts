/** A TCP proxy in front of Postgres that can swallow the answer to a COMMIT, cut connections, or fall silent. */
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';

export interface DatabaseProxy {
  /** The database's url by way of the proxy. */
  url: string;
  /** From now on, the connection over which the next answer passes that completes `tag` is cut instead of answered. */
  cutBefore(tag: string): void;
  /** How many answers were swallowed. */
  cuts(): number;
  /** Nothing passes any more, nothing is closed: the other side just went away. */
  silence(on: boolean): void;
  /** From now on each answer takes so much longer, and comes in pieces of so many bytes. */
  slow(options: { delayMs: number; pieceBytes: number }): void;
  stop(): Promise<void>;
}

export async function startProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let armed: Buffer | undefined;
  let cuts = 0;
  let silent = false;
  let slowness: { delayMs: number; pieceBytes: number } | undefined;

  const server = createServer((client) => {
    const upstream = dial(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (data) => {
      if (!silent) upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (silent) return;
      // The server has done it; only its word is lost.
      if (armed && data.includes(armed)) {
        armed = undefined;
        cuts++;
        client.destroy();
        return;
      }
      if (slowness === undefined) {
        client.write(data);
        return;
      }
      const { delayMs, pieceBytes } = slowness;
      // Timers of one length fire in the order in which they were set.
      setTimeout(() => {
        for (let from = 0; from < data.length; from += pieceBytes) {
          if (!client.destroyed) client.write(data.subarray(from, from + pieceBytes));
        }
      }, delayMs);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(address.port);
  return {
    url: url.href,
    // CommandComplete: the tag ends with a zero byte.
    cutBefore: (tag) => {
      armed = Buffer.from(`${tag}\0`, 'latin1');
    },
    cuts: () => cuts,
    silence: (on) => {
      silent = on;
    },
    slow: (options) => {
      slowness = options;
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
