/** Faults 23 to 35: what can happen to the worker. */
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../engine/support.ts';
import type { Fault } from './harness.ts';
import { control, cronSecret, job, type Rig } from './rig.ts';

/** The boundaries of the worker's steps: each call to the database before and after it happened, each call to the provider. */
interface Failpoint {
  call: string;
  nth: number;
  phase: 'before' | 'after';
}

/** Kills the worker at a failpoint of one drain over three tenants. */
function killAt(rig: Rig, point: Failpoint): { reached: () => boolean } {
  let reached = false;
  const kill = async (): Promise<'drop'> => {
    reached = true;
    rig.before = () => undefined;
    rig.after = () => undefined;
    await rig.kill();
    return 'drop';
  };
  const seen = (phase: Failpoint['phase']) => (call: { name: string; nth: number }) =>
    phase === point.phase && call.name === point.call && call.nth === point.nth ? kill() : undefined;
  rig.before = seen('before');
  rig.after = seen('after');
  return { reached: () => reached };
}

async function settleQuietly(rig: Rig, patienceMs = 15_000): Promise<void> {
  const deadline = Date.now() + patienceMs;
  while ((await rig.left()) > 0 && rig.isRunning && Date.now() < deadline) {
    await rig.turn();
    await delay(20);
  }
  // end_drain is a failpoint as well.
  if (rig.isRunning) await delay(100);
}

export const workerFaults: Fault[] = [
  {
    number: 23,
    name: 'kill -9 of the worker at every failpoint: before and after each call to the database, and as the provider answers',
    run: async (trial) => {
      // First without a fault: which calls there are.
      const plain = await trial.rig({ maxDrains: 1 });
      await plain.enqueue(12);
      await plain.start();
      await settleQuietly(plain);
      await trial.done(plain);
      const points: Failpoint[] = plain.calls.flatMap(({ name, nth }) => [
        { call: name, nth, phase: 'before' as const },
        { call: name, nth, phase: 'after' as const },
      ]);
      trial.must(points.length >= 12, `a drain has at least six calls (there were ${points.length / 2})`);
      const missed: string[] = [];
      for (const point of points) {
        const rig = await trial.rig({ maxDrains: 1 });
        await rig.enqueue(12);
        await rig.start();
        const { reached } = killAt(rig, point);
        await settleQuietly(rig);
        if (!reached()) missed.push(`${point.phase} ${point.call} ${point.nth}`);
        await trial.done(rig);
      }
      // What is handed in at once and what later depends on time: the last few calls need not be there in each drain.
      trial.must(missed.length <= 4, `the failpoints were reached (not: ${missed.join(', ')})`);
      // As the provider has carried out the nth message, and nobody was told.
      for (const nth of [1, 2 + trial.random.below(9), 12]) {
        const rig = await trial.rig({ maxDrains: 1 });
        await control(rig.simulators, '/_script', {
          match: { path: '/messages', token: rig.tenants[0]?.token ?? '' },
          times: 'always',
          do: { delay_ms: 300, effect: true },
        });
        await rig.enqueue(12);
        await rig.start();
        void rig.turn();
        await rig.messages(nth);
        await rig.kill();
        await trial.done(rig);
      }
    },
  },
  {
    number: 24,
    name: 'a worker that is stopped for longer than its lease, and then goes on',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await control(rig.simulators, '/_script', {
        match: { path: '/messages' },
        times: 6,
        do: { delay_ms: 400 },
      });
      await rig.enqueue(18);
      await rig.start();
      await rig.turn();
      await rig.messages(2 + trial.random.below(4));
      rig.signal('SIGSTOP');
      // What it had asked for before it was stopped may still be on its way.
      await until('all that it held to be taken back', async () => {
        await rig.pass();
        await rig.tick();
        return (await rig.sql`select from jobs.leases`).length === 0;
      });
      rig.signal('SIGCONT');
      await until('the zombie to end', async () =>
        rig.lines.some((line) => line.includes('drain ended') || line.includes('lease lost')),
      );
    },
  },
  {
    number: 25,
    name: 'the platform ends the instance at any moment (wall clock, CPU), again and again',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 4 });
      await control(rig.simulators, '/_script', {
        match: { path: '/messages' },
        times: 'always',
        do: { delay_ms: 20 },
      });
      await rig.enqueue(60);
      for (let death = 0; death < 4; death++) {
        await rig.start();
        await rig.turn();
        await delay(10 + trial.random.below(250));
        await rig.kill();
        await rig.pass();
        await rig.tick();
      }
    },
  },
  {
    number: 26,
    name: 'the instance is retired right after it said 202: the work in the background is dropped',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(9);
      await rig.start();
      // Whatever the worker calls after its answer never arrives.
      rig.before = (call) => (call.name === 'answer_doorbell' ? undefined : Promise.resolve('drop' as const));
      trial.must((await rig.turn()).includes(202), 'the doorbell was answered');
      await rig.kill();
      rig.before = () => undefined;
      trial.is((await rig.sql`select from jobs.attempts`).length, 0, 'attempts');
    },
  },
  {
    number: 27,
    name: 'an answer of the provider that is far too big (30 MB)',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 2 });
      await control(rig.simulators, '/_script', {
        match: { path: '/messages', nth: 2 },
        times: 2,
        do: { html: 'x'.repeat(30_000_000) },
      });
      await rig.enqueue(8);
      await rig.start();
      await rig.settle();
      trial.must(rig.isRunning, 'the worker lives');
    },
  },
  {
    number: 28,
    name: 'what a handler throws, also what is no Error, and throwing in the handling of errors',
    elsewhere: [
      { file: 'tests/functions/worker.test.ts', test: 'a drain that crashes is logged and rejects nothing' },
      { file: 'tests/functions/drain.test.ts', test: 'one tenant’s failure never stops another’s' },
      {
        file: 'tests/functions/send-notifications.test.ts',
        test: 'a client that throws leaves an unknown, not a retry',
      },
    ],
  },
  {
    number: 29,
    name: 'some items of a batch fail',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig({ batchSize: 30 });
      const numbers = await rig.enqueue(30);
      const failing = new Set([
        trial.random.pick(numbers),
        trial.random.pick(numbers),
        trial.random.pick(numbers),
      ]);
      for (const n of failing) {
        await control(rig.simulators, '/_script', {
          match: { contains: `49151${String(n).padStart(8, '0')}` },
          times: 1,
          do: { status: 503, error: { code: 131016, message: 'not now' } },
        });
      }
      await rig.start();
      await rig.settle();
      const again = await rig.sql<{ n: number }[]>`
        select distinct right(subject_id::text, 12)::int as n from jobs.attempts where try > 1 order by 1`;
      trial.is(
        again.map(({ n }) => n),
        [...failing].sort((a, b) => a - b),
        'tried more than once',
      );
    },
  },
  {
    number: 30,
    name: 'the database goes away in the middle of a batch, when messages have left',
    run: async (trial) => {
      const rig = await trial.rig({ maxDrains: 1 });
      await rig.enqueue(18);
      const from = 1 + trial.random.below(2);
      let gone = false;
      rig.before = (call) => {
        if (call.name === 'close_batch' && call.nth >= from) gone = true;
        return gone ? Promise.resolve({ status: 503, code: 'PGRST001' }) : undefined;
      };
      await rig.start();
      await rig.turn();
      await until(
        'the drain to give up',
        async () => rig.lines.some((line) => line.includes('drain ended')),
        60_000,
      );
      const sent = rig.received().length;
      trial.must(sent > 0, 'messages had left');
      await rig.kill();
      rig.before = () => undefined;
      await rig.settle();
      const unknown = await rig.sql`select from public.told where status = 'unknown'`;
      trial.must(unknown.length > 0, 'what may have left ended as unknown');
    },
  },
  {
    number: 31,
    name: 'many tenants at once in one worker, with answers that take any time',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 8, batchSize: 40 });
      for (const tenant of rig.tenants) {
        await control(rig.simulators, '/_script', {
          match: { token: tenant.token },
          times: 'always',
          do: { delay_ms: trial.random.below(60) },
        });
      }
      await rig.enqueue(96);
      await rig.start();
      await rig.settle();
      trial.is(new Set(rig.received().map((entry) => entry.token)).size, 8, 'tokens used');
    },
  },
  {
    number: 32,
    name: 'a secret is missing from the environment, then the wrong one is set, then it is right',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(6);
      rig.environment = { CRON_SECRET: 'short' };
      await rig.start();
      trial.is([...new Set(await rig.turn())], [503], 'without a secret the doorbell is answered');
      await rig.kill();
      rig.environment = { CRON_SECRET: 'an-Other-Zt1Wm5Rv7Xb2Nc4Pd6Sf9Hg0Jl-one' };
      await rig.start();
      await rig.pass();
      trial.is([...new Set(await rig.turn())], [401], 'with the wrong secret the doorbell is answered');
      trial.is((await rig.sql`select from jobs.attempts`).length, 0, 'attempts');
      trial.is(
        (await rig.sql`select from jobs.items where attempts > 0`).length,
        0,
        'items that lost an attempt',
      );
      await rig.kill();
      rig.environment = {};
    },
  },
  {
    number: 33,
    name: '200 doorbells within one second, to a worker that is just starting',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 5, cap: 6 });
      await rig.enqueue(100);
      for (let index = 0; index < 200; index++)
        await rig.sql`select jobs.ring_once(${job}, ${rig.workerUrl}, ${cronSecret}, clock_timestamp())`;
      const doorbells = await rig.doorbells();
      trial.is(doorbells.length, 200, 'doorbells');
      await rig.start();
      await Promise.all(doorbells.map((each) => rig.ring(each)));
      const [row] = await rig.admin<{ n: number }[]>`
        select count(*)::int as n from pg_stat_activity where datname = ${rig.scratch.name}`;
      trial.must((row?.n ?? 99) <= 16, `connections stay within the pools (${row?.n})`);
      await rig.settle(90_000);
    },
  },
  {
    number: 34,
    name: 'old code and new data: a message that this worker cannot read, a job that it does not know',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(6);
      const odd = await rig.enqueue(2, { data: { text: { version: 2 } } });
      await rig.sql`insert into jobs.definitions (job, kind, meaning) values ('of-tomorrow', 'edge', 'not deployed yet')`;
      await rig.sql`select jobs.enqueue('of-tomorrow', ${rig.tenants[0]?.id ?? ''}::uuid)`;
      await rig.start();
      await until('the known job to be done', async () => {
        await rig.turn();
        return (await rig.left()) === 0;
      });
      const dead = await rig.sql<{ n: number; last_error: string }[]>`
        select right(subject_id::text, 12)::int as n, last_error from jobs.dead_items order by 1`;
      trial.is(
        dead.map(({ n }) => n),
        odd,
        'dead',
      );
      trial.must(
        dead.every(({ last_error }) => last_error.includes('text')),
        'the reason names the field',
      );
      await until('the unknown job to be rung', async () => {
        await rig.turn();
        return (
          (await rig.sql`select from jobs.drains where job = 'of-tomorrow' and error like '%does not know%'`)
            .length > 0
        );
      });
      trial.is(
        (await rig.sql`select attempts from jobs.items where job = 'of-tomorrow'`)[0]?.attempts,
        0,
        'its attempts',
      );
      await rig.sql`select jobs.cancel('of-tomorrow', ${rig.tenants[0]?.id ?? ''}::uuid, dry_run => false)`;
    },
  },
  {
    number: 35,
    name: 'the worker’s clock is wrong by ten minutes',
    elsewhere: [
      {
        file: 'tests/functions/drain.test.ts',
        test: 'the job sees the database’s time, however wrong the worker’s clock is',
      },
      {
        file: 'tests/functions/send-notifications.test.ts',
        test: 'after send_before by the database’s clock nothing is begun or sent',
      },
    ],
    run: async (trial) => {
      // At the edge: a doorbell that was signed long ago opens nothing, although its signature is right.
      const rig = await trial.rig();
      await rig.enqueue(3);
      await rig.sql`select jobs.ring_once(${job}, ${rig.workerUrl}, ${cronSecret}, clock_timestamp() - interval '10 minutes')`;
      await rig.start();
      trial.is(
        await Promise.all((await rig.doorbells()).map((each) => rig.ring(each))),
        [401],
        'an old doorbell',
      );
    },
  },
];
