-- Work whose transaction took long to commit: its lane was due before the last claims looked, and nobody could see it then.
begin;
select plan(7);

-- As a transaction leaves it that enqueued so many seconds ago and commits now, while others are served.
create function pg_temp.commits_late(p_job text, p_slug text, p_seconds integer) returns void language plpgsql as $$
begin
  perform tests.enqueue(p_job, p_slug);
  update jobs.lanes l set wake_at = clock_timestamp() - make_interval(secs => p_seconds)
  where l.job = p_job and l.tenant_id = tests.id(p_slug) and not l.awake;
end
$$;
-- The claims of this second have looked at what became visible late, those of the next have not.
create function pg_temp.a_second_passes(p_job text, p_seconds integer default 1) returns void language sql as $$
  update jobs.clocks c set woken_to = c.woken_to - make_interval(secs => p_seconds), looked_at = c.looked_at - make_interval(secs => p_seconds)
  where c.job = p_job
$$;

select tests.tenant(slug) from unnest(array['busy', 'late', 'later', 'latest']) slug;
select tests.job('mail', '{"quantum": 5, "batch_size": 10}');
select tests.enqueue('mail', 'busy', 200);
select tests.claim('mail', 1);

select pg_temp.commits_late('mail', 'late', 15);
select is(tests.lane('mail', 'late'), 'asleep: waiting, wakes', 'the lane is due, but lay where nobody looks any more');
select pg_temp.a_second_passes('mail');
select tests.claim('mail', 20);
select isnt(tests.lane('mail', 'late'), 'asleep: waiting, wakes', 'fifteen seconds late: found with the first claim of the next second');
select is((select count(*) from jobs.leases e where e.job = 'mail' and e.tenant_id = tests.id('late')), 1::bigint, 'and served by it');

select pg_temp.commits_late('mail', 'later', 60);
select pg_temp.a_second_passes('mail');
select tests.claim('mail', 1);
select is(tests.lane('mail', 'later'), 'asleep: waiting, wakes', 'a minute late: not found by looking back a little (control: the window is real)');
select pg_temp.a_second_passes('mail', 30);
select tests.claim('mail', 20);
select is((select count(*) from jobs.leases e where e.job = 'mail' and e.tenant_id = tests.id('later')), 1::bigint,
  'but by the claim that looks at everything, every thirty seconds');

-- When nobody else is awake, nobody waits for the next second.
select tests.job('post', '{"quantum": 5, "batch_size": 10}');
select tests.enqueue('post', 'busy');
select tests.claim('post', 10);
select pg_temp.commits_late('post', 'latest', 15);
select is(tests.lane('post', 'latest'), 'asleep: waiting, wakes', 'nobody but a late lane has work');
select tests.claim('post', 10);
select is((select count(*) from jobs.leases e where e.job = 'post' and e.tenant_id = tests.id('latest')), 1::bigint,
  'then the next claim finds it at once');

select * from finish();
rollback;
