/** Counts recent commands by time and status, for the chart above the list. */
import type { CommandItem, Status } from '../api/types';

/** The groups of statuses that the chart shows, from the bottom up. */
export const GROUPS = ['succeeded', 'failed', 'stopped', 'lost', 'running', 'queued'] as const;
export type Group = (typeof GROUPS)[number];

export function groupOf(status: Status): Group {
  if (status === 'timed_out') return 'stopped';
  if (status === 'stopping') return 'running';
  return status;
}

export interface Column {
  /** start of the column in milliseconds since 1970 */
  from: number;
  to: number;
  counts: Record<Group, number>;
  total: number;
}

/**
 * Count commands by the time they were created.
 *
 * @param now - end of the last column, in milliseconds since 1970.
 * @param minutes - time that all columns cover.
 * @param columnMinutes - time that one column covers.
 */
export function histogram(items: CommandItem[], now: number, minutes: number, columnMinutes: number): Column[] {
  const width = columnMinutes * 60_000;
  const count = Math.ceil(minutes / columnMinutes);
  // Columns start at whole multiples of their width, so that they do not move as time passes.
  const lastStart = Math.floor(now / width) * width;
  const columns: Column[] = Array.from({ length: count }, (_, index) => {
    const from = lastStart - (count - 1 - index) * width;
    const counts = Object.fromEntries(GROUPS.map((group) => [group, 0])) as Record<Group, number>;
    return { from, to: from + width, counts, total: 0 };
  });
  for (const item of items) {
    const index = Math.floor((Date.parse(item.created_at) - columns[0]!.from) / width);
    const column = columns[index];
    if (!column) continue;
    column.counts[groupOf(item.status)]++;
    column.total++;
  }
  return columns;
}
