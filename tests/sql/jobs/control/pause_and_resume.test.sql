begin;
select plan(22);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('bake');
select tests.enqueue('bake', slug, 2) from unnest(array['pizza', 'gym']) slug;

-- A lane
create table pg_temp.batch as select tests.claim('bake', 1) as b;
select jobs.pause('bake', tests.id('pizza'));
select is(tests.served(tests.claim('bake')), case b -> 'tenants' -> 0 ->> 'slug' when 'gym' then 'gym 1' else 'gym 2' end, 'a tenant whose lane is paused is not served, the others are') from pg_temp.batch;
select is(tests.lane('bake', 'pizza'), 'asleep: paused', 'its lane says so');
select is((tests.close(b, '{"outcome": "done"}')) ->> 'closed', '1', 'what is out with a worker ends normally') from pg_temp.batch;
select tests.enqueue('bake', 'pizza');
select is(tests.claim('bake'), null, 'new work waits');
select tests.pass('1 day');
select is(tests.claim('bake'), null, 'for as long as it takes');
update public.tenants set status = 'suspended' where slug = 'pizza';
update public.tenants set status = 'active' where slug = 'pizza';
select is(tests.claim('bake'), null, 'whatever else happens to the tenant');
select jobs.resume('bake', tests.id('pizza'));
select is((select count(*) from tests.items_of(tests.claim('bake'))), (select 3 - count(*) from pg_temp.batch, tests.items_of(b) where slug = 'pizza'), 'afterwards all that waited is served');
select is((select string_agg(action, ' ' order by action) from public.audit_log where tenant_id = tests.id('pizza') and action like 'job.%'), 'job.paused job.resumed', 'the tenant''s audit log knows');

-- A lane that is not there yet
select jobs.pause('bake', tests.tenant('salon'));
select tests.enqueue('bake', 'salon');
select is(tests.claim('bake'), null, 'a lane can be paused before it has work');
select jobs.resume('bake', tests.id('salon'));
select is(tests.served(tests.claim('bake')), 'salon 1', 'and resumed');

-- A job
select tests.enqueue('bake', 'gym');
select jobs.pause('bake');
select is(tests.claim('bake'), null, 'a paused job serves nobody');
select jobs.resume('bake');
select is(tests.served(tests.claim('bake')), 'gym 1', 'until it is resumed');

select throws_ok($$ select jobs.pause('fry') $$, 'P0002', null, 'a job that does not exist is an error');
select throws_ok($$ select jobs.resume('fry') $$, 'P0002', null, 'to resume, too');
select lives_ok($$ select jobs.resume('bake', tests.id('gym')) $$, 'resuming what is not paused changes nothing');
select isnt(tests.lane('bake', 'gym'), 'awake', 'and wakes nothing');

select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', format('select jobs.pause(''bake'', %L)', tests.id('gym'))), '42501', 'no user pauses another tenant');
select is(tests.answer('pizza owner', 'select jobs.stop_all(true)'), '42501', 'or stops everything');
select is(tests.error_of('service_role', 'select jobs.pause(''bake'')'), null, 'service_role may');

select throws_ok($$ select jobs.pause('bake', gen_random_uuid()) $$, 'P0002', null, 'a tenant that does not exist has no lane to pause');
select throws_ok($$ select jobs.resume('bake', gen_random_uuid()) $$, 'P0002', null, 'nor one to resume');
select throws_ok(format('select jobs.resume(''fry'', %L)', tests.id('gym')), 'P0002', 'There is no job "fry".', 'nor has a job that does not exist');

select * from finish();
rollback;
