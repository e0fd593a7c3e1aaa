-- Social tasks: what a participant can do in a campaign, on which post, and what it earns.
create type public.task_kind as enum ('instagram_comment', 'facebook_comment');

create table public.social_tasks (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  campaign_id uuid not null,
  kind public.task_kind not null,
  title text not null,
  post_id text not null,
  reward_spins integer not null default 1,
  verify_within interval not null default '24 hours',
  recheck_every interval not null default '5 minutes',
  active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint social_tasks_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint title_is_not_empty check (btrim(title) <> '' and char_length(title) <= 120),
  constraint post_id_is_a_graph_id check (post_id ~ '^[0-9]{1,30}(_[0-9]{1,30})?$'),
  constraint reward_is_between_0_and_1000 check (reward_spins between 0 and 1000),
  constraint verify_within_is_up_to_30_days check (verify_within between interval '1 second' and interval '30 days'),
  constraint recheck_every_is_between_1_second_and_a_day check (recheck_every between interval '1 second' and interval '1 day')
);

create index social_tasks_tenant_id_campaign_id_idx on public.social_tasks (tenant_id, campaign_id);

alter table public.social_tasks enable row level security;
grant select on public.social_tasks to authenticated;
grant insert (tenant_id, campaign_id, kind, title, post_id, reward_spins, verify_within, recheck_every, active) on public.social_tasks to authenticated;
grant update (title, post_id, reward_spins, verify_within, recheck_every, active) on public.social_tasks to authenticated;
grant delete on public.social_tasks to authenticated;
grant select, insert, update, delete on public.social_tasks to service_role;

create policy social_tasks_select_members_and_participants on public.social_tasks
  for select to authenticated
  using (
    tenant_id = any (array(select private.tenant_ids('viewer')))
    or (active and tenant_id = any (array(select private.participant_tenant_ids()))
      and exists (select from public.campaigns c where c.tenant_id = social_tasks.tenant_id and c.id = social_tasks.campaign_id and c.status <> 'draft')));

create policy social_tasks_insert_members on public.social_tasks
  for insert to authenticated with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy social_tasks_update_members on public.social_tasks
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy social_tasks_delete_admins on public.social_tasks
  for delete to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger social_tasks_before_update_keep_row_rules
  before update on public.social_tasks
  for each row execute function private.keep_row_rules();

comment on table public.social_tasks is 'Tasks of a campaign: a comment on one of the tenant''s posts earns bonus spins. verify_within is how long a claim may take to be proven.';
