-- The job send-notifications: what is said, when it may be said, and what became of it.

create function private.congratulation(p_tenant_id uuid, p_completion_id uuid)
returns table (
  tenant_id uuid, campaign_id uuid, participant_id uuid, completion_id uuid, kind public.message_kind, recipient text, body text,
  status public.message_status, reason text
)
language sql stable
set search_path = ''
as $$
  select c.tenant_id, t.campaign_id, c.participant_id, c.id, 'congratulation'::public.message_kind, p.phone,
    format(E'Congratulations, %s! 🎉 Your task "%s" has been verified. %s bonus %s been added. Spin now: %s/campaigns/%s',
      p.display_name, t.title, t.reward_spins, case when t.reward_spins = 1 then 'spin has' else 'spins have' end,
      rtrim(private.setting('app_url'), '/'), t.campaign_id),
    case
      when not g.notifications_enabled then 'disabled'
      when p.phone is null or p.whatsapp_opt_in_at is null then 'no_consent'
      else 'queued' end::public.message_status,
    case
      when not g.notifications_enabled then 'notifications are switched off in this campaign'
      when p.phone is null then 'the participant gave no phone number'
      when p.whatsapp_opt_in_at is null then 'the participant did not opt in to WhatsApp messages' end
  from public.completions c
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  where c.tenant_id = p_tenant_id and c.id = p_completion_id
$$;

comment on function private.congratulation(uuid, uuid) is 'The message for a verified completion, or the reason why none is sent.';

create function private.load_messages(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  -- What members see of a held message: until when, and why.
  update public.notification_outbox o
  set held_until = h.opens_at, reason = 'quiet hours'
  from (
    select m.tenant_id, m.id, private.window_opens_at(g.time_zone, g.notify_from, g.notify_until, v_now) as opens_at
    from unnest(p_tenant_ids, p_subject_ids) as u (tenant_id, subject_id)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id and m.status = 'queued'
    join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
  ) h
  where o.tenant_id = h.tenant_id and o.id = h.id and h.opens_at is distinct from v_now and o.held_until is distinct from h.opens_at;

  return query
  select u.item_id,
    jsonb_build_object('outbox_id', m.id, 'to', m.recipient, 'text', m.body,
      'send_before', nullif(least(
        private.window_closes_at(g.time_zone, g.notify_from, g.notify_until, v_now), coalesce(g.ends_at, 'infinity')), 'infinity')),
    case
      when m.status <> 'queued' or not g.notifications_enabled or g.status <> 'active' or g.ends_at <= v_now or p.whatsapp_opt_in_at is null then null
      -- A window that never opens is looked at once a day: it may be changed.
      when w.opens_at is distinct from v_now then coalesce(w.opens_at, v_now + interval '1 day') end,
    case
      when m.id is null then 'the message is gone'
      when m.status <> 'queued' then format('the message is %s', m.status)
      when not g.notifications_enabled then 'notifications are switched off in this campaign'
      when g.status <> 'active' or g.ends_at <= v_now then 'the campaign has ended'
      when p.whatsapp_opt_in_at is null then 'the participant has withdrawn consent'
      else 'quiet hours' end,
    m.id is null or m.status <> 'queued' or not g.notifications_enabled or g.status <> 'active' or coalesce(g.ends_at <= v_now, false)
      or p.whatsapp_opt_in_at is null
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
  left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
  left join public.participants p on p.tenant_id = m.tenant_id and p.id = m.participant_id
  left join lateral (
    select private.window_opens_at(g.time_zone, g.notify_from, g.notify_until, v_now) as opens_at where g.id is not null
  ) w on true;
end
$$;

comment on function private.load_messages(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of send-notifications: text and recipient, until when it may leave; outside the campaign''s hours it is held, after its end cancelled.';

create function private.apply_messages(p_ended jobs.ended[])
returns void
language sql
set search_path = ''
as $$
  update public.notification_outbox m
  set status = e.status, sent_at = case when e.status = 'sent' then now() end, held_until = null,
    reason = left(e.reason, 500), provider_message_id = left(e.result ->> 'provider_message_id', 200), credential_source = e.credential_source
  from (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' then 'failed'
        else 'unknown' end::public.message_status as status
    from unnest(p_ended) u
  ) e
  where m.tenant_id = e.tenant_id and m.id = e.subject_id and m.status = 'queued'
$$;

comment on function private.apply_messages(jobs.ended[]) is 'Apply function of send-notifications: what became of each message. A message is decided once.';
