import { describe, expect, test } from 'vitest';
import type { Credential, PostReading } from '../../functions/_shared/engine.ts';
import type { ProviderOutcome } from '../../functions/_shared/outcome.ts';
import type { Comment, CommentPage } from '../../functions/_shared/providers/meta.ts';
import { createVerifySocialTasks } from '../../functions/worker/jobs/verify-social-tasks.ts';
import { codesIn, containsCode } from '../../functions/worker/verify/text.ts';
import { item, jobContext, metaClient, metaCredential, nowMs, work } from './fakes.ts';

const hour = 3_600_000;
const iso = (ms: number) => new Date(ms).toISOString();
const since = nowMs - 24 * hour;

const claim = (itemId: number, changes: Record<string, unknown> = {}) =>
  item(itemId, {
    completion_id: `c${itemId}`,
    kind: 'instagram_comment',
    post_id: 'p1',
    code: `CODE-${itemId}A`,
    instagram_username: null,
    facebook_user_id: null,
    since: iso(since),
    deadline: iso(nowMs + hour),
    recheck_seconds: 300,
    ...changes,
  });
const late = { deadline: iso(nowMs) };

const comment = (id: string, changes: Partial<Comment> = {}): Comment => ({
  id,
  text: 'nice',
  at: nowMs - hour,
  authorId: `a${id}`,
  username: `user${id}`,
  nested: false,
  ...changes,
});
const page = (comments: Comment[], after: string | null = null): ProviderOutcome<CommentPage> => ({
  kind: 'ok',
  value: { comments, after, isCut: false },
});

type Request = { postId: string; after: string | null; credential: Credential };
function meta(
  pages: (request: Request, count: number) => ProviderOutcome<CommentPage>,
  whoAmI: ProviderOutcome<{ id: string }> = { kind: 'retry', error: 'not asked' },
) {
  const requests: Request[] = [];
  const asked: string[] = [];
  const fake = metaClient({
    async commentPage(credential, { postId, after }) {
      const request = { postId, after, credential };
      requests.push(request);
      return pages(request, requests.length);
    },
    async whoAmI() {
      asked.push('me');
      return whoAmI;
    },
  });
  return { requests, asked, job: createVerifySocialTasks({ meta: fake, maximumPages: 3 }) };
}
async function verify(
  pages: Parameters<typeof meta>[0],
  items: ReturnType<typeof claim>[],
  options: { whoAmI?: ProviderOutcome<{ id: string }>; context?: Parameters<typeof jobContext>[0] } = {},
) {
  const { job, requests, asked } = meta(pages, options.whoAmI);
  const context = jobContext(options.context);
  await job(work(items, metaCredential), context);
  return { outcomes: context.outcomes, requests, asked };
}

describe('what counts as a match', () => {
  test.each([
    ['CODE-7F3K', true],
    ['code-7f3k', true],
    ['Love it! code-7f3k.', true],
    ['#CODE-7F3K😀', true],
    ['(CODE-7F3K)', true],
    ['CODE–7F3K', true],
    ['CO\u200bDE-7F3K', true],
    ['ＣＯＤＥ-７Ｆ３Ｋ', true],
    ['CODE-7F3KX', false],
    ['XCODE-7F3K', false],
    ['CODE-7F3K9', false],
    ['éCODE-7F3K', false],
    ['CODE 7F3K', false],
    ['7F3K', false],
    ['', false],
  ])('"%s" contains the code CODE-7F3K: %s', (text, expected) => {
    expect(containsCode(text, 'CODE-7F3K')).toBe(expected);
  });

  test('the codes in a text are found as tokens, in the form in which they are stored, each once', () => {
    expect(codesIn('OC-1A2B3C4D and oc–1a2b3c4d, #oc-00000000!')).toEqual(['OC-1A2B3C4D', 'OC-00000000']);
    expect(codesIn('xOC-1A2B3C4D OC-1A2B3C4D5 OC-1A2B 1A2B3C4D éoc-1a2b3c4d')).toEqual([]);
  });

  test('an empty code is in no text, and a code is no pattern', () => {
    expect(containsCode('anything', '')).toBe(false);
    expect(containsCode('anything', ' ')).toBe(false);
    expect(containsCode('CODE7', 'CODE.')).toBe(false);
    expect(containsCode('a.*b', '.*')).toBe(false);
    expect(containsCode('x .* y', '.*')).toBe(true);
  });

  test.each([
    ['Jane.Doe', 'jane.doe', true],
    ['@jane.doe', 'JANE.DOE', true],
    ['jane.doe', 'jane.doe2', false],
    ['', '', false],
    [null, 'jane.doe', false],
  ])('the Instagram name %s is that of the author %s: %s', async (named, username, found) => {
    const { outcomes } = await verify(
      () => page([comment('1', { username })]),
      [claim(1, { instagram_username: named, ...late })],
    );
    expect(outcomes).toMatchObject([{ result: { verdict: found ? 'verified' : 'failed' } }]);
  });

  test('on a Page the author matches by the page-scoped id, never by an Instagram name', async () => {
    const facebook = { kind: 'facebook_comment', ...late };
    const { outcomes } = await verify(
      () => page([comment('1', { authorId: '7012', username: null })]),
      [
        claim(1, { ...facebook, facebook_user_id: '7012' }),
        claim(2, { ...facebook, facebook_user_id: '701' }),
        claim(3, { ...facebook, instagram_username: '7012' }),
      ],
    );
    expect(outcomes.map((outcome) => outcome.outcome === 'done' && outcome.result.verdict)).toEqual([
      'verified',
      'failed',
      'failed',
    ]);
  });

  test('a Page comment without an author still matches by the code', async () => {
    const { outcomes } = await verify(
      () => page([comment('9', { authorId: null, username: null, text: 'CODE-1A' })]),
      [claim(1, { kind: 'facebook_comment', facebook_user_id: '7' })],
    );
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'done',
        result: {
          verdict: 'verified',
          evidence: { comment_id: '9', author_id: null, commented_at: iso(nowMs - hour) },
        },
      },
    ]);
  });

  test('a comment from before the claim’s start does not count, one of the same second does', async () => {
    const start = since + 500;
    const { outcomes } = await verify(
      () =>
        page([
          comment('1', { text: 'CODE-1A', at: since }),
          comment('2', { text: 'CODE-2A', at: since - 1000 }),
        ]),
      [claim(1, { since: iso(start) }), claim(2, { since: iso(start) })],
    );
    expect(outcomes.map((outcome) => outcome.outcome)).toEqual(['done', 'snooze']);
  });

  test('the business’s own comment does not count, though it repeats the code', async () => {
    const own = comment('1', {
      text: 'Thanks for CODE-1A!',
      authorId: String(metaCredential.account.ig_user_id),
    });
    const { outcomes } = await verify(() => page([own]), [claim(1, late)]);
    expect(outcomes).toMatchObject([{ result: { verdict: 'failed' } }]);
  });

  test('a Page is known by its post, also with a credential that does not name it', async () => {
    const answer = comment('1', { text: 'Thanks for CODE-1A!', authorId: '77', username: null });
    const ofPage = claim(1, { kind: 'facebook_comment', post_id: '77_88', ...late });
    const { outcomes } = await verify(() => page([answer]), [ofPage]);
    expect(outcomes).toMatchObject([{ result: { verdict: 'failed' } }]);
    const visitor = await verify(() => page([{ ...answer, authorId: '78' }]), [ofPage]);
    expect(visitor.outcomes).toMatchObject([{ result: { verdict: 'verified' } }]);
  });
});

describe('the three answers', () => {
  test('found: verified, with the evidence', async () => {
    const { outcomes } = await verify(() => page([comment('1', { text: 'my code-1a' })]), [claim(1)]);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'done',
        result: {
          verdict: 'verified',
          evidence: { comment_id: '1', author_id: 'a1', commented_at: iso(nowMs - hour) },
        },
      },
    ]);
  });

  test('not found before the deadline: looked at again', async () => {
    const { outcomes } = await verify(() => page([comment('1')]), [claim(1)]);
    expect(outcomes).toEqual([{ item_id: 1, outcome: 'snooze', seconds: 300, reason: 'not found yet' }]);
  });

  test('not found at the deadline by the database’s clock: failed', async () => {
    const { outcomes } = await verify(() => page([comment('1')]), [claim(1, late)]);
    expect(outcomes).toEqual([
      { item_id: 1, outcome: 'done', result: { verdict: 'failed', reason: 'not_found' } },
    ]);
  });

  test('a post that can’t be read: unknown, never failed', async () => {
    const refused: ProviderOutcome<CommentPage> = {
      kind: 'refused',
      error: 'Meta 100/33: the post does not exist',
    };
    const { outcomes } = await verify(() => refused, [claim(1), claim(2, late)]);
    expect(outcomes).toEqual([
      {
        item_id: 1,
        outcome: 'snooze',
        seconds: 300,
        reason: 'unknown: Meta 100/33: the post does not exist',
      },
      {
        item_id: 2,
        outcome: 'done',
        result: { verdict: 'unknown', reason: 'Meta 100/33: the post does not exist' },
      },
    ]);
  });

  test.each([
    ['retry', { kind: 'retry', error: 'down' } as const, 'retry'],
    ['throttled', { kind: 'throttled', seconds: 60, error: 'slow' } as const, 'throttled'],
    ['credentialBroken', { kind: 'credentialBroken', error: 'token' } as const, 'credential_broken'],
  ])(
    'a reading that ends in %s never says not found, but keeps what it had found',
    async (_name, failure, outcome) => {
      const { outcomes } = await verify(
        (_request, count) => (count === 1 ? page([comment('1', { text: 'CODE-1A' })], 'next') : failure),
        [claim(1, late), claim(2, late), claim(3)],
      );
      expect(outcomes.map((each) => each.outcome)).toEqual(['done', outcome, outcome]);
      expect(outcomes[0]).toMatchObject({ result: { verdict: 'verified' } });
    },
  );

  test('more pages than we read: unknown, never failed', async () => {
    const { outcomes, requests } = await verify(
      (_request, count) => page([comment(`${count}`)], `c${count}`),
      [claim(1, late)],
    );
    expect(requests).toHaveLength(3);
    expect(outcomes).toMatchObject([
      { outcome: 'done', result: { verdict: 'unknown', reason: expect.stringContaining('pages') } },
    ]);
  });

  test('pages that go in a circle: unknown', async () => {
    const { outcomes, requests } = await verify(() => page([comment('1')], 'same'), [claim(1, late)]);
    expect(requests).toHaveLength(2);
    expect(outcomes).toMatchObject([{ result: { verdict: 'unknown' } }]);
  });

  test('comments without an author leave a named person unknown, a coded one failed', async () => {
    const { outcomes } = await verify(
      () => page([comment('1', { authorId: null, username: null })]),
      [claim(1, { instagram_username: 'jane', ...late }), claim(2, late)],
    );
    expect(outcomes).toMatchObject([{ result: { verdict: 'unknown' } }, { result: { verdict: 'failed' } }]);
  });

  test('answers that Meta does not list with their comment leave a claim unknown, and a proof is one', async () => {
    const cutPage: ProviderOutcome<CommentPage> = {
      kind: 'ok',
      value: { comments: [comment('1', { text: 'CODE-2A' })], after: null, isCut: true },
    };
    const { outcomes } = await verify(() => cutPage, [claim(1, late), claim(2, late)]);
    expect(outcomes).toMatchObject([
      { item_id: 2, result: { verdict: 'verified' } },
      { item_id: 1, result: { verdict: 'unknown', reason: expect.stringContaining('more answers') } },
    ]);
  });

  test('no comments at all on a Page post prove absence only to the Page’s own token', async () => {
    const items = [claim(1, { kind: 'facebook_comment', post_id: '77_88', ...late })];
    const verdict = async (whoAmI: ProviderOutcome<{ id: string }>) =>
      (await verify(() => page([]), items, { whoAmI })).outcomes[0];
    expect(await verdict({ kind: 'ok', value: { id: '5' } })).toMatchObject({
      result: { verdict: 'unknown' },
    });
    expect(await verdict({ kind: 'retry', error: 'down' })).toMatchObject({ result: { verdict: 'unknown' } });
    expect(await verdict({ kind: 'ok', value: { id: '77' } })).toMatchObject({
      result: { verdict: 'failed' },
    });
    const page_id = String(metaCredential.account.page_id);
    expect(await verdict({ kind: 'ok', value: { id: page_id } })).toMatchObject({
      result: { verdict: 'failed' },
    });
  });

  test('the token is only asked who it is when a deadline depends on it', async () => {
    const whoAmI = { kind: 'ok', value: { id: '5' } } as const;
    const facebook = { kind: 'facebook_comment' };
    expect((await verify(() => page([]), [claim(1, facebook)], { whoAmI })).asked).toEqual([]);
    expect(
      (await verify(() => page([comment('1')]), [claim(1, { ...facebook, ...late })], { whoAmI })).asked,
    ).toEqual([]);
    expect((await verify(() => page([]), [claim(1, late)], { whoAmI })).asked).toEqual([]);
  });
});

describe('reading', () => {
  test('many completions of one post are one reading', async () => {
    const items = Array.from({ length: 40 }, (_, index) => claim(index + 1));
    const { requests, outcomes } = await verify(() => page([comment('1')]), items);
    expect(requests).toHaveLength(1);
    expect(outcomes).toHaveLength(40);
  });

  test('the same id on Instagram and on a Page is two posts', async () => {
    const { requests } = await verify(
      () => page([comment('1')]),
      [claim(1), claim(2, { kind: 'facebook_comment' })],
    );
    expect(requests).toHaveLength(2);
  });

  test('reading goes on page by page, over an empty page too', async () => {
    const pages = [page([comment('1')], 'a'), page([], 'b'), page([comment('3', { text: 'CODE-1A' })], null)];
    const { requests, outcomes } = await verify(
      (_request, count) => pages[count - 1] ?? page([]),
      [claim(1, late)],
    );
    expect(requests.map((request) => request.after)).toEqual([null, 'a', 'b']);
    expect(outcomes).toMatchObject([{ result: { verdict: 'verified' } }]);
  });

  test('reading stops as soon as all are found', async () => {
    const { requests } = await verify(
      () => page([comment('1', { text: 'CODE-1A' }), comment('2', { text: 'code-2a' })], 'more'),
      [claim(1), claim(2)],
    );
    expect(requests).toHaveLength(1);
  });

  test('reading stops where the comments are older than the oldest claim', async () => {
    const old = { at: since - 30 * hour };
    const { requests, outcomes } = await verify(
      (_request, count) => page([comment(`${count}`, count === 2 ? old : {})], `c${count}`),
      [claim(1, { since: iso(since - 24 * hour), ...late }), claim(2, late)],
    );
    expect(requests).toHaveLength(2);
    expect(outcomes).toMatchObject([{ result: { verdict: 'failed' } }, { result: { verdict: 'failed' } }]);
  });

  test('one old comment in a young page does not stop the reading', async () => {
    const { requests } = await verify(
      (_request, count) => page([comment('1', { at: since - hour }), comment('2')], count === 1 ? 'a' : null),
      [claim(1)],
    );
    expect(requests).toHaveLength(2);
  });

  test('a limit of the platform’s app stops all who lean on it, for a while, and nobody else', async () => {
    const limit = 'Meta 4: the app’s call limit is reached';
    const { job, requests } = meta(() => ({ kind: 'throttled', seconds: 600, error: limit }));
    const platform: Credential = { ...metaCredential, credential_id: null, source: 'platform' };
    const run = async (credential: Credential, laterSeconds: number) => {
      const context = jobContext({ now: () => new Date(nowMs + laterSeconds * 1000) });
      const follow = claim(2, { kind: 'instagram_follow', post_id: null });
      await job(work([claim(1), follow], credential), context);
      const before = requests.length;
      return { before, outcomes: context.outcomes.toSorted((a, b) => a.item_id - b.item_id) };
    };
    const first = await run(platform, 0);
    expect(first).toMatchObject({ before: 1, outcomes: [{ outcome: 'throttled', seconds: 600 }, {}] });
    // Another tenant, the same app: nobody is asked, and what takes no call goes on.
    expect(await run(platform, 60)).toMatchObject({
      before: 1,
      outcomes: [
        { outcome: 'throttled', seconds: 240, error: limit },
        { outcome: 'done', result: { verdict: 'needs_user_action' } },
      ],
    });
    expect((await run(metaCredential, 60)).before).toBe(2);
    expect((await run(platform, 301)).before).toBe(3);
  });

  test('a limit of one account stops no other tenant of the platform’s credential', async () => {
    const { job, requests } = meta(() => ({
      kind: 'throttled',
      seconds: 600,
      error: 'Meta 80002: too many',
      scope: 'account',
    }));
    const platform: Credential = { ...metaCredential, credential_id: null, source: 'platform' };
    await job(work([claim(1)], platform), jobContext());
    await job(work([claim(1)], platform), jobContext());
    expect(requests).toHaveLength(2);
  });

  test('a throttled or broken credential is not used for the tenant’s other posts', async () => {
    for (const kind of ['throttled', 'credentialBroken'] as const) {
      const { requests, outcomes } = await verify(
        () => (kind === 'throttled' ? { kind, seconds: 60, error: 'x' } : { kind, error: 'x' }),
        [claim(1), claim(2, { post_id: 'p2' }), claim(3, { post_id: 'p3', ...late })],
      );
      expect(requests).toHaveLength(1);
      const outcome = kind === 'throttled' ? 'throttled' : 'credential_broken';
      expect(outcomes.map((each) => each.outcome)).toEqual([outcome, outcome, outcome]);
    }
  });

  test('a post that is gone does not stop the others', async () => {
    const { outcomes } = await verify(
      ({ postId }) =>
        postId === 'p1' ? { kind: 'refused', error: 'gone' } : page([comment('1', { text: 'CODE-2A' })]),
      [claim(1), claim(2, { post_id: 'p2' })],
    );
    expect(outcomes.map((each) => each.outcome)).toEqual(['snooze', 'done']);
  });

  test('after two failures in a row the provider is left alone, and no more attempts burn', async () => {
    const posts = [1, 2, 3, 4].map((number) => claim(number, { post_id: `p${number}` }));
    const { requests, outcomes } = await verify(() => ({ kind: 'retry', error: 'down' }), posts);
    expect(requests).toHaveLength(2);
    expect(outcomes.map((each) => each.outcome)).toEqual(['retry', 'retry', 'snooze', 'snooze']);
  });

  test('near the limit the reading is used, and then nothing more is asked, by nobody', async () => {
    const hint = { seconds: 600, reason: 'Meta reports 97 %', scope: 'account' as const };
    const { requests, outcomes } = await verify(
      () => ({
        kind: 'ok',
        value: { comments: [comment('1', { text: 'CODE-1A' })], after: null, isCut: false },
        hint,
      }),
      [claim(1), claim(2), claim(3, late), claim(4, { post_id: 'p2' })],
    );
    expect(requests).toHaveLength(1);
    expect(outcomes).toMatchObject([
      { item_id: 1, outcome: 'done', result: { verdict: 'verified' } },
      // It was looked for: it is not the limit that it waits for. The engine is told of that all the same.
      { item_id: 2, outcome: 'snooze', hint },
      { item_id: 3, outcome: 'done', result: { verdict: 'failed' }, hint },
      { item_id: 4, outcome: 'throttled', seconds: 600, scope: 'account' },
    ]);
  });

  test('near the limit no further page is read, and absence is not claimed', async () => {
    const hint = { seconds: 600, reason: 'Meta reports 97 %' };
    const { requests, outcomes } = await verify(
      () => ({ kind: 'ok', value: { comments: [comment('1')], after: 'more', isCut: false }, hint }),
      [claim(1, late)],
    );
    expect(requests).toHaveLength(1);
    expect(outcomes).toMatchObject([{ result: { verdict: 'unknown' } }]);
  });

  test('a lease that is lost between two pages ends the work without a word', async () => {
    let lost = false;
    const { outcomes, requests } = await verify(
      () => {
        lost = true;
        return page([comment('1')], 'more');
      },
      [claim(1, late), claim(2, { post_id: 'p2' })],
      { context: { leaseIsLost: () => lost } },
    );
    expect(requests).toHaveLength(1);
    expect(outcomes).toEqual([]);
  });

  test('when the time is up nothing is read, and everything goes back', async () => {
    const { outcomes, requests } = await verify(() => page([]), [claim(1, late)], {
      context: { timeIsUp: () => true },
    });
    expect(requests).toEqual([]);
    expect(outcomes).toMatchObject([{ outcome: 'snooze' }]);
  });

  test('the tenant’s own credential is used, and none is invented', async () => {
    const { requests } = await verify(() => page([]), [claim(1)]);
    expect(requests[0]?.credential).toBe(metaCredential);
    const { job } = meta(() => page([]));
    const context = jobContext();
    await job(work([claim(1)], null), context);
    expect(context.outcomes).toMatchObject([
      { outcome: 'snooze', reason: expect.stringContaining('credential') },
    ]);
  });

  test('an item that is not understood is refused, the others go on', async () => {
    const { outcomes } = await verify(() => page([]), [item(9, { kind: 'tiktok' }), claim(1)]);
    expect(outcomes).toMatchObject([
      { item_id: 9, outcome: 'refused', error: expect.stringContaining('kind') },
      { item_id: 1, outcome: 'snooze' },
    ]);
  });
});

describe('what was read before', () => {
  const mark = { id: 'm', at: iso(nowMs - 2 * hour) };
  const marked = (itemId: number, changes: Record<string, unknown> = {}) =>
    claim(itemId, { stop_at: mark, ...changes });
  const readings = async (
    pages: Parameters<typeof verify>[0],
    items: ReturnType<typeof claim>[],
    options: Parameters<typeof verify>[2] = {},
  ) => {
    const told: PostReading[] = [];
    const recordComments = async (post: PostReading) => {
      told.push(post);
    };
    const result = await verify(pages, items, {
      ...options,
      context: { recordComments, ...options.context },
    });
    return { ...result, told };
  };

  test('reading stops at the comment of the mark, and is complete', async () => {
    const { requests, told, outcomes } = await readings(
      (_request, count) => page([comment(`${count}`), ...(count === 2 ? [comment('m')] : [])], `c${count}`),
      [marked(1)],
    );
    expect(requests).toHaveLength(2);
    expect(outcomes).toMatchObject([{ outcome: 'snooze', reason: 'not found yet' }]);
    expect(told).toMatchObject([{ complete: true, newest: { id: '1', at: iso(nowMs - hour) } }]);
    expect(told[0]?.comments.map(({ id }) => id)).toEqual(['1', '2', 'm']);
  });

  test('a Page’s comment is the same one with and without the id of its post', async () => {
    const stop_at = { ...mark, id: '77_m' };
    const { requests } = await readings(
      (_request, count) => page([comment(count === 2 ? 'm' : '1')], `c${count}`),
      [claim(1, { kind: 'facebook_comment', stop_at })],
    );
    expect(requests).toHaveLength(2);
  });

  test('the mark is passed by its time when its comment was deleted', async () => {
    const old = { at: nowMs - 3 * hour };
    const { requests } = await readings(
      (_request, count) => page([comment(`${count}`, count === 2 ? old : {})], `c${count}`),
      [marked(1)],
    );
    expect(requests).toHaveLength(2);
  });

  test('a reply stands out of order: it is neither the newest nor past the mark', async () => {
    const { requests, told } = await readings(
      (_request, count) =>
        page(
          [
            comment(`r${count}`, { nested: true, at: nowMs - 3 * hour }),
            comment(`${count}`, count === 2 ? { at: nowMs - 3 * hour } : {}),
          ],
          `c${count}`,
        ),
      [marked(1)],
    );
    expect(requests).toHaveLength(2);
    expect(told[0]?.newest?.id).toBe('1');
  });

  test('a claim without a mark, or one whose deadline is over, is read down to its own beginning', async () => {
    for (const other of [claim(2), marked(2, late)]) {
      const { requests, outcomes } = await readings(
        (_request, count) => page([comment(`m`)], count === 3 ? null : `c${count}`),
        [marked(1), other],
      );
      expect(requests).toHaveLength(3);
      if (other.data.stop_at) expect(outcomes[1]).toMatchObject({ result: { verdict: 'failed' } });
    }
  });

  test('a reading by the claims’ age that does not come down to the mark leaves the mark where it is', async () => {
    const older = { id: 'm', at: iso(since - 3 * hour) };
    const old = { at: since - hour };
    const { told } = await readings(
      (_request, count) => page([comment(`${count}`, count === 2 ? old : {})], `c${count}`),
      [claim(1, { stop_at: older, ...late })],
    );
    expect(told).toMatchObject([{ complete: false }]);
    const down = await readings(
      (_request, count) => page([comment(`${count}`, count === 2 ? old : {})], `c${count}`),
      [marked(1, late)],
    );
    expect(down.told).toMatchObject([{ complete: true }]);
  });

  test('an end before the end is told as one, and so is trouble', async () => {
    const cut = await readings((_request, count) => page([comment(`${count}`)], `c${count}`), [claim(1)]);
    expect(cut.told).toMatchObject([{ complete: false, comments: [{ id: '1' }, { id: '2' }, { id: '3' }] }]);
    const trouble = await readings(
      (_request, count) => (count === 1 ? page([comment('1')], 'a') : { kind: 'retry', error: 'down' }),
      [claim(1)],
    );
    expect(trouble.told).toMatchObject([{ complete: false, comments: [{ id: '1' }] }]);
    const found = await readings(
      () => page([comment('1', { text: 'CODE-1A' }), comment('2')], 'more'),
      [claim(1)],
    );
    expect(found.told).toMatchObject([{ complete: false }]);
  });

  test('the database is told before the outcome of the comment that was read last', async () => {
    const outcomesWhenTold: number[] = [];
    const context = jobContext({
      recordComments: async () => {
        outcomesWhenTold.push(context.outcomes.length);
      },
    });
    const { job } = meta(() => page([comment('1', { text: 'CODE-1A' }), comment('2')]));
    await job(work([claim(1)], metaCredential), context);
    expect(context.outcomes).toMatchObject([{ result: { verdict: 'verified' } }]);
    expect(outcomesWhenTold).toEqual([0]);
  });

  test('nothing is told when every comment that was read has proven a claim', async () => {
    const author = { instagram_id: 'a1', instagram_username: null, facebook_id: null };
    const known = claim(1, { author });
    expect((await readings(() => page([comment('1')]), [known, claim(2)])).told).toEqual([]);
    const two = () => page([comment('1'), comment('2')]);
    expect((await readings(two, [known, claim(2)])).told).toHaveLength(1);
  });

  test('a code names its account in the outcome when it is all there was to read', async () => {
    const code = 'OC-1A2B3C4D';
    const one = comment('1', { text: `Hi ${code.toLowerCase()}!` });
    const { told, outcomes } = await readings(() => page([one]), [claim(1, { code })]);
    const account = { platform: 'instagram', username: 'user1' };
    expect(outcomes).toMatchObject([{ result: { verdict: 'verified', account } }]);
    expect(told).toEqual([]);
    const author = { instagram_id: 'a1', instagram_username: null, facebook_id: null };
    const unnamed = [
      await readings(() => page([comment('1')]), [claim(1, { code, author })]),
      await readings(() => page([{ ...one, authorId: null }]), [claim(1, { code })]),
    ];
    for (const { outcomes: without } of unnamed) {
      expect(without).toMatchObject([{ result: { verdict: 'verified' } }]);
      expect(JSON.stringify(without)).not.toContain('account');
    }
  });

  test('a comment with a code that did not prove its own claim is told, and then the database links', async () => {
    const code = 'OC-1A2B3C4D';
    for (const comments of [
      [comment('1', { text: `${code} OC-55555555` })],
      [comment('2', { text: code }), comment('1', { text: code })],
    ]) {
      const { told, outcomes } = await readings(() => page(comments), [claim(1, { code })]);
      expect(told[0]?.comments[0]).toMatchObject({
        username: expect.any(String),
        codes: expect.arrayContaining([code]),
      });
      expect(JSON.stringify(outcomes)).toContain('verified');
      expect(JSON.stringify(outcomes)).not.toContain('account');
    }
  });

  test('all pages are told before the first outcome: of two comments with one code the older one counts', async () => {
    const code = 'OC-1A2B3C4D';
    const toldIds: string[] = [];
    const outcomesWhenTold: number[] = [];
    const context = jobContext({
      recordComments: async (post) => {
        toldIds.push(...post.comments.map(({ id }) => id));
        outcomesWhenTold.push(context.outcomes.length);
      },
    });
    const pages = [page([comment('2', { text: code })], 'more'), page([comment('1', { text: code })])];
    const { job } = meta((_request, count) => pages[count - 1] ?? page([]));
    await job(work([claim(1, { code }), claim(2)], metaCredential), context);
    expect(toldIds).toEqual(['2', '1']);
    expect(outcomesWhenTold).toEqual([0]);
    expect(context.outcomes).toMatchObject([{ result: { verdict: 'verified' } }, { outcome: 'snooze' }]);
  });

  test('what was proven before the reading broke off is handed in', async () => {
    const { outcomes } = await readings(
      (_request, count) =>
        count === 1 ? page([comment('1', { text: 'CODE-1A' })], 'more') : { kind: 'retry', error: 'down' },
      [claim(1), claim(2)],
    );
    expect(outcomes).toMatchObject([{ item_id: 1, result: { verdict: 'verified' } }, { outcome: 'retry' }]);
  });

  test('the business’s own comments are not told', async () => {
    const own = comment('1', { authorId: String(metaCredential.account.ig_user_id) });
    expect((await readings(() => page([own]), [claim(1)])).told).toEqual([]);
  });

  test('a mark, mentions or evidence in a form that is not understood are as if they were not there', async () => {
    const odd = { stop_at: { id: 5, at: 'yesterday' }, known: { a: {} }, mentions: 'none' };
    const { outcomes } = await readings(() => page([comment('1')]), [claim(1, odd)]);
    expect(outcomes).toMatchObject([{ outcome: 'snooze', reason: 'not found yet' }]);
  });

  test('a kind that is about a post is refused without one', async () => {
    for (const kind of ['instagram_comment', 'facebook_comment', 'facebook_reaction']) {
      const { outcomes } = await readings(() => page([]), [claim(1, { kind, post_id: null })]);
      expect(outcomes).toMatchObject([{ outcome: 'refused', error: expect.stringContaining('post_id') }]);
    }
  });
});

describe('who is meant', () => {
  test('a comment whose author comes without an id is proof by the name', async () => {
    const nameless = comment('1', { authorId: null, text: 'CODE-1A' });
    const { outcomes } = await verify(() => page([nameless]), [claim(1)]);
    expect(outcomes).toMatchObject([{ result: { evidence: { author_id: null, author_username: 'user1' } } }]);
  });

  test('a name that stands beside the author is not believed', async () => {
    const author = { instagram_id: null, instagram_username: null, facebook_id: null };
    const beside = { author, instagram_username: 'user1', facebook_user_id: 'a1', ...late };
    for (const kind of ['instagram_comment', 'facebook_comment']) {
      const { outcomes } = await verify(() => page([comment('1')]), [claim(1, { ...beside, kind })]);
      expect(outcomes).toMatchObject([{ result: { verdict: 'failed' } }]);
      const named = { instagram_id: null, instagram_username: 'user1', facebook_id: 'a1' };
      const believed = await verify(() => page([comment('1')]), [claim(1, { author: named, kind })]);
      expect(believed.outcomes).toMatchObject([{ result: { verdict: 'verified' } }]);
    }
  });

  const withheld = (changes: Partial<Comment>) => () => page([comment('1', changes)]);
  const by = (instagram_id: string | null, instagram_username: string | null) => ({
    author: { instagram_id, instagram_username, facebook_id: null },
    ...late,
  });

  test.each([
    ['id', by('5', null), { authorId: null }, 'unknown'],
    ['id', by('5', null), { username: null }, 'failed'],
    ['name', by(null, 'jane'), { authorId: null }, 'failed'],
    ['name', by(null, 'jane'), { username: null }, 'unknown'],
    ['id and name', by('5', 'jane'), { username: null }, 'failed'],
    ['id and name', by('5', 'jane'), { username: null, authorId: null }, 'unknown'],
  ])('a person known by %s (%j) and a comment with %j: %s', async (_known, who, shown, verdict) => {
    expect((await verify(withheld(shown), [claim(1, who)])).outcomes).toMatchObject([
      { result: { verdict } },
    ]);
  });
});
