import { describe, expect, test } from 'vitest';
import { endOf, latecomers, people } from '../../scripts/demo/cast.ts';
import { type Facts, reportOf } from '../../scripts/demo/report.ts';
import { handles, type LogEntry } from '../../scripts/demo/social.ts';
import type { Claim, Scene } from '../../scripts/demo/watch.ts';

const facts: Facts = {
  cron_entries: 1,
  lost_items: 0,
  dead_items: 0,
  decided_twice: 0,
  wrong_rewards: 0,
  burnt_attempts: 0,
  sent: 2,
  credentials: ['gym meta', 'pizza-shop meta', 'pizza-shop whatsapp'],
};

const claims: Claim[] = [...people, ...latecomers].flatMap((person) =>
  person.claims.map(({ task, deed }, n) => {
    const status = endOf(task, deed);
    const byPerson = task.kind === 'x_follow';
    return {
      completionId: `${person.name} ${n}`,
      tenant: task.tenant,
      person: person.name,
      phone: person.phone,
      kind: task.kind,
      title: task.title,
      spins: 1,
      status,
      reason: null,
      method: status === 'pending' ? null : byPerson ? 'manual' : 'api',
      source: byPerson ? null : task.tenant === 'salon' ? 'platform' : 'tenant',
      actionUrl: null,
      tries: 0,
      message: status === 'verified' ? 'sent' : null,
      messageReason: null,
      heldUntil: null,
    };
  }),
);

const phoneOf = (name: string) => claims.find(({ person }) => person === name)?.phone ?? '';
const read = (seq: number, tenant: string, about: LogEntry['about']): LogEntry => ({
  seq,
  provider: 'meta',
  tenant,
  about,
  answer: { effects: [] },
});
const sent = (seq: number, provider: string, tenant: string, name: string): LogEntry => ({
  seq,
  provider,
  tenant,
  about: { to: phoneOf(name), text: `Well done, ${name}` },
  answer: { effects: [{ kind: 'message' }] },
});
const ethan = handles({ name: 'Ethan', phone: phoneOf('Ethan') }).instagramId;

const scene: Scene = {
  claims,
  alerts: [{ tenant: 'gym', incident: 'credential meta', isOpen: false, seconds: 3 }],
  entries: [
    read(1, 'pizza-shop', { object_id: '100000000000001_2001', target_tenant: 'pizza-shop' }),
    read(2, 'gym', { object_id: ethan, target_tenant: null }),
    read(3, 'platform', { object_id: '17900000000000301', target_tenant: 'salon' }),
    // The envelope of a batch names nobody; its parts do.
    read(4, 'pizza-shop', {}),
    read(5, 'pizza-shop', { object_id: 'me', target_tenant: null }),
    sent(6, 'waapi', 'pizza-shop', 'Giulia'),
    sent(7, 'whatsapp', 'platform', 'Noah'),
  ],
};

/** The scene with one claim changed. */
const withClaim = (id: string, change: Partial<Claim>): Scene => ({
  ...scene,
  claims: claims.map((claim) => (claim.completionId === id ? { ...claim, ...change } : claim)),
});
const withEntry = (entry: LogEntry): Scene => ({ ...scene, entries: [...scene.entries, entry] });

test('where everything went well nothing is broken, and the report counts it', () => {
  const { result, broken, lines } = reportOf(scene, facts, 20);
  expect(broken).toEqual([]);
  expect(result).toMatchObject({
    cron_entries: 1,
    wrong_credential_uses: 0,
    duplicate_messages: 0,
    lost_items: 0,
    credentials: { broken: 1, healed: 1, burnt_attempts: 0 },
    seconds: 20,
  });
  const [pizza, gym, salon] = result.tenants;
  expect(pizza).toMatchObject({ credential_sources: { tenant: 3, platform: 0 }, messages: { sent: 1 } });
  expect(gym).toMatchObject({ credential_sources: { tenant: 1, platform: 1 }, messages: { sent: 1 } });
  expect(salon).toMatchObject({ credential_sources: { tenant: 0, platform: 1 }, messages: { sent: 0 } });
  for (const row of [...result.tenants, ...result.kinds])
    expect(row.verified + row.failed + row.waiting).toBe(row.claimed);
  expect(lines.join('\n')).toContain('broken credentials: 1, healed: 1; parked for 3.0 s, 0 attempts burnt');
  expect(lines.filter((line) => line.length > 120)).toEqual([]);
});

const alert = { tenant: 'gym', incident: 'credential meta', isOpen: true, seconds: 3 };
const broken: [string, Scene, Partial<Facts>, RegExp][] = [
  ['a second cron entry', scene, { cron_entries: 2 }, /2 pg_cron entries/],
  ['an item that is gone', scene, { lost_items: 1 }, /1 items are lost/],
  ['a dead item', scene, { dead_items: 1 }, /1 items died/],
  ['an item that ended twice', scene, { decided_twice: 1 }, /1 items ended twice/],
  ['a reward too many', scene, { wrong_rewards: 1 }, /1 claims did not earn/],
  ['a message noted and not delivered', scene, { sent: 3 }, /2 messages were delivered, 3/],
  ['an attempt that the credential cost', scene, { burnt_attempts: 1 }, /cost 1 attempts/],
  ['no credential that broke', { ...scene, alerts: [] }, {}, /0 alerts about a credential/],
  ['a second alert', { ...scene, alerts: [...scene.alerts, ...scene.alerts] }, {}, /2 alerts/],
  [
    'a credential that stays broken',
    { ...scene, alerts: [alert] },
    {},
    /1 broken credentials were not healed/,
  ],
  [
    "another tenant's token",
    withEntry(read(8, 'gym', { object_id: '100000000000001_2001', target_tenant: 'pizza-shop' })),
    {},
    /1 requests came with a wrong credential/,
  ],
  [
    "the platform's token in place of the own one",
    withEntry(read(8, 'platform', { object_id: ethan, target_tenant: null })),
    {},
    /1 requests came with a wrong credential/,
  ],
  [
    'a request about nobody',
    withEntry(read(8, 'platform', { object_id: '4711', target_tenant: null })),
    {},
    /1 requests came with a wrong credential/,
  ],
  [
    'a message that arrives twice',
    withEntry(sent(8, 'waapi', 'pizza-shop', 'Giulia')),
    { sent: 3 },
    /1 messages arrived twice/,
  ],
  ['a claim that failed', withClaim('Zoe 0', { status: 'failed' }), {}, /Zoe, .*failed instead of verified/],
  ['a claim that waits for ever', withClaim('Ethan 1', { status: 'needs_user_action' }), {}, /Ethan, /],
  ['a claim that was lost', { ...scene, claims: claims.slice(1) }, {}, /Giulia, .*never claimed/],
  ['a follow that was "proven"', withClaim('Rohan 1', { method: 'webhook' }), {}, /Rohan, .*not by a person/],
  ['a comment that a person decided', withClaim('Zoe 0', { method: 'manual' }), {}, /Zoe, .*by a person/],
  ['a claim without a source', withClaim('Zoe 0', { source: null }), {}, /1 claims do not say whose/],
];

describe('the report notices', () => {
  test.each(broken)('%s', (_, seen, changed, complaint) => {
    const found = reportOf(seen, { ...facts, ...changed }, 20).broken;
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(complaint);
  });
});
