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
