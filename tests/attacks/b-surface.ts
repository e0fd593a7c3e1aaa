/** B. The surface of the Data API, as anybody finds it with the publishable key or a session of their own. */
import { attack, codeOf, type Group, inWords, isDone, rowsOf } from './harness.ts';
import { apiFunctions, apiTables, neverShown, pathOf, surfaceOf, tenantTables, updatable } from './tables.ts';

const strangers = ['anon', 'outsider', 'ownerA', 'stranger'];

export const surface: Group = {
  letter: 'B',
  title: 'The surface of the Data API',
  attacks: [
    attack('21', 'the root lists nothing', async (trial) => {
      await trial.control('a table answers its owner', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/campaigns')),
      );
      for (const who of strangers) {
        for (const accept of ['application/json', 'application/openapi+json']) {
          const answer = await trial.rest(who, 'GET', '/', { headers: { accept } });
          trial.expect(
            [401, 403, 404].includes(answer.status) || answer.text === '[]',
            `${who} reads the root: ${inWords(answer)}`,
          );
        }
      }
    }),
    attack('22', 'GraphQL is off', async (trial) => {
      const { apiUrl } = trial.world.server;
      const query = { query: '{ __schema { types { name } } }' };
      await trial.control('the gateway answers', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/plans')),
      );
      for (const who of strangers) {
        trial.refused(
          await trial.http(who, 'POST', `${apiUrl}/graphql/v1`, { body: query }),
          `${who}: GraphQL`,
        );
        trial.refused(await trial.rpc(who, 'graphql', query), `${who}: the function graphql`);
      }
    }),
    attack('23', 'schemas that are not exposed cannot be named', async (trial) => {
      await trial.control('public can', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/campaigns', { headers: { 'accept-profile': 'public' } })),
      );
      const { schemas } = await surfaceOf(trial.world);
      const others = [
        'net',
        'vault',
        'cron',
        'auth',
        'storage',
        'private',
        'extensions',
        'pgmq_public',
        'supabase_functions',
        'realtime',
        'graphql_public',
        'pg_catalog',
        'information_schema',
        'pg_temp',
        ...schemas.map((each) => each.name),
      ];
      for (const schema of new Set(others)) {
        if (['public', 'jobs'].includes(schema)) continue;
        for (const table of [
          'secrets',
          'users',
          'http_request_queue',
          'job',
          'settings',
          'pg_class',
          'tables',
        ]) {
          const read = await trial.rest('ownerA', 'GET', `/${table}`, {
            headers: { 'accept-profile': schema },
          });
          trial.expect(read.status === 406, `Accept-Profile ${schema}: ${inWords(read)}`);
        }
        const write = await trial.rest('ownerA', 'POST', '/rpc/set_credential', {
          headers: { 'content-profile': schema },
          body: {},
        });
        trial.expect(write.status === 406, `Content-Profile ${schema}: ${inWords(write)}`);
      }
    }),
    attack('23b', 'the engine answers the secret key only', async (trial) => {
      const { relations } = await surfaceOf(trial.world);
      const tables = relations
        .filter((each) => each.schema === 'jobs' && !each.partition)
        .map((each) => each.name);
      const profile = { 'accept-profile': 'jobs', 'content-profile': 'jobs' };
      await trial.control(
        'the secret key reads the lanes',
        async () => rowsOf(await trial.rest('server', 'GET', '/lanes', { headers: profile })).length > 0,
      );
      await trial.control('the secret key asks for the health', async () =>
        isDone(await trial.rpc('server', 'health', {}, { headers: profile })),
      );
      for (const who of ['anon', 'ownerA', 'ownerB', 'stranger']) {
        for (const table of tables) {
          trial.refused(
            await trial.rest(who, 'GET', `/${table}`, { headers: profile }),
            `${who} reads jobs.${table}`,
          );
        }
      }
      for (const each of await apiFunctions(trial.world, 'jobs')) {
        for (const who of ['anon', 'ownerA', 'ownerB']) {
          const args = Object.fromEntries(each.arguments.map((name) => [name, null]));
          trial.refused(
            await trial.rpc(who, each.name, args, { headers: profile }),
            `${who} calls jobs.${each.name}`,
          );
        }
      }
    }),
    attack('24', 'anon may call no function', async (trial) => {
      const functions = await apiFunctions(trial.world, 'public');
      await trial.control('a signed-in user may', async () =>
        isDone(
          await trial.rpc('viewerB', 'why', { tenant_id: trial.ids.b.tenant, item_id: trial.ids.b.item }),
        ),
      );
      for (const each of functions) {
        const args = Object.fromEntries(
          each.arguments.map((name) => [name, name === 'tenant_id' ? trial.ids.b.tenant : null]),
        );
        for (const who of ['anon', 'outsider']) {
          const answer = await trial.rpc(who, each.name, args);
          trial.expect(
            [401, 403, 404].includes(answer.status),
            `${who} calls ${each.name}: ${inWords(answer)}`,
          );
        }
      }
    }),
    attack('25', 'no function of the database itself can be called', async (trial) => {
      await trial.control('a function of ours can', async () =>
        isDone(
          await trial.rpc('viewerB', 'why', { tenant_id: trial.ids.b.tenant, item_id: trial.ids.b.item }),
        ),
      );
      const calls: Record<string, unknown> = {
        http_get: { url: 'http://127.0.0.1' },
        http_post: { url: 'http://127.0.0.1' },
        dblink: { sql: 'select 1' },
        exec_sql: { sql: 'select 1' },
        query: { query: 'select 1' },
        set_config: { setting_name: 'role', new_value: 'postgres', is_local: true },
        pg_sleep: { seconds: 1 },
        lo_import: { filename: '/etc/passwd' },
        pg_read_file: { filename: '/etc/passwd' },
        pg_notify: { channel: 'pgrst', payload: 'reload schema' },
        current_setting: { setting_name: 'x' },
        decrypted_secrets: {},
        create_secret: { new_secret: 'x' },
        pgp_sym_decrypt: {},
        crypt: {},
        gen_random_uuid: {},
        refresh_schema: {},
        tenant_ids: { p_role: 'viewer' },
        require_role: {},
        is_platform: {},
        next_batch: {},
        tick: {},
      };
      for (const [name, args] of Object.entries(calls)) {
        for (const who of ['anon', 'ownerA']) {
          const answer = await trial.rpc(who, name, args);
          trial.expect(
            answer.status === 404 || answer.status === 401,
            `${who} calls ${name}: ${inWords(answer)}`,
          );
        }
      }
    }),
    attack('26', 'GET, HEAD and OPTIONS change nothing', async (trial) => {
      const query = `name=Via%20GET&slug=via-get-${Date.now()}`;
      await trial.control('a function that only reads may be asked with GET', async () =>
        isDone(
          await trial.rest(
            'viewerB',
            'GET',
            `/rpc/why?tenant_id=${trial.ids.b.tenant}&item_id=${trial.ids.b.item}`,
          ),
        ),
      );
      for (const method of ['GET', 'HEAD', 'OPTIONS']) {
        const answer = await trial.rest('ownerA', method, `/rpc/create_tenant?${query}`);
        trial.expect(
          method === 'OPTIONS' || answer.status >= 400,
          `${method} on create_tenant: ${inWords(answer)}`,
        );
        await trial.rest(
          'ownerB',
          method,
          `/rpc/remove_credential?tenant_id=${trial.ids.b.tenant}&provider=meta`,
        );
      }
      const made = await trial.world.admin`select from public.tenants where slug like 'via-get-%'`;
      trial.expect(made.length === 0, 'a GET created a tenant');
    }),
    attack('27', 'query plans are not shown', async (trial) => {
      await trial.control(
        'rows are',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
      for (const kind of ['plan', 'plan+json', 'plan+text']) {
        for (const options of ['', '; options=analyze', '; options=analyze|verbose|settings|buffers']) {
          const answer = await trial.rest('ownerA', 'GET', '/campaigns', {
            headers: { accept: `application/vnd.pgrst.${kind}${options}` },
          });
          trial.expect(answer.status === 406, `${kind}${options}: ${inWords(answer)}`);
        }
      }
    }),
    attack('28', 'a count says nothing about other tenants', async (trial) => {
      const { a, b } = trial.ids;
      const count = async (kind: string) => {
        const answer = await trial.rest('ownerA', 'GET', '/campaigns?select=id', {
          headers: { prefer: `count=${kind}` },
        });
        return isDone(answer) ? (answer.headers['content-range'] ?? '') : `refused ${answer.status}`;
      };
      await trial.control('an exact count is answered', async () => /\/\d+$/.test(await count('exact')));
      await trial.world.admin`analyze public.campaigns`;
      const before = {
        exact: await count('exact'),
        planned: await count('planned'),
        estimated: await count('estimated'),
      };
      // Many rows of a third tenant: to the attacker they are as strange as the victim's.
      const many = trial.ids.suspended.tenant;
      try {
        // Without triggers: only the number counts.
        await trial.world.admin.begin(async (sql) => {
          await sql`set local session_replication_role = replica`;
          await sql`
            insert into public.campaigns (tenant_id, name) select ${many}, 'many' from generate_series(1, 10000)`;
        });
        await trial.world.admin`analyze public.campaigns`;
        for (const kind of ['exact', 'planned', 'estimated'] as const) {
          const after = await count(kind);
          trial.expect(
            after === before[kind],
            `count=${kind} went from ${before[kind]} to ${after} when another tenant got 10,000 rows`,
          );
        }
      } finally {
        await trial.world.admin.begin(async (sql) => {
          await sql`set local session_replication_role = replica`;
          await sql`delete from public.campaigns where tenant_id = ${many} and name = 'many'`;
        });
        await trial.world.admin`vacuum analyze public.campaigns`;
      }
      trial.expect(a.tenant !== b.tenant, 'two tenants');
    }),
    attack('29', 'a client cannot have its transaction rolled back', async (trial) => {
      const name = 'A rollback asked for';
      for (const who of ['memberA']) {
        await trial.rest(who, 'POST', '/campaigns', {
          headers: { prefer: 'tx=rollback' },
          body: { tenant_id: trial.ids.a.tenant, name },
        });
      }
      await trial.control(
        'the row was written',
        async () => (await trial.world.admin`select from public.campaigns where name = ${name}`).length === 1,
      );
      const audited = `rollback-${Date.now()}`;
      await trial.rpc(
        'stranger',
        'create_tenant',
        { name: audited, slug: audited },
        { headers: { prefer: 'tx=rollback' } },
      );
      const [row] = await trial.world
        .admin`select t.id from public.tenants t join public.audit_log l on l.tenant_id = t.id where t.slug = ${audited}`;
      trial.expect(row !== undefined, 'a call left no trace: its transaction was rolled back on request');
    }),
    attack('30', 'columns without a grant cannot be asked for, returned or filtered by', async (trial) => {
      const tables = await apiTables(trial.world);
      await trial.control('the granted columns can', async () => {
        const select = tables.find((each) => each.name === 'credentials')?.select ?? '';
        return rowsOf(await trial.rest('adminB', 'GET', `/credentials?select=${select}`)).length > 0;
      });
      for (const table of tables) {
        const { rights } = table;
        const ungranted =
          rights.select === 'all'
            ? []
            : table.columns.filter((column) => !(rights.select ?? []).includes(column));
        for (const column of new Set([...ungranted, ...(neverShown[table.name] ?? [])])) {
          for (const query of [
            `select=${column}`,
            `select=x:${column}`,
            `select=*`,
            `${column}=not.is.null&select=${table.select.split(',')[0]}`,
            `order=${column}&select=${table.select.split(',')[0]}`,
          ]) {
            const answer = await trial.rest('ownerA', 'GET', `/${table.name}?${query}`);
            trial.refused(answer, `${table.name}?${query}`);
            trial.expect(
              codeOf(answer) === '42501',
              `${table.name}?${query} is refused as ${codeOf(answer)}`,
            );
          }
        }
        const change = updatable[table.name];
        if (change === undefined || rights.update === 'all') continue;
        for (const column of table.columns.filter((each) => !(rights.update ?? []).includes(each))) {
          const answer = await trial.rest(
            change.byOfA,
            'PATCH',
            `/${table.name}?${change.row(trial.ids.a)}`,
            {
              headers: { prefer: 'return=representation' },
              body: { [column]: null },
            },
          );
          trial.refused(answer, `${table.name}.${column} changed`);
        }
      }
    }),
    attack('31', 'PATCH and DELETE without a filter touch own rows only', async (trial) => {
      for (const [table, { change, by }] of Object.entries(updatable)) {
        await trial.control(`${by} changes ${table} without a filter`, async () => {
          const answer = await trial.rest(by, 'PATCH', pathOf(table), {
            headers: { prefer: 'return=representation' },
            body: change('canaryb'),
          });
          return rowsOf(answer).length > 0;
        });
      }
      const tables = await tenantTables(trial.world);
      for (const table of tables.filter((each) => !each.view)) {
        const change = updatable[table.name]?.change('stolen') ?? { [table.key]: trial.ids.a.tenant };
        for (const who of ['viewerA', 'stranger', 'removed', 'deleted', 'anon']) {
          const answer = await trial.rest(who, 'PATCH', pathOf(table.name), {
            headers: { prefer: 'return=representation' },
            body: change,
          });
          trial.nothingOfB(answer, `${who} patches ${table.name}`);
          trial.nothingOfB(
            await trial.rest(who, 'DELETE', `/${table.name}`, {
              headers: { prefer: 'return=representation' },
            }),
            `${who} deletes ${table.name}`,
          );
        }
      }
      for (const [table, { change, byOfA }] of Object.entries(updatable)) {
        const answer = await trial.rest(byOfA, 'PATCH', pathOf(table), {
          headers: { prefer: 'return=representation' },
          body: change('plain'),
        });
        trial.expect(
          rowsOf(answer).length > 0,
          `${byOfA} cannot change own rows of ${table}: ${inWords(answer)}`,
        );
        trial.nothingOfB(answer, `${byOfA} patches ${table}`);
      }
    }),
  ],
};
