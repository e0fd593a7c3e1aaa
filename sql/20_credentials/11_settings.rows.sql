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
