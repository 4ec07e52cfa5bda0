import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { joinWords, splitWords } from './words';

test.each(['/usr/bin/python3 -u', ` /bin/sh  -e `, `env 'a b' "c \\"d\\" e" f\\ g ''`, `a'b'"c"`])('bash reads the words of %j too', (line) => {
  const out = execFileSync('bash', ['-c', `printf '%s\\0' ${line}`], { encoding: 'utf8' });
  expect(splitWords(line)).toEqual(out.split('\0').slice(0, -1));
});

test('a quote that is not closed is noticed', () => {
  expect(splitWords(`/bin/sh 'x`)).toBeNull();
  expect(splitWords('/bin/sh "x')).toBeNull();
  expect(splitWords('')).toEqual([]);
});

test('words are read back from their line', () => {
  const words = ['/usr/bin/env', '-S', "it's", 'a b', '', 'two\nlines', '$HOME'];
  expect(splitWords(joinWords(words))).toEqual(words);
});
