-- Senders and their conversations: whose number writes to whom, when it may, and when it must not.

-- Numbers as WhatsApp compares them: digits only; where a country writes mobile numbers in two ways, one of them.
create function private.wa_key(p_number text)
returns text
language sql immutable
set search_path = ''
as $$
  select case
    when n.digits ~ '^521[0-9]{10}$' then '52' || substr(n.digits, 4)
    when n.digits ~ '^549[0-9]{10}$' then '54' || substr(n.digits, 4)
    when n.digits ~ '^55[0-9]{2}9[0-9]{8}$' then left(n.digits, 4) || substr(n.digits, 6)
    else n.digits end
  from (select ltrim(p_number, '+') as digits) n
$$;

-- An index on it is kept up to date by whoever writes the row.
grant execute on function private.wa_key(text) to authenticated, service_role;
comment on function private.wa_key(text) is
  'A phone number or wa_id as it is compared: WhatsApp drops or adds a digit in Brazil, Mexico and Argentina.';

create index participants_tenant_id_wa_key_idx on public.participants (tenant_id, (private.wa_key(phone)));
create index participants_wa_key_idx on public.participants ((private.wa_key(phone))) where whatsapp_opt_in_at is not null;
create index notification_outbox_platform_wa_key_idx on public.notification_outbox ((private.wa_key(recipient)))
  where credential_source = 'platform' and channel = 'whatsapp';

-- What one number and one person have said to each other. tenant_id is the sender: the tenant, or the platform's id for its own number.
create table private.conversations (
  tenant_id uuid not null,
  recipient text not null,
  inbound_at timestamptz,
  next_at timestamptz not null default '-infinity',
  start_word_at timestamptz,
  touched_at timestamptz not null default now(),
  primary key (tenant_id, recipient),
  constraint recipient_is_short check (char_length(recipient) between 1 and 200)
);

create index conversations_touched_at_idx on private.conversations (touched_at);

alter table private.conversations enable row level security;

comment on table private.conversations is
  'Per sender and recipient: when the person last wrote (opens the window of 24 hours), and from when on the next message may go (6 s apart).';
comment on column private.conversations.start_word_at is 'When the person last wrote START or the like. No consent: that needs words that name the business.';

-- One row per number that sends: how far its throughput is used, and whether it is stopped.
create table private.senders (
  tenant_id uuid primary key,
  free_at timestamptz not null default '-infinity',
  stopped_at timestamptz,
  stop_code integer,
  stop_reason text,
  resumed_at timestamptz,
  constraint a_stop_has_a_reason check ((stopped_at is null) = (stop_reason is null))
);

alter table private.senders enable row level security;

comment on table private.senders is 'Per sender (a tenant, or the platform''s id): the throughput used, and why sending is stopped.';
comment on column private.senders.resumed_at is 'When it last went on: a report from before that, which WhatsApp tells late or again, does not stop it once more.';

-- What a tenant decides for all its messages: one row each, made with the tenant.
create table public.message_settings (
  tenant_id uuid primary key,
  welcome_enabled boolean not null default false,
  resend_unknown boolean not null default false,
  messages_per_second integer,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_settings_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint messages_per_second_is_between_1_and_1000 check (messages_per_second between 1 and 1000)
);

alter table public.message_settings enable row level security;
grant select on public.message_settings to authenticated;
grant update (welcome_enabled, resend_unknown, messages_per_second) on public.message_settings to authenticated;
grant select, insert, update, delete on public.message_settings to service_role;

create policy message_settings_select_members on public.message_settings
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy message_settings_update_admins on public.message_settings
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('admin'))))
  with check (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger message_settings_before_update_keep_row_rules
  before update on public.message_settings
  for each row execute function private.keep_row_rules();

-- How fast messages go is control of a job.
create trigger message_settings_after_update_audit
  after update of messages_per_second, resend_unknown, welcome_enabled on public.message_settings
  for each row execute function private.audit_change('message_settings', 'tenant_id');

create function private.add_message_settings()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.message_settings (tenant_id) select t.id from new_tenants t on conflict do nothing;
  return null;
end
$$;

comment on function private.add_message_settings() is
  'Trigger: every tenant has its row of settings. Definer: whoever makes a tenant may not insert them.';

create trigger tenants_after_insert_add_message_settings
  after insert on public.tenants
  referencing new table as new_tenants
  for each statement execute function private.add_message_settings();

comment on table public.message_settings is
  'A tenant''s choices for its messages: a welcome on joining, whether messages with an unknown outcome are sent again, the throughput of its number.';
comment on column public.message_settings.resend_unknown is
  'true: a WhatsApp message of which nobody knows after 15 minutes whether it left is sent once more. The person may get it twice.';

-- Stopping: an account that is locked, that cannot pay, or that people report must not go on sending.
create function private.stop_sender(p_sender_id uuid, p_code integer, p_reason text, p_at timestamptz default now())
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into private.senders as s (tenant_id, stopped_at, stop_code, stop_reason)
  values (p_sender_id, now(), p_code, left(p_reason, 500))
  on conflict (tenant_id) do update set stopped_at = excluded.stopped_at, stop_code = excluded.stop_code, stop_reason = excluded.stop_reason
    where s.stopped_at is null and (s.resumed_at is null or s.resumed_at <= p_at);
  if found then
    perform jobs.open_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp',
      format('WhatsApp messages are stopped: %s. Solve it with WhatsApp, then call resume_sending. What waits is sent then.', p_reason));
  end if;
end
$$;

comment on function private.stop_sender(uuid, integer, text, timestamptz) is
  'Stops a sender (a tenant, or the platform''s number for all that use it) and opens one alert; not for what happened before it was resumed.';

create function private.start_sender(p_sender_id uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update private.senders s set stopped_at = null, stop_code = null, stop_reason = null, resumed_at = now()
  where s.tenant_id = p_sender_id and s.stopped_at is not null;
  if not found then
    return false;
  end if;
  perform jobs.close_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp');
  return true;
end
$$;

comment on function private.start_sender(uuid) is 'The sender may send again and its alert closes; false when it was not stopped.';

create function private.resume_sending(p_tenant_id uuid)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_started boolean;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  v_started := private.start_sender(coalesce(p_tenant_id, jobs.platform_id()));
  if v_started then
    perform private.audit(p_tenant_id, 'sending.resumed');
  end if;
  return v_started;
end
$$;

grant execute on function private.resume_sending(uuid) to authenticated, service_role;
comment on function private.resume_sending(uuid) is
  'Behind public.resume_sending. Definer: private.senders is not granted to anyone. Checks that the caller is an admin.';

create function public.resume_sending(tenant_id uuid)
returns boolean
language sql
set search_path = ''
as $$
  select private.resume_sending(resume_sending.tenant_id)
$$;

grant execute on function public.resume_sending(uuid) to authenticated, service_role;
comment on function public.resume_sending(uuid) is
  'Lets a tenant''s WhatsApp messages go again after WhatsApp had stopped them; admins only, null for the platform''s own number (the platform only). '
  'False when nothing was stopped. Error: 42501.';

-- A new credential is another account, or one that was put in order.
create function private.restart_sender()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.start_sender(coalesce((to_jsonb(new) ->> 'tenant_id')::uuid, jobs.platform_id()));
  return null;
end
$$;

comment on function private.restart_sender() is
  'Trigger: a WhatsApp credential that was set anew may send. Definer: private.senders is not granted to anyone.';

create trigger credentials_after_update_restart_sender
  after update of fingerprint on public.credentials
  for each row when (new.provider = 'whatsapp' and new.fingerprint <> old.fingerprint)
  execute function private.restart_sender();

-- Removed and set anew is another one too.
create trigger credentials_after_insert_restart_sender
  after insert on public.credentials
  for each row when (new.provider = 'whatsapp')
  execute function private.restart_sender();

create trigger platform_credentials_after_update_restart_sender
  after update of fingerprint on private.platform_credentials
  for each row when (new.provider = 'whatsapp' and new.fingerprint <> old.fingerprint)
  execute function private.restart_sender();

-- The rows of senders have no foreign key, since the platform is no tenant.
create function private.forget_sender()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from private.conversations c where c.tenant_id = old.id;
  delete from private.senders s where s.tenant_id = old.id;
  return null;
end
$$;

comment on function private.forget_sender() is 'Trigger: the conversations of a deleted tenant go with it. Definer: they are not granted to anyone.';

create trigger tenants_after_delete_forget_sender
  after delete on public.tenants
  for each row execute function private.forget_sender();
