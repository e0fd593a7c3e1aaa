-- The number of drains follows the backlog, also where it is spread over many tenants with little each.
begin;
select plan(1);
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
update jobs.definitions set paused = true;
select tests.job('fry', '{"batch_size": 50, "max_drains": 4}');
insert into public.tenants (slug, name) select format('small-%s', n), 'Small' from generate_series(1, 300) n;
select jobs.enqueue_many('fry', array(select t.id from public.tenants t where t.slug like 'small-%' order by t.id));
select is((tests.tick() ->> 'rung')::int, 4, '300 tenants with one item each are six batches: as many drains as the job may have');
select * from finish();
rollback;
