-- The outbox: messages to participants, frozen when the reason for them arises, sent by send-notifications.
create type public.message_kind as enum ('congratulation');
create type public.message_status as enum ('queued', 'sent', 'unknown', 'failed', 'disabled', 'no_consent', 'cancelled');

create table public.notification_outbox (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  campaign_id uuid not null,
  participant_id uuid not null,
  completion_id uuid not null,
  kind public.message_kind not null,
  recipient text,
  body text not null,
  status public.message_status not null default 'queued',
  sent boolean not null generated always as (status = 'sent') stored,
  sent_at timestamptz,
  held_until timestamptz,
  reason text,
  credential_source text,
  provider_message_id text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint notification_outbox_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint notification_outbox_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint notification_outbox_completion_fkey foreign key (tenant_id, completion_id) references public.completions (tenant_id, id) on delete cascade,
  constraint one_message_per_kind_and_completion unique (tenant_id, completion_id, kind),
  constraint sent_at_is_set_when_sent check ((status = 'sent') = (sent_at is not null))
);

create index notification_outbox_tenant_id_campaign_id_idx on public.notification_outbox (tenant_id, campaign_id);
create index notification_outbox_tenant_id_participant_id_idx on public.notification_outbox (tenant_id, participant_id);

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

-- A queued message has its item in the same transaction.
create function private.enqueue_messages()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform jobs.enqueue_many('send-notifications', array_agg(n.tenant_id order by n.tenant_id, n.id), array_agg(n.id order by n.tenant_id, n.id))
  from new_messages n
  where n.status = 'queued'
  having count(*) > 0;
  return null;
end
$$;

comment on function private.enqueue_messages() is 'Trigger: every queued message gets its item. '
  'Definer: whoever inserts a message may not write the engine''s items.';

create trigger notification_outbox_after_insert_enqueue
  after insert on public.notification_outbox
  referencing new table as new_messages
  for each statement execute function private.enqueue_messages();
