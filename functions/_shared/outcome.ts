// The two languages of results: what a provider's client tells a job, and what a job tells the engine.

/** Of one tenant's account at the provider, and not of all that use the same credential. */
interface LimitScope {
  scope?: 'account';
}

/** Calls should pause: the usage of the provider's limit is near the end. */
export interface ThrottleHint extends LimitScope {
  seconds: number;
  reason: string;
}

/** What a provider's client answers. A job never sees a status code. */
export type ProviderOutcome<T> =
  | { kind: 'ok'; value: T; hint?: ThrottleHint }
  /** The provider's rate limit is reached for this credential, or for the account. */
  | ({ kind: 'throttled'; seconds: number; error: string } & LimitScope)
  /** Nothing works until somebody renews or repairs the credential. */
  | { kind: 'credentialBroken'; error: string }
  /** This request will never succeed. Nothing was carried out. */
  | { kind: 'refused'; error: string }
  /** The provider may or may not have carried it out. */
  | { kind: 'unknown'; reason: string }
  /** Not carried out; the same request may succeed later. */
  | { kind: 'retry'; error: string; afterSeconds?: number };

export type Failure = Exclude<ProviderOutcome<never>, { kind: 'ok' }>;

/**
 * What a job answers for one item: the argument of `jobs.close_batch`. `cost`, in the job's unit, is the drain's to measure.
 * With a `hint` whatever needs the same credential (or account) waits, however this item ended.
 */
export type ItemOutcome = { item_id: number; cost?: number; hint?: ThrottleHint } & (
  | { outcome: 'done'; result: Record<string, unknown> }
  | { outcome: 'retry'; error: string; after_seconds?: number }
  | { outcome: 'refused'; error: string }
  | { outcome: 'snooze'; seconds: number; reason: string }
  | ({ outcome: 'throttled'; seconds: number; error: string } & LimitScope)
  | { outcome: 'credential_broken'; error: string }
);

/** Its owner's to repair. `issues` name the parts that are missing or wrong; without any part it could not be read at all. */
export function brokenCredential(
  title: string,
  credential: { secret: Record<string, unknown> },
  issues: readonly { path: readonly PropertyKey[] }[],
): Extract<Failure, { kind: 'credentialBroken' }> {
  const error =
    Object.keys(credential.secret).length === 0
      ? `The secret of the ${title} credential cannot be read: set it again.`
      : `The ${title} credential is incomplete: check ${issues.map((issue) => issue.path.join('.')).join(', ')}.`;
  return { kind: 'credentialBroken', error };
}

const longestError = 500;

/** Cuts by code points, so that no half of a surrogate pair reaches the database, which refuses it. */
export function cut(text: string, length = longestError): string {
  const characters = Array.from(text);
  return characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : text;
}

/** The engine's outcome for a provider's failure that concerns the lane or the credential, not this item's content. */
export function outcomeOf(
  itemId: number,
  failure: Extract<Failure, { kind: 'throttled' | 'credentialBroken' | 'retry' }>,
): ItemOutcome {
  const error = cut(failure.error);
  switch (failure.kind) {
    case 'throttled': {
      const { seconds, scope } = failure;
      return { item_id: itemId, outcome: 'throttled', seconds, error, ...(scope && { scope }) };
    }
    case 'credentialBroken':
      return { item_id: itemId, outcome: 'credential_broken', error };
    case 'retry':
      return failure.afterSeconds === undefined
        ? { item_id: itemId, outcome: 'retry', error }
        : { item_id: itemId, outcome: 'retry', error, after_seconds: failure.afterSeconds };
  }
}
