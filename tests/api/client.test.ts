// What client apps do and may not do, through supabase-js as real users. Every "no" has a twin that shows the rightful caller.
import type { SupabaseClient } from '@supabase/supabase-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { client, ok, type Person, refusal, signUp } from './support.ts';

const secretToken = 'canary-token-of-pizza';
const nowhere = '00000000-0000-4000-8000-000000000000';

interface Tenant {
  id: string;
  campaign: string;
  task: string;
}

let stack: Stack;
let anon: SupabaseClient;
let service: SupabaseClient;
let owner: Person;
let member: Person;
let viewer: Person;
let gymOwner: Person;
let participant: Person;
let stranger: Person;
let pizza: Tenant;
let gym: Tenant;

/** A tenant with a running campaign and a task, made by its owner as an app would. */
async function openShop(person: Person, slug: string): Promise<Tenant> {
  const tenant = ok(
    await person.api.rpc('create_tenant', { name: slug, slug, time_zone: 'Europe/Rome' }),
  ) as { id: string };
  const campaign = ok(
    await person.api
      .from('campaigns')
      .insert({ tenant_id: tenant.id, name: `${slug} summer`, status: 'active', time_zone: 'Europe/Rome' })
      .select('id')
      .single(),
  );
  const task = ok(
    await person.api
      .from('social_tasks')
      .insert({
        tenant_id: tenant.id,
        campaign_id: campaign.id,
        kind: 'instagram_comment',
        title: `Comment at ${slug}`,
        post_id: '17900000000000999',
        reward_spins: 3,
      })
      .select('id')
      .single(),
  );
  return { id: tenant.id, campaign: campaign.id, task: task.id };
}

async function join(person: Person, tenant: Tenant): Promise<string> {
  return ok(
    await person.api.rpc('join_campaign', {
      tenant_id: tenant.id,
      campaign_id: tenant.campaign,
      display_name: 'Someone',
      phone: '+49 170 1234567',
      whatsapp_opt_in: true,
    }),
  ) as string;
}

beforeAll(async () => {
  stack = await startStack({ dataDir: 'temporary' });
  anon = client(stack);
  service = client(stack, 'secret');
  owner = await signUp(stack, 'owner');
  member = await signUp(stack, 'member');
  viewer = await signUp(stack, 'viewer');
  gymOwner = await signUp(stack, 'gym-owner');
  participant = await signUp(stack, 'participant');
  stranger = await signUp(stack, 'stranger');
  pizza = await openShop(owner, 'the-pizzeria');
  gym = await openShop(gymOwner, 'the-gym');
  for (const [person, role] of [
    [member, 'member'],
    [viewer, 'viewer'],
  ] as const) {
    const { error } = await service
      .schema('jobs')
      .rpc('add_member', { tenant_id: pizza.id, user_id: person.id, role });
    expect(error).toBeNull();
  }
});
afterAll(() => stack?.stop());

describe('a tenant', () => {
  test('is created by a signed-in user, who owns it and nobody else sees it', async () => {
    const mine = ok(await owner.api.from('tenants').select('slug, plan_id'));
    expect(mine).toEqual([{ slug: 'the-pizzeria', plan_id: 'free' }]);
    expect(ok(await gymOwner.api.from('tenants').select('slug'))).toEqual([{ slug: 'the-gym' }]);
    expect(ok(await stranger.api.from('tenants').select('slug'))).toEqual([]);
    expect(refusal(await anon.from('tenants').select('slug')).code).toBe('42501');
  });

  test('cannot take a slug that is taken, reserved or malformed', async () => {
    const create = async (slug: string) =>
      refusal(await stranger.api.rpc('create_tenant', { name: 'Other', slug })).code;
    expect(await create('the-pizzeria')).toBe('23505');
    expect(await create('admin')).toBe('23514');
    expect(await create('The Pizzeria')).toBe('23514');
    expect(refusal(await anon.rpc('create_tenant', { name: 'Other', slug: 'other-shop' })).code).toBe(
      '42501',
    );
  });

  test('is renamed by its owner, who cannot change plan, status or id', async () => {
    const change = (values: Record<string, string>) =>
      owner.api.from('tenants').update(values).eq('id', pizza.id).select('name');
    expect(ok(await change({ name: 'The Pizzeria' }))).toEqual([{ name: 'The Pizzeria' }]);
    for (const [column, value] of [
      ['plan_id', 'enterprise'],
      ['status', 'active'],
      ['id', gym.id],
    ] as const) {
      expect(refusal(await change({ [column]: value })).code, column).toBe('42501');
    }
  });
});

describe('a credential', () => {
  test('is set by an admin, and its secret never comes back', async () => {
    const answer = await owner.api.rpc('set_credential', {
      tenant_id: pizza.id,
      provider: 'meta',
      kind: 'facebook_login',
      secret: { access_token: secretToken },
      account: { page_id: '100000000000001' },
    });
    expect(Object.keys(ok(answer)).sort()).toEqual(['credential_id', 'fingerprint', 'kind', 'provider']);
    const columns = 'provider, kind, account, fingerprint, health';
    const row = ok(await owner.api.from('credentials').select(columns).single());
    expect(row).toMatchObject({
      provider: 'meta',
      account: { page_id: '100000000000001' },
      health: 'unchecked',
    });
    expect(JSON.stringify([answer.data, row])).not.toContain('canary');
    expect(refusal(await owner.api.from('credentials').select('secret_id')).code).toBe('42501');
  });

  test('is neither set nor seen by who is no admin of the tenant', async () => {
    const values = (tenant_id: string) => ({
      tenant_id,
      provider: 'meta',
      kind: 'facebook_login',
      secret: { access_token: 'other' },
    });
    const unknown = refusal(await gymOwner.api.rpc('set_credential', values(nowhere)));
    expect(unknown.code).toBe('42501');
    // What exists and what does not exist look alike.
    for (const person of [gymOwner, member, viewer, stranger]) {
      expect(refusal(await person.api.rpc('set_credential', values(pizza.id)))).toEqual(unknown);
      expect(ok(await person.api.from('credentials').select('id').eq('tenant_id', pizza.id))).toEqual([]);
    }
    expect(refusal(await anon.rpc('set_credential', values(pizza.id))).code).toBe('42501');
  });
});

describe('campaigns and tasks', () => {
  test('are made by members, changed by members, deleted by admins', async () => {
    const add = (person: Person) =>
      person.api
        .from('campaigns')
        .insert({ tenant_id: pizza.id, name: 'Winter', time_zone: 'Europe/Berlin' })
        .select('id')
        .single();
    const { id } = ok(await add(member));
    expect(refusal(await add(viewer)).code).toBe('42501');
    expect(refusal(await add(gymOwner)).code).toBe('42501');
    const rename = (person: Person) =>
      person.api.from('campaigns').update({ name: 'Spring' }).eq('id', id).select('id');
    expect(ok(await rename(member))).toHaveLength(1);
    expect(ok(await rename(viewer))).toHaveLength(0);
    expect(ok(await rename(gymOwner))).toHaveLength(0);
    const remove = (person: Person) => person.api.from('campaigns').delete().eq('id', id).select('id');
    expect(ok(await remove(member))).toHaveLength(0);
    expect(ok(await remove(gymOwner))).toHaveLength(0);
    expect(ok(await remove(owner))).toHaveLength(1);
  });

  test('belong to campaigns of the same tenant; a foreign one is one that does not exist', async () => {
    const add = async (campaign_id: string) =>
      refusal(
        await gymOwner.api.from('social_tasks').insert({
          tenant_id: gym.id,
          campaign_id,
          kind: 'facebook_comment',
          title: 'Spy',
          post_id: '1',
        }),
      );
    expect(await add(pizza.campaign)).toEqual(await add(nowhere));
  });

  test('cannot be moved to another tenant, with or without a filter', async () => {
    const move = { tenant_id: gym.id };
    expect(refusal(await owner.api.from('campaigns').update(move).eq('id', pizza.campaign)).code).toBe(
      '42501',
    );
    expect(refusal(await owner.api.from('campaigns').update(move).neq('id', nowhere)).code).toBe('42501');
  });
});

describe('a participant', () => {
  test('joins, sees the campaign, claims a task once', async () => {
    expect(ok(await participant.api.from('campaigns').select('id'))).toEqual([]);
    const id = await join(participant, pizza);
    expect(ok(await participant.api.from('campaigns').select('id'))).toEqual([{ id: pizza.campaign }]);
    expect(await join(participant, pizza)).toBe(id);

    const claim = { tenant_id: pizza.id, task_id: pizza.task };
    const claimed = ok(await participant.api.rpc('claim_task', claim));
    expect(claimed).toMatchObject({ status: 'pending', code: expect.stringMatching(/^OC-[0-9A-F]{8}$/) });
    expect(refusal(await participant.api.rpc('claim_task', claim))).toEqual({
      code: '23505',
      message: 'You have claimed this task already.',
      status: 409,
    });
    const rows = ok(await participant.api.from('completions').select('id, status'));
    expect(rows).toEqual([{ id: claimed.completion_id, status: 'pending' }]);
    // The claim and its item are one transaction.
    const items = ok(
      await service.schema('jobs').from('items').select('job').eq('subject_id', claimed.completion_id),
    );
    expect(items).toEqual([{ job: 'verify-social-tasks' }]);
  });

  test('who has not joined gets the answer for a task that does not exist', async () => {
    const claim = (person: Person, task_id: string) =>
      person.api.rpc('claim_task', { tenant_id: pizza.id, task_id });
    const unknown = refusal(
      await participant.api.rpc('claim_task', { tenant_id: pizza.id, task_id: nowhere }),
    );
    expect(unknown).toMatchObject({ code: 'PT404', status: 404 });
    for (const person of [stranger, gymOwner, owner]) {
      expect(refusal(await claim(person, pizza.task))).toEqual(unknown);
    }
    expect(refusal(await claim(participant, gym.task))).toEqual(unknown);
    expect(refusal(await anon.rpc('claim_task', { tenant_id: pizza.id, task_id: pizza.task })).code).toBe(
      '42501',
    );
  });

  test('of two claims at once exactly one succeeds', async () => {
    await join(stranger, gym);
    const claim = { tenant_id: gym.id, task_id: gym.task };
    const answers = await Promise.all(Array.from({ length: 5 }, () => stranger.api.rpc('claim_task', claim)));
    expect(answers.filter((answer) => answer.error === null)).toHaveLength(1);
    expect(new Set(answers.flatMap((answer) => answer.error?.code ?? []))).toEqual(new Set(['23505']));
    expect(ok(await stranger.api.from('completions').select('id'))).toHaveLength(1);
  });

  test('changes the own details and nothing that is earned', async () => {
    const details = { instagram_username: '@Some.One' };
    const mine = await participant.api
      .from('participants')
      .update(details)
      .eq('tenant_id', pizza.id)
      .select('instagram_username');
    expect(ok(mine)).toEqual([{ instagram_username: 'some.one' }]);
    for (const [table, values] of [
      ['completions', { status: 'verified' }],
      ['spin_ledger', { spins: 1000 }],
      ['notification_outbox', { recipient: '+15550000000' }],
    ] as const) {
      const answer = await participant.api.from(table).update(values).eq('tenant_id', pizza.id);
      expect(refusal(answer).code, table).toBe('42501');
    }
  });
});

describe('another tenant', () => {
  const tables = [
    'tenants',
    'memberships',
    'credentials',
    'campaigns',
    'social_tasks',
    'participants',
    'completions',
    'job_queues',
    'audit_log',
  ];

  test.each(tables)('%s: the owner sees the own rows, a member of Gym none of them', async (table) => {
    const column = table === 'tenants' ? 'id' : 'tenant_id';
    const read = async (person: Person) => ok(await person.api.from(table).select(column));
    const seen = (rows: unknown) => JSON.stringify(rows);
    expect(seen(await read(owner))).toContain(pizza.id);
    expect(seen(await read(gymOwner))).not.toContain(pizza.id);
    const asked = await gymOwner.api.from(table).select(column).eq(column, pizza.id);
    expect(ok(asked)).toEqual([]);
    expect(refusal(await anon.from(table).select(column)).code).toBe('42501');
  });

  test('cannot be reached by embedding one table in another', async () => {
    const embedded = 'id, social_tasks(title), completions:social_tasks(completions(code))';
    expect(JSON.stringify(ok(await owner.api.from('campaigns').select(embedded)))).toContain('OC-');
    const rows = ok(await gymOwner.api.from('campaigns').select(embedded));
    expect(JSON.stringify(rows)).toContain('the-gym');
    expect(JSON.stringify(rows)).not.toContain('the-pizzeria');
  });

  test('is not touched by updates and deletes without a filter', async () => {
    const before = ok(await owner.api.from('campaigns').select('*'));
    await gymOwner.api.from('campaigns').update({ name: 'Mine now' }).neq('id', nowhere);
    await gymOwner.api.from('social_tasks').delete().neq('id', nowhere);
    expect(ok(await owner.api.from('campaigns').select('*'))).toEqual(before);
    expect(ok(await owner.api.from('social_tasks').select('id'))).toHaveLength(1);
    expect(ok(await gymOwner.api.from('campaigns').select('name'))).toEqual([{ name: 'Mine now' }]);
  });

  test('a member who is removed sees and changes nothing from then on, with the same session', async () => {
    const read = async () => ok(await viewer.api.from('campaigns').select('id'));
    expect(await read()).toHaveLength(1);
    const { error } = await service
      .from('memberships')
      .delete()
      .eq('tenant_id', pizza.id)
      .eq('user_id', viewer.id);
    expect(error).toBeNull();
    expect(await read()).toEqual([]);
  });
});

describe('the engine', () => {
  test('is closed to users: tables and functions of schema jobs', async () => {
    for (const api of [owner.api, stranger.api, anon]) {
      const jobs = api.schema('jobs');
      expect(refusal(await jobs.from('items').select('item_id')).code).toBe('42501');
      expect(refusal(await jobs.rpc('tick')).code).toBe('42501');
      expect(refusal(await jobs.rpc('run_now', { job: 'send-notifications' })).code).toBe('42501');
      expect(
        refusal(await jobs.rpc('next_batch', { drain_id: nowhere, job: 'verify-social-tasks' })).code,
      ).toBe('42501');
    }
    expect(ok(await service.schema('jobs').rpc('list')).length).toBeGreaterThan(1);
  });

  test.each(['private', 'vault', 'net', 'cron', 'auth', 'extensions'])(
    'schema %s is not offered to anybody',
    async (schema) => {
      for (const api of [owner.api, service]) {
        expect(refusal(await api.schema(schema).from('secrets').select('*')).status).toBe(406);
      }
    },
  );
});

describe('functions', () => {
  const call = (path: string, init: RequestInit = {}) =>
    fetch(`${stack.info.functions_url}/${path}`, { ...init, signal: AbortSignal.timeout(30_000) });
  const withSecret = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` }, method: 'POST' });

  test('health is readable by everybody, also through supabase-js', async () => {
    await expect
      .poll(async () => (await call('jobs/health')).status, { timeout: 60_000, interval: 500 })
      .toBe(200);
    const { data, error } = await anon.functions.invoke('jobs/health', { method: 'GET' });
    expect(error).toBeNull();
    expect(data).toMatchObject({ healthy: true, reasons: [] });
  });

  test('a job is run by hand with the cron secret, and answers in the one shape', async () => {
    const answer = await call('jobs/send-notifications', withSecret(stack.info.cron_secret));
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({
      message: 'Nothing to do.',
      results: { processed: 0, errors: [] },
      timestamp: expect.any(String),
    });
    expect((await call('jobs/no-such-job', withSecret(stack.info.cron_secret))).status).toBe(404);
  });

  test('nobody else runs a job: no secret, a wrong one, part of it, a key, a session', async () => {
    const { data } = await owner.api.auth.getSession();
    const secrets = [
      '',
      'wrong',
      stack.info.cron_secret.slice(0, -1),
      `${stack.info.cron_secret}x`,
      stack.info.publishable_key,
      stack.info.secret_key,
      data.session?.access_token ?? '',
    ];
    for (const secret of secrets) {
      expect((await call('jobs/send-notifications', withSecret(secret))).status).toBe(401);
    }
    expect((await call('jobs/send-notifications', { method: 'POST' })).status).toBe(401);
    expect(
      (await owner.api.functions.invoke('jobs/send-notifications', { method: 'POST' })).error,
    ).not.toBeNull();
  });

  test('the worker does nothing for a doorbell that nobody signed', async () => {
    const body = JSON.stringify({ ticket: nowhere });
    const headers = { 'content-type': 'application/json' };
    expect((await call('worker', { method: 'POST', headers, body })).status).toBe(401);
    const signature = { 'x-onecron-signature': `t=${Math.floor(Date.now() / 1000)},v1=${'0'.repeat(64)}` };
    expect(
      (await call('worker', { method: 'POST', headers: { ...headers, ...signature }, body })).status,
    ).toBe(401);
  });
});
