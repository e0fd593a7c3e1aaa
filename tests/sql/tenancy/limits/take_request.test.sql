-- What a function asks before it works for a caller: the limit of the credential, and the list of addresses.
begin;
select no_plan();

create function pg_temp.ask(p_key text, p_ip text default null) returns text language sql as $$
  select tests.answer('service_role', format('select concat(a ->> ''allowed'', '' '' || (a ->> ''reason'')) from jobs.take_request(%L, 2, 60, %L) a', p_key, p_ip))
$$;

select is(array(select pg_temp.ask('fingerprint') from generate_series(1, 3)), array['true', 'true', 'false rate'], 'a credential makes so many requests');
select is(pg_temp.ask('another'), 'true', 'another has its own limit');
select ok((jobs.take_request('fingerprint', 2, 60) ->> 'retry_after_seconds')::integer between 59 and 60, 'the answer says when to come again');
select is(tests.answer('pizza owner', $$ select jobs.take_request('x', 2, 60) $$), '42501', 'nobody but the functions calls it');

select is(pg_temp.ask('a', '203.0.113.9'), 'true', 'with an empty list every address may call');
update private.settings set value = '198.51.100.7, 203.0.113.0/24 2001:db8::/32' where name = 'jobs_ip_allow_list';
select is(pg_temp.ask('ip ' || ip, ip), 'true', ip || ' is on the list') from unnest(array['198.51.100.7', '203.0.113.9', '::ffff:203.0.113.9', '2001:db8::1']) ip;
select is(pg_temp.ask('ip ' || ip, ip), 'false address', format('%s is not', coalesce(nullif(ip, ''), 'no address')))
from unnest(array['198.51.100.8', '203.0.114.1', '2001:db9::1', '203.0.113.9, 10.0.0.1', 'localhost', '', null]) ip;
select is_empty($$ select from private.rate_windows where key = 'request/ip 198.51.100.8' $$, 'who is not on the list uses nothing up');
update private.settings set value = 'everybody' where name = 'jobs_ip_allow_list';
select is(pg_temp.ask('b', '203.0.113.9'), 'false address', 'a list that cannot be read lets nobody in');

select * from finish();
rollback;
