import { describe, expect, test } from 'vitest';
import { checkUrl, isSpecialAddress, type Resolve } from '../../functions/_shared/addresses.ts';
import { createResolve } from '../../functions/_shared/runtime.ts';

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

describe('a url from outside', () => {
  test.each(['https://hooks.slack.com/services/T/B/x', 'https://discord.com/api/webhooks/1/x/slack'])(
    '%s may be called',
    async (url) => {
      expect(await check(url)).toEqual({ ok: true, url });
    },
  );

  test.each([
    'http://hooks.slack.com/services/T/B/x',
    'http://2130706433/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://0177.0.0.1/',
    'https://127.1/',
    'https:127.0.0.1',
    'https://%31%32%37.0.0.1/',
    'https://①②⑦.⓪.⓪.①/',
    'https://127。0。0。1/',
    'https://0/',
    'https://169.254.169.254./',
    'https://[::]/',
    'https://[::1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://[fd00:ec2::254]/',
    'https://localhost/',
    'https://LOCALHOST/',
    'https://localhost./',
    'https://a.localhost/',
    'https://metadata.google.internal/',
    'https://printer.local/',
    'https://intranet/',
    'https://hooks.slack.com.:443/',
    'https://hooks.slack.com:22/',
    'https://hooks.slack.com:5432/',
    'https://user:pass@hooks.slack.com/',
    'https://hooks.slack.com@evil.example/',
    'file:///etc/passwd',
    'data:text/plain,x',
    'ftp://hooks.slack.com/',
    'javascript:alert(1)',
    '',
    `https://hooks.slack.com/${'x'.repeat(10_000)}`,
  ])('%s is refused, in words that hold nothing of it', async (url) => {
    const checked = await check(url);
    expect(checked).toMatchObject({ ok: false, transient: false });
    if (!checked.ok && url.length > 12) expect(checked.problem).not.toContain(url.slice(8));
  });

  test.each([
    ['an address that is not public', ['10.0.0.1']],
    ['one of several that is not public', ['93.184.216.34', '127.0.0.1']],
    ['an IPv6 address that is not public', ['93.184.216.34', 'fd00::1']],
  ])('a host with %s is refused', async (_name, addresses) => {
    expect(await check('https://hooks.example.com/', [], async () => addresses)).toMatchObject({
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

  test('where nothing can be looked up the rules for names remain', async () => {
    expect(await check('https://hooks.example.com/', [], async () => null)).toMatchObject({ ok: true });
    expect(await check('https://127.0.0.1/', [], async () => null)).toMatchObject({ ok: false });
  });

  test('hosts on the list may be called wherever they are, plain http only on this machine', async () => {
    const allowed = ['127.0.0.1:9000', 'chat.internal:443', 'chat.internal:80'];
    expect(await check('http://127.0.0.1:9000/x', allowed)).toMatchObject({ ok: true });
    expect(await check('https://chat.internal/x', allowed)).toMatchObject({ ok: true });
    expect(await check('http://127.0.0.1:9001/x', allowed)).toMatchObject({ ok: false });
    expect(await check('http://chat.internal/x', allowed)).toMatchObject({ ok: false });
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

  test('without the function or the right to use it nothing is known; any other trouble is one', async () => {
    const throwing = (name: string) =>
      scope(async () => {
        throw error(name);
      });
    expect(await createResolve({})('a.example')).toBeNull();
    expect(await createResolve(throwing('NotCapable'))('a.example')).toBeNull();
    await expect(createResolve(throwing('TimedOut'))('a.example')).rejects.toThrow();
  });
});
