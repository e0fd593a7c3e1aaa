-- Every opening and closing within two years, in zones whose clocks do everything that clocks do, against a walk by the minute.
--
-- The walk goes by the offsets of the zone: it looks at every minute of the days around a change of the clock and at every
-- quarter of an hour otherwise, since windows open and close at full quarters here. What is asked of the functions are the
-- moments that could go wrong: right before, at and right after every edge that the walk has found.
begin;
select plan(5);

create table pg_temp.zone as select * from (values
  ('Europe/Berlin'), ('Australia/Lord_Howe'), ('Asia/Beirut'), ('Asia/Kathmandu'), ('Pacific/Chatham')) as z (zone);
-- Over midnight, in the hours that clocks skip and repeat, from midnight.
create table pg_temp.hours as select * from (values
  ('22:00'::time, '07:00'::time), ('02:15', '02:45'), ('00:00', '03:00')) as w (from_at, until_at);

create table pg_temp.change as
  select z.zone, q.at
  from pg_temp.zone z, generate_series('2026-01-01 00:00Z'::timestamptz, '2028-01-01 00:00Z', interval '15 minutes') as q (at)
  where (q.at at time zone z.zone) - ((q.at - interval '15 minutes') at time zone z.zone) <> interval '15 minutes';
select ok(count(*) between 12 and 40, 'the clocks change often enough in these zones') from pg_temp.change;

create table pg_temp.minute as
  select z.zone, q.at from pg_temp.zone z, generate_series('2026-01-01 00:00Z'::timestamptz, '2028-01-01 00:00Z', interval '15 minutes') as q (at)
  union
  select c.zone, q.at from pg_temp.change c, generate_series(c.at - interval '3 hours', c.at + interval '3 hours', interval '1 minute') as q (at);
create table pg_temp.edge as
  select zone, from_at, until_at, at, open, lead(at) over w as next_at
  from (
    select m.zone, h.from_at, h.until_at, m.at, o.open, lag(o.open) over (partition by m.zone, h.from_at, h.until_at order by m.at) as was
    from (select m.*, (m.at at time zone m.zone)::time as local from pg_temp.minute m) m
    cross join pg_temp.hours h
    cross join lateral (select case when h.from_at <= h.until_at then m.local >= h.from_at and m.local < h.until_at else m.local >= h.from_at or m.local < h.until_at end as open) o
  ) walked
  where open <> was
  window w as (partition by zone, from_at, until_at order by at);
select ok(count(*) > 20000, 'tens of thousands of edges are found') from pg_temp.edge;

-- All edges within a week of a change of the clock, and every 150th of the plain days.
create table pg_temp.asked as
  select e.* from (select x.*, row_number() over (order by zone, from_at, at) as n from pg_temp.edge x where next_at is not null) e
  where n % 150 = 0 or exists (select from pg_temp.change c where c.zone = e.zone and e.at between c.at - interval '30 hours' and c.at + interval '30 hours');
select is_empty($$
  select zone, from_at, until_at, at, next_at, private.window_closes_at(zone, from_at, until_at, at) from pg_temp.asked
  where open and private.window_closes_at(zone, from_at, until_at, at) <> next_at
$$, 'asked when it opens, a window says when it closes');
select is_empty($$
  select zone, from_at, until_at, at, next_at, private.window_opens_at(zone, from_at, until_at, at) from pg_temp.asked
  where not open and private.window_opens_at(zone, from_at, until_at, at) is distinct from next_at
$$, 'asked when it closes, it says when it opens next');
select is_empty($$
  select zone, from_at, until_at, at from pg_temp.asked
  where open and (private.window_opens_at(zone, from_at, until_at, at) <> at or private.window_opens_at(zone, from_at, until_at, at - interval '1 second') is distinct from at)
$$, 'a second before it opens it is shut, and opens then');

select * from finish();
rollback;
