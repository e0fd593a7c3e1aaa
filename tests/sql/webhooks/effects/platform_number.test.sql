-- The platform's own WhatsApp number: a message says nothing about the tenant, so the code of one claim has to.
begin;
select plan(16);
select tests.two_tenants();
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "106", "display_phone_number": "+49 30 000-106"}');
select tests.task_of(s, s || ' join', 'whatsapp_join') from unnest(array['pizza', 'gym']) s;
select tests.task_of('pizza', 'own only', 'whatsapp_join');
select tests.participant('pizza', p) from unnest(array['anna', 'ben', 'carl']) p;
select tests.participant('gym', 'anna');
create function pg_temp.claim(p_slug text, p_person text, p_task text) returns text language plpgsql as $$
begin
  perform tests.claim_task(p_slug, p_person, p_task);
  return (select c.code from public.completions c where c.task_id = tests.id(p_task) and c.participant_id = tests.id(p_slug || '/' || p_person));
end
$$;
create function pg_temp.status(p_code text) returns text language sql as $$
  select string_agg(concat_ws(' ', t.slug, c.status, c.method), ', ' order by t.slug) from public.completions c join public.tenants t on t.id = c.tenant_id where c.code = p_code
$$;
create function pg_temp.write(p_id text, p_text text, p_from text default '491701234567') returns jsonb language plpgsql as $$
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

update public.campaign_strategies set strategy = 'honor_system';
create table pg_temp.codes as select pg_temp.claim('pizza', 'anna', 'pizza join') as anna, pg_temp.claim('gym', 'anna', 'gym join') as gym;
select is((select string_agg(distinct route, ' ') from public.completions where code in (select anna from pg_temp.codes)), 'signal', 'a claim waits for a message to the platform''s number, whatever the strategy');
select is((select action_url from public.completions where code in (select anna from pg_temp.codes)), 'https://wa.me/4930000106?text=' || (select anna from pg_temp.codes), 'its link leads there, with the code');
select is(pg_temp.write('w1', 'Hello ' || lower(anna)) -> 'decided', '1', 'a message with the code decides') from pg_temp.codes;
select is(pg_temp.status(anna), 'pizza verified webhook', 'the claim that it names') from pg_temp.codes;
select is(pg_temp.status(gym), 'gym pending', 'and no other') from pg_temp.codes;
select is((select string_agg(t.slug || ' ' || s.external_id, ', ') from private.signals s join public.tenants t on t.id = s.tenant_id where s.surface = 'whatsapp'), 'pizza w1', 'only its tenant hears of the message');
select is(pg_temp.write('w2', 'Hello'), pg_temp.write('w2', 'Hello') - 'decided', 'a message without a code is nobody''s');
select is(pg_temp.write('w3', (select anna from pg_temp.codes)) -> 'decided', null, 'a claim that is decided is named no more');

-- The same code at two tenants, and two codes in one message, name nobody.
create table pg_temp.two as select pg_temp.claim('pizza', 'ben', 'pizza join') as ben;
update public.completions set code = (select ben from pg_temp.two) where code = (select gym from pg_temp.codes);
select pg_temp.write('w4', ben) from pg_temp.two;
select is(pg_temp.status(ben), 'gym pending, pizza pending', 'a code that two tenants gave out names neither') from pg_temp.two;
update public.completions set code = (select gym from pg_temp.codes) where tenant_id = tests.id('gym') and code = (select ben from pg_temp.two);
select pg_temp.write('w5', ben || ' ' || (select gym from pg_temp.codes)) from pg_temp.two;
select is(pg_temp.status(ben), 'pizza pending', 'nor does a message with two codes') from pg_temp.two;
select pg_temp.write('w6', ben, '491701234568') from pg_temp.two;
select is(pg_temp.status(ben), 'pizza verified webhook', 'one code does') from pg_temp.two;

-- Whose number is it?
update public.social_tasks set platform_credential_allowed = false where id = tests.id('own only');
create table pg_temp.own as select pg_temp.claim('pizza', 'anna', 'own only') as code;
select is((select route || coalesce(action_url, '') from public.completions where code = (select o.code from pg_temp.own o)), 'strategy', 'a task for the tenant''s own credential has no part in it');
select set_credential.* from public.set_credential(tests.id('gym'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "s"}', '{"phone_number_id": "107"}');
select pg_temp.write('w7', gym) from pg_temp.codes;
select is(pg_temp.status(gym), 'gym pending', 'nor has a tenant with a number of its own') from pg_temp.codes;
select public.remove_credential(tests.id('gym'), 'whatsapp');
update public.tenants set status = 'suspended' where id = tests.id('gym');
select pg_temp.write('w8', gym) from pg_temp.codes;
select is(pg_temp.status(gym), 'gym pending', 'nor a suspended one') from pg_temp.codes;
update public.tenants set status = 'active' where id = tests.id('gym');
select pg_temp.write('w9', gym) from pg_temp.codes;
select is(pg_temp.status(gym), 'gym verified webhook', 'an active one has') from pg_temp.codes;
select is((select count(*) from public.linked_accounts where platform = 'whatsapp' and external_id = '491701234567'), 2::bigint, 'whoever proved it is linked, to each tenant for itself');

select * from finish();
rollback;
