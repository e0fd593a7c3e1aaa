-- Participants: customers of one tenant. The same person in two tenants is two rows without a link that anyone could see.
create table public.participants (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  user_id uuid,
  display_name text not null,
  language text,
  phone text,
  whatsapp_opt_in_at timestamptz,
  instagram_username text,
  facebook_user_id text,
  cohort_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint one_participant_per_tenant_and_user unique (tenant_id, user_id),
  constraint participants_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint participants_cohort_fkey foreign key (tenant_id, cohort_id) references public.cohorts (tenant_id, id) on delete set null (cohort_id),
  constraint participants_user_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint display_name_is_not_empty check (btrim(display_name) <> '' and char_length(display_name) <= 80),
  constraint language_is_a_language_tag check (language ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'),
  constraint phone_is_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint instagram_username_is_plain check (instagram_username ~ '^[a-z0-9._]{1,30}$'),
  constraint facebook_user_id_is_digits check (facebook_user_id ~ '^[0-9]{1,30}$'),
  constraint opt_in_needs_a_phone check (whatsapp_opt_in_at is null or phone is not null)
);

create index participants_user_id_idx on public.participants (user_id);
create index participants_tenant_id_cohort_id_idx on public.participants (tenant_id, cohort_id);
create index participants_tenant_id_facebook_user_id_idx on public.participants (tenant_id, facebook_user_id);
create unique index participants_tenant_id_instagram_username_idx on public.participants (tenant_id, instagram_username);

create function private.participant_ids()
returns setof uuid
language plpgsql stable security definer rows 10
set search_path = ''
as $$
begin
  return query
  select p.id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed';
end
$$;

create function private.participant_tenant_ids()
returns setof uuid
language plpgsql stable security definer rows 10
set search_path = ''
as $$
begin
  return query
  select p.tenant_id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed';
end
$$;

grant execute on function private.participant_ids() to authenticated, service_role;
grant execute on function private.participant_tenant_ids() to authenticated, service_role;
comment on function private.participant_ids() is 'The participants that the caller is. Definer: participants cannot be read from its own policy without recursion.';
comment on function private.participant_tenant_ids() is 'Tenants in which the caller is a participant. Definer, like private.participant_ids().';

alter table public.participants enable row level security;
-- Column by column: who signs in (user_id) is the same in every tenant. It would be the link that nobody may see.
grant select (
  tenant_id, id, display_name, language, phone, whatsapp_opt_in_at, instagram_username, facebook_user_id, cohort_id, created_at, updated_at)
  on public.participants to authenticated;
grant update (display_name, phone, instagram_username, facebook_user_id, whatsapp_opt_in_at) on public.participants to authenticated;
grant update (language) on public.participants to authenticated;
grant select, insert, update, delete on public.participants to service_role;

create policy participants_select_members_and_self on public.participants
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or id = any (array(select private.participant_ids())));

create policy participants_update_self on public.participants
  for update to authenticated
  using (id = any (array(select private.participant_ids())))
  with check (id = any (array(select private.participant_ids())));

create policy campaigns_select_members_and_participants on public.campaigns
  for select to authenticated
  using (
    tenant_id = any (array(select private.tenant_ids('viewer')))
    or (status <> 'draft' and tenant_id = any (array(select private.participant_tenant_ids()))));

create policy campaigns_insert_members on public.campaigns
  for insert to authenticated with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy campaigns_update_members on public.campaigns
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy campaigns_delete_admins on public.campaigns
  for delete to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger participants_before_update_keep_row_rules
  before update on public.participants
  for each row execute function private.keep_row_rules();

-- Handles are stored as they are compared: without @, in lower case.
create function private.normalise_participant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.instagram_username := nullif(lower(ltrim(btrim(new.instagram_username), '@')), '');
  new.phone := nullif(regexp_replace(new.phone, '[ ()./-]', '', 'g'), '');
  new.display_name := btrim(new.display_name);
  return new;
end
$$;

comment on function private.normalise_participant() is 'Trigger: user names without @ in lower case, phone numbers without punctuation.';

create trigger participants_before_write_normalise
  before insert or update on public.participants
  for each row execute function private.normalise_participant();

comment on column public.participants.instagram_username is
  'What the participant typed: a claim, not a proof. The proven accounts are in linked_accounts; the same holds for facebook_user_id.';
comment on column public.participants.cohort_id is 'The group that the participant is in; its strategy comes before the campaign''s.';
comment on table public.participants is 'Customers of a tenant who take part in its campaigns. Members see their tenant''s, everyone sees only their own.';

create function private.set_cohort(p_tenant_id uuid, p_participant_ids uuid[], p_cohort_id uuid)
returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
  end if;
  if p_cohort_id is not null and not exists (select from public.cohorts h where h.tenant_id = p_tenant_id and h.id = p_cohort_id) then
    raise exception 'There is no such cohort.' using errcode = 'PT404';
  end if;
  update public.participants p set cohort_id = p_cohort_id
  where p.tenant_id = p_tenant_id and p.id = any (p_participant_ids) and p.cohort_id is distinct from p_cohort_id;
  get diagnostics v_count = row_count;
  perform private.audit(p_tenant_id, 'cohort.set', jsonb_build_object('cohort_id', p_cohort_id, 'participants', v_count));
  return v_count;
end
$$;

grant execute on function private.set_cohort(uuid, uuid[], uuid) to authenticated, service_role;
comment on function private.set_cohort(uuid, uuid[], uuid) is
  'Behind public.set_cohort. Definer: members may change nothing else of a participant. Members and the platform.';

create function public.set_cohort(tenant_id uuid, participant_ids uuid[], cohort_id uuid default null)
returns integer
language sql
set search_path = ''
as $$
  select private.set_cohort(set_cohort.tenant_id, set_cohort.participant_ids, set_cohort.cohort_id)
$$;

grant execute on function public.set_cohort(uuid, uuid[], uuid) to authenticated, service_role;
comment on function public.set_cohort(uuid, uuid[], uuid) is
  'Puts participants into a cohort, or out of any with null; members only. Returns how many changed. Errors: 42501, PT404 no such cohort.';
