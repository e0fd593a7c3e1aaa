-- campaigns messages webhooks: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

-- sql/20_credentials/11_settings.rows.sql
-- Settings and limits of this module. Values that an admin changed stay.
insert into private.settings (name, value, meaning) values
  ('unofficial_gateways', 'on', 'off: no WhatsApp gateway beside Meta''s own may be connected, and messages through one are held.'),
  ('outbound_hosts', '', 'host:port that a gateway''s url may name though it is not public, separated by commas; plain http to this machine only. '
    'The functions'' OUTBOUND_HOSTS must have it too.')
on conflict (name) do update set meaning = excluded.meaning;

insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('list_credentials', 120, 60, 'user', 'Lists of credentials that one user asks for.'),
  ('recheck_credential', 30, 3600, 'tenant', 'Times that one tenant has its work woken on a credential that did not change.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

-- sql/35_credential_jobs/90_jobs.rows.sql
-- The jobs of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, schedule, provider, platform_allowed, batch_size, quantum, max_drains, lease_seconds, max_attempts, backoff_seconds,
  backoff_limit_seconds, condition_function, eligible_function, load_function, apply_function)
values
  ('check-credentials', 'edge', 'Asks Meta once a day whether each token still works, until when, and what it may do.', '10 4 * * *', 'meta', true,
    100, 1, 2, 60, 6, 60, 3600, null, 'private.meta_credentials_to_check', 'private.load_credential_checks', 'private.apply_credential_checks'),
  ('check-whatsapp-credentials', 'edge', 'Asks WhatsApp once a day whether each token still works, until when, and what it may do.', '15 4 * * *', 'whatsapp', true,
    100, 1, 2, 60, 6, 60, 3600, null, 'private.whatsapp_credentials_to_check', 'private.load_credential_checks', 'private.apply_credential_checks'),
  ('refresh-meta-tokens', 'edge', 'Renews Meta''s 60-day tokens before they expire.', '40 3 * * *', 'meta', false,
    100, 1, 2, 60, 6, 60, 3600, 'private.has_tokens_to_refresh', 'private.tokens_to_refresh', 'private.load_token_refreshes', 'private.apply_credential_checks')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  condition_function = excluded.condition_function, eligible_function = excluded.eligible_function,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.clocks (job) values ('check-credentials'), ('check-whatsapp-credentials'), ('refresh-meta-tokens') on conflict do nothing;

-- sql/40_campaigns/13_rules.rows.sql
-- The rules. A changed text is a new version, never an edit: acknowledgements refer to what was read.
insert into public.rules (rule, version, text) values
  ('rewarded_engagement', 1,
    'Meta allows rewards for few actions, and following, liking and sharing are not among them. A task that rewards a follow, a like or a '
    'repost may cost you features or the account, and nothing proves that it was done. You decide to offer it all the same, at your own risk, '
    'and you offer another way to take part.'),
  ('unofficial_gateway', 1,
    'This way of sending works through WhatsApp Web and not through WhatsApp''s own interface. WhatsApp may block the number without notice. '
    'You write only to people who agreed to it, and you know that official accounts are the safe way.'),
  ('promotion_release', 1,
    'Your promotion keeps the law where it is offered. Its official rules release Facebook, Instagram and the other platforms completely and '
    'say that none of them sponsors, endorses or administers it. It asks nobody to share on a personal timeline or to tag friends.')
on conflict (rule, version) do nothing;

-- sql/40_campaigns/29_task_kinds.rows.sql
-- What can be proven about each kind.
insert into public.task_kinds (kind, surface, proof, proven_by, provider, needs, rewarded_engagement, rule_version, note) values
  ('instagram_comment', 'instagram', 'auto', 'worker', 'meta', 'post', false, 2,
    'Comments of the post are read. A linked account, the code in the comment, or, where the campaign says so, the user name proves it.'),
  ('facebook_comment', 'facebook', 'auto', 'worker', 'meta', 'post', false, 2,
    'Comments of the Page''s post are read. Facebook names no user names: the code in the comment or a linked account proves it.'),
  ('instagram_photo_tag', 'instagram', 'auto', 'worker', 'meta', 'nothing', false, 2,
    'Public posts in which the business is tagged are read. Facebook Login route only; private posts are never shown.'),
  ('instagram_mention', 'instagram', 'webhook', 'worker', 'meta', 'nothing', false, 2,
    'Instagram tells of a mention once, when it happens; then caption or comment is read. A mention that was missed cannot be found.'),
  ('instagram_story_mention', 'instagram', 'webhook', 'signal', 'meta', 'nothing', false, 2,
    'Instagram tells of a story that mentions the business once. It needs a linked account, and a public one. The story itself is never stored.'),
  ('instagram_dm_keyword', 'instagram', 'webhook', 'signal', 'meta', 'keyword', false, 2,
    'A message with the keyword from a linked account, or with the claim''s code.'),
  ('instagram_follow', 'instagram', 'auto', 'worker', 'meta', 'nothing', true, 2,
    'Instagram says who follows only of people who have written to the business. Until then the participant is asked to.'),
  ('facebook_reaction', 'facebook', 'best_effort', 'worker', 'meta', 'post', false, 2,
    'Reactions of a post are read; a linked account that is listed is a proof, one that is not listed proves nothing.'),
  ('whatsapp_join', 'whatsapp', 'webhook', 'signal', 'whatsapp', 'nothing', false, 2,
    'A WhatsApp message to the business with the claim''s code.'),
  ('link_visit', 'link', 'auto', 'signal', null, 'url', false, 2,
    'Our own link forwards to the address and notes the visit. No visit by the deadline is a definite no.'),
  ('link_sign_up', 'link', 'auto', 'signal', null, 'url', false, 2,
    'The business confirms the code of a sign-up with confirm_sign_up. No confirmation by the deadline is a definite no.'),
  ('instagram_like', 'instagram', 'manual_review', 'nobody', null, 'post', true, 2,
    'Instagram shows how many liked a post, never who.'),
  ('facebook_page_like', 'facebook', 'manual_review', 'nobody', null, 'nothing', true, 2,
    'Facebook does not say who likes a Page, and forbids rewards for it. No proof is ever accepted for it.'),
  ('x_follow', 'x', 'manual_review', 'nobody', null, 'nothing', true, 2,
    'There is no connection to X.'),
  ('x_repost', 'x', 'manual_review', 'nobody', null, 'post', true, 2,
    'There is no connection to X.')
on conflict (kind) do update set surface = excluded.surface, proof = excluded.proof, proven_by = excluded.proven_by, provider = excluded.provider,
  needs = excluded.needs, rewarded_engagement = excluded.rewarded_engagement, rule_version = excluded.rule_version, note = excluded.note;

-- sql/40_campaigns/90_jobs.rows.sql
-- The jobs of this module. Numbers that an admin changed stay as they are.
insert into jobs.definitions (
  job, kind, meaning, provider, platform_allowed, batch_size, quantum, max_drains, start_delay_seconds, has_cadence,
  lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, load_function, apply_function)
values (
  'verify-social-tasks', 'edge', 'Verifies claimed tasks with the tenant''s own Meta credentials.', 'meta', true, 500, 50, 4, 300, true,
  60, 10, 10, 1800, 'private.load_verifications', 'private.apply_verifications')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.definitions (
  job, kind, scope, meaning, schedule, misfire, condition_function, eligible_function, work_function, lease_seconds, max_attempts)
values
  ('settle-claims', 'sql', 'tenant', 'Ends claims whose time has come: by the campaign''s strategy, or by their deadline.', '* * * * *', 'once',
    'private.claims_are_due', 'private.tenants_with_due_claims', 'private.settle_claims', 60, 5),
  ('purge-signals', 'sql', 'platform', 'Forgets what was seen outside after 30 days.', '30 3 * * *', 'once',
    null, null, 'private.purge_signals', 600, 5)
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning,
  condition_function = excluded.condition_function, eligible_function = excluded.eligible_function, work_function = excluded.work_function;

insert into jobs.clocks (job) values ('verify-social-tasks'), ('settle-claims'), ('purge-signals') on conflict do nothing;

-- sql/40_campaigns/91_call_limits.rows.sql
-- The limits of this module's calls. Numbers that an admin changed stay.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('start_linking', 20, 3600, 'user', 'Codes that one user asks for to link an account.'),
  ('acknowledge_rule', 30, 3600, 'tenant', 'Rules that one tenant takes note of.'),
  ('approve_completion', 600, 60, 'user', 'Claims that one user approves or rejects.'),
  ('confirm_sign_up', 600, 60, 'tenant', 'Sign-ups that one tenant confirms.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

-- sql/50_notifications/06_message_templates.rows.sql
-- The built-in texts. A new version of the platform may change them; what a tenant wrote is its own.
insert into private.built_in_messages (kind, channel, language, subject, body)
select t.kind::public.message_kind, c.channel, t.language, case when c.channel = 'email' then t.subject end, t.body
from (values
  ('congratulation', 'en', 'Congratulations, {{name}}!', 'Congratulations, {{name}}! 🎉 Your task "{{task}}" has been verified. {{reward}}. Spin now: {{link}}'),
  ('congratulation', 'de', 'Glückwunsch, {{name}}!', 'Glückwunsch, {{name}}! 🎉 Deine Aufgabe „{{task}}“ wurde bestätigt. {{reward}}. Jetzt drehen: {{link}}'),
  ('congratulation', 'es', '¡Enhorabuena, {{name}}!', '¡Enhorabuena, {{name}}! 🎉 Tu tarea «{{task}}» se ha verificado. {{reward}}. Gira ahora: {{link}}'),
  ('congratulation', 'it', 'Congratulazioni, {{name}}!', 'Congratulazioni, {{name}}! 🎉 La tua attività "{{task}}" è stata verificata. {{reward}}. Gira ora: {{link}}'),
  ('reminder', 'en', 'Still to do: {{task}}', 'Hi {{name}}, your task "{{task}}" at {{business}} is not proven yet. Its code is {{code}}, the time for it ends on {{deadline}}: {{link}}'),
  ('welcome', 'en', 'Welcome to {{campaign}}', 'Welcome, {{name}}! You take part in {{campaign}} of {{business}}: {{link}} Reply STOP to end these messages.'),
  ('review_result', 'en', 'Your task "{{task}}"', 'Hi {{name}}, {{business}} has looked at your task "{{task}}" and could not accept it: {{reason}} {{link}}'),
  ('alert', 'en', '{{business}}: something needs your attention', '{{business}}: {{message}}')) as t (kind, language, subject, body)
cross join (values ('whatsapp'), ('email')) as c (channel)
on conflict (kind, channel, language) do update set subject = excluded.subject, body = excluded.body;

-- sql/50_notifications/90_jobs.rows.sql
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

insert into jobs.clocks (job) values ('send-notifications'), ('send-emails'), ('remind-participants'), ('reconcile-messages') on conflict do nothing;

insert into private.settings (name, value, meaning) values
  ('opt_in_wording', 'I agree to receive messages from {{business}} by {{channel}}. I can end them at any time, by WhatsApp with the word STOP.',
    'What people agree to unless a client shows words of its own; it names the business.'),
  ('opt_in_wording_version', '1', 'Which version of opt_in_wording the ledger of consent notes. Change it with the words.'),
  ('whatsapp_messages_per_second', '80', 'The throughput of one WhatsApp number. A tenant may set less for its own.')
on conflict (name) do update set meaning = excluded.meaning;

insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('opt_in', 30, 3600, 'user', 'Times that one user opts in or out.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

-- Tenants and campaigns from before there were these settings.
insert into public.message_settings (tenant_id) select t.id from public.tenants t on conflict do nothing;
insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from public.campaigns c on conflict do nothing;

-- sql/55_webhooks/90_jobs.rows.sql
-- The jobs, limits and settings of this module. Numbers that an admin changed stay as they are.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('receive_webhook', 500, 2, 'tenant', 'Signed webhooks that one tenant''s address takes from one provider: 80 messages a second bring 3 statuses each.'),
  ('receive_deletion', 60, 60, 'tenant', 'Requests to be forgotten that one tenant''s address takes.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

insert into private.settings (name, value, meaning) values
  ('webhook_days', '30', 'Days that bodies of webhooks are kept, 1 to 30.')
on conflict (name) do update set meaning = excluded.meaning;

insert into jobs.definitions (
  job, kind, scope, meaning, batch_size, quantum, max_drains, lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, work_function)
values
  ('process-webhooks', 'sql', 'tenant', 'Turns stored webhooks into signals, messages and statuses, and does deletions that Meta asks for.',
    200, 20, 2, 60, 12, 10, 3600, 'private.process_webhooks')
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning, work_function = excluded.work_function;

insert into jobs.definitions (job, kind, scope, meaning, schedule, misfire, batch_size, quantum, max_drains, lease_seconds, max_attempts, work_function)
values
  ('purge-webhooks', 'sql', 'platform', 'Deletes stored webhooks when their time is over.', '40 3 * * *', 'once', 1, 1, 1, 300, 5, 'private.purge_webhooks')
on conflict (job) do update set kind = excluded.kind, scope = excluded.scope, meaning = excluded.meaning, work_function = excluded.work_function;

insert into jobs.clocks (job) values ('process-webhooks'), ('purge-webhooks') on conflict do nothing;
