begin;
select plan(9);
select tests.two_tenants();
select jobs.set_setting('app_url', 'https://spin.example/');

create function pg_temp.message() returns table (status text, reason text, body text, recipient text) language sql as $$
  select m.status::text, m.reason, m.body, m.recipient from public.completions c, private.congratulation(c.tenant_id, c.id) m where c.tenant_id = tests.id('pizza')
$$;
select is((select body from pg_temp.message()), format('Congratulations, pizza participant! 🎉 Your task "pizza task" has been verified. 3 bonus spins have been added. Spin now: https://spin.example/campaigns/%s', tests.id('pizza campaign')),
  'a message congratulates by name, says which task and how many spins, and links to the campaign');
select is((select recipient from pg_temp.message()), '+491701234567', 'it goes to the participant''s number');
select is((select status from pg_temp.message()), 'queued', 'to who agreed to it');
update public.social_tasks set reward_spins = 1 where id = tests.id('pizza task');
select matches((select body from pg_temp.message()), '1 bonus spin has been added', 'one spin is one spin');
update public.participants set whatsapp_opt_in_at = null;
select is((select status || ': ' || reason from pg_temp.message()), 'no_consent: the participant did not opt in to WhatsApp messages', 'who did not agree gets none');
update public.participants set phone = null;
select is((select status || ': ' || reason from pg_temp.message()), 'no_consent: the participant gave no phone number', 'nor does who gave no number');
update public.campaigns set notifications_enabled = false;
select is((select status || ': ' || reason from pg_temp.message()), 'disabled: notifications are switched off in this campaign', 'nor anybody where the campaign sends none');

-- Frozen when the reason for it arises
select matches((select body from public.notification_outbox where tenant_id = tests.id('pizza')), '3 bonus spins', 'what was said is not changed by what happens later');
select is((select count(*) from public.notification_outbox o join jobs.items i on i.subject_id = o.id and i.tenant_id = o.tenant_id where i.job = 'send-notifications'), 2::bigint, 'every queued message has its item');

select * from finish();
rollback;
