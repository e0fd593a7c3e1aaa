-- With which secret a webhook is checked, and what is kept of one that was.
begin;
select plan(24);
select tests.two_tenants();
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "t", "app_secret": "canary-app-pizza", "verify_token": "canary-verify-pizza"}', '{"page_id": "1"}');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "t", "app_secret": "canary-app-platform"}', '{"phone_number_id": "106"}');

-- Secrets
select is(jobs.webhook_secrets('pizza', 'meta'), jsonb_build_object('tenant_id', tests.id('pizza'), 'app_secrets', '["canary-app-pizza"]'::jsonb, 'verify_token', 'canary-verify-pizza'),
  'a tenant''s address is checked with the tenant''s own secrets');
select is(jobs.webhook_secrets(tests.id('pizza')::text, 'meta'), jobs.webhook_secrets('pizza', 'meta'), 'the id is as good as the slug');
select is(jobs.webhook_secrets('gym', 'meta'), null, 'a credential without an app secret takes no webhooks');
select is(jobs.webhook_secrets('nobody', 'meta'), null, 'neither does a tenant that does not exist');
select is(jobs.webhook_secrets('pizza', 'whatsapp'), null, 'one provider''s secret opens nothing of another');
select is(jobs.webhook_secrets('pizza', 'stripe'), null, 'other providers have no such address');
select is(jobs.webhook_secrets('platform', 'whatsapp'), jsonb_build_object('tenant_id', jobs.platform_id(), 'app_secrets', '["canary-app-platform"]'::jsonb, 'verify_token', null), 'the platform has its own address');
select is(jobs.webhook_secrets(jobs.platform_id()::text, 'whatsapp'), null, 'under its name only');
select is(jobs.webhook_secrets('00000000-0000-0000-0000-00000000000', 'meta'), null, 'what looks like an id and is none is no error');
select is(tests.answer('service_role', $$ select jobs.webhook_secrets('pizza', 'meta') ->> 'verify_token' $$), 'canary-verify-pizza', 'the functions may ask for the secrets');
select is(tests.answer(who, $$ select jobs.webhook_secrets('pizza', 'meta') $$), '42501', format('%s may not', who)) from unnest(array['pizza owner', 'anon']) who;

-- A place for what was signed
create function pg_temp.receive(p_who text, p_slug text, p_body jsonb, p_sha text default repeat('a', 64)) returns jsonb language plpgsql as $$
begin
  return tests.answer(p_who, format('select jobs.receive_webhook(%L, ''meta'', %L, %L)', case p_slug when 'platform' then jobs.platform_id() else tests.id(p_slug) end, p_body, p_sha))::jsonb;
end
$$;
create table pg_temp.first as select pg_temp.receive('service_role', 'pizza', '{"n": 1}') as answer;
select is((select answer ->> 'new' from pg_temp.first), 'true', 'a body is stored');
select is((select count(*) from jobs.items i, pg_temp.first f where i.job = 'process-webhooks' and i.tenant_id = tests.id('pizza') and i.subject_id = (f.answer ->> 'event_id')::uuid), 1::bigint, 'and enqueued in the tenant''s lane');
select is(pg_temp.receive('service_role', 'pizza', '{"n": 1}'), (select answer || '{"new": false}' from pg_temp.first), 'the same body again is the same event');
select is((select count(*) || ' ' || max(deliveries) from private.webhook_events where tenant_id = tests.id('pizza')), '1 2', 'it is counted and not kept twice');
select is((select count(*) from jobs.items where job = 'process-webhooks'), 1::bigint, 'nor enqueued twice');
select is(pg_temp.receive('service_role', 'gym', '{"n": 1}') ->> 'new', 'true', 'the same body at another tenant is another event');
select is(pg_temp.receive('service_role', 'platform', '{"n": 1}', repeat('b', 64)) ->> 'new', 'true', 'the platform''s events have their place, too');
select is(tests.answer('pizza owner', format('select jobs.receive_webhook(%L, ''meta'', ''{}'', %L)', tests.id('pizza'), repeat('c', 64))), '42501', 'no member may put a body there');

-- Tenants that are not served
update public.tenants set status = 'suspended' where slug = 'gym';
select is(pg_temp.receive('service_role', 'gym', '{"n": 2}', repeat('d', 64)) ->> 'new', 'true', 'a suspended tenant''s events are kept: an opt-out must not get lost');
update public.tenants set status = 'closed' where slug = 'gym';
select is(pg_temp.receive('service_role', 'gym', '{"n": 3}', repeat('e', 64)), '{"new": false, "event_id": null, "retry_after_seconds": null}'::jsonb, 'a closed tenant''s are acknowledged and dropped');

-- A flood
select jobs.set_call_limit('receive_webhook', 2, 60);
select pg_temp.receive('service_role', 'pizza', '{"n": 4}', repeat('1', 64)), pg_temp.receive('service_role', 'pizza', '{"n": 5}', repeat('2', 64));
select ok((pg_temp.receive('service_role', 'pizza', '{"n": 6}', repeat('3', 64)) ->> 'retry_after_seconds')::integer between 1 and 60, 'a flood is told when to come again');
select is((select count(*) from private.webhook_events where body ->> 'n' = '6'), 0::bigint, 'and nothing of it is kept');

select * from finish();
rollback;
