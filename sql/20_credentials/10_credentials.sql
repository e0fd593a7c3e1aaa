-- Credentials: one tenant's access to one provider. The row says which and how healthy; the secret is in Vault.
create type public.provider as enum ('meta', 'whatsapp', 'stripe', 'email');
create type public.credential_health as enum ('unchecked', 'healthy', 'broken');

create table public.credentials (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  provider public.provider not null,
  kind text not null,
  account jsonb not null default '{}',
  secret_id uuid not null,
  fingerprint text not null,
  health public.credential_health not null default 'unchecked',
  state text not null default 'unchecked',
  health_reason text,
  checked_at timestamptz,
  expires_at timestamptz,
  scopes text[],
  secret_keys text[] not null default '{}',
  secret_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint one_credential_per_tenant_and_provider unique (tenant_id, provider),
  constraint credentials_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint kind_belongs_to_the_provider check (
    (provider = 'meta' and kind in ('facebook_login', 'instagram_login'))
    or (provider = 'whatsapp' and kind in ('whatsapp_cloud', 'waapi', 'gateway'))
    or (provider = 'stripe' and kind in ('own_key'))
    or (provider = 'email' and kind in ('resend'))
  ),
  constraint account_is_a_small_object check (jsonb_typeof(account) = 'object' and octet_length(account::text) <= 16000),
  constraint state_is_one_of_the_known check (
    state in ('unchecked', 'ok', 'expired', 'permission_lost', 'role_lost', 'checkpoint', 'password_changed', 'app_removed', 'invalid',
      'unconfirmed', 'blocked'))
);

alter table public.credentials enable row level security;
-- Column by column: which secret it is (secret_id) is nobody's business but the database's.
grant select (
  tenant_id, id, provider, kind, account, fingerprint, health, state, health_reason, checked_at, expires_at, scopes, created_at, updated_at)
  on public.credentials to authenticated;
grant select, insert, update, delete on public.credentials to service_role;

create policy credentials_select_admins on public.credentials
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger credentials_before_update_keep_row_rules
  before update on public.credentials
  for each row execute function private.keep_row_rules();

create trigger credentials_after_write_audit
  after insert or update or delete on public.credentials
  for each row when (current_user = 'service_role')
  execute function private.audit_change('credential', 'provider');

comment on table public.credentials is 'A tenant''s access to a provider: which account, how healthy. The secret is in Vault and never comes back out.';
comment on column public.credentials.state is 'Why it does not work, in one word that clients can branch on; ok where it does. list_credentials says what to do about it.';
comment on column public.credentials.scopes is 'The names of what the token may do, as the provider''s check told them.';
comment on column public.credentials.secret_keys is 'Which parts the secret has, such as access_token and app_secret: names, no values.';
comment on column public.credentials.secret_at is 'Since when the token is the one that it is: entered by a member, or refreshed.';

-- The platform's own credentials: used for tenants that have none, where the job allows it.
create table private.platform_credentials (
  provider public.provider primary key,
  kind text not null,
  account jsonb not null default '{}',
  secret_id uuid not null,
  fingerprint text not null,
  health public.credential_health not null default 'unchecked',
  state text not null default 'unchecked',
  health_reason text,
  checked_at timestamptz,
  expires_at timestamptz,
  scopes text[],
  updated_at timestamptz not null default now()
);

alter table private.platform_credentials enable row level security;

comment on table private.platform_credentials is 'The platform''s own access to a provider, the fall-back for tenants without one.';
