-- The number of drains follows the backlog, also where all of it is one tenant's.
begin;
select plan(2);
select tests.tenant('pizza', 'enterprise');
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
select tests.job('fry', '{"batch_size": 10, "max_drains": 3}');
select tests.enqueue('fry', 'pizza', 5);
select is((tests.tick() ->> 'rung')::int, 1, 'half a batch of one tenant rings one doorbell');
select tests.enqueue('fry', 'pizza', 95);
select is((tests.tick() ->> 'rung')::int, 2, 'ten batches of one tenant ring for as many drains as the job may have');
select * from finish();
rollback;
