/**
 * Moves the viewer to other parts of the output, one move at a time. A move is repeated while the
 * service does not respond.
 */
import { isTemporary, messageOf } from '../api/problem';
import { sleep } from '../api/retry';
import { reportLost, reportRestored } from '../app/connection.svelte';

const RETRY_MS = 1000;

export class Moves {
  #current = new AbortController();
  readonly #on: { loading: (loading: boolean) => void; failed: (reason: string) => void };

  constructor(on: { loading: (loading: boolean) => void; failed: (reason: string) => void }) {
    this.#on = on;
  }

  abort(): void {
    this.#current.abort();
  }

  /** Run a move. A new move aborts the previous move. */
  async run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#current.abort();
    const move = new AbortController();
    this.#current = move;
    this.#on.loading(true);
    try {
      for (;;) {
        try {
          await work(move.signal);
          reportRestored('range');
          return;
        } catch (error) {
          if (move.signal.aborted) return;
          if (!isTemporary(error)) throw error;
          reportLost('range', messageOf(error));
          await sleep(RETRY_MS, move.signal);
        }
      }
    } catch (error) {
      this.#on.failed(messageOf(error));
    } finally {
      if (this.#current === move) this.#on.loading(false);
      reportRestored('range');
    }
  }
}
