import { spawn } from 'node:child_process';
import { Socket } from 'node:net';

/**
 * A small shell that outlives this process by a moment: when this process ends in any way, SIGKILL included, the pipe
 * between the two closes and the shell signals what is still registered. Nothing is left behind.
 */
const program = `
trap '' INT TERM HUP
list=
throwaway=
while read -r action signal what; do
  case $action in
    add) list="$list $signal:$what" ;;
    remove)
      rest=
      for entry in $list; do
        [ "\${entry#*:}" = "$what" ] || rest="$rest $entry"
      done
      list=$rest
      ;;
    discard) throwaway=$what ;;
  esac
done
for entry in $list; do
  kill -"\${entry%%:*}" "\${entry#*:}" 2> /dev/null
done
[ -n "$throwaway" ] || exit 0
for entry in $list; do
  while kill -0 "\${entry#*:}" 2> /dev/null; do sleep 0.1; done
done
rm -rf "$throwaway"
`;

export interface Guard {
  add(pid: number, signal: 'INT' | 'TERM' | 'KILL'): void;
  remove(pid: number): void;
  /** Removes the directory at the end, when nothing registered runs any more. */
  discard(directory: string): void;
  close(): Promise<void>;
}

export function startGuard(): Guard {
  const shell = spawn('/bin/sh', ['-c', program], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  });
  const ended = new Promise<void>((resolve) => {
    shell.once('exit', () => resolve());
    // Without a guard the stack works as well; only a SIGKILL would leave something behind.
    shell.once('error', () => resolve());
  });
  shell.stdin.on('error', () => {});
  shell.unref();
  if (shell.stdin instanceof Socket) shell.stdin.unref();
  return {
    add: (pid, signal) => shell.stdin.write(`add ${signal} ${pid}\n`),
    remove: (pid) => shell.stdin.write(`remove - ${pid}\n`),
    discard: (directory) => shell.stdin.write(`discard - ${directory}\n`),
    close: () => {
      shell.ref();
      shell.stdin.end();
      return ended;
    },
  };
}
