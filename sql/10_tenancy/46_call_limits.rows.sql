-- The limits. Numbers that an admin changed stay; new limits and meanings arrive.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('create_tenant', 10, 86400, 'user', 'Tenants that one user creates.'),
  ('invite_member', 50, 86400, 'tenant', 'Invitations that one tenant sends.'),
  ('accept_invitation', 20, 3600, 'user', 'Invitations that one user tries to accept, successfully or not.'),
  ('set_credential', 30, 3600, 'tenant', 'Credentials that one tenant stores.'),
  ('join_campaign', 30, 60, 'user', 'Campaigns that one user joins.'),
  ('claim_task', 60, 60, 'user', 'Tasks that one user claims.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;

insert into private.settings (name, value, meaning) values
  ('jobs_ip_allow_list', '', 'Addresses and networks that may call functions/jobs, separated by commas. Empty: all.'),
  ('platform_admins_need_mfa', 'false', 'true: a platform admin is one only in a session with a second factor (aal2).')
on conflict (name) do update set meaning = excluded.meaning;
