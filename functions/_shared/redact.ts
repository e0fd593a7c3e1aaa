// Redaction by value: whoever handles a secret names it here, and every sink (logs, errors, outcomes) passes its
// text through. Redaction by key name would miss a secret inside a URL, an echoed body or an error text.

export type Redact = (text: string) => string;

const placeholder = '[redacted]';

/** Shorter values would black out ordinary words. */
const shortestRedacted = 4;

function base64(bytes: Uint8Array): string {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** The base64 text of a value as it looks inside a longer base64 text, for each of the three alignments. */
function base64Forms(value: string): string[] {
  const bytes = new TextEncoder().encode(value);
  const forms: string[] = [];
  for (let shift = 0; shift < 3; shift++) {
    const shifted = new Uint8Array(bytes.length + shift);
    shifted.set(bytes, shift);
    const encoded = base64(shifted).replace(/=+$/, '');
    // Characters that share bits with a neighbour differ from text to text: they are cut off.
    const start = shift === 0 ? 0 : shift + 1;
    const end = Math.floor((shifted.length * 8) / 6);
    forms.push(encoded.slice(start, end));
  }
  return forms.flatMap((form) => [form, form.replaceAll('+', '-').replaceAll('/', '_')]);
}

/** A secret in every form in which it could surface: raw, URL-encoded, form-encoded, base64, JSON-escaped. */
export function formsOf(secret: string): string[] {
  // A lone surrogate can't be URL-encoded.
  const wellFormed = new TextDecoder().decode(new TextEncoder().encode(secret));
  const encoded = encodeURIComponent(wellFormed);
  const strict = encoded.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const form = new URLSearchParams({ v: wellFormed }).toString().slice(2);
  const json = JSON.stringify(secret).slice(1, -1);
  const ascii = json.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const lower = (value: string) => value.replace(/%[0-9A-F]{2}/g, (octet) => octet.toLowerCase());
  const urls = [encoded, strict, form, encodeURI(wellFormed)];
  return [
    secret,
    wellFormed,
    ...urls,
    ...urls.map(lower),
    json,
    json.replaceAll('/', '\\/'),
    ascii,
    ascii.replaceAll('/', '\\/'),
    ...base64Forms(wellFormed).filter((value) => value.length >= 8),
  ];
}

/** Replaces every form of every secret. Redact first, shorten afterwards: a cut secret is no longer recognised. */
export function createRedactor(secrets: readonly string[]): Redact {
  const forms = new Set(secrets.filter((secret) => secret.length >= shortestRedacted).flatMap(formsOf));
  const longestFirst = [...forms]
    .filter((form) => form.length >= shortestRedacted)
    .sort((a, b) => b.length - a.length);
  if (longestFirst.length === 0) return (text) => text;
  const pattern = new RegExp(
    longestFirst.map((form) => form.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')).join('|'),
    'g',
  );
  return (text) => text.replace(pattern, placeholder);
}

/** Every string inside a value, at any depth: how the secrets of a credential are collected. */
export function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap(stringsIn);
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(stringsIn);
  return [];
}

// Control characters, invisible ones that break a line or turn its direction, and halves of surrogate pairs.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** A provider's text made fit for one line of an error: redacted, printable, at most `length` characters. */
export function oneLine(text: string, redact: Redact, length = 300): string {
  const line = redact(text).replace(unprintable, ' ').replace(/\s+/g, ' ').trim();
  const characters = Array.from(line);
  return characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : line;
}
