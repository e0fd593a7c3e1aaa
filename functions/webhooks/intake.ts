// The SQL functions behind the webhooks, with their answers checked. Each of them may be called again without harm.
import { z } from 'zod';
import { EngineError, type Rpc } from '../_shared/engine.ts';
import { withDeadline } from '../_shared/http.ts';

export type Source = 'meta' | 'whatsapp';

const secretsSchema = z
  .object({
    tenant_id: z.uuid(),
    app_secrets: z.array(z.string().min(1)),
    verify_token: z.string().min(1).nullable(),
  })
  .nullable();
const receivedSchema = z.object({ new: z.boolean(), retry_after_seconds: z.number().nullable() });
const deletionSchema = z.object({
  confirmation_code: z.string().nullable(),
  retry_after_seconds: z.number().nullable(),
});
const statusSchema = z
  .object({
    status: z.enum(['pending', 'completed']),
    requested_at: z.string(),
    completed_at: z.string().nullable(),
  })
  .nullable();

/** What a tenant's webhooks are signed and subscribed with. Held for one request, never longer. */
export type WebhookSecrets = NonNullable<z.infer<typeof secretsSchema>>;
export type Received = z.infer<typeof receivedSchema>;
export type DeletionStatus = NonNullable<z.infer<typeof statusSchema>>;

export interface Intake {
  /** `tenant`: slug, id, or `platform`. Null: nobody, or nobody who takes webhooks of this provider. */
  secrets(tenant: string, source: Source): Promise<WebhookSecrets | null>;
  /** Stores a body and enqueues it. With `retry_after_seconds` nothing was stored. */
  receive(tenantId: string, source: Source, body: unknown, sha256: string): Promise<Received>;
  receiveDeletion(
    tenantId: string,
    subject: string,
    sha256: string,
  ): Promise<{ code: string } | { retryAfterSeconds: number }>;
  deletionStatus(code: string): Promise<DeletionStatus | null>;
  /** The url that the claim's link leads to; null: there is no such claim. `counts` false: nothing is recorded. */
  recordVisit(tenant: string, code: string, counts: boolean): Promise<string | null>;
}

/** A provider waits for our answer and comes again without it: two quick tries, then it is told so. */
export function createIntake(options: { rpc: Rpc; timeoutMs?: number; tries?: number }): Intake {
  const timeoutMs = options.timeoutMs ?? 4_000;
  const tries = options.tries ?? 2;

  async function once(name: string, args: Record<string, unknown>): Promise<unknown> {
    const answer = await withDeadline(timeoutMs, (signal) => options.rpc(name, args, signal)).catch(
      (thrown: unknown) => {
        throw new EngineError(
          name,
          'connection',
          true,
          thrown instanceof Error ? thrown.message : 'no answer',
        );
      },
    );
    if (answer.error === null && answer.status < 400) return answer.data;
    const code = answer.error?.code || String(answer.status);
    // 22 and 23: the database understood the question and refuses it. All else may pass by itself.
    throw new EngineError(name, code, !/^2[23]/.test(code), answer.error?.message ?? 'no answer');
  }

  async function call<T>(schema: z.ZodType<T>, name: string, args: Record<string, unknown>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        const parsed = schema.safeParse(await once(name, args));
        if (parsed.success) return parsed.data;
        throw new EngineError(name, 'shape', false, 'the answer was not understood');
      } catch (thrown) {
        if (!(thrown instanceof EngineError) || !thrown.transient || attempt >= tries) throw thrown;
      }
    }
  }

  return {
    secrets: (tenant, source) => call(secretsSchema, 'webhook_secrets', { tenant, provider: source }),
    receive: (tenantId, source, body, sha256) =>
      call(receivedSchema, 'receive_webhook', { tenant_id: tenantId, source, body, sha256 }),
    async receiveDeletion(tenantId, subject, sha256) {
      const found = await call(deletionSchema, 'receive_deletion', { tenant_id: tenantId, subject, sha256 });
      if (found.confirmation_code !== null) return { code: found.confirmation_code };
      return { retryAfterSeconds: found.retry_after_seconds ?? 60 };
    },
    deletionStatus: (code) => call(statusSchema, 'deletion_status', { code }),
    recordVisit: (tenant, code, counts) =>
      call(z.string().nullable(), 'record_visit', { tenant, code, counts }),
  };
}
