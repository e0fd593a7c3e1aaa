-- A member changes a campaign's hours: what was held does not wait for the hours that it had.
begin;
select plan(7);
select tests.two_tenants();
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');

create function pg_temp.hours(p_from interval, p_until interval) returns void language sql as $$
  update public.campaigns set notify_from = (clock_timestamp() at time zone 'UTC')::time + p_from,
    notify_until = (clock_timestamp() at time zone 'UTC')::time + p_until, time_zone = 'UTC'
  where tenant_id = tests.id('pizza')
$$;
create function pg_temp.held() returns text language sql as $$
  select coalesce(round(extract(epoch from o.held_until - clock_timestamp()) / 3600)::text, 'not held') from public.notification_outbox o where o.tenant_id = tests.id('pizza')
$$;

update public.campaigns set notifications_enabled = false where tenant_id = tests.id('gym');
select pg_temp.hours('5 hours', '7 hours');
select is(tests.served(tests.claim('send-notifications')), 'nothing', 'outside of the hours nothing leaves');
select is(pg_temp.held(), '5', 'the message is held until they begin');

update public.campaigns set name = 'Another name' where tenant_id = tests.id('pizza');
select is(tests.lane('send-notifications', 'pizza'), 'asleep: quiet hours, wakes', 'another name wakes nobody');
select pg_temp.hours('2 hours', '4 hours');
select is(tests.served(tests.claim('send-notifications')), 'nothing', 'with other hours it is looked at again');
select is(pg_temp.held(), '2', 'and held until the new ones');
select pg_temp.hours('-1 hour', '1 hour');
select is(tests.served(tests.claim('send-notifications')), 'pizza 1', 'when the hours are now it leaves now');
select pg_temp.hours('3 hours', '4 hours');
select is((select count(*) from jobs.leased_items where job = 'send-notifications'), 1::bigint, 'one that is on its way stays in its batch');

select * from finish();
rollback;
