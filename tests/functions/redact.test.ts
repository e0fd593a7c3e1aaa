import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../functions/_shared/log.ts';
import { createRedactor, oneLine, stringsIn } from '../../functions/_shared/redact.ts';

const canary = 'cAn4ry/+=&"\\ä€😀-tok';
const base64 = (text: string) => Buffer.from(text, 'utf8').toString('base64');

describe('redaction by value', () => {
  const forms: Record<string, string> = {
    raw: canary,
    'URL-encoded': encodeURIComponent(canary),
    'URL-encoded in lower case': encodeURIComponent(canary).replace(/%../g, (octet) => octet.toLowerCase()),
    'form-encoded': new URLSearchParams({ q: canary }).toString().slice(2),
    'JSON-escaped': JSON.stringify(canary).slice(1, -1),
    'JSON-escaped with slashes': JSON.stringify(canary).slice(1, -1).replaceAll('/', '\\/'),
    'JSON-escaped to ASCII': JSON.stringify(canary)
      .slice(1, -1)
      .replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
  };
  test.each(Object.entries(forms))('%s is found', (_name, form) => {
    expect(createRedactor([canary])(`before ${form} after`)).toBe('before [redacted] after');
  });

  test.each(['', 'x', 'xy', 'xyz', 'Basic '])('base64 after "%s" is found, url-safe too', (prefix) => {
    const redact = createRedactor([canary]);
    const encoded = base64(`${prefix}${canary}`);
    const left = redact(encoded);
    expect(left).toContain('[redacted]');
    expect(left.length).toBeLessThan(base64(prefix).length + '[redacted]'.length + 6);
    expect(redact(encoded.replaceAll('+', '-').replaceAll('/', '_'))).toContain('[redacted]');
  });

  test('no form of any secret survives any text around it', () => {
    const word = fc.string({ unit: 'grapheme', minLength: 8, maxLength: 40 });
    fc.assert(
      fc.property(word, fc.string(), fc.string(), (secret, before, after) => {
        const redact = createRedactor([secret]);
        for (const form of [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)]) {
          expect(redact(`${before} ${form} ${after}`)).not.toContain(` ${form} `);
        }
      }),
    );
  });

  test('of two secrets the longer one goes first', () => {
    expect(createRedactor(['secret-a', 'secret-a-longer'])('x secret-a-longer y secret-a')).toBe(
      'x [redacted] y [redacted]',
    );
  });

  test('what is no secret stays, and short values black nothing out', () => {
    expect(createRedactor([canary, 'a', ''])('a banana')).toBe('a banana');
  });

  test('a line for an error is redacted before it is cut, printable, and within its length', () => {
    const redact = createRedactor(['0123456789']);
    expect(oneLine(`${'x'.repeat(15)}0123456789`, redact, 20)).toBe(`${'x'.repeat(15)}[red…`);
    expect(oneLine('a\r\nb\u001b[31m\u202ec\u0000 \ud800d', redact)).toBe('a b [31m c d');
  });

  test('the secrets of a credential are found at any depth', () => {
    expect(stringsIn({ access_token: 'a', nested: [{ app_secret: 'b' }], n: 1, none: null })).toEqual([
      'a',
      'b',
    ]);
    expect(stringsIn(undefined)).toEqual([]);
  });
});

describe('log', () => {
  function logged(use: (log: ReturnType<typeof createLog>) => void): string[] {
    const lines: string[] = [];
    use(createLog({ write: (line) => lines.push(line), now: () => 0, secrets: ['base-secret-1'] }));
    return lines;
  }

  test('is one JSON line with the ids that lead to the rows', () => {
    const [line] = logged((log) =>
      log.with({ job: 'a', batch: 7 }).info('event', { tenant: 'gym', item: 3, trace_id: 'ff' }),
    );
    expect(JSON.parse(line ?? '')).toEqual({
      time: '1970-01-01T00:00:00.000Z',
      level: 'info',
      event: 'event',
      job: 'a',
      batch: 7,
      tenant: 'gym',
      item: 3,
      trace_id: 'ff',
    });
  });

  test('a forged line stays inside its field', () => {
    const [line] = logged((log) =>
      log.warn('event', { text: 'a\n{"level":"error"}\r\u2028\u0085\u001b[2J\u202e' }),
    );
    expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    expect(JSON.parse(line ?? '').text).toBe('a\n{"level":"error"}\r\u2028\u0085\u001b[2J\u202e');
  });

  test('hides the secrets of the function and those of the tenant at work', () => {
    const lines = logged((log) => {
      const tenant = log.with({}, ['tenant-secret-2']);
      tenant.error('tenant-secret-2', {
        error: 'base-secret-1 and tenant-secret-2',
        list: ['tenant-secret-2'],
      });
      log.info('other', { text: 'tenant-secret-2' });
    });
    expect(lines[0]).not.toMatch(/base-secret-1|tenant-secret-2/);
    expect(lines[1], 'a tenant’s secrets are hidden in its own lines only').toContain('tenant-secret-2');
  });

  test('a huge field is cut', () => {
    expect(logged((log) => log.info('event', { text: 'x'.repeat(100_000) }))[0]?.length).toBeLessThan(3_000);
  });
});
