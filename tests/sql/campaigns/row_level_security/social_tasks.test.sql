begin;
select plan(18);
select tests.two_tenants();
select tests.task('pizza', 'pizza campaign', 'pizza hidden task');
update public.social_tasks set active = false where id = tests.id('pizza hidden task');

select is(tests.sees(who, 'public.social_tasks', 'pizza'), rows, format('%s sees %s tasks', who, rows))
from (values ('pizza owner', '2'), ('pizza viewer', '2'), ('pizza participant', '1'), ('gym owner', '0'), ('gym participant', '0'),
  ('stranger', '0'), ('anon', '42501')) as e (who, rows);

create function pg_temp.insert_as(p_who text, p_post text default '17900000000000001') returns text language sql as $$
  select tests.rows(p_who, format('insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id) values (%L, %L, ''facebook_comment'', ''New'', %L)',
    tests.id('pizza'), tests.id('pizza campaign'), p_post))
$$;
select is(pg_temp.insert_as('pizza member'), '1', 'a member adds a task');
select is(pg_temp.insert_as('pizza viewer'), '42501', 'a viewer does not');
select is(pg_temp.insert_as('gym owner'), '42501', 'another tenant''s owner does not');
select is(pg_temp.insert_as('pizza member', '1/../me'), '23514', 'a post id that would change the path of a request is refused');
select is(tests.rows('pizza member', 'update public.social_tasks set reward_spins = 5'), '3', 'a member changes tasks');
select is(tests.rows('pizza member', 'update public.social_tasks set reward_spins = 1001'), '23514', 'within bounds');
select is(tests.rows('pizza member', format('update public.social_tasks set campaign_id = %L', tests.id('gym campaign'))), '42501', 'nobody moves a task to another campaign');
select is(tests.rows('gym owner', format('update public.social_tasks set reward_spins = 9 where tenant_id = %L', tests.id('pizza'))), '0', 'another tenant''s owner changes none');
select is(tests.rows('pizza participant', 'update public.social_tasks set reward_spins = 9'), '0', 'a participant changes none');
select is(tests.rows('pizza member', 'delete from public.social_tasks'), '0', 'a member deletes none');
select is(tests.rows('pizza admin', 'delete from public.social_tasks'), '3', 'an admin does');

select * from finish();
rollback;
