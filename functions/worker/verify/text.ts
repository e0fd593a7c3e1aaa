// How texts, codes and names are compared: as people type them, not as machines would.

/** Case, width, dashes and invisible characters as keyboards change them: none of it makes another code. */
export function plain(text: string): string {
  return text
    .normalize('NFKC')
    .replace(/[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu, '')
    .replace(/[\p{Pd}\u2212]/gu, '-')
    .toLowerCase();
}

/** The code as a token: no letter and no digit touches it. */
export function containsCode(text: string, code: string): boolean {
  return hasToken(plain(text), plain(code).trim());
}

const inWord = /[\p{L}\p{N}\p{M}]/u;

/** Both are plain. No expression is compiled per pair: a page of comments and its claims are thousands of pairs, and CPU time is scarce. */
export function hasToken(text: string, token: string): boolean {
  if (token === '') return false;
  for (let at = text.indexOf(token); at >= 0; at = text.indexOf(token, at + 1)) {
    const before = Array.from(text.slice(Math.max(0, at - 2), at)).at(-1) ?? '';
    const after = String.fromCodePoint(text.codePointAt(at + token.length) ?? 0x20);
    if (!inWord.test(before) && !inWord.test(after)) return true;
  }
  return false;
}

/** The one-time codes in a text, as they are stored; each once. */
export function codesIn(text: string): string[] {
  const found = plain(text).match(/(?<![\p{L}\p{N}\p{M}])oc-[0-9a-z]{8}(?![\p{L}\p{N}\p{M}])/gu) ?? [];
  return [...new Set(found.map((code) => code.toUpperCase()))];
}

/** An Instagram name as it is compared: lower-case, without @. */
export function plainUsername(username: string): string {
  return plain(username).trim().replace(/^@+/, '');
}
