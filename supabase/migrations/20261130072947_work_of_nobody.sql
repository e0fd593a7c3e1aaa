-- work of nobody: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

create or replace function jobs.forget_strays()
  returns void
  language sql
  set search_path to ''
  AS $function$
  with recursive busy as (
    (select i.tenant_id from jobs.items i order by i.tenant_id limit 1)
    union all
    select (select i.tenant_id from jobs.items i where i.tenant_id > b.tenant_id order by i.tenant_id limit 1) from busy b where b.tenant_id is not null
  ),
  known as (
    (select k.tenant_id from jobs.lane_keys k order by k.tenant_id limit 1)
    union all
    select (select k.tenant_id from jobs.lane_keys k where k.tenant_id > n.tenant_id order by k.tenant_id limit 1) from known n where n.tenant_id is not null
  )
  select jobs.forget_tenant(stray.tenant_id)
  from (select b.tenant_id from busy b union select n.tenant_id from known n) stray
  where stray.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = stray.tenant_id)
$function$;

create or replace function jobs.keep_refreshed_token (
  batch_id bigint,
  item_id bigint,
  token text,
  expires_at timestamp with time zone
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenant_id uuid;
  v_fingerprint text;
  v_credential public.credentials;
  v_secret jsonb;
  v_new text;
begin
  if coalesce(keep_refreshed_token.token, '') !~ '^[!-~]+$' or octet_length(keep_refreshed_token.token) > 4000 then
    raise exception 'This is not a token.' using errcode = '22023';
  end if;
  -- The batch row is locked, so the lease cannot expire between this check and the change.
  perform from jobs.batches b
  where b.batch_id = keep_refreshed_token.batch_id and b.job = 'refresh-meta-tokens' and b.lease_until > clock_timestamp()
  for update;
  if not found then
    return false;
  end if;
  select i.tenant_id, i.credential_fingerprint into v_tenant_id, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = keep_refreshed_token.batch_id and i.item_id = keep_refreshed_token.item_id and i.credential_source = 'tenant';
  if not found then
    return false;
  end if;
  select c.* into v_credential from public.credentials c where c.tenant_id = v_tenant_id and c.provider = 'meta' for update;
  if not found then
    return false;
  end if;
  v_secret := private.read_secret(v_credential.secret_id)::jsonb || jsonb_build_object('access_token', keep_refreshed_token.token);
  -- Written with another key of Vault: what else belongs to the token is not known any more, and a member has to enter it again.
  if v_secret is null then
    return false;
  end if;
  v_new := left(encode(sha256(convert_to(v_secret::text || v_tenant_id::text, 'UTF8')), 'hex'), 12);
  -- The same call again, because its answer was lost.
  if v_credential.fingerprint = v_new and v_fingerprint <> v_new then
    return true;
  end if;
  -- What a member entered in the meantime is newer than what was renewed.
  if v_credential.fingerprint is distinct from v_fingerprint then
    return false;
  end if;
  perform vault.update_secret(v_credential.secret_id, v_secret::text);
  update public.credentials c
  set fingerprint = v_new, secret_at = now(), expires_at = keep_refreshed_token.expires_at,
    health = 'healthy', state = 'ok', health_reason = null, checked_at = now()
  where c.tenant_id = v_tenant_id and c.provider = 'meta';
  perform jobs.unpark(v_tenant_id, 'meta');
  perform private.warn_of_credential(v_tenant_id, 'meta', null);
  perform private.audit(v_tenant_id, 'credential.refreshed',
    jsonb_build_object('provider', 'meta', 'kind', v_credential.kind, 'fingerprint', v_new));
  return true;
end
$function$;

create or replace function jobs.recover_from_backup (
  jobs text[] default null::text[],
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_doubtful jsonb := '{"outcome": "done", "result": {"status": "unknown", "reason": "restored from a backup: it may have been sent since"}}';
  -- Mails have keys against a second sending, but the keys of those that left together since are not in the backup.
  v_jobs text[] := coalesce(jobs, array(select d.job from jobs.definitions d where d.effects or d.provider = 'email' and d.scope = 'tenant'));
  v_job text;
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_tenant_ids uuid[];
  v_count integer := 0;
begin
  perform jobs.require_read_committed();
  select u into v_job from unnest(v_jobs) u where not exists (select from jobs.definitions d where d.job = u) limit 1;
  if found then
    raise exception 'There is no job "%".', v_job using errcode = 'P0002';
  end if;
  if recover_from_backup.dry_run is not false then
    return (select count(*) from jobs.items i where i.job = any (v_jobs) and i.run_at <= now())
      + (select count(*) from jobs.leased_items i where i.job = any (v_jobs));
  end if;
  if not (select p.stopped from jobs.platform p) then
    raise exception 'Work goes on meanwhile. Stop it first: select jobs.stop_all(true).' using errcode = '55000';
  end if;

  perform setval('jobs.items_item_id_seq', nextval('jobs.items_item_id_seq') + 1000000);
  perform setval('jobs.batches_batch_id_seq', nextval('jobs.batches_batch_id_seq') + 1000000);
  perform setval('jobs.runs_run_id_seq', nextval('jobs.runs_run_id_seq') + 1000000);
  foreach v_job in array v_jobs loop
    select d.* into v_definition from jobs.definitions d where d.job = v_job;
    perform jobs.claim_lock(v_job);
    -- What was out when the backup was made, then what waited, as batches of a thousand.
    for v_batch in select b.* from jobs.batches b where b.job = v_job order by b.batch_id for update loop
      v_count := v_count + jobs.settle(v_definition, v_batch, (
        select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
      ), clock_timestamp());
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    end loop;
    loop
      insert into jobs.batches (job, drain_id, lease_until) values (v_job, gen_random_uuid(), clock_timestamp()) returning * into v_batch;
      with taken as (
        delete from jobs.items i
        where i.ctid = any (array(
          select x.ctid from jobs.items x where x.job = v_job and x.run_at <= clock_timestamp() limit 1000 for update))
        returning i as item
      ),
      leased as (
        insert into jobs.leases (tenant_id, job, batch_id, open, items)
        select (t.item).tenant_id, v_job, v_batch.batch_id, count(*), array_agg(t.item order by (t.item).item_id)
        from taken t
        group by (t.item).tenant_id
        returning tenant_id
      )
      select array_agg(leased.tenant_id) into v_tenant_ids from leased;
      if v_tenant_ids is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, (
          select jsonb_agg(v_doubtful || jsonb_build_object('item_id', i.item_id)) from jobs.leased_items i where i.batch_id = v_batch.batch_id
        ), clock_timestamp());
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
      exit when v_tenant_ids is null;
    end loop;
  end loop;
  perform private.audit(null, 'platform.recovered', jsonb_build_object('jobs', v_jobs, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.webhook_secrets (
  tenant text,
  provider text
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant_id uuid := private.webhook_tenant(webhook_secrets.tenant);
  v_secret jsonb;
begin
  if v_tenant_id is null or webhook_secrets.provider not in ('meta', 'whatsapp') then
    return null;
  end if;
  select private.read_secret(c.secret_id)::jsonb into v_secret
  from (
    select c.secret_id from public.credentials c
    where c.tenant_id = v_tenant_id and c.provider::text = webhook_secrets.provider and c.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
    union all
    select p.secret_id from private.platform_credentials p
    where v_tenant_id = jobs.platform_id() and p.provider::text = webhook_secrets.provider
      and p.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
  ) c;
  -- Who has neither secret cannot be told apart from who does not exist.
  if coalesce(v_secret ->> 'app_secret', '') = '' and coalesce(v_secret ->> 'verify_token', '') = '' then
    return null;
  end if;
  return jsonb_build_object('tenant_id', v_tenant_id,
    'app_secrets', case when coalesce(v_secret ->> 'app_secret', '') = '' then '[]' else jsonb_build_array(v_secret ->> 'app_secret') end,
    'verify_token', nullif(v_secret ->> 'verify_token', ''));
end
$function$;

comment on function "jobs"."recover_from_backup"(text[], boolean) is 'After a restore from a backup, while everything is stopped: what was due or running in these jobs (default: all that send messages for tenants) ends as unknown, because it may have been sent since; ids move on. dry_run (the default) says how many it would be. Returns how many. Errors: P0002 no such job, 55000 not stopped. Definer: the engine''s tables are written by its functions only.';
