-- A sign-up is known to the business alone, which confirms the code that came with it.
begin;
select plan(12);
select tests.two_tenants();
select tests.task_of('pizza', 'sign up', 'link_sign_up');
select tests.task_of('pizza', 'visit', 'link_visit');
select tests.claim_task('pizza', 'pizza participant', t) from unnest(array['sign up', 'visit']) t;
create function pg_temp.code(p_task text) returns text language sql as $$ select code from public.completions where task_id = tests.id(p_task) $$;
create function pg_temp.confirm(p_who text, p_code text, p_slug text default 'pizza') returns text language sql as $$
  select tests.answer(p_who, format('select public.confirm_sign_up(%L, %L) ->> ''status''', tests.id(p_slug), p_code))
$$;

select is(pg_temp.confirm('pizza participant', pg_temp.code('sign up')), '42501', 'nobody confirms a sign-up of one''s own');
select is(pg_temp.confirm('pizza viewer', pg_temp.code('sign up')), '42501', 'nor does a viewer');
select is(pg_temp.confirm('gym owner', pg_temp.code('sign up')), '42501', 'nor another tenant''s owner');
select is(pg_temp.confirm('gym owner', pg_temp.code('sign up'), 'gym'), 'PT404', 'a code is confirmed at the tenant that gave it out');
select is(pg_temp.confirm('pizza member', 'OC-00000000'), 'PT404', 'a code that nobody has confirms nothing');
select is(pg_temp.confirm('pizza member', pg_temp.code('visit')), 'PT404', 'nor does the code of a claim of another kind');
select is((select count(*) from public.completions where id in (select id from public.completions where task_id in (tests.id('sign up'), tests.id('visit'))) and status = 'pending'), 2::bigint, 'all of that decided nothing');
select is(pg_temp.confirm('pizza member', ' ' || lower(pg_temp.code('sign up')) || ' '), 'verified', 'a member confirms it, as the code was typed');
select is((select concat_ws(' ', status, method) from public.completions where task_id = tests.id('sign up')), 'verified link', 'and the claim is verified by the link');
select is(pg_temp.confirm('pizza member', pg_temp.code('sign up')), 'verified', 'a second time is the same answer');
select is((select sum(spins) from public.spin_ledger l join public.completions c on c.id = l.completion_id where c.task_id = tests.id('sign up')), 3::bigint, 'and pays once');
select is((select status::text from public.completions where task_id = tests.id('visit')), 'pending', 'the other claim waits on');

select * from finish();
rollback;
