/** The form of a new command: texts as one types them, and the submission they stand for. */
import type { Command, SubmitBody } from '../api/types';

export interface Pair {
  key: string;
  value: string;
}

export interface Form {
  script: string;
  name: string;
  labels: Pair[];
  args: string[];
  env: Pair[];
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
 * Return what is to be submitted: only what was filled in, so that the service's defaults hold.
 *
 * A number that is none is sent as it was typed: the service says what is wrong with it.
 */
export function bodyOf(form: Form): SubmitBody {
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

const pairs = (found: Record<string, string>): Pair[] =>
  Object.entries(found).map(([key, value]) => ({ key, value }));

/** Return a form that would submit a command again; its standard input is not known any more. */
export function formOf(command: Command): Form {
  const text = (value: number | null): string => (value === null ? '' : String(value));
  const usual = command.interpreter.length === 1 && command.interpreter[0] === '/bin/bash';
  // A script that begins with #! is run as that line says; only another choice is worth a field.
  const interpreter = usual || command.script.startsWith('#!') ? [] : command.interpreter;
  return {
    script: command.script,
    name: command.name ?? '',
    labels: pairs(command.labels),
    args: [...command.args],
    env: pairs(command.env),
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
    // The host it ran on is not one it was asked to run on: the service chooses again.
    host: '',
  };
}

/** Return the field of the form that a field of a 422 belongs to: `labels.team` is in `labels`. */
export function fieldOf(path: string): string {
  return path.split('.')[0] ?? path;
}

export function duplicates(found: Pair[]): string[] {
  const keys = found.filter((pair) => pair.key).map((pair) => pair.key);
  return [...new Set(keys.filter((key, index) => keys.indexOf(key) !== index))];
}
