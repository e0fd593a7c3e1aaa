-- Consent: who agreed to which messages, in which words, and who took it back. Nothing is sent without it.

create table public.opt_ins (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  participant_id uuid not null,
  channel text not null,
  category text not null default 'all',
  granted boolean not null,
  wording text,
  wording_version text,
  business_name text,
  source text not null,
  at timestamptz not null default clock_timestamp(),
  position bigint not null generated always as identity,
  primary key (tenant_id, id),
  constraint opt_ins_participant_fkey foreign key (tenant_id, participant_id) references public.participants (tenant_id, id) on delete cascade,
  constraint channel_is_one_of_the_known check (channel in ('whatsapp', 'email')),
  constraint category_is_one_of_the_known check (category in ('all', 'marketing')),
  constraint wording_is_short check (char_length(wording) <= 2000),
  constraint source_is_a_word check (source ~ '^[a-z_]{1,40}$')
);

create index opt_ins_tenant_id_participant_id_idx on public.opt_ins (tenant_id, participant_id, channel, category, at desc, position desc);

alter table public.opt_ins enable row level security;
grant select on public.opt_ins to authenticated, service_role;

create policy opt_ins_select_members_and_self on public.opt_ins
  for select to authenticated
  using (tenant_id = any (array(select private.tenant_ids('viewer'))) or participant_id = any (array(select private.participant_ids())));

comment on table public.opt_ins is
  'The ledger of consent, append-only: who agreed or took it back, for which channel, in which words, by which way and when. The latest entry counts.';
comment on column public.opt_ins.category is 'all: messages of the business at all; marketing: only those, as WhatsApp''s own switch has it.';

create function private.keep_entry()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'The ledger of consent is append-only.' using errcode = '42501';
end
$$;

comment on function private.keep_entry() is 'Trigger: an entry of the ledger stays as it is; it goes with its participant only.';

create trigger opt_ins_before_update_keep
  before update on public.opt_ins
  for each row execute function private.keep_entry();

-- From where somebody agreed is evidence for a dispute, not for everybody who may look at the ledger.
create table private.opt_in_origins (
  tenant_id uuid not null,
  opt_in_id uuid not null,
  ip inet,
  user_agent text,
  primary key (tenant_id, opt_in_id),
  constraint opt_in_origins_opt_in_fkey foreign key (tenant_id, opt_in_id) references public.opt_ins (tenant_id, id) on delete cascade,
  constraint user_agent_is_short check (char_length(user_agent) <= 500)
);

alter table private.opt_in_origins enable row level security;

create trigger opt_in_origins_before_update_keep
  before update on private.opt_in_origins
  for each row execute function private.keep_entry();

comment on table private.opt_in_origins is
  'Address and browser of the request behind an entry of the ledger, where there was one. Not part of the API: the platform reads it.';

-- What people are asked, with the name of the business in it.
create function private.opt_in_wording(p_tenant_id uuid, p_channel text)
returns text
language sql stable
set search_path = ''
as $$
  select private.render_message(private.setting('opt_in_wording'), jsonb_build_object('business', t.name,
    'channel', case p_channel when 'email' then 'e-mail' else 'WhatsApp' end))
  from public.tenants t where t.id = p_tenant_id
$$;

comment on function private.opt_in_wording(uuid, text) is 'The words of the platform''s setting opt_in_wording for a tenant.';

-- What the request says about itself, if there is one. A proxy may be lied to: it is evidence, not proof.
create function private.request_origin(out ip inet, out user_agent text)
language plpgsql stable
set search_path = ''
as $$
declare
  v_headers jsonb;
begin
  v_headers := nullif(current_setting('request.headers', true), '')::jsonb;
  user_agent := left(v_headers ->> 'user-agent', 500);
  ip := btrim(split_part(v_headers ->> 'x-forwarded-for', ',', 1))::inet;
exception when others then
  null;
end
$$;

comment on function private.request_origin() is 'Address and browser of the request as far as it tells them; nulls otherwise.';

-- Who consents now: the latest entry of each.
create function private.agrees(p_tenant_id uuid, p_participant_id uuid, p_channel text, p_category text)
returns boolean
language sql stable
set search_path = ''
as $$
  select (
    select o.granted from public.opt_ins o
    where o.tenant_id = p_tenant_id and o.participant_id = p_participant_id and o.channel = p_channel and o.category = p_category
    order by o.at desc, o.position desc limit 1)
$$;

comment on function private.agrees(uuid, uuid, text, text) is 'What the latest entry of the ledger says; null when there is none.';

-- The messages that wait for people who took their consent back.
create function private.end_queued(p_tenant_ids uuid[], p_participant_ids uuid[], p_channel text, p_category text, p_reason text)
returns integer
language sql
set search_path = ''
as $$
  with ended as (
    update public.notification_outbox m
    set status = 'no_consent', reason = p_reason, held_until = null
    from unnest(p_tenant_ids, p_participant_ids) as u (tenant_id, participant_id)
    where m.tenant_id = u.tenant_id and m.participant_id = u.participant_id and m.status = 'queued' and m.channel = p_channel
      and (p_category = 'all' or m.category = p_category)
    returning 1
  )
  select count(*)::integer from ended
$$;

comment on function private.end_queued(uuid[], uuid[], text, text, text) is
  'Ends queued messages of these people as no_consent, in all campaigns; returns how many. Their items are cancelled when they come up.';

-- participants.whatsapp_opt_in_at is what everybody asks; whoever changes it, the ledger says so.
create function private.note_consent()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  -- What the functions below know of the change that they make.
  v_given jsonb := coalesce(nullif(current_setting('onecron.consent', true), '')::jsonb, '{}');
  v_origin record;
begin
  select o.* into v_origin from private.request_origin() o;
  if tg_op = 'INSERT' then
    with added as (
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
      select n.tenant_id, n.id, 'whatsapp', true, coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')),
        coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')), t.name,
        coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'join' end)
      from new_people n join public.tenants t on t.id = n.tenant_id
      where n.whatsapp_opt_in_at is not null
      returning tenant_id, id
    )
    insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
    select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
    return null;
  end if;
  with added as (
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
    select n.tenant_id, n.id, 'whatsapp', n.whatsapp_opt_in_at is not null,
      case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')) end,
      case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')) end,
      t.name, coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'participant' end)
    from new_people n
    join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
    join public.tenants t on t.id = n.tenant_id
    where n.whatsapp_opt_in_at is distinct from o.whatsapp_opt_in_at
    returning tenant_id, id
  )
  insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
  select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
  perform private.end_queued(array_agg(n.tenant_id), array_agg(n.id), 'whatsapp', 'all', 'the participant has withdrawn consent')
  from new_people n
  join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
  where n.whatsapp_opt_in_at is null and o.whatsapp_opt_in_at is not null
  having count(*) > 0;
  return null;
end
$$;

comment on function private.note_consent() is
  'Trigger: every change of whatsapp_opt_in_at becomes an entry of the ledger; a withdrawal ends what is queued. Definer: nobody may write the ledger.';

create trigger participants_after_insert_note_consent
  after insert on public.participants
  referencing new table as new_people
  for each statement execute function private.note_consent();

create trigger participants_after_update_note_consent
  after update on public.participants
  referencing old table as old_people new table as new_people
  for each statement execute function private.note_consent();

-- A consent of tomorrow could not be taken back today.
create function private.date_consent()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.whatsapp_opt_in_at > now() then
    new.whatsapp_opt_in_at := now();
  end if;
  return new;
end
$$;

comment on function private.date_consent() is 'Trigger: nobody agrees in the future.';

create trigger participants_before_write_date_consent
  before insert or update of whatsapp_opt_in_at on public.participants
  for each row execute function private.date_consent();

create function private.opt_in(p_tenant_id uuid, p_channel text, p_wording text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_person record;
  v_wording text;
  v_version text;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, p.phone, p.whatsapp_opt_in_at, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status <> 'closed';
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_wording is not null and (char_length(p_wording) > 2000 or strpos(lower(p_wording), lower(v_person.business)) = 0) then
    raise exception 'The wording must name the business, "%", and have at most 2000 characters.', v_person.business using errcode = '22023';
  end if;
  v_wording := coalesce(p_wording, private.opt_in_wording(p_tenant_id, p_channel));
  -- Words of one's own are known by what they say.
  v_version := case when p_wording is null then private.setting('opt_in_wording_version') else left(encode(sha256(convert_to(p_wording, 'UTF8')), 'hex'), 12) end;
  if p_channel = 'whatsapp' then
    if v_person.phone is null then
      raise exception 'Give a phone number first.' using errcode = '23514';
    end if;
    perform set_config('onecron.consent', jsonb_build_object('source', 'opt_in', 'wording', v_wording, 'version', v_version)::text, true);
    update public.participants p set whatsapp_opt_in_at = now() where p.tenant_id = p_tenant_id and p.id = v_person.id;
    perform set_config('onecron.consent', '', true);
  else
    select o.* into v_origin from private.request_origin() o;
    with added as (
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source)
      values (p_tenant_id, v_person.id, p_channel, true, v_wording, v_version, v_person.business, 'opt_in')
      returning tenant_id, id
    )
    insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
    select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', true, 'wording', v_wording, 'version', v_version);
end
$$;

grant execute on function private.opt_in(uuid, text, text) to authenticated;
comment on function private.opt_in(uuid, text, text) is 'Behind public.opt_in. Definer: writes the ledger of consent, which no API role may. Participants only, for themselves.';

create function private.opt_out(p_tenant_id uuid, p_channel text)
returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_person record;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid());
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_channel = 'whatsapp' then
    perform set_config('onecron.consent', '{"source": "opt_out"}', true);
    update public.participants p set whatsapp_opt_in_at = null
    where p.tenant_id = p_tenant_id and p.id = v_person.id and p.whatsapp_opt_in_at is not null;
    perform set_config('onecron.consent', '', true);
  else
    if private.agrees(p_tenant_id, v_person.id, p_channel, 'all') then
      select o.* into v_origin from private.request_origin() o;
      with added as (
        insert into public.opt_ins (tenant_id, participant_id, channel, granted, business_name, source)
        values (p_tenant_id, v_person.id, p_channel, false, v_person.business, 'opt_out')
        returning tenant_id, id
      )
      insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
      select a.tenant_id, a.id, v_origin.ip, v_origin.user_agent from added a where num_nonnulls(v_origin.ip, v_origin.user_agent) > 0;
    end if;
    perform private.end_queued(array[p_tenant_id], array[v_person.id], p_channel, 'all', 'the participant has withdrawn consent');
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', false);
end
$$;

grant execute on function private.opt_out(uuid, text) to authenticated;
comment on function private.opt_out(uuid, text) is 'Behind public.opt_out. Definer: writes the ledger of consent, which no API role may. Participants only, for themselves.';

create function public.opt_in(tenant_id uuid, channel text, wording text default null)
returns jsonb
language sql
set search_path = ''
as $$
  select private.opt_in(opt_in.tenant_id, opt_in.channel, opt_in.wording)
$$;

create function public.opt_out(tenant_id uuid, channel text)
returns jsonb
language sql
set search_path = ''
as $$
  select private.opt_out(opt_out.tenant_id, opt_out.channel)
$$;

grant execute on function public.opt_in(uuid, text, text) to authenticated;
grant execute on function public.opt_out(uuid, text) to authenticated;
comment on function public.opt_in(uuid, text, text) is
  'The caller, a participant, agrees to messages of the business by whatsapp or email: {"channel","agreed","wording","version"}. wording: what the person '
  'was shown; it must name the business. Errors: PT404 no participant, 22023 channel or wording, 23514 no phone number, PT429 too many.';
comment on function public.opt_out(uuid, text) is
  'The caller, a participant, takes the consent back, for all campaigns at once; what waits is not sent. Errors: PT404, 22023, PT429.';

-- Words that end messages, in the languages that our tenants' customers write.
create function private.is_stop_word(p_text text)
returns boolean
language sql immutable
set search_path = ''
as $$
  select w.word in ('stop', 'stopp', 'stop all', 'stopall', 'unsubscribe', 'cancel', 'end', 'quit', 'opt out', 'opt-out', 'optout', 'revoke', 'no more messages',
    'stop promotions', 'stop promotion', 'stop marketing', 'stop messages', 'stop sending', 'stop it', 'stop please', 'please stop',
    'abmelden', 'abbestellen', 'ende', 'aufhören', 'baja', 'alto', 'parar', 'pare', 'cancelar', 'detener', 'no más', 'sair', 'remover',
    'basta', 'annulla', 'disiscrivi', 'disiscrivimi', 'cancellami', 'fermare', 'arret', 'arrêt', 'arreter', 'arrêter', 'désabonner',
    'desabonner', 'désinscrire', 'stopper', 'afmelden', 'uitschrijven', 'opzeggen', 'avsluta', 'avregistrera', 'afmeld', 'avmeld', 'lopeta',
    'peruuta', 'wypisz', 'rezygnuję', 'koniec', 'odhlásit', 'leiratkozás', 'dezabonare', 'стоп', 'отписаться', 'отписка', 'зупинити',
    'dur', 'durdur', 'iptal', 'ret', 'توقف', 'إيقاف', 'ايقاف', 'إلغاء', 'الغاء', 'עצור', 'הסר', 'रोकें', 'बंद', 'berhenti', 'hentikan',
    '停止', '退订', '取消', '退訂', '配信停止', '중지', '수신거부', '해지')
  -- Alone, whatever the case and the punctuation: "Stop!" ends messages, "don't stop" does not.
  from (select btrim(lower(regexp_replace(p_text, '\s+', ' ', 'g')), E' .,!?¡¿"''«»„“”()[]*_-') as word) w
$$;

comment on function private.is_stop_word(text) is 'True when a message is nothing but a word that ends messages, in one of the common languages.';

create function private.is_start_word(p_text text)
returns boolean
language sql immutable
set search_path = ''
as $$
  select btrim(lower(p_text), E' .,!?¡¿"''') in ('start', 'unstop', 'subscribe', 'resume', 'anmelden', 'alta', 'iniciar', 'inizia', 'iscriviti',
    'début', 'abonner', 'aanmelden', 'начать', 'başla')
$$;

comment on function private.is_start_word(text) is 'True when a message is nothing but START or the like.';
