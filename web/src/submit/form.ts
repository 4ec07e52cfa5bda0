/** The form of a new command: its fields as typed, and their conversion from and to the API. */
import type { Command, SubmitBody } from '../api/types';
import { DURATION_HINT, durationText, parseDuration, parseSize, SIZE_HINT, sizeText } from '../ui/quantity';
import { joinWords, splitWords } from './words';

export interface KeyValue {
  key: string;
  value: string;
}

export interface Form {
  script: string;
  name: string;
  labels: KeyValue[];
  args: string[];
  env: KeyValue[];
  stdin: string;
  /** words, quoted as in a shell */
  interpreter: string;
  working_directory: string;
  timeout_seconds: string;
  queue_timeout_seconds: string;
  grace_seconds: string;
  leftover_seconds: string;
  output_limit_bytes: string;
  on_output_limit: 'discard' | 'stop';
  priority: string;
  host: string;
}

export function emptyForm(): Form {
  return {
    script: '',
    name: '',
    labels: [],
    args: [],
    env: [],
    stdin: '',
    interpreter: '',
    working_directory: '',
    timeout_seconds: '',
    queue_timeout_seconds: '',
    grace_seconds: '',
    leftover_seconds: '',
    output_limit_bytes: '',
    on_output_limit: 'discard',
    priority: '',
    host: '',
  };
}

const DURATIONS = ['timeout_seconds', 'queue_timeout_seconds', 'grace_seconds', 'leftover_seconds'] as const;

/**
 * Return the request body: only the fields that were filled in, so that the service's defaults apply.
 *
 * If `problemsOf` reports a field, the body contains the field's text as typed.
 */
export function toSubmitBody(form: Form): SubmitBody {
  const body: SubmitBody = { script: form.script };
  if (form.name) body.name = form.name;
  const labels = form.labels.filter((pair) => pair.key || pair.value);
  if (labels.length) body.labels = Object.fromEntries(labels.map((pair) => [pair.key, pair.value]));
  const env = form.env.filter((pair) => pair.key || pair.value);
  if (env.length) body.env = Object.fromEntries(env.map((pair) => [pair.key, pair.value]));
  if (form.args.length) body.args = form.args;
  if (form.interpreter.trim()) body.interpreter = splitWords(form.interpreter) ?? [form.interpreter];
  if (form.stdin) body.stdin = form.stdin;
  if (form.working_directory) body.working_directory = form.working_directory;
  if (form.host) body.host = form.host;
  if (form.on_output_limit !== 'discard') body.on_output_limit = form.on_output_limit;
  const numbers = body as Record<string, unknown>;
  for (const name of DURATIONS) {
    if (form[name].trim()) numbers[name] = parseDuration(form[name]) ?? form[name];
  }
  if (form.output_limit_bytes.trim()) {
    const bytes = parseSize(form.output_limit_bytes);
    numbers.output_limit_bytes = bytes === undefined ? form.output_limit_bytes : bytes;
  }
  const priority = form.priority.trim().replace('\u2212', '-');
  if (priority) numbers.priority = Number.isFinite(Number(priority)) ? Number(priority) : priority;
  return body;
}

/** Return what is wrong with a form, by field. This finds typing errors; the service checks more. */
export function problemsOf(form: Form): Map<keyof Form, string> {
  const problems = new Map<keyof Form, string>();
  for (const name of ['labels', 'env'] as const) {
    const repeated = duplicateKeys(form[name]);
    if (repeated.length) problems.set(name, `${repeated.join(', ')} is given more than once.`);
  }
  for (const name of DURATIONS) {
    if (form[name].trim() && parseDuration(form[name]) === null) problems.set(name, DURATION_HINT);
  }
  if (form.output_limit_bytes.trim() && parseSize(form.output_limit_bytes) === undefined) {
    problems.set('output_limit_bytes', SIZE_HINT);
  }
  if (splitWords(form.interpreter) === null) problems.set('interpreter', 'A quote is not closed.');
  return problems;
}

const isKeyValue = (value: unknown): boolean => {
  const pair = value as Partial<KeyValue> | null;
  return typeof pair?.key === 'string' && typeof pair.value === 'string';
};

/** Return the form in a stored value, or null if another release of the page stored it. */
export function formFrom(value: unknown): Form | null {
  const found = value as Record<string, unknown> | null;
  if (typeof found !== 'object' || found === null) return null;
  for (const [name, empty] of Object.entries(emptyForm())) {
    const field = found[name];
    const valid =
      name === 'labels' || name === 'env'
        ? Array.isArray(field) && field.every(isKeyValue)
        : name === 'args'
          ? Array.isArray(field) && field.every((arg) => typeof arg === 'string')
          : typeof field === typeof empty;
    if (!valid) return null;
  }
  return found as unknown as Form;
}

const toPairs = (values: Record<string, string>): KeyValue[] =>
  Object.entries(values).map(([key, value]) => ({ key, value }));

/** Return a form that submits a command again. The service does not return standard input. */
export function toForm(command: Command): Form {
  const duration = (value: number | null): string => (value === null ? '' : durationText(value));
  const isDefault = command.interpreter.length === 1 && command.interpreter[0] === '/bin/bash';
  // The service obeys a script's #! line, so the field is needed only for another interpreter.
  const interpreter = isDefault || command.script.startsWith('#!') ? [] : command.interpreter;
  return {
    script: command.script,
    name: command.name ?? '',
    labels: toPairs(command.labels),
    args: [...command.args],
    env: toPairs(command.env),
    stdin: '',
    interpreter: joinWords(interpreter),
    working_directory: command.working_directory ?? '',
    timeout_seconds: duration(command.timeout_seconds),
    queue_timeout_seconds: duration(command.queue_timeout_seconds),
    grace_seconds: command.grace_seconds === 10 ? '' : duration(command.grace_seconds),
    leftover_seconds: command.leftover_seconds === 2 ? '' : duration(command.leftover_seconds),
    output_limit_bytes: sizeText(command.output_limit_bytes),
    on_output_limit: command.on_output_limit,
    priority: command.priority === 0 ? '' : String(command.priority),
    // The command ran on this host, but nobody may have chosen it. The service chooses again.
    host: '',
  };
}

/** Return the form's field for the field path of a 422 error: `labels` for `labels.team`. */
export function formFieldOf(path: string): string {
  return path.split('.')[0] ?? path;
}

/** Return the keys that occur more than once. */
export function duplicateKeys(pairs: KeyValue[]): string[] {
  const keys = pairs.filter((pair) => pair.key).map((pair) => pair.key);
  return [...new Set(keys.filter((key, index) => keys.indexOf(key) !== index))];
}
