/**
 * Plays a finished command again in its own time.
 *
 * Output is read from the service as it is needed and no faster, so that memory does not grow with
 * the output. Times are those at which the service read the output.
 */
import { events, readRange } from '../api/events';
import { isPassing } from '../api/problem';
import { sleep } from '../api/retry';
import type { Chunk } from './chunks';
import type { Screen } from './terminal/screen';

export const SPEEDS = [0.5, 1, 2, 5, 20, 100];

const CONTEXT_BYTES = 64 << 10;
const NEAR_BYTES = 32 << 10;
const PAUSE_MS = 2000;
const LEAD_MS = 400;
const AHEAD_BYTES = 256 << 10;

export interface Stage {
  /** a new screen that shows these chunks and stands at its end */
  fresh(chunks: Chunk[], signal: AbortSignal): Promise<Screen>;
}

export class Replay {
  playing = $state(true);
  speed = $state(1);
  skipPauses = $state(true);
  /** where we are, in milliseconds since the start */
  at = $state(0);
  readonly duration: number;
  /** position up to which output is shown */
  position = $state(0);

  readonly #id: string;
  readonly #size: number;
  readonly #begin: number;
  readonly #stage: Stage;
  #run = new AbortController();
  #next: Chunk | null = null;

  constructor(id: string, size: number, begin: number, end: number, stage: Stage) {
    this.#id = id;
    this.#size = size;
    this.#begin = begin;
    this.duration = Math.max(1, end - begin);
    this.#stage = stage;
  }

  close(): void {
    this.#run.abort();
  }

  toggle(): void {
    if (!this.playing && this.at >= this.duration) {
      this.playing = true;
      this.seek(0);
    } else this.playing = !this.playing;
  }

  seek(milliseconds: number): void {
    this.#run.abort();
    const run = new AbortController();
    this.#run = run;
    this.at = Math.min(this.duration, Math.max(0, milliseconds));
    this.#next = null;
    void this.#play(run.signal);
    this.#tick(run.signal);
  }

  async #play(signal: AbortSignal): Promise<void> {
    let from: number | null = null;
    while (!signal.aborted) {
      try {
        from ??= await this.#positionAt(this.#begin + this.at, signal);
        const context = await readRange(this.#id, Math.max(0, from - CONTEXT_BYTES), from, signal);
        const screen = await this.#stage.fresh(context, signal);
        this.position = from;
        for await (const event of events(this.#id, from, signal)) {
          if (event.kind === 'end') return;
          if (event.kind !== 'output') continue;
          await this.#due(event.chunk, signal);
          if (signal.aborted) return;
          screen.write(event.chunk);
          from = this.position = event.chunk.position + event.chunk.bytes.length;
          await screen.below(AHEAD_BYTES);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!isPassing(error)) throw error;
        await sleep(1000, signal);
      }
    }
  }

  async #due(chunk: Chunk, signal: AbortSignal): Promise<void> {
    this.#next = chunk;
    while (!signal.aborted && chunk.time - this.#begin > this.at) await sleep(16, signal);
    this.#next = null;
  }

  #tick(signal: AbortSignal): void {
    let last = performance.now();
    const step = (time: number) => {
      if (signal.aborted) return;
      // A hidden tab gets no frames: it goes on where it was.
      if (this.playing) this.#advance(Math.min(250, time - last) * this.speed);
      last = time;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #advance(by: number): void {
    const due = this.#next ? this.#next.time - this.#begin : null;
    let at = this.at + Math.max(0, by);
    if (this.skipPauses && due !== null && due - at > PAUSE_MS) at = due - LEAD_MS;
    // While the next output is still on its way, time stands at the end of what is known.
    if (this.position < this.#size && due === null) at = Math.min(at, this.duration - 1);
    this.at = Math.min(at, this.duration);
    if (this.at >= this.duration) this.playing = false;
  }

  /** Find a position whose output was read at a time or before, by halving. */
  async #positionAt(time: number, signal: AbortSignal): Promise<number> {
    let low = 0;
    let high = this.#size;
    if (time <= this.#begin) return 0;
    while (high - low > NEAR_BYTES) {
      const middle = Math.floor((low + high) / 2);
      const chunk = await this.#first(middle, signal);
      if (chunk && chunk.time <= time) low = middle;
      else high = middle;
    }
    return low;
  }

  async #first(position: number, signal: AbortSignal): Promise<Chunk | null> {
    for await (const event of events(this.#id, position, signal)) {
      if (event.kind === 'output') return event.chunk;
    }
    return null;
  }
}
