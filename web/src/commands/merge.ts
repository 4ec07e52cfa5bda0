/** How what is shown of a list becomes what the service says now, without moving under a pointer. */

interface Item {
  id: string;
}

export interface Merged<T> {
  items: T[];
  /** new ones that are not shown yet */
  waiting: number;
  /** ids that are shown although the service's page has them no more */
  gone: string[];
}

/**
 * Merge the page the service has now into the one that is shown.
 *
 * @param shown - in order.
 * @param fresh - in order; replaces what is shown where ids are equal.
 * @param hold - whether places must not move: what is new waits, what went stays.
 */
export function merge<T extends Item>(shown: T[], fresh: T[], hold: boolean): Merged<T> {
  if (!hold || shown.length === 0) return { items: fresh, waiting: 0, gone: [] };
  const now = new Map(fresh.map((item) => [item.id, item]));
  const known = new Set(shown.map((item) => item.id));
  return {
    items: shown.map((item) => now.get(item.id) ?? item),
    waiting: fresh.filter((item) => !known.has(item.id)).length,
    gone: shown.filter((item) => !now.has(item.id)).map((item) => item.id),
  };
}

/** How long to wait after so many failures in a row, in milliseconds. */
export function backoff(failures: number, usual: number): number {
  return failures === 0 ? usual : Math.min(15_000, Math.max(usual, 500 * 2 ** failures));
}
