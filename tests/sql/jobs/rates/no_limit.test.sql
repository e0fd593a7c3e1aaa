-- A plan without a rate limit has no limit, not a limit of one.
begin;
select plan(3);
select is(jobs.rate_room(null, null, now()), null, 'no limit is no number');
select is(jobs.rate_room(600, null, now()), 60, 'while a limit that nobody has used gives its burst');
select tests.tenant('pizza', 'enterprise');
select tests.job('fry', '{"provider": "meta", "platform_allowed": true, "batch_size": 50, "quantum": 10}');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "canary-meta-token"}');
select tests.enqueue('fry', 'pizza', 30);
select is(tests.served(tests.claim('fry')), 'pizza 30', 'an enterprise tenant gets all that is ready from a job with a provider');
select * from finish();
rollback;
