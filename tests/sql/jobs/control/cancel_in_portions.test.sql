-- However many items are cancelled, and whatever the domain makes of one of them.
begin;
select plan(17);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
create table pg_temp.told (item_id bigint, tenant_id uuid, outcome text, portion integer);
create function private.tests_apply(p_ended jobs.ended[]) returns void language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from unnest(p_ended) e where e.subject_id = md5('broken')::uuid) then
    raise exception 'this one cannot end';
  end if;
  insert into pg_temp.told select e.item_id, e.tenant_id, e.outcome, cardinality(p_ended) from unnest(p_ended) e;
  -- The next item of the same key comes when the last one ends.
  perform jobs.enqueue('bake', e.tenant_id, dedupe_key => 'again') from unnest(p_ended) e where e.subject_id = md5('again')::uuid;
end
$$;
select tests.job('bake', '{"apply_function": "private.tests_apply"}');

-- Many
select tests.enqueue('bake', 'pizza', 1500);
select tests.enqueue('bake', 'gym', 1000);
select jobs.enqueue('bake', tests.id('pizza'), tests.id('again'), dedupe_key => 'again');
create table pg_temp.before as select item_id from jobs.items;
select is(jobs.cancel('bake', dry_run => false), 2501, 'all that waits is cancelled');
select bag_eq('select item_id from pg_temp.told', 'select item_id from pg_temp.before', 'the domain is told of each once');
select is((select max(portion) from pg_temp.told), 1000, 'and of a thousand at a time');
select is((select count(*) from jobs.attempts where job = 'bake' and outcome = 'cancelled'), 2501::bigint, 'the history has all of them');
select is((select (detail ->> 'items')::integer from public.audit_log where action = 'items.cancelled'), 2501, 'the audit log has one row with the total');
select is((select count(*) from jobs.items where job = 'bake'), 1::bigint, 'what the domain brings when it is told is not cancelled with the rest');
select is((select i.dedupe_key from jobs.items i where job = 'bake'), 'again', 'it has the key that was freed');

-- One that cannot end
delete from pg_temp.told;
delete from jobs.items;
delete from jobs.dedupe_keys;
select tests.enqueue('bake', slug, 2) from unnest(array['pizza', 'gym']) slug;
select jobs.enqueue('bake', tests.id('gym'), tests.id('broken'), dedupe_key => 'broken', payload => '{"n": 1}');
create table pg_temp.broken as select item_id from jobs.items where dedupe_key = 'broken';
select is(jobs.cancel('bake', dry_run => false), 5, 'an item whose end the domain cannot take does not keep the others');
select is((select count(*) from jobs.items), 0::bigint, 'of no tenant');
select is((select count(*) from pg_temp.told where outcome = 'cancelled'), 4::bigint, 'these are cancelled');
select is((select d.reason || ': ' || d.last_error from jobs.dead_items d join pg_temp.broken using (item_id)),
  'its result could not be applied: The result could not be applied: this one cannot end', 'that one is dead and says why');
select is((select d.payload || jsonb_build_object('key', d.dedupe_key) from jobs.dead_items d join pg_temp.broken using (item_id)), '{"n": 1, "key": "broken"}', 'with all that it had');
select is((select a.outcome from jobs.attempts a join pg_temp.broken using (item_id)), 'refused', 'its history does not call it cancelled');
select is((select detail ->> 'died' from public.audit_log where action = 'items.cancelled' and detail ->> 'items' = '5'), '1', 'the audit log tells how many died');
select is(jobs.replay('bake', dry_run => false), 1, 'it can be replayed');
select is(tests.served(tests.claim('bake')), 'gym 1', 'and is served');

-- Of a run
delete from jobs.items;
select tests.job('daily', '{"schedule": "0 0 1 1 *", "apply_function": "private.tests_refuse"}');
create function private.tests_refuse(p_ended jobs.ended[]) returns void language plpgsql set search_path = '' as $$
begin
  raise exception 'this one cannot end';
end
$$;
select jobs.start_slot(d, now() - interval '1 day') from jobs.definitions d where d.job = 'daily';
select jobs.cancel('daily', dry_run => false);
select jobs.finish_lost_drains(clock_timestamp());
select is((select r.status || ' ' || r.expected from jobs.runs r where r.job = 'daily'), 'success 0', 'a run waits for none of them');

select * from finish();
rollback;
