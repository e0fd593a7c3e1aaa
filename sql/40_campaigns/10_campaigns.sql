-- Campaigns: what a tenant runs for its participants, with the hours in which messages may go out.
create type public.campaign_status as enum ('draft', 'active', 'ended');

create table public.campaigns (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  name text not null,
  status public.campaign_status not null default 'draft',
  starts_at timestamptz not null default now(),
  ends_at timestamptz,
  time_zone text not null default 'UTC',
  notifications_enabled boolean not null default true,
  notify_from time not null default '00:00',
  notify_until time not null default '24:00',
  username_match boolean not null default false,
  reward_after interval,
  promotion boolean not null default false,
  official_rules text,
  eligibility text,
  prize_terms text,
  release_text text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint campaigns_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint name_is_not_empty check (btrim(name) <> '' and char_length(name) <= 120),
  constraint it_ends_after_it_starts check (ends_at > starts_at),
  constraint times_are_finite check (isfinite(starts_at) and isfinite(ends_at)),
  constraint reward_after_is_up_to_30_days check (reward_after between interval '1 second' and interval '30 days'),
  constraint promotion_texts_are_not_too_long check (
    octet_length(official_rules) <= 50000 and octet_length(eligibility) <= 10000 and octet_length(prize_terms) <= 10000
    and octet_length(release_text) <= 10000)
);

alter table public.campaigns enable row level security;
grant select on public.campaigns to authenticated;
grant insert (tenant_id, name, status, starts_at, ends_at, time_zone, notifications_enabled, notify_from, notify_until,
  username_match, reward_after, promotion, official_rules, eligibility, prize_terms, release_text) on public.campaigns to authenticated;
grant update (name, status, starts_at, ends_at, time_zone, notifications_enabled, notify_from, notify_until,
  username_match, reward_after, promotion, official_rules, eligibility, prize_terms, release_text) on public.campaigns to authenticated;
grant delete on public.campaigns to authenticated;
grant select, insert, update, delete on public.campaigns to service_role;

create trigger campaigns_before_update_keep_row_rules
  before update on public.campaigns
  for each row execute function private.keep_row_rules();

create trigger campaigns_before_write_check
  before insert or update of time_zone on public.campaigns
  for each row execute function private.check_time_zone();

-- A promotion has rules, dates and a release before anybody can enter it.
create function private.check_promotion()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_missing text;
begin
  if not new.promotion or new.status <> 'active' then
    return new;
  end if;
  select string_agg(f.name, ', ' order by f.position) into v_missing
  from (values
    (1, 'official_rules', new.official_rules), (2, 'eligibility', new.eligibility), (3, 'ends_at', new.ends_at::text),
    (4, 'prize_terms', new.prize_terms), (5, 'release_text', new.release_text)) as f (position, name, value)
  where coalesce(btrim(f.value), '') = '';
  if v_missing is not null then
    raise exception 'Before this promotion can run it needs: %.', v_missing using errcode = '23514',
      hint = 'A promotion says by which rules it runs, who may enter, until when, what is won, and that no platform stands behind it.';
  end if;
  if tg_op = 'INSERT' or old.status <> 'active' or not old.promotion then
    perform private.require_acknowledgement(new.tenant_id, 'promotion_release');
  end if;
  return new;
end
$$;

comment on function private.check_promotion() is
  'Trigger: a promotion becomes active only with all of its texts and its end, and with the release acknowledged. '
  'Definer: acknowledgements are looked up whoever asks.';

create trigger campaigns_before_write_check_promotion
  before insert or update of status, promotion, official_rules, eligibility, ends_at, prize_terms, release_text on public.campaigns
  for each row execute function private.check_promotion();

comment on column public.campaigns.username_match is
  'True: a comment under the user name that the participant typed proves a claim. False: only a linked account or the code does.';
comment on column public.campaigns.reward_after is 'A proof that can be undone is looked at again after so long, and only then rewarded. Null: at once.';
comment on column public.campaigns.promotion is
  'True: a promotion to enter. It needs official_rules, eligibility, ends_at, prize_terms and release_text before it can be active.';
comment on column public.campaigns.release_text is 'The release of the platforms by the entrants, and that none of them sponsors or administers it.';

comment on table public.campaigns is 'A tenant''s campaigns: when they run, in which time zone, whether and at which hours they send messages.';
comment on column public.campaigns.notify_from is
  'Messages leave from this local time on, until notify_until (half open). from > until crosses midnight; 00:00 to 24:00 is always; equal is never.';

create function private.window_is_open(p_from time, p_until time, p_local time)
returns boolean
language sql immutable
set search_path = ''
as $$
  select case when p_from <= p_until then p_local >= p_from and p_local < p_until else p_local >= p_from or p_local < p_until end
$$;

-- The moments after p_at at which the window of a zone may change: its own times on the wall clock, both passes where the clock
-- shows them twice, and the changes of the clock themselves (found as the full quarter hours at which the offset jumps).
create function private.window_edges(p_time_zone text, p_from time, p_until time, p_at timestamptz)
returns setof timestamptz
language sql stable
set search_path = ''
as $$
  with wall as (
    select (p_at at time zone p_time_zone)::date + d + t as local
    from generate_series(-1, 3) d, unnest(array[p_from, p_until]) t
  ),
  edge as (
    select w.local at time zone p_time_zone + s as at
    from wall w, unnest(array[interval '-2 hours', interval '-1 hour', interval '-30 minutes', interval '0', interval '30 minutes', interval '1 hour']) s
    where (w.local at time zone p_time_zone + s) at time zone p_time_zone = w.local
    union
    select q
    from generate_series(date_trunc('hour', p_at), p_at + interval '3 days', interval '15 minutes') q
    where (q at time zone p_time_zone) - ((q - interval '15 minutes') at time zone p_time_zone) <> interval '15 minutes'
  )
  select edge.at from edge where edge.at > p_at order by edge.at
$$;

-- Now if messages may leave at p_at, else when the window opens next in its own zone (null: never).
create function private.window_opens_at(p_time_zone text, p_from time, p_until time, p_at timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
  select case when private.window_is_open(p_from, p_until, (p_at at time zone p_time_zone)::time) then p_at else (
    select e from private.window_edges(p_time_zone, p_from, p_until, p_at) e
    where private.window_is_open(p_from, p_until, (e at time zone p_time_zone)::time)
    order by e
    limit 1) end
$$;

-- When an open window closes; infinity when it never does.
create function private.window_closes_at(p_time_zone text, p_from time, p_until time, p_at timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
  select case when p_from = '00:00' and p_until = '24:00' then 'infinity' else coalesce((
    select e from private.window_edges(p_time_zone, p_from, p_until, p_at) e
    where not private.window_is_open(p_from, p_until, (e at time zone p_time_zone)::time)
    order by e
    limit 1), 'infinity') end
$$;

comment on function private.window_edges(text, time, time, timestamptz) is 'When a daily window in a time zone may open or close within the next three days, clock changes included.';
comment on function private.window_opens_at(text, time, time, timestamptz) is 'The time itself when the window is open then, else its next opening, or null for a window that never opens.';
comment on function private.window_is_open(time, time, time) is 'True when a local time lies in [from, until); from > until crosses midnight.';
comment on function private.window_closes_at(text, time, time, timestamptz) is 'When the window that is open at this time closes; infinity for one that is always open.';
