/** G. The Edge Functions: their doors, what they say, and whose credentials they take along. */
import { createHmac, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../scripts/local/config.ts';
import { startFunctions } from '../../scripts/local/functions.ts';
import { startGuard } from '../../scripts/local/guard.ts';
import { attack, functionAttack, type Group, inWords, isDone, noAttack, type Trial } from './harness.ts';
import { uuidOf } from './scene.ts';

const jobsUrl = (trial: Trial): string => `${trial.world.server.functionsUrl}/jobs`;
const workerUrl = (trial: Trial): string => `${trial.world.server.functionsUrl}/worker`;

const signed = (secret: string, body: string, at = Math.floor(Date.now() / 1000)): string =>
  `t=${at},v1=${createHmac('sha256', secret).update(`${at}.${body}`).digest('hex')}`;

export const functions: Group = {
  letter: 'G',
  title: 'The Edge Functions',
  attacks: [
    functionAttack(
      '86',
      'the door of functions/jobs: no header, keys of people, wrong secrets, parts of the right one',
      async (trial) => {
        const { publishableKey, secretKey, cronSecret } = trial.world.server;
        const url = jobsUrl(trial);
        await trial.control('the cron secret lists the jobs', async () =>
          isDone(
            await trial.http('outsider', 'GET', url, { headers: { authorization: `Bearer ${cronSecret}` } }),
          ),
        );
        const keys: Record<string, string> = {
          nothing: '',
          'the publishable key': `Bearer ${publishableKey}`,
          'the secret key': `Bearer ${secretKey}`,
          'a session': `Bearer ${trial.world.actor('ownerA').token}`,
          'a wrong secret': `Bearer ${'0'.repeat(cronSecret.length)}`,
          'half of it': `Bearer ${cronSecret.slice(0, 32)}`,
          'all but one letter': `Bearer ${cronSecret.slice(0, -1)}`,
          'one letter more': `Bearer ${cronSecret}0`,
          'in other letters': `Bearer ${cronSecret.toUpperCase()}`,
          'a space in it': `Bearer ${cronSecret.slice(0, 9)} ${cronSecret.slice(9)}`,
          Basic: `Basic ${Buffer.from(`x:${cronSecret}`).toString('base64')}`,
          'the bare secret': cronSecret,
          'two of them': `Bearer wrong, Bearer ${cronSecret}`,
          'the word undefined': 'Bearer undefined',
          'an empty one': 'Bearer ',
          'a list': `Bearer ["${cronSecret}"]`,
        };
        for (const [what, authorization] of Object.entries(keys)) {
          for (const [method, path] of [
            ['GET', ''],
            ['POST', '/verify-social-tasks'],
            ['POST', ''],
          ] as const) {
            const answer = await trial.http('outsider', method, `${url}${path}`, {
              headers: { authorization },
            });
            trial.expect(answer.status === 401, `${what}, ${method} ${path}: ${inWords(answer)}`);
          }
        }
        for (const query of [
          `?secret=${cronSecret}`,
          `?authorization=Bearer ${cronSecret}`,
          `?apikey=${secretKey}`,
        ]) {
          const answer = await trial.http('outsider', 'GET', `${url}${query}`);
          trial.expect(answer.status === 401, `the secret in the query: ${inWords(answer)}`);
        }
        for (const headers of [
          { 'x-cron-secret': cronSecret },
          { apikey: secretKey },
          { cookie: `authorization=Bearer ${cronSecret}` },
          { 'x-supabase-role': 'service_role' },
        ] as Record<string, string>[]) {
          const answer = await trial.http('outsider', 'GET', url, { headers });
          trial.expect(answer.status === 401, `${Object.keys(headers)}: ${inWords(answer)}`);
        }
      },
    ),
    functionAttack(
      '86b',
      'the door of functions/worker: no signature, a wrong one, an old one, one for another body, the same one twice',
      async (trial) => {
        const { cronSecret } = trial.world.server;
        const url = workerUrl(trial);
        const body = JSON.stringify({ ticket: randomUUID() });
        const now = Math.floor(Date.now() / 1000);
        const ring = (header: string, text = body) =>
          trial.http('outsider', 'POST', url, { headers: { 'x-onecron-signature': header }, body: text });
        await trial.control('a doorbell of ours is let in', async () =>
          isDone(await ring(signed(cronSecret, body))),
        );
        const headers: Record<string, string> = {
          nothing: '',
          'the bare secret': cronSecret,
          'another secret': signed('x'.repeat(64), body),
          'an empty secret': signed(' ', body),
          'six minutes old': signed(cronSecret, body, now - 361),
          'from the future': signed(cronSecret, body, now + 361),
          'another body': signed(cronSecret, `${body} `),
          'no time': signed(cronSecret, body).replace(/t=\d+,/, ''),
          'another time': signed(cronSecret, body).replace(/t=\d+/, `t=${now - 1}`),
          'two signatures': `${signed('x', body)},${signed(cronSecret, body)}`,
          'upper case': signed(cronSecret, body).toUpperCase(),
          'a long one': `t=${now},v1=${'0'.repeat(5000)}`,
          v0: signed(cronSecret, body).replace('v1', 'v0'),
        };
        for (const [what, header] of Object.entries(headers)) {
          const answer = await ring(header);
          trial.expect(answer.status === 401, `${what}: ${inWords(answer)}`);
        }
        for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
          const answer = await trial.http('outsider', method, url, {
            headers: { 'x-onecron-signature': signed(cronSecret, '') },
          });
          trial.expect(answer.status === 405 || answer.status === 401, `${method}: ${inWords(answer)}`);
        }
        // A real ticket drains once, however often it comes.
        const [drain] = await trial.world.admin<
          { drain_id: string }[]
        >`insert into jobs.drains (job) values ('verify-social-tasks') returning drain_id`;
        const real = JSON.stringify({ ticket: drain?.drain_id });
        const header = signed(cronSecret, real);
        const answers = await Promise.all(Array.from({ length: 10 }, () => ring(header, real)));
        trial.expect(
          answers.filter((each) => each.status === 202).length === 1,
          `a replayed doorbell drained ${answers.filter((each) => each.status === 202).length} times`,
        );
        for (const strange of [
          '',
          'null',
          '[]',
          '{"ticket":"x"}',
          `{"ticket":"${randomUUID()}","job":"x"}`,
          '{"ticket":null}',
          'x'.repeat(2000),
        ]) {
          const answer = await ring(signed(cronSecret, strange), strange);
          trial.expect(
            answer.status >= 400 && answer.status < 500,
            `a signed ${strange.slice(0, 30)}: ${inWords(answer)}`,
          );
        }
      },
    ),
    functionAttack('87', 'a server without its secrets refuses everything', async (trial) => {
      const { server } = trial.world;
      const full: Record<string, string> = {
        SUPABASE_URL: server.apiUrl,
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: server.secretKey }),
        CRON_SECRET: server.cronSecret,
      };
      const without = (name: string) =>
        Object.fromEntries(Object.entries(full).filter(([each]) => each !== name));
      const variants: [string, Record<string, string>, string][] = [
        ['no cron secret', without('CRON_SECRET'), ''],
        ['an empty cron secret', { ...full, CRON_SECRET: '' }, ''],
        ['the word undefined', { ...full, CRON_SECRET: 'undefined' }, 'undefined'],
        [
          '31 characters',
          { ...full, CRON_SECRET: server.cronSecret.slice(0, 31) },
          server.cronSecret.slice(0, 31),
        ],
        ['one letter again and again', { ...full, CRON_SECRET: 'a'.repeat(64) }, 'a'.repeat(64)],
        ['no secret key', without('SUPABASE_SECRET_KEYS'), server.cronSecret],
        ['secret keys that are no JSON', { ...full, SUPABASE_SECRET_KEYS: 'x' }, server.cronSecret],
      ];
      await trial.control('with its secrets it answers', async () =>
        isDone(
          await trial.http('outsider', 'GET', jobsUrl(trial), {
            headers: { authorization: `Bearer ${server.cronSecret}` },
          }),
        ),
      );
      for (const [what, env, secret] of variants) {
        await withFunctions(trial, env, async (base) => {
          for (const key of [secret, '', 'undefined', server.cronSecret]) {
            const answer = await trial.http('outsider', 'GET', `${base.jobs}/jobs`, {
              headers: { authorization: key === '' ? '' : `Bearer ${key}` },
            });
            trial.expect(
              answer.status === 503,
              `${what}, called with "${key.slice(0, 9)}": ${inWords(answer)}`,
            );
            const body = JSON.stringify({ ticket: randomUUID() });
            const rung = await trial.http('outsider', 'POST', `${base.worker}/worker`, {
              headers: { 'x-onecron-signature': key === '' ? '' : signed(key, body) },
              body,
            });
            trial.expect(rung.status === 503, `${what}, rung with "${key.slice(0, 9)}": ${inWords(rung)}`);
          }
          const health = await trial.http('outsider', 'GET', `${base.jobs}/jobs/health`);
          trial.expect(health.status === 503, `${what}: health says ${inWords(health)}`);
        });
      }
    }),
    functionAttack('88', 'without the service key nothing falls back to a lesser one', async (trial) => {
      const { server } = trial.world;
      const env = {
        SUPABASE_URL: server.apiUrl,
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: server.publishableKey }),
        SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: server.publishableKey }),
        CRON_SECRET: server.cronSecret,
      };
      await trial.control('with the secret key the jobs are listed', async () =>
        isDone(
          await trial.http('outsider', 'GET', jobsUrl(trial), {
            headers: { authorization: `Bearer ${server.cronSecret}` },
          }),
        ),
      );
      await withFunctions(trial, env, async (base) => {
        const answer = await trial.http('outsider', 'GET', `${base.jobs}/jobs`, {
          headers: { authorization: `Bearer ${server.cronSecret}` },
        });
        trial.expect(
          answer.status >= 500 || answer.status === 403,
          `with the publishable key instead: ${inWords(answer)}`,
        );
      });
    }),
    functionAttack('89', 'a tenant in the body, the query or a header of functions/jobs', async (trial) => {
      const { cronSecret } = trial.world.server;
      const { b } = trial.ids;
      const bearer = { authorization: `Bearer ${cronSecret}` };
      await trial.control('the body that is asked for', async () =>
        [200, 404].includes(
          (
            await trial.http('outsider', 'POST', jobsUrl(trial), {
              headers: bearer,
              body: { job: 'no-such-job' },
            })
          ).status,
        ),
      );
      for (const body of [
        { job: 'verify-social-tasks', tenant_id: b.tenant },
        { job: 'verify-social-tasks', tenant: b.slug },
        { job: ['verify-social-tasks'] },
        { job: `verify-social-tasks?tenant_id=eq.${b.tenant}` },
        { job: '../health' },
      ]) {
        const answer = await trial.http('outsider', 'POST', jobsUrl(trial), { headers: bearer, body });
        trial.expect([400, 404].includes(answer.status), `${JSON.stringify(body)}: ${inWords(answer)}`);
      }
      for (const who of ['ownerA', 'ownerB']) {
        const answer = await trial.http(
          who,
          'POST',
          `${jobsUrl(trial)}/verify-social-tasks?tenant_id=${b.tenant}`,
          { headers: { 'x-tenant-id': b.tenant }, body: {} },
        );
        trial.expect(answer.status === 401, `${who} runs a job: ${inWords(answer)}`);
      }
    }),
    noAttack(
      '90',
      'the service client before the check of membership',
      'No function works for a signed-in user: both know one secret only (86, 86b), and what people do they do through the Data API under row-level security.',
    ),
    functionAttack(
      '91',
      'three tenants’ work interleaved: each request carries the token of the post’s own tenant',
      async (trial) => {
        const { meta } = trial.world.server.simulators;
        const tenants = await mixedWork(trial, meta ?? '', 60);
        await trial.control('all of it is verified', async () => {
          const until = Date.now() + 60_000;
          for (;;) {
            const run = await trial.http('outsider', 'POST', `${jobsUrl(trial)}/verify-social-tasks`, {
              headers: { authorization: `Bearer ${trial.world.server.cronSecret}` },
            });
            const [left] = await trial.world.admin<{ n: number }[]>`
            select count(*)::int as n from public.completions where tenant_id = any (${tenants}) and status = 'pending'`;
            if (left?.n === 0) return true;
            if (!isDone(run) || Date.now() > until) return false;
          }
        });
        const log = await trial.http('outsider', 'GET', `${meta}/_log?limit=100000`);
        const { entries } = log.json as {
          entries: { tenant: string | null; about: { target_tenant?: string | null } }[];
        };
        const ours = entries.filter((each) => each.about.target_tenant?.startsWith('mixed-'));
        trial.expect(ours.length >= 180, `only ${ours.length} requests were seen`);
        const mixed = ours.filter((each) => each.tenant !== each.about.target_tenant);
        trial.expect(
          mixed.length === 0,
          `${mixed.length} requests for one tenant carried another tenant’s token`,
        );
        const [wrong] = await trial.world.admin<{ n: number }[]>`
        select count(*)::int as n from public.completions where tenant_id = any (${tenants}) and (status <> 'verified' or credential_source is distinct from 'tenant')`;
        trial.expect(
          wrong?.n === 0,
          `${wrong?.n} completions were not verified by the tenant's own credential`,
        );
      },
    ),
    attack('92', 'the secret changes, or the tenant goes, between claim and outcome', async (trial) => {
      const { a } = trial.ids;
      const { admin } = trial.world;
      const tenant = uuidOf('attack 92');
      await admin`delete from public.tenants where id = ${tenant}`;
      await admin`insert into public.tenants (id, slug, name) values (${tenant}, 'attack-92', 'Attack 92')`;
      const set = (token: string) =>
        admin`select public.set_credential(${tenant}, 'whatsapp', 'whatsapp_cloud', ${admin.json({ access_token: token })}, ${admin.json({ phone_number_id: '92' })})`;
      await set('topsecret-92-old');
      const secretOf = async () => {
        const [row] = await admin<
          { token: string | null }[]
        >`select private.credential_for(${tenant}, 'whatsapp', false) -> 'secret' ->> 'access_token' as token`;
        return row?.token ?? undefined;
      };
      await trial.control('the credential is found', async () => (await secretOf()) === 'topsecret-92-old');
      await set('topsecret-92-new');
      trial.expect((await secretOf()) === 'topsecret-92-new', 'the next claim takes the old secret');
      const [batch] = await admin<{ batch_id: string }[]>`
        insert into jobs.batches (job, drain_id, lease_until, loaded) values ('send-notifications', gen_random_uuid(), now() + interval '1 hour', true) returning batch_id`;
      const [item] = await admin<{ item_id: string }[]>`
        with item as (
          insert into jobs.items (tenant_id, job, run_at, attempts, tries) values (${tenant}, 'send-notifications', now(), 1, 1) returning *
        )
        insert into jobs.leases (tenant_id, job, batch_id, open, items)
        select i.tenant_id, i.job, ${batch?.batch_id ?? null}, 1, array[i::jobs.items] from item i
        returning (items[1]).item_id`;
      await admin`delete from public.tenants where id = ${tenant}`;
      const begun = await trial.rpc(
        'server',
        'begin_effects',
        { batch_id: batch?.batch_id, items: [item?.item_id] },
        { headers: { 'content-profile': 'jobs' } },
      );
      trial.expect(
        JSON.stringify(begun.json) === '[]',
        `a message of a deleted tenant may be sent: ${inWords(begun)}`,
      );
      trial.expect((await secretOf()) === undefined, 'the credential of a deleted tenant is found');
      await admin`delete from jobs.leases where batch_id = ${batch?.batch_id ?? null}`;
      await admin`delete from jobs.batches where batch_id = ${batch?.batch_id ?? null}`;
      trial.expect(a.tenant !== tenant, 'another tenant');
    }),
    noAttack(
      '93',
      'Stripe events that are forged, replayed or of another tenant',
      'There is no webhook of Stripe yet: functions/webhooks takes Meta and WhatsApp only, and /stripe is a 404.',
    ),
    functionAttack(
      '94',
      'WhatsApp and Meta webhooks: unsigned, signed by another app, for another tenant’s number',
      async (trial) => {
        const hooks = await openWebhooks(trial);
        const body = hooks.message(hooks.b.number, 'wamid.attack94');
        const before = await hooks.events();
        const forged: [string, string, string | undefined][] = [
          ['no signature', hooks.b.path, undefined],
          ['the signature of A’s app', hooks.b.path, hooks.sign(hooks.a.secret, body)],
          ['a signature with the verify token', hooks.b.path, hooks.sign(hooks.b.token, body)],
          ['a signature of another body', hooks.b.path, hooks.sign(hooks.b.secret, `${body} `)],
          [
            'a signature of the body as it was parsed and written again',
            hooks.b.path,
            hooks.sign(hooks.b.secret, JSON.stringify(JSON.parse(body))),
          ],
          ['B’s signature at A’s address', hooks.a.path, hooks.sign(hooks.b.secret, body)],
          ['B’s signature at nobody’s address', '/whatsapp/nobody-at-all', hooks.sign(hooks.b.secret, body)],
          [
            'B’s signature at the address of the other provider',
            hooks.b.path.replace('whatsapp', 'meta'),
            hooks.sign(hooks.b.secret, body),
          ],
          ['a signature with nothing', '/whatsapp/platform', hooks.sign(' ', body)],
        ];
        const words = new Set<string>();
        for (const [what, path, signature] of forged) {
          const answer = await hooks.post(path, body, signature);
          trial.expect(answer.status === 401, `${what}: ${inWords(answer)}`);
          words.add(answer.text);
        }
        trial.expect(words.size === 1, `refusals differ: ${[...words].join(' | ')}`);
        for (const token of ['', 'wrong', hooks.a.token, `${hooks.b.token} `]) {
          const asked = new URLSearchParams({
            'hub.mode': 'subscribe',
            'hub.challenge': '42',
            'hub.verify_token': token,
          });
          const answer = await trial.http('outsider', 'GET', `${hooks.url}${hooks.b.path}?${asked}`);
          trial.expect(answer.status === 403, `the handshake with "${token}": ${inWords(answer)}`);
        }
        trial.expect((await hooks.events()) === before, 'a forged webhook was stored');
        // A may say what it likes at its own address: of B's number it changes nothing, there or at B's.
        const claimed = await hooks.post(hooks.a.path, body, hooks.sign(hooks.a.secret, body));
        trial.expect(claimed.status === 200, `A's own webhook: ${inWords(claimed)}`);
        const counts = await hooks.work(trial.ids.a.tenant);
        trial.expect(
          JSON.stringify(counts.ignored) === '{"other account":1}' && counts.inbound === undefined,
          `what A said of B's number was taken: ${JSON.stringify(counts)}`,
        );
        await trial.control('B’s own app is heard, once however often it tells', async () => {
          const signature = hooks.sign(hooks.b.secret, body);
          const first = await hooks.post(hooks.b.path, body, signature);
          const again = await hooks.post(hooks.b.path, body, signature);
          const [row] = await trial.world.admin<{ n: number }[]>`
            select count(*)::int as n from private.webhook_events
            where tenant_id = ${trial.ids.b.tenant} and source = 'whatsapp'`;
          return first.status === 200 && again.status === 200 && row?.n === 1;
        });
      },
    ),
    functionAttack('95', 'a webhook body with thousands of entries of many tenants', async (trial) => {
      const hooks = await openWebhooks(trial);
      const entries = Array.from({ length: 2_000 }, (_, index) => ({
        id: '1',
        changes: [
          index % 3 === 0
            ? { field: 'messages', value: [] }
            : {
                field: 'messages',
                value: {
                  metadata: { phone_number_id: index % 3 === 1 ? hooks.a.number : hooks.b.number },
                  statuses: [{ id: `wamid.${index}`, status: 'read', timestamp: '1763632800' }],
                },
              },
        ],
      }));
      const body = JSON.stringify({ object: 'whatsapp_business_account', entry: [...entries, null, 7, {}] });
      const answer = await hooks.post(hooks.a.path, body, hooks.sign(hooks.a.secret, body));
      trial.expect(answer.status === 200, `the body: ${inWords(answer)}`);
      const counts = await hooks.work(trial.ids.a.tenant);
      trial.expect(
        (counts.ignored as Record<string, unknown>)?.['other account'] === 666,
        `entries of B at A's address: ${JSON.stringify(counts)}`,
      );
      await trial.control('A’s own entries are taken', async () => counts.statuses !== undefined);
    }),
    attack('96', 'addresses of a tenant’s making: no credential can name a host', async (trial) => {
      const { a, b } = trial.ids;
      const urls = [
        'http://127.0.0.1:5432',
        'http://169.254.169.254/latest/meta-data',
        'http://[::ffff:127.0.0.1]',
        'https://graph.facebook.com@evil.example',
        'http://2130706433/',
        'file:///etc/passwd',
        'https://localhost/',
        'https://metadata.google.internal/',
        'https://127.0.0.1/',
        'https://gateway.example:5432/',
        'https://xn--hks-5ppa.example/',
      ];
      const acknowledge = (who: string, tenant_id: string) =>
        trial.rpc(who, 'acknowledge_rule', { tenant_id, rule: 'unofficial_gateway', version: 1 });
      await acknowledge('ownerA', a.tenant);
      for (const url of urls) {
        for (const [kind, provider, secret, account] of [
          ['waapi', 'whatsapp', { token: 'topsecret-96' }, { instance_id: url }],
          ['whatsapp_cloud', 'whatsapp', { access_token: 'topsecret-96' }, { phone_number_id: url }],
          ['instagram_login', 'meta', { access_token: 'topsecret-96' }, { ig_user_id: url }],
          [
            'gateway',
            'whatsapp',
            { api_key: 'topsecret-96' },
            {
              method: 'POST',
              url,
              body: { number: '{{number}}', message: '{{message}}' },
              success: { path: 'status', equals: true },
            },
          ],
        ] as const) {
          trial.refused(
            await trial.rpc('ownerA', 'set_credential', {
              tenant_id: a.tenant,
              provider,
              kind,
              secret,
              account,
            }),
            `${kind} with ${url}`,
          );
        }
      }
      for (const post of ['../../me', '1?fields=x', '1#x', '1%2f..', '1/../2', '1 2']) {
        trial.refused(
          await trial.rest('memberA', 'POST', '/social_tasks', {
            body: {
              tenant_id: a.tenant,
              campaign_id: a.campaign,
              kind: 'facebook_comment',
              title: 'x',
              post_id: post,
            },
          }),
          `the post ${post}`,
        );
      }
      await trial.control('an id is taken', async () => {
        await acknowledge('adminB', b.tenant);
        return isDone(
          await trial.rpc('adminB', 'set_credential', {
            tenant_id: b.tenant,
            provider: 'whatsapp',
            kind: 'waapi',
            secret: { token: 'topsecret-b-whatsapp' },
            account: { instance_id: '77700071' },
          }),
        );
      });
    }),
    noAttack(
      '97',
      'redirects of a provider',
      'tests/functions/http.test.ts sends a redirect to a second server that must never hear of the secret; every provider is called through that one place.',
    ),
    functionAttack(
      '98',
      'headers and paths: no line break in a secret, no dot-dot in a function’s path',
      async (trial) => {
        const { a, b } = trial.ids;
        for (const token of ['a\r\nx-injected: 1', 'a\nb', 'a b', 'ä', '\u0000', '']) {
          trial.refused(
            await trial.rpc('ownerA', 'set_credential', {
              tenant_id: a.tenant,
              provider: 'meta',
              kind: 'facebook_login',
              secret: { access_token: token },
            }),
            `the token ${JSON.stringify(token)}`,
          );
        }
        for (const path of [
          '/../worker',
          '/%2e%2e/worker',
          '/health/../x',
          '//health',
          '/a/b/c',
          '/HEALTH',
          `/${'x'.repeat(5000)}`,
        ]) {
          const answer = await trial.http('outsider', 'GET', `${jobsUrl(trial)}${path}`);
          trial.expect(
            answer.status >= 400 && answer.status < 500,
            `${path.slice(0, 30)}: ${inWords(answer)}`,
          );
        }
        await trial.control('a good token is taken', async () =>
          isDone(
            await trial.rpc('adminB', 'set_credential', {
              tenant_id: b.tenant,
              provider: 'meta',
              kind: 'facebook_login',
              secret: { access_token: 'topsecret-b-meta' },
              account: { page_id: '77700075' },
            }),
          ),
        );
      },
    ),
    noAttack(
      '99',
      'answers of a provider that are huge, endless, no JSON or poisoned',
      'tests/functions/http.test.ts (size, time, encoding) and the tests of each provider hold this; tenants cannot choose a provider’s host (96).',
    ),
    functionAttack(
      '100',
      'no origin is let in by the functions, and OPTIONS tells nothing',
      async (trial) => {
        await trial.control('without an origin the health is told', async () =>
          [200, 503].includes((await trial.http('outsider', 'GET', `${jobsUrl(trial)}/health`)).status),
        );
        for (const origin of ['null', 'https://evil.example', 'http://127.0.0.1:3000']) {
          for (const [method, url] of [
            ['OPTIONS', jobsUrl(trial)],
            ['GET', `${jobsUrl(trial)}/health`],
            ['OPTIONS', workerUrl(trial)],
          ] as const) {
            const answer = await trial.http('outsider', method, url, {
              headers: {
                origin,
                'access-control-request-method': 'POST',
                'access-control-request-headers': 'authorization',
              },
            });
            trial.expect(
              answer.headers['access-control-allow-origin'] === undefined &&
                answer.headers['access-control-allow-credentials'] === undefined,
              `${method} from ${origin} is allowed`,
            );
            trial.expect(
              method !== 'OPTIONS' || !isDone(answer) || answer.text === '',
              `OPTIONS answers ${inWords(answer)}`,
            );
          }
        }
        // The Data API serves any origin by design: it takes no cookies, so nothing of a browser's session goes along.
        const cookie = await trial.rest('anon', 'GET', '/campaigns', {
          headers: {
            origin: 'https://evil.example',
            cookie: `sb-access-token=${trial.world.actor('ownerB').token}`,
          },
        });
        trial.nothingOfB(cookie, 'a session from a cookie');
        trial.expect(
          cookie.headers['access-control-allow-credentials'] !== 'true',
          'credentials are allowed across origins',
        );
      },
    ),
    functionAttack(
      '101',
      'errors and health say nothing of stacks, SQL, names of variables, tenants or versions',
      async (trial) => {
        const { apiUrl, cronSecret } = trial.world.server;
        const bearer = { authorization: `Bearer ${cronSecret}` };
        const answers = [
          await trial.http('outsider', 'GET', `${jobsUrl(trial)}/health`),
          await trial.http('outsider', 'POST', jobsUrl(trial), { headers: bearer, body: '{' }),
          await trial.http('outsider', 'POST', `${jobsUrl(trial)}/no-such-job`, { headers: bearer }),
          await trial.http('outsider', 'DELETE', jobsUrl(trial)),
          await trial.http('outsider', 'POST', jobsUrl(trial), { headers: bearer, body: 'x'.repeat(5000) }),
          await trial.http('outsider', 'GET', `${apiUrl}/functions/v1/none`),
          await trial.http('outsider', 'POST', workerUrl(trial), {
            headers: { 'x-onecron-signature': signed(cronSecret, 'x') },
            body: 'x',
          }),
        ];
        for (const answer of answers) {
          trial.expect(
            !/\bat .*\.ts:\d|postgres:|SUPABASE_|select |stack|node_modules|Deno\/|PostgREST\/|\/work\//i.test(
              answer.text,
            ),
            `too much is said: ${inWords(answer)}`,
          );
          trial.expect(
            !/powered|deno|postgres/i.test(
              `${answer.headers.server ?? ''}${answer.headers['x-powered-by'] ?? ''}`,
            ),
            `a header names the software: ${answer.headers.server}`,
          );
          for (const { tenant, slug } of [trial.ids.a, trial.ids.b])
            trial.expect(
              !answer.text.includes(tenant) && !answer.text.includes(slug),
              `a tenant is named: ${inWords(answer)}`,
            );
        }
        await trial.control('the health is told', async () => /"healthy"/.test(answers[0]?.text ?? ''));
        // Not even the jobs' list with the secret names a tenant or a secret.
        const list = await trial.http('outsider', 'GET', jobsUrl(trial), { headers: bearer });
        trial.expect(!list.text.includes(trial.ids.b.tenant), 'the list of jobs names the victim');
      },
    ),
    attack('102', 'rate limits hold under a burst, and no header gets round them', async (trial) => {
      const { admin } = trial.world;
      const { a } = trial.ids;
      const limit = (calls: number) =>
        admin`update private.call_limits set calls = ${calls}, seconds = 60 where name = 'set_credential'`;
      await admin`delete from private.rate_windows`;
      await limit(5);
      try {
        const set = (_: unknown, index: number) =>
          trial.rpc(
            'ownerA',
            'set_credential',
            {
              tenant_id: a.tenant,
              provider: 'stripe',
              kind: 'own_key',
              secret: { api_key: `topsecret-102-${index}` },
            },
            {
              headers: {
                'x-forwarded-for': `10.0.0.${index}`,
                'x-real-ip': `10.0.1.${index}`,
                'cf-connecting-ip': `10.0.2.${index}`,
                'user-agent': `${index}`,
              },
            },
          );
        const answers = await Promise.all(Array.from({ length: 20 }, set));
        trial.expect(
          answers.filter(isDone).length === 5,
          `${answers.filter(isDone).length} of 20 calls at once passed a limit of 5`,
        );
        const late = answers.filter((each) => !isDone(each));
        trial.expect(
          late.every((each) => each.status === 429),
          `refused with ${[...new Set(late.map((each) => each.status))]}`,
        );
        // Another member of the tenant is the same tenant; another tenant is not held up.
        trial.expect(
          (
            await trial.rpc('adminA', 'set_credential', {
              tenant_id: a.tenant,
              provider: 'stripe',
              kind: 'own_key',
              secret: { api_key: 'topsecret-102' },
            })
          ).status === 429,
          'another admin of the tenant passes',
        );
        await trial.control('B is not held up', async () =>
          isDone(
            await trial.rpc('adminB', 'set_credential', {
              tenant_id: trial.ids.b.tenant,
              provider: 'stripe',
              kind: 'own_key',
              secret: { api_key: 'topsecret-102' },
            }),
          ),
        );
      } finally {
        await limit(10_000);
        await admin`delete from private.rate_windows`;
      }
    }),
    functionAttack('102c', 'the list of addresses: nobody gets on it by a header', async (trial) => {
      const { cronSecret } = trial.world.server;
      const { admin } = trial.world;
      const headers = { authorization: `Bearer ${cronSecret}` };
      const list = (addresses: string) =>
        admin`update private.settings set value = ${addresses} where name = 'jobs_ip_allow_list'`;
      await list('203.0.113.9');
      try {
        for (const name of [
          'x-forwarded-for',
          'x-real-ip',
          'cf-connecting-ip',
          'true-client-ip',
          'forwarded',
        ]) {
          const answer = await trial.http('outsider', 'GET', jobsUrl(trial), {
            headers: { ...headers, [name]: name === 'forwarded' ? 'for=203.0.113.9' : '203.0.113.9' },
          });
          trial.expect(answer.status === 403, `${name} opens the door: ${inWords(answer)}`);
        }
        await list('127.0.0.0/8');
        await trial.control('who is on the list enters', async () =>
          isDone(await trial.http('outsider', 'GET', jobsUrl(trial), { headers })),
        );
      } finally {
        await list('');
      }
    }),
    attack('102b', 'every limit limits: the second call of a limit of one is told to wait', async (trial) => {
      const { admin } = trial.world;
      const { a, b } = trial.ids;
      const secret = {
        tenant_id: a.tenant,
        provider: 'stripe',
        kind: 'own_key',
        secret: { api_key: 'topsecret-102b' },
      };
      const samples: Record<string, (n: number) => [who: string, args: Record<string, unknown>]> = {
        create_tenant: (n) => ['stranger', { name: 'Limit', slug: `limit-${n}-${Date.now()}` }],
        invite_member: () => ['adminA', { tenant_id: a.tenant, email: 'x@example.test', role: 'viewer' }],
        accept_invitation: () => ['stranger', { token: 'inv_x' }],
        list_credentials: () => ['ownerA', { tenant_id: a.tenant }],
        recheck_credential: () => ['adminA', { tenant_id: a.tenant, provider: 'meta' }],
        set_credential: () => ['adminA', secret],
        join_campaign: () => [
          'participantA',
          { tenant_id: a.tenant, campaign_id: a.campaign, display_name: 'me' },
        ],
        claim_task: (n) => [
          'participantA',
          { tenant_id: a.tenant, task_id: n === 0 ? a.claimable : a.openTask },
        ],
        opt_in: () => ['participantA', { tenant_id: a.tenant, channel: 'whatsapp' }],
        start_linking: () => ['participantA', { tenant_id: a.tenant, platform: 'instagram' }],
        acknowledge_rule: () => ['adminA', { tenant_id: a.tenant, rule: 'rewarded_engagement', version: 1 }],
        approve_completion: () => ['memberA', { tenant_id: a.tenant, completion_id: a.review }],
        confirm_sign_up: () => ['memberA', { tenant_id: a.tenant, code: a.signUpCode }],
      };
      await admin`delete from public.completions where tenant_id = ${a.tenant} and task_id in (${a.claimable}, ${a.openTask}) and participant_id = ${a.participant}`;
      await admin`update public.completions set status = 'manual_review', verified_at = null, method = null where tenant_id = ${a.tenant} and id = ${a.review}`;
      const limits = await admin<
        { name: string; calls: number; seconds: number }[]
      >`select name, calls, seconds from private.call_limits`;
      try {
        for (const { name } of limits) {
          if (name.startsWith('receive_')) continue;
          const sample = samples[name];
          trial.expect(sample !== undefined, `the limit ${name} is not tried: add a sample to this attack`);
          if (!sample) continue;
          await admin`update private.call_limits set calls = 1, seconds = 60 where name = ${name}`;
          await admin`delete from private.rate_windows`;
          const answers = [];
          for (const n of [0, 1]) {
            const [who, args] = sample(n);
            answers.push(await trial.rpc(who, name, args));
          }
          const [first, second] = answers;
          trial.expect(first?.status !== 429, `the first ${name}: ${first?.status}`);
          trial.expect(
            second?.status === 429,
            `the second ${name} passes a limit of one: ${second && inWords(second)}`,
          );
          trial.expect(
            Number(second?.headers['retry-after']) > 0,
            `${name} does not say when to come back: ${second?.headers['retry-after']}`,
          );
        }
        // Calls that share a limit with another one.
        const sharing: [limit: string, who: string, call: string, args: Record<string, unknown>][] = [
          ['opt_in', 'participantA', 'opt_out', { tenant_id: a.tenant, channel: 'whatsapp' }],
        ];
        for (const [limit, who, call, args] of sharing) {
          await admin`update private.call_limits set calls = 1, seconds = 60 where name = ${limit}`;
          await admin`delete from private.rate_windows`;
          const [first, second] = [await trial.rpc(who, call, args), await trial.rpc(who, call, args)];
          trial.expect(
            first.status !== 429 && second.status === 429,
            `${call}: ${first.status}, ${second.status}`,
          );
        }
        // What functions/webhooks calls says in its answer when to come back, so that the count is not rolled back.
        const received: Record<string, (n: number) => Record<string, unknown>> = {
          receive_webhook: (n) => ({ source: 'meta', body: { n }, sha256: `${n}`.repeat(64) }),
          receive_deletion: (n) => ({ subject: `${n}`, sha256: `${n}`.repeat(64) }),
        };
        for (const { name } of limits.filter((each) => each.name.startsWith('receive_'))) {
          await admin`update private.call_limits set calls = 1, seconds = 60 where name = ${name}`;
          await admin`delete from private.rate_windows`;
          const waits = [];
          for (const n of [0, 1]) {
            const answer = await trial.rpc(
              'server',
              name,
              { tenant_id: a.tenant, ...received[name]?.(n) },
              { headers: { 'content-profile': 'jobs' } },
            );
            waits.push((answer.json as { retry_after_seconds?: number | null })?.retry_after_seconds);
          }
          trial.expect(
            waits[0] === null && Number(waits[1]) > 0,
            `${name} with a limit of one: ${JSON.stringify(waits)}`,
          );
        }
        await admin`delete from private.rate_windows`;
        await trial.control('B is served meanwhile', async () =>
          isDone(await trial.rpc('viewerB', 'why', { tenant_id: b.tenant, item_id: b.item })),
        );
      } finally {
        await admin`delete from private.rate_windows`;
        for (const { name, calls, seconds } of limits)
          await admin`update private.call_limits set calls = ${calls}, seconds = ${seconds} where name = ${name}`;
      }
    }),
  ],
};

/** Runs both functions with another environment. */
async function withFunctions(
  trial: Trial,
  env: Record<string, string>,
  run: (base: { jobs: string; worker: string }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'onecron-attacks-'));
  const guard = startGuard();
  const { host } = new URL(trial.world.server.apiUrl);
  const { environmentNames } = await import('../../functions/_shared/env.ts');
  try {
    const running = await startFunctions({
      functions: readConfig().functions.filter(({ name }) => ['jobs', 'worker'].includes(name)),
      env,
      readable: [...environmentNames],
      net: () => [host],
      watch: false,
      cacheDir: directory,
      guard,
      log: (line) => void trial.world.server.logs.push(line),
    });
    try {
      await run({
        jobs: `http://127.0.0.1:${running.port('jobs')}`,
        worker: `http://127.0.0.1:${running.port('worker')}`,
      });
    } finally {
      await running.stop();
    }
  } finally {
    await guard.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** A and B with a WhatsApp number each, and the secrets that their apps sign with. */
async function openWebhooks(trial: Trial) {
  const { admin, server } = trial.world;
  const url = `${server.functionsUrl}/webhooks`;
  const open = async (key: 'a' | 'b') => {
    const { tenant } = trial.ids[key];
    // Whatever other attacks have left of it.
    const keys = {
      access_token: `topsecret-${key}-whatsapp`,
      app_secret: `topsecret-${key}-app`,
      verify_token: `topsecret-${key}-word`,
    };
    const account = { phone_number_id: key === 'a' ? '12300017' : '88800077' };
    await admin`
      select public.set_credential(${tenant}, 'whatsapp', 'whatsapp_cloud', ${admin.json(keys)}, ${admin.json(account)})`;
    await trial.world.takeBaseline();
    const [known] = await admin<{ slug: string; number: string; app_secret: string; verify_token: string }[]>`
      select t.slug, c.account ->> 'phone_number_id' as number, k.*
      from public.tenants t join public.credentials c on c.tenant_id = t.id and c.provider = 'whatsapp'
      join vault.decrypted_secrets s on s.id = c.secret_id
      cross join lateral jsonb_to_record(s.decrypted_secret::jsonb) as k (app_secret text, verify_token text)
      where t.id = ${tenant}`;
    if (!known?.app_secret) throw new Error(`${key} has no WhatsApp app`);
    const { slug, number, app_secret: secret, verify_token: token } = known;
    return { path: `/whatsapp/${slug}`, number, secret, token };
  };
  return {
    url,
    a: await open('a'),
    b: await open('b'),
    sign: (secret: string, body: string) =>
      `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    /** Written as Meta writes it: slashes and all but ASCII are escaped. */
    message: (number: string, id: string) =>
      JSON.stringify({
        object: 'whatsapp_business_account',
        entry: [
          {
            id: '1',
            changes: [
              {
                field: 'messages',
                value: {
                  metadata: { phone_number_id: number },
                  messages: [{ from: '4915110000094', id, type: 'text', text: { body: 'a/b' } }],
                },
              },
            ],
          },
        ],
      }).replaceAll('/', '\\/'),
    post: (path: string, body: string, signature?: string) =>
      trial.http('outsider', 'POST', `${url}${path}`, {
        headers: signature === undefined ? {} : { 'x-hub-signature-256': signature },
        body,
      }),
    async events(): Promise<number> {
      const [row] = await admin<{ n: number }[]>`select count(*)::int as n from private.webhook_events`;
      return row?.n ?? -1;
    },
    /** Works off the tenant's newest webhook; what was found in it. */
    async work(tenant: string): Promise<Record<string, unknown>> {
      await admin`
        select private.process_webhook(e.tenant_id, e.id) from private.webhook_events e
        where e.tenant_id = ${tenant} and e.processed_at is null`;
      const [row] = await admin<{ counts: Record<string, unknown> }[]>`
        select counts from private.webhook_events where tenant_id = ${tenant} and source = 'whatsapp' order by received_at desc limit 1`;
      return row?.counts ?? {};
    },
  };
}

/** Three tenants with `count` claims each on posts of their own, due now. Returns the tenants. */
async function mixedWork(trial: Trial, meta: string, count: number): Promise<string[]> {
  const { admin } = trial.world;
  const names = ['mixed-x', 'mixed-y', 'mixed-z'];
  const tenants = names.map((name) => uuidOf(name));
  await admin`
    insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, rate_per_minute, target_seconds)
    values ('unlimited', 'Unlimited', 99, 1, 10000, 1000, 0, null, 600) on conflict do nothing`;
  const world: Record<'tokens' | 'accounts' | 'posts' | 'comments', unknown[]> = {
    tokens: [],
    accounts: [],
    posts: [],
    comments: [],
  };
  for (const [index, name] of names.entries()) {
    const tenant = tenants[index] ?? '';
    const account = `55000000000000${index}`;
    const token = `topsecret-${name}`;
    world.tokens.push({ token, tenant: name, kind: 'page', accounts: [account] });
    world.accounts.push({ id: account, kind: 'page', tenant: name, name });
    await admin`insert into public.tenants (id, slug, name, plan_id) values (${tenant}, ${name}, ${name}, 'unlimited')`;
    await admin`
      insert into public.campaigns (tenant_id, id, name, status, starts_at) values (${tenant}, ${uuidOf(`${name} campaign`)}, ${name}, 'active', now() - interval '1 day')`;
    await admin`
      select public.set_credential(${tenant}, 'meta', 'facebook_login', ${admin.json({ access_token: token })}, ${admin.json({ page_id: account })})`;
    const works = Array.from({ length: count }, (_, number) => ({
      task: uuidOf(`${name} task ${number}`),
      person: uuidOf(`${name} person ${number}`),
      completion: uuidOf(`${name} completion ${number}`),
      post: `${account}_${9000 + number}`,
      code: `OC-${name.slice(-1)}${String(number).padStart(6, '0')}`.toUpperCase(),
    }));
    for (const { post, code } of works) {
      world.posts.push({ id: post, account_id: account });
      world.comments.push({
        post_id: post,
        text: `done ${code}`,
        from: { id: `${7000 + index}`, name: 'somebody' },
      });
    }
    const column = (key: 'task' | 'person' | 'completion' | 'post' | 'code') =>
      works.map((each) => each[key]);
    await admin`
      insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id)
      select ${tenant}, t, ${uuidOf(`${name} campaign`)}, 'facebook_comment', 'mixed', p from unnest(${column('task')}::uuid[], ${column('post')}::text[]) u (t, p)`;
    await admin`insert into public.participants (tenant_id, id, display_name) select ${tenant}, p, 'mixed' from unnest(${column('person')}::uuid[]) p`;
    await admin`
      insert into public.completions (tenant_id, id, task_id, participant_id, code, claimed_at, deadline)
      select ${tenant}, c, t, p, k, now() - interval '10 minutes', now() + interval '1 day'
      from unnest(${column('completion')}::uuid[], ${column('task')}::uuid[], ${column('person')}::uuid[], ${column('code')}::text[]) u (c, t, p, k)`;
    await admin`
      select jobs.enqueue_many('verify-social-tasks', array(select ${tenant}::uuid from unnest(${column('completion')}::uuid[])), ${column('completion')}::uuid[], now())`;
  }
  const answer = await trial.http('outsider', 'POST', `${meta}/_world`, { body: world });
  if (!isDone(answer)) throw new Error(`the simulator refused the world: ${inWords(answer)}`);
  return tenants;
}
