-- Calls without an idempotency key are marked before they leave. What was marked is never sent again blindly.
begin;
select plan(19);
select tests.tenant('pizza', 'pro');
select tests.tenant('gym', 'pro');
create table pg_temp.ended (item_id bigint, outcome text, result jsonb);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.ended select e.item_id, e.outcome, e.result from unnest(p_ended) e
$$;
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "1"}');
select tests.job('ring', '{"provider": "whatsapp", "platform_allowed": true, "effects": true, "apply_function": "private.tests_apply"}');
select tests.enqueue('ring', 'pizza', 4);
create table pg_temp.batch as select tests.claim('ring') as b;
create table pg_temp.item as select i.item_id, row_number() over (order by i.item_id) as n from pg_temp.batch, tests.items_of(b) i;
create function pg_temp.id() returns bigint language sql as $$ select (b ->> 'batch_id')::bigint from pg_temp.batch $$;
create function pg_temp.item(p_n integer) returns bigint language sql as $$ select item_id from pg_temp.item where n = p_n $$;

select is(jobs.begin_effects(pg_temp.id(), array[pg_temp.item(1), pg_temp.item(2)]), array[pg_temp.item(1), pg_temp.item(2)], 'items of the batch may be sent');
select is(jobs.begin_effects(pg_temp.id(), array[pg_temp.item(2), pg_temp.item(3)]), array[pg_temp.item(3)], 'one that has begun already may not');
select is(jobs.begin_effects(pg_temp.id(), array[-1::bigint]), '{}', 'one that is not in the batch may not');
select is(jobs.begin_effects(pg_temp.id(), '{}'), '{}', 'none is none');
select is(jobs.begin_effects(pg_temp.id(), null), '{}', 'so is null');

-- The worker closes one and is lost then.
select jobs.close_batch(pg_temp.id(), jsonb_build_array(jsonb_build_object('item_id', pg_temp.item(1), 'outcome', 'done', 'result', '{"status": "sent"}'::jsonb)));
select tests.pass('2 minutes');
select is(jobs.begin_effects(pg_temp.id(), array[pg_temp.item(4)]), '{}', 'when the lease is over nothing may begin');
select is((tests.tick() ->> 'reaped')::integer, 3, 'the rest is taken back');
select is((select outcome || ' ' || (result ->> 'status') from pg_temp.ended where item_id = pg_temp.item(1)), 'done sent', 'what was closed is closed');
select is((select string_agg(outcome || ' ' || (result ->> 'status'), ', ') from pg_temp.ended where item_id in (pg_temp.item(2), pg_temp.item(3))),
  'unknown unknown, unknown unknown', 'what had begun ends as unknown');
select is((select count(*) from jobs.items where item_id in (pg_temp.item(2), pg_temp.item(3))), 0::bigint, 'and is not tried again');
select is((select string_agg(outcome, ' ') from jobs.attempts where item_id = pg_temp.item(4)), 'lost', 'what had not begun counts as a lost attempt');
select is((select count(*) from jobs.items where item_id = pg_temp.item(4)), 1::bigint, 'and waits for its next');

-- A worker that knows that nothing left gives an item back as it was.
select tests.pass('1 hour');
create table pg_temp.second as select tests.claim('ring') as b;
select is(jobs.begin_effects((b ->> 'batch_id')::bigint, array[pg_temp.item(4)]), array[pg_temp.item(4)], 'its next attempt may begin') from pg_temp.second;
select tests.close(b, '{"outcome": "throttled", "seconds": 5, "error": "429"}') from pg_temp.second;
select is((select count(*) from jobs.effects where item_id = pg_temp.item(4)), 0::bigint, 'an item that was surely not sent may be sent later');

-- Where providers have idempotency keys a repetition does no harm: then begun or not, the item is tried again.
select tests.job('look', '{"provider": "whatsapp", "platform_allowed": true}');
select tests.pass('5 seconds');
select tests.enqueue('look', 'gym');
create table pg_temp.look as select tests.claim('look') as b;
select jobs.begin_effects((b ->> 'batch_id')::bigint, array(select item_id from tests.items_of(b))) from pg_temp.look;
select tests.pass('2 minutes');
select tests.tick();
select is((select outcome from jobs.attempts where job = 'look'), 'lost', 'a job whose effects are safe to repeat tries again');
select is((select count(*) from jobs.items where job = 'look'), 1::bigint, 'nothing is lost');
select is((select count(*) from pg_temp.ended where outcome = 'unknown'), 2::bigint, 'nothing else is unknown');

-- Nothing leaves for a tenant that is deleted while its items are out.
delete from jobs.items where job = 'ring';
select tests.tenant('cafe', 'enterprise');
select tests.enqueue('ring', slug) from unnest(array['cafe', 'gym']) slug;
create table pg_temp.late as select tests.claim('ring') as b;
select is((select count(*) from pg_temp.late, tests.items_of(b)), 2::bigint, 'two items are out');
delete from public.tenants where slug = 'cafe';
select is(jobs.begin_effects((b ->> 'batch_id')::bigint, array(select item_id from tests.items_of(b))), array(select item_id from tests.items_of(b) where slug = 'gym'),
  'only that of the tenant who is still there may be sent') from pg_temp.late;

select * from finish();
rollback;
