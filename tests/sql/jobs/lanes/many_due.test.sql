-- No lane that is due is forgotten: neither when more are due than one claim wakes, nor when one becomes visible after its time.
begin;
select plan(5);
select tests.job('bake', '{"batch_size": 1, "quantum": 1}');
insert into public.tenants (slug, name) select format('small-%s', n), 'Small' from generate_series(1, 1100) n;
select jobs.enqueue_many('bake', array(select t.id from public.tenants t where t.slug like 'small-%' order by t.id));
-- Longer than a claim looks back at first.
select tests.pass('6 seconds');

create function pg_temp.awake_or_served() returns bigint language sql as $$
  select count(*) from jobs.lanes l where l.job = 'bake' and l.reason is distinct from 'waiting'
$$;
select tests.claim('bake');
select is(pg_temp.awake_or_served(), 500::bigint, 'a claim wakes a bounded number of lanes');
select tests.claim('bake');
select tests.claim('bake');
select is(pg_temp.awake_or_served(), 1100::bigint, 'the next ones wake the rest, however long they have been due');

-- As an enqueue leaves it that commits two seconds after it set the time.
create table pg_temp.late as select l.tenant_id from jobs.lanes l where l.job = 'bake' and l.awake order by l.vtime, l.tenant_id desc limit 1;
update jobs.lanes l set awake = false, reason = 'waiting', wake_at = clock_timestamp() - interval '2 seconds'
where l.job = 'bake' and l.tenant_id = (select tenant_id from pg_temp.late);
select tests.pass('1 second');
select tests.claim('bake');
select ok((select l.awake from jobs.lanes l where l.job = 'bake' and l.tenant_id = (select tenant_id from pg_temp.late)),
  'a lane whose time was over before it could be seen is woken within a second, while others are served');

-- With nobody else awake it does not wait for that.
update jobs.lanes l set awake = false, reason = 'paused' where l.job = 'bake';
select is(tests.claim('bake'), null, 'nobody is awake');
update jobs.lanes l set reason = 'waiting', wake_at = clock_timestamp() - interval '2 seconds'
where l.job = 'bake' and l.tenant_id = (select tenant_id from pg_temp.late);
select is(jsonb_array_length(tests.claim('bake') -> 'tenants'), 1, 'with nobody else awake it is served at once');

select * from finish();
rollback;
