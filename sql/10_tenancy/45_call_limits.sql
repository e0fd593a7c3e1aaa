-- Limits against abuse: how often a user, a tenant or a credential may call what is expensive. Counted here and nowhere else,
-- so that they hold exactly, however many connections, workers or functions are asked at once.

-- The calls of one key in its window, as their moments: at no time are there more than the limit within any window's length,
-- as there could be around the edge of a counter that starts anew. A limit of 100 costs 800 bytes a key.
create table private.rate_windows (
  key text primary key,
  taken timestamptz[] not null,
  ends_at timestamptz not null,
  constraint key_is_not_too_long check (octet_length(key) between 1 and 300)
);

create index rate_windows_ends_at_idx on private.rate_windows (ends_at);

alter table private.rate_windows enable row level security;

comment on table private.rate_windows is 'The recent calls of everyone whose calls are limited. A row is of no use after ends_at.';

-- Counts a call when the limit has room for it, and answers null; else the seconds until it has.
create function private.count_call(p_key text, p_limit integer, p_seconds integer)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_window interval := make_interval(secs => p_seconds);
  v_taken timestamptz[];
begin
  if p_limit is null or p_limit not between 1 and 10000 or p_seconds is null or p_seconds not between 1 and 2678400 then
    raise exception 'A limit is 1 to 10000 calls in 1 to 2678400 seconds.' using errcode = '22023';
  end if;
  -- One statement looks and counts. Whoever comes at the same time waits for the row and sees what was counted before.
  insert into private.rate_windows as w (key, taken, ends_at)
  values (p_key, array[clock_timestamp()], clock_timestamp() + v_window)
  on conflict on constraint rate_windows_pkey do update
    set taken = array(select t from unnest(w.taken) t where t > clock_timestamp() - v_window order by t) || clock_timestamp(),
      ends_at = clock_timestamp() + v_window
    where (select count(*) from unnest(w.taken) t where t > clock_timestamp() - v_window) < p_limit
  returning w.taken into v_taken;
  if not found then
    -- There is room again when the oldest of the last p_limit calls leaves the window.
    return (
      select greatest(1, ceil(extract(epoch from w.taken[cardinality(w.taken) - p_limit + 1] + v_window - clock_timestamp())))
      from private.rate_windows w
      where w.key = p_key);
  end if;
  -- A key that comes (back) clears away a few that are gone: the table never holds many more than are in use.
  if cardinality(v_taken) = 1 then
    delete from private.rate_windows w
    where w.key in (
      select o.key from private.rate_windows o
      where o.ends_at < clock_timestamp()
      order by o.ends_at limit 10 for update skip locked);
  end if;
  return null;
end
$$;

comment on function private.count_call(text, integer, integer) is
  'Counts a call against p_limit calls in p_seconds: null when there was room, else the seconds to wait. Exact under parallel load.';

create function private.take_rate(p_key text, p_limit integer, p_seconds integer)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_wait integer := private.count_call(p_key, p_limit, p_seconds);
begin
  if v_wait is not null then
    -- The Data API takes status and headers of an error from here. A plain PT429 would be answered without Retry-After.
    raise sqlstate 'PGRST' using
      message = jsonb_build_object(
        'code', 'PT429',
        'message', 'Too many requests.',
        'details', format('retry after %s seconds', v_wait),
        'hint', null)::text,
      detail = jsonb_build_object('status', 429, 'headers', jsonb_build_object('Retry-After', v_wait::text))::text;
  end if;
end
$$;

comment on function private.take_rate(text, integer, integer) is
  'Counts a call, or raises what the Data API answers with 429, code PT429 and the header Retry-After.';

-- The limits, one row each, so that an admin can change a number without a migration.
create table private.call_limits (
  name text primary key,
  calls integer not null,
  seconds integer not null,
  per text not null,
  meaning text not null,
  constraint name_is_a_word check (name ~ '^[a-z][a-z_]{0,62}$'),
  constraint calls_are_between_1_and_10000 check (calls between 1 and 10000),
  constraint seconds_are_up_to_31_days check (seconds between 1 and 2678400),
  constraint per_is_user_or_tenant check (per in ('user', 'tenant'))
);

alter table private.call_limits enable row level security;

comment on table private.call_limits is 'How often a user or a tenant may call what is expensive. A call without a row here has no limit.';

create function private.limit_calls(p_name text, p_id uuid)
returns void
language sql
set search_path = ''
as $$
  select private.take_rate(l.name || '/' || p_id, l.calls, l.seconds) from private.call_limits l
  where l.name = p_name and p_id is not null
$$;

comment on function private.limit_calls(text, uuid) is
  'Counts a call of this name by this user or tenant. A call that fails afterwards is rolled back, and its count with it.';

create function jobs.set_call_limit(name text, calls integer, seconds integer)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  update private.call_limits l set calls = set_call_limit.calls, seconds = set_call_limit.seconds where l.name = set_call_limit.name;
  if not found then
    raise exception 'There is no limit "%". Known: %.', set_call_limit.name,
      (select string_agg(l.name, ', ' order by l.name) from private.call_limits l)
      using errcode = 'P0002';
  end if;
  perform private.audit(null, 'call_limit.set', jsonb_build_object('name', set_call_limit.name, 'calls', set_call_limit.calls, 'seconds', set_call_limit.seconds));
end
$$;

grant execute on function jobs.set_call_limit(text, integer, integer) to service_role;
comment on function jobs.set_call_limit(text, integer, integer) is
  'Platform only: changes one limit; it holds from the next call on. Definer: private.call_limits is not reachable for any API role.';

-- An address against a list of addresses and networks, separated by commas or spaces. An empty list lets everybody in; what
-- cannot be read, in the list or as the address, lets nobody in.
create function private.is_listed(p_ip text, p_list text)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
declare
  v_entry text;
  v_ip inet;
begin
  if btrim(coalesce(p_list, ''), E' ,\t\n') = '' then
    return true;
  end if;
  -- An IPv4 address as a dual-stack server writes it.
  v_ip := regexp_replace(p_ip, '^::ffff:(?=[0-9.]+$)', '', 'i')::inet;
  foreach v_entry in array regexp_split_to_array(btrim(p_list, E' ,\t\n'), '[\s,]+') loop
    if v_ip <<= v_entry::inet then
      return true;
    end if;
  end loop;
  return false;
exception when invalid_text_representation then
  return false;
end
$$;

comment on function private.is_listed(text, text) is 'True when the list is empty or has the address, alone or in a network.';

-- What a function asks before it works for a caller.
create function jobs.take_request(key text, requests integer, seconds integer, ip text default null)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_wait integer;
begin
  if private.is_listed(take_request.ip, private.setting('jobs_ip_allow_list')) is not true then
    return jsonb_build_object('allowed', false, 'reason', 'address', 'retry_after_seconds', null);
  end if;
  v_wait := private.count_call('request/' || take_request.key, take_request.requests, take_request.seconds);
  return jsonb_build_object('allowed', v_wait is null, 'reason', case when v_wait is not null then 'rate' end, 'retry_after_seconds', v_wait);
end
$$;

grant execute on function jobs.take_request(text, integer, integer, text) to service_role;
comment on function jobs.take_request(text, integer, integer, text) is
  'For functions: counts a request of this key (a fingerprint of the credential that was used, never the credential) against '
  'so many requests in so many seconds. {"allowed", "reason": null | "rate" | "address", "retry_after_seconds"}. "address": the '
  'setting jobs_ip_allow_list is not empty and does not have the ip, which must come from the proxy''s own header. '
  'Definer: private.rate_windows is not reachable for any API role.';
