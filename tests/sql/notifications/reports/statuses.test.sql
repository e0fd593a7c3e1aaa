-- What WhatsApp reports of messages: once or often, early or late, in any order.
begin;
select plan(37);
select tests.two_tenants();
delete from public.notification_outbox;
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');

-- A message of a tenant in some status, with the provider's id `wamid.<key>` unless it waits or nobody knows.
create function pg_temp.message(p_key text, p_status text, p_slug text default 'pizza', p_source text default 'tenant') returns uuid language plpgsql as $$
begin
  insert into public.notification_outbox (tenant_id, id, participant_id, kind, dedupe_key, recipient, body, status, sent_at, unknown_since, provider_message_id, credential_source)
  values (tests.id(p_slug), tests.id(p_key), tests.id(p_slug || '/' || p_slug || ' participant'), 'congratulation', p_key, '+491701234567', 'x', p_status::public.message_status,
    case when p_status = 'sent' then now() end, case when p_status = 'unknown' then now() end,
    case when p_status not in ('queued', 'unknown') then 'wamid.' || p_key end, case when p_status not in ('queued') then p_source end);
  return tests.id(p_key);
end
$$;
create function pg_temp.state(p_key text) returns text language sql as $$
  select concat_ws(' ', o.status, o.delivery, o.sent) from public.notification_outbox o where o.dedupe_key = p_key
$$;
-- Reports `sent`, `delivered`, … of a message, in this order, one call each; by our mark, or by the provider's id.
create function pg_temp.reports(p_key text, p_statuses text[], p_code text default '131026', p_marked boolean default true, p_by text default 'pizza', p_slug text default 'pizza') returns jsonb language plpgsql as $$
declare
  v_status text;
  v_answer jsonb;
begin
  foreach v_status in array p_statuses loop
    v_answer := private.record_message_statuses(tests.id(p_by), jsonb_build_array(jsonb_build_object('message_id', 'wamid.' || p_key, 'status', v_status,
      'callback', case when p_marked then tests.id(p_slug) || '/' || tests.id(p_key) end, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
      'code', case when v_status = 'failed' then p_code end)));
  end loop;
  return v_answer;
end
$$;

-- Every order of every set of reports gives the same end.
create table pg_temp.orders as
  with recursive walk as (
    select array[s] as path from unnest(array['sent', 'delivered', 'read', 'failed', 'played']) s
    union all
    select w.path || s from walk w, unnest(array['sent', 'delivered', 'read', 'failed', 'played']) s where cardinality(w.path) < 4 and s <> all (w.path)
  )
  select path, row_number() over () as n from walk;
select pg_temp.message('o' || n, 'sent'), pg_temp.reports('o' || n, path) from pg_temp.orders;
select ok(count(*) > 200, 'hundreds of orders are tried') from pg_temp.orders;
select is_empty($$
  select array(select unnest(path) order by 1) as reported, array_agg(distinct pg_temp.state('o' || n)) as ends from pg_temp.orders group by 1 having count(distinct pg_temp.state('o' || n)) > 1
$$, 'reports in any order end in the same state');
select is((select pg_temp.state('o' || n) from pg_temp.orders where path = array['read', 'delivered', 'sent']), 'sent read t', 'delivery only moves forward');
select is((select pg_temp.state('o' || n) from pg_temp.orders where path = array['sent', 'failed']), 'failed failed f', 'what was accepted and failed is not sent');
select is((select sent_at from public.notification_outbox where dedupe_key = (select 'o' || n from pg_temp.orders where path = array['sent', 'failed'])), null, 'and has no time of sending');
select is((select pg_temp.state('o' || n) from pg_temp.orders where path = array['failed', 'delivered']), 'sent delivered t', 'what arrived has not failed');
select is((select reason from public.notification_outbox where dedupe_key = (select 'o' || n from pg_temp.orders where path = array['failed'])), 'WhatsApp 131026: not delivered', 'a failure says why');
select is((select pg_temp.state('o' || n) from pg_temp.orders where path = array['played']), 'sent read t', 'what was played was read');

-- Unknown messages are reconciled
select pg_temp.message('u1', 'unknown');
select is(pg_temp.reports('u1', array['sent']) ->> 'updated', '1', 'a report settles what nobody knew');
select is(pg_temp.state('u1'), 'sent sent t', 'it was sent');
select is((select provider_message_id || coalesce(unknown_since::text, '') from public.notification_outbox where dedupe_key = 'u1'), 'wamid.u1', 'with its id, and nobody wonders any more');
select pg_temp.message('u2', 'unknown');
select pg_temp.reports('u2', array['failed']);
select is(pg_temp.state('u2'), 'failed failed f', 'or it was not');
select pg_temp.message('u3', 'unknown');
select is(pg_temp.reports('u3', array['sent'], p_marked => false) ->> 'unknown', '1', 'without our mark and without its id nobody knows which it is');

-- By the provider's id
select pg_temp.message('i1', 'sent');
select is(pg_temp.reports('i1', array['delivered'], p_marked => false) ->> 'updated', '1', 'a report without our mark is known by the provider''s id');
select is(pg_temp.reports('i1', array['delivered']) ->> 'unchanged', '1', 'the same again changes nothing');

-- Whose number
select pg_temp.message('other', 'sent', 'gym', 'platform');
select is(pg_temp.reports('other', array['read'], p_by => 'pizza', p_slug => 'gym') ->> 'unknown', '1', 'a tenant''s number says nothing about another tenant''s message, marked or not');
select is(pg_temp.reports('other', array['read'], p_marked => false, p_by => 'pizza') ->> 'unknown', '1', 'nor by its id');
select is(pg_temp.state('other'), 'sent t', 'which is as it was');
select is(private.record_message_statuses(null, jsonb_build_array(jsonb_build_object('message_id', 'wamid.other', 'status', 'read', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) ->> 'updated', '1', 'the platform''s number does');
select pg_temp.message('own', 'sent');
select is(private.record_message_statuses(null, jsonb_build_array(jsonb_build_object('message_id', 'wamid.own', 'callback', tests.id('pizza') || '/' || tests.id('own'), 'status', 'failed', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) ->> 'unknown', '1', 'but not of what a tenant''s own number sent');

-- Before the answer of the API
select pg_temp.message('early', 'queued');
select pg_temp.reports('early', array['delivered']);
select is(pg_temp.state('early'), 'queued delivered f', 'a report that overtakes the worker''s is kept');
select private.apply_messages(array[(tests.id('pizza'), 0, tests.id('early'), 'unknown', '{"status": "unknown", "reason": "the worker was lost"}', null, 'tenant')::jobs.ended]);
select is(pg_temp.state('early'), 'sent delivered t', 'and settles what the worker cannot know');
select pg_temp.message('early2', 'queued');
select pg_temp.reports('early2', array['failed'], '131042');
select private.apply_messages(array[(tests.id('pizza'), 0, tests.id('early2'), 'done', '{"status": "sent", "provider_message_id": "wamid.early2"}', null, 'tenant')::jobs.ended]);
select is((select stop_code from private.senders where tenant_id = tests.id('pizza')), 131042, 'a failure that overtakes it is acted on when the answer comes');

-- A second try: late reports of the first are no news, unless it arrived after all
select pg_temp.message('again', 'sent');
select pg_temp.reports('again', array['failed'], '131049');
select is(pg_temp.state('again'), 'queued f', 'a message that is to go again waits');
select pg_temp.reports('again', array['failed', 'sent'], '131049');
select is(pg_temp.state('again'), 'queued f', 'the first failure, told twice, is no second one');
select is((select resends::integer from public.notification_outbox where dedupe_key = 'again'), 1, 'and counts once');
select pg_temp.reports('again', array['delivered']);
select is(pg_temp.state('again'), 'sent delivered t', 'when the first arrived after all there is no second');

-- Consent withdrawn meanwhile: the record says what happened
select pg_temp.message('late', 'queued');
update public.participants set whatsapp_opt_in_at = null where id = tests.id('pizza/pizza participant');
select is(pg_temp.state('late'), 'no_consent f', 'a message that waits ends with the consent');
select private.apply_messages(array[(tests.id('pizza'), 0, tests.id('late'), 'done', '{"status": "sent", "provider_message_id": "w"}', null, 'tenant')::jobs.ended]);
select is(pg_temp.state('late'), 'sent sent t', 'one that was on its way was sent');

-- Bad input
select is(private.record_message_statuses(tests.id('pizza'), p), e, format('%s is skipped and counted', left(p::text, 60)))
from (values
  ('[null, 1, "x", [], {}]'::jsonb, '{"unknown": 0, "skipped": 5, "updated": 0, "unchanged": 0}'::jsonb),
  ('[{"message_id": "a", "status": "eaten", "at": "2026-11-22T10:00:00Z"}, {"message_id": 1e400, "status": "read", "at": "tomorrow"}, {"message_id": "", "status": "read", "at": "2026-11-22T10:00:00Z"}]', '{"unknown": 0, "skipped": 3, "updated": 0, "unchanged": 0}'),
  (jsonb_build_array(jsonb_build_object('message_id', 'a', 'status', 'read', 'at', 'infinity'), jsonb_build_object('message_id', 'a', 'status', 'read', 'at', '2999-01-01T00:00:00Z')), '{"unknown": 0, "skipped": 2, "updated": 0, "unchanged": 0}'),
  (jsonb_build_array(jsonb_build_object('message_id', 'nobody', 'callback', '../x', 'status', 'failed', 'code', 'x', 'at', to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))), '{"unknown": 1, "skipped": 0, "updated": 0, "unchanged": 0}')) as v (p, e);
select is(private.record_message_statuses(tests.id('pizza'), '{}') ->> 'updated', '0', 'what is no list has no reports');

-- Many
select pg_temp.message('many' || n, 'sent') from generate_series(1, 1000) n;
create table pg_temp.many as select jsonb_agg(jsonb_build_object('message_id', 'wamid.many' || n, 'callback', tests.id('pizza') || '/' || tests.id('many' || n), 'status', 'delivered', 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) order by n) as p from generate_series(1, 1000) n;
create table pg_temp.clock as select clock_timestamp() as at;
select is(private.record_message_statuses(tests.id('pizza'), p) ->> 'updated', '1000', 'a thousand reports are one call') from pg_temp.many;
select ok(clock_timestamp() - at < interval '5 seconds', 'of seconds, not of minutes') from pg_temp.clock;
select is((select count(*) from public.notification_outbox where dedupe_key like 'many%' and delivery = 'delivered'), 1000::bigint, 'each is noted');

select * from finish();
rollback;
