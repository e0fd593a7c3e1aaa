-- Runs: one slot of a scheduled job, one manual start, or one stretch of work of a queue.
create type jobs.run_status as enum ('running', 'success', 'warning', 'error');

create table jobs.runs (
  run_id bigint generated always as identity,
  job text not null,
  trigger text not null,
  slot timestamptz,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  status jobs.run_status not null default 'running',
  expected bigint,
  processed bigint not null default 0,
  failed bigint not null default 0,
  message text,
  errors jsonb not null default '[]',
  primary key (run_id, started_at),
  constraint runs_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade,
  constraint trigger_is_one_of_the_known check (trigger in ('queue', 'schedule', 'manual')),
  constraint a_scheduled_run_has_a_slot check ((trigger = 'schedule') = (slot is not null)),
  constraint a_run_that_ended_has_a_status check ((status = 'running') = (finished_at is null))
) partition by range (started_at);

create table jobs.runs_default partition of jobs.runs default;

create index runs_job_started_at_idx on jobs.runs (job, started_at desc);
create index runs_open_idx on jobs.runs (job) where finished_at is null;

alter table jobs.runs enable row level security;
alter table jobs.runs_default enable row level security;
grant select on jobs.runs to service_role;

comment on column jobs.runs.expected is 'How many items a scheduled run has; when so many have ended, the run is over. Null for queues and manual runs.';
comment on table jobs.runs is
  'What the log, the health check and the dashboard show: start, end, status, counts and the first errors of each run. In partitions by month.';
comment on table jobs.runs_default is 'Catches runs for which no monthly partition was made.';

-- What must be one of its kind cannot be a unique index of a table that is partitioned by time. So it has a small table of its own.
create table jobs.slots (
  job text not null,
  slot timestamptz not null,
  primary key (job, slot),
  constraint slots_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);

create index slots_slot_idx on jobs.slots (slot);

alter table jobs.slots enable row level security;
grant select on jobs.slots to service_role;

comment on table jobs.slots is 'The slots that have had their run: each job''s slot once. As long as history is kept.';

create table jobs.open_runs (
  job text primary key,
  run_id bigint not null,
  constraint open_runs_job_fkey foreign key (job) references jobs.definitions (job) on delete cascade
);

alter table jobs.open_runs enable row level security;
grant select on jobs.open_runs to service_role;

comment on table jobs.open_runs is 'The run that stands for the present stretch of work of a queue: one at a time.';

-- One row per (tenant, run, drain), mostly: drains count side by side and never wait for one another.
create table jobs.run_tenants (
  tenant_id uuid not null,
  run_id bigint not null,
  drain_id uuid not null,
  started_at timestamptz not null default now(),
  batch_id bigint not null default 0,
  processed bigint not null default 0,
  failed bigint not null default 0,
  primary key (tenant_id, run_id, drain_id, started_at, batch_id)
) partition by range (started_at);

create table jobs.run_tenants_default partition of jobs.run_tenants default;

create index run_tenants_run_id_idx on jobs.run_tenants (run_id);

alter table jobs.run_tenants enable row level security;
alter table jobs.run_tenants_default enable row level security;
grant select on jobs.run_tenants to service_role;

comment on table jobs.run_tenants is 'Per-tenant counts of a run, by drain; the sum over drains is what the tenant got. In the same months as its runs.';
comment on column jobs.run_tenants.started_at is 'When the run started, so that its counts go when it goes.';
comment on column jobs.run_tenants.batch_id is
  'The last batch that is counted here. In the primary key, so that the row is found from its newest version on, and not by way of all that an old snapshot keeps.';
comment on table jobs.run_tenants_default is 'Catches counts for which no monthly partition was made.';

-- Not in the run's own row, and without a reference to anything: only ticks write here, so that they wait for nobody.
create table jobs.witnesses (
  tenant_id uuid not null,
  run_id bigint not null,
  job text not null,
  item_id bigint not null,
  primary key (tenant_id, run_id)
);

create index witnesses_run_id_idx on jobs.witnesses (run_id);

alter table jobs.witnesses enable row level security;
grant select on jobs.witnesses to service_role;

comment on table jobs.witnesses is
  'An item of each open scheduled run that had not ended when a tick last looked. While it is there its run is not over, and nothing needs to be counted.';

-- A run waits for as many ends as it has items. For items that were taken away it waits no more; the next tick finds it over.
create function jobs.expect_fewer(p_run_ids bigint[], p_items bigint[])
returns void
language sql
set search_path = ''
as $$
  update jobs.runs r set expected = r.expected - g.items
  from unnest(p_run_ids, p_items) as g (run_id, items)
  where r.run_id = g.run_id and r.finished_at is null and r.expected is not null
$$;

comment on function jobs.expect_fewer(bigint[], bigint[]) is 'So many items of these runs were taken out of the queue: the runs expect as many ends less.';

-- Attempts: append-only history in partitions by day, made ahead by the tick and dropped whole.
create table jobs.attempts (
  tenant_id uuid not null,
  item_id bigint not null,
  try integer not null,
  job text not null,
  subject_id uuid,
  batch_id bigint,
  run_id bigint,
  outcome text not null,
  error text,
  credential_source text,
  due_at timestamptz not null,
  started_at timestamptz not null,
  finished_at timestamptz not null default now(),
  trace_id uuid not null,
  primary key (tenant_id, item_id, try, finished_at),
  constraint outcome_is_one_of_the_known check (
    outcome in ('done', 'unknown', 'retry', 'refused', 'snoozed', 'throttled', 'credential broken', 'lost', 'held', 'cancelled'))
) partition by range (finished_at);

create table jobs.attempts_default partition of jobs.attempts default;

-- What was done in the last minutes is read by its place: rows are appended in the order of their time.
create index attempts_finished_at_idx on jobs.attempts using brin (finished_at) with (autosummarize = on, pages_per_range = 16);

alter table jobs.attempts enable row level security;
alter table jobs.attempts_default enable row level security;
grant select on jobs.attempts to service_role;

comment on table jobs.attempts is 'Every try at every item: when it was due, when it started, how it ended, with whose credential. Append-only.';
comment on table jobs.attempts_default is 'Catches attempts for which no daily partition was made: history is late in its place, never lost.';

-- Dead items: used up their attempts or were refused for good. Kept and explained until somebody replays or drops them.
create table jobs.dead_items (
  tenant_id uuid not null,
  item_id bigint not null,
  job text not null,
  subject_id uuid,
  payload jsonb,
  attempts smallint not null,
  tries integer not null,
  reason text not null,
  last_error text,
  enqueued_at timestamptz not null,
  died_at timestamptz not null default now(),
  trace_id uuid not null,
  dedupe_key text,
  primary key (tenant_id, item_id)
);

create index dead_items_job_died_at_idx on jobs.dead_items (job, died_at desc);

alter table jobs.dead_items enable row level security;
grant select on jobs.dead_items to service_role;

comment on table jobs.dead_items is 'Items that ended without being done, with the reason; they can be replayed.';

-- Breakers: the switch of one (tenant, provider). The platform's own credential has the platform's id.
create table jobs.breakers (
  tenant_id uuid not null,
  provider public.provider not null,
  state text not null,
  open_until timestamptz,
  failures integer not null default 0,
  reason text,
  since timestamptz not null default now(),
  primary key (tenant_id, provider),
  constraint state_is_one_of_the_known check (state in ('closed', 'open', 'parked', 'recovering')),
  constraint an_open_breaker_ends check ((state = 'open') = (open_until is not null))
);

alter table jobs.breakers enable row level security;
grant select on jobs.breakers to service_role;

comment on table jobs.breakers is
  'Closed: calls pass, failures in a row are counted. Open: none until open_until, then one probe. Parked: none until the credential '
  'changes. Recovering: the provider as a whole (tenant_id of jobs.everyone_id()) is back for less than a minute, service grows slowly.';

-- Rates: how far each (tenant, provider) has used its limit. One time per row: the moment at which all of the burst is free again.
create table jobs.rates (
  tenant_id uuid not null,
  provider public.provider not null,
  free_at timestamptz not null,
  primary key (tenant_id, provider)
) with (fillfactor = 70);

alter table jobs.rates enable row level security;
grant select on jobs.rates to service_role;

comment on table jobs.rates is
  'Rate limits in force: a tenth of the per-minute limit as burst, nine tenths as flow, so that no window of 60 s exceeds the limit.';

-- Throttles: until when a provider wants to hear nothing more with one credential, or about one tenant's account.
create table jobs.throttles (
  tenant_id uuid not null,
  provider public.provider not null,
  until timestamptz not null,
  reason text,
  primary key (tenant_id, provider)
);

alter table jobs.throttles enable row level security;
grant select on jobs.throttles to service_role;

comment on table jobs.throttles is
  'What a provider said: not before `until`. A tenant''s row holds its lanes for the provider, that of jobs.platform_id() all lanes that would use '
  'the platform''s credential, however many tenants lean on it. Over when its time is.';

-- Limits of a provider for the platform as a whole.
create table jobs.provider_limits (
  provider public.provider primary key,
  rate_per_minute integer,
  constraint rate_is_positive check (rate_per_minute > 0)
);

alter table jobs.provider_limits enable row level security;
grant select, insert, update, delete on jobs.provider_limits to service_role;

create trigger provider_limits_after_write_audit
  after insert or update or delete on jobs.provider_limits
  for each row execute function private.audit_change('provider_limit', 'provider');

comment on table jobs.provider_limits is 'Items per minute that all tenants together may take to a provider; no row or null: no limit.';

-- Alerts: one row per incident, closed on recovery.
create table jobs.alerts (
  alert_id bigint generated always as identity primary key,
  tenant_id uuid,
  incident text not null,
  message text not null,
  details jsonb not null default '{}',
  opened_at timestamptz not null default now(),
  closed_at timestamptz
);

create unique index alerts_one_open_per_incident_idx on jobs.alerts (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), incident)
  where closed_at is null;

alter table jobs.alerts enable row level security;
grant select on jobs.alerts to service_role;

comment on column jobs.alerts.details is 'The numbers behind the message, as they are now; of a growing backlog also breach_at, when its plan''s promise is expected to break.';
comment on table jobs.alerts is 'Incidents: exactly one open alert per incident, closed when it is over.';

create function jobs.open_alert(p_tenant_id uuid, p_incident text, p_message text, p_details jsonb default '{}')
returns void
language sql
set search_path = ''
as $$
  insert into jobs.alerts as a (tenant_id, incident, message, details) values (p_tenant_id, p_incident, left(p_message, 1000), p_details)
  on conflict (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), incident) where closed_at is null
    -- The message is what was told; the details follow what is measured.
    do update set details = excluded.details where excluded.details <> '{}' and excluded.details <> a.details
$$;

create function jobs.close_alert(p_tenant_id uuid, p_incident text)
returns void
language sql
set search_path = ''
as $$
  update jobs.alerts a set closed_at = now()
  where a.tenant_id is not distinct from p_tenant_id and a.incident = p_incident and a.closed_at is null
$$;

comment on function jobs.open_alert(uuid, text, text, jsonb) is 'Opens an alert unless the incident has an open one; then only its details follow.';
comment on function jobs.close_alert(uuid, text) is 'Closes the open alert of an incident, if there is one.';
