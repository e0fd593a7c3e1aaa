-- A job with a cadence serves a lane once per cadence of its tenant's plan: premium every minute, others every five.
begin;
select plan(15);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'free');
select tests.job('bake', '{"has_cadence": true}');

select tests.enqueue('bake', 'pizza');
select tests.enqueue('bake', 'gym');
select is(tests.served(tests.claim('bake')), 'gym 1, pizza 1', 'the first work is served at once');
select tests.enqueue('bake', 'pizza');
select tests.enqueue('bake', 'gym');
select is(tests.claim('bake'), null, 'what comes right after waits');
select is(tests.lane('bake', 'pizza'), 'asleep: cadence, wakes', 'the lane sleeps for its cadence');
select ok(tests.wakes_in('bake', 'pizza') between 55 and 60, 'a minute on the Pro plan');
select ok(tests.wakes_in('bake', 'gym') between 295 and 300, 'five on the Free plan');
select tests.pass('61 seconds');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'after a minute the Pro plan is served');
select tests.pass('240 seconds');
select is(tests.served(tests.claim('bake')), 'gym 1', 'after five the Free plan is');

-- A change of plan is felt at once.
select tests.enqueue('bake', 'gym');
select is(tests.lane('bake', 'gym'), 'asleep: cadence, wakes', 'the Free plan waits again');
select jobs.set_plan(tests.id('gym'), 'pro');
select ok(tests.wakes_in('bake', 'gym') <= 60, 'on a faster plan it does not wait for the old one');

-- A run by hand does not wait.
select tests.enqueue('bake', 'pizza');
select tests.claim('bake');
select tests.enqueue('bake', 'pizza', 2);
select is(tests.claim('bake'), null, 'the cadence holds');
create table pg_temp.run as select jobs.run_now('bake') as r;
select is(tests.served(jobs.next_batch((r ->> 'drain_id')::uuid, 'bake')::jsonb), 'gym 1, pizza 2', 'a run by hand does not wait for it') from pg_temp.run;
-- The plan's number is what counts, for those who rest now, too.
select tests.enqueue('bake', 'pizza');
select is(tests.claim('bake'), null, 'the cadence holds again');
update public.plans set cadence_seconds = 10 where plan_id = 'pro';
select ok(tests.wakes_in('bake', 'pizza') between 1 and 10, 'a shorter cadence of the plan is felt at once');
update public.plans set cadence_seconds = 600 where plan_id = 'pro';
select ok(tests.wakes_in('bake', 'pizza') <= 10, 'a longer one from the next time on');
delete from jobs.items where job = 'bake';
update public.plans set cadence_seconds = 0 where plan_id = 'pro';
select tests.pass('61 seconds');
select tests.enqueue('bake', 'pizza');
select tests.claim('bake');
select tests.enqueue('bake', 'pizza');
select is(tests.served(tests.claim('bake')), 'pizza 1', 'a plan without a cadence is served as work comes');

select * from finish();
rollback;
