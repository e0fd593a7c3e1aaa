-- One user in several tenants: the list, the preference, and the claim, none of which is a right.
begin;
select plan(21);
select tests.two_tenants();
select tests.member('gym', 'pizza viewer', 'admin');

create function pg_temp.tenants_of(p_who text) returns text language sql as $$
  select tests.answer(p_who, $q$ select string_agg(concat(slug, ' ', role, case when is_active then '*' end), ', ' order by slug) from public.my_tenants() $q$)
$$;
create function pg_temp.choose(p_who text, p_slug text) returns text language sql as $$
  select coalesce(tests.error_of(p_who, format('select public.set_active_tenant(%L)', tests.id(p_slug))), 'done')
$$;
-- As Auth asks.
create function pg_temp.hook(p_event jsonb) returns jsonb language plpgsql as $$
declare
  v_answer jsonb;
begin
  set local role supabase_auth_admin;
  v_answer := private.custom_access_token(p_event);
  reset role;
  return v_answer;
end
$$;
create function pg_temp.claim(p_who text) returns text language plpgsql as $$
declare
  v_answer jsonb := pg_temp.hook(jsonb_build_object('user_id', tests.id(p_who), 'authentication_method', 'password',
    'claims', jsonb_build_object('sub', tests.id(p_who), 'role', 'authenticated')));
begin
  return coalesce(v_answer #>> '{claims,active_tenant}', 'none') || case when v_answer #>> '{claims,role}' = 'authenticated' then '' else ' and the rest is lost' end;
end
$$;

select is(pg_temp.tenants_of('pizza viewer'), 'gym admin, pizza viewer', 'a user sees the own tenants with the role in each');
select is(pg_temp.tenants_of('stranger'), null, 'a stranger sees none');
select is(pg_temp.tenants_of('pizza participant'), null, 'nor does a participant');
select is(pg_temp.tenants_of('anon'), '42501', 'anon is refused');

select is(pg_temp.choose('pizza viewer', 'gym'), 'done', 'the user chooses one');
select is(pg_temp.tenants_of('pizza viewer'), 'gym admin*, pizza viewer', 'and the list says so');
select is(pg_temp.claim('pizza viewer'), tests.id('gym')::text, 'so does the next token');
select is(pg_temp.choose('pizza viewer', 'pizza'), 'done', 'then the other');
select is(pg_temp.claim('pizza viewer'), tests.id('pizza')::text, 'and the token follows');
select is(tests.sees('pizza viewer', 'public.campaigns', 'gym') || tests.sees('pizza viewer', 'public.campaigns', 'pizza'), '11', 'what the user may do does not depend on it');
select is(pg_temp.choose('pizza owner', 'gym'), pg_temp.choose('pizza owner', 'no such tenant'), 'another''s tenant cannot be chosen, as if it did not exist');
select matches(pg_temp.choose('anon', 'gym'), '^42501', 'anon chooses nothing');
select is(pg_temp.claim('pizza owner'), tests.id('pizza')::text, 'who has not chosen gets the one that there is');
select is(pg_temp.claim('stranger'), 'none', 'who has none gets no claim');

delete from public.memberships where user_id = tests.id('pizza viewer') and tenant_id = tests.id('pizza');
select is(pg_temp.claim('pizza viewer'), tests.id('gym')::text, 'a choice ends with the membership');
update public.tenants set status = 'closed' where slug = 'gym';
select is(pg_temp.claim('pizza viewer'), 'none', 'a closed tenant is not chosen');

-- The hook is Auth's, and never stands in the way of a token.
select is(pg_temp.hook('{"user_id": "not a uuid", "claims": {"sub": "x"}}'), '{"user_id": "not a uuid", "claims": {"sub": "x"}}'::jsonb, 'what it does not understand it leaves as it is');
select is(tests.answer(who, $$ select private.custom_access_token('{}') $$), '42501', who || ' does not call it') from unnest(array['pizza owner', 'anon', 'service_role']) who;
select is(tests.answer('pizza owner', 'select count(*) from private.active_tenants'), '42501', 'nobody reads what others chose');

select * from finish();
rollback;
