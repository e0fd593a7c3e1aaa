-- A lane is awake while it has work that may be served; otherwise it sleeps, says why, and knows what wakes it.
begin;
select plan(22);
select tests.tenant('pizza');
select tests.job('bake', '{"batch_size": 4, "quantum": 2, "backoff_seconds": 10}');

select tests.enqueue('bake', 'pizza', 6);
create table pg_temp.batches as select tests.claim('bake') as b;
select is(tests.served(b), 'pizza 4', 'a batch takes what it may') from pg_temp.batches;
select is(tests.lane('bake', 'pizza'), 'awake', 'with work left its lane is awake');
insert into pg_temp.batches select tests.claim('bake');
select is(tests.lane('bake', 'pizza'), 'asleep: idle', 'with nothing left it sleeps, until work arrives');
select is(tests.claim('bake'), null, 'and there is no batch');
select tests.enqueue('bake', 'pizza');
select is(tests.lane('bake', 'pizza'), 'asleep: waiting, wakes', 'new work wakes it');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'and is served at once');
select is(tests.lane('bake', 'pizza'), 'asleep: idle', 'then it sleeps again');

select tests.close(b, '{"outcome": "snooze", "seconds": 30, "reason": "not found yet"}') from pg_temp.batches;
select is(tests.lane('bake', 'pizza'), 'asleep: waiting, wakes', 'items that come back wake it');
select ok(tests.wakes_in('bake', 'pizza') between 28 and 30, 'when the first of them is due');
select is(tests.claim('bake'), null, 'and no earlier');
select tests.pass('31 seconds');
select is(tests.served(tests.claim('bake')), 'pizza 4', 'then they are served');
select is(tests.served(tests.claim('bake')), 'pizza 2', 'all of them');

select tests.tenant('gym');
select tests.enqueue('bake', 'gym', 1);
select tests.close(tests.claim('bake'), '{"outcome": "retry", "error": "no answer", "after_seconds": 60}');
select is(tests.lane('bake', 'gym'), 'asleep: backoff, wakes', 'what is tried again sleeps for the backoff');
select tests.pass('61 seconds');
select is(tests.served(tests.claim('bake')), 'gym 1', 'and then runs');

-- A tenant that is not active is not served; nothing of it is lost.
select tests.tenant('salon');
select tests.enqueue('bake', 'salon', 2);
update public.tenants set status = 'suspended' where slug = 'salon';
select is(tests.claim('bake'), null, 'a suspended tenant is not served');
select is(tests.lane('bake', 'salon'), 'asleep: paused', 'its lane sleeps');
select tests.enqueue('bake', 'salon', 1);
select is(tests.claim('bake'), null, 'whatever is added');
update public.tenants set status = 'active' where slug = 'salon';
select is(tests.served(tests.claim('bake')), 'salon 3', 'once it is active again all its work is served');

-- Different reasons at the same time: the first item that is due decides.
select tests.tenant('bar');
select jobs.enqueue('bake', tests.id('bar'), run_at => now() + interval '1 hour');
select tests.enqueue('bake', 'bar');
select is(tests.served(tests.claim('bake')), 'bar 1', 'what is due is served');
select is(tests.lane('bake', 'bar'), 'asleep: delay, wakes', 'then the lane sleeps until what is due later');
select ok(tests.wakes_in('bake', 'bar') between 3590 and 3600, 'until its time');
select is((select count(*) from jobs.lanes where job = 'bake' and awake), 0::bigint, 'nothing is awake without work');

select * from finish();
rollback;
