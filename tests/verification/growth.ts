// A strategy that goes by the growth of the follower count: the numbers are measured at Meta by the real worker, and they decide.
import { describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  claim,
  ended,
  isRewarded,
  join,
  look,
  meta,
  open,
  openTask,
  type Scene,
  script,
  spinsOf,
  until,
} from './scene.ts';

const dayOf = (daysAgo: number): string =>
  new Date(Date.now() - daysAgo * 86_400_000).toISOString().slice(0, 10);

/** A business whose likes are believed as far as its Page grew. The rate says the opposite of what the growth will say. */
async function scenario(scene: Scene, slug: string, acceptance_rate: number) {
  const campaign = { strategy: 'statistical', statistical_basis: 'follower_growth', acceptance_rate };
  const business = await open(scene, slug, { meta: 'facebook_login', campaign });
  const person = await arrive(scene, slug.slice(0, 8));
  await join(business, person);
  const made = await claim(business, person, await openTask(business, { kind: 'facebook_page_like' }));
  expect((await look(person, made)).status).toBe('pending');
  // The claim was made yesterday, and yesterday's count was noted then.
  await scene.admin`
    update public.completions set claimed_at = claimed_at - interval '1 day' where id = ${made.id}`;
  const engine = scene.service.schema('jobs');
  const noted = { tenant_id: business.id, platform: 'facebook', followers: 100, day: dayOf(1) };
  expect(ok(await engine.rpc('record_follower_count', noted))).toBe(true);
  return { business, person, made };
}

/** As a monitor or an admin starts it. */
async function runJob(scene: Scene): Promise<unknown> {
  const { functions_url, cron_secret } = scene.stack.info;
  const response = await fetch(`${functions_url}/jobs/measure-followers`, {
    method: 'POST',
    headers: { authorization: `Bearer ${cron_secret}` },
  });
  expect(response.status).toBe(200);
  return await response.json();
}

const countsOf = async ({ owner, id }: Business) => {
  const rows = await owner
    .from('follower_counts')
    .select('platform, followers, day, account_id')
    .eq('tenant_id', id);
  return ok(rows) as { platform: string; followers: number; day: string; account_id: string | null }[];
};

export function growth(given: () => Scene): void {
  describe('followers that are measured', () => {
    test('decide by how many they became in the day of the claim, whatever the rate says', async () => {
      const scene = given();
      const [growing, still, other] = await Promise.all([
        scenario(scene, 'growing', 0),
        scenario(scene, 'standing-still', 1),
        open(scene, 'unmeasured', { meta: 'facebook_login' }),
      ]);
      await meta(scene, {
        followers: [
          { account_id: growing.business.page, count: 107 },
          { account_id: growing.business.ig, count: 5000 },
          { account_id: still.business.page, count: 100 },
          { account_id: other.page, count: 9 },
        ],
      });
      // One of them meets Meta's limit first: its lane sleeps, and it is counted afterwards.
      const match = { token: still.business.token, path: still.business.page };
      await script(scene, 'meta', { match, do: { error: { code: 80001 }, retry_after: 2 } });
      await runJob(scene);
      for (const [{ business }, followers] of [
        [growing, 107],
        [still, 100],
      ] as const) {
        const mine = { platform: 'facebook', day: dayOf(0), account_id: business.page };
        await until(
          () => countsOf(business),
          (are) => expect(are).toContainEqual({ ...mine, followers }),
        );
      }
      // Nobody follows the Instagram account for a task, and the third business does not go by growth.
      expect(await countsOf(growing.business)).toHaveLength(2);
      expect(await countsOf(other)).toEqual([]);

      await scene.admin`
        update public.completions set settle_at = now() where id in (${growing.made.id}, ${still.made.id})`;
      const yes = await ended(scene, growing.person, growing.made, 'verified');
      expect(yes).toMatchObject({
        method: 'statistical',
        reason: expect.stringMatching(/^accepted by a draw/),
      });
      const no = await ended(scene, still.person, still.made, 'failed');
      expect(no).toMatchObject({ method: 'statistical', reason: expect.stringMatching(/^not accepted/) });
      await isRewarded(scene, growing.business, growing.person, growing.made);
      expect(await spinsOf(still.person, still.made)).toEqual([]);
      for (const [{ business, made }, gained] of [
        [growing, 7],
        [still, 0],
      ] as const) {
        const decisions = business.owner.from('completion_decisions').select('evidence');
        const rows = ok(await decisions.eq('completion_id', made.id)) as { evidence: unknown }[];
        const evidence = { basis: 'follower_growth', growth: gained, claims: 1, day: dayOf(1) };
        expect(rows).toMatchObject([{ evidence }]);
      }

      // The first count of a day stays: nothing is asked again.
      await meta(scene, { followers: [{ account_id: growing.business.page, by: 50 }] });
      const again = await runJob(scene);
      expect(again).toMatchObject({ results: { processed: 0, errors: [] } });
      expect((await countsOf(growing.business)).map(({ followers }) => followers).toSorted()).toEqual([
        100, 107,
      ]);
    });
  });
}
