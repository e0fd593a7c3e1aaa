import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { root } from './config.ts';

/** What the Data API's sessions of this process are called in `pg_stat_activity`: by this a stack tells them from another's. */
export const sessionName: string = `onecron ${randomBytes(6).toString('hex')}`;

/** Where a checkout keeps its local stack. */
export const defaultDataDir: string = resolve(process.env.ONECRON_DATA_DIR || join(root, '.onecron'));

const keysSchema = z.object({
  publishableKey: z.string().startsWith('sb_publishable_'),
  secretKey: z.string().startsWith('sb_secret_'),
  /** Signs the sessions of the Auth API, at least 32 bytes. */
  jwtSecret: z.string().min(32),
  /** Signs doorbells and opens functions/jobs, at least 32 bytes. */
  cronSecret: z.string().min(64),
  /** The password of every database role of this stack. */
  databasePassword: z.string().min(32),
});
export type Keys = z.infer<typeof keysSchema>;

/** The keys of one data directory: made at random once, readable by their owner only. */
export function readKeys(dataDir: string): Keys {
  const file = join(dataDir, 'keys.json');
  if (!existsSync(file)) {
    const keys: Keys = {
      publishableKey: `sb_publishable_${randomBytes(24).toString('base64url')}`,
      secretKey: `sb_secret_${randomBytes(24).toString('base64url')}`,
      jwtSecret: randomBytes(32).toString('hex'),
      cronSecret: randomBytes(32).toString('hex'),
      databasePassword: randomBytes(24).toString('hex'),
    };
    writeFileSync(file, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  }
  return keysSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
}

/** Makes the directory. As root, others may pass through it: Postgres runs as another user. */
export function makeDataDir(dataDir: string): void {
  mkdirSync(dataDir, { recursive: true, mode: isRoot() ? 0o711 : 0o700 });
  if (isRoot()) chmodSync(dataDir, 0o711);
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** A path under the system's temporary directory that is `purpose`'s alone and stays the same between starts. */
export function temporaryPath(purpose: string): string {
  const owner = process.getuid?.() ?? '';
  return join(
    tmpdir(),
    `onecron-${createHash('sha256').update(`${owner}:${purpose}`).digest('hex').slice(0, 16)}`,
  );
}

/** Makes the directory of `temporaryPath`. Anybody may create names there, so one that is not ours is refused. */
export function makeTemporaryDir(purpose: string): string {
  const dir = temporaryPath(purpose);
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  const stat = lstatSync(dir);
  if (!stat.isDirectory() || (process.getuid && stat.uid !== process.getuid())) {
    throw new Error(`${dir} belongs to somebody else: remove it, or set TMPDIR to a directory of your own`);
  }
  return dir;
}

/** The preferred port when it is free on 127.0.0.1, else any free one. */
export async function choosePort(preferred?: number): Promise<number> {
  const tryPort = (port: number) =>
    new Promise<number | undefined>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(undefined));
      server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
        const address = server.address();
        server.close(() => resolve(typeof address === 'object' && address ? address.port : undefined));
      });
    });
  const port = (preferred === undefined ? undefined : await tryPort(preferred)) ?? (await tryPort(0));
  if (port === undefined) throw new Error('no free TCP port on 127.0.0.1');
  return port;
}

const lockSchema = z.object({ pid: z.number().int(), born: z.string(), api_url: z.string().optional() });

export interface Lock {
  /** Notes where this stack answers, for the message that a second start gives. */
  note(apiUrl: string): void;
  release(): void;
}

/** One stack per data directory. Throws while another process holds it; takes over from one that died. */
export function takeLock(dataDir: string): Lock {
  const file = join(dataDir, 'stack.json');
  const own = { pid: process.pid, born: bornAt(process.pid) ?? '' };
  // Written whole under another name first: link() then either puts all of it in place or fails.
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, JSON.stringify(own), { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(draft, file);
        break;
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
        const holder = readLock(file);
        if (holder && bornAt(holder.pid) === holder.born) {
          throw new Error(
            `A stack already runs in ${dataDir} (process ${holder.pid}${holder.api_url ? `, ${holder.api_url}` : ''}). Stop it first: kill ${holder.pid}`,
          );
        }
        rmSync(file, { force: true });
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
  return {
    note: (apiUrl) => writeFileSync(file, JSON.stringify({ ...own, api_url: apiUrl }), { mode: 0o600 }),
    release: () => {
      if (readLock(file)?.pid === process.pid) rmSync(file, { force: true });
    },
  };
}

function readLock(file: string): z.infer<typeof lockSchema> | undefined {
  try {
    return lockSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return undefined;
  }
}

/** When a process was started, in words that differ for a later process of the same number; undefined when it is gone. */
export function bornAt(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      // Field 22 of proc_pid_stat(5); the second field is the command in brackets and may hold anything.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  const answer = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' });
  return answer.stdout?.trim() || undefined;
}

export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
