-- After a restore from a backup: what may have left since is not sent again.
begin;
select plan(20);
select tests.tenant(slug, 'enterprise') from unnest(array['pizza', 'gym']) slug;
create table pg_temp.told (item_id bigint, outcome text, status text);
create function private.tests_apply(p_ended jobs.ended[]) returns void language sql security definer set search_path = '' as $$
  insert into pg_temp.told select e.item_id, e.outcome, e.result ->> 'status' from unnest(p_ended) e
$$;
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud', '{"access_token": "x"}', '{"phone_number_id": "2"}');
select tests.job('ring', '{"provider": "whatsapp", "platform_allowed": true, "effects": true, "batch_size": 2, "quantum": 2, "apply_function": "private.tests_apply"}');
select tests.job('bake');
select tests.enqueue('ring', slug, 3) from unnest(array['pizza', 'gym']) slug;
select tests.enqueue('bake', 'pizza', 2);
select jobs.enqueue('ring', tests.id('pizza'), run_at => now() + interval '1 day', dedupe_key => 'tomorrow');
select jobs.enqueue('ring', tests.id('pizza'), dedupe_key => 'now');
create table pg_temp.before as select tests.claim('ring') as b;
create table pg_temp.ids as select max(item_id) as item_id, (select (b ->> 'batch_id')::bigint from pg_temp.before) as batch_id from jobs.items;

select is(jobs.recover_from_backup(), 7, 'a dry run, the default, says how many may have been sent: what is due and what runs');
select is((select count(*) from jobs.items where job = 'ring'), 6::bigint, 'and changes nothing');
select is(jobs.recover_from_backup(dry_run => null), 7, 'only a clear no is one');
select tests.enqueue('send-emails', 'gym', 2);
select is(jobs.recover_from_backup(), 9, 'mails may have been sent, too');
delete from jobs.items where job = 'send-emails';
select throws_ok($$ select jobs.recover_from_backup(array['fly']) $$, 'P0002', 'There is no job "fly".', 'a job that does not exist is an error');
select throws_ok($$ select jobs.recover_from_backup(dry_run => false) $$, '55000', null, 'nothing may be sent meanwhile');
select is(tests.answer('service_role', 'select jobs.recover_from_backup()'), '7', 'service_role may ask');
select tests.member('pizza', 'pizza owner', 'owner');
select is(tests.answer('pizza owner', 'select jobs.recover_from_backup()'), '42501', 'users may not');

select jobs.stop_all(true);
select is(jobs.recover_from_backup(dry_run => false), 7, 'all of them are taken out');
select is((select count(*) || ' ' || min(outcome) || ' ' || max(outcome) || ' ' || min(status) from pg_temp.told), '7 unknown unknown unknown', 'the domain is told that nobody knows');
select is((select count(*) from jobs.attempts where job = 'ring' and outcome = 'unknown'), 7::bigint, 'the history has it');
select is((select count(*) || ' ' || min(dedupe_key) from jobs.items where job = 'ring'), '1 tomorrow', 'what is not due yet waits');
select is((select string_agg(dedupe_key, ' ') from jobs.dedupe_keys), 'tomorrow', 'keys are free again');
select is((select count(*) from jobs.items where job = 'bake'), 2::bigint, 'a job that may repeat its calls goes on');
select is((select count(*) from jobs.leases) + (select count(*) from jobs.batches), 0::bigint, 'nothing is out');
select is(tests.close(b, '{"outcome": "done"}') ->> 'closed', '0', 'a worker from before has nothing to close') from pg_temp.before;
select is((select (detail ->> 'items')::integer from public.audit_log where action = 'platform.recovered'), 7, 'the audit log has it');
select is(jobs.recover_from_backup(dry_run => false), 0, 'a second time there is nothing to do');
select jobs.stop_all(false);
select tests.enqueue('ring', 'gym');
create table pg_temp.after as select tests.claim('ring') as b;
select ok((a.b ->> 'batch_id')::bigint > i.batch_id + 900000, 'no batch has the number of one that was given out after the backup') from pg_temp.after a, pg_temp.ids i;
select ok((select max(item_id) from jobs.leased_items) > i.item_id + 900000, 'no item either') from pg_temp.ids i;

select * from finish();
rollback;
