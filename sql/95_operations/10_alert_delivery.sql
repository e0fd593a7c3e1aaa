-- Alerts reach people: by a webhook that Slack and its like understand, and by e-mail. Both are items like any other work.
-- A new or closed alert becomes one item per way that is configured, in the transaction that opens or closes it.

create function private.deliver_alert()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payload jsonb := jsonb_build_object('alert_id', new.alert_id, 'event', case when new.closed_at is null then 'opened' else 'closed' end);
  v_key text := format('alert-%s-%s', new.alert_id, v_payload ->> 'event');
begin
  if private.platform_secret('alert_webhook_url') is not null then
    perform jobs.enqueue('alert-webhook', jobs.platform_id(), null, null, v_key, v_payload);
  end if;
  if exists (select from private.platform_credentials c where c.provider = 'email')
    and (new.tenant_id is not null or coalesce(private.setting('alert_email'), '') <> '') then
    perform jobs.enqueue('alert-email', jobs.platform_id(), null, null, v_key, v_payload);
  end if;
  return null;
end
$$;

comment on function private.deliver_alert() is
  'Trigger: an alert that opens or closes is delivered by every way that is configured. Definer: reads which ways Vault and credentials offer.';

create trigger alerts_after_insert_deliver
  after insert on jobs.alerts
  for each row execute function private.deliver_alert();

create trigger alerts_after_close_deliver
  after update of closed_at on jobs.alerts
  for each row when (old.closed_at is null and new.closed_at is not null)
  execute function private.deliver_alert();

create function private.alert_text(p_alert jobs.alerts, p_event text)
returns text
language sql stable
set search_path = ''
as $$
  select case when p_event = 'closed' then format('Over: %s (since %s, until %s)', (p_alert).message, (p_alert).opened_at, (p_alert).closed_at)
    else format('%s%s', coalesce((select t.name || ': ' from public.tenants t where t.id = (p_alert).tenant_id), ''), (p_alert).message) end
$$;

comment on function private.alert_text(jobs.alerts, text) is 'What a person reads of an alert when it opens or closes.';

create function private.load_alert_webhooks(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id,
    jsonb_build_object('url', private.platform_secret('alert_webhook_url'), 'text', private.alert_text(a, u.payload ->> 'event')),
    null::timestamptz, 'the alert or the webhook is gone', a.alert_id is null or private.platform_secret('alert_webhook_url') is null
  from unnest(p_item_ids, p_payloads) as u (item_id, payload)
  left join jobs.alerts a on a.alert_id = (u.payload ->> 'alert_id')::bigint
$$;

comment on function private.load_alert_webhooks(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of alert-webhook: {"url","text"}. The address is a secret: it is in Vault as alert_webhook_url.';

-- The platform's alerts go to the setting alert_email, a tenant's own to its owners.
create function private.load_alert_emails(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language sql stable
set search_path = ''
as $$
  select u.item_id,
    jsonb_build_object('to', r.recipients, 'subject', format('[Onecron] %s: %s', u.payload ->> 'event', a.incident),
      'text', private.alert_text(a, u.payload ->> 'event'), 'idempotency_key', format('alert-%s-%s', a.alert_id, u.payload ->> 'event')),
    null::timestamptz, 'the alert is gone or nobody is to be told', a.alert_id is null or r.recipients is null
  from unnest(p_item_ids, p_payloads) as u (item_id, payload)
  left join jobs.alerts a on a.alert_id = (u.payload ->> 'alert_id')::bigint
  left join lateral (
    select case when a.tenant_id is null then (select jsonb_agg(s) from nullif(private.setting('alert_email'), '') s where s is not null)
      else (select jsonb_agg(distinct w.email) from public.memberships m join auth.users w on w.id = m.user_id
        where m.tenant_id = a.tenant_id and m.role = 'owner' and w.email is not null) end as recipients
  ) r on true
$$;

comment on function private.load_alert_emails(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of alert-email: {"to","subject","text","idempotency_key"}. Owners are told of their tenant''s alerts, alert_email of the platform''s.';
