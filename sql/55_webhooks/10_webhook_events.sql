-- What providers tell by webhook: stored and acknowledged at once, worked off by the job process-webhooks.
create table private.webhook_events (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  source text not null,
  body jsonb,
  body_sha256 text not null,
  deliveries integer not null default 1,
  received_at timestamptz not null default now(),
  processed_at timestamptz,
  counts jsonb not null default '{}',
  errors jsonb not null default '[]',
  primary key (tenant_id, id),
  constraint one_event_per_body unique (tenant_id, source, body_sha256),
  constraint source_is_one_of_the_known check (source in ('meta', 'whatsapp')),
  constraint body_sha256_is_lower_case_hex check (body_sha256 ~ '^[0-9a-f]{64}$'),
  constraint a_waiting_event_has_a_body check (processed_at is not null or body is not null)
);

create index webhook_events_received_at_idx on private.webhook_events (received_at);

alter table private.webhook_events enable row level security;

comment on table private.webhook_events is
  'Bodies of webhooks, signed by the provider, by the tenant whose address they came to (the platform''s own under jobs.platform_id()). '
  'The same body again is the same row: a redelivery costs nothing. Rows go after webhook_days at the latest.';
comment on column private.webhook_events.counts is 'What was found in the body: updates, what each kind became, and what was ignored with the reason.';
comment on column private.webhook_events.errors is 'Errors that the provider told about the account itself: code, title, details and time.';

-- What was removed outside: an addition that arrives late (order is not guaranteed) must not bring it back.
create table private.webhook_removals (
  tenant_id uuid not null,
  surface text not null,
  kind text not null,
  external_id text not null,
  removed_at timestamptz not null,
  primary key (tenant_id, surface, kind, external_id),
  constraint external_id_is_short check (octet_length(external_id) <= 300)
);

create index webhook_removals_removed_at_idx on private.webhook_removals (removed_at);

alter table private.webhook_removals enable row level security;

comment on table private.webhook_removals is 'Comments, reactions and messages that were removed outside. Kept as long as the bodies of webhooks.';

-- The provider names people who want to be forgotten; what this tenant knows of them through the provider is erased.
create table public.data_deletions (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  confirmation_code text not null default replace(gen_random_uuid()::text, '-', ''),
  subject text,
  request_sha256 text not null,
  status text not null default 'pending',
  erased jsonb not null default '{}',
  requested_at timestamptz not null default now(),
  completed_at timestamptz,
  primary key (tenant_id, id),
  constraint data_deletions_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint confirmation_code_is_unique unique (tenant_id, confirmation_code),
  constraint one_deletion_per_request unique (tenant_id, request_sha256),
  constraint status_is_one_of_the_known check (status in ('pending', 'completed')),
  constraint completed_at_is_set_when_completed check ((status = 'completed') = (completed_at is not null)),
  constraint the_subject_is_forgotten_when_completed check ((status = 'completed') = (subject is null)),
  constraint subject_is_a_graph_id check (subject ~ '^[0-9A-Za-z_.-]{1,100}$'),
  constraint request_sha256_is_lower_case_hex check (request_sha256 ~ '^[0-9a-f]{64}$')
);

-- Who asks for the status names no tenant: the code alone has 122 random bits.
create index data_deletions_confirmation_code_idx on public.data_deletions (confirmation_code);

alter table public.data_deletions enable row level security;
grant select on public.data_deletions to authenticated;
grant select, delete on public.data_deletions to service_role;

create policy data_deletions_select_admins on public.data_deletions
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

comment on table public.data_deletions is
  'Requests of people, sent by Meta, to be forgotten: when they came, what was erased. The id of the person is kept until that is done.';
comment on column public.data_deletions.confirmation_code is 'What the person gets to ask for the status with; not guessable.';
comment on column public.data_deletions.erased is 'How many rows of each kind were erased or emptied.';

create function private.forget_webhooks()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from private.webhook_events e where e.tenant_id = old.id;
  delete from private.webhook_removals r where r.tenant_id = old.id;
  return null;
end
$$;

comment on function private.forget_webhooks() is
  'Trigger: what a deleted tenant was told by webhook goes with it. Definer: no API role reaches these tables.';

create trigger tenants_after_delete_forget_webhooks
  after delete on public.tenants
  for each row execute function private.forget_webhooks();
