// What an app for the customers of a tenant does: join a campaign, claim a task, see the spins come in.
import { z } from 'zod';
import { type Client, dataOf, secondsToWait } from './client.ts';

export async function signUp(client: Client, email: string, password: string): Promise<void> {
  const { error } = await client.auth.signUp({ email, password });
  if (error) throw error;
}

/** The tenant and the campaign come from the link that the tenant hands out. */
export async function join(client: Client, tenantId: string, campaignId: string): Promise<string> {
  return dataOf(
    await client.rpc('join_campaign', {
      tenant_id: tenantId,
      campaign_id: campaignId,
      display_name: 'Carla',
      instagram_username: '@carla.eats',
      phone: '+49 170 1234567',
      // Only when Carla has ticked the box.
      whatsapp_opt_in: true,
    }),
  );
}

/** Who has joined sees the tenant's campaigns and their tasks, drafts excepted. */
export async function listTasks(client: Client, tenantId: string, campaignId: string) {
  return dataOf(
    await client
      .from('social_tasks')
      .select('id, title, reward_spins')
      .eq('tenant_id', tenantId)
      .eq('campaign_id', campaignId),
  );
}

/** With `action_url` the app shows a button: it opens the chat, or the link, with the code in place. */
const claimed = z.object({
  completion_id: z.uuid(),
  code: z.string(),
  deadline: z.string(),
  action_url: z.url().optional(),
});

/** The code goes into the comment: so the comment is known to be Carla's, whatever her name is over there. */
export async function claim(client: Client, tenantId: string, taskId: string) {
  const { data, error } = await client.rpc('claim_task', { tenant_id: tenantId, task_id: taskId });
  if (error?.code === '23505') return { problem: 'You have claimed this task already.' };
  if (error) {
    const seconds = secondsToWait(error);
    if (seconds !== null) return { problem: `That was a lot at once. Try again in ${seconds} seconds.` };
    throw error;
  }
  return claimed.parse(data);
}

/**
 * pending, then verified or failed. The check happens in the background, usually within minutes. manual_review: a person of the
 * tenant decides. needs_user_action: the reason says what she has to do, and `action_url` where.
 */
export async function statusOf(client: Client, tenantId: string, completionId: string) {
  const completion = dataOf(
    await client
      .from('completions')
      .select('status, reason')
      .eq('tenant_id', tenantId)
      .eq('id', completionId)
      .single(),
  );
  return completion.status;
}

const linking = z.object({ code: z.string(), expires_at: z.string(), link: z.url().nullable() });

/**
 * Which Instagram account is Carla's? The one that sends the code, within the hour. The link opens the chat with the code in
 * place; without one, show the code and let her send it.
 */
export async function linkInstagram(client: Client, tenantId: string) {
  const { data, error } = await client.rpc('start_linking', { tenant_id: tenantId, platform: 'instagram' });
  if (error?.code === 'PT404') return { problem: error.message };
  if (error) throw error;
  return linking.parse(data);
}

/** The accounts that are linked. Ask again when she comes back from the chat. */
export async function linkedAccounts(client: Client, tenantId: string) {
  return dataOf(await client.from('linked_accounts').select('platform, username').eq('tenant_id', tenantId));
}

/** Messages need her consent; the words next to the box are kept with it. */
export async function agreeToMessages(client: Client, tenantId: string, wording: string): Promise<void> {
  const { error } = await client.rpc('opt_in', { tenant_id: tenantId, channel: 'whatsapp', wording });
  if (error) throw error;
}

/** As easy as agreeing was. */
export async function noMoreMessages(client: Client, tenantId: string): Promise<void> {
  const { error } = await client.rpc('opt_out', { tenant_id: tenantId, channel: 'whatsapp' });
  if (error) throw error;
}

export async function countSpins(client: Client, tenantId: string): Promise<number> {
  const rows = dataOf(await client.from('spin_ledger').select('spins').eq('tenant_id', tenantId));
  return rows.reduce((sum, row) => sum + row.spins, 0);
}
