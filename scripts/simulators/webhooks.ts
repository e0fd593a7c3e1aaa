// Webhooks as Meta and WhatsApp send them: a handshake when a subscription is made, then signed bodies with escaped
// unicode, in batches, more than once and out of order if the world wants it, and again after a growing pause until
// they are answered with 200. Subscriptions come with the world: `POST /_world {"webhooks": [{…}]}`.
import { createHmac, hash, randomInt } from 'node:crypto';
import { z } from 'zod';
import { fingerprint } from './log.ts';
import { isRecord, type Provider } from './server.ts';

const webhookInput = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  app_secret: z.string().min(1),
  verify_token: z.string().min(1),
  /** Only what happens to this tenant's accounts; left out: to all of them. */
  tenant: z.string().min(1).optional(),
  /** Ids of accounts (`entry[].id`), phone numbers, or all of them. */
  accounts: z.union([z.literal('*'), z.array(z.string())]).default('*'),
  fields: z.union([z.literal('*'), z.array(z.string())]).default('*'),
  /** Instagram: `field` and `value` directly on the entry, as one reading of the Instagram login's page has it. */
  flat: z.boolean().default(false),
  /** Updates that share a body; more of them than one are sent when they come at once or were held. */
  batch: z.int().min(1).max(1000).default(1),
  /** Nothing leaves until this webhook is set again without it. */
  hold: z.boolean().default(false),
  /** Every body is sent so many times more. */
  duplicates: z.int().min(0).max(10).default(0),
  order: z.enum(['told', 'reversed', 'shuffled']).default('told'),
  /** After an answer that is not 200. The real pauses grow over hours. */
  retry: z
    .strictObject({
      first_ms: z.int().min(1).default(50),
      factor: z.number().min(1).max(10).default(2),
      tries: z.int().min(1).max(20).default(8),
    })
    .prefault({}),
});
/** A subscription as `POST /_world` takes it. The same url again changes it. */
export type WebhookInput = z.input<typeof webhookInput>;

/** Something happened that the real service would tell of. */
export interface WebhookEvent {
  object: 'instagram' | 'page' | 'whatsapp_business_account';
  /** `entry[].id` of the body. */
  account: string;
  tenant: string;
  /** Unix time in ms. */
  at: number;
  /** With `messages` of Meta `value` is an entry of `messaging[]`; all else is `{field, value}` of `changes[]`. */
  field: string;
  value: Record<string, unknown>;
}

export interface Delivery {
  url: string;
  body: string;
  updates: number;
  /** The status of each try; null: no answer. */
  answers: (number | null)[];
  state: 'under way' | 'taken' | 'given up';
}

export interface Pusher {
  /** `apply` of the simulators: makes, changes and removes subscriptions. */
  subscribe(webhooks: unknown): void;
  unsubscribe(url: string): void;
  emit(event: WebhookEvent): void;
  /** Resolves when nothing waits that may leave. */
  idle(): Promise<void>;
  deliveries: readonly Delivery[];
  show(): unknown;
  /** The provider, with `webhooks` and `remove_webhooks` among what its world takes, and what was sent among what it shows. */
  over(provider: Provider): Provider;
  stop(): void;
}

interface Subscription {
  webhook: z.output<typeof webhookInput>;
  state: 'asked' | 'verified' | 'refused';
  waiting: WebhookEvent[];
  scheduled: boolean;
}

/** As PHP writes JSON: ASCII only, slashes escaped. Whoever signs what was parsed and written again has other bytes. */
export function escaped(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll('/', '\\/')
    .replace(
      /[\u0080-\uffff]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
}

export function signatureOf(secret: string, body: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

/** One body with these events: those of one account share an entry, unless they lie flat on it. */
export function bodyOf(events: readonly WebhookEvent[], flat = false): string {
  const [first] = events;
  const entries: Record<string, unknown>[] = [];
  for (const { object, account, at, field, value } of events) {
    if (object === 'whatsapp_business_account') {
      const entry = entries.find((known) => known.id === account);
      const change = { value, field };
      if (entry) (entry.changes as unknown[]).push(change);
      else entries.push({ id: account, changes: [change] });
      continue;
    }
    const message = field === 'messages';
    if (flat && !message && object === 'instagram') {
      entries.push({ id: account, time: Math.floor(at / 1000), field, value });
      continue;
    }
    const key = message ? 'messaging' : 'changes';
    const entry = entries.find((known) => known.id === account && key in known);
    const part = message ? value : { field, value };
    if (entry) (entry[key] as unknown[]).push(part);
    // Messages are timed in milliseconds, everything else in seconds.
    else entries.push({ id: account, time: message ? at : Math.floor(at / 1000), [key]: [part] });
  }
  return escaped({ object: first?.object, entry: entries });
}

export function inOrder<T>(values: T[], order: 'told' | 'reversed' | 'shuffled'): T[] {
  if (order === 'reversed') return values.reverse();
  if (order === 'shuffled') {
    for (let index = values.length - 1; index > 0; index--) {
      const other = randomInt(index + 1);
      [values[index], values[other]] = [values[other] as T, values[index] as T];
    }
  }
  return values;
}

const answerMs = 10_000;
export const keptDeliveries = 10_000;

/** What all pushes have in common: they are under way until they are answered, given up, or the simulators stop. */
export interface Courier {
  follow(work: Promise<void>): void;
  pause(ms: number): Promise<void>;
  /** null: no answer. */
  ask(url: string, init: RequestInit): Promise<{ status: number; text: string } | null>;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
  stopped(): boolean;
  stop(): void;
}

export function createCourier(): Courier {
  const underWay = new Set<Promise<void>>();
  const ending = new AbortController();
  return {
    follow(work) {
      underWay.add(work);
      const done = () => underWay.delete(work);
      work.then(done, done);
    },
    pause: (ms) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        const end = () => {
          clearTimeout(timer);
          resolve();
        };
        ending.signal.addEventListener('abort', end, { once: true });
      }),
    async ask(url, init) {
      try {
        const signal = AbortSignal.any([ending.signal, AbortSignal.timeout(answerMs)]);
        const response = await fetch(url, { redirect: 'manual', signal, ...init });
        return { status: response.status, text: await response.text() };
      } catch {
        return null;
      }
    },
    async idle() {
      while (underWay.size > 0) await Promise.all(underWay);
    },
    stopped: () => ending.signal.aborted,
    stop: () => ending.abort(),
  };
}

export function createPusher(courier: Courier): Pusher {
  const subscriptions = new Map<string, Subscription>();
  const deliveries: Delivery[] = [];
  const { follow, pause, ask } = courier;

  async function shakeHands(subscription: Subscription): Promise<void> {
    const { url, verify_token } = subscription.webhook;
    const challenge = String(randomInt(1_000_000_000, 2_000_000_000));
    const address = new URL(url);
    address.searchParams.set('hub.mode', 'subscribe');
    address.searchParams.set('hub.challenge', challenge);
    address.searchParams.set('hub.verify_token', verify_token);
    const found = await ask(address.href, {});
    subscription.state = found?.status === 200 && found.text === challenge ? 'verified' : 'refused';
    // To who did not shake hands nothing is ever told.
    if (subscription.state === 'refused') subscription.waiting = [];
    send(subscription);
  }

  async function deliver(subscription: Subscription, events: WebhookEvent[]): Promise<void> {
    const { url, flat, app_secret, retry } = subscription.webhook;
    const body = bodyOf(events, flat);
    const delivery: Delivery = { url, body, updates: events.length, answers: [], state: 'under way' };
    deliveries.push(delivery);
    if (deliveries.length > keptDeliveries) deliveries.shift();
    for (let attempt = 1; ; attempt++) {
      const found = await ask(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'user-agent': 'facebookexternalua',
          'x-hub-signature-256': signatureOf(app_secret, body),
        },
        body,
      });
      delivery.answers.push(found?.status ?? null);
      if (found?.status === 200) {
        delivery.state = 'taken';
        return;
      }
      if (attempt >= retry.tries || courier.stopped()) {
        delivery.state = 'given up';
        return;
      }
      await pause(retry.first_ms * retry.factor ** (attempt - 1));
    }
  }

  /** Everything that happens in one turn of the event loop may share a body. */
  function send(subscription: Subscription): void {
    if (subscription.scheduled) return;
    subscription.scheduled = true;
    follow(
      new Promise((resolve) => setImmediate(resolve)).then(() => {
        subscription.scheduled = false;
        const { webhook } = subscription;
        if (subscription.state !== 'verified' || webhook.hold) return;
        const events = inOrder(subscription.waiting.splice(0), webhook.order);
        const bodies: WebhookEvent[][] = [];
        // A body has one object. Apps that are subscribed to two get two bodies.
        for (const event of events) {
          const last = bodies.findLast((body) => body[0]?.object === event.object);
          if (last && last.length < webhook.batch) last.push(event);
          else bodies.push([event]);
        }
        for (const body of bodies) {
          for (let copy = 0; copy <= webhook.duplicates; copy++) follow(deliver(subscription, body));
        }
      }),
    );
  }

  function subscribe(webhooks: unknown): void {
    for (const webhook of z.array(webhookInput).parse(webhooks)) {
      const known = subscriptions.get(webhook.url);
      if (known && known.webhook.verify_token === webhook.verify_token && known.state !== 'refused') {
        known.webhook = webhook;
        send(known);
        continue;
      }
      const made: Subscription = { webhook, state: 'asked', waiting: [], scheduled: false };
      subscriptions.set(webhook.url, made);
      follow(shakeHands(made));
    }
  }

  function wants({ webhook, state }: Subscription, event: WebhookEvent): boolean {
    if (state === 'refused') return false;
    if (webhook.tenant !== undefined && webhook.tenant !== event.tenant) return false;
    if (webhook.fields !== '*' && !webhook.fields.includes(event.field)) return false;
    const { metadata } = event.value;
    const number = isRecord(metadata) ? metadata.phone_number_id : undefined;
    return webhook.accounts === '*' || webhook.accounts.some((id) => id === event.account || id === number);
  }

  function show(): unknown {
    return {
      webhooks: [...subscriptions.values()].map(({ webhook, state, waiting }) => ({
        ...webhook,
        app_secret: fingerprint(webhook.app_secret),
        verify_token: fingerprint(webhook.verify_token),
        state,
        waiting: waiting.length,
      })),
      deliveries: deliveries.slice(-100).map(({ body, ...delivery }) => ({
        ...delivery,
        body_sha256: hash('sha256', body, 'hex'),
      })),
    };
  }

  return {
    subscribe,
    unsubscribe: (url) => void subscriptions.delete(url),
    emit(event) {
      for (const subscription of subscriptions.values()) {
        if (!wants(subscription, event)) continue;
        subscription.waiting.push(event);
        send(subscription);
      }
    },
    idle: courier.idle,
    deliveries,
    show,
    over: (provider) => ({
      ...provider,
      apply(change) {
        if (!isRecord(change)) return provider.apply(change);
        const { webhooks, remove_webhooks, ...rest } = change;
        const gone = remove_webhooks === undefined ? [] : z.array(z.string()).parse(remove_webhooks);
        for (const url of gone) subscriptions.delete(url);
        if (webhooks !== undefined) subscribe(webhooks);
        return provider.apply(rest);
      },
      show: () => ({ ...(provider.show() as object), ...(show() as object) }),
    }),
    stop: courier.stop,
  };
}

/** What the Meta simulator's world tells, as an event. */
export function fromMeta(event: {
  object: 'instagram' | 'page';
  account_id: string;
  tenant: string;
  at: number;
  field: string;
  value: Record<string, unknown>;
}): WebhookEvent {
  const { account_id: account, ...rest } = event;
  return { account, ...rest };
}

/** What the WhatsApp simulator tells, as an event. */
export function fromWhatsApp(event: {
  entryId: string;
  tenant: string;
  field: string;
  value: Record<string, unknown>;
}): WebhookEvent {
  const { entryId: account, tenant, field, value } = event;
  return { object: 'whatsapp_business_account', account, tenant, at: Date.now(), field, value };
}
