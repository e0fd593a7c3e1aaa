// The door for people and monitors: run a job now, list the jobs, ask for health.
import { z } from 'zod';
import {
  answer,
  isJsonType,
  methodNotAllowed,
  parseBody,
  pathInside,
  readBody,
  refuse,
} from '../_shared/answer.ts';
import type { Drain } from '../_shared/drain.ts';
import { type Engine, EngineError, type Health } from '../_shared/engine.ts';
import { proxyAddressHeader } from '../_shared/env.ts';
import { describeError } from '../_shared/errors.ts';
import { withDeadline } from '../_shared/http.ts';
import type { Log } from '../_shared/log.ts';
import { indexOfSecret } from '../_shared/signature.ts';

export interface JobsOptions {
  engine: Engine;
  drain: Drain;
  /** The current cron secret, then the previous one during a rotation. */
  secrets: readonly string[];
  now: () => number;
  log: Log;
  /** A run in the foreground takes no new batch after this; hosted functions must answer within 150 s. */
  foregroundMs?: number;
  healthTimeoutMs?: number;
  /** The header in which the proxy says who calls. It must be one that the proxy sets or appends to, whatever the caller sends. */
  addressHeader?: string;
}

const body = z.strictObject({ job: z.string().min(1).max(100).optional() });
const jobName = /^[a-z][a-z0-9-]{0,99}$/;
const largestBody = 4_096;
const healthCacheMs = 1_000;
const requestsPerMinute = 60;

export function createJobs(options: JobsOptions): (request: Request) => Promise<Response> {
  const { engine, log } = options;
  const foregroundMs = options.foregroundMs ?? 50_000;
  const healthTimeoutMs = options.healthTimeoutMs ?? 1_500;
  const addressHeader = options.addressHeader ?? proxyAddressHeader;

  let cached: { at: number; health: Promise<Health> } | undefined;

  async function readHealth(): Promise<Health> {
    try {
      return await withDeadline(healthTimeoutMs, () => engine.health());
    } catch (thrown) {
      log.error('health check failed', describeError(thrown));
      const reasons = ['The database does not answer.'];
      return { healthy: false, reasons, checked_at: new Date(options.now()).toISOString() };
    }
  }

  /** One look at the database per second, however many monitors ask. */
  async function health(): Promise<Response> {
    if (cached === undefined || options.now() - cached.at >= healthCacheMs) {
      cached = { at: options.now(), health: readHealth() };
    }
    const found = await cached.health;
    return answer(found.healthy ? 200 : 503, found);
  }

  /** Undefined for who may enter; else the refusal. */
  async function turnedAway(request: Request): Promise<Response | undefined> {
    const match = /^Bearer ([\x21-\x7e]+)$/i.exec(request.headers.get('authorization') ?? '');
    const index = match?.[1] === undefined ? -1 : await indexOfSecret(match[1], options.secrets);
    if (index < 0) {
      return refuse(401, 'unauthorized', 'Send the cron secret: Authorization: Bearer <CRON_SECRET>.', {
        'www-authenticate': 'Bearer',
      });
    }
    if (index > 0) log.warn('called with the previous secret');
    // Counted per secret, so that one that leaked cannot keep the other from working. Where proxies write a list, whatever the
    // caller sent stands before the entry of the proxy itself.
    const address = request.headers.get(addressHeader)?.split(',').at(-1)?.trim() || null;
    const gate = await engine.takeRequest(
      `jobs/${index === 0 ? 'current' : 'previous'}`,
      requestsPerMinute,
      60,
      address,
    );
    if (gate.reason === 'address') {
      return refuse(403, 'address_not_allowed', 'This address is not on the list jobs_ip_allow_list.');
    }
    if (!gate.allowed) {
      const seconds = Math.max(1, Math.ceil(gate.retry_after_seconds ?? 60));
      return refuse(429, 'too_many_requests', `Too many requests. Come again in ${seconds} s.`, {
        'retry-after': String(seconds),
      });
    }
    return undefined;
  }

  /** The job that a POST names in its path, its body, or both. */
  async function jobOf(request: Request, inPath: string | undefined): Promise<string | Response> {
    const raw = await readBody(request, largestBody);
    if (!raw.ok) return raw.response;
    let named: string | undefined;
    if (raw.text !== '') {
      if (!isJsonType(request.headers.get('content-type'))) {
        return refuse(415, 'wrong_content_type', 'Send the body as application/json, or no body.');
      }
      const json = parseBody(raw.text);
      if (!json.ok) return json.response;
      const parsed = body.safeParse(json.value);
      if (!parsed.success)
        return refuse(400, 'invalid_body', 'Send {"job": "<name>"}, or {} with the job in the path.');
      named = parsed.data.job;
    }
    if (inPath !== undefined && named !== undefined && inPath !== named) {
      return refuse(400, 'two_jobs', 'The path and the body name different jobs. Name one.');
    }
    const job = inPath ?? named;
    if (job === undefined) return refuse(400, 'no_job', 'Name the job: POST /functions/v1/jobs/<job>.');
    return jobName.test(job) ? job : unknownJob();
  }

  async function run(job: string): Promise<Response> {
    let started: Awaited<ReturnType<Engine['runNow']>>;
    try {
      started = await engine.runNow(job);
    } catch (thrown) {
      if (thrown instanceof EngineError && thrown.code === 'P0002') return unknownJob();
      if (thrown instanceof EngineError && thrown.code === '55000') {
        return refuse(409, 'job_paused', 'This job, or all background work, is paused. Resume it first.');
      }
      throw thrown;
    }
    if (started.kind === 'sql') await workInDatabase(started.drainId, job);
    else {
      const { drainId, runId } = started;
      await options.drain({ drainId, job, runId, budgetMs: foregroundMs });
    }
    return answer(200, await engine.runResult(started.runId));
  }

  /** A job without a provider is done by the database; here it is only driven, item by item. */
  async function workInDatabase(drainId: string, job: string): Promise<void> {
    const until = options.now() + foregroundMs;
    let failure: string | null = 'The call of jobs.work_batch failed.';
    try {
      let batchId = await engine.workBatch(drainId, job, null);
      while (batchId !== null && options.now() < until)
        batchId = await engine.workBatch(drainId, job, batchId);
      if (batchId !== null) await engine.returnBatch(batchId);
      failure = null;
    } finally {
      await engine
        .endDrain(drainId, failure)
        .catch((thrown) => log.error('end_drain failed', describeError(thrown)));
    }
  }

  async function route(request: Request): Promise<Response> {
    const path = pathInside('jobs', request.url);
    if (path === null || path.length > 1) return notFound();
    const [name] = path;
    if (name === 'health') {
      if (request.method !== 'GET' && request.method !== 'HEAD') return methodNotAllowed('GET, HEAD');
      return await health();
    }
    const allowed = name === undefined ? ['GET', 'POST'] : ['POST'];
    if (!allowed.includes(request.method)) return methodNotAllowed(allowed.join(', '));
    const refusal = await turnedAway(request);
    if (refusal !== undefined) return refusal;
    if (request.method === 'GET') return answer(200, { jobs: await engine.list() });
    const job = await jobOf(request, name);
    return job instanceof Response ? job : await run(job);
  }

  return async (request) => {
    try {
      return await route(request);
    } catch (thrown) {
      log.error('request failed', describeError(thrown));
      if (thrown instanceof EngineError && thrown.transient) {
        return refuse(503, 'database_unavailable', 'The database did not answer. Try again in a moment.', {
          'retry-after': '5',
        });
      }
      return refuse(500, 'internal', 'Something went wrong here. The function’s log says what.');
    }
  };
}

/** What answers while the configuration is wrong: health says so, everything else refuses. */
export function createUnconfiguredJobs(
  problems: readonly string[],
  refuseAll: () => Response,
  now: () => number,
): (request: Request) => Response {
  return (request) => {
    const path = pathInside('jobs', request.url);
    if (path?.length !== 1 || path[0] !== 'health') return refuseAll();
    return answer(503, { healthy: false, reasons: problems, checked_at: new Date(now()).toISOString() });
  };
}

function notFound(): Response {
  return refuse(
    404,
    'not_found',
    'Use /functions/v1/jobs, /functions/v1/jobs/<job> or /functions/v1/jobs/health.',
  );
}

function unknownJob(): Response {
  return refuse(404, 'unknown_job', 'There is no job of this name. GET /functions/v1/jobs lists the jobs.');
}
