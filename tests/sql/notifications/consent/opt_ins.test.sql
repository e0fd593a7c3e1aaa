-- The ledger of consent: every change has its entry, whoever makes it; nobody changes an entry.
begin;
select plan(46);
select tests.two_tenants();
create function pg_temp.last(p_name text default 'pizza/pizza participant') returns public.opt_ins language sql as $$
  select o from public.opt_ins o where o.participant_id = tests.id(p_name) order by o.position desc limit 1
$$;
create function pg_temp.entries() returns bigint language sql as $$ select count(*) from public.opt_ins where tenant_id = tests.id('pizza') $$;

-- By joining
select is((pg_temp.last()).granted || ' ' || (pg_temp.last()).channel || ' ' || (pg_temp.last()).category, 'true whatsapp all', 'who was added with a consent has an entry');
select tests.log_in('stranger');
select set_config('request.headers', '{"x-forwarded-for": "203.0.113.7, 10.0.0.1", "user-agent": "Browser/1"}', true);
select public.join_campaign(tests.id('pizza'), tests.id('pizza campaign'), 'Stranger', '+15550002222', whatsapp_opt_in => true);
select tests.log_out();
create table pg_temp.joined as select o.* from public.opt_ins o join public.participants p on p.id = o.participant_id where p.user_id = tests.id('stranger');
create function pg_temp.origin(p_person text) returns text language sql as $$
  select host(g.ip) || ' ' || g.user_agent from private.opt_in_origins g join public.opt_ins o on o.tenant_id = g.tenant_id and o.id = g.opt_in_id
  join public.participants p on p.id = o.participant_id where p.user_id = tests.id(p_person) order by o.position desc limit 1
$$;
select is((select source || ' ' || pg_temp.origin('stranger') from pg_temp.joined), 'join 203.0.113.7 Browser/1', 'by which way, from where');
select is((select wording || ' / ' || wording_version || ' / ' || business_name from pg_temp.joined), 'I agree to receive messages from Pizza by WhatsApp. I can end them at any time, by WhatsApp with the word STOP. / 1 / Pizza', 'in which words, which name the business');
select set_config('request.headers', '{"x-forwarded-for": "not an address"}', true);
select tests.rows('stranger', 'update public.participants set display_name = ''Other''');
select is((select count(*) from public.opt_ins o join public.participants p on p.id = o.participant_id where p.user_id = tests.id('stranger')), 1::bigint, 'a change of something else makes none');
select set_config('request.headers', '', true);

-- From where: not for everybody who may look at the ledger
select hasnt_column('public', 'opt_ins', c, format('the ledger itself has no %s', c)) from unnest(array['ip', 'user_agent']) c;
select is(tests.rows(who, 'select * from public.opt_ins'), n, format('%s still reads whole entries', who)) from (values ('pizza viewer', '2'), ('pizza owner', '2'), ('stranger', '1')) as v (who, n);
select is(tests.rows(who, 'select * from private.opt_in_origins'), '42501', format('%s does not read where they came from', who)) from unnest(array['pizza viewer', 'pizza owner', 'service_role']) who;
select throws_ok($$ update private.opt_in_origins set ip = null $$, '42501', 'The ledger of consent is append-only.', 'and nobody changes it');

-- By a plain update of the participant
select is(tests.rows('pizza participant', 'update public.participants set whatsapp_opt_in_at = null'), '1', 'a participant takes the consent back by an update');
select is((pg_temp.last()).granted || ' ' || (pg_temp.last()).source, 'false participant', 'the ledger notes it');
select is((select status || ': ' || reason from public.notification_outbox where tenant_id = tests.id('pizza')), 'no_consent: the participant has withdrawn consent', 'what waits ends');
select is(tests.rows('pizza participant', 'update public.participants set whatsapp_opt_in_at = now()'), '1', 'and gives it again');
select is((pg_temp.last()).granted || ' ' || (pg_temp.last()).wording_version, 'true 1', 'noted too');

-- By the calls
create function pg_temp.call(p_who text, p_call text) returns text language sql as $$ select tests.answer(p_who, format(p_call, tests.id('pizza'))) $$;
select is(pg_temp.call('pizza participant', 'select public.opt_out(%L, ''whatsapp'') ->> ''agreed'''), 'false', 'a participant opts out');
select is((pg_temp.last()).granted || ' ' || (pg_temp.last()).source, 'false opt_out', 'noted as such');
select is(pg_temp.call('pizza participant', 'select public.opt_out(%L, ''whatsapp'') ->> ''agreed'''), 'false', 'twice is once');
create table pg_temp.before as select pg_temp.entries() as n;
select pg_temp.call('pizza participant', 'select public.opt_out(%L, ''whatsapp'')');
select is(pg_temp.entries(), n, 'who has not agreed takes nothing back') from pg_temp.before;
select is(pg_temp.call('pizza participant', 'select public.opt_in(%L, ''whatsapp'', ''Yes, PIZZA may write to me.'') ->> ''agreed'''), 'true', 'and opts in, in the words that were shown');
select is((pg_temp.last()).wording || ' ' || (pg_temp.last()).source, 'Yes, PIZZA may write to me. opt_in', 'which the ledger keeps');
select matches((pg_temp.last()).wording_version, '^[0-9a-f]{12}$', 'with a version of their own');
select isnt((select whatsapp_opt_in_at from public.participants where id = tests.id('pizza/pizza participant')), null, 'from then on messages may go');
select is(pg_temp.call('pizza participant', 'select public.opt_in(%L, ''whatsapp'', ''Yes, write to me.'')'), '22023', 'words that do not name the business are refused');
select is(pg_temp.call('pizza participant', 'select public.opt_in(%L, ''pigeon'')'), '22023', 'a channel is whatsapp or email');
select is(pg_temp.call('gym participant', 'select public.opt_in(%L, ''whatsapp'')'), 'PT404', 'another business''s participant is none of this');
select is(pg_temp.call('pizza owner', 'select public.opt_in(%L, ''whatsapp'')'), 'PT404', 'an owner does not agree for others');
select is(pg_temp.call('anon', 'select public.opt_in(%L, ''whatsapp'')'), '42501', 'anon is refused');
update public.participants set phone = null, whatsapp_opt_in_at = null where id = tests.id('pizza/pizza participant');
select is(pg_temp.call('pizza participant', 'select public.opt_in(%L, ''whatsapp'')'), '23514', 'without a number there is nothing to agree to');
select matches(tests.error_of('pizza participant', format('select public.opt_in(%L, ''email'') from generate_series(1, 40)', tests.id('pizza'))), 'Too many', 'nobody opts in and out without end');

-- E-mail
select is(private.agrees(tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', 'all'), null, 'nothing was said about e-mails');
select is(pg_temp.call('pizza participant', 'select public.opt_in(%L, ''email'') ->> ''wording'''), 'I agree to receive messages from Pizza by e-mail. I can end them at any time, by WhatsApp with the word STOP.', 'who agrees to e-mails');
select is(private.agrees(tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', 'all'), true, 'gets them');
select private.queue_message(tests.id('pizza'), 'alert', 'email', tests.id('pizza/pizza participant'), '{"message": "x"}', 'mail');
select pg_temp.call('pizza participant', 'select public.opt_out(%L, ''email'')');
select is(private.agrees(tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', 'all'), false, 'until they are taken back');
select is((select status::text from public.notification_outbox where dedupe_key = 'mail'), 'no_consent', 'and what waits ends');

-- Append-only
select throws_ok($$ update public.opt_ins set granted = true $$, '42501', 'The ledger of consent is append-only.', 'no entry changes, whoever tries');
select is(tests.rows(who, 'delete from public.opt_ins'), '42501', format('%s deletes none', who)) from unnest(array['pizza owner', 'pizza participant', 'service_role']) who;
select is(tests.rows('pizza participant', format('insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (%L, %L, ''email'', true, ''x'')', tests.id('pizza'), tests.id('pizza/pizza participant'))), '42501', 'nobody writes one past the calls');
select is((select count(*)::text from public.opt_ins where tenant_id = tests.id('pizza')), tests.sees('pizza viewer', 'public.opt_ins', 'pizza'), 'members see them all');
select isnt(tests.sees('pizza participant', 'public.opt_ins', 'pizza'), tests.sees('pizza viewer', 'public.opt_ins', 'pizza'), 'participants only their own');
delete from public.participants where id = tests.id('pizza/pizza participant');
select is((select count(*) from public.opt_ins where participant_id = tests.id('pizza/pizza participant')), 0::bigint, 'a participant who is erased takes the entries along');

select * from finish();
rollback;
