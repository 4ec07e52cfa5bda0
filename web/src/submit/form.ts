/** The form of a new command: its fields as typed, and their conversion from and to the API. */
import type { Command, SubmitBody } from '../api/types';

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
  interpreter: string[];
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
    interpreter: [],
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

const NUMBERS = [
  'timeout_seconds',
  'queue_timeout_seconds',
  'grace_seconds',
  'leftover_seconds',
  'output_limit_bytes',
  'priority',
] as const;

/**
 * Return the request body: only the fields that were filled in, so that the service's defaults apply.
 *
 * A number field that holds no number is sent as typed; the service's message says what is wrong.
 */
export function toSubmitBody(form: Form): SubmitBody {
  const body: SubmitBody = { script: form.script };
  if (form.name) body.name = form.name;
  const labels = form.labels.filter((pair) => pair.key || pair.value);
  if (labels.length) body.labels = Object.fromEntries(labels.map((pair) => [pair.key, pair.value]));
  const env = form.env.filter((pair) => pair.key || pair.value);
  if (env.length) body.env = Object.fromEntries(env.map((pair) => [pair.key, pair.value]));
  if (form.args.length) body.args = form.args;
  if (form.interpreter.length) body.interpreter = form.interpreter;
  if (form.stdin) body.stdin = form.stdin;
  if (form.working_directory) body.working_directory = form.working_directory;
  if (form.host) body.host = form.host;
  if (form.on_output_limit !== 'discard') body.on_output_limit = form.on_output_limit;
  for (const name of NUMBERS) {
    const text = form[name].trim();
    if (!text) continue;
    const number = Number(text);
    (body as Record<string, unknown>)[name] = Number.isFinite(number) ? number : text;
  }
  return body;
}

const toPairs = (values: Record<string, string>): KeyValue[] =>
  Object.entries(values).map(([key, value]) => ({ key, value }));

/** Return a form that submits a command again. The service does not return standard input. */
export function toForm(command: Command): Form {
  const text = (value: number | null): string => (value === null ? '' : String(value));
  const isDefault = command.interpreter.length === 1 && command.interpreter[0] === '/bin/bash';
  // The service follows a script's #! line, so only another interpreter needs a field.
  const interpreter = isDefault || command.script.startsWith('#!') ? [] : command.interpreter;
  return {
    script: command.script,
    name: command.name ?? '',
    labels: toPairs(command.labels),
    args: [...command.args],
    env: toPairs(command.env),
    stdin: '',
    interpreter: [...interpreter],
    working_directory: command.working_directory ?? '',
    timeout_seconds: text(command.timeout_seconds),
    queue_timeout_seconds: text(command.queue_timeout_seconds),
    grace_seconds: command.grace_seconds === 10 ? '' : text(command.grace_seconds),
    leftover_seconds: command.leftover_seconds === 2 ? '' : text(command.leftover_seconds),
    output_limit_bytes: text(command.output_limit_bytes),
    on_output_limit: command.on_output_limit,
    priority: command.priority === 0 ? '' : text(command.priority),
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
