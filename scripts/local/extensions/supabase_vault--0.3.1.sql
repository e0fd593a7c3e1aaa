-- Stand-in for supabase_vault 0.3.1: the same table, view, functions and grants, with a cipher made of core functions.
\echo Use "create extension supabase_vault" to load this file. \quit

-- The root keys are a file beside the tables, not in them: a dump or a stolen table holds nothing readable.
do $$
declare
  file constant text := 'supabase_vault_root.key';
begin
  execute format('alter schema vault owner to %I', current_user);
  if pg_stat_file(file, true) is null then
    -- three keys of 256 bits; each hashes four random UUIDs, which carry 488 random bits
    execute format(
      'copy (select string_agg(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) '
      '|| uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), ''hex''), '''') from generate_series(1, 3)) '
      'to %L',
      current_setting('data_directory') || '/' || file
    );
  end if;
end;
$$;

-- Deterministic authenticated encryption from core functions only. The tag, a nested hash over everything with two
-- keys, also seeds the keystream, a hash in counter mode with the third; so equal input gives equal output, and a
-- changed byte, row id or nonce is noticed. Output: 32 bytes of tag, then the ciphertext.
create function vault._crypto_aead_det_encrypt(
  message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null
) returns bytea
language plpgsql
immutable
security definer
set search_path = ''
as $$
declare
  keys constant bytea := decode(pg_catalog.pg_read_file('supabase_vault_root.key', 0, 192), 'hex');
  tag constant bytea := vault._tag(keys, message, additional, key_id, context, nonce);
begin
  return tag || vault._mask(keys, tag, message);
end;
$$;

create function vault._crypto_aead_det_decrypt(
  message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null
) returns bytea
language plpgsql
immutable
security definer
set search_path = ''
as $$
declare
  keys constant bytea := decode(pg_catalog.pg_read_file('supabase_vault_root.key', 0, 192), 'hex');
  tag constant bytea := substring(message, 1, 32);
  plain constant bytea := vault._mask(keys, tag, substring(message, 33));
begin
  if tag <> vault._tag(keys, plain, additional, key_id, context, nonce) then
    raise exception 'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext' using errcode = 'data_exception';
  end if;
  return plain;
end;
$$;

create function vault._tag(
  keys bytea, message bytea, additional bytea, key_id bigint, context bytea, nonce bytea
) returns bytea
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- every part is preceded by its length, so that no two inputs read the same
  return sha256(substring(keys, 33, 32) || sha256(
    substring(keys, 1, 32) || int8send(key_id)
    || int4send(length(context)) || context
    || int4send(coalesce(length(additional), -1)) || coalesce(additional, '')
    || int4send(coalesce(length(nonce), -1)) || coalesce(nonce, '')
    || message
  ));
end;
$$;

-- The message under the keystream of a tag; the same call takes it off again.
create function vault._mask(keys bytea, tag bytea, message bytea) returns bytea
language plpgsql
immutable
set search_path = ''
as $$
declare
  stream bytea := '';
begin
  for block in 1..(coalesce(length(message), 0) + 63) / 64 loop
    stream := stream || sha512(substring(keys, 65, 32) || tag || int4send(block));
  end loop;
  -- varbit_send puts four bytes of length in front
  return case
    when length(message) = 0 then ''
    else substring(
      varbit_send(
        ('x' || encode(message, 'hex'))::varbit
        # ('x' || encode(substring(stream, 1, length(message)), 'hex'))::varbit
      ),
      5
    )
  end;
end;
$$;

-- Declared immutable as the real one is: the planner therefore calls it early, and a direct insert by a role without
-- the right to it fails with "permission denied for function _crypto_aead_det_noncegen", as on the platform.
create function vault._crypto_aead_det_noncegen() returns bytea
language sql
immutable
security definer
set search_path = ''
as $$
  select pg_catalog.substring(
    pg_catalog.sha256(
      pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) || pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
    ),
    1, 16
  );
$$;

create table vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea default vault._crypto_aead_det_noncegen(),
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
comment on table vault.secrets
is 'Table with encrypted `secret` column for storing sensitive information on disk.';

create unique index secrets_name_idx on vault.secrets using btree (name) where name is not null;

create view vault.decrypted_secrets as
select
  s.id,
  s.name,
  s.description,
  s.secret,
  convert_from(
    vault._crypto_aead_det_decrypt(
      message => decode(s.secret, 'base64'),
      additional => convert_to(s.id::text, 'utf8'),
      key_id => 0,
      context => 'pgsodium'::bytea,
      nonce => s.nonce
    ),
    'utf8'
  ) as decrypted_secret,
  s.key_id,
  s.nonce,
  s.created_at,
  s.updated_at
from vault.secrets s;

create function vault._seal(secret_id uuid, plain text, nonce bytea) returns text
language sql
set search_path = ''
as $$
  select pg_catalog.encode(
    vault._crypto_aead_det_encrypt(
      message => pg_catalog.convert_to(plain, 'utf8'),
      additional => pg_catalog.convert_to(secret_id::text, 'utf8'),
      key_id => 0,
      context => 'pgsodium'::bytea,
      nonce => nonce
    ),
    'base64'
  );
$$;

create function vault.create_secret(
  new_secret text, new_name text default null, new_description text default '', new_key_id uuid default null
) returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  new_id constant uuid := pg_catalog.gen_random_uuid();
  new_nonce constant bytea := vault._crypto_aead_det_noncegen();
begin
  insert into vault.secrets (id, secret, name, description, nonce)
  values (new_id, vault._seal(new_id, new_secret, new_nonce), new_name, new_description, new_nonce);
  return new_id;
end;
$$;

create function vault.update_secret(
  secret_id uuid, new_secret text default null, new_name text default null, new_description text default null,
  new_key_id uuid default null
) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Of no use, but the real one reads it, too: a secret that cannot be decrypted cannot be changed.
  decrypted constant text := (select d.decrypted_secret from vault.decrypted_secrets d where d.id = secret_id);
begin
  update vault.secrets s set
    secret = case when new_secret is null then s.secret else vault._seal(s.id, new_secret, s.nonce) end,
    name = coalesce(new_name, s.name),
    description = coalesce(new_description, s.description),
    updated_at = pg_catalog.now()
  where s.id = secret_id;
end;
$$;

revoke all on all functions in schema vault from public;

select pg_catalog.pg_extension_config_dump('vault.secrets', '');

-- What the platform grants after it has created the extension.
do $$
begin
  if exists (select from pg_roles where rolname = 'postgres' and not rolsuper) then
    grant usage on schema vault to postgres with grant option;
    grant select, delete on vault.secrets, vault.decrypted_secrets to postgres with grant option;
    grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt
    to postgres with grant option;
  end if;
  if exists (select from pg_roles where rolname = 'service_role') then
    grant usage on schema vault to service_role;
    grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
    grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt to service_role;
  end if;
end;
$$;
