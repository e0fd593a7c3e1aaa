-- The job verify-social-tasks: what the worker needs to know, and what its findings mean.

create function private.load_verifications(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id,
    jsonb_build_object(
      'completion_id', c.id, 'kind', t.kind, 'post_id', t.post_id, 'code', c.code,
      'instagram_username', p.instagram_username, 'facebook_user_id', p.facebook_user_id,
      'since', t.created_at, 'deadline', c.deadline,
      'recheck_seconds', greatest(1, extract(epoch from t.recheck_every)::integer)),
    null::timestamptz,
    case when c.id is null then 'the completion is gone' when c.status <> 'pending' then format('the completion is %s', c.status) end,
    c.status is distinct from 'pending'
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.completions c on c.tenant_id = u.tenant_id and c.id = u.subject_id
  left join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  left join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
$$;

comment on function private.load_verifications(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of verify-social-tasks: post, code and handles of each pending completion; items without one are cancelled.';

-- Verified: credit the spins and put the message into the outbox. Not found by the deadline: failed. Cannot be known: a person looks.
create function private.apply_verifications(p_ended jobs.ended[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_messages integer;
begin
  with proof as (
    select e.*, c.task_id, e.result -> 'evidence' ->> 'comment_id' as comment_id,
      row_number() over (partition by e.tenant_id, c.task_id, e.result -> 'evidence' ->> 'comment_id' order by c.claimed_at, c.id) as position
    from unnest(p_ended) e
    join public.completions c on c.tenant_id = e.tenant_id and c.id = e.subject_id
    where e.outcome <> 'cancelled'
  ),
  -- One comment proves one claim of a task: the one that was made first.
  judged as (
    select p.*, p.comment_id is not null and (p.position > 1 or exists (
      select from public.completions o
      where o.tenant_id = p.tenant_id and o.task_id = p.task_id and o.status = 'verified' and o.evidence ->> 'comment_id' = p.comment_id)) as is_used
    from proof p
  ),
  verdict as materialized (
    select j.tenant_id, j.subject_id, j.credential_source, j.result,
      case
        when j.outcome = 'done' and j.result ->> 'verdict' = 'verified' and not j.is_used then 'verified'
        when j.outcome = 'done' and j.result ->> 'verdict' = 'failed' then 'failed'
        else 'manual_review' end::public.completion_status as status,
      case when j.is_used then 'this comment has proven another claim' else coalesce(j.result ->> 'reason', j.error) end as reason
    from judged j
  ),
  decided as (
    update public.completions c
    set status = v.status, verified_at = case when v.status = 'verified' then now() end,
      reason = left(v.reason, 500), evidence = v.result -> 'evidence', credential_source = v.credential_source
    from verdict v
    where c.tenant_id = v.tenant_id and c.id = v.subject_id and c.status = 'pending'
    returning c.tenant_id, c.id, c.task_id, c.participant_id, c.status
  ),
  earned as (
    insert into public.spin_ledger (tenant_id, participant_id, campaign_id, completion_id, spins, reason)
    select d.tenant_id, d.participant_id, t.campaign_id, d.id, t.reward_spins, 'task verified'
    from decided d
    join public.social_tasks t on t.tenant_id = d.tenant_id and t.id = d.task_id
    where d.status = 'verified'
    on conflict on constraint a_completion_earns_once do nothing
    returning spin_ledger.tenant_id, spin_ledger.completion_id
  )
  -- The outbox follows by its own function, so that what a message says has one home.
  select private.congratulate(array_agg(earned.tenant_id), array_agg(earned.completion_id)) from earned into v_messages;
end
$$;

comment on function private.apply_verifications(jobs.ended[]) is
  'Apply function of verify-social-tasks: status, spins and message of each completion, in the transaction that ends its item. A completion is decided once.';
