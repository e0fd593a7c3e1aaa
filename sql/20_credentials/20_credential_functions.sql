-- Writing and using credentials. Secrets go in and never come out, except to the worker with a batch.

-- Puts a secret into Vault under a name of our making, never the caller's, and returns its id.
create function private.keep_secret(p_name text, p_secret text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
begin
  -- Of two that store it for the first time at once, the second changes what the first made.
  perform pg_advisory_xact_lock(hashtextextended('onecron secret ' || p_name, 0));
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
$$;

comment on function private.keep_secret(text, text) is 'Creates or replaces a Vault secret by name; returns its id.';

create function private.set_credential(p_tenant_id uuid, p_provider public.provider, p_kind text, p_secret jsonb, p_account jsonb)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_secret_id uuid;
  v_fingerprint text := left(encode(sha256(convert_to(p_secret::text || p_tenant_id::text, 'UTF8')), 'hex'), 12);
  v_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('set_credential', p_tenant_id);
  end if;
  perform private.check_credential(p_provider, p_kind, p_secret, p_account);
  if p_kind in ('waapi', 'gateway') then
    perform private.require_unofficial_gateways();
    perform private.require_acknowledgement(p_tenant_id, 'unofficial_gateway');
  end if;
  v_secret_id := private.keep_secret(format('credential/%s/%s', p_tenant_id, p_provider), p_secret::text);
  insert into public.credentials as c (tenant_id, provider, kind, account, secret_id, fingerprint, secret_keys)
  values (p_tenant_id, p_provider, p_kind, p_account, v_secret_id, v_fingerprint, array(select k from jsonb_object_keys(p_secret) k order by k))
  on conflict on constraint one_credential_per_tenant_and_provider do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      secret_keys = excluded.secret_keys, secret_at = now(),
      health = 'unchecked', state = 'unchecked', health_reason = null, checked_at = null, expires_at = null, scopes = null
  returning c.id into v_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform jobs.close_alert(p_tenant_id, format('credential %s claims', p_provider));
  perform private.audit(p_tenant_id, 'credential.set',
    jsonb_build_object('provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('credential_id', v_id, 'provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint);
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$$;

grant execute on function private.set_credential(uuid, public.provider, text, jsonb, jsonb) to authenticated, service_role;
comment on function private.set_credential(uuid, public.provider, text, jsonb, jsonb) is
  'Behind public.set_credential. Definer: writes Vault, which no API role may. Checks that the caller is an admin of the tenant.';

create function public.set_credential(
  tenant_id uuid, provider public.provider, kind text, secret jsonb, account jsonb default '{}'
)
returns jsonb
language sql
set search_path = ''
as $$
  select private.set_credential(
    set_credential.tenant_id, set_credential.provider, set_credential.kind, set_credential.secret, set_credential.account)
$$;

grant execute on function public.set_credential(uuid, public.provider, text, jsonb, jsonb) to authenticated, service_role;
comment on function public.set_credential(uuid, public.provider, text, jsonb, jsonb) is
  'Stores a tenant''s access to a provider; admins only. Secrets: meta and whatsapp_cloud {"access_token", "app_secret"?, "verify_token"?}, '
  'waapi {"token"}, gateway, stripe and email {"api_key"}. Returns the fingerprint, never the secret. Work parked on the old one wakes. '
  'Errors: 42501, 22023 with what is wrong, PT409 a gateway that is not official needs an acknowledgement or is switched off, PT429 too many.';

create function private.remove_credential(p_tenant_id uuid, p_provider public.provider)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_secret_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  delete from public.credentials c where c.tenant_id = p_tenant_id and c.provider = p_provider returning c.secret_id into v_secret_id;
  if v_secret_id is null then
    return false;
  end if;
  delete from vault.secrets s where s.id = v_secret_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform jobs.close_alert(p_tenant_id, format('credential %s claims', p_provider));
  perform private.audit(p_tenant_id, 'credential.removed', jsonb_build_object('provider', p_provider));
  return true;
end
$$;

grant execute on function private.remove_credential(uuid, public.provider) to authenticated, service_role;
comment on function private.remove_credential(uuid, public.provider) is
  'Behind public.remove_credential. Definer: deletes from Vault, which no API role may. Checks that the caller is an admin.';

create function public.remove_credential(tenant_id uuid, provider public.provider)
returns boolean
language sql
set search_path = ''
as $$
  select private.remove_credential(remove_credential.tenant_id, remove_credential.provider)
$$;

grant execute on function public.remove_credential(uuid, public.provider) to authenticated, service_role;
comment on function public.remove_credential(uuid, public.provider) is
  'Forgets a tenant''s access to a provider, secret included; admins only. False when there was none.';

create function jobs.set_platform_credential(provider public.provider, kind text, secret jsonb, account jsonb default '{}')
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_secret_id uuid;
  v_fingerprint text := left(encode(sha256(convert_to(secret::text, 'UTF8')), 'hex'), 12);
begin
  perform private.check_credential(set_platform_credential.provider, set_platform_credential.kind, secret, account);
  if set_platform_credential.kind in ('waapi', 'gateway') then
    perform private.require_unofficial_gateways();
  end if;
  v_secret_id := private.keep_secret(format('credential/platform/%s', set_platform_credential.provider), secret::text);
  insert into private.platform_credentials as c (provider, kind, account, secret_id, fingerprint)
  values (set_platform_credential.provider, set_platform_credential.kind, set_platform_credential.account, v_secret_id, v_fingerprint)
  on conflict on constraint platform_credentials_pkey do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      health = 'unchecked', state = 'unchecked', health_reason = null, checked_at = null, expires_at = null, scopes = null, updated_at = now();
  perform jobs.unpark(jobs.platform_id(), set_platform_credential.provider);
  perform jobs.close_alert(null, format('credential %s expires', set_platform_credential.provider));
  perform private.audit(null, 'platform_credential.set',
    jsonb_build_object('provider', set_platform_credential.provider, 'kind', set_platform_credential.kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('provider', set_platform_credential.provider, 'fingerprint', v_fingerprint);
end
$$;

grant execute on function jobs.set_platform_credential(public.provider, text, jsonb, jsonb) to service_role;
comment on function jobs.set_platform_credential(public.provider, text, jsonb, jsonb) is
  'Platform only: stores the platform''s own access to a provider, the fall-back for tenants that have none. '
  'Definer: writes Vault and private.platform_credentials, which no API role may.';

-- The credential for an item of this tenant: its own, else the platform's where the job allows it. Null: there is none.
create function private.credential_for(p_tenant_id uuid, p_provider public.provider, p_platform_allowed boolean)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'credential_id', c.id, 'provider', p_provider, 'kind', c.kind, 'source', c.source, 'account', c.account,
    'secret', private.read_secret_json(c.secret_id))
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
$$;

comment on function private.credential_for(uuid, public.provider, boolean) is
  'The credential an item of this tenant is processed with, secret included (null when it cannot be read). Called by jobs.next_batch only; nobody else may execute it.';
