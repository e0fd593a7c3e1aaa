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

-- What changes rights, credentials, money or control otherwise than by a call that writes the log itself: a write with the secret key,
-- the end of a user, an admin's update of a plan or a setting. Arguments: the word for it, and the column that tells which one it was.
create function private.audit_change()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_new, v_old);
  v_tenant_id uuid := (v_row ->> 'tenant_id')::uuid;
  v_detail jsonb := v_row - array['tenant_id', 'id', 'secret_id', 'token_hash', 'account', 'created_at', 'updated_at'];
begin
  if tg_op = 'UPDATE' then
    select jsonb_object_agg(n.key, jsonb_build_object('from', v_old -> n.key, 'to', n.value)) into v_detail
    from jsonb_each(v_new) n
    where n.value is distinct from v_old -> n.key and n.key not in ('secret_id', 'token_hash', 'next_slot_at', 'updated_at');
    if v_detail is null then
      return null;
    end if;
  elsif tg_op = 'DELETE' and v_tenant_id is not null and not exists (select from public.tenants t where t.id = v_tenant_id) then
    return null; -- It went with its tenant.
  end if;
  perform private.audit(v_tenant_id, tg_argv[0] || case tg_op when 'INSERT' then '.added' when 'UPDATE' then '.changed' else '.removed' end,
    v_detail || jsonb_build_object(tg_argv[1], v_row -> tg_argv[1]));
  return null;
end
$$;

comment on function private.audit_change() is 'Trigger: an audit row for a row that was added, changed or removed past the calls. Definer: no API role may write the audit log.';

create trigger settings_after_update_audit
  after update of value on private.settings
  for each row execute function private.audit_change('setting', 'name');

create trigger plans_after_write_audit
  after insert or update or delete on public.plans
  for each row execute function private.audit_change('plan_terms', 'plan_id');

-- The calls run as the owner and say more than a row can; the end of a user reaches memberships by a cascade.
create trigger memberships_after_write_audit
  after insert or update or delete on public.memberships
  for each row when (current_user = 'service_role' or pg_trigger_depth() > 0)
  execute function private.audit_change('member', 'user_id');
