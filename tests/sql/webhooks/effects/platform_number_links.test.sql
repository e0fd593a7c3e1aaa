-- Link codes at the platform's own WhatsApp number: the code alone says which participant of which tenant writes.
begin;
select plan(18);
select tests.two_tenants();
select tests.participant('pizza', p) from unnest(array['anna', 'ben']) p;
select tests.participant('gym', 'anna');
create function pg_temp.start(p_slug text, p_person text, p_platform text default 'whatsapp') returns jsonb language sql as $$
  select tests.answer(p_person, format('select public.start_linking(%L, %L)', tests.id(p_slug), p_platform))::jsonb
$$;
create function pg_temp.account(p_slug text, p_person text) returns text language sql as $$
  select a.external_id from public.linked_accounts a where a.tenant_id = tests.id(p_slug) and a.participant_id = tests.id(p_slug || '/' || p_person) and a.platform = 'whatsapp'
$$;
create function pg_temp.write(p_id text, p_text text, p_from text) returns jsonb language plpgsql as $$
declare
  v_body jsonb := jsonb_build_object('object', 'whatsapp_business_account', 'entry', jsonb_build_array(jsonb_build_object('id', '1', 'changes', jsonb_build_array(jsonb_build_object(
    'field', 'messages', 'value', jsonb_build_object('metadata', '{"phone_number_id": "106"}'::jsonb, 'messages', jsonb_build_array(jsonb_build_object(
      'from', p_from, 'id', p_id, 'timestamp', extract(epoch from clock_timestamp())::bigint::text, 'type', 'text', 'text', jsonb_build_object('body', p_text)))))))));
begin
  perform jobs.receive_webhook(jobs.platform_id(), 'whatsapp', v_body, encode(sha256(convert_to(v_body::text, 'UTF8')), 'hex'));
  perform tests.work();
  return (select e.counts from private.webhook_events e where e.body = v_body);
end
$$;

-- The link
select is(pg_temp.start('pizza', 'anna') ->> 'link', null, 'without any number there is no link');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "106", "display_phone_number": "+49 30 000-106"}');
create table pg_temp.codes as select pg_temp.start('pizza', 'anna') as anna, pg_temp.start('gym', 'anna') as gym;
select is(anna ->> 'link', 'https://wa.me/4930000106?text=' || (anna ->> 'code'), 'a business without a number is written to through the platform''s') from pg_temp.codes;
select isnt(pg_temp.start('pizza', 'ben', 'instagram') ->> 'link', 'https://wa.me/4930000106', 'for Instagram the platform''s number is no way');

-- The account
select pg_temp.write('w1', 'Hello', '491701');
select is(pg_temp.account('pizza', 'anna'), null, 'a message without the code links nothing');
select pg_temp.write('w2', 'My code: ' || lower(anna ->> 'code'), '491701') from pg_temp.codes;
select is(pg_temp.account('pizza', 'anna'), '491701', 'one with it links the account it came from');
select is(pg_temp.account('gym', 'anna'), null, 'at that business only: not even the same person''s at another');
select is((select string_agg(distinct t.slug, ', ') from private.signals s join public.tenants t on t.id = s.tenant_id where s.surface = 'whatsapp'), 'pizza', 'which alone hears of the message');
select pg_temp.write('w3', anna ->> 'code', '491702') from pg_temp.codes;
select is(pg_temp.account('pizza', 'anna'), '491701', 'a code links once');

-- A code that is open at two businesses names nobody; new codes are no other open code.
update private.link_codes set code = (select gym ->> 'code' from pg_temp.codes) where tenant_id = tests.id('pizza') and participant_id = tests.id('pizza/ben');
update private.link_codes set platform = 'whatsapp' where participant_id = tests.id('pizza/ben');
select pg_temp.write('w4', gym ->> 'code', '491703') from pg_temp.codes;
select is(coalesce(pg_temp.account('gym', 'anna'), pg_temp.account('pizza', 'ben')), null, 'a code of two businesses links nothing at either');
delete from private.link_codes where participant_id = tests.id('pizza/ben');
select tests.task_of('pizza', 'join', 'whatsapp_join');
select tests.claim_task('pizza', 'ben', 'join');
update public.completions set code = (select gym ->> 'code' from pg_temp.codes) where task_id = tests.id('join');
select pg_temp.write('w5', gym ->> 'code', '491704') from pg_temp.codes;
select is(coalesce(pg_temp.account('gym', 'anna'), (select nullif(status::text, 'pending') from public.completions where task_id = tests.id('join'))), null,
  'nor does one that is a claim''s code elsewhere: neither is decided');
delete from public.completions where task_id = tests.id('join');

-- Whose number is it?
select public.set_credential(tests.id('gym'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "107", "display_phone_number": "+49 30 107"}');
select pg_temp.write('w6', gym ->> 'code', '491705') from pg_temp.codes;
select is(pg_temp.account('gym', 'anna'), null, 'a business with a number of its own links nothing by the platform''s');
select matches(pg_temp.start('gym', 'anna') ->> 'link', '^https://wa.me/4930107[?]text=OC-', 'its link leads to its own');
select public.remove_credential(tests.id('gym'), 'whatsapp');
create table pg_temp.again as select pg_temp.start('gym', 'anna') ->> 'code' as code;
update public.tenants set status = 'suspended' where id = tests.id('gym');
select pg_temp.write('w7', code, '491705') from pg_temp.again;
select is(pg_temp.account('gym', 'anna'), null, 'a suspended one neither');
update public.tenants set status = 'active' where id = tests.id('gym');
update private.link_codes set expires_at = now() - interval '1 second' where code = (select code from pg_temp.again);
select pg_temp.write('w8', code, '491705') from pg_temp.again;
select is(pg_temp.account('gym', 'anna'), null, 'a code that is over neither');
update private.link_codes set expires_at = now() + interval '1 hour', platform = 'instagram' where code = (select code from pg_temp.again);
select pg_temp.write('w9', code, '491705') from pg_temp.again;
select is(pg_temp.account('gym', 'anna'), null, 'nor one for another platform');
update private.link_codes set platform = 'whatsapp' where code = (select code from pg_temp.again);
select pg_temp.write('w10', code, '491705') from pg_temp.again;
select is(pg_temp.account('gym', 'anna'), '491705', 'the right code at the right time does');
-- Somebody else's number is no way around it.
create table pg_temp.ben as select pg_temp.start('pizza', 'ben') ->> 'code' as code;
select private.record_signals(tests.id('gym'), jsonb_build_array(jsonb_build_object('surface', 'whatsapp', 'kind', 'message', 'external_id', 'w11', 'author_id', '491706', 'text', code))) from pg_temp.ben;
select is_empty($$ select from public.linked_accounts where external_id = '491706' $$, 'a business''s own number links nothing by the code of another');
select is((select count(*) from public.linked_accounts where platform = 'whatsapp'), 2::bigint, 'and nobody else is linked by all of this');

select * from finish();
rollback;
