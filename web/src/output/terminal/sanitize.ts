/**
 * Makes output safe to show. It lets through text, line ends, and escape sequences that only draw.
 *
 * Everything else is dropped because it is not on the lists below: titles, clipboard, links, palette
 * changes, queries that a terminal would answer, mouse modes, the alternate screen. Every newline
 * byte stays exactly one newline, even inside a sequence, so that the lines of the input and of the
 * terminal can be counted the same way.
 *
 * A terminal in which the reader types needs more: `new Sanitizer(true)` also lets through what
 * programs that use the whole screen need. Titles, clipboard, links and palette are dropped there too.
 */

/** The final characters of control sequences that only draw. */
const DRAWING_FINALS = new Set([...'mKABCDEFGHfPX@LMSTdabeu`']);
const ALLOWED_MODES = /^\?(7|25)(;(7|25))*$/;
/**
 * The largest repeat count for sequences that a terminal repeats: scrolling, inserting and deleting
 * lines, repeating a character. More has no visible effect, and a count of two billion would block
 * the page for hours.
 */
const MAX_COUNTS: Readonly<Record<string, number>> = { S: 64, T: 64, L: 64, M: 64, '^': 64, b: 512, I: 512, Z: 512 };
/** Control sequences that a terminal answers, as `parameters final`. */
const QUERY = /[cn]$|^>.*q$|\$p$|^\?u$/;
/** Final characters of sequences without parameters that a full-screen program may use. */
const SCREEN_ESCAPES = new Set([...'78MDEHc=>']);
const MAX_SEQUENCE_LENGTH = 256;
const MAX_STRING_LENGTH = 4096;

type State = 'text' | 'escape' | 'charset' | 'control' | 'string' | 'string-escape';

export class Sanitizer {
  #state: State = 'text';
  #sequence = '';
  #skipped = 0;
  readonly #fullScreen: boolean;
  /** Whether queries that the terminal answers are let through, if full-screen programs are. */
  queries = false;

  /** @param fullScreen - whether to let through what programs that use the whole screen need. */
  constructor(fullScreen = false) {
    this.#fullScreen = fullScreen;
  }

  /** Return the text that may be written to a terminal. An unfinished sequence waits for more text. */
  push(text: string): string {
    // Nearly all output is plain text, which need not be checked character by character.
    if (this.#state === 'text' && !/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/.test(text)) return text;
    let out = '';
    for (const char of text) out += this.#read(char);
    return out;
  }

  #read(char: string): string {
    if (char === '\n') {
      this.#state = 'text';
      return char;
    }
    switch (this.#state) {
      case 'text':
        return this.#readText(char);
      case 'escape':
        return this.#readEscape(char);
      case 'charset':
        this.#state = 'text';
        return this.#fullScreen && /^[()*+]$/.test(this.#sequence) ? `\x1b${this.#sequence}${char}` : '';
      case 'control':
        return this.#readControl(char);
      default:
        return this.#readString(char);
    }
  }

  #readText(char: string): string {
    const code = char.codePointAt(0)!;
    if (char === '\x1b') {
      this.#state = 'escape';
      return '';
    }
    if (code >= 0x20 && code < 0x7f) return char;
    if (char === '\r' || char === '\t' || char === '\b') return char;
    if (this.#fullScreen && code >= 0x0b && code <= 0x0f) return char;
    // The eight-bit forms of sequences are rare in UTF-8 text and common in binary data.
    return code < 0xa0 ? '' : char;
  }

  #readEscape(char: string): string {
    if (char === '[') {
      this.#state = 'control';
      this.#sequence = '';
      return '';
    }
    if (char === ']' || char === 'P' || char === 'X' || char === '^' || char === '_') {
      this.#state = 'string';
      this.#skipped = 0;
      return '';
    }
    if (char === '\x1b') return '';
    if (char >= ' ' && char <= '/') {
      this.#state = 'charset';
      this.#sequence = char;
      return '';
    }
    this.#state = 'text';
    if (this.#fullScreen) return SCREEN_ESCAPES.has(char) ? `\x1b${char}` : '';
    // A reset only resets the colours. It must not clear the output.
    if (char === 'c') return '\x1b[0m';
    return char === '7' || char === '8' || char === 'M' ? `\x1b${char}` : '';
  }

  #readControl(char: string): string {
    if (char === '\x1b') {
      this.#state = 'escape';
      return '';
    }
    if (char < ' ') return char === '\r' || char === '\b' || char === '\t' ? char : '';
    if (char >= '@' && char <= '~') {
      this.#state = 'text';
      return this.#isAllowed(this.#sequence, char) ? `\x1b[${limitCount(this.#sequence, char)}${char}` : '';
    }
    this.#sequence += char;
    if (char > '~' || this.#sequence.length > MAX_SEQUENCE_LENGTH) this.#state = 'text';
    return '';
  }

  #isAllowed(parameters: string, final: string): boolean {
    if (this.#fullScreen) return this.queries || !QUERY.test(parameters + final);
    if (final === 'h' || final === 'l') return ALLOWED_MODES.test(parameters);
    if (!/^[0-9;:]*$/.test(parameters)) return false;
    // 3J would erase the lines above. 2J is safe: it pushes them up (scrollOnEraseInDisplay).
    if (final === 'J') return /^[012]?$/.test(parameters);
    return DRAWING_FINALS.has(final) || (final === 's' && !parameters);
  }

  #readString(char: string): string {
    if (this.#state === 'string-escape') {
      this.#state = char === '\\' ? 'text' : 'string';
      return char === '\\' ? '' : this.#readString(char);
    }
    if (char === '\x07' || char === '\x18' || char === '\x1a') this.#state = 'text';
    else if (char === '\x1b') this.#state = 'string-escape';
    // A string that never ends is binary data, or the script died in the middle of it.
    else if (++this.#skipped > MAX_STRING_LENGTH) this.#state = 'text';
    return '';
  }
}

function limitCount(parameters: string, final: string): string {
  const max = MAX_COUNTS[final];
  if (max === undefined) return parameters;
  return parameters.replace(/^\d+/, (count) => String(Math.min(Number(count), max)));
}
