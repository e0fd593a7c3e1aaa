/** The options of a command line, read the same way by every tool. */
import { type ParseArgsConfig, parseArgs } from 'node:util';

const help = { help: { type: 'boolean', short: 'h' } } as const;

/** What `parseArgs` returns for these options, with `--help` besides. */
type Given<T extends ParseArgsConfig> = ReturnType<typeof parseArgs<T>>;

/**
 * Reads the options that `parseArgs` (node:util) knows by `config`. `--help` prints `usage` and ends the process with 0; what cannot
 * be read ends it with 2, one line that says what is wrong, and `usage`.
 */
export function readOptions<const T extends ParseArgsConfig>(usage: string, config: T): Given<T> {
  try {
    const given = parseArgs({ ...config, options: { ...config.options, ...help } });
    if (!(given.values as { help?: boolean }).help) return given as unknown as Given<T>;
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')))
      throw error;
    // The rest of the message explains how a value could begin with a dash.
    process.stderr.write(`${error.message.split('. ')[0]}.\n${usage}\n`);
    process.exit(2);
  }
}
