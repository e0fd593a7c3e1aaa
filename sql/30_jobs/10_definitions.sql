-- Jobs: kinds of work. One row says when, how much, how often and with which functions.
create type jobs.kind as enum ('edge', 'sql', 'raw');
create type jobs.scope as enum ('tenant', 'platform');
create type jobs.misfire as enum ('skip', 'once', 'all');

create table jobs.definitions (
  job text primary key,
  kind jobs.kind not null,
  scope jobs.scope not null default 'tenant',
  meaning text not null,
  paused boolean not null default false,
  -- when
  schedule text,
  time_zone text,
  misfire jobs.misfire not null default 'once',
  misfire_limit integer not null default 10,
  next_slot_at timestamptz,
  condition_function text,
  eligible_function text,
  -- credentials
  provider public.provider,
  platform_allowed boolean not null default false,
  effects boolean not null default false,
  -- service
  batch_size integer not null default 200,
  quantum integer not null default 10,
  max_drains integer not null default 2,
  cap integer,
  start_delay_seconds integer not null default 0,
  has_cadence boolean not null default false,
  -- failure
  lease_seconds integer not null default 60,
  max_attempts integer not null default 8,
  backoff_seconds numeric not null default 10,
  backoff_limit_seconds numeric not null default 3600,
  cost_unit text not null default 'items',
  breaker_after integer not null default 5,
  -- the job's own SQL
  load_function text,
  apply_function text,
  work_function text,
  command text,
  constraint job_is_words_with_dashes check (job ~ '^[a-z][a-z0-9]*(-[a-z0-9]+)*$' and char_length(job) <= 60),
  constraint batch_size_is_between_1_and_1000 check (batch_size between 1 and 1000),
  constraint quantum_is_between_1_and_batch_size check (quantum between 1 and batch_size),
  constraint max_drains_is_between_1_and_50 check (max_drains between 1 and 50),
  constraint cap_is_positive check (cap > 0),
  constraint start_delay_is_not_negative check (start_delay_seconds >= 0),
  constraint lease_is_between_5_seconds_and_a_day check (lease_seconds between 5 and 86400),
  constraint max_attempts_is_between_1_and_100 check (max_attempts between 1 and 100),
  constraint backoff_is_positive_and_at_most_a_year check (
    backoff_seconds > 0 and backoff_limit_seconds >= backoff_seconds and backoff_limit_seconds <= 31536000),
  constraint functions_are_schema_qualified check (
    load_function ~ '^[a-z_]+\.[a-z0-9_]+$' and apply_function ~ '^[a-z_]+\.[a-z0-9_]+$' and work_function ~ '^[a-z_]+\.[a-z0-9_]+$'
    and condition_function ~ '^[a-z_]+\.[a-z0-9_]+$' and eligible_function ~ '^[a-z_]+\.[a-z0-9_]+$'),
  constraint a_sql_job_has_a_work_function check ((kind = 'sql') = (work_function is not null)),
  constraint a_raw_job_has_a_command check ((kind = 'raw') = (command is not null)),
  constraint misfire_limit_is_between_1_and_1000 check (misfire_limit between 1 and 1000),
  constraint cost_unit_is_one_of_the_known check (cost_unit in ('items', 'calls', 'milliseconds')),
  constraint breaker_after_is_between_1_and_a_million check (breaker_after between 1 and 1000000),
  constraint effects_need_a_provider check (not effects or provider is not null)
);

alter table jobs.definitions enable row level security;
grant select on jobs.definitions to service_role;
-- What the platform may change while it runs; functions and kinds come with a deployment.
grant update (
  paused, schedule, time_zone, misfire, misfire_limit, platform_allowed, batch_size, quantum, max_drains, cap, start_delay_seconds, has_cadence,
  lease_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, cost_unit, breaker_after
) on jobs.definitions to service_role;

comment on table jobs.definitions is 'The jobs. What an admin may change while it runs: the numbers, paused. What a deployment changes: the functions.';
comment on column jobs.definitions.effects is
  'True where the provider has no idempotency key: an item whose call had begun when its worker was lost ends as unknown, it is not sent again.';
comment on column jobs.definitions.schedule is 'Cron expression (five fields or @daily and so on) in time_zone. Null: a queue, served whenever it has work.';
comment on column jobs.definitions.misfire is
  'Slots missed while nothing ran: skip drops them, once runs the latest, all runs up to misfire_limit of them, oldest first.';
comment on column jobs.definitions.misfire_limit is
  'How many missed slots are made up for at most where misfire is all. And, whatever it is, how many slots may wait for one tenant.';
comment on column jobs.definitions.condition_function is 'schema.function() returns boolean; false at a slot: nothing to do, no run, no doorbell.';
comment on column jobs.definitions.eligible_function is 'schema.function() returns setof uuid: for which tenants a slot is run. Null: all active ones.';
comment on column jobs.definitions.work_function is
  'SQL jobs: schema.function(tenant_id uuid, subject_id uuid, payload jsonb) returns jsonb, called per item in its own subtransaction.';
comment on column jobs.definitions.command is 'Raw jobs: one command that cannot run in a transaction, such as VACUUM; the worker runs it on a connection of its own.';
comment on column jobs.definitions.cost_unit is 'What fair queueing charges: items, or what the worker reports as cost of an outcome (provider calls, milliseconds).';
comment on column jobs.definitions.breaker_after is 'So many servings of a tenant that fail in a row open its breaker for the provider.';
comment on column jobs.definitions.quantum is 'How many items of one lane are served before the next lane has its turn: the bound on unfairness.';
comment on column jobs.definitions.has_cadence is 'True: a lane is served once per cadence_seconds of its tenant''s plan. False: as soon as there is work.';
comment on column jobs.definitions.load_function is
  'schema.function(tenant_ids uuid[], item_ids bigint[], subject_ids uuid[], payloads jsonb[]) returns setof jobs.loaded: the data for each item, or why it must wait or end.';
comment on column jobs.definitions.apply_function is
  'schema.function(ended jobs.ended[]) returns void: what the end of items means to the domain, in the transaction that ends them.';

-- The calls (pause, define) write the log themselves.
create trigger definitions_after_update_audit
  after update on jobs.definitions
  for each row when (current_user = 'service_role')
  execute function private.audit_change('job', 'job');

-- What was enqueued belongs to its job: without it nobody knows how often to try an item, or whom to tell how it ended.
create function jobs.keep_definition()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Work that is just being brought is not to be seen yet. Without waiting: all others would wait behind. See 50_enqueue.sql.
  if not (select bool_and(pg_try_advisory_xact_lock(jobs.guard_class(old.job), g)) from generate_series(0, 255) g) then
    raise exception 'Somebody is just bringing work for the job "%". Pause what brings it, and try again.', old.job using errcode = '55P03';
  end if;
  if exists (select from jobs.items i where i.job = old.job) or exists (select from jobs.leases e where e.job = old.job)
    or exists (select from jobs.dead_items d where d.job = old.job)
  then
    raise exception 'The job "%" has items that wait, are out with a worker, or are dead. Pause it, cancel what waits (jobs.cancel), let what is out come '
      'back, and replay or delete what is dead. Then it can go.', old.job using errcode = '23503';
  end if;
  return old;
end
$$;

comment on function jobs.keep_definition() is 'Trigger: a job with items, leases or dead items stays.';

create trigger definitions_before_delete_keep
  before delete on jobs.definitions
  for each row execute function jobs.keep_definition();

-- What a job's load function says of an item: its data; or hold it until a time; or cancel it.
create type jobs.loaded as (
  item_id bigint,
  data jsonb,
  hold_until timestamptz,
  reason text,
  cancel boolean
);

-- What a job's apply function is told: how the item ended (done, dead, unknown, cancelled), and what the worker found.
create type jobs.ended as (
  tenant_id uuid,
  item_id bigint,
  subject_id uuid,
  outcome text,
  result jsonb,
  error text,
  credential_source text
);

-- The platform's own items live in the lane of this id; no tenant can have it.
create function jobs.platform_id()
returns uuid
language sql immutable
set search_path = ''
as $$
  select '00000000-0000-0000-0000-000000000000'::uuid
$$;

comment on function jobs.platform_id() is 'The tenant_id of items and lanes that belong to the platform itself.';

-- A provider as a whole has its breaker and its rate under this id; no tenant can have it.
create function jobs.everyone_id()
returns uuid
language sql immutable
set search_path = ''
as $$
  select 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
$$;

comment on function jobs.everyone_id() is 'The tenant_id of breakers and rates that concern a provider for all tenants together.';

-- One row: the state of the engine as a whole.
create table jobs.platform (
  one boolean primary key default true,
  stopped boolean not null default false,
  tick_seconds integer not null default 10,
  last_tick_at timestamptz,
  last_tick_ms numeric,
  watched_at timestamptz not null default '-infinity',
  cleaned_at timestamptz not null default '-infinity',
  constraint there_is_one_row check (one),
  constraint tick_is_between_1_and_60_seconds check (tick_seconds between 1 and 60)
);

alter table jobs.platform enable row level security;
grant select on jobs.platform to service_role;
comment on table jobs.platform is 'One row: the switch that stops all background work, how often the tick comes and when it last came.';

-- The virtual clock of each job: the start tag of the lane served last. A waking lane enters here, so that idleness earns nothing.
create table jobs.clocks (
  job text not null,
  revision bigint not null default 0,
  vtime double precision not null default 0,
  served_from double precision not null default '-infinity',
  due_from timestamptz not null default '-infinity',
  oldest_batch bigint not null default 0,
  looked_at timestamptz not null default '-infinity',
  woken_to timestamptz not null default '-infinity',
  width integer not null default 1,
  primary key (job, revision),
  constraint clocks_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);

alter table jobs.clocks enable row level security;
grant select on jobs.clocks to service_role;
comment on table jobs.clocks is
  'Per job the virtual time of fair queueing: no awake lane is behind it by more than one quantum. And from where on a claim looks: '
  'no awake lane has an earlier vtime than served_from, none is due before due_from, no open batch is older than oldest_batch; '
  'lanes due before woken_to were woken, but for those that became visible late. These '
  'keep claims quick while an old snapshot keeps everything that was left behind; they are forgotten every 30 seconds.';
comment on column jobs.clocks.revision is
  'Goes up with each claim. In the primary key, so that the row is found from its newest version on, and not by way of all that an old snapshot keeps.';
comment on column jobs.clocks.width is 'How widely the first round of a claim looks, by how many lanes the last batch came from.';

create function jobs.start_clock()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into jobs.clocks (job) values (new.job);
  return null;
end
$$;

comment on function jobs.start_clock() is 'Trigger: each job has its virtual clock.';

create trigger definitions_after_insert_clock
  after insert on jobs.definitions
  for each row execute function jobs.start_clock();
