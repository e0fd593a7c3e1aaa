// Starts the simulators of the services that Onecron talks to. Alone: `node scripts/simulators/index.ts`.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readOptions } from '../dev/options.ts';
import { openLog, type ProviderName, providerNames, type RequestLog } from './log.ts';
import { createMeta } from './meta.ts';
import { createResend } from './resend.ts';
import { type OnEvent, type Provider, type Simulator, startServer } from './server.ts';
import { createStripe } from './stripe.ts';
import { createStripePusher } from './stripe-webhooks.ts';
import { createWaapi } from './waapi.ts';
import { createCourier, createPusher, fromMeta, fromWhatsApp, type Pusher } from './webhooks.ts';
import { createWhatsApp } from './whatsapp.ts';
import { createMetaWorld, demo } from './world.ts';

export type { LogEntry, ProviderName, RequestLog } from './log.ts';
export type { OnEvent, SimulatedEvent } from './server.ts';
export type { StripeWebhookInput } from './stripe-webhooks.ts';
export type { Delivery, WebhookEvent, WebhookInput } from './webhooks.ts';
export type { MetaWorldInput } from './world.ts';
export { demo } from './world.ts';

export interface SimulatorOptions {
  /** Port by provider; left out or 0: any free one. */
  ports?: Partial<Record<ProviderName, number>>;
  /** Folder of `simulators.jsonl`; left out: a temporary one, removed on stop. */
  logDir?: string;
  /** Every answer waits this long; one number or by provider. Can be changed with `POST /_world`. */
  latencyMs?: number | Partial<Record<ProviderName, number>>;
  /** `demo` (default): the three tenants and the platform; `empty`: nobody. */
  world?: 'demo' | 'empty';
  /** Start only these. */
  only?: ProviderName[];
  /** Entries that each provider keeps in memory; default 200,000. */
  logLimit?: number;
  /** Told what the real services would push to a webhook. */
  onEvent?: OnEvent;
  log?: (line: string) => void;
}

export interface Simulators {
  urls: Record<ProviderName, string>;
  /** What the functions' environment needs to talk to the simulators instead of the real services. */
  env: Record<
    'META_GRAPH_URL' | 'META_INSTAGRAM_URL' | 'WHATSAPP_URL' | 'WAAPI_URL' | 'STRIPE_URL' | 'RESEND_URL',
    string
  >;
  /** Tokens and account ids of the demo world. */
  tokens: typeof demo;
  /** The log of all simulators, in this process. Over HTTP it is `GET /_log`. */
  requests: RequestLog;
  /** What is pushed, and to whom: `webhooks` of `POST /_world` of meta and whatsapp subscribe. `idle` and `stop` are Stripe's as well. */
  webhooks: Pusher;
  logFile: string;
  stop(): Promise<void>;
}

/** Starts the simulators on 127.0.0.1. Rejects when a wanted port is taken; then nothing is left running. */
export async function startSimulators(options: SimulatorOptions = {}): Promise<Simulators> {
  const content = options.world ?? 'demo';
  const courier = createCourier();
  const webhooks = createPusher(courier);
  const make: Record<ProviderName, () => Provider> = {
    meta: () => {
      const world = createMetaWorld(content);
      world.listen((event) => webhooks.emit(fromMeta(event)));
      return webhooks.over(createMeta(world));
    },
    whatsapp: () =>
      webhooks.over(
        createWhatsApp(content, (event) => {
          webhooks.emit(fromWhatsApp(event));
          options.onEvent?.(event);
        }),
      ),
    waapi: () => createWaapi(content),
    stripe: () => createStripe(content, createStripePusher(courier, requests)),
    resend: () => createResend(content),
  };
  const folder = options.logDir ?? (await mkdtemp(join(tmpdir(), 'onecron-simulators-')));
  const logFile = join(folder, 'simulators.jsonl');
  const requests = await openLog(logFile, options.logLimit);
  const running: Simulator[] = [];

  async function stop(): Promise<void> {
    webhooks.stop();
    await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
    await requests.close();
    if (options.logDir === undefined) await rm(folder, { recursive: true, force: true });
  }

  const urls: Record<ProviderName, string> = { meta: '', whatsapp: '', waapi: '', stripe: '', resend: '' };
  try {
    for (const name of options.only ?? providerNames) {
      const latency =
        typeof options.latencyMs === 'number' ? options.latencyMs : (options.latencyMs?.[name] ?? 0);
      const port = options.ports?.[name] ?? 0;
      const simulator = await startServer(make[name](), { log: requests, port, latencyMs: latency });
      running.push(simulator);
      urls[name] = simulator.url;
      options.log?.(`simulator of ${name}: ${simulator.url}`);
    }
  } catch (error) {
    await stop();
    throw error;
  }

  let stopped: Promise<void> | undefined;
  return {
    urls,
    env: {
      META_GRAPH_URL: `${urls.meta}/graph.facebook.com`,
      META_INSTAGRAM_URL: `${urls.meta}/graph.instagram.com`,
      WHATSAPP_URL: urls.whatsapp,
      WAAPI_URL: urls.waapi,
      STRIPE_URL: urls.stripe,
      RESEND_URL: urls.resend,
    },
    tokens: demo,
    requests,
    webhooks,
    logFile,
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

const usage = `usage: node scripts/simulators/index.ts [options]
  --port-base <n>    the five simulators listen on n … n+4 (default: free ports)
  --log-dir <folder> where simulators.jsonl goes (default: a temporary folder)
  --latency-ms <n>   every answer waits this long
  --empty            an empty world instead of the demo world
Prints one JSON line with the addresses when ready; stops on Ctrl-C.`;

async function main(): Promise<void> {
  const { values } = readOptions(usage, {
    options: {
      'port-base': { type: 'string' },
      'log-dir': { type: 'string' },
      'latency-ms': { type: 'string' },
      empty: { type: 'boolean' },
    },
  });
  const whole = (name: 'port-base' | 'latency-ms'): number | undefined => {
    const text = values[name];
    if (text !== undefined && !/^\d{1,5}$/.test(text)) throw new Error(`--${name} must be a whole number`);
    return text === undefined ? undefined : Number(text);
  };
  const base = whole('port-base');
  const latencyMs = whole('latency-ms');
  const ports = Object.fromEntries(
    providerNames.map((name, index) => [name, base === undefined ? 0 : base + index]),
  );
  const simulators = await startSimulators({
    ports,
    world: values.empty ? 'empty' : 'demo',
    ...(latencyMs === undefined ? {} : { latencyMs }),
    ...(values['log-dir'] === undefined ? {} : { logDir: resolve(values['log-dir']) }),
  });
  process.stdout.write(`${JSON.stringify({ ...simulators.urls, log: simulators.logFile })}\n`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void simulators.stop().then(() => process.exit(0)));
  }
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
    process.exitCode = 1;
  });
}
