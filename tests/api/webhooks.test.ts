// Webhooks through the whole stack: a provider that signs, the function in Deno, the database, and what a client app sees.
import { createHmac } from 'node:crypto';
import type { SupabaseClient } from '@supabase/supabase-js';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { client, ok, type Person, signUp } from './support.ts';

interface Shop {
  id: string;
  slug: string;
  campaign: string;
  secret: string;
  account: string;
}

let stack: Stack;
let admin: postgres.Sql;
let service: SupabaseClient;
let anna: Person;
let pizza: Shop;
let gym: Shop;
let annasVisit: { completion_id: string; code: string };

async function openShop(owner: Person, slug: string, account: string): Promise<Shop> {
  const tenant = ok(await owner.api.rpc('create_tenant', { name: slug, slug, time_zone: 'Europe/Rome' })) as {
    id: string;
  };
  const campaign = ok(
    await owner.api
      .from('campaigns')
      .insert({ tenant_id: tenant.id, name: `${slug} summer`, status: 'active', time_zone: 'Europe/Rome' })
      .select('id')
      .single(),
  ) as { id: string };
  const secret = `canary-app-secret-of-${slug}`;
  ok(
    await owner.api.rpc('set_credential', {
      tenant_id: tenant.id,
      provider: 'meta',
      kind: 'instagram_login',
      secret: { access_token: `token-${slug}`, app_secret: secret, verify_token: `canary-word-of-${slug}` },
      account: { ig_user_id: account },
    }),
  );
  return { id: tenant.id, slug, campaign: campaign.id, secret, account };
}

async function openTask(owner: Person, shop: Shop, task: Record<string, unknown>): Promise<string> {
  const row = { tenant_id: shop.id, campaign_id: shop.campaign, title: 'A task', reward_spins: 3, ...task };
  return (ok(await owner.api.from('social_tasks').insert(row).select('id').single()) as { id: string }).id;
}

async function claim(person: Person, shop: Shop, task: string) {
  const args = { tenant_id: shop.id, task_id: task };
  return ok(await person.api.rpc('claim_task', args)) as { completion_id: string; code: string };
}

const statusOf = async (completion: string) =>
  ok(await anna.api.from('completions').select('status').eq('id', completion).single()).status;

const address = (path: string) => `${stack.info.functions_url}/webhooks${path}`;
const signed = (secret: string, body: string) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;

function post(path: string, body: string, signature?: string): Promise<Response> {
  return fetch(address(path), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(signature === undefined ? {} : { 'x-hub-signature-256': signature }),
    },
    body,
  });
}

const comment = (account: string, id: string, text: string) =>
  JSON.stringify({
    object: 'instagram',
    entry: [
      {
        id: account,
        time: Math.floor(Date.now() / 1000),
        changes: [
          {
            field: 'comments',
            value: { id, text, from: { id: '555', username: 'anna' }, media: { id: '17900000000000777' } },
          },
        ],
      },
    ],
  }).replaceAll('/', '\\/');

async function events(shop: Shop): Promise<number> {
  const [row] =
    await admin`select count(*)::int as n from private.webhook_events where tenant_id = ${shop.id}`;
  return row?.n as number;
}

async function world(change: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`${stack.info.simulators.meta}/_world`, {
    method: 'POST',
    body: JSON.stringify(change),
  });
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as Record<string, unknown>;
}

beforeAll(async () => {
  stack = await startStack({ dataDir: 'temporary' });
  admin = postgres(stack.adminUrl, { max: 1, onnotice: () => {} });
  service = client(stack, 'secret');
  const [pizzaOwner, gymOwner] = [await signUp(stack, 'hook-pizza'), await signUp(stack, 'hook-gym')];
  anna = await signUp(stack, 'hook-anna');
  pizza = await openShop(pizzaOwner, 'hook-pizza', '17841400000000071');
  gym = await openShop(gymOwner, 'hook-gym', '17841400000000072');
  const joining = { tenant_id: pizza.id, campaign_id: pizza.campaign, display_name: 'Anna' };
  ok(await anna.api.rpc('join_campaign', joining));
  const link = { kind: 'link_visit', url: 'https://pizza.example/menu?who={code}' };
  annasVisit = await claim(anna, pizza, await openTask(pizzaOwner, pizza, link));
  await openTask(pizzaOwner, pizza, { kind: 'instagram_comment', post_id: '17900000000000777' });
}, 180_000);

afterAll(async () => {
  await admin?.end();
  await stack?.stop();
});

describe('webhooks', () => {
  test('a comment on Instagram is pushed, twice and in odd bytes, and verifies the claim once', async () => {
    const tasks = ok(
      await anna.api
        .from('social_tasks')
        .select('id')
        .eq('kind', 'instagram_comment')
        .eq('tenant_id', pizza.id),
    ) as { id: string }[];
    const claimed = await claim(anna, pizza, tasks[0]?.id ?? '');
    await world({
      accounts: [{ id: pizza.account, kind: 'instagram', tenant: pizza.slug, username: 'hook.pizza' }],
      posts: [{ id: '17900000000000777', account_id: pizza.account }],
      webhooks: [
        {
          url: address(`/meta/${pizza.slug}`),
          app_secret: pizza.secret,
          verify_token: `canary-word-of-${pizza.slug}`,
          tenant: pizza.slug,
          duplicates: 2,
        },
      ],
    });
    await world({
      comments: [
        {
          post_id: '17900000000000777',
          text: `Délicieux 🍕 ${claimed.code}`,
          from: { id: '555', username: 'anna' },
        },
      ],
    });
    await expect.poll(() => statusOf(claimed.completion_id), { timeout: 60_000 }).toBe('verified');
    const [row] = await admin`
      select count(*)::int as rows, sum(deliveries)::int as deliveries from private.webhook_events where tenant_id = ${pizza.id}`;
    expect(row).toEqual({ rows: 1, deliveries: 3 });
    const spins = ok(
      await anna.api.from('spin_ledger').select('spins').eq('completion_id', claimed.completion_id),
    );
    expect(spins).toEqual([{ spins: 3 }]);
  }, 90_000);

  test('nothing is stored that the tenant’s own app has not signed, and all refusals are alike', async () => {
    const before = [await events(pizza), await events(gym)];
    const body = comment(pizza.account, '18000000000000099', 'hi');
    const refusals = [
      await post(`/meta/${pizza.slug}`, body),
      await post(`/meta/${pizza.slug}`, body, signed(gym.secret, body)),
      await post(`/meta/${gym.slug}`, body, signed(pizza.secret, body)),
      await post(`/meta/${pizza.slug}`, `${body} `, signed(pizza.secret, body)),
      await post('/meta/nobody-at-all', body, signed(pizza.secret, body)),
      await post(`/whatsapp/${pizza.slug}`, body, signed(pizza.secret, body)),
      await post('/meta/platform', body, signed(pizza.secret, body)),
    ];
    expect(new Set(refusals.map(({ status }) => status))).toEqual(new Set([401]));
    expect(new Set(await Promise.all(refusals.map((response) => response.text()))).size).toBe(1);
    expect([await events(pizza), await events(gym)]).toEqual(before);
    expect((await post(`/meta/${pizza.slug}`, body, signed(pizza.secret, body))).status).toBe(200);
    expect(await events(pizza)).toBe((before[0] ?? 0) + 1);
  });

  test('a tenant that signs a body about another’s account changes nothing there', async () => {
    const body = comment(pizza.account, '18000000000000100', `mine ${annasVisit.code}`);
    expect((await post(`/meta/${gym.slug}`, body, signed(gym.secret, body))).status).toBe(200);
    const counts = async () =>
      (await admin`select counts from private.webhook_events where tenant_id = ${gym.id}`)[0]?.counts;
    await expect.poll(counts, { timeout: 60_000 }).toEqual({ updates: 1, ignored: { 'other account': 1 } });
    const [found] =
      await admin`select count(*)::int as n from private.signals where external_id = '18000000000000100'`;
    expect(found?.n).toBe(0);
  }, 90_000);

  test('a participant who follows the link is sent on, and has the claim verified; a preview has not', async () => {
    const follow = (agent: string, method = 'GET') =>
      fetch(address(`/visit/${pizza.slug}/${annasVisit.code}`), {
        method,
        redirect: 'manual',
        headers: { 'user-agent': agent },
      });
    expect((await follow('WhatsApp/2.24')).status).toBe(302);
    expect((await follow('Mozilla/5.0', 'HEAD')).status).toBe(405);
    expect(await statusOf(annasVisit.completion_id)).toBe('pending');
    const response = await follow('Mozilla/5.0 (iPhone)');
    expect(response.headers.get('location')).toBe(`https://pizza.example/menu?who=${annasVisit.code}`);
    expect(await statusOf(annasVisit.completion_id)).toBe('verified');
    const elsewhere = await fetch(address(`/visit/${gym.slug}/${annasVisit.code}`), { redirect: 'manual' });
    expect(elsewhere.status).toBe(404);
  });

  test('who asks Meta to be forgotten is, and can see it', async () => {
    const encoded = Buffer.from(JSON.stringify({ algorithm: 'HMAC-SHA256', user_id: '555' })).toString(
      'base64url',
    );
    const forget = (secret: string) =>
      fetch(address(`/meta/${pizza.slug}/data-deletion`), {
        method: 'POST',
        body: new URLSearchParams({
          signed_request: `${createHmac('sha256', secret).update(encoded).digest('base64url')}.${encoded}`,
        }),
      });
    expect((await forget(gym.secret)).status).toBe(401);
    const answer = (await (await forget(pizza.secret)).json()) as { url: string; confirmation_code: string };
    expect(answer.url).toContain(answer.confirmation_code);
    const status = async () => await (await fetch(address(`/deletions/${answer.confirmation_code}`))).text();
    await expect.poll(status, { timeout: 60_000 }).toMatch(/^Your data was deleted on/);
    const [left] = await admin`
      select count(*)::int as n from public.completions where tenant_id = ${pizza.id} and evidence @? '$.** ? (@ == "555")'`;
    expect(left?.n).toBe(0);
  }, 90_000);

  test('the functions behind it are no client app’s', async () => {
    const args = { tenant: pizza.slug, provider: 'meta' };
    expect((await anna.api.schema('jobs').rpc('webhook_secrets', args)).error).not.toBeNull();
    expect((await client(stack).schema('jobs').rpc('webhook_secrets', args)).error).not.toBeNull();
    expect(ok(await service.schema('jobs').rpc('webhook_secrets', args))).toMatchObject({
      tenant_id: pizza.id,
    });
  });
});
