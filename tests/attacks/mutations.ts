/** Ways to take one defence away: each is a statement that a mistake in a migration could have made. */
import type postgres from 'postgres';
import { readSurface } from '../../scripts/dev/surface.ts';

export interface Mutation {
  kind: string;
  what: string;
  sql: string;
}

/** What guards a function, as it stands in its text, and the text without it. */
const guards: [label: string, pattern: RegExp, instead: string, of?: RegExp][] = [
  ['the check of the role', /perform private\.(?:require_role|lock_tenant)\([^;]*\);/g, 'perform 1;'],
  [
    'the check of who may manage whom',
    /(?:perform|v_role :=) private\.role_to_manage\([^;]*\);/g,
    'perform 1;',
  ],
  ['whose membership it is', /m\.user_id = \(select auth\.uid\(\)\)/g, 'true'],
  ['the role asked for', /m\.role >= p_role/g, 'true'],
  ['whose row it is', /p\.user_id = \(select auth\.uid\(\)\)/g, 'true'],
  [
    'the state of the tenant',
    /and \(t\.status = 'active' or \(t\.status = 'suspended' and p_role = 'viewer'\)\)/g,
    '',
  ],
  ['that a closed tenant is gone', /and t\.status <> 'closed'/g, '', /participant/],
  ['the tenant asked for', /c\.tenant_id = p_tenant_id and/g, ''],
  ['the task’s own tenant', /where t\.tenant_id = p_tenant_id and/g, 'where'],
  ['that the campaign runs', /and c\.status = 'active'/g, ''],
  ['that the user is there', /private\.require_user\(\)/g, '(select auth.uid())'],
  ['the invited address', /and i\.email = \(select lower\(u\.email\)[^)]*\)/g, ''],
  ['that an invitation ends', /and i\.expires_at > now\(\)/g, ''],
  [
    'that an invitation works once',
    /i\.token_hash = v_hash and i\.accepted_at is null and/g,
    'i.token_hash = v_hash and',
  ],
  [
    'that the inviter may still invite',
    /and \(i\.invited_by is null or exists \([^;]*?greatest\('admin', i\.role\)\)\)/g,
    '',
  ],
  [
    'the second factor and the table of platform admins',
    /select exists \(select from private\.platform_admins[\s\S]*/g,
    'select true',
  ],
  [
    'that only the platform suspends',
    /if not \(private\.is_platform\(\) or private\.is_platform_admin\(\)\) then/g,
    'if false then',
  ],
  [
    'that an owner stays',
    /if found and not exists \(select from public\.memberships m/g,
    'if false and not exists (select from public.memberships m',
  ],
  ['the tenant of a credential', /own\.tenant_id = p_tenant_id and/g, ''],
  ['the limit of calls', /perform private\.limit_calls\([^;]*\);/g, 'perform 1;'],
  ['that nobody decides the own claim', /perform private\.refuse_own_claim\([^;]*\);/g, 'perform 1;'],
  ['the acknowledgement', /perform private\.require_acknowledgement\([^;]*\);/g, 'perform 1;'],
  ['that a code works once', /and l\.used_at is null/g, ''],
  ['that a code ends', /and l\.expires_at > now\(\)/g, ''],
  ['the platform of a code', /l\.platform = c\.surface and/g, ''],
  [
    'that an account stays with whom it belongs to',
    /where not exists \(\s*select from public\.linked_accounts o[\s\S]*?<> x\.participant_id\)/g,
    'where true',
  ],
  ['that the lease lives', /and b\.lease_until > clock_timestamp\(\)/g, '', /record_comments/],
  ['the tenant of the lease', /and e\.tenant_id = record_comments\.tenant_id/g, ''],
  ['the post of the lease', /t\.post_id = v_post_id and/g, ''],
  ['the tenant of a link', /c\.tenant_id = v_tenant_id and/g, '', /record_visit|webhook_secrets/],
  [
    'that the chance of a draw is for members',
    /case when j\.method = 'statistical' then c\.evidence else coalesce\(j\.evidence, c\.evidence\) end/g,
    'coalesce(j.evidence, c.evidence)',
  ],
  ['what a gateway may be', /if v_fault is not null then/g, 'if false then'],
  [
    'that a row stays in its tenant',
    /if to_jsonb\(new\) ->> 'tenant_id' is distinct from to_jsonb\(old\) ->> 'tenant_id' then/g,
    'if false then',
  ],
];

/**
 * Without these nobody has anything that is not theirs: what is found is looked up again by tenant and id, so that only ids that two
 * tenants share are taken along, to be decided by the own tenant's proofs, refused once more, or woken for nothing.
 */
const idle = [
  /decide_by_signals.* without the tenant asked for/,
  /refuse_own_claim.* without the tenant asked for/,
  /take_signals.* without the task’s own tenant/,
];

/** Every mutation that the catalog of a database offers, in a fixed order. */
export async function mutationsOf(admin: postgres.Sql, url: string): Promise<Mutation[]> {
  const { relations, routines } = await readSurface(url);
  const found: Mutation[] = [];
  const add = (kind: string, what: string, sql: string) => found.push({ kind, what, sql });

  for (const { schema, name, policies, kind, rights } of relations.filter(
    (each) => each.schema === 'public',
  )) {
    const table = `${schema}."${name}"`;
    for (const policy of policies) {
      add('policy dropped', `${policy.name}`, `drop policy "${policy.name}" on ${table}`);
      // The price list is everybody's: nothing to open.
      if (['plans', 'rules', 'task_kinds'].includes(name)) continue;
      const using = policy.using === null ? '' : ' using (true)';
      const check = policy.check === null ? '' : ' with check (true)';
      add(
        'policy opened',
        `${policy.name} is always true`,
        `alter policy "${policy.name}" on ${table}${using}${check}`,
      );
    }
    if (kind === 'table')
      add('row-level security off', name, `alter table ${table} disable row level security`);
    if (kind === 'view') add('view as its owner', name, `alter view ${table} reset (security_invoker)`);
    for (const right of kind === 'table'
      ? ['select', 'insert', 'update', 'delete', 'truncate']
      : ['select']) {
      add('revoke undone', `anon may ${right} ${name}`, `grant ${right} on ${table} to anon`);
      if (rights.authenticated?.[right] !== 'all') {
        add(
          'revoke undone',
          `authenticated may ${right} ${name}, every column`,
          `grant ${right} on ${table} to authenticated`,
        );
      }
    }
  }

  for (const { schema, signature, callers, kind } of routines) {
    if (kind !== 'function') continue;
    const grantee = callers.includes('authenticated') ? 'anon' : 'authenticated';
    if (callers.includes('anon')) continue;
    const usage = schema === 'jobs' ? `grant usage on schema jobs to ${grantee}; ` : '';
    add(
      'revoke undone',
      `${grantee} may call ${signature}`,
      `${usage}grant execute on function ${await identity(admin, signature)} to ${grantee}`,
    );
  }

  const keys = await admin<{ child: string; parent: string; name: string; column: string }[]>`
    select k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent, k.conname as name,
      (select a.attname from pg_catalog.pg_attribute a where a.attrelid = k.conrelid and a.attnum = k.conkey[2]) as column
    from pg_catalog.pg_constraint k
    where k.contype = 'f' and k.connamespace = 'public'::regnamespace and array_length(k.conkey, 1) = 2
    order by 3`;
  for (const { child, parent, name, column } of keys) {
    add(
      'foreign key without tenant_id',
      name,
      `alter table ${child} drop constraint "${name}"; create unique index on ${parent} (id);
       alter table ${child} add constraint "${name}" foreign key ("${column}") references ${parent} (id) on delete cascade`,
    );
  }

  const texts = await admin<{ name: string; definition: string }[]>`
    select p.oid::regprocedure::text as name, pg_catalog.pg_get_functiondef(p.oid) as definition
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where (n.nspname in ('public', 'private')
        -- What the functions call for a tenant; the engine's own functions have no tenant but the one that they work for.
        or n.nspname = 'jobs' and p.proname in ('record_comments', 'record_visit', 'webhook_secrets'))
      and p.prokind = 'f' order by 1`;
  for (const { name, definition } of texts) {
    const start = definition.indexOf('$function$');
    const [head, body] = [definition.slice(0, start), definition.slice(start)];
    for (const [label, pattern, instead, of] of guards) {
      if (of && !of.test(name)) continue;
      const inside = body.slice('$function$'.length, body.lastIndexOf('$function$'));
      const changed = inside.replaceAll(pattern, instead);
      if (changed !== inside && !idle.some((each) => each.test(`${name} without ${label}`)))
        add('check removed', `${name} without ${label}`, `${head}$function$${changed}$function$`);
    }
  }
  return found;
}

/** A function as GRANT wants to have it named. */
async function identity(admin: postgres.Sql, signature: string): Promise<string> {
  const [row] = await admin<{ name: string }[]>`
    select format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as found,
      p.oid::regprocedure::text as name
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) = ${signature}`;
  return row?.name ?? signature;
}

/** Numbers between 0 and 1 that a seed determines (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A sample with something of every kind, as even as the kinds allow. */
export function sampleOf(all: readonly Mutation[], count: number, seed: number): Mutation[] {
  const random = randomFrom(seed);
  const kinds = new Map<string, Mutation[]>();
  for (const each of all) kinds.set(each.kind, [...(kinds.get(each.kind) ?? []), each]);
  const chosen: Mutation[] = [];
  while (chosen.length < count && [...kinds.values()].some((left) => left.length > 0)) {
    for (const left of kinds.values()) {
      if (chosen.length >= count) break;
      const [one] = left.splice(Math.floor(random() * left.length), 1);
      if (one) chosen.push(one);
    }
  }
  return chosen;
}
