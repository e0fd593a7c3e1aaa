import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, type TestContext, test } from 'vitest';
import { z } from 'zod';

const count = z.int().min(0);
const counts = { claimed: count, verified: count, failed: count, waiting: count };
const resultSchema = z.strictObject({
  tenants: z.array(
    z.strictObject({
      slug: z.string(),
      ...counts,
      credential_sources: z.strictObject({ tenant: count, platform: count }),
      messages: z.strictObject({ sent: count, held: count, disabled: count, unknown: count }),
      reviews: z.strictObject({ approved: count, rejected: count }),
    }),
  ),
  kinds: z.array(z.strictObject({ kind: z.string(), ...counts })),
  cron_entries: count,
  wrong_credential_uses: count,
  duplicate_messages: count,
  lost_items: count,
  credentials: z.strictObject({ broken: count, healed: count, burnt_attempts: count }),
  seconds: z.number().positive(),
});

// What the cast in scripts/demo/cast.ts amounts to.
const totals = [
  {
    slug: 'pizza-shop',
    claimed: 16,
    verified: 12,
    failed: 1,
    waiting: 3,
    messages: { sent: 12, held: 0, disabled: 0, unknown: 0 },
    reviews: { approved: 0, rejected: 0 },
  },
  {
    slug: 'gym',
    claimed: 11,
    verified: 8,
    failed: 2,
    waiting: 1,
    messages: { sent: 8, held: 0, disabled: 0, unknown: 0 },
    reviews: { approved: 0, rejected: 0 },
  },
  {
    slug: 'salon',
    claimed: 10,
    verified: 7,
    failed: 2,
    waiting: 1,
    messages: { sent: 0, held: 5, disabled: 3, unknown: 0 },
    reviews: { approved: 1, rejected: 1 },
  },
];
const kinds = [
  { kind: 'facebook_comment', claimed: 12, verified: 9, failed: 0, waiting: 3 },
  { kind: 'instagram_comment', claimed: 16, verified: 12, failed: 4, waiting: 0 },
  { kind: 'instagram_photo_tag', claimed: 1, verified: 1, failed: 0, waiting: 0 },
  { kind: 'instagram_mention', claimed: 1, verified: 1, failed: 0, waiting: 0 },
  { kind: 'instagram_dm_keyword', claimed: 1, verified: 1, failed: 0, waiting: 0 },
  { kind: 'instagram_follow', claimed: 2, verified: 1, failed: 0, waiting: 1 },
  { kind: 'link_visit', claimed: 2, verified: 1, failed: 0, waiting: 1 },
  { kind: 'x_follow', claimed: 2, verified: 1, failed: 1, waiting: 0 },
];

// Where pg_cron ticks every minute only (before 1.5, on a server given by DATABASE_URL), the demo takes minutes.
const timeout = process.env.DATABASE_URL ? 600_000 : 150_000;

type Demo = ChildProcessByStdio<null, Readable, Readable>;

// Copies of the demo run side by side, but not in one database.
const demoTest = process.env.DATABASE_URL ? test : test.concurrent;

/** Starts the demo as a person would, and collects what it prints. It ends with its test. */
function start({ onTestFinished }: Pick<TestContext, 'onTestFinished'>, ...flags: string[]) {
  const demo: Demo = spawn(process.execPath, ['scripts/run.mjs', 'demo', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async () => {
    if (demo.exitCode !== null || demo.signalCode !== null) return;
    demo.kill('SIGTERM');
    await once(demo, 'exit');
  });
  const printed = { stdout: '', stderr: '' };
  demo.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed.stdout += text;
  });
  demo.stderr.setEncoding('utf8').on('data', (text: string) => {
    printed.stderr += text;
  });
  const ended = new Promise<number | null>((resolve) => {
    demo.once('close', resolve);
  });
  return { demo, printed, ended };
}

/** The result that a demo printed last. What it told a person comes with a failure. */
async function resultOf({ printed, ended }: ReturnType<typeof start>) {
  const code = await ended;
  expect(code, printed.stderr).toBe(0);
  return resultSchema.parse(JSON.parse(printed.stdout.trimEnd().split('\n').at(-1) ?? ''));
}

/** `unknown`: how many messages may be so: those that a killed worker was about to send. */
function expectPromisesKept(result: z.infer<typeof resultSchema>, unknown = 0): void {
  const known = result.tenants.map(({ messages, ...row }, n) => {
    // Whether such a message left, only the provider knows. It is not sent again, and nobody else's is missing.
    const missing = (totals[n]?.messages.sent ?? 0) - messages.sent;
    expect(missing).toBeGreaterThanOrEqual(0);
    expect(messages.unknown).toBeGreaterThanOrEqual(missing);
    return { ...row, messages: { ...messages, sent: messages.sent + missing, unknown: 0 } };
  });
  expect(result.tenants.reduce((sum, { messages }) => sum + messages.unknown, 0)).toBeLessThanOrEqual(
    unknown,
  );
  expect({ ...result, tenants: known }).toMatchObject({
    tenants: totals,
    kinds,
    cron_entries: 1,
    wrong_credential_uses: 0,
    duplicate_messages: 0,
    lost_items: 0,
    credentials: { broken: 1, healed: 1, burnt_attempts: 0 },
  });
  const [pizza, gym, salon] = result.tenants.map((tenant) => tenant.credential_sources);
  // Pizza Shop has both credentials of its own, Gym borrows WhatsApp for its messages, Salon has nothing.
  expect(pizza?.tenant).toBeGreaterThan(0);
  expect(pizza?.platform).toBe(0);
  expect(gym?.tenant).toBeGreaterThan(0);
  expect(gym?.platform).toBe(result.tenants[1]?.messages.sent);
  expect(salon?.tenant).toBe(0);
  expect(salon?.platform).toBeGreaterThan(0);
}

/** The first match in what the demo prints; fails when it ends without it. */
async function printedBy({ demo, printed }: ReturnType<typeof start>, pattern: RegExp) {
  for (;;) {
    const found = pattern.exec(printed.stderr);
    if (found) return found;
    if (demo.exitCode !== null || demo.signalCode !== null) throw new Error(printed.stderr);
    await delay(20);
  }
}

/** Every process that descends from this one. */
function descendants(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' });
  const rows = stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  const found: number[] = [];
  for (let parents = [pid]; parents.length > 0; ) {
    parents = rows.flatMap(([child, parent]) =>
      child !== undefined && parent !== undefined && parents.includes(parent) ? [child] : [],
    );
    found.push(...parents);
  }
  return found;
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** What a person reads, in this order, whatever happens in between. */
function expectInOrder(text: string, lines: readonly RegExp[]): void {
  let rest = text;
  for (const line of lines) {
    const found = line.exec(rest);
    expect(found, `${line} is missing, or too early, in:\n${text}`).not.toBeNull();
    rest = rest.slice((found?.index ?? 0) + (found?.[0].length ?? 0));
  }
}

demoTest(
  'the demo keeps every promise, for three tenants with one cron entry',
  { timeout },
  async (context) => {
    const run = start(context, '--json');
    expectPromisesKept(await resultOf(run));
    const { stderr } = run.printed;

    expectInOrder(stderr, [
      /Salon +"Follow us on X" is refused: First somebody has to acknowledge the rule/,
      /Salon +Lakshmi acknowledges the rule/,
      /Salon +Lakshmi finds 2 claims to review/,
      /Salon +Nikhil's X follow: rejected: This account does not follow us/,
    ]);
    expectInOrder(stderr, [
      /Gym +Ethan's Instagram follow: needs a message first: https:\/\/ig\.me\/m\/the\.gym\?ref=OC-/,
      /Gym +Ethan writes to the Gym through the link/,
      /Gym +Ethan's Instagram follow: verified with its own credential, \+2 spins/,
    ]);
    expectInOrder(stderr, [
      /Gym +Instagram ends the Gym's access/,
      /Gym +one alert; the work that needs the token is parked/,
      /Gym +Frank reads: expired\. The access has expired: connect the account again\./,
      /Gym +Frank connects the account again/,
      /Gym +Zoe: verified with its own credential/,
    ]);
    expectInOrder(stderr, [/Salon +Meera: message held until \d\d:\d\d \(Asia\/Kolkata\), quiet hours/]);
    // The addresses of the stack and of links vary; all else fits a terminal.
    const story = stderr.slice(stderr.indexOf('one pg_cron entry ticks'));
    expect(story.split('\n').filter((line) => line.length > 120)).toEqual([]);
  },
);

demoTest('a worker killed in the middle of a batch only delays', { timeout }, async (context) => {
  const run = start(context, '--json');
  const ready = await printedBy(run, /simulated Meta (http:\S+?)\. The worker is process (\d+)/);
  const [, meta, worker] = ready;
  // Every comment page is slow for now, so the first batch is certainly open when the worker dies.
  const slow = { match: { path: '/comments' }, times: 'always', do: { delay_ms: 5000 } };
  await fetch(`${meta}/_script`, { method: 'POST', body: JSON.stringify(slow) });
  const asked = z.object({ entries: z.array(z.unknown()) });
  for (;;) {
    const { entries } = asked.parse(await (await fetch(`${meta}/_log`)).json());
    if (entries.length > 0) break;
    await delay(20);
  }
  process.kill(Number(worker), 'SIGKILL');
  await fetch(`${meta}/_script`, { method: 'DELETE' });
  expect(run.printed.stderr).not.toContain('verified with');
  // Messages about visits and chats may be on their way by then.
  expectPromisesKept(await resultOf(run), 3);
});

demoTest('Ctrl-C in the middle leaves no process behind', { timeout }, async (context) => {
  const run = start(context);
  // Without --json everything goes to stdout.
  while (!run.printed.stdout.includes(' claims "')) {
    expect(run.demo.exitCode, run.printed.stdout).toBeNull();
    await delay(20);
  }
  const processes = descendants(run.demo.pid ?? 0);
  expect(processes.length).toBeGreaterThan(1);
  run.demo.kill('SIGINT');
  expect(await run.ended).toBe(130);
  expect(processes.filter(isAlive)).toEqual([]);
});

demoTest('an unknown option is answered with the usage', { timeout }, async (context) => {
  const run = start(context, '--jsno');
  expect(await run.ended).toBe(2);
  expect(run.printed.stderr).toContain('Usage: npm run demo');
});
