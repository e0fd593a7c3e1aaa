-- The same person as a participant of two tenants: two rows, and nobody but the person can tell that they are one's.
begin;
select plan(16);
select tests.two_tenants();
select tests.participant('pizza', 'carla');
select tests.participant('gym', 'carla');

select is(tests.rows('carla', 'select from public.participants'), '2', 'the person sees both');
select is(tests.rows('pizza owner', 'select from public.participants where display_name = ''carla'''), '1', 'a tenant sees its own');
select is(tests.sees('pizza owner', 'public.participants', 'gym'), '0', 'and none of the other''s');
select isnt(tests.id('pizza/carla'), tests.id('gym/carla'), 'the two have different ids');
select is(tests.rows('pizza owner', format('select from public.participants where id = %L', tests.id('gym/carla'))), '0', 'the other''s id finds nothing');
select is(tests.rows('pizza owner', format('select from public.completions c join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id where p.id = %L and p.tenant_id = %L',
  tests.id('gym/carla'), tests.id('gym'))), '0', 'nor does the way over completions');
select is(tests.rows('gym owner', format('select from public.memberships where user_id = %L', tests.id('carla'))), '0', 'a participant is no member');
select is(tests.rows('carla', $$ update public.participants set display_name = 'Carla' where tenant_id = (select tests.id('pizza')) $$), '1', 'the person changes the one');
select is((select display_name from public.participants where id = tests.id('gym/carla')), 'carla', 'and the other stays');
-- A user name that one tenant has is free in another: nobody learns from an error where else somebody takes part.
select is(tests.rows('carla', $$ update public.participants set instagram_username = 'carla.eats' where tenant_id = tests.id('gym') $$), '1', 'she gives one her user name');
select is(tests.rows('pizza participant', $$ update public.participants set instagram_username = 'carla.eats' $$), '1', 'and it is not taken in the other');
select is(tests.sees('carla', 'public.participants', 'pizza') || tests.sees('stranger', 'public.participants', 'pizza'), '10', 'a stranger sees neither');

-- Who works for both, or compares lists, would find the same user in both.
select tests.member('gym', 'pizza owner', 'viewer');
select is(tests.rows('pizza owner', $$ select id from public.participants where display_name ilike 'carla' $$), '2', 'who works for both tenants sees both rows,');
select is(tests.rows(who, 'select user_id from public.participants'), '42501', format('%s does not see which user signs in', who)) from unnest(array['pizza owner', 'gym owner', 'carla']) who;

select * from finish();
rollback;
