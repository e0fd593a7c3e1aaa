import { describe, expect, test } from 'vitest';
import {
  checkUrl,
  createFetchChecked,
  isSpecialAddress,
  type Resolve,
} from '../../functions/_shared/addresses.ts';
import { createResolve } from '../../functions/_shared/runtime.ts';
import { network } from './fakes.ts';

const publicly: Resolve = async () => ['93.184.216.34', '2606:2800:220:1:248:1893:25c8:1946'];
const check = (url: string, allowedHosts: string[] = [], resolve: Resolve = publicly) =>
  checkUrl(url, { allowedHosts, resolve });

describe('addresses', () => {
  test.each([
    '0.0.0.0',
    '10.0.0.1',
    '100.64.0.1',
    '100.100.100.200',
    '127.0.0.1',
    '127.255.255.255',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.0.2.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.7',
    '203.0.113.7',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:93.184.216.34',
    '::127.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '100::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    '3fff::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fec0::1',
    'ff02::1',
    'not an address',
    '',
    '1.2.3.4.5',
    '256.1.1.1',
  ])('%s is special', (address) => {
    expect(isSpecialAddress(address)).toBe(true);
  });

  test.each([
    '93.184.216.34',
    '8.8.8.8',
    '100.63.255.255',
    '100.128.0.1',
    '172.15.255.255',
    '172.32.0.1',
    '168.63.129.17',
    '198.17.255.255',
    '223.255.255.255',
    '2606:2800:220:1:248:1893:25c8:1946',
    '2a00:1450:4001:82a::200e',
  ])('%s is public', (address) => {
    expect(isSpecialAddress(address)).toBe(false);
  });
});

/** Each url with the reason for which it is refused. */
const hostile: readonly [url: string, problem: string][] = [
  // an address, in every way to write one
  ['https://127.0.0.1/', 'names an address instead of a host'],
  ['https://127.1/', 'names an address instead of a host'],
  ['https://127.0.1/', 'names an address instead of a host'],
  ['https://2130706433/', 'names an address instead of a host'],
  ['https://0x7f000001/', 'names an address instead of a host'],
  ['https://0x7f.0.0.1/', 'names an address instead of a host'],
  ['https://0177.0.0.1/', 'names an address instead of a host'],
  ['https://017700000001/', 'names an address instead of a host'],
  ['https://%31%32%37.0.0.1/', 'names an address instead of a host'],
  ['https://①②⑦.⓪.⓪.①/', 'names an address instead of a host'],
  ['https://127。0。0。1/', 'names an address instead of a host'],
  ['https://0/', 'names an address instead of a host'],
  ['https://0.0.0.0/', 'names an address instead of a host'],
  ['https://10.0.0.1/', 'names an address instead of a host'],
  ['https://172.31.0.1/', 'names an address instead of a host'],
  ['https://192.168.1.1/', 'names an address instead of a host'],
  ['https://192.0.0.192/', 'names an address instead of a host'],
  ['https://169.254.169.254/latest/meta-data', 'names an address instead of a host'],
  ['https://169.254.169.254./', 'names an address instead of a host'],
  ['https://100.100.100.200/', 'names an address instead of a host'],
  ['https://168.63.129.16/', 'names an address instead of a host'],
  ['https://93.184.216.34/', 'names an address instead of a host'],
  ['https://[::]/', 'names an address instead of a host'],
  ['https://[::1]/', 'names an address instead of a host'],
  ['https://[::ffff:127.0.0.1]/', 'names an address instead of a host'],
  ['https://[::ffff:a9fe:a9fe]/', 'names an address instead of a host'],
  ['https://[::127.0.0.1]/', 'names an address instead of a host'],
  ['https://[64:ff9b::a9fe:a9fe]/', 'names an address instead of a host'],
  ['https://[2002:7f00:1::]/', 'names an address instead of a host'],
  ['https://[2001:0:7f00:1::]/', 'names an address instead of a host'],
  ['https://[fd00:ec2::254]/', 'names an address instead of a host'],
  ['https://[fe80::1]/', 'names an address instead of a host'],
  ['https://[2606:2800:220:1:248:1893:25c8:1946]/', 'names an address instead of a host'],
  ['https://256.256.256.256/', 'is not a url'],
  ['https://[fe80::1%25eth0]/', 'is not a url'],
  // somebody else before the @
  ['https://user:pass@hooks.slack.com/', 'has a user or a password in it'],
  ['https://hooks.slack.com@evil.example/', 'has a user or a password in it'],
  ['https://127.0.0.1:80@hooks.slack.com/', 'has a user or a password in it'],
  ['https://hooks.slack.com%40@evil.example/', 'has a user or a password in it'],
  ['https://:pass@hooks.slack.com/', 'has a user or a password in it'],
  ['https://hooks.slack.com\\@evil.example/', 'has white space or a backslash in it'],
  ['https:\\\\evil.example/', 'has white space or a backslash in it'],
  // ports
  ['https://hooks.slack.com:22/', 'names a port'],
  ['https://hooks.slack.com:25/', 'names a port'],
  ['https://hooks.slack.com:5432/', 'names a port'],
  ['https://hooks.slack.com:6379/', 'names a port'],
  ['https://hooks.slack.com:8443/', 'names a port'],
  ['https://hooks.slack.com:99999/', 'is not a url'],
  // names that are not public
  ['https://localhost/', 'does not name a public host'],
  ['https://LOCALHOST/', 'does not name a public host'],
  ['https://localhost./', 'does not name a public host'],
  ['https://a.localhost/', 'does not name a public host'],
  ['https://metadata.google.internal/', 'does not name a public host'],
  ['https://printer.local/', 'does not name a public host'],
  ['https://router.lan/', 'does not name a public host'],
  ['https://nas.home.arpa/', 'does not name a public host'],
  ['https://x.onion/', 'does not name a public host'],
  ['https://mail.corp/', 'does not name a public host'],
  ['https://x.test/', 'does not name a public host'],
  ['https://intranet/', 'does not name a public host'],
  ['https://hooks.slack.com./', 'does not name a public host'],
  ['https://hooks..slack.com/', 'does not name a public host'],
  ['https://-x.example.com/', 'does not name a public host'],
  ['https://x*.example.com/', 'does not name a public host'],
  // names that look like others
  ['https://hооks.slack.com/', 'has a host with letters beyond ASCII'],
  ['https://xn--hks-5ppa.slack.com/', 'has a host with letters beyond ASCII'],
  ['https://slаck.com/', 'has a host with letters beyond ASCII'],
  ['https://hooks.slack.com.xn--p1ai/', 'has a host with letters beyond ASCII'],
  ['https://hooks.sl\u00adack.com/', 'has white space or a backslash in it'],
  ['https://hooks.sl\u200back.com/', 'has white space or a backslash in it'],
  // other things
  ['http://hooks.slack.com/', 'is not an https url'],
  ['http://2130706433/', 'is not an https url'],
  ['ftp://hooks.slack.com/', 'is not an https url'],
  ['gopher://hooks.slack.com/', 'is not an https url'],
  ['file:///etc/passwd', 'is not an https url'],
  ['ws://hooks.slack.com/', 'is not an https url'],
  ['data:text/plain,x', 'is not a url'],
  ['javascript:alert(1)', 'is not a url'],
  ['blob:https://hooks.slack.com/1', 'is not a url'],
  ['https:127.0.0.1', 'is not a url'],
  ['https:/127.0.0.1', 'is not a url'],
  ['//hooks.slack.com/', 'is not a url'],
  ['https://exa\tmple.com/', 'has white space or a backslash in it'],
  ['https://exa\nmple.com/', 'has white space or a backslash in it'],
  [' https://example.com/', 'has white space or a backslash in it'],
  ['https://exam\u0000ple.com/', 'has white space or a backslash in it'],
  ['', 'is not a url'],
  ['https://', 'is not a url'],
  [`https://hooks.slack.com/${'x'.repeat(10_000)}`, 'is not a url'],
];

describe('a url from outside', () => {
  test.each([
    'https://hooks.slack.com/services/T/B/x',
    'https://discord.com/api/webhooks/1/x/slack',
    'https://graph.facebook.com.evil.tld/',
    'https://evil.tld/#@graph.facebook.com',
    'https://gateway.example.co/send?number=49301234567',
  ])('%s may be called, where its name leads to', async (url) => {
    expect(await check(url)).toEqual({ ok: true, url, addresses: await publicly('') });
  });

  test.each(hostile)('%s is refused', async (url, problem) => {
    const checked = await check(url);
    expect(checked).toEqual({ ok: false, transient: false, problem });
    if (url.length > 12) expect(problem).not.toContain(url.slice(8));
  });

  test('there are enough of them, and each of them once', () => {
    expect(new Set(hostile.map(([url]) => url)).size).toBe(hostile.length);
    expect(hostile.length).toBeGreaterThanOrEqual(60);
  });

  test.each([
    ['a private address', ['10.0.0.1']],
    ['this machine', ['127.0.0.1']],
    ['the machine’s metadata', ['169.254.169.254']],
    ['the carrier’s own network', ['100.64.1.1']],
    ['an IPv6 address only, that is private', ['fd00::1']],
    ['one of several that is private', ['93.184.216.34', '127.0.0.1']],
    ['a public A and a private AAAA', ['93.184.216.34', 'fd00::1']],
    ['a private A and a public AAAA', ['192.168.0.1', '2606:2800:220:1::1']],
    ['an IPv4 address inside of an IPv6 one', ['::ffff:127.0.0.1']],
    ['an address behind NAT64', ['64:ff9b::7f00:1']],
    ['an address behind 6to4', ['2002:7f00:1::']],
    ['an address behind Teredo', ['2001:0:4136:e378::1']],
    ['something that is no address', ['localhost']],
  ])('a host that leads to %s is refused', async (_name, addresses) => {
    expect(await check('https://hooks.example.com/', [], async () => addresses)).toEqual({
      ok: false,
      transient: false,
      problem: 'leads to an address that is not public',
    });
  });

  test('a host that can’t be looked up may be there later', async () => {
    const failing: Resolve = async () => {
      throw new Error('name server hooks.example.com');
    };
    for (const resolve of [failing, async () => []]) {
      const checked = await check('https://hooks.example.com/', [], resolve);
      expect(checked).toMatchObject({ ok: false, transient: true });
      expect(JSON.stringify(checked)).not.toContain('hooks.example.com');
    }
  });

  test('where nothing can be looked up nothing is called', async () => {
    expect(await check('https://hooks.example.com/', [], async () => null)).toEqual({
      ok: false,
      transient: false,
      problem: 'names a host that can’t be looked up from here',
    });
  });

  test('hosts on the list may be called wherever they are, plain http only on this machine', async () => {
    const allowed = ['127.0.0.1:9000', 'chat.internal:443', 'chat.internal:80'];
    expect(await check('http://127.0.0.1:9000/x', allowed)).toMatchObject({ ok: true, addresses: null });
    expect(await check('https://chat.internal/x', allowed)).toMatchObject({ ok: true, addresses: null });
    expect(await check('http://127.0.0.1:9001/x', allowed)).toMatchObject({ ok: false });
    expect(await check('http://chat.internal/x', allowed)).toMatchObject({ ok: false });
    expect(await check('http://me@127.0.0.1:9000/x', allowed)).toMatchObject({ ok: false });
    expect(await check('http://127.0.0.1:9000\\@evil.example/', allowed)).toMatchObject({ ok: false });
  });
});

describe('a checked request', () => {
  const fetchOf = (resolve: Resolve, answer: () => Response = () => new Response('ok')) => {
    const { http, requests } = network(answer);
    const pinnedTo: string[][] = [];
    const plain = network(() => new Response('ok'));
    const fetchChecked = createFetchChecked({
      allowedHosts: ['127.0.0.1:9000'],
      resolve,
      plain: plain.http,
      pinned: (addresses) => {
        pinnedTo.push([...addresses]);
        return http;
      },
    });
    return { fetchChecked, requests, pinnedTo, plain: plain.requests };
  };

  test('a name is looked up once, and the request is bound to what was checked', async () => {
    const answers = [['93.184.216.34'], ['127.0.0.1']];
    let asked = 0;
    const { fetchChecked, pinnedTo, plain } = fetchOf(async () => answers[asked++] ?? []);
    await fetchChecked({ method: 'POST', url: 'https://rebinding.example.com/', body: '' });
    expect(asked).toBe(1);
    expect(pinnedTo).toEqual([['93.184.216.34']]);
    expect(plain).toEqual([]);
    // The second time the name has changed its answer, and gets nothing.
    expect(
      await fetchChecked({ method: 'POST', url: 'https://rebinding.example.com/', body: '' }),
    ).toMatchObject({
      kind: 'refused',
    });
    expect(pinnedTo).toHaveLength(1);
  });

  test.each(hostile)('%s gets nothing', async (url, problem) => {
    const { fetchChecked, requests, plain, pinnedTo } = fetchOf(publicly);
    expect(await fetchChecked({ method: 'GET', url })).toEqual({
      kind: 'refused',
      transient: false,
      problem,
    });
    expect([...requests, ...plain, ...pinnedTo]).toEqual([]);
  });

  test.each([...hostile.slice(0, 10).map(([url]) => url), 'https://hooks.slack.com/'])(
    'a redirect to %s is a failure, whatever it names',
    async (location) => {
      const { fetchChecked, requests } = fetchOf(
        publicly,
        () => new Response(null, { status: 302, headers: { location: encodeURI(location) } }),
      );
      expect(await fetchChecked({ method: 'GET', url: 'https://hooks.slack.com/start' })).toMatchObject({
        kind: 'failure',
        reason: 'redirect',
      });
      expect(requests).toHaveLength(1);
    },
  );

  test('a host on the list is called as it is', async () => {
    const { fetchChecked, plain, requests } = fetchOf(async () => {
      throw new Error('not asked');
    });
    await fetchChecked({ method: 'GET', url: 'http://127.0.0.1:9000/x' });
    expect(plain).toHaveLength(1);
    expect(requests).toHaveLength(0);
  });
});

describe('looking up', () => {
  const scope = (resolveDns: (host: string, type: string) => Promise<string[]>) => ({ Deno: { resolveDns } });
  const error = (name: string) => Object.assign(new Error('x'), { name });

  test('asks for both families', async () => {
    const ask = async (_host: string, type: string) => (type === 'A' ? ['1.2.3.4'] : ['::1']);
    expect(await createResolve(scope(ask))('a.example')).toEqual(['1.2.3.4', '::1']);
  });

  test('a family without records has none', async () => {
    const ask = async (_host: string, type: string) => {
      if (type === 'AAAA') throw error('NotFound');
      return ['1.2.3.4'];
    };
    expect(await createResolve(scope(ask))('a.example')).toEqual(['1.2.3.4']);
  });

  test('where the runtime has no such function the machine is asked', async () => {
    expect(await createResolve({}, async () => ['1.2.3.4'])('a.example')).toEqual(['1.2.3.4']);
    expect(await createResolve({})('localhost')).toEqual(
      expect.arrayContaining([expect.stringMatching(/^(127\.|::1)/)]),
    );
  });

  test('without the right to ask nothing is known; any other trouble is one', async () => {
    const throwing = (name: string) =>
      scope(async () => {
        throw error(name);
      });
    expect(await createResolve(throwing('NotCapable'))('a.example')).toBeNull();
    await expect(createResolve(throwing('TimedOut'))('a.example')).rejects.toThrow();
  });
});
