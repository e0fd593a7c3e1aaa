import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Database, startDatabase } from '../../scripts/local/database.ts';
import { runSqlTests, type SqlTestResult, statements } from '../../scripts/test-sql.ts';

describe('splitting SQL into statements', () => {
  const split = (text: string) => [...statements(text)].map((statement) => statement.sql);

  it.each([
    ['select 1; select 2', ['select 1', 'select 2']],
    [`select ';', "a;b"; select 2;`, [`select ';', "a;b"`, 'select 2']],
    [`select 'it''s;'; select e'a\\';b'; select 3`, [`select 'it''s;'`, `select e'a\\';b'`, 'select 3']],
    ['do $$ begin; end $$; select $x$ ;$$; $x$;', ['do $$ begin; end $$', 'select $x$ ;$$; $x$']],
    ['-- a;\nselect /* ; /* ; */ ; */ 1;\n-- last;', ['select /* ; /* ; */ ; */ 1']],
    ['select $1; select a$b$c; select 2', ['select $1', 'select a$b$c', 'select 2']],
    [
      'create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3',
      [
        'create function f() returns int begin atomic select case when true then 1 end; select 2; end',
        'select 3',
      ],
    ],
    ['begin; select case 1 when 1 then 2 end; end; ', ['begin', 'select case 1 when 1 then 2 end', 'end']],
  ])('%s', (text, expected) => {
    expect(split(text)).toEqual(expected);
  });

  it('tells the line where a statement begins', () => {
    expect([...statements('select 1;\n\n-- note\nselect\n2;')].map((statement) => statement.line)).toEqual([
      1, 4,
    ]);
  });
});

describe('running pgTAP files', () => {
  let database: Database;
  let folder: string;
  const log: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'onecron-test-sql-'));
    database = await startDatabase();
  });
  afterAll(async () => {
    await database?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function run(...texts: string[]): Promise<SqlTestResult> {
    const files = await Promise.all(
      texts.map(async (text, index) => {
        const file = join(folder, `${index}.test.sql`);
        await writeFile(file, text);
        return file;
      }),
    );
    return runSqlTests({ url: database.adminUrl, files, log: (line) => log.push(line) });
  }

  it('passing, failing, skipped and expected failures are told apart', async () => {
    const result = await run(`
      select plan(5);
      select pass('one');
      select is(1, 2, 'one is two');
      select skip('not today', 1);
      select todo_start('later');
      select fail('not yet');
      select todo_end();
      select ok(true);
      select * from finish();`);
    expect(result).toMatchObject({ passed: 3, failed: 1, skipped: 1 });
    expect(result.failures).toMatchObject([{ test: 'one is two' }]);
    expect(result.failures[0]?.details).toMatch(/have: 1\s+want: 2/);
  });

  it('a file that dies is a failure, and what passed before counts', async () => {
    const result = await run(`select plan(2);\nselect pass('one');\nselect 1 / 0;\nselect pass('two');`);
    expect(result).toMatchObject({ passed: 1, failed: 1, failures: [{ test: 'died' }] });
    expect(result.failures[0]?.details).toContain('line 3: ERROR 22012: division by zero');
  });

  it('too few tests, too many tests and no plan are failures', async () => {
    const result = await run(
      `select plan(2); select pass('a');`,
      `select plan(1); select pass('a'); select pass('b');`,
      'select 1;',
    );
    expect(result).toMatchObject({ passed: 3, failed: 3 });
    expect(result.failures.map((failure) => failure.test)).toEqual(['plan', 'plan', 'plan']);
  });

  it('a file that cannot be read is a failure', async () => {
    const result = await runSqlTests({
      url: database.adminUrl,
      files: [join(folder, 'none.sql')],
      log: () => {},
    });
    expect(result).toMatchObject({ passed: 0, failed: 1, failures: [{ test: 'died' }] });
  });

  it('files see nothing of each other, even when they say commit', async () => {
    const leaves = `begin; select no_plan(); create table public.left_behind (); select pass('made'); select * from finish(); commit;`;
    const result = await run(leaves, leaves);
    expect(result).toMatchObject({ passed: 2, failed: 0 });
  });

  it('a file may become another role, and pgTAP goes on', async () => {
    const result = await run(`
      begin; select plan(1); set local role authenticated;
      select is(current_user::text, 'authenticated', 'who'); select * from finish(); rollback;`);
    expect(result).toMatchObject({ passed: 1, failed: 0 });
  });
});
