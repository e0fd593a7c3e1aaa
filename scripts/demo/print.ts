// What the terminal shows: one compact line per event, and a table.
import { styleText } from 'node:util';
import { tenants } from './cast.ts';

type Tone = 'green' | 'red' | 'yellow' | 'cyan' | 'dim' | 'bold';
/** Says one event, of a tenant (by slug) or, with an empty name, of the platform. */
export type Say = (tenant: string, text: string, tone?: Tone) => void;

export interface Printer {
  say: Say;
  /** A line as it is. */
  line(text: string, tone?: Tone): void;
}

/** Colours only where the stream is a terminal and nobody asked for none (NO_COLOR). */
export function createPrinter(stream: NodeJS.WriteStream): Printer {
  const paint = (text: string, tone: Tone | undefined) =>
    tone === undefined ? text : styleText(tone, text, { stream });
  const names: Record<string, string> = Object.fromEntries(
    Object.entries(tenants).map(([slug, { name }]) => [slug, name]),
  );
  const line = (text: string, tone?: Tone) => void stream.write(`${paint(text, tone)}\n`);
  return {
    line,
    say(tenant, text, tone) {
      const seconds = (performance.now() / 1000).toFixed(1).padStart(6);
      const name = (names[tenant] ?? 'Platform').padEnd(11);
      stream.write(`${paint(seconds, 'dim')}  ${name} ${paint(text, tone)}\n`);
    },
  };
}

/** Columns as wide as their widest cell; those named in `right` end at the same place. */
export function table(rows: readonly (readonly string[])[], right: readonly number[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}
