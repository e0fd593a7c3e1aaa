// Nobody's message leaves with somebody else's credential: a thousand items of three tenants, interleaved at random,
// through the real drains, jobs and clients. The simulators' log says whose token each request came with, and the text
// of each message says whose it was.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createDrain } from '../../functions/_shared/drain.ts';
import type { Batch, Credential, Item, TenantWork } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import type { MessageSender } from '../../functions/_shared/providers/messages.ts';
import { createResend } from '../../functions/_shared/providers/resend.ts';
import { createWaapi } from '../../functions/_shared/providers/waapi.ts';
import { createWhatsApp } from '../../functions/_shared/providers/whatsapp.ts';
import { createSendEmails } from '../../functions/worker/jobs/send-emails.ts';
import { createSendNotifications } from '../../functions/worker/jobs/send-notifications.ts';
import { type LogEntry, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { engine, item, jobContext, memoryLog } from './fakes.ts';

const slugs = ['pizza-shop', 'gym', 'salon'] as const;
type Slug = (typeof slugs)[number];
const jobs = ['send-notifications', 'send-emails'] as const;
type Job = (typeof jobs)[number];

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

/** mulberry32: the same numbers for the same seed. */
function randomFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// The salon sends through a gateway, the others through WhatsApp numbers of their own; all three mail on their own.
const numbers: Record<string, string> = { 'pizza-shop': '300000000000001', gym: '300000000000002' };
const tenantIds: Record<Slug, string> = {
  'pizza-shop': '44444444-4444-4444-8444-000000000001',
  gym: '44444444-4444-4444-8444-000000000002',
  salon: '44444444-4444-4444-8444-000000000003',
};

function credentialOf(slug: Slug, job: Job): Credential {
  const own = { credential_id: `${slug} ${job}`, source: 'tenant' as const };
  if (job === 'send-emails') {
    const account = { from: `${slug} <hi@${slug}.example>` };
    return { ...own, provider: 'email', kind: 'resend', account, secret: { api_key: `re_${slug}` } };
  }
  const provider = 'whatsapp';
  const number = numbers[slug];
  if (number === undefined) {
    const secret = { token: `gateway-${slug}` };
    return { ...own, provider, kind: 'waapi', account: { instance_id: '3003' }, secret };
  }
  const secret = { access_token: `cloud-${slug}` };
  return { ...own, provider, kind: 'whatsapp_cloud', account: { phone_number_id: number }, secret };
}

let simulators: Simulators;
beforeAll(async () => {
  simulators = await startSimulators({ only: ['whatsapp', 'waapi', 'resend'], world: 'empty' });
  const world = async (way: 'whatsapp' | 'waapi' | 'resend', change: unknown) => {
    const body = JSON.stringify(change);
    const response = await fetch(`${simulators.urls[way]}/_world`, { method: 'POST', body });
    if (!response.ok) throw new Error(await response.text());
  };
  const cloud = Object.entries(numbers);
  await world('whatsapp', {
    numbers: cloud.map(([tenant, phone_number_id]) => ({
      ...{ phone_number_id, tenant, messages_per_second: null, pair: null },
    })),
    // Every token may use every number: a mix-up goes through, and shows.
    tokens: cloud.map(([tenant]) => ({
      ...{ token: `cloud-${tenant}`, tenant, numbers: Object.values(numbers) },
    })),
  });
  await world('waapi', { instances: [{ instance_id: '3003', tenant: 'salon', token: 'gateway-salon' }] });
  await world('resend', {
    accounts: slugs.map((tenant) => ({ api_key: `re_${tenant}`, tenant, requests_per_second: null })),
  });
});
beforeEach(() => simulators.requests.clear());
afterAll(() => simulators.stop());

function itemOf(id: number, slug: Slug, job: Job): Item {
  const outbox = `${slug}/${id}`;
  return item(
    id,
    job === 'send-emails'
      ? {
          outbox_id: outbox,
          to: `person${id}@example.com`,
          subject: `For ${outbox}`,
          text: `For ${outbox}`,
          idempotency_key: outbox,
        }
      : {
          outbox_id: outbox,
          to: `+4915${String(id).padStart(9, '0')}`,
          text: `For ${outbox}`,
          callback: outbox,
        },
  );
}

/** Batches of one job with items of all tenants in any order and any share. */
function batchesOf(job: Job, firstId: number, count: number, random: () => number): Batch[] {
  const batches: Batch[] = [];
  let id = firstId;
  while (id < firstId + count) {
    const size = Math.min(firstId + count - id, 5 + Math.floor(random() * 30));
    const items = new Map<Slug, Item[]>();
    for (let n = 0; n < size; n += 1) {
      const slug = slugs[Math.floor(random() * slugs.length)] ?? 'gym';
      items.set(slug, [...(items.get(slug) ?? []), itemOf(id, slug, job)]);
      id += 1;
    }
    const tenants: TenantWork[] = [...items].map(([slug, own]) => ({
      ...{ tenant_id: tenantIds[slug], slug, credential: credentialOf(slug, job), items: own },
    }));
    const now = new Date();
    const lease_until = new Date(now.getTime() + 60_000).toISOString();
    const times = { now: now.toISOString(), lease_until, lease_seconds: 60, cost_unit: 'items' as const };
    batches.push({ batch_id: batches.length + firstId, job, ...times, tenants });
  }
  return batches;
}

/** Requests whose message is somebody else's than the token or the number that it was sent with. */
function mixups(entries: readonly LogEntry[]): LogEntry[] {
  return entries.filter(({ tenant, about }) => {
    const owner = /^For ([a-z-]+)\/\d+$/.exec(String(about.text ?? about.subject))?.[1];
    if (owner === undefined || owner !== tenant) return true;
    if (about.from !== undefined && about.from !== `${owner} <hi@${owner}.example>`) return true;
    return about.target_tenant !== undefined && about.target_tenant !== owner;
  });
}

test(`1,000 items of three tenants: each leaves once, with its own credential (seed ${seed})`, async () => {
  const random = randomFrom(seed);
  const pause = async () => {
    const ms = random() < 0.3 ? 0 : Math.floor(random() * 12);
    await new Promise((resolve) => setTimeout(resolve, ms));
  };
  const fetchAtRandom = async (url: string, init: RequestInit) => {
    await pause();
    const response = await fetch(url, init);
    await pause();
    return response;
  };
  const http = createHttp({ fetch: fetchAtRandom, timeoutMs: 20_000 });
  const whatsapp = createWhatsApp({ http, url: simulators.urls.whatsapp });
  const waapi = createWaapi({ http, url: simulators.urls.waapi });
  const resend = createResend({ http, url: simulators.urls.resend });
  const handlers = {
    'send-notifications': createSendNotifications({ senders: { whatsapp_cloud: whatsapp, waapi } }),
    'send-emails': createSendEmails({ senders: { resend } }),
  };
  const waiting: Record<Job, Batch[]> = {
    'send-notifications': batchesOf('send-notifications', 1, 650, random),
    'send-emails': batchesOf('send-emails', 651, 350, random),
  };
  const outcomes = new Map<number, ItemOutcome>();
  const { log, lines } = memoryLog();
  const drain = createDrain({
    engine: engine({
      nextBatch: async (_drainId, job) => waiting[job as Job].shift() ?? null,
      beginEffects: async (_batchId, ids) => {
        await pause();
        return [...ids];
      },
      extendBatch: async () => true,
      closeBatch: async (batchId, closed, next) => {
        for (const outcome of closed) {
          expect(outcomes.has(outcome.item_id)).toBe(false);
          outcomes.set(outcome.item_id, outcome);
        }
        const job = batchId < 651 ? 'send-notifications' : 'send-emails';
        return { closed: closed.length, stale: 0, next: next ? (waiting[job].shift() ?? null) : null };
      },
      endDrain: async () => {},
    }),
    handlers,
    now: () => Date.now(),
    log,
  });

  // Drains of one process share everything that a module could share.
  const orders = [...jobs, ...jobs, ...jobs].map((job, index) => drain({ drainId: `drain-${index}`, job }));
  await Promise.all(orders);

  expect(outcomes.size).toBe(1000);
  for (const outcome of outcomes.values()) {
    expect(outcome).toMatchObject({ outcome: 'done', result: { status: 'sent' } });
  }
  const entries = simulators.requests.list();
  expect(entries).toHaveLength(1000);
  expect(mixups(entries)).toEqual([]);
  expect(new Set(entries.map(({ about }) => about.text ?? about.subject)).size).toBe(1000);
  for (const slug of slugs)
    expect(entries.filter(({ tenant }) => tenant === slug).length).toBeGreaterThan(200);
  // The messages of different tenants were really on their way at the same time.
  const order = entries.map(({ tenant }) => tenant);
  expect(order.filter((tenant, index) => tenant !== order[index - 1]).length).toBeGreaterThan(300);
  // What was remembered about a message is about that message.
  const ids = new Map(
    entries.map(({ about, answer }) => [String(about.text ?? about.subject), answer?.effects[0]?.id]),
  );
  for (const [itemId, outcome] of outcomes) {
    const text = [...ids.keys()].find((each) => each.endsWith(`/${itemId}`)) ?? '';
    expect(outcome).toMatchObject({ result: { provider_message_id: ids.get(text) } });
  }
  expect(lines.join('\n')).not.toMatch(/cloud-|gateway-|re_(pizza|gym|salon)/);
});

test('a client that remembers a credential is caught by the same look at the log', async () => {
  const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 20_000 });
  const honest = createWhatsApp({ http, url: simulators.env.WHATSAPP_URL });
  let remembered: Credential | undefined;
  const forgetful: MessageSender = {
    sendText: (credential, message, request) => {
      remembered ??= credential;
      return honest.sendText({ ...credential, secret: remembered.secret }, message, request);
    },
  };
  const handler = createSendNotifications({ senders: { whatsapp_cloud: forgetful } });
  const context = jobContext({ now: () => new Date() });
  for (const [id, slug] of [
    [1, 'pizza-shop'],
    [2, 'gym'],
  ] as const) {
    const credential = credentialOf(slug, 'send-notifications');
    const items = [itemOf(id, slug, 'send-notifications')];
    await handler({ tenant_id: tenantIds[slug], slug, credential, items }, context);
  }
  expect(simulators.requests.list()).toHaveLength(2);
  expect(mixups(simulators.requests.list()).map(({ about }) => about.text)).toEqual(['For gym/2']);
});
