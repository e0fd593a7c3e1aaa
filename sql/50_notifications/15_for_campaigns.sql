-- Messages for what happens in campaigns: written, and frozen, in the transaction in which it happens.
--
-- Set-wise functions like these switch the compiler off: where it is on, compiling a plan took 0.7 s and running it 1 ms.

-- Many at once: [{"tenant_id","kind","channel"?,"participant_id","variables","dedupe_key","campaign_id"?,"completion_id"?,"recipient"?}].
create function private.queue_messages(p_messages jsonb)
returns integer
language sql
set search_path = ''
set jit = off
as $$
  with app as materialized (
    select rtrim(private.setting('app_url'), '/') as url
  ),
  person as (
    select g.tenant_id, g.kind, g.participant_id, g.campaign_id, g.completion_id, g.dedupe_key, g.variables, g.n,
      p.display_name, p.phone, p.whatsapp_opt_in_at, t.name as business, array[p.language, t.locale] as languages,
      c.name as campaign, c.notifications_enabled, u.email,
      coalesce(private.agrees(g.tenant_id, g.participant_id, 'email', 'all'), false) as email_agreed,
      g.recipient as given_recipient, g.channel as given_channel
    from rows from (jsonb_to_recordset(p_messages) as (
      tenant_id uuid, kind text, channel text, participant_id uuid, variables jsonb, dedupe_key text, campaign_id uuid, completion_id uuid,
      recipient text)) with ordinality as g (
      tenant_id, kind, channel, participant_id, variables, dedupe_key, campaign_id, completion_id, recipient, n)
    join public.tenants t on t.id = g.tenant_id
    left join public.participants p on p.tenant_id = g.tenant_id and p.id = g.participant_id
    left join public.campaigns c on c.tenant_id = g.tenant_id and c.id = g.campaign_id
    left join auth.users u on u.id = p.user_id
  ),
  -- The channel that was asked for; else e-mail for whoever agreed to that and not to WhatsApp, else WhatsApp.
  addressed as (
    select x.*,
      coalesce(x.given_recipient, case when x.channel = 'email' then x.email else x.phone end) as recipient
    from (
      select p.*, coalesce(p.given_channel, case
        when p.whatsapp_opt_in_at is null and p.email_agreed and p.email is not null then 'email' else 'whatsapp' end) as channel
      from person p
    ) x
  ),
  worded as (
    select a.*, m.template_id, m.language, m.category, m.subject, m.body, m.whatsapp_template, m.parameters,
      jsonb_build_object('name', a.display_name, 'business', a.business, 'campaign', a.campaign,
        'link', app.url || coalesce('/campaigns/' || a.campaign_id, ''))
        || case when a.variables ? 'spins' then jsonb_build_object('reward', private.reward_text(m.language, (a.variables ->> 'spins')::integer)) else '{}' end
        || coalesce(a.variables, '{}') as filled
    from addressed a
    cross join app
    cross join lateral private.message_text(a.tenant_id, a.kind::public.message_kind, a.channel, a.languages) m
  ),
  judged as (
    select w.*, case
        when not w.notifications_enabled then 'disabled'
        when w.recipient is null then 'no_consent'
        when w.participant_id is null then 'queued'
        when w.channel = 'whatsapp' and w.whatsapp_opt_in_at is null then 'no_consent'
        when w.channel = 'email' and not w.email_agreed then 'no_consent'
        when w.category = 'marketing' and private.agrees(w.tenant_id, w.participant_id, w.channel, 'marketing') is false then 'no_consent'
        else 'queued' end as status
    from worded w
  ),
  inserted as (
    insert into public.notification_outbox (
      tenant_id, campaign_id, participant_id, completion_id, kind, channel, dedupe_key, template_id, language, category, recipient, subject, body,
      variables, payload, status, reason)
    select j.tenant_id, j.campaign_id, j.participant_id, j.completion_id, j.kind::public.message_kind, j.channel, j.dedupe_key, j.template_id,
      j.language, j.category, j.recipient,
      -- A name with a line break in it must not make a second header or break Meta's rules for parameters.
      left(regexp_replace(private.render_message(j.subject, j.filled), '[[:cntrl:]]+', ' ', 'g'), 300),
      left(private.render_message(j.body, j.filled), 4096), j.filled,
      case when j.whatsapp_template is null then '{}' else jsonb_build_object('template', jsonb_build_object(
        'name', j.whatsapp_template ->> 'name', 'language', j.whatsapp_template ->> 'language',
        'parameters', coalesce((
          select jsonb_agg(case when (j.whatsapp_template ->> 'named')::boolean then jsonb_build_object('name', u.name) else '{}' end
            || jsonb_build_object('text', left(coalesce(nullif(btrim(regexp_replace(j.filled ->> u.name, '\s+', ' ', 'g')), ''), '-'), 1024)) order by u.n)
          from unnest(j.parameters) with ordinality as u (name, n)), '[]'))) end,
      j.status::public.message_status,
      case
        when j.status = 'disabled' then 'notifications are switched off in this campaign'
        when j.status = 'no_consent' and j.recipient is null and j.channel = 'whatsapp' then 'the participant gave no phone number'
        when j.status = 'no_consent' and j.recipient is null then 'there is no e-mail address'
        when j.status = 'no_consent' and j.channel = 'whatsapp' and j.whatsapp_opt_in_at is null then 'the participant did not opt in to WhatsApp messages'
        when j.status = 'no_consent' and j.channel = 'email' and not j.email_agreed then 'the participant did not opt in to e-mails'
        when j.status = 'no_consent' then 'the participant does not want marketing messages' end
    from judged j
    order by j.n
    on conflict on constraint one_message_per_dedupe_key do nothing
    returning 1
  )
  select count(*)::integer from inserted
$$;

comment on function private.queue_messages(jsonb) is
  'Renders and queues messages, or notes why they are not sent; returns how many are new. A dedupe key is used once. channel null: the one that the person agreed to.';

create function private.queue_message(
  p_tenant_id uuid, p_kind text, p_channel text, p_participant_id uuid, p_variables jsonb, p_dedupe_key text,
  p_campaign_id uuid default null, p_completion_id uuid default null, p_recipient text default null
)
returns uuid
language plpgsql
set search_path = ''
set jit = off
as $$
begin
  perform private.queue_messages(jsonb_build_array(jsonb_build_object(
    'tenant_id', p_tenant_id, 'kind', p_kind, 'channel', p_channel, 'participant_id', p_participant_id, 'variables', coalesce(p_variables, '{}'),
    'dedupe_key', p_dedupe_key, 'campaign_id', p_campaign_id, 'completion_id', p_completion_id, 'recipient', p_recipient)));
  return (select m.id from public.notification_outbox m where m.tenant_id = p_tenant_id and m.dedupe_key = p_dedupe_key);
end
$$;

comment on function private.queue_message(uuid, text, text, uuid, jsonb, text, uuid, uuid, text) is
  'Queues one message and returns its id; the one that was there already when the dedupe key is known.';

create function private.congratulate(p_tenant_ids uuid[], p_completion_ids uuid[])
returns integer
language sql
set search_path = ''
set jit = off
as $$
  select private.queue_messages(jsonb_agg(jsonb_build_object(
    'tenant_id', c.tenant_id, 'kind', 'congratulation', 'participant_id', c.participant_id, 'campaign_id', t.campaign_id, 'completion_id', c.id,
    'dedupe_key', 'congratulation/' || c.id, 'variables', jsonb_build_object('task', t.title, 'spins', t.reward_spins)) order by u.n))
  from unnest(p_tenant_ids, p_completion_ids) with ordinality as u (tenant_id, completion_id, n)
  join public.completions c on c.tenant_id = u.tenant_id and c.id = u.completion_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  having count(*) > 0
$$;

comment on function private.congratulate(uuid[], uuid[]) is 'The messages for completions that were verified and have earned their spins; once per completion.';

-- An accepted claim gets its congratulation; one that was turned down is told so.
create function private.announce_review(p_tenant_id uuid, p_completion_id uuid)
returns void
language plpgsql
set search_path = ''
set jit = off
as $$
declare
  v_status text := (select c.status from public.completions c where c.tenant_id = p_tenant_id and c.id = p_completion_id);
begin
  if v_status = 'verified' then
    perform private.congratulate(array[p_tenant_id], array[p_completion_id]);
  elsif v_status = 'failed' then
    perform private.queue_message(p_tenant_id, 'review_result', null, c.participant_id,
      jsonb_build_object('task', t.title, 'reason', coalesce(rtrim(c.reason, '.') || '.', '')), 'review_result/' || c.id, t.campaign_id, c.id)
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    where c.tenant_id = p_tenant_id and c.id = p_completion_id;
  end if;
end
$$;

comment on function private.announce_review(uuid, uuid) is
  'Tells a participant what a person decided on the claim: the congratulation (never a second one), or why it was not accepted.';

create function private.welcome(p_tenant_id uuid, p_participant_id uuid, p_campaign_id uuid)
returns void
language sql
set search_path = ''
set jit = off
as $$
  select private.queue_message(p_tenant_id, 'welcome', null, p_participant_id, '{}', format('welcome/%s/%s', p_campaign_id, p_participant_id), p_campaign_id)
  from public.message_settings s
  where s.tenant_id = p_tenant_id and s.welcome_enabled
    -- Who agreed to nothing is not told so on every visit.
    and (exists (select from public.participants p where p.tenant_id = p_tenant_id and p.id = p_participant_id and p.whatsapp_opt_in_at is not null)
      or private.agrees(p_tenant_id, p_participant_id, 'email', 'all'))
$$;

comment on function private.welcome(uuid, uuid, uuid) is
  'Welcomes a participant to a campaign, once, where the tenant wants it (message_settings.welcome_enabled) and the person agreed to messages.';
