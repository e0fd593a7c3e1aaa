-- Linking: a code that comes back from an account says whose it is.
begin;
select plan(30);
select tests.two_tenants();
select tests.participant('pizza', 'anna');
select public.set_credential(tests.id('pizza'), 'meta', 'facebook_login', '{"access_token": "t"}', '{"page_id": "42", "username": "pizza.shop"}');

create function pg_temp.code(p_who text, p_platform text) returns text language sql as $$
  select tests.answer(p_who, format('select public.start_linking(%L, %L) ->> ''code''', tests.id('pizza'), p_platform))
$$;
create function pg_temp.link(p_who text, p_platform text) returns text language sql as $$
  select regexp_replace(tests.answer(p_who, format('select public.start_linking(%L, %L) ->> ''link''', tests.id('pizza'), p_platform)), 'OC-[0-9A-F]{8}', 'CODE')
$$;
create function pg_temp.seen(p_surface text, p_kind text, p_id text, p_author text, p_more jsonb) returns jsonb language sql as $$
  select private.record_signals(tests.id('pizza'), jsonb_build_array(jsonb_build_object('surface', p_surface, 'kind', p_kind, 'external_id', p_id, 'author_id', p_author) || p_more))
$$;
create function pg_temp.account(p_who text, p_platform text) returns text language sql as $$
  select external_id from public.linked_accounts where participant_id = tests.id('pizza/' || p_who) and platform = p_platform
$$;

select is(pg_temp.link('anna', 'instagram'), 'https://ig.me/m/pizza.shop?ref=CODE', 'the link opens the chat with the code in place');
select is(pg_temp.link('anna', 'facebook'), 'https://m.me/42?ref=CODE', 'on Facebook the Page''s');
select is(pg_temp.link('anna', 'whatsapp'), null, 'and there is none where the account is not known');
select matches(pg_temp.code('anna', 'telegram'), '22023', 'another platform is refused');
select is(pg_temp.code('stranger', 'instagram'), 'PT404', 'who takes no part links nothing');
select matches(pg_temp.code('anon', 'instagram'), '42501', 'nor does anon');

select pg_temp.seen('instagram', 'message', 'm1', 'ig-1', jsonb_build_object('text', lower(pg_temp.code('anna', 'instagram'))));
select is(pg_temp.account('anna', 'instagram'), 'ig-1', 'a message with the code links the account');
select pg_temp.seen('instagram', 'message', 'm2', 'ig-2', jsonb_build_object('text', (select code from private.link_codes where platform = 'instagram')));
select is(pg_temp.account('anna', 'instagram'), 'ig-1', 'a code links once');
select pg_temp.seen('instagram', 'message', 'm3', 'ig-3', jsonb_build_object('referral', pg_temp.code('anna', 'instagram')));
select is(pg_temp.account('anna', 'instagram'), 'ig-3', 'a new one, here as the referral of the chat, links another account in its place');
select pg_temp.seen('facebook', 'comment', 'c1', 'fb-1', jsonb_build_object('target_id', '1', 'text', 'Hi ' || pg_temp.code('anna', 'facebook')));
select is(pg_temp.account('anna', 'facebook'), 'fb-1', 'a comment links too');
select pg_temp.seen('whatsapp', 'message', 'w0', '4917', jsonb_build_object('text', pg_temp.code('anna', 'instagram')));
select is(pg_temp.account('anna', 'whatsapp'), null, 'a code for one platform links none of another');
select pg_temp.seen('whatsapp', 'message', 'w1', '4917', jsonb_build_object('text', pg_temp.code('anna', 'whatsapp')));
select is(pg_temp.account('anna', 'whatsapp'), '4917', 'a WhatsApp message links its number');
select pg_temp.code('pizza participant', 'whatsapp');
update private.link_codes set expires_at = now() - interval '1 second' where used_at is null;
select pg_temp.seen('whatsapp', 'message', 'w2', '4918', jsonb_build_object('text', (select code from private.link_codes where participant_id = tests.id('pizza/pizza participant'))));
select is(pg_temp.account('pizza participant', 'whatsapp'), null, 'a code that is over links nothing');
select pg_temp.seen('whatsapp', 'message', 'w3', '4917', jsonb_build_object('text', pg_temp.code('pizza participant', 'whatsapp')));
select is(pg_temp.account('pizza participant', 'whatsapp'), null, 'an account that somebody holds is not taken away');
select is(pg_temp.account('anna', 'whatsapp'), '4917', 'it stays where it was');

-- A claim that waits for the link goes on when it is there.
select tests.task_of('pizza', 'follow us', 'instagram_follow');
delete from public.linked_accounts;
select tests.claim_task('pizza', 'anna', 'follow us');
select private.apply_verifications(array[(tests.id('pizza'), 0, c.id, 'done', '{"verdict": "needs_user_action", "reason": "write to us first"}', null, 'tenant')::jobs.ended])
from public.completions c where c.task_id = tests.id('follow us');
select is((select c.status || ': ' || c.reason from public.completions c where c.task_id = tests.id('follow us')), 'needs_user_action: write to us first', 'a claim may need a step of the person');
select is((select c.action_url = 'https://ig.me/m/pizza.shop?ref=' || c.code from public.completions c where c.task_id = tests.id('follow us')), true, 'and says where to take it');
select pg_temp.seen('instagram', 'message', 'm9', 'ig-9', jsonb_build_object('referral', (select code from public.completions where task_id = tests.id('follow us'))));
select is((select c.status::text from public.completions c where c.task_id = tests.id('follow us')), 'pending', 'when the person has written it is open again');
select is((select count(*) from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('follow us') and i.run_at <= now()), 1::bigint, 'with a new item');
select is(pg_temp.account('anna', 'instagram'), 'ig-9', 'since the claim''s own code links the account too');

-- No webhook need tell of the message: who is linked is asked about.
create function pg_temp.say(p_verdict text) returns void language plpgsql as $$
declare
  v_claim uuid := (select c.id from public.completions c where c.task_id = tests.id('follow us'));
begin
  -- As a close does: what ends has left, and its key is free.
  delete from jobs.dedupe_keys k using jobs.items i where i.subject_id = v_claim and k.tenant_id = i.tenant_id and k.item_id = i.item_id;
  delete from jobs.items i where i.subject_id = v_claim;
  perform private.apply_verifications(array[(tests.id('pizza'), 0, v_claim, 'done', jsonb_build_object('verdict', p_verdict), null, 'tenant')::jobs.ended]);
end
$$;
create function pg_temp.items() returns text language sql as $$
  select string_agg(case when i.run_at <= now() then 'now' else extract(epoch from i.run_at - now())::integer || ' s' end, ', ' order by i.run_at)
  from jobs.items i join public.completions c on c.id = i.subject_id where c.task_id = tests.id('follow us') and i.dedupe_key is not null
$$;
create function pg_temp.loaded() returns jobs.loaded language sql as $$
  select l from public.completions c, lateral private.load_verifications(array[c.tenant_id], array[1::bigint], array[c.id], array[null::jsonb]) l where c.task_id = tests.id('follow us')
$$;
select is(pg_temp.items(), 'now', 'the claim that goes on has one item');
select pg_temp.say('needs_user_action');
select is(pg_temp.items(), '900 s', 'a linked person who has to write is asked about again in a quarter of an hour');
select is((select settle_at > deadline from public.completions where task_id = tests.id('follow us')), true, 'and the claim is not ended before that was done after the deadline');
select is((pg_temp.loaded()).data ->> 'asked' || (pg_temp.loaded()).cancel, 'truefalse', 'the worker knows that the person was asked');
select pg_temp.say('acted');
select is((select status::text from public.completions where task_id = tests.id('follow us')), 'pending', 'whoever has written by then is looked at');
select is(pg_temp.items(), 'now', 'at once');
select pg_temp.say('needs_user_action');
select pg_temp.seen('instagram', 'message', 'm10', 'ig-9', '{"text": "hi"}');
select is(pg_temp.items(), 'now', 'a webhook that tells of the message brings the question forward');
select pg_temp.say('needs_user_action');
delete from public.linked_accounts;
select is((pg_temp.loaded()).cancel, true, 'about nobody in particular there is nothing to ask');
insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by) values (tests.id('pizza'), tests.id('pizza/anna'), 'instagram', 'ig-9', 'link code');

select is(tests.answer('pizza participant', format('select public.unlink_account(%L, ''instagram'')', tests.id('pizza'))), 'false', 'nobody unlinks somebody else''s account');
select is(tests.answer('anna', format('select public.unlink_account(%L, ''instagram'')', tests.id('pizza'))), 'true', 'as the person does');

select * from finish();
rollback;
