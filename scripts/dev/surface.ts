/**
 * What a database lets whom do, read from its catalog: roles, schemas, tables and views with grants and policies, functions
 * with their callers, types, sequences. Rights are effective ones: what a role may do, however it came by it.
 */
import postgres from 'postgres';

/** `public` is everybody: what is granted to it, each role has. */
export const surfaceRoles = ['public', 'anon', 'authenticated', 'service_role', 'authenticator'] as const;
export type SurfaceRole = (typeof surfaceRoles)[number];

/** Privilege → `all`, or the columns to which it is limited. Privileges that a role lacks are absent. */
export type Rights = Record<string, 'all' | string[]>;

export interface Policy {
  name: string;
  permissive: boolean;
  command: string;
  roles: string[];
  using: string | null;
  check: string | null;
}

export interface Relation {
  schema: string;
  name: string;
  kind: 'table' | 'partitioned table' | 'view' | 'materialized view' | 'foreign table';
  owner: string;
  rowSecurity: boolean;
  forced: boolean;
  partition: boolean;
  invoker: boolean;
  comment: string;
  rights: Partial<Record<SurfaceRole, Rights>>;
  policies: Policy[];
}

export interface Routine {
  schema: string;
  name: string;
  signature: string;
  kind: 'function' | 'procedure' | 'trigger function';
  owner: string;
  definer: boolean;
  volatile: boolean;
  callers: SurfaceRole[];
  comment: string;
}

export interface Surface {
  roles: { name: string; attributes: string[]; memberOf: string[] }[];
  schemas: { name: string; owner: string; usage: SurfaceRole[]; create: SurfaceRole[] }[];
  relations: Relation[];
  routines: Routine[];
  sequences: { name: string; rights: Partial<Record<SurfaceRole, string[]>> }[];
  types: { name: string; kind: string; values: string; usage: SurfaceRole[] }[];
  extensions: { name: string; schema: string }[];
  publications: { name: string; tables: string }[];
}

/** What the platform brings along; its rights are the platform's to give, only the use of the schema is shown. */
const platformSchemas = [
  'auth',
  'cron',
  'extensions',
  'graphql',
  'graphql_public',
  'net',
  'pgbouncer',
  'realtime',
  'storage',
  'supabase_functions',
  'supabase_migrations',
  'tests',
  'vault',
];

/** Why a definer function runs with its owner's rights: the part of its comment that begins with `Definer:`. */
export function reasonOf(routine: Pick<Routine, 'comment'>): string | undefined {
  return /\bDefiner[:,] *(.+?)$/s.exec(routine.comment)?.[1];
}

export async function readSurface(url: string): Promise<Surface> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await readAll(sql);
  } finally {
    await sql.end();
  }
}

async function readAll(sql: postgres.Sql): Promise<Surface> {
  const roleNames = [...surfaceRoles];
  const own = sql`n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and n.nspname <> all (${platformSchemas})`;
  const [server] = await sql<{ version: number }[]>`
    select current_setting('server_version_num')::int as version`;
  const privileges = [
    ...['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'],
    ...((server?.version ?? 0) >= 170_000 ? ['maintain'] : []),
  ];
  const byColumn = ['select', 'insert', 'update', 'references'];

  const roles = await sql<Surface['roles']>`
    select r.rolname as name,
      array_remove(array[
        case when r.rolcanlogin then 'login' end, case when r.rolsuper then 'superuser' end,
        case when r.rolbypassrls then 'bypasses row-level security' end, case when r.rolcreaterole then 'creates roles' end,
        case when r.rolcreatedb then 'creates databases' end, case when r.rolinherit then 'inherits' end], null) as attributes,
      array(select g.rolname from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid
        where m.member = r.oid order by 1)::text[] as "memberOf"
    from pg_catalog.pg_roles r
    where r.rolname = any (${roleNames})
    order by r.rolname`;

  const schemas = await sql<Surface['schemas']>`
    select n.nspname as name, pg_catalog.pg_get_userbyid(n.nspowner) as owner,
      array(select r from unnest(${roleNames}::text[]) r where has_schema_privilege(r, n.oid, 'usage')) as usage,
      array(select r from unnest(${roleNames}::text[]) r where has_schema_privilege(r, n.oid, 'create')) as create
    from pg_catalog.pg_namespace n
    where n.nspname !~ '^pg_' and n.nspname <> all (array['information_schema', 'tests', 'supabase_migrations'])
    order by n.nspname`;

  const relations = await sql<(Omit<Relation, 'rights'> & { rights: Record<string, Rights> | null })[]>`
    select n.nspname as schema, c.relname as name,
      case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view' when 'm' then 'materialized view'
        else 'foreign table' end as kind,
      pg_catalog.pg_get_userbyid(c.relowner) as owner, c.relrowsecurity as "rowSecurity", c.relforcerowsecurity as forced,
      c.relispartition as partition,
      coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on'], false) as invoker,
      coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') as comment,
      (
        select jsonb_object_agg(w.role, w.rights)
        from (
          select r as role, jsonb_object_agg(p, case when has_table_privilege(r, c.oid, p) then '"all"'::jsonb else k.columns end)
            filter (where has_table_privilege(r, c.oid, p) or k.columns is not null) as rights
          from unnest(${roleNames}::text[]) r
          cross join unnest(${privileges}::text[]) p
          left join lateral (
            select jsonb_agg(a.attname order by a.attname) as columns
            from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and p = any (${byColumn})
              and case when p = any (${byColumn}) then has_column_privilege(r, c.oid, a.attnum, p) end
          ) k on true
          group by r
        ) w
        where w.rights is not null
      ) as rights,
      coalesce((
        select jsonb_agg(jsonb_build_object('name', o.polname, 'permissive', o.polpermissive,
          'command', case o.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
          'roles', (select jsonb_agg(case x when 0 then 'public' else pg_catalog.pg_get_userbyid(x) end) from unnest(o.polroles) x),
          'using', pg_catalog.pg_get_expr(o.polqual, o.polrelid), 'check', pg_catalog.pg_get_expr(o.polwithcheck, o.polrelid))
          order by o.polname)
        from pg_catalog.pg_policy o where o.polrelid = c.oid), '[]') as policies
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where ${own} and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e')
    order by 1, 2`;

  const routines = await sql<Routine[]>`
    select n.nspname as schema, p.proname as name,
      format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as signature,
      case when p.prokind = 'p' then 'procedure' when p.prorettype = 'trigger'::regtype then 'trigger function' else 'function' end as kind,
      pg_catalog.pg_get_userbyid(p.proowner) as owner, p.prosecdef as definer, p.provolatile = 'v' as volatile,
      array(select r from unnest(${roleNames}::text[]) r where has_function_privilege(r, p.oid, 'execute')) as callers,
      coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '') as comment
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where ${own} and not exists (select from pg_catalog.pg_depend d where d.objid = p.oid and d.deptype = 'e')
    order by 3`;

  const sequences = await sql<{ name: string; rights: Partial<Record<SurfaceRole, string[]>> | null }[]>`
    select format('%I.%I', n.nspname, c.relname) as name,
      (
        select jsonb_object_agg(w.role, w.rights)
        from (
          select r as role, jsonb_agg(p) as rights
          from unnest(${roleNames}::text[]) r cross join unnest(array['usage', 'select', 'update']) p
          where case when c.relkind = 'S' then has_sequence_privilege(r, c.oid, p) end
          group by r
        ) w
      ) as rights
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where ${own} and c.relkind = 'S'
    order by 1`;

  const types = await sql<Surface['types']>`
    select format('%I.%I', n.nspname, t.typname) as name,
      case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'r' then 'range' else 'composite' end as kind,
      coalesce((select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid),
        (select string_agg(a.attname, ', ' order by a.attnum) from pg_catalog.pg_attribute a
          where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped), '') as values,
      array(select r from unnest(${roleNames}::text[]) r where has_type_privilege(r, t.oid, 'usage')) as usage
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    left join pg_catalog.pg_class c on c.oid = t.typrelid
    where ${own} and t.typtype in ('e', 'd', 'c', 'r') and (t.typtype <> 'c' or c.relkind = 'c')
      and not exists (select from pg_catalog.pg_depend d where d.objid = t.oid and d.deptype = 'e')
    order by 1`;

  const extensions = await sql<Surface['extensions']>`
    select e.extname as name, e.extnamespace::regnamespace::text as schema from pg_catalog.pg_extension e
    where e.extname <> 'plpgsql'
    order by 1`;

  const publications = await sql<Surface['publications']>`
    select p.pubname as name, case when p.puballtables then 'all tables' else coalesce(
      (select string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by 1) from pg_catalog.pg_publication_tables t
        where t.pubname = p.pubname), 'none') end as tables
    from pg_catalog.pg_publication p
    order by 1`;

  return {
    roles: [...roles],
    schemas: [...schemas],
    relations: relations.map((each) => ({ ...each, rights: each.rights ?? {} })),
    routines: [...routines],
    sequences: sequences.map((each) => ({ ...each, rights: each.rights ?? {} })),
    types: [...types],
    extensions: [...extensions],
    publications: [...publications],
  };
}
