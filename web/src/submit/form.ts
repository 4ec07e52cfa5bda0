/** The form of a new command: its fields as typed, and their conversion from and to the API. */
import type { Command, SubmitBody } from '../api/types';
import { DURATION_HINT, durationText, FIXED_SIZE_HINT, parseDuration, parseSize, SIZE_HINT, sizeText } from '../ui/quantity';
import { joinWords, splitWords } from './words';

export interface KeyValue {
  key: string;
  value: string;
}

export type Limits = NonNullable<Command['limits']>;
export type LimitName = keyof Limits;
export type WhenBusy = NonNullable<Command['concurrency']>['when_busy'];

/** The limits of a command, in the order of the form. */
export const LIMIT_NAMES: readonly LimitName[] = ['cpu_seconds', 'memory_bytes', 'processes', 'open_files', 'nice'];
/** The size that a new terminal has until a browser window or another client sets it. */
const TERMINAL = { rows: '24', cols: '80' };

export interface Form {
  script: string;
  name: string;
  labels: KeyValue[];
  args: string[];
  env: KeyValue[];
  stdin: string;
  /** whether the script takes input while it runs: not, through a pipe, or in a terminal */
  interactive: 'no' | 'yes' | 'pty';
  /** used only if `interactive` is `pty` */
  pty: { rows: string; cols: string };
  /** words, quoted as in a shell */
  interpreter: string;
  working_directory: string;
  timeout_seconds: string;
  queue_timeout_seconds: string;
  grace_seconds: string;
  leftover_seconds: string;
  output_limit_bytes: string;
  on_output_limit: 'discard' | 'stop';
  limits: Record<LimitName, string>;
  priority: string;
  concurrency: { key: string; limit: string; when_busy: WhenBusy };
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
    interactive: 'no',
    pty: { ...TERMINAL },
    interpreter: '',
    working_directory: '',
    timeout_seconds: '',
    queue_timeout_seconds: '',
    grace_seconds: '',
    leftover_seconds: '',
    output_limit_bytes: '',
    on_output_limit: 'discard',
    limits: { cpu_seconds: '', memory_bytes: '', processes: '', open_files: '', nice: '' },
    priority: '',
    concurrency: { key: '', limit: '', when_busy: 'queue' },
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
  if (form.interactive === 'yes') body.interactive = true;
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
  if (form.priority.trim()) numbers.priority = toNumber(form.priority);
  if (form.interactive === 'pty') numbers.pty = { rows: toNumber(form.pty.rows), cols: toNumber(form.pty.cols) };
  const limits = LIMIT_NAMES.filter((name) => form.limits[name].trim());
  if (limits.length) numbers.limits = Object.fromEntries(limits.map((name) => [name, toLimit(name, form.limits[name])]));
  const { key, limit, when_busy } = form.concurrency;
  if (key) {
    numbers.concurrency = {
      key,
      ...(limit.trim() ? { limit: toNumber(limit) } : {}),
      ...(when_busy === 'queue' ? {} : { when_busy }),
    };
  }
  return body;
}

/** Return a number, or the text as typed if it is not a number. */
function toNumber(text: string): number | string {
  const typed = text.trim().replace('\u2212', '-');
  return typed && Number.isFinite(Number(typed)) ? Number(typed) : text;
}

function toLimit(name: LimitName, text: string): number | string {
  if (name === 'cpu_seconds') return parseDuration(text) ?? text;
  if (name === 'memory_bytes') return parseSize(text) ?? text;
  return toNumber(text);
}

const NUMBER_HINT = 'Write a number.';
const LIMIT_HINTS: Record<LimitName, string> = {
  cpu_seconds: DURATION_HINT,
  memory_bytes: FIXED_SIZE_HINT,
  processes: NUMBER_HINT,
  open_files: NUMBER_HINT,
  nice: NUMBER_HINT,
};

/** Return what is wrong with a form, by field. This finds typing errors; the service checks more. */
export function problemsOf(form: Form): Map<string, string> {
  const problems = new Map<string, string>();
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
  if (form.interactive === 'pty') {
    for (const name of ['rows', 'cols'] as const) {
      if (typeof toNumber(form.pty[name]) === 'string') problems.set(`pty.${name}`, NUMBER_HINT);
    }
  }
  for (const name of LIMIT_NAMES) {
    const text = form.limits[name];
    if (text.trim() && typeof toLimit(name, text) === 'string') problems.set(`limits.${name}`, LIMIT_HINTS[name]);
  }
  const { key, limit, when_busy } = form.concurrency;
  if (typeof toNumber(limit || '1') === 'string') problems.set('concurrency.limit', NUMBER_HINT);
  else if (!key && (limit.trim() || when_busy !== 'queue')) problems.set('concurrency.key', 'Write a key. Without it, the fields beside it have no effect.');
  return problems;
}

const isKeyValue = (value: unknown): boolean => {
  const pair = value as Partial<KeyValue> | null;
  return typeof pair?.key === 'string' && typeof pair.value === 'string';
};

const hasTexts = (value: unknown, names: string[]): boolean => {
  const texts = value as Record<string, unknown> | null;
  return typeof texts === 'object' && texts !== null && names.every((name) => typeof texts[name] === 'string');
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
          : typeof empty === 'object'
            ? hasTexts(field, Object.keys(empty))
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
  const number = (value: number | null | undefined): string => (value == null ? '' : String(value));
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
    interactive: command.pty ? 'pty' : command.interactive ? 'yes' : 'no',
    pty: command.pty ? { rows: String(command.pty.rows), cols: String(command.pty.cols) } : { ...TERMINAL },
    interpreter: joinWords(interpreter),
    working_directory: command.working_directory ?? '',
    timeout_seconds: duration(command.timeout_seconds),
    queue_timeout_seconds: duration(command.queue_timeout_seconds),
    grace_seconds: command.grace_seconds === 10 ? '' : duration(command.grace_seconds),
    leftover_seconds: command.leftover_seconds === 2 ? '' : duration(command.leftover_seconds),
    output_limit_bytes: sizeText(command.output_limit_bytes),
    on_output_limit: command.on_output_limit,
    limits: {
      cpu_seconds: duration(command.limits?.cpu_seconds ?? null),
      memory_bytes: command.limits?.memory_bytes == null ? '' : sizeText(command.limits.memory_bytes),
      processes: number(command.limits?.processes),
      open_files: number(command.limits?.open_files),
      nice: number(command.limits?.nice),
    },
    priority: command.priority === 0 ? '' : String(command.priority),
    concurrency: {
      key: command.concurrency?.key ?? '',
      limit: command.concurrency && command.concurrency.limit !== 1 ? String(command.concurrency.limit) : '',
      when_busy: command.concurrency?.when_busy ?? 'queue',
    },
    // The command ran on this host, but nobody may have chosen it. The service chooses again.
    host: '',
  };
}

/** The fields whose members have inputs of their own. */
const GROUPS: readonly string[] = ['pty', 'limits', 'concurrency'];

/** Return the form's field for the field path of a 422 error: `labels` for `labels.team`. */
export function formFieldOf(path: string): string {
  const [field = path, member] = path.split('.');
  return member !== undefined && GROUPS.includes(field) ? `${field}.${member}` : field;
}

/** The names of all fields that have an input, as `formFieldOf` returns them. */
export const FORM_FIELDS: ReadonlySet<string> = new Set(
  Object.entries(emptyForm()).flatMap(([field, empty]) =>
    GROUPS.includes(field) ? Object.keys(empty as object).map((member) => `${field}.${member}`) : [field],
  ),
);

/** Return whether a form has a value in a field that is shown only among more options. */
export function usesMoreOptions(form: Form): boolean {
  const { interpreter, stdin, working_directory, interactive, limits, concurrency } = form;
  return [interpreter, stdin, working_directory, concurrency.key, ...Object.values(limits)].some(Boolean) || interactive !== 'no';
}

/** Return the keys that occur more than once. */
export function duplicateKeys(pairs: KeyValue[]): string[] {
  const keys = pairs.filter((pair) => pair.key).map((pair) => pair.key);
  return [...new Set(keys.filter((key, index) => keys.indexOf(key) !== index))];
}
