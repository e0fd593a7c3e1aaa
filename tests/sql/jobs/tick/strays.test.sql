-- An enqueue that was still open while its tenant was deleted leaves work that nobody will ever do: the hourly clean-up takes it away.
begin;
select plan(5);
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
select * from finish();
rollback;
