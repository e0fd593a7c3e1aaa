/**
 * The scene of the attacks: tenants with everything that a tenant can have, and people in every relation to them. A is the
 * attacker's tenant, B the victim's. Every text of B is a canary, every secret a canary of another kind.
 */
import { createHash } from 'node:crypto';
import type postgres from 'postgres';

/** An id that comes from a name: the same in every run. */
export function uuidOf(name: string): string {
  const hex = createHash('md5').update(name).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `a${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

/** In every text of B. The digits stand where only digits may. */
export const textCanary = /canaryb|7770007/i;
/** In every secret that is given to the platform by a tenant or by the platform itself. */
export const secretCanary = /topsecret/i;

export interface TenantIds {
  tenant: string;
  slug: string;
  campaign: string;
  draft: string;
  task: string;
  /** A task that the participant has not claimed. */
  openTask: string;
  /** One that calls may claim. */
  claimable: string;
  participant: string;
  otherParticipant: string;
  completion: string;
  pending: string;
  message: string;
  template: string;
  spareTemplate: string;
  spins: string;
  item: string;
  deadItem: string;
  batch: string;
  drain: string;
  run: string;
  alert: string;
  invitation: string;
  cohort: string;
  spareCohort: string;
  /** A claim of a sign-up that waits for a person, and its code. */
  review: string;
  signUpCode: string;
}

export interface SeededTenant {
  key: string;
  slug: string;
  /** `canaryb` or a word that is no canary. */
  word: string;
  digits: string;
  members: Record<string, string>;
  participants: [string, string];
}

/** Makes a tenant with rows in every table that can have rows of a tenant. `sql` is the owner of the schema. */
export async function seedTenant(sql: postgres.Sql, given: SeededTenant): Promise<TenantIds> {
  const { key, slug, word, digits } = given;
  const id = (name: string) => uuidOf(`${key} ${name}`);
  const tenant = id('tenant');
  const [participantUser, otherUser] = given.participants;

  await sql`insert into public.tenants (id, slug, name, plan_id) values (${tenant}, ${slug}, ${`${word} tenant`}, 'pro')`;
  for (const [role, user] of Object.entries(given.members)) {
    await sql`
      insert into public.memberships (tenant_id, user_id, role)
      values (${tenant}, ${user}, ${role.replace(/\d/, '')}::public.member_role)`;
  }
  await sql`
    insert into public.campaigns (tenant_id, id, name, status, starts_at)
    values (${tenant}, ${id('campaign')}, ${`${word} campaign`}, 'active', now() - interval '1 day'),
      (${tenant}, ${id('draft')}, ${`${word} draft`}, 'draft', now() - interval '1 day')`;
  await sql`
    insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id, reward_spins)
    select ${tenant}, u.id, ${id('campaign')}, 'instagram_comment', ${`${word} task`}, ${`${digits}1`}, 3
    from unnest(${[id('task'), id('openTask'), id('claimable')]}::uuid[]) u (id)`;
  await sql`
    insert into public.participants (tenant_id, id, user_id, display_name, phone, whatsapp_opt_in_at, instagram_username, facebook_user_id)
    values (${tenant}, ${id('participant')}, ${participantUser}, ${`${word} person`}, ${`+49${digits}1`}, now(), ${`${word}.person`}, ${`${digits}1`}),
      (${tenant}, ${id('otherParticipant')}, ${otherUser}, ${`${word} other`}, ${`+49${digits}2`}, now(), ${`${word}.other`}, ${`${digits}2`})`;
  const evidence = { comment_id: `${digits}9`, author_id: `${digits}8` };
  await sql`
    insert into public.completions (tenant_id, id, task_id, participant_id, status, code, deadline, verified_at, evidence, reason)
    values (${tenant}, ${id('completion')}, ${id('task')}, ${id('participant')}, 'verified', ${`${word}-1`}, now() + interval '1 day',
        now(), ${sql.json(evidence)}, ${word}),
      (${tenant}, ${id('pending')}, ${id('task')}, ${id('otherParticipant')}, 'pending', ${`${word}-2`}, now() + interval '1 day',
        null, null, null)`;
  await sql`
    insert into public.spin_ledger (tenant_id, id, participant_id, campaign_id, completion_id, spins, reason)
    values (${tenant}, ${id('spins')}, ${id('participant')}, ${id('campaign')}, ${id('completion')}, 3, ${word})`;
  await sql`
    insert into public.notification_outbox (tenant_id, id, campaign_id, participant_id, completion_id, kind, recipient, body, status, sent_at)
    values (${tenant}, ${id('message')}, ${id('campaign')}, ${id('participant')}, ${id('completion')}, 'congratulation',
      ${`+49${digits}1`}, ${`${word} body`}, 'sent', now())`;
  await sql`
    insert into public.message_templates (tenant_id, id, kind, body)
    values (${tenant}, ${id('template')}, 'alert', ${`${word} {{message}}`}), (${tenant}, ${id('spareTemplate')}, 'welcome', ${`${word} hello`})`;
  await sql`
    insert into private.opt_in_origins (tenant_id, opt_in_id, user_agent)
    select tenant_id, id, ${word} from public.opt_ins where tenant_id = ${tenant}`;
  await sql`
    insert into private.email_bundles (tenant_id, id, sender, credential_source, credential_fingerprint)
    values (${tenant}, ${id('bundle')}, ${`${word}@example.test`}, 'tenant', ${word})`;
  await sql`
    insert into private.bundled_emails (tenant_id, outbox_id, bundle_id, place)
    values (${tenant}, ${id('message')}, ${id('bundle')}, 1)`;
  await sql`insert into private.conversations (tenant_id, recipient) values (${tenant}, ${`49${digits}1`})`;
  await sql`insert into private.senders (tenant_id) values (${tenant})`;
  await sql`
    insert into public.invitations (tenant_id, id, email, role, token_hash, expires_at)
    values (${tenant}, ${id('invitation')}, ${`${word}-invited@example.test`}, 'viewer', ${createHash('sha256').update(`inv_${key}`).digest('hex')},
      now() + interval '7 days')`;
  await sql`
    insert into public.data_deletions (tenant_id, id, subject, request_sha256)
    values (${tenant}, ${id('deletion')}, ${`${digits}8`}, ${createHash('sha256').update(`deletion ${key}`).digest('hex')})`;
  await sql`
    insert into private.webhook_events (tenant_id, id, source, body, body_sha256)
    values (${tenant}, ${id('webhook')}, 'meta', ${sql.json({ object: 'page', entry: [], note: word })}, ${createHash('sha256').update(`webhook ${key}`).digest('hex')})`;
  await sql`
    insert into private.webhook_removals (tenant_id, surface, kind, external_id, removed_at)
    values (${tenant}, 'facebook', 'comment', ${`${digits}9`}, now())`;
  await sql`insert into public.cohorts (tenant_id, id, name) values (${tenant}, ${id('cohort')}, ${`${word} cohort`}), (${tenant}, ${id('spareCohort')}, ${`${word} spare`})`;
  await sql`
    insert into public.acknowledgements (tenant_id, rule, version, text) values (${tenant}, 'rewarded_engagement', 1, ${word})`;
  await sql`
    insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, username, linked_by)
    values (${tenant}, ${id('participant')}, 'instagram', ${`${digits}3`}, ${word}, 'link code')`;
  await sql`
    insert into public.follower_counts (tenant_id, platform, day, followers) values (${tenant}, 'instagram', '2026-01-01', 1)`;
  await sql`
    insert into public.completion_decisions (tenant_id, completion_id, task_id, participant_id, from_status, to_status, rule_version, reason, actor)
    values (${tenant}, ${id('completion')}, ${id('task')}, ${id('participant')}, 'pending', 'verified', 1, ${word}, 'worker')`;
  await sql`
    insert into private.link_codes (tenant_id, code, participant_id, platform, expires_at)
    values (${tenant}, ${`${word}-3`}, ${id('participant')}, 'instagram', now() + interval '1 hour')`;
  await sql`
    insert into private.signals (tenant_id, id, surface, kind, external_id, via, happened_at)
    values (${tenant}, ${id('signal')}, 'instagram', 'comment', ${`${digits}9`}, 'api', now())`;
  await sql`
    insert into private.signal_codes (tenant_id, code, signal_id) values (${tenant}, ${`${word}-1`}, ${id('signal')})`;
  await sql`
    insert into private.post_readings (tenant_id, surface, post_id, newest_id, newest_at, read_since)
    values (${tenant}, 'instagram', ${`${digits}1`}, ${`${digits}9`}, now(), now())`;
  await sql`
    insert into private.proofs (tenant_id, task_id, proof, completion_id)
    values (${tenant}, ${id('task')}, ${`comment:${digits}9`}, ${id('completion')})`;
  await sql`
    insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, url)
    values (${tenant}, ${id('signUp')}, ${id('campaign')}, 'link_sign_up', ${`${word} sign-up`}, 'https://example.test/')`;
  await sql`
    insert into public.completions (tenant_id, id, task_id, participant_id, status, code, deadline, route)
    values (${tenant}, ${id('review')}, ${id('signUp')}, ${id('participant')}, 'manual_review', ${`${word}-4`.toUpperCase()}, now() + interval '1 day', 'signal')`;
  const secret = (provider: string) => `topsecret-${key}-${provider}`;
  await sql`
    select public.set_credential(${tenant}, 'meta', 'facebook_login', ${sql.json({ access_token: secret('meta') })},
        ${sql.json({ page_id: `${digits}5`, ig_user_id: `${digits}6` })}),
      public.set_credential(${tenant}, 'whatsapp', 'whatsapp_cloud',
        ${sql.json({ access_token: secret('whatsapp'), app_secret: secret('app'), verify_token: secret('word') })},
        ${sql.json({ phone_number_id: `${digits}7` })})`;

  // The platform's own, and made with the first deletion: it is there before anybody attacks.
  await sql`select private.forgetting_key()`;

  // What the engine knows of the tenant.
  const job = 'verify-social-tasks';
  await sql`select jobs.enqueue(${job}, ${tenant}, ${id('pending')}, now() + interval '1 hour', null, ${sql.json({ note: word })})`;
  const [item] = await sql<{ item_id: string }[]>`
    update jobs.items set last_error = ${word}, waiting_for = 'delay' where tenant_id = ${tenant} and job = ${job} returning item_id`;
  await sql`update jobs.lanes set detail = ${word} where tenant_id = ${tenant}`;
  const [run] = await sql<{ run_id: string }[]>`
    insert into jobs.runs (job, trigger, finished_at, status, processed, message)
    values (${job}, 'manual', now(), 'success', 1, 'done') returning run_id`;
  const [drain] = await sql<{ drain_id: string }[]>`
    insert into jobs.drains (job, run_id, answered_at, seen_at, ended_at) values (${job}, ${run?.run_id ?? null}, now(), now(), now())
    returning drain_id`;
  const [batch] = await sql<{ batch_id: string }[]>`
    insert into jobs.batches (job, drain_id, run_id, lease_until, loaded)
    values (${job}, ${drain?.drain_id ?? null}, ${run?.run_id ?? null}, now() + interval '1 day', true) returning batch_id`;
  // One item is out with a worker, another like it waits.
  await sql`
    insert into jobs.leases (tenant_id, job, batch_id, open, credential_source, credential_fingerprint, items)
    select i.tenant_id, i.job, ${batch?.batch_id ?? null}, 1, 'tenant', ${word}, array[i]
    from jobs.items i where i.tenant_id = ${tenant} and i.item_id = ${item?.item_id ?? null}`;
  // It keeps a run open.
  const [open] = await sql<{ run_id: string }[]>`
    insert into jobs.runs (job, trigger, started_at, expected) values (${job}, 'manual', now() - interval '1 minute', 1) returning run_id`;
  await sql`
    with kept as (
      update jobs.items set item_id = default, run_id = ${open?.run_id ?? null}
      where tenant_id = ${tenant} and item_id = ${item?.item_id ?? null} returning run_id, job, tenant_id, item_id
    )
    insert into jobs.witnesses (run_id, job, tenant_id, item_id) select run_id, job, tenant_id, item_id from kept`;
  await sql`
    insert into jobs.effects (batch_id, item_id, request) values (${batch?.batch_id ?? null}, ${item?.item_id ?? null}, gen_random_uuid())`;
  await sql`
    insert into jobs.dedupe_keys (tenant_id, job, dedupe_key, item_id) values (${tenant}, ${job}, ${word}, ${item?.item_id ?? null})`;
  await sql`insert into jobs.lookbacks (tenant_id, job, run_at) values (${tenant}, ${job}, now())`;
  await sql`
    insert into jobs.run_tenants (tenant_id, run_id, drain_id, processed) values (${tenant}, ${run?.run_id ?? null}, ${drain?.drain_id ?? null}, 1)`;
  const deadItem = BigInt(`0x${id('dead item').slice(0, 8)}`).toString();
  await sql`
    insert into jobs.attempts (tenant_id, item_id, try, job, subject_id, outcome, error, credential_source, due_at, started_at, trace_id)
    values (${tenant}, ${deadItem}, 1, ${job}, ${id('completion')}, 'refused', ${word}, 'tenant', now(), now(), gen_random_uuid())`;
  await sql`
    insert into jobs.dead_items (tenant_id, item_id, job, subject_id, payload, attempts, tries, reason, last_error, enqueued_at, trace_id)
    values (${tenant}, ${deadItem}, ${job}, ${id('completion')}, ${sql.json({ note: word })}, 1, 1, 'refused', ${word}, now(), gen_random_uuid())`;
  await sql`
    insert into jobs.breakers (tenant_id, provider, state, reason) values (${tenant}, 'stripe', 'parked', ${word})`;
  await sql`insert into jobs.rates (tenant_id, provider, free_at) values (${tenant}, 'stripe', now())`;
  await sql`insert into jobs.throttles (tenant_id, provider, until, reason) values (${tenant}, 'stripe', now(), ${word})`;
  // What people ask for in a control is not worked off in the middle of another attack: attack 91 has tenants of its own.
  await sql`
    select jobs.pause(d.job, ${tenant}) from jobs.definitions d
    where d.scope = 'tenant' and d.job <> ${job}`;
  await sql`select jobs.open_alert(${tenant}, ${`credential ${word}`}, ${word})`;
  const [alert] = await sql<
    { alert_id: string }[]
  >`select alert_id from jobs.alerts where tenant_id = ${tenant}`;

  return {
    tenant,
    slug,
    campaign: id('campaign'),
    draft: id('draft'),
    task: id('task'),
    openTask: id('openTask'),
    claimable: id('claimable'),
    participant: id('participant'),
    otherParticipant: id('otherParticipant'),
    completion: id('completion'),
    pending: id('pending'),
    message: id('message'),
    template: id('template'),
    spareTemplate: id('spareTemplate'),
    spins: id('spins'),
    item: item?.item_id ?? '',
    deadItem,
    batch: batch?.batch_id ?? '',
    drain: drain?.drain_id ?? '',
    run: run?.run_id ?? '',
    alert: alert?.alert_id ?? '',
    invitation: id('invitation'),
    cohort: id('cohort'),
    spareCohort: id('spareCohort'),
    review: id('review'),
    signUpCode: `${word}-4`.toUpperCase(),
  };
}

/** Ids that nothing has, in the same forms. */
export function idsOfNobody(): TenantIds {
  const id = (name: string) => uuidOf(`nobody ${name}`);
  return {
    tenant: id('tenant'),
    slug: 'nobodys-shop',
    campaign: id('campaign'),
    draft: id('draft'),
    task: id('task'),
    openTask: id('openTask'),
    claimable: id('claimable'),
    participant: id('participant'),
    otherParticipant: id('otherParticipant'),
    completion: id('completion'),
    pending: id('pending'),
    message: id('message'),
    template: id('template'),
    spareTemplate: id('spareTemplate'),
    spins: id('spins'),
    item: '5000099999',
    deadItem: '999999998',
    batch: '6000099997',
    drain: id('drain'),
    run: '999999996',
    alert: '999999995',
    invitation: id('invitation'),
    cohort: id('cohort'),
    spareCohort: id('spareCohort'),
    review: id('review'),
    signUpCode: 'NOBODY-4',
  };
}

/**
 * Writes a canary into every column of the tenant's rows that takes one: text and JSON that is no key and that no constraint
 * shapes. Returns the tables that have rows of a tenant in principle, but none of this one: the scene has to make one.
 */
export async function fillWithCanaries(admin: postgres.Sql, tenant: string, word: string): Promise<string[]> {
  await admin.unsafe(`
    do $$
    declare
      spot record;
    begin
      set local session_replication_role = replica;
      for spot in
        select c.oid::regclass as name, a.attname, a.atttypid::regtype::text as type,
          case when c.oid = 'public.tenants'::regclass then 'id' else 'tenant_id' end as key
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where n.nspname in ('public', 'private', 'jobs') and c.relkind in ('r', 'p') and not c.relispartition
          and (c.oid = 'public.tenants'::regclass or exists (
            select from pg_catalog.pg_attribute k where k.attrelid = c.oid and k.attname = 'tenant_id' and not k.attisdropped))
          and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype)
          and a.attgenerated = '' and a.attname not in ('time_zone', 'locale', 'job')
          and not exists (select from pg_catalog.pg_constraint k where k.conrelid = c.oid and k.contype in ('p', 'u', 'f') and a.attnum = any (k.conkey))
          and not exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisunique and a.attnum = any (i.indkey::smallint[]))
      loop
        begin
          if spot.type in ('json', 'jsonb') then
            execute format(
              'update %1$s set %2$I = case when jsonb_typeof(%2$I::jsonb) = ''object'' then %2$I::jsonb else ''{}'' end || %3$L where %4$I = %5$L',
              spot.name, spot.attname, jsonb_build_object('canary', '${word} ' || spot.attname), spot.key, '${tenant}');
          else
            execute format('update %1$s set %2$I = %3$L where %4$I = %5$L and (%2$I ~* %6$L) is not true',
              spot.name, spot.attname, '${word} ' || spot.attname, spot.key, '${tenant}', '${textCanary.source}');
          end if;
        exception when check_violation or not_null_violation or string_data_right_truncation or invalid_text_representation then null;
        end;
      end loop;
    end $$`);
  const tables = await tablesOfTenants(admin);
  const empty: string[] = [];
  for (const { name, key } of tables) {
    const [row] = await admin.unsafe(`select from ${name} where ${key} = '${tenant}' limit 1`);
    if (!row) empty.push(name);
  }
  return empty;
}

/** The tables with rows of tenants, and the column that says whose. */
export async function tablesOfTenants(admin: postgres.Sql): Promise<{ name: string; key: string }[]> {
  return await admin<{ name: string; key: string }[]>`
    select format('%I.%I', n.nspname, c.relname) as name,
      case when c.oid = 'public.tenants'::regclass then 'id' else 'tenant_id' end as key
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'private', 'jobs') and c.relkind in ('r', 'p') and not c.relispartition
      and (c.oid = 'public.tenants'::regclass or exists (
        select from pg_catalog.pg_attribute k where k.attrelid = c.oid and k.attname = 'tenant_id' and not k.attisdropped))
    order by 1`;
}
