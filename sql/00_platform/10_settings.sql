-- Platform settings that an admin may change without a migration.
create table private.settings (
  name text primary key,
  value text not null,
  meaning text not null,
  constraint name_is_a_word check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint value_is_not_too_long check (octet_length(value) <= 2000)
);

alter table private.settings enable row level security;

comment on table private.settings is 'Platform settings, one row each: the name, its value and what it means.';

create function private.setting(p_name text)
returns text
language sql stable
set search_path = ''
as $$
  select s.value from private.settings s where s.name = p_name
$$;

comment on function private.setting(text) is 'The value of one platform setting, or null.';

-- Vault's key belongs to one project. In a copy or a restored backup with another key, reading a secret is an error, and one that cannot
-- be read must stop nobody but whom it belongs to.
create function private.read_secret(p_id uuid)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return (select s.decrypted_secret from vault.decrypted_secrets s where s.id = p_id);
exception when data_exception then
  -- Vault has one code for all of its errors. Without any key nothing is readable, and no secret is to blame.
  if sqlerrm not like '%invalid ciphertext%' then
    raise;
  end if;
  return null;
end
$$;

comment on function private.read_secret(uuid) is
  'A secret in Vault, or null when there is none or it was written with another key. Callable by its owner only.';

-- Vault keeps text. What somebody put there by hand may be no JSON, and it is nobody's fault but its owner's. Caught here, so that the
-- server's log does not get the secret as the detail of an error.
create function private.read_secret_json(p_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_secret text := private.read_secret(p_id);
begin
  return v_secret::jsonb;
exception when data_exception then
  return null;
end
$$;

comment on function private.read_secret_json(uuid) is
  'The secret of a credential, or null when there is none or it cannot be read. Callable by its owner only.';

-- Secrets that the platform itself needs live in Vault under a fixed name.
create function private.platform_secret(p_name text)
returns text
language sql stable
set search_path = ''
as $$
  select private.read_secret(s.id) from vault.secrets s where s.name = p_name
$$;

comment on function private.platform_secret(text) is
  'A secret of the platform by its name in Vault (`project_url`, `cron_secret`), or null, also when it was written with another key. '
  'Callable by its owner only.';

-- Admins change settings by a function, so that a wrong name is an error and not a new row.
create function jobs.set_setting(name text, value text)
returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  update private.settings s set value = set_setting.value where s.name = set_setting.name;
  if not found then
    raise exception 'There is no setting "%". Known: %.', set_setting.name,
      (select string_agg(s.name, ', ' order by s.name) from private.settings s)
      using errcode = 'P0002';
  end if;
end
$$;

grant execute on function jobs.set_setting(text, text) to service_role;
comment on function jobs.set_setting(text, text) is 'Changes one platform setting; an unknown name is refused. '
  'Definer: private.settings is not reachable for any API role.';
