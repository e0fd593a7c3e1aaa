-- How healthy a credential is, in one word for clients and one sentence for people.

-- The worker reports a code as the provider gave it: "Meta 190/460: …", "WhatsApp 131031: …".
create function private.credential_state(p_reason text)
returns text
language sql immutable
set search_path = ''
as $$
  select case
    when c.code = 190 and c.subcode = 458 then 'app_removed'
    when c.code = 190 and c.subcode = 459 then 'checkpoint'
    when c.code = 190 and c.subcode = 460 then 'password_changed'
    when c.code = 190 and c.subcode = 463 then 'expired'
    when c.code = 190 and c.subcode = 464 then 'unconfirmed'
    when c.code = 190 and c.subcode = 492 then 'role_lost'
    when c.code = 190 and c.subcode is null and c.who = 'WhatsApp' then 'expired'
    when c.code = 102 then 'expired'
    when c.code in (3, 10, 131005) or c.code between 200 and 299 then 'permission_lost'
    when c.code in (368, 131031, 131042) then 'blocked'
    else 'invalid' end
  from (
    select m[1] as who, m[2]::integer as code, m[4]::integer as subcode
    from (select regexp_match(p_reason, '^(Meta|WhatsApp) ([0-9]{1,7})(/([0-9]{1,9}))?:') as m) r
  ) c
$$;

comment on function private.credential_state(text) is 'The state of a credential that was refused with this reason; invalid where the reason has no code that says more.';

create function private.credential_advice(p_state text, p_health_reason text)
returns text
language sql immutable
set search_path = ''
as $$
  select case p_state
    when 'unchecked' then 'Nothing to do: it is checked when it is first used, at the latest tomorrow.'
    when 'ok' then case
      when p_health_reason is null then 'Nothing to do.'
      when p_health_reason like 'Some claims%' then 'Do what the reason names, for the account or in the task. Until then a person decides these claims.'
      else 'Connect the account again before it expires.' end
    when 'expired' then 'The access has expired: connect the account again.'
    when 'permission_lost' then 'A permission is missing: connect the account again and agree to everything that is asked.'
    when 'role_lost' then 'Your user has lost its role on the Page: have the role restored there, then check again.'
    when 'checkpoint' then 'Log in at facebook.com and pass the check that waits there, then check again.'
    when 'password_changed' then 'The password was changed: connect the account again.'
    when 'app_removed' then 'The app was removed from the account: connect the account again.'
    when 'unconfirmed' then 'Confirm your user at facebook.com, then check again.'
    when 'blocked' then 'The account is blocked: see its status at the provider and settle what is named there, then check again.'
    else case
      when p_health_reason like 'Meta 100:%' then 'The Meta app asks for the proof of its secret: enter the access again, with the app secret of this app.'
      else 'The access is not valid: enter it again.' end end
$$;

comment on function private.credential_advice(text, text) is 'What an owner has to do about a credential in this state, in one sentence.';

create function private.list_credentials(p_tenant_id uuid)
returns table (
  provider public.provider, kind text, account jsonb, fingerprint text, health public.credential_health, state text, reason text, advice text,
  expires_at timestamptz, checked_at timestamptz, scopes text[]
)
language plpgsql security definer
set search_path = ''
as $$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('list_credentials', (select auth.uid()));
  end if;
  return query
    select c.provider, c.kind, c.account, c.fingerprint, c.health, c.state, c.health_reason, private.credential_advice(c.state, c.health_reason),
      c.expires_at, c.checked_at, c.scopes
    from public.credentials c
    where c.tenant_id = p_tenant_id
    order by c.provider;
end
$$;

grant execute on function private.list_credentials(uuid) to authenticated, service_role;
comment on function private.list_credentials(uuid) is
  'Behind public.list_credentials. Definer: its limit is counted where no API role may write. Checks that the caller is an admin; reads no secret.';

create function public.list_credentials(tenant_id uuid)
returns table (
  provider public.provider, kind text, account jsonb, fingerprint text, health public.credential_health, state text, reason text, advice text,
  expires_at timestamptz, checked_at timestamptz, scopes text[]
)
language sql
set search_path = ''
as $$
  select * from private.list_credentials(list_credentials.tenant_id)
$$;

grant execute on function public.list_credentials(uuid) to authenticated, service_role;
comment on function public.list_credentials(uuid) is
  'A tenant''s access to its providers: which account, how healthy, why, what to do, until when; never a secret. Admins only. Errors: 42501, PT429.';

-- What was repaired at the provider (a role, a check-point) does not change the token: only a person knows that it is worth another try.
create function private.recheck_credential(p_tenant_id uuid, p_provider public.provider)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('recheck_credential', p_tenant_id);
  end if;
  update public.credentials c set health = 'unchecked', state = 'unchecked', health_reason = null
  where c.tenant_id = p_tenant_id and c.provider = p_provider;
  if not found then
    return false;
  end if;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform private.audit(p_tenant_id, 'credential.rechecked', jsonb_build_object('provider', p_provider));
  return true;
end
$$;

grant execute on function private.recheck_credential(uuid, public.provider) to authenticated, service_role;
comment on function private.recheck_credential(uuid, public.provider) is
  'Behind public.recheck_credential. Definer: health and lanes are the engine''s to write. Checks that the caller is an admin of the tenant.';

create function public.recheck_credential(tenant_id uuid, provider public.provider)
returns boolean
language sql
set search_path = ''
as $$
  select private.recheck_credential(recheck_credential.tenant_id, recheck_credential.provider)
$$;

grant execute on function public.recheck_credential(uuid, public.provider) to authenticated, service_role;
comment on function public.recheck_credential(uuid, public.provider) is
  'Tries a credential again that was repaired at the provider and not here: the work parked on it wakes. Admins only. False when there is none. Errors: 42501, PT429.';
