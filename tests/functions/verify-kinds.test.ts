// Each kind of task against the simulator, over HTTP: what proves it, what disproves it, and what does neither.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Credential, PostReading } from '../../functions/_shared/engine.ts';
import { createHttp } from '../../functions/_shared/http.ts';
import type { ItemOutcome } from '../../functions/_shared/outcome.ts';
import { createMeta } from '../../functions/_shared/providers/meta.ts';
import { createVerifySocialTasks } from '../../functions/worker/jobs/verify-social-tasks.ts';
import {
  demo,
  type LogEntry,
  type MetaWorldInput,
  type Simulators,
  startSimulators,
} from '../../scripts/simulators/index.ts';
import { item, jobContext, memoryLog, work } from './fakes.ts';

let simulators: Simulators;
const pizza = demo['pizza-shop'].meta;
const gym = demo.gym.meta;
const pagePost = `${pizza.page_id}_77`;
const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();

const own: Credential = {
  credential_id: '1',
  provider: 'meta',
  kind: 'facebook_login',
  source: 'tenant',
  account: { page_id: pizza.page_id, ig_user_id: pizza.ig_user_id },
  secret: { access_token: pizza.access_token },
};
const instagramLogin: Credential = {
  ...own,
  kind: 'instagram_login',
  account: { ig_user_id: gym.ig_user_id },
  secret: { access_token: gym.access_token },
};

async function send(path: string, body: unknown): Promise<void> {
  const response = await fetch(`${simulators.urls.meta}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
}
const world = (change: MetaWorldInput) => send('/_world', change);
const script = (behaviour: unknown) => send('/_script', behaviour);

beforeAll(async () => {
  simulators = await startSimulators({ only: ['meta'] });
  await world({
    accounts: [{ id: pizza.page_id, kind: 'page', tenant: 'pizza-shop', name: 'Pizza', reactions: 'list' }],
    posts: [{ id: pagePost, account_id: pizza.page_id, like_count: 3 }],
    people: ['jane', 'joe', 'shy'].map((username, n) => ({
      igsid: `50${n}`,
      username,
      is_private: username === 'shy',
    })),
  });
});
beforeEach(() => simulators.requests.clear());
afterEach(async () => {
  await fetch(`${simulators.urls.meta}/_script`, { method: 'DELETE' });
});
afterAll(() => simulators.stop());

/** The requests that reached Meta; the parts of a batch call are not requests of their own. */
const calls = (): LogEntry[] => simulators.requests.list().filter((entry) => entry.batch === undefined);

async function run(items: ReturnType<typeof item>[], credential: Credential | null = own) {
  const http = createHttp({ fetch: (url, init) => fetch(url, init), timeoutMs: 2_000 });
  const { META_GRAPH_URL: graphUrl, META_INSTAGRAM_URL: instagramUrl } = simulators.env;
  const job = createVerifySocialTasks({
    meta: createMeta({ http, graphUrl, instagramUrl }),
    maximumPages: 5,
  });
  const { log, lines } = memoryLog();
  const readings: PostReading[] = [];
  const context = jobContext({
    now: () => new Date(),
    log,
    recordComments: async (post) => {
      readings.push(post);
    },
  });
  await job(work(items, credential), context);
  const outcomes = context.outcomes.toSorted((a, b) => a.item_id - b.item_id);
  return { outcomes, lines, readings };
}

const claim = (itemId: number, kind: string, changes: Record<string, unknown> = {}) =>
  item(itemId, {
    completion_id: `c${itemId}`,
    kind,
    post_id: null,
    code: `OC-0000000${itemId}`,
    author: { instagram_id: null, instagram_username: null, facebook_id: null },
    since: ago(60),
    deadline: ago(-60),
    recheck_seconds: 300,
    known: null,
    stop_at: null,
    mentions: [],
    ...changes,
  });
const late = () => ({ deadline: ago(1) });
const by = (igsid: string | null, username: string | null = null) => ({
  author: { instagram_id: igsid, instagram_username: username, facebook_id: null },
});
const verdicts = (outcomes: ItemOutcome[]) =>
  outcomes.map((outcome) => (outcome.outcome === 'done' ? outcome.result.verdict : outcome.outcome));
const notYet = { outcome: 'snooze', seconds: 300, reason: 'not found yet' };

describe('a photo tag', () => {
  const tag = (itemId: number, changes: Record<string, unknown> = {}) =>
    claim(itemId, 'instagram_photo_tag', changes);
  beforeAll(() =>
    world({
      posts: [
        { id: 'old-photo', account_id: '501', at: ago(600), tags: [pizza.ig_user_id] },
        { id: 'photo', account_id: '500', at: ago(10), tags: [pizza.ig_user_id] },
        { id: 'hidden-photo', account_id: '502', at: ago(10), tags: [pizza.ig_user_id] },
      ],
    }),
  );

  test('of a person who is known by name verifies, by ids, name and time only', async () => {
    const { outcomes } = await run([tag(1, by(null, '@Jane'))]);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'done',
        result: {
          verdict: 'verified',
          evidence: { media_id: 'photo', author_username: 'jane', at: expect.any(String) },
        },
      },
    ]);
  });

  test('that is not there is looked for again, and after the deadline it failed', async () => {
    const { outcomes } = await run([
      tag(1, by(null, 'nobody')),
      tag(2, { ...by(null, 'nobody'), ...late() }),
    ]);
    expect(outcomes[0]).toMatchObject(notYet);
    expect(outcomes[1]).toMatchObject({ result: { verdict: 'failed', reason: 'not_found' } });
  });

  test('from before the claim’s start, and one of a private account, do not count', async () => {
    const { outcomes } = await run([tag(1, by(null, 'joe')), tag(2, by(null, 'shy'))]);
    expect(outcomes).toMatchObject([notYet, notYet]);
  });

  test('takes one reading for all claims of the account', async () => {
    await run(Array.from({ length: 9 }, (_, n) => tag(n + 1, by(null, `person${n}`))));
    expect(calls().map((entry) => entry.about.edge)).toEqual(['tags', 'tags']);
  });

  test('is found on a later page, though no page says that there is a next one', async () => {
    await world({
      posts: [
        { id: 'deep', account_id: '501', at: ago(5), tags: [pizza.ig_user_id] },
        ...Array.from({ length: 130 }, (_, n) => ({
          id: `crowd-${n}`,
          account_id: '500',
          at: ago(1),
          tags: [pizza.ig_user_id],
        })),
      ],
    });
    const { outcomes } = await run([tag(1, by(null, 'joe'))]);
    expect(outcomes).toMatchObject([{ result: { verdict: 'verified', evidence: { media_id: 'deep' } } }]);
    expect(calls()).toHaveLength(2);
    const posts = ['deep', ...Array.from({ length: 130 }, (_, n) => `crowd-${n}`)];
    await world({ remove: { posts } });
  });

  test('of a person who is known by id only is matched by the name that Meta tells for the id', async () => {
    await world({ messages: [{ from: '500', to: pizza.ig_user_id, text: 'hi' }] });
    const { outcomes } = await run([tag(1, by('500'))]);
    expect(verdicts(outcomes)).toEqual(['verified']);
  });

  test('of a person whose name has changed since the link is found before a no is said', async () => {
    await world({ messages: [{ from: '500', to: pizza.ig_user_id, text: 'hi' }] });
    const { outcomes } = await run([
      tag(1, by('500', 'jane.before')),
      tag(2, { ...by('500', 'jane.before'), ...late() }),
    ]);
    expect(verdicts(outcomes)).toEqual(['snooze', 'verified']);
  });

  test('of somebody without any name is unknown, never failed', async () => {
    const { outcomes } = await run([tag(1, late()), tag(2, { ...by('501'), ...late() })]);
    expect(outcomes).toMatchObject([
      { result: { verdict: 'unknown', reason: expect.stringContaining('name') } },
      { result: { verdict: 'unknown' } },
    ]);
  });

  test.each<[string, Credential, string]>([
    ['an Instagram login', instagramLogin, 'Facebook Login'],
    ['the platform’s access', { ...own, source: 'platform' }, 'platform'],
    ['a credential without the account', { ...own, account: {} }, 'ig_user_id'],
  ])('can’t be read with %s: unknown, with the reason in words', async (_name, credential, words) => {
    const { outcomes } = await run([tag(1, { ...by(null, 'jane'), ...late() })], credential);
    expect(outcomes).toMatchObject([
      { result: { verdict: 'unknown', reason: expect.stringContaining(words) } },
    ]);
    expect(calls()).toEqual([]);
  });

  test('without the permission for tags is unknown, and the comments of the tenant are still read', async () => {
    await script({ match: { path: '/tags' }, times: 'always', do: { error: { code: 10 } } });
    const { outcomes } = await run([
      tag(1, { ...by(null, 'jane'), ...late() }),
      claim(2, 'facebook_comment', { post_id: pagePost, ...late() }),
    ]);
    expect(verdicts(outcomes)).toEqual(['unknown', 'failed']);
  });
});

describe('a mention', () => {
  const place = (media_id: string, comment_id: string | null = null) => ({
    media_id,
    comment_id,
    signal_id: 's',
  });
  const mention = (itemId: number, mentions: unknown[], changes: Record<string, unknown> = {}) =>
    claim(itemId, 'instagram_mention', { mentions, ...changes });
  beforeAll(() =>
    world({
      posts: [
        { id: 'caption', account_id: '500', caption: 'lunch at @pizza.shop', at: ago(9) },
        { id: 'other', account_id: '501', caption: 'lunch', at: ago(9) },
        { id: 'shy-one', account_id: '502', caption: '@pizza.shop', at: ago(9) },
      ],
      comments: [
        {
          id: 'in-comment',
          post_id: 'other',
          text: '@pizza.shop is better',
          from: { id: '500', username: 'jane' },
          at: ago(8),
        },
        {
          id: 'coded',
          post_id: 'other',
          text: 'oc-00000003 @pizza.shop',
          from: { id: '555', username: 'unlinked' },
          at: ago(8),
        },
      ],
    }),
  );

  test('in a caption, in a comment, and one with the code verify', async () => {
    const { outcomes } = await run([
      mention(1, [place('caption')], by(null, 'jane')),
      mention(2, [place('other', 'in-comment')], by(null, 'jane')),
      mention(3, [place('other', 'coded')]),
    ]);
    expect(outcomes.map((outcome) => outcome.outcome === 'done' && outcome.result)).toEqual([
      {
        verdict: 'verified',
        evidence: { media_id: 'caption', author_username: 'jane', at: expect.any(String) },
      },
      {
        verdict: 'verified',
        evidence: {
          media_id: 'other',
          comment_id: 'in-comment',
          author_username: 'jane',
          at: expect.any(String),
        },
      },
      expect.objectContaining({ verdict: 'verified' }),
    ]);
    expect(calls()).toHaveLength(1);
  });

  test('by somebody else does not count, and after the deadline nobody knows: webhooks get lost', async () => {
    const { outcomes } = await run([
      mention(1, [place('caption')], by(null, 'joe')),
      mention(2, [place('caption')], { ...by(null, 'joe'), ...late() }),
      mention(3, [], by(null, 'joe')),
      mention(4, [], { ...by(null, 'joe'), ...late() }),
    ]);
    expect(outcomes).toMatchObject([
      notYet,
      { result: { verdict: 'unknown' } },
      notYet,
      { result: { verdict: 'unknown' } },
    ]);
  });

  test('nobody is asked when no signal came', async () => {
    await run([mention(1, [], by(null, 'joe'))]);
    expect(calls()).toEqual([]);
  });

  test('that is gone or private spoils no other one', async () => {
    const { outcomes } = await run([
      mention(1, [place('deleted'), place('shy-one'), place('caption')], by(null, 'jane')),
      mention(2, [place('deleted')], by(null, 'joe')),
    ]);
    expect(verdicts(outcomes)).toEqual(['verified', 'snooze']);
  });

  test('120 of them are three calls for all claims together', async () => {
    const many = Array.from({ length: 120 }, (_, n) => place(`gone-${n}`));
    await run([mention(1, many, by(null, 'joe')), mention(2, many, by(null, 'jane'))]);
    expect(calls()).toHaveLength(3);
  });

  test('whose part of the batch timed out is tried again; the others are answered', async () => {
    await script({ match: { path: `/${pizza.ig_user_id}`, nth: 1 }, do: { never: true } });
    const { outcomes } = await run([
      mention(1, [place('caption')], by(null, 'jane')),
      mention(2, [place('other', 'in-comment')], by(null, 'jane')),
    ]);
    expect(verdicts(outcomes)).toEqual(['retry', 'verified']);
  });
});

describe('a follow', () => {
  const follow = (itemId: number, igsid: string | null, changes: Record<string, unknown> = {}) =>
    claim(itemId, 'instagram_follow', { ...by(igsid), ...changes });
  const person = (igsid: string, changes: object = {}) => ({ igsid, username: `p${igsid}`, ...changes });
  const wrote = { consented_to: [pizza.ig_user_id, gym.ig_user_id] };
  beforeAll(() =>
    world({
      people: [
        person('600', { ...wrote, follows: [pizza.ig_user_id, gym.ig_user_id] }),
        person('601', wrote),
        person('602', { follows: [pizza.ig_user_id] }),
        person('603', { ...wrote, follows: [pizza.ig_user_id], blocks: [pizza.ig_user_id] }),
      ],
    }),
  );

  test('verifies with the person’s id and the time of looking', async () => {
    const { outcomes } = await run([follow(1, '600')]);
    expect(outcomes).toMatchObject([
      { result: { verdict: 'verified', evidence: { author_id: '600', at: expect.any(String) } } },
    ]);
  });

  test('works with an Instagram login, one call per person', async () => {
    const { outcomes } = await run([follow(1, '600'), follow(2, '601', late())], instagramLogin);
    expect(verdicts(outcomes)).toEqual(['verified', 'failed']);
    expect(calls()).toHaveLength(2);
  });

  test('that is not there is looked for again, and after the deadline it failed', async () => {
    const { outcomes } = await run([follow(1, '601'), follow(2, '601', late())]);
    expect(outcomes).toMatchObject([notYet, { result: { verdict: 'failed', reason: 'not_following' } }]);
  });

  test('by somebody who never wrote, or is not linked, needs the person to act', async () => {
    const { outcomes } = await run([follow(1, '602'), follow(2, null), follow(3, null, late())]);
    expect(verdicts(outcomes)).toEqual(['needs_user_action', 'needs_user_action', 'needs_user_action']);
    expect(outcomes[0]).toMatchObject({ result: { reason: expect.stringContaining('written') } });
    await world({ messages: [{ from: '602', to: pizza.ig_user_id, text: 'hello' }] });
    expect(verdicts((await run([follow(1, '602')])).outcomes)).toEqual(['verified']);
  });

  test('by somebody who was asked to write is asked about again, also where no webhook tells of the message', async () => {
    await world({ people: [{ igsid: '604', username: 'asked' }] });
    const asked = (itemId: number, changes: Record<string, unknown> = {}) =>
      follow(itemId, '604', { asked: true, ...changes });
    const waiting = await run([asked(1), asked(2, late())]);
    expect(waiting.outcomes).toMatchObject([
      { outcome: 'snooze', seconds: 900, reason: 'waiting for the person' },
      { outcome: 'done', result: { verdict: 'needs_user_action' } },
    ]);
    await world({ messages: [{ from: '604', to: pizza.ig_user_id, text: 'hello' }] });
    const written = await run([asked(1), asked(2, late())]);
    expect(verdicts(written.outcomes)).toEqual(['acted', 'failed']);
    await world({ people: [{ igsid: '604', username: 'asked', follows: [pizza.ig_user_id] }] });
    expect(verdicts((await run([asked(1)])).outcomes)).toEqual(['verified']);
  });

  test('by somebody who blocked the account, or is not known to Meta, is unknown, never failed', async () => {
    const { outcomes } = await run([follow(1, '603', late()), follow(2, '999', late()), follow(3, '603')]);
    expect(verdicts(outcomes)).toEqual(['unknown', 'unknown', 'snooze']);
    expect(outcomes[2]).toMatchObject({ reason: expect.stringMatching(/^unknown: Meta 100\/33/) });
  });

  test('of 120 people is read in three calls', async () => {
    await run(Array.from({ length: 120 }, (_, n) => follow(n + 1, `7${n}`)));
    expect(calls()).toHaveLength(3);
  });

  test('whose part of the batch timed out, or failed, spoils no other one', async () => {
    await script([
      { match: { path: '/602' }, do: { never: true } },
      { match: { path: '/603' }, do: { error: { code: 2 } } },
    ]);
    const { outcomes } = await run([follow(1, '602'), follow(2, '600'), follow(3, '603')]);
    expect(verdicts(outcomes)).toEqual(['retry', 'verified', 'retry']);
  });

  test('that is throttled in the middle of a batch stops the rest of the tenant', async () => {
    await script({ match: { path: '/601' }, do: { error: { code: 80006 } } });
    const { outcomes } = await run([
      follow(1, '600'),
      follow(2, '601'),
      claim(3, 'facebook_reaction', { post_id: pagePost }),
      follow(4, null),
    ]);
    expect(verdicts(outcomes)).toEqual(['verified', 'throttled', 'throttled', 'needs_user_action']);
    expect(calls()).toHaveLength(1);
  });
});

describe('a reaction', () => {
  const reaction = (itemId: number, facebook_id: string | null, changes: Record<string, unknown> = {}) =>
    claim(itemId, 'facebook_reaction', {
      post_id: pagePost,
      author: { instagram_id: null, instagram_username: null, facebook_id },
      ...changes,
    });
  beforeAll(() =>
    world({
      reactions: Array.from({ length: 130 }, (_, n) => ({
        post_id: pagePost,
        from: { id: `80${n}`, name: `R ${n}` },
        type: 'LOVE' as const,
      })),
    }),
  );
  const counts = (reactions: 'list' | 'counts') =>
    world({
      accounts: [{ id: pizza.page_id, kind: 'page', tenant: 'pizza-shop', name: 'Pizza', reactions }],
    });

  test('of a linked person who is listed verifies, on whatever page', async () => {
    const { outcomes } = await run([reaction(1, '800'), reaction(2, '80129')]);
    expect(outcomes).toMatchObject([
      {
        result: {
          verdict: 'verified',
          evidence: { post_id: pagePost, reaction: 'LOVE', author_id: '800', at: expect.any(String) },
        },
      },
      { result: { verdict: 'verified' } },
    ]);
    expect(calls()).toHaveLength(2);
  });

  test('of somebody who is not listed, or not linked, is unknown, never failed', async () => {
    const { outcomes } = await run([reaction(1, '1', late()), reaction(2, null, late()), reaction(3, '1')]);
    expect(verdicts(outcomes)).toEqual(['unknown', 'unknown', 'snooze']);
    expect(outcomes[2]).toMatchObject({ reason: expect.stringMatching(/^unknown: /) });
  });

  test('where Meta tells only how many is unknown', async () => {
    await counts('counts');
    const { outcomes } = await run([reaction(1, '800', late())]);
    expect(outcomes).toMatchObject([
      { result: { verdict: 'unknown', reason: expect.stringContaining('how many') } },
    ]);
    await counts('list');
  });

  test('is not asked for with an Instagram login', async () => {
    const { outcomes } = await run([reaction(1, '800', late())], instagramLogin);
    expect(verdicts(outcomes)).toEqual(['unknown']);
    expect(calls()).toEqual([]);
  });
});

describe('a comment', () => {
  const comments = (count: number, postId: string, from = 0) =>
    Array.from({ length: count }, (_, n) => ({
      id: `${postId}-${from + n}`,
      post_id: postId,
      text: `great, really${n === 7 ? ' oc-00000001' : ''}`,
      from: { id: `90${from + n}`, username: `fan${from + n}` },
      at: new Date(Date.now() - 1_800_000 + (from + n) * 1_000).toISOString(),
    }));
  const comment = (itemId: number, post_id: string, changes: Record<string, unknown> = {}) =>
    claim(itemId, 'instagram_comment', { post_id, ...changes });

  test('of 50 people who wait for one post costs at most 0.05 calls each', async () => {
    await world({
      posts: [{ id: 'busy', account_id: pizza.ig_user_id }],
      comments: comments(60, 'busy'),
    });
    const items = Array.from({ length: 50 }, (_, n) =>
      comment(n + 1, 'busy', by(null, n % 2 === 0 ? `fan${10 + n}` : 'absent')),
    );
    const { outcomes } = await run(items);
    expect(verdicts(outcomes).filter((verdict) => verdict === 'verified')).toHaveLength(25);
    expect(calls().length / items.length).toBeLessThanOrEqual(0.05);
  });

  test('by the linked id verifies, whatever the name has become', async () => {
    const { outcomes } = await run([comment(1, 'busy', { code: null, ...by('9012', 'another.name') })]);
    expect(outcomes).toMatchObject([{ result: { evidence: { comment_id: 'busy-12', author_id: '9012' } } }]);
  });

  test('is told to the database with its codes and without its text, up to the end', async () => {
    const { readings } = await run([comment(1, 'busy', late())]);
    const [reading] = readings;
    expect(readings).toHaveLength(1);
    expect(reading).toMatchObject({
      surface: 'instagram',
      post_id: 'busy',
      newest: { id: 'busy-59', at: expect.any(String) },
    });
    expect(reading?.comments.find((one) => one.id === 'busy-7')).toEqual({
      id: 'busy-7',
      at: expect.any(String),
      author_id: '907',
      username: 'fan7',
      codes: ['OC-00000001'],
    });
    expect(JSON.stringify(readings)).not.toContain('really');
  });

  test('a reading that stops at the mark is complete, and one call', async () => {
    await world({ comments: comments(30, 'busy', 60) });
    const stop_at = { id: 'busy-59', at: ago(29) };
    const { outcomes, readings } = await run([comment(2, 'busy', { stop_at })]);
    expect(outcomes).toMatchObject([notYet]);
    expect(calls()).toHaveLength(1);
    expect(readings).toMatchObject([{ complete: true, newest: { id: 'busy-89' } }]);
  });

  test('text is in no outcome, no log and no record, and neither is the token', async () => {
    await script({
      match: { path: '/broken' },
      do: { error: { code: 2, message: `for ${pizza.access_token}` } },
    });
    const { outcomes, lines, readings } = await run([comment(1, 'busy'), comment(2, 'broken')]);
    const everything = JSON.stringify([outcomes, lines, readings]);
    expect(verdicts(outcomes)).toEqual(['verified', 'retry']);
    expect(everything).not.toContain('great');
    expect(everything).not.toContain(pizza.access_token);
  });
});

describe('trouble of one kind', () => {
  const one = (changes: Record<string, unknown> = {}) => [
    claim(1, 'instagram_comment', { post_id: 'gone', ...changes }),
    claim(2, 'facebook_comment', { post_id: pagePost, ...changes }),
    claim(3, 'instagram_photo_tag', { ...by(null, 'jane'), ...changes }),
    claim(4, 'instagram_follow', { ...by('600'), ...changes }),
    claim(5, 'facebook_reaction', { post_id: pagePost, ...changes }),
  ];

  test('a post that is gone spoils nothing else', async () => {
    const { outcomes } = await run(one(late()));
    expect(verdicts(outcomes)).toEqual(['unknown', 'failed', 'verified', 'verified', 'unknown']);
  });

  test('a broken token stops all, at the first call', async () => {
    await script({ times: 'always', do: { error: { code: 190, subcode: 460 } } });
    const { outcomes } = await run(one(late()));
    expect(new Set(verdicts(outcomes))).toEqual(new Set(['credential_broken']));
    expect(calls()).toHaveLength(1);
  });

  test('a limit stops all', async () => {
    await script({ times: 'always', do: { error: { code: 80002 } } });
    const { outcomes } = await run(one(late()));
    expect(new Set(verdicts(outcomes))).toEqual(new Set(['throttled']));
    expect(calls()).toHaveLength(1);
  });

  test('an outage fails no claim, whatever its kind', async () => {
    await script({ times: 'always', do: { status: 502, html: '<html>bad gateway</html>' } });
    const { outcomes } = await run(one(late()));
    expect(verdicts(outcomes)).toEqual(['retry', 'retry', 'snooze', 'snooze', 'snooze']);
  });

  test('what is known already takes no call, even without a credential', async () => {
    const known = { comment_id: 'seen', author_id: '5', at: ago(3) };
    const items = one({ known });
    for (const credential of [own, null]) {
      const { outcomes } = await run(items, credential);
      expect(outcomes).toMatchObject(items.map(() => ({ result: { verdict: 'verified', evidence: known } })));
    }
    expect(calls()).toEqual([]);
  });

  test('near the limit, as the parts of a batch tell it, the rest waits', async () => {
    await world({
      tokens: [
        {
          token: 'nearly-there',
          tenant: 'pizza-shop',
          kind: 'page',
          accounts: [pizza.page_id, pizza.ig_user_id],
          budget: 1000,
        },
      ],
      usage: [{ token: 'nearly-there', percent: 96 }],
    });
    const credential = { ...own, secret: { access_token: 'nearly-there' } };
    const { outcomes } = await run(
      [claim(1, 'instagram_follow', by('600')), claim(2, 'facebook_reaction', { post_id: pagePost })],
      credential,
    );
    expect(verdicts(outcomes)).toEqual(['verified', 'throttled']);
  });

  test('an app that requires the proof takes our batches, too', async () => {
    await world({
      apps: [{ app_id: '71', app_secret: 'the-secret', require_proof: true }],
      tokens: [
        {
          token: 'proven',
          tenant: 'pizza-shop',
          kind: 'page',
          accounts: [pizza.page_id, pizza.ig_user_id],
          app_id: '71',
        },
      ],
    });
    const withSecret = { ...own, secret: { access_token: 'proven', app_secret: 'the-secret' } };
    const items = [claim(1, 'instagram_follow', { ...by('600'), ...late() })];
    expect(verdicts((await run(items, withSecret)).outcomes)).toEqual(['verified']);
    const without = { ...own, secret: { access_token: 'proven' } };
    expect((await run(items, without)).outcomes).toMatchObject([
      { result: { verdict: 'unknown', reason: expect.stringContaining('app secret') } },
    ]);
  });
});
