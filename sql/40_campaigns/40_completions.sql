-- A completion: one participant's claim that one task is done.
create type public.completion_status as enum ('pending', 'verified', 'failed', 'manual_review', 'needs_user_action');

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
  method text,
  route text not null default 'api',
  settle_at timestamptz,
  seen_at timestamptz,
  action_url text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint completions_task_fkey foreign key (tenant_id, task_id) references public.social_tasks (tenant_id, id) on delete cascade,
  constraint completions_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint one_completion_per_task_and_participant unique (tenant_id, task_id, participant_id),
  constraint one_claim_per_code unique (tenant_id, code),
  constraint method_is_one_of_the_known check (method in ('api', 'webhook', 'link', 'honor_system', 'statistical', 'manual')),
  constraint route_is_one_of_the_known check (route in ('api', 'signal', 'strategy')),
  constraint verified_at_is_set_when_verified check ((status = 'verified') = (verified_at is not null)),
  constraint deadline_is_after_the_claim check (deadline > claimed_at)
);

create index completions_tenant_id_participant_id_idx on public.completions (tenant_id, participant_id);
create index completions_settle_at_idx on public.completions (settle_at, tenant_id) where settle_at is not null;
create index completions_tenant_id_settle_at_idx on public.completions (tenant_id, settle_at) where settle_at is not null;
create index completions_tenant_id_review_idx on public.completions (tenant_id, claimed_at) where status = 'manual_review';
-- A message to the platform's WhatsApp number says nothing but the code; whose claim it is has to be found among all tenants.
create index completions_signal_code_idx on public.completions (code) where route = 'signal' and status = 'pending';
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
comment on column public.completions.method is
  'How it was decided: api and webhook (a platform showed it), link (our own link, or the business confirmed), manual (a person), '
  'honor_system and statistical (nothing was proven). Null while it is open.';
comment on column public.completions.route is
  'What is to decide it: api (the worker asks the platform), signal (an event from outside), strategy (nothing can prove it).';
comment on column public.completions.settle_at is 'When settle-claims ends it if nothing else has by then.';
comment on column public.completions.seen_at is 'When it was first proven, in a campaign that looks twice; the second look decides.';
comment on column public.completions.action_url is 'Where the participant goes on: the chat, with the code in place, or the link of the task.';
comment on column public.completions.code is 'What the participant may put into the comment: the strongest link between a comment and a claim.';

-- What has proven something: one comment, media, message or account proves one claim of a task, the first. The key makes that
-- exact, however many workers and webhooks decide at once.
create table private.proofs (
  tenant_id uuid not null,
  task_id uuid not null,
  proof text not null,
  completion_id uuid not null,
  primary key (tenant_id, task_id, proof),
  constraint proofs_completion_fkey foreign key (tenant_id, completion_id) references public.completions (tenant_id, id) on delete cascade
);

create index proofs_tenant_id_completion_id_idx on private.proofs (tenant_id, completion_id);
create index proofs_forgotten_idx on private.proofs (tenant_id, task_id) where proof like 'forgotten:%';

alter table private.proofs enable row level security;
comment on table private.proofs is
  'Comments, media, messages and accounts that have proven a claim of a task, like `comment:17900…` or `author:1256…`. Of an account that '
  'was to be forgotten a mark like `forgotten:9c41…` stays.';

-- Whoever is forgotten may come back with the same account: it must not be rewarded again for the same task, and its id must not be
-- kept either. What stays is a hash with a key that only Vault has, another one for each tenant: it can be compared with an account
-- that shows itself, and says nothing by itself.
create function private.forgetting_key()
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_key text := private.platform_secret('forgetting_key');
begin
  if v_key is null then
    v_key := encode(extensions.gen_random_bytes(32), 'hex');
    -- One that was written with another key of Vault: its marks can never be compared again.
    delete from vault.secrets s where s.name = 'forgetting_key';
    perform vault.create_secret(v_key, 'forgetting_key', 'Onecron: marks of people who were forgotten');
  end if;
  return v_key;
end
$$;

create function private.mark_of_forgotten(p_tenant_id uuid, p_proof text, p_key text)
returns text
language sql immutable
set search_path = ''
as $$
  select 'forgotten:' || encode(extensions.hmac(convert_to(p_tenant_id || ' ' || p_proof, 'UTF8'), convert_to(p_key, 'UTF8'), 'sha256'), 'hex')
$$;

comment on function private.forgetting_key() is 'The key of the marks; made when it is first needed. Replaced, it makes all marks meaningless.';
comment on function private.mark_of_forgotten(uuid, text, text) is 'What stays of a proof whose person was forgotten: `forgotten:` and a keyed hash of tenant and proof.';

-- The decisions: append-only, for disputes. A claim that is deleted leaves its decisions; only the end of the tenant removes them.
create table public.completion_decisions (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  completion_id uuid not null,
  task_id uuid not null,
  participant_id uuid not null,
  at timestamptz not null default now(),
  from_status text not null,
  to_status text not null,
  method text,
  rule_version integer not null,
  reason text,
  evidence jsonb,
  actor text not null,
  actor_id uuid,
  primary key (tenant_id, id),
  constraint completion_decisions_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade
);

create index completion_decisions_tenant_id_completion_id_idx on public.completion_decisions (tenant_id, completion_id);

alter table public.completion_decisions enable row level security;
grant select on public.completion_decisions to authenticated, service_role;

create policy completion_decisions_select_members on public.completion_decisions
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create function private.refuse_new_history()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'Decisions are append-only.' using errcode = '42501';
end
$$;

comment on function private.refuse_new_history() is 'Trigger: a decision that was written down stays as it is.';

create trigger completion_decisions_before_update_refuse
  before update on public.completion_decisions
  for each row execute function private.refuse_new_history();

comment on table public.completion_decisions is
  'Append-only record of every decision about a claim: by which version of the rule, how, on what evidence (ids and times), by whom. '
  'actor: worker, webhook, settle-claims, member or platform.';

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
