-- What becomes of an item, outcome by outcome.
begin;
select plan(49);
select tests.tenant('pizza', 'pro');
create table pg_temp.ended (item_id bigint, outcome text, result jsonb, error text);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.ended select e.item_id, e.outcome, e.result, e.error from unnest(p_ended) e
$$;
select tests.job('bake', '{"max_attempts": 3, "backoff_seconds": 10, "backoff_limit_seconds": 15, "apply_function": "private.tests_apply"}');

-- Hands one item out and closes it so; the item's id is remembered.
create table pg_temp.last (item_id bigint);
create function pg_temp.close_as(p_outcome jsonb) returns text language plpgsql as $$
declare
  v_batch jsonb := tests.claim('bake', 1);
begin
  delete from pg_temp.last;
  insert into pg_temp.last select item_id from tests.items_of(v_batch);
  return (tests.close(v_batch, p_outcome) - 'next')::text;
end
$$;
create function pg_temp.item() returns jobs.items language sql as $$ select i from jobs.items i where i.item_id = (select item_id from pg_temp.last) $$;
create function pg_temp.history() returns text language sql as $$
  select string_agg(a.outcome, ' ' order by a.try) from jobs.attempts a where a.item_id = (select item_id from pg_temp.last)
$$;
create function pg_temp.dead() returns jobs.dead_items language sql as $$ select d from jobs.dead_items d where d.item_id = (select item_id from pg_temp.last) $$;
create function pg_temp.told() returns text language sql as $$ select string_agg(e.outcome, ' ') from pg_temp.ended e where e.item_id = (select item_id from pg_temp.last) $$;

-- done
select tests.enqueue('bake', 'pizza');
select is(pg_temp.close_as('{"outcome": "done", "result": {"n": 1}}'), '{"stale": 0, "closed": 1}', 'done: the item is closed');
select is((pg_temp.item()).item_id, null, 'and leaves the table');
select is(pg_temp.history(), 'done', 'the attempt is remembered');
select is((select result from pg_temp.ended), '{"n": 1}'::jsonb, 'the domain is told the result, in the same transaction');
select is((select count(*) from jobs.batches) + (select count(*) from jobs.leases), 0::bigint, 'batch and lease are gone with it');

-- retry
select tests.enqueue('bake', 'pizza');
select pg_temp.close_as('{"outcome": "retry", "error": "no answer"}');
select is((pg_temp.item()).attempts, 1::smallint, 'retry: an attempt is counted');
select is((pg_temp.item()).last_error, 'no answer', 'with its error');
select is((pg_temp.item()).waiting_for, 'backoff', 'the item waits for its backoff');
select ok((pg_temp.item()).run_at between clock_timestamp() - interval '1 second' and clock_timestamp() + interval '10 seconds', 'at most the first bound');
select is(pg_temp.told(), null, 'the domain is not told yet');
select tests.pass('10 seconds');
select pg_temp.close_as('{"outcome": "retry", "error": "no answer", "after_seconds": 100}');
select ok((pg_temp.item()).run_at > clock_timestamp() + interval '99 seconds', 'a provider may ask for more');
select tests.pass('101 seconds');
select pg_temp.close_as('{"outcome": "retry", "error": "still no answer"}');
select is((pg_temp.item()).item_id, null, 'when its attempts are used up the item dies');
select is((pg_temp.dead()).reason, 'attempts used up', 'for that reason');
select is((pg_temp.dead()).last_error, 'still no answer', 'with the last error');
select is((pg_temp.dead()).attempts, 3::smallint, 'after as many attempts as the job allows');
select is(pg_temp.history(), 'retry retry retry', 'all of them remembered');
select is(pg_temp.told(), 'dead', 'the domain is told once');

-- refused
select tests.enqueue('bake', 'pizza');
select pg_temp.close_as('{"outcome": "refused", "error": "not a number"}');
select is((pg_temp.dead()).reason, 'refused', 'refused: the item is dead at once');
select is(pg_temp.told(), 'dead', 'and the domain is told');

-- snooze
select tests.enqueue('bake', 'pizza');
select pg_temp.close_as('{"outcome": "snooze", "seconds": 300, "reason": "not found yet"}');
select is((pg_temp.item()).attempts, 0::smallint, 'snooze: no attempt is counted');
select is((pg_temp.item()).tries, 1, 'but the try is');
select ok((pg_temp.item()).run_at between clock_timestamp() + interval '299 seconds' and clock_timestamp() + interval '300 seconds', 'the item comes back when it asked to');
select is((pg_temp.item()).waiting_for, 'not found yet', 'and says why it waits');
select is(pg_temp.history(), 'snoozed', 'the history knows');
select tests.pass('301 seconds');
select pg_temp.close_as(jsonb_build_object('outcome', 'snooze', 'until', clock_timestamp() + interval '2 hours'));
select ok((pg_temp.item()).run_at between clock_timestamp() + interval '7195 seconds' and clock_timestamp() + interval '2 hours', 'it may name the time');
update jobs.items set tries = 40000;
select tests.pass('2 hours');
select is(pg_temp.close_as('{"outcome": "snooze", "seconds": 60}'), '{"stale": 0, "closed": 1}', 'however often: a check every minute for a month is 43,200 tries');
select tests.pass('1 minute');
select pg_temp.close_as('{"outcome": "snooze", "seconds": -60}');
select ok((pg_temp.item()).run_at >= clock_timestamp() - interval '1 second', 'never into the past');
select pg_temp.close_as('{"outcome": "snooze", "seconds": 1e12}');
select ok((pg_temp.item()).run_at <= clock_timestamp() + interval '30 days', 'nor beyond a month');
select tests.pass('30 days');
select pg_temp.close_as('{"outcome": "snooze"}');
select ok((pg_temp.item()).run_at between clock_timestamp() + interval '59 seconds' and clock_timestamp() + interval '60 seconds', 'without a time it is a minute');
select tests.pass('1 minute');
select pg_temp.close_as('{"outcome": "done"}');


-- A time from outside that is none
select tests.enqueue('bake', 'pizza');
select pg_temp.close_as('{"outcome": "snooze", "until": "-infinity"}');
select ok((pg_temp.item()).run_at between clock_timestamp() - interval '1 minute' and clock_timestamp(), 'a time before all times is now');
select pg_temp.close_as('{"outcome": "snooze", "until": "2001-01-01"}');
select ok((pg_temp.item()).run_at between clock_timestamp() - interval '1 minute' and clock_timestamp(), 'so is one that is over');
select pg_temp.close_as('{"outcome": "snooze", "until": "infinity"}');
select ok((pg_temp.item()).run_at < clock_timestamp() + interval '401 days', 'one after all times comes');
delete from jobs.items;
create function private.tests_hold(uuid[], p_item_ids bigint[], uuid[], jsonb[]) returns setof jobs.loaded language sql set search_path = '' as $$
  select i, null::jsonb, '-infinity'::timestamptz, 'for ever', false from unnest(p_item_ids) i
$$;
select tests.job('hold', '{"load_function": "private.tests_hold"}');
select tests.enqueue('hold', 'pizza');
select tests.claim('hold');
select ok((select isfinite(run_at) from jobs.items where job = 'hold'), 'an item that is held until before all times has a time as well');
delete from jobs.items;

-- throttled
select tests.enqueue('bake', 'pizza', 2);
select pg_temp.close_as('{"outcome": "throttled", "seconds": 120, "error": "429"}');
select is((pg_temp.item()).attempts, 0::smallint, 'throttled: no attempt is counted');
select is(tests.lane('bake', 'pizza'), 'asleep: rate limit, wakes', 'the whole lane sleeps');
select ok(tests.wakes_in('bake', 'pizza') between 118 and 120, 'as long as the provider asked');
select is(tests.claim('bake'), null, 'also for items that were not throttled');
select tests.enqueue('bake', 'pizza');
select is(tests.claim('bake'), null, 'and for new ones');
select ok(tests.wakes_in('bake', 'pizza') between 118 and 120, 'which do not wake it earlier');
select tests.pass('121 seconds');
select is(tests.served(tests.claim('bake')), 'pizza 3', 'then all are served');
select is(pg_temp.history(), 'throttled', 'the history knows');

-- What a worker may not say
select tests.enqueue('bake', 'pizza');
create table pg_temp.batch as select tests.claim('bake') as b;
select throws_ok(format('select tests.close(%L, %L)', b, o), '22023', null, format('a worker cannot close an item as %s', o ->> 'outcome'))
from pg_temp.batch, unnest(array['{"outcome": "lost"}', '{"outcome": "cancelled"}', '{"outcome": "held"}', '{"outcome": "fine"}', '{}']::jsonb[]) o;
select throws_ok(format('select jobs.close_batch(%s, %L)', b ->> 'batch_id', '{"item_id": 1}'), '22023', null, 'outcomes are a list') from pg_temp.batch;
select is(tests.close(b, jsonb_build_object('outcome', 'retry', 'error', repeat('x', 2000))) ->> 'closed', '1', 'an error of any length is taken') from pg_temp.batch;
select is((select max(length(last_error)) from jobs.items), 500, 'and kept to 500 characters');

select * from finish();
rollback;
