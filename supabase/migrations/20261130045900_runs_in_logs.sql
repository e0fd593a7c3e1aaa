-- runs in logs: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.answer_doorbell (
  ticket uuid
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set answered_at = clock_timestamp(), seen_at = clock_timestamp()
  where d.drain_id = answer_doorbell.ticket and d.answered_at is null and d.ended_at is null
    and d.rung_at > clock_timestamp() - interval '300 seconds'
  returning * into v_drain;
  if not found then
    return null;
  end if;
  update jobs.drains d set run_id = jobs.open_run(v_drain.job, 'queue') where d.drain_id = v_drain.drain_id returning d.run_id into v_drain.run_id;
  -- For the log. The items of a scheduled job have runs of their own: mostly one is open.
  return jsonb_build_object('drain_id', v_drain.drain_id, 'job', v_drain.job, 'run_id', coalesce(v_drain.run_id,
    (select max(r.run_id) from jobs.runs r where r.job = v_drain.job and r.finished_at is null)));
end
$function$;

comment on function "jobs"."answer_doorbell"(uuid) is 'A worker answers a doorbell: {"drain_id","job","run_id"}. Null when the ticket is unknown, older than 300 s or answered before: a doorbell that comes twice drains once. Definer: the engine''s tables are written by its functions only.';
