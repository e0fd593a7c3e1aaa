begin;
select plan(18);
select tests.two_tenants();
select tests.participant('pizza', 'second participant');

select is(tests.sees(who, 'public.participants', 'pizza'), rows, format('%s sees %s participants', who, rows))
from (values ('pizza owner', '2'), ('pizza viewer', '2'), ('pizza participant', '1'), ('second participant', '1'), ('gym owner', '0'),
  ('gym participant', '0'), ('stranger', '0'), ('anon', '42501')) as e (who, rows);
select tests.participant('gym', 'second participant');
select is(tests.rows('second participant', 'select from public.participants'), '2', 'who takes part with two tenants sees both of the own rows');

select is(tests.rows('pizza participant', 'update public.participants set display_name = ''Me'''), '1', 'a participant changes the own details and no others');
select is(tests.answer('pizza owner', format('select display_name from public.participants where tenant_id = %L and id = %L', tests.id('pizza'), tests.id('pizza/second participant'))),
  'second participant', 'the other one''s are as they were');
select is(tests.rows('pizza owner', 'update public.participants set display_name = ''x'''), '0', 'an owner of the tenant does not change them');
select is(tests.rows('pizza participant', format('update public.participants set user_id = %L', tests.id('stranger'))), '42501', 'nobody hands a participant to another user');
select is(tests.rows('stranger', format('insert into public.participants (tenant_id, user_id, display_name) values (%L, %L, ''x'')', tests.id('pizza'), tests.id('stranger'))),
  '42501', 'nobody joins past the function');
select is(tests.rows('pizza participant', 'delete from public.participants'), '42501', 'nobody deletes participants');

-- Handles are kept as they are compared.
select tests.rows('pizza participant', 'update public.participants set instagram_username = '' @Pizza.Fan '', phone = ''+49 (170) 123-4568''');
select is(tests.answer('pizza participant', 'select instagram_username || '' '' || phone from public.participants'), 'pizza.fan +491701234568',
  'a user name loses its @ and capitals, a phone number its punctuation');
select is(tests.rows('pizza participant', 'update public.participants set phone = ''0170 1234567'''), '23514', 'a phone number without its country is refused');
select is(tests.rows('pizza participant', 'update public.participants set phone = null'), '23514', 'who agreed to messages cannot drop the number alone');

select * from finish();
rollback;
