/** Asks again and again while somebody looks: about once a second, rarely when hidden or away. */
import { isPassing, messageOf } from '../api/problem';
import { back, lost } from './connection.svelte';
import { backoff } from '../commands/merge';
import { sleep } from '../api/retry';

const HIDDEN_FACTOR = 20;

export interface Poll {
  /** ask now */
  wake(): void;
  stop(): void;
}

/**
 * @param who - names it in the connection line.
 * @param ask - fails with a Problem or Unreachable; the first is told to `refused`.
 */
export function poll(
  who: string,
  milliseconds: number,
  ask: (signal: AbortSignal) => Promise<void>,
  refused: (error: unknown) => void,
): Poll {
  const ended = new AbortController();
  let nap = new AbortController();
  const wake = () => nap.abort();
  const seen = () => {
    if (!document.hidden) wake();
  };
  document.addEventListener('visibilitychange', seen);

  async function run(): Promise<void> {
    let failures = 0;
    while (!ended.signal.aborted) {
      nap = new AbortController();
      try {
        await ask(ended.signal);
        failures = 0;
        back(who);
      } catch (error) {
        if (ended.signal.aborted) return;
        failures++;
        if (isPassing(error)) lost(who, messageOf(error));
        else {
          back(who);
          refused(error);
        }
      }
      const usual = document.hidden ? milliseconds * HIDDEN_FACTOR : milliseconds;
      await sleep(backoff(failures, usual), AbortSignal.any([nap.signal, ended.signal]));
    }
  }
  void run();
  return {
    wake,
    stop() {
      ended.abort();
      back(who);
      document.removeEventListener('visibilitychange', seen);
    },
  };
}
