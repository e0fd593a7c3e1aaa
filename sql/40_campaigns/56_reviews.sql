-- The review queue: claims that nothing can prove or disprove, for a person to decide.
create view public.reviews with (security_invoker = true) as
select c.tenant_id, c.id as completion_id, t.campaign_id, g.name as campaign, c.task_id, t.title, t.kind::text as kind, c.participant_id,
  p.display_name, p.instagram_username, c.code, c.claimed_at, c.reason, c.evidence
from public.completions c
join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
where c.status = 'manual_review' and c.tenant_id = any (array(select private.tenant_ids('viewer')));

grant select on public.reviews to authenticated;
comment on view public.reviews is
  'Claims that wait for a person, with the reason in words, for members of the tenant. Decide them with approve_completion and reject_completion.';

-- Members may take part in campaigns, but not decide for themselves.
create function private.refuse_own_claim(p_tenant_id uuid, p_completion_id uuid)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if exists (
    select from public.completions c join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    where c.tenant_id = p_tenant_id and c.id = p_completion_id and p.user_id = (select auth.uid())
  ) then
    raise exception 'This claim is your own: somebody else decides it.' using errcode = '42501';
  end if;
end
$$;

comment on function private.refuse_own_claim(uuid, uuid) is 'Raises 42501 when the claim is the caller''s own.';

create function private.review_completion(p_tenant_id uuid, p_completion_id uuid, p_approve boolean, p_note text)
returns jsonb
language plpgsql security definer
set search_path = ''
set jit = off
as $$
declare
  v_status text;
  v_note text := left(nullif(btrim(p_note), ''), 500);
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
    perform private.limit_calls('approve_completion', (select auth.uid()));
    perform private.refuse_own_claim(p_tenant_id, p_completion_id);
  end if;
  if not p_approve and v_note is null then
    raise exception 'A rejection says why.' using errcode = '22023';
  end if;
  if private.decide_completions(
    array[(p_tenant_id, p_completion_id, case when p_approve then 'verified' else 'failed' end, 'manual', v_note, null, null, null, null, null)::private.verdict],
    case when private.is_platform() then 'platform' else 'member' end, '{manual_review}', false, (select auth.uid())) = 0
  then
    select c.status into v_status from public.completions c where c.tenant_id = p_tenant_id and c.id = p_completion_id;
    if v_status is null then
      raise exception 'There is no such claim.' using errcode = 'PT404';
    end if;
    raise exception 'This claim is % and does not wait for a review.', replace(v_status, '_', ' ') using errcode = 'PT409';
  end if;
  perform private.audit(p_tenant_id, case when p_approve then 'completion.approved' else 'completion.rejected' end,
    jsonb_build_object('completion_id', p_completion_id, 'note', v_note));
  perform private.announce_review(p_tenant_id, p_completion_id);
  return jsonb_build_object('completion_id', p_completion_id, 'status', case when p_approve then 'verified' else 'failed' end);
end
$$;

comment on function private.review_completion(uuid, uuid, boolean, text) is
  'A person decides a claim that waits for review, once: of two at the same time the second is told that it is decided. '
  'Definer: claims are written by functions only. Members and the platform.';

create function private.approve_completion(p_tenant_id uuid, p_completion_id uuid, p_note text)
returns jsonb
language sql security definer
set search_path = ''
as $$
  select private.review_completion(p_tenant_id, p_completion_id, true, p_note)
$$;

create function private.reject_completion(p_tenant_id uuid, p_completion_id uuid, p_reason text)
returns jsonb
language sql security definer
set search_path = ''
as $$
  select private.review_completion(p_tenant_id, p_completion_id, false, p_reason)
$$;

grant execute on function private.approve_completion(uuid, uuid, text) to authenticated, service_role;
grant execute on function private.reject_completion(uuid, uuid, text) to authenticated, service_role;
comment on function private.approve_completion(uuid, uuid, text) is 'Behind public.approve_completion. Definer: like private.review_completion, which asks for the role.';
comment on function private.reject_completion(uuid, uuid, text) is 'Behind public.reject_completion. Definer: like private.review_completion, which asks for the role.';

create function public.approve_completion(tenant_id uuid, completion_id uuid, note text default null)
returns jsonb
language sql
set search_path = ''
as $$
  select private.approve_completion(approve_completion.tenant_id, approve_completion.completion_id, approve_completion.note)
$$;

create function public.reject_completion(tenant_id uuid, completion_id uuid, reason text)
returns jsonb
language sql
set search_path = ''
as $$
  select private.reject_completion(reject_completion.tenant_id, reject_completion.completion_id, reject_completion.reason)
$$;

grant execute on function public.approve_completion(uuid, uuid, text) to authenticated, service_role;
grant execute on function public.reject_completion(uuid, uuid, text) to authenticated, service_role;
comment on function public.approve_completion(uuid, uuid, text) is
  'A member accepts a claim that waits for review: spins and message follow. {"completion_id","status"}. '
  'Errors: 42501 (also for one''s own claim), PT404 no such claim, PT409 it does not wait (any more), PT429.';
comment on function public.reject_completion(uuid, uuid, text) is
  'A member rejects a claim that waits for review, with the reason that the participant reads. {"completion_id","status"}. '
  'Errors: 42501, 22023 no reason, PT404 no such claim, PT409 it does not wait (any more), PT429.';

-- A sign-up is known to the business alone: it confirms the code that came with it.
create function private.confirm_sign_up(p_tenant_id uuid, p_code text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_code text := upper(btrim(p_code));
  v_completion_id uuid;
  v_status text;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
    perform private.limit_calls('confirm_sign_up', p_tenant_id);
  end if;
  select c.id into v_completion_id
  from public.completions c join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where c.tenant_id = p_tenant_id and c.code = v_code and t.kind::text = 'link_sign_up';
  if v_completion_id is null then
    raise exception 'No sign-up was claimed with this code.' using errcode = 'PT404';
  end if;
  if not private.is_platform() then
    perform private.refuse_own_claim(p_tenant_id, v_completion_id);
  end if;
  perform private.take_signals(p_tenant_id, jsonb_build_array(jsonb_build_object(
    'surface', 'link', 'kind', 'sign_up', 'external_id', v_code)), 'link');
  select c.status into v_status from public.completions c where c.tenant_id = p_tenant_id and c.id = v_completion_id;
  return jsonb_build_object('completion_id', v_completion_id, 'status', v_status);
end
$$;

grant execute on function private.confirm_sign_up(uuid, text) to authenticated, service_role;
comment on function private.confirm_sign_up(uuid, text) is 'Behind public.confirm_sign_up. Definer: claims are written by functions only. Members and the platform.';

create function public.confirm_sign_up(tenant_id uuid, code text)
returns jsonb
language sql
set search_path = ''
as $$
  select private.confirm_sign_up(confirm_sign_up.tenant_id, confirm_sign_up.code)
$$;

grant execute on function public.confirm_sign_up(uuid, text) to authenticated, service_role;
comment on function public.confirm_sign_up(uuid, text) is
  'The business says that the sign-up with this code took place; members and the platform. {"completion_id","status"}; again is the same answer. '
  'Errors: 42501, PT404 no claim with this code, PT429.';
