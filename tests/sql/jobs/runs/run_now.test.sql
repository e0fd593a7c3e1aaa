-- A job by hand, and the one shape in which it answers.
begin;
select plan(17);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'pro');
select tests.job('bake', '{"max_attempts": 1}');

select throws_ok($$ select jobs.run_now('fry') $$, 'P0002', 'There is no job "fry".', 'a job that does not exist is an error');
update jobs.definitions set paused = true where job = 'bake';
select throws_ok($$ select jobs.run_now('bake') $$, '55000', null, 'so is one that is paused');
update jobs.definitions set paused = false where job = 'bake';

create table pg_temp.empty as select jobs.run_now('bake') as r;
select is(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb, null, 'without work there is nothing to do') from pg_temp.empty;
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.empty;
select is(jobs.run_result((r ->> 'run_id')::bigint) - 'timestamp', '{"message": "Nothing to do.", "results": {"errors": [], "processed": 0}}', 'which is what it says') from pg_temp.empty;

select tests.enqueue('bake', 'pizza', 2);
select tests.enqueue('bake', 'gym', 1);
create table pg_temp.run as select jobs.run_now('bake') as r;
create table pg_temp.batch as select jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb as b from pg_temp.run;
select is(jobs.run_result((r ->> 'run_id')::bigint) ->> 'message', 'Still running.', 'before it ends it says so') from pg_temp.run;
select jobs.close_batch((b ->> 'batch_id')::bigint, (select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', case slug when 'gym' then 'refused' else 'done' end, 'error', case slug when 'gym' then 'closed' end))
  from tests.items_of(b) i)) from pg_temp.batch;
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.run;
create table pg_temp.result as select jobs.run_result((r ->> 'run_id')::bigint) as x from pg_temp.run;
select bag_eq($$ select jsonb_object_keys(x) from pg_temp.result $$, array['message', 'results', 'timestamp'], 'the answer has one shape');
select is(x ->> 'message', '2 done, 1 failed.', 'it counts') from pg_temp.result;
select is(x -> 'results' -> 'processed', '2'::jsonb, 'what was done') from pg_temp.result;
select is(x -> 'results' -> 'errors' -> 0 ->> 'error', 'closed', 'and says what went wrong') from pg_temp.result;
select is((select status::text from jobs.runs, pg_temp.run where run_id = (r ->> 'run_id')::bigint), 'warning', 'a run in which something failed is a warning');
select set_eq($$ select t.slug, rt.processed, rt.failed from jobs.run_tenants rt join public.tenants t on t.id = rt.tenant_id, pg_temp.run where rt.run_id = (r ->> 'run_id')::bigint $$,
  $$ values ('pizza', 2::bigint, 0::bigint), ('gym', 0, 1) $$, 'it is counted tenant by tenant');
select is((select count(*) from public.audit_log where action = 'job.run_now' and at = now()), 2::bigint, 'the audit log knows who ran it');

select tests.enqueue('bake', 'gym', 1);
create table pg_temp.bad as select jobs.run_now('bake') as r;
select tests.close(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb, '{"outcome": "refused", "error": "closed"}') from pg_temp.bad;
select jobs.end_drain((r ->> 'drain_id')::uuid) from pg_temp.bad;
select is((select status::text from jobs.runs, pg_temp.bad where run_id = (r ->> 'run_id')::bigint), 'error', 'a run in which all failed is an error');

select isnt_empty($$ select from jsonb_array_elements(jobs.list()) j where j ->> 'job' = 'bake' and j -> 'last_run' ->> 'trigger' = 'manual' $$, 'the list shows the last run');
select is(jobs.run_result(-1), null, 'a run that nobody knows has no result');

select jobs.stop_all(true);
select throws_ok($$ select jobs.run_now('bake') $$, '55000', null, 'while all is stopped nothing is started by hand, either');
select jobs.stop_all(false);
select lives_ok($$ select jobs.run_now('bake') $$, 'afterwards it is');

select * from finish();
rollback;
