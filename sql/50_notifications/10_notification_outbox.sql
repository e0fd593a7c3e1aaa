-- The outbox: messages to people, frozen when the reason for them arises, sent by send-notifications and send-emails.
create type public.message_status as enum ('queued', 'sent', 'unknown', 'failed', 'disabled', 'no_consent', 'cancelled');

create table public.notification_outbox (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  campaign_id uuid,
  participant_id uuid,
  completion_id uuid,
  kind public.message_kind not null,
  channel text not null default 'whatsapp',
  dedupe_key text not null default gen_random_uuid()::text,
  template_id uuid,
  language text,
  category text not null default 'utility',
  recipient text,
  subject text,
  body text not null,
  variables jsonb not null default '{}',
  payload jsonb not null default '{}',
  status public.message_status not null default 'queued',
  sent boolean not null generated always as (status = 'sent') stored,
  sent_at timestamptz,
  delivery text,
  delivery_at timestamptz,
  error_code integer,
  held_until timestamptz,
  reason text,
  credential_source text,
  provider_message_id text,
  earlier_message_ids text[] not null default '{}',
  resends smallint not null default 0,
  first_tried_at timestamptz,
  bundled boolean not null default false,
  unknown_since timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint notification_outbox_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint notification_outbox_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint notification_outbox_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint notification_outbox_completion_fkey foreign key (tenant_id, completion_id) references public.completions (tenant_id, id) on delete cascade,
  constraint notification_outbox_template_fkey foreign key (tenant_id, template_id) references public.message_templates (tenant_id, id)
    on delete set null (template_id),
  constraint one_message_per_dedupe_key unique (tenant_id, dedupe_key),
  constraint dedupe_key_is_short check (char_length(dedupe_key) between 1 and 200),
  constraint channel_is_one_of_the_known check (channel in ('whatsapp', 'email')),
  constraint category_is_one_of_the_known check (category in ('utility', 'marketing')),
  constraint delivery_is_one_of_the_known check (delivery in ('sent', 'delivered', 'read', 'failed')),
  constraint sent_at_is_set_when_sent check ((status = 'sent') = (sent_at is not null))
);

create index notification_outbox_tenant_id_campaign_id_idx on public.notification_outbox (tenant_id, campaign_id);
create index notification_outbox_tenant_id_participant_id_idx on public.notification_outbox (tenant_id, participant_id);
create index notification_outbox_tenant_id_completion_id_idx on public.notification_outbox (tenant_id, completion_id);
create index notification_outbox_tenant_id_template_id_idx on public.notification_outbox (tenant_id, template_id);
create index notification_outbox_provider_message_id_idx on public.notification_outbox (provider_message_id) where provider_message_id is not null;
create index notification_outbox_unknown_since_idx on public.notification_outbox (unknown_since) where unknown_since is not null;

alter table public.notification_outbox enable row level security;
grant select on public.notification_outbox to authenticated;
grant select, insert, update, delete on public.notification_outbox to service_role;

create policy notification_outbox_select_members_and_self on public.notification_outbox
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or participant_id = any (array(select private.participant_ids())));

create trigger notification_outbox_before_update_keep_row_rules
  before update on public.notification_outbox
  for each row execute function private.keep_row_rules();

comment on table public.notification_outbox is
  'Messages and what became of them. unknown: the provider may or may not have sent it; it is reconciled, never sent again blindly.';
comment on column public.notification_outbox.dedupe_key is 'The reason for a message: one message per reason and tenant.';
comment on column public.notification_outbox.payload is 'What goes out besides the text, frozen: {"template": {"name","language","parameters"}}.';
comment on column public.notification_outbox.delivery is 'What the provider reported since: sent, delivered, read or failed. It only moves forward.';
comment on column public.notification_outbox.bundled is
  'E-mails: true while it was only ever sent together with others, if at all. Once a mail was tried alone, with its own key, it stays alone.';
comment on column public.notification_outbox.earlier_message_ids is 'Provider''s ids of tries that failed before it was queued again: their late reports are no news.';

-- Oldest first within one statement too: items are served in the order of their ids.
create function private.enqueue_messages()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_channel record;
begin
  for v_channel in
    select case when n.channel = 'email' then 'send-emails' else 'send-notifications' end as job,
      array_agg(n.tenant_id order by n.tenant_id, n.created_at, n.id) as tenant_ids, array_agg(n.id order by n.tenant_id, n.created_at, n.id) as ids
    from new_messages n
    where n.status = 'queued'
    group by 1
    order by 1
  loop
    perform jobs.enqueue_many(v_channel.job, v_channel.tenant_ids, v_channel.ids);
  end loop;
  return null;
end
$$;

comment on function private.enqueue_messages() is 'Trigger: every queued message gets its item, in the same transaction. '
  'Definer: whoever inserts a message may not write the engine''s items.';

create trigger notification_outbox_after_insert_enqueue
  after insert on public.notification_outbox
  referencing new table as new_messages
  for each statement execute function private.enqueue_messages();

-- Back into the queue: a message that was not sent, to be tried again at a time.
create function private.requeue_messages(p_tenant_ids uuid[], p_ids uuid[], p_run_at timestamptz, p_reason text)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer := 0;
  v_channel record;
begin
  for v_channel in
    with back as (
      update public.notification_outbox m
      set status = 'queued', sent_at = null, delivery = null, delivery_at = null, held_until = p_run_at, reason = left(p_reason, 500),
        earlier_message_ids = case when m.provider_message_id is null then m.earlier_message_ids else m.earlier_message_ids || m.provider_message_id end,
        provider_message_id = null, resends = m.resends + 1, unknown_since = null
      from unnest(p_tenant_ids, p_ids) as u (tenant_id, id)
      where m.tenant_id = u.tenant_id and m.id = u.id
      returning m.tenant_id, m.id, m.channel, m.created_at
    )
    select case when b.channel = 'email' then 'send-emails' else 'send-notifications' end as job,
      array_agg(b.tenant_id order by b.tenant_id, b.created_at, b.id) as tenant_ids, array_agg(b.id order by b.tenant_id, b.created_at, b.id) as ids
    from back b
    group by 1
    order by 1
  loop
    v_count := v_count + jobs.enqueue_many(v_channel.job, v_channel.tenant_ids, v_channel.ids, p_run_at);
  end loop;
  return v_count;
end
$$;

comment on function private.requeue_messages(uuid[], uuid[], timestamptz, text) is
  'Queues messages again for a time, each with a new item; returns how many. Only for those of which it is known, or was decided, that they may go again.';
