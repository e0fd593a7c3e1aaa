-- The job send-notifications: when a message may be said, through whose number, and what became of it.

create function private.load_messages(p_tenant_ids uuid[], p_item_ids bigint[], p_subject_ids uuid[], p_payloads jsonb[])
returns setof jobs.loaded
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_unofficial boolean := coalesce(private.setting('unofficial_gateways'), 'on') <> 'off';
  -- A setting that is no number must not stop all messages.
  v_per_second integer := greatest(1, coalesce(substring(private.setting('whatsapp_messages_per_second') from '^[0-9]{1,6}$')::integer, 80));
  -- What runs on somebody's phone is banned for what a phone does not do.
  v_gateway_per_second integer := greatest(1, coalesce(substring(private.setting('gateway_messages_per_second') from '^[0-9]{1,6}$')::integer, 4));
begin
  return query
  with message as (
    select u.item_id, m.*, g.status as campaign_status, g.ends_at, g.notifications_enabled, p.whatsapp_opt_in_at,
      coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
      coalesce(g.notify_until, t.campaign_notify_until) as notify_until,
      k.kind as gateway, case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end as sender_id,
      private.wa_key(m.recipient) as wa_key, w.pause_reason,
      coalesce(own.stop_reason, via.stop_reason) as stop_reason, coalesce(via.free_at, '-infinity') as free_at,
      least(case when k.tenant_id is not null then s.messages_per_second end,
        case when k.kind in ('waapi', 'gateway') then least(v_per_second, v_gateway_per_second) else v_per_second end) as per_second
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    left join public.participants p on p.tenant_id = m.tenant_id and p.id = m.participant_id
    left join public.credentials k on k.tenant_id = m.tenant_id and k.provider = 'whatsapp'
    left join public.message_settings s on s.tenant_id = m.tenant_id
    left join public.message_templates w on w.tenant_id = m.tenant_id and w.id = m.template_id
    left join private.senders own on own.tenant_id = m.tenant_id
    left join private.senders via on via.tenant_id = case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end
  ),
  -- Reasons to end it come first, then reasons to wait.
  judged as (
    select m.*, c.inbound_at, coalesce(c.next_at, '-infinity') as next_at, h.opens_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not m.notifications_enabled then 'notifications are switched off in this campaign'
        when m.campaign_status <> 'active' or m.ends_at <= v_now then 'the campaign has ended'
        when m.participant_id is not null and m.whatsapp_opt_in_at is null then 'the participant has withdrawn consent'
        when m.participant_id is not null and m.category = 'marketing' and private.agrees(m.tenant_id, m.participant_id, 'whatsapp', 'marketing') is false
          then 'the participant has withdrawn consent' end as over,
      case
        -- A window that never opens is looked at once a day: it may be changed.
        when h.opens_at is distinct from v_now then 'quiet hours'
        when m.stop_reason is not null then left('sending is stopped: ' || m.stop_reason, 200)
        when not v_unofficial and m.gateway in ('waapi', 'gateway') then 'unofficial gateways are switched off on this platform'
        when m.pause_reason is not null and m.gateway is distinct from 'waapi' and m.gateway is distinct from 'gateway'
          and c.inbound_at <= v_now - interval '24 hours' then left('the template is paused: ' || m.pause_reason, 200) end as wait_for
    from message m
    left join private.conversations c on c.tenant_id = m.sender_id and c.recipient = m.wa_key
    left join lateral (
      select private.window_opens_at(m.zone, m.notify_from, m.notify_until, v_now) as opens_at where m.zone is not null
    ) h on true
  ),
  -- One number and one person: a message every 6 seconds. The oldest goes first.
  paired as (
    select j.*, j.over is null and j.wait_for is null as may_go,
      greatest(j.next_at, v_now) + interval '6 seconds'
        * (count(*) filter (where j.over is null and j.wait_for is null) over (
          partition by j.sender_id, j.wa_key order by j.created_at, j.item_id rows unbounded preceding) - 1) as pair_at
    from judged j
  ),
  -- One number: so many a second, a quarter of them at once.
  timed as (
    select p.*, p.may_go and p.pair_at <= v_now as is_turn,
      greatest(p.free_at, v_now) + make_interval(secs => (count(*) filter (where p.may_go and p.pair_at <= v_now) over (
          partition by p.sender_id order by p.created_at, p.item_id rows unbounded preceding) - greatest(1, p.per_second / 4))
        / greatest(1, p.per_second - p.per_second / 4)::double precision) as rate_at
    from paired p
  ),
  decided as materialized (
    select d.*, d.is_turn and d.rate_at <= v_now as goes,
      case
        when d.over is not null or (d.is_turn and d.rate_at <= v_now) then null
        when d.wait_for = 'quiet hours' then coalesce(d.opens_at, v_now + interval '1 day')
        when d.wait_for is not null then v_now + interval '15 minutes'
        when not d.is_turn then d.pair_at
        else d.rate_at end as hold_until,
      case
        when d.wait_for is not null then d.wait_for
        when not d.is_turn then 'one message in 6 seconds to the same person'
        else 'the number''s messages per second' end as hold_reason
    from timed d
  ),
  -- What members see of a held message: until when, and why.
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = d.hold_reason
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.hold_until is not null and o.held_until is distinct from d.hold_until
  ),
  reserved as (
    insert into private.conversations as c (tenant_id, recipient, next_at)
    select d.sender_id, d.wa_key, v_now + interval '6 seconds'
    from decided d
    where d.goes and d.wa_key is not null
    group by d.sender_id, d.wa_key
    order by d.sender_id, d.wa_key
    on conflict (tenant_id, recipient) do update set next_at = greatest(c.next_at, excluded.next_at), touched_at = now()
  ),
  counted as (
    insert into private.senders as s (tenant_id, free_at)
    select d.sender_id, v_now + make_interval(secs => count(*) / greatest(1, min(d.per_second) - min(d.per_second) / 4)::double precision)
    from decided d
    where d.goes
    group by d.sender_id
    order by d.sender_id
    on conflict (tenant_id) do update set free_at = greatest(s.free_at, v_now) + (excluded.free_at - v_now)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'text', d.body, 'callback', d.tenant_id || '/' || d.id, 'category', d.category,
      'window', case when d.inbound_at is null then 'not_known' when d.inbound_at > v_now - interval '24 hours' then 'open' else 'closed' end,
      'window_open_until', case when d.inbound_at > v_now - interval '24 hours' then d.inbound_at + interval '24 hours' end,
      'template', case when d.pause_reason is null then d.payload -> 'template' end,
      'send_before', nullif(least(
        private.window_closes_at(d.zone, d.notify_from, d.notify_until, v_now), coalesce(d.ends_at, 'infinity')), 'infinity')),
    d.hold_until, coalesce(d.over, d.hold_reason), d.over is not null
  from decided d;
end
$$;

comment on function private.load_messages(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of send-notifications: text, template and recipient, until when it may leave. Held: outside the campaign''s hours, while sending is '
  'stopped, within 6 seconds of the last message to the person, over the number''s throughput. Cancelled: after the campaign''s end or without consent.';

-- What a provider's code means beyond the one message.
create function private.code_effect(p_code integer)
returns text
language sql immutable
set search_path = ''
as $$
  select case
    when p_code = 131047 then 'template'
    when p_code = 131049 then 'later'
    when p_code = 131050 then 'no marketing'
    when p_code in (132000, 132001, 132005, 132007, 132012, 132015, 132016) then 'pause template'
    -- The account as a whole: locked, blocked for a policy, unpaid.
    when p_code in (368, 131031, 131042) then 'stop number'
    when p_code = 131048 then 'stop tenant'
    -- What the worker tries again when it is the answer.
    when p_code in (1, 2, 4, 80007, 130429, 131000, 131016, 131056, 131057, 133004) then 'again'
    -- The token, what it may do, the registration of the number.
    when p_code in (0, 3, 10, 190, 131005, 133010) or p_code between 200 and 299 then 'break credential' end
$$;

comment on function private.code_effect(integer) is
  'What a WhatsApp code means beyond the one message: template (the window is closed), later, again, no marketing, pause template, stop number, stop tenant, break credential; null: nothing.';

-- For people: what the codes say that concern a whole account.
create function private.code_words(p_code integer, p_details text)
returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(
    case
      when p_code = 368 then 'blocked for a policy violation; see WhatsApp Manager'
      when p_code = 131031 then 'the account is locked; see WhatsApp Manager'
      when p_code = 131042 then 'a payment problem; settle it in WhatsApp Manager'
      when p_code = 131048 then 'too many messages were marked as spam; let the number rest'
      when p_code in (0, 190) then 'the token does not work; connect the account again'
      when p_code in (3, 10, 131005) or p_code between 200 and 299 then 'a permission is missing; connect the account again'
      when p_code = 133010 then 'the sender''s number is not registered; register it' end || coalesce(format(' (%s)', p_details), ''),
    p_details, 'not delivered')
$$;

comment on function private.code_words(integer, text) is 'What a report''s code means for the owner of the account, with WhatsApp''s own words; those alone for other codes.';

-- The credential of a sender does not work, as WhatsApp reports it without being asked. One that was set since is another one.
create function private.break_sender(p_sender_id uuid, p_reason text, p_at timestamptz)
returns void
language sql
set search_path = ''
as $$
  select jobs.park(p_sender_id, 'whatsapp', c.fingerprint, p_reason)
  from (
    select o.fingerprint from public.credentials o where o.tenant_id = p_sender_id and o.provider = 'whatsapp' and o.secret_at <= p_at
    union all
    select p.fingerprint from private.platform_credentials p where p_sender_id = jobs.platform_id() and p.provider = 'whatsapp' and p.updated_at <= p_at
  ) c
$$;

comment on function private.break_sender(uuid, text, timestamptz) is 'Parks the WhatsApp work of a sender (a tenant, or the platform''s id) as for a credential that was refused; one alert.';

-- Acts on the codes of messages that were just marked as failed: [tenant, message, code, in words].
create function private.act_on_failures(p_tenant_ids uuid[], p_ids uuid[], p_codes integer[], p_reasons text[])
returns void
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_one record;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_at timestamptz;
begin
  if not exists (select from unnest(p_codes) c where private.code_effect(c) is not null) then
    return;
  end if;

  update public.message_templates t
  set paused_at = now(), pause_reason = left(f.reason, 500)
  from (
    select distinct on (m.tenant_id, m.template_id) m.tenant_id, m.template_id, u.reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'pause template'
    order by m.tenant_id, m.template_id
  ) f
  where t.tenant_id = f.tenant_id and t.id = f.template_id and t.paused_at is null;

  for v_one in
    select x.sender_id, x.breaks, min(x.code) as code, min(x.reason) as reason, max(x.at) as at
    from (
      select case when private.code_effect(u.code) <> 'stop tenant' and m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id,
        u.code, u.reason, private.code_effect(u.code) = 'break credential' as breaks, coalesce(m.delivery_at, now()) as at
      from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
      where private.code_effect(u.code) in ('stop number', 'stop tenant', 'break credential')
    ) x
    group by x.sender_id, x.breaks
    order by x.sender_id, x.breaks
  loop
    if v_one.breaks then
      perform private.break_sender(v_one.sender_id, v_one.reason, v_one.at);
    else
      perform private.stop_sender(v_one.sender_id, v_one.code, v_one.reason, v_one.at);
    end if;
  end loop;

  perform private.stop_marketing(array_agg(m.tenant_id), array_agg(m.participant_id), array_agg(now()), 'provider')
  from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
  join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
  where private.code_effect(u.code) = 'no marketing' and m.participant_id is not null
  having count(*) > 0;

  -- The window is closed, whatever we thought of it: from now on the approved template goes, if there is one.
  insert into private.conversations as c (tenant_id, recipient, inbound_at)
  select x.sender_id, x.wa_key, now() - interval '25 hours'
  from (
    select distinct case when m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
    from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'template' and m.recipient is not null
  ) x
  order by x.sender_id, x.wa_key
  -- What the person wrote since the message was sent has opened it again.
  on conflict (tenant_id, recipient) do update set inbound_at = excluded.inbound_at
    where c.inbound_at is null or c.inbound_at < now() - interval '23 hours';

  -- Not sent, and not for the message's sake: it waits for its time, or until sending is resumed. Three times at most.
  for v_one in
    select private.code_effect(u.code) as effect, array_agg(m.tenant_id) as tenant_ids, array_agg(m.id) as ids, min(u.reason) as reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where (private.code_effect(u.code) in ('later', 'again', 'stop number', 'stop tenant', 'break credential') and m.resends < 3)
      or (private.code_effect(u.code) = 'template' and m.resends = 0 and m.payload ->> 'template' is not null)
    group by 1
    order by 1
  loop
    v_at := now() + case v_one.effect when 'later' then interval '24 hours' when 'template' then interval '0' else interval '15 minutes' end;
    -- Worth nothing by then: the campaign or the time for the claim is over.
    update public.notification_outbox m
    set status = 'cancelled', reason = left(v_one.reason || ' It is not sent again: it would come too late.', 500)
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox x on x.tenant_id = u.tenant_id and x.id = u.id
    left join public.campaigns g on g.tenant_id = x.tenant_id and g.id = x.campaign_id
    left join public.completions c on c.tenant_id = x.tenant_id and c.id = x.completion_id and x.kind::text = 'reminder'
    where m.tenant_id = u.tenant_id and m.id = u.id and (g.status <> 'active' or g.ends_at <= v_at or c.deadline <= v_at);
    select array_agg(m.tenant_id), array_agg(m.id) into v_tenant_ids, v_ids
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id and m.status = 'failed';
    if v_ids is not null then
      perform private.requeue_messages(v_tenant_ids, v_ids, v_at, v_one.reason);
    end if;
  end loop;
end
$$;

comment on function private.act_on_failures(uuid[], uuid[], integer[], text[]) is
  'What WhatsApp''s codes mean: later (131049), again (131000 and the like, as a report), no marketing (131050), template paused, sending stopped or the credential parked, each with an alert. Messages are marked as failed already.';

-- What WhatsApp tells of an account by itself, without a message: [{"code","title","details","at"}]. Null: the platform's number.
create function private.act_on_account_errors(p_tenant_id uuid, p_errors jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_sender_id uuid := coalesce(p_tenant_id, jobs.platform_id());
  v_one record;
begin
  for v_one in
    select x.code, private.code_effect(x.code) as effect, left(format('WhatsApp %s: %s', x.code, private.code_words(x.code, x.words)), 500) as reason, x.at
    from (
      select case when e ->> 'code' ~ '^[0-9]{1,9}$' then (e ->> 'code')::integer end as code, left(coalesce(e ->> 'details', e ->> 'title'), 300) as words,
        private.time_of(e ->> 'at') as at, n
      from jsonb_array_elements(p_errors) with ordinality as e (e, n)
    ) x
    where x.at is not null and private.code_effect(x.code) in ('stop number', 'stop tenant', 'break credential')
    order by x.n
  loop
    if v_one.effect = 'break credential' then
      perform private.break_sender(v_sender_id, v_one.reason, v_one.at);
    else
      perform private.stop_sender(v_sender_id, v_one.code, v_one.reason, v_one.at);
    end if;
  end loop;
end
$$;

comment on function private.act_on_account_errors(uuid, jsonb) is
  'What WhatsApp tells of an account itself (locked, unpaid, token, permission …) stops its sending or parks its credential, with one alert, before the next message has to fail.';

create function private.apply_messages(p_ended jobs.ended[])
returns void
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  with ended as (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason, left(u.result ->> 'provider_message_id', 200) as message_id,
      coalesce(case when u.result ->> 'code' ~ '^[0-9]{1,9}$' then (u.result ->> 'code')::integer end,
        substring(u.error from '^WhatsApp ([0-9]{1,9})\M')::integer) as code,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
  ),
  -- A report of the provider may have come before the answer of its own API.
  judged as (
    select e.*, r.is_reported, case
        when e.status in ('sent', 'unknown') and r.is_reported then case when m.delivery = 'failed' then 'failed' else 'sent' end
        else e.status end as final
    from ended e
    join public.notification_outbox m on m.tenant_id = e.tenant_id and m.id = e.subject_id
    cross join lateral (
      select m.delivery is not null and (e.message_id is null or m.provider_message_id is null or m.provider_message_id = e.message_id) as is_reported
    ) r
  ),
  changed as (
    update public.notification_outbox m
    set status = j.final::public.message_status, sent_at = case when j.final = 'sent' then now() end, held_until = null,
      delivery = case
        when j.is_reported then m.delivery
        when j.status = 'sent' then 'sent' end,
      delivery_at = case when j.is_reported then m.delivery_at when j.status = 'sent' then now() end,
      reason = case when j.is_reported and j.final = 'failed' then m.reason else left(j.reason, 500) end,
      error_code = coalesce(j.code, case when j.is_reported then m.error_code end),
      unknown_since = case when j.final = 'unknown' then now() end,
      provider_message_id = coalesce(j.message_id, m.provider_message_id), credential_source = j.credential_source
    from judged j
    where m.tenant_id = j.tenant_id and m.id = j.subject_id
      -- Consent that was withdrawn while the message was on its way: it was sent all the same, and the record says so.
      and (m.status = 'queued' or (m.status = 'no_consent' and j.final in ('sent', 'unknown')))
    returning m.tenant_id, m.id, m.status, m.error_code, m.reason, j.outcome
  )
  -- What was tried again until its attempts were used up is over.
  select array_agg(c.tenant_id), array_agg(c.id), array_agg(c.error_code), array_agg(c.reason)
  into v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c
  where c.status = 'failed' and c.error_code is not null and (c.outcome <> 'dead' or private.code_effect(c.error_code) is distinct from 'again');

  -- From the answer on it counts: the next one to this person comes 6 seconds later.
  update private.conversations c
  set next_at = greatest(c.next_at, clock_timestamp() + interval '6 seconds')
  from (
    select x.sender_id, x.wa_key
    from (
      select case when u.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
      from unnest(p_ended) u
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
      where u.outcome = 'done'
    ) x
    join private.conversations y on y.tenant_id = x.sender_id and y.recipient = x.wa_key
    order by x.sender_id, x.wa_key
    for update of y
  ) sent
  where c.tenant_id = sent.sender_id and c.recipient = sent.wa_key;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
end
$$;

comment on function private.apply_messages(jobs.ended[]) is
  'Apply function of send-notifications: what became of each message, and what WhatsApp''s codes mean for others. A message is decided once.';
