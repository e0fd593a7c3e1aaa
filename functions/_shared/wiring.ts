// What both functions are made of. The only file that builds clients; it still reads no environment by itself.
import { createClient } from '@supabase/supabase-js';
import { createSendNotifications } from '../worker/jobs/send-notifications.ts';
import { createVerifySocialTasks } from '../worker/jobs/verify-social-tasks.ts';
import { createDrain, type Drain, type JobHandler } from './drain.ts';
import { createEngine, type Engine, type Rpc } from './engine.ts';
import type { Env } from './env.ts';
import { createHttp, type Http } from './http.ts';
import { createLog, type Log } from './log.ts';
import { createMeta } from './providers/meta.ts';
import { createWaapi } from './providers/waapi.ts';
import { createWhatsApp } from './providers/whatsapp.ts';

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

/** Every job that needs the outside world, by the name in `jobs.definitions`. */
export function createJobHandlers(http: Http, urls: Env['urls']): Record<string, JobHandler> {
  const meta = createMeta({ http, graphUrl: urls.metaGraph, instagramUrl: urls.metaInstagram });
  const whatsapp = createWhatsApp({ http, url: urls.whatsapp });
  const waapi = createWaapi({ http, url: urls.waapi });
  return {
    'verify-social-tasks': createVerifySocialTasks({ meta }),
    'send-notifications': createSendNotifications({ senders: { whatsapp_cloud: whatsapp, waapi } }),
  };
}

export function assemble(env: Env, functionName: string, stop?: AbortSignal): Parts {
  const now = () => Date.now();
  const log = createLog({
    write: (line) => console.log(line),
    now,
    secrets: [...env.cronSecrets, env.secretKey],
    fields: { function: functionName },
  });
  const engine = createEngine({
    rpc: connectEngine(env.supabaseUrl, env.secretKey),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random: Math.random,
  });
  const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: env.providerTimeoutMs });
  const handlers = createJobHandlers(http, env.urls);
  const drain = createDrain({
    engine,
    handlers,
    now,
    log,
    budgetMs: env.drainBudgetMs,
    ...(stop && { stop }),
  });
  return { engine, drain, log, now };
}
