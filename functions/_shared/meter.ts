// What it takes to serve a tenant, for jobs that are charged by something else than items: provider calls, or time.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Batch } from './engine.ts';
import type { Http } from './http.ts';
import type { ItemOutcome } from './outcome.ts';

export interface Meter {
  /** The same way out; each request counts for the work that makes it. */
  counted(http: Http): Http;
  /** Runs `work`, which is given how to charge outcomes: what was spent since the last ones is shared out among these. */
  charging<T>(
    unit: Batch['cost_unit'],
    work: (charge: (outcomes: readonly ItemOutcome[]) => readonly ItemOutcome[]) => Promise<T>,
  ): Promise<T>;
}

export function createMeter(now: () => number): Meter {
  const current = new AsyncLocalStorage<{ calls: number }>();
  return {
    counted: (http) => (request) => {
      const spent = current.getStore();
      if (spent !== undefined) spent.calls += 1;
      return http(request);
    },
    charging(unit, work) {
      const spent = { calls: 0 };
      let since = now();
      return current.run(spent, () =>
        work((outcomes) => {
          if (unit === 'items' || outcomes.length === 0) return outcomes;
          const used = unit === 'calls' ? spent.calls : Math.max(0, now() - since);
          spent.calls = 0;
          since = now();
          return outcomes.map((outcome) => ({ ...outcome, cost: used / outcomes.length }));
        }),
      );
    },
  };
}
