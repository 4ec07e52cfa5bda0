import { expect, test } from 'vitest';
import { missingInput } from '../api/attach';
import { Problem, Unreachable } from '../api/problem';
import { LineSender, type Post } from './line-sender';

const QUIET = { full: () => undefined, lost: () => undefined, restored: () => undefined };

const mismatch = (offset: number) =>
  new Problem({ type: '/problems/offset-mismatch', title: '', status: 409, detail: '', instance: '', offset } as Problem['body']);

/** An input as the service keeps it. Answers to the requests with the given numbers are lost. */
function makeInput(lostAnswers: number[]): { post: Post; accepted: () => string; add: (text: string) => void } {
  let accepted = '';
  let requests = 0;
  return {
    accepted: () => accepted,
    add: (text) => (accepted += text),
    async post(bytes, offset) {
      const lost = lostAnswers.includes(requests++);
      const refused = offset !== null && offset !== accepted.length;
      const known = accepted.length;
      if (!refused) accepted += new TextDecoder().decode(bytes);
      if (lost) throw new Unreachable();
      if (refused) throw mismatch(known);
      return accepted.length;
    },
  };
}

test('lines arrive in order and once, also if answers are lost', async () => {
  const input = makeInput([0, 2, 4]);
  const sender = new LineSender(input.post, QUIET, new AbortController().signal);
  await Promise.all([sender.send('one\n'), sender.send('two\n'), sender.send('three\n')]);
  expect(input.accepted()).toBe('one\ntwo\nthree\n');
});

test('input of another client comes between lines', async () => {
  const input = makeInput([]);
  const sender = new LineSender(input.post, QUIET, new AbortController().signal);
  await sender.send('one\n');
  input.add('other\n');
  await sender.send('two\n');
  expect(input.accepted()).toBe('one\nother\ntwo\n');
});

test('a line that may have arrived is not sent again', async () => {
  const input = makeInput([1]);
  const sender = new LineSender(input.post, QUIET, new AbortController().signal);
  const sending = sender.send('one\n');
  setTimeout(() => input.add('from another client\n'), 20);
  await expect(sending).rejects.toThrow('Cannot tell whether the line arrived');
  expect(input.accepted()).toBe('one\nfrom another client\n');
});

test('what did not arrive over a lost connection is counted', () => {
  expect([missingInput(10, 0, null), missingInput(10, 5, 15), missingInput(10, 5, 12), missingInput(null, 5, 12)]).toEqual([0, 0, 3, null]);
  // Another client has sent more meanwhile.
  expect(missingInput(10, 5, 20)).toBe(0);
});
