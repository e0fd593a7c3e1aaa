-- Cohorts: groups of participants for which another strategy holds than for the rest of a campaign.
create table public.cohorts (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  name text not null,
  strategy text,
  acceptance_rate numeric(4, 3),
  statistical_basis text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint cohorts_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint name_is_not_empty check (btrim(name) <> '' and char_length(name) <= 120),
  constraint strategy_is_one_of_the_known check (strategy in ('api', 'honor_system', 'statistical', 'manual')),
  constraint acceptance_rate_is_a_share check (acceptance_rate between 0 and 1),
  constraint statistical_basis_is_one_of_the_known check (statistical_basis in ('rate', 'follower_growth'))
);

alter table public.cohorts enable row level security;
grant select on public.cohorts to authenticated;
grant insert (tenant_id, name, strategy, acceptance_rate, statistical_basis) on public.cohorts to authenticated;
grant update (name, strategy, acceptance_rate, statistical_basis) on public.cohorts to authenticated;
grant delete on public.cohorts to authenticated;
grant select, insert, update, delete on public.cohorts to service_role;

create policy cohorts_select_members on public.cohorts
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy cohorts_insert_members on public.cohorts
  for insert to authenticated with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy cohorts_update_members on public.cohorts
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy cohorts_delete_admins on public.cohorts
  for delete to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger cohorts_before_update_keep_row_rules
  before update on public.cohorts
  for each row execute function private.keep_row_rules();

-- Likewise.
create trigger cohorts_after_update_audit
  after update of strategy, acceptance_rate, statistical_basis on public.cohorts
  for each row execute function private.audit_change('cohort', 'id');

comment on table public.cohorts is
  'Groups of participants. What a cohort says about the strategy comes before the campaign; what it leaves null is the campaign''s.';
