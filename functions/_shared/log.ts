// JSON lines, one event each, with the ids that lead from a line to the rows: job, batch, tenant, item, trace id.
import { createRedactor, type Redact } from './redact.ts';

export type LogField =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly string[]
  | Record<string, number>;
export type LogFields = Record<string, LogField>;
type Level = 'info' | 'warn' | 'error';

export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log whose lines all carry these fields and hide these secrets as well. */
  with(fields: LogFields, secrets?: readonly string[]): Log;
}

/** Supabase cuts a message at 10,000 characters; a field never takes more than this. */
const longestField = 2_000;

// JSON.stringify escapes what is below U+0020; these would still break a line or forge one on a terminal.
const unescaped = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}

export function createLog(options: {
  write: (line: string) => void;
  now: () => number;
  secrets?: readonly string[];
  fields?: LogFields;
}): Log {
  const secrets = options.secrets ?? [];
  const redact: Redact = createRedactor(secrets);
  const clean = (value: string) => {
    const redacted = redact(value);
    return redacted.length > longestField ? `${redacted.slice(0, longestField)}…` : redacted;
  };
  const line = (level: Level, event: string, fields: LogFields = {}) => {
    const entry: Record<string, unknown> = {
      time: new Date(options.now()).toISOString(),
      level,
      event: clean(event),
    };
    for (const [key, value] of Object.entries({ ...options.fields, ...fields })) {
      if (value === undefined) continue;
      if (typeof value === 'string') entry[key] = clean(value);
      else if (Array.isArray(value)) entry[key] = value.slice(0, 50).map((text: string) => clean(text));
      else entry[key] = value;
    }
    const text = JSON.stringify(entry).replace(unescaped, escaped);
    options.write(text);
  };
  return {
    info: (event, fields) => line('info', event, fields),
    warn: (event, fields) => line('warn', event, fields),
    error: (event, fields) => line('error', event, fields),
    with: (fields, more = []) =>
      createLog({ ...options, fields: { ...options.fields, ...fields }, secrets: [...secrets, ...more] }),
  };
}
