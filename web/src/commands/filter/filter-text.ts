/** What people type into the filters: labels and times. */
import { formatDateTime } from '../../ui/format';

const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;

/** Return what is wrong with the filter for a label, or an empty text. */
export function labelProblem(text: string): string {
  const equals = text.indexOf('=');
  if (equals < 0) return `“${text}” has no =. Write key=value, for example team=db.`;
  if (equals === 0) return `“${text}” has no key. Write key=value, for example team=db.`;
  const key = text.slice(0, equals);
  if (key.length > 63) return 'The key of a label has at most 63 characters.';
  if (!LABEL_KEY.test(key)) {
    return `“${key}” is not a key of a label: a key has letters, digits and . _ / - and begins with a letter or digit.`;
  }
  if (text.length - equals - 1 > 255) return 'The value of a label has at most 255 characters.';
  return '';
}

export interface TimeRange {
  created_after: string;
  created_before: string;
}

export const ANY_TIME: TimeRange = { created_after: '', created_before: '' };

/** Ranges that end now, by the number of hours. */
export const LAST_HOURS: [string, number][] = [
  ['Last hour', 1],
  ['Last 24 hours', 24],
  ['Last 7 days', 7 * 24],
  ['Last 30 days', 30 * 24],
];

export function lastHours(hours: number, now: number): TimeRange {
  return { created_after: new Date(now - hours * 3_600_000).toISOString(), created_before: '' };
}

/**
 * Return the range between two values of `datetime-local` fields, which are in the reader's time
 * zone, or what is wrong with them. An empty value leaves that end open.
 */
export function rangeBetween(from: string, to: string): TimeRange | string {
  if (from && to && from >= to) return 'The start must be before the end.';
  const utc = (text: string) => (text ? new Date(text).toISOString() : '');
  return { created_after: utc(from), created_before: utc(to) };
}

/** Return a time of the API as the value of a `datetime-local` field. */
export function localValue(time: string): string {
  const at = Date.parse(time);
  return Number.isNaN(at) ? '' : formatDateTime(at).slice(0, 16).replace(' ', 'T');
}

/** Return a range in words, in the reader's time zone. */
export function rangeText({ created_after: after, created_before: before }: TimeRange): string {
  const shown = (time: string) => localValue(time).replace('T', ' ') || time;
  if (after && before) {
    const [from, to] = [shown(after), shown(before)];
    return from.slice(0, 10) === to.slice(0, 10) ? `${from} to ${to.slice(11)}` : `${from} to ${to}`;
  }
  if (after) return `Since ${shown(after)}`;
  return before ? `Until ${shown(before)}` : 'Any time';
}
