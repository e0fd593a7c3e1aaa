-- What WhatsApp's codes mean beyond the one message, whether they come as an answer or as a report.
begin;
select plan(60);
select tests.two_tenants();
delete from public.notification_outbox;
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');

-- A message to the participant; its end as the worker reports it; what became of it.
create function pg_temp.message(p_key text, p_kind text default 'alert', p_slug text default 'pizza') returns uuid language plpgsql as $$
begin
  return private.queue_message(tests.id(p_slug), p_kind, 'whatsapp', tests.id(p_slug || '/' || p_slug || ' participant'), '{"message": "x", "task": "t", "spins": 1}', p_key, tests.id(p_slug || ' campaign'),
    case when p_kind <> 'alert' then (select c.id from public.completions c where c.tenant_id = tests.id(p_slug) limit 1) end);
end
$$;
create function pg_temp.ends(p_key text, p_result jsonb, p_outcome text default 'done', p_error text default null, p_source text default 'tenant') returns text language plpgsql as $$
begin
  delete from jobs.items i using public.notification_outbox o where o.id = i.subject_id and o.dedupe_key = p_key;
  perform private.apply_messages(array[(o.tenant_id, 0, o.id, p_outcome, p_result, p_error, p_source)::jobs.ended]) from public.notification_outbox o where o.dedupe_key = p_key;
  return (select o.status || ': ' || coalesce(o.reason, '') from public.notification_outbox o where o.dedupe_key = p_key);
end
$$;
create function pg_temp.failed(p_code integer) returns jsonb language sql as $$ select jsonb_build_object('status', 'failed', 'code', p_code, 'reason', format('WhatsApp %s: no.', p_code)) $$;
create function pg_temp.queued_for(p_key text) returns interval language sql as $$
  select i.run_at - now() from jobs.items i join public.notification_outbox o on o.tenant_id = i.tenant_id and o.id = i.subject_id where o.dedupe_key = p_key
$$;

-- Of that message only
select pg_temp.message(k) from unnest(array['a', 'b', 'c']) k;
select is(pg_temp.ends('a', pg_temp.failed(131026)), 'failed: WhatsApp 131026: no.', 'an undeliverable message has failed');
select is((select error_code from public.notification_outbox where dedupe_key = 'a'), 131026, 'with its code');
select is(pg_temp.ends('b', null, 'dead', 'WhatsApp 130472: experiment'), 'failed: WhatsApp 130472: experiment', 'so has a refused one');
select is((select error_code from public.notification_outbox where dedupe_key = 'b'), 130472, 'the code is read from the words too');
select is((select count(*) from private.senders where stopped_at is not null) + (select count(*) from public.message_templates where paused_at is not null), 0::bigint, 'nothing else is stopped or paused by them');
select is(pg_temp.queued_for('a'), null, 'nor is it tried again');

-- 131049: not now
select is(pg_temp.ends('c', pg_temp.failed(131049)), 'queued: WhatsApp 131049: no.', 'a message held back for a healthy ecosystem waits');
select ok(pg_temp.queued_for('c') >= interval '24 hours', 'for 24 hours at least');
select ok((select held_until >= now() + interval '24 hours' from public.notification_outbox where dedupe_key = 'c'), 'members see until when');
update public.notification_outbox set resends = 3 where dedupe_key = 'c';
select is(pg_temp.ends('c', pg_temp.failed(131049)), 'failed: WhatsApp 131049: no.', 'not for ever');
update public.campaigns set ends_at = now() + interval '20 hours' where id = tests.id('pizza campaign');
select pg_temp.message('late');
select matches(pg_temp.ends('late', pg_temp.failed(131049)), '^cancelled: .*too late', 'a campaign that is over by then has no use for it');
update public.campaigns set ends_at = null where id = tests.id('pizza campaign');
insert into public.completions (tenant_id, id, task_id, participant_id, code, deadline) select tests.id('pizza'), tests.id('claim'), tests.task('pizza', 'pizza campaign', 'second'), tests.id('pizza/pizza participant'), 'OC-1', now() + interval '3 hours';
select private.queue_message(tests.id('pizza'), 'reminder', 'whatsapp', tests.id('pizza/pizza participant'), '{}', 'remind', tests.id('pizza campaign'), tests.id('claim'));
select matches(pg_temp.ends('remind', pg_temp.failed(131049)), '^cancelled: .*too late', 'nor has a reminder of a claim whose time is over');

-- What passes by itself, told by a report: it was not delivered, so it goes again
select is(private.code_effect(c), 'again', format('%s is tried again', c)) from unnest(array[1, 2, 4, 80007, 130429, 131000, 131016, 131056, 131057, 133004]) c;
create function pg_temp.told(p_key text, p_code integer) returns text language plpgsql as $$
begin
  perform private.record_message_statuses(tests.id('pizza'), jsonb_build_array(jsonb_build_object('message_id', 'wamid.' || p_key || o.resends, 'status', 'failed', 'code', p_code, 'details', 'no.',
    'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) from public.notification_outbox o where o.dedupe_key = p_key;
  return (select concat_ws(' ', o.status, o.resends) from public.notification_outbox o where o.dedupe_key = p_key);
end
$$;
select pg_temp.message('r');
select pg_temp.ends('r', '{"status": "sent", "provider_message_id": "wamid.r0"}');
select is(pg_temp.told('r', 131000), 'queued 1', 'a report that WhatsApp was not available queues the message again');
select is(pg_temp.queued_for('r'), interval '15 minutes', 'for a quarter of an hour later');
select is(pg_temp.told('r', 131000), 'queued 1', 'the same report again is no news');
update public.notification_outbox set status = 'sent', sent_at = now(), provider_message_id = 'wamid.r3', resends = 3 where dedupe_key = 'r';
select is(pg_temp.told('r', 131056), 'failed 3', 'not for ever');
select pg_temp.message('tried');
select is(pg_temp.ends('tried', null, 'dead', 'WhatsApp 131000: not available'), 'failed: WhatsApp 131000: not available', 'what the worker has tried until its attempts were used up is over');

-- 131050: no marketing from this business
update public.message_templates set category = 'marketing' where id = tests.id('pizza template');
select pg_temp.message(k) from unnest(array['m1', 'm2']) k;
select pg_temp.message('u1', 'congratulation');
select pg_temp.message('gym', 'alert', 'gym');
select is(pg_temp.ends('m1', pg_temp.failed(131050)), 'failed: WhatsApp 131050: no.', 'who stopped marketing gets none');
select is((select status || ': ' || reason from public.notification_outbox where dedupe_key = 'm2'), 'no_consent: the participant does not want marketing messages', 'what is queued of it ends, in all campaigns');
select is((select status::text from public.notification_outbox where dedupe_key = 'u1'), 'queued', 'messages of other kinds still go');
select is((select status::text from public.notification_outbox where dedupe_key = 'gym'), 'queued', 'as do other businesses''');
select is((select granted || ' ' || source from public.opt_ins where participant_id = tests.id('pizza/pizza participant') and category = 'marketing'), 'false provider', 'the ledger says so');
select pg_temp.message('m3');
select is((select status::text from public.notification_outbox where dedupe_key = 'm3'), 'no_consent', 'and no new one is queued');
update public.message_templates set category = 'utility' where id = tests.id('pizza template');

-- 131047 as a report: the window is closed, the template goes
select pg_temp.message('w1');
select is(pg_temp.ends('w1', pg_temp.failed(131047)), 'failed: WhatsApp 131047: no.', 'outside the window a message without an approved template fails');
update public.message_templates set whatsapp_template_name = 'alert' where id = tests.id('pizza template');
select pg_temp.message('w2');
select is(pg_temp.ends('w2', pg_temp.failed(131047)), 'queued: WhatsApp 131047: no.', 'one with a template goes again, once');
select is((select l.data ->> 'window' from jobs.items i join public.notification_outbox o on o.id = i.subject_id and o.dedupe_key = 'w2', private.load_messages(array[i.tenant_id], array[i.item_id], array[i.subject_id], null) l), 'closed', 'as the template: the window is known to be closed');
select is(pg_temp.ends('w2', pg_temp.failed(131047)), 'failed: WhatsApp 131047: no.', 'not twice');

-- By the engine: the item ends, a new one waits for its time
delete from jobs.items where job = 'send-notifications';
delete from private.conversations;
select pg_temp.message('engine');
create table pg_temp.batch as select tests.claim('send-notifications') as b;
select is(tests.served(b), 'pizza 1', 'the worker gets a message') from pg_temp.batch;
select tests.close(b, jsonb_build_object('outcome', 'done', 'result', pg_temp.failed(131049))) from pg_temp.batch;
select is((select count(*) || ' ' || bool_and(i.run_at >= now() + interval '24 hours') from jobs.items i where i.job = 'send-notifications'), '1 true', 'and what it says of 131049 leaves one item, for tomorrow');
select tests.claim('send-notifications');
select is(tests.lane('send-notifications', 'pizza'), 'asleep: delay, wakes', 'until which the lane sleeps');

-- Templates
select is(private.code_effect(c), 'pause template', format('%s pauses the template', c)) from unnest(array[132000, 132001, 132005, 132007, 132012, 132015, 132016]) c;
select pg_temp.message('t');
select pg_temp.ends('t', pg_temp.failed(132001));
select is((select pause_reason from public.message_templates where id = tests.id('pizza template')), 'WhatsApp 132001: no.', 'a template that WhatsApp refuses is paused, with the reason');
select is((select count(*) from public.message_templates where paused_at is not null), 1::bigint, 'that one only');

-- The account
select pg_temp.message(k) from unnest(array['s1', 's2']) k;
select is(pg_temp.ends('s1', pg_temp.failed(131042)), 'queued: WhatsApp 131042: no.', 'what an account that cannot pay did not send waits');
select is((select stop_reason from private.senders where tenant_id = tests.id('pizza')), 'WhatsApp 131042: no.', 'its sending is stopped');
select is((select count(*) from jobs.alerts where tenant_id = tests.id('pizza') and incident = 'sending whatsapp' and closed_at is null), 1::bigint, 'and an alert is open');
select pg_temp.ends('s2', pg_temp.failed(131048));
select is((select count(*) from jobs.alerts where incident = 'sending whatsapp'), 1::bigint, 'one, whatever else comes');
select is(tests.answer('pizza member', format('select public.resume_sending(%L)', tests.id('pizza'))) || ' ' || tests.answer('gym owner', format('select public.resume_sending(%L)', tests.id('pizza'))) || ' ' || tests.answer('pizza owner', 'select public.resume_sending(null)'),
  '42501 42501 42501', 'neither a member nor another tenant''s owner resumes it, nor an owner the platform''s number');
select is(tests.answer('pizza admin', format('select public.resume_sending(%L)', tests.id('pizza'))), 'true', 'an admin does');
select is((select count(*) from jobs.alerts where tenant_id = tests.id('pizza') and incident = 'sending whatsapp' and closed_at is null), 0::bigint, 'and the alert closes');

-- The platform's number: what concerns the account stops all that use it, what concerns one sender's messages stops that one.
select pg_temp.message(k, 'alert', 'gym') from unnest(array['g1', 'g2']) k;
select pg_temp.ends('g1', pg_temp.failed(131048), p_source => 'platform');
select is((select string_agg(case when tenant_id = jobs.platform_id() then 'platform' else 'gym' end, ' ') from private.senders where stopped_at is not null), 'gym', 'spam stops the tenant that sent it');
select pg_temp.ends('g2', pg_temp.failed(131031), p_source => 'platform');
select is((select count(*) from private.senders where stopped_at is not null and tenant_id = jobs.platform_id()), 1::bigint, 'a locked account stops the number');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "new"}', '{"phone_number_id": "3"}');
select is((select count(*) from private.senders where stopped_at is not null and tenant_id = jobs.platform_id()), 1::bigint, 'a credential where there was none changes nothing');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "newer"}', '{"phone_number_id": "3"}');
select is((select count(*) from private.senders where stopped_at is not null and tenant_id = jobs.platform_id()), 0::bigint, 'a new one starts it');

select * from finish();
rollback;
