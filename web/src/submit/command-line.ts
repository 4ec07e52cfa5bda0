/** Makes a command line from a submission, for curl or for `scriptservice run`. */
import type { SubmitBody } from '../api/types';
import type { LimitName } from './form';
import { joinWords, quote } from './words';

/** If the query would be longer, the submission is sent as JSON: addresses have a limited length. */
const MAX_QUERY_LENGTH = 4000;
/** Linux limits one word of a command line to 128 KiB, including the null byte at its end. */
const MAX_WORD_BYTES = 100_000;

/** Return all fields except the script as query parameters. The script is sent as the body. */
export function submitQuery(body: SubmitBody): URLSearchParams {
  const query = new URLSearchParams();
  for (const [field, value] of Object.entries(body)) {
    if (field === 'script' || value == null) continue;
    if (field === 'labels' || field === 'env') {
      const name = field === 'labels' ? 'label' : 'env';
      for (const [key, text] of Object.entries(value)) query.append(name, `${key}=${text}`);
    } else if (field === 'limits') {
      query.append(field, JSON.stringify(value));
    } else if (field === 'pty' && body.pty) {
      query.append(field, `${body.pty.rows}x${body.pty.cols}`);
    } else if (field === 'concurrency') {
      for (const [name, member] of Object.entries(value)) {
        query.append(name === 'when_busy' ? name : `concurrency_${name}`, String(member));
      }
    } else if (Array.isArray(value)) {
      for (const word of value) query.append(field === 'args' ? 'arg' : field, String(word));
    } else query.append(field, String(value));
  }
  return query;
}

/** Return a command line for curl. It reads the token from the variable SCRIPTSERVICE_TOKEN. */
export function curlLine(origin: string, body: SubmitBody): string {
  // These characters have no special meaning in a query and are easier to read unescaped.
  const query = submitQuery(body)
    .toString()
    .replace(/%(3D|2F|3A|2C|40)/g, (escape) => decodeURIComponent(escape));
  // A field without a limit is null, and a query cannot contain null.
  const asJson = query.length > MAX_QUERY_LENGTH || Object.values(body).includes(null);
  const content = asJson ? JSON.stringify(body) : body.script;
  return [
    `curl ${quote(`${origin}/v1/commands${query && !asJson ? `?${query}` : ''}`)}`,
    `-H "Authorization: Bearer $SCRIPTSERVICE_TOKEN"`,
    `-H 'Content-Type: ${asJson ? 'application/json' : 'text/plain'}'`,
    // With --data, a script that begins with @ would name a file.
    isLong(content) ? `--data-binary @${asFile(content)}` : `--data-raw ${quote(content)}`,
  ].join(' \\\n  ');
}

function isLong(text: string): boolean {
  return new TextEncoder().encode(text).length > MAX_WORD_BYTES;
}

/**
 * Return `<(printf …)`, which bash replaces by the path of a file with this text. `printf` is built
 * into bash, so the length of its words is not limited.
 */
function asFile(text: string): string {
  return `<(printf %s ${quote(text)})`;
}

const LIMIT_OPTIONS: [LimitName, string][] = [
  ['cpu_seconds', '--cpu-limit'],
  ['memory_bytes', '--memory-limit'],
  ['processes', '--process-limit'],
  ['open_files', '--open-files-limit'],
  ['nice', '--nice'],
];

/** The options of `scriptservice run` for fields with one value. */
const RUN_OPTIONS: [keyof SubmitBody, string][] = [
  ['name', '--name'],
  ['working_directory', '--working-directory'],
  ['timeout_seconds', '--timeout'],
  ['queue_timeout_seconds', '--queue-timeout'],
  ['grace_seconds', '--grace'],
  ['leftover_seconds', '--leftover'],
  ['output_limit_bytes', '--output-limit'],
  ['on_output_limit', '--on-output-limit'],
  ['priority', '--priority'],
  ['host', '--host'],
];

/** Return a command line for `scriptservice run`. It reads the token from SCRIPTSERVICE_TOKEN. */
export function runLine(origin: string, body: SubmitBody): string {
  const groups = [`scriptservice run --url ${quote(origin)}`];
  // With `=`, a value that begins with a dash is not read as an option.
  const add = (option: string, value: string) =>
    groups.push(value.startsWith('-') ? quote(`${option}=${value}`) : `${option} ${quote(value)}`);
  for (const [field, option] of RUN_OPTIONS) {
    const value = body[field];
    if (value !== undefined) add(option, value === null ? 'none' : String(value));
  }
  for (const [name, option] of LIMIT_OPTIONS) {
    const value = body.limits?.[name];
    if (value != null) add(option, String(value));
  }
  if (body.concurrency) {
    const { key, limit, when_busy } = body.concurrency;
    add('--concurrency-key', key);
    if (limit !== undefined) add('--concurrency-limit', String(limit));
    if (when_busy !== undefined) add('--when-busy', when_busy);
  }
  // On a terminal, the script gets a terminal too, and its size is that of the reader's window.
  if (body.interactive || body.pty) groups.push('--interactive');
  for (const [key, value] of Object.entries(body.labels ?? {})) add('--label', `${key}=${value}`);
  for (const [key, value] of Object.entries(body.env ?? {})) add('--env', `${key}=${value}`);
  if (body.interpreter) add('--interpreter', joinWords(body.interpreter));
  if (body.stdin) groups.push(`--stdin ${asFile(body.stdin)}`);
  const args = (body.args ?? []).map((arg) => ` ${quote(arg)}`).join('');
  if (isLong(body.script)) groups.push(`--file ${asFile(body.script)}`, ...(args ? [`--${args}`] : []));
  else groups.push(`-- ${quote(body.script)}${args}`);
  return groups.join(' \\\n  ');
}
