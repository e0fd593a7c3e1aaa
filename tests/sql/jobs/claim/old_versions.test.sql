-- A claim looks a clock up at its newest version, however many older ones a snapshot keeps. This transaction is one that keeps them.
begin;
select plan(3);
select tests.job('bake');
do $$
begin
  for n in 1..3000 loop
    perform jobs.set_clock(c) from (select x.* from jobs.clocks x where x.job = 'bake' order by x.revision desc limit 1) c;
  end loop;
end
$$;
select is((select string_agg(c.revision::text, ' ') from jobs.clocks c where c.job = 'bake'), '3000', 'each time it is written its key is new');
create function pg_temp.pages(p_query text) returns integer language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  v_plan json;
begin
  execute 'explain (analyze, buffers, format json) ' || p_query into v_plan;
  return (v_plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (v_plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
end
$$;
select cmp_ok(pg_temp.pages('select c.* from jobs.clocks c where c.job = ''bake'' order by c.revision desc limit 1'), '<', 10, 'from the newest version on it is a few pages');
select cmp_ok(pg_temp.pages('select c.* from jobs.clocks c where c.job = ''bake'' order by c.revision limit 1'), '>', 30, 'control: the old versions are still there');
select * from finish();
rollback;
