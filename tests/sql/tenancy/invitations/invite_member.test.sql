begin;
select no_plan();
select tests.two_tenants();

create function pg_temp.invite(p_who text, p_email text, p_role text default 'member', p_days integer default 7, p_slug text default 'pizza') returns jsonb language plpgsql as $$
declare
  v_answer jsonb;
begin
  perform tests.log_in(p_who);
  v_answer := public.invite_member(tests.id(p_slug), p_email, p_role::public.member_role, p_days);
  perform tests.log_out();
  return v_answer;
exception when others then
  perform tests.log_out();
  return jsonb_build_object('error', sqlstate);
end
$$;
create function pg_temp.error(p_answer jsonb) returns text language sql as $$ select coalesce(p_answer ->> 'error', 'invited') $$;

-- Who may invite as what.
select is(pg_temp.error(pg_temp.invite(who, 'new@example.test', role)), answer, format('%s invites as %s: %s', who, role, answer))
from (values ('pizza owner', 'owner', 'invited'), ('pizza owner', 'viewer', 'invited'), ('pizza admin', 'admin', 'invited'), ('pizza admin', 'owner', '42501'),
  ('pizza member', 'viewer', '42501'), ('pizza viewer', 'viewer', '42501'), ('pizza participant', 'viewer', '42501'), ('gym owner', 'viewer', '42501'),
  ('stranger', 'viewer', '42501'), ('anon', 'viewer', '42501'), ('service_role', 'owner', 'invited')) as t (who, role, answer);
select is(pg_temp.error(pg_temp.invite('pizza owner', 'new@example.test', null)), '22023', 'a role must be named');
select is(pg_temp.error(pg_temp.invite('pizza owner', 'new@example.test', 'viewer', days)), '22023', format('%s days are refused', coalesce(days::text, 'null')))
from unnest(array[0, -1, 31, null]) days;
select isnt(pg_temp.error(pg_temp.invite('pizza owner', email)), 'invited', format('the address "%s" is refused', email))
from unnest(array['', 'nobody', 'a@b@c', 'a b@c', E'a@b\nBcc: c@d', E'\u202Ea@b', repeat('a', 250) || '@b.co', null]) email;

-- What is kept of it.
create table pg_temp.made as select pg_temp.invite('pizza admin', '  New.Person@EXAMPLE.test ', 'viewer') as invitation;
select is(invitation ->> 'email', 'new.person@example.test', 'an address has one spelling') from pg_temp.made;
select matches(invitation ->> 'token', '^inv_[0-9a-f]{64}$', 'the token comes back once') from pg_temp.made;
select is((invitation ->> 'expires_at')::timestamptz, now() + interval '7 days', 'it is valid for seven days') from pg_temp.made;
select is(i.token_hash, encode(sha256(convert_to(m.invitation ->> 'token', 'UTF8')), 'hex'), 'its hash is kept')
from pg_temp.made m join public.invitations i on i.id = (m.invitation ->> 'invitation_id')::uuid;
select is_empty($$ select from pg_temp.made m, public.invitations i where i::text like '%' || (m.invitation ->> 'token') || '%'
  union all select from pg_temp.made m, public.audit_log a where a::text like '%' || (m.invitation ->> 'token') || '%' $$, 'and nothing but the hash');
select is((select actor_id from public.audit_log where action = 'invitation.created' and detail ->> 'email' = 'new.person@example.test'), tests.id('pizza admin'), 'the audit log knows');
select is(tests.answer('pizza admin', 'select token_hash from public.invitations'), '42501', 'admins see the invitations, but not the hash');
select is(tests.rows('pizza admin', 'select id from public.invitations where email = ''new.person@example.test'''), '1', 'they see who is invited');
select is(tests.rows(who, 'select id from public.invitations where email = ''new.person@example.test'''), '0', who || ' does not')
from unnest(array['pizza member', 'gym owner', 'stranger']) who;

select is(pg_temp.error(pg_temp.invite('pizza owner', 'new.person@example.test', 'member')), 'invited', 'an address that is invited again');
select is((select string_agg(role::text, ' ') from public.invitations where email = 'new.person@example.test' and revoked_at is null), 'member', 'has one invitation, the new one');
select is(pg_temp.error(pg_temp.invite('gym owner', 'new.person@example.test', 'member', 7, 'gym')), 'invited', 'another tenant invites the same person');
select is((select count(*) from public.invitations where email = 'new.person@example.test' and revoked_at is null), 2::bigint, 'and the two know nothing of each other');

-- Taking it back.
create function pg_temp.revoke(p_who text, p_slug text, p_invitation text) returns text language sql as $$
  select tests.answer(p_who, format('select public.revoke_invitation(%L, %L)', tests.id(p_slug), tests.id(p_invitation)))
$$;
select is(pg_temp.revoke(who, 'pizza', 'pizza/pizza-newcomer@example.test'), '42501', who || ' revokes no invitation')
from unnest(array['pizza member', 'gym owner', 'stranger', 'anon']) who;
select is(pg_temp.revoke('gym owner', 'gym', 'pizza/pizza-newcomer@example.test'), 'false', 'nor is another tenant''s found under the own');
select is(pg_temp.revoke('pizza admin', 'pizza', 'pizza/pizza-newcomer@example.test'), 'true', 'an admin does');
select is(pg_temp.revoke('pizza admin', 'pizza', 'pizza/pizza-newcomer@example.test'), 'false', 'once');

select * from finish();
rollback;
