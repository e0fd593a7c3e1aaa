import { beforeAll, describe, expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { as, call, useSimulators } from './helpers.ts';

const bench = useSimulators();
const pizza = demo['pizza-shop'].meta;
const media = '17895695668004550';
const pagePost = `${pizza.page_id}_77`;
const start = Date.parse('2026-11-20T12:00:00Z');
const at = (minute: number) => new Date(start + minute * 60_000).toISOString();

const get = (path: string, token: string = pizza.access_token) =>
  call(`${bench.url('meta')}/graph.facebook.com/v26.0/${path}`, as(token));

beforeAll(async () => {
  await bench.world('meta', {
    posts: [
      { id: media, account_id: pizza.ig_user_id, caption: 'new pizza' },
      { id: pagePost, account_id: pizza.page_id },
      { id: 'quiet', account_id: pizza.ig_user_id },
      { id: 'mixed', account_id: pizza.ig_user_id },
    ],
    comments: [
      ...Array.from({ length: 120 }, (_, n) => ({
        id: `ig-${n}`,
        post_id: media,
        text: `text ${n}`,
        from: { id: `igsid-${n}`, username: `user.${n}` },
        at: at(n),
      })),
      ...Array.from({ length: 130 }, (_, n) => ({
        id: `77_${n}`,
        post_id: pagePost,
        text: `message ${n}`,
        from: { id: `psid-${n}`, name: `User ${n}` },
        at: at(n),
      })),
      {
        id: '77_reply',
        post_id: pagePost,
        parent_id: '77_3',
        text: 'a reply',
        from: { id: 'r', name: 'R' },
        at: at(500),
      },
      {
        id: 'ig-reply',
        post_id: media,
        parent_id: 'ig-119',
        text: 'me too',
        from: { id: 'r', username: 'r' },
        at: at(500),
      },
      ...['shown', 'restricted', 'hidden'].map((id, n) => ({
        id,
        post_id: 'mixed',
        text: id,
        from: { id: `m${n}`, username: `m${n}` },
        at: at(n),
        ...(id === 'restricted' ? { omitted: 'restricted' } : {}),
        ...(id === 'hidden' ? { hidden: true } : {}),
      })),
    ],
  });
});

async function readAll(path: string): Promise<string[]> {
  const ids: string[] = [];
  let after = '';
  for (let pages = 0; pages < 20; pages += 1) {
    const { json } = await get(`${path}${after === '' ? '' : `&after=${after}`}`);
    ids.push(...json.data.map((comment: { id: string }) => comment.id));
    if (json.paging?.next === undefined) return ids;
    after = json.paging.cursors.after;
  }
  throw new Error('paging does not end');
}

describe('Instagram', () => {
  test('comments come newest first, at most 50 a page, with default fields only', async () => {
    const { json, headers } = await get(`${media}/comments?limit=500`);
    expect(json.data).toHaveLength(50);
    expect(json.data[0]).toEqual({ timestamp: '2026-11-20T13:59:00+0000', text: 'text 119', id: 'ig-119' });
    expect(headers.get('facebook-api-version')).toBe('v26.0');
  });

  test('asked fields are given, nested ones too, and nothing else', async () => {
    const { json } = await get(
      `${media}/comments?limit=1&fields=id,username,from{id},media{id},hidden,replies{text}`,
    );
    expect(json.data).toEqual([
      {
        username: 'user.119',
        from: { id: 'igsid-119' },
        media: { id: media },
        hidden: false,
        replies: { data: [{ text: 'me too', id: 'ig-reply' }] },
        id: 'ig-119',
      },
    ]);
  });

  test('following the cursors reads every top-level comment exactly once', async () => {
    const ids = await readAll(`${media}/comments?limit=50`);
    expect(ids).toEqual(Array.from({ length: 120 }, (_, n) => `ig-${119 - n}`));
  });

  test('next is absent on a last page that is full', async () => {
    const ids: number[] = [];
    const first = await get(`${media}/comments?limit=40`);
    const second = await get(`${media}/comments?limit=40&after=${first.json.paging.cursors.after}`);
    const third = await get(`${media}/comments?limit=40&after=${second.json.paging.cursors.after}`);
    ids.push(first.json.data.length, second.json.data.length, third.json.data.length);
    expect(ids).toEqual([40, 40, 40]);
    expect(second.json.paging.next).toBeDefined();
    expect(third.json.paging.next).toBeUndefined();
  });

  test('before leads back to the page that came before', async () => {
    const first = await get(`${media}/comments?limit=10`);
    const second = await get(`${media}/comments?limit=10&after=${first.json.paging.cursors.after}`);
    const back = await get(`${media}/comments?limit=10&before=${second.json.paging.cursors.before}`);
    expect(back.json.data).toEqual(first.json.data);
    expect(back.json.paging.previous).toBeUndefined();
    expect(second.json.paging.previous).toBeDefined();
  });

  test('a comment that arrives while paging shifts nothing', async () => {
    const first = await get('quiet/comments?limit=1');
    expect(first.json).toEqual({ data: [] });
    const say = (text: string) => ({ post_id: 'quiet', text, from: { id: text, username: text } });
    await bench.world('meta', { comments: [say('one'), say('two')] });
    const page = await get('quiet/comments?limit=1');
    await bench.world('meta', { comments: [say('three')] });
    const next = await get(`quiet/comments?limit=1&after=${page.json.paging.cursors.after}`);
    expect([page.json.data[0].text, next.json.data[0].text]).toEqual(['two', 'one']);
  });

  test('an omitted comment leaves no trace, a hidden one is marked', async () => {
    const { json } = await get('mixed/comments?fields=id,hidden');
    expect(json.data).toEqual([
      { hidden: true, id: 'hidden' },
      { hidden: false, id: 'shown' },
    ]);
    // Omission happens after the page is cut: a page may be empty and still have next.
    const first = await get('mixed/comments?limit=1');
    const empty = await get(`mixed/comments?limit=1&after=${first.json.paging.cursors.after}`);
    expect(empty.json.data).toEqual([]);
    expect(empty.json.paging.next).toBeDefined();
    expect((await get('restricted')).json.error.error_subcode).toBe(33);
    expect((await get('shown')).json.id).toBe('shown');
  });

  test('without the manage_comments permission a comment has no author', async () => {
    const fields = `${media}/comments?limit=1&fields=id,username,from`;
    await bench.world('meta', {
      tokens: [
        {
          token: 'few-scopes',
          tenant: 'pizza-shop',
          kind: 'page',
          accounts: [pizza.ig_user_id],
          scopes: ['instagram_basic'],
        },
        { token: 'no-scopes', tenant: 'pizza-shop', kind: 'page', accounts: [pizza.ig_user_id], scopes: [] },
      ],
    });
    expect((await get(fields, 'few-scopes')).json.data).toEqual([{ id: 'ig-119' }]);
    expect((await get(fields, 'no-scopes')).json.error.code).toBe(10);
    expect((await get(fields)).json.data[0].from.username).toBe('user.119');
  });

  test.each([
    ['an unknown field', 'fields=id,nonsense', 100],
    ['a syntax error in fields', 'fields=id,from{id', 2500],
    ['a cursor that nobody gave out', 'after=abc', 100],
    ['a limit that is no number', 'limit=many', 100],
  ])('%s is refused', async (_, query, code) => {
    const reply = await get(`${media}/comments?${query}`);
    expect(reply.status).toBe(400);
    expect(reply.json.error).toMatchObject({ code, type: 'OAuthException', fbtrace_id: expect.any(String) });
  });

  test('a script gives an empty page that still has next, and the walk is complete all the same', async () => {
    await bench.script('meta', { match: { path: `${media}/comments`, nth: 2 }, do: { empty_page: true } });
    expect(await readAll(`${media}/comments?limit=50`)).toHaveLength(120);
    expect((await bench.log('meta')).filter((entry) => entry.answer?.script !== undefined)).toHaveLength(1);
  });
});

describe('Page posts', () => {
  test('comments come at most 100 a page, newest first when asked, replies only with filter=stream', async () => {
    const order = 'order=reverse_chronological&limit=500';
    const top = await get(`${pagePost}/comments?${order}`);
    expect(top.json.data).toHaveLength(100);
    expect(top.json.data[0]).toEqual({
      created_time: '2026-11-20T14:09:00+0000',
      from: { name: 'User 129', id: 'psid-129' },
      message: 'message 129',
      id: '77_129',
    });
    const stream = await get(`${pagePost}/comments?${order}&filter=stream&fields=id,parent{id}`);
    expect(stream.json.data[0]).toEqual({ parent: { id: '77_3' }, id: '77_reply' });
  });

  test('chronological order pages from the oldest on', async () => {
    const ids = await readAll(`${pagePost}/comments?order=chronological&limit=60`);
    expect(ids).toEqual(Array.from({ length: 130 }, (_, n) => `77_${n}`));
  });

  test('a user token sees an empty list, not an error', async () => {
    await bench.world('meta', {
      tokens: [
        { token: 'a-user', tenant: 'pizza-shop', kind: 'user', accounts: [pizza.page_id, pizza.ig_user_id] },
      ],
    });
    expect(await get(`${pagePost}/comments`, 'a-user')).toMatchObject({ status: 200, json: { data: [] } });
    expect((await get(`${media}/comments`, 'a-user')).json.data).toHaveLength(50);
    const accounts = await get('me/accounts?fields=name,access_token,instagram_business_account', 'a-user');
    expect(accounts.json.data[0].instagram_business_account).toEqual({ id: pizza.ig_user_id });
    const pageToken = accounts.json.data[0].access_token;
    expect((await get(`${pagePost}/comments?limit=1`, pageToken)).json.data).toHaveLength(1);
  });
});
