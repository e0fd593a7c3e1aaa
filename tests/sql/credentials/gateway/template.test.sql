-- The request of a gateway is checked before it is stored, and each fault is named without repeating what was given.
begin;
select plan(65);
select tests.two_tenants();
select tests.acknowledge('pizza', 'unofficial_gateway');
update private.call_limits set calls = 1000 where name = 'set_credential';

create function pg_temp.good() returns jsonb language sql as $$
  select '{"method": "POST", "url": "https://api.gateway.example/send-message", "headers": {"content-type": "application/json"},
    "body": {"number": "{{number}}", "message": "{{message}}", "sender": "{{sender}}", "api_key": "{{api_key}}"}, "sender": "4930111111",
    "success": {"path": "status", "equals": true}, "message_id_path": "data.id", "error_path": "msg"}'::jsonb
$$;
create function pg_temp.set_gateway(p_change jsonb, p_secret jsonb default '{"api_key": "canary-gateway-key"}', p_who text default 'pizza owner') returns text language sql as $$
  select tests.error_of(p_who, format('select public.set_credential(%L, ''whatsapp'', ''gateway'', %L, %L)', tests.id('pizza'), p_secret,
    jsonb_strip_nulls(pg_temp.good() || p_change)))
$$;

select is(pg_temp.set_gateway('{}'), null, 'a complete template is taken');
select is(pg_temp.set_gateway('{"method": "PUT"}'), null, 'PUT is taken');
select is(pg_temp.set_gateway('{"body": "{\"to\": {{number}}, \"text\": \"{{message}}\"}"}'), null, 'a text that becomes JSON is taken');
select is(pg_temp.set_gateway('{"body": "number={{number}}&message={{message}}", "headers": {"Content-Type": "application/x-www-form-urlencoded", "apikey": "{{api_key}}"}}'), null, 'a form is taken');
select is(pg_temp.set_gateway('{"url": "https://api.gateway.example/{{number}}/send?sender={{sender}}"}'), null, 'number and sender may be in the url');
select is(pg_temp.set_gateway('{"success": {"path": "idMessage.0.x", "equals": "ok"}}'), null, 'success may be a text');

-- Each fault by its name
select matches(pg_temp.set_gateway(change::jsonb), '^22023: The gateway''s request cannot be used: ' || says, says)
from (values
  ('{"method": "GET"}', 'its method must be POST or PUT'),
  ('{"method": null}', 'its method must be POST or PUT'),
  ('{"surprise": 1}', 'it does not know surprise'),
  ('{"url": null}', 'its url is not usable: it is missing'),
  ('{"url": "ftp://gateway.example/"}', 'its url is not usable: it is not of the form'),
  ('{"url": "http://gateway.example/"}', 'its url is not usable: it is not https'),
  ('{"url": "HTTPS://gateway.example/"}', 'its url is not usable: it is not of the form'),
  ('{"url": "https://gateway.example:8443/"}', 'its url is not usable: it names a port'),
  ('{"url": "https://me:pass@gateway.example/"}', 'its url is not usable: it has a user'),
  ('{"url": "https://gateway.example/#x"}', 'its url is not usable: it is not of the form'),
  ('{"url": "https://127.0.0.1/"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://2130706433/"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://0x7f.1/"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://[::1]/"}', 'its url is not usable: it names a port'),
  ('{"url": "https://localhost/"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://metadata.google.internal/"}', 'its url is not usable: its host is not public'),
  ('{"url": "https://printer.local/"}', 'its url is not usable: its host is not public'),
  ('{"url": "https://xn--gteway-bua.example/"}', 'its url is not usable: its host has letters beyond ASCII'),
  ('{"url": "https://gateway.example./"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://gätéway.example/"}', 'its url is not usable: it has white space'),
  ('{"url": "https://gateway.example/a b"}', 'its url is not usable: it has white space'),
  ('{"url": "https://gateway.example\\\\@evil.example/"}', 'its url is not usable: it has white space'),
  ('{"url": "https://{{sender}}.example/"}', 'its url is not usable: its host is not a public name'),
  ('{"url": "https://gateway.example/?key={{api_key}}"}', 'its url is not usable: it has the api_key'),
  ('{"url": "https://gateway.example/?key={{API_KEY}}"}', 'its url is not usable: it has the api_key'),
  ('{"url": "https://gateway.example/canary-gateway-key"}', 'its url is not usable: it has the api_key'),
  ('{"headers": []}', 'its headers must be an object'),
  ('{"headers": {"bad name": "x"}}', 'the name of a header'),
  ('{"headers": {"Host": "127.0.0.1"}}', 'the header Host is not the template'),
  ('{"headers": {"content-length": "5"}}', 'the header content-length is not the template'),
  ('{"headers": {"transfer-encoding": "chunked"}}', 'the header transfer-encoding is not the template'),
  ('{"headers": {"proxy-authorization": "x"}}', 'the header proxy-authorization is not the template'),
  ('{"headers": {"x-a": "x\r\nx-injected: 1"}}', 'the header x-a must be a line of printable ASCII'),
  ('{"headers": {"x-a": 5}}', 'the header x-a must be a line of printable ASCII'),
  ('{"headers": {"x-a": "{{message}}"}}', 'the header x-a must not carry the message'),
  ('{"headers": {"authorization": "Bearer canary-gateway-key"}}', 'it has the api_key in it; write'),
  ('{"body": null}', 'its body must be an object or a text'),
  ('{"body": [1]}', 'its body must be an object or a text'),
  ('{"body": "{\"number\": {{number}, \"message\": \"{{message}}\"}"}', 'its body is not JSON'),
  ('{"headers": {"content-type": "application/x-www-form-urlencoded"}}', 'a body for a form must be a text'),
  ('{"body": {"number": "{{number}}", "message": "{{message}}", "x": "{{secret}}"}}', 'it has unknown placeholders: secret'),
  ('{"body": {"number": "{{number}}"}}', 'it must say where'),
  ('{"body": {"message": "{{message}}"}}', 'it must say where'),
  ('{"sender": null}', 'it uses \{\{sender\}\} and has no sender'),
  ('{"success": null}', 'its success must be'),
  ('{"success": {"path": "a..b", "equals": true}}', 'its success must be'),
  ('{"success": {"path": "status", "equals": {"a": 1}}}', 'its success must be'),
  ('{"success": {"path": "status"}}', 'its success must be'),
  ('{"message_id_path": "$.id"}', 'its message_id_path is not a path'),
  ('{"error_path": ""}', 'its error_path is not a path')
) as fault (change, says);
select matches(pg_temp.set_gateway('{}', '{"token": "x"}'), '^22023: A gateway credential needs the secret', 'a secret without api_key is refused');
select unalike(pg_temp.set_gateway('{"url": "https://gateway.example/canary-gateway-key"}'), '%canary%', 'a fault does not repeat the secret');

-- Attack 56: the secret of one host never goes to another, for it is not known any more when the host changes.
select is(tests.rows('pizza owner', format($$ update public.credentials set account = account || '{"url": "https://evil.example/"}' where tenant_id = %L $$, tests.id('pizza'))), '42501',
  'the url alone cannot be changed');
select matches(pg_temp.set_gateway('{"url": "https://evil.example/"}', null), '^22023|^42', 'nor be set without a secret');
select is(pg_temp.set_gateway('{"url": "https://other.example/"}', '{"api_key": "canary-other-key"}'), null, 'with the secret entered anew it can');
select is((select c -> 'secret' from private.credential_for(tests.id('pizza'), 'whatsapp', false) c), '{"api_key": "canary-other-key"}', 'and what was stored for the old host is gone');

-- Simulators
select matches(pg_temp.set_gateway('{"url": "http://127.0.0.1:9000/send-message"}'), 'it is not https', 'this machine is not reached');
update private.settings set value = 'sim.internal:8443, 127.0.0.1:9000' where name = 'outbound_hosts';
select is(pg_temp.set_gateway('{"url": "http://127.0.0.1:9000/send-message"}'), null, 'unless the platform says so');
select matches(pg_temp.set_gateway('{"url": "http://127.0.0.1:9001/send-message"}'), 'it is not https', 'for this port only');

select * from finish();
rollback;
