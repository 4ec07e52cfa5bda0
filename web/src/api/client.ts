/** Sends one request to the service: adds the headers and turns failures into errors. */
import { Problem, Unreachable, errorFromResponse } from './problem';
import { csrfHeader, endSession, refreshSession } from './session.svelte';

export interface RequestOptions {
  method?: 'GET' | 'HEAD' | 'POST' | 'DELETE';
  headers?: Record<string, string>;
  json?: unknown;
  bytes?: Uint8Array<ArrayBuffer>;
  signal?: AbortSignal | undefined;
  /** null: no timeout */
  timeoutSeconds?: number | null;
}

const DEFAULT_TIMEOUT_SECONDS = 20;

/**
 * Send a request and return the response, whose status is 2xx.
 *
 * @throws Problem: the service refused the request. Unreachable: the service did not respond. The
 * signal's reason: the signal was aborted.
 */
export async function send(path: string, options: RequestOptions = {}): Promise<Response> {
  const response = await sendOnce(path, options);
  if (response.ok) return response;
  const error = await errorFromResponse(response);
  if (error instanceof Problem && error.status === 401) {
    endSession('Your session has ended. Sign in again.');
  }
  const changesState = options.method === 'POST' || options.method === 'DELETE';
  if (changesState && error instanceof Problem && error.kind === 'forbidden') {
    // The CSRF token is only in memory, and another tab may have started a new session.
    const oldToken = csrfHeader()['X-CSRF-Token'];
    await refreshSession();
    if (csrfHeader()['X-CSRF-Token'] !== oldToken) {
      const secondResponse = await sendOnce(path, options);
      if (secondResponse.ok) return secondResponse;
      throw await errorFromResponse(secondResponse);
    }
  }
  throw error;
}

async function sendOnce(path: string, options: RequestOptions): Promise<Response> {
  const method = options.method ?? 'GET';
  const headers: Record<string, string> = { ...options.headers };
  let body: string | Uint8Array<ArrayBuffer> | null = options.bytes ?? null;
  if (options.bytes) headers['Content-Type'] = 'application/octet-stream';
  if (options.json !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(options.json);
  }
  if (method === 'POST' || method === 'DELETE') Object.assign(headers, csrfHeader());
  const seconds = options.timeoutSeconds === undefined ? DEFAULT_TIMEOUT_SECONDS : options.timeoutSeconds;
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

/** Send a GET request and return the JSON of its response. Throws what `send` throws. */
export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, { signal });
  try {
    return (await response.json()) as T;
  } catch {
    if (signal?.aborted) throw signal.reason;
    throw new Unreachable();
  }
}
