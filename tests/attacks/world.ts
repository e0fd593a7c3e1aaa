/** The world of the attacks: a running API over a database with the scene in it, and the people who attack and are attacked. */
import { randomBytes } from 'node:crypto';
import { createClient } from '@supabase/supabase-js';
import postgres from 'postgres';
import {
  fillWithCanaries,
  idsOfNobody,
  secretCanary,
  seedTenant,
  type TenantIds,
  tablesOfTenants,
  textCanary,
} from './scene.ts';

/** Where the world is: an API with its keys, and the database behind it. */
export interface Server {
  apiUrl: string;
  /** Absent when the functions do not run: attacks on them are left out. */
  functionsUrl: string | undefined;
  publishableKey: string;
  secretKey: string;
  jwtSecret: string;
  cronSecret: string;
  databasePassword: string;
  /** A superuser's: looks at everything, never used by an attack. */
  adminUrl: string;
  /** The owner of the schema, as migrations and the SQL editor have it. */
  ownerUrl: string;
  /** The login of the Data API. */
  authenticatorUrl: string;
  /** The login of Auth. */
  authUrl: string;
  /** The simulated providers, when the functions run. */
  simulators: Partial<Record<'meta' | 'whatsapp' | 'waapi' | 'stripe' | 'resend', string>>;
  /** What the stack and the functions said so far. */
  logs: string[];
  /** A file with what the database server logged. */
  serverLog: string | undefined;
  /** Makes an empty database beside this one, prepared like a fresh project; only where a server of our own runs. */
  emptyDatabase: ((name: string) => Promise<{ url: string; drop(): Promise<void> }>) | undefined;
}

/**
 * - `anon` has the publishable key, `outsider` no key at all, `server` the secret key.
 * - `…A` are people of the attacker's tenant, `…B` of the victim's, `twin` is a member of both.
 * - `removed` was an admin of B, `demoted` its owner and is a viewer now; both have the tokens from before.
 * - `deleted` was a member of B and has deleted the account. `stranger` is signed in and belongs to nobody.
 * - `ofClosed` owns a closed tenant, `ofSuspended` a suspended one.
 */
export const actorNames = [
  ...['anon', 'outsider', 'server', 'stranger', 'removed', 'demoted', 'deleted', 'twin'],
  ...['ownerA', 'adminA', 'memberA', 'viewerA', 'participantA'],
  ...['ownerB', 'adminB', 'memberB', 'viewerB', 'participantB', 'otherParticipantB'],
  ...['ofClosed', 'ofSuspended'],
] as const;
export type ActorName = string;

export interface Actor {
  name: ActorName;
  userId: string;
  token: string | undefined;
  headers: Record<string, string>;
  role: 'anon' | 'authenticated' | 'service_role';
}

export interface Scene {
  ids: { a: TenantIds; b: TenantIds; closed: TenantIds; suspended: TenantIds; none: TenantIds };
  people: Record<string, { userId: string; token: string; email: string }>;
}

/** Those who may read texts of B, all or some. */
const ofB = new Set([
  ...['server', 'demoted', 'twin', 'ownerB', 'adminB', 'memberB', 'viewerB', 'participantB'],
  'otherParticipantB',
]);

const people = actorNames.filter((name) => !['anon', 'outsider', 'server'].includes(name));

const connect = (url: string, max = 1): postgres.Sql =>
  postgres(url, { max, onnotice: () => {}, connect_timeout: 10, connection: { TimeZone: 'UTC' } });

/** Signs people up through the Auth API and fills the database. Done once; the result holds for every copy of the database. */
export async function buildScene(server: Server): Promise<Scene> {
  const found: Scene['people'] = {};
  const password = randomBytes(12).toString('hex');
  const auth = createClient(server.apiUrl, server.publishableKey, { auth: { persistSession: false } }).auth;
  for (const name of people) {
    const email = `${/B$/.test(name) ? `canaryb-${name}` : name}@example.test`.toLowerCase();
    const { data, error } = await auth.signUp({ email, password });
    if (error || !data.user || !data.session) throw new Error(`${name} could not sign up: ${error?.message}`);
    found[name] = { userId: data.user.id, token: data.session.access_token, email };
  }
  const user = (name: string): string => found[name]?.userId ?? '';

  const sql = connect(server.ownerUrl);
  const admin = connect(server.adminUrl);
  try {
    const tenant = (
      key: string,
      slug: string,
      word: string,
      digits: string,
      members: Record<string, string>,
      visitors: [string, string],
    ) =>
      seedTenant(sql, {
        key,
        slug,
        word,
        digits,
        members: Object.fromEntries(Object.entries(members).map(([role, name]) => [role, user(name)])),
        participants: [user(visitors[0]), user(visitors[1])],
      });
    // Numbers long enough to be told apart from everything else in an answer.
    await sql`alter table jobs.items alter column item_id restart with 5000000001`;
    await sql`alter table jobs.batches alter column batch_id restart with 6000000001`;
    const ids = {
      a: await tenant(
        'a',
        'attackers-shop',
        'plain',
        '1230001',
        { owner: 'ownerA', admin: 'adminA', member: 'memberA', viewer: 'viewerA', member2: 'twin' },
        ['participantA', 'stranger'],
      ),
      b: await tenant(
        'b',
        'canaryb-shop',
        'canaryb',
        '7770007',
        {
          ...{ owner: 'ownerB', admin: 'adminB', member: 'memberB', viewer: 'viewerB', member2: 'twin' },
          ...{ admin2: 'removed', owner2: 'demoted', member3: 'deleted' },
        },
        ['participantB', 'otherParticipantB'],
      ),
      closed: await tenant('closed', 'closed-shop', 'shut', '4560001', { owner: 'ofClosed' }, [
        'participantA',
        'twin',
      ]),
      suspended: await tenant('suspended', 'suspended-shop', 'still', '4560002', { owner: 'ofSuspended' }, [
        'participantA',
        'twin',
      ]),
      none: idsOfNobody(),
    };
    // The attacks call more often than anybody should: attack 102 has limits of its own.
    await sql`update private.call_limits set calls = 10000`;
    // The stranger is one to everybody: the second participant of A has no account.
    await sql`update public.participants set user_id = null where user_id = ${user('stranger')}`;
    await sql`update public.tenants set status = 'closed' where id = ${ids.closed.tenant}`;
    await sql`update public.tenants set status = 'suspended' where id = ${ids.suspended.tenant}`;
    await sql`delete from public.memberships where tenant_id = ${ids.b.tenant} and user_id = ${user('removed')}`;
    await sql`
      update public.memberships set role = 'viewer' where tenant_id = ${ids.b.tenant} and user_id = ${user('demoted')}`;
    await admin`delete from auth.users where id = ${user('deleted')}`;

    const empty = await fillWithCanaries(admin, ids.b.tenant, 'canaryb');
    if (empty.length > 0) {
      throw new Error(
        `The victim has no row in ${empty.join(', ')}: nothing could be stolen there. Make one in tests/attacks/scene.ts`,
      );
    }
    return { ids, people: found };
  } finally {
    await Promise.all([sql.end(), admin.end()]);
  }
}

export class World {
  readonly server: Server;
  readonly scene: Scene;
  /** For looking at the truth. */
  readonly admin: postgres.Sql;
  readonly #authenticator: postgres.Sql;
  readonly #actors = new Map<string, Actor>();
  #truth: { name: string; query: string }[] = [];
  #baseline = new Map<string, string>();

  private constructor(server: Server, scene: Scene) {
    this.server = server;
    this.scene = scene;
    this.admin = connect(server.adminUrl);
    this.#authenticator = connect(server.authenticatorUrl, 4);
    for (const name of actorNames) this.#actors.set(name, this.#makeActor(name));
  }

  static async open(server: Server, scene: Scene): Promise<World> {
    const world = new World(server, scene);
    const { tenant } = scene.ids.b;
    const tables = await tablesOfTenants(world.admin);
    world.#truth = [
      ...tables.map(({ name, key }) => ({
        name,
        query: `select t::text from ${name} t where t.${key} = '${tenant}'`,
      })),
      {
        name: 'vault.secrets',
        query: `select s::text from vault.secrets s where s.name like '%${tenant}%' or s.name not like 'credential/%'`,
      },
    ].map(({ name, query }) => ({
      name,
      query: `select '${name}' as name, md5(coalesce(string_agg(r, E'\\n' order by r), '')) as hash from (${query}) q (r)`,
    }));
    await world.takeBaseline();
    return world;
  }

  #makeActor(name: ActorName): Actor {
    const { publishableKey, secretKey } = this.server;
    const person = this.scene.people[name];
    const token = person?.token;
    const headers: Record<string, string> = {};
    if (name !== 'outsider') headers.apikey = name === 'server' ? secretKey : publishableKey;
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    return {
      name,
      userId: person?.userId ?? '',
      token,
      headers,
      role: name === 'server' ? 'service_role' : token === undefined ? 'anon' : 'authenticated',
    };
  }

  actor(name: ActorName): Actor {
    const actor = this.#actors.get(name);
    if (!actor) throw new Error(`there is no "${name}" in the scene`);
    return actor;
  }

  /** A statement in a transaction of the Data API's kind. Arrays of statements share the transaction; the last one answers. */
  async asActor(actor: Actor, query: string, claims?: Record<string, unknown>) {
    const given = JSON.stringify(
      claims ?? {
        role: actor.role,
        ...(actor.userId === '' ? {} : { sub: actor.userId, aud: 'authenticated' }),
      },
    );
    try {
      const rows = await this.#authenticator.begin(async (sql) => {
        await sql`select set_config('role', ${actor.role}, true), set_config('request.jwt.claims', ${given}, true),
          set_config('statement_timeout', '8s', true)`;
        // Several statements answer with several results: the last one counts.
        const results: unknown = await sql.unsafe(query);
        const last = Array.isArray(results) ? results.at(-1) : undefined;
        return (Array.isArray(last) ? last : results) as Record<string, unknown>[];
      });
      return { rows: rows.map((row) => ({ ...row })), code: undefined, message: '' };
    } catch (error) {
      if (!(error instanceof postgres.PostgresError)) throw error;
      return {
        rows: [],
        code: error.code,
        message: `${error.message} ${error.detail ?? ''} ${error.hint ?? ''}`,
      };
    }
  }

  /** Runs a statement as the superuser in a transaction that is rolled back; answers with the SQLSTATE, or `accepted`. */
  async tryAndUndo(statement: string): Promise<string> {
    const undone = new Error('undone');
    try {
      await this.admin.begin(async (sql) => {
        await sql.unsafe(statement);
        throw undone;
      });
    } catch (error) {
      if (error === undone) return 'accepted';
      if (error instanceof postgres.PostgresError) return error.code;
      throw error;
    }
    return 'accepted';
  }

  async #hashes(): Promise<Map<string, string>> {
    const rows = await this.admin.unsafe<{ name: string; hash: string }[]>(
      this.#truth.map(({ query }) => query).join(' union all '),
    );
    return new Map(rows.map(({ name, hash }) => [name, hash]));
  }

  /** From here on the victim's rows are what they are now. */
  async takeBaseline(): Promise<void> {
    this.#baseline = await this.#hashes();
  }

  /** The tables in which the victim's rows changed since the baseline. */
  async changesOfB(): Promise<string[]> {
    const now = await this.#hashes();
    return [...now].filter(([name, hash]) => this.#baseline.get(name) !== hash).map(([name]) => name);
  }

  /** The secrets that nobody may be told, whoever asks. */
  get secrets(): string[] {
    const { secretKey, jwtSecret, cronSecret, databasePassword } = this.server;
    return [secretKey, jwtSecret, cronSecret, databasePassword];
  }

  /** What a text gives away to somebody; `undefined` is somebody who may know nothing. */
  canariesIn(text: string, reader: Actor | undefined): string[] {
    const found: string[] = [];
    const secret = secretCanary.exec(text);
    if (secret) found.push(`a secret: ${text.slice(secret.index, secret.index + 40)}`);
    if (this.secrets.some((each) => text.includes(each))) found.push('a secret of the platform');
    const private_ = textCanary.exec(text);
    if (private_ && !(reader && ofB.has(reader.name))) {
      found.push(
        `a text of the victim: ${text.slice(Math.max(0, private_.index - 40), private_.index + 60)}`,
      );
    }
    return found;
  }

  async close(): Promise<void> {
    await Promise.all([this.admin.end({ timeout: 1 }), this.#authenticator.end({ timeout: 1 })]);
  }
}
