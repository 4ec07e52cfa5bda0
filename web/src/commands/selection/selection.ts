/** Actions on several commands: which commands they apply to, and how they are done. */
import { messageOf } from '../../api/problem';
import { type CommandItem, isFinal } from '../../api/types';

export type Action = 'stop' | 'rerun' | 'delete';

/** How many requests of one action may wait for their responses at the same time. */
const PARALLEL_REQUESTS = 4;

/** Return the selected commands that an action applies to, in the order of the list. */
export function applicable(action: Action, items: CommandItem[], selected: ReadonlySet<string>): CommandItem[] {
  return items.filter(
    (item) =>
      selected.has(item.id) &&
      (action === 'rerun' || (action === 'delete' ? isFinal(item.status) : !isFinal(item.status) && item.status !== 'stopping')),
  );
}

export interface Outcome {
  /** ids for which the request succeeded */
  done: string[];
  /** what failed, in a sentence; empty if nothing did */
  errorText: string;
}

/** Send a request for each command, a few at a time. If one fails, the others are still sent. */
export async function forEach(
  action: Action,
  items: readonly { id: string }[],
  request: (id: string) => Promise<unknown>,
): Promise<Outcome> {
  const done: string[] = [];
  const reasons: string[] = [];
  const waiting = items.map((item) => item.id);
  const work = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      try {
        await request(id);
        done.push(id);
      } catch (error) {
        reasons.push(messageOf(error));
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_REQUESTS }, work));
  const different = [...new Set(reasons)];
  return {
    done,
    errorText: reasons.length ? `Cannot ${action} ${reasons.length} of ${items.length}: ${different.slice(0, 3).join('; ')}` : '',
  };
}
