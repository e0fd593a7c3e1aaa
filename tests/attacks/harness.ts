/**
 * What an attack is, and how it is judged. An attack passes when it was repelled and
 *   - the rightful caller succeeded with the same (a denial without this control proves nothing),
 *   - the victim's rows are what they were,
 *   - nothing that it was answered holds a text of the victim or a secret of anybody.
 */
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { Actor, ActorName, World } from './world.ts';

export interface Attack {
  /** The number in the list of attacks (docs/attacks.md); a letter tells several of one line apart. */
  number: string;
  title: string;
  /** Absent: the attack does not apply here, `because` says why. */
  run?: (trial: Trial) => Promise<void>;
  because?: string;
  /** It calls the Edge Functions. */
  needsFunctions?: boolean;
}

export interface Group {
  letter: string;
  title: string;
  attacks: Attack[];
}

export const attack = (number: string, title: string, run: (trial: Trial) => Promise<void>): Attack => ({
  number,
  title,
  run,
});

export const functionAttack = (
  number: string,
  title: string,
  run: (trial: Trial) => Promise<void>,
): Attack => ({ number, title, run, needsFunctions: true });

export const noAttack = (number: string, title: string, because: string): Attack => ({
  number,
  title,
  because,
});

export interface Answer {
  status: number;
  headers: Record<string, string>;
  text: string;
  /** The body as JSON, undefined when it is none. */
  json: unknown;
}

export interface SqlAnswer {
  rows: Record<string, unknown>[];
  /** The SQLSTATE, undefined when it worked. */
  code: string | undefined;
  message: string;
}

export interface Call {
  headers?: Record<string, string>;
  /** Sent as JSON, or as it is when it is a string. */
  body?: unknown;
  /** Words that the attacker sends along: an answer that repeats them gives nothing away. */
  knows?: string[];
}

export const isDone = (answer: Answer): boolean => answer.status >= 200 && answer.status < 300;

/**
 * Answers that are no fault of ours: the local Data API stumbles (`SUP`) over what PostgREST refuses with 400, joins by one
 * column where the key has two (21000), and says 500 where a view cannot be written to (55000), as PostgREST does.
 */
const stumbles = ['SUP', '21000', '55000'];

/** The server failed over a request: nobody's mistake but its own. */
export const isFailure = (answer: Answer): boolean =>
  answer.status >= 500 && !stumbles.includes(codeOf(answer));

/** The rows of an answer; none when it is an error. */
export function rowsOf(answer: Answer): Record<string, unknown>[] {
  if (!isDone(answer)) return [];
  const rows = Array.isArray(answer.json) ? answer.json : [answer.json];
  return rows.filter((row) => typeof row === 'object' && row !== null);
}

/** The SQLSTATE or code of an error answer. */
export function codeOf(answer: Answer): string {
  const { json } = answer;
  return typeof json === 'object' && json !== null && 'code' in json ? String(json.code) : '';
}

const short = (text: string): string => (text.length > 160 ? `${text.slice(0, 160)}…` : text);
export const inWords = (answer: Answer): string => `${answer.status} ${short(answer.text)}`;

/** Headers that differ from answer to answer without telling anything. */
const idleHeaders = new Set(['date', 'connection', 'keep-alive', 'transfer-encoding', 'content-location']);

export class Trial {
  readonly findings: string[] = [];
  controls = 0;
  requests = 0;
  readonly world: World;
  #outputs: { actor: Actor | undefined; where: string; text: string }[] = [];

  constructor(world: World) {
    this.world = world;
  }

  get ids(): World['scene']['ids'] {
    return this.world.scene.ids;
  }

  /** A request to the Data API. The path begins after /rest/v1. */
  rest(actor: ActorName, method: string, path: string, call: Call = {}): Promise<Answer> {
    return this.http(actor, method, `${this.world.server.apiUrl}/rest/v1${path}`, call);
  }

  rpc(actor: ActorName, name: string, args: unknown, call: Call = {}): Promise<Answer> {
    return this.rest(actor, 'POST', `/rpc/${name}`, { ...call, body: args });
  }

  /** A request to anything, with the keys of an actor. */
  async http(actor: ActorName, method: string, url: string, call: Call = {}): Promise<Answer> {
    const who = this.world.actor(actor);
    const headers: Record<string, string> = { ...who.headers };
    if (call.body !== undefined) headers['content-type'] = 'application/json';
    for (const [name, value] of Object.entries(call.headers ?? {})) {
      if (value === '') delete headers[name];
      else headers[name] = value;
    }
    const body = typeof call.body === 'string' ? call.body : JSON.stringify(call.body);
    const response = await fetch(url, {
      method,
      headers,
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
      ...(call.body === undefined ? {} : { body }),
    });
    const text = await response.text();
    return this.#note(who, `${method} ${url}`, response.status, response.headers, text, call.knows ?? []);
  }

  #note(
    actor: Actor,
    where: string,
    status: number,
    headers: Headers,
    text: string,
    knows: readonly string[],
  ): Answer {
    this.requests += 1;
    const plain = Object.fromEntries(headers);
    // Content-Location repeats the request: nothing that the attacker did not say.
    const { 'content-location': _, ...telling } = plain;
    let seen = `${text}\n${JSON.stringify(telling)}`;
    for (const word of knows) seen = seen.replaceAll(word, '');
    this.#outputs.push({ actor, where, text: seen });
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status, headers: plain, text, json };
  }

  /** supabase-js as the actor would have it in a browser; what it is answered is looked at like everything else. */
  client(actor: ActorName): SupabaseClient {
    const who = this.world.actor(actor);
    const { apikey = 'none' } = who.headers;
    return createClient(this.world.server.apiUrl, apikey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      ...(who.token === undefined ? {} : { accessToken: async () => who.token ?? null }),
      global: {
        fetch: async (input, init) => {
          const response = await fetch(input, init);
          const text = await response.clone().text();
          this.#note(who, `supabase-js ${String(input)}`, response.status, response.headers, text, []);
          return response;
        },
      },
    });
  }

  /** A statement in a session like those of the Data API: logged in as `authenticator`, with the actor's role and claims. */
  async sql(actor: ActorName, query: string, claims?: Record<string, unknown>): Promise<SqlAnswer> {
    const who = this.world.actor(actor);
    const answer = await this.world.asActor(who, query, claims);
    this.requests += 1;
    this.#outputs.push({
      actor: who,
      where: query,
      text: `${JSON.stringify(answer.rows)}\n${answer.message}`,
    });
    return answer;
  }

  /** Text from elsewhere (a log, a table) that nobody but the victim may read. */
  output(where: string, text: string): void {
    this.#outputs.push({ actor: undefined, where, text });
  }

  /** Something that must hold; `finding` says what the attacker got when it does not. */
  expect(holds: boolean, finding: string): void {
    if (!holds) this.findings.push(finding);
  }

  /** The answer is a refusal. A server error is none. */
  refused(answer: Answer, what: string): void {
    this.expect(answer.status >= 400 && !isFailure(answer), `${what}: ${inWords(answer)}`);
  }

  /** The statement was refused. */
  refusedSql(answer: SqlAnswer, what: string, ...codes: string[]): void {
    const expected = codes.length === 0 ? ['42501'] : codes;
    this.expect(
      answer.code !== undefined && expected.includes(answer.code),
      `${what}: ${answer.code ?? `${answer.rows.length} rows ${short(JSON.stringify(answer.rows))}`} ${answer.message}`,
    );
  }

  /** No row of the victim in the answer, and no server error either. */
  nothingOfB(answer: Answer, what: string): void {
    const { b } = this.ids;
    const stolen = rowsOf(answer).filter((row) => row.tenant_id === b.tenant || row.id === b.tenant);
    this.expect(stolen.length === 0, `${what}: ${stolen.length} rows of the victim`);
    this.expect(!isFailure(answer), `${what}: ${inWords(answer)}`);
  }

  /**
   * The rightful caller does the same and succeeds. What it changes in the victim's rows is its right, and what it is
   * answered may hold the victim's texts (never a secret).
   */
  async control(what: string, run: () => Promise<boolean>): Promise<void> {
    this.controls += 1;
    await this.#untouched(`before the control "${what}"`);
    const succeeded = await run();
    this.expect(succeeded, `the control failed: ${what}`);
    await this.world.takeBaseline();
  }

  /** An answer about something that exists, one about something that does not: they must be the same but for the ids sent. */
  alike(
    what: string,
    one: { answer: Answer; sent: string[] },
    other: { answer: Answer; sent: string[] },
  ): void {
    const plain = ({ answer, sent }: { answer: Answer; sent: string[] }) => {
      const headers = Object.entries(answer.headers).filter(([name]) => !idleHeaders.has(name));
      let body = answer.text;
      sent.forEach((word, index) => {
        if (word !== '') body = body.replaceAll(word, `<${index}>`);
      });
      return `${answer.status}\n${JSON.stringify(headers.sort())}\n${body}`;
    };
    const [first, second] = [plain(one), plain(other)];
    const at = [...first].findIndex((letter, index) => letter !== second[index]);
    const around = (text: string) => text.slice(Math.max(0, at - 60), at + 100).replaceAll('\n', ' ');
    this.expect(first === second, `${what}: an oracle: …${around(first)}… or …${around(second)}…`);
  }

  async #untouched(when: string): Promise<void> {
    const changed = await this.world.changesOfB();
    this.expect(changed.length === 0, `the victim's rows changed (${when}): ${changed.join(', ')}`);
    if (changed.length > 0) await this.world.takeBaseline();
  }

  /** Judges what is left to judge when the attack is over. */
  async close(): Promise<void> {
    await this.#untouched('at the end');
    this.expect(this.controls > 0, 'no control: the attack proves nothing');
    for (const { actor, where, text } of this.#outputs) {
      const found = this.world.canariesIn(text, actor);
      this.expect(found.length === 0, `${short(where)} gave away ${found.join(', ')}`);
    }
  }
}

export interface Result {
  group: string;
  attack: Attack;
  outcome: 'passed' | 'failed' | 'not applicable' | 'left out';
  findings: string[];
  requests: number;
  ms: number;
}

export interface RunOptions {
  /** Called after each attack. */
  onResult?: (result: Result) => void;
  /** Ends at the first attack that succeeds. */
  stopAtFirst?: boolean;
  /** Only these numbers. */
  only?: readonly string[];
}

/** Runs the attacks one after the other: each must find the victim's rows as it will be judged by them. */
export async function runAttacks(
  world: World,
  groups: readonly Group[],
  options: RunOptions = {},
): Promise<Result[]> {
  const results: Result[] = [];
  for (const group of groups) {
    for (const each of group.attacks) {
      if (options.only && !options.only.includes(each.number)) continue;
      const result = await runOne(world, group, each);
      results.push(result);
      options.onResult?.(result);
      if (options.stopAtFirst && result.outcome === 'failed') return results;
    }
  }
  return results;
}

async function runOne(world: World, group: Group, each: Attack): Promise<Result> {
  const startedAt = performance.now();
  const result = (outcome: Result['outcome'], findings: string[] = [], requests = 0): Result => ({
    group: group.letter,
    attack: each,
    outcome,
    findings,
    requests,
    ms: performance.now() - startedAt,
  });
  if (each.run === undefined) return result('not applicable', [each.because ?? '']);
  if (each.needsFunctions && world.server.functionsUrl === undefined) return result('left out');
  const trial = new Trial(world);
  try {
    await world.takeBaseline();
    await each.run(trial);
    await trial.close();
  } catch (error) {
    trial.findings.push(
      `the attack could not be carried out: ${error instanceof Error ? (error.stack ?? error.message) : error}`,
    );
  }
  return result(trial.findings.length === 0 ? 'passed' : 'failed', trial.findings, trial.requests);
}
