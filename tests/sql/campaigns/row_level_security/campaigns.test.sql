begin;
select plan(22);
select tests.two_tenants();
select tests.campaign('pizza', 'pizza draft', 'draft');

select is(tests.sees(who, 'public.campaigns', 'pizza'), rows, format('%s sees %s campaigns', who, rows))
from (values ('pizza owner', '2'), ('pizza admin', '2'), ('pizza member', '2'), ('pizza viewer', '2'), ('pizza participant', '1'),
  ('gym owner', '0'), ('gym participant', '0'), ('stranger', '0'), ('anon', '42501')) as e (who, rows);

create function pg_temp.insert_as(p_who text, p_slug text) returns text language sql as $$
  select tests.rows(p_who, format('insert into public.campaigns (tenant_id, name, time_zone) values (%L, ''New'', ''Europe/Rome'')', tests.id(p_slug)))
$$;
select is(pg_temp.insert_as('pizza member', 'pizza'), '1', 'a member adds a campaign');
select is(pg_temp.insert_as('pizza viewer', 'pizza'), '42501', 'a viewer does not');
select is(pg_temp.insert_as('pizza participant', 'pizza'), '42501', 'a participant does not');
select is(pg_temp.insert_as('gym owner', 'pizza'), '42501', 'another tenant''s owner does not');
select is(pg_temp.insert_as('anon', 'pizza'), '42501', 'anon does not');
select is(tests.rows('gym owner', format('insert into public.campaigns (tenant_id, name) values (%L, ''Own''), (%L, ''Other'')', tests.id('gym'), tests.id('pizza'))),
  '42501', 'of two rows one of which is another tenant''s none is written');
select is(tests.sees('gym owner', 'public.campaigns', 'gym'), '1', 'not even the own one');
select is(tests.rows('pizza member', 'insert into public.campaigns (tenant_id, id, name) values (' || quote_literal(tests.id('pizza')) || ', gen_random_uuid(), ''x'')'),
  '42501', 'nobody chooses an id');

select is(tests.rows('pizza member', 'update public.campaigns set name = ''Changed'''), '3', 'a member changes campaigns');
select is(tests.rows('gym owner', format('update public.campaigns set name = ''x'' where tenant_id = %L', tests.id('pizza'))), '0', 'another tenant''s owner changes none');
select is(tests.rows('pizza participant', 'update public.campaigns set name = ''x'''), '0', 'a participant changes none');
select is(tests.rows('pizza member', 'delete from public.campaigns'), '0', 'a member deletes none');
select is(tests.rows('pizza admin', 'delete from public.campaigns'), '3', 'an admin does');

select * from finish();
rollback;
