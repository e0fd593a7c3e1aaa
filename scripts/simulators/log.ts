// The record of what a simulator received. An entry is in memory, and on its way to the file, before the
// request is answered; how it was answered is added afterwards. Tokens are never in it: an entry names the
// token's owner and a fingerprint.
import { hash } from 'node:crypto';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';

export const providerNames = ['meta', 'whatsapp', 'waapi', 'stripe', 'resend'] as const;
export type ProviderName = (typeof providerNames)[number];

/** What a request changed in the world, e.g. one message that left. A request without effects only read. */
export interface Effect {
  kind: 'message' | 'email' | 'customer' | 'subscription';
  id: string;
  to?: string;
  /** false: accepted, but nobody will ever receive it. */
  delivered?: boolean;
}

export interface LoggedAnswer {
  at: string;
  elapsed_ms: number;
  /** null: nothing was answered (a reset, or never). */
  status: number | null;
  /**
   * `ok`, `error`, `throttled`, `refused`, `html`, `redirect`, `reset before`, `reset after`, `half body`, `never`; of a
   * push `taken` or `not taken`.
   */
  kind: string;
  /** The provider's code of an error, e.g. `190/460`. */
  code?: string;
  /** The id of the script that decided the answer. */
  script?: number;
  effects: Effect[];
}

export interface LogEntry {
  /** Rises by one with each request to any of the simulators that were started together. */
  seq: number;
  at: string;
  provider: ProviderName;
  method: string;
  /** Path and query; secret parameters read `redacted`. */
  path: string;
  /** Owner of the token; null when the token is missing or unknown. */
  tenant: string | null;
  /** Fingerprint of the token; null when there was none. */
  token: string | null;
  body_sha256: string | null;
  /** The essentials: `to`, `text`, `post_id`, `instance_id`, `target_tenant`, … */
  about: Record<string, unknown>;
  /** seq of the batch call that this call was part of. */
  batch?: number;
  answer: LoggedAnswer | null;
}

export interface RequestLog {
  receive(entry: Omit<LogEntry, 'seq' | 'at' | 'answer'>): LogEntry;
  answered(entry: LogEntry, answer: Omit<LoggedAnswer, 'at' | 'elapsed_ms'>): void;
  /** Entries with a seq above `since`, oldest first; of all providers when none is named. */
  list(options?: { provider?: ProviderName; since?: number; limit?: number }): LogEntry[];
  /** Empties the memory. The file only ever grows; seq goes on. */
  clear(provider?: ProviderName): void;
  lastSeq(): number;
  /** The highest seq that is no longer in memory because the limit was reached; 0 when none. */
  droppedUntil(): number;
  flush(): Promise<void>;
  close(): Promise<void>;
}

const fingerprints = new Map<string, string>();

/** The first 12 hex digits of the SHA-256 of a token: tells tokens apart, gives none away. */
export function fingerprint(token: string): string {
  let known = fingerprints.get(token);
  if (known === undefined) {
    known = hash('sha256', token, 'hex').slice(0, 12);
    if (fingerprints.size > 10_000) fingerprints.clear();
    fingerprints.set(token, known);
  }
  return known;
}

const flushEveryMs = 100;

/** `limit`: entries kept in memory (per provider); the file has all of them. */
export async function openLog(file: string, limit = 200_000): Promise<RequestLog> {
  await mkdir(dirname(file), { recursive: true });
  const handle: FileHandle = await open(file, 'a', 0o600);
  const memory = new Map<ProviderName, LogEntry[]>(providerNames.map((name) => [name, []]));
  const started = new WeakMap<LogEntry, number>();
  let seq = 0;
  let dropped = 0;
  // A file may hold several starts; each begins with such a line, and seq begins again.
  let lines: string[] = [`${JSON.stringify({ started: new Date().toISOString() })}\n`];
  let writing: Promise<void> = Promise.resolve();

  function flush(): Promise<void> {
    writing = writing.then(async () => {
      if (lines.length === 0) return;
      const text = lines.join('');
      lines = [];
      await handle.appendFile(text);
    });
    return writing;
  }
  const timer = setInterval(() => void flush(), flushEveryMs);
  timer.unref();

  const of = (name: ProviderName): LogEntry[] => memory.get(name) ?? [];

  function after(entries: LogEntry[], since: number): LogEntry[] {
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((entries[middle]?.seq ?? 0) > since) high = middle;
      else low = middle + 1;
    }
    return entries.slice(low);
  }

  return {
    receive(received) {
      seq += 1;
      const entry: LogEntry = { seq, at: new Date().toISOString(), ...received, answer: null };
      started.set(entry, performance.now());
      const entries = of(received.provider);
      entries.push(entry);
      if (entries.length > limit * 1.1) {
        const gone = entries.splice(0, entries.length - limit);
        dropped = Math.max(dropped, gone.at(-1)?.seq ?? 0);
      }
      lines.push(`${JSON.stringify(entry)}\n`);
      return entry;
    },
    answered(entry, answer) {
      const elapsed = performance.now() - (started.get(entry) ?? performance.now());
      entry.answer = {
        at: new Date().toISOString(),
        elapsed_ms: Math.round(elapsed * 10) / 10,
        ...answer,
      };
      lines.push(`${JSON.stringify({ seq: entry.seq, answer: entry.answer })}\n`);
    },
    list({ provider, since = 0, limit: most } = {}) {
      const found = provider
        ? after(of(provider), since)
        : providerNames.flatMap((name) => after(of(name), since)).sort((a, b) => a.seq - b.seq);
      return most === undefined ? found : found.slice(0, most);
    },
    clear(provider) {
      for (const name of provider ? [provider] : providerNames) memory.set(name, []);
    },
    lastSeq: () => seq,
    droppedUntil: () => dropped,
    flush,
    async close() {
      clearInterval(timer);
      await flush();
      await handle.close();
    },
  };
}
