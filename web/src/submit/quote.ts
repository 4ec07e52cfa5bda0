/** Words as a shell reads them. */

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/;

/**
 * Return text as one word of bash that stands for exactly this text.
 *
 * Characters that a terminal would swallow when the line is pasted are written as escapes.
 */
export function quote(text: string): string {
  if (PLAIN.test(text)) return text;
  if (!CONTROL.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll("'", "\\'")
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t')
    // Always three digits, so that a digit that follows is not taken for a part of it.
    // eslint-disable-next-line no-control-regex
    .replaceAll(/[\x00-\x1f\x7f]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `$'${escaped}'`;
}

/** Return words as a line, broken before each option so that it can be read. */
export function line(words: string[][]): string {
  return words.map((part) => part.map(quote).join(' ')).join(' \\\n  ');
}
