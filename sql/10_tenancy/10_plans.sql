-- A plan is what a tenant pays for: one row says how the engine serves it. Change a number, and the next claim uses it.
create table public.plans (
  plan_id text primary key,
  name text not null,
  position smallint not null,
  weight numeric(6, 2) not null default 1,
  cap integer not null,
  batch_share integer not null,
  cadence_seconds integer not null,
  rate_per_minute integer,
  target_seconds integer not null,
  constraint plan_id_is_a_word check (plan_id ~ '^[a-z][a-z0-9_]{0,30}$'),
  -- NaN is more than everything, and a virtual clock that has met it stays there.
  constraint weight_is_a_positive_number check (weight > 0 and weight < 'Infinity'),
  constraint cap_is_positive check (cap > 0),
  constraint batch_share_is_positive check (batch_share > 0),
  constraint cadence_is_not_negative check (cadence_seconds >= 0),
  constraint rate_is_positive check (rate_per_minute > 0),
  constraint target_is_positive check (target_seconds > 0)
);

alter table public.plans enable row level security;
grant select on public.plans to authenticated, service_role;
grant insert, update, delete on public.plans to service_role;

-- Prices and limits are no secret: every signed-in user may read what the plans are.
create policy plans_select_everyone on public.plans
  for select to authenticated using (plan_id is not null);

comment on table public.plans is
  'The plans and how the engine serves a tenant on each: weight (share of service), cap (items in flight per job), '
  'batch_share (most items of one tenant in a batch), cadence_seconds (least time between two servings of a job that '
  'has a cadence), rate_per_minute (items per provider, null: no limit), target_seconds (promised start).';
