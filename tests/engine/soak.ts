/**
 * A soak: eight connections do random things to the engine at once, by seeds, while somebody looks at its rules; then all comes
 * to rest. The books are kept from what callers were told and from what the domain was told, and compared with the tables.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { z } from 'zod';
import {
  allDone,
  type Batch,
  claim,
  close,
  type EngineServer,
  itemsOf,
  makeJob,
  makeTenants,
  type Outcome,
  openDrain,
  type Random,
  type Scratch,
  type Sql,
  seeded,
  setPlan,
  violations,
} from './support.ts';

/** One without a provider; one with a provider, effects and a cap of its own. */
const jobs = ['plain', 'sent'];
const jobCap = 6;
const laneCaps = { most: 6, least: 3 };
const maxAttempts = 3;
/** Few, so that they collide. */
const keys = ['a', 'b'];

export interface SoakResult {
  /** What is wrong; empty when nothing is. */
  findings: string[];
  /** How often each operation was done to the end, and how often what it is there for came up. */
  counts: Record<string, number>;
}

interface Open {
  id: number;
  job: string;
  items: number[];
  size: number;
  /** How many of its items callers were told to have ended or returned. */
  gone: number;
  request: string | null;
}

class RolledBack extends Error {}

const retriable = ['40001', '40P01', '55P03', '57P01'];
const codeOf = (error: unknown): string => z.object({ code: z.string() }).safeParse(error).data?.code ?? '';

type Query = <T>(texts: TemplateStringsArray, ...values: unknown[]) => Promise<T[]>;

/** One backend, and a new one when it was terminated. (The client of the other tests does not come through that at every moment.) */
class Connection {
  private client: pg.Client | undefined;
  private readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  private async connected(): Promise<pg.Client> {
    if (this.client) return this.client;
    const client = new pg.Client({ connectionString: this.url, application_name: 'soak' });
    const forget = () => {
      if (this.client === client) this.client = undefined;
    };
    client.on('error', forget);
    client.on('end', forget);
    await client.connect();
    this.client = client;
    return client;
  }

  query: Query = async (texts, ...values) => {
    const client = await this.connected();
    try {
      const text = texts.reduce((all, part, n) => `${all}$${n}${part}`);
      return (await client.query(text, values)).rows;
    } catch (error) {
      if (!isRefusal(error)) await this.end();
      throw error;
    }
  };

  async begin(work: (query: Query) => Promise<void>): Promise<void> {
    const client = await this.connected();
    // All on this one: after a reconnection the rest would not be in the transaction.
    const query: Query = (texts, ...values) => {
      if (this.client !== client) throw Object.assign(new Error('the connection is gone'), { code: '57P01' });
      return this.query(texts, ...values);
    };
    await query`begin`;
    try {
      await work(query);
    } catch (error) {
      if (this.client === client) await query`rollback`.catch(() => {});
      throw error;
    }
    await query`commit`;
  }

  async end(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    await client?.end().catch(() => {});
  }
}

/** What the server refuses, as opposed to a connection that broke. */
const isRefusal = (error: unknown): boolean => error instanceof pg.DatabaseError && codeOf(error) !== '57P01';
const isBroken = (error: unknown): boolean =>
  codeOf(error) === '57P01' ||
  /^(Connection terminated|Client has encountered a connection error)|ECONNRESET|EPIPE|not queryable/.test(
    String((error as Error).message),
  );

export async function soak(
  engine: EngineServer,
  seed: number,
  steps: number,
  sabotage?: (sql: Sql) => Promise<void>,
): Promise<SoakResult> {
  const scratch = await engine.scratch();
  try {
    const round = new Round(scratch, seed);
    await round.setTheScene();
    await sabotage?.(scratch.sql);
    await round.run(steps);
    await round.comeToRest();
    await round.compare();
    return { findings: [...round.findings].slice(0, 20), counts: round.counts };
  } finally {
    await scratch.drop();
  }
}

class Round {
  findings = new Set<string>();
  counts: Record<string, number> = {};

  private readonly scratch: Scratch;
  private readonly sql: Sql;
  private readonly random: Random;
  private tenants: string[] = [];
  private doomed: string[] = [];
  /** Those with a credential of their own; the others lean on the platform's. */
  private own: string[] = [];
  /** Several of each job: calls of one drain wait for one another. */
  private drains: Record<string, string[]> = {};
  private open: Open[] = [];
  private readonly admin: Sql;

  // The books, by subject: each enqueue has a subject of its own.
  private accepted = new Map<string, string>();
  private never = new Set<string>();
  private unsure = new Set<string>();
  private groups: { tenants: string[]; subjects: string[]; count: number }[] = [];
  /** By batch and item: the request that was told that its effect may begin. */
  private begun = new Map<string, string>();

  constructor(scratch: Scratch, seed: number) {
    this.scratch = scratch;
    this.sql = scratch.sql;
    this.admin = scratch.connect({ url: scratch.adminUrl, max: 2 });
    this.random = seeded(seed);
  }

  private query: Query = <T>(texts: TemplateStringsArray, ...values: unknown[]) =>
    this.sql.unsafe(
      texts.reduce((all, part, n) => `${all}$${n}${part}`),
      values as string[],
    ) as unknown as Promise<T[]>;

  private count(what: string, times = 1) {
    this.counts[what] = (this.counts[what] ?? 0) + times;
  }

  async setTheScene(): Promise<void> {
    const { sql } = this;
    await this.admin.unsafe(`alter database "${this.scratch.name}" set deadlock_timeout = '100ms'`);
    await sql.unsafe(`
      create schema soak;
      create table soak.told (
        tenant_id uuid, item_id bigint, subject_id uuid, outcome text, next_subject uuid, next_added integer);
      create table soak.deaths (
        tenant_id uuid, item_id bigint, what text, attempts integer, transaction_id xid8 not null default pg_current_xact_id());
      create function soak.tell(ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
      declare
        v_one jobs.ended;
        v_added integer;
      begin
        foreach v_one in array ended loop
          if v_one.result ? 'raise' then
            raise exception 'the domain cannot take it';
          end if;
          v_added := null;
          if v_one.result ? 'next' then
            v_added := jobs.enqueue(v_one.result ->> 'job', v_one.tenant_id, (v_one.result ->> 'next')::uuid, dedupe_key => v_one.result ->> 'key');
          end if;
          insert into soak.told values (
            v_one.tenant_id, v_one.item_id, v_one.subject_id, v_one.outcome, (v_one.result ->> 'next')::uuid, v_added);
        end loop;
      end $$;
      create function soak.note_death() returns trigger language plpgsql security definer set search_path = '' as $$
      begin
        if tg_op = 'INSERT' then
          insert into soak.deaths values (new.tenant_id, new.item_id, 'died', new.attempts);
        else
          insert into soak.deaths values (old.tenant_id, old.item_id, 'revived', old.attempts);
        end if;
        return null;
      end $$;
      create trigger note_death after insert or delete on jobs.dead_items for each row execute function soak.note_death()`);
    await setPlan(sql, 'enterprise', { cap: laneCaps.most });
    await setPlan(sql, 'pro', { cap: laneCaps.least });
    await sql`select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "x"}')`;
    await sql`select vault.create_secret('http://127.0.0.1:9', 'project_url'), vault.create_secret(repeat('s', 40), 'cron_secret')`;
    for (const job of jobs) {
      await makeJob(sql, { job, batchSize: 8, quantum: 2, maxAttempts, applyFunction: 'soak.tell' });
    }
    await sql`
      update jobs.definitions set provider = 'meta', platform_allowed = true, effects = true, cap = ${jobCap}, breaker_after = 50
      where job = 'sent'`;
    if (this.random.below(2)) await sql`update jobs.definitions set cost_unit = 'calls' where job = 'plain'`;
    this.tenants = await makeTenants(sql, 4);
    this.own = this.tenants.slice(0, 2);
    for (const tenant of this.own) await this.giveCredential(this.query, tenant);
    for (const job of jobs) {
      this.drains[job] = [];
      for (let n = 0; n < 4; n++) this.drains[job]?.push(await openDrain(sql, job));
    }
    // What a tick does once an hour is not what this is about.
    await sql`select jobs.tick()`;
  }

  private async giveCredential(sql: Query, tenant: string): Promise<void> {
    const secret = JSON.stringify({ access_token: randomUUID() });
    await sql`
      select public.set_credential(t.id, 'meta', 'facebook_login', ${secret}::text::jsonb, '{"page_id": "1"}')
      from public.tenants t where t.id = ${tenant}`;
  }

  // What happens at once ------------------------------------------------------------------------------------------------

  async run(steps: number): Promise<void> {
    let running = true;
    const watch = (async () => {
      while (running) {
        await this.look();
        await delay(15);
      }
    })();
    await Promise.all(
      Array.from({ length: 8 }, (_, index) => this.work(seeded(this.random.seed + index + 1), steps)),
    );
    running = false;
    await watch;
  }

  /** The rules at this moment. */
  private async look(): Promise<void> {
    await this.findBroken();
    const rows = await this.sql<{ what: string }[]>`
      select format('lane %s of %s has %s in flight', e.tenant_id, e.job, sum(e.open)) as what
      from jobs.leases e group by e.tenant_id, e.job having sum(e.open) > ${laneCaps.most}
      union all
      select format('job sent has %s in flight', sum(e.open)) from jobs.leases e where e.job = 'sent' having sum(e.open) > ${jobCap}`;
    for (const row of rows) this.findings.add(row.what);
    this.count('look');
  }

  private async work(random: Random, steps: number): Promise<void> {
    const connection = new Connection(this.scratch.url);
    const sql = connection.query;
    const operations: [number, string, () => Promise<unknown>][] = [
      [16, 'enqueue', () => this.enqueueSome(connection, random)],
      [5, 'enqueue many', () => this.enqueueMany(sql, random)],
      [20, 'claim', () => this.claimSome(connection, random)],
      [26, 'close', () => this.closeSome(connection, random)],
      [5, 'begin effects', () => this.beginEffects(sql, random)],
      [2, 'extend', () => this.extend(sql, random)],
      [3, 'return', () => this.giveBack(sql, random)],
      [4, 'expire', () => this.expire(sql, random)],
      [3, 'tick', () => sql`select jobs.tick()`],
      [2, 'cancel', () => this.cancel(sql, random)],
      [
        3,
        'replay',
        () => sql`select jobs.replay(${random.pick(jobs)}, reason => 'attempts used up', dry_run => false)`,
      ],
      [2, 'pause', () => this.pause(sql, random)],
      [3, 'hurry', () => this.hurry(connection, random)],
      [3, 'plan', () => this.changePlan(sql, random)],
      [2, 'credential', () => this.giveCredential(sql, random.pick(this.own))],
      [1, 'delete tenant', () => this.deleteTenant(sql, random)],
      [2, 'kill', () => this.kill(random)],
    ];
    const total = operations.reduce((sum, [weight]) => sum + weight, 0);
    for (let step = 0; step < steps; step++) {
      let at = random.below(total);
      for (const [weight, name, act] of operations) {
        at -= weight;
        if (at >= 0) continue;
        try {
          await act();
          this.count(name);
        } catch (error) {
          this.judge(name, error);
        }
        break;
      }
    }
    await connection.end();
  }

  /** Errors that callers retry are none; those about a tenant that was just deleted neither. */
  private judge(name: string, error: unknown): void {
    const code = codeOf(error);
    if (error instanceof RolledBack) this.count('rolled back');
    else if (retriable.includes(code) || isBroken(error)) this.count(`error ${code || 'of the connection'}`);
    else if (
      this.doomed.length > 0 &&
      /^An item belongs to a tenant|^There is no tenant|credentials_tenant_fkey/.test(
        String((error as Error).message),
      )
    )
      this.count('too late for its tenant');
    else this.findings.add(`${name}: ${code} ${String(error)}`);
  }

  /** One item or a few, in a transaction that may take long and may be rolled back. */
  private async enqueueSome(connection: Connection, random: Random): Promise<void> {
    const work = Array.from({ length: 1 + random.below(3) }, () => ({
      job: random.pick(jobs),
      tenant: random.pick(this.tenants),
      subject: randomUUID(),
      key: random.below(3) ? random.pick(keys) : null,
      later: random.below(6) === 0 ? '0.2 seconds' : '0',
    }));
    const added: string[] = [];
    try {
      await connection.begin(async (transaction) => {
        for (const { job, tenant, subject, key, later } of work) {
          const [row] = await transaction<{ added: number }>`
            select jobs.enqueue(${job}, ${tenant}, ${subject}, clock_timestamp() + ${later}::text::interval, ${key}, '{"x": 1}') as added`;
          if (row?.added) added.push(subject);
        }
        if (random.below(3) === 0) await delay(random.below(40));
        if (random.below(6) === 0) throw new RolledBack();
      });
      for (const { subject, tenant } of work) {
        if (added.includes(subject)) this.accepted.set(subject, tenant);
        else this.never.add(subject);
      }
    } catch (error) {
      const books = this.certain(error) ? this.never : this.unsure;
      for (const { subject } of work) books.add(subject);
      throw error;
    }
  }

  /** Whether it certainly did not happen: the answer to a commit may be lost. */
  private certain(error: unknown): boolean {
    return error instanceof RolledBack || ['40001', '40P01', '55P03', '23503'].includes(codeOf(error));
  }

  private async enqueueMany(sql: Query, random: Random): Promise<void> {
    const keyed = random.below(2) === 0;
    const work = Array.from({ length: 2 + random.below(6) }, () => ({
      tenant: random.pick(this.tenants),
      subject: randomUUID(),
      key: keyed && random.below(3) ? random.pick(keys) : null,
    }));
    const subjects = work.map((each) => each.subject);
    try {
      const [row] = await sql<{ count: number }>`
        select jobs.enqueue_many(${random.pick(jobs)}, ${work.map((each) => each.tenant)}::uuid[], ${subjects}::uuid[],
          dedupe_keys => ${work.map((each) => each.key)}::text[]) as count`;
      this.groups.push({ tenants: work.map((each) => each.tenant), subjects, count: row?.count ?? -1 });
    } catch (error) {
      for (const subject of subjects) (this.certain(error) ? this.never : this.unsure).add(subject);
      throw error;
    }
  }

  private remember(job: string, batch: Batch | null, request: string | null): void {
    if (!batch) return;
    const items = itemsOf(batch);
    const known = this.open.find((each) => each.id === batch.batch_id);
    if (known) {
      // Given again: nothing may be in it that was not there before.
      if (known.request === null || known.request !== request)
        this.findings.add(`batch ${known.id} was handed out twice`);
      if (items.some((item) => !known.items.includes(item)))
        this.findings.add(`batch ${known.id} came again with other items`);
      this.count('batch again');
      return;
    }
    if (new Set(items).size !== items.length)
      this.findings.add(`batch ${batch.batch_id} holds an item twice`);
    this.open.push({ id: batch.batch_id, job, items, size: items.length, gone: 0, request });
  }

  private async claimSome(connection: Connection, random: Random): Promise<void> {
    const sql = connection.query;
    const job = random.pick(jobs);
    const drain = random.pick(this.drains[job] ?? []);
    const way = random.below(8);
    if (way === 0) {
      await connection.begin(async (transaction) => {
        await claimAs(transaction, drain, job, 4);
        throw new RolledBack();
      });
    } else if (way <= 2) {
      // As if the first answer had been lost.
      const request = randomUUID();
      for (let n = 0; n < 2; n++) this.remember(job, await claimAs(sql, drain, job, null, request), request);
    } else {
      this.remember(job, await claimAs(sql, drain, job, 1 + random.below(8)), null);
    }
  }

  /** Mostly one of the last; now and then one that is long over. */
  private batch(random: Random, job?: string): Open | undefined {
    if (this.open.length === 0) return undefined;
    const fresh = this.open
      .filter((each) => each.gone < each.size && (job ?? each.job) === each.job)
      .slice(-10);
    return random.below(8) && fresh.length > 0 ? random.pick(fresh) : random.pick(this.open);
  }

  private outcome(random: Random, item_id: number, job: string): Outcome {
    const cost = { cost: random.below(4) };
    const again = { next: randomUUID(), job, key: random.pick(keys) };
    switch (random.below(16)) {
      case 0:
      case 1:
        return { item_id, outcome: 'retry', error: 'not now', ...cost };
      case 2:
        return { item_id, outcome: 'retry', error: 'not now', result: { raise: true } };
      case 3:
        return {
          item_id,
          outcome: 'refused',
          error: 'never',
          result: random.below(2) ? { raise: true } : again,
        };
      case 4:
        return { item_id, outcome: 'snooze', seconds: random.below(3) / 10, reason: 'later' };
      case 5:
        return { item_id, outcome: 'throttled', seconds: random.below(3) / 10, error: 'too many', ...cost };
      case 6:
        return random.below(2)
          ? { item_id, outcome: 'credential_broken', error: 'it does not work' }
          : { item_id, outcome: 'done', result: { status: 'unknown' } };
      case 7:
      case 8:
        return { item_id, outcome: 'done', result: { raise: true } };
      case 9:
      case 10:
      case 11:
        return { item_id, outcome: 'done', result: again };
      default:
        return { item_id, outcome: 'done', result: {}, ...cost };
    }
  }

  private async closeSome(connection: Connection, random: Random): Promise<void> {
    const sql = connection.query;
    const batch = this.batch(random);
    if (!batch) return;
    const all = random.below(2) === 0;
    const outcomes = batch.items
      .filter(() => all || random.below(2))
      .map((item) => this.outcome(random, item, batch.job));
    // Some cannot be applied and come back, and the next items of others take their keys.
    if (random.below(3) === 0) {
      for (const outcome of outcomes) {
        outcome.outcome = 'done';
        outcome.result = random.below(2)
          ? { raise: true }
          : { next: randomUUID(), job: batch.job, key: random.pick(keys) };
      }
    }
    // The same item twice, an item of another batch, and one that does not exist.
    const twice = outcomes[0];
    if (twice && random.below(4) === 0) outcomes.push(this.outcome(random, twice.item_id, batch.job));
    const other = random.pick(this.open);
    if (random.below(4) === 0)
      for (const item of other.items) outcomes.push(this.outcome(random, item, batch.job));
    if (random.below(8) === 0) outcomes.push(this.outcome(random, 999_999_999, batch.job));
    const next = random.below(2) === 0;
    const request = next && random.below(2) === 0 ? randomUUID() : null;
    if (random.below(10) === 0) {
      await connection.begin(async (transaction) => {
        await closeAs(transaction, batch.id, outcomes, false, null);
        throw new RolledBack();
      });
    }
    for (let n = random.below(4) === 0 ? 0 : 1; n < 2; n++) {
      const answer = await closeAs(sql, batch.id, outcomes, next, request);
      if (answer.closed + answer.stale !== outcomes.length)
        this.findings.add(`a close of ${outcomes.length} says ${JSON.stringify(answer)}`);
      this.take(batch, answer.closed);
      this.count('closed', answer.closed);
      this.count('stale', answer.stale);
      this.remember(batch.job, answer.next, request);
    }
  }

  private take(batch: Open, items: number): void {
    batch.gone += items;
    if (batch.gone > batch.size)
      this.findings.add(`of ${batch.size} items of batch ${batch.id} ${batch.gone} were taken`);
  }

  private async beginEffects(sql: Query, random: Random): Promise<void> {
    const batch = this.batch(random, 'sent');
    if (!batch) return;
    const mine = randomUUID();
    const items = [...batch.items.filter(() => random.below(2)), ...random.pick(this.open).items.slice(0, 1)];
    // Now and then once more, as the same call and as another one.
    const other = randomUUID();
    for (const request of [mine, mine, other].slice(random.below(2), 2 + random.below(2))) {
      const [row] = await sql<{ begun: number[] }>`
        select array(select unnest(jobs.begin_effects(${batch.id}, ${items}::bigint[], ${request}))::int) as begun`;
      for (const item of row?.begun ?? []) {
        const place = `${batch.id}/${item}`;
        if (!batch.items.includes(item))
          this.findings.add(`an effect may begin for item ${item}, which batch ${batch.id} does not hold`);
        if ((this.begun.get(place) ?? request) !== request)
          this.findings.add(`the effect of item ${item} may begin twice`);
        this.begun.set(place, request);
        this.count('begun');
      }
    }
    // Its worker is lost right after.
    if (random.below(3) === 0) {
      await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second' where batch_id = ${batch.id}`;
    }
  }

  private async extend(sql: Query, random: Random): Promise<void> {
    const batch = this.batch(random);
    if (batch) await sql`select jobs.extend_batch(${batch.id})`;
  }

  private async giveBack(sql: Query, random: Random): Promise<void> {
    const batch = this.batch(random);
    if (!batch) return;
    const [row] = await sql<{ returned: number }>`select jobs.return_batch(${batch.id}) as returned`;
    this.take(batch, row?.returned ?? 0);
    this.count('returned', row?.returned ?? 0);
  }

  private async expire(sql: Query, random: Random): Promise<void> {
    await sql`
      update jobs.batches b set lease_until = clock_timestamp() - interval '1 second'
      where b.batch_id in (select x.batch_id from jobs.batches x order by hashint8(x.batch_id + ${random.below(1000)}::int) limit 2)`;
    if (random.below(2)) {
      const [row] = await sql<{ reaped: number }>`select jobs.reap(clock_timestamp()) as reaped`;
      this.count('reaped', row?.reaped ?? 0);
    }
  }

  private async cancel(sql: Query, random: Random): Promise<void> {
    const [row] = await sql<{ cancelled: number }>`
      select jobs.cancel(${random.pick(jobs)}, ${random.pick(this.tenants)}::uuid,
        ${random.below(2) ? '0.3 seconds' : null}::text::interval, dry_run => false) as cancelled`;
    this.count('cancelled', row?.cancelled ?? 0);
  }

  private async pause(sql: Query, random: Random): Promise<void> {
    const job = random.pick(jobs);
    const tenant = random.below(3) ? random.pick(this.tenants) : null;
    await sql`select jobs.pause(${job}, ${tenant}::uuid)`;
    await delay(random.below(30));
    await sql`select jobs.resume(${job}, ${tenant}::uuid)`;
  }

  private async hurry(connection: Connection, random: Random): Promise<void> {
    const tenant = random.pick(this.tenants);
    await connection.begin(async (transaction) => {
      await transaction`
        select jobs.hurry(${random.pick(jobs)}, ${tenant}, array(
          select i.subject_id from jobs.items i where i.tenant_id = ${tenant} and i.run_at > now()))`;
      if (random.below(2)) await delay(random.below(10));
    });
  }

  private async changePlan(sql: Query, random: Random): Promise<void> {
    if (random.below(2)) {
      await sql`update public.plans set cap = ${laneCaps.least + random.below(1 + laneCaps.most - laneCaps.least)} where plan_id = 'enterprise'`;
    } else {
      await sql`update public.tenants set plan_id = ${random.pick(['pro', 'enterprise'])} where id = ${random.pick(this.tenants)}`;
    }
  }

  private async deleteTenant(sql: Query, random: Random): Promise<void> {
    if (this.doomed.length >= 3) return;
    const tenant = random.pick(this.tenants);
    this.doomed.push(tenant);
    const [row] = await sql<{ id: string }>`
      insert into public.tenants (slug, name, plan_id) values (${`new-${randomUUID().slice(0, 8)}`}, 'New', 'enterprise') returning id`;
    this.tenants = [...this.tenants.filter((each) => each !== tenant), row?.id ?? ''];
    await sql`delete from public.tenants where id = ${tenant}`;
  }

  private async kill(random: Random): Promise<void> {
    const rows = await this.admin<{ active: boolean }[]>`
      select a.state <> 'idle' as active, pg_terminate_backend(a.pid) from (
        select s.pid, s.state from pg_stat_activity s
        where s.datname = ${this.scratch.name} and s.application_name = 'soak'
        order by (s.state <> 'idle') desc, hashint8(s.pid::bigint + ${random.below(1000)}::int) limit 1) a`;
    this.count('killed in the middle', rows.filter((row) => row.active).length);
  }

  // Rest ----------------------------------------------------------------------------------------------------------------

  async comeToRest(): Promise<void> {
    const { sql } = this;
    for (const { id } of await sql<{ id: string }[]>`select id from public.tenants`) {
      for (const job of jobs) await sql`select jobs.resume(${job}, ${id}::uuid)`;
      await this.giveCredential(this.query, id);
    }
    for (const job of jobs) await sql`select jobs.resume(${job})`;
    await sql`select jobs.set_platform_credential('meta', 'facebook_login', ${JSON.stringify({ access_token: randomUUID() })}::text::jsonb)`;
    await this.findBroken();
    await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
    await sql`select jobs.reap(clock_timestamp(), 1000)`;
    await this.findBroken();
    await this.drain();
    // The dead are tried again, and are done this time. Of those with the same dedupe key one at a time.
    for (let revived = 1; revived > 0; ) {
      revived = 0;
      for (const job of jobs) {
        const [row] = await sql<
          { revived: number }[]
        >`select jobs.replay(${job}, dry_run => false) as revived`;
        revived += row?.revived ?? 0;
      }
      await this.drain();
    }
    await this.findLeft();
  }

  private async findBroken(): Promise<void> {
    for (const job of jobs) for (const what of await violations(this.sql, job)) this.findings.add(what);
  }

  private async findLeft(): Promise<void> {
    const rows = await this.sql<{ what: string }[]>`
      select format('%s %s are left', count(*), what) as what
      from (
        select 'items' as what from jobs.items where job = any (${jobs})
        union all select 'leases' from jobs.leases
        union all select 'batches' from jobs.batches
        union all select 'dedupe keys' from jobs.dedupe_keys
        union all select 'effects' from jobs.effects
        union all select 'dead items' from jobs.dead_items
        union all select 'lanes of deleted tenants' from jobs.lanes l where not exists (select from public.tenants t where t.id = l.tenant_id)
      ) x
      group by x.what`;
    for (const row of rows) this.findings.add(row.what);
  }

  private async drain(patienceMs = 3000): Promise<void> {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      let got = 0;
      // What was on its way to a tenant while it was deleted; the tick looks for it once an hour.
      await this.sql`select jobs.forget_strays()`;
      for (const job of jobs) {
        const batch = await claim(this.sql, this.drains[job]?.[0] ?? '', job, 100);
        if (!batch) continue;
        got++;
        await close(this.sql, batch.batch_id, allDone(batch));
      }
      if (got > 0) continue;
      const [row] = await this.sql<{ waiting: number; why: string }[]>`
        select count(*)::int as waiting, string_agg(distinct format('%s lane, asleep for "%s" (%s) until %s', i.job, l.reason, l.detail, l.wake_at), '; ') as why
        from jobs.items i left join jobs.lanes l on l.job = i.job and l.tenant_id = i.tenant_id where i.job = any (${jobs})`;
      if (!row?.waiting) return;
      if (Date.now() > deadline) {
        this.findings.add(`it does not come to rest: ${row.waiting} items, ${row.why}`);
        return;
      }
      await delay(20);
    }
  }

  // The books -----------------------------------------------------------------------------------------------------------

  async compare(): Promise<void> {
    const { sql } = this;
    const alive = new Set((await sql<{ id: string }[]>`select id from public.tenants`).map((row) => row.id));
    const seen = new Map<string, number>();
    for (const row of await sql<{ subject: string; ends: number }[]>`
      select a.subject_id as subject, (count(*) filter (where a.outcome in ('done', 'unknown', 'cancelled')))::int as ends
      from jobs.attempts a group by a.subject_id, a.item_id`) {
      if (seen.has(row.subject)) this.findings.add(`subject ${row.subject} has two items`);
      seen.set(row.subject, row.ends);
    }
    const next = await sql<{ subject: string; tenant: string; added: number }[]>`
      select next_subject as subject, tenant_id as tenant, next_added as added from soak.told where next_subject is not null`;
    for (const { subject, tenant, added } of next) {
      if (added === 1) this.accepted.set(subject, tenant);
      this.count(added === 1 ? 'next by apply' : 'next by apply, in vain');
    }

    const grouped = new Set(this.groups.flatMap((group) => group.subjects));
    for (const [subject, tenant] of this.accepted) {
      const ends = seen.get(subject);
      if (alive.has(tenant) ? ends !== 1 : ends !== undefined && ends > 1)
        this.findings.add(`what was accepted (${subject}) ended ${ends ?? 0} times`);
    }
    for (const group of this.groups) {
      const found = group.subjects.filter((subject) => seen.get(subject) === 1).length;
      const all = group.tenants.every((tenant) => alive.has(tenant));
      if (all ? found !== group.count : found > group.count)
        this.findings.add(`of ${group.count} that were accepted at once ${found} ended once`);
    }
    for (const subject of seen.keys()) {
      if (!this.accepted.has(subject) && !this.unsure.has(subject) && !grouped.has(subject)) {
        this.findings.add(
          `${subject} ended, but was ${this.never.has(subject) ? 'refused or rolled back' : 'never enqueued'}`,
        );
      }
    }
    this.count('ended', seen.size);

    const begun = [...this.begun.keys()].map((place) => place.split('/').map(Number));
    const rows = await sql<{ what: string }[]>`
      select format('the tries of item %s are numbered %s', item_id, array_agg(try order by try)) as what
      from jobs.attempts group by item_id
      having count(*) <> max(try) or min(try) <> 1 or count(distinct try) <> count(*)
      union all
      select format('item %s ended by its try %s of %s', item_id, max(try) filter (where outcome in ('done', 'unknown', 'cancelled')), max(try))
      from jobs.attempts group by item_id
      having max(try) filter (where outcome in ('done', 'unknown', 'cancelled')) < max(try)
      union all
      select format('item %s burnt %s attempts', a.item_id, count(*))
      from jobs.attempts a
      where a.outcome in ('done', 'retry', 'refused', 'lost')
        and not exists (select from soak.deaths d where d.item_id = a.item_id and d.what = 'revived')
      group by a.item_id having count(*) > ${maxAttempts}
      union all
      select format('item %s died with %s attempts', d.item_id, d.attempts) from soak.deaths d where d.attempts > ${maxAttempts}
      union all
      select format('the domain was told %s times of the end of item %s as %s, which ended so %s times', coalesce(t.told, 0), coalesce(a.item_id, t.item_id),
        coalesce(a.outcome, t.outcome), coalesce(a.ended, 0))
      from (
        select item_id, outcome, count(*) as ended from jobs.attempts where outcome in ('done', 'unknown', 'cancelled') group by item_id, outcome
      ) a
      full join (
        select item_id, outcome, count(*) as told from soak.told where outcome <> 'dead' group by item_id, outcome
      ) t on t.item_id = a.item_id and t.outcome = a.outcome
      where t.told is distinct from a.ended
      union all
      -- Of a death that its apply function could not take, it was not told.
      select format('the domain was told %s times that item %s is dead, which died %s times', coalesce(t.told, 0), coalesce(d.item_id, t.item_id), coalesce(d.died, 0))
      from (
        select x.item_id, count(*) filter (where x.died) as died
        from (
          -- One that is revived and stays dead in one transaction did neither.
          select item_id, transaction_id, bool_or(what = 'died') and not bool_or(what = 'revived') as died from soak.deaths group by item_id, transaction_id
        ) x group by x.item_id
      ) d
      full join (select item_id, count(*) as told from soak.told where outcome = 'dead' group by item_id) t on t.item_id = d.item_id
      left join (
        select item_id, count(*) as failed from jobs.attempts where error like 'The result could not be applied%' group by item_id
      ) f on f.item_id = coalesce(d.item_id, t.item_id)
      where coalesce(d.died, 0) - coalesce(t.told, 0) not between 0 and coalesce(f.failed, 0)
        -- A deleted tenant keeps no dead items.
        and exists (select from jobs.attempts a join public.tenants l on l.id = a.tenant_id where a.item_id = coalesce(d.item_id, t.item_id))
      union all
      select format('item %s was sent, its worker was lost, and it was tried again', a.item_id)
      from jobs.attempts a
      join unnest(${begun.map(([batch]) => batch ?? 0)}::bigint[], ${begun.map(([, item]) => item ?? 0)}::bigint[]) as b (batch_id, item_id)
        on b.batch_id = a.batch_id and b.item_id = a.item_id
      where a.job = 'sent' and a.outcome = 'lost'`;
    for (const row of rows) this.findings.add(row.what);
    for (const row of await sql<{ what: string; count: number }[]>`
      select outcome || case when error like 'The result could not%' then ', not applied' else '' end as what, count(*)::int from jobs.attempts group by 1
      union all select 'dead', count(*)::int from soak.deaths where what = 'died'
      union all select 'revived', count(*)::int from soak.deaths where what = 'revived'`)
      this.count(`tried: ${row.what}`, row.count);
  }
}

async function claimAs(
  sql: Query,
  drain: string,
  job: string,
  size: number | null,
  request: string | null = null,
): Promise<Batch | null> {
  const [row] = await sql<{
    batch: Batch | null;
  }>`select jobs.next_batch(${drain}, ${job}, ${size}, ${request}) as batch`;
  return row?.batch ?? null;
}

async function closeAs(
  sql: Query,
  batchId: number,
  outcomes: readonly Outcome[],
  next: boolean,
  request: string | null,
): Promise<{ closed: number; stale: number; next: Batch | null }> {
  const [row] = await sql<{ closed: { closed: number; stale: number; next: Batch | null } }>`
    select jobs.close_batch(${batchId}, ${JSON.stringify(outcomes)}::text::jsonb, ${next}, ${request}::uuid) as closed`;
  if (!row) throw new Error('no answer');
  return row.closed;
}
