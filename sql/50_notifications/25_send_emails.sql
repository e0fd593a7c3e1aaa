-- The job send-emails: the same outbox through Resend, which knows an idempotency key. A key is good for 24 hours from the first try.

-- Whether messages may leave now: `over` ends them, `hold_until` lets them wait.
create function private.judge_emails(p_tenant_ids uuid[], p_ids uuid[], p_now timestamptz)
returns table (n bigint, tenant_id uuid, id uuid, over text, hold_until timestamptz, send_before timestamptz)
language sql stable
set search_path = ''
set jit = off
as $$
  select d.n, d.tenant_id, d.id, d.over,
    case when d.over is null and d.zone is not null and d.opens_at is distinct from p_now then coalesce(d.opens_at, p_now + interval '1 day') end,
    least(d.key_ends_at, coalesce(d.ends_at, 'infinity'),
      case when d.zone is null then 'infinity' else private.window_closes_at(d.zone, d.notify_from, d.notify_until, p_now) end)
  from (
    select u.n, u.tenant_id, u.id, h.opens_at, z.zone, z.notify_from, z.notify_until, g.ends_at,
      coalesce(m.first_tried_at, p_now) + interval '23 hours 30 minutes' as key_ends_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not g.notifications_enabled then 'notifications are switched off in this campaign'
        when g.status <> 'active' or g.ends_at <= p_now then 'the campaign has ended'
        when m.participant_id is not null and private.agrees(m.tenant_id, m.participant_id, 'email', 'all') is not true
          then 'the participant has withdrawn consent'
        when m.first_tried_at <= p_now - interval '23 hours 30 minutes' then 'it could not be sent within a day of its first try' end as over
    from unnest(p_tenant_ids, p_ids) with ordinality as u (tenant_id, id, n)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    -- Members are written to at any time, participants within the hours of the campaign.
    left join lateral (
      select coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
        coalesce(g.notify_until, t.campaign_notify_until) as notify_until
      where m.participant_id is not null
    ) z on true
    left join lateral (
      select private.window_opens_at(z.zone, z.notify_from, z.notify_until, p_now) as opens_at where z.zone is not null
    ) h on true
  ) d
$$;

comment on function private.judge_emails(uuid[], uuid[], timestamptz) is
  'For each of these messages, by position: why it is over, until when it waits for the campaign''s hours, and until when it may leave.';

create function private.load_emails(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
  with message as (
    select u.item_id, m.*, b.bundle_id, j.over, j.hold_until, j.send_before,
      -- A mail that was tried alone, or may have been, keeps its own key; one that is in a bundle keeps that.
      j.over is null and j.hold_until is null and b.bundle_id is null and (m.first_tried_at is null or m.bundled) as is_free
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) with ordinality as u (tenant_id, item_id, subject_id, n)
    join private.judge_emails(p_tenant_ids, p_subject_ids, v_now) j on j.n = u.n
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join private.bundled_emails b on b.tenant_id = u.tenant_id and b.outbox_id = u.subject_id
  ),
  decided as materialized (
    select m.*, m.is_free and count(*) filter (where m.is_free) over (partition by m.tenant_id) > 1 as together
    from message m
  ),
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = case when d.hold_until is not null then 'quiet hours' else o.reason end,
      first_tried_at = case when d.hold_until is null then coalesce(o.first_tried_at, v_now) else o.first_tried_at end,
      bundled = case when d.hold_until is null and d.bundle_id is null then d.together else o.bundled end
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.over is null
      and (d.hold_until is null or o.held_until is distinct from d.hold_until)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'subject', d.subject, 'text', d.body, 'html', d.payload -> 'html',
      -- The platform's sender, where the tenant's own credential names none.
      'from', case when own.account is not null and own.account ->> 'from' is null then (
        select p.account ->> 'from' from private.platform_credentials p where p.provider = 'email') end,
      'idempotency_key', d.id, 'bundle_id', d.bundle_id, 'together', d.together, 'send_before', d.send_before),
    d.hold_until, coalesce(d.over, 'quiet hours'), d.over is not null
  from decided d
  left join public.credentials own on own.tenant_id = d.tenant_id and own.provider = 'email';
end
$$;

comment on function private.load_emails(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of send-emails: what was frozen in the outbox, with its id as idempotency key. Held outside the campaign''s hours; ended a day after the first try. '
  'bundle_id: the bundle that it was sent in, maybe; together: it may leave in one call with the others of its tenant that say so.';

create function private.apply_emails(p_ended jobs.ended[])
returns void
language sql
set search_path = ''
set jit = off
as $$
  update public.notification_outbox m
  set status = e.status::public.message_status, sent_at = case when e.status = 'sent' then now() end, held_until = null, reason = left(e.reason, 500),
    delivery = case when e.status = 'sent' then 'sent' end, delivery_at = case when e.status = 'sent' then now() end,
    unknown_since = case when e.status = 'unknown' then now() end,
    provider_message_id = left(e.result ->> 'provider_message_id', 200), credential_source = e.credential_source
  from (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        -- Its bundle may have left; so may a mail whose last attempt, or one before, had no clear answer.
        when b.bundle_id is not null and (u.outcome = 'dead' or u.error like 'it could not be sent%') then 'unknown'
        when u.outcome = 'dead' and u.error ~ '^(the lease ran out|The worker failed|Resend (could not|did not|broke|5|409 concurrent|answered (with|2|408|5)))' then 'unknown'
        when u.outcome = 'cancelled' and u.error like 'it could not be sent%' then 'failed'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
    left join private.bundled_emails b on b.tenant_id = u.tenant_id and b.outbox_id = u.subject_id
  ) e
  where m.tenant_id = e.tenant_id and m.id = e.subject_id
    and (m.status = 'queued' or (m.status = 'no_consent' and e.status in ('sent', 'unknown')))
$$;

comment on function private.apply_emails(jobs.ended[]) is 'Apply function of send-emails: what became of each message. A message is decided once.';
