/**
 * One terminal that shows a range of output, and knows where each of its lines came from.
 *
 * A screen only grows at its end. For anything else (earlier output, another filter, another width)
 * a new one is made beside it and takes its place when it is ready, so that nothing flickers.
 */
import { type ISearchOptions, SearchAddon } from '@xterm/addon-search';
import { type IMarker, type ITheme, Terminal } from '@xterm/xterm';
import type { StreamName } from '../../api/types';
import { type Chunk, NEWLINE } from '../chunks';
import { OutputText } from './decode';

export interface ScreenOptions {
  cols: number;
  rows: number;
  theme: ITheme;
  /** what is shown; null: both streams */
  stream: StreamName | null;
  readAloud: boolean;
}

/** Where a row of the terminal came from. */
export interface Line {
  position: number;
  time: number;
  /** whether any of it is stderr */
  stderr: boolean;
}

interface Mark extends Line {
  row: number;
  empty: boolean;
}

export const FONT =
  'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
export const MOST_LINES = 20_000;
/** A cell takes 12 bytes: this many lines times columns are about 50 MB. */
const MOST_CELLS = 4_200_000;
/** What is given to the terminal at once: it parses this in a few milliseconds. */
const PIECE_BYTES = 16 << 10;
const FRAME_BYTES = 64 << 10;
const RENEW_ROWS = 500;

/** Return how many lines a terminal of some width may keep. */
export function capacity(cols: number): number {
  return Math.max(1000, Math.min(MOST_LINES, Math.floor(MOST_CELLS / cols)));
}

export class Screen {
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  readonly element: HTMLElement;
  readonly options: ScreenOptions;
  /** the longest line so far, in characters */
  longest = 0;

  readonly #text = new OutputText();
  #queue: Chunk[] = [];
  /** bytes that were written, given to the terminal, and parsed by it, since the beginning */
  #written = 0;
  #given = 0;
  #parsed = 0;
  #waiting: (() => void)[] = [];
  #scheduled = false;
  #gone = false;

  /** Marks of rows in order; rows count from the first that ever was. */
  #marks: Mark[] = [];
  #anchor: { marker: IMarker; row: number } | null = null;
  /** positions behind the newlines of the piece that is being parsed */
  #feeds: number[] = [];
  #feed = 0;
  #current: Chunk | null = null;
  #width = 0;

  constructor(host: HTMLElement, options: ScreenOptions) {
    this.options = options;
    this.element = document.createElement('div');
    this.element.className = 'screen';
    host.append(this.element);
    this.terminal = new Terminal({
      cols: options.cols,
      rows: options.rows,
      scrollback: capacity(options.cols),
      theme: options.theme,
      fontFamily: FONT,
      fontSize: 13,
      lineHeight: 1.3,
      convertEol: true,
      disableStdin: true,
      cursorBlink: false,
      cursorStyle: 'bar',
      cursorWidth: 1,
      cursorInactiveStyle: 'none',
      minimumContrastRatio: 4.5,
      scrollOnEraseInDisplay: true,
      smoothScrollDuration: 0,
      screenReaderMode: options.readAloud,
      linkHandler: { activate: () => undefined },
      allowProposedApi: true,
    });
    this.terminal.loadAddon(this.search);
    this.terminal.open(this.element);
    // No key is for the terminal: it has nobody to send it to.
    this.terminal.attachCustomKeyEventHandler(() => false);
    this.terminal.onLineFeed(() => this.#lineFed());
  }

  dispose(): void {
    this.#gone = true;
    this.#queue = [];
    this.terminal.dispose();
    this.element.remove();
    this.#release();
  }

  // Writing

  write(chunk: Chunk): void {
    if (this.options.stream && chunk.stream !== this.options.stream) return;
    for (let at = 0; at < chunk.bytes.length; at += PIECE_BYTES) {
      const bytes = chunk.bytes.subarray(at, at + PIECE_BYTES);
      this.#queue.push({ ...chunk, position: chunk.position + at, bytes });
    }
    this.#written += chunk.bytes.length;
    this.#schedule();
  }

  /** Wait until less than so many bytes wait to be drawn. */
  async below(bytes: number): Promise<void> {
    while (!this.#gone && this.#written - this.#parsed > bytes) await this.#progress();
  }

  /** Wait until all that was written until now is in the terminal; more may follow. */
  async drawn(): Promise<void> {
    const written = this.#written;
    while (!this.#gone && this.#parsed < written) await this.#progress();
  }

  #progress(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #schedule(): void {
    if (this.#scheduled || this.#gone || !this.#queue.length) return;
    this.#scheduled = true;
    const give = () => {
      this.#scheduled = false;
      this.#give();
    };
    // Frames do not come while the tab is hidden.
    if (document.hidden) setTimeout(give, 50);
    else requestAnimationFrame(give);
  }

  #give(): void {
    let count = 0;
    while (count < this.#queue.length && this.#given - this.#parsed < FRAME_BYTES) {
      const chunk = this.#queue[count++]!;
      this.#given += chunk.bytes.length;
      const text = this.#text.push(chunk);
      this.#measure(text);
      // An empty write in front: its callback runs right before this chunk is parsed.
      this.terminal.write('', () => this.#begin(chunk));
      this.terminal.write(text, () => {
        this.#parsed += chunk.bytes.length;
        if (this.#parsed < this.#given) return;
        this.#release();
        this.#schedule();
      });
    }
    this.#queue = this.#queue.slice(count);
  }

  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #measure(text: string): void {
    let begin = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', begin)) {
      this.#width += end - begin;
      if (this.#width > this.longest) this.longest = this.#width;
      this.#width = 0;
      begin = end + 1;
    }
    this.#width += text.length - begin;
    if (this.#width > this.longest) this.longest = this.#width;
  }

  // Rows and positions

  get #trimmed(): number {
    return this.#anchor ? this.#anchor.row - this.#anchor.marker.line : 0;
  }

  #cursorRow(): number {
    const { baseY, cursorY } = this.terminal.buffer.active;
    const row = baseY + cursorY + this.#trimmed;
    if (!this.#anchor || row - this.#anchor.row > RENEW_ROWS) {
      // Lines leave at the top without a word; a marker knows by how many all have moved.
      const marker = this.terminal.registerMarker(0);
      this.#anchor?.marker.dispose();
      this.#anchor = { marker, row };
    }
    return row;
  }

  #begin(chunk: Chunk): void {
    if (this.#gone) return;
    this.#current = chunk;
    this.#feeds = [];
    this.#feed = 0;
    for (let at = chunk.bytes.indexOf(NEWLINE); at >= 0; at = chunk.bytes.indexOf(NEWLINE, at + 1)) {
      this.#feeds.push(chunk.position + at + 1);
    }
    const stderr = chunk.stream === 'stderr';
    const row = this.#cursorRow();
    const mark = this.#markAt(row);
    if (!mark || mark.row < row) {
      this.#mark({ row, position: chunk.position, time: chunk.time, stderr, empty: false });
    } else if (mark.empty) {
      Object.assign(mark, { position: chunk.position, time: chunk.time, stderr, empty: false });
    } else {
      mark.stderr ||= stderr;
    }
  }

  #lineFed(): void {
    const chunk = this.#current;
    const position = this.#feeds[this.#feed++];
    if (!chunk || position === undefined) return;
    const row = this.#cursorRow();
    const more = position < chunk.position + chunk.bytes.length;
    const stderr = more && chunk.stream === 'stderr';
    const known = this.#markAt(row);
    // A line that is drawn over keeps where it came from.
    if (known?.row === row) known.stderr ||= stderr;
    else this.#mark({ row, position, time: chunk.time, stderr, empty: !more });
  }

  #mark(mark: Mark): void {
    const last = this.#marks.at(-1);
    if (!last || mark.row > last.row) this.#marks.push(mark);
    // A quarter more than there are rows: then what is trimmed is dropped at once.
    if (this.#marks.length > capacity(this.options.cols) * 1.25) {
      const trimmed = this.#trimmed;
      const first = this.#marks.findIndex((found) => found.row >= trimmed);
      if (first > 0) this.#marks = this.#marks.slice(first);
    }
  }

  /** Return the last mark at or above a row. */
  #markAt(row: number): Mark | null {
    let low = 0;
    let high = this.#marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#marks[middle]!.row <= row) low = middle + 1;
      else high = middle;
    }
    return this.#marks[low - 1] ?? null;
  }

  /**
   * Return where a row of the buffer came from; null where nothing was written.
   *
   * @param row - as the terminal counts now.
   */
  line(row: number): (Line & { first: boolean }) | null {
    const absolute = row + this.#trimmed;
    const mark = this.#markAt(absolute);
    if (!mark || (mark.empty && absolute >= mark.row)) return null;
    const last = this.terminal.buffer.active.baseY + this.terminal.buffer.active.cursorY;
    if (row > last) return null;
    return { ...mark, first: mark.row === absolute };
  }

  /** Return the first line that begins on the screen, and on which of its rows. */
  topLine(): (Line & { y: number }) | null {
    const { viewportY } = this.terminal.buffer.active;
    for (let y = 0; y < this.terminal.rows; y++) {
      const line = this.line(viewportY + y);
      if (line?.first) return { ...line, y };
    }
    return null;
  }

  /** Return the row, as the terminal counts now, of the line that holds a position. */
  rowOf(position: number): number {
    const mark = this.#holding(position);
    return mark ? Math.max(0, mark.row - this.#trimmed) : 0;
  }

  /** Return where the line that holds a position begins. */
  lineStart(position: number): number {
    return this.#holding(position)?.position ?? position;
  }

  #holding(position: number): Mark | null {
    let low = 0;
    let high = this.#marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#marks[middle]!.position <= position) low = middle + 1;
      else high = middle;
    }
    return this.#marks[low - 1] ?? this.#marks[0] ?? null;
  }

  /** Return the position of the first row that is still there. */
  get firstPosition(): number | null {
    const mark = this.#markAt(this.#trimmed) ?? this.#marks[0];
    return mark?.position ?? null;
  }

  // Looking

  get atEnd(): boolean {
    const { viewportY, baseY } = this.terminal.buffer.active;
    return viewportY >= baseY;
  }

  get atStart(): boolean {
    return this.terminal.buffer.active.viewportY <= 0;
  }

  find(text: string, forward: boolean, options: ISearchOptions): boolean {
    return forward
      ? this.search.findNext(text, options)
      : this.search.findPrevious(text, options);
  }

  get cellHeight(): number {
    const screen = this.element.querySelector<HTMLElement>('.xterm-screen');
    return screen ? screen.getBoundingClientRect().height / this.terminal.rows : 0;
  }

  get cellWidth(): number {
    const screen = this.element.querySelector<HTMLElement>('.xterm-screen');
    return screen ? screen.getBoundingClientRect().width / this.terminal.cols : 0;
  }
}
