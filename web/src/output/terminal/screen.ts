/**
 * One terminal that shows a range of output and knows the position of each of its lines.
 *
 * A screen only grows at its end. Earlier output, another filter or another width needs a new
 * screen. `DoubleBuffer` draws the new screen while it is hidden, and then shows it.
 */
import { type ISearchOptions, SearchAddon } from '@xterm/addon-search';
import { type IMarker, type ITheme, Terminal } from '@xterm/xterm';
import { type Chunk, type StreamName, endOf } from '../../api/types';
import { NEWLINE } from '../chunks';
import { OutputDecoder } from './decode';

export interface ScreenOptions {
  cols: number;
  rows: number;
  theme: ITheme;
  /** the stream that is shown; null: both */
  stream: StreamName | null;
  readAloud: boolean;
}

/** The output that a row of the terminal shows. */
export interface RowOrigin {
  position: number;
  time: number;
  /** whether any of the row is stderr */
  stderr: boolean;
}

/** A mark stores where the output of a row, and of the rows up to the next mark, comes from. */
interface Mark extends RowOrigin {
  /** counted from the first row that the terminal ever had */
  row: number;
  /** whether nothing was written to the row yet */
  empty: boolean;
}

export const FONT =
  'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
export const MAX_LINES = 20_000;
/** Lines times columns. A cell takes 12 bytes, so this is about 50 MB. */
const MAX_CELLS = 4_200_000;
/** How much the terminal gets in one write. It parses this in a few milliseconds. */
const PIECE_BYTES = 16 << 10;
/** How much output the terminal may hold unparsed. */
const FRAME_BYTES = 64 << 10;
/** After this many rows a new anchor is set; see `Screen.#anchor`. */
const RENEW_ROWS = 500;

/** Return how many lines a terminal of this width may keep. */
export function maxLines(cols: number): number {
  return Math.max(1000, Math.min(MAX_LINES, Math.floor(MAX_CELLS / cols)));
}

export class Screen {
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  readonly element: HTMLElement;
  readonly options: ScreenOptions;
  /** the longest line so far, in characters */
  longest = 0;

  readonly #decoder = new OutputDecoder();
  #queue: Chunk[] = [];
  /** total bytes that were queued, passed to the terminal, and parsed by it */
  #written = 0;
  #sent = 0;
  #parsed = 0;
  #waiters: (() => void)[] = [];
  #scheduled = false;
  #disposed = false;

  /** all marks, in the order of their rows */
  #marks: Mark[] = [];
  /**
   * A marker of the terminal, and the marker's row as counted from the first row ever. The terminal
   * changes a marker's line when rows leave at the top, so the difference tells how many have left.
   */
  #anchor: { marker: IMarker; row: number } | null = null;
  /** positions after the newlines of the chunk that the terminal parses now */
  #newlineEnds: number[] = [];
  #nextNewline = 0;
  #parsedChunk: Chunk | null = null;
  #lineLength = 0;

  constructor(host: HTMLElement, options: ScreenOptions) {
    this.options = options;
    this.element = document.createElement('div');
    this.element.className = 'screen';
    host.append(this.element);
    this.terminal = new Terminal({
      cols: options.cols,
      rows: options.rows,
      scrollback: maxLines(options.cols),
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
    // The terminal must handle no keys, because nothing reads its input.
    this.terminal.attachCustomKeyEventHandler(() => false);
    this.terminal.onLineFeed(() => this.#handleNewline());
  }

  dispose(): void {
    this.#disposed = true;
    this.#queue = [];
    this.terminal.dispose();
    this.element.remove();
    this.#wakeWaiters();
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

  /** Wait until at most this many bytes wait to be drawn. */
  async waitForBacklog(bytes: number): Promise<void> {
    while (!this.#disposed && this.#written - this.#parsed > bytes) await this.#waitForProgress();
  }

  /** Wait until the terminal has parsed everything written before this call. */
  async waitUntilDrawn(): Promise<void> {
    const written = this.#written;
    while (!this.#disposed && this.#parsed < written) await this.#waitForProgress();
  }

  #waitForProgress(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #schedule(): void {
    if (this.#scheduled || this.#disposed || !this.#queue.length) return;
    this.#scheduled = true;
    const send = () => {
      this.#scheduled = false;
      this.#sendQueue();
    };
    // A hidden tab gets no animation frames.
    if (document.hidden) setTimeout(send, 50);
    else requestAnimationFrame(send);
  }

  #sendQueue(): void {
    let count = 0;
    while (count < this.#queue.length && this.#sent - this.#parsed < FRAME_BYTES) {
      const chunk = this.#queue[count++]!;
      this.#sent += chunk.bytes.length;
      const text = this.#decoder.push(chunk);
      this.#measure(text);
      // The callback of this empty write runs right before the terminal parses the chunk.
      this.terminal.write('', () => this.#startChunk(chunk));
      this.terminal.write(text, () => {
        this.#parsed += chunk.bytes.length;
        if (this.#parsed < this.#sent) return;
        this.#wakeWaiters();
        this.#schedule();
      });
    }
    this.#queue = this.#queue.slice(count);
  }

  #wakeWaiters(): void {
    const waiting = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiting) resolve();
  }

  #measure(text: string): void {
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      this.#lineLength += end - start;
      if (this.#lineLength > this.longest) this.longest = this.#lineLength;
      this.#lineLength = 0;
      start = end + 1;
    }
    this.#lineLength += text.length - start;
    if (this.#lineLength > this.longest) this.longest = this.#lineLength;
  }

  // Rows and positions

  /** How many rows have left the terminal at the top. */
  get #trimmed(): number {
    return this.#anchor ? this.#anchor.row - this.#anchor.marker.line : 0;
  }

  #cursorRow(): number {
    const { baseY, cursorY } = this.terminal.buffer.active;
    const row = baseY + cursorY + this.#trimmed;
    if (!this.#anchor || row - this.#anchor.row > RENEW_ROWS) {
      // The terminal does not report rows that leave at the top. The line of a marker changes with
      // them, so the marker must stay in the terminal: replace it before it leaves.
      const marker = this.terminal.registerMarker(0);
      this.#anchor?.marker.dispose();
      this.#anchor = { marker, row };
    }
    return row;
  }

  #startChunk(chunk: Chunk): void {
    if (this.#disposed) return;
    this.#parsedChunk = chunk;
    this.#newlineEnds = [];
    this.#nextNewline = 0;
    for (let at = chunk.bytes.indexOf(NEWLINE); at >= 0; at = chunk.bytes.indexOf(NEWLINE, at + 1)) {
      this.#newlineEnds.push(chunk.position + at + 1);
    }
    const stderr = chunk.stream === 'stderr';
    const row = this.#cursorRow();
    const mark = this.#markAt(row);
    if (!mark || mark.row < row) {
      this.#addMark({ row, position: chunk.position, time: chunk.time, stderr, empty: false });
    } else if (mark.empty) {
      Object.assign(mark, { position: chunk.position, time: chunk.time, stderr, empty: false });
    } else {
      mark.stderr ||= stderr;
    }
  }

  #handleNewline(): void {
    const chunk = this.#parsedChunk;
    const position = this.#newlineEnds[this.#nextNewline++];
    if (!chunk || position === undefined) return;
    const row = this.#cursorRow();
    const hasMore = position < endOf(chunk);
    const stderr = hasMore && chunk.stream === 'stderr';
    const known = this.#markAt(row);
    // A line that is overwritten keeps its origin.
    if (known?.row === row) known.stderr ||= stderr;
    else this.#addMark({ row, position, time: chunk.time, stderr, empty: !hasMore });
  }

  #addMark(mark: Mark): void {
    const last = this.#marks.at(-1);
    if (!last || mark.row > last.row) this.#marks.push(mark);
    // Marks of rows that have left are dropped only when there are a quarter too many, because each
    // time copies the whole array.
    if (this.#marks.length > maxLines(this.options.cols) * 1.25) {
      const trimmed = this.#trimmed;
      const first = this.#marks.findIndex((other) => other.row >= trimmed);
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
   * Return the origin of a row of the terminal's buffer, or null if nothing was written to it.
   * `first` tells whether the row is the first of its line.
   */
  originOf(row: number): (RowOrigin & { first: boolean }) | null {
    const absolute = row + this.#trimmed;
    const mark = this.#markAt(absolute);
    if (!mark || (mark.empty && absolute >= mark.row)) return null;
    const last = this.terminal.buffer.active.baseY + this.terminal.buffer.active.cursorY;
    if (row > last) return null;
    return { ...mark, first: mark.row === absolute };
  }

  /** Return the first line that starts in the viewport, and its row `y` in the viewport. */
  topLine(): (RowOrigin & { y: number }) | null {
    const { viewportY } = this.terminal.buffer.active;
    for (let y = 0; y < this.terminal.rows; y++) {
      const origin = this.originOf(viewportY + y);
      if (origin?.first) return { ...origin, y };
    }
    return null;
  }

  /** Return the row of the terminal's buffer where the line with this position starts. */
  rowOf(position: number): number {
    const mark = this.#markHolding(position);
    return mark ? Math.max(0, mark.row - this.#trimmed) : 0;
  }

  /** Return the position where the line with this position starts. */
  lineStart(position: number): number {
    return this.#markHolding(position)?.position ?? position;
  }

  #markHolding(position: number): Mark | null {
    let low = 0;
    let high = this.#marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#marks[middle]!.position <= position) low = middle + 1;
      else high = middle;
    }
    return this.#marks[low - 1] ?? this.#marks[0] ?? null;
  }

  /** The position of the first row that the terminal still has. */
  get firstPosition(): number | null {
    const mark = this.#markAt(this.#trimmed) ?? this.#marks[0];
    return mark?.position ?? null;
  }

  // Viewport and search

  get atEnd(): boolean {
    const { viewportY, baseY } = this.terminal.buffer.active;
    return viewportY >= baseY;
  }

  get atStart(): boolean {
    return this.terminal.buffer.active.viewportY <= 0;
  }

  /** Select the next match and highlight all matches. If the text is empty, remove both. */
  find(text: string, forward: boolean, options: ISearchOptions): boolean {
    if (!text) {
      this.search.clearDecorations();
      this.terminal.clearSelection();
      return false;
    }
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
