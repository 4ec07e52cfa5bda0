import { expect, test } from 'vitest';
import { ANY_TIME, labelProblem, lastHours, localValue, rangeBetween, rangeText } from './filter-text';

test.each(['team=db', 'a/b.c-d_e=', 'team=a=b', 'x= '])('the label %j is valid', (text) => expect(labelProblem(text)).toBe(''));

test.each([
  ['team', 'team=db'],
  ['=db', 'no key'],
  ['a b=c', 'letters, digits'],
  ['-a=b', 'begins with'],
  [`${'k'.repeat(64)}=v`, '63'],
  [`k=${'v'.repeat(256)}`, '255'],
])('the label %j is refused with a reason', (text, reason) => expect(labelProblem(text)).toContain(reason));

test('a range of times goes to the API and back to the fields', () => {
  const range = rangeBetween('2026-11-25T14:00', '2026-11-25T15:30');
  if (typeof range === 'string') throw new Error(range);
  expect(range.created_after).toMatch(/Z$/);
  expect(localValue(range.created_after)).toBe('2026-11-25T14:00');
  expect(rangeText(range)).toBe('2026-11-25 14:00 to 15:30');
  expect(rangeText({ ...range, created_before: '' })).toBe('Since 2026-11-25 14:00');
  expect(rangeText({ ...range, created_after: '' })).toBe('Until 2026-11-25 15:30');
  expect(rangeText(ANY_TIME)).toBe('Any time');
  expect(rangeBetween('', '')).toEqual(ANY_TIME);
  expect(rangeBetween('2026-11-25T15:00', '2026-11-25T14:00')).toBe('The start must be before the end.');
  expect(rangeText({ created_after: 'yesterday', created_before: '' })).toBe('Since yesterday');
});

test('the last hours end now', () => {
  expect(lastHours(24, Date.parse('2026-11-25T12:00:00Z'))).toEqual({ created_after: '2026-11-24T12:00:00.000Z', created_before: '' });
});
