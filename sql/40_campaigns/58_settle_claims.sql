-- The job settle-claims: what becomes of claims that no proof has decided by their time.

create function private.growth_platform(p_kind text)
returns text
language sql immutable
set search_path = ''
as $$
  select case p_kind when 'instagram_follow' then 'instagram' when 'facebook_page_like' then 'facebook' when 'x_follow' then 'x' end
$$;

-- When a strategy decides: after the start delay of the verification; by growth not before the next day's count can be there.
create function private.settles_at(p_kind text, p_strategy text, p_basis text, p_claimed_at timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
  select case
    when p_strategy = 'statistical' and p_basis = 'follower_growth' and private.growth_platform(p_kind) is not null
      then (date_trunc('day', p_claimed_at at time zone 'UTC') + interval '30 hours') at time zone 'UTC'
    else p_claimed_at + make_interval(secs => (select d.start_delay_seconds from jobs.definitions d where d.job = 'verify-social-tasks')) end
$$;

-- A number in [0, 1) that comes from the claim alone: looked at again, the draw is the same.
create function private.draw(p_completion_id uuid)
returns double precision
language sql immutable
set search_path = ''
as $$
  select ('x' || left(md5('draw ' || p_completion_id), 8))::bit(32)::bigint / 4294967296.0
$$;

comment on function private.settles_at(text, text, text, timestamptz) is 'When the strategy decides a claim that nothing can prove.';
comment on function private.growth_platform(text) is 'Whose followers a kind of task makes grow; null for kinds that make none grow.';
comment on function private.draw(uuid) is 'The draw of a claim: a number from 0 up to 1 that is always the same for it.';

create function private.settle_claims(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_verdicts private.verdict[];
  -- Whether a message that was asked for would have been heard of: Instagram has told this business of messages within 30 days.
  v_hears boolean := exists (
    select from private.signals s where s.tenant_id = p_tenant_id and s.surface = 'instagram' and s.kind = 'message' and s.via = 'webhook');
begin
  with due as (
    select c.id, c.status::text as status, c.route, c.claimed_at, c.seen_at, t.kind::text as kind, k.proof, k.surface,
      exists (
        select from public.linked_accounts a
        where a.tenant_id = c.tenant_id and a.participant_id = c.participant_id and a.platform = 'instagram') as is_linked,
      -- The worker, who asks about linked people, brings this forward when it has asked after the deadline.
      c.settle_at < c.deadline + interval '1 day' as was_asked,
      coalesce(h.strategy, g.strategy, 'api') as strategy, coalesce(h.acceptance_rate, g.acceptance_rate, 0.85) as rate,
      case when coalesce(h.statistical_basis, g.statistical_basis) = 'follower_growth' then private.growth_platform(t.kind::text) end as growth_platform,
      coalesce(h.statistical_basis, g.statistical_basis) as basis,
      (c.claimed_at at time zone 'UTC')::date as day
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    join public.task_kinds k on k.kind = t.kind::text
    left join public.campaign_strategies g on g.tenant_id = t.tenant_id and g.campaign_id = t.campaign_id
    join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    left join public.cohorts h on h.tenant_id = p.tenant_id and h.id = p.cohort_id
    where c.tenant_id = p_tenant_id and c.settle_at <= now() and c.status::text in ('pending', 'needs_user_action')
    order by c.settle_at
    limit 2000
  ),
  growth as (
    -- What an account gained in a day. Of what the job counted, two accounts are no growth, nor are the hours after a late count.
    select d.growth_platform, d.day, claims.claims,
      case when before.account_id is null or after.account_id is null
          or (before.account_id = after.account_id and after.measured_at - before.measured_at >= interval '20 hours')
        then after.followers - before.followers end as growth
    from (select distinct due.growth_platform, due.day from due where due.growth_platform is not null) d
    left join public.follower_counts before on before.tenant_id = p_tenant_id and before.platform = d.growth_platform and before.day = d.day
    left join public.follower_counts after on after.tenant_id = p_tenant_id and after.platform = d.growth_platform and after.day = d.day + 1
    cross join lateral (
      select count(*) as claims
      from public.completions c join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
      where c.tenant_id = p_tenant_id and private.growth_platform(t.kind::text) = d.growth_platform
        and c.claimed_at >= d.day::timestamp at time zone 'UTC' and c.claimed_at < (d.day + 1)::timestamp at time zone 'UTC'
    ) claims
  ),
  chance as (
    select d.*, g.growth, g.claims,
      case when g.growth is not null then least(1, greatest(g.growth, 0)::numeric / greatest(g.claims, 1)) else d.rate end as acceptance
    from due d
    left join growth g on g.growth_platform = d.growth_platform and g.day = d.day
  ),
  judged as (
    select c.*,
      case
        when c.status = 'needs_user_action' and case when c.is_linked then c.was_asked else v_hears end then 'never acted'
        when c.status = 'needs_user_action' and not c.is_linked then 'not heard'
        when c.route = 'signal' and c.surface = 'link' then 'no visit'
        when c.route = 'signal' then 'no signal'
        else c.strategy end as because,
      private.draw(c.id) < c.acceptance as is_drawn
    from chance c
  )
  select array_agg((p_tenant_id, j.id,
      case
        when j.because in ('never acted', 'no visit') then 'failed'
        when j.because = 'honor_system' then 'verified'
        when j.because = 'statistical' then case when j.is_drawn then 'verified' else 'failed' end
        else 'manual_review' end,
      case j.because when 'never acted' then 'api' when 'no visit' then 'link' when 'honor_system' then 'honor_system' when 'statistical' then 'statistical' end,
      case j.because
        when 'never acted' then 'the step that was asked for was not taken in time'
        when 'no visit' then case j.kind when 'link_visit' then 'the link was not opened in time' else 'the sign-up was not confirmed in time' end
        when 'not heard' then 'Instagram tells this business of no messages, so nobody knows whether the step was taken: a person decides'
        when 'no signal' then format('%s told of nothing by the deadline, which proves nothing', initcap(j.surface))
        when 'honor_system' then 'accepted on the participant''s word; nothing was proven'
        -- By how much is for members: it stands in the record of the decision.
        when 'statistical' then case when j.is_drawn then 'accepted' else 'not accepted' end || ' by a draw, not by a proof'
        else case when j.route = 'api' then 'the platform could not be asked by the deadline: a person decides'
          else 'nothing can prove this claim: a person decides' end end,
      case when j.because = 'statistical' then jsonb_strip_nulls(jsonb_build_object(
        'draw', round(private.draw(j.id)::numeric, 6), 'acceptance', round(j.acceptance, 6), 'basis', case when j.growth is not null then 'follower_growth' else 'rate' end,
        'growth', j.growth, 'day', case when j.growth is not null then j.day end, 'claims', case when j.growth is not null then j.claims end,
        'why', case
          when j.growth is not null then null
          when j.growth_platform is not null then format('the followers of %s were not measured a day apart', j.day)
          when j.basis = 'follower_growth' then 'this kind of task makes no followers' end)) end,
      null, null, null, null)::private.verdict)
  into v_verdicts
  from judged j;
  return jsonb_build_object('decided', private.decide_completions(v_verdicts, 'settle-claims', '{pending,needs_user_action}'));
end
$$;

comment on function private.settle_claims(uuid, uuid, jsonb) is
  'Work function of settle-claims: claims of one tenant whose time has come. The strategy decides what nothing could prove; a link that was not opened '
  'and a step that was not taken are definite; a signal that did not come is not, and goes to a person, as does a step that could not be heard of.';

create function private.claims_are_due()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from public.completions c where c.settle_at <= now())
$$;

create function private.tenants_with_due_claims()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select distinct c.tenant_id from public.completions c where c.settle_at <= now()
$$;

comment on function private.claims_are_due() is 'Condition of settle-claims: a claim is due.';
comment on function private.tenants_with_due_claims() is 'Tenants for which settle-claims has something to do.';

-- The job purge-signals: what was seen is needed while claims are open, and no longer than 30 days.
create function private.purge_signals(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_signals integer;
  v_codes integer;
begin
  with gone as (
    delete from private.signals s
    where s.ctid = any (array(
      select o.ctid from private.signals o where o.received_at < now() - interval '30 days' order by o.received_at limit 100000))
    returning s.tenant_id, s.surface, s.target_id, s.kind
  ),
  -- What was forgotten has to be read again, should somebody claim it.
  unread as (
    delete from private.post_readings r
    using (select distinct g.tenant_id, g.surface, g.target_id from gone g where g.kind = 'comment') p
    where r.tenant_id = p.tenant_id and r.surface = p.surface and r.post_id = p.target_id
  )
  select count(*) into v_signals from gone;
  delete from private.link_codes l where l.expires_at < now() - interval '1 day';
  get diagnostics v_codes = row_count;
  return jsonb_build_object('signals', v_signals, 'link_codes', v_codes);
end
$$;

comment on function private.purge_signals(uuid, uuid, jsonb) is
  'Work function of purge-signals: forgets signals after 30 days and link codes a day after their end. At most 100,000 signals a time.';
