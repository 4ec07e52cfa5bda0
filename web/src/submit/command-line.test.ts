import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { curlLine, quote, runLine, unsupportedByRun } from './command-line';

/** Return the words that a real bash reads from a line. */
function words(line: string): string[] {
  const out = execFileSync('bash', ['-c', `printf '%s\\0' ${line}`], { encoding: 'utf8' });
  return out.split('\0').slice(0, -1);
}

const AWKWARD = [
  'plain',
  '',
  ' ',
  "it's",
  `"double" $HOME \`id\` $(id) \\ !history`,
  'a\nb\n',
  'tab\there',
  'cr\rlf\n',
  '\x1b[31mred\x1b[0m',
  '\x011 digits after',
  '~',
  '*',
  '-n',
  'a=b',
  '#no',
  'ünïcödé ✓ 🎉',
  "mixed '\x07' \\n",
];

test.each(AWKWARD)('bash reads %j unchanged', (text) => {
  expect(words(quote(text))).toEqual([text]);
});

test.each(['a\tb', 'a\nb', '\x1b'])('a terminal drops nothing of %j', (text) => {
  expect(quote(text)).not.toMatch(/[\x00-\x09\x0b-\x1f]/);
});

const BODY = { script: `@echo "it's $1"\nprintf '%s\\n' \\ü\n`, labels: { team: 'a b' }, args: ["'", ''], priority: 3 };
const curlWords = (body: typeof BODY) =>
  words(curlLine('http://127.0.0.1:8000', body).replace('$SCRIPTSERVICE_TOKEN', 'ss_x'));

test('a curl line has the script unchanged and the fields in its query', () => {
  const found = curlWords(BODY);
  expect(found).toContain('Authorization: Bearer ss_x');
  expect(found.slice(-3)).toEqual(['Content-Type: text/plain', '--data-raw', BODY.script]);
  expect([...new URL(found[1]!).searchParams]).toEqual([
    ['label', 'team=a b'],
    ['arg', "'"],
    ['arg', ''],
    ['priority', '3'],
  ]);
});

test('fields that are too long for an address are sent as JSON', () => {
  const long = { ...BODY, args: ['x'.repeat(5000)] };
  const found = curlWords(long);
  expect(found[1]).toBe('http://127.0.0.1:8000/v1/commands');
  expect(JSON.parse(found.at(-1)!)).toEqual(long);
});

test('a scriptservice run line has options, then the script, then arguments', () => {
  const body = { script: '-x\necho "$1"', name: "it's", env: { A: '$B' }, args: ['--', '-v'], timeout_seconds: 1.5 };
  const found = words(runLine('http://h:1', body));
  expect(found).toEqual(
    ['scriptservice', 'run', '--url', 'http://h:1', '--name', "it's", '--env', 'A=$B'].concat(
      ['--timeout', '1.5', '--', '-x\necho "$1"', '--', '-v'],
    ),
  );
});

test('fields without an option of scriptservice run are named', () => {
  expect(unsupportedByRun({ script: 'x', name: 'n', priority: 3, stdin: 'y' })).toEqual(['priority', 'stdin']);
});
