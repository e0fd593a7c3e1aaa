-- What the worker asks before it sends several e-mails in one call, and what it tells afterwards. See 24_email_bundles.sql.

create function jobs.bundle_emails(batch_id bigint, items bigint[], sender text, request uuid default null)
returns jsonb
language plpgsql security definer
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_tenant_id uuid;
  v_ids uuid[];
  v_source text;
  v_fingerprint text;
  v_bundle private.email_bundles;
  v_wanted uuid[];
  v_alone uuid[];
  v_version integer;
  v_send_before timestamptz;
begin
  -- The batch row is locked, so the lease cannot expire between this check and what is noted.
  perform from jobs.batches b where b.batch_id = bundle_emails.batch_id and b.job = 'send-emails' and b.lease_until > v_now for update;
  if not found then
    return null;
  end if;
  -- One tenant's, whoever asks: mails of two tenants never share a call.
  select i.tenant_id, array_agg(i.subject_id order by array_position(bundle_emails.items, i.item_id)), min(i.credential_source), min(i.credential_fingerprint)
  into v_tenant_id, v_ids, v_source, v_fingerprint
  from jobs.leased_items i
  where i.batch_id = bundle_emails.batch_id and i.item_id = any (bundle_emails.items)
  group by i.tenant_id
  order by i.tenant_id
  limit 1;
  if v_ids is null or v_source is null or v_fingerprint is null then
    return null;
  end if;

  select b.* into v_bundle
  from private.email_bundles b
  where b.tenant_id = v_tenant_id
    and b.id in (select m.bundle_id from private.bundled_emails m where m.tenant_id = v_tenant_id and m.outbox_id = any (v_ids))
  order by b.created_at, b.id
  limit 1
  for update;

  if v_bundle.id is null then
    select array_agg(j.id order by j.n) filter (where j.over is null and j.hold_until is null and m.bundled),
      array_agg(j.id) filter (where j.over is null and j.hold_until is null and not m.bundled)
    into v_wanted, v_alone
    from private.judge_emails(array_fill(v_tenant_id, array[cardinality(v_ids)]), v_ids, v_now) j
    join public.notification_outbox m on m.tenant_id = v_tenant_id and m.id = j.id
    where j.n <= 100;
    if v_wanted is null then
      return jsonb_build_object('bundle_id', null, 'mails', '[]'::jsonb, 'alone', coalesce(to_jsonb(v_alone), '[]'));
    end if;
    -- Nobody asks about these any more.
    delete from private.email_bundles b
    where (b.tenant_id, b.id) in (
      select o.tenant_id, o.id from private.email_bundles o where o.created_at < v_now - interval '30 days'
      order by o.created_at limit 100 for update skip locked);
    insert into private.email_bundles (tenant_id, sender, credential_source, credential_fingerprint)
    values (v_tenant_id, bundle_emails.sender, v_source, v_fingerprint)
    returning * into v_bundle;
    insert into private.bundled_emails (tenant_id, outbox_id, bundle_id, place)
    select v_tenant_id, u.id, v_bundle.id, u.n from unnest(v_wanted) with ordinality as u (id, n);
    v_version := 1;
  else
    -- The key is known to the account that it was given to, and for a day.
    if v_bundle.lost_reason is null then
      v_bundle.lost_reason := case
        when v_bundle.credential_source <> v_source or v_bundle.credential_fingerprint <> v_fingerprint
          then 'the e-mail account was changed before an answer came'
        when v_bundle.created_at <= v_now - interval '23 hours 30 minutes' then 'no answer came within a day' end;
    end if;
    if v_bundle.lost_reason is not null then
      update private.email_bundles b set lost_reason = v_bundle.lost_reason where b.tenant_id = v_tenant_id and b.id = v_bundle.id;
      return jsonb_build_object('bundle_id', v_bundle.id, 'lost', v_bundle.lost_reason);
    end if;
    -- Versions only become smaller: a mail that was left out waits until it is known what became of the rest, also when it may leave again.
    select coalesce(array_agg(j.id order by j.n) filter (where v_bundle.versions = any (x.versions)), array_agg(j.id order by j.n)) into v_wanted
    from (
      select array_agg(m.outbox_id order by m.place) as ids from private.bundled_emails m where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id
    ) a
    cross join lateral private.judge_emails(array_fill(v_tenant_id, array[cardinality(a.ids)]), a.ids, v_now) j
    join private.bundled_emails x on x.tenant_id = v_tenant_id and x.outbox_id = j.id
    where j.over is null and j.hold_until is null;
    if v_wanted is null then
      return jsonb_build_object('bundle_id', v_bundle.id, 'mails', '[]'::jsonb, 'alone', '[]'::jsonb);
    end if;
    -- The version with exactly these mails, or a new one.
    select max(v.n) into v_version
    from generate_series(1, v_bundle.versions) as v (n)
    where v_wanted = array(
      select m.outbox_id from private.bundled_emails m
      where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id and v.n = any (m.versions)
      order by m.place);
    if v_version is null then
      v_version := v_bundle.versions + 1;
      update private.bundled_emails m set versions = m.versions || v_version
      where m.tenant_id = v_tenant_id and m.bundle_id = v_bundle.id and m.outbox_id = any (v_wanted);
    end if;
  end if;

  update private.email_bundles b
  set versions = greatest(b.versions, v_version), request = bundle_emails.request,
    calls = b.calls + case when b.request = bundle_emails.request then 0 else 1 end
  where b.tenant_id = v_tenant_id and b.id = v_bundle.id
  returning * into v_bundle;
  select min(j.send_before) into v_send_before
  from private.judge_emails(array_fill(v_tenant_id, array[cardinality(v_wanted)]), v_wanted, v_now) j;
  return jsonb_build_object('bundle_id', v_bundle.id, 'call', v_bundle.calls, 'version', v_version, 'sender', v_bundle.sender,
    'send_before', v_send_before, 'alone', coalesce(to_jsonb(v_alone), '[]'),
    'mails', (
      select jsonb_agg(jsonb_build_object('outbox_id', m.id, 'to', m.recipient, 'subject', m.subject, 'text', m.body, 'html', m.payload -> 'html') order by u.n)
      from unnest(v_wanted) with ordinality as u (id, n)
      join public.notification_outbox m on m.tenant_id = v_tenant_id and m.id = u.id));
end
$$;

grant execute on function jobs.bundle_emails(bigint, bigint[], text, uuid) to service_role;
comment on function jobs.bundle_emails(bigint, bigint[], text, uuid) is
  'To be called right before e-mails of one tenant leave in one call: notes what the call consists of, or finds the bundle that one of them was sent in. '
  '{"bundle_id","call","version","sender","send_before","mails":[{"outbox_id","to","subject","text","html"}],"alone":[outbox_id]}: exactly these mails in this order, '
  'also those that were not asked for, with bundle_id as idempotency key; no mails: no call; alone: each by itself. {"lost": reason}: nobody knows what became of them, '
  'they are not sent again. Null: the lease is over, send nothing. With the same request (the caller''s own id of this call) it can be repeated. '
  'Definer: bundles are not reachable for any API role.';

create function jobs.settle_emails(
  tenant_id uuid, bundle_id uuid, call integer, version integer, outcome text, outbox_ids uuid[] default '{}', message_ids text[] default '{}')
returns jsonb
language plpgsql security definer
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_bundle private.email_bundles;
  v_others integer[];
  v_mails jsonb;
  v_unknown boolean;
begin
  if outcome is null or outcome not in ('accepted', 'accepted before', 'content refused', 'refused', 'not sent') then
    raise exception 'Unknown outcome "%".', coalesce(outcome, 'null') using errcode = '22023';
  end if;
  select b.* into v_bundle from private.email_bundles b where b.tenant_id = settle_emails.tenant_id and b.id = settle_emails.bundle_id for update;
  if not found then
    return null;
  end if;

  if outcome in ('content refused', 'refused', 'not sent') then
    -- This call sent nothing. The mails are free only if no other call may have: it was the first one, or its content is what was refused
    -- and every other version has all of these mails, the bad one among them: content that is refused once was never accepted.
    -- Whoever has set out after it will say what became of that.
    if v_bundle.calls <> settle_emails.call
      or not (v_bundle.calls = 1 or (outcome = 'content refused' and not exists (
        select from private.bundled_emails u
        where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and settle_emails.version = any (u.versions)
          and not u.versions @> array(select v from generate_series(1, v_bundle.versions) v)))) then
      return '{"dissolved": false}';
    end if;
    if outcome <> 'not sent' then
      -- In the same moment: from now on each goes with its own key.
      update public.notification_outbox m
      set bundled = false
      from private.bundled_emails u
      where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and m.tenant_id = u.tenant_id and m.id = u.outbox_id;
    end if;
    delete from private.email_bundles b where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
    return '{"dissolved": true}';
  end if;

  v_others := array(select v from generate_series(1, v_bundle.versions) v where v <> settle_emails.version);
  with judged as materialized (
    select u.outbox_id, u.place, g.message_id,
      case
        when outcome = 'accepted' then case when settle_emails.version = any (u.versions) then 'sent' else 'free' end
        when u.versions @> v_others then 'sent'
        when u.versions && v_others then 'unknown'
        else 'free' end as status
    from private.bundled_emails u
    left join unnest(settle_emails.outbox_ids, settle_emails.message_ids) as g (outbox_id, message_id) on g.outbox_id = u.outbox_id
    where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id
  ),
  locked as materialized (
    select m.id from public.notification_outbox m join judged j on m.id = j.outbox_id
    where m.tenant_id = v_bundle.tenant_id order by m.id for update of m
  ),
  -- Whatever was decided about it since: it was sent, and the record says so.
  changed as (
    update public.notification_outbox m
    set status = j.status::public.message_status, held_until = null, credential_source = v_bundle.credential_source,
      sent_at = case when j.status = 'sent' then now() end, delivery = case when j.status = 'sent' then 'sent' end,
      delivery_at = case when j.status = 'sent' then now() end, unknown_since = case when j.status = 'unknown' then now() end,
      provider_message_id = left(j.message_id, 200),
      reason = case
        when j.status = 'unknown' then 'nobody knows which of the calls arrived that it was in'
        when outcome = 'accepted before' then 'accepted with an earlier call, whose answer was lost' end
    from judged j
    where m.tenant_id = v_bundle.tenant_id and m.id = j.outbox_id and m.id in (select l.id from locked l)
      and ((j.status = 'sent' and m.status <> 'sent') or (j.status = 'unknown' and m.status = 'queued'))
  )
  select jsonb_agg(jsonb_build_object('outbox_id', j.outbox_id, 'status', j.status) order by j.place), coalesce(bool_or(j.status = 'unknown'), false)
  into v_mails, v_unknown
  from judged j;

  if v_unknown then
    -- These stay bound to it, so that nobody sends them again.
    update private.email_bundles b set lost_reason = 'nobody knows which of its calls arrived' where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
    delete from private.bundled_emails u
    where u.tenant_id = v_bundle.tenant_id and u.bundle_id = v_bundle.id and (u.versions @> v_others or not u.versions && v_others);
  else
    delete from private.email_bundles b where b.tenant_id = v_bundle.tenant_id and b.id = v_bundle.id;
  end if;
  return jsonb_build_object('mails', coalesce(v_mails, '[]'));
end
$$;

grant execute on function jobs.settle_emails(uuid, uuid, integer, integer, text, uuid[], text[]) to service_role;
comment on function jobs.settle_emails(uuid, uuid, integer, integer, text, uuid[], text[]) is
  'What became of a call that bundle_emails gave: accepted (with the ids of its mails, in order), accepted before (its key was used with another content), '
  'content refused, refused, or not sent. Accepted: {"mails":[{"outbox_id","status"}]} for all mails of the bundle, noted in the outbox at once: sent, unknown, or free '
  '(not sent, to be claimed again). Else {"dissolved"}: true when nothing of it can have left: after a refusal each mail then goes alone. '
  'Null: it was settled before. It is about a fact, so no lease is asked for. Definer: bundles are not reachable for any API role.';
