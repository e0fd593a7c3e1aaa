-- What campaigns tell the outbox.

create function private.congratulate(p_tenant_ids uuid[], p_completion_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_app_url text := rtrim(private.setting('app_url'), '/');
begin
  insert into public.notification_outbox (tenant_id, campaign_id, participant_id, completion_id, kind, recipient, body, status, reason)
  select c.tenant_id, t.campaign_id, c.participant_id, c.id, 'congratulation', p.phone,
    format(E'Congratulations, %s! 🎉 Your task "%s" has been verified. %s bonus %s been added. Spin now: %s/campaigns/%s',
      p.display_name, t.title, t.reward_spins, case when t.reward_spins = 1 then 'spin has' else 'spins have' end, v_app_url, t.campaign_id),
    case
      when not g.notifications_enabled then 'disabled'
      when p.phone is null or p.whatsapp_opt_in_at is null then 'no_consent'
      else 'queued' end::public.message_status,
    case
      when not g.notifications_enabled then 'notifications are switched off in this campaign'
      when p.phone is null then 'the participant gave no phone number'
      when p.whatsapp_opt_in_at is null then 'the participant did not opt in to WhatsApp messages' end
  from unnest(p_tenant_ids, p_completion_ids) as u (tenant_id, completion_id)
  cross join lateral (
    select x.* from public.completions x where x.tenant_id = u.tenant_id and x.id = u.completion_id offset 0
  ) c
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  on conflict on constraint one_message_per_kind_and_completion do nothing;
end
$$;

comment on function private.congratulate(uuid[], uuid[]) is 'The messages for verified completions, or the reasons why none is sent.';

create function private.announce_review(p_tenant_id uuid, p_completion_id uuid)
returns void
language sql
set search_path = ''
as $$
  select
$$;

create function private.welcome(p_tenant_id uuid, p_participant_id uuid, p_campaign_id uuid)
returns void
language sql
set search_path = ''
as $$
  select
$$;

comment on function private.announce_review(uuid, uuid) is 'Tells a participant what came of a review.';
comment on function private.welcome(uuid, uuid, uuid) is 'Greets a new participant.';
