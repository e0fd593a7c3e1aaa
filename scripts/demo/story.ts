// What happens in the demo, in order. Work in the background is Onecron's own: pg_cron ticks, nothing here helps it.
import { setTimeout as delay } from 'node:timers/promises';
import type postgres from 'postgres';
import type { StackInfo } from '../local/stack.ts';
import { closedCampaign, type Deed, type Person, people, slugs, type Task, tenants } from './cast.ts';
import { connectPeople, type Member, recheckSeconds, startDelaySeconds } from './people.ts';
import type { Say } from './print.ts';
import { type Report, report } from './report.ts';
import { connectSocial, type LogEntry } from './social.ts';
import { type Claim, createOnlooker, readClaims } from './watch.ts';

const appUrl = 'https://play.example';
/** People who act at the same time. */
const crowd = 4;
const lookEveryMs = 200;
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
  person: Person;
  task: Task;
  deed: Deed;
  commented: boolean;
}

/** Plays the demo on a running stack, and reports. */
export async function play({ info, sql, say, signal }: Stage): Promise<Report> {
  if (!info.simulators.meta) throw new Error('The demo needs the simulated Meta.');
  const social = connectSocial(info.simulators.meta, signal);
  const cast = connectPeople(info, signal);
  const broken: string[] = [];

  await social.publish();
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
  const hours = await cast.closeHours(salonOwner);
  say(
    'salon',
    `${tenants.salon.owner} lets "${closedCampaign.name}" write from ${hours.from} to ${hours.until} only`,
  );

  const claimed: Claimed[] = [];
  const onlooker = createOnlooker(say, recheckSeconds);
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
    const { completionId, code } = await cast.claim(member, task);
    if (deed === 'code') await social.comment(person, task, `Here I am ${code} :)`);
    const how = {
      code: 'commented with the code',
      name: 'commented',
      late: 'will comment',
      never: 'no comment',
    };
    say(task.tenant, `${person.name} claims "${task.title}" (${how[deed]})`);
    claimed.push({ completionId, person, task, deed, commented: deed === 'code' || deed === 'name' });
  };

  // Everybody plays while Onecron works; both go on until all has come to its end, or nothing moves any more.
  const waiting = [...people];
  let acting = true;
  let failure: unknown;
  const playing = Promise.all(
    Array.from({ length: crowd }, async () => {
      for (let next = waiting.shift(); next && failure === undefined; next = waiting.shift())
        await take(next);
    }),
  ).then(
    () => {
      acting = false;
    },
    (error: unknown) => {
      failure = error;
    },
  );

  const patience = minutely ? patienceSeconds.minute : patienceSeconds.second;
  let movedAt = performance.now();
  let claims: Claim[] = [];
  let entries: LogEntry[] = [];
  for (;;) {
    signal.throwIfAborted();
    if (failure !== undefined) throw failure;
    // In this order: what is noted as sent is in the log by then.
    claims = await readClaims(sql);
    entries = await social.log();
    if (onlooker.tell(claims, entries)) movedAt = performance.now();
    for (const each of claimed) {
      if (each.deed !== 'late' || each.commented) continue;
      if (!claims.some((row) => row.completionId === each.completionId && row.tries > 0)) continue;
      each.commented = true;
      await social.comment(each.person, each.task, 'Sorry, here I am!');
      say(each.task.tenant, `${each.person.name} comments at last`);
      movedAt = performance.now();
    }
    if (!acting && claimed.every((each) => isOver(each, claims))) break;
    if (performance.now() - movedAt > patience * 1000) {
      broken.push(`Nothing happened for ${patience} s, and not everything had come to its end.`);
      break;
    }
    await Promise.race([delay(lookEveryMs, undefined, { signal }), ...(acting ? [playing] : [])]);
  }

  const [own, foreign] = await Promise.all([
    cast.completionsSeen(gymOwner, 'gym'),
    cast.completionsSeen(gymOwner, 'pizza-shop'),
  ]);
  say('gym', `${tenants.gym.owner} sees ${own} claims of the Gym, and ${foreign} of the Pizza Shop`);
  if (own === 0) broken.push("The Gym's owner does not see the Gym's claims.");
  if (foreign !== 0) broken.push(`The Gym's owner sees ${foreign} claims of the Pizza Shop.`);

  const final = await report(sql, claims, entries);
  return { ...final, broken: [...broken, ...final.broken] };
}

/** Whether nothing more is going to happen to a claim for hours. */
function isOver(claimed: Claimed, claims: readonly Claim[]): boolean {
  const claim = claims.find((each) => each.completionId === claimed.completionId);
  if (!claim) return false;
  if (claim.status === 'pending') {
    return claimed.deed === 'never' && claimed.task.verifyWithinSeconds === undefined && claim.tries > 0;
  }
  return claim.message !== 'queued' || claim.heldUntil !== null;
}
