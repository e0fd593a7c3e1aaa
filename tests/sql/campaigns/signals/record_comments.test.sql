-- The worker tells which comments it read: only while it holds the post.
begin;
select plan(10);
select tests.two_tenants();
select tests.participant('pizza', 'anna');
select tests.task_of('pizza', 'held', 'instagram_comment', '{"post_id": "555"}');
select tests.claim_task('pizza', 'anna', 'held');
delete from jobs.items where job = 'verify-social-tasks' and subject_id not in (select id from public.completions where task_id = tests.id('held'));
update jobs.items set run_at = now() - interval '1 minute' where job = 'verify-social-tasks';
update jobs.lanes set awake = true, wake_at = null, reason = null, not_before = '-infinity' where job = 'verify-social-tasks';
create table pg_temp.batch as select (b ->> 'batch_id')::bigint as id from tests.claim('verify-social-tasks') b;

create function pg_temp.told(p_slug text, p_post text, p_id text, p_more jsonb default '{}') returns integer language sql as $$
  select jobs.record_comments((select id from pg_temp.batch), tests.id(p_slug), jsonb_build_object('surface', 'instagram', 'post_id', p_post,
    'comments', jsonb_build_array(jsonb_build_object('id', p_id, 'at', now(), 'author_id', 'x' || p_id, 'username', null, 'codes', jsonb_build_array())),
    'newest', null, 'complete', false) || p_more)
$$;
select isnt((select id from pg_temp.batch), null, 'a batch holds the item');
select is(pg_temp.told('pizza', '555', '1'), 1, 'comments of the post that is held are stored');
select is(pg_temp.told('pizza', '555', '1'), 0, 'once');
select is(pg_temp.told('pizza', '556', '2'), 0, 'comments of another post are not');
select is(pg_temp.told('gym', '555', '3'), 0, 'nor those of another tenant');
select is((select count(*) from private.post_readings), 0::bigint, 'a reading that is not complete leaves no mark');
select pg_temp.told('pizza', '555', '4', '{"complete": true, "newest": {"id": "4", "at": "2026-11-01T12:00:00+00:00"}}');
select is((select newest_id from private.post_readings), '4', 'a complete one does');
select pg_temp.told('pizza', '555', '5', '{"complete": true, "newest": {"id": "3", "at": "2026-10-01T12:00:00+00:00"}}');
select is((select newest_id from private.post_readings), '4', 'the mark never goes back');
select jobs.record_comments((select id from pg_temp.batch), tests.id('pizza'), jsonb_build_object('surface', 'instagram', 'post_id', '555', 'comments',
  jsonb_build_array(jsonb_build_object('id', '6', 'at', now(), 'author_id', 'anna', 'codes', jsonb_build_array((select code from public.completions where task_id = tests.id('held')))))));
select is((select concat_ws(' ', status, method, credential_source) from public.completions where task_id = tests.id('held')), 'verified api tenant',
  'a comment with a code decides its claim at once, and whose credential read it is noted');
update jobs.batches set lease_until = clock_timestamp() - interval '1 second';
select is(pg_temp.told('pizza', '555', '7'), 0, 'after the lease nothing is taken');

select * from finish();
rollback;
