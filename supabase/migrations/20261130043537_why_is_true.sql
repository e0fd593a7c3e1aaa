-- why is true: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.why (
  item_id bigint,
  tenant_id uuid default null::uuid
)
  returns text
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_item jobs.items;
  v_lane jobs.lanes;
  v_definition jobs.definitions;
  v_dead jobs.dead_items;
  v_last jobs.attempts;
  v_judged record;
  v_behind bigint;
  v_rate numeric;
  v_stuck text;
begin
  select i.* into v_item from jobs.items i where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
  if not found then
    select d.* into v_dead from jobs.dead_items d where d.item_id = why.item_id and (why.tenant_id is null or d.tenant_id = why.tenant_id);
    if found then
      return format('Dead since %s after %s attempts: %s. Last error: %s. It can be replayed.', v_dead.died_at, v_dead.attempts, v_dead.reason,
        coalesce(v_dead.last_error, 'none'));
    end if;
    select a.* into v_last from jobs.attempts a
    where a.item_id = why.item_id and (why.tenant_id is null or a.tenant_id = why.tenant_id) order by a.finished_at desc limit 1;
    if found then
      return format('It ended at %s: %s%s.', v_last.finished_at, v_last.outcome, coalesce(' (' || v_last.error || ')', ''));
    end if;
    return 'There is no such item.';
  end if;

  select d.* into v_definition from jobs.definitions d where d.job = v_item.job;
  if v_item.batch_id is not null then
    return (
      select case when b.lease_until > clock_timestamp() then format('It is running: batch %s, lease until %s.', b.batch_id, b.lease_until)
        else format('Its worker was lost: the lease of batch %s ended at %s. The next tick takes it back.', b.batch_id, b.lease_until) end
      from jobs.batches b where b.batch_id = v_item.batch_id);
  elsif (select p.stopped from jobs.platform p) then
    return 'All background work is stopped by the platform''s switch.';
  elsif v_definition.paused then
    return format('The job %s is paused.', v_item.job);
  end if;

  select l.* into v_lane from jobs.lanes l where l.tenant_id = v_item.tenant_id and l.job = v_item.job;
  select j.* into v_judged from jobs.judge(v_definition, array[v_item.tenant_id], clock_timestamp()) j;
  if v_judged.reason = 'paused' then
    return format('Its lane is paused: %s.', v_judged.detail);
  elsif v_judged.reason = 'breaker' then
    return format('The breaker of its lane is open: %s%s.', v_judged.detail,
      case when v_judged.wake_at is not null then format(', next probe at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return (
      select format('The provider %s does not answer for anybody. One item of one tenant probes it, %s; then the others go on.', v_definition.provider,
        case when b.open_until > clock_timestamp() then format('not before %s', b.open_until) else 'now' end)
      from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = v_definition.provider);
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
  elsif v_judged.reason = 'cap' and exists (
    select from jobs.breakers b where b.tenant_id = v_item.tenant_id and b.provider = v_definition.provider and b.state = 'open'
  ) then
    return 'The breaker of its lane is open, and another item probes the provider; it goes on when that one is answered.';
  elsif v_judged.reason = 'cap' then
    return format('Its tenant has as many items of %s in flight as its plan allows; it goes on when one of them ends.', v_item.job);
  elsif v_judged.reason = 'rate limit' then
    return format('It waits until %s for a rate limit: %s.', v_judged.wake_at, coalesce(v_judged.detail, 'that of its plan is used up for the moment'));
  elsif not v_lane.awake and v_lane.wake_at > clock_timestamp() then
    return format('Its lane is asleep until %s because of: %s%s.', v_lane.wake_at, v_lane.reason, coalesce(' (' || v_lane.detail || ')', ''));
  elsif v_definition.cap <= (select coalesce(sum(e.open), 0) from jobs.leases e where e.job = v_item.job) then
    return format('The job %s has as many items in flight as it may have for all tenants together; it goes on when one of them ends.', v_item.job);
  elsif (
    select jobs.rate_room(p.rate_per_minute, r.free_at, clock_timestamp()) <= 0
    from jobs.provider_limits p join jobs.rates r on r.tenant_id = jobs.everyone_id() and r.provider = p.provider
    where p.provider = v_definition.provider
  ) then
    return format('The limit of %s for all tenants together is used up for the moment.', v_definition.provider);
  end if;

  select count(*) into v_behind
  from (
    select from jobs.items i
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and i.batch_id is null and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
    order by i.run_at, i.item_id
    limit 100000
  ) earlier;
  -- What the lane got in the last five minutes tells what it will get.
  select count(*) / 300.0 into v_rate from jobs.attempts a
  where a.tenant_id = v_item.tenant_id and a.job = v_item.job and a.finished_at > clock_timestamp() - interval '5 minutes';
  v_stuck := case
    when coalesce((select p.last_tick_at < clock_timestamp() - make_interval(secs => 3 * p.tick_seconds + 5) from jobs.platform p), true)
      then format('No tick has come%s: nothing starts before one does.', (select ' since ' || p.last_tick_at from jobs.platform p))
    when (
      select count(*) >= 3 and bool_and(d.error is not distinct from 'the doorbell was not answered') from jobs.drains d
      where d.job = v_item.job and (d.ended_at > clock_timestamp() - interval '5 minutes' or (d.ended_at is null and d.answered_at is not null))
    ) then 'No worker answers the doorbells of its job: it starts when one does.' end;
  return format('It is ready, behind %s items of its own tenant%s. %s', v_behind,
    -- How many other tenants there are, and how busy, is none of a tenant's business.
    case when private.is_platform() then format('; %s other lanes are awake',
      (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o)) end,
    case
      when v_stuck is not null then v_stuck
      when v_rate > 0
        then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      when v_behind < least(v_judged.share, v_definition.batch_size) then 'Expected start: with the next drain.'
      else 'Expected start: not known, nothing of its lane was served in the last five minutes.' end);
end
$function$;

comment on function "jobs"."why"(bigint, uuid) is 'Why an item is not running, in words: running, stopped, paused, breaker, due at, capped (its tenant, or the job or provider for all), rate limited, asleep until because, behind n items with the expected start, no tick or worker comes, dead, or ended how. Definer: reads definitions and history without a grant on each.';
