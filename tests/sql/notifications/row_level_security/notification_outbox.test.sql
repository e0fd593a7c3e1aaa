begin;
select plan(11);
select tests.two_tenants();
select tests.participant('pizza', 'second participant');

select is(tests.sees(who, 'public.notification_outbox', 'pizza'), rows, format('%s sees %s messages', who, rows))
from (values ('pizza owner', '1'), ('pizza viewer', '1'), ('pizza participant', '1'), ('second participant', '0'), ('gym owner', '0'),
  ('gym participant', '0'), ('anon', '42501')) as e (who, rows);
select is(tests.rows('pizza owner', 'update public.notification_outbox set body = ''x'''), '42501', 'an owner changes no message');
select is(tests.rows('pizza owner', 'delete from public.notification_outbox'), '42501', 'and deletes none');
select is(tests.rows('pizza participant', 'update public.notification_outbox set recipient = ''+15550000000'''), '42501', 'a participant redirects none');
select is(tests.rows('pizza owner', format(
  'insert into public.notification_outbox (tenant_id, campaign_id, participant_id, completion_id, kind, body) values (%L, %L, %L, gen_random_uuid(), ''congratulation'', ''x'')',
  tests.id('pizza'), tests.id('pizza campaign'), tests.id('pizza/pizza participant'))), '42501', 'nobody writes one past the engine');

select * from finish();
rollback;
