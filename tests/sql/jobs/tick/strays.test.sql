-- An enqueue that was still open while its tenant was deleted leaves work that nobody will ever do: the hourly clean-up takes it away.
begin;
select plan(8);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('bake');
select tests.enqueue('bake', slug, 2) from unnest(array['pizza', 'gym']) slug;
select jobs.enqueue('bake', tests.id('pizza'), dedupe_key => 'k');
create table pg_temp.kept as select * from jobs.items where tenant_id = tests.id('pizza');
create table pg_temp.key as select * from jobs.dedupe_keys;
create table pg_temp.gone as select tests.id('pizza') as id;
delete from public.tenants where slug = 'pizza';
-- As the late commit leaves it.
insert into jobs.lane_keys select id, 'bake' from pg_temp.gone;
insert into jobs.lanes (tenant_id, job, wake_at, reason) select id, 'bake', now(), 'waiting' from pg_temp.gone;
insert into jobs.items overriding system value select * from pg_temp.kept;
insert into jobs.dedupe_keys select * from pg_temp.key;
update public.tenants set status = 'suspended' where slug = 'gym';
select is(tests.claim('bake'), null, 'nothing of it is handed out');
select is((select string_agg(reason, ' ') from jobs.lanes where job = 'bake'), 'paused paused', 'its lane sleeps, and so does that of a tenant that is suspended');
select tests.tick();
update jobs.platform set cleaned_at = '-infinity';
select tests.tick();
select is((select count(*) from jobs.items i join pg_temp.gone g on g.id = i.tenant_id), 0::bigint, 'the clean-up takes the work away');
select is((select count(*) from jobs.dedupe_keys) + (select count(*) from jobs.lane_keys l join pg_temp.gone g on g.id = l.tenant_id), 0::bigint, 'with its lane and its keys');
select is((select count(*) from jobs.items where tenant_id = tests.id('gym')), 2::bigint, 'what waits for a tenant that is suspended stays');
-- Whatever part of it there is.
select tests.job('sell');
create table pg_temp.of_nobody as select gen_random_uuid() as without_lane, gen_random_uuid() as with_lane, gen_random_uuid() as only_lane;
insert into jobs.items (tenant_id, job, run_at, dedupe_key) select without_lane, 'sell', now(), 'k' from pg_temp.of_nobody;
insert into jobs.items (tenant_id, job, run_at) select with_lane, 'sell', now() from pg_temp.of_nobody;
insert into jobs.dedupe_keys (tenant_id, job, dedupe_key, item_id) select without_lane, 'sell', 'k', 1 from pg_temp.of_nobody;
select jobs.make_lanes('sell', array[with_lane, only_lane]) from pg_temp.of_nobody;
select tests.enqueue('sell', 'gym', 2);
select jobs.enqueue('sell', jobs.platform_id());
select jobs.forget_strays();
select is((select string_agg(coalesce(t.slug, 'the platform'), ' ' order by i.item_id) from jobs.items i left join public.tenants t on t.id = i.tenant_id where i.job = 'sell'),
  'gym gym the platform', 'items of nobody are found, the others stay');
select is((select count(*) from jobs.lane_keys where job = 'sell'), 2::bigint, 'so are lanes of nobody');
select is((select count(*) from jobs.dedupe_keys where job = 'sell'), 0::bigint, 'and their dedupe keys');

select * from finish();
rollback;
