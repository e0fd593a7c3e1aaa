-- Codes that concern a whole account, by every way in which WhatsApp tells them: the answer to a message, the report about one that was
-- accepted, and an error of the account without any message. Each opens exactly one alert, and nothing more is sent until somebody acts.
begin;
select plan(56);
select tests.two_tenants();
delete from public.notification_outbox;
delete from jobs.items;

create function pg_temp.message(p_key text) returns void language plpgsql as $$
begin
  perform private.queue_message(tests.id('pizza'), 'alert', 'whatsapp', tests.id('pizza/pizza participant'), '{"message": "x"}', p_key, tests.id('pizza campaign'));
end
$$;
-- A message that the worker had a code for.
create function pg_temp.answer(p_code integer) returns void language plpgsql as $$
begin
  perform pg_temp.message('m');
  perform tests.close(tests.claim('send-notifications'), case when p_code in (0, 3, 10, 190, 200, 299, 131005, 133010)
    then jsonb_build_object('outcome', 'credential_broken', 'error', format('WhatsApp %s: no', p_code))
    else jsonb_build_object('outcome', 'done', 'result', jsonb_build_object('status', 'failed', 'code', p_code, 'reason', format('WhatsApp %s: no', p_code))) end);
end
$$;
-- A message that was accepted and then failed.
create function pg_temp.report(p_code integer, p_at timestamptz default now()) returns void language plpgsql as $$
begin
  if not exists (select from public.notification_outbox where dedupe_key = 'm') then
    perform pg_temp.message('m');
    perform tests.close(tests.claim('send-notifications'), '{"outcome": "done", "result": {"status": "sent", "provider_message_id": "wamid.1"}}');
  end if;
  perform private.record_message_statuses(tests.id('pizza'), jsonb_build_array(jsonb_build_object('message_id', 'wamid.1', 'status', 'failed', 'code', p_code, 'details', 'Theirs', 'at', p_at)));
end
$$;
-- An error of the account.
create function pg_temp.told(p_code integer, p_at timestamptz default now()) returns void language sql as $$
  select private.act_on_account_errors(tests.id('pizza'), jsonb_build_array(jsonb_build_object('code', p_code, 'title', 'Theirs', 'at', p_at)))
$$;
create function pg_temp.alerts() returns text language sql as $$
  select coalesce(string_agg(a.incident || ': ' || a.message, E'\n' order by a.alert_id), 'none') from jobs.alerts a where a.tenant_id = tests.id('pizza') and a.closed_at is null
$$;
-- Whether a message would leave now.
create function pg_temp.sends() returns text language plpgsql as $$
declare
  v_batch jsonb;
begin
  -- Not kept by the six seconds between two messages.
  delete from private.conversations;
  perform pg_temp.message('next');
  v_batch := tests.claim('send-notifications');
  return tests.served(v_batch);
end
$$;
-- What one way of telling a code leads to; undone afterwards.
create function pg_temp.outcome(p_way text, p_code integer, out alerts text, out sends text) language plpgsql as $$
begin
  execute format('select pg_temp.%I($1)', p_way) using p_code;
  alerts := pg_temp.alerts();
  sends := pg_temp.sends();
  raise exception 'undone' using errcode = 'OC000';
exception when sqlstate 'OC000' then
  null;
end
$$;
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');

create table pg_temp.found as
select w.way, c.code, o.alerts, o.sends
from unnest(array['answer', 'report', 'told']) as w (way)
cross join unnest(array[368, 131031, 131042, 131048, 0, 3, 10, 190, 200, 299, 131005, 133010]) as c (code)
cross join lateral pg_temp.outcome(w.way, c.code) o;
select matches(alerts, '^sending whatsapp: WhatsApp messages are stopped: WhatsApp ' || code || ': [^\n]+$', format('%s by %s opens one alert about the sending', code, way)) from pg_temp.found where code in (368, 131031, 131042, 131048);
select matches(alerts, '^credential whatsapp: The whatsapp credential does not work: WhatsApp ' || code || ': [^\n]+$', format('%s by %s opens one alert about the credential', code, way)) from pg_temp.found where code not in (368, 131031, 131042, 131048);
select is_empty($$ select way, code, sends from pg_temp.found where sends <> 'nothing' $$, 'and nothing leaves any more');
select is((select string_agg(distinct o.alerts || ' ' || o.sends, ', ') from unnest(array['report', 'told']) w, unnest(array[131026, 131000, 130472, 4, 80007, 130429, 100, 131057]) c, pg_temp.outcome(w, c) o), 'none pizza 1', 'codes of one message, or of a moment, open none and stop nothing');
select matches(o.alerts, 'a payment problem; settle it in WhatsApp Manager \(Theirs\)', 'the alert says what to do, and what WhatsApp says') from pg_temp.outcome('told', 131042) o;
select matches(o.alerts, 'the sender''s number is not registered; register it \(Theirs\)', 'whatever it is') from pg_temp.outcome('report', 133010) o;

-- Once, and over when somebody has acted
select pg_temp.report(131031);
select pg_temp.told(131042);
select pg_temp.told(131042);
select is((select count(*) from jobs.alerts where tenant_id = tests.id('pizza')), 1::bigint, 'the same trouble told again, and another beside it, is one alert');
select is((select status || ': ' || reason from public.notification_outbox where dedupe_key = 'm'), 'queued: WhatsApp 131031: the account is locked; see WhatsApp Manager (Theirs)', 'a message that failed for it waits');
select is(tests.answer('pizza admin', format('select public.resume_sending(%L)', tests.id('pizza'))), 'true', 'an admin resumes');
select is(pg_temp.alerts(), 'none', 'the alert is closed');
select pg_temp.told(131042, now() - interval '1 minute');
select is(pg_temp.alerts(), 'none', 'what WhatsApp tells late of the time before opens none');
update private.senders set resumed_at = now() - interval '1 hour';
select pg_temp.told(131042);
select isnt(pg_temp.alerts(), 'none', 'what happens after that does');
select public.remove_credential(tests.id('pizza'), 'whatsapp');
select isnt(pg_temp.alerts(), 'none', 'without a credential nothing is in order');
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "y"}', '{"phone_number_id": "2"}');
select is(pg_temp.alerts(), 'none', 'another account that is set in its place is');
select pg_temp.told(190, now() - interval '1 minute');
select is(pg_temp.alerts(), 'none', 'and is not called broken for what was told of the one before');
select pg_temp.told(190);
select isnt(pg_temp.alerts(), 'none', 'only for what is told of itself');
select is(tests.answer('pizza admin', format('select public.recheck_credential(%L, ''whatsapp'')', tests.id('pizza'))), 'true', 'what was repaired at WhatsApp is tried again');
select is(pg_temp.alerts(), 'none', 'and the alert is closed');

-- By the webhook; the platform's number
create function pg_temp.webhook(p_tenant_id uuid, p_number text) returns void language plpgsql as $$
declare
  v_body jsonb := jsonb_build_object('object', 'whatsapp_business_account', 'entry', jsonb_build_array(jsonb_build_object('id', '9', 'time', extract(epoch from clock_timestamp())::bigint,
    'changes', jsonb_build_array(jsonb_build_object('field', 'messages', 'value', jsonb_build_object('messaging_product', 'whatsapp', 'metadata', jsonb_build_object('phone_number_id', p_number),
      'errors', '[{"code": 131031, "title": "Business Account locked", "error_data": {"details": "Locked for a violation"}}]'::jsonb))))));
begin
  perform jobs.receive_webhook(p_tenant_id, 'whatsapp', v_body, encode(sha256(convert_to(v_body::text || p_tenant_id, 'UTF8')), 'hex'));
  perform tests.work();
end
$$;
update private.senders set resumed_at = now() - interval '1 hour';
select pg_temp.webhook(tests.id('pizza'), '7');
select is(pg_temp.alerts(), 'none', 'an error of another number is none of ours');
select pg_temp.webhook(tests.id('pizza'), '2');
select matches(pg_temp.alerts(), 'the account is locked; see WhatsApp Manager \(Locked for a violation\)', 'a webhook about the own account opens the alert');
select is((select count(*) from private.senders where stopped_at is not null and tenant_id <> tests.id('pizza')), 0::bigint, 'nobody else is stopped');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "p", "app_secret": "s"}', '{"phone_number_id": "3"}');
select pg_temp.webhook(jobs.platform_id(), '3');
select is((select count(*) from jobs.alerts where tenant_id is null and incident = 'sending whatsapp' and closed_at is null), 1::bigint, 'of the platform''s number the platform is told');

select * from finish();
rollback;
