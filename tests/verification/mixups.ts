// A thousand claims of three businesses, looked at and congratulated side by side while every answer of the providers takes another
// time. The providers' own log says whose access was used for whose account.
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ok } from '../api/support.ts';
import { type Business, meta, open, openTask, type Scene, script } from './scene.ts';

const entrySchema = z.object({
  seq: z.number(),
  provider: z.string(),
  tenant: z.string().nullable(),
  about: z.looseObject({ target_tenant: z.string().nullish() }),
});
type Entry = z.infer<typeof entrySchema>;

async function logOf(scene: Scene, since = 0): Promise<Entry[]> {
  const response = await fetch(`${scene.stack.info.simulators.meta}/_log?provider=all&since=${since}`);
  const log = z.object({ entries: z.array(entrySchema), dropped_until: z.number() });
  const { entries, dropped_until } = log.parse(await response.json());
  expect(dropped_until).toBeLessThanOrEqual(since);
  return entries;
}

/** Calls with one business's access for another's account. The platform's access is for those who have none. */
const mixedUp = (entries: Entry[]): Entry[] =>
  entries.filter(
    ({ tenant, about: { target_tenant: target } }) =>
      tenant !== 'platform' && target != null && tenant !== target && target !== 'nobody',
  );

const total = 1000;
const perPost = 5;
const random = (most: number) => Math.floor(Math.random() * most);

/** Claims with a comment each, straight into the tables: it is the worker's way that is looked at here. */
async function fill(scene: Scene, business: Business, index: number, count: number): Promise<void> {
  const posts = Math.ceil(count / perPost);
  const ids = Array.from({ length: posts }, (_, n) => `18${index}00000000${String(n).padStart(4, '0')}`);
  const codes = Array.from({ length: count }, (_, n) => `OC-M${index}X${String(n).padStart(5, '0')}`);
  await meta(scene, {
    posts: ids.map((id) => ({ id, account_id: business.ig })),
    comments: codes.map((code, n) => ({
      ...{ post_id: ids[Math.floor(n / perPost)] ?? '', text: `It is ${code}` },
      from: { id: `99${index}${n}`, username: `m${index}.${n}` },
    })),
  });
  await scene.admin`
    with task as (
      insert into public.social_tasks (tenant_id, campaign_id, kind, title, post_id, created_at)
      select ${business.id}, ${business.campaign}, 'instagram_comment', 'Comment', p, now() - interval '1 day'
      from unnest(${ids}::text[]) p
      returning id, post_id
    ),
    person as (
      insert into public.participants (tenant_id, display_name, phone, whatsapp_opt_in_at)
      select ${business.id}, c, '+4916' || ${index}::int || lpad(n::text, 7, '0'), now() from unnest(${codes}::text[]) with ordinality as u (c, n)
      returning id, display_name
    )
    insert into public.completions (tenant_id, task_id, participant_id, code, deadline)
    select ${business.id}, task.id, person.id, c, now() + interval '1 day'
    from unnest(${codes}::text[]) with ordinality as u (c, n)
    join task on task.post_id = (${ids}::text[])[(n - 1) / ${perPost} + 1]
    join person on person.display_name = c`;
}

export function mixups(given: () => Scene): void {
  describe('a thousand claims of three businesses', () => {
    test('nobody’s access is used for somebody else’s account, and a wrong credential would be seen', async () => {
      const scene = given();
      const three: Business[] = [];
      for (const n of [1, 2, 3]) {
        const number = { messages_per_second: null };
        three.push(await open(scene, `mix-${n}`, { meta: 'facebook_login', whatsapp: true, number }));
      }
      const plan = { plan_id: 'enterprise' };
      const ids = three.map(({ id }) => id);
      ok(await scene.service.from('tenants').update(plan).in('id', ids).select('id'));
      for (const [index, business] of three.entries()) {
        await fill(scene, business, index + 1, index === 0 ? total - 2 * 333 : 333);
        const delays = (match: object, most: number) =>
          Array.from({ length: 80 }, () => ({ match, times: 4, do: { delay_ms: random(most) + 1 } }));
        await script(scene, 'meta', delays({ token: business.token }, 150));
        await script(scene, 'whatsapp', delays({ path: business.number }, 40));
      }
      const [last] = (await logOf(scene)).slice(-1);
      const since = last?.seq ?? 0;
      // In a wild order, as they come in life.
      await scene.admin`
        select jobs.enqueue_many('verify-social-tasks', array_agg(tenant_id order by id), array_agg(id order by id), now())
        from public.completions where tenant_id = any (${ids})`;
      const count = async () => {
        const [row] = await scene.admin`
          select count(*) filter (where c.status = 'verified')::int as verified, count(*) filter (where m.status = 'sent')::int as sent
          from public.completions c
          left join public.notification_outbox m on m.tenant_id = c.tenant_id and m.completion_id = c.id
          where c.tenant_id = any (${ids})`;
        return { ...row };
      };
      await expect.poll(count, { timeout: 90_000, interval: 250 }).toEqual({ verified: total, sent: total });
      const entries = (await logOf(scene, since)).filter(({ tenant }) => tenant?.startsWith('mix-'));
      expect(entries.length).toBeGreaterThan(total + total / perPost);
      for (const provider of ['meta', 'whatsapp']) {
        const tenants = entries.filter((one) => one.provider === provider).map(({ tenant }) => tenant);
        expect(new Set(tenants).size).toBe(3);
        const switches = tenants.filter((tenant, n) => n > 0 && tenant !== tenants[n - 1]).length;
        expect(switches, `${provider}: side by side, not one after the other`).toBeGreaterThan(10);
      }
      expect(mixedUp(await logOf(scene))).toEqual([]);

      const wrong = await open(scene, 'mix-wrong', {});
      const [thief] = three;
      ok(
        await wrong.owner.rpc('set_credential', {
          ...{ tenant_id: wrong.id, provider: 'meta', kind: 'facebook_login' },
          ...{ secret: { access_token: thief?.token }, account: { ig_user_id: wrong.ig } },
        }),
      );
      await openTask(wrong, { kind: 'instagram_comment', post_id: wrong.igPost });
      await scene.admin`
        with person as (
          insert into public.participants (tenant_id, display_name) values (${wrong.id}, 'x') returning tenant_id, id
        ),
        made as (
          insert into public.completions (tenant_id, task_id, participant_id, code, deadline)
          select t.tenant_id, t.id, p.id, 'OC-WRONGWRO', now() + interval '1 day'
          from public.social_tasks t join person p on p.tenant_id = t.tenant_id
          returning tenant_id, id
        )
        select jobs.enqueue('verify-social-tasks', m.tenant_id, m.id) from made m`;
      const seen = async () =>
        mixedUp(await logOf(scene, since)).map(({ tenant, about }) => [tenant, about.target_tenant]);
      await expect.poll(seen, { timeout: 30_000 }).toContainEqual(['mix-1', 'mix-wrong']);
    }, 180_000);
  });
}
