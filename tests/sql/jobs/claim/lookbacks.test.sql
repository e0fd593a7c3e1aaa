-- Who finds a lane empty looks no further back than where nothing was due when it was last found empty; what is brought from before that is
-- noted, and found.
begin;
select plan(20);
select tests.tenant('pizza', 'pro');
select tests.job('bake', '{"batch_size": 10}');
create function pg_temp.floor_is_known() returns boolean language plpgsql as $$
begin
  return (select l.floor_at > '-infinity' from jobs.lanes l where l.job = 'bake');
end
$$;
create function pg_temp.serve() returns text language plpgsql as $$
declare
  v_batch jsonb := tests.claim('bake');
begin
  perform tests.close(v_batch, '{"outcome": "done"}');
  return tests.served(v_batch);
end
$$;
create function pg_temp.notes() returns bigint language plpgsql as $$
begin
  return (select count(*) from jobs.lookbacks);
end
$$;

select tests.enqueue('bake', 'pizza');
select is(pg_temp.floor_is_known(), false, 'a new lane has no floor');
select is(pg_temp.serve(), 'pizza 1', 'it is served');
select is(pg_temp.serve(), 'nothing', 'and found empty');
select is(tests.lane('bake', 'pizza'), 'asleep: idle', 'so it sleeps');
select is(pg_temp.floor_is_known(), true, 'and has a floor');
select tests.enqueue('bake', 'pizza');
select is(pg_temp.notes(), 1::bigint, 'this transaction began before it, so what it brings is noted');
select is(pg_temp.serve() || ', ' || pg_temp.serve(), 'pizza 1, nothing', 'it is served');
select is(pg_temp.notes(), 0::bigint, 'the note goes when the lane was looked at as a whole');
select jobs.enqueue('bake', tests.id('pizza'), run_at => clock_timestamp() + interval '1 second');
select is(pg_temp.notes(), 0::bigint, 'what is due after the floor needs none');
delete from jobs.items where job = 'bake';

select jobs.enqueue('bake', tests.id('pizza'), run_at => '2020-01-01') from generate_series(1, 20);
select is(pg_temp.notes(), 1::bigint, 'many from before it need one note');
select pg_temp.serve(), pg_temp.serve(), pg_temp.serve();

-- While the lane is awake, with a watermark that is further on.
create function pg_temp.awake_with_one_behind() returns void language plpgsql as $$
begin
  update jobs.lanes l
  set awake = true, reason = null, wake_at = null, floor_at = clock_timestamp(), head_at = clock_timestamp(), head_id = 0, head_since = clock_timestamp()
  where l.job = 'bake';
  perform jobs.enqueue('bake', tests.id('pizza'));
end
$$;
select pg_temp.awake_with_one_behind();
select is(pg_temp.serve(), 'pizza 1', 'an item behind the watermark of a lane that is awake is found when nothing else is');
select is(pg_temp.serve() || ', ' || tests.lane('bake', 'pizza'), 'nothing, asleep: idle', 'then the lane sleeps');
select pg_temp.awake_with_one_behind();
delete from jobs.lookbacks;
select is(pg_temp.serve() || ', ' || tests.lane('bake', 'pizza'), 'nothing, asleep: idle', 'control: without the note it is not found');
update jobs.lanes set awake = true, reason = null, head_since = clock_timestamp() - interval '31 seconds' where job = 'bake';
select is(pg_temp.serve(), 'pizza 1', 'a floor is believed for 30 seconds, as the watermark is');

-- Items that somebody moves past the functions of the engine.
select jobs.enqueue('bake', tests.id('pizza'), run_at => clock_timestamp() + interval '1 hour');
select is(pg_temp.serve(), 'nothing', 'what is due in an hour waits');
update jobs.items set run_at = clock_timestamp() - interval '1 hour' where job = 'bake';
update jobs.lanes set wake_at = clock_timestamp() where job = 'bake';
select is(pg_temp.serve(), 'pizza 1', 'an item that is made due in the past, by hand, is found');

-- What comes back from a worker.
select tests.enqueue('bake', 'pizza');
create table pg_temp.batch as select tests.claim('bake') as b;
update jobs.lanes set floor_at = clock_timestamp() + interval '5 seconds' where job = 'bake';
delete from jobs.lookbacks;
select tests.close(b, '{"outcome": "throttled", "seconds": 0}') from pg_temp.batch;
select is(pg_temp.notes(), 1::bigint, 'what a provider did not take now is noted as well');
delete from jobs.items where job = 'bake';
delete from jobs.lookbacks;
update jobs.lanes set awake = true, reason = null, wake_at = null, not_before = '-infinity', floor_at = '-infinity' where job = 'bake';
select tests.enqueue('bake', 'pizza');
truncate pg_temp.batch;
insert into pg_temp.batch select tests.claim('bake');
update jobs.lanes set floor_at = clock_timestamp() + interval '5 seconds' where job = 'bake';
select tests.close(b, '{"outcome": "snooze", "seconds": 0}') from pg_temp.batch;
select is(pg_temp.notes(), 1::bigint, 'and what a worker gives back');

select jobs.follow_clock(clock_timestamp() - interval '1 hour');
select is((select min(run_at) from jobs.lookbacks), '-infinity', 'after the clock was set back all of each lane is looked at');
select jobs.forget_tenant(tests.id('pizza'));
select is(pg_temp.notes(), 0::bigint, 'the notes of a deleted tenant go with its lanes');
select * from finish();
rollback;
