// What one request may cost, and what an error tells: pages, bodies, the words of refusals.
import { readFileSync } from 'node:fs';
import { type ClientRequest, request as send } from 'node:http';
import { join } from 'node:path';
import type { SupabaseClient } from '@supabase/supabase-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseToml, readConfig, root } from '../../scripts/local/config.ts';
import { largestBody } from '../../scripts/local/gateway.ts';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { client, ok, type Person, refusal, signUp } from './support.ts';

let stack: Stack;
let owner: Person;
let viewer: Person;
let tenant: string;
let campaign: string;
let token: string;
const nowhere = '00000000-0000-4000-8000-000000000000';

async function tokenOf(api: SupabaseClient): Promise<string> {
  return (await api.auth.getSession()).data.session?.access_token ?? '';
}

interface Answer {
  status: number;
  text: string;
}

/** One request as a program writes it that has no client library. */
async function ask(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${stack.info.api_url}${path}`, {
    method,
    headers: {
      apikey: stack.info.publishable_key,
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text() };
}

/** A body in chunks, whose length nothing announces. */
function askInChunks(path: string, bytes: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let answered = false;
    const request: ClientRequest = send(
      `${stack.info.api_url}${path}`,
      {
        method: 'POST',
        headers: {
          apikey: stack.info.publishable_key,
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'transfer-encoding': 'chunked',
        },
      },
      (response) => {
        answered = true;
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    // Who answers with 413 closes the connection under what is still being sent.
    request.on('error', (error) => {
      if (!answered) reject(error);
    });
    const chunk = Buffer.alloc(64 * 1024, 'x');
    let left = bytes;
    const write = () => {
      while (left > 0 && !answered) {
        const size = Math.min(left, chunk.length);
        left -= size;
        if (!request.write(chunk.subarray(0, size))) {
          request.once('drain', write);
          return;
        }
      }
      request.end();
    };
    write();
  });
}

beforeAll(async () => {
  stack = await startStack({ dataDir: 'temporary', simulators: false, seed: false });
  owner = await signUp(stack, 'owner');
  viewer = await signUp(stack, 'viewer');
  token = await tokenOf(owner.api);
  const made = ok(
    await owner.api.rpc('create_tenant', { name: 'Pizza', slug: 'the-pizzeria', time_zone: 'Europe/Rome' }),
  ) as { id: string };
  tenant = made.id;
  const added = await client(stack, 'secret')
    .schema('jobs')
    .rpc('add_member', { tenant_id: tenant, user_id: viewer.id, role: 'viewer' });
  expect(added.error).toBeNull();
  campaign = ok(
    await owner.api
      .from('campaigns')
      .insert({ tenant_id: tenant, name: 'Summer', time_zone: 'Europe/Rome' })
      .select('id')
      .single(),
  ).id;
});
afterAll(() => stack?.stop());

describe('a page', () => {
  const most = readConfig().api.max_rows;

  test('is as long as supabase/config.toml says, and its default is the platform’s', () => {
    const config = parseToml(readFileSync(join(root, 'supabase', 'config.toml'), 'utf8'));
    expect(config.api).toMatchObject({ max_rows: most });
    expect(most).toBe(1000);
  });

  test('ends there whatever limit, range and embedding ask for, and the next one has the rest', async () => {
    const rows = Array.from({ length: most + 99 }, (_, index) => ({
      tenant_id: tenant,
      name: `Campaign ${index}`,
      time_zone: 'Europe/Rome',
    }));
    expect((await owner.api.from('campaigns').insert(rows)).error).toBeNull();
    const all = () => owner.api.from('campaigns').select('id', { count: 'exact' }).order('id');

    const first = await all();
    expect([ok(first).length, first.count]).toEqual([most, most + 100]);
    expect(ok(await all().limit(most + 50))).toHaveLength(most);
    expect(ok(await all().range(10, most + 50))).toHaveLength(most);
    const embedded = ok(await owner.api.from('tenants').select('id, campaigns!campaigns_tenant_fkey(id)'));
    expect(embedded[0]?.campaigns).toHaveLength(most);

    const rest = ok(await all().range(most, most + 500));
    expect(new Set([...ok(first), ...rest].map(({ id }) => id)).size).toBe(most + 100);
  });
});

describe('a count', () => {
  /** With the header as often as it is given, which fetch would join to one. */
  const count = (...preferences: string[]): Promise<{ status: number; range: string | undefined }> =>
    new Promise((resolve, reject) => {
      const request = send(
        `${stack.info.api_url}/rest/v1/campaigns?select=id&limit=1`,
        {
          headers: {
            apikey: stack.info.publishable_key,
            authorization: `Bearer ${token}`,
            prefer: preferences,
          },
        },
        (response) => {
          response.resume();
          resolve({ status: response.statusCode ?? 0, range: response.headers['content-range'] });
        },
      );
      request.once('error', reject).end();
    });

  test('is exact or none, in whichever of several headers it is asked for', async () => {
    expect(await count('count=exact')).toMatchObject({ range: expect.stringMatching(/^0-0\/\d+$/) });
    expect(await count('handling=lenient', 'count=exact')).toMatchObject({
      range: expect.stringMatching(/^0-0\/\d+$/),
    });
    for (const kind of ['count=planned', 'count=estimated']) {
      for (const preferences of [
        [kind],
        [kind, 'count=exact'],
        ['count=exact', kind],
        [kind, 'handling=lenient'],
      ]) {
        expect([preferences, (await count(...preferences)).status]).toEqual([preferences, 400]);
      }
    }
  });
});

describe('a body', () => {
  const insert = '/rest/v1/campaigns';
  const padded = (bytes: number) => {
    const body = JSON.stringify({ tenant_id: tenant, name: 'Padded', time_zone: 'Europe/Rome' });
    return body + ' '.repeat(bytes - body.length);
  };

  test('of the largest size is read, one byte more is answered with 413 and what to do', async () => {
    expect((await ask('POST', insert, padded(largestBody))).status).toBe(201);
    const tooLarge = { code: 'BODY_TOO_LARGE', message: `Send a body of at most ${largestBody} bytes.` };
    for (const path of [insert, '/auth/v1/signup', '/functions/v1/jobs/tick']) {
      const answer = await ask('POST', path, padded(largestBody + 1));
      expect([path, answer.status, JSON.parse(answer.text)]).toEqual([path, 413, tooLarge]);
    }
    // supabase-js shows both.
    const answer = await owner.api
      .from('campaigns')
      .insert({ tenant_id: tenant, name: 'x'.repeat(largestBody) });
    expect(refusal(answer)).toEqual({ ...tooLarge, status: 413 });
  });

  test('of unknown length is refused as soon as it is too large', async () => {
    expect((await askInChunks(insert, 1000)).status).toBe(400);
    for (const path of [insert, '/auth/v1/signup']) {
      const answer = await askInChunks(path, 4 * largestBody);
      expect([path, answer.status]).toEqual([path, 413]);
      expect(JSON.parse(answer.text)).toMatchObject({ code: 'BODY_TOO_LARGE' });
    }
  });

  test('for a function is as small as what it understands', async () => {
    const bearer = { authorization: `Bearer ${stack.info.cron_secret}` };
    const start = (size: number) =>
      ask('POST', '/functions/v1/jobs/no-such-job', JSON.stringify({ note: 'x'.repeat(size) }), bearer);
    const large = await start(5_000);
    expect(large.status).toBe(413);
    expect(JSON.parse(large.text)).toEqual({
      error: { code: 'body_too_large', message: 'Send a body of at most 4096 bytes.' },
    });
    expect((await start(100)).status).not.toBe(413);
    // So it is in chunks: the function counts them, too.
    const chunked = await askInChunks('/functions/v1/worker', 4 * largestBody);
    expect([401, 413]).toContain(chunked.status);
  });
});

describe('an error', () => {
  /** What would help somebody who looks for a way in: statements, where in the code, which software, whose machine. */
  const internals =
    /\b(select|insert|update|delete)\b[^"]*\b(from|into|set|where)\b[^"]*[=$(]|\$\d|pl\/pgsql|\bline \d+ at\b|\bcontext\b|\bat \S+ \(|node_modules|\.(ts|js|sql)\b|postgres(ql)?:|\b(Range|Type|URI|Syntax)Error\b|<html|supabase_admin|\bprivate\.|security definer|\bjobs\.[a-z]/i;
  const rows = '/rest/v1/campaigns';

  test('says code, message, details and hint, and nothing of how it is made', async () => {
    const task = { tenant_id: tenant, kind: 'instagram_comment', title: 'x', post_id: '1', reward_spins: 1 };
    const deep = `${'['.repeat(5_000)}${']'.repeat(5_000)}`;
    const provoked: [code: string, answer: Promise<Answer>][] = [
      ['22P02', ask('GET', `${rows}?id=eq.nothing`)],
      ['22P02', ask('POST', '/rest/v1/rpc/leave_tenant', { tenant_id: 'nothing' })],
      [
        '22P02',
        ask('POST', '/rest/v1/rpc/change_role', { tenant_id: tenant, user_id: nowhere, role: 'king' }),
      ],
      ['22021', ask('POST', rows, { tenant_id: tenant, name: 'a\u0000b' })],
      ['22023', ask('POST', rows, { tenant_id: tenant, name: 'x', time_zone: 'Mars/Olympus' })],
      ['2201B', ask('GET', `${rows}?name=match.(`)],
      ['23502', ask('POST', rows, { tenant_id: tenant })],
      ['23503', ask('POST', '/rest/v1/social_tasks', { ...task, campaign_id: nowhere })],
      ['23505', ask('POST', '/rest/v1/rpc/create_tenant', { name: 'Other', slug: 'the-pizzeria' })],
      ['23514', ask('POST', rows, { tenant_id: tenant, name: '', time_zone: 'Europe/Rome' })],
      ['42501', ask('POST', rows, { tenant_id: nowhere, name: 'x', time_zone: 'Europe/Rome' })],
      ['42501', ask('DELETE', `/rest/v1/audit_log?tenant_id=eq.${tenant}`)],
      ['42501', ask('POST', '/rest/v1/rpc/list_members', { tenant_id: nowhere })],
      ['42501', ask('GET', '/rest/v1/lanes', undefined, { 'accept-profile': 'jobs' })],
      ['42703', ask('GET', `${rows}?select=nothing`)],
      ['42703', ask('GET', `${rows}?order=nothing`)],
      ['SUP', ask('PATCH', `/rest/v1/tenants?id=eq.${tenant}`, `{"name": ${deep}}`)],
      ['SUP', ask('GET', '/rest/v1/%ff')],
      ['PGRST100', ask('GET', `${rows}?name=nothing.x`)],
      ['PGRST102', ask('POST', rows, '{')],
      ['PGRST200', ask('GET', `${rows}?select=*,nothing(*)`)],
      ['PGRST202', ask('POST', '/rest/v1/rpc/nothing', {})],
      ['PGRST205', ask('GET', '/rest/v1/nothing')],
      ['PT409', ask('POST', '/rest/v1/rpc/leave_tenant', { tenant_id: tenant })],
    ];
    for (const [code, asked] of provoked) {
      const { status, text } = await asked;
      const label = `${code}: ${status} ${text}`;
      expect(status, label).toBeGreaterThanOrEqual(400);
      const body = JSON.parse(text);
      expect(Object.keys(body).sort(), label).toEqual(['code', 'details', 'hint', 'message']);
      expect(body.code, label).toBe(code);
      expect(text, label).not.toMatch(internals);
    }
  });

  test('of Auth says as little, and a path that Auth does not have is no page', async () => {
    const nul = { email: 'a\u0000@example.com', password: 'correct horse battery' };
    const answers = [
      ask('POST', '/auth/v1/signup', '{'),
      ask('POST', '/auth/v1/signup', nul),
      ask('POST', '/auth/v1/token?grant_type=password', nul),
      ask('POST', '/auth/v1/token?grant_type=nothing', {}),
      ask('PUT', '/auth/v1/user', { email: 'nobody' }),
      ask('GET', '/auth/v1/admin/users'),
      ask('GET', '/auth/v1/nothing'),
    ];
    for (const asked of answers) {
      const { status, text } = await asked;
      expect(status, text).toBeGreaterThanOrEqual(400);
      expect(text).not.toMatch(internals);
      expect(JSON.parse(text)).toEqual(expect.any(Object));
    }
    expect((await ask('GET', '/auth/v1/user')).status).toBe(200);
  });

  test('of a refused role is the same for a row of somebody else and for none', async () => {
    // The rightful one first.
    expect(
      ok(await owner.api.from('campaigns').update({ name: 'Autumn' }).eq('id', campaign).select('name')),
    ).toEqual([{ name: 'Autumn' }]);
    const rename = (id: string) =>
      viewer.api.from('campaigns').update({ name: 'Mine' }).eq('id', id).select('id');
    expect(ok(await rename(campaign))).toEqual(ok(await rename(nowhere)));
  });
});
