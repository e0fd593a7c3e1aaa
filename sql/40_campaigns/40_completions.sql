-- A completion: one participant's claim that one task is done.
create type public.completion_status as enum ('pending', 'verified', 'failed', 'manual_review');

create table public.completions (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  task_id uuid not null,
  participant_id uuid not null,
  status public.completion_status not null default 'pending',
  code text not null,
  claimed_at timestamptz not null default now(),
  deadline timestamptz not null,
  verified_at timestamptz,
  reason text,
  evidence jsonb,
  credential_source text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint completions_task_fkey foreign key (tenant_id, task_id) references public.social_tasks (tenant_id, id) on delete cascade,
  constraint completions_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint one_completion_per_task_and_participant unique (tenant_id, task_id, participant_id),
  constraint verified_at_is_set_when_verified check ((status = 'verified') = (verified_at is not null)),
  constraint deadline_is_after_the_claim check (deadline > claimed_at)
);

create index completions_tenant_id_participant_id_idx on public.completions (tenant_id, participant_id);
create unique index completions_one_proof_per_comment_idx on public.completions (tenant_id, task_id, (evidence ->> 'comment_id'))
  where status = 'verified';
create index completions_tenant_id_claimed_at_idx on public.completions (tenant_id, claimed_at desc);

alter table public.completions enable row level security;
grant select on public.completions to authenticated;
grant select, insert, update, delete on public.completions to service_role;

create policy completions_select_members_and_self on public.completions
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or participant_id = any (array(select private.participant_ids())));

create trigger completions_before_update_keep_row_rules
  before update on public.completions
  for each row execute function private.keep_row_rules();

comment on table public.completions is 'Claims and what became of them. Evidence is ids and times, never content. Written by claim_task and by the engine only.';
comment on column public.completions.code is 'What the participant may put into the comment: the strongest link between a comment and a claim.';

-- The spin ledger: bonus spins earned. Append-only; a completion can earn once.
create table public.spin_ledger (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  participant_id uuid not null,
  campaign_id uuid not null,
  completion_id uuid,
  spins integer not null,
  reason text not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint spin_ledger_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint spin_ledger_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint spin_ledger_completion_fkey foreign key (tenant_id, completion_id) references public.completions (tenant_id, id) on delete cascade,
  constraint a_completion_earns_once unique (tenant_id, completion_id)
);

create index spin_ledger_tenant_id_participant_id_idx on public.spin_ledger (tenant_id, participant_id);
create index spin_ledger_tenant_id_campaign_id_idx on public.spin_ledger (tenant_id, campaign_id);

alter table public.spin_ledger enable row level security;
grant select on public.spin_ledger to authenticated;
grant select, insert, delete on public.spin_ledger to service_role;

create policy spin_ledger_select_members_and_self on public.spin_ledger
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or participant_id = any (array(select private.participant_ids())));

comment on table public.spin_ledger is 'Bonus spins credited to participants, one row each; the unique completion makes a reward happen once.';
