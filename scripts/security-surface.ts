/**
 * `npm run surface`: writes docs/security-surface.md from the database that the migrations give: who may do what, object by
 * object. With `--check` it only compares, so that nothing becomes reachable without a line that somebody read.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { root } from './dev/command.ts';
import { lineDifference } from './dev/compare.ts';
import { migrationsDatabase } from './dev/databases.ts';
import { main, type Outcome } from './dev/main.ts';
import { readOptions } from './dev/options.ts';
import { openScratch } from './dev/scratch.ts';
import {
  type Relation,
  type Rights,
  type Routine,
  readSurface,
  reasonOf,
  type Surface,
  surfaceRoles,
} from './dev/surface.ts';
import { readConfig } from './local/config.ts';

const usage = 'Usage: npm run surface [-- --check]';

const path = 'docs/security-surface.md';

const code = (text: string): string => `\`${text}\``;
const names = (list: readonly string[]): string => (list.length === 0 ? '–' : list.map(code).join(', '));
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ').trim();

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line), ''];
}

function rightsOf(rights: Rights): string {
  const words = Object.entries(rights)
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([privilege, columns]) => (columns === 'all' ? privilege : `${privilege} (${columns.join(', ')})`));
  return words.join('; ');
}

function relation(each: Relation): string[] {
  const traits = [
    each.partition ? 'partition' : each.kind,
    ...(each.kind.endsWith('view')
      ? [each.invoker ? 'runs as its caller' : '**runs as its owner**']
      : [each.rowSecurity ? 'row-level security' : '**no row-level security**']),
    ...(each.forced ? ['forced for the owner too'] : []),
  ];
  const granted = surfaceRoles.filter((role) => each.rights[role] !== undefined);
  return [
    `### ${each.schema}.${each.name}`,
    '',
    `${traits.join(', ')}. ${each.comment}`.trim(),
    '',
    ...(granted.length === 0 ? ['Nobody but its owner has any right.', ''] : []),
    ...(granted.length === 0
      ? []
      : table(
          ['role', 'may'],
          granted.map((role) => [code(role), rightsOf(each.rights[role] ?? {})]),
        )),
    ...(each.policies.length === 0
      ? []
      : table(
          ['policy', 'for', 'rows that it lets see or change', 'rows that may result'],
          each.policies.map((policy) => [
            code(policy.name),
            `${policy.permissive ? '' : 'restrictive, '}${policy.command} by ${policy.roles.join(', ')}`,
            policy.using === null ? '–' : code(policy.using),
            policy.check === null ? '–' : code(policy.check),
          ]),
        )),
  ];
}

const withoutReason = ({ comment }: Routine): string => comment.replace(/\s*\bDefiner[:,].*$/s, '');

function functionsOf(surface: Surface): string[] {
  const called = surface.routines.filter((each) => each.callers.length > 0);
  const definers = surface.routines.filter((each) => each.definer);
  const inner = surface.routines.filter((each) => each.callers.length === 0 && !each.definer);
  return [
    '## Functions that somebody may call',
    '',
    'A function that is not in this table can be called by its owner only.',
    '',
    ...table(
      ['function', 'callers', 'runs as', 'what it does'],
      called.map((each) => [
        code(each.signature),
        names(each.callers),
        each.definer ? 'owner' : 'caller',
        withoutReason(each),
      ]),
    ),
    '## Functions with their owner’s rights',
    '',
    'Each is a door through row-level security and says why it has to be one.',
    '',
    ...table(
      ['function', 'callers', 'why'],
      definers.map((each) => [
        code(each.signature),
        each.callers.length > 0
          ? names(each.callers)
          : each.kind === 'trigger function'
            ? 'triggers'
            : 'the owner',
        reasonOf(each) ?? '**no reason given**',
      ]),
    ),
    '## Functions of the owner',
    '',
    'Called by the functions above, by triggers and by the tick; no role of the API may call them.',
    '',
    ...inner.map((each) => `- ${code(each.signature)}${each.kind === 'function' ? '' : ` (${each.kind})`}`),
    '',
  ];
}

/** The page. Everything in it comes from the catalog, in an order that does not depend on the run. */
export function renderSurface(surface: Surface, exposed: readonly string[]): string {
  const schemas = [...new Set(surface.relations.map((each) => each.schema))];
  const lines = [
    '# The security surface',
    '',
    'Who may do what in the database, object by object. Written by `npm run surface` from the catalog of a database with all',
    'migrations; `npm run check` compares. Not edited by hand: a new table, view, function, policy or grant shows up here, in the',
    'change that brings it, or the check fails.',
    '',
    '`public` as a role means everybody. `anon` is a request without a session, `authenticated` one of a signed-in user,',
    '`service_role` one with the secret key; `authenticator` is what the Data API logs in as. Owners are left out: migrations run as one.',
    '',
    '## Roles',
    '',
    ...table(
      ['role', 'attributes', 'may become'],
      surface.roles.map((each) => [code(each.name), each.attributes.join(', ') || '–', names(each.memberOf)]),
    ),
    '## Schemas',
    '',
    ...table(
      ['schema', 'in the Data API', 'may look inside', 'may create'],
      surface.schemas.map((each) => [
        code(each.name),
        exposed.includes(each.name) ? 'yes' : 'no',
        names(each.usage),
        names(each.create),
      ]),
    ),
    ...schemas.flatMap((schema) => [
      `## Tables and views in \`${schema}\``,
      '',
      ...surface.relations.filter((each) => each.schema === schema).flatMap(relation),
    ]),
    ...functionsOf(surface),
    '## Sequences',
    '',
    ...table(
      ['sequence', 'rights'],
      surface.sequences.map((each) => [
        code(each.name),
        Object.entries(each.rights)
          .map(([role, rights]) => `${code(role)}: ${rights.join(', ')}`)
          .join('; ') || '–',
      ]),
    ),
    '## Types',
    '',
    ...table(
      ['type', 'kind', 'values', 'usage'],
      surface.types.map((each) => [code(each.name), each.kind, each.values, names(each.usage)]),
    ),
    '## Extensions and publications',
    '',
    ...table(
      ['extension', 'schema'],
      surface.extensions.map((each) => [code(each.name), code(each.schema)]),
    ),
    surface.publications.length === 0
      ? 'There is no publication: no table is sent to Realtime.'
      : surface.publications.map((each) => `- publication ${code(each.name)}: ${each.tables}`).join('\n'),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

/** What no review could accept, whatever the page says. */
function flaws(surface: Surface): string[] {
  return surface.routines
    .filter((each) => each.definer && reasonOf(each) === undefined)
    .map(
      (each) =>
        `${each.signature} runs with its owner's rights; its comment has no "Definer: …" with the reason.`,
    );
}

const render = async (url: string): Promise<{ text: string; surface: Surface }> => {
  const surface = await readSurface(url);
  return { text: renderSurface(surface, readConfig().api.schemas), surface };
};

/** Compares the page with the database at `url`. */
export async function checkSurface(url: string): Promise<Outcome> {
  const { text, surface } = await render(url);
  const present = await readFile(join(root, path), 'utf8').catch(() => '');
  const found = flaws(surface);
  if (text !== present) {
    const lines = lineDifference(present.split('\n'), text.split('\n')).filter((line) => line.length > 2);
    found.push(
      `${path} is not what the database gives (- the page, + the database):`,
      ...lines,
      'Read each line; if it is right: npm run surface',
    );
  }
  if (found.length > 0) return { ok: false, text: found.join('\n') };
  return { ok: true, text: `${path} matches the database.` };
}

if (import.meta.main) {
  await main(async () => {
    const { values } = readOptions(usage, { options: { check: { type: 'boolean', default: false } } });
    await using scratch = await openScratch();
    const url = await migrationsDatabase(scratch);
    if (values.check) return await checkSurface(url);
    const { text, surface } = await render(url);
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
    return { ok: true, text: [`Wrote ${path}`, ...flaws(surface)].join('\n') };
  });
}
