// The worker: a signed doorbell in, 202 out, and a drain in the background.
import { z } from 'zod';
import { answer, isJsonType, methodNotAllowed, parseBody, readBody, refuse } from '../_shared/answer.ts';
import type { Drain } from '../_shared/drain.ts';
import type { Engine } from '../_shared/engine.ts';
import { describeError } from '../_shared/errors.ts';
import type { Log } from '../_shared/log.ts';
import { signatureHeader, verify } from '../_shared/signature.ts';

export interface WorkerOptions {
  engine: Engine;
  drain: Drain;
  /** The current cron secret, then the previous one during a rotation. */
  secrets: readonly string[];
  now: () => number;
  /** Keeps the instance alive until the promise settles. */
  keepAlive: (work: Promise<unknown>) => void;
  log: Log;
}

const doorbell = z.strictObject({ ticket: z.uuid() });
const largestDoorbell = 1_024;

export function createWorker(options: WorkerOptions): (request: Request) => Promise<Response> {
  const { log } = options;

  async function ring(request: Request): Promise<Response> {
    if (request.method !== 'POST') return methodNotAllowed('POST');
    const header = request.headers.get(signatureHeader);
    if (header === null) return unsigned();
    const body = await readBody(request, largestDoorbell);
    if (!body.ok) return body.response;

    // The signature first: nothing else of an unsigned request is looked at.
    const nowSeconds = Math.trunc(options.now() / 1000);
    const checked = await verify({ header, body: body.text, secrets: options.secrets, nowSeconds });
    if (!checked.valid) {
      log.warn('doorbell refused', { why: checked.reason });
      return unsigned();
    }
    if (checked.secretIndex > 0) log.warn('doorbell signed with the previous secret');
    if (!isJsonType(request.headers.get('content-type'))) {
      return refuse(415, 'wrong_content_type', 'Send the body as application/json.');
    }
    const json = parseBody(body.text);
    if (!json.ok) return json.response;
    const parsed = doorbell.safeParse(json.value);
    if (!parsed.success)
      return refuse(400, 'invalid_doorbell', 'Send {"ticket": "<uuid>"} and nothing else.');

    let answered: Awaited<ReturnType<Engine['answerDoorbell']>>;
    try {
      answered = await options.engine.answerDoorbell(parsed.data.ticket);
    } catch (thrown) {
      log.error('answer_doorbell failed', describeError(thrown));
      return refuse(503, 'database_unavailable', 'The database did not answer. The next tick rings again.');
    }
    if (answered === null) {
      return answer(200, { message: 'This doorbell was answered before, or is too old. Nothing to do.' });
    }
    const { drainId, job, runId } = answered;
    options.keepAlive(
      options
        .drain({ drainId, job, runId })
        .catch((thrown) => log.error('drain crashed', describeError(thrown))),
    );
    return answer(202, { message: 'Draining.', drain_id: drainId, job });
  }

  return async (request) => {
    try {
      return await ring(request);
    } catch (thrown) {
      log.error('request failed', describeError(thrown));
      return refuse(500, 'internal', 'Something went wrong here. The next tick rings again.');
    }
  };
}

function unsigned(): Response {
  return refuse(
    401,
    'invalid_signature',
    `Sign the request: ${signatureHeader}: t=<unix>,v1=<hex hmac of t.body>.`,
  );
}
