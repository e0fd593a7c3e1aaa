/** What every bench is, and the arithmetic that they share. */

export interface BenchOptions {
  quick: boolean;
  log: (line: string) => void;
}

export interface BenchResult {
  rows: Record<string, string | number>[];
  /** What --json prints. */
  numbers: Record<string, string | number | boolean | null>;
  /** The bounds that the numbers are to keep. */
  reach: Record<string, { atLeast?: number; atMost?: number }>;
  notes: string[];
}

export type Bench = (options: BenchOptions) => Promise<BenchResult>;

/** The value below which `share` of the values lie. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Jain's index: 1 when all got the same, 1/n when one got everything. */
export function jain(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? 1 : sum ** 2 / (values.length * squares);
}

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits));

export const thousands = (value: number): string => Math.round(value).toLocaleString('en-US');
