import { afterAll, beforeAll } from 'vitest';
import {
  type LogEntry,
  type ProviderName,
  type SimulatorOptions,
  type Simulators,
  startSimulators,
} from '../../scripts/simulators/index.ts';

/** What an answer says; null when it is not JSON, and the test looks at `text` then. */
function parse(text: string) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export async function call(url: string, init: RequestInit = {}) {
  const response = await fetch(url, { redirect: 'manual', ...init });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parse(text) };
}

export type Reply = Awaited<ReturnType<typeof call>>;

export const as = (token: string): RequestInit => ({ headers: { authorization: `Bearer ${token}` } });

export function post(
  url: string,
  token: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  return call(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

export interface Bench {
  simulators: Simulators;
  url(name: ProviderName): string;
  world(name: ProviderName, change: unknown): Promise<Reply>;
  script(name: ProviderName, script: unknown): Promise<Reply>;
  log(name: ProviderName): Promise<LogEntry[]>;
}

/** Simulators of their own for one test file. */
export function useSimulators(options: SimulatorOptions = {}): Bench {
  let simulators: Simulators;
  beforeAll(async () => {
    simulators = await startSimulators(options);
  });
  afterAll(() => simulators.stop());
  const url = (name: ProviderName) => simulators.urls[name];
  const send = (address: string, body: unknown) =>
    call(address, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) });
  return {
    get simulators() {
      return simulators;
    },
    url,
    async world(name, change) {
      const reply = await send(`${url(name)}/_world`, change);
      if (reply.status !== 200) throw new Error(reply.text);
      return reply;
    },
    script: (name, script) => send(`${url(name)}/_script`, script),
    async log(name) {
      const reply = await call(`${url(name)}/_log`);
      return reply.json.entries;
    },
  };
}
