-- The time-outs that the roles of the Data API have. Which of them apply when: docs/tenancy.md, "Limits".
begin;
select plan(3);

create function pg_temp.setting_of(p_role text, p_setting text) returns interval language sql as $$
  select substring(c from '=(.*)')::interval
  from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c
  where s.setrole = p_role::regrole and s.setdatabase = 0 and c like p_setting || '=%'
$$;

select ok(pg_temp.setting_of('authenticator', 'statement_timeout') <= interval '8 seconds', 'a statement of the Data API ends after eight seconds at the latest');
select ok(pg_temp.setting_of('authenticator', 'lock_timeout') <= interval '8 seconds', 'so does waiting for a lock');
select ok(pg_temp.setting_of('anon', 'statement_timeout') <= interval '3 seconds' and pg_temp.setting_of('authenticated', 'statement_timeout') <= interval '8 seconds',
  'and PostgREST applies what the roles have of their own');

select * from finish();
rollback;
