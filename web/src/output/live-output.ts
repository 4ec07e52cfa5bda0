/**
 * The newest output of a command: follows the end of the output and keeps its last bytes.
 */
import { getOutputSize } from '../api/commands';
import type { StreamEvent } from '../api/events';
import { follow } from '../api/follow';
import { messageOf } from '../api/problem';
import { sleep } from '../api/retry';
import type { Chunk, CommandEvent } from '../api/types';
import { reportLost, reportRestored } from '../app/connection.svelte';
import { OutputWindow } from './chunks';

/** Size of one part that is read. If more than MAX_BYTES were received, only this much is kept. */
export const PART_BYTES = 256 << 10;
const MAX_BYTES = 1 << 20;
/** Output is skipped if the page is this far behind. This is checked every LAG_CHECK_SECONDS. */
const MAX_LAG_BYTES = 8 << 20;
const LAG_CHECK_SECONDS = 2;

export interface LiveOutputListener {
  /** The command has changed. If `ended`, this is the last call for this command. */
  commandChanged(command: CommandEvent, ended: boolean): void;
  /** New output was received. Nothing more is read until the returned promise settles. */
  outputAdded(added: Chunk): Promise<void>;
  /** The command prints faster than the page reads: the output between two positions was skipped. */
  outputSkipped(from: number, to: number, size: number): void;
  /** Following has failed, and no further attempt will be made. */
  failed(reason: string): void;
}

export class LiveOutput {
  #window = new OutputWindow(0);
  #complete = false;
  #received = 0;
  #following = new AbortController();
  readonly #id: string;
  readonly #listener: LiveOutputListener;

  constructor(id: string, listener: LiveOutputListener) {
    this.#id = id;
    this.#listener = listener;
  }

  /** The newest output. */
  get window(): OutputWindow {
    return this.#window;
  }

  /** Follow from a position on, and drop all earlier output. */
  follow(from: number): void {
    this.#following.abort();
    this.#following = new AbortController();
    const { signal } = this.#following;
    this.#window = new OutputWindow(from);
    follow(
      this.#id,
      from,
      {
        event: (event) => this.#handleEvent(event, signal),
        lost: (reason, since) => reportLost('stream', reason, since),
        restored: () => reportRestored('stream'),
      },
      signal,
    )
      .catch((error: unknown) => {
        if (!signal.aborted) this.#listener.failed(messageOf(error));
      })
      .finally(() => reportRestored('stream'));
    void this.#skipWhenBehind(signal);
  }

  async #handleEvent(event: StreamEvent, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    if (event.kind !== 'output') {
      if (event.kind === 'end') this.#complete = true;
      return this.#listener.commandChanged(event.command, event.kind === 'end');
    }
    const added = this.#window.append(event.chunk);
    if (!added) return;
    this.#received += added.bytes.length;
    const { end } = this.#window;
    if (this.#window.bytes > MAX_BYTES) this.#window.dropBefore(end - PART_BYTES);
    await this.#listener.outputAdded(added);
  }

  /** Skip to the end of the output when the page falls too far behind. */
  async #skipWhenBehind(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#complete) {
      this.#received = 0;
      await sleep(LAG_CHECK_SECONDS * 1000, signal);
      if (this.#complete || signal.aborted || this.#received < PART_BYTES) continue;
      const size = await getOutputSize(this.#id, signal).catch(() => 0);
      const { end } = this.#window;
      if (signal.aborted || size - end < MAX_LAG_BYTES) continue;
      const at = size - PART_BYTES;
      this.follow(at);
      this.#listener.outputSkipped(end, at, size);
      return;
    }
  }

  close(): void {
    this.#following.abort();
    reportRestored('stream');
  }
}
