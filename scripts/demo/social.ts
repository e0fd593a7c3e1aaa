// The social network that the demo plays: posts of the tenants and what people write under them, put into the simulated
// Meta through its control path. And the simulators' log, the outside truth about what Onecron did.
import { z } from 'zod';
import type { MetaWorldInput } from '../simulators/world.ts';
import { type Person, type Task, tasks } from './cast.ts';

/** What the demo reads of an entry of `GET /_log` (scripts/simulators/log.ts). */
const entrySchema = z.object({
  seq: z.number(),
  provider: z.string(),
  tenant: z.string().nullable(),
  about: z.object({
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

export interface Social {
  /** The tenants publish; strangers comment, so that a post has more than one page of comments. */
  publish(): Promise<void>;
  comment(person: Person, task: Task, text: string): Promise<void>;
  /** Everything that the simulated providers were asked after this entry. */
  log(since?: number): Promise<LogEntry[]>;
}

/** How the person is known on the networks. */
export const handles = (person: Person) => ({
  instagram: `${person.name.toLowerCase()}.${person.phone.slice(-2)}`,
  facebook: `70000${person.phone.replace(/\D/g, '')}`,
});

const strangersPerPost = 120;

/** `metaUrl`: the simulator of Meta. Its log holds what all providers received. */
export function connectSocial(metaUrl: string, signal: AbortSignal): Social {
  const change = async (world: MetaWorldInput) => {
    const response = await fetch(`${metaUrl}/_world`, {
      method: 'POST',
      body: JSON.stringify(world),
      signal,
    });
    if (!response.ok) throw new Error(`The simulated Meta refused a change: ${await response.text()}`);
  };
  return {
    async publish() {
      const all: Task[] = Object.values(tasks);
      await change({
        posts: all.map((task) => ({ id: task.postId, account_id: task.accountId, caption: task.title })),
        comments: all.flatMap((task) =>
          Array.from({ length: strangersPerPost }, (_, n) => ({
            post_id: task.postId,
            text: 'Lovely!',
            from:
              task.on === 'instagram'
                ? { id: `6000${n}`, username: `stranger.${n}` }
                : { id: `6000${n}`, name: `Stranger ${n}` },
          })),
        ),
      });
    },
    comment(person, task, text) {
      const { instagram, facebook } = handles(person);
      const from =
        task.on === 'instagram'
          ? { id: `8${facebook}`, username: instagram }
          : { id: facebook, name: person.name };
      return change({ comments: [{ post_id: task.postId, text, from }] });
    },
    async log(since = 0) {
      const response = await fetch(`${metaUrl}/_log?provider=all&since=${since}`, { signal });
      const { entries, dropped_until } = logSchema.parse(await response.json());
      if (dropped_until > since) throw new Error('The simulators dropped entries of their log.');
      return entries;
    },
  };
}
