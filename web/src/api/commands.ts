/** The service's verbs. Each throws what `send` throws. */
import { randomKey } from './random';
import { getJson, send } from './client';
import { Problem, Unreachable } from './problem';
import type { Command, CommandPage, HostList, Status, SubmitBody } from './types';

/** Which commands to list; what is empty does not filter. */
export interface ListFilter {
  status: Status[];
  label: string[];
  q: string;
  host: string;
  created_after: string;
  created_before: string;
}

export const NO_FILTER: ListFilter = {
  status: [],
  label: [],
  q: '',
  host: '',
  created_after: '',
  created_before: '',
};

export function listQuery(filter: Partial<ListFilter>): URLSearchParams {
  const query = new URLSearchParams();
  for (const status of filter.status ?? []) query.append('status', status);
  for (const label of filter.label ?? []) query.append('label', label);
  for (const name of ['q', 'host', 'created_after', 'created_before'] as const) {
    const value = filter[name];
    if (value) query.set(name, value);
  }
  return query;
}

/** How many short answers one page is put together from at most. */
const MOST_ANSWERS = 20;

/**
 * Return a page. A search that goes through very much answers after a moment, with few items or
 * none and a cursor: it is asked to go on until the page is full.
 */
export async function list(
  filter: Partial<ListFilter>,
  page: { limit?: number; cursor?: string | null } = {},
  signal?: AbortSignal,
): Promise<CommandPage> {
  const query = listQuery(filter);
  const found: CommandPage = { items: [], next_cursor: page.cursor ?? null };
  for (let answers = 0; answers < MOST_ANSWERS; answers++) {
    if (page.limit) query.set('limit', String(page.limit - found.items.length));
    if (found.next_cursor) query.set('cursor', found.next_cursor);
    const answer: CommandPage = await getJson(`/v1/commands?${query}`, signal);
    found.items.push(...answer.items);
    found.next_cursor = answer.next_cursor;
    if (!found.next_cursor || found.items.length >= (page.limit ?? 1)) break;
  }
  return found;
}

export function get(id: string, signal?: AbortSignal): Promise<Command> {
  return getJson(`/v1/commands/${encodeURIComponent(id)}`, signal);
}

async function command(response: Response): Promise<Command> {
  try {
    return (await response.json()) as Command;
  } catch {
    throw new Unreachable('The answer was cut off.');
  }
}

/**
 * @param key - names the wish: sent again after a lost answer it makes nothing new.
 */
export async function submit(body: SubmitBody, key: string): Promise<Command> {
  const headers = { 'Idempotency-Key': key };
  return command(await send('/v1/commands', { method: 'POST', json: body, headers }));
}

/** Keys of reruns that were sent and not answered yet, by command. */
const unanswered = new Map<string, string>();

/**
 * Submit a command again. Until the service has answered, a further call for the same command is
 * the same wish: it has the same key and makes nothing new.
 */
export async function rerun(id: string): Promise<Command> {
  const key = unanswered.get(id) ?? randomKey();
  unanswered.set(id, key);
  const answered = () => {
    if (unanswered.get(id) === key) unanswered.delete(id);
  };
  try {
    const headers = { 'Idempotency-Key': key };
    const made = await command(await send(`/v1/commands/${id}/rerun`, { method: 'POST', headers }));
    answered();
    return made;
  } catch (error) {
    // After a failure of the service nobody knows whether the command was stored.
    if (error instanceof Problem && error.status < 500) answered();
    throw error;
  }
}

/** @param graceSeconds - null: the command's own; 0 kills at once. */
export async function stop(id: string, graceSeconds: number | null): Promise<Command> {
  const json = graceSeconds === null ? {} : { grace_seconds: graceSeconds };
  return command(await send(`/v1/commands/${id}/stop`, { method: 'POST', json }));
}

export async function remove(id: string): Promise<void> {
  await send(`/v1/commands/${id}`, { method: 'DELETE' });
}

export function hosts(signal?: AbortSignal): Promise<HostList> {
  return getJson('/v1/hosts', signal);
}

/** Return how many bytes of output the service has, without any of them. */
export async function outputSize(id: string, signal?: AbortSignal): Promise<number> {
  const response = await send(`/v1/commands/${id}/output?limit=0`, { method: 'HEAD', signal });
  return Number(response.headers.get('output-size') ?? 0);
}
