-- Signals: each kind proves what it proves and nothing else, in any order, any number of times, within its tenant.
begin;
select no_plan();
select tests.two_tenants();
select public.set_credential(tests.id('pizza'), 'whatsapp', 'waapi', '{"token": "t"}', '{"instance_id": "1"}');
select tests.participant('pizza', 'anna');
select tests.participant('pizza', 'ben');
select tests.participant('gym', 'anna');
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by) values
  (tests.id('pizza'), tests.id('pizza/anna'), 'instagram', 'ig-anna', 'link code'),
  (tests.id('pizza'), tests.id('pizza/anna'), 'facebook', 'fb-anna', 'link code'),
  (tests.id('pizza'), tests.id('pizza/ben'), 'instagram', 'ig-ben', 'link code'),
  (tests.id('gym'), tests.id('gym/anna'), 'instagram', 'ig-anna', 'link code');
update public.participants set instagram_username = 'anna.bakes' where id in (tests.id('pizza/anna'), tests.id('gym/anna'));

create function pg_temp.signal(p_surface text, p_kind text, p_id text, p_more jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('surface', p_surface, 'kind', p_kind, 'external_id', p_id) || p_more
$$;
create function pg_temp.record(variadic p_signals jsonb[]) returns jsonb language sql as $$
  select private.record_signals(tests.id('pizza'), to_jsonb(p_signals))
$$;
create function pg_temp.status(p_person text, p_task text) returns text language sql as $$
  select concat_ws(' ', c.status, c.method) from public.completions c
  where c.task_id = tests.id(p_task) and c.participant_id in (tests.id('pizza/' || p_person), tests.id('gym/' || p_person))
$$;
create function pg_temp.code(p_person text, p_task text) returns text language sql as $$
  select c.code from public.completions c where c.task_id = tests.id(p_task) and c.participant_id = tests.id('pizza/' || p_person)
$$;
-- A task of a kind, claimed by anna; then one signal. What becomes of the claim?
create function pg_temp.proves(p_kind text, p_signal jsonb, p_with_code boolean default false) returns text language plpgsql as $$
declare
  v_task text := 'task ' || gen_random_uuid();
begin
  -- What earlier cases saw would prove this one too.
  delete from private.signals;
  perform tests.task_of('pizza', v_task, p_kind);
  perform tests.claim_task('pizza', 'anna', v_task);
  perform pg_temp.record(p_signal || jsonb_build_object('external_id', coalesce(p_signal ->> 'external_id', gen_random_uuid()::text))
    || case when p_with_code then jsonb_build_object('text', 'hi ' || pg_temp.code('anna', v_task) || '!') else '{}' end);
  return pg_temp.status('anna', v_task);
end
$$;

-- Each kind: what proves it, and what does not.
create table pg_temp.cases (kind text, surface text, what text, more jsonb, with_code boolean, expected text, rule text);
insert into pg_temp.cases values
  ('instagram_comment', 'instagram', 'comment', '{"target_id": "17900000000000001", "author_id": "ig-anna"}', false, 'verified webhook', 'a comment of the linked account proves an Instagram comment'),
  ('instagram_comment', 'instagram', 'comment', '{"target_id": "17900000000000001", "author_id": "ig-else"}', false, 'pending', 'that of another account does not'),
  ('instagram_comment', 'instagram', 'comment', '{"target_id": "17900000000000001", "author_id": "ig-else2"}', true, 'verified webhook', 'unless it has the code'),
  ('instagram_comment', 'instagram', 'comment', '{"target_id": "17900000000000002", "author_id": "ig-anna"}', true, 'pending', 'a comment on another post does not, code or not'),
  ('instagram_comment', 'instagram', 'message', '{"author_id": "ig-anna"}', false, 'pending', 'nor does a message'),
  ('facebook_comment', 'facebook', 'comment', '{"target_id": "17900000000000001", "author_id": "fb-anna"}', false, 'verified webhook', 'a comment of the linked account proves a Facebook comment'),
  ('facebook_comment', 'instagram', 'comment', '{"target_id": "17900000000000001", "author_id": "ig-anna"}', false, 'pending', 'one on Instagram does not'),
  ('facebook_reaction', 'facebook', 'reaction', '{"target_id": "17900000000000001", "author_id": "fb-anna"}', false, 'verified webhook', 'a reaction of the linked account proves a reaction'),
  ('facebook_reaction', 'facebook', 'reaction', '{"target_id": "17900000000000009", "author_id": "fb-anna"}', false, 'pending', 'one on another post does not'),
  ('facebook_reaction', 'facebook', 'comment', '{"target_id": "17900000000000001", "author_id": "fb-anna"}', false, 'pending', 'nor does a comment'),
  ('instagram_story_mention', 'instagram', 'story_mention', '{"author_id": "ig-anna"}', false, 'verified webhook', 'a story of the linked account proves a story mention'),
  ('instagram_story_mention', 'instagram', 'story_mention', '{"author_id": "ig-else"}', false, 'pending', 'that of a stranger does not'),
  ('instagram_dm_keyword', 'instagram', 'message', '{"author_id": "ig-anna", "text": "I want PIZZA!"}', false, 'verified webhook', 'the keyword in a message of the linked account proves it, whatever the case'),
  ('instagram_dm_keyword', 'instagram', 'message', '{"author_id": "ig-anna", "text": "pizzas"}', false, 'pending', 'a longer word does not'),
  ('instagram_dm_keyword', 'instagram', 'message', '{"author_id": "ig-else", "text": "pizza"}', false, 'pending', 'nor does the keyword from a stranger'),
  ('instagram_dm_keyword', 'instagram', 'message', '{"author_id": "ig-new"}', true, 'verified webhook', 'the code from anybody does'),
  ('instagram_dm_keyword', 'whatsapp', 'message', '{"author_id": "49170"}', true, 'pending', 'but not over WhatsApp'),
  ('whatsapp_join', 'whatsapp', 'message', '{"author_id": "49171"}', true, 'verified webhook', 'a WhatsApp message with the code proves that somebody joined'),
  ('whatsapp_join', 'whatsapp', 'message', '{"author_id": "49172", "text": "hello"}', false, 'pending', 'one without does not'),
  ('whatsapp_join', 'instagram', 'message', '{"author_id": "ig-anna"}', true, 'pending', 'nor does one on Instagram'),
  ('instagram_follow', 'instagram', 'message', '{"author_id": "ig-anna", "text": "I follow you"}', true, 'pending', 'no message proves a follow'),
  ('instagram_like', 'instagram', 'comment', '{"target_id": "17900000000000001", "author_id": "ig-anna"}', true, 'manual_review', 'nothing proves a like'),
  ('facebook_page_like', 'facebook', 'reaction', '{"target_id": "1", "author_id": "fb-anna"}', true, 'manual_review', 'nor a Page''s');
select is(pg_temp.proves(kind, jsonb_build_object('surface', surface, 'kind', what) || more, with_code), expected, rule) from pg_temp.cases;

-- Names that were only typed
select is(pg_temp.proves('instagram_comment', pg_temp.signal('instagram', 'comment', 'n1', '{"target_id": "17900000000000001", "author_username": "anna.bakes"}')),
  'pending', 'a bare user name proves nothing');
update public.campaigns set username_match = true where id = tests.id('pizza campaign');
select is(pg_temp.proves('instagram_comment', pg_temp.signal('instagram', 'comment', 'n2', '{"target_id": "17900000000000001", "author_username": " @Anna.BAKES "}')),
  'verified webhook', 'where the campaign takes it, it does, with @ and capitals');
select is(pg_temp.proves('instagram_comment', pg_temp.signal('instagram', 'comment', 'n3', '{"target_id": "17900000000000001", "author_username": "anna.bakes2"}')),
  'pending', 'another name does not');
update public.campaigns set username_match = false where id = tests.id('pizza campaign');

-- Times
select is(pg_temp.proves('instagram_comment', pg_temp.signal('instagram', 'comment', 't1', jsonb_build_object('target_id', '17900000000000001', 'author_id', 'ig-anna', 'happened_at', now() - interval '1 minute'))),
  'pending', 'what happened before there was a task proves nothing');

-- A signal that came before the claim
select tests.task_of('pizza', 'early', 'instagram_dm_keyword');
select pg_temp.record(pg_temp.signal('instagram', 'message', 'early', '{"author_id": "ig-ben", "text": "pizza please"}'));
select tests.claim_task('pizza', 'ben', 'early');
select is(pg_temp.status('ben', 'early'), 'verified webhook', 'a claim finds the message that came before it');

-- One proof, one claim
select tests.task_of('pizza', 'shared', 'instagram_comment');
select tests.claim_task('pizza', person, 'shared') from unnest(array['anna', 'ben']) person;
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'both', jsonb_build_object('target_id', '17900000000000001', 'author_id', 'ig-x',
  'text', pg_temp.code('anna', 'shared') || ' ' || pg_temp.code('ben', 'shared'))));
select is((select count(*) from public.completions where task_id = tests.id('shared') and status = 'verified'), 1::bigint, 'a comment with two codes proves one claim');
select is((select count(*) from public.completions where task_id = tests.id('shared') and status = 'pending'), 1::bigint, 'the other one stays open: its own proof may come');
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'again', jsonb_build_object('target_id', '17900000000000001', 'author_id', 'ig-x',
  'text', pg_temp.code('anna', 'shared') || ' ' || pg_temp.code('ben', 'shared'))));
select is((select count(*) from public.completions where task_id = tests.id('shared') and status = 'verified'), 1::bigint, 'an account proves one claim of a task, however often it comments');
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'own', jsonb_build_object('target_id', '17900000000000001', 'author_id', 'ig-y',
  'text', pg_temp.code('anna', 'shared') || ' ' || pg_temp.code('ben', 'shared'))));
select is((select count(*) from public.completions where task_id = tests.id('shared') and status = 'verified'), 2::bigint, 'another account proves the other');
select is((select sum(l.spins) from public.spin_ledger l join public.completions c on c.id = l.completion_id where c.task_id = tests.id('shared')), 6::bigint, 'each is rewarded once');

-- Repetition, disorder, nonsense
select tests.task_of('pizza', 'order', 'whatsapp_join');
select tests.claim_task('pizza', 'anna', 'order');
create table pg_temp.hello as select pg_temp.signal('whatsapp', 'message', 'wamid.1', jsonb_build_object('author_id', '4917', 'text', pg_temp.code('anna', 'order'))) as one;
select is(pg_temp.record(one, one), '{"recorded": 1, "skipped": 0, "decided": 1}', 'the same signal twice in one call is one') from pg_temp.hello;
select is(pg_temp.record(one), '{"recorded": 0, "skipped": 0, "decided": 0}', 'and nothing when it comes again') from pg_temp.hello;
select is(pg_temp.record(one || '{"text": "something else"}'), '{"recorded": 0, "skipped": 0, "decided": 0}', 'the first report of a thing counts') from pg_temp.hello;
select is((select message from private.signals where external_id = 'wamid.1'), pg_temp.code('anna', 'order'), 'and stays as it was');

create table pg_temp.bad (entry jsonb, why text);
insert into pg_temp.bad values
  ('{"surface": "instagram", "kind": "comment"}', 'no id'), ('{"surface": "x", "kind": "comment", "external_id": "1"}', 'a surface that is not known'),
  ('{"surface": "instagram", "kind": "visit", "external_id": "1"}', 'a kind of another surface'), ('"text"', 'a string'), ('null', 'null'), ('[]', 'a list'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "a b"}', 'an id with a space'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "b1", "happened_at": "2026-02-30T10:00:00Z"}', 'the thirtieth of February'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "b2", "happened_at": "2999-01-01T10:00:00Z"}', 'the far future'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "b3", "happened_at": "yesterday"}', 'a time in words'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "b4", "happened_at": 17}', 'a time as a number'),
  ('{"surface": "instagram", "kind": "comment", "external_id": "b5", "author_id": "a\nb"}', 'an author on two lines'),
  (jsonb_build_object('surface', 'instagram', 'kind', 'comment', 'external_id', repeat('9', 301)), 'an id without end');
select is(pg_temp.record(entry, pg_temp.signal('instagram', 'comment', 'good ' || why) || jsonb_build_object('external_id', md5(why))),
  '{"recorded": 1, "skipped": 1, "decided": 0}', format('%s is skipped, and stops nothing', why)) from pg_temp.bad;
select is(private.record_signals(tests.id('pizza'), given), '{"recorded": 0, "skipped": 0, "decided": 0}', format('%s is no signal', given)) from unnest(array['[]', '{}', 'null', '"x"']::jsonb[]) given;
select is(private.record_signals(tests.id('nobody'), '[{"surface": "instagram", "kind": "comment", "external_id": "1"}]'), '{"recorded": 0, "skipped": 1, "decided": 0}', 'signals of nobody are skipped');

-- What is kept
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'kept', '{"target_id": "1", "author_id": "2", "text": "a secret text", "details": {"media_id": "9", "url": "https://cdn.example/story"}}'),
  pg_temp.signal('instagram', 'message', 'long', jsonb_build_object('text', repeat('x', 500))),
  pg_temp.signal('instagram', 'mention', 'men', '{"details": {"media_id": "9", "comment_id": "8", "url": "https://cdn.example/story"}}'));
select ok((select to_jsonb(s)::text !~ 'secret|cdn' from private.signals s where external_id = 'kept'), 'of a comment no text and no media is kept');
select is((select char_length(message) from private.signals where external_id = 'long'), 200, 'of a message its first 200 characters');
select is((select details from private.signals where external_id = 'men'), '{"media_id": "9", "comment_id": "8"}', 'of a mention its ids');

-- Codes as people write them
select is(private.codes_in(text), array['OC-1A2B3C4D'], format('a code is found in "%s"', text))
from unnest(array['OC-1A2B3C4D', 'my code: oc-1a2b3c4d.', U&'OC\20131A2B3C4D', U&'\FF2F\FF23\FF0D1A2B3C4D', U&'OC-1A2B\200B3C4D', '(OC-1A2B3C4D)']) text;
select is(private.codes_in(text), '{}', format('none in "%s"', text)) from unnest(array['OC-1A2B3C4', 'OC-1A2B3C4DE', 'XOC-1A2B3C4D', 'hello', '']) text;

-- Isolation: what one tenant sees decides nothing of another.
select tests.task_of('gym', 'gym second', 'instagram_comment');
select tests.claim_task('gym', 'anna', 'gym second');
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'foreign', jsonb_build_object('target_id', '17900000000000001', 'author_id', 'ig-anna',
  'text', (select code from public.completions where task_id = tests.id('gym second')))));
select is(pg_temp.status('anna', 'gym second'), 'pending', 'a signal of one tenant decides nothing of another, code and account or not');
select private.record_signals(tests.id('gym'), jsonb_build_array(pg_temp.signal('instagram', 'comment', 'foreign', '{"target_id": "17900000000000001", "author_id": "ig-anna"}')));
select is(pg_temp.status('anna', 'gym second'), 'verified webhook', 'the same signal of its own tenant does');

-- Mentions wake whoever waits for one.
select tests.task_of('pizza', 'mention us', 'instagram_mention');
select tests.claim_task('pizza', 'anna', 'mention us');
create function pg_temp.loaded() returns jobs.loaded language sql as $$
  select l from public.completions c, private.load_verifications(array[c.tenant_id], array[1::bigint], array[c.id], array[null::jsonb]) l where c.task_id = tests.id('mention us')
$$;
create function pg_temp.items() returns bigint language sql as $$
  select count(*) from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('mention us') and i.run_at <= now()
$$;
delete from private.signals where kind = 'mention';
select is((pg_temp.loaded()).reason, 'waiting for a mention', 'without a mention there is nothing to read');
select is((pg_temp.loaded()).hold_until, (select deadline from public.completions where task_id = tests.id('mention us')), 'until the deadline');
select pg_temp.record(pg_temp.signal('instagram', 'mention', 'm1', '{"details": {"media_id": "900", "comment_id": "901"}}'));
select is(pg_temp.items(), 1::bigint, 'a mention brings the claim to the worker at once');
select pg_temp.record(pg_temp.signal('instagram', 'mention', 'm2', '{"details": {"media_id": "902"}}'));
select is(pg_temp.items(), 1::bigint, 'a second one does not bring it twice');
update jobs.items set run_at = now() + interval '1 hour', waiting_for = 'x' where dedupe_key ~ '^mention/';
select is(pg_temp.items(), 0::bigint, 'one that was read and is somebody else''s is read again later');
select pg_temp.record(pg_temp.signal('instagram', 'mention', 'm3', '{"details": {"media_id": "902"}}'));
select is(pg_temp.items(), 1::bigint, 'but a new one brings the claim to the worker at once');
select is((pg_temp.loaded()).hold_until, null, 'now it is not held');
select is((select string_agg(m ->> 'media_id', ' ' order by m ->> 'media_id') from jsonb_array_elements((pg_temp.loaded()).data -> 'mentions') m), '900 902 902', 'the worker is told which mentions to read');

-- Who was asked to write to the account.
delete from public.linked_accounts where participant_id in (tests.id('pizza/anna'), tests.id('pizza/ben'));
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by) values (tests.id('pizza'), tests.id('pizza/anna'), 'instagram', 'ig-writes', 'claim code');
select tests.task_of('pizza', 'follow us', 'instagram_follow');
select tests.claim_task('pizza', p, 'follow us') from unnest(array['anna', 'ben']) p;
update public.completions set status = 'needs_user_action' where task_id = tests.id('follow us');
select pg_temp.record(pg_temp.signal('instagram', 'comment', 'says', '{"author_id": "ig-writes", "target_id": "17900000000000001", "text": "again"}'));
select is(pg_temp.status('anna', 'follow us'), 'needs_user_action', 'a comment is not the message that was asked for');
select pg_temp.record(pg_temp.signal('instagram', 'message', 'writes', '{"author_id": "ig-writes", "text": "Hello"}'));
select is(pg_temp.status('anna', 'follow us'), 'pending', 'a message is, also from an account that was linked before');
select is((select count(*) from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('follow us') and c.status = 'pending' and i.run_at <= now()), 1::bigint, 'and the claim goes to the worker');
select is(pg_temp.status('ben', 'follow us'), 'needs_user_action', 'nobody else''s goes on');

-- Thousands
select tests.task_of('pizza', 'crowd', 'instagram_comment');
insert into public.participants (tenant_id, id, display_name) select tests.id('pizza'), tests.id('crowd ' || n), 'Person ' || n from generate_series(1, 2000) n;
insert into public.completions (tenant_id, task_id, participant_id, code, deadline)
select tests.id('pizza'), tests.id('crowd'), tests.id('crowd ' || n), 'OC-' || lpad(n::text, 8, '0'), now() + interval '1 day' from generate_series(1, 2000) n;
create table pg_temp.crowd as
  select jsonb_agg(pg_temp.signal('instagram', 'comment', 'crowd' || n, jsonb_build_object('target_id', '17900000000000001', 'author_id', 'a' || n, 'text', 'OC-' || lpad(n::text, 8, '0')))
    order by md5(n::text)) as list from generate_series(1, 2000) n;
set local statement_timeout = '20s';
create table pg_temp.took as select clock_timestamp() as since, private.record_signals(tests.id('pizza'), list) as answer, clock_timestamp() as until from pg_temp.crowd;
select is(answer, '{"recorded": 2000, "skipped": 0, "decided": 2000}', 'two thousand comments decide two thousand claims') from pg_temp.took;
select is((select count(*) from public.notification_outbox m join public.completions c on c.id = m.completion_id where c.task_id = tests.id('crowd')), 2000::bigint, 'each with its message');
select diag(format('2,000 signals took %s', until - since)) from pg_temp.took;

select * from finish();
rollback;
