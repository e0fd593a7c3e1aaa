-- What the Data API asks before every request.
begin;
select plan(6);
create function pg_temp.asks(p_headers jsonb) returns text language plpgsql as $$
begin
  perform set_config('request.headers', p_headers::text, true);
  return tests.answer('anon', 'select private.check_request()');
end
$$;
select is(pg_temp.asks('{"prefer": "count=planned"}'), 'PT400', 'a count by estimate is refused: it would be of the rows of all tenants');
select is(pg_temp.asks('{"prefer": "return=representation, count=estimated"}'), 'PT400', 'in any company');
select is(pg_temp.asks('{"prefer": "Count=Planned"}'), 'PT400', 'and spelling');
select isnt(pg_temp.asks('{"prefer": "count=exact"}'), 'PT400', 'an exact count is of what one may see');
select isnt(pg_temp.asks('{}'), 'PT400', 'a request without wishes passes');
select isnt(tests.answer('anon', 'select private.check_request()'), '42501', 'whoever asks');
select * from finish();
rollback;
