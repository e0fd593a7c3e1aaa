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
  'Notes how many followers an account had on a day; false when that day has its count already. '
  'Definer: one door for all who measure.';

-- Which signals prove which open claims, by all three ways: the code of the claim, a linked account, the name that was typed.
-- Not those that were seen once already: the second look is the platform's, not the memory's.
create view private.proving_signals with (security_invoker = true) as
with path as (
  select c.tenant_id, c.id as completion_id, c.participant_id, c.task_id, c.claimed_at, s.id as signal_id, 1 as basis
  from private.signal_codes k
  join private.signals s on s.tenant_id = k.tenant_id and s.id = k.signal_id
  join public.completions c on c.tenant_id = k.tenant_id and c.code = k.code and c.status = 'pending' and c.seen_at is null
  union all
  select c.tenant_id, c.id, c.participant_id, c.task_id, c.claimed_at, s.id, 2
  from private.signals s
  join public.linked_accounts a on a.tenant_id = s.tenant_id and a.platform = s.surface and a.external_id = s.author_id
  join public.completions c on c.tenant_id = a.tenant_id and c.participant_id = a.participant_id and c.status = 'pending' and c.seen_at is null
  union all
  select c.tenant_id, c.id, c.participant_id, c.task_id, c.claimed_at, s.id, 3
  from private.signals s
  join public.participants p on p.tenant_id = s.tenant_id and p.instagram_username = s.author_username
  join public.completions c on c.tenant_id = p.tenant_id and c.participant_id = p.id and c.status = 'pending' and c.seen_at is null
  where s.surface = 'instagram' and s.kind = 'comment'
  union all
  select c.tenant_id, c.id, c.participant_id, c.task_id, c.claimed_at, s.id, 3
  from private.signals s
  join public.participants p on p.tenant_id = s.tenant_id and p.facebook_user_id = s.author_id
  join public.completions c on c.tenant_id = p.tenant_id and c.participant_id = p.id and c.status = 'pending' and c.seen_at is null
  where s.surface = 'facebook' and s.kind = 'comment'
)
select p.tenant_id, p.completion_id, p.participant_id, p.task_id, p.claimed_at, p.signal_id, p.basis, s.happened_at, s.via,
  array_remove(array[
    case s.kind when 'comment' then 'comment:' || regexp_replace(s.external_id, '^.*_', '') when 'message' then 'message:' || s.external_id
      when 'story_mention' then 'message:' || s.external_id end,
    coalesce('author:' || s.author_id, 'name:' || s.author_username)], null) as proofs,
  jsonb_strip_nulls(jsonb_build_object(
    'comment_id', case when s.kind = 'comment' then s.external_id end,
    'message_id', case when s.kind in ('message', 'story_mention') then s.external_id end,
    'reaction', case when s.kind = 'reaction' then s.external_id end,
    'author_id', s.author_id, 'author_username', s.author_username, 'signal_id', s.id,
    'at', to_char(s.happened_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) as evidence
from path p
join private.signals s on s.tenant_id = p.tenant_id and s.id = p.signal_id
join public.social_tasks t on t.tenant_id = p.tenant_id and t.id = p.task_id
join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
-- Platforms' times are whole seconds.
where s.happened_at >= date_trunc('second', t.created_at)
  and (p.basis < 3 or g.username_match)
  and case s.kind
    when 'comment' then t.kind::text = s.surface || '_comment' and t.post_id = s.target_id
    when 'reaction' then t.kind::text = 'facebook_reaction' and t.post_id = s.target_id and p.basis = 2
    when 'story_mention' then t.kind::text = 'instagram_story_mention' and p.basis = 2
    when 'message' then case s.surface
      when 'instagram' then t.kind::text = 'instagram_dm_keyword' and (p.basis = 1
        or ' ' || regexp_replace(lower(s.message), '[^[:alnum:]]+', ' ', 'g') || ' '
          like '% ' || btrim(regexp_replace(t.keyword, '[^[:alnum:]]+', ' ', 'g')) || ' %')
      when 'whatsapp' then t.kind::text = 'whatsapp_join' and p.basis = 1
      else false end
    when 'visit' then t.kind::text = 'link_visit' and p.basis = 1
    when 'sign_up' then t.kind::text = 'link_sign_up' and p.basis = 1
    else false end;

comment on view private.proving_signals is
  'Pairs of an open claim and a signal of the same tenant that proves it. basis: 1 the code of the claim, 2 a linked account, 3 the name that the '
  'participant typed, where the campaign takes that.';
