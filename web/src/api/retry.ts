/** Decides how long to wait between two attempts, and waits. */

const MAX_DELAY_MS = 15_000;

/**
 * Return how long to wait before the next attempt, in milliseconds: doubled with each failure, up
 * to 15 s.
 *
 * @param failures - failures in a row so far.
 * @param interval - the wait after a success, and the shortest wait, in milliseconds.
 */
export function retryDelay(failures: number, interval: number): number {
  return failures === 0 ? interval : Math.min(MAX_DELAY_MS, Math.max(interval, 500 * 2 ** failures));
}

/** Wait for a time in milliseconds, or until the signal is aborted. Never rejects. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', done, { once: true });
  });
}
