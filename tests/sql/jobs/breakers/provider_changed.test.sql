-- A job that changes its provider, or gives it up, leaves nothing asleep for what the old one said.
begin;
select plan(6);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym']) slug;
select tests.job('look', '{"provider": "meta"}');

select tests.enqueue('look', 'pizza');
select is(tests.claim('look'), null, 'without a credential nothing is served');
select is(tests.lane('look', 'pizza'), 'asleep: breaker', 'the lane sleeps for it, and does not wake by itself');
update jobs.definitions set provider = null where job = 'look';
select is(tests.served(tests.claim('look')), 'pizza 1', 'a job that gives its provider up wakes the lanes that had no credential');

update jobs.definitions set provider = 'meta' where job = 'look';
select public.set_credential(tests.id('gym'), 'meta', 'facebook_login', '{"access_token": "own-gym"}');
select public.set_credential(tests.id('gym'), 'email', 'resend', '{"api_key": "re_1"}', '{"from": "Gym <a@example.com>"}');
select tests.enqueue('look', 'gym', 2);
select tests.close(tests.claim('look', 1), '{"outcome": "throttled", "seconds": 1000, "error": "429"}');
select is(tests.lane('look', 'gym'), 'asleep: rate limit, wakes', 'a lane is throttled');
update jobs.definitions set batch_size = 100 where job = 'look';
select is(tests.lane('look', 'gym'), 'asleep: rate limit, wakes', 'another setting does not wake it');
update jobs.definitions set provider = 'email' where job = 'look';
select is(tests.served(tests.claim('look')), 'gym 1', 'another provider does: it has not said so (the item that was told waits)');
select * from finish();
rollback;
