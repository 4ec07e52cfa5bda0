/** Whether the service answers, for the thin line at the top. Whoever asks it reports here. */
const failures = new Map<string, { since: number; tries: number; why: string }>();

export const connection = $state<{ since: number | null; tries: number; why: string }>({
  since: null,
  tries: 0,
  why: '',
});

function tell(): void {
  const all = [...failures.values()];
  connection.since = all.length ? Math.min(...all.map((found) => found.since)) : null;
  connection.tries = Math.max(0, ...all.map((found) => found.tries));
  connection.why = all[0]?.why ?? '';
}

export function lost(who: string, why: string, since = Date.now()): void {
  const known = failures.get(who);
  failures.set(who, { since: known?.since ?? since, tries: (known?.tries ?? 0) + 1, why });
  tell();
}

export function back(who: string): void {
  if (failures.delete(who)) tell();
}
