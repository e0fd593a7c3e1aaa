-- check-credentials: each tenant with a Meta credential, and the platform, once a day; what is found is written to the credential that was asked.
begin;
select plan(36);
select tests.two_tenants();
select tests.tenant('salon', 'pro');
select public.set_credential(tests.id('gym'), 'whatsapp', 'whatsapp_cloud', '{"access_token": "canary-wa-gym"}', '{"phone_number_id": "5"}');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "canary-platform"}');
delete from private.platform_credentials where provider = 'whatsapp';
delete from public.credentials c where c.tenant_id not in (tests.id('pizza'), tests.id('gym'));
delete from jobs.alerts;
delete from jobs.items;

create function pg_temp.due(p_job text) returns text language sql as $$
  select coalesce(string_agg(coalesce(t.slug, 'platform'), ' ' order by t.slug), 'nobody') from jobs.items i left join public.tenants t on t.id = i.tenant_id where i.job = p_job
$$;
create function pg_temp.health(p_slug text, p_provider public.provider default 'meta') returns text language sql as $$
  select concat_ws(' ', c.health, c.state, c.health_reason) from public.credentials c where c.tenant_id = tests.id(p_slug) and c.provider = p_provider
$$;
create function pg_temp.alerts(p_slug text) returns text language sql as $$
  select coalesce(string_agg(incident, ', ' order by incident), 'none') from jobs.alerts where closed_at is null and tenant_id is not distinct from tests.id(p_slug)
$$;
-- A slot comes, and every item of it ends with what the worker found.
create function pg_temp.finds(p_job text, p_result jsonb) returns void language plpgsql as $$
declare
  v_batch jsonb;
begin
  perform jobs.start_slot((select d from jobs.definitions d where d.job = p_job), clock_timestamp());
  v_batch := tests.claim(p_job);
  perform jobs.close_batch((v_batch ->> 'batch_id')::bigint, (
    select jsonb_agg(jsonb_build_object('item_id', i -> 'item_id', 'outcome', 'done',
      'result', jsonb_build_object('provider', t -> 'credential' ->> 'provider', 'fingerprint', i -> 'data' ->> 'fingerprint') || p_result))
    from jsonb_array_elements(v_batch -> 'tenants') t, jsonb_array_elements(t -> 'items') i));
end
$$;

select jobs.start_slot((select d from jobs.definitions d where d.job = 'check-credentials'), now() + interval '1 hour');
select is(pg_temp.due('check-credentials'), 'gym pizza platform', 'every tenant with a credential of Meta is asked about, and the platform');
select jobs.start_slot((select d from jobs.definitions d where d.job = 'check-whatsapp-credentials'), now() + interval '1 hour');
select is(pg_temp.due('check-whatsapp-credentials'), 'gym', 'and those with one of WhatsApp');
create table pg_temp.batch as select tests.claim('check-credentials') as b;
select is((select string_agg(coalesce(t ->> 'slug', 'platform') || ' ' || (t -> 'credential' ->> 'source'), ', ' order by t ->> 'slug') from pg_temp.batch, jsonb_array_elements(b -> 'tenants') t),
  'gym tenant, pizza tenant, platform platform', 'each is asked with its own token');
select is_empty($$ select from pg_temp.batch, jsonb_array_elements(b -> 'tenants') t, jsonb_array_elements(t -> 'items') i where i::text like '%canary%' $$, 'the data of an item has no secret');
select is((select r.expected from jobs.runs r where r.job = 'check-credentials' order by r.run_id desc limit 1), 3::bigint, 'the run counts the platform');
select tests.close(b, '{"outcome": "snooze", "seconds": 3600, "reason": "test"}') from pg_temp.batch;
delete from jobs.items;

select pg_temp.finds('check-credentials', jsonb_build_object('verdict', 'healthy', 'expires_at', now() + interval '40 days', 'scopes', '["pages_show_list"]'::jsonb));
select is(pg_temp.health('pizza'), 'healthy ok', 'a token that works is healthy');
select is((select scopes from public.credentials where tenant_id = tests.id('pizza')), array['pages_show_list'], 'with what it may do');
select is((select expires_at from public.credentials where tenant_id = tests.id('pizza')), now() + interval '40 days', 'and until when');
select is((select state from private.platform_credentials where provider = 'meta'), 'ok', 'the platform''s too');
select is(pg_temp.health('gym', 'whatsapp'), 'unchecked unchecked', 'a credential of another provider is not touched');
select is(pg_temp.alerts('pizza'), 'none', 'nobody is alarmed');

select pg_temp.finds('check-credentials', '{"verdict": "healthy"}');
select is((select expires_at from public.credentials where tenant_id = tests.id('pizza')), now() + interval '40 days', 'a check that learns nothing of the end keeps what is known');

select pg_temp.finds('check-credentials', jsonb_build_object('verdict', 'healthy', 'expires_at', now() + interval '5 days'));
select matches(pg_temp.health('pizza'), '^healthy ok It expires on ', 'one that ends within 7 days says so');
select is(pg_temp.alerts('pizza'), 'credential meta expires', 'and its owner is told');
select matches((select advice from private.list_credentials(tests.id('pizza'))), 'before it expires', 'with what to do');
select pg_temp.finds('check-credentials', '{"verdict": "healthy", "expires_at": null}');
select is(pg_temp.alerts('pizza'), 'none', 'one that has no end any more closes the alert');
select is((select expires_at from public.credentials where tenant_id = tests.id('pizza')), null, 'and the end is forgotten');

-- A token that works and is not enough
select tests.task_of('pizza', 'follow us', 'instagram_follow');
select tests.task_of('pizza', 'tag us', 'instagram_photo_tag');
select tests.claim_task('pizza', 'pizza participant', t) from unnest(array['follow us', 'tag us']) t;
create function pg_temp.waits(p_task text, p_for text) returns text language plpgsql as $$
begin
  update jobs.items i set run_at = now() + interval '1 hour',
    waiting_for = case when i.subject_id = (select c.id from public.completions c where c.task_id = tests.id(p_task)) then p_for end
  where i.job = 'verify-social-tasks';
  perform pg_temp.finds('check-credentials', '{"verdict": "healthy"}');
  return pg_temp.health('pizza');
end
$$;
select is(pg_temp.waits('follow us', 'unknown: Meta 10: the permission is missing'), 'healthy ok Some claims cannot be verified. follow us: Meta 10: the permission is missing',
  'a permission that one kind of task needs is named, though the token works');
select is(pg_temp.alerts('pizza'), 'credential meta claims', 'and its owner is told');
select matches((select advice from private.list_credentials(tests.id('pizza'))), 'what the reason names', 'with what to do');
select is(pg_temp.health('gym'), 'healthy ok', 'not others');
select is(pg_temp.waits('tag us', 'unknown: only an account connected through Facebook Login can be asked for tags and mentions'),
  'healthy ok Some claims cannot be verified. tag us: only an account connected through Facebook Login can be asked for tags and mentions', 'so is the wrong way to log in');
select is(pg_temp.waits('tag us', 'unknown: Meta 100/33: it does not exist'), 'healthy ok Some claims cannot be verified. tag us: Meta 100/33: it does not exist', 'and something that is gone');
select is(pg_temp.waits('follow us', 'unknown: Meta 100/33: it does not exist'), 'healthy ok', 'a person who cannot be read is no trouble of the account');
select is(pg_temp.waits('follow us', 'not found yet'), 'healthy ok', 'nor is a claim that is not true yet');
select is(pg_temp.alerts('pizza'), 'none', 'and the alert closes');
delete from jobs.items;

-- Broken
select pg_temp.finds('check-credentials', '{"verdict": "broken", "error": "Meta 190/463: the token expired"}');
select is(pg_temp.health('pizza'), 'broken expired Meta 190/463: the token expired', 'one that does not work is broken, with its state');
select is(pg_temp.alerts('pizza'), 'credential meta', 'and its owner is told');
select is((select state from jobs.breakers where tenant_id = tests.id('gym') and provider = 'meta'), 'parked', 'its work is parked');
select is((select state from private.platform_credentials where provider = 'meta'), 'expired', 'the platform''s likewise');
select is((select count(*) from jobs.items where job = 'check-credentials'), 0::bigint, 'no item waits for the owner: the run ends all the same');
select jobs.start_slot((select d from jobs.definitions d where d.job = 'check-credentials'), now() + interval '3 hours');
select is(pg_temp.due('check-credentials'), 'nobody', 'what waits for its owner is not asked again');

-- An answer about a credential that was replaced meanwhile
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "canary-new"}');
select private.apply_credential_checks(array[(tests.id('pizza'), 0, null, 'done', '{"provider": "meta", "fingerprint": "000000000000", "verdict": "broken", "error": "x"}', null, 'tenant')::jobs.ended]);
select is(pg_temp.health('pizza'), 'unchecked unchecked', 'an answer about an older one says nothing of the new one');
select private.apply_credential_checks(array[(tests.id('pizza'), 0, null, 'done', jsonb_build_object('provider', 'meta', 'verdict', 'healthy', 'fingerprint',
  (select fingerprint from public.credentials where tenant_id = tests.id('pizza'))), null, 'platform')::jobs.ended]);
select is(pg_temp.health('pizza'), 'unchecked unchecked', 'nor does one that was got with the platform''s token');
select private.apply_credential_checks(array[(tests.id('pizza'), 0, null, 'dead', jsonb_build_object('provider', 'meta', 'verdict', 'broken', 'fingerprint',
  (select fingerprint from public.credentials where tenant_id = tests.id('pizza'))), 'gave up', 'tenant')::jobs.ended]);
select is(pg_temp.health('pizza'), 'unchecked unchecked', 'nor one that never came');
select is(pg_temp.alerts('pizza'), 'none', 'and the new one has closed the alert');

select * from finish();
rollback;
