/**
 * The connection of one run: as the job's user, and with what libpq would report of the command.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { Stream } from 'node:stream';
import postgres from 'postgres';

export interface JobConnection {
  /**
   * Takes on a role with the settings that its login would bring, and answers with the backend's process id.
   *
   * @throws when the role may not log in to this database
   */
  becomeUser(username: string): Promise<number>;
  /**
   * Runs the command with the simple query protocol: several statements are one transaction, and a `call` that stands
   * alone may commit. Answers with what the last statement said: its tag, or how many rows it returned.
   */
  run(command: string): Promise<string | null>;
  /** Closes the connection at once. A statement that runs goes on in the server until it ends. */
  end(): Promise<void>;
}

const noCopy = 'COPY not supported';

export function connectForJob(adminUrl: string, database: string): JobConnection {
  const listener = createListener();
  const sql = postgres(adminUrl, {
    database,
    max: 1,
    prepare: false,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: 10,
    connection: { application_name: 'pg_cron' },
    onnotice: () => {},
    ...listener.option,
  });
  return {
    async becomeUser(username) {
      const [role] = await sql<[{ pid: number; allowed: boolean }?]>`
        select
          pg_backend_pid() as pid,
          r.rolcanlogin and has_database_privilege(r.rolname, current_database(), 'connect') as allowed
        from pg_roles r
        where r.rolname = ${username}`;
      if (!role?.allowed) throw new Error(`role "${username}" may not log in to database "${database}"`);
      await sql`
        select set_config(split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1), false)
        from pg_db_role_setting c
        join pg_roles r on r.oid = c.setrole and r.rolname = ${username}
        left join pg_database d on d.oid = c.setdatabase
        cross join lateral unnest(c.setconfig) as s (setting)
        where c.setdatabase = 0 or d.datname = current_database()
        order by c.setdatabase`;
      await sql.unsafe(`set session authorization "${username.replaceAll('"', '""')}"`).simple();
      return role.pid;
    },
    async run(command) {
      listener.begin();
      const result: unknown = await sql.unsafe(command).simple();
      if (listener.copying()) {
        // the driver answers a COPY with a stream, which fails when the connection is closed
        if (result instanceof Stream) result.on('error', () => {});
        throw new Error(noCopy);
      }
      return listener.last();
    },
    async end() {
      await sql.end({ timeout: 0 }).catch(() => {});
    },
  };
}

/**
 * Overhears the server's messages, because the driver merges the results of several statements into one. Encrypted
 * connections cannot be overheard: their runs have no message.
 */
function createListener() {
  let listening = false;
  let copying = false;
  let rows: number | undefined;
  let last: string | null = null;
  let pending = Buffer.alloc(0);

  function hear(chunk: Buffer): void {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 5) {
      const length = 1 + pending.readUInt32BE(1);
      if (pending.length < length) return;
      const type = String.fromCharCode(pending[0] ?? 0);
      if (type === 'T') rows = 0;
      else if (type === 'D') rows = (rows ?? 0) + 1;
      else if (type === 'C' || type === 'I') {
        const tag = pending.toString('utf8', 5, Math.max(5, length - 1));
        last = rows === undefined && type === 'C' ? tag : `${rows ?? 0} ${rows === 1 ? 'row' : 'rows'}`;
        rows = undefined;
      } else if (type === 'G' || type === 'H') {
        copying = true;
      }
      pending = pending.subarray(length);
    }
  }

  /** The driver asks for a connected socket here; its type declaration does not know the option's argument. */
  const option = {
    socket: async ({
      host,
      port,
      path,
      ssl,
    }: {
      host: string[];
      port: number[];
      path?: string;
      ssl?: unknown;
    }) => {
      const socket = path ? connect(path) : connect(Number(port[0]), host[0]);
      await once(socket, 'connect');
      if (!ssl) socket.on('data', (chunk: Buffer) => listening && hear(chunk));
      return socket;
    },
  };

  return {
    option: option as object,
    begin() {
      listening = true;
      last = null;
    },
    copying: () => copying,
    last: () => last,
  };
}

/** An error as libpq words it, with the line and a caret where the server gave a position. */
export function errorText(error: unknown, command: string): string {
  if (!(error instanceof postgres.PostgresError)) {
    return error instanceof Error && error.message === 'COPY not supported'
      ? error.message
      : 'connection lost';
  }
  const lines = [`${error.severity}:  ${error.message}`];
  const position = Number(error.position);
  if (position > 0) {
    const before = command.slice(0, position - 1).split('\n');
    const label = `LINE ${before.length}: `;
    lines.push(label + (command.split('\n')[before.length - 1] ?? ''));
    lines.push(`${' '.repeat(label.length + (before.at(-1)?.length ?? 0))}^`);
  }
  if (error.detail) lines.push(`DETAIL:  ${error.detail}`);
  if (error.hint) lines.push(`HINT:  ${error.hint}`);
  if (error.where) lines.push(`CONTEXT:  ${error.where}`);
  return `${lines.join('\n')}\n`;
}
