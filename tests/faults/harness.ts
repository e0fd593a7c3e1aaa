/** What a fault is, and how it is judged: after it, the books are kept from three records that do not know of one another. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { brokenRules, type EngineServer, type Random, seeded, startEngine } from '../engine/support.ts';
import { job, Rig, type RigOptions } from './rig.ts';

export interface Fault {
  /** What it is known by: `npm run faults` prints it, `--only` takes it. */
  number: number;
  /** What was injected. */
  name: string;
  /** Part of the short set that runs with every `npm test`. */
  quick?: boolean;
  run?: (trial: Trial) => Promise<void>;
  /** Tests elsewhere that inject (the rest of) it: the runner runs them with the same seed. */
  elsewhere?: { file: string; test: string }[];
  /** Absent `run` and `elsewhere`: why it does not apply here. */
  because?: string;
}

export interface World {
  engine: EngineServer;
  simulators: Simulators;
  stop(): Promise<void>;
}

export async function openWorld(): Promise<World> {
  // Durable: a server that may lose its last commits proves nothing here.
  const engine = await startEngine({ durable: true });
  try {
    const simulators = await startSimulators({ only: ['whatsapp'], world: 'empty' });
    return {
      engine,
      simulators,
      stop: async () => {
        await simulators.stop();
        await engine.stop();
      },
    };
  } catch (error) {
    await engine.stop();
    throw error;
  }
}

export class Trial {
  readonly findings: string[] = [];
  /** The same seed and number give the same fault. */
  readonly random: Random;
  readonly number: number;
  readonly #world: World;
  readonly #rigs: Rig[] = [];

  constructor(world: World, number: number, seed: number) {
    this.#world = world;
    this.number = number;
    this.random = seeded(seed + number);
  }

  get engine(): EngineServer {
    return this.#world.engine;
  }

  get simulators(): Simulators {
    return this.#world.simulators;
  }

  /** A rig of its own; its worker is not started yet. Its books are kept when the fault is over. */
  async rig(options: RigOptions = {}): Promise<Rig> {
    const rig = await Rig.open(this.#world.engine, this.#world.simulators, String(this.number), options);
    this.#rigs.push(rig);
    return rig;
  }

  /** A sentence that has to be true. */
  must(holds: boolean, sentence: string): void {
    if (!holds) this.findings.push(`not so: ${sentence}`);
  }

  is<T>(found: T, wanted: T, what: string): void {
    if (JSON.stringify(found) !== JSON.stringify(wanted))
      this.findings.push(`${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  }

  /** Something that must be refused, with this SQLSTATE. */
  async refused(code: string, what: string, attempt: () => Promise<unknown>): Promise<void> {
    try {
      await attempt();
      this.findings.push(`${what}: was not refused`);
    } catch (error) {
      const found = error instanceof Error && 'code' in error ? String(error.code) : String(error);
      if (found !== code) this.findings.push(`${what}: refused with ${found} instead of ${code}`);
    }
  }

  /** Lets a rig come to rest, keeps its books, and takes it down. */
  async done(rig: Rig): Promise<void> {
    try {
      await rig.settle();
      this.findings.push(...(await books(rig)));
    } finally {
      this.#rigs.splice(this.#rigs.indexOf(rig), 1);
      await rig.close();
    }
  }

  async finish(): Promise<void> {
    for (const rig of [...this.#rigs]) await this.done(rig);
  }

  async abandon(): Promise<void> {
    await Promise.allSettled(this.#rigs.splice(0).map((rig) => rig.close()));
  }
}

/** Many deaths and restarts of one fault take their time on a small machine; for ever is a finding. */
const patienceMs = 300_000;

export interface Result {
  fault: Fault;
  outcome: 'passed' | 'failed' | 'not applicable';
  findings: string[];
  ms: number;
}

/** Injects one fault and judges what is left of the engine. Tests elsewhere are the caller's to run. */
export async function inject(world: World, fault: Fault, seed: number): Promise<Result> {
  const startedAt = performance.now();
  const end = (outcome: Result['outcome'], findings: string[]): Result => ({
    fault,
    outcome,
    findings,
    ms: performance.now() - startedAt,
  });
  if (!fault.run) return end(fault.elsewhere ? 'passed' : 'not applicable', []);
  const trial = new Trial(world, fault.number, seed);
  try {
    await Promise.race([
      fault.run(trial).then(() => trial.finish()),
      delay(patienceMs, undefined, { ref: false }).then(() => {
        throw new Error(`not over after ${patienceMs / 1000} s`);
      }),
    ]);
  } catch (error) {
    await trial.abandon();
    trial.findings.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return end(trial.findings.length === 0 ? 'passed' : 'failed', trial.findings);
}

// The books -----------------------------------------------------------------------------------------------------------

interface Told {
  n: number;
  outcome: string;
  status: string | null;
  message_id: string | null;
}

interface Ended {
  n: number;
  item_id: number;
  try: number;
  outcome: string;
  in_order: boolean;
}

/** All invariants that the engine answers for, once it has come to rest. Empty: they hold. */
export async function books(rig: Rig): Promise<string[]> {
  const found: string[] = [];
  const say = (rule: string, what: string) => found.push(`${rule}: ${what}`);
  const { sql, admin } = rig;
  const told = await sql<Told[]>`select n, outcome, status, message_id from public.told`;
  const attempts = await sql<Ended[]>`
    select right(a.subject_id::text, 12)::int as n, a.item_id::int, a.try, a.outcome,
      a.started_at <= a.finished_at and a.try = row_number() over (partition by a.tenant_id, a.item_id order by a.try) as in_order
    from jobs.attempts a where a.job = ${job}`;
  const dead = await sql<{ n: number; attempts: number }[]>`
    select right(d.subject_id::text, 12)::int as n, d.attempts from jobs.dead_items d where d.job = ${job}`;
  const received = rig.received();

  // I1: what was accepted has ended, once, and nothing came from nowhere.
  for (const what of await brokenRules(sql, job)) say('I1', what);
  const ended = attempts.filter(({ outcome }) =>
    ['done', 'unknown', 'refused', 'cancelled'].includes(outcome),
  );
  const ends = new Map<number, number>();
  for (const { n } of ended) ends.set(n, (ends.get(n) ?? 0) + 1);
  for (const { n } of dead) if (!ends.has(n)) ends.set(n, 1);
  for (const n of rig.accepted) if (!ends.has(n)) say('I1', `message ${n} was accepted and never ended`);
  for (const [n, times] of ends) {
    if (times > 1) say('I1', `message ${n} ended ${times} times`);
    if (!rig.accepted.has(n) && !rig.maybe.has(n)) say('I1', `message ${n} came from nowhere`);
  }
  if ((await rig.left()) > 0) say('I1', `${await rig.left()} items are left`);

  // I2: the domain was told once of each.
  const tellings = new Map<number, Told[]>();
  for (const each of told) tellings.set(each.n, [...(tellings.get(each.n) ?? []), each]);
  for (const [n, each] of tellings)
    if (each.length > 1) say('I2', `the domain was told ${each.length} times of ${n}`);
  for (const n of ends.keys()) if (!tellings.has(n)) say('I2', `the domain was not told of ${n}`);

  // I3: by the provider's own record no message left twice; what is called sent did leave, what is called dead did not.
  const left = new Map<number, string[]>();
  for (const entry of received) {
    const n = Number(String(entry.about.text).split(' #')[1]);
    const ids = (entry.answer?.effects ?? []).filter(({ kind }) => kind === 'message').map(({ id }) => id);
    left.set(n, [...(left.get(n) ?? []), ...ids]);
  }
  for (const [n, ids] of left) if (ids.length > 1) say('I3', `message ${n} left ${ids.length} times`);
  for (const each of told) {
    const ids = left.get(each.n) ?? [];
    if (each.status === 'sent' && (ids.length !== 1 || ids[0] !== each.message_id))
      say(
        'I3',
        `message ${each.n} is called sent as ${each.message_id}, the provider knows ${ids.join(', ') || 'none'}`,
      );
    if (each.outcome === 'dead' && ids.length > 0)
      say('I3', `message ${each.n} is dead and left all the same`);
  }

  // I4: at no instant of the provider's record did a tenant have more in flight than its cap.
  const cap = rig.options.cap ?? 50;
  for (const tenant of rig.tenants) {
    const events = received
      .filter((entry) => entry.tenant === tenant.slug)
      .flatMap((entry) => [
        { at: Date.parse(entry.at), change: 1 },
        { at: Date.parse(entry.answer?.at ?? entry.at), change: -1 },
      ])
      .sort((a, b) => a.at - b.at || a.change - b.change);
    let now = 0;
    let most = 0;
    for (const event of events) {
      now += event.change;
      most = Math.max(most, now);
    }
    if (most > cap) say('I4', `${tenant.slug} had ${most} calls at once, its cap is ${cap}`);
    // I5: nor more in any minute than its rate.
    const rate = rig.options.ratePerMinute;
    const times = events.filter(({ change }) => change > 0).map(({ at }) => at);
    times.forEach((from, index) => {
      const within = times.slice(index).filter((at) => at < from + 60_000).length;
      if (rate !== undefined && within > rate)
        say('I5', `${tenant.slug} had ${within} calls in a minute, its rate is ${rate}`);
    });
  }

  // I6: every message went out with the token of the tenant that it names.
  for (const entry of received) {
    const owner = String(entry.about.text).split(' #')[0];
    if (entry.tenant !== owner) say('I6', `a message of ${owner} went out with the token of ${entry.tenant}`);
  }

  // I7 and I8: tries are numbered without a gap, in order of time, and are not more than allowed.
  const allowed = rig.options.maxAttempts ?? 50;
  for (const { n, in_order, try: nth } of attempts)
    if (!in_order) say('I8', `try ${nth} of message ${n} is out of order`);
  for (const each of dead)
    if (each.attempts > allowed) say('I7', `message ${each.n} died after ${each.attempts} attempts`);
  if (new Set(dead.map(({ n }) => n)).size !== dead.length) say('I7', 'a message died twice');

  // The process log says "accepted" once of a message; the database does not call such a one failed.
  const accepted = new Map<number, number>();
  for (const { event, item } of rig.events()) {
    if (event === 'message accepted') accepted.set(item, (accepted.get(item) ?? 0) + 1);
  }
  const itemEnds = new Map(ended.map(({ item_id, outcome }) => [item_id, outcome]));
  for (const [item, times] of accepted) {
    if (times > 1) say('I3', `the worker heard ${times} times that item ${item} was accepted`);
    if (!['done', 'unknown'].includes(itemEnds.get(item) ?? ''))
      say(
        'I18',
        `the worker heard that item ${item} was accepted; the database calls it ${itemEnds.get(item)}`,
      );
  }

  // I13 and I14: nothing stays behind, and an incident has one alert.
  const [rest] = await admin<
    { batches: number; leases: number; drains: number; queue: number; runs: number }[]
  >`
    select (select count(*)::int from jobs.batches) as batches, (select count(*)::int from jobs.leases) as leases,
      (select count(*)::int from jobs.drains where ended_at is null) as drains,
      (select count(*)::int from net.http_request_queue) as queue,
      (select count(*)::int from jobs.runs r where r.finished_at is null and r.started_at < now() - interval '1 hour') as runs`;
  for (const [what, count] of Object.entries(rest ?? {}))
    if (count > 0) say('I13', `${count} ${what} are left`);
  for (const { incident, times } of await sql<{ incident: string; times: number }[]>`
    select incident, count(*)::int as times from jobs.alerts group by tenant_id, incident, closed_at is null
    having count(*) filter (where closed_at is null) > 1 or count(*) > 5`)
    say('I14', `${times} alerts for "${incident}"`);

  // I15: no secret in any record.
  const [text] = await admin<{ text: string }[]>`
    select concat_ws(' ', (select string_agg(a::text, ' ') from jobs.attempts a), (select string_agg(i::text, ' ') from jobs.items i),
      (select string_agg(e::text, ' ') from jobs.leases e),
      (select string_agg(d::text, ' ') from jobs.drains d), (select string_agg(d::text, ' ') from jobs.dead_items d),
      (select string_agg(a::text, ' ') from jobs.alerts a), (select string_agg(r::text, ' ') from jobs.runs r),
      (select string_agg(q::text, ' ') from net.http_request_queue q), (select string_agg(j::text, ' ') from cron.job j)) as text`;
  const records = {
    'the database': text?.text ?? '',
    'the process log': rig.lines.join('\n'),
    'the provider’s log': await rig.simulatorLog(),
  };
  for (const [where, record] of Object.entries(records)) {
    for (const canary of rig.canaries) {
      if (record.includes(canary)) say('I15', `a secret (${canary.slice(0, 8)}…) is in ${where}`);
    }
  }
  return found;
}
