-- Our own redirect: /visit/<tenant>/<code>.
begin;
select plan(13);
select tests.two_tenants();
create table tests.handed (tenant_id uuid, entries jsonb);
grant all on tests.handed to public;
create or replace function private.record_signals(p_tenant_id uuid, p_signals jsonb) returns jsonb language sql set search_path = '' as $$
  insert into tests.handed values (p_tenant_id, p_signals);
  select '{"recorded": 1, "skipped": 0, "decided": 0}'::jsonb
$$;
insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id, url)
  values (tests.id('pizza'), tests.id('menu'), tests.id('pizza campaign'), 'link_visit', 'See the menu', null, 'https://pizza.example/menu?who={code}');
insert into public.completions (tenant_id, id, task_id, participant_id, code, deadline)
  values (tests.id('pizza'), tests.id('visit'), tests.id('menu'), tests.id('pizza/pizza participant'), 'OC-ABCD2345', now() + interval '1 day');

create function pg_temp.visit(p_tenant text, p_code text, p_counts boolean default true, p_who text default 'service_role') returns text language sql as $$
  select tests.answer(p_who, format('select jobs.record_visit(%L, %L, %L)', p_tenant, p_code, p_counts))
$$;
select is(pg_temp.visit('pizza', 'OC-ABCD2345'), 'https://pizza.example/menu?who=OC-ABCD2345', 'a visit leads to the task''s own url');
select is((select tenant_id || entries::text from tests.handed) like tests.id('pizza') || '%"kind": "visit"%', true, 'and is a signal of the tenant');
select is((select entries -> 0 ->> 'external_id' || ' ' || (entries -> 0 ->> 'target_id') from tests.handed), 'OC-ABCD2345 ' || tests.id('menu'), 'known by the code of the claim');
truncate tests.handed;
select is(pg_temp.visit(tests.id('pizza')::text, 'oc-abcd2345', false), 'https://pizza.example/menu?who=OC-ABCD2345', 'a preview sees where the link leads');
select is((select count(*) from tests.handed), 0::bigint, 'without being a visit');
select is(pg_temp.visit('pizza', 'OC-ABCD2346'), null, 'a code that nobody has leads nowhere');
select is(pg_temp.visit('gym', 'OC-ABCD2345'), null, 'nor does a code of another tenant');
select is(pg_temp.visit('nobody', 'OC-ABCD2345'), null, 'nor one of no tenant');
select is(pg_temp.visit('platform', 'OC-ABCD2345'), null, 'the platform has no links');
select is(pg_temp.visit('pizza', (select code from public.completions where task_id = tests.id('pizza task'))), null, 'the code of another kind of task leads nowhere');
update public.tenants set status = 'suspended' where slug = 'pizza';
select is(pg_temp.visit('pizza', 'OC-ABCD2345'), null, 'a tenant that is not served has no links');
select is((select count(*) from tests.handed), 0::bigint, 'none of these is a visit');
update public.tenants set status = 'active' where slug = 'pizza';
select is(pg_temp.visit('pizza', 'OC-ABCD2345', true, 'pizza owner'), '42501', 'who works for the tenant cannot make visits up');

select * from finish();
rollback;
