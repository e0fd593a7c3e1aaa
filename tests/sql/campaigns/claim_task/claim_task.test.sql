begin;
select plan(19);
select tests.two_tenants();
select tests.task('pizza', 'pizza campaign', 'second task');
select tests.campaign('pizza', 'pizza over', 'ended');
select tests.task('pizza', 'pizza over', 'late task');

create function pg_temp.claim_as(p_who text, p_slug text, p_task text) returns text language sql as $$
  select tests.error_of(p_who, format('select public.claim_task(%L, %L)', tests.id(p_slug), tests.id(p_task)))
$$;
create function pg_temp.items() returns bigint language sql as $$
  select count(*) from jobs.items i where i.job = 'verify-social-tasks' and i.tenant_id = tests.id('pizza')
$$;

select is(pg_temp.items(), 1::bigint, 'the first claim has its item');
select is(pg_temp.claim_as('pizza participant', 'pizza', 'second task'), null, 'a participant claims a task');
select is((select count(*) from public.completions c join jobs.items i on i.tenant_id = c.tenant_id and i.subject_id = c.id
  where c.task_id = tests.id('second task') and c.status = 'pending'), 1::bigint, 'the completion and its item are written together');
select is((select round(extract(epoch from i.run_at - now())) from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('second task')),
  (select start_delay_seconds::numeric from jobs.definitions where job = 'verify-social-tasks'), 'it is due when the job''s start delay is over');
select is((select c.deadline - c.claimed_at from public.completions c where c.task_id = tests.id('second task')), interval '24 hours',
  'the deadline is the task''s');
select matches((select code from public.completions c where c.task_id = tests.id('second task')), '^OC-[0-9A-F]{8}$', 'the code fits into a comment');

select is(pg_temp.claim_as('pizza participant', 'pizza', 'second task'), '23505: You have claimed this task already.', 'a second claim is refused in clear words');
select is(pg_temp.items(), 2::bigint, 'and makes no second item');
select is((select count(*) from public.completions where task_id = tests.id('second task')), 1::bigint, 'nor a second completion');

-- Whoever may not claim learns nothing.
select matches(pg_temp.claim_as('gym participant', 'pizza', 'second task'), '^PT404', 'who has not joined cannot claim');
select is(pg_temp.claim_as('gym participant', 'pizza', 'second task'), pg_temp.claim_as('gym participant', 'pizza', 'no task'), 'and cannot tell a task from none');
select is(pg_temp.claim_as('pizza participant', 'gym', 'gym task'), pg_temp.claim_as('pizza participant', 'pizza', 'no task'), 'another tenant''s task is none');
select is(pg_temp.claim_as('pizza participant', 'pizza', 'gym task'), pg_temp.claim_as('pizza participant', 'pizza', 'no task'), 'whatever tenant it is claimed for');
select is(pg_temp.claim_as('pizza owner', 'pizza', 'second task'), pg_temp.claim_as('pizza participant', 'pizza', 'no task'), 'a member who is no participant cannot claim');
select is(pg_temp.claim_as('pizza participant', 'pizza', 'late task'), pg_temp.claim_as('pizza participant', 'pizza', 'no task'), 'a task of a campaign that has ended is none');
select matches(pg_temp.claim_as('anon', 'pizza', 'second task'), '^42501', 'anon is refused');
select is(tests.rows('pizza participant', format(
  'insert into public.completions (tenant_id, task_id, participant_id, code, deadline) values (%L, %L, %L, ''OC-1'', now() + interval ''1 day'')',
  tests.id('pizza'), tests.id('second task'), tests.id('pizza/pizza participant'))), '42501', 'nobody claims past the function');

-- A claim that is rolled back leaves no item.
savepoint before;
select tests.task('pizza', 'pizza campaign', 'third task');
select tests.claim_task('pizza', 'pizza participant', 'third task');
rollback to before;
select is(pg_temp.items(), 2::bigint, 'a claim that is rolled back leaves no item');

-- One participant's claim does not stop another's.
select tests.participant('pizza', 'stranger');
select is(pg_temp.claim_as('stranger', 'pizza', 'second task'), null, 'another participant claims the same task');

select * from finish();
rollback;
