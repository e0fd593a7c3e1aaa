-- The review queue: a person decides, once.
begin;
select plan(20);
select tests.two_tenants();
select tests.task_of('pizza', 'like ' || n, 'instagram_like') from generate_series(1, 3) n;
select tests.claim_task('pizza', 'pizza participant', 'like ' || n) from generate_series(1, 3) n;
create function pg_temp.id_of(p_task text) returns uuid language sql as $$ select id from public.completions where task_id = tests.id(p_task) $$;
create function pg_temp.review(p_who text, p_call text, p_task text, p_note text default null) returns text language sql as $$
  select tests.error_of(p_who, format('select public.%s(%L, %L, %L)', p_call, tests.id('pizza'), pg_temp.id_of(p_task), p_note))
$$;

select is(tests.rows(who, 'select from public.reviews'), rows, format('%s sees %s claims to review', who, rows))
from (values ('pizza viewer', '3'), ('pizza participant', '0'), ('gym owner', '0')) as e (who, rows);
select matches(pg_temp.review('pizza viewer', 'approve_completion', 'like 1'), '^42501', 'a viewer does not decide');
select matches(pg_temp.review('pizza participant', 'approve_completion', 'like 1'), '^42501', 'nor does the participant');
select is(pg_temp.review('gym owner', 'approve_completion', 'like 1'), pg_temp.review('gym owner', 'approve_completion', 'gym task'), 'another tenant''s owner learns nothing');
select is(pg_temp.review('pizza member', 'approve_completion', 'like 1', 'screenshot'), null, 'a member approves');
select is((select concat_ws(' ', status, method, reason) from public.completions where id = pg_temp.id_of('like 1')), 'verified manual screenshot', 'then it is verified, by a person');
select is((select sum(spins) from public.spin_ledger where completion_id = pg_temp.id_of('like 1')), 3::bigint, 'and rewarded');
select is(pg_temp.review('pizza admin', 'reject_completion', 'like 1', 'no'), 'PT409: This claim is verified and does not wait for a review.', 'whoever comes second is told that it is decided');
select is((select sum(spins) from public.spin_ledger where completion_id = pg_temp.id_of('like 1')), 3::bigint, 'and changes nothing');
select matches(pg_temp.review('pizza member', 'reject_completion', 'like 2', ' '), '^22023', 'a rejection says why');
select is(pg_temp.review('pizza member', 'reject_completion', 'like 2', 'not there'), null, 'with a reason it is rejected');
select is((select concat_ws(' ', status, method, reason) from public.completions where id = pg_temp.id_of('like 2')), 'failed manual not there', 'and the participant reads the reason');
select matches(pg_temp.review('pizza member', 'approve_completion', 'pizza task'), '^PT409', 'what does not wait for a review is not decided by one');
select is((select count(*) from public.audit_log where tenant_id = tests.id('pizza') and action like 'completion.%' and actor_id = tests.id('pizza member')), 2::bigint, 'both are in the audit log');
-- The participant becomes a member: nobody decides the own claim.
insert into public.memberships (tenant_id, user_id, role) values (tests.id('pizza'), tests.id('pizza participant'), 'admin');
select is(pg_temp.review('pizza participant', c, 'like 3', 'me'), '42501: This claim is your own: somebody else decides it.', c || ' refuses the own claim')
from unnest(array['approve_completion', 'reject_completion']) c;
select is(pg_temp.review('pizza member', 'approve_completion', 'like 3'), null, 'somebody else decides it');
select throws_ok('update public.completion_decisions set reason = ''x''', '42501', null, 'decisions are append-only');

select * from finish();
rollback;
