-- The limits of this module's calls. Numbers that an admin changed stay.
insert into private.call_limits (name, calls, seconds, per, meaning) values
  ('start_linking', 20, 3600, 'user', 'Codes that one user asks for to link an account.'),
  ('acknowledge_rule', 30, 3600, 'tenant', 'Rules that one tenant takes note of.'),
  ('approve_completion', 600, 60, 'user', 'Claims that one user approves or rejects.'),
  ('confirm_sign_up', 600, 60, 'tenant', 'Sign-ups that one tenant confirms.')
on conflict (name) do update set per = excluded.per, meaning = excluded.meaning;
