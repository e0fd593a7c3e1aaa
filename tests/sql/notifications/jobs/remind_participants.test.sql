-- Reminders: once per claim, before its time ends, where the campaign wants them.
begin;
select plan(19);
select tests.two_tenants();
delete from public.notification_outbox;
select tests.task('pizza', 'pizza campaign', 'task ' || n) from generate_series(1, 3) n;
insert into public.completions (tenant_id, id, task_id, participant_id, code, claimed_at, deadline)
select tests.id('pizza'), tests.id('claim ' || n), tests.id('task ' || n), tests.id('pizza/pizza participant'), 'OC-' || n, now() - interval '20 hours', now() + make_interval(hours => n * 3)
from generate_series(1, 3) n;
create function pg_temp.due() returns text language sql as $$ select coalesce(string_agg(c.code, ' ' order by c.code), 'none') from private.unreminded(null) u join public.completions c on c.id = u.completion_id $$;
create function pg_temp.works() returns text language sql as $$ select private.remind_participants(tests.id('pizza'), null, null) ->> 'queued' $$;
-- What would be due after a change; the change is taken back.
create function pg_temp.after(p_change text) returns text language plpgsql as $$
declare
  v_due text;
begin
  execute p_change;
  v_due := pg_temp.due();
  raise exception using errcode = 'P9999', message = v_due;
exception when sqlstate 'P9999' then
  return sqlerrm;
end
$$;

select is(private.somebody_to_remind(), false, 'nobody is reminded by default');
select is(pg_temp.due() || ' ' || pg_temp.works(), 'none 0', 'not even when the job is started by hand');
select is(tests.rows('pizza viewer', 'update public.reminder_settings set enabled = true'), '0', 'a viewer does not switch reminders on');
select is(tests.rows('gym owner', format('update public.reminder_settings set enabled = true where tenant_id = %L', tests.id('pizza'))), '0', 'nor another tenant''s owner');
select is(tests.rows('pizza member', 'update public.reminder_settings set enabled = true, remind_before = ''6 hours'''), '1', 'a member does, for a campaign');
select is(private.somebody_to_remind(), true, 'then the job has something to look for');
select is(pg_temp.due(), 'OC-1 OC-2', 'claims whose time ends within 6 hours are due');
select is(pg_temp.after($$ update public.completions set status = 'verified', verified_at = now() where code = 'OC-1' $$), 'OC-2', 'what is proven needs no reminder');
select is(pg_temp.after($$ update public.completions set seen_at = now() where code = 'OC-1' $$), 'OC-2', 'nor what was seen and waits for the second look');
select is(pg_temp.after($$ update public.completions set route = 'strategy' where code = 'OC-1' $$), 'OC-2', 'nor what a strategy decides');
select is(pg_temp.after($$ update public.completions set claimed_at = now() - interval '5 minutes' where code = 'OC-1' $$), 'OC-2', 'nor what was claimed just now');
select is(pg_temp.after($$ update public.completions set deadline = now() - interval '1 minute' where code = 'OC-1' $$), 'OC-2', 'nor what is too late');
select is(pg_temp.after($$ update public.campaigns set status = 'ended' $$), 'none', 'nor anything in a campaign that has ended');
select is((select string_agg(t::text, ' ') from private.tenants_to_remind() t), tests.id('pizza')::text, 'the tenants with something to remind of are served');
select is(pg_temp.works(), '2', 'the due ones are reminded');
select is(pg_temp.works() || ' ' || pg_temp.due(), '0 none', 'once');
select matches((select body from public.notification_outbox where dedupe_key = 'reminder/' || tests.id('claim 1')), '"task 1" at Pizza .* code is OC-1, .* ends on \d{4}-\d\d-\d\d \d\d:\d\d: http', 'with task, code and the time in the campaign''s zone');
select is((select count(*) from jobs.items i join public.notification_outbox o on o.id = i.subject_id where o.kind::text = 'reminder'), 2::bigint, 'they are messages like all others');
select is((select schedule from jobs.definitions where job = 'remind-participants' and kind = 'sql'), '20 * * * *', 'the job looks every hour');

select * from finish();
rollback;
