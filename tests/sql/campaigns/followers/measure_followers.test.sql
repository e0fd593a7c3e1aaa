-- measure-followers: whose followers are counted, once a day, and what the counts decide.
begin;
select plan(41);
select tests.two_tenants();
delete from jobs.items;
update jobs.definitions set paused = false where job = 'measure-followers';
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "canary-pizza"}', '{"page_id": "42", "ig_user_id": "43"}');
select public.set_credential(tests.id('gym'), 'meta', 'instagram_login', '{"access_token": "canary-gym"}', '{"ig_user_id": "53"}');
select tests.task_of(s, s || ' like', 'facebook_page_like'), tests.task_of(s, s || ' follow', 'instagram_follow') from unnest(array['pizza', 'gym']) s;

create function pg_temp.accounts(p_slug text) returns text language sql as $$
  select coalesce(string_agg(a.platform || ' ' || a.account_id, ', ' order by a.platform), 'none') from private.accounts_to_measure(tests.id(p_slug)) a
$$;
create function pg_temp.due() returns text language sql as $$
  select coalesce(string_agg(t.slug, ' ' order by t.slug), 'nobody') from private.tenants_to_measure() d join public.tenants t on t.id = d
$$;
create function pg_temp.strategy(p_slug text, p_strategy text, p_basis text) returns void language sql as $$
  update public.campaign_strategies set strategy = p_strategy, statistical_basis = p_basis where tenant_id = tests.id(p_slug)
$$;

-- Who needs it
select is(pg_temp.due(), 'nobody', 'while nobody goes by growth nothing is counted');
select is(private.followers_are_to_be_measured(), false, 'and there is no run');
select is(jobs.start_slot((select d from jobs.definitions d where d.job = 'measure-followers'), now()), null, 'nor an item');
select pg_temp.strategy('pizza', 'statistical', 'rate');
select is(pg_temp.due(), 'nobody', 'a rate needs no count');
select pg_temp.strategy('pizza', 'manual', 'follower_growth');
select is(pg_temp.due(), 'nobody', 'nor does another strategy, whatever its basis');
select pg_temp.strategy('pizza', 'statistical', 'follower_growth');
select is(pg_temp.due(), 'pizza', 'a campaign that goes by growth does, for its tenant only');
select is(pg_temp.accounts('pizza'), 'facebook 42, instagram 43', 'of the accounts whose followers its tasks make more');
select pg_temp.strategy('pizza', 'manual', 'rate');
insert into public.cohorts (tenant_id, id, name, strategy, statistical_basis) values (tests.id('gym'), tests.id('friends'), 'Friends', 'statistical', 'follower_growth');
select is(pg_temp.due(), 'gym', 'so does a cohort that goes by growth, whatever the campaign says');
update public.cohorts set strategy = null;
select is(pg_temp.due(), 'nobody', 'a cohort takes what it does not say from the campaign');
select pg_temp.strategy('gym', 'statistical', 'rate');
select is(pg_temp.due(), 'gym', 'the strategy');
update public.cohorts set strategy = 'statistical', statistical_basis = null;
select is(pg_temp.due(), 'nobody', 'and the basis');
update public.cohorts set statistical_basis = 'follower_growth';
select is(pg_temp.accounts('gym'), 'instagram 53', 'a login without a Page has no Page to count');
select pg_temp.strategy('pizza', 'statistical', 'follower_growth');
update public.social_tasks set kind = 'instagram_like', post_id = '1' where id = tests.id('pizza follow');
select is(pg_temp.accounts('pizza'), 'facebook 42', 'an account for which no task makes followers is not counted');
update public.social_tasks set kind = 'instagram_follow', post_id = null where id = tests.id('pizza follow');
update public.campaigns set status = 'draft' where tenant_id = tests.id('pizza');
select is(pg_temp.due(), 'gym', 'a campaign that has not begun needs no count');
update public.campaigns set status = 'ended' where tenant_id = tests.id('pizza');
select is(pg_temp.due(), 'gym pizza', 'one that ended just now does: its last claims wait for it');
alter table public.campaigns disable trigger campaigns_before_update_keep_row_rules;
update public.campaigns set updated_at = now() - interval '3 days' where tenant_id = tests.id('pizza');
select is(pg_temp.due(), 'gym', 'one that is long over does not');
update public.campaigns set status = 'active', ends_at = now() - interval '3 days', starts_at = now() - interval '9 days' where tenant_id = tests.id('pizza');
select is(pg_temp.due(), 'gym', 'nor one whose time is over');
update public.campaigns set ends_at = null where tenant_id = tests.id('pizza');
update public.credentials set health = 'broken' where tenant_id = tests.id('gym');
select is(pg_temp.due(), 'pizza', 'a broken credential is not asked');
update public.credentials set health = 'healthy' where tenant_id = tests.id('gym');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "canary-platform"}');
select public.remove_credential(tests.id('gym'), 'meta');
select is(pg_temp.due(), 'pizza', 'nor the platform''s for a tenant without one');
select public.set_credential(tests.id('gym'), 'meta', 'instagram_login', '{"access_token": "canary-gym"}', '{"ig_user_id": "53"}');

-- A day's run
select isnt(jobs.start_slot((select d from jobs.definitions d where d.job = 'measure-followers'), now()), null, 'a slot makes a run');
create table pg_temp.batch as select tests.claim('measure-followers') as b;
select is((select tests.served(b) from pg_temp.batch), 'gym 1, pizza 1', 'with an item for each');
select is((select string_agg(t ->> 'slug' || ' ' || (t #>> '{credential,secret,access_token}'), ', ' order by t ->> 'slug') from pg_temp.batch, jsonb_array_elements(b -> 'tenants') t),
  'gym canary-gym, pizza canary-pizza', 'each with its own credential');
select is((select i.data - 'fingerprint' from pg_temp.batch, tests.items_of(b) i where i.slug = 'pizza'),
  '{"accounts": [{"platform": "instagram", "account_id": "43"}, {"platform": "facebook", "account_id": "42"}]}', 'that says what to count');
create function pg_temp.finds(p_results jsonb) returns void language sql as $$
  select jobs.close_batch((b ->> 'batch_id')::bigint, (
    select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result', jsonb_build_object('fingerprint', i.data -> 'fingerprint') || (p_results -> i.slug)))
    from tests.items_of(b) i)) from pg_temp.batch
$$;
create function pg_temp.counts() returns text language sql as $$
  select coalesce(string_agg(concat_ws(' ', t.slug, f.platform, f.account_id, f.followers, case when f.day <> (now() at time zone 'UTC')::date then f.day end), ', ' order by t.slug, f.platform), 'none')
  from public.follower_counts f join public.tenants t on t.id = f.tenant_id
$$;
select pg_temp.finds('{"pizza": {"counts": [{"platform": "instagram", "account_id": "43", "followers": 1000}, {"platform": "facebook", "account_id": "42", "followers": 200}]},
  "gym": {"counts": [{"platform": "instagram", "account_id": "53", "followers": 7}, {"platform": "x", "account_id": "9", "followers": 5}], "unread": []}}');
select is(pg_temp.counts(), 'gym instagram 53 7, pizza facebook 42 200, pizza instagram 43 1000', 'what was found is kept, by account and day, and nothing that this job cannot count');
select is(pg_temp.due(), 'nobody', 'that is enough for a day');

-- Again on the same day
update public.follower_counts set followers = 900 where platform = 'facebook';
delete from public.follower_counts where platform = 'instagram' and tenant_id = tests.id('pizza');
select is(pg_temp.accounts('pizza'), 'instagram 43', 'what has its count is not counted again');
select jobs.enqueue_many('measure-followers', array[tests.id('pizza'), tests.id('gym')]);
update pg_temp.batch set b = tests.claim('measure-followers');
select is((select tests.served(b) from pg_temp.batch), 'pizza 1', 'an item with nothing left to count is cancelled');
select pg_temp.finds('{"pizza": {"counts": [{"platform": "facebook", "account_id": "42", "followers": 1}, {"platform": "instagram", "account_id": "43", "followers": 1000}]}}');
select is(pg_temp.counts(), 'gym instagram 53 7, pizza facebook 42 900, pizza instagram 43 1000', 'the first count of a day stays');

-- What is not taken
create function pg_temp.apply(p_slug text, p_result jsonb, p_outcome text default 'done', p_source text default 'tenant') returns text language plpgsql as $$
begin
  delete from public.follower_counts;
  perform private.apply_follower_counts(array[(tests.id(p_slug), 1, null, p_outcome,
    jsonb_build_object('fingerprint', (select c.fingerprint from public.credentials c where c.tenant_id = tests.id(p_slug) and c.provider = 'meta')) || p_result, null, p_source)::jobs.ended]);
  return pg_temp.counts();
end
$$;
select is(pg_temp.apply('pizza', '{"counts": [{"platform": "facebook", "account_id": "42", "followers": 5}]}'), 'pizza facebook 42 5', 'a count of the right kind is taken');
select is(pg_temp.apply('pizza', jsonb_build_object('counts', jsonb_build_array(jsonb_build_object('platform', 'facebook', 'account_id', '42', 'followers', f)))), 'none', format('followers: %s is not', f))
from unnest(array['"many"', '-1', '1.5', '10000000000', 'null']::jsonb[]) f;
select is(pg_temp.apply('pizza', '{"counts": "none"}') || pg_temp.apply('pizza', '{}'), 'nonenone', 'nor a result that has no list');
select is(pg_temp.apply('pizza', '{"counts": [{"platform": "facebook", "account_id": "42", "followers": 5}]}', 'dead'), 'none', 'nor that of an item that died');
select is(pg_temp.apply('pizza', '{"counts": [{"platform": "facebook", "account_id": "42", "followers": 5}]}', 'done', 'platform'), 'none', 'nor what the platform''s credential was told');
select is(pg_temp.apply('pizza', '{"fingerprint": "000000000000", "counts": [{"platform": "facebook", "account_id": "42", "followers": 5}]}'), 'none', 'nor what another credential was told');

-- What the counts decide: growth of one account, over a day
create function pg_temp.decided(p_before jsonb, p_after jsonb) returns text language plpgsql as $$
declare
  v_today date := (now() at time zone 'UTC')::date;
  v_id uuid;
begin
  delete from public.completions where task_id = tests.id('pizza like');
  delete from public.follower_counts;
  insert into public.follower_counts (tenant_id, platform, day, followers, measured_at, account_id)
  select tests.id('pizza'), 'facebook', v_today - 1 + n, (c ->> 'followers')::integer, (v_today - 1 + n)::timestamp at time zone 'UTC' + (c ->> 'after')::interval, c ->> 'account'
  from (values (0, p_before), (1, p_after)) as x (n, c);
  v_id := tests.claim_task('pizza', 'pizza participant', 'pizza like');
  update public.completions set claimed_at = (v_today - 1)::timestamp at time zone 'UTC' + interval '12 hours', settle_at = now(), deadline = now() + interval '1 hour' where id = v_id;
  perform private.settle_claims(tests.id('pizza'), null, null);
  return (select concat_ws(' ', d.evidence ->> 'basis', d.evidence ->> 'growth', d.evidence ->> 'why') from public.completion_decisions d where d.completion_id = v_id);
end
$$;
select is(pg_temp.decided('{"followers": 100, "after": "5 minutes", "account": "42"}', '{"followers": 108, "after": "5 minutes", "account": "42"}'), 'follower_growth 8', 'two counts that are a day apart are growth');
select matches(pg_temp.decided('{"followers": 100, "after": "20 hours", "account": "42"}', '{"followers": 101, "after": "5 minutes", "account": "42"}'), '^rate the followers of .* were not measured a day apart$',
  'what is left of a day after a late count is not');
select matches(pg_temp.decided('{"followers": 100, "after": "5 minutes", "account": "41"}', '{"followers": 9000, "after": "5 minutes", "account": "42"}'), '^rate ', 'two accounts are no growth');

select * from finish();
rollback;
