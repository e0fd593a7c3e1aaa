import { readEnv } from '../_shared/env.ts';
import { createKeepAlive, type Deno as DenoRuntime, endOfInstance, refuseAll } from '../_shared/runtime.ts';
import { assemble } from '../_shared/wiring.ts';
import { createWorker } from './handler.ts';

declare const Deno: DenoRuntime;

const config = readEnv((name) => Deno.env.get(name));

if (config.ok) {
  const keepAlive = createKeepAlive();
  const parts = assemble(config.env, { functionName: 'worker', keepAlive, stop: endOfInstance() });
  Deno.serve(createWorker({ ...parts, secrets: config.env.cronSecrets, keepAlive }));
} else {
  Deno.serve(refuseAll('worker', config.problems));
}
