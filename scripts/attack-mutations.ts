/**
 * `npm run attacks -- --mutations`: takes the defences away one at a time, each in a copy of the database of its own, and shows
 * that the attacks notice: an attack succeeds, or the rightful caller is locked out. The page of the security surface, which
 * notices everything, has no say here.
 */
import postgres from 'postgres';
import { type Result, runAttacks } from '../tests/attacks/harness.ts';
import { groups } from '../tests/attacks/list.ts';
import { type Mutation, mutationsOf, sampleOf } from '../tests/attacks/mutations.ts';
import { openCopies } from '../tests/attacks/server.ts';
import { World } from '../tests/attacks/world.ts';
import { type Outcome, UsageError } from './dev/main.ts';
import { closingLine } from './dev/tally.ts';

export interface MutationOptions {
  from: 'migrations' | 'sql';
  /** How many are tried; `Infinity` for all there are. */
  count: number;
  seed: number;
  /** Only those with this in their kind or name. */
  kind: string | undefined;
}

/** What people do from outside comes first, whatever is likely to notice before all; the catalog is asked last. */
const order = ['E', 'I', 'C', 'D', 'F', 'B', 'H', 'G', 'A'];
const likely: [of: RegExp, first: string[]][] = [
  [/^policy.*_(insert|update|delete)_|^foreign key/, ['D']],
  [/^(policy|row-level security|view)/, ['C']],
  [/^revoke undone/, ['B', 'D']],
];
const orderFor = (mutation: Mutation | undefined): string[] => {
  const text = mutation === undefined ? '' : `${mutation.kind}: ${mutation.what}`;
  const first = likely.find(([of]) => of.test(text))?.[1] ?? [];
  return [...first, ...order.filter((letter) => !first.includes(letter))];
};
/** Attacks that take long and look at no defence that is taken away here. */
const idle = ['20', '28', '113', '114'];

const write = (line: string) => void process.stdout.write(`${line}\n`);

export async function mutate(options: MutationOptions): Promise<Outcome> {
  const startedAt = performance.now();
  await using copies = await openCopies({ from: options.from });
  const admin = postgres(copies.templateUrl, { max: 1, onnotice: () => {} });
  const found = await mutationsOf(admin, copies.templateUrl).finally(() => admin.end());
  const all = found.filter(
    ({ kind, what }) => options.kind === undefined || `${kind}: ${what}`.includes(options.kind),
  );
  if (all.length === 0) {
    throw new UsageError(
      `There is no "${options.kind}". There are: ${[...new Set(found.map((each) => each.kind))].join(', ')}.`,
    );
  }
  const sample = sampleOf(all, options.count, options.seed);
  write(`${all.length} defences can be taken away; seed ${options.seed} chose ${sample.length}.`);

  const attacksOn = (mutation: Mutation | undefined) =>
    orderFor(mutation).flatMap((letter) =>
      groups
        .filter((group) => group.letter === letter)
        .map((group) => ({
          ...group,
          attacks: group.attacks.filter((each) => !each.needsFunctions && !idle.includes(each.number)),
        })),
    );
  const attempt = async (mutation: Mutation | undefined): Promise<Result | undefined> => {
    const copy = await copies.open();
    try {
      if (mutation) {
        const sql = postgres(copy.server.adminUrl, { max: 1, onnotice: () => {} });
        await sql.unsafe(mutation.sql).finally(() => sql.end());
      }
      await copy.start();
      const world = await World.open(copy.server, copies.scene);
      try {
        const results = await runAttacks(world, attacksOn(mutation), { stopAtFirst: true });
        return results.find((each) => each.outcome === 'failed');
      } finally {
        await world.close();
      }
    } finally {
      await copy.close();
    }
  };

  const untouched = await attempt(undefined);
  if (untouched) {
    return {
      ok: false,
      text: `With every defence in place attack ${untouched.attack.number} fails already: ${untouched.findings[0]}\n${closingLine({ passed: 0, failed: 1, skipped: 0 })}`,
    };
  }
  write('With every defence in place all attacks are repelled.\n');

  let noticed = 0;
  const missed: Mutation[] = [];
  // Ctrl-C waits for the copy in hand, not for all that are to come.
  let stopped = false;
  for (const event of ['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect'])
    process.once(event, () => (stopped = true));
  process.channel?.unref();
  for (const mutation of sample) {
    if (stopped) break;
    const failed = await attempt(mutation);
    if (failed) noticed += 1;
    else missed.push(mutation);
    write(`${failed ? 'ok  ' : 'FAIL'} ${mutation.kind}: ${mutation.what}`);
    write(
      failed
        ? `       attack ${failed.attack.number}: ${failed.findings[0]?.slice(0, 150)}`
        : '       nobody noticed',
    );
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  return {
    ok: missed.length === 0 && noticed > 0,
    text: `\n${noticed} of ${sample.length} noticed in ${seconds} s (seed ${options.seed}).\n${closingLine({ passed: noticed, failed: missed.length, skipped: 0 })}`,
  };
}
