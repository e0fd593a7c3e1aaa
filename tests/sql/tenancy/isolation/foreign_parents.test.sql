-- Children with another tenant's parent: refused, and in the same words as for a parent that does not exist.
begin;
select plan(5);
select tests.two_tenants();

create function pg_temp.add_task(p_tenant text, p_campaign text) returns text language sql as $$
  select tests.error_of('gym owner', format(
    'insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id) values (%L, %L, ''instagram_comment'', ''t'', ''1'')',
    tests.id(p_tenant), tests.id(p_campaign)))
$$;

select is(pg_temp.add_task('gym', 'gym campaign'), null, 'a task in an own campaign is added');
select matches(pg_temp.add_task('gym', 'pizza campaign'), '^23503', 'a task of the own tenant in another tenant''s campaign is refused');
select is(pg_temp.add_task('gym', 'pizza campaign'), pg_temp.add_task('gym', 'no campaign at all'), 'as if that campaign did not exist');
select matches(pg_temp.add_task('pizza', 'pizza campaign'), '^42501', 'a task of another tenant is refused');
select is(pg_temp.add_task('pizza', 'pizza campaign'), pg_temp.add_task('no tenant at all', 'pizza campaign'), 'as if that tenant did not exist');

select * from finish();
rollback;
