// docs/client.md: its blocks are pieces of docs/examples, and the examples work, from the first sign-up to the earned spins.
import { readFile } from 'node:fs/promises';
import { join as joinPath } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, connect, secondsToWait } from '../../docs/examples/client.ts';
import {
  accept,
  acceptInvitation,
  acknowledge,
  believeThem,
  connectInstagram,
  connections,
  invite,
  listTenants,
  newestClaims,
  openTenant,
  promote,
  signIn,
  startCampaign,
  switchTo,
  turnDown,
  waitingClaims,
  writeOnlyInTheDaytime,
} from '../../docs/examples/member-app.ts';
import {
  agreeToMessages,
  claim,
  countSpins,
  join,
  linkedAccounts,
  linkInstagram,
  listTasks,
  noMoreMessages,
  signUp,
  statusOf,
} from '../../docs/examples/participant-app.ts';
import { connect as openDatabase } from '../../scripts/local/database.ts';
import { type Stack, startStack } from '../../scripts/local/stack.ts';

const docs = joinPath(import.meta.dirname, '..', '..', 'docs');
const password = 'correct horse battery';
let stack: Stack;
const app = (): Client => connect(stack.info.api_url, stack.info.publishable_key);

beforeAll(async () => {
  stack = await startStack({
    dataDir: 'temporary',
    seed: false,
    functions: false,
    simulators: false,
    cron: false,
  });
});
afterAll(() => stack?.stop());

test('every block of docs/client.md is a piece of an example', async () => {
  const names = ['client.ts', 'member-app.ts', 'participant-app.ts'];
  const examples = await Promise.all(names.map((name) => readFile(joinPath(docs, 'examples', name), 'utf8')));
  const page = await readFile(joinPath(docs, 'client.md'), 'utf8');
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
  expect(blocks.length).toBeGreaterThan(10);
  for (const block of blocks) {
    expect(
      examples.some((example) => example.includes(block)),
      block,
    ).toBe(true);
  }
});

test('the apps of a tenant’s members and of its participants work', async () => {
  // The owner opens a tenant and a campaign.
  const owner = app();
  await signUp(owner, 'olga@example.com', password);
  expect(await openTenant(owner, 'Olga’s Pizza', 'Olgas Pizza', 'Europe/Berlin')).toHaveProperty('problem');
  const opened = await openTenant(owner, 'Olga’s Pizza', 'olgas-pizza', 'Europe/Berlin');
  const tenantId = opened.tenantId ?? '';
  expect(await openTenant(owner, 'Olga’s Pizza', 'olgas-pizza', 'Europe/Berlin')).toHaveProperty('problem');
  await writeOnlyInTheDaytime(owner, tenantId);
  const { campaign, task } = await startCampaign(owner, tenantId, '17900000000000777');
  expect(campaign).toMatchObject({
    status: 'draft',
    time_zone: 'Europe/Berlin',
    notify_from: '09:00:00',
    notify_until: '20:00:00',
  });
  const stored = await connectInstagram(owner, tenantId, '17841400000000009', 'demo-token-of-olga');
  expect(stored).toHaveProperty('fingerprint');
  expect(JSON.stringify(stored)).not.toContain('demo-token-of-olga');

  // She invites a colleague, who accepts and becomes an admin.
  const token = await invite(owner, tenantId, 'max@example.com');
  const colleague = app();
  await signUp(colleague, 'max@example.com', password);
  await colleague.auth.signOut();
  await signIn(colleague, 'max@example.com', password);
  expect(await acceptInvitation(colleague, token)).toMatchObject({ accepted: { slug: 'olgas-pizza' } });
  expect(await acceptInvitation(colleague, token)).toHaveProperty('problem');
  await promote(owner, tenantId, 'max@example.com');
  expect(await openTenant(colleague, 'Max’s Gym', 'max-gym', 'UTC')).toHaveProperty('tenantId');
  await switchTo(colleague, tenantId);
  expect(await listTenants(colleague)).toMatchObject([
    { slug: 'olgas-pizza', role: 'admin', is_active: true },
    { slug: 'max-gym', role: 'owner', is_active: false },
  ]);

  // A customer takes part.
  const customer = app();
  await signUp(customer, 'carla@example.com', password);
  await join(customer, tenantId, campaign.id);
  expect(await listTasks(customer, tenantId, campaign.id)).toEqual([
    { id: task.id, title: 'Comment on our post', reward_spins: 3 },
  ]);
  const claimed = await claim(customer, tenantId, task.id);
  if (!('completion_id' in claimed)) throw new Error(claimed.problem);
  expect(await claim(customer, tenantId, task.id)).toHaveProperty('problem');
  expect(await statusOf(customer, tenantId, claimed.completion_id)).toBe('pending');
  expect(await newestClaims(colleague, tenantId)).toMatchObject([
    {
      id: claimed.completion_id,
      status: 'pending',
      participants: { display_name: 'Carla' },
      social_tasks: { title: 'Comment on our post' },
    },
  ]);

  // What the worker does when it has found the comment.
  const sql = openDatabase(stack.database.url);
  await sql`select private.apply_verifications(array[
    (${tenantId}, 0, ${claimed.completion_id}, 'done', '{"verdict": "verified"}', null, 'tenant')::jobs.ended])`;
  expect(await statusOf(customer, tenantId, claimed.completion_id)).toBe('verified');
  expect(await countSpins(customer, tenantId)).toBe(3);

  // She links her account: the code comes back from it.
  const linking = await linkInstagram(customer, tenantId);
  if (!('code' in linking)) throw new Error(linking.problem);
  expect(await linkedAccounts(customer, tenantId)).toEqual([]);
  await sql`select private.record_signals(${tenantId}, ${sql.json([
    {
      surface: 'instagram',
      kind: 'message',
      external_id: 'mid.1',
      author_id: '555',
      author_username: 'carla.eats',
      text: linking.code,
      happened_at: new Date().toISOString(),
    },
  ])})`;
  expect(await linkedAccounts(customer, tenantId)).toEqual([
    { platform: 'instagram', username: 'carla.eats' },
  ]);
  expect(await linkInstagram(colleague, tenantId)).toHaveProperty('problem');

  // She agrees to messages, and ends them.
  const agreement = () =>
    sql`select from public.participants where tenant_id = ${tenantId} and whatsapp_opt_in_at is not null`;
  await noMoreMessages(customer, tenantId);
  expect(await agreement()).toHaveLength(0);
  await agreeToMessages(customer, tenantId, 'Olga’s Pizza may write to me on WhatsApp.');
  expect(await agreement()).toHaveLength(1);

  // A like cannot be proven: the rule is acknowledged first, and a person decides, once.
  const likes = (count: number) =>
    owner
      .from('social_tasks')
      .insert(
        Array.from({ length: count }, (_, n) => ({
          tenant_id: tenantId,
          campaign_id: campaign.id,
          kind: 'instagram_like' as const,
          title: `Like our post ${n}`,
          post_id: '17900000000000778',
        })),
      )
      .select('id');
  expect((await likes(3)).error?.code).toBe('PT409');
  expect(await acknowledge(owner, tenantId, 'rewarded_engagement')).toMatch(/./);
  const tasks = (await likes(3)).data ?? [];
  for (const { id } of tasks.slice(0, 2)) await claim(customer, tenantId, id);
  const [one, other] = await waitingClaims(colleague, tenantId);
  expect([one, other]).toMatchObject([{ display_name: 'Carla' }, { display_name: 'Carla' }]);
  expect(await accept(colleague, tenantId, one?.completion_id ?? '')).toEqual({ accepted: true });
  expect(await turnDown(owner, tenantId, one?.completion_id ?? '', 'Seen too late')).toHaveProperty(
    'problem',
  );
  expect(await turnDown(owner, tenantId, other?.completion_id ?? '', 'Not there')).toEqual({
    accepted: false,
  });
  expect(await accept(colleague, tenantId, other?.completion_id ?? '')).toHaveProperty('problem');
  expect(await statusOf(customer, tenantId, other?.completion_id ?? '')).toBe('failed');
  expect(await countSpins(customer, tenantId)).toBe(4);

  // From now on they are believed; who takes part does not see it.
  await believeThem(colleague, tenantId, campaign.id);
  expect((await customer.from('campaign_strategies').select('strategy')).data).toEqual([]);
  const believed = await claim(customer, tenantId, tasks[2]?.id ?? '');
  if (!('completion_id' in believed)) throw new Error(believed.problem);
  expect(await statusOf(customer, tenantId, believed.completion_id)).toBe('pending');
  expect(await connections(owner, tenantId)).toMatchObject([{ provider: 'meta', kind: 'instagram_login' }]);
  await sql`update private.call_limits set calls = 1 where name = 'claim_task'`;
  await sql.end();

  expect(await claim(customer, tenantId, task.id)).toMatchObject({
    problem: expect.stringMatching(/^That was a lot at once\. Try again in \d+ seconds\.$/),
  });
  expect(secondsToWait({ code: 'PT429', details: 'retry after 12 seconds' })).toBe(12);
  expect(secondsToWait({ code: '23505' })).toBeNull();
});
