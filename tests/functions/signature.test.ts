import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constantTimeEqual, indexOfSecret, sign, verify } from '../../functions/_shared/signature.ts';
import { previousSecret, secret } from './fakes.ts';

const body = '{"ticket": "22222222-2222-4222-8222-222222222222"}';
const at = 1_795_000_000;
const check = (header: string | null, changes: Partial<Parameters<typeof verify>[0]> = {}) =>
  verify({ header, body, secrets: [secret], nowSeconds: at, ...changes });

describe('signature', () => {
  test('equals the HMAC that pgcrypto computes over t, a dot and the body', async () => {
    const expected = createHmac('sha256', secret).update(`${at}.${body}`).digest('hex');
    expect(await sign({ secret, timestamp: at, body })).toBe(`t=${at},v1=${expected}`);
  });

  test('any unicode body that is signed is accepted, as text and as bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'binary', maxLength: 300 }),
        fc.nat(2 ** 31),
        async (text, timestamp) => {
          const header = await sign({ secret, timestamp, body: text });
          const bytes = new TextEncoder().encode(text);
          expect(
            await verify({ header, body: text, secrets: [secret], nowSeconds: timestamp }),
          ).toMatchObject({ valid: true });
          expect(
            await verify({ header, body: bytes, secrets: [secret], nowSeconds: timestamp }),
          ).toMatchObject({ valid: true });
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('another body, timestamp or secret is refused', async () => {
    const header = await sign({ secret, timestamp: at, body });
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (text) => {
        fc.pre(text !== body);
        expect(await check(header, { body: text })).toEqual({ valid: false, reason: 'mismatch' });
      }),
    );
    expect(await check(header.replace(`t=${at}`, `t=${at + 1}`))).toEqual({
      valid: false,
      reason: 'mismatch',
    });
    expect(await check(header, { secrets: [previousSecret] })).toEqual({ valid: false, reason: 'mismatch' });
    expect(await check(header)).toEqual({ valid: true, secretIndex: 0 });
  });

  test.each([
    [0, true],
    [299, true],
    [300, true],
    [301, false],
    [-300, true],
    [-301, false],
    [86_400, false],
  ])('a signature that is %i s old is valid: %s', async (age, valid) => {
    const header = await sign({ secret, timestamp: at - age, body });
    expect((await check(header)).valid).toBe(valid);
  });

  test('the previous secret is valid during a rotation and is told apart', async () => {
    const header = await sign({ secret: previousSecret, timestamp: at, body });
    expect(await check(header, { secrets: [secret, previousSecret] })).toEqual({
      valid: true,
      secretIndex: 1,
    });
  });

  test('an empty secret never opens anything', async () => {
    const header = `t=${at},v1=${createHmac('sha256', '').update(`${at}.${body}`).digest('hex')}`;
    expect((await check(header, { secrets: [''] })).valid).toBe(false);
    expect((await check(header, { secrets: [] })).valid).toBe(false);
    expect(await indexOfSecret('', [''])).toBe(-1);
  });

  test.each([
    [null, 'missing'],
    ['', 'missing'],
    ['t=1', 'malformed'],
    ['v1=00', 'malformed'],
    [`t=${at},v1=abc`, 'malformed'],
    [`t=${at},v1=${'0'.repeat(63)}`, 'malformed'],
    [`t=${at},v1=${'0'.repeat(65)}`, 'malformed'],
    [`t=${at},v1=${'G'.repeat(64)}`, 'malformed'],
    [`t=${at}.5,v1=${'0'.repeat(64)}`, 'malformed'],
    [`t=-${at},v1=${'0'.repeat(64)}`, 'malformed'],
    [`t=1e9,v1=${'0'.repeat(64)}`, 'malformed'],
    [`t=${at},v1=${'0'.repeat(64)},v1=${'0'.repeat(64)}`, 'malformed'],
    [`t=${at},v1=${'0'.repeat(64)}`, 'mismatch'],
  ])('the header %s is refused as %s', async (header, reason) => {
    expect(await check(header)).toEqual({ valid: false, reason });
  });

  test('values of unequal length are unequal, not an error', async () => {
    expect(await constantTimeEqual('a', 'ab')).toBe(false);
    expect(await constantTimeEqual('', 'a')).toBe(false);
    expect(await constantTimeEqual('ä', 'a')).toBe(false);
    expect(await constantTimeEqual('same', 'same')).toBe(true);
  });
});
