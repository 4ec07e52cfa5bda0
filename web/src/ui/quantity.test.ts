import { expect, test } from 'vitest';
import { durationText, parseDuration, parseSize, sizeText } from './quantity';

test.each([
  ['90', 90],
  ['90s', 90],
  [' 5m ', 300],
  ['2h', 7200],
  ['30d', 2_592_000],
  ['1.5', 1.5],
  ['0.5 m', 30],
  ['0', 0],
  ['', null],
  ['ten', null],
  ['-3', null],
  ['5 minutes', null],
  ['1e3', null],
  ['1h30m', 5400],
  ['1h30', null],
])('the duration %j is %s seconds', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

test.each([0, 1.5, 59, 60, 90, 300, 3600, 5400, 7200, 86_400])('%d seconds are read back from their text', (seconds) =>
  expect(parseDuration(durationText(seconds))).toBe(seconds),
);

test('durations are written in the largest unit that is exact', () => {
  expect([90, 300, 7200].map(durationText)).toEqual(['90s', '5m', '2h']);
});

test.each([
  ['1000', 1000],
  ['1 kB', 1024],
  ['1k', 1024],
  ['500 MB', 524_288_000],
  ['10 GiB', 10_737_418_240],
  ['10G', 10_737_418_240],
  ['1.5 KiB', 1536],
  ['5 B', 5],
  ['None', null],
  ['a lot', undefined],
  ['-1', undefined],
])('the size %j is %s bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

test.each([0, 5, 1000, 1024, 1536, 500_000_000, 10_737_418_240, null])('%s bytes are read back from their text', (bytes) =>
  expect(parseSize(sizeText(bytes))).toBe(bytes),
);
