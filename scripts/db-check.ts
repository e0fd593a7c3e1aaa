/** `npm run db:check`: fails when supabase/migrations and sql/ give different databases, and shows the difference. */
import { differences, migrationsDatabase, sourceDatabase } from './dev/databases.ts';
import { main, type Outcome } from './dev/main.ts';
import { openScratch } from './dev/scratch.ts';

/** Compares the database of the migrations (`actual`) with the one of sql/ (`desired`). */
export async function checkDatabase(actual: string, desired: string): Promise<Outcome> {
  const lines = await differences(actual, desired);
  if (lines.length === 0) return { ok: true, text: 'supabase/migrations and sql/ give the same database.' };
  return {
    ok: false,
    text: [
      'supabase/migrations and sql/ give different databases. What the migrations lack, or have too much:',
      '',
      ...lines,
      '',
      'If sql/ is right: npm run db:diff -- <name>',
    ].join('\n'),
  };
}

if (import.meta.main) {
  await main(async () => {
    await using scratch = await openScratch();
    const actual = await migrationsDatabase(scratch);
    return await checkDatabase(actual, await sourceDatabase(scratch, actual));
  });
}
