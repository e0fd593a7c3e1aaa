// Tenants and their people through supabase-js as real users: the table of roles cell by cell, and what many do at once.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type postgres from 'postgres';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect } from '../../scripts/local/database.ts';
import { type Stack, startStack } from '../../scripts/local/stack.ts';
import { client, ok, type Person, refusal, signUp } from './support.ts';

type Answer = { data: unknown; error: { code?: string; message: string; details?: string | null } | null };
type Cell = 'yes' | 'own' | '–';
const roles = ['owner', 'admin', 'member', 'viewer', 'participant'] as const;
type Role = (typeof roles)[number];

let stack: Stack;
let sql: postgres.Sql;
const people = {} as Record<Role | 'target' | 'stranger', Person>;
let tenant: { id: string; campaign: string; task: string };
const nowhere = '00000000-0000-4000-8000-000000000000';

beforeAll(async () => {
  stack = await startStack({
    dataDir: 'temporary',
    seed: false,
    functions: false,
    simulators: false,
    cron: false,
  });
  sql = connect(stack.database.url);
  for (const name of [...roles, 'target', 'stranger'] as const) people[name] = await signUp(stack, name);
  const created = ok(await people.owner.api.rpc('create_tenant', { name: 'Pizza', slug: 'pizza' })) as {
    id: string;
  };
  const running = { tenant_id: created.id, name: 'Summer', status: 'active' };
  const campaign = ok(await people.owner.api.from('campaigns').insert(running).select('id').single());
  const task = ok(
    await people.owner.api
      .from('social_tasks')
      .insert({
        tenant_id: created.id,
        campaign_id: campaign.id,
        kind: 'instagram_comment',
        title: 'Comment',
        post_id: '1790',
      })
      .select('id')
      .single(),
  );
  tenant = { id: created.id, campaign: campaign.id, task: task.id };
  for (const who of [people.participant, people.stranger]) {
    const joined = { tenant_id: tenant.id, campaign_id: tenant.campaign, display_name: 'Somebody' };
    ok(await who.api.rpc('join_campaign', joined));
    ok(await who.api.rpc('claim_task', { tenant_id: tenant.id, task_id: tenant.task }));
  }
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

/** Waits until a request of the Data API waits for a lock. */
async function somebodyWaits(transaction: postgres.TransactionSql): Promise<void> {
  const deadline = Date.now() + 5_000;
  for (;;) {
    const waiting = await transaction`select from pg_catalog.pg_stat_activity
      where wait_event_type = 'Lock' and usename = 'authenticator'`;
    if (waiting.length > 0) return;
    if (Date.now() > deadline) throw new Error('no request waits for a lock');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Everybody in the role of the same name, and the target a viewer: whatever the test before did. */
async function restore(): Promise<void> {
  await sql.begin(async (transaction) => {
    await transaction`update public.tenants set status = 'closed' where id = ${tenant.id}`;
    await transaction`delete from public.memberships where tenant_id = ${tenant.id}`;
    for (const role of ['owner', 'admin', 'member', 'viewer'] as const) {
      await transaction`insert into public.memberships (tenant_id, user_id, role) values (${tenant.id}, ${people[role].id}, ${role})`;
    }
    await transaction`insert into public.memberships (tenant_id, user_id, role) values (${tenant.id}, ${people.target.id}, 'viewer')`;
    await transaction`update public.tenants set status = 'active' where id = ${tenant.id}`;
    await transaction`delete from private.rate_windows`;
  });
}
beforeEach(restore);

const setTarget = (role: string) =>
  sql`update public.memberships set role = ${role} where tenant_id = ${tenant.id} and user_id = ${people.target.id}`;

/** A call that was done, or refused with 42501; anything else is a fault of the test. */
function done(...answers: Answer[]): Cell {
  if (answers.every((answer) => answer.error === null)) return 'yes';
  for (const { error } of answers)
    if (error && error.code !== '42501') throw new Error(`${error.code} ${error.message}`);
  if (answers.some((answer) => answer.error === null))
    throw new Error('one of the calls was done, another refused');
  return '–';
}

/** Rows that were seen or changed. */
function rows(answer: Answer): Cell {
  if (answer.error) return done(answer);
  return Array.isArray(answer.data) && answer.data.length > 0 ? 'yes' : '–';
}

/** Cells of one line: they must not differ. */
function alike(cells: Cell[]): Cell {
  if (new Set(cells).size > 1) throw new Error(`they differ: ${cells.join(', ')}`);
  return cells[0] ?? '–';
}

/** Who is no participant is told so, whatever the role. */
const nobody = (answer: Answer): Answer =>
  answer.error?.code === 'PT404' ? { ...answer, error: { code: '42501', message: '' } } : answer;

/** Who may ask learns that there is no such thing. */
const known = (answer: Answer): Answer =>
  answer.error?.code === 'PT404' ? { ...answer, error: null } : answer;

async function participantOf(user: string): Promise<string | undefined> {
  const [row] = await sql<
    { id: string }[]
  >`select id from public.participants where tenant_id = ${tenant.id} and user_id = ${user}`;
  return row?.id;
}

/** Both participants have agreed to messages and linked an account. */
const consented = () => sql`
  with agreed as (
    insert into public.opt_ins (tenant_id, participant_id, channel, granted, business_name, source)
    select p.tenant_id, p.id, 'email', true, 'Pizza', 'opt_in' from public.participants p where p.tenant_id = ${tenant.id})
  insert into public.linked_accounts (tenant_id, participant_id, platform, external_id, linked_by)
  select p.tenant_id, p.id, 'facebook', p.id::text, 'link code' from public.participants p where p.tenant_id = ${tenant.id}
  on conflict do nothing`;

/** Two claims that wait for a person, with the decision that has brought them there. */
async function waiting(): Promise<string[]> {
  const claims = await sql<{ id: string; task_id: string; participant_id: string }[]>`
    update public.completions set status = 'manual_review', verified_at = null, method = null where tenant_id = ${tenant.id}
    returning id, task_id, participant_id`;
  await sql`delete from public.spin_ledger where tenant_id = ${tenant.id}`;
  for (const { id, task_id, participant_id } of claims) {
    await sql`
      insert into public.completion_decisions (tenant_id, completion_id, task_id, participant_id, from_status, to_status, rule_version, actor)
      values (${tenant.id}, ${id}, ${task_id}, ${participant_id}, 'pending', 'manual_review', 1, 'worker')`;
  }
  return claims.map(({ id }) => id);
}

const acknowledged = ({ api }: Person) =>
  api.rpc('acknowledge_rule', { tenant_id: tenant.id, rule: 'rewarded_engagement', version: 1 });

const actions: Record<string, (who: Person) => Promise<Cell>> = {
  'see the tenant, its settings and its plan': async ({ api }) =>
    rows(await api.from('tenants').select('slug, time_zone, plan_id').eq('id', tenant.id)),
  'see who works for it, in which role': async ({ api }) =>
    rows(await api.from('memberships').select('user_id, role').eq('tenant_id', tenant.id)),
  'see running campaigns and their tasks': async ({ api }) =>
    rows(await api.from('campaigns').select('name, social_tasks!inner(title)').eq('id', tenant.campaign)),
  'see drafts of campaigns': async ({ api }) => {
    const [draft] = await sql`insert into public.campaigns (tenant_id, name) values (${tenant.id}, 'Draft')
      returning id`;
    return rows(await api.from('campaigns').select('name').eq('id', draft?.id));
  },
  'see participants, claims, spins and messages': async ({ api, id }) => {
    for (const table of ['spin_ledger', 'notification_outbox']) {
      const { error } = await api.from(table).select('id').eq('tenant_id', tenant.id);
      if (error) throw new Error(error.message);
    }
    const participants = ok(await api.from('participants').select('id').eq('tenant_id', tenant.id));
    const claims = ok(await api.from('completions').select('participant_id').eq('tenant_id', tenant.id));
    if (participants.length !== claims.length) throw new Error('claims and participants do not agree');
    const [own] = await sql<{ id: string }[]>`
      select id from public.participants where tenant_id = ${tenant.id} and user_id = ${id}`;
    if (own && participants.length === 1 && participants[0]?.id === own.id) return 'own';
    return participants.length === 2 ? 'yes' : '–';
  },
  'see agreements to messages, linked accounts': async ({ api, id }) => {
    await consented();
    const cell = async (table: string): Promise<Cell> => {
      const seen = ok(await api.from(table).select('participant_id').eq('tenant_id', tenant.id)) as {
        participant_id: string;
      }[];
      const seenOf = new Set(seen.map((row) => row.participant_id));
      if (seenOf.size === 1 && seenOf.has((await participantOf(id)) ?? '')) return 'own';
      return seenOf.size === 2 ? 'yes' : '–';
    };
    const [agreed, linked] = [await cell('opt_ins'), await cell('linked_accounts')];
    if (agreed !== linked) throw new Error('agreements and accounts do not agree');
    return agreed;
  },
  'see strategies, cohorts, decisions and what waits for a review': async ({ api }) => {
    await waiting();
    await sql`insert into public.cohorts (tenant_id, name) values (${tenant.id}, 'Regulars')`;
    return alike(
      await Promise.all(
        ['campaign_strategies', 'cohorts', 'completion_decisions', 'reviews'].map(async (table) =>
          rows(await api.from(table).select('tenant_id').eq('tenant_id', tenant.id)),
        ),
      ),
    );
  },
  'see the texts of messages, how fast they go, reminders': async ({ api }) => {
    await sql`insert into public.message_templates (tenant_id, kind, body) values (${tenant.id}, 'alert', '{{message}}')
      on conflict do nothing`;
    return alike([
      done(await api.rpc('preview_message', { tenant_id: tenant.id, kind: 'alert' })),
      ...(await Promise.all(
        ['message_templates', 'message_settings', 'reminder_settings'].map(async (table) =>
          rows(await api.from(table).select('tenant_id').eq('tenant_id', tenant.id)),
        ),
      )),
    ]);
  },
  'see which rules were acknowledged': async ({ api }) => {
    await acknowledged(people.owner);
    return rows(await api.from('acknowledgements').select('rule').eq('tenant_id', tenant.id));
  },
  'change strategies and cohorts, put people into cohorts': async ({ api }) => {
    const [cohort] = await sql<{ id: string }[]>`
      insert into public.cohorts (tenant_id, name) values (${tenant.id}, 'Regulars') returning id`;
    const person = await participantOf(people.participant.id);
    const of = { tenant_id: tenant.id, participant_ids: [person], cohort_id: cohort?.id };
    return alike([
      done(await api.rpc('set_cohort', of)),
      done(await api.from('cohorts').insert({ tenant_id: tenant.id, name: 'Guests' })),
      rows(await api.from('cohorts').update({ strategy: 'manual' }).eq('id', cohort?.id).select('id')),
      rows(
        await api
          .from('campaign_strategies')
          .update({ strategy: 'api' })
          .eq('campaign_id', tenant.campaign)
          .select('strategy'),
      ),
    ]);
  },
  'approve and reject what waits, confirm sign-ups, others’ only': async ({ api }) => {
    const [one, other] = await waiting();
    const about = { tenant_id: tenant.id };
    return done(
      await api.rpc('approve_completion', { ...about, completion_id: one }),
      await api.rpc('reject_completion', { ...about, completion_id: other, reason: 'not there' }),
      await api.rpc('confirm_sign_up', { ...about, code: 'NO-CODE' }).then(known),
    );
  },
  'write the texts of messages, switch reminders': async ({ api }) => {
    await sql`delete from public.message_templates where tenant_id = ${tenant.id}`;
    const text = { tenant_id: tenant.id, kind: 'welcome', body: 'Hello {{name}}' };
    return alike([
      done(await api.from('message_templates').insert(text)),
      rows(
        await api
          .from('reminder_settings')
          .update({ enabled: false })
          .eq('campaign_id', tenant.campaign)
          .select('enabled'),
      ),
    ]);
  },
  'delete cohorts and texts of messages': async ({ api }) => {
    await sql`insert into public.cohorts (tenant_id, name) values (${tenant.id}, 'Regulars')`;
    await sql`insert into public.message_templates (tenant_id, kind, body) values (${tenant.id}, 'alert', '{{message}}')
      on conflict do nothing`;
    return alike([
      rows(await api.from('cohorts').delete().eq('tenant_id', tenant.id).select('id')),
      rows(await api.from('message_templates').delete().eq('tenant_id', tenant.id).select('id')),
    ]);
  },
  'acknowledge rules': async (who) => done(await acknowledged(who)),
  'change how fast messages go, resume sending': async ({ api }) =>
    alike([
      done(await api.rpc('resume_sending', { tenant_id: tenant.id })),
      rows(
        await api
          .from('message_settings')
          .update({ messages_per_second: 50 })
          .eq('tenant_id', tenant.id)
          .select('tenant_id'),
      ),
    ]),
  'see who asked to be forgotten': async ({ api }) => {
    await sql`insert into public.data_deletions (tenant_id, subject, request_sha256)
      values (${tenant.id}, '700', ${'a'.repeat(64)}) on conflict do nothing`;
    return rows(await api.from('data_deletions').select('subject').eq('tenant_id', tenant.id));
  },
  'see from which address and browser somebody agreed': async ({ api }) => {
    await consented();
    await sql`
      insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
      select tenant_id, id, '203.0.113.7', 'Browser/1' from public.opt_ins where tenant_id = ${tenant.id} on conflict do nothing`;
    // Whole entries are still read with *.
    const entries = ok(await api.from('opt_ins').select('*').eq('tenant_id', tenant.id)) as object[];
    if (entries.length === 0 || entries.some((entry) => 'ip' in entry || 'user_agent' in entry)) return 'yes';
    const answers = [
      await api.from('opt_ins').select('ip, user_agent'),
      await api.from('opt_in_origins').select('ip'),
      await api.schema('private').from('opt_in_origins').select('ip'),
    ];
    return answers.every(({ error }) => error !== null) ? '–' : 'yes';
  },
  'agree to messages, link an account': async ({ api, id }) => {
    const about = { tenant_id: tenant.id };
    await sql`update public.participants set phone = '+491701234567' where tenant_id = ${tenant.id} and user_id = ${id}`;
    const answers = [
      await api.rpc('opt_in', { ...about, channel: 'whatsapp' }).then(nobody),
      await api.rpc('opt_out', { ...about, channel: 'whatsapp' }).then(nobody),
      await api.rpc('start_linking', { ...about, platform: 'instagram' }).then(nobody),
      await api.rpc('unlink_account', { ...about, platform: 'instagram' }).then(nobody),
    ];
    return done(...answers) === 'yes' ? 'own' : '–';
  },
  'create and change campaigns and tasks': async ({ api }) =>
    done(
      await api.rpc('create_campaign', { tenant_id: tenant.id, name: 'Another' }),
      await api
        .from('campaigns')
        .update({ name: 'Summer' })
        .eq('id', tenant.campaign)
        .select('id')
        .single()
        .then((answer) =>
          answer.error?.code === 'PGRST116' ? { ...answer, error: { code: '42501', message: '' } } : answer,
        ),
      await api.from('social_tasks').insert({
        tenant_id: tenant.id,
        campaign_id: tenant.campaign,
        kind: 'instagram_comment',
        title: 'Another',
        post_id: '1791',
      }),
    ),
  'delete campaigns and tasks': async ({ api }) => {
    const [draft] = await sql`insert into public.campaigns (tenant_id, name) values (${tenant.id}, 'Draft')
      returning id`;
    return rows(await api.from('campaigns').delete().eq('id', draft?.id).select('id'));
  },
  'rename it, change its settings': async ({ api }) =>
    rows(
      await api.from('tenants').update({ name: 'Pizza', locale: 'it' }).eq('id', tenant.id).select('slug'),
    ),
  'see which credentials there are, and how healthy': async ({ api }) => {
    await sql`select public.set_credential(${tenant.id}, 'meta', 'facebook_login', '{"access_token": "demo"}')`;
    return rows(await api.from('credentials').select('provider, health').eq('tenant_id', tenant.id));
  },
  'set and remove credentials': async ({ api }) =>
    done(
      await api.rpc('set_credential', {
        tenant_id: tenant.id,
        provider: 'meta',
        kind: 'facebook_login',
        secret: { access_token: 'demo' },
      }),
      await api.rpc('remove_credential', { tenant_id: tenant.id, provider: 'meta' }),
    ),
  'see members’ e-mail addresses': async ({ api }) =>
    rows(await api.rpc('list_members', { tenant_id: tenant.id })),
  'invite people, up to the own role': async ({ api, id }) => {
    const [own] = await sql<{ role: string }[]>`select role from public.memberships
      where tenant_id = ${tenant.id} and user_id = ${id}`;
    return done(
      ...(await Promise.all(
        ['viewer', own?.role ?? 'member'].map((role) =>
          api.rpc('invite_member', { tenant_id: tenant.id, email: `${role}@example.org`, role }),
        ),
      )),
    );
  },
  'invite an owner': async ({ api }) =>
    done(await api.rpc('invite_member', { tenant_id: tenant.id, email: 'boss@example.org', role: 'owner' })),
  'see and revoke invitations': async ({ api }) => {
    const [made] = await sql<
      { invitation: { invitation_id: string } }[]
    >`select public.invite_member(${tenant.id}, 'new@example.org') as invitation`;
    const one = made?.invitation.invitation_id;
    const seen = rows(await api.from('invitations').select('email').eq('id', one));
    const revoked = await api.rpc('revoke_invitation', { tenant_id: tenant.id, invitation_id: one });
    if (seen !== done(revoked)) throw new Error('seeing and revoking do not agree');
    return seen;
  },
  'remove members and viewers, change their roles': async ({ api }) => {
    const target = { tenant_id: tenant.id, user_id: people.target.id };
    await setTarget('member');
    return done(
      await api.rpc('change_role', { ...target, role: 'viewer' }),
      await api.rpc('remove_member', target),
    );
  },
  'remove admins and owners, change their roles': async ({ api }) => {
    const target = { tenant_id: tenant.id, user_id: people.target.id };
    await setTarget('admin');
    const demoted = await api.rpc('change_role', { ...target, role: 'member' });
    await setTarget('owner');
    return done(demoted, await api.rpc('remove_member', target));
  },
  'make somebody an owner, transfer the ownership': async ({ api }) => {
    const target = { tenant_id: tenant.id, user_id: people.target.id };
    return done(
      await api.rpc('change_role', { ...target, role: 'owner' }),
      await api.rpc('transfer_ownership', target),
    );
  },
  'read the audit log': async ({ api }) =>
    rows(await api.from('audit_log').select('action').eq('tenant_id', tenant.id)),
  'close and reopen the tenant': async ({ api }) =>
    done(
      await api.rpc('close_tenant', { tenant_id: tenant.id }),
      await api.rpc('reopen_tenant', { tenant_id: tenant.id }),
    ),
  leave: async ({ api }) => {
    await setTarget('owner');
    return done(await api.rpc('leave_tenant', { tenant_id: tenant.id }));
  },
  'suspend the tenant, change its plan': async ({ api }) =>
    done(
      await api.rpc('suspend_tenant', { tenant_id: tenant.id, reason: 'no reason' }),
      await api.from('tenants').update({ plan_id: 'enterprise' }).eq('id', tenant.id),
      await api.schema('jobs').rpc('set_plan', { tenant_id: tenant.id, plan_id: 'enterprise' }),
    ),
};

describe('the table of roles in docs/tenancy.md', async () => {
  const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'tenancy.md'), 'utf8');
  const lines = page
    .split('## Roles')[1]
    ?.split('## ')[0]
    ?.split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim().replaceAll("'", '’')),
    );
  const [head, , ...table] = lines ?? [];

  test('has a line for every action that is tried here, and the other way round', () => {
    expect(head).toEqual(['may', ...roles]);
    expect(table.map(([action]) => action).sort()).toEqual(Object.keys(actions).sort());
  });

  test.each(table.map(([action = '', ...cells]) => ({ action, cells })))(
    '$action',
    async ({ action, cells }) => {
      const tried: (string | undefined)[] = [];
      for (const role of roles) {
        await restore();
        tried.push(await actions[action]?.(people[role]));
      }
      expect(tried).toEqual(cells);
    },
  );
});

describe('at once', () => {
  const owners = async () =>
    (await sql`select user_id from public.memberships where tenant_id = ${tenant.id} and role = 'owner'`).map(
      (row) => row.user_id,
    );

  test('two owners who demote each other leave one', async () => {
    for (let round = 0; round < 10; round += 1) {
      await restore();
      await setTarget('owner');
      const demote = (who: Person, whom: Person) =>
        who.api.rpc('change_role', { tenant_id: tenant.id, user_id: whom.id, role: 'viewer' });
      const answers = await Promise.all([
        demote(people.owner, people.target),
        demote(people.target, people.owner),
      ]);
      expect(answers.map((answer) => answer.error?.code ?? 'done').sort()).toEqual(['42501', 'done']);
      expect(await owners()).toHaveLength(1);
    }
  });

  test('two owners who leave leave one', async () => {
    for (let round = 0; round < 10; round += 1) {
      await restore();
      await setTarget('owner');
      const answers = await Promise.all(
        [people.owner, people.target].map((who) => who.api.rpc('leave_tenant', { tenant_id: tenant.id })),
      );
      expect(answers.map((answer) => answer.error?.code ?? 'done').sort()).toEqual(['PT409', 'done']);
      expect(await owners()).toHaveLength(1);
    }
  });

  test('an owner who leaves while the other one is being deleted waits for that, and has to stay', async () => {
    const guest = await signUp(stack, 'guest');
    await sql`insert into public.memberships (tenant_id, user_id, role) values (${tenant.id}, ${guest.id}, 'owner')`;
    const leaving = await sql.begin(async (transaction) => {
      await transaction`delete from auth.users where id = ${guest.id}`;
      const answer = people.owner.api.rpc('leave_tenant', { tenant_id: tenant.id }).then((given) => given);
      await somebodyWaits(transaction);
      return { answer };
    });
    expect(refusal(await leaving.answer).code).toBe('PT409');
    expect(await owners()).toEqual([people.owner.id]);
  });

  test('an invitation is accepted once, however often it is tried', async () => {
    const guest = await signUp(stack, 'once');
    const email = 'once@example.com';
    const invited = ok(
      await people.admin.api.rpc('invite_member', { tenant_id: tenant.id, email, role: 'admin' }),
    );
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => guest.api.rpc('accept_invitation', { token: invited.token })),
    );
    const accepted = answers.filter((answer) => answer.error === null);
    expect(accepted.map((answer) => answer.data)).toEqual([
      { tenant_id: tenant.id, slug: 'pizza', name: 'Pizza', role: 'admin' },
    ]);
    expect(
      new Set(
        answers.filter((answer) => answer.error).map(({ status, error }) => `${status} ${error?.code}`),
      ),
    ).toEqual(new Set(['404 PT404']));
    const written = await sql`select from public.audit_log
      where tenant_id = ${tenant.id} and action = 'invitation.accepted' and actor_id = ${guest.id}`;
    expect(written).toHaveLength(1);
  });

  test('an invitation that is accepted while its inviter is being demoted waits for that, and is refused', async () => {
    const email = 'stranger@example.com';
    const invite = async () =>
      ok(await people.admin.api.rpc('invite_member', { tenant_id: tenant.id, email, role: 'admin' })) as {
        token: string;
      };
    const { token } = await invite();
    const accepting = await sql.begin(async (transaction) => {
      // What change_role does, stopped before its end.
      await transaction`select from public.tenants where id = ${tenant.id} for no key update`;
      await transaction`update public.memberships set role = 'viewer'
        where tenant_id = ${tenant.id} and user_id = ${people.admin.id}`;
      const answer = people.stranger.api.rpc('accept_invitation', { token }).then((given) => given);
      await somebodyWaits(transaction);
      return { answer };
    });
    expect(refusal(await accepting.answer)).toMatchObject({ status: 404, code: 'PT404' });
    // With the role back it works.
    await restore();
    ok(await people.stranger.api.rpc('accept_invitation', { token: (await invite()).token }));
  });
});

describe('invitations', () => {
  test('whatever is wrong with a token, the answer is the same, byte by byte', async () => {
    const invited = async (email: string) =>
      ok(await people.owner.api.rpc('invite_member', { tenant_id: tenant.id, email, role: 'viewer' })) as {
        token: string;
        invitation_id: string;
      };
    const forOther = await invited('other@example.com');
    const revoked = await invited('stranger@example.com');
    const revocation = { tenant_id: tenant.id, invitation_id: revoked.invitation_id };
    expect(ok(await people.owner.api.rpc('revoke_invitation', revocation))).toBe(true);
    const expired = await invited('stranger@example.com');
    await sql`update public.invitations set created_at = now() - interval '9 days', expires_at = now() - interval '1 hour'
      where id = ${expired.invitation_id}`;
    const { data } = await people.stranger.api.auth.getSession();
    const answerTo = async (token: string) => {
      const response = await fetch(`${stack.info.api_url}/rest/v1/rpc/accept_invitation`, {
        method: 'POST',
        headers: {
          apikey: stack.info.publishable_key,
          authorization: `Bearer ${data.session?.access_token}`,
          'content-type': 'application/json',
        },
        body: JSON.stringify({ token }),
      });
      const headers = [...response.headers].filter(([name]) => !['date', 'x-request-id'].includes(name));
      return JSON.stringify([response.status, headers, await response.text()]);
    };
    const answers = await Promise.all(
      ['', 'inv_0', forOther.token, revoked.token, expired.token].map(answerTo),
    );
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toContain('PT404');
    // The rightful way works.
    const valid = await invited('stranger@example.com');
    expect(ok(await people.stranger.api.rpc('accept_invitation', { token: valid.token }))).toMatchObject({
      role: 'viewer',
    });
  });
});

describe('limits', () => {
  /** A call past supabase-js, which does not show headers. */
  async function call(name: string, body: object, options: { person?: Person; profile?: string } = {}) {
    const token = options.person
      ? (await options.person.api.auth.getSession()).data.session?.access_token
      : undefined;
    const response = await fetch(`${stack.info.api_url}/rest/v1/rpc/${name}`, {
      method: 'POST',
      headers: {
        apikey: options.person ? stack.info.publishable_key : stack.info.secret_key,
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(options.profile ? { 'content-profile': options.profile } : {}),
        'content-type': 'application/json',
      },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    return {
      status: response.status,
      retryAfter: response.headers.get('retry-after'),
      body: text === '' ? null : JSON.parse(text),
    };
  }

  test('50 calls at once: exactly as many as the limit are admitted, the others are told when to come again', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        call('create_tenant', { name: `Shop ${n}`, slug: `shop-${n}` }, { person: people.stranger }),
      ),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(40);
    for (const { retryAfter, body } of refused) {
      expect(Number(retryAfter)).toBeGreaterThan(86_000);
      expect(body).toEqual({
        code: 'PT429',
        message: 'Too many requests.',
        details: `retry after ${retryAfter} seconds`,
        hint: null,
      });
    }
    const [made] = await sql`select count(*)::integer as shops from public.tenants where slug like 'shop-%'`;
    expect(made?.shops).toBe(10);
    // Somebody else is not held up.
    const other = await call(
      'create_tenant',
      { name: 'Other', slug: 'other-shop' },
      { person: people.viewer },
    );
    expect(other.status).toBe(200);
  });

  test('tries of an invitation count although they fail', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        call('accept_invitation', { token: 'guess' }, { person: people.stranger }),
      ),
    );
    expect(answers.filter(({ status }) => status === 404)).toHaveLength(20);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(30);
  });

  test('requests of functions: 50 at once, exactly as many as the limit are allowed', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        call('take_request', { key: 'fingerprint', requests: 7, seconds: 60 }, { profile: 'jobs' }),
      ),
    );
    expect(answers.filter(({ body }) => body.allowed)).toHaveLength(7);
    for (const { body } of answers.filter((answer) => !answer.body.allowed)) {
      expect(body).toMatchObject({ allowed: false, reason: 'rate' });
      expect(body.retry_after_seconds).toBeGreaterThan(50);
    }
  });

  test('who waits for a lock is told after a few seconds, and not kept', async () => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const holder = sql.begin(async (transaction) => {
      await transaction`select from public.tenants where id = ${tenant.id} for update`;
      locked.resolve();
      await held;
    });
    await locked.promise;
    const startedAt = Date.now();
    const blocked = await people.owner.api.rpc('close_tenant', { tenant_id: tenant.id });
    expect(Date.now() - startedAt).toBeLessThan(10_000);
    release();
    await holder;
    expect(['55P03', '57014']).toContain(refusal(blocked).code);
    expect((await people.owner.api.rpc('close_tenant', { tenant_id: tenant.id })).error).toBeNull();
  });
});

test('a suspended tenant can be read and not written, and only the platform ends it', async () => {
  const service = client(stack, 'secret');
  const suspended = await service.rpc('suspend_tenant', { tenant_id: tenant.id, reason: 'does not pay' });
  expect(suspended.error).toBeNull();
  expect(ok(await people.viewer.api.from('campaigns').select('id').eq('id', tenant.campaign))).toHaveLength(
    1,
  );
  for (const name of ['close_tenant', 'reopen_tenant']) {
    expect(refusal(await people.owner.api.rpc(name, { tenant_id: tenant.id })).code).toBe('42501');
  }
  const invited = { tenant_id: tenant.id, email: 'a@example.org', role: 'viewer' };
  expect(refusal(await people.owner.api.rpc('invite_member', invited)).code).toBe('42501');
  expect((await service.rpc('reopen_tenant', { tenant_id: tenant.id })).error).toBeNull();
  expect((await people.owner.api.rpc('invite_member', invited)).error).toBeNull();
});

test('another’s tenant and one that does not exist get the same answers from every call', async () => {
  const outsider = (await signUp(stack, 'outsider')).api;
  const target = people.target.id;
  const calls: [string, Record<string, unknown>][] = [
    ['set_active_tenant', {}],
    ['close_tenant', {}],
    ['reopen_tenant', {}],
    ['suspend_tenant', { reason: 'x' }],
    ['leave_tenant', {}],
    ['list_members', {}],
    ['remove_member', { user_id: target }],
    ['change_role', { user_id: target, role: 'viewer' }],
    ['transfer_ownership', { user_id: target }],
    ['invite_member', { email: 'a@example.org' }],
    ['revoke_invitation', { invitation_id: nowhere }],
    ['create_campaign', { name: 'x' }],
  ];
  for (const [name, more] of calls) {
    const [theirs, none] = await Promise.all(
      [tenant.id, nowhere].map((id) => outsider.rpc(name, { tenant_id: id, ...more })),
    );
    expect(refusal(theirs as typeof none & object).code, name).toBe('42501');
    expect([theirs?.status, theirs?.error], name).toEqual([none?.status, none?.error]);
  }
});
