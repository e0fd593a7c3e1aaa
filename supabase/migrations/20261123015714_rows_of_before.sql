-- Rows that were there before this release get what new rows get by themselves. By hand: a schema difference carries no rows.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

insert into public.message_settings (tenant_id) select t.id from public.tenants t on conflict do nothing;
insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from public.campaigns c on conflict do nothing;
insert into public.campaign_strategies (tenant_id, campaign_id) select c.tenant_id, c.id from public.campaigns c on conflict do nothing;

-- Campaigns that run matched user names; a new one does so only when it says so.
update public.campaigns c set username_match = true;

update public.completions c set method = 'api' where c.status in ('verified', 'failed');
update public.completions c set settle_at = c.deadline + interval '1 day' where c.status = 'pending';

-- What has proven a claim proves no other one.
insert into private.proofs (tenant_id, task_id, proof, completion_id)
select c.tenant_id, c.task_id, p.proof, c.id
from public.completions c
cross join lateral unnest(array[
  'comment:' || regexp_replace(c.evidence ->> 'comment_id', '^.*_', ''),
  'author:' || (c.evidence ->> 'author_id')]) as p (proof)
where c.status = 'verified' and p.proof is not null
order by c.verified_at
on conflict do nothing;

-- The ledger of consent begins with what people had agreed to.
insert into public.opt_ins (tenant_id, participant_id, channel, granted, business_name, source, at)
select p.tenant_id, p.id, 'whatsapp', true, t.name, 'before_the_ledger', p.whatsapp_opt_in_at
from public.participants p
join public.tenants t on t.id = p.tenant_id
where p.whatsapp_opt_in_at is not null;

update public.credentials c
set secret_keys = array(select jsonb_object_keys(s.decrypted_secret::jsonb) order by 1), secret_at = c.updated_at
from vault.decrypted_secrets s
where s.id = c.secret_id;
