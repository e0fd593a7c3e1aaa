/** A. What the catalog says before anybody has sent a request. */
import { applyFiles, migrationFiles } from '../../scripts/dev/compare.ts';
import { dropDatedPartitions } from '../../scripts/dev/databases.ts';
import {
  type Relation,
  type Rights,
  readSurface,
  reasonOf,
  type Surface,
} from '../../scripts/dev/surface.ts';
import { attack, type Group, noAttack, type Trial } from './harness.ts';

/** The API roles of people: `public` is everybody, so what it has they have. */
const ofPeople = ['public', 'anon', 'authenticated'] as const;
const ours = "('public', 'private', 'jobs')";

async function surfaceOf(trial: Trial): Promise<Surface> {
  return await readSurface(trial.world.server.adminUrl);
}

/** The names that a query of the catalog finds. */
async function found(trial: Trial, query: string): Promise<string[]> {
  const rows = await trial.world.admin.unsafe<{ name: string }[]>(query);
  return rows.map((row) => row.name);
}

/** Nothing may be found where nothing may be; something must be found where something is, or the query sees nothing. */
async function nothing(trial: Trial, what: string, query: string, control: string): Promise<void> {
  await trial.control(
    `the catalog can be asked: ${what}`,
    async () => (await found(trial, control)).length > 0,
  );
  const names = await found(trial, query);
  trial.expect(names.length === 0, `${what}: ${names.join(', ')}`);
}

const nameOf = (each: Relation): string => `${each.schema}.${each.name}`;
const isTable = (each: Relation): boolean => each.kind.endsWith('table');
const rightsOf = (each: Relation, role: (typeof ofPeople)[number] | 'service_role'): Rights =>
  each.rights[role] ?? {};

const secretPattern =
  '(sk_live|sk_test_[0-9a-zA-Z]|whsec_[0-9a-zA-Z]|EAA[A-Za-z0-9]{10}|eyJ[A-Za-z0-9]{10}|Bearer [A-Za-z0-9]|topsecret)';

export const catalog: Group = {
  letter: 'A',
  title: 'The catalog',
  attacks: [
    attack('1', 'no table or partition without row-level security', async (trial) => {
      const tables = (await surfaceOf(trial)).relations.filter(isTable);
      await trial.control('there are tables', async () => tables.length > 10);
      const open = tables.filter((each) => !each.rowSecurity).map(nameOf);
      trial.expect(open.length === 0, `without row-level security: ${open.join(', ')}`);
    }),
    attack(
      '2',
      'no policy that sleeps, and no table that is granted to people without one',
      async (trial) => {
        const tables = (await surfaceOf(trial)).relations.filter(isTable);
        await trial.control('there are policies', async () =>
          tables.some((each) => each.policies.length > 0),
        );
        for (const each of tables) {
          trial.expect(
            each.rowSecurity || each.policies.length === 0,
            `${nameOf(each)} has policies that do nothing`,
          );
          for (const command of ['select', 'insert', 'update', 'delete']) {
            const granted = rightsOf(each, 'authenticated')[command] !== undefined;
            const covered = each.policies.some((policy) => policy.command === command);
            trial.expect(
              granted === covered,
              `${nameOf(each)}: ${command} is ${granted ? 'granted without a policy' : 'in a policy without a grant'}`,
            );
          }
        }
      },
    ),
    attack('3', 'anon has no right on any table, view or sequence', async (trial) => {
      const { relations, sequences } = await surfaceOf(trial);
      await trial.control('authenticated has some', async () =>
        relations.some((each) => each.rights.authenticated !== undefined),
      );
      for (const role of ['public', 'anon'] as const) {
        const held = relations.filter((each) => each.rights[role] !== undefined).map(nameOf);
        trial.expect(held.length === 0, `${role} has rights on ${held.join(', ')}`);
        const counted = sequences.filter((each) => each.rights[role] !== undefined).map((each) => each.name);
        trial.expect(counted.length === 0, `${role} has rights on ${counted.join(', ')}`);
      }
    }),
    attack('4', 'no API role may truncate, reference, put triggers on or maintain a table', async (trial) => {
      const { relations } = await surfaceOf(trial);
      await trial.control('service_role may delete from some', async () =>
        relations.some((each) => rightsOf(each, 'service_role').delete !== undefined),
      );
      for (const each of relations) {
        for (const role of [...ofPeople, 'service_role'] as const) {
          const held = Object.keys(rightsOf(each, role)).filter((right) =>
            ['truncate', 'references', 'trigger', 'maintain'].includes(right),
          );
          trial.expect(held.length === 0, `${role} may ${held.join(', ')} ${nameOf(each)}`);
        }
      }
    }),
    attack('5', 'sequences: no nextval, no setval', async (trial) => {
      const { sequences } = await surfaceOf(trial);
      await trial.control('there are sequences', async () => sequences.length > 0);
      for (const each of sequences) {
        for (const role of ofPeople) {
          trial.expect(
            each.rights[role] === undefined,
            `${role} may ${each.rights[role]?.join(', ')} ${each.name}`,
          );
        }
        for (const call of [
          `nextval('${each.name}')`,
          `setval('${each.name}', 9000000000)`,
          `currval('${each.name}')`,
        ]) {
          trial.refusedSql(await trial.sql('ownerA', `select ${call}`), call);
        }
      }
    }),
    attack('6', 'functions: people may call what is reviewed, everybody nothing', async (trial) => {
      const { routines } = await surfaceOf(trial);
      const calledBy = (role: string) => routines.filter((each) => (each.callers as string[]).includes(role));
      await trial.control('authenticated may call some', async () => calledBy('authenticated').length > 0);
      // The Data API itself runs this one before every request, in the request's role.
      const first = 'private.check_request';
      for (const role of ['public', 'anon']) {
        const names = calledBy(role)
          .filter((each) => `${each.schema}.${each.name}` !== first)
          .map((each) => each.signature);
        trial.expect(names.length === 0, `${role} may call ${names.join(', ')}`);
      }
      const engine = calledBy('authenticated')
        .filter((each) => each.schema === 'jobs')
        .map((each) => each.signature);
      trial.expect(engine.length === 0, `authenticated may call ${engine.join(', ')}`);
      // What people may call in `private` is there because something that runs as them calls it: a policy, a view, an index, a function.
      const texts = await found(
        trial,
        `select concat(pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) as name from pg_catalog.pg_policy p
         union all select pg_catalog.pg_get_viewdef(c.oid) from pg_catalog.pg_class c where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace
         union all select pg_catalog.pg_get_indexdef(i.indexrelid) from pg_catalog.pg_index i where i.indexprs is not null
         union all select p.prosrc from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
           where n.nspname in ${ours} and not p.prosecdef
             and (p.prorettype = 'trigger'::regtype or has_function_privilege('authenticated', p.oid, 'execute'))`,
      );
      const idle = calledBy('authenticated').filter(
        (each) =>
          each.schema === 'private' &&
          each.name !== 'check_request' &&
          // Asked by definer functions, and harmless to ask oneself.
          !['is_platform', 'is_platform_admin'].includes(each.name) &&
          !texts.some((text) => new RegExp(`\\b${each.name}\\(`).test(text)),
      );
      trial.expect(
        idle.length === 0,
        `people may call what nothing calls for them: ${idle.map((each) => each.signature).join(', ')}`,
      );
    }),
    attack(
      '7',
      'definer functions: an empty search path, an owner that is no superuser, a reason',
      async (trial) => {
        const { routines } = await surfaceOf(trial);
        const definers = routines.filter((each) => each.definer);
        await trial.control('there are definer functions', async () => definers.length > 10);
        const silent = definers.filter((each) => reasonOf(each) === undefined).map((each) => each.signature);
        trial.expect(silent.length === 0, `no reason in the comment of ${silent.join(', ')}`);
        const inPublic = definers.filter((each) => each.schema === 'public').map((each) => each.signature);
        trial.expect(inPublic.length === 0, `the Data API offers ${inPublic.join(', ')}`);
        const loose = await found(
          trial,
          `
        select p.oid::regprocedure::text as name from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        join pg_catalog.pg_roles r on r.oid = p.proowner
        where n.nspname in ${ours} and (
          (p.prokind <> 'p' and not coalesce(p.proconfig @> array['search_path=""'], false))
          or (p.prosecdef and (p.prokind = 'p' or r.rolsuper)))`,
        );
        trial.expect(
          loose.length === 0,
          `a loose search path, a definer procedure or a superuser: ${loose.join(', ')}`,
        );
      },
    ),
    attack('8', 'views run as their caller; no materialized view, no foreign table', async (trial) => {
      const { relations } = await surfaceOf(trial);
      const views = relations.filter((each) => each.kind === 'view');
      await trial.control('there are views', async () => views.length > 0);
      trial.expect(
        views.every((each) => each.invoker),
        `run as their owner: ${views
          .filter((each) => !each.invoker)
          .map(nameOf)
          .join(', ')}`,
      );
      const odd = relations
        .filter((each) => ['materialized view', 'foreign table'].includes(each.kind))
        .map(nameOf);
      trial.expect(odd.length === 0, odd.join(', '));
    }),
    attack('9', 'no view and no answer of a function shows auth.users', async (trial) => {
      await nothing(
        trial,
        'views over auth.users',
        `
        select distinct v.oid::regclass::text as name from pg_catalog.pg_depend d
        join pg_catalog.pg_rewrite w on w.oid = d.objid join pg_catalog.pg_class v on v.oid = w.ev_class
        where d.refobjid = 'auth.users'::regclass and d.classid = 'pg_rewrite'::regclass`,
        `select 'auth.users' as name where to_regclass('auth.users') is not null`,
      );
      const reading = await found(
        trial,
        `
        select p.oid::regprocedure::text as name from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ${ours} and p.prosrc ~ 'auth[.]users' and has_function_privilege('authenticated', p.oid, 'execute')
          and (p.proretset or p.prorettype in ('record'::regtype, 'auth.users'::regtype))`,
      );
      // This one shows admins the addresses of their tenant's members; attack 63 asks it about another tenant.
      const strange = reading.filter((name) => name !== 'private.list_members(uuid)');
      trial.expect(
        strange.length === 0,
        `people may call functions that return what they read of auth.users: ${strange.join(', ')}`,
      );
    }),
    attack('10', 'no policy is always true, for everybody, or trusts a claim', async (trial) => {
      const { relations } = await surfaceOf(trial);
      const policies = relations.flatMap((each) =>
        each.policies.map((policy) => ({ ...policy, table: nameOf(each) })),
      );
      await trial.control('there are policies', async () => policies.length > 10);
      for (const policy of policies) {
        const name = `${policy.table} ${policy.name}`;
        const text = `${policy.using ?? ''} ${policy.check ?? ''}`;
        trial.expect(policy.roles.join() === 'authenticated', `${name} is for ${policy.roles.join(', ')}`);
        trial.expect(policy.command !== 'all', `${name} is for all commands`);
        trial.expect(![policy.using, policy.check].includes('true'), `${name} is always true`);
        trial.expect(
          !/metadata|jwt|current_setting|request\./i.test(text),
          `${name} trusts the request: ${text}`,
        );
      }
    }),
    attack('11', 'one permissive policy per command; each is bound to the tenant', async (trial) => {
      const { relations } = await surfaceOf(trial);
      await trial.control('there are policies', async () =>
        relations.some((each) => each.policies.length > 0),
      );
      for (const each of relations) {
        const commands = each.policies.filter((policy) => policy.permissive).map((policy) => policy.command);
        trial.expect(
          new Set(commands).size === commands.length,
          `${nameOf(each)} has two permissive policies for one command`,
        );
        // Plans are the platform's price list: rows without a tenant, for every signed-in user.
        if (['public.plans', 'public.rules', 'public.task_kinds'].includes(nameOf(each))) continue;
        for (const policy of each.policies) {
          for (const text of [policy.using, policy.check]) {
            trial.expect(
              text === null ||
                /private\.(\w+_)?(tenant_ids|participant_ids|is_platform_admin|\w+_ids)\(/.test(text) ||
                /auth\.uid\(\)/.test(text),
              `${nameOf(each)} ${policy.name} is not bound to a membership: ${text}`,
            );
          }
        }
      }
    }),
    attack('12', 'who may change a row may see it: no blind writes', async (trial) => {
      const { relations } = await surfaceOf(trial);
      const commandsOf = (each: Relation) => each.policies.map((policy) => policy.command);
      await trial.control('there are policies to write', async () =>
        relations.some((each) => commandsOf(each).includes('update')),
      );
      for (const each of relations) {
        const commands = commandsOf(each);
        const writes = commands.includes('update') || commands.includes('delete');
        trial.expect(!writes || commands.includes('select'), `${nameOf(each)} can be written blindly`);
        for (const policy of each.policies) {
          trial.expect(
            !['insert', 'update'].includes(policy.command) || policy.check !== null,
            `${nameOf(each)} ${policy.name} checks no new row`,
          );
        }
      }
      // A WHERE-less statement is the blind one: it is not held back by the policy to see.
      const seen = await trial.sql(
        'viewerA',
        "with u as (update public.campaigns set name = 'blind' returning 1) select count(*)::int as n from u",
      );
      trial.expect(
        seen.rows[0]?.n === 0 || seen.code === '42501',
        `a viewer changed ${JSON.stringify(seen.rows)}`,
      );
    }),
    attack(
      '13',
      'foreign keys, primary keys and unique constraints of tenant tables hold tenant_id, which is never null',
      async (trial) => {
        await nothing(
          trial,
          'foreign keys without tenant_id',
          `
        with owned as (
          select a.attrelid as oid, a.attnum, a.attnotnull from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ${ours} and c.relkind in ('r', 'p') and a.attname = 'tenant_id' and not a.attisdropped)
        select k.conname as name from pg_catalog.pg_constraint k join owned child on child.oid = k.conrelid join owned parent on parent.oid = k.confrelid
        where k.contype = 'f' and not exists (
          select from unnest(k.conkey, k.confkey) as p (mine, theirs) where p.mine = child.attnum and p.theirs = parent.attnum)`,
          `select conname as name from pg_catalog.pg_constraint where contype = 'f' and array_length(conkey, 1) > 1`,
        );
        const loose = await found(
          trial,
          `
        select c.oid::regclass::text as name from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'public' and c.relkind in ('r', 'p') and a.attname = 'tenant_id' and not a.attisdropped and not a.attnotnull`,
        );
        trial.expect(loose.length === 0, `tenant_id may be null in ${loose.join(', ')}`);
        const unique = await found(
          trial,
          `
        select i.indexrelid::regclass::text as name from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where n.nspname = 'public' and i.indisunique and not (a.attnum = any (i.indkey::smallint[]))
          -- A key that people neither choose nor learn from is no oracle: a hash of 32 random bytes.
          and not exists (select from pg_catalog.pg_attribute k where k.attrelid = c.oid and k.attnum = any (i.indkey::smallint[]) and k.attname = 'token_hash')`,
        );
        trial.expect(unique.length === 0, `unique across tenants: ${unique.join(', ')}`);
        const keyless = await found(
          trial,
          `
        select c.oid::regclass::text as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where n.nspname = 'public' and c.relkind in ('r', 'p') and not exists (
          select from pg_catalog.pg_constraint k where k.conrelid = c.oid and k.contype = 'p' and k.conkey[1] = a.attnum)`,
        );
        trial.expect(
          keyless.length === 0,
          `the primary key does not begin with tenant_id: ${keyless.join(', ')}`,
        );
      },
    ),
    noAttack(
      '14',
      'tables made with LIKE or CREATE TABLE AS',
      'How a table was made leaves no trace in the catalog; attack 1 looks at every table and partition there is, however it came about.',
    ),
    attack('15', 'no secret in a function, trigger, cron entry, comment or column default', async (trial) => {
      const texts = `
        select 'function ' || p.oid::regprocedure as name, p.prosrc as body from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
          where n.nspname in ${ours}
        union all select 'trigger ' || t.tgname, pg_catalog.pg_get_triggerdef(t.oid) from pg_catalog.pg_trigger t where not t.tgisinternal
        union all select 'cron entry ' || j.jobname, j.command from cron.job j
        union all select 'comment', d.description from pg_catalog.pg_description d where d.objoid > 16384
        union all select 'default of ' || d.adrelid::regclass, pg_catalog.pg_get_expr(d.adbin, d.adrelid) from pg_catalog.pg_attrdef d
        union all select 'setting of a role', s::text from pg_catalog.pg_db_role_setting d, unnest(d.setconfig) s`;
      await nothing(
        trial,
        'secrets in texts of the catalog',
        `select t.name from (${texts}) t where t.body ~ '${secretPattern}'`,
        `select t.name from (${texts}) t`,
      );
      const all = await trial.world.admin.unsafe<{ name: string; body: string }[]>(texts);
      for (const { name, body } of all)
        trial.expect(
          trial.world.secrets.every((secret) => !body.includes(secret)),
          `${name} holds a secret of the platform`,
        );
    }),
    attack('16', 'no API role may create anything, in any schema', async (trial) => {
      await nothing(
        trial,
        'who may create',
        `
        select format('%s in %s', r.role, n.nspname) as name from pg_catalog.pg_namespace n, unnest(array['public', 'anon', 'authenticated', 'service_role', 'authenticator']) r (role)
        where n.nspname !~ '^pg_temp' and has_schema_privilege(r.role, n.oid, 'create')`,
        `select nspname as name from pg_catalog.pg_namespace where has_schema_privilege('postgres', oid, 'create')`,
      );
      trial.refusedSql(await trial.sql('ownerA', 'create table public.mine (id int)'), 'a table in public');
      trial.refusedSql(
        await trial.sql('ownerA', 'create function public.mine() returns int language sql return 1'),
        'a function in public',
      );
      // A temporary table shadows nothing: every function has an empty search path (attack 7), tried here with the tables that decide.
      const shadow = await trial.sql(
        'stranger',
        `
        create temp table memberships (tenant_id uuid, user_id uuid, role public.member_role) on commit drop;
        create temp table tenants (id uuid, status public.tenant_status) on commit drop;
        insert into memberships values ('${trial.ids.b.tenant}', '${trial.world.actor('stranger').userId}', 'owner');
        insert into tenants values ('${trial.ids.b.tenant}', 'active');
        set local search_path = pg_temp, public;
        select t from private.tenant_ids('viewer') t`,
      );
      trial.expect(
        shadow.code === '42501' || shadow.rows.every((row) => row.t !== trial.ids.b.tenant),
        `a temporary table decided about membership: ${JSON.stringify(shadow.rows)}`,
      );
    }),
    attack(
      '17',
      'roles: nobody becomes an API role but authenticator; none bypasses row-level security or owns a table',
      async (trial) => {
        await nothing(
          trial,
          'members of API roles',
          `
        select format('%s is a member of %s', m.member::regrole, m.roleid::regrole) as name from pg_catalog.pg_auth_members m
        where m.roleid::regrole::text in ('anon', 'authenticated', 'service_role') and m.member::regrole::text not in ('authenticator', 'postgres', 'onecron')
        union all select format('%s is a member of %s', m.member::regrole, m.roleid::regrole) from pg_catalog.pg_auth_members m
        where m.member::regrole::text in ('anon', 'authenticated', 'service_role')
        union all select rolname || ' has too much' from pg_catalog.pg_roles
        where rolname in ('anon', 'authenticated', 'authenticator') and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
        union all select c.oid::regclass || ' belongs to an API role' from pg_catalog.pg_class c
        where pg_catalog.pg_get_userbyid(c.relowner) in ('anon', 'authenticated', 'service_role', 'authenticator')`,
          `select 'authenticator' as name from pg_catalog.pg_auth_members m where m.member = 'authenticator'::regrole`,
        );
        for (const role of [
          'postgres',
          'supabase_admin',
          'authenticator',
          'supabase_auth_admin',
          'pg_read_all_data',
        ]) {
          // `set local role` inside of the session is what an injected statement would try.
          const became = await trial.world.asActor(
            trial.world.actor('ownerA'),
            `set local role ${role}; select current_user as name`,
          );
          trial.expect(became.code !== undefined || role === 'authenticator', `a request became ${role}`);
        }
      },
    ),
    attack('18', 'no table is published to Realtime', async (trial) => {
      const { publications } = await surfaceOf(trial);
      await trial.control('publications can be seen', async () => Array.isArray(publications));
      const told = publications.filter((each) => each.tables !== 'none');
      trial.expect(told.length === 0, told.map((each) => `${each.name}: ${each.tables}`).join('; '));
    }),
    attack(
      '19',
      'no extension in an exposed schema, and none that reads files or calls out',
      async (trial) => {
        const { extensions } = await surfaceOf(trial);
        await trial.control('there are extensions', async () => extensions.length > 0);
        for (const each of extensions) {
          trial.expect(!['public', 'jobs'].includes(each.schema), `${each.name} is in ${each.schema}`);
          trial.expect(
            !['http', 'dblink', 'postgres_fdw', 'file_fdw', 'plpython3u', 'plperlu', 'adminpack'].includes(
              each.name,
            ),
            `${each.name} is installed`,
          );
        }
      },
    ),
    attack('20', 'old and new platform defaults give the same rights', async (trial) => {
      const make = trial.world.server.emptyDatabase;
      if (!make) {
        trial.expect(false, 'there is no server to make databases on');
        return;
      }
      const { differences, ofNew, control } = await compareDefaults(make);
      await trial.control(
        'under the old defaults a table without migrations is open to everybody',
        async () => control,
      );
      trial.expect(differences.length === 0, differences.join('\n       '));
      trial.expect(ofNew.length === 0, `a table made after the migrations is open: ${ofNew.join(', ')}`);
    }),
  ],
};

/** What a project from before 2026 has: every new object in public is everybody's. */
const oldDefaults = `
  alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
  alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
  alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;`;

/** Applies the migrations under both defaults and compares who may do what, object by object. */
export async function compareDefaults(
  make: (name: string) => Promise<{ url: string; drop(): Promise<void> }>,
): Promise<{ differences: string[]; ofNew: string[]; control: boolean }> {
  const files = await migrationFiles();
  const probe = {
    path: 'probe',
    text: 'create table public.made_later (id int); create function public.called_later() returns int language sql return 1;',
  };
  const surfaces: Surface[] = [];
  let control = false;
  for (const [name, before] of [
    ['defaults_old', oldDefaults],
    ['defaults_new', ''],
  ] as const) {
    const database = await make(name);
    try {
      if (before !== '') {
        const forgotten = { path: 'before', text: `${before} create table public.made_before (id int);` };
        await applyFiles(database.url, [forgotten]);
        const { relations } = await readSurface(database.url);
        control = relations.some((each) => each.name === 'made_before' && each.rights.anon?.select === 'all');
        await applyFiles(database.url, [{ path: 'before', text: 'drop table public.made_before' }]);
      }
      await applyFiles(database.url, [...files, probe]);
      await dropDatedPartitions(database.url);
      surfaces.push(await readSurface(database.url));
    } finally {
      await database.drop();
    }
  }
  const [old, fresh] = surfaces.map(linesOf);
  const differences = [
    ...without(old, fresh).map((line) => `only under the old defaults: ${line}`),
    ...without(fresh, old).map((line) => `only under the new defaults: ${line}`),
  ];
  const ofNew = surfaces.flatMap((surface) => [
    ...surface.relations
      .filter((each) => each.name === 'made_later' && Object.keys(each.rights).length > 0)
      .map(nameOf),
    ...surface.routines
      .filter((each) => each.name === 'called_later' && each.callers.length > 0)
      .map((each) => each.signature),
  ]);
  return { differences, ofNew, control };
}

function linesOf(surface: Surface): string[] {
  return [
    ...surface.schemas.map((each) => `schema ${JSON.stringify(each)}`),
    ...surface.relations.map(
      (each) => `${nameOf(each)} ${JSON.stringify([each.rowSecurity, each.rights, each.policies])}`,
    ),
    ...surface.routines.map((each) => `${each.signature} ${each.callers.join()}`),
    ...surface.sequences.map((each) => `${each.name} ${JSON.stringify(each.rights)}`),
    ...surface.types.map((each) => `${each.name} ${each.usage.join()}`),
  ];
}

/** Long lines are cut: which object it is matters more than all of its policies. */
function without(lines: readonly string[] = [], others: readonly string[] = []): string[] {
  return lines
    .filter((line) => !others.includes(line))
    .map((line) => (line.length > 200 ? `${line.slice(0, 200)}…` : line));
}
