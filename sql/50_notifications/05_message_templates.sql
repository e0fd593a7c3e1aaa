-- Templates: what messages say. A tenant's own text, else the one that is built in, in the language of the person.
create type public.message_kind as enum ('congratulation', 'reminder', 'welcome', 'review_result', 'alert');

create table public.message_templates (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  kind public.message_kind not null,
  channel text not null default 'whatsapp',
  language text not null default 'en',
  category text not null default 'utility',
  subject text,
  body text not null,
  whatsapp_template_name text,
  whatsapp_template_language text,
  whatsapp_parameters text[] not null default '{}',
  whatsapp_parameters_are_named boolean not null default false,
  paused_at timestamptz,
  pause_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint message_templates_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint one_template_per_kind_channel_and_language unique (tenant_id, kind, channel, language),
  constraint channel_is_one_of_the_known check (channel in ('whatsapp', 'email')),
  constraint category_is_one_of_the_known check (category in ('utility', 'marketing')),
  constraint language_is_a_language_tag check (language ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'),
  constraint body_is_not_empty check (btrim(body) <> '' and char_length(body) <= 2000),
  constraint an_email_has_a_subject check ((channel = 'email') = (subject is not null)),
  constraint subject_is_one_line check (btrim(subject) <> '' and char_length(subject) <= 200 and subject !~ '[\u0001-\u001F\u007F]'),
  constraint whatsapp_template_is_for_whatsapp check (whatsapp_template_name is null or channel = 'whatsapp'),
  constraint whatsapp_template_name_is_plain check (whatsapp_template_name ~ '^[a-z0-9_]+$' and char_length(whatsapp_template_name) <= 512),
  constraint whatsapp_template_language_is_a_code check (whatsapp_template_language ~ '^[a-z]{2,3}(_[A-Z]{2,3})?$'),
  constraint whatsapp_parameters_are_few check (cardinality(whatsapp_parameters) <= 20),
  constraint a_pause_has_a_reason check ((paused_at is null) = (pause_reason is null))
);

alter table public.message_templates enable row level security;
grant select, delete on public.message_templates to authenticated;
grant insert (tenant_id, kind, channel, language, category, subject, body, whatsapp_template_name, whatsapp_template_language,
  whatsapp_parameters, whatsapp_parameters_are_named) on public.message_templates to authenticated;
grant update (category, subject, body, whatsapp_template_name, whatsapp_template_language, whatsapp_parameters,
  whatsapp_parameters_are_named) on public.message_templates to authenticated;
grant select, insert, update, delete on public.message_templates to service_role;

create policy message_templates_select_members on public.message_templates
  for select to authenticated using (tenant_id = any (array(select private.tenant_ids('viewer'))));

create policy message_templates_insert_members on public.message_templates
  for insert to authenticated with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy message_templates_update_members on public.message_templates
  for update to authenticated
  using (tenant_id = any (array(select private.tenant_ids('member'))))
  with check (tenant_id = any (array(select private.tenant_ids('member'))));

create policy message_templates_delete_admins on public.message_templates
  for delete to authenticated using (tenant_id = any (array(select private.tenant_ids('admin'))));

create trigger message_templates_before_update_keep_row_rules
  before update on public.message_templates
  for each row execute function private.keep_row_rules();

comment on table public.message_templates is
  'What a tenant''s messages say, by kind, channel and language, with {{variables}}. Where a row is missing the built-in text is used.';
comment on column public.message_templates.whatsapp_template_name is
  'The template that Meta approved for it: sent instead of the text where the 24-hour window is closed.';
comment on column public.message_templates.whatsapp_parameters is 'The variables that fill the approved template, in its order.';
comment on column public.message_templates.paused_at is
  'Since when the approved template is not used, because WhatsApp refused it (pause_reason). Saving the template again resumes it.';

-- The variables of each kind.
create function private.message_variables(p_kind text)
returns text[]
language sql immutable
set search_path = ''
as $$
  select array['name', 'business', 'link'] || case p_kind
    when 'congratulation' then array['campaign', 'task', 'spins', 'reward']
    when 'reminder' then array['campaign', 'task', 'deadline', 'code']
    when 'welcome' then array['campaign']
    when 'review_result' then array['campaign', 'task', 'reason']
    when 'alert' then array['message'] end
$$;

-- Whoever writes a template has it checked.
grant execute on function private.message_variables(text) to authenticated, service_role;
comment on function private.message_variables(text) is 'The variables that a message of this kind knows.';

-- One pass: what a variable says is never looked at for further variables.
create function private.render_message(p_text text, p_variables jsonb)
returns text
language sql immutable
set search_path = ''
as $$
  select string_agg(case
      when u.n = 1 then u.part
      when strpos(u.part, '}}') = 0 then '{{' || u.part
      else coalesce(p_variables ->> btrim(split_part(u.part, '}}', 1)), '') || substr(u.part, strpos(u.part, '}}') + 2) end, '' order by u.n)
  from unnest(string_to_array(p_text, '{{')) with ordinality as u (part, n)
$$;

comment on function private.render_message(text, jsonb) is 'A text with its {{variables}} filled in.';

create function private.check_message_template()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_known text[] := private.message_variables(new.kind::text);
  v_unknown text;
begin
  -- Whatever stands between braces, and braces that open or close nothing.
  select u.name into v_unknown
  from (
    select case when strpos(x.part, '}}') = 0 then left('{{' || x.part, 40) else btrim(split_part(x.part, '}}', 1)) end as name
    from unnest(array[new.body, new.subject]) t (text)
    cross join lateral unnest(string_to_array(t.text, '{{')) with ordinality as x (part, n)
    where x.n > 1
    union all
    select p from unnest(new.whatsapp_parameters) p
  ) u
  where u.name is null or u.name <> all (v_known)
  limit 1;
  if found then
    raise exception 'A message of the kind "%" has no variable "%". Known: %.', new.kind, coalesce(v_unknown, 'null'), array_to_string(v_known, ', ')
      using errcode = '22023';
  end if;
  if tg_op = 'UPDATE' then
    new.paused_at := null;
    new.pause_reason := null;
  end if;
  return new;
end
$$;

comment on function private.check_message_template() is
  'Trigger: refuses a text with a variable that its kind does not know; what was saved anew is not paused any more.';

create trigger message_templates_before_write_check
  before insert or update of kind, body, subject, category, whatsapp_template_name, whatsapp_template_language, whatsapp_parameters,
    whatsapp_parameters_are_named on public.message_templates
  for each row execute function private.check_message_template();

-- The texts that are there from the start.
create table private.built_in_messages (
  kind public.message_kind not null,
  channel text not null,
  language text not null,
  subject text,
  body text not null,
  primary key (kind, channel, language),
  constraint an_email_has_a_subject check ((channel = 'email') = (subject is not null))
);

alter table private.built_in_messages enable row level security;

comment on table private.built_in_messages is 'What messages say where a tenant has no text of its own.';

-- "3 bonus spins have been added": numbers and their words differ by language.
create function private.reward_text(p_language text, p_spins integer)
returns text
language sql immutable
set search_path = ''
as $$
  select case split_part(p_language, '-', 1)
    when 'de' then format(case when p_spins = 1 then '%s Bonus-Spin wurde gutgeschrieben' else '%s Bonus-Spins wurden gutgeschrieben' end, p_spins)
    when 'es' then format(case when p_spins = 1 then 'Se ha añadido %s giro extra' else 'Se han añadido %s giros extra' end, p_spins)
    when 'it' then format(case when p_spins = 1 then 'È stato aggiunto %s giro bonus' else 'Sono stati aggiunti %s giri bonus' end, p_spins)
    else format(case when p_spins = 1 then '%s bonus spin has been added' else '%s bonus spins have been added' end, p_spins) end
$$;

comment on function private.reward_text(text, integer) is 'The variable {{reward}}: how many spins have been added, in words of the language.';

-- Which text: the languages in their order, each in full and then without its region; the tenant's own before the built-in one.
create function private.message_text(p_tenant_id uuid, p_kind public.message_kind, p_channel text, p_languages text[])
returns table (
  template_id uuid, language text, category text, subject text, body text, whatsapp_template jsonb, parameters text[])
language sql stable
set search_path = ''
as $$
  select found.template_id, found.language, found.category, found.subject, found.body, found.whatsapp_template, found.parameters
  from unnest(p_languages || array['en']) with ordinality as wish (language, n)
  cross join lateral (values (wish.language, 1), (split_part(wish.language, '-', 1), 2)) as tag (language, n)
  cross join lateral (
    select t.id as template_id, t.language, t.category, t.subject, t.body, 1 as n,
      case when t.whatsapp_template_name is not null then jsonb_build_object('name', t.whatsapp_template_name,
        'language', coalesce(t.whatsapp_template_language, replace(t.language, '-', '_')), 'named', t.whatsapp_parameters_are_named) end as whatsapp_template,
      t.whatsapp_parameters as parameters
    from public.message_templates t
    where t.tenant_id = p_tenant_id and t.kind = p_kind and t.channel = p_channel and t.language = tag.language
    union all
    select null, b.language, 'utility', b.subject, b.body, 2, null, '{}'
    from private.built_in_messages b
    where b.kind = p_kind and b.channel = p_channel and b.language = tag.language
  ) found
  where wish.language is not null
  order by wish.n, tag.n, found.n
  limit 1
$$;

comment on function private.message_text(uuid, public.message_kind, text, text[]) is
  'The text for a kind of message: by language in the given order, then English; a tenant''s own before the built-in one.';

create function private.preview_message(p_tenant_id uuid, p_kind public.message_kind, p_channel text, p_language text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_tenant public.tenants;
  v_text record;
  v_sample jsonb;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'viewer');
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  select t.* into v_tenant from public.tenants t where t.id = p_tenant_id;
  if v_tenant.id is null then
    raise exception 'There is no such tenant.' using errcode = 'PT404';
  end if;
  select m.* into v_text from private.message_text(p_tenant_id, p_kind, p_channel, array[p_language, v_tenant.locale]) m;
  v_sample := jsonb_build_object('name', 'Ana', 'business', v_tenant.name, 'campaign', 'Summer campaign', 'task', 'Comment on our post',
    'spins', 3, 'reward', private.reward_text(v_text.language, 3), 'deadline', '2030-06-01 18:00', 'code', 'OC-1A2B3C4D',
    'reason', 'the comment was not found', 'message', 'An alert.',
    'link', rtrim(private.setting('app_url'), '/') || '/campaigns/00000000-0000-0000-0000-000000000000');
  return jsonb_build_object('language', v_text.language, 'built_in', v_text.template_id is null, 'category', v_text.category,
    'subject', private.render_message(v_text.subject, v_sample), 'text', private.render_message(v_text.body, v_sample));
end
$$;

grant execute on function private.preview_message(uuid, public.message_kind, text, text) to authenticated, service_role;
comment on function private.preview_message(uuid, public.message_kind, text, text) is
  'Behind public.preview_message. Definer: the built-in texts are not granted to anyone. Members only.';

create function public.preview_message(tenant_id uuid, kind public.message_kind, channel text default 'whatsapp', language text default null)
returns jsonb
language sql stable
set search_path = ''
as $$
  select private.preview_message(preview_message.tenant_id, preview_message.kind, preview_message.channel, preview_message.language)
$$;

grant execute on function public.preview_message(uuid, public.message_kind, text, text) to authenticated, service_role;
comment on function public.preview_message(uuid, public.message_kind, text, text) is
  'What a message would say, with sample values: {"language","built_in","category","subject","text"}; members only. Errors: 42501, 22023.';
