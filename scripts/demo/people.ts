// What people do, each with a supabase-js client of their own: the platform's admin with the secret key, owners and
// participants with the publishable key and their session. Nothing here writes where a client could not.
import { randomBytes } from 'node:crypto';
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import { z } from 'zod';
import type { StackInfo } from '../local/stack.ts';
import { closedCampaign, type Person, type Slug, type Task, tasks, tenants } from './cast.ts';
import { handles, renewed } from './social.ts';

export interface Member {
  userId: string;
  client: SupabaseClient;
}

/** The demo's domain for addresses: reserved, so no mail can ever arrive. */
export const domain = 'people.example';

/** Claims may be verified this long after they were made; in the seed it is 5 minutes. */
export const startDelaySeconds = 3;
/** A claim that is not proven yet is looked at again after this time; in the seed 5 minutes. */
export const recheckSeconds = 2;
/** How often a lane of a plan is served: 60 and 300 seconds as delivered. */
const cadenceSeconds = { pro: 1, starter: 2, free: 2 };
/** What a killed worker held goes back after this time; 60 seconds as delivered. */
const leaseSeconds = 8;

interface Result {
  data: unknown;
  error: { message: string; code?: string | undefined } | null;
}

/** The data of an answer of supabase-js; an error becomes an exception that says what was tried. */
function dataOf(what: string, { data, error }: Result): unknown {
  if (error) throw new Error(`${what} failed: ${error.message}`);
  return data;
}

/** Data of an update, which RLS may have turned into an update of nothing. */
function changed(what: string, result: Result): void {
  const rows = z.array(z.unknown()).parse(dataOf(what, result));
  if (rows.length === 0) throw new Error(`${what} failed: no such row, or no right to change it.`);
}

const claimSchema = z.object({
  completion_id: z.string(),
  code: z.string(),
  action_url: z.string().optional(),
});
const reviewSchema = z.object({ completion_id: z.string(), display_name: z.string(), reason: z.string() });
const credentialSchema = z.object({
  provider: z.string(),
  state: z.string(),
  reason: z.string().nullable(),
  advice: z.string(),
});

export function connectPeople(info: StackInfo, signal: AbortSignal) {
  const connect = (key: string): SupabaseClient =>
    createClient(info.api_url, key, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      global: { fetch: (input, init) => fetch(input, { ...init, signal }) },
    });
  const platform = connect(info.secret_key);
  const engine = platform.schema('jobs');

  async function signUp(name: string): Promise<Member> {
    const client = connect(info.publishable_key);
    const { data, error } = await client.auth.signUp({
      email: `${name.toLowerCase()}@${domain}`,
      password: randomBytes(18).toString('base64url'),
    });
    if (error) throw new Error(`Signing up ${name} failed: ${error.message}`);
    if (!data.user || !data.session) throw new Error(`Signing up ${name} gave no session.`);
    return { userId: data.user.id, client };
  }

  async function idOf(member: Member, task: Task): Promise<string> {
    const found = await member.client
      .from('social_tasks')
      .select('id')
      .eq('tenant_id', tenants[task.tenant].id)
      .eq('title', task.title)
      .single();
    return z.object({ id: z.string() }).parse(dataOf(`Looking for "${task.title}"`, found)).id;
  }

  return {
    /**
     * The platform's admin shortens the waiting times, through the settings that any installation has. Answers with the
     * schedule of the one cron entry.
     */
    async hurry(appUrl: string): Promise<string> {
      const verify = 'verify-social-tasks';
      changed(
        'Shortening the start delay',
        await engine
          .from('definitions')
          .update({ start_delay_seconds: startDelaySeconds })
          .eq('job', verify)
          .select('job'),
      );
      changed(
        'Shortening the leases',
        await engine
          .from('definitions')
          .update({ lease_seconds: leaseSeconds })
          .in('job', [verify, 'send-notifications'])
          .select('job'),
      );
      for (const [plan, seconds] of Object.entries(cadenceSeconds)) {
        changed(
          `Shortening the cadence of the plan "${plan}"`,
          await platform
            .from('plans')
            .update({ cadence_seconds: seconds })
            .eq('plan_id', plan)
            .select('plan_id'),
        );
      }
      dataOf('Setting app_url', await engine.rpc('set_setting', { name: 'app_url', value: appUrl }));
      return z.string().parse(dataOf('Setting the tick', await engine.rpc('start_tick', { seconds: 1 })));
    },

    /** Signs up; the platform makes this user the tenant's owner. */
    async owner(slug: Slug): Promise<Member> {
      const owner = await signUp(tenants[slug].owner);
      const member = { tenant_id: tenants[slug].id, user_id: owner.userId, role: 'owner' };
      dataOf(`Making ${tenants[slug].owner} the owner`, await engine.rpc('add_member', member));
      return owner;
    },

    /** An owner sets how long a claim may take to be proven, and how often it is looked at. */
    async setDeadlines(slug: Slug, owner: Member): Promise<void> {
      const own: Task[] = Object.values(tasks).filter(
        ({ tenant, kind }) => tenant === slug && kind !== 'x_follow',
      );
      for (const task of own) {
        const within = task.verifyWithinSeconds;
        changed(
          `Setting the deadline of "${task.title}"`,
          await owner.client
            .from('social_tasks')
            .update({
              recheck_every: `${recheckSeconds} seconds`,
              ...(within === undefined ? {} : { verify_within: `${within} seconds` }),
            })
            .eq('tenant_id', tenants[slug].id)
            .eq('title', task.title)
            .select('id'),
        );
      }
    },

    /**
     * The owner offers one more task, of a kind that the platforms frown upon. Answers with the refusal that comes first,
     * which goes away once the owner has acknowledged the rule.
     */
    async offer(owner: Member, { tenant, campaignId, kind, title }: Task): Promise<string | undefined> {
      const tenant_id = tenants[tenant].id;
      const row = { tenant_id, campaign_id: campaignId, kind, title, reward_spins: 1 };
      const { error } = await owner.client.from('social_tasks').insert(row);
      const rule = 'rewarded_engagement';
      dataOf(
        'Acknowledging the rule',
        await owner.client.rpc('acknowledge_rule', { tenant_id, rule, version: 1 }),
      );
      changed(`Offering "${title}"`, await owner.client.from('social_tasks').insert(row).select('id'));
      return error?.code === 'PT409' ? error.message : undefined;
    },

    /** What waits for a person of the tenant. */
    async reviews(member: Member, slug: Slug) {
      const data = dataOf(
        'Reading the reviews',
        await member.client
          .from('reviews')
          .select('completion_id, display_name, reason')
          .eq('tenant_id', tenants[slug].id),
      );
      return z.array(reviewSchema).parse(data);
    },

    /** Decides what waited: without a reason it is approved, else rejected. */
    async review(member: Member, slug: Slug, completionId: string, reason?: string): Promise<void> {
      const which = { tenant_id: tenants[slug].id, completion_id: completionId };
      dataOf(
        'Reviewing a claim',
        reason === undefined
          ? await member.client.rpc('approve_completion', which)
          : await member.client.rpc('reject_completion', { ...which, reason }),
      );
    },

    /** How the owner's Meta credential is. */
    async metaCredential(owner: Member, slug: Slug) {
      const data = dataOf(
        'Listing the credentials',
        await owner.client.rpc('list_credentials', { tenant_id: tenants[slug].id }),
      );
      return z
        .array(credentialSchema)
        .parse(data)
        .find(({ provider }) => provider === 'meta');
    },

    /** The Gym's owner stores the new token. */
    async reconnect(owner: Member): Promise<void> {
      const credential = { provider: 'meta', kind: 'instagram_login', ...renewed };
      dataOf(
        'Setting the credential',
        await owner.client.rpc('set_credential', { tenant_id: tenants.gym.id, ...credential }),
      );
    },

    /** Opens a link in a browser. Answers where it leads. */
    async open(link: string): Promise<string> {
      const { status, headers } = await fetch(link, { redirect: 'manual', signal });
      const target = headers.get('location');
      if (status !== 302 || target === null) throw new Error(`The link answered ${status}: ${link}`);
      return target;
    },

    /** The Salon's owner moves the campaign's hours, so that now lies outside of them. */
    async closeHours(owner: Member): Promise<{ from: string; until: string }> {
      const clock = new Intl.DateTimeFormat('en-GB', {
        timeZone: closedCampaign.timeZone,
        hour: '2-digit',
        minute: '2-digit',
      });
      const hour = 3_600_000;
      const from = clock.format(Date.now() + 2 * hour);
      const until = clock.format(Date.now() + 4 * hour);
      changed(
        `Moving the hours of "${closedCampaign.name}"`,
        await owner.client
          .from('campaigns')
          .update({ notify_from: from, notify_until: until })
          .eq('id', closedCampaign.id)
          .select('id'),
      );
      return { from, until };
    },

    /** Signs up and joins the campaigns of the tasks that this person will claim. */
    async join(person: Person): Promise<Member> {
      const member = await signUp(person.name);
      const { instagram, facebook } = handles(person);
      for (const campaignId of new Set(person.claims.map(({ task }) => task.campaignId))) {
        const tenant = person.claims.find(({ task }) => task.campaignId === campaignId)?.task.tenant;
        if (!tenant) continue;
        dataOf(
          `${person.name} joining a campaign`,
          await member.client.rpc('join_campaign', {
            tenant_id: tenants[tenant].id,
            campaign_id: campaignId,
            display_name: person.name,
            phone: person.phone,
            instagram_username: `@${instagram}`,
            facebook_user_id: facebook,
            whatsapp_opt_in: true,
          }),
        );
      }
      return member;
    },

    /** Claims the task that has this title in the app. */
    async claim(member: Member, task: Task): Promise<z.infer<typeof claimSchema>> {
      const which = { tenant_id: tenants[task.tenant].id, task_id: await idOf(member, task) };
      const data = dataOf(`Claiming "${task.title}"`, await member.client.rpc('claim_task', which));
      return claimSchema.parse(data);
    },

    /** Claims what is claimed already. Answers with the refusal, or undefined when there was none. */
    async claimAgain(member: Member, task: Task): Promise<string | undefined> {
      const which = { tenant_id: tenants[task.tenant].id, task_id: await idOf(member, task) };
      const { error } = await member.client.rpc('claim_task', which);
      return error?.code === '23505' ? error.message : undefined;
    },

    /** How many completions this member sees of a tenant. */
    async completionsSeen(member: Member, slug: Slug): Promise<number> {
      const data = dataOf(
        'Reading completions',
        await member.client.from('completions').select('id').eq('tenant_id', tenants[slug].id),
      );
      return z.array(z.unknown()).parse(data).length;
    },
  };
}
export type People = ReturnType<typeof connectPeople>;
