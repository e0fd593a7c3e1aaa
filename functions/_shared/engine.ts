// The typed client of the engine: the SQL functions of schema `jobs`, with their answers checked.
import { z } from 'zod';
import { withDeadline } from './http.ts';
import type { ItemOutcome } from './outcome.ts';

const timestamp = z.iso.datetime({ offset: true });
const id = z.number().int().nonnegative();

export const credentialSchema = z.object({
  /** Null for the platform's. */
  credential_id: z.union([z.string(), z.number()]).nullable(),
  provider: z.string(),
  kind: z.string(),
  source: z.enum(['tenant', 'platform']),
  // One tenant's odd credential must not make the whole batch unreadable: its provider's client finds it incomplete.
  account: z.record(z.string(), z.unknown()).catch({}),
  secret: z.record(z.string(), z.unknown()).catch({}),
});
export type Credential = z.infer<typeof credentialSchema>;

const itemSchema = z.object({
  item_id: id,
  attempt: z.number().int(),
  trace_id: z.string(),
  data: z.record(z.string(), z.unknown()).catch({}),
});
export type Item = z.infer<typeof itemSchema>;

const tenantWorkSchema = z.object({
  tenant_id: z.uuid(),
  /** Null for the platform's own items. */
  slug: z.string().nullable(),
  credential: credentialSchema.nullable(),
  items: z.array(itemSchema),
});
/** The items of one tenant in a batch, with that tenant's credential and no other. */
export type TenantWork = z.infer<typeof tenantWorkSchema>;

export const batchSchema = z.object({
  batch_id: id,
  job: z.string(),
  now: timestamp,
  lease_until: timestamp,
  lease_seconds: z.number().positive(),
  /** What the job's tenants are charged by. */
  cost_unit: z.enum(['items', 'calls', 'milliseconds']).default('items'),
  tenants: z.array(tenantWorkSchema),
});
export type Batch = z.infer<typeof batchSchema>;

const doorbellSchema = z
  .object({ drain_id: z.uuid(), job: z.string(), run_id: id.nullable().default(null) })
  .nullable();
const closedSchema = z.object({ closed: id, stale: id, next: batchSchema.nullish() });
const gateSchema = z.object({
  allowed: z.boolean(),
  reason: z.enum(['rate', 'address']).nullable(),
  retry_after_seconds: z.number().nullable(),
});
/** Whether a request may go on; if not, because of its rate (and when to come again) or of its address. */
export type Gate = z.infer<typeof gateSchema>;

const startedSchema = z.object({ run_id: id, drain_id: z.uuid(), kind: z.string() });
const kindSchema = z.object({ job: z.string(), kind: z.string() });
const healthSchema = z.object({ healthy: z.boolean(), reasons: z.array(z.string()), checked_at: timestamp });

/** The one shape in which every job answers. */
export const runResultSchema = z.object({
  message: z.string(),
  results: z.looseObject({ processed: z.number(), errors: z.array(z.unknown()) }),
  timestamp,
});
export type RunResult = z.infer<typeof runResultSchema>;
export type Health = z.infer<typeof healthSchema>;

/** What supabase-js answers for an rpc call; `status` is 0 when nothing came back. */
export interface RpcAnswer {
  data: unknown;
  error: { message: string; code?: string } | null;
  status: number;
}
export type Rpc = (name: string, args: Record<string, unknown>, signal: AbortSignal) => Promise<RpcAnswer>;

export class EngineError extends Error {
  /** The SQLSTATE or PostgREST's code; 'connection' when there was no answer, 'shape' when it was not understood. */
  readonly code: string;
  /** Whether the same call may succeed when it is repeated. */
  readonly transient: boolean;

  constructor(call: string, code: string, transient: boolean, detail: string) {
    super(`jobs.${call}: ${detail}`);
    this.name = 'EngineError';
    this.code = code;
    this.transient = transient;
  }
}

/** What was read of one post, newest first. No text: ids, names, times, and the codes found in it. */
export interface PostReading {
  surface: 'instagram' | 'facebook';
  post_id: string;
  comments: {
    id: string;
    at: string | null;
    author_id: string | null;
    username: string | null;
    codes: string[];
  }[];
  newest: { id: string; at: string | null } | null;
  /** Down to the mark of the last complete reading, to the beginning of the claims, or to the end. */
  complete: boolean;
}

const bundleSchema = z.union([
  z.object({ lost: z.string() }),
  z.object({
    bundle_id: z.uuid(),
    call: id,
    version: id,
    sender: z.string(),
    send_before: timestamp,
    mails: z
      .array(
        z.object({
          outbox_id: z.string(),
          to: z.string(),
          subject: z.string(),
          text: z.string(),
          html: z.string().nullish(),
        }),
      )
      .min(1),
    alone: z.array(z.string()),
  }),
  z.object({ bundle_id: z.uuid().nullable(), mails: z.array(z.never()), alone: z.array(z.string()) }),
]);
/**
 * E-mails that leave in one call: exactly `mails`, in this order, with `bundle_id` as idempotency key, also those that
 * were not asked for. Without mails there is no call. `alone`: mails that go each by itself. `lost`: nobody knows what
 * became of them, and nobody will.
 */
export type Bundle = z.infer<typeof bundleSchema>;

/** What became of the call of a bundle; all but `accepted` and `accepted before` say that it sent nothing. */
export type BundleEnd =
  | { outcome: 'accepted'; mails: { outbox_id: string; message_id: string }[] }
  | { outcome: 'accepted before' | 'content refused' | 'refused' | 'not sent' };

const settledSchema = z
  .union([
    z.object({
      mails: z.array(z.object({ outbox_id: z.string(), status: z.enum(['sent', 'unknown', 'free']) })),
    }),
    z.object({ dissolved: z.boolean() }),
  ])
  .nullable();
/** Null: settled before. `dissolved`: nothing of the bundle can have left. */
export type SettledBundle = z.infer<typeof settledSchema>;

export interface Engine {
  /** Null: the ticket is unknown, used, or too old. */
  answerDoorbell(ticket: string): Promise<{ drainId: string; job: string; runId: number | null } | null>;
  /** Null: nothing to do now. Without tenants: nothing found yet, ask again. */
  nextBatch(drainId: string, job: string): Promise<Batch | null>;
  /** In how many milliseconds the next lane of a job wakes; null: none does by itself. */
  nextWake(job: string): Promise<number | null>;
  /** The ids whose outside effect may happen now; never act for the others. */
  beginEffects(batchId: number, itemIds: readonly number[]): Promise<number[]>;
  /** False: the lease is lost. */
  extendBatch(batchId: number): Promise<boolean>;
  /** Puts a renewed token in the place of the one that went out with the item. False: too late, nothing changed. */
  keepRefreshedToken(
    batchId: number,
    itemId: number,
    token: string,
    expiresAt: string | null,
  ): Promise<boolean>;
  closeBatch(
    batchId: number,
    outcomes: readonly ItemOutcome[],
    next: boolean,
  ): Promise<{ closed: number; stale: number; next: Batch | null }>;
  /** Stores what was read of a post, so that it is not read again: how many comments are new. */
  recordComments(batchId: number, tenantId: string, post: PostReading): Promise<number>;
  /** Notes which mails leave in one call, before it leaves, or finds the bundle they were sent in. Null: the lease is lost. */
  bundleEmails(batchId: number, itemIds: readonly number[], sender: string): Promise<Bundle | null>;
  /** Notes what became of that call, for all of its mails at once. */
  settleEmails(
    tenantId: string,
    bundle: { bundle_id: string; call: number; version: number },
    end: BundleEnd,
  ): Promise<SettledBundle>;
  endDrain(drainId: string, error: string | null): Promise<void>;
  /** Throws an EngineError: P0002 when there is no such job, 55000 when it is paused. `kind` says who drains it. */
  runNow(job: string): Promise<{ runId: number; drainId: string; kind: string }>;
  /** Lets the database work off the batch of a SQL job that the last call claimed, and claim the next one: its id; null when nothing waits. */
  workBatch(drainId: string, job: string, batchId: number | null): Promise<number | null>;
  /** Gives a batch back untried: no attempt is counted. */
  returnBatch(batchId: number): Promise<void>;
  runResult(runId: number): Promise<RunResult>;
  health(): Promise<Health>;
  list(): Promise<unknown[]>;
  /** Counts a request by whoever `key` stands for (never a secret) and says whether it may go on. */
  takeRequest(key: string, requests: number, seconds: number, ip: string | null): Promise<Gate>;
  /** `edge`, `sql` or `raw`, by its definition; null when there is no such job. */
  kindOf(job: string): Promise<string | null>;
}

const transientStatuses = new Set([0, 408, 429, 502, 503, 504, 520, 521, 522, 524]);

/** Connection trouble, overload, restart, serialisation, deadlock: what passes by itself. */
function isTransient(code: string, status: number): boolean {
  if (/^(08...|40001|40P01|53...|55P03|57P0[123])$/.test(code)) return true;
  if (/^PGRST00[0-3]$/.test(code)) return true;
  return transientStatuses.has(status);
}

export interface EngineOptions {
  rpc: Rpc;
  sleep: (ms: number) => Promise<void>;
  random: () => number;
  /** For one try of one call. */
  timeoutMs?: number;
  /** For calls that can be repeated without harm. */
  tries?: number;
}

export function createEngine(options: EngineOptions): Engine {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const tries = options.tries ?? 5;

  async function once(name: string, args: Record<string, unknown>, limitMs: number): Promise<unknown> {
    let answer: RpcAnswer;
    try {
      answer = await withDeadline(limitMs, (signal) => options.rpc(name, args, signal));
    } catch (thrown) {
      throw new EngineError(name, 'connection', true, thrown instanceof Error ? thrown.message : 'no answer');
    }
    if (answer.error === null && answer.status < 400) return answer.data;
    const code = answer.error?.code || (answer.status === 0 ? 'connection' : String(answer.status));
    throw new EngineError(name, code, isTransient(code, answer.status), answer.error?.message ?? 'no answer');
  }

  /**
   * All calls that go through here are idempotent in SQL: those that hand something out carry an id of the call, and the same id
   * gets the same answer. Waits grow with full jitter: up to 0.1, 0.4, 1.6, 5 s.
   */
  async function repeated(
    name: string,
    args: Record<string, unknown>,
    limits: { tries: number; timeoutMs: number } = { tries, timeoutMs },
  ): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await once(name, args, limits.timeoutMs);
      } catch (thrown) {
        if (!(thrown instanceof EngineError) || !thrown.transient || attempt >= limits.tries) throw thrown;
        await options.sleep(options.random() * Math.min(5_000, 100 * 4 ** (attempt - 1)));
      }
    }
  }

  function read<T>(name: string, schema: z.ZodType<T>, data: unknown): T {
    const parsed = schema.safeParse(data);
    if (parsed.success) return parsed.data;
    // Paths only: the values of a batch are secrets and personal data.
    const paths = parsed.error.issues
      .slice(0, 5)
      .map((issue) => `${issue.path.join('.') || 'answer'} (${issue.code})`);
    throw new EngineError(name, 'shape', false, `the answer was not understood at ${paths.join(', ')}`);
  }

  return {
    async answerDoorbell(ticket) {
      // Once only: a repeated answer to a ticket is null. A lost answer costs one ring. pg_net waits 2 s for the 202.
      const data = await once('answer_doorbell', { ticket }, Math.min(timeoutMs, 1_800));
      const answered = read('answer_doorbell', doorbellSchema, data);
      if (answered === null) return null;
      return { drainId: answered.drain_id, job: answered.job, runId: answered.run_id };
    },
    async nextBatch(drainId, job) {
      const data = await repeated('next_batch', { drain_id: drainId, job, request: crypto.randomUUID() });
      return read('next_batch', batchSchema.nullable(), data);
    },
    async nextWake(job) {
      const seconds = read('next_wake', z.number().nullable(), await repeated('next_wake', { job }));
      return seconds === null ? null : Math.max(0, seconds * 1000);
    },
    async beginEffects(batchId, itemIds) {
      const request = crypto.randomUUID();
      const data = await repeated('begin_effects', { batch_id: batchId, items: itemIds, request });
      return read('begin_effects', z.array(id).nullable(), data) ?? [];
    },
    async extendBatch(batchId) {
      return read('extend_batch', z.boolean(), await repeated('extend_batch', { batch_id: batchId }));
    },
    async keepRefreshedToken(batchId, itemId, token, expiresAt) {
      const args = { batch_id: batchId, item_id: itemId, token, expires_at: expiresAt };
      return read('keep_refreshed_token', z.boolean(), await repeated('keep_refreshed_token', args));
    },
    async closeBatch(batchId, outcomes, next) {
      const request = crypto.randomUUID();
      const data = await repeated('close_batch', { batch_id: batchId, outcomes, next, request });
      const closed = read('close_batch', closedSchema, data);
      return { closed: closed.closed, stale: closed.stale, next: closed.next ?? null };
    },
    async recordComments(batchId, tenantId, post) {
      // Twice at most and not for long: it saves calls and links accounts, and the outcomes wait behind it.
      const args = { batch_id: batchId, tenant_id: tenantId, post };
      const data = await repeated('record_comments', args, {
        tries: 2,
        timeoutMs: Math.min(timeoutMs, 5_000),
      });
      return read('record_comments', id.nullable(), data) ?? 0;
    },
    async bundleEmails(batchId, itemIds, sender) {
      const args = { batch_id: batchId, items: itemIds, sender, request: crypto.randomUUID() };
      return read('bundle_emails', bundleSchema.nullable(), await repeated('bundle_emails', args));
    },
    async settleEmails(tenantId, { bundle_id, call, version }, end) {
      const mails = end.outcome === 'accepted' ? end.mails : [];
      const args = {
        ...{ tenant_id: tenantId, bundle_id, call, version, outcome: end.outcome },
        outbox_ids: mails.map(({ outbox_id }) => outbox_id),
        message_ids: mails.map(({ message_id }) => message_id),
      };
      return read('settle_emails', settledSchema, await repeated('settle_emails', args));
    },
    async endDrain(drainId, error) {
      await repeated('end_drain', { drain_id: drainId, error });
    },
    async runNow(job) {
      // Once only: a repeated call would start a second run.
      const started = read('run_now', startedSchema, await once('run_now', { job }, timeoutMs));
      return { runId: started.run_id, drainId: started.drain_id, kind: started.kind };
    },
    async workBatch(drainId, job, batchId) {
      const args = { drain_id: drainId, job, batch_id: batchId };
      const data = await once('work_batch', args, Math.max(timeoutMs, 60_000));
      return read('work_batch', id.nullable(), data);
    },
    async returnBatch(batchId) {
      await repeated('return_batch', { batch_id: batchId });
    },
    async runResult(runId) {
      return read('run_result', runResultSchema, await repeated('run_result', { run_id: runId }));
    },
    async health() {
      return read('health', healthSchema, await once('health', {}, Math.min(timeoutMs, 1_500)));
    },
    async list() {
      return read('list', z.array(z.unknown()), await repeated('list', {}));
    },
    async takeRequest(key, requests, seconds, ip) {
      return read(
        'take_request',
        gateSchema,
        await once('take_request', { key, requests, seconds, ip }, timeoutMs),
      );
    },
    async kindOf(job) {
      const jobs = read('list', z.array(kindSchema), await repeated('list', {}));
      return jobs.find((each) => each.job === job)?.kind ?? null;
    },
  };
}
