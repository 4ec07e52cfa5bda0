/** Arithmetic with chunks and positions, and a contiguous range of a command's output. */
import { type Chunk, endOf } from '../api/types';

export const NEWLINE = 10;

export function countNewlines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** Return the part of a chunk from a position on, or null if there is none. */
export function partFrom(chunk: Chunk, position: number): Chunk | null {
  if (position <= chunk.position) return chunk;
  if (position >= endOf(chunk)) return null;
  return { ...chunk, position, bytes: chunk.bytes.subarray(position - chunk.position) };
}

/** Return the part of a chunk before a position, or null if there is none. */
export function partBefore(chunk: Chunk, position: number): Chunk | null {
  if (position >= endOf(chunk)) return chunk;
  if (position <= chunk.position) return null;
  return { ...chunk, bytes: chunk.bytes.subarray(0, position - chunk.position) };
}

/** A range of output that grows and shrinks at both ends and never has a gap. */
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
   * Append the part of a chunk that lies after the range. Return this part, or null without one.
   *
   * @throws Error: there would be a gap.
   */
  append(chunk: Chunk): Chunk | null {
    if (chunk.position > this.#end) {
      throw new Error(`cannot append output at ${chunk.position} after ${this.#end}`);
    }
    const added = partFrom(chunk, this.#end);
    if (added) {
      this.chunks.push(added);
      this.#end = endOf(added);
    }
    return added;
  }

  /** Put earlier output in front of the range. Bytes that the range already has are left out. */
  prepend(earlier: Chunk[]): void {
    const added = earlier.flatMap((chunk) => partBefore(chunk, this.#start) ?? []);
    const last = added.at(-1);
    if (!last) return;
    if (endOf(last) !== this.#start) {
      throw new Error(`cannot prepend output up to ${endOf(last)} before ${this.#start}`);
    }
    this.chunks = [...added, ...this.chunks];
    this.#start = added[0]!.position;
  }

  dropBefore(position: number): void {
    if (position <= this.#start) return;
    this.chunks = this.chunks.flatMap((chunk) => partFrom(chunk, position) ?? []);
    this.#start = Math.min(position, this.#end);
  }

  dropFrom(position: number): void {
    if (position >= this.#end) return;
    this.chunks = this.chunks.flatMap((chunk) => partBefore(chunk, position) ?? []);
    this.#end = Math.max(position, this.#start);
  }

  /** Return the position after the `lines`-th newline from a position on, or the end if there are fewer. */
  skipLines(position: number, lines: number): number {
    let remaining = lines;
    for (const chunk of this.chunks) {
      const part = partFrom(chunk, position);
      if (!part) continue;
      for (let at = part.bytes.indexOf(NEWLINE); at >= 0; at = part.bytes.indexOf(NEWLINE, at + 1)) {
        if (--remaining <= 0) return part.position + at + 1;
      }
    }
    return this.#end;
  }

  /** Return the first position from which at most `lines` newlines follow. */
  startOfLastLines(lines: number): number {
    let remaining = lines;
    for (const chunk of this.chunks.toReversed()) {
      for (
        let at = chunk.bytes.lastIndexOf(NEWLINE);
        at >= 0;
        at = at > 0 ? chunk.bytes.lastIndexOf(NEWLINE, at - 1) : -1
      ) {
        if (remaining-- <= 0) return chunk.position + at + 1;
      }
    }
    return this.#start;
  }

  /** Drop an unfinished last line, unless it is longer than `maxBytes`. */
  dropUnfinishedLine(maxBytes = 16 << 10): void {
    const finished = this.startOfLastLines(0);
    if (finished > this.#start && this.#end - finished <= maxBytes) this.dropFrom(finished);
  }

  /**
   * Return the start of the first whole line: the position after the first newline. Return the start
   * of the range if that is the start of all output, or if no newline is within `maxBytes`.
   */
  firstWholeLine(maxBytes = 16 << 10): number {
    if (this.#start === 0) return 0;
    const position = this.skipLines(this.#start, 1);
    return position - this.#start <= maxBytes && position < this.#end ? position : this.#start;
  }
}
