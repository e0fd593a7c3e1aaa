// Each kind of task: what proves it, what does not, and what becomes of the claim then. All claims are made first, so that their
// deadlines run at the same time; the tests wait for each.
import { beforeAll, describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  type Claim,
  claim,
  ended,
  isRewarded,
  join,
  link,
  messagesTo,
  meta,
  open,
  openCampaign,
  openTask,
  outbox,
  type Person,
  platformNumber,
  type Scene,
  serve,
  spinsOf,
  whatsapp,
} from './scene.ts';

interface Act {
  scene: Scene;
  business: Business;
  person: Person;
  claim: Claim;
}

interface Case {
  rule: string;
  kind: string;
  at: 'full' | 'short' | 'served';
  task?: Record<string, unknown>;
  campaign?: Record<string, unknown>;
  linked?: ('instagram' | 'facebook')[];
  isPrivate?: boolean;
  /** What the person does after the claim. */
  act?: (given: Act) => Promise<unknown>;
  /** Seconds that the claim has; left out: plenty. */
  within?: number;
  ends: 'verified' | 'failed' | 'manual_review';
  method: string | null;
  reason?: RegExp;
}

const comment =
  (surface: 'instagram' | 'facebook', text: (given: Act) => string) =>
  ({ scene, business, person, ...given }: Act) =>
    meta(scene, {
      comments: [
        {
          text: text({ scene, business, person, ...given }),
          ...(surface === 'instagram'
            ? { post_id: business.igPost, from: { id: person.igsid, username: person.username } }
            : { post_id: business.pagePost, from: { id: person.psid, name: person.name } }),
        },
      ],
    });
const withCode = ({ claim: { code } }: Act) => `So good! ${code.toLowerCase()} 🍕`;
const write =
  (text: string) =>
  ({ scene, business, person }: Act) =>
    meta(scene, { messages: [{ from: person.igsid, to: business.ig, text }] });
const photo =
  (words: (given: Act) => Record<string, unknown>) =>
  (given: Act): Promise<unknown> =>
    meta(given.scene, { posts: [{ account_id: given.person.igsid, ...words(given) }] });
const visit = ({ claim: { actionUrl } }: Act) =>
  fetch(actionUrl ?? '', { redirect: 'manual', headers: { 'user-agent': 'Mozilla/5.0 (iPhone)' } });
const signUp = async ({ business, claim: { code } }: Act) =>
  ok(await business.owner.rpc('confirm_sign_up', { tenant_id: business.id, code }));
const review = (call: 'approve' | 'reject') => async (given: Act) => {
  const args = { tenant_id: given.business.id, completion_id: given.claim.id };
  const more = call === 'approve' ? { note: 'seen' } : { reason: 'There is no such like.' };
  return ok(await given.business.owner.rpc(`${call}_completion`, { ...args, ...more }));
};
const send =
  (text: (given: Act) => string) =>
  (given: Act): Promise<unknown> =>
    whatsapp(given.scene, {
      inbound: [{ phone_number_id: given.business.number, from: given.person.waId, text: text(given) }],
    });

const keyword = { keyword: 'Margherita' };
const menu = { url: 'https://menu.example/?c={code}' };
const post = { post_id: '17900000000000009' };
const statistical = (rate: number) => ({ strategy: 'statistical', acceptance_rate: rate });

const cases: Case[] = [
  // What proves each kind
  {
    rule: 'a comment with the code',
    kind: 'instagram_comment',
    at: 'full',
    act: comment('instagram', withCode),
    ends: 'verified',
    method: 'any',
  },
  {
    rule: 'a comment with the code',
    kind: 'facebook_comment',
    at: 'full',
    act: comment('facebook', withCode),
    ends: 'verified',
    method: 'any',
  },
  {
    rule: 'a public photo that tags the account',
    kind: 'instagram_photo_tag',
    at: 'full',
    linked: ['instagram'],
    act: photo(({ business }) => ({ tags: [business.ig] })),
    ends: 'verified',
    method: 'api',
  },
  {
    rule: 'a caption that mentions the account, with the code',
    kind: 'instagram_mention',
    at: 'full',
    act: photo(({ business, claim: { code } }) => ({ caption: `Lunch at @${business.username} ${code}` })),
    ends: 'verified',
    method: 'api',
  },
  {
    rule: 'a story of the linked account',
    kind: 'instagram_story_mention',
    at: 'full',
    linked: ['instagram'],
    act: ({ scene, business, person }) =>
      meta(scene, { messages: [{ from: person.igsid, to: business.ig, story_mention: true }] }),
    ends: 'verified',
    method: 'webhook',
  },
  {
    rule: 'the keyword from the linked account',
    kind: 'instagram_dm_keyword',
    at: 'full',
    task: keyword,
    linked: ['instagram'],
    act: write('One MARGHERITA, please!'),
    ends: 'verified',
    method: 'webhook',
  },
  {
    rule: 'a follower who has written to the account',
    kind: 'instagram_follow',
    at: 'full',
    linked: ['instagram'],
    act: ({ scene, business, person }) =>
      meta(scene, { people: [{ igsid: person.igsid, username: person.username, follows: [business.ig] }] }),
    ends: 'verified',
    method: 'api',
  },
  {
    rule: 'a reaction of the linked account',
    kind: 'facebook_reaction',
    at: 'full',
    linked: ['facebook'],
    act: ({ scene, business, person }) =>
      meta(scene, {
        reactions: [{ post_id: business.pagePost, from: { id: person.psid, name: person.name } }],
      }),
    ends: 'verified',
    method: 'any',
  },
  {
    rule: 'a message with the code to the business’s number',
    kind: 'whatsapp_join',
    at: 'full',
    act: send(withCode),
    ends: 'verified',
    method: 'webhook',
  },
  {
    rule: 'a message with the code to the platform’s number',
    kind: 'whatsapp_join',
    at: 'served',
    act: ({ scene, person, claim: { code } }) =>
      whatsapp(scene, {
        inbound: [{ phone_number_id: platformNumber, from: person.waId, text: `Hi ${code}` }],
      }),
    ends: 'verified',
    method: 'webhook',
  },
  {
    rule: 'the link that was opened',
    kind: 'link_visit',
    at: 'full',
    task: menu,
    act: visit,
    ends: 'verified',
    method: 'link',
  },
  {
    rule: 'the sign-up that the business confirms',
    kind: 'link_sign_up',
    at: 'full',
    task: menu,
    act: signUp,
    ends: 'verified',
    method: 'link',
  },
  {
    rule: 'a person who accepts it',
    kind: 'instagram_like',
    at: 'full',
    task: post,
    act: review('approve'),
    ends: 'verified',
    method: 'manual',
  },
  {
    rule: 'the honour system, by nothing',
    kind: 'facebook_page_like',
    at: 'full',
    campaign: { strategy: 'honor_system' },
    ends: 'verified',
    method: 'honor_system',
    reason: /nothing was proven/,
  },
  {
    rule: 'a draw of 100 %, by nothing',
    kind: 'x_follow',
    at: 'full',
    campaign: statistical(1),
    ends: 'verified',
    method: 'statistical',
    reason: /by a draw, not by a proof/,
  },
  {
    rule: 'a person who accepts it',
    kind: 'x_repost',
    at: 'full',
    task: post,
    act: review('approve'),
    ends: 'verified',
    method: 'manual',
  },

  // What does not
  {
    rule: 'a comment without the code, by an account that is not linked',
    kind: 'instagram_comment',
    at: 'full',
    act: comment('instagram', () => 'So good!'),
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /not_found/,
  },
  {
    rule: 'a comment without the code, by an account that is not linked',
    kind: 'facebook_comment',
    at: 'full',
    act: comment('facebook', () => 'So good!'),
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /not_found/,
  },
  {
    rule: 'no photo',
    kind: 'instagram_photo_tag',
    at: 'full',
    linked: ['instagram'],
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /not_found/,
  },
  {
    rule: 'a photo of a private account, which nobody is shown',
    kind: 'instagram_photo_tag',
    at: 'full',
    linked: ['instagram'],
    isPrivate: true,
    act: photo(({ business }) => ({ tags: [business.ig] })),
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /not_found/,
  },
  {
    rule: 'a login that shows no tags',
    kind: 'instagram_photo_tag',
    at: 'short',
    act: photo(({ business }) => ({ tags: [business.ig] })),
    within: 4,
    ends: 'manual_review',
    method: null,
    reason: /only an account connected through Facebook Login/,
  },
  {
    rule: 'a login that shows no mentions',
    kind: 'instagram_mention',
    at: 'short',
    within: 4,
    ends: 'manual_review',
    method: null,
    reason: /only an account connected through Facebook Login/,
  },
  {
    rule: 'a mention by somebody else',
    kind: 'instagram_mention',
    at: 'full',
    act: ({ scene, business }) =>
      arrive(scene, 'passer').then((other) =>
        meta(scene, { posts: [{ account_id: other.igsid, caption: `@${business.username}` }] }),
      ),
    within: 6,
    ends: 'manual_review',
    method: null,
    reason: /no mention by this person was seen/,
  },
  {
    rule: 'a mention by a private account, which nobody is told of',
    kind: 'instagram_mention',
    at: 'full',
    isPrivate: true,
    act: photo(({ business, claim: { code } }) => ({ caption: `@${business.username} ${code}` })),
    within: 6,
    ends: 'manual_review',
    method: null,
    reason: /no mention by this person was seen/,
  },
  {
    rule: 'a story of an account that is not linked',
    kind: 'instagram_story_mention',
    at: 'full',
    act: ({ scene, business, person }) =>
      meta(scene, { messages: [{ from: person.igsid, to: business.ig, story_mention: true }] }),
    within: 4,
    ends: 'manual_review',
    method: null,
    reason: /which proves nothing/,
  },
  {
    rule: 'another word',
    kind: 'instagram_dm_keyword',
    at: 'full',
    task: keyword,
    linked: ['instagram'],
    act: write('One Margheritas'),
    within: 4,
    ends: 'manual_review',
    method: null,
    reason: /which proves nothing/,
  },
  {
    rule: 'somebody who does not follow',
    kind: 'instagram_follow',
    at: 'full',
    linked: ['instagram'],
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /not_following/,
  },
  {
    rule: 'somebody who never writes to the account',
    kind: 'instagram_follow',
    at: 'full',
    within: 6,
    ends: 'failed',
    method: 'api',
    reason: /the step that was asked for was not taken/,
  },
  {
    rule: 'a linked account that is not listed',
    kind: 'facebook_reaction',
    at: 'full',
    linked: ['facebook'],
    within: 6,
    ends: 'manual_review',
    method: null,
    reason: /which proves nothing/,
  },
  {
    rule: 'a message without the code',
    kind: 'whatsapp_join',
    at: 'full',
    act: send(() => 'Hello'),
    within: 4,
    ends: 'manual_review',
    method: null,
    reason: /which proves nothing/,
  },
  {
    rule: 'a link that nobody opened',
    kind: 'link_visit',
    at: 'full',
    task: menu,
    within: 4,
    ends: 'failed',
    method: 'link',
    reason: /not opened in time/,
  },
  {
    rule: 'a sign-up that nobody confirmed',
    kind: 'link_sign_up',
    at: 'full',
    task: menu,
    within: 4,
    ends: 'failed',
    method: 'link',
    reason: /not confirmed in time/,
  },
  {
    rule: 'a person who turns it down',
    kind: 'instagram_like',
    at: 'full',
    task: post,
    act: review('reject'),
    ends: 'failed',
    method: 'manual',
    reason: /There is no such like/,
  },
  {
    rule: 'a draw of 0 %',
    kind: 'facebook_page_like',
    at: 'full',
    campaign: statistical(0),
    ends: 'failed',
    method: 'statistical',
    reason: /not accepted by a draw/,
  },
  {
    rule: 'nobody who has looked yet',
    kind: 'x_follow',
    at: 'full',
    ends: 'manual_review',
    method: null,
    reason: /a person decides/,
  },
  {
    rule: 'a person who turns it down',
    kind: 'x_repost',
    at: 'full',
    task: post,
    act: review('reject'),
    ends: 'failed',
    method: 'manual',
    reason: /There is no such like/,
  },
];

const postOf = (kind: string, business: Business): Record<string, unknown> =>
  kind === 'instagram_comment'
    ? { post_id: business.igPost }
    : kind === 'facebook_comment' || kind === 'facebook_reaction'
      ? { post_id: business.pagePost }
      : {};

export function kinds(given: () => Scene): void {
  describe('each kind of task', () => {
    const made = new Map<Case, Act>();

    beforeAll(async () => {
      const scene = given();
      const at = {
        full: await open(scene, 'pizza-place', { meta: 'facebook_login', whatsapp: true, webhooks: true }),
        short: await open(scene, 'gym-place', { meta: 'instagram_login' }),
        served: await open(scene, 'salon-place', {}),
      };
      await serve(scene, at.served);
      const begin = async (one: Case) => {
        const business = at[one.at];
        const person = await arrive(scene, one.kind.slice(0, 12), one.isPrivate);
        const campaign = one.campaign ? await openCampaign(business, one.campaign) : business.campaign;
        await join(business, person, { campaign });
        for (const platform of one.linked ?? []) await link(scene, business, person, platform);
        const task = await openTask(business, {
          ...{ kind: one.kind, campaign_id: campaign, ...postOf(one.kind, business), ...one.task },
          ...(one.within === undefined ? {} : { verify_within: `${one.within} seconds` }),
        });
        const act = { scene, business, person, claim: await claim(business, person, task) };
        made.set(one, act);
        await one.act?.(act);
      };
      // A few at a time: they share two processor cores with the stack.
      const waiting = [...cases];
      const next = async (): Promise<void> => {
        for (let one = waiting.shift(); one; one = waiting.shift()) await begin(one);
      };
      await Promise.all(Array.from({ length: 8 }, next));
    }, 120_000);

    const actOf = (one: Case): Act => {
      const act = made.get(one);
      if (!act) throw new Error('this claim was not made');
      return act;
    };

    test('all of them are here, with a yes and a no', () => {
      const of = (...ends: Case['ends'][]) =>
        [...new Set(cases.filter((one) => ends.includes(one.ends)).map(({ kind }) => kind))].sort();
      expect(of('verified')).toHaveLength(15);
      expect(of('failed', 'manual_review')).toEqual(of('verified'));
    });

    test.each(cases.filter(({ ends }) => ends === 'verified'))('$kind is proven by $rule', async (one) => {
      const { scene, business, person, claim: mine } = actOf(one);
      const { method, reason } = await ended(scene, person, mine, 'verified');
      if (one.method === 'any') expect(['api', 'webhook']).toContain(method);
      else expect(method).toBe(one.method);
      if (one.reason) expect(reason).toMatch(one.reason);
      await isRewarded(scene, business, person, mine);
    });

    test.each(cases.filter(({ ends }) => ends !== 'verified'))(
      '$kind is not proven by $rule',
      async (one) => {
        const { scene, business, person, claim: mine } = actOf(one);
        const { method, reason } = await ended(scene, person, mine, one.ends);
        expect(method).toBe(one.method);
        expect(reason).toMatch(one.reason ?? /./);
        expect(await spinsOf(person, mine)).toEqual([]);
        const texts = (await outbox(business, mine)).map(({ kind }) => kind);
        expect(texts).toEqual(method === 'manual' ? ['review_result'] : []);
      },
    );

    test('whoever was turned down by a person is told why', async () => {
      for (const one of cases.filter(({ ends, method }) => ends === 'failed' && method === 'manual')) {
        const { scene, business, person, claim: mine } = actOf(one);
        const sent = async () => (await outbox(business, mine)).map(({ status }) => status);
        await expect.poll(sent, { timeout: 30_000 }).toEqual(['sent']);
        const texts = (await messagesTo(scene, person)).map(({ text }) => text);
        expect(texts).toEqual([expect.stringContaining('There is no such like.')]);
      }
    });

    test('what was drawn or believed is marked as an estimate', async () => {
      const { business } = actOf(cases[0] as Case);
      const rows = ok(
        await business.owner
          .from('verification_summary')
          .select('method, is_estimate')
          .eq('tenant_id', business.id),
      ) as { method: string | null; is_estimate: boolean }[];
      const marked = new Set(rows.filter((row) => row.is_estimate).map(({ method }) => method));
      expect(marked).toEqual(new Set(['honor_system', 'statistical']));
      expect(rows.filter((row) => !row.is_estimate).length).toBeGreaterThan(5);
    });

    test('every webhook came twice and was stored once', async () => {
      const { scene, business } = actOf(cases[0] as Case);
      const [row] = await scene.admin`
        select count(*)::int as rows, min(deliveries)::int as least from private.webhook_events where tenant_id = ${business.id}`;
      expect(row?.rows).toBeGreaterThan(5);
      expect(row?.least).toBeGreaterThanOrEqual(2);
    });
  });
}
