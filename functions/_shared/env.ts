// The functions' configuration: read once, checked before anything runs. A function whose configuration is wrong
// answers 503 and says which variable to set; it never runs half configured.
import { z } from 'zod';

/** Every environment variable that the functions read, for `--allow-env` and for the documentation. */
export const environmentNames = [
  'SUPABASE_URL',
  'SUPABASE_SECRET_KEYS',
  'SUPABASE_SERVICE_ROLE_KEY',
  'CRON_SECRET',
  'CRON_SECRET_PREVIOUS',
  'META_GRAPH_URL',
  'META_INSTAGRAM_URL',
  'WHATSAPP_URL',
  'WAAPI_URL',
  'DRAIN_BUDGET_SECONDS',
  'PROVIDER_TIMEOUT_MS',
] as const;

export type EnvironmentName = (typeof environmentNames)[number];

export interface Env {
  supabaseUrl: string;
  /** The project's secret key: service_role, to the database only. */
  secretKey: string;
  /** The valid cron secrets, the current one first; the second one only during a rotation. */
  cronSecrets: string[];
  urls: ProviderUrls;
  drainBudgetMs: number;
  providerTimeoutMs: number;
}

/** Origins without a trailing slash and without a version. */
export interface ProviderUrls {
  metaGraph: string;
  metaInstagram: string;
  whatsapp: string;
  waapi: string;
}

export type EnvResult = { ok: true; env: Env } | { ok: false; problems: string[] };

const minimumSecretLength = 32;
/** 32 random hexadecimal characters have fewer than 10 distinct ones less than once in 700 times. */
const minimumDistinctCharacters = 10;

/** Why a secret is not good enough, in words that never contain it; null when it is good. */
export function weaknessOf(secret: string | undefined): string | null {
  if (secret === undefined || secret.trim() === '') return 'is missing';
  if (secret === 'undefined' || secret === 'null') return `is the word "${secret}"`;
  if (!/^[\x21-\x7e]+$/.test(secret)) return 'contains spaces or characters outside printable ASCII';
  if (secret.length < minimumSecretLength) return `is shorter than ${minimumSecretLength} characters`;
  if (new Set(secret).size < minimumDistinctCharacters) {
    return `has fewer than ${minimumDistinctCharacters} distinct characters`;
  }
  if (/change-?me|your[-_]|placeholder|example/i.test(secret)) return 'looks like a placeholder';
  return null;
}

const localHosts = new Set(['127.0.0.1', 'localhost', '[::1]', 'host.docker.internal']);

/** A provider's origin: https, or plain http to this machine only (the simulators). */
const providerUrl = z.url().transform((value, context) => {
  const url = new URL(value);
  const local = url.protocol === 'http:' && localHosts.has(url.hostname);
  if ((url.protocol !== 'https:' && !local) || url.username !== '' || url.password !== '') {
    context.addIssue({
      code: 'custom',
      message: 'must be https, or http to this machine, without user and password',
    });
    return z.NEVER;
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
});

const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === '' ? undefined : value), schema.optional());

const secretKeys = z.string().transform((value, context) => {
  try {
    return z.object({ default: z.string().min(1) }).parse(JSON.parse(value)).default;
  } catch {
    context.addIssue({ code: 'custom', message: 'must be a JSON object with the key "default"' });
    return z.NEVER;
  }
});

const schema = z.object({
  SUPABASE_URL: z.url({ protocol: /^https?$/ }),
  SUPABASE_SECRET_KEYS: optional(secretKeys),
  SUPABASE_SERVICE_ROLE_KEY: optional(z.string()),
  META_GRAPH_URL: optional(providerUrl),
  META_INSTAGRAM_URL: optional(providerUrl),
  WHATSAPP_URL: optional(providerUrl),
  WAAPI_URL: optional(providerUrl),
  DRAIN_BUDGET_SECONDS: optional(z.coerce.number().min(1).max(350)),
  PROVIDER_TIMEOUT_MS: optional(z.coerce.number().int().min(50).max(60_000)),
});

/** Reads and checks the configuration through `get`; the problems name variables, never values. */
export function readEnv(get: (name: EnvironmentName) => string | undefined): EnvResult {
  const problems: string[] = [];

  const current = get('CRON_SECRET');
  const previous = get('CRON_SECRET_PREVIOUS');
  const howTo = 'Set it to 32 random bytes or more, for example from "openssl rand -hex 32".';
  const currentWeakness = weaknessOf(current);
  if (currentWeakness !== null) problems.push(`CRON_SECRET ${currentWeakness}. ${howTo}`);
  const previousWeakness = previous ? weaknessOf(previous) : null;
  if (previousWeakness !== null) problems.push(`CRON_SECRET_PREVIOUS ${previousWeakness}. ${howTo}`);

  const raw = Object.fromEntries(environmentNames.map((name) => [name, get(name)]));
  const parsed = schema.safeParse(raw);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const name = issue.path.join('.');
      problems.push(
        raw[name] === undefined ? `${name} is missing.` : `${name} is not valid: ${issue.message}.`,
      );
    }
    return { ok: false, problems };
  }

  const values = parsed.data;
  const secretKey = values.SUPABASE_SECRET_KEYS ?? values.SUPABASE_SERVICE_ROLE_KEY;
  if (!secretKey) problems.push('SUPABASE_SECRET_KEYS is missing.');
  if (problems.length > 0 || !secretKey || !current) return { ok: false, problems };

  return {
    ok: true,
    env: {
      supabaseUrl: values.SUPABASE_URL.replace(/\/+$/, ''),
      secretKey,
      cronSecrets: previous ? [current, previous] : [current],
      urls: {
        metaGraph: values.META_GRAPH_URL ?? 'https://graph.facebook.com',
        metaInstagram: values.META_INSTAGRAM_URL ?? 'https://graph.instagram.com',
        whatsapp: values.WHATSAPP_URL ?? 'https://graph.facebook.com',
        waapi: values.WAAPI_URL ?? 'https://waapi.app',
      },
      drainBudgetMs: (values.DRAIN_BUDGET_SECONDS ?? 100) * 1000,
      providerTimeoutMs: values.PROVIDER_TIMEOUT_MS ?? 10_000,
    },
  };
}
