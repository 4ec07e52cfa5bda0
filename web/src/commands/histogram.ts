/** The last hour as columns of a chart. Pure. */
import type { CommandItem, Status } from '../api/types';

/** What is told apart in the chart, from the bottom up. */
export const GROUPS = ['succeeded', 'failed', 'stopped', 'lost', 'running', 'queued'] as const;
export type Group = (typeof GROUPS)[number];

export function groupOf(status: Status): Group {
  if (status === 'timed_out') return 'stopped';
  if (status === 'stopping') return 'running';
  return status;
}

export interface Column {
  /** when it begins, in milliseconds since 1970 */
  from: number;
  to: number;
  counts: Record<Group, number>;
  total: number;
}

/**
 * Count commands by when they were created.
 *
 * @param now - end of the last column.
 */
export function columns(items: CommandItem[], now: number, minutes: number, each: number): Column[] {
  const width = each * 60_000;
  const count = Math.ceil(minutes / each);
  // Columns stand still: they begin at whole multiples, and the last one fills.
  const last = Math.floor(now / width) * width;
  const found: Column[] = Array.from({ length: count }, (_, index) => {
    const from = last - (count - 1 - index) * width;
    const counts = Object.fromEntries(GROUPS.map((group) => [group, 0])) as Record<Group, number>;
    return { from, to: from + width, counts, total: 0 };
  });
  for (const item of items) {
    const index = Math.floor((Date.parse(item.created_at) - found[0]!.from) / width);
    const column = found[index];
    if (!column) continue;
    column.counts[groupOf(item.status)]++;
    column.total++;
  }
  return found;
}
