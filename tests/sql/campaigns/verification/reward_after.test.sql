-- Proofs are used once, and where the campaign says so they are looked at twice.
begin;
select plan(19);
select tests.two_tenants();
select tests.participant('pizza', person) from unnest(array['anna', 'ben']) person;
select tests.task_of('pizza', 'second look', 'instagram_comment');
select tests.task_of('pizza', 'shared', 'instagram_comment');
select tests.claim_task('pizza', 'anna', 'second look');
select tests.claim_task('pizza', person, 'shared') from unnest(array['anna', 'ben']) person;
update public.completions set claimed_at = claimed_at - interval '1 minute' where participant_id = tests.id('pizza/ben');

create function pg_temp.finds(p_task text, p_result jsonb) returns void language sql as $$
  select private.apply_verifications(array_agg((c.tenant_id, 0, c.id, 'done', p_result, null, 'tenant')::jobs.ended order by c.claimed_at desc))
  from public.completions c where c.task_id = tests.id(p_task)
$$;
create function pg_temp.state(p_task text, p_person text default 'anna') returns text language sql as $$
  select concat_ws(': ', c.status, c.reason) from public.completions c where c.task_id = tests.id(p_task) and c.participant_id = tests.id('pizza/' || p_person)
$$;
create function pg_temp.loaded() returns jobs.loaded language sql as $$
  select l from public.completions c, private.load_verifications(array[c.tenant_id], array[1::bigint], array[c.id], array[null::jsonb]) l where c.task_id = tests.id('second look')
$$;

-- One proof, one claim
select pg_temp.finds('shared', '{"verdict": "verified", "evidence": {"comment_id": "5", "author_id": "a"}}');
select is(pg_temp.state('shared', 'ben'), 'verified', 'a comment proves the claim that was made first');
select is(pg_temp.state('shared', 'anna'), 'manual_review: what proves this claim has proven another claim of this task', 'the other goes to a person');
select tests.participant('pizza', 'cleo');
select tests.claim_task('pizza', 'cleo', 'shared');
select pg_temp.finds('shared', '{"verdict": "verified", "evidence": {"comment_id": "6", "author_id": "a"}}');
select matches(pg_temp.state('shared', 'cleo'), '^manual_review', 'another comment of the same account proves no second claim');
select tests.participant('pizza', 'dora');
select tests.claim_task('pizza', 'dora', 'shared');
select pg_temp.finds('shared', '{"verdict": "verified", "evidence": {"comment_id": "1122_5", "author_id": "b"}}');
select matches(pg_temp.state('shared', 'dora'), '^manual_review', 'nor does the same comment under its longer id');
select tests.participant('pizza', 'emil');
select tests.claim_task('pizza', 'emil', 'shared');
select pg_temp.finds('shared', '{"verdict": "verified", "evidence": {"comment_id": "7", "author_id": "b"}}');
select is(pg_temp.state('shared', 'emil'), 'verified', 'a comment of somebody else does, whose account has proven nothing yet');

-- Two looks
update public.campaigns set reward_after = interval '2 days' where id = tests.id('pizza campaign');
select pg_temp.finds('second look', '{"verdict": "verified", "evidence": {"comment_id": "9", "author_id": "z"}}');
select matches(pg_temp.state('second look'), '^pending: seen, and looked at again from', 'what was seen once stays open');
select is((select count(*) from public.spin_ledger l join public.completions c on c.id = l.completion_id where c.task_id = tests.id('second look')), 0::bigint, 'and earns nothing yet');
select is((select max(i.run_at) - now() from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('second look')), interval '2 days', 'the second look has its item');
select is((pg_temp.loaded()).hold_until, now() + interval '2 days', 'any other item of it is held until then');
select pg_temp.finds('second look', '{"verdict": "verified", "evidence": {"comment_id": "9", "author_id": "z"}}');
select matches(pg_temp.state('second look'), '^pending', 'a second look before its time decides nothing');
update public.completions set seen_at = seen_at - interval '2 days' where task_id = tests.id('second look');
insert into private.signals (tenant_id, surface, kind, external_id, author_id, target_id, codes, via, happened_at)
select c.tenant_id, 'instagram', 'comment', '9', 'z', '17900000000000001', array[c.code], 'api', now() from public.completions c where c.task_id = tests.id('second look');
insert into private.signal_codes (tenant_id, code, signal_id) select tenant_id, codes[1], id from private.signals where external_id = '9';
select is((pg_temp.loaded()).hold_until, null, 'then it goes to the worker');
select is((pg_temp.loaded()).data -> 'known', 'null'::jsonb, 'who looks for itself: what is remembered does not count');
select is(private.decide_by_signals(tests.id('pizza'), array(select id from private.signals where external_id = '9'), '{}'), 0, 'nor does it decide');
savepoint gone;
select pg_temp.finds('second look', '{"verdict": "failed", "reason": "not_found"}');
select is(pg_temp.state('second look'), 'failed: it was there, and was gone at the second look: not_found', 'what is gone by then fails, with the reason');
rollback to gone;
select pg_temp.finds('second look', '{"verdict": "verified", "evidence": {"comment_id": "9", "author_id": "z"}}');
select is(pg_temp.state('second look'), 'verified', 'what is still there is verified');
select is((select string_agg(to_status, ' ' order by to_status) from public.completion_decisions d where d.task_id = tests.id('second look')), 'pending pending verified', 'every look is on record');

-- Kinds that nothing proves
select tests.task_of('pizza', 'a like', 'facebook_page_like');
update public.campaign_strategies set strategy = 'honor_system';
select tests.claim_task('pizza', 'anna', 'a like');
select pg_temp.finds('a like', '{"verdict": "verified", "evidence": {"author_id": "q"}}');
select is(pg_temp.state('a like'), 'manual_review: nothing can prove this kind of task', 'no finding verifies a Page like');
select is((select sum(l.spins) from public.spin_ledger l join public.completions c on c.id = l.completion_id where c.task_id = tests.id('second look')), 3::bigint, 'the reward of the second look is paid once');
select is((select count(*) from private.proofs where task_id = tests.id('a like')), 0::bigint, 'and what proves nothing is no proof');

select * from finish();
rollback;
