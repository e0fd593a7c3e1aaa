-- The job refresh-meta-tokens: Meta's user tokens live for 60 days and are renewed from day 45 on, or when fewer than 15 days are left.
-- A token is at least a day old and not expired, or Meta refuses. Until the new one is stored the old one works: a worker that is lost
-- half-way loses nothing.

create function private.is_token_to_refresh(p_credential public.credentials)
returns boolean
language sql stable
set search_path = ''
as $$
  select (p_credential).provider = 'meta' and (p_credential).health <> 'broken'
    and (p_credential).secret_at < now() - interval '24 hours'
    and coalesce((p_credential).expires_at > now(), true)
    and case (p_credential).kind
      -- Sixty days from when it was entered, unless the check knows better.
      when 'instagram_login' then (p_credential).secret_at < now() - interval '45 days' or coalesce((p_credential).expires_at < now() + interval '15 days', false)
      -- A Page's token has no end: only what has one is exchanged, and only an app that says who it is may do so.
      when 'facebook_login' then (p_credential).account ? 'app_id' and 'app_secret' = any ((p_credential).secret_keys)
        and coalesce((p_credential).expires_at < now() + interval '15 days', false)
      else false end
$$;

comment on function private.is_token_to_refresh(public.credentials) is 'True when a Meta token is due to be renewed and can be.';

create function private.tokens_to_refresh()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select c.tenant_id from public.credentials c where c.provider = 'meta' and private.is_token_to_refresh(c)
$$;

comment on function private.tokens_to_refresh() is 'Eligible function of refresh-meta-tokens.';

create function private.has_tokens_to_refresh()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from private.tokens_to_refresh())
$$;

comment on function private.has_tokens_to_refresh() is 'Condition of refresh-meta-tokens: without a token to renew there is no run.';

create function private.load_token_refreshes(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint), null::timestamptz,
    case when c.id is null then 'the credential is gone' when not private.is_token_to_refresh(c) then 'the token need not be renewed' end,
    c.id is null or not private.is_token_to_refresh(c)
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = 'meta'
$$;

comment on function private.load_token_refreshes(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of refresh-meta-tokens: which token is meant; one that was renewed meanwhile is left alone.';

create function jobs.keep_refreshed_token(batch_id bigint, item_id bigint, token text, expires_at timestamptz)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_tenant_id uuid;
  v_fingerprint text;
  v_credential public.credentials;
  v_secret jsonb;
  v_new text;
begin
  if coalesce(keep_refreshed_token.token, '') !~ '^[!-~]+$' or octet_length(keep_refreshed_token.token) > 4000 then
    raise exception 'This is not a token.' using errcode = '22023';
  end if;
  -- The batch row is locked, so the lease cannot expire between this check and the change.
  perform from jobs.batches b
  where b.batch_id = keep_refreshed_token.batch_id and b.job = 'refresh-meta-tokens' and b.lease_until > clock_timestamp()
  for update;
  if not found then
    return false;
  end if;
  select i.tenant_id, i.credential_fingerprint into v_tenant_id, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = keep_refreshed_token.batch_id and i.item_id = keep_refreshed_token.item_id and i.credential_source = 'tenant';
  if not found then
    return false;
  end if;
  select c.* into v_credential from public.credentials c where c.tenant_id = v_tenant_id and c.provider = 'meta' for update;
  if not found then
    return false;
  end if;
  v_secret := private.read_secret_json(v_credential.secret_id) || jsonb_build_object('access_token', keep_refreshed_token.token);
  -- It cannot be read: what else belongs to the token is not known any more, and a member has to enter it again.
  if v_secret is null then
    return false;
  end if;
  v_new := left(encode(sha256(convert_to(v_secret::text || v_tenant_id::text, 'UTF8')), 'hex'), 12);
  -- The same call again, because its answer was lost.
  if v_credential.fingerprint = v_new and v_fingerprint <> v_new then
    return true;
  end if;
  -- What a member entered in the meantime is newer than what was renewed.
  if v_credential.fingerprint is distinct from v_fingerprint then
    return false;
  end if;
  perform vault.update_secret(v_credential.secret_id, v_secret::text);
  update public.credentials c
  set fingerprint = v_new, secret_at = now(), expires_at = keep_refreshed_token.expires_at,
    health = 'healthy', state = 'ok', health_reason = null, checked_at = now()
  where c.tenant_id = v_tenant_id and c.provider = 'meta';
  perform jobs.unpark(v_tenant_id, 'meta');
  perform private.warn_of_credential(v_tenant_id, 'meta', null);
  perform private.audit(v_tenant_id, 'credential.refreshed',
    jsonb_build_object('provider', 'meta', 'kind', v_credential.kind, 'fingerprint', v_new));
  return true;
end
$$;

grant execute on function jobs.keep_refreshed_token(bigint, bigint, text, timestamptz) to service_role;
comment on function jobs.keep_refreshed_token(bigint, bigint, text, timestamptz) is
  'Stores the renewed token of the tenant whose item this is. Only for a batch of refresh-meta-tokens whose lease lives, and only in the place of the '
  'token that went out with it. False: too late, nothing changed. Definer: writes Vault, which no API role may.';
