// The world behind the Meta simulator: apps, tokens, accounts, posts, comments, people. And the demo world: the three
// tenants and the platform, with obviously fake tokens.
import { z } from 'zod';
import { fingerprint } from './log.ts';

/** Tokens and account ids of the default world. All of them are made up. */
export const demo = {
  'pizza-shop': {
    meta: {
      kind: 'facebook_login',
      access_token: 'demo-meta-pizza-shop',
      page_id: '100000000000001',
      ig_user_id: '17841400000000001',
    },
    waapi: { instance_id: '1001', token: 'demo-waapi-pizza-shop' },
    stripe: { api_key: 'rk_test_demo_pizza_shop' },
  },
  gym: {
    meta: { kind: 'instagram_login', access_token: 'demo-meta-gym', ig_user_id: '17841400000000002' },
  },
  salon: {
    meta: { page_id: '100000000000003', ig_user_id: '17841400000000003' },
  },
  platform: {
    meta: { kind: 'facebook_login', access_token: 'demo-meta-platform' },
    whatsapp: { phone_number_id: '106540000000000', access_token: 'demo-whatsapp-platform' },
    stripe: { api_key: 'sk_test_demo_platform' },
    resend: { api_key: 're_demo_platform' },
  },
} as const;

const id = z.string().min(1).max(100);
const tenant = z.string().min(1).max(100);
const time = z.iso
  .datetime({ offset: true })
  .transform((text) => Date.parse(text))
  .optional();

const appInput = z.strictObject({
  app_id: id,
  app_secret: z.string().min(1).optional(),
  /** "Require App Secret" is on: calls without appsecret_proof are refused. */
  require_proof: z.boolean().default(false),
  /** Calls per window before code 4. */
  budget: z.int().min(1).default(5_000_000),
  window_seconds: z.int().min(1).default(3600),
});

const tokenInput = z.strictObject({
  token: z.string().min(1),
  tenant,
  /**
   * `user`: Facebook user token (reads no comments of Page posts); `page`: Page token; `instagram`: token of an
   * Instagram Login; `system`: agency access, acts as a Page token on every account it may see.
   */
  kind: z.enum(['user', 'page', 'instagram', 'system']),
  /** Account ids that it may see, or `*`. */
  accounts: z.union([z.literal('*'), z.array(id)]).default([]),
  /** Granted permissions; left out: all of them. */
  scopes: z.array(z.string()).optional(),
  app_id: id.default('100000000000'),
  user_id: id.default('9000000001'),
  issued_at: time,
  /** Left out: never. */
  expires_at: time,
  /** The token answers 190 with this subcode (null: none). */
  broken: z.strictObject({ subcode: z.int().nullable().default(null) }).optional(),
  /** Calls per window before code 80001 or 80002. */
  budget: z.int().min(1).default(1_000_000),
  window_seconds: z.int().min(1).default(3600),
});

const accountInput = z.strictObject({
  id,
  kind: z.enum(['page', 'instagram']),
  tenant,
  name: z.string().default(''),
  /** Instagram: the account's user name. */
  username: z.string().default(''),
  /** Instagram: the Page that it is connected to. */
  page_id: id.optional(),
  followers_count: z.int().min(0).default(0),
});

const postInput = z.strictObject({
  /** Left out: made up. A Page post's id is `{page}_{post}`. */
  id: id.optional(),
  account_id: id,
  caption: z.string().default(''),
  at: time,
  comments_disabled: z.boolean().default(false),
  like_count: z.int().min(0).default(0),
  /** Instagram: users tagged in it; it appears under `/tags` of these accounts. */
  tags: z.array(id).default([]),
});

const commentInput = z.strictObject({
  id: id.optional(),
  post_id: id,
  text: z.string(),
  /** Instagram: id (IGSID) and username; Page: id (page-scoped) and name. */
  from: z.strictObject({ id, username: z.string().optional(), name: z.string().optional() }),
  at: time,
  parent_id: id.optional(),
  /** Hidden by the owner: still listed, marked as hidden. */
  hidden: z.boolean().default(false),
  /** Silently left out of every answer, without a trace. */
  omitted: z.enum(['restricted', 'age_gated', 'live', 'ad', 'hidden']).optional(),
  /** Page: listed, but without `from`. */
  from_withheld: z.boolean().default(false),
});

const personInput = z.strictObject({
  /** Instagram-scoped id. */
  igsid: id,
  username: z.string(),
  name: z.string().nullable().default(null),
  follower_count: z.int().min(0).default(0),
  /** Has messaged the business (account id), so that its profile may be read. */
  consented_to: z.array(id).default([]),
  /** Follows these accounts. */
  follows: z.array(id).default([]),
  /** Has blocked these accounts. */
  blocks: z.array(id).default([]),
});

const usageInput = z
  .strictObject({
    token: z.string().optional(),
    app_id: id.optional(),
    calls: z.int().min(0).optional(),
    percent: z.number().min(0).max(1000).optional(),
  })
  .refine(
    (usage) => (usage.token === undefined) !== (usage.app_id === undefined),
    'name a token or an app_id',
  )
  .refine((usage) => (usage.calls === undefined) !== (usage.percent === undefined), 'give calls or percent');

export const metaWorldSchema = z.strictObject({
  apps: z.array(appInput).default([]),
  tokens: z.array(tokenInput).default([]),
  accounts: z.array(accountInput).default([]),
  posts: z.array(postInput).default([]),
  comments: z.array(commentInput).default([]),
  people: z.array(personInput).default([]),
  /** Sets how much of a budget is used in the current window. */
  usage: z.array(usageInput).default([]),
  remove: z
    .strictObject({
      tokens: z.array(z.string()).default([]),
      posts: z.array(id).default([]),
      comments: z.array(id).default([]),
    })
    .optional(),
});
/** What `POST /_world` of the Meta simulator takes. */
export type MetaWorldInput = z.input<typeof metaWorldSchema>;

/** Calls in a window that begins with its first call. */
export interface Usage {
  budget: number;
  windowMs: number;
  startedAt: number;
  calls: number;
}

export type MetaApp = z.output<typeof appInput> & { usage: Usage };
export type MetaToken = z.output<typeof tokenInput> & { usage: Usage };
export type MetaAccount = z.output<typeof accountInput>;
export interface MetaComment extends Omit<z.output<typeof commentInput>, 'id' | 'at'> {
  id: string;
  at: number;
  ordinal: number;
  replies: MetaComment[];
}
export interface MetaPost extends Omit<z.output<typeof postInput>, 'id' | 'at'> {
  id: string;
  at: number;
  account: MetaAccount;
  /** Oldest first, replies among them. */
  comments: MetaComment[];
}
export type MetaPerson = z.output<typeof personInput>;

export interface MetaWorld {
  apps: Map<string, MetaApp>;
  tokens: Map<string, MetaToken>;
  accounts: Map<string, MetaAccount>;
  posts: Map<string, MetaPost>;
  comments: Map<string, MetaComment>;
  people: Map<string, MetaPerson>;
  apply(change: unknown): { posts: string[]; comments: string[] };
  show(): unknown;
}

/** Calls so far in the current window. */
export function callsIn(usage: Usage, now: number): number {
  return now - usage.startedAt >= usage.windowMs ? 0 : usage.calls;
}

/** Counts a call. Returns false when the budget was used up before it. */
export function charge(usage: Usage, now: number): boolean {
  if (now - usage.startedAt >= usage.windowMs) {
    usage.startedAt = now;
    usage.calls = 0;
  }
  usage.calls += 1;
  if (usage.calls <= usage.budget) return true;
  // "Continuing to make calls will increase the time": every refused call moves the window's end by a second.
  usage.startedAt += 1000;
  return false;
}

const fresh = (budget: number, seconds: number): Usage => ({
  budget,
  windowMs: seconds * 1000,
  startedAt: 0,
  calls: 0,
});

function before(a: { at: number; ordinal: number }, b: { at: number; ordinal: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.ordinal < b.ordinal);
}

/** Number of comments that are older than this place (or at it, with `including`). */
export function countBefore(
  comments: readonly MetaComment[],
  place: { at: number; ordinal: number },
  including = false,
): number {
  let low = 0;
  let high = comments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const comment = comments[middle];
    if (comment && (including ? !before(place, comment) : before(comment, place))) low = middle + 1;
    else high = middle;
  }
  return low;
}

function issue(path: string, message: string): z.ZodError {
  return new z.ZodError([{ code: 'custom', path: [path], message, input: undefined }]);
}

/** An empty world, or the demo world. */
export function createMetaWorld(content: 'demo' | 'empty'): MetaWorld {
  const apps = new Map<string, MetaApp>();
  const tokens = new Map<string, MetaToken>();
  const accounts = new Map<string, MetaAccount>();
  const posts = new Map<string, MetaPost>();
  const comments = new Map<string, MetaComment>();
  const people = new Map<string, MetaPerson>();
  let ordinal = 0;

  const nextId = (start: bigint): string => {
    ordinal += 1;
    return String(start + BigInt(ordinal));
  };

  function addPost(input: z.output<typeof postInput>): string {
    const account = accounts.get(input.account_id);
    if (!account) throw issue('posts', `there is no account ${input.account_id}`);
    const made =
      account.kind === 'page'
        ? `${account.id}_${nextId(122_000_000_000_000n)}`
        : nextId(17_900_000_000_000_000n);
    const post: MetaPost = {
      ...input,
      id: input.id ?? made,
      at: input.at ?? Date.now(),
      account,
      comments: [],
    };
    const old = posts.get(post.id);
    if (old) post.comments = old.comments;
    posts.set(post.id, post);
    return post.id;
  }

  function addComment(input: z.output<typeof commentInput>): string {
    const post = posts.get(input.post_id);
    if (!post) throw issue('comments', `there is no post ${input.post_id}`);
    const onPage = post.account.kind === 'page';
    if (!onPage && input.from.username === undefined)
      throw issue('comments', 'an Instagram author has a username');
    if (onPage && input.from.name === undefined)
      throw issue('comments', "a Page comment's author has a name");
    const made = onPage
      ? `${post.id.split('_').at(-1)}_${nextId(98_000_000n)}`
      : nextId(18_000_000_000_000_000n);
    const commentId = input.id ?? made;
    if (comments.has(commentId)) throw issue('comments', `there is a comment ${commentId} already`);
    ordinal += 1;
    const comment: MetaComment = {
      ...input,
      id: commentId,
      at: input.at ?? Date.now(),
      ordinal,
      replies: [],
    };
    if (input.parent_id !== undefined) {
      const parent = comments.get(input.parent_id);
      if (!parent || parent.post_id !== post.id)
        throw issue('comments', `no comment ${input.parent_id} on this post`);
      parent.replies.push(comment);
    }
    post.comments.splice(countBefore(post.comments, comment), 0, comment);
    comments.set(commentId, comment);
    return commentId;
  }

  function removeComment(commentId: string): void {
    const comment = comments.get(commentId);
    if (!comment) throw issue('remove.comments', `there is no comment ${commentId}`);
    comments.delete(commentId);
    const post = posts.get(comment.post_id);
    if (post) post.comments = post.comments.filter((other) => other !== comment);
    const parent = comment.parent_id === undefined ? undefined : comments.get(comment.parent_id);
    if (parent) parent.replies = parent.replies.filter((other) => other !== comment);
  }

  function apply(change: unknown): { posts: string[]; comments: string[] } {
    const input = metaWorldSchema.parse(change);
    for (const app of input.apps)
      apps.set(app.app_id, { ...app, usage: fresh(app.budget, app.window_seconds) });
    for (const token of input.tokens) {
      tokens.set(token.token, { ...token, usage: fresh(token.budget, token.window_seconds) });
      if (!apps.has(token.app_id)) {
        const app = appInput.parse({ app_id: token.app_id });
        apps.set(app.app_id, { ...app, usage: fresh(app.budget, app.window_seconds) });
      }
    }
    for (const account of input.accounts) {
      accounts.set(account.id, account);
      for (const post of posts.values()) if (post.account_id === account.id) post.account = account;
    }
    for (const person of input.people) people.set(person.igsid, person);
    const created = { posts: input.posts.map(addPost), comments: input.comments.map(addComment) };
    for (const wanted of input.usage) {
      const owner = wanted.token === undefined ? apps.get(wanted.app_id ?? '') : tokens.get(wanted.token);
      if (!owner) throw issue('usage', 'there is no such token or app');
      owner.usage.startedAt = Date.now();
      owner.usage.calls = wanted.calls ?? Math.round((owner.usage.budget * (wanted.percent ?? 0)) / 100);
    }
    for (const token of input.remove?.tokens ?? []) tokens.delete(token);
    for (const postId of input.remove?.posts ?? []) {
      for (const comment of posts.get(postId)?.comments ?? []) comments.delete(comment.id);
      posts.delete(postId);
    }
    for (const commentId of input.remove?.comments ?? []) removeComment(commentId);
    return created;
  }

  if (content === 'demo') apply(demoMeta);

  return {
    apps,
    tokens,
    accounts,
    posts,
    comments,
    people,
    apply,
    show() {
      const now = Date.now();
      return {
        apps: [...apps.values()].map(({ app_secret, usage, ...app }) => ({
          ...app,
          app_secret: app_secret === undefined ? null : fingerprint(app_secret),
          calls: callsIn(usage, now),
        })),
        tokens: [...tokens.values()].map(({ token, usage, ...rest }) => ({
          token: fingerprint(token),
          ...rest,
          calls: callsIn(usage, now),
        })),
        accounts: [...accounts.values()],
        posts: [...posts.values()].map(({ account, comments: list, ...post }) => ({
          ...post,
          tenant: account.tenant,
          comments: list.length,
        })),
        comments: [...comments.values()].map(({ replies, ...comment }) => ({
          ...comment,
          replies: replies.length,
        })),
        people: [...people.values()],
      };
    },
  };
}

const pizza = demo['pizza-shop'].meta;
const gym = demo.gym.meta;
const salon = demo.salon.meta;

const demoMeta: MetaWorldInput = {
  accounts: [
    { id: pizza.page_id, kind: 'page', tenant: 'pizza-shop', name: 'Pizza Shop' },
    {
      id: pizza.ig_user_id,
      kind: 'instagram',
      tenant: 'pizza-shop',
      name: 'Pizza Shop',
      username: 'pizza.shop',
      page_id: pizza.page_id,
    },
    { id: gym.ig_user_id, kind: 'instagram', tenant: 'gym', name: 'Gym', username: 'the.gym' },
    { id: salon.page_id, kind: 'page', tenant: 'salon', name: 'Salon' },
    {
      id: salon.ig_user_id,
      kind: 'instagram',
      tenant: 'salon',
      name: 'Salon',
      username: 'salon.style',
      page_id: salon.page_id,
    },
  ],
  tokens: [
    {
      token: pizza.access_token,
      tenant: 'pizza-shop',
      kind: 'page',
      accounts: [pizza.page_id, pizza.ig_user_id],
      app_id: '100000000001',
    },
    {
      token: gym.access_token,
      tenant: 'gym',
      kind: 'instagram',
      accounts: [gym.ig_user_id],
      app_id: '100000000002',
    },
    {
      token: demo.platform.meta.access_token,
      tenant: 'platform',
      kind: 'system',
      accounts: '*',
      app_id: '100000000009',
    },
  ],
};
