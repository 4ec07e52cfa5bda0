/**
 * The range of the output that the terminal shows, from the range's first whole line on.
 *
 * The range grows when new output is appended, and when output before or after it is read from the
 * service.
 */
import { readRange } from '../api/events';
import type { Chunk, StreamName } from '../api/types';
import { OutputWindow, partFrom } from './chunks';
import { PART_BYTES } from './live-output';
import type { DoubleBuffer } from './terminal/double-buffer';
import { maxLines, type Screen } from './terminal/screen';

const MAX_WINDOW_BYTES = 6 << 20;
/** To find output of the stream that is shown, at most this many parts are read. */
const MAX_PARTS_OF_STREAM = 16;
/** The first whole line is searched within this many bytes from the start of the range. */
const FIRST_LINE_BYTES = 16 << 10;

export class ShownRange {
  readonly #id: string;
  readonly #screens: DoubleBuffer;
  #window = new OutputWindow(0);
  /** where the first whole line starts; null until known */
  #shownFrom: number | null = null;

  constructor(id: string, screens: DoubleBuffer) {
    this.#id = id;
    this.#screens = screens;
  }

  get start(): number {
    return this.#window.start;
  }

  get end(): number {
    return this.#window.end;
  }

  /** Begin again at a position, without output. */
  restart(position: number): void {
    this.#window = new OutputWindow(position);
  }

  /** Take the chunks of another window instead. */
  replace(other: OutputWindow): void {
    this.restart(other.start);
    for (const chunk of other.chunks) this.#window.append(chunk);
  }

  /** Add a chunk at the end and draw it. Return whether it added anything. */
  append(chunk: Chunk, complete: boolean): boolean {
    const added = this.#window.append(chunk);
    if (!added) return false;
    this.#write(added, complete);
    return true;
  }

  /** Draw the output that waited for a newline. The output is complete, so no newline will come. */
  flush(): void {
    this.#write(null, true);
  }

  /** Write to the screen. Until the first whole line is known, nothing is written. */
  #write(chunk: Chunk | null, complete: boolean): void {
    const started = this.#shownFrom !== null;
    if (!started) {
      const from = this.#window.firstWholeLine(FIRST_LINE_BYTES);
      const unknown = from === this.#window.start && from > 0 && this.#window.bytes < FIRST_LINE_BYTES;
      if (unknown && !complete) return;
      this.#shownFrom = from;
    }
    for (const part of started ? (chunk ? [chunk] : []) : this.#window.chunks) {
      const shown = partFrom(part, this.#shownFrom ?? 0);
      if (!shown) continue;
      this.#screens.write(shown);
    }
  }

  /** Drop the output that has left the terminal at the top, if there is much of it. */
  trim(): void {
    if (this.#window.bytes > MAX_WINDOW_BYTES) this.dropTrimmed();
  }

  /** Drop the output that has left the terminal at the top. */
  dropTrimmed(): void {
    const first = this.#screens.current?.firstPosition;
    if (first != null) this.#window.dropBefore(Math.min(first, this.#window.end));
  }

  /** Keep only as many lines at the end as a terminal holds. */
  keepLastLines(): void {
    this.#window.dropBefore(this.#window.startOfLastLines(maxLines(this.#screens.cols)));
  }

  /**
   * Limit the range around a position to what a terminal holds without dropping lines.
   *
   * @returns whether something was cut off at the end.
   */
  clip(position: number): boolean {
    const lines = maxLines(this.#screens.cols);
    const above = new OutputWindow(this.#window.start);
    for (const chunk of this.#window.chunks) {
      if (chunk.position < position) above.append(chunk);
    }
    this.#window.dropBefore(above.startOfLastLines(lines / 2));
    const end = Math.min(this.#window.skipLines(position, lines / 4), position + 4 * PART_BYTES);
    if (end >= this.#window.end) return false;
    this.#window.dropFrom(end);
    this.#window.dropUnfinishedLine();
    return true;
  }

  /** Draw the range on a new screen. See `DoubleBuffer.draw`. */
  draw(scroll: (next: Screen, old: Screen | null) => void): Promise<Screen | null> {
    const from = this.#window.firstWholeLine(FIRST_LINE_BYTES);
    const chunks = this.#window.chunks.flatMap((chunk) => partFrom(chunk, from) ?? []);
    this.#shownFrom = chunks.length ? from : null;
    return this.#screens.draw(chunks, scroll);
  }

  /**
   * Return the output around a position.
   *
   * @param size - bytes of output so far.
   * @param liveStart - position from which on the live output has all bytes.
   */
  async readAround(position: number, size: number, liveStart: number, signal: AbortSignal): Promise<OutputWindow> {
    const from = Math.max(0, position - PART_BYTES / 2);
    const to = Math.min(size, position + PART_BYTES);
    const chunks = await readRange(this.#id, from, to, signal);
    const read = new OutputWindow(from);
    for (const chunk of chunks) read.append(chunk);
    if (read.end < liveStart) read.dropUnfinishedLine();
    return read;
  }

  /** Read output before the range: one part, or for one stream, parts until one has its output. */
  async readEarlier(stream: StreamName | null, signal: AbortSignal): Promise<void> {
    this.dropTrimmed();
    for (let part = 0; part < (stream ? MAX_PARTS_OF_STREAM : 1); part++) {
      const start = this.#window.start;
      const chunks = await readRange(this.#id, Math.max(0, start - PART_BYTES), start, signal);
      this.#window.prepend(chunks);
      if (this.#window.start === 0 || chunks.some((chunk) => chunk.stream === stream)) break;
    }
  }

  /** Return the output after the range, in whole lines, up to the live output. */
  async readLater(liveStart: number, signal: AbortSignal): Promise<readonly Chunk[]> {
    const { end } = this.#window;
    const to = Math.min(end + PART_BYTES, liveStart);
    const more = new OutputWindow(end);
    for (const chunk of await readRange(this.#id, end, to, signal)) more.append(chunk);
    if (to < liveStart) more.dropUnfinishedLine();
    return more.chunks;
  }
}
