/** What the Data API offers, read from the catalog: so that a new table or function is attacked without being asked to. */
import { type Rights, readSurface, type Surface } from '../../scripts/dev/surface.ts';
import type { TenantIds } from './scene.ts';
import type { World } from './world.ts';

export interface ApiTable {
  name: string;
  view: boolean;
  /** The column that says whose row it is; undefined for rows that belong to nobody. */
  key: string | undefined;
  primaryKey: string[];
  columns: string[];
  /** What a signed-in user may read: `*`, or a list of columns for `select=`. */
  select: string;
  rights: Rights;
}

const surfaces = new WeakMap<World, Promise<Surface>>();

/** The surface, read once per world. */
export function surfaceOf(world: World): Promise<Surface> {
  let found = surfaces.get(world);
  if (!found) {
    found = readSurface(world.server.adminUrl);
    surfaces.set(world, found);
  }
  return found;
}

export async function apiTables(world: World): Promise<ApiTable[]> {
  const { relations } = await surfaceOf(world);
  const details = await world.admin<{ name: string; columns: string[]; primary_key: string[] }[]>`
    select c.relname as name,
      array(select a.attname::text from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
      array(select a.attname::text from pg_catalog.pg_constraint k, unnest(k.conkey) x (attnum), pg_catalog.pg_attribute a
        where k.conrelid = c.oid and k.contype = 'p' and a.attrelid = c.oid and a.attnum = x.attnum) as primary_key
    from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')`;
  return relations
    .filter((each) => each.schema === 'public')
    .map((each) => {
      const { columns = [], primary_key: primaryKey = [] } =
        details.find((detail) => detail.name === each.name) ?? {};
      const rights = each.rights.authenticated ?? {};
      const readable = rights.select === undefined ? [] : rights.select;
      return {
        name: each.name,
        view: each.kind.endsWith('view'),
        key: each.name === 'tenants' ? 'id' : columns.includes('tenant_id') ? 'tenant_id' : undefined,
        primaryKey,
        columns,
        select: readable === 'all' ? '*' : readable.join(','),
        rights,
      };
    });
}

/** Tables of which people may read something, with the column that says whose the rows are. */
export async function tenantTables(world: World): Promise<(ApiTable & { key: string })[]> {
  const tables = await apiTables(world);
  return tables.filter(
    (each): each is ApiTable & { key: string } => each.key !== undefined && each.select !== '',
  );
}

export interface ApiFunction {
  name: string;
  schema: string;
  arguments: string[];
  volatile: boolean;
  callers: string[];
}

export async function apiFunctions(world: World, schema: 'public' | 'jobs'): Promise<ApiFunction[]> {
  const { routines } = await surfaceOf(world);
  const named = await world.admin<{ signature: string; arguments: string[] | null }[]>`
    select format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as signature,
      p.proargnames[1:p.pronargs]::text[] as arguments
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = ${schema}`;
  return routines
    .filter((each) => each.schema === schema && each.kind === 'function')
    .map((each) => ({
      name: each.name,
      schema,
      arguments: named.find(({ signature }) => signature === each.signature)?.arguments ?? [],
      volatile: each.volatile,
      callers: each.callers,
    }));
}

/** One row of the tenant by its primary key, as filters. Undefined when the table shows no key. */
export async function filterOfRow(
  world: World,
  table: ApiTable,
  tenant: string,
): Promise<string | undefined> {
  if (table.view || table.primaryKey.length === 0 || table.key === undefined) return undefined;
  const rows = await world.admin.unsafe<Record<string, unknown>[]>(
    `select ${table.primaryKey.map((column) => `"${column}"`).join(', ')} from public."${table.name}" where "${table.key}" = '${tenant}' limit 1`,
  );
  const [row] = rows;
  return row && table.primaryKey.map((column) => `${column}=eq.${String(row[column])}`).join('&');
}

/** A row that its rightful owner could insert; tables that people may insert into need an entry here. */
export const insertable: Record<string, (ids: TenantIds) => Record<string, unknown>> = {
  campaigns: (ids) => ({ tenant_id: ids.tenant, name: 'An insert' }),
  cohorts: (ids) => ({ tenant_id: ids.tenant, name: `An insert ${crypto.randomUUID()}` }),
  social_tasks: (ids) => ({
    tenant_id: ids.tenant,
    campaign_id: ids.campaign,
    kind: 'instagram_comment',
    title: 'An insert',
    post_id: '1',
  }),
  // One per kind, channel and language: the languages of this world do not run out.
  message_templates: (ids) => ({
    tenant_id: ids.tenant,
    kind: 'alert',
    language: Array.from({ length: 3 }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join(
      '',
    ),
    body: 'canaryb insert',
  }),
};

/**
 * Columns that nobody may read over the API, whatever the catalog says of the day: where a secret lies in Vault, what an
 * invitation's token must match. The other columns without a grant are found in the catalog.
 */
export const neverShown: Record<string, readonly string[]> = {
  credentials: ['secret_id'],
  invitations: ['token_hash'],
  participants: ['user_id'],
};

/** The path of rows of a table, by a filter; where columns are hidden, all is refused that does not name others. */
export function pathOf(table: string, filter = ''): string {
  const named = table === 'participants' ? 'select=tenant_id,id,display_name,phone' : '';
  return `/${table}?${[named, filter].filter((part) => part !== '').join('&')}`;
}

/** A change that its rightful owner could make, and who may make it; tables that people may update need an entry here. */
export const updatable: Record<
  string,
  {
    change: (word: string) => Record<string, unknown>;
    by: string;
    byOfA: string;
    row: (ids: TenantIds) => string;
  }
> = {
  campaigns: {
    change: (word) => ({ name: `${word} change` }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `id=eq.${ids.campaign}`,
  },
  campaign_strategies: {
    change: () => ({ strategy: 'manual', acceptance_rate: 0.5 }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `campaign_id=eq.${ids.campaign}`,
  },
  cohorts: {
    change: (word) => ({ name: `${word} change` }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `id=eq.${ids.cohort}`,
  },
  social_tasks: {
    change: (word) => ({ title: `${word} change` }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `id=eq.${ids.task}`,
  },
  tenants: {
    change: (word) => ({ name: `${word} change` }),
    by: 'adminB',
    byOfA: 'adminA',
    row: (ids) => `id=eq.${ids.tenant}`,
  },
  message_templates: {
    change: (word) => ({ body: `${word} change` }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `id=eq.${ids.template}`,
  },
  message_settings: {
    change: () => ({ messages_per_second: 50 }),
    by: 'adminB',
    byOfA: 'adminA',
    row: (ids) => `tenant_id=eq.${ids.tenant}`,
  },
  reminder_settings: {
    change: () => ({ remind_before: '5 hours' }),
    by: 'memberB',
    byOfA: 'memberA',
    row: (ids) => `campaign_id=eq.${ids.campaign}`,
  },
  participants: {
    change: (word) => ({ display_name: `${word} change` }),
    by: 'participantB',
    byOfA: 'participantA',
    row: (ids) => `id=eq.${ids.participant}`,
  },
};

/** Tables of which people may delete rows: who may, and something that nobody needs afterwards. */
export const deletable: Record<string, { by: string; row: (ids: TenantIds) => string }> = {
  campaigns: { by: 'adminB', row: (ids) => `id=eq.${ids.draft}` },
  cohorts: { by: 'adminB', row: (ids) => `id=eq.${ids.spareCohort}` },
  social_tasks: { by: 'adminB', row: (ids) => `id=eq.${ids.openTask}` },
  message_templates: { by: 'adminB', row: (ids) => `id=eq.${ids.spareTemplate}` },
};
