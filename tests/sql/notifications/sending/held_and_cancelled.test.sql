-- From outbox to worker: held outside the campaign's hours, cancelled when there is no reason for it any more, sent otherwise.
begin;
select plan(26);
select tests.two_tenants();
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');

-- The hours around now in which messages may leave (an hour ago until in an hour), or may not.
create function pg_temp.hours(p_slug text, p_open boolean) returns void language sql as $$
  update public.campaigns set notify_from = (clock_timestamp() at time zone 'UTC')::time + case when p_open then interval '-1 hour' else interval '1 hour' end,
    notify_until = (clock_timestamp() at time zone 'UTC')::time + case when p_open then interval '1 hour' else interval '3 hours' end, time_zone = 'UTC'
  where tenant_id = tests.id(p_slug)
$$;
create function pg_temp.outbox(p_slug text) returns public.notification_outbox language sql as $$ select o from public.notification_outbox o where o.tenant_id = tests.id(p_slug) $$;

-- Held
select pg_temp.hours('pizza', false);
select pg_temp.hours('gym', true);
create table pg_temp.batch as select tests.claim('send-notifications') as b;
select is(tests.served(b), 'gym 1', 'outside of the hours a message is held, the others go') from pg_temp.batch;
select is((pg_temp.outbox('pizza')).status::text, 'queued', 'it stays queued');
select is((pg_temp.outbox('pizza')).reason, 'quiet hours', 'members see why');
select ok((pg_temp.outbox('pizza')).held_until between clock_timestamp() + interval '59 minutes' and clock_timestamp() + interval '1 hour', 'and until when');
select is(tests.lane('send-notifications', 'pizza'), 'asleep: quiet hours, wakes', 'the lane sleeps until then');
select is((select attempts + tries from jobs.items where job = 'send-notifications' and tenant_id = tests.id('pizza')), 0, 'no attempt is counted');
select is((select count(*) from jobs.attempts where job = 'send-notifications' and tenant_id = tests.id('pizza')), 0::bigint, 'and none is remembered');

-- What the worker gets
select is((select data ->> 'to' from tests.items_of(b)), '+491701234567', 'the worker gets the number') from pg_temp.batch;
select matches((select data ->> 'text' from tests.items_of(b)), '^Congratulations', 'the text') from pg_temp.batch;
select ok((select (data ->> 'send_before')::timestamptz from tests.items_of(b)) between clock_timestamp() + interval '59 minutes' and clock_timestamp() + interval '1 hour', 'and until when it may leave') from pg_temp.batch;
select is(b -> 'tenants' -> 0 -> 'credential' ->> 'source', 'platform', 'with the platform''s credential where the tenant has none') from pg_temp.batch;

-- Sent
select tests.close(b, '{"outcome": "done", "result": {"status": "sent", "provider_message_id": "wamid.1"}}') from pg_temp.batch;
select is((pg_temp.outbox('gym')).status::text, 'sent', 'a message that was sent is marked as sent');
select is((pg_temp.outbox('gym')).sent, true, 'by its flag too');
select isnt((pg_temp.outbox('gym')).sent_at, null, 'with the time');
select is((pg_temp.outbox('gym')).provider_message_id || ' ' || (pg_temp.outbox('gym')).credential_source, 'wamid.1 platform', 'the provider''s id, and whose credential it was');

-- The campaign changes while the message is held
create function pg_temp.after(p_change text) returns text language plpgsql as $$
declare
  v_result text;
begin
  execute p_change;
  perform tests.pass('2 hours');
  update private.conversations set next_at = next_at - interval '2 hours';
  v_result := tests.served(tests.claim('send-notifications'));
  v_result := v_result || ', ' || (pg_temp.outbox('pizza')).status || ': ' || coalesce((pg_temp.outbox('pizza')).reason, '');
  raise exception using errcode = 'P9999', message = v_result;
exception when sqlstate 'P9999' then
  -- back to how it was
  return sqlerrm;
end
$$;
select is(pg_temp.after($$ select pg_temp.hours('pizza', true) $$), 'pizza 1, queued: quiet hours', 'when the hours begin it goes to the worker');
select is(pg_temp.after($$ update public.campaigns set status = 'ended' $$), 'nothing, cancelled: the campaign has ended', 'when the campaign ends it is cancelled');
select is(pg_temp.after($$ update public.campaigns set starts_at = now() - interval '2 days', ends_at = now() - interval '1 second' $$), 'nothing, cancelled: the campaign has ended', 'also by its end date');
select is(pg_temp.after($$ update public.campaigns set notifications_enabled = false $$), 'nothing, disabled: notifications are switched off in this campaign', 'when notifications are switched off it is disabled');
select matches(pg_temp.after($$ update public.participants set whatsapp_opt_in_at = null $$), '^nothing, no_consent', 'when consent is withdrawn it is not sent');
select matches(pg_temp.after($$ update public.campaigns set notify_from = '12:00', notify_until = '12:00' $$), '^nothing, queued', 'hours that never come hold it, they do not lose it');

-- Other ends
create function pg_temp.ends(p_outcome text, p_result jsonb, p_error text) returns text language plpgsql as $$
begin
  update public.notification_outbox set status = 'queued', sent_at = null, reason = null where tenant_id = tests.id('pizza');
  perform private.apply_messages(array[(o.tenant_id, 0, o.id, p_outcome, p_result, p_error, 'tenant')::jobs.ended]) from public.notification_outbox o where o.tenant_id = tests.id('pizza');
  return (pg_temp.outbox('pizza')).status || ': ' || coalesce((pg_temp.outbox('pizza')).reason, '');
end
$$;
select is(pg_temp.ends('unknown', '{"status": "unknown", "reason": "no answer"}', null), 'unknown: no answer', 'an ambiguous answer is unknown');
select is(pg_temp.ends('dead', null, 'not a number'), 'failed: not a number', 'a refused message has failed');
select is(pg_temp.ends('cancelled', null, 'cancelled by the platform'), 'cancelled: cancelled by the platform', 'a cancelled one is cancelled');
select private.apply_messages(array[(o.tenant_id, 0, o.id, 'done', '{"status": "sent"}', null, 'tenant')::jobs.ended]) from public.notification_outbox o where o.tenant_id = tests.id('pizza');
select is((pg_temp.outbox('pizza')).status::text, 'cancelled', 'a message is decided once');
select is((select count(*) from public.notification_outbox where sent), 1::bigint, 'one message was sent in all this');

select * from finish();
rollback;
