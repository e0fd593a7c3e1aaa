-- A task that takes the tenant's own credential: its claims wait for one, and go on as soon as it is there.
begin;
select plan(6);
select tests.two_tenants();
select public.remove_credential(tests.id('pizza'), 'meta');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "p"}');
update jobs.definitions set start_delay_seconds = 0 where job = 'verify-social-tasks';
delete from jobs.items;
select tests.task('pizza', 'pizza campaign', 'own only');
update public.social_tasks set platform_credential_allowed = false where id = tests.id('own only');
select tests.claim_task('pizza', 'pizza participant', 'own only');
create function pg_temp.waits() returns text language sql as $$
  select string_agg(coalesce(i.waiting_for, 'nothing') || ': ' || (i.run_at > clock_timestamp()), ', ') from jobs.items i where i.job = 'verify-social-tasks' and i.tenant_id = tests.id('pizza')
$$;

select is(tests.served(tests.claim('verify-social-tasks')), 'nothing', 'the platform''s credential is not used for it');
select is(pg_temp.waits(), 'waiting for a credential of the tenant''s own: true', 'the claim waits');
select public.set_credential(tests.id('gym'), 'meta', 'facebook_login', '{"access_token": "other"}');
select is(pg_temp.waits(), 'waiting for a credential of the tenant''s own: true', 'whatever another tenant connects');
select public.set_credential(tests.id('pizza'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "w"}', '{"phone_number_id": "1"}');
select is(pg_temp.waits(), 'waiting for a credential of the tenant''s own: true', 'or the tenant for another provider');
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "own"}');
select is(pg_temp.waits(), 'nothing: false', 'when the tenant''s own is there, the claim is due at once');
select tests.pass('1 minute');
select is(tests.served(tests.claim('verify-social-tasks')), 'pizza 1', 'and goes to the worker');

select * from finish();
rollback;
