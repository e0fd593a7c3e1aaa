/** A stand-in of the part of Supabase's management API that `supabase functions deploy --use-api` talks to. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

export interface Upload {
  slug: string;
  /** Path inside the project to content. */
  files: Map<string, string>;
  metadata: z.infer<typeof metadata>;
}

export interface ManagementApi {
  url: string;
  uploads: Upload[];
  /** What was asked for and isn't there. */
  unknown: string[];
  /** The token of each request. */
  tokens: Set<string | undefined>;
  close(): Promise<void>;
}

const metadata = z.looseObject({
  entrypoint_path: z.string(),
  import_map_path: z.string().optional(),
  verify_jwt: z.boolean(),
});

const stamp = '2026-01-01T00:00:00Z';
const projectOf = (ref: string) => ({
  ...{ id: ref, ref, name: 'onecron', region: 'eu-central-1', status: 'ACTIVE_HEALTHY', created_at: stamp },
  ...{ organization_id: 'example', organization_slug: 'example' },
  database: { host: 'db.example.test', version: '17', postgres_engine: '17', release_channel: 'ga' },
});

export async function startManagementApi(): Promise<ManagementApi> {
  const uploads: Upload[] = [];
  const unknown: string[] = [];
  const tokens = new Set<string | undefined>();

  async function answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    tokens.add(request.headers.get('authorization') ?? undefined);
    const [, ref = '', rest = ''] = /^\/v1\/projects\/([a-z]{20})(\/.*)?$/.exec(pathname) ?? [];
    if (request.method === 'POST' && rest === '/functions/deploy') {
      const slug = searchParams.get('slug') ?? '';
      const form = await request.formData();
      const files = new Map<string, string>();
      for (const part of form.getAll('file')) {
        if (typeof part !== 'string') files.set(part.name, await part.text());
      }
      const about = metadata.parse(JSON.parse(String(form.get('metadata'))));
      uploads.push({ slug, files, metadata: about });
      const { verify_jwt } = about;
      const [id, status, version] = [crypto.randomUUID(), 'ACTIVE', 1];
      return Response.json(
        { id, slug, name: slug, status, version, verify_jwt, created_at: 1, updated_at: 1 },
        { status: 201 },
      );
    }
    if (request.method === 'PUT' && rest === '/functions') return Response.json({ functions: [] });
    if (request.method === 'GET' && rest === '/functions') return Response.json([]);
    if (request.method === 'GET' && ref !== '' && rest === '') return Response.json(projectOf(ref));
    unknown.push(`${request.method} ${pathname}`);
    return Response.json({ message: 'not found' }, { status: 404 });
  }

  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const headers = new Headers();
    for (const [name, value] of Object.entries(incoming.headers)) headers.set(name, String(value));
    const method = incoming.method ?? 'GET';
    const request = new Request(new URL(incoming.url ?? '/', 'http://127.0.0.1'), {
      ...{ method, headers },
      ...(method === 'GET' ? {} : { body }),
    });
    const response = await answer(request).catch((error: unknown) => {
      unknown.push(String(error));
      return Response.json({ message: String(error) }, { status: 500 });
    });
    outgoing.writeHead(response.status, { 'content-type': 'application/json' });
    outgoing.end(await response.text());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    uploads,
    unknown,
    tokens,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
