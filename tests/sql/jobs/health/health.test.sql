begin;
select plan(11);
select tests.two_tenants();
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'a-cron-secret-of-32-or-more-characters');
delete from jobs.alerts;
delete from jobs.drains;
update jobs.platform set stopped = false, last_tick_at = clock_timestamp();

create function pg_temp.reasons() returns text language sql as $$
  select case when (h ->> 'healthy')::boolean = (h -> 'reasons' = '[]') then coalesce((select string_agg(r, ' ') from jsonb_array_elements_text(h -> 'reasons') r), 'healthy') end
  from jobs.health() h
$$;
select is(pg_temp.reasons(), 'healthy', 'with a tick just now all is well');
update jobs.platform set last_tick_at = clock_timestamp() - interval '10 minutes';
select matches(pg_temp.reasons(), '^The last tick came 600 seconds ago', 'a tick that stays away is a reason');
update jobs.platform set last_tick_at = null;
select is(pg_temp.reasons(), 'No tick has come yet.', 'so is one that never came');
update jobs.platform set last_tick_at = clock_timestamp(), stopped = true;
select matches(pg_temp.reasons(), 'stopped', 'so is the switch');
update jobs.platform set stopped = false;
select private.keep_secret('cron_secret', 'short');
select matches(pg_temp.reasons(), '^Vault lacks', 'so is a secret that is missing or too short');
select private.keep_secret('cron_secret', 'a-cron-secret-of-32-or-more-characters');
insert into jobs.drains (job, rung_at, ended_at, error) select 'send-notifications', clock_timestamp(), clock_timestamp(), 'the doorbell was not answered' from generate_series(1, 3);
select matches(pg_temp.reasons(), '^3 of the last doorbells of send-notifications were not answered', 'so are doorbells that nobody answers');
delete from jobs.drains;
select jobs.open_alert(null, 'provider meta', 'meta does not answer.');
select matches(pg_temp.reasons(), '^Alert: provider meta', 'so is an alert of the platform');
delete from jobs.alerts;
select jobs.open_alert(tests.id('pizza'), 'credential meta', 'pizza''s credential canary');
select is(pg_temp.reasons(), 'healthy', 'a tenant''s own trouble is not the platform''s');
select unalike(jobs.health()::text, '%pizza%', 'and its name is not told');
select is(tests.answer('pizza owner', 'select jobs.health()'), '42501', 'no user asks the database');
select is(tests.answer('service_role', 'select jobs.health() ->> ''healthy'''), 'true', 'the function does');

select * from finish();
rollback;
