// Every error code that Meta and WhatsApp document, and what it means here: one class each, whatever the HTTP status.
import { describe, expect, test } from 'vitest';
import { createMeta } from '../../functions/_shared/providers/meta.ts';
import { createWhatsApp } from '../../functions/_shared/providers/whatsapp.ts';
import { json, metaCredential, network, nowMs, whatsappCredential } from './fakes.ts';

type Code = readonly [code: number, subcode: number | null, kind: string, meaning: string];

const body = (code: number, subcode: number | null) => ({
  error: {
    message: `(#${code}) their words`,
    type: 'OAuthException',
    code,
    ...(subcode !== null && { error_subcode: subcode }),
    fbtrace_id: 'x',
  },
});
/** The status of a code is not documented: it must not matter. */
const statuses = [400, 401, 403, 500];

const meta: readonly Code[] = [
  [1, null, 'retry', 'unknown'],
  [2, null, 'retry', 'service down'],
  [3, null, 'credentialBroken', 'capability'],
  [4, null, 'throttled', 'app rate limit'],
  [10, null, 'credentialBroken', 'permission not granted or removed'],
  [17, null, 'throttled', 'user rate limit'],
  [32, null, 'throttled', 'page rate limit'],
  [100, null, 'refused', 'invalid parameter'],
  [100, 33, 'refused', 'object gone'],
  [102, null, 'credentialBroken', 'session'],
  [190, null, 'credentialBroken', 'token expired or invalid'],
  [190, 458, 'credentialBroken', 'app not installed'],
  [190, 459, 'credentialBroken', 'user checkpointed'],
  [190, 460, 'credentialBroken', 'password changed'],
  [190, 463, 'credentialBroken', 'expired'],
  [190, 464, 'credentialBroken', 'unconfirmed user'],
  [190, 467, 'credentialBroken', 'invalid token'],
  [190, 492, 'credentialBroken', 'user lost its role on the Page'],
  [200, null, 'credentialBroken', 'permission'],
  [250, null, 'credentialBroken', 'permission'],
  [299, null, 'credentialBroken', 'permission'],
  [230, null, 'refused', 'profile consent missing: the person has to write first'],
  [341, null, 'throttled', 'application limit'],
  [368, null, 'credentialBroken', 'blocked for a policy'],
  [613, null, 'throttled', 'custom rate limit'],
  [613, 1996, 'throttled', 'inconsistent volume'],
  [1705, null, 'refused', 'called as a person, not as the Page'],
  [80000, null, 'throttled', 'ads insights'],
  [80001, null, 'throttled', 'pages'],
  [80002, null, 'throttled', 'instagram'],
  [80003, null, 'throttled', 'custom audience'],
  [80004, null, 'throttled', 'ads management'],
  [80004, 2446079, 'throttled', 'ads management'],
  [80005, null, 'throttled', 'lead generation'],
  [80006, null, 'throttled', 'messenger'],
  [80007, null, 'throttled', 'WhatsApp account'],
  [80008, null, 'throttled', 'WhatsApp management'],
];

describe.each(meta)('Meta %i/%s is %s: %s', (code, subcode, kind) => {
  test.each(statuses)('with status %i', async (status) => {
    const { http } = network(() => json(status, body(code, subcode)));
    const client = createMeta({
      http,
      graphUrl: 'https://graph.example.com',
      instagramUrl: 'https://ig.example.com',
    });
    const outcome = await client.whoAmI(metaCredential, { nowMs });
    expect(outcome.kind).toBe(kind);
    // The owner reads which code it was, in this form.
    expect(JSON.stringify(outcome)).toContain(`Meta ${subcode === null ? code : `${code}/${subcode}`}: `);
  });
});

const whatsapp: readonly Code[] = [
  [0, null, 'credentialBroken', 'authentication'],
  [1, null, 'retry', 'unknown'],
  [2, null, 'retry', 'service down'],
  [3, null, 'credentialBroken', 'permission'],
  [4, null, 'throttled', 'app call limit'],
  [10, null, 'credentialBroken', 'permission'],
  [100, null, 'refused', 'invalid parameter'],
  [190, null, 'credentialBroken', 'token expired'],
  [200, null, 'credentialBroken', 'permission'],
  [299, null, 'credentialBroken', 'permission'],
  [368, null, 'failed sender', 'policy block'],
  [80007, null, 'throttled', 'account call limit'],
  [130429, null, 'throttled', 'throughput'],
  [130472, null, 'failed nothing', 'user in experiment'],
  [131000, null, 'retry', 'unknown'],
  [131005, null, 'credentialBroken', 'permission'],
  [131008, null, 'refused', 'parameter missing'],
  [131009, null, 'refused', 'parameter invalid'],
  [131016, null, 'retry', 'unavailable'],
  [131026, null, 'failed nothing', 'undeliverable'],
  [131030, null, 'refused', 'not in the allowed list'],
  [131031, null, 'failed sender', 'account locked'],
  [131042, null, 'failed sender', 'payment problem'],
  [131047, null, 'windowClosed', 'window closed'],
  [131048, null, 'failed sender', 'spam rate limit'],
  [131049, null, 'failed nothing', 'marketing cap'],
  [131050, null, 'failed nothing', 'recipient stopped marketing'],
  [131051, null, 'refused', 'unsupported message type'],
  [131056, null, 'recipientBusy', 'pair rate limit'],
  [131057, null, 'throttled', 'number in maintenance'],
  [132000, null, 'failed template', 'parameter count'],
  [132001, null, 'failed template', 'template missing'],
  [132005, null, 'failed template', 'template text too long'],
  [132007, null, 'failed template', 'template policy'],
  [132012, null, 'failed template', 'parameter format'],
  [132015, null, 'failed template', 'template paused'],
  [132016, null, 'failed template', 'template disabled'],
  [133004, null, 'retry', 'unavailable'],
  [133010, null, 'credentialBroken', 'number not registered'],
  [137000, null, 'refused', 'identity mismatch'],
];

describe.each(whatsapp)('WhatsApp %i/%s is %s: %s', (code, subcode, kind) => {
  test.each(statuses)('with status %i', async (status) => {
    const { http } = network(() => json(status, body(code, subcode)));
    const client = createWhatsApp({ http, url: 'https://whatsapp.example.com' });
    const message = { to: '+4915112345678', text: 'Ciao', outboxId: 'o1' };
    const outcome = await client.sendText(whatsappCredential, message, { nowMs });
    expect('stops' in outcome ? `${outcome.kind} ${outcome.stops}` : outcome.kind).toBe(kind);
    expect(JSON.stringify(outcome)).toContain(`WhatsApp ${code}: `);
  });
});

test('no code stands twice', () => {
  for (const codes of [meta, whatsapp]) {
    expect(new Set(codes.map(([code, subcode]) => `${code}/${subcode}`)).size).toBe(codes.length);
  }
});
