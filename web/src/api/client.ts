/** One request to the service: headers, errors, and the session it belongs to. */
import { Problem, Unreachable, problemOf } from './problem';
import { csrfHeader, refresh, signedOut } from './session.svelte';

export interface Options {
  method?: 'GET' | 'HEAD' | 'POST' | 'DELETE';
  headers?: Record<string, string>;
  json?: unknown;
  signal?: AbortSignal | undefined;
  /** null: as long as it takes */
  timeoutSeconds?: number | null;
}

const TIMEOUT_SECONDS = 20;

/**
 * Send a request.
 *
 * @throws Problem: the service said no. Unreachable: it did not answer. What the signal was aborted
 * with, when it was.
 */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const response = await once(path, options);
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem instanceof Problem && problem.status === 401) {
    signedOut('You were signed out: the session has ended.');
  }
  const changes = options.method === 'POST' || options.method === 'DELETE';
  if (changes && problem instanceof Problem && problem.kind === 'forbidden') {
    // The CSRF token is only in memory: another tab may have signed in anew.
    const before = csrfHeader()['X-CSRF-Token'];
    await refresh();
    if (csrfHeader()['X-CSRF-Token'] !== before) {
      const again = await once(path, options);
      if (again.ok) return again;
      throw await problemOf(again);
    }
  }
  throw problem;
}

async function once(path: string, options: Options): Promise<Response> {
  const method = options.method ?? 'GET';
  const headers: Record<string, string> = { ...options.headers };
  let body: string | null = null;
  if (options.json !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(options.json);
  }
  if (method === 'POST' || method === 'DELETE') Object.assign(headers, csrfHeader());
  const seconds = options.timeoutSeconds === undefined ? TIMEOUT_SECONDS : options.timeoutSeconds;
  const signals = [
    ...(options.signal ? [options.signal] : []),
    ...(seconds === null ? [] : [AbortSignal.timeout(seconds * 1000)]),
  ];
  try {
    return await fetch(path, {
      method,
      headers,
      body,
      cache: 'no-store',
      ...(signals.length ? { signal: AbortSignal.any(signals) } : {}),
    });
  } catch {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new Unreachable();
  }
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, { signal });
  try {
    return (await response.json()) as T;
  } catch {
    if (signal?.aborted) throw signal.reason;
    throw new Unreachable();
  }
}
