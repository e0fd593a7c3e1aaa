import { describe, expect, test } from 'vitest';
import type { DrainOrder } from '../../functions/_shared/drain.ts';
import { EngineError } from '../../functions/_shared/engine.ts';
import { createKeepAlive } from '../../functions/_shared/runtime.ts';
import { sign } from '../../functions/_shared/signature.ts';
import { createWorker, type WorkerOptions } from '../../functions/worker/handler.ts';
import { drainId, engine, memoryLog, nowMs, previousSecret, secret, ticket } from './fakes.ts';

const seconds = nowMs / 1000;
const goodBody = `{"ticket": "${ticket}"}`;

function worker(changes: Partial<WorkerOptions> = {}) {
  const drained: DrainOrder[] = [];
  const kept: Promise<unknown>[] = [];
  const tickets: string[] = [];
  const { log, lines } = memoryLog([secret]);
  const handle = createWorker({
    engine: engine({
      async answerDoorbell(given) {
        tickets.push(given);
        return tickets.length === 1 ? { drainId, job: 'verify-social-tasks', runId: 5 } : null;
      },
    }),
    drain: async (order) => {
      drained.push(order);
      return { end: 'nothing_awake', batches: 0, items: 0, closed: 0, stale: 0 };
    },
    secrets: [secret, previousSecret],
    now: () => nowMs,
    keepAlive: (work) => kept.push(work),
    log,
    ...changes,
  });
  return { handle, drained, kept, tickets, lines };
}

async function ring(
  changes: {
    body?: string;
    headers?: Record<string, string | null>;
    method?: string;
    key?: string;
    age?: number;
  } = {},
) {
  const body = changes.body ?? goodBody;
  const signature = await sign({
    secret: changes.key ?? secret,
    timestamp: seconds - (changes.age ?? 0),
    body,
  });
  const headers = new Headers({ 'content-type': 'application/json', 'x-onecron-signature': signature });
  for (const [name, value] of Object.entries(changes.headers ?? {})) {
    if (value === null) headers.delete(name);
    else headers.set(name, value);
  }
  const method = changes.method ?? 'POST';
  return new Request('https://x.test/worker', {
    method,
    headers,
    ...(method === 'GET' || method === 'HEAD' ? {} : { body }),
  });
}
const codeOf = async (response: Response) =>
  ((await response.json()) as { error?: { code: string } }).error?.code;

describe('worker', () => {
  test('a signed doorbell is answered with 202, and the drain runs in the background', async () => {
    const { handle, drained, kept } = worker();
    const response = await handle(await ring());
    expect(response.status).toBe(202);
    expect(await response.json()).toMatchObject({ drain_id: drainId, job: 'verify-social-tasks' });
    expect(drained).toEqual([{ drainId, job: 'verify-social-tasks', runId: 5 }]);
    expect(kept).toHaveLength(1);
  });

  test('a second doorbell with the same ticket starts nothing', async () => {
    const { handle, drained } = worker();
    await handle(await ring());
    const response = await handle(await ring());
    expect(response.status).toBe(200);
    expect(drained).toHaveLength(1);
  });

  test('the previous secret is valid during a rotation', async () => {
    const { handle, lines } = worker();
    expect((await handle(await ring({ key: previousSecret }))).status).toBe(202);
    expect(lines.join()).toContain('previous secret');
  });

  test.each([
    ['no signature', { headers: { 'x-onecron-signature': null } }],
    ['an empty signature', { headers: { 'x-onecron-signature': '' } }],
    ['a signature that is none', { headers: { 'x-onecron-signature': 'bogus' } }],
    ['another secret', { key: 'another-secret-another-secret-another' }],
    ['an old signature', { age: 301 }],
    ['a signature from the future', { age: -301 }],
    [
      'the secret as a bearer token',
      { headers: { 'x-onecron-signature': null, authorization: `Bearer ${secret}` } },
    ],
  ])('%s is 401, and the ticket is not touched', async (_name, changes) => {
    const { handle, tickets, lines } = worker();
    const response = await handle(await ring(changes));
    expect(response.status).toBe(401);
    expect(await codeOf(response)).toBe('invalid_signature');
    expect(tickets).toEqual([]);
    expect(lines.join()).not.toContain(secret);
  });

  test('an altered body is 401', async () => {
    const { handle, tickets } = worker();
    const request = await ring();
    const altered = new Request(request.url, {
      method: 'POST',
      headers: request.headers,
      body: goodBody.replace(' ', ''),
    });
    expect((await handle(altered)).status).toBe(401);
    expect(tickets).toEqual([]);
  });

  test.each([
    ['GET', { method: 'GET' }, 405, 'method_not_allowed'],
    ['PUT', { method: 'PUT' }, 405, 'method_not_allowed'],
    ['a text', { headers: { 'content-type': 'text/plain' } }, 415, 'wrong_content_type'],
    ['no type', { headers: { 'content-type': null } }, 415, 'wrong_content_type'],
    [
      'a charset of its own',
      { headers: { 'content-type': 'application/json; charset=utf-7' } },
      415,
      'wrong_content_type',
    ],
    ['too much', { body: `{"ticket":"${'x'.repeat(2_000)}"}` }, 413, 'body_too_large'],
    ['broken JSON', { body: '{"ticket":' }, 400, 'invalid_json'],
    ['a byte order mark', { body: `\ufeff${goodBody}` }, 400, 'invalid_json'],
    ['depth', { body: `${'['.repeat(100)}${']'.repeat(100)}` }, 400, 'invalid_json'],
    ['no ticket', { body: '{}' }, 400, 'invalid_doorbell'],
    ['a ticket that is no uuid', { body: '{"ticket":"1"}' }, 400, 'invalid_doorbell'],
    ['more than a ticket', { body: `{"ticket":"${ticket}","job":"x"}` }, 400, 'invalid_doorbell'],
    ['null', { body: 'null' }, 400, 'invalid_doorbell'],
  ])('%s: refused', async (_name, changes, status, code) => {
    const { handle, tickets } = worker();
    const response = await handle(await ring(changes));
    expect(response.status).toBe(status);
    expect(await codeOf(response)).toBe(code);
    expect(tickets).toEqual([]);
  });

  test('without the database it is 503, and nothing of the error gets out', async () => {
    const failing = engine({
      answerDoorbell: () => Promise.reject(new EngineError('answer_doorbell', '57P01', true, 'canary')),
    });
    const response = await worker({ engine: failing }).handle(await ring());
    expect(response.status).toBe(503);
    expect(await response.text()).not.toMatch(/canary|57P01|answer_doorbell/);
  });

  test('a drain that crashes is logged and rejects nothing', async () => {
    const { handle, kept, lines } = worker({ drain: () => Promise.reject(new Error('crash')) });
    expect((await handle(await ring())).status).toBe(202);
    await expect(Promise.all(kept)).resolves.toBeDefined();
    expect(lines.join()).toContain('drain crashed');
  });
});

describe('keeping the instance alive', () => {
  test('by the Edge Runtime where there is one', () => {
    const waited: Promise<unknown>[] = [];
    const work = Promise.resolve();
    createKeepAlive({ EdgeRuntime: { waitUntil: (given: Promise<unknown>) => waited.push(given) } })(work);
    expect(waited).toEqual([work]);
  });

  test('elsewhere by holding the promise, also one that rejects', async () => {
    const work = Promise.reject(new Error('x'));
    expect(() => createKeepAlive({})(work)).not.toThrow();
    await expect(work).rejects.toThrow();
  });
});
