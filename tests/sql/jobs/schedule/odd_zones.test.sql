-- Clock changes that are not an hour, not at night, or not of the same day; and steps that would not do what they say.
begin;
select plan(19);
create function pg_temp.slots(p_schedule text, p_zone text, p_after timestamptz, p_count integer default 3) returns text language sql as $$
  select string_agg(to_char(s at time zone 'UTC', 'MM-DD HH24:MI'), ', ' order by s) from jobs.next_slots(p_schedule, p_zone, p_after, p_count) s
$$;

-- Lord Howe changes by half an hour: 02:00 becomes 02:30 on 2026-10-04, and 02:00 becomes 01:30 on 2026-04-05.
select is(pg_temp.slots('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 00:00Z', 2), '10-03 15:45, 10-04 15:15', 'half an hour that is skipped');
select is(pg_temp.slots('45 1 * * *', 'Australia/Lord_Howe', '2026-04-04 00:00Z', 2), '04-04 14:45, 04-05 15:15', 'half an hour that comes twice');
-- Chatham changes at 02:45 and 03:45, a quarter beside the hour.
select is(pg_temp.slots('0 3 * * *', 'Pacific/Chatham', '2026-09-26 00:00Z', 2), '09-26 14:15, 09-27 13:15', 'a zone with quarters');
-- Casablanca is an hour back during Ramadan.
select is(pg_temp.slots('30 2 * * *', 'Africa/Casablanca', '2026-02-14 12:00Z', 2), '02-15 01:30, 02-16 02:30', 'a summer time with a break');
select is(pg_temp.slots('30 2 * * *', 'Africa/Casablanca', '2026-03-21 12:00Z', 2), '03-22 02:30, 03-23 01:30', 'and its end');
-- Cairo and Beirut skip midnight.
select is(pg_temp.slots('0 0 * * *', 'Africa/Cairo', '2026-04-22 23:00Z', 2), '04-23 22:00, 04-24 21:00', 'a day that has no midnight begins an hour later');
select is(pg_temp.slots('59 23 * * *', 'Asia/Beirut', '2026-10-24 00:00Z', 2), '10-24 20:59, 10-25 21:59', 'the last minute of a day that comes twice is the first of them');
-- Samoa had no 30 December 2011.
select is(pg_temp.slots('0 12 * * *', 'Pacific/Apia', '2011-12-29 00:00Z', 3), '12-29 22:00, 12-30 22:00, 12-31 22:00', 'a day that was left out has its slot where the clock took it, so no day is missed');
select is(pg_temp.slots('0 12 30 12 *', 'Pacific/Apia', '2011-12-01 00:00Z', 1), '12-30 22:00', 'even if it is the only one');
-- Casey went back by three hours on 2018-03-11 (04:00 became 01:00), and over midnight in 2023.
select is(pg_temp.slots('15 1,2 * * *', 'Antarctica/Casey', '2018-03-10 12:00Z'), '03-10 14:15, 03-10 15:15, 03-11 17:15', 'three hours that come twice');
select is(pg_temp.slots('0 0 * * *', 'Antarctica/Casey', '2023-03-08 00:00Z', 2), '03-08 13:00, 03-09 16:00', 'also where it is the beginning of a day');
-- Troll changes by two hours.
select is(pg_temp.slots('30 2 * * *', 'Antarctica/Troll', '2026-10-25 00:00Z', 2), '10-25 00:30, 10-26 02:30', 'two hours that come twice');

-- Steps
select throws_like(format('select jobs.next_slots(%L)', expression), message, format('"%s" is refused', expression))
from (values
  ('*/90 * * * *', '%"minute": the step of "*/90" is longer than from 0 to 59%'), ('0 */24 * * *', '%"hour"%"*/24"%'), ('0 0 */31 * *', '%"day"%'),
  ('0 0 * */12 *', '%"month"%'), ('0 0 * * */8', '%"weekday"%')) as e (expression, message);
select is(pg_temp.slots('*/59 * * * *', 'UTC', '2026-01-01 00:30Z'), '01-01 00:59, 01-01 01:00, 01-01 01:59', 'one that fits is taken');
select is(pg_temp.slots('0 0 */2 * mon', 'UTC', '2026-06-01 00:00Z', 2), '06-15 00:00, 06-29 00:00', 'a field that begins with * leaves the choice to the other: both must match');

select * from finish();
rollback;
