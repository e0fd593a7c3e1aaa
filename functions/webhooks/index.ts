import { readEnv } from '../_shared/env.ts';
import { createLog } from '../_shared/log.ts';
import { type Deno as DenoRuntime, refuseAll } from '../_shared/runtime.ts';
import { connectEngine } from '../_shared/wiring.ts';
import { createWebhooks } from './handler.ts';
import { createIntake } from './intake.ts';

declare const Deno: DenoRuntime;

const config = readEnv((name) => Deno.env.get(name));

if (config.ok) {
  const { supabaseUrl, secretKey, cronSecrets } = config.env;
  const log = createLog({
    write: (line) => console.log(line),
    now: () => Date.now(),
    secrets: [secretKey, ...cronSecrets],
    fields: { function: 'webhooks' },
  });
  const intake = createIntake({ rpc: connectEngine(supabaseUrl, secretKey) });
  Deno.serve(createWebhooks({ intake, log, publicUrl: `${supabaseUrl}/functions/v1/webhooks` }));
} else {
  Deno.serve(refuseAll('webhooks', config.problems));
}
