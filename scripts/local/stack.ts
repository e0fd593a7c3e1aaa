import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { environmentNames } from '../../functions/_shared/env.ts';
import { startSimulators } from '../simulators/index.ts';
import { startApi } from './api.ts';
import { sweepThrowAways, throwAwayPrefix } from './cluster.ts';
import { readConfig, root } from './config.ts';
import { connect, type Database, migrate, setVaultSecrets, startDatabase } from './database.ts';
import { defaultDataDir, makeDataDir, takeLock } from './env.ts';
import { startCronWorker } from './extensions/cron-worker.ts';
import { startNetWorker } from './extensions/net-worker.ts';
import { type Functions, startFunctions } from './functions.ts';
import { startGateway } from './gateway.ts';
import { startGuard } from './guard.ts';

export interface StackOptions {
  /**
   * Where keys, data and logs are kept: `.onecron` of the checkout by default. `temporary` makes a directory that goes
   * with the stack, with free ports and a database that trades durability for speed.
   */
  dataDir?: string | 'temporary';
  /** Begin from an empty database. */
  reset?: boolean;
  /** A superuser's url of an empty PostgreSQL 15 or newer, used instead of a server of our own. */
  databaseUrl?: string;
  /** Apply pending migrations (default true). */
  migrate?: boolean;
  /** Load supabase/seed.sql into a new database (default true). */
  seed?: boolean;
  /** Run the functions (default true). */
  functions?: boolean;
  /** Run the simulators (default true). */
  simulators?: boolean;
  /** Run the worker of the pg_cron stand-in (default true). A real pg_cron runs anyway. */
  cron?: boolean;
  /** Load functions again when their files change (default false). */
  watch?: boolean;
  /** Use the ports of supabase/config.toml where they are free (default: only for the checkout's own stack). */
  preferPorts?: boolean;
  /** More environment for the functions, or other values. */
  env?: Record<string, string>;
  /** The directory that holds supabase/ (default: the checkout). */
  workdir?: string;
  log?: (line: string) => void;
}

export interface StackInfo {
  api_url: string;
  functions_url: string;
  db_url: string;
  publishable_key: string;
  secret_key: string;
  cron_secret: string;
  dashboard_url: string;
  simulators: Partial<Record<Provider, string>>;
}

type Provider = 'meta' | 'whatsapp' | 'waapi' | 'stripe' | 'resend';

export interface Stack {
  /** What `npm start -- --json` prints. */
  info: StackInfo;
  /** The superuser's url. */
  adminUrl: string;
  database: Database;
  functions: Pick<Functions, 'kill' | 'restart' | 'pid'>;
  stop(): Promise<void>;
}

/** Brings up a complete local Supabase with the simulated providers, ready when this resolves. */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const log = options.log ?? (() => {});
  const throwAway = options.dataDir === 'temporary';
  if (throwAway) sweepThrowAways();
  const dataDir = throwAway
    ? mkdtempSync(join(tmpdir(), throwAwayPrefix))
    : (options.dataDir ?? defaultDataDir);
  const workdir = options.workdir ?? root;
  const config = readConfig(join(workdir, 'supabase', 'config.toml'));
  const preferPorts = options.preferPorts ?? dataDir === defaultDataDir;

  // What has been started is stopped in the opposite order, also when a later step fails.
  const started: (() => void | Promise<void>)[] = [];
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      const problems: unknown[] = [];
      for (const undo of started.reverse()) {
        try {
          await undo();
        } catch (error) {
          problems.push(error);
        }
      }
      if (problems.length > 0) throw new AggregateError(problems, 'not everything could be stopped');
    })();
    return stopping;
  };

  try {
    makeDataDir(dataDir);
    if (throwAway) started.push(() => rmSync(dataDir, { recursive: true, force: true }));
    const lock = takeLock(dataDir);
    started.push(() => lock.release());
    const guard = startGuard();
    if (throwAway) guard.discard(dataDir);
    started.push(() => guard.close());

    const gateway = await startGateway(preferPorts ? config.api.port : undefined);
    started.push(() => gateway.stop());
    lock.note(gateway.url);

    const simulating = (options.simulators ?? true) ? startSimulators({ logDir: dataDir }) : undefined;
    // A failure of the database must not leave the simulators' outcome unheard.
    simulating?.catch(() => {});

    const database = await startDatabase({
      dataDir,
      durable: !throwAway,
      reset: options.reset,
      databaseUrl: options.databaseUrl,
      preferredPort: preferPorts ? config.db.port : undefined,
      guard,
      log,
    });
    started.push(() => database.stop());
    const simulators = await simulating;
    if (simulators) started.push(() => simulators.stop());

    const { keys } = database;
    const vault = { project_url: gateway.url, cron_secret: keys.cronSecret };
    const env = functionEnv(gateway.url, database, simulators?.urls, options.env);

    const bringUpDatabase = async () => {
      await setVaultSecrets(database.url, vault);
      if (options.migrate ?? true) {
        await migrate(database.url, {
          workdir,
          seed: options.seed ?? true,
          env: { PROJECT_URL: vault.project_url, CRON_SECRET: vault.cron_secret },
          log,
        });
      }
      const api = await startApi({
        authenticatorUrl: database.urlOf('authenticator'),
        authUrl: database.urlOf('supabase_auth_admin'),
        ownerUrl: database.url,
        schemas: config.api.schemas,
        maxRows: config.api.max_rows,
        jwtSecret: keys.jwtSecret,
        jwtExpirySeconds: config.auth.jwtExpirySeconds,
        publishableKey: keys.publishableKey,
        secretKey: keys.secretKey,
        apiUrl: gateway.url,
        log,
      });
      started.push(() => api.stop());
      return api;
    };
    const bringUpFunctions = async () => {
      const functions = await startFunctions({
        functions:
          (options.functions ?? true)
            ? config.functions.filter(({ name, entrypoint }) => {
                if (existsSync(entrypoint)) return true;
                throw new Error(
                  `supabase/config.toml declares function "${name}", but ${entrypoint} is not there`,
                );
              })
            : [],
        env,
        readable: [...environmentNames],
        net: (name) => reachableHosts(env, name),
        watch: options.watch ?? false,
        cacheDir: join(dataDir, 'deno'),
        guard,
        log,
      });
      started.push(() => functions.stop());
      return functions;
    };
    // Both are awaited to their end, so that a failure of one still finds the other in the list of what to stop.
    const [api, functions] = await both(bringUpDatabase(), bringUpFunctions());

    gateway.open({
      rest: api.rest,
      auth: api.auth,
      enterFunction: (name) =>
        functions.names.includes(name) ? (functions.enter(name) ?? 'down') : 'unknown',
      dashboardDir: join(workdir, 'dashboard'),
    });
    started.push(...(await startWorkers(database, options.cron ?? true, log)));

    return {
      info: {
        api_url: gateway.url,
        functions_url: `${gateway.url}/functions/v1`,
        db_url: database.url,
        publishable_key: keys.publishableKey,
        secret_key: keys.secretKey,
        cron_secret: keys.cronSecret,
        dashboard_url: `${gateway.url}/dashboard`,
        simulators: simulators?.urls ?? {},
      },
      adminUrl: database.adminUrl,
      database,
      functions: {
        pid: (name) => functions.pid(name),
        kill: (name, signal) => functions.kill(name, signal),
        restart: (name) => functions.restart(name),
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Starts the workers of those stand-ins that the database uses. */
async function startWorkers(
  database: Database,
  cron: boolean,
  log: (line: string) => void,
): Promise<(() => Promise<void>)[]> {
  const stops: (() => Promise<void>)[] = [];
  if (database.standIns.includes('pg_net')) {
    const worker = await startNetWorker({ adminUrl: database.adminUrl, log });
    stops.push(() => worker.stop());
  }
  if (cron && database.standIns.includes('pg_cron')) {
    const worker = await startCronWorker({ adminUrl: database.adminUrl, log });
    stops.push(() => worker.stop());
  }
  return stops;
}

/** What the platform gives every function, the secrets that ours need, and where the simulated providers are. */
function functionEnv(
  apiUrl: string,
  database: Database,
  simulators: Partial<Record<Provider, string>> | undefined,
  more: Record<string, string> | undefined,
): Record<string, string> {
  const { keys } = database;
  const providers: Record<string, string | undefined> = {
    META_GRAPH_URL: simulators?.meta,
    META_INSTAGRAM_URL: simulators?.meta,
    WHATSAPP_URL: simulators?.whatsapp,
    WAAPI_URL: simulators?.waapi,
    STRIPE_URL: simulators?.stripe,
    RESEND_URL: simulators?.resend,
  };
  return {
    SUPABASE_URL: apiUrl,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
    SUPABASE_DB_URL: database.url,
    CRON_SECRET: keys.cronSecret,
    ...fromOurs(),
    ...Object.fromEntries(
      Object.entries(providers).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ),
    ...more,
  };
}

/** Settings of the functions that a developer gives to the stack itself: `OUTBOUND_HOSTS=127.0.0.1:9000 npm start`. */
function fromOurs(): Record<string, string> {
  const names = [
    'OUTBOUND_HOSTS',
    'ALERT_WEBHOOK_HOSTS',
    'TRACE_PROVIDERS',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'OTEL_EXPORTER_OTLP_HEADERS',
  ];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value ? [[name, value] as const] : [];
    }),
  );
}

/** The functions that drain. Raw jobs run on a connection of their own; no other function may reach the database. */
const drains = new Set(['worker', 'jobs']);

const providerHosts = [
  'graph.facebook.com',
  'graph.instagram.com',
  'waapi.app',
  'api.stripe.com',
  'api.resend.com',
];

/**
 * Functions may call the API and the providers: the simulated ones, or where there are none the real ones; the collector of
 * traces; and gateways and the alert webhook, whose hosts only the database knows, where OUTBOUND_HOSTS names them. Those that drain, the database.
 */
function reachableHosts(env: Record<string, string>, functionName: string): string[] {
  const hosts = Object.entries(env).flatMap(([name, value]) => {
    if (name === 'SUPABASE_DB_URL' || !/^https?:/.test(value) || !URL.canParse(value)) return [];
    const { host, port, protocol } = new URL(value);
    return [port ? host : `${host}:${protocol === 'https:' ? 443 : 80}`];
  });
  const webhooks = `${env.OUTBOUND_HOSTS ?? ''},${env.ALERT_WEBHOOK_HOSTS ?? ''}`
    .split(',')
    .flatMap((host) => host.trim() || []);
  hosts.push(...webhooks.map((host) => (/:\d+$/.test(host) ? host : `${host}:443`)));
  if (drains.has(functionName) && env.SUPABASE_DB_URL) hosts.push(new URL(env.SUPABASE_DB_URL).host);
  return [...new Set([...hosts, ...('META_GRAPH_URL' in env ? [] : providerHosts)])];
}

async function both<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  const [first, second] = await Promise.allSettled([a, b]);
  if (first.status === 'rejected') throw first.reason;
  if (second.status === 'rejected') throw second.reason;
  return [first.value, second.value];
}

/** The superuser's connection of a stack, for scripts. */
export { connect };
