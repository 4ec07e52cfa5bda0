/**
 * The session of the person at the page. The page never keeps the token: the service sets a cookie
 * that scripts cannot read, and returns a CSRF token that the page keeps in memory only.
 */
import { Problem, Unreachable, errorFromResponse, isTemporary } from './problem';

interface SessionBody {
  name: string;
  scope: string;
  csrf_token: string;
}

const PATH = '/v1/session';

export const session = $state<{
  /** unknown until the service has responded */
  state: 'unknown' | 'signed-out' | 'signed-in';
  name: string;
  scope: string;
  /** why the session ended; empty if there was none */
  endReason: string;
}>({ state: 'unknown', name: '', scope: '', endReason: '' });

let csrfToken = '';

/** Return the header that every request that changes something needs. */
export function csrfHeader(): Record<string, string> {
  return csrfToken ? { 'X-CSRF-Token': csrfToken } : {};
}

export function mayRun(): boolean {
  return session.scope !== 'read';
}

export function mayDelete(): boolean {
  return session.scope === 'admin';
}

function startSession(body: SessionBody): void {
  csrfToken = body.csrf_token;
  session.name = body.name;
  session.scope = body.scope;
  session.endReason = '';
  session.state = 'signed-in';
}

/** Forget the session: the person signed out, or a request got 401. */
export function endSession(reason: string): void {
  csrfToken = '';
  session.state = 'signed-out';
  session.endReason = reason;
}

async function request(init: RequestInit): Promise<Response> {
  try {
    return await fetch(PATH, { ...init, signal: AbortSignal.timeout(15_000) });
  } catch {
    throw new Unreachable();
  }
}

/** Return the one-time code in the address, and remove it there, so that no history keeps it. */
function takeCodeFromAddress(): string | null {
  const match = /^#code=(.+)$/.exec(location.hash);
  if (!match?.[1]) return null;
  history.replaceState(history.state, '', location.pathname + location.search);
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1]; // Not a valid code; the service refuses it with a message.
  }
}

/** A one-time code for which the service has not responded yet. The next attempt sends it again. */
let pendingCode: string | null = null;

/**
 * Sign in with the one-time code in the address, or find the session of the cookie.
 *
 * @throws Unreachable: the service does not respond. Problem: the service cannot check it now.
 */
export async function restoreSession(): Promise<void> {
  pendingCode = takeCodeFromAddress() ?? pendingCode;
  if (pendingCode) {
    try {
      await signIn({ code: pendingCode });
      pendingCode = null;
      return;
    } catch (error) {
      if (isTemporary(error)) throw error; // The code is still unused.
      pendingCode = null;
      await refreshSession();
      if (session.state !== 'signed-in') {
        endSession('This sign-in link has expired or was already used. Sign in with a token.');
      }
      return;
    }
  }
  await refreshSession();
}

/** Read the session of the cookie. Also gets a new CSRF token after the service has restarted. */
export async function refreshSession(): Promise<void> {
  const response = await request({});
  if (response.ok) return startSession((await response.json()) as SessionBody);
  const error = await errorFromResponse(response);
  if (error instanceof Unreachable) throw error;
  endSession('');
}

/** @throws Problem: the token or code is invalid. Unreachable: the service does not respond. */
export async function signIn(credentials: { token: string } | { code: string }): Promise<void> {
  const response = await request({
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(credentials),
  });
  if (!response.ok) throw await errorFromResponse(response);
  startSession((await response.json()) as SessionBody);
}

export async function signOut(): Promise<void> {
  const response = await request({ method: 'DELETE', headers: csrfHeader() });
  if (!response.ok && response.status !== 401) {
    const error = await errorFromResponse(response);
    if (error instanceof Problem && error.status === 403) {
      await refreshSession();
      await request({ method: 'DELETE', headers: csrfHeader() });
    } else throw error;
  }
  endSession('');
}
