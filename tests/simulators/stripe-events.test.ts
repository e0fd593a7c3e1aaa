import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Stripe from 'stripe';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { demo, type StripeWebhookInput } from '../../scripts/simulators/index.ts';
import { as, call, useSimulators } from './helpers.ts';

const bench = useSimulators({ only: ['stripe'] });
const key = demo.platform.stripe.api_key;
const secret = 'whsec_canary_new';
const oldSecret = 'whsec_canary_old';

interface Taken {
  path: string;
  header: string;
  text: string;
}

let receiver: Server;
let taken: Taken[] = [];
/** Statuses for the next bodies; then 200. */
let answers: number[] = [];
let url = '';
let account = '';
let sub = '';
let made = 0;
let stripe: Stripe;

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    taken.push({
      path: request.url ?? '',
      header: String(request.headers['stripe-signature']),
      text: Buffer.concat(chunks).toString(),
    });
    response.writeHead(answers.shift() ?? 200).end();
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
});
afterAll(() => receiver.close());

/** An account, a key and an address of its own for every test: none hears of another's events. */
beforeEach(async () => {
  taken = [];
  answers = [];
  made += 1;
  account = `acct_${made}`;
  sub = `sub_${made}`;
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook-${made}`;
  const own = `sk_test_events_${made}`;
  await bench.world('stripe', {
    accounts: [{ account, tenant: 'gym', keys: [{ key: own }], requests_per_second: null }],
  });
  stripe = sdk(own);
});

function sdk(apiKey: string): Stripe {
  const { hostname: host, port } = new URL(bench.url('stripe'));
  return new Stripe(apiKey, { host, port, protocol: 'http', telemetry: false, maxNetworkRetries: 0 });
}

async function subscribe(changes: Partial<StripeWebhookInput> = {}): Promise<void> {
  await bench.world('stripe', { webhooks: [{ url, account, secrets: [secret], ...changes }] });
  await bench.simulators.webhooks.idle();
}

/** Changes the world, and waits until all who want to know of it were told. */
async function happen(change: Record<string, unknown>): Promise<Taken[]> {
  await bench.world('stripe', change);
  await bench.simulators.webhooks.idle();
  return taken;
}
const subscription = (changes: Record<string, unknown> = {}) => ({
  subscriptions: [{ account, id: sub, customer: 'cus_1', ...changes }],
});
const statuses = (...names: string[]) => ({ statuses: names.map((status) => ({ id: sub, status })) });
const open = ({ text, header }: Taken, with_ = secret) =>
  stripe.webhooks.constructEventAsync(text, header, with_);
const statusOf = ({ text }: Taken): string => JSON.parse(text).data.object.status;
const typesOf = (bodies: Taken[]): string[] => bodies.map(({ text }) => JSON.parse(text).type);
const shown = async () => (await call(`${bench.url('stripe')}/_world`)).json;

describe('events', () => {
  test('tell of what the world does to customers and subscriptions', async () => {
    await bench.world('stripe', { customers: [{ account, id: 'cus_1', email: 'a@example.com' }] });
    await bench.world('stripe', { customers: [{ account, id: 'cus_1', email: 'b@example.com' }] });
    await bench.world('stripe', subscription({ status: 'trialing' }));
    await bench.world('stripe', statuses('active'));
    await bench.world('stripe', statuses('canceled'));
    const { data } = await stripe.events.list();
    expect(data.map(({ type }) => type).reverse()).toEqual([
      'customer.created',
      'customer.updated',
      'customer.subscription.created',
      'customer.subscription.updated',
      'customer.subscription.deleted',
    ]);
    expect(data[1]).toMatchObject({
      object: 'event',
      livemode: false,
      request: { id: null, idempotency_key: null },
      data: { object: { id: sub, status: 'active' }, previous_attributes: { status: 'trialing' } },
    });
    expect(data[0]?.data).toMatchObject({ object: { status: 'canceled' } });
    expect(data[0]?.data.previous_attributes).toBeUndefined();
    expect(data[3]?.data.previous_attributes).toEqual({ email: 'a@example.com' });
  });

  test('keep the object as it was then', async () => {
    await bench.world('stripe', subscription({ metadata: { a: '1' } }));
    await stripe.subscriptions.update(sub, { metadata: { a: '2' } });
    const { data } = await stripe.events.list();
    expect(data.map((event) => (event.data.object as Stripe.Subscription).metadata.a)).toEqual(['2', '1']);
  });

  test('are not made where nothing changed, nor twice by one idempotency key', async () => {
    await bench.world('stripe', subscription());
    await bench.world('stripe', statuses('active'));
    await bench.world('stripe', subscription());
    for (const _ of [1, 2]) await stripe.customers.create({ name: 'Ana' }, { idempotencyKey: `one-${made}` });
    const { data } = await stripe.events.list();
    expect(data.map(({ type }) => type)).toEqual(['customer.created', 'customer.subscription.created']);
    expect(data[0]?.request).toMatchObject({
      id: expect.stringMatching(/^req_/),
      idempotency_key: `one-${made}`,
    });
  });

  test('tell of what is done with a key', async () => {
    const { id: customer } = await stripe.customers.create({ name: 'Ana' });
    const { id } = await stripe.subscriptions.create({ customer, items: [{ price: 'price_1' }] });
    await stripe.subscriptions.update(id, { cancel_at_period_end: true });
    await stripe.subscriptions.cancel(id);
    const { data } = await stripe.events.list({ type: 'customer.subscription.*' });
    expect(data.map(({ type }) => type.split('.')[2])).toEqual(['deleted', 'updated', 'created']);
    expect(data[1]?.data.previous_attributes).toMatchObject({ cancel_at_period_end: false });
  });

  test('are listed in pages, each exactly once, and read by id', async () => {
    await bench.world('stripe', subscription());
    await bench.world('stripe', statuses('past_due', 'active', 'unpaid', 'active', 'canceled'));
    const ids: string[] = [];
    for await (const event of stripe.events.list({ limit: 2 })) ids.push(event.id);
    expect(ids).toHaveLength(6);
    expect(new Set(ids).size).toBe(6);
    expect(await stripe.events.retrieve(ids[0] ?? '')).toMatchObject({
      type: 'customer.subscription.deleted',
    });
    await expect(stripe.events.retrieve('evt_nope')).rejects.toMatchObject({ code: 'resource_missing' });
  });

  test('are found by type, by types and by the second, thirty days back', async () => {
    const now = Math.floor(Date.now() / 1000);
    const at = (status: string, seconds: number) => ({ id: sub, status, at: now - seconds });
    await bench.world('stripe', subscription());
    await bench.world('stripe', {
      statuses: [at('past_due', 31 * 86_400), at('active', 29 * 86_400), at('canceled', 3600)],
    });
    const find = async (parameters: Stripe.EventListParams) =>
      (await stripe.events.list(parameters)).data.map(({ type }) => type.split('.')[2]);
    expect(await find({})).toEqual(['created', 'deleted', 'updated']);
    expect(await find({ type: 'customer.subscription.deleted' })).toEqual(['deleted']);
    expect(await find({ types: ['customer.subscription.updated', 'customer.subscription.created'] })).toEqual(
      ['created', 'updated'],
    );
    expect(await find({ created: { lte: now - 3600, gt: now - 7200 } })).toEqual(['deleted']);
    await expect(find({ type: 'a', types: ['b'] })).rejects.toMatchObject({ statusCode: 400 });
  });

  test('are an account’s own, and a restricted key needs leave to read them', async () => {
    await bench.world('stripe', subscription());
    expect((await stripe.events.list()).data).toHaveLength(1);
    const keys = [
      { key: `rk_test_may_${made}`, permissions: { events: 'read' } },
      { key: `rk_test_not_${made}`, permissions: { customers: 'write', subscriptions: 'write' } },
    ];
    await bench.world('stripe', { accounts: [{ account, tenant: 'gym', keys }] });
    expect((await sdk(`rk_test_may_${made}`).events.list()).data).toHaveLength(1);
    await expect(sdk(`rk_test_not_${made}`).events.list()).rejects.toMatchObject({ statusCode: 403 });
    expect((await call(`${bench.url('stripe')}/v1/events`, as(key))).json.data).toEqual([]);
  });
});

describe('webhooks of Stripe', () => {
  test('are signed over the bytes that were sent', async () => {
    await subscribe();
    const [body] = await happen(subscription());
    if (!body) throw new Error('nothing came');
    const event = await open(body);
    expect(event).toMatchObject({
      type: 'customer.subscription.created',
      api_version: '2026-10-28.endive',
      pending_webhooks: 1,
      data: { object: { id: sub, status: 'active' } },
    });
    expect(stripe.webhooks.constructEvent(body.text, body.header, secret)).toEqual(event);
    const rewritten = { ...body, text: JSON.stringify(JSON.parse(body.text)) };
    await expect(open(rewritten)).rejects.toThrow(/No signatures found matching/);
    expect(await stripe.events.retrieve(event.id)).toMatchObject({ id: event.id, pending_webhooks: 0 });
  });

  test('are about the account and the types that were asked for', async () => {
    await subscribe({ events: ['customer.subscription.deleted'] });
    await happen({
      accounts: [{ account: `${account}_other`, tenant: 'gym', keys: [] }],
      subscriptions: [
        { account, id: sub, customer: 'cus_1' },
        { account: `${account}_other`, id: `${sub}_other`, customer: 'cus_1' },
      ],
      statuses: [
        { id: `${sub}_other`, status: 'canceled' },
        { id: sub, status: 'canceled' },
      ],
    });
    expect(typesOf(taken)).toEqual(['customer.subscription.deleted']);
    expect(JSON.parse(taken[0]?.text ?? '').data.object.id).toBe(sub);
  });

  test('come in the order in which it happened', async () => {
    await subscribe();
    await happen({ ...subscription(), ...statuses('past_due', 'unpaid', 'canceled') });
    expect(taken.map(statusOf)).toEqual(['active', 'past_due', 'unpaid', 'canceled']);
  });

  test('come in another order when the world wants it so', async () => {
    await subscribe({ hold: true });
    expect(await happen({ ...subscription(), ...statuses('past_due', 'canceled') })).toEqual([]);
    expect((await shown()).webhooks.at(-1)).toMatchObject({ url, waiting: 3 });
    await subscribe({ order: 'reversed' });
    expect(taken.map(statusOf)).toEqual(['canceled', 'past_due', 'active']);
  });

  test('may all be of one second', async () => {
    await subscribe();
    await happen({ ...subscription(), ...statuses('past_due', 'active') });
    const events = await Promise.all(taken.map((body) => open(body)));
    expect(new Set(events.map(({ created }) => created)).size).toBe(1);
    expect(new Set(events.map(({ id }) => id)).size).toBe(3);
    const at = (events[0]?.created ?? 0) - 60;
    await happen({ statuses: [{ id: sub, status: 'canceled', at }] });
    expect(JSON.parse(taken[3]?.text ?? '').created).toBe(at);
  });

  test('come twice with one id when the world wants it so', async () => {
    await subscribe({ duplicates: 1 });
    await happen(subscription());
    expect(taken).toHaveLength(2);
    expect(new Set(taken.map(({ text }) => text)).size).toBe(1);
    await subscribe();
    await happen(statuses('past_due'));
    expect(taken).toHaveLength(3);
  });

  test('carry a signature of each secret while it is replaced', async () => {
    await subscribe({ secrets: [secret, oldSecret] });
    const [both] = await happen(subscription());
    if (!both) throw new Error('nothing came');
    expect(both.header.match(/v1=/g)).toHaveLength(2);
    expect((await open(both)).id).toBe((await open(both, oldSecret)).id);
    await subscribe({ secrets: [secret] });
    const [, only] = await happen(statuses('past_due'));
    if (!only) throw new Error('nothing came');
    await expect(open(only)).resolves.toBeTruthy();
    await expect(open(only, oldSecret)).rejects.toThrow(/No signatures found matching/);
  });

  test('may be old, or of the future, by their signed time', async () => {
    const ages = [0, 250, 400, -400].map((age_seconds) => ({ age_seconds }));
    await subscribe({ next: ages });
    const bodies = await happen({ ...subscription(), ...statuses('past_due', 'active', 'unpaid') });
    const read = await Promise.allSettled(bodies.map((body) => open(body)));
    // The SDK refuses the past only: whoever wants to refuse the future has to do it.
    expect(read.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(String(read[2]?.status === 'rejected' && read[2].reason)).toContain('Timestamp outside');
    const times = bodies.map(({ header }) => Number(/t=(\d+)/.exec(header)?.[1]));
    const now = Date.now() / 1000;
    expect(times[3]).toBeGreaterThan(now + 380);
    expect(times[0]).toBeLessThanOrEqual(now);
  });

  test('may have a signature that does not fit, for one event of several', async () => {
    await subscribe({ next: [{}, { signature: 'wrong' }] });
    const bodies = await happen({ ...subscription(), ...statuses('past_due', 'active') });
    const read = await Promise.allSettled(bodies.map((body) => open(body)));
    expect(read.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(String(read[1]?.status === 'rejected' && read[1].reason)).toContain('No signatures found');
  });

  test('of an older version have the period at the top of the subscription', async () => {
    const items = [{ current_period_start: 1_790_000_000, current_period_end: 1_800_000_000 }];
    await subscribe({ next: [{ api_version: '2024-06-20' }] });
    const bodies = await happen({ ...subscription({ items }), ...statuses('past_due') });
    const [old, current] = await Promise.all(bodies.map((body) => open(body)));
    expect(old?.api_version).toBe('2024-06-20');
    expect(old?.data.object).toMatchObject({
      current_period_start: 1_790_000_000,
      current_period_end: 1_800_000_000,
    });
    const itemOf = (event?: Stripe.Event) =>
      (event?.data.object as Stripe.Subscription | undefined)?.items.data[0];
    expect(itemOf(old)).toMatchObject({ object: 'subscription_item' });
    expect(itemOf(old)).not.toHaveProperty('current_period_end');
    expect(current?.data.object).not.toHaveProperty('current_period_end');
    expect(itemOf(current)).toMatchObject({ current_period_end: 1_800_000_000 });
  });

  test('come again until they are answered with 2xx, and not for ever', async () => {
    await subscribe({ retry: { first_ms: 10, factor: 2, tries: 3 } });
    answers = [500, 302, 204];
    await happen(subscription());
    expect((await shown()).deliveries.at(-1)).toMatchObject({ answers: [500, 302, 204], state: 'taken' });
    expect((await stripe.events.list({ delivery_success: false })).data).toHaveLength(0);
    answers = [500, 404, 429, 200];
    await happen(statuses('past_due'));
    expect((await shown()).deliveries.at(-1)).toMatchObject({ answers: [500, 404, 429], state: 'given up' });
    const { data } = await stripe.events.list({ delivery_success: false });
    expect(data.map(({ type }) => type)).toEqual(['customer.subscription.updated']);
    expect((await stripe.events.list({ delivery_success: true })).data).toHaveLength(1);
  });

  test('stand in the log, each try with its answer, and show no secret', async () => {
    await subscribe({ url: `${url}?word=canary-word`, retry: { first_ms: 10 } });
    answers = [503];
    await happen(subscription());
    const pushes = (await bench.log('stripe')).filter(({ path }) => path === url);
    expect(pushes).toMatchObject([
      { tenant: 'gym', about: { try: 1 }, answer: { status: 503, kind: 'not taken', effects: [] } },
      { tenant: 'gym', about: { try: 2 }, answer: { status: 200, kind: 'taken', effects: [] } },
    ]);
    expect(pushes[0]?.about).toMatchObject({
      push: JSON.parse(taken[0]?.text ?? '').id,
      type: 'customer.subscription.created',
    });
    expect(JSON.stringify(await bench.log('stripe'))).not.toMatch(/canary/);
    expect(JSON.stringify((await shown()).webhooks)).not.toMatch(/whsec_/);
  });

  test('end when they are removed', async () => {
    await subscribe();
    await happen(subscription());
    expect(taken).toHaveLength(1);
    await happen({ remove_webhooks: [url], ...statuses('past_due') });
    expect(taken).toHaveLength(1);
  });

  test('that make no sense are refused in words', async () => {
    const refused = async (changes: Record<string, unknown>) => {
      const webhook = { url, account, secrets: [secret], ...changes };
      const body = JSON.stringify({ webhooks: [webhook] });
      const { status, text } = await call(`${bench.url('stripe')}/_world`, { method: 'POST', body });
      return status === 400 ? text : null;
    };
    expect(await refused({ secrets: ['plain'] })).toContain('whsec_');
    expect(await refused({ account: 'acct_nobody' })).toContain('acct_nobody');
    expect(await refused({ api_version: 'new' })).toContain('a version is a date');
    expect(await refused({})).toBeNull();
  });
});
