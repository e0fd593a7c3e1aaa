// Scripted behaviour: what the next matching requests meet instead of, or on top of, the normal answer.
import { z } from 'zod';
import { fingerprint } from './log.ts';

/** What WhatsApp tells about a message after it was accepted. */
export const messageStatuses = ['sent', 'delivered', 'read', 'played', 'failed'] as const;
export type MessageStatus = (typeof messageStatuses)[number];

const match = z.strictObject({
  /** A raw token; only its fingerprint is kept. */
  token: z.string().min(1).optional(),
  /** Part of the path, e.g. `/messages` or `17841400000000001`. */
  path: z.string().min(1).optional(),
  method: z
    .string()
    .regex(/^[A-Za-z]+$/)
    .transform((method) => method.toUpperCase())
    .optional(),
  /** Part of the body as it was sent, e.g. a recipient's number. */
  contains: z.string().min(1).optional(),
  /** Begin with the nth matching request, counted from now. */
  nth: z.int().min(1).optional(),
});

function behaviour<E extends z.ZodType>(error: E) {
  return z
    .strictObject({
      status: z.int().min(200).max(599).optional(),
      error: error.optional(),
      body: z.union([z.string(), z.array(z.unknown()), z.record(z.string(), z.unknown())]).optional(),
      html: z.string().optional(),
      headers: z.record(z.string(), z.string()).optional(),
      retry_after: z.int().min(0).optional(),
      redirect: z.string().min(1).optional(),
      delay_ms: z.int().min(0).max(600_000).optional(),
      never: z.literal(true).optional(),
      reset: z.enum(['before', 'after', 'half-body']).optional(),
      /** Whether the request takes effect (the message leaves, …) although the answer is a scripted one. */
      effect: z.boolean().optional(),
      /** Meta only: a page without data that still has `next`. */
      empty_page: z.literal(true).optional(),
      /** WhatsApp only: accept, then fail with this code. */
      then_fail: z.int().optional(),
      /** WhatsApp only: these states, in this order, as often as they are named; none: nothing is ever told. */
      statuses: z.array(z.enum(messageStatuses)).max(20).optional(),
    })
    .superRefine((wanted, context) => {
      const complain = (message: string) => context.addIssue({ code: 'custom', message });
      const keys = Object.keys(wanted).filter((key) => key !== 'effect');
      if (keys.length === 0) complain('does nothing: name at least one of status, error, body, html, …');
      const answers = (['error', 'body', 'html', 'redirect'] as const).filter(
        (key) => wanted[key] !== undefined,
      );
      if (answers.length > 1) complain(`is ambiguous: ${answers.join(' and ')} are each a whole answer`);
      const answering = keys.some((key) => key !== 'delay_ms' && key !== 'reset' && key !== 'never');
      // What becomes of a message goes on without an answer.
      const fate = ['then_fail', 'statuses'].filter((key) => keys.includes(key));
      const silent = ['delay_ms', 'reset', 'never', ...fate];
      if (fate.length > 0 && wanted.never && wanted.effect !== true)
        complain(`${fate.join(' and ')} says what becomes of a message, and none left: add "effect": true`);
      if (wanted.never && (keys.some((key) => !silent.includes(key)) || wanted.reset))
        complain('never answers, so it cannot have an answer as well');
      if (wanted.reset === 'before' && answering)
        complain('resets before answering, so it cannot have an answer');
      if (wanted.reset && wanted.effect !== undefined)
        complain('a reset decides itself whether there is an effect');
      if (wanted.redirect && wanted.status !== undefined && (wanted.status < 300 || wanted.status > 399)) {
        complain('a redirect needs a status from 300 to 399');
      }
    });
}

export interface Behaviour {
  status?: number | undefined;
  error?: unknown;
  body?: string | unknown[] | Record<string, unknown> | undefined;
  html?: string | undefined;
  headers?: Record<string, string> | undefined;
  retry_after?: number | undefined;
  redirect?: string | undefined;
  delay_ms?: number | undefined;
  never?: true | undefined;
  reset?: 'before' | 'after' | 'half-body' | undefined;
  effect?: boolean | undefined;
  empty_page?: true | undefined;
  then_fail?: number | undefined;
  statuses?: MessageStatus[] | undefined;
}

export interface ScriptView {
  id: number;
  match: { token?: string; path?: string; method?: string; contains?: string; nth?: number };
  /** null: for ever. */
  left: number | null;
  matched: number;
  do: Behaviour;
}

export interface Scripts {
  /** Takes one script or an array of them. Throws a ZodError that says what is wrong. */
  add(input: unknown): ScriptView[];
  list(): ScriptView[];
  clear(): void;
  /** The behaviour for this request, if there is one; uses it up. */
  take(request: {
    token: string | null;
    path: string;
    method: string;
    raw: Buffer;
  }): { id: number; do: Behaviour } | null;
}

/** `errorSchema`: the shape of `do.error`, which every provider has for itself. */
export function createScripts(errorSchema: z.ZodType): Scripts {
  const script = z.strictObject({
    match: match.default({}),
    times: z.union([z.int().min(1), z.literal('always')]).default(1),
    do: behaviour(errorSchema),
  });
  let active: ScriptView[] = [];
  let nextId = 0;

  return {
    add(raw) {
      // An array is parsed as an array, so that a complaint names the entry and the key.
      const parsed = Array.isArray(raw) ? z.array(script).min(1).parse(raw) : script.parse(raw);
      const added = (Array.isArray(parsed) ? parsed : [parsed]).map((wanted): ScriptView => {
        const { token, path, method, contains, nth } = wanted.match;
        nextId += 1;
        return {
          id: nextId,
          match: {
            ...(token === undefined ? {} : { token: fingerprint(token) }),
            ...(path === undefined ? {} : { path }),
            ...(method === undefined ? {} : { method }),
            ...(contains === undefined ? {} : { contains }),
            ...(nth === undefined ? {} : { nth }),
          },
          left: wanted.times === 'always' ? null : wanted.times,
          matched: 0,
          do: wanted.do as Behaviour,
        };
      });
      active.push(...added);
      return added;
    },
    list: () => active,
    clear() {
      active = [];
    },
    take(request) {
      if (active.length === 0) return null;
      for (const candidate of active) {
        const { token, path, method, contains, nth } = candidate.match;
        if (token !== undefined && (request.token === null || fingerprint(request.token) !== token)) continue;
        if (path !== undefined && !request.path.includes(path)) continue;
        if (method !== undefined && request.method !== method) continue;
        if (contains !== undefined && !request.raw.includes(contains)) continue;
        candidate.matched += 1;
        if (nth !== undefined && candidate.matched < nth) continue;
        if (candidate.left !== null) {
          candidate.left -= 1;
          if (candidate.left === 0) active = active.filter((other) => other !== candidate);
        }
        return { id: candidate.id, do: candidate.do };
      }
      return null;
    },
  };
}
