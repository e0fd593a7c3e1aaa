begin;
select plan(6);
select tests.two_tenants();

-- Called by functions that run with their owner's rights; the caller of the request is what counts.
create function pg_temp.asks(p_person text, p_tenant_id uuid, p_role text) returns text language plpgsql as $$
begin
  perform set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', tests.id(p_person))::text, true);
  perform private.require_role(p_tenant_id, p_role::public.member_role);
  return 'passes';
exception when others then
  return sqlstate || ': ' || sqlerrm;
end
$$;

select is(pg_temp.asks('pizza admin', tests.id('pizza'), 'admin'), 'passes', 'an admin passes where an admin is asked for');
select is(pg_temp.asks('pizza owner', tests.id('pizza'), 'admin'), 'passes', 'so does an owner');
select matches(pg_temp.asks('pizza member', tests.id('pizza'), 'admin'), '^42501', 'a member does not');
select matches(pg_temp.asks('pizza owner', null, 'viewer'), '^42501', 'nobody passes without a tenant');
select is(pg_temp.asks('gym owner', tests.id('pizza'), 'viewer'), pg_temp.asks('gym owner', tests.id('no such tenant'), 'viewer'),
  'another tenant and one that does not exist get the same answer');
select is(pg_temp.asks('pizza member', tests.id('pizza'), 'owner'), pg_temp.asks('stranger', tests.id('pizza'), 'owner'),
  'a low role and no role get the same answer');

select * from finish();
rollback;
