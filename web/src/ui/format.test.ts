import { expect, test } from 'vitest';
import { formatAgo, formatBytes, formatDateTime, formatDuration, formatElapsed, formatTimeOfDay, parseTime } from './format';

test.each([
  [0, '00:00'],
  [134_000, '02:14'],
  [3_734_000, '1:02:14'],
  [90_061_000, '1 d 01:01:01'],
  [-5, '00:00'],
])('%i ms elapsed is %s', (ms, text) => expect(formatElapsed(ms)).toBe(text));

test.each([
  [0, '0 ms'],
  [340, '340 ms'],
  [1234, '1.2 s'],
  [9949, '9.9 s'],
  [9950, '10 s'],
  [41_200, '41 s'],
  [59_700, '1 min'],
  [250_000, '4 min 10 s'],
  [7_500_000, '2 h 5 min'],
  [200_000_000, '2 d 7 h'],
])('a duration of %i ms is %s', (ms, text) => expect(formatDuration(ms)).toBe(text));

test.each([
  [3_000, 'just now'],
  [45_000, '40 s ago'],
  [200_000, '3 min ago'],
  [7_300_000, '2 h ago'],
  [500_000_000, '5 d ago'],
])('%i ms ago is %s', (ms, text) => expect(formatAgo(ms)).toBe(text));

test('times can be shown in UTC', () => {
  const time = Date.parse('2026-11-23T16:20:00.131007Z');
  expect(formatDateTime(time, true)).toBe('2026-11-23 16:20:00 UTC');
  expect(formatTimeOfDay(time, true)).toBe('16:20:00.131');
  expect(parseTime(null)).toBeNull();
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [48_200_000, '48.2 MB'],
  [999_700, '1.0 MB'],
  [1_073_741_824, '1.1 GB'],
  [340_000_000, '340 MB'],
])('%i bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
