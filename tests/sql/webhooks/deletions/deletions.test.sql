-- Meta passes on that a person wants to be forgotten.
begin;
select plan(22);
select tests.two_tenants();
update public.participants set facebook_user_id = '700', instagram_username = 'jane.doe' where tenant_id in (tests.id('pizza'), tests.id('gym'));
-- The evidence of a real verification. Both tenants know the same person.
update public.completions set evidence = '{"comment_id": "c1", "author_id": "700", "author_username": "jane.doe", "at": "2026-11-20T10:00:00Z"}';
insert into private.webhook_events (tenant_id, source, body, body_sha256, processed_at)
  select tests.id(s), 'meta', '{"from": {"id": "700"}}', repeat('a', 64), now() from unnest(array['pizza', 'gym']) s;
insert into private.webhook_events (tenant_id, source, body, body_sha256) values
  (tests.id('pizza'), 'meta', '{"object": "instagram", "entry": [{"id": "1", "changes": [{"field": "x", "value": {"from": {"id": "700"}}}]}]}', repeat('b', 64)),
  (tests.id('pizza'), 'meta', '{"object": "instagram", "entry": []}', repeat('c', 64));

create function pg_temp.ask(p_slug text, p_subject text default '700', p_sha text default repeat('d', 64)) returns jsonb language sql as $$
  select tests.answer('service_role', format('select jobs.receive_deletion(%L, %L, %L)', tests.id(p_slug), p_subject, p_sha))::jsonb
$$;
create table pg_temp.asked as select pg_temp.ask('pizza') ->> 'confirmation_code' as code;
select matches((select code from pg_temp.asked), '^[0-9a-f]{32}$', 'who asks gets a code that nobody guesses');
select is(pg_temp.ask('pizza') ->> 'confirmation_code', (select code from pg_temp.asked), 'the same request again has the same code');
select isnt(pg_temp.ask('gym') ->> 'confirmation_code', (select code from pg_temp.asked), 'at another tenant it is another request');
delete from jobs.items where subject_id = (select id from public.data_deletions where tenant_id = tests.id('gym'));
select is(jobs.deletion_status((select code from pg_temp.asked)) ->> 'status', 'pending', 'its status can be asked for');
select is(jobs.deletion_status(repeat('0', 32)), null, 'with the code only');
select is((select count(*) from jobs.items where job = 'process-webhooks' and tenant_id = jobs.platform_id()), 1::bigint, 'it waits in the platform''s lane: once');

-- Even of a tenant that is not served
update public.tenants set status = 'suspended' where slug = 'pizza';
select tests.work();
update public.tenants set status = 'active' where slug = 'pizza';
select is((select d.status || coalesce(d.subject, ', nobody') from public.data_deletions d where d.tenant_id = tests.id('pizza')), 'completed, nobody', 'it is done, and who it was about is forgotten');
select is(jobs.deletion_status((select code from pg_temp.asked)) ->> 'status', 'completed', 'the status says so');
select is((select evidence from public.completions where tenant_id = tests.id('pizza')), '{"comment_id": "c1", "at": "2026-11-20T10:00:00Z"}'::jsonb, 'the evidence keeps no person');
select is((select status from public.completions where tenant_id = tests.id('pizza')), 'verified', 'a decision stays');
select is((select facebook_user_id from public.participants where tenant_id = tests.id('pizza')), null, 'the profile has the id no longer');
select is((select count(*) from private.webhook_events e where tenant_id = tests.id('pizza') and e.body::text like '%700%'), 0::bigint, 'no stored webhook names the person');
select isnt((select processed_at from private.webhook_events where body_sha256 = repeat('b', 64)), null, 'those that waited were worked off before');
select is((select body from private.webhook_events where body_sha256 = repeat('c', 64)), '{"object": "instagram", "entry": []}'::jsonb, 'others stay');
select is((select erased ->> 'evidence' || (erased ->> 'webhooks') || (erased ->> 'participants') from public.data_deletions where tenant_id = tests.id('pizza')), '121', 'it is counted what was erased');
select is((select count(*) from public.audit_log where tenant_id = tests.id('pizza') and action = 'data_deletion.completed'), 1::bigint, 'and noted, without the person');
select is((select c.evidence ->> 'author_id' || p.facebook_user_id from public.completions c join public.participants p on p.id = c.participant_id where c.tenant_id = tests.id('gym')), '700700',
  'another tenant''s knowledge of the same person is its own');
select is(private.process_deletion(tests.id('pizza'), (select id from public.data_deletions where tenant_id = tests.id('pizza'))), null, 'a deletion that is done is not done again');

-- Who may see it
select is(tests.sees('pizza admin', 'public.data_deletions', 'pizza'), '1', 'an admin sees the tenant''s deletions');
select is(tests.sees(who, 'public.data_deletions', 'pizza'), '0', format('%s does not', who)) from unnest(array['pizza member', 'gym owner']) who;
select is(tests.answer('pizza owner', format('select jobs.receive_deletion(%L, ''700'', %L)', tests.id('pizza'), repeat('e', 64))), '42501', 'no member may ask in Meta''s place');

select * from finish();
rollback;
