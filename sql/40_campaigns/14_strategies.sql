-- The strategy of a campaign: what decides claims that nothing can prove. A table of its own, since participants read the rows of
-- running campaigns and are not to know how many of them are believed.
create table public.campaign_strategies (
  tenant_id uuid not null,
  campaign_id uuid not null,
  strategy text not null default 'api',
  acceptance_rate numeric(4, 3) not null default 0.85,
  statistical_basis text not null default 'rate',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, campaign_id),
  constraint campaign_strategies_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint strategy_is_one_of_the_known check (strategy in ('api', 'honor_system', 'statistical', 'manual')),
  constraint acceptance_rate_is_a_share check (acceptance_rate between 0 and 1),
  constraint statistical_basis_is_one_of_the_known check (statistical_basis in ('rate', 'follower_growth'))
);

alter table public.campaign_strategies enable row level security;
grant select on public.campaign_strategies to authenticated;
grant update (strategy, acceptance_rate, statistical_basis) on public.campaign_strategies to authenticated;
grant select, insert, update, delete on public.campaign_strategies to service_role;

create policy campaign_strategies_select_members on public.campaign_strategies
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy campaign_strategies_update_members on public.campaign_strategies
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create trigger campaign_strategies_before_update_keep_row_rules
  before update on public.campaign_strategies
  for each row execute function private.keep_row_rules();

-- Who is believed decides what is paid out.
create trigger campaign_strategies_after_update_audit
  after update of strategy, acceptance_rate, statistical_basis on public.campaign_strategies
  for each row execute function private.audit_change('strategy', 'campaign_id');

create function private.add_campaign_strategies()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.campaign_strategies (tenant_id, campaign_id) select c.tenant_id, c.id from new_campaigns c on conflict do nothing;
  return null;
end
$$;

comment on function private.add_campaign_strategies() is
  'Trigger: every campaign has its strategy. Definer: whoever makes a campaign may not insert one.';

create trigger campaigns_after_insert_add_strategies
  after insert on public.campaigns
  referencing new table as new_campaigns
  for each statement execute function private.add_campaign_strategies();

comment on table public.campaign_strategies is
  'What decides the claims of a campaign that nothing can prove, where the participant''s cohort does not say. For members only.';
comment on column public.campaign_strategies.strategy is
  'What decides a claim that no platform can prove: api and manual leave it to a person, honor_system believes it, statistical draws.';
comment on column public.campaign_strategies.statistical_basis is
  'rate: acceptance_rate of the claims are accepted. follower_growth: as large a share as the followers of that day account for.';
