// The Graph API as graph.facebook.com and graph.instagram.com answer it, for what Onecron reads: comments of
// Instagram media and Page posts, reactions, tags, mentions, profiles, tokens, subscriptions, batches.
import {
  type Field,
  type GraphErrorInput,
  GraphFailure,
  type GraphNode,
  graphError,
  graphErrorSchema,
  graphTime,
  isProof,
  noSuchObject,
  parseFields,
  pick,
  render,
  route,
} from './graph.ts';
import { fingerprint } from './log.ts';
import {
  type Answer,
  bearer,
  type Context,
  isRecord,
  type Provider,
  parseBody,
  type Reading,
  type SimulatedRequest,
} from './server.ts';
import {
  callsIn,
  charge,
  countBefore,
  isHidden,
  type MetaAccount,
  type MetaApp,
  type MetaComment,
  type MetaPost,
  type MetaToken,
  type MetaWorld,
  mentions,
  type Usage,
} from './world.ts';

const instagramCommentsPerPage = 50;
const pageCommentsPerPage = 100;
const pageCommentsDefault = 25;
const maxBatch = 50;

type Host = 'facebook' | 'instagram' | 'any';

interface Call {
  request: SimulatedRequest;
  host: Host;
  base: string;
  version: string;
  segments: string[];
  parameters: URLSearchParams;
  token: MetaToken;
  app: MetaApp;
  now: number;
  emptyPage: boolean;
  /** The account whose budget the call is charged to, once it is known. */
  charged: MetaAccount | null;
}

/**
 * The host that a call is meant for: the first segment (`/graph.instagram.com/v26.0/…`), else the Host header, else
 * any, which takes both kinds of tokens.
 */
function hostOf(request: SimulatedRequest): { host: Host; path: string; base: string } {
  for (const [name, host] of [
    ['graph.facebook.com', 'facebook'],
    ['graph.instagram.com', 'instagram'],
  ] as const) {
    const prefix = `/${name}`;
    if (request.path === prefix || request.path.startsWith(`${prefix}/`)) {
      return { host, path: request.path.slice(prefix.length) || '/', base: `${request.origin}${prefix}` };
    }
    if (request.headers.host === name) return { host, path: request.path, base: request.origin };
  }
  return { host: 'any', path: request.path, base: request.origin };
}

function parametersOf(request: SimulatedRequest): URLSearchParams {
  if (request.method === 'GET' || request.raw.length === 0) return request.query;
  const body = parseBody(request);
  if (!isRecord(body)) return request.query;
  const merged = new URLSearchParams(request.query);
  for (const [name, value] of Object.entries(body)) {
    merged.set(name, typeof value === 'string' ? value : JSON.stringify(value));
  }
  return merged;
}

function percent(usage: Usage, now: number): number {
  return Math.min(100, Math.floor((callsIn(usage, now) * 100) / usage.budget));
}

function encodeCursor(place: { at: number; ordinal: number }): string {
  return `QVFIU${Buffer.from(`${place.at}:${place.ordinal}`).toString('base64url')}`;
}

function decodeCursor(text: string): { at: number; ordinal: number } {
  const found = text.startsWith('QVFIU')
    ? /^(-?\d+):(-?\d+)$/.exec(Buffer.from(text.slice(5), 'base64url').toString())
    : null;
  if (!found)
    throw new GraphFailure(
      graphError({ code: 100, message: '(#100) Invalid cursors values: after, before' }),
    );
  return { at: Number(found[1]), ordinal: Number(found[2]) };
}

function limitOf(parameters: URLSearchParams, standard: number, cap: number): number {
  const text = parameters.get('limit');
  if (text === null) return Math.min(standard, cap);
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0) {
    throw new GraphFailure(
      graphError({ code: 100, message: '(#100) Param limit must be a positive number' }),
    );
  }
  return Math.min(Number(text), cap);
}

function fieldsOf(parameters: URLSearchParams): Field[] | null {
  const text = parameters.get('fields');
  return text === null || text === '' ? null : parseFields(text);
}

const has = (token: MetaToken, ...scopes: string[]): boolean =>
  token.scopes === undefined || scopes.some((scope) => token.scopes?.includes(scope));

const sees = (token: MetaToken, accountId: string): boolean =>
  token.accounts === '*' || token.accounts.includes(accountId);

/** Page and agency tokens act as the Page; a user's token does not. */
const actsAsPage = (token: MetaToken): boolean => token.kind === 'page' || token.kind === 'system';

export function createMeta(world: MetaWorld): Provider {
  function ownerOf(id: string): string | null {
    const post = world.posts.get(id) ?? world.posts.get(world.comments.get(id)?.post_id ?? '');
    const account = post?.person === null ? post.account : world.accounts.get(id);
    return account?.tenant ?? null;
  }

  function read(request: SimulatedRequest): Reading {
    const token = bearer(request.headers) ?? parametersOf(request).get('access_token');
    const { path } = hostOf(request);
    const way = route(path);
    const [id, edge] = way?.segments ?? [];
    const known: Record<string, unknown> = {};
    if (id !== undefined) {
      known.object_id = id;
      known.target_tenant = ownerOf(id);
      if (edge !== undefined) known.edge = edge;
      if (world.posts.has(id)) known.post_id = id;
      const limit = request.query.get('limit');
      if (limit !== null) known.limit = limit;
      known.first_page = !request.query.has('after') && !request.query.has('before');
    }
    return { token: token === null || token === '' ? null : token, about: known };
  }

  // ---- nodes ----------------------------------------------------------------------------------------------

  function instagramComment(call: Call, comment: MetaComment): GraphNode {
    const post = world.posts.get(comment.post_id);
    const author = has(call.token, 'instagram_manage_comments', 'instagram_business_manage_comments');
    const from = { id: comment.from.id, username: comment.from.username };
    return {
      type: 'IGComment',
      id: comment.id,
      defaults: ['timestamp', 'text'],
      values: {
        text: () => comment.text,
        timestamp: () => graphTime(comment.at),
        username: () => (author ? comment.from.username : undefined),
        from: (field) => (author ? pick(from, field) : undefined),
        hidden: () => comment.hidden,
        like_count: () => 0,
        parent_id: () => comment.parent_id,
        user: () => undefined,
        media: (field) => {
          const media = { id: comment.post_id, media_product_type: 'FEED' };
          return field?.fields ? { ...pick(media, field), id: media.id } : { id: media.id };
        },
        replies: (field) => {
          const replies = comment.replies.filter((reply) => reply.omitted === undefined);
          if (post === undefined || replies.length === 0) return undefined;
          return {
            data: replies.map((reply) => render(instagramComment(call, reply), field?.fields ?? null)),
          };
        },
      },
    };
  }

  function pageComment(call: Call, comment: MetaComment): GraphNode {
    const from = { name: comment.from.name, id: comment.from.id };
    return {
      type: 'Comment',
      id: comment.id,
      defaults: ['created_time', 'from', 'message'],
      values: {
        message: () => comment.text,
        created_time: () => graphTime(comment.at),
        from: (field) => (comment.from_withheld || !actsAsPage(call.token) ? undefined : pick(from, field)),
        parent: (field) =>
          comment.parent_id === undefined ? undefined : pick({ id: comment.parent_id }, field),
        is_hidden: () => comment.hidden,
        can_comment: () => true,
        can_hide: () => true,
        like_count: () => 0,
        comment_count: () => comment.replies.length,
        permalink_url: () => `https://www.facebook.com/${comment.post_id}?comment_id=${comment.id}`,
      },
    };
  }

  function instagramMedia(call: Call, post: MetaPost): GraphNode {
    return {
      type: 'IGMedia',
      id: post.id,
      defaults: [],
      values: {
        caption: () => post.caption,
        media_type: () => 'IMAGE',
        media_product_type: () => 'FEED',
        permalink: () => `https://www.instagram.com/p/${Buffer.from(post.id).toString('base64url')}/`,
        timestamp: () => graphTime(post.at),
        username: () => post.person?.username ?? post.account.username,
        owner: () => (post.person === null ? { id: post.account.id } : undefined),
        like_count: () => post.like_count,
        comments_count: () => post.comments.filter((comment) => comment.omitted === undefined).length,
        is_comment_enabled: () => !post.comments_disabled,
        comments: (field) => {
          const parameters = new URLSearchParams();
          for (const [name, value] of field?.modifiers ?? []) parameters.set(name, value);
          return commentPage(call, post, parameters, field?.fields ?? null);
        },
      },
    };
  }

  function pagePost(call: Call, post: MetaPost): GraphNode {
    return {
      type: 'Post',
      id: post.id,
      defaults: ['created_time', 'message'],
      values: {
        message: () => post.caption,
        created_time: () => graphTime(post.at),
        updated_time: () => graphTime(post.comments.at(-1)?.at ?? post.at),
        permalink_url: () => `https://www.facebook.com/${post.id}`,
        from: (field) => pick({ name: post.account.name, id: post.account.id }, field),
        comments: (field) => {
          const parameters = new URLSearchParams();
          for (const [name, value] of field?.modifiers ?? []) parameters.set(name, value);
          return commentPage(call, post, parameters, field?.fields ?? null);
        },
      },
    };
  }

  /** Fields that only the Facebook Login route has. */
  function notThroughInstagram(call: Call, field: string): void {
    if (call.token.kind !== 'instagram') return;
    fail({ code: 100, message: `(#100) Tried accessing nonexisting field (${field}) on node type (IGUser)` });
  }

  function instagramUser(call: Call, account: MetaAccount): GraphNode {
    const media = () => [...world.posts.values()].filter((post) => post.account_id === account.id);
    return {
      type: 'IGUser',
      id: account.id,
      defaults: [],
      values: {
        user_id: () => account.id,
        username: () => account.username,
        name: () => account.name,
        account_type: () => 'BUSINESS',
        followers_count: () => followersOf(call, account),
        follows_count: () => 0,
        media_count: () => media().length,
        profile_picture_url: () => undefined,
        business_discovery: (field) => {
          const wanted = field?.modifiers.get('username')?.replace(/^@/, '').toLowerCase();
          const other = [...world.accounts.values()].find(
            (candidate) => candidate.kind === 'instagram' && candidate.username.toLowerCase() === wanted,
          );
          if (!other || call.token.kind === 'instagram') {
            const message = '(#110) Cannot find User with username';
            throw new GraphFailure(graphError({ code: 110, message, user_title: 'Cannot find User' }));
          }
          return render(instagramUser(call, other), field?.fields ?? []);
        },
        mentioned_media: (field) => {
          notThroughInstagram(call, 'mentioned_media');
          const post = world.posts.get(field?.modifiers.get('media_id') ?? '');
          if (!post || isHidden(post) || !mentions(post.caption, account)) {
            throw new GraphFailure(noSuchObject(field?.modifiers.get('media_id') ?? '', 'GET'));
          }
          const stripped = { ...post, caption: post.caption.replaceAll('@', '') };
          return render(instagramMedia(call, stripped), field?.fields ?? []);
        },
        mentioned_comment: (field) => {
          notThroughInstagram(call, 'mentioned_comment');
          const comment = world.comments.get(field?.modifiers.get('comment_id') ?? '');
          const under = comment && world.posts.get(comment.post_id);
          const isOpen = under !== undefined && !under.comments_disabled && !isHidden(under);
          if (!comment || comment.omitted || !isOpen || !mentions(comment.text, account)) {
            throw new GraphFailure(noSuchObject(field?.modifiers.get('comment_id') ?? '', 'GET'));
          }
          const stripped = { ...comment, text: comment.text.replaceAll('@', '') };
          return render(instagramComment(call, stripped), field?.fields ?? null);
        },
      },
    };
  }

  function page(call: Call, account: MetaAccount): GraphNode {
    return {
      type: 'Page',
      id: account.id,
      defaults: ['name'],
      values: {
        name: () => account.name,
        fan_count: () => followersOf(call, account),
        followers_count: () => followersOf(call, account),
        access_token: () => pageTokenOf(call.token, account),
        tasks: () => ['ANALYZE', 'ADVERTISE', 'MESSAGING', 'MODERATE', 'CREATE_CONTENT', 'MANAGE'],
        category: () => 'Local business',
        instagram_business_account: (field) => {
          const linked = [...world.accounts.values()].find((other) => other.page_id === account.id);
          return linked === undefined ? undefined : pick({ id: linked.id }, field);
        },
      },
    };
  }

  function followersOf(call: Call, account: MetaAccount): number {
    needBasics(call, account);
    return account.followers_count;
  }

  /** The Page token that a user token is given; it is added to the world when it is first asked for. */
  function pageTokenOf(token: MetaToken, account: MetaAccount): string {
    if (token.kind === 'page') return token.token;
    const made = `page-${account.id}-${fingerprint(token.token)}`;
    if (!world.tokens.has(made)) {
      const linked = [...world.accounts.values()].filter((other) => other.page_id === account.id);
      world.tokens.set(made, {
        ...token,
        token: made,
        kind: 'page',
        accounts: [account.id, ...linked.map((other) => other.id)],
        expires_at: undefined,
        usage: { ...token.usage, calls: 0 },
      });
    }
    return made;
  }

  // ---- lists ----------------------------------------------------------------------------------------------

  function link(call: Call, changes: Record<string, string>, without: string[]): string {
    const query = new URLSearchParams(call.parameters);
    for (const name of without) query.delete(name);
    for (const [name, value] of Object.entries(changes)) query.set(name, value);
    query.set('access_token', call.token.token);
    return `${call.base}/${call.version}/${call.segments.join('/')}?${query.toString()}`;
  }

  /** One page of comments. Omitted comments leave a gap: such a page is shorter, even empty, and may have `next`. */
  function commentPage(
    call: Call,
    post: MetaPost,
    parameters: URLSearchParams,
    fields: Field[] | null,
  ): Record<string, unknown> {
    const onPage = post.account.kind === 'page';
    // "returns empty data if you read it with a User access token": HTTP 200, as if there were no comments.
    if (onPage && !actsAsPage(call.token)) return { data: [] };
    const limit = onPage
      ? limitOf(parameters, pageCommentsDefault, pageCommentsPerPage)
      : limitOf(parameters, instagramCommentsPerPage, instagramCommentsPerPage);
    const everyLevel = onPage && parameters.get('filter') === 'stream';
    // Instagram is always newest first. A Page's default order is not documented: ask for the order you need.
    const oldestFirst = onPage && parameters.get('order') === 'chronological';
    const comments = post.comments;
    const wanted = (comment: MetaComment): boolean => everyLevel || comment.parent_id === undefined;

    const after = parameters.get('after');
    const previous = parameters.get('before');
    const forward = previous === null || after !== null;
    const cursor = after ?? previous;
    // Walk from the cursor away from it; `step` is the direction in the array, which is oldest first.
    const step = oldestFirst === forward ? 1 : -1;
    let at = step === 1 ? 0 : comments.length - 1;
    if (cursor !== null) {
      const place = decodeCursor(cursor);
      at = step === 1 ? countBefore(comments, place, true) : countBefore(comments, place) - 1;
    }
    if (call.emptyPage) {
      const start = cursor ?? encodeCursor(startOf(comments, oldestFirst));
      return {
        data: [],
        paging: { cursors: { before: start, after: start }, next: link(call, { after: start }, ['before']) },
      };
    }
    const found: MetaComment[] = [];
    for (; found.length < limit && at >= 0 && at < comments.length; at += step) {
      const comment = comments[at];
      if (comment && wanted(comment)) found.push(comment);
    }
    let more = false;
    for (; !more && at >= 0 && at < comments.length; at += step) {
      const comment = comments[at];
      more = comment !== undefined && wanted(comment);
    }
    if (!forward) found.reverse();
    const first = found[0];
    const last = found.at(-1);
    if (first === undefined || last === undefined) return { data: [] };
    const node = onPage ? pageComment : instagramComment;
    const data = found
      .filter((comment) => comment.omitted === undefined)
      .map((comment) => render(node(call, comment), fields));
    const cursors = { before: encodeCursor(first), after: encodeCursor(last) };
    const hasNext = forward ? more : true;
    const hasPrevious = forward ? cursor !== null : more;
    return {
      data,
      paging: {
        cursors,
        ...(hasPrevious ? { previous: link(call, { before: cursors.before }, ['after']) } : {}),
        ...(hasNext ? { next: link(call, { after: cursors.after }, ['before']) } : {}),
      },
    };
  }

  function startOf(comments: MetaComment[], oldestFirst: boolean): { at: number; ordinal: number } {
    const edge = oldestFirst ? comments[0] : comments.at(-1);
    if (!edge) return { at: 0, ordinal: 0 };
    return { at: edge.at, ordinal: edge.ordinal + (oldestFirst ? -1 : 1) };
  }

  /** Plain lists (media, posts, tags, accounts): cursors are positions. */
  function plainList(call: Call, nodes: GraphNode[], withNext: boolean): Record<string, unknown> {
    const limit = limitOf(call.parameters, 25, 100);
    const after = call.parameters.get('after');
    const from = after === null ? 0 : decodeCursor(after).ordinal + 1;
    const shown = nodes.slice(from, from + limit);
    if (shown.length === 0) return { data: [] };
    const cursors = {
      before: encodeCursor({ at: 0, ordinal: from }),
      after: encodeCursor({ at: 0, ordinal: from + shown.length - 1 }),
    };
    const next = withNext && from + shown.length < nodes.length;
    const fields = fieldsOf(call.parameters);
    return {
      data: shown.map((node) => render(node, fields)),
      paging: { cursors, ...(next ? { next: link(call, { after: cursors.after }, ['before']) } : {}) },
    };
  }

  // ---- the call -------------------------------------------------------------------------------------------

  function ok(body: unknown): Answer {
    const empty = isRecord(body) && Array.isArray(body.data) && body.data.length === 0;
    return { status: 200, body, kind: empty ? 'empty' : 'ok' };
  }

  function fail(error: GraphErrorInput): never {
    throw new GraphFailure(graphError(error));
  }

  function check(account: MetaAccount, call: Call, id: string): void {
    const wrongHost = call.host === 'instagram' && account.kind === 'page';
    if (!sees(call.token, account.id) || wrongHost)
      throw new GraphFailure(noSuchObject(id, call.request.method));
    call.charged = account;
  }

  function needScopes(call: Call, account: MetaAccount): void {
    const enough =
      account.kind === 'page'
        ? has(call.token, 'pages_read_user_content') && has(call.token, 'pages_read_engagement')
        : has(call.token, 'instagram_basic', 'instagram_business_basic');
    if (!enough) fail({ code: 10 });
  }

  /** What counts of an account take: of a Page less than reading what visitors wrote. */
  function needBasics(call: Call, account: MetaAccount): void {
    const enough =
      account.kind === 'page'
        ? has(call.token, 'pages_read_engagement')
        : has(call.token, 'instagram_basic', 'instagram_business_basic');
    if (!enough) fail({ code: 10 });
  }

  function profile(call: Call, igsid: string): Answer {
    const person = world.people.get(igsid);
    const visible = [...world.accounts.values()].filter(
      (candidate) => candidate.kind === 'instagram' && sees(call.token, candidate.id),
    );
    // The id is scoped to one business: for agency access that is the one that the person wrote to.
    const account =
      visible.find((candidate) => person !== undefined && world.hasConsented(person, candidate.id)) ??
      visible[0];
    if (!account || call.token.kind === 'user') throw new GraphFailure(noSuchObject(igsid, 'GET'));
    call.charged = account;
    if (!person) {
      // Nobody has described this person, who may have commented all the same.
      const { comments, posts } = world;
      const isSeen = [...comments.values()].some(
        ({ from, post_id }) => from.id === igsid && posts.get(post_id)?.account_id === account.id,
      );
      if (isSeen) fail({ code: 230, type: 'IGApiException' });
      throw new GraphFailure(noSuchObject(igsid, 'GET'));
    }
    if (person.blocks.includes(account.id)) throw new GraphFailure(noSuchObject(igsid, 'GET'));
    if (!world.hasConsented(person, account.id)) fail({ code: 230, type: 'IGApiException' });
    const node: GraphNode = {
      type: 'IGBusinessScopedID',
      id: igsid,
      defaults: ['name'],
      values: {
        name: () => person.name,
        username: () => person.username,
        profile_pic: () => null,
        follower_count: () => person.follower_count,
        is_user_follow_business: () => person.follows.includes(account.id),
        is_business_follow_user: () => person.followed_by.includes(account.id),
        is_verified_user: () => false,
      },
    };
    return ok(render(node, fieldsOf(call.parameters)));
  }

  /** Media of people are never addressed directly, only through tags and mentions. */
  function ownPost(id: string): MetaPost | undefined {
    const post = world.posts.get(id);
    return post?.person === null ? post : undefined;
  }

  function getObject(call: Call, id: string): Answer {
    const fields = fieldsOf(call.parameters);
    const post = ownPost(id);
    if (post) {
      check(post.account, call, id);
      return ok(
        render(post.account.kind === 'page' ? pagePost(call, post) : instagramMedia(call, post), fields),
      );
    }
    const comment = world.comments.get(id);
    const commented = comment && ownPost(comment.post_id);
    if (comment && commented) {
      check(commented.account, call, id);
      if (comment.omitted !== undefined) throw new GraphFailure(noSuchObject(id, 'GET'));
      const node = commented.account.kind === 'page' ? pageComment : instagramComment;
      return ok(render(node(call, comment), fields));
    }
    const account = world.accounts.get(id);
    if (account) {
      check(account, call, id);
      return ok(render(account.kind === 'page' ? page(call, account) : instagramUser(call, account), fields));
    }
    return profile(call, id);
  }

  /** How many reacted; and who, where the world says that Meta tells the Page. */
  function reactionPage(call: Call, post: MetaPost): Answer {
    const type = call.parameters.get('type');
    const wanted = post.reactions.filter((reaction) => type === null || reaction.type === type);
    const lists = post.account.reactions === 'list' && actsAsPage(call.token);
    const nodes = (lists ? wanted : []).map(
      (reaction): GraphNode => ({
        type: 'Profile',
        id: reaction.from.id,
        defaults: ['name', 'type'],
        values: { name: () => reaction.from.name, type: () => reaction.type },
      }),
    );
    const total = wanted.length + (type === null || type === 'LIKE' ? post.like_count : 0);
    const summary = call.parameters.has('summary')
      ? { summary: { total_count: total, viewer_reaction: 'NONE' } }
      : {};
    return ok({ ...plainList(call, nodes, true), ...summary });
  }

  /** Pages that a user likes: told to that user's own token only. */
  function likesOfUser(call: Call): Answer {
    const { token } = call;
    if (!has(token, 'user_likes')) fail({ code: 200, message: '(#200) Requires user_likes permission' });
    const target = call.parameters.get('target_id');
    const liked = [...world.accounts.values()].filter(
      ({ id, kind }) => kind === 'page' && token.likes.includes(id) && (target === null || target === id),
    );
    return ok(
      plainList(
        call,
        liked.map((other) => page(call, other)),
        true,
      ),
    );
  }

  /** Webhook fields of a Page (by its token) or of an Instagram account (by its own login). */
  function subscribedApps(call: Call, id: string): Answer {
    const account =
      id === 'me' ? [...world.accounts.values()].find(isOwnOf(call.token)) : world.accounts.get(id);
    if (!account) throw new GraphFailure(noSuchObject(id, call.request.method));
    check(account, call, id);
    if (account.kind === 'page' && !actsAsPage(call.token)) {
      fail({ code: 210, message: '(#210) A page access token is required to request this resource.' });
    }
    const { method } = call.request;
    if (method === 'POST') {
      const fields = call.parameters.get('subscribed_fields') ?? '';
      if (fields === '') fail({ code: 100, message: '(#100) Param subscribed_fields must be non-empty.' });
      const names = fields.replace(/[[\]"\s]/g, '').split(',');
      world.subscriptions.set(account.id, names);
      return ok({ success: true });
    }
    const fields = world.subscriptions.get(account.id);
    if (method === 'DELETE') {
      world.subscriptions.delete(account.id);
      return ok({ success: true });
    }
    return ok({
      data: fields === undefined ? [] : [{ id: call.token.app_id, subscribed_fields: fields }],
    });
  }

  function getEdge(call: Call, id: string, edge: string): Answer {
    const post = ownPost(id);
    if (post) {
      check(post.account, call, id);
      const onPage = post.account.kind === 'page';
      if (edge === 'comments') {
        if (!onPage || actsAsPage(call.token)) needScopes(call, post.account);
        return ok(commentPage(call, post, call.parameters, fieldsOf(call.parameters)));
      }
      if (onPage && edge === 'reactions') return reactionPage(call, post);
      if (onPage && edge === 'likes') {
        // Who liked a post is never told, only how many did; and that only with `summary`.
        const likes = post.reactions.filter((reaction) => reaction.type === 'LIKE');
        const summary = { total_count: post.like_count + likes.length, has_liked: false };
        return ok({ data: [], ...(call.parameters.has('summary') ? { summary } : {}) });
      }
    }
    const comment = world.comments.get(id);
    const commented = comment && ownPost(comment.post_id);
    if (comment && commented && edge === (commented.account.kind === 'page' ? 'comments' : 'replies')) {
      check(commented.account, call, id);
      const node = commented.account.kind === 'page' ? pageComment : instagramComment;
      const replies = comment.replies.filter((reply) => reply.omitted === undefined);
      if (commented.account.kind === 'page' && !actsAsPage(call.token)) return ok({ data: [] });
      return ok(
        plainList(
          call,
          replies.map((reply) => node(call, reply)),
          true,
        ),
      );
    }
    const account = world.accounts.get(id);
    if (account) {
      check(account, call, id);
      const own = () => [...world.posts.values()].filter((other) => other.account_id === id).reverse();
      if (account.kind === 'instagram' && edge === 'media') {
        return ok(
          plainList(
            call,
            own().map((other) => instagramMedia(call, other)),
            true,
          ),
        );
      }
      if (account.kind === 'instagram' && edge === 'tags' && call.token.kind !== 'instagram') {
        const tagged = [...world.posts.values()]
          .filter((other) => other.tags.includes(id) && !isHidden(other))
          .reverse();
        return ok(
          plainList(
            call,
            tagged.map((other) => instagramMedia(call, other)),
            false,
          ),
        );
      }
      if (account.kind === 'page' && ['posts', 'feed', 'published_posts'].includes(edge)) {
        if (!has(call.token, 'pages_read_engagement')) fail({ code: 10 });
        return ok(
          plainList(
            call,
            own().map((other) => pagePost(call, other)),
            true,
          ),
        );
      }
      // Pages that this Page likes, not the people who like it.
      if (edge === 'likes') return ok({ data: [] });
      const message = `(#100) Tried accessing nonexisting field (${edge}) on node type (${account.kind === 'page' ? 'Page' : 'IGUser'})`;
      fail({ code: 100, message });
    }
    if (edge === 'likes' && call.token.kind === 'user' && id === call.token.user_id) return likesOfUser(call);
    throw new GraphFailure(noSuchObject(id, call.request.method));
  }

  /** The account that a token stands for. */
  const isOwnOf = (token: MetaToken) => (account: MetaAccount) =>
    account.kind === (token.kind === 'instagram' ? 'instagram' : 'page') && sees(token, account.id);

  function me(call: Call, edge: string | undefined): Answer {
    const { token } = call;
    if (edge === 'accounts') {
      if (token.kind !== 'user' && token.kind !== 'system') {
        fail({
          code: 100,
          message: '(#100) Tried accessing nonexisting field (accounts) on node type (Page)',
        });
      }
      const pages = [...world.accounts.values()].filter(
        (other) => other.kind === 'page' && sees(token, other.id),
      );
      return ok(
        plainList(
          call,
          pages.map((other) => page(call, other)),
          true,
        ),
      );
    }
    if (edge === 'likes' && token.kind === 'user') return likesOfUser(call);
    const own = [...world.accounts.values()].find(isOwnOf(token));
    if (token.kind === 'user' || token.kind === 'system' || !own) {
      const node: GraphNode = {
        type: 'User',
        id: token.user_id,
        defaults: ['name'],
        values: { name: () => `${token.tenant} admin`, first_name: () => token.tenant },
      };
      if (edge !== undefined) {
        fail({
          code: 100,
          message: `(#100) Tried accessing nonexisting field (${edge}) on node type (User)`,
        });
      }
      return ok(render(node, fieldsOf(call.parameters)));
    }
    return edge === undefined ? getObject(call, own.id) : getEdge(call, own.id, edge);
  }

  /** Why a token cannot be used now, as subcode of 190; undefined: it can. */
  function trouble(token: MetaToken, now: number): { subcode: number | null } | undefined {
    if (token.broken) return token.broken;
    if (token.expires_at !== undefined && token.expires_at <= now) return { subcode: 463 };
    return undefined;
  }

  function debugToken(request: SimulatedRequest, caller: string, now: number): Answer {
    const [appId, secret] = caller.split('|');
    const app = world.apps.get(appId ?? '');
    const asApp = secret !== undefined && app?.app_secret !== undefined && app.app_secret === secret;
    const asUser = world.tokens.get(caller);
    if (!asApp && !(asUser && !trouble(asUser, now))) return graphError({ code: 190 });
    const wanted = world.tokens.get(request.query.get('input_token') ?? '');
    if (!wanted || (asApp && wanted.app_id !== appId) || (asUser && wanted.app_id !== asUser.app_id)) {
      const error = { code: 190, message: 'The access token could not be decrypted' };
      return ok({ data: { is_valid: false, scopes: [], error } });
    }
    const problem = trouble(wanted, now);
    const seconds = (ms: number | undefined): number => (ms === undefined ? 0 : Math.floor(ms / 1000));
    const scopes = wanted.scopes ?? [];
    const error = problem && {
      code: 190,
      message: 'Error validating access token',
      ...(problem.subcode === null ? {} : { subcode: problem.subcode }),
    };
    return ok({
      data: {
        app_id: wanted.app_id,
        type: wanted.kind === 'page' ? 'PAGE' : wanted.kind === 'system' ? 'SYSTEM_USER' : 'USER',
        application: `${wanted.tenant} app`,
        data_access_expires_at: seconds(wanted.expires_at),
        expires_at: seconds(wanted.expires_at),
        is_valid: problem === undefined,
        issued_at: seconds(wanted.issued_at),
        scopes,
        granular_scopes: scopes.map((scope) => ({
          scope,
          ...(wanted.accounts === '*' ? {} : { target_ids: wanted.accounts }),
        })),
        user_id: wanted.user_id,
        ...(error ? { error } : {}),
      },
    });
  }

  const days = 24 * 3600 * 1000;

  /** A longer-lived token in place of a valid one (both hosts have their own path for it). */
  function exchange(request: SimulatedRequest, host: Host, path: string, now: number): Answer {
    const { query } = request;
    const grant = query.get('grant_type');
    const old = world.tokens.get(
      query.get(grant === 'fb_exchange_token' ? 'fb_exchange_token' : 'access_token') ?? '',
    );
    if (!old) return graphError({ code: 190 });
    const problem = trouble(old, now);
    if (problem)
      return graphError({ code: 190, ...(problem.subcode === null ? {} : { subcode: problem.subcode }) });
    const app = world.apps.get(old.app_id);
    const refresh =
      path === 'refresh_access_token' && grant === 'ig_refresh_token' && old.kind === 'instagram';
    const instagram = path === 'access_token' && grant === 'ig_exchange_token' && old.kind === 'instagram';
    const facebook =
      path === 'oauth/access_token' && grant === 'fb_exchange_token' && old.kind !== 'instagram';
    const rightHost = host === 'any' || host === (facebook ? 'facebook' : 'instagram');
    if ((!refresh && !instagram && !facebook) || !rightHost) return graphError({ code: 100 });
    if (facebook && query.has('client_id') && query.get('client_id') !== old.app_id) {
      return graphError({ code: 101, message: 'Error validating application. Cannot get application info.' });
    }
    if (!refresh && app?.app_secret !== undefined && query.get('client_secret') !== app.app_secret) {
      return graphError(
        { code: 1, message: 'Error validating client secret.', type: 'OAuthException' },
        { status: 400 },
      );
    }
    if (refresh && old.issued_at !== undefined && now - old.issued_at < days) {
      return graphError({
        code: 100,
        message: '(#100) The token must be at least 24 hours old to be refreshed',
      });
    }
    const made = `${old.token.replace(/~\d+$/, '')}~${now}`;
    world.tokens.set(made, { ...old, token: made, issued_at: now, expires_at: now + 60 * days });
    return ok({ access_token: made, token_type: 'bearer', expires_in: 60 * 24 * 3600 });
  }

  function checkProof(app: MetaApp, token: string, parameters: URLSearchParams, now: number): void {
    const proof = parameters.get('appsecret_proof');
    if (proof === null) {
      if (!app.require_proof) return;
      const message = 'API calls from the server require an appsecret_proof argument';
      fail({ code: 100, message, type: 'GraphMethodException' });
    }
    if (app.app_secret === undefined || !isProof(app.app_secret, token, parameters, now)) {
      fail({
        code: 100,
        message: 'Invalid appsecret_proof provided in the API argument',
        type: 'GraphMethodException',
      });
    }
  }

  function usageHeaders(call: Call): Record<string, string> {
    const headers: Record<string, string> = {};
    const app = percent(call.app.usage, call.now);
    if (app >= 1) {
      headers['x-app-usage'] = JSON.stringify({
        call_count: app,
        total_time: Math.floor(app * 0.6),
        total_cputime: Math.floor(app * 0.5),
      });
    }
    const own = percent(call.token.usage, call.now);
    if (call.charged && own >= 1) {
      const { usage } = call.token;
      const over = callsIn(usage, call.now) >= usage.budget;
      const minutes = over
        ? Math.max(1, Math.ceil((usage.startedAt + usage.windowMs - call.now) / 60_000))
        : 0;
      headers['x-business-use-case-usage'] = JSON.stringify({
        [call.charged.id]: [
          {
            type: call.charged.kind === 'page' ? 'pages' : 'instagram',
            call_count: own,
            total_cputime: Math.floor(own * 0.5),
            total_time: Math.floor(own * 0.6),
            estimated_time_to_regain_access: minutes,
          },
        ],
      });
    }
    return headers;
  }

  function batch(
    request: SimulatedRequest,
    parameters: URLSearchParams,
    base: string,
    version: string,
    token: string,
    context: Context,
  ): Answer {
    let calls: unknown;
    try {
      calls = JSON.parse(parameters.get('batch') ?? '');
    } catch {
      calls = null;
    }
    if (!Array.isArray(calls))
      return graphError({ code: 100, message: '(#100) batch parameter must be a JSON array' });
    if (calls.length > maxBatch) {
      return graphError(
        { code: 3, message: `Too many requests in batch message. Maximum batch size is ${maxBatch}` },
        { status: 400 },
      );
    }
    const withHeaders = parameters.get('include_headers') !== 'false';
    const prefix = base.slice(request.origin.length);
    const results = calls.map((entry: unknown) => {
      const wanted = isRecord(entry) ? entry : {};
      const relative = typeof wanted.relative_url === 'string' ? wanted.relative_url.replace(/^\//, '') : '';
      const mark = relative.indexOf('?');
      const path = mark < 0 ? relative : relative.slice(0, mark);
      const query = new URLSearchParams(mark < 0 ? '' : relative.slice(mark + 1));
      if (!query.has('access_token')) query.set('access_token', token);
      for (const name of ['appsecret_proof', 'appsecret_time']) {
        const value = parameters.get(name);
        if (value !== null && !query.has(name)) query.set(name, value);
      }
      const versioned = /^v\d+\.0\//.test(path) ? path : `${version}/${path}`;
      const answer = context.inner({
        method: typeof wanted.method === 'string' ? wanted.method.toUpperCase() : 'GET',
        path: `${prefix}/${versioned}`,
        query,
        headers: { ...(request.headers.host === undefined ? {} : { host: request.headers.host }) },
        raw: Buffer.from(typeof wanted.body === 'string' ? wanted.body : ''),
        origin: request.origin,
        batch: context.seq,
      });
      if (answer === null) return null;
      const headers = Object.entries({ 'Content-Type': 'text/javascript; charset=UTF-8', ...answer.headers });
      return {
        code: answer.status,
        ...(withHeaders ? { headers: headers.map(([name, value]) => ({ name, value })) } : {}),
        body: typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body),
      };
    });
    return { status: 200, body: results, kind: 'batch' };
  }

  function dispatch(call: Call, context: Context): Answer {
    const { segments, request } = call;
    const [first, second] = segments;
    if (first === undefined) {
      if (request.method === 'POST' && call.parameters.has('batch')) {
        return batch(request, call.parameters, call.base, call.version, call.token.token, context);
      }
      return graphError({
        code: 100,
        message: 'Unsupported get request. Please read the Graph API documentation',
      });
    }
    if (second === 'subscribed_apps' && segments.length === 2) return subscribedApps(call, first);
    if (request.method !== 'GET') {
      return graphError({
        code: 100,
        subcode: 33,
        message: `Unsupported ${request.method.toLowerCase()} request.`,
      });
    }
    if (segments.length > 2) return unknownPath(request.path);
    if (first === 'me') return me(call, second);
    return second === undefined ? getObject(call, first) : getEdge(call, first, second);
  }

  function unknownPath(path: string): Answer {
    return graphError({ code: 2500, message: `Unknown path components: ${path}` });
  }

  function handle(request: SimulatedRequest, reading: Reading, context: Context): Answer {
    const { host, path, base } = hostOf(request);
    const way = route(path);
    if (way === null) return unknownPath(path);
    const { version, segments } = way;
    const versionHeader = { 'facebook-api-version': version };
    const finish = (answer: Answer, headers: Record<string, string> = {}): Answer => ({
      ...answer,
      headers: { ...versionHeader, ...headers, ...answer.headers },
    });
    const joined = segments.join('/');
    if (['oauth/access_token', 'access_token', 'refresh_access_token'].includes(joined)) {
      return finish(exchange(request, host, joined, context.now));
    }
    if (reading.token === null) return finish(graphError({ code: 104 }));
    if (joined === 'debug_token') return finish(debugToken(request, reading.token, context.now));
    const token = world.tokens.get(reading.token);
    const app = token && world.apps.get(token.app_id);
    if (!token || !app) return finish(graphError({ code: 190 }));
    const problem = trouble(token, context.now);
    if (problem) {
      return finish(
        graphError({ code: 190, ...(problem.subcode === null ? {} : { subcode: problem.subcode }) }),
      );
    }
    // A token of the one login means nothing to the other host.
    if (host !== 'any' && (host === 'instagram') !== (token.kind === 'instagram')) {
      return finish(graphError({ code: 190 }));
    }
    const call: Call = {
      request,
      host,
      base,
      version,
      segments,
      parameters: parametersOf(request),
      token,
      app,
      now: context.now,
      emptyPage: context.wanted.emptyPage,
      charged: null,
    };
    try {
      checkProof(app, reading.token, call.parameters, context.now);
      // A batch call itself is free, each call inside it counts.
      const isBatch = segments.length === 0;
      if (!isBatch && !charge(app.usage, context.now))
        return finish(graphError({ code: 4 }), usageHeaders(call));
      const account = accountOf(segments[0] ?? '', token);
      if (account && sees(token, account.id)) {
        call.charged = account;
        if (!charge(token.usage, context.now)) {
          return finish(graphError({ code: account.kind === 'page' ? 80001 : 80002 }), usageHeaders(call));
        }
      }
      return finish(dispatch(call, context), usageHeaders(call));
    } catch (error) {
      if (error instanceof GraphFailure) return finish(error.answer, usageHeaders(call));
      throw error;
    }
  }

  /** The account that an object belongs to: its use is what the token's budget is charged for. */
  function accountOf(id: string, token: MetaToken): MetaAccount | undefined {
    const post = ownPost(id) ?? ownPost(world.comments.get(id)?.post_id ?? '');
    if (post) return post.account;
    const account = world.accounts.get(id);
    if (account) return account;
    if (!world.people.has(id)) return undefined;
    return [...world.accounts.values()].find((other) => other.kind === 'instagram' && sees(token, other.id));
  }

  return {
    name: 'meta',
    secretParameters: ['input_token', 'client_secret', 'fb_exchange_token', 'appsecret_proof'],
    read,
    tenantOf(token) {
      const known = world.tokens.get(token)?.tenant;
      if (known !== undefined) return known;
      // An app token `{app_id}|{secret}` belongs to whoever uses that app.
      const app = world.apps.get(token.split('|')[0] ?? '');
      if (!app?.app_secret || token !== `${app.app_id}|${app.app_secret}`) return null;
      return [...world.tokens.values()].find((other) => other.app_id === app.app_id)?.tenant ?? null;
    },
    handle,
    scriptedErrors: graphErrorSchema,
    error(error, status, retryAfter) {
      const given = error as GraphErrorInput | undefined;
      const fallback =
        retryAfter !== undefined || status === 429 ? 4 : status === 401 ? 190 : status === 503 ? 2 : 1;
      return graphError(given ?? { code: fallback }, { status });
    },
    apply: (change) => world.apply(change),
    show: () => world.show(),
    messages: () => [],
  };
}
