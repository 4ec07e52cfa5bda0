import { expect, test } from 'vitest';
import type { CommandItem } from '../api/types';
import { histogram } from './histogram';

test('a command is counted in the column in which it was created', () => {
  const now = Date.parse('2026-11-23T12:01:30Z');
  const item = (time: string, status: string) => ({ created_at: time, status }) as CommandItem;
  const columns = histogram(
    [
      item('2026-11-23T12:00:00.5Z', 'running'),
      item('2026-11-23T11:59:59Z', 'timed_out'),
      item('2026-11-23T11:58:00Z', 'failed'),
      item('2026-11-23T10:00:00Z', 'failed'),
    ],
    now,
    60,
    2,
  );
  expect(columns).toHaveLength(30);
  expect(columns.map((column) => column.total).slice(-3)).toEqual([0, 2, 1]);
  expect(columns.at(-2)!.counts).toMatchObject({ stopped: 1, failed: 1 });
});
