/** Where we are, from the address; and the way to elsewhere without loading the page anew. */
export const route = $state({ path: location.pathname, search: location.search, hash: location.hash });

function read(): void {
  route.path = location.pathname;
  route.search = location.search;
  route.hash = location.hash;
}

addEventListener('popstate', read);
addEventListener('hashchange', read);

export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (options.replace) history.replaceState(history.state, '', to);
  else history.pushState(null, '', to);
  const before = route.path;
  read();
  if (route.path !== before) scrollTo(0, 0);
}

/** Let clicks on links to our own pages stay in the page. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
    return;
  }
  const link = (event.target as Element).closest?.('a');
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (!isPage(link.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search + link.hash);
}

const COMMAND = /^\/commands\/([^/]+)$/;

export function commandOf(path: string): string | null {
  return COMMAND.exec(path)?.[1] ?? null;
}

function isPage(path: string): boolean {
  return ['/', '/new', '/hosts', '/sign-in'].includes(path) || COMMAND.test(path);
}
