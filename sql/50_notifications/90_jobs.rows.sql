-- The jobs of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, provider, platform_allowed, effects, batch_size, quantum, max_drains, lease_seconds, max_attempts,
  backoff_seconds, backoff_limit_seconds, load_function, apply_function)
values
  ('send-notifications', 'edge', 'Sends messages through the tenant''s own WhatsApp.', 'whatsapp', true, true, 100, 20, 4, 60, 8,
    10, 3600, 'private.load_messages', 'private.apply_messages'),
  ('send-emails', 'edge', 'Sends e-mails to participants and members.', 'email', true, false, 50, 10, 2, 60, 8,
    10, 3600, 'private.load_emails', 'private.apply_emails')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider, effects = excluded.effects,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.definitions (job, kind, meaning, schedule, misfire, condition_function, eligible_function, work_function)
values
  ('remind-participants', 'sql', 'Reminds participants of claims that are not proven yet.', '20 * * * *', 'once',
    'private.somebody_to_remind', 'private.tenants_to_remind', 'private.remind_participants'),
  ('reconcile-messages', 'sql', 'Sends messages with an unknown outcome again where that was chosen.', '*/5 * * * *', 'skip',
    'private.something_to_reconcile', 'private.tenants_to_reconcile', 'private.reconcile_messages')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, condition_function = excluded.condition_function,
  eligible_function = excluded.eligible_function, work_function = excluded.work_function;

insert into private.settings (name, value, meaning) values
  ('opt_in_wording', 'I agree to receive messages from {{business}} by {{channel}}. I can end them at any time, by WhatsApp with the word STOP.',
    'What people agree to unless a client shows words of its own; it names the business.'),
  ('opt_in_wording_version', '1', 'Which version of opt_in_wording the ledger of consent notes. Change it with the words.'),
  ('whatsapp_messages_per_second', '80', 'The throughput of one WhatsApp number. A tenant may set less for its own.'),
  ('gateway_messages_per_second', '4', 'The same for gateways that are not WhatsApp''s own.')
on conflict (name) do update set meaning = excluded.meaning;

insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('opt_in', 30, 3600, 'user', 'Times that one user opts in or out.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

-- Tenants and campaigns from before there were these settings.
insert into public.message_settings (tenant_id) select t.id from public.tenants t on conflict do nothing;
insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from public.campaigns c on conflict do nothing;
