import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Credential } from '../../functions/_shared/engine.ts';
import { batchSizeOf, createMeta, metaErrors, usageHint } from '../../functions/_shared/providers/meta.ts';
import { connectionRefused, connectionReset, json, metaCredential, network, never, nowMs } from './fakes.ts';

const token = String(metaCredential.secret.access_token);

function metaOver(answer: Parameters<typeof network>[0]) {
  const { http, requests } = network(answer);
  const meta = createMeta({
    http,
    graphUrl: 'https://graph.facebook.com',
    instagramUrl: 'https://graph.instagram.com',
  });
  const page = (
    changes: { surface?: 'instagram' | 'facebook'; postId?: string; after?: string | null } = {},
    credential: Credential = metaCredential,
  ) =>
    meta.commentPage(credential, {
      surface: 'instagram',
      postId: '17895695668004550',
      after: null,
      nowMs,
      ...changes,
    });
  return { meta, page, requests };
}
const graphError = (code: number, subcode?: number, message = 'their words') => ({
  error: {
    message,
    type: 'OAuthException',
    code,
    ...(subcode === undefined ? {} : { error_subcode: subcode }),
    fbtrace_id: 'A',
  },
});
const empty = { data: [] };

describe('Meta: requests', () => {
  test('the token is in the header, never in the URL', async () => {
    const { page, requests } = metaOver(() => json(200, empty));
    await page();
    expect(requests[0]?.headers.get('authorization')).toBe(`Bearer ${token}`);
    expect(decodeURIComponent(requests[0]?.url ?? '')).not.toContain(token);
    expect(requests[0]?.url).not.toContain('access_token');
  });

  test('Instagram is asked for 50 comments with their authors, at the host of the kind of login', async () => {
    const { page, requests } = metaOver(() => json(200, empty));
    await page();
    await page({}, { ...metaCredential, kind: 'instagram_login' });
    const [facebook, instagram] = requests.map((request) => new URL(request.url));
    expect(facebook?.origin).toBe('https://graph.facebook.com');
    expect(instagram?.origin).toBe('https://graph.instagram.com');
    expect(facebook?.pathname).toBe('/v26.0/17895695668004550/comments');
    expect(facebook?.searchParams.get('limit')).toBe('50');
    expect(facebook?.searchParams.get('fields')).toMatch(/^id,text,timestamp,username,from\{id,username\}/);
  });

  test('a Page post is asked for 100 comments of all levels, newest first', async () => {
    const { page, requests } = metaOver(() => json(200, empty));
    await page({ surface: 'facebook', postId: '1_2', after: 'CURSOR=' });
    const url = new URL(requests[0]?.url ?? '');
    expect(Object.fromEntries(url.searchParams)).toMatchObject({
      limit: '100',
      filter: 'stream',
      order: 'reverse_chronological',
      after: 'CURSOR=',
    });
  });

  test('with an app secret the request carries its proof, and the secret itself nowhere', async () => {
    const { page, requests } = metaOver(() => json(200, empty));
    const credential = {
      ...metaCredential,
      secret: { access_token: token, app_secret: 'canary-app-secret' },
    };
    await page({}, credential);
    const time = Math.trunc(nowMs / 1000);
    const proof = createHmac('sha256', 'canary-app-secret').update(`${token}|${time}`).digest('hex');
    const url = new URL(requests[0]?.url ?? '');
    expect(url.searchParams.get('appsecret_proof')).toBe(proof);
    expect(url.searchParams.get('appsecret_time')).toBe(String(time));
    expect(url.href).not.toContain('canary-app-secret');
  });

  test.each(['../me', '1/2', 'a?b', '', '1'.repeat(101), 'ä'])(
    'the post id "%s" leaves no request',
    async (postId) => {
      const { page, requests } = metaOver(() => json(200, empty));
      expect(await page({ postId })).toMatchObject({ kind: 'refused' });
      expect(requests).toHaveLength(0);
    },
  );

  test.each([{}, { access_token: '' }, { access_token: 'line\nbreak' }, { access_token: 5 }])(
    'a credential with the secret %j is broken and leaves no request',
    async (secret) => {
      const { page, requests } = metaOver(() => json(200, empty));
      expect(await page({}, { ...metaCredential, secret })).toMatchObject({ kind: 'credentialBroken' });
      expect(requests).toHaveLength(0);
    },
  );

  test('an Instagram login is never tried on a Page post', async () => {
    const { page, requests } = metaOver(() => json(200, empty));
    expect(await page({ surface: 'facebook' }, { ...metaCredential, kind: 'instagram_login' })).toMatchObject(
      { kind: 'refused' },
    );
    expect(requests).toHaveLength(0);
  });
});

describe('Meta: answers', () => {
  test('Instagram comments and their replies become comments', async () => {
    const { page } = metaOver(() =>
      json(200, {
        data: [
          {
            id: '1',
            text: 'CODE-7F3K',
            timestamp: '2026-11-20T18:10:30+0000',
            username: 'jane.doe',
            from: { id: '125', username: 'jane.doe' },
            replies: {
              data: [{ id: '2', text: 'me too', timestamp: '2026-11-20T19:10:30+0000', username: 'joe' }],
            },
          },
          { id: '3', text: 'no author', timestamp: '2017-08-31T19:16:02+0000' },
        ],
      }),
    );
    expect(await page()).toEqual({
      kind: 'ok',
      value: {
        after: null,
        isCut: false,
        comments: [
          {
            id: '1',
            nested: false,
            text: 'CODE-7F3K',
            at: Date.parse('2026-11-20T18:10:30Z'),
            authorId: '125',
            username: 'jane.doe',
          },
          {
            id: '2',
            nested: true,
            text: 'me too',
            at: Date.parse('2026-11-20T19:10:30Z'),
            authorId: null,
            username: 'joe',
          },
          {
            id: '3',
            nested: false,
            text: 'no author',
            at: Date.parse('2017-08-31T19:16:02Z'),
            authorId: null,
            username: null,
          },
        ],
      },
    });
  });

  test('answers that go on elsewhere are told of', async () => {
    const paging = { cursors: { after: 'x' }, next: 'https://graph.example.com/2/replies?after=x' };
    const replies = { data: [{ id: '2', text: 'me too' }], paging };
    const { page } = metaOver(() => json(200, { data: [{ id: '1', text: 'a', replies }] }));
    expect(await page()).toMatchObject({ value: { isCut: true, after: null } });
    const { next: _next, ...ended } = paging;
    const whole = metaOver(() =>
      json(200, { data: [{ id: '1', text: 'a', replies: { ...replies, paging: ended } }] }),
    );
    expect(await whole.page()).toMatchObject({ value: { isCut: false } });
  });

  test('a Page comment without an author is kept', async () => {
    const { page } = metaOver(() =>
      json(200, { data: [{ id: '1_9', message: 'CODE', created_time: '2026-11-20T12:00:00+0000' }] }),
    );
    expect(await page({ surface: 'facebook' })).toMatchObject({
      value: { comments: [{ id: '1_9', text: 'CODE', authorId: null }] },
    });
  });

  test('the next page is reached by its cursor, and only when there is a next one', async () => {
    const next = 'https://evil.test/steal';
    const more = metaOver(() =>
      json(200, { ...empty, paging: { cursors: { before: 'a', after: 'b' }, next } }),
    );
    expect(await more.page()).toMatchObject({ kind: 'ok', value: { after: 'b' } });
    expect(more.requests).toHaveLength(1);
    const last = metaOver(() => json(200, { ...empty, paging: { cursors: { before: 'a', after: 'b' } } }));
    expect(await last.page()).toMatchObject({ kind: 'ok', value: { after: null } });
  });

  test('a next page without a cursor is not taken for the end', async () => {
    const { page } = metaOver(() =>
      json(200, { ...empty, paging: { next: 'https://graph.facebook.com/x' } }),
    );
    expect(await page()).toMatchObject({ kind: 'retry' });
  });

  test.each([
    ['an HTML login page', () => new Response('<html>log in</html>', { status: 200 })],
    ['truncated JSON', () => new Response('{"data":[{"id":"1"', { status: 200 })],
    ['null', () => json(200, null)],
    ['an object for the list', () => json(200, { data: {} })],
    ['a comment that is null', () => json(200, { data: [null] })],
    ['a comment without an id', () => json(200, { data: [{ text: 'a' }] })],
    ['a list', () => json(200, [])],
    ['a proxy’s 502', () => new Response('<html>Bad Gateway</html>', { status: 502 })],
    ['an empty 500', () => new Response('', { status: 500 })],
    ['a 404 that is not Meta’s', () => new Response('not found', { status: 404 })],
    ['a redirect', () => new Response(null, { status: 302, headers: { location: 'https://evil.test' } })],
    ['silence', () => never<Response>()],
    ['a closed port', () => Promise.reject(connectionRefused())],
    ['a reset', () => Promise.reject(connectionReset())],
    ['a huge body', () => new Response('x'.repeat(20_000))],
  ])('%s proves nothing and is tried again', async (_name, answer) => {
    expect(await metaOver(answer).page()).toMatchObject({ kind: 'retry' });
  });

  test('status 429 and 401 without a readable error still throttle and still break the credential', async () => {
    const throttled = metaOver(
      () => new Response('slow down', { status: 429, headers: { 'retry-after': '17' } }),
    );
    expect(await throttled.page()).toMatchObject({ kind: 'throttled', seconds: 17 });
    expect(await metaOver(() => new Response('', { status: 401 })).page()).toMatchObject({
      kind: 'credentialBroken',
    });
  });

  test('who am I answers the id of the account', async () => {
    const { meta, requests } = metaOver(() => json(200, { id: '100000000000001' }));
    expect(await meta.whoAmI(metaCredential, { nowMs })).toEqual({
      kind: 'ok',
      value: { id: '100000000000001' },
    });
    expect(new URL(requests[0]?.url ?? '').pathname).toBe('/v26.0/me');
  });
});

describe('Meta: error codes', () => {
  // Written down a second time, from Meta's pages, so that a slip in the table shows.
  const expected: [code: number, subcode: number | undefined, kind: string][] = [
    ...[1, 2].map((code) => [code, undefined, 'retry'] as [number, undefined, string]),
    ...[4, 17, 32, 341, 613, 80000, 80001, 80002, 80003, 80004, 80005, 80006, 80007, 80008].map(
      (code) => [code, undefined, 'throttled'] as [number, undefined, string],
    ),
    [613, 1996, 'throttled'],
    [80004, 2446079, 'throttled'],
    ...[3, 10, 102, 190, 200, 210, 250, 299, 368].map(
      (code) => [code, undefined, 'credentialBroken'] as [number, undefined, string],
    ),
    ...[458, 459, 460, 463, 464, 467, 492, 999].map(
      (subcode) => [190, subcode, 'credentialBroken'] as [number, number, string],
    ),
    [100, undefined, 'refused'],
    [100, 33, 'refused'],
    [230, undefined, 'refused'],
    [1705, undefined, 'refused'],
    [987654, undefined, 'retry'],
  ];

  test.each(expected)('code %i (%s) is %s, whatever the HTTP status', async (code, subcode, kind) => {
    for (const status of [200, 400, 403, 500]) {
      const outcome = await metaOver(() => json(status, graphError(code, subcode))).page();
      expect(outcome.kind).toBe(kind);
      expect(JSON.stringify(outcome)).toContain(
        subcode === undefined ? `Meta ${code}:` : `Meta ${code}/${subcode}:`,
      );
    }
  });

  test('every row of the table is covered here', () => {
    const covered = (code: number, subcode: number | undefined) =>
      expected.some(([each, sub]) => each === code && sub === subcode);
    for (const row of metaErrors) {
      const code = typeof row.code === 'number' ? row.code : row.code[0];
      expect(covered(code, row.subcode), `${code}/${row.subcode}`).toBe(true);
    }
  });

  test('230 is not taken for the permission errors around it', async () => {
    expect(await metaOver(() => json(400, graphError(230))).page()).toMatchObject({ kind: 'refused' });
    expect(await metaOver(() => json(400, graphError(231))).page()).toMatchObject({
      kind: 'credentialBroken',
    });
  });

  test('what the platform may not read does not break its credential for the other tenants', async () => {
    const borrowed: Credential = { ...metaCredential, source: 'platform' };
    for (const [code, subcode] of [[10], [200], [299], [190, 492]] as [number, number?][]) {
      const { page } = metaOver(() => json(400, graphError(code, subcode)));
      expect(await page({}, borrowed)).toMatchObject({ kind: 'refused' });
      expect(await page()).toMatchObject({ kind: 'credentialBroken' });
    }
    for (const code of [190, 102, 3, 368]) {
      const { page } = metaOver(() => json(400, graphError(code)));
      expect(await page({}, borrowed)).toMatchObject({ kind: 'credentialBroken' });
    }
  });

  test('a subcode says what to do', async () => {
    const outcome = await metaOver(() => json(400, graphError(190, 460))).page();
    expect(outcome).toMatchObject({ error: expect.stringContaining('password was changed') });
  });

  test('an echoed token does not get out, in whatever form', async () => {
    const forms = [token, encodeURIComponent(token), Buffer.from(token).toString('base64')];
    const outcome = await metaOver(() =>
      json(400, graphError(190, undefined, `bad token ${forms.join(' ')}\r\nforged`)),
    ).page();
    for (const form of forms) expect(JSON.stringify(outcome)).not.toContain(form);
    expect(outcome).toMatchObject({ error: expect.stringContaining('[redacted]') });
    expect(JSON.stringify(outcome)).not.toMatch(/\\r|\\n/);
  });

  test.each([
    [{}, 300],
    [{ 'retry-after': '1800' }, 1800],
    [{ 'retry-after': 'garbage' }, 300],
    [
      {
        'x-business-use-case-usage':
          '{"1":[{"type":"pages","call_count":100,"estimated_time_to_regain_access":12}]}',
      },
      720,
    ],
  ])('a throttled call with the headers %j pauses %i s', async (headers, seconds) => {
    expect(await metaOver(() => json(400, graphError(80001), headers)).page()).toMatchObject({
      kind: 'throttled',
      seconds,
    });
  });
});

describe('Meta: usage headers', () => {
  const business = (usage: object) => ({
    'x-business-use-case-usage': JSON.stringify({ '1784': [{ type: 'instagram', ...usage }] }),
  });
  test.each([
    ['none', {}, undefined],
    ['94 %', business({ call_count: 94 }), undefined],
    ['95 %', business({ call_count: 95 }), 60],
    [
      '100 % of the time, 3 minutes to regain',
      business({ total_time: 100, estimated_time_to_regain_access: 3 }),
      180,
    ],
    ['96 % of CPU of the app', { 'x-app-usage': '{"call_count":28,"total_time":25,"total_cputime":96}' }, 60],
    ['28 % of the app', { 'x-app-usage': '{"call_count":28,"total_time":25,"total_cputime":25}' }, undefined],
    ['a week to regain', business({ call_count: 100, estimated_time_to_regain_access: 10_080 }), 86_400],
    ['100 % of the limit for ads', business({ type: 'ads_management', call_count: 100 }), undefined],
    ['garbage', { 'x-app-usage': 'garbage', 'x-business-use-case-usage': '{"a":5}' }, undefined],
    ['null', { 'x-app-usage': 'null' }, undefined],
  ])('%s', (_name, headers, seconds) => {
    expect(usageHint(new Headers(headers))?.seconds).toBe(seconds);
  });

  test.each([
    ['an app', { 'x-app-usage': '{"call_count":97}' }, undefined],
    ['one account', business({ call_count: 97 }), 'account'],
  ])('the usage of %s concerns whoever shares it', (_name, headers, scope) => {
    expect(usageHint(new Headers(headers))?.scope).toBe(scope);
  });

  test.each([
    [4, undefined],
    [80001, 'account'],
    [80002, 'account'],
  ])('so does the limit that code %i names', async (code, scope) => {
    const outcome = await metaOver(() => json(400, graphError(code))).page();
    expect(outcome.kind === 'throttled' && outcome.scope).toBe(scope);
  });

  test('a good answer near the limit carries the hint', async () => {
    const { page } = metaOver(() => json(200, empty, business({ call_count: 97 })));
    expect(await page()).toMatchObject({
      kind: 'ok',
      hint: { seconds: 60, reason: expect.stringContaining('97 %') },
    });
  });
});

describe('Meta: several reads in one call', () => {
  const part = (code: number, body: unknown, headers?: Record<string, string>) => ({
    code,
    ...(headers && { headers: Object.entries(headers).map(([name, value]) => ({ name, value })) }),
    body: JSON.stringify(body),
  });
  const profile = (follows: boolean | null, id = '1') => ({
    id,
    username: 'jane',
    ...(follows === null ? {} : { is_user_follow_business: follows }),
  });
  const profilesOver = (answer: Parameters<typeof network>[0], credential: Credential = metaCredential) => {
    const { meta, requests } = metaOver(answer);
    return { requests, ask: (...ids: string[]) => meta.profiles(credential, { ids, nowMs }) };
  };

  test('a batch is a form with the token in its body, and parts without any', async () => {
    const { ask, requests } = profilesOver(() => json(200, [part(200, profile(true))]));
    await ask('1', '2');
    const form = new URLSearchParams(requests[0]?.body);
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({ method: 'POST', url: 'https://graph.facebook.com/v26.0/' });
    expect(form.get('access_token')).toBe(token);
    expect(JSON.parse(form.get('batch') ?? '')).toEqual(
      ['1', '2'].map((id) => ({
        method: 'GET',
        relative_url: `${id}?fields=username%2Cis_user_follow_business`,
      })),
    );
  });

  test('with an app secret the batch carries the proof with its time', async () => {
    const secret = { access_token: token, app_secret: 'canary-app-secret' };
    const { ask, requests } = profilesOver(() => json(200, []), { ...metaCredential, secret });
    await ask('1');
    const form = new URLSearchParams(requests[0]?.body);
    const time = Math.trunc(nowMs / 1000);
    expect(form.get('appsecret_time')).toBe(String(time));
    expect(form.get('appsecret_proof')).toBe(
      createHmac('sha256', 'canary-app-secret').update(`${token}|${time}`).digest('hex'),
    );
    expect(requests[0]?.body).not.toContain('canary-app-secret');
  });

  test('each part has its own outcome, in the order of the question', async () => {
    const { ask } = profilesOver(() =>
      json(200, [
        part(200, profile(true)),
        null,
        part(400, graphError(230)),
        part(400, graphError(100, 33)),
        part(403, graphError(80006)),
        part(200, profile(null, '6')),
        { code: 200, body: '<html>' },
        'nonsense',
      ]),
    );
    const outcome = await ask('1', '2', '3', '4', '5', '6', '7', '8', '9');
    expect(outcome).toMatchObject({
      kind: 'ok',
      value: [
        { kind: 'ok', value: { consent: true, username: 'jane', follows: true } },
        { kind: 'retry' },
        { kind: 'ok', value: { consent: false } },
        { kind: 'refused' },
        { kind: 'throttled', seconds: 300 },
        { kind: 'ok', value: { follows: null } },
        { kind: 'retry' },
        { kind: 'retry' },
        { kind: 'retry' },
      ],
    });
  });

  test('an answer about somebody else than who was asked about is none', async () => {
    const { id: _id, ...nameless } = profile(true);
    const { ask } = profilesOver(() => json(200, [part(200, profile(true, '2')), part(200, nameless)]));
    expect(await ask('1', '2')).toMatchObject({
      value: [{ kind: 'retry' }, { kind: 'ok', value: { follows: true } }],
    });
    const other = { mentioned_media: { id: '9', username: 'jane', caption: 'hi' }, id: '1784' };
    const { meta } = metaOver(() => json(200, [part(200, other)]));
    const places = [{ mediaId: '8', commentId: null }];
    expect(await meta.mentions(metaCredential, { accountId: '1784', places, nowMs })).toMatchObject({
      value: [{ kind: 'retry' }],
    });
  });

  test('what is no id stays at home, and the others keep their places', async () => {
    const { ask, requests } = profilesOver(() => json(200, [part(200, profile(false))]));
    expect(await ask('../me', '1', '')).toMatchObject({
      value: [{ kind: 'refused' }, { kind: 'ok', value: { follows: false } }, { kind: 'refused' }],
    });
    expect(JSON.parse(new URLSearchParams(requests[0]?.body).get('batch') ?? '')).toHaveLength(1);
    const nobody = profilesOver(() => json(200, []));
    expect(await nobody.ask('../me')).toMatchObject({ kind: 'ok', value: [{ kind: 'refused' }] });
    expect(nobody.requests).toEqual([]);
  });

  test('an error of the whole call is the outcome of the whole call', async () => {
    expect(await profilesOver(() => json(400, graphError(190, 463))).ask('1')).toMatchObject({
      kind: 'credentialBroken',
    });
    expect(await profilesOver(() => json(200, graphError(4))).ask('1')).toMatchObject({ kind: 'throttled' });
    expect(await profilesOver(() => json(200, { data: [] })).ask('1')).toMatchObject({ kind: 'retry' });
    expect(await profilesOver(() => Promise.reject(connectionReset())).ask('1')).toMatchObject({
      kind: 'retry',
    });
  });

  test('the usage that the parts report is the hint of the call, the longest one', async () => {
    const usage = (minutes: number) => ({
      'X-Business-Use-Case-Usage': JSON.stringify({
        '1': [{ type: 'messenger', call_count: 99, estimated_time_to_regain_access: minutes }],
      }),
    });
    const { ask } = profilesOver(() =>
      json(200, [
        part(200, profile(true), usage(2)),
        part(200, profile(true), usage(9)),
        part(200, profile(true), { 'X-App-Usage': 'bad\u0000' }),
      ]),
    );
    expect(await ask('1', '2', '3')).toMatchObject({ kind: 'ok', hint: { seconds: 540 } });
  });

  test('an Instagram login asks one by one, at its own host', async () => {
    const login = { ...metaCredential, kind: 'instagram_login' };
    const { ask, requests } = profilesOver(({ url }) => {
      if (url.includes('/2?')) return json(400, graphError(230));
      return json(200, profile(true));
    }, login);
    expect(await ask('1', '2')).toMatchObject({
      value: [{ value: { follows: true } }, { value: { consent: false } }],
    });
    expect(requests.map(({ method, url }) => [method, new URL(url).host])).toEqual([
      ['GET', 'graph.instagram.com'],
      ['GET', 'graph.instagram.com'],
    ]);
    expect([batchSizeOf(metaCredential), batchSizeOf(login)]).toEqual([50, 5]);
  });

  test('a mention in a comment and one in a caption are asked for by id', async () => {
    const comment = { mentioned_comment: { id: '7', username: 'jane', text: 'hi' }, id: '1784' };
    const media = { mentioned_media: { id: '8', timestamp: '2026-11-20T18:10:30+0000' }, id: '1784' };
    const { meta, requests } = metaOver(() => json(200, [part(200, comment), part(200, media)]));
    const places = [
      { mediaId: '6', commentId: '7' },
      { mediaId: '8', commentId: null },
    ];
    const outcome = await meta.mentions(metaCredential, { accountId: '1784', places, nowMs });
    expect(outcome).toMatchObject({
      value: [
        { value: { id: '7', username: 'jane', text: 'hi', at: null } },
        { value: { id: '8', username: null, text: '', at: Date.parse('2026-11-20T18:10:30Z') } },
      ],
    });
    const asked: { relative_url: string }[] = JSON.parse(
      new URLSearchParams(requests[0]?.body).get('batch') ?? '',
    );
    expect(
      asked.map(({ relative_url }) => new URLSearchParams(relative_url.split('?')[1]).get('fields')),
    ).toEqual([
      'mentioned_comment.comment_id(7){id,username,timestamp,text}',
      'mentioned_media.media_id(8){id,username,timestamp,caption}',
    ]);
  });
});

describe('Meta: tags and reactions', () => {
  test('the next page of tags is reached by the cursor alone, until a page is empty', async () => {
    const paging = { cursors: { before: 'a', after: 'b' } };
    const data = [{ id: '1', username: 'jane', timestamp: '2026-11-20T18:10:30+0000' }];
    const full = metaOver(() => json(200, { data, paging }));
    expect(await full.meta.tagPage(metaCredential, { accountId: '1784', after: null, nowMs })).toEqual({
      kind: 'ok',
      value: {
        media: [{ id: '1', username: 'jane', at: Date.parse('2026-11-20T18:10:30Z') }],
        after: 'b',
      },
    });
    const empty = metaOver(() => json(200, { data: [], paging }));
    expect(await empty.meta.tagPage(metaCredential, { accountId: '1784', after: 'b', nowMs })).toMatchObject({
      value: { media: [], after: null },
    });
    expect(new URL(empty.requests[0]?.url ?? '').searchParams.get('after')).toBe('b');
  });

  test('reactions come with who and how many, as far as Meta tells', async () => {
    const { meta } = metaOver(({ url }) =>
      url.includes('after=') || url.includes('/2_2/')
        ? json(200, { data: [], summary: { total_count: 28, viewer_reaction: 'NONE' } })
        : json(200, { data: [{ id: '7', name: 'Jane', type: 'LOVE' }] }),
    );
    const ask = (postId: string) => meta.reactionPage(metaCredential, { postId, after: null, nowMs });
    expect(await ask('2_1')).toEqual({
      kind: 'ok',
      value: { reactions: [{ authorId: '7', type: 'LOVE' }], total: null, after: null },
    });
    expect(await ask('2_2')).toEqual({ kind: 'ok', value: { reactions: [], total: 28, after: null } });
  });

  test('a missing permission for one kind of task does not break the credential for the others', async () => {
    const ask = {
      comments: (code: number, sub?: number) =>
        metaOver(() => json(400, graphError(code, sub))).page({ surface: 'instagram' }),
      tags: (code: number, sub?: number) =>
        metaOver(() => json(400, graphError(code, sub))).meta.tagPage(metaCredential, {
          accountId: '1',
          after: null,
          nowMs,
        }),
    };
    for (const code of [3, 10, 200, 210]) {
      expect(await ask.tags(code)).toMatchObject({ kind: 'refused' });
      expect(await ask.comments(code)).toMatchObject({ kind: 'credentialBroken' });
    }
    for (const [code, sub] of [[190], [190, 492], [368]] as [number, number?][]) {
      expect(await ask.tags(code, sub)).toMatchObject({ kind: 'credentialBroken' });
    }
  });
});
