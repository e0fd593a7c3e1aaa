-- From the body of a webhook to what it is for: claims that are decided, accounts that are linked, people who are left alone.
begin;
select plan(19);
select tests.two_tenants();
select public.set_credential(tests.id(s), 'meta', 'facebook_login', '{"access_token": "t", "app_secret": "s"}', jsonb_build_object('page_id', '100', 'ig_user_id', a))
  from (values ('pizza', '178'), ('gym', '179')) as v (s, a);
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "106"}');
select tests.task_of('pizza', t, t) from unnest(array['instagram_comment', 'instagram_story_mention', 'whatsapp_join', 'link_visit']) t;
select tests.participant('pizza', 'anna');
select tests.participant('pizza', 'ben');
select tests.claim_task('pizza', 'anna', t) from unnest(array['instagram_comment', 'instagram_story_mention', 'whatsapp_join', 'link_visit']) t;

create function pg_temp.code(p_task text) returns text language sql as $$
  select c.code from public.completions c where c.task_id = tests.id(p_task) and c.participant_id = tests.id('pizza/anna')
$$;
create function pg_temp.status(p_task text) returns text language sql as $$
  select concat_ws(' ', c.status, c.method) from public.completions c where c.task_id = tests.id(p_task) and c.participant_id = tests.id('pizza/anna')
$$;
create function pg_temp.tell(p_slug text, p_source text, p_entry jsonb, p_object text default 'instagram') returns jsonb language plpgsql as $$
declare
  v_body jsonb := jsonb_build_object('object', p_object, 'entry', jsonb_build_array(p_entry));
begin
  perform jobs.receive_webhook(tests.id(p_slug), p_source, v_body, encode(sha256(convert_to(v_body::text, 'UTF8')), 'hex'));
  perform tests.work();
  return (select e.counts from private.webhook_events e where e.body = v_body and e.tenant_id = tests.id(p_slug));
end
$$;
create function pg_temp.seconds() returns bigint language sql as $$ select extract(epoch from clock_timestamp())::bigint $$;

-- A comment with the code of a claim
create table pg_temp.comment as select jsonb_build_object('id', '178', 'time', pg_temp.seconds(), 'changes', jsonb_build_array(jsonb_build_object('field', 'comments', 'value', jsonb_build_object(
  'id', '18000000000000001', 'text', 'Lovely! ' || lower(pg_temp.code('instagram_comment')), 'from', '{"id": "555", "username": "Anna.Bakes"}'::jsonb, 'media', '{"id": "17900000000000001"}'::jsonb)))) as entry;
select pg_temp.tell('gym', 'meta', entry) from pg_temp.comment;
select is(pg_temp.status('instagram_comment'), 'pending', 'a comment told at another tenant''s address proves nothing');
select is((select pg_temp.tell('pizza', 'meta', entry) -> 'signals' from pg_temp.comment), '{"recorded": 1, "skipped": 0, "decided": 1}'::jsonb, 'told at the own one it is recorded and decides');
select is(pg_temp.status('instagram_comment'), 'verified webhook', 'the claim is verified');
select is((select evidence ->> 'author_id' from public.completions where task_id = tests.id('instagram_comment')), '555', 'by ids');
select is((select external_id || ' ' || username from public.linked_accounts where tenant_id = tests.id('pizza')), '555 anna.bakes', 'and the account is linked');

-- A story mention of the account that is linked now
select pg_temp.tell('pizza', 'meta', jsonb_build_object('id', '178', 'time', pg_temp.seconds() * 1000, 'messaging', jsonb_build_array(jsonb_build_object(
  'sender', '{"id": "555"}'::jsonb, 'recipient', '{"id": "178"}'::jsonb, 'timestamp', pg_temp.seconds() * 1000, 'message', '{"mid": "mid.1", "attachments": [{"type": "story_mention", "payload": {"url": "https://cdn.example/1"}}]}'::jsonb))));
select is(pg_temp.status('instagram_story_mention'), 'verified webhook', 'a story of the linked account proves a story mention');
select is((select count(*) from private.signals s where s::text like '%cdn.example%'), 0::bigint, 'without its media');

-- WhatsApp
create function pg_temp.write(p_id text, p_text text) returns jsonb language sql as $$
  select pg_temp.tell('pizza', 'whatsapp', jsonb_build_object('id', '1', 'changes', jsonb_build_array(jsonb_build_object('field', 'messages', 'value', jsonb_build_object('metadata', '{"phone_number_id": "106"}'::jsonb,
    'messages', jsonb_build_array(jsonb_build_object('from', '491701234567', 'id', p_id, 'timestamp', pg_temp.seconds()::text, 'type', 'text', 'text', jsonb_build_object('body', p_text))))))), 'whatsapp_business_account')
$$;
select pg_temp.write('wamid.1', 'Hi, ' || pg_temp.code('whatsapp_join'));
select is(pg_temp.status('whatsapp_join'), 'verified webhook', 'a message with the code proves who joined');
select isnt((select whatsapp_opt_in_at from public.participants where id = tests.id('pizza/anna')), null, 'who wrote something else still gets messages');
select pg_temp.write('wamid.2', 'STOP');
select is((select whatsapp_opt_in_at from public.participants where id = tests.id('pizza/anna')), null, 'who wrote STOP gets none');

-- A visit
select is(jobs.record_visit('pizza', pg_temp.code('link_visit')), (select replace(url, '{code}', pg_temp.code('link_visit')) from public.social_tasks where id = tests.id('link_visit')), 'the link leads to the task''s url');
select is(pg_temp.status('link_visit'), 'verified link', 'and proves the visit at once');

-- Forgotten
select jobs.receive_deletion(tests.id('pizza'), '555', repeat('f', 64));
select tests.work();
select is((select count(*) from public.linked_accounts where tenant_id = tests.id('pizza') and external_id = '555') || ' ' || (select count(*) from private.signals where tenant_id = tests.id('pizza') and author_id = '555'),
  '0 0', 'after a deletion neither the account nor its signals are known');
select is((select count(*) from public.completions c where c.tenant_id = tests.id('pizza') and c.evidence::text ~ '"555"|anna'), 0::bigint, 'nor does any evidence name the person');
select is((select count(*) from public.completion_decisions d where d.tenant_id = tests.id('pizza') and d.evidence::text ~ '"555"|anna'), 0::bigint, 'nor any decision');
select is((select count(*) from public.completion_decisions d where d.tenant_id = tests.id('pizza') and d.participant_id = tests.id('pizza/anna') and d.to_status = 'verified'), 4::bigint, 'though all decisions are there');
select is((select count(*) from private.proofs p where p.tenant_id = tests.id('pizza') and p.proof !~ '^forgotten:[0-9a-f]{64}$' and p.proof ~ '555|anna'), 0::bigint, 'nor any proof');
select is((select count(*) from private.webhook_events e where e.tenant_id = tests.id('pizza') and e.body::text ~ '"555"'), 0::bigint, 'nor any stored body');
select is(pg_temp.status('instagram_comment'), 'verified webhook', 'while what was decided stays decided');

select * from finish();
rollback;
