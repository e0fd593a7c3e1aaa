-- Name and settings: admins change them, the audit log knows from what to what, and campaigns start with them.
begin;
select plan(17);
select tests.two_tenants();

select is(tests.rows('pizza admin', $$ update public.tenants set name = 'Pizza & Co', time_zone = 'Europe/Rome', locale = 'it',
  campaign_notify_from = '09:00', campaign_notify_until = '20:00' $$), '1', 'an admin changes name and settings');
select is((select detail - 'name' from public.audit_log where tenant_id = tests.id('pizza') and action = 'tenant.changed'),
  '{"time_zone": {"from": "UTC", "to": "Europe/Rome"}, "locale": {"from": "en", "to": "it"},
    "campaign_notify_from": {"from": "00:00:00", "to": "09:00:00"}, "campaign_notify_until": {"from": "24:00:00", "to": "20:00:00"}}'::jsonb,
  'the audit log says what changed, from what to what');
select is((select actor_id from public.audit_log where tenant_id = tests.id('pizza') and action = 'tenant.changed'), tests.id('pizza admin'), 'and who did it');
select is(tests.rows('pizza admin', $$ update public.tenants set locale = 'it' $$), '1', 'a change to the same');
select is((select count(*) from public.audit_log where tenant_id = tests.id('pizza') and action = 'tenant.changed'), 1::bigint, 'is none');
select is(tests.rows('pizza member', $$ update public.tenants set name = 'Mine' $$), '0', 'a member changes nothing');
select is(tests.rows('gym owner', format($$ update public.tenants set name = 'Mine' where id = %L $$, tests.id('pizza'))), '0', 'nor does another tenant''s owner');
select is(tests.answer('pizza admin', $$ update public.tenants set locale = 'it_IT.UTF-8' returning locale $$), '23514', 'a locale that is no language tag is refused');
select is(tests.answer('pizza admin', $$ update public.tenants set time_zone = 'UTC+3' returning time_zone $$), '22023', 'so is a time zone that nobody means');

create function pg_temp.create_campaign(p_who text, p_slug text, p_more text default '') returns text language sql as $$
  select tests.answer(p_who, format($q$ select concat_ws(' ', c.status, c.time_zone, c.notify_from, c.notify_until, c.notifications_enabled)
    from public.create_campaign(%L, 'Summer' %s) c $q$, tests.id(p_slug), p_more))
$$;

select is(pg_temp.create_campaign('pizza member', 'pizza'), 'draft Europe/Rome 09:00:00 20:00:00 t', 'a campaign starts with the tenant''s settings');
select is(pg_temp.create_campaign('pizza member', 'pizza', $$, time_zone => 'UTC', notify_until => '24:00', notifications_enabled => false $$),
  'draft UTC 09:00:00 24:00:00 f', 'unless it is told otherwise');
select is(pg_temp.create_campaign('gym owner', 'gym'), 'draft UTC 00:00:00 24:00:00 t', 'another tenant''s with its own');
select is(pg_temp.create_campaign('pizza viewer', 'pizza'), '42501', 'a viewer creates none');
select is(pg_temp.create_campaign('gym owner', 'pizza'), '42501', 'nor does another tenant''s owner');
select is(pg_temp.create_campaign('gym owner', 'no such tenant'), '42501', 'who gets the same answer for a tenant that does not exist');
select is(pg_temp.create_campaign('pizza participant', 'pizza'), '42501', 'nor does a participant');
select is(pg_temp.create_campaign('anon', 'pizza'), '42501', 'nor anon');

select * from finish();
rollback;
