-- Doorbells: as many as there is work for and drains are free; signed; lost ones are rung again; no secret leaves.
begin;
select plan(30);
select tests.tenant(slug, 'pro') from unnest(array['pizza', 'gym', 'bar']) slug;
select private.keep_secret('project_url', 'http://127.0.0.1:9');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
select tests.job('bake', '{"batch_size": 10, "max_drains": 3}');
update jobs.definitions set paused = true where job <> 'bake';

create function pg_temp.rung() returns integer language sql as $$ select (tests.tick() ->> 'rung')::integer $$;

select is(pg_temp.rung(), 0, 'without work nothing is rung');
select tests.enqueue('bake', 'pizza', 1);
select is(pg_temp.rung(), 1, 'one item is worth one doorbell');
select is(pg_temp.rung(), 0, 'while it may still be answered it is not repeated');
select tests.enqueue('bake', 'gym', 10);
select is(pg_temp.rung(), 1, 'eleven items in batches of ten are worth two drains');
select tests.enqueue('bake', 'bar', 1000);
select is(pg_temp.rung(), 1, 'a flood is worth as many as the job may have');
select is(pg_temp.rung(), 0, 'and no more');
select is((select count(*) from jobs.drains where job = 'bake' and ended_at is null), 3::bigint, 'three drains are expected');

-- The signature verifies, and nothing else is in the request.
create view pg_temp.request as
  select d.drain_id, q.method::text, q.url, q.headers, convert_from(q.body, 'UTF8') as body, q.timeout_milliseconds
  from jobs.drains d join net.http_request_queue q on q.id = d.request_id where d.job = 'bake';
select is((select count(*) from pg_temp.request), 3::bigint, 'each doorbell is one request');
select is((select string_agg(distinct method || ' ' || url, ' ') from pg_temp.request), 'POST http://127.0.0.1:9/functions/v1/worker', 'to the worker');
select is_empty($$ select from pg_temp.request where body::jsonb <> jsonb_build_object('ticket', drain_id) $$, 'with the ticket as its body');
create view pg_temp.signature as
  select substring(headers ->> 'x-onecron-signature' from '^t=([0-9]+),v1=[0-9a-f]{64}$') as t,
    substring(headers ->> 'x-onecron-signature' from 'v1=([0-9a-f]{64})$') as v1, body from pg_temp.request;
select is_empty($$ select from pg_temp.signature where v1 is distinct from encode(extensions.hmac(t || '.' || body, 'canary-cron-secret-of-32-characters', 'sha256'), 'hex') $$,
  'the signature is the HMAC of time and body');
select ok(bool_and(abs(extract(epoch from clock_timestamp()) - t::bigint) < 60), 'its time is now') from pg_temp.signature;
select is_empty($$ select from net.http_request_queue q where q::text like '%canary%' or convert_from(q.body, 'UTF8') like '%canary%' $$, 'the secret is in no request');
select is((select max(timeout_milliseconds) from pg_temp.request), 2000, 'nobody waits long for an answer');

-- Lost doorbells
select tests.pass('11 seconds');
select is(pg_temp.rung(), 3, 'doorbells that nobody answered are rung again');
select is((select string_agg(distinct error, ' ') from jobs.drains where job = 'bake' and ended_at is not null), 'the doorbell was not answered', 'the old ones are given up');

-- Answering
create table pg_temp.ticket as select drain_id from jobs.drains where job = 'bake' and ended_at is null;
create function pg_temp.ticket() returns uuid language sql as $$ select min(drain_id::text)::uuid from pg_temp.ticket $$;
select is(jobs.answer_doorbell(pg_temp.ticket()) - 'run_id', jsonb_build_object('drain_id', pg_temp.ticket(), 'job', 'bake'), 'an answer tells the drain and the job');
select is(jobs.answer_doorbell(pg_temp.ticket()), null, 'a doorbell that comes twice is answered once');
select is(jobs.answer_doorbell(gen_random_uuid()), null, 'a ticket that nobody made opens nothing');
select is(jobs.answer_doorbell((select min(drain_id::text)::uuid from jobs.drains where job = 'bake' and error is not null)), null, 'nor does one that was given up');
select tests.enqueue('bake', 'pizza');
update jobs.drains set rung_at = now() - interval '301 seconds' where drain_id <> pg_temp.ticket() and ended_at is null;
select is(jobs.answer_doorbell((select min(drain_id::text)::uuid from pg_temp.ticket where drain_id <> pg_temp.ticket())), null, 'nor an old one');
select is(pg_temp.rung(), 2, 'a drain that is at work counts, the others are rung for');

-- Switched off, or not possible
update jobs.definitions set paused = true where job = 'bake';
select tests.pass('1 hour');
select is(pg_temp.rung(), 0, 'for a paused job nothing is rung');
update jobs.definitions set paused = false where job = 'bake';
select private.keep_secret('cron_secret', 'short');
select is(pg_temp.rung(), 0, 'nor with a secret that is too short to sign');
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 1::bigint, 'which is an alert');
select pg_temp.rung();
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 1::bigint, 'only one');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
select pg_temp.rung();
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 0::bigint, 'and over when doorbells ring again');

-- Repaired when nothing waits any more
select tests.pass('1 hour');
select private.keep_secret('cron_secret', 'short');
select pg_temp.rung();
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 1::bigint, 'no bell can be rung again');
update jobs.definitions set paused = true where job = 'bake';
select pg_temp.rung();
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 1::bigint, 'while the secret is wrong the alert stays, also when no bell is needed');
select private.keep_secret('cron_secret', 'canary-cron-secret-of-32-characters');
select pg_temp.rung();
select is((select count(*) from jobs.alerts where incident = 'doorbell' and closed_at is null), 0::bigint, 'once the secret is right the alert is over although nothing needs a bell');

select * from finish();
rollback;
