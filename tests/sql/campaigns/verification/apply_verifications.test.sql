-- What the findings of verify-social-tasks mean: status, spins and message, once, in one transaction.
begin;
select plan(27);
select tests.two_tenants();
select tests.task('pizza', 'pizza campaign', 'task ' || n, n) from generate_series(1, 6) n;

create function pg_temp.finds(p_task text, p_outcome text, p_result jsonb, p_error text default null) returns void language sql as $$
  select private.apply_verifications(array[(c.tenant_id, 0, c.id, p_outcome, p_result, p_error, 'tenant')::jobs.ended])
  from public.completions c where c.task_id = tests.id(p_task)
$$;
create function pg_temp.status(p_task text) returns text language sql as $$
  select concat_ws(': ', c.status, c.reason) from public.completions c where c.task_id = tests.id(p_task)
$$;
create function pg_temp.spins(p_task text) returns bigint language sql as $$
  select coalesce(sum(l.spins), 0) from public.spin_ledger l join public.completions c on c.tenant_id = l.tenant_id and c.id = l.completion_id where c.task_id = tests.id(p_task)
$$;
create function pg_temp.message(p_task text) returns text language sql as $$
  select concat_ws(': ', m.status, m.reason) from public.notification_outbox m join public.completions c on c.tenant_id = m.tenant_id and c.id = m.completion_id where c.task_id = tests.id(p_task)
$$;
create function pg_temp.items() returns bigint language sql as $$
  select count(*) from jobs.items i where i.job = 'send-notifications' and i.tenant_id = tests.id('pizza')
$$;

select tests.claim_task('pizza', 'pizza participant', 'task ' || n) from generate_series(1, 6) n;
select is(pg_temp.items(), 1::bigint, 'the message of the first completion waits');

-- Verified
select pg_temp.finds('task 3', 'done', '{"verdict": "verified", "evidence": {"comment_id": "7"}}');
select is(pg_temp.status('task 3'), 'verified', 'a comment that was found verifies the completion');
select is((select verified_at from public.completions where task_id = tests.id('task 3')), now(), 'with the time');
select is((select evidence ->> 'comment_id' from public.completions where task_id = tests.id('task 3')), '7', 'the evidence');
select is((select credential_source from public.completions where task_id = tests.id('task 3')), 'tenant', 'and whose credential it was');
select is(pg_temp.spins('task 3'), 3::bigint, 'the task''s spins are credited');
select is(pg_temp.message('task 3'), 'queued', 'a message is in the outbox');
select is(pg_temp.items(), 2::bigint, 'and has its item, in the same transaction');
select pg_temp.finds('task 3', 'done', '{"verdict": "verified"}');
select is(pg_temp.spins('task 3'), 3::bigint, 'the same finding again credits nothing');
select is(pg_temp.items(), 2::bigint, 'and sends nothing');
select pg_temp.finds('task 3', 'done', '{"verdict": "failed", "reason": "not_found"}');
select is(pg_temp.status('task 3'), 'verified', 'a completion is decided once');

-- Not verified
select pg_temp.finds('task 1', 'done', '{"verdict": "failed", "reason": "not_found"}');
select is(pg_temp.status('task 1'), 'failed: not_found', 'no comment by the deadline fails it');
select pg_temp.finds('task 2', 'done', '{"verdict": "unknown", "reason": "the post is gone"}');
select is(pg_temp.status('task 2'), 'manual_review: the post is gone', 'what cannot be known is never failed: a person looks');
select pg_temp.finds('task 4', 'dead', null, 'attempts used up');
select is(pg_temp.status('task 4'), 'manual_review: attempts used up', 'nor is what could not be looked at');
select pg_temp.finds('task 5', 'cancelled', null, 'the completion is gone');
select is(pg_temp.status('task 5'), 'pending', 'a cancelled item decides nothing');
select is(pg_temp.spins('task ' || n), 0::bigint, format('task %s earns nothing', n)) from unnest(array[1, 2, 4, 5]) n;
select is(pg_temp.items(), 2::bigint, 'and no message is sent for them');

-- Messages that are not to be sent
update public.campaigns set notifications_enabled = false where id = tests.id('pizza campaign');
select pg_temp.finds('task 6', 'done', '{"verdict": "verified"}');
select is(pg_temp.spins('task 6'), 6::bigint, 'with notifications switched off the spins are credited all the same');
select is(pg_temp.message('task 6'), 'disabled: notifications are switched off in this campaign', 'the message says why it does not go');
select is(pg_temp.items(), 2::bigint, 'and has no item');

-- One finding among many
update public.campaigns set notifications_enabled = true where id = tests.id('pizza campaign');
select tests.participant('pizza', 'stranger');
update public.participants set whatsapp_opt_in_at = null where user_id = tests.id('stranger');
select tests.claim_task('pizza', 'stranger', 'task 3');
select pg_temp.finds('task 3', 'done', '{"verdict": "verified"}');
select is((select string_agg(m.status::text, ' ' order by m.status) from public.notification_outbox m join public.completions c on c.tenant_id = m.tenant_id and c.id = m.completion_id where c.task_id = tests.id('task 3')),
  'queued no_consent', 'who did not agree to messages gets none');

-- Another tenant's completion is out of reach, even with its id.
select tests.task('gym', 'gym campaign', 'gym second');
select tests.claim_task('gym', 'gym participant', 'gym second');
select private.apply_verifications(array[(tests.id('pizza'), 0, c.id, 'done', '{"verdict": "verified"}', null, 'tenant')::jobs.ended])
from public.completions c where c.task_id = tests.id('gym second');
select is(pg_temp.status('gym second'), 'pending', 'an item decides only completions of its own tenant');
select pg_temp.finds('gym second', 'done', '{"verdict": "verified"}');
select is(pg_temp.status('gym second'), 'verified', 'as that tenant''s own item does');
select isnt_empty($$ select from public.notification_outbox where body like 'Congratulations, gym participant!%"gym second"%3 bonus spins have been added%/campaigns/%' $$,
  'the message names the person, the task and the spins, and links to the campaign');

select * from finish();
rollback;
