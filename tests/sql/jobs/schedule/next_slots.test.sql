-- Cron expressions in time zones, clock changes included.
begin;
select plan(55);
create function pg_temp.slots(p_schedule text, p_zone text, p_after timestamptz, p_count integer default 3) returns text language sql as $$
  select string_agg(to_char(s at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), ', ' order by s) from jobs.next_slots(p_schedule, p_zone, p_after, p_count) s
$$;

select is(pg_temp.slots('* * * * *', 'UTC', '2026-01-01 00:00:30Z'), '2026-01-01 00:01, 2026-01-01 00:02, 2026-01-01 00:03', 'every minute');
select is(pg_temp.slots('*/20 * * * *', 'UTC', '2026-01-01 00:20Z'), '2026-01-01 00:40, 2026-01-01 01:00, 2026-01-01 01:20', 'steps; a slot that is now is not next');
select is(pg_temp.slots('10-40/15 2 * * *', 'UTC', '2026-01-01 00:00Z'), '2026-01-01 02:10, 2026-01-01 02:25, 2026-01-01 02:40', 'a range with steps');
select is(pg_temp.slots('0 9,17 * * mon-fri', 'UTC', '2026-01-02 10:00Z'), '2026-01-02 17:00, 2026-01-05 09:00, 2026-01-05 17:00', 'lists and names of days');
select is(pg_temp.slots('0 0 29 feb *', 'UTC', '2026-01-01 00:00Z', 2), '2028-02-29 00:00, 2032-02-29 00:00', 'leap days');
select is(pg_temp.slots('0 0 31 * *', 'UTC', '2026-01-31 00:00Z'), '2026-03-31 00:00, 2026-05-31 00:00, 2026-07-31 00:00', 'months without a 31st are left out');
select is(pg_temp.slots('0 0 1 * 1', 'UTC', '2026-06-01 00:00Z'), '2026-06-08 00:00, 2026-06-15 00:00, 2026-06-22 00:00', 'day and weekday both given: either matches');
select is(pg_temp.slots('0 0 * * 7', 'UTC', '2026-06-01 00:00Z', 1), '2026-06-07 00:00', 'seven is Sunday too');
select is(pg_temp.slots('@weekly', 'UTC', '2026-06-01 00:00Z', 1), '2026-06-07 00:00', 'words');
select is(pg_temp.slots('  0   5 1 *  * ', 'UTC', '2026-06-02 00:00Z', 1), '2026-07-01 05:00', 'white space does not matter');

-- Zones: Berlin skips 02:00 to 03:00 on 2026-03-29 and has it twice on 2026-10-25.
select is(pg_temp.slots('0 9 * * *', 'Europe/Berlin', '2026-03-28 00:00Z'), '2026-03-28 08:00, 2026-03-29 07:00, 2026-03-30 07:00', 'nine in the morning is nine in the morning');
select is(pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2026-03-28 00:00Z'), '2026-03-28 01:30, 2026-03-29 01:30, 2026-03-30 00:30', 'a time that the clock skips runs once, at the time it is moved to');
select is(pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2026-10-24 00:00Z'), '2026-10-24 00:30, 2026-10-25 00:30, 2026-10-26 01:30', 'a time that comes twice runs once, the first time');
select is(pg_temp.slots('30 * * * *', 'Europe/Berlin', '2026-10-24 23:45Z', 4), '2026-10-25 00:30, 2026-10-25 01:30, 2026-10-25 02:30, 2026-10-25 03:30', 'every hour means every hour when one comes twice');
select is(pg_temp.slots('30 * * * *', 'Europe/Berlin', '2026-03-28 23:45Z', 3), '2026-03-29 00:30, 2026-03-29 01:30, 2026-03-29 02:30', 'and when one is skipped');
select is(pg_temp.slots('0 0 * * *', 'Asia/Kolkata', '2026-06-01 00:00Z', 1), '2026-06-01 18:30', 'a zone with half hours');

-- Wrong ones, and what is said of them
select throws_like(format('select jobs.next_slots(%L)', expression), message, format('"%s" is refused', expression))
from (values
  ('', '%is not a schedule%'), ('@never', '%is not a schedule%'), ('* * * *', '%has 4%'), ('* * * * * *', '%has 6%'), ('60 * * * *', '%"minute"%"60"%'), ('* 24 * * *', '%"hour"%'),
  ('* * 0 * *', '%"day"%'), ('* * * 13 *', '%"month"%'), ('* * * * 8', '%"weekday"%'), ('*/0 * * * *', '%step of 0%'), ('30-10 * * * *', '%backwards%'), ('a * * * *', '%"a"%'),
  ('1,,2 * * * *', '%"minute"%'), ('-5 * * * *', '%"minute"%'), ('* * * foo *', '%"month"%'), ('1e3 * * * *', '%"minute"%')) as e (expression, message);
select throws_ok($$ select jobs.next_slots('* * * * *', 'Mars/Base') $$, '22023', null, 'a zone that does not exist is refused');
select is(pg_temp.slots('0 0 30 2 *', 'UTC', '2026-01-01 00:00Z'), null, 'a day that never comes has no slots');

-- A definition with a wrong schedule cannot be written.
select throws_ok($$ select tests.job('bake', '{"schedule": "0 25 * * *"}') $$, '22023', null, 'a job with a wrong schedule is refused when it is written');
select throws_ok($$ select tests.job('bake', '{"schedule": "0 0 30 2 *"}') $$, '22023', null, 'also one that never comes');
select throws_ok($$ select tests.job('bake', '{"schedule": "@daily", "time_zone": "Mars/Base"}') $$, '22023', null, 'or one in a zone that does not exist');
select lives_ok($$ select tests.job('bake', '{"schedule": "@daily", "time_zone": "Europe/Berlin"}') $$, 'a right one is taken');
select is((select next_slot_at from jobs.definitions where job = 'bake'), (select s from jobs.next_slots('@daily', 'Europe/Berlin', now(), 1) s), 'and its next slot is known');

-- The zone of all that name none.
select tests.job('fry', '{"schedule": "@daily"}');
select throws_ok($$ select jobs.set_setting('default_time_zone', 'Mars/Base') $$, '22023', null, 'a default zone that does not exist is refused: at the next slot it would stop the tick');
select jobs.set_setting('default_time_zone', 'Asia/Tokyo');
select is((select next_slot_at from jobs.definitions where job = 'fry'), (select s from jobs.next_slots('@daily', 'Asia/Tokyo', now(), 1) s), 'with another default zone the next slot is another');
select is((select next_slot_at from jobs.definitions where job = 'bake'), (select s from jobs.next_slots('@daily', 'Europe/Berlin', now(), 1) s), 'but for a job that names its own');

-- Clock changes at midnight. Azores go back from 01:00 to 00:00, Havana too: the day begins twice. Nuuk goes from 22:00 to 23:00.
select is(pg_temp.slots('0 * * * *', 'Atlantic/Azores', '2026-10-24 22:30Z', 4), '2026-10-24 23:00, 2026-10-25 00:00, 2026-10-25 01:00, 2026-10-25 02:00', 'every hour is every hour when it is the first of a day that comes twice');
select is(pg_temp.slots('30 0 * * *', 'America/Havana', '2026-11-01 03:00Z', 2), '2026-11-01 04:30, 2026-11-02 05:30', 'a time of that hour is still once a day, the first');
select is((select string_agg(format('%s: %s', x.zone, x.s), ', ') from (
    select z.zone, s, lag(s) over (partition by z.zone, start order by o) as before
    from unnest(array['America/Nuuk', 'America/Havana', 'Africa/Cairo', 'Asia/Beirut', 'America/Santiago', 'Australia/Lord_Howe', 'Antarctica/Troll']) as z (zone)
    -- A thousand are 62 days.
    cross join generate_series(timestamptz '2026-01-01', '2026-12-31', interval '60 days') start
    cross join lateral jobs.next_slots('0,30 0-4,21-23 * * *', z.zone, start, 1000) with ordinality as n (s, o)
  ) x where x.s <= x.before), null, 'the slots of a year come in order, none twice, wherever the clock changes');

-- What is not meant well
select throws_like(format('select jobs.next_slots(%L)', repeat('1,', 500) || '1 * * * *'), '%at most 500 characters%', 'an expression without an end is refused');
select throws_ok($$ select jobs.next_slots('@daily', 'UTC', 'infinity') $$, '22008', null, 'after the end of time there is no slot to look for');

-- With the secret key, as scripts do.
select is(tests.answer('service_role', $$ select jobs.next_slots('0 9 * * *', 'UTC', '2026-06-01 00:00Z', 1) at time zone 'UTC' $$), '2026-06-01 09:00:00', 'the platform asks for the times of any expression');
select is(tests.error_of('service_role', $$ update jobs.definitions set schedule = '0 9 * * *', time_zone = null where job = 'bake' $$), null, 'and gives a job another schedule');
select is((select next_slot_at from jobs.definitions where job = 'bake'), (select s from jobs.next_slots('0 9 * * *', 'Asia/Tokyo', now(), 1) s), 'which counts from now on');
select matches(tests.error_of('service_role', $$ update jobs.definitions set schedule = '61 * * * *' where job = 'bake' $$), '^22023: Cron field "minute"', 'a wrong one is refused');

-- How many
select is((select count(*) from jobs.next_slots('* * * * *', count => null)), 5::bigint, 'five when it is not said how many');
select is((select count(*) from jobs.next_slots('* * * * *', count => 1000)), 1000::bigint, 'up to a thousand');
select throws_ok($$ select jobs.next_slots('* * * * *', count => 1001) $$, '22023', 'At most 1,000 slots at once, not 1001.', 'and no more: nobody reads millions');
select is((select count(*) from jobs.next_times('bake', null)), 5::bigint, 'of a job likewise');

select * from finish();
rollback;
