-- Welcome, review result, alert; which channel; and that many at once are one statement.
begin;
select plan(20);
select tests.two_tenants();
select tests.participant('pizza', 'second');
create function pg_temp.last(p_kind text) returns public.notification_outbox language sql as $$
  select o from public.notification_outbox o where o.tenant_id = tests.id('pizza') and o.kind::text = p_kind order by o.created_at desc, o.id limit 1
$$;
create function pg_temp.welcome() returns void language sql as $$ select private.welcome(tests.id('pizza'), tests.id('pizza/second'), tests.id('pizza campaign')) $$;

create function pg_temp.queue(p_kind text, p_channel text, p_participant_id uuid, p_variables jsonb, p_key text) returns public.notification_outbox language plpgsql as $$
declare
  v_id uuid := private.queue_message(tests.id('pizza'), p_kind, p_channel, p_participant_id, p_variables, p_key);
begin
  return (select o from public.notification_outbox o where o.tenant_id = tests.id('pizza') and o.id = v_id);
end
$$;

-- Welcome
select pg_temp.welcome();
select is((pg_temp.last('welcome')).id, null, 'nobody is welcomed unless the tenant wants it');
update public.message_settings set welcome_enabled = true where tenant_id = tests.id('pizza');
select pg_temp.welcome();
select pg_temp.welcome();
select is((select count(*) from public.notification_outbox where kind::text = 'welcome'), 1::bigint, 'who joins twice is welcomed once');
select matches((pg_temp.last('welcome')).body, '^Welcome, second! You take part in pizza campaign of Pizza: .*STOP', 'by name, with the campaign, the business and the way out');
delete from public.notification_outbox where kind::text = 'welcome';
update public.participants set whatsapp_opt_in_at = null where id = tests.id('pizza/second');
select pg_temp.welcome();
select is((pg_temp.last('welcome')).id, null, 'who agreed to no messages is not welcomed by one');

-- Channel: what the person agreed to
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/second'), 'email', true, 'opt_in');
select pg_temp.welcome();
select is((pg_temp.last('welcome')).channel || ' ' || (pg_temp.last('welcome')).recipient, 'email second@example.test', 'who agreed to e-mails only gets an e-mail');
select is((pg_temp.last('welcome')).subject, 'Welcome to pizza campaign', 'with a subject');
select is((select i.job from jobs.items i where i.subject_id = (pg_temp.last('welcome')).id), 'send-emails', 'and its item is one of send-emails');

-- Review
create table pg_temp.claim as select tests.claim_task('pizza', 'second', 'pizza task') as id;
update public.completions set status = 'failed', reason = 'the photo shows another shop' where id = (select id from pg_temp.claim);
select private.announce_review(tests.id('pizza'), id) from pg_temp.claim;
select private.announce_review(tests.id('pizza'), id) from pg_temp.claim;
select is((select count(*) from public.notification_outbox where kind::text = 'review_result'), 1::bigint, 'a claim that was turned down is told once');
select matches((pg_temp.last('review_result')).body, 'Pizza has looked at your task "pizza task" and could not accept it: the photo shows another shop\. http', 'with the reason');
update public.completions set status = 'verified', verified_at = now() where id = (select id from pg_temp.claim);
select private.announce_review(tests.id('pizza'), id) from pg_temp.claim;
select is((select count(*) from public.notification_outbox where kind::text = 'congratulation' and completion_id = (select id from pg_temp.claim)), 1::bigint, 'one that was accepted gets the congratulation');
select private.congratulate(array[tests.id('pizza')], array[id]) from pg_temp.claim;
select is((select count(*) from public.notification_outbox where kind::text = 'congratulation' and completion_id = (select id from pg_temp.claim)), 1::bigint, 'and no second one');
update public.completions set status = 'pending', verified_at = null where id = (select id from pg_temp.claim);
select private.announce_review(tests.id('pizza'), id) from pg_temp.claim;
select is((select count(*) from public.notification_outbox where completion_id = (select id from pg_temp.claim)), 2::bigint, 'what is not decided is not announced');

-- Alert: to an address, not a participant
create table pg_temp.alert as select private.queue_message(tests.id('pizza'), 'alert', 'email', null, '{"message": "The oven is cold."}', 'alert/1', p_recipient => 'chef@example.test') as id;
select is((select o.body || ' ' || o.recipient || ' ' || o.status from public.notification_outbox o join pg_temp.alert a on a.id = o.id), 'Pizza: The oven is cold. chef@example.test queued', 'an alert goes to the address that is given');
select is(private.queue_message(tests.id('pizza'), 'alert', 'email', null, '{"message": "again"}', 'alert/1', p_recipient => 'chef@example.test'), id, 'a dedupe key that is known gives the message that is there') from pg_temp.alert;
select isnt(private.queue_message(tests.id('gym'), 'alert', 'email', null, '{"message": "again"}', 'alert/1', p_recipient => 'chef@example.test'), id, 'another tenant''s key is another key') from pg_temp.alert;
select is((select status::text || ': ' || reason from pg_temp.queue('alert', 'email', null, '{}', 'alert/2')), 'no_consent: there is no e-mail address', 'without an address there is nothing to send to');

-- A subject is one line, whatever a name has in it.
update public.participants set display_name = E'Eve\r\nBcc: all@example.test' where id = tests.id('pizza/second');
select is((select subject from pg_temp.queue('congratulation', 'email', tests.id('pizza/second'), '{"task": "x", "spins": 1}', 'header')), 'Congratulations, Eve Bcc: all@example.test!', 'a line break in a name makes no second header');

-- Marketing
update public.message_templates set category = 'marketing' where id = tests.id('pizza template');
select is((select status::text from pg_temp.queue('alert', 'whatsapp', tests.id('pizza/pizza participant'), '{"message": "x"}', 'm1')), 'queued', 'marketing goes to who agreed to messages');
insert into public.opt_ins (tenant_id, participant_id, channel, category, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'whatsapp', 'marketing', false, 'preference');
select is((select status::text || ': ' || reason from pg_temp.queue('alert', 'whatsapp', tests.id('pizza/pizza participant'), '{"message": "x"}', 'm2')), 'no_consent: the participant does not want marketing messages', 'but not to who stopped marketing');

-- Many
select is(private.queue_messages((select jsonb_agg(jsonb_build_object('tenant_id', tests.id('pizza'), 'kind', 'alert', 'channel', 'email', 'recipient', n || '@example.test', 'dedupe_key', 'many/' || n, 'variables', jsonb_build_object('message', n))) from generate_series(1, 1000) n)), 1000, 'a thousand are queued in one statement');

select * from finish();
rollback;
