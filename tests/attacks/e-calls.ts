/** E. Calls: every function that the Data API offers, with every argument that its caller should not give. */
import { attack, codeOf, type Group, inWords, isDone, isFailure, rowsOf, type Trial } from './harness.ts';
import { type TenantIds, uuidOf } from './scene.ts';
import { apiFunctions } from './tables.ts';

interface CallSample {
  /** Arguments about this tenant, as its rightful caller would give them. */
  args: (ids: TenantIds, trial: Trial) => Record<string, unknown>;
  /** Who may call it about B. */
  by: string;
  /** Who of A tries it about B: as powerful as can be. Empty: anybody may call it about any tenant. */
  byOfA: string;
  /** Without a tenant it is a call about oneself. */
  tenantIsOptional?: boolean;
  /** What the control needs, and what has to be put right after it; as the platform. */
  before?: (trial: Trial, ids: TenantIds) => Promise<unknown>;
  after?: (trial: Trial, ids: TenantIds) => Promise<unknown>;
}

const user = (trial: Trial, name: string): string => trial.world.actor(name).userId;
const ofTenant = (trial: Trial, ids: TenantIds, name: string): string =>
  user(trial, `${name}${ids === trial.ids.a ? 'A' : 'B'}`);
const status = (trial: Trial, ids: TenantIds, value: 'active' | 'closed') =>
  trial.world.admin`update public.tenants set status = ${value} where id = ${ids.tenant}`;
/** A viewer whom nobody misses: of B the other participant, of A the stranger. */
const guestOf = (trial: Trial, ids: TenantIds): string =>
  user(trial, ids === trial.ids.a ? 'stranger' : 'otherParticipantB');
const guest = (trial: Trial, ids: TenantIds) => trial.world.admin`
  insert into public.memberships (tenant_id, user_id, role) values (${ids.tenant}, ${guestOf(trial, ids)}, 'viewer')
  on conflict do nothing`;
const noGuest = (trial: Trial, ids: TenantIds) => trial.world.admin`
  delete from public.memberships where tenant_id = ${ids.tenant} and user_id = ${guestOf(trial, ids)}`;

const toReview = (trial: Trial, ids: TenantIds) => trial.world.admin`
  with undone as (delete from public.spin_ledger where tenant_id = ${ids.tenant} and completion_id = ${ids.review})
  update public.completions set status = 'manual_review', verified_at = null, method = null
  where tenant_id = ${ids.tenant} and id = ${ids.review}`;

/** An approval sends a message: nothing of it may stay behind for the worker. */
const noMessage = async (trial: Trial, ids: TenantIds) => {
  await trial.world.admin`
    delete from jobs.items i using public.notification_outbox m
    where i.tenant_id = ${ids.tenant} and i.subject_id = m.id and m.tenant_id = i.tenant_id and m.completion_id = ${ids.review}`;
  await trial.world
    .admin`delete from public.notification_outbox where tenant_id = ${ids.tenant} and completion_id = ${ids.review}`;
};

/** Every function that people may call needs a line here. */
const calls: Record<string, CallSample | 'no tenant'> = {
  accept_invitation: 'no tenant',
  acknowledge_rule: {
    args: (ids) => ({ tenant_id: ids.tenant, rule: 'rewarded_engagement', version: 1 }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  approve_completion: {
    args: (ids) => ({ tenant_id: ids.tenant, completion_id: ids.review, note: 'canaryb note' }),
    by: 'memberB',
    byOfA: 'ownerA',
    before: toReview,
    after: noMessage,
  },
  change_role: {
    args: (ids, trial) => ({
      tenant_id: ids.tenant,
      user_id: ofTenant(trial, ids, 'viewer'),
      role: 'viewer',
    }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  claim_task: {
    args: (ids) => ({ tenant_id: ids.tenant, task_id: ids.claimable }),
    by: 'participantB',
    byOfA: 'participantA',
    before: (trial, ids) => trial.world.admin`
      delete from public.completions where tenant_id = ${ids.tenant} and task_id = ${ids.claimable}`,
  },
  close_tenant: {
    args: (ids) => ({ tenant_id: ids.tenant }),
    by: 'ownerB',
    byOfA: 'ownerA',
    after: (trial, ids) => status(trial, ids, 'active'),
  },
  confirm_sign_up: {
    args: (ids) => ({ tenant_id: ids.tenant, code: ids.signUpCode }),
    by: 'memberB',
    byOfA: 'ownerA',
  },
  create_campaign: {
    args: (ids) => ({ tenant_id: ids.tenant, name: 'canaryb called' }),
    by: 'memberB',
    byOfA: 'ownerA',
  },
  create_tenant: 'no tenant',
  invite_member: {
    args: (ids) => ({ tenant_id: ids.tenant, email: 'canaryb-guest@example.test', role: 'viewer' }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  join_campaign: {
    args: (ids) => ({ tenant_id: ids.tenant, campaign_id: ids.campaign, display_name: 'canaryb joined' }),
    by: 'participantB',
    // Anybody may join a campaign that runs: what is refused is in attack 63b.
    byOfA: '',
  },
  leave_tenant: {
    args: (ids) => ({ tenant_id: ids.tenant }),
    by: 'otherParticipantB',
    byOfA: 'ownerA',
    before: guest,
  },
  recheck_credential: {
    args: (ids) => ({ tenant_id: ids.tenant, provider: 'meta' }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  list_credentials: { args: (ids) => ({ tenant_id: ids.tenant }), by: 'adminB', byOfA: 'ownerA' },
  list_members: { args: (ids) => ({ tenant_id: ids.tenant }), by: 'adminB', byOfA: 'ownerA' },
  my_tenants: 'no tenant',
  opt_in: {
    args: (ids) => ({ tenant_id: ids.tenant, channel: 'whatsapp' }),
    by: 'participantB',
    byOfA: 'participantA',
  },
  opt_out: {
    args: (ids) => ({ tenant_id: ids.tenant, channel: 'whatsapp' }),
    by: 'participantB',
    byOfA: 'participantA',
    after: (trial, ids) => trial.world.admin`
      update public.participants set whatsapp_opt_in_at = now() where tenant_id = ${ids.tenant} and whatsapp_opt_in_at is null`,
  },
  preview_message: {
    args: (ids) => ({ tenant_id: ids.tenant, kind: 'alert' }),
    by: 'viewerB',
    byOfA: 'ownerA',
  },
  reject_completion: {
    args: (ids) => ({ tenant_id: ids.tenant, completion_id: ids.review, reason: 'canaryb reason' }),
    by: 'memberB',
    byOfA: 'ownerA',
    before: toReview,
    after: toReview,
  },
  remove_credential: {
    args: (ids) => ({ tenant_id: ids.tenant, provider: 'email' }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  remove_member: {
    args: (ids, trial) => ({ tenant_id: ids.tenant, user_id: ofTenant(trial, ids, 'viewer') }),
    by: 'adminB',
    byOfA: 'ownerA',
    after: (trial, ids) => trial.world.admin`
      insert into public.memberships (tenant_id, user_id, role) values (${ids.tenant}, ${ofTenant(trial, ids, 'viewer')}, 'viewer')
      on conflict do nothing`,
  },
  reopen_tenant: {
    args: (ids) => ({ tenant_id: ids.tenant }),
    by: 'ownerB',
    byOfA: 'ownerA',
    before: (trial, ids) => status(trial, ids, 'closed'),
    after: (trial, ids) => status(trial, ids, 'active'),
  },
  resume_sending: { args: (ids) => ({ tenant_id: ids.tenant }), by: 'adminB', byOfA: 'ownerA' },
  revoke_invitation: {
    args: (ids) => ({ tenant_id: ids.tenant, invitation_id: ids.invitation }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  set_active_tenant: {
    args: (ids) => ({ tenant_id: ids.tenant }),
    by: 'viewerB',
    byOfA: 'ownerA',
    tenantIsOptional: true,
  },
  set_cohort: {
    args: (ids) => ({ tenant_id: ids.tenant, participant_ids: [ids.participant], cohort_id: null }),
    by: 'memberB',
    byOfA: 'ownerA',
  },
  start_linking: {
    args: (ids) => ({ tenant_id: ids.tenant, platform: 'instagram' }),
    by: 'participantB',
    byOfA: 'participantA',
  },
  set_credential: {
    args: (ids) => ({
      tenant_id: ids.tenant,
      provider: 'email',
      kind: 'resend',
      secret: { api_key: 'topsecret-e' },
    }),
    by: 'adminB',
    byOfA: 'ownerA',
  },
  suspend_tenant: {
    args: (ids) => ({ tenant_id: ids.tenant, reason: 'canaryb reason' }),
    by: 'server',
    byOfA: 'ownerA',
    after: (trial, ids) => status(trial, ids, 'active'),
  },
  transfer_ownership: {
    args: (ids, trial) => ({ tenant_id: ids.tenant, user_id: ofTenant(trial, ids, 'admin') }),
    by: 'ownerB',
    byOfA: 'ownerA',
    after: async (trial, ids) => {
      for (const role of ['owner', 'admin'] as const) {
        await trial.world.admin`
          update public.memberships set role = ${role} where tenant_id = ${ids.tenant} and user_id = ${ofTenant(trial, ids, role)}`;
      }
    },
  },
  unlink_account: {
    args: (ids) => ({ tenant_id: ids.tenant, platform: 'whatsapp' }),
    by: 'participantB',
    byOfA: 'participantA',
  },
  why: { args: (ids) => ({ tenant_id: ids.tenant, item_id: ids.item }), by: 'viewerB', byOfA: 'ownerA' },
};

const nil = '00000000-0000-0000-0000-000000000000';

export const rpcs: Group = {
  letter: 'E',
  title: 'Calls and their arguments',
  attacks: [
    attack(
      '63',
      'every function about another tenant, nobody’s, none, several, with too much and too little',
      async (trial) => {
        const { a, b, none } = trial.ids;
        for (const each of await apiFunctions(trial.world, 'public')) {
          if (!each.callers.includes('authenticated')) continue;
          const sample = calls[each.name];
          trial.expect(
            sample !== undefined,
            `public.${each.name} can be called, and no sample in tests/attacks/e-calls.ts attacks it`,
          );
          if (sample === undefined || sample === 'no tenant') continue;
          const { by, byOfA, tenantIsOptional, before, after } = sample;
          const args = (ids: TenantIds) => sample.args(ids, trial);
          if (byOfA !== '') {
            for (const who of [byOfA, 'stranger', 'removed', 'deleted', 'ofClosed', 'anon']) {
              const real = await trial.rpc(who, each.name, args(b));
              // The same arguments about a tenant that is nobody's.
              const unreal = await trial.rpc(who, each.name, { ...args(b), tenant_id: none.tenant });
              // Refused by a check: an answer of a constraint (409, 400) would say that the check let it through.
              trial.expect(
                [401, 403, 404].includes(real.status),
                `${who} ${each.name} about B: ${inWords(real)}`,
              );
              trial.alike(
                `${who} ${each.name}`,
                { answer: real, sent: [b.tenant] },
                { answer: unreal, sent: [none.tenant] },
              );
            }
          }
          const { tenant_id: _, ...without } = args(b);
          const forms: unknown[] = [
            { ...args(b), tenant_id: null },
            { ...args(b), tenant_id: nil },
            { ...args(b), tenant_id: [a.tenant, b.tenant] },
            { ...args(b), tenant_id: `{${a.tenant},${b.tenant}}` },
            { ...args(b), tenant_id: { a: a.tenant, b: b.tenant } },
            { ...args(b), tenant_id: `${a.tenant} ` + `${b.tenant}` },
            { ...args(b), tenant_id: '' },
            { ...args(b), tenant_id: `${b.tenant}'--` },
            without,
            { ...args(b), p_tenant_id: a.tenant },
            { ...args(b), role: 'owner', is_admin: true },
            [args(a), args(b)],
            [],
            null,
            '"x"',
            {},
          ];
          const hasTenant = (form: unknown) =>
            typeof form === 'object' && form !== null && 'tenant_id' in form && form.tenant_id !== null;
          for (const form of forms) {
            if (tenantIsOptional && !hasTenant(form)) continue;
            const answer = await trial.rpc(byOfA === '' ? 'stranger' : byOfA, each.name, form);
            trial.refused(answer, `${each.name} ${JSON.stringify(form)}`);
          }
          await trial.control(`${by} calls ${each.name}`, async () => {
            await before?.(trial, b);
            const answer = await trial.rpc(by, each.name, args(b));
            await after?.(trial, b);
            return isDone(answer);
          });
        }
      },
    ),
    attack('63c', 'what A does to itself, with every function, leaves B alone', async (trial) => {
      const { a, b } = trial.ids;
      const callerOfA: Record<string, string> = { otherParticipantB: 'stranger', server: 'server' };
      await trial.control('B has what could be hit', async () => {
        const args = {
          tenant_id: b.tenant,
          provider: 'email',
          kind: 'resend',
          secret: { api_key: 'topsecret-b-email' },
        };
        return isDone(await trial.rpc('adminB', 'set_credential', args));
      });
      await trial.rpc('adminA', 'set_credential', {
        tenant_id: a.tenant,
        provider: 'email',
        kind: 'resend',
        secret: { api_key: 'topsecret-a-email' },
      });
      for (const [name, sample] of Object.entries(calls)) {
        if (sample === 'no tenant') continue;
        await sample.before?.(trial, a);
        const who = callerOfA[sample.by] ?? sample.by.replace(/B$/, 'A');
        const args = JSON.parse(
          JSON.stringify(sample.args(a, trial)).replaceAll('canaryb', 'plain'),
        ) as object;
        const answer = await trial.rpc(who, name, args);
        await sample.after?.(trial, a);
        trial.expect(isDone(answer), `${who} cannot ${name} in A: ${inWords(answer)}`);
        trial.expect(
          answer.text === '' || !answer.text.includes(b.tenant),
          `${name} answers with B: ${inWords(answer)}`,
        );
      }
    }),
    attack(
      '63b',
      'joining: a campaign of another tenant, a draft, an ended one, one of a closed or suspended tenant',
      async (trial) => {
        const { a, b, closed, suspended, none } = trial.ids;
        const join = (tenant: string, campaign: string) =>
          trial.rpc('ownerA', 'join_campaign', {
            tenant_id: tenant,
            campaign_id: campaign,
            display_name: 'me',
          });
        const unreal = await join(b.tenant, none.campaign);
        for (const [tenant, campaign, what] of [
          [a.tenant, b.campaign, 'B’s campaign under A'],
          [b.tenant, a.campaign, 'A’s campaign under B'],
          [b.tenant, b.draft, 'a draft'],
          [closed.tenant, closed.campaign, 'of a closed tenant'],
          [suspended.tenant, suspended.campaign, 'of a suspended tenant'],
          [none.tenant, b.campaign, 'under nobody'],
        ] as const) {
          const answer = await join(tenant, campaign);
          trial.refused(answer, what);
          trial.alike(
            what,
            { answer, sent: [tenant, campaign] },
            { answer: unreal, sent: [b.tenant, none.campaign] },
          );
        }
        for (const who of ['anon', 'outsider'])
          trial.refused(
            await trial.rpc(who, 'join_campaign', {
              tenant_id: b.tenant,
              campaign_id: b.campaign,
              display_name: 'me',
            }),
            who,
          );
        await trial.control('one that runs', async () =>
          isDone(
            await trial.rpc('otherParticipantB', 'join_campaign', {
              tenant_id: b.tenant,
              campaign_id: b.campaign,
              display_name: 'canaryb other',
            }),
          ),
        );
        // Joining again cannot take over somebody else's row.
        const [row] = await trial.world
          .admin`select user_id from public.participants where tenant_id = ${b.tenant} and id = ${b.otherParticipant}`;
        trial.expect(
          row?.user_id === trial.world.actor('otherParticipantB').userId,
          'the participant belongs to somebody else now',
        );
      },
    ),
    attack('63d', 'the list of one’s tenants has one’s own and nobody else’s', async (trial) => {
      const { b } = trial.ids;
      const listOf = async (who: string) => rowsOf(await trial.rpc(who, 'my_tenants', {}));
      await trial.control('the owner of B has B', async () =>
        (await listOf('ownerB')).some((row) => row.tenant_id === b.tenant),
      );
      for (const who of [
        'ownerA',
        'participantA',
        'participantB',
        'stranger',
        'removed',
        'deleted',
        'ofClosed',
      ]) {
        const strange = (await listOf(who)).filter((row) => row.tenant_id === b.tenant);
        trial.expect(strange.length === 0, `${who} works for B`);
      }
      trial.refused(await trial.rpc('anon', 'my_tenants', {}), 'anon asks for tenants');
    }),
    attack('64', 'role checks with no membership, and roles that do not exist', async (trial) => {
      const { a, b } = trial.ids;
      const args = calls.set_credential;
      if (args === undefined || args === 'no tenant') return;
      for (const who of ['stranger', 'participantB', 'deleted', 'removed'])
        trial.refused(
          await trial.rpc(who, 'set_credential', args.args(b, trial)),
          `${who} has no membership`,
        );
      const loose = await trial.world.admin`
        select a.attname from pg_catalog.pg_attribute a where a.attrelid = 'public.memberships'::regclass and a.attname in ('role', 'user_id', 'tenant_id') and not a.attnotnull`;
      trial.expect(loose.length === 0, 'a membership can have no role');
      for (const role of ['Owner', 'OWNER', 'root', 'platform_admin', '', null]) {
        const outcome = await trial.world.tryAndUndo(
          `insert into public.memberships (tenant_id, user_id, role) values ('${a.tenant}', '${trial.world.actor('stranger').userId}', ${role === null ? 'null' : `'${role}'`})`,
        );
        trial.expect(outcome === '22P02' || outcome === '23502', `the role ${role} was ${outcome}`);
      }
      // With NULL for the role or the tenant nobody is let in.
      for (const call of [
        'private.tenant_ids(null)',
        `(select array_agg(t) from private.tenant_ids(null::public.member_role) t)`,
      ]) {
        const answer = await trial.sql('ownerA', `select x::text as x from (select ${call}) q (x)`);
        trial.expect(
          answer.code !== undefined || answer.rows.every((row) => row.x === null),
          `${call} answers ${JSON.stringify(answer.rows)}`,
        );
      }
      await trial.control('an admin is let in', async () =>
        isDone(await trial.rpc('adminB', 'set_credential', args.args(b, trial))),
      );
    }),
    attack('65', 'two calls at once: one slug, one claim, one credential', async (trial) => {
      const { b } = trial.ids;
      const twice = <T>(run: () => Promise<T>) => Promise.all([run(), run(), run(), run(), run(), run()]);
      const slug = `race-${Date.now()}`;
      const made = await twice(() => trial.rpc('stranger', 'create_tenant', { name: 'Race', slug }));
      trial.expect(
        made.filter(isDone).length === 1,
        `${made.filter(isDone).length} tenants of one slug were created`,
      );
      trial.expect(
        made.every((each) => isDone(each) || codeOf(each) === '23505'),
        `lost calls: ${made.map(inWords).join('; ')}`,
      );
      await trial.control('one claim of six at once', async () => {
        const [task] = await trial.world.admin<{ id: string }[]>`
          insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id) values (${b.tenant}, ${b.campaign}, 'instagram_comment', 'canaryb race', '77700071') returning id`;
        const claims = await twice(() =>
          trial.rpc('participantB', 'claim_task', { tenant_id: b.tenant, task_id: task?.id }),
        );
        const rows = await trial.world
          .admin`select from public.completions where tenant_id = ${b.tenant} and task_id = ${task?.id ?? ''}`;
        const items = await trial.world.admin`
          select from jobs.items i join public.completions c on c.tenant_id = i.tenant_id and c.id = i.subject_id where c.task_id = ${task?.id ?? ''}`;
        return claims.filter(isDone).length === 1 && rows.length === 1 && items.length === 1;
      });
      await trial.control('credentials set six times at once are one', async () => {
        const set = calls.set_credential;
        if (set === undefined || set === 'no tenant') return false;
        const answers = await twice(() => trial.rpc('adminB', 'set_credential', set.args(b, trial)));
        const [rows] = await trial.world.admin`
          select count(*)::int as credentials, (select count(*)::int from vault.secrets where name = ${`credential/${b.tenant}/email`}) as secrets
          from public.credentials where tenant_id = ${b.tenant} and provider = 'email'`;
        trial.expect(
          answers.every((each) => each.status < 500),
          `a race ends in ${answers.map(inWords).join('; ')}`,
        );
        return answers.some(isDone) && rows?.credentials === 1 && rows.secrets === 1;
      });
    }),
    attack(
      '65b',
      'ownership transferred twice at once, an invitation accepted six times at once',
      async (trial) => {
        const { b } = trial.ids;
        const { admin } = trial.world;
        await trial.control('one of two transfers at once', async () => {
          const [to, other] = [user(trial, 'adminB'), user(trial, 'memberB')];
          const answers = await Promise.all(
            [to, other].map((id) =>
              trial.rpc('ownerB', 'transfer_ownership', { tenant_id: b.tenant, user_id: id }),
            ),
          );
          const owners =
            await admin`select user_id from public.memberships where tenant_id = ${b.tenant} and role = 'owner'`;
          await admin`update public.memberships set role = 'owner' where tenant_id = ${b.tenant} and user_id = ${user(trial, 'ownerB')}`;
          await admin`update public.memberships set role = 'admin' where tenant_id = ${b.tenant} and user_id = ${to}`;
          await admin`update public.memberships set role = 'member' where tenant_id = ${b.tenant} and user_id = ${other}`;
          return answers.filter(isDone).length === 1 && owners.length === 1;
        });
        await trial.control('an invitation makes one member once', async () => {
          const email = trial.world.scene.people.otherParticipantB?.email ?? '';
          const invited = await trial.rpc('adminB', 'invite_member', {
            tenant_id: b.tenant,
            email,
            role: 'viewer',
          });
          const { token } = invited.json as { token: string };
          const answers = await Promise.all(
            Array.from({ length: 6 }, () => trial.rpc('otherParticipantB', 'accept_invitation', { token })),
          );
          await noGuest(trial, b);
          return answers.filter((each) => isDone(each) && !/PT404/.test(each.text)).length === 1;
        });
      },
    ),
    attack('66', 'owners who demote, remove or leave each other at once: one is left', async (trial) => {
      const { admin } = trial.world;
      const tenant = uuidOf('attack 66');
      const [one, two] = ['twin', 'stranger'];
      await trial.control('an owner demotes another', async () => {
        await twoOwners();
        return isDone(
          await trial.rpc(one, 'change_role', {
            tenant_id: tenant,
            user_id: user(trial, two),
            role: 'admin',
          }),
        );
      });
      async function twoOwners(): Promise<void> {
        await admin`delete from public.tenants where id = ${tenant}`;
        await admin`insert into public.tenants (id, slug, name) values (${tenant}, 'attack-66', 'Attack 66')`;
        await admin`insert into public.memberships (tenant_id, user_id, role)
          values (${tenant}, ${user(trial, one)}, 'owner'), (${tenant}, ${user(trial, two)}, 'owner')`;
      }
      const moves: [string, (who: string, other: string) => Promise<unknown>][] = [
        [
          'demote',
          (who, other) =>
            trial.rpc(who, 'change_role', { tenant_id: tenant, user_id: user(trial, other), role: 'viewer' }),
        ],
        [
          'remove',
          (who, other) => trial.rpc(who, 'remove_member', { tenant_id: tenant, user_id: user(trial, other) }),
        ],
        ['leave', (who) => trial.rpc(who, 'leave_tenant', { tenant_id: tenant })],
        [
          'step down',
          (who) =>
            trial.rpc(who, 'change_role', { tenant_id: tenant, user_id: user(trial, who), role: 'admin' }),
        ],
      ];
      for (const [first, move] of moves) {
        for (const [second, other] of moves) {
          await twoOwners();
          await Promise.all([move(one, two), other(two, one)]);
          const owners =
            await admin`select from public.memberships where tenant_id = ${tenant} and role = 'owner'`;
          trial.expect(owners.length >= 1, `${first} and ${second} at once leave no owner`);
        }
      }
      await admin`delete from public.tenants where id = ${tenant}`;
    }),
    attack('67', 'dynamic SQL: quotes, identifiers, operators and patterns in every text', async (trial) => {
      const { a, b } = trial.ids;
      const words = [
        `'; drop table public.campaigns; --`,
        `"; select 1; --`,
        '%I %L %s',
        '$1',
        '$$; select 1; $$',
        `x' or '1'='1`,
        '\\',
        '{}',
        'null',
        `${'('.repeat(50)}`,
        '* from vault.decrypted_secrets --',
      ];
      await trial.control(
        'a text is a text',
        async () =>
          rowsOf(
            await trial.rest('memberB', 'POST', '/campaigns', {
              headers: { prefer: 'return=representation' },
              body: { tenant_id: b.tenant, name: `canaryb '; --` },
            }),
          ).length === 1,
      );
      for (const word of words) {
        const answers = [
          await trial.rest('memberA', 'POST', '/campaigns', { body: { tenant_id: a.tenant, name: word } }),
          await trial.rpc('stranger', 'create_tenant', { name: 'x', slug: word }),
          await trial.rpc('stranger', 'create_tenant', {
            name: 'x',
            slug: `tz-${Date.now()}`,
            time_zone: word,
          }),
          await trial.rpc('ownerA', 'set_credential', {
            tenant_id: a.tenant,
            provider: word,
            kind: word,
            secret: { [word]: word },
            account: { [word]: word },
          }),
          await trial.rest('ownerA', 'GET', `/campaigns?order=${encodeURIComponent(word)}`),
          await trial.rest('ownerA', 'GET', `/campaigns?select=${encodeURIComponent(word)}`),
          await trial.rest('ownerA', 'GET', `/campaigns?${encodeURIComponent(word)}=eq.1`),
          await trial.rest('ownerA', 'GET', `/completions?select=evidence->${encodeURIComponent(word)}`),
          await trial.rest('ownerA', 'GET', `/${encodeURIComponent(word)}`),
          await trial.rest('ownerA', 'GET', '/campaigns', {
            headers: { 'accept-profile': `public; ${word.replaceAll(/[^ -~]/g, '')}` },
          }),
        ];
        for (const answer of answers) trial.expect(!isFailure(answer), `${word}: ${inWords(answer)}`);
      }
      const [row] = await trial.world.admin`select to_regclass('public.campaigns') is not null as there`;
      trial.expect(row?.there === true, 'the table is gone');
    }),
    attack('68', 'paging: limits, offsets and dates out of range', async (trial) => {
      const { b } = trial.ids;
      await trial.control(
        'a page',
        async () => rowsOf(await trial.rest('ownerB', 'GET', '/campaigns?limit=1&offset=0')).length === 1,
      );
      for (const query of [
        'limit=-1',
        'limit=0',
        'limit=1000000000',
        'limit=null',
        'offset=-1',
        'offset=9223372036854775807',
        'limit=9223372036854775808',
        'limit=1;select 1',
        'limit=1&limit=1000',
        'created_at=gte.infinity',
        'created_at=lt.-infinity',
        'created_at=gt.294277-01-01',
        `created_at=gt.2026-12-31&created_at=lt.2026-01-01`,
      ]) {
        const answer = await trial.rest('ownerA', 'GET', `/campaigns?${query}`);
        trial.nothingOfB(answer, query);
        const ranged = await trial.rest('ownerA', 'GET', '/campaigns', {
          headers: { range: '0-999999999', 'range-unit': 'items' },
        });
        trial.nothingOfB(ranged, 'a range');
      }
      for (const item of ['-1', '9223372036854775807', '9223372036854775808', '1e400', '1.5', 'NaN']) {
        const answer = await trial.rpc('ownerA', 'why', { tenant_id: trial.ids.a.tenant, item_id: item });
        trial.expect(!isFailure(answer), `item ${item}: ${inWords(answer)}`);
      }
      for (const time of ['infinity', '-infinity', '294277-01-01', 'now', 'tomorrow']) {
        const answer = await trial.rest('memberA', 'POST', '/campaigns', {
          body: { tenant_id: trial.ids.a.tenant, name: 'x', starts_at: time, ends_at: time },
        });
        trial.refused(answer, `from ${time} until ${time}`);
      }
      trial.expect(b.tenant !== '', 'B is there');
    }),
    attack('69', '“not found” and “not yours” are one answer', async (trial) => {
      const { b, none } = trial.ids;
      const pairs: [string, string, Record<string, unknown>, Record<string, unknown>][] = [
        [
          'ownerA',
          'why',
          { tenant_id: b.tenant, item_id: b.item },
          { tenant_id: none.tenant, item_id: b.item },
        ],
        [
          'ownerA',
          'set_credential',
          {
            tenant_id: b.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: { access_token: 'x' },
            account: {},
          },
          {
            tenant_id: none.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: { access_token: 'x' },
            account: {},
          },
        ],
        [
          'ownerA',
          'remove_credential',
          { tenant_id: b.tenant, provider: 'meta' },
          { tenant_id: none.tenant, provider: 'meta' },
        ],
        [
          'participantA',
          'claim_task',
          { tenant_id: b.tenant, task_id: b.task },
          { tenant_id: b.tenant, task_id: none.task },
        ],
        [
          'participantA',
          'join_campaign',
          { tenant_id: b.tenant, campaign_id: b.draft, display_name: 'x' },
          { tenant_id: b.tenant, campaign_id: none.campaign, display_name: 'x' },
        ],
      ];
      for (const [who, name, real, unreal] of pairs) {
        const words = (args: Record<string, unknown>) =>
          Object.values(args).filter(
            (value): value is string => typeof value === 'string' && value.length > 9,
          );
        trial.alike(
          name,
          { answer: await trial.rpc(who, name, real), sent: words(real) },
          { answer: await trial.rpc(who, name, unreal), sent: words(unreal) },
        );
      }
      await trial.control('the rightful one is answered', async () =>
        isDone(await trial.rpc('viewerB', 'why', { tenant_id: b.tenant, item_id: b.item })),
      );
    }),
    attack('70', 'a dedupe key of B is free for A', async (trial) => {
      const { a, b } = trial.ids;
      const profile = { 'content-profile': 'jobs' };
      const enqueue = (tenant: string) =>
        trial.rpc(
          'server',
          'enqueue',
          { job: 'send-notifications', tenant_id: tenant, run_at: '2099-01-01', dedupe_key: 'one-key' },
          { headers: profile },
        );
      await trial.control(
        'B uses the key once, not twice',
        async () => (await enqueue(b.tenant)).json === 1 && (await enqueue(b.tenant)).json === 0,
      );
      const own = await enqueue(a.tenant);
      trial.expect(own.json === 1, `A cannot use it: ${inWords(own)}`);
    }),
  ],
};
