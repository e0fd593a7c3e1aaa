-- schema: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

revoke all on schema "public" from public;

create schema "jobs";

create schema "private";

create table "jobs"."alerts" (
  "alert_id" bigint generated always as identity not null,
  "tenant_id" uuid,
  "incident" text not null,
  "message" text not null,
  "opened_at" timestamp with time zone not null default now(),
  "closed_at" timestamp with time zone,
  constraint "alerts_pkey" primary key (alert_id)
);

alter table "jobs"."alerts"
  enable row level security;

create table "jobs"."attempts" (
  "tenant_id" uuid not null,
  "item_id" bigint not null,
  "try" integer not null,
  "job" text not null,
  "subject_id" uuid,
  "batch_id" bigint,
  "run_id" bigint,
  "outcome" text not null,
  "error" text,
  "credential_source" text,
  "due_at" timestamp with time zone not null,
  "started_at" timestamp with time zone not null,
  "finished_at" timestamp with time zone not null,
  "trace_id" uuid not null
) partition by range (finished_at);

create table "jobs"."attempts_default" partition of "jobs"."attempts" default;

alter table "jobs"."attempts_default"
  enable row level security;

alter table "jobs"."attempts"
  enable row level security;

create table "jobs"."batches" (
  "batch_id" bigint generated always as identity not null,
  "job" text not null,
  "drain_id" uuid not null,
  "run_id" bigint,
  "leased_at" timestamp with time zone not null default now(),
  "lease_until" timestamp with time zone not null,
  "loaded" boolean not null default false,
  constraint "batches_pkey" primary key (batch_id)
);

alter table "jobs"."batches"
  enable row level security;

create table "jobs"."breakers" (
  "tenant_id" uuid not null,
  "state" text not null,
  "open_until" timestamp with time zone,
  "failures" integer not null default 0,
  "reason" text,
  "since" timestamp with time zone not null default now(),
  constraint "an_open_breaker_ends" check (((state = 'open'::text) = (open_until IS NOT NULL))),
  constraint "state_is_one_of_the_known"
    check ((state = ANY (ARRAY['closed'::text, 'open'::text, 'parked'::text, 'recovering'::text])))
);

alter table "jobs"."breakers"
  enable row level security;

create table "jobs"."clocks" (
  "job" text not null,
  "vtime" double precision not null default 0,
  "served_from" double precision not null default '-Infinity'::double precision,
  "due_from" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  "oldest_batch" bigint not null default 0,
  "looked_at" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint "clocks_pkey" primary key (job)
);

alter table "jobs"."clocks"
  enable row level security;

create table "jobs"."dead_items" (
  "tenant_id" uuid not null,
  "item_id" bigint not null,
  "job" text not null,
  "subject_id" uuid,
  "payload" jsonb,
  "attempts" smallint not null,
  "tries" integer not null,
  "reason" text not null,
  "last_error" text,
  "enqueued_at" timestamp with time zone not null,
  "died_at" timestamp with time zone not null default now(),
  "trace_id" uuid not null,
  "dedupe_key" text,
  constraint "dead_items_pkey" primary key (tenant_id, item_id)
);

alter table "jobs"."dead_items"
  enable row level security;

create table "jobs"."definitions" (
  "job" text not null,
  "meaning" text not null,
  "paused" boolean not null default false,
  "schedule" text,
  "time_zone" text,
  "misfire_limit" integer not null default 10,
  "next_slot_at" timestamp with time zone,
  "condition_function" text,
  "eligible_function" text,
  "platform_allowed" boolean not null default false,
  "effects" boolean not null default false,
  "batch_size" integer not null default 200,
  "quantum" integer not null default 10,
  "max_drains" integer not null default 2,
  "cap" integer,
  "start_delay_seconds" integer not null default 0,
  "has_cadence" boolean not null default false,
  "lease_seconds" integer not null default 60,
  "max_attempts" integer not null default 8,
  "backoff_seconds" numeric not null default 10,
  "backoff_limit_seconds" numeric not null default 3600,
  "cost_unit" text not null default 'items'::text,
  "breaker_after" integer not null default 5,
  "load_function" text,
  "apply_function" text,
  "work_function" text,
  "command" text,
  constraint "backoff_is_positive"
    check (((backoff_seconds > (0)::numeric) AND (backoff_limit_seconds >= backoff_seconds))),
  constraint "batch_size_is_between_1_and_1000" check (((batch_size >= 1) AND (batch_size <= 1000))),
  constraint "breaker_after_is_positive" check ((breaker_after > 0)),
  constraint "cap_is_positive" check ((cap > 0)),
  constraint "cost_unit_is_one_of_the_known"
    check ((cost_unit = ANY (ARRAY['items'::text, 'calls'::text, 'milliseconds'::text]))),
  constraint "definitions_pkey" primary key (job),
  constraint "functions_are_schema_qualified"
    check
    (((load_function ~ '^[a-z_]+\.[a-z0-9_]+$'::text) AND (apply_function ~ '^[a-z_]+\.[a-z0-9_]+$'::text) AND
    (work_function ~ '^[a-z_]+\.[a-z0-9_]+$'::text) AND (condition_function ~ '^[a-z_]+\.[a-z0-9_]+$'::text)
    AND (eligible_function ~ '^[a-z_]+\.[a-z0-9_]+$'::text))),
  constraint "job_is_words_with_dashes"
    check (((job ~ '^[a-z][a-z0-9]*(-[a-z0-9]+)*$'::text) AND (char_length(job) <= 60))),
  constraint "lease_is_between_5_seconds_and_a_day"
    check (((lease_seconds >= 5) AND (lease_seconds <= 86400))),
  constraint "max_attempts_is_between_1_and_100" check (((max_attempts >= 1) AND (max_attempts <= 100))),
  constraint "max_drains_is_between_1_and_50" check (((max_drains >= 1) AND (max_drains <= 50))),
  constraint "misfire_limit_is_between_1_and_1000" check (((misfire_limit >= 1) AND (misfire_limit <= 1000))),
  constraint "quantum_is_between_1_and_batch_size" check (((quantum >= 1) AND (quantum <= batch_size))),
  constraint "start_delay_is_not_negative" check ((start_delay_seconds >= 0))
);

alter table "jobs"."definitions"
  enable row level security;

create table "jobs"."drains" (
  "drain_id" uuid not null default gen_random_uuid(),
  "job" text not null,
  "run_id" bigint,
  "rung_at" timestamp with time zone not null default now(),
  "request_id" bigint,
  "answered_at" timestamp with time zone,
  "seen_at" timestamp with time zone,
  "ended_at" timestamp with time zone,
  "error" text,
  "errors" jsonb not null default '[]'::jsonb,
  constraint "drains_pkey" primary key (drain_id)
);

alter table "jobs"."drains"
  enable row level security;

create table "jobs"."items" (
  "tenant_id" uuid not null,
  "item_id" bigint generated always as identity not null,
  "job" text not null,
  "subject_id" uuid,
  "batch_id" bigint,
  "run_id" bigint,
  "run_at" timestamp with time zone not null,
  "enqueued_at" timestamp with time zone not null default now(),
  "attempts" smallint not null default 0,
  "tries" integer not null default 0,
  "begun" boolean not null default false,
  "waiting_for" text,
  "last_error" text,
  "dedupe_key" text,
  "trace_id" uuid not null default gen_random_uuid(),
  "payload" jsonb,
  constraint "items_pkey" primary key (tenant_id, item_id),
  constraint "payload_is_small" check ((octet_length((payload)::text) <= 16000))
);

alter table "jobs"."items"
  enable row level security;

create table "jobs"."lanes" (
  "tenant_id" uuid not null,
  "job" text not null,
  "awake" boolean not null default false,
  "vtime" double precision not null default 0,
  "wake_at" timestamp with time zone,
  "reason" text,
  "detail" text,
  "not_before" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  "head_at" timestamp with time zone,
  "head_id" bigint,
  "head_since" timestamp with time zone,
  "paused" boolean not null default false,
  constraint "an_awake_lane_has_no_reason" check ((awake = (reason IS NULL))),
  constraint "an_awake_lane_has_no_wake_at" check ((NOT (awake AND (wake_at IS NOT NULL)))),
  constraint "lanes_pkey" primary key (tenant_id, job),
  constraint "reason_is_one_of_the_known"
    check
    ((reason = ANY (ARRAY['idle'::text, 'delay'::text, 'cadence'::text, 'backoff'::text, 'quiet hours'::text,
    'rate limit'::text, 'breaker'::text, 'cap'::text, 'paused'::text, 'waiting'::text])))
);

alter table "jobs"."lanes"
  enable row level security;

alter table "jobs"."lanes"
  set (fillfactor=70);

create table "jobs"."leases" (
  "tenant_id" uuid not null,
  "job" text not null,
  "batch_id" bigint not null,
  "item_ids" bigint[] not null,
  "open" integer not null,
  "credential_source" text,
  "credential_fingerprint" text,
  constraint "leases_pkey" primary key (tenant_id, job, batch_id),
  constraint "open_is_not_negative" check ((open >= 0))
);

alter table "jobs"."leases"
  enable row level security;

create table "jobs"."platform" (
  "one" boolean not null default true,
  "stopped" boolean not null default false,
  "tick_seconds" integer not null default 10,
  "last_tick_at" timestamp with time zone,
  "last_tick_ms" numeric,
  "watched_at" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  "cleaned_at" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint "platform_pkey" primary key (one),
  constraint "there_is_one_row" check (one),
  constraint "tick_is_between_1_and_60_seconds" check (((tick_seconds >= 1) AND (tick_seconds <= 60)))
);

alter table "jobs"."platform"
  enable row level security;

create table "jobs"."provider_limits" (
  "rate_per_minute" integer,
  constraint "rate_is_positive" check ((rate_per_minute > 0))
);

alter table "jobs"."provider_limits"
  enable row level security;

create table "jobs"."rates" (
  "tenant_id" uuid not null,
  "free_at" timestamp with time zone not null
);

alter table "jobs"."rates"
  enable row level security;

alter table "jobs"."rates"
  set (fillfactor=70);

create table "jobs"."run_tenants" (
  "tenant_id" uuid not null,
  "run_id" bigint not null,
  "drain_id" uuid not null,
  "processed" bigint not null default 0,
  "failed" bigint not null default 0,
  constraint "run_tenants_pkey" primary key (tenant_id, run_id, drain_id)
);

alter table "jobs"."run_tenants"
  enable row level security;

create table "jobs"."runs" (
  "run_id" bigint generated always as identity not null,
  "job" text not null,
  "trigger" text not null,
  "slot" timestamp with time zone,
  "started_at" timestamp with time zone not null default now(),
  "finished_at" timestamp with time zone,
  "expected" bigint,
  "processed" bigint not null default 0,
  "failed" bigint not null default 0,
  "message" text,
  "errors" jsonb not null default '[]'::jsonb,
  constraint "a_scheduled_run_has_a_slot" check (((trigger = 'schedule'::text) = (slot IS NOT NULL))),
  constraint "one_run_per_job_and_slot" unique (job, slot),
  constraint "runs_pkey" primary key (run_id),
  constraint "trigger_is_one_of_the_known"
    check ((trigger = ANY (ARRAY['queue'::text, 'schedule'::text, 'manual'::text])))
);

alter table "jobs"."runs"
  enable row level security;

create table "private"."active_tenants" (
  "user_id" uuid not null,
  "active_tenant_id" uuid not null,
  "chosen_at" timestamp with time zone not null default now(),
  constraint "active_tenants_pkey" primary key (user_id)
);

alter table "private"."active_tenants"
  enable row level security;

create table "private"."call_limits" (
  "name" text not null,
  "calls" integer not null,
  "seconds" integer not null,
  "per" text not null,
  "meaning" text not null,
  constraint "call_limits_pkey" primary key (name),
  constraint "calls_are_between_1_and_10000" check (((calls >= 1) AND (calls <= 10000))),
  constraint "name_is_a_word" check ((name ~ '^[a-z][a-z_]{0,62}$'::text)),
  constraint "per_is_user_or_tenant" check ((per = ANY (ARRAY['user'::text, 'tenant'::text]))),
  constraint "seconds_are_up_to_31_days" check (((seconds >= 1) AND (seconds <= 2678400)))
);

alter table "private"."call_limits"
  enable row level security;

create table "private"."platform_admins" (
  "user_id" uuid not null,
  "added_at" timestamp with time zone not null default now(),
  constraint "platform_admins_pkey" primary key (user_id)
);

alter table "private"."platform_admins"
  enable row level security;

create table "private"."platform_credentials" (
  "kind" text not null,
  "account" jsonb not null default '{}'::jsonb,
  "secret_id" uuid not null,
  "fingerprint" text not null,
  "health_reason" text,
  "updated_at" timestamp with time zone not null default now()
);

alter table "private"."platform_credentials"
  enable row level security;

create table "private"."rate_windows" (
  "key" text not null,
  "taken" timestamp with time zone[] not null,
  "ends_at" timestamp with time zone not null,
  constraint "key_is_not_too_long" check (((octet_length(key) >= 1) AND (octet_length(key) <= 300))),
  constraint "rate_windows_pkey" primary key (key)
);

alter table "private"."rate_windows"
  enable row level security;

create table "private"."settings" (
  "name" text not null,
  "value" text not null,
  "meaning" text not null,
  constraint "name_is_a_word" check ((name ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
  constraint "settings_pkey" primary key (name),
  constraint "value_is_not_too_long" check ((octet_length(value) <= 2000))
);

alter table "private"."settings"
  enable row level security;

create table "private"."time_zones" (
  "name" text not null,
  constraint "time_zones_pkey" primary key (name)
);

alter table "private"."time_zones"
  enable row level security;

create table "public"."audit_log" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "at" timestamp with time zone not null default now(),
  "actor_id" uuid,
  "actor" text not null,
  "action" text not null,
  "detail" jsonb not null default '{}'::jsonb,
  constraint "action_is_short" check ((char_length(action) <= 100)),
  constraint "audit_log_pkey" primary key (tenant_id, id)
);

alter table "public"."audit_log"
  enable row level security;

create table "public"."campaigns" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "name" text not null,
  "starts_at" timestamp with time zone not null default now(),
  "ends_at" timestamp with time zone,
  "time_zone" text not null default 'UTC'::text,
  "notifications_enabled" boolean not null default true,
  "notify_from" time without time zone not null default '00:00:00'::time without time zone,
  "notify_until" time without time zone not null default '24:00:00'::time without time zone,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "campaigns_pkey" primary key (tenant_id, id),
  constraint "it_ends_after_it_starts" check ((ends_at > starts_at)),
  constraint "name_is_not_empty" check (((btrim(name) <> ''::text) AND (char_length(name) <= 120))),
  constraint "times_are_finite" check ((isfinite(starts_at) AND isfinite(ends_at)))
);

alter table "public"."campaigns"
  enable row level security;

create table "public"."completions" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "task_id" uuid not null,
  "participant_id" uuid not null,
  "code" text not null,
  "claimed_at" timestamp with time zone not null default now(),
  "deadline" timestamp with time zone not null,
  "verified_at" timestamp with time zone,
  "reason" text,
  "evidence" jsonb,
  "credential_source" text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "completions_pkey" primary key (tenant_id, id),
  constraint "deadline_is_after_the_claim" check ((deadline > claimed_at)),
  constraint "one_completion_per_task_and_participant" unique (tenant_id, task_id, participant_id)
);

alter table "public"."completions"
  enable row level security;

create table "public"."credentials" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "kind" text not null,
  "account" jsonb not null default '{}'::jsonb,
  "secret_id" uuid not null,
  "fingerprint" text not null,
  "health_reason" text,
  "checked_at" timestamp with time zone,
  "expires_at" timestamp with time zone,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "account_is_a_small_object"
    check (((jsonb_typeof(account) = 'object'::text) AND (octet_length((account)::text) <= 4000))),
  constraint "credentials_pkey" primary key (tenant_id, id)
);

alter table "public"."credentials"
  enable row level security;

create table "public"."invitations" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "email" text not null,
  "token_hash" text not null,
  "invited_by" uuid,
  "expires_at" timestamp with time zone not null,
  "accepted_at" timestamp with time zone,
  "accepted_by" uuid,
  "revoked_at" timestamp with time zone,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "accepted_by_is_set_when_accepted" check (((accepted_at IS NOT NULL) = (accepted_by IS
    NOT NULL))),
  constraint "email_has_no_control_characters"
    check
    ((email !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200B\u200E\u200F\u2028-\u202E\u2060-\u2069\uFEFF]'::text)),
  constraint "email_is_an_address"
    check (((email ~ '^[^@[:space:]]+@[^@[:space:]]+$'::text) AND (octet_length(email) <= 254))),
  constraint "email_is_lower_case" check ((email = lower(email))),
  constraint "invitations_pkey" primary key (tenant_id, id),
  constraint "it_expires_within_30_days"
    check (((expires_at > created_at) AND (expires_at <= (created_at + '30 days'::interval)))),
  constraint "it_is_accepted_or_revoked_not_both" check (((accepted_at IS NULL) OR (revoked_at IS NULL))),
  constraint "token_hash_is_sha256" check ((token_hash ~ '^[0-9a-f]{64}$'::text))
);

alter table "public"."invitations"
  enable row level security;

create table "public"."memberships" (
  "tenant_id" uuid not null,
  "user_id" uuid not null,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "memberships_pkey" primary key (tenant_id, user_id)
);

alter table "public"."memberships"
  enable row level security;

create table "public"."notification_outbox" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "campaign_id" uuid not null,
  "participant_id" uuid not null,
  "completion_id" uuid not null,
  "recipient" text,
  "body" text not null,
  "sent_at" timestamp with time zone,
  "held_until" timestamp with time zone,
  "reason" text,
  "credential_source" text,
  "provider_message_id" text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "notification_outbox_pkey" primary key (tenant_id, id)
);

alter table "public"."notification_outbox"
  enable row level security;

create table "public"."participants" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "user_id" uuid,
  "display_name" text not null,
  "phone" text,
  "whatsapp_opt_in_at" timestamp with time zone,
  "instagram_username" text,
  "facebook_user_id" text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "display_name_is_not_empty"
    check (((btrim(display_name) <> ''::text) AND (char_length(display_name) <= 80))),
  constraint "facebook_user_id_is_digits" check ((facebook_user_id ~ '^[0-9]{1,30}$'::text)),
  constraint "instagram_username_is_plain" check ((instagram_username ~ '^[a-z0-9._]{1,30}$'::text)),
  constraint "one_participant_per_tenant_and_user" unique (tenant_id, user_id),
  constraint "opt_in_needs_a_phone" check (((whatsapp_opt_in_at IS NULL) OR (phone IS NOT NULL))),
  constraint "participants_pkey" primary key (tenant_id, id),
  constraint "phone_is_e164" check ((phone ~ '^\+[1-9][0-9]{6,14}$'::text))
);

alter table "public"."participants"
  enable row level security;

create table "public"."plans" (
  "plan_id" text not null,
  "name" text not null,
  "position" smallint not null,
  "weight" numeric(6,2) not null default 1,
  "cap" integer not null,
  "batch_share" integer not null,
  "cadence_seconds" integer not null,
  "rate_per_minute" integer,
  "target_seconds" integer not null,
  constraint "batch_share_is_positive" check ((batch_share > 0)),
  constraint "cadence_is_not_negative" check ((cadence_seconds >= 0)),
  constraint "cap_is_positive" check ((cap > 0)),
  constraint "plan_id_is_a_word" check ((plan_id ~ '^[a-z][a-z0-9_]{0,30}$'::text)),
  constraint "plans_pkey" primary key (plan_id),
  constraint "rate_is_positive" check ((rate_per_minute > 0)),
  constraint "target_is_positive" check ((target_seconds > 0)),
  constraint "weight_is_positive" check ((weight > (0)::numeric))
);

alter table "public"."plans"
  enable row level security;

create table "public"."social_tasks" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "campaign_id" uuid not null,
  "title" text not null,
  "post_id" text not null,
  "reward_spins" integer not null default 1,
  "verify_within" interval not null default '24:00:00'::interval,
  "recheck_every" interval not null default '00:05:00'::interval,
  "active" boolean not null default true,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "post_id_is_a_graph_id" check ((post_id ~ '^[0-9]{1,30}(_[0-9]{1,30})?$'::text)),
  constraint "recheck_every_is_between_1_second_and_a_day"
    check (((recheck_every >= '00:00:01'::interval) AND (recheck_every <= '1 day'::interval))),
  constraint "reward_is_between_0_and_1000" check (((reward_spins >= 0) AND (reward_spins <= 1000))),
  constraint "social_tasks_pkey" primary key (tenant_id, id),
  constraint "title_is_not_empty" check (((btrim(title) <> ''::text) AND (char_length(title) <= 120))),
  constraint "verify_within_is_up_to_30_days"
    check (((verify_within >= '00:00:01'::interval) AND (verify_within <= '30 days'::interval)))
);

alter table "public"."social_tasks"
  enable row level security;

create table "public"."spin_ledger" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "participant_id" uuid not null,
  "campaign_id" uuid not null,
  "completion_id" uuid,
  "spins" integer not null,
  "reason" text not null,
  "created_at" timestamp with time zone not null default now(),
  constraint "a_completion_earns_once" unique (tenant_id, completion_id),
  constraint "spin_ledger_pkey" primary key (tenant_id, id)
);

alter table "public"."spin_ledger"
  enable row level security;

create table "public"."tenants" (
  "id" uuid not null default gen_random_uuid(),
  "slug" text not null,
  "name" text not null,
  "plan_id" text not null default 'free'::text,
  "time_zone" text not null default 'UTC'::text,
  "locale" text not null default 'en'::text,
  "campaign_notifications" boolean not null default true,
  "campaign_notify_from" time without time zone not null default '00:00:00'::time without time zone,
  "campaign_notify_until" time without time zone not null default '24:00:00'::time without time zone,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "locale_is_a_language_tag"
    check ((locale ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'::text)),
  constraint "name_has_no_control_characters"
    check
    ((name !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200B\u200E\u200F\u2028-\u202E\u2060-\u2069\uFEFF]'::text)),
  constraint "name_is_normalised" check ((name IS NFKC NORMALIZED)),
  constraint "name_is_not_empty" check (((btrim(name) <> ''::text) AND (char_length(name) <= 120))),
  constraint "slug_has_no_double_dash" check ((slug !~ '--'::text)),
  constraint "slug_is_lower_case_letters_digits_and_dashes"
    check ((slug ~ '^[a-z0-9]([a-z0-9-]{1,46})[a-z0-9]$'::text)),
  constraint "slug_is_no_encoded_look_alike" check ((slug !~ '^..--'::text)),
  constraint "slug_is_not_a_number" check ((slug ~ '[a-z]'::text)),
  constraint "slug_is_not_reserved"
    check
    ((slug <> ALL (ARRAY['about'::text, 'account'::text, 'accounts'::text, 'admin'::text,
    'administrator'::text,
    'api'::text,
    'app'::text,
    'apps'::text,
    'assets'::text,
    'auth'::text,
    'billing'::text,
    'blog'::text,
    'cdn'::text,
    'console'::text,
    'contact'::text,
    'dashboard'::text,
    'docs'::text,
    'email'::text,
    'ftp'::text,
    'functions'::text,
    'graphql'::text,
    'health'::text,
    'help'::text,
    'invitations'::text,
    'invite'::text,
    'jobs'::text,
    'legal'::text,
    'localhost'::text,
    'login'::text,
    'logout'::text,
    'mail'::text,
    'me'::text,
    'members'::text,
    'new'::text,
    'null'::text,
    'oauth'::text,
    'onecron'::text,
    'owner'::text,
    'platform'::text,
    'privacy'::text,
    'public'::text,
    'realtime'::text,
    'rest'::text,
    'root'::text,
    'security'::text,
    'settings'::text,
    'sign-in'::text,
    'sign-up'::text,
    'signin'::text,
    'signup'::text,
    'smtp'::text,
    'staff'::text,
    'static'::text,
    'status'::text,
    'storage'::text,
    'supabase'::text,
    'support'::text,
    'system'::text,
    'team'::text,
    'tenant'::text,
    'tenants'::text,
    'terms'::text,
    'undefined'::text, 'user'::text, 'users'::text, 'webhook'::text, 'webhooks'::text, 'www'::text]))),
  constraint "tenants_pkey" primary key (id),
  constraint "tenants_slug_key" unique (slug),
  constraint "time_zone_is_short" check ((char_length(time_zone) <= 64))
);

alter table "public"."tenants"
  enable row level security;

alter table "jobs"."attempts"
  alter column "finished_at" set default now();

create type "jobs"."cron" as (
  "minutes" integer[],
  "hours" integer[],
  "days" integer[],
  "months" integer[],
  "weekdays" integer[],
  "any_hour" boolean,
  "any_day" boolean,
  "any_weekday" boolean
);

create type "jobs"."ended" as (
  "tenant_id" uuid,
  "item_id" bigint,
  "subject_id" uuid,
  "outcome" text,
  "result" jsonb,
  "error" text,
  "credential_source" text
);

create type "jobs"."kind" as enum (
  'edge',
  'sql',
  'raw'
);

alter table "jobs"."definitions"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "kind" jobs.kind not null;

create type "jobs"."loaded" as (
  "item_id" bigint,
  "data" jsonb,
  "hold_until" timestamp with time zone,
  "reason" text,
  "cancel" boolean
);

create type "jobs"."misfire" as enum (
  'skip',
  'once',
  'all'
);

alter table "jobs"."definitions"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "misfire" jobs.misfire not null default 'once'::jobs.misfire;

create type "jobs"."run_status" as enum (
  'running',
  'success',
  'warning',
  'error'
);

alter table "jobs"."runs"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "status" jobs.run_status not null default 'running'::jobs.run_status;

create type "jobs"."scope" as enum (
  'tenant',
  'platform'
);

alter table "jobs"."definitions"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "scope" jobs.scope not null default 'tenant'::jobs.scope;

create type "jobs"."settled" as (
  "tenant_id" uuid,
  "item_id" bigint,
  "subject_id" uuid,
  "outcome" text,
  "ends" boolean,
  "dies" text,
  "result" jsonb,
  "error" text,
  "run_at" timestamp with time zone,
  "waiting_for" text,
  "attempts" smallint,
  "tries" integer,
  "due_at" timestamp with time zone,
  "trace_id" uuid,
  "credential_source" text,
  "run_id" bigint,
  "cost" numeric
);

create type "public"."campaign_status" as enum (
  'draft',
  'active',
  'ended'
);

alter table "public"."campaigns"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "status" public.campaign_status not null default 'draft'::public.campaign_status;

create type "public"."completion_status" as enum (
  'pending',
  'verified',
  'failed',
  'manual_review'
);

alter table "public"."completions"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "status" public.completion_status not null default 'pending'::public.completion_status;

create type "public"."credential_health" as enum (
  'unchecked',
  'healthy',
  'broken'
);

alter table "private"."platform_credentials"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "health" public.credential_health not null default 'unchecked'::public.credential_health;

alter table "public"."credentials"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "health" public.credential_health not null default 'unchecked'::public.credential_health;

create type "public"."member_role" as enum (
  'viewer',
  'member',
  'admin',
  'owner'
);

alter table "public"."invitations"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "role" public.member_role not null;

alter table "public"."memberships"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "role" public.member_role not null;

create type "public"."message_kind" as enum (
  'congratulation'
);

alter table "public"."notification_outbox"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "kind" public.message_kind not null;

create type "public"."message_status" as enum (
  'queued',
  'sent',
  'unknown',
  'failed',
  'disabled',
  'no_consent',
  'cancelled'
);

alter table "public"."notification_outbox"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "status" public.message_status not null default 'queued'::public.message_status;

alter table "public"."notification_outbox"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "sent" boolean generated always as ((status = 'sent'::public.message_status)) stored not null;

create type "public"."provider" as enum (
  'meta',
  'whatsapp',
  'stripe',
  'email'
);

alter table "jobs"."breakers"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider not null;

alter table "jobs"."definitions"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider;

alter table "jobs"."provider_limits"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider not null;

alter table "jobs"."rates"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider not null;

alter table "private"."platform_credentials"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider not null;

alter table "public"."credentials"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "provider" public.provider not null;

create type "public"."task_kind" as enum (
  'instagram_comment',
  'facebook_comment'
);

alter table "public"."social_tasks"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "kind" public.task_kind not null;

create type "public"."tenant_status" as enum (
  'active',
  'suspended',
  'closed'
);

alter table "public"."tenants"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "status" public.tenant_status not null default 'active'::public.tenant_status;

create or replace function jobs.add_member (
  tenant_id uuid,
  user_id uuid,
  role public.member_role
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into public.memberships as m (tenant_id, user_id, role)
  values (add_member.tenant_id, add_member.user_id, add_member.role)
  on conflict on constraint memberships_pkey do update set role = excluded.role;
  perform private.audit(add_member.tenant_id, 'member.added',
    jsonb_build_object('user_id', add_member.user_id, 'role', add_member.role));
end
$function$;

create or replace function jobs.add_platform_admin (
  user_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into private.platform_admins (user_id) values (add_platform_admin.user_id) on conflict on constraint platform_admins_pkey do nothing;
  perform private.audit(null, 'platform_admin.added', jsonb_build_object('user_id', add_platform_admin.user_id));
end
$function$;

create or replace function jobs.answer_doorbell (
  ticket uuid
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set answered_at = clock_timestamp(), seen_at = clock_timestamp()
  where d.drain_id = answer_doorbell.ticket and d.answered_at is null and d.ended_at is null
    and d.rung_at > clock_timestamp() - interval '300 seconds'
  returning * into v_drain;
  if not found then
    return null;
  end if;
  update jobs.drains d set run_id = jobs.open_run(v_drain.job, 'queue') where d.drain_id = v_drain.drain_id;
  return jsonb_build_object('drain_id', v_drain.drain_id, 'job', v_drain.job);
end
$function$;

create or replace function jobs.apply_ended (
  p_definition jobs.definitions,
  p_settled jobs.settled[]
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'on'
  set plan_cache_mode to 'auto'
  AS $function$
declare
  v_ended jobs.ended[];
  v_call text := format('select %s($1)', (p_definition).apply_function::regproc);
  v_one jobs.settled;
  v_result jobs.settled[] := '{}';
begin
  select array_agg((s.tenant_id, s.item_id, s.subject_id, coalesce(case when s.dies is not null then 'dead' end, s.outcome),
      s.result, s.error, s.credential_source)::jobs.ended)
  into v_ended
  from unnest(p_settled) s
  where s.ends;
  if v_ended is null then
    return p_settled;
  end if;

  begin
    execute v_call using v_ended;
    return p_settled;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    when others then
      null;
  end;

  foreach v_one in array p_settled loop
    if v_one.ends then
      begin
        execute v_call using array[
          (v_one.tenant_id, v_one.item_id, v_one.subject_id, coalesce(case when v_one.dies is not null then 'dead' end, v_one.outcome),
            v_one.result, v_one.error, v_one.credential_source)::jobs.ended];
      exception
        when serialization_failure or deadlock_detected or lock_not_available then
          raise;
        when others then
          -- The result could not be stored. What died stays dead; what was done is tried again, until its attempts are used up.
          v_one.error := left('The result could not be applied: ' || sqlerrm, 500);
          if v_one.dies is null then
            if v_one.outcome in ('unknown', 'cancelled') or v_one.attempts >= (p_definition).max_attempts then
              v_one.dies := 'its result could not be applied';
              v_one.outcome := 'refused';
            else
              v_one.ends := false;
              v_one.outcome := 'retry';
              v_one.waiting_for := 'backoff';
              v_one.run_at := clock_timestamp() + jobs.backoff(p_definition, v_one.attempts);
            end if;
          end if;
      end;
    end if;
    v_result := v_result || v_one;
  end loop;
  return v_result;
end
$function$;

create or replace function jobs.backoff (
  p_definition jobs.definitions,
  p_attempts integer
)
  returns interval
  language sql
  set search_path to ''
  AS $function$
  select make_interval(secs => (random() * least(
    (p_definition).backoff_limit_seconds::double precision,
    (p_definition).backoff_seconds::double precision * power(2::double precision, least(greatest(p_attempts, 1) - 1, 40)))))
$function$;

create or replace function jobs.begin_drain (
  p_job text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_drain_id uuid;
begin
  if not exists (select from jobs.lanes l where l.job = p_job and l.awake)
    and not exists (select from jobs.lanes l where l.job = p_job and l.wake_at <= clock_timestamp()) then
    return null;
  end if;
  insert into jobs.drains (job, run_id, answered_at, seen_at)
  values (p_job, null, clock_timestamp(), clock_timestamp())
  returning drain_id into v_drain_id;
  return v_drain_id;
end
$function$;

create or replace function jobs.begin_effects (
  batch_id bigint,
  items bigint[]
)
  returns bigint[]
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
declare
  v_begun bigint[];
begin
  -- The batch row is locked, so the lease cannot expire between this check and the mark.
  perform from jobs.batches b where b.batch_id = begin_effects.batch_id and b.lease_until > clock_timestamp() for update;
  if not found then
    return '{}';
  end if;
  with marked as (
    update jobs.items i
    set begun = true
    where i.ctid = any (array(
      select x.place
      from jobs.leases e
      cross join lateral unnest(e.item_ids) as u (item_id)
      cross join lateral (
        select y.ctid as place from jobs.items y
        where y.tenant_id = e.tenant_id and y.item_id = u.item_id and y.batch_id = begin_effects.batch_id
        offset 0
      ) x
      where e.batch_id = begin_effects.batch_id and u.item_id = any (begin_effects.items)))
      and i.batch_id = begin_effects.batch_id and not i.begun
    returning i.item_id
  )
  select coalesce(array_agg(marked.item_id), '{}') into v_begun from marked;
  return v_begun;
end
$function$;

create or replace function jobs.call_load (
  p_definition jobs.definitions,
  p_items jobs.items[]
)
  returns jobs.loaded[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'on'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'on'
  set plan_cache_mode to 'auto'
  AS $function$
declare
  v_call text := format(
    'select array_agg(l) from (
       select array_agg(i.tenant_id) as t, array_agg(i.item_id) as i, array_agg(i.subject_id) as s, array_agg(i.payload) as p from unnest($1) i
     ) a cross join lateral %s(a.t, a.i, a.s, a.p) as l', (p_definition).load_function::regproc);
  v_loaded jobs.loaded[];
  v_one jobs.loaded[];
  v_item jobs.items;
begin
  begin
    execute v_call into v_loaded using p_items;
    return v_loaded;
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise;
    when others then
      null;
  end;
  v_loaded := '{}';
  foreach v_item in array p_items loop
    begin
      execute v_call into v_one using array[v_item];
      v_loaded := v_loaded || v_one;
    exception
      when serialization_failure or deadlock_detected or lock_not_available then
        raise;
      when others then
        -- No data and no wish to wait: the caller takes it as an attempt that failed.
        v_loaded := v_loaded || (v_item.item_id, null, null, left('The item could not be loaded: ' || sqlerrm, 500), null)::jobs.loaded;
    end;
  end loop;
  return v_loaded;
end
$function$;

create or replace function jobs.cancel (
  job text,
  tenant_id uuid default null::uuid,
  older_than interval default null::interval,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_items jobs.items[];
  v_count integer;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = cancel.job;
  if not found then
    raise exception 'There is no job "%".', cancel.job using errcode = 'P0002';
  end if;
  if cancel.dry_run then
    return (
      select count(*) from jobs.items i
      where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
        and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than));
  end if;
  with gone as (
    delete from jobs.items i
    where i.job = cancel.job and i.batch_id is null and (cancel.tenant_id is null or i.tenant_id = cancel.tenant_id)
      and (cancel.older_than is null or i.enqueued_at < now() - cancel.older_than)
    returning i.*
  ),
  remembered as (
    insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, run_id, outcome, error, due_at, started_at, trace_id)
    select g.tenant_id, g.item_id, g.tries + 1, g.job, g.subject_id, g.run_id, 'cancelled', 'cancelled by the platform', g.run_at, now(), g.trace_id
    from gone g
  )
  select array_agg(g), count(*) into v_items, v_count from gone g;
  if v_definition.apply_function is not null and v_count > 0 then
    execute format('select %s($1)', v_definition.apply_function::regproc) using (
      select array_agg((i.tenant_id, i.item_id, i.subject_id, 'cancelled', null, 'cancelled by the platform', null)::jobs.ended) from unnest(v_items) i);
  end if;
  perform private.audit(cancel.tenant_id, 'items.cancelled', jsonb_build_object(
    'job', cancel.job, 'tenant_id', cancel.tenant_id, 'older_than', cancel.older_than, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.check_definition()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if new.schedule is null then
    new.next_slot_at := null;
  elsif tg_op = 'INSERT' or new.schedule is distinct from old.schedule or new.time_zone is distinct from old.time_zone
    or (new.next_slot_at is null) then
    select s into new.next_slot_at
    from jobs.next_slots(new.schedule, coalesce(new.time_zone, private.setting('default_time_zone'), 'UTC'), now(), 1) s;
    if new.next_slot_at is null then
      raise exception 'The schedule "%" never comes.', new.schedule using errcode = '22023';
    end if;
  end if;
  return new;
end
$function$;

create or replace function jobs.claim_lock (
  p_job text
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select pg_advisory_xact_lock(hashtextextended('onecron claim ' || p_job, 0))
$function$;

create or replace function jobs.clean (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update jobs.platform p set cleaned_at = p_now where p.cleaned_at < p_now - interval '1 hour';
  if not found then
    return;
  end if;
  perform jobs.make_partitions(p_now);
  perform private.learn_time_zones();
  delete from jobs.drains d where d.ended_at < p_now - interval '1 day';
  delete from jobs.runs r where r.finished_at < p_now - interval '90 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  delete from cron.job_run_details d where d.end_time < p_now - interval '1 day';
  -- Answers to doorbells say nothing that the drains do not say. pg_net's own clean-up waits for its next request.
  delete from net._http_response r where r.created < p_now - interval '1 hour';
end
$function$;

create or replace function jobs.close_alert (
  p_tenant_id uuid,
  p_incident text
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  update jobs.alerts a set closed_at = now()
  where a.tenant_id is not distinct from p_tenant_id and a.incident = p_incident and a.closed_at is null
$function$;

create or replace function jobs.close_batch (
  batch_id bigint,
  outcomes jsonb,
  next boolean default false
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_closed integer := 0;
begin
  perform jobs.require_read_committed();
  if jsonb_typeof(outcomes) is distinct from 'array' then
    raise exception 'outcomes must be an array of {"item_id", "outcome", …}.' using errcode = '22023';
  end if;
  if exists (
    select from jsonb_array_elements(outcomes) o
    where jsonb_typeof(o) <> 'object' or o ->> 'outcome' in ('held', 'cancelled', 'lost')
  ) then
    raise exception 'A worker closes items as done, retry, refused, snooze, throttled or credential_broken.' using errcode = '22023';
  end if;
  select b.* into v_batch from jobs.batches b where b.batch_id = close_batch.batch_id for update;
  if found then
    select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
    v_closed := jobs.settle(v_definition, v_batch, outcomes, clock_timestamp());
    delete from jobs.batches b
    where b.batch_id = v_batch.batch_id and not exists (select from jobs.leases e where e.batch_id = v_batch.batch_id);
    update jobs.drains d set seen_at = clock_timestamp() where d.drain_id = v_batch.drain_id;
  end if;
  return jsonb_build_object(
    'closed', v_closed,
    'stale', jsonb_array_length(outcomes) - v_closed,
    'next', case when close_batch.next and v_batch.batch_id is not null then jobs.next_batch(v_batch.drain_id, v_batch.job) end);
end
$function$;

create or replace function jobs.close_breakers (
  p_provider public.provider,
  p_tenant_ids uuid[],
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_closed uuid[];
  v_job text;
begin
  with gone as (
    delete from jobs.breakers b
    where b.provider = p_provider and b.state in ('closed', 'open') and b.tenant_id = any (p_tenant_ids)
    returning b.tenant_id, b.state
  )
  select array_agg(g.tenant_id order by g.tenant_id) into v_closed from gone g where g.state = 'open';
  delete from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'closed';
  update jobs.breakers b set state = 'recovering', open_until = null, failures = 0, since = p_now, reason = null
  where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'open';
  if found then
    perform jobs.close_alert(null, format('provider %s', p_provider));
  end if;
  if v_closed is not null then
    for v_job in select d.job from jobs.definitions d where d.provider = p_provider order by d.job loop
      perform jobs.wake_blocked(v_job, v_closed, 'breaker');
    end loop;
  end if;
end
$function$;

create or replace function jobs.count_failures (
  p_definition jobs.definitions,
  p_settled jobs.settled[],
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_answered uuid[];
  v_failing uuid[];
  v_opened uuid[];
  v_failures integer;
begin
  -- A serving failed when some of its items could not be done for the provider's sake and none was answered.
  select array_agg(g.tenant_id order by g.tenant_id) filter (where g.answered),
    array_agg(g.tenant_id order by g.tenant_id) filter (where g.failed and not g.answered)
  into v_answered, v_failing
  from (
    select u.tenant_id,
      bool_or(u.outcome in ('done', 'refused', 'snoozed', 'throttled', 'credential broken')) as answered,
      bool_or(u.outcome = 'retry' or u.outcome = 'unknown') as failed
    from unnest(p_settled) u
    group by u.tenant_id
  ) g;

  if v_answered is not null then
    if exists (
      select from jobs.breakers b where b.provider = (p_definition).provider and b.state <> 'parked'
        and b.tenant_id = any (v_answered || jobs.everyone_id())
    ) then
      perform jobs.close_breakers((p_definition).provider, v_answered, p_now);
    end if;
  end if;

  if v_failing is not null then
    with counted as (
      insert into jobs.breakers as b (tenant_id, provider, state, failures, since)
      select u, (p_definition).provider, 'closed', 1, p_now from unnest(v_failing) u order by u
      on conflict (tenant_id, provider) do update set failures = b.failures + 1
        where b.state <> 'parked'
      returning b.tenant_id, b.failures
    ),
    opened as (
      select c.tenant_id, c.failures from counted c where c.failures >= (p_definition).breaker_after
    )
    select array_agg(o.tenant_id order by o.tenant_id) into v_opened from opened o;
    -- From half a minute to a quarter of an hour, twice as long after every probe that fails.
    update jobs.breakers b
    set state = 'open', since = case when b.state = 'open' then b.since else p_now end,
      reason = format('%s servings in a row failed', b.failures),
      open_until = p_now + make_interval(secs => (0.8 + 0.4 * random()) * least(900, 30 * power(2, least(b.failures - (p_definition).breaker_after, 10))))
    where b.provider = (p_definition).provider and b.tenant_id = any (v_opened);

    if v_answered is null then
      insert into jobs.breakers as b (tenant_id, provider, state, failures, since)
      values (jobs.everyone_id(), (p_definition).provider, 'closed', cardinality(v_failing), p_now)
      on conflict (tenant_id, provider) do update set failures = b.failures + excluded.failures
      returning b.failures into v_failures;
      -- One tenant alone cannot reach this: its own breaker opens long before.
      if v_failures >= 4 * (p_definition).breaker_after then
        update jobs.breakers b
        set state = 'open', reason = 'the provider does not answer', since = case when b.state = 'open' then b.since else p_now end,
          open_until = p_now + make_interval(secs => (0.8 + 0.4 * random()) * least(300, 15 * power(2, least(b.failures / (4 * (p_definition).breaker_after) - 1, 5))))
        where b.tenant_id = jobs.everyone_id() and b.provider = (p_definition).provider;
        perform jobs.open_alert(null, format('provider %s', (p_definition).provider),
          format('%s does not answer for any tenant. One item probes it from time to time.', (p_definition).provider));
      end if;
    end if;
  end if;
end
$function$;

create or replace function jobs.count_run (
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
begin
  insert into jobs.run_tenants as rt (tenant_id, run_id, drain_id, processed, failed)
  select u.tenant_id, u.run_id, (p_batch).drain_id, count(*) filter (where u.dies is null), count(*) filter (where u.dies is not null)
  from unnest(p_settled) u
  where u.ends and u.run_id is not null
  group by u.tenant_id, u.run_id
  order by u.run_id, u.tenant_id
  on conflict (tenant_id, run_id, drain_id) do update set processed = rt.processed + excluded.processed, failed = rt.failed + excluded.failed;

  -- The first twenty errors tell the story; all of them are in the attempts.
  update jobs.drains d
  set errors = d.errors || e.errors
  from (
    select jsonb_agg(x.error) as errors
    from (
      select jsonb_build_object('run_id', u.run_id, 'item_id', u.item_id, 'outcome', u.outcome, 'error', u.error) as error
      from unnest(p_settled) u
      where u.error is not null and u.outcome not in ('held', 'cancelled')
      limit 10
    ) x
  ) e
  where d.drain_id = (p_batch).drain_id and e.errors is not null and jsonb_array_length(d.errors) < 20;
end
$function$;

create or replace function jobs.define (
  job text,
  settings jsonb
)
  returns jobs.definitions
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_known text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = 'jobs.definitions'::regclass and a.attnum > 0 and not a.attisdropped and a.attname not in ('job', 'next_slot_at'));
  v_unknown text;
  v_columns text;
begin
  select k into v_unknown from jsonb_object_keys(settings) k where k <> all (v_known) limit 1;
  if v_unknown is not null then
    raise exception 'A job has no setting "%". Known: %.', v_unknown, array_to_string(v_known, ', ') using errcode = '22023';
  end if;
  select string_agg(format('%I', k), ', ' order by k) into v_columns from jsonb_object_keys(settings) k;
  if v_columns is null then
    raise exception 'Nothing is set. A job needs at least kind and meaning.' using errcode = '22023';
  end if;
  execute format(
    'update jobs.definitions d set (%1$s) = (select %2$s from jsonb_populate_record(null::jobs.definitions, $2) s) where d.job = $1 returning d.*',
    v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
    into v_definition using define.job, settings;
  if v_definition.job is null then
    execute format(
      'insert into jobs.definitions as d (job, %1$s) select $1, %2$s from jsonb_populate_record(null::jobs.definitions, $2) s returning d.*',
      v_columns, (select string_agg(format('s.%I', k), ', ' order by k) from jsonb_object_keys(settings) k))
      into v_definition using define.job, settings;
  end if;
  insert into jobs.clocks (job) values (define.job) on conflict do nothing;
  perform private.audit(null, 'job.defined', jsonb_build_object('job', define.job, 'settings', settings));
  return v_definition;
end
$function$;

create or replace function jobs.drain_is_live (
  p_drain jobs.drains,
  p_lease_seconds integer,
  p_now timestamp with time zone
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select (p_drain).ended_at is null and case
    when (p_drain).answered_at is null then (p_drain).rung_at > p_now - interval '10 seconds'
    else greatest((p_drain).answered_at, (p_drain).seen_at) > p_now - make_interval(secs => 2 * p_lease_seconds) end
$function$;

create or replace function jobs.end_drain (
  drain_id uuid,
  error text default null::text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_drain jobs.drains;
begin
  update jobs.drains d
  set ended_at = clock_timestamp(), error = left(end_drain.error, 500)
  where d.drain_id = end_drain.drain_id and d.ended_at is null
  returning * into v_drain;
  if not found then
    return;
  end if;
  -- The last one of a run ends it. The run is locked, so that of two that end at once one sees the other gone.
  perform from jobs.runs r where r.run_id = v_drain.run_id and r.expected is null for update;
  if found and not exists (select from jobs.drains d where d.run_id = v_drain.run_id and d.ended_at is null) then
    perform jobs.finish_run(v_drain.run_id);
  end if;
  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.job = v_drain.job and r.finished_at is null
    and r.expected <= (select sum(rt.processed + rt.failed) from jobs.run_tenants rt where rt.run_id = r.run_id);
  -- What this drain has made ready (a message for what it verified) need not wait for the tick.
  if not (select p.stopped from jobs.platform p) and pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    begin
      perform jobs.ring(clock_timestamp());
    exception when others then
      null; -- the tick will ring, and says why when it cannot
    end;
  end if;
end
$function$;

create or replace function jobs.enqueue (
  job text,
  tenant_id uuid,
  subject_id uuid default null::uuid,
  run_at timestamp with time zone default null::timestamp with time zone,
  dedupe_key text default null::text,
  payload jsonb default null::jsonb
)
  returns integer
  language sql
  security definer
  set search_path to ''
  AS $function$
  select jobs.enqueue_many(enqueue.job, array[enqueue.tenant_id], array[enqueue.subject_id], enqueue.run_at,
    array[enqueue.dedupe_key], array[enqueue.payload])
$function$;

create or replace function jobs.enqueue_many (
  job text,
  tenant_ids uuid[],
  subject_ids uuid[] default null::uuid[],
  run_at timestamp with time zone default null::timestamp with time zone,
  dedupe_keys text[] default null::text[],
  payloads jsonb[] default null::jsonb[]
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_variable
declare
  v_definition jobs.definitions;
  v_run_at timestamptz;
  v_count integer;
begin
  select d.* into v_definition from jobs.definitions d where d.job = enqueue_many.job;
  if not found then
    raise exception 'There is no job "%".', enqueue_many.job using errcode = 'P0002';
  end if;
  if exists (
    select from unnest(tenant_ids) u
    where u is null or (u <> jobs.platform_id() and not exists (select from public.tenants t where t.id = u))
  ) then
    raise exception 'An item belongs to a tenant that exists.' using errcode = '23503';
  end if;
  v_run_at := coalesce(enqueue_many.run_at, now() + make_interval(secs => v_definition.start_delay_seconds));
  if not isfinite(v_run_at) then
    raise exception 'run_at must be a time, not infinity.' using errcode = '22008';
  end if;

  perform jobs.take_guards(enqueue_many.job, tenant_ids);

  insert into jobs.items (tenant_id, job, subject_id, run_at, waiting_for, dedupe_key, payload)
  select u.tenant_id, enqueue_many.job, u.subject_id, v_run_at, case when v_run_at > now() then 'delay' end, u.dedupe_key, u.payload
  from unnest(tenant_ids, subject_ids, dedupe_keys, payloads) as u (tenant_id, subject_id, dedupe_key, payload)
  on conflict do nothing;
  get diagnostics v_count = row_count;

  perform jobs.wake_lanes(enqueue_many.job, tenant_ids, array(select v_run_at from unnest(tenant_ids)), 'delay');
  return v_count;
end
$function$;

create or replace function jobs.everyone_id()
  returns uuid
  language sql
  immutable
  set search_path to ''
  AS $function$
  select 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
$function$;

create or replace function jobs.extend_batch (
  batch_id bigint
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  update jobs.batches b
  set lease_until = clock_timestamp() + make_interval(secs => d.lease_seconds)
  from jobs.definitions d
  where b.batch_id = extend_batch.batch_id and d.job = b.job and b.lease_until > clock_timestamp();
  if not found then
    return false;
  end if;
  update jobs.drains d set seen_at = clock_timestamp()
  from jobs.batches b
  where b.batch_id = extend_batch.batch_id and d.drain_id = b.drain_id;
  return true;
end
$function$;

create or replace function jobs.finish_lost_drains (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update jobs.drains d
  set ended_at = p_now, error = case when d.answered_at is null then 'the doorbell was not answered' else 'the worker was lost' end
  from jobs.definitions x
  where x.job = d.job and d.ended_at is null and not jobs.drain_is_live(d, x.lease_seconds, p_now)
    and d.rung_at < p_now - interval '10 seconds';

  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.finished_at is null and r.expected is not null
    and r.expected <= (select sum(rt.processed + rt.failed) from jobs.run_tenants rt where rt.run_id = r.run_id);

  perform jobs.finish_run(r.run_id)
  from jobs.runs r
  where r.finished_at is null and r.expected is null
    and r.started_at < p_now - interval '10 seconds'
    and not exists (select from jobs.drains d where d.run_id = r.run_id and d.ended_at is null);
end
$function$;

create or replace function jobs.finish_run (
  p_run_id bigint
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  update jobs.runs r
  set finished_at = clock_timestamp(), processed = c.processed, failed = c.failed, errors = c.errors,
    status = case when c.failed > 0 and c.processed = 0 then 'error' when c.failed > 0 or c.errors <> '[]' then 'warning' else 'success' end::jobs.run_status,
    message = case
      when c.processed = 0 and c.failed = 0 and c.errors = '[]' then 'Nothing to do.'
      else format('%s done, %s failed.', c.processed, c.failed) end
  from jobs.run_counts(p_run_id) c
  where r.run_id = p_run_id and r.finished_at is null
$function$;

create or replace function jobs.guard_of (
  p_tenant_id uuid
)
  returns integer
  language sql
  immutable
  set search_path to ''
  AS $function$
  select hashtext(p_tenant_id::text) & 255
$function$;

create or replace function jobs.guards_of (
  p_job text
)
  returns integer
  language sql
  immutable
  set search_path to ''
  AS $function$
  select hashtext('onecron guard ' || p_job)
$function$;

create or replace function jobs.health()
  returns jsonb
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  with fact as (
    select clock_timestamp() as now, p.stopped, p.last_tick_at, p.tick_seconds from jobs.platform p
  ),
  reason as (
    select 'No tick has come yet.' as text from fact where fact.last_tick_at is null
    union all
    select format('The last tick came %s seconds ago; it should come every %s.',
      round(extract(epoch from fact.now - fact.last_tick_at)), fact.tick_seconds)
    from fact where fact.last_tick_at < fact.now - make_interval(secs => 3 * fact.tick_seconds + 5)
    union all
    select 'All background work is stopped by the platform''s switch.' from fact where fact.stopped
    union all
    select 'Vault lacks project_url or a cron_secret of 32 characters or more.'
    where length(coalesce(private.platform_secret('cron_secret'), '')) < 32 or coalesce(private.platform_secret('project_url'), '') = ''
    union all
    select format('%s of the last doorbells of %s were not answered.', count(*), d.job)
    from jobs.drains d, fact
    where d.rung_at > fact.now - interval '5 minutes' and d.error = 'the doorbell was not answered'
    group by d.job
    having count(*) >= 3 and count(*) > (
      select count(*) from jobs.drains ok, fact f where ok.job = d.job and ok.rung_at > f.now - interval '5 minutes' and ok.answered_at is not null)
    union all
    select format('Alert: %s', a.incident) from jobs.alerts a where a.closed_at is null and a.tenant_id is null
  )
  select jsonb_build_object(
    'healthy', not exists (select from reason),
    'reasons', coalesce((select jsonb_agg(reason.text) from reason), '[]'),
    'checked_at', clock_timestamp())
$function$;

create or replace function jobs.how_to_sleep (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_tenant_ids uuid[],
  p_paused boolean[],
  p_not_before timestamp with time zone[],
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    reason text,
    detail text,
    wake_at timestamp with time zone
  )
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
declare
  v_guarded integer[];
begin
  v_guarded := array(
    select g.guard
    from (select distinct jobs.guard_of(t) as guard from unnest(p_tenant_ids) t) g
    where pg_try_advisory_xact_lock(jobs.guards_of((p_definition).job), g.guard)
  );
  -- A new statement: its snapshot has everything that was committed by anyone who held a guard before us.
  return query
  select s.tenant_id, s.reason, s.detail,
    case
      when jobs.guard_of(s.tenant_id) = any (v_guarded) then s.wake_at
      -- Somebody is just bringing work or freeing a place: look again in a second, not when the next known item is due or never.
      else least(s.wake_at, greatest(s.not_before, p_now + interval '1 second')) end
  from (
    select j.tenant_id, l.not_before, coalesce(j.reason, case
        when n.run_at is null then 'idle'
        when l.not_before > n.run_at then case when (p_definition).has_cadence then 'cadence' else 'rate limit' end
        else coalesce(n.waiting_for, 'waiting') end) as reason,
      j.detail,
      case
        when j.reason is not null then j.wake_at
        when n.run_at is not null then greatest(n.run_at, l.not_before) end as wake_at
    from jobs.judge_lanes(p_definition, p_tenant_ids, p_paused, (p_clock).oldest_batch, p_now) j
    cross join lateral (
      select p_not_before[array_position(p_tenant_ids, j.tenant_id)] as not_before
    ) l
    left join lateral (
      select i.run_at,
        case when i.waiting_for in ('delay', 'backoff', 'quiet hours', 'rate limit') then i.waiting_for end as waiting_for
      from jobs.items i
      where i.job = (p_definition).job and i.tenant_id = j.tenant_id and i.batch_id is null
      order by i.run_at, i.item_id
      limit 1
    ) n on true
    -- Work that is ready now keeps its lane awake (it arrived just now, or its place under the cap became free).
    where j.reason is not null or n.run_at is null or n.run_at > p_now
  ) s;
end
$function$;

create or replace function jobs.judge (
  p_definition jobs.definitions,
  p_tenant_ids uuid[],
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    weight double precision,
    room integer,
    share integer,
    rate integer,
    reason text,
    detail text,
    wake_at timestamp with time zone
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select j.*
  from (
    select array_agg(l.tenant_id) as tenant_ids, array_agg(l.paused) as paused
    from jobs.lanes l
    where l.job = (p_definition).job and l.tenant_id = any (p_tenant_ids)
  ) known
  cross join lateral jobs.judge_lanes(p_definition, known.tenant_ids, known.paused, 0, p_now) j
$function$;

create or replace function jobs.judge_lanes (
  p_definition jobs.definitions,
  p_tenant_ids uuid[],
  p_paused boolean[],
  p_oldest_batch bigint,
  p_now timestamp with time zone
)
  returns table (
    tenant_id uuid,
    weight double precision,
    room integer,
    share integer,
    rate integer,
    reason text,
    detail text,
    wake_at timestamp with time zone
  )
  language plpgsql
  stable
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
#variable_conflict use_column
begin
  -- Most of what follows is about providers. A job without one has no use for it.
  if (p_definition).provider is null then
    return query
    select lane.tenant_id, lane.weight, lane.room, lane.share, null::integer,
      case when lane.is_paused or not lane.is_served then 'paused' when lane.room <= 0 then 'cap' end,
      case when lane.is_paused then 'this lane is paused' when not lane.is_served then 'the tenant is not active' end,
      null::timestamptz
    from (
      select u.tenant_id, u.is_paused,
        u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
        coalesce(p.weight, 1)::double precision as weight,
        coalesce(p.batch_share, (p_definition).batch_size) as share,
        (coalesce(p.cap, (p_definition).batch_size) - f.in_flight)::integer as room
      from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
      left join public.tenants t on t.id = u.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      cross join lateral (
        select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
        where e.tenant_id = u.tenant_id and e.job = (p_definition).job and e.batch_id >= p_oldest_batch
      ) f
    ) lane;
    return;
  end if;

  return query
  select lane.tenant_id, lane.weight, least(lane.room, lane.rate_room), lane.share, lane.rate,
    case
      when lane.is_paused or not lane.is_served then 'paused'
      when lane.parked_because is not null or lane.open_until > p_now or lane.has_no_credential then 'breaker'
      when lane.room <= 0 then 'cap'
      when lane.rate_room <= 0 then 'rate limit'
    end,
    case
      when lane.is_paused then 'this lane is paused'
      when not lane.is_served then 'the tenant is not active'
      when lane.has_no_credential then format('no %s credential', (p_definition).provider)
      when lane.parked_because is not null then lane.parked_because
      when lane.open_until > p_now then lane.open_because
    end,
    case
      when lane.is_paused or not lane.is_served or lane.has_no_credential or lane.parked_because is not null then null
      when lane.open_until > p_now then lane.open_until
      -- Wake for a turn's worth, not for every single item.
      when lane.room > 0 and lane.rate_room <= 0 then p_now + make_interval(secs => greatest(0.05,
        extract(epoch from greatest(lane.free_at, p_now) - p_now)
          - (jobs.rate_burst(lane.rate) - least(jobs.rate_burst(lane.rate), (p_definition).quantum)) * jobs.rate_interval(lane.rate)))
    end
  from (
    select u.tenant_id, u.is_paused,
      u.tenant_id = jobs.platform_id() or coalesce(t.status = 'active', false) as is_served,
      coalesce(p.weight, 1)::double precision as weight,
      p.rate_per_minute as rate,
      r.free_at,
      jobs.rate_room(p.rate_per_minute, r.free_at, p_now) as rate_room,
      b.reason as parked_because, o.open_until, o.reason as open_because,
      c.tenant_id is null and not ((p_definition).platform_allowed and pc.provider is not null) as has_no_credential,
      coalesce(p.batch_share, (p_definition).batch_size) as share,
      least(
        coalesce(p.cap, (p_definition).batch_size) - f.in_flight,
        -- An open breaker whose time is over lets one probe through.
        case when o.tenant_id is not null then 1 - f.in_flight end
      )::integer as room
    from unnest(p_tenant_ids, p_paused) as u (tenant_id, is_paused)
    left join public.tenants t on t.id = u.tenant_id
    left join public.plans p on p.plan_id = t.plan_id
    left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = (p_definition).provider
    left join private.platform_credentials pc on pc.provider = (p_definition).provider
    left join jobs.breakers b
      on b.tenant_id = case when c.tenant_id is null then jobs.platform_id() else u.tenant_id end
      and b.provider = (p_definition).provider and b.state = 'parked'
    left join jobs.breakers o on o.tenant_id = u.tenant_id and o.provider = (p_definition).provider and o.state = 'open'
    left join jobs.rates r on r.tenant_id = u.tenant_id and r.provider = (p_definition).provider
    cross join lateral (
      select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
      where e.tenant_id = u.tenant_id and e.job = (p_definition).job and e.batch_id >= p_oldest_batch
    ) f
  ) lane;
end
$function$;

create or replace function jobs.latest_slot (
  p_schedule text,
  p_zone text,
  p_from timestamp with time zone,
  p_until timestamp with time zone
)
  returns timestamp with time zone
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_step interval := interval '1 hour';
  v_latest timestamptz;
begin
  loop
    select max(s) into v_latest
    from jobs.next_slots(p_schedule, p_zone, greatest(p_from - interval '1 second', p_until - v_step), 2000) s
    where s <= p_until;
    exit when v_latest is not null or p_until - v_step < p_from;
    v_step := v_step * 8;
  end loop;
  return v_latest;
end
$function$;

create or replace function jobs.list()
  returns jsonb
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select coalesce(jsonb_agg(jsonb_build_object(
      'job', d.job, 'meaning', d.meaning, 'kind', d.kind, 'scope', d.scope, 'paused', d.paused,
      'schedule', d.schedule, 'time_zone', d.time_zone, 'next_slot_at', d.next_slot_at,
      'last_run', (
        select jsonb_build_object('run_id', r.run_id, 'trigger', r.trigger, 'status', r.status, 'started_at', r.started_at,
          'finished_at', r.finished_at, 'processed', r.processed, 'failed', r.failed, 'message', r.message)
        from jobs.runs r where r.job = d.job order by r.started_at desc limit 1)
    ) order by d.job), '[]')
  from jobs.definitions d
$function$;

create or replace function jobs.load_batch (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_items jobs.items[],
  p_now timestamp with time zone
)
  returns json
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_loaded jobs.loaded[];
  v_outcomes jsonb;
begin
  if (p_definition).load_function is not null then
    v_loaded := jobs.call_load(p_definition, p_items);
  else
    select array_agg((i.item_id,
        case when (p_definition).command is not null then jsonb_build_object('command', (p_definition).command) else i.payload end,
        null, null, false)::jobs.loaded)
    into v_loaded
    from unnest(p_items) i;
  end if;

  select jsonb_agg(case
      when l.cancel is null then jsonb_build_object('item_id', l.item_id, 'outcome', 'retry', 'error', l.reason)
      when l.cancel then jsonb_build_object('item_id', l.item_id, 'outcome', 'cancelled', 'error', l.reason)
      else jsonb_build_object('item_id', l.item_id, 'outcome', 'held', 'until', l.hold_until, 'reason', l.reason) end)
  into v_outcomes
  from unnest(v_loaded) l
  where l.cancel is not false or l.hold_until is not null;
  if v_outcomes is not null then
    perform jobs.settle(p_definition, p_batch, v_outcomes, p_now);
  end if;

  if (p_definition).provider is not null then
    -- Which credential goes out with the batch: an answer about it concerns that one, not a newer one.
    update jobs.leases e
    set credential_source = case when exists (
        select from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider) then 'tenant' else 'platform' end,
      credential_fingerprint = coalesce(
        (select c.fingerprint from public.credentials c where c.tenant_id = e.tenant_id and c.provider = (p_definition).provider),
        (select pc.fingerprint from private.platform_credentials pc where pc.provider = (p_definition).provider))
    where e.batch_id = (p_batch).batch_id;
  end if;

  return (
    select json_agg(json_build_object(
        'tenant_id', work.tenant_id,
        'slug', (select t.slug from public.tenants t where t.id = work.tenant_id),
        'credential', case when (p_definition).provider is not null
          then private.credential_for(work.tenant_id, (p_definition).provider, (p_definition).platform_allowed) end,
        'items', work.list)
      order by work.tenant_id)
    from (
      select i.tenant_id, json_agg(json_build_object('item_id', i.item_id, 'attempt', i.tries + 1,
        'trace_id', replace(i.trace_id::text, '-', ''), 'subject_id', i.subject_id, 'data', l.data) order by i.run_at, i.item_id) as list
      from unnest(p_items) i
      join unnest(v_loaded) l on l.item_id = i.item_id and not l.cancel and l.hold_until is null
      group by i.tenant_id
    ) work
  );
end
$function$;

create or replace function jobs.make_partitions (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_day date;
  v_name text;
begin
  -- A partition cannot be made for a day that already has rows in the default partition; those stay there.
  for v_day in select d::date from generate_series((p_now at time zone 'UTC')::date, (p_now at time zone 'UTC')::date + 3, interval '1 day') d loop
    v_name := format('attempts_%s', to_char(v_day, 'YYYYMMDD'));
    if to_regclass(format('jobs.%I', v_name)) is null and not exists (
      select from jobs.attempts_default a
      where a.finished_at >= v_day::timestamp at time zone 'UTC' and a.finished_at < (v_day + 1)::timestamp at time zone 'UTC'
    ) then
      execute format('create table jobs.%I partition of jobs.attempts for values from (%L) to (%L)', v_name,
        v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC');
      execute format('alter table jobs.%I enable row level security', v_name);
    end if;
  end loop;
  for v_name in
    select c.relname from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid
    where h.inhparent = 'jobs.attempts'::regclass and c.relname ~ '^attempts_[0-9]{8}$'
      and c.relname < format('attempts_%s', to_char((p_now at time zone 'UTC')::date - 30, 'YYYYMMDD'))
  loop
    execute format('drop table jobs.%I', v_name);
  end loop;
end
$function$;

create or replace function jobs.match_outcomes (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns jobs.settled[]
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[];
begin
  with held as materialized (
    select l.tenant_id, l.credential_source, u.item_id,
      l.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = l.tenant_id) as is_forgotten
    from jobs.leases l
    cross join lateral unnest(l.item_ids) as u (item_id)
    where l.batch_id = (p_batch).batch_id
  ),
  given as materialized (
    select distinct on (o.item_id) o.*
    from jsonb_to_recordset(p_outcomes) as o (
      item_id bigint, outcome text, result jsonb, error text, reason text,
      seconds numeric, after_seconds numeric, until timestamptz, cost numeric)
  )
  select array_agg((s.tenant_id, s.item_id, s.subject_id, s.class,
      s.class in ('done', 'unknown', 'refused', 'cancelled') or s.used_up,
      case when s.class = 'refused' then 'refused' when s.used_up then 'attempts used up' end,
      s.result, s.error,
      case s.class
        when 'retry' then p_now + greatest(jobs.backoff(p_definition, s.attempts), make_interval(secs => coalesce(s.after_seconds, 0)))
        when 'lost' then p_now + jobs.backoff(p_definition, s.attempts)
        when 'snoozed' then coalesce(s.until, p_now + make_interval(secs => coalesce(s.seconds, 60)))
        when 'held' then s.until
        when 'throttled' then p_now + make_interval(secs => coalesce(s.seconds, 60))
        else p_now end,
      case s.class when 'retry' then 'backoff' when 'lost' then 'backoff' when 'throttled' then 'rate limit'
        when 'credential broken' then null else left(s.reason, 200) end,
      s.attempts, s.tries, s.due_at, s.trace_id, s.credential_source, s.run_id, s.cost)::jobs.settled)
  into v_settled
  from (
    select m.*, m.class in ('retry', 'lost') and m.attempts >= (p_definition).max_attempts as used_up
    from (
      select
        i.tenant_id, i.item_id, i.subject_id, i.run_at as due_at, i.trace_id, e.credential_source,
        coalesce(i.run_id, (p_batch).run_id) as run_id, case when o.cost is not null then least(greatest(o.cost, 0), 1e9) end as cost,
        o.result, left(o.error, 500) as error, o.reason,
        -- Waiting times come from outside: never negative, never longer than 30 days. (least and greatest skip nulls.)
        least(greatest(coalesce(o.seconds, 60), 0), 2592000) as seconds, least(greatest(o.after_seconds, 0), 2592000) as after_seconds,
        case when o.until is not null then least(o.until, p_now + interval '400 days') end as until,
        -- Nobody is left to whom it would matter.
        case when e.is_forgotten then 'cancelled' else case o.outcome
          when 'done' then case when o.result ->> 'status' = 'unknown' then 'unknown' else 'done' end
          when 'snooze' then 'snoozed'
          when 'credential_broken' then 'credential broken'
          else o.outcome end end as class,
        (i.attempts + case when o.outcome in ('done', 'retry', 'refused', 'lost') then 1 else 0 end)::smallint as attempts,
        (i.tries + case when o.outcome = 'held' then 0 else 1 end) as tries
      from held e
      join given o on o.item_id = e.item_id
      cross join lateral (
        select x.tenant_id, x.item_id, x.subject_id, x.run_at, x.trace_id, x.run_id, x.attempts, x.tries
        from jobs.items x
        where x.tenant_id = e.tenant_id and x.item_id = e.item_id and x.batch_id = (p_batch).batch_id
        offset 0
      ) i
    ) m
  ) s;
  return v_settled;
end
$function$;

create or replace function jobs.next_batch (
  drain_id uuid,
  job text,
  batch_size integer default null::integer
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_batch jobs.batches;
  v_run_id bigint;
  v_now timestamptz;
  v_size integer;
  v_room integer;
  v_width integer := 1;
  v_picked integer := 0;
  v_clock jobs.clocks;
  v_got integer;
  v_found jobs.items[];
  v_items jobs.items[];
  v_tenants json;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = next_batch.job;
  if not found then
    raise exception 'There is no job "%".', next_batch.job using errcode = 'P0002';
  end if;
  if v_definition.paused or (select p.stopped from jobs.platform p) then
    return null;
  end if;
  -- A drain that was given up for lost gets nothing any more.
  update jobs.drains d set seen_at = clock_timestamp()
  where d.drain_id = next_batch.drain_id and d.job = next_batch.job and d.ended_at is null
  returning d.run_id into v_run_id;
  if not found then
    return null;
  end if;

  perform jobs.claim_lock(next_batch.job);
  v_now := clock_timestamp();
  v_size := least(greatest(coalesce(next_batch.batch_size, v_definition.batch_size), 1), 1000);
  v_size := jobs.provider_room(v_definition.provider, v_size, v_now);
  if v_definition.cap is not null then
    v_size := least(v_size, v_definition.cap - (select coalesce(sum(e.open), 0) from jobs.leases e where e.job = next_batch.job));
  end if;
  if v_size <= 0 then
    return null;
  end if;
  -- From where on to look: below these there is nothing but what others have left behind. Forgotten every 30 seconds, so that what
  -- was brought from the past (a long transaction, a price that was corrected) is found.
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job;
  if v_clock.looked_at < v_now - interval '30 seconds' then
    v_clock.looked_at := v_now;
    v_clock.due_from := '-infinity';
    v_clock.served_from := '-infinity';
  end if;
  perform jobs.wake_due_lanes(v_definition, v_clock, v_now);
  v_clock.due_from := greatest(v_clock.due_from, v_now - interval '5 seconds');
  v_clock.served_from := least(v_clock.vtime, (
    select l.vtime from jobs.lanes l
    where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    order by l.vtime limit 1));
  v_clock.oldest_batch := coalesce((
    select b.batch_id from jobs.batches b where b.job = next_batch.job and b.batch_id >= v_clock.oldest_batch order by b.batch_id limit 1
  ), v_clock.oldest_batch);
  update jobs.clocks c
  set due_from = v_clock.due_from, served_from = v_clock.served_from, oldest_batch = v_clock.oldest_batch, looked_at = v_clock.looked_at
  where c.job = next_batch.job;

  insert into jobs.batches (job, drain_id, run_id, leased_at, lease_until)
  values (next_batch.job, next_batch.drain_id, v_run_id, v_now, v_now + make_interval(secs => v_definition.lease_seconds))
  returning * into v_batch;

  -- A round may find lanes empty, or that all it picked must wait (quiet hours): go on until there is work or no lane.
  v_room := v_size;
  for v_round in 1..100 loop
    select p.picked, p.items into v_got, v_found from jobs.pick(v_definition, v_clock, v_batch.batch_id, v_room, v_width, v_now) p;
    v_items := v_items || v_found;
    v_width := least(v_width * 2, 64);
    v_picked := v_picked + coalesce(v_got, 0);
    v_room := v_room - coalesce(v_got, 0);
    if v_got is null or v_room <= 0 or v_round = 100 then
      exit when v_picked = 0;
      v_tenants := jobs.load_batch(v_definition, v_batch, v_items, v_now);
      exit when v_tenants is not null or v_got is null;
      v_picked := 0;
      v_items := null;
      v_room := v_size;
    end if;
  end loop;

  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    return null;
  end if;
  if v_definition.provider is not null then
    update jobs.batches b set loaded = true where b.batch_id = v_batch.batch_id;
    update jobs.rates r
    set free_at = greatest(r.free_at, v_now) + make_interval(secs => v_picked * jobs.rate_interval(l.rate_per_minute))
    from jobs.provider_limits l
    where r.tenant_id = jobs.everyone_id() and r.provider = v_definition.provider and l.provider = r.provider and l.rate_per_minute is not null;
  end if;
  return jsonb_build_object(
    'batch_id', v_batch.batch_id, 'job', v_batch.job, 'now', clock_timestamp(), 'lease_until', v_batch.lease_until,
    'lease_seconds', v_definition.lease_seconds, 'tenants', v_tenants);
end
$function$;

create or replace function jobs.next_slots (
  schedule text,
  time_zone text default 'UTC'::text,
  after timestamp with time zone default now(),
  count integer default 5
)
  returns SETOF timestamp with time zone
  language plpgsql
  stable
  set search_path to ''
  AS $function$
#variable_conflict use_variable
declare
  v_cron jobs.cron := jobs.parse_cron(schedule);
  v_day date;
  v_slot timestamptz;
  v_found integer := 0;
begin
  if time_zone is null or not private.is_time_zone(time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', time_zone using errcode = '22023';
  end if;
  -- A slot that a clock change moved may belong to the day before. February 29 is at most eight years away.
  for v_day in
    select d::date
    from generate_series((after at time zone time_zone)::date - 1, (after at time zone time_zone)::date + 2930, interval '1 day') d
    where extract(month from d)::integer = any (v_cron.months)
      and case
        when v_cron.any_day or v_cron.any_weekday
          then extract(day from d)::integer = any (v_cron.days) and extract(dow from d)::integer = any (v_cron.weekdays)
        else extract(day from d)::integer = any (v_cron.days) or extract(dow from d)::integer = any (v_cron.weekdays) end
  loop
    for v_slot in select s from jobs.slots_of_day(v_cron, time_zone, v_day) s where s > after order by s loop
      exit when v_found >= count;
      v_found := v_found + 1;
      return next v_slot;
    end loop;
    exit when v_found >= count;
  end loop;
end
$function$;

create or replace function jobs.next_times (
  job text,
  count integer default 5
)
  returns SETOF timestamp with time zone
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select s
  from jobs.definitions d
  cross join lateral jobs.next_slots(
    d.schedule, coalesce(d.time_zone, private.setting('default_time_zone'), 'UTC'), now(), next_times.count) s
  where d.job = next_times.job and d.schedule is not null
$function$;

create or replace function jobs.open_alert (
  p_tenant_id uuid,
  p_incident text,
  p_message text
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.alerts (tenant_id, incident, message) values (p_tenant_id, p_incident, left(p_message, 1000))
  on conflict do nothing
$function$;

create or replace function jobs.open_due_slots (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_zone text;
  v_slots timestamptz[];
  v_slot timestamptz;
  v_count integer := 0;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.next_slot_at <= p_now and not d.paused order by d.next_slot_at for update skip locked
  loop
    v_zone := coalesce(v_definition.time_zone, private.setting('default_time_zone'), 'UTC');
    -- The slots since next_slot_at; a thousand is enough to know the latest of any that matter.
    v_slots := case v_definition.misfire
      when 'all' then array(
        select s from jobs.next_slots(v_definition.schedule, v_zone, v_definition.next_slot_at - interval '1 second', 1000) s where s <= p_now order by s)
      else array[coalesce(
        jobs.latest_slot(v_definition.schedule, v_zone, v_definition.next_slot_at, p_now), v_definition.next_slot_at)] end;
    if v_definition.misfire = 'all' then
      v_slots := v_slots[greatest(1, cardinality(v_slots) - v_definition.misfire_limit + 1):];
    elsif v_definition.misfire = 'skip' and v_slots[1] < p_now - interval '2 minutes' then
      v_slots := '{}';
    end if;
    foreach v_slot in array v_slots loop
      begin
        if jobs.start_slot(v_definition, v_slot) is not null then
          v_count := v_count + 1;
        end if;
      exception when others then
        -- One job whose condition or eligibility raises must not stop the others.
        perform jobs.open_alert(null, format('schedule %s', v_definition.job),
          format('The slot %s of %s could not be started: %s', v_slot, v_definition.job, sqlerrm));
      end;
    end loop;
    update jobs.definitions d
    set next_slot_at = (select s from jobs.next_slots(v_definition.schedule, v_zone, p_now, 1) s)
    where d.job = v_definition.job;
  end loop;
  return v_count;
end
$function$;

create or replace function jobs.open_run (
  p_job text,
  p_trigger text
)
  returns bigint
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_id bigint;
begin
  if p_trigger = 'queue' then
    -- The items of a scheduled job have the run of their slot.
    if exists (select from jobs.definitions d where d.job = p_job and d.schedule is not null) then
      return null;
    end if;
    insert into jobs.runs (job, trigger) values (p_job, 'queue')
    on conflict (job) where trigger = 'queue' and finished_at is null do nothing
    returning run_id into v_run_id;
    if v_run_id is null then
      select r.run_id into v_run_id from jobs.runs r where r.job = p_job and r.trigger = 'queue' and r.finished_at is null;
    end if;
    return v_run_id;
  end if;
  insert into jobs.runs (job, trigger) values (p_job, p_trigger) returning run_id into v_run_id;
  return v_run_id;
end
$function$;

create or replace function jobs.park (
  p_tenant_id uuid,
  p_provider public.provider,
  p_fingerprint text,
  p_reason text
)
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- Only the credential that was refused. The row lock makes this wait for a change that is being made.
  if p_tenant_id = jobs.platform_id() then
    update private.platform_credentials c set health = 'broken', health_reason = left(p_reason, 500)
    where c.provider = p_provider and c.fingerprint = p_fingerprint;
  else
    update public.credentials c set health = 'broken', health_reason = left(p_reason, 500), checked_at = now()
    where c.tenant_id = p_tenant_id and c.provider = p_provider and c.fingerprint = p_fingerprint;
  end if;
  if not found then
    return false;
  end if;
  insert into jobs.breakers as b (tenant_id, provider, state, reason)
  values (p_tenant_id, p_provider, 'parked', left(p_reason, 500))
  on conflict (tenant_id, provider) do update set state = 'parked', open_until = null, reason = excluded.reason, since = now();
  update jobs.lanes l
  set awake = false, wake_at = null, reason = 'breaker', detail = left(p_reason, 200), head_at = null, head_id = null
  from (
    select x.tenant_id, x.job
    from jobs.lanes x
    join jobs.definitions d on d.job = x.job and d.provider = p_provider
    where x.tenant_id = p_tenant_id and x.reason is distinct from 'paused'
    order by x.job
    for no key update of x
  ) parked
  where l.tenant_id = parked.tenant_id and l.job = parked.job;
  perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider),
    format('The %s credential does not work: %s. Its work is parked until it is set again.', p_provider, p_reason));
  return true;
end
$function$;

create or replace function jobs.park_broken (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns uuid[]
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_owner record;
  v_tenants uuid[] := '{}';
begin
  for v_owner in
    select case when e.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as tenant_id,
      min(e.credential_fingerprint) as fingerprint, min(u.error) as error, array_agg(distinct u.tenant_id) as tenants
    from unnest(p_settled) u
    join jobs.leases e on e.batch_id = (p_batch).batch_id and e.tenant_id = u.tenant_id and e.job = (p_batch).job
    where u.outcome = 'credential broken'
    group by 1
    order by 1
  loop
    if jobs.park(v_owner.tenant_id, (p_definition).provider, v_owner.fingerprint, v_owner.error) then
      -- Tenants that lean on the platform's credential are parked one by one, as they come up.
      update jobs.lanes l
      set awake = false, wake_at = null, reason = 'breaker', detail = left(v_owner.error, 200), head_at = null, head_id = null
      from (
        select x.tenant_id from jobs.lanes x
        where x.job = (p_batch).job and x.tenant_id = any (v_owner.tenants) and x.reason is distinct from 'paused'
        order by x.tenant_id for no key update
      ) mine
      where l.job = (p_batch).job and l.tenant_id = mine.tenant_id;
      v_tenants := v_tenants || v_owner.tenants;
    end if;
  end loop;
  return v_tenants;
end
$function$;

create or replace function jobs.parse_cron (
  expression text
)
  returns jobs.cron
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_fields text[];
  v_cron jobs.cron;
  v_text text := lower(btrim(regexp_replace(expression, '\s+', ' ', 'g')));
begin
  v_text := case v_text
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *' when '@weekly' then '0 0 * * 0'
    when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *' when '@hourly' then '0 * * * *'
    else v_text end;
  if coalesce(v_text, '') = '' or v_text like '@%' then
    raise exception '"%" is not a schedule. Known words: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.', expression
      using errcode = '22023';
  end if;
  v_fields := string_to_array(v_text, ' ');
  if cardinality(v_fields) <> 5 then
    raise exception 'A schedule has five fields (minute hour day month weekday); "%" has %.', expression, cardinality(v_fields)
      using errcode = '22023';
  end if;
  v_cron.minutes := jobs.parse_cron_field(v_fields[1], 'minute', 0, 59, '{}');
  v_cron.hours := jobs.parse_cron_field(v_fields[2], 'hour', 0, 23, '{}');
  v_cron.days := jobs.parse_cron_field(v_fields[3], 'day', 1, 31, '{}');
  v_cron.months := jobs.parse_cron_field(v_fields[4], 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
  v_cron.weekdays := jobs.parse_cron_field(v_fields[5], 'weekday', 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
  -- 7 is Sunday too.
  v_cron.weekdays := array(select distinct u % 7 from unnest(v_cron.weekdays) u order by 1);
  v_cron.any_hour := v_fields[2] = '*';
  v_cron.any_day := v_fields[3] like '*%';
  v_cron.any_weekday := v_fields[5] like '*%';
  return v_cron;
end
$function$;

create or replace function jobs.parse_cron_field (
  p_field text,
  p_name text,
  p_low integer,
  p_high integer,
  p_names text[]
)
  returns integer[]
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_part text;
  v_match text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_values integer[] := '{}';
begin
  foreach v_part in array string_to_array(lower(p_field), ',') loop
    v_match := regexp_match(v_part, '^(\*|([0-9a-z]+)(-([0-9a-z]+))?)(/([0-9]{1,4}))?$');
    if v_match is null then
      raise exception 'Cron field "%": "%" is not *, a number, a range a-b or one of these with /step.', p_name, v_part using errcode = '22023';
    end if;
    v_from := case when v_match[1] = '*' then p_low else jobs.parse_cron_value(v_match[2], p_name, p_low, p_high, p_names) end;
    v_to := case
      when v_match[1] = '*' then p_high
      when v_match[4] is not null then jobs.parse_cron_value(v_match[4], p_name, p_low, p_high, p_names)
      when v_match[6] is not null then p_high
      else v_from end;
    v_step := coalesce(v_match[6]::integer, 1);
    if v_step = 0 then
      raise exception 'Cron field "%": a step of 0 in "%".', p_name, v_part using errcode = '22023';
    end if;
    if v_to < v_from then
      raise exception 'Cron field "%": the range "%" runs backwards.', p_name, v_part using errcode = '22023';
    end if;
    v_values := v_values || array(select generate_series(v_from, v_to, v_step));
  end loop;
  return array(select distinct u from unnest(v_values) u order by u);
end
$function$;

create or replace function jobs.parse_cron_value (
  p_text text,
  p_name text,
  p_low integer,
  p_high integer,
  p_names text[]
)
  returns integer
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_value integer;
begin
  if p_text ~ '^[0-9]{1,4}$' then
    v_value := p_text::integer;
  else
    -- Names count from the first value of the field (jan is 1, sun is 0).
    v_value := array_position(p_names, p_text) + p_low - 1;
  end if;
  if v_value is null or v_value not between p_low and p_high then
    raise exception 'Cron field "%": "%" is not between % and %.', p_name, p_text, p_low, p_high using errcode = '22023';
  end if;
  return v_value;
end
$function$;

create or replace function jobs.pause (
  job text,
  tenant_id uuid default null::uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  if pause.tenant_id is null then
    update jobs.definitions d set paused = true where d.job = pause.job;
    if not found then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
  else
    if not exists (select from jobs.definitions d where d.job = pause.job) then
      raise exception 'There is no job "%".', pause.job using errcode = 'P0002';
    end if;
    insert into jobs.lanes as l (tenant_id, job, reason, detail, paused) values (pause.tenant_id, pause.job, 'paused', 'this lane is paused', true)
    on conflict on constraint lanes_pkey do update
      set paused = true, awake = false, wake_at = null, reason = 'paused', detail = excluded.detail, head_at = null, head_id = null;
  end if;
  perform private.audit(pause.tenant_id, 'job.paused', jsonb_build_object('job', pause.job, 'tenant_id', pause.tenant_id));
end
$function$;

create or replace function jobs.pick (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_batch_id bigint,
  p_room integer,
  p_width integer,
  p_now timestamp with time zone,
  OUT picked integer,
  OUT items jobs.items[]
)
  returns record
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'off'
  set enable_hashjoin to 'on'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_turns integer := least(p_room, p_width * greatest(20, ceil(p_room::numeric / (p_definition).quantum)));
  v_full uuid[];
  v_lanes uuid[];
  v_places tid[];
  v_paused boolean[];
  v_not_before timestamptz[];
  v_vtimes double precision[];
  v_head_ats timestamptz[];
  v_head_ids bigint[];
  v_since timestamptz[];
  v_served uuid[];
  v_costs double precision[];
  v_to_ats timestamptz[];
  v_to_ids bigint[];
  v_tag double precision;
  v_asleep uuid[];
  v_sleeping uuid[];
  v_reasons text[];
  v_details text[];
  v_wake_ats timestamptz[];
begin
  -- A lane that has its share of this batch from an earlier round waits for the next batch.
  v_full := array(
    select e.tenant_id from jobs.leases e
    where e.batch_id = p_batch_id and e.open >= coalesce((
      select p.batch_share from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = e.tenant_id)
    ), (p_definition).batch_size));
  -- The lanes that are furthest behind. They are read once and written once: each version of a row that is left behind is one
  -- more that all who look it up must step over while somebody keeps an old snapshot.
  select array_agg(l.tenant_id), array_agg(l.ctid), array_agg(l.paused), array_agg(l.not_before), array_agg(l.vtime),
    array_agg(case when l.is_fresh then l.head_at else '-infinity' end), array_agg(case when l.is_fresh then l.head_id else 0 end),
    array_agg(case when l.is_fresh then l.head_since else p_now end)
  into v_lanes, v_places, v_paused, v_not_before, v_vtimes, v_head_ats, v_head_ids, v_since
  from (
    select x.*, x.ctid, x.head_at is not null and x.head_since > p_now - interval '30 seconds' as is_fresh
    from jobs.lanes x
    where x.job = (p_definition).job and x.awake and x.vtime >= (p_clock).served_from and x.tenant_id <> all (v_full)
    order by x.vtime, x.tenant_id
    limit v_turns
    for no key update skip locked
  ) l;
  if v_lanes is null then
    return;
  end if;
  -- Another job of the same provider draws on the same limits: whoever reads them next waits until we have written.
  if (p_definition).provider is not null then
    perform from jobs.rates r
    where r.tenant_id = any (v_lanes) and r.provider = (p_definition).provider
    order by r.tenant_id
    for update;
  end if;

  with lane as materialized (
    select u.tenant_id, u.vtime, j.weight, least(j.room, j.share - coalesce(e.open, 0)) as room, j.rate, j.reason, u.head_at, u.head_id
    from unnest(v_lanes, v_vtimes, v_head_ats, v_head_ids) as u (tenant_id, vtime, head_at, head_id)
    join jobs.judge_lanes(p_definition, v_lanes, v_paused, (p_clock).oldest_batch, p_now) j on j.tenant_id = u.tenant_id
    left join lateral (
      select x.open from jobs.leases x
      where x.tenant_id = u.tenant_id and x.job = (p_definition).job and x.batch_id = p_batch_id
      offset 0
    ) e on true
  ),
  -- Each turn of a lane starts quantum ÷ weight after its turn before: the earliest turns.
  turn as (
    select lane.tenant_id
    from lane
    cross join lateral generate_series(0, (least(lane.room, p_room) - 1) / (p_definition).quantum) as turn (n)
    where lane.reason is null
    order by lane.vtime + turn.n * (p_definition).quantum / lane.weight, lane.tenant_id
    limit v_turns
  ),
  share as materialized (
    select lane.tenant_id, lane.weight, lane.vtime, lane.rate, lane.head_at, lane.head_id,
      least(lane.room, turns.n * (p_definition).quantum) as wanted
    from (select turn.tenant_id, count(*) as n from turn group by turn.tenant_id) turns
    join lane on lane.tenant_id = turns.tenant_id
  ),
  -- What these turns find: the oldest ready items of each lane, from its watermark on.
  found as materialized (
    select share.tenant_id, i.place, i.position,
      share.vtime + (i.position - 1) / (p_definition).quantum * (p_definition).quantum / share.weight as tag
    from share
    cross join lateral (
      select r.ctid as place, row_number() over (order by r.run_at, r.item_id) as position
      from jobs.items r
      where r.job = (p_definition).job and r.tenant_id = share.tenant_id and r.batch_id is null
        and r.run_at <= p_now and (r.run_at, r.item_id) > (share.head_at, share.head_id)
      order by r.run_at, r.item_id
      limit share.wanted
    ) i
  ),
  candidate as materialized (
    select f.tenant_id, f.place, f.tag from found f order by f.tag, f.tenant_id, f.position limit p_room
  ),
  -- By their places: a join could begin with all items that wait.
  leased as materialized (
    update jobs.items i
    set batch_id = p_batch_id, waiting_for = null
    where i.ctid = any (array(select candidate.place from candidate)) and i.batch_id is null
    returning i.tenant_id, i.item_id, i.run_at, i as item
  ),
  served as materialized (
    select l.tenant_id, cardinality(l.item_ids) as items, l.item_ids, l.head_at, l.item_ids[cardinality(l.item_ids)] as head_id
    from (
      select leased.tenant_id, array_agg(leased.item_id order by leased.run_at, leased.item_id) as item_ids, max(leased.run_at) as head_at
      from leased
      group by leased.tenant_id
    ) l
  ),
  noted as (
    insert into jobs.leases as e (tenant_id, job, batch_id, item_ids, open)
    select served.tenant_id, (p_definition).job, p_batch_id, served.item_ids, served.items
    from served
    on conflict (tenant_id, job, batch_id) do update
      set item_ids = e.item_ids || excluded.item_ids, open = e.open + excluded.open
  ),
  rated as (
    insert into jobs.rates as r (tenant_id, provider, free_at)
    select served.tenant_id, (p_definition).provider, p_now + make_interval(secs => served.items * jobs.rate_interval(share.rate))
    from served
    join share on share.tenant_id = served.tenant_id
    where share.rate is not null
    order by served.tenant_id
    on conflict (tenant_id, provider) do update
      set free_at = greatest(r.free_at, p_now) + (excluded.free_at - p_now)
  ),
  held as (
    select found.tenant_id, count(*) as items from found group by found.tenant_id
  )
  select coalesce(sum(served.items), 0), (select array_agg(leased.item) from leased), (select max(candidate.tag) from candidate),
    array_agg(lane.tenant_id) filter (where served.items > 0), array_agg(served.items / lane.weight) filter (where served.items > 0),
    array_agg(served.head_at) filter (where served.items > 0), array_agg(served.head_id) filter (where served.items > 0),
    -- No more than this is ready, or nothing may be served: these lanes need a closer look.
    array_agg(lane.tenant_id) filter (where lane.reason is not null
      or (coalesce(held.items, 0) < share.wanted and coalesce(served.items, 0) = coalesce(held.items, 0)))
  into picked, items, v_tag, v_served, v_costs, v_to_ats, v_to_ids, v_asleep
  from lane
  left join share on share.tenant_id = lane.tenant_id
  left join held on held.tenant_id = lane.tenant_id
  left join served on served.tenant_id = lane.tenant_id;

  if v_asleep is not null then
    select array_agg(s.tenant_id), array_agg(s.reason), array_agg(s.detail), array_agg(s.wake_at)
    into v_sleeping, v_reasons, v_details, v_wake_ats
    from jobs.how_to_sleep(p_definition, p_clock, v_asleep,
      array(select v_paused[array_position(v_lanes, u)] from unnest(v_asleep) with ordinality as a (u, n) order by n),
      array(select v_not_before[array_position(v_lanes, u)] from unnest(v_asleep) with ordinality as a (u, n) order by n), p_now) s;
  end if;
  v_served := coalesce(v_served, '{}');
  v_asleep := coalesce(v_asleep, '{}');
  v_sleeping := coalesce(v_sleeping, '{}');
  update jobs.lanes l
  set vtime = l.vtime + coalesce(v_costs[array_position(v_served, l.tenant_id)], 0),
    -- A lane that turns out to have more forgets its watermark: the ready item may lie before it.
    head_at = case when l.tenant_id = any (v_asleep) then null else v_to_ats[array_position(v_served, l.tenant_id)] end,
    head_id = case when l.tenant_id = any (v_asleep) then null else v_to_ids[array_position(v_served, l.tenant_id)] end,
    head_since = v_since[array_position(v_lanes, l.tenant_id)],
    awake = l.tenant_id <> all (v_sleeping),
    reason = v_reasons[array_position(v_sleeping, l.tenant_id)],
    detail = v_details[array_position(v_sleeping, l.tenant_id)],
    wake_at = v_wake_ats[array_position(v_sleeping, l.tenant_id)]
  -- The rows are locked, so they are where they were.
  where l.ctid = any (v_places) and l.job = (p_definition).job and (l.tenant_id = any (v_served) or l.tenant_id = any (v_asleep));
  if picked > 0 then
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    update jobs.clocks c set vtime = greatest(c.vtime, v_tag) where c.job = (p_definition).job;
  end if;
end
$function$;

create or replace function jobs.platform_id()
  returns uuid
  language sql
  immutable
  set search_path to ''
  AS $function$
  select '00000000-0000-0000-0000-000000000000'::uuid
$function$;

create or replace function jobs.provider_is_down (
  p_provider public.provider
)
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (
    select from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider and b.state = 'open')
$function$;

create or replace function jobs.provider_room (
  p_provider public.provider,
  p_size integer,
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_breaker jobs.breakers;
  v_rate integer;
  v_free_at timestamptz;
begin
  if p_provider is null then
    return p_size;
  end if;
  select b.* into v_breaker from jobs.breakers b where b.tenant_id = jobs.everyone_id() and b.provider = p_provider;
  if v_breaker.state = 'open' then
    -- After its time one item of one tenant probes; everybody else waits for what comes of it.
    return case when v_breaker.open_until <= p_now and not exists (
      select from jobs.leases e join jobs.definitions d on d.job = e.job where d.provider = p_provider) then 1 else 0 end;
  elsif v_breaker.state = 'recovering' then
    -- No stampede: from one item to a full batch within a minute.
    p_size := least(p_size, greatest(1, ceil(p_size * extract(epoch from p_now - v_breaker.since) / 60)::integer));
  end if;
  select l.rate_per_minute into v_rate from jobs.provider_limits l where l.provider = p_provider;
  if v_rate is not null then
    insert into jobs.rates (tenant_id, provider, free_at) values (jobs.everyone_id(), p_provider, p_now) on conflict do nothing;
    select r.free_at into v_free_at from jobs.rates r where r.tenant_id = jobs.everyone_id() and r.provider = p_provider for update;
    p_size := least(p_size, jobs.rate_room(v_rate, v_free_at, p_now));
  end if;
  return greatest(p_size, 0);
end
$function$;

create or replace function jobs.queue_state (
  p_tenant_ids uuid[] default null::uuid[]
)
  returns table (
    tenant_id uuid,
    job text,
    plan_id text,
    awake boolean,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    ready bigint,
    waiting bigint,
    in_flight bigint,
    oldest_ready_seconds numeric,
    dead bigint
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select l.tenant_id, l.job, t.plan_id, l.awake, l.reason, l.detail, l.wake_at,
    coalesce(i.ready, 0), coalesce(i.waiting, 0), coalesce(f.open, 0), i.oldest_ready_seconds, coalesce(d.dead, 0)
  from jobs.lanes l
  left join public.tenants t on t.id = l.tenant_id
  left join lateral (
    select count(*) filter (where i.run_at <= now()) as ready, count(*) filter (where i.run_at > now()) as waiting,
      round(extract(epoch from now() - min(i.run_at) filter (where i.run_at <= now())), 1) as oldest_ready_seconds
    from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null
  ) i on true
  left join lateral (select sum(e.open) as open from jobs.leases e where e.tenant_id = l.tenant_id and e.job = l.job) f on true
  left join lateral (select count(*) as dead from jobs.dead_items x where x.tenant_id = l.tenant_id and x.job = l.job) d on true
  where p_tenant_ids is null or l.tenant_id = any (p_tenant_ids)
$function$;

create or replace function jobs.rate_burst (
  p_rate integer
)
  returns integer
  language sql
  immutable
  set search_path to ''
  AS $function$
  select greatest(1, p_rate / 10)
$function$;

create or replace function jobs.rate_interval (
  p_rate integer
)
  returns double precision
  language sql
  immutable
  set search_path to ''
  AS $function$
  select 60.0 / greatest(1, p_rate - jobs.rate_burst(p_rate))
$function$;

create or replace function jobs.rate_room (
  p_rate integer,
  p_free_at timestamp with time zone,
  p_now timestamp with time zone
)
  returns integer
  language sql
  immutable
  set search_path to ''
  AS $function$
  -- No limit is null, and greatest skips nulls: say so.
  select case when p_rate is not null
    then floor(jobs.rate_burst(p_rate) - extract(epoch from greatest(p_free_at, p_now) - p_now) / jobs.rate_interval(p_rate))::integer end
$function$;

create or replace function jobs.reap (
  p_now timestamp with time zone,
  p_limit integer default 50
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  for v_batch in
    select b.* from jobs.batches b where b.lease_until <= p_now order by b.lease_until limit p_limit for update skip locked
  loop
    -- A batch that cannot be taken back now (a client holds one of its lanes) must not stop the tick.
    begin
      perform set_config('lock_timeout', '200ms', true);
      select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
      select jsonb_agg(case
          when i.begun and v_definition.effects then jsonb_build_object('item_id', i.item_id, 'outcome', 'done', 'result',
            jsonb_build_object('status', 'unknown', 'reason', 'the worker was lost after the call began'))
          else jsonb_build_object('item_id', i.item_id, 'outcome', 'lost', 'error', 'the lease ran out') end)
      into v_outcomes
      from jobs.leases e
      cross join lateral unnest(e.item_ids) as u (item_id)
      cross join lateral (
        select x.item_id, x.begun from jobs.items x
        where x.tenant_id = e.tenant_id and x.item_id = u.item_id and x.batch_id = v_batch.batch_id
        offset 0
      ) i
      where e.batch_id = v_batch.batch_id;
      if v_outcomes is not null then
        v_count := v_count + jobs.settle(v_definition, v_batch, v_outcomes, p_now);
      end if;
      delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    exception
      when lock_not_available or deadlock_detected then
        null; -- the next tick
      when others then
        perform jobs.open_alert(null, format('reap %s', v_batch.job), format('A batch of %s could not be taken back: %s', v_batch.job, sqlerrm));
        -- Others get their turn first.
        update jobs.batches b set lease_until = p_now + interval '1 minute' where b.batch_id = v_batch.batch_id;
    end;
  end loop;
  perform set_config('lock_timeout', '2s', true);
  return v_count;
end
$function$;

create or replace function jobs.remove_platform_admin (
  user_id uuid
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  delete from private.platform_admins a where a.user_id = remove_platform_admin.user_id;
  if not found then
    return false;
  end if;
  perform private.audit(null, 'platform_admin.removed', jsonb_build_object('user_id', remove_platform_admin.user_id));
  return true;
end
$function$;

create or replace function jobs.replay (
  job text,
  tenant_id uuid default null::uuid,
  reason text default null::text,
  died_after timestamp with time zone default null::timestamp with time zone,
  dry_run boolean default true
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenants uuid[];
  v_count integer;
begin
  perform jobs.require_read_committed();
  if not exists (select from jobs.definitions d where d.job = replay.job) then
    raise exception 'There is no job "%".', replay.job using errcode = 'P0002';
  end if;
  if replay.dry_run then
    return (
      select count(*) from jobs.dead_items d
      where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
        and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after));
  end if;
  v_tenants := array(
    select distinct d.tenant_id from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id) order by 1);
  perform jobs.take_guards(replay.job, v_tenants);
  -- Whoever deletes the dead row revives it: of two replays at once, one finds it gone.
  with revived as (
    delete from jobs.dead_items d
    where d.job = replay.job and (replay.tenant_id is null or d.tenant_id = replay.tenant_id)
      and (replay.reason is null or d.reason = replay.reason) and (replay.died_after is null or d.died_at >= replay.died_after)
      and d.tenant_id = any (v_tenants)
    returning d.*
  ),
  back as (
    insert into jobs.items (tenant_id, item_id, job, subject_id, run_at, enqueued_at, tries, last_error, dedupe_key, trace_id, payload)
    overriding system value
    select r.tenant_id, r.item_id, r.job, r.subject_id, now(), r.enqueued_at, r.tries, r.last_error, r.dedupe_key, r.trace_id, r.payload
    from revived r
    on conflict do nothing
    returning items.tenant_id, items.item_id
  ),
  -- One whose dedupe key is in use again stays dead: its work is under way already.
  still_dead as (
    insert into jobs.dead_items
    select r.* from revived r where not exists (select from back b where b.tenant_id = r.tenant_id and b.item_id = r.item_id)
  )
  select count(*), array_agg(distinct b.tenant_id order by b.tenant_id) into v_count, v_tenants from back b;
  if v_count > 0 then
    perform jobs.wake_lanes(replay.job, v_tenants, array(select now() from unnest(v_tenants)));
  end if;
  perform private.audit(replay.tenant_id, 'items.replayed', jsonb_build_object(
    'job', replay.job, 'tenant_id', replay.tenant_id, 'reason', replay.reason, 'died_after', replay.died_after, 'items', v_count));
  return v_count;
end
$function$;

create or replace function jobs.require_read_committed()
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'Claims, closes and ticks run in read committed, not in %.', current_setting('transaction_isolation') using errcode = '25001';
  end if;
end
$function$;

create or replace function jobs.resume (
  job text,
  tenant_id uuid default null::uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
begin
  if resume.tenant_id is null then
    update jobs.definitions d set paused = false where d.job = resume.job;
    if not found then
      raise exception 'There is no job "%".', resume.job using errcode = 'P0002';
    end if;
  else
    perform jobs.take_guards(resume.job, array[resume.tenant_id]);
    update jobs.lanes l set paused = false, wake_at = greatest(clock_timestamp(), l.not_before), reason = 'waiting', detail = null
    where l.tenant_id = resume.tenant_id and l.job = resume.job and l.paused;
  end if;
  perform private.audit(resume.tenant_id, 'job.resumed', jsonb_build_object('job', resume.job, 'tenant_id', resume.tenant_id));
end
$function$;

create or replace function jobs.return_batch (
  batch_id bigint
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_outcomes jsonb;
  v_count integer := 0;
begin
  select b.* into v_batch from jobs.batches b where b.batch_id = return_batch.batch_id for update;
  if not found then
    return 0;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  select jsonb_agg(jsonb_build_object('item_id', i.item_id, 'outcome', 'held', 'until', clock_timestamp())) into v_outcomes
  from jobs.leases e
  cross join lateral unnest(e.item_ids) as u (item_id)
  join jobs.items i on i.tenant_id = e.tenant_id and i.item_id = u.item_id and i.batch_id = v_batch.batch_id and not i.begun
  where e.batch_id = v_batch.batch_id;
  if v_outcomes is not null then
    v_count := jobs.settle(v_definition, v_batch, v_outcomes, clock_timestamp());
  end if;
  delete from jobs.batches b
  where b.batch_id = v_batch.batch_id and not exists (select from jobs.leases e where e.batch_id = v_batch.batch_id);
  return v_count;
end
$function$;

create or replace function jobs.ring (
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_definition jobs.definitions;
  v_wanted integer;
  v_url text;
  v_secret text;
  v_count integer := 0;
begin
  for v_definition in select d.* from jobs.definitions d where d.kind <> 'sql' and not d.paused order by d.job loop
    -- As many drains as there are batches waiting. What is counted is bounded: up to as many lanes as max_drains full batches could
    -- have, and the items of a sample of them.
    select least(v_definition.max_drains, ceil(coalesce(avg(ready.items) * min(waiting.lanes), 0) / v_definition.batch_size)) into v_wanted
    from (
      select lane.tenant_id, row_number() over () as position, count(*) over () as lanes
      from (
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.awake
          order by l.vtime limit v_definition.batch_size * v_definition.max_drains)
        union all
        (select l.tenant_id from jobs.lanes l where l.job = v_definition.job and l.wake_at <= p_now
          order by l.wake_at limit v_definition.batch_size * v_definition.max_drains)
      ) lane
    ) waiting
    cross join lateral (
      select count(*) as items
      from (
        select from jobs.items i
        where i.job = v_definition.job and i.tenant_id = waiting.tenant_id and i.batch_id is null and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit greatest(v_definition.quantum, v_definition.batch_size * v_definition.max_drains / waiting.lanes)
      ) few
    ) ready
    where waiting.position <= 100;
    continue when v_wanted = 0 or jobs.provider_room(v_definition.provider, 1, p_now) = 0;
    v_wanted := v_wanted - (
      select count(*) from jobs.drains d
      where d.job = v_definition.job and d.ended_at is null and jobs.drain_is_live(d, v_definition.lease_seconds, p_now));
    continue when v_wanted <= 0;

    v_url := coalesce(v_url, private.platform_secret('project_url'));
    v_secret := coalesce(v_secret, private.platform_secret('cron_secret'));
    if coalesce(v_url, '') = '' or length(coalesce(v_secret, '')) < 32 then
      perform jobs.open_alert(null, 'doorbell', 'Vault needs the secrets project_url and cron_secret (32 characters or more): no doorbell can be rung.');
      return v_count;
    end if;
    for v_n in 1..v_wanted loop
      perform jobs.ring_once(v_definition.job, v_url, v_secret, p_now);
      v_count := v_count + 1;
    end loop;
  end loop;
  return v_count;
end
$function$;

create or replace function jobs.ring_once (
  p_job text,
  p_url text,
  p_secret text,
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_ticket uuid := gen_random_uuid();
  v_body jsonb := jsonb_build_object('ticket', v_ticket);
  v_seconds text := floor(extract(epoch from p_now))::bigint::text;
  v_request_id bigint;
begin
  v_request_id := net.http_post(
    url := rtrim(p_url, '/') || '/functions/v1/worker',
    body := v_body,
    headers := jsonb_build_object(
      'Content-Type', 'application/json',
      -- pg_net sends exactly the text of the jsonb, so that is what is signed. The secret itself never enters the queue.
      'x-onecron-signature', format('t=%s,v1=%s', v_seconds,
        encode(extensions.hmac(convert_to(v_seconds || '.' || v_body::text, 'UTF8'), convert_to(p_secret, 'UTF8'), 'sha256'), 'hex'))),
    timeout_milliseconds := 2000);
  insert into jobs.drains (drain_id, job, rung_at, request_id) values (v_ticket, p_job, p_now, v_request_id);
end
$function$;

create or replace function jobs.run_counts (
  p_run_id bigint
)
  returns table (
    processed bigint,
    failed bigint,
    errors jsonb
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce(sum(rt.processed), 0)::bigint, coalesce(sum(rt.failed), 0)::bigint,
    (select coalesce(jsonb_agg(x.error), '[]')
     from (
       select e - 'run_id' as error
       from jobs.runs r
       join jobs.drains d on d.job = r.job and coalesce(d.ended_at, 'infinity') >= r.started_at
       cross join lateral jsonb_array_elements(d.errors) e
       where r.run_id = p_run_id and (e ->> 'run_id')::bigint = p_run_id
       limit 20
     ) x)
  from jobs.run_tenants rt
  where rt.run_id = p_run_id
$function$;

create or replace function jobs.run_now (
  job text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_run_id bigint;
  v_drain_id uuid;
begin
  select d.* into v_definition from jobs.definitions d where d.job = run_now.job;
  if not found then
    raise exception 'There is no job "%".', run_now.job using errcode = 'P0002';
  end if;
  if v_definition.paused then
    raise exception 'The job "%" is paused. Resume it first.', run_now.job using errcode = '55000';
  end if;
  -- A run by hand does not wait for the cadence.
  update jobs.lanes l
  set wake_at = now(), not_before = '-infinity', reason = 'waiting'
  from (
    select s.tenant_id from jobs.lanes s where s.job = run_now.job and s.reason = 'cadence' order by s.tenant_id for no key update
  ) resting
  where l.job = run_now.job and l.tenant_id = resting.tenant_id;
  -- A scheduled job has nothing waiting between its slots: by hand it gets one of its own.
  v_run_id := case when v_definition.schedule is null then jobs.open_run(run_now.job, 'manual')
    else jobs.start_slot(v_definition, clock_timestamp(), 'manual') end;
  insert into jobs.drains (job, run_id, answered_at, seen_at) values (run_now.job, v_run_id, clock_timestamp(), clock_timestamp())
  returning drains.drain_id into v_drain_id;
  perform private.audit(null, 'job.run_now', jsonb_build_object('job', run_now.job, 'run_id', v_run_id));
  return jsonb_build_object('run_id', v_run_id, 'drain_id', v_drain_id, 'kind', v_definition.kind);
end
$function$;

create or replace function jobs.run_result (
  run_id bigint
)
  returns jsonb
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'message', coalesce(r.message, 'Still running.'),
    'results', jsonb_build_object('processed', c.processed, 'errors', c.errors),
    'timestamp', coalesce(r.finished_at, clock_timestamp()))
  from jobs.runs r
  cross join lateral jobs.run_counts(r.run_id) c
  where r.run_id = run_result.run_id
$function$;

create or replace function jobs.service_report (
  p_since timestamp with time zone,
  p_tenant_ids uuid[] default null::uuid[]
)
  returns table (
    job text,
    tenant_id uuid,
    plan_id text,
    tries bigint,
    succeeded bigint,
    success_rate numeric,
    per_minute numeric,
    wait_p50_seconds numeric,
    wait_p95_seconds numeric,
    wait_p99_seconds numeric,
    target_seconds integer,
    within_target numeric
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select a.job, a.tenant_id, t.plan_id, count(*), count(*) filter (where a.outcome = 'done'),
    round(count(*) filter (where a.outcome = 'done')::numeric / count(*), 4),
    round(count(*) / greatest(extract(epoch from now() - p_since) / 60, 1), 2),
    round(percentile_cont(0.5) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.95) within group (order by w.seconds)::numeric, 3),
    round(percentile_cont(0.99) within group (order by w.seconds)::numeric, 3),
    p.target_seconds,
    round(count(*) filter (where w.seconds <= p.target_seconds)::numeric / count(*), 4)
  from jobs.attempts a
  left join public.tenants t on t.id = a.tenant_id
  left join public.plans p on p.plan_id = t.plan_id
  cross join lateral (select greatest(extract(epoch from a.started_at - a.due_at), 0)::double precision as seconds) w
  where a.finished_at >= p_since and a.outcome <> 'cancelled' and (p_tenant_ids is null or a.tenant_id = any (p_tenant_ids))
  group by a.job, a.tenant_id, t.plan_id, p.target_seconds
$function$;

create or replace function jobs.set_call_limit (
  name text,
  calls integer,
  seconds integer
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  update private.call_limits l set calls = set_call_limit.calls, seconds = set_call_limit.seconds where l.name = set_call_limit.name;
  if not found then
    raise exception 'There is no limit "%". Known: %.', set_call_limit.name,
      (select string_agg(l.name, ', ' order by l.name) from private.call_limits l)
      using errcode = 'P0002';
  end if;
  perform private.audit(null, 'call_limit.set', jsonb_build_object('name', set_call_limit.name, 'calls', set_call_limit.calls, 'seconds', set_call_limit.seconds));
end
$function$;

create or replace function jobs.set_plan (
  tenant_id uuid,
  plan_id text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  update public.tenants t set plan_id = set_plan.plan_id where t.id = set_plan.tenant_id;
  if not found then
    raise exception 'There is no tenant %.', set_plan.tenant_id using errcode = 'P0002';
  end if;
  perform private.audit(set_plan.tenant_id, 'plan.changed', jsonb_build_object('plan_id', set_plan.plan_id));
end
$function$;

create or replace function jobs.set_platform_credential (
  provider public.provider,
  kind text,
  secret jsonb,
  account jsonb default '{}'::jsonb
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_secret_id uuid;
  v_fingerprint text := left(encode(sha256(convert_to(secret::text, 'UTF8')), 'hex'), 12);
begin
  perform private.check_credential(set_platform_credential.provider, set_platform_credential.kind, secret, account);
  v_secret_id := private.keep_secret(format('credential/platform/%s', set_platform_credential.provider), secret::text);
  insert into private.platform_credentials as c (provider, kind, account, secret_id, fingerprint)
  values (set_platform_credential.provider, set_platform_credential.kind, set_platform_credential.account, v_secret_id, v_fingerprint)
  on conflict on constraint platform_credentials_pkey do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      health = 'unchecked', health_reason = null, updated_at = now();
  perform jobs.unpark(jobs.platform_id(), set_platform_credential.provider);
  perform private.audit(null, 'platform_credential.set',
    jsonb_build_object('provider', set_platform_credential.provider, 'kind', set_platform_credential.kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('provider', set_platform_credential.provider, 'fingerprint', v_fingerprint);
end
$function$;

create or replace function jobs.set_setting (
  name text,
  value text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  update private.settings s set value = set_setting.value where s.name = set_setting.name;
  if not found then
    raise exception 'There is no setting "%". Known: %.', set_setting.name,
      (select string_agg(s.name, ', ' order by s.name) from private.settings s)
      using errcode = 'P0002';
  end if;
end
$function$;

create or replace function jobs.settle (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_outcomes jsonb,
  p_now timestamp with time zone
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_settled jobs.settled[];
  v_tenant_ids uuid[];
  v_parked uuid[];
  v_unknown text;
  v_comes_back boolean;
  v_back record;
begin
  select o.outcome into v_unknown
  from jsonb_to_recordset(p_outcomes) as o (outcome text)
  where o.outcome is null or o.outcome not in (
    'done', 'retry', 'refused', 'snooze', 'throttled', 'credential_broken', 'lost', 'held', 'cancelled')
  limit 1;
  if found then
    raise exception 'Unknown outcome "%".', coalesce(v_unknown, 'null') using errcode = '22023';
  end if;

  v_tenant_ids := array(select distinct e.tenant_id from jobs.leases e where e.batch_id = (p_batch).batch_id order by e.tenant_id);
  perform jobs.take_guards((p_batch).job, v_tenant_ids);

  v_settled := jobs.match_outcomes(p_definition, p_batch, p_outcomes, p_now);
  if v_settled is null then
    return 0;
  end if;

  if (p_definition).apply_function is not null then
    v_settled := jobs.apply_ended(p_definition, v_settled);
  end if;

  -- First what concerns whole providers, so that two jobs of one provider take the rows of breakers and lanes in the same order.
  v_parked := '{}';
  if (p_definition).provider is not null then
    v_parked := jobs.park_broken(p_definition, p_batch, v_settled);
    -- An item that could not be loaded says nothing about the provider.
    if exists (select from jobs.batches b where b.batch_id = (p_batch).batch_id and b.loaded) then
      perform jobs.count_failures(p_definition, v_settled, p_now);
    end if;
  end if;

  perform jobs.write_settled(p_batch, v_settled);

  perform jobs.count_run(p_batch, v_settled);

  -- Lanes: places became free, items came back, a provider said not now. Only rows that change are locked, once, in tenant order.
  v_comes_back := exists (select from unnest(v_settled) u where not u.ends);
  perform from jobs.lanes l
  where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids)
    and (l.reason = 'cap' or (p_definition).cost_unit <> 'items' or (v_comes_back and
      exists (select from unnest(v_settled) u where u.tenant_id = l.tenant_id and not u.ends and (not l.awake or u.outcome = 'throttled'))))
  order by l.tenant_id for no key update;
  update jobs.lanes l set wake_at = greatest(p_now, l.not_before), reason = 'waiting', detail = null
  where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids) and l.reason = 'cap';

  if v_comes_back then
    for v_back in
      select s.waiting_for, array_agg(s.tenant_id order by s.tenant_id) as tenant_ids, array_agg(s.run_at order by s.tenant_id) as run_ats
      from (
        select u.tenant_id, min(u.run_at) as run_at, (array_agg(u.waiting_for order by u.run_at))[1] as waiting_for
        from unnest(v_settled) u
        where not u.ends and u.outcome <> 'throttled' and not (u.outcome = 'credential broken' and u.tenant_id = any (v_parked))
        group by u.tenant_id
      ) s
      group by s.waiting_for
    loop
      perform jobs.wake_lanes((p_batch).job, v_back.tenant_ids, v_back.run_ats,
        case when v_back.waiting_for in ('backoff', 'quiet hours') then v_back.waiting_for else 'waiting' end);
    end loop;

    perform jobs.throttle_lanes((p_batch).job, v_settled);
  end if;

  -- A lane was charged by items when they were handed out; where the job charges by another unit, the difference follows now.
  if (p_definition).cost_unit <> 'items' then
    for v_back in
      select c.tenant_id, (c.cost - c.items) / coalesce((
          select p.weight from public.plans p where p.plan_id = (select t.plan_id from public.tenants t where t.id = c.tenant_id)
        ), 1)::double precision as cost
      from (
        select u.tenant_id, count(*) as items, sum(coalesce(u.cost, 1))::double precision as cost
        from unnest(v_settled) u
        where u.outcome <> 'held'
        group by u.tenant_id
      ) c
    loop
      -- Not below what claims look at.
      update jobs.lanes l set vtime = greatest((select c.vtime from jobs.clocks c where c.job = l.job), l.vtime + v_back.cost)
      where l.tenant_id = v_back.tenant_id and l.job = (p_batch).job and v_back.cost <> 0;
    end loop;
  end if;
  return cardinality(v_settled);
end
$function$;

create or replace function jobs.slots_of_day (
  p_cron jobs.cron,
  p_time_zone text,
  p_day date
)
  returns SETOF timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  with midnight as (
    select p_day::timestamp at time zone p_time_zone as starts, (p_day + 1)::timestamp at time zone p_time_zone as ends
  ),
  wanted as (
    select p_day + make_interval(hours => h, mins => m) as local
    from unnest((p_cron).hours) h, unnest((p_cron).minutes) m
  )
  -- A plain day, or fixed hours: each local time once. Postgres takes the second of two equal times: look for the first.
  select distinct coalesce(
    (select min(earlier.at)
     from (select w.local at time zone p_time_zone - d as at from unnest(array[interval '30 minutes', interval '1 hour', interval '2 hours']) d) earlier
     where earlier.at at time zone p_time_zone = w.local),
    w.local at time zone p_time_zone)
  from wanted w, midnight
  where not ((p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours')
  union all
  -- A day with a clock change and a schedule for every hour: every minute that the wall clock shows.
  select t.at
  from midnight, generate_series(midnight.starts, midnight.ends - interval '1 minute', interval '1 minute') as t (at)
  where (p_cron).any_hour and midnight.ends - midnight.starts <> interval '24 hours'
    and extract(minute from t.at at time zone p_time_zone)::integer = any ((p_cron).minutes)
$function$;

create or replace function jobs.start_slot (
  p_definition jobs.definitions,
  p_slot timestamp with time zone,
  p_trigger text default 'schedule'::text
)
  returns bigint
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_run_id bigint;
  v_tenant_ids uuid[];
  v_wanted boolean;
  v_payload jsonb := jsonb_build_object('slot', p_slot);
begin
  if (p_definition).condition_function is not null and p_trigger = 'schedule' then
    execute format('select %s()', (p_definition).condition_function::regproc) into v_wanted;
    if v_wanted is not true then
      return null;
    end if;
  end if;
  -- The slot is unique: whoever comes second, a tick that overlaps or a catch-up, makes no second run.
  insert into jobs.runs (job, trigger, slot)
  values ((p_definition).job, p_trigger, case when p_trigger = 'schedule' then p_slot end)
  on conflict (job, slot) do nothing
  returning run_id into v_run_id;
  if v_run_id is null then
    return null;
  end if;

  if (p_definition).scope = 'platform' then
    v_tenant_ids := array[jobs.platform_id()];
  elsif (p_definition).eligible_function is not null then
    execute format('select array(select t.id from %s() e join public.tenants t on t.id = e where t.status = ''active'' order by t.id)',
      (p_definition).eligible_function::regproc) into v_tenant_ids;
  else
    v_tenant_ids := array(select t.id from public.tenants t where t.status = 'active' order by t.id);
  end if;

  if cardinality(v_tenant_ids) > 0 then
    perform jobs.take_guards((p_definition).job, v_tenant_ids);
    insert into jobs.items (tenant_id, job, run_id, run_at, payload)
    select u, (p_definition).job, v_run_id, now(), v_payload from unnest(v_tenant_ids) u;
    perform jobs.wake_lanes((p_definition).job, v_tenant_ids, array(select now() from unnest(v_tenant_ids)));
  end if;
  update jobs.runs r set expected = cardinality(v_tenant_ids) where r.run_id = v_run_id;
  if cardinality(v_tenant_ids) = 0 then
    perform jobs.finish_run(v_run_id);
  end if;
  return v_run_id;
end
$function$;

create or replace function jobs.start_tick (
  seconds integer default null::integer
)
  returns text
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_version integer[] := (
    select regexp_split_to_array(substring(e.extversion from '^[0-9]+\.[0-9]+'), '\.')::integer[]
    from pg_catalog.pg_extension e where e.extname = 'pg_cron');
  v_seconds integer;
  v_schedule text;
begin
  if start_tick.seconds not between 1 and 60 then
    raise exception 'The tick comes every 1 to 60 seconds.' using errcode = '22023';
  end if;
  v_seconds := coalesce(start_tick.seconds, (select p.tick_seconds from jobs.platform p));
  if v_version < array[1, 5] or v_seconds = 60 then
    v_seconds := 60;
    v_schedule := '* * * * *';
  else
    v_schedule := format('%s seconds', v_seconds);
  end if;
  update jobs.platform p set tick_seconds = v_seconds;
  -- One tick, committed at once; then SQL jobs item by item for half of the time between two ticks, so that no tick is late for them.
  perform cron.schedule('onecron', v_schedule, format(
    'do $tick$ declare until timestamptz := clock_timestamp() + interval ''%s seconds''; begin perform jobs.tick(); commit; '
    'while clock_timestamp() < until and jobs.work() loop commit; end loop; end $tick$', greatest(1, v_seconds / 2)));
  return v_schedule;
end
$function$;

create or replace function jobs.stop_all (
  stopped boolean
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  update jobs.platform p set stopped = stop_all.stopped where p.one;
  perform private.audit(null, case when stop_all.stopped then 'platform.stopped' else 'platform.started' end);
end
$function$;

create or replace function jobs.take_guards (
  p_job text,
  p_tenant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform pg_advisory_xact_lock_shared(jobs.guards_of(p_job), g.guard)
  from (select distinct jobs.guard_of(t) as guard from unnest(p_tenant_ids) t) g;
end
$function$;

create or replace function jobs.take_request (
  key text,
  requests integer,
  seconds integer,
  ip text default null::text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_wait integer;
begin
  if private.is_listed(take_request.ip, private.setting('jobs_ip_allow_list')) is not true then
    return jsonb_build_object('allowed', false, 'reason', 'address', 'retry_after_seconds', null);
  end if;
  v_wait := private.count_call('request/' || take_request.key, take_request.requests, take_request.seconds);
  return jsonb_build_object('allowed', v_wait is null, 'reason', case when v_wait is not null then 'rate' end, 'retry_after_seconds', v_wait);
end
$function$;

create or replace function jobs.throttle_lanes (
  p_job text,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_throttled record;
begin
  for v_throttled in
    select u.tenant_id, max(u.run_at) as until, min(u.error) as error
    from unnest(p_settled) u
    where u.outcome = 'throttled'
    group by u.tenant_id
    order by u.tenant_id
  loop
    update jobs.lanes l
    set awake = false, not_before = greatest(l.not_before, v_throttled.until), head_at = null, head_id = null,
      wake_at = case when l.reason in ('breaker', 'paused') then l.wake_at else greatest(l.not_before, v_throttled.until) end,
      reason = case when l.reason in ('breaker', 'paused') then l.reason else 'rate limit' end,
      detail = case when l.reason in ('breaker', 'paused') then l.detail else left(v_throttled.error, 200) end
    where l.job = p_job and l.tenant_id = v_throttled.tenant_id;
  end loop;
end
$function$;

create or replace function jobs.tick()
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  set lock_timeout to '2s'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_reaped integer;
  v_opened integer := 0;
  v_rung integer := 0;
begin
  -- An overlapping tick leaves at once.
  if not pg_try_advisory_xact_lock(hashtextextended('onecron tick', 0)) then
    return jsonb_build_object('skipped', 'another tick is running');
  end if;
  perform jobs.require_read_committed();
  v_reaped := jobs.reap(v_now);
  perform jobs.finish_lost_drains(v_now);
  if not (select p.stopped from jobs.platform p) then
    v_opened := jobs.open_due_slots(v_now);
    begin
      v_rung := jobs.ring(v_now);
      perform jobs.close_alert(null, 'doorbell') where v_rung > 0;
    exception when others then
      perform jobs.open_alert(null, 'doorbell', 'No doorbell could be rung: ' || sqlerrm);
    end;
  end if;
  -- Looking after things may fail (somebody holds a partition that is to be dropped); the doorbells above are rung all the same.
  begin
    update jobs.platform p set watched_at = v_now where p.watched_at < v_now - interval '1 minute';
    if found then
      perform jobs.watch(v_now);
      delete from jobs.breakers b where b.state = 'recovering' and b.since < v_now - interval '1 minute';
    end if;
    perform jobs.clean(v_now);
    perform jobs.close_alert(null, 'housekeeping');
  exception when others then
    perform jobs.open_alert(null, 'housekeeping', 'The tick could not look after its history: ' || sqlerrm);
  end;
  update jobs.platform p
  set last_tick_at = v_now, last_tick_ms = round(extract(epoch from clock_timestamp() - v_now) * 1000, 3);
  return jsonb_build_object('reaped', v_reaped, 'opened', v_opened, 'rung', v_rung);
end
$function$;

create or replace function jobs.unpark (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_job text;
begin
  delete from jobs.breakers b where b.tenant_id = p_tenant_id and b.provider = p_provider;
  perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), format('credential %s', p_provider));
  -- The platform's credential serves many tenants.
  for v_job in select d.job from jobs.definitions d where d.provider = p_provider order by d.job loop
    perform jobs.wake_blocked(v_job, case when p_tenant_id <> jobs.platform_id() then array[p_tenant_id] end, 'breaker');
  end loop;
end
$function$;

create or replace function jobs.wake_blocked (
  p_job text,
  p_tenant_ids uuid[],
  p_reason text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- All tenants (null): all guards of the job.
  if p_tenant_ids is null then
    perform pg_advisory_xact_lock_shared(jobs.guards_of(p_job), g) from generate_series(0, 255) g;
  else
    perform jobs.take_guards(p_job, p_tenant_ids);
  end if;
  update jobs.lanes l
  set wake_at = greatest(clock_timestamp(), l.not_before), reason = 'waiting', detail = null
  from (
    select s.tenant_id from jobs.lanes s
    where s.job = p_job and s.reason = p_reason and not s.paused and (p_tenant_ids is null or s.tenant_id = any (p_tenant_ids))
    order by s.tenant_id
    for no key update
  ) blocked
  where l.job = p_job and l.tenant_id = blocked.tenant_id;
end
$function$;

create or replace function jobs.wake_due_lanes (
  p_definition jobs.definitions,
  p_clock jobs.clocks,
  p_now timestamp with time zone,
  p_limit integer default 500
)
  returns integer
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_places tid[] := array(
    select l.ctid
    from jobs.lanes l
    where l.job = (p_definition).job and l.wake_at <= p_now and l.wake_at >= (p_clock).due_from
    order by l.wake_at
    limit p_limit
    for no key update skip locked
  );
begin
  if cardinality(v_places) = 0 then
    return 0;
  end if;
  update jobs.lanes l
  set awake = true, wake_at = null, reason = null, detail = null, head_at = null, head_id = null,
    vtime = greatest(l.vtime, (p_clock).vtime),
    not_before = case
      when (p_definition).has_cadence then p_now + make_interval(secs => coalesce((
        select p.cadence_seconds from public.tenants t join public.plans p on p.plan_id = t.plan_id where t.id = l.tenant_id), 0))
      else l.not_before end
  where l.ctid = any (v_places) and l.job = (p_definition).job and l.wake_at <= p_now;
  return cardinality(v_places);
end
$function$;

create or replace function jobs.wake_job()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if new.platform_allowed and not old.platform_allowed then
    perform jobs.wake_blocked(new.job, null, 'breaker');
  end if;
  return null;
end
$function$;

create or replace function jobs.wake_lanes (
  p_job text,
  p_tenant_ids uuid[],
  p_run_ats timestamp with time zone[],
  p_reason text default 'waiting'::text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  -- In a snapshot older than the guard the lane may look awake although it sleeps. Locking the row makes that an error
  -- (40001, the caller retries) instead of a lost wake-up. Read committed sees the newest row and needs no lock.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform from jobs.lanes l where l.job = p_job and l.tenant_id = any (p_tenant_ids) order by l.tenant_id for share;
  end if;

  insert into jobs.lanes as l (tenant_id, job, vtime, wake_at, reason)
  -- Never in the past: a claim looks for lanes that became due since shortly before the last one.
  select w.tenant_id, p_job, 0, greatest(w.run_at, clock_timestamp()), case when w.run_at > now() then p_reason else 'waiting' end
  from (
    select u.tenant_id, min(u.run_at) as run_at
    from unnest(p_tenant_ids, p_run_ats) as u (tenant_id, run_at)
    group by u.tenant_id
  ) w
  left join jobs.lanes known on known.tenant_id = w.tenant_id and known.job = p_job
  where known.tenant_id is null
    or (not known.awake and known.reason not in ('breaker', 'cap', 'paused')
      and (known.wake_at is null or known.wake_at > greatest(w.run_at, known.not_before)))
  order by w.tenant_id
  on conflict (tenant_id, job) do update
    set wake_at = greatest(excluded.wake_at, l.not_before),
      reason = case when l.not_before > excluded.wake_at then case when l.reason = 'rate limit' then 'rate limit' else 'cadence' end else excluded.reason end,
      detail = case when l.reason = 'rate limit' and l.not_before > excluded.wake_at then l.detail end
    where not l.awake and l.reason not in ('breaker', 'cap', 'paused')
      and (l.wake_at is null or l.wake_at > greatest(excluded.wake_at, l.not_before));
end
$function$;

create or replace function jobs.watch (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_found record;
  v_open text[] := '{}';
begin
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s done, %s failed.', r.job, r.processed, r.failed) as message
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at)
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour'
    union all
    -- Work waits longer than the plans promise, and more comes than goes.
    select format('backlog %s', b.job), format('%s: the oldest ready item waits since %s; the target of its plan is %s s. Drained per minute: %s.',
      b.job, b.since, b.target_seconds, b.per_minute)
    from (
      select l.job, min(n.run_at) as since, min(coalesce(p.target_seconds, 600)) as target_seconds,
        (select count(*) / 5 from jobs.attempts a where a.job = l.job and a.finished_at > p_now - interval '5 minutes') as per_minute
      from (select x.* from jobs.lanes x where x.awake order by x.vtime limit 200) l
      join lateral (
        select i.run_at from jobs.items i where i.job = l.job and i.tenant_id = l.tenant_id and i.batch_id is null order by i.run_at, i.item_id limit 1) n on true
      left join public.tenants t on t.id = l.tenant_id
      left join public.plans p on p.plan_id = t.plan_id
      where n.run_at < p_now - make_interval(secs => coalesce(p.target_seconds, 600))
      group by l.job
    ) b
    union all
    -- Items died within the last hour.
    select format('dead %s', d.job), format('%s items of %s died within the last hour. jobs.why(item_id) tells why; jobs.replay tries them again.', count(*), d.job)
    from jobs.dead_items d where d.died_at > p_now - interval '1 hour' group by d.job
    union all
    -- Doorbells that nobody answers.
    select format('doorbells %s', d.job), format('%s of the last doorbells of %s were not answered within 10 s.', count(*) filter (where d.answered_at is null), d.job)
    from jobs.drains d
    where d.rung_at between p_now - interval '5 minutes' and p_now - interval '10 seconds'
    group by d.job
    having count(*) filter (where d.answered_at is null) >= 3 and count(*) filter (where d.answered_at is null) > count(*) filter (where d.answered_at is not null)
    union all
    -- The clock stood still: this tick came much later than it should.
    select 'tick', format('No tick came between %s and %s.', p.last_tick_at, p_now)
    from jobs.platform p where p.last_tick_at < p_now - make_interval(secs => 5 * p.tick_seconds + 60)
  loop
    v_open := v_open || v_found.incident;
    perform jobs.open_alert(null, v_found.incident, v_found.message);
  end loop;
  -- What this looks for and does not find any more is over.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and a.incident ~ '^(failed|overdue|backlog|dead|doorbells|tick)( |$)' and a.incident <> all (v_open);
end
$function$;

create or replace function jobs.why (
  item_id bigint,
  tenant_id uuid default null::uuid
)
  returns text
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_item jobs.items;
  v_lane jobs.lanes;
  v_definition jobs.definitions;
  v_dead jobs.dead_items;
  v_last jobs.attempts;
  v_judged record;
  v_behind bigint;
  v_rate numeric;
begin
  select i.* into v_item from jobs.items i where i.item_id = why.item_id and (why.tenant_id is null or i.tenant_id = why.tenant_id);
  if not found then
    select d.* into v_dead from jobs.dead_items d where d.item_id = why.item_id and (why.tenant_id is null or d.tenant_id = why.tenant_id);
    if found then
      return format('Dead since %s after %s attempts: %s. Last error: %s. It can be replayed.', v_dead.died_at, v_dead.attempts, v_dead.reason,
        coalesce(v_dead.last_error, 'none'));
    end if;
    select a.* into v_last from jobs.attempts a
    where a.item_id = why.item_id and (why.tenant_id is null or a.tenant_id = why.tenant_id) order by a.finished_at desc limit 1;
    if found then
      return format('It ended at %s: %s%s.', v_last.finished_at, v_last.outcome, coalesce(' (' || v_last.error || ')', ''));
    end if;
    return 'There is no such item.';
  end if;

  select d.* into v_definition from jobs.definitions d where d.job = v_item.job;
  if v_item.batch_id is not null then
    return (select format('It is running: batch %s, lease until %s.', b.batch_id, b.lease_until) from jobs.batches b where b.batch_id = v_item.batch_id);
  elsif (select p.stopped from jobs.platform p) then
    return 'All background work is stopped by the platform''s switch.';
  elsif v_definition.paused then
    return format('The job %s is paused.', v_item.job);
  end if;

  select l.* into v_lane from jobs.lanes l where l.tenant_id = v_item.tenant_id and l.job = v_item.job;
  select j.* into v_judged from jobs.judge(v_definition, array[v_item.tenant_id], clock_timestamp()) j;
  if v_judged.reason = 'paused' then
    return format('Its lane is paused: %s.', v_judged.detail);
  elsif v_judged.reason = 'breaker' then
    return format('The breaker of its lane is open: %s%s.', v_judged.detail,
      case when v_judged.wake_at is not null then format(', next probe at %s', v_judged.wake_at) else '; it waits until the credential changes' end);
  elsif jobs.provider_is_down(v_definition.provider) then
    return format('The provider %s does not answer for anybody; it is probed from time to time.', v_definition.provider);
  elsif v_item.run_at > clock_timestamp() then
    return format('It is not due before %s%s%s.', v_item.run_at,
      case when v_item.waiting_for is not null then ' because of: ' || v_item.waiting_for else '' end,
      case when v_item.attempts > 0 then format(' (attempt %s of %s failed: %s)', v_item.attempts, v_definition.max_attempts, v_item.last_error) else '' end);
  elsif v_judged.reason = 'cap' then
    return format('Its tenant has as many items of %s in flight as its plan allows; it goes on when one of them ends.', v_item.job);
  elsif not v_lane.awake and v_lane.wake_at > clock_timestamp() then
    return format('Its lane is asleep until %s because of: %s%s.', v_lane.wake_at, v_lane.reason, coalesce(' (' || v_lane.detail || ')', ''));
  end if;

  select count(*) into v_behind
  from (
    select from jobs.items i
    where i.job = v_item.job and i.tenant_id = v_item.tenant_id and i.batch_id is null and (i.run_at, i.item_id) < (v_item.run_at, v_item.item_id)
    order by i.run_at, i.item_id
    limit 100000
  ) earlier;
  -- What the lane got in the last five minutes tells what it will get.
  select count(*) / 300.0 into v_rate from jobs.attempts a
  where a.tenant_id = v_item.tenant_id and a.job = v_item.job and a.finished_at > clock_timestamp() - interval '5 minutes';
  return format('It is ready, behind %s items of its own tenant; %s other lanes are awake. %s', v_behind,
    (select count(*) from (select from jobs.lanes l where l.job = v_item.job and l.awake and l.tenant_id <> v_item.tenant_id limit 1000) o),
    case when v_rate > 0
      then format('Expected start: about %s.', date_trunc('second', clock_timestamp() + make_interval(secs => (v_behind / v_rate)::double precision)))
      else 'Expected start: with the next drain.' end);
end
$function$;

create or replace function jobs.work()
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
declare
  v_definition jobs.definitions;
  v_drain_id uuid;
  v_batch jsonb;
begin
  for v_definition in
    select d.* from jobs.definitions d where d.kind = 'sql' and not d.paused order by d.job
  loop
    select d.drain_id into v_drain_id from jobs.drains d
    where d.job = v_definition.job and d.ended_at is null and d.request_id is null and d.run_id is null
      and jobs.drain_is_live(d, v_definition.lease_seconds, clock_timestamp())
    limit 1;
    v_drain_id := coalesce(v_drain_id, jobs.begin_drain(v_definition.job));
    continue when v_drain_id is null;
    v_batch := jobs.next_batch(v_drain_id, v_definition.job, 1);
    if v_batch is not null then
      perform jobs.work_item(v_definition, (v_batch ->> 'batch_id')::bigint,
        (v_batch -> 'tenants' -> 0 ->> 'tenant_id')::uuid, (v_batch -> 'tenants' -> 0 -> 'items' -> 0 ->> 'item_id')::bigint);
      return true;
    end if;
    perform jobs.end_drain(v_drain_id);
  end loop;
  return false;
end
$function$;

create or replace function jobs.work_batch (
  drain_id uuid,
  job text,
  batch_size integer default 50
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set enable_bitmapscan to 'off'
  set enable_material to 'off'
  set plan_cache_mode to 'force_generic_plan'
  set jit to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_definition jobs.definitions;
  v_batch jsonb;
begin
  select d.* into v_definition from jobs.definitions d where d.job = work_batch.job and d.kind = 'sql';
  if not found then
    raise exception 'There is no SQL job "%".', work_batch.job using errcode = 'P0002';
  end if;
  v_batch := jobs.next_batch(work_batch.drain_id, work_batch.job, work_batch.batch_size);
  perform jobs.work_item(v_definition, (v_batch ->> 'batch_id')::bigint, (t ->> 'tenant_id')::uuid, (i ->> 'item_id')::bigint)
  from jsonb_array_elements(v_batch -> 'tenants') t
  cross join lateral jsonb_array_elements(t -> 'items') i;
  return (select sum(jsonb_array_length(t -> 'items')) from jsonb_array_elements(v_batch -> 'tenants') t);
end
$function$;

create or replace function jobs.work_item (
  p_definition jobs.definitions,
  p_batch_id bigint,
  p_tenant_id uuid,
  p_item_id bigint
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_item jobs.items;
  v_result jsonb;
  v_outcome jsonb;
begin
  select i.* into v_item from jobs.items i
  where i.tenant_id = p_tenant_id and i.item_id = p_item_id and i.batch_id = p_batch_id;
  if not found then
    return;
  end if;
  begin
    execute format('select to_jsonb(%s($1, $2, $3))', (p_definition).work_function::regproc)
      into v_result using p_tenant_id, v_item.subject_id, v_item.payload;
    v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'done', 'result', coalesce(v_result, 'null'));
  exception
    when query_canceled or admin_shutdown or crash_shutdown then
      raise;
    when others then
      v_outcome := jsonb_build_object('item_id', p_item_id, 'outcome', 'retry', 'error', left(format('%s (%s)', sqlerrm, sqlstate), 500));
  end;
  perform jobs.close_batch(p_batch_id, jsonb_build_array(v_outcome));
end
$function$;

create or replace function jobs.write_settled (
  p_batch jobs.batches,
  p_settled jobs.settled[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set enable_nestloop to 'on'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_generic_plan'
  AS $function$
declare
  v_one jobs.settled;
  v_tenants uuid[];
  v_freed integer[];
begin
  insert into jobs.attempts (
    tenant_id, item_id, try, job, subject_id, batch_id, run_id, outcome, error, credential_source, due_at, started_at, trace_id)
  select s.tenant_id, s.item_id, s.tries, (p_batch).job, s.subject_id, (p_batch).batch_id, s.run_id, s.outcome, s.error,
    s.credential_source, s.due_at, (p_batch).leased_at, s.trace_id
  from unnest(p_settled) s
  where s.outcome <> 'held';

  -- One by one: a join could begin with all items that wait.
  for v_one in select s.* from unnest(p_settled) s where not s.ends loop
    update jobs.items i
    set batch_id = null, begun = false, run_at = v_one.run_at, waiting_for = v_one.waiting_for, attempts = v_one.attempts,
      tries = v_one.tries, last_error = coalesce(v_one.error, i.last_error)
    where i.tenant_id = v_one.tenant_id and i.item_id = v_one.item_id and i.batch_id = (p_batch).batch_id;
  end loop;

  insert into jobs.dead_items (
    tenant_id, item_id, job, subject_id, payload, attempts, tries, reason, last_error, enqueued_at, trace_id, dedupe_key)
  select s.tenant_id, s.item_id, i.job, s.subject_id, i.payload, s.attempts, s.tries, s.dies, coalesce(s.error, i.last_error),
    i.enqueued_at, s.trace_id, i.dedupe_key
  from unnest(p_settled) s
  cross join lateral (
    select x.job, x.payload, x.last_error, x.enqueued_at, x.dedupe_key from jobs.items x
    where x.tenant_id = s.tenant_id and x.item_id = s.item_id and x.batch_id = (p_batch).batch_id
    offset 0
  ) i
  where s.ends and s.dies is not null;

  delete from jobs.items i
  where i.ctid = any (array(
    select x.place
    from unnest(p_settled) s
    cross join lateral (
      select y.ctid as place from jobs.items y
      where y.tenant_id = s.tenant_id and y.item_id = s.item_id and y.batch_id = (p_batch).batch_id
      offset 0
    ) x
    where s.ends));

  select array_agg(f.tenant_id), array_agg(f.items) into v_tenants, v_freed
  from (select s.tenant_id, count(*)::integer as items from unnest(p_settled) s group by s.tenant_id) f;
  delete from jobs.leases e
  where e.batch_id = (p_batch).batch_id and e.tenant_id = any (v_tenants) and e.open <= v_freed[array_position(v_tenants, e.tenant_id)];
  update jobs.leases e
  set open = e.open - v_freed[array_position(v_tenants, e.tenant_id)]
  where e.batch_id = (p_batch).batch_id and e.tenant_id = any (v_tenants);
end
$function$;

create or replace function private.accept_invitation (
  p_token text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_user_id uuid := private.require_user();
  v_hash text := encode(sha256(convert_to(p_token, 'UTF8')), 'hex');
  v_invitation public.invitations;
  v_role public.member_role;
  v_tenant public.tenants;
begin
  perform private.limit_calls('accept_invitation', v_user_id);
  -- The tenant's row first: who revokes, removes or demotes at the same moment comes before or after, not in between.
  perform from public.tenants t where t.id = (select i.tenant_id from public.invitations i where i.token_hash = v_hash) for no key update;
  update public.invitations i set accepted_at = now(), accepted_by = v_user_id
  where i.token_hash = v_hash and i.accepted_at is null and i.revoked_at is null and i.expires_at > now()
    -- the address that was invited, and proven to be the user's
    and i.email = (select lower(u.email) from auth.users u where u.id = v_user_id and u.email_confirmed_at is not null)
    and exists (select from public.tenants t where t.id = i.tenant_id and t.status = 'active')
    -- from somebody who could still give this role
    and (i.invited_by is null or exists (
      select from public.memberships m
      where m.tenant_id = i.tenant_id and m.user_id = i.invited_by and m.role >= greatest('admin', i.role)))
  returning * into v_invitation;
  if not found then
    -- Not raised: that would take back the count of this try. The Data API answers with this status and body.
    perform set_config('response.status', '404', true);
    return jsonb_build_object('code', 'PT404', 'message', 'This invitation is not valid, or not for your address.', 'details', null, 'hint',
      'Sign in with the address that was invited, after it has been confirmed, or ask for a new invitation.');
  end if;
  -- A member who is invited to less stays what it is.
  insert into public.memberships as m (tenant_id, user_id, role)
  values (v_invitation.tenant_id, v_user_id, v_invitation.role)
  on conflict on constraint memberships_pkey do update set role = greatest(m.role, excluded.role)
  returning m.role into v_role;
  perform private.audit(v_invitation.tenant_id, 'invitation.accepted',
    jsonb_build_object('invitation_id', v_invitation.id, 'user_id', v_user_id, 'role', v_role));
  select t.* into v_tenant from public.tenants t where t.id = v_invitation.tenant_id;
  return jsonb_build_object('tenant_id', v_tenant.id, 'slug', v_tenant.slug, 'name', v_tenant.name, 'role', v_role);
end
$function$;

create or replace function private.alert_text (
  p_alert jobs.alerts,
  p_event text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select case when p_event = 'closed' then format('Over: %s (since %s, until %s)', (p_alert).message, (p_alert).opened_at, (p_alert).closed_at)
    else format('%s%s', coalesce((select t.name || ': ' from public.tenants t where t.id = (p_alert).tenant_id), ''), (p_alert).message) end
$function$;

create or replace function private.apply_messages (
  p_ended jobs.ended[]
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  update public.notification_outbox m
  set status = e.status, sent_at = case when e.status = 'sent' then now() end, held_until = null,
    reason = left(e.reason, 500), provider_message_id = left(e.result ->> 'provider_message_id', 200), credential_source = e.credential_source
  from (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' then 'failed'
        else 'unknown' end::public.message_status as status
    from unnest(p_ended) u
  ) e
  where m.tenant_id = e.tenant_id and m.id = e.subject_id and m.status = 'queued'
$function$;

create or replace function private.apply_verifications (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  with proof as (
    select e.*, c.task_id, e.result -> 'evidence' ->> 'comment_id' as comment_id,
      row_number() over (partition by e.tenant_id, c.task_id, e.result -> 'evidence' ->> 'comment_id' order by c.claimed_at, c.id) as position
    from unnest(p_ended) e
    join public.completions c on c.tenant_id = e.tenant_id and c.id = e.subject_id
    where e.outcome <> 'cancelled'
  ),
  -- One comment proves one claim of a task: the one that was made first.
  judged as (
    select p.*, p.comment_id is not null and (p.position > 1 or exists (
      select from public.completions o
      where o.tenant_id = p.tenant_id and o.task_id = p.task_id and o.status = 'verified' and o.evidence ->> 'comment_id' = p.comment_id)) as is_used
    from proof p
  ),
  verdict as materialized (
    select j.tenant_id, j.subject_id, j.credential_source, j.result,
      case
        when j.outcome = 'done' and j.result ->> 'verdict' = 'verified' and not j.is_used then 'verified'
        when j.outcome = 'done' and j.result ->> 'verdict' = 'failed' then 'failed'
        else 'manual_review' end::public.completion_status as status,
      case when j.is_used then 'this comment has proven another claim' else coalesce(j.result ->> 'reason', j.error) end as reason
    from judged j
  ),
  decided as (
    update public.completions c
    set status = v.status, verified_at = case when v.status = 'verified' then now() end,
      reason = left(v.reason, 500), evidence = v.result -> 'evidence', credential_source = v.credential_source
    from verdict v
    where c.tenant_id = v.tenant_id and c.id = v.subject_id and c.status = 'pending'
    returning c.tenant_id, c.id, c.task_id, c.participant_id, c.status
  ),
  earned as (
    insert into public.spin_ledger (tenant_id, participant_id, campaign_id, completion_id, spins, reason)
    select d.tenant_id, d.participant_id, t.campaign_id, d.id, t.reward_spins, 'task verified'
    from decided d
    join public.social_tasks t on t.tenant_id = d.tenant_id and t.id = d.task_id
    where d.status = 'verified'
    on conflict on constraint a_completion_earns_once do nothing
    returning spin_ledger.tenant_id, spin_ledger.completion_id
  )
  -- The outbox follows by its own function, so that what a message says has one home.
  insert into public.notification_outbox (tenant_id, campaign_id, participant_id, completion_id, kind, recipient, body, status, reason)
  select m.*
  from earned
  join lateral private.congratulation(earned.tenant_id, earned.completion_id) m on true
  on conflict on constraint one_message_per_kind_and_completion do nothing;
end
$function$;

create or replace function private.audit (
  p_tenant_id uuid,
  p_action text,
  p_detail jsonb default '{}'::jsonb
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into public.audit_log (tenant_id, actor_id, actor, action, detail)
  values (
    coalesce(p_tenant_id, '00000000-0000-0000-0000-000000000000'),
    (select auth.uid()),
    coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), (select auth.role()), session_user),
    p_action,
    p_detail
  )
$function$;

create or replace function private.audit_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_changes jsonb;
begin
  select jsonb_object_agg(n.key, jsonb_build_object('from', o.value, 'to', n.value)) into v_changes
  from jsonb_each(to_jsonb(new)) n
  join jsonb_each(to_jsonb(old)) o on o.key = n.key
  where n.value <> o.value
    and n.key in ('name', 'time_zone', 'locale', 'campaign_notifications', 'campaign_notify_from', 'campaign_notify_until');
  if v_changes is not null then
    perform private.audit(new.id, 'tenant.changed', v_changes);
  end if;
  return null;
end
$function$;

create or replace function private.change_role (
  p_tenant_id uuid,
  p_user_id uuid,
  p_role public.member_role
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_role public.member_role;
begin
  perform private.lock_tenant(p_tenant_id, 'admin');
  v_role := private.role_to_manage(p_tenant_id, p_user_id);
  if p_role is null then
    raise exception 'Name a role: viewer, member, admin or owner.' using errcode = '22023';
  end if;
  -- Nobody gives what they do not have.
  perform private.require_role(p_tenant_id, p_role);
  update public.memberships m set role = p_role where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  perform private.audit(p_tenant_id, 'member.role_changed', jsonb_build_object('user_id', p_user_id, 'from', v_role, 'to', p_role));
end
$function$;

create or replace function private.check_credential (
  p_provider public.provider,
  p_kind text,
  p_secret jsonb,
  p_account jsonb
)
  returns void
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_secret_key text := case when p_kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud') then 'access_token'
    when p_kind = 'waapi' then 'token' else 'api_key' end;
  v_account_key text := case p_kind when 'instagram_login' then 'ig_user_id' when 'whatsapp_cloud' then 'phone_number_id'
    when 'waapi' then 'instance_id' end;
begin
  if jsonb_typeof(p_secret) is distinct from 'object' or coalesce(p_secret ->> v_secret_key, '') = '' then
    raise exception 'A % credential needs the secret {"%": "…"}.', p_kind, v_secret_key using errcode = '22023';
  end if;
  if p_secret ->> v_secret_key ~ '[^!-~]' or octet_length(p_secret::text) > 8000 then
    raise exception 'The secret has white space or other characters that no % token has. Copy it again.', p_kind
      using errcode = '22023';
  end if;
  if v_account_key is not null and coalesce(p_account ->> v_account_key, '') !~ '^[0-9A-Za-z_-]{1,64}$' then
    raise exception 'A % credential needs the account {"%": "…"}.', p_kind, v_account_key using errcode = '22023';
  end if;
end
$function$;

create or replace function private.check_request()
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  -- The planner estimates over the rows of all tenants: the number would tell how many there are.
  if coalesce(nullif(current_setting('request.headers', true), '')::jsonb ->> 'prefer', '') ~* 'count=(planned|estimated)' then
    raise exception 'Use count=exact.' using errcode = 'PT400', hint = 'An estimate would be of the rows of all tenants.';
  end if;
end
$function$;

create or replace function private.check_time_zone()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if not private.is_time_zone(new.time_zone) then
    raise exception '"%" is not an IANA time zone. Use a name like Europe/Berlin.', new.time_zone using errcode = '22023';
  end if;
  return new;
end
$function$;

create or replace function private.claim_task (
  p_tenant_id uuid,
  p_task_id uuid
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_participant_id uuid;
  v_task public.social_tasks;
  v_completion public.completions;
begin
  perform private.limit_calls('claim_task', (select auth.uid()));
  select p.id into v_participant_id from public.participants p
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid());
  select t.* into v_task
  from public.social_tasks t
  join public.campaigns c on c.tenant_id = t.tenant_id and c.id = t.campaign_id
  join public.tenants n on n.id = t.tenant_id
  where t.tenant_id = p_tenant_id and t.id = p_task_id and t.active and c.status = 'active' and n.status = 'active'
    and now() >= c.starts_at and (c.ends_at is null or now() < c.ends_at);
  if v_participant_id is null or v_task.id is null then
    raise exception 'There is no such task for you to claim. Join its campaign first.' using errcode = 'PT404';
  end if;
  begin
    insert into public.completions (tenant_id, task_id, participant_id, code, deadline)
    values (p_tenant_id, p_task_id, v_participant_id,
      -- Eight letters and digits from 32 random bits: enough to tell the claims of one post apart.
      'OC-' || upper(left(gen_random_uuid()::text, 8)),
      now() + v_task.verify_within)
    returning * into v_completion;
  exception when unique_violation then
    raise exception 'You have claimed this task already.' using errcode = '23505',
      hint = 'A task can be claimed once. Read your completions to see how the claim stands.';
  end;
  -- In the same transaction: a claim without its item, or an item without its claim, cannot exist.
  perform jobs.enqueue('verify-social-tasks', p_tenant_id, v_completion.id);
  return jsonb_build_object('completion_id', v_completion.id, 'status', v_completion.status, 'code', v_completion.code,
    'deadline', v_completion.deadline);
end
$function$;

create or replace function private.close_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  -- Active ones only: a suspension cannot be got rid of by closing and reopening.
  perform private.lock_tenant(p_tenant_id, 'owner');
  update public.tenants t set status = 'closed' where t.id = p_tenant_id;
  perform private.audit(p_tenant_id, 'tenant.closed');
end
$function$;

create or replace function private.congratulation (
  p_tenant_id uuid,
  p_completion_id uuid
)
  returns table (
    tenant_id uuid,
    campaign_id uuid,
    participant_id uuid,
    completion_id uuid,
    kind public.message_kind,
    recipient text,
    body text,
    status public.message_status,
    reason text
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select c.tenant_id, t.campaign_id, c.participant_id, c.id, 'congratulation'::public.message_kind, p.phone,
    format(E'Congratulations, %s! 🎉 Your task "%s" has been verified. %s bonus %s been added. Spin now: %s/campaigns/%s',
      p.display_name, t.title, t.reward_spins, case when t.reward_spins = 1 then 'spin has' else 'spins have' end,
      rtrim(private.setting('app_url'), '/'), t.campaign_id),
    case
      when not g.notifications_enabled then 'disabled'
      when p.phone is null or p.whatsapp_opt_in_at is null then 'no_consent'
      else 'queued' end::public.message_status,
    case
      when not g.notifications_enabled then 'notifications are switched off in this campaign'
      when p.phone is null then 'the participant gave no phone number'
      when p.whatsapp_opt_in_at is null then 'the participant did not opt in to WhatsApp messages' end
  from public.completions c
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  where c.tenant_id = p_tenant_id and c.id = p_completion_id
$function$;

create or replace function private.count_call (
  p_key text,
  p_limit integer,
  p_seconds integer
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_window interval := make_interval(secs => p_seconds);
  v_taken timestamptz[];
begin
  if p_limit is null or p_limit not between 1 and 10000 or p_seconds is null or p_seconds not between 1 and 2678400 then
    raise exception 'A limit is 1 to 10000 calls in 1 to 2678400 seconds.' using errcode = '22023';
  end if;
  -- One statement looks and counts. Whoever comes at the same time waits for the row and sees what was counted before.
  insert into private.rate_windows as w (key, taken, ends_at)
  values (p_key, array[clock_timestamp()], clock_timestamp() + v_window)
  on conflict on constraint rate_windows_pkey do update
    set taken = array(select t from unnest(w.taken) t where t > clock_timestamp() - v_window order by t) || clock_timestamp(),
      ends_at = clock_timestamp() + v_window
    where (select count(*) from unnest(w.taken) t where t > clock_timestamp() - v_window) < p_limit
  returning w.taken into v_taken;
  if not found then
    -- There is room again when the oldest of the last p_limit calls leaves the window.
    return (
      select greatest(1, ceil(extract(epoch from w.taken[cardinality(w.taken) - p_limit + 1] + v_window - clock_timestamp())))
      from private.rate_windows w
      where w.key = p_key);
  end if;
  -- A key that comes (back) clears away a few that are gone: the table never holds many more than are in use.
  if cardinality(v_taken) = 1 then
    delete from private.rate_windows w
    where w.key in (
      select o.key from private.rate_windows o
      where o.ends_at < clock_timestamp()
      order by o.ends_at limit 10 for update skip locked);
  end if;
  return null;
end
$function$;

create or replace function private.create_tenant (
  p_name text,
  p_slug text,
  p_time_zone text
)
  returns public.tenants
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_user_id uuid := private.require_user();
  v_tenant public.tenants;
begin
  perform private.limit_calls('create_tenant', v_user_id);
  insert into public.tenants (name, slug, time_zone)
  values (p_name, p_slug, p_time_zone)
  returning * into v_tenant;
  insert into public.memberships (tenant_id, user_id, role) values (v_tenant.id, v_user_id, 'owner');
  perform private.audit(v_tenant.id, 'tenant.created', jsonb_build_object('slug', v_tenant.slug));
  return v_tenant;
end
$function$;

create or replace function private.credential_for (
  p_tenant_id uuid,
  p_provider public.provider,
  p_platform_allowed boolean
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select jsonb_build_object(
    'credential_id', c.id, 'provider', p_provider, 'kind', c.kind, 'source', c.source, 'account', c.account,
    'secret', (select s.decrypted_secret::jsonb from vault.decrypted_secrets s where s.id = c.secret_id))
  from (
    select own.id, own.kind, 'tenant' as source, own.account, own.secret_id
    from public.credentials own
    where own.tenant_id = p_tenant_id and own.provider = p_provider
    union all
    select null, shared.kind, 'platform', shared.account, shared.secret_id
    from private.platform_credentials shared
    where p_platform_allowed and shared.provider = p_provider
      and not exists (select from public.credentials own where own.tenant_id = p_tenant_id and own.provider = p_provider)
  ) c
$function$;

create or replace function private.custom_access_token (
  event jsonb
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant_id uuid;
begin
  -- The chosen tenant, or else the one that there is.
  select m.tenant_id into v_tenant_id
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  left join private.active_tenants a on a.user_id = m.user_id and a.active_tenant_id = m.tenant_id
  where m.user_id = (event ->> 'user_id')::uuid and t.status <> 'closed'
  order by a.chosen_at nulls last, m.created_at, m.tenant_id
  limit 1;
  if v_tenant_id is null then
    return event;
  end if;
  return jsonb_set(event, '{claims,active_tenant}', to_jsonb(v_tenant_id));
exception when others then
  return event;
end
$function$;

create or replace function private.deliver_alert()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_payload jsonb := jsonb_build_object('alert_id', new.alert_id, 'event', case when new.closed_at is null then 'opened' else 'closed' end);
  v_key text := format('alert-%s-%s', new.alert_id, v_payload ->> 'event');
begin
  if private.platform_secret('alert_webhook_url') is not null then
    perform jobs.enqueue('alert-webhook', jobs.platform_id(), null, null, v_key, v_payload);
  end if;
  if exists (select from private.platform_credentials c where c.provider = 'email')
    and (new.tenant_id is not null or coalesce(private.setting('alert_email'), '') <> '') then
    perform jobs.enqueue('alert-email', jobs.platform_id(), null, null, v_key, v_payload);
  end if;
  return null;
end
$function$;

create or replace function private.enqueue_messages()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform jobs.enqueue_many('send-notifications', array_agg(n.tenant_id order by n.tenant_id, n.id), array_agg(n.id order by n.tenant_id, n.id))
  from new_messages n
  where n.status = 'queued'
  having count(*) > 0;
  return null;
end
$function$;

create or replace function private.forget_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  delete from jobs.items i where i.tenant_id = old.id and i.batch_id is null;
  delete from jobs.lanes l where l.tenant_id = old.id;
  delete from jobs.dead_items d where d.tenant_id = old.id;
  delete from jobs.breakers b where b.tenant_id = old.id;
  delete from jobs.rates r where r.tenant_id = old.id;
  return null;
end
$function$;

create or replace function private.invite_member (
  p_tenant_id uuid,
  p_email text,
  p_role public.member_role,
  p_valid_days integer
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  -- 32 random bytes: too many to try.
  v_token text := 'inv_' || encode(extensions.gen_random_bytes(32), 'hex');
  -- The invited side is put into one spelling, the address of the user who accepts is not: no other mailbox becomes this one by it.
  v_email text := lower(btrim(normalize(p_email, nfkc)));
  v_invitation public.invitations;
begin
  if p_role is null or p_valid_days is null or p_valid_days not between 1 and 30 then
    raise exception 'An invitation needs a role, and is valid for 1 to 30 days.' using errcode = '22023';
  end if;
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, greatest('admin', p_role));
    perform private.limit_calls('invite_member', p_tenant_id);
  end if;
  -- A new invitation takes the place of one that is waiting.
  update public.invitations i set revoked_at = now()
  where i.tenant_id = p_tenant_id and i.email = v_email and i.accepted_at is null and i.revoked_at is null;
  insert into public.invitations (tenant_id, email, role, token_hash, invited_by, expires_at)
  values (p_tenant_id, v_email, p_role, encode(sha256(convert_to(v_token, 'UTF8')), 'hex'), (select auth.uid()),
    now() + make_interval(days => p_valid_days))
  returning * into v_invitation;
  perform private.audit(p_tenant_id, 'invitation.created',
    jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role));
  return jsonb_build_object('invitation_id', v_invitation.id, 'email', v_email, 'role', p_role,
    'expires_at', v_invitation.expires_at, 'token', v_token);
end
$function$;

create or replace function private.is_listed (
  p_ip text,
  p_list text
)
  returns boolean
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
declare
  v_entry text;
  v_ip inet;
begin
  if btrim(coalesce(p_list, ''), E' ,\t\n') = '' then
    return true;
  end if;
  -- An IPv4 address as a dual-stack server writes it.
  v_ip := regexp_replace(p_ip, '^::ffff:(?=[0-9.]+$)', '', 'i')::inet;
  foreach v_entry in array regexp_split_to_array(btrim(p_list, E' ,\t\n'), '[\s,]+') loop
    if v_ip <<= v_entry::inet then
      return true;
    end if;
  end loop;
  return false;
exception when invalid_text_representation then
  return false;
end
$function$;

create or replace function private.is_platform()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select coalesce((select auth.role()), '') = 'service_role'
    or ((select auth.role()) is null and (select auth.uid()) is null and session_user <> 'authenticator')
$function$;

create or replace function private.is_platform_admin()
  returns boolean
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select exists (select from private.platform_admins a where a.user_id = (select auth.uid()))
    and (coalesce(private.setting('platform_admins_need_mfa'), 'true') = 'false'
      or coalesce((select auth.jwt()) ->> 'aal', '') = 'aal2')
$function$;

create or replace function private.is_time_zone (
  p_name text
)
  returns boolean
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select exists (select from private.time_zones z where z.name = p_name)
$function$;

create or replace function private.join_campaign (
  p_tenant_id uuid,
  p_campaign_id uuid,
  p_display_name text,
  p_phone text,
  p_instagram_username text,
  p_facebook_user_id text,
  p_whatsapp_opt_in boolean
)
  returns uuid
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_id uuid;
begin
  if (select auth.uid()) is null then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  perform private.limit_calls('join_campaign', (select auth.uid()));
  if not exists (
    select from public.campaigns c join public.tenants t on t.id = c.tenant_id
    where c.tenant_id = p_tenant_id and c.id = p_campaign_id and c.status = 'active' and t.status = 'active'
      and now() >= c.starts_at and (c.ends_at is null or now() < c.ends_at)
  ) then
    raise exception 'There is no such campaign running.' using errcode = 'PT404';
  end if;
  insert into public.participants as p (
    tenant_id, user_id, display_name, phone, instagram_username, facebook_user_id, whatsapp_opt_in_at)
  values (p_tenant_id, (select auth.uid()), p_display_name, p_phone, p_instagram_username, p_facebook_user_id,
    case when p_whatsapp_opt_in then now() end)
  on conflict on constraint one_participant_per_tenant_and_user do update
    set display_name = excluded.display_name,
      phone = coalesce(excluded.phone, p.phone),
      instagram_username = coalesce(excluded.instagram_username, p.instagram_username),
      facebook_user_id = coalesce(excluded.facebook_user_id, p.facebook_user_id),
      whatsapp_opt_in_at = coalesce(p.whatsapp_opt_in_at, excluded.whatsapp_opt_in_at)
  returning p.id into v_id;
  return v_id;
end
$function$;

create or replace function private.keep_an_owner()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform from public.tenants t where t.id = old.tenant_id and t.status <> 'closed' for no key update;
  if found and not exists (select from public.memberships m where m.tenant_id = old.tenant_id and m.role = 'owner') then
    raise exception 'A tenant needs an owner. Transfer the ownership or close the tenant first.' using errcode = 'PT409';
  end if;
  return null;
end
$function$;

create or replace function private.keep_row_rules()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if to_jsonb(new) ->> 'tenant_id' is distinct from to_jsonb(old) ->> 'tenant_id' then
    raise exception 'A row cannot move to another tenant.' using errcode = '42501';
  end if;
  new.updated_at := now();
  return new;
end
$function$;

create or replace function private.keep_secret (
  p_name text,
  p_secret text
)
  returns uuid
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_id uuid;
begin
  select s.id into v_id from vault.secrets s where s.name = p_name;
  if v_id is null then
    return vault.create_secret(p_secret, p_name, 'Onecron credential');
  end if;
  perform vault.update_secret(v_id, p_secret);
  return v_id;
end
$function$;

create or replace function private.learn_time_zones()
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into private.time_zones (name)
  select z.name from pg_catalog.pg_timezone_names z where z.name !~ '^(posix|right)/' and z.name <> 'localtime'
  on conflict do nothing
$function$;

create or replace function private.leave_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_role public.member_role;
begin
  -- From a suspended or closed tenant, too: nobody is kept.
  perform from public.tenants t
  where t.id = p_tenant_id
    and exists (select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()))
  for no key update;
  delete from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid()) returning m.role into v_role;
  if v_role is null then
    raise exception 'You do not work for this tenant.' using errcode = '42501';
  end if;
  perform private.audit(p_tenant_id, 'member.left', jsonb_build_object('user_id', (select auth.uid()), 'role', v_role));
end
$function$;

create or replace function private.limit_calls (
  p_name text,
  p_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.take_rate(l.name || '/' || p_id, l.calls, l.seconds) from private.call_limits l
  where l.name = p_name and p_id is not null
$function$;

create or replace function private.list_members (
  p_tenant_id uuid
)
  returns table (
    user_id uuid,
    email text,
    role public.member_role,
    since timestamp with time zone
  )
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
begin
  perform private.require_role(p_tenant_id, 'admin');
  return query
    select m.user_id, u.email::text, m.role, m.created_at
    from public.memberships m
    join auth.users u on u.id = m.user_id
    where m.tenant_id = p_tenant_id
    order by m.role desc, u.email;
end
$function$;

create or replace function private.load_alert_emails (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language sql
  stable
  set search_path to ''
  AS $function$
  select u.item_id,
    jsonb_build_object('to', r.recipients, 'subject', format('[Onecron] %s: %s', u.payload ->> 'event', a.incident),
      'text', private.alert_text(a, u.payload ->> 'event'), 'idempotency_key', format('alert-%s-%s', a.alert_id, u.payload ->> 'event')),
    null::timestamptz, 'the alert is gone or nobody is to be told', a.alert_id is null or r.recipients is null
  from unnest(p_item_ids, p_payloads) as u (item_id, payload)
  left join jobs.alerts a on a.alert_id = (u.payload ->> 'alert_id')::bigint
  left join lateral (
    select case when a.tenant_id is null then (select jsonb_agg(s) from nullif(private.setting('alert_email'), '') s where s is not null)
      else (select jsonb_agg(distinct w.email) from public.memberships m join auth.users w on w.id = m.user_id
        where m.tenant_id = a.tenant_id and m.role = 'owner' and w.email is not null) end as recipients
  ) r on true
$function$;

create or replace function private.load_alert_webhooks (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language sql
  stable
  set search_path to ''
  AS $function$
  select u.item_id,
    jsonb_build_object('url', private.platform_secret('alert_webhook_url'), 'text', private.alert_text(a, u.payload ->> 'event')),
    null::timestamptz, 'the alert or the webhook is gone', a.alert_id is null or private.platform_secret('alert_webhook_url') is null
  from unnest(p_item_ids, p_payloads) as u (item_id, payload)
  left join jobs.alerts a on a.alert_id = (u.payload ->> 'alert_id')::bigint
$function$;

create or replace function private.load_messages (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
begin
  -- What members see of a held message: until when, and why.
  update public.notification_outbox o
  set held_until = h.opens_at, reason = 'quiet hours'
  from (
    select m.tenant_id, m.id, private.window_opens_at(g.time_zone, g.notify_from, g.notify_until, v_now) as opens_at
    from unnest(p_tenant_ids, p_subject_ids) as u (tenant_id, subject_id)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id and m.status = 'queued'
    join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
  ) h
  where o.tenant_id = h.tenant_id and o.id = h.id and h.opens_at is distinct from v_now and o.held_until is distinct from h.opens_at;

  return query
  select u.item_id,
    jsonb_build_object('outbox_id', m.id, 'to', m.recipient, 'text', m.body,
      'send_before', nullif(least(
        private.window_closes_at(g.time_zone, g.notify_from, g.notify_until, v_now), coalesce(g.ends_at, 'infinity')), 'infinity')),
    case
      when m.status <> 'queued' or not g.notifications_enabled or g.status <> 'active' or g.ends_at <= v_now or p.whatsapp_opt_in_at is null then null
      -- A window that never opens is looked at once a day: it may be changed.
      when w.opens_at is distinct from v_now then coalesce(w.opens_at, v_now + interval '1 day') end,
    case
      when m.id is null then 'the message is gone'
      when m.status <> 'queued' then format('the message is %s', m.status)
      when not g.notifications_enabled then 'notifications are switched off in this campaign'
      when g.status <> 'active' or g.ends_at <= v_now then 'the campaign has ended'
      when p.whatsapp_opt_in_at is null then 'the participant has withdrawn consent'
      else 'quiet hours' end,
    m.id is null or m.status <> 'queued' or not g.notifications_enabled or g.status <> 'active' or coalesce(g.ends_at <= v_now, false)
      or p.whatsapp_opt_in_at is null
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
  left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
  left join public.participants p on p.tenant_id = m.tenant_id and p.id = m.participant_id
  left join lateral (
    select private.window_opens_at(g.time_zone, g.notify_from, g.notify_until, v_now) as opens_at where g.id is not null
  ) w on true;
end
$function$;

create or replace function private.load_verifications (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language sql
  stable
  set search_path to ''
  AS $function$
  select u.item_id,
    jsonb_build_object(
      'completion_id', c.id, 'kind', t.kind, 'post_id', t.post_id, 'code', c.code,
      'instagram_username', p.instagram_username, 'facebook_user_id', p.facebook_user_id,
      'since', t.created_at, 'deadline', c.deadline,
      'recheck_seconds', greatest(1, extract(epoch from t.recheck_every)::integer)),
    null::timestamptz,
    case when c.id is null then 'the completion is gone' when c.status <> 'pending' then format('the completion is %s', c.status) end,
    c.status is distinct from 'pending'
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.completions c on c.tenant_id = u.tenant_id and c.id = u.subject_id
  left join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  left join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
$function$;

create or replace function private.lock_tenant (
  p_tenant_id uuid,
  p_role public.member_role
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  perform private.require_role(p_tenant_id, p_role);
  perform from public.tenants t where t.id = p_tenant_id for no key update;
  perform private.require_role(p_tenant_id, p_role);
end
$function$;

create or replace function private.my_queues()
  returns table (
    tenant_id uuid,
    job text,
    plan_id text,
    awake boolean,
    reason text,
    detail text,
    wake_at timestamp with time zone,
    ready bigint,
    waiting bigint,
    in_flight bigint,
    oldest_ready_seconds numeric,
    dead bigint
  )
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select q.* from jobs.queue_state(array(select private.tenant_ids('viewer'))) q
$function$;

create or replace function private.my_service_levels()
  returns table (
    job text,
    tenant_id uuid,
    plan_id text,
    tries bigint,
    succeeded bigint,
    success_rate numeric,
    per_minute numeric,
    wait_p50_seconds numeric,
    wait_p95_seconds numeric,
    wait_p99_seconds numeric,
    target_seconds integer,
    within_target numeric
  )
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select s.* from jobs.service_report(now() - interval '1 day', array(select private.tenant_ids('viewer'))) s
$function$;

create or replace function private.my_tenants()
  returns table (
    tenant_id uuid,
    slug text,
    name text,
    role public.member_role,
    status public.tenant_status,
    time_zone text,
    locale text,
    is_active boolean
  )
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select t.id, t.slug, t.name, m.role, t.status, t.time_zone, t.locale, a.user_id is not null
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  left join private.active_tenants a on a.user_id = m.user_id and a.active_tenant_id = m.tenant_id
  where m.user_id = (select auth.uid()) and (t.status <> 'closed' or m.role = 'owner')
  order by t.name, t.id
$function$;

create or replace function private.normalise_participant()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  new.instagram_username := nullif(lower(ltrim(btrim(new.instagram_username), '@')), '');
  new.phone := nullif(regexp_replace(new.phone, '[ ()./-]', '', 'g'), '');
  new.display_name := btrim(new.display_name);
  return new;
end
$function$;

create or replace function private.normalise_tenant()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  new.name := btrim(normalize(new.name, nfkc));
  return new;
end
$function$;

create or replace function private.participant_ids()
  returns SETOF uuid
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select p.id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed'
$function$;

create or replace function private.participant_tenant_ids()
  returns SETOF uuid
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select p.tenant_id
  from public.participants p
  join public.tenants t on t.id = p.tenant_id
  where p.user_id = (select auth.uid()) and t.status <> 'closed'
$function$;

create or replace function private.platform_secret (
  p_name text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select s.decrypted_secret from vault.decrypted_secrets s where s.name = p_name
$function$;

create or replace function private.refuse_change()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  raise exception 'The audit log is append-only.' using errcode = '42501';
end
$function$;

create or replace function private.remove_credential (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_secret_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  delete from public.credentials c where c.tenant_id = p_tenant_id and c.provider = p_provider returning c.secret_id into v_secret_id;
  if v_secret_id is null then
    return false;
  end if;
  delete from vault.secrets s where s.id = v_secret_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform private.audit(p_tenant_id, 'credential.removed', jsonb_build_object('provider', p_provider));
  return true;
end
$function$;

create or replace function private.remove_member (
  p_tenant_id uuid,
  p_user_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_role public.member_role;
begin
  perform private.lock_tenant(p_tenant_id, 'admin');
  v_role := private.role_to_manage(p_tenant_id, p_user_id);
  delete from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  perform private.audit(p_tenant_id, 'member.removed', jsonb_build_object('user_id', p_user_id, 'role', v_role));
end
$function$;

create or replace function private.reopen_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_is_platform boolean := private.is_platform() or private.is_platform_admin();
begin
  update public.tenants t set status = 'active'
  where t.id = p_tenant_id
    and (v_is_platform and t.status <> 'active'
      or t.status = 'closed' and exists (
        select from public.memberships m where m.tenant_id = t.id and m.user_id = (select auth.uid()) and m.role = 'owner'));
  if not found then
    raise exception 'There is no such tenant for you to reopen.' using errcode = '42501';
  end if;
  perform private.audit(p_tenant_id, 'tenant.reopened');
end
$function$;

create or replace function private.require_role (
  p_tenant_id uuid,
  p_role public.member_role
)
  returns void
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
begin
  if p_tenant_id is null or not exists (select from private.tenant_ids(p_role) t where t = p_tenant_id) then
    raise exception 'No such tenant, or your role is below %.', p_role using errcode = '42501';
  end if;
end
$function$;

create or replace function private.require_user()
  returns uuid
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  if not exists (select from auth.users u where u.id = (select auth.uid()) and not coalesce(u.is_anonymous, false)) then
    raise exception 'Sign in first.' using errcode = '42501';
  end if;
  return (select auth.uid());
end
$function$;

create or replace function private.revoke_invitation (
  p_tenant_id uuid,
  p_invitation_id uuid
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  update public.invitations i set revoked_at = now()
  where i.tenant_id = p_tenant_id and i.id = p_invitation_id and i.accepted_at is null and i.revoked_at is null;
  if not found then
    return false;
  end if;
  perform private.audit(p_tenant_id, 'invitation.revoked', jsonb_build_object('invitation_id', p_invitation_id));
  return true;
end
$function$;

create or replace function private.role_to_manage (
  p_tenant_id uuid,
  p_user_id uuid
)
  returns public.member_role
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_own public.member_role;
  v_role public.member_role;
begin
  select m.role into v_own from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid());
  select m.role into v_role from public.memberships m where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  if v_role is null then
    raise exception 'There is no such member.' using errcode = 'PT404';
  end if;
  if p_user_id is distinct from (select auth.uid()) and v_own is distinct from 'owner' and (v_own is null or v_role >= v_own) then
    raise exception 'Only an owner manages members of this role.' using errcode = '42501';
  end if;
  return v_role;
end
$function$;

create or replace function private.set_active_tenant (
  p_tenant_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if p_tenant_id is null then
    delete from private.active_tenants a where a.user_id = (select auth.uid());
    return;
  end if;
  perform private.require_role(p_tenant_id, 'viewer');
  insert into private.active_tenants as a (user_id, active_tenant_id)
  values ((select auth.uid()), p_tenant_id)
  on conflict on constraint active_tenants_pkey do update set active_tenant_id = excluded.active_tenant_id, chosen_at = now();
end
$function$;

create or replace function private.set_credential (
  p_tenant_id uuid,
  p_provider public.provider,
  p_kind text,
  p_secret jsonb,
  p_account jsonb
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_secret_id uuid;
  v_fingerprint text := left(encode(sha256(convert_to(p_secret::text || p_tenant_id::text, 'UTF8')), 'hex'), 12);
  v_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('set_credential', p_tenant_id);
  end if;
  perform private.check_credential(p_provider, p_kind, p_secret, p_account);
  v_secret_id := private.keep_secret(format('credential/%s/%s', p_tenant_id, p_provider), p_secret::text);
  insert into public.credentials as c (tenant_id, provider, kind, account, secret_id, fingerprint)
  values (p_tenant_id, p_provider, p_kind, p_account, v_secret_id, v_fingerprint)
  on conflict on constraint one_credential_per_tenant_and_provider do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      health = 'unchecked', health_reason = null, checked_at = null, expires_at = null
  returning c.id into v_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform private.audit(p_tenant_id, 'credential.set',
    jsonb_build_object('provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('credential_id', v_id, 'provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint);
end
$function$;

create or replace function private.setting (
  p_name text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select s.value from private.settings s where s.name = p_name
$function$;

create or replace function private.suspend_tenant (
  p_tenant_id uuid,
  p_reason text
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if not (private.is_platform() or private.is_platform_admin()) then
    raise exception 'Only the platform suspends a tenant.' using errcode = '42501';
  end if;
  update public.tenants t set status = 'suspended' where t.id = p_tenant_id and t.status <> 'suspended';
  if not found then
    raise exception 'There is no such tenant to suspend.' using errcode = 'PT404';
  end if;
  perform private.audit(p_tenant_id, 'tenant.suspended', jsonb_build_object('reason', left(p_reason, 500)));
end
$function$;

create or replace function private.take_rate (
  p_key text,
  p_limit integer,
  p_seconds integer
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_wait integer := private.count_call(p_key, p_limit, p_seconds);
begin
  if v_wait is not null then
    -- The Data API takes status and headers of an error from here. A plain PT429 would be answered without Retry-After.
    raise sqlstate 'PGRST' using
      message = jsonb_build_object(
        'code', 'PT429',
        'message', 'Too many requests.',
        'details', format('retry after %s seconds', v_wait),
        'hint', null)::text,
      detail = jsonb_build_object('status', 429, 'headers', jsonb_build_object('Retry-After', v_wait::text))::text;
  end if;
end
$function$;

create or replace function private.tenant_ids (
  p_role public.member_role default 'viewer'::public.member_role
)
  returns SETOF uuid
  language sql
  stable
  security definer
  set search_path to ''
  AS $function$
  select m.tenant_id
  from public.memberships m
  join public.tenants t on t.id = m.tenant_id
  where m.user_id = (select auth.uid()) and m.role >= p_role
    -- A suspended tenant can be read, a closed one is gone for its members.
    and (t.status = 'active' or (t.status = 'suspended' and p_role = 'viewer'))
$function$;

create or replace function private.transfer_ownership (
  p_tenant_id uuid,
  p_user_id uuid
)
  returns void
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform private.lock_tenant(p_tenant_id, 'owner');
  perform private.role_to_manage(p_tenant_id, p_user_id);
  if p_user_id = (select auth.uid()) then
    raise exception 'You are an owner already. Name the member who becomes one.' using errcode = '22023';
  end if;
  update public.memberships m set role = 'owner' where m.tenant_id = p_tenant_id and m.user_id = p_user_id;
  update public.memberships m set role = 'admin' where m.tenant_id = p_tenant_id and m.user_id = (select auth.uid());
  perform private.audit(p_tenant_id, 'ownership.transferred', jsonb_build_object('from', (select auth.uid()), 'to', p_user_id));
end
$function$;

create or replace function private.wake_capped()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_job text;
begin
  for v_job in select d.job from jobs.definitions d order by d.job loop
    perform jobs.wake_blocked(v_job, array(
      select l.tenant_id from jobs.lanes l join public.tenants t on t.id = l.tenant_id
      where l.job = v_job and l.reason = 'cap' and t.plan_id = new.plan_id), 'cap');
  end loop;
  return null;
end
$function$;

create or replace function private.wake_tenant()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_job text;
begin
  for v_job in select l.job from jobs.lanes l where l.tenant_id = new.id order by l.job loop
    if new.status = 'active' and old.status <> 'active' then
      perform jobs.wake_blocked(v_job, array[new.id], 'paused');
    end if;
    if new.plan_id <> old.plan_id then
      perform jobs.wake_blocked(v_job, array[new.id], 'cap');
      update jobs.lanes l
      set not_before = n.at, wake_at = case when l.reason = 'cadence' then n.at else l.wake_at end
      from public.plans p
      cross join lateral (select clock_timestamp() + make_interval(secs => p.cadence_seconds) as at) n
      where p.plan_id = new.plan_id and l.tenant_id = new.id and l.job = v_job and l.reason = 'cadence' and l.not_before > n.at;
    end if;
  end loop;
  return null;
end
$function$;

create or replace function private.why (
  p_tenant_id uuid,
  p_item_id bigint
)
  returns text
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
begin
  perform private.require_role(p_tenant_id, 'viewer');
  return jobs.why(p_item_id, p_tenant_id);
end
$function$;

create or replace function private.window_closes_at (
  p_time_zone text,
  p_from time without time zone,
  p_until time without time zone,
  p_at timestamp with time zone
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select case when p_from = '00:00' and p_until = '24:00' then 'infinity' else coalesce((
    select e from private.window_edges(p_time_zone, p_from, p_until, p_at) e
    where not private.window_is_open(p_from, p_until, (e at time zone p_time_zone)::time)
    order by e
    limit 1), 'infinity') end
$function$;

create or replace function private.window_edges (
  p_time_zone text,
  p_from time without time zone,
  p_until time without time zone,
  p_at timestamp with time zone
)
  returns SETOF timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  with wall as (
    select (p_at at time zone p_time_zone)::date + d + t as local
    from generate_series(-1, 3) d, unnest(array[p_from, p_until]) t
  ),
  edge as (
    select w.local at time zone p_time_zone + s as at
    from wall w, unnest(array[interval '-2 hours', interval '-1 hour', interval '-30 minutes', interval '0', interval '30 minutes', interval '1 hour']) s
    where (w.local at time zone p_time_zone + s) at time zone p_time_zone = w.local
    union
    select q
    from generate_series(date_trunc('hour', p_at), p_at + interval '3 days', interval '15 minutes') q
    where (q at time zone p_time_zone) - ((q - interval '15 minutes') at time zone p_time_zone) <> interval '15 minutes'
  )
  select edge.at from edge where edge.at > p_at order by edge.at
$function$;

create or replace function private.window_is_open (
  p_from time without time zone,
  p_until time without time zone,
  p_local time without time zone
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case when p_from <= p_until then p_local >= p_from and p_local < p_until else p_local >= p_from or p_local < p_until end
$function$;

create or replace function private.window_opens_at (
  p_time_zone text,
  p_from time without time zone,
  p_until time without time zone,
  p_at timestamp with time zone
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select case when private.window_is_open(p_from, p_until, (p_at at time zone p_time_zone)::time) then p_at else (
    select e from private.window_edges(p_time_zone, p_from, p_until, p_at) e
    where private.window_is_open(p_from, p_until, (e at time zone p_time_zone)::time)
    order by e
    limit 1) end
$function$;

create or replace function public.accept_invitation (
  token text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.accept_invitation(accept_invitation.token)
$function$;

create or replace function public.change_role (
  tenant_id uuid,
  user_id uuid,
  role public.member_role
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.change_role(change_role.tenant_id, change_role.user_id, change_role.role)
$function$;

create or replace function public.claim_task (
  tenant_id uuid,
  task_id uuid
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.claim_task(claim_task.tenant_id, claim_task.task_id)
$function$;

create or replace function public.close_tenant (
  tenant_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.close_tenant(close_tenant.tenant_id)
$function$;

create or replace function public.create_campaign (
  tenant_id uuid,
  name text,
  starts_at timestamp with time zone default now(),
  ends_at timestamp with time zone default null::timestamp with time zone,
  time_zone text default null::text,
  notifications_enabled boolean default null::boolean,
  notify_from time without time zone default null::time without time zone,
  notify_until time without time zone default null::time without time zone
)
  returns public.campaigns
  language sql
  set search_path to ''
  AS $function$
  insert into public.campaigns (tenant_id, name, starts_at, ends_at, time_zone, notifications_enabled, notify_from, notify_until)
  select create_campaign.tenant_id, create_campaign.name, create_campaign.starts_at, create_campaign.ends_at,
    coalesce(create_campaign.time_zone, t.time_zone, 'UTC'),
    coalesce(create_campaign.notifications_enabled, t.campaign_notifications, true),
    coalesce(create_campaign.notify_from, t.campaign_notify_from, '00:00'),
    coalesce(create_campaign.notify_until, t.campaign_notify_until, '24:00')
  -- Without a tenant to see there is a row all the same, for the policy to refuse.
  from (select) caller left join public.tenants t on t.id = create_campaign.tenant_id
  returning *
$function$;

create or replace function public.create_tenant (
  name text,
  slug text,
  time_zone text default 'UTC'::text
)
  returns public.tenants
  language sql
  set search_path to ''
  AS $function$
  select private.create_tenant(create_tenant.name, create_tenant.slug, create_tenant.time_zone)
$function$;

create or replace function public.invite_member (
  tenant_id uuid,
  email text,
  role public.member_role default 'member'::public.member_role,
  valid_days integer default 7
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.invite_member(invite_member.tenant_id, invite_member.email, invite_member.role, invite_member.valid_days)
$function$;

create or replace function public.join_campaign (
  tenant_id uuid,
  campaign_id uuid,
  display_name text,
  phone text default null::text,
  instagram_username text default null::text,
  facebook_user_id text default null::text,
  whatsapp_opt_in boolean default false
)
  returns uuid
  language sql
  set search_path to ''
  AS $function$
  select private.join_campaign(join_campaign.tenant_id, join_campaign.campaign_id, join_campaign.display_name, join_campaign.phone,
    join_campaign.instagram_username, join_campaign.facebook_user_id, join_campaign.whatsapp_opt_in)
$function$;

create or replace function public.leave_tenant (
  tenant_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.leave_tenant(leave_tenant.tenant_id)
$function$;

create or replace function public.list_members (
  tenant_id uuid
)
  returns table (
    user_id uuid,
    email text,
    role public.member_role,
    since timestamp with time zone
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select * from private.list_members(list_members.tenant_id)
$function$;

create or replace function public.my_tenants()
  returns table (
    tenant_id uuid,
    slug text,
    name text,
    role public.member_role,
    status public.tenant_status,
    time_zone text,
    locale text,
    is_active boolean
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select * from private.my_tenants()
$function$;

create or replace function public.remove_credential (
  tenant_id uuid,
  provider public.provider
)
  returns boolean
  language sql
  set search_path to ''
  AS $function$
  select private.remove_credential(remove_credential.tenant_id, remove_credential.provider)
$function$;

create or replace function public.remove_member (
  tenant_id uuid,
  user_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.remove_member(remove_member.tenant_id, remove_member.user_id)
$function$;

create or replace function public.reopen_tenant (
  tenant_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.reopen_tenant(reopen_tenant.tenant_id)
$function$;

create or replace function public.revoke_invitation (
  tenant_id uuid,
  invitation_id uuid
)
  returns boolean
  language sql
  set search_path to ''
  AS $function$
  select private.revoke_invitation(revoke_invitation.tenant_id, revoke_invitation.invitation_id)
$function$;

create or replace function public.set_active_tenant (
  tenant_id uuid default null::uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.set_active_tenant(set_active_tenant.tenant_id)
$function$;

create or replace function public.set_credential (
  tenant_id uuid,
  provider public.provider,
  kind text,
  secret jsonb,
  account jsonb default '{}'::jsonb
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.set_credential(
    set_credential.tenant_id, set_credential.provider, set_credential.kind, set_credential.secret, set_credential.account)
$function$;

create or replace function public.suspend_tenant (
  tenant_id uuid,
  reason text
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.suspend_tenant(suspend_tenant.tenant_id, suspend_tenant.reason)
$function$;

create or replace function public.transfer_ownership (
  tenant_id uuid,
  user_id uuid
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  select private.transfer_ownership(transfer_ownership.tenant_id, transfer_ownership.user_id)
$function$;

create or replace function public.why (
  tenant_id uuid,
  item_id bigint
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.why(why.tenant_id, why.item_id)
$function$;

alter table "jobs"."attempts"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "attempts_pkey" primary key (tenant_id, item_id, try, finished_at);

alter table "jobs"."attempts"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "outcome_is_one_of_the_known"
    check
    ((outcome = ANY (ARRAY['done'::text, 'unknown'::text, 'retry'::text, 'refused'::text, 'snoozed'::text,
    'throttled'::text, 'credential broken'::text, 'lost'::text, 'held'::text, 'cancelled'::text])));

alter table "jobs"."breakers"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "breakers_pkey" primary key (tenant_id, provider);

alter table "jobs"."definitions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "a_raw_job_has_a_command" check (((kind = 'raw'::jobs.kind) = (command IS NOT NULL)));

alter table "jobs"."definitions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "a_sql_job_has_a_work_function" check (((kind = 'sql'::jobs.kind) = (work_function IS
    NOT NULL)));

alter table "jobs"."clocks"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "clocks_job_fkey" foreign key (job) references jobs.definitions(job) on delete cascade;

alter table "jobs"."definitions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "effects_need_a_provider" check (((NOT effects) OR (provider IS NOT NULL)));

alter table "jobs"."drains"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "drains_job_fkey" foreign key (job) references jobs.definitions(job) on delete cascade;

alter table "jobs"."leases"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "leases_batch_fkey" foreign key (batch_id) references jobs.batches(batch_id)
    on delete cascade;

alter table "jobs"."provider_limits"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "provider_limits_pkey" primary key (provider);

alter table "jobs"."rates"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "rates_pkey" primary key (tenant_id, provider);

alter table "jobs"."runs"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "a_run_that_ended_has_a_status"
    check (((status = 'running'::jobs.run_status) = (finished_at IS NULL)));

alter table "jobs"."runs"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "runs_job_fkey" foreign key (job) references jobs.definitions(job) on delete cascade;

alter table "jobs"."run_tenants"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "run_tenants_run_fkey" foreign key (run_id) references jobs.runs(run_id) on delete cascade;

alter table "private"."platform_admins"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "platform_admins_user_fkey" foreign key (user_id) references auth.users(id) on delete cascade;

alter table "private"."platform_credentials"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "platform_credentials_pkey" primary key (provider);

alter table "public"."completions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "verified_at_is_set_when_verified"
    check (((status = 'verified'::public.completion_status) = (verified_at IS NOT NULL)));

alter table "public"."credentials"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "kind_belongs_to_the_provider"
    check
    ((((provider = 'meta'::public.provider) AND (kind = ANY (ARRAY['facebook_login'::text,
    'instagram_login'::text]))) OR
    ((provider = 'whatsapp'::public.provider) AND (kind = ANY (ARRAY['whatsapp_cloud'::text, 'waapi'::text])))
    OR ((provider = 'stripe'::public.provider) AND (kind = 'own_key'::text)) OR
    ((provider = 'email'::public.provider) AND (kind = 'resend'::text))));

alter table "public"."credentials"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "one_credential_per_tenant_and_provider" unique (tenant_id, provider);

alter table "private"."active_tenants"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "active_tenants_membership_fkey" foreign key (active_tenant_id, user_id)
    references public.memberships(tenant_id, user_id) on delete cascade;

alter table "public"."memberships"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "memberships_user_fkey" foreign key (user_id) references auth.users(id) on delete cascade;

alter table "public"."notification_outbox"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "notification_outbox_campaign_fkey" foreign key (tenant_id, campaign_id)
    references public.campaigns(tenant_id, id) on delete cascade;

alter table "public"."notification_outbox"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "notification_outbox_completion_fkey" foreign key (tenant_id, completion_id)
    references public.completions(tenant_id, id) on delete cascade;

alter table "public"."notification_outbox"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "one_message_per_kind_and_completion" unique (tenant_id, completion_id, kind);

alter table "public"."notification_outbox"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "sent_at_is_set_when_sent" check (((status = 'sent'::public.message_status) = (sent_at IS
    NOT NULL)));

alter table "public"."completions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "completions_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "public"."notification_outbox"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "notification_outbox_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "public"."participants"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "participants_user_fkey" foreign key (user_id) references auth.users(id) on delete set null;

alter table "public"."social_tasks"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "social_tasks_campaign_fkey" foreign key (tenant_id, campaign_id)
    references public.campaigns(tenant_id, id) on delete cascade;

alter table "public"."completions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "completions_task_fkey" foreign key (tenant_id, task_id)
    references public.social_tasks(tenant_id, id) on delete cascade;

alter table "public"."spin_ledger"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "spin_ledger_campaign_fkey" foreign key (tenant_id, campaign_id)
    references public.campaigns(tenant_id, id) on delete cascade;

alter table "public"."spin_ledger"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "spin_ledger_completion_fkey" foreign key (tenant_id, completion_id)
    references public.completions(tenant_id, id) on delete cascade;

alter table "public"."spin_ledger"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "spin_ledger_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "public"."campaigns"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "campaigns_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."credentials"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "credentials_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."invitations"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "invitations_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."memberships"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "memberships_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."participants"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "participants_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."tenants"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "tenants_plan_fkey" foreign key (plan_id) references public.plans(plan_id);

create view "jobs"."plan_levels" with (security_invoker=true) AS  SELECT job,
    plan_id,
    sum(tries) AS tries,
    round((sum(succeeded) / sum(tries)), 4) AS success_rate,
    max(wait_p99_seconds) AS worst_wait_p99_seconds,
    min(target_seconds) AS target_seconds,
    round((sum((within_target * (tries)::numeric)) / sum(tries)), 4) AS within_target
   FROM jobs.service_report((now() - '1 day'::interval)) s(job, tenant_id, plan_id, tries, succeeded, success_rate, per_minute, wait_p50_seconds, wait_p95_seconds, wait_p99_seconds, target_seconds, within_target)
  GROUP BY job, plan_id;

create view "jobs"."queues" with (security_invoker=true) AS  SELECT tenant_id,
    job,
    plan_id,
    awake,
    reason,
    detail,
    wake_at,
    ready,
    waiting,
    in_flight,
    oldest_ready_seconds,
    dead
   FROM jobs.queue_state() q(tenant_id, job, plan_id, awake, reason, detail, wake_at, ready, waiting, in_flight, oldest_ready_seconds, dead);

create view "jobs"."service_levels" with (security_invoker=true) AS  SELECT job,
    tenant_id,
    plan_id,
    tries,
    succeeded,
    success_rate,
    per_minute,
    wait_p50_seconds,
    wait_p95_seconds,
    wait_p99_seconds,
    target_seconds,
    within_target
   FROM jobs.service_report((now() - '1 day'::interval)) s(job, tenant_id, plan_id, tries, succeeded, success_rate, per_minute, wait_p50_seconds, wait_p95_seconds, wait_p99_seconds, target_seconds, within_target);

create view "public"."job_queues" with (security_invoker=true) AS  SELECT tenant_id,
    job,
    plan_id,
    awake,
    reason,
    detail,
    wake_at,
    ready,
    waiting,
    in_flight,
    oldest_ready_seconds,
    dead
   FROM private.my_queues() q(tenant_id, job, plan_id, awake, reason, detail, wake_at, ready, waiting, in_flight, oldest_ready_seconds, dead);

create view "public"."job_service_levels" with (security_invoker=true) AS  SELECT job,
    tenant_id,
    plan_id,
    tries,
    succeeded,
    success_rate,
    per_minute,
    wait_p50_seconds,
    wait_p95_seconds,
    wait_p99_seconds,
    target_seconds,
    within_target
   FROM private.my_service_levels() s(job, tenant_id, plan_id, tries, succeeded, success_rate, per_minute, wait_p50_seconds, wait_p95_seconds, wait_p99_seconds, target_seconds, within_target);

create unique index alerts_one_open_per_incident_idx on jobs.alerts
  using btree (COALESCE(tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), incident)
  where (closed_at is null);

create index batches_lease_until_idx on jobs.batches using btree (lease_until);

create index dead_items_job_died_at_idx on jobs.dead_items using btree (job, died_at desc);

create index drains_ended_at_idx on jobs.drains using btree (ended_at);

create index drains_job_idx on jobs.drains using btree (job)
  where (ended_at is null);

create index items_job_tenant_id_run_at_idx on jobs.items using btree (job, tenant_id, run_at, item_id)
  where (batch_id is null);

create unique index items_tenant_id_job_dedupe_key_idx on jobs.items using btree (tenant_id, job, dedupe_key)
  where (dedupe_key is not null);

create index lanes_job_reason_idx on jobs.lanes using btree (job, reason)
  where (reason = ANY (ARRAY['breaker'::text, 'cap'::text, 'paused'::text]));

create index lanes_job_vtime_idx on jobs.lanes using btree (job, vtime, tenant_id)
  where awake;

create index lanes_job_wake_at_idx on jobs.lanes using btree (job, wake_at)
  where (wake_at is not null);

create index leases_batch_id_idx on jobs.leases using btree (batch_id);

create index leases_job_idx on jobs.leases using btree (job);

create index run_tenants_run_id_idx on jobs.run_tenants using btree (run_id);

create index runs_job_started_at_idx on jobs.runs using btree (job, started_at desc);

create unique index runs_one_open_queue_run_idx on jobs.runs using btree (job)
  where ((trigger = 'queue'::text) AND (finished_at is null));

create index active_tenants_active_tenant_id_user_id_idx on private.active_tenants
  using btree (active_tenant_id, user_id);

create index rate_windows_ends_at_idx on private.rate_windows using btree (ends_at);

create index audit_log_tenant_id_at_idx on public.audit_log using btree (tenant_id, at desc);

create unique index completions_one_proof_per_comment_idx on public.completions
  using btree (tenant_id, task_id, ((evidence ->> 'comment_id'::text)))
  where (status = 'verified'::public.completion_status);

create index completions_tenant_id_claimed_at_idx on public.completions
  using btree (tenant_id, claimed_at desc);

create index completions_tenant_id_participant_id_idx on public.completions
  using btree (tenant_id, participant_id);

create index invitations_tenant_id_email_idx on public.invitations using btree (tenant_id, email)
  where ((accepted_at is null) AND (revoked_at is null));

create index invitations_token_hash_idx on public.invitations using btree (token_hash);

create index memberships_user_id_idx on public.memberships using btree (user_id, role, tenant_id);

create index notification_outbox_tenant_id_campaign_id_idx on public.notification_outbox
  using btree (tenant_id, campaign_id);

create index notification_outbox_tenant_id_participant_id_idx on public.notification_outbox
  using btree (tenant_id, participant_id);

create unique index participants_tenant_id_instagram_username_idx on public.participants
  using btree (tenant_id, instagram_username);

create index participants_user_id_idx on public.participants using btree (user_id);

create index social_tasks_tenant_id_campaign_id_idx on public.social_tasks
  using btree (tenant_id, campaign_id);

create index spin_ledger_tenant_id_campaign_id_idx on public.spin_ledger using btree (tenant_id, campaign_id);

create index spin_ledger_tenant_id_participant_id_idx on public.spin_ledger
  using btree (tenant_id, participant_id);

create index tenants_plan_id_idx on public.tenants using btree (plan_id);

create trigger alerts_after_close_deliver
  after update of closed_at on jobs.alerts
  for each row
  when (((old.closed_at IS NULL) AND (new.closed_at IS NOT NULL)))
  execute function private.deliver_alert();

create trigger alerts_after_insert_deliver
  after insert on jobs.alerts
  for each row
  execute function private.deliver_alert();

create trigger definitions_after_update_wake
  after update of platform_allowed on jobs.definitions
  for each row
  execute function jobs.wake_job();

create trigger definitions_before_write_check
  before insert or update on jobs.definitions
  for each row
  execute function jobs.check_definition();

create trigger audit_log_before_change_refuse
  before delete or update on public.audit_log
  for each row
  execute function private.refuse_change();

create trigger campaigns_before_update_keep_row_rules
  before update on public.campaigns
  for each row
  execute function private.keep_row_rules();

create trigger campaigns_before_write_check
  before insert or update of time_zone on public.campaigns
  for each row
  execute function private.check_time_zone();

create trigger completions_before_update_keep_row_rules
  before update on public.completions
  for each row
  execute function private.keep_row_rules();

create trigger credentials_before_update_keep_row_rules
  before update on public.credentials
  for each row
  execute function private.keep_row_rules();

create trigger invitations_before_update_keep_row_rules
  before update on public.invitations
  for each row
  execute function private.keep_row_rules();

create trigger memberships_after_delete_keep_an_owner
  after delete on public.memberships
  for each row
  when ((old.role = 'owner'::public.member_role))
  execute function private.keep_an_owner();

create trigger memberships_after_update_keep_an_owner
  after update of role on public.memberships
  for each row
  when (((old.role = 'owner'::public.member_role) AND (new.role <> 'owner'::public.member_role)))
  execute function private.keep_an_owner();

create trigger memberships_before_update_keep_row_rules
  before update on public.memberships
  for each row
  execute function private.keep_row_rules();

create trigger notification_outbox_after_insert_enqueue
  after insert on public.notification_outbox referencing NEW table as new_messages
  for each STATEMENT
  execute function private.enqueue_messages();

create trigger notification_outbox_before_update_keep_row_rules
  before update on public.notification_outbox
  for each row
  execute function private.keep_row_rules();

create trigger participants_before_update_keep_row_rules
  before update on public.participants
  for each row
  execute function private.keep_row_rules();

create trigger participants_before_write_normalise
  before insert or update on public.participants
  for each row
  execute function private.normalise_participant();

create trigger plans_after_update_wake
  after update of cap on public.plans
  for each row
  when ((new.cap > old.cap))
  execute function private.wake_capped();

create trigger social_tasks_before_update_keep_row_rules
  before update on public.social_tasks
  for each row
  execute function private.keep_row_rules();

create trigger tenants_after_delete_forget
  after delete on public.tenants
  for each row
  execute function private.forget_tenant();

create trigger tenants_after_update_audit
  after update of name,
    time_zone, locale, campaign_notifications, campaign_notify_from, campaign_notify_until on public.tenants
  for each row
  execute function private.audit_tenant();

create trigger tenants_after_update_wake
  after update of status, plan_id on public.tenants
  for each row
  when (((old.status <> new.status) OR (old.plan_id <> new.plan_id)))
  execute function private.wake_tenant();

create trigger tenants_before_update_keep_row_rules
  before update on public.tenants
  for each row
  execute function private.keep_row_rules();

create trigger tenants_before_write_check
  before insert or update of time_zone on public.tenants
  for each row
  execute function private.check_time_zone();

create trigger tenants_before_write_normalise
  before insert or update of name on public.tenants
  for each row
  execute function private.normalise_tenant();

create policy "audit_log_select_owners" on "public"."audit_log"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('owner'::public.member_role) as tenant_ids))));

create policy "campaigns_delete_admins" on "public"."campaigns"
  for delete
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "campaigns_insert_members" on "public"."campaigns"
  for insert
  to "authenticated"
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "campaigns_select_members_and_participants" on "public"."campaigns"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    ((status <> 'draft'::public.campaign_status) AND (tenant_id = ANY (ARRAY( select
    private.participant_tenant_ids() as participant_tenant_ids))))));

create policy "campaigns_update_members" on "public"."campaigns"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "completions_select_members_and_self" on "public"."completions"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (participant_id = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "credentials_select_admins" on "public"."credentials"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "invitations_select_admins" on "public"."invitations"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "memberships_select_members" on "public"."memberships"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "notification_outbox_select_members_and_self" on "public"."notification_outbox"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (participant_id = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "participants_select_members_and_self" on "public"."participants"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or (id
    = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "participants_update_self" on "public"."participants"
  for update
  to "authenticated"
  using ((id = ANY (ARRAY( select private.participant_ids() as participant_ids))))
  with check ((id = ANY (ARRAY( SELECT private.participant_ids() AS participant_ids))));

create policy "plans_select_everyone" on "public"."plans"
  for select
  to "authenticated"
  using ((plan_id is not null));

create policy "social_tasks_delete_admins" on "public"."social_tasks"
  for delete
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "social_tasks_insert_members" on "public"."social_tasks"
  for insert
  to "authenticated"
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "social_tasks_select_members_and_participants" on "public"."social_tasks"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (active AND (tenant_id = ANY (ARRAY( select private.participant_tenant_ids() as participant_tenant_ids)))
    AND (exists ( select
   from public.campaigns c
  where
    ((c.tenant_id = social_tasks.tenant_id) AND (c.id = social_tasks.campaign_id) AND (c.status <>
    'draft'::public.campaign_status)))))));

create policy "social_tasks_update_members" on "public"."social_tasks"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "spin_ledger_select_members_and_self" on "public"."spin_ledger"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (participant_id = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "tenants_select_members" on "public"."tenants"
  for select
  to "authenticated"
  using ((id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "tenants_update_admins" on "public"."tenants"
  for update
  to "authenticated"
  using ((id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))))
  with check ((id = ANY (ARRAY( SELECT private.tenant_ids('admin'::public.member_role) AS tenant_ids))));

comment on column "jobs"."batches"."loaded" is 'True once the batch was handed out: from then on its outcomes speak about the provider.';

comment on column "jobs"."definitions"."apply_function" is 'schema.function(ended jobs.ended[]) returns void: what the end of items means to the domain, in the transaction that ends them.';

comment on column "jobs"."definitions"."breaker_after" is 'So many servings of a tenant that fail in a row open its breaker for the provider.';

comment on column "jobs"."definitions"."command" is 'Raw jobs: one command that cannot run in a transaction, such as VACUUM; the worker runs it on a connection of its own.';

comment on column "jobs"."definitions"."condition_function" is 'schema.function() returns boolean; false at a slot: nothing to do, no run, no doorbell.';

comment on column "jobs"."definitions"."cost_unit" is 'What fair queueing charges: items, or what the worker reports as cost of an outcome (provider calls, milliseconds).';

comment on column "jobs"."definitions"."effects" is 'True where the provider has no idempotency key: an item whose call had begun when its worker was lost ends as unknown, it is not sent again.';

comment on column "jobs"."definitions"."eligible_function" is 'schema.function() returns setof uuid: for which tenants a slot is run. Null: all active ones.';

comment on column "jobs"."definitions"."has_cadence" is 'True: a lane is served once per cadence_seconds of its tenant''s plan. False: as soon as there is work.';

comment on column "jobs"."definitions"."load_function" is 'schema.function(tenant_ids uuid[], item_ids bigint[], subject_ids uuid[], payloads jsonb[]) returns setof jobs.loaded: the data for each item, or why it must wait or end.';

comment on column "jobs"."definitions"."misfire" is 'Slots missed while nothing ran: skip drops them, once runs the latest, all runs up to misfire_limit of them, oldest first.';

comment on column "jobs"."definitions"."quantum" is 'How many items of one lane are served before the next lane has its turn: the bound on unfairness.';

comment on column "jobs"."definitions"."schedule" is 'Cron expression (five fields or @daily and so on) in time_zone. Null: a queue, served whenever it has work.';

comment on column "jobs"."definitions"."work_function" is 'SQL jobs: schema.function(tenant_id uuid, subject_id uuid, payload jsonb) returns jsonb, called per item in its own subtransaction.';

comment on column "jobs"."items"."attempts" is 'Attempts that count against max_attempts. Throttling, quiet hours and a broken credential burn none.';

comment on column "jobs"."items"."begun" is 'True once a call without an idempotency key may have left: then it is never sent again blindly.';

comment on column "jobs"."items"."run_id" is 'The scheduled run that this item is part of; null for items of a queue.';

comment on column "jobs"."items"."tries" is 'How often it was handed out, whatever came of it.';

comment on column "jobs"."lanes"."head_at" is 'Watermark: items before (head_at, head_id) were handed out, so a claim does not walk over them again. Forgotten after 30 s, so that a row that committed late or came back is found; ignored while null.';

comment on column "jobs"."lanes"."not_before" is 'The lane may not wake earlier than this: cadence of the plan, rate limit of the provider.';

comment on column "jobs"."lanes"."wake_at" is 'When a sleeping lane wakes by itself. Null: only an event wakes it (new work, a free place, a new credential).';

comment on column "jobs"."runs"."expected" is 'How many items a scheduled run has; when so many have ended, the run is over. Null for queues and manual runs.';

comment on column "public"."campaigns"."notify_from" is 'Messages leave from this local time on, until notify_until (half open). from > until crosses midnight; 00:00 to 24:00 is always; equal is never.';

comment on column "public"."completions"."code" is 'What the participant may put into the comment: the strongest link between a comment and a claim.';

comment on column "public"."invitations"."token_hash" is 'sha256 of the token, in hexadecimal. The token itself is nowhere.';

comment on column "public"."tenants"."campaign_notifications" is 'What a campaign starts with unless told otherwise, like campaign_notify_from and campaign_notify_until; its time zone is the tenant''s.';

comment on column "public"."tenants"."locale" is 'The language that the tenant writes to its participants in, such as en or pt-BR.';

comment on column "public"."tenants"."status" is 'active: served; suspended: readable, no background work; closed: invisible to its members.';

comment on function "jobs"."add_member"(uuid, uuid, public.member_role) is 'Platform only: makes a user a member of a tenant, or changes the role. Definer: memberships are written by functions only.';

comment on function "jobs"."add_platform_admin"(uuid) is 'Platform only: makes a user a platform admin. Definer: private.platform_admins is not reachable for any API role.';

comment on function "jobs"."answer_doorbell"(uuid) is 'A worker answers a doorbell: {"drain_id","job"}. Null when the ticket is unknown, older than 300 s or answered before: a doorbell that comes twice drains once. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."apply_ended"(jobs.definitions, jobs.settled[]) is 'Calls the job''s apply function for the items that end; one whose application fails becomes a retry, the others go through.';

comment on function "jobs"."backoff"(jobs.definitions, integer) is 'How long to wait before the next attempt: full jitter between 0 and the exponential bound of this job.';

comment on function "jobs"."begin_drain"(text) is 'Opens a drain of the database itself for a job with waiting lanes; null when none waits.';

comment on function "jobs"."begin_effects"(bigint, bigint[]) is 'To be called right before calls that have no idempotency key. Returns the items that may be sent: still leased to this batch and not begun before. If the worker is lost after this, they end as unknown and are not sent again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."call_load"(jobs.definitions, jobs.items[]) is 'The job''s load function for these items; an item that makes it raise comes back with cancel null and the error as its reason.';

comment on function "jobs"."cancel"(text, uuid, interval, boolean) is 'Cancels waiting items of a job, of one tenant or of all, only older ones if asked. dry_run (the default) says how many it would be. Returns how many. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."check_definition"() is 'Trigger: refuses a wrong schedule or zone, and works out the next slot.';

comment on function "jobs"."claim_lock"(text) is 'One claimer per job at a time. Taken in a statement of its own, before the one that reads: that makes caps exact.';

comment on function "jobs"."clean"(timestamp with time zone) is 'At most once an hour: makes and drops history partitions, removes old drains, runs, alerts and cron history.';

comment on function "jobs"."close_alert"(uuid, text) is 'Closes the open alert of an incident, if there is one.';

comment on function "jobs"."close_batch"(bigint, jsonb, boolean) is 'Outcomes of items of a batch: [{"item_id","outcome":"done","result"} | {"outcome":"retry","error","after_seconds"?} | {"outcome":"refused","error"} | {"outcome":"snooze","seconds"|"until","reason"} | {"outcome":"throttled","seconds","error"} | {"outcome":"credential_broken","error"}]. Returns {"closed","stale","next"}: stale items belong to this batch no more (lease over, or closed before) and were not touched. Safe to repeat. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."close_breakers"(public.provider, uuid[], timestamp
  with time zone) is 'The provider answered these tenants: their breakers close and their lanes wake; the provider''s own goes from open to recovering.';

comment on function "jobs"."count_failures"(jobs.definitions, jobs.settled[], timestamp
  with time zone) is 'Counts servings that failed in a row and opens the breaker of the tenant, or of the provider for all; an answer closes them.';

comment on function "jobs"."count_run"(jobs.batches, jobs.settled[]) is 'Adds what was settled to the counts and errors of its drain.';

comment on function "jobs"."define"(text, jsonb) is 'Adds a job or changes its settings: jobs.define(''nightly-report'', ''{"kind":"sql","meaning":"…","schedule":"0 4 * * *","work_function":"private.report"}''). For migrations and the SQL editor only: a job names functions that the database will call. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."drain_is_live"(jobs.drains, integer, timestamp
  with time zone) is 'True while a doorbell may still be answered or its drain was heard of within two leases.';

comment on function "jobs"."end_drain"(uuid, text) is 'A drain is over; the last one ends its run. Rings for other work that waits. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."enqueue"(text, uuid, uuid, timestamp
  with time zone, text, jsonb) is 'Adds one item in the caller''s transaction; 1 when it is new, 0 when its dedupe key is waiting or running already. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."enqueue_many"(text, uuid[], uuid[], timestamp
  with time zone, text[], jsonb[]) is 'Adds one item per element, in the caller''s transaction; returns how many were new (a dedupe key that is waiting or running already adds none). run_at defaults to now plus the job''s start delay. Errors: P0002 no such job, 23503 no such tenant. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."everyone_id"() is 'The tenant_id of breakers and rates that concern a provider for all tenants together.';

comment on function "jobs"."extend_batch"(bigint) is 'Heartbeat: renews the lease by the job''s lease_seconds. False: the lease is over, stop working on this batch. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."finish_lost_drains"(timestamp with time zone) is 'Ends drains that did not answer or fell silent, runs without a drain, and scheduled runs whose items have all ended.';

comment on function "jobs"."finish_run"(bigint) is 'Ends a run: error when all failed, warning when something did, else success.';

comment on function "jobs"."guard_of"(uuid) is 'Which of the 256 guards of a job protects the lane of this tenant.';

comment on function "jobs"."guards_of"(text) is 'The class of the advisory locks that are the guards of this job.';

comment on function "jobs"."health"() is 'Healthy or not, and why: {"healthy","reasons","checked_at"}. Names no tenant. Definer: looks at what pg_cron and the engine have, which no API role may.';

comment on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
  with time zone[], timestamp with time zone) is 'Of these lanes those that go to sleep, with reason and wake_at: until the next item is due, until the reason is gone, or until work arrives.';

comment on function "jobs"."judge"(jobs.definitions, uuid[], timestamp
  with time zone) is 'For each lane of a job: weight and room by the tenant''s plan, or the reason (paused, breaker, cap, rate limit) why it may have nothing now.';

comment on function "jobs"."judge_lanes"(jobs.definitions, uuid[], boolean[], bigint, timestamp
  with time zone) is 'For each lane of a job: weight and room by the tenant''s plan, or the reason (paused, breaker, cap, rate limit) why it may have nothing now. No lease of the job is older than p_oldest_batch.';

comment on function "jobs"."latest_slot"(text, text, timestamp with time zone, timestamp
  with time zone) is 'The latest slot of a schedule between two moments, or null.';

comment on function "jobs"."list"() is 'All jobs with their last run. Definer: reads definitions and history without a grant on each.';

comment on function "jobs"."load_batch"(jobs.definitions, jobs.batches, jobs.items[], timestamp
  with time zone) is 'The batch as the worker gets it: items with data, grouped by tenant, each group with its credential.';

comment on function "jobs"."make_partitions"(timestamp with time zone) is 'History partitions: today and three days ahead are there, those older than 30 days are dropped.';

comment on function "jobs"."match_outcomes"(jobs.definitions, jobs.batches, jsonb, timestamp
  with time zone) is 'The outcomes of the items that are still leased to the batch, with what becomes of each; others are left out.';

comment on function "jobs"."next_batch"(uuid, text, integer) is 'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","tenants":[{"tenant_id","slug","credential","items":[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. The only place where secrets leave the database. Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';

comment on function "jobs"."next_slots"(text, text, timestamp
  with time zone, integer) is 'The next times of a schedule in a time zone after a moment. Errors: 22023 with what is wrong in the expression or the zone.';

comment on function "jobs"."next_times"(text, integer) is 'The next times at which a scheduled job is due; none for a queue. Definer: reads definitions and history without a grant on each.';

comment on function "jobs"."open_alert"(uuid, text, text) is 'Opens an alert unless the incident has an open one.';

comment on function "jobs"."open_due_slots"(timestamp with time zone) is 'Starts the runs of all slots that are due; missed ones by the job''s misfire policy. Returns how many runs.';

comment on function "jobs"."open_run"(text, text) is 'Opens a run, or joins the one that is open for the queue of this job; null for a scheduled job.';

comment on function "jobs"."park"(uuid, public.provider, text, text) is 'The credential of this owner (a tenant or the platform) is broken: its lanes for the provider sleep until it changes; one alert. False when the credential with this fingerprint has been replaced: then nothing is parked.';

comment on function "jobs"."park_broken"(jobs.definitions, jobs.batches, jobs.settled[]) is
  'Parks what a broken credential concerns; an answer about a credential that was replaced meanwhile parks nothing.';

comment on function "jobs"."parse_cron"(text) is 'Parses a cron expression: five fields with names, ranges, steps and lists, or @hourly, @daily, @weekly, @monthly, @yearly. Raises 22023 with the field and the part that is wrong. Day and weekday both given: either matches.';

comment on function "jobs"."parse_cron_field"(text, text, integer, integer, text[]) is
  'The values of one cron field, sorted.';

comment on function "jobs"."parse_cron_value"(text, text, integer, integer, text[]) is
  'One number or name of a cron field.';

comment on function "jobs"."pause"(text, uuid) is 'Pauses a job for everybody, or one tenant''s lane of it. What is out with a worker ends normally; nothing new starts; nothing is lost. P0002: no such job. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp
  with time zone) is 'One round: leases up to p_room items to the batch from the lanes that are furthest behind, charges them, puts empty ones to sleep. Returns how many and which; picked is null when no lane is awake.';

comment on function "jobs"."platform_id"() is 'The tenant_id of items and lanes that belong to the platform itself.';

comment on function "jobs"."provider_is_down"(public.provider) is 'True while the breaker of the provider as a whole is open.';

comment on function "jobs"."provider_room"(public.provider, integer, timestamp
  with time zone) is 'How many items may go to a provider for all tenants together now; 0 while its breaker is open or its limit is used up.';

comment on function "jobs"."queue_state"(uuid[]) is 'Every lane with its state, its waiting, ready, running and dead items, and the age of the oldest ready one.';

comment on function "jobs"."rate_burst"(integer) is 'How many items may come at once under a limit per minute.';

comment on function "jobs"."rate_interval"(integer) is 'Seconds in which one item''s worth of a limit per minute comes back.';

comment on function "jobs"."rate_room"(integer, timestamp with time zone, timestamp
  with time zone) is 'How many items a limit per minute allows now; null for no limit.';

comment on function "jobs"."reap"(timestamp with time zone, integer) is 'Takes back the items of expired batches: each counts as a lost attempt, or as unknown where its call had begun.';

comment on function "jobs"."remove_platform_admin"(uuid) is 'Platform only: the user is no platform admin any more; false when it was none. Definer: like jobs.add_platform_admin.';

comment on function "jobs"."replay"(text, uuid, text, timestamp
  with time zone, boolean) is 'Tries dead items again (of one tenant, with one reason, since a time): fresh attempts, history kept. dry_run (the default) says how many it would be. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."require_read_committed"() is 'Raises 25001 in any other isolation level: an old snapshot would break caps and lose wake-ups.';

comment on function "jobs"."resume"(text, uuid) is 'Ends a pause; what waited is served by its turn. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."return_batch"(bigint) is 'Gives items of a batch back that were not tried (a drain whose time is up): no attempt is counted. Items whose effects had begun stay until the lease ends. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."ring"(timestamp with time zone) is 'Wakes workers through pg_net for every job with waiting lanes and free drains; returns how many doorbells were rung.';

comment on function "jobs"."ring_once"(text, text, text, timestamp
  with time zone) is 'Sends one signed doorbell. It may get lost: then nobody answers, and a later tick rings again.';

comment on function "jobs"."run_counts"(bigint) is 'Processed, failed and the first errors of a run so far.';

comment on function "jobs"."run_now"(text) is 'Starts a job by hand: {"run_id","drain_id","kind"}; the caller drains it (a SQL job by jobs.work_batch). Errors: P0002 no such job, 55000 paused. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."run_result"(bigint) is 'A run in the one shape: {"message","results":{"processed","errors"},"timestamp"}. Definer: reads definitions and history without a grant on each.';

comment on function "jobs"."service_report"(timestamp with time zone, uuid[]) is 'Tries, success rate, throughput, waiting times and the share started within the plan''s target, per job and tenant, since a moment.';

comment on function "jobs"."set_call_limit"(text, integer, integer) is 'Platform only: changes one limit; it holds from the next call on. Definer: private.call_limits is not reachable for any API role.';

comment on function "jobs"."set_plan"(uuid, text) is 'Platform only: puts a tenant on a plan; the next claim serves it accordingly. Definer: the plan of a tenant and its audit row are written by functions only.';

comment on function "jobs"."set_platform_credential"(public.provider, text, jsonb, jsonb) is
  'Platform only: stores the platform''s own access to a provider, the fall-back for tenants that have none. Definer: writes Vault and private.platform_credentials, which no API role may.';

comment on function "jobs"."set_setting"(text, text) is 'Changes one platform setting; an unknown name is refused. Definer: private.settings is not reachable for any API role.';

comment on function "jobs"."settle"(jobs.definitions, jobs.batches, jsonb, timestamp
  with time zone) is 'Applies outcomes to the items that still belong to the batch: ended ones leave, others go back; history, leases, run and lanes follow. Returns how many.';

comment on function "jobs"."slots_of_day"(jobs.cron, text, date) is 'When a schedule is due on one local day, clock changes included.';

comment on function "jobs"."start_slot"(jobs.definitions, timestamp
  with time zone, text) is 'Opens the run of one slot and enqueues its items in one statement; null when the slot has a run already or the job''s condition says no.';

comment on function "jobs"."start_tick"(integer) is 'Makes or changes the one pg_cron entry: a tick every so many seconds (default: as set before, 10); every minute where pg_cron is older than 1.5. Definer: pg_cron''s entries belong to the owner.';

comment on function "jobs"."stop_all"(boolean) is 'The switch for the whole platform: true stops all background work after what is in flight, false starts it again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."take_guards"(text, uuid[]) is 'Shared guards until the end of the transaction: no lane of these tenants can be put to sleep for good meanwhile.';

comment on function "jobs"."take_request"(text, integer, integer, text) is 'For functions: counts a request of this key (a fingerprint of the credential that was used, never the credential) against so many requests in so many seconds. {"allowed", "reason": null | "rate" | "address", "retry_after_seconds"}. "address": the setting jobs_ip_allow_list is not empty and does not have the ip, which must come from the proxy''s own header. Definer: private.rate_windows is not reachable for any API role.';

comment on function "jobs"."throttle_lanes"(text, jobs.settled[]) is 'Puts the lanes of throttled items to sleep until the provider''s time.';

comment on function "jobs"."tick"() is 'One short transaction: takes back expired leases, opens due slots, rings doorbells where work waits, keeps history small. Called by the one pg_cron entry. Definer: the engine''s tables, Vault''s cron secret and pg_net are the owner''s.';

comment on function "jobs"."unpark"(uuid, public.provider) is 'The credential of this owner changed: its breaker closes and the lanes parked by it wake.';

comment on function "jobs"."wake_blocked"(text, uuid[], text) is 'Wakes lanes of a job (of these tenants, or of all) that sleep for this reason.';

comment on function "jobs"."wake_due_lanes"(jobs.definitions, jobs.clocks, timestamp
  with time zone, integer) is 'Wakes sleeping lanes whose wake_at has come, at most p_limit; returns how many.';

comment on function "jobs"."wake_job"() is 'Trigger: a job that may use the platform''s credential from now on wakes the lanes that had none. Definer: lanes belong to the engine.';

comment on function "jobs"."wake_lanes"(text, uuid[], timestamp
  with time zone[], text) is 'Sets wake_at of sleeping lanes (and makes new ones) for work due at the given times. Awake lanes are not touched, not even locked.';

comment on function "jobs"."watch"(timestamp with time zone) is 'Opens and closes the alerts that can be seen from the tables: failed, overdue, backlog, dead items, doorbells lost, tick missing. Called by the tick once a minute.';

comment on function "jobs"."why"(bigint, uuid) is 'Why an item is not running, in words: running, stopped, paused, breaker, due at, capped, asleep until because, behind n items with the expected start, dead, or ended how. Definer: reads definitions and history without a grant on each.';

comment on function "jobs"."work"() is 'Works off one item of a SQL job in the caller''s transaction; false when none waits. After each tick pg_cron calls it until its time is up, with a commit after every item. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_batch"(uuid, text, integer) is 'Works off one batch of a SQL job and returns how many items it had; null when nothing waits. For drains that come over HTTP. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."work_item"(jobs.definitions, bigint, uuid, bigint) is 'Runs the work function for one item and closes it: done, or retry with the error. Its effects and its end are one transaction.';

comment on function "jobs"."write_settled"(jobs.batches, jobs.settled[]) is 'Remembers the attempts, deletes ended items, returns the others, buries the dead, frees the places.';

comment on function "private"."accept_invitation"(text) is 'Behind public.accept_invitation. Definer: the caller is no member yet, so no policy could let it write.';

comment on function "private"."alert_text"(jobs.alerts, text) is 'What a person reads of an alert when it opens or closes.';

comment on function "private"."apply_messages"(jobs.ended[]) is 'Apply function of send-notifications: what became of each message. A message is decided once.';

comment on function "private"."apply_verifications"(jobs.ended[]) is 'Apply function of verify-social-tasks: status, spins and message of each completion, in the transaction that ends its item. A completion is decided once.';

comment on function "private"."audit"(uuid, text, jsonb) is 'Writes one audit row with the caller of the request as its actor.';

comment on function "private"."audit_tenant"() is 'Trigger: an audit row for changed names and settings. Definer: no API role may write the audit log.';

comment on function "private"."change_role"(uuid, uuid, public.member_role) is 'Behind public.change_role. Definer: no API role may change memberships. Admins, for members below them and up to their own role; owners, for all.';

comment on function "private"."check_credential"(public.provider, text, jsonb, jsonb) is
  'Raises 22023 unless secret and account have what this kind needs.';

comment on function "private"."check_request"() is 'Runs before every request of the Data API; refuses row counts by estimate, which would leak other tenants'' sizes.';

comment on function "private"."check_time_zone"() is 'Trigger: the time zone of a row must be a known IANA name.';

comment on function "private"."claim_task"(uuid, uuid) is 'Behind public.claim_task. Definer: writes the completion and its item, which no API role may.';

comment on function "private"."close_tenant"(uuid) is 'Behind public.close_tenant. Definer: no API role may change the status. Owners only.';

comment on function "private"."congratulation"(uuid, uuid) is 'The message for a verified completion, or the reason why none is sent.';

comment on function "private"."count_call"(text, integer, integer) is 'Counts a call against p_limit calls in p_seconds: null when there was room, else the seconds to wait. Exact under parallel load.';

comment on function "private"."create_tenant"(text, text, text) is 'Behind public.create_tenant. Definer: the caller is not a member yet, so no policy could let it write.';

comment on function "private"."credential_for"(uuid, public.provider, boolean) is 'The credential an item of this tenant is processed with, secret included. Called by jobs.next_batch only; nobody else may execute it.';

comment on function "private"."custom_access_token"(jsonb) is 'Access token hook of Auth: adds the claim active_tenant, for clients to start with. Nothing trusts it. Definer: Auth''s own role reads no tenants.';

comment on function "private"."deliver_alert"() is 'Trigger: an alert that opens or closes is delivered by every way that is configured. Definer: reads which ways Vault and credentials offer.';

comment on function "private"."enqueue_messages"() is 'Trigger: every queued message gets its item. Definer: whoever inserts a message may not write the engine''s items.';

comment on function "private"."forget_tenant"() is 'Trigger: the work of a deleted tenant goes with it. Definer: lanes and items belong to the engine.';

comment on function "private"."invite_member"(uuid, text, public.member_role, integer) is
  'Behind public.invite_member. Definer: no API role may write invitations. Admins, up to their own role, and the platform.';

comment on function "private"."is_listed"(text, text) is 'True when the list is empty or has the address, alone or in a network.';

comment on function "private"."is_platform"() is 'True for the secret key and for direct sessions of the platform; false for every signed-in user and for anon.';

comment on function "private"."is_platform_admin"() is 'True when the caller is a platform admin, with a second factor where the settings ask for it. Definer: nobody may read who is.';

comment on function "private"."is_time_zone"(text) is 'True for the name of an IANA time zone that this server knows. Definer: the list is not granted to anyone.';

comment on function "private"."join_campaign"(uuid, uuid, text, text, text, text, boolean) is
  'Behind public.join_campaign. Definer: a newcomer has no row yet that a policy could go by.';

comment on function "private"."keep_an_owner"() is 'Trigger: the last owner of a tenant that is not closed cannot go. Definer: it locks the tenant and counts owners whoever asks.';

comment on function "private"."keep_row_rules"() is 'Trigger: sets updated_at, and refuses to change tenant_id.';

comment on function "private"."keep_secret"(text, text) is 'Creates or replaces a Vault secret by name; returns its id.';

comment on function "private"."learn_time_zones"() is 'Adds the time zones that this server has learned since.';

comment on function "private"."leave_tenant"(uuid) is 'Behind public.leave_tenant. Definer: no API role may change memberships. Removes the caller and nobody else.';

comment on function "private"."limit_calls"(text, uuid) is 'Counts a call of this name by this user or tenant. A call that fails afterwards is rolled back, and its count with it.';

comment on function "private"."list_members"(uuid) is 'Behind public.list_members. Definer: e-mail addresses are in auth.users, which no API role may read. Admins only.';

comment on function "private"."load_alert_emails"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of alert-email: {"to","subject","text","idempotency_key"}. Owners are told of their tenant''s alerts, alert_email of the platform''s.';

comment on function "private"."load_alert_webhooks"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of alert-webhook: {"url","text"}. The address is a secret: it is in Vault as alert_webhook_url.';

comment on function "private"."load_messages"(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of send-notifications: text and recipient, until when it may leave; outside the campaign''s hours it is held, after its end cancelled.';

comment on function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of verify-social-tasks: post, code and handles of each pending completion; items without one are cancelled.';

comment on function "private"."lock_tenant"(uuid, public.member_role) is 'Raises 42501 unless the caller has at least this role, and keeps all roles in the tenant as they are until the transaction ends.';

comment on function "private"."my_queues"() is 'Behind public.job_queues. Definer: lanes belong to the engine. Only tenants of the caller.';

comment on function "private"."my_service_levels"() is 'Behind public.job_service_levels. Definer: attempts belong to the engine. Only tenants of the caller.';

comment on function "private"."my_tenants"() is 'Behind public.my_tenants. Definer: no policy shows a closed tenant, and nobody reads the preferences.';

comment on function "private"."normalise_participant"() is 'Trigger: user names without @ in lower case, phone numbers without punctuation.';

comment on function "private"."normalise_tenant"() is 'Trigger: the name of a tenant in Unicode''s normal form NFKC.';

comment on function "private"."participant_ids"() is 'The participants that the caller is. Definer: participants cannot be read from its own policy without recursion.';

comment on function "private"."participant_tenant_ids"() is 'Tenants in which the caller is a participant. Definer, like private.participant_ids().';

comment on function "private"."platform_secret"(text) is 'A secret of the platform by its name in Vault (`project_url`, `cron_secret`), or null. Callable by its owner only.';

comment on function "private"."refuse_change"() is 'Trigger: rows of an append-only table stay as they are.';

comment on function "private"."remove_credential"(uuid, public.provider) is 'Behind public.remove_credential. Definer: deletes from Vault, which no API role may. Checks that the caller is an admin.';

comment on function "private"."remove_member"(uuid, uuid) is 'Behind public.remove_member. Definer: no API role may change memberships. Admins, for members below them; owners, for all.';

comment on function "private"."reopen_tenant"(uuid) is 'Behind public.reopen_tenant. Definer: no API role may change the status. Owners for a closed tenant, the platform and its admins for any.';

comment on function "private"."require_role"(uuid, public.member_role) is 'Raises 42501 unless the caller has at least this role in the tenant. Definer: memberships cannot be read from the policies of the tables that it guards.';

comment on function "private"."require_user"() is 'The id of the signed-in user; raises 42501 when there is none, for guests and for deleted users.';

comment on function "private"."revoke_invitation"(uuid, uuid) is 'Behind public.revoke_invitation. Definer: no API role may write invitations. Admins and the platform.';

comment on function "private"."role_to_manage"(uuid, uuid) is 'A member''s role; raises 42501 unless the caller may change it, PT404 when there is no such member.';

comment on function "private"."set_active_tenant"(uuid) is 'Behind public.set_active_tenant. Definer: no API role may write preferences. Members only, for themselves.';

comment on function "private"."set_credential"(uuid, public.provider, text, jsonb, jsonb) is
  'Behind public.set_credential. Definer: writes Vault, which no API role may. Checks that the caller is an admin of the tenant.';

comment on function "private"."setting"(text) is 'The value of one platform setting, or null.';

comment on function "private"."suspend_tenant"(uuid, text) is 'Behind public.suspend_tenant. Definer: no API role may change the status. The platform and its admins only.';

comment on function "private"."take_rate"(text, integer, integer) is 'Counts a call, or raises what the Data API answers with 429, code PT429 and the header Retry-After.';

comment on function "private"."tenant_ids"(public.member_role) is 'Tenants in which the caller has at least this role. Definer: memberships cannot be read from its own policy without recursion.';

comment on function "private"."transfer_ownership"(uuid, uuid) is 'Behind public.transfer_ownership. Definer: no API role may change memberships. Owners only.';

comment on function "private"."wake_capped"() is 'Trigger: a higher cap wakes the lanes that sleep for the old one. Definer: lanes belong to the engine.';

comment on function "private"."wake_tenant"() is 'Trigger: a tenant that is active again, or on another plan, is served by it from the next tick on. Definer: lanes belong to the engine.';

comment on function "private"."why"(uuid, bigint) is 'Behind public.why. Definer: items belong to the engine. Checks that the caller is a member.';

comment on function
  "private"."window_closes_at"(text, time without time zone, time without time zone, timestamp
  with time zone) is 'When the window that is open at this time closes; infinity for one that is always open.';

comment on function "private"."window_edges"(text, time without time zone, time without time zone, timestamp
  with time zone) is 'When a daily window in a time zone may open or close within the next three days, clock changes included.';

comment on function
  "private"."window_is_open"(time without time zone, time without time zone, time without time zone) is
  'True when a local time lies in [from, until); from > until crosses midnight.';

comment on function
  "private"."window_opens_at"(text, time without time zone, time without time zone, timestamp
  with time zone) is 'The time itself when the window is open then, else its next opening, or null for a window that never opens.';

comment on function "public"."accept_invitation"(text) is 'The caller accepts an invitation to its confirmed address: {"tenant_id","slug","name","role"}. Errors: PT404 for whatever else is wrong (unknown, expired, used, revoked, another address), so that nothing can be guessed, PT429 too many tries.';

comment on function "public"."change_role"(uuid, uuid, public.member_role) is 'Gives a member another role, at most the caller''s own. Admins change members and viewers, owners everybody. Errors: 42501, PT404 no such member, PT409 the last owner stays.';

comment on function "public"."claim_task"(uuid, uuid) is 'The caller, a participant, says that a task is done: {"completion_id","status","code","deadline"}. It will be verified in the background. Errors: PT404 no such task for this caller, 23505 claimed already, PT429 too many.';

comment on function "public"."close_tenant"(uuid) is 'Closes a tenant: nobody sees it any more and nothing is done for it, until an owner reopens it. Owners only. Error: 42501.';

comment on function "public"."create_campaign"(uuid, text, timestamp with time zone, timestamp
  with time zone, text, boolean, time without time zone, time without time zone) is 'Creates a draft campaign; time zone, notifications and their hours are the tenant''s unless given. Members only. Errors: 42501, 23514 name or dates, 22023 time zone.';

comment on function "public"."create_tenant"(text, text, text) is 'Creates a tenant on the Free plan; the caller becomes its owner. Name and settings are changed by updating the row. Errors: 23505 slug taken, 23514 slug or name not allowed, 22023 time zone, PT429 too many.';

comment on function "public"."invite_member"(uuid, text, public.member_role, integer) is
  'Invites an address to work for the tenant, in a role at most the caller''s; admins only. {"invitation_id","email","role","expires_at","token"}: the token is shown this once, for the message to that address. An older invitation of the address ends. Errors: 42501, 23514 address, PT429.';

comment on function "public"."join_campaign"(uuid, uuid, text, text, text, text, boolean) is
  'Makes the caller a participant of the tenant (or updates the details) through a running campaign; returns the participant''s id. whatsapp_opt_in: the person agreed to WhatsApp messages of this business. Errors: PT404 no such campaign, 23505 user name taken, 23514 malformed phone or name, PT429 too many.';

comment on function "public"."leave_tenant"(uuid) is 'The caller works for the tenant no more. Errors: 42501 did not, PT409 the last owner stays.';

comment on function "public"."list_members"(uuid) is 'Who works for the tenant, with e-mail address; admins only. Error: 42501.';

comment on function "public"."my_tenants"() is 'The tenants that the caller works for, with the role in each. is_active: the one chosen by set_active_tenant.';

comment on function "public"."remove_credential"(uuid, public.provider) is 'Forgets a tenant''s access to a provider, secret included; admins only. False when there was none.';

comment on function "public"."remove_member"(uuid, uuid) is 'Takes a member''s access away, at once. Admins remove members and viewers, owners everybody. Errors: 42501, PT404, PT409 the last owner stays.';

comment on function "public"."reopen_tenant"(uuid) is 'Makes a closed tenant active again: its owners. Or a suspended one: the platform and its admins. Error: 42501.';

comment on function "public"."revoke_invitation"(uuid, uuid) is 'Takes an invitation back; admins only. False when there is none that waits. Error: 42501.';

comment on function "public"."set_active_tenant"(uuid) is 'Remembers the tenant that the caller works in, for my_tenants() and the next token; left out, it is forgotten. Changes no right. Error: 42501.';

comment on function "public"."set_credential"(uuid, public.provider, text, jsonb, jsonb) is
  'Stores a tenant''s access to a provider; admins only. Secrets: meta and whatsapp_cloud {"access_token", "app_secret"?}, waapi {"token"}, stripe and email {"api_key"}. Returns the fingerprint, never the secret. Work parked on the old one wakes. Errors: 42501, 22023, PT429 too many.';

comment on function "public"."suspend_tenant"(uuid, text) is 'Suspends a tenant: its members can read, nothing is done for it. The platform and its admins only. Errors: 42501, PT404.';

comment on function "public"."transfer_ownership"(uuid, uuid) is 'A member becomes owner in the caller''s place; the caller becomes an admin. Owners only. Errors: 42501, PT404 no such member.';

comment on function "public"."why"(uuid, bigint) is 'For members: why an item of their tenant is not running.';

comment on schema "jobs" is 'The engine: lanes, items, batches, attempts, runs. Exposed to service_role only.';

comment on schema "private" is 'Helpers of the database itself; never exposed through the Data API.';

comment on table "jobs"."alerts" is 'Incidents: exactly one open alert per incident, closed when it is over.';

comment on table "jobs"."attempts" is 'Every try at every item: when it was due, when it started, how it ended, with whose credential. Append-only.';

comment on table "jobs"."attempts_default" is 'Catches attempts for which no daily partition was made: history is late in its place, never lost.';

comment on table "jobs"."batches" is 'Open batches. lease_until is database time; past it the items go back and the batch id no longer opens anything.';

comment on table "jobs"."breakers" is 'Closed: calls pass, failures in a row are counted. Open: none until open_until, then one probe. Parked: none until the credential changes. Recovering: the provider as a whole (tenant_id of jobs.everyone_id()) is back for less than a minute, service grows slowly.';

comment on table "jobs"."clocks" is 'Per job the virtual time of fair queueing: no awake lane is behind it by more than one quantum. And from where on a claim looks: no awake lane has an earlier vtime than served_from, none is due before due_from, no open batch is older than oldest_batch. These keep claims quick while an old snapshot keeps everything that was left behind; they are forgotten every 30 seconds.';

comment on table "jobs"."dead_items" is 'Items that ended without being done, with the reason; they can be replayed.';

comment on table "jobs"."definitions" is 'The jobs. What an admin may change while it runs: the numbers, paused. What a deployment changes: the functions.';

comment on table "jobs"."drains" is 'Doorbells and the drains that answered them; drain_id is the ticket in the doorbell. A doorbell that nobody answers is rung again.';

comment on table "jobs"."items" is 'Work that has not ended. batch_id null: waiting for run_at; set: leased to that batch, and the batch''s id is the fence.';

comment on table "jobs"."lanes" is 'One queue per (job, tenant): awake, or asleep with the reason and the time to wake. vtime is weighted start-time fair queueing.';

comment on table "jobs"."leases" is 'What each lane has in flight, by batch. Only a claim adds to it, under the claim lock of the job, so caps hold exactly.';

comment on table "jobs"."platform" is 'One row: the switch that stops all background work, how often the tick comes and when it last came.';

comment on table "jobs"."provider_limits" is 'Items per minute that all tenants together may take to a provider; no row or null: no limit.';

comment on table "jobs"."rates" is 'Rate limits in force: a tenth of the per-minute limit as burst, nine tenths as flow, so that no window of 60 s exceeds the limit.';

comment on table "jobs"."run_tenants" is 'Per-tenant counts of a run, by drain; the sum over drains is what the tenant got.';

comment on table "jobs"."runs" is 'What the log, the health check and the dashboard show: start, end, status, counts and the first errors of each run.';

comment on table "private"."active_tenants" is 'The tenant that each user has chosen to work in. A preference, never a right.';

comment on table "private"."call_limits" is 'How often a user or a tenant may call what is expensive. A call without a row here has no limit.';

comment on table "private"."platform_admins" is 'Users who run the platform. In no tenant do they have any right by it.';

comment on table "private"."platform_credentials" is 'The platform''s own access to a provider, the fall-back for tenants without one.';

comment on table "private"."rate_windows" is 'The recent calls of everyone whose calls are limited. A row is of no use after ends_at.';

comment on table "private"."settings" is 'Platform settings, one row each: the name, its value and what it means.';

comment on table "private"."time_zones" is 'IANA time zones that this server knows; brought up to date with the hourly clean-up.';

comment on table "public"."audit_log" is 'Append-only record of changes to rights, credentials, money and control. The platform''s own rows have the nil tenant.';

comment on table "public"."campaigns" is 'A tenant''s campaigns: when they run, in which time zone, whether and at which hours they send messages.';

comment on table "public"."completions" is 'Claims and what became of them. Evidence is ids and times, never content. Written by claim_task and by the engine only.';

comment on table "public"."credentials" is 'A tenant''s access to a provider: which account, how healthy. The secret is in Vault and never comes back out.';

comment on table "public"."invitations" is 'Who was invited to work for a tenant, in which role, and what became of it. Written by calls only.';

comment on table "public"."memberships" is 'Who works for which tenant, in which role. The only authority on access; no claim in a token is trusted.';

comment on table "public"."notification_outbox" is 'Messages and what became of them. unknown: the provider may or may not have sent it; it is reconciled, never sent again blindly.';

comment on table "public"."participants" is 'Customers of a tenant who take part in its campaigns. Members see their tenant''s, everyone sees only their own.';

comment on table "public"."plans" is 'The plans and how the engine serves a tenant on each: weight (share of service), cap (items in flight per job), batch_share (most items of one tenant in a batch), cadence_seconds (least time between two servings of a job that has a cadence), rate_per_minute (items per provider, null: no limit), target_seconds (promised start).';

comment on table "public"."social_tasks" is 'Tasks of a campaign: a comment on one of the tenant''s posts earns bonus spins. verify_within is how long a claim may take to be proven.';

comment on table "public"."spin_ledger" is 'Bonus spins credited to participants, one row each; the unique completion makes a reward happen once.';

comment on table "public"."tenants" is 'Businesses on the platform. The plan decides how fast and how much the engine works for them.';

comment on view "jobs"."plan_levels" is 'The last day per job and plan: is each plan''s promised start kept?';

comment on view "jobs"."queues" is 'Every lane: awake or why not, what waits, what is in flight, the oldest ready item, dead ones.';

comment on view "jobs"."service_levels" is 'The last day per job and tenant: tries, success, waiting times, share within the plan''s target.';

comment on view "public"."job_queues" is 'For members: the queues of their own tenants.';

comment on view "public"."job_service_levels" is 'For members: what service their own tenants had in the last day.';

revoke all on function "jobs"."add_member"(uuid, uuid, public.member_role) from public;

grant execute on function "jobs"."add_member"(uuid, uuid, public.member_role) to "service_role";

revoke all on function "jobs"."add_platform_admin"(uuid) from public;

grant execute on function "jobs"."add_platform_admin"(uuid) to "service_role";

revoke all on function "jobs"."answer_doorbell"(uuid) from public;

grant execute on function "jobs"."answer_doorbell"(uuid) to "service_role";

revoke all on function "jobs"."apply_ended"(jobs.definitions, jobs.settled[]) from public;

revoke all on function "jobs"."backoff"(jobs.definitions, integer) from public;

revoke all on function "jobs"."begin_drain"(text) from public;

revoke all on function "jobs"."begin_effects"(bigint, bigint[]) from public;

grant execute on function "jobs"."begin_effects"(bigint, bigint[]) to "service_role";

revoke all on function "jobs"."call_load"(jobs.definitions, jobs.items[]) from public;

revoke all on function "jobs"."cancel"(text, uuid, interval, boolean) from public;

grant execute on function "jobs"."cancel"(text, uuid, interval, boolean) to "service_role";

revoke all on function "jobs"."check_definition"() from public;

revoke all on function "jobs"."claim_lock"(text) from public;

revoke all on function "jobs"."clean"(timestamp with time zone) from public;

revoke all on function "jobs"."close_alert"(uuid, text) from public;

revoke all on function "jobs"."close_batch"(bigint, jsonb, boolean) from public;

grant execute on function "jobs"."close_batch"(bigint, jsonb, boolean) to "service_role";

revoke all on function "jobs"."close_breakers"(public.provider, uuid[], timestamp with time zone) from public;

revoke all
  on function "jobs"."count_failures"(jobs.definitions, jobs.settled[], timestamp with time zone)
  from public;

revoke all on function "jobs"."count_run"(jobs.batches, jobs.settled[]) from public;

revoke all on function "jobs"."define"(text, jsonb) from public;

revoke all on function "jobs"."drain_is_live"(jobs.drains, integer, timestamp with time zone) from public;

revoke all on function "jobs"."end_drain"(uuid, text) from public;

grant execute on function "jobs"."end_drain"(uuid, text) to "service_role";

revoke all on function "jobs"."enqueue"(text, uuid, uuid, timestamp with time zone, text, jsonb) from public;

grant execute
  on function "jobs"."enqueue"(text, uuid, uuid, timestamp with time zone, text, jsonb)
  to "service_role";

revoke all
  on function "jobs"."enqueue_many"(text, uuid[], uuid[], timestamp with time zone, text[], jsonb[])
  from public;

grant execute
  on function "jobs"."enqueue_many"(text, uuid[], uuid[], timestamp with time zone, text[], jsonb[])
  to "service_role";

revoke all on function "jobs"."everyone_id"() from public;

revoke all on function "jobs"."extend_batch"(bigint) from public;

grant execute on function "jobs"."extend_batch"(bigint) to "service_role";

revoke all on function "jobs"."finish_lost_drains"(timestamp with time zone) from public;

revoke all on function "jobs"."finish_run"(bigint) from public;

revoke all on function "jobs"."guard_of"(uuid) from public;

revoke all on function "jobs"."guards_of"(text) from public;

revoke all on function "jobs"."health"() from public;

grant execute on function "jobs"."health"() to "service_role";

revoke all
  on function "jobs"."how_to_sleep"(jobs.definitions, jobs.clocks, uuid[], boolean[], timestamp
    with time zone[], timestamp with time zone)
  from public;

revoke all on function "jobs"."judge"(jobs.definitions, uuid[], timestamp with time zone) from public;

revoke all
  on function "jobs"."judge_lanes"(jobs.definitions, uuid[], boolean[], bigint, timestamp with time zone)
  from public;

revoke all
  on function "jobs"."latest_slot"(text, text, timestamp with time zone, timestamp with time zone)
  from public;

revoke all on function "jobs"."list"() from public;

grant execute on function "jobs"."list"() to "service_role";

revoke all
  on function "jobs"."load_batch"(jobs.definitions, jobs.batches, jobs.items[], timestamp with time zone)
  from public;

revoke all on function "jobs"."make_partitions"(timestamp with time zone) from public;

revoke all
  on function "jobs"."match_outcomes"(jobs.definitions, jobs.batches, jsonb, timestamp with time zone)
  from public;

revoke all on function "jobs"."next_batch"(uuid, text, integer) from public;

grant execute on function "jobs"."next_batch"(uuid, text, integer) to "service_role";

revoke all on function "jobs"."next_slots"(text, text, timestamp with time zone, integer) from public;

grant execute
  on function "jobs"."next_slots"(text, text, timestamp with time zone, integer)
  to "service_role";

revoke all on function "jobs"."next_times"(text, integer) from public;

grant execute on function "jobs"."next_times"(text, integer) to "service_role";

revoke all on function "jobs"."open_alert"(uuid, text, text) from public;

revoke all on function "jobs"."open_due_slots"(timestamp with time zone) from public;

revoke all on function "jobs"."open_run"(text, text) from public;

revoke all on function "jobs"."park"(uuid, public.provider, text, text) from public;

revoke all on function "jobs"."park_broken"(jobs.definitions, jobs.batches, jobs.settled[]) from public;

revoke all on function "jobs"."parse_cron"(text) from public;

revoke all on function "jobs"."parse_cron_field"(text, text, integer, integer, text[]) from public;

revoke all on function "jobs"."parse_cron_value"(text, text, integer, integer, text[]) from public;

revoke all on function "jobs"."pause"(text, uuid) from public;

grant execute on function "jobs"."pause"(text, uuid) to "service_role";

revoke all
  on function "jobs"."pick"(jobs.definitions, jobs.clocks, bigint, integer, integer, timestamp with time zone)
  from public;

revoke all on function "jobs"."platform_id"() from public;

revoke all on function "jobs"."provider_is_down"(public.provider) from public;

revoke all on function "jobs"."provider_room"(public.provider, integer, timestamp with time zone) from public;

revoke all on function "jobs"."queue_state"(uuid[]) from public;

grant execute on function "jobs"."queue_state"(uuid[]) to "service_role";

revoke all on function "jobs"."rate_burst"(integer) from public;

revoke all on function "jobs"."rate_interval"(integer) from public;

revoke all
  on function "jobs"."rate_room"(integer, timestamp with time zone, timestamp with time zone)
  from public;

revoke all on function "jobs"."reap"(timestamp with time zone, integer) from public;

revoke all on function "jobs"."remove_platform_admin"(uuid) from public;

grant execute on function "jobs"."remove_platform_admin"(uuid) to "service_role";

revoke all on function "jobs"."replay"(text, uuid, text, timestamp with time zone, boolean) from public;

grant execute
  on function "jobs"."replay"(text, uuid, text, timestamp with time zone, boolean)
  to "service_role";

revoke all on function "jobs"."require_read_committed"() from public;

revoke all on function "jobs"."resume"(text, uuid) from public;

grant execute on function "jobs"."resume"(text, uuid) to "service_role";

revoke all on function "jobs"."return_batch"(bigint) from public;

grant execute on function "jobs"."return_batch"(bigint) to "service_role";

revoke all on function "jobs"."ring"(timestamp with time zone) from public;

revoke all on function "jobs"."ring_once"(text, text, text, timestamp with time zone) from public;

revoke all on function "jobs"."run_counts"(bigint) from public;

revoke all on function "jobs"."run_now"(text) from public;

grant execute on function "jobs"."run_now"(text) to "service_role";

revoke all on function "jobs"."run_result"(bigint) from public;

grant execute on function "jobs"."run_result"(bigint) to "service_role";

revoke all on function "jobs"."service_report"(timestamp with time zone, uuid[]) from public;

grant execute
  on function "jobs"."service_report"(timestamp with time zone, uuid[])
  to "service_role";

revoke all on function "jobs"."set_call_limit"(text, integer, integer) from public;

grant execute on function "jobs"."set_call_limit"(text, integer, integer) to "service_role";

revoke all on function "jobs"."set_plan"(uuid, text) from public;

grant execute on function "jobs"."set_plan"(uuid, text) to "service_role";

revoke all on function "jobs"."set_platform_credential"(public.provider, text, jsonb, jsonb) from public;

grant execute
  on function "jobs"."set_platform_credential"(public.provider, text, jsonb, jsonb)
  to "service_role";

revoke all on function "jobs"."set_setting"(text, text) from public;

grant execute on function "jobs"."set_setting"(text, text) to "service_role";

revoke all
  on function "jobs"."settle"(jobs.definitions, jobs.batches, jsonb, timestamp with time zone)
  from public;

revoke all on function "jobs"."slots_of_day"(jobs.cron, text, date) from public;

revoke all on function "jobs"."start_slot"(jobs.definitions, timestamp with time zone, text) from public;

revoke all on function "jobs"."start_tick"(integer) from public;

grant execute on function "jobs"."start_tick"(integer) to "service_role";

revoke all on function "jobs"."stop_all"(boolean) from public;

grant execute on function "jobs"."stop_all"(boolean) to "service_role";

revoke all on function "jobs"."take_guards"(text, uuid[]) from public;

revoke all on function "jobs"."take_request"(text, integer, integer, text) from public;

grant execute on function "jobs"."take_request"(text, integer, integer, text) to "service_role";

revoke all on function "jobs"."throttle_lanes"(text, jobs.settled[]) from public;

revoke all on function "jobs"."tick"() from public;

grant execute on function "jobs"."tick"() to "service_role";

revoke all on function "jobs"."unpark"(uuid, public.provider) from public;

revoke all on function "jobs"."wake_blocked"(text, uuid[], text) from public;

revoke all
  on function "jobs"."wake_due_lanes"(jobs.definitions, jobs.clocks, timestamp with time zone, integer)
  from public;

revoke all on function "jobs"."wake_job"() from public;

revoke all on function "jobs"."wake_lanes"(text, uuid[], timestamp with time zone[], text) from public;

revoke all on function "jobs"."watch"(timestamp with time zone) from public;

revoke all on function "jobs"."why"(bigint, uuid) from public;

grant execute on function "jobs"."why"(bigint, uuid) to "service_role";

revoke all on function "jobs"."work"() from public;

grant execute on function "jobs"."work"() to "service_role";

revoke all on function "jobs"."work_batch"(uuid, text, integer) from public;

grant execute on function "jobs"."work_batch"(uuid, text, integer) to "service_role";

revoke all on function "jobs"."work_item"(jobs.definitions, bigint, uuid, bigint) from public;

revoke all on function "jobs"."write_settled"(jobs.batches, jobs.settled[]) from public;

revoke all on function "private"."accept_invitation"(text) from public;

grant execute on function "private"."accept_invitation"(text) to "authenticated";

revoke all on function "private"."alert_text"(jobs.alerts, text) from public;

revoke all on function "private"."apply_messages"(jobs.ended[]) from public;

revoke all on function "private"."apply_verifications"(jobs.ended[]) from public;

revoke all on function "private"."audit"(uuid, text, jsonb) from public;

revoke all on function "private"."audit_tenant"() from public;

revoke all on function "private"."change_role"(uuid, uuid, public.member_role) from public;

grant execute
  on function "private"."change_role"(uuid, uuid, public.member_role)
  to "authenticated";

revoke all on function "private"."check_credential"(public.provider, text, jsonb, jsonb) from public;

revoke all on function "private"."check_request"() from public;

grant execute on function "private"."check_request"() to "anon", "authenticated", "service_role";

revoke all on function "private"."check_time_zone"() from public;

revoke all on function "private"."claim_task"(uuid, uuid) from public;

grant execute on function "private"."claim_task"(uuid, uuid) to "authenticated";

revoke all on function "private"."close_tenant"(uuid) from public;

grant execute on function "private"."close_tenant"(uuid) to "authenticated";

revoke all on function "private"."congratulation"(uuid, uuid) from public;

revoke all on function "private"."count_call"(text, integer, integer) from public;

revoke all on function "private"."create_tenant"(text, text, text) from public;

grant execute on function "private"."create_tenant"(text, text, text) to "authenticated";

revoke all on function "private"."credential_for"(uuid, public.provider, boolean) from public;

revoke all on function "private"."custom_access_token"(jsonb) from public;

grant execute on function "private"."custom_access_token"(jsonb) to "supabase_auth_admin";

revoke all on function "private"."deliver_alert"() from public;

revoke all on function "private"."enqueue_messages"() from public;

revoke all on function "private"."forget_tenant"() from public;

revoke all on function "private"."invite_member"(uuid, text, public.member_role, integer) from public;

grant execute
  on function "private"."invite_member"(uuid, text, public.member_role, integer)
  to "authenticated", "service_role";

revoke all on function "private"."is_listed"(text, text) from public;

revoke all on function "private"."is_platform"() from public;

grant execute on function "private"."is_platform"() to "authenticated", "service_role";

revoke all on function "private"."is_platform_admin"() from public;

grant execute on function "private"."is_platform_admin"() to "authenticated", "service_role";

revoke all on function "private"."is_time_zone"(text) from public;

grant execute on function "private"."is_time_zone"(text) to "authenticated", "service_role";

revoke all on function "private"."join_campaign"(uuid, uuid, text, text, text, text, boolean) from public;

grant execute
  on function "private"."join_campaign"(uuid, uuid, text, text, text, text, boolean)
  to "authenticated";

revoke all on function "private"."keep_an_owner"() from public;

revoke all on function "private"."keep_row_rules"() from public;

revoke all on function "private"."keep_secret"(text, text) from public;

revoke all on function "private"."learn_time_zones"() from public;

revoke all on function "private"."leave_tenant"(uuid) from public;

grant execute on function "private"."leave_tenant"(uuid) to "authenticated";

revoke all on function "private"."limit_calls"(text, uuid) from public;

revoke all on function "private"."list_members"(uuid) from public;

grant execute on function "private"."list_members"(uuid) to "authenticated";

revoke all on function "private"."load_alert_emails"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_alert_webhooks"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_messages"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."lock_tenant"(uuid, public.member_role) from public;

revoke all on function "private"."my_queues"() from public;

grant execute on function "private"."my_queues"() to "authenticated";

revoke all on function "private"."my_service_levels"() from public;

grant execute on function "private"."my_service_levels"() to "authenticated";

revoke all on function "private"."my_tenants"() from public;

grant execute on function "private"."my_tenants"() to "authenticated";

revoke all on function "private"."normalise_participant"() from public;

revoke all on function "private"."normalise_tenant"() from public;

revoke all on function "private"."participant_ids"() from public;

grant execute on function "private"."participant_ids"() to "authenticated", "service_role";

revoke all on function "private"."participant_tenant_ids"() from public;

grant execute on function "private"."participant_tenant_ids"() to "authenticated", "service_role";

revoke all on function "private"."platform_secret"(text) from public;

revoke all on function "private"."refuse_change"() from public;

revoke all on function "private"."remove_credential"(uuid, public.provider) from public;

grant execute
  on function "private"."remove_credential"(uuid, public.provider)
  to "authenticated", "service_role";

revoke all on function "private"."remove_member"(uuid, uuid) from public;

grant execute on function "private"."remove_member"(uuid, uuid) to "authenticated";

revoke all on function "private"."reopen_tenant"(uuid) from public;

grant execute on function "private"."reopen_tenant"(uuid) to "authenticated", "service_role";

revoke all on function "private"."require_role"(uuid, public.member_role) from public;

revoke all on function "private"."require_user"() from public;

revoke all on function "private"."revoke_invitation"(uuid, uuid) from public;

grant execute
  on function "private"."revoke_invitation"(uuid, uuid)
  to "authenticated", "service_role";

revoke all on function "private"."role_to_manage"(uuid, uuid) from public;

revoke all on function "private"."set_active_tenant"(uuid) from public;

grant execute on function "private"."set_active_tenant"(uuid) to "authenticated";

revoke all on function "private"."set_credential"(uuid, public.provider, text, jsonb, jsonb) from public;

grant execute
  on function "private"."set_credential"(uuid, public.provider, text, jsonb, jsonb)
  to "authenticated", "service_role";

revoke all on function "private"."setting"(text) from public;

revoke all on function "private"."suspend_tenant"(uuid, text) from public;

grant execute
  on function "private"."suspend_tenant"(uuid, text)
  to "authenticated", "service_role";

revoke all on function "private"."take_rate"(text, integer, integer) from public;

revoke all on function "private"."tenant_ids"(public.member_role) from public;

grant execute
  on function "private"."tenant_ids"(public.member_role)
  to "authenticated", "service_role";

revoke all on function "private"."transfer_ownership"(uuid, uuid) from public;

grant execute on function "private"."transfer_ownership"(uuid, uuid) to "authenticated";

revoke all on function "private"."wake_capped"() from public;

revoke all on function "private"."wake_tenant"() from public;

revoke all on function "private"."why"(uuid, bigint) from public;

grant execute on function "private"."why"(uuid, bigint) to "authenticated";

revoke all
  on function "private"."window_closes_at"(text, time without time zone, time without time zone, timestamp
    with time zone)
  from public;

revoke all
  on function "private"."window_edges"(text, time without time zone, time without time zone, timestamp
    with time zone)
  from public;

revoke all
  on function
    "private"."window_is_open"(time without time zone, time without time zone, time without time zone)
  from public;

revoke all
  on function "private"."window_opens_at"(text, time without time zone, time without time zone, timestamp
    with time zone)
  from public;

revoke all on function "public"."accept_invitation"(text) from public;

grant execute on function "public"."accept_invitation"(text) to "authenticated";

revoke all on function "public"."change_role"(uuid, uuid, public.member_role) from public;

grant execute
  on function "public"."change_role"(uuid, uuid, public.member_role)
  to "authenticated";

revoke all on function "public"."claim_task"(uuid, uuid) from public;

grant execute on function "public"."claim_task"(uuid, uuid) to "authenticated";

revoke all on function "public"."close_tenant"(uuid) from public;

grant execute on function "public"."close_tenant"(uuid) to "authenticated";

revoke all
  on function "public"."create_campaign"(uuid, text, timestamp with time zone, timestamp
    with time zone, text, boolean, time without time zone, time without time zone)
  from public;

grant execute
  on function "public"."create_campaign"(uuid, text, timestamp with time zone, timestamp
    with time zone, text, boolean, time without time zone, time without time zone)
  to "authenticated", "service_role";

revoke all on function "public"."create_tenant"(text, text, text) from public;

grant execute on function "public"."create_tenant"(text, text, text) to "authenticated";

revoke all on function "public"."invite_member"(uuid, text, public.member_role, integer) from public;

grant execute
  on function "public"."invite_member"(uuid, text, public.member_role, integer)
  to "authenticated", "service_role";

revoke all on function "public"."join_campaign"(uuid, uuid, text, text, text, text, boolean) from public;

grant execute
  on function "public"."join_campaign"(uuid, uuid, text, text, text, text, boolean)
  to "authenticated";

revoke all on function "public"."leave_tenant"(uuid) from public;

grant execute on function "public"."leave_tenant"(uuid) to "authenticated";

revoke all on function "public"."list_members"(uuid) from public;

grant execute on function "public"."list_members"(uuid) to "authenticated";

revoke all on function "public"."my_tenants"() from public;

grant execute on function "public"."my_tenants"() to "authenticated";

revoke all on function "public"."remove_credential"(uuid, public.provider) from public;

grant execute
  on function "public"."remove_credential"(uuid, public.provider)
  to "authenticated", "service_role";

revoke all on function "public"."remove_member"(uuid, uuid) from public;

grant execute on function "public"."remove_member"(uuid, uuid) to "authenticated";

revoke all on function "public"."reopen_tenant"(uuid) from public;

grant execute on function "public"."reopen_tenant"(uuid) to "authenticated", "service_role";

revoke all on function "public"."revoke_invitation"(uuid, uuid) from public;

grant execute
  on function "public"."revoke_invitation"(uuid, uuid)
  to "authenticated", "service_role";

revoke all on function "public"."set_active_tenant"(uuid) from public;

grant execute on function "public"."set_active_tenant"(uuid) to "authenticated";

revoke all on function "public"."set_credential"(uuid, public.provider, text, jsonb, jsonb) from public;

grant execute
  on function "public"."set_credential"(uuid, public.provider, text, jsonb, jsonb)
  to "authenticated", "service_role";

revoke all on function "public"."suspend_tenant"(uuid, text) from public;

grant execute on function "public"."suspend_tenant"(uuid, text) to "authenticated", "service_role";

revoke all on function "public"."transfer_ownership"(uuid, uuid) from public;

grant execute on function "public"."transfer_ownership"(uuid, uuid) to "authenticated";

revoke all on function "public"."why"(uuid, bigint) from public;

grant execute on function "public"."why"(uuid, bigint) to "authenticated";

grant usage on schema "jobs" to "service_role";

grant usage on schema "private" to "anon", "authenticated";

grant usage on schema "private" to "service_role", "supabase_auth_admin";

grant select on table "jobs"."alerts" to "service_role";

grant select on table "jobs"."attempts" to "service_role";

grant select on table "jobs"."batches" to "service_role";

grant select on table "jobs"."breakers" to "service_role";

grant select on table "jobs"."clocks" to "service_role";

grant select on table "jobs"."dead_items" to "service_role";

grant update ("backoff_limit_seconds") on table "jobs"."definitions" to "service_role";

grant update ("backoff_seconds") on table "jobs"."definitions" to "service_role";

grant update ("batch_size") on table "jobs"."definitions" to "service_role";

grant update ("breaker_after") on table "jobs"."definitions" to "service_role";

grant update ("cap") on table "jobs"."definitions" to "service_role";

grant update ("cost_unit") on table "jobs"."definitions" to "service_role";

grant update ("has_cadence") on table "jobs"."definitions" to "service_role";

grant update ("lease_seconds") on table "jobs"."definitions" to "service_role";

grant update ("max_attempts") on table "jobs"."definitions" to "service_role";

grant update ("max_drains") on table "jobs"."definitions" to "service_role";

grant update ("misfire_limit") on table "jobs"."definitions" to "service_role";

grant update ("misfire") on table "jobs"."definitions" to "service_role";

grant update ("paused") on table "jobs"."definitions" to "service_role";

grant update ("platform_allowed") on table "jobs"."definitions" to "service_role";

grant update ("quantum") on table "jobs"."definitions" to "service_role";

grant update ("schedule") on table "jobs"."definitions" to "service_role";

grant update ("start_delay_seconds") on table "jobs"."definitions" to "service_role";

grant update ("time_zone") on table "jobs"."definitions" to "service_role";

grant select on table "jobs"."definitions" to "service_role";

grant select on table "jobs"."drains" to "service_role";

grant select on table "jobs"."items" to "service_role";

grant select on table "jobs"."lanes" to "service_role";

grant select on table "jobs"."leases" to "service_role";

grant select on table "jobs"."platform" to "service_role";

grant delete, insert, select, update on table "jobs"."provider_limits" to "service_role";

grant select on table "jobs"."rates" to "service_role";

grant select on table "jobs"."run_tenants" to "service_role";

grant select on table "jobs"."runs" to "service_role";

grant select on table "public"."audit_log" to "authenticated";

grant select on table "public"."audit_log" to "service_role";

grant insert ("ends_at"), update ("ends_at") on table "public"."campaigns" to "authenticated";

grant insert ("name"), update ("name") on table "public"."campaigns" to "authenticated";

grant insert ("notifications_enabled"), update ("notifications_enabled")
  on table "public"."campaigns"
  to "authenticated";

grant insert ("notify_from"), update ("notify_from") on table "public"."campaigns" to "authenticated";

grant insert ("notify_until"), update ("notify_until") on table "public"."campaigns" to "authenticated";

grant insert ("starts_at"), update ("starts_at") on table "public"."campaigns" to "authenticated";

grant insert ("status"), update ("status") on table "public"."campaigns" to "authenticated";

grant insert ("tenant_id") on table "public"."campaigns" to "authenticated";

grant insert ("time_zone"), update ("time_zone") on table "public"."campaigns" to "authenticated";

grant delete, select on table "public"."campaigns" to "authenticated";

grant delete, insert, select, update on table "public"."campaigns" to "service_role";

grant select on table "public"."completions" to "authenticated";

grant delete, insert, select, update on table "public"."completions" to "service_role";

grant select ("account") on table "public"."credentials" to "authenticated";

grant select ("checked_at") on table "public"."credentials" to "authenticated";

grant select ("created_at") on table "public"."credentials" to "authenticated";

grant select ("expires_at") on table "public"."credentials" to "authenticated";

grant select ("fingerprint") on table "public"."credentials" to "authenticated";

grant select ("health_reason") on table "public"."credentials" to "authenticated";

grant select ("health") on table "public"."credentials" to "authenticated";

grant select ("id") on table "public"."credentials" to "authenticated";

grant select ("kind") on table "public"."credentials" to "authenticated";

grant select ("provider") on table "public"."credentials" to "authenticated";

grant select ("tenant_id") on table "public"."credentials" to "authenticated";

grant select ("updated_at") on table "public"."credentials" to "authenticated";

grant delete, insert, select, update on table "public"."credentials" to "service_role";

grant select ("accepted_at") on table "public"."invitations" to "authenticated";

grant select ("accepted_by") on table "public"."invitations" to "authenticated";

grant select ("created_at") on table "public"."invitations" to "authenticated";

grant select ("email") on table "public"."invitations" to "authenticated";

grant select ("expires_at") on table "public"."invitations" to "authenticated";

grant select ("id") on table "public"."invitations" to "authenticated";

grant select ("invited_by") on table "public"."invitations" to "authenticated";

grant select ("revoked_at") on table "public"."invitations" to "authenticated";

grant select ("role") on table "public"."invitations" to "authenticated";

grant select ("tenant_id") on table "public"."invitations" to "authenticated";

grant select ("updated_at") on table "public"."invitations" to "authenticated";

grant delete, insert, select, update on table "public"."invitations" to "service_role";

grant select on table "public"."memberships" to "authenticated";

grant delete, insert, select, update on table "public"."memberships" to "service_role";

grant select on table "public"."notification_outbox" to "authenticated";

grant delete, insert, select, update on table "public"."notification_outbox" to "service_role";

grant update ("display_name") on table "public"."participants" to "authenticated";

grant update ("facebook_user_id") on table "public"."participants" to "authenticated";

grant update ("instagram_username") on table "public"."participants" to "authenticated";

grant update ("phone") on table "public"."participants" to "authenticated";

grant update ("whatsapp_opt_in_at") on table "public"."participants" to "authenticated";

grant select on table "public"."participants" to "authenticated";

grant delete, insert, select, update on table "public"."participants" to "service_role";

grant select on table "public"."plans" to "authenticated";

grant delete, insert, select, update on table "public"."plans" to "service_role";

grant insert ("active"), update ("active") on table "public"."social_tasks" to "authenticated";

grant insert ("campaign_id") on table "public"."social_tasks" to "authenticated";

grant insert ("kind") on table "public"."social_tasks" to "authenticated";

grant insert ("post_id"), update ("post_id") on table "public"."social_tasks" to "authenticated";

grant insert ("recheck_every"), update ("recheck_every") on table "public"."social_tasks" to "authenticated";

grant insert ("reward_spins"), update ("reward_spins") on table "public"."social_tasks" to "authenticated";

grant insert ("tenant_id") on table "public"."social_tasks" to "authenticated";

grant insert ("title"), update ("title") on table "public"."social_tasks" to "authenticated";

grant insert ("verify_within"), update ("verify_within") on table "public"."social_tasks" to "authenticated";

grant delete, select on table "public"."social_tasks" to "authenticated";

grant delete, insert, select, update on table "public"."social_tasks" to "service_role";

grant select on table "public"."spin_ledger" to "authenticated";

grant delete, insert, select on table "public"."spin_ledger" to "service_role";

grant update ("campaign_notifications") on table "public"."tenants" to "authenticated";

grant update ("campaign_notify_from") on table "public"."tenants" to "authenticated";

grant update ("campaign_notify_until") on table "public"."tenants" to "authenticated";

grant update ("locale") on table "public"."tenants" to "authenticated";

grant update ("name") on table "public"."tenants" to "authenticated";

grant update ("time_zone") on table "public"."tenants" to "authenticated";

grant select on table "public"."tenants" to "authenticated";

grant delete, insert, select, update on table "public"."tenants" to "service_role";

grant select on table "jobs"."plan_levels" to "service_role";

grant select on table "jobs"."queues" to "service_role";

grant select on table "jobs"."service_levels" to "service_role";

grant select on table "public"."job_queues" to "authenticated";

grant select on table "public"."job_service_levels" to "authenticated";
