-- The jobs check-credentials and check-whatsapp-credentials: once a day every token that can tell about itself is asked.
-- What is broken already waits for its owner: it is not asked again until it changes or its owner says so.

create function private.credentials_to_check(p_provider public.provider, p_kinds text[])
returns setof uuid
language sql stable
set search_path = ''
as $$
  select c.tenant_id from public.credentials c where c.provider = p_provider and c.kind = any (p_kinds) and c.health <> 'broken'
  union all
  select jobs.platform_id() from private.platform_credentials p where p.provider = p_provider and p.kind = any (p_kinds) and p.health <> 'broken'
$$;

comment on function private.credentials_to_check(public.provider, text[]) is 'Whose credentials of these kinds are to be checked: tenants, and the platform under its own id.';

create function private.meta_credentials_to_check()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select private.credentials_to_check('meta', array['facebook_login', 'instagram_login'])
$$;

create function private.whatsapp_credentials_to_check()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select private.credentials_to_check('whatsapp', array['whatsapp_cloud'])
$$;

comment on function private.meta_credentials_to_check() is 'Eligible function of check-credentials.';
comment on function private.whatsapp_credentials_to_check() is 'Eligible function of check-whatsapp-credentials: the gateways have nothing to ask.';

create function private.load_credential_checks(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint), null::timestamptz,
    case when c.fingerprint is null then 'the credential is gone' end, c.fingerprint is null
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join jobs.leased_items i on i.tenant_id = u.tenant_id and i.item_id = u.item_id
  left join jobs.definitions d on d.job = i.job
  left join lateral (
    select own.fingerprint from public.credentials own where own.tenant_id = u.tenant_id and own.provider = d.provider
    union all
    select p.fingerprint from private.platform_credentials p where u.tenant_id = jobs.platform_id() and p.provider = d.provider
  ) c on true
$$;

comment on function private.load_credential_checks(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of both checks: which credential is meant, by its fingerprint; an answer about another one is not taken.';

-- What an owner should know though the credential works: that it ends soon, or that it could not be renewed.
create function private.warn_of_credential(p_tenant_id uuid, p_provider public.provider, p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_incident text := format('credential %s expires', p_provider);
  v_claims text := format('credential %s claims', p_provider);
begin
  if p_reason like 'Some claims%' then
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident);
    v_incident := v_claims;
  else
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_claims);
  end if;
  if p_reason is null then
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident);
  else
    perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident, format('The %s credential: %s', p_provider, p_reason));
  end if;
end
$$;

comment on function private.warn_of_credential(uuid, public.provider, text) is
  'Opens the alert about a credential that will stop to work soon, or is not enough for some claims; without a reason it closes it.';

-- A token that works may still not be enough for some claim: a permission that one kind of reading needs, the wrong way to log in, a post
-- that is gone. Such claims wait, and only the worker's word for it says so. What concerns one person alone is left out.
create function private.unreadable_claims(p_tenant_id uuid)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return (
    select format('%s: %s', t.title, substr(i.waiting_for, 10))
    from jobs.items i
    join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    where i.job = 'verify-social-tasks' and i.tenant_id = p_tenant_id
      and i.waiting_for ~ '^unknown: (Meta (3|10|100|1705|2[0-9][0-9])[:/]|only an account connected|the credential does not name|The credential is )'
      and i.waiting_for !~ '^unknown: Meta 230:' and (t.kind::text <> 'instagram_follow' or i.waiting_for !~ '^unknown: Meta 100/33:')
    order by i.run_at
    limit 1);
end
$$;

comment on function private.unreadable_claims(uuid) is
  'Why some claims of a tenant cannot be looked at though its Meta token works, by the task that waits; null when there are none.';

-- Results: {"provider","fingerprint","verdict":"healthy","expires_at"?,"scopes"?}, {…,"verdict":"broken","error"}, {…,"verdict":"not_renewed","error"};
-- any other verdict changes nothing.
create function private.apply_credential_checks(p_ended jobs.ended[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_found record;
  v_reason text;
begin
  for v_found in
    select e.tenant_id, (e.result ->> 'provider')::public.provider as provider, e.result ->> 'fingerprint' as fingerprint,
      e.result ->> 'verdict' as verdict, left(e.result ->> 'error', 500) as error, e.result ? 'expires_at' as knows_end,
      (e.result ->> 'expires_at')::timestamptz as expires_at,
      case when jsonb_typeof(e.result -> 'scopes') = 'array' then array(select left(s, 100) from jsonb_array_elements_text(e.result -> 'scopes') s limit 100) end as scopes
    from unnest(p_ended) e
    where e.outcome = 'done' and e.result ->> 'verdict' in ('healthy', 'broken', 'not_renewed') and (e.credential_source = 'platform') = (e.tenant_id = jobs.platform_id())
    order by e.tenant_id
  loop
    if v_found.verdict = 'broken' then
      perform jobs.park(v_found.tenant_id, v_found.provider, v_found.fingerprint, coalesce(v_found.error, 'the provider refused it'));
      continue;
    end if;
    if v_found.verdict = 'not_renewed' then
      v_reason := format('It could not be renewed and ends on its own: %s', coalesce(v_found.error, 'no reason was given'));
    elsif v_found.expires_at < now() + interval '7 days' then
      v_reason := format('It expires on %s (UTC).', to_char(v_found.expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));
    else
      v_reason := case when v_found.provider = 'meta' and v_found.tenant_id <> jobs.platform_id()
        then 'Some claims cannot be verified. ' || private.unreadable_claims(v_found.tenant_id) end;
    end if;
    -- One that broke meanwhile stays broken: what is asked here is less than what the work needs.
    if v_found.tenant_id = jobs.platform_id() then
      update private.platform_credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    else
      update public.credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.tenant_id = v_found.tenant_id and c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    end if;
    if found then
      perform private.warn_of_credential(v_found.tenant_id, v_found.provider, v_reason);
    end if;
  end loop;
end
$$;

comment on function private.apply_credential_checks(jobs.ended[]) is
  'Apply function of the checks and of refresh-meta-tokens: health, end and scopes of the credential that was checked, if it is still the one; '
  'a broken one parks its owner''s work. An end within 7 days opens an alert, and so do claims that cannot be looked at though the token works.';
