-- What WhatsApp reports: what people write, what became of messages, what people switched off. All of it may come twice, late and in
-- any order. p_tenant_id is whose number it came to; null: the platform's.

create function private.time_of(p_text text)
returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_at timestamptz;
begin
  -- ISO only: Postgres takes "tomorrow" and "infinity" too.
  if p_text !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d(:?\d\d)?)$' then
    return null;
  end if;
  v_at := p_text::timestamptz;
  return case when v_at between now() - interval '31 days' and now() + interval '10 minutes' then v_at end;
exception when others then
  return null;
end
$$;

comment on function private.time_of(text) is 'The time that a report gives, when it is one and within the last 31 days; else null.';

-- The tenants that a number speaks for: one, or whoever wrote to these people through the platform's, or would.
create function private.tenants_of_number(p_tenant_id uuid, p_wa_keys text[])
returns table (tenant_id uuid, wa_key text)
language sql stable
set search_path = ''
as $$
  select p_tenant_id, u from unnest(p_wa_keys) u where p_tenant_id is not null
  union
  select m.tenant_id, u
  from unnest(p_wa_keys) u
  join public.notification_outbox m on private.wa_key(m.recipient) = u and m.credential_source = 'platform' and m.channel = 'whatsapp'
  where p_tenant_id is null
  union
  -- Also before the first message: what is held for the night would come through this number.
  select p.tenant_id, u
  from unnest(p_wa_keys) u
  join public.participants p on private.wa_key(p.phone) = u and p.whatsapp_opt_in_at is not null
  where p_tenant_id is null
    and not exists (select from public.credentials o where o.tenant_id = p.tenant_id and o.provider = 'whatsapp')
$$;

comment on function private.tenants_of_number(uuid, text[]) is
  'For whom a person''s word to a number counts: the number''s tenant; for the platform''s number every tenant that wrote to the person through it, '
  'or that the person agreed to and that has no number of its own.';

-- Marketing ends for these people; a report that is older than what the ledger says of it is no news.
create function private.stop_marketing(p_tenant_ids uuid[], p_participant_ids uuid[], p_ats timestamptz[], p_source text)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  insert into public.opt_ins (tenant_id, participant_id, channel, category, granted, business_name, source, at)
  select u.tenant_id, u.participant_id, 'whatsapp', 'marketing', false, t.name, p_source, max(u.at)
  from unnest(p_tenant_ids, p_participant_ids, p_ats) as u (tenant_id, participant_id, at)
  join public.tenants t on t.id = u.tenant_id
  left join lateral (
    select o.granted, o.at from public.opt_ins o
    where o.tenant_id = u.tenant_id and o.participant_id = u.participant_id and o.channel = 'whatsapp' and o.category = 'marketing'
    order by o.at desc, o.position desc limit 1
  ) latest on true
  where latest.at is null or (latest.granted and latest.at <= u.at)
  group by u.tenant_id, u.participant_id, t.name;
  get diagnostics v_count = row_count;
  perform private.end_queued(array_agg(w.tenant_id), array_agg(w.participant_id), 'whatsapp', 'marketing', 'the participant does not want marketing messages')
  from (
    select distinct u.tenant_id, u.participant_id
    from unnest(p_tenant_ids, p_participant_ids) as u (tenant_id, participant_id)
    where private.agrees(u.tenant_id, u.participant_id, 'whatsapp', 'marketing') is false
  ) w
  having count(*) > 0;
  return v_count;
end
$$;

comment on function private.stop_marketing(uuid[], uuid[], timestamptz[], text) is
  'Notes that people want no marketing by WhatsApp and ends what is queued of it; returns how many that was news of.';

create function private.record_whatsapp_inbound(p_tenant_id uuid, p_messages jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_total integer := case when jsonb_typeof(p_messages) = 'array' then jsonb_array_length(p_messages) else 0 end;
  v_keys text[];
  v_ats timestamptz[];
  v_stops timestamptz[];
  v_starts timestamptz[];
  v_good integer;
  v_stopped integer;
begin
  if v_total = 0 then
    return jsonb_build_object('recorded', 0, 'skipped', 0, 'stopped', 0);
  end if;
  -- Per person: the last message, the last STOP, the last START.
  select array_agg(x.who order by x.who), array_agg(x.at order by x.who), array_agg(x.stop_at order by x.who), array_agg(x.start_at order by x.who),
    coalesce(sum(x.messages), 0)
  into v_keys, v_ats, v_stops, v_starts, v_good
  from (
    select e.who, max(e.at) as at, count(*) as messages,
      max(e.at) filter (where private.is_stop_word(e.text)) as stop_at, max(e.at) filter (where private.is_start_word(e.text)) as start_at
    from (
      select private.time_of(m ->> 'happened_at') as at, m ->> 'text' as text,
        case when m ->> 'wa_id' ~ '^\+?[0-9]{6,15}$' then private.wa_key(m ->> 'wa_id')
          when char_length(m ->> 'user_id') between 1 and 200 then m ->> 'user_id' end as who
      from jsonb_array_elements(p_messages) m
      where jsonb_typeof(m) = 'object' and char_length(m ->> 'external_id') between 1 and 500
    ) e
    where e.at is not null and e.who is not null
    group by e.who
  ) x;

  insert into private.conversations as c (tenant_id, recipient, inbound_at, start_word_at)
  select coalesce(p_tenant_id, jobs.platform_id()), u.who, u.at, u.start_at
  from unnest(v_keys, v_ats, v_starts) as u (who, at, start_at)
  where p_tenant_id is null or exists (select from public.tenants t where t.id = p_tenant_id)
  order by u.who
  on conflict (tenant_id, recipient) do update
    -- greatest skips nulls, which is what is meant here.
    set inbound_at = greatest(c.inbound_at, excluded.inbound_at), start_word_at = greatest(c.start_word_at, excluded.start_word_at), touched_at = now();

  -- A STOP counts against a consent that was given before it; times of WhatsApp are full seconds.
  perform set_config('onecron.consent', '{"source": "stop_word"}', true);
  update public.participants p
  set whatsapp_opt_in_at = null
  from (
    select o.tenant_id, o.id
    from unnest(v_keys, v_stops) as u (who, stop_at)
    join private.tenants_of_number(p_tenant_id, array(select k from unnest(v_keys, v_stops) as s (k, at) where s.at is not null)) n on n.wa_key = u.who
    join public.participants o on o.tenant_id = n.tenant_id and private.wa_key(o.phone) = u.who
    where u.stop_at is not null and o.whatsapp_opt_in_at < u.stop_at + interval '1 second'
    order by o.tenant_id, o.id
    for update of o
  ) stopped
  where p.tenant_id = stopped.tenant_id and p.id = stopped.id;
  get diagnostics v_stopped = row_count;
  perform set_config('onecron.consent', '', true);

  -- Whoever was silent for a month is forgotten.
  delete from private.conversations c
  where (c.tenant_id, c.recipient) in (
    select o.tenant_id, o.recipient from private.conversations o where o.touched_at < now() - interval '30 days'
    order by o.touched_at limit 100 for update skip locked);
  return jsonb_build_object('recorded', v_good, 'skipped', v_total - v_good, 'stopped', v_stopped);
end
$$;

comment on function private.record_whatsapp_inbound(uuid, jsonb) is
  'What people wrote to a number: opens the 24-hour window, and STOP in any of the common languages ends consent at once. {"recorded","skipped","stopped"}.';

create function private.record_message_statuses(p_tenant_id uuid, p_statuses jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_total integer := case when jsonb_typeof(p_statuses) = 'array' then jsonb_array_length(p_statuses) else 0 end;
  v_good integer;
  v_known integer;
  v_updated integer;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  if v_total = 0 then
    return jsonb_build_object('updated', 0, 'unchanged', 0, 'unknown', 0, 'skipped', 0);
  end if;
  with report as materialized (
    select x.*, case when x.is_ours then split_part(x.callback, '/', 1)::uuid end as callback_tenant_id,
      case when x.is_ours then split_part(x.callback, '/', 2)::uuid end as callback_id
    from (
      select s ->> 'message_id' as message_id, s ->> 'callback' as callback,
        s ->> 'callback' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' as is_ours,
        case when s ->> 'status' = 'played' then 'read' else s ->> 'status' end as status, private.time_of(s ->> 'at') as at,
        case when s ->> 'code' ~ '^[0-9]{1,9}$' then (s ->> 'code')::integer end as code, left(s ->> 'details', 300) as details
      from jsonb_array_elements(p_statuses) s
      where jsonb_typeof(s) = 'object' and s ->> 'status' in ('sent', 'delivered', 'read', 'played', 'failed')
        and char_length(s ->> 'message_id') between 1 and 200
    ) x
    where x.at is not null
  ),
  -- Our own mark first, the provider's id else. A tenant's number speaks of that tenant's messages only.
  matched as materialized (
    select r.*, m.tenant_id, m.id
    from report r
    left join lateral (
      select x.tenant_id, x.id
      from (
        select o.tenant_id, o.id, 1 as n
        from public.notification_outbox o
        where o.tenant_id = r.callback_tenant_id and o.id = r.callback_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and coalesce(o.credential_source, 'platform') = 'platform'))
        union all
        select o.tenant_id, o.id, 2
        from public.notification_outbox o
        where o.provider_message_id = r.message_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and o.credential_source = 'platform'))
      ) x
      order by x.n, x.tenant_id, x.id
      limit 1
    ) m on true
  ),
  -- The furthest that is reported of each message: sent < failed < delivered < read, whatever order they come in.
  furthest as materialized (
    select distinct on (w.tenant_id, w.id) w.*
    from (
      select y.*, array_position(array['sent', 'failed', 'delivered', 'read'], y.status) as rank from matched y where y.id is not null
    ) w
    join public.notification_outbox o on o.tenant_id = w.tenant_id and o.id = w.id
    -- That an earlier try failed is known: the message was queued again for it.
    where not (w.status in ('sent', 'failed') and w.message_id = any (o.earlier_message_ids))
    order by w.tenant_id, w.id, w.rank desc, w.at
  ),
  changed as (
    update public.notification_outbox m
    set delivery = f.status, delivery_at = f.at,
      provider_message_id = case when f.message_id = any (m.earlier_message_ids) then m.provider_message_id else coalesce(m.provider_message_id, f.message_id) end,
      error_code = case when f.status = 'failed' then f.code end,
      -- A message that is with the worker is decided when its answer comes; one that was queued again has arrived after all.
      status = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then 'failed' else m.status end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.status
        else 'sent' end,
      sent_at = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then null else m.sent_at end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.sent_at
        else coalesce(m.sent_at, f.at) end,
      unknown_since = null,
      reason = case
        when f.status = 'failed' then left(format('WhatsApp %s: %s', coalesce(f.code::text, 'failed'), private.code_words(f.code, f.details)), 500)
        when m.status in ('sent', 'unknown', 'failed', 'queued') then null else m.reason end,
      held_until = null
    from furthest f
    where m.tenant_id = f.tenant_id and m.id = f.id
      and f.rank > coalesce(array_position(array['sent', 'failed', 'delivered', 'read'], m.delivery), 0)
    returning m.tenant_id, m.id, m.status, m.delivery, m.error_code, m.reason
  )
  select (select count(*) from report), (select count(*) from matched x where x.id is not null), (select count(*) from changed),
    array_agg(c.tenant_id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.error_code) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.reason) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null)
  into v_good, v_known, v_updated, v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
  return jsonb_build_object('updated', v_updated, 'unchanged', v_known - v_updated, 'unknown', v_good - v_known, 'skipped', v_total - v_good);
end
$$;

comment on function private.record_message_statuses(uuid, jsonb) is
  'What became of messages, as WhatsApp reports it: delivery only moves forward, unknown messages are reconciled, codes of failed ones are acted on. '
  '{"updated","unchanged","unknown","skipped"}: unknown are reports of messages that are not ours.';

create function private.record_preferences(p_tenant_id uuid, p_preferences jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_total integer := case when jsonb_typeof(p_preferences) = 'array' then jsonb_array_length(p_preferences) else 0 end;
  v_keys text[];
  v_ats timestamptz[];
  v_stops boolean[];
  v_good integer;
  v_stopped integer;
  v_resumed integer;
begin
  if v_total = 0 then
    return jsonb_build_object('recorded', 0, 'skipped', 0, 'stopped', 0, 'resumed', 0);
  end if;
  with good as materialized (
    select private.wa_key(m ->> 'wa_id') as who, m ->> 'value' = 'stop' as stops, private.time_of(m ->> 'at') as at
    from jsonb_array_elements(p_preferences) m
    where jsonb_typeof(m) = 'object' and m ->> 'wa_id' ~ '^\+?[0-9]{6,15}$' and m ->> 'category' = 'marketing_messages'
      and m ->> 'value' in ('stop', 'resume') and private.time_of(m ->> 'at') is not null
  ),
  -- The last word of each; of two in one second, stop.
  latest as (
    select distinct on (g.who) g.* from good g order by g.who, g.at desc, g.stops desc
  )
  select (select count(*) from good), array_agg(l.who), array_agg(l.at), array_agg(l.stops) into v_good, v_keys, v_ats, v_stops from latest l;

  select private.stop_marketing(array_agg(p.tenant_id), array_agg(p.id), array_agg(u.at), 'preference') into v_stopped
  from unnest(v_keys, v_ats, v_stops) as u (who, at, stops)
  join private.tenants_of_number(p_tenant_id, v_keys) n on n.wa_key = u.who
  join public.participants p on p.tenant_id = n.tenant_id and private.wa_key(p.phone) = u.who
  where u.stops;

  insert into public.opt_ins (tenant_id, participant_id, channel, category, granted, business_name, source, at)
  select p.tenant_id, p.id, 'whatsapp', 'marketing', true, t.name, 'preference', u.at
  from unnest(v_keys, v_ats, v_stops) as u (who, at, stops)
  join private.tenants_of_number(p_tenant_id, v_keys) n on n.wa_key = u.who
  join public.participants p on p.tenant_id = n.tenant_id and private.wa_key(p.phone) = u.who
  join public.tenants t on t.id = p.tenant_id
  cross join lateral (
    select o.granted, o.at from public.opt_ins o
    where o.tenant_id = p.tenant_id and o.participant_id = p.id and o.channel = 'whatsapp' and o.category = 'marketing'
    order by o.at desc, o.position desc limit 1
  ) latest
  where not u.stops and not latest.granted and latest.at < u.at;
  get diagnostics v_resumed = row_count;
  return jsonb_build_object('recorded', v_good, 'skipped', v_total - v_good, 'stopped', coalesce(v_stopped, 0), 'resumed', v_resumed);
end
$$;

comment on function private.record_preferences(uuid, jsonb) is
  'People switched a business''s marketing messages off or on in WhatsApp: the ledger says so, queued ones end. {"recorded","skipped","stopped","resumed"}.';
