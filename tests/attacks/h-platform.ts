/** H. What lies below the Data API: Vault, pg_net, pg_cron, the catalog, logs. */
import { readFile } from 'node:fs/promises';
import type postgres from 'postgres';
import {
  attack,
  functionAttack,
  type Group,
  inWords,
  isDone,
  isFailure,
  noAttack,
  rowsOf,
  type Trial,
} from './harness.ts';
import { secretCanary, uuidOf } from './scene.ts';
import { surfaceOf, tenantTables } from './tables.ts';

const people = ['ownerA', 'memberA', 'ownerB', 'stranger', 'anon'];

/** Every table of a schema as text, for the search for canaries. `others` leaves the victim's own rows out: they are in their place. */
async function dump(
  trial: Trial,
  schema: string,
  of: 'all' | 'others' = 'all',
  sql: postgres.ISql = trial.world.admin,
): Promise<string> {
  const tables = await sql<{ name: string; key: string | null; bodies: string | null }[]>`
    select format('%I.%I', n.nspname, c.relname) as name,
      case when c.oid = 'public.tenants'::regclass then 'id' else (
        select 'tenant_id' from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) end as key,
      (select string_agg(format(', encode(t.%I, ''escape'')', a.attname), '') from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.atttypid = 'bytea'::regtype and not a.attisdropped) as bodies
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and not c.relispartition`;
  const texts: string[] = [];
  for (const { name, key, bodies } of tables) {
    const others =
      of === 'others' && key !== null ? ` where t.${key} is distinct from '${trial.ids.b.tenant}'` : '';
    const rows = await sql.unsafe<{ row: string }[]>(
      `select concat_ws(' ', t::text${bodies ?? ''}) as row from ${name} t${others}`,
    );
    texts.push(`${name}\n${rows.map(({ row }) => row).join('\n')}`);
  }
  return texts.join('\n');
}

export const platform: Group = {
  letter: 'H',
  title: 'Vault, pg_net, pg_cron, the catalog and the logs',
  attacks: [
    attack('103', 'Vault is closed to people', async (trial) => {
      for (const who of people) {
        for (const query of [
          'select * from vault.secrets',
          'select * from vault.decrypted_secrets',
          "select vault.create_secret('x', 'attack-103')",
          "select vault.update_secret(gen_random_uuid(), 'x')",
          "select vault._crypto_aead_det_decrypt('x', 'x', 1)",
          'delete from vault.secrets',
        ]) {
          trial.refusedSql(await trial.sql(who, query), `${who}: ${query}`);
        }
        for (const path of ['/secrets', '/decrypted_secrets']) {
          for (const profile of ['public', 'jobs', 'vault'])
            trial.refused(
              await trial.rest(who, 'GET', path, { headers: { 'accept-profile': profile } }),
              `${who} ${profile}${path}`,
            );
        }
        trial.refused(await trial.rpc(who, 'create_secret', { new_secret: 'x' }), `${who} create_secret`);
      }
      await trial.control(
        'the owner of the schema reads it',
        async () => (await trial.world.admin`select from vault.decrypted_secrets`).length > 0,
      );
    }),
    attack(
      '104',
      'a tenant’s secret is found by its own tenant only, and by nobody through the API',
      async (trial) => {
        const { a, b } = trial.ids;
        const { routines } = await surfaceOf(trial.world);
        for (const name of [
          'private.credential_for',
          'private.platform_secret',
          'private.keep_secret',
          'private.check_credential',
        ]) {
          const found = routines.filter((each) => `${each.schema}.${each.name}` === name);
          trial.expect(
            found.length === 1 && found.every((each) => each.callers.length === 0),
            `${name} may be called by ${found.flatMap((each) => each.callers).join(', ')}`,
          );
        }
        for (const who of [...people, 'server']) {
          trial.refusedSql(
            await trial.sql(who, `select private.credential_for('${b.tenant}', 'meta', true)`),
            `${who} credential_for`,
          );
          trial.refusedSql(
            await trial.sql(who, "select private.platform_secret('cron_secret')"),
            `${who} platform_secret`,
          );
        }
        const secretOf = async (tenant: string, provider: string) => {
          const [row] = await trial.world.admin.unsafe<{ found: string | null }[]>(
            `select private.credential_for('${tenant}', '${provider}', false) ->> 'secret' as found`,
          );
          return row?.found ?? '';
        };
        await trial.control('B’s secret is B’s', async () =>
          /topsecret-b-meta/.test(await secretOf(b.tenant, 'meta')),
        );
        trial.expect(!/topsecret-b/.test(await secretOf(a.tenant, 'meta')), 'A’s credential is B’s');
        trial.expect((await secretOf(trial.ids.none.tenant, 'meta')) === '', 'nobody has a credential');
        const names = await trial.world.admin<
          { name: string }[]
        >`select name from vault.secrets where name like 'credential/%'`;
        trial.expect(
          names.every(({ name }) => /^credential\/([0-9a-f-]{36}|platform)\/[a-z]+$/.test(name)),
          'a name of a secret is not of our making',
        );
      },
    ),
    attack('105', 'a secret never comes back: not in an answer, a column, an audit row', async (trial) => {
      const { b } = trial.ids;
      const secret = 'topsecret-written-105';
      const args = { tenant_id: b.tenant, provider: 'stripe', kind: 'own_key', secret: { api_key: secret } };
      const seen: string[] = [];
      await trial.control('the answer is a fingerprint', async () => {
        const answer = await trial.rpc('ownerB', 'set_credential', args);
        seen.push(answer.text);
        return isDone(answer) && /"fingerprint"/.test(answer.text);
      });
      for (const table of await tenantTables(trial.world))
        seen.push((await trial.rest('ownerB', 'GET', `/${table.name}?select=${table.select}`)).text);
      for (const schema of ['public', 'jobs', 'private']) seen.push(await dump(trial, schema));
      trial.expect(
        seen.every((text) => !text.includes(secret)),
        'the secret is readable',
      );
      // A refused one is not repeated either.
      for (const bad of [
        { ...args, kind: 'waapi' },
        { ...args, secret: { token: secret } },
        { ...args, account: 'x' },
        { ...args, secret: `${secret} x` },
        { ...args, extra: 1 },
      ]) {
        const answer = await trial.rpc('ownerB', 'set_credential', bad);
        trial.refused(answer, JSON.stringify(Object.keys(bad)));
        trial.expect(!answer.text.includes(secret), `the refusal repeats the secret: ${inWords(answer)}`);
      }
      // Two tenants with one secret do not show it by equal fingerprints.
      const other = await trial.rpc('ownerA', 'set_credential', { ...args, tenant_id: trial.ids.a.tenant });
      const prints = [seen[0] ?? '', other.text].map((text) => /"fingerprint":"([^"]+)"/.exec(text)?.[1]);
      trial.expect(prints[0] !== prints[1], 'equal secrets have equal fingerprints in two tenants');
    }),
    attack('106', 'after a rotation the old secret is nowhere', async (trial) => {
      const { b } = trial.ids;
      const [old, fresh] = ['topsecret-106-old', 'topsecret-106-new'];
      const set = (token: string) =>
        trial.rpc('ownerB', 'set_credential', {
          tenant_id: b.tenant,
          provider: 'email',
          kind: 'resend',
          secret: { api_key: token },
        });
      await trial.control('it is rotated', async () => isDone(await set(old)) && isDone(await set(fresh)));
      const decrypted = await trial.world.admin<
        { decrypted_secret: string }[]
      >`select decrypted_secret from vault.decrypted_secrets`;
      trial.expect(
        decrypted.some((row) => row.decrypted_secret.includes(fresh)),
        'the new secret is stored',
      );
      trial.expect(
        decrypted.every((row) => !row.decrypted_secret.includes(old)),
        'the old secret is still in Vault',
      );
      for (const schema of ['public', 'jobs', 'private', 'net', 'cron', 'vault']) {
        const text = await dump(trial, schema);
        trial.expect(!text.includes(old) && !text.includes(fresh), `a secret is readable in ${schema}`);
      }
      await trial.control(
        'it is removed',
        async () =>
          (await trial.rpc('ownerB', 'remove_credential', { tenant_id: b.tenant, provider: 'email' }))
            .json === true,
      );
      const after = await trial.world.admin<
        { decrypted_secret: string }[]
      >`select decrypted_secret from vault.decrypted_secrets`;
      trial.expect(
        after.every((row) => !row.decrypted_secret.includes(fresh)),
        'the secret outlived its credential',
      );
    }),
    functionAttack(
      '107',
      'a doorbell leaves a ticket and a signature in net.*, nothing else',
      async (trial) => {
        const { admin } = trial.world;
        const tenant = uuidOf('attack 107');
        await admin`insert into public.tenants (id, slug, name) values (${tenant}, 'attack-107', 'Attack 107') on conflict do nothing`;
        await admin`select jobs.enqueue('send-notifications', ${tenant}, ${uuidOf('nothing')}, now())`;
        await admin`update jobs.lanes set not_before = '-infinity', wake_at = now() where tenant_id = ${tenant} and not awake`;
        let queued: { url: string; headers: Record<string, string>; body: string }[] = [];
        await trial.control('a tick rings', async () => {
          for (let tries = 0; tries < 20 && queued.length === 0; tries += 1) {
            queued = await admin.begin(async (sql) => {
              await sql`select jobs.tick()`;
              return [
                ...(await sql<{ url: string; headers: Record<string, string>; body: string }[]>`
              select url, headers, convert_from(body, 'UTF8') as body from net.http_request_queue`),
              ];
            });
            if (queued.length === 0) await new Promise((resolve) => setTimeout(resolve, 250));
          }
          return queued.length > 0;
        });
        for (const { url, headers, body } of queued) {
          trial.output('net.http_request_queue', JSON.stringify({ url, headers, body }));
          trial.expect(/^\{"ticket": ?"[0-9a-f-]{36}"\}$/.test(body), `the body is ${body}`);
          const odd = Object.keys(headers).filter(
            (name) => !['content-type', 'x-onecron-signature'].includes(name.toLowerCase()),
          );
          trial.expect(odd.length === 0, `headers ${odd.join(', ')}`);
          trial.expect(!url.includes('?'), `the address is ${url}`);
        }
        const until = Date.now() + 10_000;
        while (Date.now() < until) {
          const [open] = await admin<{ n: number }[]>`select count(*)::int as n from net.http_request_queue`;
          if (open?.n === 0) break;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        trial.output('net.*', await dump(trial, 'net'));
      },
    ),
    attack('107b', 'people reach net.* by no way', async (trial) => {
      for (const who of people) {
        for (const table of ['http_request_queue', '_http_response']) {
          for (const profile of ['public', 'jobs', 'net'])
            trial.refused(
              await trial.rest(who, 'GET', `/${table}`, { headers: { 'accept-profile': profile } }),
              `${who} ${profile}.${table}`,
            );
        }
        for (const name of ['http_get', 'http_post', 'http_delete', 'http_collect_response'])
          trial.refused(await trial.rpc(who, name, { url: 'http://127.0.0.1' }), `${who} ${name}`);
      }
      // The extension gives net.* to everybody in SQL (its own grants, which `postgres` may not take back); people have no SQL.
      await trial.control('the platform reads the queue', async () =>
        Array.isArray(await trial.world.admin`select * from net.http_request_queue`),
      );
    }),
    attack('108', 'pg_cron: entries and history are closed to people and hold no canary', async (trial) => {
      for (const who of people) {
        for (const query of [
          'select * from cron.job',
          'select * from cron.job_run_details',
          "select cron.schedule('x', '* * * * *', 'select 1')",
          "select cron.unschedule('onecron')",
          "update cron.job set command = 'select 1'",
        ]) {
          trial.refusedSql(await trial.sql(who, query), `${who}: ${query}`);
        }
      }
      await trial.control(
        'the platform reads the entry',
        async () => (await trial.world.admin`select from cron.job`).length > 0,
      );
      trial.output('cron.*', await dump(trial, 'cron'));
    }),
    noAttack(
      '109',
      'Realtime: subscribing to another tenant’s tables',
      'The local stack has no Realtime; attack 18 shows that no table is published, so there is nothing to subscribe to on the platform either.',
    ),
    noAttack(
      '110',
      'Realtime: private channels of another tenant',
      'Nothing sends to a channel: no function calls realtime.send, and 18 and 23 hold the schema shut.',
    ),
    attack('111', 'Storage: there is no bucket, and no way to it', async (trial) => {
      const { apiUrl } = trial.world.server;
      const { b } = trial.ids;
      for (const who of ['anon', 'ownerA']) {
        for (const [method, path] of [
          ['GET', '/bucket'],
          ['GET', `/object/public/${b.tenant}/x`],
          ['POST', `/object/list/${b.tenant}`],
          ['GET', `/object/a%2F..%2F${b.tenant}/x`],
          ['POST', `/object/sign/${b.tenant}/x`],
          ['PUT', `/object/${b.tenant}/x`],
          ['POST', '/object/move'],
          ['DELETE', `/bucket/${b.tenant}`],
        ] as const) {
          trial.refused(
            await trial.http(
              who,
              method,
              `${apiUrl}/storage/v1${path}`,
              method === 'GET' ? {} : { body: {} },
            ),
            `${who} ${method} ${path}`,
          );
        }
        for (const table of ['buckets', 'objects'])
          trial.refused(
            await trial.rest(who, 'GET', `/${table}`, { headers: { 'accept-profile': 'storage' } }),
            `${who} storage.${table}`,
          );
      }
      const buckets = await trial.world.admin<{ name: string }[]>`
        select c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = 'storage' and c.relname = 'buckets' and c.relkind = 'r'`;
      const found = buckets.length === 0 ? [] : await trial.world.admin`select from storage.buckets`;
      trial.expect(found.length === 0, 'there is a bucket: its policies need attacks');
      await trial.control('the gateway serves what there is', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/tenants')),
      );
    }),
    attack(
      '112',
      'no function takes SQL, a table’s name, a lock’s key, a channel or an address',
      async (trial) => {
        const arguments_ = await trial.world.admin<{ name: string; argument: string }[]>`
        select p.oid::regprocedure::text as name, a as argument from pg_catalog.pg_proc p, unnest(p.proargnames[1:p.pronargs]) a
        where p.pronamespace = any (array['public', 'private']::regnamespace[]) and has_function_privilege('authenticated', p.oid, 'execute')`;
        await trial.control('functions have arguments', async () => arguments_.length > 0);
        // The channel of a message is one of two words, and no channel of the database.
        const ofMessages = ['opt_in', 'opt_out', 'preview_message'];
        const risky = arguments_.filter(
          ({ name, argument }) =>
            !(
              /^(p_)?channel$/.test(argument) &&
              ofMessages.some((each) => new RegExp(`^(private\\.)?${each}\\(`).test(name))
            ) &&
            /sql|query|statement|command|table|relation|schema|column|channel|lock|url|uri|host|path|file|function/i.test(
              argument,
            ),
        );
        trial.expect(
          risky.length === 0,
          risky.map(({ name, argument }) => `${name} takes ${argument}`).join(', '),
        );
        const executing = await trial.world.admin<{ name: string }[]>`
        select p.oid::regprocedure::text as name from pg_catalog.pg_proc p
        where p.pronamespace = any (array['public', 'private']::regnamespace[]) and has_function_privilege('authenticated', p.oid, 'execute')
          and p.prosrc ~* '\\mexecute\\M|pg_notify|pg_advisory|set_config\\((?!''(response|onecron)[.])|dblink|net\\.http'`;
        trial.expect(
          executing.length === 0,
          `they build statements, notify, lock or call out: ${executing.map(({ name }) => name).join(', ')}`,
        );
      },
    ),
    attack('113', 'a lock that A holds does not hold up B', async (trial) => {
      const { a, b } = trial.ids;
      const held = trial.world.asActor(
        trial.world.actor('ownerA'),
        `
        update public.tenants set name = 'plain held' where id = '${a.tenant}'; update public.campaigns set name = 'plain held' where tenant_id = '${a.tenant}';
        select public.set_credential('${a.tenant}', 'meta', 'facebook_login', '{"access_token": "topsecret-a-meta"}', '{}'); select pg_sleep(2)`,
      );
      await new Promise((resolve) => setTimeout(resolve, 300));
      const startedAt = performance.now();
      await trial.control('B goes on meanwhile', async () => {
        const answers = [
          await trial.rest('adminB', 'PATCH', `/tenants?id=eq.${b.tenant}`, {
            headers: { prefer: 'return=minimal' },
            body: { name: 'canaryb name' },
          }),
          await trial.rpc('adminB', 'set_credential', {
            tenant_id: b.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: { access_token: 'topsecret-b-meta' },
            account: { page_id: '77700075' },
          }),
          await trial.rest('memberB', 'POST', '/campaigns', {
            body: { tenant_id: b.tenant, name: 'canaryb meanwhile' },
          }),
        ];
        return answers.every(isDone);
      });
      // What the tick does for B is its own work.
      await trial.control('so does the tick', async () => {
        const tick = await trial.world.admin`select jobs.tick() as answer`;
        return tick.length === 1;
      });
      const ms = performance.now() - startedAt;
      trial.expect(ms < 1500, `B and the tick waited ${ms.toFixed(0)} ms`);
      const outcome = await held;
      trial.expect(outcome.code === undefined, `the lock was not held: ${outcome.code} ${outcome.message}`);
    }),
    attack('114', 'expensive questions end, and others are served meanwhile', async (trial) => {
      const { apiUrl } = trial.world.server;
      const deep =
        'campaigns!campaigns_tenant_fkey(name,social_tasks!social_tasks_campaign_fkey(title,completions!completions_task_fkey(code)))';
      const questions = [
        '/campaigns?name=match.(x%2Bx%2B)%2By$',
        '/campaigns?name=imatch.((((a{1,50}){1,50}){1,50}){1,50})',
        `/campaigns?name=match.${'(a?)'.repeat(30)}a`,
        `/tenants?select=${Array.from({ length: 10 }, (_, index) => `x${index}:${deep}`).join(',')}`,
        `/campaigns?or=(${Array.from({ length: 500 }, (_, index) => `name.eq.${index}`).join(',')})`,
        `/campaigns?id=in.(${Array.from({ length: 500 }, () => trial.ids.none.campaign).join(',')})`,
        '/completions?limit=1000000',
      ];
      const startedAt = performance.now();
      const asked = Promise.all(questions.map((question) => trial.rest('ownerA', 'GET', question)));
      await trial.control('B is served meanwhile', async () => {
        const before = performance.now();
        const answer = await trial.rest('ownerB', 'GET', '/campaigns?limit=20');
        return rowsOf(answer).length > 0 && performance.now() - before < 8_000;
      });
      for (const answer of await asked) {
        trial.nothingOfB(answer, 'an expensive question');
        trial.expect(!isFailure(answer) || /57014|statement timeout/.test(answer.text), inWords(answer));
      }
      trial.expect(performance.now() - startedAt < 20_000, 'they took longer than their timeout');
      const body = await trial.http('ownerA', 'POST', `${apiUrl}/rest/v1/campaigns`, {
        body: `[${'['.repeat(20_000)}`,
      });
      trial.expect(!isFailure(body), `deep JSON: ${inWords(body)}`);
    }),
    attack('115', 'statistics and activity of the server are not to be seen', async (trial) => {
      const { relations } = await surfaceOf(trial.world);
      await trial.control('there are views', async () => relations.some((each) => each.kind === 'view'));
      const views = await trial.world.admin<{ name: string; body: string }[]>`
        select c.oid::regclass::text as name, pg_catalog.pg_get_viewdef(c.oid) as body from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'`;
      for (const { name, body } of views)
        trial.expect(!/pg_stat|pg_class|pg_roles|pg_settings/.test(body), `${name} shows the catalog`);
      for (const who of ['anon', 'ownerA']) {
        for (const table of [
          'pg_stat_statements',
          'pg_stat_activity',
          'pg_stats',
          'pg_class',
          'pg_proc',
          'pg_roles',
          'pg_settings',
          'schema_migrations',
        ]) {
          for (const profile of ['public', 'jobs', 'pg_catalog', 'extensions', 'supabase_migrations'])
            trial.refused(
              await trial.rest(who, 'GET', `/${table}`, { headers: { 'accept-profile': profile } }),
              `${who} ${profile}.${table}`,
            );
        }
      }
      const stats = await trial.sql(
        'ownerA',
        "select count(*)::int as n from pg_catalog.pg_stats where schemaname in ('public', 'jobs', 'private')",
      );
      trial.expect(stats.rows[0]?.n === 0, `statistics of ${stats.rows[0]?.n} columns can be seen in SQL`);
      const activity = await trial.sql(
        'ownerA',
        "select query from pg_catalog.pg_stat_activity where query not like '<insufficient privilege>' and query <> '' and usename <> current_user",
      );
      trial.expect(
        activity.rows.every((row) => !String(row.query).includes(trial.ids.b.tenant)),
        'queries of others can be seen',
      );
    }),
    attack(
      '116',
      'after all attacks: no canary in another tenant’s rows, in net.*, cron.*, the platform’s tables or any log',
      async (trial) => {
        const { admin, server } = trial.world;
        const { a, b } = trial.ids;
        await trial.control('B’s rows still hold their canaries', async () => {
          const [row] =
            await admin`select from public.campaigns where tenant_id = ${b.tenant} and name ~ 'canaryb'`;
          return row !== undefined;
        });
        // A customer of A may have the user name and the number of a customer of B: attack 48 has set them.
        await admin`
          update public.participants set instagram_username = null, phone = null, whatsapp_opt_in_at = null
          where tenant_id = ${a.tenant} and instagram_username = 'canaryb.person'`;
        for (const schema of ['public', 'private', 'jobs', 'net', 'cron']) {
          trial.output(`what is not B's in ${schema}`, await dump(trial, schema, 'others'));
          trial.expect(!secretCanary.test(await dump(trial, schema)), `a secret is readable in ${schema}`);
        }
        // A leak would be found, wherever it was: one is made in each place, looked for, and undone.
        const leaks: [string, string][] = [
          ['public', `update public.campaigns set name = 'canaryb' where id = '${a.campaign}'`],
          ['public', `update public.audit_log set action = 'canaryb' where tenant_id <> '${b.tenant}'`],
          [
            'private',
            `update private.webhook_events set body = '["canaryb"]' where tenant_id = '${a.tenant}'`,
          ],
          ['private', `update private.settings set value = 'canaryb'`],
          ['jobs', `update jobs.attempts set error = 'canaryb' where tenant_id = '${a.tenant}'`],
          ['jobs', `update jobs.runs set message = 'canaryb'`],
          ['net', `insert into net._http_response (id, content) values (116, 'canaryb')`],
          [
            'net',
            `insert into net.http_request_queue (method, url, body, timeout_milliseconds) values ('POST', 'x', 'canaryb', 1)`,
          ],
          ['cron', `update cron.job set command = 'canaryb'`],
        ];
        const undone = new Error('undone');
        for (const [schema, leak] of leaks) {
          let found: string[] = [];
          await admin
            .begin(async (sql) => {
              await sql`set local session_replication_role = replica`;
              await sql.unsafe(leak);
              found = trial.world.canariesIn(await dump(trial, schema, 'others', sql), undefined);
              throw undone;
            })
            .catch((error: unknown) => {
              if (error !== undone) throw error;
            });
          trial.expect(found.length > 0, `a leak would not be found: ${leak}`);
        }
        trial.expect(
          trial.world.canariesIn(['a line', 'canaryb'].join('\n'), undefined).length > 0,
          'a leak in a log would not be found',
        );
        trial.output('the log of the stack and the functions', server.logs.join('\n'));
        // The server's log repeats statements that failed, with what the attackers sent in them; the secrets must not be there.
        const log = server.serverLog === undefined ? '' : await readFile(server.serverLog, 'utf8');
        trial.expect(
          !trial.world.secrets.some((secret) => log.includes(secret)),
          'the log of the database server holds a secret of the platform',
        );
        trial.expect(
          !/topsecret/.test(log),
          `the log of the database server holds a tenant's secret: ${/.{0,120}topsecret.{0,60}/.exec(log)?.[0]}`,
        );
      },
    ),
  ],
};
