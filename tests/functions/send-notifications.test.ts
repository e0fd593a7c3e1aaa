import { describe, expect, test } from 'vitest';
import { EngineError } from '../../functions/_shared/engine.ts';
import type { ProviderOutcome } from '../../functions/_shared/outcome.ts';
import type { MessageSender, Sent } from '../../functions/_shared/providers/messages.ts';
import { createSendNotifications } from '../../functions/worker/jobs/send-notifications.ts';
import { item, jobContext, nowMs, waapiCredential, whatsappCredential, work } from './fakes.ts';

const data = (changes: Record<string, unknown> = {}) => ({
  outbox_id: 'o1',
  to: '+4915112345678',
  text: 'Congratulations',
  send_before: null,
  ...changes,
});
const items = (count: number, changes: Record<string, unknown> = {}) =>
  Array.from({ length: count }, (_, index) =>
    item(index + 1, data({ outbox_id: `o${index + 1}`, ...changes })),
  );

function sender(answer: (outboxId: string) => ProviderOutcome<Sent> | Promise<ProviderOutcome<Sent>>) {
  const sent: string[] = [];
  const fake: MessageSender = {
    async sendText(_credential, message) {
      sent.push(message.outboxId);
      return await answer(message.outboxId);
    },
  };
  return {
    sent,
    job: createSendNotifications({ senders: { whatsapp_cloud: fake, waapi: fake }, concurrency: 2 }),
  };
}
const ok = (outboxId: string): ProviderOutcome<Sent> => ({
  kind: 'ok',
  value: { messageId: `wamid.${outboxId}` },
});

describe('send-notifications', () => {
  test('a message that the provider accepted is done, with the provider’s id', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext();
    await job(work(items(3), whatsappCredential), context);
    expect(sent).toEqual(['o1', 'o2', 'o3']);
    expect(context.outcomes[2]).toEqual({
      item_id: 3,
      outcome: 'done',
      result: { status: 'sent', provider_message_id: 'wamid.o3' },
    });
  });

  test('a send is begun in the database before it begins, in groups no larger than the concurrency', async () => {
    const order: string[] = [];
    const { job } = sender((outboxId) => {
      order.push(`send ${outboxId}`);
      return ok(outboxId);
    });
    const context = jobContext({
      beginEffects: async (ids) => {
        order.push(`begin ${ids.join('+')}`);
        return [...ids];
      },
    });
    await job(work(items(5), whatsappCredential), context);
    expect(order).toEqual([
      'begin 1+2',
      'send o1',
      'send o2',
      'begin 3+4',
      'send o3',
      'send o4',
      'begin 5',
      'send o5',
    ]);
  });

  test('ids that the engine does not give back are not sent, and not a word is said about them', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext({ beginEffects: async (ids) => ids.filter((id) => id !== 2) });
    await job(work(items(3), waapiCredential), context);
    expect(sent).toEqual(['o1', 'o3']);
    expect(context.outcomes.map((outcome) => outcome.item_id)).toEqual([1, 3]);
  });

  test('an id that was never asked for is not sent even when the engine names it', async () => {
    const { job, sent } = sender(ok);
    await job(work(items(1), waapiCredential), jobContext({ beginEffects: async () => [1, 99] }));
    expect(sent).toEqual(['o1']);
  });

  test('when begin_effects fails nothing is sent', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext({
      beginEffects: () => Promise.reject(new EngineError('begin_effects', 'connection', true, 'gone')),
    });
    await expect(job(work(items(3), waapiCredential), context)).rejects.toBeInstanceOf(EngineError);
    expect(sent).toEqual([]);
    expect(context.outcomes).toEqual([]);
  });

  test('an ambiguous send is done as unknown, so that nobody repeats it', async () => {
    const { job } = sender(() => ({ kind: 'unknown', reason: 'did not answer in time' }));
    const context = jobContext();
    await job(work(items(1), waapiCredential), context);
    expect(context.outcomes).toEqual([
      { item_id: 1, outcome: 'done', result: { status: 'unknown', reason: 'did not answer in time' } },
    ]);
  });

  test('a client that throws leaves an unknown, not a retry', async () => {
    const { job } = sender(() => {
      throw new Error('bug');
    });
    const context = jobContext();
    await job(work(items(1), waapiCredential), context);
    expect(context.outcomes).toMatchObject([{ outcome: 'done', result: { status: 'unknown' } }]);
  });

  test('refused and retry concern one message, the others go on', async () => {
    const answers: Record<string, ProviderOutcome<Sent>> = {
      o1: { kind: 'refused', error: 'no' },
      o2: { kind: 'retry', error: 'later', afterSeconds: 60 },
    };
    const { job } = sender((outboxId) => answers[outboxId] ?? ok(outboxId));
    const context = jobContext();
    await job(work(items(3), waapiCredential), context);
    expect(context.outcomes).toMatchObject([
      { item_id: 1, outcome: 'refused', error: 'no' },
      { item_id: 2, outcome: 'retry', error: 'later', after_seconds: 60 },
      { item_id: 3, outcome: 'done' },
    ]);
  });

  test.each([
    [
      { kind: 'throttled', seconds: 30, error: 'slow' } as const,
      { outcome: 'throttled', seconds: 30, error: 'slow' },
    ],
    [{ kind: 'credentialBroken', error: 'token' } as const, { outcome: 'credential_broken', error: 'token' }],
  ])('%j stops the tenant: the rest is not begun and burns no attempt', async (answer, expected) => {
    const { job, sent } = sender((outboxId) => (outboxId === 'o1' ? answer : ok(outboxId)));
    const begun: number[] = [];
    const context = jobContext({
      beginEffects: async (ids) => {
        begun.push(...ids);
        return [...ids];
      },
    });
    await job(work(items(5), waapiCredential), context);
    expect(sent).toEqual(['o1', 'o2']);
    expect(begun).toEqual([1, 2]);
    expect(
      context.outcomes.filter((outcome) => outcome.outcome === expected.outcome).map((o) => o.item_id),
    ).toEqual([1, 3, 4, 5]);
    expect(context.outcomes).toContainEqual({ item_id: 5, ...expected });
  });

  test('after send_before by the database’s clock nothing is begun or sent', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext({ beginEffects: () => Promise.reject(new Error('must not be called')) });
    const late = new Date(nowMs).toISOString();
    await job(work(items(2, { send_before: late }), waapiCredential), context);
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([
      { item_id: 1, outcome: 'snooze', seconds: 60 },
      { item_id: 2, outcome: 'snooze', seconds: 60 },
    ]);
    const inTime = jobContext();
    await job(work(items(1, { send_before: new Date(nowMs + 1).toISOString() }), waapiCredential), inTime);
    expect(inTime.outcomes).toMatchObject([{ outcome: 'done' }]);
  });

  test('a begin_effects that took too long does not send after the hours', async () => {
    const { job, sent } = sender(ok);
    let now = nowMs;
    const context = jobContext({
      now: () => new Date(now),
      beginEffects: async (ids) => {
        now += 10_000;
        return [...ids];
      },
    });
    await job(
      work(items(1, { send_before: new Date(nowMs + 5_000).toISOString() }), waapiCredential),
      context,
    );
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([{ outcome: 'snooze', seconds: 60 }]);
  });

  test('a lost lease stops everything without a word', async () => {
    let lost = false;
    const { job, sent } = sender((outboxId) => {
      lost = true;
      return ok(outboxId);
    });
    const context = jobContext({ leaseIsLost: () => lost });
    await job(work(items(5), waapiCredential), context);
    expect(sent).toEqual(['o1', 'o2']);
    expect(context.outcomes.map((outcome) => outcome.item_id)).toEqual([1, 2]);
  });

  test('when the time is up the rest goes back without an attempt', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext({ timeIsUp: () => true });
    await job(work(items(2), waapiCredential), context);
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([{ outcome: 'snooze' }, { outcome: 'snooze' }]);
  });

  test.each([
    ['a number without plus', { to: '4915112345678' }],
    ['a number that starts with zero', { to: '+0151123456' }],
    ['a number that is too long', { to: '+1234567890123456' }],
    ['letters', { to: '+49abc1234567' }],
    ['no text', { text: ' ' }],
    ['4,097 characters', { text: '😀'.repeat(4097) }],
    ['no outbox id', { outbox_id: '' }],
    ['a send_before that is no time', { send_before: 'soon' }],
  ])('%s is refused before anything is begun', async (_name, changes) => {
    const { job, sent } = sender(ok);
    const context = jobContext({ beginEffects: () => Promise.reject(new Error('must not be called')) });
    await job(work(items(1, changes), waapiCredential), context);
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([{ outcome: 'refused' }]);
  });

  test('4,096 characters are sent', async () => {
    const { job, sent } = sender(ok);
    await job(work(items(1, { text: '😀'.repeat(4096) }), waapiCredential), jobContext());
    expect(sent).toEqual(['o1']);
  });

  test('a credential that went away after the claim burns no attempt and parks nobody', async () => {
    const { job, sent } = sender(ok);
    const context = jobContext();
    await job(work(items(2), null), context);
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([{ outcome: 'snooze' }, { outcome: 'snooze' }]);
  });

  test.each([
    ['an unknown kind', { ...waapiCredential, kind: 'pigeon' }],
    ['a kind that is a property of every object', { ...waapiCredential, kind: 'constructor' }],
  ])('%s parks the lane', async (_name, credential) => {
    const { job, sent } = sender(ok);
    const context = jobContext();
    await job(work(items(2), credential), context);
    expect(sent).toEqual([]);
    expect(context.outcomes).toMatchObject([
      { outcome: 'credential_broken' },
      { outcome: 'credential_broken' },
    ]);
  });
});
