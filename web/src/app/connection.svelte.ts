/**
 * Keeps whether the service responds, for the banner at the top. Each part of the page that sends
 * requests by itself reports its failures and successes here, under its own name.
 */
const failures = new Map<string, { since: number; attempts: number; reason: string }>();

/** `since` is the time of the first failure in milliseconds since 1970, null while all is well. */
export const connection = $state<{ since: number | null; attempts: number; reason: string }>({
  since: null,
  attempts: 0,
  reason: '',
});

function update(): void {
  const all = [...failures.values()];
  connection.since = all.length ? Math.min(...all.map((failure) => failure.since)) : null;
  connection.attempts = Math.max(0, ...all.map((failure) => failure.attempts));
  connection.reason = all[0]?.reason ?? '';
}

/** Report a failed attempt. */
export function reportLost(source: string, reason: string, since = Date.now()): void {
  const earlier = failures.get(source);
  failures.set(source, { since: earlier?.since ?? since, attempts: (earlier?.attempts ?? 0) + 1, reason });
  update();
}

/** Report that a request of the source succeeded, or that the source sends no further requests. */
export function reportRestored(source: string): void {
  if (failures.delete(source)) update();
}
