// People on Meta: who tagged, mentioned, followed, reacted and wrote, and what Meta tells of it to whom.
import { beforeAll, describe, expect, test } from 'vitest';
import { demo } from '../../scripts/simulators/index.ts';
import { createMetaWorld, type MetaEvent, type MetaWorldInput } from '../../scripts/simulators/world.ts';
import { as, call, post, useSimulators } from './helpers.ts';

const bench = useSimulators();
const pizza = demo['pizza-shop'].meta;
const gym = demo.gym.meta;
const salon = demo.salon.meta;
const at = (minute: number) => new Date(Date.parse('2026-11-20T12:00:00Z') + minute * 60_000).toISOString();
const facebook = () => `${bench.url('meta')}/graph.facebook.com/v26.0`;
const instagram = () => `${bench.url('meta')}/graph.instagram.com/v26.0`;
const get = (path: string, token: string = pizza.access_token) => call(`${facebook()}/${path}`, as(token));
const pagePost = `${pizza.page_id}_5`;

const people: MetaWorldInput = {
  people: [
    { igsid: '500', username: 'jane', name: 'Jane' },
    { igsid: '501', username: 'shy', is_private: true },
  ],
  posts: [
    { id: 'tagged', account_id: '500', at: at(1), tags: [pizza.ig_user_id] },
    { id: 'tagged-2', account_id: '500', at: at(2), tags: [pizza.ig_user_id] },
    { id: 'private', account_id: '500', at: at(3), tags: [pizza.ig_user_id], is_private: true },
    { id: 'of-shy', account_id: '501', caption: '@pizza.shop', at: at(4), tags: [pizza.ig_user_id] },
    { id: 'caption', account_id: '500', caption: 'at @Pizza.Shop!', at: at(5) },
    { id: 'similar', account_id: '500', caption: 'at @pizza.shops', at: at(6) },
    { id: pagePost, account_id: pizza.page_id, like_count: 7 },
  ],
  comments: [
    {
      id: 'c1',
      post_id: 'caption',
      text: '@pizza.shop hi',
      from: { id: '500', username: 'jane' },
      at: at(7),
    },
    {
      id: 'c2',
      post_id: 'caption',
      text: '@pizza.shop',
      from: { id: '9', username: 'joe' },
      omitted: 'hidden',
    },
  ],
  reactions: [
    { post_id: pagePost, from: { id: '71', name: 'Ada' }, type: 'LOVE' },
    { post_id: pagePost, from: { id: '72', name: 'Bob' } },
  ],
};

beforeAll(() => bench.world('meta', people));

describe('tags', () => {
  test('come with cursors and without next, newest first, and private media are not among them', async () => {
    const first = await get(`${pizza.ig_user_id}/tags?fields=id,username,timestamp&limit=1`);
    expect(first.json.data).toEqual([
      { username: 'jane', timestamp: '2026-11-20T12:02:00+0000', id: 'tagged-2' },
    ]);
    expect(first.json.paging).toEqual({
      cursors: { before: expect.any(String), after: expect.any(String) },
    });
    const cursorOf = (page: typeof first) => `&after=${page.json.paging.cursors.after}`;
    const second = await get(`${pizza.ig_user_id}/tags?fields=id&limit=1${cursorOf(first)}`);
    expect(second.json.data).toEqual([{ id: 'tagged' }]);
    const third = await get(`${pizza.ig_user_id}/tags?fields=id&limit=1${cursorOf(second)}`);
    expect(third.json).toEqual({ data: [] });
  });

  test('are unknown to an Instagram login', async () => {
    const reply = await call(`${instagram()}/${gym.ig_user_id}/tags`, as(gym.access_token));
    expect(reply.json.error.code).toBe(100);
  });

  test('media of people can’t be read directly', async () => {
    for (const path of ['tagged', 'tagged/comments', 'c1']) {
      for (const token of [pizza.access_token, demo.platform.meta.access_token]) {
        expect((await get(path, token)).json.error).toMatchObject({ code: 100, error_subcode: 33 });
      }
    }
  });
});

describe('mentions', () => {
  const media = (id: string) =>
    `${pizza.ig_user_id}?fields=mentioned_media.media_id(${id}){caption,username}`;
  const comment = (id: string) =>
    `${pizza.ig_user_id}?fields=mentioned_comment.comment_id(${id}){text,username}`;

  test('are read by id, without the @', async () => {
    expect((await get(media('caption'))).json).toEqual({
      mentioned_media: { caption: 'at Pizza.Shop!', username: 'jane', id: 'caption' },
      id: pizza.ig_user_id,
    });
    expect((await get(comment('c1'))).json.mentioned_comment).toEqual({
      text: 'pizza.shop hi',
      username: 'jane',
      id: 'c1',
    });
  });

  test.each([
    ['that name somebody else', media('similar')],
    ['that do not exist', media('nothing')],
    ['of private accounts', media('of-shy')],
    ['in comments that are left out', comment('c2')],
  ])('%s are error 100/33', async (_name, path) => {
    expect((await get(path)).json.error).toMatchObject({ code: 100, error_subcode: 33 });
  });

  test('under a medium whose comments were closed can’t be read', async () => {
    await bench.world('meta', {
      posts: [{ id: 'closed', account_id: '500', comments_disabled: true }],
      comments: [
        {
          id: 'c3',
          post_id: 'closed',
          text: '@pizza.shop',
          from: { id: '500', username: 'jane' },
          at: at(8),
        },
      ],
    });
    expect((await get(comment('c3'))).json.error.error_subcode).toBe(33);
  });

  test('are unknown to an Instagram login', async () => {
    const path = `${gym.ig_user_id}?fields=mentioned_media.media_id(caption){caption}`;
    expect((await call(`${instagram()}/${path}`, as(gym.access_token))).json.error.code).toBe(100);
  });
});

test('business discovery tells counts of another account by its name, and never who', async () => {
  await bench.world('meta', {
    accounts: [
      { id: '1784', kind: 'instagram', tenant: 'other', username: 'blue.bottle', followers_count: 267_788 },
    ],
  });
  const field = (name: string) =>
    `${pizza.ig_user_id}?fields=business_discovery.username(${name}){followers_count,media_count}`;
  expect((await get(field('Blue.Bottle'))).json).toEqual({
    business_discovery: { followers_count: 267_788, media_count: 0, id: '1784' },
    id: pizza.ig_user_id,
  });
  expect((await get(field('nobody'))).json.error.code).toBe(110);
});

describe('how many follow', () => {
  const fields = 'fields=followers_count';
  const countOf = async (accountId: string, token: string = pizza.access_token) =>
    (await get(`${accountId}?${fields}`, token)).json;

  test('an Instagram account and a Page tell it, as it grows and shrinks', async () => {
    for (const id of [pizza.ig_user_id, pizza.page_id]) {
      await bench.world('meta', { followers: [{ account_id: id, count: 100 }] });
      expect(await countOf(id)).toEqual({ followers_count: 100, id });
      await bench.world('meta', { followers: [{ account_id: id, by: 7 }] });
      expect(await countOf(id)).toEqual({ followers_count: 107, id });
      await bench.world('meta', { followers: [{ account_id: id, by: -200 }] });
      expect(await countOf(id)).toEqual({ followers_count: 0, id });
    }
    const gymCount = await call(`${instagram()}/${gym.ig_user_id}?${fields}`, as(gym.access_token));
    expect(gymCount.json).toEqual({ followers_count: 0, id: gym.ig_user_id });
  });

  test('other accounts are not there for a token, and without the permission nothing is told', async () => {
    for (const id of [salon.page_id, salon.ig_user_id, 'nothing']) {
      expect((await countOf(id)).error).toMatchObject({ code: 100, error_subcode: 33 });
    }
    const limited = {
      ...{ token: 'limited', tenant: 'pizza-shop', kind: 'page', scopes: ['pages_show_list'] },
      accounts: [pizza.page_id, pizza.ig_user_id],
    } as const;
    await bench.world('meta', { tokens: [limited] });
    for (const id of [pizza.ig_user_id, pizza.page_id]) {
      expect((await countOf(id, 'limited')).error).toMatchObject({ code: 10 });
    }
    const scopes = ['instagram_basic', 'pages_read_engagement'];
    await bench.world('meta', { tokens: [{ ...limited, scopes }] });
    for (const id of [pizza.ig_user_id, pizza.page_id]) {
      expect(await countOf(id, 'limited')).toMatchObject({ followers_count: 0 });
    }
  });

  test.each([
    ['of nobody', { account_id: 'nothing', by: 1 }],
    ['that says both', { account_id: pizza.page_id, by: 1, count: 1 }],
    ['that says neither', { account_id: pizza.page_id }],
  ])('a change %s is refused', async (_what, change) => {
    const body = JSON.stringify({ followers: [change] });
    const reply = await fetch(`${bench.url('meta')}/_world`, { method: 'POST', body });
    expect(reply.status).toBe(400);
  });
});

describe('a profile', () => {
  const fields = 'fields=username,is_user_follow_business,is_business_follow_user';
  const read = (igsid: string, token?: string) => get(`${igsid}?${fields}`, token);

  test('opens with the first message, and stays open when the person is described anew', async () => {
    await bench.world('meta', { people: [{ igsid: '510', username: 'new' }] });
    expect((await read('510')).json.error).toMatchObject({
      code: 230,
      message: 'User consent is required to access user profile',
    });
    await bench.world('meta', { messages: [{ from: '510', to: pizza.ig_user_id, text: 'hi' }] });
    const follows = { igsid: '510', username: 'new', follows: [pizza.ig_user_id] };
    await bench.world('meta', { people: [{ ...follows, followed_by: [pizza.ig_user_id] }] });
    expect((await read('510')).json).toEqual({
      username: 'new',
      is_user_follow_business: true,
      is_business_follow_user: true,
      id: '510',
    });
    expect((await read('510', demo.platform.meta.access_token)).json.username).toBe('new');
  });

  test('of somebody who only commented is closed, and one of nobody does not exist', async () => {
    await bench.world('meta', {
      posts: [{ id: 'commented-on', account_id: pizza.ig_user_id }],
      comments: [{ post_id: 'commented-on', text: 'hi', from: { id: '512', username: 'passer.by' } }],
    });
    expect((await read('512')).json.error.code).toBe(230);
    expect((await read('513')).json.error).toMatchObject({ code: 100, error_subcode: 33 });
  });

  test('does not open with a story mention unless the world says so, and not to another business', async () => {
    const mention = { from: '511', to: pizza.ig_user_id, story_mention: true };
    await bench.world('meta', { people: [{ igsid: '511', username: 'story' }], messages: [mention] });
    expect((await read('511')).json.error.code).toBe(230);
    await bench.world('meta', { messages: [{ ...mention, consents: true }] });
    expect((await read('511')).status).toBe(200);
    const reply = await call(`${instagram()}/511?${fields}`, as(gym.access_token));
    expect(reply.json.error.code).toBe(230);
  });
});

describe('reactions and likes', () => {
  const reactions = `${pagePost}/reactions?summary=total_count`;
  const page = (mode: 'list' | 'counts') =>
    bench.world('meta', {
      accounts: [{ id: pizza.page_id, kind: 'page', tenant: 'pizza-shop', name: 'Pizza', reactions: mode }],
    });

  test('by default only their number is told, and only when asked for', async () => {
    expect((await get(reactions)).json).toEqual({
      data: [],
      summary: { total_count: 9, viewer_reaction: 'NONE' },
    });
    expect((await get(`${pagePost}/reactions`)).json).toEqual({ data: [] });
    expect((await get(`${reactions}&type=LOVE`)).json.summary.total_count).toBe(1);
  });

  test('where the world lists them, the Page’s token sees who, page by page; a user’s token does not', async () => {
    await page('list');
    await bench.world('meta', {
      tokens: [{ token: 'person', tenant: 'pizza-shop', kind: 'user', accounts: [pizza.page_id] }],
    });
    const first = await get(`${reactions}&limit=1`);
    expect(first.json.data).toEqual([{ name: 'Ada', type: 'LOVE', id: '71' }]);
    const second = await get(`${reactions}&limit=1&after=${first.json.paging.cursors.after}`);
    expect(second.json.data).toEqual([{ name: 'Bob', type: 'LIKE', id: '72' }]);
    expect(second.json.paging.next).toBeUndefined();
    expect((await get(reactions, 'person')).json.data).toEqual([]);
    await page('counts');
  });

  test('likes of a post are a number; those of a Page are not its fans', async () => {
    expect((await get(`${pagePost}/likes?summary=true`)).json.summary.total_count).toBe(8);
    expect((await get(`${pizza.page_id}/likes`)).json).toEqual({ data: [] });
  });

  test('what a user likes is told to that user’s token with user_likes, and to nobody else', async () => {
    const user = { tenant: 'pizza-shop', kind: 'user', user_id: '42', likes: [salon.page_id] };
    await bench.world('meta', {
      tokens: [
        { ...user, token: 'liker', scopes: ['user_likes'] },
        { ...user, token: 'unapproved', scopes: ['public_profile'] },
      ],
    });
    const ask = (token: string, target: string, who = '42') => get(`${who}/likes?target_id=${target}`, token);
    expect((await ask('liker', salon.page_id)).json.data).toMatchObject([{ id: salon.page_id }]);
    expect((await ask('liker', salon.page_id, 'me')).json.data).toHaveLength(1);
    expect((await ask('liker', pizza.page_id)).json.data).toEqual([]);
    expect((await ask('unapproved', salon.page_id)).json.error.code).toBe(200);
    expect((await ask(pizza.access_token, salon.page_id)).json.error.error_subcode).toBe(33);
  });
});

describe('subscribed_apps', () => {
  const subscribe = (url: string, token: string) => post(`${url}?subscribed_fields=feed,messages`, token, {});

  test('a Page is subscribed with its own token, and shows it', async () => {
    const url = `${facebook()}/${pizza.page_id}/subscribed_apps`;
    expect((await call(url, as(pizza.access_token))).json).toEqual({ data: [] });
    expect((await subscribe(url, pizza.access_token)).json).toEqual({ success: true });
    expect((await call(url, as(pizza.access_token))).json.data).toEqual([
      { id: '100000000001', subscribed_fields: ['feed', 'messages'] },
    ]);
    expect((await post(url, pizza.access_token, {})).json.error.code).toBe(100);
    await bench.world('meta', {
      tokens: [{ token: 'no-page', tenant: 'pizza-shop', kind: 'user', accounts: [pizza.page_id] }],
    });
    expect((await subscribe(url, 'no-page')).json.error.code).toBe(210);
  });

  test('an Instagram account is subscribed as me; another’s can’t be', async () => {
    const me = `${instagram()}/me/subscribed_apps`;
    expect((await subscribe(me, gym.access_token)).json).toEqual({ success: true });
    const other = `${instagram()}/${pizza.ig_user_id}/subscribed_apps`;
    expect((await subscribe(other, gym.access_token)).json.error.error_subcode).toBe(33);
    const shown = await call(`${bench.url('meta')}/_world`);
    expect(shown.json.subscriptions[gym.ig_user_id]).toEqual(['feed', 'messages']);
  });
});

describe('what happens is told', () => {
  const events = (change: MetaWorldInput, before: MetaWorldInput = {}): MetaEvent[] => {
    const world = createMetaWorld('demo');
    world.apply(before);
    const heard: MetaEvent[] = [];
    const stop = world.listen((event) => heard.push(event));
    world.apply(change);
    stop();
    world.apply({ messages: [{ from: '1', to: pizza.ig_user_id, text: 'nobody listens' }] });
    return heard;
  };
  const media = { posts: [{ id: 'm', account_id: pizza.ig_user_id }] };
  const by = { from: { id: '500', username: 'jane' }, at: at(0) };

  test('a comment on Instagram, a reply, and the business’s own', () => {
    const heard = events(
      {
        comments: [
          { id: '1', post_id: 'm', text: 'OC-1', ...by },
          { id: '2', post_id: 'm', parent_id: '1', text: 'yes', ...by },
          { id: '3', post_id: 'm', text: 'gone', omitted: 'restricted', ...by },
          { id: '4', post_id: 'm', text: 'ty', from: { id: pizza.ig_user_id, username: 'pizza.shop' } },
        ],
      },
      media,
    );
    expect(heard.map(({ field }) => field)).toEqual(['comments', 'comments', 'comments']);
    expect(heard[0]).toEqual({
      object: 'instagram',
      account_id: pizza.ig_user_id,
      tenant: 'pizza-shop',
      at: Date.parse(at(0)),
      field: 'comments',
      value: {
        from: { id: '500', username: 'jane' },
        id: '1',
        text: 'OC-1',
        media: { id: 'm', media_product_type: 'FEED' },
      },
    });
    expect(heard[1]?.value.parent_id).toBe('1');
    expect(heard[2]?.value.from).toMatchObject({ self_ig_scoped_id: pizza.ig_user_id });
  });

  test('mentions in captions and comments of others, but not of private accounts', () => {
    const { people: persons = [], posts = [], comments = [] } = people;
    const heard = events({ people: persons, posts, comments });
    expect(heard.map(({ account_id, field, value }) => ({ account_id, field, value }))).toEqual([
      { account_id: pizza.ig_user_id, field: 'mentions', value: { media_id: 'caption' } },
      {
        account_id: pizza.ig_user_id,
        field: 'mentions',
        value: { media_id: 'caption', comment_id: 'c1' },
      },
    ]);
  });

  test('comments and reactions of a Page, and the removal of a comment', () => {
    const heard = events(
      {
        comments: [
          { id: '5_1', post_id: pagePost, text: 'hi', from: { id: '71', name: 'Ada' }, at: at(0) },
          { id: '5_2', post_id: pagePost, text: 'x', from: { id: '72', name: 'B' }, from_withheld: true },
        ],
        reactions: [{ post_id: pagePost, from: { id: '71', name: 'Ada' }, type: 'LOVE' }],
        remove: { comments: ['5_1'] },
      },
      { posts: [{ id: pagePost, account_id: pizza.page_id }] },
    );
    expect(heard.map(({ object, field, value }) => [object, field, value.item, value.verb])).toEqual([
      ['page', 'feed', 'comment', 'add'],
      ['page', 'feed', 'comment', 'add'],
      ['page', 'feed', 'reaction', 'add'],
      ['page', 'feed', 'comment', 'remove'],
    ]);
    expect(heard[0]?.value).toEqual({
      item: 'comment',
      verb: 'add',
      comment_id: '5_1',
      post_id: pagePost,
      parent_id: pagePost,
      from: { id: '71', name: 'Ada' },
      message: 'hi',
      created_time: Date.parse(at(0)) / 1000,
    });
    expect(heard[1]?.value).not.toHaveProperty('from');
    expect(heard[2]?.value).toMatchObject({ reaction_type: 'love', from: { id: '71' } });
  });

  test('messages with the ref of the link they came through, and story mentions', () => {
    const heard = events({
      messages: [
        { mid: 'm1', from: '500', to: pizza.ig_user_id, text: 'OC-1', ref: 'OC-1', at: at(0) },
        { mid: 'm2', from: '500', to: pizza.ig_user_id, story_mention: true, at: at(1) },
        { mid: 'm3', from: '71', to: pizza.page_id, text: 'hi' },
      ],
    });
    expect(heard[0]).toMatchObject({
      object: 'instagram',
      field: 'messages',
      value: {
        sender: { id: '500' },
        recipient: { id: pizza.ig_user_id },
        timestamp: Date.parse(at(0)),
        message: { mid: 'm1', text: 'OC-1' },
        referral: { ref: 'OC-1' },
      },
    });
    expect(heard[1]?.value.message).toMatchObject({ attachments: [{ type: 'story_mention' }] });
    expect(heard[2]).toMatchObject({ object: 'page', account_id: pizza.page_id });
    expect(heard).toHaveLength(3);
  });
});
