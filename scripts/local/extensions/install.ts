/**
 * Puts the stand-ins where `create extension` looks for them: `<share>/extension` of a Postgres server.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));

const standIns: Record<string, string[]> = {
  pg_cron: ['pg_cron.control', 'pg_cron--1.6.sql'],
  pg_net: ['pg_net.control', 'pg_net--0.20.4.sql'],
  supabase_vault: ['supabase_vault.control', 'supabase_vault--0.3.1.sql'],
};

/** The extensions that can be installed when a server lacks them. */
export const installable: readonly string[] = [...Object.keys(standIns), 'pgtap'];

/**
 * Copies the named extensions into a server's extension directory (`pg_config --sharedir` + `/extension`).
 * Files that are already there with the same content are left alone, so two stacks may share one server directory.
 *
 * @param lacking names that the server does not offer; others of its extensions are not touched
 * @throws when a name is not one of `installable`, or the directory is not writable
 */
export async function installStandIns(shareExtensionDir: string, lacking: string[]): Promise<void> {
  await mkdir(shareExtensionDir, { recursive: true });
  for (const name of lacking) {
    for (const [file, content] of await filesOf(name)) await place(join(shareExtensionDir, file), content);
  }
}

async function filesOf(name: string): Promise<Array<[file: string, content: Buffer]>> {
  if (name === 'pgtap') return pgtapFiles();
  const files = standIns[name];
  if (!files) throw new Error(`no stand-in for extension "${name}"; there are: ${installable.join(', ')}`);
  return Promise.all(
    files.map(async (file): Promise<[string, Buffer]> => [file, await readFile(join(here, file))]),
  );
}

/** pgTAP is plain SQL: the package made for PGlite works in any server. */
async function pgtapFiles(): Promise<Array<[file: string, content: Buffer]>> {
  const entry = fileURLToPath(import.meta.resolve('@electric-sql/pglite-pgtap'));
  const archive = gunzipSync(await readFile(join(dirname(entry), 'pgtap.tar.gz')));
  const wanted = /^share\/postgresql\/extension\/(pgtap\.control|pgtap--\d[\d.]*\.sql)$/;
  return [...untar(archive)].flatMap(([path, content]): Array<[string, Buffer]> => {
    const file = wanted.exec(path)?.[1];
    return file ? [[file, content]] : [];
  });
}

/** Regular files of a ustar archive: 512-byte headers, each followed by its content padded to 512 bytes. */
function* untar(archive: Buffer): Generator<[path: string, content: Buffer]> {
  const text = (from: number, length: number) =>
    archive
      .subarray(from, from + length)
      .toString('utf8')
      .replace(/\0.*$/s, '');
  let at = 0;
  while (at + 512 <= archive.length && archive[at] !== 0) {
    const size = Number.parseInt(text(at + 124, 12).trim() || '0', 8);
    const type = text(at + 156, 1);
    const prefix = text(at + 345, 155);
    const path = (prefix ? `${prefix}/` : '') + text(at, 100);
    if (type === '' || type === '0')
      yield [path.replace(/^\.\//, ''), archive.subarray(at + 512, at + 512 + size)];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

async function place(path: string, content: Buffer): Promise<void> {
  const present = await readFile(path).catch(() => null);
  if (present?.equals(content)) return;
  const draft = `${path}.${process.pid}.tmp`;
  await writeFile(draft, content, { mode: 0o644 });
  await rename(draft, path);
}
