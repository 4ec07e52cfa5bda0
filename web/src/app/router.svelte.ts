/** The current address, and navigation without a page load. */
export const route = $state({ path: location.pathname, search: location.search, hash: location.hash });

function readAddress(): void {
  route.path = location.pathname;
  route.search = location.search;
  route.hash = location.hash;
}

addEventListener('popstate', readAddress);
addEventListener('hashchange', readAddress);

export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (options.replace) history.replaceState(history.state, '', to);
  else history.pushState(null, '', to);
  const oldPath = route.path;
  readAddress();
  if (route.path !== oldPath) scrollTo(0, 0);
}

/** Handle clicks on links to the page's own addresses without a page load. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
    return;
  }
  const link = (event.target as Element).closest?.('a');
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (!isOwnPath(link.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search + link.hash);
}

const COMMAND_PATH = /^\/commands\/([^/]+)$/;

/** Return the command id in a path, or null. */
export function commandIdOf(path: string): string | null {
  return COMMAND_PATH.exec(path)?.[1] ?? null;
}

function isOwnPath(path: string): boolean {
  return ['/', '/new', '/hosts', '/sign-in'].includes(path) || COMMAND_PATH.test(path);
}
