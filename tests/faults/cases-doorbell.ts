/** Faults 15 to 22: what can happen to a doorbell on its way. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../engine/support.ts';
import { health, openAlerts } from './cases-cron.ts';
import type { Fault } from './harness.ts';
import { control, type Doorbell } from './rig.ts';

export const doorbellFaults: Fault[] = [
  {
    number: 15,
    name: 'half of all doorbells are lost',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(40);
      await rig.start();
      let lost = 0;
      for (let round = 0; round < 12; round++) {
        await rig.tick();
        for (const each of await rig.doorbells()) {
          if (trial.random.next() < 0.5 || lost === 0) lost++;
          else await rig.ring(each);
        }
        await delay(30);
        // Ten seconds later nobody has answered those.
        await rig.sql`update jobs.drains set rung_at = rung_at - interval '11 seconds' where answered_at is null and ended_at is null`;
      }
      trial.must(lost > 0, 'doorbells were lost');
    },
  },
  {
    number: 16,
    name: 'every doorbell is sent twice, side by side',
    quick: true,
    elsewhere: [
      {
        file: 'tests/standins/net.test.ts',
        test: 'a worker that dies in a batch sends it again: each request arrives twice',
      },
    ],
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(24);
      await rig.start();
      while ((await rig.left()) > 0) {
        await rig.tick();
        for (const each of await rig.doorbells()) {
          const statuses = (await Promise.all([rig.ring(each), rig.ring(each)])).sort();
          trial.is(statuses, [200, 202], 'the answers to one ticket');
        }
        await delay(30);
      }
    },
  },
  {
    number: 17,
    name: 'the worker runs, and its answer to the doorbell is never seen',
    run: async (trial) => {
      const rig = await trial.rig({ maxDrains: 1 });
      await rig.enqueue(12);
      await rig.start();
      await rig.tick();
      for (const each of await rig.doorbells()) {
        const gone = new AbortController();
        const answer = fetch(each.url, {
          method: 'POST',
          headers: each.headers,
          body: each.body,
          signal: gone.signal,
        });
        await until('the doorbell to arrive', async () =>
          rig.calls.some(({ name }) => name === 'answer_doorbell'),
        );
        gone.abort();
        await answer.catch(() => {});
      }
    },
  },
  {
    number: 18,
    name: 'a doorbell is held up in its batch until nobody expects it any more',
    elsewhere: [
      {
        file: 'tests/standins/net.test.ts',
        test: 'one slow request holds its batch: no answer is seen, and nothing else is sent, until it has ended',
      },
    ],
    run: async (trial) => {
      const rig = await trial.rig({ maxDrains: 1 });
      await rig.enqueue(12);
      await rig.start();
      await rig.tick();
      const late = await rig.doorbells();
      await rig.sql`update jobs.drains set rung_at = rung_at - interval '11 seconds'`;
      await rig.tick();
      const again = await rig.doorbells();
      trial.must(late.length === 1 && again.length === 1, 'it was rung again');
      trial.is(await Promise.all(late.map((each) => rig.ring(each))), [200], 'the late one');
      trial.is(await Promise.all(again.map((each) => rig.ring(each))), [202], 'the new one');
    },
  },
  {
    number: 19,
    name: 'the work takes longer than pg_net waits',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 2, batchSize: 4 });
      await control(rig.simulators, '/_script', {
        match: { path: '/messages' },
        times: 2,
        do: { delay_ms: 3_000 },
      });
      await rig.enqueue(4);
      await rig.start();
      const startedAt = performance.now();
      trial.must((await rig.turn()).includes(202), 'answered at once');
      trial.must(performance.now() - startedAt < 2_000, 'within the two seconds that pg_net waits');
      await rig.tick();
      trial.is(
        (await rig.sql`select from jobs.attempts where try > 1`).length,
        0,
        'items tried again while the first is at work',
      );
    },
  },
  {
    number: 20,
    name: 'pg_net sends nothing for a long time',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(24);
      const kept: Doorbell[] = [];
      for (let n = 0; n < 30; n++) {
        await rig.tick();
        kept.push(...(await rig.doorbells()));
        await rig.sql`update jobs.drains set rung_at = rung_at - interval '11 seconds' where ended_at is null`;
        await rig.sql`update jobs.platform set watched_at = '-infinity'`;
      }
      trial.must(
        kept.length <= 62,
        `no more is rung than drains are allowed in each ten seconds (${kept.length})`,
      );
      const { healthy, reasons } = await health(rig);
      trial.must(!healthy && reasons.some((reason) => reason.includes('doorbells')), 'health says so');
      const [row] = await rig.sql<{ n: number }[]>`
        select count(*)::int as n from jobs.alerts where incident like 'doorbells %'`;
      trial.is(row?.n, 1, 'alerts about doorbells');
      await rig.start();
      // All of them arrive at last: those that were given up for lost open nothing.
      const statuses = await Promise.all(kept.map((each) => rig.ring(each)));
      trial.must(statuses.filter((status) => status === 202).length <= 2, 'old tickets open nothing');
      await rig.settle();
      await rig.sql`update jobs.drains set rung_at = rung_at - interval '6 minutes'`;
      await rig.sql`update jobs.platform set watched_at = '-infinity'`;
      await rig.tick();
      trial.is(await openAlerts(rig), [], 'open alerts after it');
    },
  },
  {
    number: 21,
    name: 'the function’s address answers 301, 401, 404, 429, 503, 504 and 546',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(9);
      // In the worker's place, at its address.
      let status = 0;
      const gateway = createServer((request, response) => {
        request.resume();
        const isMoved = status === 301 && request.url !== '/elsewhere';
        response
          .writeHead(status === 301 && !isMoved ? 404 : status, isMoved ? { location: '/elsewhere' } : {})
          .end('{}');
      });
      gateway.listen(Number(new URL(rig.workerUrl).port), '127.0.0.1');
      await once(gateway, 'listening');
      let rung = 0;
      for (status of [301, 401, 404, 429, 503, 504, 546]) {
        await rig.tick();
        for (const each of await rig.doorbells()) {
          // As pg_net does, the redirect is followed: to where there is nothing.
          trial.is(await rig.ring(each), status === 301 ? 404 : status, 'the answer');
          rung++;
        }
        await rig.sql`update jobs.drains set rung_at = rung_at - interval '11 seconds' where ended_at is null`;
      }
      gateway.closeAllConnections();
      gateway.close();
      await once(gateway, 'close');
      trial.must(rung >= 7, 'it was rung again each time');
      trial.is((await rig.sql`select from jobs.attempts`).length, 0, 'attempts');
      trial.is(
        (await rig.sql`select from jobs.items where attempts > 0 or tries > 0`).length,
        0,
        'items that lost an attempt',
      );
    },
  },
  {
    number: 22,
    name: 'a doorbell is altered, unsigned, or replayed',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig({ maxDrains: 1 });
      await rig.enqueue(9);
      await rig.start();
      await rig.tick();
      const [doorbell] = await rig.doorbells();
      if (!doorbell) throw new Error('nothing was rung');
      const other = doorbell.body.replace(/[0-9a-f]{8}-/, '00000000-');
      trial.is(await rig.ring({ ...doorbell, body: other }), 401, 'another ticket under the same signature');
      trial.is(
        await rig.ring({ ...doorbell, headers: { 'content-type': 'application/json' } }),
        401,
        'without a signature',
      );
      trial.is(rig.calls.length, 0, 'calls to the database');
      trial.is(await rig.ring(doorbell), 202, 'as it was sent');
      trial.is(await rig.ring(doorbell), 200, 'and again');
      trial.is(rig.calls.filter(({ name }) => name === 'end_drain').length <= 1, true, 'one drain');
    },
  },
];
