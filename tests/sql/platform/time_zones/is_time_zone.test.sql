begin;
select plan(4);

select bag_eq($$ select z from unnest(array['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'America/New_York']) z where private.is_time_zone(z) $$,
  array['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'America/New_York'], 'IANA names are time zones');
select is_empty($$ select z from unnest(array['FOO5', 'UTC+3', 'berlin', '', 'Europe/Berlin ', 'localtime', 'posix/Europe/Berlin', null]) z
  where private.is_time_zone(z) $$, 'what Postgres also takes, but no user means, is none');
select throws_ok($$ insert into public.tenants (slug, name, time_zone) values ('somewhere', 'Somewhere', 'UTC+3') $$, '22023', null,
  'a tenant with such a zone is refused');
select lives_ok($$ insert into public.tenants (slug, name, time_zone) values ('somewhere', 'Somewhere', 'Asia/Kolkata') $$,
  'one with a real zone is not');

select * from finish();
rollback;
