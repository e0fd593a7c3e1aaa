-- What the platforms forbid or frown upon.
begin;
select plan(20);
select tests.two_tenants();

create function pg_temp.add_task(p_kind text, p_title text default 'New') returns text language sql as $$
  select tests.error_of('pizza member', format('insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id) values (%L, %L, %L, %L, %L)',
    tests.id('pizza'), tests.id('pizza campaign'), p_kind, p_title,
    case when (select needs from public.task_kinds where kind = p_kind) = 'post' then '1' end))
$$;
create function pg_temp.acknowledge(p_who text, p_rule text, p_version integer) returns text language sql as $$
  select tests.error_of(p_who, format('select public.acknowledge_rule(%L, %L, %s)', tests.id('pizza'), p_rule, p_version))
$$;

select matches(pg_temp.add_task(kind), '^PT409: First somebody has to acknowledge the rule "rewarded_engagement"', format('%s needs an acknowledgement first', kind))
from public.task_kinds where rewarded_engagement order by kind;
select is(pg_temp.add_task('instagram_comment'), null, 'a comment needs none');
select matches(pg_temp.acknowledge('pizza member', 'rewarded_engagement', 1), '^42501', 'a member does not acknowledge for the tenant');
select matches(pg_temp.acknowledge('pizza admin', 'rewarded_engagement', 2), '^PT409', 'nor does anybody a version that is not in force');
select matches(pg_temp.acknowledge('pizza admin', 'no_rule', 1), '^PT404', 'nor a rule that is none');
select is(pg_temp.acknowledge('pizza admin', 'rewarded_engagement', 1), null, 'an admin does');
select is((select a.version || ' ' || (a.text = r.text) || ' ' || (a.user_id = tests.id('pizza admin')) from public.acknowledgements a join public.rules r using (rule, version)), '1 true true',
  'who, which version and which text is on record');
select is(pg_temp.add_task('instagram_follow'), null, 'now the task is taken');
insert into public.rules (rule, version, text) values ('rewarded_engagement', 2, 'newer');
select matches(pg_temp.add_task('instagram_like'), '^PT409', 'a new version has to be acknowledged anew');

select matches(pg_temp.add_task('instagram_comment', 'Share this on your timeline'), '^23514: Meta forbids to ask for a share', 'no task asks for a share on the timeline');
select matches(pg_temp.add_task('instagram_comment', 'Tag 3 friends below'), '^23514: Meta forbids to ask people to tag', 'nor to tag friends');
select is(pg_temp.add_task('instagram_mention', 'Mention us and share your story with a tag of us'), null, 'while a mention of the business is fine');

-- Promotions
create function pg_temp.activate() returns text language sql as $$
  select tests.error_of('pizza member', format('update public.campaigns set promotion = true, status = ''active'' where id = %L', tests.id('promotion')))
$$;
select tests.campaign('pizza', 'promotion', 'draft');
select is(pg_temp.activate(), '23514: Before this promotion can run it needs: official_rules, eligibility, ends_at, prize_terms, release_text.', 'a promotion says what it lacks');
update public.campaigns set official_rules = 'r', eligibility = 'e', ends_at = now() + interval '1 day', prize_terms = 'p', release_text = 't' where id = tests.id('promotion');
select matches(pg_temp.activate(), '^PT409: First somebody has to acknowledge the rule "promotion_release"', 'with everything it needs the acknowledgement');
select pg_temp.acknowledge('pizza owner', 'promotion_release', 1);
select is(pg_temp.activate(), null, 'then it runs');

select * from finish();
rollback;
