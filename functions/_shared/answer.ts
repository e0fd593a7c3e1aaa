// Answers over HTTP, and the reading of requests. Every error has one shape and says what to do about it.
import { parseJson, readText } from './http.ts';

export function answer(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    },
  });
}

export function refuse(
  status: number,
  code: string,
  message: string,
  headers?: Record<string, string>,
): Response {
  return answer(status, { error: { code, message } }, headers);
}

export function methodNotAllowed(allowed: string): Response {
  return refuse(405, 'method_not_allowed', `Use ${allowed.replaceAll(', ', ' or ')} here.`, {
    allow: allowed,
  });
}

/** True for `application/json`, with UTF-8 as the only charset. */
export function isJsonType(value: string | null): boolean {
  return /^\s*application\/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?$/i.test(value ?? '');
}

const deepestNesting = 32;

function isTooDeep(value: unknown, depth = 0): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depth >= deepestNesting) return true;
  return Object.values(value).some((inner) => isTooDeep(inner, depth + 1));
}

export type RawBody = { ok: true; text: string } | { ok: false; response: Response };

/** The raw text of a request's body, up to `maxBytes`. */
export async function readBody(request: Request, maxBytes: number): Promise<RawBody> {
  const tooLarge = () =>
    refuse(413, 'body_too_large', `Send a body of at most ${maxBytes} bytes.`, { connection: 'close' });
  const declared = request.headers.get('content-length');
  if (declared !== null && Number(declared) > maxBytes) return { ok: false, response: tooLarge() };
  const read = await readText(request.body, maxBytes);
  if (read.kind === 'too_large') return { ok: false, response: tooLarge() };
  if (read.kind === 'unreadable') {
    return { ok: false, response: refuse(400, 'body_not_utf8', 'Send the body as JSON in UTF-8.') };
  }
  return { ok: true, text: read.text };
}

export type JsonBody = { ok: true; value: unknown } | { ok: false; response: Response };

export function parseBody(text: string): JsonBody {
  const value = parseJson(text);
  if (value === undefined || isTooDeep(value)) {
    return {
      ok: false,
      response: refuse(400, 'invalid_json', 'The body is not valid JSON. Send a JSON object.'),
    };
  }
  return { ok: true, value };
}

/** `/functions/v1/jobs/a` locally, `/jobs/a` inside a hosted function: both give `['a']`; null for another path. */
export function pathInside(functionName: string, url: string): string[] | null {
  const segments = new URL(url).pathname.replace(/\/+$/, '').split('/').slice(1);
  const inside = segments[0] === 'functions' && segments[1] === 'v1' ? segments.slice(2) : segments;
  return inside[0] === functionName ? inside.slice(1) : null;
}
