-- The job process-webhooks: each body becomes signals, messages, statuses and preferences, handed on as a set.

create function private.count_ignored(p_reasons text[])
returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(r.reason, r.count), '{}')
  from (select u as reason, count(*) from unnest(p_reasons) u where u is not null group by u order by count(*) desc, u limit 20) r
$$;

comment on function private.count_ignored(text[]) is 'How often each reason occurs, the 20 most frequent ones.';

-- Forgets what was removed outside, and remembers that it was.
create function private.remove_signals(p_tenant_id uuid, p_removals jsonb)
returns integer
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_count integer := 0;
begin
  insert into private.webhook_removals as w (tenant_id, surface, kind, external_id, removed_at)
  select p_tenant_id, r.surface, r.kind, r.external_id, max(r.removed_at)
  from jsonb_to_recordset(p_removals) as r (surface text, kind text, external_id text, removed_at timestamptz)
  where octet_length(r.external_id) <= 300
  group by r.surface, r.kind, r.external_id
  on conflict on constraint webhook_removals_pkey do update set removed_at = greatest(w.removed_at, excluded.removed_at);
  if to_regclass('private.signals') is not null then
    execute $sql$
      delete from private.signals s
      using jsonb_to_recordset($2) as r (surface text, kind text, external_id text, removed_at timestamptz)
      where s.tenant_id = $1 and s.surface::text = r.surface and s.kind::text = r.kind and s.external_id = r.external_id
        and s.happened_at <= r.removed_at
    $sql$ using p_tenant_id, p_removals;
    get diagnostics v_count = row_count;
  end if;
  return v_count;
end
$$;

comment on function private.remove_signals(uuid, jsonb) is
  'Deletes the signals of what was removed outside and keeps the removal, so that an addition told later does not bring it back. Returns how many went.';

create function private.process_meta(p_event private.webhook_events, p_account jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_counts jsonb;
  v_signals jsonb;
  v_removals jsonb;
begin
  with part as materialized (
    select s.*, row_number() over () as position,
      -- What was removed last, by what this very body says: its order says nothing.
      max(s.happened_at) filter (where s.is_a = 'removal') over (partition by s.surface, s.kind, s.external_id) as removed_at
    from private.split_meta(p_event.body, p_account, p_event.received_at) s
  ),
  judged as (
    select p.*, case when p.is_a = 'signal' and (p.removed_at >= p.happened_at or exists (
        select from private.webhook_removals w
        where w.tenant_id = p_event.tenant_id and w.surface = p.surface and w.kind = p.kind and w.external_id = p.external_id and w.removed_at >= p.happened_at))
      then 'removed' end as too_late
    from part p
  )
  select
    jsonb_build_object('updates', count(*), 'ignored', private.count_ignored(array_agg(coalesce(j.reason, j.too_late)))),
    coalesce(jsonb_agg(j.signal order by j.position) filter (where j.is_a = 'signal' and j.too_late is null), '[]'),
    coalesce(jsonb_agg(jsonb_build_object('surface', j.surface, 'kind', j.kind, 'external_id', j.external_id, 'removed_at', j.happened_at))
      filter (where j.is_a = 'removal'), '[]')
  into v_counts, v_signals, v_removals
  from judged j;
  -- The platform's own app speaks for accounts of many tenants, and nothing proves which tenant an account belongs to.
  if p_event.tenant_id = jobs.platform_id() then
    return v_counts || jsonb_build_object('not_routed', jsonb_array_length(v_signals) + jsonb_array_length(v_removals));
  end if;
  if v_removals <> '[]' then
    v_counts := v_counts || jsonb_build_object('removed', private.remove_signals(p_event.tenant_id, v_removals));
  end if;
  if v_signals <> '[]' then
    v_counts := v_counts || jsonb_build_object('signals', private.record_signals(p_event.tenant_id, v_signals));
  end if;
  return v_counts;
end
$$;

comment on function private.process_meta(private.webhook_events, jsonb) is
  'Hands the updates of one Meta body to private.record_signals and drops what was removed; returns the counts.';

-- Whose claims and accounts messages to the platform's own number are about. The number says nothing, so the code has to: of those
-- businesses that have no number of their own, exactly one claim, or one participant who links an account, has it.
create function private.claims_by_messages(p_messages jsonb)
returns table (tenant_id uuid, messages jsonb)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return query
  select n.tenant_id, jsonb_agg(n.message order by n.position)
  from (
    select min(o.tenant_id::text)::uuid as tenant_id, m.message, m.position
    from jsonb_array_elements(p_messages) with ordinality as m (message, position)
    cross join lateral unnest(private.codes_in(left(m.message ->> 'text', 10000))) as u (code)
    cross join lateral (
      select c.tenant_id
      from (
        select x.tenant_id, x.task_id from public.completions x
        where x.code = u.code and x.route = 'signal' and x.status = 'pending' offset 0
      ) c
      join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
      where t.kind::text = 'whatsapp_join' and t.platform_credential_allowed
      union all
      select l.tenant_id from private.link_codes l
      where l.code = u.code and l.platform = 'whatsapp' and l.used_at is null and l.expires_at > now()
      offset 0
    ) o
    join public.tenants b on b.id = o.tenant_id
    where b.status = 'active'
      and not exists (select from public.credentials w where w.tenant_id = o.tenant_id and w.provider = 'whatsapp')
    group by m.message, m.position
    having count(*) = 1
  ) n
  group by n.tenant_id
  order by n.tenant_id;
end
$$;

comment on function private.claims_by_messages(jsonb) is
  'Of messages to the platform''s WhatsApp number those whose code names exactly one open whatsapp_join claim or one open link code, by '
  'tenant. Tenants with a WhatsApp credential of their own are left out.';

-- Messages as private.record_signals takes them.
create function private.whatsapp_signals(p_messages jsonb)
returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('surface', 'whatsapp', 'kind', 'message', 'external_id', m -> 'external_id',
    'author_id', coalesce(m ->> 'wa_id', m ->> 'user_id'), 'target_id', m -> 'number_id', 'text', m -> 'text', 'happened_at', m -> 'happened_at')))
  from jsonb_array_elements(p_messages) m
$$;

comment on function private.whatsapp_signals(jsonb) is 'WhatsApp messages in the form that private.record_signals takes.';

create function private.process_whatsapp(p_event private.webhook_events, p_account jsonb)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  -- Null is the platform's own number.
  v_tenant_id uuid := nullif(p_event.tenant_id, jobs.platform_id());
  v_counts jsonb;
  v_messages jsonb;
  v_statuses jsonb;
  v_preferences jsonb;
  v_errors jsonb;
begin
  select
    jsonb_build_object('updates', count(*), 'ignored', private.count_ignored(array_agg(p.reason))),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'message'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'status'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'preference'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'error' and p.position <= 20), '[]')
  into v_counts, v_messages, v_statuses, v_preferences, v_errors
  from (
    select s.*, row_number() over (partition by s.is_a) as position
    from private.split_whatsapp(p_event.body, p_account, p_event.received_at) s
  ) p;
  if v_messages <> '[]' then
    -- The opt-out before anything else: what the person joins or proves afterwards is another matter.
    v_counts := v_counts || jsonb_build_object('inbound', private.record_whatsapp_inbound(v_tenant_id,
      (select jsonb_agg(m - 'number_id') from jsonb_array_elements(v_messages) m)));
    if v_tenant_id is not null then
      v_counts := v_counts || jsonb_build_object('signals', private.record_signals(v_tenant_id, private.whatsapp_signals(v_messages)));
    else
      v_counts := v_counts || coalesce((
        select jsonb_build_object('decided', sum((private.record_signals(n.tenant_id, private.whatsapp_signals(n.messages)) ->> 'decided')::integer))
        from private.claims_by_messages(v_messages) n
        having count(*) > 0), '{}');
    end if;
  end if;
  if v_statuses <> '[]' then
    v_counts := v_counts || jsonb_build_object('statuses', private.record_message_statuses(v_tenant_id, v_statuses));
  end if;
  if v_preferences <> '[]' then
    v_counts := v_counts || jsonb_build_object('preferences', private.record_preferences(v_tenant_id, v_preferences));
  end if;
  if v_errors <> '[]' then
    update private.webhook_events e set errors = v_errors where e.tenant_id = p_event.tenant_id and e.id = p_event.id;
    perform private.act_on_account_errors(v_tenant_id, v_errors);
  end if;
  return v_counts;
end
$$;

comment on function private.process_whatsapp(private.webhook_events, jsonb) is
  'Hands the parts of one WhatsApp body to the functions that record messages, statuses and preferences, and that act on errors of the account; returns the counts.';

-- One stored body. Again, or at the same time: the second finds it processed.
create function private.process_webhook(p_tenant_id uuid, p_event_id uuid)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_event private.webhook_events;
  v_account jsonb;
  v_counts jsonb;
begin
  select e.* into v_event from private.webhook_events e where e.tenant_id = p_tenant_id and e.id = p_event_id for update;
  if not found or v_event.processed_at is not null then
    return null;
  end if;
  select c.account into v_account
  from (
    select c.account from public.credentials c where c.tenant_id = p_tenant_id and c.provider::text = v_event.source
    union all
    select p.account from private.platform_credentials p where p_tenant_id = jobs.platform_id() and p.provider::text = v_event.source
  ) c;
  v_counts := case v_event.source
    when 'meta' then private.process_meta(v_event, coalesce(v_account, '{}'))
    else private.process_whatsapp(v_event, coalesce(v_account, '{}')) end;
  update private.webhook_events e set processed_at = clock_timestamp(), counts = v_counts
  where e.tenant_id = p_tenant_id and e.id = p_event_id;
  return v_counts;
end
$$;

comment on function private.process_webhook(uuid, uuid) is 'Works off one stored webhook and notes what was found; null when there is nothing left to do.';

create function private.evidence_without(p_evidence jsonb, p_subject text)
returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(e.key, e.value), '{}')
  from jsonb_each(p_evidence) e
  where e.key not in ('author_id', 'author_username') and (p_subject = any (string_to_array(e.value #>> '{}', ':'))) is not true
$$;

comment on function private.evidence_without(jsonb, text) is
  'Evidence without its person: not as the author, and not in the id of a reaction or of a message without one (like `post:person`).';

-- What a tenant knows of a person through Meta. The person's participation stays: it was not Meta that gave it.
create function private.erase_person(p_tenant_id uuid, p_subject text)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_event record;
  v_usernames text[] := '{}';
  v_erased jsonb := '{}';
  v_count integer;
begin
  -- What was told about the person and waits becomes rows first, so that no later run brings them back.
  for v_event in
    select e.id from private.webhook_events e
    where e.tenant_id = p_tenant_id and e.processed_at is null and strpos(e.body::text, p_subject) > 0
  loop
    perform private.process_webhook(p_tenant_id, v_event.id);
  end loop;
  update private.webhook_events e set body = null
  where e.tenant_id = p_tenant_id and e.body is not null and strpos(e.body::text, p_subject) > 0;
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('webhooks', v_count);
  delete from private.webhook_removals r where r.tenant_id = p_tenant_id and p_subject = any (string_to_array(r.external_id, ':'));

  if to_regclass('public.linked_accounts') is not null then
    -- By value, not by column: the id counts wherever the row has it.
    execute $sql$
      with gone as (
        delete from public.linked_accounts l
        where l.tenant_id = $1 and exists (select from jsonb_each_text(to_jsonb(l)) c where c.value = $2)
        returning to_jsonb(l) as row
      )
      select count(*), coalesce(array_agg(distinct lower(c.value)) filter (where c.value <> ''), '{}')
      from gone left join lateral jsonb_each_text(gone.row) c on c.key ~ 'username$'
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject;
    v_erased := v_erased || jsonb_build_object('linked_accounts', v_count);
  end if;
  if to_regclass('private.signals') is not null then
    execute $sql$
      with gone as (
        delete from private.signals s where s.tenant_id = $1 and s.author_id = $2
        returning lower(to_jsonb(s) ->> 'author_username') as username
      )
      select count(*), $3 || coalesce(array_agg(distinct g.username) filter (where g.username <> ''), '{}') from gone g
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject, v_usernames;
    v_erased := v_erased || jsonb_build_object('signals', v_count);
  end if;
  if to_regclass('private.proofs') is not null then
    -- A mark stays in the place of the person: an account proves a task once, though nobody knows any more whose it was.
    execute $sql$
      with gone as (
        delete from private.proofs p
        where p.tenant_id = $1 and ($2 = any (string_to_array(p.proof, ':')) or p.proof = any (array(select 'name:' || u from unnest($3) u)))
        returning p.tenant_id, p.task_id, p.proof, p.completion_id
      ),
      marked as (
        insert into private.proofs (tenant_id, task_id, proof, completion_id)
        select m.tenant_id, m.task_id, private.mark_of_forgotten(m.tenant_id, m.proof, $4), m.completion_id from gone m
        on conflict do nothing
      )
      select count(*) from gone
    $sql$ into v_count using p_tenant_id, p_subject, v_usernames, private.forgetting_key();
    v_erased := v_erased || jsonb_build_object('proofs', v_count);
  end if;
  if to_regclass('public.completion_decisions') is not null then
    -- Decisions are not changed: each is replaced by one that is the same without the person.
    execute $sql$
      with gone as (
        delete from public.completion_decisions d
        where d.tenant_id = $1 and (d.evidence ->> 'author_id' = $2 or lower(d.evidence ->> 'author_username') = any ($3))
        returning to_jsonb(d) as row
      )
      insert into public.completion_decisions
      select r.*
      from gone, jsonb_populate_record(null::public.completion_decisions,
        gone.row || jsonb_build_object('evidence', private.evidence_without(gone.row -> 'evidence', $2))) r
    $sql$ using p_tenant_id, p_subject, v_usernames;
    get diagnostics v_count = row_count;
    v_erased := v_erased || jsonb_build_object('decisions', v_count);
  end if;
  update public.completions c set evidence = private.evidence_without(c.evidence, p_subject)
  where c.tenant_id = p_tenant_id
    and (c.evidence ->> 'author_id' = p_subject or lower(c.evidence ->> 'author_username') = any (v_usernames));
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('evidence', v_count);
  update public.participants p
  set facebook_user_id = case when p.facebook_user_id is distinct from p_subject then p.facebook_user_id end,
    instagram_username = case when lower(p.instagram_username) = any (v_usernames) then null else p.instagram_username end
  where p.tenant_id = p_tenant_id and (p.facebook_user_id = p_subject or lower(p.instagram_username) = any (v_usernames));
  get diagnostics v_count = row_count;
  return v_erased || jsonb_build_object('participants', v_count);
end
$$;

comment on function private.erase_person(uuid, text) is
  'Erases what a tenant knows of a person by Meta''s id: the linked account, signals, ids and names in evidence and profiles, bodies of webhooks. '
  'What the account has proven leaves a mark. Returns counts.';

create function private.process_deletion(p_tenant_id uuid, p_deletion_id uuid)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_subject text;
  v_erased jsonb;
begin
  select d.subject into v_subject from public.data_deletions d
  where d.tenant_id = p_tenant_id and d.id = p_deletion_id and d.status = 'pending' for update;
  if not found then
    return null;
  end if;
  v_erased := private.erase_person(p_tenant_id, v_subject);
  update public.data_deletions d set status = 'completed', completed_at = clock_timestamp(), subject = null, erased = v_erased
  where d.tenant_id = p_tenant_id and d.id = p_deletion_id;
  perform private.audit(p_tenant_id, 'data_deletion.completed', v_erased || jsonb_build_object('deletion_id', p_deletion_id));
  return v_erased;
end
$$;

comment on function private.process_deletion(uuid, uuid) is 'Does one requested deletion and forgets whom it was about; null when it is done already.';

create function private.process_webhooks(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language sql
set search_path = ''
set jit = off
as $$
  select case when p_tenant_id = jobs.platform_id() and p_payload ? 'deletion_of'
    then private.process_deletion((p_payload ->> 'deletion_of')::uuid, p_subject_id)
    else private.process_webhook(p_tenant_id, p_subject_id) end
$$;

comment on function private.process_webhooks(uuid, uuid, jsonb) is
  'Work function of process-webhooks: a stored body, or a deletion that a person asked for through Meta.';

create function private.purge_webhooks(p_tenant_id uuid, p_subject_id uuid, p_payload jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  -- 30 days is the most that may be set: a longer word in the setting does not keep bodies longer.
  v_days integer := least(30, greatest(1, case when private.setting('webhook_days') ~ '^[0-9]{1,3}$' then private.setting('webhook_days')::integer else 30 end));
  v_before timestamptz := now() - make_interval(days => v_days);
  v_events integer;
begin
  delete from private.webhook_events e where e.received_at < v_before;
  get diagnostics v_events = row_count;
  delete from private.webhook_removals r where r.removed_at < v_before;
  return jsonb_build_object('webhook_events', v_events);
end
$$;

comment on function private.purge_webhooks(uuid, uuid, jsonb) is
  'Work function of purge-webhooks: deletes stored webhooks after webhook_days, processed or not, and removals with them.';
