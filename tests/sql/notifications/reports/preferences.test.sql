-- WhatsApp's own switch for a business's marketing messages.
begin;
select plan(13);
select tests.two_tenants();
update public.message_templates set category = 'marketing';
create function pg_temp.switch(p_value text, p_ago interval default '0', p_slug text default 'pizza') returns jsonb language sql as $$
  select private.record_preferences(case when p_slug is not null then tests.id(p_slug) end, jsonb_build_array(jsonb_build_object('wa_id', '491701234567', 'category', 'marketing_messages', 'value', p_value,
    'at', to_char((now() - p_ago) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))))
$$;
create function pg_temp.offer(p_key text) returns text language plpgsql as $$
declare
  v_id uuid := private.queue_message(tests.id('pizza'), 'alert', 'whatsapp', tests.id('pizza/pizza participant'), '{"message": "x"}', p_key);
begin
  return (select o.status from public.notification_outbox o where o.id = v_id);
end
$$;
select is(pg_temp.offer('a'), 'queued', 'marketing goes to who did not switch it off');
select is(pg_temp.switch('stop', '30 minutes') ->> 'stopped', '1', 'who switches it off is noted');
select is((select status::text from public.notification_outbox where dedupe_key = 'a'), 'no_consent', 'what waits of it ends');
select is((select status::text from public.notification_outbox where tenant_id = tests.id('pizza') and kind::text = 'congratulation'), 'queued', 'utility messages do not');
select ok((select whatsapp_opt_in_at is not null from public.participants where id = tests.id('pizza/pizza participant')), 'nor does the consent to messages at all');
select is(pg_temp.offer('b'), 'no_consent', 'no new one is queued');
select is(pg_temp.switch('stop', '30 minutes') ->> 'stopped', '0', 'the same again is no news');
select is(pg_temp.switch('resume', '40 minutes') ->> 'resumed', '0', 'nor is what was before it');
select is(pg_temp.switch('resume', '10 minutes') ->> 'resumed', '1', 'who switches it on again is noted');
select is(pg_temp.offer('c'), 'queued', 'and gets marketing again');
select is(pg_temp.switch('stop', '20 minutes') ->> 'stopped', '0', 'a report that comes late changes nothing');
select is(private.record_preferences(tests.id('pizza'), '[1, {}, {"wa_id": "491701234567", "category": "marketing_messages", "value": "maybe", "at": "2026-11-22T10:00:00Z"}]'), '{"resumed": 0, "skipped": 3, "stopped": 0, "recorded": 0}', 'what is no preference is skipped and counted');
select is((select count(*) from public.opt_ins where tenant_id = tests.id('gym') and category = 'marketing'), 0::bigint, 'another business is not concerned');

select * from finish();
rollback;
