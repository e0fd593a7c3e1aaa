-- What participants do, as calls: join a campaign, claim a task.

create function private.join_campaign(
  p_tenant_id uuid, p_campaign_id uuid, p_display_name text, p_phone text, p_instagram_username text, p_facebook_user_id text,
  p_whatsapp_opt_in boolean
)
returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  -- Nobody, or a user who was deleted since the token was made.
  if not exists (select from auth.users u where u.id = (select auth.uid())) then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  perform private.limit_calls('join_campaign', (select auth.uid()));
  if not exists (
    select from public.campaigns c join public.tenants t on t.id = c.tenant_id
    where c.tenant_id = p_tenant_id and c.id = p_campaign_id and c.status = 'active' and t.status = 'active'
      and now() >= c.starts_at and (c.ends_at is null or now() < c.ends_at)
  ) then
    raise exception 'There is no such campaign running.' using errcode = 'PT404';
  end if;
  insert into public.participants as p (
    tenant_id, user_id, display_name, phone, instagram_username, facebook_user_id, whatsapp_opt_in_at)
  values (p_tenant_id, (select auth.uid()), p_display_name, p_phone, p_instagram_username, p_facebook_user_id,
    case when p_whatsapp_opt_in then now() end)
  on conflict on constraint one_participant_per_tenant_and_user do update
    set display_name = excluded.display_name,
      phone = coalesce(excluded.phone, p.phone),
      instagram_username = coalesce(excluded.instagram_username, p.instagram_username),
      facebook_user_id = coalesce(excluded.facebook_user_id, p.facebook_user_id),
      whatsapp_opt_in_at = coalesce(p.whatsapp_opt_in_at, excluded.whatsapp_opt_in_at)
  returning p.id into v_id;
  perform private.welcome(p_tenant_id, v_id, p_campaign_id);
  return v_id;
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$$;

grant execute on function private.join_campaign(uuid, uuid, text, text, text, text, boolean) to authenticated;
comment on function private.join_campaign(uuid, uuid, text, text, text, text, boolean) is
  'Behind public.join_campaign. Definer: a newcomer has no row yet that a policy could go by.';

create function public.join_campaign(
  tenant_id uuid, campaign_id uuid, display_name text, phone text default null, instagram_username text default null,
  facebook_user_id text default null, whatsapp_opt_in boolean default false
)
returns uuid
language sql
set search_path = ''
as $$
  select private.join_campaign(join_campaign.tenant_id, join_campaign.campaign_id, join_campaign.display_name, join_campaign.phone,
    join_campaign.instagram_username, join_campaign.facebook_user_id, join_campaign.whatsapp_opt_in)
$$;

grant execute on function public.join_campaign(uuid, uuid, text, text, text, text, boolean) to authenticated;
comment on function public.join_campaign(uuid, uuid, text, text, text, text, boolean) is
  'Makes the caller a participant of the tenant (or updates the details) through a running campaign; returns the participant''s id. '
  'whatsapp_opt_in: the person agreed to WhatsApp messages of this business. Errors: PT404 no such campaign, 23505 user name taken, 23514 malformed phone or name, PT429 too many.';

-- Where a participant goes on with a claim: the chat with the code in place, our own link that counts the visit, or the sign-up.
create function private.action_url(p_task public.social_tasks, p_code text)
returns text
language sql stable
set search_path = ''
as $$
  select case (p_task).kind::text
    when 'whatsapp_join' then coalesce(private.contact_link((p_task).tenant_id, 'whatsapp', p_code),
      case when (p_task).platform_credential_allowed then private.platform_contact_link((p_task).tenant_id, p_code) end)
    when 'instagram_dm_keyword' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'instagram_follow' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'link_visit' then format('%s/functions/v1/webhooks/visit/%s/%s', rtrim(private.platform_secret('project_url'), '/'),
      (select t.slug from public.tenants t where t.id = (p_task).tenant_id), p_code)
    when 'link_sign_up' then replace((p_task).url, '{code}', p_code) end
$$;

comment on function private.action_url(public.social_tasks, text) is 'The link with which a participant does what a claim says; null for kinds without one.';

-- Who decides a claim: the worker or a signal, where a credential lets them, else the strategy. With the strategy api a claim that
-- could be proven waits for a credential until its deadline.
create function private.route_of(p_task public.social_tasks, p_kind public.task_kinds, p_strategy text)
returns text
language sql stable
set search_path = ''
as $$
  select case
    when (p_kind).proven_by = 'nobody' then 'strategy'
    when (p_kind).provider is null or p_strategy = 'api'
      or exists (select from public.credentials c where c.tenant_id = (p_task).tenant_id and c.provider = (p_kind).provider)
      -- The platform's webhooks are not the tenant's: for what only a signal proves it takes an own credential. But a message to the
      -- platform's WhatsApp number names the claim by its code.
      or ((p_task).platform_credential_allowed
        and ((p_kind).kind = 'whatsapp_join' or ((p_kind).proven_by = 'worker'
          and exists (select from jobs.definitions d where d.job = 'verify-social-tasks' and d.platform_allowed)))
        and exists (select from private.platform_credentials c where c.provider = (p_kind).provider))
      then case (p_kind).proven_by when 'worker' then 'api' else 'signal' end
    else 'strategy' end
$$;

comment on function private.route_of(public.social_tasks, public.task_kinds, text) is 'What is to decide claims of a task now: api, signal or strategy.';

create function private.claim_task(p_tenant_id uuid, p_task_id uuid)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_participant_id uuid;
  v_cohort_id uuid;
  v_task public.social_tasks;
  v_kind public.task_kinds;
  v_strategy text;
  v_basis text;
  v_route text;
  v_code text;
  v_completion public.completions;
begin
  perform private.limit_calls('claim_task', (select auth.uid()));
  select p.id, p.cohort_id into v_participant_id, v_cohort_id from public.participants p
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid());
  select t.* into v_task
  from public.social_tasks t
  join public.campaigns c on c.tenant_id = t.tenant_id and c.id = t.campaign_id
  join public.tenants n on n.id = t.tenant_id
  where t.tenant_id = p_tenant_id and t.id = p_task_id and t.active and c.status = 'active' and n.status = 'active'
    and now() >= c.starts_at and (c.ends_at is null or now() < c.ends_at);
  if v_participant_id is null or v_task.id is null then
    raise exception 'There is no such task for you to claim. Join its campaign first.' using errcode = 'PT404';
  end if;
  select k.* into v_kind from public.task_kinds k where k.kind = v_task.kind::text;
  select coalesce(h.strategy, g.strategy, 'api'), coalesce(h.statistical_basis, g.statistical_basis, 'rate') into v_strategy, v_basis
  from (select) one
  left join public.campaign_strategies g on g.tenant_id = p_tenant_id and g.campaign_id = v_task.campaign_id
  left join public.cohorts h on h.tenant_id = p_tenant_id and h.id = v_cohort_id;
  v_route := private.route_of(v_task, v_kind, v_strategy);

  -- A code that is taken already is drawn again.
  loop
    v_code := private.new_code();
    insert into public.completions (tenant_id, task_id, participant_id, code, deadline, route, settle_at, action_url)
    values (p_tenant_id, p_task_id, v_participant_id, v_code, now() + v_task.verify_within, v_route,
      case v_route
        -- Long past the deadline: the worker's own answer comes first.
        when 'api' then now() + v_task.verify_within + interval '1 day'
        when 'signal' then now() + v_task.verify_within
        else private.settles_at(v_kind.kind, v_strategy, v_basis, now()) end,
      private.action_url(v_task, v_code))
    on conflict do nothing
    returning * into v_completion;
    exit when found;
    if exists (
      select from public.completions c where c.tenant_id = p_tenant_id and c.task_id = p_task_id and c.participant_id = v_participant_id
    ) then
      raise exception 'You have claimed this task already.' using errcode = '23505',
        hint = 'A task can be claimed once. Read your completions to see how the claim stands.';
    end if;
  end loop;

  case v_route
    -- In the same transaction: a claim without its item, or an item without its claim, cannot exist.
    when 'api' then perform jobs.enqueue('verify-social-tasks', p_tenant_id, v_completion.id);
    -- What was seen before the claim counts.
    when 'signal' then perform private.decide_by_signals(p_tenant_id, '{}', '{}', v_completion.id);
    else
      if v_strategy in ('api', 'manual') then
        perform private.decide_completions(array[(p_tenant_id, v_completion.id, 'manual_review', null,
          'nothing can prove this claim: a person decides', null, null, null, null, null)::private.verdict], 'settle-claims');
      end if;
  end case;
  select c.* into v_completion from public.completions c where c.tenant_id = p_tenant_id and c.id = v_completion.id;
  return jsonb_build_object('completion_id', v_completion.id, 'status', v_completion.status, 'code', v_completion.code,
    'deadline', v_completion.deadline)
    || case when v_completion.action_url is not null then jsonb_build_object('action_url', v_completion.action_url) else '{}' end;
end
$$;

grant execute on function private.claim_task(uuid, uuid) to authenticated;
comment on function private.claim_task(uuid, uuid) is 'Behind public.claim_task. Definer: writes the completion and its item, which no API role may.';

create function public.claim_task(tenant_id uuid, task_id uuid)
returns jsonb
language sql
set search_path = ''
as $$
  select private.claim_task(claim_task.tenant_id, claim_task.task_id)
$$;

grant execute on function public.claim_task(uuid, uuid) to authenticated;
comment on function public.claim_task(uuid, uuid) is
  'The caller, a participant, says that a task is done: {"completion_id","status","code","deadline","action_url"?}. It will be verified in the background; '
  'action_url opens the chat or the link with the code in place. '
  'Errors: PT404 no such task for this caller, 23505 claimed already, PT429 too many.';
