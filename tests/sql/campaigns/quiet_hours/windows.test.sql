-- When messages may leave: a daily window in the campaign's own zone, [from, until), over midnight if from is later than until.
-- The functions are compared with a walk over every minute of the days on which clocks change, and of plain ones.
begin;
select plan(16);

-- Plain words first
create function pg_temp.opens(p_from time, p_until time, p_at timestamptz, p_zone text default 'Europe/Berlin') returns timestamptz language sql as $$
  select private.window_opens_at(p_zone, p_from, p_until, p_at)
$$;
create function pg_temp.closes(p_from time, p_until time, p_at timestamptz, p_zone text default 'Europe/Berlin') returns timestamptz language sql as $$
  select private.window_closes_at(p_zone, p_from, p_until, p_at)
$$;
select is(pg_temp.opens('09:00', '18:00', '2026-06-01 12:00+02'), '2026-06-01 12:00+02', 'within the window it is now');
select is(pg_temp.opens('09:00', '18:00', '2026-06-01 08:59+02'), '2026-06-01 09:00+02', 'before it, today');
select is(pg_temp.opens('09:00', '18:00', '2026-06-01 18:00+02'), '2026-06-02 09:00+02', 'at its end, tomorrow');
select is(pg_temp.closes('09:00', '18:00', '2026-06-01 12:00+02'), '2026-06-01 18:00+02', 'it closes today');
select is(pg_temp.opens('22:00', '02:00', '2026-06-01 12:00+02'), '2026-06-01 22:00+02', 'over midnight: it opens in the evening');
select is(pg_temp.closes('22:00', '02:00', '2026-06-01 23:00+02'), '2026-06-02 02:00+02', 'and closes in the night');
select is(pg_temp.opens('22:00', '02:00', '2026-06-02 01:59+02'), '2026-06-02 01:59+02', 'after midnight it is still open');
select is(pg_temp.opens('00:00', '24:00', '2026-06-01 12:00+02'), '2026-06-01 12:00+02', 'the full day is always open');
select is(pg_temp.closes('00:00', '24:00', '2026-06-01 12:00+02'), 'infinity', 'and never closes');
select is(pg_temp.opens('12:00', '12:00', '2026-06-01 12:00+02'), null, 'from equal to until is never open');
select is(pg_temp.opens('09:00', '18:00', '2026-06-01 12:00+02', 'America/New_York'), '2026-06-01 09:00-04', 'the campaign''s zone counts, not the server''s');

-- Every minute
create function pg_temp.is_open(p_zone text, p_from time, p_until time, p_at timestamptz) returns boolean language sql as $$
  select case when p_from <= p_until then (p_at at time zone p_zone)::time >= p_from and (p_at at time zone p_zone)::time < p_until
    else (p_at at time zone p_zone)::time >= p_from or (p_at at time zone p_zone)::time < p_until end
$$;
create table pg_temp.setting as
  select z.zone, z.starts, w.from_at, w.until_at, m.at
  from (values
    -- the days on which the clocks go forward and back; half an hour at Lord Howe; at midnight in Beirut; and a zone without changes
    ('Europe/Berlin', '2026-03-28 00:00+01'::timestamptz), ('Europe/Berlin', '2026-10-24 00:00+02'),
    ('America/New_York', '2026-03-07 00:00-05'), ('America/New_York', '2026-10-31 00:00-04'),
    ('Australia/Lord_Howe', '2026-04-04 00:00+11'), ('Australia/Lord_Howe', '2026-10-03 00:00+10:30'),
    ('Asia/Beirut', '2026-03-28 00:00+02'), ('Asia/Beirut', '2026-10-24 00:00+03'),
    ('Asia/Kolkata', '2026-06-01 00:00+05:30')) as z (zone, starts)
  cross join (values ('09:00'::time, '18:00'::time), ('22:00', '02:30'), ('02:30', '10:00'), ('00:00', '02:30'), ('02:15', '02:45'), ('23:30', '00:30'), ('01:30', '03:30'), ('00:00', '24:00'), ('05:00', '05:00'))
    as w (from_at, until_at)
  cross join lateral generate_series(z.starts, z.starts + interval '52 hours', interval '1 minute') as m (at);
create table pg_temp.walked as
  select zone, starts, from_at, until_at, at, open, min(at) filter (where open) over w as next_open, min(at) filter (where not open) over w as next_shut
  from (select *, pg_temp.is_open(zone, from_at, until_at, at) as open from pg_temp.setting) minute
  window w as (partition by zone, starts, from_at, until_at order by at desc);

-- Every 29th minute of the first day and a half, so that all minutes of the hour come up.
create table pg_temp.sample as
  select w.*, private.window_opens_at(zone, from_at, until_at, at) as opens, case when open then private.window_closes_at(zone, from_at, until_at, at) end as closes
  from pg_temp.walked w
  where extract(epoch from at - starts) / 60 < 36 * 60 and (extract(epoch from at - starts) / 60)::integer % 29 = 0;
select ok(count(*) > 5000, 'thousands of moments are compared') from pg_temp.sample;
select is_empty($$ select zone, from_at, until_at, at, opens from pg_temp.sample where open and opens <> at $$, 'what is open by the clock on the wall is open');
select is_empty($$ select zone, from_at, until_at, at, next_open, opens from pg_temp.sample where not open and next_open is not null and opens is distinct from next_open $$,
  'the next opening is the first minute at which the clock on the wall is within the window');
select is_empty($$ select zone, from_at, until_at, at, next_shut, closes from pg_temp.sample where open and next_shut is not null and closes is distinct from next_shut $$,
  'the end is the first minute at which it is not: no message leaves outside of it');
select is_empty($$ select zone, at, opens from pg_temp.sample where from_at = until_at and opens is not null $$, 'a window without length never opens');

select * from finish();
rollback;
