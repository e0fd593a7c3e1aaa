import postgres from 'postgres';
import { until } from './until.ts';

/** Kills a backend, which makes the whole server crash and recover; answers when it takes connections again. */
export async function crashServer(url: string): Promise<void> {
  const victim = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
  // what was committed is to survive: throw-away clusters write their log with a delay
  await victim`checkpoint`;
  const [{ pid }] = await victim<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const over = victim`select pg_sleep(60)`.catch(() => {});
  process.kill(pid, 'SIGKILL');
  await over;
  await victim.end({ timeout: 0 });
  await until(
    'the server is back',
    async () => {
      const probe = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
      try {
        return (await probe`select 1`).length === 1;
      } catch {
        return false;
      } finally {
        await probe.end({ timeout: 0 });
      }
    },
    20_000,
  );
}
