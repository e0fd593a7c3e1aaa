-- Messages of which nobody knows whether they left: sent again only where that was chosen, or where a key makes it safe.
begin;
select plan(15);
select tests.two_tenants();
delete from public.notification_outbox;
delete from jobs.items;
create function pg_temp.unknown(p_key text, p_age interval, p_channel text default 'whatsapp', p_slug text default 'pizza') returns void language sql as $$
  insert into public.notification_outbox (tenant_id, kind, channel, dedupe_key, recipient, subject, body, status, unknown_since, first_tried_at)
  values (tests.id(p_slug), 'congratulation', p_channel, p_key, '+491701234567', 'x', 'x', 'unknown', now() - p_age, now() - p_age)
$$;
create function pg_temp.works(p_slug text default 'pizza') returns text language plpgsql as $$
begin
  perform private.reconcile_messages(tests.id(p_slug), null, null);
  return (select coalesce(string_agg(o.dedupe_key, ' ' order by o.dedupe_key), 'none') from public.notification_outbox o where o.status = 'queued' and o.tenant_id = tests.id(p_slug));
end
$$;
select pg_temp.unknown('old', '20 minutes');
select pg_temp.unknown('new', '5 minutes');
select pg_temp.unknown('ancient', '2 days');
select pg_temp.unknown('gym', '20 minutes', 'whatsapp', 'gym');
select is(private.something_to_reconcile(), false, 'by default nothing is sent again');
select is(pg_temp.works(), 'none', 'not even when the job is started by hand');
select is(tests.rows('pizza member', 'update public.message_settings set resend_unknown = true'), '0', 'a member does not choose it');
select is(tests.rows('pizza admin', 'update public.message_settings set resend_unknown = true'), '1', 'an admin does');
select is((select string_agg(t::text, ' ') from private.tenants_to_reconcile() t), tests.id('pizza')::text, 'for the own tenant');
select is(pg_temp.works(), 'old', 'after 15 minutes such a message goes again, one of days ago does not');
select is(pg_temp.works('gym'), 'none', 'another tenant''s stays unknown');
select is((select count(*) from jobs.items where job = 'send-notifications'), 1::bigint, 'it has an item again');
select is((select reason || ' ' || resends from public.notification_outbox where dedupe_key = 'old'), 'sent again: nobody knew whether it had left 1', 'and says so');
update public.notification_outbox set status = 'unknown', unknown_since = now() - interval '20 minutes' where dedupe_key = 'old';
select is(pg_temp.works(), 'none', 'once: a second time it stays unknown');
-- The report comes before the 15 minutes are over
select private.record_message_statuses(tests.id('pizza'), jsonb_build_array(jsonb_build_object('message_id', 'w', 'callback', tenant_id || '/' || id, 'status', 'delivered', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) from public.notification_outbox where dedupe_key = 'new';
update public.notification_outbox set updated_at = now() where dedupe_key = 'new';
select is(pg_temp.works(), 'none', 'what WhatsApp has reported on does not go again');
select is((select status::text from public.notification_outbox where dedupe_key = 'new'), 'sent', 'since it was sent');

-- E-mail
select pg_temp.unknown('mail', '20 minutes', 'email', 'gym');
select pg_temp.unknown('old mail', '25 hours', 'email', 'gym');
select is(pg_temp.works('gym'), 'mail', 'an e-mail goes again within the life of its key, whatever was chosen');
select is((select count(*) from jobs.items where job = 'send-emails'), 1::bigint, 'by its own job');
select is((select kind::text || ' ' || schedule from jobs.definitions where job = 'reconcile-messages'), 'sql */5 * * * *', 'the job looks every five minutes');

select * from finish();
rollback;
