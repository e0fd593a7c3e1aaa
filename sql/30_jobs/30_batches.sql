-- A drain: one worker invocation, from the doorbell that asked for it to its end.
create table jobs.drains (
  drain_id uuid primary key default gen_random_uuid(),
  job text not null,
  run_id bigint,
  rung_at timestamptz not null default now(),
  request_id bigint,
  answered_at timestamptz,
  seen_at timestamptz,
  ended_at timestamptz,
  error text,
  errors jsonb not null default '[]',
  constraint drains_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);

create index drains_job_idx on jobs.drains (job) where ended_at is null;
create index drains_ended_at_idx on jobs.drains (ended_at);

alter table jobs.drains enable row level security;
grant select on jobs.drains to service_role;

comment on table jobs.drains is
  'Doorbells and the drains that answered them; drain_id is the ticket in the doorbell. A doorbell that nobody answers is rung again.';

-- A batch: items handed to a drain at once, under one lease. Gone when all its items are closed or returned.
create table jobs.batches (
  batch_id bigint generated always as identity primary key,
  job text not null,
  drain_id uuid not null,
  run_id bigint,
  leased_at timestamptz not null default now(),
  lease_until timestamptz not null,
  loaded boolean not null default false,
  request uuid
);

create index batches_lease_until_idx on jobs.batches (lease_until);
create index batches_request_idx on jobs.batches (request) where request is not null;

alter table jobs.batches enable row level security;
grant select on jobs.batches to service_role;

comment on column jobs.batches.loaded is 'True once the batch was handed out: from then on its outcomes speak about the provider.';
comment on column jobs.batches.request is 'The call that asked for it, by the worker''s own id: the same call made again, because its answer was lost, gets the same batch.';
comment on table jobs.batches is 'Open batches. lease_until is database time; past it the items go back and the batch id no longer opens anything.';

-- A lease: the items of one lane in one batch, whole. The sum of `open` is what the lane has in flight.
create table jobs.leases (
  tenant_id uuid not null,
  job text not null,
  batch_id bigint not null,
  open integer not null,
  credential_source text,
  credential_fingerprint text,
  items jobs.items[] not null,
  primary key (tenant_id, job, batch_id),
  constraint open_is_the_number_of_items check (open = cardinality(items) and open > 0)
) with (toast_tuple_target = 8160);

-- Leases live for seconds: compressing them would cost more than it saves.
alter table jobs.leases alter column items set storage external;

create index leases_batch_id_idx on jobs.leases (batch_id);

alter table jobs.leases enable row level security;
grant select on jobs.leases to service_role;

comment on table jobs.leases is
  'What each lane has in flight, by batch; the batch''s id is the fence. Only a claim adds to it, under the claim lock of the job, so caps hold exactly.';
comment on column jobs.leases.items is 'The items as they were when they were handed out. They end from here, or go back to jobs.items.';

-- A batch cannot go while it holds items. Not by a foreign key, which would look the batch up for every lease that a claim writes,
-- a hundred times for a hundred lanes: a lease is only ever written with its batch.
create function jobs.keep_batch()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (select from jobs.leases e where e.batch_id = old.batch_id) then
    raise exception 'Batch % holds items.', old.batch_id using errcode = '23503';
  end if;
  return old;
end
$$;

comment on function jobs.keep_batch() is 'Trigger: a batch with leases stays.';

create trigger batches_before_delete_keep
  before delete on jobs.batches
  for each row execute function jobs.keep_batch();

create view jobs.leased_items with (security_invoker = true) as
  select e.batch_id, e.credential_source, e.credential_fingerprint, i.*
  from jobs.leases e
  cross join lateral unnest(e.items) i;

grant select on jobs.leased_items to service_role;
comment on view jobs.leased_items is 'The items that are out with workers, one row each.';

-- Effects: calls without an idempotency key that may have left for an item of an open batch.
create table jobs.effects (
  batch_id bigint not null,
  item_id bigint not null,
  request uuid,
  primary key (batch_id, item_id),
  constraint effects_batch_fkey foreign key (batch_id) references jobs.batches (batch_id) on delete cascade
);

alter table jobs.effects enable row level security;
grant select on jobs.effects to service_role;

comment on table jobs.effects is
  'Items of open batches for which a call without an idempotency key may have left: if the worker is lost, they end as unknown and are not sent again.';
comment on column jobs.effects.request is 'The call of begin_effects that marked it, by the worker''s own id: made again, it is answered as the first time.';
