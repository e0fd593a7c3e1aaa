// Certificates for tests: an authority of the test's own, and a server certificate for one name. Nothing is kept.
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  const size = body.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}
const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const text = (value: string) => der(0x0c, Buffer.from(value));
const time = (at: Date) => der(0x17, Buffer.from(`${at.toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));
const name = (common: string) => sequence(der(0x31, sequence(oid('550403'), text(common))));
const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(oid(id), ...(critical ? [der(0x01, Buffer.from([0xff]))] : []), der(0x04, value));
const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'));

function certificate(options: {
  subject: string;
  issuer: string;
  key: KeyObject;
  signer: KeyObject;
  extensions: Uint8Array[];
}): string {
  const day = 86_400_000;
  const serial = randomBytes(8);
  serial[0] = 0x11;
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ecdsaWithSha256,
    name(options.issuer),
    sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + day))),
    name(options.subject),
    options.key.export({ format: 'der', type: 'spki' }),
    der(0xa3, sequence(...options.extensions)),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, options.signer));
  const base64 = sequence(body, ecdsaWithSha256, signature).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

/** PEM texts: the authority, and a certificate with its key for `host`. */
export function certificatesFor(host: string): { ca: string; cert: string; key: string } {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ca = certificate({
    ...{ subject: 'Test authority', issuer: 'Test authority' },
    ...{ key: authority.publicKey, signer: authority.privateKey },
    extensions: [extension('551d13', true, sequence(der(0x01, Buffer.from([0xff]))))],
  });
  const cert = certificate({
    ...{ subject: host, issuer: 'Test authority' },
    ...{ key: server.publicKey, signer: authority.privateKey },
    extensions: [
      extension('551d11', false, sequence(der(0x82, Buffer.from(host)))),
      extension('551d25', false, sequence(oid('2b06010505070301'))),
    ],
  });
  const key = createPrivateKey({
    key: server.privateKey.export({ format: 'der', type: 'pkcs8' }),
    ...{ format: 'der', type: 'pkcs8' },
  }).export({ format: 'pem', type: 'pkcs8' });
  return { ca, cert, key: String(key) };
}
