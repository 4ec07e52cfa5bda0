/** Quotes words for bash, and converts between a line and its words. */

const NEEDS_NO_QUOTES = /^[A-Za-z0-9_@%+=:,./-]+$/;
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/;

/**
 * Return text as one word of bash that means exactly this text.
 *
 * Control characters become escapes, because a terminal drops them when the line is pasted.
 */
export function quote(text: string): string {
  if (NEEDS_NO_QUOTES.test(text)) return text;
  if (!CONTROL.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll("'", "\\'")
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t')
    // An escape always has three digits. So bash does not read a following digit as a part of it.
    .replaceAll(/[\x00-\x1f\x7f]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `$'${escaped}'`;
}

const WORD = /\s*((?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+)\s*/y;
const PIECE = /\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"\\]+)/gs;

/**
 * Return the words of a line, or null if a quote is not closed. Variables and patterns are not
 * expanded.
 */
export function splitWords(line: string): string[] | null {
  const words = [];
  WORD.lastIndex = 0;
  const text = line.trim();
  while (WORD.lastIndex < text.length) {
    const match = WORD.exec(text);
    if (!match) return null;
    words.push(
      match[1]!.replaceAll(PIECE, (_, escaped?: string, single?: string, double?: string, plain?: string) =>
        escaped ?? single ?? double?.replaceAll(/\\(["\\$`])/g, '$1') ?? plain ?? '',
      ),
    );
  }
  return words;
}

/** Return words as a line that `splitWords` reads. */
export function joinWords(words: string[]): string {
  return words.map((word) => (/[\x00-\x1f\x7f]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : quote(word))).join(' ');
}
