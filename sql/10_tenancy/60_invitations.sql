-- Invitations: how people become members. The token goes to the invited address once and is kept as a hash only.
create table public.invitations (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  email text not null,
  role public.member_role not null,
  token_hash text not null,
  invited_by uuid,
  expires_at timestamptz not null,
  accepted_at timestamptz,
  accepted_by uuid,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint invitations_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint email_is_an_address check (email ~ '^[^@[:space:]]+@[^@[:space:]]+$' and octet_length(email) <= 254),
  constraint email_is_lower_case check (email = lower(email)),
  constraint email_has_no_control_characters check (email !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200B\u200E\u200F\u2028-\u202E\u2060-\u2069\uFEFF]'),
  constraint token_hash_is_sha256 check (token_hash ~ '^[0-9a-f]{64}$'),
  constraint accepted_by_is_set_when_accepted check ((accepted_at is not null) = (accepted_by is not null)),
  constraint it_is_accepted_or_revoked_not_both check (accepted_at is null or revoked_at is null),
  constraint it_expires_within_30_days check (expires_at > created_at and expires_at <= created_at + interval '30 days')
);

create index invitations_token_hash_idx on public.invitations (token_hash);
create index invitations_tenant_id_email_idx on public.invitations (tenant_id, email) where accepted_at is null and revoked_at is null;

alter table public.invitations enable row level security;
-- Column by column: the hash is nobody's business but the database's.
grant select (tenant_id, id, email, role, invited_by, expires_at, accepted_at, accepted_by, revoked_at, created_at, updated_at)
  on public.invitations to authenticated;
grant select, insert, update, delete on public.invitations to service_role;

create policy invitations_select_admins on public.invitations
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger invitations_before_update_keep_row_rules
  before update on public.invitations
  for each row execute function private.keep_row_rules();

create trigger invitations_after_write_audit
  after insert or update or delete on public.invitations
  for each row when (current_user = 'service_role')
  execute function private.audit_change('invitation', 'id');

comment on table public.invitations is 'Who was invited to work for a tenant, in which role, and what became of it. Written by calls only.';
comment on column public.invitations.token_hash is 'sha256 of the token, in hexadecimal. The token itself is nowhere.';

create function private.invite_member(p_tenant_id uuid, p_email text, p_role public.member_role, p_valid_days integer)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  -- 32 random bytes: too many to try.
  v_token text := 'inv_' || encode(extensions.gen_random_bytes(32), 'hex');
  -- The invited side is put into one spelling, the address of the user who accepts is not: no other mailbox becomes this one by it.
  v_email text := lower(btrim(normalize(p_email, nfkc)));
  v_invitation public.invitations;
begin
  if p_role is null or p_valid_days is null or p_valid_days not between 1 and 30 then
    raise exception 'An invitation needs a role, and is valid for 1 to 30 days.' using errcode = '22023';
  end if;
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, greatest('admin', p_role));
    perform private.limit_calls('invite_member', p_tenant_id);
  end if;
  -- A new invitation takes the place of one that is waiting.
  update public.invitations i set revoked_at = now()
  where i.tenant_id = p_tenant_id and i.email = v_email and i.accepted_at is null and i.revoked_at is null;
  insert into public.invitations (tenant_id, email, role, token_hash, invited_by, expires_at)
  values (p_tenant_id, v_email, p_role, encode(sha256(convert_to(v_token, 'UTF8')), 'hex'), (select auth.uid()),
    now() + make_interval(days => p_valid_days))
  returning * into v_invitation;
  perform private.audit(p_tenant_id, 'invitation.created',
    jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role));
  return jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role,
    'expires_at', v_invitation.expires_at, 'token', v_token);
exception
  -- Without its details, which would tell the whole row, with the columns that nobody may read.
  when check_violation or not_null_violation then
    raise exception '%', sqlerrm using errcode = sqlstate;
end
$$;

grant execute on function private.invite_member(uuid, text, public.member_role, integer) to authenticated, service_role;
comment on function private.invite_member(uuid, text, public.member_role, integer) is
  'Behind public.invite_member. Definer: no API role may write invitations. Admins, up to their own role, and the platform.';

create function public.invite_member(tenant_id uuid, email text, role public.member_role default 'member', valid_days integer default 7)
returns jsonb
language sql
set search_path = ''
as $$
  select private.invite_member(invite_member.tenant_id, invite_member.email, invite_member.role, invite_member.valid_days)
$$;

grant execute on function public.invite_member(uuid, text, public.member_role, integer) to authenticated, service_role;
comment on function public.invite_member(uuid, text, public.member_role, integer) is
  'Invites an address to work for the tenant, in a role at most the caller''s; admins only. {"invitation_id","email","role","expires_at","token"}: '
  'the token is shown this once, for the message to that address. An older invitation of the address ends. Errors: 42501, 23514 address, PT429.';

create function private.revoke_invitation(p_tenant_id uuid, p_invitation_id uuid)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  update public.invitations i set revoked_at = now()
  where i.tenant_id = p_tenant_id and i.id = p_invitation_id and i.accepted_at is null and i.revoked_at is null;
  if not found then
    return false;
  end if;
  perform private.audit(p_tenant_id, 'invitation.revoked', jsonb_build_object('invitation_id', p_invitation_id));
  return true;
end
$$;

grant execute on function private.revoke_invitation(uuid, uuid) to authenticated, service_role;
comment on function private.revoke_invitation(uuid, uuid) is
  'Behind public.revoke_invitation. Definer: no API role may write invitations. Admins and the platform.';

create function public.revoke_invitation(tenant_id uuid, invitation_id uuid)
returns boolean
language sql
set search_path = ''
as $$
  select private.revoke_invitation(revoke_invitation.tenant_id, revoke_invitation.invitation_id)
$$;

grant execute on function public.revoke_invitation(uuid, uuid) to authenticated, service_role;
comment on function public.revoke_invitation(uuid, uuid) is
  'Takes an invitation back; admins only. False when there is none that waits. Error: 42501.';

create function private.accept_invitation(p_token text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.require_user();
  v_hash text := encode(sha256(convert_to(p_token, 'UTF8')), 'hex');
  v_invitation public.invitations;
  v_role public.member_role;
  v_tenant public.tenants;
begin
  perform private.limit_calls('accept_invitation', v_user_id);
  -- The tenant's row first: who revokes, removes or demotes at the same moment comes before or after, not in between.
  perform from public.tenants t where t.id = (select i.tenant_id from public.invitations i where i.token_hash = v_hash) for no key update;
  update public.invitations i set accepted_at = now(), accepted_by = v_user_id
  where i.token_hash = v_hash and i.accepted_at is null and i.revoked_at is null and i.expires_at > now()
    -- the address that was invited, and proven to be the user's
    and i.email = (select lower(u.email) from auth.users u where u.id = v_user_id and u.email_confirmed_at is not null)
    and exists (select from public.tenants t where t.id = i.tenant_id and t.status = 'active')
    -- from somebody who could still give this role
    and (i.invited_by is null or exists (
      select from public.memberships m
      where m.tenant_id = i.tenant_id and m.user_id = i.invited_by and m.role >= greatest('admin', i.role)))
  returning * into v_invitation;
  if not found then
    -- Not raised: that would take back the count of this try. The Data API answers with this status and body.
    perform set_config('response.status', '404', true);
    return jsonb_build_object('code', 'PT404', 'message', 'This invitation is not valid, or not for your address.', 'details', null, 'hint',
      'Sign in with the address that was invited, after it has been confirmed, or ask for a new invitation.');
  end if;
  -- A member who is invited to less stays what it is.
  insert into public.memberships as m (tenant_id, user_id, role)
  values (v_invitation.tenant_id, v_user_id, v_invitation.role)
  on conflict on constraint memberships_pkey do update set role = greatest(m.role, excluded.role)
  returning m.role into v_role;
  perform private.audit(v_invitation.tenant_id, 'invitation.accepted',
    jsonb_build_object('invitation_id', v_invitation.id, 'user_id', v_user_id, 'role', v_role));
  select t.* into v_tenant from public.tenants t where t.id = v_invitation.tenant_id;
  return jsonb_build_object('tenant_id', v_tenant.id, 'slug', v_tenant.slug, 'name', v_tenant.name, 'role', v_role);
end
$$;

grant execute on function private.accept_invitation(text) to authenticated;
comment on function private.accept_invitation(text) is
  'Behind public.accept_invitation. Definer: the caller is no member yet, so no policy could let it write.';

create function public.accept_invitation(token text)
returns jsonb
language sql
set search_path = ''
as $$
  select private.accept_invitation(accept_invitation.token)
$$;

grant execute on function public.accept_invitation(text) to authenticated;
comment on function public.accept_invitation(text) is
  'The caller accepts an invitation to its confirmed address: {"tenant_id","slug","name","role"}. Errors: PT404 for whatever else is '
  'wrong (unknown, expired, used, revoked, another address), so that nothing can be guessed, PT429 too many tries.';
