/** D. Writing into another tenant, or into columns that are not the writer's. */
import {
  attack,
  codeOf,
  type Group,
  inWords,
  isDone,
  isFailure,
  noAttack,
  rowsOf,
  type Trial,
} from './harness.ts';
import { uuidOf } from './scene.ts';
import { apiTables, deletable, insertable, pathOf, surfaceOf, tenantTables, updatable } from './tables.ts';

const asked = { prefer: 'return=representation' };
const strangers = ['ownerA', 'memberA', 'participantA', 'stranger', 'removed', 'deleted', 'ofClosed', 'anon'];

/** Tables into which people may insert, update or delete; one that no sample covers is a finding. */
async function covered(trial: Trial): Promise<void> {
  for (const table of await apiTables(trial.world)) {
    for (const [right, samples] of [
      ['insert', insertable],
      ['update', updatable],
      ['delete', deletable],
    ] as const) {
      trial.expect(
        table.rights[right] === undefined || table.name in samples,
        `people may ${right} ${table.name}, and no sample in tests/attacks/tables.ts attacks it`,
      );
    }
  }
}

async function ownerInserts(trial: Trial, table: string): Promise<void> {
  await trial.control(`a member of B inserts into ${table}`, async () => {
    const row = { ...insertable[table]?.(trial.ids.b) };
    for (const name of ['name', 'title']) if (name in row) row[name] = 'canaryb insert';
    return (
      (await trial.rest('memberB', 'POST', `/${table}`, { headers: { prefer: 'return=minimal' }, body: row }))
        .status === 201
    );
  });
}

export const writes: Group = {
  letter: 'D',
  title: 'Writing into another tenant',
  attacks: [
    attack('45', 'INSERT with another tenant’s id, with none, left out, by default', async (trial) => {
      await covered(trial);
      const { b } = trial.ids;
      for (const table of Object.keys(insertable)) {
        await ownerInserts(trial, table);
        const row: Record<string, unknown> = insertable[table]?.(b) ?? {};
        const { tenant_id: _, ...without } = row;
        for (const who of strangers) {
          trial.refused(
            await trial.rest(who, 'POST', `/${table}`, { body: row }),
            `${who} inserts for B into ${table}`,
          );
        }
        const forms: [string, unknown, Record<string, string>][] = [
          ['', { ...row, tenant_id: null }, {}],
          ['', without, {}],
          ['', without, { prefer: 'missing=default' }],
          [`?columns=${Object.keys(without).join(',')}`, [row], { prefer: 'missing=default' }],
          [`?columns=${Object.keys(row).join(',')}`, [without], { prefer: 'missing=default' }],
          ['', { ...row, tenant_id: '' }, {}],
          ['', { ...row, tenant_id: [b.tenant] }, {}],
        ];
        for (const [query, body, headers] of forms) {
          trial.refused(
            await trial.rest('ownerA', 'POST', `/${table}${query}`, { body, headers }),
            `${table}${query} ${JSON.stringify(body)}`,
          );
        }
      }
      for (const table of (await tenantTables(trial.world)).filter(
        (each) => each.rights.insert === undefined && !each.view,
      )) {
        for (const who of ['ownerA', 'ownerB']) {
          const answer = await trial.rest(who, 'POST', `/${table.name}`, {
            body: { [table.key]: who === 'ownerA' ? trial.ids.a.tenant : b.tenant },
          });
          trial.refused(answer, `${who} inserts into ${table.name}`);
        }
      }
    }),
    attack('46', 'one row for B among own rows: nothing is written', async (trial) => {
      const { a, b } = trial.ids;
      for (const table of Object.keys(insertable)) {
        await ownerInserts(trial, table);
        const count = async () => (await trial.world.admin.unsafe(`select from public.${table}`)).length;
        const before = await count();
        const rows = [insertable[table]?.(a), insertable[table]?.(b), insertable[table]?.(a)];
        trial.refused(
          await trial.rest('memberA', 'POST', `/${table}`, { body: rows }),
          `a bulk insert into ${table}`,
        );
        trial.expect((await count()) === before, `a part of a refused bulk insert into ${table} stayed`);
      }
    }),
    attack('47', 'moving an own row to B', async (trial) => {
      const { a, b } = trial.ids;
      for (const [table, { change, by, byOfA, row }] of Object.entries(updatable)) {
        await trial.control(
          `${by} changes a row of ${table}`,
          async () =>
            rowsOf(
              await trial.rest(by, 'PATCH', pathOf(table, row(b)), {
                headers: asked,
                body: change('canaryb'),
              }),
            ).length === 1,
        );
        const key = table === 'tenants' ? 'id' : 'tenant_id';
        for (const filter of [row(a), '', `${key}=eq.${a.tenant}`]) {
          for (const body of [{ [key]: b.tenant }, { ...change('plain'), [key]: b.tenant }]) {
            trial.refused(
              await trial.rest(byOfA, 'PATCH', pathOf(table, filter), { headers: asked, body }),
              `${table}?${filter}`,
            );
          }
        }
        // Without the column grant in the way, the trigger still holds: the platform itself cannot move a row.
        if (key === 'id' || table === 'tenants') continue;
        const moved = await trial.sql(
          'server',
          `update public.${table} set tenant_id = '${b.tenant}' where tenant_id = '${a.tenant}'`,
        );
        trial.refusedSql(moved, `the secret key moves rows of ${table}`);
      }
    }),
    attack('47b', 'changing and deleting rows of B', async (trial) => {
      const { b } = trial.ids;
      for (const [table, { change, by, row }] of Object.entries(updatable)) {
        await trial.control(
          `${by} changes ${table}`,
          async () =>
            rowsOf(
              await trial.rest(by, 'PATCH', pathOf(table, row(b)), {
                headers: asked,
                body: change('canaryb'),
              }),
            ).length === 1,
        );
        for (const who of [
          ...strangers,
          'viewerB',
          ...(['tenants', 'message_settings'].includes(table) ? ['memberB'] : []),
        ]) {
          for (const filter of [row(b), `or=(${row(b).replace('=', '.')},id.is.null)`]) {
            const answer = await trial.rest(who, 'PATCH', pathOf(table, filter), {
              headers: asked,
              body: change('stolen'),
            });
            trial.expect(rowsOf(answer).length === 0, `${who} changed ${table}: ${inWords(answer)}`);
          }
        }
      }
      for (const [table, { by, row }] of Object.entries(deletable)) {
        for (const who of [...strangers, 'viewerB', 'memberB']) {
          const answer = await trial.rest(who, 'DELETE', `/${table}?${row(b)}`, { headers: asked });
          trial.expect(rowsOf(answer).length === 0, `${who} deleted from ${table}: ${inWords(answer)}`);
        }
        await trial.control(
          `${by} deletes from ${table}`,
          async () =>
            rowsOf(await trial.rest(by, 'DELETE', `/${table}?${row(b)}`, { headers: asked })).length === 1,
        );
      }
      for (const table of (await tenantTables(trial.world)).filter((each) => !each.view)) {
        for (const who of ['ownerA', 'ownerB', 'participantB']) {
          if (table.name in deletable) continue;
          trial.refused(
            await trial.rest(who, 'DELETE', `/${table.name}?${table.key}=eq.${b.tenant}`),
            `${who} deletes from ${table.name}`,
          );
        }
      }
    }),
    attack(
      '48',
      'upserts: with B’s primary key, with B’s unique key, ignoring duplicates: no oracle',
      async (trial) => {
        const { a, b, none } = trial.ids;
        await ownerInserts(trial, 'campaigns');
        for (const prefer of ['resolution=merge-duplicates', 'resolution=ignore-duplicates']) {
          const upsert = (id: string, tenant: string) =>
            trial.rest('memberA', 'POST', '/campaigns?on_conflict=tenant_id,id', {
              headers: { prefer },
              body: { id, tenant_id: tenant, name: 'stolen' },
            });
          for (const tenant of [a.tenant, b.tenant]) {
            const real = await upsert(b.campaign, tenant);
            const unreal = await upsert(none.campaign, tenant);
            trial.alike(
              `${prefer} into ${tenant}`,
              { answer: real, sent: [b.campaign] },
              { answer: unreal, sent: [none.campaign] },
            );
            trial.refused(real, `an upsert of B’s campaign into ${tenant}`);
          }
          for (const slug of [b.slug, 'nobody-has-this-slug']) {
            trial.refused(
              await trial.rest('ownerA', 'POST', '/tenants?on_conflict=slug', {
                headers: { prefer },
                body: { slug, name: 'stolen' },
                knows: [b.slug],
              }),
              `an upsert of the slug ${slug}`,
            );
          }
        }
        trial.refused(
          await trial.rest('memberA', 'PUT', `/campaigns?tenant_id=eq.${b.tenant}&id=eq.${b.campaign}`, {
            body: { tenant_id: b.tenant, id: b.campaign, name: 'stolen' },
          }),
          'PUT of B’s campaign',
        );
        // Unique keys hold the tenant: what B has is free for A.
        await trial.world.asActor(
          trial.world.actor('participantA'),
          `update public.participants set phone = null where id = '${a.participant}'`,
        );
        const same = await trial.rest('participantA', 'PATCH', `/participants?id=eq.${a.participant}`, {
          body: { instagram_username: 'canaryb.person', phone: '+4977700071' },
          knows: ['canaryb.person', '+4977700071'],
        });
        trial.expect(isDone(same), `a user name that is taken in B is refused in A: ${inWords(same)}`);
        await trial.rest('participantA', 'PATCH', `/participants?id=eq.${a.participant}`, {
          body: { instagram_username: 'plain.person', phone: '+4912300011' },
        });
      },
    ),
    attack('49', 'a child with B’s parent and one with nobody’s parent fail alike', async (trial) => {
      const { a, b, none } = trial.ids;
      await ownerInserts(trial, 'social_tasks');
      const insert = (campaign: string) =>
        trial.rest('memberA', 'POST', '/social_tasks', {
          body: { ...insertable.social_tasks?.(a), campaign_id: campaign },
        });
      const [real, unreal] = [await insert(b.campaign), await insert(none.campaign)];
      trial.refused(real, 'a task under B’s campaign');
      trial.expect(codeOf(real) === '23503', `it fails for another reason: ${inWords(real)}`);
      trial.alike(
        'a task under B’s campaign',
        { answer: real, sent: [b.campaign] },
        { answer: unreal, sent: [none.campaign] },
      );
      // Each foreign key of each table of tenants, as the platform: the structure refuses what a bug in a function would let through.
      const keys = await trial.world.admin<{ child: string; column: string; parent: string; name: string }[]>`
        select k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent, k.conname as name, a.attname as column
        from pg_catalog.pg_constraint k
        cross join lateral unnest(k.conkey, k.confkey) as c (mine, theirs)
        join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.mine and a.attname <> 'tenant_id'
        join pg_catalog.pg_attribute p on p.attrelid = k.confrelid and p.attnum = c.theirs and p.attname = 'id'
        join pg_catalog.pg_attribute t on t.attrelid = k.confrelid and t.attname = 'tenant_id' and not t.attisdropped
        where k.contype = 'f' and k.connamespace = 'public'::regnamespace`;
      trial.expect(keys.length >= 8, `only ${keys.length} composite foreign keys were found`);
      for (const { child, column, parent, name } of keys) {
        const [theirs] = await trial.world.admin.unsafe(
          `select id from ${parent} where tenant_id = '${b.tenant}' limit 1`,
        );
        const crossed = await trial.world.tryAndUndo(
          `update ${child} set "${column}" = '${theirs?.id}' where tenant_id = '${a.tenant}'; set constraints all immediate`,
        );
        trial.expect(
          // An entry of the ledger of consent refers to what it refers to, for good.
          crossed === '23503' || crossed === '23505' || (child === 'opt_ins' && crossed === '42501'),
          `${name}: a row of A refers to a row of B: ${crossed}`,
        );
      }
    }),
    attack('50', 'nothing of A can pin rows of B', async (trial) => {
      const { a, b } = trial.ids;
      await trial.rest('memberA', 'POST', '/social_tasks', {
        body: { ...insertable.social_tasks?.(a), campaign_id: b.draft },
      });
      await trial.rest('memberA', 'POST', '/social_tasks', {
        body: { ...insertable.social_tasks?.(b), campaign_id: b.draft },
      });
      await trial.control('B deletes its own campaign', async () => {
        const made = rowsOf(
          await trial.rest('memberB', 'POST', '/campaigns', {
            headers: asked,
            body: { tenant_id: b.tenant, name: 'canaryb short-lived' },
          }),
        );
        const id = String(made[0]?.id);
        await trial.rest('memberA', 'POST', '/social_tasks', {
          body: { ...insertable.social_tasks?.(a), campaign_id: id },
        });
        return (
          rowsOf(await trial.rest('adminB', 'DELETE', `/campaigns?id=eq.${id}`, { headers: asked }))
            .length === 1
        );
      });
    }),
    attack('51', 'moving a child under B’s parent', async (trial) => {
      const { a, b } = trial.ids;
      await trial.control(
        'a member of B changes the task',
        async () =>
          rowsOf(
            await trial.rest('memberB', 'PATCH', `/social_tasks?id=eq.${b.task}`, {
              headers: asked,
              body: { title: 'canaryb title' },
            }),
          ).length === 1,
      );
      for (const campaign of [b.campaign, trial.ids.none.campaign]) {
        trial.refused(
          await trial.rest('memberA', 'PATCH', `/social_tasks?id=eq.${a.task}`, {
            body: { campaign_id: campaign },
          }),
          'another campaign',
        );
      }
    }),
    attack('52', 'columns that the database fills cannot be given', async (trial) => {
      const { a, b } = trial.ids;
      await ownerInserts(trial, 'campaigns');
      for (const [table, sample] of Object.entries(insertable)) {
        for (const column of [
          'id',
          'created_at',
          'updated_at',
          'created_by',
          'deleted_at',
          'version',
          'verified_at',
          'xmin',
          'ctid',
          'tableoid',
        ]) {
          const value = column === 'id' ? uuidOf(`given ${table}`) : column === 'version' ? 9 : '2001-01-01';
          trial.refused(
            await trial.rest('memberA', 'POST', `/${table}`, { body: { ...sample(a), [column]: value } }),
            `${table}.${column} inserted`,
          );
          trial.refused(
            await trial.rest('memberA', 'PATCH', `/${table}?tenant_id=eq.${a.tenant}`, {
              body: { [column]: value },
            }),
            `${table}.${column} changed`,
          );
        }
      }
      trial.expect(a.tenant !== b.tenant, 'two tenants');
    }),
    attack(
      '53',
      'mass assignment on own rows: plan, status, role, health, secrets, verdicts',
      async (trial) => {
        const { a, b } = trial.ids;
        const given: Record<string, Record<string, unknown>> = {
          tenants: {
            plan_id: 'enterprise',
            status: 'active',
            slug: 'admin-of-all',
            id: b.tenant,
            created_at: '2001-01-01',
          },
          memberships: { role: 'owner', user_id: trial.world.actor('stranger').userId },
          participants: {
            user_id: trial.world.actor('stranger').userId,
            id: b.participant,
            tenant_id: b.tenant,
            created_at: '2001-01-01',
          },
          campaigns: {
            id: b.campaign,
            tenant_id: b.tenant,
            created_at: '2001-01-01',
            updated_at: '2001-01-01',
          },
          social_tasks: { campaign_id: b.campaign, kind: 'facebook_comment', id: b.task },
          completions: {
            status: 'verified',
            verified_at: '2026-01-01',
            deadline: '2099-01-01',
            evidence: { comment_id: '1' },
            code: 'x',
          },
          spin_ledger: { spins: 1000, reason: 'mine' },
          notification_outbox: { status: 'queued', recipient: '+4912300099', body: 'mine', held_until: null },
          credentials: {
            secret_id: uuidOf('x'),
            fingerprint: 'x',
            health: 'healthy',
            account: { page_id: '1' },
          },
          plans: { weight: 100, cap: 10000, rate_per_minute: null },
          audit_log: { action: 'nothing', actor: 'nobody' },
        };
        await trial.control(
          'the owner of B changes the name',
          async () =>
            rowsOf(
              await trial.rest('adminB', 'PATCH', `/tenants?id=eq.${b.tenant}`, {
                headers: asked,
                body: { name: 'canaryb name' },
              }),
            ).length === 1,
        );
        const plan = async () =>
          JSON.stringify(
            await trial.world.admin`select plan_id, status, slug from public.tenants where id = ${a.tenant}`,
          );
        const before = await plan();
        for (const [table, columns] of Object.entries(given)) {
          for (const [column, value] of Object.entries(columns)) {
            for (const who of ['ownerA', 'participantA', 'viewerA']) {
              const answer = await trial.rest(who, 'PATCH', `/${table}`, {
                headers: asked,
                body: { [column]: value },
              });
              trial.expect(rowsOf(answer).length === 0, `${who} set ${table}.${column}: ${inWords(answer)}`);
            }
          }
        }
        trial.expect((await plan()) === before, 'the attacker’s plan changed');
        // The nearest thing to `is_platform_admin`: any column or table of that name is for the platform alone.
        const { relations } = await surfaceOf(trial.world);
        for (const each of relations.filter(({ name }) => /platform/.test(name))) {
          const writes = ['insert', 'update', 'delete'].filter(
            (right) => each.rights.authenticated?.[right] !== undefined,
          );
          trial.expect(writes.length === 0, `people may ${writes.join(', ')} ${each.name}`);
        }
      },
    ),
    attack(
      '54',
      'a member cannot do what is an admin’s: credentials, members, the tenant itself',
      async (trial) => {
        const { a, b } = trial.ids;
        const secret = { access_token: 'topsecret-attack-54' };
        const args = (tenant: string) => ({
          tenant_id: tenant,
          provider: 'meta',
          kind: 'facebook_login',
          secret,
          account: { page_id: '12' },
        });
        for (const who of ['memberA', 'viewerA', 'participantA']) {
          trial.refused(await trial.rpc(who, 'set_credential', args(a.tenant)), `${who} sets a credential`);
          trial.refused(
            await trial.rpc(who, 'remove_credential', { tenant_id: a.tenant, provider: 'meta' }),
            `${who} removes a credential`,
          );
          for (const [method, path, body] of [
            ['PATCH', `/tenants?id=eq.${a.tenant}`, { name: 'mine' }],
            ['PATCH', `/memberships?tenant_id=eq.${a.tenant}`, { role: 'owner' }],
            ['DELETE', `/memberships?tenant_id=eq.${a.tenant}`, undefined],
            [
              'POST',
              '/memberships',
              { tenant_id: a.tenant, user_id: trial.world.actor('stranger').userId, role: 'owner' },
            ],
          ] as const) {
            const answer = await trial.rest(who, method, path, { headers: asked, ...(body ? { body } : {}) });
            trial.expect(rowsOf(answer).length === 0, `${who} ${method} ${path}: ${inWords(answer)}`);
          }
        }
        trial.expect(
          rowsOf(await trial.rest('memberA', 'GET', '/credentials?select=id')).length === 0,
          'a member reads credentials',
        );
        const id = (name: string) => trial.world.actor(name).userId;
        for (const who of ['memberA', 'viewerA', 'participantA']) {
          const upwards: [string, Record<string, unknown>][] = [
            ['change_role', { user_id: id(who), role: 'owner' }],
            ['change_role', { user_id: id('viewerA'), role: 'admin' }],
            ['remove_member', { user_id: id('ownerA') }],
            ...(who === 'viewerA'
              ? []
              : ([['remove_member', { user_id: id('viewerA') }]] as [string, Record<string, unknown>][])),
            ['transfer_ownership', { user_id: id(who) }],
            ['invite_member', { email: 'x@example.test', role: 'viewer' }],
            ['list_members', {}],
            ['close_tenant', {}],
            ['reopen_tenant', {}],
            ['suspend_tenant', { reason: 'x' }],
            ['revoke_invitation', { invitation_id: a.invitation }],
          ];
          for (const [name, more] of upwards) {
            trial.refused(await trial.rpc(who, name, { tenant_id: a.tenant, ...more }), `${who} ${name}`);
          }
        }
        // An admin does not reach up either. A second owner: the last one is held by another rule.
        const setRole = (role: string) => trial.world.admin`
          update public.memberships set role = ${role}::public.member_role where tenant_id = ${a.tenant} and user_id = ${id('twin')}`;
        await setRole('owner');
        const beyond: [string, Record<string, unknown>][] = [
          ...['ownerA', 'twin'].flatMap((who): [string, Record<string, unknown>][] => [
            ['change_role', { user_id: id(who), role: 'viewer' }],
            ['remove_member', { user_id: id(who) }],
          ]),
          ['change_role', { user_id: id('adminA'), role: 'owner' }],
          ['transfer_ownership', { user_id: id('adminA') }],
          ['close_tenant', {}],
          ['invite_member', { email: 'x@example.test', role: 'owner' }],
        ];
        for (const [name, more] of beyond) {
          const answer = await trial.rpc('adminA', name, { tenant_id: a.tenant, ...more });
          trial.expect(codeOf(answer) === '42501', `adminA ${name}: ${inWords(answer)}`);
        }
        for (const stranger of [id('stranger'), id('ownerB'), trial.ids.none.tenant]) {
          const answer = await trial.rpc('ownerA', 'transfer_ownership', {
            tenant_id: a.tenant,
            user_id: stranger,
          });
          trial.expect(
            codeOf(answer) === 'PT404',
            `the ownership goes to somebody who is no member: ${inWords(answer)}`,
          );
        }
        await setRole('member');
        await trial.control('an admin of B sets a credential', async () =>
          isDone(
            await trial.rpc('adminB', 'set_credential', {
              ...args(b.tenant),
              secret: { access_token: 'topsecret-b-meta-2' },
              account: { page_id: '77700075' },
            }),
          ),
        );
      },
    ),
    attack(
      '55',
      'pointer swap: a secret, an account or a name of B cannot be made A’s own',
      async (trial) => {
        const { a, b } = trial.ids;
        const [theirs] = await trial.world.admin<{ secret_id: string; name: string }[]>`
        select c.secret_id, s.name from public.credentials c join vault.secrets s on s.id = c.secret_id where c.tenant_id = ${b.tenant} and c.provider = 'meta'`;
        trial.refused(
          await trial.rest('ownerA', 'PATCH', `/credentials?tenant_id=eq.${a.tenant}`, {
            body: { secret_id: theirs?.secret_id },
          }),
          'secret_id set to B’s',
        );
        trial.refused(
          await trial.rest('ownerA', 'POST', '/credentials', {
            body: {
              tenant_id: a.tenant,
              provider: 'stripe',
              kind: 'own_key',
              secret_id: theirs?.secret_id,
              fingerprint: 'x',
            },
          }),
          'a credential with B’s secret_id',
        );
        // Names are made of ids that the database checks: none can be smuggled in.
        for (const provider of ['meta/../', `meta' or '1'='1`, `../${b.tenant}/meta`, null, 'META', '']) {
          trial.refused(
            await trial.rpc('ownerA', 'set_credential', {
              tenant_id: a.tenant,
              provider,
              kind: 'facebook_login',
              secret: { access_token: 'topsecret-attack-55' },
            }),
            `provider ${provider}`,
          );
        }
        await trial.control('B’s item is still processed with B’s secret', async () => {
          const [row] = await trial.world.admin<
            { own: string }[]
          >`select private.credential_for(${b.tenant}, 'meta', true) -> 'secret' ->> 'access_token' as own`;
          return row?.own?.startsWith('topsecret-b-meta') ?? false;
        });
        const [row] = await trial.world.admin<
          { own: string }[]
        >`select private.credential_for(${a.tenant}, 'meta', true) -> 'secret' ->> 'access_token' as own`;
        trial.expect(row?.own === 'topsecret-a-meta', `A’s item would be processed with ${row?.own}`);
      },
    ),
    attack('56', 'changing the host of a credential cannot send a stored secret elsewhere', async (trial) => {
      const { a, b } = trial.ids;
      for (const account of [
        { api_url: 'https://evil.example', page_id: '1' },
        { host: 'evil.example', instance_id: '1' },
      ]) {
        trial.refused(
          await trial.rest('ownerA', 'PATCH', `/credentials?tenant_id=eq.${a.tenant}`, { body: { account } }),
          'the account alone',
        );
        // Without the secret nothing is stored.
        trial.refused(
          await trial.rpc('ownerA', 'set_credential', {
            tenant_id: a.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: {},
            account,
          }),
          'without the secret',
        );
        trial.refused(
          await trial.rpc('ownerA', 'set_credential', {
            tenant_id: a.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: null,
            account,
          }),
          'with a null for the secret',
        );
      }
      // A gateway of the tenant's own: another host, and the secret of the old one is not known any more.
      const gateway = (host: string) => ({
        method: 'POST',
        url: `https://${host}/send-message`,
        body: { number: '{{number}}', message: '{{message}}' },
        headers: { apikey: '{{api_key}}' },
        success: { path: 'status', equals: true },
      });
      const acknowledge = (who: string, tenant_id: string) =>
        trial.rpc(who, 'acknowledge_rule', { tenant_id, rule: 'unofficial_gateway', version: 1 });
      await acknowledge('ownerA', a.tenant);
      for (const secret of [null, {}, { api_key: '' }, { api_key: null }]) {
        trial.refused(
          await trial.rpc('ownerA', 'set_credential', {
            tenant_id: a.tenant,
            provider: 'whatsapp',
            kind: 'gateway',
            secret,
            account: gateway('evil.example'),
          }),
          `another host with the secret ${JSON.stringify(secret)}`,
        );
      }
      await trial.control('with the secret it is', async () =>
        isDone(
          await trial.rpc('ownerB', 'set_credential', {
            tenant_id: b.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: { access_token: 'topsecret-b-meta' },
            account: { page_id: '77700075' },
          }),
        ),
      );
      await trial.control('and so is a gateway', async () => {
        await acknowledge('ownerB', b.tenant);
        return isDone(
          await trial.rpc('ownerB', 'set_credential', {
            tenant_id: b.tenant,
            provider: 'whatsapp',
            kind: 'gateway',
            secret: { api_key: 'topsecret-b-whatsapp' },
            account: gateway('gateway.example.com'),
          }),
        );
      });
    }),
    attack(
      '57',
      'history, verdicts, ledgers, logs and alerts cannot be written or deleted',
      async (trial) => {
        const { a, b } = trial.ids;
        const tables = [
          'audit_log',
          'completions',
          'spin_ledger',
          'notification_outbox',
          'opt_ins',
          'memberships',
          'plans',
        ];
        for (const table of tables) {
          for (const who of ['ownerA', 'participantA', 'ownerB']) {
            const tenant = who === 'ownerB' ? b.tenant : a.tenant;
            const answers = [
              await trial.rest(who, 'POST', `/${table}`, { body: { tenant_id: tenant } }),
              await trial.rest(who, 'PATCH', `/${table}?tenant_id=eq.${tenant}`, {
                body: { created_at: '2001-01-01' },
              }),
              await trial.rest(who, 'DELETE', `/${table}?tenant_id=eq.${tenant}`),
            ];
            for (const answer of answers) trial.refused(answer, `${who} writes ${table}`);
          }
        }
        trial.refusedSql(
          await trial.sql('server', `update public.audit_log set action = 'nothing'`),
          'the secret key changes the audit log',
        );
        trial.refusedSql(
          await trial.sql('server', 'delete from public.audit_log'),
          'the secret key empties the audit log',
        );
        trial.refusedSql(
          await trial.sql('server', 'truncate public.audit_log'),
          'the secret key truncates the audit log',
        );
        const changed = await trial.world.asActor(
          trial.world.actor('server'),
          `update jobs.items set attempts = 0`,
        );
        trial.refusedSql(changed, 'the secret key writes the engine’s tables');
        await trial.control(
          'an owner reads the audit log',
          async () =>
            rowsOf(await trial.rest('ownerB', 'GET', `/audit_log?tenant_id=eq.${b.tenant}`)).length > 0,
        );
        const [row] = await trial.world.admin`select count(*)::int as n from public.audit_log`;
        trial.expect(Number(row?.n) > 0, 'the audit log is empty');
      },
    ),
    attack('58', 'enqueuing for B, unknown jobs, jumping the queue', async (trial) => {
      const { a, b } = trial.ids;
      const profile = { 'content-profile': 'jobs' };
      for (const who of ['ownerA', 'participantA', 'anon']) {
        for (const tenant of [a.tenant, b.tenant]) {
          trial.refused(
            await trial.rpc(
              who,
              'enqueue',
              { job: 'send-notifications', tenant_id: tenant },
              { headers: profile },
            ),
            `${who} enqueues`,
          );
          trial.refused(
            await trial.rpc(
              who,
              'enqueue_many',
              { job: 'verify-social-tasks', tenant_ids: [a.tenant, tenant], run_at: '2000-01-01' },
              { headers: profile },
            ),
            `${who} enqueues many`,
          );
        }
        trial.refused(
          await trial.rpc(who, 'run_now', { job: 'verify-social-tasks' }, { headers: profile }),
          `${who} runs a job`,
        );
      }
      // A claim enqueues; it is made for the caller's own participant or not at all.
      const claim = (who: string, tenant: string, task: string) =>
        trial.rpc(who, 'claim_task', { tenant_id: tenant, task_id: task });
      for (const who of ['participantA', 'ownerA', 'memberB', 'stranger', 'removed']) {
        const real = await claim(who, b.tenant, b.task);
        const unreal = await claim(who, b.tenant, trial.ids.none.task);
        trial.refused(real, `${who} claims B’s task`);
        trial.alike(
          `${who} claims`,
          { answer: real, sent: [b.task] },
          { answer: unreal, sent: [trial.ids.none.task] },
        );
      }
      const crossed = await claim('participantA', a.tenant, b.claimable);
      trial.expect(codeOf(crossed) === 'PT404', `B’s task under the own tenant: ${inWords(crossed)}`);
      // What does not run cannot be claimed, not even by its own participants.
      const unclaimable = await trial.world.admin<{ id: string; active: boolean }[]>`
        insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id, active)
        values (${b.tenant}, ${await draftOf(trial)}, 'instagram_comment', 'canaryb draft', '77700071', true),
          (${b.tenant}, ${b.campaign}, 'instagram_comment', 'canaryb inactive', '77700071', false)
        returning id, active`;
      await trial.world.takeBaseline();
      for (const { id, active } of unclaimable) {
        const what = active ? 'a task of a draft' : 'a task that is not active';
        const answer = await claim('participantB', b.tenant, id);
        trial.refused(answer, what);
        const unreal = await claim('participantB', b.tenant, trial.ids.none.task);
        trial.alike(what, { answer, sent: [id] }, { answer: unreal, sent: [trial.ids.none.task] });
      }
      await trial.control('a participant of B claims', async () =>
        isDone(await claim('participantB', b.tenant, await taskOf(trial))),
      );
    }),
    attack('59', 'dead items: replayed, cancelled, paused by the platform only', async (trial) => {
      const { a, b } = trial.ids;
      const profile = { 'content-profile': 'jobs' };
      const calls: [string, Record<string, unknown>][] = [
        ['replay', { job: 'verify-social-tasks', tenant_id: b.tenant, dry_run: false }],
        ['cancel', { job: 'verify-social-tasks', tenant_id: b.tenant, dry_run: false }],
        ['pause', { job: 'verify-social-tasks', tenant_id: b.tenant }],
        ['resume', { job: 'verify-social-tasks', tenant_id: a.tenant }],
        ['stop_all', { stopped: true }],
        ['set_plan', { tenant_id: a.tenant, plan_id: 'enterprise' }],
        ['add_member', { tenant_id: b.tenant, user_id: trial.world.actor('ownerA').userId, role: 'owner' }],
        ['set_setting', { name: 'app_url', value: 'https://evil.example' }],
        [
          'set_platform_credential',
          { provider: 'meta', kind: 'facebook_login', secret: { access_token: 'x' } },
        ],
      ];
      for (const [name, args] of calls) {
        for (const who of ['ownerA', 'ownerB', 'anon'])
          trial.refused(await trial.rpc(who, name, args, { headers: profile }), `${who} ${name}`);
      }
      await trial.control('the platform looks at what it would replay', async () =>
        isDone(
          await trial.rpc(
            'server',
            'replay',
            { job: 'verify-social-tasks', tenant_id: b.tenant, dry_run: true },
            { headers: profile },
          ),
        ),
      );
    }),
    attack('60', 'leases: not taken, extended, closed or returned by people', async (trial) => {
      const { b } = trial.ids;
      const profile = { 'content-profile': 'jobs' };
      const calls: [string, Record<string, unknown>][] = [
        ['next_batch', { drain_id: b.drain, job: 'verify-social-tasks' }],
        ['extend_batch', { batch_id: b.batch }],
        ['return_batch', { batch_id: b.batch }],
        ['begin_effects', { batch_id: b.batch, items: [b.item] }],
        ['bundle_emails', { batch_id: b.batch, items: [b.item], sender: 'x@example.com' }],
        [
          'settle_emails',
          { tenant_id: b.tenant, bundle_id: b.tenant, call: 1, version: 1, outcome: 'accepted' },
        ],
        ['close_batch', { batch_id: b.batch, outcomes: [{ item_id: b.item, outcome: 'done' }] }],
        ['end_drain', { drain_id: b.drain }],
        ['answer_doorbell', { ticket: b.drain }],
        ['work_batch', { drain_id: b.drain, job: 'verify-social-tasks' }],
        ['work', {}],
        ['tick', {}],
        ['start_tick', { seconds: 1 }],
      ];
      for (const [name, args] of calls) {
        for (const who of ['ownerA', 'ownerB', 'anon'])
          trial.refused(await trial.rpc(who, name, args, { headers: profile }), `${who} ${name}`);
      }
      await trial.control(
        'a worker extends the lease',
        async () =>
          (await trial.rpc('server', 'extend_batch', { batch_id: b.batch }, { headers: profile })).json ===
          true,
      );
    }),
    attack(
      '61',
      'the same person in two tenants: one completion is worth spins in one tenant',
      async (trial) => {
        const { a, b } = trial.ids;
        for (const [table, body] of [
          [
            'completions',
            {
              tenant_id: a.tenant,
              task_id: a.task,
              participant_id: b.participant,
              code: 'x',
              deadline: '2099-01-01',
            },
          ],
          [
            'spin_ledger',
            {
              tenant_id: a.tenant,
              participant_id: a.participant,
              campaign_id: a.campaign,
              completion_id: b.completion,
              spins: 5,
              reason: 'x',
            },
          ],
        ] as const) {
          for (const who of ['ownerA', 'participantA', 'participantB', 'ownerB'])
            trial.refused(await trial.rest(who, 'POST', `/${table}`, { body }), `${who} writes ${table}`);
        }
        await trial.control(
          'the ledger of B has one row for the completion',
          async () =>
            rowsOf(await trial.rest('ownerB', 'GET', `/spin_ledger?completion_id=eq.${b.completion}`))
              .length === 1,
        );
        const [message] = await trial.world.admin<{ n: number | null }[]>`
          select private.congratulate(array[${a.tenant}]::uuid[], array[${b.completion}]::uuid[]) as n`;
        trial.expect((message?.n ?? 0) === 0, 'A has a message about B’s completion');
        // The verdict on a completion comes with the item's own tenant: an outcome for another tenant's item changes nothing.
        const stale = await trial.rpc(
          'server',
          'close_batch',
          {
            batch_id: trial.ids.a.batch,
            outcomes: [{ item_id: b.item, outcome: 'done', result: { verdict: 'verified' } }],
          },
          { headers: { 'content-profile': 'jobs' } },
        );
        trial.expect(!isFailure(stale), `a stale outcome: ${inWords(stale)}`);
      },
    ),
    attack('62', 'no policy reads a setting that a request can carry', async (trial) => {
      const { relations } = await surfaceOf(trial.world);
      const policies = relations.flatMap((each) => each.policies);
      await trial.control('policies were read', async () => policies.length > 10);
      for (const each of policies)
        trial.expect(
          !/current_setting|request\./.test(`${each.using} ${each.check}`),
          `${each.name} reads a setting`,
        );
      const claims = {
        role: 'authenticated',
        sub: trial.world.actor('ownerA').userId,
        tenant_id: trial.ids.b.tenant,
        role_in_tenant: 'owner',
        app_metadata: { tenant_id: trial.ids.b.tenant },
      };
      const answer = await trial.sql(
        'ownerA',
        `select id from public.campaigns where tenant_id = '${trial.ids.b.tenant}'`,
        claims,
      );
      trial.expect(answer.rows.length === 0, 'a claim opened B');
    }),
    noAttack(
      '56b',
      'a server of the attacker as the host of a credential',
      'A credential has no URL: hosts of providers are fixed in the functions’ code, and 56 shows that an account cannot carry one.',
    ),
  ],
};

/** A campaign of B that does not run. */
async function draftOf(trial: Trial): Promise<string> {
  const [row] = await trial.world.admin<{ id: string }[]>`
    insert into public.campaigns (tenant_id, name, status) values (${trial.ids.b.tenant}, 'canaryb draft', 'draft') returning id`;
  return row?.id ?? '';
}

/** A task of B that nobody has claimed. */
async function taskOf(trial: Trial): Promise<string> {
  const { b } = trial.ids;
  const [row] = await trial.world.admin<{ id: string }[]>`
    insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id)
    values (${b.tenant}, ${b.campaign}, 'instagram_comment', 'canaryb more', '77700071') returning id`;
  return row?.id ?? '';
}
