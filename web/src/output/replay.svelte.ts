/**
 * Replays a finished command with its recorded timing.
 *
 * Output is read from the service only as fast as it is shown, so that memory use does not grow with
 * the output. The times are those at which the service read the output.
 */
import { readRange, streamEvents } from '../api/events';
import { isTemporary } from '../api/problem';
import { sleep } from '../api/retry';
import { type Chunk, endOf } from '../api/types';
import { OutputWindow, partFrom } from './chunks';
import type { DoubleBuffer } from './terminal/double-buffer';
import type { Screen } from './terminal/screen';

export const SPEEDS = [0.5, 1, 2, 5, 20, 100];

/** Output before the start position that is shown at once. */
const CONTEXT_BYTES = 64 << 10;
/** Largest difference in bytes between the position found for a time and the exact position. */
const SEEK_BYTES = 32 << 10;
/** A longer pause than this is skipped: the replay goes on LEAD_MS before the next output. */
const MIN_PAUSE_MS = 2000;
const LEAD_MS = 400;
const MAX_BACKLOG_BYTES = 256 << 10;

/** Shows chunks on a new screen that is scrolled to its end. Returns the screen. */
export type ShowScreen = (chunks: Chunk[], signal: AbortSignal) => Promise<Screen>;

/** Return a function that shows chunks on the viewer's screens, from their first whole line on. */
export function replayScreens(screens: DoubleBuffer): ShowScreen {
  return async (chunks, signal) => {
    const window = new OutputWindow(chunks[0]?.position ?? 0);
    for (const chunk of chunks) window.append(chunk);
    const from = window.firstWholeLine();
    const screen = await screens.draw(
      chunks.flatMap((chunk) => partFrom(chunk, from) ?? []),
      (next) => next.terminal.scrollToBottom(),
    );
    if (!screen || signal.aborted) throw new DOMException('replaced by a newer screen', 'AbortError');
    return screen;
  };
}

export class Replay {
  playing = $state(true);
  speed = $state(1);
  skipPauses = $state(true);
  /** current time, in milliseconds since the start of the command */
  time = $state(0);
  readonly duration: number;
  /** position after the output that is shown */
  position = $state(0);

  readonly #id: string;
  readonly #size: number;
  readonly #startedAt: number;
  readonly #showScreen: ShowScreen;
  #run = new AbortController();
  #pendingChunk: Chunk | null = null;

  constructor(id: string, size: number, startedAt: number, finishedAt: number, showScreen: ShowScreen) {
    this.#id = id;
    this.#size = size;
    this.#startedAt = startedAt;
    this.duration = Math.max(1, finishedAt - startedAt);
    this.#showScreen = showScreen;
  }

  close(): void {
    this.#run.abort();
  }

  toggle(): void {
    if (!this.playing && this.time >= this.duration) {
      this.playing = true;
      this.seek(0);
    } else this.playing = !this.playing;
  }

  seek(milliseconds: number): void {
    this.#run.abort();
    const run = new AbortController();
    this.#run = run;
    this.time = Math.min(this.duration, Math.max(0, milliseconds));
    this.#pendingChunk = null;
    void this.#play(run.signal);
    this.#runClock(run.signal);
  }

  async #play(signal: AbortSignal): Promise<void> {
    let from: number | null = null;
    while (!signal.aborted) {
      try {
        from ??= await this.#positionAt(this.#startedAt + this.time, signal);
        const context = await readRange(this.#id, Math.max(0, from - CONTEXT_BYTES), from, signal);
        const screen = await this.#showScreen(context, signal);
        this.position = from;
        for await (const event of streamEvents(this.#id, from, signal)) {
          if (event.kind === 'end') return;
          if (event.kind !== 'output') continue;
          await this.#waitUntilDue(event.chunk, signal);
          if (signal.aborted) return;
          screen.write(event.chunk);
          from = this.position = endOf(event.chunk);
          await screen.waitForBacklog(MAX_BACKLOG_BYTES);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!isTemporary(error)) throw error;
        await sleep(1000, signal);
      }
    }
  }

  async #waitUntilDue(chunk: Chunk, signal: AbortSignal): Promise<void> {
    this.#pendingChunk = chunk;
    while (!signal.aborted && chunk.time - this.#startedAt > this.time) await sleep(16, signal);
    this.#pendingChunk = null;
  }

  #runClock(signal: AbortSignal): void {
    let lastFrame = performance.now();
    const step = (frame: number) => {
      if (signal.aborted) return;
      // A hidden tab gets no frames. Without the limit, the replay would jump when the tab is shown.
      if (this.playing) this.#advance(Math.min(250, frame - lastFrame) * this.speed);
      lastFrame = frame;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #advance(milliseconds: number): void {
    const dueAt = this.#pendingChunk ? this.#pendingChunk.time - this.#startedAt : null;
    let time = this.time + Math.max(0, milliseconds);
    if (this.skipPauses && dueAt !== null && dueAt - time > MIN_PAUSE_MS) time = dueAt - LEAD_MS;
    // While the next output has not arrived, the replay must not finish.
    if (this.position < this.#size && dueAt === null) time = Math.min(time, this.duration - 1);
    this.time = Math.min(time, this.duration);
    if (this.time >= this.duration) this.playing = false;
  }

  /** Find by binary search a position whose output was read at this time or shortly before. */
  async #positionAt(time: number, signal: AbortSignal): Promise<number> {
    let low = 0;
    let high = this.#size;
    if (time <= this.#startedAt) return 0;
    while (high - low > SEEK_BYTES) {
      const middle = Math.floor((low + high) / 2);
      const chunk = await this.#firstChunk(middle, signal);
      if (chunk && chunk.time <= time) low = middle;
      else high = middle;
    }
    return low;
  }

  async #firstChunk(position: number, signal: AbortSignal): Promise<Chunk | null> {
    for await (const event of streamEvents(this.#id, position, signal)) {
      if (event.kind === 'output') return event.chunk;
    }
    return null;
  }
}
