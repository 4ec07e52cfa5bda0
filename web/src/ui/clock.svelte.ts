/** The time that the page shows: updated once a second while the tab is visible. */
let current = $state(Date.now());

setInterval(() => {
  if (!document.hidden) current = Date.now();
}, 1000);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) current = Date.now();
});

/** Return the time in milliseconds since 1970. Components that call this are redrawn each second. */
export function now(): number {
  return current;
}

/** Whether the whole page shows exact times in UTC instead of the reader's time zone. */
export const timeZone = $state({ utc: false });
