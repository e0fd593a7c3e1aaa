-- What functions/webhooks calls: secrets to check a signature with, and a place to put what was signed.

create function private.webhook_tenant(p_tenant text)
returns uuid
language sql stable
set search_path = ''
as $$
  select case when p_tenant = 'platform' then jobs.platform_id() else (
    select t.id from public.tenants t where t.slug = p_tenant
    union all
    -- Compared as text: an address that is no uuid is no error.
    select t.id from public.tenants t
    where p_tenant ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      and t.id = case when p_tenant ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_tenant::uuid end
    limit 1) end
$$;

comment on function private.webhook_tenant(text) is
  'The tenant that an address of functions/webhooks names by slug or id; jobs.platform_id() for "platform"; null for nobody.';

create function jobs.webhook_secrets(tenant text, provider text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := private.webhook_tenant(webhook_secrets.tenant);
  v_secret jsonb;
begin
  if v_tenant_id is null or webhook_secrets.provider not in ('meta', 'whatsapp') then
    return null;
  end if;
  select private.read_secret_json(c.secret_id) into v_secret
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
$$;

grant execute on function jobs.webhook_secrets(text, text) to service_role;
comment on function jobs.webhook_secrets(text, text) is
  'For functions/webhooks: {"tenant_id", "app_secrets": […], "verify_token"} of a tenant (slug, id, or "platform") for meta or whatsapp; null when '
  'there is none. Definer: reads Vault, which no API role may.';

create function jobs.receive_webhook(tenant_id uuid, source text, body jsonb, sha256 text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_status public.tenant_status;
  v_event_id uuid;
  v_is_new boolean;
  v_wait integer;
begin
  select t.status into v_status from public.tenants t where t.id = receive_webhook.tenant_id;
  -- Closed or gone since its secret was read: acknowledged, so that the provider stops. A suspended tenant's events wait with its lane.
  if (v_status is null and receive_webhook.tenant_id is distinct from jobs.platform_id()) or v_status = 'closed' then
    return jsonb_build_object('event_id', null, 'new', false, 'retry_after_seconds', null);
  end if;
  select private.count_call(format('receive_webhook/%s/%s', receive_webhook.source, receive_webhook.tenant_id), l.calls, l.seconds) into v_wait
  from private.call_limits l where l.name = 'receive_webhook';
  if v_wait is not null then
    return jsonb_build_object('event_id', null, 'new', false, 'retry_after_seconds', v_wait);
  end if;
  insert into private.webhook_events as e (tenant_id, source, body, body_sha256)
  values (receive_webhook.tenant_id, receive_webhook.source, receive_webhook.body, receive_webhook.sha256)
  on conflict on constraint one_event_per_body do update set deliveries = e.deliveries + 1
  returning e.id, e.deliveries = 1 into v_event_id, v_is_new;
  if v_is_new then
    perform jobs.enqueue('process-webhooks', receive_webhook.tenant_id, v_event_id);
  end if;
  return jsonb_build_object('event_id', v_event_id, 'new', v_is_new, 'retry_after_seconds', null);
end
$$;

grant execute on function jobs.receive_webhook(uuid, text, jsonb, text) to service_role;
comment on function jobs.receive_webhook(uuid, text, jsonb, text) is
  'For functions/webhooks, once the signature is checked: stores a body (source meta or whatsapp, sha256 of its bytes in hex) and enqueues it, in one '
  'transaction. {"event_id", "new", "retry_after_seconds"}: new is false for a redelivery; with retry_after_seconds nothing was stored. '
  'Definer: private.webhook_events is not reachable for any API role.';

create function jobs.receive_deletion(tenant_id uuid, subject text, sha256 text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_deletion public.data_deletions;
  v_wait integer;
begin
  select private.count_call(format('receive_deletion/%s', receive_deletion.tenant_id), l.calls, l.seconds) into v_wait
  from private.call_limits l where l.name = 'receive_deletion';
  if v_wait is not null then
    return jsonb_build_object('confirmation_code', null, 'retry_after_seconds', v_wait);
  end if;
  insert into public.data_deletions as d (tenant_id, subject, request_sha256)
  values (receive_deletion.tenant_id, receive_deletion.subject, receive_deletion.sha256)
  on conflict on constraint one_deletion_per_request do nothing
  returning d.* into v_deletion;
  if found then
    -- In the platform's own lane: a suspended tenant is not served, but who asks it to be forgotten is.
    perform jobs.enqueue('process-webhooks', jobs.platform_id(), v_deletion.id, null, null,
      jsonb_build_object('deletion_of', receive_deletion.tenant_id));
  else
    select d.* into v_deletion from public.data_deletions d
    where d.tenant_id = receive_deletion.tenant_id and d.request_sha256 = receive_deletion.sha256;
  end if;
  return jsonb_build_object('confirmation_code', v_deletion.confirmation_code, 'retry_after_seconds', null);
end
$$;

grant execute on function jobs.receive_deletion(uuid, text, text) to service_role;
comment on function jobs.receive_deletion(uuid, text, text) is
  'For functions/webhooks, once Meta''s signed_request is checked: notes that a person wants to be forgotten by this tenant and enqueues it. '
  '{"confirmation_code", "retry_after_seconds"}; the same request again has the same code. Definer: the engine''s tables are written by its functions only.';

create function jobs.deletion_status(code text)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object('status', d.status, 'requested_at', d.requested_at, 'completed_at', d.completed_at)
  from public.data_deletions d where d.confirmation_code = deletion_status.code
  limit 1
$$;

grant execute on function jobs.deletion_status(text) to service_role;
comment on function jobs.deletion_status(text) is
  'For functions/webhooks: {"status", "requested_at", "completed_at"} of a deletion by its confirmation code; null when there is none.';
