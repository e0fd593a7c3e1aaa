-- An invitation works once, for the invited address, proven to be the user's; everything else gets one and the same answer.
begin;
select no_plan();
select tests.two_tenants();

create function pg_temp.confirmed(p_name text, p_email text) returns void language plpgsql as $$
begin
  perform tests.person(p_name);
  update auth.users set email = p_email, email_confirmed_at = now() where id = tests.id(p_name);
end
$$;
-- The answer and the status that the Data API gives it.
create function pg_temp.accept(p_who text, p_token text) returns text language plpgsql as $$
declare
  v_answer jsonb;
  v_status text;
begin
  perform set_config('response.status', '', true);
  perform tests.log_in(p_who);
  v_answer := public.accept_invitation(p_token);
  v_status := coalesce(nullif(current_setting('response.status', true), ''), '200');
  perform tests.log_out();
  return v_status || ' ' || v_answer::text;
exception when others then
  perform tests.log_out();
  return sqlstate;
end
$$;
select pg_temp.confirmed('other', 'other@example.test');
create table pg_temp.refused as select pg_temp.accept('other', 'token of nobody') as answer;

select matches(answer, '^404 .*PT404', 'a token that never was is refused') from pg_temp.refused;
select is(pg_temp.accept('other', null), answer, 'so is none at all') from pg_temp.refused;
select is(pg_temp.accept('other', 'token of pizza-newcomer@example.test'), answer, 'another address gets the same answer') from pg_temp.refused;
select is(pg_temp.accept('stranger', 'token of pizza-newcomer@example.test'), answer, 'so does an address that is not confirmed') from pg_temp.refused;
update auth.users set email = 'pizza-newcomer@example.test', email_confirmed_at = null where id = tests.id('stranger');
select is(pg_temp.accept('stranger', 'token of pizza-newcomer@example.test'), answer, 'also when it is the invited one') from pg_temp.refused;
update auth.users set email = 'stranger@example.test' where id = tests.id('stranger');
select pg_temp.confirmed('newcomer', 'pizza-newcomer@example.test');
select pg_temp.confirmed('look-alike', 'ｐizza-newcomer@example.test');
select is(pg_temp.accept('look-alike', 'token of pizza-newcomer@example.test'), answer, 'and one that only looks like it') from pg_temp.refused;
select is(pg_temp.accept('anon', 'token of pizza-newcomer@example.test'), '42501', 'anon accepts nothing');

-- Invitations that are not valid any more, for the rightful person.
create function pg_temp.spoilt(p_change text) returns text language plpgsql as $$
declare
  v_answer text;
begin
  execute p_change;
  v_answer := pg_temp.accept('newcomer', 'token of pizza-newcomer@example.test');
  raise exception using errcode = 'ZZ000', message = v_answer;
exception when sqlstate 'ZZ000' then
  return sqlerrm;
end
$$;
select is(pg_temp.spoilt(change), answer, what || ' gets the same answer')
from pg_temp.refused, (values
  ($$ update public.invitations set created_at = now() - interval '8 days', expires_at = now() - interval '1 second' $$, 'one that has expired'),
  ($$ update public.invitations set revoked_at = now() $$, 'one that was revoked'),
  ($$ update public.invitations set accepted_at = now(), accepted_by = tests.id('other') $$, 'one that was used'),
  ($$ update public.tenants set status = 'closed' $$, 'one to a closed tenant'),
  ($$ update public.tenants set status = 'suspended' $$, 'one to a suspended tenant'),
  ($$ select tests.member('pizza', 'heir', 'owner'); delete from public.memberships where user_id = tests.id('pizza owner') $$, 'one of somebody who was removed since'),
  ($$ select tests.member('pizza', 'heir', 'owner'); update public.memberships set role = 'member' where user_id = tests.id('pizza owner') $$, 'one of somebody who could not invite any more'),
  ($$ update public.invitations set role = 'owner', invited_by = tests.id('pizza admin') $$, 'one to more than the inviter has'),
  ($$ delete from public.invitations $$, 'one that is gone')) as s (change, what);
select is_empty($$ select from public.memberships where user_id in (select tests.id(n) from unnest(array['newcomer', 'other', 'stranger', 'look-alike']) n) $$,
  'nobody has become a member by all that');

-- The rightful way.
select is(pg_temp.accept('newcomer', 'token of pizza-newcomer@example.test')::text,
  '200 ' || jsonb_build_object('tenant_id', tests.id('pizza'), 'slug', 'pizza', 'name', 'Pizza', 'role', 'member')::text, 'the invited person accepts');
select is(tests.rows('newcomer', 'update public.campaigns set name = name'), '1', 'and is a member');
select is(tests.sees('newcomer', 'public.campaigns', 'gym'), '0', 'of that tenant only');
select is(pg_temp.accept('newcomer', 'token of pizza-newcomer@example.test'), answer, 'once') from pg_temp.refused;
select is((select actor_id from public.audit_log where action = 'invitation.accepted'), tests.id('newcomer'), 'the audit log knows');

-- Members who are invited again.
select pg_temp.confirmed('pizza admin', 'admin@example.test');
select pg_temp.confirmed('pizza viewer', 'viewer@example.test');
select tests.invitation('pizza', 'admin@example.test', 'viewer', 'pizza owner');
select tests.invitation('pizza', 'viewer@example.test', 'owner', 'pizza owner');
select matches(pg_temp.accept('pizza admin', 'token of admin@example.test'), '"role": "admin"', 'an admin who accepts to be a viewer stays admin');
select matches(pg_temp.accept('pizza viewer', 'token of viewer@example.test'), '"role": "owner"', 'a viewer who accepts to be an owner is one');

-- Tries are counted, also those that were refused.
select is(cardinality(taken), 3, 'the tries of a user are counted') from private.rate_windows where key = 'accept_invitation/' || tests.id('other');

select * from finish();
rollback;
