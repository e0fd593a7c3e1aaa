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
    app: {
      app_id: '100000000001',
      app_secret: 'demo-app-secret-pizza-shop',
      verify_token: 'demo-verify-pizza-shop',
    },
    waapi: { instance_id: '1001', token: 'demo-waapi-pizza-shop' },
    stripe: { api_key: 'rk_test_demo_pizza_shop' },
  },
  gym: {
    meta: { kind: 'instagram_login', access_token: 'demo-meta-gym', ig_user_id: '17841400000000002' },
    app: {
      app_id: '100000000002',
      app_secret: 'demo-app-secret-gym',
      verify_token: 'demo-verify-gym',
    },
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
  /** User token: the Pages that this user likes. */
  likes: z.array(id).default([]),
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
  /** Page: whether `/reactions` tells a Page token who reacted. Meta's documents leave that open. */
  reactions: z.enum(['list', 'counts']).default('counts'),
});

const followersInput = z
  .strictObject({
    account_id: id,
    /** So many follow it now. */
    count: z.int().min(0).optional(),
    /** So many more than before, or fewer. */
    by: z.int().optional(),
  })
  .refine(({ count, by }) => (count === undefined) !== (by === undefined), 'give count or by');

const postInput = z.strictObject({
  /** Left out: made up. A Page post's id is `{page}_{post}`. */
  id: id.optional(),
  /** The account, or the person (IGSID) whose Instagram media it is. */
  account_id: id,
  caption: z.string().default(''),
  at: time,
  comments_disabled: z.boolean().default(false),
  like_count: z.int().min(0).default(0),
  /** Instagram: users tagged in it; it appears under `/tags` of these accounts. */
  tags: z.array(id).default([]),
  /** Left out of every answer: media of a private account. */
  is_private: z.boolean().default(false),
});

const reactionInput = z.strictObject({
  post_id: id,
  /** Page-scoped id and name. */
  from: z.strictObject({ id, name: z.string() }),
  type: z.enum(['LIKE', 'LOVE', 'WOW', 'HAHA', 'SAD', 'ANGRY', 'CARE']).default('LIKE'),
  at: time,
});

const messageInput = z.strictObject({
  mid: id.optional(),
  /** IGSID or PSID of the person. */
  from: id,
  /** The account that it is written to. */
  to: id,
  text: z.string().optional(),
  /** The `ref` of an ig.me or m.me link through which the person came. */
  ref: z.string().optional(),
  /** The account was mentioned in the person's story. */
  story_mention: z.boolean().default(false),
  /** Whether the profile may be read from now on. Left out: a message opens it, a story mention does not. */
  consents: z.boolean().optional(),
  at: time,
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
  /** Is followed by these accounts. */
  followed_by: z.array(id).default([]),
  /** Has blocked these accounts. */
  blocks: z.array(id).default([]),
  /** A private account: its media and mentions are not told to anybody. */
  is_private: z.boolean().default(false),
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
  reactions: z.array(reactionInput).default([]),
  messages: z.array(messageInput).default([]),
  /** How many follow an account, in place; `accounts` describes it anew. */
  followers: z.array(followersInput).default([]),
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
  /** The person who owns it; null for an account's own. */
  person: MetaPerson | null;
  /** Oldest first, replies among them. */
  comments: MetaComment[];
  reactions: z.output<typeof reactionInput>[];
}
export type MetaPerson = z.output<typeof personInput>;

/** Something happened that Meta tells subscribers of: what a webhook's `changes[]` or `messaging[]` entry says. */
export interface MetaEvent {
  object: 'instagram' | 'page';
  account_id: string;
  tenant: string;
  /** Unix time in ms. */
  at: number;
  /** `messages`: `value` is an entry of `messaging[]`; else `{field, value}` is one of `changes[]`. */
  field: 'comments' | 'mentions' | 'feed' | 'messages';
  value: Record<string, unknown>;
}

export interface MetaWorld {
  apps: Map<string, MetaApp>;
  tokens: Map<string, MetaToken>;
  accounts: Map<string, MetaAccount>;
  posts: Map<string, MetaPost>;
  comments: Map<string, MetaComment>;
  people: Map<string, MetaPerson>;
  /** Webhook fields by account id, as `subscribed_apps` set them. */
  subscriptions: Map<string, string[]>;
  /** Whether the person's profile may be read by this account. */
  hasConsented(person: MetaPerson, accountId: string): boolean;
  /** Calls `listener` for everything that happens from now on, in its order; answers how to stop that. */
  listen(listener: (event: MetaEvent) => void): () => void;
  apply(change: unknown): Created;
  show(): unknown;
}

/** Ids of what a change of the world made. */
export interface Created {
  posts: string[];
  comments: string[];
  messages: string[];
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

/** Media that no answer shows: of a private account, or private itself. */
export function isHidden(post: MetaPost): boolean {
  return post.is_private || post.person?.is_private === true;
}

/** Whether a text names this account with `@`. */
export function mentions(text: string, account: MetaAccount): boolean {
  const at = text.toLowerCase().indexOf(`@${account.username.toLowerCase()}`);
  return account.username !== '' && at >= 0 && !/[\w.]/.test(text[at + account.username.length + 1] ?? '');
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
  const subscriptions = new Map<string, string[]>();
  /** `igsid account` of everybody who wrote. Apart from `people`: a person who is described anew has still written. */
  const wrote = new Set<string>();
  const listeners = new Set<(event: MetaEvent) => void>();
  let ordinal = 0;

  function tell(
    account: MetaAccount,
    at: number,
    field: MetaEvent['field'],
    value: MetaEvent['value'],
  ): void {
    const { id: account_id, tenant, kind: object } = account;
    for (const listener of listeners) listener({ object, account_id, tenant, at, field, value });
  }

  /** Accounts other than the post's own that a text of it names. Private media tell nobody. */
  function tellMentions(post: MetaPost, text: string, at: number, value: Record<string, unknown>): void {
    if (listeners.size === 0 || post.account.kind !== 'instagram' || isHidden(post)) return;
    for (const account of accounts.values()) {
      if (account.kind !== 'instagram' || account === post.account) continue;
      if (mentions(text, account)) tell(account, at, 'mentions', value);
    }
  }

  const nextId = (start: bigint): string => {
    ordinal += 1;
    return String(start + BigInt(ordinal));
  };

  /** A person's media hang on an account that is in nobody's list and belongs to no tenant. */
  function accountOfPerson(igsid: string): { account: MetaAccount; person: MetaPerson } | null {
    const person = people.get(igsid);
    if (!person) return null;
    const known = { id: igsid, kind: 'instagram', tenant: 'nobody', username: person.username };
    return { account: accountInput.parse({ ...known, name: person.name ?? '' }), person };
  }

  function addPost(input: z.output<typeof postInput>): string {
    const owner = accountOfPerson(input.account_id);
    const account = accounts.get(input.account_id) ?? owner?.account;
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
      person: accounts.has(input.account_id) ? null : (owner?.person ?? null),
      comments: [],
      reactions: [],
    };
    const old = posts.get(post.id);
    if (old) {
      post.comments = old.comments;
      post.reactions = old.reactions;
    }
    posts.set(post.id, post);
    tellMentions(post, post.caption, post.at, { media_id: post.id });
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
    if (listeners.size > 0 && comment.omitted === undefined) tellComment(post, comment);
    return commentId;
  }

  function tellComment(post: MetaPost, comment: MetaComment): void {
    const { at, from } = comment;
    if (post.account.kind === 'page') {
      tell(post.account, at, 'feed', { ...feedItem(post, at, 'add'), ...feedComment(comment) });
      return;
    }
    if (post.person === null) {
      const own = from.id === post.account.id ? { self_ig_scoped_id: from.id } : {};
      tell(post.account, at, 'comments', {
        from: { id: from.id, username: from.username, ...own },
        id: comment.id,
        text: comment.text,
        ...(comment.parent_id === undefined ? {} : { parent_id: comment.parent_id }),
        media: { id: post.id, media_product_type: 'FEED' },
      });
    }
    tellMentions(post, comment.text, at, { media_id: post.id, comment_id: comment.id });
  }

  function feedItem(post: MetaPost, at: number, verb: 'add' | 'remove'): Record<string, unknown> {
    return { post_id: post.id, parent_id: post.id, verb, created_time: Math.floor(at / 1000) };
  }

  function feedComment(comment: MetaComment): Record<string, unknown> {
    return {
      item: 'comment',
      comment_id: comment.id,
      ...(comment.parent_id === undefined ? {} : { parent_id: comment.parent_id }),
      ...(comment.from_withheld ? {} : { from: { id: comment.from.id, name: comment.from.name } }),
      message: comment.text,
    };
  }

  function addReaction(input: z.output<typeof reactionInput>): void {
    const post = posts.get(input.post_id);
    if (post?.account.kind !== 'page') throw issue('reactions', `no Page post ${input.post_id}`);
    post.reactions = [...post.reactions.filter((other) => other.from.id !== input.from.id), input];
    const at = input.at ?? Date.now();
    const value = { ...feedItem(post, at, 'add'), item: 'reaction', from: input.from };
    tell(post.account, at, 'feed', { ...value, reaction_type: input.type.toLowerCase() });
  }

  function addMessage(input: z.output<typeof messageInput>): string {
    const account = accounts.get(input.to);
    if (!account) throw issue('messages', `there is no account ${input.to}`);
    const mid = input.mid ?? `m_${nextId(1_000_000_000n)}`;
    const at = input.at ?? Date.now();
    if (input.consents ?? !input.story_mention) wrote.add(`${input.from} ${account.id}`);
    const url = `https://lookaside.example/story/${mid}`;
    tell(account, at, 'messages', {
      sender: { id: input.from },
      recipient: { id: account.id },
      timestamp: at,
      message: {
        mid,
        ...(input.text === undefined ? {} : { text: input.text }),
        ...(input.story_mention ? { attachments: [{ type: 'story_mention', payload: { url } }] } : {}),
      },
      ...(input.ref === undefined
        ? {}
        : { referral: { ref: input.ref, source: 'SHORTLINK', type: 'OPEN_THREAD' } }),
    });
    return mid;
  }

  function removeComment(commentId: string): void {
    const comment = comments.get(commentId);
    if (!comment) throw issue('remove.comments', `there is no comment ${commentId}`);
    comments.delete(commentId);
    const post = posts.get(comment.post_id);
    if (post) post.comments = post.comments.filter((other) => other !== comment);
    const parent = comment.parent_id === undefined ? undefined : comments.get(comment.parent_id);
    if (parent) parent.replies = parent.replies.filter((other) => other !== comment);
    if (post?.account.kind === 'page') {
      const at = Date.now();
      tell(post.account, at, 'feed', {
        ...feedItem(post, at, 'remove'),
        item: 'comment',
        comment_id: commentId,
      });
    }
  }

  function apply(change: unknown): Created {
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
    for (const { account_id, count, by } of input.followers) {
      const account = accounts.get(account_id);
      if (!account) throw issue('followers', `there is no account ${account_id}`);
      account.followers_count = Math.max(0, count ?? account.followers_count + (by ?? 0));
    }
    for (const person of input.people) {
      // In place: media that are there already belong to the person as described last.
      const known = people.get(person.igsid);
      if (known) Object.assign(known, person);
      else people.set(person.igsid, person);
    }
    const created = {
      posts: input.posts.map(addPost),
      comments: input.comments.map(addComment),
      messages: input.messages.map(addMessage),
    };
    input.reactions.forEach(addReaction);
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
    subscriptions,
    hasConsented(person, accountId) {
      return person.consented_to.includes(accountId) || wrote.has(`${person.igsid} ${accountId}`);
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
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
        posts: [...posts.values()].map(({ account, person, comments: list, reactions, ...post }) => ({
          ...post,
          tenant: person === null ? account.tenant : null,
          comments: list.length,
          reactions: reactions.length,
        })),
        comments: [...comments.values()].map(({ replies, ...comment }) => ({
          ...comment,
          replies: replies.length,
        })),
        people: [...people.values()],
        subscriptions: Object.fromEntries(subscriptions),
      };
    },
  };
}

const pizza = demo['pizza-shop'].meta;
const gym = demo.gym.meta;
const salon = demo.salon.meta;

const apps = [demo['pizza-shop'].app, demo.gym.app] as const;

const demoMeta: MetaWorldInput = {
  apps: apps.map(({ app_id, app_secret }) => ({ app_id, app_secret })),
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
      app_id: demo['pizza-shop'].app.app_id,
    },
    {
      token: gym.access_token,
      tenant: 'gym',
      kind: 'instagram',
      accounts: [gym.ig_user_id],
      app_id: demo.gym.app.app_id,
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
