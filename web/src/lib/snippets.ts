/** The same submission for a terminal. */
import type { SubmitBody } from '../api/types';
import { line, quote } from './quote';

/** Return a line for curl; the token is the reader's own variable. */
export function curl(origin: string, body: SubmitBody): string {
  return [
    `curl ${quote(`${origin}/v1/commands`)}`,
    `-H "Authorization: Bearer $SCRIPTSERVICE_TOKEN"`,
    `-H 'Content-Type: application/json'`,
    `--data-binary ${quote(JSON.stringify(body))}`,
  ].join(' \\\n  ');
}

const BY_RUN = new Set(['script', 'name', 'labels', 'env', 'args', 'timeout_seconds']);

/** Return the fields that `scriptservice run` has no option for. */
export function beyondRun(body: SubmitBody): string[] {
  return Object.keys(body).filter((field) => !BY_RUN.has(field));
}

/** Return a line for `scriptservice run`. */
export function run(origin: string, body: SubmitBody): string {
  const words: string[][] = [['scriptservice', 'run', '--url', origin]];
  if (body.name) words.push(['--name', body.name]);
  for (const [key, value] of Object.entries(body.labels ?? {})) words.push(['--label', `${key}=${value}`]);
  for (const [key, value] of Object.entries(body.env ?? {})) words.push(['--env', `${key}=${value}`]);
  if (body.timeout_seconds != null) words.push(['--timeout', String(body.timeout_seconds)]);
  words.push(['--', body.script, ...(body.args ?? [])]);
  return line(words);
}
