-- What a credential must have before it is stored. No message repeats a value: it may be a secret in the wrong place.

create function private.require_unofficial_gateways()
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if private.setting('unofficial_gateways') = 'off' then
    raise exception 'Gateways that are not WhatsApp''s own are switched off on this platform.'
      using errcode = 'PT409', hint = 'Connect WhatsApp''s Cloud API: kind whatsapp_cloud.';
  end if;
end
$$;

comment on function private.require_unofficial_gateways() is 'Raises PT409 while the setting unofficial_gateways is off.';

-- The first fault of a gateway's url, in words, or null. What the name leads to is looked at by the worker, before each request.
create function private.gateway_url_fault(p_url text, p_api_key text)
returns text
language plpgsql stable
set search_path = ''
as $$
declare
  v_parts text[];
  v_host text;
  v_port text;
begin
  if coalesce(p_url, '') = '' then
    return 'it is missing';
  end if;
  if octet_length(p_url) > 2000 then
    return 'it is longer than 2000 characters';
  end if;
  if p_url ~ '[^!-~]' or p_url ~ '[\\<>"^`|]' then
    return 'it has white space or characters that must be percent-encoded';
  end if;
  if p_url ~* '\{\{\s*api_key\s*\}\}' or (octet_length(p_api_key) >= 4 and position(p_api_key in p_url) > 0) then
    return 'it has the api_key in it; put {{api_key}} into a header or the body';
  end if;
  v_parts := regexp_match(p_url, '^(https?)://([^/?#]*)([/?][^#]*)?$');
  if v_parts is null then
    return 'it is not of the form https://host/path';
  end if;
  if v_parts[2] like '%@%' then
    return 'it has a user or a password in it';
  end if;
  v_host := split_part(v_parts[2], ':', 1);
  v_port := coalesce(nullif(split_part(v_parts[2], ':', 2), ''), case v_parts[1] when 'https' then '443' else '80' end);
  -- What the platform's admin has allowed, which is how a simulator is reached.
  if format('%s:%s', v_host, v_port) = any (regexp_split_to_array(private.setting('outbound_hosts'), '\s*,\s*'))
    and (v_parts[1] = 'https' or v_host in ('127.0.0.1', 'localhost')) then
    return null;
  end if;
  if v_parts[1] <> 'https' then
    return 'it is not https';
  end if;
  if v_parts[2] like '%:%' then
    return 'it names a port or an IPv6 address; a public host on port 443 is needed';
  end if;
  if v_host !~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$' or octet_length(v_host) > 253 then
    return 'its host is not a public name in lower case';
  end if;
  if v_host ~ '(^|\.)xn--' then
    return 'its host has letters beyond ASCII, which can look like others';
  end if;
  if v_host ~ '(^|\.)(localhost|local|internal|intranet|lan|home|corp|onion|test|invalid|arpa)$' then
    return 'its host is not public';
  end if;
  return null;
end
$$;

comment on function private.gateway_url_fault(text, text) is 'What is wrong with a gateway''s url, or null. Holds nothing of the url.';

-- The names in {{…}} that a text has and that nobody knows.
create function private.unknown_placeholders(p_text text)
returns text
language sql immutable
set search_path = ''
as $$
  select string_agg(distinct left(m[1], 40), ', ')
  from regexp_matches(coalesce(p_text, ''), '\{\{([^{}]*)\}\}', 'g') m
  where m[1] not in ('number', 'message', 'sender', 'api_key')
$$;

comment on function private.unknown_placeholders(text) is 'Placeholders of a template other than number, message, sender and api_key; null when there are none.';

create function private.is_json(p_text text)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
begin
  perform p_text::jsonb;
  return true;
exception when others then
  return false;
end
$$;

comment on function private.is_json(text) is 'True when a text is JSON.';

-- The request of a gateway that Onecron has no client for: {"method","url","headers","body","success","message_id_path","error_path","sender"}.
create function private.check_gateway(p_account jsonb, p_secret jsonb)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_fault text;
  v_header record;
  v_text text;
  v_path text := '^[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60}){0,9}$';
  v_kind text := jsonb_typeof(p_account -> 'body');
  v_form boolean := false;
begin
  select format('it does not know %s', string_agg(quote_ident(left(k, 40)), ', ')) into v_fault
  from jsonb_object_keys(p_account) k
  where k not in ('method', 'url', 'headers', 'body', 'success', 'message_id_path', 'error_path', 'sender', 'business_name')
  having count(*) > 0;
  if v_fault is null and coalesce(p_account ->> 'method', '') not in ('POST', 'PUT') then
    v_fault := 'its method must be POST or PUT';
  end if;
  if v_fault is null then
    v_fault := 'its url is not usable: ' || private.gateway_url_fault(p_account ->> 'url', p_secret ->> 'api_key');
  end if;

  -- Headers
  if v_fault is null and p_account ? 'headers' then
    if jsonb_typeof(p_account -> 'headers') <> 'object' or (select count(*) from jsonb_object_keys(p_account -> 'headers')) > 20 then
      v_fault := 'its headers must be an object of at most 20';
    else
      for v_header in select e.key, e.value from jsonb_each(p_account -> 'headers') e loop
        if v_header.key !~ '^[A-Za-z0-9!#$&''*+.^_`|~-]{1,60}$' then
          v_fault := 'the name of a header has characters that none may have';
        elsif lower(v_header.key) ~ '^(host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|accept-encoding|proxy-.*|cookie)$' then
          v_fault := format('the header %s is not the template''s to set', v_header.key);
        elsif jsonb_typeof(v_header.value) <> 'string' or (v_header.value #>> '{}') !~ '^[ -~]*$' or octet_length(v_header.value #>> '{}') > 1000 then
          v_fault := format('the header %s must be a line of printable ASCII', v_header.key);
        elsif (v_header.value #>> '{}') ~ '\{\{message\}\}' then
          v_fault := format('the header %s must not carry the message', v_header.key);
        end if;
        v_form := v_form or (lower(v_header.key) = 'content-type' and (v_header.value #>> '{}') ~* '^application/x-www-form-urlencoded');
        exit when v_fault is not null;
      end loop;
    end if;
  end if;

  -- Body
  if v_fault is null and coalesce(v_kind, '') not in ('object', 'string') then
    v_fault := 'its body must be an object or a text';
  end if;
  if v_fault is null and v_kind = 'object' and v_form then
    v_fault := 'a body for a form must be a text such as number={{number}}&message={{message}}';
  end if;
  if v_fault is null then
    v_text := case v_kind when 'string' then p_account ->> 'body' else (p_account -> 'body')::text end;
    if octet_length(v_text) > 8000 then
      v_fault := 'its body is longer than 8000 bytes';
    elsif v_kind = 'string' and not v_form
      and not private.is_json(regexp_replace(v_text, '\{\{(number|message|sender|api_key)\}\}', '1', 'g')) then
      v_fault := 'its body is not JSON once the placeholders are filled in';
    end if;
  end if;

  -- Placeholders
  if v_fault is null then
    v_text := concat_ws(' ', p_account ->> 'url', p_account ->> 'headers', p_account ->> 'body');
    v_fault := 'it has unknown placeholders: ' || private.unknown_placeholders(v_text);
    if v_fault is null and (v_text !~ '\{\{number\}\}' or v_text !~ '\{\{message\}\}') then
      v_fault := 'it must say where {{number}} and {{message}} go';
    end if;
    if v_fault is null and v_text ~ '\{\{sender\}\}' and coalesce(p_account ->> 'sender', '') !~ '^[ -~]{1,60}$' then
      v_fault := 'it uses {{sender}} and has no sender';
    end if;
    if v_fault is null and octet_length(p_secret ->> 'api_key') >= 4 and position(p_secret ->> 'api_key' in v_text) > 0 then
      v_fault := 'it has the api_key in it; write {{api_key}} there';
    end if;
  end if;

  -- The answer
  if v_fault is null and (
    jsonb_typeof(p_account -> 'success') is distinct from 'object' or coalesce(p_account #>> '{success,path}', '') !~ v_path
    or coalesce(jsonb_typeof(p_account #> '{success,equals}'), '') not in ('string', 'number', 'boolean')
    or exists (select from jsonb_object_keys(p_account -> 'success') k where k not in ('path', 'equals'))) then
    v_fault := 'its success must be {"path": "a.path", "equals": a text, a number or true}';
  end if;
  if v_fault is null and p_account ? 'message_id_path' and coalesce(p_account ->> 'message_id_path', '') !~ v_path then
    v_fault := 'its message_id_path is not a path such as data.id';
  end if;
  if v_fault is null and p_account ? 'error_path' and coalesce(p_account ->> 'error_path', '') !~ v_path then
    v_fault := 'its error_path is not a path such as error.message';
  end if;
  if v_fault is not null then
    raise exception 'The gateway''s request cannot be used: %.', v_fault using errcode = '22023';
  end if;
end
$$;

comment on function private.check_gateway(jsonb, jsonb) is 'Raises 22023 with the first fault of a gateway''s request template.';

create function private.check_credential(p_provider public.provider, p_kind text, p_secret jsonb, p_account jsonb)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_secret_key text := case when p_kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud') then 'access_token'
    when p_kind = 'waapi' then 'token' else 'api_key' end;
  v_account_key text := case p_kind when 'instagram_login' then 'ig_user_id' when 'whatsapp_cloud' then 'phone_number_id'
    when 'waapi' then 'instance_id' end;
  v_rule record;
begin
  if jsonb_typeof(p_secret) is distinct from 'object' or coalesce(p_secret ->> v_secret_key, '') = '' then
    raise exception 'A % credential needs the secret {"%": "…"}.', p_kind, v_secret_key using errcode = '22023';
  end if;
  if p_secret ->> v_secret_key ~ '[^!-~]' or octet_length(p_secret::text) > 8000 then
    raise exception 'The secret has white space or other characters that no % token has. Copy it again.', p_kind
      using errcode = '22023';
  end if;
  -- What a webhook needs: the app's secret signs, the verify token opens the subscription.
  for v_rule in select k.name from (values ('app_secret'), ('verify_token')) k (name) where p_secret ? k.name loop
    if p_kind not in ('facebook_login', 'instagram_login', 'whatsapp_cloud') then
      raise exception 'A % credential has no %.', p_kind, v_rule.name using errcode = '22023';
    end if;
    if jsonb_typeof(p_secret -> v_rule.name) <> 'string' or p_secret ->> v_rule.name !~ '^[!-~]+$'
      or octet_length(p_secret ->> v_rule.name) > 500 then
      raise exception 'The % is empty, too long or has characters that none has. Copy it again.', v_rule.name using errcode = '22023';
    end if;
  end loop;
  if jsonb_typeof(p_account) is distinct from 'object' then
    raise exception 'The account is an object, such as {"page_id": "…"}.' using errcode = '22023';
  end if;
  if v_account_key is not null and coalesce(p_account ->> v_account_key, '') !~ '^[0-9A-Za-z_-]{1,64}$' then
    raise exception 'A % credential needs the account {"%": "…"}.', p_kind, v_account_key using errcode = '22023';
  end if;
  for v_rule in
    select r.name, r.says
    from (values
      ('ig_user_id', '^[0-9A-Za-z_-]{1,64}$', 'an id'),
      ('page_id', '^[0-9A-Za-z_-]{1,64}$', 'an id'),
      ('app_id', '^[0-9]{1,40}$', 'the number of the app'),
      ('username', '^[A-Za-z0-9._]{1,60}$', 'a user name without @'),
      ('display_phone_number', '^\+?[0-9][0-9 ()./-]{5,30}$', 'a phone number with its country code'),
      ('sender', '^[ -~]{1,60}$', 'a number or a name'),
      ('business_name', '^[^[:cntrl:]]{1,200}$', 'a name of at most 200 characters')
    ) r (name, pattern, says)
    where p_account ? r.name and coalesce(p_account ->> r.name, '') !~ r.pattern
  loop
    raise exception 'The account''s % is not %.', v_rule.name, v_rule.says using errcode = '22023';
  end loop;
  if p_kind = 'resend' and p_account ? 'from'
    and coalesce(p_account ->> 'from', '') !~ '^([^<>@[:cntrl:]]{1,100} <)?[^<>@\s,;"]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}>?$'
    or (p_kind = 'resend' and (p_account ->> 'from' like '%<%') <> (p_account ->> 'from' like '%>')) then
    raise exception 'The account''s from is not an address such as "Pizza Shop <hello@pizza.example>".' using errcode = '22023';
  end if;
  if p_kind = 'gateway' then
    perform private.check_gateway(p_account, p_secret);
  end if;
end
$$;

comment on function private.check_credential(public.provider, text, jsonb, jsonb) is
  'Raises 22023 unless secret and account have what this kind needs. No message repeats what was given.';
