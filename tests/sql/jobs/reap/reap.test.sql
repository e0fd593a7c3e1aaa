-- Leases end by database time. Items of a worker that is lost go back and count as an attempt; nothing is lost, nothing runs for ever.
begin;
select plan(13);
select tests.tenant('pizza', 'pro');
select tests.job('bake', '{"max_attempts": 2, "lease_seconds": 60}');
select tests.enqueue('bake', 'pizza', 2);
select tests.claim('bake');

select is((tests.tick() ->> 'reaped')::integer, 0, 'while the lease runs nothing is taken back');
select tests.pass('61 seconds');
select is((tests.tick() ->> 'reaped')::integer, 2, 'when it is over the items are');
select is((select string_agg(outcome || ': ' || error, ', ') from jobs.attempts), 'lost: the lease ran out, lost: the lease ran out', 'the history says that they were lost');
select is((select count(*) from jobs.items where attempts = 1 and waiting_for = 'backoff'), 2::bigint, 'they wait for their backoff');
select is((select count(*) from jobs.batches) + (select count(*) from jobs.leases), 0::bigint, 'batch and leases are gone');
select is(tests.lane('bake', 'pizza'), 'asleep: backoff, wakes', 'the lane knows when to wake');
select is((tests.tick() ->> 'reaped')::integer, 0, 'a second tick finds nothing');

select tests.pass('1 hour');
select is(tests.served(tests.claim('bake')), 'pizza 2', 'they are handed out again');
select tests.pass('61 seconds');
select tests.tick();
select is((select string_agg(reason, ', ') from jobs.dead_items), 'attempts used up, attempts used up', 'an item that kills its worker every time dies in the end');
select is((select count(*) from jobs.items), 0::bigint, 'and does not come again');

-- A batch that cannot be taken back does not stop the tick.
create function private.tests_apply(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$
begin
  raise exception 'Out of order.' using errcode = 'lock_not_available';
end
$$;
select tests.job('fry', '{"max_attempts": 1, "apply_function": "private.tests_apply"}');
select tests.job('boil');
select tests.enqueue('fry', 'pizza');
select tests.claim('fry');
select tests.enqueue('boil', 'pizza');
select tests.claim('boil');
select tests.pass('61 seconds');
select lives_ok('select tests.tick()', 'a batch that cannot be taken back does not stop the tick');
select is((select count(*) from jobs.items where job = 'boil'), 1::bigint, 'the other batches are taken back');
select is((select count(*) from jobs.leased_items where job = 'fry'), 1::bigint, 'and the one is tried again later');

select * from finish();
rollback;
