import type { SupabaseClient } from '@supabase/supabase-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../scripts/local/database.ts';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { client, fixture, until } from './support.ts';

let stack: Stack;
let anon: SupabaseClient;
let service: SupabaseClient;
let ada: SupabaseClient;
let bob: SupabaseClient;

beforeAll(async () => {
  stack = await startStack({ dataDir: 'temporary', workdir: fixture, simulators: false, cron: false });
  anon = client(stack.info);
  service = client(stack.info, 'secret');
  ada = client(stack.info);
  bob = client(stack.info);
  for (const [who, email] of [[ada, 'ada@example.com'] as const, [bob, 'bob@example.com'] as const]) {
    const { data, error } = await who.auth.signUp({ email, password: 'correct horse' });
    expect(error).toBeNull();
    expect(data.session).not.toBeNull();
  }
});
afterAll(() => stack?.stop());

describe('who asks', () => {
  test('each key and each session runs as its own role, none as a superuser', async () => {
    expect((await anon.rpc('who_am_i')).data).toMatchObject({ role: 'anon', uid: null, super: false });
    expect((await service.rpc('who_am_i')).data).toMatchObject({ role: 'service_role', super: false });
    const { data: user } = await ada.auth.getUser();
    expect((await ada.rpc('who_am_i')).data).toEqual({
      role: 'authenticated',
      jwt_role: 'authenticated',
      uid: user.user?.id,
      email: 'ada@example.com',
      super: false,
    });
  });

  test('a request without a key, with a wrong key or with a forged token is refused', async () => {
    const get = (headers: Record<string, string>) =>
      fetch(`${stack.info.api_url}/rest/v1/authors`, { headers }).then((response) => response.status);
    expect(await get({})).toBe(401);
    expect(await get({ apikey: 'sb_secret_wrong' })).toBe(401);
    const { data } = await ada.auth.getSession();
    const token = data.session?.access_token ?? '';
    expect(await get({ apikey: stack.info.publishable_key, authorization: `Bearer ${token}` })).toBe(200);
    expect(await get({ apikey: stack.info.publishable_key, authorization: `Bearer ${token}x` })).toBe(401);
  });

  test('sign-in works with the right password only, and a session can be renewed', async () => {
    const who = client(stack.info);
    const wrong = await who.auth.signInWithPassword({ email: 'ada@example.com', password: 'wrong horse' });
    expect(wrong.error?.status).toBe(400);
    const right = await who.auth.signInWithPassword({ email: 'ada@example.com', password: 'correct horse' });
    expect(right.error).toBeNull();
    expect((await who.auth.refreshSession()).error).toBeNull();
    expect((await who.rpc('who_am_i')).data).toMatchObject({ email: 'ada@example.com' });
  });
});

describe('what they may', () => {
  test('row-level security keeps rows apart, and service_role sees all', async () => {
    expect((await ada.from('notes').insert({ body: 'of ada' })).error).toBeNull();
    expect((await ada.from('notes').select('body')).data).toEqual([{ body: 'of ada' }]);
    expect((await bob.from('notes').select('body')).data).toEqual([]);
    expect((await service.from('notes').select('body')).data).toEqual([{ body: 'of ada' }]);
    const { data } = await ada.auth.getUser();
    const forged = await bob.from('notes').insert({ body: 'forged', user_id: data.user?.id });
    expect([forged.status, forged.error?.code]).toEqual([403, '42501']);
  });

  test('a table with RLS and a policy but without a grant stays closed', async () => {
    const [asAnon, asUser] = [await anon.from('closed').select(), await ada.from('closed').select()];
    expect([asAnon.status, asAnon.error?.code]).toEqual([401, '42501']);
    expect([asUser.status, asUser.error?.code]).toEqual([403, '42501']);
    expect((await ada.from('authors').select('name')).data).toEqual([{ name: 'Seeded' }]);
    const admin = connect(stack.adminUrl);
    const grants = await admin`
      select grantee from information_schema.role_table_grants
      where table_schema = 'public' and table_name = 'closed' and grantee <> 'postgres'`;
    await admin.end();
    expect(grants).toHaveLength(0);
  });

  test('schema jobs answers service_role and nobody else', async () => {
    const ask = (who: SupabaseClient) =>
      who.schema('jobs').rpc('only_service', { value: [{ a: 1 }], items: [1, 2] });
    expect((await ask(service)).data).toEqual({
      role: 'service_role',
      value: [{ a: 1 }],
      items: [1, 2],
      ticket: null,
    });
    expect((await ask(ada)).error?.code).toBe('42501');
    expect((await ask(anon)).error?.code).toBe('42501');
  });

  test.each(['private', 'auth', 'vault', 'cron', 'net', 'extensions', 'pg_catalog'])(
    'schema %s is not exposed, to the secret key neither',
    async (schema) => {
      const { status, error } = await service.schema(schema).from('anything').select();
      expect([status, error?.code]).toEqual([406, 'PGRST106']);
    },
  );
});

describe('values', () => {
  test.each([
    [{ a: { b: [1, null] } }],
    [[1, 'x']],
    ['text'],
    ['"quoted"'],
    ['{"a":1}'],
    ['12'],
    [12],
    [true],
  ])('a jsonb argument arrives as it is: %j', async (value) => {
    expect((await ada.rpc('echo', { value })).data).toMatchObject({ value });
  });

  test('a jsonb null is SQL null, as in PostgREST', async () => {
    expect((await ada.rpc('echo', { value: null })).data).toEqual({ type: null, value: null });
  });

  test('arrays and uuids arrive, and defaults fill what is left out', async () => {
    expect((await ada.rpc('add_up', { numbers: [1, 2, 3] })).data).toBe(6);
    const words = ['a,b', 'c"d', '{e}', "f'g", 'NULL', ''];
    expect((await ada.rpc('join_words', { words, separator: '|' })).data).toBe(words.join('|'));
    const id = '00000000-0000-0000-0000-000000000001';
    expect((await ada.rpc('same_id', { id })).data).toBe(id);
    expect((await ada.rpc('defaults', { b: 2 })).data).toEqual({ a: 1, b: 2 });
    expect((await ada.rpc('list_moods')).data).toEqual(['good', 'bad']);
    expect((await ada.rpc('pair')).data).toEqual({ first: 1, second: 'two' });
    expect((await ada.rpc('nothing')).status).toBe(204);
  });

  test('jsonb columns and times come back as PostgREST gives them', async () => {
    for (const meta of [{ a: [1] }, ['x'], 'text', '{"a":1}']) {
      const { data } = await ada
        .from('notes')
        .insert({ body: JSON.stringify(meta), meta })
        .select('meta, created_at')
        .single();
      expect(data?.meta).toEqual(meta);
      expect(data?.created_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/);
    }
  });

  test('filters, embedding, counting and ranges', async () => {
    await service
      .from('notes')
      .update({ author_id: '00000000-0000-0000-0000-000000000001' })
      .eq('body', 'of ada');
    const embedded = await ada.from('notes').select('body, authors(name)').eq('body', 'of ada').single();
    expect(embedded.data).toEqual({ body: 'of ada', authors: { name: 'Seeded' } });
    const counted = await ada.from('notes').select('*', { count: 'exact', head: true });
    expect(counted.count).toBe(5);
    const ranged = await ada.from('notes').select('id').order('id').range(1, 2);
    expect(ranged.data).toHaveLength(2);
  });
});

describe('errors', () => {
  test.each([
    ['P0001', 400],
    ['PT409', 409],
    ['PT422', 422],
    ['42501', 403],
    ['23505', 409],
    ['23514', 400],
    ['22023', 400],
    ['P0002', 500],
    ['40001', 500],
    ['57014', 500],
  ])('SQLSTATE %s is answered with %i and all that was raised', async (code, status) => {
    const answer = await ada.rpc('raise', { sqlstate_: code });
    expect(answer.status).toBe(status);
    expect({ ...answer.error }).toMatchObject({
      code,
      message: 'no luck',
      details: 'the detail',
      hint: 'the hint',
    });
  });

  test('constraints are answered with their own codes', async () => {
    expect((await ada.from('notes').insert({ body: 'of ada' })).error?.code).toBe('23505');
    expect((await ada.from('notes').insert({ body: '' })).error?.code).toBe('23514');
    expect((await ada.from('notes').insert({ body: 'x', mood: 'meh' })).error?.code).toBe('22P02');
    expect((await ada.from('notes').select('nope')).error?.code).toBe('42703');
    expect((await ada.from('nope').select()).error?.code).toBe('PGRST205');
    expect((await ada.rpc('nope')).error?.code).toBe('PGRST202');
    expect((await ada.from('notes').select().eq('id', -1).single()).error?.code).toBe('PGRST116');
  });
});

test('what changes in the schema is seen without a restart', async () => {
  const owner = connect(stack.info.db_url);
  await owner.unsafe(`
    create function public.added_later() returns int language sql set search_path = '' as 'select 7';
  `);
  await owner.end();
  await until(async () => (await ada.rpc('added_later')).data === 7);
});

test('Vault has the url of the doorbells and the secret that signs them', async () => {
  const owner = connect(stack.info.db_url);
  const rows = await owner`select name, decrypted_secret from vault.decrypted_secrets order by name`;
  await owner.end();
  expect(Object.fromEntries(rows.map((row) => [row.name, row.decrypted_secret]))).toEqual({
    cron_secret: stack.info.cron_secret,
    project_url: stack.info.api_url,
  });
  expect(stack.info.cron_secret.length).toBeGreaterThanOrEqual(64);
});
