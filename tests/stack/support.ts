import { fileURLToPath } from 'node:url';
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { StackInfo } from '../../scripts/local/stack.ts';

/** A small project of its own, so that these tests do not change with the schema of the real one. */
export const fixture: string = fileURLToPath(new URL('./fixture', import.meta.url));

export function client(info: StackInfo, key: 'publishable' | 'secret' = 'publishable'): SupabaseClient {
  return createClient(info.api_url, key === 'secret' ? info.secret_key : info.publishable_key, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
}

/** Waits until the check is true. */
export async function until(check: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not true after ${timeoutMs} ms: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
