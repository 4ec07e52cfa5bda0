import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { beyondRun, curl, run } from './command-line';
import { quote } from './quote';

/** What a real bash makes of a line that prints its words, each ended by NUL. */
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

test.each(AWKWARD)('bash reads %j as it was', (text) => {
  expect(words(quote(text))).toEqual([text]);
});

test.each(['a\tb', 'a\nb', '\x1b'])('a terminal swallows nothing of %j', (text) => {
  // eslint-disable-next-line no-control-regex
  expect(quote(text)).not.toMatch(/[\x00-\x09\x0b-\x1f]/);
});

const BODY = { script: `@echo "it's $1"\nprintf '%s\\n' \\ü\n`, labels: { team: 'a b' }, args: ["'", ''], priority: 3 };
const curled = (body: typeof BODY) =>
  words(curl('http://127.0.0.1:8000', body).replace('$SCRIPTSERVICE_TOKEN', 'ss_x'));

test('a line for curl carries the script unchanged and the fields beside it', () => {
  const made = curled(BODY);
  expect(made).toContain('Authorization: Bearer ss_x');
  expect(made.slice(-3)).toEqual(['Content-Type: text/plain', '--data-raw', BODY.script]);
  expect([...new URL(made[1]!).searchParams]).toEqual([
    ['label', 'team=a b'],
    ['arg', "'"],
    ['arg', ''],
    ['priority', '3'],
  ]);
});

test('fields that are too long for an address are sent as JSON', () => {
  const long = { ...BODY, args: ['x'.repeat(5000)] };
  const made = curled(long);
  expect(made[1]).toBe('http://127.0.0.1:8000/v1/commands');
  expect(JSON.parse(made.at(-1)!)).toEqual(long);
});

test('a line for the command line has options, then script, then arguments', () => {
  const body = { script: '-x\necho "$1"', name: "it's", env: { A: '$B' }, args: ['--', '-v'], timeout_seconds: 1.5 };
  const made = words(run('http://h:1', body));
  expect(made).toEqual(
    ['scriptservice', 'run', '--url', 'http://h:1', '--name', "it's", '--env', 'A=$B'].concat(
      ['--timeout', '1.5', '--', '-x\necho "$1"', '--', '-v'],
    ),
  );
});

test('what the command line has no option for is named', () => {
  expect(beyondRun({ script: 'x', name: 'n', priority: 3, stdin: 'y' })).toEqual(['priority', 'stdin']);
});
