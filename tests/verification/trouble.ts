// What goes wrong on the way, and that no claim is lost or decided wrongly for it: limits, expired access, people who have to write
// first, posts that cannot be read; and which credential is asked at all.
import { describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  type Claim,
  claim,
  connectMeta,
  ended,
  isRewarded,
  join,
  look,
  meta,
  open,
  openTask,
  type Person,
  type Scene,
  script,
  serve,
  spinsOf,
  until,
} from './scene.ts';

const lane = async (scene: Scene, business: Business): Promise<string | null> => {
  const [row] = await scene.admin`
    select reason from jobs.lanes where job = 'verify-social-tasks' and tenant_id = ${business.id}`;
  return (row?.reason as string | null) ?? null;
};
const attemptsOf = async (scene: Scene, made: Claim): Promise<number[]> => {
  const rows = await scene.admin`select attempts from jobs.items where subject_id = ${made.id}`;
  return rows.map((row) => row.attempts as number);
};
const comment = (scene: Scene, business: Business, person: Person, text: string) =>
  meta(scene, {
    comments: [{ post_id: business.igPost, text, from: { id: person.igsid, username: person.username } }],
  });

/** A business, a person who takes part, and a claim for a comment. */
async function scenario(scene: Scene, slug: string, opening: Parameters<typeof open>[2]) {
  const business = await open(scene, slug, opening);
  const person = await arrive(scene, slug.slice(0, 8));
  await join(business, person);
  const task = await openTask(business, { kind: 'instagram_comment', post_id: business.igPost });
  return { business, person, task };
}

export function trouble(given: () => Scene): void {
  describe.concurrent('trouble on the way', () => {
    test('over the limit the lane sleeps, no attempt is burnt, and the claim is verified afterwards', async () => {
      const scene = given();
      const { business, person, task } = await scenario(scene, 'limited', { meta: 'facebook_login' });
      const match = { token: business.token, path: '/comments' };
      await script(scene, 'meta', { match, do: { error: { code: 80002 }, retry_after: 4 } });
      const made = await claim(business, person, task);
      await comment(scene, business, person, made.code);
      await until(
        () => lane(scene, business),
        (is) => expect(is).toBe('rate limit'),
      );
      expect(await attemptsOf(scene, made)).toEqual([0]);
      expect((await look(person, made)).status).toBe('pending');
      await ended(scene, person, made, 'verified');
      await isRewarded(scene, business, person, made);
    });

    test('expired access parks the work and says so; with new access it goes on', async () => {
      const scene = given();
      const { business, person, task } = await scenario(scene, 'expired', { meta: 'facebook_login' });
      const health = async () => {
        const rows = ok(await business.owner.rpc('list_credentials', { tenant_id: business.id }));
        return (rows as { state: string; health: string; advice: string }[])[0];
      };
      await meta(scene, {
        tokens: [
          {
            ...{ token: business.token, tenant: business.slug, kind: 'page' },
            ...{ accounts: [business.page, business.ig], broken: { subcode: 463 } },
          },
        ],
      });
      const made = await claim(business, person, task);
      await comment(scene, business, person, made.code);
      await until(
        () => lane(scene, business),
        (is) => expect(is).toBe('breaker'),
      );
      expect(await health()).toMatchObject({
        ...{ state: 'expired', health: 'broken' },
        advice: expect.stringContaining('again'),
      });
      expect(await attemptsOf(scene, made)).toEqual([0]);
      await connectMeta(scene, business);
      await ended(scene, person, made, 'verified');
      expect((await health())?.health).not.toBe('broken');
      await isRewarded(scene, business, person, made);
    });

    test('an account that has not written yet is asked to, and goes on when it has', async () => {
      const scene = given();
      const { business, person } = await scenario(scene, 'shy', { meta: 'facebook_login', webhooks: true });
      const stranger = await arrive(scene, 'stranger');
      await join(business, stranger);
      // Linked by a comment: Instagram still tells nothing of the profile (230).
      const linking = await person.api.rpc('start_linking', {
        tenant_id: business.id,
        platform: 'instagram',
      });
      await comment(scene, business, person, `${(ok(linking) as { code: string }).code}`);
      const accounts = async () =>
        ok(await person.api.from('linked_accounts').select('external_id').eq('tenant_id', business.id));
      await until(accounts, (are) => expect(are).toEqual([{ external_id: person.igsid }]));
      const task = await openTask(business, { kind: 'instagram_follow' });
      for (const who of [person, stranger]) {
        const made = await claim(business, who, task);
        const asked = await ended(scene, who, made, 'needs_user_action');
        expect(asked.reason).toMatch(/open the link and send the message/);
        const { action_url } = await look(who, made);
        expect(action_url).toBe(`https://ig.me/m/${business.username}?ref=${made.code}`);
        await meta(scene, {
          people: [{ igsid: who.igsid, username: who.username, follows: [business.ig] }],
          messages: [{ from: who.igsid, to: business.ig, text: 'Hello', ref: made.code }],
        });
        await ended(scene, who, made, 'verified');
        await isRewarded(scene, business, who, made);
      }
    });

    test('a post that cannot be read proves nothing: a person decides', async () => {
      const scene = given();
      const { business, person } = await scenario(scene, 'foreign', { meta: 'facebook_login' });
      const within = { verify_within: '3 seconds' };
      const task = await openTask(business, {
        ...{ kind: 'instagram_comment', post_id: '17900000099999999', ...within },
      });
      const made = await claim(business, person, task);
      const { reason } = await ended(scene, person, made, 'manual_review');
      expect(reason).toMatch(/Meta 100\/33: .*does not exist or this account may not see it/);
      expect(await spinsOf(person, made)).toEqual([]);
    });

    test('an empty page that has a next one is not the end', async () => {
      const scene = given();
      const { business, person, task } = await scenario(scene, 'holes', { meta: 'facebook_login' });
      const made = await claim(business, person, task);
      await comment(scene, business, person, made.code);
      const match = { token: business.token, path: '/comments' };
      await script(scene, 'meta', { match, times: 2, do: { empty_page: true } });
      const { method } = await ended(scene, person, made, 'verified');
      expect(method).toBe('api');
      await isRewarded(scene, business, person, made);
    });

    test('reactions of which only the number is told prove nothing', async () => {
      const scene = given();
      const campaign = { username_match: true };
      const { business, person } = await scenario(scene, 'counting', { meta: 'facebook_login', campaign });
      await join(business, person, { facebook_user_id: person.psid });
      const from = { id: person.psid, name: person.name };
      await meta(scene, {
        accounts: [{ id: business.page, kind: 'page', tenant: business.slug, reactions: 'counts' }],
        reactions: [{ post_id: business.pagePost, from }],
      });
      const liked = { kind: 'facebook_reaction', post_id: business.pagePost, verify_within: '3 seconds' };
      const made = await claim(business, person, await openTask(business, liked));
      const { reason } = await ended(scene, person, made, 'manual_review');
      expect(reason).toMatch(/how many reacted, but not who/);
    });
  });

  describe.concurrent('who is asked', () => {
    test('the own credential, else the platform’s where the task allows it, else the strategy', async () => {
      const scene = given();
      const campaign = { strategy: 'honor_system' };
      const own = await open(scene, 'order-own', { meta: 'facebook_login', campaign });
      const served = await open(scene, 'order-served', { campaign });
      await serve(scene, own, served);
      const outcome = async (business: Business, platform_credential_allowed: boolean) => {
        const person = await arrive(scene, 'order');
        await join(business, person);
        const on = { kind: 'instagram_comment', post_id: business.igPost };
        const made = await claim(
          business,
          person,
          await openTask(business, { ...on, platform_credential_allowed }),
        );
        await comment(scene, business, person, made.code);
        const { method, credential_source } = await ended(scene, person, made, 'verified');
        await isRewarded(scene, business, person, made);
        return { method, credential_source };
      };
      const api = { method: 'api' };
      expect(await outcome(own, true)).toEqual({ ...api, credential_source: 'tenant' });
      expect(await outcome(own, false)).toEqual({ ...api, credential_source: 'tenant' });
      expect(await outcome(served, true)).toEqual({ ...api, credential_source: 'platform' });
      expect(await outcome(served, false)).toEqual({ method: 'honor_system', credential_source: null });
    });
  });

  describe.concurrent('without webhooks', () => {
    /** The same people, deeds and deadlines, at a business that is told and at one that has to look. */
    async function run(scene: Scene, slug: string, webhooks: boolean) {
      const campaign = { username_match: true };
      const business = await open(scene, slug, { meta: 'facebook_login', campaign, webhooks });
      const { igPost, pagePost, ig } = business;
      const acts: Record<string, (person: Person) => Promise<unknown>> = {
        instagram_comment: (person) => comment(scene, business, person, 'So good!'),
        facebook_comment: ({ psid, name }) =>
          meta(scene, { comments: [{ post_id: pagePost, text: 'So good!', from: { id: psid, name } }] }),
        instagram_photo_tag: ({ igsid }) => meta(scene, { posts: [{ account_id: igsid, tags: [ig] }] }),
        facebook_reaction: ({ psid, name }) =>
          meta(scene, { reactions: [{ post_id: pagePost, from: { id: psid, name } }] }),
      };
      const results: Record<string, unknown> = {};
      const methods = new Set<string | null>();
      await Promise.all(
        Object.entries(acts).flatMap(([kind, act]) =>
          [true, false].map(async (acted) => {
            const person = await arrive(scene, slug);
            await join(business, person, {
              ...{ instagram_username: person.username, facebook_user_id: person.psid },
            });
            const post_id = { instagram_comment: igPost, instagram_photo_tag: null }[kind];
            const task = await openTask(business, {
              ...{ kind, post_id: post_id === undefined ? pagePost : post_id },
              ...(acted ? {} : { verify_within: '5 seconds' }),
            });
            const made = await claim(business, person, task);
            if (acted) await act(person);
            const not = kind === 'facebook_reaction' ? 'manual_review' : 'failed';
            const { status, method, reason } = await ended(scene, person, made, acted ? 'verified' : not);
            if (acted) methods.add(method);
            results[`${kind}, ${acted ? 'done' : 'not done'}`] = [
              status,
              reason,
              await spinsOf(person, made),
            ];
          }),
        ),
      );
      const [told] = await scene.admin`
        select count(*)::int as n from private.webhook_events where tenant_id = ${business.id}`;
      return { results, methods, told: told?.n as number };
    }

    test('looking alone comes to the same results as being told', async () => {
      const scene = given();
      const [sunny, shady] = await Promise.all([run(scene, 'sunny', true), run(scene, 'shady', false)]);
      expect(shady.results).toEqual(sunny.results);
      expect(Object.keys(shady.results)).toHaveLength(8);
      // Whoever is first decides: the webhook that was told, or the worker that looked meanwhile.
      expect(sunny.told).toBeGreaterThan(0);
      expect(shady.methods).toEqual(new Set(['api']));
      expect(shady.told).toBe(0);
    });

    test('a follower who links by a comment and then writes is verified by looking alone', async () => {
      const scene = given();
      const { business, person, task } = await scenario(scene, 'quiet', { meta: 'facebook_login' });
      const linking = { tenant_id: business.id, platform: 'instagram' };
      const { code } = ok(await person.api.rpc('start_linking', linking)) as { code: string };
      await comment(scene, business, person, code);
      const accounts = async () =>
        ok(await person.api.from('linked_accounts').select('external_id').eq('tenant_id', business.id));
      // Some claim about the post has its comments read.
      await claim(business, person, task);
      await until(accounts, (are) => expect(are).toEqual([{ external_id: person.igsid }]));
      const made = await claim(business, person, await openTask(business, { kind: 'instagram_follow' }));
      await ended(scene, person, made, 'needs_user_action');
      await meta(scene, {
        people: [{ igsid: person.igsid, username: person.username, follows: [business.ig] }],
        messages: [{ from: person.igsid, to: business.ig, text: 'Hello' }],
      });
      // Instagram is asked again after a quarter of an hour: that is now.
      expect(
        await scene.admin`select jobs.hurry('verify-social-tasks', ${business.id}, array[${made.id}::uuid]) as n`,
      ).toEqual([{ n: 1 }]);
      expect(await ended(scene, person, made, 'verified')).toMatchObject({ method: 'api' });
      expect(await spinsOf(person, made)).toEqual([3]);
    });
  });
}
