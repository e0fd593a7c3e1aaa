/** I. Campaigns, messages and what comes from outside: reviews, linking, strategies, consent, templates, rules, gateways, webhooks. */
import { createHmac } from 'node:crypto';
import { attack, functionAttack, type Group, inWords, isDone, rowsOf, type Trial } from './harness.ts';
import type { TenantIds } from './scene.ts';
import { pathOf } from './tables.ts';

const user = (trial: Trial, name: string): string => trial.world.actor(name).userId;

/** A claim that waits for a person. */
const toReview = (trial: Trial, ids: TenantIds) => trial.world.admin`
  with undone as (delete from public.spin_ledger where tenant_id = ${ids.tenant} and completion_id = ${ids.review})
  update public.completions set status = 'manual_review', verified_at = null, method = null
  where tenant_id = ${ids.tenant} and id = ${ids.review}`;

/** What a platform would tell: somebody wrote something. */
const told = (trial: Trial, tenant: string, signal: Record<string, string>) => trial.world.admin`
  select private.record_signals(${tenant}, ${trial.world.admin.json([
    { surface: 'instagram', kind: 'message', happened_at: new Date().toISOString(), ...signal },
  ])})`;

async function accountsOf(trial: Trial, tenant: string): Promise<Record<string, string>> {
  const rows = await trial.world.admin<{ external_id: string; participant_id: string }[]>`
    select external_id, participant_id from public.linked_accounts where tenant_id = ${tenant} and platform = 'instagram'`;
  return Object.fromEntries(rows.map((row) => [row.external_id, row.participant_id]));
}

const base64url = (bytes: Buffer | string): string => Buffer.from(bytes).toString('base64url');
const signedRequest = (secret: string, payload: unknown): string => {
  const body = base64url(JSON.stringify(payload));
  return `${base64url(createHmac('sha256', secret).update(body).digest())}.${body}`;
};

export const campaigns: Group = {
  letter: 'I',
  title: 'Campaigns, messages and what comes from outside',
  attacks: [
    attack(
      '117',
      'reviews: a viewer, a participant, another tenant’s member, under another tenant’s id, for oneself',
      async (trial) => {
        const { a, b, none } = trial.ids;
        await trial.control('B has a claim that waits', async () => {
          await toReview(trial, b);
          return rowsOf(await trial.rest('viewerB', 'GET', '/reviews?select=completion_id')).length > 0;
        });
        for (const call of ['approve_completion', 'reject_completion'] as const) {
          const decide = (who: string, tenant_id: string, completion_id: string) =>
            trial.rpc(who, call, {
              tenant_id,
              completion_id,
              ...(call === 'reject_completion' ? { reason: 'no' } : { note: 'yes' }),
            });
          for (const who of [
            'viewerB',
            'participantB',
            'otherParticipantB',
            'demoted',
            'removed',
            'memberA',
          ]) {
            const answer = await decide(who, b.tenant, b.review);
            trial.expect(answer.status === 403, `${who} ${call}: ${inWords(answer)}`);
          }
          const real = await decide('memberA', a.tenant, b.review);
          const unreal = await decide('memberA', a.tenant, none.review);
          trial.refused(real, `B’s claim as one of A, ${call}`);
          trial.alike(call, { answer: real, sent: [b.review] }, { answer: unreal, sent: [none.review] });
        }
        const { admin } = trial.world;
        try {
          await trial.control('the participant becomes a member', async () => {
            await admin`
              insert into public.memberships (tenant_id, user_id, role) values (${b.tenant}, ${user(trial, 'participantB')}, 'admin')`;
            return (
              rowsOf(await trial.rest('participantB', 'GET', '/reviews?select=completion_id')).length > 0
            );
          });
          const own = { tenant_id: b.tenant, completion_id: b.review };
          trial.refused(await trial.rpc('participantB', 'approve_completion', own), 'one’s own claim');
          trial.refused(
            await trial.rpc('participantB', 'reject_completion', { ...own, reason: 'x' }),
            'one’s own claim, rejected',
          );
          trial.refused(
            await trial.rpc('participantB', 'confirm_sign_up', { tenant_id: b.tenant, code: b.signUpCode }),
            'one’s own sign-up',
          );
        } finally {
          await admin`delete from public.memberships where tenant_id = ${b.tenant} and user_id = ${user(trial, 'participantB')}`;
          await trial.world.takeBaseline();
        }
        for (const who of ['viewerB', 'memberA', 'participantB'])
          for (const code of [b.signUpCode, none.signUpCode])
            trial.refused(
              await trial.rpc(who, 'confirm_sign_up', { tenant_id: b.tenant, code }),
              `${who} confirms a sign-up`,
            );
        const sold = await trial.rpc('memberA', 'confirm_sign_up', {
          tenant_id: a.tenant,
          code: b.signUpCode,
        });
        trial.refused(sold, 'B’s code as one of A');
        await trial.control('a member of B decides, once', async () => {
          const args = { tenant_id: b.tenant, completion_id: b.review };
          const answers = await Promise.all(
            Array.from({ length: 6 }, () => trial.rpc('memberB', 'approve_completion', args)),
          );
          const [row] = await admin<{ spins: number }[]>`
            select coalesce(sum(spins), 0)::int as spins from public.spin_ledger where completion_id = ${b.review}`;
          await admin`delete from public.notification_outbox where completion_id = ${b.review}`;
          await toReview(trial, b);
          return answers.filter(isDone).length === 1 && row?.spins === 1;
        });
      },
    ),
    attack(
      '118',
      'linking: another tenant’s code, one used twice, one of another platform, an account that somebody has',
      async (trial) => {
        const { a, b } = trial.ids;
        const start = async (who: string, tenant_id: string) =>
          (
            (await trial.rpc(who, 'start_linking', { tenant_id, platform: 'instagram' })).json as {
              code: string;
            }
          ).code;
        const own = await start('participantA', a.tenant);
        for (const who of ['participantA', 'stranger', 'ownerA', 'ownerB', 'anon'])
          trial.refused(
            await trial.rpc(who, 'start_linking', { tenant_id: b.tenant, platform: 'instagram' }),
            `${who} gets a code of B`,
          );
        // A code of A that is said to B links nobody there; nor does one that came from another platform.
        const before = await accountsOf(trial, b.tenant);
        await trial.control('A’s code is said to B', async () => {
          await told(trial, b.tenant, { external_id: 'mid.118-1', author_id: '118001', text: own });
          return JSON.stringify(await accountsOf(trial, b.tenant)) === JSON.stringify(before);
        });
        let code = '';
        await trial.control('an account that somebody has stays with that person', async () => {
          code = await start('otherParticipantB', b.tenant);
          await told(trial, b.tenant, { external_id: 'mid.118-2', author_id: '77700073', text: code });
          return (await accountsOf(trial, b.tenant))['77700073'] === b.participant;
        });
        await trial.control('a code links the platform that it was given for', async () => {
          code = await start('otherParticipantB', b.tenant);
          await told(trial, b.tenant, {
            surface: 'facebook',
            external_id: 'mid.118-3',
            author_id: '118003',
            text: code,
          });
          const [row] = await trial.world.admin<{ n: number }[]>`
            select count(*)::int as n from public.linked_accounts where tenant_id = ${b.tenant} and external_id = '118003'`;
          return row?.n === 0;
        });
        await trial.control('the rightful one is linked, by the first message only', async () => {
          await told(trial, b.tenant, { external_id: 'mid.118-4', author_id: '118004', text: code });
          await told(trial, b.tenant, { external_id: 'mid.118-5', author_id: '118005', text: code });
          const accounts = await accountsOf(trial, b.tenant);
          return accounts['118004'] === b.otherParticipant && accounts['118005'] === undefined;
        });
        await trial.control('after its hour a code links nobody', async () => {
          code = await start('otherParticipantB', b.tenant);
          await trial.world
            .admin`update private.link_codes set expires_at = now() - interval '1 second' where tenant_id = ${b.tenant} and code = ${code}`;
          await told(trial, b.tenant, { external_id: 'mid.118-6', author_id: '118006', text: code });
          return (await accountsOf(trial, b.tenant))['118006'] === undefined;
        });
        for (const who of ['participantA', 'ownerA', 'participantB', 'ownerB']) {
          for (const [method, query] of [
            ['POST', ''],
            ['PATCH', `?tenant_id=eq.${b.tenant}`],
            ['DELETE', `?tenant_id=eq.${b.tenant}`],
          ] as const) {
            const body = {
              tenant_id: b.tenant,
              participant_id: b.participant,
              platform: 'facebook',
              external_id: '1',
            };
            trial.refused(
              await trial.rest(who, method, `/linked_accounts${query}`, method === 'DELETE' ? {} : { body }),
              `${who} ${method} linked_accounts`,
            );
          }
        }
      },
    ),
    attack(
      '119',
      'record_comments: for another tenant, for another post, after the lease, by people',
      async (trial) => {
        const { a, b } = trial.ids;
        const { admin } = trial.world;
        const record = (who: string, tenant_id: string, post_id: string) =>
          trial.rpc(
            who,
            'record_comments',
            {
              batch_id: a.batch,
              tenant_id,
              post: {
                surface: 'instagram',
                post_id,
                comments: [
                  { id: '119', at: new Date().toISOString(), author_id: '119', username: 'x', codes: [] },
                ],
                newest: { id: '119', at: new Date().toISOString() },
                complete: true,
              },
            },
            { headers: { 'content-profile': 'jobs' } },
          );
        for (const [what, tenant, post] of [
          ['B and its post', b.tenant, '77700071'],
          ['B and A’s post', b.tenant, '12300011'],
          ['A and B’s post', a.tenant, '77700071'],
        ] as const) {
          const answer = await record('server', tenant, post);
          trial.expect(answer.json === 0, `a batch of A tells of ${what}: ${inWords(answer)}`);
        }
        for (const who of ['ownerA', 'ownerB', 'anon'])
          trial.refused(await record(who, b.tenant, '77700071'), `${who} tells of comments`);
        await trial.control('the batch tells of its own post', async () => {
          const answer = await record('server', a.tenant, '12300011');
          return answer.json === 1;
        });
        await admin`update jobs.batches set lease_until = now() - interval '1 second' where batch_id = ${a.batch}`;
        await admin`delete from private.signals where tenant_id = ${a.tenant} and external_id = '119'`;
        const late = await record('server', a.tenant, '12300011');
        trial.expect(late.json === 0, `a lease that is over: ${inWords(late)}`);
        await admin`update jobs.batches set lease_until = now() + interval '1 day' where batch_id = ${a.batch}`;
      },
    ),
    attack(
      '120',
      'participants learn nothing of strategies, rates, cohorts, decisions and other people’s claims',
      async (trial) => {
        const { b } = trial.ids;
        const hidden = [
          'campaign_strategies',
          'cohorts',
          'completion_decisions',
          'reviews',
          'verification_summary',
          'acknowledgements',
          'follower_counts',
          'message_templates',
          'reminder_settings',
          'audit_log',
        ];
        for (const table of hidden) {
          // The journal is the owner's.
          const by = table === 'audit_log' ? 'ownerB' : 'viewerB';
          await trial.control(
            `${by} reads ${table}`,
            async () => rowsOf(await trial.rest(by, 'GET', `/${table}?tenant_id=eq.${b.tenant}`)).length > 0,
          );
          for (const who of ['participantB', 'otherParticipantB', 'participantA', 'stranger']) {
            const answer = await trial.rest(who, 'GET', `/${table}?tenant_id=eq.${b.tenant}`);
            trial.expect(rowsOf(answer).length === 0, `${who} reads ${table}: ${inWords(answer)}`);
          }
        }
        const campaigns = await trial.rest('participantB', 'GET', `/campaigns?id=eq.${b.campaign}`);
        trial.expect(rowsOf(campaigns).length === 1, `participants see the campaign: ${inWords(campaigns)}`);
        trial.expect(
          !/strateg|acceptance|statistical/.test(campaigns.text),
          `a campaign tells its strategy: ${inWords(campaigns)}`,
        );
        for (const path of [
          '/campaigns?select=name,campaign_strategies(*)',
          '/campaigns?select=name,campaign_strategies!inner(acceptance_rate)',
          '/participants?select=display_name,cohorts(strategy,acceptance_rate)',
          '/campaigns?campaign_strategies.acceptance_rate=gt.0.5&select=name,campaign_strategies!inner()',
        ]) {
          const answer = await trial.rest('participantB', 'GET', path);
          trial.expect(
            !/0\.85|"strategy":|acceptance_rate":/.test(answer.text),
            `${path}: ${inWords(answer)}`,
          );
        }
        // A claim that was drawn: what the participant reads of it does not tell with what chance.
        await trial.control('a claim is drawn, and members read with what chance', async () => {
          const { admin } = trial.world;
          await admin`update public.campaign_strategies set strategy = 'statistical', acceptance_rate = 0.731 where tenant_id = ${b.tenant} and campaign_id = ${b.campaign}`;
          const [task] = await admin<{ id: string }[]>`
            insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id) values (${b.tenant}, ${b.campaign}, 'instagram_like', 'canaryb like', '77700071') returning id`;
          const claim = await trial.rpc('participantB', 'claim_task', {
            tenant_id: b.tenant,
            task_id: task?.id,
          });
          const { completion_id: id } = claim.json as { completion_id: string };
          await admin`update public.completions set settle_at = now() where tenant_id = ${b.tenant} and id = ${id}`;
          await admin`select private.settle_claims(${b.tenant}, null, null)`;
          const own = await trial.rest('participantB', 'GET', `/completions?id=eq.${id}`);
          trial.expect(/"statistical"/.test(own.text), `the claim was not drawn: ${inWords(own)}`);
          trial.expect(
            !/731|acceptance|"draw"/.test(own.text.replaceAll(/\d{4}-\d\d-\d\dT[^"]*|[0-9a-f-]{36}/g, '')),
            `the claim tells the chance: ${own.text}`,
          );
          await admin`update public.campaign_strategies set strategy = 'api', acceptance_rate = 0.85 where tenant_id = ${b.tenant} and campaign_id = ${b.campaign}`;
          const record = await trial.rest('viewerB', 'GET', `/completion_decisions?completion_id=eq.${id}`);
          return /0\.731/.test(record.text);
        });
        const [joined] = (
          await trial.sql('participantB', 'select count(*)::int as n from public.campaign_strategies')
        ).rows;
        trial.expect(joined?.n === 0, `participants count ${joined?.n} strategies`);
      },
    ),
    attack(
      '121',
      'consent: nobody agrees or objects for somebody else, nor writes the record of it',
      async (trial) => {
        const { a, b } = trial.ids;
        for (const call of ['opt_in', 'opt_out'] as const) {
          for (const who of ['participantA', 'ownerA', 'ownerB', 'memberB', 'stranger', 'anon']) {
            trial.refused(
              await trial.rpc(who, call, { tenant_id: b.tenant, channel: 'whatsapp' }),
              `${who} ${call} in B`,
            );
          }
          for (const extra of [
            { participant_id: b.participant },
            { p_participant_id: b.participant },
            { user_id: user(trial, 'participantB') },
          ]) {
            const answer = await trial.rpc('participantA', call, {
              tenant_id: a.tenant,
              channel: 'whatsapp',
              ...extra,
            });
            trial.refused(answer, `${call} with ${Object.keys(extra)}`);
          }
        }
        const row = {
          tenant_id: b.tenant,
          participant_id: b.participant,
          channel: 'whatsapp',
          granted: false,
        };
        for (const who of ['ownerA', 'participantA', 'ownerB', 'participantB']) {
          trial.refused(await trial.rest(who, 'POST', '/opt_ins', { body: row }), `${who} writes consent`);
          trial.refused(
            await trial.rest(who, 'PATCH', `/opt_ins?tenant_id=eq.${b.tenant}`, { body: { granted: true } }),
            `${who} changes consent`,
          );
          trial.refused(
            await trial.rest(who, 'DELETE', `/opt_ins?tenant_id=eq.${b.tenant}`),
            `${who} deletes consent`,
          );
        }
        // From where somebody agreed is nobody's business, not even the own one's.
        for (const who of ['viewerB', 'ownerB', 'participantB', 'ownerA', 'server', 'anon']) {
          for (const path of ['/opt_ins?select=ip,user_agent', '/opt_in_origins']) {
            trial.refused(await trial.rest(who, 'GET', path), `${who} reads ${path}`);
          }
          const profile = { 'accept-profile': 'private' };
          trial.refused(
            await trial.rest(who, 'GET', '/opt_in_origins', { headers: profile }),
            `${who} reads the private table`,
          );
        }
        await trial.control('a viewer reads whole entries of the ledger', async () => {
          const answer = await trial.rest('viewerB', 'GET', `/opt_ins?tenant_id=eq.${b.tenant}`);
          return rowsOf(answer).length > 0;
        });
        // Not even the business may say that its customer agreed.
        for (const who of ['ownerB', 'memberB', 'otherParticipantB', 'ownerA']) {
          const answer = await trial.rest(who, 'PATCH', pathOf('participants', `id=eq.${b.participant}`), {
            headers: { prefer: 'return=representation' },
            body: { whatsapp_opt_in_at: '2026-01-01T00:00:00Z', phone: '+4915100000001' },
          });
          trial.expect(rowsOf(answer).length === 0, `${who} agrees for B’s participant: ${inWords(answer)}`);
        }
        await trial.control('the person does', async () => {
          const args = { tenant_id: b.tenant, channel: 'whatsapp' };
          const out = await trial.rpc('participantB', 'opt_out', args);
          const again = await trial.rpc('participantB', 'opt_in', args);
          return isDone(out) && isDone(again);
        });
      },
    ),
    attack(
      '122',
      'templates: variables that are none, variables in variables, previews of another tenant’s text',
      async (trial) => {
        const { a, b } = trial.ids;
        const write = (who: string, tenant_id: string, body: string, kind = 'congratulation') =>
          trial.rest(who, 'POST', '/message_templates', {
            headers: { prefer: 'return=minimal' },
            body: { tenant_id, kind, language: 'fr', body },
          });
        for (const body of [
          '{{api_key}}',
          '{{access_token}}',
          '{{constructor}}',
          '{{__proto__}}',
          '{{name.phone}}',
          '{{ name }} {{phone}}',
          '{{app_secret}}',
          '{{tenant_id}}',
          '{{1}}',
        ])
          trial.refused(await write('memberA', a.tenant, body), `a template with ${body}`);
        const made = await write('memberA', a.tenant, 'plain {{name}} {{task}}');
        trial.expect(isDone(made), `A’s own template: ${inWords(made)}`);
        const own = await trial.rpc('viewerA', 'preview_message', {
          tenant_id: a.tenant,
          kind: 'congratulation',
          language: 'fr',
        });
        trial.expect(isDone(own) && /plain/.test(own.text), `A’s own preview: ${inWords(own)}`);
        trial.expect(!/\{\{/.test(own.text), `a variable stays: ${inWords(own)}`);
        await trial.world
          .admin`delete from public.message_templates where tenant_id = ${a.tenant} and language = 'fr'`;
        for (const who of ['ownerA', 'participantA', 'participantB', 'stranger', 'anon'])
          for (const kind of ['alert', 'congratulation'])
            trial.refused(
              await trial.rpc(who, 'preview_message', { tenant_id: b.tenant, kind }),
              `${who} previews B’s ${kind}`,
            );
        // Where A has no text of its own there is the built-in one, never another tenant's.
        await trial.control('B has a text in Italian', async () =>
          isDone(
            await trial.rest('memberB', 'POST', '/message_templates', {
              headers: { prefer: 'return=minimal' },
              body: { tenant_id: b.tenant, kind: 'reminder', language: 'it', body: 'canaryb {{name}}' },
            }),
          ),
        );
        const built = await trial.rpc('viewerA', 'preview_message', {
          tenant_id: a.tenant,
          kind: 'reminder',
          language: 'it',
        });
        trial.expect(isDone(built), `the built-in text: ${inWords(built)}`);
        // A value is text: what a customer is called is no template.
        const rendered = await trial.world.admin<{ text: string }[]>`
          select private.render_message('{{name}} {{task}}', ${trial.world.admin.json({ name: '{{task}} {{link}}', task: '$1 \\1 {{name}}' })}) as text`;
        trial.expect(
          rendered[0]?.text === '{{task}} {{link}} $1 \\1 {{name}}',
          `a value is rendered again: ${rendered[0]?.text}`,
        );
        await trial.control('a viewer of B previews', async () =>
          isDone(await trial.rpc('viewerB', 'preview_message', { tenant_id: b.tenant, kind: 'alert' })),
        );
      },
    ),
    attack(
      '123',
      'rules: acknowledged for another tenant, by a member, in an old version, by a row',
      async (trial) => {
        const { a, b, none } = trial.ids;
        const acknowledge = (who: string, tenant_id: string, more: Record<string, unknown> = {}) =>
          trial.rpc(who, 'acknowledge_rule', { tenant_id, rule: 'promotion_release', version: 1, ...more });
        for (const who of ['ownerA', 'memberB', 'viewerB', 'participantB', 'stranger'])
          trial.refused(await acknowledge(who, b.tenant), `${who} acknowledges for B`);
        for (const version of [0, -1, 2, 99, null])
          trial.refused(await acknowledge('ownerA', a.tenant, { version }), `version ${version}`);
        const real = await acknowledge('ownerA', a.tenant, { campaign_id: b.campaign });
        const unreal = await acknowledge('ownerA', a.tenant, { campaign_id: none.campaign });
        trial.refused(real, 'with B’s campaign');
        trial.alike(
          'a campaign',
          { answer: real, sent: [b.campaign] },
          { answer: unreal, sent: [none.campaign] },
        );
        for (const who of ['ownerA', 'adminB', 'ownerB'])
          for (const tenant_id of [a.tenant, b.tenant])
            trial.refused(
              await trial.rest(who, 'POST', '/acknowledgements', {
                body: { tenant_id, rule: 'promotion_release', version: 1, text: 'x' },
              }),
              `${who} writes an acknowledgement`,
            );
        // Nor does what B has taken note of open anything for A.
        const { admin } = trial.world;
        await admin`delete from public.acknowledgements where tenant_id = ${a.tenant} and rule = 'rewarded_engagement'`;
        const like = () =>
          trial.rest('memberA', 'POST', '/social_tasks', {
            headers: { prefer: 'return=minimal' },
            body: {
              tenant_id: a.tenant,
              campaign_id: a.campaign,
              kind: 'instagram_like',
              title: 'plain',
              post_id: '1',
            },
          });
        const unheard = await like();
        trial.expect(unheard.status === 409, `a like is rewarded unacknowledged: ${inWords(unheard)}`);
        await trial.rpc('ownerA', 'acknowledge_rule', {
          tenant_id: a.tenant,
          rule: 'rewarded_engagement',
          version: 1,
        });
        const heard = await like();
        trial.expect(isDone(heard), `an acknowledged one is not: ${inWords(heard)}`);
        // What A has taken note of opens nothing for B: its own promotion stays shut until somebody of B does.
        await acknowledge('ownerA', a.tenant);
        const promotion = {
          promotion: true,
          official_rules: 'canaryb rules',
          eligibility: 'canaryb people',
          prize_terms: 'canaryb prize',
          release_text: 'canaryb release',
          ends_at: '2099-01-01T00:00:00Z',
        };
        const shut = await trial.rest('memberB', 'PATCH', `/campaigns?id=eq.${b.campaign}`, {
          body: promotion,
        });
        trial.expect(shut.status === 409, `B’s promotion runs unacknowledged: ${inWords(shut)}`);
        await trial.control('an admin of B does', async () => isDone(await acknowledge('adminB', b.tenant)));
        await trial.control('then it runs', async () =>
          isDone(await trial.rest('memberB', 'PATCH', `/campaigns?id=eq.${b.campaign}`, { body: promotion })),
        );
        await trial.control('and is none again', async () =>
          isDone(
            await trial.rest('memberB', 'PATCH', `/campaigns?id=eq.${b.campaign}`, {
              body: { promotion: false, ends_at: null },
            }),
          ),
        );
      },
    ),
    attack(
      '124',
      'credentials with somebody else’s account: no oracle, no route, and no list shows a secret',
      async (trial) => {
        const { a, b } = trial.ids;
        const { admin } = trial.world;
        const set = (page_id: string) =>
          trial.rpc('ownerA', 'set_credential', {
            tenant_id: a.tenant,
            provider: 'meta',
            kind: 'facebook_login',
            secret: {
              access_token: 'topsecret-a-meta',
              app_secret: 'topsecret-a-124-app',
              verify_token: 'topsecret-a-124-word',
            },
            account: { page_id },
          });
        const [theirs, nobodys] = [await set('77700075'), await set('99900075')];
        const plain = (text: string) =>
          text.replace(/"fingerprint":"[^"]*"/, '').replaceAll(/\d{4}-\d\d-\d\dT[^"]*/g, '');
        trial.expect(
          theirs.status === nobodys.status &&
            plain(theirs.text).replaceAll('77700075', '') === plain(nobodys.text).replaceAll('99900075', ''),
          `an oracle: ${inWords(theirs)} or ${inWords(nobodys)}`,
        );
        await set('77700075');
        // Whose body it is is said by the address and the secret, never by the account in it.
        const [secrets] = await admin<
          { a: { app_secrets: string[] }; b: { app_secrets: string[] } | null }[]
        >`
          select jobs.webhook_secrets(${a.slug}, 'meta') as a, jobs.webhook_secrets(${b.slug}, 'meta') as b`;
        trial.expect(
          JSON.stringify(secrets?.a.app_secrets) === '["topsecret-a-124-app"]',
          'A’s address has another secret',
        );
        trial.expect(!JSON.stringify(secrets?.b ?? '').includes('-a-124'), 'A’s secret opens B’s address');
        for (const [who, ids] of [
          ['ownerA', a],
          ['adminB', b],
        ] as const) {
          const answer = await trial.rpc(
            who,
            'list_credentials',
            { tenant_id: ids.tenant },
            { knows: ['77700075'] },
          );
          trial.expect(rowsOf(answer).length > 0, `${who} lists: ${inWords(answer)}`);
          trial.expect(!/topsecret|secret_id|"secret"/.test(answer.text), `${who} is shown a secret`);
        }
        for (const who of ['ownerA', 'memberB', 'viewerB', 'participantB', 'stranger']) {
          for (const [call, args] of [
            ['list_credentials', {}],
            ['recheck_credential', { provider: 'meta' }],
            ['remove_credential', { provider: 'meta' }],
          ] as const)
            trial.refused(
              await trial.rpc(who, call, { tenant_id: b.tenant, ...args }),
              `${who} ${call} of B`,
            );
        }
        await trial.control('an admin of B lists them', async () =>
          isDone(await trial.rpc('adminB', 'list_credentials', { tenant_id: b.tenant })),
        );
      },
    ),
    attack(
      '125',
      'gateways: placeholders in the host, the key in the address, headers that split or steer',
      async (trial) => {
        const { a, b } = trial.ids;
        const good = {
          method: 'POST',
          url: 'https://gateway.example.com/send',
          body: { number: '{{number}}', message: '{{message}}' },
          headers: { apikey: '{{api_key}}' },
          success: { path: 'status', equals: true },
        };
        const set = (who: string, tenant_id: string, account: unknown) =>
          trial.rpc(who, 'set_credential', {
            tenant_id,
            provider: 'whatsapp',
            kind: 'gateway',
            secret: { api_key: 'topsecret-125' },
            account,
          });
        const rule = { rule: 'unofficial_gateway', version: 1 };
        await trial.rpc('ownerA', 'acknowledge_rule', { tenant_id: a.tenant, ...rule });
        const bad: Record<string, unknown>[] = [
          { url: 'https://{{number}}.example.com/send' },
          { url: 'https://{{message}}/send' },
          { url: 'https://gateway.example.com:{{number}}/send' },
          { url: 'https://{{api_key}}@gateway.example.com/send' },
          { url: 'https://gateway.example.com/send?key={{api_key}}' },
          { url: 'https://gateway.example.com/send?key=topsecret-125' },
          { url: 'https://gateway.example.com/{{secret}}' },
          { url: 'http://gateway.example.com/send' },
          { url: 'https://user:pass@gateway.example.com/' },
          { url: 'https://gateway.example.com\\@evil.example/' },
          { url: 'https://gateway.example.com/\r\nx: y' },
          { headers: { 'x-a': 'b\r\nx-injected: 1' } },
          { headers: { 'x-a\r\nx-b': 'c' } },
          { headers: { host: 'internal.example' } },
          { headers: { 'content-length': '0' } },
          { headers: { 'transfer-encoding': 'chunked' } },
          { headers: { connection: 'upgrade' } },
          { headers: { 'x-a': '{{access_token}}' } },
          { body: { a: '{{cron_secret}}' } },
          { method: 'CONNECT' },
          { method: 'DELETE' },
        ];
        for (const change of bad)
          trial.refused(
            await set('ownerA', a.tenant, { ...good, ...change }),
            `a gateway with ${JSON.stringify(change)}`,
          );
        for (const who of ['ownerA', 'memberB', 'participantB'])
          trial.refused(await set(who, b.tenant, good), `${who} sets B’s gateway`);
        await trial.control('a plain one is taken, once the rule is acknowledged', async () => {
          await trial.rpc('adminB', 'acknowledge_rule', { tenant_id: b.tenant, ...rule });
          return isDone(await set('adminB', b.tenant, good));
        });
      },
    ),
    functionAttack(
      '126',
      'webhooks: unknown tenants look like known ones; too large, malformed, other methods, other paths',
      async (trial) => {
        const { a, b } = trial.ids;
        const url = `${trial.world.server.functionsUrl}/webhooks`;
        const { admin } = trial.world;
        const secret = 'topsecret-a-126-app';
        await admin`
          select public.set_credential(${a.tenant}, 'meta', 'facebook_login',
            ${admin.json({ access_token: 'topsecret-a-meta', app_secret: secret, verify_token: 'topsecret-a-126-word' })}, '{"page_id": "12300015"}')`;
        const sign = (body: string) => ({
          'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
        });
        const events = async () =>
          (await admin<{ n: number }[]>`select count(*)::int as n from private.webhook_events`)[0]?.n;
        const before = await events();
        // Of no address can be said whether its tenant exists, has an app, or is closed.
        const names = [
          b.slug,
          b.tenant,
          trial.ids.closed.slug,
          trial.ids.suspended.slug,
          'nobody-at-all',
          'platform',
        ];
        const asked: [string, string, Record<string, unknown>][] = [
          [
            'POST',
            '',
            { body: '{"object":"page","entry":[]}', headers: { 'x-hub-signature-256': 'sha256=00' } },
          ],
          ['POST', '', { body: '{"object":"page","entry":[]}' }],
          ['GET', '?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x', {}],
          ['GET', '', {}],
          [
            'POST',
            '/data-deletion',
            { body: 'signed_request=a.b', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
          ],
          ['PUT', '', {}],
          ['DELETE', '', {}],
        ];
        for (const [method, path, call] of asked) {
          const words = new Set<string>();
          for (const name of names) {
            const [route, query] = path.split('?');
            const full = `${url}/meta/${name}${route}${query === undefined ? '' : `?${query}`}`;
            const answer = await trial.http('outsider', method, full, { ...call, knows: [b.slug] });
            trial.refused(answer, `${method} ${path} of ${name}`);
            words.add(`${answer.status} ${answer.text}`);
          }
          trial.expect(words.size === 1, `${method} ${path} tells tenants apart: ${[...words].join(' | ')}`);
        }
        for (const path of [
          '',
          '/',
          '/meta',
          '/meta/',
          `/meta/${b.slug}/x`,
          `/meta/${b.slug}/data-deletion/x`,
          '/stripe/x',
          `/meta/..%2f${b.slug}`,
          '/meta/%00',
          `/META/${b.slug}`,
          '/constructor/x',
          '/__proto__/x',
        ]) {
          const answer = await trial.http('outsider', 'POST', `${url}${path}`, {
            body: '{}',
            knows: [b.slug],
          });
          trial.expect(answer.status >= 400 && answer.status < 500, `${path}: ${inWords(answer)}`);
        }
        const own = `${url}/meta/${a.slug}`;
        for (const body of [
          '',
          'null',
          '[]',
          '{}',
          '"x"',
          '{"object":"page"}',
          '{"object":"user","entry":[]}',
          '{"object":"page","entry":{}}',
          '{"object":"page","entry":[]',
          `{"object":"page","entry":${'['.repeat(200_000)}`,
        ]) {
          const answer = await trial.http('outsider', 'POST', own, { headers: sign(body), body });
          trial.expect(
            answer.status >= 400 && answer.status < 500,
            `a signed ${body.slice(0, 30)}: ${inWords(answer)}`,
          );
        }
        trial.expect((await events()) === before, 'a refused body was stored');
        // Odd but whole: stored, split, and nothing breaks.
        const odd =
          '{"object":"page","entry":[null,7,"x",{"id":"12300015","changes":[{"field":"feed","value":{"item":"comment","verb":"add","comment_id":"\\u0000","__proto__":{"x":1}}}]}]}';
        const stored = await trial.http('outsider', 'POST', own, { headers: sign(odd), body: odd });
        trial.expect(stored.status === 200, `odd entries: ${inWords(stored)}`);
        await admin`
          select private.process_webhook(e.tenant_id, e.id) from private.webhook_events e
          where e.tenant_id = ${a.tenant} and e.processed_at is null`;
        await trial.control('a signed body of A is stored once', async () => {
          const body = '{"object":"page","entry":[]}';
          const answers = [];
          for (let n = 0; n < 3; n += 1)
            answers.push(await trial.http('outsider', 'POST', own, { headers: sign(body), body }));
          return answers.every(isDone) && (await events()) === (before ?? 0) + 2;
        });
        // The last one: the connection may be closed before all of it is sent, and with it what is asked next over it.
        const huge = `{"object":"page","entry":["${'x'.repeat(3 * 1024 * 1024)}"]}`;
        const large = await trial
          .http('outsider', 'POST', own, { headers: sign(huge), body: huge })
          .catch(() => undefined);
        trial.expect(
          large === undefined || large.status === 413,
          `3 MiB and more: ${large && inWords(large)}`,
        );
        trial.expect((await events()) === (before ?? 0) + 2, 'a body that is too large was stored');
        await trial.http('outsider', 'GET', url).catch(() => undefined);
      },
    ),
    functionAttack(
      '127',
      'deletion requests: forged, of another app, replayed, for another tenant; codes are not guessed',
      async (trial) => {
        const { a, b } = trial.ids;
        const { admin } = trial.world;
        const url = `${trial.world.server.functionsUrl}/webhooks`;
        const secrets = { a: 'topsecret-a-127-app', b: 'topsecret-b-127-app' };
        for (const key of ['a', 'b'] as const)
          await admin`
            select public.set_credential(${trial.ids[key].tenant}, 'meta', 'facebook_login',
              ${admin.json({ access_token: `topsecret-${key}-meta`, app_secret: secrets[key] })}, '{}')`;
        await admin`
          insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
          values (${b.tenant}, ${b.participant}, 'facebook', '88800078', 'link code') on conflict do nothing`;
        await trial.world.takeBaseline();
        const ask = (slug: string, signed: string) =>
          trial.http('outsider', 'POST', `${url}/meta/${slug}/data-deletion`, {
            headers: { 'content-type': 'application/x-www-form-urlencoded' },
            body: new URLSearchParams({ signed_request: signed }).toString(),
            knows: [b.slug],
          });
        const payload = {
          algorithm: 'HMAC-SHA256',
          user_id: '88800078',
          issued_at: Math.floor(Date.now() / 1000),
        };
        const good = signedRequest(secrets.b, payload);
        const forged: [string, string, string][] = [
          ['A’s signature at B', b.slug, signedRequest(secrets.a, payload)],
          ['B’s signature at A', a.slug, good],
          ['at the platform', 'platform', good],
          ['no signature', b.slug, `.${good.split('.')[1]}`],
          ['no payload', b.slug, `${good.split('.')[0]}.`],
          [
            'another payload',
            b.slug,
            `${good.split('.')[0]}.${base64url(JSON.stringify({ ...payload, user_id: '1' }))}`,
          ],
          ['no algorithm', b.slug, signedRequest('', { ...payload, algorithm: 'none' })],
          ['another algorithm', b.slug, signedRequest(secrets.b, { ...payload, algorithm: 'none' })],
          ['an empty one', b.slug, ''],
        ];
        for (const [what, slug, signed] of forged) {
          const answer = await ask(slug, signed);
          trial.expect(answer.status === 401, `${what}: ${inWords(answer)}`);
        }
        for (const code of ['', 'x', '0'.repeat(32), '%27%20or%201=1', '../meta'])
          trial.refused(await trial.http('outsider', 'GET', `${url}/deletions/${code}`), `the code ${code}`);
        // A may ask its own address to forget the id of B's customer: of B nothing is forgotten.
        const own = await ask(a.slug, signedRequest(secrets.a, payload));
        trial.expect(isDone(own), `A’s own request: ${inWords(own)}`);
        await admin`
          select private.process_deletion(d.tenant_id, d.id) from public.data_deletions d where d.tenant_id = ${a.tenant} and d.subject = '88800078'`;
        await trial.control('B’s own request is noted once, and the person is told', async () => {
          const [first, again] = [await ask(b.slug, good), await ask(b.slug, good)];
          const { confirmation_code: code } = first.json as { confirmation_code: string };
          const page = await trial.http('outsider', 'GET', `${url}/deletions/${code}`);
          trial.expect(
            !page.text.includes(b.slug) && !page.text.includes('88800078'),
            `it says who: ${page.text}`,
          );
          return first.text === again.text && page.status === 200;
        });
        await trial.control('B forgets the person', async () => {
          await admin`
            select private.process_deletion(d.tenant_id, d.id) from public.data_deletions d where d.tenant_id = ${b.tenant} and d.subject = '88800078'`;
          const left = await admin`
            select from public.linked_accounts where tenant_id = ${b.tenant} and external_id = '88800078'`;
          return left.length === 0;
        });
      },
    ),
    functionAttack(
      '128',
      'visit links lead to the task’s own address and nowhere else, and count for the own claim only',
      async (trial) => {
        const { a, b } = trial.ids;
        const { admin } = trial.world;
        const url = `${trial.world.server.functionsUrl}/webhooks/visit`;
        const agent = { 'user-agent': 'Mozilla/5.0 (iPhone) Safari/604.1' };
        const visit = (path: string, headers: Record<string, string> = agent, method = 'GET') =>
          trial.http('outsider', method, `${url}/${path}`, { headers, knows: [b.slug, b.signUpCode] });
        const code = 'OC-ABCD1280';
        await admin`
          with task as (
            insert into public.social_tasks (tenant_id, campaign_id, kind, title, url)
            values (${b.tenant}, ${b.campaign}, 'link_visit', 'canaryb visit', 'https://shop.example/?of={code}') returning id)
          insert into public.completions (tenant_id, task_id, participant_id, code, deadline, route)
          select ${b.tenant}, task.id, ${b.participant}, ${code}, now() + interval '1 day', 'signal' from task`;
        await trial.world.takeBaseline();
        for (const path of [
          `${a.slug}/${code}`,
          `${a.tenant}/${code}`,
          `nobody-at-all/${code}`,
          `platform/${code}`,
          `${b.slug}/OC-00000000`,
          `${b.slug}/${code}x`,
          `${b.slug}/${code}/x`,
          `${b.slug}/https:%2f%2fevil.example`,
          `${b.slug}//evil.example`,
          `${b.slug}/%0d%0alocation:%20https:%2f%2fevil.example`,
        ]) {
          const answer = await visit(path);
          trial.expect(
            answer.status === 404 && answer.headers.location === undefined,
            `${path}: ${answer.status} ${answer.headers.location}`,
          );
        }
        // Programs and other methods are sent on, or refused, and count for nothing.
        for (const [headers, method] of [
          [{ 'user-agent': 'WhatsApp/2.23' }, 'GET'],
          [{ 'user-agent': 'facebookexternalhit/1.1' }, 'GET'],
          [{ ...agent, 'sec-purpose': 'prefetch' }, 'GET'],
          [agent, 'HEAD'],
          [agent, 'POST'],
        ] as const)
          await visit(`${b.slug}/${code}`, headers, method);
        for (const query of [
          '?url=https://evil.example',
          '?redirect=//evil.example',
          '?next=javascript:alert(1)',
        ]) {
          const answer = await visit(`${b.slug}/${code}${query}`, { 'user-agent': 'curl/8' });
          trial.expect(
            answer.headers.location === `https://shop.example/?of=${code}`,
            `${query} leads to ${answer.headers.location}`,
          );
        }
        for (const address of [
          'javascript:alert(1)',
          'http://shop.example/',
          '//evil.example',
          'https://user@evil.example/',
          'https://shop.example\\@evil.example/',
          'https://shop.example/\r\nx: y',
          'data:text/html,x',
        ])
          trial.refused(
            await trial.rest('memberA', 'POST', '/social_tasks', {
              body: {
                tenant_id: a.tenant,
                campaign_id: a.campaign,
                kind: 'link_visit',
                title: 'x',
                url: address,
              },
            }),
            `a task that leads to ${JSON.stringify(address)}`,
          );
        await trial.control('the visitor is sent on, and the visit counts once', async () => {
          const [first, again] = [await visit(`${b.slug}/${code}`), await visit(`${b.slug}/${code}`)];
          const [row] = await admin<{ status: string; spins: number }[]>`
            select c.status, (select sum(s.spins)::int from public.spin_ledger s where s.completion_id = c.id) as spins
            from public.completions c where c.tenant_id = ${b.tenant} and c.code = ${code}`;
          return (
            first.status === 302 &&
            again.status === 302 &&
            first.headers.location === `https://shop.example/?of=${code}` &&
            row?.status === 'verified' &&
            row.spins === 1
          );
        });
      },
    ),
    attack(
      '129',
      'what the functions ask the database: secrets, visits, bodies and due claims are one tenant’s',
      async (trial) => {
        const { a, b, closed } = trial.ids;
        const { admin } = trial.world;
        const ask = async (name: string, args: Record<string, unknown>) =>
          (await trial.rpc('server', name, args, { headers: { 'content-profile': 'jobs' } })).json;
        const secretsOf = async (tenant: string) =>
          JSON.stringify(
            (await admin`select jobs.webhook_secrets(${tenant}, 'whatsapp') as s`)[0]?.s ?? null,
          );
        for (const [key, ids] of [
          ['a', a],
          ['b', b],
        ] as const)
          await admin`
            select public.set_credential(${ids.tenant}, 'whatsapp', 'whatsapp_cloud',
              ${admin.json({ access_token: `topsecret-${key}-whatsapp`, app_secret: `topsecret-${key}-129-app` })},
              ${admin.json({ phone_number_id: key === 'a' ? '1290001' : '1290002' })})`;
        // A link of B is no link of A, whatever it is called there.
        const code = 'OC-ABCD1290';
        await admin`
          with task as (
            insert into public.social_tasks (tenant_id, campaign_id, kind, title, url)
            values (${b.tenant}, ${b.campaign}, 'link_visit', 'canaryb visit', 'https://shop.example/') returning id)
          insert into public.completions (tenant_id, task_id, participant_id, code, deadline, route, settle_at)
          select ${b.tenant}, task.id, ${b.participant}, ${code}, now() + interval '1 day', 'signal', now() - interval '1 second' from task`;
        await trial.world.takeBaseline();
        trial.expect((await secretsOf('nobody-at-all')) === 'null', 'nobody has a secret');
        const own = await secretsOf(a.slug);
        trial.expect(
          own.includes('topsecret-a-129-app') && !own.includes('-b-'),
          'A’s address is opened by another secret',
        );
        for (const tenant of [a.slug, a.tenant, closed.slug, 'platform', 'nobody-at-all']) {
          const url = await ask('record_visit', { tenant, code });
          trial.expect(url === null, `a visit of B’s link under ${tenant} leads to ${url}`);
        }
        // What is due in B is not settled with A’s, nor is a body of B read as one of A.
        await admin`select private.settle_claims(${a.tenant}, null, null)`;
        const [event] = await admin<{ id: string }[]>`
          select id from private.webhook_events where tenant_id = ${b.tenant} limit 1`;
        await admin`select private.process_webhook(${a.tenant}, ${event?.id ?? null})`.catch(() => undefined);
        await told(trial, a.tenant, { external_id: 'mid.129', author_id: '12900073', text: `hello ${code}` });
        const linked = await admin`
          select from public.linked_accounts where tenant_id = ${a.tenant} and external_id = '12900073'`;
        trial.expect(linked.length === 0, 'a code of B links an account in A');
        // The chat that A’s code opens is A’s.
        await admin`update public.credentials set account = account || '{"page_id": "7770005"}' where tenant_id = ${b.tenant} and provider = 'meta'`;
        await admin`update public.credentials set account = account || '{"page_id": "1230005"}' where tenant_id = ${a.tenant} and provider = 'meta'`;
        await trial.world.takeBaseline();
        for (const n of [1, 2]) {
          const started = await trial.rpc('participantA', 'start_linking', {
            tenant_id: a.tenant,
            platform: 'facebook',
          });
          trial.expect(/m\.me\/1230005\?/.test(started.text), `link ${n} opens ${inWords(started)}`);
        }
        // Whose number a body is about is compared with the own one, in both directions.
        const heard = async (ids: TenantIds, number: string) => {
          const [made] = await admin<{ id: string }[]>`
            insert into private.webhook_events (tenant_id, source, body, body_sha256)
            values (${ids.tenant}, 'whatsapp', ${admin.json({
              object: 'whatsapp_business_account',
              entry: [
                {
                  id: '1',
                  changes: [
                    {
                      field: 'messages',
                      value: {
                        metadata: { phone_number_id: number },
                        statuses: [{ id: 'wamid.129', status: 'read', timestamp: '1763632800' }],
                      },
                    },
                  ],
                },
              ],
            })}, md5(random()::text) || md5(random()::text)) returning id`;
          const [row] = await admin<{ counts: { ignored?: Record<string, number> } }[]>`
            select private.process_webhook(${ids.tenant}, ${made?.id ?? null}) as counts`;
          await admin`delete from private.webhook_events where id = ${made?.id ?? null}`;
          await trial.world.takeBaseline();
          return row?.counts.ignored?.['other account'] === 1 ? 'ignored' : 'heard';
        };
        const heardOf = [
          await heard(a, '1290001'),
          await heard(a, '1290002'),
          await heard(b, '1290002'),
          await heard(b, '1290001'),
        ];
        trial.expect(heardOf.join(' ') === 'heard ignored heard ignored', `A, B’s, B, A’s: ${heardOf}`);
        const again = await ask('receive_webhook', {
          tenant_id: closed.tenant,
          source: 'meta',
          body: {},
          sha256: '9'.repeat(64),
        });
        trial.expect(
          (again as { event_id?: unknown } | null)?.event_id === null,
          'a closed tenant’s body is stored',
        );
        await trial.control('a visit of B’s link is one', async () => {
          const url = await ask('record_visit', { tenant: b.slug, code });
          return url === 'https://shop.example/';
        });
        await trial.control('what is due in B is settled with B’s', async () => {
          await admin`update public.completions set status = 'pending', verified_at = null, settle_at = now() where tenant_id = ${b.tenant} and code = ${code}`;
          const [row] = await admin<
            { n: { decided: number } }[]
          >`select private.settle_claims(${b.tenant}, null, null) as n`;
          return (row?.n.decided ?? 0) > 0;
        });
      },
    ),
    attack(
      '130',
      'the same id in two tenants: what A decides about its own row leaves B’s row alone',
      async (trial) => {
        const { a, b } = trial.ids;
        const { admin } = trial.world;
        // Nobody can choose an id over the API, but a restored backup could bring one twice.
        await toReview(trial, b);
        await admin`update public.completions set status = 'needs_user_action' where tenant_id = ${b.tenant} and id = ${b.review}`;
        await admin`update public.completions set settle_at = now() - interval '1 minute', route = 'strategy' where tenant_id = ${b.tenant} and id = ${b.pending}`;
        await admin`
          insert into public.participants (tenant_id, id, display_name) values (${a.tenant}, ${b.participant}, 'plain twin')`;
        await admin`
          insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id)
          select ${a.tenant}, t.id, ${a.campaign}, 'instagram_comment', 'plain twin', '12300011' from unnest(${[b.task, b.openTask]}::uuid[]) t (id)`;
        await admin`
          insert into public.completions (tenant_id, id, task_id, participant_id, status, code, deadline, route, settle_at)
          values (${a.tenant}, ${b.review}, ${b.task}, ${b.participant}, 'manual_review', 'OC-TWIN1301', now() + interval '1 day', 'strategy', null),
            (${a.tenant}, ${b.pending}, ${b.openTask}, ${b.participant}, 'pending', 'OC-TWIN1302', now() + interval '1 day', 'strategy', now() + interval '1 hour')`;
        await trial.world.takeBaseline();
        try {
          const own = await trial.rpc('memberA', 'approve_completion', {
            tenant_id: a.tenant,
            completion_id: b.review,
          });
          trial.expect(isDone(own), `A decides its own: ${inWords(own)}`);
          // A's twin links an account: the claim of B's that waits for one goes on waiting.
          await told(trial, a.tenant, { external_id: 'mid.130', author_id: '130', text: 'OC-TWIN1302' });
          // B's claim is due, its twin not yet.
          const statusOfTwin = async () => {
            await admin`select private.settle_claims(${a.tenant}, null, null)`;
            const [row] = await admin<{ status: string }[]>`
              select status from public.completions where tenant_id = ${a.tenant} and id = ${b.pending}`;
            return row?.status;
          };
          const early = await statusOfTwin();
          trial.expect(early === 'pending', `A's own was settled with B's: ${early}`);
          await admin`update public.completions set settle_at = now() - interval '1 minute' where tenant_id = ${a.tenant} and id = ${b.pending}`;
          const settled = await statusOfTwin();
          trial.expect(settled === 'manual_review', `A's own was not settled: ${settled}`);
          const moved = await trial.rpc('memberA', 'set_cohort', {
            tenant_id: a.tenant,
            participant_ids: [b.participant],
            cohort_id: a.cohort,
          });
          trial.expect(moved.json === 1, `A moves its own: ${inWords(moved)}`);
          await trial.control('B decides its own', async () => {
            await toReview(trial, b);
            const answer = await trial.rpc('memberB', 'approve_completion', {
              tenant_id: b.tenant,
              completion_id: b.review,
            });
            await admin`delete from public.notification_outbox where completion_id = ${b.review}`;
            await toReview(trial, b);
            return isDone(answer);
          });
        } finally {
          await admin`delete from public.participants where tenant_id = ${a.tenant} and id = ${b.participant}`;
          await admin`delete from public.social_tasks where tenant_id = ${a.tenant} and id in (${b.task}, ${b.openTask})`;
          await admin`delete from private.signals where tenant_id = ${a.tenant} and external_id = 'mid.130'`;
          await admin`update public.completions set settle_at = null, route = 'api' where tenant_id = ${b.tenant} and id = ${b.pending}`;
          await trial.world.takeBaseline();
        }
      },
    ),
  ],
};
