// What the Graph API and the WhatsApp Cloud API have in common: the shape and the words of errors, versions in the
// path, and the `fields` parameter.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Answer } from './server.ts';

export const newestVersion = 26;
const oldestVersion = 21;

/** `do.error` of a script for both APIs. */
export const graphErrorSchema = z.strictObject({
  code: z.int(),
  subcode: z.int().optional(),
  message: z.string().optional(),
  type: z.string().optional(),
  user_title: z.string().optional(),
  user_message: z.string().optional(),
  /** WhatsApp: `error_data.details`. */
  details: z.string().optional(),
});
export type GraphErrorInput = z.output<typeof graphErrorSchema>;

const tryAgain =
  'Wait a bit and try again. For more info, please refer to https://developers.facebook.com/docs/graph-api/overview/rate-limiting.';

const messages: Record<number, string> = {
  0: 'AuthException',
  1: 'An unknown error occurred',
  2: 'An unexpected error has occurred. Please retry your request later.',
  3: '(#3) Application does not have the capability to make this API call.',
  4: '(#4) Application request limit reached',
  10: '(#10) Application does not have permission for this action',
  17: '(#17) User request limit reached',
  32: '(#32) Page request limit reached',
  100: '(#100) Invalid parameter',
  102: 'The session is invalid because the user logged out.',
  104: 'An access token is required to request this resource.',
  190: 'Invalid OAuth access token - Cannot parse access token',
  200: '(#200) Permissions error',
  230: 'User consent is required to access user profile',
  341: '(#341) Feed action request limit reached',
  368: 'The action attempted has been deemed abusive or is otherwise disallowed',
  613: '(#613) Calls to this api have exceeded the rate limit.',
  1705: '(#1705) The user must be an administrator of the page.',
  2500: 'Unknown path components',
  80000: `(#80000) There have been too many calls from this ad-account. ${tryAgain}`,
  80001: `(#80001) There have been too many calls to this Page account. ${tryAgain}`,
  80002: `(#80002) There have been too many calls to this Instagram account. ${tryAgain}`,
  80003: `(#80003) There have been too many calls to this ad-account's custom audiences. ${tryAgain}`,
  80004: `(#80004) There have been too many calls to this ad-account. ${tryAgain}`,
  80005: `(#80005) There have been too many leadgen api calls to this Page account. ${tryAgain}`,
  80006: `(#80006) There have been too many calls to this Messenger account. ${tryAgain}`,
  80007: '(#80007) Rate limit issues',
  80008: `(#80008) There have been too many calls to this WhatsApp Business account. ${tryAgain}`,
  130429: '(#130429) Rate limit hit',
  130472: "(#130472) User's number is part of an experiment",
  131000: '(#131000) Something went wrong',
  131005: '(#131005) Access denied',
  131008: '(#131008) Required parameter is missing',
  131009: '(#131009) Parameter value is not valid',
  131016: '(#131016) Service unavailable',
  131026: '(#131026) Message undeliverable',
  131030: '(#131030) Recipient phone number not in allowed list',
  131031: '(#131031) Business Account locked',
  131042: '(#131042) Business eligibility payment issue',
  131047: '(#131047) Re-engagement message',
  131048: '(#131048) Spam rate limit hit',
  131049: '(#131049) This message was not delivered to maintain healthy ecosystem engagement.',
  131050: '(#131050) User has stopped receiving marketing messages from this business',
  131051: '(#131051) Unsupported message type',
  131056: '(#131056) (Business Account, Consumer Account) pair rate limit hit',
  131057: '(#131057) Account in maintenance mode',
  132000: '(#132000) Number of parameters does not match the expected number of params',
  132001: '(#132001) Template name does not exist in the translation',
  132005: '(#132005) Translated text too long',
  132007: '(#132007) Template format character policy violated',
  132012: '(#132012) Parameter format does not match format in the created template',
  132015: '(#132015) Template is paused',
  132016: '(#132016) Template is disabled',
  133004: '(#133004) Server temporarily unavailable',
  133010: '(#133010) Phone number not registered',
};

const sessionMessages: Record<number, string> = {
  458: 'Error validating access token: The user has not authorized application 100000000000.',
  459: 'Error validating access token: You cannot access the app till you log in to www.facebook.com and follow the instructions given.',
  460: 'Error validating access token: The session has been invalidated because the user changed their password or Facebook has changed the session for security reasons.',
  463: 'Error validating access token: Session has expired.',
  464: 'Error validating access token: Sessions for the user are not allowed because the user is not a confirmed user.',
  467: 'Error validating access token: The session is invalid because the user logged out.',
  492: 'Error validating access token: User does not have the appropriate role on the Page.',
};

export const throttleCodes: ReadonlySet<number> = new Set([
  4, 17, 32, 341, 613, 80000, 80001, 80002, 80003, 80004, 80005, 80006, 80007, 80008, 130429, 131048, 131056,
]);

// The HTTP status of a code is not documented (400 is usual): a client that branches on it is wrong.
const statuses: Record<number, number> = {
  0: 401,
  1: 500,
  2: 503,
  3: 403,
  4: 403,
  10: 403,
  17: 403,
  32: 403,
  341: 403,
  613: 403,
  200: 403,
  368: 403,
  130429: 429,
  131000: 500,
  131005: 403,
  131016: 503,
  131048: 429,
  131056: 429,
  133004: 503,
};

/** An error as Graph words it. `type` and the message follow from the code unless given. */
export function graphError(
  error: GraphErrorInput,
  options: { status?: number | undefined; whatsapp?: boolean } = {},
): Answer {
  const { code, subcode } = error;
  const known = subcode !== undefined && code === 190 ? sessionMessages[subcode] : undefined;
  const message = error.message ?? known ?? messages[code] ?? `(#${code}) Error`;
  const details = options.whatsapp ? (error.details ?? message.replace(/^\(#\d+\) /, '')) : error.details;
  const status = options.status ?? (options.whatsapp && code === 190 ? 401 : (statuses[code] ?? 400));
  return {
    status,
    body: {
      error: {
        message,
        type: error.type ?? (subcode === 33 ? 'GraphMethodException' : 'OAuthException'),
        code,
        ...(subcode === undefined ? {} : { error_subcode: subcode }),
        ...(details === undefined ? {} : { error_data: { messaging_product: 'whatsapp', details } }),
        ...(error.user_title === undefined ? {} : { error_user_title: error.user_title }),
        ...(error.user_message === undefined ? {} : { error_user_msg: error.user_message }),
        fbtrace_id: `A${randomBytes(8).toString('base64url')}`,
      },
    },
    kind: throttleCodes.has(code) ? 'throttled' : 'error',
    code: subcode === undefined ? String(code) : `${code}/${subcode}`,
  };
}

/** The error of an object that is not there, or not there for this token: the real API does not say which. */
export function noSuchObject(id: string, method: string): Answer {
  return graphError({
    code: 100,
    subcode: 33,
    message: `Unsupported ${method.toLowerCase()} request. Object with ID '${id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api`,
    type: 'GraphMethodException',
  });
}

/**
 * Splits `/v26.0/123/comments` into the version that serves it and its segments. An expired version is served by the
 * oldest one that is left; a version that does not exist yet is an unknown path (null).
 */
export function route(path: string): { version: string; segments: string[] } | null {
  const segments = path.split('/').filter((segment) => segment !== '');
  const asked = /^v(\d{1,3})\.0$/.exec(segments[0] ?? '')?.[1];
  if (asked === undefined) return { version: `v${newestVersion}.0`, segments };
  const number = Number(asked);
  if (number > newestVersion) return null;
  return { version: `v${Math.max(number, oldestVersion)}.0`, segments: segments.slice(1) };
}

/** One entry of `fields`: `media.limit(5){id,caption}`. */
export interface Field {
  name: string;
  modifiers: Map<string, string>;
  /** null: no braces. */
  fields: Field[] | null;
}

/** Thrown by the parser and by a node that lacks a field; carries the answer. */
export class GraphFailure extends Error {
  readonly answer: Answer;
  constructor(answer: Answer) {
    super('graph error');
    this.answer = answer;
  }
}

const parsed = new Map<string, Field[]>();

/** Parses `fields`; throws a GraphFailure (code 2500) on a syntax error. */
export function parseFields(text: string): Field[] {
  const known = parsed.get(text);
  if (known) return known;
  let at = 0;
  const fail = (): never => {
    const message = `Syntax error "Expected name." at character ${at}: ${text}`;
    throw new GraphFailure(graphError({ code: 2500, message }));
  };
  const word = (): string => {
    const found = /^\s*([A-Za-z_][A-Za-z0-9_]*)\s*/.exec(text.slice(at));
    if (!found?.[1]) return fail();
    at += found[0].length;
    return found[1];
  };
  const list = (): Field[] => {
    const fields = [field()];
    while (text[at] === ',') {
      at += 1;
      fields.push(field());
    }
    return fields;
  };
  const field = (): Field => {
    const name = word();
    const modifiers = new Map<string, string>();
    while (text[at] === '.') {
      at += 1;
      const modifier = word();
      const end = text.indexOf(')', at);
      if (text[at] !== '(' || end < 0) fail();
      modifiers.set(modifier, text.slice(at + 1, end));
      at = end + 1;
    }
    let fields: Field[] | null = null;
    if (text[at] === '{') {
      at += 1;
      fields = list();
      if (text[at] !== '}') fail();
      at += 1;
    }
    while (text[at] === ' ') at += 1;
    return { name, modifiers, fields };
  };
  const fields = list();
  if (at !== text.length) fail();
  if (parsed.size > 1000) parsed.clear();
  parsed.set(text, fields);
  return fields;
}

/** A node of the graph: for every field that the type has, how to read it. undefined: left out of the answer. */
export interface GraphNode {
  type: string;
  id: string;
  defaults: readonly string[];
  values: Record<string, (field: Field | null) => unknown>;
}

/** The node as JSON with the asked fields, or with the default ones; `id` is always there. */
export function render(node: GraphNode, fields: Field[] | null): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const put = (name: string, field: Field | null) => {
    const read = Object.hasOwn(node.values, name) ? node.values[name] : undefined;
    if (read === undefined) {
      const message = `(#100) Tried accessing nonexisting field (${name}) on node type (${node.type})`;
      throw new GraphFailure(graphError({ code: 100, message }));
    }
    const value = read(field);
    if (value !== undefined) out[name] = value;
  };
  if (fields === null) for (const name of node.defaults) put(name, null);
  else for (const field of fields) if (field.name !== 'id') put(field.name, field);
  out.id = node.id;
  return out;
}

/** The asked keys of a plain sub-object such as `from{id,username}`. */
export function pick(object: Record<string, unknown>, field: Field | null): Record<string, unknown> {
  if (!field?.fields) return object;
  return Object.fromEntries(
    field.fields.flatMap(({ name }) => (name in object ? [[name, object[name]]] : [])),
  );
}

const proofValidSeconds = 300;

/** Whether `appsecret_proof` is right: of the token, or of token and `appsecret_time`, which counts for five minutes. */
export function isProof(appSecret: string, token: string, parameters: URLSearchParams, now: number): boolean {
  const sentAt = parameters.get('appsecret_time');
  const text = sentAt === null ? token : `${token}|${sentAt}`;
  const right = createHmac('sha256', appSecret).update(text).digest('hex');
  const inTime = sentAt === null || Math.abs(now / 1000 - Number(sentAt)) <= proofValidSeconds;
  const given = Buffer.from(parameters.get('appsecret_proof') ?? '');
  return given.length === right.length && timingSafeEqual(given, Buffer.from(right)) && inTime;
}

/** Graph's time format, whole seconds: `2017-05-19T23:27:28+0000`. */
export function graphTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}+0000`;
}
