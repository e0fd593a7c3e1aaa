-- What was seen outside is forgotten after 30 days, and a post whose comments were forgotten is read in full again.
begin;
select plan(10);
select tests.two_tenants();
insert into private.signals (tenant_id, surface, kind, external_id, target_id, codes, via, happened_at, received_at)
select tests.id(slug), 'instagram', kind, id, post, '{OC-AAAAAAAA}', 'api', now() - age, now() - age
from (values ('pizza', 'comment', 'old', 'post 1', interval '30 days 1 minute'), ('pizza', 'comment', 'new', 'post 2', interval '29 days 23 hours'),
  ('pizza', 'message', 'old message', 'post 3', interval '40 days'), ('gym', 'comment', 'gym new', 'post 1', interval '1 day')) as v (slug, kind, id, post, age);
insert into private.signal_codes (tenant_id, code, signal_id) select tenant_id, 'OC-AAAAAAAA', id from private.signals;
insert into private.post_readings (tenant_id, surface, post_id, newest_id, newest_at, read_since)
select tests.id(slug), 'instagram', post, '1', now(), now() from (values ('pizza', 'post 1'), ('pizza', 'post 2'), ('pizza', 'post 3'), ('gym', 'post 1')) as v (slug, post);
insert into private.link_codes (tenant_id, code, participant_id, platform, expires_at)
select tests.id('pizza'), code, tests.id('pizza/pizza participant'), 'instagram', now() - age
from (values ('OC-OLDOLDOL', interval '25 hours'), ('OC-NEWNEWNE', interval '23 hours')) as v (code, age);

select is(private.purge_signals(jobs.platform_id(), null, null), '{"signals": 2, "link_codes": 1}', 'it says what it forgot');
select is((select string_agg(external_id, ', ' order by external_id) from private.signals), 'gym new, new', 'what is 30 days old is gone, what is younger stays');
select is((select count(*) from private.signal_codes), 2::bigint, 'codes go with their signals');
select is((select string_agg(r.post_id, ', ' order by r.post_id) from private.post_readings r where r.tenant_id = tests.id('pizza')), 'post 2, post 3',
  'a post whose comments were forgotten is read in full again; a message is no comment');
select is((select count(*) from private.post_readings r where r.tenant_id = tests.id('gym')), 1::bigint, 'the same post of another tenant is not');
select is((select string_agg(code, ', ') from private.link_codes), 'OC-NEWNEWNE', 'link codes go a day after their end');
select is(private.purge_signals(jobs.platform_id(), null, null), '{"signals": 0, "link_codes": 0}', 'a second run finds nothing');
select is((select concat_ws(' ', kind, scope, schedule, work_function) from jobs.definitions where job = 'purge-signals'), 'sql platform 30 3 * * * private.purge_signals', 'every night');
select jobs.enqueue('purge-signals', jobs.platform_id());
update private.signals set received_at = now() - interval '31 days' where external_id = 'new';
select is(tests.work(1), 1, 'the engine runs it');
select is((select string_agg(external_id, ', ') from private.signals), 'gym new', 'as a job, too');

select * from finish();
rollback;
