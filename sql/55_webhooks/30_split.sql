-- Reading the bodies. Nothing in a body is trusted to be there or to have the right type; what cannot be read is counted.

create function private.json_list(p_value jsonb)
returns setof jsonb
language sql immutable
set search_path = ''
as $$
  select e from jsonb_array_elements(case jsonb_typeof(p_value) when 'array' then p_value else '[]' end) e
$$;

comment on function private.json_list(jsonb) is 'The elements of an array; none of anything else.';

create function private.json_text(p_value jsonb)
returns text
language sql immutable
set search_path = ''
as $$
  select case when jsonb_typeof(p_value) in ('string', 'number') then nullif(p_value #>> '{}', '') end
$$;

comment on function private.json_text(jsonb) is 'A string or a number as text; null for anything else and for an empty string.';

-- Seconds (Graph, WhatsApp) or milliseconds (Messenger), as a number or as a string. Null for what is no time in this century.
create function private.webhook_time(p_value jsonb)
returns timestamptz
language sql immutable
set search_path = ''
as $$
  select case
    when v.text !~ '^[0-9]{9,13}$' then null
    when length(v.text) >= 12 then to_timestamp(v.text::numeric / 1000)
    when v.text::numeric < 4102444800 then to_timestamp(v.text::double precision) end
  from (select coalesce(private.json_text(p_value), '') as text) v
$$;

comment on function private.webhook_time(jsonb) is 'A provider''s time: unix seconds or milliseconds; null when it is neither.';

-- One body of Meta as rows: what each update is (`is`: signal, removal, or ignored with a reason), and for signals the entry for
-- private.record_signals. Comments come in changes[] or, with the Instagram login, flat on the entry; both are read.
create function private.split_meta(p_body jsonb, p_account jsonb, p_received_at timestamptz)
returns table (is_a text, reason text, surface text, kind text, external_id text, happened_at timestamptz, signal jsonb)
language sql stable
set search_path = ''
set jit = off
as $$
  -- Looked at once: to read a key of the stored body unpacks all of it, 2 ms for a large one.
  with body as materialized (
    select p_body ->> 'object' as object, p_body -> 'entry' as entries
  ),
  entry as (
    select b.object, private.json_text(e -> 'id') as account_id, e,
      coalesce(private.webhook_time(e -> 'time'), p_received_at) as at,
      -- A body speaks for an account; when the credential names its own, it must be that one.
      case b.object when 'page' then p_account ->> 'page_id' else p_account ->> 'ig_user_id' end as own_id
    from body b, private.json_list(b.entries) e
  ),
  change as (
    select n.object, n.account_id, n.at, n.own_id, c ->> 'field' as field, c -> 'value' as value
    from entry n, private.json_list(n.e -> 'changes') c
    union all
    select n.object, n.account_id, n.at, n.own_id, n.e ->> 'field', n.e -> 'value' from entry n where n.e ? 'field'
  ),
  message as (
    select n.object, n.account_id, n.at, n.own_id, m as value from entry n, private.json_list(n.e -> 'messaging') m
    union all
    select c.object, c.account_id, c.at, c.own_id, c.value from change c where c.field ~ '^messag'
  ),
  read_change as (
    select c.account_id, c.own_id, c.at,
      case
        when c.object = 'instagram' and c.field in ('comments', 'live_comments') then 'instagram comment'
        when c.object = 'instagram' and c.field = 'mentions' then 'mention'
        when c.object = 'page' and c.field = 'feed' and c.value ->> 'item' = 'comment' then 'facebook comment'
        when c.object = 'page' and c.field = 'feed' and c.value ->> 'item' = 'reaction' then 'reaction' end as what,
      c.field, c.value, c.value ->> 'verb' as verb,
      private.json_text(c.value -> 'from' -> 'id') as author_id,
      coalesce(private.webhook_time(c.value -> 'created_time'), c.at) as happened_at
    from change c where coalesce(c.field, '') !~ '^messag'
  ),
  told as (
    -- Comments, mentions and reactions
    select r.account_id, r.own_id,
      case
        when r.what is null then format('unknown field %s', left(coalesce(r.field || coalesce(' ' || (r.value ->> 'item'), ''), '?'), 40))
        when r.author_id = r.account_id or coalesce(r.value -> 'from' ->> 'self_ig_scoped_id', '') <> '' then 'own'
        when r.what in ('facebook comment', 'reaction') and coalesce(r.verb, '') not in ('add', 'remove') then format('verb %s', left(coalesce(r.verb, '?'), 20))
      end as reason,
      case when r.verb = 'remove' and r.what in ('facebook comment', 'reaction') then 'removal' else 'signal' end as is_a,
      case when r.what in ('facebook comment', 'reaction') then 'facebook' else 'instagram' end as surface,
      case r.what when 'mention' then 'mention' when 'reaction' then 'reaction' else 'comment' end as kind,
      case r.what
        when 'instagram comment' then private.json_text(r.value -> 'id')
        when 'mention' then coalesce(private.json_text(r.value -> 'comment_id'), private.json_text(r.value -> 'media_id'))
        when 'facebook comment' then private.json_text(r.value -> 'comment_id')
        -- A reaction has no id: it is the one of this person to this post (or comment).
        when 'reaction' then coalesce(private.json_text(r.value -> 'comment_id'), private.json_text(r.value -> 'post_id')) || ':' || r.author_id
      end as external_id,
      r.author_id, case when r.what = 'instagram comment' then private.json_text(r.value -> 'from' -> 'username') end as author_username,
      case r.what when 'instagram comment' then private.json_text(r.value -> 'media' -> 'id')
        when 'mention' then private.json_text(r.value -> 'media_id') else private.json_text(r.value -> 'post_id') end as target_id,
      case r.what when 'instagram comment' then private.json_text(r.value -> 'text') when 'facebook comment' then private.json_text(r.value -> 'message') end as text,
      null::text as referral,
      case r.what
        when 'mention' then jsonb_build_object('media_id', private.json_text(r.value -> 'media_id'), 'comment_id', private.json_text(r.value -> 'comment_id'))
        when 'reaction' then jsonb_build_object('reaction_type', private.json_text(r.value -> 'reaction_type'))
        else jsonb_build_object('parent_id', private.json_text(r.value -> 'parent_id')) end as details,
      r.happened_at
    from read_change r
    union all
    -- Direct messages: text, the ref of an ig.me or m.me link, the mention in a story
    select m.account_id, m.own_id,
      case
        when v.message ->> 'is_echo' = 'true' or v.author_id = m.account_id then 'own'
        when not m.value ?| array['message', 'postback', 'referral'] then 'no message'
        when coalesce(v.message ->> 'is_unsupported', '') = 'true' and not v.is_story then 'unsupported message'
      end,
      case when v.message ->> 'is_deleted' = 'true' then 'removal' else 'signal' end,
      case m.object when 'page' then 'facebook' else 'instagram' end,
      case when v.is_story then 'story_mention' else 'message' end,
      coalesce(private.json_text(v.message -> 'mid'), private.json_text(m.value -> 'postback' -> 'mid'),
        -- Who comes back through a link to a conversation that exists sends only the ref.
        'referral:' || v.author_id || ':' || private.json_text(m.value -> 'timestamp')),
      v.author_id, null, coalesce(private.json_text(m.value -> 'recipient' -> 'id'), m.account_id),
      coalesce(private.json_text(v.message -> 'text'), private.json_text(m.value -> 'postback' -> 'payload')),
      coalesce(private.json_text(v.message -> 'referral' -> 'ref'), private.json_text(m.value -> 'referral' -> 'ref'),
        private.json_text(m.value -> 'postback' -> 'referral' -> 'ref')),
      '{}', coalesce(private.webhook_time(m.value -> 'timestamp'), m.at)
    from message m
    cross join lateral (
      select m.value -> 'message' as message, private.json_text(m.value -> 'sender' -> 'id') as author_id,
        exists (select from private.json_list(m.value -> 'message' -> 'attachments') a where a ->> 'type' = 'story_mention') as is_story
    ) v
  )
  select
    case when x.reason is null then x.is_a else 'ignored' end, x.reason, x.surface, x.kind, x.external_id, x.happened_at,
    jsonb_strip_nulls(jsonb_build_object('surface', x.surface, 'kind', x.kind, 'external_id', x.external_id, 'author_id', x.author_id,
      'author_username', x.author_username, 'target_id', x.target_id, 'text', x.text, 'referral', x.referral,
      'details', nullif(jsonb_strip_nulls(x.details), '{}'), 'happened_at', x.happened_at))
  from (
    select t.*, case
      when t.own_id is not null and t.account_id is distinct from t.own_id then 'other account'
      when t.reason is not null then t.reason
      when t.external_id is null then 'no id' end as verdict
    from told t
  ) t
  cross join lateral (select t.verdict as reason, t.is_a, t.surface, t.kind, t.external_id, t.author_id, t.author_username, t.target_id,
    t.text, t.referral, t.details, t.happened_at) x
$$;

comment on function private.split_meta(jsonb, jsonb, timestamptz) is
  'The updates of one Meta body, a row each: signal, removal, or ignored with the reason. Account: that of the tenant''s credential.';

-- One body of WhatsApp as rows: message, status, preference, error, or ignored with a reason.
create function private.split_whatsapp(p_body jsonb, p_account jsonb, p_received_at timestamptz)
returns table (is_a text, reason text, part jsonb)
language sql stable
set search_path = ''
set jit = off
as $$
  with change as (
    select c ->> 'field' as field, c -> 'value' as value, private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') as number_id,
      (p_account ->> 'waba_id' is not null and private.json_text(e -> 'id') is distinct from p_account ->> 'waba_id')
      or (p_account ->> 'phone_number_id' is not null and c -> 'value' ? 'metadata'
        and private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') is distinct from p_account ->> 'phone_number_id') as is_other,
      regexp_replace(coalesce(private.json_text(c -> 'value' -> 'metadata' -> 'display_phone_number'), ''), '[^0-9]', '', 'g') as own_number,
      coalesce(private.webhook_time(e -> 'time'), p_received_at) as at
    from private.json_list(p_body -> 'entry') e, private.json_list(e -> 'changes') c
  ),
  part as (
    select 'message' as is_a, c, m as value from change c, private.json_list(c.value -> 'messages') m where c.field = 'messages'
    union all
    select 'status', c, s from change c, private.json_list(c.value -> 'statuses') s where c.field = 'messages'
    union all
    select 'preference', c, p from change c, private.json_list(c.value -> 'user_preferences') p where c.field = 'user_preferences'
    union all
    select 'error', c, x from change c, private.json_list(c.value -> 'errors') x
    union all
    select 'ignored', c, null from change c where coalesce(c.field, '') not in ('messages', 'user_preferences') and not coalesce(c.value ? 'errors', false)
  ),
  judged as (
    select p.*, case
      when (p.c).is_other then 'other account'
      when p.is_a = 'ignored' then format('unknown field %s', left(coalesce((p.c).field, '?'), 40))
      when p.is_a in ('message', 'status') and private.json_text(p.value -> 'id') is null then 'no id'
      when p.is_a = 'message' and private.json_text(p.value -> 'from') = nullif((p.c).own_number, '') then 'own'
      when p.is_a = 'message' and coalesce(private.json_text(p.value -> 'from'), private.json_text(p.value -> 'from_user_id')) is null then 'no sender'
      -- A changed number or a reaction is not a message that somebody wrote: it opens no window.
      when p.is_a = 'message' and p.value ->> 'type' in ('system', 'reaction') then format('message of type %s', p.value ->> 'type')
      when p.is_a = 'status' and coalesce(p.value ->> 'status', '') not in ('sent', 'delivered', 'read', 'played', 'failed')
        then format('status %s', left(coalesce(p.value ->> 'status', '?'), 20))
      when p.is_a = 'preference' and private.json_text(p.value -> 'wa_id') is null then 'no sender'
    end as reason
    from part p
  )
  select case when j.reason is null then j.is_a else 'ignored' end, j.reason,
    case j.is_a
      when 'message' then jsonb_build_object(
        'external_id', private.json_text(j.value -> 'id'), 'wa_id', private.json_text(j.value -> 'from'), 'user_id', private.json_text(j.value -> 'from_user_id'),
        'text', coalesce(private.json_text(j.value -> 'text' -> 'body'), private.json_text(j.value -> 'button' -> 'text'),
          private.json_text(j.value -> 'interactive' -> 'button_reply' -> 'title'), private.json_text(j.value -> 'interactive' -> 'list_reply' -> 'title'),
          private.json_text(j.value -> (j.value ->> 'type') -> 'caption')),
        'happened_at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'profile_name', (
          select private.json_text(k -> 'profile' -> 'name') from private.json_list((j.c).value -> 'contacts') k
          where k ->> 'wa_id' = j.value ->> 'from' or k ->> 'user_id' = j.value ->> 'from_user_id' limit 1),
        'number_id', (j.c).number_id)
      when 'status' then jsonb_build_object(
        'message_id', private.json_text(j.value -> 'id'), 'callback', private.json_text(j.value -> 'biz_opaque_callback_data'), 'status', j.value ->> 'status',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'code', j.value -> 'errors' -> 0 -> 'code',
        'details', left(coalesce(private.json_text(j.value -> 'errors' -> 0 -> 'error_data' -> 'details'),
          private.json_text(j.value -> 'errors' -> 0 -> 'title'), private.json_text(j.value -> 'errors' -> 0 -> 'message')), 500))
      when 'preference' then jsonb_build_object(
        'wa_id', private.json_text(j.value -> 'wa_id'), 'category', j.value ->> 'category', 'value', j.value ->> 'value',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at))
      when 'error' then jsonb_strip_nulls(jsonb_build_object('code', j.value -> 'code', 'title', left(private.json_text(j.value -> 'title'), 200),
        'details', left(private.json_text(j.value -> 'error_data' -> 'details'), 300), 'at', (j.c).at)) end
  from judged j
$$;

comment on function private.split_whatsapp(jsonb, jsonb, timestamptz) is
  'The parts of one WhatsApp body, a row each: message, status, preference, error, or ignored with the reason.';
