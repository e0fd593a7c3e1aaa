// The WhatsApp Cloud API: `POST /{version}/{phone-number-id}/messages`. 200 means accepted, not delivered: what
// became of a message is in `GET /_messages`, and told to `onEvent` as the `value` of the webhook that would follow.
import { z } from 'zod';
import { type GraphErrorInput, graphError, graphErrorSchema, isProof, noSuchObject, route } from './graph.ts';
import { fingerprint } from './log.ts';
import { type MessageStatus, messageStatuses } from './script.ts';
import {
  type Answer,
  bearer,
  type Context,
  isRecord,
  type OnEvent,
  type Provider,
  parseBody,
  type Reading,
  type SimulatedEvent,
  type SimulatedRequest,
} from './server.ts';
import { demo } from './world.ts';

const pairLimit = z.strictObject({ every_ms: z.int().min(1), burst: z.int().min(1) });

const numberInput = z.strictObject({
  phone_number_id: z.string().min(1),
  tenant: z.string().min(1),
  /** `entry[].id` of its webhooks; `9` and the phone number id unless given. */
  waba_id: z.string().min(1).optional(),
  /** Digits, with the country code. */
  display_phone_number: z.string().regex(/^\d+$/).default('4930000000'),
  country_code: z
    .string()
    .regex(/^\d{1,3}$/)
    .default('49'),
  /** `enforce`: text outside the 24-hour window is refused; `open`: every window is open. */
  window: z.enum(['enforce', 'open']).default('open'),
  /** Where a violation of the window shows: in the answer, or accepted and then failed. */
  window_answer: z.enum(['sync', 'status']).default('sync'),
  /** The account's state: every message is refused with this code (131031 locked, 131042 payment, 368 policy, …). */
  refuses_with: z.int().nullable().default(null),
  /** A test number reaches only these (digits), others are 131030; null: everybody. */
  allowed: z.array(z.string().regex(/^\d+$/)).nullable().default(null),
  /** Marketing templates per recipient and 24 hours, more are 131049; null: no cap. */
  marketing_per_day: z.int().min(0).nullable().default(null),
  /** Where 131049 and 131050 show: accepted and then failed, or in the answer. */
  marketing_answer: z.enum(['status', 'sync']).default('status'),
  /** The states of a message that arrives, in the order in which they are told. */
  statuses: z.array(z.enum(messageStatuses)).max(20).default(['sent', 'delivered']),
  /** When they are told: once the answer has left, before it leaves, or not at all (lost). */
  callbacks: z.enum(['after', 'before', 'never']).default('after'),
  /** Messages per second of the number, in and out, and its burst; null: no limit. */
  messages_per_second: z.int().min(1).nullable().default(80),
  /** Messages to one recipient; null: no limit. */
  pair: pairLimit.nullable().default({ every_ms: 6000, burst: 45 }),
});

const templateInput = z.strictObject({
  name: z.string().min(1),
  language: z.string().min(1),
  category: z.enum(['utility', 'marketing', 'authentication']).default('utility'),
  /** Number of body parameters, which go by position. */
  parameters: z.int().min(0).default(0),
  /** Their names, where they have names; then `parameters` follows from it. */
  named: z.array(z.string().min(1)).optional(),
  /** The text with `{{1}}` or `{{name}}`: what the message says then. */
  body: z.string().min(1).optional(),
  status: z.enum(['approved', 'pending', 'rejected', 'paused', 'disabled']).default('approved'),
  /** Accepted messages are kept back for a look at the template's quality. */
  held: z.boolean().default(false),
});

const digits = z.string().regex(/^\d+$/);
const userId = z.string().regex(/^[A-Z]{2}\.[A-Za-z0-9]{1,128}$/);
const time = z.iso.datetime({ offset: true });

const worldSchema = z.strictObject({
  numbers: z.array(numberInput).default([]),
  /** Meta apps that tokens are of: `{app_id}|{app_secret}` may ask about them. */
  apps: z.array(z.strictObject({ app_id: z.string().min(1), app_secret: z.string().min(1) })).default([]),
  tokens: z
    .array(
      z.strictObject({
        token: z.string().min(1),
        tenant: z.string().min(1),
        /** Numbers that it may send from. */
        numbers: z.array(z.string()),
        broken: z.strictObject({ subcode: z.int().nullable().default(null) }).optional(),
        /** Of a system user, as the business makes them; an app that is not among `apps` cannot ask about it. */
        app_id: z.string().min(1).optional(),
        /** null: never. */
        expires_at: time.nullable().default(null),
        scopes: z.array(z.string()).default(['whatsapp_business_management', 'whatsapp_business_messaging']),
      }),
    )
    .default([]),
  templates: z.array(templateInput).default([]),
  /**
   * What becomes of accepted messages to a recipient: fails with this code (null: delivered again), or these states
   * in this order, as often as they are named.
   */
  recipients: z
    .array(
      z.strictObject({
        wa_id: z.union([digits, userId]),
        fails_with: z.int().nullable().default(null),
        statuses: z.array(z.enum(messageStatuses)).max(20).nullable().default(null),
      }),
    )
    .default([]),
  /** A message from a person, which opens the 24-hour window. One whose number is not shown has a `user_id` only. */
  inbound: z
    .array(
      z
        .strictObject({
          phone_number_id: z.string(),
          from: digits.optional(),
          user_id: userId.optional(),
          text: z.string().default('hi'),
          name: z.string().default('Someone'),
          /** The same one twice is the same message twice. */
          id: z.string().min(1).optional(),
          at: time.optional(),
        })
        .refine(
          ({ from, user_id }) => from !== undefined || user_id !== undefined,
          'from or user_id is needed',
        ),
    )
    .default([]),
  /** A person stops or resumes marketing messages from this business. */
  preferences: z
    .array(
      z.strictObject({
        phone_number_id: z.string(),
        wa_id: digits,
        value: z.enum(['stop', 'resume']),
        at: time.optional(),
      }),
    )
    .default([]),
  /** One more state of a message, told now: late, again, or of a message that nobody knows. */
  statuses: z
    .array(
      z.strictObject({
        phone_number_id: z.string(),
        message_id: z.string().min(1),
        status: z.enum(messageStatuses),
        code: z.int().optional(),
        at: time.optional(),
      }),
    )
    .default([]),
  /** WhatsApp tells that something is wrong with the account, without any message. */
  account_errors: z
    .array(
      z.strictObject({
        phone_number_id: z.string(),
        code: z.int(),
        title: z.string().optional(),
        details: z.string().optional(),
      }),
    )
    .default([]),
  remove: z.strictObject({ tokens: z.array(z.string()).default([]) }).optional(),
});
export type WhatsAppWorldInput = z.input<typeof worldSchema>;

type Sender = z.output<typeof numberInput>;
type Token = z.output<typeof worldSchema>['tokens'][number];
type Template = z.output<typeof templateInput>;
type Fate = z.output<typeof worldSchema>['recipients'][number];

export interface WhatsAppMessage {
  id: string;
  at: string;
  phone_number_id: string;
  tenant: string;
  /** Owner of the token that sent it. */
  sent_with: string;
  input: string;
  wa_id: string | null;
  /** Who got it, where the number is not known. */
  user_id: string | null;
  type: string;
  /** Of a template: its text with the parameters, if the world gave it a text. */
  text: string | null;
  template: string | null;
  /** What it is billed as: a template's category, or `service`. */
  category: string;
  biz_opaque_callback_data: string | null;
  /** In the order in which they are told, which need not be the one in which they happened. */
  statuses: { status: 'accepted' | MessageStatus; at: string; code?: number }[];
}

const windowMs = 24 * 3600 * 1000;
const maxText = 4096;
const maxTemplateText = 1024;
const titles: Record<number, string> = {
  131026: 'Message undeliverable',
  131047: 'Re-engagement message',
  131049: 'This message was not delivered to maintain healthy ecosystem engagement.',
  131050: 'User has stopped receiving marketing messages from this business',
};
/** States happen in this order, a second apart, in whatever order they are told. */
const secondsUntil: Record<MessageStatus, number> = { sent: 0, delivered: 1, read: 2, played: 3, failed: 1 };

/** A limiter that fills up again: `burst` at once, then one every `everyMs`. */
interface Bucket {
  left: number;
  at: number;
}

function takeFrom(
  buckets: Map<string, Bucket>,
  key: string,
  everyMs: number,
  burst: number,
  now: number,
): boolean {
  const bucket = buckets.get(key) ?? { left: burst, at: now };
  const refilled = Math.min(burst, bucket.left + (now - bucket.at) / everyMs);
  const enough = refilled >= 1;
  buckets.set(key, { left: enough ? refilled - 1 : refilled, at: now });
  return enough;
}

/** The WhatsApp id of a number as it was given; null when it is no number. */
export function waIdOf(input: string, countryCode: string): string | null {
  const compact = input.replace(/[\s().-]/g, '');
  if (!/^\+?\d{5,15}$/.test(compact)) return null;
  // Without `+` the country code of the business is put in front, unless the number begins with it.
  let digits = compact.startsWith('+')
    ? compact.slice(1)
    : compact.startsWith(countryCode)
      ? compact
      : `${countryCode}${compact.replace(/^0/, '')}`;
  // Brazil drops the ninth digit, Mexico the 1 after the country code.
  digits = digits.replace(/^(55\d{2})9(\d{8})$/, '$1$2').replace(/^521(\d{10})$/, '52$1');
  return digits.length >= 7 && digits.length <= 15 ? digits : null;
}

const refuse = (error: GraphErrorInput): Answer => graphError(error, { whatsapp: true });

export function createWhatsApp(content: 'demo' | 'empty', onEvent?: OnEvent): Provider {
  const numbers = new Map<string, Sender>();
  const tokens = new Map<string, Token>();
  /** Their secrets, by id. */
  const apps = new Map<string, string>();
  const templates = new Map<string, Template>();
  const fates = new Map<string, Fate>();
  const optedOut = new Set<string>();
  /** When marketing templates went to a recipient, by number and recipient. */
  const marketing = new Map<string, number[]>();
  const lastInbound = new Map<string, number>();
  const pairs = new Map<string, Bucket>();
  const throughput = new Map<string, Bucket>();
  let messages: WhatsAppMessage[] = [];
  let count = 0;

  let told: SimulatedEvent[] = [];

  function tell(sender: Sender, field: string, value: Record<string, unknown>): void {
    const metadata = {
      display_phone_number: sender.display_phone_number,
      phone_number_id: sender.phone_number_id,
    };
    const event: SimulatedEvent = {
      provider: 'whatsapp',
      tenant: sender.tenant,
      object: 'whatsapp_business_account',
      entryId: sender.waba_id ?? `9${sender.phone_number_id}`,
      field,
      value: { messaging_product: 'whatsapp', metadata, ...value },
    };
    told.push(event);
    if (told.length > 110_000) told = told.slice(-100_000);
    onEvent?.(event);
  }

  const seconds = (ms: number): number => Math.floor(ms / 1000);

  function tellStatus(
    sender: Sender,
    id: string,
    { status, at, code }: WhatsAppMessage['statuses'][number],
    message?: WhatsAppMessage,
  ): void {
    if (status === 'accepted') return;
    const title = code === undefined ? '' : (titles[code] ?? `Error ${code}`);
    const billed = status === 'sent' || status === 'delivered';
    tell(sender, 'messages', {
      statuses: [
        {
          id,
          status,
          timestamp: String(seconds(Date.parse(at))),
          ...(message?.wa_id == null ? {} : { recipient_id: message.wa_id }),
          ...(message?.user_id == null ? {} : { recipient_user_id: message.user_id }),
          ...(message?.biz_opaque_callback_data == null
            ? {}
            : { biz_opaque_callback_data: message.biz_opaque_callback_data }),
          ...(billed && message
            ? {
                pricing: {
                  billable: true,
                  pricing_model: 'PMP',
                  type: 'regular',
                  category: message.category,
                },
              }
            : {}),
          ...(code === undefined
            ? {}
            : {
                errors: [
                  {
                    code,
                    title,
                    message: title,
                    error_data: { details: title },
                    href: '/documentation/business-messaging/whatsapp/support/error-codes',
                  },
                ],
              }),
        },
      ],
    });
  }

  function receive(sender: Sender, inbound: z.output<typeof worldSchema>['inbound'][number]): string {
    const { from, user_id, text, name } = inbound;
    const at = inbound.at === undefined ? Date.now() : Date.parse(inbound.at);
    for (const key of [from, user_id]) {
      if (key !== undefined) lastInbound.set(`${sender.phone_number_id}:${key}`, at);
    }
    // What comes in counts against the number's throughput as well.
    const perSecond = sender.messages_per_second;
    if (perSecond !== null) {
      takeFrom(throughput, sender.phone_number_id, 1000 / perSecond, perSecond, Date.now());
    }
    count += 1;
    const id = inbound.id ?? `wamid.${Buffer.from(`in:${from ?? user_id}:${count}`).toString('base64')}`;
    tell(sender, 'messages', {
      contacts: [
        {
          profile: { name },
          ...(from === undefined ? {} : { wa_id: from }),
          ...(user_id === undefined ? {} : { user_id }),
        },
      ],
      messages: [
        {
          ...(from === undefined ? {} : { from }),
          ...(user_id === undefined ? {} : { from_user_id: user_id }),
          id,
          timestamp: String(seconds(at)),
          type: 'text',
          text: { body: text },
        },
      ],
    });
    return id;
  }

  function apply(change: unknown): { numbers: string[]; inbound: string[] } {
    const input = worldSchema.parse(change);
    for (const number of input.numbers) {
      numbers.set(number.phone_number_id, number);
      throughput.delete(number.phone_number_id);
      for (const known of [pairs, marketing]) {
        for (const key of known.keys()) if (key.startsWith(`${number.phone_number_id}:`)) known.delete(key);
      }
    }
    for (const app of input.apps) apps.set(app.app_id, app.app_secret);
    for (const token of input.tokens) tokens.set(token.token, token);
    for (const template of input.templates) templates.set(`${template.name}:${template.language}`, template);
    for (const fate of input.recipients) {
      if (fate.fails_with === null && fate.statuses === null) fates.delete(fate.wa_id);
      else fates.set(fate.wa_id, fate);
    }
    const known = (path: string, index: number, phone: string): Sender => {
      const sender = numbers.get(phone);
      if (sender) return sender;
      const message = `there is no number ${phone}`;
      throw new z.ZodError([
        { code: 'custom', path: [path, index, 'phone_number_id'], message, input: phone },
      ]);
    };
    const received = input.inbound.map((inbound, index) =>
      receive(known('inbound', index, inbound.phone_number_id), inbound),
    );
    for (const [index, { phone_number_id, wa_id, value, at }] of input.preferences.entries()) {
      const sender = known('preferences', index, phone_number_id);
      if (value === 'stop') optedOut.add(`${phone_number_id}:${wa_id}`);
      else optedOut.delete(`${phone_number_id}:${wa_id}`);
      const timestamp = seconds(at === undefined ? Date.now() : Date.parse(at));
      const detail = `User requested to ${value} marketing messages`;
      tell(sender, 'user_preferences', {
        contacts: [{ profile: { name: 'Someone' }, wa_id }],
        user_preferences: [{ wa_id, detail, category: 'marketing_messages', value, timestamp }],
      });
    }
    for (const [index, wanted] of input.statuses.entries()) {
      const { phone_number_id, message_id, status, code, at } = wanted;
      const sender = known('statuses', index, phone_number_id);
      const message = messages.find((one) => one.id === message_id);
      const state = { status, at: at ?? new Date().toISOString(), ...(code === undefined ? {} : { code }) };
      message?.statuses.push(state);
      tellStatus(sender, message_id, state, message);
    }
    for (const [index, { phone_number_id, code, title, details }] of input.account_errors.entries()) {
      const words = title ?? titles[code] ?? `Error ${code}`;
      tell(known('account_errors', index, phone_number_id), 'messages', {
        errors: [{ code, title: words, message: words, error_data: { details: details ?? words } }],
      });
    }
    for (const token of input.remove?.tokens ?? []) tokens.delete(token);
    return { numbers: input.numbers.map((number) => number.phone_number_id), inbound: received };
  }

  if (content === 'demo') {
    const { phone_number_id, access_token } = demo.platform.whatsapp;
    apply({
      numbers: [{ phone_number_id, tenant: 'platform' }],
      tokens: [{ token: access_token, tenant: 'platform', numbers: [phone_number_id] }],
      templates: [{ name: 'hello_world', language: 'en_US' }],
    });
  }

  function read(request: SimulatedRequest): Reading {
    const body = parseBody(request);
    const token =
      bearer(request.headers) ??
      request.query.get('access_token') ??
      (isRecord(body) && typeof body.access_token === 'string' ? body.access_token : null);
    const phone = route(request.path)?.segments[0];
    const about: Record<string, unknown> = {};
    if (phone !== undefined && phone !== 'debug_token') {
      about.phone_number_id = phone;
      about.target_tenant = numbers.get(phone)?.tenant ?? null;
    }
    if (isRecord(body)) {
      about.to = body.to ?? body.recipient ?? null;
      about.type = body.type ?? 'text';
      if (isRecord(body.text)) about.text = body.text.body ?? null;
      if (isRecord(body.template)) about.template = body.template.name ?? null;
      if (body.biz_opaque_callback_data !== undefined) about.callback_data = body.biz_opaque_callback_data;
    }
    return { token, about };
  }

  const missing = (name: string): Answer =>
    refuse({ code: 131008, details: `Required parameter is missing: ${name}` });
  const invalid = (details: string): Answer => refuse({ code: 131009, details });

  /** The template that a message names and what it says, or what is wrong with it. */
  function templateOf(value: unknown): { template: Template; text: string | null } | Answer {
    if (!isRecord(value)) return missing('template');
    if (typeof value.name !== 'string' || value.name === '') return missing("template['name']");
    if (!isRecord(value.language) || typeof value.language.code !== 'string')
      return missing("template['language']");
    const template = templates.get(`${value.name}:${value.language.code}`);
    if (!template || template.status === 'pending' || template.status === 'rejected') {
      const details = `template name (${value.name}) does not exist in ${value.language.code}`;
      return refuse({ code: 132001, details });
    }
    if (template.status === 'paused') return refuse({ code: 132015 });
    if (template.status === 'disabled') return refuse({ code: 132016 });
    const components = Array.isArray(value.components) ? value.components : [];
    const body = components.find((component) => isRecord(component) && component.type === 'body');
    const parameters: unknown[] = isRecord(body) && Array.isArray(body.parameters) ? body.parameters : [];
    const expected = template.named?.length ?? template.parameters;
    if (parameters.length !== expected) {
      const details = `body: number of localizable_params (${parameters.length}) does not match the expected number of params (${expected})`;
      return refuse({ code: 132000, details });
    }
    let text = template.body ?? null;
    for (const [index, parameter] of parameters.entries()) {
      if (!isRecord(parameter) || parameter.type !== 'text' || typeof parameter.text !== 'string')
        return refuse({ code: 132012, details: 'body: expected parameters of type text' });
      const name = parameter.parameter_name;
      if (template.named === undefined ? name !== undefined : !template.named.includes(String(name)))
        return refuse({
          code: 132012,
          details: `body: parameter_name ${String(name)} is not of this template`,
        });
      if (parameter.text === '') return missing(`body['parameters'][${index}]['text']`);
      if (/[\n\t]| {5}/.test(parameter.text)) {
        const details = 'Param text cannot have new-line/tab characters or more than 4 consecutive spaces';
        return refuse({ code: 132007, details });
      }
      text = text?.replaceAll(`{{${name === undefined ? index + 1 : String(name)}}}`, parameter.text) ?? null;
    }
    const names = new Set(parameters.map((parameter) => isRecord(parameter) && parameter.parameter_name));
    if (template.named !== undefined && names.size !== template.named.length)
      return refuse({ code: 132012, details: 'body: a parameter_name comes twice' });
    if (text !== null && text.length > maxTemplateText) return refuse({ code: 132005 });
    return { template, text };
  }

  /** The code with which a marketing template will not reach this person, or null. */
  function marketingTrouble(sender: Sender, pairKey: string, now: number): number | null {
    if (optedOut.has(pairKey)) return 131050;
    if (sender.marketing_per_day === null) return null;
    const sent = (marketing.get(pairKey) ?? []).filter((at) => now - at < windowMs);
    if (sent.length >= sender.marketing_per_day) return 131049;
    marketing.set(pairKey, [...sent, now]);
    return null;
  }

  function send(sender: Sender, token: Token, body: Record<string, unknown>, context: Context): Answer {
    const { now } = context;
    if (sender.refuses_with !== null) return refuse({ code: sender.refuses_with });
    if (body.messaging_product === undefined) return missing('messaging_product');
    if (body.messaging_product !== 'whatsapp') return invalid("messaging_product must be 'whatsapp'");
    const to = body.to ?? body.recipient;
    if (to === undefined || to === null || to === '') return missing('to');
    if (typeof to !== 'string') return invalid('to must be a string');
    const type = body.type ?? 'text';
    const byUserId = body.to === undefined;
    const waId = byUserId ? null : waIdOf(to, sender.country_code);
    if (!byUserId && waId === null) return invalid('Parameter value is not valid: to');
    if (byUserId && !/^[A-Z]{2}\.[A-Za-z0-9]{1,128}$/.test(to))
      return invalid('Parameter value is not valid: recipient');
    const callback = body.biz_opaque_callback_data;
    if (callback !== undefined && (typeof callback !== 'string' || callback.length > 512)) {
      return invalid('biz_opaque_callback_data must be a string of at most 512 characters');
    }
    let text: string | null = null;
    let template: Template | null = null;
    if (type === 'text') {
      if (!isRecord(body.text)) return missing('text');
      if (body.text.body === undefined || body.text.body === '') return missing("text['body']");
      if (typeof body.text.body !== 'string') return invalid("Param text['body'] must be a string.");
      if (body.text.body.length > maxText) {
        return invalid(`Param text['body'] must be at most ${maxText} characters long.`);
      }
      text = body.text.body;
    } else if (type === 'template') {
      const found = templateOf(body.template);
      if ('status' in found) return found;
      ({ template, text } = found);
    } else {
      return refuse({ code: 131051 });
    }

    const recipient = waId ?? to;
    const pairKey = `${sender.phone_number_id}:${recipient}`;
    if (sender.allowed !== null && !sender.allowed.includes(recipient)) return refuse({ code: 131030 });
    const perSecond = sender.messages_per_second;
    if (
      perSecond !== null &&
      !takeFrom(throughput, sender.phone_number_id, 1000 / perSecond, perSecond, now)
    ) {
      return refuse({ code: 130429, details: 'Cloud API message throughput has been reached.' });
    }
    if (sender.pair !== null && !takeFrom(pairs, pairKey, sender.pair.every_ms, sender.pair.burst, now)) {
      return refuse({
        code: 131056,
        details:
          'Too many messages sent from the sender phone number to the same recipient phone number in a short period of time.',
      });
    }
    const fate = fates.get(recipient);
    let failsWith = context.wanted.thenFail ?? fate?.fails_with ?? null;
    if (template?.category === 'marketing') {
      const code = marketingTrouble(sender, pairKey, now);
      if (code !== null && sender.marketing_answer === 'sync') return refuse({ code });
      failsWith ??= code;
    }
    const open = now - (lastInbound.get(pairKey) ?? Number.NEGATIVE_INFINITY) < windowMs;
    if (sender.window === 'enforce' && type === 'text' && !open) {
      const details =
        'Message failed to send because more than 24 hours have passed since the customer last replied to this number.';
      if (sender.window_answer === 'sync') return refuse({ code: 131047, details });
      failsWith = 131047;
    }
    count += 1;
    const id = `wamid.${Buffer.from(`${recipient}:${context.seq}:${count}`).toString('base64')}`;
    const at = new Date(now).toISOString();
    const fateful = failsWith === null ? (fate?.statuses ?? sender.statuses) : (['failed'] as const);
    const statuses = (context.wanted.statuses ?? fateful).map((status) => ({
      status,
      at: new Date(now + secondsUntil[status] * 1000).toISOString(),
      ...(status === 'failed' ? { code: failsWith ?? 131026 } : {}),
    }));
    const message: WhatsAppMessage = {
      id,
      at,
      phone_number_id: sender.phone_number_id,
      tenant: sender.tenant,
      sent_with: token.tenant,
      input: to,
      wa_id: waId,
      user_id: byUserId ? to : null,
      type,
      text,
      template: template?.name ?? null,
      category: template?.category ?? 'service',
      biz_opaque_callback_data: callback ?? null,
      statuses: [{ status: 'accepted', at }, ...statuses],
    };
    messages.push(message);
    if (messages.length > 110_000) messages = messages.slice(-100_000);
    const tellAll = () => {
      for (const state of statuses) tellStatus(sender, id, state, message);
    };
    if (sender.callbacks === 'before') tellAll();
    const held = template?.held === true ? 'held_for_quality_assessment' : 'accepted';
    const delivered = !statuses.some(({ status }) => status === 'failed');
    return {
      status: 200,
      body: {
        messaging_product: 'whatsapp',
        contacts: [waId === null ? { input: to, user_id: to } : { input: to, wa_id: waId }],
        messages: [{ id, ...(type === 'template' ? { message_status: held } : {}) }],
      },
      kind: 'ok',
      effects: [{ kind: 'message', id, to: recipient, delivered }],
      ...(sender.callbacks === 'after' ? { settle: tellAll } : {}),
    };
  }

  /** Why a token is not valid now. */
  function trouble(token: Token, now: number): { subcode: number | null } | undefined {
    if (token.broken) return token.broken;
    return token.expires_at !== null && Date.parse(token.expires_at) <= now ? { subcode: 463 } : undefined;
  }

  /** What an app, or a token of the same app, is told about a token. */
  function debugToken(request: SimulatedRequest, caller: string, now: number): Answer {
    const [appId = '', secret] = caller.split('|');
    const asApp = secret !== undefined && apps.get(appId) === secret;
    const asUser = tokens.get(caller);
    if (!asApp && !(asUser && !trouble(asUser, now))) return graphError({ code: 190 });
    const wanted = tokens.get(request.query.get('input_token') ?? '');
    if (wanted?.app_id === undefined || wanted.app_id !== (asApp ? appId : asUser?.app_id)) {
      const error = { code: 190, message: 'The access token could not be decrypted' };
      return { status: 200, body: { data: { is_valid: false, scopes: [], error } }, kind: 'ok' };
    }
    const problem = trouble(wanted, now);
    const expiresAt = wanted.expires_at === null ? 0 : seconds(Date.parse(wanted.expires_at));
    const error = problem && {
      code: 190,
      message: 'Error validating access token',
      ...(problem.subcode === null ? {} : { subcode: problem.subcode }),
    };
    const data = {
      app_id: wanted.app_id,
      type: 'SYSTEM_USER',
      application: `${wanted.tenant} app`,
      data_access_expires_at: 0,
      expires_at: expiresAt,
      is_valid: problem === undefined,
      issued_at: 0,
      scopes: wanted.scopes,
      granular_scopes: wanted.scopes.map((scope) => ({ scope })),
      user_id: `7${wanted.app_id}`,
      ...(error ? { error } : {}),
    };
    return { status: 200, body: { data }, kind: 'ok' };
  }

  function handle(request: SimulatedRequest, reading: Reading, context: Context): Answer {
    const way = route(request.path);
    if (way === null) return refuse({ code: 2500, message: `Unknown path components: ${request.path}` });
    const finish = (answer: Answer): Answer => ({
      ...answer,
      headers: { 'facebook-api-version': way.version, ...answer.headers },
    });
    const [phone = '', edge] = way.segments;
    if (reading.token === null) return finish(graphError({ code: 104 }, { status: 401 }));
    if (request.method === 'GET' && phone === 'debug_token' && edge === undefined) {
      return finish(debugToken(request, reading.token, context.now));
    }
    const token = tokens.get(reading.token);
    if (!token) return finish(graphError({ code: 190 }, { status: 401 }));
    const problem = trouble(token, context.now);
    if (problem) {
      const { subcode } = problem;
      return finish(graphError({ code: 190, ...(subcode === null ? {} : { subcode }) }, { status: 401 }));
    }
    const appSecret = apps.get(token.app_id ?? '');
    if (
      appSecret !== undefined &&
      request.query.has('appsecret_proof') &&
      !isProof(appSecret, reading.token, request.query, context.now)
    ) {
      const message = 'Invalid appsecret_proof provided in the API argument';
      return finish(graphError({ code: 100, message, type: 'GraphMethodException' }));
    }
    const sender = numbers.get(phone);
    if (!sender || !token.numbers.includes(phone)) return finish(noSuchObject(phone, request.method));
    if (request.method === 'GET' && edge === undefined) {
      const body = { display_phone_number: sender.display_phone_number, quality_rating: 'GREEN', id: phone };
      return finish({ status: 200, body, kind: 'ok' });
    }
    if (request.method !== 'POST' || edge !== 'messages') {
      return finish(refuse({ code: 100, message: `Unsupported ${request.method.toLowerCase()} request.` }));
    }
    const body = parseBody(request);
    if (!isRecord(body))
      return finish(refuse({ code: 100, details: 'The request body is not a JSON object.' }));
    return finish(send(sender, token, body, context));
  }

  return {
    name: 'whatsapp',
    secretParameters: ['input_token', 'appsecret_proof'],
    read,
    tenantOf: (token) => tokens.get(token)?.tenant ?? null,
    handle,
    scriptedErrors: graphErrorSchema,
    error(error, status, retryAfter) {
      const given = error as GraphErrorInput | undefined;
      const fallback =
        retryAfter !== undefined || status === 429
          ? 130429
          : status === 401
            ? 190
            : status === 503
              ? 131016
              : 131000;
      return graphError(given ?? { code: fallback }, { status, whatsapp: true });
    },
    apply,
    show: () => ({
      numbers: [...numbers.values()],
      apps: [...apps.keys()].map((app_id) => ({ app_id })),
      tokens: [...tokens.values()].map(({ token, ...rest }) => ({ token: fingerprint(token), ...rest })),
      templates: [...templates.values()],
      recipients: [...fates.values()],
      opted_out: [...optedOut],
      messages: messages.length,
    }),
    messages: () => messages,
    events: () => told,
  };
}
