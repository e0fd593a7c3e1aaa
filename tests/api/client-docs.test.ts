// docs/client.md: its blocks are pieces of docs/examples, and the examples work, from the first sign-up to the earned spins.
import { readFile } from 'node:fs/promises';
import { join as joinPath } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, connect, secondsToWait } from '../../docs/examples/client.ts';
import {
  acceptInvitation,
  connectInstagram,
  invite,
  listTenants,
  newestClaims,
  openTenant,
  promote,
  signIn,
  startCampaign,
  switchTo,
  writeOnlyInTheDaytime,
} from '../../docs/examples/member-app.ts';
import { claim, countSpins, join, listTasks, signUp, statusOf } from '../../docs/examples/participant-app.ts';
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
  await sql`update private.call_limits set calls = 1 where name = 'claim_task'`;
  await sql.end();
  expect(await statusOf(customer, tenantId, claimed.completion_id)).toBe('verified');
  expect(await countSpins(customer, tenantId)).toBe(3);

  expect(await claim(customer, tenantId, task.id)).toMatchObject({
    problem: expect.stringMatching(/^That was a lot at once\. Try again in \d+ seconds\.$/),
  });
  expect(secondsToWait({ code: 'PT429', details: 'retry after 12 seconds' })).toBe(12);
  expect(secondsToWait({ code: '23505' })).toBeNull();
});
