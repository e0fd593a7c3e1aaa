-- Linked accounts: which Instagram, Facebook or WhatsApp account a participant has been shown to hold. Only a code that was given
-- to the participant alone, and came back from that account, links one.
create table public.linked_accounts (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  participant_id uuid not null,
  platform text not null,
  external_id text not null,
  username text,
  linked_by text not null,
  linked_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint one_participant_per_account unique (tenant_id, platform, external_id),
  constraint one_account_per_participant_and_platform unique (tenant_id, participant_id, platform),
  constraint linked_accounts_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint platform_is_one_of_the_known check (platform in ('instagram', 'facebook', 'whatsapp')),
  constraint linked_by_is_one_of_the_known check (linked_by in ('link code', 'claim code')),
  constraint external_id_is_not_too_long check (octet_length(external_id) <= 200),
  constraint username_is_not_too_long check (octet_length(username) <= 200)
);

alter table public.linked_accounts enable row level security;
grant select on public.linked_accounts to authenticated;
grant select, insert, delete on public.linked_accounts to service_role;

create policy linked_accounts_select_members_and_self on public.linked_accounts
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or participant_id = any (array(select private.participant_ids())));

comment on table public.linked_accounts is
  'The proven accounts of participants, by the ids under which the platforms show them to this tenant (IGSID, PSID, WhatsApp id). '
  'An account belongs to one participant of a tenant. Written when a code comes back from it.';

create table private.link_codes (
  tenant_id uuid not null,
  code text not null,
  participant_id uuid not null,
  platform text not null,
  expires_at timestamptz not null,
  used_at timestamptz,
  primary key (tenant_id, code),
  constraint link_codes_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade
);

create index link_codes_tenant_id_participant_id_idx on private.link_codes (tenant_id, participant_id);
create index link_codes_expires_at_idx on private.link_codes (expires_at);
-- A message to the platform's WhatsApp number says nothing but the code; whose it is has to be found among all tenants.
create index link_codes_code_idx on private.link_codes (code) where used_at is null;

alter table private.link_codes enable row level security;
comment on table private.link_codes is 'Codes that link one account of one platform, once, within an hour.';

-- Where a participant writes to reach the tenant on a platform, with the code already in place. Null: the tenant's name there is not known.
create function private.contact_link(p_tenant_id uuid, p_platform text, p_code text)
returns text
language sql stable
set search_path = ''
as $$
  select case p_platform
    when 'instagram' then 'https://ig.me/m/' || nullif(substring(c.account ->> 'username' from '^@?([A-Za-z0-9._]{1,30})$'), '') || '?ref=' || p_code
    when 'facebook' then 'https://m.me/' || substring(c.account ->> 'page_id' from '^[0-9]{1,30}$') || '?ref=' || p_code
    else 'https://wa.me/' || nullif(left(regexp_replace(c.account ->> 'display_phone_number', '[^0-9]', '', 'g'), 20), '') || '?text=' || p_code end
  from public.credentials c
  where c.tenant_id = p_tenant_id and c.provider = case when p_platform = 'whatsapp' then 'whatsapp' else 'meta' end::public.provider
$$;

comment on function private.contact_link(uuid, text, text) is
  'The ig.me, m.me or wa.me link that brings a code to the tenant; null when the tenant''s credential does not name its account.';

-- A business without a WhatsApp number of its own is written to through the platform's.
create function private.platform_contact_link(p_tenant_id uuid, p_code text)
returns text
language sql stable
set search_path = ''
as $$
  select 'https://wa.me/' || nullif(left(regexp_replace(c.account ->> 'display_phone_number', '[^0-9]', '', 'g'), 20), '') || '?text=' || p_code
  from private.platform_credentials c
  where c.provider = 'whatsapp'
    and not exists (select from public.credentials o where o.tenant_id = p_tenant_id and o.provider = 'whatsapp')
$$;

comment on function private.platform_contact_link(uuid, text) is
  'The wa.me link that brings a code of this tenant to the platform''s number; null for a tenant with WhatsApp of its own.';

create function private.start_linking(p_tenant_id uuid, p_platform text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_participant_id uuid;
  v_code text;
  v_expires_at timestamptz := now() + interval '1 hour';
begin
  perform private.limit_calls('start_linking', (select auth.uid()));
  select p.id into v_participant_id
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status = 'active';
  if v_participant_id is null then
    raise exception 'Take part in a campaign of this business first.' using errcode = 'PT404';
  end if;
  if p_platform is null or p_platform not in ('instagram', 'facebook', 'whatsapp') then
    raise exception 'An account can be linked on instagram, facebook or whatsapp.' using errcode = '22023';
  end if;
  -- One code at a time.
  delete from private.link_codes l where l.tenant_id = p_tenant_id and l.participant_id = v_participant_id and l.platform = p_platform;
  loop
    v_code := private.new_code();
    continue when exists (select from public.completions c where c.tenant_id = p_tenant_id and c.code = v_code)
      -- At the platform's number the code alone says whose it is.
      or exists (select from private.link_codes l where l.code = v_code and l.used_at is null);
    insert into private.link_codes (tenant_id, code, participant_id, platform, expires_at)
    values (p_tenant_id, v_code, v_participant_id, p_platform, v_expires_at)
    on conflict do nothing;
    exit when found;
  end loop;
  return jsonb_build_object('code', v_code, 'expires_at', v_expires_at, 'link', coalesce(private.contact_link(p_tenant_id, p_platform, v_code),
    case p_platform when 'whatsapp' then private.platform_contact_link(p_tenant_id, v_code) end));
end
$$;

grant execute on function private.start_linking(uuid, text) to authenticated;
comment on function private.start_linking(uuid, text) is 'Behind public.start_linking. Definer: link codes are not reachable for any API role.';

create function public.start_linking(tenant_id uuid, platform text)
returns jsonb
language sql
set search_path = ''
as $$
  select private.start_linking(start_linking.tenant_id, start_linking.platform)
$$;

grant execute on function public.start_linking(uuid, text) to authenticated;
comment on function public.start_linking(uuid, text) is
  'The caller, a participant, wants to link an account (platform: instagram, facebook, whatsapp): {"code","expires_at","link"}. The code has to come '
  'from that account within the hour, as a message or in a comment; link opens the chat with it, or is null. Errors: PT404, 22023, PT429 too many.';

create function private.unlink_account(p_tenant_id uuid, p_platform text)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  if not exists (select from public.participants p where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid())) then
    raise exception 'Take part in a campaign of this business first.' using errcode = 'PT404';
  end if;
  delete from public.linked_accounts a
  using public.participants p
  where a.tenant_id = p_tenant_id and a.platform = p_platform and p.tenant_id = a.tenant_id and p.id = a.participant_id
    and p.user_id = (select auth.uid());
  return found;
end
$$;

grant execute on function private.unlink_account(uuid, text) to authenticated;
comment on function private.unlink_account(uuid, text) is 'Behind public.unlink_account. Definer: linked accounts are written by calls only. Own ones only.';

create function public.unlink_account(tenant_id uuid, platform text)
returns boolean
language sql
set search_path = ''
as $$
  select private.unlink_account(unlink_account.tenant_id, unlink_account.platform)
$$;

grant execute on function public.unlink_account(uuid, text) to authenticated;
comment on function public.unlink_account(uuid, text) is
  'The caller''s account of this platform is linked no more; false when none was. What it has proven stays proven, and proves nothing for others. Error: PT404.';
