-- What a credential may have beside what it must: webhook secrets, names of the account, a sender's address.
begin;
select plan(34);
select tests.two_tenants();
update private.call_limits set calls = 1000 where name = 'set_credential';

create function pg_temp.sets(p_provider text, p_kind text, p_secret jsonb, p_account jsonb) returns text language sql as $$
  select tests.error_of('pizza owner', format('select public.set_credential(%L, %L, %L, %L, %L)', tests.id('pizza'), p_provider, p_kind, p_secret, p_account))
$$;

select is(pg_temp.sets('meta', kind, '{"access_token": "a", "app_secret": "b", "verify_token": "c"}', '{"ig_user_id": "1", "app_id": "7", "username": "pizza.shop", "page_id": "9"}'), null, kind || ' takes what webhooks need')
from unnest(array['facebook_login', 'instagram_login']) kind;
select is(pg_temp.sets('whatsapp', 'whatsapp_cloud', '{"access_token": "a", "app_secret": "b", "verify_token": "c"}', '{"phone_number_id": "1", "app_id": "7", "display_phone_number": "+49 30 1234567", "business_name": "Pizza"}'), null, 'whatsapp_cloud too');
select is((select secret_keys from public.credentials where tenant_id = tests.id('pizza') and provider = 'whatsapp'), array['access_token', 'app_secret', 'verify_token'], 'the row knows which parts there are');
select matches(pg_temp.sets('email', 'resend', '{"api_key": "a", "app_secret": "b"}', '{}'), '^22023', 'a kind without webhooks has no app secret');
select matches(pg_temp.sets('meta', 'facebook_login', jsonb_build_object('access_token', 'a', name, value), '{}'), '^22023', format('%s %s is refused', name, value))
from (values ('app_secret', '""'::jsonb), ('app_secret', '5'), ('app_secret', 'null'), ('app_secret', '"canary x"'), ('verify_token', '""'), ('verify_token', '"a\r\nb"'), ('verify_token', '{}')) as bad (name, value);
select unalike(pg_temp.sets('meta', 'facebook_login', '{"access_token": "a", "app_secret": "canary x"}', '{}'), '%canary%', 'and not repeated');

select matches(pg_temp.sets('meta', 'facebook_login', '{"access_token": "a"}', jsonb_build_object(name, value)), '^22023', format('the account''s %s may not be %s', name, value))
from (values ('app_id', 'x'), ('app_id', '7|8'), ('username', '@pizza'), ('username', 'a/b'), ('page_id', '../1'), ('display_phone_number', 'call me'), ('business_name', E'a\nb'), ('ig_user_id', '1?x')) as bad (name, value);
select matches(pg_temp.sets('meta', 'facebook_login', '{"access_token": "a"}', '["x"]'), '^22023', 'an account is an object');

select is(pg_temp.sets('email', 'resend', '{"api_key": "a"}', jsonb_build_object('from', address)), null, format('mail may come from %s', address))
from unnest(array['hello@pizza.example', 'Pizza Shop <hello@mail.pizza.example>']) address;
select matches(pg_temp.sets('email', 'resend', '{"api_key": "a"}', jsonb_build_object('from', address)), '^22023', format('mail may not come from %s', address))
from unnest(array['', 'hello', 'hello@pizza', E'a@b.example\r\nBcc: x@y.example', 'a@b.example, c@d.example', 'Pizza <a@b.example', 'a@b.example>', 'x <a@b.example> y']) address;
select is(pg_temp.sets('email', 'resend', '{"api_key": "a"}', '{}'), null, 'an address need not be given');
select matches(pg_temp.sets('email', 'resend', '{"api_key": "a"}', '{"from": null}'), '^22023', 'but what is given must be one');

select * from finish();
rollback;
