// What Meta's two APIs here (Instagram and Pages, WhatsApp Cloud) share: the error body and how a code is looked up.
import { z } from 'zod';
import { parseJson } from '../http.ts';

export const graphVersion = 'v26.0';

const graphErrorSchema = z.object({
  error: z.looseObject({
    message: z.string().optional(),
    code: z.number(),
    error_subcode: z.number().nullish(),
    error_data: z.looseObject({ details: z.string().optional() }).nullish(),
  }),
});

export interface GraphError {
  code: number;
  subcode: number | null;
  message: string;
}

/** The Graph error in a body, or null. Decisions are made on code and subcode, never on text or HTTP status. */
export function graphErrorIn(text: string): GraphError | null {
  const parsed = graphErrorSchema.safeParse(parseJson(text));
  if (!parsed.success) return null;
  const { error } = parsed.data;
  return {
    code: error.code,
    subcode: error.error_subcode ?? null,
    message: error.error_data?.details ?? error.message ?? '',
  };
}

/** One row of a provider's table: for a code, or a range of codes, optionally narrowed by the subcode. */
export interface CodeRow<Class extends string> {
  code: number | readonly [from: number, to: number];
  subcode?: number;
  class: Class;
  /** In words for the person who has to do something. */
  says: string;
  /** How long to leave it alone, where the provider does not say. */
  seconds?: number;
}

/** The row for an error: an exact code before a range, the same subcode before none. */
export function rowFor<Row extends CodeRow<string>>(
  table: readonly Row[],
  error: GraphError,
): Row | undefined {
  const exact = table.filter((row) => row.code === error.code);
  const within = ({ code }: Row) =>
    typeof code !== 'number' && error.code >= code[0] && error.code <= code[1];
  return (
    exact.find((row) => row.subcode === error.subcode) ??
    exact.find((row) => row.subcode === undefined) ??
    table.find(within)
  );
}

/** "Meta 190/460: the password was changed … (their text)". */
export function describeGraphError(who: string, error: GraphError, says: string, theirText: string): string {
  const code = error.subcode === null ? `${error.code}` : `${error.code}/${error.subcode}`;
  return theirText === '' ? `${who} ${code}: ${says}` : `${who} ${code}: ${says} (${theirText})`;
}
