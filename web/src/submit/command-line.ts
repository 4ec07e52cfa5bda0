/** A submission as a command line for a terminal, for curl or for `scriptservice run`. */
import type { SubmitBody } from '../api/types';

/** Longer queries are sent as JSON, since the length of an address is limited. */
const MAX_QUERY_LENGTH = 4000;

const NEEDS_NO_QUOTES = /^[A-Za-z0-9_@%+=:,./-]+$/;
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/;

/**
 * Return text as one word of bash that means exactly this text.
 *
 * Control characters become escapes, because a terminal drops them when the line is pasted.
 */
export function quote(text: string): string {
  if (NEEDS_NO_QUOTES.test(text)) return text;
  if (!CONTROL.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll("'", "\\'")
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t')
    // Always three digits, so that a digit that follows is not read as a part of the escape.
    .replaceAll(/[\x00-\x1f\x7f]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `$'${escaped}'`;
}

/** Return all fields but the script as query parameters, for a script sent as plain text. */
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

/** Return a command line for curl. It reads the token from the variable SCRIPTSERVICE_TOKEN. */
export function curlLine(origin: string, body: SubmitBody): string {
  // These characters have no special meaning in a query and are easier to read unescaped.
  const query = submitQuery(body)
    .toString()
    .replace(/%(3D|2F|3A|2C|40)/g, (escape) => decodeURIComponent(escape));
  const asJson = query.length > MAX_QUERY_LENGTH;
  return [
    `curl ${quote(`${origin}/v1/commands${query && !asJson ? `?${query}` : ''}`)}`,
    `-H "Authorization: Bearer $SCRIPTSERVICE_TOKEN"`,
    `-H 'Content-Type: ${asJson ? 'application/json' : 'text/plain'}'`,
    // With --data, a script that begins with @ would name a file.
    `--data-raw ${quote(asJson ? JSON.stringify(body) : body.script)}`,
  ].join(' \\\n  ');
}

const RUN_FIELDS = new Set(['script', 'name', 'labels', 'env', 'args', 'timeout_seconds']);

/** Return the fields for which `scriptservice run` has no option. */
export function unsupportedByRun(body: SubmitBody): string[] {
  return Object.keys(body).filter((field) => !RUN_FIELDS.has(field));
}

/** Return a command line for `scriptservice run`. */
export function runLine(origin: string, body: SubmitBody): string {
  const words: string[][] = [['scriptservice', 'run', '--url', origin]];
  if (body.name) words.push(['--name', body.name]);
  for (const [key, value] of Object.entries(body.labels ?? {})) words.push(['--label', `${key}=${value}`]);
  for (const [key, value] of Object.entries(body.env ?? {})) words.push(['--env', `${key}=${value}`]);
  if (body.timeout_seconds != null) words.push(['--timeout', String(body.timeout_seconds)]);
  words.push(['--', body.script, ...(body.args ?? [])]);
  return words.map((group) => group.map(quote).join(' ')).join(' \\\n  ');
}
