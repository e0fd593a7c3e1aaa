-- Secrets that were written with another key of Vault, as in a restored backup or a copy of a project: they stop nobody but whom they
-- belong to, and whoever enters them again is served again.
begin;
select plan(26);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'bar']) slug;
select tests.member('pizza', 'ada', 'owner');
select public.set_credential(tests.id(slug), 'meta', 'facebook_login', jsonb_build_object('access_token', 'first-' || slug)) from unnest(array['pizza', 'gym']) slug;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "first-platform"}');
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
select tests.job('look', '{"provider": "meta", "platform_allowed": true}');
update jobs.definitions set paused = true where job <> 'look';
delete from jobs.alerts;

-- A ciphertext is bound to its row, so that of another row is as unreadable as one of another key.
select vault.create_secret('of another row', 'another row');
create function pg_temp.spoil(p_name text) returns void language sql as $$
  update vault.secrets set secret = (select s.secret from vault.secrets s where s.name = 'another row') where name = p_name
$$;
create function pg_temp.tokens(p_batch jsonb) returns text language sql as $$
  select string_agg(format('%s: %s', t ->> 'slug', coalesce(t #>> '{credential,secret,access_token}', 'nothing')), ', ' order by t ->> 'slug')
  from jsonb_array_elements(p_batch -> 'tenants') t
$$;

create function pg_temp.work() returns void language sql as $$ select tests.enqueue('look', slug) from unnest(array['pizza', 'gym', 'bar']) slug $$;

select pg_temp.work();
create table pg_temp.batch as select tests.claim('look') as b;
select is(pg_temp.tokens(b), 'bar: first-platform, gym: first-gym, pizza: first-pizza', 'each tenant''s work goes with its credential') from pg_temp.batch;
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;

-- What somebody put into Vault by hand: the bare token, and what no column can hold.
create function pg_temp.put(p_secret text) returns text language plpgsql as $$
begin
  perform vault.update_secret(s.id, p_secret) from vault.secrets s where s.name = format('credential/%s/meta', tests.id('pizza'));
  perform pg_temp.work();
  update pg_temp.batch set b = tests.claim('look');
  perform tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
  return (select pg_temp.tokens(b) from pg_temp.batch);
end
$$;
select is(pg_temp.put('EAAGm0PX4ZCpsBA'), 'bar: first-platform, gym: first-gym, pizza: nothing', 'a secret that is no JSON stops nobody but its tenant');
select is(pg_temp.put('{"access_token": "a\u0000b"}'), 'bar: first-platform, gym: first-gym, pizza: nothing', 'nor one that no JSON may hold');
select is(jobs.webhook_secrets('pizza', 'meta'), null, 'its webhooks are refused');

select pg_temp.spoil(format('credential/%s/meta', tests.id('pizza')));
select throws_ok($$ select decrypted_secret from vault.decrypted_secrets where name like 'credential/%' $$, '22000', null, 'one of the secrets cannot be read');
select pg_temp.work();
update pg_temp.batch set b = tests.claim('look');
select is(pg_temp.tokens(b), 'bar: first-platform, gym: first-gym, pizza: nothing', 'the others are served, and its own tenant''s work goes without it') from pg_temp.batch;
select is((select t -> 'credential' ->> 'source' from pg_temp.batch, jsonb_array_elements(b -> 'tenants') t where t ->> 'slug' = 'pizza'), 'tenant',
  'never with the platform''s instead');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;

-- What its webhooks are signed with, and the job that renews its token.
select is(jobs.webhook_secrets('pizza', 'meta'), null, 'no signature of its webhooks can be right');
update public.credentials set kind = 'instagram_login', secret_at = now() - interval '50 days' where provider = 'meta';
select tests.enqueue('refresh-meta-tokens', slug) from unnest(array['pizza', 'gym']) slug;
update jobs.definitions set paused = false where job = 'refresh-meta-tokens';
create table pg_temp.renewal as select tests.claim('refresh-meta-tokens') as b;
update jobs.definitions set paused = true where job = 'refresh-meta-tokens';
select is((select string_agg(format('%s: %s', slug, jobs.keep_refreshed_token((b ->> 'batch_id')::bigint, item_id, 'new-token', now() + interval '60 days')), ', ' order by slug)
  from pg_temp.renewal, tests.items_of(b)), 'gym: t, pizza: f', 'a renewed token does not take its place, for what else belongs to it is lost');
select is(private.credential_for(tests.id('gym'), 'meta', true) #>> '{secret,access_token}', 'new-token', 'it does where the rest is known');
select tests.close(b, '{"outcome": "done"}') from pg_temp.renewal;

select isnt(tests.answer('ada', format('select public.set_credential(%L, ''meta'', ''facebook_login'', ''{"access_token": "second-pizza"}'')', tests.id('pizza'))),
  null, 'its owner can enter it again');
select pg_temp.work();
update pg_temp.batch set b = tests.claim('look');
select is(pg_temp.tokens(b), 'bar: first-platform, gym: new-token, pizza: second-pizza', 'and is served with it') from pg_temp.batch;
select is((select count(*) from vault.secrets where name = format('credential/%s/meta', tests.id('pizza'))), 1::bigint, 'the old one is gone');
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;

select pg_temp.spoil('credential/platform/meta');
select pg_temp.work();
update pg_temp.batch set b = tests.claim('look');
select is(pg_temp.tokens(b), 'bar: nothing, gym: new-token, pizza: second-pizza', 'without the platform''s those with one of their own are served') from pg_temp.batch;
select tests.close(b, '{"outcome": "done"}') from pg_temp.batch;
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "second-platform"}');
select is(private.credential_for(tests.id('bar'), 'meta', true) #>> '{secret,access_token}', 'second-platform', 'which can be entered again, too');

-- The platform's own
select private.keep_secret('alert_webhook_url', 'https://alerts.example/hook');
select tests.enqueue('look', 'gym');
update jobs.drains set ended_at = now() where ended_at is null;
select is(tests.tick() ->> 'rung', '1', 'a doorbell is rung');
update jobs.drains set ended_at = now() where ended_at is null;
select pg_temp.spoil(name) from unnest(array['cron_secret', 'alert_webhook_url']) name;
select is(private.platform_secret('cron_secret'), null, 'a secret of the platform that cannot be read is as good as none');
select is(private.platform_secret('project_url'), 'http://127.0.0.1:9', 'the others are there');
select is(tests.tick() ->> 'rung', '0', 'without it the tick goes on, and rings nobody');
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 1::bigint, 'which is an alert');
select ok(jobs.health() -> 'reasons' ? 'Vault lacks project_url or a cron_secret of 32 characters or more.', 'and a reason not to be healthy');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
select is(tests.tick() ->> 'rung', '1', 'entered again, doorbells ring');
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 0::bigint, 'and the alert is over');

create table pg_temp.key as select private.forgetting_key() as k;
select is(private.forgetting_key(), k, 'the key of the forgotten stays the same') from pg_temp.key;
select pg_temp.spoil('forgetting_key');
select lives_ok('select private.forgetting_key()', 'without it people can be forgotten all the same');
select isnt(private.forgetting_key(), k, 'with another one') from pg_temp.key;

select * from finish();
rollback;
