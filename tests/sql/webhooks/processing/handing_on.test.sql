-- What becomes of a stored body. The functions that it is handed to are replaced by ones that write down what they got.
begin;
select plan(33);
select tests.two_tenants();
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "t", "app_secret": "s"}', '{"page_id": "100", "ig_user_id": "178"}');
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "106"}');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "t"}', '{"phone_number_id": "999"}');

create table tests.handed (n bigint generated always as identity, name text, tenant_id uuid, entries jsonb);
grant all on tests.handed to public;
create or replace function private.record_signals(p_tenant_id uuid, p_signals jsonb) returns jsonb language sql set search_path = '' as $$
  insert into tests.handed (name, tenant_id, entries) values ('signals', p_tenant_id, p_signals);
  select jsonb_build_object('recorded', jsonb_array_length(p_signals), 'skipped', 0, 'decided', 0)
$$;
create or replace function private.record_whatsapp_inbound(p_tenant_id uuid, p_messages jsonb) returns jsonb language sql set search_path = '' as $$
  insert into tests.handed (name, tenant_id, entries) values ('inbound', p_tenant_id, p_messages);
  select jsonb_build_object('recorded', jsonb_array_length(p_messages))
$$;
create or replace function private.record_message_statuses(p_tenant_id uuid, p_statuses jsonb) returns jsonb language sql set search_path = '' as $$
  insert into tests.handed (name, tenant_id, entries) values ('statuses', p_tenant_id, p_statuses);
  select jsonb_build_object('recorded', jsonb_array_length(p_statuses))
$$;
create or replace function private.record_preferences(p_tenant_id uuid, p_preferences jsonb) returns jsonb language sql set search_path = '' as $$
  insert into tests.handed (name, tenant_id, entries) values ('preferences', p_tenant_id, p_preferences);
  select jsonb_build_object('recorded', jsonb_array_length(p_preferences))
$$;

-- A body comes in, and all waiting SQL work is done, as after a tick.
create function pg_temp.tell(p_slug text, p_source text, p_body jsonb) returns void language plpgsql as $$
begin
  perform jobs.receive_webhook(case p_slug when 'platform' then jobs.platform_id() else tests.id(p_slug) end, p_source, p_body, encode(sha256(convert_to(p_body::text, 'UTF8')), 'hex'));
  perform tests.work();
end
$$;
create function pg_temp.instagram(p_changes jsonb) returns jsonb language sql as $$
  select jsonb_build_object('object', 'instagram', 'entry', jsonb_build_array(jsonb_build_object('id', '178', 'time', extract(epoch from now())::bigint, 'changes', p_changes)))
$$;
create function pg_temp.feed(p_verb text, p_comment text, p_age interval default '0') returns jsonb language sql as $$
  select jsonb_build_object('object', 'page', 'entry', jsonb_build_array(jsonb_build_object('id', '100', 'time', extract(epoch from now())::bigint, 'changes', jsonb_build_array(
    jsonb_build_object('field', 'feed', 'value', jsonb_build_object('item', 'comment', 'verb', p_verb, 'comment_id', p_comment, 'post_id', '100_1', 'message', 'hi',
      'from', '{"id": "700"}'::jsonb, 'created_time', extract(epoch from now() - p_age)::bigint))))))
$$;
create function pg_temp.whatsapp(p_value jsonb, p_field text default 'messages', p_number text default '106') returns jsonb language sql as $$
  select jsonb_build_object('object', 'whatsapp_business_account', 'entry', jsonb_build_array(jsonb_build_object('id', '1', 'changes', jsonb_build_array(
    jsonb_build_object('field', p_field, 'value', jsonb_build_object('metadata', jsonb_build_object('phone_number_id', p_number)) || p_value)))))
$$;
create function pg_temp.handed(p_name text) returns text language sql as $$
  select coalesce(string_agg(coalesce(e ->> 'external_id', e ->> 'message_id', e ->> 'wa_id'), ' ' order by h.n, o), 'nothing')
  from tests.handed h, jsonb_array_elements(h.entries) with ordinality as x (e, o) where h.name = p_name
$$;
create function pg_temp.counts() returns jsonb language sql as $$
  select e.counts from private.webhook_events e order by e.processed_at desc nulls last, e.received_at desc limit 1
$$;

-- Meta
select pg_temp.tell('pizza', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c1", "text": "a", "from": {"id": "5"}}}, {"field": "story_insights", "value": {}},
  {"field": "comments", "value": {"id": "c2", "text": "b", "from": {"id": "178"}}}, {"field": "comments", "value": {"id": "c3", "text": "c", "from": {"id": "6"}}}]'));
select is(pg_temp.handed('signals'), 'c1 c3', 'the comments of a body are handed on together, in their order');
select is((select array_agg(distinct tenant_id) from tests.handed), array[tests.id('pizza')], 'for the tenant whose address they came to');
select is(pg_temp.counts(), '{"updates": 4, "ignored": {"own": 1, "unknown field story_insights": 1}, "signals": {"recorded": 2, "skipped": 0, "decided": 0}}'::jsonb, 'the event says what was found and what was ignored');
select is((select count(*) from private.webhook_events where processed_at is null), 0::bigint, 'it is processed');
select is((select count(*) from jobs.items where job = 'process-webhooks'), 0::bigint, 'and its item is done');
select pg_temp.tell('pizza', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c1", "text": "a", "from": {"id": "5"}}}, {"field": "story_insights", "value": {}},
  {"field": "comments", "value": {"id": "c2", "text": "b", "from": {"id": "178"}}}, {"field": "comments", "value": {"id": "c3", "text": "c", "from": {"id": "6"}}}]'));
select is(pg_temp.handed('signals'), 'c1 c3', 'the same body again is not handed on again');
select is(private.process_webhook(tests.id('pizza'), (select id from private.webhook_events limit 1)), null, 'nor is an event that is processed');

-- The account
select pg_temp.tell('gym', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c4", "text": "a", "from": {"id": "5"}}}]'));
select is((select array_agg(distinct tenant_id) from tests.handed h, jsonb_array_elements(h.entries) e where e ->> 'external_id' = 'c4'), array[tests.id('gym')],
  'a body that names another tenant''s account changes nothing there: the address decides whose it is');
select public.set_credential(tests.id('gym'), 'meta', 'instagram_login', '{"access_token": "t", "app_secret": "s"}', '{"ig_user_id": "179"}');
select pg_temp.tell('gym', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c5", "text": "a", "from": {"id": "5"}}}]'));
select is(pg_temp.counts(), '{"updates": 1, "ignored": {"other account": 1}}'::jsonb, 'and once the own account is known it is ignored altogether');

-- Removal
truncate tests.handed;
select pg_temp.tell('pizza', 'meta', pg_temp.feed('add', '1_1', '1 minute'));
select pg_temp.tell('pizza', 'meta', pg_temp.feed('remove', '1_1'));
select is(pg_temp.handed('signals'), '1_1', 'a comment is handed on before it is removed');
select is((select count(*) from private.webhook_removals where tenant_id = tests.id('pizza') and external_id = '1_1'), 1::bigint, 'its removal is kept');
select pg_temp.tell('pizza', 'meta', pg_temp.feed('remove', '1_2'));
select pg_temp.tell('pizza', 'meta', pg_temp.feed('add', '1_2', '1 minute'));
select is(pg_temp.handed('signals'), '1_1', 'a comment that is told of after its removal is not handed on');
select is(pg_temp.counts() -> 'ignored', '{"removed": 1}'::jsonb, 'it is counted as removed');
select pg_temp.tell('pizza', 'meta', jsonb_set(pg_temp.feed('add', '1_3', '1 minute'), '{entry,0,changes}',
  (pg_temp.feed('remove', '1_3') #> '{entry,0,changes}') || (pg_temp.feed('add', '1_3', '1 minute') #> '{entry,0,changes}')));
select is(pg_temp.handed('signals'), '1_1', 'nor is one that is removed in the same body, whatever their order');
select pg_temp.tell('gym', 'meta', pg_temp.feed('add', '1_2', '1 minute'));
select is((select count(*) from tests.handed where tenant_id = tests.id('gym')), 1::bigint, 'a removal at one tenant is none at another');

-- WhatsApp
truncate tests.handed;
select pg_temp.tell('pizza', 'whatsapp', pg_temp.whatsapp('{"messages": [{"from": "491", "id": "w1", "timestamp": "1763632800", "type": "text", "text": {"body": "OC-ABCD2345"}}], "statuses": [{"id": "w2", "status": "sent"}],
  "errors": [{"code": 131031, "title": "Locked"}]}'));
select is(pg_temp.handed('inbound') || ', ' || pg_temp.handed('statuses'), 'w1, w2', 'messages and statuses each go their way');
select is((select entries -> 0 from tests.handed where name = 'signals'), '{"surface": "whatsapp", "kind": "message", "external_id": "w1", "author_id": "491", "target_id": "106", "text": "OC-ABCD2345", "happened_at": "2025-11-20T10:00:00+00:00"}'::jsonb,
  'a message is a signal, too: its code may prove a claim');
select is((select entries -> 0 ? 'number_id' from tests.handed where name = 'inbound'), false, 'what is handed on has the agreed shape');
select is((select errors #- '{0,at}' from private.webhook_events where source = 'whatsapp'), '[{"code": 131031, "title": "Locked"}]'::jsonb, 'an error of the account stands in the event');
select pg_temp.tell('pizza', 'whatsapp', pg_temp.whatsapp('{"user_preferences": [{"wa_id": "491", "category": "marketing_messages", "value": "stop"}]}', 'user_preferences'));
select is(pg_temp.handed('preferences'), '491', 'a preference goes its way');
truncate tests.handed;
select pg_temp.tell('pizza', 'whatsapp', pg_temp.whatsapp('{"messages": [{"from": "491", "id": "w9", "type": "text", "text": {"body": "STOP"}}]}', 'messages', '107'));
select is((select count(*) from tests.handed), 0::bigint, 'nothing is handed on for a number that is not the tenant''s');
select pg_temp.tell('platform', 'whatsapp', pg_temp.whatsapp('{"messages": [{"from": "491", "id": "w10", "type": "text", "text": {"body": "STOP"}}], "statuses": [{"id": "w11", "status": "read"}]}', 'messages', '999'));
select is((select string_agg(name || coalesce(tenant_id::text, ' of the platform'), ', ' order by n) from tests.handed), 'inbound of the platform, statuses of the platform', 'the platform''s number has no tenant');
select pg_temp.tell('platform', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c9", "text": "a", "from": {"id": "5"}}}]'));
select is(pg_temp.counts() ->> 'not_routed', '1', 'what the platform''s Meta app tells is counted and not guessed to be a tenant''s');

-- Size
truncate tests.handed;
create table pg_temp.large as select pg_temp.instagram((select jsonb_agg(jsonb_build_object('field', 'comments', 'value',
  jsonb_build_object('id', 'big' || n, 'text', 'Hi OC-ABCD2345', 'from', jsonb_build_object('id', (n + 1000)::text, 'username', 'u' || n), 'media', '{"id": "m1"}'::jsonb))) from generate_series(1, 5000) n)) as body,
  clock_timestamp() as started_at;
select pg_temp.tell('pizza', 'meta', body) from pg_temp.large;
select is((select jsonb_array_length(entries) from tests.handed), 5000, 'thousands of updates in one body are handed on at once');
select ok((select clock_timestamp() - started_at < interval '10 seconds' from pg_temp.large), 'in a moment, even on a busy machine');
truncate tests.handed;
create table pg_temp.busy as select pg_temp.whatsapp((select jsonb_build_object('statuses', jsonb_agg(jsonb_build_object('id', 's' || n, 'status', 'delivered', 'timestamp', '1763632800', 'recipient_id', '49' || n))) ||
  jsonb_build_object('contacts', jsonb_agg(jsonb_build_object('wa_id', '49' || n, 'profile', jsonb_build_object('name', repeat('n', 50)))), 'messages', jsonb_agg(jsonb_build_object('id', 'i' || n, 'from', '49' || n, 'type', 'text', 'text', '{"body": "hi"}'::jsonb)))
  from generate_series(1, 1000) n)) as body, clock_timestamp() as started_at;
select pg_temp.tell('pizza', 'whatsapp', body) from pg_temp.busy;
select is((select string_agg(name || ' ' || jsonb_array_length(entries), ', ' order by n) from tests.handed), 'inbound 1000, signals 1000, statuses 1000', 'so are those of WhatsApp');
select ok((select clock_timestamp() - started_at < interval '10 seconds' from pg_temp.busy), 'in a moment as well');

-- Failure
create or replace function private.record_signals(p_tenant_id uuid, p_signals jsonb) returns jsonb language plpgsql set search_path = '' as $$ begin raise exception 'not today'; end $$;
select pg_temp.tell('pizza', 'meta', pg_temp.instagram('[{"field": "comments", "value": {"id": "c6", "text": "a", "from": {"id": "5"}}}]'));
select is((select last_error from jobs.items where job = 'process-webhooks' and tenant_id = tests.id('pizza')), 'not today (P0001)', 'what cannot be recorded is tried again');
select is((select count(*) from private.webhook_events where tenant_id = tests.id('pizza') and processed_at is null and body is not null), 1::bigint, 'its body stays until then');

-- The end
select is(private.purge_webhooks(jobs.platform_id(), null, '{}'), '{"webhook_events": 0}'::jsonb, 'nothing is purged before its time');
update private.webhook_events set received_at = now() - interval '31 days' where source = 'whatsapp';
select is(private.purge_webhooks(jobs.platform_id(), null, '{}'), '{"webhook_events": 5}'::jsonb, 'after 30 days at the latest a body is purged');
select is((select count(*) from private.webhook_events where source = 'whatsapp'), 0::bigint, 'and gone');
delete from public.tenants where slug = 'pizza';
select is((select count(*) from private.webhook_events where tenant_id = tests.id('pizza')) + (select count(*) from private.webhook_removals where tenant_id = tests.id('pizza')), 0::bigint, 'a deleted tenant takes its events along');

select * from finish();
rollback;
