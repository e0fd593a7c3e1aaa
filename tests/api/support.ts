import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { Stack } from '../../scripts/local/stack.ts';

/** A client as an app builds it: nobody is signed in, and nothing is remembered between tests. */
export function client(stack: Stack, key: 'publishable' | 'secret' = 'publishable'): SupabaseClient {
  const { api_url, publishable_key, secret_key } = stack.info;
  return createClient(api_url, key === 'secret' ? secret_key : publishable_key, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
}

export interface Person {
  api: SupabaseClient;
  id: string;
}

/** Somebody who has just signed up. */
export async function signUp(stack: Stack, name: string): Promise<Person> {
  const api = client(stack);
  const { data, error } = await api.auth.signUp({
    email: `${name}@example.com`,
    password: 'correct horse battery',
  });
  if (error || !data.user || !data.session)
    throw new Error(`${name} could not sign up: ${error?.message ?? 'no session'}`);
  return { api, id: data.user.id };
}

/** The data of an answer that must be a success. */
export function ok<T>(answer: { data: T; error: { message: string; code?: string } | null }): NonNullable<T> {
  if (answer.error) throw new Error(`${answer.error.code ?? ''} ${answer.error.message}`);
  if (answer.data === null || answer.data === undefined) throw new Error('the answer has no data');
  return answer.data;
}

/** SQLSTATE, message and status of an answer that must be an error. */
export function refusal(answer: { error: { message: string; code?: string } | null; status: number }): {
  code: string | undefined;
  message: string;
  status: number;
} {
  if (!answer.error) throw new Error('this should have been refused');
  return { code: answer.error.code, message: answer.error.message, status: answer.status };
}
