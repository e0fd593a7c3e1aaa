-- Kinds of tasks: what can be proven about each, and how. The table is the promise that the rest of the module keeps.
create type public.task_kind as enum (
  'instagram_comment', 'facebook_comment', 'instagram_photo_tag', 'instagram_mention', 'instagram_story_mention', 'instagram_dm_keyword',
  'instagram_follow', 'facebook_reaction', 'whatsapp_join', 'link_visit', 'link_sign_up', 'instagram_like', 'facebook_page_like', 'x_follow',
  'x_repost');

create table public.task_kinds (
  kind text primary key,
  surface text not null,
  proof text not null,
  proven_by text not null,
  provider public.provider,
  needs text not null,
  rewarded_engagement boolean not null default false,
  rule_version integer not null,
  note text not null,
  constraint proof_is_one_of_the_known check (proof in ('auto', 'webhook', 'best_effort', 'manual_review')),
  constraint proven_by_is_one_of_the_known check (proven_by in ('worker', 'signal', 'nobody')),
  constraint needs_is_one_of_the_known check (needs in ('post', 'keyword', 'url', 'nothing')),
  constraint nobody_proves_what_a_person_reviews check ((proven_by = 'nobody') = (proof = 'manual_review'))
);

alter table public.task_kinds enable row level security;
grant select on public.task_kinds to authenticated, service_role;

create policy task_kinds_select_everyone on public.task_kinds
  for select to authenticated using (kind is not null);

comment on table public.task_kinds is
  'The truth about each kind of task: auto (a platform''s API says yes or no), webhook (seen when it happens, never afterwards), best_effort (a yes '
  'counts, silence means nothing), manual_review (nothing proves it: a strategy or a person decides).';
comment on column public.task_kinds.proven_by is 'worker: the job verify-social-tasks asks; signal: an event from outside decides; nobody: the strategy.';
comment on column public.task_kinds.rewarded_engagement is 'True where a platform forbids the reward or frowns upon it: the tenant acknowledges that first.';
comment on column public.task_kinds.rule_version is 'The version of the rule by which claims of this kind are decided; every decision notes it.';
