import { describe, expect, test } from 'vitest';
import { createEngine, EngineError, type Rpc, type RpcAnswer } from '../../functions/_shared/engine.ts';
import { batch, drainId, item, metaCredential, never, ticket, work } from './fakes.ts';

const ok = (data: unknown): RpcAnswer => ({ data, error: null, status: 200 });
const fail = (status: number, code: string, message = 'detail'): RpcAnswer => ({
  data: null,
  error: { code, message },
  status,
});

function engineOver(answers: (RpcAnswer | (() => Promise<RpcAnswer>))[]) {
  const calls: { name: string; args: Record<string, unknown> }[] = [];
  const waits: number[] = [];
  const rpc: Rpc = async (name, args) => {
    const answer = answers[Math.min(calls.length, answers.length - 1)];
    calls.push({ name, args });
    if (answer === undefined) throw new Error('no answer prepared');
    return typeof answer === 'function' ? await answer() : answer;
  };
  const engine = createEngine({
    rpc,
    sleep: async (ms) => {
      waits.push(ms);
    },
    random: () => 1,
    timeoutMs: 50,
  });
  return { engine, calls, waits };
}

describe('engine client', () => {
  test('arguments are named as in SQL', async () => {
    const { engine, calls } = engineOver([
      ok(null),
      ok([5]),
      ok(true),
      ok({ closed: 1, stale: 0, next: null }),
      ok(null),
    ]);
    await engine.nextBatch(drainId, 'a');
    await engine.beginEffects(17, [5]);
    await engine.extendBatch(17);
    await engine.closeBatch(17, [{ item_id: 5, outcome: 'refused', error: 'no' }], true);
    await engine.endDrain(drainId, null);
    expect(calls).toEqual([
      { name: 'next_batch', args: { drain_id: drainId, job: 'a', request: expect.any(String) } },
      { name: 'begin_effects', args: { batch_id: 17, items: [5], request: expect.any(String) } },
      { name: 'extend_batch', args: { batch_id: 17 } },
      {
        name: 'close_batch',
        args: {
          batch_id: 17,
          outcomes: [{ item_id: 5, outcome: 'refused', error: 'no' }],
          next: true,
          request: expect.any(String),
        },
      },
      { name: 'end_drain', args: { drain_id: drainId, error: null } },
    ]);
  });

  test('what was read of a post is told under the names of SQL, and twice at most', async () => {
    const post = { surface: 'instagram' as const, post_id: '1', comments: [], newest: null, complete: true };
    const { engine, calls } = engineOver([ok(3)]);
    expect(await engine.recordComments(17, 't', post)).toBe(3);
    expect(calls).toEqual([{ name: 'record_comments', args: { batch_id: 17, tenant_id: 't', post } }]);
    const shaky = engineOver([fail(503, ''), ok(3)]);
    expect(await shaky.engine.recordComments(17, 't', post)).toBe(3);
    const down = engineOver([fail(503, ''), fail(503, ''), ok(3)]);
    await expect(down.engine.recordComments(17, 't', post)).rejects.toThrow(EngineError);
    expect(down.calls).toHaveLength(2);
  });

  test('the kind of a job is what the list of jobs says', async () => {
    const jobs = ok([
      { job: 'a', kind: 'edge' },
      { job: 'vacuum-items', kind: 'raw', meaning: 'x' },
    ]);
    const { engine, calls } = engineOver([jobs, jobs, ok([{ job: 'a' }])]);
    expect(await engine.kindOf('vacuum-items')).toBe('raw');
    expect(await engine.kindOf('from-tomorrow')).toBeNull();
    await expect(engine.kindOf('a')).rejects.toThrow(EngineError);
    expect(calls[0]).toEqual({ name: 'list', args: {} });
  });

  test('a batch is read with its tenants, credentials and items', async () => {
    const given = batch(17, [work([item(5, { a: 1 })], metaCredential), work([item(6)], null, 'salon')]);
    const { engine } = engineOver([ok(given)]);
    expect(await engine.nextBatch(drainId, 'a')).toEqual(given);
  });

  test('the platform’s own items and credential have no slug and no id', async () => {
    const credential = { ...metaCredential, credential_id: null, source: 'platform' as const };
    const given = batch(17, [{ ...work([item(5)], credential), slug: null }]);
    const { engine } = engineOver([ok(given)]);
    expect(await engine.nextBatch(drainId, 'a')).toEqual(given);
  });

  test('one tenant’s odd credential does not make the batch unreadable', async () => {
    const healthy = work([item(6)], metaCredential);
    const odd = {
      ...work([], null, 'odd'),
      credential: { ...metaCredential, secret: null, account: 'text' },
      items: [{ ...item(5), data: null }],
    };
    const { engine } = engineOver([ok({ ...batch(17, []), tenants: [odd, healthy] })]);
    const read = await engine.nextBatch(drainId, 'a');
    expect(read?.tenants[0]).toMatchObject({
      credential: { secret: {}, account: {} },
      items: [{ item_id: 5, data: {} }],
    });
    expect(read?.tenants[1]).toEqual(healthy);
  });

  test('times as Postgres writes them are understood', async () => {
    const given = batch(17, [], {
      now: '2026-11-22T12:00:00.123456+00:00',
      lease_until: '2026-11-22T13:01:00+01:00',
    });
    const { engine } = engineOver([ok(given)]);
    expect(await engine.nextBatch(drainId, 'a')).toEqual(given);
  });

  test.each([
    ['no answer', fail(0, '')],
    ['bad gateway', fail(503, '')],
    ['no connection', fail(503, 'PGRST001')],
    ['shutting down', fail(500, '57P01')],
    ['serialisation', fail(500, '40001')],
    ['deadlock', fail(500, '40P01')],
    ['too many connections', fail(500, '53300')],
    ['a thrown error', () => Promise.reject(new TypeError('fetch failed'))],
    ['silence', () => never<RpcAnswer>()],
  ])('%s is repeated with growing waits, then succeeds', async (_name, trouble) => {
    const { engine, calls, waits } = engineOver([trouble, trouble, ok(true)]);
    expect(await engine.extendBatch(17)).toBe(true);
    expect(calls).toHaveLength(3);
    expect(waits).toEqual([100, 400]);
  });

  test('trouble that does not pass ends after five tries', async () => {
    const { engine, calls, waits } = engineOver([fail(503, '')]);
    await expect(engine.extendBatch(17)).rejects.toMatchObject({ name: 'EngineError', transient: true });
    expect(calls).toHaveLength(5);
    expect(waits).toEqual([100, 400, 1600, 5000]);
  });

  test('what is wrong for good is not repeated', async () => {
    const { engine, calls } = engineOver([fail(404, 'PGRST202')]);
    await expect(engine.extendBatch(17)).rejects.toMatchObject({ code: 'PGRST202', transient: false });
    expect(calls).toHaveLength(1);
  });

  test('a doorbell and a run are tried once: a second call would not mean the same', async () => {
    const { engine, calls } = engineOver([fail(503, '')]);
    await expect(engine.answerDoorbell(ticket)).rejects.toBeInstanceOf(EngineError);
    await expect(engine.runNow('a')).rejects.toBeInstanceOf(EngineError);
    await expect(engine.health()).rejects.toBeInstanceOf(EngineError);
    expect(calls).toHaveLength(3);
  });

  test('an unknown job keeps its code', async () => {
    const { engine } = engineOver([fail(400, 'P0002')]);
    await expect(engine.runNow('nope')).rejects.toMatchObject({ code: 'P0002', transient: false });
  });

  test('an answer that is not understood is an error that names places, never values', async () => {
    const given = batch(17, [work([item(5)], metaCredential)]) as unknown as Record<string, unknown>;
    const { engine } = engineOver([ok({ ...given, now: 'canary-value' })]);
    const error = await engine.nextBatch(drainId, 'a').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'shape', transient: false });
    expect(String(error)).toContain('now');
    expect(String(error)).not.toContain('canary');
  });
});
