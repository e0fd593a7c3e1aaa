-- What pg_cron promises, on the stand-in and on the real extension alike. What a server's pg_cron is too old for is
-- skipped by its version.
begin;
select plan(79);

create role standin_alice login;
create role standin_bob login;
create role standin_nologin nologin;
grant usage on schema cron to standin_alice, standin_bob, standin_nologin;
do $$
begin
  if to_regnamespace('extensions') is not null then
    grant usage on schema extensions to standin_alice, standin_bob, standin_nologin;
  end if;
end;
$$;

-- the version of SQL objects; features of the library came with the same numbers
create function pg_temp.is_at_least(wanted text) returns boolean language sql as $$
  select string_to_array(split_part(extversion, '-', 1), '.')::int[] >= string_to_array(wanted, '.')::int[]
  from pg_extension where extname = 'pg_cron';
$$;
create function pg_temp.lives_since(wanted text, statement text, title text) returns text language plpgsql as $$
begin
  if pg_temp.is_at_least(wanted) then
    return lives_ok(statement, title);
  end if;
  return skip('needs pg_cron ' || wanted, 1);
end;
$$;

-- Shape
select columns_are(
  'cron', 'job',
  array['jobid', 'schedule', 'command', 'nodename', 'nodeport', 'database', 'username', 'active', 'jobname'],
  'cron.job has the columns of pg_cron'
);
select columns_are(
  'cron', 'job_run_details',
  array[
    'jobid', 'runid', 'job_pid', 'database', 'username', 'command', 'status', 'return_message', 'start_time',
    'end_time'
  ],
  'cron.job_run_details has the columns of pg_cron'
);
select is(
  pg_get_function_arguments('cron.schedule(text, text, text)'::regprocedure),
  'job_name text, schedule text, command text', 'schedule takes a name, a schedule and a command'
);
select is(
  pg_get_function_arguments('cron.schedule(text, text)'::regprocedure), 'schedule text, command text',
  'schedule takes a schedule and a command'
);
select is(
  pg_get_function_arguments('cron.alter_job(bigint, text, text, text, text, boolean)'::regprocedure),
  'job_id bigint, schedule text DEFAULT NULL::text, command text DEFAULT NULL::text, '
  'database text DEFAULT NULL::text, username text DEFAULT NULL::text, active boolean DEFAULT NULL::boolean',
  'alter_job has its argument names and defaults'
);
select is(
  pg_get_function_arguments('cron.schedule_in_database(text, text, text, text, text, boolean)'::regprocedure),
  'job_name text, schedule text, command text, database text, username text DEFAULT NULL::text, '
  'active boolean DEFAULT true',
  'schedule_in_database has its argument names and defaults'
);
select function_returns('cron', 'schedule', array['text', 'text', 'text'], 'bigint', 'schedule returns the job id');
select function_returns('cron', 'unschedule', array['bigint'], 'boolean', 'unschedule returns a boolean');

-- Scheduling
set local role standin_alice;
select ok(cron.schedule('standin-a', '*/5 * * * *', 'select 1') > 0, 'schedule answers with an id');
select results_eq(
  $$ select schedule, command, nodename, nodeport, database, username, active, jobname::text collate "default"
     from cron.job where jobname = 'standin-a' $$,
  $$ select '*/5 * * * *'::text, 'select 1'::text, 'localhost'::text, current_setting('port')::int,
       current_database()::text collate "default", 'standin_alice'::text, true, 'standin-a'::text $$,
  'a job belongs to its caller, in this database, and is active'
);
select is(
  cron.schedule('standin-a', '1 2 3 4 5', 'select 2'), (select jobid from cron.job where jobname = 'standin-a'),
  'the same name of the same user is the same job'
);
select results_eq(
  $$ select schedule, command from cron.job where jobname = 'standin-a' $$,
  $$ values ('1 2 3 4 5'::text, 'select 2'::text) $$,
  'scheduling again replaces schedule and command'
);
select isnt(
  cron.schedule('* * * * *', 'select 3'), cron.schedule('* * * * *', 'select 3'), 'unnamed jobs are never the same job'
);
select is(cron.schedule(null::text, 'select 1'), null, 'an unnamed job without a schedule is null and no job');
select throws_ok(
  $$ select cron.schedule(null, '* * * * *', 'select 1') $$, 'XX000', 'job_name can not be NULL', 'a name may not be null'
);
select throws_ok(
  $$ select cron.schedule('x', null, 'select 1') $$, 'XX000', 'schedule can not be NULL', 'a schedule may not be null'
);
select throws_ok(
  $$ select cron.schedule('x', '* * * * *', null) $$, 'XX000', 'command can not be NULL', 'a command may not be null'
);

-- Schedules
select lives_ok(format('select cron.schedule(%L, ''select 1'')', schedule), format('schedule %L is valid', schedule))
from unnest(array[
  '5 4 * * *', '*/15 0-6 1,15 jan-mar mon,WED', '* * * * 7', '@hourly', '@daily', '@midnight', '@weekly', '@monthly',
  '@reboot', '  0   0 * * *  ', '22-2 * * * *', '*/59 * * * *'
]) as schedule;
select lives_ok(
  $$ select cron.schedule('standin-six', '*/30 * * * * *', 'select 1') $$,
  'six fields are accepted, and the first is still minutes'
);
select throws_ok(
  format('select cron.schedule(%L, ''select 1'')', schedule), '22023', 'invalid schedule: ' || schedule,
  format('schedule %L is refused with its text', schedule)
)
from unnest(array[
  '', '* * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * * 13 *', '* * * * 8', '1/20 * * * *', '*/0 * * * *',
  '1,2,60 * * * *', '@never', '5 minutes', '0 seconds', '60 seconds', 'select 1', '1- * * * *'
]) as schedule;
select pg_temp.lives_since(
  '1.5', format('select cron.schedule(%L, ''select 1'')', schedule), format('schedule %L is valid', schedule)
)
from unnest(array['1 second', '59 seconds', ' 30 SECONDS ', '0 12 $ * *']) as schedule;

-- Ownership
set local role standin_bob;
select is_empty($$ select * from cron.job $$, 'nobody sees the jobs of others');
select ok(cron.schedule('standin-a', '* * * * *', 'select 9') > 0, 'two users may use one name');
select results_eq(
  $$ select username, command from cron.job $$, $$ values ('standin_bob'::text, 'select 9'::text) $$,
  'the owner sees the job'
);
reset role;
select set_config(
  'standin.job', (select jobid::text from cron.job where username = 'standin_alice' and jobname = 'standin-a'), true
);
select is(
  (select count(*) from cron.job where jobname = 'standin-a' and username like 'standin%'), 2::bigint,
  'the superuser sees all jobs'
);
set local role standin_bob;
select throws_ok(
  $$ select cron.unschedule(current_setting('standin.job')::bigint) $$, '42501', 'permission denied for table job',
  'nobody unschedules the job of another'
);
select throws_ok(
  $$ insert into cron.job (schedule, command) values ('* * * * *', 'select 1') $$, '42501', null,
  'jobs are made by functions only, not by insert'
);
select throws_ok(
  $$ select cron.alter_job(1, active := false) $$, '42501', 'permission denied for function alter_job',
  'alter_job is not for everybody'
);
select throws_ok(
  $$ select cron.schedule_in_database('x', '* * * * *', 'select 1', current_database()) $$, '42501',
  'permission denied for function schedule_in_database', 'schedule_in_database is not for everybody'
);
reset role;
grant execute on function cron.alter_job(bigint, text, text, text, text, boolean) to standin_alice, standin_bob;
grant execute on function cron.schedule_in_database(text, text, text, text, text, boolean) to standin_alice;

-- Altering
set local role standin_bob;
select throws_ok(
  $$ select cron.alter_job(current_setting('standin.job')::bigint, active := false) $$, 'XX000',
  format('Job %s does not exist or you don''t own it', current_setting('standin.job')),
  'nobody alters the job of another'
);
set local role standin_alice;
select lives_ok(
  $$ select cron.alter_job(
       current_setting('standin.job')::bigint, schedule := '9 9 * * *', command := 'select 7', active := false
     ) $$,
  'the owner alters the job'
);
select results_eq(
  $$ select schedule, command, active from cron.job where jobid = current_setting('standin.job')::bigint $$,
  $$ values ('9 9 * * *'::text, 'select 7'::text, false) $$,
  'alter_job changes what it is given'
);
select throws_ok(
  $$ select cron.alter_job(current_setting('standin.job')::bigint, schedule := 'x') $$, '22023', 'invalid schedule: x',
  'alter_job checks the schedule'
);
select throws_ok(
  $$ select cron.alter_job(current_setting('standin.job')::bigint, username := 'standin_bob') $$, 'XX000',
  'must be superuser to alter username', 'only a superuser gives a job to another'
);
select throws_ok(
  $$ select cron.schedule_in_database('x', '* * * * *', 'select 1', current_database(), 'standin_bob') $$, 'XX000',
  'must be superuser to create a job for another role', 'only a superuser makes a job for another'
);
select throws_ok(
  $$ select cron.schedule_in_database('x', '* * * * *', 'select 1', 'standin-no-such-database') $$, '3D000', null,
  'a job needs a database that exists'
);
select lives_ok(
  $$ select cron.schedule_in_database('standin-off', '* * * * *', 'select 1', current_database(), active := false) $$,
  'schedule_in_database makes a job'
);
select is(
  (select active from cron.job where jobname = 'standin-off'), false, 'schedule_in_database can make it inactive'
);
reset role;
select throws_ok(
  $$ select cron.schedule_in_database('x', '* * * * *', 'select 1', current_database(), 'standin_nologin') $$, 'XX000',
  'role "standin_nologin" can not log in', 'a job runs as a role that may log in'
);
select lives_ok(
  $$ select cron.schedule_in_database('standin-for-bob', '* * * * *', 'select 1', current_database(), 'standin_bob') $$,
  'a superuser makes a job for another'
);
select is(
  (select username from cron.job where jobname = 'standin-for-bob'), 'standin_bob', 'the job belongs to the other role'
);

-- Unscheduling
set local role standin_alice;
select throws_ok(
  $$ select cron.unschedule('standin-none') $$, 'XX000', 'could not find valid entry for job ''standin-none''',
  'unscheduling an unknown name is an error'
);
select throws_ok(
  $$ select cron.unschedule(-1) $$, 'XX000', 'could not find valid entry for job -1',
  'unscheduling an unknown id is an error'
);
select ok(cron.unschedule('standin-a'), 'the owner unschedules by name');
reset role;
select is(
  (select array_agg(username) from cron.job where jobname = 'standin-a'), array['standin_bob'],
  'unscheduling by name takes the caller''s own job'
);
set local role standin_bob;
select ok(
  cron.unschedule((select jobid from cron.job where jobname = 'standin-a')), 'the owner unschedules by id'
);
select is_empty($$ select * from cron.job where jobname = 'standin-a' $$, 'an unscheduled job is gone');

-- History
reset role;
insert into cron.job_run_details (jobid, username, command, status)
values (1, 'standin_alice', 'select 1', 'succeeded'), (2, 'standin_bob', 'select 2', 'failed');
set local role standin_bob;
select results_eq(
  $$ select jobid from cron.job_run_details $$, $$ values (2::bigint) $$, 'a user sees the history of the own jobs only'
);
select throws_ok(
  $$ update cron.job_run_details set status = 'succeeded' $$, '42501', null, 'nobody rewrites the history'
);
delete from cron.job_run_details;
reset role;
select results_eq(
  $$ select username from cron.job_run_details where username like 'standin%' $$, $$ values ('standin_alice'::text) $$,
  'a user deletes the history of the own jobs only'
);

select * from finish();
rollback;
