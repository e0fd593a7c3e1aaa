-- unreadable secrets: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function private.credential_for (
  p_tenant_id uuid,
  p_provider public.provider,
  p_platform_allowed boolean
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'credential_id', c.id, 'provider', p_provider, 'kind', c.kind, 'source', c.source, 'account', c.account,
    'secret', private.read_secret(c.secret_id)::jsonb)
  from (
    select own.id, own.kind, 'tenant' as source, own.account, own.secret_id
    from public.credentials own
    where own.tenant_id = p_tenant_id and own.provider = p_provider
    union all
    select null, shared.kind, 'platform', shared.account, shared.secret_id
    from private.platform_credentials shared
    where p_platform_allowed and shared.provider = p_provider
      and not exists (select from public.credentials own where own.tenant_id = p_tenant_id and own.provider = p_provider)
  ) c
$function$;

create or replace function private.forgetting_key()
  returns text
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_key text := private.platform_secret('forgetting_key');
begin
  if v_key is null then
    v_key := encode(extensions.gen_random_bytes(32), 'hex');
    -- One that was written with another key of Vault: its marks can never be compared again.
    delete from vault.secrets s where s.name = 'forgetting_key';
    perform vault.create_secret(v_key, 'forgetting_key', 'Onecron: marks of people who were forgotten');
  end if;
  return v_key;
end
$function$;

create or replace function private.keep_secret (
  p_name text,
  p_secret text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_id uuid;
begin
  select s.id into v_id from vault.secrets s where s.name = p_name;
  -- Vault reads a secret before it changes it, so what was written with another key can only be replaced.
  if v_id is not null and private.read_secret(v_id) is null then
    delete from vault.secrets s where s.id = v_id;
    v_id := null;
  end if;
  if v_id is null then
    return vault.create_secret(p_secret, p_name, 'Onecron credential');
  end if;
  perform vault.update_secret(v_id, p_secret);
  return v_id;
end
$function$;

create or replace function private.platform_secret (
  p_name text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.read_secret(s.id) from vault.secrets s where s.name = p_name
$function$;

create or replace function private.read_secret (
  p_id uuid
)
  returns text
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  return (select s.decrypted_secret from vault.decrypted_secrets s where s.id = p_id);
exception when data_exception then
  -- Vault has one code for all of its errors. Without any key nothing is readable, and no secret is to blame.
  if sqlerrm not like '%invalid ciphertext%' then
    raise;
  end if;
  return null;
end
$function$;

comment on function "private"."credential_for"(uuid, public.provider, boolean) is 'The credential an item of this tenant is processed with, secret included (null when it cannot be read). Called by jobs.next_batch only; nobody else may execute it.';

comment on function "private"."platform_secret"(text) is 'A secret of the platform by its name in Vault (`project_url`, `cron_secret`), or null, also when it was written with another key. Callable by its owner only.';

comment on function "private"."read_secret"(uuid) is 'A secret in Vault, or null when there is none or it was written with another key. Callable by its owner only.';

revoke all on function "private"."read_secret"(uuid) from public;
