-- tried by strangers a third time: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.return_batch (
  batch_id bigint
)
  returns integer
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
  AS $function$
#variable_conflict use_column
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  select b.* into v_batch from jobs.batches b where b.batch_id = return_batch.batch_id for update;
  if not found then
    return 0;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'held', 'until', clock_timestamp())) into v_outcomes
  from jobs.leased_items i
  where i.batch_id = v_batch.batch_id
    and not exists (select from jobs.effects x where x.batch_id = i.batch_id and x.item_id = i.item_id);
  if v_outcomes is not null then
    v_count := jobs.settle(v_definition, v_batch, v_outcomes, clock_timestamp());
  end if;
  delete from jobs.batches b
  where b.batch_id = v_batch.batch_id and not exists (select from jobs.leases e where e.batch_id = v_batch.batch_id);
  return v_count;
end
$function$;
