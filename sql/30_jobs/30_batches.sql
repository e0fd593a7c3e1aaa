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

-- A lease: the items of one lane in one batch. The sum of `open` is what the lane has in flight.
create table jobs.leases (
  tenant_id uuid not null,
  job text not null,
  batch_id bigint not null,
  item_ids bigint[] not null,
  open integer not null,
  credential_source text,
  credential_fingerprint text,
  primary key (tenant_id, job, batch_id),
  constraint leases_batch_fkey foreign key (batch_id) references jobs.batches (batch_id) on delete cascade,
  constraint open_is_not_negative check (open >= 0)
);

create index leases_batch_id_idx on jobs.leases (batch_id);

alter table jobs.leases enable row level security;
grant select on jobs.leases to service_role;

comment on table jobs.leases is 'What each lane has in flight, by batch. Only a claim adds to it, under the claim lock of the job, so caps hold exactly.';
