/** Follows one command to its end over lost connections and restarts: every byte once. */
import { type StreamEvent, events } from './events';
import { Problem, isPassing, messageOf } from './problem';
import { backoff } from '../commands/merge';
import { sleep } from './retry';
import { endOf } from '../output/chunks';

export interface Follower {
  /** may take its time: nothing more is read until then */
  event(event: StreamEvent): Promise<void> | void;
  /** @param since - when it was lost, in milliseconds since 1970 */
  lost(why: string, since: number): void;
  back(): void;
}

/**
 * Follow from a position on until the command's end or until aborted.
 *
 * @throws Problem: the service said no for good (deleted, signed out).
 */
export async function follow(
  id: string,
  from: number,
  follower: Follower,
  signal: AbortSignal,
): Promise<void> {
  let position = from;
  let failures = 0;
  let since = 0;
  while (!signal.aborted) {
    try {
      for await (const event of events(id, position, signal)) {
        if (failures) follower.back();
        failures = 0;
        if (event.kind === 'output') {
          if (event.chunk.position !== position) {
            throw new Error(`cannot go on at ${position}: it went on at ${event.chunk.position}`);
          }
          position = endOf(event.chunk);
        }
        await follower.event(event);
        if (event.kind === 'end') return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isPassing(error) && !(error instanceof TypeError)) {
        if (error instanceof Problem) throw error;
        console.error(error);
      }
      if (failures++ === 0) since = Date.now();
      // A single break is mended within a blink, and nobody needs to be told.
      if (failures > 1) follower.lost(messageOf(error), since);
      await sleep(failures === 1 ? 200 : backoff(failures - 1, 1000), signal);
    }
  }
}
