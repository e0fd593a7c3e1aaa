-- The one pg_cron entry. Running this again keeps it one.
select jobs.start_tick();
