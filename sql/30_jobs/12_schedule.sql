-- Schedules: cron expressions with IANA time zones. pg_cron knows one zone for all and forgets what it misses; this does neither.
--
-- Rules for clock changes: a schedule with fixed hours runs once per local day: a time that the clock skips runs at the moment
-- to which the skipped time is moved (02:30 becomes 03:30), a time that comes twice runs the first time. A schedule whose hour
-- field is * goes by the clock on the wall: minutes that do not exist are left out, minutes that come twice run twice.

create type jobs.cron as (
  minutes integer[],
  hours integer[],
  days integer[],
  months integer[],
  weekdays integer[],
  any_hour boolean,
  any_day boolean,
  any_weekday boolean
);

-- One field: lists of *, n, a-b, each with /step; names where the field has names. Says where it is wrong.
create function jobs.parse_cron_field(p_field text, p_name text, p_low integer, p_high integer, p_names text[])
returns integer[]
language plpgsql immutable
set search_path = ''
as $$
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
$$;

create function jobs.parse_cron_value(p_text text, p_name text, p_low integer, p_high integer, p_names text[])
returns integer
language plpgsql immutable
set search_path = ''
as $$
declare
  v_value integer;
begin
  if p_text ~ '^[0-9]{1,4}$' then
    v_value := p_text::integer;
  else
    -- Names count from the first value of the field (jan is 1, sun is 0).
    v_value := array_position(p_names, p_text) + p_low - 1;
  end if;
  if v_value is null or v_value not between p_low and p_high then
    raise exception 'Cron field "%": "%" is not between % and %.', p_name, p_text, p_low, p_high using errcode = '22023';
  end if;
  return v_value;
end
$$;

create function jobs.parse_cron(expression text)
returns jobs.cron
language plpgsql immutable
set search_path = ''
as $$
declare
  v_fields text[];
  v_cron jobs.cron;
  v_text text := lower(btrim(regexp_replace(expression, '\s+', ' ', 'g')));
begin
  if char_length(expression) > 500 then
    raise exception 'A schedule has at most 500 characters, not %.', char_length(expression) using errcode = '22023';
  end if;
  v_text := case v_text
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *' when '@weekly' then '0 0 * * 0'
    when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *' when '@hourly' then '0 * * * *'
    else v_text end;
  if coalesce(v_text, '') = '' or v_text like '@%' then
    raise exception '"%" is not a schedule. Known words: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.', expression
      using errcode = '22023';
  end if;
  v_fields := string_to_array(v_text, ' ');
  if cardinality(v_fields) <> 5 then
    raise exception 'A schedule has five fields (minute hour day month weekday); "%" has %.', expression, cardinality(v_fields)
      using errcode = '22023';
  end if;
  v_cron.minutes := jobs.parse_cron_field(v_fields[1], 'minute', 0, 59, '{}');
  v_cron.hours := jobs.parse_cron_field(v_fields[2], 'hour', 0, 23, '{}');
  v_cron.days := jobs.parse_cron_field(v_fields[3], 'day', 1, 31, '{}');
  v_cron.months := jobs.parse_cron_field(v_fields[4], 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
  v_cron.weekdays := jobs.parse_cron_field(v_fields[5], 'weekday', 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
  -- 7 is Sunday too.
  v_cron.weekdays := array(select distinct u % 7 from unnest(v_cron.weekdays) u order by 1);
  v_cron.any_hour := v_fields[2] = '*';
  v_cron.any_day := v_fields[3] like '*%';
  v_cron.any_weekday := v_fields[5] like '*%';
  return v_cron;
end
$$;

comment on function jobs.parse_cron(text) is
  'Parses a cron expression: five fields with names, ranges, steps and lists, or @hourly, @daily, @weekly, @monthly, @yearly. '
  'Raises 22023 with the field and the part that is wrong. Day and weekday both given: either matches.';
comment on function jobs.parse_cron_field(text, text, integer, integer, text[]) is 'The values of one cron field, sorted.';
comment on function jobs.parse_cron_value(text, text, integer, integer, text[]) is 'One number or name of a cron field.';

-- The moment of a local time. Of one that comes twice Postgres takes the second: look for the first. (Clocks went back by up to three hours.)
create function jobs.first_moment(p_local timestamp, p_time_zone text)
returns timestamptz
language sql stable
set search_path = ''
as $$
  select coalesce(
    (select min(earlier.at)
     from (select p_local at time zone p_time_zone - d as at
       from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours', interval '3 hours']) d) earlier
     where earlier.at at time zone p_time_zone = p_local),
    p_local at time zone p_time_zone)
$$;

comment on function jobs.first_moment(timestamp, text) is 'When a local time is: the first of two, or the moment to which one that the clock skips is moved.';

-- The moments of one local day at which a schedule is due.
create function jobs.slots_of_day(p_cron jobs.cron, p_time_zone text, p_day date)
returns setof timestamptz
language sql stable
set search_path = ''
as $$
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
$$;

comment on function jobs.slots_of_day(jobs.cron, text, date) is 'When a schedule is due on one local day, clock changes included.';

-- Whether a day is one of the schedule's. Day and weekday both given: either matches.
create function jobs.is_slot_day(p_cron jobs.cron, p_day date)
returns boolean
language sql immutable
set search_path = ''
as $$
  select extract(month from p_day)::integer = any ((p_cron).months)
    and case
      when (p_cron).any_day or (p_cron).any_weekday
        then extract(day from p_day)::integer = any ((p_cron).days) and extract(dow from p_day)::integer = any ((p_cron).weekdays)
      else extract(day from p_day)::integer = any ((p_cron).days) or extract(dow from p_day)::integer = any ((p_cron).weekdays) end
$$;

comment on function jobs.is_slot_day(jobs.cron, date) is 'True when a schedule may be due on this local day.';

create function jobs.next_slots(schedule text, time_zone text default 'UTC', after timestamptz default now(), count integer default 5)
returns setof timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_cron jobs.cron := jobs.parse_cron(schedule);
  v_day date;
  v_slot timestamptz;
  v_slots timestamptz[] := '{}';
  v_moved timestamptz[] := '{}';
  v_found integer := 0;
  v_wanted integer := coalesce(count, 5);
begin
  if v_wanted > 1000 then
    raise exception 'At most 1,000 slots at once, not %.', v_wanted using errcode = '22023';
  end if;
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
      exit when v_found >= v_wanted;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= v_wanted;
  end loop;
end
$$;

grant execute on function jobs.next_slots(text, text, timestamptz, integer) to service_role;
comment on function jobs.next_slots(text, text, timestamptz, integer) is
  'The next times of a schedule in a time zone after a moment: five, or as many as asked for, up to 1,000. '
  'Errors: 22023 with what is wrong in the expression, the zone or the count. '
  'Definer: the functions that take an expression apart are granted to nobody.';

-- A definition with a wrong schedule is refused when it is written, not when it is due.
create function jobs.check_definition()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if new.schedule is null then
    new.next_slot_at := null;
  elsif tg_op = 'INSERT' or new.schedule is distinct from old.schedule or new.time_zone is distinct from old.time_zone
    or (new.next_slot_at is null) then
    select s into new.next_slot_at
    from jobs.next_slots(new.schedule, coalesce(new.time_zone, private.setting('default_time_zone'), 'UTC'), now(), 1) s;
    if new.next_slot_at is null then
      raise exception 'The schedule "%" never comes.', new.schedule using errcode = '22023';
    end if;
  end if;
  return new;
end
$$;

comment on function jobs.check_definition() is 'Trigger: refuses a wrong schedule or zone, and works out the next slot. '
  'Definer: with the secret key a schedule may be changed, and private.settings not be read.';

create trigger definitions_before_write_check
  before insert or update on jobs.definitions
  for each row execute function jobs.check_definition();

-- A default zone that no server knows would stop the tick at the next slot. And what is due next goes by the new one.
create function jobs.check_default_time_zone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_when = 'BEFORE' then
    if not private.is_time_zone(new.value) then
      raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', new.value using errcode = '22023';
    end if;
    return new;
  end if;
  update jobs.definitions d set next_slot_at = null where d.schedule is not null and d.time_zone is null;
  return null;
end
$$;

comment on function jobs.check_default_time_zone() is
  'Trigger: the setting default_time_zone must be a known IANA name; the next slots of the jobs that name no zone follow it.';

create trigger settings_before_update_check_time_zone
  before update of value on private.settings
  for each row when (new.name = 'default_time_zone') execute function jobs.check_default_time_zone();

create trigger settings_after_update_time_zone
  after update of value on private.settings
  for each row when (new.name = 'default_time_zone' and new.value <> old.value) execute function jobs.check_default_time_zone();

create function jobs.next_times(job text, count integer default 5)
returns setof timestamptz
language sql stable security definer
set search_path = ''
as $$
  select s
  from jobs.definitions d
  cross join lateral jobs.next_slots(
    d.schedule, coalesce(d.time_zone, private.setting('default_time_zone'), 'UTC'), now(), next_times.count) s
  where d.job = next_times.job and d.schedule is not null
$$;

grant execute on function jobs.next_times(text, integer) to service_role;
comment on function jobs.next_times(text, integer) is 'The next times at which a scheduled job is due; none for a queue. '
  'Definer: reads definitions and history without a grant on each.';
