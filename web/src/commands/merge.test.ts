import { expect, test } from 'vitest';
import type { CommandItem } from '../api/types';
import { backoff, merge } from './merge';
import { columns } from './histogram';

const of = (...ids: string[]) => ids.map((id) => ({ id, status: 'old' }));
const now = (...ids: string[]) => ids.map((id) => ({ id, status: 'new' }));

test('the page of the service is shown when nobody aims at it', () => {
  expect(merge(of('b', 'a'), now('c', 'b'), false)).toEqual({ items: now('c', 'b'), waiting: 0, gone: [] });
});

test('under a pointer nothing moves: what is new waits, what went stays, what changed is told', () => {
  const merged = merge(of('b', 'a'), now('d', 'c', 'b'), true);
  expect(merged.items).toEqual([...now('b'), ...of('a')]);
  expect(merged.waiting).toBe(2);
  expect(merged.gone).toEqual(['a']);
});

test('an empty page is filled even under a pointer', () => {
  expect(merge([], now('a'), true).items).toEqual(now('a'));
});

test('a service that is away is asked less and less often, within bounds', () => {
  expect([0, 1, 2, 3, 4, 5, 9].map((n) => backoff(n, 1000))).toEqual([
    1000, 1000, 2000, 4000, 8000, 15000, 15000,
  ]);
});

test('commands are counted in the column in which they were created', () => {
  const at = Date.parse('2026-11-23T12:01:30Z');
  const item = (time: string, status: string) => ({ created_at: time, status }) as CommandItem;
  const found = columns(
    [
      item('2026-11-23T12:00:00.5Z', 'running'),
      item('2026-11-23T11:59:59Z', 'timed_out'),
      item('2026-11-23T11:58:00Z', 'failed'),
      item('2026-11-23T10:00:00Z', 'failed'),
    ],
    at,
    60,
    2,
  );
  expect(found).toHaveLength(30);
  expect(found.map((column) => column.total).slice(-3)).toEqual([0, 2, 1]);
  expect(found.at(-2)!.counts).toMatchObject({ stopped: 1, failed: 1 });
});
