// What happens in the demo, in order. Work in the background is Onecron's own: pg_cron ticks, nothing here helps it.
import { setTimeout as delay } from 'node:timers/promises';
import type postgres from 'postgres';
import type { StackInfo } from '../local/stack.ts';
import {
  closedCampaign,
  type Deed,
  endOf,
  latecomers,
  type Person,
  people,
  slugs,
  type Task,
  tasks,
  tenants,
} from './cast.ts';
import { connectPeople, type Member, recheckSeconds, startDelaySeconds } from './people.ts';
import type { Say } from './print.ts';
import { type Report, report } from './report.ts';
import { connectSocial } from './social.ts';
import { createOnlooker, readScene, type Scene } from './watch.ts';

const appUrl = 'https://play.example';
/** People who act at the same time. */
const crowd = 4;
const lookEveryMs = 200;
/** How long an owner takes to see an alert. */
const ownerTakesMs = 3000;
/** When nothing at all has happened for this long, the demo gives up: with a tick each second, or each minute. */
const patienceSeconds = { second: 60, minute: 200 };

export interface Stage {
  info: StackInfo;
  /** An onlooker's connection to the database. */
  sql: postgres.Sql;
  say: Say;
  signal: AbortSignal;
}

interface Claimed {
  completionId: string;
  task: Task;
  deed: Deed;
}

/** Plays the demo on a running stack, and reports. */
export async function play({ info, sql, say, signal }: Stage): Promise<Report> {
  if (!info.simulators.meta) throw new Error('The demo needs the simulated Meta.');
  const social = connectSocial(info.simulators.meta, info.functions_url, signal);
  const cast = connectPeople(info, signal);
  const broken: string[] = [];

  await Promise.all([social.publish(), social.subscribe()]);
  const schedule = await cast.hurry(appUrl);
  const minutely = schedule === '* * * * *';
  say(
    '',
    `one pg_cron entry ticks for everyone: ${minutely ? 'every minute' : schedule.replace(/^1 seconds/, 'every second')}`,
  );
  if (minutely) say('', "this server's pg_cron knows no seconds, so the demo takes a few minutes", 'yellow');
  say(
    '',
    `settings shortened: claims are looked at after ${startDelaySeconds} s, then every ${recheckSeconds} s`,
    'dim',
  );

  const owners = await Promise.all(slugs.map((slug) => cast.owner(slug)));
  await Promise.all(owners.map((owner, n) => (slugs[n] ? cast.setDeadlines(slugs[n], owner) : undefined)));
  const [, gymOwner, salonOwner] = owners;
  if (!gymOwner || !salonOwner) throw new Error('The cast lacks an owner.');
  const { owner: frank } = tenants.gym;
  const { owner: lakshmi } = tenants.salon;
  const hours = await cast.closeHours(salonOwner);
  say('salon', `${lakshmi} lets "${closedCampaign.name}" write from ${hours.from} to ${hours.until} only`);
  const refusal = await cast.offer(salonOwner, tasks.x);
  if (refusal === undefined) broken.push('A rewarded follow could be offered without an acknowledgement.');
  else say('salon', `"${tasks.x.title}" is refused: ${refusal}`, 'yellow');
  say('salon', `${lakshmi} acknowledges the rule and offers "${tasks.x.title}"`);

  const claimed: Claimed[] = [];
  const onlooker = createOnlooker(say, recheckSeconds);

  // What people do goes on beside each other; who waits for something is woken when it can be seen.
  let busy = 0;
  let failure: unknown;
  const go = (work: Promise<unknown>): void => {
    busy += 1;
    work.then(
      () => {
        busy -= 1;
      },
      (error: unknown) => {
        failure ??= error;
      },
    );
  };
  const waits = new Set<{ test: (scene: Scene) => boolean; wake: () => void }>();
  const until = (test: (scene: Scene) => boolean) =>
    new Promise<void>((wake) => {
      waits.add({ test, wake });
    });

  const take = async (person: Person): Promise<void> => {
    const member = await cast.join(person);
    for (const { task, deed } of person.claims) await claim(person, member, task, deed);
    const [first] = person.claims;
    if (!person.greedy || !first) return;
    const refusal = await cast.claimAgain(member, first.task);
    if (refusal === undefined) broken.push(`${person.name} could claim "${first.task.title}" twice.`);
    else say(first.task.tenant, `${person.name} claims it again and is refused: ${refusal}`, 'yellow');
  };

  const claim = async (person: Person, member: Member, task: Task, deed: Deed): Promise<void> => {
    if (deed === 'name') await social.comment(person, task, 'Count me in!');
    const { completion_id: id, code, action_url: link } = await cast.claim(member, task);
    claimed.push({ completionId: id, task, deed });
    const tell = (what: string) => say(task.tenant, `${person.name} claims "${task.title}" (${what})`);
    const seen = (test: (claim: Scene['claims'][number]) => boolean) =>
      until(({ claims }) => claims.some((each) => each.completionId === id && test(each)));
    const { name } = tenants[task.tenant];

    switch (task.kind) {
      case 'facebook_comment':
      case 'instagram_comment':
        if (deed === 'does') await social.comment(person, task, `Here I am ${code} :)`);
        tell(
          { does: 'commented with the code', name: 'commented', late: 'will comment', never: 'no comment' }[
            deed
          ],
        );
        if (deed !== 'late') return;
        return go(
          (async () => {
            await seen(({ tries }) => tries > 0);
            await social.comment(person, task, 'Sorry, here I am!');
            say(task.tenant, `${person.name} comments at last`);
          })(),
        );
      case 'instagram_photo_tag':
        await social.tag(person, task);
        return tell('published a photo');
      case 'instagram_mention':
        await social.mention(person, task, code);
        return tell(`names the ${name} in a post`);
      case 'instagram_dm_keyword':
        await social.say(person, task, 'Strong!', code);
        return tell(`writes to the ${name}`);
      case 'instagram_follow':
        tell(deed === 'does' ? 'follows' : 'does not follow');
        return go(
          (async () => {
            await seen(({ status }) => status === 'needs_user_action');
            const write = deed === 'does' ? social.followAndSay : social.say;
            await write(person, task, 'Hello!', code);
            say(task.tenant, `${person.name} writes to the ${name} through the link`);
          })(),
        );
      case 'link_visit':
        tell(deed === 'does' ? 'will open the link' : 'does not open the link');
        if (deed === 'does' && link !== undefined)
          say(task.tenant, `${person.name} opens the link and gets to ${await cast.open(link)}`);
        return;
      case 'x_follow':
        return tell(deed === 'does' ? 'follows' : 'does not follow');
    }
  };

  /** The Gym's token is over in the middle of it all; people go on claiming; its owner connects the account again. */
  const breakAndHeal = async (): Promise<void> => {
    const own = ({ claims }: Scene) => claims.filter(({ tenant }) => tenant === 'gym');
    await until((scene) =>
      own(scene).some(({ status, method }) => status === 'verified' && method === 'api'),
    );
    await social.expireToken();
    say('gym', "Instagram ends the Gym's access: its token is refused from now on", 'red');
    for (const person of latecomers) await take(person);
    await until(({ alerts }) => alerts.some(({ tenant, isOpen }) => tenant === 'gym' && isOpen));
    say('gym', 'one alert; the work that needs the token is parked, all other work goes on', 'yellow');
    await delay(ownerTakesMs, undefined, { signal });
    const credential = await cast.metaCredential(gymOwner, 'gym');
    if (credential?.state !== 'expired')
      broken.push(`The Gym's owner reads "${credential?.state}" instead of "expired".`);
    say('gym', `${frank} reads: ${credential?.state}. ${credential?.advice}`, 'yellow');
    await social.issueToken();
    await cast.reconnect(gymOwner);
    say('gym', `${frank} connects the account again; the work goes on`, 'green');
  };

  /** The Salon's owner decides what nothing can prove. */
  const review = async (): Promise<void> => {
    const wanted = people.flatMap((person) =>
      person.claims.filter(({ task }) => task.kind === 'x_follow').map(({ deed }) => ({ person, deed })),
    );
    const waiting = ({ claims }: Scene) =>
      claims.filter(({ kind, status }) => kind === 'x_follow' && status === 'manual_review');
    await until((scene) => waiting(scene).length === wanted.length);
    const found = await cast.reviews(salonOwner, 'salon');
    say('salon', `${lakshmi} finds ${found.length} claims to review`);
    for (const { person, deed } of wanted) {
      const one = found.find(({ display_name }) => display_name === person.name);
      if (!one) {
        broken.push(`${lakshmi} does not find the claim of ${person.name} among the reviews.`);
        continue;
      }
      const reason = deed === 'does' ? undefined : 'This account does not follow us';
      await cast.review(salonOwner, 'salon', one.completion_id, reason);
      say('salon', `${lakshmi} ${reason === undefined ? 'approves' : 'rejects'} the claim of ${person.name}`);
    }
  };

  // Everybody plays while Onecron works; both go on until all has come to its end, or nothing moves any more.
  const queue = [...people];
  for (let n = 0; n < crowd; n++) {
    go(
      (async () => {
        for (let next = queue.shift(); next && failure === undefined; next = queue.shift()) await take(next);
      })(),
    );
  }
  go(breakAndHeal());
  go(review());

  const patience = minutely ? patienceSeconds.minute : patienceSeconds.second;
  let movedAt = performance.now();
  let scene: Scene;
  for (;;) {
    signal.throwIfAborted();
    if (failure !== undefined) throw failure;
    // In this order: what is noted as sent is in the log by then.
    const seen = await readScene(sql);
    scene = { ...seen, entries: await social.log() };
    if (onlooker.tell(scene)) movedAt = performance.now();
    for (const wait of waits) {
      if (!wait.test(scene)) continue;
      waits.delete(wait);
      wait.wake();
      movedAt = performance.now();
    }
    if (busy === 0 && claimed.every((each) => isOver(each, scene))) break;
    if (performance.now() - movedAt > patience * 1000) {
      broken.push(`Nothing happened for ${patience} s, and not everything had come to its end.`);
      break;
    }
    await delay(lookEveryMs, undefined, { signal });
  }

  const [own, foreign] = await Promise.all([
    cast.completionsSeen(gymOwner, 'gym'),
    cast.completionsSeen(gymOwner, 'pizza-shop'),
  ]);
  say('gym', `${frank} sees ${own} claims of the Gym, and ${foreign} of the Pizza Shop`);
  if (own === 0) broken.push("The Gym's owner does not see the Gym's claims.");
  if (foreign !== 0) broken.push(`The Gym's owner sees ${foreign} claims of the Pizza Shop.`);

  const final = await report(sql, scene);
  return { ...final, broken: [...broken, ...final.broken] };
}

/** Whether nothing more is going to happen to a claim for hours. */
function isOver({ completionId, task, deed }: Claimed, { claims }: Scene): boolean {
  const claim = claims.find((each) => each.completionId === completionId);
  if (!claim) return false;
  if (claim.status === 'pending') {
    // A visit is told when it happens; everything else was looked for at least once.
    return endOf(task, deed) === 'pending' && (claim.tries > 0 || task.kind === 'link_visit');
  }
  if (claim.status === 'needs_user_action' || claim.status === 'manual_review') return false;
  return claim.message !== 'queued' || claim.heldUntil !== null;
}
