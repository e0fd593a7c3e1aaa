// What an error may tell. A log gets name, code and message (redacted by the log); an answer over HTTP gets none of it.

/** Fields for a log line about something that was thrown, whatever it was. */
export function describeError(thrown: unknown): { error: string; code?: string } {
  if (!(thrown instanceof Error))
    return { error: `something that is not an Error was thrown (${typeof thrown})` };
  const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
  const error = `${thrown.name}: ${thrown.message}`;
  return code === undefined ? { error } : { error, code };
}

/** An error's name only: for rows that a tenant may see. */
export function nameOfError(thrown: unknown): string {
  return thrown instanceof Error ? thrown.name : typeof thrown;
}
