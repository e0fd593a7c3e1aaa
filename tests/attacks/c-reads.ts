/** C. Reading what belongs to another tenant. */
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
import { apiTables, filterOfRow, pathOf, tenantTables } from './tables.ts';

/** Everybody who has no business with B. */
const outsiders = [
  'ownerA',
  'memberA',
  'viewerA',
  'participantA',
  'stranger',
  'removed',
  'deleted',
  'ofClosed',
  'ofSuspended',
  'anon',
  'outsider',
];

const isOfB = (trial: Trial, row: Record<string, unknown>, key: string): boolean =>
  row[key] === trial.ids.b.tenant;

/** The owner of B reads rows of the table: else the table proves nothing. */
async function ownerReads(trial: Trial, table: { name: string; select: string; key: string }): Promise<void> {
  await trial.control(`the owner of B reads ${table.name}`, async () => {
    const answer = await trial.rest(
      'ownerB',
      'GET',
      `/${table.name}?select=${table.select}&${table.key}=eq.${trial.ids.b.tenant}`,
    );
    return rowsOf(answer).some((row) => isOfB(trial, row, table.key));
  });
}

interface Reference {
  child: string;
  parent: string;
  name: string;
  column: string;
}

async function references(trial: Trial): Promise<Reference[]> {
  return [
    ...(await trial.world.admin<Reference[]>`
    select k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent, k.conname as name,
      (select a.attname from pg_catalog.pg_attribute a where a.attrelid = k.conrelid and a.attnum = k.conkey[1]) as column
    from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_class p on p.oid = k.confrelid
    where k.contype = 'f' and c.relnamespace = 'public'::regnamespace and p.relnamespace = 'public'::regnamespace
    order by 3`),
  ].map((each) => ({
    ...each,
    child: each.child.replace('public.', ''),
    parent: each.parent.replace('public.', ''),
  }));
}

export const reads: Group = {
  letter: 'C',
  title: 'Reading what belongs to another tenant',
  attacks: [
    attack(
      '32',
      'every table and view: by id, by tenant, by its opposite, by list, without a filter',
      async (trial) => {
        const { a, b } = trial.ids;
        await trial.control(
          'everybody who is signed in reads the plans',
          async () => rowsOf(await trial.rest('stranger', 'GET', '/plans')).length > 0,
        );
        for (const table of await tenantTables(trial.world)) {
          await ownerReads(trial, table);
          const { key, name, select } = table;
          const row = await filterOfRow(trial.world, table, b.tenant);
          const forms = [
            `${key}=eq.${b.tenant}`,
            `or=(${key}.eq.${a.tenant},${key}.eq.${b.tenant})`,
            `${key}=not.eq.${a.tenant}`,
            `${key}=neq.${a.tenant}`,
            `${key}=in.(${a.tenant},${b.tenant})`,
            `${key}=not.in.(${a.tenant})`,
            `${key}=is.null`,
            `${key}=not.is.null`,
            `not.and=(${key}.eq.${a.tenant},${key}.not.is.null)`,
            `${key}=gte.00000000-0000-0000-0000-000000000000`,
            `order=${key}.desc`,
            'limit=1000&offset=0',
            '',
            ...(row === undefined ? [] : [row]),
          ];
          for (const form of forms) {
            trial.nothingOfB(
              await trial.rest('ownerA', 'GET', `/${name}?select=${select}&${form}`),
              `ownerA ${name}?${form}`,
            );
          }
          for (const who of outsiders) {
            for (const form of [`${key}=eq.${b.tenant}`, '', ...(row === undefined ? [] : [row])]) {
              const answer = await trial.rest(who, 'GET', `/${name}?select=${select}&${form}`);
              trial.nothingOfB(answer, `${who} ${name}?${form}`);
            }
          }
        }
      },
    ),
    attack('32b', 'the same with supabase-js, as an app would', async (trial) => {
      const { b } = trial.ids;
      await trial.control('the owner of B', async () => {
        const { data } = await trial.client('ownerB').from('campaigns').select('*').eq('tenant_id', b.tenant);
        return (data ?? []).length > 0;
      });
      for (const table of await tenantTables(trial.world)) {
        for (const who of ['ownerA', 'removed', 'deleted', 'anon']) {
          const { data } = await trial
            .client(who)
            .from(table.name)
            .select(table.select)
            .eq(table.key, b.tenant);
          trial.expect((data ?? []).length === 0, `${who} got ${data?.length} rows of ${table.name}`);
          const single = await trial
            .client(who)
            .from(table.name)
            .select(table.select)
            .eq(table.key, b.tenant)
            .limit(1)
            .maybeSingle();
          trial.expect(!single.data, `${who} got one row of ${table.name}`);
          const head = await trial
            .client(who)
            .from(table.name)
            .select(table.select, { count: 'exact', head: true })
            .eq(table.key, b.tenant);
          trial.expect(!head.count, `${who} counted ${head.count} rows of ${table.name}`);
        }
      }
    }),
    attack(
      '32c',
      'a row that exists and one that does not look alike, counts and headers included',
      async (trial) => {
        const { b, none } = trial.ids;
        for (const table of await tenantTables(trial.world)) {
          await ownerReads(trial, table);
          const row = await filterOfRow(trial.world, table, b.tenant);
          const pairs: [string, string][] = [
            [`${table.key}=eq.${b.tenant}`, `${table.key}=eq.${none.tenant}`],
          ];
          if (row !== undefined) pairs.push([row, row.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, none.tenant)]);
          for (const who of ['ownerA', 'removed']) {
            for (const [real, unreal] of pairs) {
              const forms: Record<string, string>[] = [
                { prefer: 'count=exact' },
                { accept: 'application/vnd.pgrst.object+json' },
              ];
              for (const headers of forms) {
                const ask = (filter: string) =>
                  trial.rest(who, 'GET', `/${table.name}?select=${table.select}&${filter}`, { headers });
                trial.alike(
                  `${who} ${table.name}?${real}`,
                  { answer: await ask(real), sent: [real] },
                  { answer: await ask(unreal), sent: [unreal] },
                );
              }
            }
          }
        }
      },
    ),
    attack(
      '32d',
      'a participant sees own rows, never those of another participant of the same tenant',
      async (trial) => {
        const { b } = trial.ids;
        const own: Record<string, string> = {
          participants: 'id',
          completions: 'participant_id',
          spin_ledger: 'participant_id',
          notification_outbox: 'participant_id',
          opt_ins: 'participant_id',
          linked_accounts: 'participant_id',
        };
        for (const [table, column] of Object.entries(own)) {
          await trial.control(
            `the participant reads own ${table}`,
            async () =>
              rowsOf(await trial.rest('participantB', 'GET', pathOf(table, `${column}=eq.${b.participant}`)))
                .length > 0,
          );
          for (const form of [`${column}=eq.${b.participant}`, `tenant_id=eq.${b.tenant}`, '']) {
            const rows = rowsOf(await trial.rest('otherParticipantB', 'GET', pathOf(table, form)));
            const strange = rows.filter((row) => row[column] === b.participant);
            trial.expect(
              strange.length === 0,
              `the other participant sees ${strange.length} rows of ${table}`,
            );
          }
        }
        for (const table of await tenantTables(trial.world)) {
          if (table.name in own || ['campaigns', 'social_tasks'].includes(table.name)) continue;
          const rows = rowsOf(
            await trial.rest('participantB', 'GET', `/${table.name}?select=${table.select}`),
          );
          trial.expect(rows.length === 0, `a participant sees ${rows.length} rows of ${table.name}`);
        }
        const drafts = rowsOf(await trial.rest('participantB', 'GET', '/campaigns?status=eq.draft'));
        trial.expect(drafts.length === 0, 'a participant sees drafts');
      },
    ),
    attack(
      '33',
      'embedding along every foreign key, both ways, inner, spread, aliased, by the name of the constraint',
      async (trial) => {
        const { b } = trial.ids;
        const tables = await tenantTables(trial.world);
        const selectOf = (name: string) => tables.find((each) => each.name === name)?.select;
        const all = (await references(trial)).filter(
          ({ child, parent }) =>
            selectOf(child) !== undefined && (selectOf(parent) !== undefined || parent === 'plans'),
        );
        await trial.control('the owner of B embeds', async () => {
          const rows = rowsOf(
            await trial.rest(
              'ownerB',
              'GET',
              `/campaigns?select=name,social_tasks!social_tasks_campaign_fkey!inner(title)&tenant_id=eq.${b.tenant}`,
            ),
          );
          return rows.length > 0 && Array.isArray(rows[0]?.social_tasks) && rows[0].social_tasks.length > 0;
        });
        for (const { child, parent, name } of all) {
          const [ofChild, ofParent] = [selectOf(child) ?? '*', selectOf(parent) ?? '*'];
          const down = `/${parent}?select=${ofParent},x:${child}!${name}`;
          const up = `/${child}?select=${ofChild},x:${parent}!${name}`;
          const forms = [
            `${down}(${ofChild})`,
            `${down}!inner(${ofChild})`,
            `${down}!left(${ofChild})&x.tenant_id=eq.${b.tenant}`,
            `${down}!inner(${ofChild})&x.tenant_id=eq.${b.tenant}`,
            `${up}(${ofParent})`,
            `${up}!inner(${ofParent})&tenant_id=eq.${b.tenant}`,
            `/${child}?select=${ofChild},...${parent}!${name}(${ofParent})&tenant_id=eq.${b.tenant}`,
          ];
          for (const who of ['ownerA', 'removed']) {
            for (const form of forms) {
              const answer = await trial.rest(who, 'GET', form);
              // The local Data API joins by one column of a key: what a whole join shows is tried in SQL by attack 33c.
              trial.expect(!isFailure(answer), `${form}: ${inWords(answer)}`);
              trial.expect(
                !isDone(answer) || !answer.text.includes(b.tenant),
                `${who} ${form} has rows of the victim`,
              );
            }
          }
        }
      },
    ),
    attack('33b', 'embedding four tables deep', async (trial) => {
      const deep =
        'select=name,campaigns!campaigns_tenant_fkey(name,social_tasks!social_tasks_campaign_fkey(title,completions!completions_task_fkey(code)))';
      await trial.control('the owner of B', async () =>
        /canaryb-1/.test((await trial.rest('ownerB', 'GET', `/tenants?${deep}`)).text),
      );
      for (const who of outsiders) trial.nothingOfB(await trial.rest(who, 'GET', `/tenants?${deep}`), who);
      trial.nothingOfB(
        await trial.rest('ownerA', 'GET', `/tenants?${deep}&id=eq.${trial.ids.b.tenant}`),
        'by id',
      );
    }),
    attack(
      '33c',
      'joins in SQL, as PostgREST makes them: along every foreign key, outer and inner',
      async (trial) => {
        const { b } = trial.ids;
        const readable = (await tenantTables(trial.world))
          .filter((each) => each.select === '*')
          .map((each) => each.name);
        const keys = await trial.world.admin<{ child: string; parent: string; on: string }[]>`
        select k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent,
          (select string_agg(format('c.%I = p.%I', m.attname, t.attname), ' and ')
            from unnest(k.conkey, k.confkey) as x (mine, theirs)
            join pg_catalog.pg_attribute m on m.attrelid = k.conrelid and m.attnum = x.mine
            join pg_catalog.pg_attribute t on t.attrelid = k.confrelid and t.attnum = x.theirs) as on
        from pg_catalog.pg_constraint k where k.contype = 'f' and k.connamespace = 'public'::regnamespace`;
        const plain = (name: string) => name.replace('public.', '');
        const pairs = keys.filter(
          (each) => readable.includes(plain(each.child)) && readable.includes(plain(each.parent)),
        );
        await trial.control('the owner of B joins', async () => {
          const answer = await trial.sql(
            'ownerB',
            `select 1 from public.completions c join public.participants p on c.tenant_id = p.tenant_id and c.participant_id = p.id where c.tenant_id = '${b.tenant}'`,
          );
          return answer.rows.length > 0;
        });
        for (const { child, parent, on } of pairs) {
          for (const join of ['join', 'left join', 'right join', 'full join']) {
            for (const who of ['ownerA', 'removed', 'stranger']) {
              const answer = await trial.sql(
                who,
                `select to_jsonb(c) as child, to_jsonb(p) as parent from public.${plain(child)} c ${join} public.${plain(parent)} p on ${on}`,
              );
              trial.expect(
                answer.code === undefined,
                `${child} ${join} ${parent}: ${answer.code} ${answer.message}`,
              );
              trial.expect(
                !JSON.stringify(answer.rows).includes(b.tenant),
                `${who}: ${child} ${join} ${parent} has rows of the victim`,
              );
            }
          }
        }
      },
    ),
    attack('34', 'embedding through views and into functions', async (trial) => {
      const { a, b } = trial.ids;
      await trial.control(
        'the owner of B reads the view',
        async () =>
          rowsOf(await trial.rest('ownerB', 'GET', `/job_queues?tenant_id=eq.${b.tenant}`)).length > 0,
      );
      for (const view of (await apiTables(trial.world)).filter((each) => each.view)) {
        for (const form of [
          `select=*,tenants(*)`,
          `select=*,tenants!inner(*)`,
          `tenant_id=eq.${b.tenant}`,
          `select=*&or=(tenant_id.eq.${a.tenant},tenant_id.eq.${b.tenant})`,
        ]) {
          for (const who of outsiders)
            trial.nothingOfB(
              await trial.rest(who, 'GET', `/${view.name}?${form}`),
              `${who} ${view.name}?${form}`,
            );
        }
      }
      for (const form of [
        '/tenants?select=*,create_tenant(*)',
        '/tenants?select=*,tenant_ids(*)',
        '/campaigns?select=*,why(*)',
        '/rpc/why?select=*,tenants(*)',
      ]) {
        trial.refused(await trial.rest('ownerA', 'GET', form), form);
      }
    }),
    attack('35', 'aggregates', async (trial) => {
      const { b } = trial.ids;
      await trial.control('an exact count of own rows', async () => {
        const answer = await trial.rest('ownerB', 'HEAD', '/campaigns', {
          headers: { prefer: 'count=exact' },
        });
        return Number(answer.headers['content-range']?.split('/')[1]) > 0;
      });
      for (const select of [
        'count()',
        'reward_spins.sum()',
        'reward_spins.max()',
        'tenant_id,count()',
        'title.min()',
        'campaigns!social_tasks_campaign_fkey(count())',
      ]) {
        const answer = await trial.rest(
          'ownerA',
          'GET',
          `/social_tasks?select=${select}&tenant_id=eq.${b.tenant}`,
        );
        const rows = rowsOf(answer);
        const numbers = rows
          .flatMap((row) => Object.values(row))
          .filter((value) => value !== null && value !== 0 && !(Array.isArray(value) && value.length === 0));
        trial.expect(numbers.length === 0, `select=${select}: ${inWords(answer)}`);
      }
      const counts = await trial.rest(
        'ownerA',
        'GET',
        '/tenants?select=id,campaigns!campaigns_tenant_fkey(count)',
      );
      trial.nothingOfB(counts, 'counts of an embedded table');
      trial.expect(
        rowsOf(counts).every((row) => row.id !== b.tenant),
        'a count per tenant shows the victim',
      );
    }),
    attack('36', 'filters on embedded columns tell nothing', async (trial) => {
      const canary = 'canaryb-1';
      const find = (who: string, code: string) =>
        trial.rest(
          who,
          'GET',
          `/participants?select=id,completions!completions_participant_fkey!inner(code)&completions.code=eq.${code}`,
          { headers: { prefer: 'count=exact' }, knows: [code] },
        );
      await trial.control(
        'the owner of B finds the claim by its code',
        async () => rowsOf(await find('ownerB', canary)).length > 0,
      );
      trial.alike(
        'a code that B has',
        { answer: await find('ownerA', canary), sent: [canary] },
        { answer: await find('ownerA', 'canaryx-1'), sent: ['canaryx-1'] },
      );
      for (const filter of [
        'campaigns.name=like.canaryb*',
        'campaigns.name=neq.x',
        'campaigns=not.is.null',
      ]) {
        trial.nothingOfB(
          await trial.rest(
            'ownerA',
            'GET',
            `/tenants?select=id,slug,campaigns!campaigns_tenant_fkey!inner(name)&${filter}`,
          ),
          filter,
        );
      }
    }),
    attack(
      '37',
      'other forms of an answer: CSV, one object, without nulls, GeoJSON, binary',
      async (trial) => {
        const { b } = trial.ids;
        await trial.control('the owner of B has CSV', async () =>
          (
            await trial.rest('ownerB', 'GET', '/campaigns', { headers: { accept: 'text/csv' } })
          ).text.includes(b.tenant),
        );
        const forms = [
          'text/csv',
          'application/vnd.pgrst.object+json',
          'application/vnd.pgrst.array+json;nulls=stripped',
          'application/vnd.pgrst.object+json;nulls=stripped',
          'application/geo+json',
          'application/octet-stream',
          'text/plain',
          'text/xml',
          '*/*',
        ];
        for (const table of await tenantTables(trial.world)) {
          for (const accept of forms) {
            const answer = await trial.rest(
              'ownerA',
              'GET',
              `/${table.name}?select=${table.select}&${table.key}=eq.${b.tenant}`,
              { headers: { accept } },
            );
            trial.expect(!isDone(answer) || !answer.text.includes(b.tenant), `${table.name} as ${accept}`);
            trial.expect(!isFailure(answer), `${table.name} as ${accept}: ${inWords(answer)}`);
          }
        }
      },
    ),
    attack('38', 'searching in hidden text', async (trial) => {
      await trial.control(
        'the owner of B finds it',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns?name=imatch.CANARYB')).length > 0,
      );
      for (const filter of [
        'name=match.canaryb',
        'name=imatch.^CANARYB',
        'name=like(any).{canaryb*,plain*}',
        'name=ilike(all).{*canary*,*b*}',
        'name=fts.canaryb',
        'name=wfts(english).canaryb',
        'name=like.canaryb*',
        'name=not.like.plain*',
        'name=gt.a',
        'name=isdistinct.x',
      ]) {
        trial.nothingOfB(await trial.rest('ownerA', 'GET', `/campaigns?${filter}`), filter);
      }
      const patient = 'name=match.(a%2B)%2B$';
      trial.expect(
        (await trial.rest('ownerA', 'GET', `/campaigns?${patient}`)).status < 500,
        'a greedy pattern',
      );
    }),
    attack('38b', 'a filter of one’s own cannot look at a row before the policy does', async (trial) => {
      // A cheap function of the caller in a WHERE is what leaks through a view that is no barrier.
      await trial.control('the filter runs on own rows', async () => {
        const answer = await trial.sql(
          'ownerB',
          "select count(*)::int as n from public.campaigns where name::text operator(pg_catalog.~~) 'canaryb%'",
        );
        return answer.code === undefined && Number(answer.rows[0]?.n) > 0;
      });
      for (const query of [
        'select 1/(case when tenant_id = $b$ then 0 else 1 end) as n from public.campaigns',
        'select count(*)::int as n from public.campaigns where 1/(case when tenant_id = $b$ then 0 else 1 end) > 0',
        'select (name || tenant_id::text)::int as n from public.campaigns where tenant_id = $b$',
        'select q.* from public.job_queues q where 1/(case when q.tenant_id = $b$ then 0 else 1 end) > 0',
      ]) {
        const answer = await trial.sql('ownerA', query.replaceAll('$b$', `'${trial.ids.b.tenant}'`));
        trial.expect(
          answer.code === undefined,
          `an expression saw a hidden row: ${query}: ${answer.code} ${answer.message}`,
        );
      }
    }),
    attack(
      '39',
      'work, history, messages, credentials, audit log and alerts of B, by id and by list',
      async (trial) => {
        const { b, none } = trial.ids;
        const by: Record<string, string> = {
          completions: `id=eq.${b.completion}`,
          notification_outbox: `id=eq.${b.message}`,
          opt_ins: `participant_id=eq.${b.participant}`,
          spin_ledger: `id=eq.${b.spins}`,
          audit_log: `tenant_id=eq.${b.tenant}`,
          memberships: `tenant_id=eq.${b.tenant}`,
        };
        for (const [table, filter] of Object.entries(by)) {
          await trial.control(
            `the owner of B reads ${table}`,
            async () => rowsOf(await trial.rest('ownerB', 'GET', `/${table}?${filter}`)).length > 0,
          );
          for (const who of outsiders)
            trial.nothingOfB(await trial.rest(who, 'GET', `/${table}?${filter}`), `${who} ${table}`);
        }
        await trial.control('a viewer of B asks why', async () =>
          isDone(await trial.rpc('viewerB', 'why', { tenant_id: b.tenant, item_id: b.item })),
        );
        for (const item of [b.item, b.deadItem, none.item]) {
          for (const who of outsiders)
            trial.refused(
              await trial.rpc(who, 'why', { tenant_id: b.tenant, item_id: item }),
              `${who} asks why`,
            );
          // The item of B under the attacker's own tenant.
          const own = await trial.rpc('ownerA', 'why', { tenant_id: trial.ids.a.tenant, item_id: item });
          const unknown = await trial.rpc('ownerA', 'why', {
            tenant_id: trial.ids.a.tenant,
            item_id: '987654321',
          });
          trial.alike(
            `why of item ${item}`,
            { answer: own, sent: [String(item)] },
            { answer: unknown, sent: ['987654321'] },
          );
        }
        // Not even an admin of the own tenant reads the audit log; it is for owners.
        trial.expect(
          rowsOf(await trial.rest('adminB', 'GET', '/audit_log')).length === 0,
          'an admin reads the audit log',
        );
        trial.expect(
          rowsOf(await trial.rest('memberB', 'GET', '/credentials?select=id')).length === 0,
          'a member reads credentials',
        );
        const platform = rowsOf(
          await trial.rest('ownerA', 'GET', '/audit_log?tenant_id=eq.00000000-0000-0000-0000-000000000000'),
        );
        trial.expect(platform.length === 0, 'a tenant reads the platform’s audit rows');
      },
    ),
    attack('40', 'errors show the values of own rows only', async (trial) => {
      await trial.control(
        'the owner of B sees an own value in an error',
        async () => (await trial.rest('ownerB', 'GET', '/campaigns?select=name::int')).status === 400,
      );
      for (const query of [
        'select=name::int',
        'select=name::uuid',
        'name=cs.{x}',
        'select=tenant_id::int',
        'created_at=gt.x',
        `name=gt.1&select=name::timestamptz`,
      ]) {
        for (const table of ['campaigns', 'participants', 'completions', 'tenants']) {
          const answer = await trial.rest('ownerA', 'GET', `/${table}?${query}`);
          trial.expect(!isFailure(answer), `${table}?${query}: ${inWords(answer)}`);
        }
      }
      const failed = await trial.rest('memberA', 'POST', '/campaigns', {
        body: { tenant_id: trial.ids.a.tenant, name: '   ' },
      });
      trial.expect(
        codeOf(failed) === '23514' && !/Failing row/.test(failed.text),
        `a failed check shows the row: ${inWords(failed)}`,
      );
    }),
    noAttack(
      '41',
      'export files of another tenant',
      'There are no exports yet: no table, function or bucket holds one (attack 32 would find the table, 63 the function).',
    ),
    attack('42', 'the dashboard’s files hold no data of anybody', async (trial) => {
      const { apiUrl } = trial.world.server;
      await trial.control('the Data API answers the owner of B', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/tenants')),
      );
      for (const path of [
        '/dashboard',
        '/dashboard/',
        '/dashboard/index.html',
        `/dashboard/${trial.ids.b.slug}`,
        `/dashboard/?tenant=${trial.ids.b.tenant}`,
        '/dashboard/../keys.json',
        '/dashboard/%2e%2e/keys.json',
        '/dashboard/..%2f..%2fpackage.json',
        '/dashboard/%2e%2e%2f%2e%2e%2fpackage.json',
        '/dashboard/%00',
      ]) {
        const answer = await trial.http('ownerA', 'GET', `${apiUrl}${path}`, {
          headers: { 'x-tenant-id': trial.ids.b.tenant, cookie: `tenant=${trial.ids.b.tenant}` },
        });
        trial.expect(
          answer.status < 500 && !/"devDependencies"|jwtSecret/.test(answer.text),
          `${path}: ${inWords(answer)}`,
        );
      }
    }),
    attack('42b', 'a header, cookie or query cannot choose the tenant', async (trial) => {
      const { a, b } = trial.ids;
      const headers = {
        'x-tenant-id': b.tenant,
        'x-tenant': b.slug,
        cookie: `tenant_id=${b.tenant}`,
        'x-forwarded-host': `${b.slug}.example.test`,
        'x-real-ip': '127.0.0.1',
      };
      await trial.control(
        'the owner of B reads without any',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
      for (const path of ['/campaigns', pathOf('participants'), '/tenants'])
        trial.nothingOfB(await trial.rest('ownerA', 'GET', path, { headers }), path);
      // A member of both gets both, whatever is asked for: the row says whose it is.
      const both = rowsOf(await trial.rest('twin', 'GET', '/tenants', { headers }));
      trial.expect(
        [a.tenant, b.tenant].every((id) => both.some((row) => row.id === id)),
        'the member of both sees both',
      );
    }),
    attack('43', 'no answer can be served to somebody else from a cache', async (trial) => {
      await trial.control(
        'the owner of B reads',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
      const first = await trial.rest('viewerB', 'GET', '/campaigns');
      const etag = first.headers.etag;
      const again = await trial.rest('ownerA', 'GET', '/campaigns', {
        headers: etag ? { 'if-none-match': etag } : {},
      });
      trial.nothingOfB(again, 'the same path with another session');
      trial.expect(again.status !== 304, 'A was told that it has B’s answer');
      for (const answer of [first, again]) {
        const cache = answer.headers['cache-control'] ?? '';
        trial.expect(!/public|s-maxage|max-age=[1-9]/.test(cache), `may be cached: ${cache}`);
      }
    }),
    noAttack(
      '44',
      'health names no tenant',
      'Health is asked over functions/jobs: attack 101 holds its answer against the names, and attack 86 everything behind the door.',
    ),
  ],
};
