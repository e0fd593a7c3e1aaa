begin;
select plan(8);
select tests.two_tenants();
select tests.task('pizza', 'pizza campaign', 'second task');
select tests.claim_task('pizza', 'pizza participant', 'second task');
update public.participants set instagram_username = 'some.one', facebook_user_id = '99' where tenant_id = tests.id('pizza');

create function pg_temp.load(p_slug text, p_subject uuid) returns jobs.loaded language sql as $$
  select l from private.load_verifications(array[tests.id(p_slug)], array[1::bigint], array[p_subject], array[null::jsonb]) l
$$;
create function pg_temp.completion(p_task text) returns uuid language sql as $$ select id from public.completions where task_id = tests.id(p_task) $$;

select is((pg_temp.load('pizza', pg_temp.completion('second task'))).cancel, false, 'a pending completion is verified');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data ->> 'post_id', '17900000000000001', 'with its post');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data ->> 'code', (select code from public.completions where task_id = tests.id('second task')), 'its code');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data ->> 'instagram_username', 'some.one', 'and the participant''s handles');
select bag_eq($$ select jsonb_object_keys((pg_temp.load('pizza', pg_temp.completion('second task'))).data) $$,
  array['completion_id', 'kind', 'post_id', 'code', 'instagram_username', 'facebook_user_id', 'since', 'deadline', 'recheck_seconds'],
  'the worker gets what it needs and no more: no name, no phone number');
select is((pg_temp.load('pizza', pg_temp.completion('pizza task'))).reason, 'the completion is verified', 'one that is decided is cancelled');
select is((pg_temp.load('pizza', tests.id('nothing'))).reason, 'the completion is gone', 'one that is gone too');
select is((pg_temp.load('gym', pg_temp.completion('second task'))).cancel, true, 'one of another tenant is gone');

select * from finish();
rollback;
