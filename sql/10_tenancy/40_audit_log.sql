-- The audit log: what changed rights, credentials, money or the control of jobs. Append-only.
create table public.audit_log (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  at timestamptz not null default now(),
  actor_id uuid,
  actor text not null,
  action text not null,
  detail jsonb not null default '{}',
  primary key (tenant_id, id),
  constraint action_is_short check (char_length(action) <= 100)
);

create index audit_log_tenant_id_at_idx on public.audit_log (tenant_id, at desc);

alter table public.audit_log enable row level security;
grant select on public.audit_log to authenticated, service_role;

create policy audit_log_select_owners on public.audit_log
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('owner'))));

comment on table public.audit_log is
  'Append-only record of changes to rights, credentials, money and control. The platform''s own rows have the nil tenant.';

create function private.refuse_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'The audit log is append-only.' using errcode = '42501';
end
$$;

comment on function private.refuse_change() is 'Trigger: rows of an append-only table stay as they are.';

create trigger audit_log_before_change_refuse
  before update or delete on public.audit_log
  for each row execute function private.refuse_change();

create function private.audit(p_tenant_id uuid, p_action text, p_detail jsonb default '{}')
returns void
language sql
set search_path = ''
as $$
  insert into public.audit_log (tenant_id, actor_id, actor, action, detail)
  values (
    coalesce(p_tenant_id, '00000000-0000-0000-0000-000000000000'),
    (select auth.uid()),
    coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), (select auth.role()), session_user),
    p_action,
    p_detail
  )
$$;

comment on function private.audit(uuid, text, jsonb) is 'Writes one audit row with the caller of the request as its actor.';
