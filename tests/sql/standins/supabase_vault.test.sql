-- What supabase_vault promises, with the platform's grants.
begin;
select plan(35);

create role standin_anybody login;
do $$
begin
  if to_regnamespace('extensions') is not null then
    grant usage on schema extensions to standin_anybody, service_role;
  end if;
end;
$$;

-- Shape
select columns_are(
  'vault', 'secrets', array['id', 'name', 'description', 'secret', 'key_id', 'nonce', 'created_at', 'updated_at'],
  'vault.secrets has the columns of Vault'
);
select columns_are(
  'vault', 'decrypted_secrets',
  array['id', 'name', 'description', 'secret', 'decrypted_secret', 'key_id', 'nonce', 'created_at', 'updated_at'],
  'vault.decrypted_secrets has the columns of Vault'
);
select is(
  pg_get_function_arguments('vault.create_secret(text, text, text, uuid)'::regprocedure),
  'new_secret text, new_name text DEFAULT NULL::text, new_description text DEFAULT ''''::text, '
  'new_key_id uuid DEFAULT NULL::uuid',
  'create_secret has its argument names and defaults'
);
select is(
  pg_get_function_arguments('vault.update_secret(uuid, text, text, text, uuid)'::regprocedure),
  'secret_id uuid, new_secret text DEFAULT NULL::text, new_name text DEFAULT NULL::text, '
  'new_description text DEFAULT NULL::text, new_key_id uuid DEFAULT NULL::uuid',
  'update_secret has its argument names and defaults'
);
select function_returns('vault', 'create_secret', array['text', 'text', 'text', 'uuid'], 'uuid', 'create_secret returns the id');
select function_returns('vault', 'update_secret', array['uuid', 'text', 'text', 'text', 'uuid'], 'void', 'update_secret returns nothing');
select is_definer('vault', 'create_secret', array['text', 'text', 'text', 'uuid'], 'create_secret runs as its owner');
select is_definer('vault', 'update_secret', array['uuid', 'text', 'text', 'text', 'uuid'], 'update_secret runs as its owner');
select is(
  (select array_agg(distinct proconfig::text) from pg_proc
   where oid in ('vault.create_secret(text, text, text, uuid)'::regprocedure,
     'vault.update_secret(uuid, text, text, text, uuid)'::regprocedure)),
  array['{"search_path=\"\""}'], 'both have an empty search path'
);

-- Secrets, as service_role, which the platform lets use the Vault
set local role service_role;
select set_config('standin.id', vault.create_secret('s3cr3t ö', 'standin-name', 'what for')::text, true);
select results_eq(
  $$ select name, description, decrypted_secret collate "default", key_id
     from vault.decrypted_secrets where id = current_setting('standin.id')::uuid $$,
  $$ values ('standin-name'::text, 'what for'::text, 's3cr3t ö'::text, null::uuid) $$,
  'a secret is read back'
);
select unalike(
  (select secret || encode(decode(secret, 'base64'), 'escape') from vault.secrets where id = current_setting('standin.id')::uuid),
  '%s3cr3t%', 'the table does not hold it in clear'
);
select is((select octet_length(nonce) from vault.secrets where id = current_setting('standin.id')::uuid), 16, 'each secret has a nonce');
create function pg_temp.read_back(secret text) returns text language plpgsql as $$
declare
  new_id constant uuid := vault.create_secret(secret);
begin
  return (select d.decrypted_secret from vault.decrypted_secrets d where d.id = new_id);
end;
$$;
select is(pg_temp.read_back(text), text, format('a secret of %s characters is read back', length(text)))
from (values (''), (repeat('x', 31)), (repeat('ü', 64)), (repeat('long ', 2000))) as sample (text);
select set_config('standin.first', vault.create_secret('same')::text, true),
  set_config('standin.second', vault.create_secret('same')::text, true);
select isnt(
  (select secret from vault.secrets where id = current_setting('standin.first')::uuid),
  (select secret from vault.secrets where id = current_setting('standin.second')::uuid),
  'equal secrets look different'
);
select throws_ok(
  $$ select vault.create_secret('other', 'standin-name') $$, '23505',
  'duplicate key value violates unique constraint "secrets_name_idx"', 'a name is unique'
);
select lives_ok($$ select vault.create_secret('a'), vault.create_secret('b') $$, 'any number of secrets may be unnamed');
select throws_ok($$ select vault.create_secret(null) $$, '23502', null, 'a secret may not be null');

select lives_ok(
  $$ select vault.update_secret(current_setting('standin.id')::uuid, new_secret := 'changed') $$, 'a secret is changed'
);
select results_eq(
  $$ select name, description, decrypted_secret collate "default"
     from vault.decrypted_secrets where id = current_setting('standin.id')::uuid $$,
  $$ values ('standin-name'::text, 'what for'::text, 'changed'::text) $$,
  'what is not given stays'
);
select vault.update_secret(current_setting('standin.id')::uuid, null, 'standin-other', 'new words');
select results_eq(
  $$ select name, description, decrypted_secret collate "default"
     from vault.decrypted_secrets where id = current_setting('standin.id')::uuid $$,
  $$ values ('standin-other'::text, 'new words'::text, 'changed'::text) $$,
  'name and description change without the secret'
);
select vault.update_secret(current_setting('standin.id')::uuid, null, null, null);
select is(
  (select name from vault.secrets where id = current_setting('standin.id')::uuid), 'standin-other',
  'a name cannot be set to null'
);
select lives_ok($$ select vault.update_secret(gen_random_uuid(), 'x') $$, 'changing an unknown secret does nothing');
select throws_ok(
  $$ insert into vault.secrets (secret, name) values ('clear', 'standin-insert') $$, '42501',
  'permission denied for function _crypto_aead_det_noncegen', 'a direct insert is refused'
);
select throws_ok(
  $$ update vault.secrets set name = 'standin-update' $$, '42501', null, 'a direct update is refused'
);
delete from vault.secrets where id = current_setting('standin.id')::uuid;
select is_empty(
  $$ select * from vault.secrets where id = current_setting('standin.id')::uuid $$, 'a secret is deleted from the table'
);

-- The ciphertext is bound to its row
reset role;
select set_config('standin.id', vault.create_secret('bound')::text, true);
update vault.secrets set secret = (
  select encode(set_byte(decode(secret, 'base64'), 40 % octet_length(decode(secret, 'base64')),
    get_byte(decode(secret, 'base64'), 40 % octet_length(decode(secret, 'base64'))) # 1), 'base64')
) where id = current_setting('standin.id')::uuid;
select throws_ok(
  $$ select decrypted_secret from vault.decrypted_secrets where id = current_setting('standin.id')::uuid $$, '22000',
  'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext', 'a changed ciphertext is noticed'
);
select throws_ok(
  $$ select vault.update_secret(current_setting('standin.id')::uuid, 'new') $$, '22000',
  'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext', 'a secret that cannot be read cannot be changed'
);
delete from vault.secrets where id = current_setting('standin.id')::uuid;
select set_config('standin.id', vault.create_secret('bound')::text, true);
update vault.secrets set id = gen_random_uuid(), name = 'standin-moved' where id = current_setting('standin.id')::uuid;
select throws_ok(
  $$ select decrypted_secret from vault.decrypted_secrets where name = 'standin-moved' $$, '22000',
  'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext', 'a ciphertext under another row is noticed'
);

-- Outsiders
set local role standin_anybody;
select throws_ok($$ select * from vault.decrypted_secrets $$, '42501', null, 'others read no secret');
select throws_ok($$ select vault.create_secret('x') $$, '42501', null, 'others create no secret');
reset role;
grant usage on schema vault to standin_anybody;
set local role standin_anybody;
select throws_ok(
  $$ select vault.create_secret('x') $$, '42501', 'permission denied for function create_secret',
  'execute is revoked from PUBLIC, not only the schema'
);
select throws_ok(
  $$ select pg_read_file('supabase_vault_root.key') $$, '42501', 'permission denied for function pg_read_file',
  'the root key is not for others'
);

select * from finish();
rollback;
