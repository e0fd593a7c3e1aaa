-- Who answers a doorbell is told of which run its log should speak.
begin;
select plan(3);
select tests.tenant('pizza', 'pro');
select tests.job('bake');
select tests.job('daily', '{"schedule": "0 0 1 1 *", "scope": "platform"}');
create function pg_temp.answer(p_job text) returns jsonb language plpgsql as $$
declare
  v_ticket uuid;
begin
  insert into jobs.drains (job, rung_at) values (p_job, clock_timestamp()) returning drain_id into v_ticket;
  return jobs.answer_doorbell(v_ticket);
end
$$;
create table pg_temp.bake as select pg_temp.answer('bake') as a;
select is((a ->> 'run_id')::bigint, (select run_id from jobs.open_runs where job = 'bake'), 'of a queue: its present stretch of work') from pg_temp.bake;
select is(a ->> 'run_id', null, 'of a schedule without an open slot: none') from pg_temp.answer('daily') a;
create table pg_temp.run as select jobs.start_slot(d, now()) as run_id from jobs.definitions d where d.job = 'daily';
select is((a ->> 'run_id')::bigint, run_id, 'else that of its latest slot') from pg_temp.answer('daily') a, pg_temp.run;

select * from finish();
rollback;
