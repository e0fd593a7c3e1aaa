-- E-mails: frozen, with a key that makes a second try safe for a day.
begin;
select plan(29);
select tests.two_tenants();
select jobs.set_platform_credential('email', 'resend', '{"api_key": "x"}', '{}');
select is((select effects from jobs.definitions where job = 'send-emails'), false, 'a timeout may be tried again: the provider knows the key');
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', true, 'opt_in');
create table pg_temp.mail as select private.queue_message(tests.id('pizza'), 'congratulation', 'email', tests.id('pizza/pizza participant'), '{"task": "t", "spins": 2}', 'mail', tests.id('pizza campaign')) as id;
create function pg_temp.outbox() returns public.notification_outbox language sql as $$ select o from public.notification_outbox o where o.dedupe_key = 'mail' $$;
-- Waiting or running.
create function pg_temp.items() returns table (tenant_id uuid, job text, item_id bigint, subject_id uuid) language sql as $$
  select i.tenant_id, i.job, i.item_id, i.subject_id from jobs.items i
  union all
  select i.tenant_id, i.job, i.item_id, i.subject_id from jobs.leased_items i
$$;
create function pg_temp.load() returns jobs.loaded language sql as $$
  select l from pg_temp.items() i, private.load_emails(array[i.tenant_id], array[i.item_id], array[i.subject_id], null) l where i.job = 'send-emails' and i.subject_id = (pg_temp.outbox()).id
$$;
select is((pg_temp.outbox()).recipient || ': ' || (pg_temp.outbox()).subject, 'pizza participant@example.test: Congratulations, pizza participant!', 'an e-mail has its address and its subject from the start');
select matches((pg_temp.outbox()).body, '2 bonus spins have been added', 'and its text');

-- Hours
update public.campaigns set time_zone = 'UTC', notify_from = (clock_timestamp() at time zone 'UTC')::time + interval '1 hour', notify_until = (clock_timestamp() at time zone 'UTC')::time + interval '3 hours';
select is((pg_temp.load()).reason, 'quiet hours', 'participants are not written to outside the campaign''s hours');
select is((pg_temp.outbox()).reason || ' ' || coalesce((pg_temp.outbox()).first_tried_at::text, '-'), 'quiet hours -', 'a held e-mail was not tried');
select private.queue_message(tests.id('pizza'), 'alert', 'email', null, '{"message": "x"}', 'member', tests.id('pizza campaign'), null, 'owner@example.test');
select is((select l.hold_until from pg_temp.items() i, private.load_emails(array[i.tenant_id], array[i.item_id], array[i.subject_id], null) l, public.notification_outbox o where o.id = i.subject_id and o.dedupe_key = 'member'), null, 'members are, at any time');
update public.campaigns set notify_from = '00:00', notify_until = '24:00';

-- What the worker gets
create table pg_temp.batch as select tests.claim('send-emails') as b;
create table pg_temp.data as select i.data from pg_temp.batch, tests.items_of(b) i where i.data ->> 'to' like 'pizza%' or i.data ->> 'to' like 'owner%';
delete from pg_temp.data where data ->> 'to' like 'owner%';
insert into pg_temp.data select (pg_temp.load()).data where not exists (select from pg_temp.data);
select is((select data ->> 'idempotency_key' from pg_temp.data), (pg_temp.outbox()).id::text, 'the key is the message''s id');
select is((select (data ->> 'subject') || (data ->> 'text') from pg_temp.data), (pg_temp.outbox()).subject || (pg_temp.outbox()).body, 'subject and text are what was frozen');
select ok((select (data ->> 'send_before')::timestamptz between clock_timestamp() + interval '23 hours' and clock_timestamp() + interval '24 hours' from pg_temp.data), 'it may leave within the life of the key');
select isnt((pg_temp.outbox()).first_tried_at, null, 'which counts from the first try');
select is((pg_temp.load()).data ->> 'from', null, 'the platform''s credential knows its sender itself');
select jobs.set_platform_credential('email', 'resend', '{"api_key": "x"}', '{"from": "platform@example.com"}');
select public.set_credential(tests.id('pizza'), 'email', 'resend', '{"api_key": "y"}', '{}');
select is((pg_temp.load()).data ->> 'from', 'platform@example.com', 'an own credential without a sender has the platform''s');
select public.set_credential(tests.id('pizza'), 'email', 'resend', '{"api_key": "y"}', '{"from": "pizza@example.com"}');
select is((pg_temp.load()).data ->> 'from', null, 'one that names a sender keeps it');
update public.notification_outbox set first_tried_at = now() - interval '2 hours' where dedupe_key = 'mail';
select pg_temp.load();
select is((pg_temp.outbox()).first_tried_at, now() - interval '2 hours', 'a second try does not renew it');
select is((pg_temp.load()).data ->> 'idempotency_key', (pg_temp.outbox()).id::text, 'and has the same key');
update public.notification_outbox set first_tried_at = now() - interval '1 day' where dedupe_key = 'mail';
select is((pg_temp.load()).cancel || ': ' || (pg_temp.load()).reason, 'true: it could not be sent within a day of its first try', 'after a day it is over: the key would not be known');
update public.notification_outbox set first_tried_at = null where dedupe_key = 'mail';
update public.campaigns set status = 'ended' where id = tests.id('pizza campaign');
select is((pg_temp.load()).reason, 'the campaign has ended', 'a campaign that has ended writes no e-mails');
update public.campaigns set status = 'active' where id = tests.id('pizza campaign');
select is((pg_temp.load()).cancel, false, 'one that runs does');

-- What became of it
create function pg_temp.ends(p_outcome text, p_result jsonb, p_error text default null) returns text language plpgsql as $$
begin
  update public.notification_outbox set status = 'queued', sent_at = null, reason = null, unknown_since = null, delivery = null where dedupe_key = 'mail';
  perform private.apply_emails(array[(o.tenant_id, 0, o.id, p_outcome, p_result, p_error, 'platform')::jobs.ended]) from public.notification_outbox o where o.dedupe_key = 'mail';
  return (pg_temp.outbox()).status || ': ' || coalesce((pg_temp.outbox()).reason, '');
end
$$;
select is(pg_temp.ends('done', '{"status": "sent", "provider_message_id": "re_1"}'), 'sent: ', 'an accepted e-mail is sent');
select is((pg_temp.outbox()).provider_message_id || ' ' || (pg_temp.outbox()).credential_source || ' ' || (pg_temp.outbox()).sent, 're_1 platform true', 'with the provider''s id, and whose credential it was');
select is(pg_temp.ends('dead', null, 'validation_error'), 'failed: validation_error', 'a refused one has failed');
select is(pg_temp.ends('dead', null, e), 'unknown: ' || e, format('one whose attempts are used up with "%s" may have been accepted', e)) from unnest(array['Resend did not answer in time', 'Resend 500 application_error: an error at Resend', 'the lease ran out']) e;
select is(pg_temp.ends('done', '{"status": "failed", "reason": "no"}'), 'failed: no', 'so has one that the worker calls failed');
select is(pg_temp.ends('cancelled', null, 'it could not be sent within a day of its first try'), 'failed: it could not be sent within a day of its first try', 'and one that was not sent in time');
select is(pg_temp.ends('cancelled', null, 'the campaign has ended'), 'cancelled: the campaign has ended', 'a cancelled one is cancelled');
select is(pg_temp.ends('unknown', '{"status": "unknown", "reason": "no answer"}'), 'unknown: no answer', 'an ambiguous one is unknown');

-- Consent
update public.notification_outbox set status = 'queued', unknown_since = null where dedupe_key = 'mail';
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', false, 'opt_out');
select is((pg_temp.load()).cancel || ': ' || (pg_temp.load()).reason, 'true: the participant has withdrawn consent', 'who took the consent back gets none');

select * from finish();
rollback;
