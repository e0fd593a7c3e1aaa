-- The congratulation: what it says by default, whom it reaches, and that it is frozen and said once.
begin;
select plan(17);
select tests.two_tenants();
select jobs.set_setting('app_url', 'https://spin.example/');

-- What would be queued for the participant's completion now.
create function pg_temp.message() returns table (status text, reason text, body text, recipient text) language plpgsql as $$
begin
  delete from public.notification_outbox where tenant_id = tests.id('pizza');
  perform private.congratulate(array[c.tenant_id], array[c.id]) from public.completions c where c.tenant_id = tests.id('pizza');
  return query select o.status::text, o.reason, o.body, o.recipient from public.notification_outbox o where o.tenant_id = tests.id('pizza');
end
$$;

-- Frozen when the reason for it arises
create table pg_temp.before as select * from public.notification_outbox where tenant_id = tests.id('pizza');
update public.social_tasks set reward_spins = 5, title = 'another title' where id = tests.id('pizza task');
select is((select body from public.notification_outbox where tenant_id = tests.id('pizza')), body, 'what was said is not changed by what happens later') from pg_temp.before;
select matches(body, '3 bonus spins', 'it said three spins') from pg_temp.before;
select is((select count(*) from public.notification_outbox o join jobs.items i on i.subject_id = o.id and i.tenant_id = o.tenant_id where i.job = 'send-notifications'), 2::bigint, 'every queued message has its item');
select private.congratulate(array[c.tenant_id, c.tenant_id], array[c.id, c.id]) from public.completions c where c.tenant_id = tests.id('pizza');
select is((select count(*) from public.notification_outbox where tenant_id = tests.id('pizza')), 1::bigint, 'nobody is congratulated twice for one completion');
update public.social_tasks set reward_spins = 3, title = 'pizza task' where id = tests.id('pizza task');

select is((select body from pg_temp.message()), format('Congratulations, pizza participant! 🎉 Your task "pizza task" has been verified. 3 bonus spins have been added. Spin now: https://spin.example/campaigns/%s', tests.id('pizza campaign')),
  'a message congratulates by name, says which task and how many spins, and links to the campaign');
select is((select recipient from pg_temp.message()), '+491701234567', 'it goes to the participant''s number');
select is((select status from pg_temp.message()), 'queued', 'to who agreed to it');
update public.social_tasks set reward_spins = 1 where id = tests.id('pizza task');
select matches((select body from pg_temp.message()), '1 bonus spin has been added', 'one spin is one spin');

-- Languages: the person's, the tenant's, English
update public.participants set language = 'de-AT' where tenant_id = tests.id('pizza');
select matches((select body from pg_temp.message()), '^Glückwunsch, pizza participant!.*„pizza task“.*1 Bonus-Spin wurde gutgeschrieben', 'in the person''s language, region or not');
update public.participants set language = null where tenant_id = tests.id('pizza');
update public.tenants set locale = 'es' where id = tests.id('pizza');
select matches((select body from pg_temp.message()), '^¡Enhorabuena.*Se ha añadido 1 giro extra', 'else in the tenant''s');
update public.participants set language = 'it' where tenant_id = tests.id('pizza');
select matches((select body from pg_temp.message()), '^Congratulazioni', 'the person''s comes before the tenant''s');
update public.participants set language = 'sw' where tenant_id = tests.id('pizza');
update public.tenants set locale = 'fi' where id = tests.id('pizza');
select matches((select body from pg_temp.message()), '^Congratulations', 'and English where there is none of both');

-- Variables are filled in once: a name cannot pull in another variable.
update public.participants set display_name = 'Eve {{link}}' where tenant_id = tests.id('pizza');
select matches((select body from pg_temp.message()), '^Congratulations, Eve \{\{link\}\}!', 'a name with a variable in it is a name');

update public.participants set whatsapp_opt_in_at = null;
select is((select status || ': ' || reason from pg_temp.message()), 'no_consent: the participant did not opt in to WhatsApp messages', 'who did not agree gets none');
update public.participants set phone = null;
select is((select status || ': ' || reason from pg_temp.message()), 'no_consent: the participant gave no phone number', 'nor does who gave no number');
update public.campaigns set notifications_enabled = false;
select is((select status || ': ' || reason from pg_temp.message()), 'disabled: notifications are switched off in this campaign', 'nor anybody where the campaign sends none');
select is((select count(*) from pg_temp.message() m join jobs.items i on i.tenant_id = tests.id('pizza') join public.notification_outbox o on o.id = i.subject_id and o.tenant_id = i.tenant_id), 0::bigint,
  'a message that is not to be sent has no item');

select * from finish();
rollback;
