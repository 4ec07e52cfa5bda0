/**
 * The newest output of a command: one stream that always runs at its end, and a bounded memory of
 * what came by it.
 */
import { outputSize } from '../api/commands';
import type { StreamEvent } from '../api/events';
import { messageOf } from '../api/problem';
import type { CommandEvent } from '../api/types';
import { back, lost } from '../app/connection.svelte';
import { sleep } from '../api/retry';
import { type Chunk, OutputWindow } from './chunks';
import { follow } from '../api/follow';

/** A part: what is read at once, and what is kept of a tail that has grown too long. */
export const PART_BYTES = 256 << 10;
const TAIL_BYTES = 1 << 20;
const LAG_BYTES = 8 << 20;
const LAG_SECONDS = 2;

export interface TailReader {
  /** How the command is now; `ended` with the last of it. */
  command(command: CommandEvent, ended: boolean): void;
  /** More was printed. What comes next is read when this is done. */
  output(news: Chunk): Promise<void>;
  /** More is printed than can be read: from one position to another it is passed over. */
  passesOver(from: number, to: number, size: number): void;
  /** It cannot go on. */
  fails(why: string): void;
}

export class Tail {
  #window = new OutputWindow(0);
  #complete = false;
  #received = 0;
  #live = new AbortController();
  readonly #id: string;
  readonly #reader: TailReader;

  constructor(id: string, reader: TailReader) {
    this.#id = id;
    this.#reader = reader;
  }

  /** The newest bytes. */
  get window(): OutputWindow {
    return this.#window;
  }

  /** Follow from a position on, and forget what was before. */
  follow(from: number): void {
    this.#live.abort();
    this.#live = new AbortController();
    const { signal } = this.#live;
    this.#window = new OutputWindow(from);
    follow(
      this.#id,
      from,
      {
        event: (event) => this.#event(event, signal),
        lost: (why, since) => lost('stream', why, since),
        back: () => back('stream'),
      },
      signal,
    )
      .catch((error: unknown) => {
        if (!signal.aborted) this.#reader.fails(messageOf(error));
      })
      .finally(() => back('stream'));
    void this.#keepUp(signal);
  }

  async #event(event: StreamEvent, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    if (event.kind !== 'output') {
      if (event.kind === 'end') this.#complete = true;
      return this.#reader.command(event.command, event.kind === 'end');
    }
    const news = this.#window.append(event.chunk);
    if (!news) return;
    this.#received += news.bytes.length;
    const { end } = this.#window;
    if (this.#window.bytes > TAIL_BYTES) this.#window.dropBefore(end - PART_BYTES);
    await this.#reader.output(news);
  }

  /** Where more is printed than can be shown, go on at the end rather than fall behind. */
  async #keepUp(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#complete) {
      this.#received = 0;
      await sleep(LAG_SECONDS * 1000, signal);
      if (this.#complete || signal.aborted || this.#received < PART_BYTES) continue;
      const size = await outputSize(this.#id, signal).catch(() => 0);
      const { end } = this.#window;
      if (signal.aborted || size - end < LAG_BYTES) continue;
      const at = size - PART_BYTES;
      this.follow(at);
      this.#reader.passesOver(end, at, size);
      return;
    }
  }

  close(): void {
    this.#live.abort();
    back('stream');
  }
}
