/**
 * `npm run types`: writes functions/_shared/database.types.ts from the database that the migrations give. With `--check` it only
 * compares.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bin, outputOf, root, runCommand, supabase } from './dev/command.ts';
import { migrationsDatabase } from './dev/databases.ts';
import { main, type Outcome } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { openScratch } from './dev/scratch.ts';

const usage = 'Usage: npm run types [-- --check]';

const path = 'functions/_shared/database.types.ts';
const schemas = ['public', 'jobs'];

/** The TypeScript types of the database at `url`, formatted like the rest of the code. */
export async function generateTypes(url: string): Promise<string> {
  const generated = await supabase([
    'gen',
    'types',
    `--remote=${url}`,
    ...schemas.flatMap((schema) => ['--schema', schema]),
  ]);
  if (generated.code !== 0) throw new Error(`supabase gen types failed:\n${outputOf(generated)}`);
  const text = `// Written by \`npm run types\` from the database. Not edited by hand.\n${generated.stdout}`;
  const formatted = await runCommand(bin('biome'), ['format', `--stdin-file-path=${path}`], { input: text });
  if (formatted.code !== 0) throw new Error(`biome could not format the types:\n${outputOf(formatted)}`);
  return formatted.stdout;
}

/** Compares the file with the database at `url`. */
export async function checkTypes(url: string): Promise<Outcome> {
  const wanted = await generateTypes(url);
  const present = await readFile(join(root, path), 'utf8').catch(() => '');
  if (wanted === present) return { ok: true, text: `${path} matches the database.` };
  return { ok: false, text: `${path} is not what the database gives. Write it anew: npm run types` };
}

if (import.meta.main) {
  await main(async () => {
    const { values } = readOptions(usage, { options: { check: { type: 'boolean', default: false } } });
    await using scratch = await openScratch();
    const url = await migrationsDatabase(scratch);
    if (values.check) return await checkTypes(url);
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), await generateTypes(url));
    return { ok: true, text: `Wrote ${path}` };
  });
}
