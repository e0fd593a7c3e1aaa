-- Signals: what was seen outside, as ids, names and times. Comments that were read, messages and mentions that were told of, visits.
create table private.signals (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  surface text not null,
  kind text not null,
  external_id text not null,
  author_id text,
  author_username text,
  target_id text,
  codes text[] not null default '{}',
  message text,
  details jsonb,
  via text not null,
  happened_at timestamptz not null,
  received_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint a_thing_is_seen_once unique (tenant_id, surface, kind, external_id),
  constraint signals_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint via_is_one_of_the_known check (via in ('api', 'webhook', 'link')),
  constraint only_messages_have_text check (message is null or (kind = 'message' and char_length(message) <= 200))
);

create index signals_tenant_id_author_id_idx on private.signals (tenant_id, author_id, target_id) where author_id is not null;
create index signals_tenant_id_author_username_idx on private.signals (tenant_id, author_username, target_id) where author_username is not null;
create index signals_tenant_id_mentions_idx on private.signals (tenant_id, happened_at) where kind = 'mention';
create index signals_received_at_idx on private.signals (received_at);

alter table private.signals enable row level security;
comment on table private.signals is
  'Things that were seen outside, each once: the first report counts. No media, no text but the first 200 characters of a message. Gone after 30 days.';
comment on column private.signals.via is 'api: a worker read it; webhook: the platform told; link: our own link, or the business.';

create table private.signal_codes (
  tenant_id uuid not null,
  code text not null,
  signal_id uuid not null,
  primary key (tenant_id, code, signal_id),
  constraint signal_codes_signal_fkey foreign key (tenant_id, signal_id) references private.signals (tenant_id, id) on delete cascade
);

create index signal_codes_tenant_id_signal_id_idx on private.signal_codes (tenant_id, signal_id);

alter table private.signal_codes enable row level security;
comment on table private.signal_codes is 'The codes that were found in signals, one row each, for the way from a claim to its signals.';

create table private.post_readings (
  tenant_id uuid not null,
  surface text not null,
  post_id text not null,
  newest_id text not null,
  newest_at timestamptz not null,
  read_since timestamptz not null,
  read_at timestamptz not null default now(),
  primary key (tenant_id, surface, post_id),
  constraint post_readings_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade
);

alter table private.post_readings enable row level security;
comment on table private.post_readings is
  'The newest comment of the last complete reading of a post: the next one may stop there, what is older is stored as signals.';
comment on column private.post_readings.read_since is 'Comments since then are stored; a task that is older reads the post again.';

-- Follower counts, one a day, for strategies that go by growth.
create table public.follower_counts (
  tenant_id uuid not null,
  platform text not null,
  day date not null,
  followers integer not null,
  measured_at timestamptz not null default now(),
  account_id text,
  primary key (tenant_id, platform, day),
  constraint follower_counts_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint platform_is_one_of_the_known check (platform in ('instagram', 'facebook', 'x')),
  constraint followers_are_not_negative check (followers >= 0)
);

alter table public.follower_counts enable row level security;
grant select on public.follower_counts to authenticated;
grant select, insert, delete on public.follower_counts to service_role;

create policy follower_counts_select_members on public.follower_counts
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

comment on table public.follower_counts is 'How many followers an account had on a day (UTC): the first count of a day stays.';
comment on column public.follower_counts.account_id is 'Whose followers these are, by the platform''s id, where measure-followers counted; null: noted by somebody else.';

create function jobs.record_follower_count(tenant_id uuid, platform text, followers integer, day date default null)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.follower_counts (tenant_id, platform, day, followers)
  values (record_follower_count.tenant_id, record_follower_count.platform,
    coalesce(record_follower_count.day, (now() at time zone 'UTC')::date), record_follower_count.followers)
  on conflict on constraint follower_counts_pkey do nothing;
  return found;
end
$$;

grant execute on function jobs.record_follower_count(uuid, text, integer, date) to service_role;
comment on function jobs.record_follower_count(uuid, text, integer, date) is
  'Notes how many followers an account had on a day; false when that day has its count already. Whoever measures by other ways than '
  'the job measure-followers sees to it that counts are a day apart. Definer: the door for them.';

-- Which signals may prove which open claims, by all three ways: 1 the code of the claim, 2 a linked account, 3 the name that was
-- typed. Claims that were seen once already are left out: the second look is the platform's, not the memory's. Every step is a look-up
-- by key from the one before (the fences keep it so, whatever the planner believes about a table that was empty a moment ago:
-- a free join of the same took minutes for 2,000 signals, this takes milliseconds).
create type private.candidate as (
  tenant_id uuid,
  completion_id uuid,
  signal_id uuid,
  basis integer
);

create function private.candidates_of_signals(p_tenant_id uuid, p_signal_ids uuid[])
returns private.candidate[]
language plpgsql stable
set search_path = ''
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_custom_plan
as $$
begin
  return (select array_agg((p_tenant_id, c.id, c.signal_id, c.basis)::private.candidate)
  from (
    select c.id, k.signal_id, 1 as basis
    from unnest(p_signal_ids) as u (id)
    cross join lateral (
      select x.signal_id, x.code from private.signal_codes x where x.tenant_id = p_tenant_id and x.signal_id = u.id offset 0
    ) k
    cross join lateral (
      select x.id from public.completions x
      where x.tenant_id = p_tenant_id and x.code = k.code and x.status = 'pending' and x.seen_at is null offset 0
    ) c
    union all
    select c.id, s.id, a.basis
    from unnest(p_signal_ids) as u (id)
    cross join lateral (
      select x.* from private.signals x
      where x.tenant_id = p_tenant_id and x.id = u.id and (x.author_id is not null or x.author_username is not null) offset 0
    ) s
    cross join lateral (
      select x.participant_id, 2 as basis from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = s.surface and x.external_id = s.author_id
      union all
      select x.id, 3 from public.participants x
      where x.tenant_id = p_tenant_id and x.instagram_username = s.author_username and s.surface = 'instagram' and s.kind = 'comment'
      union all
      select x.id, 3 from public.participants x
      where x.tenant_id = p_tenant_id and x.facebook_user_id = s.author_id and s.surface = 'facebook' and s.kind = 'comment'
      offset 0
    ) a
    cross join lateral (
      select x.id from public.completions x
      where x.tenant_id = p_tenant_id and x.participant_id = a.participant_id and x.status = 'pending' and x.seen_at is null offset 0
    ) c
  ) c);
end
$$;

create function private.candidates_of_completions(p_tenant_ids uuid[], p_completion_ids uuid[])
returns private.candidate[]
language plpgsql stable
set search_path = ''
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_custom_plan
as $$
begin
  return (select array_agg((c.tenant_id, c.id, s.id, s.basis)::private.candidate)
  from unnest(p_tenant_ids, p_completion_ids) as u (tenant_id, completion_id)
  cross join lateral (
    select x.tenant_id, x.id, x.participant_id, x.code from public.completions x
    where x.tenant_id = u.tenant_id and x.id = u.completion_id and x.status = 'pending' and x.seen_at is null offset 0
  ) c
  cross join lateral (
    select x.signal_id as id, 1 as basis from private.signal_codes x where x.tenant_id = c.tenant_id and x.code = c.code
    union all
    select x.id, 2
    from (
      select y.platform, y.external_id from public.linked_accounts y
      where y.tenant_id = c.tenant_id and y.participant_id = c.participant_id offset 0
    ) a
    cross join lateral (
      select y.id from private.signals y where y.tenant_id = c.tenant_id and y.author_id = a.external_id and y.surface = a.platform offset 0
    ) x
    union all
    select x.id, 3
    from (
      select y.instagram_username, y.facebook_user_id from public.participants y
      where y.tenant_id = c.tenant_id and y.id = c.participant_id offset 0
    ) p
    cross join lateral (
      select y.id from private.signals y
      where y.tenant_id = c.tenant_id and y.author_username = p.instagram_username and y.surface = 'instagram' and y.kind = 'comment'
      union all
      select y.id from private.signals y
      where y.tenant_id = c.tenant_id and y.author_id = p.facebook_user_id and y.surface = 'facebook' and y.kind = 'comment'
      offset 0
    ) x
    offset 0
  ) s);
end
$$;

comment on function private.candidates_of_signals(uuid, uuid[]) is 'Open claims that these signals of a tenant may prove, by code, by linked account, by name.';
comment on function private.candidates_of_completions(uuid[], uuid[]) is 'Signals that may prove these claims, by code, by linked account, by name.';

-- Of the candidates those that do prove: the right kind of thing, on the right post, since there is the task, not used by another claim.
-- One row per claim, the strongest way first.
create function private.proven(p_candidates private.candidate[])
returns table (tenant_id uuid, completion_id uuid, via text, evidence jsonb, proofs text[])
language plpgsql stable
set search_path = ''
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select distinct on (f.tenant_id, f.completion_id) f.tenant_id, f.completion_id, f.via,
    jsonb_strip_nulls(jsonb_build_object(
      'comment_id', case when f.kind = 'comment' then f.external_id end,
      'message_id', case when f.kind in ('message', 'story_mention') then f.external_id end,
      'reaction', case when f.kind = 'reaction' then f.external_id end,
      'author_id', f.author_id, 'author_username', f.author_username, 'signal_id', f.signal_id,
      'at', to_char(f.happened_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))),
    f.proofs
  from (
    select p.tenant_id, p.completion_id, p.signal_id, p.basis, t.id as task_id, s.kind, s.external_id, s.author_id, s.author_username,
      s.happened_at, s.via,
      array_remove(array[
        case s.kind when 'comment' then 'comment:' || regexp_replace(s.external_id, '^.*_', '') when 'message' then 'message:' || s.external_id
          when 'story_mention' then 'message:' || s.external_id end,
        coalesce('author:' || s.author_id, 'name:' || s.author_username)], null) as proofs
    from unnest(p_candidates) p
    cross join lateral (
      select x.* from private.signals x where x.tenant_id = p.tenant_id and x.id = p.signal_id offset 0
    ) s
    cross join lateral (
      select x.task_id from public.completions x where x.tenant_id = p.tenant_id and x.id = p.completion_id offset 0
    ) c
    cross join lateral (
      select x.id, x.campaign_id, x.kind::text as kind, x.post_id, x.keyword, x.created_at from public.social_tasks x
      where x.tenant_id = p.tenant_id and x.id = c.task_id offset 0
    ) t
    cross join lateral (
      select x.username_match from public.campaigns x where x.tenant_id = p.tenant_id and x.id = t.campaign_id offset 0
    ) g
    -- Platforms' times are whole seconds.
    where s.happened_at >= date_trunc('second', t.created_at)
      and (p.basis < 3 or g.username_match)
      and case s.kind
        when 'comment' then t.kind = s.surface || '_comment' and t.post_id = s.target_id
        when 'reaction' then t.kind = 'facebook_reaction' and t.post_id = s.target_id and p.basis = 2
        when 'story_mention' then t.kind = 'instagram_story_mention' and p.basis = 2
        when 'message' then case s.surface
          when 'instagram' then t.kind = 'instagram_dm_keyword' and (p.basis = 1 or (p.basis = 2
            and ' ' || regexp_replace(lower(s.message), '[^[:alnum:]]+', ' ', 'g') || ' '
              like '% ' || btrim(regexp_replace(t.keyword, '[^[:alnum:]]+', ' ', 'g')) || ' %'))
          when 'whatsapp' then t.kind = 'whatsapp_join' and p.basis = 1
          else false end
        when 'visit' then t.kind = 'link_visit' and p.basis = 1
        when 'sign_up' then t.kind = 'link_sign_up' and p.basis = 1
        else false end
    offset 0
  ) f
  where not exists (
    select from unnest(f.proofs) as q (proof)
    cross join lateral (
      select from private.proofs o
      where o.tenant_id = f.tenant_id and o.task_id = f.task_id and o.proof = q.proof and o.completion_id <> f.completion_id offset 0
    ) used)
  order by f.tenant_id, f.completion_id, f.basis, f.happened_at, f.signal_id;
end
$$;

comment on function private.proven(private.candidate[]) is
  'The claims that are proven by these candidates, each with its evidence (ids and times) and what it uses up as a proof.';
