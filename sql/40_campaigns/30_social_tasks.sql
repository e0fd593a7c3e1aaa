-- Social tasks: what a participant can do in a campaign, on which post, and what it earns.
create table public.social_tasks (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  campaign_id uuid not null,
  kind public.task_kind not null,
  title text not null,
  post_id text,
  keyword text,
  url text,
  reward_spins integer not null default 1,
  verify_within interval not null default '24 hours',
  recheck_every interval not null default '5 minutes',
  active boolean not null default true,
  platform_credential_allowed boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint social_tasks_campaign_fkey foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id) on delete cascade,
  constraint title_is_not_empty check (btrim(title) <> '' and char_length(title) <= 120),
  constraint comments_reactions_likes_and_reposts_name_their_post check ((post_id is not null) = (kind::text in (
    'instagram_comment', 'facebook_comment', 'facebook_reaction', 'instagram_like', 'x_repost'))),
  constraint a_direct_message_task_has_a_keyword_and_no_other check ((keyword is not null) = (kind::text = 'instagram_dm_keyword')),
  constraint link_tasks_have_an_address_and_no_other check ((url is not null) = (kind::text in ('link_visit', 'link_sign_up'))),
  constraint keyword_is_a_few_plain_words check (
    char_length(keyword) <= 40 and keyword ~ '[[:alnum:]]' and keyword !~ '[[:cntrl:]]' and keyword = lower(btrim(keyword))),
  -- https only, no user and password, and nothing that a browser would read as another host.
  constraint url_is_https_without_a_user check (
    octet_length(url) <= 2000 and url ~* '^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?([/?#][!-~]*)?$' and url !~ '[\\<>"`]'),
  constraint post_id_is_a_graph_id check (post_id ~ '^[0-9]{1,30}(_[0-9]{1,30})?$'),
  constraint reward_is_between_0_and_1000 check (reward_spins between 0 and 1000),
  constraint verify_within_is_up_to_30_days check (verify_within between interval '1 second' and interval '30 days'),
  constraint recheck_every_is_between_1_second_and_a_day check (recheck_every between interval '1 second' and interval '1 day')
);

create index social_tasks_tenant_id_campaign_id_idx on public.social_tasks (tenant_id, campaign_id);

alter table public.social_tasks enable row level security;
grant select on public.social_tasks to authenticated;
grant insert (tenant_id, campaign_id, kind, title, post_id, keyword, url, reward_spins, verify_within, recheck_every, active, platform_credential_allowed)
  on public.social_tasks to authenticated;
grant update (title, post_id, keyword, url, reward_spins, verify_within, recheck_every, active, platform_credential_allowed) on public.social_tasks to authenticated;
grant delete on public.social_tasks to authenticated;
grant select, insert, update, delete on public.social_tasks to service_role;

create policy social_tasks_select_members_and_participants on public.social_tasks
  for select to authenticated
  using (
    tenant_id = any (array(select private.tenant_ids('viewer')))
    or (active and tenant_id = any (array(select private.participant_tenant_ids()))
      and exists (select from public.campaigns c where c.tenant_id = social_tasks.tenant_id and c.id = social_tasks.campaign_id and c.status <> 'draft')));

create policy social_tasks_insert_members on public.social_tasks
  for insert to authenticated with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy social_tasks_update_members on public.social_tasks
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy social_tasks_delete_admins on public.social_tasks
  for delete to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger social_tasks_before_update_keep_row_rules
  before update on public.social_tasks
  for each row execute function private.keep_row_rules();

-- What the platforms forbid is refused where it is written; what they frown upon needs an acknowledgement first.
create function private.check_task()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  new.keyword := nullif(lower(btrim(new.keyword)), '');
  if new.title ~* '\mshar(e|es|ed|ing)\M.{0,60}\m(timelines?|walls?|profiles?|friends?)\M' then
    raise exception 'Meta forbids to ask for a share on a personal timeline in a promotion.' using errcode = '23514',
      hint = 'Ask for a comment, a mention, a message or a visit instead.';
  end if;
  if new.title ~* '\mtag(s|ged|ging)?\M.{0,40}\m(friends?|mates?|budd(y|ies)|people|persons?|someone|somebody|others?)\M' then
    raise exception 'Meta forbids to ask people to tag friends in a promotion.' using errcode = '23514',
      hint = 'Ask for a comment, a mention, a message or a visit instead.';
  end if;
  if new.active and (tg_op = 'INSERT' or not old.active)
    and exists (select from public.task_kinds k where k.kind = new.kind::text and k.rewarded_engagement)
  then
    perform private.require_acknowledgement(new.tenant_id, 'rewarded_engagement');
  end if;
  return new;
end
$$;

comment on function private.check_task() is
  'Trigger: refuses titles that ask for timeline shares or tagged friends, and tasks that reward follows or likes until somebody acknowledged the rule. '
  'Definer: acknowledgements are looked up whoever asks.';

create trigger social_tasks_before_write_check
  before insert or update of title, keyword, active on public.social_tasks
  for each row execute function private.check_task();

comment on table public.social_tasks is 'Tasks of a campaign: what a participant does and what it earns. What can be proven about each kind is in task_kinds. verify_within is how long a claim may take to be proven.';
comment on column public.social_tasks.keyword is 'instagram_dm_keyword: what the message has to say, as words of its own, whatever the case.';
comment on column public.social_tasks.url is 'Link kinds: where the participant is sent. {code} in it becomes the code of the claim.';
comment on column public.social_tasks.platform_credential_allowed is 'False: only the tenant''s own credential may verify this task, never the platform''s.';
