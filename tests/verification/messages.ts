// Messages from end to end: the window of 24 hours, STOP, quiet hours, what is reported in any order or not at all, and a gateway.
import { beforeAll, describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  type Claim,
  claim,
  ended,
  join,
  messagesTo,
  open,
  openCampaign,
  openTask,
  outbox,
  type Person,
  type Scene,
  script,
  secret,
  spinsOf,
  whatsapp,
} from './scene.ts';

const timeZone = 'Europe/Rome';
/** The time of day in seconds from now, on the wall there. */
const wall = (seconds: number) =>
  new Intl.DateTimeFormat('en-GB', { timeZone, timeStyle: 'medium' }).format(Date.now() + seconds * 1000);

/** A claim that is verified at once, so that there is something to congratulate on. */
async function visited(business: Business, person: Person, campaign = business.campaign): Promise<Claim> {
  const link = { kind: 'link_visit', url: 'https://menu.example/', campaign_id: campaign };
  const made = await claim(business, person, await openTask(business, link));
  const headers = { 'user-agent': 'Mozilla/5.0 (iPhone)' };
  await fetch(made.actionUrl ?? '', { redirect: 'manual', headers });
  return made;
}

const writes = (scene: Scene, business: Business, person: Person, text: string) =>
  whatsapp(scene, { inbound: [{ phone_number_id: business.number, from: person.waId, text }] });

export function messages(given: () => Scene): void {
  describe('messages', () => {
    let scene: Scene;
    let bistro: Business;
    let open24: Business;
    let eve: Person;
    let frank: Person;
    let hers: Claim[];
    let his: Claim[];
    const someone = async (business: Business, ...campaigns: string[]) => {
      const person = await arrive(scene, 'guest');
      for (const campaign of campaigns.length > 0 ? campaigns : [business.campaign]) {
        await join(business, person, { campaign });
      }
      return person;
    };
    const becomes = (business: Business, made: Claim, expected: unknown) =>
      expect.poll(() => outbox(business, made), { timeout: 40_000 }).toMatchObject(expected as object[]);

    beforeAll(async () => {
      scene = given();
      const number = { window: 'enforce' };
      bistro = await open(scene, 'bistro', { whatsapp: true, webhooks: true, number });
      open24 = await open(scene, 'open-day', { whatsapp: true, webhooks: true });
      const body = 'Hi {{1}}, you won: {{2}}.';
      await whatsapp(scene, { templates: [{ name: 'spins_won', language: 'en', parameters: 2, body }] });
      ok(
        await bistro.owner
          .from('message_templates')
          .insert({
            ...{ tenant_id: bistro.id, kind: 'congratulation', body: 'Hi {{name}}! {{reward}}.' },
            ...{ whatsapp_template_name: 'spins_won', whatsapp_template_language: 'en' },
            whatsapp_parameters: ['name', 'reward'],
          })
          .select('id'),
      );
      const hours = { time_zone: timeZone, notify_from: wall(14), notify_until: wall(7200) };
      const campaigns = [await openCampaign(open24, hours), await openCampaign(open24, hours)];
      const claims = async (person: Person) =>
        await Promise.all(campaigns.map((campaign) => visited(open24, person, campaign)));
      [eve, frank] = [await someone(open24, ...campaigns), await someone(open24, ...campaigns)];
      [hers, his] = [await claims(eve), await claims(frank)];
    }, 60_000);

    test('quiet hours hold messages, and STOP ends them in all campaigns', async () => {
      for (const made of [...hers, ...his]) {
        await becomes(open24, made, [{ status: 'queued', reason: 'quiet hours' }]);
      }
      await writes(scene, open24, eve, 'STOP');
      for (const made of hers) {
        await becomes(open24, made, [{ status: 'no_consent', reason: expect.stringMatching(/withdrawn/) }]);
      }
      expect(await messagesTo(scene, frank)).toEqual([]);
    });

    test('outside the window the approved template goes; without one the message fails; in the window the text goes', async () => {
      const stranger = await someone(bistro);
      await becomes(bistro, await visited(bistro, stranger), [{ status: 'sent' }]);
      const [sent] = await messagesTo(scene, stranger);
      expect(sent).toMatchObject({ type: 'template', template: 'spins_won' });
      expect(sent?.text).toBe(`Hi ${stranger.name}, you won: 3 bonus spins have been added.`);

      const refused = await someone(bistro);
      const like = { kind: 'instagram_like', post_id: '17900000000000009' };
      const made = await claim(bistro, refused, await openTask(bistro, like));
      const args = { tenant_id: bistro.id, completion_id: made.id, reason: 'No.' };
      ok(await bistro.owner.rpc('reject_completion', args));
      await becomes(bistro, made, [
        {
          ...{ kind: 'review_result', status: 'failed' },
          reason: expect.stringContaining('outside the 24-hour window and no approved template for it'),
        },
      ]);
      expect(await messagesTo(scene, refused)).toEqual([]);

      const guest = await someone(bistro);
      await writes(scene, bistro, guest, 'hi');
      const windows = () => scene.admin`select from private.conversations where recipient = ${guest.waId}`;
      await expect.poll(async () => (await windows()).length, { timeout: 30_000 }).toBe(1);
      await becomes(bistro, await visited(bistro, guest), [{ status: 'sent' }]);
      expect(await messagesTo(scene, guest)).toMatchObject([{ type: 'text', template: null }]);
    });

    test('reports in any order and twice leave the furthest state', async () => {
      const person = await someone(open24);
      const statuses: ('read' | 'sent' | 'delivered')[] = ['read', 'sent', 'delivered', 'sent'];
      await whatsapp(scene, { recipients: [{ wa_id: person.waId, statuses }] });
      const made = await visited(open24, person);
      await becomes(open24, made, [{ status: 'sent', delivery: 'read' }]);
      // All of them came, each at least twice, and none moved it back.
      const told = async () => {
        const rows = await scene.admin`
          select from private.webhook_events
          where tenant_id = ${open24.id} and processed_at is not null and body::text like ${`%"recipient_id": "${person.waId}"%`}`;
        return rows.length;
      };
      await expect.poll(told, { timeout: 30_000 }).toBeGreaterThan(0);
      expect(await outbox(open24, made)).toMatchObject([{ status: 'sent', delivery: 'read' }]);
    });

    test('a message of which nobody knows is not sent again, and its report settles it', async () => {
      // A connection that was used before and is still open is what Deno's fetch would send a POST over again.
      await becomes(open24, await visited(open24, await someone(open24)), [{ status: 'sent' }]);
      const person = await someone(open24);
      const match = { path: '/messages', contains: person.waId };
      await script(scene, 'whatsapp', { match, do: { reset: 'after', statuses: [] } });
      const made = await visited(open24, person);
      await becomes(open24, made, [{ status: 'unknown' }]);
      const sent = await messagesTo(scene, person);
      expect(sent).toHaveLength(1);
      const report = { message_id: sent[0]?.id ?? '', status: 'delivered' as const };
      await whatsapp(scene, { statuses: [{ phone_number_id: open24.number, ...report }] });
      await becomes(open24, made, [{ status: 'sent', delivery: 'delivered' }]);
      expect(await messagesTo(scene, person)).toHaveLength(1);
    });

    test('what WhatsApp tells of the account stops the sending with one alert, until somebody resumes', async () => {
      const halted = await open(scene, 'halted', { whatsapp: true, webhooks: true });
      const alerts = async () => {
        const rows = await scene.admin`
          select message, closed_at is null as open from jobs.alerts where tenant_id = ${halted.id} order by alert_id`;
        return [...rows];
      };
      const error = {
        phone_number_id: halted.number,
        code: 131042,
        title: 'Business eligibility payment issue',
      };
      await whatsapp(scene, { account_errors: [error] });
      const opened = {
        message: expect.stringContaining('a payment problem; settle it in WhatsApp Manager'),
        open: true,
      };
      await expect.poll(alerts, { timeout: 30_000 }).toEqual([opened]);
      const person = await someone(halted);
      const made = await visited(halted, person);
      await becomes(halted, made, [
        { status: 'queued', reason: expect.stringMatching(/^sending is stopped/) },
      ]);
      expect(await messagesTo(scene, person)).toEqual([]);
      expect(ok(await halted.owner.rpc('resume_sending', { tenant_id: halted.id }))).toBe(true);
      expect(await alerts()).toEqual([{ ...opened, open: false }]);
      await becomes(halted, await visited(halted, await someone(halted)), [{ status: 'sent' }]);
    });

    test('a gateway of the business’s own sends, or says why not', async () => {
      const cafe = await open(scene, 'cafe', {});
      const key = secret(scene, 'gateway-of-cafe');
      const { urls, requests } = scene.gateway;
      const change = (ready: boolean) =>
        fetch(`${urls.waapi}/_world`, {
          method: 'POST',
          body: JSON.stringify({ instances: [{ instance_id: '7', tenant: 'cafe', token: key, ready }] }),
        });
      await change(true);
      const store = (url: string) =>
        cafe.owner.rpc('set_credential', {
          ...{ tenant_id: cafe.id, provider: 'whatsapp', kind: 'gateway', secret: { api_key: key } },
          account: {
            ...{ method: 'POST', url, headers: { 'content-type': 'application/json' }, sender: '4930111111' },
            body: {
              ...{ number: '{{number}}', message: '{{message}}' },
              ...{ sender: '{{sender}}', api_key: '{{api_key}}' },
            },
            ...{ success: { path: 'status', equals: true }, message_id_path: 'data.id', error_path: 'msg' },
          },
        });
      expect((await store(`${urls.waapi}/send-message`)).error?.code).toBe('PT409');
      const rule = { tenant_id: cafe.id, rule: 'unofficial_gateway', version: 1 };
      ok(await cafe.owner.rpc('acknowledge_rule', rule));
      expect((await store('http://169.254.169.254/send-message')).error).not.toBeNull();
      ok(await store(`${urls.waapi}/send-message`));

      const person = await someone(cafe);
      const made = await visited(cafe, person);
      await becomes(cafe, made, [{ status: 'sent' }]);
      const arrived = (await (await fetch(`${urls.waapi}/_messages`)).json()) as { messages: unknown[] };
      expect(arrived.messages).toMatchObject([
        { chat_id: `${person.waId}@c.us`, text: expect.stringContaining('3 bonus spins') },
      ]);
      expect(await messagesTo(scene, person)).toEqual([]);
      await change(false);
      await becomes(cafe, await visited(cafe, await someone(cafe)), [
        { status: 'failed', reason: expect.stringContaining('The device is not connected.') },
      ]);
      const owners = new Set(requests.list({ provider: 'waapi' }).map(({ tenant }) => tenant));
      expect(owners).toEqual(new Set(['cafe']));
    });

    test('when the hours begin the others leave, and who said STOP hears nothing more', async () => {
      for (const made of his) await becomes(open24, made, [{ status: 'sent' }]);
      expect(await messagesTo(scene, frank)).toHaveLength(2);
      // What is verified later is not said to her either; to him it is.
      const [late, later] = [await visited(open24, eve), await visited(open24, frank)];
      await becomes(open24, late, [{ status: 'no_consent' }]);
      await becomes(open24, later, [{ status: 'sent' }]);
      expect(await messagesTo(scene, eve)).toEqual([]);
      expect(await spinsOf(eve, late)).toEqual([3]);
    });

    test('everybody who was verified has the spins, message or not', async () => {
      const rows = await scene.admin`
        select c.id from public.completions c
        where c.status = 'verified' and (select count(*) from public.spin_ledger l where l.completion_id = c.id) <> 1`;
      expect(rows).toHaveLength(0);
      const person = await someone(bistro);
      const made = await visited(bistro, person);
      await ended(scene, person, made, 'verified');
    });
  });
}
