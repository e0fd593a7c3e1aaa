// The WhatsApp Cloud API: `POST /{version}/{phone-number-id}/messages`. 200 means accepted, not delivered: what
// became of a message is in `GET /_messages`.
import { z } from 'zod';
import { type GraphErrorInput, graphError, graphErrorSchema, noSuchObject, route } from './graph.ts';
import { fingerprint } from './log.ts';
import {
  type Answer,
  bearer,
  type Context,
  isRecord,
  type Provider,
  parseBody,
  type Reading,
  type SimulatedRequest,
} from './server.ts';
import { demo } from './world.ts';

const pairLimit = z.strictObject({ every_ms: z.int().min(1), burst: z.int().min(1) });

const numberInput = z.strictObject({
  phone_number_id: z.string().min(1),
  tenant: z.string().min(1),
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
  /** Messages per second of the number, and its burst; null: no limit. */
  messages_per_second: z.int().min(1).nullable().default(80),
  /** Messages to one recipient; null: no limit. */
  pair: pairLimit.nullable().default({ every_ms: 6000, burst: 45 }),
});

const templateInput = z.strictObject({
  name: z.string().min(1),
  language: z.string().min(1),
  /** Number of body parameters. */
  parameters: z.int().min(0).default(0),
  status: z.enum(['approved', 'pending', 'paused', 'disabled']).default('approved'),
});

const worldSchema = z.strictObject({
  numbers: z.array(numberInput).default([]),
  tokens: z
    .array(
      z.strictObject({
        token: z.string().min(1),
        tenant: z.string().min(1),
        /** Numbers that it may send from. */
        numbers: z.array(z.string()),
        broken: z.strictObject({ subcode: z.int().nullable().default(null) }).optional(),
      }),
    )
    .default([]),
  templates: z.array(templateInput).default([]),
  /** What becomes of accepted messages to a recipient (digits): fails with this code; null: delivered again. */
  recipients: z
    .array(z.strictObject({ wa_id: z.string().regex(/^\d+$/), fails_with: z.int().nullable() }))
    .default([]),
  /** A message from a person, which opens the 24-hour window. */
  inbound: z
    .array(
      z.strictObject({
        phone_number_id: z.string(),
        from: z.string().regex(/^\d+$/),
        at: z.iso.datetime({ offset: true }).optional(),
      }),
    )
    .default([]),
  remove: z.strictObject({ tokens: z.array(z.string()).default([]) }).optional(),
});
export type WhatsAppWorldInput = z.input<typeof worldSchema>;

type Sender = z.output<typeof numberInput>;
type Token = z.output<typeof worldSchema>['tokens'][number];
type Template = z.output<typeof templateInput>;

export interface WhatsAppMessage {
  id: string;
  at: string;
  phone_number_id: string;
  tenant: string;
  /** Owner of the token that sent it. */
  sent_with: string;
  input: string;
  wa_id: string | null;
  type: string;
  text: string | null;
  template: string | null;
  biz_opaque_callback_data: string | null;
  /** In the order in which they happened; the last one is the state. */
  statuses: { status: 'accepted' | 'sent' | 'delivered' | 'failed'; at: string; code?: number }[];
}

const windowMs = 24 * 3600 * 1000;
const maxText = 4096;

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

export function createWhatsApp(content: 'demo' | 'empty'): Provider {
  const numbers = new Map<string, Sender>();
  const tokens = new Map<string, Token>();
  const templates = new Map<string, Template>();
  const failing = new Map<string, number>();
  const lastInbound = new Map<string, number>();
  const pairs = new Map<string, Bucket>();
  const throughput = new Map<string, Bucket>();
  let messages: WhatsAppMessage[] = [];
  let count = 0;

  function apply(change: unknown): { numbers: string[] } {
    const input = worldSchema.parse(change);
    for (const number of input.numbers) {
      numbers.set(number.phone_number_id, number);
      throughput.delete(number.phone_number_id);
      for (const key of pairs.keys()) if (key.startsWith(`${number.phone_number_id}:`)) pairs.delete(key);
    }
    for (const token of input.tokens) tokens.set(token.token, token);
    for (const template of input.templates) templates.set(`${template.name}:${template.language}`, template);
    for (const { wa_id, fails_with } of input.recipients) {
      if (fails_with === null) failing.delete(wa_id);
      else failing.set(wa_id, fails_with);
    }
    for (const { phone_number_id, from, at } of input.inbound) {
      lastInbound.set(`${phone_number_id}:${from}`, at === undefined ? Date.now() : Date.parse(at));
    }
    for (const token of input.remove?.tokens ?? []) tokens.delete(token);
    return { numbers: input.numbers.map((number) => number.phone_number_id) };
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
    if (phone !== undefined) {
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

  /** What is wrong with a template message, if anything is. */
  function templateTrouble(value: unknown): Answer | null {
    if (!isRecord(value)) return missing('template');
    if (typeof value.name !== 'string' || value.name === '') return missing("template['name']");
    if (!isRecord(value.language) || typeof value.language.code !== 'string')
      return missing("template['language']");
    const template = templates.get(`${value.name}:${value.language.code}`);
    if (!template || template.status === 'pending') {
      const details = `template name (${value.name}) does not exist in ${value.language.code}`;
      return refuse({ code: 132001, details });
    }
    if (template.status === 'paused') return refuse({ code: 132015 });
    if (template.status === 'disabled') return refuse({ code: 132016 });
    const components = Array.isArray(value.components) ? value.components : [];
    const body = components.find((component) => isRecord(component) && component.type === 'body');
    const parameters = isRecord(body) && Array.isArray(body.parameters) ? body.parameters : [];
    if (parameters.length !== template.parameters) {
      const details = `body: number of localizable_params (${parameters.length}) does not match the expected number of params (${template.parameters})`;
      return refuse({ code: 132000, details });
    }
    const text = (parameter: unknown) =>
      isRecord(parameter) && parameter.type === 'text' && typeof parameter.text === 'string';
    if (!parameters.every(text))
      return refuse({ code: 132012, details: 'body: expected parameters of type text' });
    return null;
  }

  function send(sender: Sender, token: Token, body: Record<string, unknown>, context: Context): Answer {
    const { now } = context;
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
    if (type === 'text') {
      if (!isRecord(body.text)) return missing('text');
      if (body.text.body === undefined || body.text.body === '') return missing("text['body']");
      if (typeof body.text.body !== 'string') return invalid("Param text['body'] must be a string.");
      if (body.text.body.length > maxText) {
        return invalid(`Param text['body'] must be at most ${maxText} characters long.`);
      }
      text = body.text.body;
    } else if (type === 'template') {
      const trouble = templateTrouble(body.template);
      if (trouble) return trouble;
    } else {
      return refuse({ code: 131051 });
    }

    const recipient = waId ?? to;
    const pairKey = `${sender.phone_number_id}:${recipient}`;
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
    let failsWith = context.wanted.thenFail ?? failing.get(recipient) ?? null;
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
    messages.push({
      id,
      at,
      phone_number_id: sender.phone_number_id,
      tenant: sender.tenant,
      sent_with: token.tenant,
      input: to,
      wa_id: waId,
      type,
      text,
      template: isRecord(body.template) && typeof body.template.name === 'string' ? body.template.name : null,
      biz_opaque_callback_data: callback ?? null,
      statuses: [
        { status: 'accepted', at },
        ...(failsWith === null
          ? [
              { status: 'sent' as const, at },
              { status: 'delivered' as const, at },
            ]
          : [{ status: 'failed' as const, at, code: failsWith }]),
      ],
    });
    if (messages.length > 110_000) messages = messages.slice(-100_000);
    return {
      status: 200,
      body: {
        messaging_product: 'whatsapp',
        contacts: [waId === null ? { input: to, user_id: to } : { input: to, wa_id: waId }],
        messages: [{ id, ...(type === 'template' ? { message_status: 'accepted' } : {}) }],
      },
      kind: 'ok',
      effects: [{ kind: 'message', id, to: recipient, delivered: failsWith === null }],
    };
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
    const token = tokens.get(reading.token);
    if (!token) return finish(graphError({ code: 190 }, { status: 401 }));
    if (token.broken) {
      const { subcode } = token.broken;
      return finish(graphError({ code: 190, ...(subcode === null ? {} : { subcode }) }, { status: 401 }));
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
      tokens: [...tokens.values()].map(({ token, ...rest }) => ({ token: fingerprint(token), ...rest })),
      templates: [...templates.values()],
      recipients: [...failing].map(([wa_id, fails_with]) => ({ wa_id, fails_with })),
      messages: messages.length,
    }),
    messages: () => messages,
  };
}
