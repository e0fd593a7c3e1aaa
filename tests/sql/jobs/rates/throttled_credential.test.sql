-- A provider that says "not now" says it of a credential: all lanes that use it wait until then, of all jobs and, where it is the
-- platform's, of all tenants; who has another credential is not held; no attempt is burnt; it is over by itself.
begin;
select plan(41);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym', 'salon', 'bar']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "platform"}');
select public.set_credential(tests.id('gym'), 'meta', 'facebook_login', '{"access_token": "own-gym"}');
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
select tests.job('read', '{"provider": "meta", "platform_allowed": true}');
select tests.job('mail', '{"provider": "email", "platform_allowed": true}');
select jobs.set_platform_credential('email', 'resend', '{"api_key": "re_1"}', '{"from": "Onecron <a@example.com>"}');
select tests.job('bake');
create function pg_temp.why(p_job text, p_slug text) returns text language sql as $$
  select jobs.why((select max(i.item_id) from jobs.items i where i.job = p_job and i.tenant_id = tests.id(p_slug)))
$$;

-- The platform's
select tests.enqueue('look', 'pizza', 2);
select is(tests.served(tests.claim('look', 1)), 'pizza 1', 'one is out with the platform''s credential');
create table pg_temp.first as select tests.claim('look', 1) as b;
select tests.enqueue(job, slug, 2) from unnest(array['look', 'read', 'mail', 'bake']) job, unnest(array['salon', 'gym']) slug;
select tests.close(b, '{"outcome": "throttled", "seconds": 100, "error": "429, and what only pizza may know"}') from pg_temp.first;
select is(tests.lane('look', 'pizza'), 'asleep: rate limit, wakes', 'the lane of the item sleeps');
select is(tests.served(tests.claim('look')), 'gym 2', 'of the others only who has a credential of its own is served');
select is(tests.served(tests.claim('read')), 'gym 2', 'also in other jobs');
select is(tests.lane('look', 'salon'), 'asleep: rate limit, wakes', 'who leans on the platform''s sleeps');
select ok(tests.wakes_in('look', 'salon') between 95 and 100, 'until the provider''s time');
select is(tests.served(tests.claim('mail')), 'gym 2, salon 2', 'another provider is not concerned');
select is(tests.served(tests.claim('bake')), 'gym 2, salon 2', 'nor what needs none');
select tests.enqueue('look', slug) from unnest(array['bar', 'salon']) slug;
select is(tests.claim('look'), null, 'who comes anew waits as well');
select matches(pg_temp.why('look', 'bar'), '^It waits until .* for a rate limit: the platform''s meta credential is throttled\.$', 'and can be told why');
select is((select count(*) from jobs.throttles), 1::bigint, 'one row says it, however many tenants there are');
select public.set_credential(tests.id('bar'), 'meta', 'facebook_login', '{"access_token": "own-bar"}');
select is(tests.served(tests.claim('look')), 'bar 1', 'who brings a credential of its own waits no longer');
select is((select max(attempts) from jobs.items where job = 'look'), 0::smallint, 'no attempt is burnt');
select is((select count(*) from jobs.breakers), 0::bigint, 'and nothing is counted as a failure');

-- A later answer that asks for less changes nothing, one that asks for more does.
create function pg_temp.again(p_seconds integer) returns numeric language plpgsql as $$
declare
  v_batch jsonb;
begin
  -- One that was out when the first answer came.
  update jobs.throttles set until = until - interval '1 day';
  update jobs.lanes set wake_at = null, awake = true, reason = null, detail = null where job = 'look' and tenant_id = tests.id('salon');
  v_batch := tests.claim('look', 1);
  update jobs.throttles set until = until + interval '1 day';
  perform tests.close(v_batch, jsonb_build_object('outcome', 'throttled', 'seconds', p_seconds, 'error', '429'));
  return (select round(extract(epoch from until - clock_timestamp()), -1) from jobs.throttles);
end
$$;
select is(pg_temp.again(10), 100::numeric, 'an answer that asks for less does not shorten it');
select is(pg_temp.again(300), 300::numeric, 'one that asks for more makes it longer');
select tests.pass('200 seconds');
update jobs.lanes set wake_at = null, awake = true, reason = null, detail = null where job = 'look' and tenant_id = tests.id('salon');
select is(tests.claim('look'), null, 'before its time nobody is served');
select tests.pass('101 seconds');
select is(tests.served(tests.claim('look')), 'pizza 1, salon 3', 'then all go on, by themselves');

-- A tenant's own
select tests.enqueue(job, slug) from unnest(array['look', 'read']) job, unnest(array['gym', 'salon']) slug;
create table pg_temp.own as select tests.claim('look') as b;
select jobs.close_batch((b ->> 'batch_id')::bigint, (select jsonb_agg(jsonb_build_object('item_id', i.item_id) || case slug
    when 'gym' then '{"outcome": "throttled", "seconds": 100, "error": "usage 96 %"}' else '{"outcome": "done"}' end::jsonb)
  from tests.items_of(b) i)) from pg_temp.own;
select is(tests.served(tests.claim('read')), 'salon 3', 'a tenant''s own credential holds the lanes of that tenant, and no others');
select matches(pg_temp.why('read', 'gym'), '^It waits until .* for a rate limit: usage 96 %\.$', 'which is told why');
select is(tests.lane('read', 'gym'), 'asleep: rate limit, wakes', 'its other job sleeps too');
select public.set_credential(tests.id('gym'), 'meta', 'facebook_login', '{"access_token": "second-gym"}');
select is(tests.served(tests.claim('read')), 'gym 1', 'another credential starts afresh');
select is((select count(*) from jobs.throttles where tenant_id = tests.id('gym')), 0::bigint, 'nothing is left of it');

-- An answer about a credential that was replaced meanwhile
select tests.enqueue(job, 'gym') from unnest(array['look', 'read']) job;
create table pg_temp.old as select tests.claim('look') as b;
select public.set_credential(tests.id('gym'), 'meta', 'facebook_login', '{"access_token": "third-gym"}');
select tests.close(b, '{"outcome": "throttled", "seconds": 100, "error": "429"}') from pg_temp.old;
select is(tests.served(tests.claim('read')), 'gym 1', 'does not hold the new one');
select tests.enqueue(job, 'salon') from unnest(array['look', 'read']) job;
create table pg_temp.last as select tests.claim('look') as b;
select tests.close(b, '{"outcome": "throttled", "seconds": 100, "error": "429"}') from pg_temp.last;
select is(tests.claim('read'), null, 'the platform''s is throttled again');
select is(tests.lane('read', 'salon'), 'asleep: rate limit, wakes', 'and holds');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "second-platform"}');
select is(tests.served(tests.claim('read')), 'salon 1', 'another of the platform''s starts afresh too');

-- A limit of one tenant's account at the provider is no other tenant's
select tests.enqueue(job, slug, 2) from unnest(array['look', 'read']) job, unnest(array['salon', 'pizza']) slug;
create function pg_temp.say(p_slug text, p_outcome jsonb) returns void language plpgsql as $$
declare
  v_batch jsonb := tests.claim('look');
begin
  perform jobs.close_batch((v_batch ->> 'batch_id')::bigint, (select jsonb_agg(jsonb_build_object('item_id', i.item_id) || case slug
      when p_slug then p_outcome else '{"outcome": "done"}' end)
    from tests.items_of(v_batch) i));
end
$$;
select pg_temp.say('salon', '{"outcome": "throttled", "seconds": 100, "error": "80002", "scope": "account"}');
select is(tests.served(tests.claim('read')), 'pizza 2', 'a limit of an account that is read with the platform''s credential holds that tenant alone');
select is((select tenant_id from jobs.throttles), tests.id('salon'), 'it is noted for the tenant');
select is(tests.lane('read', 'salon'), 'asleep: rate limit, wakes', 'in all its jobs');
delete from jobs.throttles;
delete from jobs.items where job in ('look', 'read');

-- A provider that is about to say so
select tests.enqueue('look', 'pizza');
select pg_temp.say('pizza', '{"outcome": "done", "hint": {"seconds": 50, "reason": "97 % used"}}');
select is((select outcome from jobs.attempts where job = 'look' and tenant_id = tests.id('pizza') order by finished_at desc, item_id desc limit 1), 'done', 'a hint changes nothing for its item');
select ok((select until between clock_timestamp() + interval '48 seconds' and clock_timestamp() + interval '50 seconds' from jobs.throttles where tenant_id = jobs.platform_id()), 'and holds what comes');
select tests.enqueue('look', slug) from unnest(array['salon', 'bar']) slug;
select is(tests.served(tests.claim('look')), 'bar 1', 'of all who share the limit');
select tests.pass('101 seconds');
select pg_temp.say('salon', '{"outcome": "snooze", "seconds": 500, "reason": "not found yet", "hint": {"seconds": 50, "reason": "97 % used", "scope": "account"}}');
select is((select until < clock_timestamp() + interval '51 seconds' from jobs.throttles where tenant_id = tests.id('salon')), true, 'for as long as it says, not for as long as its item waits');
delete from jobs.throttles;
select tests.enqueue('look', 'pizza');
select pg_temp.say('pizza', '{"outcome": "done", "hint": {"seconds": "soon"}}');
select tests.enqueue('look', 'pizza');
select pg_temp.say('pizza', '{"outcome": "done", "hint": 7}');
select is((select count(*) from jobs.throttles), 0::bigint, 'what is no hint is none');
select tests.enqueue('look', 'pizza');
select pg_temp.say('pizza', '{"outcome": "done", "hint": {"seconds": 1e300, "reason": "x"}}');
select ok((select until < clock_timestamp() + interval '31 days' from jobs.throttles), 'and none holds for ever');
select is((select count(*) from jobs.items where job = 'look' and attempts > 0), 0::bigint, 'no attempt is burnt by any of it');
delete from jobs.throttles;

-- Who may look
select is(tests.rows('service_role', 'select from jobs.throttles'), '0', 'the platform may look');
select is(tests.rows('stranger', 'select from jobs.throttles'), '42501', 'others may not');

-- A tenant that is gone
insert into jobs.throttles (tenant_id, provider, until) values (tests.id('gym'), 'meta', now() + interval '1 hour');
delete from public.tenants where id = tests.id('gym');
select is((select count(*) from jobs.throttles), 0::bigint, 'what was noted of a tenant goes with it');
select is((select count(*) from jobs.dead_items where job in ('look', 'read')), 0::bigint, 'and no item died of all this');

select * from finish();
rollback;
