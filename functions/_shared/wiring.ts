// What both functions are made of. The only file that builds clients; it still reads no environment by itself.
import { createClient } from '@supabase/supabase-js';
import { createAlertWebhook } from '../worker/jobs/alert-webhook.ts';
import { createCheckCredentials } from '../worker/jobs/check-credentials.ts';
import { createMeasureFollowers } from '../worker/jobs/measure-followers.ts';
import { createRawCommand } from '../worker/jobs/raw-command.ts';
import { createRefreshMetaTokens } from '../worker/jobs/refresh-meta-tokens.ts';
import { createSendEmails } from '../worker/jobs/send-emails.ts';
import { createSendNotifications } from '../worker/jobs/send-notifications.ts';
import { createVerifySocialTasks } from '../worker/jobs/verify-social-tasks.ts';
import { createFetchChecked, type Resolve } from './addresses.ts';
import { createRunCommand } from './commands.ts';
import { createDrain, type Drain, type JobHandler } from './drain.ts';
import { createEngine, type Engine, type Rpc } from './engine.ts';
import type { Env } from './env.ts';
import { createHttp, type Http, sendingOnce } from './http.ts';
import { createLog, type Log } from './log.ts';
import { createMeter } from './meter.ts';
import { createOtlpSink } from './otlp.ts';
import { createPinnedFetch } from './pinned.ts';
import { createGateway } from './providers/gateway.ts';
import { createMeta } from './providers/meta.ts';
import { createResend } from './providers/resend.ts';
import { createTokens } from './providers/tokens.ts';
import { createWaapi } from './providers/waapi.ts';
import { createWhatsApp } from './providers/whatsapp.ts';
import { stringsIn } from './redact.ts';
import { createConnectTls, createResolve } from './runtime.ts';
import { createTelemetry, silentTelemetry, type Telemetry } from './telemetry.ts';

export interface Parts {
  engine: Engine;
  drain: Drain;
  log: Log;
  now: () => number;
}

/** The SQL functions of schema `jobs`, called with the project's secret key. */
export function connectEngine(supabaseUrl: string, secretKey: string): Rpc {
  const client = createClient(supabaseUrl, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  }).schema('jobs');
  return async (name, args, signal) => {
    const { data, error, status } = await client.rpc(name, args).abortSignal(signal);
    return { data, error, status };
  };
}

export interface Outside {
  http: Http;
  urls: Env['urls'];
  outboundHosts: readonly string[];
  resolve: Resolve;
  /** One exchange with these addresses and no others. */
  pinned: (addresses: readonly string[]) => Http;
  telemetry?: Telemetry;
}

/** Every job that needs the outside world, by the name in `jobs.definitions`. */
export function createJobHandlers(outside: Outside): Record<string, JobHandler> {
  const { urls } = outside;
  const telemetry = outside.telemetry ?? silentTelemetry;
  const via = (provider: string) => telemetry.observe(provider, outside.http);
  const meta = createMeta({ http: via('meta'), graphUrl: urls.metaGraph, instagramUrl: urls.metaInstagram });
  const whatsapp = createWhatsApp({ http: via('whatsapp'), url: urls.whatsapp });
  const waapi = createWaapi({ http: via('waapi'), url: urls.waapi });
  const resend = createResend({ http: via('resend'), url: urls.resend });
  /** For urls of somebody else's making. */
  const checked = (provider: string) =>
    createFetchChecked({
      ...{ allowedHosts: outside.outboundHosts, resolve: outside.resolve, plain: via(provider) },
      pinned: (addresses) => telemetry.observe(provider, outside.pinned(addresses)),
    });
  const gateway = createGateway({ fetchChecked: checked('gateway') });
  const tokens = (provider: string) =>
    createTokens({
      ...{
        http: via(provider),
        graphUrl: urls.metaGraph,
        instagramUrl: urls.metaInstagram,
        whatsappUrl: urls.whatsapp,
      },
    });
  const mails = createSendEmails({ senders: { resend } });
  return {
    'verify-social-tasks': createVerifySocialTasks({ meta }),
    'send-notifications': createSendNotifications({ senders: { whatsapp_cloud: whatsapp, waapi, gateway } }),
    'send-emails': mails,
    'check-credentials': createCheckCredentials({ tokens: tokens('meta') }),
    'check-whatsapp-credentials': createCheckCredentials({ tokens: tokens('whatsapp') }),
    'refresh-meta-tokens': createRefreshMetaTokens({ tokens: tokens('meta') }),
    'measure-followers': createMeasureFollowers({ meta }),
    'alert-webhook': createAlertWebhook({ fetchChecked: checked('alert webhook') }),
    'alert-email': mails,
  };
}

function randomHex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export interface AssembleOptions {
  functionName: string;
  keepAlive: (work: Promise<unknown>) => void;
  stop?: AbortSignal;
}

export function assemble(env: Env, options: AssembleOptions): Parts {
  const now = () => Date.now();
  const { functionName, keepAlive, stop } = options;
  const log = createLog({
    write: (line) => console.log(line),
    now,
    secrets: [
      ...env.cronSecrets,
      env.secretKey,
      ...(env.databaseUrl === null ? [] : [env.databaseUrl]),
      ...stringsIn(env.otlp?.headers),
    ],
    fields: { function: functionName },
  });
  const engine = createEngine({
    rpc: connectEngine(env.supabaseUrl, env.secretKey),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random: Math.random,
  });
  const fetchText = sendingOnce((url, init) => fetch(url, init));
  const http = createHttp({ fetch: fetchText, timeoutMs: env.providerTimeoutMs });
  const resource = { 'service.name': 'onecron', 'onecron.function': functionName };
  const sink =
    env.otlp &&
    createOtlpSink({
      ...env.otlp,
      ...{ resource, now, log, keepAlive },
      http: createHttp({ fetch: fetchText, timeoutMs: 5_000 }),
    });
  const { traceProviders } = env;
  const connectTls = createConnectTls();
  const telemetry = createTelemetry({ sink, traceProviders, now, randomHex, keepAlive });
  const meter = createMeter(now);
  const handlers = createJobHandlers({
    ...{ telemetry, urls: env.urls, outboundHosts: env.outboundHosts },
    http: meter.counted(http),
    resolve: createResolve(),
    pinned: (addresses) =>
      meter.counted(
        createHttp({ fetch: createPinnedFetch(connectTls, addresses), timeoutMs: env.providerTimeoutMs }),
      ),
  });
  const run = env.databaseUrl === null ? null : createRunCommand(env.databaseUrl);
  const drain = createDrain({
    ...{ engine, handlers, telemetry, meter, now, log },
    rawHandler: createRawCommand({ run }),
    budgetMs: env.drainBudgetMs,
    ...(stop && { stop }),
  });
  return { engine, drain, log, now };
}
