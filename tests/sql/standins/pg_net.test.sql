-- What pg_net promises before a request is sent; what happens then is in tests/standins.
begin;
select plan(43);

create role standin_anybody login;
do $$
begin
  if to_regnamespace('extensions') is not null then
    grant usage on schema extensions to standin_anybody;
  end if;
end;
$$;

-- Shape
select columns_are(
  'net', 'http_request_queue', array['id', 'method', 'url', 'headers', 'body', 'timeout_milliseconds'],
  'the queue has the columns of pg_net'
);
select columns_are(
  'net', '_http_response',
  array['id', 'status_code', 'content_type', 'headers', 'content', 'timed_out', 'error_msg', 'created'],
  'the responses have the columns of pg_net'
);
select is(
  (select array_agg(relpersistence::text) from pg_class
   where oid in ('net.http_request_queue'::regclass, 'net._http_response'::regclass)),
  array['u', 'u'], 'both tables are unlogged'
);
select is(
  (select relpersistence::text from pg_class where oid = 'net.http_request_queue_id_seq'::regclass), 'u',
  'the sequence of ids is unlogged, too: after a crash it begins again'
);
select hasnt_pk('net', 'http_request_queue', 'the queue has no primary key');
select is(
  pg_get_function_arguments('net.http_get(text, jsonb, jsonb, int)'::regprocedure),
  'url text, params jsonb DEFAULT ''{}''::jsonb, headers jsonb DEFAULT ''{}''::jsonb, '
  'timeout_milliseconds integer DEFAULT 5000',
  'http_get has its argument names and defaults'
);
select is(
  pg_get_function_arguments('net.http_post(text, jsonb, jsonb, jsonb, int)'::regprocedure),
  'url text, body jsonb DEFAULT ''{}''::jsonb, params jsonb DEFAULT ''{}''::jsonb, '
  'headers jsonb DEFAULT ''{"Content-Type": "application/json"}''::jsonb, timeout_milliseconds integer DEFAULT 5000',
  'http_post has its argument names and defaults'
);
select is(
  pg_get_function_arguments('net.http_delete(text, jsonb, jsonb, int, jsonb)'::regprocedure),
  'url text, params jsonb DEFAULT ''{}''::jsonb, headers jsonb DEFAULT ''{}''::jsonb, '
  'timeout_milliseconds integer DEFAULT 5000, body jsonb DEFAULT NULL::jsonb',
  'http_delete has its argument names and defaults'
);
select function_returns('net', 'http_get', 'bigint', 'http_get returns the request id');
select function_returns('net', 'worker_restart', array[]::text[], 'boolean', 'worker_restart returns a boolean');
select function_returns('net', 'wake', array[]::text[], 'void', 'wake returns nothing');
select function_returns('net', 'wait_until_running', array[]::text[], 'void', 'wait_until_running returns nothing');
select function_returns('net', 'check_worker_is_up', array[]::text[], 'void', 'check_worker_is_up returns nothing');

-- Queueing, as somebody without any grant of his own
set local role standin_anybody;
select set_config('standin.id', net.http_get('http://localhost:9')::text, true);
select results_eq(
  $$ select method::text, url, headers, body, timeout_milliseconds
     from net.http_request_queue where id = current_setting('standin.id')::bigint $$,
  $$ values ('GET'::text, 'http://localhost:9/'::text, '{}'::jsonb, null::bytea, 5000) $$,
  'a request waits with its defaults, and its url has a path'
);
select ok(
  net.http_get('http://localhost:9') = current_setting('standin.id')::bigint + 1, 'ids come from one sequence'
);
select set_config('standin.id', net.http_post('http://localhost:9/x?a=1', '{"b": "ä"}', '{"q": "r s&t"}')::text, true);
select results_eq(
  $$ select method::text, url, headers, convert_from(body, 'UTF8') collate "default"
     from net.http_request_queue where id = current_setting('standin.id')::bigint $$,
  $$ values ('POST'::text, 'http://localhost:9/x?a=1&q=r%20s%26t'::text, '{"Content-Type": "application/json"}'::jsonb,
       '{"b": "ä"}'::text) $$,
  'a body is the text of the jsonb, and parameters are encoded and appended'
);
select set_config('standin.id', net.http_post('http://localhost:9', headers := '{"X-Own": "1"}')::text, true);
select is(
  (select headers from net.http_request_queue where id = current_setting('standin.id')::bigint),
  '{"X-Own": "1", "Content-Type": "application/json"}'::jsonb, 'a missing content type is added to own headers'
);
select lives_ok(
  $$ select net.http_post('http://localhost:9', headers := '{"content-type": "application/json"}') $$,
  'the name of the content type may be in lower case'
);
select throws_ok(
  format($$ select net.http_post('http://localhost:9', headers := jsonb_build_object('Content-Type', %L)) $$, type),
  'P0001', 'Content-Type header must be "application/json"', format('content type %L is refused', type)
)
from unnest(array['application/json; charset=utf-8', 'application/x-www-form-urlencoded', 'text/plain']) as type;
select set_config('standin.id', net.http_delete('http://localhost:9', body := '{"a": 1}')::text, true);
select results_eq(
  $$ select method::text, convert_from(body, 'UTF8') collate "default"
     from net.http_request_queue where id = current_setting('standin.id')::bigint $$,
  $$ values ('DELETE'::text, '{"a": 1}'::text) $$,
  'a DELETE may have a body'
);
select is(
  net._urlencode_string('aZ09-._~ /?&=+%ü'), 'aZ09-._~%20%2F%3F%26%3D%2B%25%C3%BC',
  'everything but letters, digits and -._~ is encoded'
);
select is(net._urlencode_string(''), '', 'an empty string stays empty');
select is(net._urlencode_string(null), null, 'null stays null');

-- Refusals
select throws_ok(
  format('select net.http_get(%L)', url), 'XX000', format('invalid URL "%s": %s', url, reason),
  format('url %L is refused', url)
)
from (values
  ('localhost:9', 'Unsupported URL scheme'),
  ('/malformed', 'Bad scheme'),
  ('http://', 'No host part in the URL'),
  ('http://host:99999/', 'Port number was not a decimal number between 0 and 65535')
) as bad (url, reason);
-- In which words depends on the version of libcurl.
select throws_matching(
  $$ select net.http_get('http://host/a b') $$,
  '^invalid URL "http://host/a b": (Malformed input to a URL function|Bad path)$', 'a url with a space is refused'
);
select throws_ok(
  format('select net.%s', call), '23502', null, format('net.%s: a url may not be null', call)
)
from unnest(array['http_get(null)', 'http_post(null, ''{}'')', 'http_delete(null)']) as call;
select throws_ok(
  $$ select net.http_get('http://localhost:9', timeout_milliseconds := null) $$, '23502', null,
  'a timeout may not be null'
);
select throws_ok(
  $$ insert into net.http_request_queue (method, url, timeout_milliseconds) values ('PUT', 'http://localhost:9', 1) $$,
  '23514', 'value for domain net.http_method violates check constraint "http_method_check"', 'PUT is refused'
);
select lives_ok(
  $$ insert into net.http_request_queue (method, url, timeout_milliseconds) values ('get', 'http://localhost:9', 1) $$,
  'any login role may write to the queue by hand'
);
select throws_ok(
  $$ select net.http_collect_response(1) $$, '42601', 'query has no destination for result data',
  'http_collect_response is broken, as in the real one'
);
select is(
  (net._http_collect_response(-1)).message, 'request matching request_id not found', 'an unknown request has no response'
);

-- Everybody sees everything
reset role;
select net.http_post('http://localhost:9', headers := '{"Authorization": "Bearer secret"}');
insert into net._http_response (id, status_code, content) values (-7, 200, 'private');
set local role standin_anybody;
select isnt_empty(
  $$ select from net.http_request_queue where headers ->> 'Authorization' = 'Bearer secret' $$,
  'any login role reads the headers of waiting requests'
);
select isnt_empty(
  $$ select from net._http_response where content = 'private' $$, 'any login role reads all responses'
);
select is(
  (select status || ' ' || (response).body from net._http_collect_response(-7)), 'SUCCESS private',
  'a response is collected by its id'
);
reset role;
create role standin_api nologin;
select ok(has_schema_privilege('standin_api', 'net', 'usage'), 'PUBLIC has usage on the schema');
select ok(
  has_function_privilege('standin_api', 'net.http_get(text, jsonb, jsonb, int)', 'execute'),
  'PUBLIC may execute http_get'
);

select * from finish();
rollback;
