begin;
select plan(18);
select tests.two_tenants();
select tests.campaign('pizza', 'pizza draft', 'draft');
select tests.campaign('pizza', 'pizza over', 'ended');
select tests.campaign('pizza', 'pizza later');
update public.campaigns set starts_at = now() + interval '1 day' where id = tests.id('pizza later');
select tests.campaign('pizza', 'pizza past');
update public.campaigns set ends_at = now() - interval '1 minute' where id = tests.id('pizza past');

create function pg_temp.join_as(p_who text, p_slug text, p_campaign text, p_more text default '') returns text language sql as $$
  select tests.error_of(p_who, format('select public.join_campaign(%L, %L, ''Someone''%s)', tests.id(p_slug), tests.id(p_campaign), p_more))
$$;

select is(pg_temp.join_as('stranger', 'pizza', 'pizza campaign'), null, 'a signed-in user joins a running campaign');
select is(tests.sees('stranger', 'public.participants', 'pizza'), '1', 'and is a participant of that tenant then');
select is(tests.sees('stranger', 'public.campaigns', 'pizza'), '4', 'who sees its campaigns but drafts');
select is(tests.sees('stranger', 'public.participants', 'gym'), '0', 'and nothing of another tenant');
select is(pg_temp.join_as('anon', 'pizza', 'pizza campaign'), '42501: permission denied for function join_campaign', 'anon does not join');

select matches(pg_temp.join_as('stranger', 'pizza', 'pizza draft'), '^PT404', 'nobody joins a draft');
select matches(pg_temp.join_as('stranger', 'pizza', 'pizza over'), '^PT404', 'nor one that has ended');
select matches(pg_temp.join_as('stranger', 'pizza', 'pizza later'), '^PT404', 'nor one that has not started');
select matches(pg_temp.join_as('stranger', 'pizza', 'pizza past'), '^PT404', 'nor one whose end has passed');
select is(pg_temp.join_as('stranger', 'pizza', 'gym campaign'), pg_temp.join_as('stranger', 'pizza', 'no campaign'),
  'a campaign of another tenant is one that does not exist');

select is(pg_temp.join_as('stranger', 'pizza', 'pizza campaign', $$, '+49 170 7654321', '@Some.One', null, true$$), null, 'joining again updates the details');
select is(tests.answer('stranger', 'select concat_ws('' '', phone, instagram_username, whatsapp_opt_in_at is not null) from public.participants'),
  '+491707654321 some.one t', 'as they are compared');
select is(pg_temp.join_as('stranger', 'pizza', 'pizza campaign'), null, 'what is left out the next time');
select is(tests.answer('stranger', 'select phone from public.participants'), '+491707654321', 'stays as it was');
select matches(pg_temp.join_as('pizza participant', 'pizza', 'pizza campaign', $$, null, 'some.one'$$), '^23505', 'a user name belongs to one participant of a tenant');
select is(pg_temp.join_as('gym participant', 'gym', 'gym campaign', $$, null, 'some.one'$$), null, 'another tenant knows nothing of that');

update public.tenants set status = 'suspended' where slug = 'pizza';
select matches(pg_temp.join_as('gym participant', 'pizza', 'pizza campaign'), '^PT404', 'nobody joins at a suspended tenant');

-- A token outlives its user.
select tests.person('gone');
delete from auth.users where id = tests.id('gone');
select is(tests.error_of('gone', format('select public.join_campaign(%L, %L, ''Gone'')', tests.id('pizza'), tests.id('pizza campaign'))), '42501: Sign in first.', 'a deleted user joins nothing, and is told so in the same words as nobody');

select * from finish();
rollback;
