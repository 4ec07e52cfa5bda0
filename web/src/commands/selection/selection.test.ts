import { expect, test } from 'vitest';
import type { CommandItem, Status } from '../../api/types';
import { applicable, forEach } from './selection';

const item = (id: string, status: Status) => ({ id, status }) as CommandItem;
const items = [item('a', 'running'), item('b', 'failed'), item('c', 'queued'), item('d', 'stopping'), item('e', 'running')];

test('an action applies to the selected commands that allow it', () => {
  const selected = new Set(['a', 'b', 'c', 'd', 'gone']);
  const ids = (action: 'stop' | 'rerun' | 'delete') => applicable(action, items, selected).map(({ id }) => id);
  expect(ids('stop')).toEqual(['a', 'c']);
  expect(ids('rerun')).toEqual(['a', 'b', 'c', 'd']);
  expect(ids('delete')).toEqual(['b']);
});

test('a request that fails keeps back no other', async () => {
  const all = Array.from({ length: 10 }, (_, index) => ({ id: String(index) }));
  let running = 0;
  let most = 0;
  const outcome = await forEach('delete', all, async (id) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    if (Number(id) < 2) throw new Error('The command is running.');
  });
  expect(outcome.done.sort()).toEqual(['2', '3', '4', '5', '6', '7', '8', '9']);
  expect(outcome.errorText).toBe('Cannot delete 2 of 10: The command is running.');
  expect(most).toBeLessThanOrEqual(4);
  expect(await forEach('stop', [], () => Promise.reject())).toEqual({ done: [], errorText: '' });
});
