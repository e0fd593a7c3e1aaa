-- E-mails in one call: what it consists of is noted before it leaves, and whoever claims any of them again makes the same call.
begin;
select plan(60);
select tests.two_tenants();
select jobs.set_platform_credential('email', 'resend', '{"api_key": "x"}', '{"from": "platform@example.com"}');
select public.set_credential(tests.id('gym'), 'email', 'resend', '{"api_key": "g"}', '{"from": "gym@example.com"}');
delete from jobs.items where job = 'send-emails';
create function pg_temp.mail(p_name text, p_slug text default 'pizza', p_participant uuid default null) returns void language sql as $$
  select private.queue_message(tests.id(p_slug), 'alert', 'email', p_participant, jsonb_build_object('message', p_name), p_name, tests.id(p_slug || ' campaign'), null, p_name || '@example.test')
$$;
create function pg_temp.outbox(p_name text) returns public.notification_outbox language sql as $$ select o from public.notification_outbox o where o.dedupe_key = p_name $$;
create function pg_temp.name(p_outbox_id text) returns text language sql as $$ select o.dedupe_key from public.notification_outbox o where o.id::text = p_outbox_id $$;
create function pg_temp.item(p_name text) returns bigint language sql as $$ 
  select i.item_id from (select item_id, subject_id from jobs.items union all select item_id, subject_id from jobs.leased_items) i
  where i.subject_id = (pg_temp.outbox(p_name)).id
$$;
create function pg_temp.data(p_batch jsonb, p_name text) returns jsonb language sql as $$ select i.data from tests.items_of(p_batch) i where i.data ->> 'outbox_id' = (pg_temp.outbox(p_name)).id::text $$;
-- What the worker is told to send for these items, as `call version: names`.
create function pg_temp.bundle(p_batch jsonb, p_names text[], p_request uuid default gen_random_uuid()) returns jsonb language sql as $$
  select jobs.bundle_emails((p_batch ->> 'batch_id')::bigint, array(select pg_temp.item(u.name) from unnest(p_names) with ordinality as u (name, n) order by u.n), 'Pizza <pizza@example.com>', p_request)
$$;
create function pg_temp.words(p_bundle jsonb) returns text language sql as $$
  select case when p_bundle is null then 'nothing' else coalesce('lost: ' || (p_bundle ->> 'lost'), format('%s %s: %s', p_bundle ->> 'call', p_bundle ->> 'version',
    (select string_agg(pg_temp.name(m ->> 'outbox_id'), ' ' order by n) from jsonb_array_elements(p_bundle -> 'mails') with ordinality as m (m, n)))) end
$$;
create function pg_temp.settle(p_bundle jsonb, p_outcome text) returns text language plpgsql as $$
declare
  v_answer jsonb := jobs.settle_emails(tests.id('pizza'), (p_bundle ->> 'bundle_id')::uuid, (p_bundle ->> 'call')::integer, (p_bundle ->> 'version')::integer, p_outcome,
    case when p_outcome = 'accepted' then array(select (m ->> 'outbox_id')::uuid from jsonb_array_elements(p_bundle -> 'mails') m) else '{}' end,
    case when p_outcome = 'accepted' then array(select 're_' || pg_temp.name(m ->> 'outbox_id') from jsonb_array_elements(p_bundle -> 'mails') m) else '{}' end);
begin
  return coalesce(v_answer ->> 'dissolved', (select string_agg(pg_temp.name(m ->> 'outbox_id') || ' ' || (m ->> 'status'), ', ' order by pg_temp.name(m ->> 'outbox_id')) from jsonb_array_elements(v_answer -> 'mails') m), 'null');
end
$$;
create function pg_temp.status(p_name text) returns text language sql as $$ select concat_ws(' ', (pg_temp.outbox(p_name)).status, (pg_temp.outbox(p_name)).provider_message_id) $$;
-- The lease runs out, the items come back at once, and a worker claims up to so many.
create function pg_temp.again(p_size integer default null) returns jsonb language plpgsql as $$
begin
  perform tests.pass('2 minutes');
  perform tests.tick();
  update jobs.items set run_at = now() - interval '1 minute' where job = 'send-emails';
  update jobs.lanes set awake = true, wake_at = null, reason = null, head_at = null, head_id = null where job = 'send-emails';
  return tests.claim('send-emails', p_size);
end
$$;
create function pg_temp.ends(p_batch jsonb) returns void language plpgsql as $$
begin
  perform tests.close(p_batch, '{"outcome": "snooze", "seconds": 0, "reason": "test"}');
  delete from jobs.items where job = 'send-emails';
  delete from private.email_bundles;
  delete from public.notification_outbox where channel = 'email';
end
$$;

-- Together
select pg_temp.mail(n) from unnest(array['a', 'b', 'c']) n;
select pg_temp.mail('g1', 'gym');
create table pg_temp.one as select tests.claim('send-emails') as b;
select is((select string_agg(format('%s %s', pg_temp.name(i.data ->> 'outbox_id'), i.data ->> 'together'), ', ' order by 1) from pg_temp.one, tests.items_of(b) i where i.slug = 'pizza'), 'a true, b true, c true', 'mails of a tenant that are claimed together may leave together');
select is(pg_temp.data(b, 'g1') ->> 'together', 'false', 'a mail that is alone goes alone') from pg_temp.one;
create table pg_temp.call as select pg_temp.bundle(b, array['c', 'a', 'b', 'g1'], tests.id('request')) as c from pg_temp.one;
select is(pg_temp.words(c), '1 1: c a b', 'the call has them in the worker''s order, and of one tenant only') from pg_temp.call;
select is(c ->> 'sender', 'Pizza <pizza@example.com>', 'with the sender that the worker uses') from pg_temp.call;
select is((select m - 'outbox_id' from jsonb_array_elements(c -> 'mails') m where m ->> 'to' = 'a@example.test'), jsonb_build_object('to', 'a@example.test', 'subject', (pg_temp.outbox('a')).subject, 'text', (pg_temp.outbox('a')).body, 'html', null), 'and what was frozen in the outbox') from pg_temp.call;
select ok((c ->> 'send_before')::timestamptz between clock_timestamp() + interval '23 hours' and clock_timestamp() + interval '24 hours', 'it may leave within the life of the key') from pg_temp.call;
select is(pg_temp.words(pg_temp.bundle(b, array['c', 'a', 'b'], tests.id('request'))), '1 1: c a b', 'the same request is the same call') from pg_temp.one;
select is((select count(*) from private.bundled_emails where tenant_id = tests.id('gym')), 0::bigint, 'nobody else''s mail is noted with them');
select is(jobs.bundle_emails(0, array[pg_temp.item('a')], 's@example.com'), null, 'without a batch there is nothing to send');
select is(pg_temp.status('a'), 'queued', 'nothing is decided yet');

-- After a lost answer, whichever subset
create table pg_temp.two as select pg_temp.again(2) as b;
select is(pg_temp.words(pg_temp.bundle(one.b, array['c', 'a', 'b'])), 'nothing', 'a worker whose lease is over sends nothing') from pg_temp.one;
select is((select count(distinct i.data ->> 'bundle_id') || ' ' || bool_or((i.data ->> 'together')::boolean) from pg_temp.two, tests.items_of(b) i where i.slug = 'pizza'), '1 false', 'what is claimed again knows its bundle');
create function pg_temp.claimed(p_batch jsonb) returns text[] language sql as $$ select array_agg(pg_temp.name(i.data ->> 'outbox_id')) from tests.items_of(p_batch) i where i.slug = 'pizza' $$;
select isnt(cardinality(pg_temp.claimed(b)), 3, 'only a part of it is claimed') from pg_temp.two;
create table pg_temp.repeat as select pg_temp.bundle(b, pg_temp.claimed(b)) as c from pg_temp.two;
select is(pg_temp.words(r.c), '2 1: c a b', 'and the same call is made, with all of them in their order') from pg_temp.repeat r;
select is(r.c ->> 'bundle_id', f.c ->> 'bundle_id', 'with the same key') from pg_temp.repeat r, pg_temp.call f;
select is(r.c -> 'mails', f.c -> 'mails', 'and the same content') from pg_temp.repeat r, pg_temp.call f;
select is(pg_temp.settle(f.c, 'refused'), 'false', 'a refusal of an earlier call settles nothing: a later one may have been accepted') from pg_temp.call f;
select is(pg_temp.settle(r.c, 'not sent'), 'false', 'a second call that sent nothing settles nothing: the first may have') from pg_temp.repeat r;
select is(pg_temp.settle(r.c, 'accepted'), 'a sent, b sent, c sent', 'the answer is one for all of them') from pg_temp.repeat r;
select is(pg_temp.status(n), 'sent re_' || n, format('%s is sent, with its own id', n)) from unnest(array['a', 'b', 'c']) n;
select is((pg_temp.outbox('a')).credential_source || ' ' || (pg_temp.outbox('a')).delivery, 'platform sent', 'through whose account too');
select is(pg_temp.settle(f.c, 'accepted'), 'null', 'what the first worker hears of it is no news') from pg_temp.call f;
select tests.close(b, '{"outcome": "retry", "error": "late"}') from pg_temp.two;
create table pg_temp.three as select pg_temp.again() as b;
select is((select count(*) from jobs.items i where i.subject_id = (pg_temp.outbox('b')).id), 0::bigint, 'the items of those that were not claimed are over');
select is(pg_temp.status('a'), 'sent re_a', 'and a late word of a worker changes nothing');
select is(pg_temp.data(b, 'g1') ->> 'together', 'false', 'a mail that was tried alone stays alone') from pg_temp.three;
select pg_temp.ends(b) from pg_temp.three;

-- Refused for sure
select pg_temp.mail(n) from unnest(array['a', 'b']) n;
create table pg_temp.four as select tests.claim('send-emails') as b;
select is(pg_temp.settle(pg_temp.bundle(b, array['a', 'b']), 'not sent'), 'true', 'a first call that sent nothing leaves the mails free') from pg_temp.four;
select is((pg_temp.outbox('a')).bundled, true, 'to leave together another time');
create table pg_temp.five as select pg_temp.again() as b;
select is(pg_temp.data(b, 'a') ->> 'together', 'true', 'as the next claim says') from pg_temp.five;
select is(pg_temp.settle(pg_temp.bundle(b, array['a', 'b']), 'refused'), 'true', 'a first call that was refused too') from pg_temp.five;
select is((pg_temp.outbox('a')).bundled, false, 'but then each goes alone');
select is(pg_temp.bundle(b, array['a', 'b']) -> 'mails', '[]', 'and nobody puts them into one call again') from pg_temp.five;
select is(jsonb_array_length(pg_temp.bundle(b, array['a', 'b']) -> 'alone'), 2, 'a worker that asks is told so') from pg_temp.five;
create table pg_temp.six as select pg_temp.again() as b;
select is(pg_temp.data(b, 'a') ->> 'together', 'false', 'now and later') from pg_temp.six;
select pg_temp.ends(b) from pg_temp.six;

select pg_temp.mail(n) from unnest(array['a', 'b']) n;
create table pg_temp.seven as select tests.claim('send-emails') as b;
select pg_temp.bundle(b, array['a', 'b']) from pg_temp.seven;
create table pg_temp.eight as select pg_temp.again() as b;
create table pg_temp.second as select pg_temp.bundle(b, array['a', 'b']) as c from pg_temp.eight;
select is(pg_temp.settle(c, 'refused'), 'false', 'a second call that was refused for another reason than its content proves nothing about the first') from pg_temp.second;
select is(pg_temp.settle(c, 'content refused'), 'true', 'content that is refused was never accepted') from pg_temp.second;
select pg_temp.ends(b) from pg_temp.eight;

-- Cancelled or held meanwhile, while nobody knows whether the call arrived
select pg_temp.mail('a');
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', true, 'opt_in');
select pg_temp.mail('b', 'pizza', tests.id('pizza/pizza participant'));
select pg_temp.mail('c');
create table pg_temp.nine as select tests.claim('send-emails') as b;
create table pg_temp.first as select pg_temp.bundle(b, array['a', 'b', 'c']) as c from pg_temp.nine;
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', false, 'opt_out');
create table pg_temp.ten as select pg_temp.again() as b;
select is(pg_temp.status('b'), 'no_consent', 'consent was withdrawn');
create table pg_temp.without as select pg_temp.bundle(b, array['a', 'c']) as c from pg_temp.ten;
select is(pg_temp.words(c), '2 2: a c', 'the call is made without that mail') from pg_temp.without;
select is(w.c ->> 'bundle_id', f.c ->> 'bundle_id', 'with the same key: if the first call had arrived, this one is refused') from pg_temp.without w, pg_temp.first f;
savepoint before_the_answer;
select is(pg_temp.settle(c, 'accepted'), 'a sent, b free, c sent', 'it is taken: so the first had not arrived') from pg_temp.without;
select is(pg_temp.status('b'), 'no_consent', 'and the mail that was left out was never sent');
rollback to before_the_answer;
select is(pg_temp.settle(c, 'accepted before'), 'a sent, b sent, c sent', 'it is refused: so the first had arrived') from pg_temp.without;
select is(pg_temp.status(n), 'sent', format('%s was sent, whatever was said since', n)) from unnest(array['a', 'b']) n;
select is((pg_temp.outbox('a')).reason, 'accepted with an earlier call, whose answer was lost', 'the reason says how it is known');
rollback to before_the_answer;
create table pg_temp.eleven as select pg_temp.again() as b;
update public.notification_outbox set status = 'queued' where dedupe_key = 'b';
insert into public.opt_ins (tenant_id, participant_id, channel, granted, source) values (tests.id('pizza'), tests.id('pizza/pizza participant'), 'email', true, 'opt_in');
create table pg_temp.third as select pg_temp.bundle(b, array['a', 'c']) as c from pg_temp.eleven;
select is(pg_temp.words(c), '3 2: a c', 'who agrees again waits until it is known what became of the others') from pg_temp.third;
savepoint before_another_answer;
select is(pg_temp.settle(c, 'content refused'), 'true', 'a smaller version that is refused for its content says so of the larger one') from pg_temp.third;
select is((select bool_or(bundled) from public.notification_outbox where dedupe_key in ('a', 'b', 'c')), false, 'and each mail of the bundle goes alone');
rollback to before_another_answer;
-- The larger one again is the first version, and of the smaller ones it proves nothing.
update public.notification_outbox set status = 'cancelled' where dedupe_key in ('a', 'c');
create table pg_temp.back as select pg_temp.bundle(b, array['a']) as c from pg_temp.eleven;
select is(pg_temp.words(c), '4 3: b', 'when none of the others is left, it goes by itself, with the same key') from pg_temp.back;
select is(pg_temp.settle(c, 'content refused'), 'false', 'what is refused there proves nothing of a version that it was not in') from pg_temp.back;
select is(pg_temp.settle(c, 'accepted'), 'a free, b sent, c free', 'it is taken: so nothing had arrived before') from pg_temp.back;
rollback to before_another_answer;
-- A third version: now it is not known which of the two others arrived.
update public.notification_outbox set status = 'cancelled' where dedupe_key = 'c';
create table pg_temp.fourth as select pg_temp.bundle(b, array['a']) as c from pg_temp.eleven;
select is(pg_temp.words(c), '4 3: a', 'another version') from pg_temp.fourth;
select is(pg_temp.settle(c, 'accepted before'), 'a sent, b unknown, c sent', 'of a mail that was in one of two other versions nobody knows') from pg_temp.fourth;
select is(pg_temp.status('b'), 'unknown', 'it says so');
update public.notification_outbox set unknown_since = now() - interval '1 hour' where dedupe_key = 'b';
select is((select count(*) from private.unresolved(tests.id('pizza'))), 0::bigint, 'and is not sent again');
select pg_temp.ends(b) from pg_temp.eleven;

-- Another account, too late, attempts used up
select pg_temp.mail(n) from unnest(array['a', 'b']) n;
create table pg_temp.twelve as select tests.claim('send-emails') as b;
select pg_temp.bundle(b, array['a', 'b']) from pg_temp.twelve;
savepoint open_call;
select public.set_credential(tests.id('pizza'), 'email', 'resend', '{"api_key": "own"}', '{"from": "pizza@example.com"}');
select is(pg_temp.words(pg_temp.bundle(b, array['a', 'b'])), 'lost: the e-mail account was changed before an answer came', 'another account does not know the key: nothing is sent through it') from pg_temp.again() b;
rollback to open_call;
update private.email_bundles set created_at = now() - interval '1 day';
select is(pg_temp.words(pg_temp.bundle(b, array['a', 'b'])), 'lost: no answer came within a day', 'nor does anybody after a day') from pg_temp.again() b;
rollback to open_call;
select private.apply_emails(array[(o.tenant_id, 0, o.id, 'dead', null, 'no answer', 'platform')::jobs.ended]) from public.notification_outbox o where o.dedupe_key = 'a';
select is(pg_temp.status('a'), 'unknown', 'a mail whose attempts are used up may have left with its bundle');
update public.notification_outbox set unknown_since = now() - interval '1 hour' where dedupe_key = 'a';
select is((select count(*) from private.unresolved(tests.id('pizza'))), 1::bigint, 'and is sent again, with its bundle''s key');

select * from finish();
rollback;
