-- How claims were decided, in numbers, so that nobody takes a draw for a proof.
create view public.verification_summary with (security_invoker = true) as
select c.tenant_id, t.campaign_id, g.name as campaign, c.task_id, t.title, t.kind::text as kind, c.status::text as status, c.method,
  case
    when c.method = 'statistical' then 'a statistical draw, not proven'
    when c.method = 'honor_system' then 'on the participants'' word, not proven'
    when c.method = 'manual' then 'decided by a person'
    when c.method is not null then 'shown by the platform or by our own link'
    else 'not decided' end as basis,
  coalesce(c.method in ('statistical', 'honor_system'), false) as is_estimate,
  count(*) as completions,
  sum(case when c.status = 'verified' then t.reward_spins else 0 end) as spins
from public.completions c
join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
where c.tenant_id = any (array(select private.tenant_ids('viewer')))
group by c.tenant_id, t.campaign_id, g.name, c.task_id, t.title, t.kind, c.status, c.method;

grant select on public.verification_summary to authenticated;
comment on view public.verification_summary is
  'Claims per campaign, task, status and method, for members of the tenant. is_estimate: nothing was proven, a draw or the participants'' word decided.';
