/** What is said of a command, in the words of the contract. */
import type { CommandFacts, Status } from '../api/types';
import { duration, moment } from './format';

export function statusWord(status: Status): string {
  return status === 'timed_out' ? 'timed out' : status;
}

/** The part of an id that people use: the end differs most. */
export function shortId(id: string): string {
  return id.slice(-8);
}

/** Return a command's name, else the first line of its script that says something. */
export function title(command: { name: string | null }, script: string): string {
  if (command.name) return command.name;
  const line = script.split('\n').find((text) => text.trim() && !text.startsWith('#'));
  return (line ?? script.split('\n')[0] ?? '').trim() || '(an empty script)';
}

/** Return how it ended: `exit 3`, `SIGKILL`; empty while it is not known. */
export function outcome(command: Pick<CommandFacts, 'exit_code' | 'signal'>): string {
  if (command.signal) return command.signal;
  return command.exit_code === null ? '' : `exit ${command.exit_code}`;
}

/** Return how long it ran; empty when it never started or is not over. */
export function ran(command: Pick<CommandFacts, 'started_at' | 'finished_at'>): string {
  const begin = moment(command.started_at);
  const end = moment(command.finished_at);
  return begin === null || end === null ? '' : duration(end - begin);
}
