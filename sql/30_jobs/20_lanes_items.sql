-- Which lanes there are. Never updated: it answers at once, however old the oldest snapshot is.
create table jobs.lane_keys (
  tenant_id uuid not null,
  job text not null,
  primary key (tenant_id, job)
);

alter table jobs.lane_keys enable row level security;
grant select on jobs.lane_keys to service_role;
comment on table jobs.lane_keys is 'One row for each lane there is; it makes lanes unique.';

-- A lane: the queue of one (job, tenant). Awake lanes are served in order of vtime; sleeping ones cost nothing until wake_at.
create table jobs.lanes (
  tenant_id uuid not null,
  job text not null,
  awake boolean not null default false,
  vtime double precision not null default 0,
  wake_at timestamptz,
  reason text,
  detail text,
  not_before timestamptz not null default '-infinity',
  head_at timestamptz,
  head_id bigint,
  head_since timestamptz,
  floor_at timestamptz not null default '-infinity',
  paused boolean not null default false,
  written_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, job, written_at),
  constraint lanes_key_fkey foreign key (tenant_id, job) references jobs.lane_keys (tenant_id, job) on delete cascade,
  constraint an_awake_lane_has_no_wake_at check (not (awake and wake_at is not null)),
  constraint an_awake_lane_has_no_reason check (awake = (reason is null)),
  constraint reason_is_one_of_the_known check (
    reason in ('idle', 'delay', 'cadence', 'backoff', 'quiet hours', 'rate limit', 'breaker', 'cap', 'paused', 'waiting'))
) with (fillfactor = 70);

create index lanes_job_vtime_idx on jobs.lanes (job, vtime, tenant_id) where awake;
create index lanes_job_wake_at_idx on jobs.lanes (job, wake_at) where wake_at is not null;
create index lanes_job_reason_tenant_id_idx on jobs.lanes (job, reason, tenant_id) where reason in ('breaker', 'cap', 'paused');

alter table jobs.lanes enable row level security;
grant select on jobs.lanes to service_role;

comment on table jobs.lanes is
  'One queue per (job, tenant): awake, or asleep with the reason and the time to wake. vtime is weighted start-time fair queueing.';
comment on column jobs.lanes.wake_at is 'When a sleeping lane wakes by itself. Null: only an event wakes it (new work, a free place, a new credential).';
comment on column jobs.lanes.written_at is
  'When a claim last wrote it. In the primary key, so that the key of each version is new: otherwise each write would be compared with all versions '
  'that an old snapshot keeps.';
comment on column jobs.lanes.not_before is 'The lane may not wake earlier than this: cadence of the plan, rate limit of the provider.';
comment on column jobs.lanes.head_at is
  'Watermark: items before (head_at, head_id) were handed out, so a claim does not walk over them again. Forgotten after 30 s, '
  'so that a row that committed late or came back is found; and when the lane is found empty, for then all of it is looked at. Ignored while null.';

comment on column jobs.lanes.floor_at is
  'When a claim last saw that nothing of it is due: no item is due before, but for those that jobs.lookbacks tells of. Believed for as long as the watermark is.';

-- What was brought to a lane from before its floor: a transaction that had begun before, a time in the past, an item that came back.
-- A table of its own, because a lane that is awake is not written by those who bring work.
create table jobs.lookbacks (
  tenant_id uuid not null,
  job text not null,
  lookback_id bigint generated always as identity,
  run_at timestamptz not null,
  primary key (tenant_id, job, lookback_id),
  constraint lookbacks_lane_fkey foreign key (tenant_id, job) references jobs.lane_keys (tenant_id, job) on delete cascade
);

alter table jobs.lookbacks enable row level security;
grant select on jobs.lookbacks to service_role;

comment on table jobs.lookbacks is 'What is due before the floor of its lane. Nearly always empty. Who finds the lane empty looks from here on; when all of it was looked at the row goes.';

-- An item: one unit of work. A claim moves it from here into its lease, where it stays until it ends or comes back: handing out and
-- ending an item is one deletion here, and what is read here is what waits. Leases hold rows of this table: PostgreSQL then lets it
-- have new columns without a default, and no column a new type.
create table jobs.items (
  tenant_id uuid not null,
  item_id bigint generated always as identity,
  job text not null,
  subject_id uuid,
  run_id bigint,
  run_at timestamptz not null,
  enqueued_at timestamptz not null default now(),
  attempts smallint not null default 0,
  tries integer not null default 0,
  waiting_for text,
  last_error text,
  dedupe_key text,
  trace_id uuid not null default gen_random_uuid(),
  payload jsonb,
  primary key (tenant_id, item_id),
  constraint payload_is_small check (octet_length(payload::text) <= 16000)
);

create index items_job_tenant_id_run_at_idx on jobs.items (job, tenant_id, run_at, item_id);

alter table jobs.items enable row level security;
grant select on jobs.items to service_role;

comment on table jobs.items is 'Work that waits for its run_at or its turn. What was handed out is in jobs.leases until it ends or comes back.';
comment on column jobs.items.run_id is 'The scheduled run that this item is part of; null for items of a queue.';
comment on column jobs.items.attempts is 'Attempts that count against max_attempts. Throttling, quiet hours and a broken credential burn none.';
comment on column jobs.items.tries is 'How often it was handed out, whatever came of it.';

-- The dedupe keys of items that wait or run. A table of its own, because an item that runs is not in jobs.items.
create table jobs.dedupe_keys (
  tenant_id uuid not null,
  job text not null,
  dedupe_key text not null,
  item_id bigint not null,
  primary key (tenant_id, job, dedupe_key)
);

alter table jobs.dedupe_keys enable row level security;
grant select on jobs.dedupe_keys to service_role;

comment on table jobs.dedupe_keys is 'Which item has a dedupe key: one at a time per tenant and job, from its enqueue to its end.';
