// The door for providers: Meta and WhatsApp tell what happened, Meta asks to forget people, and people follow our links.
// A body is checked, stored and acknowledged; what it means is found out later, in the database.
import { z } from 'zod';
import { answer, methodNotAllowed, parseBody, pathInside, refuse } from '../_shared/answer.ts';
import { EngineError } from '../_shared/engine.ts';
import { describeError } from '../_shared/errors.ts';
import type { Log } from '../_shared/log.ts';
import { constantTimeEqual } from '../_shared/signature.ts';
import type { Intake, Source, WebhookSecrets } from './intake.ts';
import { readSignedRequest, sha256Hex, signedBy } from './signed.ts';

export interface WebhooksOptions {
  intake: Intake;
  /** `https://<project>.supabase.co/functions/v1/webhooks`: where people ask what became of a deletion. */
  publicUrl: string;
  log: Log;
}

/** Meta puts up to 1,000 updates into a body, WhatsApp sends at most 3 MB. */
const largestBody = 3 * 1024 * 1024;
const largestForm = 16 * 1024;
const objects: Record<Source, readonly string[]> = {
  meta: ['instagram', 'page'],
  whatsapp: ['whatsapp_business_account'],
};
const tenantName = /^[a-z0-9-]{2,64}$/;
const claimCode = /^oc-[0-9a-z]{8}$/i;
const confirmationCode = /^[0-9a-f]{32}$/;
const envelope = z.looseObject({ object: z.string(), entry: z.array(z.unknown()) });

export function createWebhooks(options: WebhooksOptions): (request: Request) => Promise<Response> {
  const { intake, log } = options;

  /** One more question to the database for each address, whoever it is: how long an answer takes tells nothing. */
  async function secretsOf(tenant: string, source: Source): Promise<WebhookSecrets | null> {
    return await intake.secrets(tenantName.test(tenant) ? tenant : '-', source);
  }

  /** Meta asks once whether this address is ours: who knows the word gets the challenge back as it was. */
  async function handshake(request: Request, source: Source, tenant: string): Promise<Response> {
    const query = new URL(request.url).searchParams;
    const challenge = query.get('hub.challenge') ?? '';
    const secrets = await secretsOf(tenant, source);
    const knows = await constantTimeEqual(query.get('hub.verify_token') ?? '', secrets?.verify_token ?? '');
    const asked = query.get('hub.mode') === 'subscribe' && /^[\x21-\x7e]{1,1000}$/.test(challenge);
    if (!secrets?.verify_token || !knows || !asked) {
      return refuse(403, 'forbidden', 'The verify token is not the one that is set for this address.');
    }
    return plain(200, challenge);
  }

  async function receive(request: Request, source: Source, tenant: string): Promise<Response> {
    const bytes = await readBytes(request, largestBody);
    if (bytes === null) return tooLarge(largestBody);
    const secrets = await secretsOf(tenant, source);
    const header = request.headers.get('x-hub-signature-256');
    if (!(await signedBy(header, bytes, secrets?.app_secrets ?? [])) || secrets === null) {
      return refuse(401, 'unauthorized', 'The signature does not belong to this body and address.');
    }
    // From here on the caller is the tenant's app. What it sends may still be anything.
    const text = decode(bytes);
    if (text === null) return refuse(400, 'body_not_utf8', 'Send the body as JSON in UTF-8.');
    const json = parseBody(text);
    if (!json.ok) return json.response;
    const parsed = envelope.safeParse(json.value);
    if (!parsed.success || !objects[source].includes(parsed.data.object)) {
      return refuse(400, 'wrong_object', `This address takes ${objects[source].join(' and ')} only.`);
    }
    const stored = await intake.receive(
      secrets.tenant_id,
      source,
      storable(parsed.data),
      await sha256Hex(bytes),
    );
    if (stored.retry_after_seconds !== null) return tooMany(stored.retry_after_seconds);
    return answer(200, { received: true });
  }

  /** Meta passes on that somebody wants to be forgotten: https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback */
  async function receiveDeletion(request: Request, tenant: string): Promise<Response> {
    const bytes = await readBytes(request, largestForm);
    if (bytes === null) return tooLarge(largestForm);
    const secrets = await secretsOf(tenant, 'meta');
    const form = new URLSearchParams(decode(bytes) ?? '');
    const signed = form.get('signed_request') ?? '';
    const payload = await readSignedRequest(signed, secrets?.app_secrets ?? []);
    // The platform's own app serves many tenants, and none of them is the one to ask.
    if (payload === null || secrets === null || tenant === 'platform') {
      return refuse(401, 'unauthorized', 'The signed request does not belong to this address.');
    }
    const sha256 = await sha256Hex(new TextEncoder().encode(signed));
    const noted = await intake.receiveDeletion(secrets.tenant_id, payload.user_id, sha256);
    if ('retryAfterSeconds' in noted) return tooMany(noted.retryAfterSeconds);
    return answer(200, {
      url: `${options.publicUrl}/deletions/${noted.code}`,
      confirmation_code: noted.code,
    });
  }

  /** For people. Plain text, because Supabase serves no HTML from functions. */
  async function showDeletion(code: string): Promise<Response> {
    const found = confirmationCode.test(code) ? await intake.deletionStatus(code) : null;
    if (found === null) return plain(404, 'There is no deletion with this code.\n');
    const day = (time: string) => time.slice(0, 10);
    return plain(
      200,
      found.completed_at === null
        ? `Your data will be deleted. The request came on ${day(found.requested_at)}.\n`
        : `Your data was deleted on ${day(found.completed_at)}. The request came on ${day(found.requested_at)}.\n`,
    );
  }

  /**
   * Sends a participant on to the task's own url, and nowhere else. Only a GET is a visit, and not one of the known programs
   * that look at links in messages. A program that looks like a browser counts: who shares the link may earn the visit
   * without one. What this task kind can prove is that the link was opened, not that somebody read the page.
   */
  async function visit(request: Request, tenant: string, code: string): Promise<Response> {
    const known = tenantName.test(tenant) && claimCode.test(code);
    const url = known ? await intake.recordVisit(tenant, code, !isPreview(request.headers)) : null;
    if (url === null || !/^https?:\/\//i.test(url) || !URL.canParse(url)) {
      return plain(404, 'This link leads nowhere. It may be mistyped, or the campaign may be over.\n');
    }
    return plain(302, '', { location: new URL(url).href, 'referrer-policy': 'no-referrer' });
  }

  async function route(request: Request): Promise<Response> {
    const [kind, first, second, ...rest] = pathInside('webhooks', request.url) ?? [];
    const isGet = request.method === 'GET';
    if (first === undefined || rest.length > 0) return notFound();
    if ((kind === 'meta' || kind === 'whatsapp') && second === undefined) {
      if (isGet) return await handshake(request, kind, first);
      if (request.method === 'POST') return await receive(request, kind, first);
      return methodNotAllowed('GET, POST');
    }
    if (kind === 'meta' && second === 'data-deletion') {
      return request.method === 'POST' ? await receiveDeletion(request, first) : methodNotAllowed('POST');
    }
    if (kind === 'deletions' && second === undefined) {
      return isGet ? await showDeletion(first) : methodNotAllowed('GET');
    }
    if (kind === 'visit' && second !== undefined) {
      return isGet ? await visit(request, first, second) : methodNotAllowed('GET');
    }
    return notFound();
  }

  return async (request) => {
    try {
      return await route(request);
    } catch (thrown) {
      log.error('request failed', describeError(thrown));
      // With a 5xx the provider comes again, for hours or days: nothing is lost while the database is away.
      if (thrown instanceof EngineError && thrown.transient) {
        return refuse(503, 'database_unavailable', 'The database did not answer. Try again in a moment.', {
          'retry-after': '5',
        });
      }
      return refuse(500, 'internal', 'Something went wrong here. The function’s log says what.');
    }
  };
}

// The browsers inside of apps name their app, too: only what names itself a program is one. (Cubot makes phones.)
const previews =
  /(?<!cu)bot\b|crawler|spider|preview|facebookexternalhit|facebookcatalog|meta-externalagent|^whatsapp\/|embedly|google-?(other|safety|image)|headlesschrome|python-requests|^curl\/|^wget\//i;

/** Programs that follow links by themselves, as far as they say so: previews in messengers, prefetching browsers. */
function isPreview(headers: Headers): boolean {
  if (/prefetch|preview|prerender/i.test(headers.get('sec-purpose') ?? headers.get('purpose') ?? ''))
    return true;
  const agent = headers.get('user-agent') ?? '';
  return agent === '' || previews.test(agent);
}

/** The bytes as they arrived, which the signature covers; null when there are too many. */
async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) return null;
  if (request.body === null) return new Uint8Array();
  const reader = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > maxBytes) {
      reader.cancel().catch(() => {});
      return null;
    }
    chunks.push(value);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function decode(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** What people write, and the words of our links: the only places where an address may be one that somebody meant to say. */
const spoken = new Set(['text', 'message', 'body', 'caption', 'title', 'payload', 'ref']);

/**
 * jsonb has no U+0000 and no half of a surrogate pair; one such character must not cost the other updates of a body. And
 * media may not be kept, which is what the addresses in a body lead to: a story's, a photo's, a sticker's.
 */
function storable(value: unknown, key = ''): unknown {
  if (typeof value === 'string') {
    return !spoken.has(key) && /^https?:\/\//i.test(value) ? null : storableText(value);
  }
  if (Array.isArray(value)) return value.map((inner) => storable(inner, key));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [storableText(name), storable(inner, name)]),
  );
}

function storableText(text: string): string {
  return text.replaceAll('\0', '\ufffd').replace(/\p{Cs}/gu, '\ufffd');
}

function plain(status: number, text: string, headers: Record<string, string> = {}): Response {
  return new Response(text, {
    status,
    headers: {
      'content-type': 'text/plain; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    },
  });
}

function tooLarge(maxBytes: number): Response {
  return refuse(413, 'body_too_large', `Send a body of at most ${maxBytes} bytes.`, { connection: 'close' });
}

function tooMany(seconds: number): Response {
  const wait = Math.max(1, Math.ceil(seconds));
  return refuse(429, 'too_many_requests', `Too many requests. Come again in ${wait} s.`, {
    'retry-after': String(wait),
  });
}

function notFound(): Response {
  return refuse(404, 'not_found', 'There is nothing at this address.');
}
