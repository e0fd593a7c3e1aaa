/** A server that is thrown away, for databases prepared like a fresh Supabase project. */

export interface Scratch {
  /** Makes an empty database, prepared like a fresh project; answers with the url of `postgres`, the role that owns it. */
  create(name: string): Promise<string>;
  /** Stops the server and removes its files. */
  [Symbol.asyncDispose](): Promise<void>;
}

export async function openScratch(): Promise<Scratch> {
  // Loaded when needed: a fault in the local stack must not keep the other checks from running.
  const { createDatabase, startDatabase } = await import('../local/database.ts');
  const database = await startDatabase();
  return {
    create: async (name) => {
      const url = new URL((await createDatabase(database, name)).url);
      // Without it the CLI asks for TLS first and complains when the server has none.
      url.searchParams.set('sslmode', 'disable');
      return url.href;
    },
    [Symbol.asyncDispose]: () => database.stop(),
  };
}
