-- A campaign whose hours change: what was held is looked at again now, not when the old hours would have begun.
create function private.look_again_at_held()
returns trigger
language plpgsql security definer
set search_path = ''
set jit = off
as $$
declare
  v_held uuid[] := array(
    select m.id from public.notification_outbox m
    where m.tenant_id = new.tenant_id and m.campaign_id = new.id and m.status = 'queued' and m.held_until is not null);
begin
  if cardinality(v_held) > 0 then
    perform jobs.hurry('send-notifications', new.tenant_id, v_held);
    perform jobs.hurry('send-emails', new.tenant_id, v_held);
  end if;
  return null;
end
$$;

comment on function private.look_again_at_held() is
  'Trigger: messages held for a campaign''s hours are claimed again when these change. Definer: members may not write the engine''s items.';

create trigger campaigns_after_update_look_again_at_held
  after update on public.campaigns
  for each row when (
    new.notify_from is distinct from old.notify_from or new.notify_until is distinct from old.notify_until
    or new.time_zone is distinct from old.time_zone or new.notifications_enabled is distinct from old.notifications_enabled
    or new.status is distinct from old.status or new.ends_at is distinct from old.ends_at)
  execute function private.look_again_at_held();
