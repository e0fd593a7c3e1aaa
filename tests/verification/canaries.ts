// After everything: no secret of it stands in a log, an answer, a request that waits, or a table outside of the vault.
import { appendFile, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Scene } from './scene.ts';

const found = (scene: Scene, texts: string[]): string[] =>
  scene.secrets.filter((one) => texts.some((text) => text.includes(one)));

/** Names of the tables that hold a secret, in all schemas but the vault's and the database's own. */
async function tablesWithSecrets({ admin, secrets }: Scene): Promise<string[]> {
  const tables = await admin`
    select c.oid::regclass::text as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm') and n.nspname in ('public', 'private', 'jobs', 'net', 'cron', 'auth', 'extensions', 'realtime')
    order by 1`;
  expect(tables.length).toBeGreaterThan(50);
  const patterns = secrets.map((one) => `%${one}%`);
  const hits: string[] = [];
  for (const { name } of tables) {
    const [row] = await admin`
      select exists (select from ${admin.unsafe(String(name))} t where t::text like any (${patterns}::text[])) as is_there`;
    if (row?.is_there) hits.push(String(name));
  }
  return hits;
}

async function logFiles(scene: Scene): Promise<Map<string, string>> {
  await scene.gateway.requests.flush();
  const files = (await readdir(scene.folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /\.(log|jsonl|txt)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
  const paths = [...files, scene.gateway.logFile];
  return new Map(await Promise.all(paths.map(async (path) => [path, await readFile(path, 'utf8')] as const)));
}

export function canaries(given: () => Scene): void {
  describe('secrets', () => {
    test('there are plenty, and all of them were used', () => {
      expect(new Set(given().secrets).size).toBeGreaterThan(50);
    });

    test('none is in what the functions wrote, and one would be seen', () => {
      const scene = given();
      expect(scene.lines.length).toBeGreaterThan(20);
      expect(found(scene, scene.lines)).toEqual([]);
      const [planted = ''] = scene.secrets;
      expect(found(scene, [...scene.lines, `{"error":"${planted}"}`])).toEqual([planted]);
    });

    test('none is in what the API and the functions answered', () => {
      const scene = given();
      expect(scene.answers.length).toBeGreaterThan(500);
      expect(found(scene, scene.answers)).toEqual([]);
      const answer = JSON.stringify({ message: scene.secrets.at(-1) });
      expect(found(scene, [...scene.answers, answer])).toEqual([scene.secrets.at(-1)]);
    });

    test('none is in a log file of the database or the simulators', async () => {
      const scene = given();
      const planted = join(scene.folder, 'planted.log');
      const files = await logFiles(scene);
      expect([...files.keys()].filter((path) => path.endsWith('simulators.jsonl'))).toHaveLength(2);
      for (const [path, text] of files) expect([path, found(scene, [text])]).toEqual([path, []]);
      await appendFile(planted, `a line\nwith ${scene.secrets.at(-1)} in it\n`);
      expect(found(scene, [...(await logFiles(scene)).values()])).toEqual([scene.secrets.at(-1)]);
      await rm(planted);
    });

    test('none is in a table, a request or the history of cron', async () => {
      const scene = given();
      const { admin } = scene;
      // Requests that wait for pg_net carry what the doorbell is rung with: no new ones, and the last one leaves.
      await admin`update cron.job set active = false`;
      const waiting = async () => (await admin`select from net.http_request_queue`).length;
      await expect.poll(waiting, { timeout: 20_000 }).toBe(0);
      expect(await tablesWithSecrets(scene)).toEqual([]);
      const planted = scene.secrets.at(-1) ?? '';
      await admin`insert into private.settings (name, value, meaning) values ('planted', ${planted}, 'A test.')`;
      await admin`update net._http_response set content = ${planted} where id = (select max(id) from net._http_response)`;
      await admin`
        update cron.job_run_details set return_message = ${planted} where runid = (select max(runid) from cron.job_run_details)`;
      expect(await tablesWithSecrets(scene)).toEqual([
        'cron.job_run_details',
        'net._http_response',
        'private.settings',
      ]);
    });
  });
}
