-- Loaded before every test, in the test's own transaction. People, tenants and things have names; their ids come from the
-- names, so that a test reads `tests.id('pizza')` instead of a uuid. Nothing here is there in a database outside of tests.
create schema tests;
grant usage on schema tests to public;
set local check_function_bodies = off;

-- No job of the product has a slot in a test: at some hours of the day it would come in between. The runner itself is
-- tested on a database without the product.
do $$
begin
  if to_regclass('jobs.definitions') is not null then
    update jobs.definitions set next_slot_at = 'infinity' where schedule is not null;
  end if;
end;
$$;

create function tests.id(p_name text) returns uuid language sql immutable as $$
  select md5(p_name)::uuid
$$;

-- Actors -----------------------------------------------------------------------------------------------------------------

-- A signed-up user.
create function tests.person(p_name text) returns uuid language plpgsql as $$
begin
  insert into auth.users (id, email, aud, role)
  values (tests.id(p_name), p_name || '@example.test', 'authenticated', 'authenticated') on conflict do nothing;
  return tests.id(p_name);
end
$$;

-- Becomes somebody for the rest of the transaction: anon, service_role, or a person by name. The platform: tests.log_out().
create function tests.log_in(p_name text) returns void language plpgsql as $$
declare
  v_role text := case when p_name in ('anon', 'service_role') then p_name else 'authenticated' end;
begin
  -- A plan that was made with more rights has functions inlined that the new role may not call: that would hide a missing grant.
  execute 'discard plans';
  perform set_config('request.jwt.claims', (jsonb_build_object('role', v_role)
    || case when v_role = 'authenticated' then jsonb_build_object('sub', tests.id(p_name)) else '{}' end)::text, true);
  perform set_config('role', v_role, true);
end
$$;

create function tests.log_out() returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claims', '', true);
  perform set_config('role', 'none', true);
end
$$;

-- What somebody gets from a query: the first column of the first row as text, or the SQLSTATE of the error.
create function tests.answer(p_name text, p_query text) returns text language plpgsql as $$
declare
  v_answer text;
begin
  perform tests.log_in(p_name);
  execute p_query into v_answer;
  perform tests.log_out();
  return v_answer;
exception when others then
  perform tests.log_out();
  return sqlstate;
end
$$;

-- The whole error that somebody gets, as `SQLSTATE: message`; null when there is none.
create function tests.error_of(p_name text, p_query text) returns text language plpgsql as $$
begin
  perform tests.log_in(p_name);
  execute p_query;
  perform tests.log_out();
  return null;
exception when others then
  perform tests.log_out();
  return sqlstate || ': ' || sqlerrm;
end
$$;

-- How many rows somebody's query returns or changes, or the SQLSTATE of the error.
create function tests.rows(p_name text, p_query text) returns text language plpgsql as $$
declare
  v_rows bigint;
begin
  perform tests.log_in(p_name);
  execute p_query;
  get diagnostics v_rows = row_count;
  perform tests.log_out();
  return v_rows::text;
exception when others then
  perform tests.log_out();
  return sqlstate;
end
$$;

-- How many of a tenant's rows of a table somebody sees, or the SQLSTATE of the error.
create function tests.sees(p_name text, p_table text, p_slug text) returns text language sql as $$
  select tests.rows(p_name, format('select tenant_id from %s where tenant_id = %L', p_table, tests.id(p_slug)))
$$;

-- A world of tenants -----------------------------------------------------------------------------------------------------

create function tests.tenant(p_slug text, p_plan text default 'free') returns uuid language plpgsql as $$
begin
  insert into public.tenants (id, slug, name, plan_id) values (tests.id(p_slug), p_slug, initcap(p_slug), p_plan);
  return tests.id(p_slug);
end
$$;

create function tests.member(p_slug text, p_person text, p_role text default 'member') returns void language plpgsql as $$
begin
  insert into public.memberships (tenant_id, user_id, role)
  values (tests.id(p_slug), tests.person(p_person), p_role::public.member_role);
end
$$;

create function tests.campaign(p_slug text, p_campaign text, p_status text default 'active') returns uuid language plpgsql as $$
begin
  insert into public.campaigns (tenant_id, id, name, status, starts_at)
  values (tests.id(p_slug), tests.id(p_campaign), p_campaign, p_status::public.campaign_status, now() - interval '1 day');
  return tests.id(p_campaign);
end
$$;

create function tests.task(p_slug text, p_campaign text, p_task text, p_spins integer default 3) returns uuid language plpgsql as $$
begin
  insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id, reward_spins)
  values (tests.id(p_slug), tests.id(p_task), tests.id(p_campaign), 'instagram_comment', p_task, '17900000000000001', p_spins);
  return tests.id(p_task);
end
$$;

create function tests.participant(p_slug text, p_person text) returns uuid language plpgsql as $$
begin
  insert into public.participants (tenant_id, id, user_id, display_name, phone, whatsapp_opt_in_at)
  values (tests.id(p_slug), tests.id(p_slug || '/' || p_person), tests.person(p_person), p_person, '+491701234567', now());
  return tests.id(p_slug || '/' || p_person);
end
$$;

-- A claim of a task, made by the participant; returns the completion.
create function tests.claim_task(p_slug text, p_person text, p_task text) returns uuid language plpgsql as $$
declare
  v_answer jsonb;
begin
  perform tests.log_in(p_person);
  v_answer := public.claim_task(tests.id(p_slug), tests.id(p_task));
  perform tests.log_out();
  return (v_answer ->> 'completion_id')::uuid;
end
$$;

-- An invitation that waits; its token is `token of <address>`.
create function tests.invitation(p_slug text, p_email text, p_role text default 'member', p_inviter text default null) returns uuid language plpgsql as $$
begin
  insert into public.invitations (tenant_id, id, email, role, token_hash, invited_by, expires_at)
  values (tests.id(p_slug), tests.id(p_slug || '/' || p_email), p_email, p_role::public.member_role,
    encode(sha256(convert_to('token of ' || p_email, 'UTF8')), 'hex'), tests.id(p_inviter), now() + interval '7 days');
  return tests.id(p_slug || '/' || p_email);
end
$$;

-- A tenant has taken a risk upon itself.
create function tests.acknowledge(p_slug text, p_rule text) returns void language plpgsql as $$
begin
  insert into public.acknowledgements (tenant_id, rule, version, text) values (tests.id(p_slug), p_rule, 1, 'as read');
end
$$;

-- Two tenants, each with an owner, an admin, a member, a viewer, somebody invited, and a participant who has claimed the one
-- task and been verified: `pizza` with its people `pizza owner`, …, and `gym` likewise. `stranger` belongs to none.
create function tests.two_tenants() returns void language plpgsql as $$
declare
  v_slug text;
  v_role text;
begin
  perform tests.person('stranger');
  foreach v_slug in array array['pizza', 'gym'] loop
    perform tests.tenant(v_slug, 'pro');
    foreach v_role in array array['owner', 'admin', 'member', 'viewer'] loop
      perform tests.member(v_slug, v_slug || ' ' || v_role, v_role);
    end loop;
    perform tests.invitation(v_slug, v_slug || '-newcomer@example.test', 'member', v_slug || ' owner');
    perform tests.campaign(v_slug, v_slug || ' campaign');
    perform tests.task(v_slug, v_slug || ' campaign', v_slug || ' task');
    perform tests.participant(v_slug, v_slug || ' participant');
    perform public.set_credential(tests.id(v_slug), 'meta', 'facebook_login',
      jsonb_build_object('access_token', 'canary-meta-' || v_slug), '{"page_id": "1"}');
    insert into public.message_templates (tenant_id, id, kind, body) values (tests.id(v_slug), tests.id(v_slug || ' template'), 'alert', '{{message}}');
    perform tests.verified(v_slug, tests.claim_task(v_slug, v_slug || ' participant', v_slug || ' task'));
  end loop;
end
$$;

-- A task of any kind. What the kind needs comes from p_more; it proves what it proves whatever the tenant has acknowledged.
create function tests.task_of(p_slug text, p_task text, p_kind text, p_more jsonb default '{}') returns uuid language plpgsql as $$
declare
  v_task jsonb := jsonb_build_object('tenant_id', tests.id(p_slug), 'id', tests.id(p_task), 'campaign_id', tests.id(p_slug || ' campaign'),
    'kind', p_kind, 'title', p_task, 'reward_spins', 3,
    'post_id', case when (select k.needs from public.task_kinds k where k.kind = p_kind) = 'post' then '17900000000000001' end,
    'keyword', case when p_kind = 'instagram_dm_keyword' then 'pizza' end,
    'url', case when p_kind in ('link_visit', 'link_sign_up') then 'https://pizza.example/menu?c={code}' end) || p_more;
begin
  insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id, keyword, url, reward_spins)
  select t.tenant_id, t.id, t.campaign_id, t.kind, t.title, t.post_id, t.keyword, t.url, t.reward_spins
  from jsonb_populate_record(null::public.social_tasks, v_task) t;
  return tests.id(p_task);
end
$$;

-- A row of the tenant in the tables of campaigns that two_tenants leaves empty.
create function tests.more_of_campaigns(p_slug text) returns void language plpgsql as $$
begin
  insert into public.cohorts (tenant_id, name) values (tests.id(p_slug), 'Friends');
  insert into public.acknowledgements (tenant_id, rule, version, text) values (tests.id(p_slug), 'rewarded_engagement', 1, 'as read');
  insert into public.follower_counts (tenant_id, platform, day, followers) values (tests.id(p_slug), 'instagram', '2026-01-01', 1);
  insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
  values (tests.id(p_slug), tests.id(p_slug || '/' || p_slug || ' participant'), 'instagram', '178414', 'link code');
  perform tests.task_of(p_slug, p_slug || ' like', 'instagram_like');
  perform tests.claim_task(p_slug, p_slug || ' participant', p_slug || ' like');
end
$$;

-- What the verification of a completion does, without a worker.
create function tests.verified(p_slug text, p_completion_id uuid) returns void language plpgsql as $$
begin
  perform private.apply_verifications(array[(tests.id(p_slug), 0, p_completion_id, 'done', '{"verdict": "verified"}', null, 'tenant')::jobs.ended]);
end
$$;

-- A hash of all rows of a tenant in tables of schema public: nothing of it was touched while it stays the same.
create function tests.fingerprint(p_slug text) returns text language plpgsql as $$
declare
  v_table regclass;
  v_hash text;
  v_all text := '';
begin
  for v_table in
    select a.attrelid from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and a.attname = 'tenant_id' and not a.attisdropped
    order by c.relname
  loop
    execute format('select md5(coalesce(string_agg(t::text, chr(10) order by t::text), '''')) from %s t where t.tenant_id = $1', v_table)
      into v_hash using tests.id(p_slug);
    v_all := v_all || v_hash;
  end loop;
  return md5(v_all);
end
$$;

-- The engine ---------------------------------------------------------------------------------------------------------------

-- A job of the test's own, without provider and domain. What it needs to be different goes into p_settings.
create function tests.job(p_job text, p_settings jsonb default '{}') returns void language plpgsql as $$
declare
  v_settings jsonb := jsonb_build_object('job', p_job, 'kind', 'edge', 'meaning', 'A job of the tests.') || p_settings;
begin
  execute (
    select format('insert into jobs.definitions (%s) select %1$s from jsonb_populate_record(null::jobs.definitions, $1)',
      string_agg(quote_ident(k), ', '))
    from jsonb_object_keys(v_settings) k) using v_settings;
end
$$;

-- p_count items of a tenant that are due now.
create function tests.enqueue(p_job text, p_slug text, p_count integer default 1) returns integer language plpgsql as $$
begin
  return jobs.enqueue_many(p_job, array(select tests.id(p_slug) from generate_series(1, p_count)));
end
$$;

-- A drain that has answered its doorbell.
create function tests.drain(p_job text) returns uuid language plpgsql as $$
declare
  v_drain_id uuid;
begin
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, jobs.open_run(p_job, 'queue'), clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$$;

-- Items of SQL jobs, as pg_cron has them worked off: all there are, or so many. Returns how many.
create function tests.work(p_items integer default null) returns integer language plpgsql as $$
declare
  v_batch_id bigint := jobs.work();
  v_count integer := 0;
begin
  while v_batch_id is not null and v_count is distinct from p_items loop
    v_batch_id := jobs.work(v_batch_id);
    v_count := v_count + 1;
  end loop;
  perform jobs.return_batch(v_batch_id);
  return v_count;
end
$$;

-- What a new drain gets as its first batch.
create function tests.claim(p_job text, p_size integer default null) returns jsonb language plpgsql as $$
begin
  return jobs.next_batch(tests.drain(p_job), p_job, p_size);
end
$$;

-- The batch's items, one row each.
create function tests.items_of(p_batch jsonb) returns table (slug text, item_id bigint, attempt integer, data jsonb) language sql as $$
  select t ->> 'slug', (i ->> 'item_id')::bigint, (i ->> 'attempt')::integer, i -> 'data'
  from jsonb_array_elements(p_batch -> 'tenants') t, jsonb_array_elements(t -> 'items') i
$$;

-- How many items of each tenant the batch has, like `gym 2, pizza 3`.
create function tests.served(p_batch jsonb) returns text language sql as $$
  select coalesce(string_agg(format('%s %s', s.slug, s.items), ', ' order by s.slug), 'nothing')
  from (select i.slug, count(*) as items from tests.items_of(p_batch) i group by i.slug) s
$$;

-- Closes all items of a batch with the same outcome. No batch, nothing to close.
create function tests.close(p_batch jsonb, p_outcome jsonb) returns jsonb language plpgsql as $$
begin
  if p_batch is null then
    return null;
  end if;
  return jobs.close_batch((p_batch ->> 'batch_id')::bigint,
    (select jsonb_agg(p_outcome || jsonb_build_object('item_id', i.item_id)) from tests.items_of(p_batch) i));
end
$$;

-- A lane in words: `awake`, or `asleep: <reason>`, with `, wakes` when it wakes by itself.
create function tests.lane(p_job text, p_slug text) returns text language plpgsql as $$
begin
  return (
    select case when l.awake then 'awake' else 'asleep: ' || l.reason || case when l.wake_at is not null then ', wakes' else '' end end
    from jobs.lanes l where l.job = p_job and l.tenant_id = tests.id(p_slug));
end
$$;

-- In how many seconds a sleeping lane wakes by itself.
create function tests.wakes_in(p_job text, p_slug text) returns numeric language plpgsql as $$
begin
  return (select round(extract(epoch from l.wake_at - clock_timestamp())) from jobs.lanes l where l.job = p_job and l.tenant_id = tests.id(p_slug));
end
$$;

-- Time goes by for the engine: every moment that it has written down moves into the past by so much.
create function tests.pass(p_time interval) returns void language plpgsql as $$
declare
  v_table record;
begin
  for v_table in
    select a.attrelid::regclass as name, string_agg(format('%1$I = %1$I - $1', a.attname), ', ') as moves
    from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'jobs'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'attempts'
      and a.atttypid = 'timestamptz'::regtype and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    group by a.attrelid
  loop
    execute format('update %s set %s', v_table.name, v_table.moves) using p_time;
  end loop;
end
$$;

-- A tick that no other tick overlaps: one of pg_cron's may be under way in this database.
create function tests.tick() returns jsonb language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('onecron tick', 0));
  return jobs.tick();
end
$$;
