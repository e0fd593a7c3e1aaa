-- Recording signals: thousands at once, in any order, any number of times.

create function private.new_code()
returns text
language sql volatile
set search_path = ''
as $$
  -- Eight letters and digits from 32 random bits: enough to tell the claims of one post apart.
  select 'OC-' || upper(left(gen_random_uuid()::text, 8))
$$;

comment on function private.new_code() is 'A new code for a claim or a link, like OC-1A2B3C4D.';

-- The codes in a text, as people's keyboards change them: full-width letters, long dashes, invisible characters, lower case.
create function private.codes_in(p_text text)
returns text[]
language sql immutable
set search_path = ''
as $$
  select array(
    select distinct m[1]
    from regexp_matches(
      upper(regexp_replace(regexp_replace(normalize(p_text, nfkc), '[\u00AD\u200B-\u200F\u202A-\u202E\u2060-\u2064\uFEFF]', '', 'g'),
        '[\u2010-\u2015\u2212\u2E3A\u2E3B\uFE58\uFE63\uFF0D]', '-', 'g')),
      '(?<![[:alnum:]])(OC-[0-9A-Z]{8})(?![[:alnum:]])', 'g') m
    limit 20)
$$;

comment on function private.codes_in(text) is 'The codes OC-XXXXXXXX in a text, in capitals; no letter or digit touches them.';

create function private.take_signals(p_tenant_id uuid, p_signals jsonb, p_via text, p_credential_source text default null)
returns jsonb
language plpgsql
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_mergejoin = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_given integer := case when jsonb_typeof(p_signals) = 'array' then jsonb_array_length(p_signals) else 0 end;
  v_valid integer;
  v_signal_ids uuid[];
  v_new private.signals[];
  v_linked uuid[];
  v_waiting uuid[];
begin
  if v_given = 0 or not exists (select from public.tenants t where t.id = p_tenant_id) then
    return jsonb_build_object('recorded', 0, 'skipped', v_given, 'decided', 0);
  end if;

  with given as materialized (
    select e.value ->> 'surface' as surface, e.value ->> 'kind' as kind, e.value ->> 'external_id' as external_id,
      nullif(e.value ->> 'author_id', '') as author_id, e.value ->> 'author_username' as author_username,
      nullif(e.value ->> 'target_id', '') as target_id, left(e.value ->> 'text', 10000) as text, left(e.value ->> 'referral', 200) as referral,
      e.value -> 'codes' as codes, e.value -> 'details' as details, e.value ->> 'happened_at' as happened_at
    from jsonb_array_elements(p_signals) e
    where jsonb_typeof(e.value) = 'object'
  ),
  -- A time is taken only when it can be one: a cast must not raise for the sake of one bad entry.
  timed as materialized (
    select g.*,
      case
        when g.happened_at is null then now()
        when g.happened_at !~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
          then null
        when substr(g.happened_at, 9, 2)::integer > extract(day from (substr(g.happened_at, 1, 7) || '-01')::date + interval '1 month - 1 day') then null
        else g.happened_at::timestamptz end as at
    from given g
  ),
  valid as materialized (
    select t.*
    from timed t
    where (t.surface, t.kind) in (('instagram', 'comment'), ('facebook', 'comment'), ('instagram', 'mention'), ('instagram', 'story_mention'),
        ('instagram', 'message'), ('facebook', 'message'), ('whatsapp', 'message'), ('facebook', 'reaction'), ('link', 'visit'), ('link', 'sign_up'))
      and t.external_id ~ '^[!-~]+$' and octet_length(t.external_id) <= 300
      and (t.author_id ~ '^[!-~]{1,200}$') is not false and (t.target_id ~ '^[!-~]{1,200}$') is not false
      and t.at <= now() + interval '1 day'
  ),
  recorded as (
    insert into private.signals (
      tenant_id, surface, kind, external_id, author_id, author_username, target_id, codes, message, details, via, happened_at)
    select distinct on (v.surface, v.kind, v.external_id)
      p_tenant_id, v.surface, v.kind, v.external_id, v.author_id,
      substring(lower(ltrim(btrim(v.author_username), '@')) from '^[a-z0-9._]{1,30}$'), v.target_id,
      case when v.kind in ('visit', 'sign_up') then private.codes_in(v.external_id)
        when v.text is not null or v.referral is not null then private.codes_in(concat_ws(' ', v.text, v.referral))
        when jsonb_typeof(v.codes) = 'array' and v.codes <> '[]' then private.codes_in(left(v.codes::text, 1000))
        else '{}' end,
      case when v.kind = 'message' then nullif(left(v.text, 200), '') end,
      case when v.kind = 'mention' then jsonb_strip_nulls(jsonb_build_object(
        'media_id', substring(v.details ->> 'media_id' from '^[!-~]{1,100}$'),
        'comment_id', substring(v.details ->> 'comment_id' from '^[!-~]{1,100}$'))) end,
      case when v.surface = 'link' then 'link' else p_via end, v.at
    from valid v
    order by v.surface, v.kind, v.external_id, v.at
    on conflict on constraint a_thing_is_seen_once do nothing
    returning *
  )
  select (select count(*) from valid), array_agg(r), array_agg(r.id) into v_valid, v_new, v_signal_ids from recorded r;
  if v_new is null then
    return jsonb_build_object('recorded', 0, 'skipped', v_given - v_valid, 'decided', 0);
  end if;

  insert into private.signal_codes (tenant_id, code, signal_id)
  select p_tenant_id, u.code, n.id from unnest(v_new) n cross join lateral unnest(n.codes) as u (code);

  v_linked := private.link_accounts(p_tenant_id, v_new);
  -- Who was asked to write to the account may be linked already, by a comment: the message is what counts.
  perform private.wake_claims(p_tenant_id, v_linked || array(
    select a.participant_id
    from unnest(v_new) n
    cross join lateral (
      select x.participant_id from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = n.surface and x.external_id = n.author_id offset 0
    ) a
    where n.kind = 'message'));

  -- A mention names nobody: whoever waits for one has it read.
  if exists (select from unnest(v_new) n where n.kind = 'mention') then
    v_waiting := array(
      select c.id
      from public.social_tasks t
      join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
      where t.tenant_id = p_tenant_id and t.kind::text = 'instagram_mention' and c.status = 'pending' and c.route = 'api'
      order by c.claimed_at
      limit 1000);
    if cardinality(v_waiting) > 0 then
      -- The item that an earlier mention woke is not due before long.
      perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_waiting, array(select 'mention/' || w from unnest(v_waiting) w));
    end if;
  end if;

  return jsonb_build_object('recorded', cardinality(v_new), 'skipped', v_given - v_valid,
    'decided', private.decide_by_signals(p_tenant_id, v_signal_ids, v_linked, null, p_credential_source));
end
$$;

comment on function private.take_signals(uuid, jsonb, text, text) is
  'Behind record_signals and record_comments: stores what is new, links accounts by codes, decides the claims that are proven now. '
  'p_credential_source: whose credential read it; null for what was told.';

-- Accounts that sent a code. A link code links the account that it names, also in place of an older one; the code of a claim links an
-- account where there is none. An account that another participant holds stays there.
create function private.link_accounts(p_tenant_id uuid, p_new private.signals[])
returns uuid[]
language plpgsql
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_mergejoin = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_linked uuid[];
begin
  if not exists (
    select from unnest(p_new) n
    where n.codes <> '{}' and n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
  ) then
    return '{}';
  end if;

  with came as (
    select distinct on (u.code) u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null
    order by u.code, n.happened_at, n.id
  ),
  used as (
    update private.link_codes l
    set used_at = now()
    from (
      select came.*, x.place
      from came
      cross join lateral (
        select y.ctid as place from private.link_codes y where y.tenant_id = p_tenant_id and y.code = came.code offset 0
      ) x
    ) c
    where l.ctid = c.place and l.platform = c.surface and l.used_at is null and l.expires_at > now()
    returning l.participant_id, l.platform, c.author_id, c.author_username, c.happened_at
  ),
  linked as (
    -- The account of somebody else stays where it is.
    insert into public.linked_accounts as a (tenant_id, participant_id, platform, external_id, username, linked_by)
    select distinct on (x.platform, x.author_id) p_tenant_id, x.participant_id, x.platform, x.author_id, x.author_username, 'link code'
    from used x
    where not exists (
      select from public.linked_accounts o
      where o.tenant_id = p_tenant_id and o.platform = x.platform and o.external_id = x.author_id and o.participant_id <> x.participant_id)
    order by x.platform, x.author_id, x.happened_at
    on conflict on constraint one_account_per_participant_and_platform do update
      set external_id = excluded.external_id, username = coalesce(excluded.username, a.username), linked_by = excluded.linked_by, linked_at = now()
    returning a.participant_id
  )
  select coalesce(array_agg(participant_id), '{}') into v_linked from linked;

  -- A code in a comment is there for all to copy: it is whose it came from first.
  with came as (
    select distinct on (n.surface, u.code) u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
    order by n.surface, u.code, n.happened_at, n.id
  ),
  linked as (
    insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
    select p_tenant_id, c.participant_id, came.surface, came.author_id, came.author_username, 'claim code'
    from came
    cross join lateral (
      select x.participant_id from public.completions x
      where x.tenant_id = p_tenant_id and x.code = came.code and x.status::text in ('pending', 'needs_user_action') offset 0
    ) c
    -- What is in the way may come from this very insert: the first one counts.
    order by came.happened_at, came.author_id, came.code
    on conflict do nothing
    returning participant_id
  )
  select v_linked || coalesce(array_agg(participant_id), '{}') into v_linked from linked;
  return v_linked;
end
$$;

comment on function private.link_accounts(uuid, private.signals[]) is
  'Links the authors of signals that carry a one-time code to the participants who were given it; returns those participants.';

-- Claims that waited for what these people have done now go on.
create function private.wake_claims(p_tenant_id uuid, p_participant_ids uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_awake uuid[];
begin
  if coalesce(cardinality(p_participant_ids), 0) = 0 then
    return;
  end if;
  with waiting as (
    update public.completions c
    set status = 'pending', reason = null, settle_at = greatest(c.deadline, now()) + interval '1 day'
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status::text = 'needs_user_action'
    returning c.id
  )
  select array_agg(w.id) into v_awake from waiting w;
  if v_awake is not null then
    -- Where the person is asked about from time to time, that is done now.
    perform jobs.hurry_or_enqueue('verify-social-tasks', p_tenant_id, v_awake, array(select 'asked/' || w from unnest(v_awake) w));
  end if;
end
$$;

comment on function private.wake_claims(uuid, uuid[]) is 'Claims of these participants that waited for a step of theirs become pending again, with a new item.';

create function private.record_signals(p_tenant_id uuid, p_signals jsonb)
returns jsonb
language sql
set search_path = ''
set jit = off
as $$
  select private.take_signals(p_tenant_id, p_signals, 'webhook')
$$;

comment on function private.record_signals(uuid, jsonb) is
  'What was seen outside: [{"surface","kind","external_id","author_id"?,"author_username"?,"target_id"?,"text"?,"referral"?,"details"?,"happened_at"?}]. '
  '{"recorded","skipped","decided"}: bad entries are skipped, known ones neither recorded nor skipped. Order and repetition change nothing.';

create function jobs.record_comments(batch_id bigint, tenant_id uuid, post jsonb)
returns integer
language plpgsql security definer
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_surface text := post ->> 'surface';
  v_post_id text := post ->> 'post_id';
  v_since timestamptz;
  v_source text;
  v_count integer := 0;
begin
  -- Only who holds an item for this post, while the lease lives.
  select min(t.created_at), min(i.credential_source) into v_since, v_source
  from jobs.batches b
  join jobs.leased_items i on i.batch_id = b.batch_id and i.tenant_id = record_comments.tenant_id
  join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where b.batch_id = record_comments.batch_id and b.job = 'verify-social-tasks' and b.lease_until > clock_timestamp()
    and t.post_id = v_post_id and t.kind::text = v_surface || '_comment';
  if v_since is null then
    return 0;
  end if;

  if jsonb_typeof(post -> 'comments') = 'array' then
    v_count := (private.take_signals(record_comments.tenant_id, (
      select jsonb_agg(jsonb_build_object('surface', v_surface, 'kind', 'comment', 'external_id', c.value ->> 'id', 'target_id', v_post_id,
        'author_id', c.value ->> 'author_id', 'author_username', c.value ->> 'username', 'codes', c.value -> 'codes',
        'happened_at', c.value ->> 'at'))
      from jsonb_array_elements(post -> 'comments') c
      where jsonb_typeof(c.value) = 'object'), 'api', v_source) ->> 'recorded')::integer;
  end if;

  if post -> 'complete' = 'true' and post -> 'newest' ->> 'id' ~ '^[!-~]{1,200}$'
    and post -> 'newest' ->> 'at' ~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]|29|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
  then
    begin
      insert into private.post_readings as r (tenant_id, surface, post_id, newest_id, newest_at, read_since)
      values (record_comments.tenant_id, v_surface, v_post_id, post -> 'newest' ->> 'id', (post -> 'newest' ->> 'at')::timestamptz, v_since)
      on conflict on constraint post_readings_pkey do update
        set newest_id = case when excluded.newest_at >= r.newest_at then excluded.newest_id else r.newest_id end,
          newest_at = greatest(excluded.newest_at, r.newest_at), read_since = least(excluded.read_since, r.read_since), read_at = now();
    exception when datetime_field_overflow then
      -- A day that no month has is no mark; the next reading starts from the newest again.
      null;
    end;
  end if;
  return v_count;
end
$$;

grant execute on function jobs.record_comments(bigint, uuid, jsonb) to service_role;
comment on function jobs.record_comments(bigint, uuid, jsonb) is
  'The worker tells which comments it read: {"surface","post_id","comments":[{"id","at","author_id","username","codes"}],"newest":{"id","at"},"complete"}. '
  'Taken only while the batch''s lease lives and holds an item of this tenant for this post. Returns how many were new. '
  'Definer: signals are not reachable for any API role.';
