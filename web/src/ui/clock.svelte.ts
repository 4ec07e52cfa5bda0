/** The present, ticking once a second for whatever shows it. */
let now = $state(Date.now());

setInterval(() => {
  if (!document.hidden) now = Date.now();
}, 1000);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) now = Date.now();
});

export function present(): number {
  return now;
}
