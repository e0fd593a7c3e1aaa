/** How the tools end: text on the screen, an exit code, and nothing left running when they are told to stop. */
import { isStopping, stopCommands } from './command.ts';
import { SqlFileError } from './compare.ts';

export interface Outcome {
  ok: boolean;
  /** What a person reads. */
  text: string;
}

/** An error that is the user's to put right: shown as it is, without a stack trace. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** The text of an error for a person: only the unexpected ones come with their stack trace. */
export function explain(error: unknown): string {
  if (error instanceof UsageError || error instanceof SqlFileError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Runs a tool and ends the process with its outcome: 0 ok, 1 not, 130 interrupted. */
export async function main(tool: () => Promise<Outcome>): Promise<void> {
  const interrupted = new Promise<never>((_resolve, reject) => {
    // `disconnect`: the launcher (scripts/run.mjs) is gone, however it went.
    for (const event of ['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect']) {
      // Each time: Ctrl-C comes twice, from the terminal and from the launcher, and the second must not cut the cleaning up short.
      process.on(event, () => {
        stopCommands();
        reject(new UsageError(`Stopped (${event}).`));
      });
    }
  });
  // Listening for `disconnect` would keep the process alive after its work.
  process.channel?.unref();
  const running = tool();
  try {
    const outcome = await Promise.race([running, interrupted]);
    process.stdout.write(`${outcome.text}\n`);
    process.exitCode = outcome.ok ? 0 : 1;
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = isStopping() ? 130 : 1;
    // The tool still closes what it opened (its commands have been told to end), then the process goes.
    await running.catch(() => {});
  }
}
