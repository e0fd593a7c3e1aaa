/** Child processes for the tools: output collected, never a shell, nothing left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout's root folder. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The path of a command that an npm package brings along. */
export const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  /** What the command reads from its standard input; without it the input is empty. */
  input?: string;
  /** Called with each piece of output as it comes, both streams. */
  onOutput?: (text: string) => void;
  /** After this time the command and its children are ended; default 10 minutes. */
  timeoutMs?: number;
}

const running = new Set<ChildProcess>();

/** Ends a command together with everything that it started: each runs in a process group of its own. */
function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has ended already.
  }
}

let watching = false;
function watchForTheEnd(): void {
  if (watching) return;
  watching = true;
  process.on('exit', () => {
    for (const child of running) endGroup(child, 'SIGKILL');
  });
}

let stopping = false;
/** Whether the tool was told to stop: whatever it does in steps begins no new one. */
export const isStopping = (): boolean => stopping;

/** Signals to all commands that run now, and none is started any more; used when the tool itself is told to stop. */
export function stopCommands(signal: NodeJS.Signals = 'SIGTERM'): void {
  stopping = true;
  for (const child of running) endGroup(child, signal);
}

/** Runs a command to its end. A command that fails is a result, not an exception; one that can't be started has code 127. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  if (stopping) return Promise.resolve({ code: 130, stdout: '', stderr: 'not started: told to stop\n' });
  watchForTheEnd();
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    running.add(child);
    let stdout = '';
    let stderr = '';
    const timeoutMs = options.timeoutMs ?? 600_000;
    const timer = setTimeout(() => {
      stderr += `\nstopped after ${timeoutMs / 1000} s\n`;
      endGroup(child, 'SIGKILL');
    }, timeoutMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      options.onOutput?.(text);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      options.onOutput?.(text);
    });
    // A command that ends without reading its input is no error of ours.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    const finish = (code: number) => {
      clearTimeout(timer);
      if (running.delete(child)) resolve({ code, stdout, stderr });
    };
    // What the command started and left running would hold its output open for ever.
    child.on('exit', () => endGroup(child, 'SIGKILL'));
    child.on('error', (error) => {
      stderr += `${error.message}\n`;
      finish(127);
    });
    child.on('close', (code, signal) => finish(code ?? (signal === null ? 1 : 128)));
  });
}

/** The two streams of a finished command as one readable text, without colours and blank edges. */
export function outputOf(result: CommandResult): string {
  const colours = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');
  return [result.stdout, result.stderr]
    .map((text) => text.replace(colours, '').trim())
    .filter((text) => text !== '')
    .join('\n');
}

const quietCli = {
  SUPABASE_TELEMETRY_DISABLED: '1',
  SUPABASE_NO_UPDATE_NOTIFIER: '1',
  SUPABASE_NO_KEYRING: '1',
};

/** The Supabase CLI in this checkout, without telemetry and questions. */
export function supabase(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return runCommand(bin('supabase'), args, { ...options, env: { ...quietCli, ...options.env } });
}

/**
 * How Deno reads the functions from the project's root: the import map, and the packages that npm installed. (With `--config functions/deno.json`
 * it would look for packages in functions/ first, and not find the types that an import of `node:…` needs.)
 */
export const denoProject = [
  '--no-config',
  '--import-map=functions/deno.json',
  '--node-modules-dir=manual',
] as const;
