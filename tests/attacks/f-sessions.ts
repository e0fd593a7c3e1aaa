/** F. Memberships, sessions and tokens: what was true when a token was made and is no longer, and what never was. */
import { attack, codeOf, type Group, inWords, isDone, isFailure, noAttack, rowsOf } from './harness.ts';
import { tenantTables, updatable } from './tables.ts';
import { claimsOf, forge } from './tokens.ts';

const asked = { prefer: 'return=representation' };

export const sessions: Group = {
  letter: 'F',
  title: 'Memberships, sessions and tokens',
  attacks: [
    attack('71', 'a removed member with a live token: nothing is read or written any more', async (trial) => {
      const { b } = trial.ids;
      for (const table of await tenantTables(trial.world)) {
        trial.nothingOfB(
          await trial.rest('removed', 'GET', `/${table.name}?select=${table.select}`),
          `reads ${table.name}`,
        );
        if (table.view) continue;
        const change = updatable[table.name]?.change('stolen') ?? { [table.key]: b.tenant };
        trial.nothingOfB(
          await trial.rest('removed', 'PATCH', `/${table.name}?${table.key}=eq.${b.tenant}`, {
            headers: asked,
            body: change,
          }),
          `writes ${table.name}`,
        );
        trial.nothingOfB(
          await trial.rest('removed', 'DELETE', `/${table.name}?${table.key}=eq.${b.tenant}`, {
            headers: asked,
          }),
          `deletes ${table.name}`,
        );
      }
      trial.refused(
        await trial.rpc('removed', 'set_credential', {
          tenant_id: b.tenant,
          provider: 'stripe',
          kind: 'own_key',
          secret: { api_key: 'topsecret-71' },
        }),
        'sets a credential',
      );
      trial.refused(await trial.rpc('removed', 'why', { tenant_id: b.tenant, item_id: b.item }), 'asks why');
      // At once: in the very request after the removal.
      const user = trial.world.actor('stranger').userId;
      const read = async () =>
        rowsOf(await trial.rest('stranger', 'GET', `/campaigns?tenant_id=eq.${trial.ids.a.tenant}`)).length;
      await trial.world
        .admin`insert into public.memberships (tenant_id, user_id, role) values (${trial.ids.a.tenant}, ${user}, 'admin')`;
      const during = await read();
      await trial.world
        .admin`delete from public.memberships where tenant_id = ${trial.ids.a.tenant} and user_id = ${user}`;
      trial.expect((await read()) === 0, 'the next request still reads');
      await trial.control('a member reads, with the same token', async () => during > 0);
    }),
    noAttack(
      '72',
      'an open Realtime channel of a removed member',
      'No table is published to Realtime (attack 18), so there is no channel that could stay open; the local stack has no Realtime.',
    ),
    noAttack(
      '73',
      'links and keys made while a member',
      'There are no signed links, exports or API keys of members: sessions are the only access, and 71 covers them.',
    ),
    attack('74', 'a demoted owner does nothing of an owner’s', async (trial) => {
      const { b } = trial.ids;
      trial.expect(
        rowsOf(await trial.rest('demoted', 'GET', '/audit_log')).length === 0,
        'reads the audit log',
      );
      trial.expect(
        rowsOf(await trial.rest('demoted', 'GET', '/credentials?select=id')).length === 0,
        'reads credentials',
      );
      trial.refused(
        await trial.rpc('demoted', 'set_credential', {
          tenant_id: b.tenant,
          provider: 'stripe',
          kind: 'own_key',
          secret: { api_key: 'topsecret-74' },
        }),
        'sets a credential',
      );
      trial.refused(
        await trial.rpc('demoted', 'remove_credential', { tenant_id: b.tenant, provider: 'meta' }),
        'removes a credential',
      );
      for (const [table, { change, row }] of Object.entries(updatable)) {
        const answer = await trial.rest('demoted', 'PATCH', `/${table}?${row(b)}`, {
          headers: asked,
          body: change('stolen'),
        });
        trial.expect(rowsOf(answer).length === 0, `changes ${table}: ${inWords(answer)}`);
      }
      trial.refused(
        await trial.rest('demoted', 'POST', '/campaigns', { body: { tenant_id: b.tenant, name: 'stolen' } }),
        'inserts',
      );
      const more: [string, Record<string, unknown>][] = [
        ['list_members', {}],
        ['close_tenant', {}],
        ['invite_member', { email: 'x@example.test' }],
        ['transfer_ownership', { user_id: trial.world.actor('viewerB').userId }],
        ['change_role', { user_id: trial.world.actor('demoted').userId, role: 'owner' }],
        ['remove_member', { user_id: trial.world.actor('ownerB').userId }],
        ['revoke_invitation', { invitation_id: b.invitation }],
      ];
      for (const [name, args] of more) {
        trial.refused(await trial.rpc('demoted', name, { tenant_id: b.tenant, ...args }), name);
      }
      await trial.control(
        'a viewer may still look',
        async () => rowsOf(await trial.rest('demoted', 'GET', '/campaigns')).length > 0,
      );
    }),
    attack('75', 'a deleted user with a live token', async (trial) => {
      const { b } = trial.ids;
      for (const table of await tenantTables(trial.world))
        trial.nothingOfB(
          await trial.rest('deleted', 'GET', `/${table.name}?select=${table.select}`),
          `reads ${table.name}`,
        );
      trial.refused(
        await trial.rest('deleted', 'POST', '/campaigns', { body: { tenant_id: b.tenant, name: 'stolen' } }),
        'inserts',
      );
      trial.refused(
        await trial.rpc('deleted', 'create_tenant', { name: 'Ghost', slug: `ghost-${Date.now()}` }),
        'creates a tenant',
      );
      trial.refused(
        await trial.rpc('deleted', 'join_campaign', {
          tenant_id: b.tenant,
          campaign_id: b.campaign,
          display_name: 'Ghost',
        }),
        'joins a campaign',
      );
      await trial.control(
        'a user who is there reads',
        async () => rowsOf(await trial.rest('viewerB', 'GET', '/campaigns')).length > 0,
      );
    }),
    attack('76', 'user_metadata of one’s own making', async (trial) => {
      const { apiUrl } = trial.world.server;
      const { b } = trial.ids;
      const data = {
        tenant_id: b.tenant,
        tenants: [b.tenant],
        role: 'owner',
        is_admin: true,
        is_platform_admin: true,
      };
      const changed = await trial.http('stranger', 'PUT', `${apiUrl}/auth/v1/user`, { body: { data } });
      trial.expect(!isFailure(changed), `user_metadata: ${inWords(changed)}`);
      await trial.control(
        'the owner of B reads',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
      for (const table of await tenantTables(trial.world)) {
        const claims = {
          role: 'authenticated',
          sub: trial.world.actor('stranger').userId,
          user_metadata: data,
        };
        const token = forge(
          { ...claimsOf(trial.world.actor('stranger').token ?? ''), user_metadata: data },
          trial.world.server.jwtSecret,
        );
        trial.nothingOfB(
          await trial.rest('stranger', 'GET', `/${table.name}?select=${table.select}`, {
            headers: { authorization: `Bearer ${token}` },
          }),
          table.name,
        );
        const answer = await trial.sql(
          'stranger',
          `select ${table.key} as tenant from public.${table.name} where ${table.key} = '${b.tenant}'`,
          claims,
        );
        trial.expect(answer.rows.length === 0, `${table.name} in SQL`);
      }
    }),
    attack('77', 'app_metadata and other claims that went stale: none is trusted', async (trial) => {
      const { b } = trial.ids;
      const data = {
        tenant_id: b.tenant,
        tenants: { [b.tenant]: 'owner' },
        roles: ['owner', 'platform_admin'],
        active_tenant_id: b.tenant,
      };
      await trial.control('a token signed by the platform reads own rows', async () => {
        const token = forge(
          { ...claimsOf(trial.world.actor('ownerB').token ?? ''), app_metadata: {} },
          trial.world.server.jwtSecret,
        );
        return (
          rowsOf(
            await trial.rest('ownerB', 'GET', '/campaigns', {
              headers: { authorization: `Bearer ${token}` },
            }),
          ).length > 0
        );
      });
      for (const who of ['stranger', 'removed', 'ownerA']) {
        const token = forge(
          {
            ...claimsOf(trial.world.actor(who).token ?? ''),
            app_metadata: data,
            tenant_id: b.tenant,
            tenant_role: 'owner',
            active_tenant_id: b.tenant,
          },
          trial.world.server.jwtSecret,
        );
        for (const table of await tenantTables(trial.world)) {
          trial.nothingOfB(
            await trial.rest(who, 'GET', `/${table.name}?select=${table.select}`, {
              headers: { authorization: `Bearer ${token}` },
            }),
            `${who} ${table.name}`,
          );
        }
      }
    }),
    attack('78', 'forged tokens: no algorithm, other keys, expired, other roles, too long', async (trial) => {
      const { publishableKey, jwtSecret } = trial.world.server;
      const real = claimsOf(trial.world.actor('ownerB').token ?? '');
      const now = Math.floor(Date.now() / 1000);
      const parts = (trial.world.actor('ownerB').token ?? '').split('.');
      const forged: Record<string, string> = {
        'alg none': forge(real, '', { alg: 'none', typ: 'JWT' }),
        'alg None with a signature': forge(real, 'x', { alg: 'None' }),
        'no alg': forge(real, jwtSecret, { typ: 'JWT' }),
        'signed with the publishable key': forge(real, publishableKey),
        'signed with an empty key': `${forge(real, '')}`,
        'signed with another key': forge(real, 'a'.repeat(64)),
        'signed with the word': forge(real, 'super-secret-jwt-token-with-at-least-32-characters-long'),
        'RS256 with our key': forge(real, jwtSecret, { alg: 'RS256', typ: 'JWT' }),
        'a key from the header': forge(real, 'k', {
          alg: 'HS256',
          jwk: { kty: 'oct', k: Buffer.from('k').toString('base64url') },
        }),
        'kid as a path': forge(real, '', { alg: 'HS256', kid: '../../dev/null' }),
        'no signature': `${parts[0]}.${parts[1]}.`,
        'two parts': `${parts[0]}.${parts[1]}`,
        'another body': `${parts[0]}.${Buffer.from(JSON.stringify({ ...real, role: 'service_role' })).toString('base64url')}.${parts[2]}`,
        expired: forge({ ...real, exp: now - 3600 }, jwtSecret),
        'not yet valid': forge({ ...real, nbf: now + 3600 }, jwtSecret),
        garbage: 'a.b.c',
        'the publishable key': publishableKey,
        'many dots': '.'.repeat(5000),
      };
      for (const [what, token] of Object.entries(forged)) {
        const answer = await trial.rest('anon', 'GET', '/campaigns', {
          headers: { authorization: `Bearer ${token}` },
          knows: [publishableKey],
        });
        trial.expect([400, 401, 403].includes(answer.status), `${what}: ${inWords(answer)}`);
        trial.nothingOfB(answer, what);
      }
      // Signed by the platform (a leaked key apart, nobody can), but not made for anybody: no role that the API does not serve.
      for (const [what, claims] of [
        ['postgres', { role: 'postgres' }],
        ['supabase_admin', { role: 'supabase_admin' }],
        ['authenticator', { role: 'authenticator' }],
        ['none', { role: undefined }],
        ['an empty one', { role: '' }],
        ['a quote', { role: 'anon"; set role postgres; --' }],
        ['a list', { role: ['authenticated'] }],
      ] as const) {
        const answer = await trial.rest('anon', 'GET', '/campaigns', {
          headers: { authorization: `Bearer ${forge({ ...real, ...claims }, jwtSecret)}` },
        });
        trial.expect(!isFailure(answer), `role ${what}: ${inWords(answer)}`);
        trial.nothingOfB(answer, `role ${what}`);
      }
      for (const [what, sub] of [
        ['no uuid', 'me'],
        ['empty', ''],
        ['missing', undefined],
        ['null', null],
        ['a number', 1],
      ] as const) {
        const answer = await trial.rest('anon', 'GET', '/campaigns', {
          headers: { authorization: `Bearer ${forge({ ...real, sub }, jwtSecret)}` },
        });
        trial.expect(!isFailure(answer), `sub ${what}: ${inWords(answer)}`);
        // A list of one is refused or is nobody; whoever it is must not be somebody by accident.
        trial.nothingOfB(answer, `sub ${what}`);
      }
      await trial.control(
        'the real token',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
    }),
    attack('78b', 'claims of 12 kB and claims given twice', async (trial) => {
      const { jwtSecret } = trial.world.server;
      const real = claimsOf(trial.world.actor('stranger').token ?? '');
      const [header = '', ,] = (trial.world.actor('stranger').token ?? '').split('.');
      const twice = JSON.stringify(real).replace(
        '{',
        `{"sub":"${trial.world.actor('ownerB').userId}","role":"service_role",`,
      );
      for (const claims of [{ ...real, padding: 'x'.repeat(12_000) }, twice]) {
        const answer = await trial.rest('anon', 'GET', '/campaigns', {
          headers: { authorization: `Bearer ${forge(claims, jwtSecret)}` },
        });
        trial.expect(!isFailure(answer), inWords(answer));
        trial.nothingOfB(answer, 'claims given twice');
      }
      trial.expect(header !== '', 'a token has a header');
      await trial.control(
        'the real token',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns')).length > 0,
      );
    }),
    attack('79', 'anonymous sign-ins are off', async (trial) => {
      const { apiUrl } = trial.world.server;
      const answer = await trial.http('anon', 'POST', `${apiUrl}/auth/v1/signup`, { body: {} });
      trial.refused(answer, 'an anonymous sign-in');
      const claims = {
        role: 'authenticated',
        sub: '00000000-0000-4000-8000-00000000dead',
        is_anonymous: true,
      };
      const seen = await trial.sql('stranger', 'select count(*)::int as n from public.campaigns', claims);
      trial.expect(seen.rows[0]?.n === 0, 'an anonymous user sees campaigns');
      // A guest who came in all the same owns nothing and joins nobody.
      const { admin } = trial.world;
      const guest = trial.world.actor('stranger').userId;
      const email = trial.world.scene.people.stranger?.email ?? '';
      const invited = await trial.rpc('ownerA', 'invite_member', {
        tenant_id: trial.ids.a.tenant,
        email,
        role: 'viewer',
      });
      const token = /"token":"([^"]+)"/.exec(invited.text)?.[1] ?? '';
      await admin`update auth.users set is_anonymous = true where id = ${guest}`;
      try {
        const asGuest: [string, Record<string, unknown>][] = [
          ['create_tenant', { name: 'Guest', slug: `guest-${Date.now()}` }],
          ['accept_invitation', { token }],
        ];
        for (const [name, args] of asGuest) {
          const refusal = await trial.rpc('stranger', name, args);
          trial.expect(codeOf(refusal) === '42501', `a guest: ${name}: ${inWords(refusal)}`);
        }
      } finally {
        await admin`update auth.users set is_anonymous = false where id = ${guest}`;
      }
      await trial.control('a sign-in by password works', async () =>
        isDone(await trial.rest('ownerB', 'GET', '/campaigns')),
      );
    }),
    attack('80', 'a platform admin without the second factor, where it is asked for', async (trial) => {
      const { admin, server } = trial.world;
      const { suspended } = trial.ids;
      const user = trial.world.actor('twin').userId;
      const asAdmin = (aal: string | undefined) => {
        const token = forge({ ...claimsOf(trial.world.actor('twin').token ?? ''), aal }, server.jwtSecret);
        return trial.rpc(
          'twin',
          'suspend_tenant',
          { tenant_id: suspended.tenant, reason: 'attack 80' },
          { headers: { authorization: `Bearer ${token}` } },
        );
      };
      await admin`update public.tenants set status = 'active' where id = ${suspended.tenant}`;
      for (const aal of ['aal1', 'aal2', undefined])
        trial.refused(await asAdmin(aal), `somebody who is no platform admin, with ${aal}`);
      await admin`insert into private.platform_admins (user_id) values (${user})`;
      await admin`update private.settings set value = 'true' where name = 'platform_admins_need_mfa'`;
      try {
        for (const aal of ['aal1', '', 'AAL2', undefined]) trial.refused(await asAdmin(aal), `with ${aal}`);
        await trial.control('with the second factor', async () => isDone(await asAdmin('aal2')));
        // In no tenant does a platform admin have a right by it.
        trial.expect(
          rowsOf(await trial.rest('twin', 'GET', `/memberships?tenant_id=eq.${suspended.tenant}`)).length ===
            0,
          'a platform admin reads a tenant',
        );
      } finally {
        await admin`delete from private.platform_admins where user_id = ${user}`;
        await admin`update private.settings set value = 'false' where name = 'platform_admins_need_mfa'`;
        await admin`update public.tenants set status = 'suspended' where id = ${suspended.tenant}`;
      }
    }),
    attack(
      '81',
      'invitations: another address, an unconfirmed one, expired, used, revoked, above the inviter, guessed',
      async (trial) => {
        const { admin, scene } = trial.world;
        const { a, b } = trial.ids;
        const stranger = scene.people.stranger?.email ?? '';
        const invite = async (who: string, tenant: string, email: string, role = 'viewer') => {
          const answer = await trial.rpc(who, 'invite_member', { tenant_id: tenant, email, role });
          return { answer, token: /"token":"([^"]+)"/.exec(answer.text)?.[1] ?? '' };
        };
        const accept = (who: string, token: string) => trial.rpc(who, 'accept_invitation', { token });
        const entered = (answer: { status: number; text: string }) =>
          answer.status < 300 && !/PT404/.test(answer.text);
        const unknown = await accept('stranger', `inv_${'0'.repeat(64)}`);
        trial.expect(!entered(unknown), 'a guessed token is accepted');
        const failsAlike = async (what: string, who: string, token: string) => {
          const answer = await accept(who, token);
          trial.expect(!entered(answer), `${what}: ${inWords(answer)}`);
          trial.alike(what, { answer, sent: [token] }, { answer: unknown, sent: [] });
        };
        // B invites somebody; the attacker gets hold of the token.
        let token = '';
        await trial.control('an admin of B invites', async () => {
          const invited = await invite('adminB', b.tenant, 'canaryb-somebody@example.test');
          ({ token } = invited);
          return isDone(invited.answer);
        });
        for (const who of ['stranger', 'ownerA', 'removed', 'participantB'])
          await failsAlike(`${who} takes somebody else’s invitation`, who, token);
        for (const who of ['anon', 'deleted']) trial.refused(await accept(who, token), `${who} accepts`);
        const stored = await admin<{ row: string }[]>`select i::text as row from public.invitations i`;
        trial.expect(
          stored.every(({ row }) => !row.includes(token)),
          'the token is stored',
        );
        const log = await admin<{ row: string }[]>`select l::text as row from public.audit_log l`;
        trial.expect(
          log.every(({ row }) => !row.includes(token)),
          'the token is in the audit log',
        );
        trial.refused(
          await trial.rest('ownerB', 'GET', '/invitations?select=token_hash'),
          'the hash is read',
        );

        // With the attacker's own tenant, each wrong in one way.
        const own = async () => (await invite('ownerA', a.tenant, stranger)).token;
        const expired = await own();
        await admin`update public.invitations set created_at = now() - interval '9 days', expires_at = now() - interval '1 second' where email = ${stranger} and revoked_at is null`;
        await failsAlike('an expired one', 'stranger', expired);
        const revoked = await own();
        const [row] = await admin<
          { id: string }[]
        >`select id from public.invitations where email = ${stranger} and revoked_at is null and expires_at > now()`;
        trial.expect(
          (await trial.rpc('ownerA', 'revoke_invitation', { tenant_id: a.tenant, invitation_id: row?.id }))
            .json === true,
          'it is revoked',
        );
        await failsAlike('a revoked one', 'stranger', revoked);
        const unconfirmed = await own();
        await admin`update auth.users set email_confirmed_at = null where email = ${stranger}`;
        await failsAlike('an unconfirmed address', 'stranger', unconfirmed);
        await admin`update auth.users set email_confirmed_at = now() where email = ${stranger}`;
        const replaced = await own();
        const used = await own();
        await failsAlike('one that a newer one replaced', 'stranger', replaced);
        await failsAlike('in other letters', 'stranger', used.toUpperCase());
        trial.expect(entered(await accept('stranger', used)), 'the right one is not accepted');
        await failsAlike('a used one', 'stranger', used);
        await admin`delete from public.memberships where tenant_id = ${a.tenant} and user_id = ${trial.world.actor('stranger').userId}`;
        await failsAlike('a used one, after the removal', 'stranger', used);

        // Nobody gives more than they have, or in another tenant.
        trial.refused(
          (await invite('adminA', a.tenant, stranger, 'owner')).answer,
          'an admin invites an owner',
        );
        for (const who of ['memberA', 'viewerA', 'participantA'])
          trial.refused((await invite(who, a.tenant, stranger)).answer, `${who} invites`);
        for (const who of ['ownerA', 'removed', 'demoted', 'stranger'])
          trial.refused((await invite(who, b.tenant, stranger, 'owner')).answer, `${who} invites to B`);
        trial.refused(
          await trial.rpc('ownerA', 'revoke_invitation', {
            tenant_id: b.tenant,
            invitation_id: b.invitation,
          }),
          'B’s invitation is revoked',
        );
        trial.expect(
          (
            await trial.rpc('ownerA', 'revoke_invitation', {
              tenant_id: a.tenant,
              invitation_id: b.invitation,
            })
          ).json === false,
          'B’s invitation under A',
        );
        // The invitation of an admin who is gone is worth nothing.
        const orphan = await invite('adminA', a.tenant, stranger, 'admin');
        await admin`update public.memberships set role = 'viewer' where tenant_id = ${a.tenant} and user_id = ${trial.world.actor('adminA').userId}`;
        await failsAlike('from somebody who may no longer invite', 'stranger', orphan.token);
        await admin`update public.memberships set role = 'admin' where tenant_id = ${a.tenant} and user_id = ${trial.world.actor('adminA').userId}`;
        for (const email of ['', 'x', 'a@b\r\nbcc: c@d', `${'x'.repeat(300)}@example.test`, 'a@b@c'])
          trial.refused(
            (await invite('ownerA', a.tenant, email)).answer,
            `the address ${email.slice(0, 20)}`,
          );
      },
    ),
    attack('82', 'a member of two tenants: rows of one cannot refer to the other', async (trial) => {
      const { a, b } = trial.ids;
      await trial.control(
        'the member of both works in B',
        async () =>
          (
            await trial.rest('twin', 'POST', '/social_tasks', {
              body: {
                tenant_id: b.tenant,
                campaign_id: b.campaign,
                kind: 'instagram_comment',
                title: 'canaryb by twin',
                post_id: '77700071',
              },
            })
          ).status === 201,
      );
      for (const [tenant, campaign] of [
        [a.tenant, b.campaign],
        [b.tenant, a.campaign],
      ]) {
        const answer = await trial.rest('twin', 'POST', '/social_tasks', {
          headers: { 'x-tenant-id': String(tenant) },
          body: {
            tenant_id: tenant,
            campaign_id: campaign,
            kind: 'instagram_comment',
            title: 'x',
            post_id: '1',
          },
        });
        trial.refused(answer, 'a task of one tenant under a campaign of the other');
      }
      trial.refused(
        await trial.rest('twin', 'PATCH', `/social_tasks?id=eq.${a.task}`, { body: { tenant_id: b.tenant } }),
        'a task moved from A to B',
      );
    }),
    attack('83', 'suspended and closed tenants', async (trial) => {
      const { closed, suspended } = trial.ids;
      await trial.control(
        'an owner of an active tenant reads',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/tenants')).length > 0,
      );
      for (const table of await tenantTables(trial.world)) {
        for (const who of ['ofClosed', 'participantA']) {
          const rows = rowsOf(
            await trial.rest(
              who,
              'GET',
              `/${table.name}?select=${table.select}&${table.key}=eq.${closed.tenant}`,
            ),
          );
          trial.expect(rows.length === 0, `${who} reads ${table.name} of a closed tenant`);
        }
      }
      for (const ids of [closed, suspended]) {
        const who = ids === closed ? 'ofClosed' : 'ofSuspended';
        for (const answer of [
          await trial.rest(who, 'POST', '/campaigns', { body: { tenant_id: ids.tenant, name: 'x' } }),
          await trial.rpc(who, 'set_credential', {
            tenant_id: ids.tenant,
            provider: 'stripe',
            kind: 'own_key',
            secret: { api_key: 'topsecret-83' },
          }),
          await trial.rpc('participantA', 'claim_task', { tenant_id: ids.tenant, task_id: ids.openTask }),
          await trial.rpc('stranger', 'join_campaign', {
            tenant_id: ids.tenant,
            campaign_id: ids.campaign,
            display_name: 'x',
          }),
        ])
          trial.refused(answer, `${who} writes`);
        const changed = rowsOf(
          await trial.rest(who, 'PATCH', `/tenants?id=eq.${ids.tenant}`, {
            headers: asked,
            body: { name: 'mine' },
          }),
        );
        trial.expect(changed.length === 0, `${who} renames the tenant`);
        const reopened = await trial.rest(who, 'PATCH', `/tenants?id=eq.${ids.tenant}`, {
          headers: asked,
          body: { status: 'active' },
        });
        trial.refused(reopened, `${who} reopens it by a column`);
      }
      for (const who of ['ownerA', 'adminA', 'participantA', 'stranger', 'anon']) {
        for (const ids of [closed, suspended]) {
          trial.refused(
            await trial.rpc(who, 'reopen_tenant', { tenant_id: ids.tenant }),
            `${who} reopens a tenant`,
          );
        }
      }
      // An admin of a closed tenant is no owner of it.
      const { admin } = trial.world;
      const stranger = trial.world.actor('stranger').userId;
      await admin`
        insert into public.memberships (tenant_id, user_id, role) values (${closed.tenant}, ${stranger}, 'admin')`;
      trial.refused(
        await trial.rpc('stranger', 'reopen_tenant', { tenant_id: closed.tenant }),
        'an admin reopens a closed tenant',
      );
      await admin`delete from public.memberships where tenant_id = ${closed.tenant} and user_id = ${stranger}`;
      const still = rowsOf(await trial.rest('ofSuspended', 'GET', '/campaigns'));
      trial.expect(still.length > 0, 'a suspended tenant cannot be read any more');
      const served = await trial.world.admin`
        select from jobs.lanes l join public.tenants t on t.id = l.tenant_id where t.status <> 'active' and l.awake`;
      trial.expect(served.length === 0, 'a lane of a tenant that is not active is awake');
    }),
    attack('84', 'slugs: reserved, in other letters, squatted', async (trial) => {
      const { b } = trial.ids;
      await trial.control('a new slug is free', async () =>
        isDone(await trial.rpc('twin', 'create_tenant', { name: 'Fine', slug: `fine-${Date.now()}` })),
      );
      for (const slug of [
        'admin',
        'api',
        'health',
        'jobs',
        'platform',
        'www',
        'ADMIN',
        'Api',
        b.slug,
        b.slug.toUpperCase(),
        ` ${b.slug}`,
        `${b.slug} `,
        'cаnaryb-shop',
        'ａdmin',
        'admin​',
        'a--b/../c',
        '-admin',
        'admin-',
        'x',
        '',
        'a'.repeat(49),
        'xn--80ak6aa92e',
        '%2e%2e',
        'a.b',
        'a_b',
      ]) {
        const answer = await trial.rpc(
          'stranger',
          'create_tenant',
          { name: 'Squatter', slug },
          { knows: [b.slug, b.slug.toUpperCase()] },
        );
        trial.refused(answer, `the slug "${slug}"`);
      }
      // That a slug is taken is told to whoever wants it: it is a public address. That it is the victim's is not.
      const taken = await trial.rpc(
        'stranger',
        'create_tenant',
        { name: 'Squatter', slug: b.slug },
        { knows: [b.slug, b.slug.toUpperCase()] },
      );
      trial.expect(
        !taken.text.includes(b.tenant) && !/canaryb tenant/.test(taken.text),
        `it says whose it is: ${inWords(taken)}`,
      );
    }),
    attack('85', 'what the platform does, tried by an owner', async (trial) => {
      const { a, b } = trial.ids;
      for (const who of ['ownerA', 'ownerB', 'anon']) {
        const query = await trial.rest(who, 'GET', '/tenants?select=id&is_admin=eq.true');
        trial.refused(query, `${who} lists all tenants as an admin`);
        const body = { tenant_id: b.tenant, is_admin: true, is_platform_admin: true, role: 'service_role' };
        trial.refused(await trial.rpc(who, 'set_plan', body), `${who} sets a plan`);
        for (const header of [
          { 'x-supabase-role': 'service_role' },
          { 'x-role': 'service_role' },
          { role: 'service_role' },
          { 'x-client-role': 'postgres' },
        ] as Record<string, string>[]) {
          const answer = await trial.rest(who, 'GET', '/lanes', {
            headers: { ...header, 'accept-profile': 'jobs' },
          });
          trial.refused(answer, `${who} with ${JSON.stringify(header)}`);
        }
      }
      for (const who of ['ownerA', 'ownerB', 'adminB', 'anon']) {
        trial.refused(
          await trial.rpc(who, 'suspend_tenant', { tenant_id: b.tenant, reason: 'x' }),
          `${who} suspends B`,
        );
        trial.refused(
          await trial.rpc(who, 'reopen_tenant', { tenant_id: trial.ids.suspended.tenant }),
          `${who} reopens a suspended tenant`,
        );
        for (const name of ['add_platform_admin', 'remove_platform_admin']) {
          trial.refused(
            await trial.rpc(
              who,
              name,
              { user_id: trial.world.actor('ownerA').userId },
              { headers: { 'content-profile': 'jobs' } },
            ),
            `${who} ${name}`,
          );
        }
      }
      trial.refused(
        await trial.rpc('ofSuspended', 'reopen_tenant', { tenant_id: trial.ids.suspended.tenant }),
        'the owner of a suspended tenant reopens it',
      );
      for (const query of [
        'select * from private.platform_admins',
        `insert into private.platform_admins values ('${trial.world.actor('ownerA').userId}')`,
      ]) {
        trial.refusedSql(await trial.sql('ownerA', query), query);
      }
      const admin = await trial.sql('ownerA', 'select private.is_platform_admin() as yes', {
        role: 'authenticated',
        sub: trial.world.actor('ownerA').userId,
        is_platform_admin: true,
        aal: 'aal2',
      });
      trial.expect(admin.rows[0]?.yes === false, 'a claim makes a platform admin');
      const platform = await trial.sql('ownerA', 'select private.is_platform() as yes');
      trial.expect(platform.rows[0]?.yes !== true, 'an owner passes for the platform');
      for (const claims of [{ role: 'service_role' }, {}, { role: null, sub: null }]) {
        // What the claims say does not matter as long as the role of the session is a person's.
        const pretended = await trial.sql(
          'ownerA',
          `select count(*)::int as n from public.campaigns where tenant_id = '${b.tenant}'`,
          claims as Record<string, unknown>,
        );
        trial.expect(
          pretended.rows.length === 0 || pretended.rows[0]?.n === 0,
          `claims ${JSON.stringify(claims)} open B`,
        );
      }
      await trial.control(
        'the platform sees all tenants',
        async () => rowsOf(await trial.rest('server', 'GET', '/tenants')).length >= 4,
      );
      trial.expect(a.tenant !== '', 'A is there');
    }),
  ],
};
