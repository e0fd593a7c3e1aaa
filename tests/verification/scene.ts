// The one stack of these tests: Postgres, Data API, functions in Deno, simulators. Its businesses and people are real users with
// clients of their own; what they do outside is put into the simulators' worlds. Every secret is a string that occurs nowhere else,
// and everything that was answered or logged is kept, so that the last test can look for them.
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import postgres from 'postgres';
import { expect, vi } from 'vitest';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { type MetaWorldInput, type Simulators, startSimulators } from '../../scripts/simulators/index.ts';
import type { WhatsAppWorldInput } from '../../scripts/simulators/whatsapp.ts';
import { ok } from '../api/support.ts';

export interface Scene {
  stack: Stack;
  admin: postgres.Sql;
  service: SupabaseClient;
  /** A gateway that no list of public hosts has. */
  gateway: Simulators;
  /** The folder with the logs of everything. */
  folder: string;
  secrets: string[];
  /** Bodies of all that the Data API and the functions have answered. */
  answers: string[];
  /** What the functions have written. */
  lines: string[];
  count: number;
  /** Businesses that the platform's access to Meta sees. */
  served: Business[];
}

export interface Person {
  api: SupabaseClient;
  name: string;
  phone: string;
  /** The digits of the phone, as WhatsApp writes them. */
  waId: string;
  igsid: string;
  psid: string;
  username: string;
}

export interface Business {
  id: string;
  slug: string;
  owner: SupabaseClient;
  campaign: string;
  page: string;
  ig: string;
  username: string;
  pagePost: string;
  igPost: string;
  number: string;
  /** Of Meta; the one that is valid now. */
  token: string;
}

export interface Claim {
  id: string;
  code: string;
  actionUrl: string | null;
}

export function secret(scene: Pick<Scene, 'secrets'>, name: string): string {
  const made = `canary-${name}-${randomBytes(9).toString('hex')}`;
  scene.secrets.push(made);
  return made;
}

/** A client that keeps what it is answered. */
export function client(scene: Scene, key: 'publishable' | 'secret' = 'publishable'): SupabaseClient {
  const { api_url, publishable_key, secret_key } = scene.stack.info;
  return createClient(api_url, key === 'secret' ? secret_key : publishable_key, {
    auth: { persistSession: false, autoRefreshToken: false },
    global: {
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        scene.answers.push(await response.clone().text());
        return response;
      },
    },
  });
}

export async function openScene(): Promise<Scene> {
  const gateway = await startSimulators({ only: ['waapi'] });
  const lines: string[] = [];
  let stack: Stack;
  try {
    stack = await startStack({
      dataDir: 'temporary',
      seed: false,
      env: { OUTBOUND_HOSTS: new URL(gateway.urls.waapi).host },
      log: (line) => lines.push(line),
    });
  } catch (error) {
    await gateway.stop();
    throw error;
  }
  const admin = postgres(stack.adminUrl, { max: 6, onnotice: () => {} });
  const [place] = await admin`select current_setting('data_directory') as path`;
  const scene: Scene = {
    ...{ stack, admin, gateway, lines, count: 0 },
    folder: dirname(String(place?.path)),
    service: undefined as never,
    secrets: [stack.info.cron_secret, stack.info.secret_key],
    answers: [],
    served: [],
  };
  scene.service = client(scene, 'secret');
  await hurry(scene);
  await equipPlatform(scene);
  return scene;
}

export async function closeScene(scene: Scene | undefined): Promise<void> {
  await scene?.admin.end();
  await scene?.stack.stop();
  await scene?.gateway.stop();
}

/** The platform's admin shortens the waiting times, through the settings that any installation has. */
async function hurry({ service, gateway }: Scene): Promise<void> {
  const engine = service.schema('jobs');
  // A worker that was lost gives its claims back after the lease; 60 seconds as delivered.
  const verify = engine.from('definitions').update({ start_delay_seconds: 0, lease_seconds: 15 });
  ok(await verify.eq('job', 'verify-social-tasks').select('job'));
  ok(
    await service
      .from('plans')
      .update({ cadence_seconds: 1, rate_per_minute: null })
      .neq('plan_id', '')
      .select(),
  );
  const settings = { app_url: 'https://app.example', outbound_hosts: new URL(gateway.urls.waapi).host };
  for (const [name, value] of Object.entries(settings)) {
    expect((await engine.rpc('set_setting', { name, value })).error).toBeNull();
  }
  ok(await engine.rpc('start_tick', { seconds: 1 }));
}

type Simulated = 'meta' | 'whatsapp' | 'waapi' | 'resend';

async function control(scene: Scene, provider: Simulated, path: string, body: unknown): Promise<unknown> {
  const response = await fetch(`${scene.stack.info.simulators[provider]}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${provider} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

export const meta = (scene: Scene, world: MetaWorldInput & { webhooks?: unknown }) =>
  control(scene, 'meta', '/_world', world) as Promise<{ comments: string[]; posts: string[] }>;
export const whatsapp = (scene: Scene, world: WhatsAppWorldInput & { webhooks?: unknown }) =>
  control(scene, 'whatsapp', '/_world', world);
export const script = (scene: Scene, provider: Simulated, scripts: unknown) =>
  control(scene, provider, '/_script', scripts);

export interface Message {
  id: string;
  wa_id: string | null;
  text: string | null;
  type: string;
  template: string | null;
  phone_number_id: string;
  tenant: string;
}

/** What left through WhatsApp's own API to this person. */
export async function messagesTo(scene: Scene, person: Pick<Person, 'waId'>): Promise<Message[]> {
  const { messages } = (await control(scene, 'whatsapp', '/_messages', undefined)) as { messages: Message[] };
  return messages.filter(({ wa_id }) => wa_id === person.waId);
}

async function signUp(scene: Scene, name: string): Promise<SupabaseClient> {
  const api = client(scene);
  const { error } = await api.auth.signUp({
    email: `${name}@example.com`,
    password: 'correct horse battery',
  });
  if (error) throw new Error(`${name} could not sign up: ${error.message}`);
  return api;
}

/** Somebody new, whom Instagram knows. */
export async function arrive(scene: Scene, name: string, isPrivate = false): Promise<Person> {
  scene.count += 1;
  const digits = String(scene.count).padStart(4, '0');
  const person = {
    ...{ name: `${name}.${digits}`, phone: `+49151000${digits}`, waId: `49151000${digits}` },
    ...{ igsid: `55500${digits}`, psid: `77700${digits}`, username: `${name}.${digits}` },
  };
  const [api] = await Promise.all([
    signUp(scene, person.name),
    meta(scene, { people: [{ igsid: person.igsid, username: person.username, is_private: isPrivate }] }),
  ]);
  return { ...person, api };
}

export async function join(
  business: Business,
  person: Person,
  more: { campaign?: string; instagram_username?: string; facebook_user_id?: string } = {},
): Promise<void> {
  const { campaign = business.campaign, ...details } = more;
  ok(
    await person.api.rpc('join_campaign', {
      ...{ tenant_id: business.id, campaign_id: campaign, display_name: person.name },
      ...{ phone: person.phone, whatsapp_opt_in: true, ...details },
    }),
  );
}

interface Opening {
  meta?: 'facebook_login' | 'instagram_login';
  whatsapp?: boolean;
  /** Whether Meta and WhatsApp push: twice and in any order. */
  webhooks?: boolean;
  campaign?: Record<string, unknown>;
  number?: Record<string, unknown>;
}

/** A business with a campaign, an account, a Page, a post on each, and the credentials that were asked for. */
export async function open(scene: Scene, slug: string, opening: Opening): Promise<Business> {
  scene.count += 1;
  const digits = String(scene.count).padStart(4, '0');
  const owner = await signUp(scene, `owner-of-${slug}`);
  const { id } = ok(
    await owner.rpc('create_tenant', { name: slug, slug, time_zone: 'Europe/Rome' }),
  ) as unknown as { id: string };
  const page = `10000000001${digits}`;
  const business: Business = {
    ...{ id, slug, owner, page, token: '', campaign: '' },
    ...{ ig: `1784140001${digits}`, number: `10654001${digits}`, username: slug.replaceAll('-', '.') },
    ...{ pagePost: `${page}_1`, igPost: `1790000001${digits}` },
  };
  business.campaign = await openCampaign(business, opening.campaign);
  await meta(scene, {
    accounts: [
      { id: page, kind: 'page', tenant: slug, name: slug, reactions: 'list' },
      { id: business.ig, kind: 'instagram', tenant: slug, username: business.username, page_id: page },
    ],
    posts: [
      { id: business.igPost, account_id: business.ig },
      { id: business.pagePost, account_id: page },
    ],
  });
  ok(await owner.rpc('acknowledge_rule', { tenant_id: id, rule: 'rewarded_engagement', version: 1 }));
  if (opening.meta) await connectMeta(scene, business, opening.meta, opening.webhooks);
  if (opening.whatsapp) await connectWhatsApp(scene, business, opening.webhooks, opening.number);
  return business;
}

/** How claims are believed that nothing proves: the columns of `campaign_strategies`. */
const ofStrategy = ['strategy', 'acceptance_rate', 'statistical_basis'];

export async function openCampaign(business: Business, more: Record<string, unknown> = {}): Promise<string> {
  const given = Object.entries(more);
  const row = {
    ...{ tenant_id: business.id, name: 'Summer', status: 'active', time_zone: 'Europe/Rome' },
    ...Object.fromEntries(given.filter(([key]) => !ofStrategy.includes(key))),
  };
  const { id } = ok(await business.owner.from('campaigns').insert(row).select('id').single()) as {
    id: string;
  };
  const strategy = Object.fromEntries(given.filter(([key]) => ofStrategy.includes(key)));
  if (Object.keys(strategy).length > 0) {
    ok(await business.owner.from('campaign_strategies').update(strategy).eq('campaign_id', id).select());
  }
  return id;
}

/** A new token, in the world and as the business's credential. */
export async function connectMeta(
  scene: Scene,
  business: Business,
  kind: 'facebook_login' | 'instagram_login' = 'facebook_login',
  webhooks = false,
): Promise<void> {
  const { slug, page, ig } = business;
  scene.count += 1;
  const keys = {
    access_token: secret(scene, `token-of-${slug}`),
    app_secret: secret(scene, `app-secret-of-${slug}`),
    verify_token: secret(scene, `verify-token-of-${slug}`),
  };
  const app_id = `9900${scene.count}`;
  const token = { token: keys.access_token, tenant: slug, app_id };
  await meta(scene, {
    apps: [{ app_id, app_secret: keys.app_secret, require_proof: true }],
    tokens: [
      kind === 'facebook_login'
        ? { ...token, kind: 'page', accounts: [page, ig] }
        : { ...token, kind: 'instagram', accounts: [ig] },
    ],
  });
  const account = { ig_user_id: ig, username: business.username };
  ok(
    await business.owner.rpc('set_credential', {
      ...{ tenant_id: business.id, provider: 'meta', kind, secret: keys },
      account: kind === 'facebook_login' ? { ...account, page_id: page } : account,
    }),
  );
  business.token = keys.access_token;
  if (webhooks) await meta(scene, { webhooks: [pushed(scene, `/meta/${slug}`, slug, keys)] });
}

const pushed = (
  scene: Scene,
  path: string,
  tenant: string,
  keys: { app_secret: string; verify_token: string },
) => ({
  ...{ url: `${scene.stack.info.functions_url}/webhooks${path}`, tenant },
  ...{ app_secret: keys.app_secret, verify_token: keys.verify_token },
  ...{ duplicates: 1, order: 'shuffled', batch: 20 },
});

async function numberOf(
  scene: Scene,
  business: Pick<Business, 'slug' | 'number'>,
  webhooks: boolean,
  number: Record<string, unknown> = {},
) {
  const { slug, number: id } = business;
  const keys = {
    access_token: secret(scene, `whatsapp-of-${slug}`),
    app_secret: secret(scene, `whatsapp-secret-of-${slug}`),
    verify_token: secret(scene, `whatsapp-verify-of-${slug}`),
  };
  const shown = `4930${id.slice(-6)}`;
  await whatsapp(scene, {
    numbers: [{ phone_number_id: id, tenant: slug, display_phone_number: shown, ...number }],
    tokens: [{ token: keys.access_token, tenant: slug, numbers: [id] }],
  });
  const push = async () => {
    if (webhooks) await whatsapp(scene, { webhooks: [pushed(scene, `/whatsapp/${slug}`, slug, keys)] });
  };
  return { secret: keys, account: { phone_number_id: id, display_phone_number: `+${shown}` }, push };
}

export async function connectWhatsApp(
  scene: Scene,
  business: Business,
  webhooks = false,
  number: Record<string, unknown> = {},
): Promise<void> {
  const { secret: keys, account, push } = await numberOf(scene, business, webhooks, number);
  ok(
    await business.owner.rpc('set_credential', {
      ...{ tenant_id: business.id, provider: 'whatsapp', kind: 'whatsapp_cloud', secret: keys, account },
    }),
  );
  await push();
}

export const platformNumber = '106540099999999';

/** The platform's own number. */
async function equipPlatform(scene: Scene): Promise<void> {
  const platform = { slug: 'platform', number: platformNumber };
  const { secret: keys, account, push } = await numberOf(scene, platform, true);
  ok(
    await scene.service.schema('jobs').rpc('set_platform_credential', {
      ...{ provider: 'whatsapp', kind: 'whatsapp_cloud', secret: keys, account },
    }),
  );
  await push();
}

/** The platform's access to Meta sees these businesses, too. */
export async function serve(scene: Scene, ...businesses: Business[]): Promise<void> {
  scene.served.push(...businesses);
  const token = secret(scene, 'token-of-the-platform');
  const accounts = scene.served.flatMap(({ page, ig }) => [page, ig]);
  await meta(scene, { tokens: [{ token, tenant: 'platform', kind: 'system', accounts }] });
  ok(
    await scene.service.schema('jobs').rpc('set_platform_credential', {
      ...{ provider: 'meta', kind: 'facebook_login', secret: { access_token: token } },
    }),
  );
}

export async function openTask(business: Business, task: Record<string, unknown>): Promise<string> {
  const row = {
    ...{ tenant_id: business.id, campaign_id: business.campaign, title: String(task.kind), reward_spins: 3 },
    ...{ recheck_every: '1 second', verify_within: '2 minutes', ...task },
  };
  return (ok(await business.owner.from('social_tasks').insert(row).select('id').single()) as { id: string })
    .id;
}

export async function claim(business: Business, person: Person, task: string): Promise<Claim> {
  const args = { tenant_id: business.id, task_id: task };
  const made = ok(await person.api.rpc('claim_task', args)) as {
    completion_id: string;
    code: string;
    action_url?: string;
  };
  return { id: made.completion_id, code: made.code, actionUrl: made.action_url ?? null };
}

/** The code that links an account, come back from that account in a message. */
export async function link(
  scene: Scene,
  business: Business,
  person: Person,
  platform: 'instagram' | 'facebook',
): Promise<void> {
  const answer = await person.api.rpc('start_linking', { tenant_id: business.id, platform });
  const { code } = ok(answer) as { code: string };
  const to = platform === 'instagram' ? business.ig : business.page;
  const from = platform === 'instagram' ? person.igsid : person.psid;
  await meta(scene, { messages: [{ from, to, text: `Hi, ${code}` }] });
  const linked = async () =>
    (await person.api.from('linked_accounts').select('external_id').eq('tenant_id', business.id)).data;
  await until(linked, (are) => expect(are).toContainEqual({ external_id: from }));
}

export interface Ended {
  status: string;
  method: string | null;
  reason: string | null;
  credential_source: string | null;
}

/** The claim as its participant sees it. */
export async function look(person: Person, made: Claim): Promise<Ended & { action_url: string | null }> {
  const columns = 'status, method, reason, credential_source, action_url';
  return ok(await person.api.from('completions').select(columns).eq('id', made.id).single()) as never;
}

/** Waits until a condition holds. Unlike expect.poll in hooks and in tests that run side by side, too. */
export async function until<T>(
  read: () => Promise<T>,
  check: (value: T) => void,
  timeout = 60_000,
): Promise<void> {
  await vi.waitFor(async () => check(await read()), { timeout, interval: 200 });
}

/** Waits until the claim is decided. What is due by its deadline is not left waiting for the full minute. */
export async function ended(scene: Scene, person: Person, made: Claim, status: string): Promise<Ended> {
  const now = async () => {
    await scene.admin`
      select jobs.enqueue('settle-claims', c.tenant_id, dedupe_key => 'now')
      from (select distinct tenant_id from public.completions where settle_at <= now()) c`;
    return (await look(person, made)).status;
  };
  try {
    await until(now, (is) => expect(is).toBe(status));
  } catch (error) {
    // Why it is not: what the engine knows of its item.
    const items = await scene.admin`
      select i.attempts, i.tries, i.run_at - now() as due, i.waiting_for, i.last_error, l.reason, l.wake_at - now() as wakes
      from jobs.items i join jobs.lanes l using (tenant_id, job) where i.subject_id = ${made.id}`;
    throw new Error(`not ${status}: ${JSON.stringify([await look(person, made), ...items])}`, {
      cause: error,
    });
  }
  return await look(person, made);
}

export async function spinsOf(person: Person, made: Claim): Promise<number[]> {
  const rows = ok(await person.api.from('spin_ledger').select('spins').eq('completion_id', made.id));
  return (rows as { spins: number }[]).map(({ spins }) => spins);
}

export interface Queued {
  kind: string;
  status: string;
  reason: string | null;
  delivery: string | null;
  body: string;
}

/** The messages about a claim, as the business sees them. */
export async function outbox(business: Business, made: Claim): Promise<Queued[]> {
  const columns = 'kind, status, reason, delivery, body';
  return ok(
    await business.owner.from('notification_outbox').select(columns).eq('completion_id', made.id),
  ) as never;
}

/** Spins once, one message, and it left. */
export async function isRewarded(
  scene: Scene,
  business: Business,
  person: Person,
  made: Claim,
): Promise<void> {
  expect(await spinsOf(person, made)).toEqual([3]);
  const sent = async () => (await outbox(business, made)).map(({ kind, status }) => `${kind} ${status}`);
  await until(sent, (is) => expect(is).toEqual(['congratulation sent']));
  const texts = (await messagesTo(scene, person)).map(({ text }) => text);
  expect(texts).toEqual([expect.stringContaining('3 bonus spins have been added')]);
}
