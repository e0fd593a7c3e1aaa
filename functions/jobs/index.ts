import { readEnv } from '../_shared/env.ts';
import { type Deno as DenoRuntime, endOfInstance, refuseAll } from '../_shared/runtime.ts';
import { assemble } from '../_shared/wiring.ts';
import { createJobs, createUnconfiguredJobs } from './handler.ts';

declare const Deno: DenoRuntime;

const config = readEnv((name) => Deno.env.get(name));

if (config.ok) {
  Deno.serve(
    createJobs({ ...assemble(config.env, 'jobs', endOfInstance()), secrets: config.env.cronSecrets }),
  );
} else {
  Deno.serve(createUnconfiguredJobs(config.problems, refuseAll('jobs', config.problems), () => Date.now()));
}
