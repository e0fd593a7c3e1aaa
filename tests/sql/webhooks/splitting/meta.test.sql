-- What a body of Meta says, update by update.
begin;
select plan(30);

create function pg_temp.split(p_body jsonb, p_account jsonb default '{"ig_user_id": "178", "page_id": "100"}') returns table (is_a text, reason text, signal jsonb) language sql as $$
  select s.is_a, s.reason, s.signal from private.split_meta(p_body, p_account, '2026-11-20 10:00+00') s
$$;
create function pg_temp.instagram(p_field text, p_value jsonb, p_id text default '178') returns jsonb language sql as $$
  select jsonb_build_object('object', 'instagram', 'entry', jsonb_build_array(jsonb_build_object('id', p_id, 'time', 1763632800,
    'changes', jsonb_build_array(jsonb_build_object('field', p_field, 'value', p_value)))))
$$;
create function pg_temp.messaging(p_event jsonb, p_object text default 'instagram', p_id text default '178') returns jsonb language sql as $$
  select jsonb_build_object('object', p_object, 'entry', jsonb_build_array(jsonb_build_object('id', p_id, 'time', 1763632800000,
    'messaging', jsonb_build_array('{"sender": {"id": "555"}, "recipient": {"id": "178"}, "timestamp": 1763632801500}'::jsonb || p_event))))
$$;
create function pg_temp.feed(p_value jsonb) returns jsonb language sql as $$
  select jsonb_build_object('object', 'page', 'entry', jsonb_build_array(jsonb_build_object('id', '100', 'time', 1763632800,
    'changes', jsonb_build_array(jsonb_build_object('field', 'feed', 'value', '{"from": {"id": "700", "name": "Jane"}, "post_id": "100_1", "created_time": 1763632700}'::jsonb || p_value)))))
$$;
create function pg_temp.verdict(p_body jsonb) returns text language sql as $$
  select coalesce(string_agg(s.is_a || coalesce(': ' || s.reason, ''), ', '), 'nothing') from pg_temp.split(p_body) s
$$;

-- Comments of Instagram, in both places
create table pg_temp.comment as select '{"id": "c1", "text": "Hi OC-ABCD2345", "from": {"id": "555", "username": "jane.doe"}, "media": {"id": "m1", "media_product_type": "FEED"}}'::jsonb as value;
select is((select signal from pg_temp.comment, pg_temp.split(pg_temp.instagram('comments', value))),
  '{"surface": "instagram", "kind": "comment", "external_id": "c1", "author_id": "555", "author_username": "jane.doe", "target_id": "m1", "text": "Hi OC-ABCD2345", "happened_at": "2025-11-20T10:00:00+00:00"}'::jsonb,
  'a comment in changes[] is a signal with its author, its post and its text');
select is((select a.signal from pg_temp.comment, pg_temp.split(jsonb_build_object('object', 'instagram', 'entry', jsonb_build_array(
    jsonb_build_object('id', '178', 'time', 1763632800, 'field', 'comments', 'value', value)))) a),
  (select b.signal from pg_temp.comment, pg_temp.split(pg_temp.instagram('comments', value)) b), 'a comment that lies flat on the entry is the same signal');
select is((select signal #>> '{details,parent_id}' from pg_temp.comment, pg_temp.split(pg_temp.instagram('comments', value || '{"parent_id": "c0"}'))), 'c0', 'an answer to a comment names that comment');
select is((select pg_temp.verdict(pg_temp.instagram('comments', value || '{"from": {"id": "999", "self_ig_scoped_id": "178"}}')) from pg_temp.comment), 'ignored: own', 'a comment of the account itself is ignored');
select is((select pg_temp.verdict(pg_temp.instagram('comments', value || '{"from": {"id": "178"}}')) from pg_temp.comment), 'ignored: own', 'also when only its id says so');
select is((select pg_temp.verdict(pg_temp.instagram('comments', value, '179')) from pg_temp.comment), 'ignored: other account', 'a body that speaks for another account than the credential''s is ignored');
select is((select s.is_a from pg_temp.comment, pg_temp.split(pg_temp.instagram('comments', value, '179'), '{}') s), 'signal', 'a credential that names no account takes what its secret has signed');
select is((select pg_temp.verdict(pg_temp.instagram('comments', value - 'id')) from pg_temp.comment), 'ignored: no id', 'a comment without an id is ignored');

-- Mentions
select is((select signal from pg_temp.split(pg_temp.instagram('mentions', '{"media_id": "m9", "comment_id": "c9"}'))),
  '{"surface": "instagram", "kind": "mention", "external_id": "c9", "target_id": "m9", "details": {"media_id": "m9", "comment_id": "c9"}, "happened_at": "2025-11-20T10:00:00+00:00"}'::jsonb,
  'a mention in a comment is known by the comment');
select is((select signal ->> 'external_id' from pg_temp.split(pg_temp.instagram('mentions', '{"media_id": "m9"}'))), 'm9', 'a mention in a caption by the media');

-- Direct messages
select is((select signal from pg_temp.split(pg_temp.messaging('{"message": {"mid": "mid1", "text": "pizza", "referral": {"ref": "OC-ABCD2345"}}}'))),
  '{"surface": "instagram", "kind": "message", "external_id": "mid1", "author_id": "555", "target_id": "178", "text": "pizza", "referral": "OC-ABCD2345", "happened_at": "2025-11-20T10:00:01.5+00:00"}'::jsonb,
  'a direct message has its text, its ref and its time to the millisecond');
select is((select signal ->> 'kind' || (signal -> 'text' is null)::text from pg_temp.split(pg_temp.messaging(
    '{"message": {"mid": "mid2", "attachments": [{"type": "story_mention", "payload": {"url": "https://cdn.example/x"}}]}}'))), 'story_mentiontrue', 'a story mention is a kind of its own');
select is_empty($$ select s from pg_temp.split(pg_temp.messaging('{"message": {"mid": "mid2", "attachments": [{"type": "story_mention", "payload": {"url": "https://cdn.example/x"}}]}}')) s where s::text like '%cdn.example%' $$,
  'the address of its media is not kept');
select is((select signal ->> 'referral' || ' ' || (signal ->> 'external_id') from pg_temp.split(pg_temp.messaging('{"referral": {"ref": "OC-ABCD2345", "source": "SHORTLINK"}}'))),
  'OC-ABCD2345 referral:555:1763632801500', 'a ref without a message counts, too');
select is((select signal ->> 'referral' from pg_temp.split(pg_temp.messaging('{"postback": {"mid": "mid3", "payload": "GO", "referral": {"ref": "OC-ABCD2345"}}}'))), 'OC-ABCD2345', 'as does the ref of a button');
select is(pg_temp.verdict(pg_temp.messaging('{"message": {"mid": "mid4", "text": "hello", "is_echo": true}, "sender": {"id": "178"}}')), 'ignored: own', 'an echo of what the account wrote is ignored');
select is(pg_temp.verdict(pg_temp.messaging('{"read": {"mid": "mid4"}}')), 'ignored: no message', 'that a message was read is no message');
select is(pg_temp.verdict(pg_temp.messaging('{"message": {"mid": "mid1", "is_deleted": true}}')), 'removal', 'a message that was taken back is removed');
select is((select signal ->> 'external_id' from pg_temp.split(pg_temp.instagram('messages',
    '{"sender": {"id": "555"}, "recipient": {"id": "178"}, "timestamp": "1763632801", "message": {"mid": "mid5", "text": "hi"}}'))), 'mid5', 'a message in changes[] is read as well');
select is((select signal ->> 'surface' from pg_temp.split(pg_temp.messaging('{"message": {"mid": "m_1", "text": "hi"}}', 'page', '100'))), 'facebook', 'a message to a Page is one of Facebook');

-- The feed of a Page
select is((select signal from pg_temp.split(pg_temp.feed('{"item": "comment", "verb": "add", "comment_id": "1_117", "message": "OC-ABCD2345"}'))),
  '{"surface": "facebook", "kind": "comment", "external_id": "1_117", "author_id": "700", "target_id": "100_1", "text": "OC-ABCD2345", "happened_at": "2025-11-20T09:58:20+00:00"}'::jsonb,
  'a comment on a post of the Page is a signal; names are not kept');
select is(pg_temp.verdict(pg_temp.feed('{"item": "comment", "verb": "edited", "comment_id": "1_117"}')), 'ignored: verb edited', 'what was edited is not a new comment');
select is(pg_temp.verdict(pg_temp.feed('{"item": "comment", "verb": "remove", "comment_id": "1_117"}')), 'removal', 'what was removed is removed');
select is((select signal ->> 'kind' || ' ' || (signal ->> 'external_id') || ' ' || (signal #>> '{details,reaction_type}')
  from pg_temp.split(pg_temp.feed('{"item": "reaction", "verb": "add", "reaction_type": "like"}'))), 'reaction 100_1:700 like', 'a reaction is known by its post and its person');
select is(pg_temp.verdict(pg_temp.feed('{"item": "comment", "verb": "add", "comment_id": "1_118", "from": {"id": "100"}}')), 'ignored: own', 'a comment of the Page itself is ignored');
select is(pg_temp.verdict(pg_temp.feed('{"item": "photo", "verb": "add"}')), 'ignored: unknown field feed photo', 'what nobody asked for is counted by its name');

-- Nothing is trusted to be there
select is(pg_temp.verdict('{"object": "instagram", "entry": "none"}'), 'nothing', 'a body without entries is nothing');
select lives_ok($$ select pg_temp.verdict(b) from unnest(array['[]', '3', 'null', '{"object": "instagram", "entry": [null, 1, [], {"id": {}, "changes": {}}, {"changes": [null, 1, {"field": "comments", "value": []}, {"field": "comments"}]},
  {"messaging": [null, {"message": 3}, {"message": {"mid": 4, "attachments": 5}, "timestamp": "x"}]}, {"field": 7, "value": 8}]}',
  '{"object": "page", "entry": [{"changes": [{"field": "feed", "value": {"item": "comment", "verb": [], "from": 3}}]}]}']::jsonb[]) b $$, 'a body of any other shape raises nothing');
select is((select count(*) from pg_temp.split((select jsonb_set(pg_temp.instagram('comments', value), '{entry,0,changes}',
    (pg_temp.instagram('comments', value) #> '{entry,0,changes}') || '[{"field": "comments", "value": {"id": [], "from": "?"}}, 7]'::jsonb) from pg_temp.comment)) where is_a = 'signal'), 1::bigint,
  'one bad entry does not drop the rest');
select is((select signal ->> 'happened_at' from pg_temp.split(pg_temp.feed('{"item": "comment", "verb": "add", "comment_id": "1_119", "created_time": 99999999999999999}'))), '2025-11-20T10:00:00+00:00',
  'an absurd time is replaced by that of the entry');

select * from finish();
rollback;
