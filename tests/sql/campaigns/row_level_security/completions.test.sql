begin;
select plan(19);
select tests.two_tenants();
select tests.participant('pizza', 'second participant');

select is(tests.sees(who, t, 'pizza'), rows, format('%s sees %s rows of %s', who, rows, t))
from (values ('pizza owner', '1'), ('pizza viewer', '1'), ('pizza participant', '1'), ('second participant', '0'), ('gym owner', '0'),
  ('gym participant', '0'), ('anon', '42501')) as e (who, rows),
  unnest(array['public.completions', 'public.spin_ledger']) t;

-- Claims are written by claim_task and by the engine only.
select is(tests.rows(who, command), '42501', format('%s: %s is refused', who, command))
from (values
  ('pizza participant', 'update public.completions set status = ''verified'', verified_at = now()'),
  ('pizza owner', 'update public.completions set status = ''verified'', verified_at = now()'),
  ('pizza owner', 'delete from public.completions'),
  ('pizza owner', 'update public.spin_ledger set spins = 100'),
  ('service_role', 'update public.spin_ledger set spins = 100')) as e (who, command);

select * from finish();
rollback;
