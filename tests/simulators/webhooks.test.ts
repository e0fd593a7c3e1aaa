import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { WebhookEvent, WebhookInput } from '../../scripts/simulators/index.ts';
import { call, useSimulators } from './helpers.ts';

const bench = useSimulators({ only: ['meta', 'whatsapp'], world: 'empty' });

interface Taken {
  path: string;
  signature: string;
  text: string;
  json: { object: string; entry: Record<string, unknown>[] };
}

let receiver: Server;
let taken: Taken[] = [];
/** Statuses for the next bodies; then 200. */
let answers: number[] = [];
let url = '';
let made = 0;

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    const asked = new URL(request.url ?? '/', 'http://x');
    if (request.method === 'GET') {
      const knows = asked.searchParams.get('hub.verify_token') === 'the-word';
      response.writeHead(knows ? 200 : 403).end(knows ? asked.searchParams.get('hub.challenge') : 'no');
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('latin1');
    taken.push({
      path: asked.pathname,
      signature: String(request.headers['x-hub-signature-256']),
      text,
      json: JSON.parse(text) as Taken['json'],
    });
    response.writeHead(answers.shift() ?? 200).end();
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
});
afterAll(() => receiver.close());

beforeEach(() => {
  taken = [];
  answers = [];
  bench.simulators.webhooks.unsubscribe(url);
  // An address of its own for every test: none hears of another's events.
  made += 1;
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook-${made}`;
});

const comment = (id: string, changes: Partial<WebhookEvent> = {}): WebhookEvent => ({
  object: 'instagram',
  account: '178',
  tenant: 'pizza-shop',
  at: 1_760_000_000_500,
  field: 'comments',
  value: { id, text: 'café 🍕 a/b' },
  ...changes,
});
async function subscribe(changes: Partial<WebhookInput> = {}): Promise<void> {
  const webhook = { url, app_secret: 'canary-secret', verify_token: 'the-word', ...changes };
  await bench.world('meta', { webhooks: [webhook] });
  await bench.simulators.webhooks.idle();
}
async function tell(...events: WebhookEvent[]): Promise<Taken[]> {
  for (const event of events) bench.simulators.webhooks.emit(event);
  await bench.simulators.webhooks.idle();
  return taken.filter(({ path }) => url.endsWith(path));
}
const ids = (bodies: Taken[]) =>
  bodies.map(({ json }) =>
    json.entry.flatMap((entry) =>
      (entry.changes as { value: { id: string } }[]).map((change) => change.value.id),
    ),
  );

describe('webhooks of the simulators', () => {
  test('are signed over bytes in which nothing but ASCII stands', async () => {
    await subscribe();
    const [body] = await tell(comment('c1'));
    expect(body?.text).toContain('caf\\u00e9 \\ud83c\\udf55 a\\/b');
    const right = createHmac('sha256', 'canary-secret')
      .update(body?.text ?? '')
      .digest('hex');
    expect(body?.signature).toBe(`sha256=${right}`);
    expect(body?.json).toEqual({
      object: 'instagram',
      entry: [
        {
          id: '178',
          time: 1_760_000_000,
          changes: [{ field: 'comments', value: { id: 'c1', text: 'café 🍕 a/b' } }],
        },
      ],
    });
  });

  test('come only after the handshake', async () => {
    await subscribe({ verify_token: 'another-word' });
    expect(await tell(comment('c1'))).toEqual([]);
    await subscribe();
    expect(ids(await tell(comment('c2')))).toEqual([['c2']]);
  });

  test('are about the tenant, the accounts and the fields that were asked for', async () => {
    await subscribe({ tenant: 'pizza-shop', accounts: ['178'], fields: ['comments'] });
    const bodies = await tell(
      comment('c1'),
      comment('c2', { tenant: 'gym' }),
      comment('c3', { account: '179' }),
      comment('c4', { field: 'mentions' }),
    );
    expect(ids(bodies)).toEqual([['c1']]);
  });

  test('share a body up to the batch, never with another object', async () => {
    await subscribe({ batch: 3 });
    const page = { object: 'page', account: '100', field: 'feed' } as const;
    const bodies = await tell(
      ...['c1', 'c2', 'c3', 'c4'].map((id) => comment(id)),
      comment('f1', page),
      comment('c5', { account: '179' }),
    );
    const sorted = [...bodies].sort((a, b) => (a.text < b.text ? -1 : 1));
    expect(ids(sorted)).toEqual([['c1', 'c2', 'c3'], ['c4', 'c5'], ['f1']]);
    expect(sorted[1]?.json.entry).toHaveLength(2);
  });

  test('come twice and in another order when the world wants it so', async () => {
    await subscribe({ duplicates: 1, order: 'reversed', batch: 2 });
    const bodies = await tell(comment('c1'), comment('c2'));
    expect(ids(bodies)).toEqual([
      ['c2', 'c1'],
      ['c2', 'c1'],
    ]);
    expect(new Set(bodies.map(({ text }) => text)).size).toBe(1);
  });

  test('are held and released', async () => {
    await subscribe({ hold: true, batch: 10 });
    expect(await tell(comment('c1'), comment('c2'))).toEqual([]);
    await subscribe({ batch: 10 });
    expect(ids(await tell())).toEqual([['c1', 'c2']]);
  });

  test('come again, later and later, until they are taken', async () => {
    await subscribe({ retry: { first_ms: 20, factor: 2, tries: 5 } });
    answers = [500, 503];
    const startedAt = Date.now();
    expect(ids(await tell(comment('c1')))).toEqual([['c1'], ['c1'], ['c1']]);
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(55);
    expect(bench.simulators.webhooks.deliveries.at(-1)).toMatchObject({
      answers: [500, 503, 200],
      state: 'taken',
    });
    answers = [500, 302, 429, 401, 500];
    await tell(comment('c2'));
    expect(bench.simulators.webhooks.deliveries.at(-1)).toMatchObject({
      answers: [500, 302, 429, 401, 500],
      state: 'given up',
    });
  });

  test('put messages into messaging[], with milliseconds', async () => {
    await subscribe();
    const value = { sender: { id: '5' }, message: { mid: 'm1', text: 'hi' } };
    const [body] = await tell(comment('', { field: 'messages', value }));
    expect(body?.json.entry).toEqual([{ id: '178', time: 1_760_000_000_500, messaging: [value] }]);
  });

  test('lie flat on the entry where the Instagram login is said to have them', async () => {
    await subscribe({ flat: true, batch: 2 });
    const [body] = await tell(comment('c1'), comment('c2'));
    expect(body?.json.entry).toMatchObject([
      { id: '178', field: 'comments', value: { id: 'c1' } },
      { id: '178', field: 'comments', value: { id: 'c2' } },
    ]);
  });

  test('of WhatsApp name the business account, and are found by the number', async () => {
    await subscribe({ accounts: ['106'] });
    const value = { metadata: { phone_number_id: '106' }, statuses: [{ id: 'wamid.1', status: 'sent' }] };
    const event = { object: 'whatsapp_business_account', account: '9106', field: 'messages', value } as const;
    const [body] = await tell(comment('', event));
    expect(body?.json).toEqual({
      object: 'whatsapp_business_account',
      entry: [{ id: '9106', changes: [{ value, field: 'messages' }] }],
    });
  });

  test('show their state and no secret', async () => {
    await subscribe();
    await tell(comment('c1'));
    const { text, json } = await call(`${bench.url('whatsapp')}/_world`);
    expect(text).not.toMatch(/canary-secret|the-word/);
    const found = json.webhooks.find((webhook: { url: string }) => webhook.url === url);
    expect(found).toMatchObject({ state: 'verified', waiting: 0 });
    await bench.world('meta', { remove_webhooks: [url] });
    expect(await tell(comment('c2'))).toHaveLength(1);
  });

  test('that make no sense are refused in words', async () => {
    const change = JSON.stringify({ webhooks: [{ url: 'ftp://x' }] });
    const reply = await call(`${bench.url('meta')}/_world`, { method: 'POST', body: change });
    expect(reply.status).toBe(400);
    expect(reply.text).toContain('url');
  });
});
