import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';

/** The checkout this file lies in. */
export const root: string = resolve(import.meta.dirname, '../..');

export interface FunctionConfig {
  name: string;
  /** Absolute path of the entrypoint. */
  entrypoint: string;
  /** Absolute path of the import map, which is also Deno's config file. */
  importMap: string;
}

export interface Config {
  /** `max_rows`: how many rows the Data API gives at most in one answer. */
  api: { port: number; schemas: string[]; max_rows: number };
  db: { port: number };
  auth: { jwtExpirySeconds: number };
  functions: FunctionConfig[];
}

const schema = z.object({
  api: z.object({
    port: z.number().int(),
    schemas: z.array(z.string()).min(1),
    max_rows: z.number().int().min(1).default(1000),
  }),
  db: z.object({ port: z.number().int() }),
  auth: z.object({ jwt_expiry: z.number().int().default(3600) }).prefault({}),
  functions: z
    .record(
      z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/),
      z.object({
        enabled: z.boolean().default(true),
        entrypoint: z.string(),
        import_map: z.string(),
        verify_jwt: z.literal(false, {
          error: 'set verify_jwt = false: a function checks its caller itself',
        }),
      }),
    )
    .default({}),
});

/** Reads what the local stack needs from a Supabase CLI config file. */
export function readConfig(file: string = join(root, 'supabase', 'config.toml')): Config {
  const parsed = schema.safeParse(parseToml(readFileSync(file, 'utf8')));
  if (!parsed.success) throw new Error(`${file}: ${z.prettifyError(parsed.error)}`);
  const { api, db, auth, functions } = parsed.data;
  return {
    api,
    db,
    auth: { jwtExpirySeconds: auth.jwt_expiry },
    functions: Object.entries(functions)
      .filter(([, settings]) => settings.enabled)
      .map(([name, settings]) => ({
        name,
        entrypoint: resolve(dirname(file), settings.entrypoint),
        importMap: resolve(dirname(file), settings.import_map),
      })),
  };
}

interface Table {
  [key: string]: Value;
}
type Value = string | number | boolean | Value[] | Table;

/** The part of TOML that a Supabase config file uses: tables, strings, numbers, booleans, arrays of them, comments. */
export function parseToml(text: string): Table {
  const document: Table = {};
  let table = document;
  for (const statement of statements(text)) {
    const header = /^\[([A-Za-z0-9_."-]+)\]$/.exec(statement);
    if (header?.[1]) {
      table = document;
      for (const key of header[1].split('.')) {
        const name = key.replaceAll('"', '');
        const next = table[name] ?? {};
        if (typeof next !== 'object' || Array.isArray(next)) throw new Error(`[${header[1]}] is not a table`);
        table[name] = next;
        table = next;
      }
      continue;
    }
    const pair = /^([A-Za-z0-9_-]+|"[^"]+")\s*=\s*(.+)$/s.exec(statement);
    if (!pair?.[1] || !pair[2]) throw new Error(`cannot read this line of TOML: ${statement}`);
    table[pair[1].replaceAll('"', '')] = parseValue(pair[2]);
  }
  return document;
}

/** Lines without comments; an array that spans lines comes as one. */
function statements(text: string): string[] {
  const found: string[] = [];
  let open = '';
  for (const line of text.split('\n')) {
    const bare = line.replace(/^((?:[^"#']|"(?:\\.|[^"\\])*"|'[^']*')*)#.*$/, '$1').trim();
    if (!bare) continue;
    open = open ? `${open} ${bare}` : bare;
    if (/=\s*\[/.test(open) && !open.endsWith(']')) continue;
    found.push(open);
    open = '';
  }
  if (open) found.push(open);
  return found;
}

function parseValue(text: string): Value {
  if (text.startsWith("'") && text.endsWith("'")) return text.slice(1, -1);
  // What is left is written as in JSON, but for a comma after an array's last element and '_' in numbers.
  const json = /^[\d_.+-]+$/.test(text) ? text.replaceAll('_', '') : text.replace(/,\s*\]$/, ']');
  return z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]).parse(JSON.parse(json));
}
