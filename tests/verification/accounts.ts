// Whose account it is: a code that comes back links the account it came from, whether Meta told of it or the worker had to look,
// and at the platform's number for the one business whose code it is.
import { describe, expect, test } from 'vitest';
import { ok } from '../api/support.ts';
import {
  arrive,
  type Business,
  claim,
  ended,
  join,
  meta,
  open,
  openTask,
  type Person,
  platformNumber,
  type Scene,
  until,
  whatsapp,
} from './scene.ts';

const accountsOf = async (business: Business, person: Person) => {
  const columns = 'platform, external_id, username, linked_by';
  const rows = person.api
    .from('linked_accounts')
    .select(columns)
    .eq('tenant_id', business.id)
    .order('platform');
  return ok(await rows) as Record<string, unknown>[];
};

export function accounts(given: () => Scene): void {
  describe.concurrent('an account is linked', () => {
    /** Comments with claims' codes and nothing else under the posts; then a deed that only a linked account can prove. */
    async function run(scene: Scene, slug: string, webhooks: boolean) {
      const business = await open(scene, slug, { meta: 'facebook_login', webhooks });
      const person = await arrive(scene, slug);
      await join(business, person);
      const { igPost, pagePost, page } = business;
      const claims = await Promise.all(
        (
          [
            ['instagram_comment', igPost, { id: person.igsid, username: person.username }],
            ['facebook_comment', pagePost, { id: person.psid, name: person.name }],
          ] as const
        ).map(async ([kind, post_id, from]) => {
          const made = await claim(business, person, await openTask(business, { kind, post_id }));
          await meta(scene, { comments: [{ post_id, text: `Mine: ${made.code}`, from }] });
          return await ended(scene, person, made, 'verified');
        }),
      );
      await until(
        () => accountsOf(business, person),
        (are) => expect(are).toHaveLength(2),
      );
      // Nobody's code stands in a reaction.
      await meta(scene, {
        accounts: [{ id: page, kind: 'page', tenant: slug, name: slug, reactions: 'list' }],
        reactions: [{ post_id: pagePost, from: { id: person.psid, name: person.name } }],
      });
      const task = await openTask(business, { kind: 'facebook_reaction', post_id: pagePost });
      await ended(scene, person, await claim(business, person, task), 'verified');
      const [told] = await scene.admin`
        select count(*)::int as n from private.webhook_events where tenant_id = ${business.id}`;
      return { person, told: told?.n as number, linked: await accountsOf(business, person), claims };
    }

    test('by a comment with a claim’s code, the only one there is, told or read', async () => {
      const scene = given();
      const [told, read] = await Promise.all([run(scene, 'hearing', true), run(scene, 'looking', false)]);
      for (const { person, linked, claims } of [told, read]) {
        expect(linked).toEqual([
          { platform: 'facebook', external_id: person.psid, username: null, linked_by: 'claim code' },
          {
            platform: 'instagram',
            external_id: person.igsid,
            username: person.username,
            linked_by: 'claim code',
          },
        ]);
        expect(claims.map(({ status }) => status)).toEqual(['verified', 'verified']);
      }
      expect(told.told).toBeGreaterThan(0);
      expect(read.told).toBe(0);
    });

    test('by a link code at the platform’s WhatsApp number, at the business that gave it and at no other', async () => {
      const scene = given();
      const [mine, theirs] = await Promise.all([
        open(scene, 'numberless', {}),
        open(scene, 'numberless-too', {}),
      ]);
      const person = await arrive(scene, 'writer');
      const thief = await arrive(scene, 'thief');
      for (const business of [mine, theirs]) for (const who of [person, thief]) await join(business, who);
      const start = async (business: Business, who: Person) =>
        ok(await who.api.rpc('start_linking', { tenant_id: business.id, platform: 'whatsapp' })) as {
          code: string;
          link: string | null;
        };
      const write = (who: Person, text: string) =>
        whatsapp(scene, { inbound: [{ phone_number_id: platformNumber, from: who.waId, text }] });
      const { code, link } = await start(mine, person);
      const others = await start(theirs, person);
      expect(link).toBe(`https://wa.me/4930${platformNumber.slice(-6)}?text=${code}`);
      expect(others.code).not.toBe(code);
      await write(thief, 'Hello, OC-00000000');
      await write(person, `Hello, ${code}`);
      const account = {
        platform: 'whatsapp',
        external_id: person.waId,
        username: null,
        linked_by: 'link code',
      };
      await until(
        () => accountsOf(mine, person),
        (are) => expect(are).toEqual([account]),
      );
      // The code again, from another number; then their own code: what came before it has been worked off by then.
      await write(thief, code);
      expect(await accountsOf(theirs, person)).toEqual([]);
      await write(person, others.code);
      await until(
        () => accountsOf(theirs, person),
        (are) => expect(are).toEqual([account]),
      );
      const waiting = async () => {
        const [row] = await scene.admin`
          select count(*)::int as n from private.webhook_events where processed_at is null`;
        return row?.n;
      };
      await until(waiting, (n) => expect(n).toBe(0));
      expect(await accountsOf(mine, person)).toEqual([account]);
      for (const business of [mine, theirs]) expect(await accountsOf(business, thief)).toEqual([]);
    });
  });
}
