/**
 * Several e-mails in one call, through the real worker in Deno: answers that are lost, workers that are killed, other parts of a bundle
 * claimed the second time. Resend's simulator keeps the record that counts: each mail accepted exactly once.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type LogEntry, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import { type EngineServer, startEngine, until } from '../engine/support.ts';
import { type Call, Rig } from './rig.ts';

let engine: EngineServer;
let simulators: Simulators;
let rig: Rig | undefined;

beforeAll(async () => {
  engine = await startEngine({ durable: true });
  simulators = await startSimulators({ only: ['whatsapp', 'resend'], world: 'empty' });
});
afterEach(async () => {
  await rig?.close();
  await control('/_script', undefined, 'DELETE');
  rig = undefined;
});
afterAll(async () => {
  await simulators?.stop();
  await engine?.stop();
});

async function control(path: string, body?: unknown, method = 'POST'): Promise<void> {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(`${simulators.urls.resend}${path}`, { method, ...sent });
  if (!response.ok) throw new Error(`the simulator refused ${path}: ${await response.text()}`);
}
const script = (behaviour: object) => control('/_script', { match: { path: '/emails/batch' }, ...behaviour });

let count = 0;

/** Tenants with mails that wait: `mails` each. On accounts of their own, or all on the platform's. */
async function scene(options: { tenants?: number; mails?: number; account?: 'own' | 'platform' } = {}) {
  count += 1;
  const opened = await Rig.open(engine, simulators, `mails-${count}`, { tenants: options.tenants ?? 1 });
  rig = opened;
  const { sql, tenants } = opened;
  await sql`
    update jobs.definitions
    set lease_seconds = 30, max_attempts = 50, backoff_seconds = 0.001, backoff_limit_seconds = 0.01, breaker_after = 1000, max_drains = 1
    where job = 'send-emails'`;
  const key = (index: number) => `re_canary_${count}_${options.account === 'platform' ? 'all' : index}`;
  for (const [index, { id, slug }] of tenants.entries()) {
    const account = { from: `${slug} <hi@${slug}.example>` };
    if (options.account === 'platform')
      await sql`select jobs.set_platform_credential('email', 'resend', ${sql.json({ api_key: key(index) })}, ${sql.json(account)})`;
    else
      await sql`select private.set_credential(${id}, 'email', 'resend', ${sql.json({ api_key: key(index) })}, ${sql.json(account)})`;
    const owner = options.account === 'platform' ? 'platform' : slug;
    const unlimited = { api_key: key(index), tenant: owner, requests_per_second: null };
    await control('/_world', { accounts: [unlimited] });
    await sql`
      select private.queue_message(${id}, 'alert', 'email', null, jsonb_build_object('message', n), 'mail ' || n, null, null,
        format('m%s-%s@example.com', n, ${slug}::text))
      from generate_series(1, ${options.mails ?? 6}::int) n`;
  }
  return { sql, rig: opened, since: simulators.requests.lastSeq() };
}

type Scene = Awaited<ReturnType<typeof scene>>;

const received = ({ since }: Scene): LogEntry[] => simulators.requests.list({ provider: 'resend', since });
const batches = (given: Scene) => received(given).filter(({ path }) => path === '/emails/batch');

/** How often each address was sent a mail, by the simulator's record. */
function accepted(given: Scene): Map<string, string[]> {
  const all = new Map<string, string[]>();
  for (const entry of received(given)) {
    for (const effect of entry.answer?.effects ?? []) {
      if (effect.kind === 'email')
        all.set(String(effect.to), [...(all.get(String(effect.to)) ?? []), effect.id]);
    }
  }
  return all;
}

interface Mail {
  recipient: string;
  status: string;
  provider_message_id: string | null;
  reason: string | null;
}
const outbox = async ({ sql }: Scene) =>
  await sql<Mail[]>`
    select recipient, status::text, provider_message_id, reason from public.notification_outbox order by recipient`;

/** Every mail was accepted once, and the outbox says so, with the id that it was given where that can be known. */
async function everyMailOnce(given: Scene, idsAreKnown = true): Promise<void> {
  const sent = accepted(given);
  const rows = await outbox(given);
  expect(rows.filter(({ status }) => status !== 'sent')).toEqual([]);
  expect(rows.map(({ recipient }) => sent.get(recipient)?.length)).toEqual(rows.map(() => 1));
  expect(rows.map(({ provider_message_id: id }) => id)).toEqual(
    rows.map(({ recipient }) => (idsAreKnown ? sent.get(recipient)?.[0] : null)),
  );
  expect(sent.size).toBe(rows.length);
  const [left] = await given.sql`select from private.email_bundles`;
  expect(left).toBeUndefined();
}

/** From now on a claim gets so many mails: other parts of a bundle than were in the call. */
const claimAtOnce = ({ sql }: Scene, size: number) =>
  sql`update jobs.definitions set batch_size = ${size}, quantum = ${size} where job = 'send-emails'`;

/** Ticks and rings until the worker has made so many calls with several mails. */
async function calls(given: Scene, wanted: number): Promise<void> {
  await until(`${wanted} calls`, async () => {
    await given.rig.turn();
    return batches(given).filter((entry) => entry.answer !== null).length >= wanted;
  });
}

function killAt(given: Scene, name: string, phase: 'before' | 'after'): { dead: () => boolean } {
  let dead = false;
  const kill = (call: Call) => {
    if (dead || call.name !== name) return undefined;
    dead = true;
    return given.rig.kill().then(() => 'drop' as const);
  };
  given.rig[phase] = kill;
  return { dead: () => dead && !given.rig.isRunning };
}

test('six mails that wait leave in one call', async () => {
  const given = await scene();
  await given.rig.start();
  await given.rig.settle();
  await everyMailOnce(given);
  expect(received(given).map(({ path }) => path)).toEqual(['/emails/batch']);
});

test('the answer is lost twice, and two mails at a time are claimed afterwards: each is accepted once', async () => {
  const given = await scene();
  await script({ times: 2, do: { reset: 'after' } });
  given.rig.before = (call) => {
    // The first claim has all of them; those after it only a part.
    if (call.name === 'bundle_emails' && call.nth === 1) return claimAtOnce(given, 2).then(() => undefined);
    return undefined;
  };
  await given.rig.start();
  await given.rig.settle();
  await everyMailOnce(given);
  const keys = new Set(batches(given).map(({ about }) => about.idempotency_key));
  expect(keys.size).toBe(1);
  expect(batches(given).length).toBeGreaterThanOrEqual(3);
  expect(new Set(batches(given).map(({ body_sha256: body }) => body)).size).toBe(1);
});

test.each([
  ['after', 'bundle_emails'],
  ['before', 'settle_emails'],
  ['after', 'settle_emails'],
  ['before', 'close_batch'],
  ['after', 'close_batch'],
] as const)('kill -9 %s %s, and other parts are claimed: each is accepted once', async (phase, name) => {
  const given = await scene({ tenants: 2, account: 'platform' });
  const { dead } = killAt(given, name, phase);
  await given.rig.start();
  await until('the worker to die', async () => {
    await given.rig.turn();
    return dead();
  });
  await claimAtOnce(given, 2);
  await given.rig.settle();
  await everyMailOnce(given);
  // On one account, and still no call has mails of two tenants.
  for (const { about } of batches(given)) {
    const slugs = (about.to as string[][]).map(([to]) => /-(.*)@/.exec(to ?? '')?.[1]);
    expect(new Set(slugs).size).toBe(1);
  }
});

test('kill -9 while Resend has accepted and not yet answered: each is accepted once', async () => {
  const given = await scene();
  await script({ do: { delay_ms: 3_000 } });
  await given.rig.start();
  await given.rig.turn();
  await until(
    'the mails to be accepted',
    async () => accepted(given).size === 6 || batches(given).length > 0,
  );
  await given.rig.kill();
  await claimAtOnce(given, 4);
  await given.rig.settle();
  await everyMailOnce(given);
});

test('consent that is withdrawn after the answer was lost: with the first call all had left, and the record says so', async () => {
  const given = await scene({ mails: 3 });
  await script({ do: { reset: 'after' } });
  await withdrawn(given);
  await everyMailOnce(given, false);
  expect((await outbox(given)).map(({ reason }) => reason)).toEqual(
    Array(4).fill('accepted with an earlier call, whose answer was lost'),
  );
});

test('consent that is withdrawn before the call arrived: that mail never leaves, the others do, once', async () => {
  const given = await scene({ mails: 3 });
  await script({ do: { reset: 'before' } });
  await withdrawn(given);
  const rows = await outbox(given);
  expect(rows.map(({ status }) => status).sort()).toEqual(['no_consent', 'sent', 'sent', 'sent']);
  const sent = accepted(given);
  expect(sent.size).toBe(3);
  for (const { recipient, status } of rows)
    expect(sent.get(recipient)?.length ?? 0).toBe(status === 'sent' ? 1 : 0);
});

/** One of the mails is to a participant who takes the consent back while nobody knows whether the call arrived. */
async function withdrawn(given: Scene): Promise<void> {
  const { sql } = given;
  const tenant = given.rig.tenants[0]?.id ?? '';
  const consent = (granted: boolean) => sql`
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, source)
    select p.tenant_id, p.id, 'email', ${granted}, 'test' from public.participants p`;
  await sql`insert into public.participants (tenant_id, display_name) values (${tenant}, 'Ana')`;
  await consent(true);
  await sql`
    select private.queue_message(${tenant}, 'alert', 'email', p.id, '{"message": "4"}', 'mail 4', null, null, 'ana@example.com')
    from public.participants p`;
  // Nothing is claimed again before the consent is gone.
  await sql`update jobs.definitions set backoff_seconds = 3600, backoff_limit_seconds = 3600 where job = 'send-emails'`;
  await given.rig.start();
  await calls(given, 1);
  await until('the mails to come back', async () => {
    const [row] = await sql`select count(*)::int as waiting from jobs.items where attempts = 1`;
    return row?.waiting === 4;
  });
  await consent(false);
  await sql`select private.end_queued(array_agg(p.tenant_id), array_agg(p.id), 'email', 'all', 'the participant has withdrawn consent') from public.participants p`;
  await sql`update jobs.items set run_at = now() - interval '1 minute'`;
  await given.rig.pass();
  await given.rig.settle();
}

test('one bad mail: Resend refuses the call, and each of the others is accepted once, by itself', async () => {
  const given = await scene();
  const { slug } = given.rig.tenants[0] ?? { slug: '' };
  const bad = `m3-${slug}@example.com`;
  await control('/_script', {
    match: { contains: bad },
    times: 'always',
    do: { error: { name: 'validation_error' } },
  });
  const { dead } = killAt(given, 'settle_emails', 'after');
  await given.rig.start();
  await until('the worker to die', async () => {
    await given.rig.turn();
    return dead();
  });
  await given.rig.settle();
  const rows = await outbox(given);
  expect(rows.map(({ recipient, status }) => [recipient, status])).toEqual(
    rows.map(({ recipient }) => [recipient, recipient === bad ? 'failed' : 'sent']),
  );
  expect([...accepted(given)].map(([, ids]) => ids.length)).toEqual(Array(5).fill(1));
  expect(batches(given)).toHaveLength(1);
});

// Without this, mails that always arrive once would prove nothing.
test('control: when what was noted is forgotten, mails are accepted twice and the record shows it', async () => {
  const given = await scene();
  await script({ do: { reset: 'after' } });
  await given.sql`update jobs.definitions set backoff_seconds = 3600, backoff_limit_seconds = 3600 where job = 'send-emails'`;
  await given.rig.start();
  await calls(given, 1);
  await until('the mails to come back', async () => {
    const rows = await given.sql`select from jobs.items where attempts = 1`;
    return rows.length === 6;
  });
  await given.sql`delete from private.email_bundles`;
  await given.sql`update jobs.items set run_at = now() - interval '1 minute'`;
  await given.rig.pass();
  await given.rig.settle();
  expect([...accepted(given)].map(([, ids]) => ids.length)).toEqual(Array(6).fill(2));
});
