/** `npm run attacks -- --mutations`: takes the defences away one at a time and shows that an attack then succeeds. */
import type { Outcome } from './dev/main.ts';

export interface MutationOptions {
  from: 'migrations' | 'sql';
  count: number;
  seed: number;
}

export async function mutate(options: MutationOptions): Promise<Outcome> {
  return { ok: false, text: `seed ${options.seed}` };
}
