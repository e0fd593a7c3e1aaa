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
  'ADDRESS_HEADER',
  'META_GRAPH_URL',
  'META_INSTAGRAM_URL',
  'WHATSAPP_URL',
  'WAAPI_URL',
  'RESEND_URL',
  'SUPABASE_DB_URL',
  'OUTBOUND_HOSTS',
  'ALERT_WEBHOOK_HOSTS',
  'TRACE_PROVIDERS',
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_HEADERS',
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
  /** Where the proxy says who calls. */
  addressHeader: string;
  urls: ProviderUrls;
  /** The platform sets it for every function. Null: raw jobs are refused. */
  databaseUrl: string | null;
  /** `host:port` that a gateway or the alert webhook may have though it is not public; plain http only to this machine. */
  outboundHosts: string[];
  /** Providers get a `traceparent` header. Off by default: our trace ids are not theirs. */
  traceProviders: boolean;
  /** Null: no spans and metrics are exported. */
  otlp: { endpoint: string; headers: Record<string, string> } | null;
  drainBudgetMs: number;
  providerTimeoutMs: number;
}

/** Origins without a trailing slash and without a version. */
export interface ProviderUrls {
  metaGraph: string;
  metaInstagram: string;
  whatsapp: string;
  waapi: string;
  resend: string;
}

export type EnvResult = { ok: true; env: Env } | { ok: false; problems: string[] };

/** Set by the hosted platform's edge, which lets no caller send it. `x-forwarded-for` begins with whatever the caller wrote. */
export const proxyAddressHeader = 'cf-connecting-ip';

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

/** "host:port, host:port"; without a port it is 443. */
const hostList = z.string().transform((value, context) => {
  const hosts = value.split(',').flatMap((entry) => entry.trim().toLowerCase() || []);
  const full = hosts.map((host) => (/:\d+$/.test(host) ? host : `${host}:443`));
  const good = full.every((host) => URL.canParse(`http://${host}/`) && !/[/@?#\s]/.test(host));
  if (good) return full;
  context.addIssue({ code: 'custom', message: 'must be a list like "127.0.0.1:8080, chat.example.com"' });
  return z.NEVER;
});

/** The W3C baggage form that the specification of OTLP's exporters gives: "key=value,key=value", percent-encoded. */
const headerList = z.string().transform((value, context) => {
  try {
    const entries = value.split(',').flatMap((entry) => {
      if (entry.trim() === '') return [];
      const [, name, text] = /^\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=(.*)$/.exec(entry) ?? [];
      const decoded = decodeURIComponent((text ?? '').trim());
      if (name === undefined || !/^[\x20-\x7e]+$/.test(decoded)) throw new TypeError('not a header');
      return [[name.toLowerCase(), decoded] as const];
    });
    return Object.fromEntries(entries);
  } catch {
    context.addIssue({
      code: 'custom',
      message: 'must be a list like "authorization=Bearer%20abc,x-team=ops"',
    });
    return z.NEVER;
  }
});

/** A collector's url: https, or http inside one's own network as long as no header could be a secret. */
const collectorUrl = z.url({ protocol: /^https?$/ }).transform((value, context) => {
  const url = new URL(value);
  if (url.username === '' && url.password === '' && url.search === '') return value.replace(/\/+$/, '');
  context.addIssue({ code: 'custom', message: 'must be a url without user, password and query' });
  return z.NEVER;
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
  ADDRESS_HEADER: optional(
    z.string().regex(/^[A-Za-z0-9-]{1,60}$/, 'must be the name of a header, such as x-forwarded-for'),
  ),
  META_GRAPH_URL: optional(providerUrl),
  META_INSTAGRAM_URL: optional(providerUrl),
  WHATSAPP_URL: optional(providerUrl),
  WAAPI_URL: optional(providerUrl),
  RESEND_URL: optional(providerUrl),
  // Set by the platform: a form of it that is not known here must not stop the jobs that don't need it.
  SUPABASE_DB_URL: z
    .string()
    .refine((value) => /^postgres(ql)?:\/\//.test(value) && URL.canParse(value))
    .optional()
    .catch(undefined),
  OUTBOUND_HOSTS: optional(hostList),
  // The older name, from when the webhook was the only one.
  ALERT_WEBHOOK_HOSTS: optional(hostList),
  TRACE_PROVIDERS: optional(z.enum(['0', '1'])),
  OTEL_EXPORTER_OTLP_ENDPOINT: optional(collectorUrl),
  OTEL_EXPORTER_OTLP_HEADERS: optional(headerList),
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
  const collector = values.OTEL_EXPORTER_OTLP_ENDPOINT;
  const collectorHeaders = values.OTEL_EXPORTER_OTLP_HEADERS ?? {};
  if (collector?.startsWith('http:') && Object.keys(collectorHeaders).length > 0) {
    if (!localHosts.has(new URL(collector).hostname)) {
      problems.push('OTEL_EXPORTER_OTLP_ENDPOINT is not valid: with headers it must be https.');
    }
  }
  if (problems.length > 0 || !secretKey || !current) return { ok: false, problems };

  return {
    ok: true,
    env: {
      supabaseUrl: values.SUPABASE_URL.replace(/\/+$/, ''),
      secretKey,
      cronSecrets: previous ? [current, previous] : [current],
      addressHeader: values.ADDRESS_HEADER?.toLowerCase() ?? proxyAddressHeader,
      urls: {
        metaGraph: values.META_GRAPH_URL ?? 'https://graph.facebook.com',
        metaInstagram: values.META_INSTAGRAM_URL ?? 'https://graph.instagram.com',
        whatsapp: values.WHATSAPP_URL ?? 'https://graph.facebook.com',
        waapi: values.WAAPI_URL ?? 'https://waapi.app',
        resend: values.RESEND_URL ?? 'https://api.resend.com',
      },
      databaseUrl: values.SUPABASE_DB_URL ?? null,
      outboundHosts: [...(values.OUTBOUND_HOSTS ?? []), ...(values.ALERT_WEBHOOK_HOSTS ?? [])],
      traceProviders: values.TRACE_PROVIDERS === '1',
      otlp: collector === undefined ? null : { endpoint: collector, headers: collectorHeaders },
      drainBudgetMs: (values.DRAIN_BUDGET_SECONDS ?? 100) * 1000,
      providerTimeoutMs: values.PROVIDER_TIMEOUT_MS ?? 10_000,
    },
  };
}
