-- What changes rights, credentials, money or control past the calls that write the audit log themselves is in it all the same.
begin;
select plan(21);
select tests.two_tenants();

create function pg_temp.log(p_slug text, p_like text) returns text language sql as $$
  select string_agg(format('%s %s', a.action, a.detail), '; ' order by a.at, a.action) from public.audit_log a
  where a.tenant_id = coalesce(tests.id(p_slug), jobs.platform_id()) and a.action like p_like and a.at = now() and a.detail::text <> '{}'
$$;
create function pg_temp.does(p_query text) returns text language sql as $$
  select tests.rows('service_role', p_query)
$$;

-- The platform's numbers
select jobs.set_setting('platform_admins_need_mfa', 'true');
select is(pg_temp.log(null, 'setting.%'), 'setting.changed {"name": "platform_admins_need_mfa", "value": {"to": "true", "from": "false"}}', 'a setting, from what to what');
select jobs.set_setting('platform_admins_need_mfa', 'true');
select is((select count(*) from public.audit_log where action = 'setting.changed'), 1::bigint, 'what does not change leaves no row');
select is(pg_temp.does('update public.plans set cap = 7 where plan_id = ''free'''), '1', 'the platform changes a plan');
select is(pg_temp.log(null, 'plan_terms.%'), 'plan_terms.changed {"cap": {"to": 7, "from": 50}, "plan_id": "free"}', 'the terms of a plan');
select is(pg_temp.does('insert into jobs.provider_limits (provider, rate_per_minute) values (''meta'', 5)'), '1', 'the platform limits a provider');
select is(pg_temp.log(null, 'provider_limit.%'), 'provider_limit.added {"provider": "meta", "rate_per_minute": 5}', 'the limit of a provider');
select is(pg_temp.does('update jobs.definitions set paused = true where job = ''send-emails'''), '1', 'a job is paused past the call');
select is(pg_temp.log(null, 'job.%'), 'job.changed {"job": "send-emails", "paused": {"to": true, "from": false}}', 'the control of a job');

-- Rights
select is(pg_temp.does(format('update public.memberships set role = ''admin'' where tenant_id = %L and user_id = %L', tests.id('pizza'), tests.id('pizza viewer'))), '1', 'a role is written with the secret key');
select is(pg_temp.log('pizza', 'member.%'), format('member.changed {"role": {"to": "admin", "from": "viewer"}, "user_id": "%s"}', tests.id('pizza viewer')), 'a role');
delete from auth.users where id = tests.id('pizza admin');
select matches(pg_temp.log('pizza', 'member.removed'), format('"role": "admin", "user_id": "%s"', tests.id('pizza admin')), 'the end of a user who was a member');
select pg_temp.does(format('update public.tenants set plan_id = ''enterprise'', name = ''Pizza!'' where id = %L', tests.id('pizza')));
select is(pg_temp.log('pizza', 'tenant.%'), 'tenant.changed {"name": {"to": "Pizza!", "from": "Pizza"}, "plan_id": {"to": "enterprise", "from": "pro"}}', 'a plan and a name, in one row');

-- What members write themselves
select is(tests.rows('pizza owner', $$ update public.message_settings set messages_per_second = 5 $$), '1', 'an owner slows the messages down');
select matches(pg_temp.log('pizza', 'message_settings.%'), '"messages_per_second": {"to": 5, "from": ', 'how fast messages go');
select is(tests.rows('pizza member', $$ update public.campaign_strategies set strategy = 'honor_system' $$), '1', 'a member believes all claims');
select is((select detail #>> '{strategy,to}' || ' by ' || (actor_id = tests.id('pizza member')) from public.audit_log where tenant_id = tests.id('pizza') and action = 'strategy.changed'),
  'honor_system by true', 'who is believed, and who said so');

-- Credentials, without a secret or where it is
select is(pg_temp.does(format('delete from public.credentials where tenant_id = %L', tests.id('pizza'))), '1', 'a credential is deleted with the secret key');
select matches(pg_temp.log('pizza', 'credential.removed'), '"provider": "meta"', 'a credential');
select is(pg_temp.log('pizza', 'credential.removed') ~ 'secret_id|canary', false, 'and not which secret it was');

-- Not twice
select tests.answer('pizza owner', format('select public.change_role(%L, %L, ''member'')', tests.id('pizza'), tests.id('pizza viewer')));
select is((select count(*) from public.audit_log where tenant_id = tests.id('pizza') and action like 'member.%' and detail ->> 'user_id' = tests.id('pizza viewer')::text), 2::bigint, 'a call writes its own row and no second one');

-- A tenant that is gone
delete from public.tenants where slug = 'gym';
select is((select string_agg(action, ' ' order by action) from public.audit_log where tenant_id = tests.id('gym') and at = now() and action ~ 'deleted|removed'), 'tenant.deleted', 'a tenant that was deleted: one row, for it and all that was its');

select * from finish();
rollback;
