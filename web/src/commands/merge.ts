/** Merges the list that is shown with the page that the service has just returned. */

interface Identified {
  id: string;
}

export interface Merged<T> {
  items: T[];
  /** number of new items that are not shown yet */
  hidden: number;
  /** ids that are still shown but no longer on the service's page */
  removed: string[];
}

/**
 * Merge the items that are shown with the service's page.
 *
 * @param shown - in order.
 * @param page - in order. Its items replace shown items with the same id.
 * @param keepPositions - whether rows must stay where they are, for example because the pointer is
 * over them. New items are then counted instead of shown, and removed items stay.
 */
export function mergeItems<T extends Identified>(shown: T[], page: T[], keepPositions: boolean): Merged<T> {
  if (!keepPositions || shown.length === 0) return { items: page, hidden: 0, removed: [] };
  const pageById = new Map(page.map((item) => [item.id, item]));
  const shownIds = new Set(shown.map((item) => item.id));
  return {
    items: shown.map((item) => pageById.get(item.id) ?? item),
    hidden: page.filter((item) => !shownIds.has(item.id)).length,
    removed: shown.filter((item) => !pageById.has(item.id)).map((item) => item.id),
  };
}
