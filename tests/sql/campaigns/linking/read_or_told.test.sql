-- Comments that the worker reads link accounts exactly as comments that a webhook tells of: the same people, accounts and claims at
-- pizza, which is told, and at gym, which has to look.
begin;
select plan(9);
select tests.two_tenants();
select tests.participant(s, p) from unnest(array['pizza', 'gym']) s, unnest(array['anna', 'ben', 'carl', 'dora']) p;
select tests.task_of(s, s || ' comment', 'instagram_comment', '{"post_id": "555"}') from unnest(array['pizza', 'gym']) s;
select tests.task_of(s, s || ' elsewhere', 'instagram_comment', '{"post_id": "777"}') from unnest(array['pizza', 'gym']) s;
select tests.task_of(s, s || ' follow', 'instagram_follow') from unnest(array['pizza', 'gym']) s;
update public.social_tasks set created_at = now() - interval '1 hour';
-- ben's account is dora's already.
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
  select tests.id(s), tests.id(s || '/dora'), 'instagram', 'ig_ben', 'link code' from unnest(array['pizza', 'gym']) s;
select tests.claim_task(s, p, s || ' comment') from unnest(array['pizza', 'gym']) s, unnest(array['anna', 'ben']) p;
select tests.claim_task(s, 'carl', s || ' elsewhere') from unnest(array['pizza', 'gym']) s;
-- What anna waits for besides: that she writes, and a claim of a post that she has not commented on.
select tests.claim_task(s, 'anna', s || ' follow') from unnest(array['pizza', 'gym']) s;
update public.completions set status = 'needs_user_action' where task_id in (tests.id('pizza follow'), tests.id('gym follow'));

create function pg_temp.code(p_slug text, p_person text, p_task text) returns text language sql as $$
  select c.code from public.completions c where c.task_id = tests.id(p_slug || ' ' || p_task) and c.participant_id = tests.id(p_slug || '/' || p_person)
$$;
-- Comments with codes, newest first, as Meta lists them.
create function pg_temp.comments(p_slug text) returns jsonb language sql as $$
  select jsonb_agg(jsonb_build_object('id', c.id, 'author', c.author, 'code', c.code, 'at', now() - c.ago) order by c.ago)
  from (values
    -- A thief copies anna's code, later than she wrote it.
    ('1', 'ig_a_thief', pg_temp.code(p_slug, 'anna', 'comment'), interval '1 minute'),
    ('2', 'ig_anna', pg_temp.code(p_slug, 'anna', 'comment'), interval '2 minutes'),
    ('3', 'ig_ben', pg_temp.code(p_slug, 'ben', 'comment'), interval '3 minutes'),
    -- carl has the right code under the wrong post.
    ('4', 'ig_carl', pg_temp.code(p_slug, 'carl', 'elsewhere'), interval '4 minutes'),
    ('5', 'ig_else', null, interval '5 minutes')) as c (id, author, code, ago)
$$;
create function pg_temp.accounts(p_slug text) returns text language sql as $$
  select string_agg(concat_ws(' ', p.display_name, a.platform, a.external_id, a.username, a.linked_by), ', ' order by p.display_name)
  from public.linked_accounts a join public.participants p on p.tenant_id = a.tenant_id and p.id = a.participant_id where a.tenant_id = tests.id(p_slug)
$$;
create function pg_temp.claims(p_slug text) returns text language sql as $$
  select string_agg(concat_ws(' ', p.display_name, substr(t.title, length(p_slug) + 2), c.status, c.evidence ->> 'author_id'), ', ' order by p.display_name, t.title)
  from public.completions c
  join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where c.tenant_id = tests.id(p_slug) and p.display_name in ('anna', 'ben', 'carl')
$$;
select is(pg_temp.claims('pizza'), pg_temp.claims('gym'), 'both begin alike');

-- Told
select private.record_signals(tests.id('pizza'), (
  select jsonb_agg(jsonb_build_object('surface', 'instagram', 'kind', 'comment', 'external_id', c ->> 'id', 'author_id', c ->> 'author',
    'author_username', c ->> 'author', 'target_id', '555', 'text', 'Hi ' || coalesce(c ->> 'code', ''), 'happened_at', c ->> 'at'))
  from jsonb_array_elements(pg_temp.comments('pizza')) c));

-- Read
delete from jobs.items where job = 'verify-social-tasks' and subject_id not in (select id from public.completions where task_id = tests.id('gym comment'));
update jobs.items set run_at = now() - interval '1 minute' where job = 'verify-social-tasks';
update jobs.lanes set awake = true, wake_at = null, reason = null, not_before = '-infinity' where job = 'verify-social-tasks' and tenant_id = tests.id('gym');
create table pg_temp.batch as select tests.claim('verify-social-tasks') as b;
select jobs.record_comments((b ->> 'batch_id')::bigint, tests.id('gym'), jsonb_build_object('surface', 'instagram', 'post_id', '555',
  'comments', (select jsonb_agg(jsonb_build_object('id', c ->> 'id', 'at', c ->> 'at', 'author_id', c ->> 'author', 'username', c ->> 'author',
    'codes', case when c ->> 'code' is null then '[]' else jsonb_build_array(c ->> 'code') end)) from jsonb_array_elements(pg_temp.comments('gym')) c),
  'newest', null, 'complete', false)) from pg_temp.batch;

select is(pg_temp.accounts('gym'), pg_temp.accounts('pizza'), 'what is read links the accounts that being told links');
select is(pg_temp.accounts('gym'), 'anna instagram ig_anna ig_anna claim code, carl instagram ig_carl ig_carl claim code, dora instagram ig_ben link code',
  'whoever wrote a code first, on whatever post, unless the account is somebody else''s');
select is(pg_temp.claims('gym'), pg_temp.claims('pizza'), 'and decides the claims that being told decides');
select is(pg_temp.claims('gym'), 'anna comment verified ig_anna, anna follow pending, ben comment verified ig_ben, carl elsewhere pending',
  'a claim that waited for the link goes on, and one of another post stays open');

-- What the worker says of the same claims afterwards changes nothing.
select tests.close(b, '{"outcome": "done", "result": {"verdict": "verified", "evidence": {"comment_id": "1", "author_id": "ig_a_thief"}}}') from pg_temp.batch;
select is(pg_temp.claims('gym'), pg_temp.claims('pizza'), 'the verdict of the worker that read it comes too late to change it');
select is(pg_temp.accounts('gym'), pg_temp.accounts('pizza'), 'and links nobody else');

-- The link works from then on: a comment without a code, under the other post.
select tests.claim_task(s, 'anna', s || ' elsewhere') from unnest(array['pizza', 'gym']) s;
select private.record_signals(tests.id(s), jsonb_build_array(jsonb_build_object('surface', 'instagram', 'kind', 'comment', 'external_id', '9', 'author_id', 'ig_anna', 'target_id', '777')))
from unnest(array['pizza', 'gym']) s;
select is(pg_temp.claims('gym'), pg_temp.claims('pizza'), 'later comments of the account prove alike');
select is((select c.status::text from public.completions c where c.task_id = tests.id('gym elsewhere') and c.participant_id = tests.id('gym/anna')), 'verified', 'without any code');

select * from finish();
rollback;
