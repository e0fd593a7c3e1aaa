-- What a signed-in user may do with tables, before row-level security has its say. A new right needs a new line here.
begin;
select plan(8);

create function pg_temp.rights(p_role text, p_kinds text[]) returns table (object text, privilege text) language sql as $$
  select c.oid::regclass::text, p.privilege
  from pg_catalog.pg_class c
  cross join unnest(p_kinds) as p (privilege)
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege(p_role, c.oid, p.privilege)
$$;

select set_eq($$ select * from pg_temp.rights('authenticated', array['select']) $$, $$ values
  ('audit_log', 'select'), ('campaigns', 'select'), ('completions', 'select'), ('job_queues', 'select'), ('job_service_levels', 'select'), ('memberships', 'select'),
  ('data_deletions', 'select'),
  ('notification_outbox', 'select'), ('plans', 'select'), ('social_tasks', 'select'),
  ('spin_ledger', 'select'), ('tenants', 'select'),
  ('message_settings', 'select'), ('message_templates', 'select'), ('opt_ins', 'select'), ('reminder_settings', 'select'),
  ('acknowledgements', 'select'), ('campaign_strategies', 'select'), ('cohorts', 'select'), ('completion_decisions', 'select'), ('follower_counts', 'select'),
  ('linked_accounts', 'select'), ('reviews', 'select'), ('rules', 'select'), ('task_kinds', 'select'), ('verification_summary', 'select')
$$, 'the tables that a signed-in user may read whole');
select set_eq($$ select * from pg_temp.rights('authenticated', array['insert', 'update', 'delete']) $$, $$ values
  ('message_templates', 'delete'),
  ('campaigns', 'delete'), ('cohorts', 'delete'), ('social_tasks', 'delete')
$$, 'rows that a signed-in user may delete; inserting and updating is granted by column');
select set_eq($$
  select c.oid::regclass::text, p.privilege, string_agg(a.attname, ' ' order by a.attname)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  cross join unnest(array['insert', 'update']) as p (privilege)
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p', 'v')
    and has_column_privilege('authenticated', c.oid, a.attnum, p.privilege)
  group by c.oid, p.privilege
$$, $$ values
  ('participants', 'update', 'display_name facebook_user_id instagram_username language phone whatsapp_opt_in_at'),
  ('message_settings', 'update', 'messages_per_second resend_unknown welcome_enabled'),
  ('message_templates', 'insert', 'body category channel kind language subject tenant_id whatsapp_parameters whatsapp_parameters_are_named whatsapp_template_language whatsapp_template_name'),
  ('message_templates', 'update', 'body category subject whatsapp_parameters whatsapp_parameters_are_named whatsapp_template_language whatsapp_template_name'),
  ('reminder_settings', 'update', 'enabled remind_before'),
  ('campaigns', 'insert', 'eligibility ends_at name notifications_enabled notify_from notify_until official_rules prize_terms promotion release_text reward_after starts_at status tenant_id time_zone username_match'),
  ('campaigns', 'update', 'eligibility ends_at name notifications_enabled notify_from notify_until official_rules prize_terms promotion release_text reward_after starts_at status time_zone username_match'),
  ('campaign_strategies', 'update', 'acceptance_rate statistical_basis strategy'),
  ('cohorts', 'insert', 'acceptance_rate name statistical_basis strategy tenant_id'),
  ('cohorts', 'update', 'acceptance_rate name statistical_basis strategy'),
  ('social_tasks', 'insert', 'active campaign_id keyword kind platform_credential_allowed post_id recheck_every reward_spins tenant_id title url verify_within'),
  ('social_tasks', 'update', 'active keyword platform_credential_allowed post_id recheck_every reward_spins title url verify_within'),
  ('tenants', 'update', 'campaign_notifications campaign_notify_from campaign_notify_until locale name time_zone')
$$, 'the columns that a signed-in user may write: no id, no tenant_id of an existing row, no status, no plan, no time of ours');
select set_eq($$
  select c.oid::regclass::text, a.attname::text
  from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
    and has_any_column_privilege('authenticated', c.oid, 'select') and not has_column_privilege('authenticated', c.oid, a.attnum, 'select')
$$, $$ values ('credentials', 'secret_id'), ('credentials', 'secret_keys'), ('credentials', 'secret_at'), ('invitations', 'token_hash'),
  ('participants', 'user_id') $$, 'the columns that are hidden from a signed-in user');
select is_empty($$
  select role, r.* from unnest(array['authenticated', 'service_role']) role, pg_temp.rights(role, array['truncate', 'references', 'trigger']) r
$$, 'no API role may truncate, reference or put triggers on a table');
select is_empty($$
  select c.oid::regclass, r from pg_catalog.pg_class c, unnest(array['authenticated', 'service_role']) r
  where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and case when c.relkind = 'S' then has_sequence_privilege(r, c.oid, 'usage, update') end
$$, 'no API role may touch a sequence');
select is_empty($$ select * from pg_temp.rights('authenticated', array['select', 'insert', 'update', 'delete']) r where r.object ~ '^(jobs|private)\.' $$,
  'a signed-in user has no right on any table of the engine');
select isnt_empty($$ select * from pg_temp.rights('service_role', array['select']) r where r.object ~ '^jobs\.' $$,
  'while service_role reads the engine''s tables');

select * from finish();
rollback;
