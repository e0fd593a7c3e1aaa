-- A limit admits exactly so many calls in any window. That it does so under parallel calls is tested in tests/api/tenancy.test.ts
begin;
select plan(26);

create function pg_temp.take(p_key text, p_limit integer, p_seconds integer) returns text language plpgsql as $$
begin
  perform private.take_rate(p_key, p_limit, p_seconds);
  return 'taken';
exception when others then
  return sqlstate;
end
$$;
-- Time goes by for the limits.
create function pg_temp.pass(p_time interval) returns void language sql as $$
  update private.rate_windows set taken = array(select t - p_time from unnest(taken) t), ends_at = ends_at - p_time
$$;

select is(array(select pg_temp.take('a', 3, 60) from generate_series(1, 5)), array['taken', 'taken', 'taken', 'PGRST', 'PGRST'], 'the limit is the limit');
select is(pg_temp.take('b', 3, 60), 'taken', 'another key has its own');

-- What the Data API makes an answer with status 429 and a header of.
prepare refused as select private.take_rate('a', 3, 60);
select throws_like('refused', '{"code": "PT429", "hint": null, "details": "retry after % seconds", "message": "Too many requests."}', 'the error says when to come again');
create function pg_temp.detail() returns jsonb language plpgsql as $$
declare
  v_detail text;
begin
  perform private.take_rate('a', 3, 60);
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return v_detail::jsonb;
end
$$;
select is(pg_temp.detail() ->> 'status', '429', 'its status is 429');
select ok((pg_temp.detail() #>> '{headers,Retry-After}')::integer between 59 and 60, 'its header says so in seconds');

-- The window moves with every call: there is no edge at which two windows' calls fit in.
select pg_temp.pass('50 seconds');
select is(pg_temp.take('a', 3, 60), 'PGRST', 'before the window is over there is no room');
select ok((pg_temp.detail() #>> '{headers,Retry-After}')::integer between 9 and 10, 'but soon');
select pg_temp.pass('10 seconds');
select is(pg_temp.take('a', 3, 60), 'taken', 'then there is room again');
select pg_temp.pass('30 seconds');
select is(array(select pg_temp.take('a', 3, 60) from generate_series(1, 3)), array['taken', 'taken', 'PGRST'], 'for as many as the last window leaves');
select ok((pg_temp.detail() #>> '{headers,Retry-After}')::integer between 29 and 30, 'until the oldest of them is gone');
select is(cardinality(taken), 3, 'what is past is forgotten') from private.rate_windows where key = 'a';
select is(private.count_call('a', 2, 60), private.count_call('a', 1, 60), 'a limit that became smaller counts the last calls');

-- A call that fails takes its count back with it.
do $$ begin
  perform private.take_rate('c', 1, 60);
  raise exception 'something else';
exception when others then null; end $$;
select is(pg_temp.take('c', 1, 60), 'taken', 'a call that failed is not counted');

select is(pg_temp.take('d', n, 60), '22023', format('a limit of %s calls is refused', coalesce(n::text, 'null'))) from unnest(array[0, -1, 10001, null]) n;
select is(pg_temp.take('d', 1, n), '22023', format('a window of %s seconds is refused', coalesce(n::text, 'null'))) from unnest(array[0, -1, 2678401, null]) n;
select isnt(pg_temp.take(key, 1, 60), 'taken', 'a key must be there and short') from unnest(array['', repeat('k', 301), null]) key;

-- The table stays as small as what is in use.
insert into private.rate_windows (key, taken, ends_at) select 'old ' || n, array[now() - interval '1 day'], now() - interval '1 hour' from generate_series(1, 20) n;
select is(array(select pg_temp.take('new ' || n, 1, 60) from generate_series(1, 2) n), array['taken', 'taken'], 'new keys come');
select is_empty($$ select from private.rate_windows where key like 'old %' $$, 'and old ones go');

select * from finish();
rollback;
