import { describe, expect, test } from 'vitest';
import { EngineError } from '../../functions/_shared/engine.ts';
import type { MessageSender, SendOutcome } from '../../functions/_shared/providers/messages.ts';
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

function sender(answer: (outboxId: string) => SendOutcome | Promise<SendOutcome>) {
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
const ok = (outboxId: string): SendOutcome => ({
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
      result: { status: 'sent', provider_message_id: 'wamid.o3', as: 'text' },
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
      {
        item_id: 1,
        outcome: 'done',
        result: { status: 'unknown', reason: 'did not answer in time', as: 'text' },
      },
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
    const answers: Record<string, SendOutcome> = {
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
    ['a user id for a gateway', { to: 'US.123456789' }],
    ['callback data that is too long', { callback: 'x'.repeat(513) }],
    ['a template with a name of somewhere else', { template: { name: '../x', language: 'de' } }],
    ['a template without a language', { template: { name: 'x', language: '' } }],
    ['a window that is ajar', { window: 'ajar' }],
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

  describe('the 24-hour window of the Cloud API', () => {
    const template = { name: 'task_approved', language: 'de', parameters: [{ name: 'first', text: 'Ana' }] };
    const closed: SendOutcome = { kind: 'windowClosed', error: 'WhatsApp 131047: closed' };

    /** A sender with templates that writes down what it was asked for. */
    function cloud(answer: (form: string, outboxId: string) => SendOutcome, gateway = false) {
      const calls: string[] = [];
      const answering = async (form: string, outboxId: string) => {
        calls.push(`${form} ${outboxId}`);
        return answer(form, outboxId);
      };
      const fake: MessageSender = {
        sendText: (_credential, message) => answering('text', message.outboxId),
        sendTemplate: (_credential, message) =>
          answering(`${message.template.name}/${message.template.language}`, message.outboxId),
      };
      const { sendText } = fake;
      const senders: Record<string, MessageSender> = gateway
        ? { waapi: { sendText } }
        : { whatsapp_cloud: fake };
      return { calls, job: createSendNotifications({ senders, concurrency: 1 }) };
    }
    const credential = { ...whatsappCredential, source: 'tenant' as const };
    const accept = (_form: string, outboxId: string) => ok(outboxId);

    test.each([
      ['open', { window: 'open' }, ['text o1']],
      [
        'open until later',
        { window: 'open', window_open_until: new Date(nowMs + 1).toISOString() },
        ['text o1'],
      ],
      [
        'open until now',
        { window: 'open', window_open_until: new Date(nowMs).toISOString() },
        ['task_approved/de o1'],
      ],
      ['not known', { window: 'not_known' }, ['text o1']],
      ['not spoken of', {}, ['text o1']],
      ['closed', { window: 'closed' }, ['task_approved/de o1']],
    ])('a window that is %s', async (_name, changes, calls) => {
      const one = cloud(accept);
      const context = jobContext();
      await one.job(work(items(1, { ...changes, template }), credential), context);
      expect(one.calls).toEqual(calls);
      const as = calls[0]?.startsWith('text') ? 'text' : 'template';
      expect(context.outcomes).toMatchObject([{ outcome: 'done', result: { status: 'sent', as } }]);
    });

    test('closed and without a template it is refused before anything is begun', async () => {
      const one = cloud(accept);
      const context = jobContext({ beginEffects: () => Promise.reject(new Error('must not be called')) });
      await one.job(work(items(1, { window: 'closed' }), credential), context);
      expect(one.calls).toEqual([]);
      expect(context.outcomes).toEqual([
        {
          item_id: 1,
          outcome: 'refused',
          error: 'outside the 24-hour window and no approved template for it',
        },
      ]);
    });

    test('a gateway has no windows: always the text', async () => {
      const one = cloud(accept, true);
      const context = jobContext();
      await one.job(work(items(1, { window: 'closed', template }), waapiCredential), context);
      expect(one.calls).toEqual(['text o1']);
      expect(context.outcomes).toMatchObject([{ outcome: 'done', result: { as: 'text' } }]);
    });

    test('131047 as a direct answer: the template goes out in its place, begun once', async () => {
      const one = cloud((form, outboxId) => (form === 'text' ? closed : ok(outboxId)));
      const begun: number[][] = [];
      const context = jobContext({
        beginEffects: async (ids) => {
          begun.push([...ids]);
          return [...ids];
        },
      });
      await one.job(work(items(1, { window: 'not_known', template }), credential), context);
      expect(one.calls).toEqual(['text o1', 'task_approved/de o1']);
      expect(begun).toEqual([[1]]);
      expect(context.outcomes).toMatchObject([
        { outcome: 'done', result: { status: 'sent', as: 'template' } },
      ]);
    });

    test('131047 without a template is refused in words', async () => {
      const one = cloud(() => closed);
      const context = jobContext();
      await one.job(work(items(1), credential), context);
      expect(context.outcomes).toEqual([
        {
          item_id: 1,
          outcome: 'refused',
          error: 'outside the 24-hour window and no approved template for it (WhatsApp 131047: closed)',
        },
      ]);
    });

    test('the template does not follow after send_before', async () => {
      let now = nowMs;
      const one = cloud(() => {
        now += 10_000;
        return closed;
      });
      const context = jobContext({ now: () => new Date(now) });
      const send_before = new Date(nowMs + 5_000).toISOString();
      await one.job(work(items(1, { template, send_before }), credential), context);
      expect(one.calls).toEqual(['text o1']);
      expect(context.outcomes).toMatchObject([{ outcome: 'snooze' }]);
    });

    test('a template that the answer leaves open is unknown as a template', async () => {
      const one = cloud((form) => (form === 'text' ? closed : { kind: 'unknown', reason: 'silence' }));
      const context = jobContext();
      await one.job(work(items(1, { template }), credential), context);
      expect(context.outcomes).toMatchObject([
        { outcome: 'done', result: { status: 'unknown', reason: 'silence', as: 'template' } },
      ]);
    });

    test('a person without a number is reached by the user id', async () => {
      const one = cloud(accept);
      await one.job(work(items(1, { to: 'US.123456789' }), credential), jobContext());
      expect(one.calls).toEqual(['text o1']);
    });

    test('a failure with a code is done, so that SQL can act on the code', async () => {
      const one = cloud(() => ({
        kind: 'failed',
        code: 131026,
        error: 'WhatsApp 131026: no',
        stops: 'nothing',
      }));
      const context = jobContext();
      await one.job(work(items(2), credential), context);
      expect(context.outcomes).toEqual(
        [1, 2].map((id) => ({
          item_id: id,
          outcome: 'done',
          result: { status: 'failed', code: 131026, reason: 'WhatsApp 131026: no', as: 'text' },
        })),
      );
    });

    test('a template that is not fit fails one message; the others with it wait, others go on', async () => {
      const unfit: SendOutcome = {
        kind: 'failed',
        code: 132015,
        error: 'WhatsApp 132015: paused',
        stops: 'template',
      };
      const one = cloud((form, outboxId) => (form.startsWith('task') ? unfit : ok(outboxId)));
      const context = jobContext();
      const list = [1, 2, 3].map((id) =>
        item(id, data({ outbox_id: `o${id}`, window: id === 3 ? 'open' : 'closed', template })),
      );
      await one.job(work(list, credential), context);
      expect(one.calls).toEqual(['task_approved/de o1', 'text o3']);
      expect(context.outcomes).toMatchObject([
        { item_id: 1, outcome: 'done', result: { status: 'failed', code: 132015 } },
        { item_id: 2, outcome: 'snooze', seconds: 60 },
        { item_id: 3, outcome: 'done', result: { status: 'sent' } },
      ]);
    });

    test('an account that is stopped fails one message; the rest is not begun and burns no attempt', async () => {
      const one = cloud(() => ({
        kind: 'failed',
        code: 131031,
        error: 'WhatsApp 131031: locked',
        stops: 'sender',
      }));
      const context = jobContext();
      await one.job(work(items(3), credential), context);
      expect(one.calls).toEqual(['text o1']);
      expect(context.outcomes).toMatchObject([
        { item_id: 1, outcome: 'done', result: { status: 'failed', code: 131031 } },
        { item_id: 2, outcome: 'snooze', reason: expect.stringContaining('131031') },
        { item_id: 3, outcome: 'snooze' },
      ]);
    });

    test.each([
      [1, 6],
      [2, 16],
      [3, 64],
      [6, 3600],
      [40, 3600],
    ])(
      'on the %ith try a recipient who got too much waits 4^X seconds, at least 6 and at most an hour: %i',
      async (attempt, seconds) => {
        const one = cloud(() => ({ kind: 'recipientBusy', error: 'WhatsApp 131056: pair' }));
        const context = jobContext();
        await one.job(work([{ ...item(1, data()), attempt }], credential), context);
        expect(context.outcomes).toMatchObject([{ outcome: 'snooze', seconds }]);
      },
    );

    test('other messages to a busy recipient wait without a call, other recipients don’t', async () => {
      const one = cloud((_form, outboxId) =>
        outboxId === 'o1' ? { kind: 'recipientBusy', error: 'pair' } : ok(outboxId),
      );
      const context = jobContext();
      const to = ['+4915100000001', '+4915100000001', '+4915100000002'];
      const list = to.map((number, index) =>
        item(index + 1, data({ outbox_id: `o${index + 1}`, to: number })),
      );
      await one.job(work(list, credential), context);
      expect(one.calls).toEqual(['text o1', 'text o3']);
      expect(context.outcomes).toMatchObject([
        { item_id: 1, outcome: 'snooze', seconds: 6 },
        { item_id: 2, outcome: 'snooze', seconds: 6 },
        { item_id: 3, outcome: 'done' },
      ]);
    });
  });
});
