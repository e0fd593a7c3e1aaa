/**
 * Deploying, as far as it goes without the cloud: the real CLI uploads to a management API of ours, and what arrives there must be
 * complete. (A file that the upload misses would only show as a failing function in production.)
 */
import { cp, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { bin, denoProject, outputOf, root, runCommand, supabase } from '../../scripts/dev/command.ts';
import { readConfig } from '../../scripts/local/config.ts';
import { type ManagementApi, startManagementApi } from './management-api.ts';

const project = 'abcdefghijklmnopqrst';
/** Has the form of an access token; nothing but our own server ever sees it. */
const token = `sbp_${'0'.repeat(40)}`;

let work: string;
let api: ManagementApi;

beforeAll(async () => {
  // Deno's answers name real paths; on macOS the temporary folder is behind a link.
  work = await realpath(await mkdtemp(join(tmpdir(), 'onecron-deploy-')));
  api = await startManagementApi();
});
afterAll(async () => {
  await api?.close();
  await rm(work, { recursive: true, force: true });
});

/** Runs `supabase functions deploy` for the project in `folder` against our API. */
async function deploy(folder: string) {
  const profile = join(work, 'profile.yaml');
  const lines = [
    'name: test',
    `api_url: ${api.url}`,
    `dashboard_url: ${api.url}`,
    'project_host: example.test',
  ];
  await writeFile(profile, `${lines.join('\n')}\n`);
  api.uploads.length = 0;
  api.unknown.length = 0;
  return supabase(
    [
      ...['functions', 'deploy', '--use-api', `--remote=${project}`, '--yes'],
      ...['--profile', profile, '--workdir', folder],
    ],
    // A home of its own: the CLI must not find or write anybody's login.
    {
      cwd: folder,
      env: { SUPABASE_ACCESS_TOKEN: token, HOME: work, SUPABASE_HOME: join(work, 'home') },
    },
  );
}

const moduleGraph = z.object({
  modules: z.array(z.object({ specifier: z.string(), error: z.string().optional() })),
});

/** Every file below `folder` that an entrypoint imports, types included, by Deno's own reading. */
async function importedFiles(folder: string, entrypoint: string): Promise<string[]> {
  const result = await runCommand(bin('deno'), ['info', '--json', ...denoProject, entrypoint], {
    cwd: folder,
  });
  if (result.code !== 0) throw new Error(outputOf(result));
  const { modules } = moduleGraph.parse(JSON.parse(result.stdout));
  const broken = modules.filter((module) => module.error !== undefined);
  if (broken.length > 0) throw new Error(broken.map((module) => module.error).join('\n'));
  return modules
    .map(({ specifier }) => specifier)
    .filter((specifier) => specifier.startsWith('file:') && !specifier.includes('/node_modules/'))
    .map((specifier) => relative(folder, new URL(specifier).pathname));
}

/** Lays out the uploaded files, and nothing else of the project, in a new folder. */
async function layOut(files: Map<string, string>): Promise<string> {
  const folder = await mkdtemp(join(work, 'uploaded-'));
  for (const [path, text] of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  // The packages; the platform fetches them by the import map's pinned versions.
  await cp(join(root, 'package.json'), join(folder, 'package.json'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

const check = (folder: string, entrypoint: string) =>
  runCommand(bin('deno'), ['check', '--quiet', ...denoProject, entrypoint], { cwd: folder });

describe('functions deploy', () => {
  const functions = readConfig().functions.map(({ name, entrypoint }) => ({
    name,
    entrypoint: relative(root, entrypoint),
  }));

  it('every function of functions/ is declared in config.toml', async () => {
    const folders = await readdir(join(root, 'functions'), { withFileTypes: true });
    const present = folders
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('_'))
      .map((entry) => entry.name);
    expect(functions.map(({ name }) => name).sort()).toEqual(present.sort());
  });

  it('uploads every function, with the token, and asks for nothing else', async () => {
    const result = await deploy(root);
    expect(outputOf(result)).not.toMatch(/WARN|Skipping/);
    expect(result.code, outputOf(result)).toBe(0);
    expect(api.uploads.map(({ slug }) => slug).sort()).toEqual(functions.map(({ name }) => name).sort());
    expect(api.unknown).toEqual([]);
    expect([...api.tokens]).toEqual([`Bearer ${token}`]);
  });

  it.each(functions)('$name: what is uploaded is exactly what it imports', async ({ name, entrypoint }) => {
    const upload = api.uploads.find(({ slug }) => slug === name);
    const wanted = [...(await importedFiles(root, entrypoint)), 'functions/deno.json'];
    expect([...(upload?.files.keys() ?? [])].sort()).toEqual(wanted.sort());
    expect(upload?.metadata).toEqual({
      entrypoint_path: entrypoint,
      import_map_path: 'functions/deno.json',
      verify_jwt: false,
      ...{ name, static_patterns: [] },
    });
  });

  it.each(functions)('$name: deno check passes on the uploaded files alone', async ({ name, entrypoint }) => {
    const upload = api.uploads.find(({ slug }) => slug === name);
    const folder = await layOut(upload?.files ?? new Map());
    const result = await check(folder, entrypoint);
    expect(result.code, outputOf(result)).toBe(0);
  });

  it('the check does notice a file that is missing', async () => {
    const [first] = api.uploads;
    const files = new Map(first?.files);
    const entrypoint = first?.metadata.entrypoint_path ?? '';
    const left = [...files.keys()].find((path) => path !== entrypoint && path.endsWith('.ts')) ?? '';
    expect(files.delete(left)).toBe(true);
    const result = await check(await layOut(files), entrypoint);
    expect(result.code).not.toBe(0);
    expect(outputOf(result)).toContain(left);
  });

  it('an import from outside of the project is not uploaded, and the CLI warns of it', async () => {
    const outer = await mkdtemp(join(work, 'outer-'));
    const folder = join(outer, 'project');
    await cp(join(root, 'supabase', 'config.toml'), join(folder, 'supabase', 'config.toml'));
    for (const { name, entrypoint } of functions) {
      await mkdir(join(folder, 'functions', name), { recursive: true });
      await writeFile(join(folder, entrypoint), "import '../../../outside.ts';\n");
    }
    await writeFile(join(outer, 'outside.ts'), 'export {};\n');
    await writeFile(join(folder, 'functions', 'deno.json'), '{ "imports": {} }\n');
    const result = await deploy(folder);
    expect(outputOf(result)).toMatch(/Skipping import path outside source root/);
    expect(api.uploads.flatMap(({ files }) => [...files.keys()])).not.toContain('outside.ts');
  });
});
