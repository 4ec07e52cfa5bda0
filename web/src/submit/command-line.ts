/** The same submission for a terminal. */
import type { SubmitBody } from '../api/types';
import { line, quote } from './quote';

/** Beyond this, fields are sent as JSON: addresses have a limit. */
const LONGEST_QUERY = 4000;

/** Return the fields beside the script as query parameters, as a script sent by itself has them. */
export function submitQuery(body: SubmitBody): URLSearchParams {
  const query = new URLSearchParams();
  for (const [field, value] of Object.entries(body)) {
    if (field === 'script' || value == null) continue;
    if (field === 'labels' || field === 'env') {
      const name = field === 'labels' ? 'label' : 'env';
      for (const [key, text] of Object.entries(value)) query.append(name, `${key}=${text}`);
    } else if (Array.isArray(value)) {
      for (const word of value) query.append(field === 'args' ? 'arg' : field, String(word));
    } else query.append(field, String(value));
  }
  return query;
}

/** Return a line for curl; the token is the reader's own variable. */
export function curl(origin: string, body: SubmitBody): string {
  // These mean nothing of their own in a query, and are easier to read as they are.
  const query = submitQuery(body)
    .toString()
    .replace(/%(3D|2F|3A|2C|40)/g, (escape) => decodeURIComponent(escape));
  const asJson = query.length > LONGEST_QUERY;
  return [
    `curl ${quote(`${origin}/v1/commands${query && !asJson ? `?${query}` : ''}`)}`,
    `-H "Authorization: Bearer $SCRIPTSERVICE_TOKEN"`,
    `-H 'Content-Type: ${asJson ? 'application/json' : 'text/plain'}'`,
    // Raw: a script that begins with @ is no file's name.
    `--data-raw ${quote(asJson ? JSON.stringify(body) : body.script)}`,
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
