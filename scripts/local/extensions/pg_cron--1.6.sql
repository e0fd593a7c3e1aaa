-- Stand-in for pg_cron 1.6: the same schema, tables, functions and errors, in SQL; cron-worker.ts is the scheduler.
\echo Use "create extension pg_cron" to load this file. \quit

do $$
begin
  if current_database() <> coalesce(nullif(current_setting('cron.database_name', true), ''), current_database()) then
    raise exception 'can only create extension in database %', current_setting('cron.database_name')
      using
        detail = 'Jobs must be scheduled from the database configured in cron.database_name, since the pg_cron '
          'background worker reads job descriptions from this database.',
        hint = format(
          'Add cron.database_name = ''%s'' in postgresql.conf to use the current database.', current_database()
        );
  end if;
  if to_regnamespace('cron') is null then
    create schema cron;
  end if;
  -- Whoever owns the schema could replace what is in it.
  execute format('alter schema cron owner to %I', current_user);
end;
$$;

create sequence cron.jobid_seq;

create table cron.job (
  jobid bigint primary key default nextval('cron.jobid_seq'),
  schedule text not null,
  command text not null,
  nodename text not null default 'localhost',
  nodeport int not null default inet_server_port(),
  database text not null default current_database(),
  username text not null default current_user,
  active boolean not null default true,
  jobname text,
  constraint jobname_username_uniq unique (jobname, username)
);
alter table cron.job enable row level security;
create policy cron_job_policy on cron.job using (username = current_user);
grant select on cron.job to public;

create sequence cron.runid_seq;

create table cron.job_run_details (
  jobid bigint,
  runid bigint primary key default nextval('cron.runid_seq'),
  job_pid integer,
  database text,
  username text,
  command text,
  status text,
  return_message text,
  start_time timestamptz,
  end_time timestamptz
);
alter table cron.job_run_details enable row level security;
create policy cron_job_run_details_policy on cron.job_run_details using (username = current_user);
grant select, delete on cron.job_run_details to public;

grant select on sequence cron.jobid_seq, cron.runid_seq to public;

select pg_catalog.pg_extension_config_dump('cron.job', '');
select pg_catalog.pg_extension_config_dump('cron.jobid_seq', '');
select pg_catalog.pg_extension_config_dump('cron.job_run_details', '');
select pg_catalog.pg_extension_config_dump('cron.runid_seq', '');

-- The scheduler reloads its jobs when this notification arrives, which is after the change has been committed.
create function cron.job_cache_invalidate() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform pg_catalog.pg_notify('pg_cron', 'jobs');
  return null;
end;
$$;
comment on function cron.job_cache_invalidate() is 'invalidate job cache';

create trigger cron_job_cache_invalidate
after insert or update or delete or truncate on cron.job
for each statement execute function cron.job_cache_invalidate();

-- One list of a cron line ("*", "1-5", "*/15", "mon,wed") as the set of its numbers; null when it is not one.
-- Like Vixie cron's parser it ignores what follows a complete range ("5!x" is 5), and a range that runs backwards
-- sets the bits that the real one's byte-wise loop sets ("22-2" in hours is 22,23,0,1,2).
create function cron._parse_list(list text, low int, high int, names text[] default '{}') returns int[]
language plpgsql
immutable
set search_path = ''
as $$
declare
  rest text := list;
  part text[];
  first int;
  last int;
  step int;
  numbers int[] := '{}';
begin
  loop
    part := pg_catalog.regexp_match(rest, '^(?:(\*)|([A-Za-z0-9]+)(-([A-Za-z0-9]*))?)(/([A-Za-z0-9]*))?(,)?');
    if part is null then
      return null;
    end if;
    if part[1] is not null then
      first := low;
      last := high;
    else
      first := cron._parse_number(part[2], low, names);
      last := case when part[3] is null then first else cron._parse_number(part[4], low, names) end;
      -- a step needs a range: "1/20" is refused
      if part[3] is null and part[5] is not null then
        return null;
      end if;
    end if;
    step := case when part[5] is null then 1 else cron._parse_number(part[6], 0, '{}') end;
    if first is null or last is null or step is null then
      return null;
    end if;
    if first not between low and high or last not between low and high or step not between 1 and high then
      return null;
    end if;
    numbers := numbers || case
      when first <= last then array(select n from pg_catalog.generate_series(first, last, step) as n)
      when step > 1 or (first - low) / 8 = (last - low) / 8 then '{}'
      else array(
        select n from pg_catalog.generate_series(low, high) as n
        where (n >= first and (n - low) / 8 = (first - low) / 8) or (n <= last and (n - low) / 8 = (last - low) / 8)
      )
    end;
    exit when part[7] is null;
    rest := pg_catalog.regexp_replace(rest, '^[^,]*,', '');
  end loop;
  return array(select distinct n from pg_catalog.unnest(numbers) as n order by n);
end;
$$;

create function cron._parse_number(word text, low int, names text[]) returns int
language sql
immutable
set search_path = ''
as $$
  select case
    when pg_catalog.array_position(names, pg_catalog.lower(word)) is not null
      then pg_catalog.array_position(names, pg_catalog.lower(word)) - 1 + low
    when word ~ '^[0-9]+$' then least(word::numeric, 1000000)::int
  end;
$$;

-- A schedule as its sets of minutes, hours, days of month, months and days of week, or {"seconds": n}, or
-- {"reboot": true}; null when it is invalid. What follows the fifth field is ignored, so a line of six fields is
-- accepted and its first field is still minutes.
create function cron._parse_schedule(schedule text) returns jsonb
language plpgsql
immutable
strict
set search_path = ''
as $$
declare
  every_hour constant int[] := cron._parse_list('*', 0, 23);
  every_day constant int[] := cron._parse_list('*', 1, 31);
  every_month constant int[] := cron._parse_list('*', 1, 12);
  every_weekday constant int[] := cron._parse_list('*', 0, 7);
  line text := pg_catalog.regexp_replace(schedule, '^([ \t]*(#[^\n]*)?\n)*[ \t]*', '');
  field text[];
  minutes int[] := '{0}';
  hours int[] := '{0}';
  days int[] := every_day;
  months int[] := every_month;
  weekdays int[] := every_weekday;
  wild_time boolean := false;
  wild_day boolean := true;
  last_day boolean := false;
  seconds text;
begin
  if pg_catalog.octet_length(schedule) >= 1000 then
    return null;
  end if;

  if pg_catalog.left(line, 1) = '@' then
    case pg_catalog.substring(line, '^@([^ \t\n]*)')
      when 'reboot', 'restart' then
        return '{"reboot": true}';
      when 'yearly', 'annually' then
        -- the real parser sets month 0 here, which does not exist: accepted, and never due
        days := '{1}';
        months := '{}';
      when 'monthly' then
        days := '{1}';
      when 'weekly' then
        weekdays := '{0,7}';
      when 'daily', 'midnight' then
        wild_day := false;
      when 'hourly' then
        hours := every_hour;
        wild_time := true;
        wild_day := false;
      else
        return null;
    end case;
  else
    seconds := pg_catalog.substring(pg_catalog.lower(schedule), '^\s*\+?([0-9]{1,9})\s*second(?:s\s*)?$');
    if seconds is not null then
      return case when seconds::int between 1 and 59 then pg_catalog.jsonb_build_object('seconds', seconds::int) end;
    end if;

    field := pg_catalog.regexp_match(
      line, '^([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)'
    );
    if field is null then
      return null;
    end if;
    last_day := field[3] = '$';
    minutes := cron._parse_list(field[1], 0, 59);
    hours := cron._parse_list(field[2], 0, 23);
    days := case when last_day then '{}' else cron._parse_list(field[3], 1, 31) end;
    months := cron._parse_list(
      field[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'
    );
    weekdays := cron._parse_list(field[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
    if minutes is null or hours is null or days is null or months is null or weekdays is null then
      return null;
    end if;
    wild_time := field[1] like '*%' or field[2] like '*%';
    wild_day := field[3] like '*%' or field[5] like '*%';
    if weekdays && '{0,7}' then
      weekdays := weekdays || '{0,7}'::int[];
    end if;
  end if;

  return pg_catalog.jsonb_build_object(
    'minutes', pg_catalog.to_jsonb(minutes),
    'hours', pg_catalog.to_jsonb(hours),
    'days', pg_catalog.to_jsonb(days),
    'months', pg_catalog.to_jsonb(months),
    'weekdays', pg_catalog.to_jsonb(weekdays),
    'wild_time', wild_time,
    'wild_day', wild_day,
    'last_day', last_day
  );
end;
$$;

-- cron.job belongs to the superuser and nobody else writes to it. A call goes through this view: its first trigger
-- runs as the caller and notes who that is, which a caller cannot forge; its second runs as the owner and acts.
create view cron._call as
select
  null::text as action, null::name as caller, null::bigint as jobid, null::text as jobname, null::text as schedule,
  null::text as command, null::text as database, null::text as username, null::boolean as active
where false;
grant insert, select on cron._call to public;

create function cron._note_caller() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.caller := current_user;
  return new;
end;
$$;

create function cron._act() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  is_superuser constant boolean := (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = new.caller);
  runs_as text := new.caller;
  job_database text := new.database;
  role_may_login boolean;
  owner text;
begin
  if new.schedule is not null and cron._parse_schedule(new.schedule) is null then
    raise exception 'invalid schedule: %', new.schedule
      using
        errcode = 'invalid_parameter_value',
        hint = 'Use cron format (e.g. 5 4 * * *), or interval format ''[1-59] seconds''';
  end if;

  if new.username is not null then
    if not is_superuser then
      raise exception using
        errcode = 'internal_error',
        message = case new.action
          when 'alter' then 'must be superuser to alter username'
          else 'must be superuser to create a job for another role'
        end;
    end if;
    select r.rolcanlogin into role_may_login from pg_catalog.pg_roles r where r.rolname = new.username;
    if role_may_login is null then
      raise exception 'role "%" does not exist', new.username using errcode = 'internal_error';
    elsif not role_may_login then
      raise exception 'role "%" can not log in', new.username
        using errcode = 'internal_error', detail = 'Jobs may only be run by roles that have the LOGIN attribute.';
    end if;
    runs_as := new.username;
  end if;

  if new.action = 'schedule' and job_database is null then
    job_database := coalesce(
      nullif(pg_catalog.current_setting('cron.database_name', true), ''), pg_catalog.current_database()
    );
  end if;
  if job_database is not null and not pg_catalog.has_database_privilege(runs_as, job_database, 'connect') then
    raise exception 'User % does not have CONNECT privilege on %', runs_as, job_database
      using errcode = 'internal_error';
  end if;

  case new.action
    when 'schedule' then
      -- an unnamed job never conflicts, because null equals nothing
      insert into cron.job (schedule, command, nodename, nodeport, database, username, active, jobname)
      values (
        new.schedule, new.command, coalesce(nullif(pg_catalog.current_setting('cron.host', true), ''), 'localhost'),
        pg_catalog.current_setting('port')::int, job_database, runs_as, new.active, new.jobname
      )
      on conflict on constraint jobname_username_uniq do update set
        schedule = excluded.schedule,
        command = excluded.command,
        database = excluded.database
      returning cron.job.jobid into new.jobid;

    when 'alter' then
      if coalesce(new.schedule, new.command, new.database, new.username, new.active::text) is null then
        raise exception 'no updates specified'
          using
            errcode = 'internal_error',
            hint = 'You must specify at least one job attribute to change when calling alter_job';
      end if;
      update cron.job j set
        schedule = coalesce(new.schedule, j.schedule),
        command = coalesce(new.command, j.command),
        database = coalesce(new.database, j.database),
        username = coalesce(new.username, j.username),
        active = coalesce(new.active, j.active)
      where j.jobid = new.jobid and (is_superuser or j.username = new.caller);
      if not found then
        raise exception 'Job % does not exist or you don''t own it', new.jobid using errcode = 'internal_error';
      end if;

    when 'unschedule' then
      if new.jobid is not null then
        select j.username into owner from cron.job j where j.jobid = new.jobid;
        if owner is null then
          raise exception 'could not find valid entry for job %', new.jobid using errcode = 'internal_error';
        end if;
      else
        select j.jobid, j.username into new.jobid, owner
        from cron.job j
        where j.jobname = new.jobname and j.username = new.caller;
        if owner is null then
          raise exception 'could not find valid entry for job ''%''', new.jobname using errcode = 'internal_error';
        end if;
      end if;
      if owner <> new.caller and not pg_catalog.has_table_privilege(new.caller, 'cron.job', 'delete') then
        raise exception 'permission denied for table job' using errcode = 'insufficient_privilege';
      end if;
      delete from cron.job j where j.jobid = new.jobid;
  end case;
  return new;
end;
$$;

create trigger a_note_caller instead of insert on cron._call
for each row execute function cron._note_caller();
create trigger b_act instead of insert on cron._call
for each row execute function cron._act();

create function cron.schedule(schedule text, command text) returns bigint
language plpgsql
strict
set search_path = ''
as $$
#variable_conflict use_variable
declare
  id bigint;
begin
  insert into cron._call as c (action, schedule, command, active)
  values ('schedule', schedule, command, true)
  returning c.jobid into id;
  return id;
end;
$$;
comment on function cron.schedule(text, text) is 'schedule a pg_cron job';

create function cron.schedule(job_name text, schedule text, command text) returns bigint
language plpgsql
set search_path = ''
as $$
begin
  return cron._schedule_named(job_name, schedule, command, null, null, true);
end;
$$;
comment on function cron.schedule(text, text, text) is 'schedule a pg_cron job';

create function cron.schedule_in_database(
  job_name text, schedule text, command text, database text, username text default null, active boolean default true
) returns bigint
language plpgsql
set search_path = ''
as $$
begin
  return cron._schedule_named(job_name, schedule, command, database, username, coalesce(active, true));
end;
$$;
comment on function cron.schedule_in_database(text, text, text, text, text, boolean) is 'schedule a pg_cron job';

create function cron._schedule_named(
  job_name text, schedule text, command text, database text, username text, active boolean
) returns bigint
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  id bigint;
  missing constant text := case
    when job_name is null then 'job_name' when schedule is null then 'schedule' when command is null then 'command'
  end;
begin
  if missing is not null then
    raise exception '% can not be NULL', missing using errcode = 'internal_error';
  end if;
  insert into cron._call as c (action, jobname, schedule, command, database, username, active)
  values ('schedule', job_name, schedule, command, database, username, active)
  returning c.jobid into id;
  return id;
end;
$$;

create function cron.alter_job(
  job_id bigint, schedule text default null, command text default null, database text default null,
  username text default null, active boolean default null
) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
begin
  if job_id is null then
    raise exception 'job_id can not be NULL' using errcode = 'internal_error';
  end if;
  insert into cron._call (action, jobid, schedule, command, database, username, active)
  values ('alter', job_id, schedule, command, database, username, active);
end;
$$;
comment on function cron.alter_job(bigint, text, text, text, text, boolean)
is 'Alter the job identified by job_id. Any option left as NULL will not be modified.';

create function cron.unschedule(job_id bigint) returns boolean
language plpgsql
strict
set search_path = ''
as $$
begin
  insert into cron._call (action, jobid) values ('unschedule', job_id);
  return true;
end;
$$;
comment on function cron.unschedule(bigint) is 'unschedule a pg_cron job';

create function cron.unschedule(job_name text) returns boolean
language plpgsql
strict
set search_path = ''
as $$
begin
  insert into cron._call (action, jobname) values ('unschedule', job_name);
  return true;
end;
$$;
comment on function cron.unschedule(text) is 'unschedule a pg_cron job';

-- An administrator decides who may use these two.
revoke all on function cron.alter_job(bigint, text, text, text, text, boolean) from public;
revoke all on function cron.schedule_in_database(text, text, text, text, text, boolean) from public;
revoke all on function cron._act() from public;

-- What the platform grants after it has created the extension.
do $$
begin
  if exists (select from pg_roles where rolname = 'postgres' and not rolsuper) then
    grant usage on schema cron to postgres with grant option;
    grant all on all functions in schema cron to postgres with grant option;
    grant all on cron.job_run_details to postgres with grant option;
    grant select on cron.job to postgres with grant option;
  end if;
end;
$$;

select pg_catalog.pg_notify('pg_cron', 'created');
