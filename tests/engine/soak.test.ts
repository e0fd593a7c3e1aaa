import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { soak } from './soak.ts';
import {
  type EngineServer,
  effort,
  randomOf,
  rewrite,
  type Sql,
  startEngine,
  takeOutClaimLock,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

test('whatever eight connections do at once, everything that was accepted ends once and the domain hears of it once', async () => {
  const random = randomOf('soak');
  const total: Record<string, number> = {};
  const wrong: { seed: number; findings: string[] }[] = [];
  for (let round = 0; round < 3 * effort; round++) {
    const seed = random.seed + round * 100;
    const { findings, counts } = await soak(engine, seed, 50);
    if (findings.length > 0) wrong.push({ seed, findings });
    for (const [what, times] of Object.entries(counts)) total[what] = (total[what] ?? 0) + times;
  }
  expect(wrong).toEqual([]);
  // What it is there for came up.
  for (const what of [
    'look',
    'closed',
    'stale',
    'returned',
    'reaped',
    'cancelled',
    'begun',
    'batch again',
    'rolled back',
    'killed in the middle',
    'delete tenant',
    'next by apply',
    'tried: retry, not applied',
    'tried: unknown',
    'tried: dead',
    'tried: revived',
    'ended',
  ]) {
    expect(total[what] ?? 0, what).toBeGreaterThan(0);
  }
});

describe('control: the same soak finds that', () => {
  const sabotages: [string, (sql: Sql) => Promise<void>, RegExp][] = [
    [
      'some of what comes back is lost',
      (sql) =>
        rewrite(
          sql,
          'write_settled',
          'left join keyed k on k.tenant_id = b.tenant_id and k.item_id = b.item_id;',
          'left join keyed k on k.tenant_id = b.tenant_id and k.item_id = b.item_id where b.item_id % 3 <> 0;',
        ),
      /ended 0 times|is gone/,
    ],
    [
      'a close ends items of other batches',
      (sql) =>
        rewrite(
          sql,
          'match_outcomes',
          'where e.batch_id = (p_batch).batch_id',
          'where e.job = (p_batch).job',
        ),
      /at 2 places at once|were taken/,
    ],
    [
      'keys are not freed',
      (sql) =>
        rewrite(
          sql,
          'end_items',
          'and k.dedupe_key = freed.dedupe_key',
          'and k.dedupe_key = freed.dedupe_key and false',
        ),
      /is held by item .* which is gone/,
    ],
    [
      'an item that comes back keeps a key that is somebody else’s',
      (sql) =>
        rewrite(
          sql,
          'write_settled',
          'case when k.item_id is not null then b.dedupe_key end',
          'b.dedupe_key',
        ),
      /the key ".*" of item/,
    ],
    [
      'claims do not wait for one another',
      async (sql) => {
        await takeOutClaimLock(sql);
        // They are in the same stretch of the function for longer than by chance.
        await rewrite(sql, 'load_batch', 'begin\n', 'begin\n  perform pg_sleep(0.03);\n');
      },
      /in flight/,
    ],
    [
      'what was sent is sent again when its worker is lost',
      (sql) => rewrite(sql, 'reap', 'v_definition.effects and', 'false and'),
      /was sent, its worker was lost/,
    ],
    [
      'an effect may begin twice',
      (sql) => rewrite(sql, 'begin_effects', 'where x.request = excluded.request', ''),
      /may begin twice/,
    ],
    [
      'the domain is told twice',
      (sql) =>
        rewrite(
          sql,
          'end_items',
          'v_settled := jobs.apply_ended(p_definition, v_settled);',
          'perform jobs.apply_ended(p_definition, v_settled); v_settled := jobs.apply_ended(p_definition, v_settled);',
        ),
      /the domain was told/,
    ],
  ];
  test.each(sabotages)('%s', async (_, sabotage, expected) => {
    const random = randomOf('soak, sabotaged');
    // Some need a coincidence that not every round has.
    let found = '';
    for (let round = 0; round < 12 && !expected.test(found); round++) {
      found = (await soak(engine, random.seed + round * 100, 40, sabotage)).findings.join('\n');
    }
    expect(found).toMatch(expected);
  });
});
