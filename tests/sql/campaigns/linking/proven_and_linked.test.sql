-- Where every comment of a reading proves a claim the worker tells no comments, only outcomes: with them the accounts that sent a code
-- are linked, as at pizza, which is told by a webhook. gym has to look.
begin;
select plan(14);
select tests.two_tenants();
select tests.participant(s, p) from unnest(array['pizza', 'gym']) s, unnest(array['anna', 'ben', 'carl', 'dora']) p;
select tests.task_of(s, s || ' comment', 'instagram_comment', '{"post_id": "555"}'), tests.task_of(s, s || ' follow', 'instagram_follow'),
  tests.task_of(s, s || ' reaction', 'facebook_reaction'), tests.task_of(s, s || ' page', 'facebook_comment', '{"post_id": "42_1"}') from unnest(array['pizza', 'gym']) s;
update public.social_tasks set created_at = now() - interval '1 hour';
-- ben's account is dora's already; anna reacted before anybody knew whose account that was.
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
  select tests.id(s), tests.id(s || '/dora'), 'instagram', 'ig_ben', 'link code' from unnest(array['pizza', 'gym']) s;
select private.record_signals(tests.id(s), '[{"surface": "facebook", "kind": "reaction", "external_id": "17900000000000001:fb_anna", "author_id": "fb_anna", "target_id": "17900000000000001"}]')
from unnest(array['pizza', 'gym']) s;
select tests.claim_task(s, p, s || ' comment') from unnest(array['pizza', 'gym']) s, unnest(array['anna', 'ben', 'carl']) p;
select tests.claim_task(s, 'anna', s || ' ' || t) from unnest(array['pizza', 'gym']) s, unnest(array['follow', 'reaction', 'page']) t;
update public.completions set status = 'needs_user_action' where task_id in (tests.id('pizza follow'), tests.id('gym follow'));

create function pg_temp.claim(p_slug text, p_person text, p_task text) returns public.completions language sql as $$
  select c from public.completions c where c.task_id = tests.id(p_slug || ' ' || p_task) and c.participant_id = tests.id(p_slug || '/' || p_person)
$$;
create function pg_temp.told(p_id text, p_person text, p_task text, p_author text) returns jsonb language sql as $$
  select jsonb_build_object('surface', split_part(t.kind::text, '_', 1), 'kind', 'comment', 'external_id', p_id, 'target_id', t.post_id, 'author_id', p_author,
    'author_username', case when t.kind::text like 'instagram%' then '@' || upper(p_author) end, 'text', (pg_temp.claim('pizza', p_person, p_task)).code, 'happened_at', now())
  from public.social_tasks t where t.id = tests.id('pizza ' || p_task)
$$;
create function pg_temp.found(p_id text, p_person text, p_task text, p_author text, p_result jsonb default '{}') returns jobs.ended language sql as $$
  select (tests.id('gym'), 0, (pg_temp.claim('gym', p_person, p_task)).id, 'done', jsonb_build_object('verdict', 'verified',
    'evidence', jsonb_build_object('comment_id', p_id, 'author_id', p_author, 'commented_at', now()),
    'account', jsonb_build_object('platform', split_part(t.kind::text, '_', 1), 'username', case when t.kind::text like 'instagram%' then '@' || upper(p_author) end)) || p_result, null, 'tenant')::jobs.ended
  from public.social_tasks t where t.id = tests.id('gym ' || p_task)
$$;
create function pg_temp.accounts(p_slug text) returns text language sql as $$
  select string_agg(concat_ws(' ', p.display_name, a.platform, a.external_id, a.username, a.linked_by), ', ' order by p.display_name, a.platform)
  from public.linked_accounts a join public.participants p on p.tenant_id = a.tenant_id and p.id = a.participant_id where a.tenant_id = tests.id(p_slug)
$$;
create function pg_temp.claims(p_slug text) returns text language sql as $$
  select string_agg(concat_ws(' ', p.display_name, substr(t.title, length(p_slug) + 2), c.status), ', ' order by p.display_name, t.title)
  from public.completions c
  join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where c.tenant_id = tests.id(p_slug) and p.display_name in ('anna', 'ben', 'carl')
$$;
select is(pg_temp.claims('pizza'), pg_temp.claims('gym'), 'both begin alike');

-- By Instagram
select private.record_signals(tests.id('pizza'), jsonb_build_array(pg_temp.told('1', 'anna', 'comment', 'ig_anna'), pg_temp.told('2', 'ben', 'comment', 'ig_ben')));
select private.apply_verifications(array[pg_temp.found('1', 'anna', 'comment', 'ig_anna'), pg_temp.found('2', 'ben', 'comment', 'ig_ben')]);
select is(pg_temp.accounts('gym'), pg_temp.accounts('pizza'), 'outcomes link the accounts that being told links');
select is(pg_temp.accounts('gym'), 'anna instagram ig_anna ig_anna claim code, dora instagram ig_ben link code', 'with their names, and nobody else''s');
select is(pg_temp.claims('gym'), pg_temp.claims('pizza'), 'and decide the same claims');
select is(pg_temp.claims('gym'), 'anna comment verified, anna follow pending, anna page pending, anna reaction pending, ben comment verified, carl comment pending',
  'one that waited for the link goes on');
select is((select count(*) from jobs.items i where i.tenant_id = tests.id(s) and i.subject_id = (pg_temp.claim(s, 'anna', 'follow')).id and i.run_at <= now()), 1::bigint, format('with an item at %s', s))
from unnest(array['pizza', 'gym']) s;

-- By Facebook: what was seen before the link proves now.
select private.record_signals(tests.id('pizza'), jsonb_build_array(pg_temp.told('3', 'anna', 'page', 'fb_anna')));
select private.apply_verifications(array[pg_temp.found('3', 'anna', 'page', 'fb_anna')]);
select is(pg_temp.accounts('gym'), pg_temp.accounts('pizza'), 'on Facebook alike');
select is(pg_temp.claims('gym'), pg_temp.claims('pizza'), 'and what was seen of the account before proves on both ways');
select is((pg_temp.claim('gym', 'anna', 'reaction')).status::text, 'verified', 'a reaction of the time before the link');

-- What links nobody
create function pg_temp.links(p_result jsonb) returns text language plpgsql as $$
begin
  perform private.apply_verifications(array[pg_temp.found('9', 'carl', 'comment', 'ig_carl', p_result)]);
  return (select a.external_id from public.linked_accounts a where a.participant_id = tests.id('gym/carl'));
end
$$;
select is(pg_temp.links('{"verdict": "unknown", "account": {"platform": "instagram"}}'), null, 'an account that has proven nothing is not linked');
update public.completions set status = 'pending' where id = (pg_temp.claim('gym', 'carl', 'comment')).id;
select is(pg_temp.links('{"account": {"platform": "telegram"}}'), null, 'nor one of another platform');
update public.completions set status = 'manual_review', verified_at = null where id = (pg_temp.claim('gym', 'carl', 'comment')).id;
select is(pg_temp.links('{}'), null, 'nor by a claim that is decided');
update public.completions set status = 'pending' where id = (pg_temp.claim('gym', 'carl', 'comment')).id;
select is(pg_temp.links('{}'), 'ig_carl', 'an open claim''s code does');

select * from finish();
rollback;
