/**
 * Sends lines of input to a command, in order and each exactly once.
 *
 * Each request says how much input must have been accepted before it. If the response to a request
 * is lost, the request is repeated: the service then accepts it, or says that it had done so.
 */
import { Problem, isTemporary } from '../api/problem';
import { retryDelay, sleep } from '../api/retry';

/** Sends bytes at an offset, null for any; returns how many bytes were accepted so far. */
export type Post = (bytes: Uint8Array<ArrayBuffer>, offset: number | null, close: boolean) => Promise<number>;

export interface LineListener {
  /** The script does not read: the input waits until it does. */
  full(full: boolean): void;
  lost(reason: string): void;
  restored(): void;
}

const FULL_RETRY_MS = 1000;

export class LineSender {
  readonly #post: Post;
  readonly #listener: LineListener;
  readonly #signal: AbortSignal;
  #last: Promise<unknown> = Promise.resolve();
  #offset: number | null = null;

  constructor(post: Post, listener: LineListener, signal: AbortSignal) {
    this.#post = post;
    this.#listener = listener;
    this.#signal = signal;
  }

  /**
   * Send text after all texts that were sent before. Settles when the service has accepted it.
   *
   * @throws Problem: the service refuses it. Error: it may have arrived or not.
   */
  send(text: string, close = false): Promise<void> {
    const sending = this.#last.catch(() => undefined).then(() => this.#deliver(new TextEncoder().encode(text), close));
    this.#last = sending;
    return sending;
  }

  async #deliver(bytes: Uint8Array<ArrayBuffer>, close: boolean): Promise<void> {
    // Without the offset, a repeated request could send its input twice.
    const nothing = new Uint8Array();
    this.#offset ??= await this.#attempt(() => this.#post(nothing, null, false));
    const { length } = bytes;
    let mayHaveArrived = false;
    for (;;) {
      const offset: number = this.#offset;
      try {
        this.#offset = await this.#attempt(() => this.#post(bytes, offset, close), () => (mayHaveArrived = true));
        return;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.kind !== 'offset-mismatch' || typeof error.body.offset !== 'number') throw error;
        this.#offset = error.body.offset;
        if (!mayHaveArrived || this.#offset < offset + length) continue; // Another client sent input first.
        if (this.#offset === offset + length) return;
        throw new Error('Cannot tell whether the line arrived: the connection was lost, and another client sends input too.');
      }
    }
  }

  /** Call until the service answers. It may have acted on a call that it did not answer. */
  async #attempt(call: () => Promise<number>, unanswered?: () => void): Promise<number> {
    for (let failures = 0; ; ) {
      try {
        const result = await call();
        this.#listener.full(false);
        this.#listener.restored();
        return result;
      } catch (error) {
        const full = error instanceof Problem && error.kind === 'too-many-requests';
        this.#listener.full(full);
        if (!full && !isTemporary(error)) {
          this.#listener.restored();
          throw error;
        }
        if (!full) {
          unanswered?.();
          failures++;
          this.#listener.lost((error as Error).message);
        }
        await sleep(full ? FULL_RETRY_MS : retryDelay(failures, 500), this.#signal);
        this.#signal.throwIfAborted();
      }
    }
  }
}
