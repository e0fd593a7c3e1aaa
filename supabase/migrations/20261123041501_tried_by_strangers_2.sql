-- tried by strangers: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

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
  ('facebook_reaction', 'facebook', 'best_effort', 'worker', 'meta', 'post', true, 2,
    'Reactions of a post are read; a linked account that is listed is a proof, one that is not listed proves nothing. A reaction is a like.'),
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

-- Days are days of UTC: soon after one has begun, so that two counts are a day apart.
insert into jobs.definitions (
  job, kind, meaning, schedule, time_zone, provider, platform_allowed, batch_size, quantum, max_drains, lease_seconds, max_attempts,
  backoff_seconds, backoff_limit_seconds, condition_function, eligible_function, load_function, apply_function)
values (
  'measure-followers', 'edge', 'Counts the followers of accounts whose growth decides claims.', '5 0 * * *', 'UTC', 'meta', false,
  100, 1, 2, 60, 6, 60, 3600, 'private.followers_are_to_be_measured', 'private.tenants_to_measure',
  'private.load_follower_counts', 'private.apply_follower_counts')
on conflict (job) do update set kind = excluded.kind, meaning = excluded.meaning, provider = excluded.provider,
  condition_function = excluded.condition_function, eligible_function = excluded.eligible_function,
  load_function = excluded.load_function, apply_function = excluded.apply_function;

insert into jobs.clocks (job) values ('verify-social-tasks'), ('settle-claims'), ('purge-signals'), ('measure-followers') on conflict do nothing;

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
  ('whatsapp_messages_per_second', '80', 'The throughput of one WhatsApp number. A tenant may set less for its own.'),
  ('gateway_messages_per_second', '4', 'The same for gateways that are not WhatsApp''s own.')
on conflict (name) do update set meaning = excluded.meaning;

insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('opt_in', 30, 3600, 'user', 'Times that one user opts in or out.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

-- Tenants and campaigns from before there were these settings.
insert into public.message_settings (tenant_id) select t.id from public.tenants t on conflict do nothing;
insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from public.campaigns c on conflict do nothing;
