import { describe, expect, test } from 'vitest';
import type { DrainOrder } from '../../functions/_shared/drain.ts';
import { type Engine, EngineError, type Health } from '../../functions/_shared/engine.ts';
import { createJobs, createUnconfiguredJobs, type JobsOptions } from '../../functions/jobs/handler.ts';
import { drainId, engine, memoryLog, never, nowMs, previousSecret, secret } from './fakes.ts';

const result = {
  message: 'ok',
  results: { processed: 3, errors: [] },
  timestamp: '2026-11-22T12:00:00+00:00',
};
const healthy: Health = { healthy: true, reasons: [], checked_at: '2026-11-22T12:00:00Z' };

function jobs(changes: Partial<Engine> = {}, options: Partial<JobsOptions> = {}) {
  const drained: DrainOrder[] = [];
  const started: string[] = [];
  const clock = { ms: nowMs };
  const { log, lines } = memoryLog();
  const handle = createJobs({
    engine: engine({
      async runNow(job) {
        started.push(job);
        return { runId: 5, drainId, kind: 'edge' };
      },
      runResult: async () => result,
      list: async () => [{ name: 'verify-social-tasks', paused: false }],
      health: async () => healthy,
      ...changes,
    }),
    drain: async (order) => {
      drained.push(order);
      return { end: 'nothing_awake', batches: 1, items: 3, closed: 3, stale: 0 };
    },
    secrets: [secret, previousSecret],
    now: () => clock.ms,
    log,
    healthTimeoutMs: 40,
    ...options,
  });
  const call = (
    method: string,
    path: string,
    init: { body?: string; headers?: Record<string, string>; key?: string | null } = {},
  ) => {
    const headers = new Headers(init.headers);
    const key = init.key === undefined ? secret : init.key;
    if (key !== null) headers.set('authorization', `Bearer ${key}`);
    return handle(
      new Request(`https://x.test${path}`, {
        method,
        headers,
        ...(init.body === undefined ? {} : { body: init.body }),
      }),
    );
  };
  return { call, drained, started, clock, lines };
}
const asJson = { 'content-type': 'application/json' };
const codeOf = async (response: Response) =>
  ((await response.json()) as { error?: { code: string } }).error?.code;

describe('running a job by hand', () => {
  test.each([
    '/functions/v1/jobs/verify-social-tasks',
    '/jobs/verify-social-tasks',
    '/jobs/verify-social-tasks/',
  ])('POST %s drains in the foreground and answers in the one shape', async (path) => {
    const { call, drained } = jobs();
    const response = await call('POST', path);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(result);
    expect(drained).toEqual([{ drainId, job: 'verify-social-tasks', runId: 5, budgetMs: 50_000 }]);
  });

  test.each(['/functions/v1/jobs', '/jobs'])('POST %s takes the job from the body', async (path) => {
    const { call, started } = jobs();
    const response = await call('POST', path, { body: '{"job":"cleanup-data"}', headers: asJson });
    expect(response.status).toBe(200);
    expect(started).toEqual(['cleanup-data']);
  });

  test('an empty body, {} and the same job twice are fine; two jobs are not', async () => {
    const { call } = jobs();
    const body = async (text: string) =>
      (await call('POST', '/jobs/a', { body: text, headers: asJson })).status;
    expect(await body('{}')).toBe(200);
    expect(await body('{"job":"a"}')).toBe(200);
    expect(await body('{"job":"b"}')).toBe(400);
  });

  test('a SQL job is done by the database, item by item, and its drain is ended', async () => {
    const ended: (string | null)[] = [];
    const claims = [1, 2, 3, null];
    const worked: (number | null)[] = [];
    const { call, drained } = jobs({
      runNow: async () => ({ runId: 5, drainId, kind: 'sql' }),
      workBatch: async (_drainId, _job, batchId) => {
        worked.push(batchId);
        return claims.shift() ?? null;
      },
      endDrain: async (_id, error) => {
        ended.push(error);
      },
    });
    expect((await call('POST', '/jobs/subscription-expiry')).status).toBe(200);
    expect(drained).toEqual([]);
    // Each call works off what the one before has claimed.
    expect(worked).toEqual([null, 1, 2, 3]);
    expect(ended).toEqual([null]);
  });

  test('a SQL job that takes too long answers with what was done so far', async () => {
    const clock = { ms: nowMs };
    const returned: number[] = [];
    let worked = 0;
    const { call } = jobs(
      {
        runNow: async () => ({ runId: 5, drainId, kind: 'sql' }),
        workBatch: async () => {
          worked += 1;
          clock.ms += 20_000;
          return worked;
        },
        returnBatch: async (batchId) => {
          returned.push(batchId);
        },
        endDrain: async () => {},
      },
      { now: () => clock.ms },
    );
    expect((await call('POST', '/jobs/cleanup-data')).status).toBe(200);
    expect(worked).toBe(3);
    // What was claimed and not tried.
    expect(returned).toEqual([3]);
  });

  test('a SQL job that fails still ends its drain', async () => {
    const ended: (string | null)[] = [];
    const { call } = jobs({
      runNow: async () => ({ runId: 5, drainId, kind: 'sql' }),
      workBatch: () => Promise.reject(new EngineError('work_batch', '57014', false, 'canary')),
      endDrain: async (_id, error) => {
        ended.push(error);
      },
    });
    expect((await call('POST', '/jobs/cleanup-data')).status).toBe(500);
    expect(ended).toEqual(['The call of jobs.work_batch failed.']);
  });

  test('a paused job is 409', async () => {
    const { call } = jobs({
      runNow: () => Promise.reject(new EngineError('run_now', '55000', false, 'paused')),
    });
    const response = await call('POST', '/jobs/a');
    expect(response.status).toBe(409);
    expect(await codeOf(response)).toBe('job_paused');
  });

  test('an unknown job is 404 and says where the jobs are listed', async () => {
    const { call } = jobs({ runNow: () => Promise.reject(new EngineError('run_now', 'P0002', false, 'no')) });
    const response = await call('POST', '/jobs/nope');
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({
      error: { code: 'unknown_job', message: expect.stringContaining('GET /functions/v1/jobs') },
    });
  });

  test.each(['/jobs/a%2fb', '/jobs/%00', '/jobs/..%2f..', '/jobs/A', `/jobs/${'a'.repeat(101)}`])(
    'the name in %s never reaches the database',
    async (path) => {
      const { call, started } = jobs();
      expect((await call('POST', path)).status).toBe(404);
      expect(started).toEqual([]);
    },
  );

  test.each([
    ['text', { body: 'x', headers: { 'content-type': 'text/plain' } }, 415, 'wrong_content_type'],
    [
      'a form',
      { body: 'job=a', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      415,
      'wrong_content_type',
    ],
    ['too much', { body: `"${'x'.repeat(5_000)}"`, headers: asJson }, 413, 'body_too_large'],
    ['broken JSON', { body: '{', headers: asJson }, 400, 'invalid_json'],
    ['a list', { body: '[]', headers: asJson }, 400, 'invalid_body'],
    ['null', { body: 'null', headers: asJson }, 400, 'invalid_body'],
    ['an unknown key', { body: '{"job":"a","force":true}', headers: asJson }, 400, 'invalid_body'],
    ['a number', { body: '{"job":5}', headers: asJson }, 400, 'invalid_body'],
    ['no job', { body: '{}', headers: asJson }, 400, 'no_job'],
    ['no body', {}, 400, 'no_job'],
  ])('%s: refused', async (_name, init, status, code) => {
    const { call, started } = jobs();
    const response = await call('POST', '/jobs', init);
    expect(response.status).toBe(status);
    expect(await codeOf(response)).toBe(code);
    expect(started).toEqual([]);
  });

  test('a failing database is 503, a failure of ours 500, and neither tells more', async () => {
    const gone = jobs({
      runNow: () => Promise.reject(new EngineError('run_now', '57P01', true, 'canary terminating')),
    });
    const broken = jobs({
      runNow: () => Promise.reject(new EngineError('run_now', '42883', false, 'canary function')),
    });
    for (const [{ call }, status] of [
      [gone, 503],
      [broken, 500],
    ] as const) {
      const response = await call('POST', '/jobs/a');
      expect(response.status).toBe(status);
      expect(await response.text()).not.toMatch(/canary|run_now|42883|57P01/);
    }
  });
});

describe('who may enter', () => {
  test.each([
    ['no secret', null],
    ['another secret', 'another-secret-another-secret-another'],
    ['a part of the secret', secret.slice(0, -1)],
    ['more than the secret', `${secret}x`],
    ['nothing after Bearer', ''],
  ])('%s is 401 for running and listing, whatever else is wrong', async (_name, key) => {
    const { call, started } = jobs();
    for (const [method, path] of [
      ['POST', '/jobs/a'],
      ['POST', '/jobs'],
      ['GET', '/jobs'],
      ['POST', '/jobs/nope'],
    ] as const) {
      const response = await call(method, path, { key });
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
    }
    expect(started).toEqual([]);
  });

  test('the current and the previous secret enter', async () => {
    const { call, lines } = jobs();
    expect((await call('GET', '/jobs')).status).toBe(200);
    expect((await call('GET', '/jobs', { key: previousSecret })).status).toBe(200);
    expect(lines.join()).toContain('previous secret');
    expect(lines.join()).not.toContain(previousSecret);
  });

  test('too many requests are 429 with the time to come again, and are counted per secret', async () => {
    const keys: string[] = [];
    const { call, started } = jobs({
      takeRequest: async (key) => {
        keys.push(key);
        return { allowed: false, reason: 'rate', retry_after_seconds: 12.3 };
      },
    });
    const refused = await call('POST', '/jobs/verify-social-tasks');
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('13');
    await call('GET', '/jobs', { key: previousSecret });
    expect(keys).toEqual(['jobs/current', 'jobs/previous']);
    expect(started).toEqual([]);
  });

  test('an address that is not on the list is 403; the address is the one that the proxy gives', async () => {
    const addresses: (string | null)[] = [];
    const { call } = jobs({
      takeRequest: async (_key, _requests, _seconds, ip) => {
        addresses.push(ip);
        return { allowed: false, reason: 'address', retry_after_seconds: null };
      },
    });
    expect((await call('GET', '/jobs', { headers: { 'cf-connecting-ip': '203.0.113.9' } })).status).toBe(403);
    expect((await call('GET', '/jobs')).status).toBe(403);
    // What the caller itself can write says nothing.
    await call('GET', '/jobs', { headers: { 'x-forwarded-for': '203.0.113.9', 'x-real-ip': '203.0.113.9' } });
    expect(addresses).toEqual(['203.0.113.9', null, null]);
  });

  test('behind another proxy it is what that proxy wrote last, not what the caller wrote before', async () => {
    const addresses: (string | null)[] = [];
    const { call } = jobs(
      {
        takeRequest: async (_key, _requests, _seconds, ip) => {
          addresses.push(ip);
          return { allowed: false, reason: 'address', retry_after_seconds: null };
        },
      },
      { addressHeader: 'x-forwarded-for' },
    );
    await call('GET', '/jobs', { headers: { 'x-forwarded-for': '203.0.113.9, 198.51.100.7' } });
    await call('GET', '/jobs', { headers: { 'cf-connecting-ip': '203.0.113.9' } });
    expect(addresses).toEqual(['198.51.100.7', null]);
  });

  test('the list of jobs', async () => {
    expect(await (await jobs().call('GET', '/functions/v1/jobs')).json()).toEqual({
      jobs: [{ name: 'verify-social-tasks', paused: false }],
    });
  });

  test.each([
    ['DELETE', '/jobs', 'GET, POST'],
    ['GET', '/jobs/verify-social-tasks', 'POST'],
    ['PUT', '/jobs/verify-social-tasks', 'POST'],
    ['POST', '/jobs/health', 'GET, HEAD'],
  ])('%s %s is 405 and names what is allowed', async (method, path, allow) => {
    const response = await jobs().call(method, path);
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allow);
  });

  test.each(['/', '/other', '/jobs/a/b', '/functions/v1/other', '/functions/v2/jobs', '/jobsx'])(
    '%s is 404',
    async (path) => {
      expect((await jobs().call('POST', path)).status).toBe(404);
    },
  );
});

describe('health', () => {
  test.each(['/functions/v1/jobs/health', '/jobs/health'])(
    'GET %s is 200 without a secret when all is well',
    async (path) => {
      const response = await jobs().call('GET', path, { key: null });
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual(healthy);
    },
  );

  test('an unhealthy engine is 503, with the reasons', async () => {
    const sick = { healthy: false, reasons: ['No tick for 5 minutes.'], checked_at: '2026-11-22T12:00:00Z' };
    const response = await jobs({ health: async () => sick }).call('GET', '/jobs/health', { key: null });
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual(sick);
  });

  test('a database that hangs or fails is 503 within the time, and tells nothing more', async () => {
    for (const health of [
      () => never<Health>(),
      () => Promise.reject(new EngineError('health', '57P01', true, 'canary')),
    ]) {
      const before = performance.now();
      const response = await jobs({ health }).call('GET', '/jobs/health', { key: null });
      expect(performance.now() - before).toBeLessThan(1_000);
      expect(response.status).toBe(503);
      expect(await response.json()).toEqual({
        healthy: false,
        reasons: ['The database does not answer.'],
        checked_at: new Date(nowMs).toISOString(),
      });
    }
  });

  test('the database is asked once a second, however many ask', async () => {
    let asked = 0;
    const health = async () => {
      asked += 1;
      return healthy;
    };
    const { call, clock } = jobs({ health });
    await Promise.all(Array.from({ length: 20 }, () => call('GET', '/jobs/health', { key: null })));
    clock.ms += 999;
    await call('GET', '/jobs/health', { key: null });
    expect(asked).toBe(1);
    clock.ms += 1;
    await call('GET', '/jobs/health', { key: null });
    expect(asked).toBe(2);
  });

  test('without a configuration health says what is missing, and everything else is refused', async () => {
    const handle = createUnconfiguredJobs(
      ['CRON_SECRET is missing.'],
      () => new Response('no', { status: 503 }),
      () => nowMs,
    );
    const health = handle(new Request('https://x.test/jobs/health'));
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({ healthy: false, reasons: ['CRON_SECRET is missing.'] });
    expect(handle(new Request('https://x.test/jobs/a', { method: 'POST' })).status).toBe(503);
  });
});
