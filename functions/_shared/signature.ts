// Doorbell signatures: `x-onecron-signature: t=<unix>,v1=<hex hmac-sha256(secret, t + '.' + raw body)>`.
// Always computed over the raw bytes that arrived, before any JSON.parse. Web Crypto, because it is the one
// implementation that Deno, the hosted Edge Runtime and Node have in common.

export const signatureHeader = 'x-onecron-signature';

/** Either side of now, in seconds; the window that Stripe's libraries use by default. */
export const toleranceSeconds = 300;

type Bytes = Uint8Array<ArrayBuffer>;

const utf8 = new TextEncoder();

async function hmac(key: Bytes, message: Bytes): Promise<Uint8Array> {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
  ]);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, message));
}

/** HMAC-SHA256 in lower-case hex. */
export async function hmacHex(secret: string, message: string | Bytes): Promise<string> {
  const digest = await hmac(
    utf8.encode(secret),
    typeof message === 'string' ? utf8.encode(message) : message,
  );
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Compares without telling by its duration where two values differ or how long they are: both sides are hashed with
 * a key that exists for this comparison only, and all 32 bytes of the hashes are looked at.
 */
export async function constantTimeEqual(left: string, right: string): Promise<boolean> {
  const key = crypto.getRandomValues(new Uint8Array(32));
  const [a, b] = await Promise.all([hmac(key, utf8.encode(left)), hmac(key, utf8.encode(right))]);
  let difference = 0;
  for (let index = 0; index < 32; index++) difference |= (a[index] ?? 0) ^ (b[index] ?? 0xff);
  return difference === 0;
}

/** Which of the secrets was presented (0 is the current one), or -1. Compares with all of them, always. */
export async function indexOfSecret(presented: string, secrets: readonly string[]): Promise<number> {
  const equal = await Promise.all(secrets.map((secret) => constantTimeEqual(presented, secret)));
  return equal.findIndex((same, index) => same && secrets[index] !== '');
}

function signed(timestamp: string, body: string | Uint8Array): Bytes {
  const start = utf8.encode(`${timestamp}.`);
  const end = typeof body === 'string' ? utf8.encode(body) : body;
  const message = new Uint8Array(start.length + end.length);
  message.set(start);
  message.set(end, start.length);
  return message;
}

/** The value of the signature header. `timestamp` is in unix seconds. */
export async function sign(input: {
  secret: string;
  timestamp: number;
  body: string | Uint8Array;
}): Promise<string> {
  const timestamp = String(Math.trunc(input.timestamp));
  return `t=${timestamp},v1=${await hmacHex(input.secret, signed(timestamp, input.body))}`;
}

export type Verification =
  | { valid: true; secretIndex: number }
  | { valid: false; reason: 'missing' | 'malformed' | 'expired' | 'mismatch' };

/** Checks a signature header against the current and the previous secret. Never throws on bad input. */
export async function verify(input: {
  header: string | null;
  body: string | Uint8Array;
  secrets: readonly string[];
  nowSeconds: number;
}): Promise<Verification> {
  if (input.header === null || input.header === '') return { valid: false, reason: 'missing' };
  const match = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(input.header.trim());
  const timestamp = match?.[1];
  const presented = match?.[2];
  if (timestamp === undefined || presented === undefined) return { valid: false, reason: 'malformed' };

  const secrets = input.secrets.filter((secret) => secret !== '');
  const message = signed(timestamp, input.body);
  const expected = await Promise.all(secrets.map((secret) => hmacHex(secret, message)));
  const secretIndex = await indexOfSecret(presented, expected);
  if (secretIndex === -1) return { valid: false, reason: 'mismatch' };
  if (Math.abs(Math.trunc(input.nowSeconds) - Number(timestamp)) > toleranceSeconds) {
    return { valid: false, reason: 'expired' };
  }
  return { valid: true, secretIndex };
}
