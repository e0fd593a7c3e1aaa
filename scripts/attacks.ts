/**
 * `npm run attacks`: attacks the local stack as every kind of stranger would, with one tenant as the victim, and closes with
 * `N passed, N failed`: an attack passes when it was repelled. `--only 45,71` runs single ones, `--from sql` takes sql/ instead
 * of the migrations, `--mutations [--seed n] [--count n]` breaks the defences one at a time and shows that the attacks notice.
 */
import { type Group, type Result, runAttacks } from '../tests/attacks/harness.ts';
import { groups } from '../tests/attacks/list.ts';
import { startServer } from '../tests/attacks/server.ts';
import { buildScene, World } from '../tests/attacks/world.ts';
import { mutate } from './attack-mutations.ts';
import { main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { closingLine } from './dev/tally.ts';

const usage = `Usage: npm run attacks [-- [--only <number>,…] [--from migrations|sql] [--no-functions]]
       npm run attacks -- --mutations [--seed <n>] [--count <n>|all] [--kind <kind>] [--from migrations|sql]`;

const marks = { passed: 'ok  ', failed: 'FAIL', 'not applicable': ' –  ', 'left out': 'left' } as const;

function show(result: Result): void {
  const { attack, outcome, findings, requests, ms } = result;
  const effort = requests > 0 ? `${requests} requests, ${(ms / 1000).toFixed(1)} s` : '';
  process.stdout.write(
    `${marks[outcome]} ${attack.number.padStart(4)}  ${attack.title}  ${effort}\n`.replace(/ +\n/, '\n'),
  );
  for (const finding of findings) process.stdout.write(`           ${finding}\n`);
}

/** Runs groups of attacks and prints a table of them. */
async function attackAll(
  world: World,
  chosen: readonly Group[],
  only: string[] | undefined,
): Promise<Result[]> {
  let letter = '';
  return await runAttacks(world, chosen, {
    ...(only ? { only } : {}),
    onResult: (result) => {
      if (result.group !== letter) {
        letter = result.group;
        process.stdout.write(`\n${letter}. ${chosen.find((group) => group.letter === letter)?.title}\n`);
      }
      show(result);
    },
  });
}

async function run(options: {
  only: string[] | undefined;
  from: 'migrations' | 'sql';
  functions: boolean;
}): Promise<Outcome> {
  const startedAt = performance.now();
  const server = await startServer({ from: options.from, functions: options.functions });
  try {
    const world = await World.open(server, await buildScene(server));
    try {
      const results = await attackAll(world, groups, options.only);
      const count = (outcome: Result['outcome']) => results.filter((each) => each.outcome === outcome).length;
      const [passed, failed] = [count('passed'), count('failed')];
      const requests = results.reduce((sum, each) => sum + each.requests, 0);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
      const rest = [
        `${requests} requests in ${seconds} s`,
        ...(count('not applicable') > 0 ? [`${count('not applicable')} do not apply here`] : []),
        ...(count('left out') > 0 ? [`${count('left out')} left out`] : []),
      ];
      return {
        ok: failed === 0 && passed > 0,
        text: `\n${rest.join(', ')}.\n${closingLine({ passed, failed, skipped: 0 })}`,
      };
    } finally {
      await world.close();
    }
  } finally {
    await server.stop();
  }
}

if (import.meta.main) {
  await main(async () => {
    const { values } = readOptions(usage, {
      options: {
        only: { type: 'string' },
        from: { type: 'string', default: 'migrations' },
        'no-functions': { type: 'boolean', default: false },
        mutations: { type: 'boolean', default: false },
        seed: { type: 'string' },
        count: { type: 'string', default: '30' },
        kind: { type: 'string' },
      },
    });
    const { from } = values;
    if (from !== 'migrations' && from !== 'sql') throw new UsageError(usage);
    if (values.mutations) {
      const count = values.count === 'all' ? Number.POSITIVE_INFINITY : Number(values.count);
      const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
      if (Number.isNaN(count) || !Number.isSafeInteger(seed)) throw new UsageError(usage);
      return await mutate({ from, count, seed, kind: values.kind });
    }
    return await run({ only: values.only?.split(','), from, functions: !values['no-functions'] });
  });
}
