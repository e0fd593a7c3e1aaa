-- Rules that the platforms make for rewards, and who has taken note of them: the text, its version, the person, the time.
create table public.rules (
  rule text not null,
  version integer not null,
  text text not null,
  primary key (rule, version),
  constraint rule_is_a_word check (rule ~ '^[a-z][a-z_]{0,62}$'),
  constraint version_is_positive check (version > 0)
);

alter table public.rules enable row level security;
grant select on public.rules to authenticated, service_role;

create policy rules_select_everyone on public.rules
  for select to authenticated using (rule is not null);

comment on table public.rules is 'What a tenant acknowledges before it does what a platform frowns upon. The highest version of a rule is the one in force.';

create table public.acknowledgements (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  rule text not null,
  version integer not null,
  campaign_id uuid,
  user_id uuid,
  acknowledged_at timestamptz not null default now(),
  text text not null,
  primary key (tenant_id, id),
  constraint acknowledgements_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade
);

create index acknowledgements_tenant_id_rule_idx on public.acknowledgements (tenant_id, rule, version);

alter table public.acknowledgements enable row level security;
grant select on public.acknowledgements to authenticated, service_role;

create policy acknowledgements_select_members on public.acknowledgements
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

comment on table public.acknowledgements is 'Who took note of which version of a rule, when, with the text as it stood. Written by acknowledge_rule only.';

create function private.require_acknowledgement(p_tenant_id uuid, p_rule text)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_version integer := (select max(r.version) from public.rules r where r.rule = p_rule);
begin
  if private.is_platform() then
    return;
  end if;
  if not exists (
    select from public.acknowledgements a where a.tenant_id = p_tenant_id and a.rule = p_rule and a.version >= v_version
  ) then
    raise exception 'First somebody has to acknowledge the rule "%".', p_rule using errcode = 'PT409',
      hint = format('Read version %s of it in the table rules, then call acknowledge_rule(tenant_id, ''%s'', %1$s) as an admin of the tenant.',
        v_version, p_rule);
  end if;
end
$$;

comment on function private.require_acknowledgement(uuid, text) is
  'Raises PT409, with the call that helps, unless the tenant acknowledged the rule in its version in force. The platform itself passes.';

create function private.acknowledge_rule(p_tenant_id uuid, p_rule text, p_version integer, p_campaign_id uuid)
returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_rule public.rules;
  v_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('acknowledge_rule', p_tenant_id);
  end if;
  select r.* into v_rule from public.rules r where r.rule = p_rule order by r.version desc limit 1;
  if v_rule.rule is null then
    raise exception 'There is no rule "%".', p_rule using errcode = 'PT404';
  end if;
  if p_version is distinct from v_rule.version then
    raise exception 'Version % of this rule is in force. Read it, then acknowledge that one.', v_rule.version using errcode = 'PT409';
  end if;
  if p_campaign_id is not null and not exists (
    select from public.campaigns c where c.tenant_id = p_tenant_id and c.id = p_campaign_id
  ) then
    raise exception 'There is no such campaign.' using errcode = 'PT404';
  end if;
  insert into public.acknowledgements (tenant_id, rule, version, campaign_id, user_id, text)
  values (p_tenant_id, v_rule.rule, v_rule.version, p_campaign_id, (select auth.uid()), v_rule.text)
  returning id into v_id;
  perform private.audit(p_tenant_id, 'rule.acknowledged',
    jsonb_build_object('rule', v_rule.rule, 'version', v_rule.version, 'campaign_id', p_campaign_id));
  return v_id;
end
$$;

grant execute on function private.acknowledge_rule(uuid, text, integer, uuid) to authenticated, service_role;
comment on function private.acknowledge_rule(uuid, text, integer, uuid) is
  'Behind public.acknowledge_rule. Definer: no API role may write acknowledgements. Admins and the platform.';

create function public.acknowledge_rule(tenant_id uuid, rule text, version integer, campaign_id uuid default null)
returns uuid
language sql
set search_path = ''
as $$
  select private.acknowledge_rule(
    acknowledge_rule.tenant_id, acknowledge_rule.rule, acknowledge_rule.version, acknowledge_rule.campaign_id)
$$;

grant execute on function public.acknowledge_rule(uuid, text, integer, uuid) to authenticated, service_role;
comment on function public.acknowledge_rule(uuid, text, integer, uuid) is
  'Takes note of a rule for the tenant, in the version in force; admins only. Returns the id of the record. '
  'Errors: 42501, PT404 no such rule or campaign, PT409 another version is in force, PT429 too many.';
