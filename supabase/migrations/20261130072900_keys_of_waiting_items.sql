-- Between the migrations `leased_items_move` and `tried_by_strangers_again`, had the second one not come at once, items were enqueued without
-- a row for their dedupe key. By hand, because a schema diff moves no rows. Where nothing came in between, this changes nothing.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

do $$ begin lock table jobs.items, jobs.dedupe_keys in share row exclusive mode; end $$;

-- The first one has the key, as if the others had come while it waited; but they were accepted, so they stay, without a key.
insert into jobs.dedupe_keys (tenant_id, job, dedupe_key, item_id)
select distinct on (i.tenant_id, i.job, i.dedupe_key) i.tenant_id, i.job, i.dedupe_key, i.item_id
from jobs.items i
where i.dedupe_key is not null
order by i.tenant_id, i.job, i.dedupe_key, i.item_id
on conflict do nothing;

update jobs.items i set dedupe_key = null
where i.dedupe_key is not null and not exists (
  select from jobs.dedupe_keys k
  where k.tenant_id = i.tenant_id and k.job = i.job and k.dedupe_key = i.dedupe_key and k.item_id = i.item_id);
