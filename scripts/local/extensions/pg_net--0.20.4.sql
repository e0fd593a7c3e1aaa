-- Stand-in for pg_net 0.20.4: the same schema, tables, functions and errors, in SQL; net-worker.ts sends the requests.
\echo Use "create extension pg_net" to load this file. \quit

do $$
begin
  if to_regnamespace('net') is null then
    create schema net;
  end if;
  -- Whoever owns the schema could replace what is in it.
  execute format('alter schema net owner to %I', current_user);
end;
$$;

create domain net.http_method as text
check (value ilike 'get' or value ilike 'post' or value ilike 'delete');

-- Waiting requests, in clear, for everybody to read. Unlogged: a crash empties it and restarts its sequence.
create unlogged table net.http_request_queue (
  id bigserial,
  method net.http_method not null,
  url text not null,
  headers jsonb,
  body bytea,
  timeout_milliseconds int not null
);

create unlogged table net._http_response (
  id bigint,
  status_code integer,
  content_type text,
  headers jsonb,
  content text,
  timed_out bool,
  error_msg text,
  created timestamptz not null default now()
);
create index _http_response_created_idx on net._http_response (created);

create type net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR');
create type net.http_response as (status_code integer, headers jsonb, body text);
create type net.http_response_result as (status net.request_status, message text, response net.http_response);

-- The worker hears a notification when, and only when, the transaction commits; many calls make one.
create function net.wake() returns void
language plpgsql
as $$
begin
  perform pg_catalog.pg_notify('pg_net', 'wake');
end;
$$;

-- Reloads the configuration and lets the worker leave after its batch; a new one comes a second later.
create function net.worker_restart() returns bool
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform pg_catalog.pg_notify('pg_net', 'restart');
  return pg_catalog.pg_reload_conf();
end;
$$;

create function net._worker_is_up() returns bool
language sql
volatile
set search_path = ''
as $$
  select exists (
    select from pg_catalog.pg_stat_activity a
    where a.backend_type ilike '%pg_net%'
    or (a.application_name ilike 'pg_net %' and a.datname = pg_catalog.current_database())
  );
$$;

create function net.check_worker_is_up() returns void
language plpgsql
as $$
begin
  if not net._worker_is_up() then
    raise exception 'the pg_net background worker is not up'
      using
        detail = 'the pg_net background worker is down due to an internal error and cannot process requests',
        hint = 'make sure that you didn''t modify any of pg_net internal tables';
  end if;
end;
$$;
comment on function net.check_worker_is_up()
is 'raises an exception if the pg_net background worker is not up, otherwise it doesn''t return anything';

create function net.wait_until_running() returns void
language plpgsql
as $$
begin
  while not net._worker_is_up() loop
    perform pg_catalog.pg_sleep(0.05);
    perform pg_catalog.pg_stat_clear_snapshot();
  end loop;
end;
$$;
comment on function net.wait_until_running() is 'waits until the worker is running';

-- Percent-encodes everything but letters, digits and "-._~", byte by byte.
create function net._urlencode_string(string varchar) returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(
    pg_catalog.string_agg(
      case
        when byte between 48 and 57 or byte between 65 and 90 or byte between 97 and 122
          or byte in (45, 46, 95, 126) then pg_catalog.chr(byte)
        else '%' || pg_catalog.upper(pg_catalog.lpad(pg_catalog.to_hex(byte), 2, '0'))
      end,
      '' order by at
    ),
    ''
  )
  from (
    select at, pg_catalog.get_byte(pg_catalog.convert_to(string, 'UTF8'), at) as byte
    from pg_catalog.generate_series(0, pg_catalog.octet_length(pg_catalog.convert_to(string, 'UTF8')) - 1) as at
  ) as bytes
  where string is not null
  having string is not null;
$$;

-- Checks a URL as libcurl does, writes its scheme and an empty path in the usual form, and appends the parameters.
create function net._encode_url_with_params_array(url text, params_array text[]) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- scheme, authority, path, query, fragment
  part constant text[] := pg_catalog.regexp_match(
    url, '^([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?$'
  );
  authority text[];
  problem text;
  query text;
begin
  if url is null or params_array is null then
    return null;
  end if;

  if url ~ '[\x01-\x1f\x7f ]' then
    problem := 'Malformed input to a URL function';
  elsif part is null then
    problem := case when url ~ '^[A-Za-z][A-Za-z0-9+.-]*:' then 'Unsupported URL scheme' else 'Bad scheme' end;
  elsif pg_catalog.lower(part[1]) not in (
    'http', 'https', 'ftp', 'ftps', 'file', 'dict', 'gopher', 'gophers', 'imap', 'imaps', 'ldap', 'ldaps', 'mqtt',
    'pop3', 'pop3s', 'rtsp', 'smb', 'smbs', 'smtp', 'smtps', 'telnet', 'tftp', 'ws', 'wss', 'scp', 'sftp'
  ) then
    problem := 'Unsupported URL scheme';
  else
    -- user information, host, port
    authority := pg_catalog.regexp_match(part[2], '^(?:(.*)@)?(\[[^\]]*\]|[^:]*)(?::(.*))?$');
    problem := case
      when authority is null then 'Bad hostname'
      when authority[2] = '' then 'No host part in the URL'
      when authority[3] <> '' and (authority[3] !~ '^[0-9]{1,5}$' or authority[3]::int > 65535)
        then 'Port number was not a decimal number between 0 and 65535'
    end;
  end if;
  if problem is not null then
    raise exception 'invalid URL "%": %', url, problem using errcode = 'internal_error';
  end if;

  query := pg_catalog.array_to_string(
    array_remove(array[nullif(part[4], '')] || array_remove(params_array, null), null), '&'
  );
  return pg_catalog.lower(part[1]) || '://' || part[2]
    || case when part[3] = '' then '/' else part[3] end
    || case when query <> '' then '?' || query else '' end
    || case when part[5] <> '' then '#' || part[5] else '' end;
end;
$$;

create function net._enqueue(
  method text, url text, params jsonb, headers jsonb, body jsonb, timeout_milliseconds int
) returns bigint
language plpgsql
as $$
#variable_conflict use_variable
declare
  request_id bigint;
begin
  insert into net.http_request_queue as q (method, url, headers, body, timeout_milliseconds)
  values (
    method,
    net._encode_url_with_params_array(
      url,
      array(
        select net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value)
        from pg_catalog.jsonb_each_text(params) as p
      )
    ),
    headers,
    pg_catalog.convert_to(body::text, 'UTF8'),
    timeout_milliseconds
  )
  returning q.id into request_id;
  perform net.wake();
  return request_id;
end;
$$;

create function net.http_get(
  url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds int default 5000
) returns bigint
language plpgsql
as $$
begin
  return net._enqueue('GET', url, params, headers, null, timeout_milliseconds);
end;
$$;

create function net.http_post(
  url text, body jsonb default '{}', params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds int default 5000
) returns bigint
language plpgsql
as $$
declare
  content_type constant text := (
    select h.value from pg_catalog.jsonb_each_text(coalesce(headers, '{}')) as h
    where pg_catalog.lower(h.key) = 'content-type'
    limit 1
  );
begin
  if content_type <> 'application/json' then
    raise exception 'Content-Type header must be "application/json"';
  end if;
  if content_type is null then
    headers := headers || '{"Content-Type": "application/json"}';
  end if;
  return net._enqueue('POST', url, params, headers, body, timeout_milliseconds);
end;
$$;

create function net.http_delete(
  url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds int default 5000,
  body jsonb default null
) returns bigint
language plpgsql
as $$
begin
  return net._enqueue('DELETE', url, params, headers, body, timeout_milliseconds);
end;
$$;

create function net._await_response(request_id bigint) returns bool
language plpgsql
as $$
begin
  while not exists (select from net._http_response r where r.id = request_id) loop
    perform pg_catalog.pg_sleep(0.05);
  end loop;
  return true;
end;
$$;

create function net._http_collect_response(request_id bigint, async bool default true) returns net.http_response_result
language plpgsql
as $$
declare
  answer net._http_response;
begin
  if not async then
    perform net._await_response(request_id);
  end if;
  select r.* into answer from net._http_response r where r.id = request_id;
  if answer.id is null or answer.error_msg is not null then
    return ('ERROR', coalesce(answer.error_msg, 'request matching request_id not found'), null)::net.http_response_result;
  end if;
  return ('SUCCESS', 'ok', (answer.status_code, answer.headers, answer.content)::net.http_response)
    ::net.http_response_result;
end;
$$;

-- The real one is broken in the same way: its query has no destination, so every call fails.
create function net.http_collect_response(request_id bigint, async bool default true) returns net.http_response_result
language plpgsql
as $$
begin
  raise notice 'The net.http_collect_response function is deprecated.';
  select net._http_collect_response(request_id, async);
end;
$$;

-- As in the real extension: every role that can log in may read and write the queue.
grant usage on schema net to public;
grant all on all sequences in schema net to public;
grant all on all tables in schema net to public;

select pg_catalog.pg_notify('pg_net', 'created');
