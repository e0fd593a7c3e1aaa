import { type ChildProcess, spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { type FunctionConfig, root } from './config.ts';
import { choosePort } from './env.ts';
import type { Guard } from './guard.ts';

export interface FunctionsOptions {
  functions: FunctionConfig[];
  /** What each function finds in its environment. */
  env: Record<string, string>;
  /** Variables that a function may ask for beside those, though they may be unset. */
  readable: string[];
  /** Hosts (`host:port`) that a function may call. */
  net: (name: string) => string[];
  /** Restart a function when a file beside it changes. */
  watch: boolean;
  /** Deno's cache. */
  cacheDir: string;
  guard: Guard;
  log: (line: string) => void;
}

export interface Functions {
  names: string[];
  pid(name: string): number | undefined;
  /** The port on which the function listens, undefined while it does not. */
  port(name: string): number | undefined;
  /** The same for one request, which tells when it is over; undefined while it does not listen. */
  enter(name: string): { port: number; leave(): void } | undefined;
  /** Ends the function's process; it comes back by itself. */
  kill(name: string, signal?: NodeJS.Signals): void;
  /** Puts a fresh process in the function's place: it listens before the old one goes. */
  restart(name: string): Promise<void>;
  stop(): Promise<void>;
}

/** How long a function may take until it listens. */
const startMs = 30_000;
/** How long a function may go on with what it does once it was told to end. */
const endMs = 2_000;
/** How long a function that has a successor may take to answer what it was asked before. */
const answerMs = 10_000;

interface Running {
  child: ChildProcess;
  port: number;
  ended: Promise<void>;
  /** Requests that it has not answered yet. */
  inFlight: number;
  /** Called when the last of them is answered. */
  quiet?: () => void;
}

/** Runs every function in a Deno process of its own, with only the permissions it needs. */
export async function startFunctions(options: FunctionsOptions): Promise<Functions> {
  const hosts = new Map(
    options.functions.map((declared) => [declared.name, supervise(declared, options)] as const),
  );
  const host = (name: string) => {
    const found = hosts.get(name);
    if (!found) throw new Error(`there is no function "${name}"`);
    return found;
  };
  const stop = async () => {
    for (const watcher of watchers) watcher.close();
    await Promise.all([...hosts.values()].map((each) => each.stop()));
  };
  const watchers = options.watch ? watchFiles(options, (name) => host(name).restart()) : [];
  try {
    await Promise.all([...hosts.values()].map((each) => each.restart()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    names: [...hosts.keys()],
    pid: (name) => host(name).running()?.child.pid,
    port: (name) => hosts.get(name)?.running()?.port,
    enter: (name) => enter(hosts.get(name)?.running()),
    kill: (name, signal = 'SIGKILL') => void host(name).running()?.child.kill(signal),
    restart: (name) => host(name).restart(),
    stop,
  };
}

function supervise(declared: FunctionConfig, options: FunctionsOptions) {
  const log = (line: string) => options.log(`[${declared.name}] ${line}`);
  let running: Running | undefined;
  let stopped = false;
  let queue: Promise<void> = Promise.resolve();
  const alive = new Set<Running>();

  const boot = async (): Promise<void> => {
    const next = await launch(declared, options, log);
    alive.add(next);
    void next.ended.then(() => alive.delete(next));
    const reason = await listening(next);
    if (stopped || reason) {
      await end(next);
      if (stopped) return;
      throw new Error(`function "${declared.name}" did not start: ${reason}`);
    }
    const old = running;
    running = next;
    void next.ended.then(() => {
      if (running !== next) return;
      running = undefined;
      if (stopped) return;
      log('ended; starting it again');
      void revive();
    });
    if (old) {
      await answered(old);
      await end(old);
    }
  };

  // What died comes back. When it dies at once, again and again, each new try waits longer.
  const revive = async (): Promise<void> => {
    for (let waitMs = 100; !stopped && !running; waitMs = Math.min(waitMs * 2, 5_000)) {
      try {
        await enqueue(async () => {
          if (!running) await boot();
        });
      } catch (error) {
        log(error instanceof Error ? error.message : String(error));
        await delay(waitMs);
      }
    }
  };

  const enqueue = (step: () => Promise<void>): Promise<void> => {
    const result = queue.then(() => (stopped ? undefined : step()));
    queue = result.catch(() => {});
    return result;
  };

  return {
    running: () => running,
    restart: () => enqueue(boot),
    stop: async () => {
      stopped = true;
      await Promise.all([...alive].map(end));
      await queue;
      await Promise.all([...alive].map(end));
    },
  };
}

async function launch(
  declared: FunctionConfig,
  options: FunctionsOptions,
  log: (line: string) => void,
): Promise<Running> {
  const port = await choosePort();
  const child = spawn(
    join(root, 'node_modules', 'deno', 'deno'),
    [
      'run',
      '--no-prompt',
      '--quiet',
      '--cached-only',
      '--node-modules-dir=manual',
      '--config',
      declared.importMap,
      `--allow-net=${[`127.0.0.1:${port}`, ...options.net(declared.name)].join(',')}`,
      `--allow-env=${[...Object.keys(options.env), ...options.readable, ...readByPackages].join(',')}`,
      declared.entrypoint,
    ],
    {
      cwd: dirname(declared.importMap),
      // A session of its own: Ctrl-C in the terminal reaches the stack, which then stops things in order.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...options.env,
        DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}`,
        DENO_DIR: options.cacheDir,
        DENO_NO_UPDATE_CHECK: '1',
        NO_COLOR: '1',
        TZ: 'UTC',
      },
    },
  );
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      log(error.message);
      resolve();
    });
  });
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', log);
  const pid = child.pid;
  if (pid !== undefined) {
    options.guard.add(pid, 'KILL');
    void ended.then(() => options.guard.remove(pid));
  }
  return { child, port, ended, inFlight: 0 };
}

/** Variables that npm packages of the functions look at; without the right to, Deno would throw. None is set. */
const readByPackages = ['NODE_ENV', 'NODE_DEBUG', 'WS_NO_BUFFER_UTIL', 'WS_NO_UTF_8_VALIDATE', 'PG*'];

/** Waits until the function accepts connections. Answers with the reason when it does not come to that. */
async function listening(function_: Running): Promise<string | undefined> {
  let over = false;
  void function_.ended.then(() => {
    over = true;
  });
  const deadline = Date.now() + startMs;
  while (Date.now() < deadline) {
    if (over) return 'its process ended (see the log)';
    if (await accepts(function_.port)) return undefined;
    await delay(20);
  }
  return `it does not listen after ${startMs / 1000} s`;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function enter(function_: Running | undefined): { port: number; leave(): void } | undefined {
  if (!function_) return undefined;
  function_.inFlight++;
  let over = false;
  const leave = () => {
    if (over) return;
    over = true;
    if (--function_.inFlight === 0) function_.quiet?.();
  };
  return { port: function_.port, leave };
}

/** Waits for what it was asked before its successor came, but not for ever. */
async function answered(function_: Running): Promise<void> {
  if (function_.inFlight === 0) return;
  const waiting = new AbortController();
  const quiet = new Promise<void>((resolve) => {
    function_.quiet = resolve;
  });
  await Promise.race([
    quiet,
    function_.ended,
    delay(answerMs, undefined, { signal: waiting.signal }).catch(() => {}),
  ]);
  waiting.abort();
}

async function end(function_: Running): Promise<void> {
  if (function_.child.exitCode !== null || function_.child.signalCode !== null) return;
  function_.child.kill('SIGTERM');
  const timer = setTimeout(() => function_.child.kill('SIGKILL'), endMs);
  await function_.ended;
  clearTimeout(timer);
}

/** Functions share files, so a change anywhere beside them restarts them all. */
function watchFiles(options: FunctionsOptions, restart: (name: string) => Promise<void>) {
  let pending: NodeJS.Timeout | undefined;
  const directories = new Set(options.functions.map((declared) => dirname(declared.importMap)));
  return [...directories].map((directory) =>
    watch(directory, { recursive: true }, (_event, file) => {
      if (file && !/\.(ts|js|mjs|json)$/.test(file)) return;
      clearTimeout(pending);
      // An editor writes a file in several steps.
      pending = setTimeout(() => {
        options.log('Files of the functions changed: loading them again');
        for (const { name } of options.functions) {
          restart(name).catch((error: unknown) =>
            options.log(`${error instanceof Error ? error.message : String(error)}; the one before goes on`),
          );
        }
      }, 150);
    }),
  );
}
