// Commands that can't run in a transaction, such as VACUUM: on a connection of their own, past the Data API.
import { createRedactor, oneLine } from './redact.ts';

export type CommandResult =
  | { kind: 'done' }
  /** The database's own words, or those for a connection that failed. No part of the connection string. */
  | { kind: 'failed'; sqlstate: string; message: string }
  /** Less time is left than a command may be given. Nothing was started. */
  | { kind: 'no_time' };

/** `leftMs` is asked again when the connection stands: that may take its time. */
export type RunCommand = (command: string, leftMs: () => number) => Promise<CommandResult>;

/** A command ends this long before its lease does, so that the same command never runs twice at the same time. */
const marginMs = 2_000;
const shortestMs = 1_000;

export function createRunCommand(databaseUrl: string): RunCommand {
  return async (command, leftMs) => {
    // Loaded when it is needed: no other job has to wait for it.
    const { default: postgres } = await import('postgres');
    const redact = createRedactor(secretsOf(databaseUrl));
    const sql = postgres(databaseUrl, {
      max: 1,
      connect_timeout: 10,
      idle_timeout: 0,
      max_lifetime: null,
      prepare: false,
      fetch_types: false,
      onnotice: () => {},
      connection: { application_name: 'onecron worker' },
    });
    try {
      // Who waits for a lock makes everybody behind him wait: better to come again later.
      await sql.unsafe("set lock_timeout = '10s'");
      const timeoutMs = Math.floor(leftMs() - marginMs);
      if (timeoutMs < shortestMs) return { kind: 'no_time' };
      await sql.unsafe(`set statement_timeout = ${timeoutMs}`);
      // Without parameters postgres.js uses the simple protocol: the one in which there is no transaction around it.
      await sql.unsafe(command);
      return { kind: 'done' };
    } catch (thrown) {
      return failureOf(thrown, (text) => oneLine(text, redact));
    } finally {
      await sql.end({ timeout: 1 }).catch(() => {});
    }
  };
}

/** The connection string, and the password in it as it is written and as it is meant. */
function secretsOf(databaseUrl: string): string[] {
  const { password } = new URL(databaseUrl);
  try {
    return [databaseUrl, password, decodeURIComponent(password)];
  } catch {
    return [databaseUrl, password];
  }
}

function failureOf(thrown: unknown, clean: (text: string) => string): CommandResult {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  if (thrown instanceof Error && thrown.name === 'PostgresError' && /^[0-9A-Z]{5}$/.test(code)) {
    return { kind: 'failed', sqlstate: code, message: clean(thrown.message) };
  }
  // What a driver or a socket says may name the host: the code is enough.
  const how = /^[A-Z_]{3,40}$/.test(code) ? ` (${code})` : '';
  return { kind: 'failed', sqlstate: '08000', message: `the connection of SUPABASE_DB_URL failed${how}` };
}
