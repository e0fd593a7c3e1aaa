-- Small helpers that several modules use.

-- Keeps updated_at honest and tenant_id immovable: a row never changes its tenant.
create function private.keep_row_rules()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if to_jsonb(new) ->> 'tenant_id' is distinct from to_jsonb(old) ->> 'tenant_id' then
    raise exception 'A row cannot move to another tenant.' using errcode = '42501';
  end if;
  new.updated_at := now();
  return new;
end
$$;

comment on function private.keep_row_rules() is 'Trigger: sets updated_at, and refuses to change tenant_id.';

-- The names of this server's time zones. The view that lists them reads a directory of files, 20 ms a time; this is an index look-up.
create table private.time_zones (
  name text primary key
);

alter table private.time_zones enable row level security;
comment on table private.time_zones is 'IANA time zones that this server knows; brought up to date with the hourly clean-up.';

create function private.learn_time_zones()
returns void
language sql
set search_path = ''
as $$
  insert into private.time_zones (name)
  select z.name from pg_catalog.pg_timezone_names z where z.name !~ '^(posix|right)/' and z.name <> 'localtime'
  on conflict do nothing
$$;

comment on function private.learn_time_zones() is 'Adds the time zones that this server has learned since.';

-- IANA names only. Postgres also takes "FOO5" or "UTC+3" (with the sign inverted), which no user means.
create function private.is_time_zone(p_name text)
returns boolean
language sql stable security definer
set search_path = ''
as $$
  select exists (select from private.time_zones z where z.name = p_name)
$$;

grant execute on function private.is_time_zone(text) to authenticated, service_role;
comment on function private.is_time_zone(text) is 'True for the name of an IANA time zone that this server knows. Definer: the list is not granted to anyone.';
