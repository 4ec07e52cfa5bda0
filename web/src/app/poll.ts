/** Sends a request at intervals: less often while the tab is hidden or the service fails. */
import { isTemporary, messageOf } from '../api/problem';
import { retryDelay, sleep } from '../api/retry';
import { reportLost, reportRestored } from './connection.svelte';

const HIDDEN_FACTOR = 20;

export interface Poller {
  /** Send the next request now. */
  wake(): void;
  stop(): void;
}

/**
 * Start to poll.
 *
 * @param source - names this poller in the connection banner.
 * @param request - rejects with a Problem or Unreachable.
 * @param onRefused - called with errors that are not temporary. Polling goes on.
 */
export function startPolling(
  source: string,
  milliseconds: number,
  request: (signal: AbortSignal) => Promise<void>,
  onRefused: (error: unknown) => void,
): Poller {
  const stopped = new AbortController();
  let wait = new AbortController();
  const wake = () => wait.abort();
  const onVisibilityChange = () => {
    if (!document.hidden) wake();
  };
  document.addEventListener('visibilitychange', onVisibilityChange);

  async function run(): Promise<void> {
    let failures = 0;
    while (!stopped.signal.aborted) {
      wait = new AbortController();
      try {
        await request(stopped.signal);
        failures = 0;
        reportRestored(source);
      } catch (error) {
        if (stopped.signal.aborted) return;
        failures++;
        if (isTemporary(error)) reportLost(source, messageOf(error));
        else {
          reportRestored(source);
          onRefused(error);
        }
      }
      const interval = document.hidden ? milliseconds * HIDDEN_FACTOR : milliseconds;
      await sleep(retryDelay(failures, interval), AbortSignal.any([wait.signal, stopped.signal]));
    }
  }
  void run();
  return {
    wake,
    stop() {
      stopped.abort();
      reportRestored(source);
      document.removeEventListener('visibilitychange', onVisibilityChange);
    },
  };
}
