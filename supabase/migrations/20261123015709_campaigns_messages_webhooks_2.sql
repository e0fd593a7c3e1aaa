-- campaigns messages webhooks: written by `npm run db:diff` from sql/.
-- It changes tables that hold few rows at this stage, in one transaction with a lock_timeout: it comes whole or not at all, and
-- nobody waits for long. So what squawk would have in steps is done at once here.
-- squawk-ignore-file require-concurrent-index-deletion, require-concurrent-index-creation, constraint-missing-not-valid, disallowed-unique-constraint, adding-foreign-key-constraint, ban-drop-not-null, adding-field-with-default, adding-required-field
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

drop index "jobs"."lanes_job_reason_idx";

drop index "jobs"."leases_job_idx";

drop index "public"."completions_one_proof_per_comment_idx";

alter table "public"."credentials"
  drop constraint "account_is_a_small_object";

alter table "public"."credentials"
  drop constraint "kind_belongs_to_the_provider";

alter table "public"."notification_outbox"
  drop constraint "one_message_per_kind_and_completion";

drop function "jobs"."begin_effects"(bigint, bigint[]);

drop function "jobs"."close_batch"(bigint, jsonb, boolean);

drop function "jobs"."next_batch"(uuid, text, integer);

drop function "jobs"."open_alert"(uuid, text, text);

drop function "jobs"."wake_due_lanes"(jobs.definitions, jobs.clocks, timestamp with time zone, integer);

drop function "private"."apply_messages"(jobs.ended[]);

drop function "private"."congratulation"(uuid, uuid);

drop function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]);

create table "jobs"."backlogs" (
  "job" text not null,
  "seen_at" timestamp with time zone not null,
  "ready" bigint not null,
  "grown_for" integer not null default 0,
  "growth_per_minute" numeric not null default 0,
  constraint "backlogs_pkey" primary key (job)
);

alter table "jobs"."backlogs"
  enable row level security;

create table "private"."built_in_messages" (
  "channel" text not null,
  "language" text not null,
  "subject" text,
  "body" text not null,
  constraint "an_email_has_a_subject" check (((channel = 'email'::text) = (subject IS NOT NULL)))
);

alter table "private"."built_in_messages"
  enable row level security;

create table "private"."conversations" (
  "tenant_id" uuid not null,
  "recipient" text not null,
  "inbound_at" timestamp with time zone,
  "next_at" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  "start_word_at" timestamp with time zone,
  "touched_at" timestamp with time zone not null default now(),
  constraint "conversations_pkey" primary key (tenant_id, recipient),
  constraint "recipient_is_short" check (((char_length(recipient) >= 1) AND (char_length(recipient) <= 200)))
);

alter table "private"."conversations"
  enable row level security;

create table "private"."link_codes" (
  "tenant_id" uuid not null,
  "code" text not null,
  "participant_id" uuid not null,
  "platform" text not null,
  "expires_at" timestamp with time zone not null,
  "used_at" timestamp with time zone,
  constraint "link_codes_pkey" primary key (tenant_id, code)
);

alter table "private"."link_codes"
  enable row level security;

create table "private"."post_readings" (
  "tenant_id" uuid not null,
  "surface" text not null,
  "post_id" text not null,
  "newest_id" text not null,
  "newest_at" timestamp with time zone not null,
  "read_since" timestamp with time zone not null,
  "read_at" timestamp with time zone not null default now(),
  constraint "post_readings_pkey" primary key (tenant_id, surface, post_id)
);

alter table "private"."post_readings"
  enable row level security;

create table "private"."proofs" (
  "tenant_id" uuid not null,
  "task_id" uuid not null,
  "proof" text not null,
  "completion_id" uuid not null,
  constraint "proofs_pkey" primary key (tenant_id, task_id, proof)
);

alter table "private"."proofs"
  enable row level security;

create table "private"."senders" (
  "tenant_id" uuid not null,
  "free_at" timestamp with time zone not null default '-infinity'::timestamp with time zone,
  "stopped_at" timestamp with time zone,
  "stop_code" integer,
  "stop_reason" text,
  constraint "a_stop_has_a_reason" check (((stopped_at IS NULL) = (stop_reason IS NULL))),
  constraint "senders_pkey" primary key (tenant_id)
);

alter table "private"."senders"
  enable row level security;

create table "private"."signal_codes" (
  "tenant_id" uuid not null,
  "code" text not null,
  "signal_id" uuid not null,
  constraint "signal_codes_pkey" primary key (tenant_id, code, signal_id)
);

alter table "private"."signal_codes"
  enable row level security;

create table "private"."signals" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "surface" text not null,
  "kind" text not null,
  "external_id" text not null,
  "author_id" text,
  "author_username" text,
  "target_id" text,
  "codes" text[] not null default '{}'::text[],
  "message" text,
  "details" jsonb,
  "via" text not null,
  "happened_at" timestamp with time zone not null,
  "received_at" timestamp with time zone not null default now(),
  constraint "a_thing_is_seen_once" unique (tenant_id, surface, kind, external_id),
  constraint "only_messages_have_text"
    check (((message IS NULL) OR ((kind = 'message'::text) AND (char_length(message) <= 200)))),
  constraint "signals_pkey" primary key (tenant_id, id),
  constraint "via_is_one_of_the_known" check ((via = ANY (ARRAY['api'::text, 'webhook'::text, 'link'::text])))
);

alter table "private"."signals"
  enable row level security;

create table "private"."webhook_events" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "source" text not null,
  "body" jsonb,
  "body_sha256" text not null,
  "deliveries" integer not null default 1,
  "received_at" timestamp with time zone not null default now(),
  "processed_at" timestamp with time zone,
  "counts" jsonb not null default '{}'::jsonb,
  "errors" jsonb not null default '[]'::jsonb,
  constraint "a_waiting_event_has_a_body" check (((processed_at IS NOT NULL) OR (body IS NOT NULL))),
  constraint "body_sha256_is_lower_case_hex" check ((body_sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint "one_event_per_body" unique (tenant_id, source, body_sha256),
  constraint "source_is_one_of_the_known" check ((source = ANY (ARRAY['meta'::text, 'whatsapp'::text]))),
  constraint "webhook_events_pkey" primary key (tenant_id, id)
);

alter table "private"."webhook_events"
  enable row level security;

create table "private"."webhook_removals" (
  "tenant_id" uuid not null,
  "surface" text not null,
  "kind" text not null,
  "external_id" text not null,
  "removed_at" timestamp with time zone not null,
  constraint "external_id_is_short" check ((octet_length(external_id) <= 300)),
  constraint "webhook_removals_pkey" primary key (tenant_id, surface, kind, external_id)
);

alter table "private"."webhook_removals"
  enable row level security;

create table "public"."acknowledgements" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "rule" text not null,
  "version" integer not null,
  "campaign_id" uuid,
  "user_id" uuid,
  "acknowledged_at" timestamp with time zone not null default now(),
  "text" text not null,
  constraint "acknowledgements_pkey" primary key (tenant_id, id)
);

alter table "public"."acknowledgements"
  enable row level security;

create table "public"."campaign_strategies" (
  "tenant_id" uuid not null,
  "campaign_id" uuid not null,
  "strategy" text not null default 'api'::text,
  "acceptance_rate" numeric(4,3) not null default 0.85,
  "statistical_basis" text not null default 'rate'::text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "acceptance_rate_is_a_share"
    check (((acceptance_rate >= (0)::numeric) AND (acceptance_rate <= (1)::numeric))),
  constraint "campaign_strategies_pkey" primary key (tenant_id, campaign_id),
  constraint "statistical_basis_is_one_of_the_known"
    check ((statistical_basis = ANY (ARRAY['rate'::text, 'follower_growth'::text]))),
  constraint "strategy_is_one_of_the_known"
    check ((strategy = ANY (ARRAY['api'::text, 'honor_system'::text, 'statistical'::text, 'manual'::text])))
);

alter table "public"."campaign_strategies"
  enable row level security;

create table "public"."cohorts" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "name" text not null,
  "strategy" text,
  "acceptance_rate" numeric(4,3),
  "statistical_basis" text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "acceptance_rate_is_a_share"
    check (((acceptance_rate >= (0)::numeric) AND (acceptance_rate <= (1)::numeric))),
  constraint "cohorts_pkey" primary key (tenant_id, id),
  constraint "name_is_not_empty" check (((btrim(name) <> ''::text) AND (char_length(name) <= 120))),
  constraint "statistical_basis_is_one_of_the_known"
    check ((statistical_basis = ANY (ARRAY['rate'::text, 'follower_growth'::text]))),
  constraint "strategy_is_one_of_the_known"
    check ((strategy = ANY (ARRAY['api'::text, 'honor_system'::text, 'statistical'::text, 'manual'::text])))
);

alter table "public"."cohorts"
  enable row level security;

create table "public"."completion_decisions" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "completion_id" uuid not null,
  "task_id" uuid not null,
  "participant_id" uuid not null,
  "at" timestamp with time zone not null default now(),
  "from_status" text not null,
  "to_status" text not null,
  "method" text,
  "rule_version" integer not null,
  "reason" text,
  "evidence" jsonb,
  "actor" text not null,
  "actor_id" uuid,
  constraint "completion_decisions_pkey" primary key (tenant_id, id)
);

alter table "public"."completion_decisions"
  enable row level security;

create table "public"."data_deletions" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "confirmation_code" text not null default replace((gen_random_uuid())::text, '-'::text, ''::text),
  "subject" text,
  "request_sha256" text not null,
  "status" text not null default 'pending'::text,
  "erased" jsonb not null default '{}'::jsonb,
  "requested_at" timestamp with time zone not null default now(),
  "completed_at" timestamp with time zone,
  constraint "completed_at_is_set_when_completed" check (((status = 'completed'::text) = (completed_at IS
    NOT NULL))),
  constraint "confirmation_code_is_unique" unique (tenant_id, confirmation_code),
  constraint "data_deletions_pkey" primary key (tenant_id, id),
  constraint "one_deletion_per_request" unique (tenant_id, request_sha256),
  constraint "request_sha256_is_lower_case_hex" check ((request_sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint "status_is_one_of_the_known" check ((status = ANY (ARRAY['pending'::text, 'completed'::text]))),
  constraint "subject_is_a_graph_id" check ((subject ~ '^[0-9A-Za-z_.-]{1,100}$'::text)),
  constraint "the_subject_is_forgotten_when_completed"
    check (((status = 'completed'::text) = (subject IS NULL)))
);

alter table "public"."data_deletions"
  enable row level security;

create table "public"."follower_counts" (
  "tenant_id" uuid not null,
  "platform" text not null,
  "day" date not null,
  "followers" integer not null,
  "measured_at" timestamp with time zone not null default now(),
  constraint "follower_counts_pkey" primary key (tenant_id, platform, day),
  constraint "followers_are_not_negative" check ((followers >= 0)),
  constraint "platform_is_one_of_the_known"
    check ((platform = ANY (ARRAY['instagram'::text, 'facebook'::text, 'x'::text])))
);

alter table "public"."follower_counts"
  enable row level security;

create table "public"."linked_accounts" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "participant_id" uuid not null,
  "platform" text not null,
  "external_id" text not null,
  "username" text,
  "linked_by" text not null,
  "linked_at" timestamp with time zone not null default now(),
  constraint "external_id_is_not_too_long" check ((octet_length(external_id) <= 200)),
  constraint "linked_accounts_pkey" primary key (tenant_id, id),
  constraint "linked_by_is_one_of_the_known"
    check ((linked_by = ANY (ARRAY['link code'::text, 'claim code'::text]))),
  constraint "one_account_per_participant_and_platform" unique (tenant_id, participant_id, platform),
  constraint "one_participant_per_account" unique (tenant_id, platform, external_id),
  constraint "platform_is_one_of_the_known"
    check ((platform = ANY (ARRAY['instagram'::text, 'facebook'::text, 'whatsapp'::text]))),
  constraint "username_is_not_too_long" check ((octet_length(username) <= 200))
);

alter table "public"."linked_accounts"
  enable row level security;

create table "public"."message_settings" (
  "tenant_id" uuid not null,
  "welcome_enabled" boolean not null default false,
  "resend_unknown" boolean not null default false,
  "messages_per_second" integer,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "message_settings_pkey" primary key (tenant_id),
  constraint "messages_per_second_is_between_1_and_1000"
    check (((messages_per_second >= 1) AND (messages_per_second <= 1000)))
);

alter table "public"."message_settings"
  enable row level security;

create table "public"."message_templates" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "channel" text not null default 'whatsapp'::text,
  "language" text not null default 'en'::text,
  "category" text not null default 'utility'::text,
  "subject" text,
  "body" text not null,
  "whatsapp_template_name" text,
  "whatsapp_template_language" text,
  "whatsapp_parameters" text[] not null default '{}'::text[],
  "whatsapp_parameters_are_named" boolean not null default false,
  "paused_at" timestamp with time zone,
  "pause_reason" text,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "a_pause_has_a_reason" check (((paused_at IS NULL) = (pause_reason IS NULL))),
  constraint "an_email_has_a_subject" check (((channel = 'email'::text) = (subject IS NOT NULL))),
  constraint "body_is_not_empty" check (((btrim(body) <> ''::text) AND (char_length(body) <= 2000))),
  constraint "category_is_one_of_the_known"
    check ((category = ANY (ARRAY['utility'::text, 'marketing'::text]))),
  constraint "channel_is_one_of_the_known" check ((channel = ANY (ARRAY['whatsapp'::text, 'email'::text]))),
  constraint "language_is_a_language_tag"
    check ((language ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'::text)),
  constraint "message_templates_pkey" primary key (tenant_id, id),
  constraint "subject_is_one_line"
    check
    (((btrim(subject) <> ''::text) AND (char_length(subject) <= 200) AND (subject !~
    '[\u0001-\u001F\u007F]'::text))),
  constraint "whatsapp_parameters_are_few" check ((cardinality(whatsapp_parameters) <= 20)),
  constraint "whatsapp_template_is_for_whatsapp"
    check (((whatsapp_template_name IS NULL) OR (channel = 'whatsapp'::text))),
  constraint "whatsapp_template_language_is_a_code"
    check ((whatsapp_template_language ~ '^[a-z]{2,3}(_[A-Z]{2,3})?$'::text)),
  constraint "whatsapp_template_name_is_plain"
    check (((whatsapp_template_name ~ '^[a-z0-9_]+$'::text) AND (char_length(whatsapp_template_name) <= 512)))
);

alter table "public"."message_templates"
  enable row level security;

create table "public"."opt_ins" (
  "tenant_id" uuid not null,
  "id" uuid not null default gen_random_uuid(),
  "participant_id" uuid not null,
  "channel" text not null,
  "category" text not null default 'all'::text,
  "granted" boolean not null,
  "wording" text,
  "wording_version" text,
  "business_name" text,
  "source" text not null,
  "ip" inet,
  "user_agent" text,
  "at" timestamp with time zone not null default clock_timestamp(),
  "position" bigint generated always as identity not null,
  constraint "category_is_one_of_the_known" check ((category = ANY (ARRAY['all'::text, 'marketing'::text]))),
  constraint "channel_is_one_of_the_known" check ((channel = ANY (ARRAY['whatsapp'::text, 'email'::text]))),
  constraint "opt_ins_pkey" primary key (tenant_id, id),
  constraint "source_is_a_word" check ((source ~ '^[a-z_]{1,40}$'::text)),
  constraint "user_agent_is_short" check ((char_length(user_agent) <= 500)),
  constraint "wording_is_short" check ((char_length(wording) <= 2000))
);

alter table "public"."opt_ins"
  enable row level security;

create table "public"."reminder_settings" (
  "tenant_id" uuid not null,
  "campaign_id" uuid not null,
  "enabled" boolean not null default false,
  "remind_before" interval not null default '06:00:00'::interval,
  "created_at" timestamp with time zone not null default now(),
  "updated_at" timestamp with time zone not null default now(),
  constraint "remind_before_is_between_an_hour_and_30_days"
    check (((remind_before >= '01:00:00'::interval) AND (remind_before <= '30 days'::interval))),
  constraint "reminder_settings_pkey" primary key (tenant_id, campaign_id)
);

alter table "public"."reminder_settings"
  enable row level security;

create table "public"."rules" (
  "rule" text not null,
  "version" integer not null,
  "text" text not null,
  constraint "rule_is_a_word" check ((rule ~ '^[a-z][a-z_]{0,62}$'::text)),
  constraint "rules_pkey" primary key (rule, version),
  constraint "version_is_positive" check ((version > 0))
);

alter table "public"."rules"
  enable row level security;

create table "public"."task_kinds" (
  "kind" text not null,
  "surface" text not null,
  "proof" text not null,
  "proven_by" text not null,
  "provider" public.provider,
  "needs" text not null,
  "rewarded_engagement" boolean not null default false,
  "rule_version" integer not null,
  "note" text not null,
  constraint "needs_is_one_of_the_known"
    check ((needs = ANY (ARRAY['post'::text, 'keyword'::text, 'url'::text, 'nothing'::text]))),
  constraint "nobody_proves_what_a_person_reviews"
    check (((proven_by = 'nobody'::text) = (proof = 'manual_review'::text))),
  constraint "proof_is_one_of_the_known"
    check ((proof = ANY (ARRAY['auto'::text, 'webhook'::text, 'best_effort'::text, 'manual_review'::text]))),
  constraint "proven_by_is_one_of_the_known"
    check ((proven_by = ANY (ARRAY['worker'::text, 'signal'::text, 'nobody'::text]))),
  constraint "task_kinds_pkey" primary key (kind)
);

alter table "public"."task_kinds"
  enable row level security;

alter table "jobs"."alerts"
  add column "details" jsonb not null default '{}'::jsonb;

alter table "jobs"."batches"
  add column "request" uuid;

alter table "jobs"."clocks"
  add column "woken_to" timestamp with time zone not null default '-infinity'::timestamp with time zone;

alter table "jobs"."items"
  add column "begun_by" uuid;

alter table "private"."platform_credentials"
  add column "state" text not null default 'unchecked'::text;

alter table "private"."platform_credentials"
  add column "checked_at" timestamp with time zone;

alter table "private"."platform_credentials"
  add column "expires_at" timestamp with time zone;

alter table "private"."platform_credentials"
  add column "scopes" text[];

alter table "public"."campaigns"
  add column "username_match" boolean not null default false;

alter table "public"."campaigns"
  add column "reward_after" interval;

alter table "public"."campaigns"
  add column "promotion" boolean not null default false;

alter table "public"."campaigns"
  add column "official_rules" text;

alter table "public"."campaigns"
  add column "eligibility" text;

alter table "public"."campaigns"
  add column "prize_terms" text;

alter table "public"."campaigns"
  add column "release_text" text;

alter table "public"."completions"
  add column "method" text;

alter table "public"."completions"
  add column "route" text not null default 'api'::text;

alter table "public"."completions"
  add column "settle_at" timestamp with time zone;

alter table "public"."completions"
  add column "seen_at" timestamp with time zone;

alter table "public"."completions"
  add column "action_url" text;

alter table "public"."credentials"
  add column "state" text not null default 'unchecked'::text;

alter table "public"."credentials"
  add column "scopes" text[];

alter table "public"."credentials"
  add column "secret_keys" text[] not null default '{}'::text[];

alter table "public"."credentials"
  add column "secret_at" timestamp with time zone not null default now();

alter table "public"."notification_outbox"
  add column "channel" text not null default 'whatsapp'::text;

alter table "public"."notification_outbox"
  add column "dedupe_key" text not null default (gen_random_uuid())::text;

alter table "public"."notification_outbox"
  add column "template_id" uuid;

alter table "public"."notification_outbox"
  add column "language" text;

alter table "public"."notification_outbox"
  add column "category" text not null default 'utility'::text;

alter table "public"."notification_outbox"
  add column "subject" text;

alter table "public"."notification_outbox"
  add column "variables" jsonb not null default '{}'::jsonb;

alter table "public"."notification_outbox"
  add column "payload" jsonb not null default '{}'::jsonb;

alter table "public"."notification_outbox"
  add column "delivery" text;

alter table "public"."notification_outbox"
  add column "delivery_at" timestamp with time zone;

alter table "public"."notification_outbox"
  add column "error_code" integer;

alter table "public"."notification_outbox"
  add column "earlier_message_ids" text[] not null default '{}'::text[];

alter table "public"."notification_outbox"
  add column "resends" smallint not null default 0;

alter table "public"."notification_outbox"
  add column "first_tried_at" timestamp with time zone;

alter table "public"."notification_outbox"
  add column "unknown_since" timestamp with time zone;

alter table "public"."participants"
  add column "language" text;

alter table "public"."participants"
  add column "cohort_id" uuid;

alter table "public"."social_tasks"
  add column "keyword" text;

alter table "public"."social_tasks"
  add column "url" text;

alter table "public"."social_tasks"
  add column "platform_credential_allowed" boolean not null default true;

alter table "public"."notification_outbox"
  alter column "campaign_id" drop not null;

alter table "public"."notification_outbox"
  alter column "completion_id" drop not null;

alter table "public"."notification_outbox"
  alter column "participant_id" drop not null;

alter table "public"."social_tasks"
  alter column "post_id" drop not null;

create type "private"."candidate" as (
  "tenant_id" uuid,
  "completion_id" uuid,
  "signal_id" uuid,
  "basis" integer
);

create type "private"."judged" as (
  "tenant_id" uuid,
  "completion_id" uuid,
  "task_id" uuid,
  "campaign_id" uuid,
  "participant_id" uuid,
  "claimed_at" timestamp with time zone,
  "from_status" text,
  "verdict" text,
  "method" text,
  "reason" text,
  "evidence" jsonb,
  "proofs" text[],
  "credential_source" text,
  "if_used" text,
  "action_url" text,
  "rule_version" integer,
  "look_again_at" timestamp with time zone,
  "is_used" boolean
);

create type "private"."verdict" as (
  "tenant_id" uuid,
  "completion_id" uuid,
  "verdict" text,
  "method" text,
  "reason" text,
  "evidence" jsonb,
  "proofs" text[],
  "credential_source" text,
  "if_used" text,
  "action_url" text
);

alter table "private"."built_in_messages"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "kind" public.message_kind not null;

alter table "public"."message_templates"
  -- squawk-ignore adding-required-field, adding-field-with-default
  add column "kind" public.message_kind not null;

alter type "jobs"."settled" add attribute "place" tid cascade;

create or replace function jobs.batch_again (
  p_request uuid
)
  returns json
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_batch jobs.batches;
  v_definition jobs.definitions;
  v_items jobs.items[];
  v_tenants json;
begin
  -- The row is locked, so the tick cannot take back what is handed out here.
  select b.* into v_batch from jobs.batches b where b.request = p_request and b.lease_until > clock_timestamp() for update;
  if not found then
    return null;
  end if;
  select d.* into v_definition from jobs.definitions d where d.job = v_batch.job;
  select array_agg(i.item) into v_items
  from jobs.leases e
  cross join lateral unnest(e.item_ids) as u (item_id)
  cross join lateral (
    select x as item from jobs.items x
    where x.tenant_id = e.tenant_id and x.item_id = u.item_id and x.batch_id = v_batch.batch_id
    offset 0
  ) i
  where e.batch_id = v_batch.batch_id;
  v_tenants := jobs.load_batch(v_definition, v_batch, v_items, clock_timestamp());
  if v_tenants is null then
    delete from jobs.batches b where b.batch_id = v_batch.batch_id;
    return null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$function$;

create or replace function jobs.batch_answer (
  p_definition jobs.definitions,
  p_batch jobs.batches,
  p_tenants json
)
  returns json
  language sql
  set search_path to ''
  AS $function$
  select json_build_object(
    'batch_id', (p_batch).batch_id, 'job', (p_batch).job, 'now', clock_timestamp(), 'lease_until', (p_batch).lease_until,
    'lease_seconds', (p_definition).lease_seconds, 'tenants', p_tenants)
$function$;

create or replace function jobs.begin_effects (
  batch_id bigint,
  items bigint[],
  request uuid default null::uuid
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
    set begun = true, begun_by = begin_effects.request
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
      and i.batch_id = begin_effects.batch_id and (not i.begun or i.begun_by = begin_effects.request)
    returning i.item_id
  )
  select coalesce(array_agg(marked.item_id), '{}') into v_begun from marked;
  return v_begun;
end
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
  delete from jobs.slots s where s.slot < p_now - interval '90 days';
  -- What came before its partition was made; nearly always nothing.
  delete from jobs.runs_default r where r.finished_at < p_now - interval '90 days';
  delete from jobs.run_tenants_default r where r.started_at < p_now - interval '90 days';
  delete from jobs.attempts_default a where a.finished_at < p_now - interval '30 days';
  delete from jobs.alerts a where a.closed_at < p_now - interval '90 days';
  delete from cron.job_run_details d where d.end_time < p_now - interval '1 day';
  -- Answers to doorbells say nothing that the drains do not say. pg_net's own clean-up waits for its next request.
  delete from net._http_response r where r.created < p_now - interval '1 hour';
end
$function$;

create or replace function jobs.close_batch (
  batch_id bigint,
  outcomes jsonb,
  next boolean default false,
  request uuid default null::uuid
)
  returns json
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
    update jobs.drains d set seen_at = clock_timestamp()
    where d.drain_id = v_batch.drain_id and d.seen_at <= clock_timestamp() - interval '1 second';
  end if;
  return json_build_object(
    'closed', v_closed,
    'stale', jsonb_array_length(outcomes) - v_closed,
    'next', case
      when close_batch.next and v_batch.batch_id is not null
        then jobs.next_batch(v_batch.drain_id, v_batch.job, null, close_batch.request)
      -- Closed by the same call before, whose answer was lost.
      when close_batch.next and close_batch.request is not null then jobs.batch_again(close_batch.request) end);
end
$function$;

create or replace function jobs.deletion_status (
  code text
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select jsonb_build_object('status', d.status, 'requested_at', d.requested_at, 'completed_at', d.completed_at)
  from public.data_deletions d where d.confirmation_code = deletion_status.code
  limit 1
$function$;

create or replace function jobs.forecast (
  p_now timestamp with time zone
)
  returns table (
    job text,
    ready bigint,
    growth_per_minute numeric,
    drained_per_minute numeric,
    target_seconds integer,
    breach_at timestamp with time zone
  )
  language sql
  stable
  set search_path to ''
  set enable_bitmapscan to 'on'
  AS $function$
  select f.job, f.ready, round(f.growth_per_minute, 1), round(f.drained, 1), f.target,
    -- What comes then waits for longer than the target, which is over a target later. Never further away than a year.
    p_now + make_interval(secs => f.target + 60 * least(525600, greatest(0, f.target / 60.0 * f.drained - f.ready) / f.growth_per_minute)::double precision)
  from (
    select b.job, b.ready, b.growth_per_minute, t.target,
      (select count(*) / 5.0 from jobs.attempts a
        where a.job = b.job and a.finished_at > p_now - interval '5 minutes' and a.outcome in ('done', 'unknown', 'refused', 'cancelled')) as drained
    from jobs.backlogs b
    cross join lateral (
      select coalesce(min(p.target_seconds), 600) as target
      from (select l.tenant_id from jobs.lanes l where l.job = b.job and l.awake order by l.vtime limit 200) l
      left join public.tenants x on x.id = l.tenant_id
      left join public.plans p on p.plan_id = x.plan_id
    ) t
    -- Two looks in a row: one burst, as each slot of a schedule is one, is no trend.
    where b.grown_for >= 2 and b.growth_per_minute > 0
  ) f
$function$;

create or replace function jobs.hurry (
  p_job text,
  p_tenant_id uuid,
  p_subject_ids uuid[]
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_count integer;
begin
  perform jobs.take_guards(p_job, array[p_tenant_id]);
  update jobs.items i
  set run_at = clock_timestamp(), waiting_for = null
  where i.job = p_job and i.tenant_id = p_tenant_id and i.batch_id is null and i.run_at > clock_timestamp() and i.subject_id = any (p_subject_ids);
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform jobs.wake_lanes(p_job, array[p_tenant_id], array[now()]);
  end if;
  return v_count;
end
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
        -- Compared as a row, which only the primary key can answer: by batch alone all lanes would be read for each lane.
        select coalesce(sum(e.open), 0) as in_flight from jobs.leases e
        where e.tenant_id = u.tenant_id and e.job = (p_definition).job
          and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
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
      where e.tenant_id = u.tenant_id and e.job = (p_definition).job
        and (e.tenant_id, e.job, e.batch_id) >= (u.tenant_id, (p_definition).job, p_oldest_batch)
    ) f
  ) lane;
end
$function$;

create or replace function jobs.keep_refreshed_token (
  batch_id bigint,
  item_id bigint,
  token text,
  expires_at timestamp with time zone
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_tenant_id uuid;
  v_fingerprint text;
  v_credential public.credentials;
  v_secret jsonb;
  v_new text;
begin
  if coalesce(keep_refreshed_token.token, '') !~ '^[!-~]+$' or octet_length(keep_refreshed_token.token) > 4000 then
    raise exception 'This is not a token.' using errcode = '22023';
  end if;
  -- The batch row is locked, so the lease cannot expire between this check and the change.
  perform from jobs.batches b
  where b.batch_id = keep_refreshed_token.batch_id and b.job = 'refresh-meta-tokens' and b.lease_until > clock_timestamp()
  for update;
  if not found then
    return false;
  end if;
  select e.tenant_id, e.credential_fingerprint into v_tenant_id, v_fingerprint
  from jobs.leases e
  join jobs.items i on i.tenant_id = e.tenant_id and i.item_id = keep_refreshed_token.item_id and i.batch_id = e.batch_id
  where e.batch_id = keep_refreshed_token.batch_id and e.credential_source = 'tenant';
  if not found then
    return false;
  end if;
  select c.* into v_credential from public.credentials c where c.tenant_id = v_tenant_id and c.provider = 'meta' for update;
  if not found then
    return false;
  end if;
  select s.decrypted_secret::jsonb || jsonb_build_object('access_token', keep_refreshed_token.token) into v_secret
  from vault.decrypted_secrets s where s.id = v_credential.secret_id;
  v_new := left(encode(sha256(convert_to(v_secret::text || v_tenant_id::text, 'UTF8')), 'hex'), 12);
  -- The same call again, because its answer was lost.
  if v_credential.fingerprint = v_new and v_fingerprint <> v_new then
    return true;
  end if;
  -- What a member entered in the meantime is newer than what was renewed.
  if v_credential.fingerprint is distinct from v_fingerprint then
    return false;
  end if;
  perform vault.update_secret(v_credential.secret_id, v_secret::text);
  update public.credentials c
  set fingerprint = v_new, secret_at = now(), expires_at = keep_refreshed_token.expires_at,
    health = 'healthy', state = 'ok', health_reason = null, checked_at = now()
  where c.tenant_id = v_tenant_id and c.provider = 'meta';
  perform jobs.unpark(v_tenant_id, 'meta');
  perform private.warn_of_credential(v_tenant_id, 'meta', null);
  perform private.audit(v_tenant_id, 'credential.refreshed',
    jsonb_build_object('provider', 'meta', 'kind', v_credential.kind, 'fingerprint', v_new));
  return true;
end
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
        'trace_id', replace(i.trace_id::text, '-', ''), 'subject_id', i.subject_id, 'data', i.data) order by i.run_at, i.item_id) as list
      from (
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at, l.data
        from unnest(p_items) x
        join unnest(v_loaded) l on l.item_id = x.item_id and not l.cancel and l.hold_until is null
        union all
        -- Without a load function an item comes with what was enqueued, or with the command of its job.
        select x.tenant_id, x.item_id, x.tries, x.trace_id, x.subject_id, x.run_at,
          case when (p_definition).command is not null then jsonb_build_object('command', (p_definition).command) else x.payload end
        from unnest(p_items) x
        where (p_definition).load_function is null
      ) i
      group by i.tenant_id
    ) work
  );
end
$function$;

create or replace function jobs.look_at_backlogs (
  p_now timestamp with time zone
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.backlogs as b (job, seen_at, ready)
  select d.job, p_now, coalesce(w.ready, 0)
  from jobs.definitions d
  left join lateral (
    select sum(i.ready) as ready
    from (select l.tenant_id from jobs.lanes l where l.job = d.job and l.awake order by l.vtime limit 200) l
    cross join lateral (
      select count(*) as ready
      from (
        select from jobs.items i
        where i.job = d.job and i.tenant_id = l.tenant_id and i.batch_id is null and i.run_at <= p_now
        order by i.run_at, i.item_id
        limit 500
      ) few
    ) i
  ) w on true
  on conflict (job) do update
    set ready = excluded.ready, seen_at = excluded.seen_at,
      growth_per_minute = 60 * (excluded.ready - b.ready) / greatest(1, extract(epoch from excluded.seen_at - b.seen_at)),
      -- A look that comes much later than the one before tells nothing of a rate.
      grown_for = case when excluded.ready > b.ready and excluded.seen_at < b.seen_at + interval '5 minutes' then b.grown_for + 1 else 0 end
    where b.seen_at <= excluded.seen_at - interval '30 seconds'
$function$;

create or replace function jobs.make_partition (
  p_table text,
  p_column text,
  p_name text,
  p_from date,
  p_until date
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_from timestamptz := p_from::timestamp at time zone 'UTC';
  v_until timestamptz := p_until::timestamp at time zone 'UTC';
  v_is_taken boolean;
begin
  if to_regclass(format('jobs.%I', p_name)) is not null then
    return;
  end if;
  execute format('select exists (select from jobs.%I x where x.%I >= $1 and x.%I < $2)', p_table || '_default', p_column, p_column)
    into v_is_taken using v_from, v_until;
  if not v_is_taken then
    execute format('create table jobs.%I partition of jobs.%I for values from (%L) to (%L)', p_name, p_table, v_from, v_until);
    execute format('alter table jobs.%I enable row level security', p_name);
  end if;
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
  v_today date := (p_now at time zone 'UTC')::date;
  v_month date := date_trunc('month', p_now at time zone 'UTC')::date;
  v_day date;
  v_name text;
begin
  for v_day in select d::date from generate_series(v_today, v_today + 3, interval '1 day') d loop
    perform jobs.make_partition('attempts', 'finished_at', format('attempts_%s', to_char(v_day, 'YYYYMMDD')), v_day, v_day + 1);
  end loop;
  for v_day in select d::date from generate_series(v_month, v_month + interval '1 month', interval '1 month') d loop
    perform jobs.make_partition('runs', 'started_at', format('runs_%s', to_char(v_day, 'YYYYMM')), v_day, (v_day + interval '1 month')::date);
    perform jobs.make_partition('run_tenants', 'started_at', format('run_tenants_%s', to_char(v_day, 'YYYYMM')), v_day, (v_day + interval '1 month')::date);
  end loop;
  for v_name in
    select c.relname from pg_catalog.pg_inherits h join pg_catalog.pg_class c on c.oid = h.inhrelid
    where (h.inhparent = 'jobs.attempts'::regclass and c.relname ~ '^attempts_[0-9]{8}$'
        and c.relname < format('attempts_%s', to_char(v_today - 30, 'YYYYMMDD')))
      -- A month goes when its last day is 90 days ago.
      or (h.inhparent = 'jobs.runs'::regclass and c.relname ~ '^runs_[0-9]{6}$' and c.relname < format('runs_%s', to_char(v_today - 90, 'YYYYMM')))
      or (h.inhparent = 'jobs.run_tenants'::regclass and c.relname ~ '^run_tenants_[0-9]{6}$'
        and c.relname < format('run_tenants_%s', to_char(v_today - 90, 'YYYYMM')))
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
    select l.tenant_id, l.credential_source, u.item_id, l.is_forgotten
    from (
      select e.tenant_id, e.credential_source, e.item_ids,
        e.tenant_id <> jobs.platform_id() and not exists (select from public.tenants t where t.id = e.tenant_id) as is_forgotten
      from jobs.leases e
      where e.batch_id = (p_batch).batch_id
      offset 0
    ) l
    cross join lateral unnest(l.item_ids) as u (item_id)
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
      s.attempts, s.tries, s.due_at, s.trace_id, s.credential_source, s.run_id, s.cost, s.place)::jobs.settled)
  into v_settled
  from (
    select m.*, m.class in ('retry', 'lost') and m.attempts >= (p_definition).max_attempts as used_up
    from (
      select
        i.tenant_id, i.item_id, i.subject_id, i.run_at as due_at, i.trace_id, i.place, e.credential_source,
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
        select x.tenant_id, x.item_id, x.subject_id, x.run_at, x.trace_id, x.run_id, x.attempts, x.tries, x.ctid as place
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
  batch_size integer default null::integer,
  request uuid default null::uuid
)
  returns json
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
  v_drain jobs.drains;
  v_now timestamptz;
  v_size integer;
  v_room integer;
  v_width integer := 1;
  v_picked integer := 0;
  v_clock jobs.clocks;
  v_deep boolean;
  v_due_from timestamptz;
  v_woken integer;
  v_first double precision;
  v_oldest bigint;
  v_got integer;
  v_found jobs.items[];
  v_items jobs.items[];
  v_tenants json;
  v_again json;
begin
  perform jobs.require_read_committed();
  select d.* into v_definition from jobs.definitions d where d.job = next_batch.job;
  if not found then
    raise exception 'There is no job "%".', next_batch.job using errcode = 'P0002';
  end if;
  if v_definition.paused or (select p.stopped from jobs.platform p) then
    return null;
  end if;
  -- A drain that was given up for lost gets nothing any more. It is noted once a second that it was heard of: rows that change with
  -- every batch are slow to read while somebody keeps an old snapshot.
  select d.* into v_drain from jobs.drains d
  where d.drain_id = next_batch.drain_id and d.job = next_batch.job and d.ended_at is null
  for no key update;
  if not found then
    return null;
  end if;
  if v_drain.seen_at > clock_timestamp() - interval '1 second' is not true then
    update jobs.drains d set seen_at = clock_timestamp() where d.drain_id = next_batch.drain_id;
  end if;

  perform jobs.claim_lock(next_batch.job);
  if next_batch.request is not null then
    v_again := jobs.batch_again(next_batch.request);
    if v_again is not null then
      return v_again;
    end if;
  end if;
  v_now := clock_timestamp();
  v_size := least(greatest(coalesce(next_batch.batch_size, v_definition.batch_size), 1), 1000);
  v_size := jobs.provider_room(v_definition.provider, v_size, v_now);
  select c.* into v_clock from jobs.clocks c where c.job = next_batch.job;
  if v_definition.cap is not null then
    v_size := least(v_size, v_definition.cap - (
      select coalesce(sum(e.open), 0) from jobs.leases e where e.batch_id >= v_clock.oldest_batch and e.job = next_batch.job));
  end if;
  if v_size <= 0 then
    return null;
  end if;
  -- From where on to look: below these there is nothing but what others have left behind. Forgotten every 30 seconds, so that what
  -- was brought from the past (a long transaction, a price that was corrected) is found; at once when the clock was set back.
  if v_clock.looked_at not between v_now - interval '30 seconds' and v_now then
    v_clock.looked_at := v_now;
    v_clock.due_from := '-infinity';
    v_clock.served_from := '-infinity';
    v_clock.woken_to := '-infinity';
  end if;
  -- What became visible late is looked for with the first claim of each second, and when nobody is awake.
  v_deep := date_trunc('second', v_now) > date_trunc('second', v_clock.woken_to);
  for v_look in 1..2 loop
    v_due_from := case when v_deep then v_clock.due_from else v_clock.woken_to - interval '250 milliseconds' end;
    v_woken := jobs.wake_due_lanes(v_definition, v_clock.vtime, v_due_from, v_now);
    select l.vtime into v_first
    from jobs.lanes l
    where l.job = next_batch.job and l.awake and l.vtime >= v_clock.served_from
    order by l.vtime
    limit 1;
    exit when v_deep or found;
    v_deep := true;
  end loop;
  -- More may be due than a claim wakes: then the next one goes on where this one began.
  if v_woken < 500 then
    v_clock.woken_to := v_now;
    v_clock.due_from := greatest(v_clock.due_from, v_now - interval '5 seconds');
  else
    v_clock.woken_to := '-infinity';
  end if;
  v_clock.served_from := least(v_clock.vtime, v_first);
  select b.batch_id into v_oldest
  from jobs.batches b where b.job = next_batch.job and b.batch_id >= v_clock.oldest_batch order by b.batch_id limit 1;

  insert into jobs.batches (job, drain_id, run_id, leased_at, lease_until, request)
  values (next_batch.job, next_batch.drain_id, v_drain.run_id, v_now, v_now + make_interval(secs => v_definition.lease_seconds), next_batch.request)
  returning * into v_batch;
  v_clock.oldest_batch := coalesce(v_oldest, v_batch.batch_id);

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
    update jobs.clocks c
    set due_from = v_clock.due_from, woken_to = v_clock.woken_to, served_from = v_clock.served_from, oldest_batch = v_clock.oldest_batch,
      looked_at = v_clock.looked_at
    where c.job = next_batch.job;
    return null;
  end if;
  if v_definition.provider is not null then
    update jobs.batches b set loaded = true where b.batch_id = v_batch.batch_id;
    update jobs.rates r
    set free_at = greatest(r.free_at, v_now) + make_interval(secs => v_picked * jobs.rate_interval(l.rate_per_minute))
    from jobs.provider_limits l
    where r.tenant_id = jobs.everyone_id() and r.provider = v_definition.provider and l.provider = r.provider and l.rate_per_minute is not null;
  end if;
  return jobs.batch_answer(v_definition, v_batch, v_tenants);
end
$function$;

create or replace function jobs.open_alert (
  p_tenant_id uuid,
  p_incident text,
  p_message text,
  p_details jsonb default '{}'::jsonb
)
  returns void
  language sql
  set search_path to ''
  AS $function$
  insert into jobs.alerts as a (tenant_id, incident, message, details) values (p_tenant_id, p_incident, left(p_message, 1000), p_details)
  on conflict (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), incident) where closed_at is null
    -- The message is what was told; the details follow what is measured.
    do update set details = excluded.details where excluded.details <> '{}' and excluded.details <> a.details
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
    update private.platform_credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
    where c.provider = p_provider and c.fingerprint = p_fingerprint;
  else
    update public.credentials c
    set health = 'broken', state = private.credential_state(p_reason), health_reason = left(p_reason, 500), checked_at = now()
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
  where l.ctid = any (array(
    select u.place from unnest(v_lanes, v_places) as u (tenant_id, place) where u.tenant_id = any (v_served || v_asleep)));
  if picked > 0 then
    -- The start of the last turn served: a lane that wakes now is at most one turn ahead of the others, not a batch.
    update jobs.clocks c
    set vtime = greatest(c.vtime, v_tag), due_from = (p_clock).due_from, woken_to = (p_clock).woken_to, served_from = (p_clock).served_from,
      oldest_batch = (p_clock).oldest_batch, looked_at = (p_clock).looked_at
    where c.job = (p_definition).job;
  end if;
end
$function$;

create or replace function jobs.receive_deletion (
  tenant_id uuid,
  subject text,
  sha256 text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_deletion public.data_deletions;
  v_wait integer;
begin
  select private.count_call(format('receive_deletion/%s', receive_deletion.tenant_id), l.calls, l.seconds) into v_wait
  from private.call_limits l where l.name = 'receive_deletion';
  if v_wait is not null then
    return jsonb_build_object('confirmation_code', null, 'retry_after_seconds', v_wait);
  end if;
  insert into public.data_deletions as d (tenant_id, subject, request_sha256)
  values (receive_deletion.tenant_id, receive_deletion.subject, receive_deletion.sha256)
  on conflict on constraint one_deletion_per_request do nothing
  returning d.* into v_deletion;
  if found then
    -- In the platform's own lane: a suspended tenant is not served, but who asks it to be forgotten is.
    perform jobs.enqueue('process-webhooks', jobs.platform_id(), v_deletion.id, null, null,
      jsonb_build_object('deletion_of', receive_deletion.tenant_id));
  else
    select d.* into v_deletion from public.data_deletions d
    where d.tenant_id = receive_deletion.tenant_id and d.request_sha256 = receive_deletion.sha256;
  end if;
  return jsonb_build_object('confirmation_code', v_deletion.confirmation_code, 'retry_after_seconds', null);
end
$function$;

create or replace function jobs.receive_webhook (
  tenant_id uuid,
  source text,
  body jsonb,
  sha256 text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
#variable_conflict use_column
declare
  v_status public.tenant_status;
  v_event_id uuid;
  v_is_new boolean;
  v_wait integer;
begin
  select t.status into v_status from public.tenants t where t.id = receive_webhook.tenant_id;
  -- Closed or gone since its secret was read: acknowledged, so that the provider stops. A suspended tenant's events wait with its lane.
  if (v_status is null and receive_webhook.tenant_id is distinct from jobs.platform_id()) or v_status = 'closed' then
    return jsonb_build_object('event_id', null, 'new', false, 'retry_after_seconds', null);
  end if;
  select private.count_call(format('receive_webhook/%s/%s', receive_webhook.source, receive_webhook.tenant_id), l.calls, l.seconds) into v_wait
  from private.call_limits l where l.name = 'receive_webhook';
  if v_wait is not null then
    return jsonb_build_object('event_id', null, 'new', false, 'retry_after_seconds', v_wait);
  end if;
  insert into private.webhook_events as e (tenant_id, source, body, body_sha256)
  values (receive_webhook.tenant_id, receive_webhook.source, receive_webhook.body, receive_webhook.sha256)
  on conflict on constraint one_event_per_body do update set deliveries = e.deliveries + 1
  returning e.id, e.deliveries = 1 into v_event_id, v_is_new;
  if v_is_new then
    perform jobs.enqueue('process-webhooks', receive_webhook.tenant_id, v_event_id);
  end if;
  return jsonb_build_object('event_id', v_event_id, 'new', v_is_new, 'retry_after_seconds', null);
end
$function$;

create or replace function jobs.record_comments (
  batch_id bigint,
  tenant_id uuid,
  post jsonb
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
#variable_conflict use_column
declare
  v_surface text := post ->> 'surface';
  v_post_id text := post ->> 'post_id';
  v_since timestamptz;
  v_source text;
  v_count integer := 0;
begin
  -- Only who holds an item for this post, while the lease lives.
  select min(t.created_at), min(e.credential_source) into v_since, v_source
  from jobs.batches b
  join jobs.leases e on e.batch_id = b.batch_id and e.tenant_id = record_comments.tenant_id and e.job = b.job
  cross join lateral unnest(e.item_ids) as u (item_id)
  join jobs.items i on i.tenant_id = e.tenant_id and i.item_id = u.item_id and i.batch_id = b.batch_id
  join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where b.batch_id = record_comments.batch_id and b.job = 'verify-social-tasks' and b.lease_until > clock_timestamp()
    and t.post_id = v_post_id and t.kind::text = v_surface || '_comment';
  if v_since is null then
    return 0;
  end if;

  if jsonb_typeof(post -> 'comments') = 'array' then
    v_count := (private.take_signals(record_comments.tenant_id, (
      select jsonb_agg(jsonb_build_object('surface', v_surface, 'kind', 'comment', 'external_id', c.value ->> 'id', 'target_id', v_post_id,
        'author_id', c.value ->> 'author_id', 'author_username', c.value ->> 'username', 'codes', c.value -> 'codes',
        'happened_at', c.value ->> 'at'))
      from jsonb_array_elements(post -> 'comments') c
      where jsonb_typeof(c.value) = 'object'), 'api', v_source) ->> 'recorded')::integer;
  end if;

  if post -> 'complete' = 'true' and post -> 'newest' ->> 'id' ~ '^[!-~]{1,200}$'
    and post -> 'newest' ->> 'at' ~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]|29|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
  then
    begin
      insert into private.post_readings as r (tenant_id, surface, post_id, newest_id, newest_at, read_since)
      values (record_comments.tenant_id, v_surface, v_post_id, post -> 'newest' ->> 'id', (post -> 'newest' ->> 'at')::timestamptz, v_since)
      on conflict on constraint post_readings_pkey do update
        set newest_id = case when excluded.newest_at >= r.newest_at then excluded.newest_id else r.newest_id end,
          newest_at = greatest(excluded.newest_at, r.newest_at), read_since = least(excluded.read_since, r.read_since), read_at = now();
    exception when datetime_field_overflow then
      -- A day that no month has is no mark; the next reading starts from the newest again.
      null;
    end;
  end if;
  return v_count;
end
$function$;

create or replace function jobs.record_follower_count (
  tenant_id uuid,
  platform text,
  followers integer,
  day date default null::date
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into public.follower_counts (tenant_id, platform, day, followers)
  values (record_follower_count.tenant_id, record_follower_count.platform,
    coalesce(record_follower_count.day, (now() at time zone 'UTC')::date), record_follower_count.followers)
  on conflict on constraint follower_counts_pkey do nothing;
  return found;
end
$function$;

create or replace function jobs.record_visit (
  tenant text,
  code text,
  counts boolean default true
)
  returns text
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_tenant_id uuid := nullif(private.webhook_tenant(record_visit.tenant), jobs.platform_id());
  v_task record;
begin
  -- {code} in the url is the tenant's wish to know whose visit it is.
  select c.code, t.id as task_id, t.kind::text as kind, replace(to_jsonb(t) ->> 'url', '{code}', c.code) as url into v_task
  from public.completions c
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.tenants n on n.id = c.tenant_id and n.status = 'active'
  where c.tenant_id = v_tenant_id and c.code = upper(record_visit.code) and t.kind::text in ('link_visit', 'link_sign_up');
  if v_task.url is null then
    return null;
  end if;
  if record_visit.counts and v_task.kind = 'link_visit' then
    perform private.record_signals(v_tenant_id, jsonb_build_array(jsonb_build_object(
      'surface', 'link', 'kind', 'visit', 'external_id', v_task.code, 'target_id', v_task.task_id, 'text', v_task.code, 'happened_at', now())));
  end if;
  return v_task.url;
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
  if set_platform_credential.kind in ('waapi', 'gateway') then
    perform private.require_unofficial_gateways();
  end if;
  v_secret_id := private.keep_secret(format('credential/platform/%s', set_platform_credential.provider), secret::text);
  insert into private.platform_credentials as c (provider, kind, account, secret_id, fingerprint)
  values (set_platform_credential.provider, set_platform_credential.kind, set_platform_credential.account, v_secret_id, v_fingerprint)
  on conflict on constraint platform_credentials_pkey do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      health = 'unchecked', state = 'unchecked', health_reason = null, checked_at = null, expires_at = null, scopes = null, updated_at = now();
  perform jobs.unpark(jobs.platform_id(), set_platform_credential.provider);
  perform jobs.close_alert(null, format('credential %s expires', set_platform_credential.provider));
  perform private.audit(null, 'platform_credential.set',
    jsonb_build_object('provider', set_platform_credential.provider, 'kind', set_platform_credential.kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('provider', set_platform_credential.provider, 'fingerprint', v_fingerprint);
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
  if v_comes_back or (p_definition).cost_unit <> 'items' then
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.tenant_id = any (v_tenant_ids)
      and (l.reason = 'cap' or (p_definition).cost_unit <> 'items' or (v_comes_back and
        exists (select from unnest(v_settled) u where u.tenant_id = l.tenant_id and not u.ends and (not l.awake or u.outcome = 'throttled'))))
    order by l.tenant_id for no key update;
  else
    -- By the index of these only: a lane leaves a version of its row behind each time it is served.
    perform from jobs.lanes l
    where l.job = (p_batch).job and l.reason = 'cap' and l.tenant_id = any (v_tenant_ids)
    order by l.tenant_id for no key update;
  end if;
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
  if p_trigger = 'schedule' then
    insert into jobs.slots (job, slot) values ((p_definition).job, p_slot) on conflict do nothing;
    if not found then
      return null;
    end if;
  end if;
  insert into jobs.runs (job, trigger, slot)
  values ((p_definition).job, p_trigger, case when p_trigger = 'schedule' then p_slot end)
  returning run_id into v_run_id;

  if (p_definition).scope = 'platform' then
    v_tenant_ids := array[jobs.platform_id()];
  elsif (p_definition).eligible_function is not null then
    -- The platform itself may be among them: its own credentials are looked after like any tenant's.
    execute format('select array(select e from %s() e left join public.tenants t on t.id = e
        where t.status = ''active'' or e = jobs.platform_id() order by e)',
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

create or replace function jobs.wake_due_lanes (
  p_definition jobs.definitions,
  p_vtime double precision,
  p_due_from timestamp with time zone,
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
    where l.job = (p_definition).job and l.wake_at <= p_now and l.wake_at >= p_due_from
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
    vtime = greatest(l.vtime, p_vtime),
    not_before = case
      when (p_definition).has_cadence then p_now + make_interval(secs => coalesce((
        select p.cadence_seconds from public.tenants t join public.plans p on p.plan_id = t.plan_id where t.id = l.tenant_id), 0))
      else l.not_before end
  -- The rows are locked, so they are where they were. By nothing else: an index would lead over all that was left behind.
  where l.ctid = any (v_places);
  return cardinality(v_places);
end
$function$;

create or replace function jobs.watch (
  p_now timestamp with time zone
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_bitmapscan to 'on'
  AS $function$
declare
  v_found record;
  v_open text[] := '{}';
begin
  perform jobs.look_at_backlogs(p_now);
  for v_found in
    -- A run that ended in error.
    select format('failed %s', r.job) as incident,
      format('The last run of %s failed: %s done, %s failed.', r.job, r.processed, r.failed) as message, '{}'::jsonb as details
    from jobs.definitions d
    cross join lateral (
      select x.* from jobs.runs x where x.job = d.job and x.finished_at is not null order by x.started_at desc limit 1) r
    where r.status = 'error'
    union all
    -- A scheduled run that should be over.
    select format('overdue %s', r.job), format('A run of %s started at %s and is not over.', r.job, r.started_at), '{}'
    from jobs.runs r
    where r.finished_at is null and r.trigger = 'schedule' and r.started_at < p_now - interval '1 hour'
    union all
    -- More comes than goes: within the hour the wait will be longer than the plans promise.
    select format('growth %s', f.job),
      format('%s: the backlog grows faster than it drains: %s items are ready, %s more each minute, %s are done per minute. '
        'At this rate the target of %s s will be broken at %s UTC.', f.job, f.ready, f.growth_per_minute, f.drained_per_minute, f.target_seconds,
        to_char(f.breach_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')),
      to_jsonb(f)
    from jobs.forecast(p_now) f
    where f.breach_at <= p_now + interval '1 hour'
    union all
    -- Work waits longer than the plans promise.
    select format('backlog %s', b.job), format('%s: the oldest ready item waits since %s; the target of its plan is %s s. Drained per minute: %s.',
      b.job, b.since, b.target_seconds, b.per_minute),
      jsonb_build_object('job', b.job, 'since', b.since, 'target_seconds', b.target_seconds, 'drained_per_minute', b.per_minute)
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
    select format('dead %s', d.job), format('%s items of %s died within the last hour. jobs.why(item_id) tells why; jobs.replay tries them again.', count(*), d.job), '{}'
    from jobs.dead_items d where d.died_at > p_now - interval '1 hour' group by d.job
    union all
    -- Doorbells that nobody answers.
    select format('doorbells %s', d.job), format('%s of the last doorbells of %s were not answered within 10 s.', count(*) filter (where d.answered_at is null), d.job), '{}'
    from jobs.drains d
    where d.rung_at between p_now - interval '5 minutes' and p_now - interval '10 seconds'
    group by d.job
    having count(*) filter (where d.answered_at is null) >= 3 and count(*) filter (where d.answered_at is null) > count(*) filter (where d.answered_at is not null)
    union all
    -- The clock stood still: this tick came much later than it should.
    select 'tick', format('No tick came between %s and %s.', p.last_tick_at, p_now), '{}'
    from jobs.platform p where p.last_tick_at < p_now - make_interval(secs => 5 * p.tick_seconds + 60)
  loop
    v_open := v_open || v_found.incident;
    perform jobs.open_alert(null, v_found.incident, v_found.message, v_found.details);
  end loop;
  -- What this looks for and does not find any more is over.
  update jobs.alerts a set closed_at = p_now
  where a.closed_at is null and a.tenant_id is null and a.incident ~ '^(failed|overdue|growth|backlog|dead|doorbells|tick)( |$)' and a.incident <> all (v_open);
end
$function$;

create or replace function jobs.webhook_secrets (
  tenant text,
  provider text
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant_id uuid := private.webhook_tenant(webhook_secrets.tenant);
  v_secret jsonb;
begin
  if v_tenant_id is null or webhook_secrets.provider not in ('meta', 'whatsapp') then
    return null;
  end if;
  select s.decrypted_secret::jsonb into v_secret
  from (
    select c.secret_id from public.credentials c
    where c.tenant_id = v_tenant_id and c.provider::text = webhook_secrets.provider and c.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
    union all
    select p.secret_id from private.platform_credentials p
    where v_tenant_id = jobs.platform_id() and p.provider::text = webhook_secrets.provider
      and p.kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud')
  ) c
  join vault.decrypted_secrets s on s.id = c.secret_id;
  -- Who has neither secret cannot be told apart from who does not exist.
  if coalesce(v_secret ->> 'app_secret', '') = '' and coalesce(v_secret ->> 'verify_token', '') = '' then
    return null;
  end if;
  return jsonb_build_object('tenant_id', v_tenant_id,
    'app_secrets', case when coalesce(v_secret ->> 'app_secret', '') = '' then '[]' else jsonb_build_array(v_secret ->> 'app_secret') end,
    'verify_token', nullif(v_secret ->> 'verify_token', ''));
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
  v_deleted integer;
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
    set batch_id = null, begun = false, begun_by = null, run_at = v_one.run_at, waiting_for = v_one.waiting_for, attempts = v_one.attempts,
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

  -- Where they were found: the batch is locked, so nobody has moved them. What an apply function of the job touched is looked up anew.
  delete from jobs.items i
  where i.ctid = any (array(select s.place from unnest(p_settled) s where s.ends)) and i.batch_id = (p_batch).batch_id;
  get diagnostics v_deleted = row_count;
  if v_deleted < (select count(*) from unnest(p_settled) s where s.ends) then
    for v_one in select s.* from unnest(p_settled) s where s.ends loop
      delete from jobs.items i
      where i.tenant_id = v_one.tenant_id and i.item_id = v_one.item_id and i.batch_id = (p_batch).batch_id;
    end loop;
  end if;

  select array_agg(f.tenant_id), array_agg(f.items) into v_tenants, v_freed
  from (select s.tenant_id, count(*)::integer as items from unnest(p_settled) s group by s.tenant_id) f;
  delete from jobs.leases e
  where e.batch_id = (p_batch).batch_id and e.tenant_id = any (v_tenants) and e.open <= v_freed[array_position(v_tenants, e.tenant_id)];
  update jobs.leases e
  set open = e.open - v_freed[array_position(v_tenants, e.tenant_id)]
  where e.batch_id = (p_batch).batch_id and e.tenant_id = any (v_tenants);
end
$function$;

create or replace function private.acknowledge_rule (
  p_tenant_id uuid,
  p_rule text,
  p_version integer,
  p_campaign_id uuid
)
  returns uuid
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_rule public.rules;
  v_id uuid;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('acknowledge_rule', p_tenant_id);
  end if;
  select r.* into v_rule from public.rules r where r.rule = p_rule order by r.version desc limit 1;
  if v_rule.rule is null then
    raise exception 'There is no rule "%".', p_rule using errcode = 'PT404';
  end if;
  if p_version is distinct from v_rule.version then
    raise exception 'Version % of this rule is in force. Read it, then acknowledge that one.', v_rule.version using errcode = 'PT409';
  end if;
  if p_campaign_id is not null and not exists (
    select from public.campaigns c where c.tenant_id = p_tenant_id and c.id = p_campaign_id
  ) then
    raise exception 'There is no such campaign.' using errcode = 'PT404';
  end if;
  insert into public.acknowledgements (tenant_id, rule, version, campaign_id, user_id, text)
  values (p_tenant_id, v_rule.rule, v_rule.version, p_campaign_id, (select auth.uid()), v_rule.text)
  returning id into v_id;
  perform private.audit(p_tenant_id, 'rule.acknowledged',
    jsonb_build_object('rule', v_rule.rule, 'version', v_rule.version, 'campaign_id', p_campaign_id));
  return v_id;
end
$function$;

create or replace function private.act_on_failures (
  p_tenant_ids uuid[],
  p_ids uuid[],
  p_codes integer[],
  p_reasons text[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_one record;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_at timestamptz;
begin
  if not exists (select from unnest(p_codes) c where private.code_effect(c) is not null) then
    return;
  end if;

  update public.message_templates t
  set paused_at = now(), pause_reason = left(f.reason, 500)
  from (
    select distinct on (m.tenant_id, m.template_id) m.tenant_id, m.template_id, u.reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'pause template'
    order by m.tenant_id, m.template_id
  ) f
  where t.tenant_id = f.tenant_id and t.id = f.template_id and t.paused_at is null;

  for v_one in
    select x.sender_id, min(x.code) as code, min(x.reason) as reason
    from (
      select case when private.code_effect(u.code) = 'stop number' and m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id,
        u.code, u.reason
      from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
      where private.code_effect(u.code) in ('stop number', 'stop tenant')
    ) x
    group by x.sender_id
    order by x.sender_id
  loop
    perform private.stop_sender(v_one.sender_id, v_one.code, v_one.reason);
  end loop;

  perform private.stop_marketing(array_agg(m.tenant_id), array_agg(m.participant_id), array_agg(now()), 'provider')
  from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
  join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
  where private.code_effect(u.code) = 'no marketing' and m.participant_id is not null
  having count(*) > 0;

  -- The window is closed, whatever we thought of it: from now on the approved template goes, if there is one.
  insert into private.conversations as c (tenant_id, recipient, inbound_at)
  select x.sender_id, x.wa_key, now() - interval '25 hours'
  from (
    select distinct case when m.credential_source = 'platform' then jobs.platform_id() else m.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
    from unnest(p_tenant_ids, p_ids, p_codes) as u (tenant_id, id, code)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where private.code_effect(u.code) = 'template' and m.recipient is not null
  ) x
  order by x.sender_id, x.wa_key
  -- What the person wrote since the message was sent has opened it again.
  on conflict (tenant_id, recipient) do update set inbound_at = excluded.inbound_at
    where c.inbound_at is null or c.inbound_at < now() - interval '23 hours';

  -- Not sent, and not for the message's sake: it waits for its time, or until sending is resumed. Three times at most.
  for v_one in
    select private.code_effect(u.code) as effect, array_agg(m.tenant_id) as tenant_ids, array_agg(m.id) as ids, min(u.reason) as reason
    from unnest(p_tenant_ids, p_ids, p_codes, p_reasons) as u (tenant_id, id, code, reason)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
    where (private.code_effect(u.code) in ('later', 'stop number', 'stop tenant') and m.resends < 3)
      or (private.code_effect(u.code) = 'template' and m.resends = 0 and m.payload ->> 'template' is not null)
    group by 1
    order by 1
  loop
    v_at := now() + case v_one.effect when 'later' then interval '24 hours' when 'template' then interval '0' else interval '15 minutes' end;
    -- Worth nothing by then: the campaign or the time for the claim is over.
    update public.notification_outbox m
    set status = 'cancelled', reason = left(v_one.reason || ' It is not sent again: it would come too late.', 500)
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox x on x.tenant_id = u.tenant_id and x.id = u.id
    left join public.campaigns g on g.tenant_id = x.tenant_id and g.id = x.campaign_id
    left join public.completions c on c.tenant_id = x.tenant_id and c.id = x.completion_id and x.kind::text = 'reminder'
    where m.tenant_id = u.tenant_id and m.id = u.id and (g.status <> 'active' or g.ends_at <= v_at or c.deadline <= v_at);
    select array_agg(m.tenant_id), array_agg(m.id) into v_tenant_ids, v_ids
    from unnest(v_one.tenant_ids, v_one.ids) as u (tenant_id, id)
    join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id and m.status = 'failed';
    if v_ids is not null then
      perform private.requeue_messages(v_tenant_ids, v_ids, v_at, v_one.reason);
    end if;
  end loop;
end
$function$;

create or replace function private.action_url (
  p_task public.social_tasks,
  p_code text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select case (p_task).kind::text
    when 'whatsapp_join' then coalesce(private.contact_link((p_task).tenant_id, 'whatsapp', p_code), (
      -- A business without a number of its own is written to through the platform's.
      select 'https://wa.me/' || nullif(left(regexp_replace(c.account ->> 'display_phone_number', '[^0-9]', '', 'g'), 20), '') || '?text=' || p_code
      from private.platform_credentials c
      where c.provider = 'whatsapp' and (p_task).platform_credential_allowed
        and not exists (select from public.credentials o where o.tenant_id = (p_task).tenant_id and o.provider = 'whatsapp')))
    when 'instagram_dm_keyword' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'instagram_follow' then private.contact_link((p_task).tenant_id, 'instagram', p_code)
    when 'link_visit' then format('%s/functions/v1/webhooks/visit/%s/%s', rtrim(private.platform_secret('project_url'), '/'),
      (select t.slug from public.tenants t where t.id = (p_task).tenant_id), p_code)
    when 'link_sign_up' then replace((p_task).url, '{code}', p_code) end
$function$;

create or replace function private.add_campaign_strategies()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into public.campaign_strategies (tenant_id, campaign_id) select c.tenant_id, c.id from new_campaigns c on conflict do nothing;
  return null;
end
$function$;

create or replace function private.add_message_settings()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into public.message_settings (tenant_id) select t.id from new_tenants t on conflict do nothing;
  return null;
end
$function$;

create or replace function private.add_reminder_settings()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  insert into public.reminder_settings (tenant_id, campaign_id) select c.tenant_id, c.id from new_campaigns c on conflict do nothing;
  return null;
end
$function$;

create or replace function private.agrees (
  p_tenant_id uuid,
  p_participant_id uuid,
  p_channel text,
  p_category text
)
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select (
    select o.granted from public.opt_ins o
    where o.tenant_id = p_tenant_id and o.participant_id = p_participant_id and o.channel = p_channel and o.category = p_category
    order by o.at desc, o.position desc limit 1)
$function$;

create or replace function private.announce_review (
  p_tenant_id uuid,
  p_completion_id uuid
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_status text := (select c.status from public.completions c where c.tenant_id = p_tenant_id and c.id = p_completion_id);
begin
  if v_status = 'verified' then
    perform private.congratulate(array[p_tenant_id], array[p_completion_id]);
  elsif v_status = 'failed' then
    perform private.queue_message(p_tenant_id, 'review_result', null, c.participant_id,
      jsonb_build_object('task', t.title, 'reason', coalesce(rtrim(c.reason, '.') || '.', '')), 'review_result/' || c.id, t.campaign_id, c.id)
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    where c.tenant_id = p_tenant_id and c.id = p_completion_id;
  end if;
end
$function$;

create or replace function private.apply_credential_checks (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_found record;
  v_reason text;
begin
  for v_found in
    select e.tenant_id, (e.result ->> 'provider')::public.provider as provider, e.result ->> 'fingerprint' as fingerprint,
      e.result ->> 'verdict' as verdict, left(e.result ->> 'error', 500) as error, e.result ? 'expires_at' as knows_end,
      (e.result ->> 'expires_at')::timestamptz as expires_at,
      case when jsonb_typeof(e.result -> 'scopes') = 'array' then array(select left(s, 100) from jsonb_array_elements_text(e.result -> 'scopes') s limit 100) end as scopes
    from unnest(p_ended) e
    where e.outcome = 'done' and e.result ->> 'verdict' in ('healthy', 'broken', 'not_renewed') and (e.credential_source = 'platform') = (e.tenant_id = jobs.platform_id())
    order by e.tenant_id
  loop
    if v_found.verdict = 'broken' then
      perform jobs.park(v_found.tenant_id, v_found.provider, v_found.fingerprint, coalesce(v_found.error, 'the provider refused it'));
      continue;
    end if;
    if v_found.verdict = 'not_renewed' then
      v_reason := format('It could not be renewed and ends on its own: %s', coalesce(v_found.error, 'no reason was given'));
    elsif v_found.expires_at < now() + interval '7 days' then
      v_reason := format('It expires on %s (UTC).', to_char(v_found.expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));
    else
      v_reason := null;
    end if;
    -- One that broke meanwhile stays broken: what is asked here is less than what the work needs.
    if v_found.tenant_id = jobs.platform_id() then
      update private.platform_credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    else
      update public.credentials c
      set health = 'healthy', state = 'ok', health_reason = v_reason, checked_at = now(),
        expires_at = case when v_found.knows_end then v_found.expires_at else c.expires_at end, scopes = coalesce(v_found.scopes, c.scopes)
      where c.tenant_id = v_found.tenant_id and c.provider = v_found.provider and c.fingerprint = v_found.fingerprint and c.health <> 'broken';
    end if;
    if found then
      perform private.warn_of_credential(v_found.tenant_id, v_found.provider, v_reason);
    end if;
  end loop;
end
$function$;

create or replace function private.apply_emails (
  p_ended jobs.ended[]
)
  returns void
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  update public.notification_outbox m
  set status = e.status::public.message_status, sent_at = case when e.status = 'sent' then now() end, held_until = null, reason = left(e.reason, 500),
    delivery = case when e.status = 'sent' then 'sent' end, delivery_at = case when e.status = 'sent' then now() end,
    unknown_since = case when e.status = 'unknown' then now() end,
    provider_message_id = left(e.result ->> 'provider_message_id', 200), credential_source = e.credential_source
  from (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' and u.error like 'it could not be sent%' then 'failed'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
  ) e
  where m.tenant_id = e.tenant_id and m.id = e.subject_id
    and (m.status = 'queued' or (m.status = 'no_consent' and e.status in ('sent', 'unknown')))
$function$;

create or replace function private.apply_messages (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  with ended as (
    select u.*, coalesce(u.result ->> 'reason', u.error) as reason, left(u.result ->> 'provider_message_id', 200) as message_id,
      coalesce(case when u.result ->> 'code' ~ '^[0-9]{1,9}$' then (u.result ->> 'code')::integer end,
        substring(u.error from '^WhatsApp ([0-9]{1,9})\M')::integer) as code,
      case
        when u.outcome = 'cancelled' and u.error like 'notifications are switched off%' then 'disabled'
        when u.outcome = 'cancelled' and u.error like '%withdrawn consent' then 'no_consent'
        when u.outcome = 'cancelled' then 'cancelled'
        when u.outcome = 'done' and u.result ->> 'status' = 'sent' then 'sent'
        when u.outcome = 'dead' or (u.outcome = 'done' and u.result ->> 'status' = 'failed') then 'failed'
        else 'unknown' end as status
    from unnest(p_ended) u
  ),
  -- A report of the provider may have come before the answer of its own API.
  judged as (
    select e.*, r.is_reported, case
        when e.status in ('sent', 'unknown') and r.is_reported then case when m.delivery = 'failed' then 'failed' else 'sent' end
        else e.status end as final
    from ended e
    join public.notification_outbox m on m.tenant_id = e.tenant_id and m.id = e.subject_id
    cross join lateral (
      select m.delivery is not null and (e.message_id is null or m.provider_message_id is null or m.provider_message_id = e.message_id) as is_reported
    ) r
  ),
  changed as (
    update public.notification_outbox m
    set status = j.final::public.message_status, sent_at = case when j.final = 'sent' then now() end, held_until = null,
      delivery = case
        when j.is_reported then m.delivery
        when j.status = 'sent' then 'sent' end,
      delivery_at = case when j.is_reported then m.delivery_at when j.status = 'sent' then now() end,
      reason = case when j.is_reported and j.final = 'failed' then m.reason else left(j.reason, 500) end,
      error_code = coalesce(j.code, case when j.is_reported then m.error_code end),
      unknown_since = case when j.final = 'unknown' then now() end,
      provider_message_id = coalesce(j.message_id, m.provider_message_id), credential_source = j.credential_source
    from judged j
    where m.tenant_id = j.tenant_id and m.id = j.subject_id
      -- Consent that was withdrawn while the message was on its way: it was sent all the same, and the record says so.
      and (m.status = 'queued' or (m.status = 'no_consent' and j.final in ('sent', 'unknown')))
    returning m.tenant_id, m.id, m.status, m.error_code, m.reason
  )
  select array_agg(c.tenant_id), array_agg(c.id), array_agg(c.error_code), array_agg(c.reason)
  into v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c
  where c.status = 'failed' and c.error_code is not null;

  -- From the answer on it counts: the next one to this person comes 6 seconds later.
  update private.conversations c
  set next_at = greatest(c.next_at, clock_timestamp() + interval '6 seconds')
  from (
    select x.sender_id, x.wa_key
    from (
      select case when u.credential_source = 'platform' then jobs.platform_id() else u.tenant_id end as sender_id, private.wa_key(m.recipient) as wa_key
      from unnest(p_ended) u
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
      where u.outcome = 'done'
    ) x
    join private.conversations y on y.tenant_id = x.sender_id and y.recipient = x.wa_key
    order by x.sender_id, x.wa_key
    for update of y
  ) sent
  where c.tenant_id = sent.sender_id and c.recipient = sent.wa_key;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
end
$function$;

create or replace function private.apply_verifications (
  p_ended jobs.ended[]
)
  returns void
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
declare
  v_verdicts private.verdict[];
begin
  select array_agg((e.tenant_id, e.subject_id, r.verdict, 'api', coalesce(e.result ->> 'reason', e.error), r.evidence,
      case when r.verdict = 'verified' then array_remove(array[
        coalesce('comment:' || regexp_replace(r.evidence ->> 'comment_id', '^.*_', ''), 'media:' || (r.evidence ->> 'media_id'),
          'message:' || (r.evidence ->> 'message_id')),
        coalesce('author:' || (r.evidence ->> 'author_id'), 'name:' || lower(r.evidence ->> 'author_username'))], null) end,
      e.credential_source, 'manual_review',
      case when r.verdict = 'needs_user_action' then (
        select private.contact_link(c.tenant_id, 'instagram', c.code) from public.completions c where c.tenant_id = e.tenant_id and c.id = e.subject_id) end
    )::private.verdict)
  into v_verdicts
  from unnest(p_ended) e
  cross join lateral (
    select case when e.outcome = 'done' and e.result ->> 'verdict' in ('verified', 'failed', 'needs_user_action')
        then e.result ->> 'verdict' else 'manual_review' end as verdict,
      case when jsonb_typeof(e.result -> 'evidence') = 'object' then e.result -> 'evidence' end as evidence
  ) r
  where e.outcome <> 'cancelled';
  perform private.decide_completions(v_verdicts, 'worker', p_item_ended => true);
end
$function$;

create or replace function private.approve_completion (
  p_tenant_id uuid,
  p_completion_id uuid,
  p_note text
)
  returns jsonb
  language sql
  security definer
  set search_path to ''
  AS $function$
  select private.review_completion(p_tenant_id, p_completion_id, true, p_note)
$function$;

create or replace function private.candidates_of_completions (
  p_tenant_ids uuid[],
  p_completion_ids uuid[]
)
  returns private.candidate[]
  language plpgsql
  stable
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
begin
  return (select array_agg((c.tenant_id, c.id, s.id, s.basis)::private.candidate)
  from unnest(p_tenant_ids, p_completion_ids) as u (tenant_id, completion_id)
  cross join lateral (
    select x.tenant_id, x.id, x.participant_id, x.code from public.completions x
    where x.tenant_id = u.tenant_id and x.id = u.completion_id and x.status = 'pending' and x.seen_at is null offset 0
  ) c
  cross join lateral (
    select x.signal_id as id, 1 as basis from private.signal_codes x where x.tenant_id = c.tenant_id and x.code = c.code
    union all
    select x.id, 2
    from (
      select y.platform, y.external_id from public.linked_accounts y
      where y.tenant_id = c.tenant_id and y.participant_id = c.participant_id offset 0
    ) a
    cross join lateral (
      select y.id from private.signals y where y.tenant_id = c.tenant_id and y.author_id = a.external_id and y.surface = a.platform offset 0
    ) x
    union all
    select x.id, 3
    from (
      select y.instagram_username, y.facebook_user_id from public.participants y
      where y.tenant_id = c.tenant_id and y.id = c.participant_id offset 0
    ) p
    cross join lateral (
      select y.id from private.signals y
      where y.tenant_id = c.tenant_id and y.author_username = p.instagram_username and y.surface = 'instagram' and y.kind = 'comment'
      union all
      select y.id from private.signals y
      where y.tenant_id = c.tenant_id and y.author_id = p.facebook_user_id and y.surface = 'facebook' and y.kind = 'comment'
      offset 0
    ) x
    offset 0
  ) s);
end
$function$;

create or replace function private.candidates_of_signals (
  p_tenant_id uuid,
  p_signal_ids uuid[]
)
  returns private.candidate[]
  language plpgsql
  stable
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
begin
  return (select array_agg((p_tenant_id, c.id, c.signal_id, c.basis)::private.candidate)
  from (
    select c.id, k.signal_id, 1 as basis
    from unnest(p_signal_ids) as u (id)
    cross join lateral (
      select x.signal_id, x.code from private.signal_codes x where x.tenant_id = p_tenant_id and x.signal_id = u.id offset 0
    ) k
    cross join lateral (
      select x.id from public.completions x
      where x.tenant_id = p_tenant_id and x.code = k.code and x.status = 'pending' and x.seen_at is null offset 0
    ) c
    union all
    select c.id, s.id, a.basis
    from unnest(p_signal_ids) as u (id)
    cross join lateral (
      select x.* from private.signals x
      where x.tenant_id = p_tenant_id and x.id = u.id and (x.author_id is not null or x.author_username is not null) offset 0
    ) s
    cross join lateral (
      select x.participant_id, 2 as basis from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = s.surface and x.external_id = s.author_id
      union all
      select x.id, 3 from public.participants x
      where x.tenant_id = p_tenant_id and x.instagram_username = s.author_username and s.surface = 'instagram' and s.kind = 'comment'
      union all
      select x.id, 3 from public.participants x
      where x.tenant_id = p_tenant_id and x.facebook_user_id = s.author_id and s.surface = 'facebook' and s.kind = 'comment'
      offset 0
    ) a
    cross join lateral (
      select x.id from public.completions x
      where x.tenant_id = p_tenant_id and x.participant_id = a.participant_id and x.status = 'pending' and x.seen_at is null offset 0
    ) c
  ) c);
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
  stable
  set search_path to ''
  AS $function$
declare
  v_secret_key text := case when p_kind in ('facebook_login', 'instagram_login', 'whatsapp_cloud') then 'access_token'
    when p_kind = 'waapi' then 'token' else 'api_key' end;
  v_account_key text := case p_kind when 'instagram_login' then 'ig_user_id' when 'whatsapp_cloud' then 'phone_number_id'
    when 'waapi' then 'instance_id' end;
  v_rule record;
begin
  if jsonb_typeof(p_secret) is distinct from 'object' or coalesce(p_secret ->> v_secret_key, '') = '' then
    raise exception 'A % credential needs the secret {"%": "…"}.', p_kind, v_secret_key using errcode = '22023';
  end if;
  if p_secret ->> v_secret_key ~ '[^!-~]' or octet_length(p_secret::text) > 8000 then
    raise exception 'The secret has white space or other characters that no % token has. Copy it again.', p_kind
      using errcode = '22023';
  end if;
  -- What a webhook needs: the app's secret signs, the verify token opens the subscription.
  for v_rule in select k.name from (values ('app_secret'), ('verify_token')) k (name) where p_secret ? k.name loop
    if p_kind not in ('facebook_login', 'instagram_login', 'whatsapp_cloud') then
      raise exception 'A % credential has no %.', p_kind, v_rule.name using errcode = '22023';
    end if;
    if jsonb_typeof(p_secret -> v_rule.name) <> 'string' or p_secret ->> v_rule.name !~ '^[!-~]+$'
      or octet_length(p_secret ->> v_rule.name) > 500 then
      raise exception 'The % is empty, too long or has characters that none has. Copy it again.', v_rule.name using errcode = '22023';
    end if;
  end loop;
  if jsonb_typeof(p_account) is distinct from 'object' then
    raise exception 'The account is an object, such as {"page_id": "…"}.' using errcode = '22023';
  end if;
  if v_account_key is not null and coalesce(p_account ->> v_account_key, '') !~ '^[0-9A-Za-z_-]{1,64}$' then
    raise exception 'A % credential needs the account {"%": "…"}.', p_kind, v_account_key using errcode = '22023';
  end if;
  for v_rule in
    select r.name, r.says
    from (values
      ('ig_user_id', '^[0-9A-Za-z_-]{1,64}$', 'an id'),
      ('page_id', '^[0-9A-Za-z_-]{1,64}$', 'an id'),
      ('app_id', '^[0-9]{1,40}$', 'the number of the app'),
      ('username', '^[A-Za-z0-9._]{1,60}$', 'a user name without @'),
      ('display_phone_number', '^\+?[0-9][0-9 ()./-]{5,30}$', 'a phone number with its country code'),
      ('sender', '^[ -~]{1,60}$', 'a number or a name'),
      ('business_name', '^[^[:cntrl:]]{1,200}$', 'a name of at most 200 characters')
    ) r (name, pattern, says)
    where p_account ? r.name and coalesce(p_account ->> r.name, '') !~ r.pattern
  loop
    raise exception 'The account''s % is not %.', v_rule.name, v_rule.says using errcode = '22023';
  end loop;
  if p_kind = 'resend' and p_account ? 'from'
    and coalesce(p_account ->> 'from', '') !~ '^([^<>@[:cntrl:]]{1,100} <)?[^<>@\s,;"]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}>?$'
    or (p_kind = 'resend' and (p_account ->> 'from' like '%<%') <> (p_account ->> 'from' like '%>')) then
    raise exception 'The account''s from is not an address such as "Pizza Shop <hello@pizza.example>".' using errcode = '22023';
  end if;
  if p_kind = 'gateway' then
    perform private.check_gateway(p_account, p_secret);
  end if;
end
$function$;

create or replace function private.check_gateway (
  p_account jsonb,
  p_secret jsonb
)
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_fault text;
  v_header record;
  v_text text;
  v_path text := '^[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60}){0,9}$';
  v_kind text := jsonb_typeof(p_account -> 'body');
  v_form boolean := false;
begin
  select format('it does not know %s', string_agg(quote_ident(left(k, 40)), ', ')) into v_fault
  from jsonb_object_keys(p_account) k
  where k not in ('method', 'url', 'headers', 'body', 'success', 'message_id_path', 'error_path', 'sender', 'business_name')
  having count(*) > 0;
  if v_fault is null and coalesce(p_account ->> 'method', '') not in ('POST', 'PUT') then
    v_fault := 'its method must be POST or PUT';
  end if;
  if v_fault is null then
    v_fault := 'its url is not usable: ' || private.gateway_url_fault(p_account ->> 'url', p_secret ->> 'api_key');
  end if;

  -- Headers
  if v_fault is null and p_account ? 'headers' then
    if jsonb_typeof(p_account -> 'headers') <> 'object' or (select count(*) from jsonb_object_keys(p_account -> 'headers')) > 20 then
      v_fault := 'its headers must be an object of at most 20';
    else
      for v_header in select e.key, e.value from jsonb_each(p_account -> 'headers') e loop
        if v_header.key !~ '^[A-Za-z0-9!#$&''*+.^_`|~-]{1,60}$' then
          v_fault := 'the name of a header has characters that none may have';
        elsif lower(v_header.key) ~ '^(host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|accept-encoding|proxy-.*|cookie)$' then
          v_fault := format('the header %s is not the template''s to set', v_header.key);
        elsif jsonb_typeof(v_header.value) <> 'string' or (v_header.value #>> '{}') !~ '^[ -~]*$' or octet_length(v_header.value #>> '{}') > 1000 then
          v_fault := format('the header %s must be a line of printable ASCII', v_header.key);
        elsif (v_header.value #>> '{}') ~ '\{\{message\}\}' then
          v_fault := format('the header %s must not carry the message', v_header.key);
        end if;
        v_form := v_form or (lower(v_header.key) = 'content-type' and (v_header.value #>> '{}') ~* '^application/x-www-form-urlencoded');
        exit when v_fault is not null;
      end loop;
    end if;
  end if;

  -- Body
  if v_fault is null and coalesce(v_kind, '') not in ('object', 'string') then
    v_fault := 'its body must be an object or a text';
  end if;
  if v_fault is null and v_kind = 'object' and v_form then
    v_fault := 'a body for a form must be a text such as number={{number}}&message={{message}}';
  end if;
  if v_fault is null then
    v_text := case v_kind when 'string' then p_account ->> 'body' else (p_account -> 'body')::text end;
    if octet_length(v_text) > 8000 then
      v_fault := 'its body is longer than 8000 bytes';
    elsif v_kind = 'string' and not v_form
      and not private.is_json(regexp_replace(v_text, '\{\{(number|message|sender|api_key)\}\}', '1', 'g')) then
      v_fault := 'its body is not JSON once the placeholders are filled in';
    end if;
  end if;

  -- Placeholders
  if v_fault is null then
    v_text := concat_ws(' ', p_account ->> 'url', p_account ->> 'headers', p_account ->> 'body');
    v_fault := 'it has unknown placeholders: ' || private.unknown_placeholders(v_text);
    if v_fault is null and (v_text !~ '\{\{number\}\}' or v_text !~ '\{\{message\}\}') then
      v_fault := 'it must say where {{number}} and {{message}} go';
    end if;
    if v_fault is null and v_text ~ '\{\{sender\}\}' and coalesce(p_account ->> 'sender', '') !~ '^[ -~]{1,60}$' then
      v_fault := 'it uses {{sender}} and has no sender';
    end if;
    if v_fault is null and octet_length(p_secret ->> 'api_key') >= 4 and position(p_secret ->> 'api_key' in v_text) > 0 then
      v_fault := 'it has the api_key in it; write {{api_key}} there';
    end if;
  end if;

  -- The answer
  if v_fault is null and (
    jsonb_typeof(p_account -> 'success') is distinct from 'object' or coalesce(p_account #>> '{success,path}', '') !~ v_path
    or coalesce(jsonb_typeof(p_account #> '{success,equals}'), '') not in ('string', 'number', 'boolean')
    or exists (select from jsonb_object_keys(p_account -> 'success') k where k not in ('path', 'equals'))) then
    v_fault := 'its success must be {"path": "a.path", "equals": a text, a number or true}';
  end if;
  if v_fault is null and p_account ? 'message_id_path' and coalesce(p_account ->> 'message_id_path', '') !~ v_path then
    v_fault := 'its message_id_path is not a path such as data.id';
  end if;
  if v_fault is null and p_account ? 'error_path' and coalesce(p_account ->> 'error_path', '') !~ v_path then
    v_fault := 'its error_path is not a path such as error.message';
  end if;
  if v_fault is not null then
    raise exception 'The gateway''s request cannot be used: %.', v_fault using errcode = '22023';
  end if;
end
$function$;

create or replace function private.check_message_template()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_known text[] := private.message_variables(new.kind::text);
  v_unknown text;
begin
  -- Whatever stands between braces, and braces that open or close nothing.
  select u.name into v_unknown
  from (
    select case when strpos(x.part, '}}') = 0 then left('{{' || x.part, 40) else btrim(split_part(x.part, '}}', 1)) end as name
    from unnest(array[new.body, new.subject]) t (text)
    cross join lateral unnest(string_to_array(t.text, '{{')) with ordinality as x (part, n)
    where x.n > 1
    union all
    select p from unnest(new.whatsapp_parameters) p
  ) u
  where u.name is null or u.name <> all (v_known)
  limit 1;
  if found then
    raise exception 'A message of the kind "%" has no variable "%". Known: %.', new.kind, coalesce(v_unknown, 'null'), array_to_string(v_known, ', ')
      using errcode = '22023';
  end if;
  if tg_op = 'UPDATE' then
    new.paused_at := null;
    new.pause_reason := null;
  end if;
  return new;
end
$function$;

create or replace function private.check_promotion()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_missing text;
begin
  if not new.promotion or new.status <> 'active' then
    return new;
  end if;
  select string_agg(f.name, ', ' order by f.position) into v_missing
  from (values
    (1, 'official_rules', new.official_rules), (2, 'eligibility', new.eligibility), (3, 'ends_at', new.ends_at::text),
    (4, 'prize_terms', new.prize_terms), (5, 'release_text', new.release_text)) as f (position, name, value)
  where coalesce(btrim(f.value), '') = '';
  if v_missing is not null then
    raise exception 'Before this promotion can run it needs: %.', v_missing using errcode = '23514',
      hint = 'A promotion says by which rules it runs, who may enter, until when, what is won, and that no platform stands behind it.';
  end if;
  if tg_op = 'INSERT' or old.status <> 'active' or not old.promotion then
    perform private.require_acknowledgement(new.tenant_id, 'promotion_release');
  end if;
  return new;
end
$function$;

create or replace function private.check_task()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  new.keyword := nullif(lower(btrim(new.keyword)), '');
  if new.title ~* '\mshar(e|es|ed|ing)\M.{0,60}\m(timelines?|walls?|profiles?|friends?)\M' then
    raise exception 'Meta forbids to ask for a share on a personal timeline in a promotion.' using errcode = '23514',
      hint = 'Ask for a comment, a mention, a message or a visit instead.';
  end if;
  if new.title ~* '\mtag(s|ged|ging)?\M.{0,40}\m(friends?|mates?|budd(y|ies)|people|persons?|someone|somebody|others?)\M' then
    raise exception 'Meta forbids to ask people to tag friends in a promotion.' using errcode = '23514',
      hint = 'Ask for a comment, a mention, a message or a visit instead.';
  end if;
  if new.active and (tg_op = 'INSERT' or not old.active)
    and exists (select from public.task_kinds k where k.kind = new.kind::text and k.rewarded_engagement)
  then
    perform private.require_acknowledgement(new.tenant_id, 'rewarded_engagement');
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
  v_cohort_id uuid;
  v_task public.social_tasks;
  v_kind public.task_kinds;
  v_strategy text;
  v_basis text;
  v_route text;
  v_code text;
  v_completion public.completions;
begin
  perform private.limit_calls('claim_task', (select auth.uid()));
  select p.id, p.cohort_id into v_participant_id, v_cohort_id from public.participants p
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
  select k.* into v_kind from public.task_kinds k where k.kind = v_task.kind::text;
  select coalesce(h.strategy, g.strategy, 'api'), coalesce(h.statistical_basis, g.statistical_basis, 'rate') into v_strategy, v_basis
  from (select) one
  left join public.campaign_strategies g on g.tenant_id = p_tenant_id and g.campaign_id = v_task.campaign_id
  left join public.cohorts h on h.tenant_id = p_tenant_id and h.id = v_cohort_id;
  v_route := private.route_of(v_task, v_kind, v_strategy);

  -- A code that is taken already is drawn again.
  loop
    v_code := private.new_code();
    insert into public.completions (tenant_id, task_id, participant_id, code, deadline, route, settle_at, action_url)
    values (p_tenant_id, p_task_id, v_participant_id, v_code, now() + v_task.verify_within, v_route,
      case v_route
        -- Long past the deadline: the worker's own answer comes first.
        when 'api' then now() + v_task.verify_within + interval '1 day'
        when 'signal' then now() + v_task.verify_within
        else private.settles_at(v_kind.kind, v_strategy, v_basis, now()) end,
      private.action_url(v_task, v_code))
    on conflict do nothing
    returning * into v_completion;
    exit when found;
    if exists (
      select from public.completions c where c.tenant_id = p_tenant_id and c.task_id = p_task_id and c.participant_id = v_participant_id
    ) then
      raise exception 'You have claimed this task already.' using errcode = '23505',
        hint = 'A task can be claimed once. Read your completions to see how the claim stands.';
    end if;
  end loop;

  case v_route
    -- In the same transaction: a claim without its item, or an item without its claim, cannot exist.
    when 'api' then perform jobs.enqueue('verify-social-tasks', p_tenant_id, v_completion.id);
    -- What was seen before the claim counts.
    when 'signal' then perform private.decide_by_signals(p_tenant_id, '{}', '{}', v_completion.id);
    else
      if v_strategy in ('api', 'manual') then
        perform private.decide_completions(array[(p_tenant_id, v_completion.id, 'manual_review', null,
          'nothing can prove this claim: a person decides', null, null, null, null, null)::private.verdict], 'settle-claims');
      end if;
  end case;
  select c.* into v_completion from public.completions c where c.tenant_id = p_tenant_id and c.id = v_completion.id;
  return jsonb_build_object('completion_id', v_completion.id, 'status', v_completion.status, 'code', v_completion.code,
    'deadline', v_completion.deadline)
    || case when v_completion.action_url is not null then jsonb_build_object('action_url', v_completion.action_url) else '{}' end;
end
$function$;

create or replace function private.claims_are_due()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (select from public.completions c where c.settle_at <= now())
$function$;

create or replace function private.claims_by_messages (
  p_messages jsonb
)
  returns table (
    tenant_id uuid,
    messages jsonb
  )
  language plpgsql
  stable
  set search_path to ''
  set enable_seqscan to 'off'
  AS $function$
begin
  return query
  select n.tenant_id, jsonb_agg(n.message order by n.position)
  from (
    select min(c.tenant_id::text)::uuid as tenant_id, m.message, m.position
    from jsonb_array_elements(p_messages) with ordinality as m (message, position)
    cross join lateral unnest(private.codes_in(left(m.message ->> 'text', 10000))) as u (code)
    cross join lateral (
      select x.tenant_id, x.id, x.task_id from public.completions x
      where x.code = u.code and x.route = 'signal' and x.status = 'pending' offset 0
    ) c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    join public.tenants b on b.id = c.tenant_id
    where t.kind::text = 'whatsapp_join' and t.platform_credential_allowed and b.status = 'active'
      and not exists (select from public.credentials o where o.tenant_id = c.tenant_id and o.provider = 'whatsapp')
    group by m.message, m.position
    having count(*) = 1
  ) n
  group by n.tenant_id
  order by n.tenant_id;
end
$function$;

create or replace function private.code_effect (
  p_code integer
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case
    when p_code = 131047 then 'template'
    when p_code = 131049 then 'later'
    when p_code = 131050 then 'no marketing'
    when p_code in (132000, 132001, 132005, 132007, 132012, 132015, 132016) then 'pause template'
    -- The account as a whole: locked, blocked for a policy, unpaid.
    when p_code in (368, 131031, 131042) then 'stop number'
    when p_code = 131048 then 'stop tenant' end
$function$;

create or replace function private.codes_in (
  p_text text
)
  returns text[]
  language sql
  immutable
  set search_path to ''
  AS $function$
  select array(
    select distinct m[1]
    from regexp_matches(
      upper(regexp_replace(regexp_replace(normalize(p_text, nfkc), '[\u00AD\u200B-\u200F\u202A-\u202E\u2060-\u2064\uFEFF]', '', 'g'),
        '[\u2010-\u2015\u2212\u2E3A\u2E3B\uFE58\uFE63\uFF0D]', '-', 'g')),
      '(?<![[:alnum:]])(OC-[0-9A-Z]{8})(?![[:alnum:]])', 'g') m
    limit 20)
$function$;

create or replace function private.confirm_sign_up (
  p_tenant_id uuid,
  p_code text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_code text := upper(btrim(p_code));
  v_completion_id uuid;
  v_status text;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
    perform private.limit_calls('confirm_sign_up', p_tenant_id);
  end if;
  select c.id into v_completion_id
  from public.completions c join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  where c.tenant_id = p_tenant_id and c.code = v_code and t.kind::text = 'link_sign_up';
  if v_completion_id is null then
    raise exception 'No sign-up was claimed with this code.' using errcode = 'PT404';
  end if;
  if not private.is_platform() then
    perform private.refuse_own_claim(p_tenant_id, v_completion_id);
  end if;
  perform private.take_signals(p_tenant_id, jsonb_build_array(jsonb_build_object(
    'surface', 'link', 'kind', 'sign_up', 'external_id', v_code)), 'link');
  select c.status into v_status from public.completions c where c.tenant_id = p_tenant_id and c.id = v_completion_id;
  return jsonb_build_object('completion_id', v_completion_id, 'status', v_status);
end
$function$;

create or replace function private.congratulate (
  p_tenant_ids uuid[],
  p_completion_ids uuid[]
)
  returns integer
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select private.queue_messages(jsonb_agg(jsonb_build_object(
    'tenant_id', c.tenant_id, 'kind', 'congratulation', 'participant_id', c.participant_id, 'campaign_id', t.campaign_id, 'completion_id', c.id,
    'dedupe_key', 'congratulation/' || c.id, 'variables', jsonb_build_object('task', t.title, 'spins', t.reward_spins)) order by u.n))
  from unnest(p_tenant_ids, p_completion_ids) with ordinality as u (tenant_id, completion_id, n)
  join public.completions c on c.tenant_id = u.tenant_id and c.id = u.completion_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  having count(*) > 0
$function$;

create or replace function private.contact_link (
  p_tenant_id uuid,
  p_platform text,
  p_code text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select case p_platform
    when 'instagram' then 'https://ig.me/m/' || nullif(substring(c.account ->> 'username' from '^@?([A-Za-z0-9._]{1,30})$'), '') || '?ref=' || p_code
    when 'facebook' then 'https://m.me/' || substring(c.account ->> 'page_id' from '^[0-9]{1,30}$') || '?ref=' || p_code
    else 'https://wa.me/' || nullif(left(regexp_replace(c.account ->> 'display_phone_number', '[^0-9]', '', 'g'), 20), '') || '?text=' || p_code end
  from public.credentials c
  where c.tenant_id = p_tenant_id and c.provider = case when p_platform = 'whatsapp' then 'whatsapp' else 'meta' end::public.provider
$function$;

create or replace function private.count_ignored (
  p_reasons text[]
)
  returns jsonb
  language sql
  immutable
  set search_path to ''
  AS $function$
  select coalesce(jsonb_object_agg(r.reason, r.count), '{}')
  from (select u as reason, count(*) from unnest(p_reasons) u where u is not null group by u order by count(*) desc, u limit 20) r
$function$;

create or replace function private.credential_advice (
  p_state text,
  p_health_reason text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case p_state
    when 'unchecked' then 'Nothing to do: it is checked when it is first used, at the latest tomorrow.'
    when 'ok' then case when p_health_reason is null then 'Nothing to do.' else 'Connect the account again before it expires.' end
    when 'expired' then 'The access has expired: connect the account again.'
    when 'permission_lost' then 'A permission is missing: connect the account again and agree to everything that is asked.'
    when 'role_lost' then 'Your user has lost its role on the Page: have the role restored there, then check again.'
    when 'checkpoint' then 'Log in at facebook.com and pass the check that waits there, then check again.'
    when 'password_changed' then 'The password was changed: connect the account again.'
    when 'app_removed' then 'The app was removed from the account: connect the account again.'
    when 'unconfirmed' then 'Confirm your user at facebook.com, then check again.'
    when 'blocked' then 'The account is blocked: see its status at the provider and settle what is named there, then check again.'
    else 'The access is not valid: enter it again.' end
$function$;

create or replace function private.credential_state (
  p_reason text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case
    when c.code = 190 and c.subcode = 458 then 'app_removed'
    when c.code = 190 and c.subcode = 459 then 'checkpoint'
    when c.code = 190 and c.subcode = 460 then 'password_changed'
    when c.code = 190 and c.subcode = 463 then 'expired'
    when c.code = 190 and c.subcode = 464 then 'unconfirmed'
    when c.code = 190 and c.subcode = 492 then 'role_lost'
    when c.code = 190 and c.subcode is null and c.who = 'WhatsApp' then 'expired'
    when c.code = 102 then 'expired'
    when c.code in (3, 10, 131005) or c.code between 200 and 299 then 'permission_lost'
    when c.code in (368, 131031, 131042) then 'blocked'
    else 'invalid' end
  from (
    select m[1] as who, m[2]::integer as code, m[4]::integer as subcode
    from (select regexp_match(p_reason, '^(Meta|WhatsApp) ([0-9]{1,7})(/([0-9]{1,9}))?:') as m) r
  ) c
$function$;

create or replace function private.credentials_to_check (
  p_provider public.provider,
  p_kinds text[]
)
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select c.tenant_id from public.credentials c where c.provider = p_provider and c.kind = any (p_kinds) and c.health <> 'broken'
  union all
  select jobs.platform_id() from private.platform_credentials p where p.provider = p_provider and p.kind = any (p_kinds) and p.health <> 'broken'
$function$;

create or replace function private.date_consent()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  if new.whatsapp_opt_in_at > now() then
    new.whatsapp_opt_in_at := now();
  end if;
  return new;
end
$function$;

create or replace function private.decide_by_signals (
  p_tenant_id uuid,
  p_signal_ids uuid[],
  p_participant_ids uuid[],
  p_completion_id uuid default null::uuid,
  p_credential_source text default null::text
)
  returns integer
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_hashjoin to 'off'
  set enable_mergejoin to 'off'
  AS $function$
declare
  v_candidates private.candidate[];
  v_completion_ids uuid[];
  v_verdicts private.verdict[];
begin
  v_candidates := private.candidates_of_signals(p_tenant_id, p_signal_ids);
  v_completion_ids := array(
    select c.id from public.completions c
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status = 'pending') || p_completion_id;
  v_candidates := v_candidates || private.candidates_of_completions(array(select p_tenant_id from unnest(v_completion_ids)), v_completion_ids);
  if v_candidates is null then
    return 0;
  end if;
  select array_agg((f.tenant_id, f.completion_id, 'verified', f.via, null, f.evidence, f.proofs,
    case when f.via = 'api' then p_credential_source end, null, null)::private.verdict)
  into v_verdicts
  from private.proven(v_candidates) f;
  return private.decide_completions(v_verdicts, 'webhook');
end
$function$;

create or replace function private.decide_completions (
  p_verdicts private.verdict[],
  p_actor text,
  p_from text[] default '{pending}'::text[],
  p_item_ended boolean default false,
  p_actor_id uuid default null::uuid
)
  returns integer
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_judged private.judged[];
  v_used uuid[];
  v_count integer;
  v_tenant_ids uuid[];
  v_completion_ids uuid[];
  v_again record;
begin
  if coalesce(cardinality(p_verdicts), 0) = 0 then
    return 0;
  end if;
  -- Whoever decides holds the claim: a worker, a webhook and a reviewer at once are one after the other, and the first one counts.
  perform from (select distinct u.tenant_id, u.completion_id from unnest(p_verdicts) u order by u.tenant_id, u.completion_id) v
  cross join lateral (
    select from public.completions x
    where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0 for no key update
  ) c;

  select array_agg((j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
      case
        -- What nobody can prove is never decided by a proof.
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'manual_review'
        when j.look_again_at > now() then 'pending'
        else j.verdict end,
      j.method,
      case
        when j.proven_by = 'nobody' and j.method in ('api', 'webhook', 'link') then 'nothing can prove this kind of task'
        when j.look_again_at > now() then format('seen, and looked at again from %s', to_char(j.look_again_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
        when j.verdict = 'failed' and j.seen_at is not null and j.method in ('api', 'webhook')
          then 'it was there, and was gone at the second look' || coalesce(': ' || j.reason, '')
        else j.reason end,
      j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version, j.look_again_at, false)::private.judged)
  into v_judged
  from (
    select distinct on (v.tenant_id, v.completion_id)
      v.tenant_id, v.completion_id, c.task_id, t.campaign_id, c.participant_id, c.claimed_at, c.status::text as from_status, c.seen_at,
      v.verdict, v.method, left(v.reason, 500) as reason, v.evidence, v.credential_source, v.if_used, v.action_url,
      case when v.verdict = 'verified' and k.proven_by <> 'nobody' then v.proofs end as proofs,
      k.proven_by, k.rule_version,
      -- What can be undone is looked at twice where the campaign says so. A message or a visit cannot be undone.
      case when v.verdict = 'verified' and k.proven_by = 'worker' and v.method in ('api', 'webhook') and g.reward_after is not null
        then coalesce(c.seen_at, now()) + g.reward_after end as look_again_at
    from unnest(p_verdicts) v
    -- Fenced, like all look-ups of many keys here: one by one by the primary key, whatever the planner believes of a table that
    -- just grew (measured: 2,000 claims in milliseconds instead of minutes).
    cross join lateral (
      select x.* from public.completions x
      where x.tenant_id = v.tenant_id and x.id = v.completion_id and x.status::text = any (p_from) offset 0
    ) c
    cross join lateral (
      select x.campaign_id, x.kind::text as kind from public.social_tasks x where x.tenant_id = c.tenant_id and x.id = c.task_id offset 0
    ) t
    cross join lateral (
      select x.reward_after from public.campaigns x where x.tenant_id = c.tenant_id and x.id = t.campaign_id offset 0
    ) g
    join public.task_kinds k on k.kind = t.kind
    order by v.tenant_id, v.completion_id, v.verdict = 'verified' desc
  ) j;
  if v_judged is null then
    return 0;
  end if;

  -- One proof, one claim: the earliest of those that are decided here, and whoever was first of all others.
  if exists (select from unnest(v_judged) j where j.proofs is not null) then
    insert into private.proofs (tenant_id, task_id, proof, completion_id)
    select j.tenant_id, j.task_id, u.proof, j.completion_id
    from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
    order by j.tenant_id, j.task_id, u.proof, j.claimed_at, j.completion_id
    on conflict do nothing;
    v_used := array(
      select distinct j.completion_id
      from unnest(v_judged) j cross join lateral unnest(j.proofs) as u (proof)
      cross join lateral (
        select x.completion_id from private.proofs x
        where x.tenant_id = j.tenant_id and x.task_id = j.task_id and x.proof = u.proof offset 0
      ) o
      where o.completion_id <> j.completion_id);
    if cardinality(v_used) > 0 then
      delete from private.proofs o
      where o.ctid = any (array(
        select x.place
        from unnest(v_judged) j
        cross join lateral (
          select y.ctid as place from private.proofs y where y.tenant_id = j.tenant_id and y.completion_id = j.completion_id offset 0
        ) x
        where j.completion_id = any (v_used)));
      v_judged := array(
        select (j.tenant_id, j.completion_id, j.task_id, j.campaign_id, j.participant_id, j.claimed_at, j.from_status,
          case when u.is_used then j.if_used else j.verdict end, j.method,
          case when u.is_used then 'what proves this claim has proven another claim of this task' else j.reason end,
          j.evidence, j.proofs, j.credential_source, j.if_used, j.action_url, j.rule_version,
          case when not u.is_used then j.look_again_at end, u.is_used)::private.judged
        from unnest(v_judged) j
        cross join lateral (select j.completion_id = any (v_used) as is_used) u
        where not u.is_used or j.if_used is not null);
    end if;
  end if;

  with changed as (
    update public.completions c
    set status = j.verdict::public.completion_status,
      verified_at = case when j.verdict = 'verified' then now() end,
      reason = j.reason,
      -- The participant reads this row: with what chance a draw accepts is not told here, only in the record of the decision.
      evidence = case when j.method = 'statistical' then c.evidence else coalesce(j.evidence, c.evidence) end,
      -- Who leaves it to a person has not decided it.
      method = case when j.verdict in ('verified', 'failed') then j.method end,
      credential_source = coalesce(j.credential_source, c.credential_source),
      seen_at = case when j.verdict = 'pending' then coalesce(c.seen_at, now()) else c.seen_at end,
      settle_at = case j.verdict when 'needs_user_action' then greatest(c.deadline, now())
        when 'pending' then greatest(c.deadline, j.look_again_at) + interval '1 day' end,
      action_url = coalesce(j.action_url, c.action_url)
    from (
      select u.*, x.place
      from unnest(v_judged) u
      cross join lateral (
        select y.ctid as place from public.completions y where y.tenant_id = u.tenant_id and y.id = u.completion_id offset 0
      ) x
    ) j
    where c.ctid = j.place and c.status::text = any (p_from)
    returning c.tenant_id, c.id, c.task_id, c.participant_id, j.campaign_id, j.verdict, j.from_status, j.method, j.reason, j.evidence, j.rule_version
  ),
  noted as (
    insert into public.completion_decisions (
      tenant_id, completion_id, task_id, participant_id, from_status, to_status, method, rule_version, reason, evidence, actor, actor_id)
    select d.tenant_id, d.id, d.task_id, d.participant_id, d.from_status, d.verdict, d.method, d.rule_version, d.reason, d.evidence, p_actor, p_actor_id
    from changed d
  ),
  earned as (
    insert into public.spin_ledger (tenant_id, participant_id, campaign_id, completion_id, spins, reason)
    select d.tenant_id, d.participant_id, d.campaign_id, d.id, t.reward_spins, 'task verified'
    from changed d
    cross join lateral (
      select x.reward_spins from public.social_tasks x where x.tenant_id = d.tenant_id and x.id = d.task_id offset 0
    ) t
    where d.verdict = 'verified'
    on conflict on constraint a_completion_earns_once do nothing
    returning spin_ledger.tenant_id, spin_ledger.completion_id
  )
  select (select count(*) filter (where d.verdict <> 'pending') from changed d),
    array_agg(e.tenant_id order by e.tenant_id, e.completion_id), array_agg(e.completion_id order by e.tenant_id, e.completion_id)
  into v_count, v_tenant_ids, v_completion_ids
  from earned e;

  if v_tenant_ids is not null then
    perform private.congratulate(v_tenant_ids, v_completion_ids);
  end if;

  -- The item that saw it is over; the second look is a new one. Where a signal saw it, the item still waits, and is held until then.
  if p_item_ended then
    for v_again in
      select j.look_again_at as at, array_agg(j.tenant_id order by j.tenant_id) as tenant_ids, array_agg(j.completion_id order by j.tenant_id) as subject_ids
      from unnest(v_judged) j
      where j.verdict = 'pending'
      group by j.look_again_at
    loop
      perform jobs.enqueue_many('verify-social-tasks', v_again.tenant_ids, v_again.subject_ids, v_again.at);
    end loop;
  end if;
  return v_count;
end
$function$;

create or replace function private.draw (
  p_completion_id uuid
)
  returns double precision
  language sql
  immutable
  set search_path to ''
  AS $function$
  select ('x' || left(md5('draw ' || p_completion_id), 8))::bit(32)::bigint / 4294967296.0
$function$;

create or replace function private.end_queued (
  p_tenant_ids uuid[],
  p_participant_ids uuid[],
  p_channel text,
  p_category text,
  p_reason text
)
  returns integer
  language sql
  set search_path to ''
  AS $function$
  with ended as (
    update public.notification_outbox m
    set status = 'no_consent', reason = p_reason, held_until = null
    from unnest(p_tenant_ids, p_participant_ids) as u (tenant_id, participant_id)
    where m.tenant_id = u.tenant_id and m.participant_id = u.participant_id and m.status = 'queued' and m.channel = p_channel
      and (p_category = 'all' or m.category = p_category)
    returning 1
  )
  select count(*)::integer from ended
$function$;

create or replace function private.enqueue_messages()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_channel record;
begin
  for v_channel in
    select case when n.channel = 'email' then 'send-emails' else 'send-notifications' end as job,
      array_agg(n.tenant_id order by n.tenant_id, n.created_at, n.id) as tenant_ids, array_agg(n.id order by n.tenant_id, n.created_at, n.id) as ids
    from new_messages n
    where n.status = 'queued'
    group by 1
    order by 1
  loop
    perform jobs.enqueue_many(v_channel.job, v_channel.tenant_ids, v_channel.ids);
  end loop;
  return null;
end
$function$;

create or replace function private.erase_person (
  p_tenant_id uuid,
  p_subject text
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_event record;
  v_usernames text[] := '{}';
  v_erased jsonb := '{}';
  v_count integer;
begin
  -- What was told about the person and waits becomes rows first, so that no later run brings them back.
  for v_event in
    select e.id from private.webhook_events e
    where e.tenant_id = p_tenant_id and e.processed_at is null and strpos(e.body::text, p_subject) > 0
  loop
    perform private.process_webhook(p_tenant_id, v_event.id);
  end loop;
  update private.webhook_events e set body = null
  where e.tenant_id = p_tenant_id and e.body is not null and strpos(e.body::text, p_subject) > 0;
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('webhooks', v_count);

  if to_regclass('public.linked_accounts') is not null then
    -- By value, not by column: the id counts wherever the row has it.
    execute $sql$
      with gone as (
        delete from public.linked_accounts l
        where l.tenant_id = $1 and exists (select from jsonb_each_text(to_jsonb(l)) c where c.value = $2)
        returning to_jsonb(l) as row
      )
      select count(*), coalesce(array_agg(distinct lower(c.value)) filter (where c.value <> ''), '{}')
      from gone left join lateral jsonb_each_text(gone.row) c on c.key ~ 'username$'
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject;
    v_erased := v_erased || jsonb_build_object('linked_accounts', v_count);
  end if;
  if to_regclass('private.signals') is not null then
    execute $sql$
      with gone as (
        delete from private.signals s where s.tenant_id = $1 and s.author_id = $2
        returning lower(to_jsonb(s) ->> 'author_username') as username
      )
      select count(*), $3 || coalesce(array_agg(distinct g.username) filter (where g.username <> ''), '{}') from gone g
    $sql$ into v_count, v_usernames using p_tenant_id, p_subject, v_usernames;
    v_erased := v_erased || jsonb_build_object('signals', v_count);
  end if;
  if to_regclass('private.proofs') is not null then
    execute $sql$
      delete from private.proofs p
      where p.tenant_id = $1 and (p.proof = 'author:' || $2 or p.proof = any (array(select 'name:' || u from unnest($3) u)))
    $sql$ using p_tenant_id, p_subject, v_usernames;
  end if;
  if to_regclass('public.completion_decisions') is not null then
    -- Decisions are not changed: each is replaced by one that is the same without the person.
    execute $sql$
      with gone as (
        delete from public.completion_decisions d
        where d.tenant_id = $1 and (d.evidence ->> 'author_id' = $2 or lower(d.evidence ->> 'author_username') = any ($3))
        returning to_jsonb(d) as row
      )
      insert into public.completion_decisions
      select r.*
      from gone, jsonb_populate_record(null::public.completion_decisions,
        gone.row || jsonb_build_object('evidence', (gone.row -> 'evidence') - 'author_id' - 'author_username')) r
    $sql$ using p_tenant_id, p_subject, v_usernames;
    get diagnostics v_count = row_count;
    v_erased := v_erased || jsonb_build_object('decisions', v_count);
  end if;
  update public.completions c set evidence = c.evidence - 'author_id' - 'author_username'
  where c.tenant_id = p_tenant_id
    and (c.evidence ->> 'author_id' = p_subject or lower(c.evidence ->> 'author_username') = any (v_usernames));
  get diagnostics v_count = row_count;
  v_erased := v_erased || jsonb_build_object('evidence', v_count);
  update public.participants p
  set facebook_user_id = case when p.facebook_user_id is distinct from p_subject then p.facebook_user_id end,
    instagram_username = case when lower(p.instagram_username) = any (v_usernames) then null else p.instagram_username end
  where p.tenant_id = p_tenant_id and (p.facebook_user_id = p_subject or lower(p.instagram_username) = any (v_usernames));
  get diagnostics v_count = row_count;
  return v_erased || jsonb_build_object('participants', v_count);
end
$function$;

create or replace function private.forget_sender()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  delete from private.conversations c where c.tenant_id = old.id;
  delete from private.senders s where s.tenant_id = old.id;
  return null;
end
$function$;

create or replace function private.forget_webhooks()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  delete from private.webhook_events e where e.tenant_id = old.id;
  delete from private.webhook_removals r where r.tenant_id = old.id;
  return null;
end
$function$;

create or replace function private.gateway_url_fault (
  p_url text,
  p_api_key text
)
  returns text
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_parts text[];
  v_host text;
  v_port text;
begin
  if coalesce(p_url, '') = '' then
    return 'it is missing';
  end if;
  if octet_length(p_url) > 2000 then
    return 'it is longer than 2000 characters';
  end if;
  if p_url ~ '[^!-~]' or p_url ~ '[\\<>"^`|]' then
    return 'it has white space or characters that must be percent-encoded';
  end if;
  if p_url ~* '\{\{\s*api_key\s*\}\}' or (octet_length(p_api_key) >= 4 and position(p_api_key in p_url) > 0) then
    return 'it has the api_key in it; put {{api_key}} into a header or the body';
  end if;
  v_parts := regexp_match(p_url, '^(https?)://([^/?#]*)([/?][^#]*)?$');
  if v_parts is null then
    return 'it is not of the form https://host/path';
  end if;
  if v_parts[2] like '%@%' then
    return 'it has a user or a password in it';
  end if;
  v_host := split_part(v_parts[2], ':', 1);
  v_port := coalesce(nullif(split_part(v_parts[2], ':', 2), ''), case v_parts[1] when 'https' then '443' else '80' end);
  -- What the platform's admin has allowed, which is how a simulator is reached.
  if format('%s:%s', v_host, v_port) = any (regexp_split_to_array(private.setting('outbound_hosts'), '\s*,\s*'))
    and (v_parts[1] = 'https' or v_host in ('127.0.0.1', 'localhost')) then
    return null;
  end if;
  if v_parts[1] <> 'https' then
    return 'it is not https';
  end if;
  if v_parts[2] like '%:%' then
    return 'it names a port or an IPv6 address; a public host on port 443 is needed';
  end if;
  if v_host !~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$' or octet_length(v_host) > 253 then
    return 'its host is not a public name in lower case';
  end if;
  if v_host ~ '(^|\.)xn--' then
    return 'its host has letters beyond ASCII, which can look like others';
  end if;
  if v_host ~ '(^|\.)(localhost|local|internal|intranet|lan|home|corp|onion|test|invalid|arpa)$' then
    return 'its host is not public';
  end if;
  return null;
end
$function$;

create or replace function private.growth_platform (
  p_kind text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case p_kind when 'instagram_follow' then 'instagram' when 'facebook_page_like' then 'facebook' when 'x_follow' then 'x' end
$function$;

create or replace function private.has_tokens_to_refresh()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (select from private.tokens_to_refresh())
$function$;

create or replace function private.is_json (
  p_text text
)
  returns boolean
  language plpgsql
  immutable
  set search_path to ''
  AS $function$
begin
  perform p_text::jsonb;
  return true;
exception when others then
  return false;
end
$function$;

create or replace function private.is_start_word (
  p_text text
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select btrim(lower(p_text), E' .,!?¡¿"''') in ('start', 'unstop', 'subscribe', 'resume', 'anmelden', 'alta', 'iniciar', 'inizia', 'iscriviti',
    'début', 'abonner', 'aanmelden', 'начать', 'başla')
$function$;

create or replace function private.is_stop_word (
  p_text text
)
  returns boolean
  language sql
  immutable
  set search_path to ''
  AS $function$
  select w.word in ('stop', 'stopp', 'stop all', 'stopall', 'unsubscribe', 'cancel', 'end', 'quit', 'opt out', 'optout', 'no more messages',
    'abmelden', 'abbestellen', 'ende', 'aufhören', 'baja', 'alto', 'parar', 'pare', 'cancelar', 'detener', 'no más', 'sair', 'remover',
    'basta', 'annulla', 'disiscrivi', 'disiscrivimi', 'cancellami', 'fermare', 'arret', 'arrêt', 'arreter', 'arrêter', 'désabonner',
    'desabonner', 'désinscrire', 'stopper', 'afmelden', 'uitschrijven', 'opzeggen', 'avsluta', 'avregistrera', 'afmeld', 'avmeld', 'lopeta',
    'peruuta', 'wypisz', 'rezygnuję', 'koniec', 'odhlásit', 'leiratkozás', 'dezabonare', 'стоп', 'отписаться', 'отписка', 'зупинити',
    'dur', 'durdur', 'iptal', 'ret', 'توقف', 'إيقاف', 'ايقاف', 'إلغاء', 'الغاء', 'עצור', 'הסר', 'रोकें', 'बंद', 'berhenti', 'hentikan',
    '停止', '退订', '取消', '退訂', '配信停止', '중지', '수신거부', '해지')
  -- Alone, whatever the case and the punctuation: "Stop!" ends messages, "don't stop" does not.
  from (select btrim(lower(regexp_replace(p_text, '\s+', ' ', 'g')), E' .,!?¡¿"''«»„“”()[]*_-') as word) w
$function$;

create or replace function private.is_token_to_refresh (
  p_credential public.credentials
)
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select (p_credential).provider = 'meta' and (p_credential).health <> 'broken'
    and (p_credential).secret_at < now() - interval '24 hours'
    and coalesce((p_credential).expires_at > now(), true)
    and case (p_credential).kind
      -- Sixty days from when it was entered, unless the check knows better.
      when 'instagram_login' then (p_credential).secret_at < now() - interval '45 days' or coalesce((p_credential).expires_at < now() + interval '15 days', false)
      -- A Page's token has no end: only what has one is exchanged, and only an app that says who it is may do so.
      when 'facebook_login' then (p_credential).account ? 'app_id' and 'app_secret' = any ((p_credential).secret_keys)
        and coalesce((p_credential).expires_at < now() + interval '15 days', false)
      else false end
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
  perform private.welcome(p_tenant_id, v_id, p_campaign_id);
  return v_id;
end
$function$;

create or replace function private.json_list (
  p_value jsonb
)
  returns SETOF jsonb
  language sql
  immutable
  set search_path to ''
  AS $function$
  select e from jsonb_array_elements(case jsonb_typeof(p_value) when 'array' then p_value else '[]' end) e
$function$;

create or replace function private.json_text (
  p_value jsonb
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case when jsonb_typeof(p_value) in ('string', 'number') then nullif(p_value #>> '{}', '') end
$function$;

create or replace function private.keep_entry()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  raise exception 'The ledger of consent is append-only.' using errcode = '42501';
end
$function$;

create or replace function private.link_accounts (
  p_tenant_id uuid,
  p_new private.signals[]
)
  returns uuid[]
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_linked uuid[];
begin
  if not exists (
    select from unnest(p_new) n
    where n.codes <> '{}' and n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
  ) then
    return '{}';
  end if;

  with came as (
    select distinct on (u.code) u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null
    order by u.code, n.happened_at, n.id
  ),
  used as (
    update private.link_codes l
    set used_at = now()
    from (
      select came.*, x.place
      from came
      cross join lateral (
        select y.ctid as place from private.link_codes y where y.tenant_id = p_tenant_id and y.code = came.code offset 0
      ) x
    ) c
    where l.ctid = c.place and l.platform = c.surface and l.used_at is null and l.expires_at > now()
    returning l.participant_id, l.platform, c.author_id, c.author_username, c.happened_at
  ),
  linked as (
    -- The account of somebody else stays where it is.
    insert into public.linked_accounts as a (tenant_id, participant_id, platform, external_id, username, linked_by)
    select distinct on (x.platform, x.author_id) p_tenant_id, x.participant_id, x.platform, x.author_id, x.author_username, 'link code'
    from used x
    where not exists (
      select from public.linked_accounts o
      where o.tenant_id = p_tenant_id and o.platform = x.platform and o.external_id = x.author_id and o.participant_id <> x.participant_id)
    order by x.platform, x.author_id, x.happened_at
    on conflict on constraint one_account_per_participant_and_platform do update
      set external_id = excluded.external_id, username = coalesce(excluded.username, a.username), linked_by = excluded.linked_by, linked_at = now()
    returning a.participant_id
  )
  select coalesce(array_agg(participant_id), '{}') into v_linked from linked;

  with came as (
    select u.code, n.surface, n.author_id, n.author_username, n.happened_at
    from unnest(p_new) n cross join lateral unnest(n.codes) as u (code)
    where n.author_id is not null and n.surface in ('instagram', 'facebook', 'whatsapp')
  ),
  linked as (
    insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
    select distinct on (came.surface, came.author_id) p_tenant_id, c.participant_id, came.surface, came.author_id, came.author_username, 'claim code'
    from came
    cross join lateral (
      select x.participant_id from public.completions x
      where x.tenant_id = p_tenant_id and x.code = came.code and x.status::text in ('pending', 'needs_user_action') offset 0
    ) c
    order by came.surface, came.author_id, came.happened_at
    on conflict do nothing
    returning participant_id
  )
  select v_linked || coalesce(array_agg(participant_id), '{}') into v_linked from linked;
  return v_linked;
end
$function$;

create or replace function private.list_credentials (
  p_tenant_id uuid
)
  returns table (
    provider public.provider,
    kind text,
    account jsonb,
    fingerprint text,
    health public.credential_health,
    state text,
    reason text,
    advice text,
    expires_at timestamp with time zone,
    checked_at timestamp with time zone,
    scopes text[]
  )
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('list_credentials', (select auth.uid()));
  end if;
  return query
    select c.provider, c.kind, c.account, c.fingerprint, c.health, c.state, c.health_reason, private.credential_advice(c.state, c.health_reason),
      c.expires_at, c.checked_at, c.scopes
    from public.credentials c
    where c.tenant_id = p_tenant_id
    order by c.provider;
end
$function$;

create or replace function private.load_credential_checks (
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
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint), null::timestamptz,
    case when c.fingerprint is null then 'the credential is gone' end, c.fingerprint is null
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join jobs.items i on i.tenant_id = u.tenant_id and i.item_id = u.item_id
  left join jobs.definitions d on d.job = i.job
  left join lateral (
    select own.fingerprint from public.credentials own where own.tenant_id = u.tenant_id and own.provider = d.provider
    union all
    select p.fingerprint from private.platform_credentials p where u.tenant_id = jobs.platform_id() and p.provider = d.provider
  ) c on true
$function$;

create or replace function private.load_emails (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
  with message as (
    select u.item_id, m.*, h.opens_at, z.zone, z.notify_from, z.notify_until, g.ends_at,
      coalesce(m.first_tried_at, v_now) + interval '23 hours 30 minutes' as key_ends_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not g.notifications_enabled then 'notifications are switched off in this campaign'
        when g.status <> 'active' or g.ends_at <= v_now then 'the campaign has ended'
        when m.participant_id is not null and private.agrees(m.tenant_id, m.participant_id, 'email', 'all') is not true
          then 'the participant has withdrawn consent'
        when m.first_tried_at <= v_now - interval '23 hours 30 minutes' then 'it could not be sent within a day of its first try' end as over
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    -- Members are written to at any time, participants within the hours of the campaign.
    left join lateral (
      select coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
        coalesce(g.notify_until, t.campaign_notify_until) as notify_until
      where m.participant_id is not null
    ) z on true
    left join lateral (
      select private.window_opens_at(z.zone, z.notify_from, z.notify_until, v_now) as opens_at where z.zone is not null
    ) h on true
  ),
  decided as materialized (
    select m.*, case when m.over is null and m.zone is not null and m.opens_at is distinct from v_now
      then coalesce(m.opens_at, v_now + interval '1 day') end as hold_until
    from message m
  ),
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = case when d.hold_until is not null then 'quiet hours' else o.reason end,
      first_tried_at = case when d.hold_until is null then coalesce(o.first_tried_at, v_now) else o.first_tried_at end
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.over is null
      and (d.hold_until is null or o.held_until is distinct from d.hold_until)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'subject', d.subject, 'text', d.body, 'html', d.payload -> 'html',
      -- The platform's sender, where the tenant's own credential names none.
      'from', case when own.account is not null and own.account ->> 'from' is null then (
        select p.account ->> 'from' from private.platform_credentials p where p.provider = 'email') end,
      'idempotency_key', d.id,
      'send_before', least(d.key_ends_at, coalesce(d.ends_at, 'infinity'),
        case when d.zone is null then 'infinity' else private.window_closes_at(d.zone, d.notify_from, d.notify_until, v_now) end)),
    d.hold_until, coalesce(d.over, 'quiet hours'), d.over is not null
  from decided d
  left join public.credentials own on own.tenant_id = d.tenant_id and own.provider = 'email';
end
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
  set jit to 'off'
  AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_unofficial boolean := coalesce(private.setting('unofficial_gateways'), 'on') <> 'off';
  -- A setting that is no number must not stop all messages.
  v_per_second integer := greatest(1, coalesce(substring(private.setting('whatsapp_messages_per_second') from '^[0-9]{1,6}$')::integer, 80));
begin
  return query
  with message as (
    select u.item_id, m.*, g.status as campaign_status, g.ends_at, g.notifications_enabled, p.whatsapp_opt_in_at,
      coalesce(g.time_zone, t.time_zone) as zone, coalesce(g.notify_from, t.campaign_notify_from) as notify_from,
      coalesce(g.notify_until, t.campaign_notify_until) as notify_until,
      k.kind as gateway, case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end as sender_id,
      private.wa_key(m.recipient) as wa_key, w.pause_reason,
      coalesce(own.stop_reason, via.stop_reason) as stop_reason, coalesce(via.free_at, '-infinity') as free_at,
      least(case when k.tenant_id is not null then s.messages_per_second end, v_per_second) as per_second
    from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
    left join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.subject_id
    left join public.tenants t on t.id = m.tenant_id
    left join public.campaigns g on g.tenant_id = m.tenant_id and g.id = m.campaign_id
    left join public.participants p on p.tenant_id = m.tenant_id and p.id = m.participant_id
    left join public.credentials k on k.tenant_id = m.tenant_id and k.provider = 'whatsapp'
    left join public.message_settings s on s.tenant_id = m.tenant_id
    left join public.message_templates w on w.tenant_id = m.tenant_id and w.id = m.template_id
    left join private.senders own on own.tenant_id = m.tenant_id
    left join private.senders via on via.tenant_id = case when k.tenant_id is null then jobs.platform_id() else m.tenant_id end
  ),
  -- Reasons to end it come first, then reasons to wait.
  judged as (
    select m.*, c.inbound_at, coalesce(c.next_at, '-infinity') as next_at, h.opens_at,
      case
        when m.id is null then 'the message is gone'
        when m.status <> 'queued' then format('the message is %s', m.status)
        when not m.notifications_enabled then 'notifications are switched off in this campaign'
        when m.campaign_status <> 'active' or m.ends_at <= v_now then 'the campaign has ended'
        when m.participant_id is not null and m.whatsapp_opt_in_at is null then 'the participant has withdrawn consent'
        when m.participant_id is not null and m.category = 'marketing' and private.agrees(m.tenant_id, m.participant_id, 'whatsapp', 'marketing') is false
          then 'the participant has withdrawn consent' end as over,
      case
        -- A window that never opens is looked at once a day: it may be changed.
        when h.opens_at is distinct from v_now then 'quiet hours'
        when m.stop_reason is not null then left('sending is stopped: ' || m.stop_reason, 200)
        when not v_unofficial and m.gateway in ('waapi', 'gateway') then 'unofficial gateways are switched off on this platform'
        when m.pause_reason is not null and m.gateway is distinct from 'waapi' and m.gateway is distinct from 'gateway'
          and c.inbound_at <= v_now - interval '24 hours' then left('the template is paused: ' || m.pause_reason, 200) end as wait_for
    from message m
    left join private.conversations c on c.tenant_id = m.sender_id and c.recipient = m.wa_key
    left join lateral (
      select private.window_opens_at(m.zone, m.notify_from, m.notify_until, v_now) as opens_at where m.zone is not null
    ) h on true
  ),
  -- One number and one person: a message every 6 seconds. The oldest goes first.
  paired as (
    select j.*, j.over is null and j.wait_for is null as may_go,
      greatest(j.next_at, v_now) + interval '6 seconds'
        * (count(*) filter (where j.over is null and j.wait_for is null) over (
          partition by j.sender_id, j.wa_key order by j.created_at, j.item_id rows unbounded preceding) - 1) as pair_at
    from judged j
  ),
  -- One number: so many a second, a quarter of them at once.
  timed as (
    select p.*, p.may_go and p.pair_at <= v_now as is_turn,
      greatest(p.free_at, v_now) + make_interval(secs => (count(*) filter (where p.may_go and p.pair_at <= v_now) over (
          partition by p.sender_id order by p.created_at, p.item_id rows unbounded preceding) - greatest(1, p.per_second / 4))
        / greatest(1, p.per_second - p.per_second / 4)::double precision) as rate_at
    from paired p
  ),
  decided as materialized (
    select d.*, d.is_turn and d.rate_at <= v_now as goes,
      case
        when d.over is not null or (d.is_turn and d.rate_at <= v_now) then null
        when d.wait_for = 'quiet hours' then coalesce(d.opens_at, v_now + interval '1 day')
        when d.wait_for is not null then v_now + interval '15 minutes'
        when not d.is_turn then d.pair_at
        else d.rate_at end as hold_until,
      case
        when d.wait_for is not null then d.wait_for
        when not d.is_turn then 'one message in 6 seconds to the same person'
        else 'the number''s messages per second' end as hold_reason
    from timed d
  ),
  -- What members see of a held message: until when, and why.
  noted as (
    update public.notification_outbox o
    set held_until = d.hold_until, reason = d.hold_reason
    from decided d
    where o.tenant_id = d.tenant_id and o.id = d.id and d.hold_until is not null and o.held_until is distinct from d.hold_until
  ),
  reserved as (
    insert into private.conversations as c (tenant_id, recipient, next_at)
    select d.sender_id, d.wa_key, v_now + interval '6 seconds'
    from decided d
    where d.goes and d.wa_key is not null
    group by d.sender_id, d.wa_key
    order by d.sender_id, d.wa_key
    on conflict (tenant_id, recipient) do update set next_at = greatest(c.next_at, excluded.next_at), touched_at = now()
  ),
  counted as (
    insert into private.senders as s (tenant_id, free_at)
    select d.sender_id, v_now + make_interval(secs => count(*) / greatest(1, min(d.per_second) - min(d.per_second) / 4)::double precision)
    from decided d
    where d.goes
    group by d.sender_id
    order by d.sender_id
    on conflict (tenant_id) do update set free_at = greatest(s.free_at, v_now) + (excluded.free_at - v_now)
  )
  select d.item_id,
    jsonb_build_object('outbox_id', d.id, 'to', d.recipient, 'text', d.body, 'callback', d.tenant_id || '/' || d.id, 'category', d.category,
      'window', case when d.inbound_at is null then 'not_known' when d.inbound_at > v_now - interval '24 hours' then 'open' else 'closed' end,
      'window_open_until', case when d.inbound_at > v_now - interval '24 hours' then d.inbound_at + interval '24 hours' end,
      'template', case when d.pause_reason is null then d.payload -> 'template' end,
      'send_before', nullif(least(
        private.window_closes_at(d.zone, d.notify_from, d.notify_until, v_now), coalesce(d.ends_at, 'infinity')), 'infinity')),
    d.hold_until, coalesce(d.over, d.hold_reason), d.over is not null
  from decided d;
end
$function$;

create or replace function private.load_token_refreshes (
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
  select u.item_id, jsonb_build_object('fingerprint', c.fingerprint), null::timestamptz,
    case when c.id is null then 'the credential is gone' when not private.is_token_to_refresh(c) then 'the token need not be renewed' end,
    c.id is null or not private.is_token_to_refresh(c)
  from unnest(p_tenant_ids, p_item_ids) as u (tenant_id, item_id)
  left join public.credentials c on c.tenant_id = u.tenant_id and c.provider = 'meta'
$function$;

create or replace function private.load_verifications (
  p_tenant_ids uuid[],
  p_item_ids bigint[],
  p_subject_ids uuid[],
  p_payloads jsonb[]
)
  returns SETOF jobs.loaded
  language plpgsql
  stable
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
begin
  return query
  -- What is stored already proves a claim without a call.
  with known as materialized (
    select k.tenant_id, k.completion_id, k.evidence from private.proven(private.candidates_of_completions(p_tenant_ids, p_subject_ids)) k
  )
  select u.item_id,
    jsonb_build_object(
      'completion_id', c.id, 'kind', t.kind, 'post_id', t.post_id, 'code', c.code,
      'author', jsonb_build_object('instagram_id', a.instagram_id, 'instagram_username', a.instagram_username, 'facebook_id', a.facebook_id),
      'instagram_username', a.instagram_username, 'facebook_user_id', a.facebook_id,
      'since', t.created_at, 'deadline', c.deadline,
      -- A mention by somebody else stays in the list. It is read again when it is twice as old, then every hour: thirty times a day
      -- instead of 288. A new mention does not wait for that.
      'recheck_seconds', greatest(1, extract(epoch from t.recheck_every)::integer,
        case when mention.list is not null then least(mention.age_seconds, 3600, extract(epoch from c.deadline - now())::integer) end),
      'known', known.evidence,
      'stop_at', mark.stop_at,
      'mentions', coalesce(mention.list, '[]')),
    case
      when c.status is distinct from 'pending' then null
      -- Seen once: the second look is not before its time.
      when c.seen_at + g.reward_after > now() then c.seen_at + g.reward_after
      -- Nothing can be found out about a mention before Instagram tells of one: that wakes it.
      when t.kind::text = 'instagram_mention' and mention.list is null and known.evidence is null and c.deadline > now() then c.deadline
      when not t.platform_credential_allowed
        and not exists (select from public.credentials x where x.tenant_id = c.tenant_id and x.provider = 'meta') then now() + interval '1 hour' end,
    case when c.id is null then 'the completion is gone' when c.status <> 'pending' then format('the completion is %s', c.status)
      when c.seen_at + g.reward_after > now() then 'seen once, waiting for the second look'
      when t.kind::text = 'instagram_mention' then 'waiting for a mention'
      when not t.platform_credential_allowed then 'waiting for a credential of the tenant''s own' end,
    c.status is distinct from 'pending'
  from unnest(p_tenant_ids, p_item_ids, p_subject_ids) as u (tenant_id, item_id, subject_id)
  left join public.completions c on c.tenant_id = u.tenant_id and c.id = u.subject_id
  left join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  left join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
  left join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
  left join public.linked_accounts i on i.tenant_id = p.tenant_id and i.participant_id = p.id and i.platform = 'instagram'
  left join public.linked_accounts f on f.tenant_id = p.tenant_id and f.participant_id = p.id and f.platform = 'facebook'
  cross join lateral (
    -- A name that was only typed counts where the campaign says so.
    select i.external_id as instagram_id,
      coalesce(i.username, case when g.username_match then p.instagram_username end) as instagram_username,
      coalesce(f.external_id, case when g.username_match then p.facebook_user_id end) as facebook_id
  ) a
  left join known on known.tenant_id = c.tenant_id and known.completion_id = c.id
  left join lateral (
    -- Only for a post that was read as far back as this task goes.
    select jsonb_build_object('id', r.newest_id, 'at', r.newest_at) as stop_at
    from private.post_readings r
    where r.tenant_id = t.tenant_id and r.post_id = t.post_id and t.kind::text = r.surface || '_comment' and r.read_since <= t.created_at
      and c.seen_at is null
  ) mark on true
  left join lateral (
    select jsonb_agg(jsonb_build_object('media_id', m.details ->> 'media_id', 'comment_id', m.details ->> 'comment_id', 'signal_id', m.id)
      order by m.happened_at desc) as list,
      extract(epoch from now() - greatest(max(m.received_at), c.claimed_at))::integer as age_seconds
    from (
      select s.id, s.details, s.happened_at, s.received_at
      from private.signals s
      where s.tenant_id = t.tenant_id and s.kind = 'mention' and s.happened_at >= date_trunc('second', t.created_at)
        and s.details ->> 'media_id' is not null
        -- One that has proven another claim of this task proves no second.
        and not exists (
          select from private.proofs o
          where o.tenant_id = t.tenant_id and o.task_id = t.id and o.completion_id <> c.id
            and o.proof = coalesce('comment:' || regexp_replace(s.details ->> 'comment_id', '^.*_', ''), 'media:' || (s.details ->> 'media_id')))
      order by s.happened_at desc
      limit 20
    ) m
    where t.kind::text = 'instagram_mention' and c.status = 'pending'
  ) mention on true;
end
$function$;

create or replace function private.look_again_at_held()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_held uuid[] := array(
    select m.id from public.notification_outbox m
    where m.tenant_id = new.tenant_id and m.campaign_id = new.id and m.status = 'queued' and m.held_until is not null);
begin
  if cardinality(v_held) > 0 then
    perform jobs.hurry('send-notifications', new.tenant_id, v_held);
    perform jobs.hurry('send-emails', new.tenant_id, v_held);
  end if;
  return null;
end
$function$;

create or replace function private.message_text (
  p_tenant_id uuid,
  p_kind public.message_kind,
  p_channel text,
  p_languages text[]
)
  returns table (
    template_id uuid,
    language text,
    category text,
    subject text,
    body text,
    whatsapp_template jsonb,
    parameters text[]
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select found.template_id, found.language, found.category, found.subject, found.body, found.whatsapp_template, found.parameters
  from unnest(p_languages || array['en']) with ordinality as wish (language, n)
  cross join lateral (values (wish.language, 1), (split_part(wish.language, '-', 1), 2)) as tag (language, n)
  cross join lateral (
    select t.id as template_id, t.language, t.category, t.subject, t.body, 1 as n,
      case when t.whatsapp_template_name is not null then jsonb_build_object('name', t.whatsapp_template_name,
        'language', coalesce(t.whatsapp_template_language, replace(t.language, '-', '_')), 'named', t.whatsapp_parameters_are_named) end as whatsapp_template,
      t.whatsapp_parameters as parameters
    from public.message_templates t
    where t.tenant_id = p_tenant_id and t.kind = p_kind and t.channel = p_channel and t.language = tag.language
    union all
    select null, b.language, 'utility', b.subject, b.body, 2, null, '{}'
    from private.built_in_messages b
    where b.kind = p_kind and b.channel = p_channel and b.language = tag.language
  ) found
  where wish.language is not null
  order by wish.n, tag.n, found.n
  limit 1
$function$;

create or replace function private.message_variables (
  p_kind text
)
  returns text[]
  language sql
  immutable
  set search_path to ''
  AS $function$
  select array['name', 'business', 'link'] || case p_kind
    when 'congratulation' then array['campaign', 'task', 'spins', 'reward']
    when 'reminder' then array['campaign', 'task', 'deadline', 'code']
    when 'welcome' then array['campaign']
    when 'review_result' then array['campaign', 'task', 'reason']
    when 'alert' then array['message'] end
$function$;

create or replace function private.meta_credentials_to_check()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.credentials_to_check('meta', array['facebook_login', 'instagram_login'])
$function$;

create or replace function private.new_code()
  returns text
  language sql
  set search_path to ''
  AS $function$
  -- Eight letters and digits from 32 random bits: enough to tell the claims of one post apart.
  select 'OC-' || upper(left(gen_random_uuid()::text, 8))
$function$;

create or replace function private.note_consent()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  -- What the functions below know of the change that they make.
  v_given jsonb := coalesce(nullif(current_setting('onecron.consent', true), '')::jsonb, '{}');
  v_origin record;
begin
  select o.* into v_origin from private.request_origin() o;
  if tg_op = 'INSERT' then
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source, ip, user_agent)
    select n.tenant_id, n.id, 'whatsapp', true, coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')),
      coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')), t.name,
      coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'join' end), v_origin.ip, v_origin.user_agent
    from new_people n join public.tenants t on t.id = n.tenant_id
    where n.whatsapp_opt_in_at is not null;
    return null;
  end if;
  insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source, ip, user_agent)
  select n.tenant_id, n.id, 'whatsapp', n.whatsapp_opt_in_at is not null,
    case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'wording', private.opt_in_wording(n.tenant_id, 'whatsapp')) end,
    case when n.whatsapp_opt_in_at is not null then coalesce(v_given ->> 'version', private.setting('opt_in_wording_version')) end,
    t.name, coalesce(v_given ->> 'source', case when (select auth.uid()) is null then 'platform' else 'participant' end),
    v_origin.ip, v_origin.user_agent
  from new_people n
  join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
  join public.tenants t on t.id = n.tenant_id
  where n.whatsapp_opt_in_at is distinct from o.whatsapp_opt_in_at;
  perform private.end_queued(array_agg(n.tenant_id), array_agg(n.id), 'whatsapp', 'all', 'the participant has withdrawn consent')
  from new_people n
  join old_people o on o.tenant_id = n.tenant_id and o.id = n.id
  where n.whatsapp_opt_in_at is null and o.whatsapp_opt_in_at is not null
  having count(*) > 0;
  return null;
end
$function$;

create or replace function private.opt_in (
  p_tenant_id uuid,
  p_channel text,
  p_wording text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_person record;
  v_wording text;
  v_version text;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, p.phone, p.whatsapp_opt_in_at, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status <> 'closed';
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_wording is not null and (char_length(p_wording) > 2000 or strpos(lower(p_wording), lower(v_person.business)) = 0) then
    raise exception 'The wording must name the business, "%", and have at most 2000 characters.', v_person.business using errcode = '22023';
  end if;
  v_wording := coalesce(p_wording, private.opt_in_wording(p_tenant_id, p_channel));
  -- Words of one's own are known by what they say.
  v_version := case when p_wording is null then private.setting('opt_in_wording_version') else left(encode(sha256(convert_to(p_wording, 'UTF8')), 'hex'), 12) end;
  if p_channel = 'whatsapp' then
    if v_person.phone is null then
      raise exception 'Give a phone number first.' using errcode = '23514';
    end if;
    perform set_config('onecron.consent', jsonb_build_object('source', 'opt_in', 'wording', v_wording, 'version', v_version)::text, true);
    update public.participants p set whatsapp_opt_in_at = now() where p.tenant_id = p_tenant_id and p.id = v_person.id;
    perform set_config('onecron.consent', '', true);
  else
    select o.* into v_origin from private.request_origin() o;
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, wording, wording_version, business_name, source, ip, user_agent)
    values (p_tenant_id, v_person.id, p_channel, true, v_wording, v_version, v_person.business, 'opt_in', v_origin.ip, v_origin.user_agent);
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', true, 'wording', v_wording, 'version', v_version);
end
$function$;

create or replace function private.opt_in_wording (
  p_tenant_id uuid,
  p_channel text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.render_message(private.setting('opt_in_wording'), jsonb_build_object('business', t.name,
    'channel', case p_channel when 'email' then 'e-mail' else 'WhatsApp' end))
  from public.tenants t where t.id = p_tenant_id
$function$;

create or replace function private.opt_out (
  p_tenant_id uuid,
  p_channel text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_person record;
  v_origin record;
begin
  perform private.limit_calls('opt_in', (select auth.uid()));
  select p.id, t.name as business into v_person
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid());
  if v_person.id is null then
    raise exception 'You are no participant of this business.' using errcode = 'PT404';
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  if p_channel = 'whatsapp' then
    perform set_config('onecron.consent', '{"source": "opt_out"}', true);
    update public.participants p set whatsapp_opt_in_at = null
    where p.tenant_id = p_tenant_id and p.id = v_person.id and p.whatsapp_opt_in_at is not null;
    perform set_config('onecron.consent', '', true);
  else
    if private.agrees(p_tenant_id, v_person.id, p_channel, 'all') then
      select o.* into v_origin from private.request_origin() o;
      insert into public.opt_ins (tenant_id, participant_id, channel, granted, business_name, source, ip, user_agent)
      values (p_tenant_id, v_person.id, p_channel, false, v_person.business, 'opt_out', v_origin.ip, v_origin.user_agent);
    end if;
    perform private.end_queued(array[p_tenant_id], array[v_person.id], p_channel, 'all', 'the participant has withdrawn consent');
  end if;
  return jsonb_build_object('channel', p_channel, 'agreed', false);
end
$function$;

create or replace function private.preview_message (
  p_tenant_id uuid,
  p_kind public.message_kind,
  p_channel text,
  p_language text
)
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path to ''
  AS $function$
declare
  v_tenant public.tenants;
  v_text record;
  v_sample jsonb;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'viewer');
  end if;
  if p_channel is null or p_channel not in ('whatsapp', 'email') then
    raise exception 'A channel is whatsapp or email.' using errcode = '22023';
  end if;
  select t.* into v_tenant from public.tenants t where t.id = p_tenant_id;
  if v_tenant.id is null then
    raise exception 'There is no such tenant.' using errcode = 'PT404';
  end if;
  select m.* into v_text from private.message_text(p_tenant_id, p_kind, p_channel, array[p_language, v_tenant.locale]) m;
  v_sample := jsonb_build_object('name', 'Ana', 'business', v_tenant.name, 'campaign', 'Summer campaign', 'task', 'Comment on our post',
    'spins', 3, 'reward', private.reward_text(v_text.language, 3), 'deadline', '2030-06-01 18:00', 'code', 'OC-1A2B3C4D',
    'reason', 'the comment was not found', 'message', 'An alert.',
    'link', rtrim(private.setting('app_url'), '/') || '/campaigns/00000000-0000-0000-0000-000000000000');
  return jsonb_build_object('language', v_text.language, 'built_in', v_text.template_id is null, 'category', v_text.category,
    'subject', private.render_message(v_text.subject, v_sample), 'text', private.render_message(v_text.body, v_sample));
end
$function$;

create or replace function private.process_deletion (
  p_tenant_id uuid,
  p_deletion_id uuid
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_subject text;
  v_erased jsonb;
begin
  select d.subject into v_subject from public.data_deletions d
  where d.tenant_id = p_tenant_id and d.id = p_deletion_id and d.status = 'pending' for update;
  if not found then
    return null;
  end if;
  v_erased := private.erase_person(p_tenant_id, v_subject);
  update public.data_deletions d set status = 'completed', completed_at = clock_timestamp(), subject = null, erased = v_erased
  where d.tenant_id = p_tenant_id and d.id = p_deletion_id;
  perform private.audit(p_tenant_id, 'data_deletion.completed', v_erased || jsonb_build_object('deletion_id', p_deletion_id));
  return v_erased;
end
$function$;

create or replace function private.process_meta (
  p_event private.webhook_events,
  p_account jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_counts jsonb;
  v_signals jsonb;
  v_removals jsonb;
begin
  with part as materialized (
    select s.*, row_number() over () as position,
      -- What was removed last, by what this very body says: its order says nothing.
      max(s.happened_at) filter (where s.is_a = 'removal') over (partition by s.surface, s.kind, s.external_id) as removed_at
    from private.split_meta(p_event.body, p_account, p_event.received_at) s
  ),
  judged as (
    select p.*, case when p.is_a = 'signal' and (p.removed_at >= p.happened_at or exists (
        select from private.webhook_removals w
        where w.tenant_id = p_event.tenant_id and w.surface = p.surface and w.kind = p.kind and w.external_id = p.external_id and w.removed_at >= p.happened_at))
      then 'removed' end as too_late
    from part p
  )
  select
    jsonb_build_object('updates', count(*), 'ignored', private.count_ignored(array_agg(coalesce(j.reason, j.too_late)))),
    coalesce(jsonb_agg(j.signal order by j.position) filter (where j.is_a = 'signal' and j.too_late is null), '[]'),
    coalesce(jsonb_agg(jsonb_build_object('surface', j.surface, 'kind', j.kind, 'external_id', j.external_id, 'removed_at', j.happened_at))
      filter (where j.is_a = 'removal'), '[]')
  into v_counts, v_signals, v_removals
  from judged j;
  -- The platform's own app speaks for accounts of many tenants, and nothing proves which tenant an account belongs to.
  if p_event.tenant_id = jobs.platform_id() then
    return v_counts || jsonb_build_object('not_routed', jsonb_array_length(v_signals) + jsonb_array_length(v_removals));
  end if;
  if v_removals <> '[]' then
    v_counts := v_counts || jsonb_build_object('removed', private.remove_signals(p_event.tenant_id, v_removals));
  end if;
  if v_signals <> '[]' then
    v_counts := v_counts || jsonb_build_object('signals', private.record_signals(p_event.tenant_id, v_signals));
  end if;
  return v_counts;
end
$function$;

create or replace function private.process_webhook (
  p_tenant_id uuid,
  p_event_id uuid
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_event private.webhook_events;
  v_account jsonb;
  v_counts jsonb;
begin
  select e.* into v_event from private.webhook_events e where e.tenant_id = p_tenant_id and e.id = p_event_id for update;
  if not found or v_event.processed_at is not null then
    return null;
  end if;
  select c.account into v_account
  from (
    select c.account from public.credentials c where c.tenant_id = p_tenant_id and c.provider::text = v_event.source
    union all
    select p.account from private.platform_credentials p where p_tenant_id = jobs.platform_id() and p.provider::text = v_event.source
  ) c;
  v_counts := case v_event.source
    when 'meta' then private.process_meta(v_event, coalesce(v_account, '{}'))
    else private.process_whatsapp(v_event, coalesce(v_account, '{}')) end;
  update private.webhook_events e set processed_at = clock_timestamp(), counts = v_counts
  where e.tenant_id = p_tenant_id and e.id = p_event_id;
  return v_counts;
end
$function$;

create or replace function private.process_webhooks (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select case when p_tenant_id = jobs.platform_id() and p_payload ? 'deletion_of'
    then private.process_deletion((p_payload ->> 'deletion_of')::uuid, p_subject_id)
    else private.process_webhook(p_tenant_id, p_subject_id) end
$function$;

create or replace function private.process_whatsapp (
  p_event private.webhook_events,
  p_account jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  -- Null is the platform's own number.
  v_tenant_id uuid := nullif(p_event.tenant_id, jobs.platform_id());
  v_counts jsonb;
  v_messages jsonb;
  v_statuses jsonb;
  v_preferences jsonb;
  v_errors jsonb;
begin
  select
    jsonb_build_object('updates', count(*), 'ignored', private.count_ignored(array_agg(p.reason))),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'message'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'status'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'preference'), '[]'),
    coalesce(jsonb_agg(p.part order by p.position) filter (where p.is_a = 'error' and p.position <= 20), '[]')
  into v_counts, v_messages, v_statuses, v_preferences, v_errors
  from (
    select s.*, row_number() over (partition by s.is_a) as position
    from private.split_whatsapp(p_event.body, p_account, p_event.received_at) s
  ) p;
  if v_messages <> '[]' then
    -- The opt-out before anything else: what the person joins or proves afterwards is another matter.
    v_counts := v_counts || jsonb_build_object('inbound', private.record_whatsapp_inbound(v_tenant_id,
      (select jsonb_agg(m - 'number_id') from jsonb_array_elements(v_messages) m)));
    if v_tenant_id is not null then
      v_counts := v_counts || jsonb_build_object('signals', private.record_signals(v_tenant_id, private.whatsapp_signals(v_messages)));
    else
      v_counts := v_counts || coalesce((
        select jsonb_build_object('decided', sum((private.record_signals(n.tenant_id, private.whatsapp_signals(n.messages)) ->> 'decided')::integer))
        from private.claims_by_messages(v_messages) n
        having count(*) > 0), '{}');
    end if;
  end if;
  if v_statuses <> '[]' then
    v_counts := v_counts || jsonb_build_object('statuses', private.record_message_statuses(v_tenant_id, v_statuses));
  end if;
  if v_preferences <> '[]' then
    v_counts := v_counts || jsonb_build_object('preferences', private.record_preferences(v_tenant_id, v_preferences));
  end if;
  if v_errors <> '[]' then
    update private.webhook_events e set errors = v_errors where e.tenant_id = p_event.tenant_id and e.id = p_event.id;
  end if;
  return v_counts;
end
$function$;

create or replace function private.proven (
  p_candidates private.candidate[]
)
  returns table (
    tenant_id uuid,
    completion_id uuid,
    via text,
    evidence jsonb,
    proofs text[]
  )
  language plpgsql
  stable
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
#variable_conflict use_column
begin
  return query
  select distinct on (f.tenant_id, f.completion_id) f.tenant_id, f.completion_id, f.via,
    jsonb_strip_nulls(jsonb_build_object(
      'comment_id', case when f.kind = 'comment' then f.external_id end,
      'message_id', case when f.kind in ('message', 'story_mention') then f.external_id end,
      'reaction', case when f.kind = 'reaction' then f.external_id end,
      'author_id', f.author_id, 'author_username', f.author_username, 'signal_id', f.signal_id,
      'at', to_char(f.happened_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))),
    f.proofs
  from (
    select p.tenant_id, p.completion_id, p.signal_id, p.basis, t.id as task_id, s.kind, s.external_id, s.author_id, s.author_username,
      s.happened_at, s.via,
      array_remove(array[
        case s.kind when 'comment' then 'comment:' || regexp_replace(s.external_id, '^.*_', '') when 'message' then 'message:' || s.external_id
          when 'story_mention' then 'message:' || s.external_id end,
        coalesce('author:' || s.author_id, 'name:' || s.author_username)], null) as proofs
    from unnest(p_candidates) p
    cross join lateral (
      select x.* from private.signals x where x.tenant_id = p.tenant_id and x.id = p.signal_id offset 0
    ) s
    cross join lateral (
      select x.task_id from public.completions x where x.tenant_id = p.tenant_id and x.id = p.completion_id offset 0
    ) c
    cross join lateral (
      select x.id, x.campaign_id, x.kind::text as kind, x.post_id, x.keyword, x.created_at from public.social_tasks x
      where x.tenant_id = p.tenant_id and x.id = c.task_id offset 0
    ) t
    cross join lateral (
      select x.username_match from public.campaigns x where x.tenant_id = p.tenant_id and x.id = t.campaign_id offset 0
    ) g
    -- Platforms' times are whole seconds.
    where s.happened_at >= date_trunc('second', t.created_at)
      and (p.basis < 3 or g.username_match)
      and case s.kind
        when 'comment' then t.kind = s.surface || '_comment' and t.post_id = s.target_id
        when 'reaction' then t.kind = 'facebook_reaction' and t.post_id = s.target_id and p.basis = 2
        when 'story_mention' then t.kind = 'instagram_story_mention' and p.basis = 2
        when 'message' then case s.surface
          when 'instagram' then t.kind = 'instagram_dm_keyword' and (p.basis = 1 or (p.basis = 2
            and ' ' || regexp_replace(lower(s.message), '[^[:alnum:]]+', ' ', 'g') || ' '
              like '% ' || btrim(regexp_replace(t.keyword, '[^[:alnum:]]+', ' ', 'g')) || ' %'))
          when 'whatsapp' then t.kind = 'whatsapp_join' and p.basis = 1
          else false end
        when 'visit' then t.kind = 'link_visit' and p.basis = 1
        when 'sign_up' then t.kind = 'link_sign_up' and p.basis = 1
        else false end
    offset 0
  ) f
  where not exists (
    select from unnest(f.proofs) as q (proof)
    cross join lateral (
      select from private.proofs o
      where o.tenant_id = f.tenant_id and o.task_id = f.task_id and o.proof = q.proof and o.completion_id <> f.completion_id offset 0
    ) used)
  order by f.tenant_id, f.completion_id, f.basis, f.happened_at, f.signal_id;
end
$function$;

create or replace function private.purge_signals (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_signals integer;
  v_codes integer;
begin
  with gone as (
    delete from private.signals s
    where s.ctid = any (array(
      select o.ctid from private.signals o where o.received_at < now() - interval '30 days' order by o.received_at limit 100000))
    returning s.tenant_id, s.surface, s.target_id, s.kind
  ),
  -- What was forgotten has to be read again, should somebody claim it.
  unread as (
    delete from private.post_readings r
    using (select distinct g.tenant_id, g.surface, g.target_id from gone g where g.kind = 'comment') p
    where r.tenant_id = p.tenant_id and r.surface = p.surface and r.post_id = p.target_id
  )
  select count(*) into v_signals from gone;
  delete from private.link_codes l where l.expires_at < now() - interval '1 day';
  get diagnostics v_codes = row_count;
  return jsonb_build_object('signals', v_signals, 'link_codes', v_codes);
end
$function$;

create or replace function private.purge_webhooks (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  AS $function$
declare
  -- 30 days is the most that may be set: a longer word in the setting does not keep bodies longer.
  v_days integer := least(30, greatest(1, case when private.setting('webhook_days') ~ '^[0-9]{1,3}$' then private.setting('webhook_days')::integer else 30 end));
  v_before timestamptz := now() - make_interval(days => v_days);
  v_events integer;
begin
  delete from private.webhook_events e where e.received_at < v_before;
  get diagnostics v_events = row_count;
  delete from private.webhook_removals r where r.removed_at < v_before;
  return jsonb_build_object('webhook_events', v_events);
end
$function$;

create or replace function private.queue_message (
  p_tenant_id uuid,
  p_kind text,
  p_channel text,
  p_participant_id uuid,
  p_variables jsonb,
  p_dedupe_key text,
  p_campaign_id uuid default null::uuid,
  p_completion_id uuid default null::uuid,
  p_recipient text default null::text
)
  returns uuid
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
begin
  perform private.queue_messages(jsonb_build_array(jsonb_build_object(
    'tenant_id', p_tenant_id, 'kind', p_kind, 'channel', p_channel, 'participant_id', p_participant_id, 'variables', coalesce(p_variables, '{}'),
    'dedupe_key', p_dedupe_key, 'campaign_id', p_campaign_id, 'completion_id', p_completion_id, 'recipient', p_recipient)));
  return (select m.id from public.notification_outbox m where m.tenant_id = p_tenant_id and m.dedupe_key = p_dedupe_key);
end
$function$;

create or replace function private.queue_messages (
  p_messages jsonb
)
  returns integer
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  with app as materialized (
    select rtrim(private.setting('app_url'), '/') as url
  ),
  person as (
    select g.tenant_id, g.kind, g.participant_id, g.campaign_id, g.completion_id, g.dedupe_key, g.variables, g.n,
      p.display_name, p.phone, p.whatsapp_opt_in_at, t.name as business, array[p.language, t.locale] as languages,
      c.name as campaign, c.notifications_enabled, u.email,
      coalesce(private.agrees(g.tenant_id, g.participant_id, 'email', 'all'), false) as email_agreed,
      g.recipient as given_recipient, g.channel as given_channel
    from rows from (jsonb_to_recordset(p_messages) as (
      tenant_id uuid, kind text, channel text, participant_id uuid, variables jsonb, dedupe_key text, campaign_id uuid, completion_id uuid,
      recipient text)) with ordinality as g (
      tenant_id, kind, channel, participant_id, variables, dedupe_key, campaign_id, completion_id, recipient, n)
    join public.tenants t on t.id = g.tenant_id
    left join public.participants p on p.tenant_id = g.tenant_id and p.id = g.participant_id
    left join public.campaigns c on c.tenant_id = g.tenant_id and c.id = g.campaign_id
    left join auth.users u on u.id = p.user_id
  ),
  -- The channel that was asked for; else e-mail for whoever agreed to that and not to WhatsApp, else WhatsApp.
  addressed as (
    select x.*,
      coalesce(x.given_recipient, case when x.channel = 'email' then x.email else x.phone end) as recipient
    from (
      select p.*, coalesce(p.given_channel, case
        when p.whatsapp_opt_in_at is null and p.email_agreed and p.email is not null then 'email' else 'whatsapp' end) as channel
      from person p
    ) x
  ),
  worded as (
    select a.*, m.template_id, m.language, m.category, m.subject, m.body, m.whatsapp_template, m.parameters,
      jsonb_build_object('name', a.display_name, 'business', a.business, 'campaign', a.campaign,
        'link', app.url || coalesce('/campaigns/' || a.campaign_id, ''))
        || case when a.variables ? 'spins' then jsonb_build_object('reward', private.reward_text(m.language, (a.variables ->> 'spins')::integer)) else '{}' end
        || coalesce(a.variables, '{}') as filled
    from addressed a
    cross join app
    cross join lateral private.message_text(a.tenant_id, a.kind::public.message_kind, a.channel, a.languages) m
  ),
  judged as (
    select w.*, case
        when not w.notifications_enabled then 'disabled'
        when w.recipient is null then 'no_consent'
        when w.participant_id is null then 'queued'
        when w.channel = 'whatsapp' and w.whatsapp_opt_in_at is null then 'no_consent'
        when w.channel = 'email' and not w.email_agreed then 'no_consent'
        when w.category = 'marketing' and private.agrees(w.tenant_id, w.participant_id, w.channel, 'marketing') is false then 'no_consent'
        else 'queued' end as status
    from worded w
  ),
  inserted as (
    insert into public.notification_outbox (
      tenant_id, campaign_id, participant_id, completion_id, kind, channel, dedupe_key, template_id, language, category, recipient, subject, body,
      variables, payload, status, reason)
    select j.tenant_id, j.campaign_id, j.participant_id, j.completion_id, j.kind::public.message_kind, j.channel, j.dedupe_key, j.template_id,
      j.language, j.category, j.recipient,
      -- A name with a line break in it must not make a second header or break Meta's rules for parameters.
      left(regexp_replace(private.render_message(j.subject, j.filled), '[[:cntrl:]]+', ' ', 'g'), 300),
      left(private.render_message(j.body, j.filled), 4096), j.filled,
      case when j.whatsapp_template is null then '{}' else jsonb_build_object('template', jsonb_build_object(
        'name', j.whatsapp_template ->> 'name', 'language', j.whatsapp_template ->> 'language',
        'parameters', coalesce((
          select jsonb_agg(case when (j.whatsapp_template ->> 'named')::boolean then jsonb_build_object('name', u.name) else '{}' end
            || jsonb_build_object('text', left(coalesce(nullif(btrim(regexp_replace(j.filled ->> u.name, '\s+', ' ', 'g')), ''), '-'), 1024)) order by u.n)
          from unnest(j.parameters) with ordinality as u (name, n)), '[]'))) end,
      j.status::public.message_status,
      case
        when j.status = 'disabled' then 'notifications are switched off in this campaign'
        when j.status = 'no_consent' and j.recipient is null and j.channel = 'whatsapp' then 'the participant gave no phone number'
        when j.status = 'no_consent' and j.recipient is null then 'there is no e-mail address'
        when j.status = 'no_consent' and j.channel = 'whatsapp' and j.whatsapp_opt_in_at is null then 'the participant did not opt in to WhatsApp messages'
        when j.status = 'no_consent' and j.channel = 'email' and not j.email_agreed then 'the participant did not opt in to e-mails'
        when j.status = 'no_consent' then 'the participant does not want marketing messages' end
    from judged j
    order by j.n
    on conflict on constraint one_message_per_dedupe_key do nothing
    returning 1
  )
  select count(*)::integer from inserted
$function$;

create or replace function private.recheck_credential (
  p_tenant_id uuid,
  p_provider public.provider
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
    perform private.limit_calls('recheck_credential', p_tenant_id);
  end if;
  update public.credentials c set health = 'unchecked', state = 'unchecked', health_reason = null
  where c.tenant_id = p_tenant_id and c.provider = p_provider;
  if not found then
    return false;
  end if;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform private.audit(p_tenant_id, 'credential.rechecked', jsonb_build_object('provider', p_provider));
  return true;
end
$function$;

create or replace function private.reconcile_messages (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select jsonb_build_object('queued', coalesce((
    select private.requeue_messages(array_agg(l.tenant_id), array_agg(l.id), now(), 'sent again: nobody knew whether it had left')
    from (
      select m.tenant_id, m.id
      from private.unresolved(p_tenant_id) u
      join public.notification_outbox m on m.tenant_id = u.tenant_id and m.id = u.id
      order by m.created_at
      limit 500
      -- A report that comes right now is waited for, and believed.
      for update of m
    ) l
    having count(*) > 0), 0))
$function$;

create or replace function private.record_message_statuses (
  p_tenant_id uuid,
  p_statuses jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_total integer := case when jsonb_typeof(p_statuses) = 'array' then jsonb_array_length(p_statuses) else 0 end;
  v_good integer;
  v_known integer;
  v_updated integer;
  v_tenant_ids uuid[];
  v_ids uuid[];
  v_codes integer[];
  v_reasons text[];
begin
  if v_total = 0 then
    return jsonb_build_object('updated', 0, 'unchanged', 0, 'unknown', 0, 'skipped', 0);
  end if;
  with report as materialized (
    select x.*, case when x.is_ours then split_part(x.callback, '/', 1)::uuid end as callback_tenant_id,
      case when x.is_ours then split_part(x.callback, '/', 2)::uuid end as callback_id
    from (
      select s ->> 'message_id' as message_id, s ->> 'callback' as callback,
        s ->> 'callback' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' as is_ours,
        case when s ->> 'status' = 'played' then 'read' else s ->> 'status' end as status, private.time_of(s ->> 'at') as at,
        case when s ->> 'code' ~ '^[0-9]{1,9}$' then (s ->> 'code')::integer end as code, left(s ->> 'details', 300) as details
      from jsonb_array_elements(p_statuses) s
      where jsonb_typeof(s) = 'object' and s ->> 'status' in ('sent', 'delivered', 'read', 'played', 'failed')
        and char_length(s ->> 'message_id') between 1 and 200
    ) x
    where x.at is not null
  ),
  -- Our own mark first, the provider's id else. A tenant's number speaks of that tenant's messages only.
  matched as materialized (
    select r.*, m.tenant_id, m.id
    from report r
    left join lateral (
      select x.tenant_id, x.id
      from (
        select o.tenant_id, o.id, 1 as n
        from public.notification_outbox o
        where o.tenant_id = r.callback_tenant_id and o.id = r.callback_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and coalesce(o.credential_source, 'platform') = 'platform'))
        union all
        select o.tenant_id, o.id, 2
        from public.notification_outbox o
        where o.provider_message_id = r.message_id and o.channel = 'whatsapp'
          and (o.tenant_id = p_tenant_id or (p_tenant_id is null and o.credential_source = 'platform'))
      ) x
      order by x.n, x.tenant_id, x.id
      limit 1
    ) m on true
  ),
  -- The furthest that is reported of each message: sent < failed < delivered < read, whatever order they come in.
  furthest as materialized (
    select distinct on (w.tenant_id, w.id) w.*
    from (
      select y.*, array_position(array['sent', 'failed', 'delivered', 'read'], y.status) as rank from matched y where y.id is not null
    ) w
    join public.notification_outbox o on o.tenant_id = w.tenant_id and o.id = w.id
    -- That an earlier try failed is known: the message was queued again for it.
    where not (w.status in ('sent', 'failed') and w.message_id = any (o.earlier_message_ids))
    order by w.tenant_id, w.id, w.rank desc, w.at
  ),
  changed as (
    update public.notification_outbox m
    set delivery = f.status, delivery_at = f.at,
      provider_message_id = case when f.message_id = any (m.earlier_message_ids) then m.provider_message_id else coalesce(m.provider_message_id, f.message_id) end,
      error_code = case when f.status = 'failed' then f.code end,
      -- A message that is with the worker is decided when its answer comes; one that was queued again has arrived after all.
      status = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then 'failed' else m.status end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.status
        else 'sent' end,
      sent_at = case
        when f.status = 'failed' then case when m.status in ('sent', 'unknown') then null else m.sent_at end
        when m.status = 'queued' and (f.status = 'sent' or m.resends = 0) then m.sent_at
        else coalesce(m.sent_at, f.at) end,
      unknown_since = null,
      reason = case
        when f.status = 'failed' then left(format('WhatsApp %s: %s', coalesce(f.code::text, 'failed'), coalesce(f.details, 'not delivered')), 500)
        when m.status in ('sent', 'unknown', 'failed', 'queued') then null else m.reason end,
      held_until = null
    from furthest f
    where m.tenant_id = f.tenant_id and m.id = f.id
      and f.rank > coalesce(array_position(array['sent', 'failed', 'delivered', 'read'], m.delivery), 0)
    returning m.tenant_id, m.id, m.status, m.delivery, m.error_code, m.reason
  )
  select (select count(*) from report), (select count(*) from matched x where x.id is not null), (select count(*) from changed),
    array_agg(c.tenant_id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.id) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.error_code) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null),
    array_agg(c.reason) filter (where c.status = 'failed' and c.delivery = 'failed' and c.error_code is not null)
  into v_good, v_known, v_updated, v_tenant_ids, v_ids, v_codes, v_reasons
  from changed c;

  if v_ids is not null then
    perform private.act_on_failures(v_tenant_ids, v_ids, v_codes, v_reasons);
  end if;
  return jsonb_build_object('updated', v_updated, 'unchanged', v_known - v_updated, 'unknown', v_good - v_known, 'skipped', v_total - v_good);
end
$function$;

create or replace function private.record_preferences (
  p_tenant_id uuid,
  p_preferences jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_total integer := case when jsonb_typeof(p_preferences) = 'array' then jsonb_array_length(p_preferences) else 0 end;
  v_keys text[];
  v_ats timestamptz[];
  v_stops boolean[];
  v_good integer;
  v_stopped integer;
  v_resumed integer;
begin
  if v_total = 0 then
    return jsonb_build_object('recorded', 0, 'skipped', 0, 'stopped', 0, 'resumed', 0);
  end if;
  with good as materialized (
    select private.wa_key(m ->> 'wa_id') as who, m ->> 'value' = 'stop' as stops, private.time_of(m ->> 'at') as at
    from jsonb_array_elements(p_preferences) m
    where jsonb_typeof(m) = 'object' and m ->> 'wa_id' ~ '^\+?[0-9]{6,15}$' and m ->> 'category' = 'marketing_messages'
      and m ->> 'value' in ('stop', 'resume') and private.time_of(m ->> 'at') is not null
  ),
  -- The last word of each; of two in one second, stop.
  latest as (
    select distinct on (g.who) g.* from good g order by g.who, g.at desc, g.stops desc
  )
  select (select count(*) from good), array_agg(l.who), array_agg(l.at), array_agg(l.stops) into v_good, v_keys, v_ats, v_stops from latest l;

  select private.stop_marketing(array_agg(p.tenant_id), array_agg(p.id), array_agg(u.at), 'preference') into v_stopped
  from unnest(v_keys, v_ats, v_stops) as u (who, at, stops)
  join private.tenants_of_number(p_tenant_id, v_keys) n on n.wa_key = u.who
  join public.participants p on p.tenant_id = n.tenant_id and private.wa_key(p.phone) = u.who
  where u.stops;

  insert into public.opt_ins (tenant_id, participant_id, channel, category, granted, business_name, source, at)
  select p.tenant_id, p.id, 'whatsapp', 'marketing', true, t.name, 'preference', u.at
  from unnest(v_keys, v_ats, v_stops) as u (who, at, stops)
  join private.tenants_of_number(p_tenant_id, v_keys) n on n.wa_key = u.who
  join public.participants p on p.tenant_id = n.tenant_id and private.wa_key(p.phone) = u.who
  join public.tenants t on t.id = p.tenant_id
  cross join lateral (
    select o.granted, o.at from public.opt_ins o
    where o.tenant_id = p.tenant_id and o.participant_id = p.id and o.channel = 'whatsapp' and o.category = 'marketing'
    order by o.at desc, o.position desc limit 1
  ) latest
  where not u.stops and not latest.granted and latest.at < u.at;
  get diagnostics v_resumed = row_count;
  return jsonb_build_object('recorded', v_good, 'skipped', v_total - v_good, 'stopped', coalesce(v_stopped, 0), 'resumed', v_resumed);
end
$function$;

create or replace function private.record_signals (
  p_tenant_id uuid,
  p_signals jsonb
)
  returns jsonb
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select private.take_signals(p_tenant_id, p_signals, 'webhook')
$function$;

create or replace function private.record_whatsapp_inbound (
  p_tenant_id uuid,
  p_messages jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_total integer := case when jsonb_typeof(p_messages) = 'array' then jsonb_array_length(p_messages) else 0 end;
  v_keys text[];
  v_ats timestamptz[];
  v_stops timestamptz[];
  v_starts timestamptz[];
  v_good integer;
  v_stopped integer;
begin
  if v_total = 0 then
    return jsonb_build_object('recorded', 0, 'skipped', 0, 'stopped', 0);
  end if;
  -- Per person: the last message, the last STOP, the last START.
  select array_agg(x.who order by x.who), array_agg(x.at order by x.who), array_agg(x.stop_at order by x.who), array_agg(x.start_at order by x.who),
    coalesce(sum(x.messages), 0)
  into v_keys, v_ats, v_stops, v_starts, v_good
  from (
    select e.who, max(e.at) as at, count(*) as messages,
      max(e.at) filter (where private.is_stop_word(e.text)) as stop_at, max(e.at) filter (where private.is_start_word(e.text)) as start_at
    from (
      select private.time_of(m ->> 'happened_at') as at, m ->> 'text' as text,
        case when m ->> 'wa_id' ~ '^\+?[0-9]{6,15}$' then private.wa_key(m ->> 'wa_id')
          when char_length(m ->> 'user_id') between 1 and 200 then m ->> 'user_id' end as who
      from jsonb_array_elements(p_messages) m
      where jsonb_typeof(m) = 'object' and char_length(m ->> 'external_id') between 1 and 500
    ) e
    where e.at is not null and e.who is not null
    group by e.who
  ) x;

  insert into private.conversations as c (tenant_id, recipient, inbound_at, start_word_at)
  select coalesce(p_tenant_id, jobs.platform_id()), u.who, u.at, u.start_at
  from unnest(v_keys, v_ats, v_starts) as u (who, at, start_at)
  where p_tenant_id is null or exists (select from public.tenants t where t.id = p_tenant_id)
  order by u.who
  on conflict (tenant_id, recipient) do update
    -- greatest skips nulls, which is what is meant here.
    set inbound_at = greatest(c.inbound_at, excluded.inbound_at), start_word_at = greatest(c.start_word_at, excluded.start_word_at), touched_at = now();

  -- A STOP counts against a consent that was given before it; times of WhatsApp are full seconds.
  perform set_config('onecron.consent', '{"source": "stop_word"}', true);
  update public.participants p
  set whatsapp_opt_in_at = null
  from (
    select o.tenant_id, o.id
    from unnest(v_keys, v_stops) as u (who, stop_at)
    join private.tenants_of_number(p_tenant_id, array(select k from unnest(v_keys, v_stops) as s (k, at) where s.at is not null)) n on n.wa_key = u.who
    join public.participants o on o.tenant_id = n.tenant_id and private.wa_key(o.phone) = u.who
    where u.stop_at is not null and o.whatsapp_opt_in_at < u.stop_at + interval '1 second'
    order by o.tenant_id, o.id
    for update of o
  ) stopped
  where p.tenant_id = stopped.tenant_id and p.id = stopped.id;
  get diagnostics v_stopped = row_count;
  perform set_config('onecron.consent', '', true);

  -- Whoever was silent for a month is forgotten.
  delete from private.conversations c
  where (c.tenant_id, c.recipient) in (
    select o.tenant_id, o.recipient from private.conversations o where o.touched_at < now() - interval '30 days'
    order by o.touched_at limit 100 for update skip locked);
  return jsonb_build_object('recorded', v_good, 'skipped', v_total - v_good, 'stopped', v_stopped);
end
$function$;

create or replace function private.refuse_new_history()
  returns trigger
  language plpgsql
  set search_path to ''
  AS $function$
begin
  raise exception 'Decisions are append-only.' using errcode = '42501';
end
$function$;

create or replace function private.refuse_own_claim (
  p_tenant_id uuid,
  p_completion_id uuid
)
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  if exists (
    select from public.completions c join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    where c.tenant_id = p_tenant_id and c.id = p_completion_id and p.user_id = (select auth.uid())
  ) then
    raise exception 'This claim is your own: somebody else decides it.' using errcode = '42501';
  end if;
end
$function$;

create or replace function private.reject_completion (
  p_tenant_id uuid,
  p_completion_id uuid,
  p_reason text
)
  returns jsonb
  language sql
  security definer
  set search_path to ''
  AS $function$
  select private.review_completion(p_tenant_id, p_completion_id, false, p_reason)
$function$;

create or replace function private.remind_participants (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select jsonb_build_object('queued', coalesce(private.queue_messages(jsonb_agg(jsonb_build_object(
    'tenant_id', c.tenant_id, 'kind', 'reminder', 'participant_id', c.participant_id, 'campaign_id', t.campaign_id, 'completion_id', c.id,
    'dedupe_key', 'reminder/' || c.id, 'variables', jsonb_build_object('task', t.title, 'code', c.code,
      'deadline', to_char(c.deadline at time zone g.time_zone, 'YYYY-MM-DD HH24:MI'))) order by c.deadline, c.id)), 0))
  from (select r.* from private.unreminded(p_tenant_id) r limit 1000) u
  join public.completions c on c.tenant_id = u.tenant_id and c.id = u.completion_id
  join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
  join public.campaigns g on g.tenant_id = t.tenant_id and g.id = t.campaign_id
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
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform private.audit(p_tenant_id, 'credential.removed', jsonb_build_object('provider', p_provider));
  return true;
end
$function$;

create or replace function private.remove_signals (
  p_tenant_id uuid,
  p_removals jsonb
)
  returns integer
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_count integer := 0;
begin
  insert into private.webhook_removals as w (tenant_id, surface, kind, external_id, removed_at)
  select p_tenant_id, r.surface, r.kind, r.external_id, max(r.removed_at)
  from jsonb_to_recordset(p_removals) as r (surface text, kind text, external_id text, removed_at timestamptz)
  where octet_length(r.external_id) <= 300
  group by r.surface, r.kind, r.external_id
  on conflict on constraint webhook_removals_pkey do update set removed_at = greatest(w.removed_at, excluded.removed_at);
  if to_regclass('private.signals') is not null then
    execute $sql$
      delete from private.signals s
      using jsonb_to_recordset($2) as r (surface text, kind text, external_id text, removed_at timestamptz)
      where s.tenant_id = $1 and s.surface::text = r.surface and s.kind::text = r.kind and s.external_id = r.external_id
        and s.happened_at <= r.removed_at
    $sql$ using p_tenant_id, p_removals;
    get diagnostics v_count = row_count;
  end if;
  return v_count;
end
$function$;

create or replace function private.render_message (
  p_text text,
  p_variables jsonb
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select string_agg(case
      when u.n = 1 then u.part
      when strpos(u.part, '}}') = 0 then '{{' || u.part
      else coalesce(p_variables ->> btrim(split_part(u.part, '}}', 1)), '') || substr(u.part, strpos(u.part, '}}') + 2) end, '' order by u.n)
  from unnest(string_to_array(p_text, '{{')) with ordinality as u (part, n)
$function$;

create or replace function private.request_origin (
  OUT ip inet,
  OUT user_agent text
)
  returns record
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_headers jsonb;
begin
  v_headers := nullif(current_setting('request.headers', true), '')::jsonb;
  user_agent := left(v_headers ->> 'user-agent', 500);
  ip := btrim(split_part(v_headers ->> 'x-forwarded-for', ',', 1))::inet;
exception when others then
  null;
end
$function$;

create or replace function private.requeue_messages (
  p_tenant_ids uuid[],
  p_ids uuid[],
  p_run_at timestamp with time zone,
  p_reason text
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_count integer := 0;
  v_channel record;
begin
  for v_channel in
    with back as (
      update public.notification_outbox m
      set status = 'queued', sent_at = null, delivery = null, delivery_at = null, held_until = p_run_at, reason = left(p_reason, 500),
        earlier_message_ids = case when m.provider_message_id is null then m.earlier_message_ids else m.earlier_message_ids || m.provider_message_id end,
        provider_message_id = null, resends = m.resends + 1, unknown_since = null
      from unnest(p_tenant_ids, p_ids) as u (tenant_id, id)
      where m.tenant_id = u.tenant_id and m.id = u.id
      returning m.tenant_id, m.id, m.channel, m.created_at
    )
    select case when b.channel = 'email' then 'send-emails' else 'send-notifications' end as job,
      array_agg(b.tenant_id order by b.tenant_id, b.created_at, b.id) as tenant_ids, array_agg(b.id order by b.tenant_id, b.created_at, b.id) as ids
    from back b
    group by 1
    order by 1
  loop
    v_count := v_count + jobs.enqueue_many(v_channel.job, v_channel.tenant_ids, v_channel.ids, p_run_at);
  end loop;
  return v_count;
end
$function$;

create or replace function private.require_acknowledgement (
  p_tenant_id uuid,
  p_rule text
)
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_version integer := (select max(r.version) from public.rules r where r.rule = p_rule);
begin
  if private.is_platform() then
    return;
  end if;
  if not exists (
    select from public.acknowledgements a where a.tenant_id = p_tenant_id and a.rule = p_rule and a.version >= v_version
  ) then
    raise exception 'First somebody has to acknowledge the rule "%".', p_rule using errcode = 'PT409',
      hint = format('Read version %s of it in the table rules, then call acknowledge_rule(tenant_id, ''%s'', %1$s) as an admin of the tenant.',
        v_version, p_rule);
  end if;
end
$function$;

create or replace function private.require_unofficial_gateways()
  returns void
  language plpgsql
  stable
  set search_path to ''
  AS $function$
begin
  if private.setting('unofficial_gateways') = 'off' then
    raise exception 'Gateways that are not WhatsApp''s own are switched off on this platform.'
      using errcode = 'PT409', hint = 'Connect WhatsApp''s Cloud API: kind whatsapp_cloud.';
  end if;
end
$function$;

create or replace function private.restart_sender()
  returns trigger
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  perform private.start_sender(coalesce((to_jsonb(new) ->> 'tenant_id')::uuid, jobs.platform_id()));
  return null;
end
$function$;

create or replace function private.resume_sending (
  p_tenant_id uuid
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_started boolean;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'admin');
  end if;
  v_started := private.start_sender(coalesce(p_tenant_id, jobs.platform_id()));
  if v_started then
    perform private.audit(p_tenant_id, 'sending.resumed');
  end if;
  return v_started;
end
$function$;

create or replace function private.review_completion (
  p_tenant_id uuid,
  p_completion_id uuid,
  p_approve boolean,
  p_note text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_status text;
  v_note text := left(nullif(btrim(p_note), ''), 500);
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
    perform private.limit_calls('approve_completion', (select auth.uid()));
    perform private.refuse_own_claim(p_tenant_id, p_completion_id);
  end if;
  if not p_approve and v_note is null then
    raise exception 'A rejection says why.' using errcode = '22023';
  end if;
  if private.decide_completions(
    array[(p_tenant_id, p_completion_id, case when p_approve then 'verified' else 'failed' end, 'manual', v_note, null, null, null, null, null)::private.verdict],
    case when private.is_platform() then 'platform' else 'member' end, '{manual_review}', false, (select auth.uid())) = 0
  then
    select c.status into v_status from public.completions c where c.tenant_id = p_tenant_id and c.id = p_completion_id;
    if v_status is null then
      raise exception 'There is no such claim.' using errcode = 'PT404';
    end if;
    raise exception 'This claim is % and does not wait for a review.', replace(v_status, '_', ' ') using errcode = 'PT409';
  end if;
  perform private.audit(p_tenant_id, case when p_approve then 'completion.approved' else 'completion.rejected' end,
    jsonb_build_object('completion_id', p_completion_id, 'note', v_note));
  perform private.announce_review(p_tenant_id, p_completion_id);
  return jsonb_build_object('completion_id', p_completion_id, 'status', case when p_approve then 'verified' else 'failed' end);
end
$function$;

create or replace function private.reward_text (
  p_language text,
  p_spins integer
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case split_part(p_language, '-', 1)
    when 'de' then format(case when p_spins = 1 then '%s Bonus-Spin wurde gutgeschrieben' else '%s Bonus-Spins wurden gutgeschrieben' end, p_spins)
    when 'es' then format(case when p_spins = 1 then 'Se ha añadido %s giro extra' else 'Se han añadido %s giros extra' end, p_spins)
    when 'it' then format(case when p_spins = 1 then 'È stato aggiunto %s giro bonus' else 'Sono stati aggiunti %s giri bonus' end, p_spins)
    else format(case when p_spins = 1 then '%s bonus spin has been added' else '%s bonus spins have been added' end, p_spins) end
$function$;

create or replace function private.route_of (
  p_task public.social_tasks,
  p_kind public.task_kinds,
  p_strategy text
)
  returns text
  language sql
  stable
  set search_path to ''
  AS $function$
  select case
    when (p_kind).proven_by = 'nobody' then 'strategy'
    when (p_kind).provider is null or p_strategy = 'api'
      or exists (select from public.credentials c where c.tenant_id = (p_task).tenant_id and c.provider = (p_kind).provider)
      -- The platform's webhooks are not the tenant's: for what only a signal proves it takes an own credential. But a message to the
      -- platform's WhatsApp number names the claim by its code.
      or ((p_task).platform_credential_allowed
        and ((p_kind).kind = 'whatsapp_join' or ((p_kind).proven_by = 'worker'
          and exists (select from jobs.definitions d where d.job = 'verify-social-tasks' and d.platform_allowed)))
        and exists (select from private.platform_credentials c where c.provider = (p_kind).provider))
      then case (p_kind).proven_by when 'worker' then 'api' else 'signal' end
    else 'strategy' end
$function$;

create or replace function private.set_cohort (
  p_tenant_id uuid,
  p_participant_ids uuid[],
  p_cohort_id uuid
)
  returns integer
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_count integer;
begin
  if not private.is_platform() then
    perform private.require_role(p_tenant_id, 'member');
  end if;
  if p_cohort_id is not null and not exists (select from public.cohorts h where h.tenant_id = p_tenant_id and h.id = p_cohort_id) then
    raise exception 'There is no such cohort.' using errcode = 'PT404';
  end if;
  update public.participants p set cohort_id = p_cohort_id
  where p.tenant_id = p_tenant_id and p.id = any (p_participant_ids) and p.cohort_id is distinct from p_cohort_id;
  get diagnostics v_count = row_count;
  perform private.audit(p_tenant_id, 'cohort.set', jsonb_build_object('cohort_id', p_cohort_id, 'participants', v_count));
  return v_count;
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
  if p_kind in ('waapi', 'gateway') then
    perform private.require_unofficial_gateways();
    perform private.require_acknowledgement(p_tenant_id, 'unofficial_gateway');
  end if;
  v_secret_id := private.keep_secret(format('credential/%s/%s', p_tenant_id, p_provider), p_secret::text);
  insert into public.credentials as c (tenant_id, provider, kind, account, secret_id, fingerprint, secret_keys)
  values (p_tenant_id, p_provider, p_kind, p_account, v_secret_id, v_fingerprint, array(select k from jsonb_object_keys(p_secret) k order by k))
  on conflict on constraint one_credential_per_tenant_and_provider do update
    set kind = excluded.kind, account = excluded.account, secret_id = excluded.secret_id, fingerprint = excluded.fingerprint,
      secret_keys = excluded.secret_keys, secret_at = now(),
      health = 'unchecked', state = 'unchecked', health_reason = null, checked_at = null, expires_at = null, scopes = null
  returning c.id into v_id;
  perform jobs.unpark(p_tenant_id, p_provider);
  perform jobs.close_alert(p_tenant_id, format('credential %s expires', p_provider));
  perform private.audit(p_tenant_id, 'credential.set',
    jsonb_build_object('provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint));
  return jsonb_build_object('credential_id', v_id, 'provider', p_provider, 'kind', p_kind, 'fingerprint', v_fingerprint);
end
$function$;

create or replace function private.settle_claims (
  p_tenant_id uuid,
  p_subject_id uuid,
  p_payload jsonb
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  AS $function$
declare
  v_verdicts private.verdict[];
begin
  with due as (
    select c.id, c.status::text as status, c.route, c.claimed_at, c.seen_at, t.kind::text as kind, k.proof, k.surface,
      coalesce(h.strategy, g.strategy, 'api') as strategy, coalesce(h.acceptance_rate, g.acceptance_rate, 0.85) as rate,
      case when coalesce(h.statistical_basis, g.statistical_basis) = 'follower_growth' then private.growth_platform(t.kind::text) end as growth_platform,
      coalesce(h.statistical_basis, g.statistical_basis) as basis,
      (c.claimed_at at time zone 'UTC')::date as day
    from public.completions c
    join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
    join public.task_kinds k on k.kind = t.kind::text
    left join public.campaign_strategies g on g.tenant_id = t.tenant_id and g.campaign_id = t.campaign_id
    join public.participants p on p.tenant_id = c.tenant_id and p.id = c.participant_id
    left join public.cohorts h on h.tenant_id = p.tenant_id and h.id = p.cohort_id
    where c.tenant_id = p_tenant_id and c.settle_at <= now() and c.status::text in ('pending', 'needs_user_action')
    order by c.settle_at
    limit 2000
  ),
  growth as (
    select d.growth_platform, d.day, after.followers - before.followers as growth, claims.claims
    from (select distinct due.growth_platform, due.day from due where due.growth_platform is not null) d
    left join public.follower_counts before on before.tenant_id = p_tenant_id and before.platform = d.growth_platform and before.day = d.day
    left join public.follower_counts after on after.tenant_id = p_tenant_id and after.platform = d.growth_platform and after.day = d.day + 1
    cross join lateral (
      select count(*) as claims
      from public.completions c join public.social_tasks t on t.tenant_id = c.tenant_id and t.id = c.task_id
      where c.tenant_id = p_tenant_id and private.growth_platform(t.kind::text) = d.growth_platform
        and c.claimed_at >= d.day::timestamp at time zone 'UTC' and c.claimed_at < (d.day + 1)::timestamp at time zone 'UTC'
    ) claims
  ),
  chance as (
    select d.*, g.growth, g.claims,
      case when g.growth is not null then least(1, greatest(g.growth, 0)::numeric / greatest(g.claims, 1)) else d.rate end as acceptance
    from due d
    left join growth g on g.growth_platform = d.growth_platform and g.day = d.day
  ),
  judged as (
    select c.*,
      case
        when c.status = 'needs_user_action' then 'never acted'
        when c.route = 'signal' and c.surface = 'link' then 'no visit'
        when c.route = 'signal' then 'no signal'
        else c.strategy end as because,
      private.draw(c.id) < c.acceptance as is_drawn
    from chance c
  )
  select array_agg((p_tenant_id, j.id,
      case
        when j.because in ('never acted', 'no visit') then 'failed'
        when j.because = 'honor_system' then 'verified'
        when j.because = 'statistical' then case when j.is_drawn then 'verified' else 'failed' end
        else 'manual_review' end,
      case j.because when 'never acted' then 'api' when 'no visit' then 'link' when 'honor_system' then 'honor_system' when 'statistical' then 'statistical' end,
      case j.because
        when 'never acted' then 'the step that was asked for was not taken in time'
        when 'no visit' then case j.kind when 'link_visit' then 'the link was not opened in time' else 'the sign-up was not confirmed in time' end
        when 'no signal' then format('%s told of nothing by the deadline, which proves nothing', initcap(j.surface))
        when 'honor_system' then 'accepted on the participant''s word; nothing was proven'
        -- By how much is for members: it stands in the record of the decision.
        when 'statistical' then case when j.is_drawn then 'accepted' else 'not accepted' end || ' by a draw, not by a proof'
        else case when j.route = 'api' then 'the platform could not be asked by the deadline: a person decides'
          else 'nothing can prove this claim: a person decides' end end,
      case when j.because = 'statistical' then jsonb_strip_nulls(jsonb_build_object(
        'draw', round(private.draw(j.id)::numeric, 6), 'acceptance', round(j.acceptance, 6), 'basis', case when j.growth is not null then 'follower_growth' else 'rate' end,
        'growth', j.growth, 'day', case when j.growth is not null then j.day end, 'claims', case when j.growth is not null then j.claims end,
        'why', case
          when j.growth is not null then null
          when j.growth_platform is not null then format('the followers of %s were not measured', j.day)
          when j.basis = 'follower_growth' then 'this kind of task makes no followers' end)) end,
      null, null, null, null)::private.verdict)
  into v_verdicts
  from judged j;
  return jsonb_build_object('decided', private.decide_completions(v_verdicts, 'settle-claims', '{pending,needs_user_action}'));
end
$function$;

create or replace function private.settles_at (
  p_kind text,
  p_strategy text,
  p_basis text,
  p_claimed_at timestamp with time zone
)
  returns timestamp with time zone
  language sql
  stable
  set search_path to ''
  AS $function$
  select case
    when p_strategy = 'statistical' and p_basis = 'follower_growth' and private.growth_platform(p_kind) is not null
      then (date_trunc('day', p_claimed_at at time zone 'UTC') + interval '30 hours') at time zone 'UTC'
    else p_claimed_at + make_interval(secs => (select d.start_delay_seconds from jobs.definitions d where d.job = 'verify-social-tasks')) end
$function$;

create or replace function private.somebody_to_remind()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (select from public.reminder_settings s where s.enabled)
$function$;

create or replace function private.something_to_reconcile()
  returns boolean
  language sql
  stable
  set search_path to ''
  AS $function$
  select exists (select from private.unresolved(null))
$function$;

create or replace function private.split_meta (
  p_body jsonb,
  p_account jsonb,
  p_received_at timestamp with time zone
)
  returns table (
    is_a text,
    reason text,
    surface text,
    kind text,
    external_id text,
    happened_at timestamp with time zone,
    signal jsonb
  )
  language sql
  stable
  set search_path to ''
  set jit to 'off'
  AS $function$
  -- Looked at once: to read a key of the stored body unpacks all of it, 2 ms for a large one.
  with body as materialized (
    select p_body ->> 'object' as object, p_body -> 'entry' as entries
  ),
  entry as (
    select b.object, private.json_text(e -> 'id') as account_id, e,
      coalesce(private.webhook_time(e -> 'time'), p_received_at) as at,
      -- A body speaks for an account; when the credential names its own, it must be that one.
      case b.object when 'page' then p_account ->> 'page_id' else p_account ->> 'ig_user_id' end as own_id
    from body b, private.json_list(b.entries) e
  ),
  change as (
    select n.object, n.account_id, n.at, n.own_id, c ->> 'field' as field, c -> 'value' as value
    from entry n, private.json_list(n.e -> 'changes') c
    union all
    select n.object, n.account_id, n.at, n.own_id, n.e ->> 'field', n.e -> 'value' from entry n where n.e ? 'field'
  ),
  message as (
    select n.object, n.account_id, n.at, n.own_id, m as value from entry n, private.json_list(n.e -> 'messaging') m
    union all
    select c.object, c.account_id, c.at, c.own_id, c.value from change c where c.field ~ '^messag'
  ),
  read_change as (
    select c.account_id, c.own_id, c.at,
      case
        when c.object = 'instagram' and c.field in ('comments', 'live_comments') then 'instagram comment'
        when c.object = 'instagram' and c.field = 'mentions' then 'mention'
        when c.object = 'page' and c.field = 'feed' and c.value ->> 'item' = 'comment' then 'facebook comment'
        when c.object = 'page' and c.field = 'feed' and c.value ->> 'item' = 'reaction' then 'reaction' end as what,
      c.field, c.value, c.value ->> 'verb' as verb,
      private.json_text(c.value -> 'from' -> 'id') as author_id,
      coalesce(private.webhook_time(c.value -> 'created_time'), c.at) as happened_at
    from change c where coalesce(c.field, '') !~ '^messag'
  ),
  told as (
    -- Comments, mentions and reactions
    select r.account_id, r.own_id,
      case
        when r.what is null then format('unknown field %s', left(coalesce(r.field || coalesce(' ' || (r.value ->> 'item'), ''), '?'), 40))
        when r.author_id = r.account_id or coalesce(r.value -> 'from' ->> 'self_ig_scoped_id', '') <> '' then 'own'
        when r.what in ('facebook comment', 'reaction') and coalesce(r.verb, '') not in ('add', 'remove') then format('verb %s', left(coalesce(r.verb, '?'), 20))
      end as reason,
      case when r.verb = 'remove' and r.what in ('facebook comment', 'reaction') then 'removal' else 'signal' end as is_a,
      case when r.what in ('facebook comment', 'reaction') then 'facebook' else 'instagram' end as surface,
      case r.what when 'mention' then 'mention' when 'reaction' then 'reaction' else 'comment' end as kind,
      case r.what
        when 'instagram comment' then private.json_text(r.value -> 'id')
        when 'mention' then coalesce(private.json_text(r.value -> 'comment_id'), private.json_text(r.value -> 'media_id'))
        when 'facebook comment' then private.json_text(r.value -> 'comment_id')
        -- A reaction has no id: it is the one of this person to this post (or comment).
        when 'reaction' then coalesce(private.json_text(r.value -> 'comment_id'), private.json_text(r.value -> 'post_id')) || ':' || r.author_id
      end as external_id,
      r.author_id, case when r.what = 'instagram comment' then private.json_text(r.value -> 'from' -> 'username') end as author_username,
      case r.what when 'instagram comment' then private.json_text(r.value -> 'media' -> 'id')
        when 'mention' then private.json_text(r.value -> 'media_id') else private.json_text(r.value -> 'post_id') end as target_id,
      case r.what when 'instagram comment' then private.json_text(r.value -> 'text') when 'facebook comment' then private.json_text(r.value -> 'message') end as text,
      null::text as referral,
      case r.what
        when 'mention' then jsonb_build_object('media_id', private.json_text(r.value -> 'media_id'), 'comment_id', private.json_text(r.value -> 'comment_id'))
        when 'reaction' then jsonb_build_object('reaction_type', private.json_text(r.value -> 'reaction_type'))
        else jsonb_build_object('parent_id', private.json_text(r.value -> 'parent_id')) end as details,
      r.happened_at
    from read_change r
    union all
    -- Direct messages: text, the ref of an ig.me or m.me link, the mention in a story
    select m.account_id, m.own_id,
      case
        when v.message ->> 'is_echo' = 'true' or v.author_id = m.account_id then 'own'
        when not m.value ?| array['message', 'postback', 'referral'] then 'no message'
        when coalesce(v.message ->> 'is_unsupported', '') = 'true' and not v.is_story then 'unsupported message'
      end,
      case when v.message ->> 'is_deleted' = 'true' then 'removal' else 'signal' end,
      case m.object when 'page' then 'facebook' else 'instagram' end,
      case when v.is_story then 'story_mention' else 'message' end,
      coalesce(private.json_text(v.message -> 'mid'), private.json_text(m.value -> 'postback' -> 'mid'),
        -- Who comes back through a link to a conversation that exists sends only the ref.
        'referral:' || v.author_id || ':' || private.json_text(m.value -> 'timestamp')),
      v.author_id, null, coalesce(private.json_text(m.value -> 'recipient' -> 'id'), m.account_id),
      coalesce(private.json_text(v.message -> 'text'), private.json_text(m.value -> 'postback' -> 'payload')),
      coalesce(private.json_text(v.message -> 'referral' -> 'ref'), private.json_text(m.value -> 'referral' -> 'ref'),
        private.json_text(m.value -> 'postback' -> 'referral' -> 'ref')),
      '{}', coalesce(private.webhook_time(m.value -> 'timestamp'), m.at)
    from message m
    cross join lateral (
      select m.value -> 'message' as message, private.json_text(m.value -> 'sender' -> 'id') as author_id,
        exists (select from private.json_list(m.value -> 'message' -> 'attachments') a where a ->> 'type' = 'story_mention') as is_story
    ) v
  )
  select
    case when x.reason is null then x.is_a else 'ignored' end, x.reason, x.surface, x.kind, x.external_id, x.happened_at,
    jsonb_strip_nulls(jsonb_build_object('surface', x.surface, 'kind', x.kind, 'external_id', x.external_id, 'author_id', x.author_id,
      'author_username', x.author_username, 'target_id', x.target_id, 'text', x.text, 'referral', x.referral,
      'details', nullif(jsonb_strip_nulls(x.details), '{}'), 'happened_at', x.happened_at))
  from (
    select t.*, case
      when t.own_id is not null and t.account_id is distinct from t.own_id then 'other account'
      when t.reason is not null then t.reason
      when t.external_id is null then 'no id' end as verdict
    from told t
  ) t
  cross join lateral (select t.verdict as reason, t.is_a, t.surface, t.kind, t.external_id, t.author_id, t.author_username, t.target_id,
    t.text, t.referral, t.details, t.happened_at) x
$function$;

create or replace function private.split_whatsapp (
  p_body jsonb,
  p_account jsonb,
  p_received_at timestamp with time zone
)
  returns table (
    is_a text,
    reason text,
    part jsonb
  )
  language sql
  stable
  set search_path to ''
  set jit to 'off'
  AS $function$
  with change as (
    select c ->> 'field' as field, c -> 'value' as value, private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') as number_id,
      (p_account ->> 'waba_id' is not null and private.json_text(e -> 'id') is distinct from p_account ->> 'waba_id')
      or (p_account ->> 'phone_number_id' is not null and c -> 'value' ? 'metadata'
        and private.json_text(c -> 'value' -> 'metadata' -> 'phone_number_id') is distinct from p_account ->> 'phone_number_id') as is_other,
      regexp_replace(coalesce(private.json_text(c -> 'value' -> 'metadata' -> 'display_phone_number'), ''), '[^0-9]', '', 'g') as own_number,
      coalesce(private.webhook_time(e -> 'time'), p_received_at) as at
    from private.json_list(p_body -> 'entry') e, private.json_list(e -> 'changes') c
  ),
  part as (
    select 'message' as is_a, c, m as value from change c, private.json_list(c.value -> 'messages') m where c.field = 'messages'
    union all
    select 'status', c, s from change c, private.json_list(c.value -> 'statuses') s where c.field = 'messages'
    union all
    select 'preference', c, p from change c, private.json_list(c.value -> 'user_preferences') p where c.field = 'user_preferences'
    union all
    select 'error', c, x from change c, private.json_list(c.value -> 'errors') x
    union all
    select 'ignored', c, null from change c where coalesce(c.field, '') not in ('messages', 'user_preferences') and not coalesce(c.value ? 'errors', false)
  ),
  judged as (
    select p.*, case
      when (p.c).is_other then 'other account'
      when p.is_a = 'ignored' then format('unknown field %s', left(coalesce((p.c).field, '?'), 40))
      when p.is_a in ('message', 'status') and private.json_text(p.value -> 'id') is null then 'no id'
      when p.is_a = 'message' and private.json_text(p.value -> 'from') = nullif((p.c).own_number, '') then 'own'
      when p.is_a = 'message' and coalesce(private.json_text(p.value -> 'from'), private.json_text(p.value -> 'from_user_id')) is null then 'no sender'
      -- A changed number or a reaction is not a message that somebody wrote: it opens no window.
      when p.is_a = 'message' and p.value ->> 'type' in ('system', 'reaction') then format('message of type %s', p.value ->> 'type')
      when p.is_a = 'status' and coalesce(p.value ->> 'status', '') not in ('sent', 'delivered', 'read', 'played', 'failed')
        then format('status %s', left(coalesce(p.value ->> 'status', '?'), 20))
      when p.is_a = 'preference' and private.json_text(p.value -> 'wa_id') is null then 'no sender'
    end as reason
    from part p
  )
  select case when j.reason is null then j.is_a else 'ignored' end, j.reason,
    case j.is_a
      when 'message' then jsonb_build_object(
        'external_id', private.json_text(j.value -> 'id'), 'wa_id', private.json_text(j.value -> 'from'), 'user_id', private.json_text(j.value -> 'from_user_id'),
        'text', coalesce(private.json_text(j.value -> 'text' -> 'body'), private.json_text(j.value -> 'button' -> 'text'),
          private.json_text(j.value -> 'interactive' -> 'button_reply' -> 'title'), private.json_text(j.value -> 'interactive' -> 'list_reply' -> 'title'),
          private.json_text(j.value -> (j.value ->> 'type') -> 'caption')),
        'happened_at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'profile_name', (
          select private.json_text(k -> 'profile' -> 'name') from private.json_list((j.c).value -> 'contacts') k
          where k ->> 'wa_id' = j.value ->> 'from' or k ->> 'user_id' = j.value ->> 'from_user_id' limit 1),
        'number_id', (j.c).number_id)
      when 'status' then jsonb_build_object(
        'message_id', private.json_text(j.value -> 'id'), 'callback', private.json_text(j.value -> 'biz_opaque_callback_data'), 'status', j.value ->> 'status',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at),
        'code', j.value -> 'errors' -> 0 -> 'code',
        'details', left(coalesce(private.json_text(j.value -> 'errors' -> 0 -> 'error_data' -> 'details'),
          private.json_text(j.value -> 'errors' -> 0 -> 'title'), private.json_text(j.value -> 'errors' -> 0 -> 'message')), 500))
      when 'preference' then jsonb_build_object(
        'wa_id', private.json_text(j.value -> 'wa_id'), 'category', j.value ->> 'category', 'value', j.value ->> 'value',
        'at', coalesce(private.webhook_time(j.value -> 'timestamp'), (j.c).at))
      when 'error' then jsonb_build_object('code', j.value -> 'code', 'title', left(private.json_text(j.value -> 'title'), 200)) end
  from judged j
$function$;

create or replace function private.start_linking (
  p_tenant_id uuid,
  p_platform text
)
  returns jsonb
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
declare
  v_participant_id uuid;
  v_code text;
  v_expires_at timestamptz := now() + interval '1 hour';
begin
  perform private.limit_calls('start_linking', (select auth.uid()));
  select p.id into v_participant_id
  from public.participants p join public.tenants t on t.id = p.tenant_id
  where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid()) and t.status = 'active';
  if v_participant_id is null then
    raise exception 'Take part in a campaign of this business first.' using errcode = 'PT404';
  end if;
  if p_platform is null or p_platform not in ('instagram', 'facebook', 'whatsapp') then
    raise exception 'An account can be linked on instagram, facebook or whatsapp.' using errcode = '22023';
  end if;
  -- One code at a time.
  delete from private.link_codes l where l.tenant_id = p_tenant_id and l.participant_id = v_participant_id and l.platform = p_platform;
  loop
    v_code := private.new_code();
    continue when exists (select from public.completions c where c.tenant_id = p_tenant_id and c.code = v_code);
    insert into private.link_codes (tenant_id, code, participant_id, platform, expires_at)
    values (p_tenant_id, v_code, v_participant_id, p_platform, v_expires_at)
    on conflict do nothing;
    exit when found;
  end loop;
  return jsonb_build_object('code', v_code, 'expires_at', v_expires_at, 'link', private.contact_link(p_tenant_id, p_platform, v_code));
end
$function$;

create or replace function private.start_sender (
  p_sender_id uuid
)
  returns boolean
  language plpgsql
  set search_path to ''
  AS $function$
begin
  update private.senders s set stopped_at = null, stop_code = null, stop_reason = null
  where s.tenant_id = p_sender_id and s.stopped_at is not null;
  if not found then
    return false;
  end if;
  perform jobs.close_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp');
  return true;
end
$function$;

create or replace function private.stop_marketing (
  p_tenant_ids uuid[],
  p_participant_ids uuid[],
  p_ats timestamp with time zone[],
  p_source text
)
  returns integer
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_count integer;
begin
  insert into public.opt_ins (tenant_id, participant_id, channel, category, granted, business_name, source, at)
  select u.tenant_id, u.participant_id, 'whatsapp', 'marketing', false, t.name, p_source, max(u.at)
  from unnest(p_tenant_ids, p_participant_ids, p_ats) as u (tenant_id, participant_id, at)
  join public.tenants t on t.id = u.tenant_id
  left join lateral (
    select o.granted, o.at from public.opt_ins o
    where o.tenant_id = u.tenant_id and o.participant_id = u.participant_id and o.channel = 'whatsapp' and o.category = 'marketing'
    order by o.at desc, o.position desc limit 1
  ) latest on true
  where latest.at is null or (latest.granted and latest.at <= u.at)
  group by u.tenant_id, u.participant_id, t.name;
  get diagnostics v_count = row_count;
  perform private.end_queued(array_agg(w.tenant_id), array_agg(w.participant_id), 'whatsapp', 'marketing', 'the participant does not want marketing messages')
  from (
    select distinct u.tenant_id, u.participant_id
    from unnest(p_tenant_ids, p_participant_ids) as u (tenant_id, participant_id)
    where private.agrees(u.tenant_id, u.participant_id, 'whatsapp', 'marketing') is false
  ) w
  having count(*) > 0;
  return v_count;
end
$function$;

create or replace function private.stop_sender (
  p_sender_id uuid,
  p_code integer,
  p_reason text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
begin
  insert into private.senders as s (tenant_id, stopped_at, stop_code, stop_reason)
  values (p_sender_id, now(), p_code, left(p_reason, 500))
  on conflict (tenant_id) do update set stopped_at = excluded.stopped_at, stop_code = excluded.stop_code, stop_reason = excluded.stop_reason
    where s.stopped_at is null;
  if found then
    perform jobs.open_alert(nullif(p_sender_id, jobs.platform_id()), 'sending whatsapp',
      format('WhatsApp messages are stopped: %s. Solve it with WhatsApp, then call resume_sending. What waits is sent then.', p_reason));
  end if;
end
$function$;

create or replace function private.take_signals (
  p_tenant_id uuid,
  p_signals jsonb,
  p_via text,
  p_credential_source text default null::text
)
  returns jsonb
  language plpgsql
  set search_path to ''
  set jit to 'off'
  set enable_seqscan to 'off'
  set enable_mergejoin to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_given integer := case when jsonb_typeof(p_signals) = 'array' then jsonb_array_length(p_signals) else 0 end;
  v_valid integer;
  v_signal_ids uuid[];
  v_new private.signals[];
  v_linked uuid[];
  v_waiting uuid[];
begin
  if v_given = 0 or not exists (select from public.tenants t where t.id = p_tenant_id) then
    return jsonb_build_object('recorded', 0, 'skipped', v_given, 'decided', 0);
  end if;

  with given as materialized (
    select e.value ->> 'surface' as surface, e.value ->> 'kind' as kind, e.value ->> 'external_id' as external_id,
      nullif(e.value ->> 'author_id', '') as author_id, e.value ->> 'author_username' as author_username,
      nullif(e.value ->> 'target_id', '') as target_id, left(e.value ->> 'text', 10000) as text, left(e.value ->> 'referral', 200) as referral,
      e.value -> 'codes' as codes, e.value -> 'details' as details, e.value ->> 'happened_at' as happened_at
    from jsonb_array_elements(p_signals) e
    where jsonb_typeof(e.value) = 'object'
  ),
  -- A time is taken only when it can be one: a cast must not raise for the sake of one bad entry.
  timed as materialized (
    select g.*,
      case
        when g.happened_at is null then now()
        when g.happened_at !~ '^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$'
          then null
        when substr(g.happened_at, 9, 2)::integer > extract(day from (substr(g.happened_at, 1, 7) || '-01')::date + interval '1 month - 1 day') then null
        else g.happened_at::timestamptz end as at
    from given g
  ),
  valid as materialized (
    select t.*
    from timed t
    where (t.surface, t.kind) in (('instagram', 'comment'), ('facebook', 'comment'), ('instagram', 'mention'), ('instagram', 'story_mention'),
        ('instagram', 'message'), ('facebook', 'message'), ('whatsapp', 'message'), ('facebook', 'reaction'), ('link', 'visit'), ('link', 'sign_up'))
      and t.external_id ~ '^[!-~]+$' and octet_length(t.external_id) <= 300
      and (t.author_id ~ '^[!-~]{1,200}$') is not false and (t.target_id ~ '^[!-~]{1,200}$') is not false
      and t.at <= now() + interval '1 day'
  ),
  recorded as (
    insert into private.signals (
      tenant_id, surface, kind, external_id, author_id, author_username, target_id, codes, message, details, via, happened_at)
    select distinct on (v.surface, v.kind, v.external_id)
      p_tenant_id, v.surface, v.kind, v.external_id, v.author_id,
      substring(lower(ltrim(btrim(v.author_username), '@')) from '^[a-z0-9._]{1,30}$'), v.target_id,
      case when v.kind in ('visit', 'sign_up') then private.codes_in(v.external_id)
        when v.text is not null or v.referral is not null then private.codes_in(concat_ws(' ', v.text, v.referral))
        when jsonb_typeof(v.codes) = 'array' and v.codes <> '[]' then private.codes_in(left(v.codes::text, 1000))
        else '{}' end,
      case when v.kind = 'message' then nullif(left(v.text, 200), '') end,
      case when v.kind = 'mention' then jsonb_strip_nulls(jsonb_build_object(
        'media_id', substring(v.details ->> 'media_id' from '^[!-~]{1,100}$'),
        'comment_id', substring(v.details ->> 'comment_id' from '^[!-~]{1,100}$'))) end,
      case when v.surface = 'link' then 'link' else p_via end, v.at
    from valid v
    order by v.surface, v.kind, v.external_id, v.at
    on conflict on constraint a_thing_is_seen_once do nothing
    returning *
  )
  select (select count(*) from valid), array_agg(r), array_agg(r.id) into v_valid, v_new, v_signal_ids from recorded r;
  if v_new is null then
    return jsonb_build_object('recorded', 0, 'skipped', v_given - v_valid, 'decided', 0);
  end if;

  insert into private.signal_codes (tenant_id, code, signal_id)
  select p_tenant_id, u.code, n.id from unnest(v_new) n cross join lateral unnest(n.codes) as u (code);

  v_linked := private.link_accounts(p_tenant_id, v_new);
  -- Who was asked to write to the account may be linked already, by a comment: the message is what counts.
  perform private.wake_claims(p_tenant_id, v_linked || array(
    select a.participant_id
    from unnest(v_new) n
    cross join lateral (
      select x.participant_id from public.linked_accounts x
      where x.tenant_id = p_tenant_id and x.platform = n.surface and x.external_id = n.author_id offset 0
    ) a
    where n.kind = 'message'));

  -- A mention names nobody: whoever waits for one has it read.
  if exists (select from unnest(v_new) n where n.kind = 'mention') then
    v_waiting := array(
      select c.id
      from public.social_tasks t
      join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
      where t.tenant_id = p_tenant_id and t.kind::text = 'instagram_mention' and c.status = 'pending' and c.route = 'api'
      order by c.claimed_at
      limit 1000);
    if cardinality(v_waiting) > 0 then
      -- The item that an earlier mention woke is not due before long.
      update jobs.items i set run_at = now(), waiting_for = null
      where i.tenant_id = p_tenant_id and i.job = 'verify-social-tasks' and i.dedupe_key = any (array(select 'mention/' || w from unnest(v_waiting) w))
        and i.batch_id is null and i.run_at > now();
      perform jobs.enqueue_many('verify-social-tasks', array(select p_tenant_id from unnest(v_waiting)), v_waiting, now(),
        array(select 'mention/' || w from unnest(v_waiting) w));
    end if;
  end if;

  return jsonb_build_object('recorded', cardinality(v_new), 'skipped', v_given - v_valid,
    'decided', private.decide_by_signals(p_tenant_id, v_signal_ids, v_linked, null, p_credential_source));
end
$function$;

create or replace function private.tenants_of_number (
  p_tenant_id uuid,
  p_wa_keys text[]
)
  returns table (
    tenant_id uuid,
    wa_key text
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select p_tenant_id, u from unnest(p_wa_keys) u where p_tenant_id is not null
  union
  select m.tenant_id, u
  from unnest(p_wa_keys) u
  join public.notification_outbox m on private.wa_key(m.recipient) = u and m.credential_source = 'platform' and m.channel = 'whatsapp'
  where p_tenant_id is null
$function$;

create or replace function private.tenants_to_reconcile()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select distinct u.tenant_id from private.unresolved(null) u join public.tenants t on t.id = u.tenant_id and t.status = 'active'
$function$;

create or replace function private.tenants_to_remind()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select t.id from public.tenants t
  where t.status = 'active' and t.id in (select s.tenant_id from public.reminder_settings s where s.enabled)
    and exists (select from private.unreminded(t.id))
$function$;

create or replace function private.tenants_with_due_claims()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select distinct c.tenant_id from public.completions c where c.settle_at <= now()
$function$;

create or replace function private.time_of (
  p_text text
)
  returns timestamp with time zone
  language plpgsql
  stable
  set search_path to ''
  AS $function$
declare
  v_at timestamptz;
begin
  -- ISO only: Postgres takes "tomorrow" and "infinity" too.
  if p_text !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d(:?\d\d)?)$' then
    return null;
  end if;
  v_at := p_text::timestamptz;
  return case when v_at between now() - interval '31 days' and now() + interval '10 minutes' then v_at end;
exception when others then
  return null;
end
$function$;

create or replace function private.tokens_to_refresh()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select c.tenant_id from public.credentials c where c.provider = 'meta' and private.is_token_to_refresh(c)
$function$;

create or replace function private.unknown_placeholders (
  p_text text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select string_agg(distinct left(m[1], 40), ', ')
  from regexp_matches(coalesce(p_text, ''), '\{\{([^{}]*)\}\}', 'g') m
  where m[1] not in ('number', 'message', 'sender', 'api_key')
$function$;

create or replace function private.unlink_account (
  p_tenant_id uuid,
  p_platform text
)
  returns boolean
  language plpgsql
  security definer
  set search_path to ''
  AS $function$
begin
  if not exists (select from public.participants p where p.tenant_id = p_tenant_id and p.user_id = (select auth.uid())) then
    raise exception 'Take part in a campaign of this business first.' using errcode = 'PT404';
  end if;
  delete from public.linked_accounts a
  using public.participants p
  where a.tenant_id = p_tenant_id and a.platform = p_platform and p.tenant_id = a.tenant_id and p.id = a.participant_id
    and p.user_id = (select auth.uid());
  return found;
end
$function$;

create or replace function private.unreminded (
  p_tenant_id uuid
)
  returns table (
    tenant_id uuid,
    completion_id uuid
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select c.tenant_id, c.id
  from public.reminder_settings s
  join public.campaigns g on g.tenant_id = s.tenant_id and g.id = s.campaign_id
  join public.social_tasks t on t.tenant_id = s.tenant_id and t.campaign_id = s.campaign_id
  join public.completions c on c.tenant_id = t.tenant_id and c.task_id = t.id
  where s.enabled and (p_tenant_id is null or s.tenant_id = p_tenant_id)
    and g.status = 'active' and g.notifications_enabled and (g.ends_at is null or g.ends_at > now())
    and c.status::text in ('pending', 'needs_user_action') and c.deadline > now() and c.deadline <= now() + s.remind_before
    -- Not right after the claim.
    and c.claimed_at < now() - interval '15 minutes'
    and not exists (select from public.notification_outbox m where m.tenant_id = c.tenant_id and m.dedupe_key = 'reminder/' || c.id)
$function$;

create or replace function private.unresolved (
  p_tenant_id uuid
)
  returns table (
    tenant_id uuid,
    id uuid
  )
  language sql
  stable
  set search_path to ''
  AS $function$
  select m.tenant_id, m.id
  from public.notification_outbox m
  left join public.message_settings s on s.tenant_id = m.tenant_id
  where m.unknown_since <= now() - interval '15 minutes' and (p_tenant_id is null or m.tenant_id = p_tenant_id) and m.status = 'unknown'
    and case m.channel
      when 'email' then m.first_tried_at > now() - interval '23 hours'
      -- Once, and not after a day: what was to be said then is old.
      else s.resend_unknown and m.resends = 0 and m.unknown_since > now() - interval '1 day' end
$function$;

create or replace function private.wa_key (
  p_number text
)
  returns text
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case
    when n.digits ~ '^521[0-9]{10}$' then '52' || substr(n.digits, 4)
    when n.digits ~ '^549[0-9]{10}$' then '54' || substr(n.digits, 4)
    when n.digits ~ '^55[0-9]{2}9[0-9]{8}$' then left(n.digits, 4) || substr(n.digits, 6)
    else n.digits end
  from (select ltrim(p_number, '+') as digits) n
$function$;

create or replace function private.wake_claims (
  p_tenant_id uuid,
  p_participant_ids uuid[]
)
  returns void
  language plpgsql
  set search_path to ''
  set enable_seqscan to 'off'
  set plan_cache_mode to 'force_custom_plan'
  AS $function$
declare
  v_awake uuid[];
begin
  if coalesce(cardinality(p_participant_ids), 0) = 0 then
    return;
  end if;
  with waiting as (
    update public.completions c
    set status = 'pending', reason = null, settle_at = greatest(c.deadline, now()) + interval '1 day'
    where c.tenant_id = p_tenant_id and c.participant_id = any (p_participant_ids) and c.status::text = 'needs_user_action'
    returning c.id
  )
  select array_agg(w.id) into v_awake from waiting w;
  if v_awake is not null then
    perform jobs.enqueue_many('verify-social-tasks', array(select p_tenant_id from unnest(v_awake)), v_awake, now());
  end if;
end
$function$;

create or replace function private.warn_of_credential (
  p_tenant_id uuid,
  p_provider public.provider,
  p_reason text
)
  returns void
  language plpgsql
  set search_path to ''
  AS $function$
declare
  v_incident text := format('credential %s expires', p_provider);
begin
  if p_reason is null then
    perform jobs.close_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident);
  else
    perform jobs.open_alert(nullif(p_tenant_id, jobs.platform_id()), v_incident, format('The %s credential: %s', p_provider, p_reason));
  end if;
end
$function$;

create or replace function private.webhook_tenant (
  p_tenant text
)
  returns uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select case when p_tenant = 'platform' then jobs.platform_id() else (
    select t.id from public.tenants t where t.slug = p_tenant
    union all
    -- Compared as text: an address that is no uuid is no error.
    select t.id from public.tenants t
    where p_tenant ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      and t.id = case when p_tenant ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_tenant::uuid end
    limit 1) end
$function$;

create or replace function private.webhook_time (
  p_value jsonb
)
  returns timestamp with time zone
  language sql
  immutable
  set search_path to ''
  AS $function$
  select case
    when v.text !~ '^[0-9]{9,13}$' then null
    when length(v.text) >= 12 then to_timestamp(v.text::numeric / 1000)
    when v.text::numeric < 4102444800 then to_timestamp(v.text::double precision) end
  from (select coalesce(private.json_text(p_value), '') as text) v
$function$;

create or replace function private.welcome (
  p_tenant_id uuid,
  p_participant_id uuid,
  p_campaign_id uuid
)
  returns void
  language sql
  set search_path to ''
  set jit to 'off'
  AS $function$
  select private.queue_message(p_tenant_id, 'welcome', null, p_participant_id, '{}', format('welcome/%s/%s', p_campaign_id, p_participant_id), p_campaign_id)
  from public.message_settings s
  where s.tenant_id = p_tenant_id and s.welcome_enabled
    -- Who agreed to nothing is not told so on every visit.
    and (exists (select from public.participants p where p.tenant_id = p_tenant_id and p.id = p_participant_id and p.whatsapp_opt_in_at is not null)
      or private.agrees(p_tenant_id, p_participant_id, 'email', 'all'))
$function$;

create or replace function private.whatsapp_credentials_to_check()
  returns SETOF uuid
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.credentials_to_check('whatsapp', array['whatsapp_cloud'])
$function$;

create or replace function private.whatsapp_signals (
  p_messages jsonb
)
  returns jsonb
  language sql
  immutable
  set search_path to ''
  AS $function$
  select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('surface', 'whatsapp', 'kind', 'message', 'external_id', m -> 'external_id',
    'author_id', coalesce(m ->> 'wa_id', m ->> 'user_id'), 'target_id', m -> 'number_id', 'text', m -> 'text', 'happened_at', m -> 'happened_at')))
  from jsonb_array_elements(p_messages) m
$function$;

create or replace function public.acknowledge_rule (
  tenant_id uuid,
  rule text,
  version integer,
  campaign_id uuid default null::uuid
)
  returns uuid
  language sql
  set search_path to ''
  AS $function$
  select private.acknowledge_rule(
    acknowledge_rule.tenant_id, acknowledge_rule.rule, acknowledge_rule.version, acknowledge_rule.campaign_id)
$function$;

create or replace function public.approve_completion (
  tenant_id uuid,
  completion_id uuid,
  note text default null::text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.approve_completion(approve_completion.tenant_id, approve_completion.completion_id, approve_completion.note)
$function$;

create or replace function public.confirm_sign_up (
  tenant_id uuid,
  code text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.confirm_sign_up(confirm_sign_up.tenant_id, confirm_sign_up.code)
$function$;

create or replace function public.list_credentials (
  tenant_id uuid
)
  returns table (
    provider public.provider,
    kind text,
    account jsonb,
    fingerprint text,
    health public.credential_health,
    state text,
    reason text,
    advice text,
    expires_at timestamp with time zone,
    checked_at timestamp with time zone,
    scopes text[]
  )
  language sql
  set search_path to ''
  AS $function$
  select * from private.list_credentials(list_credentials.tenant_id)
$function$;

create or replace function public.opt_in (
  tenant_id uuid,
  channel text,
  wording text default null::text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.opt_in(opt_in.tenant_id, opt_in.channel, opt_in.wording)
$function$;

create or replace function public.opt_out (
  tenant_id uuid,
  channel text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.opt_out(opt_out.tenant_id, opt_out.channel)
$function$;

create or replace function public.preview_message (
  tenant_id uuid,
  kind public.message_kind,
  channel text default 'whatsapp'::text,
  language text default null::text
)
  returns jsonb
  language sql
  stable
  set search_path to ''
  AS $function$
  select private.preview_message(preview_message.tenant_id, preview_message.kind, preview_message.channel, preview_message.language)
$function$;

create or replace function public.recheck_credential (
  tenant_id uuid,
  provider public.provider
)
  returns boolean
  language sql
  set search_path to ''
  AS $function$
  select private.recheck_credential(recheck_credential.tenant_id, recheck_credential.provider)
$function$;

create or replace function public.reject_completion (
  tenant_id uuid,
  completion_id uuid,
  reason text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.reject_completion(reject_completion.tenant_id, reject_completion.completion_id, reject_completion.reason)
$function$;

create or replace function public.resume_sending (
  tenant_id uuid
)
  returns boolean
  language sql
  set search_path to ''
  AS $function$
  select private.resume_sending(resume_sending.tenant_id)
$function$;

create or replace function public.set_cohort (
  tenant_id uuid,
  participant_ids uuid[],
  cohort_id uuid default null::uuid
)
  returns integer
  language sql
  set search_path to ''
  AS $function$
  select private.set_cohort(set_cohort.tenant_id, set_cohort.participant_ids, set_cohort.cohort_id)
$function$;

create or replace function public.start_linking (
  tenant_id uuid,
  platform text
)
  returns jsonb
  language sql
  set search_path to ''
  AS $function$
  select private.start_linking(start_linking.tenant_id, start_linking.platform)
$function$;

create or replace function public.unlink_account (
  tenant_id uuid,
  platform text
)
  returns boolean
  language sql
  set search_path to ''
  AS $function$
  select private.unlink_account(unlink_account.tenant_id, unlink_account.platform)
$function$;

alter table "jobs"."backlogs"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "backlogs_job_fkey" foreign key (job) references jobs.definitions(job) on delete cascade;

alter table "private"."built_in_messages"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "built_in_messages_pkey" primary key (kind, channel, language);

alter table "private"."link_codes"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "link_codes_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "private"."post_readings"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "post_readings_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "private"."proofs"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "proofs_completion_fkey" foreign key (tenant_id, completion_id)
    references public.completions(tenant_id, id) on delete cascade;

alter table "private"."signal_codes"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "signal_codes_signal_fkey" foreign key (tenant_id, signal_id)
    references private.signals(tenant_id, id) on delete cascade;

alter table "private"."signals"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "signals_tenant_fkey" foreign key (tenant_id) references public.tenants(id) on delete cascade;

alter table "public"."acknowledgements"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "acknowledgements_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."campaign_strategies"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "campaign_strategies_campaign_fkey" foreign key (tenant_id, campaign_id)
    references public.campaigns(tenant_id, id) on delete cascade;

alter table "public"."campaigns"
  add constraint "promotion_texts_are_not_too_long"
    check
    (((octet_length(official_rules) <= 50000) AND (octet_length(eligibility) <= 10000) AND
    (octet_length(prize_terms) <= 10000) AND (octet_length(release_text) <= 10000)));

alter table "public"."campaigns"
  add constraint "reward_after_is_up_to_30_days"
    check (((reward_after >= '00:00:01'::interval) AND (reward_after <= '30 days'::interval)));

alter table "public"."cohorts"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "cohorts_tenant_fkey" foreign key (tenant_id) references public.tenants(id) on delete cascade;

alter table "public"."completion_decisions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "completion_decisions_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."completions"
  add constraint "method_is_one_of_the_known"
    check
    ((method = ANY (ARRAY['api'::text, 'webhook'::text, 'link'::text, 'honor_system'::text,
    'statistical'::text, 'manual'::text])));

alter table "public"."completions"
  add constraint "one_claim_per_code" unique (tenant_id, code);

alter table "public"."completions"
  add constraint "route_is_one_of_the_known"
    check ((route = ANY (ARRAY['api'::text, 'signal'::text, 'strategy'::text])));

alter table "public"."credentials"
  add constraint "account_is_a_small_object"
    check (((jsonb_typeof(account) = 'object'::text) AND (octet_length((account)::text) <= 16000)));

alter table "public"."credentials"
  add constraint "kind_belongs_to_the_provider"
    check
    ((((provider = 'meta'::public.provider) AND (kind = ANY (ARRAY['facebook_login'::text,
    'instagram_login'::text]))) OR
    ((provider = 'whatsapp'::public.provider) AND (kind = ANY (ARRAY['whatsapp_cloud'::text, 'waapi'::text,
    'gateway'::text]))) OR ((provider = 'stripe'::public.provider) AND (kind = 'own_key'::text)) OR
    ((provider = 'email'::public.provider) AND (kind = 'resend'::text))));

alter table "public"."credentials"
  add constraint "state_is_one_of_the_known"
    check
    ((state = ANY (ARRAY['unchecked'::text, 'ok'::text, 'expired'::text, 'permission_lost'::text,
    'role_lost'::text,
    'checkpoint'::text,
    'password_changed'::text, 'app_removed'::text, 'invalid'::text, 'unconfirmed'::text, 'blocked'::text])));

alter table "public"."data_deletions"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "data_deletions_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."follower_counts"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "follower_counts_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."linked_accounts"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "linked_accounts_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "public"."message_settings"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "message_settings_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."message_templates"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "message_templates_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."message_templates"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "one_template_per_kind_channel_and_language" unique (tenant_id, kind, channel, language);

alter table "public"."notification_outbox"
  add constraint "category_is_one_of_the_known"
    check ((category = ANY (ARRAY['utility'::text, 'marketing'::text])));

alter table "public"."notification_outbox"
  add constraint "channel_is_one_of_the_known"
    check ((channel = ANY (ARRAY['whatsapp'::text, 'email'::text])));

alter table "public"."notification_outbox"
  add constraint "dedupe_key_is_short"
    check (((char_length(dedupe_key) >= 1) AND (char_length(dedupe_key) <= 200)));

alter table "public"."notification_outbox"
  add constraint "delivery_is_one_of_the_known"
    check ((delivery = ANY (ARRAY['sent'::text, 'delivered'::text, 'read'::text, 'failed'::text])));

alter table "public"."notification_outbox"
  add constraint "notification_outbox_template_fkey" foreign key (tenant_id, template_id)
    references public.message_templates(tenant_id, id) on delete set null (template_id);

alter table "public"."notification_outbox"
  add constraint "notification_outbox_tenant_fkey" foreign key (tenant_id) references public.tenants(id)
    on delete cascade;

alter table "public"."notification_outbox"
  add constraint "one_message_per_dedupe_key" unique (tenant_id, dedupe_key);

alter table "public"."opt_ins"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "opt_ins_participant_fkey" foreign key (tenant_id, participant_id)
    references public.participants(tenant_id, id) on delete cascade;

alter table "public"."participants"
  add constraint "language_is_a_language_tag"
    check ((language ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'::text));

alter table "public"."participants"
  add constraint "participants_cohort_fkey" foreign key (tenant_id, cohort_id)
    references public.cohorts(tenant_id, id) on delete set null (cohort_id);

alter table "public"."reminder_settings"
  -- squawk-ignore adding-serial-primary-key-field
  add constraint "reminder_settings_campaign_fkey" foreign key (tenant_id, campaign_id)
    references public.campaigns(tenant_id, id) on delete cascade;

alter table "public"."social_tasks"
  add constraint "a_direct_message_task_has_a_keyword_and_no_other" check (((keyword IS
    NOT NULL) = ((kind)::text = 'instagram_dm_keyword'::text)));

alter table "public"."social_tasks"
  add constraint "comments_reactions_likes_and_reposts_name_their_post" check (((post_id IS
    NOT NULL) =
    ((kind)::text = ANY (ARRAY['instagram_comment'::text, 'facebook_comment'::text, 'facebook_reaction'::text,
    'instagram_like'::text, 'x_repost'::text]))));

alter table "public"."social_tasks"
  add constraint "keyword_is_a_few_plain_words"
    check
    (((char_length(keyword) <= 40) AND (keyword ~ '[[:alnum:]]'::text) AND (keyword !~ '[[:cntrl:]]'::text)
    AND (keyword = lower(btrim(keyword)))));

alter table "public"."social_tasks"
  add constraint "link_tasks_have_an_address_and_no_other" check (((url IS
    NOT NULL) = ((kind)::text = ANY (ARRAY['link_visit'::text, 'link_sign_up'::text]))));

alter table "public"."social_tasks"
  add constraint "url_is_https_without_a_user"
    check
    (((octet_length(url) <= 2000) AND (url ~*
    '^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?([/?#][!-~]*)?$'::text) AND
    (url !~ '[\\<>"`]'::text)));

create view "public"."reviews" with (security_invoker=true) AS  SELECT c.tenant_id,
    c.id AS completion_id,
    t.campaign_id,
    g.name AS campaign,
    c.task_id,
    t.title,
    (t.kind)::text AS kind,
    c.participant_id,
    p.display_name,
    p.instagram_username,
    c.code,
    c.claimed_at,
    c.reason,
    c.evidence
   FROM (((public.completions c
     JOIN public.social_tasks t ON (((t.tenant_id = c.tenant_id) AND (t.id = c.task_id))))
     JOIN public.campaigns g ON (((g.tenant_id = t.tenant_id) AND (g.id = t.campaign_id))))
     JOIN public.participants p ON (((p.tenant_id = c.tenant_id) AND (p.id = c.participant_id))))
  WHERE ((c.status = 'manual_review'::public.completion_status) AND (c.tenant_id = ANY (ARRAY( SELECT private.tenant_ids('viewer'::public.member_role) AS tenant_ids))));

create view "public"."verification_summary" with (security_invoker=true) AS  SELECT c.tenant_id,
    t.campaign_id,
    g.name AS campaign,
    c.task_id,
    t.title,
    (t.kind)::text AS kind,
    (c.status)::text AS status,
    c.method,
        CASE
            WHEN (c.method = 'statistical'::text) THEN 'a statistical draw, not proven'::text
            WHEN (c.method = 'honor_system'::text) THEN 'on the participants'' word, not proven'::text
            WHEN (c.method = 'manual'::text) THEN 'decided by a person'::text
            WHEN (c.method IS NOT NULL) THEN 'shown by the platform or by our own link'::text
            ELSE 'not decided'::text
        END AS basis,
    COALESCE((c.method = ANY (ARRAY['statistical'::text, 'honor_system'::text])), false) AS is_estimate,
    count(*) AS completions,
    sum(
        CASE
            WHEN (c.status = 'verified'::public.completion_status) THEN t.reward_spins
            ELSE 0
        END) AS spins
   FROM ((public.completions c
     JOIN public.social_tasks t ON (((t.tenant_id = c.tenant_id) AND (t.id = c.task_id))))
     JOIN public.campaigns g ON (((g.tenant_id = t.tenant_id) AND (g.id = t.campaign_id))))
  WHERE (c.tenant_id = ANY (ARRAY( SELECT private.tenant_ids('viewer'::public.member_role) AS tenant_ids)))
  GROUP BY c.tenant_id, t.campaign_id, g.name, c.task_id, t.title, t.kind, c.status, c.method;

create index attempts_finished_at_idx on only jobs.attempts using brin (finished_at)
  with (autosummarize='on', pages_per_range='16');

create index batches_request_idx on jobs.batches using btree (request)
  where (request is not null);

create index lanes_job_reason_tenant_id_idx on jobs.lanes using btree (job, reason, tenant_id)
  where (reason = ANY (ARRAY['breaker'::text, 'cap'::text, 'paused'::text]));

create index conversations_touched_at_idx on private.conversations using btree (touched_at);

create index link_codes_expires_at_idx on private.link_codes using btree (expires_at);

create index link_codes_tenant_id_participant_id_idx on private.link_codes
  using btree (tenant_id, participant_id);

create index proofs_tenant_id_completion_id_idx on private.proofs using btree (tenant_id, completion_id);

create index signal_codes_tenant_id_signal_id_idx on private.signal_codes using btree (tenant_id, signal_id);

create index signals_received_at_idx on private.signals using btree (received_at);

create index signals_tenant_id_author_id_idx on private.signals using btree (tenant_id, author_id, target_id)
  where (author_id is not null);

create index signals_tenant_id_author_username_idx on private.signals
  using btree (tenant_id, author_username, target_id)
  where (author_username is not null);

create index signals_tenant_id_mentions_idx on private.signals using btree (tenant_id, happened_at)
  where (kind = 'mention'::text);

create index webhook_events_received_at_idx on private.webhook_events using btree (received_at);

create index webhook_removals_removed_at_idx on private.webhook_removals using btree (removed_at);

create index acknowledgements_tenant_id_rule_idx on public.acknowledgements
  using btree (tenant_id, rule, version);

create index completion_decisions_tenant_id_completion_id_idx on public.completion_decisions
  using btree (tenant_id, completion_id);

create index completions_settle_at_idx on public.completions using btree (settle_at, tenant_id)
  where (settle_at is not null);

create index completions_signal_code_idx on public.completions using btree (code)
  where ((route = 'signal'::text) AND (status = 'pending'::public.completion_status));

create index completions_tenant_id_review_idx on public.completions using btree (tenant_id, claimed_at)
  where (status = 'manual_review'::public.completion_status);

create index completions_tenant_id_settle_at_idx on public.completions using btree (tenant_id, settle_at)
  where (settle_at is not null);

create index data_deletions_confirmation_code_idx on public.data_deletions using btree (confirmation_code);

create index notification_outbox_provider_message_id_idx on public.notification_outbox
  using btree (provider_message_id)
  where (provider_message_id is not null);

create index notification_outbox_tenant_id_completion_id_idx on public.notification_outbox
  using btree (tenant_id, completion_id);

create index notification_outbox_tenant_id_template_id_idx on public.notification_outbox
  using btree (tenant_id, template_id);

create index notification_outbox_unknown_since_idx on public.notification_outbox using btree (unknown_since)
  where (unknown_since is not null);

create index opt_ins_tenant_id_participant_id_idx on public.opt_ins
  using btree (tenant_id, participant_id, channel, category, at desc, "position" desc);

create index participants_tenant_id_cohort_id_idx on public.participants using btree (tenant_id, cohort_id);

create index participants_tenant_id_facebook_user_id_idx on public.participants
  using btree (tenant_id, facebook_user_id);

create index reminder_settings_enabled_idx on public.reminder_settings using btree (tenant_id)
  where enabled;

create trigger platform_credentials_after_update_restart_sender
  after update of fingerprint on private.platform_credentials
  for each row
  when (((new.provider = 'whatsapp'::public.provider) AND (new.fingerprint <> old.fingerprint)))
  execute function private.restart_sender();

create trigger campaign_strategies_before_update_keep_row_rules
  before update on public.campaign_strategies
  for each row
  execute function private.keep_row_rules();

create trigger campaigns_after_insert_add_reminder_settings
  after insert on public.campaigns referencing NEW table as new_campaigns
  for each STATEMENT
  execute function private.add_reminder_settings();

create trigger campaigns_after_insert_add_strategies
  after insert on public.campaigns referencing NEW table as new_campaigns
  for each STATEMENT
  execute function private.add_campaign_strategies();

create trigger campaigns_after_update_look_again_at_held
  after update on public.campaigns
  for each row
  when
    (((new.notify_from IS DISTINCT FROM old.notify_from) OR (new.notify_until IS DISTINCT FROM
    old.notify_until) OR (new.time_zone IS DISTINCT FROM old.time_zone) OR
    (new.notifications_enabled IS DISTINCT FROM old.notifications_enabled) OR
    (new.status IS DISTINCT FROM old.status) OR (new.ends_at IS DISTINCT FROM old.ends_at)))
  execute function private.look_again_at_held();

create trigger campaigns_before_write_check_promotion
  before insert or update of status,
    promotion, official_rules, eligibility, ends_at, prize_terms, release_text on public.campaigns
  for each row
  execute function private.check_promotion();

create trigger cohorts_before_update_keep_row_rules
  before update on public.cohorts
  for each row
  execute function private.keep_row_rules();

create trigger completion_decisions_before_update_refuse
  before update on public.completion_decisions
  for each row
  execute function private.refuse_new_history();

create trigger credentials_after_update_restart_sender
  after update of fingerprint on public.credentials
  for each row
  when (((new.provider = 'whatsapp'::public.provider) AND (new.fingerprint <> old.fingerprint)))
  execute function private.restart_sender();

create trigger message_settings_before_update_keep_row_rules
  before update on public.message_settings
  for each row
  execute function private.keep_row_rules();

create trigger message_templates_before_update_keep_row_rules
  before update on public.message_templates
  for each row
  execute function private.keep_row_rules();

create trigger message_templates_before_write_check
  before insert or update of kind,
    body,
    subject,
    category,
    whatsapp_template_name,
    whatsapp_template_language, whatsapp_parameters, whatsapp_parameters_are_named on public.message_templates
  for each row
  execute function private.check_message_template();

create trigger opt_ins_before_update_keep
  before update on public.opt_ins
  for each row
  execute function private.keep_entry();

create trigger participants_after_insert_note_consent
  after insert on public.participants referencing NEW table as new_people
  for each STATEMENT
  execute function private.note_consent();

create trigger participants_after_update_note_consent
  after update on public.participants referencing OLD table as old_people NEW table as new_people
  for each STATEMENT
  execute function private.note_consent();

create trigger participants_before_write_date_consent
  before insert or update of whatsapp_opt_in_at on public.participants
  for each row
  execute function private.date_consent();

create trigger reminder_settings_before_update_keep_row_rules
  before update on public.reminder_settings
  for each row
  execute function private.keep_row_rules();

create trigger social_tasks_before_write_check
  before insert or update of title, keyword, active on public.social_tasks
  for each row
  execute function private.check_task();

create trigger tenants_after_delete_forget_sender
  after delete on public.tenants
  for each row
  execute function private.forget_sender();

create trigger tenants_after_delete_forget_webhooks
  after delete on public.tenants
  for each row
  execute function private.forget_webhooks();

create trigger tenants_after_insert_add_message_settings
  after insert on public.tenants referencing NEW table as new_tenants
  for each STATEMENT
  execute function private.add_message_settings();

create policy "acknowledgements_select_members" on "public"."acknowledgements"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "campaign_strategies_select_members" on "public"."campaign_strategies"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "campaign_strategies_update_members" on "public"."campaign_strategies"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "cohorts_delete_admins" on "public"."cohorts"
  for delete
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "cohorts_insert_members" on "public"."cohorts"
  for insert
  to "authenticated"
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "cohorts_select_members" on "public"."cohorts"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "cohorts_update_members" on "public"."cohorts"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "completion_decisions_select_members" on "public"."completion_decisions"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "data_deletions_select_admins" on "public"."data_deletions"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "follower_counts_select_members" on "public"."follower_counts"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "linked_accounts_select_members_and_self" on "public"."linked_accounts"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (participant_id = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "message_settings_select_members" on "public"."message_settings"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "message_settings_update_admins" on "public"."message_settings"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('admin'::public.member_role) AS tenant_ids))));

create policy "message_templates_delete_admins" on "public"."message_templates"
  for delete
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('admin'::public.member_role) as tenant_ids))));

create policy "message_templates_insert_members" on "public"."message_templates"
  for insert
  to "authenticated"
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "message_templates_select_members" on "public"."message_templates"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "message_templates_update_members" on "public"."message_templates"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "opt_ins_select_members_and_self" on "public"."opt_ins"
  for select
  to "authenticated"
  using
    (((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))) or
    (participant_id = ANY (ARRAY( select private.participant_ids() as participant_ids)))));

create policy "reminder_settings_select_members" on "public"."reminder_settings"
  for select
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('viewer'::public.member_role) as tenant_ids))));

create policy "reminder_settings_update_members" on "public"."reminder_settings"
  for update
  to "authenticated"
  using ((tenant_id = ANY (ARRAY( select private.tenant_ids('member'::public.member_role) as tenant_ids))))
  with
    check ((tenant_id = ANY (ARRAY( SELECT private.tenant_ids('member'::public.member_role) AS tenant_ids))));

create policy "rules_select_everyone" on "public"."rules"
  for select
  to "authenticated"
  using ((rule is not null));

create policy "task_kinds_select_everyone" on "public"."task_kinds"
  for select
  to "authenticated"
  using ((kind is not null));

comment on column "jobs"."alerts"."details" is 'The numbers behind the message, as they are now; of a growing backlog also breach_at, when its plan''s promise is expected to break.';

comment on column "jobs"."batches"."request" is 'The call that asked for it, by the worker''s own id: the same call made again, because its answer was lost, gets the same batch.';

comment on column "jobs"."items"."begun_by" is 'The call of begin_effects that marked it, by the worker''s own id: made again, it is answered as the first time.';

comment on column "jobs"."run_tenants"."started_at" is 'When the run started, so that its counts go when it goes.';

comment on column "jobs"."runs"."expected" is 'How many items a scheduled run has; when so many have ended, the run is over. Null for queues and manual runs.';

comment on column "private"."conversations"."start_word_at" is 'When the person last wrote START or the like. No consent: that needs words that name the business.';

comment on column "private"."post_readings"."read_since" is 'Comments since then are stored; a task that is older reads the post again.';

comment on column "private"."signals"."via" is 'api: a worker read it; webhook: the platform told; link: our own link, or the business.';

comment on column "private"."webhook_events"."counts" is 'What was found in the body: updates, what each kind became, and what was ignored with the reason.';

comment on column "private"."webhook_events"."errors" is 'Errors that the provider told about the account itself: code and title.';

comment on column "public"."campaign_strategies"."statistical_basis" is 'rate: acceptance_rate of the claims are accepted. follower_growth: as large a share as the followers of that day account for.';

comment on column "public"."campaign_strategies"."strategy" is 'What decides a claim that no platform can prove: api and manual leave it to a person, honor_system believes it, statistical draws.';

comment on column "public"."campaigns"."promotion" is 'True: a promotion to enter. It needs official_rules, eligibility, ends_at, prize_terms and release_text before it can be active.';

comment on column "public"."campaigns"."release_text" is 'The release of the platforms by the entrants, and that none of them sponsors or administers it.';

comment on column "public"."campaigns"."reward_after" is 'A proof that can be undone is looked at again after so long, and only then rewarded. Null: at once.';

comment on column "public"."campaigns"."username_match" is 'True: a comment under the user name that the participant typed proves a claim. False: only a linked account or the code does.';

comment on column "public"."completions"."action_url" is 'Where the participant goes on: the chat, with the code in place, or the link of the task.';

comment on column "public"."completions"."method" is 'How it was decided: api and webhook (a platform showed it), link (our own link, or the business confirmed), manual (a person), honor_system and statistical (nothing was proven). Null while it is open.';

comment on column "public"."completions"."route" is 'What is to decide it: api (the worker asks the platform), signal (an event from outside), strategy (nothing can prove it).';

comment on column "public"."completions"."seen_at" is 'When it was first proven, in a campaign that looks twice; the second look decides.';

comment on column "public"."completions"."settle_at" is 'When settle-claims ends it if nothing else has by then.';

comment on column "public"."credentials"."scopes" is 'The names of what the token may do, as the provider''s check told them.';

comment on column "public"."credentials"."secret_at" is 'Since when the token is the one that it is: entered by a member, or refreshed.';

comment on column "public"."credentials"."secret_keys" is 'Which parts the secret has, such as access_token and app_secret: names, no values.';

comment on column "public"."credentials"."state" is 'Why it does not work, in one word that clients can branch on; ok where it does. list_credentials says what to do about it.';

comment on column "public"."data_deletions"."confirmation_code" is 'What the person gets to ask for the status with; not guessable.';

comment on column "public"."data_deletions"."erased" is 'How many rows of each kind were erased or emptied.';

comment on column "public"."message_settings"."resend_unknown" is 'true: a WhatsApp message of which nobody knows after 15 minutes whether it left is sent once more. The person may get it twice.';

comment on column "public"."message_templates"."paused_at" is 'Since when the approved template is not used, because WhatsApp refused it (pause_reason). Saving the template again resumes it.';

comment on column "public"."message_templates"."whatsapp_parameters" is 'The variables that fill the approved template, in its order.';

comment on column "public"."message_templates"."whatsapp_template_name" is 'The template that Meta approved for it: sent instead of the text where the 24-hour window is closed.';

comment on column "public"."notification_outbox"."dedupe_key" is 'The reason for a message: one message per reason and tenant.';

comment on column "public"."notification_outbox"."delivery" is 'What the provider reported since: sent, delivered, read or failed. It only moves forward.';

comment on column "public"."notification_outbox"."earlier_message_ids" is 'Provider''s ids of tries that failed before it was queued again: their late reports are no news.';

comment on column "public"."notification_outbox"."payload" is 'What goes out besides the text, frozen: {"template": {"name","language","parameters"}}.';

comment on column "public"."opt_ins"."category" is 'all: messages of the business at all; marketing: only those, as WhatsApp''s own switch has it.';

comment on column "public"."participants"."cohort_id" is 'The group that the participant is in; its strategy comes before the campaign''s.';

comment on column "public"."participants"."instagram_username" is 'What the participant typed: a claim, not a proof. The proven accounts are in linked_accounts; the same holds for facebook_user_id.';

comment on column "public"."social_tasks"."keyword" is 'instagram_dm_keyword: what the message has to say, as words of its own, whatever the case.';

comment on column "public"."social_tasks"."platform_credential_allowed" is 'False: only the tenant''s own credential may verify this task, never the platform''s.';

comment on column "public"."social_tasks"."url" is 'Link kinds: where the participant is sent. {code} in it becomes the code of the claim.';

comment on column "public"."task_kinds"."proven_by" is 'worker: the job verify-social-tasks asks; signal: an event from outside decides; nobody: the strategy.';

comment on column "public"."task_kinds"."rewarded_engagement" is 'True where a platform forbids the reward or frowns upon it: the tenant acknowledges that first.';

comment on column "public"."task_kinds"."rule_version" is 'The version of the rule by which claims of this kind are decided; every decision notes it.';

comment on function "jobs"."batch_again"(uuid) is 'The open batch that this call was given before, as it was answered then; null when there is none.';

comment on function "jobs"."batch_answer"(jobs.definitions, jobs.batches, json) is 'A batch in the shape in which workers get it.';

comment on function "jobs"."begin_effects"(bigint, bigint[], uuid) is 'To be called right before calls that have no idempotency key. Returns the items that may be sent: still leased to this batch and not begun before. With the same request (the caller''s own id of this call) a repeated call is answered as the first one: nothing was sent between the two. If the worker is lost after this, they end as unknown and are not sent again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."close_batch"(bigint, jsonb, boolean, uuid) is 'Outcomes of items of a batch: [{"item_id","outcome":"done","result"} | {"outcome":"retry","error","after_seconds"?} | {"outcome":"refused","error"} | {"outcome":"snooze","seconds"|"until","reason"} | {"outcome":"throttled","seconds","error"} | {"outcome":"credential_broken","error"}]. Returns {"closed","stale","next"}: stale items belong to this batch no more (lease over, or closed before) and were not touched. Safe to repeat; with the same request (the caller''s own id of this call) the next batch of a lost answer is handed out again. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."deletion_status"(text) is 'For functions/webhooks: {"status", "requested_at", "completed_at"} of a deletion by its confirmation code; null when there is none.';

comment on function "jobs"."forecast"(timestamp with time zone) is 'Jobs whose backlog grows faster than it drains, with the time at which the strictest target of the plans that wait is expected to break.';

comment on function "jobs"."hurry"(text, uuid, uuid[]) is 'Makes the waiting items of these subjects due now; returns how many. Those in a batch are left alone.';

comment on function "jobs"."keep_refreshed_token"(bigint, bigint, text, timestamp
  with time zone) is 'Stores the renewed token of the tenant whose item this is. Only for a batch of refresh-meta-tokens whose lease lives, and only in the place of the token that went out with it. False: too late, nothing changed. Definer: writes Vault, which no API role may.';

comment on function "jobs"."look_at_backlogs"(timestamp with time zone) is 'Notes how many items of each job are ready, and how that has changed since the last look.';

comment on function "jobs"."make_partition"(text, text, text, date, date) is 'Makes a partition of history for the time from p_from until p_until (UTC days), if it is missing and nothing is in its place.';

comment on function "jobs"."make_partitions"(timestamp with time zone) is 'History partitions: of attempts today and three days ahead are there, those older than 30 days are dropped; of runs this month and the next, those older than 90 days are dropped.';

comment on function "jobs"."next_batch"(uuid, text, integer, uuid) is 'The next batch for a drain: {"batch_id","job","now","lease_until","lease_seconds","tenants":[{"tenant_id","slug","credential","items":[{"item_id","attempt","trace_id","subject_id","data"}]}]}, or null when nothing is awake. With a request (the caller''s own id of this call) it can be repeated: the batch of an answer that was lost is handed out again. The only place where secrets leave the database. Definer: writes the engine''s tables and reads the tenants'' secrets in Vault, which service_role must not do row by row.';

comment on function "jobs"."open_alert"(uuid, text, text, jsonb) is 'Opens an alert unless the incident has an open one; then only its details follow.';

comment on function "jobs"."receive_deletion"(uuid, text, text) is 'For functions/webhooks, once Meta''s signed_request is checked: notes that a person wants to be forgotten by this tenant and enqueues it. {"confirmation_code", "retry_after_seconds"}; the same request again has the same code. Definer: the engine''s tables are written by its functions only.';

comment on function "jobs"."receive_webhook"(uuid, text, jsonb, text) is 'For functions/webhooks, once the signature is checked: stores a body (source meta or whatsapp, sha256 of its bytes in hex) and enqueues it, in one transaction. {"event_id", "new", "retry_after_seconds"}: new is false for a redelivery; with retry_after_seconds nothing was stored. Definer: private.webhook_events is not reachable for any API role.';

comment on function "jobs"."record_comments"(bigint, uuid, jsonb) is 'The worker tells which comments it read: {"surface","post_id","comments":[{"id","at","author_id","username","codes"}],"newest":{"id","at"},"complete"}. Taken only while the batch''s lease lives and holds an item of this tenant for this post. Returns how many were new. Definer: signals are not reachable for any API role.';

comment on function "jobs"."record_follower_count"(uuid, text, integer, date) is 'Notes how many followers an account had on a day; false when that day has its count already. Definer: one door for all who measure.';

comment on function "jobs"."record_visit"(text, text, boolean) is 'For functions/webhooks: notes that the link of a claim was visited (counts = false: not) and returns the task''s own url; null when no claim of a link task has this code. Definer: signals are reachable for no API role.';

comment on function "jobs"."wake_due_lanes"(jobs.definitions, double precision, timestamp
  with time zone, timestamp with time zone, integer) is 'Wakes sleeping lanes whose wake_at has come since p_due_from, at most p_limit, at the virtual time of the job; returns how many.';

comment on function "jobs"."watch"(timestamp with time zone) is 'Opens and closes the alerts that can be seen from the tables: failed, overdue, backlog (growing or too old), dead items, doorbells lost, tick missing. Called by the tick once a minute.';

comment on function "jobs"."webhook_secrets"(text, text) is 'For functions/webhooks: {"tenant_id", "app_secrets": […], "verify_token"} of a tenant (slug, id, or "platform") for meta or whatsapp; null when there is none. Definer: reads Vault, which no API role may.';

comment on function "private"."acknowledge_rule"(uuid, text, integer, uuid) is 'Behind public.acknowledge_rule. Definer: no API role may write acknowledgements. Admins and the platform.';

comment on function "private"."act_on_failures"(uuid[], uuid[], integer[], text[]) is
  'What WhatsApp''s codes mean: later (131049), no marketing (131050), template paused, sending stopped with an alert. Messages are marked as failed already.';

comment on function "private"."action_url"(public.social_tasks, text) is 'The link with which a participant does what a claim says; null for kinds without one.';

comment on function "private"."add_campaign_strategies"() is 'Trigger: every campaign has its strategy. Definer: whoever makes a campaign may not insert one.';

comment on function "private"."add_message_settings"() is 'Trigger: every tenant has its row of settings. Definer: whoever makes a tenant may not insert them.';

comment on function "private"."add_reminder_settings"() is 'Trigger: every campaign has its row of settings. Definer: whoever makes a campaign may not insert them.';

comment on function "private"."agrees"(uuid, uuid, text, text) is 'What the latest entry of the ledger says; null when there is none.';

comment on function "private"."announce_review"(uuid, uuid) is 'Tells a participant what a person decided on the claim: the congratulation (never a second one), or why it was not accepted.';

comment on function "private"."apply_credential_checks"(jobs.ended[]) is 'Apply function of the checks and of refresh-meta-tokens: health, end and scopes of the credential that was checked, if it is still the one; a broken one parks its owner''s work. An end within 7 days opens an alert.';

comment on function "private"."apply_emails"(jobs.ended[]) is 'Apply function of send-emails: what became of each message. A message is decided once.';

comment on function "private"."apply_messages"(jobs.ended[]) is 'Apply function of send-notifications: what became of each message, and what WhatsApp''s codes mean for others. A message is decided once.';

comment on function "private"."approve_completion"(uuid, uuid, text) is 'Behind public.approve_completion. Definer: like private.review_completion, which asks for the role.';

comment on function "private"."candidates_of_completions"(uuid[], uuid[]) is 'Signals that may prove these claims, by code, by linked account, by name.';

comment on function "private"."candidates_of_signals"(uuid, uuid[]) is 'Open claims that these signals of a tenant may prove, by code, by linked account, by name.';

comment on function "private"."check_credential"(public.provider, text, jsonb, jsonb) is
  'Raises 22023 unless secret and account have what this kind needs. No message repeats what was given.';

comment on function "private"."check_gateway"(jsonb, jsonb) is 'Raises 22023 with the first fault of a gateway''s request template.';

comment on function "private"."check_message_template"() is 'Trigger: refuses a text with a variable that its kind does not know; what was saved anew is not paused any more.';

comment on function "private"."check_promotion"() is 'Trigger: a promotion becomes active only with all of its texts and its end, and with the release acknowledged. Definer: acknowledgements are looked up whoever asks.';

comment on function "private"."check_task"() is 'Trigger: refuses titles that ask for timeline shares or tagged friends, and tasks that reward follows or likes until somebody acknowledged the rule. Definer: acknowledgements are looked up whoever asks.';

comment on function "private"."claims_are_due"() is 'Condition of settle-claims: a claim is due.';

comment on function "private"."claims_by_messages"(jsonb) is 'Of messages to the platform''s WhatsApp number those whose code names exactly one open whatsapp_join claim, by tenant. Tenants with a WhatsApp credential of their own are left out.';

comment on function "private"."code_effect"(integer) is 'What a WhatsApp code means beyond the one message: template (the window is closed), later, no marketing, pause template, stop number, stop tenant; null: nothing.';

comment on function "private"."codes_in"(text) is 'The codes OC-XXXXXXXX in a text, in capitals; no letter or digit touches them.';

comment on function "private"."confirm_sign_up"(uuid, text) is 'Behind public.confirm_sign_up. Definer: claims are written by functions only. Members and the platform.';

comment on function "private"."congratulate"(uuid[], uuid[]) is 'The messages for completions that were verified and have earned their spins; once per completion.';

comment on function "private"."contact_link"(uuid, text, text) is 'The ig.me, m.me or wa.me link that brings a code to the tenant; null when the tenant''s credential does not name its account.';

comment on function "private"."count_ignored"(text[]) is 'How often each reason occurs, the 20 most frequent ones.';

comment on function "private"."credential_advice"(text, text) is 'What an owner has to do about a credential in this state, in one sentence.';

comment on function "private"."credential_state"(text) is 'The state of a credential that was refused with this reason; invalid where the reason has no code that says more.';

comment on function "private"."credentials_to_check"(public.provider, text[]) is 'Whose credentials of these kinds are to be checked: tenants, and the platform under its own id.';

comment on function "private"."date_consent"() is 'Trigger: nobody agrees in the future.';

comment on function "private"."decide_by_signals"(uuid, uuid[], uuid[], uuid, text) is
  'Verifies the open claims of a tenant that these signals prove, or any signal for claims of these participants or this one. Returns how many. p_credential_source: whose credential the signals were read with.';

comment on function "private"."decide_completions"(private.verdict[], text, text[], boolean, uuid) is
  'Ends claims by verdicts (verified, failed, manual_review, needs_user_action): status, record of the decision, spins and message of each, once. Only claims in one of p_from are touched. p_item_ended: the item that brought it is over, so a second look needs a new one. Returns how many were decided.';

comment on function "private"."draw"(uuid) is 'The draw of a claim: a number from 0 up to 1 that is always the same for it.';

comment on function "private"."end_queued"(uuid[], uuid[], text, text, text) is 'Ends queued messages of these people as no_consent, in all campaigns; returns how many. Their items are cancelled when they come up.';

comment on function "private"."enqueue_messages"() is 'Trigger: every queued message gets its item, in the same transaction. Definer: whoever inserts a message may not write the engine''s items.';

comment on function "private"."erase_person"(uuid, text) is 'Erases what a tenant knows of a person by Meta''s id: the linked account, signals, ids and names in evidence and profiles, bodies of webhooks. Returns counts.';

comment on function "private"."forget_sender"() is 'Trigger: the conversations of a deleted tenant go with it. Definer: they are not granted to anyone.';

comment on function "private"."forget_webhooks"() is 'Trigger: what a deleted tenant was told by webhook goes with it. Definer: no API role reaches these tables.';

comment on function "private"."gateway_url_fault"(text, text) is 'What is wrong with a gateway''s url, or null. Holds nothing of the url.';

comment on function "private"."growth_platform"(text) is 'Whose followers a kind of task makes grow; null for kinds that make none grow.';

comment on function "private"."has_tokens_to_refresh"() is 'Condition of refresh-meta-tokens: without a token to renew there is no run.';

comment on function "private"."is_json"(text) is 'True when a text is JSON.';

comment on function "private"."is_start_word"(text) is 'True when a message is nothing but START or the like.';

comment on function "private"."is_stop_word"(text) is 'True when a message is nothing but a word that ends messages, in one of the common languages.';

comment on function "private"."is_token_to_refresh"(public.credentials) is 'True when a Meta token is due to be renewed and can be.';

comment on function "private"."json_list"(jsonb) is 'The elements of an array; none of anything else.';

comment on function "private"."json_text"(jsonb) is 'A string or a number as text; null for anything else and for an empty string.';

comment on function "private"."keep_entry"() is 'Trigger: an entry of the ledger stays as it is; it goes with its participant only.';

comment on function "private"."link_accounts"(uuid, private.signals[]) is 'Links the authors of signals that carry a one-time code to the participants who were given it; returns those participants.';

comment on function "private"."list_credentials"(uuid) is 'Behind public.list_credentials. Definer: its limit is counted where no API role may write. Checks that the caller is an admin; reads no secret.';

comment on function "private"."load_credential_checks"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of both checks: which credential is meant, by its fingerprint; an answer about another one is not taken.';

comment on function "private"."load_emails"(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of send-emails: what was frozen in the outbox, with its id as idempotency key. Held outside the campaign''s hours; ended a day after the first try.';

comment on function "private"."load_messages"(uuid[], bigint[], uuid[], jsonb[]) is 'Load function of send-notifications: text, template and recipient, until when it may leave. Held: outside the campaign''s hours, while sending is stopped, within 6 seconds of the last message to the person, over the number''s throughput. Cancelled: after the campaign''s end or without consent.';

comment on function "private"."load_token_refreshes"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of refresh-meta-tokens: which token is meant; one that was renewed meanwhile is left alone.';

comment on function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]) is
  'Load function of verify-social-tasks: post, code and proven accounts of each pending completion, and what is known already. Items without a pending completion are cancelled; one that was seen once is held until the second look.';

comment on function "private"."look_again_at_held"() is 'Trigger: messages held for a campaign''s hours are claimed again when these change. Definer: members may not write the engine''s items.';

comment on function "private"."message_text"(uuid, public.message_kind, text, text[]) is
  'The text for a kind of message: by language in the given order, then English; a tenant''s own before the built-in one.';

comment on function "private"."message_variables"(text) is 'The variables that a message of this kind knows.';

comment on function "private"."meta_credentials_to_check"() is 'Eligible function of check-credentials.';

comment on function "private"."new_code"() is 'A new code for a claim or a link, like OC-1A2B3C4D.';

comment on function "private"."note_consent"() is 'Trigger: every change of whatsapp_opt_in_at becomes an entry of the ledger; a withdrawal ends what is queued. Definer: nobody may write the ledger.';

comment on function "private"."opt_in"(uuid, text, text) is 'Behind public.opt_in. Definer: writes the ledger of consent, which no API role may. Participants only, for themselves.';

comment on function "private"."opt_in_wording"(uuid, text) is 'The words of the platform''s setting opt_in_wording for a tenant.';

comment on function "private"."opt_out"(uuid, text) is 'Behind public.opt_out. Definer: writes the ledger of consent, which no API role may. Participants only, for themselves.';

comment on function "private"."preview_message"(uuid, public.message_kind, text, text) is
  'Behind public.preview_message. Definer: the built-in texts are not granted to anyone. Members only.';

comment on function "private"."process_deletion"(uuid, uuid) is 'Does one requested deletion and forgets whom it was about; null when it is done already.';

comment on function "private"."process_meta"(private.webhook_events, jsonb) is 'Hands the updates of one Meta body to private.record_signals and drops what was removed; returns the counts.';

comment on function "private"."process_webhook"(uuid, uuid) is 'Works off one stored webhook and notes what was found; null when there is nothing left to do.';

comment on function "private"."process_webhooks"(uuid, uuid, jsonb) is 'Work function of process-webhooks: a stored body, or a deletion that a person asked for through Meta.';

comment on function "private"."process_whatsapp"(private.webhook_events, jsonb) is 'Hands the parts of one WhatsApp body to the functions that record messages, statuses and preferences; returns the counts.';

comment on function "private"."proven"(private.candidate[]) is 'The claims that are proven by these candidates, each with its evidence (ids and times) and what it uses up as a proof.';

comment on function "private"."purge_signals"(uuid, uuid, jsonb) is 'Work function of purge-signals: forgets signals after 30 days and link codes a day after their end. At most 100,000 signals a time.';

comment on function "private"."purge_webhooks"(uuid, uuid, jsonb) is 'Work function of purge-webhooks: deletes stored webhooks after webhook_days, processed or not, and removals with them.';

comment on function "private"."queue_message"(uuid, text, text, uuid, jsonb, text, uuid, uuid, text) is
  'Queues one message and returns its id; the one that was there already when the dedupe key is known.';

comment on function "private"."queue_messages"(jsonb) is 'Renders and queues messages, or notes why they are not sent; returns how many are new. A dedupe key is used once. channel null: the one that the person agreed to.';

comment on function "private"."recheck_credential"(uuid, public.provider) is 'Behind public.recheck_credential. Definer: health and lanes are the engine''s to write. Checks that the caller is an admin of the tenant.';

comment on function "private"."reconcile_messages"(uuid, uuid, jsonb) is 'Work function of reconcile-messages: queues the tenant''s messages that may go again.';

comment on function "private"."record_message_statuses"(uuid, jsonb) is 'What became of messages, as WhatsApp reports it: delivery only moves forward, unknown messages are reconciled, codes of failed ones are acted on. {"updated","unchanged","unknown","skipped"}: unknown are reports of messages that are not ours.';

comment on function "private"."record_preferences"(uuid, jsonb) is 'People switched a business''s marketing messages off or on in WhatsApp: the ledger says so, queued ones end. {"recorded","skipped","stopped","resumed"}.';

comment on function "private"."record_signals"(uuid, jsonb) is 'What was seen outside: [{"surface","kind","external_id","author_id"?,"author_username"?,"target_id"?,"text"?,"referral"?,"details"?,"happened_at"?}]. {"recorded","skipped","decided"}: bad entries are skipped, known ones neither recorded nor skipped. Order and repetition change nothing.';

comment on function "private"."record_whatsapp_inbound"(uuid, jsonb) is 'What people wrote to a number: opens the 24-hour window, and STOP in any of the common languages ends consent at once. {"recorded","skipped","stopped"}.';

comment on function "private"."refuse_new_history"() is 'Trigger: a decision that was written down stays as it is.';

comment on function "private"."refuse_own_claim"(uuid, uuid) is 'Raises 42501 when the claim is the caller''s own.';

comment on function "private"."reject_completion"(uuid, uuid, text) is 'Behind public.reject_completion. Definer: like private.review_completion, which asks for the role.';

comment on function "private"."remind_participants"(uuid, uuid, jsonb) is 'Work function of remind-participants: one reminder per claim, in the tenant''s outbox.';

comment on function "private"."remove_signals"(uuid, jsonb) is 'Deletes the signals of what was removed outside and keeps the removal, so that an addition told later does not bring it back. Returns how many went.';

comment on function "private"."render_message"(text, jsonb) is 'A text with its {{variables}} filled in.';

comment on function "private"."request_origin"() is 'Address and browser of the request as far as it tells them; nulls otherwise.';

comment on function "private"."requeue_messages"(uuid[], uuid[], timestamp
  with time zone, text) is 'Queues messages again for a time, each with a new item; returns how many. Only for those of which it is known, or was decided, that they may go again.';

comment on function "private"."require_acknowledgement"(uuid, text) is 'Raises PT409, with the call that helps, unless the tenant acknowledged the rule in its version in force. The platform itself passes.';

comment on function "private"."require_unofficial_gateways"() is 'Raises PT409 while the setting unofficial_gateways is off.';

comment on function "private"."restart_sender"() is 'Trigger: a WhatsApp credential that was set anew may send. Definer: private.senders is not granted to anyone.';

comment on function "private"."resume_sending"(uuid) is 'Behind public.resume_sending. Definer: private.senders is not granted to anyone. Checks that the caller is an admin.';

comment on function "private"."review_completion"(uuid, uuid, boolean, text) is 'A person decides a claim that waits for review, once: of two at the same time the second is told that it is decided. Definer: claims are written by functions only. Members and the platform.';

comment on function "private"."reward_text"(text, integer) is 'The variable {{reward}}: how many spins have been added, in words of the language.';

comment on function "private"."route_of"(public.social_tasks, public.task_kinds, text) is
  'What is to decide claims of a task now: api, signal or strategy.';

comment on function "private"."set_cohort"(uuid, uuid[], uuid) is 'Behind public.set_cohort. Definer: members may change nothing else of a participant. Members and the platform.';

comment on function "private"."settle_claims"(uuid, uuid, jsonb) is 'Work function of settle-claims: claims of one tenant whose time has come. The strategy decides what nothing could prove; a link that was not opened and a step that was not taken are definite; a signal that did not come is not, and goes to a person.';

comment on function "private"."settles_at"(text, text, text, timestamp
  with time zone) is 'When the strategy decides a claim that nothing can prove.';

comment on function "private"."somebody_to_remind"() is 'Condition function of remind-participants: some campaign wants reminders.';

comment on function "private"."something_to_reconcile"() is 'Condition function of reconcile-messages: some message may go again.';

comment on function "private"."split_meta"(jsonb, jsonb, timestamp
  with time zone) is 'The updates of one Meta body, a row each: signal, removal, or ignored with the reason. Account: that of the tenant''s credential.';

comment on function "private"."split_whatsapp"(jsonb, jsonb, timestamp
  with time zone) is 'The parts of one WhatsApp body, a row each: message, status, preference, error, or ignored with the reason.';

comment on function "private"."start_linking"(uuid, text) is 'Behind public.start_linking. Definer: link codes are not reachable for any API role.';

comment on function "private"."start_sender"(uuid) is 'The sender may send again and its alert closes; false when it was not stopped.';

comment on function "private"."stop_marketing"(uuid[], uuid[], timestamp
  with time zone[], text) is 'Notes that people want no marketing by WhatsApp and ends what is queued of it; returns how many that was news of.';

comment on function "private"."stop_sender"(uuid, integer, text) is 'Stops a sender (a tenant, or the platform''s number for all that use it) and opens one alert.';

comment on function "private"."take_signals"(uuid, jsonb, text, text) is 'Behind record_signals and record_comments: stores what is new, links accounts by codes, decides the claims that are proven now. p_credential_source: whose credential read it; null for what was told.';

comment on function "private"."tenants_of_number"(uuid, text[]) is 'For whom a person''s word to a number counts: the number''s tenant; for the platform''s number every tenant that wrote to the person through it.';

comment on function "private"."tenants_to_reconcile"() is 'Eligible function of reconcile-messages: active tenants with messages that may go again.';

comment on function "private"."tenants_to_remind"() is 'Eligible function of remind-participants: active tenants with claims to remind of.';

comment on function "private"."tenants_with_due_claims"() is 'Tenants for which settle-claims has something to do.';

comment on function "private"."time_of"(text) is 'The time that a report gives, when it is one and within the last 31 days; else null.';

comment on function "private"."tokens_to_refresh"() is 'Eligible function of refresh-meta-tokens.';

comment on function "private"."unknown_placeholders"(text) is 'Placeholders of a template other than number, message, sender and api_key; null when there are none.';

comment on function "private"."unlink_account"(uuid, text) is 'Behind public.unlink_account. Definer: linked accounts are written by calls only. Own ones only.';

comment on function "private"."unreminded"(uuid) is 'Claims of a tenant (null: of all) whose time ends soon and of which the participant was not reminded yet.';

comment on function "private"."unresolved"(uuid) is 'Messages with an unknown outcome that may go again: e-mails within the life of their key, others where the tenant chose so, after 15 minutes.';

comment on function "private"."wa_key"(text) is 'A phone number or wa_id as it is compared: WhatsApp drops or adds a digit in Brazil, Mexico and Argentina.';

comment on function "private"."wake_claims"(uuid, uuid[]) is 'Claims of these participants that waited for a step of theirs become pending again, with a new item.';

comment on function "private"."warn_of_credential"(uuid, public.provider, text) is 'Opens the alert about a credential that will stop to work soon; without a reason it closes it.';

comment on function "private"."webhook_tenant"(text) is 'The tenant that an address of functions/webhooks names by slug or id; jobs.platform_id() for "platform"; null for nobody.';

comment on function "private"."webhook_time"(jsonb) is 'A provider''s time: unix seconds or milliseconds; null when it is neither.';

comment on function "private"."welcome"(uuid, uuid, uuid) is 'Welcomes a participant to a campaign, once, where the tenant wants it (message_settings.welcome_enabled) and the person agreed to messages.';

comment on function "private"."whatsapp_credentials_to_check"() is 'Eligible function of check-whatsapp-credentials: the gateways have nothing to ask.';

comment on function "private"."whatsapp_signals"(jsonb) is 'WhatsApp messages in the form that private.record_signals takes.';

comment on function "public"."acknowledge_rule"(uuid, text, integer, uuid) is 'Takes note of a rule for the tenant, in the version in force; admins only. Returns the id of the record. Errors: 42501, PT404 no such rule or campaign, PT409 another version is in force, PT429 too many.';

comment on function "public"."approve_completion"(uuid, uuid, text) is 'A member accepts a claim that waits for review: spins and message follow. {"completion_id","status"}. Errors: 42501 (also for one''s own claim), PT404 no such claim, PT409 it does not wait (any more), PT429.';

comment on function "public"."claim_task"(uuid, uuid) is 'The caller, a participant, says that a task is done: {"completion_id","status","code","deadline","action_url"?}. It will be verified in the background; action_url opens the chat or the link with the code in place. Errors: PT404 no such task for this caller, 23505 claimed already, PT429 too many.';

comment on function "public"."confirm_sign_up"(uuid, text) is 'The business says that the sign-up with this code took place; members and the platform. {"completion_id","status"}; again is the same answer. Errors: 42501, PT404 no claim with this code, PT429.';

comment on function "public"."list_credentials"(uuid) is 'A tenant''s access to its providers: which account, how healthy, why, what to do, until when; never a secret. Admins only. Errors: 42501, PT429.';

comment on function "public"."opt_in"(uuid, text, text) is 'The caller, a participant, agrees to messages of the business by whatsapp or email: {"channel","agreed","wording","version"}. wording: what the person was shown; it must name the business. Errors: PT404 no participant, 22023 channel or wording, 23514 no phone number, PT429 too many.';

comment on function "public"."opt_out"(uuid, text) is 'The caller, a participant, takes the consent back, for all campaigns at once; what waits is not sent. Errors: PT404, 22023, PT429.';

comment on function "public"."preview_message"(uuid, public.message_kind, text, text) is
  'What a message would say, with sample values: {"language","built_in","category","subject","text"}; members only. Errors: 42501, 22023.';

comment on function "public"."recheck_credential"(uuid, public.provider) is 'Tries a credential again that was repaired at the provider and not here: the work parked on it wakes. Admins only. False when there is none. Errors: 42501, PT429.';

comment on function "public"."reject_completion"(uuid, uuid, text) is 'A member rejects a claim that waits for review, with the reason that the participant reads. {"completion_id","status"}. Errors: 42501, 22023 no reason, PT404 no such claim, PT409 it does not wait (any more), PT429.';

comment on function "public"."resume_sending"(uuid) is 'Lets a tenant''s WhatsApp messages go again after WhatsApp had stopped them; admins only, null for the platform''s own number (the platform only). False when nothing was stopped. Error: 42501.';

comment on function "public"."set_cohort"(uuid, uuid[], uuid) is 'Puts participants into a cohort, or out of any with null; members only. Returns how many changed. Errors: 42501, PT404 no such cohort.';

comment on function "public"."set_credential"(uuid, public.provider, text, jsonb, jsonb) is
  'Stores a tenant''s access to a provider; admins only. Secrets: meta and whatsapp_cloud {"access_token", "app_secret"?, "verify_token"?}, waapi {"token"}, gateway, stripe and email {"api_key"}. Returns the fingerprint, never the secret. Work parked on the old one wakes. Errors: 42501, 22023 with what is wrong, PT409 a gateway that is not official needs an acknowledgement or is switched off, PT429 too many.';

comment on function "public"."start_linking"(uuid, text) is 'The caller, a participant, wants to link an account (platform: instagram, facebook, whatsapp): {"code","expires_at","link"}. The code has to come from that account within the hour, as a message or in a comment; link opens the chat with it, or is null. Errors: PT404, 22023, PT429 too many.';

comment on function "public"."unlink_account"(uuid, text) is 'The caller''s account of this platform is linked no more; false when none was. What it has proven stays proven, and proves nothing for others. Error: PT404.';

comment on table "jobs"."backlogs" is 'Per job how many items were ready at the last look, by how many each minute they have grown since the one before, and for how many looks in a row.';

comment on table "jobs"."clocks" is 'Per job the virtual time of fair queueing: no awake lane is behind it by more than one quantum. And from where on a claim looks: no awake lane has an earlier vtime than served_from, none is due before due_from, no open batch is older than oldest_batch; lanes due before woken_to were woken, but for those that became visible late. These keep claims quick while an old snapshot keeps everything that was left behind; they are forgotten every 30 seconds.';

comment on table "jobs"."open_runs" is 'The run that stands for the present stretch of work of a queue: one at a time.';

comment on table "jobs"."run_tenants" is 'Per-tenant counts of a run, by drain; the sum over drains is what the tenant got. In the same months as its runs.';

comment on table "jobs"."run_tenants_default" is 'Catches counts for which no monthly partition was made.';

comment on table "jobs"."runs" is 'What the log, the health check and the dashboard show: start, end, status, counts and the first errors of each run. In partitions by month.';

comment on table "jobs"."runs_default" is 'Catches runs for which no monthly partition was made.';

comment on table "jobs"."slots" is 'The slots that have had their run: each job''s slot once. As long as history is kept.';

comment on table "private"."built_in_messages" is 'What messages say where a tenant has no text of its own.';

comment on table "private"."conversations" is 'Per sender and recipient: when the person last wrote (opens the window of 24 hours), and from when on the next message may go (6 s apart).';

comment on table "private"."link_codes" is 'Codes that link one account of one platform, once, within an hour.';

comment on table "private"."post_readings" is 'The newest comment of the last complete reading of a post: the next one may stop there, what is older is stored as signals.';

comment on table "private"."proofs" is 'Comments, media, messages and accounts that have proven a claim of a task, like `comment:17900…` or `author:1256…`.';

comment on table "private"."senders" is 'Per sender (a tenant, or the platform''s id): the throughput used, and why sending is stopped.';

comment on table "private"."signal_codes" is 'The codes that were found in signals, one row each, for the way from a claim to its signals.';

comment on table "private"."signals" is 'Things that were seen outside, each once: the first report counts. No media, no text but the first 200 characters of a message. Gone after 30 days.';

comment on table "private"."webhook_events" is 'Bodies of webhooks, signed by the provider, by the tenant whose address they came to (the platform''s own under jobs.platform_id()). The same body again is the same row: a redelivery costs nothing. Rows go after webhook_days at the latest.';

comment on table "private"."webhook_removals" is 'Comments, reactions and messages that were removed outside. Kept as long as the bodies of webhooks.';

comment on table "public"."acknowledgements" is 'Who took note of which version of a rule, when, with the text as it stood. Written by acknowledge_rule only.';

comment on table "public"."campaign_strategies" is 'What decides the claims of a campaign that nothing can prove, where the participant''s cohort does not say. For members only.';

comment on table "public"."cohorts" is 'Groups of participants. What a cohort says about the strategy comes before the campaign; what it leaves null is the campaign''s.';

comment on table "public"."completion_decisions" is 'Append-only record of every decision about a claim: by which version of the rule, how, on what evidence (ids and times), by whom. actor: worker, webhook, settle-claims, member or platform.';

comment on table "public"."data_deletions" is 'Requests of people, sent by Meta, to be forgotten: when they came, what was erased. The id of the person is kept until that is done.';

comment on table "public"."follower_counts" is 'How many followers an account had on a day (UTC): the first count of a day stays.';

comment on table "public"."linked_accounts" is 'The proven accounts of participants, by the ids under which the platforms show them to this tenant (IGSID, PSID, WhatsApp id). An account belongs to one participant of a tenant. Written when a code comes back from it.';

comment on table "public"."message_settings" is 'A tenant''s choices for its messages: a welcome on joining, whether messages with an unknown outcome are sent again, the throughput of its number.';

comment on table "public"."message_templates" is 'What a tenant''s messages say, by kind, channel and language, with {{variables}}. Where a row is missing the built-in text is used.';

comment on table "public"."opt_ins" is 'The ledger of consent, append-only: who agreed or took it back, for which channel, in which words, by which way and when. The latest entry counts.';

comment on table "public"."reminder_settings" is 'Whether a campaign reminds participants of claims that are not proven yet (by default not), and how long before the time for it ends.';

comment on table "public"."rules" is 'What a tenant acknowledges before it does what a platform frowns upon. The highest version of a rule is the one in force.';

comment on table "public"."social_tasks" is 'Tasks of a campaign: what a participant does and what it earns. What can be proven about each kind is in task_kinds. verify_within is how long a claim may take to be proven.';

comment on table "public"."task_kinds" is 'The truth about each kind of task: auto (a platform''s API says yes or no), webhook (seen when it happens, never afterwards), best_effort (a yes counts, silence means nothing), manual_review (nothing proves it: a strategy or a person decides).';

comment on view "public"."reviews" is 'Claims that wait for a person, with the reason in words, for members of the tenant. Decide them with approve_completion and reject_completion.';

comment on view "public"."verification_summary" is 'Claims per campaign, task, status and method, for members of the tenant. is_estimate: nothing was proven, a draw or the participants'' word decided.';

revoke all on function "jobs"."batch_again"(uuid) from public;

revoke all on function "jobs"."batch_answer"(jobs.definitions, jobs.batches, json) from public;

revoke all on function "jobs"."begin_effects"(bigint, bigint[], uuid) from public;

grant execute on function "jobs"."begin_effects"(bigint, bigint[], uuid) to "service_role";

revoke all on function "jobs"."close_batch"(bigint, jsonb, boolean, uuid) from public;

grant execute on function "jobs"."close_batch"(bigint, jsonb, boolean, uuid) to "service_role";

revoke all on function "jobs"."deletion_status"(text) from public;

grant execute on function "jobs"."deletion_status"(text) to "service_role";

revoke all on function "jobs"."forecast"(timestamp with time zone) from public;

revoke all on function "jobs"."hurry"(text, uuid, uuid[]) from public;

revoke all
  on function "jobs"."keep_refreshed_token"(bigint, bigint, text, timestamp with time zone)
  from public;

grant execute
  on function "jobs"."keep_refreshed_token"(bigint, bigint, text, timestamp with time zone)
  to "service_role";

revoke all on function "jobs"."look_at_backlogs"(timestamp with time zone) from public;

revoke all on function "jobs"."make_partition"(text, text, text, date, date) from public;

revoke all on function "jobs"."next_batch"(uuid, text, integer, uuid) from public;

grant execute on function "jobs"."next_batch"(uuid, text, integer, uuid) to "service_role";

revoke all on function "jobs"."open_alert"(uuid, text, text, jsonb) from public;

revoke all on function "jobs"."receive_deletion"(uuid, text, text) from public;

grant execute on function "jobs"."receive_deletion"(uuid, text, text) to "service_role";

revoke all on function "jobs"."receive_webhook"(uuid, text, jsonb, text) from public;

grant execute on function "jobs"."receive_webhook"(uuid, text, jsonb, text) to "service_role";

revoke all on function "jobs"."record_comments"(bigint, uuid, jsonb) from public;

grant execute on function "jobs"."record_comments"(bigint, uuid, jsonb) to "service_role";

revoke all on function "jobs"."record_follower_count"(uuid, text, integer, date) from public;

grant execute
  on function "jobs"."record_follower_count"(uuid, text, integer, date)
  to "service_role";

revoke all on function "jobs"."record_visit"(text, text, boolean) from public;

grant execute on function "jobs"."record_visit"(text, text, boolean) to "service_role";

revoke all
  on function "jobs"."wake_due_lanes"(jobs.definitions, double precision, timestamp with time zone, timestamp
    with time zone, integer)
  from public;

revoke all on function "jobs"."webhook_secrets"(text, text) from public;

grant execute on function "jobs"."webhook_secrets"(text, text) to "service_role";

revoke all on function "private"."acknowledge_rule"(uuid, text, integer, uuid) from public;

grant execute
  on function "private"."acknowledge_rule"(uuid, text, integer, uuid)
  to "authenticated", "service_role";

revoke all on function "private"."act_on_failures"(uuid[], uuid[], integer[], text[]) from public;

revoke all on function "private"."action_url"(public.social_tasks, text) from public;

revoke all on function "private"."add_campaign_strategies"() from public;

revoke all on function "private"."add_message_settings"() from public;

revoke all on function "private"."add_reminder_settings"() from public;

revoke all on function "private"."agrees"(uuid, uuid, text, text) from public;

revoke all on function "private"."announce_review"(uuid, uuid) from public;

revoke all on function "private"."apply_credential_checks"(jobs.ended[]) from public;

revoke all on function "private"."apply_emails"(jobs.ended[]) from public;

revoke all on function "private"."apply_messages"(jobs.ended[]) from public;

revoke all on function "private"."approve_completion"(uuid, uuid, text) from public;

grant execute
  on function "private"."approve_completion"(uuid, uuid, text)
  to "authenticated", "service_role";

revoke all on function "private"."candidates_of_completions"(uuid[], uuid[]) from public;

revoke all on function "private"."candidates_of_signals"(uuid, uuid[]) from public;

revoke all on function "private"."check_gateway"(jsonb, jsonb) from public;

revoke all on function "private"."check_message_template"() from public;

revoke all on function "private"."check_promotion"() from public;

revoke all on function "private"."check_task"() from public;

revoke all on function "private"."claims_are_due"() from public;

revoke all on function "private"."claims_by_messages"(jsonb) from public;

revoke all on function "private"."code_effect"(integer) from public;

revoke all on function "private"."codes_in"(text) from public;

revoke all on function "private"."confirm_sign_up"(uuid, text) from public;

grant execute
  on function "private"."confirm_sign_up"(uuid, text)
  to "authenticated", "service_role";

revoke all on function "private"."congratulate"(uuid[], uuid[]) from public;

revoke all on function "private"."contact_link"(uuid, text, text) from public;

revoke all on function "private"."count_ignored"(text[]) from public;

revoke all on function "private"."credential_advice"(text, text) from public;

revoke all on function "private"."credential_state"(text) from public;

revoke all on function "private"."credentials_to_check"(public.provider, text[]) from public;

revoke all on function "private"."date_consent"() from public;

revoke all on function "private"."decide_by_signals"(uuid, uuid[], uuid[], uuid, text) from public;

revoke all
  on function "private"."decide_completions"(private.verdict[], text, text[], boolean, uuid)
  from public;

revoke all on function "private"."draw"(uuid) from public;

revoke all on function "private"."end_queued"(uuid[], uuid[], text, text, text) from public;

revoke all on function "private"."erase_person"(uuid, text) from public;

revoke all on function "private"."forget_sender"() from public;

revoke all on function "private"."forget_webhooks"() from public;

revoke all on function "private"."gateway_url_fault"(text, text) from public;

revoke all on function "private"."growth_platform"(text) from public;

revoke all on function "private"."has_tokens_to_refresh"() from public;

revoke all on function "private"."is_json"(text) from public;

revoke all on function "private"."is_start_word"(text) from public;

revoke all on function "private"."is_stop_word"(text) from public;

revoke all on function "private"."is_token_to_refresh"(public.credentials) from public;

revoke all on function "private"."json_list"(jsonb) from public;

revoke all on function "private"."json_text"(jsonb) from public;

revoke all on function "private"."keep_entry"() from public;

revoke all on function "private"."link_accounts"(uuid, private.signals[]) from public;

revoke all on function "private"."list_credentials"(uuid) from public;

grant execute on function "private"."list_credentials"(uuid) to "authenticated", "service_role";

revoke all on function "private"."load_credential_checks"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_emails"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_token_refreshes"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."load_verifications"(uuid[], bigint[], uuid[], jsonb[]) from public;

revoke all on function "private"."look_again_at_held"() from public;

revoke all on function "private"."message_text"(uuid, public.message_kind, text, text[]) from public;

revoke all on function "private"."message_variables"(text) from public;

grant execute on function "private"."message_variables"(text) to "authenticated", "service_role";

revoke all on function "private"."meta_credentials_to_check"() from public;

revoke all on function "private"."new_code"() from public;

revoke all on function "private"."note_consent"() from public;

revoke all on function "private"."opt_in"(uuid, text, text) from public;

grant execute on function "private"."opt_in"(uuid, text, text) to "authenticated";

revoke all on function "private"."opt_in_wording"(uuid, text) from public;

revoke all on function "private"."opt_out"(uuid, text) from public;

grant execute on function "private"."opt_out"(uuid, text) to "authenticated";

revoke all on function "private"."preview_message"(uuid, public.message_kind, text, text) from public;

grant execute
  on function "private"."preview_message"(uuid, public.message_kind, text, text)
  to "authenticated", "service_role";

revoke all on function "private"."process_deletion"(uuid, uuid) from public;

revoke all on function "private"."process_meta"(private.webhook_events, jsonb) from public;

revoke all on function "private"."process_webhook"(uuid, uuid) from public;

revoke all on function "private"."process_webhooks"(uuid, uuid, jsonb) from public;

revoke all on function "private"."process_whatsapp"(private.webhook_events, jsonb) from public;

revoke all on function "private"."proven"(private.candidate[]) from public;

revoke all on function "private"."purge_signals"(uuid, uuid, jsonb) from public;

revoke all on function "private"."purge_webhooks"(uuid, uuid, jsonb) from public;

revoke all
  on function "private"."queue_message"(uuid, text, text, uuid, jsonb, text, uuid, uuid, text)
  from public;

revoke all on function "private"."queue_messages"(jsonb) from public;

revoke all on function "private"."recheck_credential"(uuid, public.provider) from public;

grant execute
  on function "private"."recheck_credential"(uuid, public.provider)
  to "authenticated", "service_role";

revoke all on function "private"."reconcile_messages"(uuid, uuid, jsonb) from public;

revoke all on function "private"."record_message_statuses"(uuid, jsonb) from public;

revoke all on function "private"."record_preferences"(uuid, jsonb) from public;

revoke all on function "private"."record_signals"(uuid, jsonb) from public;

revoke all on function "private"."record_whatsapp_inbound"(uuid, jsonb) from public;

revoke all on function "private"."refuse_new_history"() from public;

revoke all on function "private"."refuse_own_claim"(uuid, uuid) from public;

revoke all on function "private"."reject_completion"(uuid, uuid, text) from public;

grant execute
  on function "private"."reject_completion"(uuid, uuid, text)
  to "authenticated", "service_role";

revoke all on function "private"."remind_participants"(uuid, uuid, jsonb) from public;

revoke all on function "private"."remove_signals"(uuid, jsonb) from public;

revoke all on function "private"."render_message"(text, jsonb) from public;

revoke all on function "private"."request_origin"() from public;

revoke all
  on function "private"."requeue_messages"(uuid[], uuid[], timestamp with time zone, text)
  from public;

revoke all on function "private"."require_acknowledgement"(uuid, text) from public;

revoke all on function "private"."require_unofficial_gateways"() from public;

revoke all on function "private"."restart_sender"() from public;

revoke all on function "private"."resume_sending"(uuid) from public;

grant execute on function "private"."resume_sending"(uuid) to "authenticated", "service_role";

revoke all on function "private"."review_completion"(uuid, uuid, boolean, text) from public;

revoke all on function "private"."reward_text"(text, integer) from public;

revoke all on function "private"."route_of"(public.social_tasks, public.task_kinds, text) from public;

revoke all on function "private"."set_cohort"(uuid, uuid[], uuid) from public;

grant execute
  on function "private"."set_cohort"(uuid, uuid[], uuid)
  to "authenticated", "service_role";

revoke all on function "private"."settle_claims"(uuid, uuid, jsonb) from public;

revoke all on function "private"."settles_at"(text, text, text, timestamp with time zone) from public;

revoke all on function "private"."somebody_to_remind"() from public;

revoke all on function "private"."something_to_reconcile"() from public;

revoke all on function "private"."split_meta"(jsonb, jsonb, timestamp with time zone) from public;

revoke all on function "private"."split_whatsapp"(jsonb, jsonb, timestamp with time zone) from public;

revoke all on function "private"."start_linking"(uuid, text) from public;

grant execute on function "private"."start_linking"(uuid, text) to "authenticated";

revoke all on function "private"."start_sender"(uuid) from public;

revoke all
  on function "private"."stop_marketing"(uuid[], uuid[], timestamp with time zone[], text)
  from public;

revoke all on function "private"."stop_sender"(uuid, integer, text) from public;

revoke all on function "private"."take_signals"(uuid, jsonb, text, text) from public;

revoke all on function "private"."tenants_of_number"(uuid, text[]) from public;

revoke all on function "private"."tenants_to_reconcile"() from public;

revoke all on function "private"."tenants_to_remind"() from public;

revoke all on function "private"."tenants_with_due_claims"() from public;

revoke all on function "private"."time_of"(text) from public;

revoke all on function "private"."tokens_to_refresh"() from public;

revoke all on function "private"."unknown_placeholders"(text) from public;

revoke all on function "private"."unlink_account"(uuid, text) from public;

grant execute on function "private"."unlink_account"(uuid, text) to "authenticated";

revoke all on function "private"."unreminded"(uuid) from public;

revoke all on function "private"."unresolved"(uuid) from public;

revoke all on function "private"."wa_key"(text) from public;

grant execute on function "private"."wa_key"(text) to "authenticated", "service_role";

revoke all on function "private"."wake_claims"(uuid, uuid[]) from public;

revoke all on function "private"."warn_of_credential"(uuid, public.provider, text) from public;

revoke all on function "private"."webhook_tenant"(text) from public;

revoke all on function "private"."webhook_time"(jsonb) from public;

revoke all on function "private"."welcome"(uuid, uuid, uuid) from public;

revoke all on function "private"."whatsapp_credentials_to_check"() from public;

revoke all on function "private"."whatsapp_signals"(jsonb) from public;

revoke all on function "public"."acknowledge_rule"(uuid, text, integer, uuid) from public;

grant execute
  on function "public"."acknowledge_rule"(uuid, text, integer, uuid)
  to "authenticated", "service_role";

revoke all on function "public"."approve_completion"(uuid, uuid, text) from public;

grant execute
  on function "public"."approve_completion"(uuid, uuid, text)
  to "authenticated", "service_role";

revoke all on function "public"."confirm_sign_up"(uuid, text) from public;

grant execute
  on function "public"."confirm_sign_up"(uuid, text)
  to "authenticated", "service_role";

revoke all on function "public"."list_credentials"(uuid) from public;

grant execute on function "public"."list_credentials"(uuid) to "authenticated", "service_role";

revoke all on function "public"."opt_in"(uuid, text, text) from public;

grant execute on function "public"."opt_in"(uuid, text, text) to "authenticated";

revoke all on function "public"."opt_out"(uuid, text) from public;

grant execute on function "public"."opt_out"(uuid, text) to "authenticated";

revoke all on function "public"."preview_message"(uuid, public.message_kind, text, text) from public;

grant execute
  on function "public"."preview_message"(uuid, public.message_kind, text, text)
  to "authenticated", "service_role";

revoke all on function "public"."recheck_credential"(uuid, public.provider) from public;

grant execute
  on function "public"."recheck_credential"(uuid, public.provider)
  to "authenticated", "service_role";

revoke all on function "public"."reject_completion"(uuid, uuid, text) from public;

grant execute
  on function "public"."reject_completion"(uuid, uuid, text)
  to "authenticated", "service_role";

revoke all on function "public"."resume_sending"(uuid) from public;

grant execute on function "public"."resume_sending"(uuid) to "authenticated", "service_role";

revoke all on function "public"."set_cohort"(uuid, uuid[], uuid) from public;

grant execute
  on function "public"."set_cohort"(uuid, uuid[], uuid)
  to "authenticated", "service_role";

revoke all on function "public"."start_linking"(uuid, text) from public;

grant execute on function "public"."start_linking"(uuid, text) to "authenticated";

revoke all on function "public"."unlink_account"(uuid, text) from public;

grant execute on function "public"."unlink_account"(uuid, text) to "authenticated";

grant select on table "jobs"."backlogs" to "service_role";

grant select on table "public"."acknowledgements" to "authenticated";

grant select on table "public"."acknowledgements" to "service_role";

grant update ("acceptance_rate") on table "public"."campaign_strategies" to "authenticated";

grant update ("statistical_basis") on table "public"."campaign_strategies" to "authenticated";

grant update ("strategy") on table "public"."campaign_strategies" to "authenticated";

grant select on table "public"."campaign_strategies" to "authenticated";

grant delete, insert, select, update on table "public"."campaign_strategies" to "service_role";

revoke all ("eligibility") on table "public"."campaigns" from "authenticated";

grant insert ("eligibility"), update ("eligibility") on table "public"."campaigns" to "authenticated";

revoke all ("official_rules") on table "public"."campaigns" from "authenticated";

grant insert ("official_rules"), update ("official_rules") on table "public"."campaigns" to "authenticated";

revoke all ("prize_terms") on table "public"."campaigns" from "authenticated";

grant insert ("prize_terms"), update ("prize_terms") on table "public"."campaigns" to "authenticated";

revoke all ("promotion") on table "public"."campaigns" from "authenticated";

grant insert ("promotion"), update ("promotion") on table "public"."campaigns" to "authenticated";

revoke all ("release_text") on table "public"."campaigns" from "authenticated";

grant insert ("release_text"), update ("release_text") on table "public"."campaigns" to "authenticated";

revoke all ("reward_after") on table "public"."campaigns" from "authenticated";

grant insert ("reward_after"), update ("reward_after") on table "public"."campaigns" to "authenticated";

revoke all ("username_match") on table "public"."campaigns" from "authenticated";

grant insert ("username_match"), update ("username_match") on table "public"."campaigns" to "authenticated";

grant insert ("acceptance_rate"), update ("acceptance_rate") on table "public"."cohorts" to "authenticated";

grant insert ("name"), update ("name") on table "public"."cohorts" to "authenticated";

grant insert ("statistical_basis"), update ("statistical_basis")
  on table "public"."cohorts"
  to "authenticated";

grant insert ("strategy"), update ("strategy") on table "public"."cohorts" to "authenticated";

grant insert ("tenant_id") on table "public"."cohorts" to "authenticated";

grant delete, select on table "public"."cohorts" to "authenticated";

grant delete, insert, select, update on table "public"."cohorts" to "service_role";

grant select on table "public"."completion_decisions" to "authenticated";

grant select on table "public"."completion_decisions" to "service_role";

revoke all ("scopes") on table "public"."credentials" from "authenticated";

grant select ("scopes") on table "public"."credentials" to "authenticated";

revoke all ("state") on table "public"."credentials" from "authenticated";

grant select ("state") on table "public"."credentials" to "authenticated";

grant select on table "public"."data_deletions" to "authenticated";

grant delete, select on table "public"."data_deletions" to "service_role";

grant select on table "public"."follower_counts" to "authenticated";

grant delete, insert, select on table "public"."follower_counts" to "service_role";

grant select on table "public"."linked_accounts" to "authenticated";

grant delete, insert, select on table "public"."linked_accounts" to "service_role";

grant update ("messages_per_second") on table "public"."message_settings" to "authenticated";

grant update ("resend_unknown") on table "public"."message_settings" to "authenticated";

grant update ("welcome_enabled") on table "public"."message_settings" to "authenticated";

grant select on table "public"."message_settings" to "authenticated";

grant delete, insert, select, update on table "public"."message_settings" to "service_role";

grant insert ("body"), update ("body") on table "public"."message_templates" to "authenticated";

grant insert ("category"), update ("category") on table "public"."message_templates" to "authenticated";

grant insert ("channel") on table "public"."message_templates" to "authenticated";

grant insert ("kind") on table "public"."message_templates" to "authenticated";

grant insert ("language") on table "public"."message_templates" to "authenticated";

grant insert ("subject"), update ("subject") on table "public"."message_templates" to "authenticated";

grant insert ("tenant_id") on table "public"."message_templates" to "authenticated";

grant insert ("whatsapp_parameters_are_named"), update ("whatsapp_parameters_are_named")
  on table "public"."message_templates"
  to "authenticated";

grant insert ("whatsapp_parameters"), update ("whatsapp_parameters")
  on table "public"."message_templates"
  to "authenticated";

grant insert ("whatsapp_template_language"), update ("whatsapp_template_language")
  on table "public"."message_templates"
  to "authenticated";

grant insert ("whatsapp_template_name"), update ("whatsapp_template_name")
  on table "public"."message_templates"
  to "authenticated";

grant delete, select on table "public"."message_templates" to "authenticated";

grant delete, insert, select, update on table "public"."message_templates" to "service_role";

grant select on table "public"."opt_ins" to "authenticated";

grant select on table "public"."opt_ins" to "service_role";

revoke all ("language") on table "public"."participants" from "authenticated";

grant update ("language") on table "public"."participants" to "authenticated";

grant update ("enabled") on table "public"."reminder_settings" to "authenticated";

grant update ("remind_before") on table "public"."reminder_settings" to "authenticated";

grant select on table "public"."reminder_settings" to "authenticated";

grant delete, insert, select, update on table "public"."reminder_settings" to "service_role";

grant select on table "public"."rules" to "authenticated";

grant select on table "public"."rules" to "service_role";

revoke all ("keyword") on table "public"."social_tasks" from "authenticated";

grant insert ("keyword"), update ("keyword") on table "public"."social_tasks" to "authenticated";

revoke all ("platform_credential_allowed") on table "public"."social_tasks" from "authenticated";

grant insert ("platform_credential_allowed"), update ("platform_credential_allowed")
  on table "public"."social_tasks"
  to "authenticated";

revoke all ("url") on table "public"."social_tasks" from "authenticated";

grant insert ("url"), update ("url") on table "public"."social_tasks" to "authenticated";

grant select on table "public"."task_kinds" to "authenticated";

grant select on table "public"."task_kinds" to "service_role";

grant select on table "public"."reviews" to "authenticated";

grant select on table "public"."verification_summary" to "authenticated";

create index notification_outbox_platform_wa_key_idx on public.notification_outbox
  using btree (private.wa_key(recipient))
  where ((credential_source = 'platform'::text) AND (channel = 'whatsapp'::text));

create index participants_tenant_id_wa_key_idx on public.participants
  using btree (tenant_id, private.wa_key(phone));
