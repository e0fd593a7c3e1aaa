-- tried a third time: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

-- sql/95_operations/90_tick.rows.sql
-- The one pg_cron entry. Running this again keeps it one, and brings its command up to date.
select jobs.start_tick();
