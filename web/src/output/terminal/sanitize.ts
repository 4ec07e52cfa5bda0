/**
 * Makes output safe to show: text, line ends, and the escape sequences that only draw.
 *
 * Everything else is dropped, by being on no list: titles, clipboard, links, palette changes,
 * questions a terminal would answer, mouse modes, the other screen. Every newline byte stays exactly
 * one newline, whatever it stands in, so that lines can be counted on either side.
 */

/** Finals of control sequences that only draw. */
const DRAWING = new Set([...'mKABCDEFGHfPX@LMSTdabeu`']);
const SHOWN_MODES = /^\?(7|25)(;(7|25))*$/;
/**
 * What a terminal does as often as it is told, and the most that can be seen of it: scrolling, lines
 * put in and taken out, a character repeated. Two billion of them would stand still for hours.
 */
const MOST: Readonly<Record<string, number>> = { S: 64, T: 64, L: 64, M: 64, b: 512 };
const LONGEST_SEQUENCE = 256;
const LONGEST_STRING = 4096;

type State = 'text' | 'escape' | 'charset' | 'control' | 'string' | 'string-escape';

export class Sanitizer {
  #state: State = 'text';
  #sequence = '';
  #skipped = 0;

  /** Return what may be written to a terminal; an unfinished sequence waits for its rest. */
  push(text: string): string {
    // Nearly all output is plain: no need to look at each character.
    // eslint-disable-next-line no-control-regex
    if (this.#state === 'text' && !/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/.test(text)) return text;
    let out = '';
    for (const char of text) out += this.#take(char);
    return out;
  }

  #take(char: string): string {
    if (char === '\n') {
      this.#state = 'text';
      return char;
    }
    switch (this.#state) {
      case 'text':
        return this.#plain(char);
      case 'escape':
        return this.#escape(char);
      case 'charset':
        this.#state = 'text';
        return '';
      case 'control':
        return this.#control(char);
      default:
        return this.#string(char);
    }
  }

  #plain(char: string): string {
    const code = char.codePointAt(0)!;
    if (char === '\x1b') {
      this.#state = 'escape';
      return '';
    }
    if (code >= 0x20 && code < 0x7f) return char;
    if (char === '\r' || char === '\t' || char === '\b') return char;
    // The eight-bit forms of sequences are rare in UTF-8, and binary data is full of them.
    return code < 0xa0 ? '' : char;
  }

  #escape(char: string): string {
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
      return '';
    }
    this.#state = 'text';
    // A reset must not leave colours behind, but it may not clear what was printed.
    if (char === 'c') return '\x1b[0m';
    return char === '7' || char === '8' || char === 'M' ? `\x1b${char}` : '';
  }

  #control(char: string): string {
    if (char === '\x1b') {
      this.#state = 'escape';
      return '';
    }
    if (char < ' ') return char === '\r' || char === '\b' || char === '\t' ? char : '';
    if (char >= '@' && char <= '~') {
      this.#state = 'text';
      return this.#allowed(this.#sequence, char) ? `\x1b[${bounded(this.#sequence, char)}${char}` : '';
    }
    this.#sequence += char;
    if (char > '~' || this.#sequence.length > LONGEST_SEQUENCE) this.#state = 'text';
    return '';
  }

  #allowed(parameters: string, final: string): boolean {
    if (final === 'h' || final === 'l') return SHOWN_MODES.test(parameters);
    if (!/^[0-9;:]*$/.test(parameters)) return false;
    // 3J would erase the lines above; 2J pushes them up instead (scrollOnEraseInDisplay).
    if (final === 'J') return /^[012]?$/.test(parameters);
    return DRAWING.has(final) || (final === 's' && !parameters);
  }

  #string(char: string): string {
    if (this.#state === 'string-escape') {
      this.#state = char === '\\' ? 'text' : 'string';
      return char === '\\' ? '' : this.#string(char);
    }
    if (char === '\x07' || char === '\x18' || char === '\x1a') this.#state = 'text';
    else if (char === '\x1b') this.#state = 'string-escape';
    // What never ends is no sequence: binary data, or a script that died in the middle of one.
    else if (++this.#skipped > LONGEST_STRING) this.#state = 'text';
    return '';
  }
}

function bounded(parameters: string, final: string): string {
  const most = MOST[final];
  if (most === undefined) return parameters;
  return parameters.replace(/^\d+/, (count) => String(Math.min(Number(count), most)));
}
