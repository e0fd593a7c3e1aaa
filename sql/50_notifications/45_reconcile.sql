-- The job reconcile-messages: what to do about messages of which nobody knows whether they left. WhatsApp's own report settles most;
-- one that never comes leaves the message unknown, unless the tenant chose to send such messages again. An e-mail has its key.

create function private.unresolved(p_tenant_id uuid)
returns table (tenant_id uuid, id uuid)
language sql stable
set search_path = ''
as $$
  select m.tenant_id, m.id
  from public.notification_outbox m
  left join public.message_settings s on s.tenant_id = m.tenant_id
  where m.unknown_since <= now() - interval '15 minutes' and (p_tenant_id is null or m.tenant_id = p_tenant_id) and m.status = 'unknown'
    and case m.channel
      when 'email' then m.first_tried_at > now() - interval '23 hours'
        -- Unless its bundle is lost: its key would not be known.
        and not exists (
          select from private.bundled_emails u
          join private.email_bundles b on b.tenant_id = u.tenant_id and b.id = u.bundle_id and b.lost_reason is not null
          where u.tenant_id = m.tenant_id and u.outbox_id = m.id)
      -- Once, and not after a day: what was to be said then is old.
      else s.resend_unknown and m.resends = 0 and m.unknown_since > now() - interval '1 day' end
$$;

comment on function private.unresolved(uuid) is
  'Messages with an unknown outcome that may go again: e-mails within the life of their key, others where the tenant chose so, after 15 minutes.';

create function private.tenants_to_reconcile()
returns setof uuid
language sql stable
set search_path = ''
as $$
  select distinct u.tenant_id from private.unresolved(null) u join public.tenants t on t.id = u.tenant_id and t.status = 'active'
$$;

create function private.something_to_reconcile()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from private.unresolved(null))
$$;

comment on function private.tenants_to_reconcile() is 'Eligible function of reconcile-messages: active tenants with messages that may go again.';
comment on function private.something_to_reconcile() is 'Condition function of reconcile-messages: some message may go again.';

create function private.reconcile_messages(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language sql
set search_path = ''
set jit = off
as $$
  select jsonb_build_object('queued', coalesce((
    select private.requeue_messages(array_agg(l.tenant_id), array_agg(l.id), now(), 'sent again: nobody knew whether it had left')
    from (
      select m.tenant_id, m.id
      from private.unresolved(p_tenant_id) u
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
      order by m.created_at
      limit 500
      -- A report that comes right now is waited for, and believed.
      for update of m
    ) l
    having count(*) > 0), 0))
$$;

comment on function private.reconcile_messages(uuid, uuid, jsonb) is 'Work function of reconcile-messages: queues the tenant''s messages that may go again.';
