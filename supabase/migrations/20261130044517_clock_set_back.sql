-- clock set back: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.follow_clock (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Worked out anew when it is written.
  update jobs.definitions d set next_slot_at = null where d.schedule is not null and d.next_slot_at > p_now;
  update jobs.platform p set last_tick_at = p_now, watched_at = '-infinity', cleaned_at = '-infinity';
  delete from jobs.backlogs;
  update jobs.drains d
  set rung_at = least(d.rung_at, p_now), answered_at = case when d.answered_at is not null then least(d.answered_at, p_now) end,
    seen_at = case when d.seen_at is not null then least(d.seen_at, p_now) end
  where d.ended_at is null;
  update jobs.batches b set lease_until = p_now + make_interval(secs => d.lease_seconds)
  from jobs.definitions d
  where d.job = b.job and b.lease_until > p_now + make_interval(secs => d.lease_seconds);
  update jobs.breakers b set since = least(b.since, p_now), open_until = case when b.state = 'open' then p_now end
  where b.since > p_now or b.open_until > p_now + interval '20 minutes';
  update jobs.rates r set free_at = p_now + interval '1 minute' where r.free_at > p_now + interval '1 minute';
  -- What was enqueued under the later time waits for as long as it was meant to, and no longer.
  update jobs.items i set run_at = i.run_at - (i.enqueued_at - p_now), enqueued_at = p_now where i.batch_id is null and i.enqueued_at > p_now;
  -- All that sleep until a time are looked at; those that still have a reason sleep on.
  update jobs.lanes l set wake_at = p_now, not_before = '-infinity', head_at = null, head_id = null
  from (
    select x.tenant_id, x.job from jobs.lanes x where x.wake_at > p_now order by x.job, x.tenant_id for no key update
  ) asleep
  where l.tenant_id = asleep.tenant_id and l.job = asleep.job;
end
$function$;

create or replace function jobs.tick()
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  set lock_timeout to '2s'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_reaped integer;
  v_opened integer := 0;
  v_rung integer := 0;
begin
  -- An overlapping tick leaves at once.
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    return jsonb_build_object('skipped', 'another tick is running');
  end if;
  perform jobs.require_read_committed();
  if (select p.last_tick_at > v_now + interval '10 seconds' from jobs.platform p) then
    perform jobs.follow_clock(v_now);
    return jsonb_build_object('skipped', 'the clock was set back');
  end if;
  v_reaped := jobs.reap(v_now);
  perform jobs.finish_lost_drains(v_now);
  if not (select p.stopped from jobs.platform p) then
    v_opened := jobs.open_due_slots(v_now);
    begin
      v_rung := jobs.ring(v_now);
      perform jobs.close_alert(null, 'doorbell') where v_rung > 0;
    exception when others then
      perform jobs.open_alert(null, 'doorbell', 'No doorbell could be rung: ' || sqlerrm);
    end;
  end if;
  -- Looking after things may fail (somebody holds a partition that is to be dropped); the doorbells above are rung all the same.
  begin
    update jobs.platform p set watched_at = v_now where p.watched_at < v_now - interval '1 minute';
    if found then
      perform jobs.watch(v_now);
      delete from jobs.breakers b where b.state = 'recovering' and b.since < v_now - interval '1 minute';
    end if;
    perform jobs.clean(v_now);
    perform jobs.close_alert(null, 'housekeeping');
  exception when others then
    perform jobs.open_alert(null, 'housekeeping', 'The tick could not look after its history: ' || sqlerrm);
  end;
  update jobs.platform p
  set last_tick_at = v_now, last_tick_ms = round(extract(epoch from clock_timestamp() - v_now) * 1000, 3);
  return jsonb_build_object('reaped', v_reaped, 'opened', v_opened, 'rung', v_rung);
end
$function$;

comment on function "jobs"."follow_clock"(timestamp with time zone) is 'After the server''s clock was set back: schedules, sleeping lanes, leases, drains and watches go by the new time. Called by the tick that sees it.';

revoke all on function "jobs"."follow_clock"(timestamp with time zone) from public;
