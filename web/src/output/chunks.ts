/** A contiguous range of a command's output, as it was read. Pure position arithmetic. */
import type { StreamName } from '../api/types';

/** Bytes of one stream that were read at one time. */
export interface Chunk {
  /** of the first byte, in the merged output */
  position: number;
  stream: StreamName;
  /** when it was read, in milliseconds since 1970 */
  time: number;
  bytes: Uint8Array;
}

export const NEWLINE = 10;

export function endOf(chunk: Chunk): number {
  return chunk.position + chunk.bytes.length;
}

export function newlines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** Return a chunk without what is before a position; null when nothing is left. */
export function after(chunk: Chunk, position: number): Chunk | null {
  if (position <= chunk.position) return chunk;
  if (position >= endOf(chunk)) return null;
  return { ...chunk, position, bytes: chunk.bytes.subarray(position - chunk.position) };
}

/** Return a chunk without what is at and behind a position; null when nothing is left. */
export function before(chunk: Chunk, position: number): Chunk | null {
  if (position >= endOf(chunk)) return chunk;
  if (position <= chunk.position) return null;
  return { ...chunk, bytes: chunk.bytes.subarray(0, position - chunk.position) };
}

/** A range that grows and shrinks at both ends and never has a hole. */
export class OutputWindow {
  chunks: Chunk[] = [];
  #start: number;
  #end: number;

  constructor(at: number) {
    this.#start = this.#end = at;
  }

  get start(): number {
    return this.#start;
  }

  get end(): number {
    return this.#end;
  }

  get bytes(): number {
    return this.#end - this.#start;
  }

  /**
   * Take what is new of a chunk; return it, null when all of it is known.
   *
   * @throws Error: there would be a hole.
   */
  append(chunk: Chunk): Chunk | null {
    if (chunk.position > this.#end) {
      throw new Error(`cannot go on at ${this.#end} with output from ${chunk.position}`);
    }
    const news = after(chunk, this.#end);
    if (news) {
      this.chunks.push(news);
      this.#end = endOf(news);
    }
    return news;
  }

  /** Put earlier output in front; what overlaps is left out. */
  prepend(earlier: Chunk[]): void {
    const fitting = earlier.flatMap((chunk) => before(chunk, this.#start) ?? []);
    const last = fitting.at(-1);
    if (!last) return;
    if (endOf(last) !== this.#start) {
      throw new Error(`cannot put output up to ${endOf(last)} before ${this.#start}`);
    }
    this.chunks = [...fitting, ...this.chunks];
    this.#start = fitting[0]!.position;
  }

  dropBefore(position: number): void {
    if (position <= this.#start) return;
    this.chunks = this.chunks.flatMap((chunk) => after(chunk, position) ?? []);
    this.#start = Math.min(position, this.#end);
  }

  dropFrom(position: number): void {
    if (position >= this.#end) return;
    this.chunks = this.chunks.flatMap((chunk) => before(chunk, position) ?? []);
    this.#end = Math.max(position, this.#start);
  }

  /** Return the position behind the `lines`-th newline from a position on; the end if there are fewer. */
  forward(position: number, lines: number): number {
    let left = lines;
    for (const chunk of this.chunks) {
      const part = after(chunk, position);
      if (!part) continue;
      for (let at = part.bytes.indexOf(NEWLINE); at >= 0; at = part.bytes.indexOf(NEWLINE, at + 1)) {
        if (--left <= 0) return part.position + at + 1;
      }
    }
    return this.#end;
  }

  /** Return the position from which at most `lines` newlines follow up to the end. */
  backward(lines: number): number {
    let left = lines;
    for (const chunk of this.chunks.toReversed()) {
      for (
        let at = chunk.bytes.lastIndexOf(NEWLINE);
        at >= 0;
        at = at > 0 ? chunk.bytes.lastIndexOf(NEWLINE, at - 1) : -1
      ) {
        if (left-- <= 0) return chunk.position + at + 1;
      }
    }
    return this.#start;
  }

  /** Leave out an unfinished last line, unless its beginning is far. */
  dropUnfinishedLine(within = 16 << 10): void {
    const finished = this.backward(0);
    if (finished > this.#start && this.#end - finished <= within) this.dropFrom(finished);
  }

  /**
   * Return where the first whole line begins: behind the first newline, unless it is the very
   * beginning or no newline is near.
   */
  firstLine(within = 16 << 10): number {
    if (this.#start === 0) return 0;
    const found = this.forward(this.#start, 1);
    return found - this.#start <= within && found < this.#end ? found : this.#start;
  }
}
