/**
 * `npm run db:diff -- <name>`: writes the next migration, the difference between supabase/migrations and sql/, after proving that
 * it leads to the same database. `--allow-drops` lets it drop things.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './dev/command.ts';
import {
  applyFiles,
  contents,
  isRowsFile,
  lineDifference,
  migrationFiles,
  type SqlFile,
  schemaDifference,
  sourceFiles,
} from './dev/compare.ts';
import { differences, dropDatedPartitions, migrationsDatabase, sourceDatabase } from './dev/databases.ts';
import { main, type Outcome, UsageError } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { openScratch, type Scratch } from './dev/scratch.ts';

const usage =
  'Usage: npm run db:diff -- <name> [--allow-drops]     name: what the migration does, such as add_coupons';

/** Short locks, and no waiting without a limit: a migration must not stop a live database. */
const limits = `set local lock_timeout = '5s';
set local statement_timeout = '5min';
`;

/** Writes the next migration, one file per transaction, and returns what a person reads about it. */
export async function writeMigration(
  scratch: Scratch,
  name: string,
  options: { allowDrops: boolean; now?: Date },
): Promise<Outcome> {
  const actual = await migrationsDatabase(scratch);
  const desired = await sourceDatabase(scratch, actual);
  const { segments, losses, changes } = await schemaDifference(actual, desired, options);
  if (losses.length > 0 && !options.allowDrops) {
    return {
      ok: false,
      text: [
        'Nothing was written: this difference drops what holds data. If that is right, add --allow-drops.',
        '',
        ...losses.map((change) => `${change};`),
      ].join('\n'),
    };
  }

  const texts = segments.map(({ sql, transactional }) =>
    transactional
      ? `${limits}-- Functions may come before what they use.\nset local check_function_bodies = off;\n\n${sql}`
      : `-- pg-delta: transaction=false\n\n${sql}`,
  );
  const rows = await changedRowsFiles(scratch, texts);
  if (rows.length > 0) {
    const text = rows.map((file) => `-- ${file.path}\n${file.text.trim()}\n`).join('\n');
    texts.push(`${limits}\n${text}`);
  }
  if (texts.length === 0) {
    const left = await differences(actual, desired);
    if (left.length === 0)
      return { ok: true, text: 'No difference: the migrations already give the database of sql/.' };
    return { ok: false, text: [notCarried, '', ...left].join('\n') };
  }

  const files = texts.map((text, index) => ({
    path: `supabase/migrations/${timestamp(options.now ?? new Date(), index)}_${name}${index === 0 ? '' : `_${index + 1}`}.sql`,
    text: `-- ${name.replaceAll('_', ' ')}: written by \`npm run db:diff\` from sql/.\n${text}`,
  }));
  const last = (await migrationFiles()).at(-1)?.path;
  const first = files[0]?.path;
  if (last !== undefined && first !== undefined && last >= first) {
    throw new UsageError(`${last} is dated later than now: a migration after it would be applied before it.`);
  }

  const proof = await scratch.create('proof');
  await applyFiles(proof, [...(await migrationFiles()), ...files]);
  await dropDatedPartitions(proof);
  const left = await differences(proof, desired);
  if (left.length > 0) {
    return { ok: false, text: [notCarried, '', ...left].join('\n') };
  }
  await mkdir(join(root, 'supabase', 'migrations'), { recursive: true });
  for (const file of files) await writeFile(join(root, file.path), file.text, { flag: 'wx' });
  return {
    ok: true,
    text: [
      ...files.map((file) => `Wrote ${file.path}`),
      `Schema changes: ${changes.length}, files of rows: ${rows.length}. Proven: now the migrations give the database of sql/.`,
    ].join('\n'),
  };
}

const notCarried =
  'Nothing was written: this is what a generated migration would leave different. Write it by hand in supabase/migrations, ' +
  'or, for rows and cron entries, as an idempotent statement in a file sql/…/….rows.sql.';

/** The files of rows that change something in a database that has the schema already. */
async function changedRowsFiles(scratch: Scratch, schemaTexts: readonly string[]): Promise<SqlFile[]> {
  const candidates = (await sourceFiles()).filter(isRowsFile);
  if (candidates.length === 0) return [];
  const trial = await scratch.create('trial');
  const schema = schemaTexts.map((text) => ({ path: 'the generated migration', text }));
  await applyFiles(trial, [...(await migrationFiles()), ...schema]);
  const changed: SqlFile[] = [];
  let before = await contents(trial);
  for (const file of candidates) {
    await applyFiles(trial, [file]);
    const after = await contents(trial);
    if (lineDifference(before, after).length > 0) changed.push(file);
    before = after;
  }
  return changed;
}

/** UTC, in the form that the CLI sorts by; files of one difference are a second apart. */
function timestamp(now: Date, index: number): string {
  return new Date(now.getTime() + index * 1000).toISOString().replace(/\D/g, '').slice(0, 14);
}

if (import.meta.main) {
  await main(async () => {
    const { values, positionals } = readOptions(usage, {
      allowPositionals: true,
      options: { 'allow-drops': { type: 'boolean', default: false } },
    });
    const [name, ...more] = positionals;
    if (name === undefined || more.length > 0) throw new UsageError(usage);
    if (!/^[a-z][a-z0-9_]*$/.test(name))
      throw new UsageError(`A name has lower-case letters, digits and _ only.\n${usage}`);
    await using scratch = await openScratch();
    return await writeMigration(scratch, name, { allowDrops: values['allow-drops'] });
  });
}
