/**
 * The protocol of bundles under every interleaving that chance comes upon: several workers (the real job and client) against the real
 * database and a Resend that loses requests and answers, or gets a request late. Leases run out under living workers, workers die at any
 * step, consent is withdrawn, hours begin and end. By Resend's record no mail is accepted twice, and none is lost.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BundleEnd, batchSchema, type Credential } from '../../functions/_shared/engine.ts';
import type { HttpRequest, HttpResult } from '../../functions/_shared/http.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import { createResend } from '../../functions/_shared/providers/resend.ts';
import { createSendEmails } from '../../functions/worker/jobs/send-emails.ts';
import { jobContext } from '../functions/fakes.ts';
import {
  type EngineServer,
  effort,
  makeTenants,
  openDrain,
  type Random,
  randomOf,
  rewrite,
  type Scratch,
  type Sql,
  seeded,
  setPlan,
  startEngine,
} from './support.ts';

let engine: EngineServer;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine?.stop());

const job = 'send-emails';
const names = ['m1', 'm2', 'm3', 'p1', 'p2', 'p3'];
class Killed extends Error {}

/** Resend: a key is bound to one content; the same again is answered as before; one mail that it does not like refuses the call. */
class Resend {
  readonly accepted: { name: string; id: string }[] = [];
  readonly late: HttpRequest[] = [];
  /** A mail that is never accepted. */
  bad: string | null = null;
  readonly #keys = new Map<string, { body: string; answer: string }>();

  accept(request: HttpRequest): HttpResult {
    const key = `${request.url} ${request.headers?.['idempotency-key']}`;
    const body = request.body ?? '';
    const kept = this.#keys.get(key);
    if (kept) return kept.body === body ? answer(200, kept.answer) : error(409, 'invalid_idempotent_request');
    const parsed = JSON.parse(body) as { to: string[] } | { to: string[] }[];
    const to = [parsed].flat().map((mail) => (mail.to[0] ?? '').split('@')[0] ?? '');
    if (this.bad !== null && to.includes(this.bad)) return error(422, 'validation_error');
    const sent = to.map((name) => ({ name, id: `re_${this.accepted.length}_${name}` }));
    for (const each of sent) this.accepted.push(each);
    const ids = sent.map(({ id }) => ({ id }));
    const text = JSON.stringify(Array.isArray(parsed) ? { data: ids } : ids[0]);
    this.#keys.set(key, { body, answer: text });
    return answer(200, text);
  }
}
const answer = (status: number, text: string): HttpResult => ({
  ...{ kind: 'answer', status, headers: new Headers({ 'retry-after': '60' }), text },
});
const error = (status: number, name: string): HttpResult =>
  answer(status, JSON.stringify({ statusCode: status, name, message: '' }));

/** Steps of all workers wait here until chance lets one of them happen. */
class Steps {
  readonly waiting: { owner: object; run: () => Promise<void>; kill: (after: boolean) => Promise<void> }[] =
    [];

  gate<T>(owner: object, step: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.waiting.push({
        owner,
        run: () => step().then(resolve, reject),
        kill: async (after) => {
          if (after) await step().catch(() => {});
          reject(new Killed());
        },
      });
    });
  }
}

interface World {
  sql: Sql;
  scratch: Scratch;
  tenant: string;
  resend: Resend;
  steps: Steps;
  random: Random;
  workers: Set<object>;
  /** Rules that were broken on the way. */
  broken: string[];
  /** False: everything works from now on. */
  faults: boolean;
}

async function open(seed: number, breakIt?: (sql: Sql) => Promise<void>): Promise<World> {
  const scratch = await engine.scratch();
  const { sql } = scratch;
  const random = seeded(seed);
  await setPlan(sql, 'enterprise');
  const [tenant = ''] = await makeTenants(sql, 1);
  const account = { from: 'Shop <hi@shop.example>' };
  await sql`select private.set_credential(${tenant}, 'email', 'resend', ${sql.json({ api_key: 're_key' })}, ${sql.json(account)})`;
  await sql`
    update jobs.definitions set quantum = 1, max_attempts = ${random.pick([8, 100])}, breaker_after = 100000, backoff_seconds = 0.001,
      backoff_limit_seconds = 0.001 where job = ${job}`;
  await sql`
    insert into public.campaigns (tenant_id, name, status, time_zone, notify_from, notify_until)
    values (${tenant}, 'c', 'active', 'UTC', '00:00', '24:00')`;
  for (const name of names) {
    const isParticipant = name.startsWith('p');
    if (isParticipant) {
      await sql`insert into public.participants (tenant_id, display_name) values (${tenant}, ${name})`;
      await sql`
        insert into public.opt_ins (tenant_id, participant_id, channel, granted, source)
        select tenant_id, id, 'email', true, 'test' from public.participants where display_name = ${name}`;
    }
    await sql`
      select private.queue_message(${tenant}, 'alert', 'email', (select id from public.participants where display_name = ${name}),
        jsonb_build_object('message', ${name}::text), ${name}, (select id from public.campaigns where ${isParticipant}), null, ${`${name}@example.com`})`;
  }
  await breakIt?.(sql);
  const resend = new Resend();
  if (random.below(3) === 0) resend.bad = random.pick(names);
  const world = { sql, scratch, tenant, resend, random, broken: [], faults: true };
  return { ...world, steps: new Steps(), workers: new Set() };
}

/** What becomes of a request on its way. */
async function carry(world: World, request: HttpRequest): Promise<HttpResult> {
  const fate = world.faults ? world.random.below(10) : 0;
  const lost: HttpResult = { kind: 'failure', reason: 'timeout', sent: 'maybe' };
  if (fate <= 3) return world.resend.accept(request);
  if (fate <= 5) {
    world.resend.accept(request);
    return lost;
  }
  if (fate === 6) return lost;
  if (fate === 7) {
    world.resend.late.push(request);
    return lost;
  }
  if (fate === 8) return { kind: 'failure', reason: 'unreachable', sent: 'no' };
  return error(429, 'rate_limit_exceeded');
}

/** A worker claims what it gets and begins; its steps happen one by one among those of the others. */
async function claim(world: World): Promise<boolean> {
  const { sql, steps } = world;
  await sql`update jobs.definitions set batch_size = ${1 + world.random.below(6)} where job = ${job}`;
  await sql`update jobs.items set run_at = clock_timestamp() - interval '1 minute'`;
  await sql`delete from jobs.throttles`;
  await sql`
    update jobs.lanes set awake = true, wake_at = null, reason = null, head_at = null, head_id = null, not_before = '-infinity'`;
  const drain = await openDrain(sql, job);
  const [row] = await sql`select jobs.next_batch(${drain}, ${job}) as batch`;
  await sql`update jobs.drains set ended_at = clock_timestamp() where drain_id = ${drain}`;
  if (row?.batch == null) return false;
  const batch = batchSchema.parse(row.batch);
  const worker = {};
  const gate = <T>(step: () => Promise<T>) => steps.gate(worker, step);
  const http = (request: HttpRequest) => gate(() => carry(world, request));
  const handler = createSendEmails({
    senders: { resend: createResend({ http, url: 'https://resend.test' }) },
    sleep: async () => {},
  });
  world.workers.add(worker);
  void (async () => {
    for (const work of batch.tenants) {
      const outcomes: ItemOutcome[] = [];
      await handler(
        { ...work, credential: work.credential as Credential },
        {
          ...jobContext(),
          now: () => new Date(),
          report: (...more) => outcomes.push(...more),
          bundleEmails: (itemIds, sender) =>
            gate(async () => {
              const [answered] = await sql`
                select jobs.bundle_emails(${batch.batch_id}, ${[...itemIds]}::bigint[], ${sender}, gen_random_uuid()) as bundle,
                  array(select id from public.notification_outbox where status <> 'queued')::text[] as over`;
              for (const mail of answered?.bundle?.mails ?? [])
                if (answered?.over.includes(mail.outbox_id))
                  world.broken.push('a mail that is over was put into a call');
              return answered?.bundle ?? null;
            }),
          settleEmails: (bundle, end: BundleEnd) =>
            gate(async () => {
              const mails = end.outcome === 'accepted' ? end.mails : [];
              const [settled] = await sql`
                select jobs.settle_emails(${work.tenant_id}, ${bundle.bundle_id}, ${bundle.call}, ${bundle.version}, ${end.outcome},
                  ${mails.map((mail) => mail.outbox_id)}::uuid[], ${mails.map((mail) => mail.message_id)}::text[]) as answer`;
              return settled?.answer ?? null;
            }),
        },
      );
      if (outcomes.length > 0)
        await gate(async () => {
          await sql`select jobs.close_batch(${batch.batch_id}, ${sql.json(outcomes as never)})`;
        });
    }
  })()
    .catch((thrown: unknown) => {
      if (!(thrown instanceof Killed)) world.broken.push(String(thrown));
    })
    .finally(() => world.workers.delete(worker));
  await settled();
  return true;
}

/** Lets what has been answered go on to its next step. */
const settled = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

async function loseLeases({ sql }: World): Promise<void> {
  await sql`update jobs.batches set lease_until = clock_timestamp() - interval '1 second'`;
  await sql`select jobs.reap(clock_timestamp(), 500)`;
}

async function oneStep(world: World): Promise<void> {
  const { steps, random } = world;
  const [step] = steps.waiting.splice(random.below(steps.waiting.length), 1);
  if (step === undefined) return;
  if (world.faults && random.below(12) === 0) {
    await step.kill(random.below(2) === 0);
    for (const other of steps.waiting.filter(({ owner }) => owner === step.owner)) await other.kill(false);
  } else await step.run();
  await settled();
}

async function something(world: World): Promise<void> {
  const { sql, random, resend } = world;
  const dice = random.below(20);
  if (dice < 11 && world.steps.waiting.length > 0) await oneStep(world);
  else if (dice < 15) {
    if (world.workers.size < 3) await claim(world);
  } else if (dice < 17) await loseLeases(world);
  else if (dice === 17) {
    const [request] = resend.late.splice(0, 1);
    if (request) resend.accept(request);
  } else if (dice === 18) {
    const open = random.below(2) === 0;
    await sql`
      update public.campaigns
      set notify_from = case when ${open} then '00:00'::time else (clock_timestamp() at time zone 'UTC')::time + interval '1 hour' end,
        notify_until = case when ${open} then '24:00'::time else (clock_timestamp() at time zone 'UTC')::time + interval '2 hours' end`;
  } else if (random.below(4) === 0) {
    const who = random.pick(names.filter((name) => name.startsWith('p')));
    await sql`
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, source)
      select tenant_id, id, 'email', false, 'test' from public.participants where display_name = ${who}`;
    await sql`
      select private.end_queued(array_agg(tenant_id), array_agg(id), 'email', 'all', 'the participant has withdrawn consent')
      from public.participants where display_name = ${who}`;
  }
}

/** Everything works again: all that is left comes to its end. */
async function rest(world: World): Promise<void> {
  const { sql, resend } = world;
  world.faults = false;
  await sql`update public.campaigns set notify_from = '00:00', notify_until = '24:00'`;
  for (const request of resend.late.splice(0)) resend.accept(request);
  for (let turn = 0; turn < 60; turn += 1) {
    while (world.steps.waiting.length > 0) await oneStep(world);
    await loseLeases(world);
    await sql`update public.notification_outbox set unknown_since = now() - interval '1 hour' where unknown_since is not null`;
    await sql`select private.reconcile_messages(${world.tenant}, null, null)`;
    const [left] = await sql`select count(*)::int as items from jobs.items where job = ${job}`;
    if (left?.items === 0 && world.workers.size === 0) return;
    await claim(world);
  }
  world.broken.push('it does not come to rest');
}

interface Verdict {
  broken: string[];
  calls: number;
  statuses: string[];
}

async function judge(world: World): Promise<Verdict> {
  const rows = await world.sql<{ name: string; status: string; id: string | null; reason: string | null }[]>`
    select dedupe_key as name, status::text, provider_message_id as id, reason from public.notification_outbox order by 1`;
  const broken = [...world.broken];
  for (const { name, status, id, reason } of rows) {
    const times = world.resend.accepted.filter((each) => each.name === name);
    if (times.length > 1) broken.push(`${name} was accepted ${times.length} times`);
    if (status === 'sent' && times.length !== 1) broken.push(`${name} is called sent and was not accepted`);
    if (status === 'sent' && id !== null && id !== times[0]?.id)
      broken.push(`${name} has the id of another mail`);
    if (status === 'failed' && times.length > 0)
      broken.push(`${name} is called failed and was accepted (${reason})`);
    if (status === 'queued') broken.push(`${name} is left`);
    // Lost: it should have gone, can go, and did not.
    const mayGo = name !== world.resend.bad && status !== 'no_consent';
    if (mayGo && times.length === 0 && status !== 'unknown')
      broken.push(`${name} is ${status} (${reason}) and was never accepted`);
  }
  const statuses = rows.map(({ status }) => status);
  return { broken, calls: world.resend.accepted.length, statuses };
}

async function run(seed: number, breakIt?: (sql: Sql) => Promise<void>): Promise<Verdict> {
  const world = await open(seed, breakIt);
  try {
    for (let n = 0; n < 80; n += 1) await something(world);
    await rest(world);
    return await judge(world);
  } finally {
    await world.scratch.drop();
  }
}

test('no interleaving of workers, deaths, lost answers, late requests and cancellations sends a mail twice or loses one', async () => {
  const { seed } = randomOf('bundles of e-mails');
  const found: string[] = [];
  const statuses = new Map<string, number>();
  for (let n = 0; n < 25 * effort; n += 1) {
    const verdict = await run(seed + n);
    found.push(...verdict.broken.map((what) => `seed ${seed + n}: ${what}`));
    for (const status of verdict.statuses) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  expect(found).toEqual([]);
  // The scenes are worth something: mails were sent, cancelled, and refused.
  expect([...statuses.keys()]).toEqual(expect.arrayContaining(['sent', 'no_consent', 'failed']));
}, 1_200_000);

// Without these, interleavings that find nothing would prove nothing.
test.each([
  [
    'a bundle whose answer was lost is forgotten',
    (sql: Sql) =>
      rewrite(
        sql,
        'bundle_emails',
        'if v_bundle.id is null then',
        'delete from private.email_bundles; if true then',
      ),
  ],
  [
    'a call that sent nothing dissolves its bundle whatever the calls before it may have done',
    (sql: Sql) => rewrite(sql, 'settle_emails', 'not (v_bundle.calls = 1', 'not (true or v_bundle.calls = 1'),
  ],
])('control: when %s, mails leave twice', async (_name, breakIt) => {
  const { seed } = randomOf('bundles that are broken');
  for (let n = 0; n < 100; n += 1) {
    const { broken } = await run(seed + n, breakIt);
    if (broken.some((what) => what.includes('was accepted 2 times'))) return;
  }
  expect.unreachable('a hundred scenes found nothing');
});
