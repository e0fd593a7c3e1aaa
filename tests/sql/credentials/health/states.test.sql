-- A code of a provider is one state for clients and one sentence for the owner.
begin;
select plan(36);
select tests.two_tenants();

select is(private.credential_state(reason), state, format('%s: %s', reason, state))
from (values
  ('Meta 190: the token expired or is not valid; reconnect the account', 'invalid'),
  ('Meta 190/458: the app was removed', 'app_removed'), ('Meta 190/459: a check', 'checkpoint'), ('Meta 190/460: password', 'password_changed'),
  ('Meta 190/463: expired', 'expired'), ('Meta 190/464: unconfirmed', 'unconfirmed'), ('Meta 190/467: invalid', 'invalid'), ('Meta 190/492: role', 'role_lost'),
  ('Meta 102: the session ended', 'expired'), ('Meta 10: permission', 'permission_lost'), ('Meta 200: permission', 'permission_lost'),
  ('Meta 299: permission', 'permission_lost'), ('Meta 3: capability', 'permission_lost'), ('Meta 368: blocked', 'blocked'),
  ('WhatsApp 0: token', 'invalid'), ('WhatsApp 190: the token expired', 'expired'), ('WhatsApp 131005: access denied', 'permission_lost'),
  ('WhatsApp 131031: locked', 'blocked'), ('WhatsApp 131042: payment', 'blocked'), ('WhatsApp 133010: not registered', 'invalid'),
  ('The gateway: the token is not valid; renew it', 'invalid'), ('Meta 99999999999999999999: x', 'invalid'), ('', 'invalid'), (null, 'invalid')
) as told (reason, state);
select is((select count(distinct private.credential_advice(s, null)) from unnest(array['unchecked', 'ok', 'expired', 'permission_lost', 'role_lost', 'checkpoint',
  'password_changed', 'app_removed', 'invalid', 'unconfirmed', 'blocked']) s), 11::bigint, 'each state has an advice of its own');

select matches(private.credential_advice('invalid', 'Meta 100: an app that requires the proof'), 'with the app secret', 'a missing app secret is asked for by its name');
select is(private.credential_advice('invalid', 'Meta 190/467: x'), private.credential_advice('invalid', null), 'and only then');

-- From the worker's answer to what the owner reads
select jobs.park(tests.id('pizza'), 'meta', (select fingerprint from public.credentials where tenant_id = tests.id('pizza')), 'Meta 190/460: the password was changed');
create function pg_temp.listed(p_who text, p_column text) returns text language sql as $$
  select tests.answer(p_who, format('select %s from public.list_credentials(%L)', p_column, tests.id('pizza')))
$$;
select is(pg_temp.listed('pizza admin', 'concat_ws('' '', health, state)'), 'broken password_changed', 'an admin sees health and state');
select is(pg_temp.listed('pizza owner', 'advice'), 'The password was changed: connect the account again.', 'and what to do');
select is(pg_temp.listed('pizza member', 'state'), '42501', 'a member does not');
select is(pg_temp.listed('gym owner', 'state'), '42501', 'nor another tenant''s owner');
select unalike(pg_temp.listed('pizza owner', 'to_jsonb(list_credentials)::text'), '%canary%', 'the list has no secret');

-- What was repaired elsewhere
create function pg_temp.rechecks(p_who text) returns text language sql as $$
  select tests.answer(p_who, format('select public.recheck_credential(%L, ''meta'')', tests.id('pizza')))
$$;
select is(pg_temp.rechecks('gym owner'), '42501', 'another tenant''s owner wakes nothing');
select is(pg_temp.rechecks('pizza admin'), 'true', 'an admin has it tried again');
select is((select count(*) from jobs.breakers where tenant_id = tests.id('pizza')), 0::bigint, 'the parked work wakes');
select is(pg_temp.listed('pizza admin', 'concat_ws('' '', health, state)'), 'unchecked unchecked', 'nothing is known of it until then');

select * from finish();
rollback;
