-- What people write to a number: the window of 24 hours, STOP in many languages, at once and in all campaigns.
begin;
select plan(62);
select tests.two_tenants();
select tests.participant('pizza', 'second');
update public.participants set phone = '+5215512345678', whatsapp_opt_in_at = now() - interval '1 hour' where id = tests.id('pizza/second');
update public.participants set whatsapp_opt_in_at = now() - interval '1 hour' where user_id in (tests.id('pizza participant'), tests.id('gym participant'));

create function pg_temp.at(p_ago interval default '0') returns text language sql as $$ select to_char((now() - p_ago) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') $$;
create function pg_temp.writes(p_text text, p_slug text default 'pizza', p_wa_id text default '491701234567', p_ago interval default '0') returns jsonb language sql as $$
  select private.record_whatsapp_inbound(case when p_slug is not null then tests.id(p_slug) end, jsonb_build_array(jsonb_build_object('external_id', 'wamid.in', 'wa_id', p_wa_id, 'text', p_text, 'happened_at', pg_temp.at(p_ago))))
$$;
create function pg_temp.agrees(p_name text) returns boolean language sql as $$ select whatsapp_opt_in_at is not null from public.participants where id = tests.id(p_name) $$;
create function pg_temp.agree_again() returns void language sql as $$ update public.participants set whatsapp_opt_in_at = now() - interval '1 hour' where whatsapp_opt_in_at is null $$;

-- The window
select is(pg_temp.writes('hi') ->> 'recorded', '1', 'a message is recorded');
select is((select inbound_at from private.conversations where tenant_id = tests.id('pizza') and recipient = '491701234567'), date_trunc('second', now()), 'the window counts from it');
select pg_temp.writes('earlier', p_ago => '2 hours');
select is((select inbound_at from private.conversations where tenant_id = tests.id('pizza')), date_trunc('second', now()), 'an older one that comes late does not close it');
select is((select count(*) from private.conversations where tenant_id = tests.id('gym')), 0::bigint, 'it is the window of that business alone');
select ok(pg_temp.agrees('pizza/pizza participant'), 'words that are no STOP change no consent');

-- STOP
select is(private.is_stop_word(w), true, format('"%s" ends messages', w)) from unnest(array['STOP', 'Stop!', ' stop. ', 'Unsubscribe', 'ABMELDEN', 'Baja', '¡BASTA!', 'Arrêt', 'parar', 'Sair', 'afmelden', 'СТОП', 'توقف', '停止', 'stop  all', '"stop"', 'Stop promotions', 'OPT-OUT', 'Please stop!']) w;
select is(private.is_stop_word(w), false, format('"%s" does not', w)) from unnest(array['don''t stop', 'stop by tomorrow?', 'bus stop', 'yes', '', '!', 'I want to cancel my order']) w;
select is(private.is_stop_word(null), null, 'no text is no word');
select is(pg_temp.writes('stop') ->> 'stopped', '1', 'STOP ends the consent');
select ok(not pg_temp.agrees('pizza/pizza participant'), 'of the person who wrote it');
select ok(pg_temp.agrees('pizza/second'), 'not of others');
select ok(pg_temp.agrees('gym/gym participant'), 'nor the same person''s towards another business');
select is((select status || ': ' || reason from public.notification_outbox where tenant_id = tests.id('pizza')), 'no_consent: the participant has withdrawn consent', 'what waits for the person ends');
select is((select status::text from public.notification_outbox where tenant_id = tests.id('gym')), 'queued', 'the other business''s message waits on');
select is((select granted || ' ' || source from public.opt_ins where participant_id = tests.id('pizza/pizza participant') order by position desc limit 1), 'false stop_word', 'the ledger says how');
select is(pg_temp.writes('stop') ->> 'stopped', '0', 'the same again is no news');
select is((select count(*) from public.opt_ins where participant_id = tests.id('pizza/pizza participant') and not granted), 1::bigint, 'and one entry');
update public.participants set whatsapp_opt_in_at = now() - interval '10 minutes' where id = tests.id('pizza/pizza participant');
select is(pg_temp.writes('stop', p_ago => '20 minutes') ->> 'stopped', '0', 'a STOP that comes late does not undo a consent that was given after it');
select is(pg_temp.writes('stop', p_ago => '5 minutes') ->> 'stopped', '1', 'a later one does');
-- Nobody can agree so far ahead that no STOP reaches it.
select tests.rows('pizza participant', format('update public.participants set whatsapp_opt_in_at = ''2999-01-01'' where id = %L', tests.id('pizza/pizza participant')));
select is((select whatsapp_opt_in_at from public.participants where id = tests.id('pizza/pizza participant')), now(), 'a consent of the future is one of now');
select is(pg_temp.writes('stop') ->> 'stopped', '1', 'and ends like any other');

-- Numbers that WhatsApp writes in its own way
select is(pg_temp.writes('stop', p_wa_id => '525512345678') ->> 'stopped', '1', 'a Mexican number without its 1 is the same person');
select is(private.wa_key('+5511912345678'), private.wa_key('551112345678'), 'as is a Brazilian one without its 9');
select isnt(private.wa_key('+491701234567'), private.wa_key('+491701234568'), 'others are others');

-- START is no consent
select pg_temp.writes('START');
select ok(not pg_temp.agrees('pizza/pizza participant'), 'START alone is no consent: it names no business');
select isnt((select start_word_at from private.conversations where tenant_id = tests.id('pizza') and recipient = '491701234567'), null, 'but is noted');

-- The platform's number: whoever wrote to the person through it, and whoever has no other
select pg_temp.agree_again();
select public.set_credential(tests.id(s), 'whatsapp', 'whatsapp_cloud', '{"access_token": "t"}', '{"phone_number_id": "1"}') from unnest(array['pizza', 'gym']) s;
select is(pg_temp.writes('stop', null) ->> 'stopped', '0', 'a person to whom nobody wrote through the platform''s number says STOP to nobody');
update public.notification_outbox set credential_source = 'platform', status = 'sent', sent_at = now() where tenant_id = tests.id('gym');
select is(pg_temp.writes('stop', null) ->> 'stopped', '1', 'STOP to the platform''s number counts for who wrote through it');
select ok(not pg_temp.agrees('gym/gym participant') and pg_temp.agrees('pizza/pizza participant'), 'and for nobody else');
select is((select count(*) from private.conversations where tenant_id = jobs.platform_id()), 1::bigint, 'its window is the platform''s');
select pg_temp.agree_again();
update public.notification_outbox set credential_source = null, status = 'queued', sent_at = null where tenant_id = tests.id('gym');
select public.remove_credential(tests.id('gym'), 'whatsapp');
select is(pg_temp.writes('stop', null) ->> 'stopped', '1', 'and for who would write through it first tomorrow morning');
select ok(not pg_temp.agrees('gym/gym participant') and pg_temp.agrees('pizza/pizza participant'), 'not for who has a number of its own');
select is((select status::text from public.notification_outbox where tenant_id = tests.id('gym')), 'no_consent', 'what was held ends');

-- People without a number, and bad input
select is(private.record_whatsapp_inbound(tests.id('pizza'), jsonb_build_array(jsonb_build_object('external_id', 'x', 'wa_id', null, 'user_id', 'DE.abc', 'text', 'hi', 'happened_at', pg_temp.at()))) ->> 'recorded', '1', 'a person with a user name only has a window too');
select is(private.record_whatsapp_inbound(tests.id('pizza'), jsonb_build_array(null, 1, '{}'::jsonb, jsonb_build_object('external_id', 'x', 'wa_id', 'abc', 'happened_at', pg_temp.at()),
  jsonb_build_object('external_id', 'x', 'wa_id', '491701234567', 'happened_at', '2999-01-01T00:00:00Z'), jsonb_build_object('external_id', 'x', 'wa_id', '491701234567', 'happened_at', 'now'))),
  '{"recorded": 0, "skipped": 6, "stopped": 0}', 'what is no message is skipped and counted');
select is(private.record_whatsapp_inbound(tests.id('nobody'), jsonb_build_array(jsonb_build_object('external_id', 'x', 'wa_id', '491701234567', 'happened_at', pg_temp.at()))) ->> 'stopped', '0', 'a tenant that is gone has no conversations');
select is((select count(*) from private.conversations where tenant_id = tests.id('nobody')), 0::bigint, 'none at all');
select is(private.record_whatsapp_inbound(tests.id('pizza'), (select jsonb_agg(jsonb_build_object('external_id', n, 'wa_id', (15550000000 + n)::text, 'text', 'stop', 'happened_at', pg_temp.at())) from generate_series(1, 1000) n)) ->> 'recorded', '1000', 'a thousand are one call');

select * from finish();
rollback;
