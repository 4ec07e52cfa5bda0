import { expect, test } from 'vitest';
import { retryDelay } from './retry';

test('the delay grows with each failure, up to a limit', () => {
  expect([0, 1, 2, 3, 4, 5, 9].map((failures) => retryDelay(failures, 1000))).toEqual([
    1000, 1000, 2000, 4000, 8000, 15000, 15000,
  ]);
});
