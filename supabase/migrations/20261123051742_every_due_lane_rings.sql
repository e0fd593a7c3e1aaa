-- every due lane rings: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.ring (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_wanted integer;
  v_url text;
  v_secret text;
  v_count integer := 0;
begin
  for v_definition in select d.* from jobs.definitions d where d.kind <> 'sql' and not d.paused order by d.job loop
    -- As many drains as there are batches waiting. What is counted is bounded: up to as many lanes as max_drains full batches could
    -- have, and the items of a sample of them.
    -- There is at least one where not all lanes were looked at: the sample may be of lanes that turn out empty, before those with work.
    select least(v_definition.max_drains, greatest(
      case when min(waiting.lanes) >= least(100, v_definition.batch_size * v_definition.max_drains) then 1 else 0 end,
      ceil(coalesce(avg(ready.items) * min(waiting.lanes), 0) / v_definition.batch_size))) into v_wanted
    from (
      select lane.tenant_id, row_number() over () as position, count(*) over () as lanes
      from (
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.awake
          order by l.vtime limit v_definition.batch_size * v_definition.max_drains)
        union all
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.wake_at <= p_now
          order by l.wake_at limit v_definition.batch_size * v_definition.max_drains)
      ) lane
    ) waiting
    cross join lateral (
      select count(*) as items
      from (
        select from jobs.items i
        where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.batch_id is null and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit greatest(v_definition.quantum, v_definition.batch_size * v_definition.max_drains / waiting.lanes)
      ) few
    ) ready
    where waiting.position <= 100;
    continue when v_wanted = 0 or jobs.provider_room(v_definition.provider, 1, p_now) = 0;
    v_wanted := v_wanted - (
      select count(*) from jobs.drains d
      where d.job = v_definition.job and d.ended_at is null and jobs.drain_is_live(d, v_definition.lease_seconds, p_now));
    continue when v_wanted <= 0;

    v_url := coalesce(v_url, private.platform_secret('project_url'));
    v_secret := coalesce(v_secret, private.platform_secret('cron_secret'));
    if coalesce(v_url, '') = '' or length(coalesce(v_secret, '')) < 32 then
      perform jobs.open_alert(null, 'doorbell', 'Vault needs the secrets project_url and cron_secret (32 characters or more): no doorbell can be rung.');
      return v_count;
    end if;
    for v_n in 1..v_wanted loop
      perform jobs.ring_once(v_definition.job, v_url, v_secret, p_now);
      v_count := v_count + 1;
    end loop;
  end loop;
  return v_count;
end
$function$;
