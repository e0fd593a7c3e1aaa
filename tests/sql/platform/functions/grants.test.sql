-- Who may call which function. A new function that somebody may call needs a new line here, and a reason.
begin;
select plan(6);

create function pg_temp.callable_by(p_role text) returns setof text language sql as $$
  select p.pronamespace::regnamespace || '.' || p.proname
  from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace)
    and has_function_privilege(p_role, p.oid, 'execute')
$$;

select set_eq($$ select pg_temp.callable_by('authenticated') $$, array[
  -- the API
  'public.claim_task', 'public.create_tenant', 'public.join_campaign', 'public.remove_credential', 'public.set_credential',
  'public.list_credentials', 'public.recheck_credential',
  'public.why',
  'public.accept_invitation', 'public.change_role', 'public.close_tenant', 'public.create_campaign', 'public.invite_member', 'public.leave_tenant',
  'public.list_members', 'public.my_tenants', 'public.remove_member', 'public.reopen_tenant', 'public.revoke_invitation',
  'public.set_active_tenant', 'public.suspend_tenant', 'public.transfer_ownership',
  'public.opt_in', 'public.opt_out', 'public.preview_message', 'public.resume_sending',
  'public.acknowledge_rule', 'public.approve_completion', 'public.confirm_sign_up', 'public.reject_completion', 'public.set_cohort',
  'public.start_linking', 'public.unlink_account',
  -- their twins, which check the caller themselves
  'private.acknowledge_rule', 'private.approve_completion', 'private.confirm_sign_up', 'private.reject_completion', 'private.set_cohort',
  'private.start_linking', 'private.unlink_account',
  'private.claim_task', 'private.create_tenant', 'private.join_campaign', 'private.remove_credential', 'private.set_credential',
  'private.list_credentials', 'private.recheck_credential',
  'private.why',
  'private.accept_invitation', 'private.change_role', 'private.close_tenant', 'private.invite_member', 'private.leave_tenant',
  'private.list_members', 'private.my_tenants', 'private.remove_member', 'private.reopen_tenant', 'private.revoke_invitation',
  'private.set_active_tenant', 'private.suspend_tenant', 'private.transfer_ownership',
  'private.opt_in', 'private.opt_out', 'private.preview_message', 'private.resume_sending',
  -- an index on numbers and the check of a template work for whoever writes the row
  'private.message_variables', 'private.wa_key',
  -- behind the views of their own queues
  'private.my_queues', 'private.my_service_levels',
  -- what policies and these functions ask
  'private.check_request', 'private.is_platform', 'private.is_platform_admin', 'private.is_time_zone', 'private.participant_ids', 'private.participant_tenant_ids', 'private.tenant_ids'
], 'what a signed-in user may call');
select set_eq($$ select f from pg_temp.callable_by('service_role') f where f not like 'jobs.%' $$, array[
  'public.remove_credential', 'public.set_credential', 'private.remove_credential', 'private.set_credential',
  'public.list_credentials', 'public.recheck_credential', 'private.list_credentials', 'private.recheck_credential',
  'public.create_campaign', 'public.invite_member', 'public.reopen_tenant', 'public.revoke_invitation', 'public.suspend_tenant',
  'private.invite_member', 'private.reopen_tenant', 'private.revoke_invitation', 'private.suspend_tenant',
  'public.preview_message', 'public.resume_sending', 'private.preview_message', 'private.resume_sending', 'private.message_variables', 'private.wa_key',
  'public.acknowledge_rule', 'public.approve_completion', 'public.confirm_sign_up', 'public.reject_completion', 'public.set_cohort',
  'private.acknowledge_rule', 'private.approve_completion', 'private.confirm_sign_up', 'private.reject_completion', 'private.set_cohort',
  'private.check_request', 'private.is_platform', 'private.is_platform_admin', 'private.is_time_zone', 'private.participant_ids', 'private.participant_tenant_ids', 'private.tenant_ids'
], 'what service_role may call outside of the engine');
select set_eq($$ select f from pg_temp.callable_by('service_role') f where f like 'jobs.%' $$, array[
  -- the worker
  'jobs.answer_doorbell', 'jobs.begin_effects', 'jobs.close_batch', 'jobs.end_drain', 'jobs.extend_batch', 'jobs.next_batch', 'jobs.next_wake',
  'jobs.return_batch', 'jobs.work', 'jobs.work_batch', 'jobs.keep_refreshed_token',
  'jobs.return_batch', 'jobs.work', 'jobs.work_batch',
  -- what the worker and others have seen
  'jobs.record_comments', 'jobs.record_follower_count',
  -- what leaves in one call, and what became of it
  'jobs.bundle_emails', 'jobs.settle_emails',
  -- server code that has work for tenants
  'jobs.enqueue', 'jobs.enqueue_many',
  -- functions/jobs
  'jobs.health', 'jobs.list', 'jobs.next_slots', 'jobs.next_times', 'jobs.run_now', 'jobs.run_result', 'jobs.start', 'jobs.take_request', 'jobs.why',
  -- functions/webhooks
  'jobs.deletion_status', 'jobs.receive_deletion', 'jobs.receive_webhook', 'jobs.record_visit', 'jobs.webhook_secrets',
  -- views over the queues
  'jobs.queue_state', 'jobs.service_report',
  -- platform admins
  'jobs.add_member', 'jobs.add_platform_admin', 'jobs.cancel', 'jobs.pause', 'jobs.recover_from_backup', 'jobs.remove_platform_admin', 'jobs.replay', 'jobs.resume', 'jobs.set_call_limit', 'jobs.set_plan', 'jobs.set_platform_credential',
  'jobs.set_setting', 'jobs.start_tick', 'jobs.stop_all', 'jobs.tick'
], 'what service_role may call in the engine');
select is_empty($$ select f from pg_temp.callable_by('authenticated') f where f like 'jobs.%' $$, 'a signed-in user may call nothing of the engine');
select is_empty($$
  select p.pronamespace::regnamespace, p.proname from pg_catalog.pg_proc p
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace) and p.prokind = 'f' group by 1, 2 having count(*) > 1
$$, 'a name that the Data API offers is one function: no overload with fewer checks');
select is_empty($$
  select p.oid::regprocedure from pg_catalog.pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  where p.pronamespace in ('public'::regnamespace, 'jobs'::regnamespace, 'private'::regnamespace) and a.grantee = 0
$$, 'nothing is granted to public');

select * from finish();
rollback;
