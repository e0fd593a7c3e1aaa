-- schedules: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop function "jobs"."day_begins"(date, text);

create or replace function jobs.first_moment (
  p_local timestamp without time zone,
  p_time_zone text
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce(
    (select min(earlier.at)
     from (select p_local at time zone p_time_zone - d as at
       from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours', interval '3 hours']) d) earlier
     where earlier.at at time zone p_time_zone = p_local),
    p_local at time zone p_time_zone)
$function$;

create or replace function jobs.next_slots (
  schedule text,
  time_zone text default 'UTC'::text,
  after timestamp with time zone default now(),
  count integer default 5
)
  returns SETOF timestamp with time zone
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_cron jobs.cron := jobs.parse_cron(schedule);
  v_day date;
  v_slot timestamptz;
  v_slots timestamptz[] := '{}';
  v_moved timestamptz[] := '{}';
  v_found integer := 0;
begin
  if not isfinite(after) then
    raise exception 'after must be a time, not infinity.' using errcode = '22008';
  end if;
  if time_zone is null or not private.is_time_zone(time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', time_zone using errcode = '22023';
  end if;
  -- A slot that a clock change moved may belong to the day before. February 29 is at most eight years away.
  for v_day in
    select d::date
    from generate_series((after at time zone time_zone)::date - 1, (after at time zone time_zone)::date + 2930, interval '1 day') d
    where jobs.is_slot_day(v_cron, d::date)
      and (d::date >= (after at time zone time_zone)::date
        or jobs.first_moment(d::date + 1, time_zone) - jobs.first_moment(d::date, time_zone) <> interval '24 hours')
  loop
    -- A time that the clock skips may be moved past midnight: it takes its turn among those of the next day.
    v_slots := array(
      select u from (select unnest(v_moved) as u union select s from jobs.slots_of_day(v_cron, time_zone, v_day) s) x where u > after order by u);
    v_moved := array(select u from unnest(v_slots) u where u >= jobs.first_moment(v_day + 1, time_zone));
    foreach v_slot in array v_slots[:cardinality(v_slots) - cardinality(v_moved)] loop
      exit when v_found >= count;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= count;
  end loop;
end
$function$;

create or replace function jobs.parse_cron_field (
  p_field text,
  p_name text,
  p_low integer,
  p_high integer,
  p_names text[]
)
  returns integer[]
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_part text;
  v_match text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_values integer[] := '{}';
begin
  foreach v_part in array string_to_array(lower(p_field), ',') loop
    v_match := regexp_match(v_part, '^(\*|([0-9a-z]+)(-([0-9a-z]+))?)(/([0-9]{1,4}))?$');
    if v_match is null then
      raise exception 'Cron field "%": "%" is not *, a number, a range a-b or one of these with /step.', p_name, v_part using errcode = '22023';
    end if;
    v_from := case when v_match[1] = '*' then p_low else jobs.parse_cron_value(v_match[2], p_name, p_low, p_high, p_names) end;
    v_to := case
      when v_match[1] = '*' then p_high
      when v_match[4] is not null then jobs.parse_cron_value(v_match[4], p_name, p_low, p_high, p_names)
      when v_match[6] is not null then p_high
      else v_from end;
    v_step := coalesce(v_match[6]::integer, 1);
    if v_step = 0 then
      raise exception 'Cron field "%": a step of 0 in "%".', p_name, v_part using errcode = '22023';
    end if;
    -- Every 90 minutes is not to be had this way: it would be every hour, without a word.
    if v_step > p_high - p_low then
      raise exception 'Cron field "%": the step of "%" is longer than from % to %.', p_name, v_part, p_low, p_high using errcode = '22023';
    end if;
    if v_to < v_from then
      raise exception 'Cron field "%": the range "%" runs backwards.', p_name, v_part using errcode = '22023';
    end if;
    v_values := v_values || array(select generate_series(v_from, v_to, v_step));
  end loop;
  return array(select distinct u from unnest(v_values) u order by u);
end
$function$;

create or replace function jobs.slots_of_day (
  p_cron jobs.cron,
  p_time_zone text,
  p_day date
)
  returns SETOF timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  with midnight as (
    select jobs.first_moment(p_day, p_time_zone) as starts, jobs.first_moment(p_day + 1, p_time_zone) as ends
  ),
  wanted as (
    select p_day + make_interval(hours => h, mins => m) as local
    from unnest((p_cron).hours) h, unnest((p_cron).minutes) m
  )
  -- A plain day, as nearly all are: each local time is once.
  select w.local at time zone p_time_zone
  from wanted w, midnight
  where midnight.ends - midnight.starts = interval '24 hours'
  union all
  -- A day with a clock change and fixed hours: each local time once.
  select distinct jobs.first_moment(w.local, p_time_zone)
  from wanted w, midnight
  where not (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
  union all
  -- A day with a clock change and a schedule for every hour: every minute that the wall clock shows.
  select t.at
  from midnight, generate_series(midnight.starts, midnight.ends - interval '1 minute', interval '1 minute') as t (at)
  where (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
    and extract(minute from t.at at time zone p_time_zone)::integer = any ((p_cron).minutes)
$function$;

comment on function "jobs"."first_moment"(timestamp without time zone, text) is 'When a local time is: the first of two, or the moment to which one that the clock skips is moved.';

revoke all on function "jobs"."first_moment"(timestamp without time zone, text) from public;
