// Events as Stripe tells them, and their way to who subscribed: one event a body, signed with its time, and again after a
// growing pause until the answer is 2xx. No handshake; Stripe promises neither order nor that an event comes once.
import { createHmac, hash } from 'node:crypto';
import { z } from 'zod';
import { fingerprint, type RequestLog } from './log.ts';
import { isRecord } from './server.ts';
import { type Courier, type Delivery, inOrder, keptDeliveries } from './webhooks.ts';

export const apiVersion = '2026-10-28.endive';
/** From this version on a subscription's period is on its items only. */
const periodsOnItems = '2025-03-31';

const eventTypes = [
  'customer.created',
  'customer.updated',
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.subscription.deleted',
] as const;
export type EventType = (typeof eventTypes)[number];

/** What becomes of one push. */
const manner = {
  /** Sent so many times more, with the same id. */
  duplicates: z.int().min(0).max(10),
  signature: z.enum(['right', 'wrong']),
  /** How old the time in the signature is; below 0: it lies ahead. More than 300 is past what the SDK takes. */
  age_seconds: z.int().min(-31_536_000).max(31_536_000),
  /** The version that the body is written in. Before 2025-03-31 the period is at the top of a subscription. */
  api_version: z.string().regex(/^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$/, 'a version is a date, e.g. 2024-06-20'),
};

const webhookInput = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  account: z.string().min(1),
  /** Two while a secret is replaced: the header then has a signature of each. */
  secrets: z
    .array(z.string().regex(/^whsec_./, 'a secret begins with whsec_'))
    .min(1)
    .max(5),
  events: z.union([z.literal('*'), z.array(z.enum(eventTypes))]).default('*'),
  duplicates: manner.duplicates.default(0),
  signature: manner.signature.default('right'),
  age_seconds: manner.age_seconds.default(0),
  api_version: manner.api_version.default(apiVersion),
  /** What the next events meet instead, one each. */
  next: z.array(z.strictObject(manner).partial()).max(1000).default([]),
  /** Nothing leaves until this webhook is set again without it. */
  hold: z.boolean().default(false),
  /** Of events that wait together. */
  order: z.enum(['told', 'reversed', 'shuffled']).default('told'),
  /** After an answer that is not 2xx. The real pauses grow over days. */
  retry: z
    .strictObject({
      first_ms: z.int().min(1).default(50),
      factor: z.number().min(1).max(10).default(2),
      tries: z.int().min(1).max(20).default(4),
    })
    .prefault({}),
});
/** A subscription as `POST /_world` takes it. The same url again changes it. */
export type StripeWebhookInput = z.input<typeof webhookInput>;
type Webhook = z.output<typeof webhookInput>;

export interface StripeEvent {
  id: string;
  ordinal: number;
  account: string;
  tenant: string;
  /** Unix time in seconds. */
  created: number;
  livemode: boolean;
  type: EventType;
  request: { id: string | null; idempotency_key: string | null };
  /** As it was after the change, in the newest version. */
  object: Record<string, unknown>;
  /** What was different before; null: the type has none. */
  previous: Record<string, unknown> | null;
  /** How many webhooks it is for, and how many of them have not taken it yet. */
  asked: number;
  pending: number;
}

interface Endpoint {
  webhook: Webhook;
  waiting: StripeEvent[];
  sending: boolean;
}

export interface StripePusher {
  /** `known` throws when there is no such account. */
  subscribe(webhooks: unknown, known: (account: string) => void): void;
  unsubscribe(url: string): void;
  emit(event: StripeEvent): void;
  show(): Record<string, unknown>;
}

/** A subscription, or what was different about it, in the words of an older version. */
function inVersion(object: Record<string, unknown>, version: string): Record<string, unknown> {
  const { items } = object;
  if (version.slice(0, 10) >= periodsOnItems || !isRecord(items) || !Array.isArray(items.data)) return object;
  const found = items.data.filter(isRecord);
  const data = found.map(({ current_period_end: _end, current_period_start: _start, ...item }) => item);
  return {
    ...object,
    current_period_end: found[0]?.current_period_end,
    current_period_start: found[0]?.current_period_start,
    items: { ...items, data },
  };
}

/** `pending`: left out, as it stands now. */
export function eventShape(
  event: StripeEvent,
  version: string,
  pending = event.pending,
): Record<string, unknown> {
  const { id, created, livemode, request, type, object, previous } = event;
  return {
    id,
    object: 'event',
    api_version: version,
    created,
    data: {
      object: inVersion(object, version),
      ...(previous === null ? {} : { previous_attributes: inVersion(previous, version) }),
    },
    livemode,
    pending_webhooks: pending,
    request,
    type,
  };
}

/** `Stripe-Signature` of these bytes at this time (Unix, in seconds): one `v1` for each secret. */
export function stripeSignature(secrets: readonly string[], at: number, body: string): string {
  const each = secrets.map((secret) => createHmac('sha256', secret).update(`${at}.${body}`).digest('hex'));
  return [`t=${at}`, ...each.map((signature) => `v1=${signature}`)].join(',');
}

/** Addresses may carry a word that only the receiver should know. */
function withoutQuery(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

export function createStripePusher(courier: Courier, log: RequestLog): StripePusher {
  const endpoints = new Map<string, Endpoint>();
  const deliveries: Delivery[] = [];

  /** True: it was taken. The time and the signature are those of the try. */
  async function attempt(webhook: Webhook, event: StripeEvent, delivery: Delivery): Promise<boolean> {
    const { body } = delivery;
    const at = Math.floor(Date.now() / 1000) - webhook.age_seconds;
    const secrets =
      webhook.signature === 'right' ? webhook.secrets : webhook.secrets.map((secret) => `${secret}-not`);
    const entry = log.receive({
      provider: 'stripe',
      method: 'POST',
      path: withoutQuery(webhook.url),
      tenant: event.tenant,
      token: null,
      body_sha256: hash('sha256', body, 'hex'),
      about: { push: event.id, type: event.type, try: delivery.answers.length + 1 },
    });
    const found = await courier.ask(webhook.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'stripe-signature': stripeSignature(secrets, at, body),
        'user-agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
      },
      body,
    });
    const taken = found !== null && found.status >= 200 && found.status <= 299;
    delivery.answers.push(found?.status ?? null);
    log.answered(entry, {
      status: found?.status ?? null,
      kind: taken ? 'taken' : 'not taken',
      effects: [],
    });
    if (taken) delivery.state = 'taken';
    return taken;
  }

  async function again(webhook: Webhook, event: StripeEvent, delivery: Delivery): Promise<boolean> {
    const { first_ms, factor, tries } = webhook.retry;
    for (let past = 1; past < tries && !courier.stopped(); past++) {
      await courier.pause(first_ms * factor ** (past - 1));
      if (await attempt(webhook, event, delivery)) return true;
    }
    delivery.state = 'given up';
    return false;
  }

  /** Ends with the first answer to each copy, so that the order is the one that was asked for; retries go on beside it. */
  async function push(webhook: Webhook, event: StripeEvent): Promise<void> {
    // Indented, as Stripe sends it: whoever checks what was parsed and written again has other bytes.
    const body = JSON.stringify(eventShape(event, webhook.api_version, event.asked), null, 2);
    let pending = true;
    const taken = () => {
      if (pending) event.pending -= 1;
      pending = false;
    };
    for (let copy = 0; copy <= webhook.duplicates; copy++) {
      const delivery: Delivery = { url: webhook.url, body, updates: 1, answers: [], state: 'under way' };
      deliveries.push(delivery);
      if (deliveries.length > keptDeliveries) deliveries.shift();
      if (await attempt(webhook, event, delivery)) taken();
      else courier.follow(again(webhook, event, delivery).then((came) => (came ? taken() : undefined)));
    }
  }

  async function drain(endpoint: Endpoint): Promise<void> {
    // Everything that happens in one turn of the event loop waits together.
    await new Promise((resolve) => setImmediate(resolve));
    while (endpoint.waiting.length > 0 && !endpoint.webhook.hold && !courier.stopped()) {
      for (const event of inOrder(endpoint.waiting.splice(0), endpoint.webhook.order)) {
        if (endpoints.get(endpoint.webhook.url) !== endpoint) break;
        const { webhook } = endpoint;
        const special = Object.entries(webhook.next.shift() ?? {}).filter(([, value]) => value !== undefined);
        await push({ ...webhook, ...Object.fromEntries(special) }, event);
      }
    }
    endpoint.sending = false;
  }

  function send(endpoint: Endpoint): void {
    if (endpoint.sending) return;
    endpoint.sending = true;
    courier.follow(drain(endpoint));
  }

  return {
    subscribe(webhooks, known) {
      const parsed = z.array(webhookInput).parse(webhooks);
      for (const { account } of parsed) known(account);
      for (const webhook of parsed) {
        const endpoint = endpoints.get(webhook.url) ?? { webhook, waiting: [], sending: false };
        endpoint.webhook = webhook;
        endpoints.set(webhook.url, endpoint);
        send(endpoint);
      }
    },
    unsubscribe: (url) => void endpoints.delete(url),
    emit(event) {
      const wanting = [...endpoints.values()].filter(
        ({ webhook }) =>
          webhook.account === event.account &&
          (webhook.events === '*' || webhook.events.includes(event.type)),
      );
      event.asked = wanting.length;
      event.pending = wanting.length;
      for (const endpoint of wanting) {
        endpoint.waiting.push(event);
        send(endpoint);
      }
    },
    show: () => ({
      webhooks: [...endpoints.values()].map(({ webhook, waiting }) => ({
        ...webhook,
        secrets: webhook.secrets.map(fingerprint),
        waiting: waiting.length,
      })),
      deliveries: deliveries.slice(-100).map(({ body, ...delivery }) => ({
        ...delivery,
        body_sha256: hash('sha256', body, 'hex'),
      })),
    }),
  };
}
