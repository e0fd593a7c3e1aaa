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

-- IANA names only. Postgres also takes "FOO5" or "UTC+3" (with the sign inverted), which no user means.
create function private.is_time_zone(p_name text)
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from pg_catalog.pg_timezone_names z where z.name = p_name)
     and p_name !~ '^(posix|right)/' and p_name <> 'localtime'
$$;

-- Triggers call it as the caller of the request.
grant execute on function private.is_time_zone(text) to authenticated, service_role;
comment on function private.is_time_zone(text) is 'True for the name of an IANA time zone that this server knows.';
