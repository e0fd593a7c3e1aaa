// Where a url from outside may point: to a public host over https, and nowhere else. The name is looked up once, every
// address that it has is checked, and the request goes to one of these addresses: a name that changes its answer in
// between gains nothing.
import type { Http, HttpRequest, HttpResult } from './http.ts';

/** Every address of a host; null where the runtime does not let us ask. */
export type Resolve = (host: string) => Promise<string[] | null>;

type Range = readonly [network: string, bits: number];

/** IANA's special-purpose registries, and two addresses of cloud platforms that are not in them. */
const specialRanges4: readonly Range[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['168.63.129.16', 32],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
];
/** Within 2000::/3, the only part of IPv6 that is public; everything outside it is special. */
const specialRanges6: readonly Range[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['2620:4f:8000::', 48],
  ['3fff::', 20],
];

function bits4(address: string): bigint | null {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) return null;
  return parts.reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
}

function bits6(address: string): bigint | null {
  // The URL parser is the one IPv6 parser that every runtime has; it answers in one form.
  const url = `http://[${address}]/`;
  if (!URL.canParse(url)) return null;
  const [head = '', tail] = new URL(url).hostname.slice(1, -1).split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [left, right] = [groups(head), groups(tail)];
  const gap = tail === undefined ? 0 : 8 - left.length - right.length;
  const all = [...left, ...new Array<string>(gap).fill('0'), ...right];
  return all.reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n);
}

const within = (address: bigint, network: bigint | null, bits: number, width: number) =>
  network !== null && address >> BigInt(width - bits) === network >> BigInt(width - bits);

/** True for every address that is not plainly public, and for what is no address. */
export function isSpecialAddress(address: string): boolean {
  const four = bits4(address);
  if (four !== null) return specialRanges4.some(([net, bits]) => within(four, bits4(net), bits, 32));
  const six = bits6(address);
  if (six === null || !within(six, bits6('2000::'), 3, 128)) return true;
  return specialRanges6.some(([net, bits]) => within(six, bits6(net), bits, 128));
}

const loopback = new Set(['127.0.0.1', 'localhost', '[::1]']);
const reservedNames =
  /(^|\.)(localhost|local|internal|intranet|lan|home|corp|onion|test|invalid|home\.arpa)$/;
const longestUrl = 2_000;

export interface UrlRules {
  /** `host:port` that may be called whatever its address; plain http only to this machine. */
  allowedHosts: readonly string[];
  resolve: Resolve;
}

export type UrlCheck =
  /** `addresses`: where the host is, all of them public; null for a host on the list. */
  { ok: true; url: string; addresses: string[] | null } | { ok: false; transient: boolean; problem: string };

/** Checks a url before each use. The problem is in words that hold nothing of the url. */
export async function checkUrl(text: string, rules: UrlRules): Promise<UrlCheck> {
  const refuse = (problem: string): UrlCheck => ({ ok: false, transient: false, problem });
  if (text.length > longestUrl) return refuse('is not a url');
  // The parser would drop tabs and line breaks, and read a backslash as a slash: what is meant stays unclear.
  if (/[\s\p{Cc}\p{Cf}\\]/u.test(text)) return refuse('has white space or a backslash in it');
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || !URL.canParse(text)) return refuse('is not a url');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return refuse('has a user or a password in it');
  const secure = url.protocol === 'https:';
  if (!secure && url.protocol !== 'http:') return refuse('is not an https url');
  const host = url.hostname.toLowerCase();
  if (rules.allowedHosts.includes(`${host}:${url.port || (secure ? 443 : 80)}`)) {
    if (secure || loopback.has(host)) return { ok: true, url: url.href, addresses: null };
    return refuse('is not an https url');
  }
  if (!secure) return refuse('is not an https url');
  if (url.port !== '') return refuse('names a port');
  if (host.startsWith('[') || bits4(host) !== null) return refuse('names an address instead of a host');
  // Letters that look like others, in both forms in which they come.
  if (/(^|\.)xn--/.test(host)) return refuse('has a host with letters beyond ASCII');
  if (
    !/^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)+[a-z][a-z0-9-]*[a-z0-9]$/.test(host) ||
    reservedNames.test(host)
  ) {
    return refuse('does not name a public host');
  }
  let addresses: string[] | null;
  try {
    addresses = await rules.resolve(host);
  } catch {
    return { ok: false, transient: true, problem: 'names a host that could not be looked up' };
  }
  if (addresses === null) return refuse('names a host that can’t be looked up from here');
  if (addresses.length === 0) {
    return { ok: false, transient: true, problem: 'names a host that does not exist' };
  }
  if (addresses.some(isSpecialAddress)) return refuse('leads to an address that is not public');
  return { ok: true, url: url.href, addresses };
}

/** `transient`: the same url may be good later. */
export type CheckedResult = HttpResult | { kind: 'refused'; transient: boolean; problem: string };

/** A request to a url of somebody else's making. Refused before anything leaves, or made where the check has looked. */
export type FetchChecked = (request: HttpRequest) => Promise<CheckedResult>;

export interface FetchCheckedOptions extends UrlRules {
  /** For hosts on the list. */
  plain: Http;
  /** Speaks to these addresses and to no others, whatever the name says by then. */
  pinned: (addresses: readonly string[]) => Http;
}

export function createFetchChecked(options: FetchCheckedOptions): FetchChecked {
  return async (request) => {
    const checked = await checkUrl(request.url, options);
    if (!checked.ok) return { kind: 'refused', transient: checked.transient, problem: checked.problem };
    const http = checked.addresses === null ? options.plain : options.pinned(checked.addresses);
    return await http({ ...request, url: checked.url });
  };
}
