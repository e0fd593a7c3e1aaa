import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { Database } from '../../functions/_shared/database.types.ts';

/** A client that knows every table, every call and their types. */
export type Client = SupabaseClient<Database>;

/** `key` is the publishable one (`sb_publishable_…`): it may be in the app, it opens nothing by itself. */
export function connect(url: string, key: string): Client {
  return createClient<Database>(url, key);
}

/** The data of an answer, or its error thrown. */
export function dataOf<T>(answer: { data: T; error: Error | null }): NonNullable<T> {
  if (answer.error) throw answer.error;
  if (answer.data === null || answer.data === undefined) throw new Error('The answer has no data.');
  return answer.data;
}

/** How long to wait when an answer says that there were too many requests; null when it says something else. */
export function secondsToWait(error: { code?: string; details?: string | null }): number | null {
  if (error.code !== 'PT429') return null;
  return Number(/\d+/.exec(error.details ?? '')?.[0] ?? 60);
}
