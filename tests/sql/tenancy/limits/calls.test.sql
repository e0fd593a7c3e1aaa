-- Which calls are limited, for whom, and that the platform itself is not.
begin;
select plan(19);
select tests.two_tenants();
select tests.campaign('gym', 'second campaign');
select tests.task('gym', 'second campaign', 'second task');
select tests.person('anna');
update private.call_limits set calls = 1;
delete from private.rate_windows;

create function pg_temp.twice(p_who text, p_call text) returns text language sql as $$
  select coalesce(tests.answer(p_who, 'select ''done'' from public.' || p_call), 'null') || ' ' || coalesce(tests.answer(p_who, 'select ''done'' from public.' || replace(p_call, 'first', 'second')), 'null')
$$;

select is(pg_temp.twice('anna', $$ create_tenant('A', 'first-bakery') $$), 'done PGRST', 'a user creates so many tenants');
select is(pg_temp.twice('stranger', $$ create_tenant('A', 'first-butcher') $$), 'done PGRST', 'each user for itself');
select is(pg_temp.twice('pizza owner', format($$ invite_member(%L, 'first@example.test') $$, tests.id('pizza'))), 'done PGRST', 'a tenant sends so many invitations');
select is(tests.answer('pizza admin', format($$ select public.invite_member(%L, 'third@example.test') $$, tests.id('pizza'))), 'PGRST', 'whoever of it does');
select is(tests.answer('gym owner', format($$ select 'done' from public.invite_member(%L, 'third@example.test') $$, tests.id('gym'))), 'done', 'each tenant for itself');
select is(tests.answer('gym member', format($$ select public.invite_member(%L, 'third@example.test') $$, tests.id('pizza'))), '42501', 'who may not call it uses nothing up');
select tests.acknowledge('gym', 'unofficial_gateway');
select is(pg_temp.twice('gym admin', format($$ set_credential(%L, 'whatsapp', 'waapi', '{"token": "first"}', '{"instance_id": "1"}') $$, tests.id('gym'))), 'done PGRST', 'a tenant stores so many credentials');
select is(pg_temp.twice('anna', format($$ join_campaign(%L, %L, 'Anna') $$, tests.id('gym'), tests.id('gym campaign'))), 'done PGRST', 'a user joins so many campaigns');
select is(pg_temp.twice('gym participant', format($$ claim_task(%L, md5('first task')::uuid) $$, tests.id('gym'))), 'PT404 done', 'a claim that fails is not counted')
from (select tests.task('gym', 'gym campaign', 'other task')) t;
select is(tests.answer('gym participant', format($$ select 'done' from public.claim_task(%L, %L) $$, tests.id('gym'), tests.id('other task'))), 'PGRST', 'a user claims so many tasks');
select is(pg_temp.twice('anna', $$ accept_invitation('first') $$), 'done PGRST', 'a user tries so many invitations, also wrong ones');

select is(tests.answer('service_role', format($$ select 'done' from public.set_credential(%L, 'whatsapp', 'waapi', '{"token": "x"}', '{"instance_id": "1"}') $$, tests.id('gym'))), 'done',
  'the platform is not limited');
select is(tests.answer('service_role', $$ select jobs.set_call_limit('create_tenant', 2, 3600) $$), '', 'the platform changes a limit');
select is(tests.answer('anna', $$ select 'done' from public.create_tenant('A', 'third-bakery') $$), 'done', 'and it holds at once');
select is(tests.answer('service_role', $$ select jobs.set_call_limit('create_tenants', 2, 3600) $$), 'P0002', 'a limit that does not exist is an error');
select is(tests.answer('pizza owner', $$ select jobs.set_call_limit('create_tenant', 1000, 1) $$), '42501', 'an owner changes none');
select is(tests.answer('pizza owner', $$ select private.take_rate('create_tenant/' || auth.uid(), 1000, 1) $$), '42501', 'nor uses up another''s');
select is(tests.answer(who, 'select count(*) from private.rate_windows'), '42501', who || ' does not read who called what') from unnest(array['pizza owner', 'service_role']) who;

select * from finish();
rollback;
