-- A call that runs with its owner's rights sees all columns of a row that is refused. The error must not tell them.
begin;
select plan(10);
select tests.two_tenants();

-- What the Data API answers as details.
create function pg_temp.details(p_who text, p_query text) returns text language plpgsql as $$
declare
  v_code text;
  v_details text;
begin
  perform tests.log_in(p_who);
  execute p_query;
  return 'no error';
exception when others then
  get stacked diagnostics v_code = returned_sqlstate, v_details = pg_exception_detail;
  perform tests.log_out();
  return v_code || ' ' || v_details;
end
$$;
-- The control: an error that nobody takes the details from.
select matches(pg_temp.details('service_role', $$ update public.invitations set email = '' $$), 'Failing row contains', 'a refused row is told by default');
select tests.log_out();
select is(pg_temp.details(who, query), code || ' ', format('%s: %s', what, code))
from (values
  ('an address that is none', 'pizza owner', format('select public.invite_member(%L, ''nobody'')', tests.id('pizza')), '23514'),
  ('no address', 'pizza owner', format('select public.invite_member(%L, null)', tests.id('pizza')), '23502'),
  ('a kind of another provider', 'pizza admin', format($q$ select public.set_credential(%L, 'stripe', 'resend', '{"api_key": "abc"}') $q$, tests.id('pizza')), '23514'),
  ('no kind', 'pizza admin', format($q$ select public.set_credential(%L, 'stripe', null, '{"api_key": "abc"}') $q$, tests.id('pizza')), '23502'),
  ('a reserved slug', 'stranger', 'select public.create_tenant(''Shop'', ''admin'')', '23514'),
  ('no slug', 'stranger', 'select public.create_tenant(''Shop'', null)', '23502'),
  ('a name of spaces', 'stranger', format('select public.join_campaign(%L, %L, ''  '')', tests.id('pizza'), tests.id('pizza campaign')), '23514'),
  ('no name', 'stranger', format('select public.join_campaign(%L, %L, null)', tests.id('pizza'), tests.id('pizza campaign')), '23502')
) as e (what, who, query, code);
-- Rows that people write themselves are behind row-level security, which leaves the details out.
select is(pg_temp.details('pizza owner', 'update public.tenants set name = ''  '''), '23514 ', 'a setting that is not allowed');

select * from finish();
rollback;
