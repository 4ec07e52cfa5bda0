/** The service's operations as functions. Each throws what `send` throws. */
import { getJson, send } from './client';
import { Problem, Unreachable } from './problem';
import type { Command, CommandList, HostList, Status, SubmitBody } from './types';

/** Which commands to list. An empty field does not filter. */
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

/** One page is put together from at most this many responses. */
const MAX_RESPONSES = 20;

/**
 * Return one page of commands.
 *
 * A search over many commands responds early, with few items or none and a cursor. This function
 * continues from the cursor until the page is full.
 */
export async function listCommands(
  filter: Partial<ListFilter>,
  page: { limit?: number; cursor?: string | null } = {},
  signal?: AbortSignal,
): Promise<CommandList> {
  const query = listQuery(filter);
  const result: CommandList = { items: [], next_cursor: page.cursor ?? null };
  for (let count = 0; count < MAX_RESPONSES; count++) {
    if (page.limit) query.set('limit', String(page.limit - result.items.length));
    if (result.next_cursor) query.set('cursor', result.next_cursor);
    const response: CommandList = await getJson(`/v1/commands?${query}`, signal);
    result.items.push(...response.items);
    result.next_cursor = response.next_cursor;
    if (!result.next_cursor || result.items.length >= (page.limit ?? 1)) break;
  }
  return result;
}

export function getCommand(id: string, signal?: AbortSignal): Promise<Command> {
  return getJson(`/v1/commands/${encodeURIComponent(id)}`, signal);
}

async function readCommand(response: Response): Promise<Command> {
  try {
    return (await response.json()) as Command;
  } catch {
    throw new Unreachable('The response was incomplete.');
  }
}

/** Return a random idempotency key. `crypto.randomUUID` is missing on pages served over plain http. */
export function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * @param key - the idempotency key. A second call with the same key, for example after a lost
 * response, creates no second command.
 */
export async function submitCommand(body: SubmitBody, key: string): Promise<Command> {
  const headers = { 'Idempotency-Key': key };
  return readCommand(await send('/v1/commands', { method: 'POST', json: body, headers }));
}

/** Idempotency keys of reruns whose response has not arrived, by command id. */
const pendingReruns = new Map<string, string>();

/**
 * Submit a command again. Until the service has responded, further calls for the same command send
 * the same idempotency key, so they create no second command.
 */
export async function rerunCommand(id: string): Promise<Command> {
  const key = pendingReruns.get(id) ?? newIdempotencyKey();
  pendingReruns.set(id, key);
  const forgetKey = () => {
    if (pendingReruns.get(id) === key) pendingReruns.delete(id);
  };
  try {
    const headers = { 'Idempotency-Key': key };
    const created = await readCommand(
      await send(`/v1/commands/${id}/rerun`, { method: 'POST', headers }),
    );
    forgetKey();
    return created;
  } catch (error) {
    // After a 5xx response the command may or may not have been stored.
    if (error instanceof Problem && error.status < 500) forgetKey();
    throw error;
  }
}

/** @param graceSeconds - null: the command's own grace period; 0: kill at once. */
export async function stopCommand(id: string, graceSeconds: number | null): Promise<Command> {
  const json = graceSeconds === null ? {} : { grace_seconds: graceSeconds };
  return readCommand(await send(`/v1/commands/${id}/stop`, { method: 'POST', json }));
}

/** Send a signal to the process group of a running script. */
export async function sendSignal(id: string, signal: string): Promise<Command> {
  return readCommand(await send(`/v1/commands/${id}/signal`, { method: 'POST', json: { signal } }));
}

/**
 * Send input to an interactive command, all of it or nothing.
 *
 * @param offset - how many bytes must have been accepted before; null for any number.
 * @param close - whether the input ends after these bytes.
 * @returns how many bytes were accepted so far, with these.
 */
export async function sendInput(
  id: string,
  bytes: Uint8Array<ArrayBuffer>,
  offset: number | null,
  close: boolean,
): Promise<number> {
  const query = new URLSearchParams();
  if (offset !== null) query.set('offset', String(offset));
  if (close) query.set('close', 'true');
  const response = await send(`/v1/commands/${id}/stdin?${query}`, { method: 'POST', bytes });
  try {
    return ((await response.json()) as { offset: number }).offset;
  } catch {
    throw new Unreachable('The response was incomplete.');
  }
}

export async function deleteCommand(id: string): Promise<void> {
  await send(`/v1/commands/${id}`, { method: 'DELETE' });
}

export function listHosts(signal?: AbortSignal): Promise<HostList> {
  return getJson('/v1/hosts', signal);
}

/** Return how many bytes of output the service has, without reading them. */
export async function getOutputSize(id: string, signal?: AbortSignal): Promise<number> {
  const response = await send(`/v1/commands/${id}/output?limit=0`, { method: 'HEAD', signal });
  return Number(response.headers.get('output-size') ?? 0);
}
