import { readEnv } from '../_shared/env.ts';
import { createKeepAlive, type Deno as DenoRuntime, endOfInstance, refuseAll } from '../_shared/runtime.ts';
import { assemble } from '../_shared/wiring.ts';
import { createJobs, createUnconfiguredJobs } from './handler.ts';

declare const Deno: DenoRuntime;

const config = readEnv((name) => Deno.env.get(name));

if (config.ok) {
  const keepAlive = createKeepAlive();
  const parts = assemble(config.env, { functionName: 'jobs', keepAlive, stop: endOfInstance() });
  Deno.serve(
    createJobs({ ...parts, secrets: config.env.cronSecrets, addressHeader: config.env.addressHeader }),
  );
} else {
  Deno.serve(createUnconfiguredJobs(config.problems, refuseAll('jobs', config.problems), () => Date.now()));
}
