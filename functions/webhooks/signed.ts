// How Meta signs: bodies by X-Hub-Signature-256 over their bytes, requests to forget somebody as `signed_request`.
import { z } from 'zod';
import { hmacHex, indexOfSecret } from '../_shared/signature.ts';

type Bytes = Uint8Array<ArrayBuffer>;

/** Takes the place of a secret that is not there: who has none is checked as long as who has one. */
const nobodysSecret = crypto.randomUUID();

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export async function sha256Hex(bytes: Bytes): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
}

async function isSignature(presented: string, message: Bytes, secrets: readonly string[]): Promise<boolean> {
  const tried = secrets.length === 0 ? [nobodysSecret] : secrets;
  const expected = await Promise.all(tried.map((secret) => hmacHex(secret, message)));
  const found = (await indexOfSecret(presented, expected)) >= 0;
  return found && secrets.length > 0;
}

/** `header`: `sha256=<hex>`. Compares in constant time, with every secret. */
export async function signedBy(
  header: string | null,
  body: Bytes,
  secrets: readonly string[],
): Promise<boolean> {
  const presented = /^sha256=([0-9a-f]{64})$/.exec(header ?? '')?.[1];
  return await isSignature(presented ?? '', body, secrets);
}

const payloadSchema = z.looseObject({
  algorithm: z
    .string()
    .transform((name) => name.toUpperCase())
    .pipe(z.literal('HMAC-SHA256')),
  user_id: z.union([z.string().regex(/^[0-9A-Za-z_.-]{1,100}$/), z.int().positive().transform(String)]),
});
export type SignedRequest = z.output<typeof payloadSchema>;

function fromBase64Url(text: string): Bytes | null {
  if (!/^[A-Za-z0-9_-]*={0,2}$/.test(text)) return null;
  try {
    const binary = atob(text.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/'));
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

/** `<base64url of the signature>.<base64url of the payload>`; the signature covers the payload as it is encoded. Null: not genuine. */
export async function readSignedRequest(
  signed: string,
  secrets: readonly string[],
): Promise<SignedRequest | null> {
  const [signature = '', payload = '', ...rest] = signed.split('.');
  const presented = fromBase64Url(signature);
  const genuine = await isSignature(
    presented === null ? '' : hex(presented),
    new TextEncoder().encode(payload),
    secrets,
  );
  if (!genuine || rest.length > 0) return null;
  const bytes = fromBase64Url(payload);
  if (bytes === null) return null;
  try {
    const parsed = payloadSchema.safeParse(
      JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)),
    );
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
