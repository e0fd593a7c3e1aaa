-- Who may be written to now: one message in 6 seconds to the same person, so many a second by one number, oldest first; windows.
begin;
select plan(42);
select tests.two_tenants();
delete from public.notification_outbox;
delete from jobs.items where job = 'send-notifications';
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "2"}');

-- p_count alerts of a tenant, each to a number of its own unless told otherwise, a minute apart in age: the first is the oldest.
create function pg_temp.messages(p_slug text, p_count integer, p_recipient text default null) returns void language sql as $$
  select private.queue_messages(jsonb_agg(jsonb_build_object('tenant_id', tests.id(p_slug), 'kind', 'alert', 'channel', 'whatsapp', 'participant_id', null,
    'recipient', coalesce(p_recipient, '+1555' || lpad(n::text, 7, '0')), 'dedupe_key', gen_random_uuid(), 'variables', jsonb_build_object('message', 'nr ' || n)) order by n))
  from generate_series(1, p_count) n
$$;
create function pg_temp.load(p_slug text) returns table (body text, item_id bigint, hold_until timestamptz, reason text, cancel boolean, data jsonb) language plpgsql as $$
declare
  v_t uuid[]; v_i bigint[]; v_s uuid[];
begin
  select array_agg(i.tenant_id order by i.item_id), array_agg(i.item_id order by i.item_id), array_agg(i.subject_id order by i.item_id) into v_t, v_i, v_s
  from jobs.items i where i.job = 'send-notifications' and i.tenant_id = tests.id(p_slug);
  return query select m.body, l.item_id, l.hold_until, l.reason, l.cancel, l.data
  from private.load_messages(v_t, v_i, v_s, null) l
  join jobs.items i on i.item_id = l.item_id join public.notification_outbox m on m.tenant_id = i.tenant_id and m.id = i.subject_id;
end
$$;
create function pg_temp.clear() returns void language sql as $$
  delete from public.notification_outbox; delete from jobs.items where job = 'send-notifications';
  delete from private.conversations; delete from private.senders;
$$;

-- One person
select pg_temp.messages('pizza', 3, '+15550001111');
update public.notification_outbox set created_at = created_at - make_interval(mins => 10 - right(body, 1)::integer);
create table pg_temp.first as select * from pg_temp.load('pizza');
select is((select right(body, 4) from pg_temp.first where hold_until is null), 'nr 1', 'of several messages to one person one goes, the oldest');
select is((select string_agg(right(body, 4), ', ' order by hold_until) from pg_temp.first where hold_until is not null), 'nr 2, nr 3', 'the others wait for their turn, oldest first');
select ok((select hold_until from pg_temp.first where body like '%nr 2') between clock_timestamp() + interval '4 seconds' and clock_timestamp() + interval '6 seconds', 'the second for 6 seconds');
select is((select b.hold_until - a.hold_until from pg_temp.first a, pg_temp.first b where a.body like '%nr 2' and b.body like '%nr 3'), interval '6 seconds', 'the third 6 more');
select is((select reason from public.notification_outbox where body like '%nr 2'), 'one message in 6 seconds to the same person', 'members see why');
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 0::bigint, 'also the next claim finds the person written to');
update private.conversations set next_at = next_at - interval '6 seconds';
select is((select right(min(body), 4) from pg_temp.load('pizza') where hold_until is null), 'nr 1', 'six seconds later the person may be written to again');
-- The same person by another number of digits, as WhatsApp has it in Brazil
select pg_temp.clear();
select pg_temp.messages('pizza', 1, '+5511912345678');
select pg_temp.messages('pizza', 1, '+551112345678');
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 1::bigint, 'a number with and without its ninth digit is one person');
-- Another sender
select pg_temp.clear();
select pg_temp.messages('pizza', 1, '+15550001111');
select pg_temp.messages('gym', 1, '+15550001111');
select is((select count(*) from pg_temp.load('pizza') where hold_until is null) + (select count(*) from pg_temp.load('gym') where hold_until is null), 2::bigint, 'two numbers may write to the same person');
select is((select count(*) from private.conversations where tenant_id = tests.id('pizza')) || ' ' || (select count(*) from private.conversations where tenant_id = jobs.platform_id()), '1 1', 'a tenant without a number of its own writes by the platform''s');
-- After the answer
update private.conversations set next_at = '-infinity';
select private.apply_messages(array[(o.tenant_id, 0, o.id, 'done', '{"status": "sent", "provider_message_id": "w1"}', null, 'tenant')::jobs.ended]) from public.notification_outbox o where o.tenant_id = tests.id('pizza');
select ok((select next_at > clock_timestamp() + interval '5 seconds' from private.conversations where tenant_id = tests.id('pizza')), 'the 6 seconds count from the answer');
select ok((select next_at = '-infinity' from private.conversations where tenant_id = jobs.platform_id()), 'for that number only');

-- Throughput
select pg_temp.clear();
update public.message_settings set messages_per_second = 20 where tenant_id = tests.id('pizza');
select pg_temp.messages('pizza', 50);
create table pg_temp.fast as select * from pg_temp.load('pizza');
select is((select count(*) from pg_temp.fast where hold_until is null), 5::bigint, 'a number of 20 a second starts with 5 at once');
-- From the first that waits on, however long this test takes.
select is((select count(*) from pg_temp.fast where hold_until < (select min(hold_until) from pg_temp.fast) + interval '0.95 seconds'), 15::bigint, 'and 15 in the second that follows: 20 in no second are exceeded');
select is((select string_agg(body, ' ' order by item_id) from pg_temp.fast where hold_until is null), (select string_agg(body, ' ' order by item_id) from (select * from pg_temp.fast order by item_id limit 5) f), 'the oldest go first');
select is((select reason from pg_temp.fast where hold_until is not null limit 1), 'the number''s messages per second', 'and why the others wait');
update public.message_settings set messages_per_second = null where tenant_id = tests.id('pizza');
select pg_temp.clear();
select pg_temp.messages('pizza', 50);
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 20::bigint, 'the platform''s default of 80 a second lets 20 go at once');
select jobs.set_setting('whatsapp_messages_per_second', '8');
select pg_temp.clear();
select pg_temp.messages('pizza', 50);
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 2::bigint, 'an admin may change it');
select jobs.set_setting('whatsapp_messages_per_second', 'fast');
select pg_temp.clear();
select pg_temp.messages('pizza', 50);
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 20::bigint, 'what is no number is the default, and stops nothing');
select jobs.set_setting('whatsapp_messages_per_second', '80');

-- Quiet hours: held ones leave oldest first when the window opens
select pg_temp.clear();
create function pg_temp.hours(p_from interval, p_until interval) returns void language sql as $$
  update public.campaigns set time_zone = 'UTC', notify_from = (clock_timestamp() at time zone 'UTC')::time + p_from, notify_until = (clock_timestamp() at time zone 'UTC')::time + p_until where tenant_id = tests.id('pizza')
$$;
select pg_temp.hours('1 hour', '3 hours');
create function pg_temp.in_campaign(p_n integer) returns void language sql as $$
  select private.queue_message(tests.id('pizza'), 'alert', 'whatsapp', null, jsonb_build_object('message', 'nr ' || p_n), 'c' || p_n, tests.id('pizza campaign'), null, '+1777' || lpad(p_n::text, 7, '0'))
$$;
select pg_temp.in_campaign(n) from generate_series(1, 9) n;
select is(tests.served(tests.claim('send-notifications')), 'nothing', 'outside of the hours all are held');
select pg_temp.in_campaign(n) from generate_series(10, 12) n;
select is(tests.served(tests.claim('send-notifications')), 'nothing', 'later ones too');
select tests.pass('61 minutes');
select pg_temp.hours('-1 hour', '1 hour');
create table pg_temp.opened as select tests.claim('send-notifications') as b;
select is((select string_agg(i.data ->> 'text', ', ' order by n) from pg_temp.opened, jsonb_array_elements(b -> 'tenants' -> 0 -> 'items') with ordinality as u (item, n), lateral (select u.item -> 'data' as data) i),
  (select string_agg(format('nr %s', n), ', ' order by n) from generate_series(1, 12) n), 'when the window opens they leave, oldest first');

-- The 24-hour window
select pg_temp.clear();
select pg_temp.messages('pizza', 1, '+15550001111');
select is((select data ->> 'window' from pg_temp.load('pizza')), 'not_known', 'of a person who never wrote nothing is known');
update private.conversations set inbound_at = now() - interval '23 hours', next_at = '-infinity';
select is((select data ->> 'window' || ' ' || ((data ->> 'window_open_until')::timestamptz = now() + interval '1 hour') from pg_temp.load('pizza')), 'open true', 'who wrote 23 hours ago can be answered for one more');
update private.conversations set inbound_at = now() - interval '25 hours', next_at = '-infinity';
select is((select data ->> 'window' from pg_temp.load('pizza')), 'closed', 'after 24 hours the window is closed');
select is((select data ->> 'callback' from pg_temp.load('pizza')), (select tenant_id || '/' || id from public.notification_outbox), 'the message carries our mark');
select is((select data ->> 'category' from pg_temp.load('pizza')), 'utility', 'and its category');

-- A paused template
select pg_temp.clear();
update public.message_templates set whatsapp_template_name = 'alert', whatsapp_parameters = '{message}' where id = tests.id('pizza template');
select pg_temp.messages('pizza', 1, '+15550001111');
select is((select data #>> '{template,name}' from pg_temp.load('pizza')), 'alert', 'the approved template goes along');
update public.message_templates set paused_at = now(), pause_reason = 'WhatsApp 132015' where id = tests.id('pizza template');
update private.conversations set next_at = '-infinity';
select is((select concat_ws(' ', data ->> 'template', hold_until) from pg_temp.load('pizza')), '', 'one that is paused does not, the text may still go');
update private.conversations set inbound_at = now() - interval '25 hours', next_at = '-infinity';
select is((select reason from pg_temp.load('pizza') where hold_until is not null), 'the template is paused: WhatsApp 132015', 'and where only the template would help the message waits');
select is(tests.rows('pizza member', format('update public.message_templates set body = body where id = %L', tests.id('pizza template'))), '1', 'a member saves the template again');
select is((select data #>> '{template,name}' from pg_temp.load('pizza') where hold_until is null), 'alert', 'and it is used again');

-- Unofficial gateways, switched off for the platform
insert into private.settings (name, value, meaning) values ('unofficial_gateways', 'on', 'x') on conflict (name) do update set value = 'on';
select pg_temp.clear();
delete from public.credentials where tenant_id = tests.id('pizza') and provider = 'whatsapp';
insert into public.credentials (tenant_id, provider, kind, secret_id, fingerprint) values (tests.id('pizza'), 'whatsapp', 'waapi', gen_random_uuid(), 'x');
select pg_temp.messages('pizza', 1, '+15550001111');
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 1::bigint, 'an unofficial gateway sends where it may');
update private.settings set value = 'off' where name = 'unofficial_gateways';
update private.conversations set next_at = '-infinity'; update private.senders set free_at = '-infinity';
select is((select reason from pg_temp.load('pizza') where hold_until is not null), 'unofficial gateways are switched off on this platform', 'switched off, its messages wait');
select is((select reason from public.notification_outbox), 'unofficial gateways are switched off on this platform', 'and members see why');
update public.credentials set kind = 'whatsapp_cloud' where tenant_id = tests.id('pizza') and provider = 'whatsapp';
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 1::bigint, 'the official one is not concerned');
delete from private.settings where name = 'unofficial_gateways';
update public.credentials set kind = 'waapi' where tenant_id = tests.id('pizza') and provider = 'whatsapp';
update private.conversations set next_at = '-infinity'; update private.senders set free_at = '-infinity';
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 1::bigint, 'without the setting they may send');

-- and slower, for the number's own sake
select pg_temp.clear();
select pg_temp.messages('pizza', 9);
create table pg_temp.slow as select * from pg_temp.load('pizza');
select is((select count(*) from pg_temp.slow where hold_until is null), 1::bigint, 'an unofficial gateway starts with one message');
select is((select count(*) from pg_temp.slow where hold_until < (select min(hold_until) from pg_temp.slow) + interval '0.95 seconds'), 3::bigint, 'and sends no more than 4 in any second');
select jobs.set_setting('gateway_messages_per_second', '100');
select pg_temp.clear();
select pg_temp.messages('pizza', 50);
select is((select count(*) from pg_temp.load('pizza') where hold_until is null), 20::bigint, 'an admin may change it, up to what any number may');

-- Stopped
select pg_temp.clear();
select pg_temp.messages('pizza', 1, '+15550001111');
select private.stop_sender(tests.id('pizza'), 131042, 'WhatsApp 131042: payment');
update private.conversations set next_at = '-infinity';
select is((select reason from pg_temp.load('pizza') where hold_until is not null), 'sending is stopped: WhatsApp 131042: payment', 'while a number is stopped its messages wait');
select is((select count(*) from jobs.alerts where tenant_id = tests.id('pizza') and incident = 'sending whatsapp' and closed_at is null), 1::bigint, 'and an alert is open');

select * from finish();
rollback;
