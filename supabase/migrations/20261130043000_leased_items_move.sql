-- Items that are out with workers move from jobs.items into their lease, with their dedupe keys and the marks of what had begun.
-- By hand, because a schema diff moves no rows. Workers go on: what they close is found in the lease.
-- squawk-ignore-file ban-drop-column, require-concurrent-index-deletion, require-concurrent-index-creation, constraint-missing-not-valid, adding-foreign-key-constraint, adding-required-field, adding-field-with-default, prefer-robust-stmts
set local lock_timeout = '5s';
set local statement_timeout = '5min';

-- Nothing is claimed, closed or enqueued meanwhile.
do $$ begin lock table jobs.items, jobs.leases, jobs.batches in access exclusive mode; end $$;

create table jobs.dedupe_keys (
  tenant_id uuid not null,
  job text not null,
  dedupe_key text not null,
  item_id bigint not null,
  primary key (tenant_id, job, dedupe_key)
);

insert into jobs.dedupe_keys (tenant_id, job, dedupe_key, item_id)
select i.tenant_id, i.job, i.dedupe_key, i.item_id from jobs.items i where i.dedupe_key is not null;

alter table jobs.dedupe_keys enable row level security;
grant select on jobs.dedupe_keys to service_role;

create table jobs.effects (
  batch_id bigint not null,
  item_id bigint not null,
  request uuid,
  primary key (batch_id, item_id),
  constraint effects_batch_fkey foreign key (batch_id) references jobs.batches (batch_id) on delete cascade
);

insert into jobs.effects (batch_id, item_id, request)
select i.batch_id, i.item_id, i.begun_by
from jobs.items i
join jobs.batches b on b.batch_id = i.batch_id
where i.begun;

alter table jobs.effects enable row level security;
grant select on jobs.effects to service_role;

-- By these the items find their lease once the columns that said so are gone.
create temporary table places on commit drop as
select e.tenant_id, e.job, e.batch_id, i.item_id
from jobs.leases e
join jobs.items i on i.tenant_id = e.tenant_id and i.batch_id = e.batch_id and i.item_id = any (e.item_ids);

-- What says that it is out, and is in no lease, waits.
update jobs.items i set batch_id = null
where i.batch_id is not null and not exists (select from pg_temp.places p where p.tenant_id = i.tenant_id and p.item_id = i.item_id);

drop index jobs.items_job_tenant_id_run_at_idx;
drop index jobs.items_tenant_id_job_dedupe_key_idx;
alter table jobs.items drop column batch_id, drop column begun_by, drop column begun;
create index items_job_tenant_id_run_at_idx on jobs.items (job, tenant_id, run_at, item_id);

alter table jobs.leases drop constraint leases_batch_fkey, drop constraint open_is_not_negative;
alter table jobs.leases drop column item_ids, add column items jobs.items[] not null default '{}';
alter table jobs.leases alter column items drop default, alter column items set storage external;
alter table jobs.leases set (toast_tuple_target = 8160);

update jobs.leases e
set items = array(
  select i
  from pg_temp.places p
  join jobs.items i on i.tenant_id = p.tenant_id and i.item_id = p.item_id
  where p.tenant_id = e.tenant_id and p.job = e.job and p.batch_id = e.batch_id
  order by i.run_at, i.item_id);
update jobs.leases e set open = cardinality(e.items) where e.open <> cardinality(e.items);
delete from jobs.leases e where e.open = 0;
delete from jobs.batches b where not exists (select from jobs.leases e where e.batch_id = b.batch_id);
delete from jobs.items i using pg_temp.places p where p.tenant_id = i.tenant_id and p.item_id = i.item_id;

alter table jobs.leases
  add constraint open_is_the_number_of_items check (open = cardinality(items) and open > 0);
