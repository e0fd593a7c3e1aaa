/**
 * The Data API and Auth, by @supabase/lite. Nothing else in this repository knows about that package.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { RequestListener } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { App, ConsoleEmailDriver } from '@supabase/lite';
import { createPostgresConnection } from '@supabase/lite/postgres';
import type { MiddlewareHandler } from 'hono';
import postgres from 'postgres';
import { z } from 'zod';
import { sessionName } from './env.ts';
import { largestBody, tooLarge } from './gateway.ts';

export interface ApiOptions {
  /** Connects as `authenticator`, which switches to each request's role. */
  authenticatorUrl: string;
  /** Connects as `supabase_auth_admin`, which owns the tables of Auth. */
  authUrl: string;
  /** Connects as the tables' owner: reads what there is, and hears when it changed. */
  ownerUrl: string;
  /** Exposed schemas; the first is the default. */
  schemas: string[];
  /** At most so many rows in one answer, whatever `limit` asks for. */
  maxRows: number;
  jwtSecret: string;
  jwtExpirySeconds: number;
  publishableKey: string;
  secretKey: string;
  /** Where the API answers, for the tokens' issuer and links. */
  apiUrl: string;
  log: (line: string) => void;
}

export interface Api {
  /** Answers /rest/v1/* */
  rest: RequestListener;
  /** Answers /auth/v1/* */
  auth: RequestListener;
  stop(): Promise<void>;
}

/** A value of type json arrives as text that is JSON already; serialised again it would become a JSON string. */
const jsonText = (oid: number): postgres.PostgresType<unknown> => ({
  to: oid,
  from: [oid],
  serialize: (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value)),
  parse: (text: string) => JSON.parse(text),
});

/** Times as PostgREST writes them: 2026-11-22T21:18:24.770558+00:00 rather than 2026-11-22 21:18:24.770558+00. */
const isoText = (oid: number): postgres.PostgresType<string> => ({
  to: oid,
  from: [oid],
  serialize: (value) => value,
  parse: (text: string) => text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00'),
});

function connection(url: string, max: number) {
  const made = createPostgresConnection({
    url,
    postgresOptions: {
      max,
      connection: { application_name: sessionName },
      types: {
        json: jsonText(114),
        jsonb: jsonText(3802),
        timestamp: isoText(1114),
        timestamptz: isoText(1184),
      },
      onnotice: () => {},
    },
  });
  // Told that RLS is in use, it switches to the request's role. Left to find out by itself, it would first grant every
  // table with RLS to anon, authenticated and service_role: the grants are the migrations' to make.
  Object.defineProperty(made, 'ensureRlsContext', { value: async () => true });
  // Its own close waits for requests without a limit.
  Object.defineProperty(made, 'close', { value: () => made.driver.end({ timeout: 1 }) });
  const normalize = made.normalizeDbError.bind(made);
  Object.defineProperty(made, 'normalizeDbError', {
    value: (error: unknown) => {
      const heard = requests.getStore();
      if (heard && error instanceof postgres.PostgresError) heard.error = error;
      return normalize(error);
    },
  });
  return made;
}

/** What came to light while a request was answered. */
const requests = new AsyncLocalStorage<{ printed: string[]; error?: postgres.PostgresError }>();

// The package prints every error of a request, also those that a client made and gets answered.
const print = console.error;
console.error = (...words: unknown[]) => {
  const heard = requests.getStore();
  if (!heard) print(...words);
  else
    heard.printed.push(words.map((word) => (word instanceof Error ? word.message : String(word))).join(' '));
};

function listen(answer: (request: Request) => Promise<Response>, log: (line: string) => void) {
  return getRequestListener(
    (request) =>
      requests.run({ printed: [] }, async () => {
        const whole = await withWholeBody(request);
        if (!whole) return Response.json(tooLarge, { status: 413 });
        const response = await answer(whole);
        if (response.status >= 500) {
          const words = requests.getStore()?.printed.join('; ');
          log(`${request.method} ${new URL(request.url).pathname} answered ${response.status}: ${words}`);
        }
        return response;
      }),
    { overrideGlobalObjects: false },
  );
}

/** A body that came without its length, read as far as it may go; undefined when it goes on. The gateway saw the others. */
async function withWholeBody(request: Request): Promise<Request | undefined> {
  if (!request.body || request.headers.has('content-length')) return request;
  const reader = request.body.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.byteLength;
    // The rest is the gateway's to throw away.
    if (bytes > largestBody) return undefined;
    chunks.push(part.value);
  }
  const { url, method, headers } = request;
  return new Request(url, { method, headers, body: new Blob(chunks) });
}

/**
 * Status codes of database errors, from PostgREST's documentation ("Errors", HTTP status codes). The longest prefix of
 * the SQLSTATE counts. What is absent is 400; 42501 depends on who asks and PT… carries its status: those the package
 * gets right.
 */
const statusOf: Record<string, number> = {
  '08': 503,
  '09': 500,
  '0L': 403,
  '0P': 403,
  '21000': 500,
  '23503': 409,
  '23505': 409,
  '25': 500,
  '25006': 405,
  '28': 403,
  '2D': 500,
  '38': 500,
  '39': 500,
  '3B': 500,
  '40': 500,
  '42883': 404,
  '42P01': 404,
  '42P17': 500,
  '53': 503,
  '53400': 500,
  '54': 500,
  '55': 500,
  '57': 500,
  '57P01': 503,
  '58': 500,
  F0: 500,
  HV: 500,
  P0: 500,
  P0001: 400,
  XX: 500,
};

/** Gives a database error the words and the status that PostgREST would. */
async function asPostgrest(response: Response): Promise<Response> {
  const error = requests.getStore()?.error;
  if (!error && response.status >= 500) return withoutInternals(response);
  if (!error || response.status < 400 || /^(PT|PGRST)/.test(error.code)) return response;
  const status =
    error.code === '42501'
      ? response.status
      : (statusOf[error.code] ?? statusOf[error.code.slice(0, 2)] ?? 400);
  return rewritten(response, status, {
    code: error.code,
    details: error.detail ?? null,
    hint: error.hint ?? null,
    message: error.message,
  });
}

/** What went wrong inside of the package (`RangeError: …`) is for the log. */
async function withoutInternals(response: Response): Promise<Response> {
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => undefined);
  const stumble = z.object({ code: z.literal('SUP'), message: z.string() }).safeParse(body);
  if (!stumble.success) return response;
  requests.getStore()?.printed.push(stumble.data.message);
  const message = 'The request could not be answered. The log says why.';
  return rewritten(response, response.status, { code: 'SUP', details: null, hint: null, message });
}

function rewritten(response: Response, status: number, body: Record<string, unknown>): Response {
  const headers = new Headers(response.headers);
  headers.delete('content-length');
  headers.set('content-type', 'application/json; charset=utf-8');
  return Response.json(body, { status, headers });
}

type Catalogue = Awaited<ReturnType<ReturnType<typeof connection>['introspect']>>;

/**
 * A string meant for a parameter or column of type json has to become JSON text before the package sees it: there it
 * could no longer be told from an object, which arrives as text, too.
 */
async function withJsonStrings(
  request: Request,
  catalogue: Catalogue,
  defaultSchema: string,
): Promise<Request> {
  const [, , , first = '', second] = new URL(request.url).pathname.split('/');
  const isJson = request.headers.get('content-type')?.includes('json');
  if (!isJson || !['POST', 'PATCH', 'PUT'].includes(request.method)) return request;
  const schema = request.headers.get('content-profile') ?? defaultSchema;
  const jsonNames = new Set(
    first === 'rpc'
      ? (catalogue.functions ?? [])
          .filter((each) => each.schema === schema && each.name === second)
          .flatMap((each) => each.arg_names.filter((_, index) => isJsonType(each.arg_types[index])))
      : catalogue.columns
          .filter((each) => each.schema === schema && each.table === first && isJsonType(each.type))
          .map((each) => each.name),
  );
  if (jsonNames.size === 0) return request;
  let text = await request.text();
  try {
    const body: unknown = JSON.parse(text);
    let changed = false;
    for (const row of Array.isArray(body) ? body : [body]) {
      for (const [name, value] of Object.entries(row ?? {})) {
        if (typeof value !== 'string' || !jsonNames.has(name)) continue;
        // The text of a column is read as JSON once more on its way.
        row[name] = first === 'rpc' ? JSON.stringify(value) : JSON.stringify(JSON.stringify(value));
        changed = true;
      }
    }
    if (changed) text = JSON.stringify(body);
  } catch {
    // Not JSON: the package says so.
  }
  const headers = new Headers(request.headers);
  headers.delete('content-length');
  return new Request(request.url, { method: request.method, headers, body: text });
}

function isJsonType(type: string | undefined): boolean {
  return type === 'json' || type === 'jsonb';
}

/** Makes the tables of Auth in schema `auth`. */
export async function createAuthTables(adminUrl: string): Promise<void> {
  const database = connection(adminUrl, 1);
  try {
    const app = new App({
      connection: database,
      auth: { enabled: true },
      storage: { enabled: false },
      // The history of migrations is the CLI's to make.
      db: { migrations: { enabled: false } },
    });
    await app.ensureSystemSchema();
  } finally {
    await database.close();
  }
}

/**
 * Before each request the Data API would look up the token's user and session, and `authenticator` may not read those.
 * PostgREST knows neither: there a token counts until it expires, and so it does here.
 */
const tokensCountUntilTheyExpire: MiddlewareHandler = async (context, next) => {
  const found = async () => ({});
  context.set('authService', { repo: { findUserById: found, findSessionById: found } });
  await next();
};

export async function startApi(options: ApiOptions): Promise<Api> {
  const auth = {
    enabled: true,
    jwt_secret: options.jwtSecret,
    jwt_expiry: options.jwtExpirySeconds,
    publishable_key: options.publishableKey,
    secret_key: options.secretKey,
    minimum_password_length: 8,
  };
  const api = { schemas: options.schemas, max_rows: options.maxRows, external_url: options.apiUrl };
  const restConnection = connection(options.authenticatorUrl, 20);
  const authConnection = connection(options.authUrl, 5);
  // It asks the information schema, which shows `authenticator` nothing; PostgREST reads the system catalogues.
  const catalogue = connection(options.ownerUrl, 1);
  Object.defineProperties(restConnection, {
    introspect: { value: (given?: { useCache?: boolean }) => catalogue.introspect(given) },
    clearSchemaCache: { value: () => catalogue.clearSchemaCache() },
  });
  const restApp = new App({
    connection: restConnection,
    api,
    auth: { ...auth, enabled: false },
    options: { server: { middlewares: [tokensCountUntilTheyExpire] } },
  });
  const drivers = {
    email: new ConsoleEmailDriver({ logger: { info: (...words) => options.log(words.join(' ')) } }),
  };
  const authApp = new App({ connection: authConnection, api, auth, options: { drivers } });
  await Promise.all([restApp.init(), authApp.init(), restConnection.introspect({ useCache: true })]);

  // The database says when its schema changed (event triggers on `notify pgrst`), as it does to PostgREST. A migration
  // says so many times; reading it once afterwards is enough.
  const listener = postgres(options.ownerUrl, { max: 1, onnotice: () => {} });
  let reload: NodeJS.Timeout | undefined;
  await listener.listen('pgrst', () => {
    clearTimeout(reload);
    reload = setTimeout(() => void restConnection.clearSchemaCache(), 100);
  });

  return {
    rest: listen(async (request) => {
      // What private.check_request refuses on the platform, where PostgREST runs it before each request.
      if (/count=(planned|estimated)/i.test(request.headers.get('prefer') ?? '')) {
        const message = 'Use count=exact.';
        const hint = 'An estimate would be of the rows of all tenants.';
        return Response.json({ code: 'PT400', message, details: null, hint }, { status: 400 });
      }
      const known = await catalogue.introspect({ useCache: true });
      const prepared = await withJsonStrings(request, known, options.schemas[0] ?? 'public');
      return asPostgrest(await restApp.fetch(prepared));
    }, options.log),
    auth: listen(async (request) => {
      const response = await authApp.fetch(request);
      // To a path that Auth does not have the package answers with a page of its own.
      if (response.ok && response.headers.get('content-type')?.startsWith('text/html')) {
        return Response.json(
          { code: 404, error_code: 'not_found', msg: 'Auth has no such path.' },
          { status: 404 },
        );
      }
      return response;
    }, options.log),
    stop: async () => {
      clearTimeout(reload);
      await Promise.all([
        listener.end({ timeout: 1 }),
        restConnection.close(),
        authConnection.close(),
        catalogue.close(),
      ]);
    },
  };
}
