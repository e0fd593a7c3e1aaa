-- Whoever was forgotten and comes back with the same account is not rewarded again for the same task, and nothing that is kept says
-- who it was.
begin;
select plan(16);
select tests.two_tenants();
select tests.participant('pizza', p) from unnest(array['anna', 'ben', 'carl']) p;
select tests.participant('gym', 'anna');
select tests.task_of(s, s || ' comment', 'instagram_comment', '{"post_id": "555"}') from unnest(array['pizza', 'gym']) s;
select tests.task_of('pizza', 'pizza other', 'instagram_comment', '{"post_id": "555"}');
create function pg_temp.claim(p_slug text, p_person text, p_task text) returns text language plpgsql as $$
begin
  perform tests.claim_task(p_slug, p_person, p_slug || ' ' || p_task);
  return (select c.code from public.completions c where c.task_id = tests.id(p_slug || ' ' || p_task) and c.participant_id = tests.id(p_slug || '/' || p_person));
end
$$;
-- The account 178414700 comments with somebody's code. p_author: null where the platform names no id.
create function pg_temp.comment(p_slug text, p_id text, p_code text, p_author text default '178414700') returns void language sql as $$
  select private.record_signals(tests.id(p_slug), jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('surface', 'instagram', 'kind', 'comment', 'external_id', p_id,
    'author_id', p_author, 'author_username', 'jane.doe', 'target_id', '555', 'text', p_code))))
$$;
create function pg_temp.status(p_slug text, p_person text, p_task text) returns text language sql as $$
  select c.status::text from public.completions c where c.task_id = tests.id(p_slug || ' ' || p_task) and c.participant_id = tests.id(p_slug || '/' || p_person)
$$;
create function pg_temp.spins(p_task text) returns bigint language sql as $$
  select count(*) from public.spin_ledger l join public.completions c on c.tenant_id = l.tenant_id and c.id = l.completion_id where c.task_id = tests.id('pizza ' || p_task)
$$;
create function pg_temp.forget(p_slug text, p_subject text) returns jsonb language sql as $$
  select private.erase_person(tests.id(p_slug), p_subject)
$$;

select pg_temp.comment('pizza', 'c1', pg_temp.claim('pizza', 'anna', 'comment'));
select is(pg_temp.status('pizza', 'anna', 'comment'), 'verified', 'an account proves a claim');
select is(pg_temp.forget('pizza', '178414700') ->> 'proofs', '1', 'its person is forgotten');
select is_empty($$ select from private.proofs p where p::text like '%178414700%' or p::text like '%jane%' $$, 'no proof names the account');
select is((select count(*) from private.proofs p where p.proof ~ '^forgotten:[0-9a-f]{64}$'), 1::bigint, 'a mark stays in its place');
select is_empty($$ select from private.proofs p where p.proof in (
    select 'forgotten:' || encode(sha256(convert_to(v, 'UTF8')), 'hex')
    from unnest(array['178414700', 'author:178414700', tests.id('pizza') || ' author:178414700']) v) $$, 'which nobody finds by hashing ids: it has a key');
select is_empty($$ select from vault.secrets s join public.credentials c on true where s.name = 'forgetting_key' and s.id = c.secret_id $$, 'the key is in Vault, and no tenant''s');

-- The same account again
select pg_temp.comment('pizza', 'c2', pg_temp.claim('pizza', 'ben', 'comment'));
select is(pg_temp.status('pizza', 'ben', 'comment'), 'pending', 'the account proves no second claim of the task by a webhook');
select private.apply_verifications(array[(tests.id('pizza'), 0, c.id, 'done', '{"verdict": "verified", "evidence": {"comment_id": "c2", "author_id": "178414700"}}', null, 'tenant')::jobs.ended])
from public.completions c where c.task_id = tests.id('pizza comment') and c.participant_id = tests.id('pizza/ben');
select is(pg_temp.status('pizza', 'ben', 'comment'), 'manual_review', 'nor by the worker: a person decides');
select is(pg_temp.spins('comment'), 1::bigint, 'the reward was drawn once');
select pg_temp.comment('pizza', 'c3', pg_temp.claim('pizza', 'carl', 'comment'), '178414701');
select is(pg_temp.status('pizza', 'carl', 'comment'), 'verified', 'another account proves one');
select pg_temp.comment('pizza', 'c4', pg_temp.claim('pizza', 'carl', 'other'));
select is(pg_temp.status('pizza', 'carl', 'other'), 'verified', 'and the account another task');
select pg_temp.comment('gym', 'c5', pg_temp.claim('gym', 'anna', 'comment'));
select is(pg_temp.status('gym', 'anna', 'comment'), 'verified', 'and the same at another business, which did not forget it');

-- Forgotten twice, by a task in which there are marks already
select pg_temp.forget('pizza', '178414701');
select pg_temp.forget('pizza', '178414700');
select is((select count(distinct p.proof) from private.proofs p where p.task_id = tests.id('pizza comment') and p.proof like 'forgotten:%'), 2::bigint, 'each account has one mark in a task');
select is_empty($$ select from private.proofs p where p.tenant_id = tests.id('pizza') and p::text like '%1784147%' $$, 'and none an id');

-- Ids that stand inside of others
update public.completions set evidence = '{"reaction": "1_2:178414700", "message_id": "referral:178414700:17000", "comment_id": "2_178414", "author_id": "178414700", "at": "x"}'
where task_id = tests.id('gym comment');
insert into private.webhook_removals values (tests.id('gym'), 'facebook', 'reaction', '1_2:178414700', now()), (tests.id('gym'), 'facebook', 'reaction', '1_2:5', now());
select pg_temp.forget('gym', '178414700');
select is((select evidence from public.completions where task_id = tests.id('gym comment')), '{"comment_id": "2_178414", "at": "x"}', 'the id of a reaction, which has the person in it, goes too');
select is((select string_agg(external_id, ' ') from private.webhook_removals where tenant_id = tests.id('gym')), '1_2:5', 'and what is known of a reaction that was taken back');

select * from finish();
rollback;
