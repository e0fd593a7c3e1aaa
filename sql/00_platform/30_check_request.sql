-- What the Data API refuses before a request touches a table. PostgREST runs it first (see the migration that sets pgrst.db_pre_request).
create function private.check_request()
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  -- The planner estimates over the rows of all tenants: the number would tell how many there are.
  if coalesce(nullif(current_setting('request.headers', true), '')::jsonb ->> 'prefer', '') ~* 'count=(planned|estimated)' then
    raise exception 'Use count=exact.' using errcode = 'PT400', hint = 'An estimate would be of the rows of all tenants.';
  end if;
end
$$;

-- The only thing in `private` that anon reaches: every request starts with it.
grant usage on schema private to anon;
grant execute on function private.check_request() to anon, authenticated, service_role;
comment on function private.check_request() is 'Runs before every request of the Data API; refuses row counts by estimate, which would leak other tenants'' sizes.';
