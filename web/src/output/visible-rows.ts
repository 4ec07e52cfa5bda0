/** Finds the visible rows of a screen, and scrolls to the row of a position. */
import type { RowOrigin, Screen } from './terminal/screen';

export interface GutterRow extends RowOrigin {
  /** counted from the first visible row */
  y: number;
  /** whether the row is the first row of its line */
  first: boolean;
}

export function visibleRows(screen: Screen): GutterRow[] {
  const { viewportY } = screen.terminal.buffer.active;
  const rows: GutterRow[] = [];
  for (let y = 0; y < screen.terminal.rows; y++) {
    const origin = screen.originOf(viewportY + y);
    if (origin) rows.push({ ...origin, y });
  }
  return rows;
}

/** Scroll the line with a position to the top, or to a third of the height if centred. */
export function scrollToPosition(screen: Screen, position: number, centred: boolean): void {
  const offset = centred ? Math.floor(screen.terminal.rows / 3) : 0;
  screen.terminal.scrollToLine(Math.max(0, screen.rowOf(position) - offset));
}
