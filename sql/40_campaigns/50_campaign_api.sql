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
  if (select auth.uid()) is null then
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
  return v_id;
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

create function private.claim_task(p_tenant_id uuid, p_task_id uuid)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_participant_id uuid;
  v_task public.social_tasks;
  v_completion public.completions;
begin
  perform private.limit_calls('claim_task', (select auth.uid()));
  select p.id into v_participant_id from public.participants p
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
  begin
    insert into public.completions (tenant_id, task_id, participant_id, code, deadline)
    values (p_tenant_id, p_task_id, v_participant_id,
      -- Eight letters and digits from 32 random bits: enough to tell the claims of one post apart.
      'OC-' || upper(left(gen_random_uuid()::text, 8)),
      now() + v_task.verify_within)
    returning * into v_completion;
  exception when unique_violation then
    raise exception 'You have claimed this task already.' using errcode = '23505',
      hint = 'A task can be claimed once. Read your completions to see how the claim stands.';
  end;
  -- In the same transaction: a claim without its item, or an item without its claim, cannot exist.
  perform jobs.enqueue('verify-social-tasks', p_tenant_id, v_completion.id);
  return jsonb_build_object('completion_id', v_completion.id, 'status', v_completion.status, 'code', v_completion.code,
    'deadline', v_completion.deadline);
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
  'The caller, a participant, says that a task is done: {"completion_id","status","code","deadline"}. It will be verified in the background. '
  'Errors: PT404 no such task for this caller, 23505 claimed already, PT429 too many.';
