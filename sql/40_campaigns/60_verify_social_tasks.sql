-- The job verify-social-tasks: what the worker needs to know, and what its findings mean.

create function private.load_verifications(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language plpgsql stable
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_mergejoin = off
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
  -- What is stored already proves a claim without a call.
  with known as materialized (
    select k.tenant_id, k.completion_id, k.evidence from private.proven(private.candidates_of_completions(p_tenant_ids, p_subject_ids)) k
  )
  select u.item_id,
    jsonb_build_object(
      'completion_id', c.id, 'kind', t.kind, 'post_id', t.post_id, 'code', c.code,
      'author', jsonb_build_object('instagram_id', a.instagram_id, 'instagram_username', a.instagram_username, 'facebook_id', a.facebook_id),
      'instagram_username', a.instagram_username, 'facebook_user_id', a.facebook_id,
      'since', t.created_at, 'deadline', c.deadline,
      -- A mention by somebody else stays in the list. It is read again when it is twice as old, then every hour: thirty times a day
      -- instead of 288. A new mention does not wait for that.
      'recheck_seconds', greatest(1, extract(epoch from t.recheck_every)::integer,
        case when mention.list is not null then least(mention.age_seconds, 3600, extract(epoch from c.deadline - now())::integer) end),
      'known', known.evidence,
      'stop_at', mark.stop_at,
      'asked', c.status = 'needs_user_action',
      'mentions', coalesce(mention.list, '[]')),
    case
      when open.is_over then null
      -- Seen once: the second look is not before its time.
      when c.seen_at + g.reward_after > now() then c.seen_at + g.reward_after
      -- Nothing can be found out about a mention before Instagram tells of one: that wakes it.
      when t.kind::text = 'instagram_mention' and mention.list is null and known.evidence is null and c.deadline > now() then c.deadline
      when not t.platform_credential_allowed
        and not exists (select from public.credentials x where x.tenant_id = c.tenant_id and x.provider = 'meta') then now() + interval '1 hour' end,
    case when c.id is null then 'the completion is gone' when open.is_over then format('the completion is %s', replace(c.status::text, '_', ' '))
      when c.seen_at + g.reward_after > now() then 'seen once, waiting for the second look'
      when t.kind::text = 'instagram_mention' then 'waiting for a mention'
      when not t.platform_credential_allowed then 'waiting for a credential of the tenant''s own' end,
    open.is_over
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.completions c on c.tenant_id = u.tenant_id and c.id = u.subject_id
  left join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  left join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  left join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  left join public.linked_accounts i on i.tenant_id = p.tenant_id and i.participant_id = p.id and i.platform = 'instagram'
  left join public.linked_accounts f on f.tenant_id = p.tenant_id and f.participant_id = p.id and f.platform = 'facebook'
  cross join lateral (
    -- A name that was only typed counts where the campaign says so.
    select i.external_id as instagram_id,
      coalesce(i.username, case when g.username_match then p.instagram_username end) as instagram_username,
      coalesce(f.external_id, case when g.username_match then p.facebook_user_id end) as facebook_id
  ) a
  -- Who was asked to write to the account and is linked is asked about, also where no webhook tells of the message.
  cross join lateral (
    select case c.status when 'pending' then false when 'needs_user_action' then i.external_id is null else true end as is_over
  ) open
  left join known on known.tenant_id = c.tenant_id and known.completion_id = c.id
  left join lateral (
    -- Only for a post that was read as far back as this task goes.
    select jsonb_build_object('id', r.newest_id, 'at', r.newest_at) as stop_at
    from private.post_readings r
    where r.tenant_id = t.tenant_id and r.post_id = t.post_id and t.kind::text = r.surface || '_comment' and r.read_since <= t.created_at
      and c.seen_at is null
  ) mark on true
  left join lateral (
    select jsonb_agg(jsonb_build_object('media_id', m.details ->> 'media_id', 'comment_id', m.details ->> 'comment_id', 'signal_id', m.id)
      order by m.happened_at desc) as list,
      extract(epoch from now() - greatest(max(m.received_at), c.claimed_at))::integer as age_seconds
    from (
      select s.id, s.details, s.happened_at, s.received_at
      from private.signals s
      where s.tenant_id = t.tenant_id and s.kind = 'mention' and s.happened_at >= date_trunc('second', t.created_at)
        and s.details ->> 'media_id' is not null
        -- One that has proven another claim of this task proves no second.
        and not exists (
          select from private.proofs o
          where o.tenant_id = t.tenant_id and o.task_id = t.id and o.completion_id <> c.id
            and o.proof = coalesce('comment:' || regexp_replace(s.details ->> 'comment_id', '^.*_', ''), 'media:' || (s.details ->> 'media_id')))
      order by s.happened_at desc
      limit 20
    ) m
    where t.kind::text = 'instagram_mention' and c.status = 'pending'
  ) mention on true;
end
$$;

comment on function private.load_verifications(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of verify-social-tasks: post, code and proven accounts of each pending completion, and what is known already. '
  'Items without an open completion are cancelled; one that was seen once is held until the second look.';

-- Verified: credit the spins and put the message into the outbox. Not found by the deadline: failed. Cannot be known: a person looks.
create function private.apply_verifications(p_ended jobs.ended[])
returns void
language plpgsql
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_verdicts private.verdict[];
  v_acted record;
  v_tenant_ids uuid[];
  v_participant_ids uuid[];
  v_open record;
begin
  if exists (select from unnest(p_ended) e where e.outcome = 'done' and e.result ->> 'verdict' in ('acted', 'needs_user_action')) then
    -- The step that was asked for was taken, and Instagram tells about the person now: the claim goes on.
    for v_acted in
      select e.tenant_id, array_agg(c.participant_id) as participant_ids
      from unnest(p_ended) e
      join public.completions c on c.tenant_id = e.tenant_id and c.id = e.subject_id
      where e.outcome = 'done' and e.result ->> 'verdict' = 'acted'
      group by e.tenant_id
      order by e.tenant_id
    loop
      perform private.wake_claims(v_acted.tenant_id, v_acted.participant_ids);
    end loop;
  end if;

  -- A claim's code came back from an account, and nothing else was there to store: it is linked here, as record_comments would.
  if exists (select from unnest(p_ended) e where e.result ? 'account') then
    with came as (
      select e.tenant_id, c.participant_id, e.result #>> '{account,platform}' as platform, e.result #>> '{evidence,author_id}' as author_id,
        substring(lower(ltrim(btrim(e.result #>> '{account,username}'), '@')) from '^[a-z0-9._]{1,30}$') as username,
        e.result #>> '{evidence,commented_at}' as at, e.item_id
      from unnest(p_ended) e
      cross join lateral (
        select x.participant_id from public.completions x
        where x.tenant_id = e.tenant_id and x.id = e.subject_id and x.status::text in ('pending', 'needs_user_action') offset 0
      ) c
      where e.outcome = 'done' and e.result ->> 'verdict' = 'verified'
    ),
    linked as (
      insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
      select came.tenant_id, came.participant_id, came.platform, came.author_id, came.username, 'claim code'
      from came
      where came.platform in ('instagram', 'facebook') and came.author_id ~ '^[!-~]{1,200}$'
      order by came.tenant_id, came.at, came.item_id
      on conflict do nothing
      returning tenant_id, participant_id
    )
    select array_agg(l.tenant_id), array_agg(l.participant_id) into v_tenant_ids, v_participant_ids from linked l;
  end if;

  select array_agg((e.tenant_id, e.subject_id, r.verdict, 'api', coalesce(e.result ->> 'reason', e.error), r.evidence,
      case when r.verdict = 'verified' then array_remove(array[
        coalesce('comment:' || regexp_replace(r.evidence ->> 'comment_id', '^.*_', ''), 'media:' || (r.evidence ->> 'media_id'),
          'message:' || (r.evidence ->> 'message_id')),
        coalesce('author:' || (r.evidence ->> 'author_id'), 'name:' || lower(r.evidence ->> 'author_username'))], null) end,
      e.credential_source, 'manual_review',
      case when r.verdict = 'needs_user_action' then (
        select private.contact_link(c.tenant_id, 'instagram', c.code) from public.completions c where c.tenant_id = e.tenant_id and c.id = e.subject_id) end
    )::private.verdict)
  into v_verdicts
  from unnest(p_ended) e
  cross join lateral (
    select case when e.outcome = 'done' and e.result ->> 'verdict' in ('verified', 'failed', 'needs_user_action')
        then e.result ->> 'verdict' else 'manual_review' end as verdict,
      case when jsonb_typeof(e.result -> 'evidence') = 'object' then e.result -> 'evidence' end as evidence
  ) r
  where e.outcome <> 'cancelled' and e.result ->> 'verdict' is distinct from 'acted';
  perform private.decide_completions(v_verdicts, 'worker', '{pending,needs_user_action}', p_item_ended => true);

  -- Who is linked now may have other claims that wait for that, or are proven by what was seen before.
  for v_open in
    select u.tenant_id, array_agg(distinct u.participant_id) as participant_ids
    from unnest(v_tenant_ids, v_participant_ids) as u (tenant_id, participant_id)
    where exists (
      select from public.completions c
      where c.tenant_id = u.tenant_id and c.participant_id = u.participant_id and c.status::text in ('pending', 'needs_user_action'))
    group by u.tenant_id
    order by u.tenant_id
  loop
    perform private.wake_claims(v_open.tenant_id, v_open.participant_ids);
    perform private.decide_by_signals(v_open.tenant_id, '{}', v_open.participant_ids, null,
      (select min(e.credential_source) from unnest(p_ended) e where e.tenant_id = v_open.tenant_id));
  end loop;
end
$$;

comment on function private.apply_verifications(jobs.ended[]) is
  'Apply function of verify-social-tasks: status, spins and message of each completion, in the transaction that ends its item. A completion is decided once.';
