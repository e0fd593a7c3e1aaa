// Two at once: a proof is used by one claim, and a review is decided by one person, whoever comes through which connection.
import { beforeAll, describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  type Claim,
  claim,
  join,
  look,
  open,
  openTask,
  outbox,
  type Person,
  type Scene,
  spinsOf,
} from './scene.ts';

interface Mine {
  person: Person;
  made: Claim;
}

export function races(given: () => Scene): void {
  describe('two at once', () => {
    let scene: Scene;
    let twins: Business;
    let people: Person[];

    beforeAll(async () => {
      scene = given();
      // Without a credential, so that nobody but the test decides.
      twins = await open(scene, 'twins', {});
      people = await Promise.all(Array.from({ length: 6 }, () => arrive(scene, 'twin')));
      for (const person of people) await join(twins, person);
    }, 60_000);

    const claims = async (task: Record<string, unknown>, count: number): Promise<Mine[]> => {
      const id = await openTask(twins, { platform_credential_allowed: false, ...task });
      const each = people
        .slice(0, count)
        .map(async (person) => ({ person, made: await claim(twins, person, id) }));
      return await Promise.all(each);
    };
    const proof = { verdict: 'verified', evidence: { comment_id: '18000000000000001', author_id: '4711' } };
    const statuses = async (all: Mine[]) =>
      (await Promise.all(all.map(async ({ person, made }) => (await look(person, made)).status))).sort();
    const spins = async (all: Mine[]) =>
      (await Promise.all(all.map(({ person, made }) => spinsOf(person, made)))).flat();

    test.each([
      { end: 'commit', expected: ['manual_review', 'verified'], paid: 1 },
      { end: 'rollback', expected: ['pending', 'verified'], paid: 1 },
    ])(
      'the second waits for the first, and after its $end knows whether the proof is used',
      async ({ end, expected, paid }) => {
        const both = await claims({ kind: 'instagram_comment', post_id: twins.igPost }, 2);
        const connections = [await scene.admin.reserve(), await scene.admin.reserve()] as const;
        try {
          const decide = (n: 0 | 1) => connections[n]`
            select private.apply_verifications(array[
              (${twins.id}, 0, ${both[n]?.made.id ?? ''}, 'done', ${scene.admin.json(proof)}, null, 'tenant')::jobs.ended])`;
          const [second] = await connections[1]`select pg_backend_pid() as pid`;
          for (const one of connections) await one`begin`;
          await decide(0);
          const waiting = decide(1).then(() => connections[1]`commit`);
          const state = async () =>
            (await scene.admin`select wait_event_type from pg_stat_activity where pid = ${second?.pid}`)[0]
              ?.wait_event_type;
          await expect.poll(state, { timeout: 20_000, interval: 20 }).toBe('Lock');
          await connections[0].unsafe(end);
          await waiting;
        } finally {
          for (const one of connections) one.release();
        }
        expect(await statuses(both)).toEqual(expected);
        expect(await spins(both)).toHaveLength(paid);
      },
    );

    test('of six at once exactly one claim is proven by a comment', async () => {
      const all = await claims({ kind: 'instagram_comment', post_id: twins.igPost }, 6);
      await Promise.all(
        all.map(
          ({ made }) => scene.admin`
            select private.apply_verifications(array[
              (${twins.id}, 0, ${made.id}, 'done', ${scene.admin.json(proof)}, null, 'tenant')::jobs.ended])`,
        ),
      );
      expect(await statuses(all)).toEqual([...Array(5).fill('manual_review'), 'verified']);
      expect(await spins(all)).toEqual([3]);
    });

    test('of two reviewers the first counts, and the other is told', async () => {
      const reviewer = await arrive(scene, 'reviewer');
      const { data } = await reviewer.api.auth.getUser();
      const member = { tenant_id: twins.id, user_id: data.user?.id, role: 'member' };
      expect((await scene.service.schema('jobs').rpc('add_member', member)).error).toBeNull();
      const all = await claims({ kind: 'x_repost', post_id: '1' }, 6);
      const outcomes = await Promise.all(
        all.map(async ({ made }) => {
          const args = { tenant_id: twins.id, completion_id: made.id };
          const [approved, rejected] = await Promise.all([
            twins.owner.rpc('approve_completion', args),
            reviewer.api.rpc('reject_completion', { ...args, reason: 'No.' }),
          ]);
          return { codes: [approved.error?.code, rejected.error?.code], approved: !approved.error };
        }),
      );
      for (const { codes } of outcomes) {
        expect(codes.filter((code) => code === undefined)).toHaveLength(1);
        expect(codes.filter((code) => code === 'PT409')).toHaveLength(1);
      }
      for (const [index, { person, made }] of all.entries()) {
        const approved = outcomes[index]?.approved;
        expect((await look(person, made)).status).toBe(approved ? 'verified' : 'failed');
        expect(await spinsOf(person, made)).toEqual(approved ? [3] : []);
        const kinds = (await outbox(twins, made)).map(({ kind }) => kind);
        expect(kinds).toEqual([approved ? 'congratulation' : 'review_result']);
        const decisions = await twins.owner
          .from('completion_decisions')
          .select('to_status')
          .eq('completion_id', made.id)
          .in('to_status', ['verified', 'failed']);
        expect(ok(decisions)).toHaveLength(1);
      }
    });
  });
}
