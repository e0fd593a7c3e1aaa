import { describe, expect, test } from 'vitest';
import { type EnvironmentName, readEnv, weaknessOf } from '../../functions/_shared/env.ts';
import { previousSecret, secret } from './fakes.ts';

const good: Partial<Record<EnvironmentName, string>> = {
  SUPABASE_URL: 'http://127.0.0.1:54321',
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_canary"}',
  CRON_SECRET: secret,
};
const read = (changes: Partial<Record<EnvironmentName, string>>) =>
  readEnv((name) => ({ ...good, ...changes })[name]);
const problemsOf = (changes: Partial<Record<EnvironmentName, string>>) => {
  const result = read(changes);
  return result.ok ? [] : result.problems;
};

describe('configuration', () => {
  test('a complete configuration is accepted, with the real providers where no other is named', () => {
    const result = read({});
    expect(result.ok && result.env).toMatchObject({
      secretKey: 'sb_secret_canary',
      cronSecrets: [secret],
      drainBudgetMs: 100_000,
      urls: {
        metaGraph: 'https://graph.facebook.com',
        metaInstagram: 'https://graph.instagram.com',
        whatsapp: 'https://graph.facebook.com',
        waapi: 'https://waapi.app',
        resend: 'https://api.resend.com',
      },
      databaseUrl: null,
      outboundHosts: [],
      traceProviders: false,
      otlp: null,
    });
  });

  test.each([
    ['missing', undefined],
    ['empty', ''],
    ['blank', '   '],
    ['the word undefined', 'undefined'],
    ['the word null', 'null'],
    ['1 character', 'x'],
    ['31 characters', secret.slice(0, 31)],
    ['one letter repeated', 'a'.repeat(64)],
    ['nine letters repeated', 'abcdefghi'.repeat(6)],
    ['a placeholder', 'change-me-0123456789abcdefghijklm'],
    ['with a line break', `${secret}\n`],
  ])('a cron secret that is %s is refused, and not repeated in the problem', (_name, value) => {
    const result = readEnv((name) => (name === 'CRON_SECRET' ? value : good[name]));
    expect(result.ok).toBe(false);
    const problems = result.ok ? [] : result.problems;
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^CRON_SECRET .*openssl rand/);
    if (value && value.length > 10) expect(problems[0]).not.toContain(value);
  });

  test('32 random characters are accepted', () => {
    expect(weaknessOf('9f8e7d6c5b4a39281706f5e4d3c2b1a0')).toBeNull();
    expect(problemsOf({ CRON_SECRET: secret.slice(0, 32) })).toEqual([]);
  });

  test('during a rotation both secrets are valid, and a weak previous one is refused', () => {
    const result = read({ CRON_SECRET_PREVIOUS: previousSecret });
    expect(result.ok && result.env.cronSecrets).toEqual([secret, previousSecret]);
    expect(problemsOf({ CRON_SECRET_PREVIOUS: 'short' })).toHaveLength(1);
    expect(read({ CRON_SECRET_PREVIOUS: '' }).ok).toBe(true);
  });

  test('the legacy service role key stands in for the secret keys', () => {
    const result = read({ SUPABASE_SECRET_KEYS: '', SUPABASE_SERVICE_ROLE_KEY: 'legacy' });
    expect(result.ok && result.env.secretKey).toBe('legacy');
    expect(problemsOf({ SUPABASE_SECRET_KEYS: '' })).toEqual(['SUPABASE_SECRET_KEYS is missing.']);
  });

  test.each(['not json', '{}', '{"default":""}', '[]'])('SUPABASE_SECRET_KEYS %s is refused', (value) => {
    expect(problemsOf({ SUPABASE_SECRET_KEYS: value })[0]).toMatch(/^SUPABASE_SECRET_KEYS is not valid/);
  });

  test('a missing project URL is named', () => {
    const result = readEnv((name) => (name === 'SUPABASE_URL' ? undefined : good[name]));
    expect(result).toEqual({ ok: false, problems: ['SUPABASE_URL is missing.'] });
  });

  test.each([
    'http://graph.facebook.com',
    'http://169.254.169.254',
    'http://10.0.0.1',
    'http://127.0.0.1.evil.tld',
    'https://user:pass@graph.facebook.com',
    'ftp://127.0.0.1',
    'file:///etc/passwd',
    'graph.facebook.com',
  ])('a provider at %s is refused', (url) => {
    expect(problemsOf({ META_GRAPH_URL: url })[0]).toMatch(/^META_GRAPH_URL is not valid/);
  });

  test.each([
    ['https://graph.facebook.com/', 'https://graph.facebook.com'],
    ['http://127.0.0.1:4001/', 'http://127.0.0.1:4001'],
    ['http://127.0.0.1:4001/graph.facebook.com', 'http://127.0.0.1:4001/graph.facebook.com'],
    ['http://localhost:4001', 'http://localhost:4001'],
  ])('a provider at %s is accepted', (url, expected) => {
    const result = read({ META_GRAPH_URL: url });
    expect(result.ok && result.env.urls.metaGraph).toBe(expected);
  });

  test('a collector is taken with its headers, decoded', () => {
    const result = read({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otlp.example.com/base/',
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Bearer%20canary%3D%3D, x-team=ops',
    });
    expect(result.ok && result.env.otlp).toEqual({
      endpoint: 'https://otlp.example.com/base',
      headers: { authorization: 'Bearer canary==', 'x-team': 'ops' },
    });
  });

  test.each([
    ['http://collector:4318', undefined, true],
    ['http://127.0.0.1:4318', 'authorization=canary', true],
    ['http://collector:4318', 'authorization=canary', false],
    ['https://user:canary@collector', undefined, false],
    ['https://collector/?token=canary', undefined, false],
    ['grpc://collector:4317', undefined, false],
    ['https://collector', 'canary', false],
    ['https://collector', 'a b=canary', false],
    ['https://collector', 'x=%0d%0acanary', false],
    ['https://collector', 'x=%canary', false],
  ])('a collector at %s with the headers %s: accepted is %s', (url, headers, accepted) => {
    const given = {
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      ...(headers && { OTEL_EXPORTER_OTLP_HEADERS: headers }),
    };
    expect(read(given).ok).toBe(accepted);
    expect(problemsOf(given).join(' ')).not.toContain('canary');
  });

  test('hosts that may be called though they are not public are a list, under both names, with 443 where no port is named', () => {
    const result = read({
      OUTBOUND_HOSTS: '127.0.0.1:9001',
      ALERT_WEBHOOK_HOSTS: '127.0.0.1:9000, Chat.example.com',
    });
    expect(result.ok && result.env.outboundHosts).toEqual([
      '127.0.0.1:9001',
      '127.0.0.1:9000',
      'chat.example.com:443',
    ]);
    expect(problemsOf({ ALERT_WEBHOOK_HOSTS: 'https://chat.example.com/x' })).toHaveLength(1);
    expect(problemsOf({ ALERT_WEBHOOK_HOSTS: 'user@chat.example.com' })).toHaveLength(1);
  });

  test('a connection string that is not understood does not stop the other jobs', () => {
    const url = 'postgresql://postgres:pass@127.0.0.1:5432/postgres';
    const good = read({ SUPABASE_DB_URL: url });
    expect(good.ok && good.env.databaseUrl).toBe(url);
    for (const odd of ['', 'mysql://x', 'postgres']) {
      const result = read({ SUPABASE_DB_URL: odd });
      expect(result.ok && result.env.databaseUrl).toBeNull();
    }
  });
});
