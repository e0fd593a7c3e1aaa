// The social network that the demo plays: posts of the tenants, what people do about them, and what becomes of a token,
// put into the simulated Meta through its control path. And the simulators' log, the outside truth about what Onecron did.
import { z } from 'zod';
import type { WebhookInput } from '../simulators/webhooks.ts';
import { demo, type MetaWorldInput } from '../simulators/world.ts';
import { type Slug, type Task, tasks } from './cast.ts';

/** What the demo reads of an entry of `GET /_log` (scripts/simulators/log.ts). */
const entrySchema = z.object({
  seq: z.number(),
  provider: z.string(),
  tenant: z.string().nullable(),
  about: z.object({
    object_id: z.string().nullish(),
    target_tenant: z.string().nullish(),
    to: z.string().nullish(),
    text: z.string().nullish(),
  }),
  answer: z
    .object({
      effects: z.array(
        z.object({ kind: z.string(), to: z.string().optional(), delivered: z.boolean().optional() }),
      ),
    })
    .nullable(),
});
export type LogEntry = z.infer<typeof entrySchema>;
const logSchema = z.object({ entries: z.array(entrySchema), dropped_until: z.number() });

/** Somebody on the networks. */
interface Somebody {
  name: string;
  phone: string;
}

/** How a person is known there: the user name, the id on Facebook, the id on Instagram. */
export function handles({ name, phone }: Somebody) {
  const facebook = `70000${phone.replace(/\D/g, '')}`;
  return { instagram: `${name.toLowerCase()}.${phone.slice(-2)}`, facebook, instagramId: `8${facebook}` };
}

/** The Instagram accounts of the tenants. */
const accounts = {
  'pizza-shop': { id: demo['pizza-shop'].meta.ig_user_id, username: 'pizza.shop' },
  gym: { id: demo.gym.meta.ig_user_id, username: 'the.gym' },
  salon: { id: demo.salon.meta.ig_user_id, username: 'salon.style' },
} as const satisfies Record<Slug, unknown>;

/** What the Gym's owner connects anew: the same account and app, another token. */
export const renewed = {
  secret: {
    access_token: `${demo.gym.meta.access_token}-renewed`,
    app_secret: demo.gym.app.app_secret,
    verify_token: demo.gym.app.verify_token,
  },
  account: { ig_user_id: accounts.gym.id, username: accounts.gym.username },
} as const;

const gymToken = {
  tenant: 'gym',
  kind: 'instagram' as const,
  accounts: [accounts.gym.id],
  app_id: demo.gym.app.app_id,
};

const strangersPerPost = 120;

/** `metaUrl`: the simulator of Meta. Its log holds what all providers received. */
export function connectSocial(metaUrl: string, functionsUrl: string, signal: AbortSignal) {
  const change = async (world: MetaWorldInput & { webhooks?: WebhookInput[] }) => {
    const response = await fetch(`${metaUrl}/_world`, {
      method: 'POST',
      body: JSON.stringify(world),
      signal,
    });
    if (!response.ok) throw new Error(`The simulated Meta refused a change: ${await response.text()}`);
  };
  const personOf = (somebody: Somebody, follows: string[] = []) => {
    const { instagram, instagramId } = handles(somebody);
    return { igsid: instagramId, username: instagram, follows };
  };
  const write = (from: Somebody, tenant: Slug, text: string, code: string, follows: string[]) =>
    change({
      people: [personOf(from, follows)],
      messages: [{ from: handles(from).instagramId, to: accounts[tenant].id, text, ref: code }],
    });

  return {
    /** The tenants publish; strangers comment, so that a post has more than one page of comments. */
    async publish() {
      const own: Task[] = Object.values(tasks);
      const posts = own.flatMap(({ tenant, title, postId }) =>
        postId === undefined
          ? []
          : [{ id: postId, account_id: pageOf(postId) ?? accounts[tenant].id, caption: title }],
      );
      const strangers = Array.from({ length: strangersPerPost }, (_, n) => n);
      await change({
        posts,
        comments: posts.flatMap((post) =>
          strangers.map((n) => ({
            post_id: post.id,
            text: 'Lovely!',
            from: pageOf(post.id)
              ? { id: `6000${n}`, name: `Stranger ${n}` }
              : { id: `6000${n}`, username: `stranger.${n}` },
          })),
        ),
      });
    },

    /** The tenants' own apps tell Onecron of messages to the Gym and of mentions of the Pizza Shop, signed. */
    subscribe(): Promise<void> {
      const webhook = (tenant: 'pizza-shop' | 'gym', ...fields: string[]) => {
        const { app_secret, verify_token } = demo[tenant].app;
        return { url: `${functionsUrl}/webhooks/meta/${tenant}`, app_secret, verify_token, tenant, fields };
      };
      return change({ webhooks: [webhook('pizza-shop', 'mentions'), webhook('gym', 'messages')] });
    },

    comment(by: Somebody, task: Task, text: string): Promise<void> {
      const { instagram, facebook, instagramId } = handles(by);
      const postId = task.postId ?? '';
      const from = pageOf(postId)
        ? { id: facebook, name: by.name }
        : { id: instagramId, username: instagram };
      return change({ comments: [{ post_id: postId, text, from }] });
    },
    /** Publishes a photo with the tenant tagged in it. */
    tag(by: Somebody, { tenant }: Task): Promise<void> {
      const photo = {
        account_id: handles(by).instagramId,
        caption: 'What a slice!',
        tags: [accounts[tenant].id],
      };
      return change({ people: [personOf(by)], posts: [photo] });
    },
    /** Publishes something that names the tenant. */
    mention(by: Somebody, { tenant }: Task, code: string): Promise<void> {
      const caption = `With love from @${accounts[tenant].username} ${code}`;
      return change({ people: [personOf(by)], posts: [{ account_id: handles(by).instagramId, caption }] });
    },
    /** Opens the chat through the link of the claim, which carries its code, and writes. */
    say: (by: Somebody, { tenant }: Task, text: string, code: string) => write(by, tenant, text, code, []),
    /** The same by somebody who follows the tenant. */
    followAndSay: (by: Somebody, { tenant }: Task, text: string, code: string) =>
      write(by, tenant, text, code, [accounts[tenant].id]),

    /** The Gym's token is over. */
    expireToken: () =>
      change({
        tokens: [{ ...gymToken, token: demo.gym.meta.access_token, broken: { subcode: 463 } }],
      }),
    /** The Gym's owner logs in again, at Instagram. */
    issueToken: () => change({ tokens: [{ ...gymToken, token: renewed.secret.access_token }] }),

    /** Everything that the simulated providers were asked after this entry. */
    async log(since = 0): Promise<LogEntry[]> {
      const response = await fetch(`${metaUrl}/_log?provider=all&since=${since}`, { signal });
      const { entries, dropped_until } = logSchema.parse(await response.json());
      if (dropped_until > since) throw new Error('The simulators dropped entries of their log.');
      return entries;
    },
  };
}
export type Social = ReturnType<typeof connectSocial>;

/** The Page that a post is on; null: it is on Instagram. */
function pageOf(postId: string): string | null {
  const [page, post] = postId.split('_');
  return post === undefined ? null : (page ?? null);
}
