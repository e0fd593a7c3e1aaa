-- The one pg_cron entry. Running this again keeps it one, and brings its command up to date.
select jobs.start_tick();
