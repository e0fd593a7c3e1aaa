-- What a provider says of the platform's credential reaches the platform, and no member of a tenant.
begin;
select plan(14);
select tests.two_tenants();
select public.remove_credential(tests.id('pizza'), 'meta');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "platform"}');
update jobs.definitions set paused = true;
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
create table pg_temp.item (id bigint);
create function pg_temp.say(p_slug text, p_outcome text) returns void language plpgsql as $$
declare
  v_batch jsonb;
begin
  delete from jobs.items; delete from pg_temp.item; delete from jobs.throttles;
  update jobs.lanes set awake = false, wake_at = clock_timestamp(), not_before = '-infinity', reason = 'waiting', detail = null where job = 'look';
  perform tests.enqueue('look', p_slug);
  v_batch := tests.claim('look');
  insert into pg_temp.item select item_id from tests.items_of(v_batch);
  perform tests.close(v_batch, p_outcome::jsonb || '{"error": "App 4711 of Onecron: (#4) limit reached, 312% used"}');
end
$$;
create function pg_temp.detail(p_slug text) returns text language sql as $$
  select tests.answer(p_slug || ' viewer', format('select detail from public.job_queues where job = ''look'' and tenant_id = %L', tests.id(p_slug)))
$$;
create function pg_temp.why(p_slug text) returns text language sql as $$
  select tests.answer(p_slug || ' viewer', format('select public.why(%L, %s)', tests.id(p_slug), id)) from pg_temp.item
$$;
create function pg_temp.kept() returns text language sql as $$
  select concat_ws(' ', (select i.last_error from jobs.items i join pg_temp.item t on t.id = i.item_id),
    (select string_agg(a.error, ' ') from jobs.attempts a join pg_temp.item t on t.id = a.item_id))
$$;

select pg_temp.say('pizza', '{"outcome": "throttled", "seconds": 100}');
select is(pg_temp.detail('pizza'), 'the platform''s meta credential is throttled', 'members see that the platform''s credential is throttled, not what its provider said');
select matches(pg_temp.why('pizza'), 'because of: rate limit', 'and can ask why');
select doesnt_match(pg_temp.why('pizza'), '4711', 'without hearing more');
select doesnt_match(pg_temp.kept(), '4711', 'nothing of it is kept with the item');
select matches((select reason from jobs.throttles where tenant_id = jobs.platform_id()), '4711', 'the platform has the words with its throttle');
select matches((select string_agg(errors::text, ' ') from jobs.drains), '4711', 'and with its drain');
update jobs.items set attempts = 1;
delete from jobs.throttles;
select doesnt_match(pg_temp.why('pizza'), '4711', 'not even why an attempt failed tells them');

select pg_temp.say('gym', '{"outcome": "throttled", "seconds": 100}');
select matches(pg_temp.detail('gym'), '4711', 'who has a credential of its own is told what the provider said');
select matches(pg_temp.kept(), '4711', 'and the item keeps it');

select pg_temp.say('pizza', '{"outcome": "throttled", "seconds": 100, "scope": "account"}');
select matches(pg_temp.detail('pizza'), '4711', 'so is who hears of a limit of its own account');

select pg_temp.say('pizza', '{"outcome": "credential_broken"}');
select is(pg_temp.detail('pizza'), 'the platform''s meta credential does not work', 'of one that is refused members see that it does not work');
select doesnt_match(pg_temp.why('pizza'), '4711', 'and nothing else');
select doesnt_match(pg_temp.kept(), '4711', 'nothing of that is kept with the item either');
select matches((select message from jobs.alerts where incident = 'credential meta' and tenant_id is null and closed_at is null), '4711', 'the platform''s alert has it');
select * from finish();
rollback;
