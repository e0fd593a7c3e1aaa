-- What a body of WhatsApp says, part by part.
begin;
select plan(21);

create function pg_temp.split(p_value jsonb, p_field text default 'messages', p_account jsonb default '{"phone_number_id": "106"}', p_waba text default '1') returns table (is_a text, reason text, part jsonb) language sql as $$
  select s.* from private.split_whatsapp(jsonb_build_object('object', 'whatsapp_business_account', 'entry', jsonb_build_array(jsonb_build_object('id', p_waba,
    'changes', jsonb_build_array(jsonb_build_object('field', p_field, 'value',
      '{"messaging_product": "whatsapp", "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106"}}'::jsonb || p_value))))), p_account, '2026-11-20 10:00+00') s
$$;
create function pg_temp.verdict(p_value jsonb, p_field text default 'messages') returns text language sql as $$
  select coalesce(string_agg(s.is_a || coalesce(': ' || s.reason, ''), ', '), 'nothing') from pg_temp.split(p_value, p_field) s
$$;

-- Messages
create table pg_temp.inbound as select '{"contacts": [{"profile": {"name": "Jane"}, "wa_id": "491701"}],
  "messages": [{"from": "491701", "id": "wamid.1", "timestamp": "1763632800", "type": "text", "text": {"body": "STOP"}}]}'::jsonb as value;
select is((select part from pg_temp.inbound, pg_temp.split(value)),
  '{"external_id": "wamid.1", "wa_id": "491701", "user_id": null, "text": "STOP", "happened_at": "2025-11-20T10:00:00+00:00", "profile_name": "Jane", "number_id": "106"}'::jsonb,
  'a message has its sender, text and time');
select is((select part ->> 'text' from pg_temp.split('{"messages": [{"from": "1", "id": "w", "type": "button", "button": {"text": "Stop"}}]}')), 'Stop', 'a button''s text is the text');
select is((select part ->> 'text' from pg_temp.split('{"messages": [{"from": "1", "id": "w", "type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Join"}}}]}')), 'Join', 'as is the title of a choice');
select is((select part ->> 'text' from pg_temp.split('{"messages": [{"from": "1", "id": "w", "type": "image", "image": {"id": "9", "caption": "OC-ABCD2345"}}]}')), 'OC-ABCD2345', 'and the caption of a picture');
select is((select part ->> 'user_id' || coalesce(part ->> 'wa_id', ' only') from pg_temp.split('{"messages": [{"from_user_id": "DE.123", "id": "w", "type": "text", "text": {"body": "hi"}}]}')), 'DE.123 only', 'who hides the number has a user id');
select is(pg_temp.verdict('{"messages": [{"from": "1", "id": "w", "type": "reaction"}, {"from": "1", "id": "x", "type": "system"}]}'), 'ignored: message of type reaction, ignored: message of type system', 'reactions and changed numbers are no messages');
select is(pg_temp.verdict('{"messages": [{"from": "15550783881", "id": "w", "type": "text"}]}'), 'ignored: own', 'an echo of the own number is ignored');
select is(pg_temp.verdict('{"messages": [{"id": "w", "type": "text"}]}'), 'ignored: no sender', 'a message without a sender is ignored');

-- Statuses
select is((select part from pg_temp.split('{"statuses": [{"id": "wamid.2", "status": "failed", "timestamp": "1763632800", "recipient_id": "49", "biz_opaque_callback_data": "t/o",
    "errors": [{"code": 131049, "title": "Not delivered", "error_data": {"details": "Healthy ecosystem"}}]}]}')),
  '{"message_id": "wamid.2", "callback": "t/o", "status": "failed", "at": "2025-11-20T10:00:00+00:00", "code": 131049, "details": "Healthy ecosystem"}'::jsonb, 'a failure has its code and its details');
select is((select string_agg(part ->> 'status', ' ' order by part ->> 'message_id') from pg_temp.split('{"statuses": [{"id": "1", "status": "sent"}, {"id": "2", "status": "delivered"}, {"id": "3", "status": "read"}, {"id": "4", "status": "played"}]}')),
  'sent delivered read played', 'all known statuses are read');
select is(pg_temp.verdict('{"statuses": [{"id": "1", "status": "pondered"}]}'), 'ignored: status pondered', 'an unknown one is counted');

-- Preferences, errors, the rest
select is((select part from pg_temp.split('{"user_preferences": [{"wa_id": "491701", "detail": "x", "category": "marketing_messages", "value": "stop", "timestamp": 1763632800}]}', 'user_preferences')),
  '{"wa_id": "491701", "category": "marketing_messages", "value": "stop", "at": "2025-11-20T10:00:00+00:00"}'::jsonb, 'a preference says who wants what');
select is((select is_a || ' ' || part::text from pg_temp.split('{"errors": [{"code": 131031, "title": "Account locked"}]}')), 'error {"at": "2026-11-20T10:00:00+00:00", "code": 131031, "title": "Account locked"}', 'an error of the account is kept');
select is(pg_temp.verdict('{"event": "APPROVED"}', 'message_template_status_update'), 'ignored: unknown field message_template_status_update', 'other fields are counted by name');

-- Whose number
select is((select s.reason from pg_temp.inbound, pg_temp.split(value, 'messages', '{"phone_number_id": "107"}') s), 'other account', 'a message to another number than the credential''s is ignored');
select is((select s.reason from pg_temp.inbound, pg_temp.split(value, 'messages', '{"phone_number_id": "106", "waba_id": "2"}') s), 'other account', 'so is one of another business account');
select is((select s.is_a from pg_temp.inbound, pg_temp.split(value, 'messages', '{"phone_number_id": "106", "waba_id": "1"}') s), 'message', 'the own one passes');
select is((select s.reason from pg_temp.split('{"statuses": [{"id": "1", "status": "sent"}], "metadata": {}}') s), 'other account', 'a number that is not named is not the own');

-- Nothing is trusted to be there
select is(pg_temp.verdict('{"messages": [null, 3, [], {"from": {}, "id": "w"}], "statuses": {"id": 1}}'), 'ignored: no id, ignored: no id, ignored: no id, ignored: no sender', 'what cannot be read is counted');
select is(pg_temp.verdict('{"messages": [{"from": "1", "id": "w", "type": "text", "text": {"body": "hi"}}, 7], "statuses": [{"id": "1", "status": "sent"}]}'), 'message, ignored: no id, status', 'one bad entry does not drop the rest');
select lives_ok($$ select s from unnest(array['[]', '3', '{"entry": [null, 1, {"changes": [null, 2, {"field": "messages"}, {"field": 3, "value": 4}]}]}']::jsonb[]) b, private.split_whatsapp(b, '{}', now()) s $$, 'a body of any other shape raises nothing');

select * from finish();
rollback;
