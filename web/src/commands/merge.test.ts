import { expect, test } from 'vitest';
import { mergeItems } from './merge';

const old = (...ids: string[]) => ids.map((id) => ({ id, status: 'old' }));
const fresh = (...ids: string[]) => ids.map((id) => ({ id, status: 'new' }));

test("the service's page replaces what is shown when no pointer is over it", () => {
  expect(mergeItems(old('b', 'a'), fresh('c', 'b'), false)).toEqual({ items: fresh('c', 'b'), hidden: 0, removed: [] });
});

test('under a pointer rows keep their positions: new items are counted, removed ones stay, changed ones are updated', () => {
  const merged = mergeItems(old('b', 'a'), fresh('d', 'c', 'b'), true);
  expect(merged.items).toEqual([...fresh('b'), ...old('a')]);
  expect(merged.hidden).toBe(2);
  expect(merged.removed).toEqual(['a']);
});

test('an empty list is filled even under a pointer', () => {
  expect(mergeItems([], fresh('a'), true).items).toEqual(fresh('a'));
});
