// What an app for the people who work for a tenant does, step by step.
import { z } from 'zod';
import { type Client, dataOf } from './client.ts';

export async function signIn(client: Client, email: string, password: string): Promise<void> {
  const { error } = await client.auth.signInWithPassword({ email, password });
  if (error) throw error;
}

/** The user's tenants, the active one first: what a switch in the app's corner shows. */
export async function listTenants(client: Client) {
  const tenants = dataOf(await client.rpc('my_tenants'));
  return tenants.sort((one, other) => Number(other.is_active) - Number(one.is_active));
}

export async function openTenant(client: Client, name: string, slug: string, timeZone: string) {
  const { data, error } = await client.rpc('create_tenant', { name, slug, time_zone: timeZone });
  if (error?.code === '23505') return { problem: 'This address is taken. Choose another one.' };
  if (error?.code === '23514') return { problem: 'Use 3 to 48 letters a to z, digits and single dashes.' };
  if (error) throw error;
  return { tenantId: data.id };
}

export async function switchTo(client: Client, tenantId: string): Promise<void> {
  const { error } = await client.rpc('set_active_tenant', { tenant_id: tenantId });
  if (error) throw error;
}

/** Name and settings are columns: an update changes them, and the audit log writes down what changed. */
export async function writeOnlyInTheDaytime(client: Client, tenantId: string): Promise<void> {
  const { error } = await client
    .from('tenants')
    .update({ locale: 'de', campaign_notify_from: '09:00', campaign_notify_until: '20:00' })
    .eq('id', tenantId);
  if (error) throw error;
}

/** A campaign starts as a draft, with the tenant's time zone and hours. */
export async function startCampaign(client: Client, tenantId: string, postId: string) {
  const campaign = dataOf(
    await client.rpc('create_campaign', { tenant_id: tenantId, name: 'Summer of pizza' }),
  );
  const task = dataOf(
    await client
      .from('social_tasks')
      .insert({
        tenant_id: tenantId,
        campaign_id: campaign.id,
        kind: 'instagram_comment',
        title: 'Comment on our post',
        post_id: postId,
        reward_spins: 3,
      })
      .select()
      .single(),
  );
  const started = await client
    .from('campaigns')
    .update({ status: 'active' })
    .eq('tenant_id', tenantId)
    .eq('id', campaign.id);
  if (started.error) throw started.error;
  return { campaign, task };
}

/** Secrets go in and never come out: the answer is a fingerprint to recognise it by. Admins only. */
export async function connectInstagram(client: Client, tenantId: string, userId: string, token: string) {
  return dataOf(
    await client.rpc('set_credential', {
      tenant_id: tenantId,
      provider: 'meta',
      kind: 'instagram_login',
      account: { ig_user_id: userId },
      secret: { access_token: token },
    }),
  );
}

/**
 * The newest claims with who made them. Row-level security shows only the own tenants' rows anyway; the filter says
 * which one is meant, and lets the index do the work.
 */
export async function newestClaims(client: Client, tenantId: string) {
  return dataOf(
    await client
      .from('completions')
      .select(
        'id, status, claimed_at, participants!completions_participant_fkey(display_name), social_tasks(title)',
      )
      .eq('tenant_id', tenantId)
      .order('claimed_at', { ascending: false })
      .limit(20),
  );
}

/**
 * A task that no platform can show, such as a follow or a like, needs an admin who has read the rule first. Show its text and
 * call this when the box is ticked.
 */
export async function acknowledge(client: Client, tenantId: string, rule: string) {
  const newest = dataOf(
    await client
      .from('rules')
      .select('version, text')
      .eq('rule', rule)
      .order('version', { ascending: false }),
  )[0];
  if (!newest) throw new Error(`There is no rule "${rule}".`);
  dataOf(await client.rpc('acknowledge_rule', { tenant_id: tenantId, rule, version: newest.version }));
  return newest.text;
}

/** What decides claims that nothing can prove: here the participant's word. Participants do not see this. */
export async function believeThem(client: Client, tenantId: string, campaignId: string): Promise<void> {
  const { error } = await client
    .from('campaign_strategies')
    .update({ strategy: 'honor_system' })
    .eq('tenant_id', tenantId)
    .eq('campaign_id', campaignId);
  if (error) throw error;
}

/** Claims that wait for a person, the oldest first. */
export async function waitingClaims(client: Client, tenantId: string) {
  return dataOf(
    await client
      .from('reviews')
      .select('completion_id, display_name, title, reason, claimed_at')
      .eq('tenant_id', tenantId)
      .order('claimed_at')
      .limit(20),
  );
}

/** Two may look at the same list: the first one decides, the second is told that it is decided. */
export async function accept(client: Client, tenantId: string, completionId: string) {
  const { error } = await client.rpc('approve_completion', {
    tenant_id: tenantId,
    completion_id: completionId,
  });
  if (error?.code === 'PT409') return { problem: error.message };
  if (error) throw error;
  return { accepted: true };
}

/** The participant reads the reason. */
export async function turnDown(client: Client, tenantId: string, completionId: string, reason: string) {
  const { error } = await client.rpc('reject_completion', {
    tenant_id: tenantId,
    completion_id: completionId,
    reason,
  });
  if (error?.code === 'PT409') return { problem: error.message };
  if (error) throw error;
  return { accepted: false };
}

/** What is connected, how healthy it is, and what to do about it. Admins only; never a secret. */
export async function connections(client: Client, tenantId: string) {
  return dataOf(await client.rpc('list_credentials', { tenant_id: tenantId }));
}

const invitation = z.object({ token: z.string(), expires_at: z.string() });

/** The token is answered once. Send it to that address, in a link of your app; nobody else can use it. */
export async function invite(client: Client, tenantId: string, email: string): Promise<string> {
  const answer = await client.rpc('invite_member', { tenant_id: tenantId, email, role: 'member' });
  return invitation.parse(dataOf(answer)).token;
}

/** Where the link leads: the invited person has signed up, and the address is confirmed. */
export async function acceptInvitation(client: Client, token: string) {
  const { data, error } = await client.rpc('accept_invitation', { token });
  if (error?.code === 'PT404') return { problem: error.message };
  if (error) throw error;
  return { accepted: data };
}

export async function promote(client: Client, tenantId: string, email: string): Promise<void> {
  const members = dataOf(await client.rpc('list_members', { tenant_id: tenantId }));
  const member = members.find((each) => each.email === email);
  if (!member) throw new Error(`${email} does not work for this tenant.`);
  const { error } = await client.rpc('change_role', {
    tenant_id: tenantId,
    user_id: member.user_id,
    role: 'admin',
  });
  if (error) throw error;
}
