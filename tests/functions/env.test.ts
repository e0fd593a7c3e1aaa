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
      },
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
});
