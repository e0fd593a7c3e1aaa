-- What each kind of task needs, and the table that says what can be proven about it.
begin;
select no_plan();
select tests.two_tenants();

create function pg_temp.insert_task(p_kind text, p_more jsonb) returns text language plpgsql as $$
begin
  perform tests.task_of('pizza', 'task ' || gen_random_uuid(), p_kind, p_more);
  return 'taken';
exception when check_violation then
  return 'refused';
end
$$;

select bag_eq('select kind from public.task_kinds', 'select unnest(enum_range(null::public.task_kind))::text', 'every kind says what can be proven about it');
select is(pg_temp.insert_task(k.kind, '{}'), 'taken', format('%s is taken with what it needs', k.kind)) from public.task_kinds k;
select is(pg_temp.insert_task(k.kind, '{"post_id": null}'), case when k.needs = 'post' then 'refused' else 'taken' end,
  format('%s without a post is %s', k.kind, case when k.needs = 'post' then 'refused' else 'taken' end)) from public.task_kinds k;
select is(pg_temp.insert_task(k.kind, '{"keyword": null, "url": null}'), case when k.needs in ('keyword', 'url') then 'refused' else 'taken' end,
  format('%s without keyword and address is %s', k.kind, case when k.needs in ('keyword', 'url') then 'refused' else 'taken' end)) from public.task_kinds k;
select is(pg_temp.insert_task(k.kind, '{"post_id": "1"}'), 'refused', format('%s with a post is refused', k.kind)) from public.task_kinds k where k.needs <> 'post';
select is(pg_temp.insert_task(k.kind, '{"keyword": "x"}'), 'refused', format('%s with a keyword is refused', k.kind)) from public.task_kinds k where k.needs <> 'keyword';
select is(pg_temp.insert_task(k.kind, '{"url": "https://a.example"}'), 'refused', format('%s with an address is refused', k.kind)) from public.task_kinds k where k.needs <> 'url';

select is(pg_temp.insert_task('link_visit', jsonb_build_object('url', url)), 'taken', format('%s is taken', url))
from unnest(array['https://pizza.example', 'https://pizza.example/', 'https://pizza.example:8443/a?b=c#d', 'https://PIZZA.example/?c={code}', 'https://pizza.example?x']) url;
select is(pg_temp.insert_task('link_visit', jsonb_build_object('url', url)), 'refused', format('%s is refused', url))
from unnest(array['http://pizza.example', 'https://user@pizza.example', 'https://user:pass@pizza.example/', 'javascript:alert(1)', 'https://', 'https:///x',
  E'https://pizza.example\\@evil.example', 'https://pizza.example /x', E'https://pizza.example/\n', '//pizza.example', 'ftp://pizza.example', 'https://-pizza.example']) url;
select is(pg_temp.insert_task('instagram_dm_keyword', jsonb_build_object('keyword', keyword)), 'taken', format('the keyword %s is taken', keyword))
from unnest(array['pizza', ' PIZZA ', 'two words', '2 für 1']) keyword;
select is(pg_temp.insert_task('instagram_dm_keyword', jsonb_build_object('keyword', keyword)), 'refused', format('the keyword "%s" is refused', keyword))
from unnest(array['', '!!', repeat('x', 41), E'a\nb']) keyword;

-- The table is for all to read and for nobody to change.
select is(tests.rows('pizza participant', 'select from public.task_kinds'), '15', 'everybody reads the table of kinds');
select is(tests.rows('anon', 'select from public.task_kinds'), '42501', 'who is signed in');
select is(tests.rows('pizza owner', 'update public.task_kinds set proof = ''auto'''), '42501', 'nobody changes it');
select is((select string_agg(kind, ' ' order by kind) from public.task_kinds where proof = 'manual_review'),
  'facebook_page_like instagram_like x_follow x_repost', 'likes of posts and Pages, and everything on X, cannot be proven');

select * from finish();
rollback;
