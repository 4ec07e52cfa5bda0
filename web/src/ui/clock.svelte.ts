/** The time that the page shows: updated once a second while the tab is visible. */
let current = $state(Date.now());

setInterval(() => {
  if (!document.hidden) current = Date.now();
}, 1000);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) current = Date.now();
});

/** Return the current time in milliseconds since 1970. What uses it is redrawn each second. */
export function now(): number {
  return current;
}

/** Whether the whole page shows exact times in UTC instead of the reader's time zone. */
export const timeZone = $state({ utc: false });
