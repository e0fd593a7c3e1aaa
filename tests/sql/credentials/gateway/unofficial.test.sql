-- Gateways that are not WhatsApp's own: a tenant takes the risk upon itself first, and the platform can switch them off.
begin;
select plan(11);
select tests.two_tenants();

create function pg_temp.set_waapi(p_who text, p_slug text default 'pizza') returns text language sql as $$
  select tests.error_of(p_who, format($q$ select public.set_credential(%L, 'whatsapp', 'waapi', '{"token": "canary"}', '{"instance_id": "1"}') $q$, tests.id(p_slug)))
$$;

select matches(pg_temp.set_waapi('pizza owner'), '^PT409', 'without an acknowledgement no gateway is connected');
select is((select count(*) from vault.secrets where name = 'credential/' || tests.id('pizza') || '/whatsapp'), 0::bigint, 'and nothing is stored');
select tests.acknowledge('gym', 'unofficial_gateway');
select matches(pg_temp.set_waapi('pizza owner'), '^PT409', 'another tenant''s does not count');
select tests.acknowledge('pizza', 'unofficial_gateway');
select is(pg_temp.set_waapi('pizza owner'), null, 'the own one does');
select is(pg_temp.set_waapi('service_role'), null, 'the platform needs none');
select is(tests.error_of('pizza owner', format($$ select public.set_credential(%L, 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}') $$, tests.id('pizza'))), null,
  'nor does WhatsApp''s own API');

select jobs.set_setting('unofficial_gateways', 'off');
select matches(pg_temp.set_waapi('pizza owner'), '^PT409.*switched off', 'switched off they are refused');
select matches(pg_temp.set_waapi('service_role'), '^PT409.*switched off', 'for the platform too');
select matches(tests.error_of('service_role', $$ select jobs.set_platform_credential('whatsapp', 'waapi', '{"token": "x"}', '{"instance_id": "1"}') $$), '^PT409.*switched off', 'and as its own');
select is(tests.error_of('pizza owner', format($$ select public.set_credential(%L, 'whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}') $$, tests.id('pizza'))), null,
  'WhatsApp''s own API is not concerned');
select jobs.set_setting('unofficial_gateways', 'on');
select is(pg_temp.set_waapi('pizza owner'), null, 'switched on they are taken again');

select * from finish();
rollback;
