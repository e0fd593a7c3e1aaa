-- Functions with their owner's rights: each is listed, since each is a door through row-level security.
begin;
select plan(7);

select set_eq($$
  select p.pronamespace::regnamespace || '.' || p.proname from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace) and p.prosecdef
$$, array[
  -- the twins of the API: each checks the caller
  'private.claim_task', 'private.create_tenant', 'private.join_campaign', 'private.remove_credential', 'private.set_credential',
  'private.list_credentials', 'private.recheck_credential',
  'private.accept_invitation', 'private.change_role', 'private.close_tenant', 'private.invite_member', 'private.leave_tenant',
  'private.list_members', 'private.my_tenants', 'private.remove_member', 'private.reopen_tenant', 'private.revoke_invitation',
  'private.set_active_tenant', 'private.suspend_tenant', 'private.transfer_ownership',
  'private.opt_in', 'private.opt_out', 'private.preview_message', 'private.resume_sending',
  -- the ledger of consent follows every change; senders follow their credentials and tenants
  'private.forget_sender', 'private.note_consent', 'private.restart_sender',
  -- every tenant and every campaign has its settings
  'private.add_campaign_strategies', 'private.add_message_settings', 'private.add_reminder_settings',
  'private.acknowledge_rule', 'private.approve_completion', 'private.confirm_sign_up', 'private.reject_completion', 'private.set_cohort',
  'private.start_linking', 'private.unlink_account',
  -- behind the two of the review queue
  'private.review_completion',
  -- rules of campaigns and tasks look up acknowledgements whoever writes
  'private.check_promotion', 'private.check_task',
  -- Auth asks it for the claims of a token
  'private.custom_access_token',
  -- an audit row for whoever changes settings, an owner for every tenant
  'private.audit_change', 'private.audit_end_of_tenant', 'private.audit_tenant', 'private.keep_an_owner',
  -- who the caller is: memberships cannot be read from their own policy
  'private.is_platform_admin', 'private.participant_ids', 'private.participant_tenant_ids', 'private.require_role', 'private.tenant_ids',
  -- a queued message gets its item, whoever inserts it
  'private.enqueue_messages',
  -- what changes in a tenant or a plan reaches the lanes of the engine, whoever makes the change
  'private.forget_tenant', 'private.wake_capped', 'private.wake_resting', 'private.wake_tenant',
  -- a deleted tenant takes its stored webhooks along
  'private.forget_webhooks', 'private.look_again_at_held',
  -- what members see of the engine: each asks for the membership
  'private.my_queues', 'private.my_service_levels', 'private.why',
  -- the list of time zones is not granted to anyone
  'private.is_time_zone',
  -- an alert becomes an item for every way to reach a person
  'private.deliver_alert'
], 'the functions outside of the engine that run with their owner''s rights');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.prosecdef
$$, 'nothing that the Data API offers to users runs with its owner''s rights');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and p.prokind <> 'p'
    and not coalesce(p.proconfig @> array['search_path=""'], false)
$$, 'every function has an empty search path of its own');
-- A procedure that commits cannot have settings of its own; it runs with its caller's rights, and no API role may call it.
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p, unnest(array['anon', 'authenticated', 'service_role']) r
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and p.prokind = 'p'
    and (p.prosecdef or has_function_privilege(r, p.oid, 'execute'))
$$, 'no procedure is a definer or callable by an API role');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p join pg_catalog.pg_roles r on r.oid = p.proowner
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and p.prosecdef and r.rolsuper
$$, 'no such function belongs to a superuser');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p
  where (p.prosecdef or has_function_privilege('service_role', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))
    and p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and coalesce(obj_description(p.oid, 'pg_proc'), '') = ''
$$, 'each function that somebody may call says what it does');
select is_empty($$
  select p.oid::regprocedure::text from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and p.prosrc ~ '(sk_live|whsec_|EAA[A-Za-z0-9]{10}|eyJ[A-Za-z0-9]{10}|Bearer )'
  union all
  select j.command from cron.job j where j.command ~ '(sk_live|whsec_|EAA[A-Za-z0-9]{10}|eyJ[A-Za-z0-9]{10}|Bearer |http)'
  union all
  select pg_get_triggerdef(t.oid) from pg_catalog.pg_trigger t
  where not t.tgisinternal and pg_get_triggerdef(t.oid) ~ '(sk_live|whsec_|EAA[A-Za-z0-9]{10}|eyJ[A-Za-z0-9]{10}|Bearer )'
$$, 'no secret stands in a function, a trigger or a cron entry');

select * from finish();
rollback;
