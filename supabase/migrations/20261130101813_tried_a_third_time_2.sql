-- tried a third time: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

-- sql/95_operations/90_tick.rows.sql
-- Before the first tick: a row that goes into a default partition while the partition it belongs to is attached would be refused.
select jobs.make_partitions(now()) where to_regclass(format('jobs.attempts_%s', to_char(now() at time zone 'UTC', 'YYYYMMDD'))) is null;

-- The one pg_cron entry. Running this again keeps it one, and brings its command up to date.
select jobs.start_tick();
