/**
 * Who is signed in. The token itself is never kept: the service answers with a cookie that scripts
 * cannot read, and with a CSRF token that lives in memory only.
 */
import { Problem, Unreachable, isPassing, problemOf } from './problem';

interface Session {
  name: string;
  scope: string;
  csrf_token: string;
}

const PATH = '/v1/session';

export const session = $state<{
  /** unknown until the service was asked */
  state: 'unknown' | 'out' | 'in';
  name: string;
  scope: string;
  /** why one has to sign in (again); empty at first */
  why: string;
}>({ state: 'unknown', name: '', scope: '', why: '' });

let csrfToken = '';

/** The header that makes a request ours, for methods that change something. */
export function csrfHeader(): Record<string, string> {
  return csrfToken ? { 'X-CSRF-Token': csrfToken } : {};
}

export function mayRun(): boolean {
  return session.scope !== 'read';
}

export function mayDelete(): boolean {
  return session.scope === 'admin';
}

function signedIn(found: Session): void {
  csrfToken = found.csrf_token;
  session.name = found.name;
  session.scope = found.scope;
  session.why = '';
  session.state = 'in';
}

/** Any request found that the session is over. */
export function signedOut(why: string): void {
  csrfToken = '';
  session.state = 'out';
  session.why = why;
}

async function ask(init: RequestInit): Promise<Response> {
  try {
    return await fetch(PATH, { ...init, signal: AbortSignal.timeout(15_000) });
  } catch {
    throw new Unreachable();
  }
}

/** Take the one-time code out of the address, at once, so that it is in no history. */
function codeFromAddress(): string | null {
  const found = /^#code=(.+)$/.exec(location.hash);
  if (!found?.[1]) return null;
  history.replaceState(history.state, '', location.pathname + location.search);
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1]; // no code of ours; the service says so
  }
}

/** A code that the service has not answered to yet: the next try takes it again. */
let pendingCode: string | null = null;

/**
 * Find out who is signed in, by a one-time code in the address or by the cookie.
 *
 * @throws Unreachable: the service does not answer. Problem: it cannot now.
 */
export async function begin(): Promise<void> {
  pendingCode = codeFromAddress() ?? pendingCode;
  if (pendingCode) {
    try {
      await signIn({ code: pendingCode });
      pendingCode = null;
      return;
    } catch (error) {
      if (isPassing(error)) throw error; // the link is as good as before
      pendingCode = null;
      await refresh();
      if (session.state !== 'in') {
        signedOut('This sign-in link was used already or is too old. Sign in with a token instead.');
      }
      return;
    }
  }
  await refresh();
}

/** Ask who is signed in by the cookie; also for a new CSRF token after the service was restarted. */
export async function refresh(): Promise<void> {
  const response = await ask({});
  if (response.ok) return signedIn((await response.json()) as Session);
  const problem = await problemOf(response);
  if (problem instanceof Unreachable) throw problem;
  signedOut('');
}

/** @throws Problem: the service does not know it. Unreachable: it does not answer. */
export async function signIn(by: { token: string } | { code: string }): Promise<void> {
  const response = await ask({
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(by),
  });
  if (!response.ok) throw await problemOf(response);
  signedIn((await response.json()) as Session);
}

export async function signOut(): Promise<void> {
  const response = await ask({ method: 'DELETE', headers: csrfHeader() });
  if (!response.ok && response.status !== 401) {
    const problem = await problemOf(response);
    if (problem instanceof Problem && problem.status === 403) {
      await refresh();
      await ask({ method: 'DELETE', headers: csrfHeader() });
    } else throw problem;
  }
  signedOut('');
}
