begin;
select plan(24);
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
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'author',
  '{"instagram_id": null, "instagram_username": null, "facebook_id": null}', 'a name that was only typed is no proof');
update public.campaigns set username_match = true where id = tests.id('pizza campaign');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'author',
  '{"instagram_id": null, "instagram_username": "some.one", "facebook_id": "99"}', 'unless the campaign takes it for one');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data ->> 'instagram_username', 'some.one', 'also under its older key');
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by) values
  (tests.id('pizza'), tests.id('pizza/pizza participant'), 'instagram', '178414', 'linked.one', 'link code'),
  (tests.id('gym'), tests.id('gym/gym participant'), 'facebook', '500', null, 'link code');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'author',
  '{"instagram_id": "178414", "instagram_username": "linked.one", "facebook_id": "99"}', 'a linked account comes before the name that was typed');
update public.campaigns set username_match = false where id = tests.id('pizza campaign');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'author',
  '{"instagram_id": "178414", "instagram_username": "linked.one", "facebook_id": null}', 'and counts in any campaign');

-- What was read before
insert into private.post_readings (tenant_id, surface, post_id, newest_id, newest_at, read_since)
values (tests.id('pizza'), 'instagram', '17900000000000001', '77', '2026-11-01 12:00+00', now() - interval '1 day'),
  (tests.id('gym'), 'instagram', '17900000000000001', '78', '2026-11-01 12:00+00', now() - interval '1 day');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'stop_at' ->> 'id', '77', 'a reading may stop at the newest comment of the last complete one');
update private.post_readings set read_since = now() + interval '1 second';
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'stop_at', 'null'::jsonb, 'but not when that did not go back as far as the task');
insert into private.signals (tenant_id, surface, kind, external_id, author_id, target_id, via, happened_at)
values (tests.id('pizza'), 'instagram', 'comment', '501', '178414', '17900000000000001', 'api', now());
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'known' ->> 'comment_id', '501', 'a comment that is stored already proves the claim without a call');
insert into private.proofs (tenant_id, task_id, proof, completion_id)
values (tests.id('pizza'), tests.id('second task'), 'comment:501', pg_temp.completion('pizza task'));
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).data -> 'known', 'null'::jsonb, 'unless it has proven another claim of the task');

-- The platform's credential
update public.social_tasks set platform_credential_allowed = false where id = tests.id('second task');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).hold_until, null, 'a task for the tenant''s own credential goes out with one');
select public.remove_credential(tests.id('pizza'), 'meta');
select is((pg_temp.load('pizza', pg_temp.completion('second task'))).reason, 'waiting for a credential of the tenant''s own', 'and is held without');
select bag_eq($$ select jsonb_object_keys((pg_temp.load('pizza', pg_temp.completion('second task'))).data) $$,
  array['completion_id', 'kind', 'post_id', 'code', 'instagram_username', 'facebook_user_id', 'since', 'deadline', 'recheck_seconds', 'author', 'known', 'stop_at', 'asked', 'mentions'],
  'the worker gets what it needs and no more: no name, no phone number');
select is((pg_temp.load('pizza', pg_temp.completion('pizza task'))).reason, 'the completion is verified', 'one that is decided is cancelled');
select is((pg_temp.load('pizza', tests.id('nothing'))).reason, 'the completion is gone', 'one that is gone too');
select is((pg_temp.load('gym', pg_temp.completion('second task'))).cancel, true, 'one of another tenant is gone');

-- Mentions
select tests.task_of('gym', 'mention', 'instagram_mention');
select tests.claim_task('gym', 'gym participant', 'mention');
update public.social_tasks set created_at = now() - interval '2 days' where id = tests.id('mention');
create function pg_temp.again() returns text language sql as $$ select (pg_temp.load('gym', pg_temp.completion('mention'))).data ->> 'recheck_seconds' $$;
update public.completions set claimed_at = now() - interval '10 hours' where task_id = tests.id('mention');
select is(pg_temp.again(), '300', 'without a mention the task says how often a claim is looked at');
insert into private.signals (tenant_id, surface, kind, external_id, details, via, happened_at, received_at)
values (tests.id('gym'), 'instagram', 'mention', 'm1', '{"media_id": "m1"}', 'webhook', now() - interval '3 hours', now() - interval '3 hours');
update public.completions set claimed_at = now() - interval '1 day', deadline = now() + interval '1 day' where task_id = tests.id('mention');
select is(pg_temp.again(), '3600', 'an old mention is read again every hour');
update private.signals set received_at = now() - interval '20 minutes' where external_id = 'm1';
select is(pg_temp.again(), '1200', 'a younger one when it is twice as old');
update private.signals set received_at = now() - interval '3 hours' where external_id = 'm1';
update public.completions set claimed_at = now() - interval '1 minute' where task_id = tests.id('mention');
select is(pg_temp.again(), '300', 'for a new claim an old mention is new');
update public.completions set claimed_at = now() - interval '1 day', deadline = now() + interval '20 minutes' where task_id = tests.id('mention');
select is(pg_temp.again(), '1200', 'but not later than at the deadline');
insert into private.signals (tenant_id, surface, kind, external_id, details, via, happened_at)
values (tests.id('gym'), 'instagram', 'mention', 'm2', '{"media_id": "m2"}', 'webhook', now());
select is(pg_temp.again(), '300', 'a new mention is looked at as often as the task says');

select * from finish();
rollback;
