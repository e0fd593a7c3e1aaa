-- The job measure-followers: once a day, early, how many follow the accounts whose growth decides claims. Each tenant's own
-- accounts, read with its own credential.

-- What is to be counted today: accounts that the tenant's Meta credential names, of whose followers some task makes more, in a
-- campaign that goes by their growth, itself or for a cohort. Claims of the last day still wait for a count when it has ended.
create function private.accounts_to_measure(p_tenant_id uuid)
returns table (platform text, account_id text)
language sql stable
set search_path = ''
as $$
  select a.platform, a.account_id
  from public.credentials c
  cross join lateral (values
    ('instagram', c.account ->> 'ig_user_id'),
    ('facebook', case c.kind when 'facebook_login' then c.account ->> 'page_id' end)) as a (platform, account_id)
  where c.tenant_id = p_tenant_id and c.provider = 'meta' and a.account_id <> ''
    and not exists (
      select from public.follower_counts f
      where f.tenant_id = p_tenant_id and f.platform = a.platform and f.day = (now() at time zone 'UTC')::date)
    and exists (
      select
      from public.campaign_strategies s
      join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
      join public.social_tasks t on t.tenant_id = g.tenant_id and t.campaign_id = g.id
      where s.tenant_id = p_tenant_id and private.growth_platform(t.kind::text) = a.platform
        and (g.status = 'active' or (g.status = 'ended' and g.updated_at > now() - interval '2 days'))
        and g.starts_at < now() + interval '1 day' and (g.ends_at is null or g.ends_at > now() - interval '2 days')
        and (t.active or t.updated_at > now() - interval '2 days')
        and ((s.strategy = 'statistical' and s.statistical_basis = 'follower_growth') or exists (
          select from public.cohorts h
          where h.tenant_id = p_tenant_id and coalesce(h.strategy, s.strategy) = 'statistical'
            and coalesce(h.statistical_basis, s.statistical_basis) = 'follower_growth')))
$$;

comment on function private.accounts_to_measure(uuid) is
  'Accounts of a tenant whose followers are to be counted today: by platform, with the id that its Meta credential names.';

create function private.tenants_to_measure()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select n.tenant_id
  from (
    select s.tenant_id from public.campaign_strategies s where s.statistical_basis = 'follower_growth'
    union
    select h.tenant_id from public.cohorts h where h.statistical_basis = 'follower_growth'
  ) n
  join public.credentials c on c.tenant_id = n.tenant_id and c.provider = 'meta' and c.health <> 'broken'
  where exists (select from private.accounts_to_measure(n.tenant_id))
$$;

create function private.followers_are_to_be_measured()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from private.tenants_to_measure())
$$;

comment on function private.tenants_to_measure() is 'Eligible function of measure-followers.';
comment on function private.followers_are_to_be_measured() is 'Condition of measure-followers: while nobody goes by growth there is no run.';

create function private.load_follower_counts(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint, 'accounts', w.accounts), null::timestamptz,
    case when c.id is null then 'the credential is gone' when w.accounts is null then 'there is nothing to count today' end,
    w.accounts is null
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = 'meta'
  cross join lateral (
    select jsonb_agg(jsonb_build_object('platform', a.platform, 'account_id', a.account_id) order by a.platform desc) as accounts
    from private.accounts_to_measure(u.tenant_id) a
  ) w
$$;

comment on function private.load_follower_counts(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of measure-followers: {"fingerprint","accounts":[{"platform","account_id"}]}; cancelled when all of today''s counts are there.';

-- Results: {"fingerprint","counts":[{"platform","account_id","followers"}],…}. What was read with a credential that is not the one
-- any more is not taken.
create function private.apply_follower_counts(p_ended jobs.ended[])
returns void
language sql
set search_path = ''
set jit = off
as $$
  insert into public.follower_counts (tenant_id, platform, day, followers, account_id)
  select distinct on (n.tenant_id, n.platform) n.tenant_id, n.platform, (now() at time zone 'UTC')::date, n.followers, n.account_id
  from (
    select e.tenant_id, e.item_id, r.value ->> 'platform' as platform, r.value ->> 'account_id' as account_id,
      case when r.value ->> 'followers' ~ '^[0-9]{1,9}$' then (r.value ->> 'followers')::integer end as followers
    from unnest(p_ended) e
    join public.credentials c on c.tenant_id = e.tenant_id and c.provider = 'meta' and c.fingerprint = e.result ->> 'fingerprint'
    cross join lateral jsonb_array_elements(case jsonb_typeof(e.result -> 'counts') when 'array' then e.result -> 'counts' else '[]' end) r
    where e.outcome = 'done' and e.credential_source = 'tenant'
  ) n
  where n.platform in ('instagram', 'facebook') and n.followers is not null
  order by n.tenant_id, n.platform, n.item_id
  on conflict on constraint follower_counts_pkey do nothing
$$;

comment on function private.apply_follower_counts(jobs.ended[]) is
  'Apply function of measure-followers: notes the counts of today; the first count of a day stays.';
