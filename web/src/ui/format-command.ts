/** Formats a command's id, name, outcome and duration as text, in the words of the API. */
import type { CommandFields, Status } from '../api/types';
import { formatDuration, parseTime } from './format';

export function formatStatus(status: Status): string {
  return status === 'timed_out' ? 'timed out' : status;
}

/** Return what a queued command waits for, as a sentence without its subject. Empty if it does not wait. */
export function formatWaiting(command: Pick<CommandFields, 'status' | 'waiting_for' | 'concurrency'>): string {
  if (command.status !== 'queued') return '';
  switch (command.waiting_for) {
    case 'concurrency':
      return `waits until fewer commands with the key ${command.concurrency?.key ?? ''} run`;
    case 'capacity':
      return 'waits until its host can run more commands';
    case 'host':
      return 'waits for its host, which the service does not know';
    default:
      return '';
  }
}

/** Return what a concurrency key does: `at most 2 at a time; further ones wait`. */
export function formatConcurrency({ limit, when_busy }: NonNullable<CommandFields['concurrency']>): string {
  const others = { queue: 'this one waits', reject: 'it was to be refused', replace: 'it replaces others' };
  return `at most ${limit} at a time; if busy, ${others[when_busy]}`;
}

/** Return the last 8 characters of an id. An id starts with the time, so the ends differ most. */
export function shortId(id: string): string {
  return id.slice(-8);
}

/** Return the command's name, or else the first line of its script that is not a comment. */
export function commandTitle(command: { name: string | null }, script: string): string {
  if (command.name) return command.name;
  const line = script.split('\n').find((text) => text.trim() && !text.startsWith('#'));
  return (line ?? script.split('\n')[0] ?? '').trim() || '(empty script)';
}

/** Return the exit code or signal: `exit 3`, `SIGKILL`. Empty if there is none yet. */
export function formatOutcome(command: Pick<CommandFields, 'exit_code' | 'signal'>): string {
  if (command.signal) return command.signal;
  return command.exit_code === null ? '' : `exit ${command.exit_code}`;
}

/** Return how long the command ran. Empty if it never started or has not finished. */
export function formatRunTime(command: Pick<CommandFields, 'started_at' | 'finished_at'>): string {
  const start = parseTime(command.started_at);
  const end = parseTime(command.finished_at);
  return start === null || end === null ? '' : formatDuration(end - start);
}
