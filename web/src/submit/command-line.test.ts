import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import type { SubmitBody } from '../api/types';
import { curlLine, runLine } from './command-line';
import { quote } from './words';

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
    ['scriptservice', 'run', '--url', 'http://h:1', '--name', "it's", '--timeout', '1.5'].concat(
      ['--env', 'A=$B', '--', '-x\necho "$1"', '--', '-v'],
    ),
  );
});

const ALL = {
  script: 'cat',
  name: '-n',
  labels: { team: 'db' },
  interpreter: ['/bin/sh', '-e', 'a b'],
  args: ['x'],
  env: { A: 'b' },
  stdin: "it's\n",
  working_directory: 'private',
  timeout_seconds: 90,
  queue_timeout_seconds: 300,
  grace_seconds: 0,
  leftover_seconds: 0.5,
  output_limit_bytes: null,
  on_output_limit: 'stop',
  priority: -3,
  host: 'alpha',
  pty: { rows: 24, cols: 80 },
  limits: { cpu_seconds: 90, memory_bytes: 1 << 29, processes: 64, open_files: 1024, nice: 0 },
  concurrency: { key: '-db', limit: 2, when_busy: 'replace' },
} as const;

test('both lines have every field', () => {
  const body = structuredClone(ALL) as unknown as SubmitBody;
  const curl = words(curlLine('http://h:1', body).replace('$SCRIPTSERVICE_TOKEN', 'ss_x'));
  expect(JSON.parse(curl.at(-1)!)).toEqual(ALL);
  const limited = words(curlLine('http://h:1', { ...body, output_limit_bytes: 5 }).replace('$SCRIPTSERVICE_TOKEN', 'x'));
  const query = new URL(limited[1]!).searchParams;
  expect([...query.keys()].length).toBe(Object.keys(ALL).length - 1 + 2 + 2);
  expect(query.getAll('interpreter')).toEqual(ALL.interpreter);
  expect(query.get('stdin')).toBe(ALL.stdin);
  expect(query.get('pty')).toBe('24x80');
  expect(JSON.parse(query.get('limits')!)).toEqual(ALL.limits);
  expect(['concurrency_key', 'concurrency_limit', 'when_busy'].map((name) => query.get(name))).toEqual(['-db', '2', 'replace']);
  const run = words(runLine('http://h:1', body));
  expect(run.slice(0, 4)).toEqual(['scriptservice', 'run', '--url', 'http://h:1']);
  // bash replaces the file of the standard input by its path.
  expect(run.splice(run.indexOf('--stdin'), 2)[1]).toMatch(/^\/dev\/fd\//);
  expect(run.slice(4)).toEqual(
    ['--name=-n', '--working-directory', 'private', '--timeout', '90', '--queue-timeout', '300', '--grace', '0'].concat(
      ['--leftover', '0.5', '--output-limit', 'none', '--on-output-limit', 'stop', '--priority=-3', '--host', 'alpha'],
      ['--cpu-limit', '90', '--memory-limit', '536870912', '--process-limit', '64', '--open-files-limit', '1024', '--nice', '0'],
      ['--concurrency-key=-db', '--concurrency-limit', '2', '--when-busy', 'replace', '--interactive'],
      ['--label', 'team=db', '--env', 'A=b', '--interpreter', "/bin/sh -e 'a b'", '--', 'cat', 'x'],
    ),
  );
});

test('a long script is a file, since a word of a command line has a limit', () => {
  const script = "echo it's\n".repeat(20_000);
  const curl = curlLine('http://h:1', { script }).replace(/^curl [^]*--data-binary @/, 'cat ');
  const run = runLine('http://h:1', { script, args: ['-v'] });
  expect(run.endsWith('\\\n  -- -v')).toBe(true);
  const read = run.replace(/^[^]*--file /, 'cat ').replace(/ \\\n {2}-- -v$/, '');
  for (const line of [curl, read]) {
    expect(execFileSync('bash', { input: line, encoding: 'utf8', maxBuffer: 1 << 20 })).toBe(script);
  }
});
