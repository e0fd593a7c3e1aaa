/** Faults 36 to 50: what can happen to the database and on the way to it. */
import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { allDone, claim, close, itemsOf, openDrain, until } from '../engine/support.ts';
import { restoreWhileMessagesLeave } from './backup.ts';
import type { Fault } from './harness.ts';
import { job, subjectOf } from './rig.ts';

export const databaseFaults: Fault[] = [
  {
    number: 36,
    name: 'connections are terminated at random',
    elsewhere: [
      {
        file: 'tests/engine/crashes.test.ts',
        test: 'backends that are terminated in the middle of claims and closes lose nothing and do nothing twice',
      },
    ],
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 4 });
      await rig.enqueue(60);
      await rig.start();
      let terminated = 0;
      for (let blow = 0; blow < 12; blow++) {
        await rig.turn();
        await delay(trial.random.below(60));
        const rows = await rig.admin`
          select pg_terminate_backend(a.pid) from pg_stat_activity a
          where a.datname = ${rig.scratch.name} and a.query like '%jobs.%=> $1%' and a.pid <> pg_backend_pid()
          order by a.state = 'active' desc, random() limit 1`;
        terminated += rows.length;
      }
      trial.must(terminated > 0, 'some were terminated');
    },
  },
  {
    number: 37,
    name: 'the server is stopped at once, under load',
    elsewhere: [
      {
        file: 'tests/engine/crashes.test.ts',
        test: 'what was accepted before the crash is worked on after it',
      },
    ],
  },
  {
    number: 38,
    name: 'a call is carried out and its answer is lost: next_batch, begin_effects, close_batch',
    quick: true,
    elsewhere: [
      { file: 'tests/engine/crashes.test.ts', test: 'the answer to a call is lost, although it happened' },
    ],
    run: async (trial) => {
      for (const name of ['next_batch', 'begin_effects', 'close_batch']) {
        const rig = await trial.rig({ maxDrains: 1 });
        await rig.enqueue(12);
        let lost = 0;
        rig.after = (call) => {
          if (call.name !== name || lost > 0) return undefined;
          lost++;
          return Promise.resolve({ status: 504, code: 'PGRST000' });
        };
        await rig.start();
        const startedAt = Date.now();
        await rig.settle();
        trial.is(lost, 1, `lost answers of ${name}`);
        // Not by the lease, which would take half a minute: the repeated call is answered as the first one.
        trial.must(
          Date.now() - startedAt < 20_000,
          `after a lost answer of ${name} nothing waits for a lease`,
        );
        const [row] = await rig.sql<{ n: number }[]>`
          select count(*)::int as n from jobs.attempts where outcome in ('lost', 'unknown')`;
        trial.is(row?.n, 0, `attempts that were lost with the answer of ${name}`);
        await trial.done(rig);
      }
    },
  },
  {
    number: 39,
    name: 'a connection falls silent in both directions',
    run: async (trial) => {
      const rig = await trial.rig({ proxied: true, maxDrains: 1 });
      await rig.enqueue(12);
      const worker = postgres(rig.proxy?.url ?? '', { max: 1, onnotice: () => {} });
      const drain = await openDrain(rig.sql, job);
      const batch = await claim(worker, drain, job);
      if (!batch) throw new Error('nothing to claim');
      rig.proxy?.silence(true);
      const silent = close(worker, batch.batch_id, allDone(batch)).catch(() => undefined);
      // Its client gives up; the lease brings everything back to others.
      await rig.pass();
      await rig.tick();
      trial.is((await rig.sql`select from jobs.leases`).length, 0, 'items still leased');
      rig.proxy?.silence(false);
      await worker.end({ timeout: 0 });
      await silent;
      trial.must(itemsOf(batch).length > 0, 'it held items');
    },
  },
  {
    number: 40,
    name: 'every answer of the database takes 200 ms longer and comes in pieces',
    run: async (trial) => {
      const rig = await trial.rig({ proxied: true, tenants: 3, batchSize: 20 });
      rig.proxy?.slow({ delayMs: 200, pieceBytes: 500 });
      await rig.enqueue(20);
      await rig.start();
      await rig.settle(90_000);
      trial.is(
        (await rig.sql`select from jobs.attempts where outcome <> 'done'`).length,
        0,
        'attempts that were not done',
      );
    },
  },
  {
    number: 41,
    name: 'idle sessions use up all connections',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(12);
      await rig.admin.unsafe(`alter database "${rig.scratch.name}" connection limit 5`);
      const leaked = Array.from({ length: 6 }, () => rig.scratch.connect());
      await Promise.allSettled(leaked.map((sql) => sql`select 1`));
      await rig.start();
      await rig.turn();
      await delay(500);
      trial.is(
        (await rig.sql`select from jobs.items where attempts > 0`).length,
        0,
        'items that lost an attempt',
      );
      await rig.admin.unsafe(`alter database "${rig.scratch.name}" connection limit -1`);
      await Promise.all(leaked.map((sql) => sql.end({ timeout: 1 })));
      await rig.kill();
    },
  },
  {
    number: 42,
    name: 'a client is killed while it holds the claim lock',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(9);
      const holder = await rig.scratch.connect().reserve();
      const [own] = await holder<{ pid: number }[]>`select pg_backend_pid() as pid`;
      await holder`begin`;
      await holder`select jobs.claim_lock(${job})`;
      const drain = await openDrain(rig.sql, job);
      const other = rig.scratch.connect();
      const waiting = claim(other, drain, job);
      await until(
        'the claim to wait',
        async () =>
          (await rig.admin`select from pg_locks where locktype = 'advisory' and not granted`).length > 0,
      );
      await rig.admin`select pg_terminate_backend(${own?.pid ?? 0})`;
      trial.must((await waiting) !== null, 'the lock is free at once');
      const sessionLocks = await rig.sql`
        select p.proname from pg_proc p where p.pronamespace in ('jobs'::regnamespace, 'private'::regnamespace, 'public'::regnamespace)
          and p.prosrc ~ 'pg_(try_)?advisory_lock'`;
      trial.is(
        sessionLocks.map((row) => row.proname),
        [],
        'functions that take locks of the session',
      );
      await rig.pass();
    },
  },
  {
    number: 43,
    name: 'closes, claims and enqueues of the same lanes in opposite orders',
    run: async (trial) => {
      const rig = await trial.rig({ tenants: 6, batchSize: 12 });
      await rig.enqueue(60);
      const errors: string[] = [];
      const drain = async (forwards: boolean) => {
        const sql = rig.scratch.connect();
        const id = await openDrain(rig.sql, job);
        for (let round = 0; round < 12; round++) {
          try {
            const batch = await claim(sql, id, job);
            if (!batch) continue;
            const outcomes = itemsOf(batch).map((item_id) => ({
              item_id,
              outcome: 'snooze',
              seconds: 0,
              reason: 'again',
            }));
            await close(sql, batch.batch_id, forwards ? outcomes : outcomes.reverse());
          } catch (error) {
            errors.push(error instanceof Error ? error.message : String(error));
          }
        }
        await sql`select jobs.end_drain(${id})`;
      };
      const feed = async (backwards: boolean) => {
        const sql = rig.scratch.connect();
        for (let round = 0; round < 12; round++) {
          const tenants = rig.tenants.map(({ id }) => id);
          if (backwards) tenants.reverse();
          const numbers = tenants.map(() => rig.number());
          try {
            await sql`select jobs.enqueue_many(${job}, ${tenants}::uuid[], ${numbers.map(subjectOf)}::uuid[],
              payloads => ${numbers.map((n) => JSON.stringify({ n }))}::text[]::jsonb[])`;
            for (const n of numbers) rig.accepted.add(n);
          } catch (error) {
            errors.push(error instanceof Error ? error.message : String(error));
          }
        }
      };
      await Promise.all([drain(true), drain(false), drain(true), feed(true), feed(false)]);
      trial.is(errors, [], 'errors');
    },
  },
  {
    number: 44,
    name: 'a client that is idle in a transaction holds an item',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(9);
      const holder = rig.scratch.connect();
      await holder`set idle_in_transaction_session_timeout = '300ms'`;
      const held = holder
        .begin(async (sql) => {
          await sql`select from jobs.items order by item_id limit 1 for update`;
          await delay(2_000);
        })
        .catch((error: unknown) => (error instanceof Error ? error.message : 'gone'));
      await delay(50);
      const startedAt = performance.now();
      await rig.start();
      await rig.settle();
      trial.must(performance.now() - startedAt < 30_000, 'the work goes on');
      trial.must((await held) !== undefined, 'the client was ended');
    },
  },
  {
    number: 45,
    name: 'serialization failures: other isolation levels than the engine’s',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(6);
      const sql = rig.scratch.connect();
      const drain = await openDrain(rig.sql, job);
      for (const level of ['repeatable read', 'serializable'])
        await trial.refused('25001', `a claim in ${level}`, () =>
          sql.begin(`isolation level ${level}`, (inside) => claim(inside, drain, job)),
        );
      // A client in repeatable read is told to repeat, and then it is done.
      const n = rig.number();
      const add = () =>
        sql.begin('isolation level repeatable read', async (inside) => {
          await inside`select 1`;
          await inside`select jobs.enqueue(${job}, ${rig.tenants[0]?.id ?? ''}::uuid, ${subjectOf(n)}::uuid, payload => ${inside.json({ n })})`;
        });
      for (let attempt = 0; ; attempt++) {
        try {
          await add();
          rig.accepted.add(n);
          break;
        } catch (error) {
          const code = error instanceof postgres.PostgresError ? error.code : '';
          if (code !== '40001' || attempt > 5) throw error;
        }
      }
      await rig.pass();
    },
  },
  {
    number: 46,
    name: 'the database takes no writes (read-only, as with a full disk)',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(6);
      await rig.admin.unsafe(`alter database "${rig.scratch.name}" set default_transaction_read_only = on`);
      const client = rig.scratch.connect();
      await trial.refused(
        '25006',
        'an enqueue',
        () =>
          client`select jobs.enqueue(${job}, ${rig.tenants[0]?.id ?? ''}::uuid, ${subjectOf(rig.number())}::uuid, payload => '{"n": 7}')`,
      );
      await trial.refused('25006', 'a tick', () => client`select jobs.tick()`);
      const [row] = await client<{ health: { checked_at: string } }[]>`select jobs.health() as health`;
      trial.must(row !== undefined, 'health answers all the same');
      await rig.admin.unsafe(`alter database "${rig.scratch.name}" reset default_transaction_read_only`);
      await client.end();
    },
  },
  {
    number: 47,
    name: 'a migration waits for, and then has, an exclusive lock on the items',
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(12);
      await rig.start();
      const holder = await rig.scratch.connect().reserve();
      await holder`begin`;
      await holder`lock table jobs.items in access exclusive mode`;
      const startedAt = performance.now();
      await rig.tick().catch(() => ({}));
      trial.must(performance.now() - startedAt < 6_000, 'a tick waits two seconds for a lock and leaves');
      await holder`rollback`;
      const migration = rig.scratch.connect();
      const reader = await rig.scratch.connect().reserve();
      await reader`begin`;
      await reader`select from jobs.items limit 1`;
      await trial.refused('55P03', 'a migration that cannot have its lock', () =>
        migration.begin(async (sql) => {
          await sql`set local lock_timeout = '300ms'`;
          await sql`lock table jobs.items in access exclusive mode`;
        }),
      );
      await reader`rollback`;
    },
  },
  {
    number: 48,
    name: 'the database is restored from a backup that is an hour old',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await restoreWhileMessagesLeave(rig, true);
      const [row] = await rig.sql<{ unknown: number }[]>`
        select count(*)::int as unknown from public.told where outcome = 'unknown'`;
      trial.must((row?.unknown ?? 0) > 0, 'what may have left is called unknown');
    },
  },
  {
    number: 49,
    name: 'the partitions of history for today and the next days are missing',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      const partitions = await rig.sql<{ name: string }[]>`
        select c.oid::regclass::text as name from pg_inherits h join pg_class c on c.oid = h.inhrelid
        where h.inhparent in ('jobs.attempts'::regclass) and c.relname ~ '_[0-9]{8}$'`;
      for (const { name } of partitions) await rig.sql.unsafe(`drop table ${name}`);
      await rig.enqueue(12);
      await rig.start();
      await until('all to end', async () => {
        for (const each of await rig.doorbells()) await rig.ring(each);
        await rig.sql`select jobs.ring(clock_timestamp())`;
        return (await rig.left()) === 0;
      });
      trial.is(
        (await rig.sql`select from jobs.attempts_default`).length,
        12,
        'attempts in the default partition',
      );
      await rig.sql`update jobs.platform set cleaned_at = '-infinity'`;
      await rig.tick();
      trial.is((await rig.sql`select from jobs.attempts`).length, 12, 'attempts afterwards');
      const [row] =
        await rig.sql`select to_regclass(format('jobs.attempts_%s', to_char((now() at time zone 'UTC')::date + 1, 'YYYYMMDD'))) as name`;
      trial.must(row?.name !== null, 'tomorrow has its partition again');
    },
  },
  {
    number: 50,
    name: 'counters reach their ends',
    quick: true,
    run: async (trial) => {
      const rig = await trial.rig();
      await rig.enqueue(3);
      const add = (n: number) =>
        rig.sql`select jobs.enqueue(${job}, ${rig.tenants[0]?.id ?? ''}::uuid, ${subjectOf(n)}::uuid, payload => ${rig.sql.json({ n })})`;
      await rig.sql.unsafe('alter table jobs.items alter column item_id restart with 9223372036854775807');
      const last = rig.number();
      await add(last);
      await trial.refused('2200H', 'an item after the last id', () => add(rig.number()));
      await rig.sql`delete from jobs.items where item_id = 9223372036854775807`;
      await rig.sql.unsafe('alter table jobs.items alter column item_id restart with 1000');
      const n = rig.number();
      await add(n);
      rig.accepted.add(n);
      // Backoff of an item that was tried very often is its ceiling, not an error.
      const [row] = await rig.sql<{ wait: number }[]>`
        select extract(epoch from jobs.backoff(d, 2147483647))::float8 as wait from jobs.definitions d where d.job = ${job}`;
      trial.must((row?.wait ?? -1) >= 0 && (row?.wait ?? 1) <= 0.01, 'the backoff has its ceiling');
    },
  },
];
