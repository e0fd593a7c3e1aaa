// A small part of Stripe, told the way API version 2026-10-28.endive tells it: customers and subscriptions with
// paging, `status` of lists, periods on the items, keys with permissions, idempotency, rate limit, error shapes, and the
// events of what changes.
import { hash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { fingerprint } from './log.ts';
import {
  type Answer,
  bearer,
  type Context,
  isRecord,
  type Provider,
  type Reading,
  type SimulatedRequest,
} from './server.ts';
import {
  apiVersion,
  type EventType,
  eventShape,
  type StripeEvent,
  type StripePusher,
} from './stripe-webhooks.ts';
import { demo } from './world.ts';

const statuses = [
  'incomplete',
  'incomplete_expired',
  'trialing',
  'active',
  'past_due',
  'canceled',
  'unpaid',
  'paused',
] as const;

const seconds = z.int().min(0);
const metadata = z.record(z.string(), z.string()).default({});

const accountInput = z.strictObject({
  account: z.string().min(1),
  tenant: z.string().min(1),
  keys: z.array(
    z.strictObject({
      key: z
        .string()
        .regex(/^(sk|rk)_(test|live)_/, 'a key begins with sk_test_, sk_live_, rk_test_ or rk_live_'),
      /** Restricted keys: what they may do, by resource; left out: everything. */
      permissions: z
        .partialRecord(z.enum(['customers', 'subscriptions', 'events']), z.enum(['none', 'read', 'write']))
        .optional(),
    }),
  ),
  /** Left out: 25 with a test key, 100 with a live one; null: no limit. */
  requests_per_second: z.int().min(1).nullable().optional(),
});

const customerInput = z.strictObject({
  account: z.string(),
  id: z.string().regex(/^cus_/).optional(),
  email: z.string().nullable().default(null),
  name: z.string().nullable().default(null),
  metadata,
  created: seconds.optional(),
});

const subscriptionInput = z.strictObject({
  account: z.string(),
  id: z.string().regex(/^sub_/).optional(),
  customer: z.string(),
  status: z.enum(statuses).default('active'),
  created: seconds.optional(),
  cancel_at_period_end: z.boolean().default(false),
  metadata,
  items: z
    .array(
      z.strictObject({
        price: z.string().default('price_demo'),
        product: z.string().default('prod_demo'),
        unit_amount: z.int().min(0).default(1000),
        quantity: z.int().min(0).default(1),
        current_period_start: seconds.optional(),
        current_period_end: seconds.optional(),
      }),
    )
    .min(1)
    .default([{ price: 'price_demo', product: 'prod_demo', unit_amount: 1000, quantity: 1 }]),
});

const worldSchema = z.strictObject({
  accounts: z.array(accountInput).default([]),
  customers: z.array(customerInput).default([]),
  subscriptions: z.array(subscriptionInput).default([]),
  /** Changes the status of subscriptions that exist; `at`: the second that the event names, left out: this one. */
  statuses: z
    .array(z.strictObject({ id: z.string(), status: z.enum(statuses), at: seconds.optional() }))
    .default([]),
  /** Who is told, as `stripe-webhooks.ts` says. */
  webhooks: z.unknown().optional(),
  remove_webhooks: z.array(z.string()).default([]),
  /** As if they had never been: nobody is told. */
  remove: z.strictObject({ subscriptions: z.array(z.string()).default([]) }).optional(),
});
export type StripeWorldInput = z.input<typeof worldSchema>;

type AccountInput = z.output<typeof accountInput>;
interface Item {
  id: string;
  price: string;
  product: string;
  unit_amount: number;
  quantity: number;
  current_period_start: number;
  current_period_end: number;
}
interface Customer {
  id: string;
  email: string | null;
  name: string | null;
  metadata: Record<string, string>;
  created: number;
  ordinal: number;
}
interface Subscription {
  id: string;
  customer: string;
  status: (typeof statuses)[number];
  created: number;
  ordinal: number;
  cancel_at_period_end: boolean;
  canceled_at: number | null;
  metadata: Record<string, string>;
  items: Item[];
}
interface Account extends AccountInput {
  customers: Map<string, Customer>;
  subscriptions: Map<string, Subscription>;
  events: Map<string, StripeEvent>;
  idempotency: Map<string, { at: number; request: string; answer: Answer | null }>;
  windowAt: number;
  requests: number;
}

/** Who or what made a change. */
interface Cause {
  /** Unix time in seconds. */
  at: number;
  livemode: boolean;
  request: StripeEvent['request'];
}

const resources = ['customers', 'subscriptions', 'events'] as const;
const keyLifeMs = 24 * 3600 * 1000;
const month = 30 * 24 * 3600;
/** How far back `/v1/events` goes, in seconds. */
const eventLife = 30 * 24 * 3600;
const keptEvents = 10_000;
const scriptedError = z.strictObject({
  type: z.string().optional(),
  code: z.string().optional(),
  message: z.string().optional(),
  param: z.string().optional(),
});

type Parameters = Map<string, string>;

/** Form fields by flat name; `expand[0]` and `expand[]` count up under one name. */
function parametersOf(request: SimulatedRequest): Parameters {
  const source =
    request.method === 'GET' || request.method === 'DELETE'
      ? request.query
      : new URLSearchParams(request.raw.toString());
  const parameters: Parameters = new Map();
  for (const [name, value] of source) parameters.set(name.replace('[]', `[${parameters.size}]`), value);
  return parameters;
}

function failed(
  status: number,
  error: Record<string, unknown>,
  headers: Record<string, string> = {},
): Answer {
  const code = typeof error.code === 'string' ? error.code : String(error.type);
  return { status, headers, body: { error }, kind: status === 429 ? 'throttled' : 'error', code };
}

const invalid = (message: string, extra: Record<string, unknown> = {}, status = 400): Answer =>
  failed(status, { type: 'invalid_request_error', message, ...extra });

class StripeFailure extends Error {
  readonly answer: Answer;
  constructor(answer: Answer) {
    super('stripe error');
    this.answer = answer;
  }
}

function integerOf(parameters: Parameters, name: string): number | undefined {
  const text = parameters.get(name);
  if (text === undefined) return undefined;
  if (!/^-?\d{1,15}$/.test(text)) {
    throw new StripeFailure(
      invalid(`Invalid integer: ${text}`, { code: 'parameter_invalid_integer', param: name }),
    );
  }
  return Number(text);
}

function metadataOf(parameters: Parameters): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of parameters) {
    const key = /^metadata\[([^\]]+)\]$/.exec(name)?.[1];
    if (key !== undefined) found[key] = value;
  }
  return found;
}

/** `created` as a whole (`created=…`) and as a range (`created[gte]=…`). */
function inRange(parameters: Parameters, name: string, value: number): boolean {
  const at = (suffix: string) => integerOf(parameters, `${name}${suffix}`);
  const exact = at('');
  const [gt, gte, lt, lte] = [at('[gt]'), at('[gte]'), at('[lt]'), at('[lte]')];
  return (
    (exact === undefined || value === exact) &&
    (gt === undefined || value > gt) &&
    (gte === undefined || value >= gte) &&
    (lt === undefined || value < lt) &&
    (lte === undefined || value <= lte)
  );
}

/** `type=customer.subscription.*` names a group. */
function ofType(wanted: string, type: string): boolean {
  return wanted.endsWith('*') ? type.startsWith(wanted.slice(0, -1)) : wanted === type;
}

const isLive = (key: string): boolean => /^(sk|rk)_live_/.test(key);
const secondsNow = (): number => Math.floor(Date.now() / 1000);

export function createStripe(content: 'demo' | 'empty', pusher: StripePusher): Provider {
  const accounts = new Map<string, Account>();
  const byKey = new Map<string, { account: Account; permissions: Record<string, string> | undefined }>();
  let ordinal = 0;

  const nextId = (prefix: string): string => `${prefix}_sim${String(ordinal).padStart(14, '0')}`;

  function accountNamed(name: string): Account {
    const account = accounts.get(name);
    if (account) return account;
    throw new z.ZodError([
      { code: 'custom', path: ['account'], message: `there is no account ${name}`, input: name },
    ]);
  }

  // ---- events ---------------------------------------------------------------------------------------------

  /** An object as an event keeps it: what happens to it later is another event's. */
  const customerNow = (customer: Customer, livemode: boolean): Record<string, unknown> =>
    structuredClone(customerShape(customer, livemode));
  const subscriptionNow = (
    account: Account,
    subscription: Subscription,
    livemode: boolean,
  ): Record<string, unknown> =>
    structuredClone(subscriptionShape(account, subscription, livemode, new Set()));

  /** Keeps an event and pushes it. `before`: the object as it was; where nothing is different nothing happened. */
  function tell(
    account: Account,
    type: EventType,
    cause: Cause,
    object: Record<string, unknown>,
    before?: Record<string, unknown>,
  ): void {
    const previous = Object.entries(before ?? {}).filter(
      ([key, value]) => JSON.stringify(value) !== JSON.stringify(object[key]),
    );
    if (before !== undefined && previous.length === 0) return;
    ordinal += 1;
    const event: StripeEvent = {
      id: nextId('evt'),
      ordinal,
      account: account.account,
      tenant: account.tenant,
      created: cause.at,
      livemode: cause.livemode,
      request: cause.request,
      type,
      object,
      previous: type.endsWith('.updated') ? Object.fromEntries(previous) : null,
      asked: 0,
      pending: 0,
    };
    account.events.set(event.id, event);
    if (account.events.size > keptEvents) {
      const [oldest] = account.events.keys();
      account.events.delete(oldest ?? '');
    }
    pusher.emit(event);
  }

  /** Of a subscription that was there before; the end of one has a type of its own. */
  function tellSubscription(
    account: Account,
    subscription: Subscription,
    cause: Cause,
    before: Record<string, unknown>,
  ): void {
    const ends = subscription.status === 'canceled' && before.status !== 'canceled';
    const type = ends ? 'customer.subscription.deleted' : 'customer.subscription.updated';
    tell(account, type, cause, subscriptionNow(account, subscription, cause.livemode), before);
  }

  // ---- the world ------------------------------------------------------------------------------------------

  function addCustomer(account: Account, input: Partial<Customer>, cause: Cause): Customer {
    ordinal += 1;
    const old = account.customers.get(input.id ?? '');
    const customer: Customer = {
      id: input.id ?? nextId('cus'),
      email: input.email ?? null,
      name: input.name ?? null,
      metadata: input.metadata ?? {},
      created: input.created ?? old?.created ?? cause.at,
      ordinal: old?.ordinal ?? ordinal,
    };
    account.customers.set(customer.id, customer);
    const object = customerNow(customer, cause.livemode);
    if (old) tell(account, 'customer.updated', cause, object, customerNow(old, cause.livemode));
    else tell(account, 'customer.created', cause, object);
    return customer;
  }

  function addSubscription(
    account: Account,
    input: z.output<typeof subscriptionInput>,
    cause: Cause,
  ): Subscription {
    ordinal += 1;
    const old = account.subscriptions.get(input.id ?? '');
    const before = old && subscriptionNow(account, old, cause.livemode);
    const created = input.created ?? old?.created ?? cause.at;
    const canceledAt = old ? (old.canceled_at ?? cause.at) : created;
    const subscription: Subscription = {
      id: input.id ?? nextId('sub'),
      customer: input.customer,
      status: input.status,
      created,
      ordinal: old?.ordinal ?? ordinal,
      cancel_at_period_end: input.cancel_at_period_end,
      canceled_at: input.status === 'canceled' ? canceledAt : null,
      metadata: input.metadata,
      items: input.items.map((item, index) => ({
        ...item,
        id: old?.items[index]?.id ?? `${nextId('si')}${index}`,
        current_period_start: item.current_period_start ?? created,
        current_period_end: item.current_period_end ?? created + month,
      })),
    };
    account.subscriptions.set(subscription.id, subscription);
    if (before) tellSubscription(account, subscription, cause, before);
    else {
      const object = subscriptionNow(account, subscription, cause.livemode);
      tell(account, 'customer.subscription.created', cause, object);
    }
    return subscription;
  }

  function apply(change: unknown): { customers: string[]; subscriptions: string[] } {
    const input = worldSchema.parse(change);
    const now = secondsNow();
    const causeOf = (account: Account, at = now): Cause => ({
      at,
      livemode: isLive(account.keys[0]?.key ?? ''),
      request: { id: null, idempotency_key: null },
    });
    for (const given of input.accounts) {
      const old = accounts.get(given.account);
      const account: Account = {
        ...given,
        customers: old?.customers ?? new Map(),
        subscriptions: old?.subscriptions ?? new Map(),
        events: old?.events ?? new Map(),
        idempotency: old?.idempotency ?? new Map(),
        windowAt: 0,
        requests: 0,
      };
      for (const { key } of old?.keys ?? []) byKey.delete(key);
      accounts.set(given.account, account);
      for (const { key, permissions } of given.keys) byKey.set(key, { account, permissions });
    }
    // Before anything happens, so that who subscribes hears of what comes in the same call.
    for (const url of input.remove_webhooks) pusher.unsubscribe(url);
    if (input.webhooks !== undefined) pusher.subscribe(input.webhooks, (name) => void accountNamed(name));
    const customers = input.customers.map((given) => {
      const { account: name, id, created, ...rest } = given;
      const known = {
        ...rest,
        ...(id === undefined ? {} : { id }),
        ...(created === undefined ? {} : { created }),
      };
      const account = accountNamed(name);
      return addCustomer(account, known, causeOf(account)).id;
    });
    const subscriptions = input.subscriptions.map((given) => {
      const account = accountNamed(given.account);
      return addSubscription(account, given, causeOf(account)).id;
    });
    for (const { id, status, at } of input.statuses) {
      const account = [...accounts.values()].find((one) => one.subscriptions.has(id));
      const found = account?.subscriptions.get(id);
      if (!account || !found) {
        const message = `there is no subscription ${id}`;
        throw new z.ZodError([{ code: 'custom', path: ['statuses'], message, input: id }]);
      }
      if (found.status === status) continue;
      const cause = causeOf(account, at);
      const before = subscriptionNow(account, found, cause.livemode);
      found.status = status;
      found.canceled_at = status === 'canceled' ? cause.at : null;
      tellSubscription(account, found, cause, before);
    }
    for (const id of input.remove?.subscriptions ?? []) {
      for (const account of accounts.values()) account.subscriptions.delete(id);
    }
    return { customers, subscriptions };
  }

  if (content === 'demo') {
    apply({
      accounts: [
        {
          account: 'acct_demo_pizza_shop',
          tenant: 'pizza-shop',
          keys: [
            {
              key: demo['pizza-shop'].stripe.api_key,
              permissions: { customers: 'read', subscriptions: 'read', events: 'read' },
            },
          ],
        },
        { account: 'acct_demo_platform', tenant: 'platform', keys: [{ key: demo.platform.stripe.api_key }] },
      ],
    });
  }

  function keyOf(request: SimulatedRequest): string | null {
    const basic = /^basic\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (basic !== undefined) return Buffer.from(basic, 'base64').toString().split(':')[0] || null;
    return bearer(request.headers);
  }

  function read(request: SimulatedRequest): Reading {
    const [, , resource, id] = request.path.split('/');
    const about: Record<string, unknown> = { resource: resource ?? null };
    if (id !== undefined) about.object_id = id;
    const key = request.headers['idempotency-key'];
    if (typeof key === 'string') about.idempotency_key = key;
    for (const name of ['status', 'starting_after', 'ending_before', 'limit', 'customer', 'type']) {
      const value = request.query.get(name);
      if (value !== null) about[name] = value;
    }
    return { token: keyOf(request), about };
  }

  // ---- shapes ---------------------------------------------------------------------------------------------

  const customerShape = (customer: Customer, livemode: boolean) => ({
    id: customer.id,
    object: 'customer',
    created: customer.created,
    email: customer.email,
    livemode,
    metadata: customer.metadata,
    name: customer.name,
  });

  function subscriptionShape(
    account: Account,
    subscription: Subscription,
    livemode: boolean,
    expand: Set<string>,
  ) {
    const customer = account.customers.get(subscription.customer);
    const first = subscription.items[0];
    const ended = subscription.status === 'canceled' || subscription.status === 'incomplete_expired';
    return {
      id: subscription.id,
      object: 'subscription',
      billing_cycle_anchor: first?.current_period_start ?? subscription.created,
      billing_mode: { type: 'flexible' },
      cancel_at: subscription.cancel_at_period_end ? (first?.current_period_end ?? null) : null,
      cancel_at_period_end: subscription.cancel_at_period_end,
      canceled_at: subscription.canceled_at,
      collection_method: 'charge_automatically',
      created: subscription.created,
      currency: 'eur',
      customer:
        expand.has('customer') && customer ? customerShape(customer, livemode) : subscription.customer,
      default_payment_method: null,
      discounts: [],
      ended_at: ended ? (subscription.canceled_at ?? subscription.created) : null,
      items: {
        object: 'list',
        data: subscription.items.map((item) => ({
          id: item.id,
          object: 'subscription_item',
          created: subscription.created,
          current_period_end: item.current_period_end,
          current_period_start: item.current_period_start,
          discounts: [],
          metadata: {},
          price: {
            id: item.price,
            object: 'price',
            active: true,
            currency: 'eur',
            livemode,
            product: item.product,
            recurring: { interval: 'month', interval_count: 1, usage_type: 'licensed' },
            type: 'recurring',
            unit_amount: item.unit_amount,
          },
          quantity: item.quantity,
          subscription: subscription.id,
        })),
        has_more: false,
        total_count: subscription.items.length,
        url: `/v1/subscription_items?subscription=${subscription.id}`,
      },
      latest_invoice: null,
      livemode,
      metadata: subscription.metadata,
      pause_collection: null,
      schedule: null,
      start_date: subscription.created,
      status: subscription.status,
      test_clock: null,
      trial_end: null,
      trial_start: null,
    };
  }

  const missingObject = (kind: string, id: string): Answer =>
    invalid(`No such ${kind}: '${id}'`, { code: 'resource_missing', param: 'id' }, 404);

  /** One page, newest first, by object ids. */
  function list<T extends { id: string; created: number; ordinal: number }>(
    kind: string,
    url: string,
    all: T[],
    parameters: Parameters,
    shape: (entry: T) => unknown,
    find: (id: string) => T | undefined,
  ): Answer {
    const limit = integerOf(parameters, 'limit') ?? 10;
    if (limit < 1 || limit > 100) {
      const message =
        limit < 1
          ? 'This value must be greater than or equal to 1.'
          : 'Invalid integer: limit must be at most 100';
      return invalid(message, { param: 'limit' });
    }
    const order = (a: T, b: T) => b.created - a.created || b.ordinal - a.ordinal;
    const newestFirst = all.sort(order);
    const after = parameters.get('starting_after');
    const before = parameters.get('ending_before');
    if (after !== undefined && before !== undefined) {
      return invalid('You cannot parameterize `starting_after` and `ending_before` at the same time.');
    }
    const cursor = after ?? before;
    const place = cursor === undefined ? undefined : find(cursor);
    if (cursor !== undefined && place === undefined) {
      const param = after === undefined ? 'ending_before' : 'starting_after';
      return invalid(`No such ${kind}: '${cursor}'`, { code: 'resource_missing', param });
    }
    // By its place in the order, so that an object that no longer matches the filter is still a cursor.
    let rest = newestFirst;
    if (place !== undefined && after !== undefined)
      rest = newestFirst.filter((entry) => order(place, entry) < 0);
    if (place !== undefined && before !== undefined)
      rest = newestFirst.filter((entry) => order(entry, place) < 0);
    const data = before === undefined ? rest.slice(0, limit) : rest.slice(-limit);
    const more = rest.length > limit;
    return {
      status: 200,
      body: { object: 'list', data: data.map(shape), has_more: more, url },
      kind: data.length === 0 ? 'empty' : 'ok',
    };
  }

  function expandOf(parameters: Parameters): Set<string> {
    const found = new Set<string>();
    for (const [name, value] of parameters)
      if (/^expand\[\d+\]$/.test(name)) found.add(value.replace(/^data\./, ''));
    return found;
  }

  // ---- endpoints ------------------------------------------------------------------------------------------

  function customers(
    account: Account,
    request: SimulatedRequest,
    id: string | undefined,
    parameters: Parameters,
    cause: Cause,
  ): Answer {
    const { livemode } = cause;
    const shape = (customer: Customer) => customerShape(customer, livemode);
    if (request.method === 'GET' && id === undefined) {
      const email = parameters.get('email');
      const all = [...account.customers.values()].filter(
        (customer) =>
          (email === undefined || customer.email === email) &&
          inRange(parameters, 'created', customer.created),
      );
      return list('customer', '/v1/customers', all, parameters, shape, (other) =>
        account.customers.get(other),
      );
    }
    if (request.method === 'POST' && id === undefined) {
      const input = {
        email: parameters.get('email') ?? null,
        name: parameters.get('name') ?? null,
        metadata: metadataOf(parameters),
      };
      const made = addCustomer(account, input, cause);
      return { status: 200, body: shape(made), kind: 'ok', effects: [{ kind: 'customer', id: made.id }] };
    }
    const customer = account.customers.get(id ?? '');
    if (!customer) return missingObject('customer', id ?? '');
    if (request.method === 'GET') return { status: 200, body: shape(customer), kind: 'ok' };
    return unknownUrl(request);
  }

  function subscriptions(
    account: Account,
    request: SimulatedRequest,
    id: string | undefined,
    parameters: Parameters,
    cause: Cause,
  ): Answer {
    const { livemode } = cause;
    const expand = expandOf(parameters);
    const shape = (subscription: Subscription) => subscriptionShape(account, subscription, livemode, expand);
    if (request.method === 'GET' && id === undefined) {
      const status = parameters.get('status');
      if (status !== undefined && !['all', 'ended', ...statuses].includes(status)) {
        return invalid(`Invalid status: must be one of all, ended, ${statuses.join(', ')}`, {
          param: 'status',
        });
      }
      const ofStatus = (subscription: Subscription): boolean => {
        if (status === undefined) return subscription.status !== 'canceled';
        if (status === 'all') return true;
        if (status === 'ended') return ['canceled', 'incomplete_expired'].includes(subscription.status);
        return subscription.status === status;
      };
      const customer = parameters.get('customer');
      const price = parameters.get('price');
      const all = [...account.subscriptions.values()].filter(
        (subscription) =>
          ofStatus(subscription) &&
          (customer === undefined || subscription.customer === customer) &&
          (price === undefined || subscription.items.some((item) => item.price === price)) &&
          inRange(parameters, 'created', subscription.created) &&
          inRange(
            parameters,
            'current_period_end',
            Math.min(...subscription.items.map((item) => item.current_period_end)),
          ),
      );
      const find = (other: string) => account.subscriptions.get(other);
      return list('subscription', '/v1/subscriptions', all, parameters, shape, find);
    }
    if (request.method === 'POST' && id === undefined) {
      const customer = parameters.get('customer');
      const price = parameters.get('items[0][price]');
      if (customer === undefined)
        return invalid('Missing required param: customer.', { code: 'parameter_missing', param: 'customer' });
      if (!account.customers.has(customer))
        return invalid(`No such customer: '${customer}'`, { code: 'resource_missing', param: 'customer' });
      if (price === undefined)
        return invalid('Missing required param: items.', { code: 'parameter_missing', param: 'items' });
      const input = {
        account: account.account,
        customer,
        metadata: metadataOf(parameters),
        items: [{ price }],
      };
      const made = addSubscription(account, subscriptionInput.parse(input), cause);
      return { status: 200, body: shape(made), kind: 'ok', effects: [{ kind: 'subscription', id: made.id }] };
    }
    const subscription = account.subscriptions.get(id ?? '');
    if (!subscription) return missingObject('subscription', id ?? '');
    if (request.method === 'GET') return { status: 200, body: shape(subscription), kind: 'ok' };
    if (
      subscription.status === 'canceled' &&
      (request.method === 'DELETE' || parameters.has('cancel_at_period_end'))
    ) {
      return invalid(
        `No such subscription: '${subscription.id}'`,
        { code: 'resource_missing', param: 'id' },
        404,
      );
    }
    const before = subscriptionNow(account, subscription, livemode);
    if (request.method === 'DELETE') {
      subscription.status = 'canceled';
      subscription.canceled_at = cause.at;
    } else if (request.method === 'POST') {
      const atEnd = parameters.get('cancel_at_period_end');
      if (atEnd !== undefined) subscription.cancel_at_period_end = atEnd === 'true';
      Object.assign(subscription.metadata, metadataOf(parameters));
    } else {
      return unknownUrl(request);
    }
    tellSubscription(account, subscription, cause, before);
    return {
      status: 200,
      body: shape(subscription),
      kind: 'ok',
      effects: [{ kind: 'subscription', id: subscription.id }],
    };
  }

  function events(
    account: Account,
    request: SimulatedRequest,
    id: string | undefined,
    parameters: Parameters,
    cause: Cause,
  ): Answer {
    if (request.method !== 'GET') return unknownUrl(request);
    const recent = (event: StripeEvent | undefined) =>
      event !== undefined && event.created > cause.at - eventLife ? event : undefined;
    if (id !== undefined) {
      const event = recent(account.events.get(id));
      return event
        ? { status: 200, body: eventShape(event, apiVersion), kind: 'ok' }
        : missingObject('event', id);
    }
    const type = parameters.get('type');
    const types = [...parameters].filter(([name]) => /^types\[\d+\]$/.test(name)).map(([, value]) => value);
    if (type !== undefined && types.length > 0)
      return invalid('You may only specify one of these parameters: type, types.', { param: 'types' });
    if (types.length > 20) return invalid('You may specify up to 20 event types.', { param: 'types' });
    const success = parameters.get('delivery_success');
    const all = [...account.events.values()].filter(
      (event) =>
        recent(event) !== undefined &&
        (type === undefined || ofType(type, event.type)) &&
        (types.length === 0 || types.includes(event.type)) &&
        (success === undefined || (success === 'true') === (event.pending === 0)) &&
        inRange(parameters, 'created', event.created),
    );
    const shape = (event: StripeEvent) => eventShape(event, apiVersion);
    return list('event', '/v1/events', all, parameters, shape, (other) => account.events.get(other));
  }

  const unknownUrl = (request: SimulatedRequest): Answer =>
    invalid(`Unrecognized request URL (${request.method}: ${request.path}).`, {}, 404);

  function handle(request: SimulatedRequest, reading: Reading, context: Context): Answer {
    const headers: Record<string, string> = {
      'request-id': `req_${randomBytes(7).toString('hex')}`,
      'stripe-version': String(request.headers['stripe-version'] ?? apiVersion),
    };
    const finish = (answer: Answer): Answer => ({ ...answer, headers: { ...headers, ...answer.headers } });
    if (reading.token === null) {
      const message =
        'You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth.';
      return finish(invalid(message, {}, 401));
    }
    const key = byKey.get(reading.token);
    if (!key) {
      const message = `Invalid API Key provided: ${reading.token.slice(0, 8)}****${reading.token.slice(-4)}`;
      return finish(invalid(message, {}, 401));
    }
    const { account } = key;
    const livemode = isLive(reading.token);
    const perSecond =
      account.requests_per_second === undefined ? (livemode ? 100 : 25) : account.requests_per_second;
    if (context.now - account.windowAt >= 1000) {
      account.windowAt = context.now;
      account.requests = 0;
    }
    account.requests += 1;
    if (perSecond !== null && account.requests > perSecond) {
      const error = {
        type: 'invalid_request_error',
        code: 'rate_limit',
        message: 'Request rate limit exceeded.',
      };
      return finish(failed(429, error));
    }
    const [, version, named, id, rest] = request.path.split('/');
    const resource = resources.find((known) => known === named);
    if (version !== 'v1' || rest !== undefined || resource === undefined) return finish(unknownUrl(request));
    const granted = key.permissions === undefined ? 'write' : (key.permissions[resource] ?? 'none');
    const enough = granted === 'write' || (granted === 'read' && request.method === 'GET');
    if (!enough) {
      const needed = `${resource.slice(0, -1)}_${request.method === 'GET' ? 'read' : 'write'}`;
      const message = `The provided key does not have the required permissions for this endpoint on account '${account.account}'. Having the 'rak_${needed}' permission would allow this request to continue.`;
      return finish(invalid(message, {}, 403));
    }
    const idempotencyKey = request.method === 'POST' ? request.headers['idempotency-key'] : undefined;
    const run = (): Answer => {
      try {
        const parameters = parametersOf(request);
        const endpoint = { customers, subscriptions, events }[resource];
        const by = {
          id: headers['request-id'] ?? null,
          idempotency_key: typeof idempotencyKey === 'string' ? idempotencyKey : null,
        };
        const cause = { at: Math.floor(context.now / 1000), livemode, request: by };
        return endpoint(account, request, id, parameters, cause);
      } catch (error) {
        if (error instanceof StripeFailure) return error.answer;
        throw error;
      }
    };
    if (typeof idempotencyKey !== 'string') return finish(run());
    const asked = hash('sha256', `${request.path}\n${request.raw.toString()}`, 'hex');
    const kept = account.idempotency.get(idempotencyKey);
    if (kept && context.now - kept.at < keyLifeMs) {
      if (kept.request !== asked) {
        const message = `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${idempotencyKey}' if you meant to execute a different request.`;
        return finish(failed(400, { type: 'idempotency_error', message }));
      }
      if (kept.answer === null) {
        const message = `There is currently another in-progress request using this Idempotent Key.`;
        return finish(failed(409, { type: 'idempotency_error', code: 'idempotency_key_in_use', message }));
      }
      const replay = {
        'idempotent-replayed': 'true',
        'original-request': kept.answer.headers?.['request-id'] ?? '',
      };
      return finish({ ...kept.answer, headers: { ...replay }, kind: 'replayed', effects: [] });
    }
    const answer = finish(run());
    // Refused parameters are not remembered: the request never began.
    if (answer.status === 400) return answer;
    const entry = { at: context.now, request: asked, answer: null as Answer | null };
    account.idempotency.set(idempotencyKey, entry);
    const settle = () => {
      entry.answer = answer;
    };
    return { ...answer, settle };
  }

  return {
    name: 'stripe',
    read,
    tenantOf: (token) => byKey.get(token)?.account.tenant ?? null,
    handle,
    scriptedErrors: scriptedError,
    error(error, status, retryAfter) {
      const given = isRecord(error) ? error : undefined;
      const code = status ?? (retryAfter === undefined ? 400 : 429);
      const type = code >= 500 ? 'api_error' : 'invalid_request_error';
      const limited = code === 429 ? { code: 'rate_limit' } : {};
      const headers = { 'request-id': `req_${randomBytes(7).toString('hex')}` };
      return failed(code, { type, ...limited, message: 'Scripted error', ...given }, headers);
    },
    apply,
    show: () => ({
      accounts: [...accounts.values()].map((account) => ({
        account: account.account,
        tenant: account.tenant,
        keys: account.keys.map(({ key, permissions }) => ({
          key: fingerprint(key),
          permissions: permissions ?? 'all',
        })),
        customers: [...account.customers.values()],
        subscriptions: [...account.subscriptions.values()],
        events: account.events.size,
      })),
      ...pusher.show(),
    }),
    messages: () => [],
  };
}
