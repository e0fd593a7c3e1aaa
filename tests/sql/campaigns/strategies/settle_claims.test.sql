-- Strategies and deadlines: what becomes of claims that no proof decides.
begin;
select plan(36);
select tests.two_tenants();
select public.remove_credential(tests.id('gym'), 'meta');

create function pg_temp.strategy(p_strategy text, p_rate numeric default 0.85, p_basis text default 'rate') returns void language sql as $$
  update public.campaign_strategies set strategy = p_strategy, acceptance_rate = p_rate, statistical_basis = p_basis
$$;
create function pg_temp.claim(p_slug text, p_kind text) returns text language plpgsql as $$
declare
  v_task text := p_slug || ' ' || gen_random_uuid();
begin
  perform tests.task_of(p_slug, v_task, p_kind);
  perform tests.claim_task(p_slug, p_slug || ' participant', v_task);
  return v_task;
end
$$;
create function pg_temp.state(p_task text) returns text language sql as $$
  select concat_ws(' ', c.route, c.status, c.method) from public.completions c where c.task_id = tests.id(p_task)
$$;
create function pg_temp.settled(p_slug text, p_task text) returns text language plpgsql as $$
begin
  update public.completions set settle_at = now() where task_id = tests.id(p_task) and settle_at is not null;
  perform private.settle_claims(tests.id(p_slug), null, null);
  return pg_temp.state(p_task);
end
$$;

-- The order of choice: the tenant's own credential, the platform's, the strategy.
select pg_temp.strategy('honor_system');
select is(pg_temp.state(pg_temp.claim('pizza', 'instagram_comment')), 'api pending', 'what can be proven with the own credential is, whatever the strategy');
select is(pg_temp.state(pg_temp.claim('gym', 'instagram_comment')), 'strategy pending', 'without a credential the strategy decides');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "p"}');
select is(pg_temp.state(pg_temp.claim('gym', 'instagram_comment')), 'api pending', 'the platform''s credential comes before the strategy');
select is(pg_temp.state(pg_temp.claim('gym', 'instagram_dm_keyword')), 'strategy pending', 'but not for what only the tenant''s own webhooks tell');
select pg_temp.strategy('api');
select is(pg_temp.state(pg_temp.claim('gym', 'instagram_dm_keyword')), 'signal pending', 'the strategy api waits for a credential until the deadline');

-- What nothing can prove
select is(pg_temp.state(pg_temp.claim('pizza', 'instagram_like')), 'strategy manual_review', 'with api a person decides at once');
select pg_temp.strategy('manual');
select is(pg_temp.state(pg_temp.claim('pizza', 'x_follow')), 'strategy manual_review', 'with manual too');
select pg_temp.strategy('honor_system');
create table pg_temp.word as select pg_temp.claim('pizza', 'instagram_like') as task;
select is(pg_temp.state(task), 'strategy pending', 'on the honour system a claim first waits its delay') from pg_temp.word;
select is(private.settle_claims(tests.id('pizza'), null, null), '{"decided": 0}', 'it is not decided before') ;
select is(pg_temp.settled('pizza', task), 'strategy verified honor_system', 'then it is believed') from pg_temp.word;
select matches((select reason from public.completions where task_id = tests.id(task)), 'nothing was proven', 'and the record says that nothing was proven') from pg_temp.word;
select pg_temp.strategy('statistical', 1);
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'instagram_like')), 'strategy verified statistical', 'a rate of 1 accepts');
select pg_temp.strategy('statistical', 0);
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'instagram_like')), 'strategy failed statistical', 'a rate of 0 does not');
select ok(count(*) filter (where private.draw(md5(n::text)::uuid) < 0.85) between 800 and 900, 'a rate of 0.85 accepts about 850 of 1,000') from generate_series(1, 1000) n;
select is(private.draw(tests.id('x')), private.draw(tests.id('x')), 'the draw of a claim is always the same');

-- Cohorts come first.
insert into public.cohorts (tenant_id, id, name, strategy) values (tests.id('pizza'), tests.id('friends'), 'Friends', 'honor_system');
select tests.answer('pizza member', format('select public.set_cohort(%L, array[%L]::uuid[], %L)', tests.id('pizza'), tests.id('pizza/pizza participant'), tests.id('friends')));
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'instagram_like')), 'strategy verified honor_system', 'the cohort''s strategy comes before the campaign''s');
update public.participants set cohort_id = null;

-- Growth
select pg_temp.strategy('statistical', 0, 'follower_growth');
create table pg_temp.follow as select pg_temp.claim('pizza', 'x_follow') as task;
select ok((select settle_at > now() + interval '6 hours' from public.completions where task_id = tests.id(task)), 'by growth it waits for the next day''s count') from pg_temp.follow;
insert into public.follower_counts (tenant_id, platform, day, followers)
select tests.id('pizza'), 'x', (now() at time zone 'UTC')::date + d, 100 + 50 * d from generate_series(0, 1) d;
select is(pg_temp.settled('pizza', task), 'strategy verified statistical', 'followers that grew by more than the claims accept them all') from pg_temp.follow;
select is((select evidence ->> 'growth' from public.completion_decisions where task_id = tests.id(task)), '50', 'and the record says by how many') from pg_temp.follow;
select is((select reason || coalesce(evidence::text, '') from public.completions where task_id = tests.id(task)), 'accepted by a draw, not by a proof',
  'what the participant reads does not say with what chance') from pg_temp.follow;
delete from public.follower_counts where day = (now() at time zone 'UTC')::date + 1;
create table pg_temp.reason as select task, pg_temp.settled('pizza', task) as state from (select pg_temp.claim('pizza', 'facebook_page_like') as task) x;
select is(state, 'strategy failed statistical', 'without the next day''s count the rate decides') from pg_temp.reason;
select matches((select evidence ->> 'why' from public.completion_decisions where task_id = tests.id(task)), 'the followers of 20[0-9-]+ were not measured', 'and the record says that nothing was measured') from pg_temp.reason;
select is((select evidence ->> 'basis' from public.completion_decisions where task_id = tests.id(task)), 'rate', 'as its basis does') from pg_temp.reason;
select pg_temp.strategy('statistical', 1, 'follower_growth');
truncate pg_temp.reason;
insert into pg_temp.reason select task, pg_temp.settled('pizza', task) from (select pg_temp.claim('pizza', 'instagram_like') as task) x;
select is(state, 'strategy verified statistical', 'a kind that makes no followers is drawn by the rate') from pg_temp.reason;
select is((select evidence ->> 'why' from public.completion_decisions where task_id = tests.id(task)), 'this kind of task makes no followers', 'and says so') from pg_temp.reason;
insert into public.follower_counts (tenant_id, platform, day, followers) values
  (tests.id('pizza'), 'facebook', (now() at time zone 'UTC')::date, 100), (tests.id('pizza'), 'facebook', (now() at time zone 'UTC')::date + 1, 90);
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'facebook_page_like')), 'strategy failed statistical', 'followers that became fewer accept nobody, whatever the rate');
delete from public.follower_counts;

-- Deadlines
select pg_temp.strategy('honor_system');
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'link_visit')), 'signal failed link', 'a link that was not opened is a definite no, whatever the strategy');
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'instagram_story_mention')), 'signal manual_review', 'a signal that did not come proves nothing');
select is(pg_temp.settled('pizza', pg_temp.claim('pizza', 'instagram_comment')), 'api verified honor_system', 'a claim that no worker could look at falls to the strategy');
create table pg_temp.act as select pg_temp.claim('pizza', 'instagram_follow') as task;
create function pg_temp.asked() returns text language plpgsql as $$
begin
  update public.completions set status = 'needs_user_action', verified_at = null, method = null, settle_at = now() where task_id = (select tests.id(task) from pg_temp.act);
  return pg_temp.settled('pizza', (select task from pg_temp.act));
end
$$;
select is(pg_temp.asked(), 'api manual_review', 'a step of which nobody would have heard is no definite no: a person decides');
select matches((select reason from public.completions where task_id = tests.id(task)), 'tells this business of no messages', 'and the record says why') from pg_temp.act;
insert into private.signals (tenant_id, surface, kind, external_id, author_id, via, happened_at)
values (tests.id('pizza'), 'instagram', 'message', 'somebody''s', 'ig-somebody', 'webhook', now() - interval '1 day');
select is(pg_temp.asked(), 'api failed api', 'where Instagram tells of messages, a step that was not taken is one');
delete from private.signals;
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'instagram', 'ig-linked', 'link code');
select is(pg_temp.asked(), 'api failed api', 'so it is where Instagram was asked about the person after the deadline');
update public.completions set status = 'needs_user_action', method = null, claimed_at = now() - interval '3 days', deadline = now() - interval '1 day', settle_at = now()
where task_id = (select tests.id(task) from pg_temp.act);
select is((select pg_temp.state(task) from pg_temp.act, lateral (select private.settle_claims(tests.id('pizza'), null, null)) s), 'api verified honor_system',
  'where it could not be asked for a day, the strategy decides') from pg_temp.act;
select is((select string_agg(distinct actor, ' ') from public.completion_decisions where method in ('honor_system', 'statistical')), 'settle-claims', 'every decision is on record');
select ok((select bool_and(is_estimate) from public.verification_summary where method in ('honor_system', 'statistical')) is not false, 'summaries mark what was not proven');

select * from finish();
rollback;
