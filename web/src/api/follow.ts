/**
 * Follows one command to its end. If the connection is lost or the service restarts, it reconnects;
 * the listener gets every byte exactly once.
 */
import { type StreamEvent, streamEvents } from './events';
import { Problem, isTemporary, messageOf } from './problem';
import { retryDelay, sleep } from './retry';
import { endOf } from './types';

export interface FollowListener {
  /** Nothing more is read until the returned promise settles. */
  event(event: StreamEvent): Promise<void> | void;
  /** @param since - when the connection was lost, in milliseconds since 1970 */
  lost(reason: string, since: number): void;
  restored(): void;
}

/**
 * Follow a command from a position until its end or until the signal is aborted.
 *
 * @throws Problem: the service refused the request and would refuse it again, because the command
 * was deleted or the session has ended.
 */
export async function follow(
  id: string,
  from: number,
  listener: FollowListener,
  signal: AbortSignal,
): Promise<void> {
  let position = from;
  let failures = 0;
  let lostSince = 0;
  while (!signal.aborted) {
    try {
      for await (const event of streamEvents(id, position, signal)) {
        if (failures) listener.restored();
        failures = 0;
        if (event.kind === 'output') {
          if (event.chunk.position !== position) {
            throw new Error(`cannot continue at ${position}: the next output is at ${event.chunk.position}`);
          }
          position = endOf(event.chunk);
        }
        await listener.event(event);
        if (event.kind === 'end') return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isTemporary(error) && !(error instanceof TypeError)) {
        if (error instanceof Problem) throw error;
        console.error(error);
      }
      if (failures++ === 0) lostSince = Date.now();
      // The first retry usually succeeds after 200 ms, so the first failure is not reported.
      if (failures > 1) listener.lost(messageOf(error), lostSince);
      await sleep(failures === 1 ? 200 : retryDelay(failures - 1, 1000), signal);
    }
  }
}
