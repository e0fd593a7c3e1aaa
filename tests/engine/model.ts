/**
 * A model of the wake-up protocol (sql/30_jobs/50_enqueue.sql, put_to_sleep, settle): one lane, its items, and transactions
 * that see what is committed and what they wrote themselves. A step is as much as happens between two moments at which
 * another transaction can come in. Small enough to try every order of the steps.
 */

/** When a sleeping lane wakes by itself. `later`: when an item is due that is not due now. */
export type Wake = 'never' | 'later' | 'soon' | 'now';
export interface Lane {
  awake: boolean;
  wake: Wake;
  reason: 'idle' | 'cap' | null;
}
export type Item = 'ready' | 'later' | 'leased' | 'gone';

/** The rules that can be taken out. With all of them no wake-up is lost. */
export interface Rules {
  /** Who brings work holds the guard shared until its end; who puts a lane to sleep needs it exclusively. */
  guards: boolean;
  /** After it has the guard, the claimer looks again. */
  lookAgain: boolean;
  /** Without the guard the lane sleeps for a second at most, also when it knows of an item that is due later. */
  alwaysSoon: boolean;
  /** In a fixed snapshot, an enqueuer locks the lane's row and is refused (40001) when it has changed. */
  shareLock: boolean;
}
export const allRules: Rules = { guards: true, lookAgain: true, alwaysSoon: true, shareLock: true };

export type Role =
  | { role: 'enqueuer'; item: 'ready' | 'later'; fixed: boolean; end: 'commit' | 'rollback' }
  | { role: 'claimer' }
  | { role: 'closer'; outcome: 'done' | 'retry' };

export interface Beginning {
  lane: Lane;
  items: Item[];
  cap: number;
}

interface Transaction {
  role: Role;
  /** The next step; -1 when it is over. */
  at: number;
  lane: Lane | null;
  items: Record<number, Item>;
  snapshot: { lane: Lane; version: number } | null;
  guarded: boolean;
  empty: boolean;
}

export interface World {
  rules: Rules;
  cap: number;
  lane: Lane;
  /** How often the lane's row was changed: a fixed snapshot notices. */
  version: number;
  items: Item[];
  shared: number[];
  exclusive: number | null;
  laneLock: number | null;
  claimLock: number | null;
  transactions: Transaction[];
}

export function begin(rules: Rules, beginning: Beginning, roles: readonly Role[]): World {
  return {
    rules,
    cap: beginning.cap,
    lane: beginning.lane,
    version: 0,
    // Each enqueuer has a place for its item.
    items: [...beginning.items, ...roles.map((): Item => 'gone')],
    shared: [],
    exclusive: null,
    laneLock: null,
    claimLock: null,
    transactions: roles.map((role) => ({
      role,
      at: 0,
      lane: null,
      items: {},
      snapshot: null,
      guarded: false,
      empty: false,
    })),
  };
}

const seenItems = (world: World, me: Transaction): Item[] =>
  world.items.map((item, n) => me.items[n] ?? item);
const seenLane = (world: World, me: Transaction): Lane => me.lane ?? world.lane;
const isDue = (lane: Lane): boolean => !lane.awake && lane.wake === 'now';

function finish(world: World, index: number, commit: boolean): void {
  const me = transactionOf(world, index);
  if (commit) {
    for (const [n, item] of Object.entries(me.items)) world.items[Number(n)] = item;
    if (me.lane) {
      world.lane = me.lane;
      world.version++;
    }
  }
  // What was written is visible before the locks are gone, as in Postgres.
  world.shared = world.shared.filter((holder) => holder !== index);
  if (world.exclusive === index) world.exclusive = null;
  if (world.laneLock === index) world.laneLock = null;
  if (world.claimLock === index) world.claimLock = null;
  me.at = -1;
}

function transactionOf(world: World, index: number): Transaction {
  const transaction = world.transactions[index];
  if (!transaction) throw new Error(`there is no transaction ${index}`);
  return transaction;
}

/** True when it has the lock now; false when another has it. */
function lock(world: World, which: 'laneLock' | 'claimLock', index: number): boolean {
  if (world[which] !== null && world[which] !== index) return false;
  world[which] = index;
  return true;
}

/** Sets the lane of this transaction to wake now, unless it is awake or sleeps for another reason. False: it must wait. */
function wake(world: World, index: number, alsoAtCap: boolean, how: Wake): boolean {
  const me = transactionOf(world, index);
  const lane = seenLane(world, me);
  const rank: Record<Wake, number> = { now: 0, soon: 1, later: 2, never: 3 };
  if (lane.awake || (lane.reason === 'cap' && !alsoAtCap) || rank[lane.wake] <= rank[how]) return true;
  if (!lock(world, 'laneLock', index)) return false;
  // With the row locked, the newest version counts.
  const newest = seenLane(world, me);
  if (newest.awake || (newest.reason === 'cap' && !alsoAtCap)) return true;
  me.lane = { awake: false, wake: how, reason: 'idle' };
  return true;
}

/** One step of one transaction in a copy of the world; null when it has to wait, or is over. */
export function step(before: World, index: number): World | null {
  if (transactionOf(before, index).at < 0) return null;
  const world = structuredClone(before);
  const me = transactionOf(world, index);
  const moved = { enqueuer: stepEnqueuer, claimer: stepClaimer, closer: stepCloser }[me.role.role](
    world,
    index,
    me,
  );
  return moved ? world : null;
}

function takeGuard(world: World, index: number): boolean {
  if (!world.rules.guards) return true;
  if (world.exclusive !== null && world.exclusive !== index) return false;
  world.shared.push(index);
  return true;
}

function stepEnqueuer(world: World, index: number, me: Transaction): boolean {
  if (me.role.role !== 'enqueuer') return false;
  switch (me.at) {
    case 0:
      if (me.role.fixed) me.snapshot = { lane: world.lane, version: world.version };
      break;
    case 1:
      if (!takeGuard(world, index)) return false;
      break;
    case 2:
      me.items[world.items.length - world.transactions.length + index] = me.role.item;
      break;
    case 3:
      if (me.snapshot) {
        if (world.rules.shareLock) {
          if (world.laneLock !== null && world.laneLock !== index) return false;
          if (me.snapshot.version !== world.version) {
            finish(world, index, false);
            return true;
          }
        }
        // It acts on what it saw at its beginning.
        if (me.snapshot.lane.awake) break;
        if (me.snapshot.version !== world.version) {
          finish(world, index, false);
          return true;
        }
      }
      if (!wake(world, index, false, me.role.item === 'ready' ? 'now' : 'later')) return false;
      break;
    default:
      finish(world, index, me.role.end === 'commit');
      return true;
  }
  me.at++;
  return true;
}

function stepClaimer(world: World, index: number, me: Transaction): boolean {
  switch (me.at) {
    case 0:
      if (!lock(world, 'claimLock', index)) return false;
      break;
    case 1:
      // Due lanes wake; one that is locked is skipped.
      if (isDue(world.lane) && lock(world, 'laneLock', index))
        me.lane = { awake: true, wake: 'never', reason: null };
      break;
    case 2:
      if (!seenLane(world, me).awake || !lock(world, 'laneLock', index)) {
        finish(world, index, true);
        return true;
      }
      break;
    case 3: {
      const items = seenItems(world, me);
      const out = items.filter((item) => item === 'leased').length;
      const ready = items.flatMap((item, n) => (item === 'ready' ? [n] : []));
      for (const n of ready.slice(0, Math.max(0, world.cap - out))) me.items[n] = 'leased';
      // More than a quantum waits, and there is room: the lane stays awake.
      me.empty = ready.length <= world.cap - out || out >= world.cap;
      break;
    }
    case 4:
      if (!me.empty) {
        finish(world, index, true);
        return true;
      }
      me.guarded =
        world.exclusive === null &&
        world.shared.every((holder) => holder === index) &&
        world.claimLock === index;
      if (me.guarded && world.rules.guards) world.exclusive = index;
      break;
    case 5: {
      // The newest that is committed, or what was seen before the guard.
      const items = seenItems(world, me);
      const atCap = items.filter((item) => item === 'leased').length >= world.cap;
      if (world.rules.lookAgain && !atCap && items.includes('ready')) break;
      const known: Wake = !atCap && items.includes('later') ? 'later' : 'never';
      const guarded = me.guarded || !world.rules.guards;
      const soon = !guarded && (known === 'never' || world.rules.alwaysSoon);
      me.lane = { awake: false, wake: soon ? 'soon' : known, reason: atCap ? 'cap' : 'idle' };
      break;
    }
    default:
      finish(world, index, true);
      return true;
  }
  me.at++;
  return true;
}

function stepCloser(world: World, index: number, me: Transaction): boolean {
  if (me.role.role !== 'closer') return false;
  switch (me.at) {
    case 0:
      if (!takeGuard(world, index)) return false;
      break;
    case 1: {
      const n = seenItems(world, me).indexOf('leased');
      if (n < 0) {
        finish(world, index, true);
        return true;
      }
      me.items[n] = me.role.outcome === 'done' ? 'gone' : 'ready';
      break;
    }
    case 2: {
      const lane = seenLane(world, me);
      if (me.role.outcome === 'done' && lane.reason !== 'cap') break;
      if (!wake(world, index, true, 'now')) return false;
      break;
    }
    default:
      finish(world, index, true);
      return true;
  }
  me.at++;
  return true;
}

/** When everything is over: work that can be done now, and a lane that sleeps on it. */
export function isLost(world: World): boolean {
  if (world.transactions.some((transaction) => transaction.at >= 0)) return false;
  const out = world.items.filter((item) => item === 'leased').length;
  const { lane } = world;
  if (lane.awake || lane.wake === 'now' || lane.wake === 'soon') return false;
  if (world.items.includes('ready')) return out < world.cap;
  return world.items.includes('later') && lane.wake === 'never' && out < world.cap;
}

/** Nobody can move and not all are over. */
export function isStuck(world: World): boolean {
  return (
    world.transactions.some((transaction) => transaction.at >= 0) &&
    world.transactions.every((_, index) => step(world, index) === null)
  );
}

export interface Explored {
  states: number;
  ends: number;
  /** The order of steps that leads to each finding, shortest first. */
  lost: number[][];
  stuck: number[][];
}

/** Every order of the steps, breadth first; a state that was reached before is not explored again. */
export function explore(start: World): Explored {
  const seen = new Set([JSON.stringify(start)]);
  const result: Explored = { states: 1, ends: 0, lost: [], stuck: [] };
  let front = [{ world: start, path: [] as number[] }];
  while (front.length > 0) {
    const further: typeof front = [];
    for (const { world, path } of front) {
      const nexts = world.transactions.flatMap((_, index) => {
        const next = step(world, index);
        return next ? [{ world: next, path: [...path, index] }] : [];
      });
      if (nexts.length === 0) {
        result.ends++;
        if (isLost(world)) result.lost.push(path);
        if (isStuck(world)) result.stuck.push(path);
      }
      for (const next of nexts) {
        const key = JSON.stringify(next.world);
        if (seen.has(key)) continue;
        seen.add(key);
        result.states++;
        further.push(next);
      }
    }
    front = further;
  }
  return result;
}
