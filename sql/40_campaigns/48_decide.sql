-- Deciding: the one way in which a claim comes to its end, whoever brings the verdict.

-- A verdict on one claim. if_used says what a proof means that has proven another claim: a status, or null to leave the claim open.
create type private.verdict as (
  tenant_id uuid,
  completion_id uuid,
  verdict text,
  method text,
  reason text,
  evidence jsonb,
  proofs text[],
  credential_source text,
  if_used text,
  action_url text
);

create type private.judged as (
  tenant_id uuid,
  completion_id uuid,
  task_id uuid,
  campaign_id uuid,
  participant_id uuid,
  claimed_at timestamptz,
  from_status text,
  verdict text,
  method text,
  reason text,
  evidence jsonb,
  proofs text[],
  credential_source text,
  if_used text,
  action_url text,
  rule_version integer,
  look_again_at timestamptz,
  is_used boolean
);

create function private.decide_completions(
  p_verdicts private.verdict[], p_actor text, p_from text[] default '{pending}', p_item_ended boolean default false, p_actor_id uuid default null)
returns integer
language plpgsql
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_mergejoin = off
-- A plan from the day on which the tables were empty costs more than a new one.
set plan_cache_mode = force_custom_plan
as $$
declare
  v_judged private.judged[];
  v_used uuid[];
  v_count integer;
  v_tenant_ids uuid[];
  v_completion_ids uuid[];
  v_again record;
  v_key text;
begin
  if coalesce(cardinality(p_verdicts), 0) = 0 then
    return 0;
  end if;
  -- Whoever decides holds the claim: a worker, a webhook and a reviewer at once are one after the other, and the first one counts.
  perform from (select distinct u.tenant_id, u.completion_id from unnest(p_verdicts) u order by u.tenant_id, u.completion_id) v
  cross join lateral (
    select from public.completions x
    where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0 for no key update
  ) c;

  select array_agg((j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
      case
        -- What nobody can prove is never decided by a proof.
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'manual_review'
        when j.look_again_at > now() then 'pending'
        else j.verdict end,
      j.method,
      case
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'nothing can prove this kind of task'
        when j.look_again_at > now() then format('seen, and looked at again from %s', to_char(j.look_again_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
        when j.verdict = 'failed' and j.seen_at is not null and j.method in ('api', 'webhook')
          then 'it was there, and was gone at the second look' || coalesce(': ' || j.reason, '')
        else j.reason end,
      j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version, j.look_again_at, false)::private.judged)
  into v_judged
  from (
    select distinct on (v.tenant_id, v.completion_id)
      v.tenant_id, v.completion_id, c.task_id, t.campaign_id, c.participant_id, c.claimed_at, c.status::text as from_status, c.seen_at,
      v.verdict, v.method, left(v.reason, 500) as reason, v.evidence, v.credential_source, v.if_used, v.action_url,
      case when v.verdict = 'verified' and k.proven_by <> 'nobody' then v.proofs end as proofs,
      k.proven_by, k.rule_version,
      -- What can be undone is looked at twice where the campaign says so. A message or a visit cannot be undone.
      case when v.verdict = 'verified' and k.proven_by = 'worker' and v.method in ('api', 'webhook') and g.reward_after is not null
        then coalesce(c.seen_at, now()) + g.reward_after end as look_again_at
    from unnest(p_verdicts) v
    -- Fenced, like all look-ups of many keys here: one by one by the primary key, whatever the planner believes of a table that
    -- just grew (measured: 2,000 claims in milliseconds instead of minutes).
    cross join lateral (
      select x.* from public.completions x
      where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0
    ) c
    cross join lateral (
      select x.campaign_id, x.kind::text as kind from public.social_tasks x where x.tenant_id = c.tenant_id and x.id = c.task_id offset 0
    ) t
    cross join lateral (
      select x.reward_after from public.campaigns x where x.tenant_id = c.tenant_id and x.id = t.campaign_id offset 0
    ) g
    join public.task_kinds k on k.kind = t.kind
    order by v.tenant_id, v.completion_id, v.verdict = 'verified' desc
  ) j;
  if v_judged is null then
    return 0;
  end if;

  -- One proof, one claim: the earliest of those that are decided here, and whoever was first of all others.
  if exists (select from unnest(v_judged) j where j.proofs is not null) then
    -- In a task with marks of forgotten people a proof is also what its mark would be.
    if exists (
      select
      from unnest(v_judged) j
      cross join lateral (
        select from private.proofs x where x.tenant_id = j.tenant_id and x.task_id = j.task_id and x.proof like 'forgotten:%' offset 0
      ) o
      where j.proofs is not null)
    then
      v_key := private.platform_secret('forgetting_key');
      for v_n in 1..cardinality(v_judged) loop
        continue when v_key is null or v_judged[v_n].proofs is null;
        v_judged[v_n].proofs := v_judged[v_n].proofs || array(
          select private.mark_of_forgotten(v_judged[v_n].tenant_id, u.proof, v_key)
          from unnest(v_judged[v_n].proofs) as u (proof)
          where u.proof !~ '^(comment|media):');
      end loop;
    end if;
    insert into private.proofs (tenant_id, task_id, proof, completion_id)
    select j.tenant_id, j.task_id, u.proof, j.completion_id
    from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
    order by j.tenant_id, j.task_id, u.proof, j.claimed_at, j.completion_id
    on conflict do nothing;
    v_used := array(
      select distinct j.completion_id
      from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
      cross join lateral (
        select x.completion_id from private.proofs x
        where x.tenant_id = j.tenant_id and x.task_id = j.task_id and x.proof = u.proof offset 0
      ) o
      where o.completion_id <> j.completion_id);
    if cardinality(v_used) > 0 then
      delete from private.proofs o
      where o.ctid = any (array(
        select x.place
        from unnest(v_judged) j
        cross join lateral (
          select y.ctid as place from private.proofs y where y.tenant_id = j.tenant_id and y.completion_id = j.completion_id offset 0
        ) x
        where j.completion_id = any (v_used)));
      v_judged := array(
        select (j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
          case when u.is_used then j.if_used else j.verdict end, j.method,
          case when u.is_used then 'what proves this claim has proven another claim of this task' else j.reason end,
          j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version,
          case when not u.is_used then j.look_again_at end, u.is_used)::private.judged
        from unnest(v_judged) j
        cross join lateral (select j.completion_id = any (v_used) as is_used) u
        where not u.is_used or j.if_used is not null);
    end if;
  end if;

  with changed as (
    update public.completions c
    set status = j.verdict::public.completion_status,
      verified_at = case when j.verdict = 'verified' then now() end,
      reason = j.reason,
      -- The participant reads this row: with what chance a draw accepts is not told here, only in the record of the decision.
      evidence = case when j.method = 'statistical' then c.evidence else coalesce(j.evidence, c.evidence) end,
      -- Who leaves it to a person has not decided it.
      method = case when j.verdict in ('verified', 'failed') then j.method end,
      credential_source = coalesce(j.credential_source, c.credential_source),
      seen_at = case when j.verdict = 'pending' then coalesce(c.seen_at, now()) else c.seen_at end,
      settle_at = case j.verdict
        -- Who is linked is asked about until the deadline: the worker's own answer comes first.
        when 'needs_user_action' then greatest(c.deadline, now()) + case when j.is_asked_about and c.deadline > now() then interval '1 day' else interval '0' end
        when 'pending' then greatest(c.deadline, j.look_again_at) + interval '1 day' end,
      action_url = coalesce(j.action_url, c.action_url)
    from (
      select u.*, x.place, u.verdict = 'needs_user_action' and exists (
          select from public.linked_accounts a where a.tenant_id = u.tenant_id and a.participant_id = u.participant_id and a.platform = 'instagram'
        ) as is_asked_about
      from unnest(v_judged) u
      cross join lateral (
        select y.ctid as place from public.completions y where y.tenant_id = u.tenant_id and y.id = u.completion_id offset 0
      ) x
    ) j
    where c.ctid = j.place and c.status::text = any (p_from)
    returning c.tenant_id, c.id, c.task_id, c.participant_id, j.campaign_id, j.verdict, j.from_status, j.method, j.reason, j.evidence, j.rule_version
  ),
  noted as (
    insert into public.completion_decisions (
      tenant_id, completion_id, task_id, participant_id, from_status, to_status, method, rule_version, reason, evidence, actor, actor_id)
    select d.tenant_id, d.id, d.task_id, d.participant_id, d.from_status, d.verdict, d.method, d.rule_version, d.reason, d.evidence, p_actor, p_actor_id
    from changed d
  ),
  earned as (
    insert into public.spin_ledger (tenant_id, participant_id, campaign_id, completion_id, spins, reason)
    select d.tenant_id, d.participant_id, d.campaign_id, d.id, t.reward_spins, 'task verified'
    from changed d
    cross join lateral (
      select x.reward_spins from public.social_tasks x where x.tenant_id = d.tenant_id and x.id = d.task_id offset 0
    ) t
    where d.verdict = 'verified'
    on conflict on constraint a_completion_earns_once do nothing
    returning spin_ledger.tenant_id, spin_ledger.completion_id
  )
  select (select count(*) filter (where d.verdict <> 'pending') from changed d),
    array_agg(e.tenant_id order by e.tenant_id, e.completion_id), array_agg(e.completion_id order by e.tenant_id, e.completion_id)
  into v_count, v_tenant_ids, v_completion_ids
  from earned e;

  if v_tenant_ids is not null then
    perform private.congratulate(v_tenant_ids, v_completion_ids);
  end if;

  -- The item that saw it is over; the second look is a new one. Where a signal saw it, the item still waits, and is held until then.
  if p_item_ended then
    for v_again in
      select j.look_again_at as at, array_agg(j.tenant_id order by j.tenant_id) as tenant_ids, array_agg(j.completion_id order by j.tenant_id) as subject_ids
      from unnest(v_judged) j
      where j.verdict = 'pending'
      group by j.look_again_at
    loop
      perform jobs.enqueue_many('verify-social-tasks', v_again.tenant_ids, v_again.subject_ids, v_again.at);
    end loop;
    -- So is the question whether the person has written: no webhook need tell of it.
    for v_again in
      select least(c.deadline, now() + interval '15 minutes') as at, array_agg(j.tenant_id order by j.tenant_id, c.id) as tenant_ids,
        array_agg(c.id order by j.tenant_id, c.id) as subject_ids
      from unnest(v_judged) j
      cross join lateral (
        select x.id, x.deadline from public.completions x
        where x.tenant_id = j.tenant_id and x.id = j.completion_id and x.status::text = 'needs_user_action' and x.settle_at > x.deadline offset 0
      ) c
      where j.verdict = 'needs_user_action' and c.deadline > now()
      group by 1
    loop
      perform jobs.enqueue_many('verify-social-tasks', v_again.tenant_ids, v_again.subject_ids, v_again.at,
        array(select 'asked/' || u from unnest(v_again.subject_ids) u));
    end loop;
  end if;
  return v_count;
end
$$;

comment on function private.decide_completions(private.verdict[], text, text[], boolean, uuid) is
  'Ends claims by verdicts (verified, failed, manual_review, needs_user_action): status, record of the decision, spins and message of each, once. '
  'Only claims in one of p_from are touched. p_item_ended: the item that brought it is over, so a second look needs a new one. Returns how many were decided.';

-- Looks whether signals prove open claims: new signals, participants with a newly linked account, or one new claim.
create function private.decide_by_signals(
  p_tenant_id uuid, p_signal_ids uuid[], p_participant_ids uuid[], p_completion_id uuid default null, p_credential_source text default null)
returns integer
language plpgsql
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_candidates private.candidate[];
  v_completion_ids uuid[];
  v_verdicts private.verdict[];
begin
  v_candidates := private.candidates_of_signals(p_tenant_id, p_signal_ids);
  v_completion_ids := array(
    select c.id from public.completions c
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status = 'pending') || p_completion_id;
  v_candidates := v_candidates || private.candidates_of_completions(array(select p_tenant_id from unnest(v_completion_ids)), v_completion_ids);
  if v_candidates is null then
    return 0;
  end if;
  select array_agg((f.tenant_id, f.completion_id, 'verified', f.via, null, f.evidence, f.proofs,
    case when f.via = 'api' then p_credential_source end, null, null)::private.verdict)
  into v_verdicts
  from private.proven(v_candidates) f;
  return private.decide_completions(v_verdicts, 'webhook');
end
$$;

comment on function private.decide_by_signals(uuid, uuid[], uuid[], uuid, text) is
  'Verifies the open claims of a tenant that these signals prove, or any signal for claims of these participants or this one. Returns how many. '
  'p_credential_source: whose credential the signals were read with.';
